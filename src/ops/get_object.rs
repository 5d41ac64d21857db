//! GetObject: fetch, open, release. FORMAT section 9 has the rules.
//!
//! A whole object or a range of one costs one request when it lies in one piece; an object in parts costs one more for its footer
//! until that is cached. The first opened bytes are awaited before the answer begins, so that an object that cannot be opened is
//! an error and not a broken transfer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{GetObjectInput, GetObjectOutput, StreamingBlob};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Request, S3Response};

use super::check::shown_checksum;
use super::error::chain;
use super::head_object::content_range;
use super::object::{Found, Stored, Wanted};
use super::part_number::{self, Part};
use super::protection::Opener;
use super::{Error, Gateway, headers};
use crate::backend::{Body, ByteRange, ObjectAnswer, ObjectName, Select};
use crate::crypto::ObjectKeys;
use crate::format::{Footer, ReadPlan, Suffix, layout};
use crate::keys;
use crate::stream::{self, OpenedBody};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// First guess for the sealed footer: enough for 170 parts with a SHA-256 each.
const FOOTER_GUESS: u64 = 16 * 1024;
/// Objects up to this many sealed bytes are taken whole when their checksum must go into the headers.
const BUFFERED_MAX: u64 = 256 * 1024;

impl Gateway {
    pub(super) async fn get_and_open(&self, req: S3Request<GetObjectInput>) -> Result<S3Response<GetObjectOutput>, Error> {
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let read = Read {
            gateway: self,
            object: ObjectName { bucket: req.input.bucket, key: req.input.key },
            version_id: req.input.version_id,
            own: own.as_ref(),
            conditions: headers::for_read(&req.headers, &req.extensions)?,
            guards: headers::guards(&req.headers, &req.extensions),
            wanted: Wanted::new(req.input.range.as_ref()),
            if_range: headers::if_range(&req.headers),
            part: part_number::asked(req.input.part_number, req.input.range.is_some())?,
            checksum_wanted: req.input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == "ENABLED"),
        };
        let opened = read.run().await?;
        let mut shown = opened.headers;
        headers::drop_overridden(&mut shown, &req.uri);
        shown.extend(opened.checksum);
        let output = GetObjectOutput {
            content_length: Some(i64::try_from(opened.length).map_err(|_| Error::Internal("length does not fit"))?),
            content_range: opened.range.map(|(first, last)| content_range(first, last, opened.plain_len)),
            body: Some(opened.body),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::with_headers(output, shown))
    }

    /// The whole plaintext of an object, for a copy that is sealed anew. Its first bytes have been opened.
    pub(super) async fn open_whole(
        &self,
        object: &ObjectName,
        version_id: Option<String>,
        conditions: HeaderMap,
        own: Option<&Opener>,
    ) -> Result<StreamingBlob, Error> {
        let guards = conditions.clone();
        let read = Read::of_range(self, object.clone(), version_id, own, conditions, guards, Wanted::Whole);
        Ok(read.run().await?.body)
    }

    /// The footer of an object, opened; from the cache where it has been opened before under the same commitment and ETag.
    pub(super) async fn footer(
        &self,
        object: &ObjectName,
        version_id: Option<String>,
        guards: HeaderMap,
        stored: &Stored,
        keys: &ObjectKeys,
    ) -> Result<Arc<Footer>, Error> {
        if let Some(footer) = self.footers.find(object, stored).await {
            return Ok(footer);
        }
        let total = stored.sealed_len.get();
        let mut wanted = FOOTER_GUESS.min(total);
        let footer = loop {
            let tail = self.fetch(object, version_id.clone(), guards.clone(), stored, total - wanted, total - 1).await?;
            let tail = collect(tail, wanted).await?;
            match Footer::from_suffix(keys, &tail, stored.plain_len, stored.envelope.flags().layout())? {
                Suffix::Footer(footer) => break Arc::new(footer),
                // What END says is bounded by the format and by the object's own length, so this ends.
                Suffix::More(more) if more > wanted && more <= total => wanted = more,
                Suffix::More(_) => return Err(Error::Internal("a footer asks for bytes that there are not")),
            }
        };
        self.footers.keep(object, stored, footer.clone()).await;
        Ok(footer)
    }

    /// A span of sealed bytes of exactly the object that `stored` describes.
    async fn fetch(
        &self,
        object: &ObjectName,
        version_id: Option<String>,
        guards: HeaderMap,
        stored: &Stored,
        first: u64,
        last: u64,
    ) -> Result<Body, Error> {
        let mut headers = guards;
        headers.insert(http::header::IF_MATCH, stored.etag.clone());
        let range = Some(ByteRange::Inclusive(first, last));
        let answer = self.backend.get_object(Select { object: object.clone(), version_id, headers, range }).await?;
        // What was sealed a moment ago is sealed now, whatever else its bucket may hold.
        let again = Stored::read(&answer.headers)?;
        if again.etag != stored.etag || again.sealed_len != stored.sealed_len {
            return Err(Error::Integrity("the object changed between two requests".into()));
        }
        Ok(answer.body)
    }
}

