//! Receiving bodies: hash and write in step with what arrives, verify, publish; and PutObject, which commits one as an object.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{Extensions, HeaderMap, StatusCode};
use rusqlite::Transaction;
use s3s::dto::StreamingBlob;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{BodySizeLimitExceeded, S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error};
use tokio::task::JoinHandle;

use super::attributes::Attributes;
use super::bodies::{Bodies, NewBody};
use super::checks::{Claims, Verified};
use super::faults::{Effect, refusal};
use super::gate::BodyFault;
use super::index::buckets::Bucket;
use super::index::conditions::Conditions;
use super::index::contents::Piece;
use super::index::{buckets, contents, versions};
use super::read::test;
use super::{Error, Store, blocking, now_ms};

/// Bytes that are collected before they go to a thread that may block. Two such batches exist per upload: one fills while the
/// other is hashed and written.
const BATCH: usize = 256 * 1024;

/// An object as it arrives.
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) headers: HeaderMap,
    pub(super) incoming: Incoming,
}

/// A body as it arrives.
pub(super) struct Incoming {
    pub(super) extensions: Extensions,
    /// Bytes that the client declared, without the framing of aws-chunked.
    pub(super) declared: u64,
    pub(super) body: StreamingBlob,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// What an upload became.
pub(super) struct Written {
    pub(super) etag: String,
    pub(super) version: Option<String>,
    pub(super) checksum: Option<Verified>,
}

/// The conditions that the headers of a write put on what is there.
///
/// # Errors
/// `InvalidArgument` for a malformed one.
pub(super) fn conditions(headers: &HeaderMap) -> S3Result<Conditions> {
    Ok(Conditions { if_match: test(headers, IF_MATCH)?, if_none_match: test(headers, IF_NONE_MATCH)? })
}

/// Whether a write would be taken, and what its object carries in this bucket.
fn admit(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    key: &str,
    attributes: &mut Attributes,
    conditions: &Conditions,
    is_checked: bool,
) -> Result<(), Error> {
    attributes.settle(transaction, bucket)?;
    attributes.lock.demand_checksum(is_checked, "Put Object")?;
    versions::check(transaction, bucket, key, conditions)
}

/// Stores an object, or nothing at all.
pub(super) async fn put(store: &Arc<Store>, upload: Upload) -> S3Result<Written> {
    let Upload { bucket, key, headers, incoming } = upload;
    let mut attributes = Attributes::from_request(&headers)?;
    let claims = Claims::from_upload(&headers)?;
    let conditions = conditions(&headers)?;
    let is_checked = claims.is_some();
    if incoming.declared > BATCH as u64 {
        // A large body need not be sent in vain.
        let (store, bucket, key) = (Arc::clone(store), bucket.clone(), key.clone());
        let (mut attributes, conditions) = (attributes.clone(), conditions.clone());
        let look = move || {
            store.index.view(|snapshot| {
                let bucket = buckets::find(snapshot, &bucket)?;
                admit(snapshot, &bucket, &key, &mut attributes, &conditions, is_checked)
            })
        };
        blocking(look).await?;
    }
    let received = receive(store, claims, incoming).await?;

    let store = Arc::clone(store);
    let commit = move || {
        let (new, checksum) = received.finish()?;
        if let Some(checksum) = &checksum {
            attributes.headers.push(&checksum.header(), checksum.value.as_bytes());
        }
        let (etag, size) = (new.etag(), new.len());
        let mut dead = Vec::new();
        let version = store.index.change(|transaction| {
            let bucket = buckets::find(transaction, &bucket)?;
            admit(transaction, &bucket, &key, &mut attributes, &conditions, is_checked)?;
            let content = contents::make(transaction, &[Piece::whole(new.id(), size)])?;
            let new = versions::New {
                content: Some(content),
                size,
                etag: &etag,
                modified_ms: now_ms(),
                parts: None,
                attributes: &attributes,
            };
            versions::add(transaction, &bucket, &key, &new, &mut dead)
        })?;
        new.keep();
        store.bury(dead);
        Ok(Written { etag, version, checksum })
    };
    Ok(blocking(commit).await?)
}

/// A body of which all but the last batch is written.
pub(super) struct Received {
    draft: Box<Draft>,
    rest: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

/// Receives a body of exactly the declared length.
///
/// # Errors
/// `IncompleteBody`, what [`body_error`] makes of a broken one, and what an injected fault answers.
pub(super) async fn receive(store: &Arc<Store>, claims: Claims, incoming: Incoming) -> S3Result<Received> {
    let Incoming { extensions, declared, mut body, trailers } = incoming;
    let mut fault = extensions.get::<BodyFault>().map(|fault| fault.0.clone());
    let mut received = 0;
    let mut sink = Sink::new(Arc::clone(&store.bodies), claims);
    strike(&mut fault, received).await?;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(body_error)?;
        received += piece.len() as u64;
        if received > declared {
            return Err(s3_error!(IncompleteBody, "The body is longer than declared."));
        }
        strike(&mut fault, received).await?;
        sink.push(piece).await?;
    }
    if received != declared {
        return Err(S3ErrorCode::IncompleteBody.into());
    }
    let trailers = trailers.and_then(|trailers| trailers.take());
    let (draft, rest) = sink.end().await?;
    Ok(Received { draft, rest, trailers })
}

impl Received {
    /// Writes the last batch, verifies what the content claims to be, and publishes the body. This blocks.
    ///
    /// # Errors
    /// Those of [`Claims::verdict`], and [`Error::Body`].
    pub(super) fn finish(self) -> Result<(NewBody, Option<Verified>), Error> {
        let Self { mut draft, rest, trailers } = self;
        draft.write(&rest)?;
        let Draft { body, claims, .. } = *draft;
        let mut new = body.expect("a write makes the body");
        let checksum = claims.verdict(trailers.as_ref())?;
        new.publish()?;
        Ok((new, checksum))
    }
}

/// A body in the making together with what its content claims to be.
struct Draft {
    bodies: Arc<Bodies>,
    /// Made with the first write, on a blocking thread.
    body: Option<NewBody>,
    claims: Claims,
}

impl Draft {
    fn write(&mut self, pieces: &[Bytes]) -> Result<&mut NewBody, Error> {
        self.claims.update(pieces);
        let body = match self.body.take() {
            Some(body) => body,
            None => self.bodies.create()?,
        };
        let body = self.body.insert(body);
        body.write(pieces)?;
        Ok(body)
    }
}

enum State {
    Idle(Box<Draft>),
    Writing(JoinHandle<Result<Box<Draft>, Error>>),
    /// A write failed, and the upload with it.
    Failed,
}

/// Collects pieces into batches and has each written while the next one arrives. A sink that is dropped leaves no file behind.
struct Sink {
    batch: Vec<Bytes>,
    batch_len: usize,
    state: State,
}

impl Sink {
    fn new(bodies: Arc<Bodies>, claims: Claims) -> Self {
        let draft = Draft { bodies, body: None, claims };
        Self { batch: Vec::new(), batch_len: 0, state: State::Idle(Box::new(draft)) }
    }

