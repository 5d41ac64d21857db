//! Objects that are too large for a single request to the store: the gateway writes them as uploads in parts, for a PutObject and for
//! a copy that passes through. Such an upload has no record and no other state, since nobody but its own request knows of it; when the
//! request ends early the upload is aborted.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::Stream;
use http::{HeaderMap, header};

use crate::backend::{CompleteUpload, CompletedUpload, ObjectName, PutPart, S3Backend, Upload};
use crate::crypto::ObjectKeys;
use crate::format::layout::PARTS_MAX;
use crate::format::{ChecksumAlgorithm, ChecksumBytes, Envelope, Footer, Layout, PartHeader, PlainLen, TableEntry};
use crate::ops::check::{BodyCheck, PartSum, now_ms};
use crate::ops::protection::Protection;
use crate::ops::{Error, Gateway, headers};
use crate::stream::{self, BoxError, FooterFacts, PlainCheck};

/// The largest object that S3 takes, less what sealing adds (FORMAT section 8).
pub const LARGE_PLAIN_MAX: u64 = 5_496_214_849_456;
/// Plaintext of a part, unless the object would have too many of them.
const PART: u64 = 64 << 20;

/// An object to be written in parts.
pub(in crate::ops) struct Large {
    pub object: ObjectName,
    pub length: PlainLen,
    /// Made for an object in parts.
    pub keys: ObjectKeys,
    /// What creates the upload: the envelope, and all that is stored beside the object.
    pub created_with: HeaderMap,
    /// What goes with every other request.
    pub guards: HeaderMap,
    /// What goes with the last request: guards and conditions.
    pub completed_with: HeaderMap,
    /// Looks at the whole plaintext.
    pub check: Box<dyn PlainCheck>,
    /// The algorithm of the checksum that `check` finds.
    pub algorithm: Option<ChecksumAlgorithm>,
    /// What the client hears when the plaintext is the reason of a failure.
    pub explain: fn(stream::Error) -> Error,
}

impl Gateway {
    /// Stores a PutObject in parts. The answer is the store's to the last request.
    #[expect(clippy::too_many_arguments, reason = "a request in its pieces, of which each goes another way")]
    pub(in crate::ops) async fn put_large(
        &self,
        object: ObjectName,
        client: &HeaderMap,
        extensions: &http::Extensions,
        wanted: &Protection,
        plain: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
        length: PlainLen,
        check: BodyCheck,
    ) -> Result<(CompletedUpload, Envelope), Error> {
        let fresh = self.keys.fresh_with(&wanted.choice, &object.bucket, &object.key, Layout::Multipart).await?;
        let created_with = headers::for_create(client, extensions, (&fresh.envelope, &fresh.keys), wanted)?;
        let large = Large {
            object,
            length,
            keys: fresh.keys,
            created_with,
            guards: headers::guards(client, extensions),
            completed_with: headers::for_complete(client, extensions)?,
            algorithm: check.declared(),
            check: Box::new(check),
            explain: Error::Body,
        };
        Ok((self.write_in_parts(large, plain).await?, fresh.envelope))
    }

