//! Objects that AWS's own S3 Encryption Client wrote, in buckets whose rule says that they are read (docs/AWS_ENCRYPTION_CLIENT.md).
//!
//! One tag at the end authenticates the whole, so the whole is fetched and verified before a byte of it is released, also for a range. That
//! takes memory: each object up to the limit of its bucket, and all of them together up to [`BYTES_AT_ONCE`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::header::{CONTENT_LENGTH, IF_MATCH};
use http::{HeaderMap, HeaderValue};
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::get_object::{Opened, Read, collect, sent_span};
use super::object::{Found, Unsealed};
use super::part_number::Part;
use super::{Error, Gateway, headers};
use crate::backend::{self, Body, ObjectName, Select};
use crate::crypto::AwsSeal;
use crate::format::{self, AwsClaim, AwsObject, AwsRefusal, Fields, INSTRUCTION_SUFFIX, is_of_client};
use crate::keys::Label;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Memory for such objects, over all requests of the process.
pub const BYTES_AT_ONCE: u64 = 256 << 20;
/// How long a read waits for its share of that memory.
const PATIENCE: Duration = Duration::from_secs(20);
/// Unit of the shares: a semaphore counts in 32 bits.
const SHARE: u64 = 1 << 10;
/// An instruction file has some hundred bytes.
const INSTRUCTION_BYTES_MAX: u64 = 16 << 10;
/// Bytes of one piece of an answer.
const PIECE: usize = 64 << 10;

/// How the objects of AWS's client are read in one bucket.
#[derive(Debug, Clone)]
pub struct AwsClientRule {
    /// The configured key that their keys are wrapped under.
    pub label: Label,
    /// The longest object, in plaintext bytes.
    pub bytes_max: u64,
}

/// The rules of all buckets, and the memory that all such reads share.
pub struct AwsClients {
    buckets: BTreeMap<String, AwsClientRule>,
    room: Arc<Semaphore>,
    patience: Duration,
}

impl Default for AwsClients {
    fn default() -> Self {
        Self::new([])
    }
}

impl AwsClients {
    /// The buckets that have a rule; in all others such objects are what any foreign object is.
    pub fn new(buckets: impl IntoIterator<Item = (String, AwsClientRule)>) -> Self {
        let shares = usize::try_from(BYTES_AT_ONCE / SHARE).unwrap_or(Semaphore::MAX_PERMITS);
        Self { buckets: buckets.into_iter().collect(), room: Arc::new(Semaphore::new(shares)), patience: PATIENCE }
    }

    pub(super) fn of(&self, bucket: &str) -> Option<&AwsClientRule> {
        self.buckets.get(bucket)
    }

    /// Memory for an object of so many bytes.
    async fn room_for(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Error> {
        let shares = u32::try_from(bytes.min(BYTES_AT_ONCE).div_ceil(SHARE)).unwrap_or(u32::MAX);
        match tokio::time::timeout(self.patience, self.room.clone().acquire_many_owned(shares)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Error::Coded {
                code: "SlowDown",
                status: 503,
                text: "Too many objects of AWS's encryption client are being read at one time. Please try again.",
            }),
        }
    }
}

/// An object of AWS's client as what lies beside it describes it.
pub struct AwsStored {
    object: AwsObject,
    sealed_len: u64,
    /// Bytes of plaintext: both formats add a tag and nothing else.
    pub plain_len: u64,
    /// The store's own ETag, quotes included.
    etag: HeaderValue,
}

impl AwsStored {
    /// Marks an answer about this object, and takes from it what only the client has a use for.
    pub fn show(&self, answer: HeaderMap) -> HeaderMap {
        headers::for_client_of_aws(answer, self.object.format.name())
    }
}

/// Whether an answer shows fields of AWS's client, whatever a rule says of them.
pub(super) fn has_fields(answer: &HeaderMap) -> bool {
    let of_client = |name: &http::HeaderName| name.as_str().strip_prefix("x-amz-meta-").is_some_and(is_of_client);
    answer.keys().any(of_client)
}

impl From<AwsRefusal> for Error {
    fn from(refusal: AwsRefusal) -> Self {
        match refusal {
            AwsRefusal::Unsupported(text) => Self::NotImplemented(text),
            AwsRefusal::Malformed(_) => Self::Integrity(refusal.into()),
        }
    }
}

