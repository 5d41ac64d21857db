//! What is written down about one request, and the line it leaves in the log when it ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::metrics;
use super::request_id::RequestId;

/// The facts of one request that become known while it runs. It is shared: a clone is an extension of the HTTP request, so that
/// later stages can add what only they know.
#[derive(Clone)]
pub struct RequestRecord(Arc<Facts>);

struct Facts {
    id: RequestId,
    caller: OnceLock<Box<str>>,
    error_code: OnceLock<Box<str>>,
    backend_request_id: OnceLock<Box<str>>,
    bytes_in: AtomicU64,
    working: AtomicBool,
}

impl RequestRecord {
    #[must_use]
    pub fn new(id: RequestId) -> Self {
        Self(Arc::new(Facts {
            id,
            caller: OnceLock::new(),
            error_code: OnceLock::new(),
            backend_request_id: OnceLock::new(),
            bytes_in: AtomicU64::new(0),
            working: AtomicBool::new(false),
        }))
    }

    #[must_use]
    pub fn id(&self) -> RequestId {
        self.0.id
    }

    /// The name of the identity the request was proven to come from. The first value stays.
    pub fn set_caller(&self, name: &str) {
        let _ = self.0.caller.set(name.into());
    }

    /// The S3 error code of the answer. The first value stays.
    pub fn set_error_code(&self, code: &str) {
        let _ = self.0.error_code.set(code.into());
    }

    /// The backend's own id for the request it was sent. The first value stays.
    pub fn set_backend_request_id(&self, id: &str) {
        let _ = self.0.backend_request_id.set(id.into());
    }

    /// The request was proven, read to its end and understood; what follows is the work that it asks for.
    pub fn set_working(&self) {
        self.0.working.store(true, Ordering::Relaxed);
    }

    /// Whether the work has begun.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.0.working.load(Ordering::Relaxed)
    }

    /// Counts bytes of the request body as they arrive.
    pub fn add_bytes_in(&self, n: u64) {
        self.0.bytes_in.fetch_add(n, Ordering::Relaxed);
    }
}

/// The line that a request came over. An extension of the HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLink {
    tls: bool,
    peer: Option<SocketAddr>,
}

impl ClientLink {
    #[must_use]
    pub fn new(tls: bool, peer: Option<SocketAddr>) -> Self {
        Self { tls, peer }
    }

    /// Whether a secret may travel on it: HTTPS, or a peer on this machine. What a proxy says of the client's own line is not believed.
    #[must_use]
    pub fn keeps_secrets(self) -> bool {
        self.tls || self.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
    }
}

/// The address of the object that a request is for, as the client reaches it. An extension of the HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectAddress(pub String);

/// How far a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The answer has not begun.
    Working,
    /// The head of the answer is out, its body is under way.
    Answering,
    /// The whole answer was handed over.
    Done,
}

/// Writes exactly one log line and one set of metrics, when it is dropped: a request that is given up leaves its line, too.
pub struct RequestLog {
    record: RequestRecord,
    started: Instant,
    method: Box<str>,
    operation: &'static str,
    bucket: Option<Box<str>>,
    client: Option<SocketAddr>,
    status: u16,
    bytes_out: u64,
    stage: Stage,
    fault: Option<Box<str>>,
}

impl RequestLog {
    #[must_use]
    pub fn start(record: RequestRecord, method: &str, client: Option<SocketAddr>) -> Self {
        metrics::request_started();
        Self {
            record,
            started: Instant::now(),
            method: method.into(),
            operation: "Unknown",
            bucket: None,
            client,
            status: 0,
            bytes_out: 0,
            stage: Stage::Working,
            fault: None,
        }
    }

    /// Says what the request asks for; `operation` is one of the fixed names of the route table.
    pub fn set_target(&mut self, operation: &'static str, bucket: Option<&str>) {
        self.operation = operation;
        self.bucket = bucket.map(Into::into);
    }

    /// The head of the answer is decided.
    pub fn answer(&mut self, status: u16) {
        self.status = status;
        self.stage = Stage::Answering;
    }

    /// Counts bytes of the answer's body as they are handed over.
    pub fn add_bytes_out(&mut self, n: u64) {
        self.bytes_out += n;
    }

    /// The whole answer was handed over.
    pub fn done(&mut self) {
        self.stage = Stage::Done;
    }

    /// Why the answer's body broke off; the text goes to the log only.
    pub fn set_fault(&mut self, fault: &str) {
        self.fault = Some(fault.into());
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let facts = &self.record.0;
        let took = self.started.elapsed();
        let bytes_in = facts.bytes_in.load(Ordering::Relaxed);
        let outcome = match self.stage {
            Stage::Done => "complete",
            Stage::Answering => "aborted",
            Stage::Working => "abandoned",
        };
        let class = if self.stage == Stage::Done { metrics::status_class(self.status) } else { "aborted" };
        metrics::request_ended(self.operation, class, took, bytes_in, self.bytes_out);
        tracing::info!(
            target: "ciphergate::request",
            request_id = %facts.id,
            method = %self.method,
            operation = self.operation,
            bucket = self.bucket.as_deref(),
            caller = facts.caller.get().map(|s| &**s),
            client = self.client.map(tracing::field::display),
            status = self.status,
            error_code = facts.error_code.get().map(|s| &**s),
            backend_request_id = facts.backend_request_id.get().map(|s| &**s),
            fault = self.fault.as_deref(),
            outcome,
            bytes_in,
            bytes_out = self.bytes_out,
            duration_ms = took.as_secs_f64() * 1000.0,
            "request"
        );
    }
}
