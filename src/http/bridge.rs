//! Between actix-web and the protocol library: one request in, one answer out, and what neither of them puts right.
//!
//! The request's body is pumped inside the handler's own future, so that a client that goes away frees both ends at once.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody};
use actix_web::dev::RequestHead;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use futures::FutureExt as _;
use futures::future::{Either, LocalBoxFuture, select};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use s3s::{Body, S3Error, S3ErrorCode};
use tracing::Instrument as _;

use super::address::Scheme;
use super::body::{BodyWanted, ClientBody, FaultSlot, Pieces, ReplyBody, pump};
use super::edge::{Answering, Answers};
use super::error_document;
use super::front::Service;
use super::route::Classified;
use crate::observe::request::{ClientLink, RequestLog, RequestRecord};
use crate::observe::request_id::RequestId;

const AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const AMZ_ID_2: HeaderName = HeaderName::from_static("x-amz-id-2");
/// The form of aws-chunked whose last chunk nobody but the bridge can miss: signed, without a trailer.
const SIGNED_CHUNKS: &[u8] = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
/// Headers that belong to one connection (RFC 9110 section 7.6.1) and never travel.
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// What all requests of a listener have in common.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// How long a request's body may stand still.
    pub body_idle: Duration,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// Serves one request.
pub async fn handle(
    req: HttpRequest,
    payload: web::Payload,
    service: web::Data<Service>,
    wire: web::Data<Wire>,
) -> HttpResponse<ReplyBody> {
    let begun = req.extensions_mut().remove::<Exchange>();
    let exchange = begun.unwrap_or_else(|| Exchange::begin(req.head(), req.conn_data(), &service, *wire.get_ref()));
    exchange.finish(payload).await
}

/// Judges the head of a request whose client waits for `100 Continue` before it sends the body. The client is told to go on when
/// somebody wants the body, and not before: who is refused for the head alone has sent nothing in vain.
///
/// # Errors
/// The whole answer, when it does not depend on the body.
pub async fn expect(req: actix_http::Request, service: web::Data<Service>, wire: Wire) -> Result<actix_http::Request, Answered> {
    let exchange = Exchange::begin(req.head(), req.conn_data(), &service, wire).until_body_is_wanted().await?;
    req.extensions_mut().insert(exchange);
    Ok(req)
}

/// An answer that was given before the body was asked for.
pub struct Answered(HttpResponse<ReplyBody>);

impl From<Answered> for actix_http::Response<BoxBody> {
    fn from(answered: Answered) -> Self {
        answered.0.map_into_boxed_body().into()
    }
}

/// One request between its head and its answer. What works for it is freed when it is dropped.
struct Exchange {
    call: LocalBoxFuture<'static, http::Response<Body>>,
    /// Where the body goes; `None` when there is none.
    body: Option<(Pieces, BodyWanted)>,
    wire: Wire,
    asked: Asked,
    record: RequestRecord,
    log: RequestLog,
    span: tracing::Span,
    answering: Answering,
}

impl Exchange {
    /// Takes the head of a request. Nothing is done before it is polled.
    fn begin(head: &RequestHead, answers: Option<&Answers>, service: &web::Data<Service>, wire: Wire) -> Self {
        let answering = answers.cloned().unwrap_or_default().begin();
        let record = RequestRecord::new(RequestId::fresh());
        let mut log = RequestLog::start(record.clone(), head.method.as_str(), head.peer_addr);
        let span = tracing::info_span!("request", request_id = %record.id());
        let asked = Asked {
            head: head.method == actix_web::http::Method::HEAD,
            http_10: head.version < actix_web::http::Version::HTTP_11,
        };
        let begun = head_of(head).and_then(|mut request| {
            let classified = Arc::new(service.classify(request.method(), request.uri(), request.headers()));
            log.set_target(classified.operation, classified.target.bucket());
            let extensions = request.extensions_mut();
            extensions.insert(record.clone());
            extensions.insert(Scheme(wire.scheme));
            extensions.insert(ClientLink::new(wire.scheme == "https", head.peer_addr));
            if let Some(peer) = head.peer_addr {
                extensions.insert(peer);
            }
            serve(request, classified, service.clone())
        });
        let (call, body) = begun.unwrap_or_else(|refusal| (std::future::ready(refuse(refusal)).boxed_local(), None));
        Self { call: call.instrument(span.clone()).boxed_local(), body, wire, asked, record, log, span, answering }
    }

