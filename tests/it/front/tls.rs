//! HTTPS: which versions and protocols are spoken, and that a broken body stays one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use ciphergate::http::tls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::site::{ANNOUNCED, Answer, Request, Site, parse_answer};

/// An HTTPS front, and the certificate that a client has to trust.
fn start() -> (Site, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let site = Site::secure(tls::server(&certificate, &key).unwrap());
    (site, CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap())
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect(
    site: &Site,
    trusted: Option<&CertificateDer<'static>>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> std::io::Result<Connection> {
    let mut roots = RootCertStore::empty();
    if let Some(trusted) = trusted {
        roots.add(trusted.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut socket = site.connect();
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(client, socket))
}

fn ask(mut stream: Connection, request: &[u8]) -> Answer {
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    // An end without notice is an error here, and for a broken body the right one.
    let _ = stream.read_to_end(&mut bytes);
    parse_answer(&bytes)
}

#[test]
fn both_versions_serve() {
    let (site, trusted) = start();
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let open = || connect(&site, Some(&trusted), &[version], &[]).unwrap();
        let stream = open();
        assert_eq!(stream.conn.protocol_version(), Some(name));
        let answer = ask(stream, Request::new("GET", "/bucket/whole").wire(site.addr).as_bytes());
        assert_eq!((answer.status, answer.body.len()), (200, ANNOUNCED));

        let head = Request::new("PUT", "/bucket/key").unsigned(&[("content-length", "1000000")]).wire(site.addr);
        assert_eq!(ask(open(), &[head.as_bytes(), &[b'x'; 1_000_000]].concat()).status, 200);
        assert_eq!(site.seen.uploads.lock().unwrap().pop(), Some(Ok(1_000_000)));

        let answer = ask(open(), Request::new("GET", "/bucket/fails").wire(site.addr).as_bytes());
        assert_eq!(answer.header("content-length"), Some("1000000"));
        assert!(answer.body.len() < ANNOUNCED);
    }
    let stream = connect(&site, Some(&trusted), &[&TLS13, &TLS12], &[]).unwrap();
    assert_eq!(stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3), "the newer one is preferred");
}

/// Like S3 itself, the front speaks HTTP/1.1. A client that speaks nothing else than HTTP/2 finds out in the handshake.
#[test]
fn the_protocol_is_agreed_on() {
    let (site, trusted) = start();
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let stream = connect(&site, Some(&trusted), &[&TLS13, &TLS12], protocols).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]), "{protocols:?}");
        assert_eq!(ask(stream, Request::new("GET", "/bucket/whole").wire(site.addr).as_bytes()).status, 200);
    }
    for version in [&TLS12, &TLS13] {
        assert!(connect(&site, Some(&trusted), &[version], &["h2"]).is_err());
    }
}

#[test]
fn strangers_and_plain_text_are_turned_away() {
    let (site, trusted) = start();
    assert!(connect(&site, None, &[&TLS13], &[]).is_err(), "an unknown authority");
    let mut socket = site.connect();
    socket.write_all(Request::new("GET", "/bucket/whole").wire(site.addr).as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP/"), "plain text is not answered");
    assert!(connect(&site, Some(&trusted), &[&TLS13], &[]).is_ok());
}
