//! Where the protocol library meets the route table: which requests it serves through its typed operations, and which ones are
//! forwarded, refused, put right first, or answered without it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Extensions, Method, Uri};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::region::Region;
use s3s::route::S3Route;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::address::{Scheme, object_address};
use super::cross_origin::{CorsCache, CrossOrigin, Wish};
use super::hosts::Hosts;
use super::plain::PlainWay;
use super::post_object::Forms;
use super::restore::refuse_queries;
use super::route::{Classified, Target, Way, classify_at, is_ignored_in_query, object_path, range_is_usable};
use super::unhurried;
use crate::auth::proof::ExpectedOperation;
use crate::auth::{Gate, Identities};
use crate::backend::forward::{ForwardError, ForwardRequest, Forwarded, ForwardedBody, Forwarder};
use crate::observe::request::{ObjectAddress, RequestRecord};
use crate::observe::request_id::RequestId;
use crate::ops::{AccessRules, Error, StatePlace, refusal_of, verify_document};

/// The longest document that is forwarded, in bytes. The largest there is (a lifecycle configuration of 1,000 rules) is smaller.
const FORWARD_BODY_MAX: usize = 1024 * 1024;
/// The longest list of keys to delete, in bytes: 1,000 keys of 1,024 bytes, escaped and with their elements around them.
const DELETE_BODY_MAX: usize = 4 * 1024 * 1024;
/// The longest document that a typed operation reads, in bytes: a list of 10,000 parts, each with an ETag that holds a receipt, and a
/// checksum, has about 500 bytes a line.
const DOCUMENT_MAX: usize = 8 * 1024 * 1024;
/// The longest signed chunk of an aws-chunked body, in bytes. A chunk is held until its signature is checked; clients use 64 KiB
/// to 1 MiB.
const SIGNED_CHUNK_MAX: usize = 8 * 1024 * 1024;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// What a service is made of.
pub struct FrontParts<S> {
    /// The sealed operations.
    pub ops: S,
    pub identities: Identities,
    /// The client of the worker that the service is made for.
    pub forwarder: Forwarder,
    /// Which buckets hold plaintext.
    pub access: Arc<AccessRules>,
    /// The only region that signatures may name; `None` accepts any.
    pub region: Option<Region>,
    /// The longest object of a single upload, in bytes.
    pub put_max: u64,
    /// What no client may name.
    pub state: StatePlace,
    /// The domains whose subdomains are buckets.
    pub hosts: Hosts,
    /// Shared by all workers.
    pub cors: CorsCache,
}

/// The S3 service of one worker.
#[derive(Clone)]
pub struct Service {
    s3: S3Service,
    hosts: Hosts,
    /// What browsers need besides. A service without it refuses their requests.
    browsers: Option<(Forms, CrossOrigin)>,
}

impl Service {
    /// A service that only knows what the protocol library does, for measurements.
    #[must_use]
    pub fn bare(s3: S3Service) -> Self {
        Self { s3, hosts: Hosts::default(), browsers: None }
    }

