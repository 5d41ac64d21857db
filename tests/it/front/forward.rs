//! The forward way, against a store that proves every signature.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ciphergate::backend::forward::ForwardSettings;

use super::site::{AT_STORE, Backend, Site};

fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> http::Response<Bytes> {
    let mut answer = http::Response::new(Bytes::from(body.to_owned()));
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        answer.headers_mut().append(*name, value.parse().unwrap());
    }
    answer
}

fn error(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message><RequestId>THEIRS</RequestId><Extra>e</Extra></Error>"
    )
}

#[test]
fn requests_arrive_signed_anew_and_answers_come_back_as_they_are() {
    let backend = Backend::start(|_| {
        let headers = [
            ("content-type", "application/xml"),
            ("x-amz-version-id", "v1"),
            ("x-amz-request-id", "THEIRS"),
            ("x-amz-meta-ciphergate", "cg1"),
            ("x-unheard-of", "kept"),
        ];
        answer(200, &headers, "<Tagging/>")
    });
    let site = Site::over(&backend.settings(), |_| {});
    let body = b"<Tagging><TagSet/></Tagging>";
    let headers = [
        ("content-type", "application/xml"),
        ("x-amz-expected-bucket-owner", "123456789012"),
        ("x-amz-server-side-encryption-customer-key", "c2VjcmV0"),
        ("x-amz-meta-other", "x"),
        ("cookie", "c=1"),
    ];
    let got = site.send("PUT", "/bucket/key?tagging&versionId=a%2Bb", &headers, body);
    assert_eq!((got.status, got.text().as_str()), (200, "<Tagging/>"));
    assert_eq!((got.header("x-amz-version-id"), got.header("x-unheard-of")), (Some("v1"), Some("kept")));
    assert_eq!(got.header("x-amz-meta-ciphergate"), None);
    let id = got.header("x-amz-request-id").unwrap();
    assert_ne!(id, "THEIRS");

    let there = backend.last();
    assert_eq!((there.method.as_str(), there.target.as_str()), ("PUT", "/bucket/key?tagging&versionId=a%2Bb"));
    assert_eq!(&there.body[..], body);
    let header = |name: &str| there.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("x-request-id"), Some(id));
    assert_eq!(header("x-amz-expected-bucket-owner"), Some("123456789012"));
    assert_eq!(header("content-type"), Some("application/xml"));
    for gone in ["x-amz-server-side-encryption-customer-key", "x-amz-meta-other", "cookie"] {
        assert_eq!(header(gone), None, "{gone}");
    }
    let authorization = header("authorization").unwrap();
    assert!(authorization.contains(AT_STORE.0) && authorization.contains("/eu-west-3/s3/"), "{authorization}");
    // The body is covered by the signature whatever the client did.
    assert_eq!(header("x-amz-content-sha256").map(str::len), Some(64));
}

#[test]
fn odd_keys_are_signed_as_they_are_sent() {
    let backend = Backend::start(|_| answer(200, &[], "<Tagging/>"));
    let site = Site::over(&backend.settings(), |_| {});
    for (sent, forwarded) in [
        ("a%20b", "a%20b"),
        ("a%2Bb", "a%2Bb"),
        ("100%25", "100%25"),
        ("%252F", "%252F"),
        ("%C3%BC/%E2%82%AC", "%C3%BC/%E2%82%AC"),
        ("a//b/", "a//b/"),
        ("/leading", "/leading"),
        ("..", ".."),
        ("a/../b/./c", "a/../b/./c"),
        ("%3Fq%3D1%26x%23f", "%3Fq%3D1%26x%23f"),
        ("~-._%21%2A%27%28%29", "~-._%21%2A%27%28%29"),
        ("%00%01%7F", "%00%01%7F"),
    ] {
        let got = site.ask("GET", &format!("/bucket/{sent}?tagging"), &[]);
        assert_eq!(got.status, 200, "{sent}: {}", got.text());
        assert_eq!(backend.last().target, format!("/bucket/{forwarded}?tagging"));
    }
    for (sent, forwarded) in [("id=a%20b%2Bc%2F%26", "id=a%20b%2Bc%2F%26"), ("id=%C3%BC", "id=%C3%BC"), ("id=", "id")] {
        let got = site.ask("GET", &format!("/bucket?inventory&{sent}"), &[]);
        assert_eq!(got.status, 200, "{sent}: {}", got.text());
        assert_eq!(backend.last().target, format!("/bucket?inventory&{forwarded}"));
    }
}

#[test]
fn error_documents_keep_everything_but_the_request_id() {
    let backend = Backend::start(|_| answer(404, &[("content-type", "application/xml")], &error("NoSuchTagSet")));
    let site = Site::over(&backend.settings(), |_| {});
    let got = site.ask("GET", "/bucket?tagging", &[]);
    assert_eq!((got.status, got.code()), (404, "NoSuchTagSet".to_owned()));
    assert!(got.text().contains("<Extra>e</Extra>") && !got.text().contains("THEIRS"));
    let head = site.ask("HEAD", "/bucket", &[]);
    assert_eq!((head.status, head.body.len()), (404, 0));
}

