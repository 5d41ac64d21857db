use std::ops::Range;
use std::sync::Arc;

use super::layout::{ChunkSpan, END_MARKER, PART_HEADER, chunk_count, chunked_len, part_sealed_len};
use super::{Error, Footer, Layout, PartHeader, PlainLen, Result, TableEntry};

/// The longest SEALED || END of the single layout: no table, at most 64 bytes of checksum.
const SINGLE_END_MAX: u64 = 64 + 64 + END_MARKER;

/// Which object bytes to fetch for a read and how to open them (FORMAT sections 8 and 9).
#[derive(Debug, Clone)]
pub struct ReadPlan {
    object: PlainLen,
    sealed: Range<u64>,
    plain: Range<u64>,
    segments: Vec<Segment>,
    tail: Option<Tail>,
    header_wanted: Option<u64>,
}

/// A run of chunks of one part.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The part's table entry; the single layout has one that is bound.
    entry: TableEntry,
    /// The 32 stored bytes, where they had to be fetched first.
    fetched_header: Option<[u8; 32]>,
    /// Whether the part's stored header comes before the chunks.
    header_inside: bool,
    /// The chunks.
    span: ChunkSpan,
    /// Plaintext bytes to yield.
    take: u64,
}

/// What follows the chunks of a whole read, up to the end of the object.
#[derive(Debug, Clone)]
pub enum Tail {
    /// Padding and end of the single layout. The footer is at most the last `end_max` bytes; all before is padding.
    Single {
        /// Bytes after the last chunk.
        len: u64,
        /// The longest that SEALED || END may be.
        end_max: u64,
    },
    /// Padding and end of the multipart layout, whose footer is known already and must be found again.
    Multipart {
        /// Zero bytes after the last part.
        pad_len: u64,
        /// Bytes of SEALED || END.
        end_len: u64,
        /// The footer the plan was made of.
        footer: Arc<Footer>,
    },
}

impl ReadPlan {
    /// The plan for an object in the single layout: the whole object with its end, or the plaintext bytes `first..=last`.
    /// Errors: [`Error::RangeOutside`] unless `first <= last < plain_len`; callers clamp the client's range before.
    pub fn single(plain_len: PlainLen, range: Option<(u64, u64)>) -> Result<Self> {
        let entry = TableEntry {
            number: 0,
            plain_len,
            part_id: Some(PartHeader::single(plain_len).part_id),
            checksum: super::ChecksumBytes::EMPTY,
        };
        let plain = piece(plain_len, range)?;
        let segments = segment(entry, &plain, false).into_iter().collect();
        let (sealed, tail) = match range {
            Some(_) => {
                let span = ChunkSpan::of(plain_len, &plain).ok_or(Error::RangeOutside)?;
                (span.sealed_start..span.sealed_end, None)
            }
            None => {
                let total = plain_len.sealed().get();
                let len = total - chunked_len(plain_len).get();
                (0..total, Some(Tail::Single { len, end_max: SINGLE_END_MAX }))
            }
        };
        Ok(Self { object: plain_len, sealed, plain, segments, tail, header_wanted: None })
    }

    /// The plan for an object in the multipart layout, whose footer was opened before: the whole object, or the plaintext bytes
    /// `first..=last`. Errors: [`Error::RangeOutside`] as for [`ReadPlan::single`]; [`Error::Footer`] for a footer without parts.
    pub fn multipart(footer: &Arc<Footer>, range: Option<(u64, u64)>) -> Result<Self> {
        if footer.layout() != Layout::Multipart {
            return Err(Error::Footer("a multipart object has at least one part"));
        }
        let object = footer.plain_len;
        let plain = piece(object, range)?;
        let mut segments = Vec::new();
        let mut header_wanted = None;
        let mut sealed: Option<Range<u64>> = None;
        // Where the current part begins, in plaintext and in the object. Both sums are within the object's length, which the footer's
        // own checks made sure of.
        let (mut plain_at, mut sealed_at) = (0u64, 0u64);
        for entry in &footer.parts {
            let part = plain_at..plain_at + entry.plain_len.get();
            let chunks_at = sealed_at + PART_HEADER;
            let wanted = plain.start.max(part.start)..plain.end.min(part.end);
            if wanted.start < wanted.end {
                let wanted = wanted.start - part.start..wanted.end - part.start;
                // In between, and in whole reads, the stored headers are read and compared. A range that begins inside a part does
                // without: the key of its chunks comes from the table. Only an unbound part needs its own.
                let first = segments.is_empty();
                let unbound = entry.part_id.is_none();
                let from_start = wanted.start < super::layout::CHUNK;
                let header_inside = !first || range.is_none() || (unbound && from_start);
                if first && unbound && !header_inside {
                    header_wanted = Some(sealed_at);
                }
                let segment = segment(*entry, &wanted, header_inside).ok_or(Error::RangeOutside)?;
                let start = if header_inside { sealed_at } else { chunks_at + segment.span.sealed_start };
                let end = chunks_at + segment.span.sealed_end;
                sealed = Some(sealed.map_or(start, |sealed| sealed.start)..end);
                segments.push(segment);
            }
            plain_at = part.end;
            sealed_at += part_sealed_len(entry.plain_len).get();
        }
        let (sealed, tail) = match (range, sealed) {
            (Some(_), Some(sealed)) => (sealed, None),
            (Some(_), None) => return Err(Error::RangeOutside),
            (None, _) => {
                let (pad_len, end_len) = (footer.pad_len(), footer.end_len());
                (0..object.sealed().get(), Some(Tail::Multipart { pad_len, end_len, footer: Arc::clone(footer) }))
            }
        };
        Ok(Self { object, sealed, plain, segments, tail, header_wanted })
    }