    /// Seals a plaintext into an object in parts, one after the other. Nothing comes into being unless the plaintext ends with exactly
    /// its length and the check agrees.
    pub(in crate::ops) async fn write_in_parts(
        &self,
        large: Large,
        plain: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    ) -> Result<CompletedUpload, Error> {
        let Large { object, length, keys, created_with, guards, completed_with, check, algorithm, explain } = large;
        let keys = Arc::new(keys);
        let created = self.backend.create_upload(object.clone(), created_with).await?;
        let upload = AbortOnDrop::new(&self.backend, Upload { object, id: created.id }, guards.clone());

        let completed = async {
            let body = Arc::new(Mutex::new(Body { source: Box::pin(plain), rest: Bytes::new() }));
            let whole = Arc::new(Mutex::new(Whole { check, crc64: Digest::new(CrcAlgorithm::Crc64Nvme) }));
            let (mut entries, mut parts) = (Vec::new(), Vec::new());
            for (number, plain_len) in (1..).zip(part_lens(length, self.multipart.put_max)) {
                let header = PartHeader::part(self.keys.part_id()?, number, plain_len)?;
                let (sum, kept) = PartSum::new(algorithm);
                let slice = Slice { body: body.clone(), left: plain_len.get() };
                let sealed = stream::seal_part(slice, keys.clone(), header, Box::new(PartCheck { whole: whole.clone(), sum }));
                let outcome = sealed.outcome();
                let part = PutPart { upload: upload.upload().clone(), number, headers: guards.clone(), body: sealed };
                let answer = match self.backend.upload_part(part).await {
                    Ok(answer) => answer,
                    Err(store) => return Err(outcome.take_error().map_or(Error::Backend(store), explain)),
                };
                let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
                parts.push((number, etag.ok_or(Error::Internal("the store gave no ETag"))?.trim_matches('"').to_owned()));
                let checksum = kept.get().copied().unwrap_or(ChecksumBytes::EMPTY);
                entries.push(TableEntry { number, plain_len, part_id: Some(header.part_id), checksum });
            }

            // Everything that has been stored so far is no object yet. The body must end here and be what was declared.
            ended(&body).await.map_err(explain)?;
            let (facts, crc64) = {
                let mut whole = lock(&whole);
                let facts = whole.check.verdict().map_err(|verdict| explain(stream::Error::Rejected(verdict)))?;
                (facts, whole.crc64.finalize())
            };
            let mut footer = Footer {
                plain_len: length,
                time_ms: now_ms(),
                checksum: facts.checksum,
                crc64: Some(crc64),
                md5: facts.md5,
                parts: entries,
            };
            if footer.checksum.is_some_and(|sum| sum.value().len() > 32) {
                // The table has no room for both (FORMAT section 7). It has been verified all the same.
                footer.checksum = None;
                footer.parts.iter_mut().for_each(|part| part.checksum = ChecksumBytes::EMPTY);
            }
            let number = u16::try_from(parts.len() + 1).map_err(|_| Error::Internal("too many parts"))?;
            let end = stream::seal_end(&footer, keys, None).map_err(|error| Error::Integrity(error.into()))?;
            let part = PutPart { upload: upload.upload().clone(), number, headers: guards, body: end };
            let answer = self.backend.upload_part(part).await?;
            let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
            parts.push((number, etag.ok_or(Error::Internal("the store gave no ETag"))?.trim_matches('"').to_owned()));
            let complete = CompleteUpload {
                upload: upload.upload().clone(),
                headers: completed_with,
                parts,
                sealed_size: length.sealed().get(),
            };
            Ok(self.backend.complete_upload(complete).await?)
        };
        let completed = completed.await;
        upload.settle(completed).await
    }
}

/// How the plaintext is cut: into parts of about the same length, each as long as a part must be, and one number left for the end.
fn part_lens(length: PlainLen, put_max: u64) -> impl Iterator<Item = PlainLen> {
    let part = PART.min(put_max).max(length.get().div_ceil(PARTS_MAX - 1));
    let count = (length.get() / part).max(1);
    let (each, longer) = (length.get() / count, length.get() % count);
    (0..count).filter_map(move |index| PlainLen::new(each + u64::from(index < longer)))
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client's body, from which one part after the other takes its bytes.
struct Body {
    source: Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>,
    rest: Bytes,
}

/// The next so many bytes of a body.
struct Slice {
    body: Arc<Mutex<Body>>,
    left: u64,
}

impl Stream for Slice {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut piece = {
            let mut body = lock(&self.body);
            if body.rest.is_empty() {
                match ready!(body.source.as_mut().poll_next(cx)) {
                    Some(Ok(piece)) => body.rest = piece,
                    other => return Poll::Ready(other),
                }
            }
            let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(body.rest.len());
            body.rest.split_to(fits)
        };
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(std::mem::take(&mut piece))))
    }
}

