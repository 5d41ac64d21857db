//! Requests and answers between the wire and the operations.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, SystemTime};

use super::site::{ANNOUNCED, Request, Site, read_answer, until};

#[test]
fn whole_answers_are_whole() {
    let site = Site::start();
    let answer = site.ask("GET", "/bucket/whole", &[]);
    assert_eq!((answer.status, answer.body.len()), (200, ANNOUNCED));
    assert_eq!(answer.header("content-length"), Some("1000000"));
    assert_eq!(answer.header("x-amz-request-id").map(str::len), Some(16));
    assert!(answer.header("x-amz-id-2").is_some());
    let answer = site.ask("GET", "/bucket/chunked", &[]);
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert!(answer.body.ends_with(b"\r\n0\r\n\r\n"));
}

#[test]
fn a_body_that_breaks_off_never_ends_like_a_whole_one() {
    let site = Site::start();
    for key in ["fails", "short"] {
        let answer = site.ask("GET", &format!("/bucket/{key}"), &[]);
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("1000000")), "{key}");
        assert!(answer.body.len() < ANNOUNCED, "{key}");
    }
    for key in ["fails-chunked", "panics-chunked"] {
        let answer = site.ask("GET", &format!("/bucket/{key}"), &[]);
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{key}");
        assert!(!answer.body.ends_with(b"0\r\n\r\n"), "{key}");
        assert!(!answer.text().contains("secret cause"), "{key}");
    }
    // More than announced: never more on the wire, where it would be the head of the next answer.
    assert!(site.ask("GET", "/bucket/long", &[]).body.len() <= ANNOUNCED);
}

#[test]
fn http_1_0_gets_no_body_without_a_length() {
    let site = Site::start();
    let ask = |key: &str| {
        let target = format!("/bucket/{key}");
        let request = Request { version: "HTTP/1.0", ..Request::new("GET", &target) };
        site.exchange(request.wire(site.addr).as_bytes())
    };
    assert_eq!(ask("whole").body.len(), ANNOUNCED);
    let refused = ask("fails-chunked");
    assert_eq!((refused.status, refused.code()), (505, "HttpVersionNotSupported".to_owned()));
}

#[test]
fn a_panic_is_an_internal_error_and_the_worker_lives() {
    let site = Site::start();
    for _ in 0..8 {
        let answer = site.ask("GET", "/bucket/panics", &[]);
        assert_eq!((answer.status, answer.code()), (500, "InternalError".to_owned()));
        assert!(!answer.text().contains("in an operation"));
    }
    assert_eq!(site.ask("GET", "/bucket/whole", &[]).status, 200);
}

#[test]
fn statuses_without_a_body_have_none() {
    let site = Site::start();
    let unmodified = site.ask("GET", "/bucket/unmodified", &[]);
    assert_eq!((unmodified.status, unmodified.header("etag"), unmodified.body.len()), (304, Some("\"tag\""), 0));
    assert_eq!(unmodified.header("transfer-encoding"), None);
    assert!(unmodified.header("x-amz-request-id").is_some());

    let head = site.ask("HEAD", "/bucket/whole", &[]);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("1000000"), 0));
    let range = site.ask("HEAD", "/bucket/whole", &[("range", "bytes=0-9")]);
    assert_eq!((range.status, range.header("content-length")), (206, Some("10")));
    let missing = site.ask("HEAD", "/bucket/missing", &[]);
    assert_eq!((missing.status, missing.body.len()), (404, 0));
    assert_eq!(missing.header("x-amz-request-id").map(str::len), Some(16));
}

#[test]
fn empty_answers_say_so() {
    let site = Site::start();
    let put = site.send("PUT", "/bucket/key", &[], b"hello");
    assert_eq!((put.status, put.header("content-length")), (200, Some("0")));
    // An empty body without a length is one of length 0.
    assert_eq!(site.ask("PUT", "/bucket/key", &[]).status, 200);
    assert_eq!(*site.seen.uploads.lock().unwrap(), [Ok(5), Ok(0)]);
}

