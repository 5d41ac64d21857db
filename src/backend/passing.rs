//! Requests of buckets that hold plaintext by configuration: passed on as they are, bodies streaming, signed anew. The one way on which
//! bytes go to the store that `stream` did not seal; `http` takes it for such buckets and no others, and so does the operator's `decrypt`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sigv4::http_request::SignableBody;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::Instant;

use super::forward::{ForwardError, ForwardRequest, Forwarded, ForwardedBody, Forwarder, may_travel};
use super::upload::{Patience, Progress, Turn};
use super::{Body, Error, ObjectName, Refusal};
use crate::observe::metrics;
use crate::observe::request_id::RequestId;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body as it is sent.
pub(super) type PassedStream = UnsyncBoxBody<Bytes, BoxError>;

/// A request to pass on, in decoded form.
pub struct PassRequest<'a> {
    pub method: Method,
    pub bucket: &'a str,
    pub key: Option<&'a str>,
    /// Decoded names and values; the caller lets through only what the operation has.
    pub query: &'a [(String, String)],
    /// The client's headers; this room picks from them.
    pub headers: &'a HeaderMap,
    pub body: Option<PassBody>,
    pub request_id: RequestId,
}

/// A body to pass on, without the client's framing.
pub struct PassBody {
    pub stream: Body,
    /// Exact length in bytes.
    pub length: u64,
    pub trailer: Option<PassTrailer>,
}

/// A checksum that follows the body, as it came.
pub struct PassTrailer {
    pub name: HeaderName,
    /// Bytes of the value, by which the length of the whole is known before it is there.
    pub value_len: usize,
    /// The value, asked for when the body has ended.
    pub value: Box<dyn FnOnce() -> Result<HeaderValue, BoxError> + Send>,
}

impl Forwarder {
    /// Passes a request on and waits for the head of the answer. Exactly one attempt: bodies stream and cannot be sent twice.
    ///
    /// # Errors
    /// See [`ForwardError`]. An error status of the store is an answer, not an error, unless it is about the gateway itself.
    pub async fn pass(&self, request: PassRequest<'_>) -> Result<Forwarded, ForwardError> {
        let result = self.pass_once(request).await;
        metrics::forwarded(match &result {
            Ok(answer) => metrics::status_class(answer.status.as_u16()),
            Err(_) => "failed",
        });
        result
    }

    /// PutObject of plaintext, where nothing has that name yet; for `bulk::decrypt` alone, and only into buckets that hold plaintext by
    /// configuration. A checksum among the headers is verified by the store.
    ///
    /// # Errors
    /// The store's refusals, 412 where something has that name.
    pub async fn put_plaintext(&self, object: &ObjectName, headers: &HeaderMap, body: Body, length: u64) -> Result<(), Error> {
        let mut headers = headers.clone();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        let request = PassRequest {
            method: Method::PUT,
            bucket: &object.bucket,
            key: Some(&object.key),
            query: &[],
            headers: &headers,
            body: Some(PassBody { stream: body, length, trailer: None }),
            request_id: RequestId::fresh(),
        };
        let answer = self.pass(request).await.map_err(|error| match error.is_transient() {
            true => Error::Unreachable(error.into()),
            false => Error::NotSent(error.into()),
        })?;
        if answer.status.is_success() {
            return Ok(());
        }
        let document = match answer.body {
            ForwardedBody::Whole(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            ForwardedBody::Streaming(_) => String::new(),
        };
        let field = |name: &str| {
            let (_, rest) = document.split_once(&format!("<{name}>"))?;
            rest.split_once("</").map(|(text, _)| text.to_owned())
        };
        Err(Error::Refused(Box::new(Refusal {
            status: answer.status.as_u16(),
            code: field("Code").unwrap_or_default(),
            message: field("Message").unwrap_or_default(),
            headers: answer.headers,
        })))
    }

    async fn pass_once(&self, request: PassRequest<'_>) -> Result<Forwarded, ForwardError> {
        let PassRequest { method, bucket, key, query, headers, body, request_id } = request;
        let mut sent = passing_headers(headers)?;
        let id = HeaderValue::from_str(request_id.as_str()).map_err(|err| ForwardError::Request(err.into()))?;
        sent.insert(HeaderName::from_static(RequestId::BACKEND_HEADER), id);
        let (progress, signable) = (Progress::new(), signable(&body));
        let stream = match body {
            None => {
                progress.set(Turn::Answer(Instant::now()));
                stream::empty().boxed()
            }
            Some(body) => framed(body, &mut sent),
        };
        let watched = Watched { inner: stream, progress: progress.clone() };
        let mut outgoing = Request::new(StreamBody::new(watched.map_ok(Frame::data)).boxed_unsync());
        let target = ForwardRequest { method, bucket: Some(bucket), key, query, headers, body: Bytes::new(), request_id };
        *outgoing.uri_mut() = self.uri(&target)?;
        *outgoing.method_mut() = target.method;
        *outgoing.headers_mut() = sent;
        let credentials = self.credentials().await?;
        self.sign(&mut outgoing, signable, credentials)?;
        let limits = self.settings();
        let patience = Patience { idle: limits.idle_timeout, answer: limits.first_byte_timeout };
        let answer = progress.watch(self.streams().request(outgoing), patience).await;
        let answer = answer.map_err(|_| ForwardError::FirstByteTimeout)?.map_err(ForwardError::Unreachable)?;
        self.take_answer(answer).await
    }
}

fn signable(body: &Option<PassBody>) -> SignableBody<'static> {
    match body {
        None => SignableBody::Bytes(b""),
        Some(PassBody { trailer: None, .. }) => SignableBody::UnsignedPayload,
        Some(PassBody { trailer: Some(_), .. }) => SignableBody::StreamingUnsignedPayloadTrailer,
    }
}