/// Waits for the end of the body, so that its trailers are there.
///
/// # Errors
/// A body that goes on, or breaks off.
async fn ended(body: &Arc<Mutex<Body>>) -> Result<(), stream::Error> {
    let mut rest = Slice { body: body.clone(), left: 1 };
    loop {
        match futures::future::poll_fn(|cx| Pin::new(&mut rest).poll_next(cx)).await {
            None => return Ok(()),
            Some(Ok(piece)) if piece.is_empty() => {}
            Some(Ok(_)) => return Err(stream::Error::LongBody { wanted: 0 }),
            Some(Err(cause)) => return Err(stream::Error::Source(cause)),
        }
    }
}

/// What is computed over the whole body.
struct Whole {
    check: Box<dyn PlainCheck>,
    crc64: Digest,
}

/// Looks at one part of a body. The verdict on the whole body comes later, before it becomes an object.
struct PartCheck {
    whole: Arc<Mutex<Whole>>,
    sum: PartSum,
}

impl PlainCheck for PartCheck {
    fn update(&mut self, plain: &[u8]) {
        let mut whole = lock(&self.whole);
        whole.check.update(plain);
        whole.crc64.update(plain);
        self.sum.update(plain);
    }

    fn verdict(&mut self) -> Result<FooterFacts, BoxError> {
        self.sum.finish()?;
        Ok(FooterFacts { checksum: None, md5: None, time_ms: now_ms() })
    }
}

/// How long a failure waits until its upload is aborted.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// Aborts an upload that is not completed, also when the client goes away.
pub(in crate::ops) struct AbortOnDrop {
    backend: S3Backend,
    upload: Upload,
    guards: HeaderMap,
    armed: bool,
}

impl AbortOnDrop {
    pub(in crate::ops) fn new(backend: &S3Backend, upload: Upload, guards: HeaderMap) -> Self {
        Self { backend: backend.clone(), upload, guards, armed: true }
    }

    pub(in crate::ops) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// The upload has come to this. One that failed is aborted, and that is waited for, for a while: whoever hears of the failure may be a
    /// process that ends with it.
    pub(in crate::ops) async fn settle<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        match outcome {
            Ok(_) => self.armed = false,
            Err(_) => {
                if let Some(aborted) = self.abort() {
                    let _ = tokio::time::timeout(ABORT_PATIENCE, aborted).await;
                }
            }
        }
        outcome
    }

    /// Goes on by itself, whoever waits for it.
    fn abort(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        let (true, Ok(runtime)) = (self.armed, tokio::runtime::Handle::try_current()) else { return None };
        self.armed = false;
        let (backend, upload, guards) = (self.backend.clone(), self.upload.clone(), std::mem::take(&mut self.guards));
        Some(runtime.spawn(async move {
            if let Err(error) = backend.abort_upload(upload.clone(), guards).await {
                tracing::warn!(bucket = %upload.object.bucket, key = %upload.object.key, upload = upload.id, error = &error as &dyn std::error::Error, "an unfinished upload could not be aborted");
            }
        }))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::layout::{PART_MIN, PART_PLAIN_MAX, SINGLE_PLAIN_MAX};

    #[test]
    fn parts_are_long_enough_and_not_too_many() {
        for (length, put_max) in [
            (PART_MIN + 1, PART_MIN),
            (2 * PART_MIN - 1, PART_MIN),
            (17 << 20, PART_MIN),
            (SINGLE_PLAIN_MAX + 1, SINGLE_PLAIN_MAX),
            (5 << 30, SINGLE_PLAIN_MAX),
            (LARGE_PLAIN_MAX, SINGLE_PLAIN_MAX),
            (LARGE_PLAIN_MAX, PART_MIN),
        ] {
            let lens: Vec<u64> = part_lens(PlainLen::new(length).unwrap(), put_max).map(PlainLen::get).collect();
            assert_eq!(lens.iter().sum::<u64>(), length);
            assert!(lens.len() < 10_000 && lens.iter().all(|len| (PART_MIN..=PART_PLAIN_MAX).contains(len)), "{length}");
        }
    }
}
