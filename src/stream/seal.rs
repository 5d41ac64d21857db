use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use futures::Stream;

use super::end::Ending;
use super::{BoxError, Error, PIECES_PER_POLL, Result, Source};
use crate::crypto::{ChunkKey, ObjectKeys};
use crate::format::layout::{CHUNK, TAG, chunk_count, chunked_len, part_sealed_len};
use crate::format::{Footer, ObjectChecksum, PartHeader, PlainLen, RewrapRecord, SealedLen, UploadRecord};

/// An end up to this long leaves in one piece with the last chunk, so that a small object is one write.
const JOINED_END_MAX: u64 = 65_536;

/// Looks at plaintext as it is sealed and has the last word on it.
pub trait PlainCheck: Send {
    /// The next bytes of the plaintext, in order, in pieces of at most 64 KiB.
    fn update(&mut self, plain: &[u8]);

    /// Called once, after the plaintext ended with exactly the announced length. Until it says yes the end of the sealed body is held
    /// back, so that a refused body can never become an object.
    fn verdict(&mut self) -> std::result::Result<FooterFacts, BoxError>;
}

/// What the footer records besides lengths and the internal checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterFacts {
    /// The client's checksum of the object. Of a part, the checksum that its receipt records; nothing of it is in the body.
    pub checksum: Option<ObjectChecksum>,
    /// MD5 of the plaintext, if it was computed anyway.
    pub md5: Option<[u8; 16]>,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
}

/// Seals an object in the single layout: chunks, padding, footer and end marker. `len` is the announced length of `plain`.
pub fn seal_object(
    plain: impl Stream<Item = std::result::Result<Bytes, BoxError>> + Send + 'static,
    keys: impl Into<Arc<ObjectKeys>>,
    len: PlainLen,
    check: Box<dyn PlainCheck>,
) -> SealedBody {
    let header = PartHeader::single(len);
    SealedBody::new(Box::pin(plain), keys.into(), header, check, End::Object(Box::new(Digest::new(CrcAlgorithm::Crc64Nvme))))
}

/// Seals one part of a multipart upload: header and chunks, or nothing at all when the header says 0 bytes. The check has the last
/// word here too. The part id in the header must be fresh for every attempt.
pub fn seal_part(
    plain: impl Stream<Item = std::result::Result<Bytes, BoxError>> + Send + 'static,
    keys: impl Into<Arc<ObjectKeys>>,
    header: PartHeader,
    check: Box<dyn PlainCheck>,
) -> SealedBody {
    SealedBody::new(Box::pin(plain), keys.into(), header, check, End::Part)
}

/// The record of an upload, to be kept in the state store. Errors: [`Error::Format`] for a name that is too long.
pub fn seal_record(record: &UploadRecord, keys: &ObjectKeys) -> Result<SealedBody> {
    let bytes = record.seal(keys)?;
    let sealed_len = SealedLen::new(bytes.len() as u64);
    Ok(SealedBody::of(Kind::Whole(bytes.into()), sealed_len, SealOutcome::running()))
}

/// A rewrap record, to be kept in the state store: there is nothing in it but a wrapped key and names. Errors: [`Error::Format`] for a name
/// that is too long.
pub fn rewrap_record(record: &RewrapRecord) -> Result<SealedBody> {
    let bytes = record.to_bytes()?;
    let sealed_len = SealedLen::new(bytes.len() as u64);
    Ok(SealedBody::of(Kind::Whole(bytes.into()), sealed_len, SealOutcome::running()))
}

/// A body without bytes: what a marker in the state store says is in its name.
pub fn empty_marker() -> SealedBody {
    SealedBody::of(Kind::Whole(Bytes::new()), SealedLen::new(0), SealOutcome::running())
}

/// A body on its way to the backend. Only this room can make one, so plaintext cannot take its place.
///
/// It yields pieces of at least one sealed chunk, but for the end. After an error it is over.
pub struct SealedBody {
    // Never locked: it makes the body `Sync`, which HTTP clients ask for, although the source is not.
    kind: Mutex<Option<Kind>>,
    sealed_len: SealedLen,
    outcome: SealOutcome,
}

/// What a sealed body is made of.
enum Kind {
    Seal(Box<Sealer>),
    End(Box<Ending>),
    Whole(Bytes),
}

impl SealedBody {
    fn of(kind: Kind, sealed_len: SealedLen, outcome: SealOutcome) -> Self {
        Self { kind: Mutex::new(Some(kind)), sealed_len, outcome }
    }