    async fn until_body_is_wanted(mut self) -> Result<Self, Answered> {
        // Without a body there is nothing to wait for. botocore, once it has got a final answer in place of the 100, cannot read the next
        // answer on the same connection; refusals of requests with a body close it.
        let Some((_, wanted)) = &self.body else { return Ok(self) };
        let wanted = wanted.clone();
        match select(&mut self.call, pin!(wanted.wait())).await {
            Either::Left((answer, _)) => Err(Answered(self.reply(answer))),
            Either::Right(((), _)) => Ok(self),
        }
    }

    async fn finish(mut self, payload: web::Payload) -> HttpResponse<ReplyBody> {
        let answer = match self.body.take() {
            None => (&mut self.call).await,
            Some((pieces, _)) => {
                let mut pump = pin!(pump(payload, pieces, self.record.clone(), self.wire.body_idle).fuse());
                std::future::poll_fn(|cx| {
                    // The pump first: what it moves is what the call waits for. When it is done the call decides.
                    let _ = pump.as_mut().poll(cx);
                    self.call.as_mut().poll(cx)
                })
                .await
            }
        };
        self.reply(answer)
    }

    fn reply(self, answer: http::Response<Body>) -> HttpResponse<ReplyBody> {
        reply(answer, self.asked, self.record, self.log, self.span, self.answering)
    }
}

/// What of the request decides the shape of its answer.
#[derive(Clone, Copy)]
struct Asked {
    head: bool,
    http_10: bool,
}

/// Copies the head, names and values byte for byte. What could be read in two ways is refused.
fn head_of(req: &RequestHead) -> Result<http::Request<()>, S3Error> {
    let bad = |text: &'static str| S3Error::with_message(S3ErrorCode::InvalidRequest, text);
    let version = match req.version {
        actix_web::http::Version::HTTP_10 => http::Version::HTTP_10,
        _ => http::Version::HTTP_11,
    };
    let mut head = http::Request::new(());
    *head.version_mut() = version;
    *head.method_mut() = Method::from_bytes(req.method.as_str().as_bytes()).map_err(|_| bad("The method is not one of HTTP."))?;
    *head.uri_mut() = req.uri.to_string().parse().map_err(|_| S3Error::new(S3ErrorCode::InvalidURI))?;
    let headers = head.headers_mut();
    headers.reserve(req.headers().len());
    for (name, value) in req.headers() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| bad("A header has a malformed name."))?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad("A header has a malformed value."))?);
    }
    join_metadata(headers);
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(bad("The length of the body is given in two ways."));
    }
    Ok(head)
}

/// Repeated metadata counts as one header with commas (RFC 9110 section 5.3): so it is signed, and so S3 stores it. The protocol library
/// would refuse it.
fn join_metadata(headers: &mut HeaderMap) {
    let is_repeated = |name: &&HeaderName| name.as_str().starts_with("x-amz-meta-") && headers.get_all(*name).iter().count() > 1;
    let repeated: Vec<HeaderName> = headers.keys().filter(is_repeated).cloned().collect();
    for name in repeated {
        let values: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        // Values of headers and commas make the value of a header.
        if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b","[..])) {
            headers.insert(name, joined);
        }
    }
}

/// A request's future answer, and where its body goes.
type Begun = (LocalBoxFuture<'static, http::Response<Body>>, Option<(Pieces, BodyWanted)>);

/// Puts the parts of a request together. Errors: a length that is none.
fn serve(request: http::Request<()>, classified: Arc<Classified>, service: web::Data<Service>) -> Result<Begun, S3Error> {
    let (mut parts, ()) = request.into_parts();
    let announced = content_length(&parts.headers)?;
    let signed_chunks = parts.headers.get("x-amz-content-sha256").is_some_and(|value| value.as_bytes() == SIGNED_CHUNKS);
    // Even no bytes at all are framed when chunks are signed: the final chunk has to be there.
    let may_have_body =
        announced.is_some_and(|length| length > 0) || signed_chunks || parts.headers.contains_key(header::TRANSFER_ENCODING);
    parts.extensions.insert(classified.clone());
    let (pieces, body, fault) = ClientBody::channel(announced, signed_chunks);
    let goes_to = may_have_body.then(|| (pieces, body.wanted()));
    let body = if may_have_body { Body::http_body(body) } else { Body::empty() };
    let call = async move {
        let request = http::Request::from_parts(parts, body);
        match AssertUnwindSafe(service.call(request, &classified)).catch_unwind().await {
            Ok(Ok(answer)) if answer.status().is_server_error() => clients_own_fault(&fault).unwrap_or(answer),
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::error!(%error, "the protocol library gave up on a request");
                clients_own_fault(&fault).unwrap_or_else(|| refuse(S3Error::new(S3ErrorCode::InternalError)))
            }
            Err(_panic) => {
                // The panic hook has written what and where.
                tracing::error!("a panic while a request was served");
                refuse(S3Error::new(S3ErrorCode::InternalError))
            }
        }
    };
    Ok((call.boxed_local(), goes_to))
}