#[test]
fn a_store_that_does_not_know_the_gateway_is_not_the_clients_fault() {
    // Another secret: the store itself says SignatureDoesNotMatch.
    let backend = Backend::start_with((AT_STORE.0, "another-secret"), |_| answer(200, &[], ""));
    let site = Site::over(&backend.settings(), |_| {});
    let got = site.ask("GET", "/bucket?acl", &[]);
    assert_eq!((got.status, got.code()), (500, "InternalError".to_owned()));
    for code in ["InvalidAccessKeyId", "ExpiredToken", "RequestTimeTooSkewed"] {
        let backend = Backend::start(move |_| answer(403, &[], &error(code)));
        let got = Site::over(&backend.settings(), |_| {}).ask("GET", "/bucket?acl", &[]);
        assert_eq!((got.status, got.code()), (500, "InternalError".to_owned()), "{code}");
    }
    // That the gateway's account may not do it is an answer to the client's question.
    let backend = Backend::start(|_| answer(403, &[], &error("AccessDenied")));
    let got = Site::over(&backend.settings(), |_| {}).ask("GET", "/bucket?acl", &[]);
    assert_eq!((got.status, got.code()), (403, "AccessDenied".to_owned()));
}

#[test]
fn clients_are_not_sent_past_the_gateway() {
    let headers = [("location", "http://elsewhere/"), ("x-amz-bucket-region", "eu-north-1")];
    let backend = Backend::start(move |_| answer(307, &headers, &error("TemporaryRedirect")));
    let got = Site::over(&backend.settings(), |_| {}).ask("GET", "/bucket?acl", &[]);
    assert_eq!((got.status, got.code(), got.header("location")), (500, "InternalError".to_owned(), None));
}

#[test]
fn only_reads_are_repeated() {
    let count = AtomicUsize::new(0);
    let backend = Backend::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        2 => answer(200, &[], "<X/>"),
        _ => answer(503, &[], &error("SlowDown")),
    });
    let site = Site::over(&backend.settings(), |_| {});
    assert_eq!(site.ask("GET", "/bucket?acl", &[]).status, 200);
    assert_eq!(backend.count(), 3);
    let got = site.send("PUT", "/bucket?acl", &[], b"<A/>");
    assert_eq!((got.status, got.code()), (503, "SlowDown".to_owned()));
    assert_eq!(backend.count(), 4);
    // Reads, too, end some time.
    assert_eq!(site.ask("GET", "/bucket?acl", &[]).status, 503);
    assert_eq!(backend.count(), 7);
}

#[test]
fn documents_are_checked_before_they_travel() {
    let backend = Backend::start(|_| answer(200, &[], ""));
    let site = Site::over(&backend.settings(), |_| {});
    let wrong = site.send("PUT", "/bucket?policy", &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], b"{}");
    assert_eq!(wrong.code(), "BadDigest");
    let hash = "0".repeat(64);
    let wrong = site.send("PUT", "/bucket?policy", &[("x-amz-content-sha256", &hash)], b"{}");
    assert_eq!(wrong.code(), "XAmzContentSHA256Mismatch");
    assert_eq!(site.send("PUT", "/bucket?policy", &[], &vec![b' '; 1_100_000]).code(), "MaxMessageLengthExceeded");
    assert_eq!(backend.count(), 0);
    assert_eq!(site.send("PUT", "/bucket?policy", &[("content-md5", "mZFLkyvTelC5g8XnyQrpOw==")], b"{}").status, 200);
    assert_eq!(backend.last().headers["content-md5"], "mZFLkyvTelC5g8XnyQrpOw==");
}

#[test]
fn an_unreachable_store_is_a_503() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = Site::over(&ForwardSettings::new(&format!("http://{closed}"), "us-east-1", true).unwrap(), |_| {});
    let got = site.ask("GET", "/bucket?acl", &[]);
    assert_eq!((got.status, got.code()), (503, "ServiceUnavailable".to_owned()));
}

/// A store that takes the request and then says so much, and no more.
fn mute(says: &'static [u8], then_close: bool) -> ForwardSettings {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(says);
            if !then_close {
                held.push(socket);
            }
        }
    });
    let mut settings = ForwardSettings::new(&format!("http://{addr}"), "us-east-1", true).unwrap();
    settings.first_byte_timeout = Duration::from_millis(300);
    settings.idle_timeout = Duration::from_millis(300);
    settings
}

#[test]
fn a_silent_store_is_given_up() {
    let started = Instant::now();
    let got = Site::over(&mute(b"", false), |_| {}).ask("GET", "/bucket?acl", &[]);
    assert_eq!((got.status, got.code()), (503, "ServiceUnavailable".to_owned()));
    assert!(started.elapsed() < Duration::from_secs(5));
    // In the middle of an error document, and closed without a word.
    let got =
        Site::over(&mute(b"HTTP/1.1 404 N\r\ncontent-length: 100\r\n\r\n<Error>", false), |_| {}).ask("GET", "/bucket?acl", &[]);
    assert_eq!((got.status, got.code()), (503, "ServiceUnavailable".to_owned()));
    let got = Site::over(&mute(b"", true), |_| {}).ask("GET", "/bucket?acl", &[]);
    assert_eq!((got.status, got.code()), (503, "ServiceUnavailable".to_owned()));
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for close in [true, false] {
        let sized = mute(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n<Tagging", close);
        let got = Site::over(&sized, |_| {}).ask("GET", "/bucket?acl", &[]);
        assert_eq!((got.status, got.header("content-length")), (200, Some("100")));
        assert!(got.body.len() < 100);
        let chunked = mute(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n<Tagging\r\n", close);
        let got = Site::over(&chunked, |_| {}).ask("GET", "/bucket?acl", &[]);
        assert!(!got.body.ends_with(b"0\r\n\r\n"), "{got:?}");
    }
}