#[test]
fn errors_name_the_request_even_with_headers_of_their_own() {
    let site = Site::start();
    assert_eq!(site.ask("GET", "/bucket/missing", &[]).code(), "NoSuchKey");
    let failed = site.ask("GET", "/bucket/failed-condition", &[]);
    assert_eq!((failed.status, failed.code(), failed.header("etag")), (412, "PreconditionFailed".to_owned(), Some("\"tag\"")));
    // Before the protocol library knows the operation, and before anybody is asked at all.
    assert_eq!(site.ask("GET", "/B/key", &[]).code(), "InvalidBucketName");
    let form = b"POST /bucket HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 1\r\n\r\nb";
    assert_eq!(site.exchange(form).code(), "MalformedPOSTRequest");
    assert_eq!(site.send("POST", "/bucket", &[], b"not a form").code(), "PreconditionFailed");
    let anonymous = site.exchange(b"GET /bucket/key HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    assert_eq!((anonymous.status, anonymous.code()), (403, "AccessDenied".to_owned()));
}

#[test]
fn uploads_that_break_off_are_the_clients_fault() {
    let site = Site::start();
    let head = |length: &str| Request::new("PUT", "/bucket/key").unsigned(&[("content-length", length)]).wire(site.addr);
    // Gone in the middle: the operation sees an error and never an end.
    for how in [Shutdown::Both, Shutdown::Write] {
        let mut socket = site.connect();
        socket.write_all(head("1000").as_bytes()).unwrap();
        socket.write_all(b"only this").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        socket.shutdown(how).unwrap();
        let _ = socket.read(&mut [0; 1]);
    }
    // Chunks that are none.
    let chunked = Request::new("PUT", "/bucket/key").headers(&[("x-amz-decoded-content-length", "5")]);
    let chunked = chunked
        .headers(&[("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), ("x-amz-trailer", "x-amz-checksum-crc32")]);
    let chunked = chunked.unsigned(&[("transfer-encoding", "chunked")]).wire(site.addr);
    let answer = site.exchange(&[chunked.as_bytes(), b"zz\r\n"].concat());
    assert!(matches!(answer.status, 0 | 400), "{answer:?}");
    // Dropped or failed, but not one whole upload.
    assert!(site.seen.uploads.lock().unwrap().iter().all(Result::is_err));
}

#[test]
fn a_body_that_stands_still_times_out() {
    let forward = ciphergate::backend::forward::ForwardSettings::new("http://127.0.0.1:9", "us-east-1", true).unwrap();
    let site = Site::over(&forward, |settings| settings.idle_body_timeout = Duration::from_millis(300));
    let mut socket = site.connect();
    let head = Request::new("PUT", "/bucket/key").unsigned(&[("content-length", "1000")]).wire(site.addr);
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(b"only this").unwrap();
    let answer = read_answer(&mut socket);
    assert_eq!((answer.status, answer.code()), (400, "RequestTimeout".to_owned()));
    assert_eq!(site.seen.uploads.lock().unwrap().len(), 1);
}

#[test]
fn a_client_that_goes_away_frees_what_worked_for_it() {
    let site = Site::start();
    for (method, target, length) in
        [("GET", "/bucket/hang", None), ("GET", "/bucket/hang-body", None), ("PUT", "/bucket/hang", Some("5000"))]
    {
        for how in [Shutdown::Both, Shutdown::Write] {
            let mut socket = site.connect();
            let length: Vec<_> = length.iter().map(|length| ("content-length", *length)).collect();
            socket.write_all(Request::new(method, target).unsigned(&length).wire(site.addr).as_bytes()).unwrap();
            site.seen.until_waiting(1);
            socket.shutdown(how).unwrap();
            site.seen.until_waiting(0);
        }
    }
}

/// It keeps its connection and reads nothing more. What works for it must come free.
#[cfg(target_os = "linux")]
#[test]
fn a_client_that_stops_reading_is_cut_off() {
    let forward = ciphergate::backend::forward::ForwardSettings::new("http://127.0.0.1:9", "us-east-1", true).unwrap();
    let site = Site::over(&forward, |settings| settings.idle_body_timeout = Duration::from_millis(500));
    let mut socket = site.connect();
    socket.write_all(Request::new("GET", "/bucket/endless").wire(site.addr).as_bytes()).unwrap();
    // As long as it takes some now and then it is served.
    let started = std::time::Instant::now();
    let mut some = vec![0; 1 << 16];
    while started.elapsed() < Duration::from_millis(1500) {
        socket.read_exact(&mut some).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    site.seen.until_waiting(1);
    site.seen.until_waiting(0);
    // The connection is gone with it: what is left to read ends.
    let ended = socket.read_to_end(&mut Vec::new());
    assert!(ended.is_ok() || ended.is_err_and(|err| err.kind() != std::io::ErrorKind::WouldBlock));
}

#[test]
fn an_upload_that_nobody_reads_is_not_taken_from_the_wire() {
    let site = Site::start();
    let mut socket = site.connect();
    let head = Request::new("PUT", "/bucket/hang").unsigned(&[("content-length", "9000000")]).wire(site.addr);
    socket.write_all(head.as_bytes()).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let piece = vec![0; 65_536];
    let mut sent = 0;
    while sent < 9_000_000 && socket.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    // The kernel's buffers on both sides hold a few megabytes; the front itself holds next to nothing.
    assert!(sent < 8_500_000, "{sent} bytes were taken");
}

#[test]
fn a_refused_upload_gets_its_answer() {
    let site = Site::start();
    let wrong = Request { key: ("CLIENTACCESSKEY00", "another-secret"), ..Request::new("PUT", "/bucket/key") };
    let head = wrong.unsigned(&[("content-length", "3000000")]).wire(site.addr);
    let answer = site.exchange(&[head.as_bytes(), &vec![0; 3_000_000]].concat());
    assert_eq!((answer.status, answer.code()), (403, "SignatureDoesNotMatch".to_owned()));
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let site = Site::start();
    let with = |lines: &str| {
        let head = Request::new("PUT", "/bucket/key").wire(site.addr);
        site.exchange(&[head.trim_end().as_bytes(), b"\r\n", lines.as_bytes(), b"\r\n\r\n0\r\n\r\n"].concat())
    };
    for lines in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "content-length: +5",
        "content-length: -5",
        "content-length: 5,5",
        "content-length: 0x5",
        "host: elsewhere",
        "bad name: x",
        "content-length : 5",
    ] {
        let answer = with(lines);
        assert!((400..=501).contains(&answer.status), "{lines:?}: {answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{lines:?}");
        // Whoever refused it: there is a document, and it names the request.
        assert!(!answer.code().is_empty(), "{lines:?}");
    }
    assert!(site.seen.uploads.lock().unwrap().iter().all(Result::is_err));
    let huge = format!("x-huge: {}", "x".repeat(200_000));
    let answer = with(&huge);
    assert!(matches!(answer.status, 0 | 400 | 431), "{}", answer.status);
    let many = (0..200).map(|i| format!("x-{i}: y")).collect::<Vec<_>>().join("\r\n");
    assert!(matches!(with(&many).status, 0 | 400 | 431));
    assert_eq!(site.ask("GET", "/bucket/whole", &[]).status, 200);
}

#[test]
fn bytes_that_look_like_a_refusal_pass_unchanged() {
    let site = Site::start();
    let answer = site.ask("GET", "/bucket/impostor", &[]);
    assert_eq!((answer.status, answer.text()), (200, super::site::IMPOSTOR.repeat(1000)));
    // Also as what comes first on a connection that has been used before.
    let mut socket = site.connect();
    let keep = Request::new("GET", "/bucket/range").wire(site.addr).replace("connection: close\r\n", "");
    socket.write_all(keep.as_bytes()).unwrap();
    let mut first = vec![0; 4096];
    assert!(socket.read(&mut first).unwrap() > 0);
    socket.write_all(Request::new("GET", "/bucket/impostor").wire(site.addr).as_bytes()).unwrap();
    assert_eq!(read_answer(&mut socket).text(), super::site::IMPOSTOR.repeat(1000));
    // And a refusal on such a connection is one.
    let mut socket = site.connect();
    socket.write_all(keep.as_bytes()).unwrap();
    assert!(socket.read(&mut first).unwrap() > 0);
    std::thread::sleep(Duration::from_millis(50));
    socket.write_all(b"no head at all\r\n\r\n").unwrap();
    let answer = read_answer(&mut socket);
    assert_eq!((answer.status, answer.code()), (400, "BadRequest".to_owned()));
}

#[test]
fn ranges_that_mean_nothing_are_ignored_even_when_signed() {
    let site = Site::start();
    for (range, seen) in [
        ("bytes=0-5", "bytes=0-5"),
        ("bytes=-5", "bytes=-5"),
        ("bytes=0-1,3-4", "none"),
        ("bytes=5-4", "none"),
        ("bytes=-", "none"),
        ("items=0-5", "none"),
        ("nonsense", "none"),
    ] {
        let signed = site.ask("GET", "/bucket/range", &[("range", range)]);
        assert_eq!((signed.status, signed.text().as_str()), (200, seen), "{range}");
        let request = Request::new("GET", "/bucket/range").unsigned(&[("range", range)]).wire(site.addr);
        assert_eq!(site.exchange(request.as_bytes()).text(), seen, "{range}");
    }
}

#[test]
fn deletions_are_checked_before_they_are_done() {
    let site = Site::start();
    let body = br#"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>"#;
    let digest = |body: &[u8]| {
        use s3s::crypto::Checksum as _;
        data_encoding::BASE64.encode(s3s::crypto::Md5::checksum(body).as_ref())
    };
    let good = site.send("POST", "/bucket?delete", &[("content-md5", &digest(body))], body);
    assert_eq!(good.status, 200, "{}", good.text());
    assert!(good.text().contains("<Key>b</Key>"));
    // Slash before the query, as s3cmd sends it.
    assert_eq!(site.send("POST", "/bucket/?delete", &[], body).status, 200);
    let wrong = site.send("POST", "/bucket?delete", &[("content-md5", &digest(b"other"))], body);
    assert_eq!(wrong.code(), "BadDigest");
    let hash = "0".repeat(64);
    let wrong = site.send("POST", "/bucket?delete", &[("x-amz-content-sha256", &hash)], body);
    assert_eq!((wrong.status, wrong.code()), (400, "XAmzContentSHA256Mismatch".to_owned()));
    assert_eq!(site.send("POST", "/bucket?delete", &[], &vec![b' '; 5_000_000]).code(), "MaxMessageLengthExceeded");
    assert_eq!(site.send("POST", "/bucket?delete", &[], b"<Delete><Ob").code(), "MalformedXML");
    assert_eq!(*site.seen.deletes.lock().unwrap(), [2, 2]);
}

#[test]
fn who_is_let_in() {
    let site = Site::start();
    let code = |request: Request<'_>| site.exchange(request.wire(site.addr).as_bytes()).code();
    let base = || Request::new("GET", "/bucket/whole");
    assert_eq!(code(Request { key: ("NOBODYKNOWSTHIS00", "secret-secret"), ..base() }), "InvalidAccessKeyId");
    assert_eq!(code(Request { key: ("CLIENTACCESSKEY00", "another-secret"), ..base() }), "SignatureDoesNotMatch");
    assert_eq!(code(Request { region: "us-west-2", ..base() }), "AuthorizationHeaderMalformed");
    for minutes in [16, 60 * 24] {
        let away = Duration::from_secs(60 * minutes);
        assert_eq!(code(Request { time: SystemTime::now() - away, ..base() }), "RequestTimeTooSkewed");
        assert_eq!(code(Request { time: SystemTime::now() + away, ..base() }), "RequestTimeTooSkewed");
    }
    assert_eq!(code(base().headers(&[("x-amz-security-token", "token")])), "InvalidToken");
    assert_eq!(code(base().unsigned(&[("x-amz-copy-source", "/other/key")])), "AccessDenied");
    let v2 = format!(
        "GET /bucket/whole HTTP/1.1\r\nhost: h\r\nconnection: close\r\nauthorization: AWS {}:c2ln\r\n\r\n",
        "CLIENTACCESSKEY00"
    );
    assert_eq!(site.exchange(v2.as_bytes()).code(), "AccessDenied");
    let v2 = "GET /bucket/whole?AWSAccessKeyId=CLIENTACCESSKEY00&Signature=c2ln&Expires=9999999999 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    assert_eq!(site.exchange(v2.as_bytes()).code(), "AccessDenied");
    // The signature of one request does not open another.
    let moved = base().wire(site.addr).replace("/bucket/whole", "/bucket/other");
    assert_eq!(site.exchange(moved.as_bytes()).code(), "SignatureDoesNotMatch");
    let two = base().wire(site.addr).replace("connection: close", "connection: close\r\nauthorization: AWS4-HMAC-SHA256 x");
    assert_eq!(site.exchange(two.as_bytes()).status, 403);
}

#[test]
fn presigned_urls() {
    let site = Site::start();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let ask = |head: String| site.exchange(head.as_bytes());
    let get = || Request::new("GET", "/bucket/range?response-content-type=a%2Fb");
    assert_eq!(ask(get().presigned(site.addr, minutes(5))).status, 200);
    // Unusable ranges are ignored here, too.
    let ranged = get().unsigned(&[("range", "bytes=0-1,2-3")]).presigned(site.addr, minutes(5));
    assert_eq!(ask(ranged).text(), "none");
    let old = Request { time: SystemTime::now() - minutes(10), ..get() };
    let expired = ask(old.presigned(site.addr, minutes(5)));
    assert_eq!((expired.status, expired.code()), (403, "AccessDenied".to_owned()));
    assert!(expired.text().contains("Request has expired"));
    let eight_days = ask(get().presigned(site.addr, minutes(8 * 24 * 60)));
    assert_eq!((eight_days.status, eight_days.code()), (400, "AuthorizationQueryParametersError".to_owned()));
    let tampered = get().presigned(site.addr, minutes(5)).replace("a%2Fb", "a%2Fc");
    assert_eq!(ask(tampered).code(), "SignatureDoesNotMatch");
    let more = get().presigned(site.addr, minutes(5)).replace("X-Amz-Signature", "versionId=v&X-Amz-Signature");
    assert_eq!(ask(more).code(), "SignatureDoesNotMatch");
    let unsigned = get().unsigned(&[("x-amz-copy-source", "/b/k")]).presigned(site.addr, minutes(5));
    assert_eq!(ask(unsigned).code(), "AccessDenied");
    let token = Request::new("GET", "/bucket/range?X-Amz-Security-Token=t").presigned(site.addr, minutes(5));
    assert_eq!(ask(token).code(), "InvalidToken");

    // S3 takes headers from the query of a presigned URL, and so does the sealed way.
    let put = |target| {
        let head = Request::new("PUT", target).unsigned(&[("content-length", "5")]).presigned(site.addr, minutes(5));
        site.exchange(&[head.as_bytes(), b"hello"].concat())
    };
    let lifted = put("/bucket/key?x-amz-acl=private&x-amz-meta-colour=red");
    assert_eq!((lifted.status, lifted.header("x-amz-server-side-encryption-aws-kms-key-id")), (200, Some("private red")));
    assert_eq!(*site.seen.uploads.lock().unwrap(), [Ok(5)]);
    assert_eq!(put("/bucket/key?x-amz-copy-source=b%2Fk").code(), "InvalidArgument");
    assert_eq!(put("/bucket/key?x-amz-meta-ciphergate=cg1").code(), "InvalidArgument");
    assert_eq!(put("/bucket/key?x-amz-acl=a%0Ab").code(), "InvalidArgument");
    assert_eq!(site.seen.uploads.lock().unwrap().len(), 1);
}

#[test]
fn refusals_come_after_the_proof() {
    let site = Site::start();
    for (method, target, code) in [
        ("DELETE", "/bucket?unheard-of", "InvalidArgument"),
        ("DELETE", "/bucket?versioning", "MethodNotAllowed"),
        ("GET", "/bucket/key?torrent", "NotImplemented"),
        ("GET", "/bucket/.ciphergate/x", "AccessDenied"),
        ("PUT", "/bucket/.ciphergate/x?tagging", "AccessDenied"),
        ("DELETE", "/bucket/.ciphergate/x%20y", "AccessDenied"),
        ("GET", "/bucket?versions", "NotImplemented"),
        ("GET", "/bucket/whole?x-amz-acl=private", "InvalidArgument"),
        ("GET", "/bucket?prefix=a&prefix=b", "InvalidArgument"),
    ] {
        assert_eq!(site.ask(method, target, &[]).code(), code, "{method} {target}");
        let anonymous = format!("{method} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        assert_eq!(site.exchange(anonymous.as_bytes()).code(), "AccessDenied", "{method} {target}");
    }
    let reserved = [("x-amz-meta-ciphergate", "cg1")];
    assert_eq!(site.send("PUT", "/bucket/key", &reserved, b"hello").code(), "InvalidArgument");
    assert!(site.seen.uploads.lock().unwrap().is_empty());
}

#[test]
fn a_stop_lets_running_transfers_end_and_closes_idle_connections() {
    let mut site = Site::start();
    let mut idle = site.connect();
    let mut upload = site.connect();
    let keep = Request::new("GET", "/bucket/missing").wire(site.addr).replace("connection: close\r\n", "");
    idle.write_all(keep.as_bytes()).unwrap();
    assert!(idle.read(&mut [0; 4096]).unwrap() > 0);
    let head = Request::new("PUT", "/bucket/key").unsigned(&[("content-length", "10")]).wire(site.addr);
    upload.write_all(head.as_bytes()).unwrap();
    upload.write_all(b"01234").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let stopping = site.stop.stop(true);
    let thread = site.thread.take().unwrap();
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0, "an idle connection is closed");
    until("no new connections", || std::net::TcpStream::connect(site.addr).is_err());
    upload.write_all(b"56789").unwrap();
    assert_eq!(read_answer(&mut upload).status, 200);
    thread.join().unwrap();
    drop(stopping);
    assert_eq!(*site.seen.uploads.lock().unwrap(), [Ok(10)]);
}