/// Whatever the layers between made of it: a body that broke off is the client's own fault, and it hears so.
fn clients_own_fault(fault: &FaultSlot) -> Option<http::Response<Body>> {
    fault.get().map(|fault| refuse(fault.to_s3_error()))
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, S3Error> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidArgument, "The Content-Length is not a number."))
}

fn refuse(error: S3Error) -> http::Response<Body> {
    error.to_http_response().unwrap_or_else(|_| {
        let mut answer = http::Response::new(Body::empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}

/// The answer in actix-web's types, with the request id on it, the statuses that the protocol library leaves as they are put right.
fn reply(
    mut answer: http::Response<Body>,
    asked: Asked,
    record: RequestRecord,
    mut log: RequestLog,
    span: tracing::Span,
    answering: Answering,
) -> HttpResponse<ReplyBody> {
    let is_head = asked.head;
    // HTTP/1.0 ends a body of unknown length by closing the connection: one that broke off would look whole.
    if asked.http_10
        && !is_head
        && http_body::Body::size_hint(answer.body()).exact().is_none()
        && !answer.headers().contains_key(header::CONTENT_LENGTH)
    {
        let mut error = S3Error::with_message(
            S3ErrorCode::Custom("HttpVersionNotSupported".into()),
            "This answer has no length that HTTP/1.0 could carry; ask with HTTP/1.1.",
        );
        error.set_status_code(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        answer = refuse(error);
    }
    let (mut parts, mut body) = answer.into_parts();
    let status = match parts.status {
        StatusCode::OK if is_head && parts.headers.contains_key(header::CONTENT_RANGE) => StatusCode::PARTIAL_CONTENT,
        status => status,
    };
    if (status.is_client_error() || status.is_server_error())
        && let Some(document) = body.bytes().filter(|document| !document.is_empty())
    {
        let named = error_document::note(&document, &record);
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(named.len()));
        // An error that brings headers of its own loses the one that the protocol library gives the document.
        if named.starts_with(b"<") {
            parts.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/xml"));
        }
        body = Body::from(named);
    }
    log.answer(status.as_u16());

    let announced = content_length(&parts.headers).ok().flatten();
    let known = http_body::Body::size_hint(&body).exact();
    let bodyless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let size = match (announced, known) {
        _ if bodyless => BodySize::None,
        (Some(length), _) => BodySize::Sized(length),
        // The empty body of HEAD says nothing about the length that GET would answer with.
        (None, _) if is_head => BodySize::None,
        (None, Some(length)) => BodySize::Sized(length),
        (None, None) => BodySize::Stream,
    };
    let status =
        actix_web::http::StatusCode::from_u16(status.as_u16()).unwrap_or(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR);
    let body = if is_head || bodyless {
        ReplyBody::head_only(size, log, span, answering)
    } else {
        ReplyBody::new(body, size, log, span, answering)
    };
    let mut out = HttpResponse::with_body(status, body);
    let id = HeaderValue::from_str(record.id().as_str()).unwrap_or(HeaderValue::from_static(""));
    parts.headers.insert(AMZ_REQUEST_ID, id.clone());
    parts.headers.insert(AMZ_ID_2, id);
    for (name, value) in &parts.headers {
        if *name == header::CONTENT_LENGTH || HOP_BY_HOP.contains(&name.as_str()) {
            continue;
        }
        // Both sides' types accept the same bytes.
        if let (Ok(name), Ok(value)) = (
            actix_web::http::header::HeaderName::from_bytes(name.as_str().as_bytes()),
            actix_web::http::header::HeaderValue::from_bytes(value.as_bytes()),
        ) {
            out.headers_mut().append(name, value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_metadata_is_one_header() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-b", "x"),
            ("x-amz-meta-a", ""),
            ("x-amz-meta-a", "2"),
            ("via", "p"),
            ("via", "q"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        join_metadata(&mut headers);
        assert_eq!(
            (headers.get_all("x-amz-meta-a").iter().count(), &headers["x-amz-meta-a"]),
            (1, &HeaderValue::from_static("1,,2"))
        );
        assert_eq!((&headers["x-amz-meta-b"], headers.get_all("via").iter().count()), (&HeaderValue::from_static("x"), 2));
    }
}
