//! The listener: HTTP/1.1 on loopback, on threads of its own.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, EXPECT, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::Body;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::gate::Clients;
use super::routes::Routes;
use super::s3::Front;
use super::subresources::DOCUMENT_MAX;
use super::{Error, Store};

/// Threads that run connections; blocking work has others.
const WORKERS: usize = 2;

/// Threads for files and the index.
const BLOCKING_MAX: usize = 64;

/// How long transfers may run on after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes of a connection's read and write buffers.
const BUFFER: usize = 256 * 1024;

/// How much of a refused upload is read and thrown away, and for how long, so that the client gets to read why it was refused.
const DRAIN_MAX: u64 = 64 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// How a server ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// No new requests; those under way end.
    Gracefully,
    /// Everything is cut.
    Now,
}

/// A store that is being served. Dropping it cuts all connections; [`Running::shutdown`] lets transfers end first.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    stop: watch::Sender<Stop>,
    thread: Option<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::No => "running",
            Self::Gracefully => "stopping",
            Self::Now => "stopped",
        })
    }
}

/// Serves a store on `listen`, which must be a loopback address (port 0 picks one), to clients with one of these pairs of access
/// key and secret key. The server runs on threads of its own, so this can be called with or without a runtime around it.
///
/// # Errors
/// [`Error::NotLoopback`], [`Error::NoCredentials`], [`Error::Listen`] and [`Error::Start`].
pub fn serve(store: Arc<Store>, listen: SocketAddr, credentials: Vec<(String, String)>) -> Result<Running, Error> {
    if !listen.ip().is_loopback() {
        return Err(Error::NotLoopback(listen));
    }
    if credentials.is_empty() {
        return Err(Error::NoCredentials);
    }
    let listener = StdListener::bind(listen).map_err(|source| Error::Listen { addr: listen, source })?;
    listener.set_nonblocking(true).map_err(Error::Start)?;
    let addr = listener.local_addr().map_err(Error::Start)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let (stop, stopping) = watch::channel(Stop::No);
    let service = service(store, credentials);
    // The runtime lives and dies on a thread of its own: a runtime must not be dropped inside another one.
    let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
        runtime.block_on(accept(listener, service, stopping));
        runtime.shutdown_timeout(Duration::from_secs(2));
    });
    Ok(Running { addr, stop, thread: Some(thread.map_err(Error::Start)?) })
}

impl Running {
    /// The address the store listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests, lets those under way end for at most 10 seconds, and returns when the server is gone. Blocks: call
    /// it from a thread that may wait.
    pub fn shutdown(mut self) {
        self.stop.send_replace(Stop::Gracefully);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the server of the store ended in a panic");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop.send_replace(Stop::Now);
            self.join();
        }
    }
}

fn service(store: Arc<Store>, credentials: Vec<(String, String)>) -> S3Service {
    let front = Front(store);
    let mut config = S3Config::default();
    // A signed chunk is held in memory until its signature is checked; clients use 64 KiB to 1 MiB.
    config.aws_chunked_stream_max_chunk_size = 8 * 1024 * 1024;
    // The largest body that a route of its own takes is a document.
    config.custom_route_max_body_size = Some(DOCUMENT_MAX as u64);
    let mut builder = S3ServiceBuilder::new(front.clone());
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(Clients::new(credentials));
    builder.set_access(front.clone());
    builder.set_route(Routes::new(&front));
    builder.build()
}

async fn accept(listener: StdListener, service: S3Service, mut stopping: watch::Receiver<Stop>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the listener of the store failed"),
    };
    let requests = Arc::new(AtomicU64::new(random()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, service.clone(), Arc::clone(&requests), stopping.clone());
                    connections.spawn(connection);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: waiting is all that helps.
                    tracing::warn!(%error, "a connection to the store could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = all_ended => {}
        () = tokio::time::sleep(GRACE) => tracing::warn!("transfers were cut when the store stopped"),
        () = until(&mut stopping, |stop| stop == Stop::Now) => {}
    }
}

/// Waits for a stage of the shutdown; a [`Running`] that is gone counts as every stage.
async fn until(stopping: &mut watch::Receiver<Stop>, reached: impl Fn(Stop) -> bool) {
    let _ = stopping.wait_for(|stop| reached(*stop)).await;
}

async fn connection(stream: TcpStream, service: S3Service, requests: Arc<AtomicU64>, mut stopping: watch::Receiver<Stop>) {
    // Without this, a small answer waits for the acknowledgement of its headers.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let answer = service_fn(|request| answer(&service, &requests, request));
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = until(&mut stopping, |stop| stop != Stop::No) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection to the store broke");
    }
}

/// One request: an id on the answer, the status of a partial HEAD, and the rest of a refused upload.
async fn answer(service: &S3Service, requests: &AtomicU64, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let id = format!("{:016X}", requests.fetch_add(1, Ordering::Relaxed));
    tracing::debug!(
        request_id = id,
        client_request_id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()),
        method = %request.method(),
        path = request.uri().path(),
        "store request"
    );
    let head = request.method() == Method::HEAD;
    // Reading on would ask a client to send what it holds back until it is told to continue.
    let may_drain = !request.headers().contains_key(EXPECT);
    let unread = Unread::default();
    let mut request = request;
    if request.body().is_end_stream() {
        // The protocol library asks some requests without a body for its length.
        request.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    let request = request.map(|body| {
        if body.is_end_stream() { Body::empty() } else { Body::http_body(Upload { body: Some(body), unread: unread.clone() }) }
    });
    let mut response = match service.call(request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(request_id = id, %error, "a request to the store failed");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    };
    if may_drain && let Some(body) = unread.take() {
        tokio::spawn(drain(body));
    }
    if head && response.status() == StatusCode::OK && response.headers().contains_key(CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-amz-request-id", id);
    }
    Ok(response)
}

async fn drain(mut body: Incoming) {
    let read = async {
        let mut left = DRAIN_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Either way the connection is fine or closed afterwards.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

/// Where an upload leaves its body when it is dropped before its end.
#[derive(Clone, Default)]
struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The body of a request.
struct Upload {
    body: Option<Incoming>,
    unread: Unread,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.unread.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

/// Where request ids start, so that those of two runs differ.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[test]
    fn what_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let pair = || vec![("key".to_owned(), "secret".to_owned())];
        let anywhere = "0.0.0.0:0".parse().unwrap();
        assert!(matches!(serve(Arc::clone(&store), anywhere, pair()), Err(Error::NotLoopback(_))));
        let loopback = "127.0.0.1:0".parse().unwrap();
        assert!(matches!(serve(Arc::clone(&store), loopback, Vec::new()), Err(Error::NoCredentials)));
        let running = serve(Arc::clone(&store), loopback, pair()).unwrap();
        assert!(matches!(serve(Arc::clone(&store), running.addr(), pair()), Err(Error::Listen { .. })));
        running.shutdown();
        assert_eq!(Arc::strong_count(&store), 1);
    }
}
