use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sigv4::http_request::SignableBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::wire::{PAIR, Site, client, code, exchange, noise, signed};

#[tokio::test]
async fn only_known_clients_get_in() {
    let site = Site::start().await;
    site.put("k", "x").await;
    let addr = site.running.addr();
    let wrong = client(addr, (PAIR.0, "another-secret"));
    assert_eq!(code(&wrong.get_object().bucket("box").key("k").send().await.unwrap_err()), "SignatureDoesNotMatch");
    let stranger = client(addr, ("STRANGER", PAIR.1));
    assert_eq!(code(&stranger.get_object().bucket("box").key("k").send().await.unwrap_err()), "InvalidAccessKeyId");
    for (method, path) in
        [("GET", "/"), ("GET", "/box"), ("GET", "/box/k"), ("DELETE", "/box/k"), ("PUT", "/box/new"), ("GET", "/none/k")]
    {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let answer = exchange(addr, request.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"), "{method} {path}");
        assert!(answer.header("x-amz-request-id").is_some());
    }
    // Not even with a range that takes another way.
    let request = format!("GET /box/k HTTP/1.1\r\nhost: {addr}\r\nrange: bytes=x\r\nconnection: close\r\n\r\n");
    assert_eq!(exchange(addr, request.as_bytes()).await.status, 403);
    let answer = site.raw("GET", "/box/k", &[("x-amz-security-token", "session")], b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidToken"));
    assert_eq!(site.keys().await, ["k"]);
}

#[tokio::test]
async fn presigned_urls() {
    let site = Site::start().await;
    let addr = site.running.addr();
    let hour = PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
    let put = site.client.put_object().bucket("box").key("a b").presigned(hour.clone()).await.unwrap();
    let path = |uri: &str| uri.strip_prefix(&format!("http://{addr}")).unwrap().to_owned();
    let request =
        format!("PUT {} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", path(put.uri()));
    assert_eq!(exchange(addr, request.as_bytes()).await.status, 200);
    let get = site.client.get_object().bucket("box").key("a b").response_content_type("a/b").presigned(hour).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n", path(get.uri()));
    let answer = exchange(addr, request.as_bytes()).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
    assert_eq!(answer.header("content-type"), Some(&b"a/b"[..]));
    let forged = request.replace("response-content-type=a", "response-content-type=b");
    assert_ne!(forged, request);
    assert_eq!(exchange(addr, forged.as_bytes()).await.status, 403);
}

#[tokio::test]
async fn a_body_that_is_not_what_was_signed_is_not_stored() {
    let site = Site::start().await;
    let addr = site.running.addr();
    for len in [5, 700_000] {
        let content = noise(1, len);
        let mut request = signed(addr, "PUT", "/box/k", &[], &content, SignableBody::Bytes(&content));
        *request.last_mut().unwrap() ^= 1;
        let answer = exchange(addr, &request).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "XAmzContentSHA256Mismatch"));
    }
    // A client that goes away in the middle.
    let content = noise(2, 700_000);
    let request = signed(addr, "PUT", "/box/k", &[], &content, SignableBody::UnsignedPayload);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(&request[..request.len() - 1]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(site.keys().await.is_empty());
    // The file goes as soon as the server has seen the end of the connection.
    for _ in 0..100 {
        if site.files() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("an abandoned upload left its file behind");
}

#[tokio::test]
async fn chunked_uploads_with_trailers() {
    let site = Site::start().await;
    let addr = site.running.addr();
    let upload = |decoded: usize, body: String| {
        let headers = [
            ("content-encoding".to_owned(), "aws-chunked".to_owned()),
            ("x-amz-decoded-content-length".to_owned(), decoded.to_string()),
            ("x-amz-trailer".to_owned(), "x-amz-checksum-crc32".to_owned()),
        ];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        signed(addr, "PUT", "/box/k", &headers, body.as_bytes(), SignableBody::StreamingUnsignedPayloadTrailer)
    };
    let body = |trailer: &str| format!("3\r\nhel\r\n2\r\nlo\r\n0\r\n{trailer}\r\n");
    let refused = [
        (5, body("x-amz-checksum-crc32:AAAAAA==\r\n"), "BadDigest"),
        (5, body(""), "MalformedTrailerError"),
        (4, body("x-amz-checksum-crc32:NhCmhg==\r\n"), "IncompleteBody"),
        (6, body("x-amz-checksum-crc32:NhCmhg==\r\n"), "IncompleteBody"),
        // Without the last chunk there is no trailer either.
        (5, "3\r\nhel\r\n2\r\nlo\r\n".to_owned(), "MalformedTrailerError"),
    ];
    for (decoded, body, expected) in refused {
        let answer = exchange(addr, &upload(decoded, body.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, expected), "{decoded} {body:?}");
    }
    assert!(site.keys().await.is_empty());
    assert_eq!(site.files(), 0);
    let answer = exchange(addr, &upload(5, body("x-amz-checksum-crc32:NhCmhg==\r\n"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(site.get("k").await, b"hello");
    let answer = site.raw("GET", "/box/k", &[("x-amz-checksum-mode", "ENABLED")], b"").await;
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("x-amz-checksum-crc32"), Some(&b"NhCmhg=="[..]));
}
