//! Requests from the scripts of other sites, with a store that has rules for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::site::{Answer, Backend, DOMAIN, Got, Request, Site};

const RULES: &str = "<CORSConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><CORSRule>\
    <AllowedOrigin>https://*.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod>\
    <AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";

/// A store with rules on `bucket`, none on `plain`, and no answer for `broken`.
fn store(got: &Got) -> http::Response<Bytes> {
    let answer = |status: u16, body: &'static str| {
        http::Response::builder().status(status).header("access-control-allow-origin", "*").body(Bytes::from(body)).unwrap()
    };
    match got.target.as_str() {
        "/bucket?cors" => answer(200, RULES),
        "/broken?cors" => answer(500, "<Error><Code>InternalError</Code></Error>"),
        "/garbage?cors" => answer(200, "<What/>"),
        _ => answer(404, "<Error><Code>NoSuchCORSConfiguration</Code></Error>"),
    }
}

fn preflight(site: &Site, target: &str, headers: &[(&str, &str)]) -> Answer {
    preflight_at(site, &site.addr.to_string(), target, headers)
}

fn preflight_at(site: &Site, host: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut head = format!("OPTIONS {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    site.exchange((head + "\r\n").as_bytes())
}

const ORIGIN: (&str, &str) = ("Origin", "https://app.example");
const PUT: (&str, &str) = ("Access-Control-Request-Method", "PUT");

#[test]
fn preflights_are_answered_from_the_buckets_rules_without_a_signature() {
    let backend = Backend::start(store);
    let site = Site::over(&backend.settings(), |_| {});
    let headers = [ORIGIN, PUT, ("Access-Control-Request-Headers", "Content-Type, X-Amz-Date")];
    for target in ["/bucket/key", "/bucket", "/bucket/key?partNumber=1&uploadId=u&X-Amz-Signature=0"] {
        let answer = preflight(&site, target, &headers);
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{target}: {}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("PUT, GET"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("content-type, x-amz-date"));
        assert_eq!(answer.header("access-control-max-age"), Some("60"));
        assert_eq!(answer.header("access-control-expose-headers"), Some("ETag"));
        assert!(answer.header("vary").is_some_and(|vary| vary.contains("Origin")));
        assert!(answer.header("x-amz-request-id").is_some());
    }
    let there = preflight_at(&site, &format!("bucket.{DOMAIN}"), "/key", &headers);
    assert_eq!(there.status, 200);
    // The store was asked once, by the gateway itself.
    assert_eq!(backend.count(), 1);
    assert_eq!((backend.last().method.as_str(), backend.last().headers.get("origin")), ("GET", None));
}

#[test]
fn other_preflights_are_refused() {
    let backend = Backend::start(store);
    let site = Site::over(&backend.settings(), |_| {});
    let refused = |target: &str, headers: &[(&str, &str)], status: u16, code: &str| {
        let answer = preflight(&site, target, headers);
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{target} {headers:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        answer.text()
    };
    refused("/bucket/key", &[PUT], 400, "BadRequest");
    refused("/bucket/key", &[ORIGIN], 400, "BadRequest");
    refused("/bucket/key", &[], 400, "BadRequest");
    refused("/bucket/key", &[("Origin", "https://example"), PUT], 403, "AccessForbidden");
    refused("/bucket/key", &[ORIGIN, ("Access-Control-Request-Method", "DELETE")], 403, "AccessForbidden");
    assert!(refused("/plain/key", &[ORIGIN, PUT], 403, "AccessForbidden").contains("CORS is not enabled for this bucket"));
    refused("/broken/key", &[ORIGIN, PUT], 503, "ServiceUnavailable");
    refused("/garbage/key", &[ORIGIN, PUT], 503, "ServiceUnavailable");
    refused("/", &[ORIGIN, PUT], 403, "AccessDenied");
    let known = backend.count();
    refused("/plain/key", &[ORIGIN, PUT], 403, "AccessForbidden");
    assert_eq!(backend.count(), known, "that there are no rules is remembered");
    refused("/broken/key", &[ORIGIN, PUT], 503, "ServiceUnavailable");
    assert!(backend.count() > known, "a failure is not");
}

#[test]
fn answers_to_other_sites_say_what_their_scripts_may_see() {
    let backend = Backend::start(store);
    let site = Site::over(&backend.settings(), |_| {});
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    let own = site.ask("GET", "/bucket/whole", &[]);
    assert_eq!((own.status, allowed(&own), own.header("vary")), (200, None, None));
    assert_eq!(backend.count(), 0, "nobody asked");
    let answer = site.ask("GET", "/bucket/whole", &[ORIGIN]);
    assert_eq!((answer.status, allowed(&answer).as_deref()), (200, Some("https://app.example")));
    assert_eq!(answer.header("access-control-expose-headers"), Some("ETag"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    // Errors too: without it a script sees nothing but that it failed.
    let missing = site.ask("GET", "/bucket/missing", &[ORIGIN]);
    assert_eq!((missing.status, allowed(&missing).as_deref()), (404, Some("https://app.example")));
    let anonymous = format!("GET /bucket/whole HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{}: {}\r\n\r\n", ORIGIN.0, ORIGIN.1);
    let anonymous = site.exchange(anonymous.as_bytes());
    assert_eq!((anonymous.status, allowed(&anonymous).as_deref()), (403, Some("https://app.example")));
    // Others see nothing but that it depends.
    let other = site.ask("GET", "/bucket/whole", &[("origin", "https://elsewhere")]);
    assert_eq!((other.status, allowed(&other)), (200, None));
    assert!(other.header("vary").is_some());
    let method = site.ask("DELETE", "/bucket/missing", &[ORIGIN]);
    assert_eq!(allowed(&method), None);
    assert_eq!(backend.count(), 1);
    // No rules, and rules that are not known, are no reason to fail. What the store says of itself does not get through.
    for target in ["/plain/whole", "/broken/whole"] {
        let answer = site.ask("GET", target, &[ORIGIN]);
        assert_eq!((answer.status, allowed(&answer), answer.header("vary")), (200, None, None), "{target}");
    }
    assert_eq!(allowed(&site.ask("GET", "/bucket?acl", &[])), None);
}

#[test]
fn a_change_of_the_rules_counts_at_once() {
    let enabled = Arc::new(AtomicBool::new(false));
    let seen = enabled.clone();
    let backend = Backend::start(move |got| match (got.method.as_str(), got.target.as_str()) {
        ("PUT", "/bucket?cors") => {
            seen.store(true, Ordering::SeqCst);
            http::Response::new(Bytes::new())
        }
        ("DELETE", "/bucket?cors") => {
            seen.store(false, Ordering::SeqCst);
            http::Response::builder().status(204).body(Bytes::new()).unwrap()
        }
        _ if seen.load(Ordering::SeqCst) => http::Response::new(Bytes::from(RULES)),
        _ => http::Response::builder()
            .status(404)
            .body(Bytes::from("<Error><Code>NoSuchCORSConfiguration</Code></Error>"))
            .unwrap(),
    });
    let site = Site::over(&backend.settings(), |_| {});
    let status = || preflight(&site, "/bucket/key", &[ORIGIN, PUT]).status;
    assert_eq!((status(), status()), (403, 403));
    assert_eq!(site.send("PUT", "/bucket?cors", &[], RULES.as_bytes()).status, 200);
    assert_eq!((status(), status()), (200, 200));
    let request = Request::new("DELETE", "/bucket?cors").wire(site.addr);
    assert_eq!(site.exchange(request.as_bytes()).status, 204);
    assert_eq!(status(), 403);
}