impl Gateway {
    /// What an answer of the store to GetObject or HeadObject shows: as [`Gateway::found`], and where the bucket's rule says so an object of
    /// AWS's client. An envelope always comes first. What names no key may have an instruction file, which costs one more request.
    ///
    /// # Errors
    /// As [`Gateway::found`]; fields that the client never writes, and what it may write that is not read here.
    pub(super) async fn recognise(&self, object: &ObjectName, guards: &HeaderMap, answer: &HeaderMap) -> Result<Found, Error> {
        match self.aws_object(object, guards, answer).await? {
            Some(stored) => Ok(Found::AwsClient(stored)),
            None => self.found(&object.bucket, answer),
        }
    }

    /// The object of AWS's client that an answer shows, if it is one and the bucket's rule reads them.
    pub(super) async fn aws_object(
        &self,
        object: &ObjectName,
        guards: &HeaderMap,
        answer: &HeaderMap,
    ) -> Result<Option<AwsStored>, Error> {
        if self.aws_clients.of(&object.bucket).is_none() || answer.contains_key(format::HEADER) {
            return Ok(None);
        }
        let metadata = fields(answer)?;
        let found = match AwsObject::of_metadata(&metadata)? {
            AwsClaim::Whole(found) => found,
            claim => match self.instruction(object, guards, &metadata).await? {
                Some(found) => found,
                None if claim == AwsClaim::Nothing => return Ok(None),
                None => return Err(Error::Integrity("the object's key is in an instruction file, and there is none".into())),
            },
        };
        let Unsealed { len, etag } = Unsealed::read(answer)?;
        let plain_len = AwsSeal::plain_len(len).ok_or_else(|| Error::Integrity("shorter than a tag".into()))?;
        Ok(Some(AwsStored { object: found, sealed_len: len, plain_len, etag }))
    }