    pub(super) fn classify(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Classified {
        classify_at(self.hosts.bucket(headers).as_deref(), method, uri, headers)
    }

    /// Serves a request that [`Service::classify`] has looked at.
    ///
    /// # Errors
    /// The protocol library gave up; the answer is an internal error.
    pub(super) async fn call(
        &self,
        mut req: http::Request<Body>,
        classified: &Classified,
    ) -> Result<http::Response<Body>, HttpError> {
        let Some((forms, cross_origin)) = &self.browsers else {
            return if classified.form { refuse(S3ErrorCode::NotImplemented.into()) } else { self.s3.call(req).await };
        };
        let id = req.extensions().get::<RequestRecord>().map_or_else(RequestId::fresh, RequestRecord::id);
        if let (Ok(Way::Front), "Preflight", Some(bucket)) =
            (&classified.verdict, classified.operation, classified.target.bucket())
        {
            return cross_origin.preflight(req.headers(), bucket, id).await.or_else(refuse);
        }
        let wish = Wish::of(req.method(), req.headers(), classified);
        if let ("CompleteMultipartUpload", Target::Object(bucket, key)) = (classified.operation, &classified.target) {
            let by_host = self.hosts.bucket(req.headers()).is_some();
            let scheme = req.extensions().get::<Scheme>().copied();
            let address = object_address(scheme, req.headers(), by_host, bucket, key);
            req.extensions_mut().insert(ObjectAddress(address));
        }
        let mut answer = match &classified.verdict {
            Ok(_) if classified.form => forms.call(req, classified).await.or_else(refuse)?,
            Err(refusal) if classified.form => refuse(refusal.to_s3_error())?,
            _ if unhurried::may_take_long(&req, classified) => unhurried::answer(self.s3.clone(), req).await?,
            _ => self.s3.call(req).await?,
        };
        if matches!(classified.operation, "PutBucketCors" | "DeleteBucketCors" | "CreateBucket" | "DeleteBucket")
            && let Some(bucket) = classified.target.bucket()
        {
            cross_origin.forget(bucket).await;
        }
        // What a store says of this is about itself.
        let of_the_store: Vec<_> =
            answer.headers().keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
        for name in of_the_store {
            answer.headers_mut().remove(name);
        }
        if let Some(wish) = wish {
            cross_origin.decorate(wish, answer.headers_mut(), id).await;
        }
        Ok(answer)
    }
}

fn refuse(error: S3Error) -> Result<http::Response<Body>, HttpError> {
    error.to_http_response().map_err(|err| HttpError::from_std_error(Box::new(err)))
}

/// Puts the S3 service of one worker together: authentication and decoding by the protocol library, then the checks of
/// [`Gate`], then the way that the route table found.
#[must_use]
pub fn s3_service<S: S3 + Clone>(parts: FrontParts<S>) -> Service {
    let mut config = S3Config::default();
    config.put_object_max_size = Some(parts.put_max);
    config.xml_max_body_size = DOCUMENT_MAX;
    config.aws_chunked_stream_max_chunk_size = SIGNED_CHUNK_MAX;
    config.expected_region.clone_from(&parts.region);
    config.sig_v4_allowed_services = vec!["s3".to_owned()];
    // The route has limits of its own. What a request is, is decided by its shape and never by what it says of itself.
    config.custom_route_max_body_size = None;
    config.operation_id_routing = false;
    config.enable_sig_v2 = false;
    config.allow_post_signature = false;
    let config = Arc::new(StaticConfigProvider::new(Arc::new(config)));

    // The service behind the route sees requests that are proven and checked already, so it must not ask for a signature.
    let mut inner = S3ServiceBuilder::new(parts.ops.clone());
    inner.set_config(config.clone());
    let inner = inner.build();

    let gate = Gate::new(parts.identities.clone());
    let mut outer = S3ServiceBuilder::new(parts.ops);
    outer.set_config(config);
    outer.set_auth(parts.identities);
    outer.set_access(gate.clone());
    outer.set_host(parts.hosts.clone());
    let forms = Forms { gate: gate.clone(), region: parts.region, access: parts.access.clone(), inner: inner.clone() };
    let cross_origin = CrossOrigin::new(parts.cors, parts.forwarder.clone(), parts.state.clone());
    let plain = PlainWay { access: parts.access, forwarder: parts.forwarder.clone() };
    let front = Front { gate, hosts: parts.hosts.clone(), forwarder: parts.forwarder, plain, inner, state: parts.state };
    outer.set_route(front);
    Service { s3: outer.build(), hosts: parts.hosts, browsers: Some((forms, cross_origin)) }
}

/// The route in front of the typed operations.
struct Front {
    gate: Gate,
    hosts: Hosts,
    forwarder: Forwarder,
    /// The way of buckets that hold plaintext.
    plain: PlainWay,
    /// The typed operations without authentication, for requests that are put right after their signature was checked.
    inner: S3Service,
    state: StatePlace,
}

/// Requests of the sealed way that the protocol library would answer wrongly as they are.
fn needs_repair(classified: &Classified, headers: &HeaderMap) -> bool {
    !classified.hoisted.is_empty()
        || classified.is_sealed("DeleteObjects")
        || (classified.is_sealed("CompleteMultipartUpload") && headers.contains_key(CONTENT_MD5))
        || ((classified.is_sealed("GetObject") || classified.is_sealed("HeadObject")) && !range_is_usable(headers))
}

#[async_trait::async_trait]
impl S3Route for Front {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, extensions: &mut Extensions) -> bool {
        let classified = match extensions.get::<Arc<Classified>>() {
            Some(classified) => classified.clone(),
            None => {
                let classified = Arc::new(classify_at(self.hosts.bucket(headers).as_deref(), method, uri, headers));
                extensions.insert(classified.clone());
                classified
            }
        };
        extensions.insert(ExpectedOperation(classified.operation));
        classified.verdict != Ok(Way::Sealed)
            || self.is_hidden(&classified, headers)
            || needs_repair(&classified, headers)
            || self.plain.takes(&classified)
    }

