use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use crc_fast::{CrcAlgorithm, Digest};
use futures::Stream;

use super::crew::{Chunk, Crew, Lane};
use super::rechunk::Rechunk;
use super::{BoxError, Error, PIECES_PER_POLL, Result, Source};
use crate::crypto::{ChunkKey, ObjectKeys, TAG_LEN};
use crate::format::{End, Footer, Layout, PlainLen, ReadPlan, Tail};

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
        input_ended: false,
        lane: Lane::new(),
        received: 0,
        yielded: 0,
        digest: digest.then(|| Digest::new(CrcAlgorithm::Crc64Nvme)),
        held: None,
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
    /// Lets a crew open the chunks. What the body yields is the same; [`crew_pays`](super::crew_pays) says whether it is faster.
    #[must_use]
    pub fn helped_by(mut self, crew: &Arc<dyn Crew>) -> Self {
        if let Some(opener) = self.opener.get_mut().unwrap_or_else(PoisonError::into_inner) {
            opener.lane.set_crew(Arc::clone(crew));
        }
        self
    }

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
    Chunk { segment: usize, key: Arc<ChunkKey>, index: u64, left: u64 },
    /// In the padding; so many bytes of it are left, and so many come after it.
    Padding { left: u64, end_len: u64 },
    /// At the beginning of what may hold the last padding, SEALED and END.
    End { len: u64 },
    /// Behind the last byte of the plan.
    Done,
}

enum Advance {
    Moved,
    NeedsInput,
    /// The chunks under way must be released first.
    NeedsRelease,
}

struct Opener {
    source: Source,
    keys: Arc<ObjectKeys>,
    plan: ReadPlan,
    step: Step,
    input: Rechunk,
    input_ended: bool,
    lane: Lane,
    received: u64,
    yielded: u64,
    digest: Option<Digest>,
    held: Option<Bytes>,
}

impl Opener {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Polled>> {
        let wanted = self.plan.sealed_len();
        for _ in 0..PIECES_PER_POLL {
            loop {
                // Pending means that chunks are with the crew, which will wake us.
                while let Poll::Ready(Some(chunk)) = self.lane.poll_next(cx)? {
                    let piece = self.release(chunk);
                    if self.yielded == self.plan.plain_len().get() {
                        self.held = Some(piece);
                    } else {
                        return Poll::Ready(Ok(Polled::Piece(piece)));
                    }
                }
                match self.advance()? {
                    Advance::Moved => {}
                    Advance::NeedsInput => break,
                    Advance::NeedsRelease => return Poll::Pending,
                }
            }
            if self.input_ended {
                return if !self.lane.is_empty() {
                    Poll::Pending
                } else if matches!(self.step, Step::Done) {
                    Poll::Ready(Ok(Polled::Last(self.held.take())))
                } else {
                    Poll::Ready(Err(Error::SealedShort { wanted, got: self.received }))
                };
            }
            match ready!(self.source.as_mut().poll_next(cx)) {
                Some(Ok(piece)) => {
                    self.received = self.received.saturating_add(piece.len() as u64);
                    if self.received > wanted {
                        return Poll::Ready(Err(Error::SealedLong { wanted }));
                    }
                    self.input.push(piece);
                }
                Some(Err(error)) => return Poll::Ready(Err(Error::Source(error))),
                None => self.input_ended = true,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes account of an opened chunk and cuts it down to what was asked for.
    fn release(&mut self, chunk: Chunk) -> Bytes {
        let mut plain = chunk.bytes;
        if let Some(digest) = &mut self.digest {
            digest.update(&plain);
        }
        plain.advance(chunk.skip);
        plain.truncate(chunk.keep);
        self.yielded += plain.len() as u64;
        plain.freeze()
    }

    /// Takes one step with the input at hand.
    fn advance(&mut self) -> Result<Advance> {
        match &mut self.step {
            Step::Segment(index) => {
                let index = *index;
                let Some(segment) = self.plan.segments().get(index) else {
                    self.step = self.after_segments();
                    return Ok(Advance::Moved);
                };
                let header = if segment.header_inside() {
                    let Some(stored) = self.input.take(32) else { return Ok(Advance::NeedsInput) };
                    let stored: &[u8; 32] = stored[..].try_into().expect("asked for 32 bytes");
                    segment.header(Some(stored))?
                } else {
                    segment.header(None)?
                };
                let key = Arc::new(self.keys.chunk_key(&header.to_bytes()));
                self.step = Step::Chunk { segment: index, key, index: segment.span().first, left: segment.take() };
                Ok(Advance::Moved)
            }
            Step::Chunk { segment: at, key, index, left } => {
                if self.lane.is_full() {
                    return Ok(Advance::NeedsRelease);
                }
                let segment = &self.plan.segments()[*at];
                let span = segment.span();
                let mut chunks = VecDeque::new();
                let mut next = None;
                while chunks.len() < self.lane.batch_max() && next.is_none() {
                    let Some(bytes) = self.input.take(segment.sealed_chunk_len(*index)) else { break };
                    let plain_len = bytes.len() - TAG_LEN;
                    // A skip is always inside its chunk, see `ChunkSpan::of`.
                    let skip = if *index == span.first { (span.skip as usize).min(plain_len) } else { 0 };
                    // The last chunk may hold more than was asked for.
                    let keep = usize::try_from(*left).unwrap_or(usize::MAX).min(plain_len - skip);
                    *left -= keep as u64;
                    chunks.push_back(Chunk { index: *index, last_of_part: *index + 1 == segment.chunk_count(), bytes, skip, keep });
                    if *index == span.last {
                        next = Some(Step::Segment(*at + 1));
                    } else {
                        *index += 1;
                    }
                }
                if chunks.is_empty() {
                    return Ok(Advance::NeedsInput);
                }
                self.lane.push(key, chunks);
                if let Some(next) = next {
                    self.step = next;
                }
                Ok(Advance::Moved)
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
                    return Ok(Advance::NeedsInput);
                }
                self.step = Step::End { len: *end_len };
                Ok(Advance::Moved)
            }
            Step::End { len } => {
                // The recorded checksum covers every chunk.
                if !self.lane.is_empty() {
                    return Ok(Advance::NeedsRelease);
                }
                // Bounded by the plan: 160 bytes, or the length of a footer that was opened before.
                let Some(end) = self.input.take(*len as usize) else { return Ok(Advance::NeedsInput) };
                self.check_end(&end)?;
                self.step = Step::Done;
                Ok(Advance::Moved)
            }
            Step::Done => Ok(Advance::NeedsInput),
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