    async fn instruction(&self, object: &ObjectName, guards: &HeaderMap, metadata: &Fields) -> Result<Option<AwsObject>, Error> {
        let mut headers = guards.clone();
        headers.remove(IF_MATCH); // that of the object
        let file = ObjectName { bucket: object.bucket.clone(), key: format!("{}{INSTRUCTION_SUFFIX}", object.key) };
        let answer = match self.backend.get_object(Select { object: file, version_id: None, headers, range: None }).await {
            Ok(answer) => answer,
            Err(backend::Error::Refused(refusal)) if refusal.status == 404 => return Ok(None),
            // A name that is too long for the store with the ending has no such file.
            Err(backend::Error::Refused(refusal)) if refusal.code == "KeyTooLongError" => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let length = answer.headers.get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
        // Whatever is sealed, longer, or no JSON of texts, is something else that has this name.
        let Some(length) = length.filter(|length| *length <= INSTRUCTION_BYTES_MAX) else { return Ok(None) };
        if answer.headers.contains_key(format::HEADER) {
            return Ok(None);
        }
        let text = collect(answer.body, length).await?;
        let Ok(file) = serde_json::from_slice::<Fields>(&text) else { return Ok(None) };
        Ok(AwsObject::of_instruction(metadata, &file)?)
    }

    /// The verified plaintext of a whole object, with the memory it takes. `body` is what the store has sent of it, if that is all of it.
    async fn open_aws(
        &self,
        select: Select,
        stored: &AwsStored,
        body: Option<Body>,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Error> {
        let bucket = select.object.bucket.clone();
        let rule = self.aws_clients.of(&bucket).ok_or(Error::Internal("a rule that is gone"))?;
        if stored.plain_len > rule.bytes_max {
            return Err(Error::Coded {
                code: "InvalidRequest",
                status: 400,
                text: "The object was written by AWS's encryption client. It can be verified as a whole only, and it is longer than the \
                       gateway's configuration takes for that (aws_client_bytes_max).",
            });
        }
        let context = match serde_json::from_str::<Fields>(&stored.object.context) {
            Ok(context) => stored.object.key_context(context)?,
            Err(_) if stored.object.context.starts_with("=?") => {
                return Err(Error::NotImplemented(
                    "The encryption context that AWS's encryption client stored with this object is not ASCII.",
                ));
            }
            Err(_) => return Err(Error::Integrity("the encryption context is no JSON object of texts".into())),
        };
        let key = self.keys.unwrap_foreign(&rule.label, &context, &stored.object.wrapped_key).await?;
        let permit = self.aws_clients.room_for(stored.sealed_len).await?;
        let body = match body {
            Some(body) => body,
            None => {
                let mut select = Select { range: None, ..select };
                select.headers.insert(IF_MATCH, stored.etag.clone());
                let answer = self.backend.get_object(select).await?;
                let again = Unsealed::read(&answer.headers)?;
                if again.etag != stored.etag || again.len != stored.sealed_len {
                    return Err(Error::Integrity("the object changed between two requests".into()));
                }
                answer.body
            }
        };
        let mut sealed = fetch(body, stored.sealed_len).await?;
        let seal = stored.object.seal;
        // Long enough to keep others waiting.
        let opened = tokio::task::spawn_blocking(move || {
            let length = seal.open(&key, &mut sealed)?.len();
            sealed.truncate(length);
            Ok::<_, crate::crypto::Error>(Bytes::from(sealed))
        });
        let plain = opened.await.map_err(|_| Error::Internal("opening an object ended early"))?;
        Ok((plain.map_err(|error| Error::Integrity(error.into()))?, permit))
    }
}

impl Read<'_> {
    /// Opens an object of AWS's client: whole, whatever was asked for.
    pub(super) async fn open_aws(&self, headers: HeaderMap, body: Option<Body>, stored: &AwsStored) -> Result<Opened, Error> {
        let range = match self.part {
            Some(number) => Part::of_bytes(number, stored.plain_len)?.span,
            None => self.wanted(&headers).within_bytes(stored.plain_len)?,
        };
        let is_whole = sent_span(&headers) == Some((0, stored.sealed_len));
        let (object, version_id) = (self.object.clone(), self.version_id.clone());
        let select = Select { object, version_id, headers: self.guards.clone(), range: None };
        let (plain, permit) = self.gateway.open_aws(select, stored, body.filter(|_| is_whole)).await?;
        let span = match range {
            Some((first, last)) => usize::try_from(first).ok().zip(usize::try_from(last + 1).ok()),
            None => Some((0, plain.len())),
        };
        let (first, end) = span.ok_or(Error::Internal("length does not fit"))?;
        let left = plain.slice(first..end);
        let length = left.len() as u64;
        let body = StreamingBlob::new(HeldBody { left, _permit: permit });
        let (plain_len, checksum) = (stored.plain_len, Vec::new());
        Ok(Opened { headers: stored.show(headers), plain_len, range, checksum, length, body })
    }
}

/// The client's fields among the metadata of an answer.
fn fields(answer: &HeaderMap) -> Result<Fields, Error> {
    let mut fields = Fields::new();
    for (name, value) in answer {
        let Some(name) = name.as_str().strip_prefix(headers::METADATA_PREFIX).filter(|name| is_of_client(name)) else { continue };
        let text = value.to_str().map_err(|error| Error::Integrity(error.into()))?;
        if fields.insert(name.to_owned(), text.to_owned()).is_some() {
            return Err(Error::Integrity("a field of AWS's client that is there twice".into()));
        }
    }
    Ok(fields)
}

/// Exactly that many bytes of a body, to be opened in place.
async fn fetch(mut body: Body, length: u64) -> Result<Vec<u8>, Error> {
    let length = usize::try_from(length).map_err(|_| Error::Internal("length does not fit"))?;
    let broken = |error: BoxError| Error::Backend(backend::Error::Unreachable(error));
    let mut all = Vec::with_capacity(length);
    while let Some(piece) = body.try_next().await.map_err(broken)? {
        if all.len() + piece.len() > length {
            return Err(broken("the store sent more bytes than announced".into()));
        }
        all.extend_from_slice(&piece);
    }
    if all.len() < length {
        return Err(broken("the store sent fewer bytes than announced".into()));
    }
    Ok(all)
}

/// Verified bytes on their way to the client. Their memory counts until the last of them has left.
struct HeldBody {
    left: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl Stream for HeldBody {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let length = self.left.len().min(PIECE);
        Poll::Ready((length > 0).then(|| Ok(self.left.split_to(length))))
    }
}

impl ByteStream for HeldBody {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_twice_is_refused() {
        let mut answer = HeaderMap::new();
        answer.insert("x-amz-meta-colour", HeaderValue::from_static("blue"));
        answer.insert("x-amz-meta-x-amz-iv", HeaderValue::from_static("a"));
        assert_eq!(fields(&answer).unwrap(), Fields::from([("x-amz-iv".to_owned(), "a".to_owned())]));
        answer.append("x-amz-meta-x-amz-iv", HeaderValue::from_static("a"));
        assert!(matches!(fields(&answer), Err(Error::Integrity(_))));
    }

    #[tokio::test]
    async fn memory_is_shared_and_waited_for() {
        let clients = AwsClients { patience: Duration::from_millis(10), ..AwsClients::default() };
        let first = clients.room_for(BYTES_AT_ONCE - SHARE).await.unwrap();
        let _second = clients.room_for(1).await.unwrap();
        assert!(matches!(clients.room_for(1).await, Err(Error::Coded { code: "SlowDown", .. })));
        drop(first);
        assert!(clients.room_for(1).await.is_ok());
    }
}
