//! A front in this process: its own listener and workers, operations that misbehave on demand, a store that proves signatures.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use bytes::Bytes;
use ciphergate::auth::{Identities, Identity};
use ciphergate::backend::forward::{ForwardSettings, Forwarder};
use ciphergate::http::cross_origin::CorsCache;
use ciphergate::http::front::{FrontParts, s3_service};
use ciphergate::http::hosts::Hosts;
use ciphergate::http::server::{Listener, ServerSettings, serve_s3};
use ciphergate::http::tls;
use ciphergate::ops::{Error, refusal_of, verify_document};
use futures::{StreamExt as _, stream};
use s3s::auth::SimpleAuth;
use s3s::dto::{
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    PutObjectInput, PutObjectOutput, StreamingBlob,
};
use s3s::route::S3Route;
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use zeroize::Zeroizing;

pub const CLIENT: (&str, &str) = ("CLIENTACCESSKEY00", "client-secret-key-0123456789");
pub const AT_STORE: (&str, &str) = ("STOREACCESSKEY000", "store-secret-key-0123456789");
/// Content that looks like an answer of the HTTP library's own.
pub const IMPOSTOR: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// Its subdomains are buckets.
pub const DOMAIN: &str = "s3.example.test";
/// Length that the broken answers announce.
pub const ANNOUNCED: usize = 1_000_000;

/// What the operations saw.
#[derive(Default)]
pub struct Seen {
    /// How uploads ended: their length, or the error of the body.
    pub uploads: Mutex<Vec<Result<usize, String>>>,
    /// Operations and bodies that wait for something which never comes.
    pub waiting: AtomicUsize,
    pub deletes: Mutex<Vec<usize>>,
}

impl Seen {
    /// Waits until so many are waiting.
    pub fn until_waiting(&self, count: usize) {
        until("operations that wait", || self.waiting.load(Ordering::SeqCst) == count);
    }
}

/// Waits a few seconds for something to become true.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Counted while it lives.
struct Waiting(Arc<Seen>);

