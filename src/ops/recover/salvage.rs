//! How a damaged object is read (docs/FORMAT.md, sections 4 to 8).
//!
//! In one piece: the key of every chunk is bound to the plaintext's length. It is in the footer, which opens wherever it lies; it follows from
//! the stored length, unless that has changed; otherwise lengths are tried until a chunk opens, and no chunk opens under a wrong one.
//!
//! In parts: the footer says which parts there are. Without it the headers that are stored before the chunks are followed, one after the
//! other, and searched for where the chain is broken. What they lead to is genuine; that it is all, and nothing that was uploaded again
//! later, only the footer can say.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::pieces::{Lost, Output, Why};
use super::{Error, Failure};
use crate::crypto::ObjectKeys;
use crate::format::layout::{PART_HEADER, SEALED_CHUNK, TAG, chunk_count, chunked_len, part_plain_len, part_sealed_len};
use crate::format::{End, Footer, Layout, Metadata, PartHeader, PlainLen, SealedLen};
use crate::stream::PartChunks;

/// Chunks that are read with one request: 8 MiB.
const WINDOW: u64 = 127;
/// Where a footer is looked for: twice as much as the longest needs, for what may have been put behind it.
const TAIL_LEN: u64 = 2 * (End::SEALED_MAX + End::LEN);
/// Bytes that hold the footer of any object in one piece.
const SHORT_FOOTER: u64 = 256;
/// Chunks by which a length is tried, where there are more than a few.
const PROBES: u64 = 8;
/// So many lengths are a few.
const FEW: u64 = 64;
/// Chunks by which a header is tried that was found by its form.
const HEADER_PROBES: u64 = 2;
/// Headers that are tried at most in the search for one.
const HEADERS_MAX: usize = 10_000;
/// Lengths that are tried at most.
pub(super) const LENGTHS_MAX: u64 = 1 << 24;

/// Stored bytes.
pub(super) trait Sealed {
    fn len(&self) -> u64;

    /// The bytes from `from` up to `to`, which is behind it and within the length. `None`: they cannot be had.
    ///
    /// # Errors
    /// What makes it useless to go on.
    async fn read(&self, from: u64, to: u64) -> Result<Option<Bytes>, Error>;
}

/// How the plaintext's length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthFrom {
    /// The footer says so.
    Footer,
    /// Chunks open under this length and no other.
    Chunks,
    /// It follows from the length of what is stored, and nothing contradicts it.
    StoredLength,
    /// Whoever asked has said so.
    Told,
    /// It is not. What is beyond the recovered bytes, and whether anything is, nobody knows.
    Unknown,
}

impl LengthFrom {
    /// A short fixed word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Footer => "footer",
            Self::Chunks => "chunks",
            Self::StoredLength => "stored-length",
            Self::Told => "told",
            Self::Unknown => "unknown",
        }
    }
}

/// Content headers and user metadata of the object, where they lie sealed beside it.
#[derive(Debug)]
pub enum Beside {
    /// They do not: whoever looks at the object in the store sees them.
    InPlain,
    Opened(Metadata),
    /// They are missing, or do not open.
    Lost,
}

/// What a recovery came to.
#[derive(Debug)]
pub struct Recovered {
    pub metadata: Beside,
    /// Bytes in the store.
    pub stored_len: u64,
    /// Bytes of plaintext, as far as they are known.
    pub plain_len: u64,
    pub length_from: LengthFrom,
    pub in_parts: bool,
    /// Whether the footer could be opened.
    pub has_footer: bool,
    /// Whether every offset is where it was. It is not behind parts whose lengths can only be estimated.
    pub is_exact: bool,
    /// Bytes that verified.
    pub recovered: u64,
    pub lost: Vec<Lost>,
    /// Ranges that are not in `lost`, as there are too many.
    pub lost_more: u64,
}

impl Recovered {
    /// Whether this is the whole plaintext with all that was sealed beside it, and nobody has to take it on trust.
    pub fn is_whole(&self) -> bool {
        !matches!(self.metadata, Beside::Lost)
            && self.lost.is_empty()
            && (self.has_footer || self.length_from == LengthFrom::Chunks)
    }

