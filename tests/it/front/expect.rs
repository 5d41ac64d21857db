//! Clients that wait for `100 Continue` before they send the body.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::site::{Request, Site, parse_answer, read_answer};

const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn begin(site: &Site, request: Request<'_>) -> TcpStream {
    let mut socket = site.connect();
    let head = request.unsigned(&[("content-length", "5"), ("expect", "100-continue")]).wire(site.addr);
    socket.write_all(head.as_bytes()).unwrap();
    socket
}

#[test]
fn who_is_accepted_is_told_to_go_on() {
    let site = Site::start();
    let mut socket = begin(&site, Request::new("PUT", "/bucket/key"));
    let mut told = vec![0; GO_ON.len()];
    socket.read_exact(&mut told).unwrap();
    assert_eq!(told, GO_ON);
    assert!(site.seen.uploads.lock().unwrap().is_empty());
    socket.write_all(b"hello").unwrap();
    assert_eq!(read_answer(&mut socket).status, 200);
    assert_eq!(*site.seen.uploads.lock().unwrap(), [Ok(5)]);
    // One that does not wait after all.
    let mut socket = begin(&site, Request::new("PUT", "/bucket/key"));
    socket.write_all(b"hello").unwrap();
    let mut all = Vec::new();
    let _ = socket.read_to_end(&mut all);
    assert_eq!(parse_answer(all.strip_prefix(GO_ON).unwrap()).status, 200);
}

#[test]
fn who_is_refused_is_not() {
    let site = Site::start();
    let code = |request| read_answer(&mut begin(&site, request)).code();
    let base = || Request::new("PUT", "/bucket/key");
    assert_eq!(code(Request { key: ("CLIENTACCESSKEY00", "another-secret"), ..base() }), "SignatureDoesNotMatch");
    assert_eq!(code(Request { key: ("NOBODYKNOWSTHIS00", "secret-secret"), ..base() }), "InvalidAccessKeyId");
    assert_eq!(code(base().unsigned(&[("x-amz-copy-source", "/b/k")])), "AccessDenied");
    assert_eq!(code(base().headers(&[("x-amz-meta-ciphergate", "cg1")])), "InvalidArgument");
    assert_eq!(code(Request::new("PUT", "/bucket/key?unheard-of")), "InvalidArgument");
    assert_eq!(code(Request::new("PUT", "/B/key")), "InvalidBucketName");
    assert_eq!(code(Request::new("PATCH", "/bucket/key")), "MethodNotAllowed");
    let mut anonymous = site.connect();
    anonymous
        .write_all(
            b"PUT /bucket/key HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    assert_eq!(read_answer(&mut anonymous).code(), "AccessDenied");
    assert!(site.seen.uploads.lock().unwrap().is_empty());
}

/// Also when it is refused: botocore reuses the connection of a request without a body and cannot read an answer after one that came
/// in place of the 100.
#[test]
fn a_request_without_a_body_is_told_at_once() {
    let site = Site::start();
    for (request, status) in [
        (Request::new("GET", "/bucket/range"), 200),
        (Request::new("PUT", "/bucket/key").unsigned(&[("content-length", "0")]), 200),
        (Request::new("GET", "/bucket/missing"), 404),
    ] {
        let mut socket = site.connect();
        socket.write_all(request.unsigned(&[("expect", "100-continue")]).wire(site.addr).as_bytes()).unwrap();
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all);
        assert_eq!(parse_answer(all.strip_prefix(GO_ON).unwrap()).status, status);
    }
}

#[test]
fn who_goes_away_instead_frees_what_worked_for_it() {
    let site = Site::start();
    for how in [Shutdown::Both, Shutdown::Write] {
        let socket = begin(&site, Request::new("PUT", "/bucket/hang"));
        site.seen.until_waiting(1);
        socket.shutdown(how).unwrap();
        site.seen.until_waiting(0);
    }
    // After it was told.
    let mut socket = begin(&site, Request::new("PUT", "/bucket/key"));
    socket.read_exact(&mut vec![0; GO_ON.len()]).unwrap();
    socket.write_all(b"he").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    drop(socket);
    std::thread::sleep(Duration::from_millis(50));
    assert!(site.seen.uploads.lock().unwrap().iter().all(Result::is_err));
}