/// One GetObject under way.
pub(super) struct Read<'a> {
    pub gateway: &'a Gateway,
    pub object: ObjectName,
    pub version_id: Option<String>,
    /// The client's own key.
    own: Option<&'a Opener>,
    conditions: HeaderMap,
    pub guards: HeaderMap,
    wanted: Wanted,
    /// In place of a range.
    pub part: Option<u16>,
    /// The validator under which the range counts; otherwise the whole object is answered (RFC 9110 section 13.1.5).
    if_range: Option<String>,
    pub checksum_wanted: bool,
}

/// An object whose first bytes have been opened.
pub(super) struct Opened {
    /// As the client sees them, but for lengths and checksums.
    pub headers: HeaderMap,
    /// Bytes of the whole plaintext.
    pub plain_len: u64,
    /// First and last byte, both included, where not simply everything is answered.
    pub range: Option<(u64, u64)>,
    pub checksum: Vec<(HeaderName, HeaderValue)>,
    /// Bytes of the answer.
    pub length: u64,
    pub body: StreamingBlob,
}

impl<'a> Read<'a> {
    /// A read for the gateway's own use.
    pub(super) fn of_range(
        gateway: &'a Gateway,
        object: ObjectName,
        version_id: Option<String>,
        own: Option<&'a Opener>,
        conditions: HeaderMap,
        guards: HeaderMap,
        wanted: Wanted,
    ) -> Self {
        let (part, if_range, checksum_wanted) = (None, None, false);
        Self { gateway, object, version_id, own, conditions, guards, wanted, part, if_range, checksum_wanted }
    }
}