    async fn check_access(&self, req: &mut S3Request<Body>) -> S3Result<()> {
        let caller = self.gate.admit(req.credentials.as_ref(), &req.uri, &req.headers)?;
        if let Some(record) = req.extensions.get::<RequestRecord>() {
            record.set_caller(caller.name());
        }
        req.extensions.insert(caller);
        Ok(())
    }

    async fn call(&self, req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let Some(classified) = req.extensions.get::<Arc<Classified>>().cloned() else {
            return Err(S3Error::new(S3ErrorCode::InternalError));
        };
        if self.is_hidden(&classified, &req.headers) {
            return Err(Error::Reserved.into_s3());
        }
        match &classified.verdict {
            Ok(_) if self.plain.takes(&classified) => self.plain.pass(req, &classified).await,
            Ok(Way::Sealed) => self.repair(req, &classified).await,
            Ok(Way::Forward) => self.forward(req, &classified).await,
            // Answered before they get here.
            Ok(Way::Front) => Err(S3Error::new(S3ErrorCode::InternalError)),
            Ok(Way::Later) => {
                Err(s3_error!(NotImplemented, "The operation {} is not supported by this gateway.", classified.operation))
            }
            Err(refusal) => Err(refusal.to_s3_error()),
        }
    }
}

impl Front {
    /// Whether a request names something that is the gateway's own, as its target or as the source of a copy.
    fn is_hidden(&self, classified: &Classified, headers: &HeaderMap) -> bool {
        let target = &classified.target;
        let source = || {
            let text = headers.get("x-amz-copy-source")?.to_str().ok()?;
            let text = percent_encoding::percent_decode_str(text.split('?').next().unwrap_or(text)).decode_utf8().ok()?;
            let (bucket, key) = text.strip_prefix('/').unwrap_or(&text).split_once('/')?;
            Some(self.state.hides(bucket, Some(key)))
        };
        target.bucket().is_some_and(|bucket| self.state.hides(bucket, target.key())) || source().unwrap_or(false)
    }

    async fn forward(&self, mut req: S3Request<Body>, classified: &Classified) -> S3Result<S3Response<Body>> {
        let body = read_document(&mut req, FORWARD_BODY_MAX).await?;
        if classified.operation == "RestoreObject" && !self.plain.is_plaintext(classified) {
            refuse_queries(&body)?;
        }
        let record = req.extensions.get::<RequestRecord>();
        let request = ForwardRequest {
            method: req.method.clone(),
            bucket: classified.target.bucket(),
            key: classified.target.key(),
            query: &classified.query,
            headers: &req.headers,
            body,
            request_id: record.map_or_else(RequestId::fresh, RequestRecord::id),
        };
        let answer = match self.forwarder.send(request).await {
            Ok(answer) => answer,
            Err(err) => return Err(forward_error(err, record)),
        };
        Ok(answered(answer, record))
    }

    /// Gives the typed operations the request as they can serve it.
    async fn repair(&self, mut req: S3Request<Body>, classified: &Classified) -> S3Result<S3Response<Body>> {
        let body = if classified.is_sealed("DeleteObjects") {
            let document = read_document(&mut req, DELETE_BODY_MAX).await?;
            req.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
            Body::from(document)
        } else if classified.is_sealed("CompleteMultipartUpload") && req.trailing_headers.is_none() {
            let document = read_list(&mut req).await?;
            req.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
            Body::from(document)
        } else if req.trailing_headers.is_some() {
            // The trailers would be lost on this way and with them what they protect. No client sends this.
            return Err(S3Error::new(S3ErrorCode::NotImplemented));
        } else {
            std::mem::take(&mut req.input)
        };
        let mut headers = req.headers;
        for name in ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-decoded-content-length", "x-amz-trailer"] {
            headers.remove(name);
        }
        if !range_is_usable(&headers) {
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
        }
        for (name, value) in classified.hoisted.iter().filter(|(name, _)| !is_ignored_in_query(name)) {
            let bad = || s3_error!(InvalidArgument, "The query parameter {name:?} is not a header value.");
            let header = HeaderName::try_from(name).map_err(|_| bad())?;
            headers.insert(header, HeaderValue::try_from(value).map_err(|_| bad())?);
        }
        let mut inner = http::Request::new(body);
        *inner.method_mut() = req.method;
        *inner.uri_mut() = without_signature(classified)?;
        *inner.headers_mut() = headers;
        *inner.extensions_mut() = req.extensions;
        let answer = self.inner.call(inner).await.map_err(|err| {
            tracing::error!(error = %err, "the protocol library gave up on a request");
            S3Error::new(S3ErrorCode::InternalError)
        })?;
        let (parts, body) = answer.into_parts();
        let mut response = S3Response::with_headers(body, parts.headers);
        response.status = Some(parts.status);
        Ok(response)
    }
}

