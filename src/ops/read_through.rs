//! Plaintext objects in buckets that allow reading them: passed on as they are, and marked.
//!
//! Their bytes are as good as the store's word. What can be refused is refused: an object that ends like a sealed one has lost its envelope.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};

use super::access::{Access, Kind, is_doubtful};
use super::get_object::{Opened, Read, TakeThenDrain, collect, sent_span};
use super::object::{Found, Unsealed};
use super::part_number::{PARTS_COUNT, Part};
use super::{Error, Gateway, headers};
use crate::backend::{self, Body, ByteRange, ListEntry, ObjectName, Select};
use crate::format::{self, End, Layout, PlainLen, SealedLen};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Objects of one page of a listing that are looked at side by side.
const LOOKS_AT_ONCE: usize = 16;

/// What a listing says of an object before it is known what it is.
pub(super) struct Entry {
    key: String,
    version_id: Option<String>,
    etag: Option<String>,
    stored_size: Option<i64>,
}

impl Entry {
    pub fn new(entry: &ListEntry, version_id: Option<&str>) -> Self {
        Self {
            key: entry.key.clone(),
            version_id: version_id.map(str::to_owned),
            etag: entry.etag.clone(),
            stored_size: entry.sealed_size,
        }
    }
}

/// What an object in a listing is shown with.
pub(super) struct Shown {
    pub size: Option<i64>,
    pub is_plaintext: bool,
}

impl Read<'_> {
    /// Passes a plaintext object on.
    pub async fn pass_on(&self, headers: HeaderMap, body: Option<Body>, plain: &Unsealed) -> Result<Opened, Error> {
        let select = |headers| Select { object: self.object.clone(), version_id: self.version_id.clone(), headers, range: None };
        self.gateway.refuse_stripped(select(self.guards.clone()), plain).await?;
        let range = match self.part {
            Some(number) if went_up_in_parts(plain) => return self.pass_part_on(number, plain).await,
            Some(number) => Part::of_bytes(number, plain.len)?.span,
            None => self.wanted(&headers).within_bytes(plain.len)?,
        };
        let (first, end) = range.map_or((0, plain.len), |(first, last)| (first, last + 1));
        let checksum = if self.checksum_wanted && end - first == plain.len {
            self.gateway.plain_checksum(select(self.guards.clone()), plain).await?
        } else {
            Vec::new()
        };
        let body = match (body, sent_span(&headers)) {
            (Some(body), Some((sent_first, sent_end))) if sent_first == first && sent_end >= end => body,
            _ if first == end => futures::stream::empty().boxed(),
            _ => {
                let mut select = select(self.guards.clone());
                select.headers.insert(http::header::IF_MATCH, plain.etag.clone());
                select.range = Some(ByteRange::Inclusive(first, end - 1));
                let answer = self.gateway.backend.get_object(select).await?;
                if !matches!(self.gateway.found(&self.object.bucket, &answer.headers)?, Found::Plain(again) if again.len == plain.len)
                {
                    return Err(Error::Integrity("the object changed between two requests".into()));
                }
                answer.body
            }
        };
        Ok(self.passed_on(headers, plain.len, range, checksum, body))
    }

    /// The part that the store has under a number, as the store delimits it.
    async fn pass_part_on(&self, number: u16, plain: &Unsealed) -> Result<Opened, Error> {
        let select = Select {
            object: self.object.clone(),
            version_id: self.version_id.clone(),
            headers: self.guards.clone(),
            range: None,
        };
        let answer = self.gateway.backend.get_object(stored_part(select, number, plain, self.checksum_wanted)).await?;
        let found = StoredPart::read(&self.gateway.found(&self.object.bucket, &answer.headers)?, &answer.headers, plain)?;
        let mut opened = self.passed_on(answer.headers, plain.len, found.span, found.checksum, answer.body);
        opened.headers.extend(found.count.map(|count| (PARTS_COUNT, count)));
        Ok(opened)
    }

    /// A body as it is passed on: so many bytes of the object, or all of them.
    fn passed_on(
        &self,
        headers: HeaderMap,
        plain_len: u64,
        range: Option<(u64, u64)>,
        checksum: Vec<(HeaderName, HeaderValue)>,
        body: Body,
    ) -> Opened {
        let length = match (range, self.part) {
            (Some((first, last)), _) => last + 1 - first,
            (None, Some(_)) => 0,
            (None, None) => plain_len,
        };
        let body = UnsealedBody { body: Mutex::new(TakeThenDrain::new(body, length)), left: length, object: self.object.clone() };
        let body = StreamingBlob::new(body);
        Opened { headers: headers::for_client_plaintext(headers), plain_len, range, checksum, length, body }
    }
}

