//! PutObject: receive, hash and write in step, verify, publish, commit.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{Extensions, HeaderMap, StatusCode};
use s3s::dto::StreamingBlob;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{BodySizeLimitExceeded, S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error};
use tokio::task::JoinHandle;

use super::bodies::{Bodies, NewBody};
use super::checks::Claims;
use super::faults::{Effect, refusal};
use super::gate::BodyFault;
use super::headers::Stored;
use super::index::{Conditions, Object};
use super::read::test;
use super::{Error, Store, blocking, now_ms};

/// Bytes that are collected before they go to a thread that may block. Two such batches exist per upload: one fills while the
/// other is hashed and written.
const BATCH: usize = 256 * 1024;

/// Storage classes that S3 knows; all are stored alike.
const STORAGE_CLASSES: [&str; 11] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "SNOW",
    "EXPRESS_ONEZONE",
];

/// An upload as it arrives.
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
    /// Bytes that the client declared, without the framing of aws-chunked.
    pub(super) declared: u64,
    pub(super) body: StreamingBlob,
    pub(super) trailers: Option<TrailingHeaders>,
}

/// What an upload became.
pub(super) struct Written {
    pub(super) etag: String,
    /// Name and value of the verified checksum header.
    pub(super) checksum: Option<(String, String)>,
}

/// Stores an object, or nothing at all.
pub(super) async fn put(store: &Arc<Store>, upload: Upload) -> S3Result<Written> {
    let Upload { bucket, key, headers, extensions, declared, mut body, trailers } = upload;
    let mut stored = Stored::from_upload(&headers)?;
    let claims = Claims::from_upload(&headers)?;
    let storage_class = storage_class(&headers)?;
    let conditions = Conditions { if_match: test(&headers, IF_MATCH)?, if_none_match: test(&headers, IF_NONE_MATCH)? };
    if declared > BATCH as u64 {
        let (store, bucket, key, conditions) = (Arc::clone(store), bucket.clone(), key.clone(), conditions.clone());
        blocking(move || store.index.would_accept(&bucket, &key, &conditions)).await?;
    }

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

    let (mut draft, rest) = sink.end().await?;
    let store = Arc::clone(store);
    let commit = move || {
        draft.write(&rest)?;
        let Draft { body, claims, .. } = *draft;
        let mut new = body.expect("a write makes the body");
        let checksum = match claims.verdict(trailers.as_ref()) {
            Ok(checksum) => checksum,
            Err(refused) => return Ok(Err(refused)),
        };
        if let Some((name, value)) = &checksum {
            stored.push(name, value.as_bytes());
        }
        new.publish()?;
        let object =
            Object { size: new.len(), etag: new.etag(), modified_ms: now_ms(), storage_class, headers: stored, body: new.id() };
        let replaced = store.index.put(&bucket, &key, &object, &conditions)?;
        new.keep();
        if let Some(replaced) = replaced {
            store.bodies.remove(replaced);
        }
        Ok(Ok(Written { etag: object.etag, checksum }))
    };
    blocking(commit).await?
}

fn storage_class(headers: &HeaderMap) -> S3Result<Option<String>> {
    let Some(class) = headers.get("x-amz-storage-class") else { return Ok(None) };
    let class = STORAGE_CLASSES.into_iter().find(|known| class.as_bytes() == known.as_bytes());
    let class = class.ok_or(S3ErrorCode::InvalidStorageClass)?;
    Ok((class != "STANDARD").then(|| class.to_owned()))
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
