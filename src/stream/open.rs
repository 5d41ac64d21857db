use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::Stream;

use super::outgoing::Outgoing;
use super::rechunk::Rechunk;
use super::{BoxError, Error, PIECES_PER_POLL, Result, Source};
use crate::crypto::{ChunkKey, ObjectKeys, opened_len};
use crate::format::layout::CHUNK;
use crate::format::{End, Footer, Layout, PlainLen, ReadPlan, Tail};

/// The most plaintext bytes that leave together: as many chunks as fit, if they are there. Larger writes wake the client less often.
const PIECE: usize = 512 * 1024;

/// Opens the bytes a plan asked for. `sealed` must yield exactly [`ReadPlan::sealed`], in order, in pieces of any size.
///
/// The body yields authenticated plaintext trimmed to the plan. Its last piece comes only after `sealed` ended where it should and, in
/// a whole read, after padding, footer and recorded checksum were found good. After an error it is over.
pub fn open_object(
    sealed: impl Stream<Item = std::result::Result<Bytes, BoxError>> + Send + 'static,
    keys: impl Into<Arc<ObjectKeys>>,
    plan: ReadPlan,
) -> OpenedBody {
    let plain_len = plan.plain_len();
    let digest = match plan.tail() {
        Some(Tail::Single { .. }) => true,
        Some(Tail::Multipart { footer, .. }) => footer.crc64.is_some(),
        None => false,
    };
    let opener = Opener {
        source: Box::pin(sealed),
        keys: keys.into(),
        step: Step::Segment(0),
        plan,
        input: Rechunk::new(),
        received: 0,
        opened: 0,
        piece: Outgoing::new(),
        digest: digest.then(|| Digest::new(CrcAlgorithm::Crc64Nvme)),
    };
    OpenedBody { opener: Mutex::new(Some(opener)), plain_len }
}

/// Plaintext on its way to the client, every byte of it authenticated.
pub struct OpenedBody {
    // Never locked: it makes the body `Sync`, which HTTP servers ask for, although the source is not.
    opener: Mutex<Option<Opener>>,
    plain_len: PlainLen,
}

impl OpenedBody {
    /// How many bytes the body has if nothing goes wrong.
    pub fn plain_len(&self) -> PlainLen {
        self.plain_len
    }
}

impl fmt::Debug for OpenedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenedBody({} bytes)", self.plain_len)
    }
}