/// Whether only the store knows where the parts of a plaintext object begin.
fn went_up_in_parts(plain: &Unsealed) -> bool {
    plain.etag.as_bytes().contains(&b'-')
}

/// Asks for a part of exactly the object that was looked at.
fn stored_part(mut select: Select, number: u16, plain: &Unsealed, checksum_wanted: bool) -> Select {
    select.headers.insert(http::header::IF_MATCH, plain.etag.clone());
    if checksum_wanted {
        select.headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
    }
    Select { range: Some(ByteRange::Part(number)), ..select }
}

/// A part of a plaintext object by the store's own word.
struct StoredPart {
    /// First and last byte, both included; `None` for a part without bytes.
    span: Option<(u64, u64)>,
    /// How many parts there are.
    count: Option<HeaderValue>,
    checksum: Vec<(HeaderName, HeaderValue)>,
}

impl StoredPart {
    /// Reads the headers of an answer about a part of `plain`.
    fn read(found: &Found, answer: &HeaderMap, plain: &Unsealed) -> Result<Self, Error> {
        // An empty part has no range, and so the answer does not say how long the object is.
        let is_empty = !answer.contains_key(CONTENT_RANGE) && answer.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
        match found {
            Found::Plain(again) if again.etag == plain.etag && (again.len == plain.len || is_empty) => {}
            _ => return Err(Error::Integrity("the object changed between two requests".into())),
        }
        let span = match sent_span(answer) {
            Some((first, end)) if first < end && end <= plain.len => Some((first, end - 1)),
            _ if is_empty => None,
            _ => return Err(Error::Internal("the store did not say which bytes a part has")),
        };
        let count = answer.get(PARTS_COUNT).cloned();
        let checksum = answer.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-checksum-"));
        Ok(Self { span, count, checksum: checksum.map(|(name, value)| (name.clone(), value.clone())).collect() })
    }
}

impl Gateway {
    /// A part of a plaintext object, for those who only want to know.
    ///
    /// # Errors
    /// A number that no part has, and whatever keeps the store from telling.
    pub(super) async fn plain_part(
        &self,
        select: Select,
        number: u16,
        plain: &Unsealed,
        checksum_wanted: bool,
    ) -> Result<Part, Error> {
        if !went_up_in_parts(plain) {
            return Part::of_bytes(number, plain.len);
        }
        let bucket = select.object.bucket.clone();
        let answer = self.backend.head_object(stored_part(select, number, plain, checksum_wanted)).await?.headers;
        let part = StoredPart::read(&self.found(&bucket, &answer)?, &answer, plain)?;
        Ok(Part::of_store(part.span, part.count, part.checksum))
    }
}

impl Gateway {
    /// Refuses a plaintext object whose last bytes are the end of a sealed one of its length: somebody took its envelope away, and its
    /// ciphertext is not what a client asked for. One more request, until the object is known by its ETag.
    pub(super) async fn refuse_stripped(&self, select: Select, plain: &Unsealed) -> Result<(), Error> {
        let Some(plain_len) = SealedLen::new(plain.len).plain() else { return Ok(()) };
        let ObjectName { bucket, key } = select.object.clone();
        let etag = String::from_utf8_lossy(plain.etag.as_bytes()).into_owned();
        let known = self.access.known_kind(&bucket, &key, &etag).await;
        if self.access.of(&bucket) != Access::ReadThrough || known == Some(Kind::PlaintextToTheEnd) {
            return Ok(());
        }
        if self.is_stripped(select, plain, plain_len).await? {
            return Err(Error::Integrity("a sealed object without its envelope".into()));
        }
        self.access.remember_kind(&bucket, &key, &etag, Kind::PlaintextToTheEnd).await;
        Ok(())
    }