impl Waiting {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.waiting.fetch_add(1, Ordering::SeqCst);
        Self(seen.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Ops(Arc<Seen>);

type Piece = Result<Bytes, std::io::Error>;

fn pieces(count: usize) -> impl futures::Stream<Item = Piece> + Send + Sync {
    stream::iter((0..count).map(|_| Ok(Bytes::from(vec![b'x'; 10_000]))))
}

#[async_trait::async_trait]
impl S3 for Ops {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut body = req.input.body.ok_or(S3ErrorCode::MissingContentLength)?;
        if req.input.key == "hang" {
            let _waiting = Waiting::new(&self.0);
            return std::future::pending().await;
        }
        if req.input.key == "verified" {
            let mut whole = Vec::new();
            let outcome = async {
                while let Some(piece) = body.next().await {
                    whole
                        .extend_from_slice(&piece.map_err(|err| refusal_of(&*err).unwrap_or(S3ErrorCode::InternalError.into()))?);
                }
                verify_document(&req.headers, req.trailing_headers, &whole).map_err(Error::into_s3)
            };
            let outcome = outcome.await.map(|_| whole.len());
            let told = outcome.as_ref().map(|len| *len).map_err(|refusal| refusal.code().as_str().to_owned());
            self.0.uploads.lock().unwrap().push(told);
            return outcome.map(|_| S3Response::new(PutObjectOutput::default()));
        }
        let mut len = 0;
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => len += piece.len(),
                Err(err) => {
                    self.0.uploads.lock().unwrap().push(Err(err.to_string()));
                    // As an operation does that knows nothing of the causes.
                    return Err(S3Error::new(S3ErrorCode::InternalError));
                }
            }
        }
        self.0.uploads.lock().unwrap().push(Ok(len));
        // Which headers arrived is told by an answer's header that takes any text.
        let acl = req.input.acl.map(|acl| acl.as_str().to_owned());
        let colour = req.input.metadata.and_then(|mut metadata| metadata.remove("colour"));
        let told = [acl, colour].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let output = PutObjectOutput { ssekms_key_id: (!told.is_empty()).then_some(told), ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let failing = |error| stream::once(async move { Err(std::io::Error::other(error)) });
        let answer = |body, announced: Option<usize>| {
            let content_length = announced.map(|length| length as i64);
            Ok(S3Response::new(GetObjectOutput { body: Some(body), content_length, ..Default::default() }))
        };
        match req.input.key.as_str() {
            "whole" => answer(StreamingBlob::wrap(pieces(100)), Some(ANNOUNCED)),
            "chunked" => answer(StreamingBlob::wrap(pieces(100)), None),
            "impostor" => answer(
                StreamingBlob::wrap(stream::iter((0..1000).map(|_| Ok::<_, std::io::Error>(Bytes::from(IMPOSTOR))))),
                Some(IMPOSTOR.len() * 1000),
            ),
            "fails" => answer(StreamingBlob::wrap(pieces(50).chain(failing("secret cause"))), Some(ANNOUNCED)),
            "fails-chunked" => answer(StreamingBlob::wrap(pieces(50).chain(failing("secret cause"))), None),
            "short" => answer(StreamingBlob::wrap(pieces(50)), Some(ANNOUNCED)),
            "long" => answer(StreamingBlob::wrap(pieces(101)), Some(ANNOUNCED)),
            "panics-chunked" => {
                let panics = stream::once(async { panic!("in a body") });
                answer(StreamingBlob::wrap(pieces(50).chain(panics)), None)
            }
            "panics" => panic!("in an operation"),
            "hang" => {
                let _waiting = Waiting::new(&self.0);
                std::future::pending().await
            }
            "hang-body" => {
                let waiting = Waiting::new(&self.0);
                let body = pieces(3).chain(stream::once(async move {
                    let _waiting = waiting;
                    std::future::pending::<Piece>().await
                }));
                answer(StreamingBlob::wrap(body), Some(ANNOUNCED))
            }
            "endless" => {
                let waiting = Waiting::new(&self.0);
                let body = stream::iter(std::iter::repeat_with(move || {
                    let _alive = &waiting;
                    Ok::<_, std::io::Error>(Bytes::from_static(&[b'z'; 65_536]))
                }));
                answer(StreamingBlob::wrap(body), Some(1 << 40))
            }
            "unmodified" => {
                let mut error = S3Error::new(S3ErrorCode::NotModified);
                error.set_headers([(http::header::ETAG, "\"tag\"".parse().unwrap())].into_iter().collect());
                Err(error)
            }
            "failed-condition" => {
                let mut error = S3Error::new(S3ErrorCode::PreconditionFailed);
                error.set_headers([(http::header::ETAG, "\"tag\"".parse().unwrap())].into_iter().collect());
                Err(error)
            }
            "range" => {
                let text = req.input.range.map_or_else(|| "none".to_owned(), |range| range.to_header_string());
                answer(StreamingBlob::from_bytes(text.clone().into()), Some(text.len()))
            }
            _ => Err(S3Error::new(S3ErrorCode::NoSuchKey)),
        }
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        if req.input.key != "whole" {
            return Err(S3Error::new(S3ErrorCode::NoSuchKey));
        }
        let content_range = req.input.range.map(|_| "bytes 0-9/1000000".to_owned());
        let content_length = Some(if content_range.is_some() { 10 } else { ANNOUNCED as i64 });
        Ok(S3Response::new(HeadObjectOutput { content_length, content_range, ..Default::default() }))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let objects = req.input.delete.objects;
        self.0.deletes.lock().unwrap().push(objects.len());
        let deleted = objects.into_iter().map(|object| DeletedObject { key: Some(object.key), ..Default::default() }).collect();
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), ..Default::default() }))
    }
}

/// A front that listens.
pub struct Site {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
    pub stop: actix_web::dev::ServerHandle,
    pub thread: Option<std::thread::JoinHandle<()>>,
}

impl Site {
    pub fn start() -> Self {
        Self::over(&ForwardSettings::new("http://127.0.0.1:9", "us-east-1", true).unwrap(), |_| {})
    }

    pub fn over(forward: &ForwardSettings, adjust: impl FnOnce(&mut ServerSettings)) -> Self {
        Self::listening(forward, adjust, None)
    }

    /// With nothing behind it, over HTTPS.
    pub fn secure(certificate: rustls::ServerConfig) -> Self {
        let forward = ForwardSettings::new("http://127.0.0.1:9", "us-east-1", true).unwrap();
        Self::listening(&forward, |_| {}, Some(certificate))
    }

