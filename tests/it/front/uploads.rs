//! Bodies in all their forms, and every way in which they can be other than they were signed.

use s3s_sigv4::AmzDate;

use super::site::{Answer, CLIENT, Request, Site};

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// What happens to a body after it was signed.
type Edit<'a> = &'a dyn Fn(&mut String);

/// The head of an aws-chunked request. Lengths of what goes over the wire are not signed and come later.
fn head(site: &Site, target: &str, payload: &str, decoded: usize, trailer: Option<&str>) -> String {
    let decoded = decoded.to_string();
    let method = if target.contains("?delete") { "POST" } else { "PUT" };
    let mut headers =
        vec![("x-amz-content-sha256", payload), ("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", &decoded)];
    headers.extend(trailer.map(|name| ("x-amz-trailer", name)));
    Request::new(method, target).headers(&headers).wire(site.addr)
}

/// The chunks that a head announces, signed from its own signature on; the last, empty one is among them.
fn chunks(head: &str, data: &[&str], trailer: Option<&str>) -> String {
    let after = |name: &str| head.split_once(name).unwrap().1.split("\r\n").next().unwrap();
    let date = AmzDate::parse(after("x-amz-date: ")).unwrap();
    let mut last = after("Signature=").to_owned();
    let sign = |text: &str| s3s_sigv4::calculate_signature(text, CLIENT.1, &date, "us-east-1", "s3");
    let mut body = String::new();
    for chunk in data.iter().chain([&""]) {
        let data: &[&str] = if chunk.is_empty() { &[] } else { std::slice::from_ref(chunk) };
        last = sign(&s3s_sigv4::create_chunk_string_to_sign(&date, "us-east-1", "s3", &last, data));
        body.push_str(&format!("{:x};chunk-signature={last}\r\n{chunk}", chunk.len()));
        if !chunk.is_empty() || trailer.is_none() {
            body.push_str("\r\n");
        }
    }
    if let Some(trailer) = trailer {
        let canonical = format!("{trailer}\n");
        let text = s3s_sigv4::create_trailer_string_to_sign(&date, "us-east-1", "s3", &last, canonical.as_bytes());
        body.push_str(&format!("{trailer}\r\nx-amz-trailer-signature:{}\r\n\r\n", sign(&text)));
    }
    body
}

fn send(site: &Site, head: &str, body: &str) -> Answer {
    let head = head.replacen("connection: close", &format!("connection: close\r\ncontent-length: {}", body.len()), 1);
    site.exchange(&[head.as_bytes(), body.as_bytes()].concat())
}

/// The refusal, and that the operation saw the same and never a whole body.
fn assert_refused(site: &Site, what: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {answer:?}");
    assert_eq!(site.seen.uploads.lock().unwrap().pop(), Some(Err(code.to_owned())), "{what}");
}

fn assert_taken(site: &Site, answer: &Answer, len: usize) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(site.seen.uploads.lock().unwrap().pop(), Some(Ok(len)));
}

#[test]
fn the_payload_hash_is_held_to() {
    let site = Site::start();
    let hash = |body: &[u8]| data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(body));
    for len in [0, 1, 5, 300_000] {
        let body = vec![b'x'; len];
        let right = site.send("PUT", "/bucket/verified", &[("x-amz-content-sha256", &hash(&body))], &body);
        assert_taken(&site, &right, len);
        let wrong = site.send("PUT", "/bucket/verified", &[("x-amz-content-sha256", &hash(b"other"))], &body);
        assert_eq!((wrong.status, wrong.code().as_str()), (400, "XAmzContentSHA256Mismatch"), "{len}");
        assert!(site.seen.uploads.lock().unwrap().pop().unwrap().is_err(), "{len}");
    }
}

#[test]
fn digests_are_held_to() {
    let site = Site::start();
    for (name, right, wrong) in [
        ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("x-amz-checksum-crc32", "NhCmhg==", "AAAAAA=="),
        ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00=", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ] {
        assert_taken(&site, &site.send("PUT", "/bucket/verified", &[(name, right)], b"hello"), 5);
        assert_refused(&site, name, &site.send("PUT", "/bucket/verified", &[(name, wrong)], b"hello"), 400, "BadDigest");
    }
    let malformed = site.send("PUT", "/bucket/verified", &[("content-md5", "!")], b"hello");
    assert_refused(&site, "malformed", &malformed, 400, "InvalidDigest");
}

