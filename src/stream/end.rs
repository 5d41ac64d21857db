use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use zeroize::Zeroizing;

use super::rechunk::Rechunk;
use super::{BoxError, Error, PIECES_PER_POLL, Result, SealedBody, Source};
use crate::crypto::{ChunkKey, ObjectKeys, opened_len};
use crate::format::layout::{PART_HEADER, SEALED_CHUNK, chunk_count, chunked_len, part_sealed_len};
use crate::format::{Footer, PartHeader, SealedLen};

/// Padding leaves in pieces of this many bytes.
const PAD_PIECE: u64 = 65_536;

/// The last part of an upload where it waits in the state store: bytes that were sealed before.
pub struct SpooledPart {
    source: Source,
    header: PartHeader,
}

impl SpooledPart {
    /// `sealed` must yield exactly the part that this header begins.
    pub fn new(sealed: impl Stream<Item = std::result::Result<Bytes, BoxError>> + Send + 'static, header: PartHeader) -> Self {
        Self { source: Box::pin(sealed), header }
    }
}

impl fmt::Debug for SpooledPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpooledPart({} bytes)", self.header.plain_len)
    }
}

/// What ends an object in parts, as one more part: the spooled last part if there is one, padding, footer and end marker.
///
/// The spooled bytes must be the part that the footer's last entry names. Each of its chunks is opened as it passes, and the footer
/// leaves only behind a part that opened to its end, so what becomes an object can be read. Errors: [`Error::Format`] for a footer
/// that breaks a rule, or whose last entry is not the spooled part.
pub fn seal_end(footer: &Footer, keys: impl Into<Arc<ObjectKeys>>, spooled: Option<SpooledPart>) -> Result<SealedBody> {
    let keys = keys.into();
    if let Some(SpooledPart { header, .. }) = &spooled {
        let last = footer.parts.last().ok_or(crate::format::Error::Footer("there are no parts"))?;
        if last.part_id.is_none() || last.header(Some(&header.to_bytes()))? != *header {
            return Err(crate::format::Error::PartHeaderDiffers.into());
        }
    }
    let end = footer.seal(&keys)?;
    let pad_len = footer.pad_len();
    let spool_len = spooled.as_ref().map_or(0, |spooled| part_sealed_len(spooled.header.plain_len).get());
    let sealed_len = SealedLen::new(spool_len + pad_len + end.len() as u64);
    let ending = Ending {
        spool: spooled.filter(|_| spool_len > 0).map(|spooled| Spool::new(spooled, &keys)),
        pad_left: pad_len,
        end: Some(end.into()),
    };
    Ok(SealedBody::ending(ending, sealed_len))
}

/// The body that [`seal_end`] makes.
pub(super) struct Ending {
    spool: Option<Spool>,
    pad_left: u64,
    end: Option<Bytes>,
}

impl Ending {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if let Some(spool) = &mut self.spool {
            match ready!(spool.poll(cx))? {
                Some(piece) => return Poll::Ready(Ok(Some(piece))),
                None => self.spool = None,
            }
        }
        if self.pad_left > 0 {
            let piece = self.pad_left.min(PAD_PIECE);
            self.pad_left -= piece;
            // At most 64 KiB.
            return Poll::Ready(Ok(Some(BytesMut::zeroed(piece as usize).freeze())));
        }
        Poll::Ready(Ok(self.end.take()))
    }
}

/// A spooled part on its way through. What leaves are the stored bytes; each chunk is opened first.
struct Spool {
    source: Source,
    header: PartHeader,
    key: ChunkKey,
    input: Rechunk,
    received: u64,
    /// The chunk to come; None before the header.
    next: Option<u64>,
    /// A chunk's plaintext, looked at by nobody and wiped at the end.
    opened: Zeroizing<Vec<u8>>,
}

impl Spool {
    fn new(spooled: SpooledPart, keys: &ObjectKeys) -> Self {
        let SpooledPart { source, header } = spooled;
        let key = keys.chunk_key(&header.to_bytes());
        Self { source, header, key, input: Rechunk::new(), received: 0, next: None, opened: Zeroizing::default() }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let wanted = part_sealed_len(self.header.plain_len).get();
        for _ in 0..PIECES_PER_POLL {
            if let Some(piece) = self.pass()? {
                return Poll::Ready(Ok(Some(piece)));
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
                None if self.received == wanted => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(Error::SealedShort { wanted, got: self.received })),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The next unit that is there and good.
    fn pass(&mut self) -> Result<Option<Bytes>> {
        let Some(index) = self.next else {
            let Some(stored) = self.input.take(PART_HEADER as usize) else { return Ok(None) };
            if stored[..] != self.header.to_bytes() {
                return Err(crate::format::Error::PartHeaderDiffers.into());
            }
            self.next = Some(0);
            return Ok(Some(stored));
        };
        let count = chunk_count(self.header.plain_len);
        if index == count {
            return Ok(None);
        }
        let rest = chunked_len(self.header.plain_len).get() - index * SEALED_CHUNK;
        let Some(chunk) = self.input.take(rest.min(SEALED_CHUNK) as usize) else { return Ok(None) };
        self.opened.resize(opened_len(&chunk), 0);
        self.key.open_into(index, index + 1 == count, &chunk, &mut self.opened)?;
        self.next = Some(index + 1);
        Ok(Some(chunk))
    }
}