    /// Bytes that are lost for certain.
    pub fn lost_bytes(&self) -> u64 {
        self.plain_len - self.recovered
    }
}

pub(super) struct Salvage<'a, S> {
    pub source: &'a S,
    pub keys: Arc<ObjectKeys>,
    pub layout: Layout,
    /// To be tried.
    pub plain_sizes: Vec<RangeInclusive<u64>>,
    /// The one length that whoever asks knows of.
    pub told_size: Option<u64>,
}

impl<S: Sealed> Salvage<'_, S> {
    pub async fn run(mut self, mut output: Output<'_>) -> Result<Recovered, Failure> {
        let footer = self.find_footer().await?;
        let mut is_exact = true;
        let length_from = match (self.layout, &footer) {
            (Layout::Single, Some(footer)) => {
                self.single(footer.plain_len, &mut output).await?;
                LengthFrom::Footer
            }
            (Layout::Single, None) => match self.find_length().await? {
                Some(length) => {
                    self.single(length, &mut output).await?;
                    LengthFrom::Chunks
                }
                // Nothing opens under any of the lengths.
                None => match self.told_size.or_else(|| self.length_by_law()) {
                    Some(length) => {
                        output.lose(length, Why::Damaged)?;
                        if self.told_size.is_some() { LengthFrom::Told } else { LengthFrom::StoredLength }
                    }
                    None => LengthFrom::Unknown,
                },
            },
            (Layout::Multipart, Some(footer)) => {
                self.by_table(footer, &mut output).await?;
                LengthFrom::Footer
            }
            (Layout::Multipart, None) => self.by_headers(&mut output, &mut is_exact).await?,
        };
        Ok(Recovered {
            metadata: Beside::InPlain,
            stored_len: self.source.len(),
            plain_len: output.at,
            length_from,
            in_parts: self.layout == Layout::Multipart,
            has_footer: footer.is_some(),
            is_exact,
            recovered: output.recovered,
            lost: output.lost,
            lost_more: output.lost_more,
        })
    }

    async fn find_footer(&self) -> Result<Option<Footer>, Error> {
        let len = self.source.len();
        // Where some of the last bytes cannot be had, fewer may do: most footers are short.
        for wanted in [TAIL_LEN, SEALED_CHUNK, SHORT_FOOTER] {
            if let Some(tail) = self.read(len.saturating_sub(wanted), len).await? {
                return Ok(Footer::find(&self.keys, &tail, self.layout).map(|(footer, _)| footer));
            }
        }
        Ok(None)
    }

    fn length_by_law(&self) -> Option<u64> {
        SealedLen::new(self.source.len()).plain().map(PlainLen::get)
    }

    /// A length under which a chunk opens.
    async fn find_length(&mut self) -> Result<Option<PlainLen>, Error> {
        let law = self.length_by_law().map(|length| length..=length);
        let lengths: Vec<_> = law.into_iter().chain(std::mem::take(&mut self.plain_sizes)).collect();
        let count = lengths
            .iter()
            .fold(0u64, |sum, range| sum.saturating_add(range.end().saturating_sub(*range.start()).saturating_add(1)));
        if count > LENGTHS_MAX {
            return Err(Error::InvalidArgument("There are more lengths to try than 16 million"));
        }
        let (len, mut first) = (self.source.len(), 0);
        // A few lengths are tried with every chunk there is, since any of them may be the one that is left.
        let chunks = len.div_ceil(SEALED_CHUNK).min(if count <= FEW { u64::MAX } else { PROBES });
        while first < chunks {
            let last = (first + WINDOW).min(chunks);
            for (index, bytes) in self.chunks(first, last).await? {
                let (keys, lengths) = (self.keys.clone(), lengths.clone());
                let search = move || {
                    let mut lengths = lengths.into_iter().flatten().filter_map(PlainLen::new);
                    lengths.find(|length| opens(&keys, *length, index, &bytes))
                };
                let found = tokio::task::spawn_blocking(search).await;
                if let Some(length) = found.map_err(|_| Error::Internal("the search for a length broke off"))? {
                    return Ok(Some(length));
                }
            }
            first = last;
        }
        Ok(None)
    }

    /// The bytes where these chunks of an object in one piece would be, as far as they can be had.
    async fn chunks(&self, first: u64, last: u64) -> Result<Vec<(u64, Bytes)>, Error> {
        let len = self.source.len();
        let place = |index: u64| (index * SEALED_CHUNK).min(len);
        let start = place(first);
        let together = self.read(start, place(last)).await?;
        let mut chunks = Vec::new();
        for index in first..last {
            let (from, to) = (place(index), place(index + 1));
            let bytes = match &together {
                Some(bytes) => Some(bytes.slice((from - start) as usize..(to - start) as usize)),
                None => self.read(from, to).await?,
            };
            chunks.extend(bytes.map(|bytes| (index, bytes)));
        }
        Ok(chunks)
    }

    async fn single(&self, length: PlainLen, output: &mut Output<'_>) -> Result<(), Failure> {
        self.part(&PartHeader::single(length), 0, output).await
    }

    /// Every chunk of a part whose first one is to begin at `start`.
    async fn part(&self, header: &PartHeader, start: u64, output: &mut Output<'_>) -> Result<(), Failure> {
        let (chunks, len) = (PartChunks::new(&self.keys, header), self.source.len());
        let mut first = 0;
        while first < chunks.count() {
            let last = (first + WINDOW).min(chunks.count()) - 1;
            let (from, to) = (start + chunks.sealed_range(first).start, start + chunks.sealed_range(last).end);
            if from >= len {
                // No chunk of this part, nor of this window, is there.
                let left = (first..chunks.count()).map(|index| chunks.plain_len(index)).sum();
                return output.lose(left, Why::CutOff);
            }
            let window = self.read(from, to.min(len)).await?;
            for index in first..=last {
                let range = chunks.sealed_range(index);
                let (begin, end) = (start + range.start, start + range.end);
                if end > len {
                    output.lose(chunks.plain_len(index), Why::CutOff)?;
                    continue;
                }
                let sealed = match &window {
                    Some(window) => Some(window.slice((begin - from) as usize..(end - from) as usize)),
                    // What cannot be had together may be had alone.
                    None => self.read(begin, end).await?,
                };
                match sealed.as_ref().map(|sealed| chunks.open(index, sealed)) {
                    Some(Some(plain)) => output.plain(plain)?,
                    Some(None) => output.lose(chunks.plain_len(index), Why::Damaged)?,
                    None => output.lose(chunks.plain_len(index), Why::Unreadable)?,
                }
            }
            first = last + 1;
        }
        Ok(())
    }

    async fn by_table(&self, footer: &Footer, output: &mut Output<'_>) -> Result<(), Failure> {
        let mut offset = 0;
        for entry in footer.parts.iter().filter(|entry| entry.plain_len.get() > 0) {
            let header = match entry.part_id {
                Some(_) => entry.header(None).ok(),
                // Only the stored header has the id that the key is derived from.
                None => self.header_at(offset).await?.and_then(|stored| entry.header(Some(&stored)).ok()),
            };
            match header {
                Some(header) => self.part(&header, offset + PART_HEADER, output).await?,
                None if offset >= self.source.len() => output.lose(entry.plain_len.get(), Why::CutOff)?,
                None => output.lose(entry.plain_len.get(), Why::PartHeader)?,
            }
            offset += part_sealed_len(entry.plain_len).get();
        }
        Ok(())
    }

    /// Follows the stored headers.
    async fn by_headers(&self, output: &mut Output<'_>, is_exact: &mut bool) -> Result<LengthFrom, Failure> {
        let total = self.told_size.or_else(|| self.length_by_law());
        let total_from = if self.told_size.is_some() { LengthFrom::Told } else { LengthFrom::StoredLength };
        let (mut offset, mut number) = (0, 0);
        while total != Some(output.at) {
            let Some((start, header)) = self.next_part(offset, number).await? else { break };
            if start > offset {
                let (len, is_one) = lost_between(start - offset, header.number - number);
                *is_exact &= is_one;
                output.lose(len, Why::PartHeader)?;
            }
            self.part(&header, start + PART_HEADER, output).await?;
            offset = start + part_sealed_len(header.plain_len).get();
            number = header.number;
        }
        match total {
            Some(total) if total == output.at => Ok(total_from),
            // A length that the parts have passed is not the object's. One that they have not reached is, where nothing was cut off.
            Some(total) if total > output.at && (self.told_size.is_some() || offset <= self.source.len()) => {
                let why = if offset >= self.source.len() { Why::CutOff } else { Why::PartHeader };
                output.lose(total - output.at, why)?;
                Ok(total_from)
            }
            _ => Ok(LengthFrom::Unknown),
        }
    }

    /// The next part beyond a number whose header leads to a chunk that opens, from this place on.
    async fn next_part(&self, from: u64, beyond: u16) -> Result<Option<(u64, PartHeader)>, Error> {
        let len = self.source.len();
        if let Some(stored) = self.header_at(from).await?
            && let Some((_, header)) = PartHeader::likely(&stored, beyond).next()
            && self.leads_somewhere(&header, from, WINDOW).await?
        {
            return Ok(Some((from, header)));
        }
        let (mut at, mut tried) = (from, 0);
        while at + PART_HEADER <= len {
            let to = len.min(at + WINDOW * SEALED_CHUNK);
            if let Some(bytes) = self.read(at, to).await? {
                for (place, header) in PartHeader::likely(&bytes, beyond) {
                    tried += 1;
                    let place = at + place as u64;
                    if tried <= HEADERS_MAX && self.leads_somewhere(&header, place, HEADER_PROBES).await? {
                        return Ok(Some((place, header)));
                    }
                }
            }
            if to == len {
                break;
            }
            // A header may lie across the border.
            at = to - (PART_HEADER - 1);
        }
        Ok(None)
    }

    /// Whether one of the first chunks behind a header opens under it.
    async fn leads_somewhere(&self, header: &PartHeader, place: u64, probes: u64) -> Result<bool, Error> {
        let (chunks, start, len) = (PartChunks::new(&self.keys, header), place + PART_HEADER, self.source.len());
        for index in 0..probes.min(chunks.count()) {
            let range = chunks.sealed_range(index);
            let Some(end) = start.checked_add(range.end).filter(|end| *end <= len) else { break };
            if let Some(sealed) = self.read(start + range.start, end).await?
                && chunks.open(index, &sealed).is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn header_at(&self, offset: u64) -> Result<Option<[u8; 32]>, Error> {
        if offset.checked_add(PART_HEADER).is_none_or(|end| end > self.source.len()) {
            return Ok(None);
        }
        let bytes = self.read(offset, offset + PART_HEADER).await?;
        Ok(bytes.and_then(|bytes| bytes.as_ref().try_into().ok()))
    }

    async fn read(&self, from: u64, to: u64) -> Result<Option<Bytes>, Error> {
        if from >= to {
            return Ok(Some(Bytes::new()));
        }
        self.source.read(from, to).await
    }
}

/// Whether a chunk of an object in one piece opens under this length.
fn opens(keys: &ObjectKeys, length: PlainLen, index: u64, bytes: &[u8]) -> bool {
    if index >= chunk_count(length) {
        return false;
    }
    let range = index * SEALED_CHUNK..chunked_len(length).get().min((index + 1) * SEALED_CHUNK);
    let len = (range.end - range.start) as usize;
    bytes.get(..len).is_some_and(|sealed| PartChunks::new(keys, &PartHeader::single(length)).open(index, sealed).is_some())
}

/// How much plaintext is lost with so many bytes between two parts whose numbers are so far apart; and whether that is exact.
fn lost_between(gap: u64, numbers: u16) -> (u64, bool) {
    if let Some(len) = part_plain_len(SealedLen::new(gap)) {
        return (len.get(), numbers == 2);
    }
    let chunks = gap.saturating_sub(PART_HEADER);
    (chunks.saturating_sub(TAG * chunks.div_ceil(SEALED_CHUNK)), false)
}