#[test]
fn signed_chunks() {
    let site = Site::start();
    let data = ["hello ", "world"];
    let of_length = |decoded: usize, edit: Edit<'_>| {
        let head = head(&site, "/bucket/verified", SIGNED, decoded, None);
        let mut body = chunks(&head, &data, None);
        edit(&mut body);
        send(&site, &head, &body)
    };
    let edited = |edit: Edit<'_>| of_length(11, edit);
    assert_taken(&site, &edited(&|_| {}), 11);
    let large = "x".repeat(1_000_000);
    let long = head(&site, "/bucket/verified", SIGNED, 2_000_001, None);
    assert_taken(&site, &send(&site, &long, &chunks(&long, &[&large, "y", &large], None)), 2_000_001);
    let empty = head(&site, "/bucket/verified", SIGNED, 0, None);
    assert_taken(&site, &send(&site, &empty, &chunks(&empty, &[], None)), 0);

    let last = |text: &str| text.rfind("0;chunk-signature=").unwrap();
    let flip = |text: &mut String, at: usize| {
        let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
        text.replace_range(at..=at, digit);
    };
    let forged: [(&str, Edit<'_>); 5] = [
        ("data of the first chunk", &|text| *text = text.replace("hello", "hallo")),
        ("data of the second chunk", &|text| *text = text.replace("world", "w0rld")),
        ("a chunk's signature", &|text| flip(text, 20)),
        ("the final chunk's signature", &|text| flip(text, last(text) + 20)),
        ("chunks in another order", &|text| {
            let (second, end) = (text.find("5;chunk").unwrap(), last(text));
            *text = format!("{}{}{}", &text[second..end], &text[..second], &text[end..]);
        }),
    ];
    for (what, edit) in forged {
        assert_refused(&site, what, &edited(edit), 403, "SignatureDoesNotMatch");
    }
    let incomplete: [(&str, Edit<'_>); 5] = [
        ("no final chunk", &|text| text.truncate(last(text))),
        ("half a final chunk", &|text| text.truncate(last(text) + 40)),
        ("no second chunk and no final one", &|text| text.truncate(text.find("5;chunk").unwrap())),
        ("no chunks at all", &|text| text.clear()),
        ("not chunks", &|text| *text = "hello world".to_owned()),
    ];
    for (what, edit) in incomplete {
        assert_refused(&site, what, &edited(edit), 400, "IncompleteBody");
    }
    assert_refused(&site, "a length that is too small", &of_length(10, &|_| {}), 400, "IncompleteBody");
    assert_refused(&site, "a length that is too large", &of_length(12, &|_| {}), 400, "IncompleteBody");
    assert_refused(&site, "an empty body without its final chunk", &send(&site, &empty, ""), 400, "IncompleteBody");
    // A chunk that would have to be held in memory until its signature is known.
    let huge = edited(&|text| *text = text.replacen("6;", "10000000;", 1));
    assert_refused(&site, "a huge chunk", &huge, 403, "InvalidChunkSizeError");
}

#[test]
fn signed_chunks_with_a_trailer() {
    let site = Site::start();
    let ask = |trailer: &str, edit: Edit<'_>| {
        let head = head(&site, "/bucket/verified", SIGNED_TRAILER, 5, Some("x-amz-checksum-crc32"));
        let mut body = chunks(&head, &["hel", "lo"], Some(trailer));
        edit(&mut body);
        send(&site, &head, &body)
    };
    let right = "x-amz-checksum-crc32:NhCmhg==";
    assert_taken(&site, &ask(right, &|_| {}), 5);
    assert_refused(&site, "another sum", &ask("x-amz-checksum-crc32:AAAAAA==", &|_| {}), 400, "BadDigest");
    let forged = ask("x-amz-checksum-crc32:AAAAAA==", &|text| *text = text.replace("AAAAAA==", "NhCmhg=="));
    assert_refused(&site, "a sum that was not signed", &forged, 403, "SignatureDoesNotMatch");
    let none = ask(right, &|text| text.truncate(text.rfind("0;chunk").unwrap()));
    assert_refused(&site, "no final chunk", &none, 400, "IncompleteBody");
    let unsigned = ask(right, &|text| text.truncate(text.find("x-amz-trailer-signature").unwrap()));
    assert_eq!(unsigned.status / 100, 4, "{unsigned:?}");
    assert!(site.seen.uploads.lock().unwrap().pop().unwrap().is_err());
}

