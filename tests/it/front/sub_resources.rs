//! What hangs on buckets and objects goes through byte for byte, and what nobody knows goes nowhere.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::site::{Answer, Backend, Request, Site};

/// Sub-resources of a bucket with the methods that they have, and the name that must come along.
const OF_BUCKETS: &[(&str, &[&str])] = &[
    ("accelerate", &["GET", "PUT"]),
    ("acl", &["GET", "PUT"]),
    ("analytics&id=a%20b", &["GET", "PUT", "DELETE"]),
    ("cors", &["GET", "PUT", "DELETE"]),
    ("encryption", &["GET", "PUT", "DELETE"]),
    ("intelligent-tiering&id=i", &["GET", "PUT", "DELETE"]),
    ("inventory&id=i", &["GET", "PUT", "DELETE"]),
    ("lifecycle", &["GET", "PUT", "DELETE"]),
    ("location", &["GET"]),
    ("logging", &["GET", "PUT"]),
    ("metrics&id=m", &["GET", "PUT", "DELETE"]),
    ("notification", &["GET", "PUT"]),
    ("object-lock", &["GET", "PUT"]),
    ("ownershipControls", &["GET", "PUT", "DELETE"]),
    ("policy", &["GET", "PUT", "DELETE"]),
    ("policyStatus", &["GET"]),
    ("publicAccessBlock", &["GET", "PUT", "DELETE"]),
    ("replication", &["GET", "PUT", "DELETE"]),
    ("requestPayment", &["GET", "PUT"]),
    ("tagging", &["GET", "PUT", "DELETE"]),
    ("versioning", &["GET", "PUT"]),
    ("website", &["GET", "PUT", "DELETE"]),
];
/// The same of an object.
const OF_OBJECTS: &[(&str, &[&str])] = &[
    ("acl&versionId=v1", &["GET", "PUT"]),
    ("legal-hold", &["GET", "PUT"]),
    ("retention", &["GET", "PUT"]),
    ("tagging", &["GET", "PUT", "DELETE"]),
];
/// A document that nobody would write: what is not understood cannot be changed.
const DOCUMENT: &[u8] = b"<?xml version='1.0' ?>\r\n<!-- \xc3\xbc --><A  b = 'c'>\t&#10;\x00\xff\xfe]]><B/></A>\n\n";