impl Read<'_> {
    pub(super) async fn run(&self) -> Result<Opened, Error> {
        let (headers, body) = self.ask().await?;
        match self.gateway.recognise(&self.object, &self.guards, &headers).await? {
            Found::Plain(_) | Found::AwsClient(_) if self.own.is_some() => Err(keys::Error::CustomerKeySuperfluous.into()),
            Found::Sealed(stored) => self.open(headers, body, &stored).await,
            Found::Plain(plain) => self.pass_on(headers, body, &plain).await,
            Found::AwsClient(stored) => self.open_aws(headers, body, &stored).await,
        }
    }

    /// The range that counts, by the validator that came with it.
    pub fn wanted(&self, answer: &HeaderMap) -> Wanted {
        let outdated = self.if_range.as_ref().is_some_and(|validator| !is_current(validator, answer));
        if outdated { Wanted::Whole } else { self.wanted }
    }

    pub(super) async fn open(&self, headers: HeaderMap, mut body: Option<Body>, stored: &Stored) -> Result<Opened, Error> {
        let span = if body.is_some() { sent_span(&headers) } else { None };
        let keys = Arc::new(self.gateway.unlock(&self.object, stored, self.own).await?);
        let mut range = self.wanted(&headers).within(stored.plain_len)?;
        let mut shown = headers::for_client_object(headers);
        self.gateway.announce(&mut shown, &stored.envelope, self.own.map(Opener::md5));

        let mut checksum = Vec::new();
        let plan = if stored.envelope.flags().multipart {
            let footer = self.footer(stored, &keys).await?;
            if self.checksum_wanted && range.is_none() && self.part.is_none() {
                checksum = shown_checksum(&footer);
            }
            if let Some(number) = self.part {
                let part = Part::of_multipart(number, &footer)?;
                part.show_count(&mut shown);
                range = part.span;
                if self.checksum_wanted {
                    checksum = part.checksum;
                }
                if range.is_none() {
                    let (length, body) = (0, StreamingBlob::from_bytes(Bytes::new()));
                    return Ok(Opened { headers: shown, plain_len: stored.plain_len.get(), range, checksum, length, body });
                }
            }
            self.multipart_plan(stored, &footer, range).await?
        } else {
            if self.checksum_wanted && range.is_none() {
                let footer = if stored.sealed_len.get() <= BUFFERED_MAX && span == Some((0, stored.sealed_len.get())) {
                    let whole = collect(body.take().ok_or(Error::Internal("no body"))?, stored.sealed_len.get()).await?;
                    let footer = footer_of_whole(&whole, stored, &keys)?;
                    body = Some(futures::stream::iter([Ok(whole)]).boxed());
                    Arc::new(footer)
                } else {
                    self.footer(stored, &keys).await?
                };
                checksum = shown_checksum(&footer);
            }
            let plan = ReadPlan::single(stored.plain_len, range)?;
            if let Some(number) = self.part {
                // Read as the whole that it is, and shown as the part that was asked for.
                range = Part::of_single(number, stored.plain_len)?.span;
            }
            plan
        };

        let sealed = plan.sealed();
        let body = match (body, span) {
            (Some(body), Some((start, end))) if start == sealed.start && end >= sealed.end => body,
            _ => self.fetch(stored, sealed.start, sealed.end - 1).await?,
        };
        let opened = stream::open_object(TakeThenDrain::new(body, sealed.end - sealed.start), keys, plan);
        let body = PlainBody::begin(opened, &self.object).await?;
        let (length, body) = (body.left, StreamingBlob::new(body));
        Ok(Opened { headers: shown, plain_len: stored.plain_len.get(), range, checksum, length, body })
    }

    /// The first request: the answer's headers, and its body if it had to have one.
    pub(super) async fn ask(&self) -> Result<(HeaderMap, Option<Body>), Error> {
        let range = match self.wanted {
            // Where a part lies is in the footer, and where the last bytes lie follows from the length.
            _ if self.part.is_some() => return self.ask_head().await,
            Wanted::Suffix(_) => return self.ask_head().await,
            Wanted::Whole => None,
            Wanted::Span(first, last) => Some(guess_single(first, last)),
        };
        match self.gateway.backend.get_object(self.select(range)).await {
            Ok(ObjectAnswer { headers, body }) => Ok((headers, Some(body))),
            // Beyond the end of the sealed object is beyond the end of its plaintext; only the length is missing in the answer. And an
            // object that is not sealed may still have the bytes.
            Err(crate::backend::Error::Refused(refusal)) if refusal.status == 416 => self.ask_head().await,
            Err(error) => Err(error.into()),
        }
    }

    async fn ask_head(&self) -> Result<(HeaderMap, Option<Body>), Error> {
        Ok((self.gateway.head_with_words(self.select(None)).await?, None))
    }

    fn select(&self, range: Option<ByteRange>) -> Select {
        Select { object: self.object.clone(), version_id: self.version_id.clone(), headers: self.conditions.clone(), range }
    }

    async fn footer(&self, stored: &Stored, keys: &ObjectKeys) -> Result<Arc<Footer>, Error> {
        self.gateway.footer(&self.object, self.version_id.clone(), self.guards.clone(), stored, keys).await
    }

    async fn fetch(&self, stored: &Stored, first: u64, last: u64) -> Result<Body, Error> {
        self.gateway.fetch(&self.object, self.version_id.clone(), self.guards.clone(), stored, first, last).await
    }

    /// The plan for an object in parts. A range that begins inside a part whose header is not in the table needs that header first.
    async fn multipart_plan(&self, stored: &Stored, footer: &Arc<Footer>, range: Option<(u64, u64)>) -> Result<ReadPlan, Error> {
        let mut plan = ReadPlan::multipart(footer, range)?;
        if let Some(offset) = plan.header_wanted() {
            let length = layout::PART_HEADER;
            let header = collect(self.fetch(stored, offset, offset + length - 1).await?, length).await?;
            let header = header.as_ref().try_into().map_err(|_| Error::Internal("a part header has 32 bytes"))?;
            plan = plan.with_header(header)?;
        }
        Ok(plan)
    }
}

