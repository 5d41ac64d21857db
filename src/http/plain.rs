//! Buckets that hold plaintext by configuration: whatever else would seal or open passes as it is.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::front::{answered, forward_error};
use super::route::{Classified, Way};
use crate::backend::forward::Forwarder;
use crate::backend::passing::{PassBody, PassRequest, PassTrailer};
use crate::observe::request::RequestRecord;
use crate::observe::request_id::RequestId;
use crate::ops::{Access, AccessRules, BodyFault, refusal_of, trailer_value_len};

/// A key of the client's own is never sent on, and to drop it would leave the object open to everybody else.
fn refuse_own_keys(headers: &HeaderMap) -> S3Result<()> {
    match headers.keys().any(|name| name.as_str().contains("server-side-encryption-customer-")) {
        true => Err(s3_error!(
            NotImplemented,
            "Customer provided keys are not taken for a bucket that is configured to hold plaintext."
        )),
        false => Ok(()),
    }
}

/// Which requests pass, and where to.
pub(super) struct PlainWay {
    pub access: Arc<AccessRules>,
    pub forwarder: Forwarder,
}

impl PlainWay {
    /// Whether a request passes as it is: one that S3 knows, for a bucket in which nothing is sealed. What never touches object data goes
    /// the forward way all the same, and credentials for the store are not handed out anywhere.
    pub fn takes(&self, classified: &Classified) -> bool {
        matches!(classified.verdict, Ok(Way::Sealed | Way::Later))
            && classified.operation != "CreateSession"
            && self.is_plaintext(classified)
    }

    /// Whether the bucket of a request holds plaintext.
    pub fn is_plaintext(&self, classified: &Classified) -> bool {
        classified.target.bucket().is_some_and(|bucket| self.access.of(bucket) == Access::Plaintext)
    }

    /// Passes a request on and its answer back.
    pub async fn pass(&self, mut req: S3Request<Body>, classified: &Classified) -> S3Result<S3Response<Body>> {
        let bucket = classified.target.bucket().ok_or_else(|| S3Error::new(S3ErrorCode::InternalError))?;
        for (name, value) in &classified.hoisted {
            let bad = || s3_error!(InvalidArgument, "The query parameter {name:?} is not a header value.");
            let header = HeaderName::try_from(name).map_err(|_| bad())?;
            req.headers.insert(header, HeaderValue::try_from(value).map_err(|_| bad())?);
        }
        self.refuse_sealed_source(&req.headers)?;
        refuse_own_keys(&req.headers)?;
        let body = pass_body(&req.headers, std::mem::take(&mut req.input), req.trailing_headers.take())?;
        let record = req.extensions.get::<RequestRecord>();
        let request = PassRequest {
            method: req.method.clone(),
            bucket,
            key: classified.target.key(),
            query: &classified.query,
            headers: &req.headers,
            body,
            request_id: record.map_or_else(RequestId::fresh, RequestRecord::id),
        };
        match self.forwarder.pass(request).await {
            Ok(answer) => Ok(answered(answer, record)),
            // A body that broke off is the client's own fault, whatever the connection to the store made of it.
            Err(err) => Err(refusal_of(&err).unwrap_or_else(|| forward_error(err, record))),
        }
    }

    /// A copy by the store would put ciphertext into a bucket where nobody opens it.
    fn refuse_sealed_source(&self, headers: &HeaderMap) -> S3Result<()> {
        for name in ["x-amz-copy-source", "x-amz-rename-source"] {
            let Some(value) = headers.get(name) else { continue };
            let bad = || s3_error!(InvalidArgument, "The header {name} does not name an object.");
            let source = percent_encoding::percent_decode(value.as_bytes()).decode_utf8().map_err(|_| bad())?;
            let (bucket, _) = source.strip_prefix('/').unwrap_or(&source).split_once('/').ok_or_else(bad)?;
            if self.access.of(bucket) != Access::Plaintext {
                return Err(s3_error!(
                    NotImplemented,
                    "An encrypted object cannot be copied into a bucket that holds plaintext."
                ));
            }
        }
        Ok(())
    }
}

/// The body as it passes: without the client's framing, with the checksum that follows it.
fn pass_body(headers: &HeaderMap, body: Body, trailers: Option<TrailingHeaders>) -> S3Result<Option<PassBody>> {
    let number = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
    let is_framed = headers.contains_key("x-amz-decoded-content-length");
    let length = match is_framed {
        true => number("x-amz-decoded-content-length"),
        false => number("content-length").or_else(|| body.size_hint().exact()),
    };
    let Some(length) = length else { return Err(S3Error::new(S3ErrorCode::MissingContentLength)) };
    if length == 0 && !is_framed && !headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(None);
    }
    let trailer = match headers.get("x-amz-trailer") {
        None => None,
        Some(name) => Some(pass_trailer(name, trailers)?),
    };
    let stream = body.map_err(|error| error as Box<dyn std::error::Error + Send + Sync>).boxed();
    Ok(Some(PassBody { stream, length, trailer }))
}

fn pass_trailer(name: &HeaderValue, trailers: Option<TrailingHeaders>) -> S3Result<PassTrailer> {
    let unknown = || s3_error!(InvalidRequest, "The value specified in the x-amz-trailer header is not supported");
    let name = name.to_str().ok().and_then(|name| HeaderName::try_from(name.trim()).ok()).ok_or_else(unknown)?;
    let value_len = trailer_value_len(name.as_str()).ok_or_else(unknown)?;
    let trailers = trailers.ok_or_else(|| s3_error!(InvalidRequest, "x-amz-trailer needs an aws-chunked body"))?;
    let wanted = name.clone();
    let value = Box::new(move || {
        let value = trailers.read(|map| map.get(&wanted).cloned()).flatten().ok_or(BodyFault::FinalChunkMissing)?;
        if value.len() == value_len { Ok(value) } else { Err(BodyFault::Framing.into()) }
    });
    Ok(PassTrailer { name, value_len, value })
}