    fn listening(
        forward: &ForwardSettings,
        adjust: impl FnOnce(&mut ServerSettings),
        certificate: Option<rustls::ServerConfig>,
    ) -> Self {
        let mut settings = ServerSettings { workers: Some(2), shutdown_timeout: Duration::from_secs(5), ..Default::default() };
        adjust(&mut settings);
        let forward = Arc::new(forward.clone());
        let seen = Arc::new(Seen::default());
        let secret = Zeroizing::new(CLIENT.1.to_owned());
        let identities = Identities::new([Identity::new(CLIENT.0.into(), secret, Some("test".into()))]).unwrap();
        let ops = Ops(seen.clone());
        let (hosts, cors) = (Hosts::new(&[DOMAIN]).unwrap(), CorsCache::default());
        let (tx, rx) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
                let addr = listener.address().unwrap();
                let tls = tls::client(None).unwrap();
                let running = serve_s3(listener, &settings, move || {
                    let store = Credentials::new(AT_STORE.0, AT_STORE.1, None, None, "test");
                    s3_service(FrontParts {
                        ops: ops.clone(),
                        identities: identities.clone(),
                        forwarder: Forwarder::new(forward.clone(), SharedCredentialsProvider::new(store), tls.clone()),
                        access: Arc::default(),
                        region: Some(s3s::region::Region::new("us-east-1".into()).unwrap()),
                        put_max: 10_000_000,
                        state: ciphergate::ops::StatePlace::default(),
                        hosts: hosts.clone(),
                        cors: cors.clone(),
                    })
                })
                .unwrap();
                tx.send((addr, running.handle())).unwrap();
                running.wait().await.unwrap();
            });
        });
        let (addr, stop) = rx.recv().unwrap();
        Self { addr, seen, stop, thread: Some(thread) }
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// Sends bytes and reads until the connection ends.
    pub fn exchange(&self, bytes: &[u8]) -> Answer {
        let mut socket = self.connect();
        // The front may answer and close before everything is written.
        let _ = socket.write_all(bytes);
        read_answer(&mut socket)
    }

    /// A signed request without a body.
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.exchange(Request::new(method, target).headers(headers).wire(self.addr).as_bytes())
    }

    /// A signed request with a body.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let head = Request::new(method, target).headers(headers).unsigned(&[("content-length", &length)]).wire(self.addr);
        self.exchange(&[head.as_bytes(), body].concat())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.stop.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What came back on a connection, up to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// As on the wire: with the framing of chunks.
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The error code, after checking that the answer names the request in both places.
    pub fn code(&self) -> String {
        let id = self.header("x-amz-request-id").unwrap_or_else(|| panic!("no request id: {self:?}"));
        assert_eq!(id.len(), 16);
        assert!(self.text().contains(&format!("<RequestId>{id}</RequestId>")), "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/xml"));
        let text = self.text();
        text.split_once("<Code>").unwrap().1.split_once("</Code>").unwrap().0.to_owned()
    }
}

pub fn read_answer(socket: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                bytes.extend_from_slice(&buffer[..n]);
                // After a refusal the front waits a while for what is left of the request, and we need not wait with it.
                if bytes.starts_with(b"HTTP/1.1 4") && bytes.ends_with(b"</Error>") {
                    break;
                }
            }
            Err(err) if matches!(err.kind(), std::io::ErrorKind::WouldBlock) => {
                panic!("no end: {}", String::from_utf8_lossy(&bytes))
            }
            Err(_) => break,
        }
    }
    parse_answer(&bytes)
}

pub fn parse_answer(bytes: &[u8]) -> Answer {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(bytes));
        return Answer { status: 0, headers: vec![], body: vec![] };
    };
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}