/// Why a body that was being opened broke off, as an error of this room.
pub(super) fn broken_off(cause: BoxError) -> Error {
    match cause.downcast::<stream::Error>() {
        Ok(inner) if inner.is_integrity() => Error::Integrity(inner),
        Ok(inner) => Error::Backend(crate::backend::Error::Unreachable(inner)),
        Err(cause) => Error::Backend(crate::backend::Error::Unreachable(cause)),
    }
}

/// Where a range of plaintext lies if the object is in one piece; the store clamps the end.
fn guess_single(first: u64, last: Option<u64>) -> ByteRange {
    let (chunk, sealed_chunk) = (layout::CHUNK, layout::SEALED_CHUNK);
    // Offsets beyond any object are beyond the end all the same.
    let start = (first / chunk).saturating_mul(sealed_chunk);
    match last {
        Some(last) => {
            ByteRange::Inclusive(start, (last / chunk).saturating_add(1).saturating_mul(sealed_chunk).saturating_sub(1))
        }
        None => ByteRange::From(start),
    }
}

/// The sealed bytes that an answer carries: from, and until (not included).
pub(super) fn sent_span(headers: &HeaderMap) -> Option<(u64, u64)> {
    if let Some(range) = headers.get(http::header::CONTENT_RANGE) {
        let (first, last) = range.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-')?;
        return Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?));
    }
    Some((0, headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?))
}

/// True when the validator of an If-Range names the object that was answered.
fn is_current(validator: &str, answer: &HeaderMap) -> bool {
    [http::header::ETAG, http::header::LAST_MODIFIED]
        .iter()
        .filter_map(|name| answer.get(name))
        .any(|value| value.as_bytes() == validator.as_bytes())
}

fn footer_of_whole(whole: &Bytes, stored: &Stored, keys: &ObjectKeys) -> Result<Footer, Error> {
    match Footer::from_suffix(keys, whole, stored.plain_len, stored.envelope.flags().layout())? {
        Suffix::Footer(footer) => Ok(footer),
        Suffix::More(_) => Err(Error::Integrity("the footer is longer than the object".into())),
    }
}

/// Exactly that many bytes of a body, in one piece.
pub(super) async fn collect(mut body: Body, length: u64) -> Result<Bytes, Error> {
    let length = usize::try_from(length).map_err(|_| Error::Internal("length does not fit"))?;
    let broken = |e: BoxError| Error::Backend(crate::backend::Error::Unreachable(e));
    let mut all = BytesMut::with_capacity(length);
    while let Some(piece) = body.try_next().await.map_err(broken)? {
        if all.len() + piece.len() > length {
            return Err(broken("the store sent more bytes than asked for".into()));
        }
        all.extend_from_slice(&piece);
    }
    if all.len() < length {
        return Err(broken("the store sent fewer bytes than asked for".into()));
    }
    Ok(all.freeze())
}

/// The first so many bytes of a body. What follows is read and dropped, so that the connection can be used again.
pub(super) struct TakeThenDrain {
    body: Option<Body>,
    left: u64,
}

impl TakeThenDrain {
    pub fn new(body: Body, left: u64) -> Self {
        Self { body: Some(body), left }
    }
}