    /// The object bytes to fetch, end exclusive. Empty never: even an empty object has an end to check.
    pub fn sealed(&self) -> Range<u64> {
        self.sealed.clone()
    }

    /// How many bytes that is.
    pub fn sealed_len(&self) -> u64 {
        self.sealed.end - self.sealed.start
    }

    /// The plaintext bytes the read yields, end exclusive.
    pub fn plain(&self) -> Range<u64> {
        self.plain.clone()
    }

    /// How many bytes that is.
    pub fn plain_len(&self) -> PlainLen {
        PlainLen::new(self.plain.end - self.plain.start).unwrap_or(self.object)
    }

    /// Plaintext length of the whole object.
    pub fn object_len(&self) -> PlainLen {
        self.object
    }

    /// Whether this reads the whole object with its end.
    pub fn is_whole(&self) -> bool {
        self.tail.is_some()
    }

    /// Where the 32 bytes lie that must be fetched before the body can be opened: the stored header of an unbound part into which
    /// the range begins. Hand them to [`ReadPlan::with_header`].
    pub fn header_wanted(&self) -> Option<u64> {
        self.header_wanted
    }

    /// Completes the plan with the stored header it asked for. Errors: [`Error::PartHeader`], [`Error::PartHeaderDiffers`].
    pub fn with_header(mut self, stored: &[u8; 32]) -> Result<Self> {
        if self.header_wanted.take().is_some()
            && let Some(first) = self.segments.first_mut()
        {
            first.entry.header(Some(stored))?;
            first.fetched_header = Some(*stored);
        }
        Ok(self)
    }

    /// The runs of chunks in the order of the body.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What follows them in a whole read.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }
}

impl Segment {
    /// Whether the body has the part's stored header before the chunks.
    pub fn header_inside(&self) -> bool {
        self.header_inside
    }

    /// The header from which the key of the chunks is derived. `inside` are the 32 bytes read from the body where
    /// [`Segment::header_inside`] says so. Errors as for [`TableEntry::header`].
    pub fn header(&self, inside: Option<&[u8; 32]>) -> Result<PartHeader> {
        if self.header_inside && inside.is_none() {
            return Err(Error::HeaderNeeded);
        }
        self.entry.header(inside.or(self.fetched_header.as_ref()))
    }

    /// The chunks.
    pub fn span(&self) -> &ChunkSpan {
        &self.span
    }

    /// Chunks of the whole part.
    pub fn chunk_count(&self) -> u64 {
        chunk_count(self.entry.plain_len)
    }

    /// Sealed length of one chunk of the part.
    pub fn sealed_chunk_len(&self, index: u64) -> usize {
        let start = index * super::layout::SEALED_CHUNK;
        let len = chunked_len(self.entry.plain_len).get().saturating_sub(start).min(super::layout::SEALED_CHUNK);
        len as usize
    }

    /// Plaintext bytes to yield, after the first `span().skip`.
    pub fn take(&self) -> u64 {
        self.take
    }
}

fn segment(entry: TableEntry, wanted: &Range<u64>, header_inside: bool) -> Option<Segment> {
    let span = ChunkSpan::of(entry.plain_len, wanted)?;
    Some(Segment { entry, fetched_header: None, header_inside, span, take: wanted.end - wanted.start })
}

fn piece(plain_len: PlainLen, range: Option<(u64, u64)>) -> Result<Range<u64>> {
    match range {
        None => Ok(0..plain_len.get()),
        Some((first, last)) if first <= last && last < plain_len.get() => Ok(first..last + 1),
        Some(_) => Err(Error::RangeOutside),
    }
}