/// The body as it is sent, with the headers that say so. One that a checksum follows is one aws-chunked chunk and its trailer.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>
fn framed(body: PassBody, headers: &mut HeaderMap) -> Body {
    let PassBody { stream: plain, length, trailer } = body;
    let Some(PassTrailer { name, value_len, value }) = trailer else {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        return plain;
    };
    // A chunk without bytes would end the body.
    let (head, end) = if length == 0 { (String::new(), "0\r\n") } else { (format!("{length:x}\r\n"), "\r\n0\r\n") };
    let tail_len = end.len() + name.as_str().len() + ":".len() + value_len + "\r\n\r\n".len();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(head.len() as u64 + length + tail_len as u64));
    headers.insert("x-amz-decoded-content-length", HeaderValue::from(length));
    headers.insert(header::CONTENT_ENCODING, chunked_beside(headers.get(header::CONTENT_ENCODING)));
    headers.insert("x-amz-trailer", HeaderValue::from_str(name.as_str()).unwrap_or(HeaderValue::from_static("")));
    let tail = async move {
        let value = value()?;
        let mut tail = format!("{end}{name}:").into_bytes();
        tail.extend_from_slice(value.as_bytes());
        tail.extend_from_slice(b"\r\n\r\n");
        if tail.len() == tail_len { Ok(Bytes::from(tail)) } else { Err("the trailer has another length than it must".into()) }
    };
    stream::iter([Ok(Bytes::from(head))]).chain(plain).chain(stream::once(tail)).boxed()
}

/// The object's own codings and the framing, in one header: some stores read only the first of two.
fn chunked_beside(own: Option<&HeaderValue>) -> HeaderValue {
    let joined = own.map(|own| [own.as_bytes(), b",aws-chunked"].concat());
    joined.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).unwrap_or(HeaderValue::from_static("aws-chunked"))
}

/// The client's headers that travel with plaintext.
fn passing_headers(client: &HeaderMap) -> Result<HeaderMap, ForwardError> {
    let mut out = HeaderMap::new();
    for (name, value) in client {
        let text = name.as_str();
        if *name == header::CONTENT_ENCODING {
            // Framing ends here; other codings are the object's own.
            let codings = value.to_str().map_err(|_| ForwardError::HeaderNotText(name.clone()))?;
            let kept: Vec<_> =
                codings.split(',').map(str::trim).filter(|coding| !coding.eq_ignore_ascii_case("aws-chunked")).collect();
            if !kept.is_empty() {
                let before =
                    out.get(name).and_then(|value| value.to_str().ok()).map(|text| format!("{text},")).unwrap_or_default();
                let kept =
                    HeaderValue::try_from(before + &kept.join(",")).map_err(|_| ForwardError::HeaderNotText(name.clone()))?;
                out.insert(name.clone(), kept);
            }
        } else if may_pass(text) {
            std::str::from_utf8(value.as_bytes()).map_err(|_| ForwardError::HeaderNotText(name.clone()))?;
            out.append(name.clone(), value.clone());
        }
    }
    Ok(out)
}