    pub(super) fn ending(ending: Ending, sealed_len: SealedLen) -> Self {
        Self::of(Kind::End(Box::new(ending)), sealed_len, SealOutcome::running())
    }

    fn new(source: Source, keys: Arc<ObjectKeys>, header: PartHeader, check: Box<dyn PlainCheck>, end: End) -> Self {
        let (sealed_len, prefix) = match end {
            End::Object(_) => (header.plain_len.sealed(), None),
            End::Part if header.plain_len.get() == 0 => (SealedLen::new(0), None),
            End::Part => (part_sealed_len(header.plain_len), Some(header.to_bytes())),
        };
        let outcome = SealOutcome::running();
        let key = keys.chunk_key(&header.to_bytes());
        let sealer = Sealer {
            source,
            keys,
            key,
            check,
            plain_len: header.plain_len,
            prefix,
            end,
            input: Bytes::new(),
            received: 0,
            index: 0,
            buffer: BytesMut::new(),
            buffer_start: 0,
            last_pieces: None,
            outcome: outcome.clone(),
        };
        Self::of(Kind::Seal(Box::new(sealer)), sealed_len, outcome)
    }

    /// How many bytes the body has if nothing goes wrong.
    pub fn sealed_len(&self) -> SealedLen {
        self.sealed_len
    }

    /// A handle that tells, later and from elsewhere, how sealing ended.
    pub fn outcome(&self) -> SealOutcome {
        self.outcome.clone()
    }
}

impl fmt::Debug for SealedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBody({} bytes)", self.sealed_len)
    }
}

impl Stream for SealedBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let slot = self.kind.get_mut().unwrap_or_else(PoisonError::into_inner);
        let polled = match slot {
            None => return Poll::Ready(None),
            Some(Kind::Seal(sealer)) => ready!(sealer.poll(cx)),
            Some(Kind::End(ending)) => ready!(ending.poll(cx)),
            Some(Kind::Whole(bytes)) => {
                let bytes = std::mem::take(bytes);
                Ok((!bytes.is_empty()).then_some(bytes))
            }
        };
        match polled {
            Ok(Some(piece)) => Poll::Ready(Some(Ok(piece))),
            Ok(None) => {
                *slot = None;
                Poll::Ready(None)
            }
            Err(error) => {
                *slot = None;
                self.outcome.set(Progress::Failed(Some(error)));
                Poll::Ready(Some(Err(Error::Aborted)))
            }
        }
    }
}

/// How the sealing of a body ended. Clones see the same body.
#[derive(Clone)]
pub struct SealOutcome(Arc<Mutex<Progress>>);

enum Progress {
    Running,
    Complete(FooterFacts),
    Failed(Option<Error>),
}

impl SealOutcome {
    fn running() -> Self {
        Self(Arc::new(Mutex::new(Progress::Running)))
    }

    /// Why sealing failed, once; None while it runs, when it succeeded, and when the error was taken before.
    pub fn take_error(&self) -> Option<Error> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Progress::Failed(error) => error.take(),
            Progress::Running | Progress::Complete(_) => None,
        }
    }

    /// What the check said, once the whole body was found good and its end let go.
    pub fn facts(&self) -> Option<FooterFacts> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Progress::Complete(facts) => Some(*facts),
            Progress::Running | Progress::Failed(_) => None,
        }
    }

    fn set(&self, progress: Progress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

impl fmt::Debug for SealOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Progress::Running => "SealOutcome(running)",
            Progress::Complete(_) => "SealOutcome(complete)",
            Progress::Failed(_) => "SealOutcome(failed)",
        })
    }
}

enum End {
    /// Padding, footer and end marker follow; the digest becomes the footer's internal checksum.
    Object(Box<Digest>),
    /// Nothing follows.
    Part,
}

struct Sealer {
    source: Source,
    keys: Arc<ObjectKeys>,
    key: ChunkKey,
    check: Box<dyn PlainCheck>,
    plain_len: PlainLen,
    /// The stored header, until the first chunk takes it along.
    prefix: Option<[u8; 32]>,
    end: End,
    input: Bytes,
    received: u64,
    /// The chunk being filled.
    index: u64,
    buffer: BytesMut,
    /// Where the chunk begins in the buffer.
    buffer_start: usize,
    /// What was held back, once it may go.
    last_pieces: Option<std::vec::IntoIter<Bytes>>,
    outcome: SealOutcome,
}