    async fn push(&mut self, piece: Bytes) -> Result<(), Error> {
        self.batch_len += piece.len();
        self.batch.push(piece);
        if self.batch_len < BATCH {
            return Ok(());
        }
        let mut draft = self.draft().await?;
        self.batch_len = 0;
        let batch = std::mem::take(&mut self.batch);
        self.state = State::Writing(tokio::task::spawn_blocking(move || {
            draft.write(&batch)?;
            Ok(draft)
        }));
        Ok(())
    }

    /// Waits for the write under way.
    async fn draft(&mut self) -> Result<Box<Draft>, Error> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(draft) => Ok(draft),
            State::Writing(writing) => writing.await.map_err(|_stopped| Error::Stopping)?,
            State::Failed => Err(Error::Stopping),
        }
    }

    /// The draft and the batch that is not written yet.
    async fn end(mut self) -> Result<(Box<Draft>, Vec<Bytes>), Error> {
        let draft = self.draft().await?;
        Ok((draft, self.batch))
    }
}

/// Lets an injected fault strike when enough was received.
async fn strike(fault: &mut Option<Effect>, received: u64) -> S3Result<()> {
    match fault {
        Some(Effect::FailUpload { after, status, code }) if received >= *after => Err(refusal(*status, code)),
        Some(Effect::StallUpload { after, pause }) if received >= *after => {
            let pause = *pause;
            *fault = None;
            tokio::time::sleep(pause).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What S3 calls a body that is not what the signature or the framing says.
fn body_error(error: StdError) -> S3Error {
    if let Some(error) = error.downcast_ref::<UploadStreamError>() {
        return match error {
            UploadStreamError::Sha256Mismatch => {
                let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
                let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
                let mut error = S3Error::with_message(code, message);
                error.set_status_code(StatusCode::BAD_REQUEST);
                error
            }
            UploadStreamError::LengthMismatch | UploadStreamError::Incomplete | UploadStreamError::Underlying(_) => {
                S3ErrorCode::IncompleteBody.into()
            }
        };
    }
    if let Some(error) = error.downcast_ref::<AwsChunkedStreamError>() {
        return match error {
            AwsChunkedStreamError::Underlying(_) => S3ErrorCode::IncompleteBody.into(),
            other => other.to_s3_error_code().into(),
        };
    }
    if error.is::<BodySizeLimitExceeded>() {
        return S3ErrorCode::EntityTooLarge.into();
    }
    // All that is left is the connection: the client went away or broke its own framing.
    S3ErrorCode::IncompleteBody.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sink_writes_in_batches_and_leaves_nothing_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), false).unwrap();
        let mut sink = Sink::new(Arc::clone(&bodies), Claims::default());
        for _ in 0..20 {
            sink.push(Bytes::from(vec![7; BATCH / 3])).await.unwrap();
        }
        let (mut draft, rest) = sink.end().await.unwrap();
        assert!(rest.len() < 3);
        assert_eq!(draft.write(&rest).unwrap().len(), 20 * (BATCH as u64 / 3));
        drop(draft);
        assert_eq!(bodies.sweep(&std::collections::HashSet::new()).unwrap(), 0);
    }
}