    /// Whether an object without an envelope ends as a sealed one of its length does.
    pub(super) async fn is_stripped(&self, mut select: Select, plain: &Unsealed, plain_len: PlainLen) -> Result<bool, Error> {
        select.headers.insert(http::header::IF_MATCH, plain.etag.clone());
        select.range = Some(ByteRange::Inclusive(plain.len - End::LEN, plain.len - 1));
        let tail = collect(self.backend.get_object(select).await?.body, End::LEN).await?;
        let tail = tail.as_ref().try_into().map_err(|_| Error::Internal("an end marker has 32 bytes"))?;
        Ok([Layout::Single, Layout::Multipart].into_iter().any(|layout| End::parse(tail, plain_len, layout).is_ok()))
    }

    /// The store's own checksum of a plaintext object.
    pub(super) async fn plain_checksum(&self, select: Select, plain: &Unsealed) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        let mut select = select;
        select.headers.insert(http::header::IF_MATCH, plain.etag.clone());
        select.headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        let answer = self.backend.head_object(select).await?.headers;
        let named = answer.into_iter().filter_map(|(name, value)| Some((name?, value)));
        Ok(named.filter(|(name, _)| name.as_str().starts_with("x-amz-checksum-")).collect())
    }

    /// Sizes as a listing of this bucket shows them. In a read-through bucket every entry that could be either is looked at, once for
    /// each ETag.
    ///
    /// # Errors
    /// Whatever keeps the store from telling what an object is: a wrong size would make clients copy or delete.
    pub(super) async fn shown_sizes(&self, bucket: &str, guards: &HeaderMap, entries: Vec<Entry>) -> Result<Vec<Shown>, Error> {
        let looks = entries.into_iter().map(|entry| self.shown_size(bucket, guards, entry));
        let mut looks = futures::stream::iter(looks).buffered(LOOKS_AT_ONCE);
        let mut shown = Vec::new();
        while let Some(one) = looks.next().await {
            shown.push(one?);
        }
        Ok(shown)
    }

    async fn shown_size(&self, bucket: &str, guards: &HeaderMap, entry: Entry) -> Result<Shown, Error> {
        let Some(stored) = entry.stored_size else { return Ok(Shown { size: None, is_plaintext: false }) };
        let as_sealed = Shown { size: Some(plain_size(stored)), is_plaintext: false };
        let as_plaintext = Shown { size: Some(stored), is_plaintext: true };
        let is_settled = self.aws_clients.of(bucket).is_none();
        match self.access.of(bucket) {
            // A size that no sealed object has is shown as it is (FORMAT section 8).
            Access::Encrypted if is_settled => Ok(as_sealed),
            Access::Plaintext => Ok(as_plaintext),
            Access::ReadThrough if is_settled && !u64::try_from(stored).is_ok_and(is_doubtful) => Ok(as_plaintext),
            Access::Encrypted | Access::ReadThrough => Ok(match self.kind(bucket, guards, entry).await? {
                Kind::Sealed => as_sealed,
                Kind::Plaintext | Kind::PlaintextToTheEnd => as_plaintext,
                Kind::AwsClient { plain_len } => Shown { size: i64::try_from(plain_len).ok(), is_plaintext: false },
            }),
        }
    }

    /// What an object in a listing is, by its own headers.
    async fn kind(&self, bucket: &str, guards: &HeaderMap, entry: Entry) -> Result<Kind, Error> {
        let Entry { key, version_id, etag, .. } = entry;
        if let Some(etag) = &etag
            && let Some(kind) = self.access.known_kind(bucket, &key, etag).await
        {
            return Ok(kind);
        }
        let object = ObjectName { bucket: bucket.to_owned(), key: key.clone() };
        let select = Select { object: object.clone(), version_id, headers: guards.clone(), range: None };
        let answer = match self.backend.head_object(select).await {
            Ok(answer) => answer,
            // Gone since the page was made.
            Err(backend::Error::Refused(refusal)) if matches!(refusal.status, 404 | 405) => return Ok(Kind::Sealed),
            Err(error) => return Err(error.into()),
        };
        // Only the presence counts here: what has an envelope is never plaintext, and a read tells whether it is a good one.
        let kind = match self.aws_object(&object, guards, &answer.headers).await {
            _ if answer.headers.contains_key(format::HEADER) => Kind::Sealed,
            Ok(Some(stored)) => Kind::AwsClient { plain_len: stored.plain_len },
            // What cannot be read has the size it has.
            Ok(None) | Err(Error::Integrity(_) | Error::NotImplemented(_)) => Kind::Plaintext,
            Err(error) => return Err(error),
        };
        if kind == Kind::Plaintext && self.aws_clients.of(bucket).is_some() {
            // Its instruction file may be on its way.
            return Ok(kind);
        }
        // Of another version than the page's nothing was learned.
        let seen = answer.headers.get(http::header::ETAG).map(|seen| String::from_utf8_lossy(seen.as_bytes()).into_owned());
        if let (Some(etag), Some(seen)) = (etag, seen)
            && etag.trim_matches('"') == seen.trim_matches('"')
        {
            self.access.remember_kind(bucket, &key, &etag, kind).await;
        }
        Ok(kind)
    }
}