#[test]
fn unsigned_chunks_with_a_trailer() {
    let site = Site::start();
    let ask = |decoded: usize, body: &str| {
        send(&site, &head(&site, "/bucket/verified", UNSIGNED_TRAILER, decoded, Some("x-amz-checksum-crc32")), body)
    };
    let data = "3\r\nhel\r\n2\r\nlo\r\n";
    let trailer = |value: &str| format!("{data}0\r\nx-amz-checksum-crc32:{value}\r\n\r\n");
    assert_taken(&site, &ask(5, &trailer("NhCmhg==")), 5);
    for (what, decoded, body, code) in [
        ("another sum", 5, trailer("AAAAAA=="), "BadDigest"),
        ("not a sum", 5, trailer("!"), "MalformedTrailerError"),
        // The library tells an empty trailer from none as little as we can.
        ("no trailer", 5, format!("{data}0\r\n\r\n"), "IncompleteBody"),
        ("another trailer", 5, format!("{data}0\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\n"), "MalformedTrailerError"),
        ("no final chunk", 5, data.to_owned(), "IncompleteBody"),
        ("half a chunk", 5, "3\r\nhel\r\n2\r\nl".to_owned(), "IncompleteBody"),
        ("a length that is too small", 4, trailer("NhCmhg=="), "IncompleteBody"),
        ("a length that is too large", 6, trailer("NhCmhg=="), "IncompleteBody"),
        ("nothing", 5, String::new(), "IncompleteBody"),
    ] {
        assert_refused(&site, what, &ask(decoded, &body), 400, code);
    }
}

#[test]
fn documents_come_in_chunks_too() {
    let site = Site::start();
    let list = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>";
    let ask = |edit: Edit<'_>| {
        let head = head(&site, "/bucket?delete", SIGNED, list.len(), None);
        let mut body = chunks(&head, &[&list[..20], &list[20..]], None);
        edit(&mut body);
        send(&site, &head, &body)
    };
    assert_eq!(ask(&|_| {}).status, 200);
    let forged = ask(&|text| *text = text.replace("<Key>b", "<Key>c"));
    assert_eq!((forged.status, forged.code().as_str()), (403, "SignatureDoesNotMatch"));
    let cut = ask(&|text| text.truncate(text.rfind("0;chunk").unwrap()));
    assert_eq!((cut.status, cut.code().as_str()), (400, "IncompleteBody"));
    assert_eq!(*site.seen.deletes.lock().unwrap(), [2]);
}

#[test]
fn an_upload_says_how_long_it_is() {
    let site = Site::start();
    let head = Request::new("PUT", "/bucket/verified").unsigned(&[("transfer-encoding", "chunked")]).wire(site.addr);
    let answer = site.exchange(&[head.as_bytes(), b"5\r\nhello\r\n0\r\n\r\n"].concat());
    assert_eq!((answer.status, answer.code().as_str()), (411, "MissingContentLength"));
    let head = Request::new("PUT", "/bucket/verified").unsigned(&[("content-length", "20000000")]).wire(site.addr);
    let answer = site.exchange(head.as_bytes());
    assert_eq!((answer.status, answer.code().as_str()), (400, "EntityTooLarge"));
    assert!(site.seen.uploads.lock().unwrap().is_empty());
}

/// The host is what keeps a request from being played at another gateway with the same clients.
#[test]
fn the_host_has_to_be_signed() {
    let site = Site::start();
    for (method, target) in [("GET", "/bucket/whole"), ("DELETE", "/bucket"), ("GET", "/bucket?location")] {
        let now = Request::new(method, target).wire(site.addr);
        let stamp = now.split_once("x-amz-date: ").unwrap().1.split("\r\n").next().unwrap();
        let amz = AmzDate::parse(stamp).unwrap();
        let (path, query) = target.split_once('?').map_or((target, vec![]), |(path, name)| (path, vec![(name, "")]));
        let signed = [("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("x-amz-date", stamp)];
        let canonical = s3s_sigv4::create_canonical_request(method, path, &query, signed, s3s_sigv4::Payload::Unsigned);
        let text = s3s_sigv4::create_string_to_sign(&canonical, &amz, "us-east-1", "s3");
        let signature = s3s_sigv4::calculate_signature(&text, CLIENT.1, &amz, "us-east-1", "s3");
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: elsewhere\r\nconnection: close\r\nx-amz-date: {stamp}\r\n\
             x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nauthorization: AWS4-HMAC-SHA256 Credential={}/{}/us-east-1/s3/aws4_request, \
             SignedHeaders=x-amz-content-sha256;x-amz-date, Signature={signature}\r\n\r\n",
            CLIENT.0,
            amz.fmt_date()
        );
        let answer = site.exchange(request.as_bytes());
        assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"), "{method} {target}");
        assert!(answer.text().contains("host"), "{}", answer.text());
    }
}