/// The store's answer as the client gets it.
pub(super) fn answered(answer: Forwarded, record: Option<&RequestRecord>) -> S3Response<Body> {
    if let (Some(record), Some(id)) = (record, &answer.backend_request_id) {
        record.set_backend_request_id(id);
    }
    let Forwarded { status, headers, body, .. } = answer;
    let body = match body {
        ForwardedBody::Whole(document) => Body::from(document),
        ForwardedBody::Streaming(body) => Body::http_body(body),
    };
    let mut response = S3Response::with_headers(body, headers);
    response.status = Some(status);
    response
}

/// The same address with only the operation's own query parameters, and with the bucket in its path.
fn without_signature(classified: &Classified) -> S3Result<Uri> {
    let mut text = match &classified.target {
        Target::Service => "/".to_owned(),
        Target::Bucket(bucket) => format!("/{bucket}"),
        Target::Object(bucket, key) => object_path(bucket, key),
    };
    for (i, (name, value)) in classified.query.iter().enumerate() {
        text.push(if i == 0 { '?' } else { '&' });
        text.extend(percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC));
        text.push('=');
        text.extend(percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC));
    }
    text.parse().map_err(|_| S3Error::new(S3ErrorCode::InvalidURI))
}

/// Reads a document and compares it with the digests that came along.
async fn read_document(req: &mut S3Request<Body>, max: usize) -> S3Result<Bytes> {
    let whole = read_whole(req, max).await?;
    // On the forward way the backend checks it once more; there it has to be a header.
    let checksum = verify_document(&req.headers, req.trailing_headers.clone(), &whole).map_err(Error::into_s3)?;
    if let Some((name, value)) = checksum {
        req.headers.insert(name, value);
    }
    Ok(whole)
}

/// Reads the list of parts that completes an upload. A checksum beside it is the object's; only the MD5 is the list's own.
async fn read_list(req: &mut S3Request<Body>) -> S3Result<Bytes> {
    let whole = read_whole(req, DOCUMENT_MAX).await?;
    let own = req.headers.get(CONTENT_MD5).map(|digest| (CONTENT_MD5, digest.clone()));
    verify_document(&own.into_iter().collect(), None, &whole).map_err(Error::into_s3)?;
    Ok(whole)
}

/// Reads a body to its very end, so that hash, chunk signatures and length are all checked.
async fn read_whole(req: &mut S3Request<Body>, max: usize) -> S3Result<Bytes> {
    let mut body = std::mem::take(&mut req.input);
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece =
            piece.map_err(|err| refusal_of(&*err).unwrap_or_else(|| S3Error::with_source(S3ErrorCode::InternalError, err)))?;
        if piece.len() > max - whole.len() {
            return Err(S3Error::new(S3ErrorCode::MaxMessageLengthExceeded));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// What a client hears when the forward way failed. That the backend does not accept the gateway's own signature is the
/// gateway's fault and looks like any other internal error from outside: a client would take the backend's code for its own.
pub(super) fn forward_error(err: ForwardError, record: Option<&RequestRecord>) -> S3Error {
    let request_id = record.map(|record| tracing::field::display(record.id()));
    let code = match &err {
        ForwardError::HeaderNotText(name) => return s3_error!(InvalidArgument, "The header {name} is not plain text."),
        ForwardError::Unreachable(_) | ForwardError::FirstByteTimeout | ForwardError::ErrorBody(_) => {
            tracing::warn!(request_id, error = &err as &dyn std::error::Error, "the forward way failed");
            S3ErrorCode::ServiceUnavailable
        }
        ForwardError::Credentials(_)
        | ForwardError::RefusedUs { .. }
        | ForwardError::Redirected { .. }
        | ForwardError::Endpoint(_)
        | ForwardError::Request(_) => {
            tracing::error!(
                request_id,
                error = &err as &dyn std::error::Error,
                "the backend and the gateway's configuration do not fit"
            );
            S3ErrorCode::InternalError
        }
    };
    S3Error::with_source(code, Box::new(err))
}