/// A request that gets signed.
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
    pub unsigned: Vec<(&'a str, &'a str)>,
    pub key: (&'a str, &'a str),
    pub region: &'a str,
    pub time: SystemTime,
    pub version: &'a str,
    /// Another host than the address.
    pub host: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Self {
            method,
            target,
            headers: vec![],
            unsigned: vec![],
            key: CLIENT,
            region: "us-east-1",
            time: SystemTime::now(),
            version: "HTTP/1.1",
            host: None,
        }
    }

    pub fn headers(mut self, headers: &[(&'a str, &'a str)]) -> Self {
        self.headers.extend_from_slice(headers);
        self
    }

    pub fn unsigned(mut self, headers: &[(&'a str, &'a str)]) -> Self {
        self.unsigned.extend_from_slice(headers);
        self
    }

    /// The same with the signature in the query, valid for so long.
    pub fn presigned(self, addr: SocketAddr, valid: Duration) -> String {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(valid);
        let identity = Credentials::new(self.key.0, self.key.1, None, None, "test").into();
        let params = aws_sigv4::sign::v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name("s3")
            .time(self.time)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let host = self.host.map_or_else(|| addr.to_string(), str::to_owned);
        let uri = format!("http://{host}{}", self.target);
        let signable = SignableRequest::new(self.method, &uri, std::iter::empty(), SignableBody::UnsignedPayload).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let mut request = http::Request::builder().uri(uri).body(()).unwrap();
        instructions.apply_to_request_http1x(&mut request);
        let target = request.uri().path_and_query().unwrap();
        let mut head = format!("{} {target} {}\r\nhost: {host}\r\nconnection: close\r\n", self.method, self.version);
        for (name, value) in self.unsigned {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }

    /// The head as it goes over the wire; the connection is to close after it.
    pub fn wire(self, addr: SocketAddr) -> String {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = Credentials::new(self.key.0, self.key.1, None, None, "test").into();
        let params = aws_sigv4::sign::v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name("s3")
            .time(self.time)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let declared = self.headers.iter().find(|(name, _)| *name == "x-amz-content-sha256").map(|(_, value)| *value);
        let body = declared.map_or(SignableBody::UnsignedPayload, |value| SignableBody::Precomputed(value.to_owned()));
        let host = self.host.map_or_else(|| addr.to_string(), str::to_owned);
        let uri = format!("http://{host}{}", self.target);
        let headers = self.headers.iter().filter(|(name, _)| *name != "x-amz-content-sha256").copied();
        let signable = SignableRequest::new(self.method, uri, headers, body).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let mut head = format!("{} {} {}\r\nhost: {host}\r\nconnection: close\r\n", self.method, self.target, self.version);
        let given = self.headers.iter().filter(|(name, _)| *name != "x-amz-content-sha256").copied();
        for (name, value) in given.chain(instructions.headers()).chain(self.unsigned) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

/// What a store got.
#[derive(Debug, Clone)]
pub struct Got {
    pub method: String,
    pub target: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

type Script = dyn Fn(&Got) -> http::Response<Bytes> + Send + Sync;

/// A store that proves every signature and answers as told.
pub struct Backend {
    pub addr: SocketAddr,
    pub got: Arc<Mutex<Vec<Got>>>,
}

struct Echo {
    got: Arc<Mutex<Vec<Got>>>,
    script: Box<Script>,
}

#[async_trait::async_trait]
impl S3Route for Echo {
    fn is_match(&self, _: &http::Method, _: &http::Uri, _: &http::HeaderMap, _: &mut http::Extensions) -> bool {
        true
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let body =
            req.input.store_all_limited(1 << 20).await.map_err(|err| S3Error::with_source(S3ErrorCode::InternalError, err))?;
        let target = req.uri.path_and_query().unwrap().as_str().to_owned();
        let got = Got { method: req.method.to_string(), target, headers: req.headers, body };
        let answer = (self.script)(&got);
        self.got.lock().unwrap().push(got);
        let (parts, body) = answer.into_parts();
        let mut response = S3Response::with_headers(Body::from(body), parts.headers);
        response.status = Some(parts.status);
        Ok(response)
    }
}

impl Backend {
    pub fn start(script: impl Fn(&Got) -> http::Response<Bytes> + Send + Sync + 'static) -> Self {
        Self::start_with(AT_STORE, script)
    }

    pub fn start_with(key: (&str, &str), script: impl Fn(&Got) -> http::Response<Bytes> + Send + Sync + 'static) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        struct Nothing;
        impl S3 for Nothing {}
        let mut builder = S3ServiceBuilder::new(Nothing);
        builder.set_auth(SimpleAuth::from_single(key.0, key.1));
        builder.set_route(Echo { got: got.clone(), script: Box::new(script) });
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let service = service.clone();
                    let io = hyper_util::rt::TokioIo::new(socket);
                    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
                }
            });
        });
        Self { addr, got }
    }

    pub fn settings(&self) -> ForwardSettings {
        ForwardSettings::new(&format!("http://{}", self.addr), "eu-west-3", true).unwrap()
    }

    pub fn last(&self) -> Got {
        self.got.lock().unwrap().last().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}