fn may_pass(name: &str) -> bool {
    const PLAIN: &[&str] = &["cache-control", "content-disposition", "content-language", "expires", "if-range", "range"];
    const FAMILIES: &[&str] =
        &["x-amz-copy-source", "x-amz-meta-", "x-amz-rename-source", "x-amz-server-side-encryption-customer-"];
    may_travel(name) || PLAIN.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// A body that tells whose turn it is.
struct Watched {
    inner: Body,
    progress: Progress,
}

impl Stream for Watched {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.progress.set(Turn::Client);
        let item = ready!(self.inner.as_mut().poll_next(cx));
        self.progress.set(if item.is_some() { Turn::Store(Instant::now()) } else { Turn::Answer(Instant::now()) });
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(plain: &'static [u8], trailer: Option<&'static str>) -> PassBody {
        PassBody {
            stream: stream::iter([Ok(Bytes::from_static(plain))]).boxed(),
            length: plain.len() as u64,
            trailer: trailer.map(|value| PassTrailer {
                name: HeaderName::from_static("x-amz-checksum-crc32"),
                value_len: 8,
                value: Box::new(move || Ok(HeaderValue::from_static(value))),
            }),
        }
    }

    async fn sent(body: PassBody) -> (HeaderMap, Result<Vec<u8>, BoxError>) {
        let mut headers = HeaderMap::new();
        let pieces: Result<Vec<Bytes>, BoxError> = framed(body, &mut headers).try_collect().await;
        (headers, pieces.map(|pieces| pieces.concat()))
    }

    #[tokio::test]
    async fn a_trailer_follows_the_body_and_the_length_is_exact() {
        for (plain, text) in [
            (&b"hello world, hello"[..], "12\r\nhello world, hello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"),
            (b"", "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"),
        ] {
            let (headers, bytes) = sent(body(plain, Some("AAAAAA=="))).await;
            assert_eq!(bytes.unwrap(), text.as_bytes());
            assert_eq!(headers["content-length"], text.len().to_string());
            assert_eq!(headers["x-amz-decoded-content-length"], plain.len().to_string());
            assert_eq!(
                (&headers["x-amz-trailer"], &headers["content-encoding"]),
                (&"x-amz-checksum-crc32".parse().unwrap(), &"aws-chunked".parse().unwrap())
            );
        }
        let (headers, bytes) = sent(body(b"abc", None)).await;
        assert_eq!((bytes.unwrap(), headers.len(), &headers["content-length"]), (b"abc".to_vec(), 1, &"3".parse().unwrap()));
    }

    #[test]
    fn there_is_one_header_for_all_codings() {
        assert_eq!(chunked_beside(None), "aws-chunked");
        assert_eq!(chunked_beside(Some(&HeaderValue::from_static("gzip,br"))), "gzip,br,aws-chunked");
    }

    #[tokio::test]
    async fn a_trailer_of_another_length_breaks_the_body() {
        assert!(sent(body(b"abc", Some("AAAA"))).await.1.is_err());
    }

    #[test]
    fn only_the_clients_framing_and_signature_stay_behind() {
        let pairs = [
            ("content-encoding", "aws-chunked, gzip"),
            ("x-amz-meta-a", "1"),
            ("x-amz-copy-source", "/b/k"),
            ("range", "bytes=0-1"),
            ("authorization", "secret"),
            ("x-amz-content-sha256", "x"),
            ("x-amz-decoded-content-length", "3"),
            ("x-amz-trailer", "x"),
            ("x-amz-security-token", "x"),
            ("content-length", "3"),
            ("host", "h"),
        ];
        let client =
            pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into_iter().collect();
        let sent = passing_headers(&client).unwrap();
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-encoding", "range", "x-amz-copy-source", "x-amz-meta-a"]);
        assert_eq!(sent["content-encoding"], "gzip");
    }
}
