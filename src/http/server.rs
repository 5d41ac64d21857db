//! The listeners: one for S3, one for health and metrics, and how they start and stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, Request};
use actix_service::{ServiceFactory, ServiceFactoryExt as _, map_config};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::dev::{AppConfig, Server, ServerHandle, ServiceResponse, fn_service};
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpResponse, HttpServer, web};

use super::bridge::{Wire, expect, handle};
use super::edge::Edge;
use super::front::Service;

/// Answers are copied once, into a buffer of this many bytes per connection, before they are written.
const WRITE_BUFFER: usize = 128 * 1024;

/// Limits of the server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// `None`: one worker for each processor.
    pub workers: Option<usize>,
    pub keep_alive: Duration,
    pub request_header_timeout: Duration,
    /// How long a body may stand still: a request's because nothing comes, an answer's because the client takes nothing.
    pub idle_body_timeout: Duration,
    /// How long running transfers may go on after a stop was asked for.
    pub shutdown_timeout: Duration,
    /// Over all workers.
    pub connections_max: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            workers: None,
            keep_alive: Duration::from_secs(75),
            request_header_timeout: Duration::from_secs(10),
            idle_body_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(60),
            connections_max: 4096,
        }
    }
}

/// Whether this instance wants requests. Cheap to ask: what it depends on was found out elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that requests are welcome, or no longer.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A listener that is bound but does not answer yet.
pub struct Listener {
    socket: TcpListener,
    tls: Option<rustls::ServerConfig>,
}

impl Listener {
    /// Takes the address. Errors: it is in use, or may not be used.
    pub fn bind(address: SocketAddr, tls: Option<rustls::ServerConfig>) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tls })
    }

    /// Where it listens, with the port that was chosen.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// A running server.
pub struct Running {
    server: actix_web::dev::Server,
}

impl Running {
    /// For stopping it from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// Waits until it has stopped.
    pub async fn wait(self) -> io::Result<()> {
        self.server.await
    }
}

/// Ends connections whose client takes nothing of an answer for so long. actix-web has no such limit, and a body is not even asked
/// for more while its connection is full, so it is the kernel that has to notice; the connections that a listener accepts inherit
/// the limit from it. Only Linux has it.
fn limit_unread(socket: &TcpListener, idle: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(socket, u32::try_from(idle.as_millis()).unwrap_or(u32::MAX))?;
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, idle);
    Ok(())
}

/// Serves S3. `service` is called once in every worker, so that what it makes belongs to that worker.
///
/// The parts that `HttpServer` would put together are put together here, because it leaves no place for judging a request before
/// its client is told to send the body.
pub fn serve_s3(
    listener: Listener,
    settings: &ServerSettings,
    service: impl Fn() -> Service + Send + Clone + 'static,
) -> io::Result<Running> {
    limit_unread(&listener.socket, settings.idle_body_timeout)?;
    let workers = settings.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(settings.connections_max.div_ceil(workers))
        .shutdown_timeout(settings.shutdown_timeout.as_secs())
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let address = listener.address()?;
    let settings = settings.clone();
    let wire = Wire { body_idle: settings.idle_body_timeout, scheme: if listener.is_tls() { "https" } else { "http" } };
    // A macro, because the two kinds of connection are of different types.
    macro_rules! connections {
        ($io:ty) => {{
            let (stopping, service) = (stopping.clone(), web::Data::new(service()));
            let expected = service.clone();
            HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .keep_alive(settings.keep_alive)
                .client_request_timeout(settings.request_header_timeout)
                .client_disconnect_timeout(Duration::from_secs(5))
                // A client that closes its half has gone away: what works for it is freed at once and not when the answer cannot be
                // written.
                .h1_allow_half_closed(false)
                .h1_write_buffer_size(WRITE_BUFFER)
                .local_addr(address)
                .on_connect_ext(|edge: &Edge<$io>, data: &mut Extensions| {
                    data.insert(edge.answers());
                })
                .expect(fn_service(move |req: Request| expect(req, expected.clone(), wire)))
                .h1(app(service, wire))
        }};
    }
    let name = "s3";
    let builder = match listener.tls {
        Some(mut tls) => {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            builder.listen(name, listener.socket, move || {
                Acceptor::new(tls.clone())
                    .map_err(TlsError::into_service_error)
                    .map(|io: TlsStream<TcpStream>| {
                        let peer = prepare(io.get_ref().0);
                        (Edge::new(io, peer), peer)
                    })
                    .and_then(connections!(TlsStream<TcpStream>).map_err(TlsError::Service))
            })?
        }
        None => builder.listen(name, listener.socket, move || {
            fn_service(|io: TcpStream| {
                let peer = prepare(&io);
                std::future::ready(Ok::<_, DispatchError>((Edge::new(io, peer), peer)))
            })
            .and_then(connections!(TcpStream))
        })?,
    };
    Ok(Running { server: builder.run() })
}

/// Who is there; and small answers are not to wait for more.
fn prepare(io: &TcpStream) -> Option<SocketAddr> {
    let _ = io.set_nodelay(true);
    io.peer_addr().ok()
}

fn app(
    service: web::Data<Service>,
    wire: Wire,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse,
    Error = actix_web::Error,
    InitError = (),
    Future: 'static,
    Service: actix_service::Service<Request, Future: 'static>,
> {
    let app = App::new().app_data(service).app_data(web::Data::new(wire)).default_service(web::to(handle));
    map_config(app, |()| AppConfig::default())
}

/// Serves `/livez`, `/readyz` and `/metrics`.
pub fn serve_admin(
    listener: Listener,
    readiness: Readiness,
    metrics: impl Fn() -> String + Send + Clone + 'static,
) -> io::Result<Running> {
    let server = HttpServer::new(move || {
        let (readiness, metrics) = (readiness.clone(), metrics.clone());
        App::new()
            .route("/livez", web::get().to(|| async { HttpResponse::Ok().content_type("text/plain").body("ok\n") }))
            .route(
                "/readyz",
                web::get().to(move || {
                    let ready = readiness.is_ready();
                    async move {
                        if ready {
                            HttpResponse::Ok().content_type("text/plain").body("ready\n")
                        } else {
                            HttpResponse::ServiceUnavailable().content_type("text/plain").body("not ready\n")
                        }
                    }
                }),
            )
            .route(
                "/metrics",
                web::get().to(move || {
                    let text = metrics();
                    async move { HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text) }
                }),
            )
    })
    .workers(1)
    .client_request_timeout(Duration::from_secs(5))
    .shutdown_timeout(1)
    .disable_signals()
    .listen(listener.socket)?;
    Ok(Running { server: server.run() })
}
