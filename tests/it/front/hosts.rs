//! The bucket in the host name.

use std::time::Duration;

use bytes::Bytes;

use super::site::{Backend, DOMAIN, Request, Site};

#[test]
fn every_way_finds_the_bucket_in_the_host() {
    let backend = Backend::start(|_| http::Response::new(Bytes::from("<X/>")));
    let site = Site::over(&backend.settings(), |_| {});
    let (bucket, dotted, bare, ported) =
        (format!("bucket.{DOMAIN}"), format!("my.dotted.bucket.{DOMAIN}"), DOMAIN.to_owned(), format!("Bucket.{DOMAIN}:9000"));
    let ask = |host: &str, method: &str, target: &str| {
        let request = Request { host: Some(host), ..Request::new(method, target) };
        site.exchange(request.wire(site.addr).as_bytes())
    };
    // Typed operations, also those that are put right first.
    assert_eq!(ask(&bucket, "GET", "/whole").status, 200);
    assert_eq!(ask(&ported, "HEAD", "/whole").status, 200);
    assert_eq!(ask(&bucket, "GET", "/missing").code(), "NoSuchKey");
    let ranged = Request { host: Some(&bucket), ..Request::new("GET", "/range").headers(&[("range", "bytes=5-4")]) };
    assert_eq!(site.exchange(ranged.wire(site.addr).as_bytes()).text(), "none");
    let put = Request { host: Some(&bucket), ..Request::new("PUT", "/bucket/key").unsigned(&[("content-length", "5")]) };
    assert_eq!(site.exchange(&[put.wire(site.addr).as_bytes(), b"hello"].concat()).status, 200);
    let document = b"<Delete><Object><Key>a</Key></Object></Delete>";
    let length = document.len().to_string();
    let delete = Request { host: Some(&bucket), ..Request::new("POST", "/?delete").unsigned(&[("content-length", &length)]) };
    assert_eq!(site.exchange(&[delete.wire(site.addr).as_bytes(), &document[..]].concat()).status, 200);
    assert_eq!(*site.seen.deletes.lock().unwrap(), [1]);
    // Forwarded ones: the store is asked by path.
    for (host, target, forwarded) in [
        (&bucket, "/?acl", "/bucket?acl"),
        (&bucket, "/key?tagging", "/bucket/key?tagging"),
        (&bucket, "/bucket/key?tagging", "/bucket/bucket/key?tagging"),
        (&bucket, "//a/../b?tagging", "/bucket//a/../b?tagging"),
        (&dotted, "/?location", "/my.dotted.bucket?location"),
        (&ported, "/?acl", "/bucket?acl"),
        (&bare, "/another?acl", "/another?acl"),
    ] {
        let answer = ask(host, "GET", target);
        assert_eq!(answer.status, 200, "{host}{target}: {}", answer.text());
        assert_eq!(backend.last().target, forwarded, "{host}{target}");
    }
    // A name that nobody configured is no bucket.
    for host in ["localhost", "bucket.s3-example.test", "bucket.elsewhere.test:8080", "[::1]:9000"] {
        assert_eq!(ask(host, "GET", "/other?acl").status, 200, "{host}");
        assert_eq!(backend.last().target, "/other?acl", "{host}");
    }
    assert_eq!(ask(&format!("B_d.{DOMAIN}"), "GET", "/key").code(), "InvalidBucketName");
}

#[test]
fn a_presigned_url_belongs_to_its_host() {
    let site = Site::start();
    let host = format!("bucket.{DOMAIN}");
    let url = Request { host: Some(&host), ..Request::new("GET", "/range") }.presigned(site.addr, Duration::from_secs(60));
    assert_eq!(site.exchange(url.as_bytes()).status, 200);
    // The same signature at another bucket's host.
    let moved = url.replace(&host, &format!("another.{DOMAIN}"));
    assert_eq!(site.exchange(moved.as_bytes()).code(), "SignatureDoesNotMatch");
    let signed = Request { host: Some(&host), ..Request::new("GET", "/range") }.wire(site.addr);
    assert_eq!(site.exchange(signed.replace(&host, &format!("another.{DOMAIN}")).as_bytes()).code(), "SignatureDoesNotMatch");
}
