//! Requests from the scripts of other sites: preflights are answered here, other answers get their `Access-Control-*` headers.
//!
//! The rules are the bucket's own, fetched from the store and kept for a short time. A preflight carries no proof of anything, so
//! it is told no more than what the rules say: a bucket without rules and one that does not exist look alike.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use s3s::{S3Error, S3ErrorCode, S3Result};
use tokio::sync::Semaphore;

use super::cors::{Question, Rules, vary};
use super::route::Classified;
use crate::backend::forward::{ForwardRequest, Forwarded, ForwardedBody, Forwarder};
use crate::observe::request_id::RequestId;
use crate::ops::StatePlace;

/// How long rules are believed. A change through this instance counts at once.
const TTL: Duration = Duration::from_secs(30);
/// Memory for rules, over all buckets, in bytes of their documents.
const CACHE_BYTES_MAX: u64 = 4 << 20;
/// What an entry costs besides its document, in bytes.
const ENTRY_BYTES: u32 = 512;
/// The longest document; S3's own limit is 64 KB.
const DOCUMENT_MAX: usize = 64 * 1024;
/// Questions to the store at one time. Whoever asks needs no credentials, so it must not become a way to load the store.
const FETCHES_MAX: usize = 16;

/// The rules of buckets, for all workers. Cloning shares them.
#[derive(Clone)]
pub struct CorsCache {
    rules: moka::future::Cache<String, Arc<Known>>,
    fetches: Arc<Semaphore>,
}

/// What is known of a bucket: its rules, `None` when it has none.
struct Known {
    rules: Option<Rules>,
    document_len: usize,
}

impl Default for CorsCache {
    fn default() -> Self {
        let weigh =
            |_: &String, known: &Arc<Known>| u32::try_from(known.document_len).unwrap_or(u32::MAX).saturating_add(ENTRY_BYTES);
        let rules = moka::future::Cache::builder().max_capacity(CACHE_BYTES_MAX).weigher(weigh).time_to_live(TTL).build();
        Self { rules, fetches: Arc::new(Semaphore::new(FETCHES_MAX)) }
    }
}

/// Why the rules of a bucket are not known.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("too many buckets are asked for at once")]
    Busy,
    #[error("the store answered {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Store(String),
}

/// What one worker asks with.
#[derive(Clone)]
pub(super) struct CrossOrigin {
    cache: CorsCache,
    forwarder: Forwarder,
    /// Whose rules no client may ask for.
    state: StatePlace,
}

/// What the browser said of a request that is under way.
pub(super) struct Wish {
    bucket: Box<str>,
    origin: String,
    method: String,
}

impl Wish {
    /// `None`: the request comes from no other site, or is aimed at no bucket.
    pub fn of(method: &Method, headers: &HeaderMap, classified: &Classified) -> Option<Self> {
        let origin = headers.get(header::ORIGIN)?.to_str().ok()?.to_owned();
        // S3 judges by this header when it is there, on every request.
        let named = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).and_then(|value| value.to_str().ok());
        let method = named.unwrap_or(method.as_str()).to_owned();
        Some(Self { bucket: classified.target.bucket()?.into(), origin, method })
    }
}

impl CrossOrigin {
    pub fn new(cache: CorsCache, forwarder: Forwarder, state: StatePlace) -> Self {
        Self { cache, forwarder, state }
    }

    /// Answers a preflight.
    pub async fn preflight(&self, headers: &HeaderMap, bucket: &str, id: RequestId) -> S3Result<http::Response<s3s::Body>> {
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let Some(origin) = text(header::ORIGIN) else {
            return Err(custom(StatusCode::BAD_REQUEST, "BadRequest", "Insufficient information. Origin request header needed."));
        };
        let Some(method) = text(header::ACCESS_CONTROL_REQUEST_METHOD) else {
            return Err(custom(StatusCode::BAD_REQUEST, "BadRequest", "Invalid Access-Control-Request-Method: null"));
        };
        let known = self.known(bucket, id).await.map_err(|err| {
            tracing::warn!(request_id = %id, error = %err, "the CORS rules of a bucket are not known");
            S3Error::new(S3ErrorCode::ServiceUnavailable)
        })?;
        let Some(rules) = &known.rules else {
            return Err(forbidden("CORSResponse: CORS is not enabled for this bucket."));
        };
        let wanted: Vec<&str> =
            headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|value| value.to_str().ok()).collect();
        let question = Question { origin, method, headers: Some(&wanted.join(",")) };
        let Some(allowed) = rules.answer(question) else {
            return Err(forbidden(
                "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method \
                 / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
            ));
        };
        let mut answer = http::Response::new(s3s::Body::empty());
        *answer.headers_mut() = allowed;
        Ok(answer)
    }

    /// Puts on an answer what the browser needs to see. Without rules, or when they are not known, there is nothing to put.
    pub async fn decorate(&self, wish: Wish, headers: &mut HeaderMap, id: RequestId) {
        let known = match self.known(&wish.bucket, id).await {
            Ok(known) => known,
            Err(err) => {
                tracing::warn!(request_id = %id, error = %err, "the CORS rules of a bucket are not known");
                return;
            }
        };
        let Some(rules) = &known.rules else { return };
        match rules.answer(Question { origin: &wish.origin, method: &wish.method, headers: None }) {
            Some(allowed) => {
                for (name, value) in allowed {
                    if let Some(name) = name {
                        headers.append(name, value);
                    }
                }
            }
            None => vary(headers),
        }
    }

    /// Forgets what was known of a bucket that has just been changed.
    pub async fn forget(&self, bucket: &str) {
        self.cache.rules.invalidate(bucket).await;
    }

    async fn known(&self, bucket: &str, id: RequestId) -> Result<Arc<Known>, Arc<Unknown>> {
        if self.state.hides(bucket, None) {
            return Ok(Arc::new(Known { rules: None, document_len: 0 }));
        }
        self.cache.rules.try_get_with_by_ref(bucket, self.fetch(bucket, id)).await
    }

    async fn fetch(&self, bucket: &str, id: RequestId) -> Result<Arc<Known>, Unknown> {
        let _permit = self.cache.fetches.try_acquire().map_err(|_| Unknown::Busy)?;
        let query = [("cors".to_owned(), String::new())];
        let request = ForwardRequest {
            method: Method::GET,
            bucket: Some(bucket),
            key: None,
            query: &query,
            headers: &HeaderMap::new(),
            body: bytes::Bytes::new(),
            request_id: id,
        };
        let failed = |err: &dyn std::error::Error| Unknown::Store(err.to_string());
        let Forwarded { status, body, .. } = self.forwarder.send(request).await.map_err(|err| failed(&err))?;
        match status.as_u16() {
            200 => {}
            // No rules, no bucket, or none that we may read: for whoever asks it is all one.
            403 | 404 => return Ok(Arc::new(Known { rules: None, document_len: 0 })),
            _ => return Err(Unknown::Status(status)),
        }
        let document = match body {
            ForwardedBody::Whole(document) => document,
            ForwardedBody::Streaming(body) => {
                Limited::new(body, DOCUMENT_MAX).collect().await.map_err(|err| Unknown::Store(err.to_string()))?.to_bytes()
            }
        };
        let rules = Rules::read(&document).map_err(|err| failed(&err))?;
        Ok(Arc::new(Known { rules: Some(rules), document_len: document.len() }))
    }
}

fn forbidden(message: &'static str) -> S3Error {
    custom(StatusCode::FORBIDDEN, "AccessForbidden", message)
}

fn custom(status: StatusCode, code: &'static str, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}