impl Stream for OpenedBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let slot = self.opener.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(opener) = slot.as_mut() else { return Poll::Ready(None) };
        match ready!(opener.poll(cx)) {
            Ok(Polled::Piece(piece)) => Poll::Ready(Some(Ok(piece))),
            Ok(Polled::Last(piece)) => {
                *slot = None;
                Poll::Ready(piece.map(Ok))
            }
            Err(error) => {
                *slot = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

enum Polled {
    Piece(Bytes),
    Last(Option<Bytes>),
}

enum Step {
    /// At the beginning of a segment, or behind the last one.
    Segment(usize),
    /// At the beginning of a chunk; so many plaintext bytes of the segment are still to be yielded.
    Chunk { segment: usize, key: ChunkKey, index: u64, left: u64 },
    /// In the padding; so many bytes of it are left, and so many come after it.
    Padding { left: u64, end_len: u64 },
    /// At the beginning of what may hold the last padding, SEALED and END.
    End { len: u64 },
    /// Behind the last byte of the plan.
    Done,
}

struct Opener {
    source: Source,
    keys: Arc<ObjectKeys>,
    plan: ReadPlan,
    step: Step,
    input: Rechunk,
    received: u64,
    /// Plaintext bytes so far.
    opened: u64,
    /// Those that have not left yet.
    piece: Outgoing,
    digest: Option<Digest>,
}

impl Opener {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Polled>> {
        let wanted = self.plan.sealed_len();
        for _ in 0..PIECES_PER_POLL {
            while self.advance()? {
                if self.piece.len() > PIECE - CHUNK as usize && self.may_leave() {
                    return Poll::Ready(Ok(Polled::Piece(self.piece.leave())));
                }
            }
            let Poll::Ready(next) = self.source.as_mut().poll_next(cx) else {
                // Nothing waits for what has not come yet.
                if self.piece.len() == 0 || !self.may_leave() {
                    return Poll::Pending;
                }
                return Poll::Ready(Ok(Polled::Piece(self.piece.leave())));
            };
            match next {
                Some(Ok(piece)) => {
                    self.received = self.received.saturating_add(piece.len() as u64);
                    if self.received > wanted {
                        return Poll::Ready(Err(Error::SealedLong { wanted }));
                    }
                    self.input.push(piece);
                }
                Some(Err(error)) => return Poll::Ready(Err(Error::Source(error))),
                None if matches!(self.step, Step::Done) => {
                    let last = self.piece.leave();
                    return Poll::Ready(Ok(Polled::Last((!last.is_empty()).then_some(last))));
                }
                None => return Poll::Ready(Err(Error::SealedShort { wanted, got: self.received })),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The piece with the last byte stays until everything behind it was found good.
    fn may_leave(&self) -> bool {
        self.opened < self.plan.plain_len().get()
    }

    /// Takes one step with the input at hand; false if it does not suffice for one.
    fn advance(&mut self) -> Result<bool> {
        match &mut self.step {
            Step::Segment(index) => {
                let index = *index;
                let Some(segment) = self.plan.segments().get(index) else {
                    self.step = self.after_segments();
                    return Ok(true);
                };
                let header = if segment.header_inside() {
                    let Some(stored) = self.input.take(32) else { return Ok(false) };
                    let stored: &[u8; 32] = stored[..].try_into().expect("asked for 32 bytes");
                    segment.header(Some(stored))?
                } else {
                    segment.header(None)?
                };
                let key = self.keys.chunk_key(&header.to_bytes());
                self.step = Step::Chunk { segment: index, key, index: segment.span().first, left: segment.take() };
                Ok(true)
            }
            Step::Chunk { segment: at, key, index, left } => {
                let segment = &self.plan.segments()[*at];
                let Some(chunk) = self.input.take(segment.sealed_chunk_len(*index)) else { return Ok(false) };
                let last_of_part = *index + 1 == segment.chunk_count();
                let len = opened_len(&chunk);
                // The last chunk may hold more than is wanted of it.
                let wanted = self.plan.plain_len().get() - self.opened + CHUNK;
                let plain = self.piece.claim(len, usize::try_from(wanted).unwrap_or(PIECE).min(PIECE));
                key.open_into(*index, last_of_part, &chunk, plain)?;
                if let Some(digest) = &mut self.digest {
                    digest.update(plain);
                }
                let span = segment.span();
                // A skip is always inside its chunk, see `ChunkSpan::of`.
                let skip = if *index == span.first { (span.skip as usize).min(len) } else { 0 };
                // The last chunk may hold more than was asked for.
                let kept = usize::try_from(*left).unwrap_or(usize::MAX).min(len - skip);
                self.piece.trim(len, skip, kept);
                *left -= kept as u64;
                if *index == span.last {
                    self.step = Step::Segment(*at + 1);
                } else {
                    *index += 1;
                }
                self.opened += kept as u64;
                Ok(true)
            }
            Step::Padding { left, end_len } => {
                let available = self.input.available();
                let seen = usize::try_from(*left).map_or(available.len(), |left| left.min(available.len()));
                if available[..seen].iter().any(|&byte| byte != 0) {
                    return Err(crate::format::Error::PaddingNotZero.into());
                }
                self.input.advance(seen);
                *left -= seen as u64;
                if *left > 0 {
                    return Ok(false);
                }
                self.step = Step::End { len: *end_len };
                Ok(true)
            }
            Step::End { len } => {
                // Bounded by the plan: 160 bytes, or the length of a footer that was opened before.
                let Some(end) = self.input.take(*len as usize) else { return Ok(false) };
                self.check_end(&end)?;
                self.step = Step::Done;
                Ok(true)
            }
            Step::Done => Ok(false),
        }
    }

    fn after_segments(&self) -> Step {
        match self.plan.tail() {
            None => Step::Done,
            Some(Tail::Single { len, end_max }) => Step::Padding { left: len - end_max, end_len: *end_max },
            Some(Tail::Multipart { pad_len, end_len, .. }) => Step::Padding { left: *pad_len, end_len: *end_len },
        }
    }

    fn check_end(&self, bytes: &[u8]) -> Result<()> {
        use crate::format::Error as Bad;
        let object = self.plan.object_len();
        let (before, end) = bytes.split_last_chunk::<32>().ok_or(Bad::End("too short"))?;
        let multipart = match self.plan.tail() {
            Some(Tail::Multipart { footer, .. }) => Some(footer),
            Some(Tail::Single { .. }) | None => None,
        };
        let layout = if multipart.is_some() { Layout::Multipart } else { Layout::Single };
        let end = End::parse(end, object, layout)?;
        let padding = before.len().checked_sub(end.sealed_len() as usize).ok_or(Bad::End("the footer is too long"))?;
        let (padding, sealed) = before.split_at(padding);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(Bad::PaddingNotZero.into());
        }
        let footer = Footer::open(&self.keys, &end, sealed, object)?;
        if multipart.is_some_and(|known| **known != footer) {
            return Err(Error::FooterDiffers);
        }
        match (footer.crc64, &self.digest) {
            (Some(recorded), Some(digest)) if recorded != digest.finalize() => Err(Error::Crc64Differs),
            _ => Ok(()),
        }
    }
}