fn everything() -> impl Iterator<Item = (&'static str, String)> {
    let at = |place: &'static str, table: &'static [(&'static str, &'static [&'static str])]| {
        table.iter().flat_map(move |(query, methods)| methods.iter().map(move |method| (*method, format!("{place}?{query}"))))
    };
    at("/bucket", OF_BUCKETS).chain(at("/bucket/a%20key", OF_OBJECTS))
}

fn ask(site: &Site, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    if method == "PUT" { site.send(method, target, headers, DOCUMENT) } else { site.ask(method, target, headers) }
}

#[test]
fn documents_pass_byte_for_byte_in_both_directions() {
    let status = Arc::new(Mutex::new(200));
    let told = status.clone();
    let backend = Backend::start(move |got| {
        let body = if got.method == "PUT" || got.method == "DELETE" { &b""[..] } else { DOCUMENT };
        let answer = http::Response::builder().status(*told.lock().unwrap()).header("x-amz-unheard-of", "kept");
        answer.body(Bytes::from_static(body)).unwrap()
    });
    let site = Site::over(&backend.settings(), |_| {});
    let headers = [("x-amz-expected-bucket-owner", "111122223333"), ("content-type", "text/x-odd; a=b")];
    for (method, target) in everything() {
        *status.lock().unwrap() = if method == "DELETE" { 204 } else { 200 };
        let before = backend.count();
        let answer = ask(&site, method, &target, &headers);
        let (expected, body) = match method {
            "GET" => (200, DOCUMENT),
            "PUT" => (200, &b""[..]),
            _ => (204, &b""[..]),
        };
        assert_eq!((answer.status, &answer.body[..]), (expected, body), "{method} {target}");
        assert_eq!(answer.header("x-amz-unheard-of"), Some("kept"), "{method} {target}");
        assert_eq!(backend.count(), before + 1, "{method} {target}");
        let there = backend.last();
        assert_eq!((there.method.as_str(), there.target.as_str()), (method, target.as_str()));
        assert_eq!(&there.body[..], if method == "PUT" { DOCUMENT } else { b"" }, "{method} {target}");
        assert_eq!(there.headers["x-amz-expected-bucket-owner"], "111122223333", "{method} {target}");
        assert_eq!(there.headers["content-type"], "text/x-odd; a=b", "{method} {target}");
    }
}

#[test]
fn errors_pass_with_all_that_they_say() {
    const ERROR: &str = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchLifecycleConfiguration</Code><Message>\u{fc} &amp; so on</Message>\
                         <BucketName>bucket</BucketName><RequestId>THEIRS</RequestId><Odd a='b'/></Error>\n";
    let backend = Backend::start(|_| {
        http::Response::builder().status(404).header("content-type", "application/xml").body(Bytes::from(ERROR)).unwrap()
    });
    let site = Site::over(&backend.settings(), |_| {});
    for (method, target) in everything() {
        let answer = ask(&site, method, &target, &[]);
        assert_eq!((answer.status, answer.code().as_str()), (404, "NoSuchLifecycleConfiguration"), "{method} {target}");
        let id = answer.header("x-amz-request-id").unwrap();
        assert_eq!(answer.text(), ERROR.replace("THEIRS", id), "{method} {target}");
    }
}

/// Names that no operation has, made from those that exist and from nothing.
fn unknown_names() -> BTreeSet<String> {
    let known = OF_BUCKETS.iter().chain(OF_OBJECTS).map(|(query, _)| query.split('&').next().unwrap());
    let known: Vec<&str> =
        known.chain(["delete", "uploads", "uploadId", "versions", "list-type", "versionId", "prefix"]).collect();
    let mut names = BTreeSet::new();
    for name in &known {
        names.insert(format!("{name}s2"));
        names.insert(format!("x{name}"));
        names.insert(name.to_uppercase());
        names.insert(format!("%20{name}"));
        names.insert(format!("{name}%20"));
        names.insert(format!("{name}%00"));
        names.insert(format!("{name}%3D"));
        names.insert(format!("{name}."));
    }
    for name in
        ["unheard-of", "x", "X-Amz-Odd", "x-amz-acl", "x-amz-copy-source", "response-odd", "%C3%BC", "%26acl", "?acl", "restrict"]
    {
        names.insert(name.to_owned());
    }
    names.retain(|name| !known.contains(&name.as_str()));
    names
}

#[test]
fn a_query_parameter_that_nobody_knows_is_refused_everywhere() {
    let backend = Backend::start(|_| http::Response::new(Bytes::new()));
    let site = Site::over(&backend.settings(), |_| {});
    let names = unknown_names();
    assert!(names.len() > 200);
    for (at, name) in names.iter().enumerate() {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            for place in ["/", "/bucket", "/bucket/", "/bucket/key"] {
                // Alone, empty, with a value, and beside one that is known; one form for each, as there are many.
                let query = match at % 4 {
                    0 => name.clone(),
                    1 => format!("{name}="),
                    2 => format!("{name}=1"),
                    _ if place == "/bucket/key" => format!("tagging&{name}=1"),
                    _ => format!("{name}=1&acl"),
                };
                let target = format!("{place}?{query}");
                let answer = ask(&site, method, &target, &[]);
                assert!(matches!(answer.status, 400 | 405), "{method} {target}: {answer:?}");
            }
        }
    }
    assert_eq!(backend.count(), 0, "{:?}", backend.got.lock().unwrap());
    assert!(site.seen.uploads.lock().unwrap().is_empty() && site.seen.deletes.lock().unwrap().is_empty());
}

#[test]
fn forms_of_a_query_that_mean_the_same_go_the_same_way() {
    let backend = Backend::start(|_| http::Response::new(Bytes::from("<X/>")));
    let site = Site::over(&backend.settings(), |_| {});
    for (target, forwarded) in [
        ("/bucket?location", "/bucket?location"),
        ("/bucket/?location", "/bucket?location"),
        ("/bucket/?location=", "/bucket?location"),
        ("/bucket?&location&", "/bucket?location"),
        ("/bucket/?acl=", "/bucket?acl"),
        ("/bucket/?policy=", "/bucket?policy"),
        ("/bucket/?inventory=&id=a+b", "/bucket?inventory&id=a%20b"),
        ("/bucket/?inventory&id=a%2Bb", "/bucket?inventory&id=a%2Bb"),
        ("/bucket/key?tagging=&versionId=a%2Fb", "/bucket/key?tagging&versionId=a%2Fb"),
        ("/bucket/key/?tagging", "/bucket/key/?tagging"),
        ("/bucket/a+b%2B?tagging=", "/bucket/a%2Bb%2B?tagging"),
    ] {
        let answer = site.ask("GET", target, &[]);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert_eq!(backend.last().target, forwarded, "{target}");
        // The same by a presigned URL.
        let url = Request::new("GET", target).presigned(site.addr, std::time::Duration::from_secs(60));
        let answer = site.exchange(url.as_bytes());
        assert_eq!(answer.status, 200, "presigned {target}: {}", answer.text());
        assert_eq!(backend.last().target, forwarded, "presigned {target}");
    }
    let document = b"<Delete><Object><Key>a</Key></Object></Delete>";
    for target in ["/bucket?delete", "/bucket/?delete", "/bucket/?delete=", "/bucket?delete=1"] {
        assert_eq!(site.send("POST", target, &[], document).status, 200, "{target}");
    }
    assert_eq!(site.seen.deletes.lock().unwrap().len(), 4);
}