/// The plaintext size of a sealed object; a size that none has is shown as it is (FORMAT section 8).
fn plain_size(stored: i64) -> i64 {
    let plain = u64::try_from(stored).ok().and_then(|len| SealedLen::new(len).plain());
    plain.and_then(|len| i64::try_from(len.get()).ok()).unwrap_or(stored)
}

/// A plaintext body on its way to the client: exactly as long as announced, or broken off.
struct UnsealedBody {
    // Never locked: it makes the body `Sync`, which the protocol library asks for.
    body: Mutex<TakeThenDrain>,
    left: u64,
    object: ObjectName,
}

impl Stream for UnsealedBody {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let polled = std::task::ready!(Pin::new(body).poll_next(cx));
        let broken = match polled {
            Some(Ok(bytes)) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                return Poll::Ready(Some(Ok(bytes)));
            }
            None if self.left == 0 => return Poll::Ready(None),
            None => "the store sent fewer bytes than announced".into(),
            Some(Err(error)) => error,
        };
        tracing::error!(bucket = %self.object.bucket, key = %self.object.key, cause = %super::chain(&*broken), "a transfer was broken off");
        Poll::Ready(Some(Err(broken)))
    }
}

impl ByteStream for UnsealedBody {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.left).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_plaintext() {
        for (stored, shown) in [(240, 0), (241, 1), (65776, 65536), (17, 17), (-1, -1)] {
            assert_eq!(plain_size(stored), shown);
        }
    }

    #[test]
    fn a_part_is_what_the_store_says_of_the_same_object() {
        let plain = |etag: &'static str, len| Unsealed { len, etag: HeaderValue::from_static(etag) };
        assert!(!went_up_in_parts(&plain("\"abc\"", 5)) && went_up_in_parts(&plain("\"abc-2\"", 5)));
        let read = |etag: &'static str, pairs: &[(HeaderName, &'static str)]| {
            let answer: HeaderMap = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            let again = Unsealed::read(
                &[(http::header::ETAG, HeaderValue::from_static(etag))]
                    .into_iter()
                    .chain(answer.clone().into_iter().map(|(name, value)| (name.unwrap(), value)))
                    .collect(),
            );
            StoredPart::read(&Found::Plain(again.unwrap()), &answer, &plain("\"abc-2\"", 9)).map(|part| part.span)
        };
        let same = "\"abc-2\"";
        assert_eq!(read(same, &[(CONTENT_RANGE, "bytes 5-8/9"), (CONTENT_LENGTH, "4")]).unwrap(), Some((5, 8)));
        assert_eq!(read(same, &[(CONTENT_LENGTH, "9")]).unwrap(), Some((0, 8)), "an object of one part");
        assert_eq!(read(same, &[(CONTENT_LENGTH, "0")]).unwrap(), None);
        assert!(read("\"abd-2\"", &[(CONTENT_RANGE, "bytes 5-8/9")]).is_err());
        assert!(read(same, &[(CONTENT_RANGE, "bytes 5-8/10")]).is_err());
        assert!(read(same, &[(CONTENT_RANGE, "bytes 5-9/9")]).is_err());
        assert!(read(same, &[(CONTENT_LENGTH, "4")]).is_err(), "which four");
    }

    #[tokio::test]
    async fn a_body_that_ends_early_does_not_end_well() {
        let object = ObjectName { bucket: "b".into(), key: "k".into() };
        for (announced, whole) in [(3, true), (2, true), (4, false)] {
            let body: Body = futures::stream::iter([Ok(Bytes::from_static(b"abc"))]).boxed();
            let body = Mutex::new(TakeThenDrain::new(body, announced));
            let mut body = UnsealedBody { body, left: announced, object: object.clone() };
            assert_eq!(body.next().await.unwrap().unwrap().len() as u64, announced.min(3));
            assert_eq!(body.next().await.is_none(), whole, "{announced}");
        }
    }
}