impl Stream for TakeThenDrain {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            let polled = std::task::ready!(body.as_mut().poll_next(cx));
            match polled {
                Some(Ok(mut piece)) if self.left > 0 => {
                    if let Ok(left) = usize::try_from(self.left) {
                        piece.truncate(left);
                    }
                    self.left -= piece.len() as u64;
                    return Poll::Ready(Some(Ok(piece)));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) if self.left > 0 => return Poll::Ready(Some(Err(error))),
                Some(Err(_)) | None => self.body = None,
            }
        }
    }
}

/// Opened bytes on their way to the client. An error in it ends the connection, never the body.
pub(super) struct PlainBody {
    first: Option<Bytes>,
    rest: OpenedBody,
    left: u64,
    object: ObjectName,
}

impl PlainBody {
    async fn begin(mut rest: OpenedBody, object: &ObjectName) -> Result<Self, Error> {
        let left = rest.plain_len().get();
        let first = match rest.next().await {
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(stream::Error::Source(cause))) => return Err(Error::Backend(crate::backend::Error::Unreachable(cause))),
            Some(Err(stream::Error::SealedShort { .. })) => {
                return Err(Error::Backend(crate::backend::Error::Unreachable("the store's answer broke off".into())));
            }
            Some(Err(cause)) => return Err(Error::Integrity(cause.into())),
            None => None,
        };
        Ok(Self { first, rest, left, object: object.clone() })
    }
}

impl Stream for PlainBody {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = match self.first.take() {
            Some(bytes) => Some(Ok(bytes)),
            None => std::task::ready!(Pin::new(&mut self.rest).poll_next(cx)),
        };
        Poll::Ready(match polled {
            None => None,
            Some(Ok(bytes)) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Some(Ok(bytes))
            }
            Some(Err(error)) => {
                let integrity = error.is_integrity();
                if integrity {
                    metrics::counter!(crate::observe::metrics::INTEGRITY_FAILURES).increment(1);
                }
                tracing::error!(bucket = %self.object.bucket, key = %self.object.key, integrity, cause = %chain(&error), "a transfer was broken off");
                Some(Err(error.into()))
            }
        })
    }
}

impl ByteStream for PlainBody {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.left).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guess_covers_the_chunks_of_the_range() {
        assert_eq!(guess_single(0, Some(0)), ByteRange::Inclusive(0, 65551));
        assert_eq!(guess_single(65535, Some(65536)), ByteRange::Inclusive(0, 131_103));
        assert_eq!(guess_single(65536, None), ByteRange::From(65552));
        assert!(matches!(guess_single(u64::MAX, Some(u64::MAX)), ByteRange::Inclusive(_, _)));
    }

    #[test]
    fn the_span_of_an_answer_is_read_from_its_headers() {
        let headers = |name: http::HeaderName, value: &'static str| -> HeaderMap {
            [(name, HeaderValue::from_static(value))].into_iter().collect()
        };
        assert_eq!(sent_span(&headers(http::header::CONTENT_RANGE, "bytes 5-9/240")), Some((5, 10)));
        assert_eq!(sent_span(&headers(http::header::CONTENT_LENGTH, "240")), Some((0, 240)));
        assert_eq!(sent_span(&headers(http::header::CONTENT_RANGE, "bytes 5-18446744073709551615/*")), None);
        assert_eq!(sent_span(&headers(http::header::CONTENT_RANGE, "lines 1-2/3")), None);
    }

    #[tokio::test]
    async fn what_follows_the_plan_is_drained_and_dropped() {
        let pieces = [Bytes::from_static(b"abc"), Bytes::from_static(b"def"), Bytes::from_static(b"ghi")];
        for take in 0..=9 {
            let body: Body = futures::stream::iter(pieces.clone().map(Ok)).boxed();
            let taken = TakeThenDrain::new(body, take).map(|piece| piece.unwrap()).collect::<Vec<_>>().await.concat();
            assert_eq!(taken, &b"abcdefghi"[..usize::try_from(take).unwrap()]);
        }
    }
}