impl Sealer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if let Some(pieces) = &mut self.last_pieces {
            return Poll::Ready(Ok(pieces.next()));
        }
        for _ in 0..PIECES_PER_POLL {
            if let Some(piece) = self.fill()? {
                return Poll::Ready(Ok(Some(piece)));
            }
            match ready!(self.source.as_mut().poll_next(cx)) {
                Some(Ok(piece)) => {
                    self.received = self.received.saturating_add(piece.len() as u64);
                    if self.received > self.plain_len.get() {
                        return Poll::Ready(Err(Error::LongBody { wanted: self.plain_len.get() }));
                    }
                    self.input = piece;
                }
                Some(Err(error)) => return Poll::Ready(Err(Error::Source(error))),
                None => {
                    let mut pieces = self.finish()?.into_iter();
                    let first = pieces.next();
                    self.last_pieces = Some(pieces);
                    return Poll::Ready(Ok(first));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves input into the chunk buffer. Gives a piece when a chunk other than the last is full.
    fn fill(&mut self) -> Result<Option<Bytes>> {
        while !self.input.is_empty() {
            if self.buffer.is_empty() {
                self.start_chunk();
            }
            let room = self.chunk_len() - (self.buffer.len() - self.buffer_start);
            // There is always room: what came was compared with the announced length, and a full chunk is taken away at once.
            let fits = room.min(self.input.len());
            let plain = &self.input[..fits];
            self.check.update(plain);
            if let End::Object(digest) = &mut self.end {
                digest.update(plain);
            }
            self.buffer.extend_from_slice(plain);
            self.input.advance(fits);
            if fits == room && self.index + 1 < chunk_count(self.plain_len) {
                return self.seal_chunk(false).map(|piece| Some(piece.freeze()));
            }
        }
        Ok(None)
    }

    fn chunk_len(&self) -> usize {
        // At most 64 KiB, so it fits any usize.
        (self.plain_len.get() - self.index * CHUNK).min(CHUNK) as usize
    }

    fn start_chunk(&mut self) {
        let last = self.index + 1 == chunk_count(self.plain_len);
        let end_len = if last { self.end_len() } else { 0 };
        let joined = if end_len <= JOINED_END_MAX { end_len as usize } else { 0 };
        let prefix = self.prefix.take();
        let prefix = prefix.as_ref().map_or(&[][..], |prefix| prefix);
        self.buffer = BytesMut::with_capacity(prefix.len() + self.chunk_len() + TAG as usize + joined);
        self.buffer.extend_from_slice(prefix);
        self.buffer_start = prefix.len();
    }

    fn seal_chunk(&mut self, last: bool) -> Result<BytesMut> {
        let mut piece = std::mem::take(&mut self.buffer);
        let tag = self.key.seal_in_place(self.index, last, &mut piece[self.buffer_start..])?;
        piece.extend_from_slice(&tag);
        self.index += 1;
        Ok(piece)
    }

    /// Bytes after the last chunk.
    fn end_len(&self) -> u64 {
        match self.end {
            End::Object(_) => self.plain_len.sealed().get() - chunked_len(self.plain_len).get(),
            End::Part => 0,
        }
    }

    /// The plaintext has ended: judges it and makes what was held back.
    fn finish(&mut self) -> Result<Vec<Bytes>> {
        if self.received < self.plain_len.get() {
            return Err(Error::ShortBody { wanted: self.plain_len.get(), got: self.received });
        }
        let facts = self.check.verdict().map_err(Error::Rejected)?;
        let mut end = self.footer(&facts)?;
        let mut piece = if self.plain_len.get() == 0 { BytesMut::new() } else { self.seal_chunk(true)? };
        let mut pieces = Vec::new();
        let end_len = self.end_len();
        if end_len > JOINED_END_MAX {
            pieces.push(piece.freeze());
            piece = BytesMut::with_capacity(end_len as usize);
        }
        piece.resize(piece.len() + end_len as usize - end.len(), 0);
        piece.extend_from_slice(&std::mem::take(&mut end));
        if !piece.is_empty() {
            pieces.push(piece.freeze());
        }
        self.outcome.set(Progress::Complete(facts));
        Ok(pieces)
    }

    fn footer(&self, facts: &FooterFacts) -> Result<Vec<u8>> {
        let End::Object(digest) = &self.end else { return Ok(Vec::new()) };
        let footer = Footer {
            plain_len: self.plain_len,
            time_ms: facts.time_ms,
            checksum: facts.checksum,
            crc64: Some(digest.finalize()),
            md5: facts.md5,
            parts: Vec::new(),
        };
        Ok(footer.seal(&self.keys)?)
    }
}
