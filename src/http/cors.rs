//! What a bucket's CORS configuration allows the scripts of other sites, as S3 judges it.
//!
//! The first rule decides that fits origin, method and headers alike.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html>

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use s3s::dto::CORSConfiguration;
use s3s::xml::{Deserialize as _, Deserializer};

const VARY: HeaderValue = HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method");

/// The rules of one bucket, in their order.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    origins: Vec<Pattern>,
    methods: Vec<String>,
    headers: Vec<Pattern>,
    expose: Vec<String>,
    max_age_secs: Option<i32>,
}

/// A text with at most one `*`, which stands for anything.
#[derive(Debug)]
struct Pattern {
    start: String,
    /// `None`: there is no `*`, and `start` is all.
    end: Option<String>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.split_once('*') {
            Some((start, end)) => Self { start: start.to_owned(), end: Some(end.to_owned()) },
            None => Self { start: text.to_owned(), end: None },
        }
    }

    fn matches(&self, text: &str) -> bool {
        match &self.end {
            None => text == self.start,
            Some(end) => text.strip_prefix(self.start.as_str()).is_some_and(|rest| rest.ends_with(end.as_str())),
        }
    }

    fn is_any(&self) -> bool {
        self.start.is_empty() && self.end.as_deref() == Some("")
    }
}

/// What a browser says about a request, or about one that it may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub origin: &'a str,
    pub method: &'a str,
    /// The headers that a preflight asks for; `None` outside a preflight.
    pub headers: Option<&'a str>,
}

impl Rules {
    /// Reads the document that a store answers GetBucketCors with. Errors: it is none.
    pub fn read(document: &[u8]) -> Result<Self, s3s::xml::DeError> {
        let mut reader = Deserializer::new(document);
        let read = CORSConfiguration::deserialize(&mut reader)?;
        reader.expect_eof()?;
        let patterns = |texts: Vec<String>| texts.iter().map(|text| Pattern::new(text)).collect();
        let rules = read.cors_rules.into_iter().map(|rule| Rule {
            origins: patterns(rule.allowed_origins),
            methods: rule.allowed_methods,
            headers: patterns(rule.allowed_headers.unwrap_or_default().iter().map(|name| name.to_ascii_lowercase()).collect()),
            expose: rule.expose_headers.unwrap_or_default(),
            max_age_secs: rule.max_age_seconds,
        });
        Ok(Self(rules.collect()))
    }

    /// The headers that answer a browser; `None` when no rule allows what it wants.
    pub fn answer(&self, question: Question<'_>) -> Option<HeaderMap> {
        let wanted: Vec<String> = names(question.headers.unwrap_or_default());
        let fits = |rule: &&Rule| {
            rule.origins.iter().any(|origin| origin.matches(question.origin))
                && rule.methods.iter().any(|method| method == question.method)
                && wanted.iter().all(|name| rule.headers.iter().any(|header| header.matches(name)))
        };
        let rule = self.0.iter().find(fits)?;
        // Every value stands in the bucket's configuration or in the request; one that is no header value is left out.
        let mut out = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                out.insert(name, value);
            }
        };
        let first = rule.origins.iter().find(|origin| origin.matches(question.origin))?;
        if first.is_any() {
            put(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        } else {
            put(header::ACCESS_CONTROL_ALLOW_ORIGIN, question.origin);
            put(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        put(header::ACCESS_CONTROL_ALLOW_METHODS, &rule.methods.join(", "));
        if !wanted.is_empty() {
            put(header::ACCESS_CONTROL_ALLOW_HEADERS, &wanted.join(", "));
        }
        if !rule.expose.is_empty() {
            put(header::ACCESS_CONTROL_EXPOSE_HEADERS, &rule.expose.join(", "));
        }
        if let Some(secs) = rule.max_age_secs {
            put(header::ACCESS_CONTROL_MAX_AGE, &secs.to_string());
        }
        out.insert(header::VARY, VARY);
        Some(out)
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

/// Says that the answer depends on who asks, even when the one who asked is allowed nothing.
pub(super) fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, VARY);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::read(format!("<?xml version=\"1.0\"?><CORSConfiguration>{text}</CORSConfiguration>").as_bytes()).unwrap()
    }

    fn ask(rules: &Rules, origin: &str, method: &str, headers: Option<&str>) -> Option<HeaderMap> {
        rules.answer(Question { origin, method, headers })
    }

    fn all(found: &HeaderMap) -> Vec<(&str, &str)> {
        let mut all: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_star_stands_for_anything_once() {
        let fits = |pattern: &str, text: &str| Pattern::new(pattern).matches(text);
        for (pattern, text) in [
            ("*", ""),
            ("*", "https://a.example"),
            ("https://*.example", "https://a.b.example"),
            ("https://*", "https://"),
            ("start*end", "startend"),
            ("*end", "end"),
            ("https://a.example", "https://a.example"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("https://*.example", "http://a.example"),
            ("https://*.example", "https://a.example.evil"),
            ("start*end", "star"),
            ("aba*aba", "ababa"),
            ("https://a.example", "https://A.example"),
            ("", "x"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_answers() {
        let rules = rules(
            "<CORSRule><AllowedOrigin>https://*.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
             <AllowedMethod>POST</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><AllowedHeader>Content-Type</AllowedHeader>\
             <ExposeHeader>ETag</ExposeHeader><ExposeHeader>x-amz-request-id</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds>\
             <ID>first</ID></CORSRule>\
             <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>",
        );
        let found = ask(&rules, "https://a.example", "PUT", Some("X-Amz-Meta-Colour,content-type, ")).unwrap();
        assert_eq!(
            all(&found),
            [
                ("access-control-allow-credentials", "true"),
                ("access-control-allow-headers", "x-amz-meta-colour, content-type"),
                ("access-control-allow-methods", "PUT, POST"),
                ("access-control-allow-origin", "https://a.example"),
                ("access-control-expose-headers", "ETag, x-amz-request-id"),
                ("access-control-max-age", "3000"),
                ("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
            ]
        );
        let found = ask(&rules, "https://a.example", "GET", None).unwrap();
        assert_eq!(
            all(&found),
            [
                ("access-control-allow-methods", "GET"),
                ("access-control-allow-origin", "*"),
                ("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
            ]
        );
        assert!(ask(&rules, "https://a.example", "DELETE", None).is_none());
        assert!(ask(&rules, "https://a.other", "PUT", None).is_none());
        assert!(ask(&rules, "https://a.example", "put", None).is_none());
        assert!(ask(&rules, "https://a.example", "PUT", Some("x-amz-date, authorization")).is_none());
        // No header is allowed where none is listed.
        assert!(ask(&rules, "https://a.other", "GET", Some("x-amz-date")).is_none());
        assert!(ask(&rules, "https://a.other", "GET", Some("")).is_some());
    }

    #[test]
    fn documents_are_read_or_refused() {
        for wrong in ["", "<CORSConfiguration/>", "<CORSConfiguration>", "<Other/>", "no document"] {
            assert!(Rules::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let named = br#"<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>o</AllowedOrigin></CORSRule></CORSConfiguration>"#;
        assert!(ask(&Rules::read(named).unwrap(), "o", "GET", None).is_some());
    }
}
