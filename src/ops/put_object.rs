//! PutObject: check, seal, store.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue};
use s3s::dto::{PutObjectInput, PutObjectOutput};
use s3s::{S3Request, S3Response};

use super::check::{BodyCheck, checksum_headers};
use super::multipart::LARGE_PLAIN_MAX;
use super::{Error, Gateway, headers};
use crate::backend::{self, ObjectName};
use crate::format::{Layout, ObjectChecksum, PlainLen};
use crate::stream;

impl Gateway {
    pub(super) async fn seal_and_put(&self, req: S3Request<PutObjectInput>) -> Result<S3Response<PutObjectOutput>, Error> {
        let length = req.input.content_length.ok_or(Error::MissingContentLength)?;
        let length = u64::try_from(length).map_err(|_| Error::MissingContentLength)?;
        let length = PlainLen::new(length).filter(|length| length.get() <= LARGE_PLAIN_MAX).ok_or(Error::EntityTooLarge)?;
        self.multipart.place.admit(&req.input.bucket, &req.input.key)?;
        let check = BodyCheck::new(&req.headers, req.trailing_headers)?;
        if !check.is_declared() && req.headers.keys().any(|name| name.as_str().starts_with("x-amz-object-lock-")) {
            return Err(Error::InvalidRequest(
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
            ));
        }
        let verified = check.verified();
        let wanted = self.protection(&req.headers, &req.extensions)?;
        if length.get() > self.multipart.put_max {
            let object = ObjectName { bucket: req.input.bucket, key: req.input.key };
            let plain = req.input.body.ok_or(Error::MissingContentLength)?;
            let (completed, envelope) =
                self.put_large(object, &req.headers, &req.extensions, &wanted, plain, length, check).await?;
            let mut shown = shown_put(completed.headers, Some(completed.etag), &verified);
            self.announce(&mut shown.headers, &envelope, wanted.customer_md5());
            return Ok(shown);
        }

        let fresh = self.keys.fresh_with(&wanted.choice, &req.input.bucket, &req.input.key, Layout::Single).await?;
        let sent = headers::for_write(&req.headers, &req.extensions, (&fresh.envelope, &fresh.keys), &wanted)?;
        let plain = req.input.body.unwrap_or_else(|| s3s::dto::StreamingBlob::from_bytes(bytes::Bytes::new()));
        let body = stream::seal_object(plain, fresh.keys, length, Box::new(check));
        let outcome = body.outcome();

        let object = ObjectName { bucket: req.input.bucket, key: req.input.key };
        let answer = match self.backend.put_object(backend::PutObject { object, headers: sent, body }).await {
            Ok(answer) => answer,
            // The store saw a short body; why it was short is what the client needs to know.
            Err(store) => return Err(outcome.take_error().map_or(Error::Backend(store), Error::Body)),
        };
        // Whoever answers without one is no S3 store, and whether it kept the object nobody knows.
        if !answer.headers.contains_key(http::header::ETAG) {
            return Err(Error::Internal("the store gave no ETag"));
        }
        let mut shown = shown_put(answer.headers, None, &verified);
        self.announce(&mut shown.headers, &fresh.envelope, wanted.customer_md5());
        Ok(shown)
    }
}

/// The answer to a PutObject. `etag` is the store's where its headers do not have it.
fn shown_put(mut stored: HeaderMap, etag: Option<String>, verified: &OnceLock<ObjectChecksum>) -> S3Response<PutObjectOutput> {
    if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        stored.insert(http::header::ETAG, etag);
        stored.remove(http::header::CONTENT_TYPE);
    }
    let mut shown = headers::for_client_object(stored);
    if let Some(checksum) = verified.get() {
        shown.extend(checksum_headers(checksum));
    }
    S3Response::with_headers(PutObjectOutput::default(), shown)
}
