//! Lengths and places: the size law and its inverse, and which sealed bytes hold which plaintext (FORMAT sections 1 and 8).
//!
//! Pure integer functions. The constants may never change in any version of the format, because listings compute plaintext sizes
//! from object sizes alone.

use std::fmt;
use std::ops::Range;

/// Plaintext bytes of a full chunk (B).
pub const CHUNK: u64 = 65_536;
/// Bytes of a tag (T).
pub const TAG: u64 = crate::crypto::TAG_LEN as u64;
/// Bytes of a sealed full chunk.
pub const SEALED_CHUNK: u64 = CHUNK + TAG;
/// S3's minimum size of every part but the last (S): 5 MiB, a whole number of chunks.
pub const PART_MIN: u64 = 5_242_880;
/// S3's largest number of parts, and the largest part number (NMAX).
pub const PARTS_MAX: u64 = 10_000;
/// Bytes of a part header (H).
pub const PART_HEADER: u64 = 32;
/// Bytes of the end marker (E).
pub const END_MARKER: u64 = 32;
/// What the size law reserves for each part that an object of this size may have: a header, a table entry with up to 64 bytes of
/// checksum, and the tag of a last chunk.
const PER_PART: u64 = 144;
/// What the size law reserves once: the fixed footer fields, the footer's tag, the end marker, less one tag counted in q.
const PER_OBJECT: u64 = 80;
/// Object bytes of an empty object.
pub const EMPTY_SEALED: u64 = 240;
/// G of the inverse: how much the object grows by 5 MiB of plaintext.
const SEALED_STEP: u64 = PART_MIN + TAG * (PART_MIN / CHUNK) + PER_PART;

/// Largest object or part S3 takes in one request: 5 GiB.
pub const REQUEST_MAX: u64 = 5 << 30;
/// Largest plaintext of a single PUT whose object still fits into one request.
pub const SINGLE_PLAIN_MAX: u64 = 5_367_251_216;
/// Largest plaintext of a part 1 to 9,999.
pub const PART_PLAIN_MAX: u64 = 5_367_398_672;
/// Largest plaintext of part 10,000, which shares its request with the longest possible end.
pub const LAST_PART_PLAIN_MAX: u64 = 5_365_958_928;
/// Largest plaintext this code calculates with (1 EiB), far above every store's limit; it keeps all 64-bit sums exact.
pub const PLAIN_MAX: u64 = 1 << 60;

/// A length in plaintext bytes, at most [`PLAIN_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PlainLen(u64);

/// A length in stored bytes of a whole object or of any sealed body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SealedLen(u64);

impl PlainLen {
    /// A plaintext length. None above [`PLAIN_MAX`].
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes <= PLAIN_MAX { Some(Self(bytes)) } else { None }
    }

    /// The length in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The length of every object with this much plaintext, single PUT and multipart alike (g).
    pub const fn sealed(self) -> SealedLen {
        let q = if self.0 == 0 { 1 } else { self.0.div_ceil(CHUNK) };
        SealedLen(self.0 + TAG * q + PER_PART * self.table_max() + PER_OBJECT)
    }

    /// The largest number of table entries an object of this size may have (M).
    pub const fn table_max(self) -> u64 {
        let parts = self.0 / PART_MIN + 1;
        if parts < PARTS_MAX { parts } else { PARTS_MAX }
    }
}

impl SealedLen {
    /// A stored length, as the backend reports it.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The length in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The plaintext length of an object of this length (the inverse of g). None for a length that no object of this format has.
    pub const fn plain(self) -> Option<PlainLen> {
        if self.0 == EMPTY_SEALED {
            return Some(PlainLen(0));
        }
        let Some(above) = self.0.checked_sub(PER_PART + PER_OBJECT) else { return None };
        let steps = above / SEALED_STEP;
        let steps = if steps < PARTS_MAX - 1 { steps } else { PARTS_MAX - 1 };
        let Some(rest) = unchunked(above - steps * SEALED_STEP) else { return None };
        if (steps == 0 && rest == 0) || (steps < PARTS_MAX - 1 && rest >= PART_MIN) {
            return None;
        }
        match (steps * PART_MIN).checked_add(rest) {
            Some(plain) => PlainLen::new(plain),
            None => None,
        }
    }
}

impl fmt::Display for PlainLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SealedLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of chunks of a part or of a single object with this much plaintext.
pub const fn chunk_count(plain: PlainLen) -> u64 {
    plain.0.div_ceil(CHUNK)
}

/// Sealed length of the chunks alone (c1): 0 for 0.
pub const fn chunked_len(plain: PlainLen) -> SealedLen {
    SealedLen(plain.0 + TAG * chunk_count(plain))
}

/// Stored length of a multipart part (c): header and chunks, or nothing at all for an empty part.
pub const fn part_sealed_len(plain: PlainLen) -> SealedLen {
    if plain.0 == 0 { SealedLen(0) } else { SealedLen(PART_HEADER + chunked_len(plain).0) }
}

/// Plaintext length of a stored part (the inverse of c). None for a length no part has.
pub const fn part_plain_len(sealed: SealedLen) -> Option<PlainLen> {
    if sealed.0 == 0 {
        return Some(PlainLen(0));
    }
    let Some(chunks) = sealed.0.checked_sub(PART_HEADER) else { return None };
    match unchunked(chunks) {
        None | Some(0) => None,
        Some(plain) => PlainLen::new(plain),
    }
}

/// The inverse of c1: how much plaintext these sealed chunks hold. None where a last chunk would be empty or shorter than its tag.
const fn unchunked(sealed: u64) -> Option<u64> {
    let full = sealed / SEALED_CHUNK * CHUNK;
    match sealed % SEALED_CHUNK {
        0 => Some(full),
        rest if rest <= TAG => None,
        rest => Some(full + (rest - TAG)),
    }
}

/// Which chunks of a part hold a piece of its plaintext, and where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSpan {
    /// First chunk needed, counted from 0.
    pub first: u64,
    /// Last chunk needed.
    pub last: u64,
    /// Plaintext bytes of chunk `first` before the piece.
    pub skip: u64,
    /// Sealed bytes from the start of chunk `first` to the end of chunk `last`, relative to the part's first chunk.
    pub sealed_start: u64,
    /// End of the same span, exclusive.
    pub sealed_end: u64,
}

impl ChunkSpan {
    /// The chunks that hold `piece` of a part with `plain` bytes (FORMAT section 8). None when the piece is empty or not inside.
    pub const fn of(plain: PlainLen, piece: &Range<u64>) -> Option<Self> {
        if piece.start >= piece.end || piece.end > plain.0 {
            return None;
        }
        let first = piece.start / CHUNK;
        let last = (piece.end - 1) / CHUNK;
        let whole = chunked_len(plain).0;
        let end = (last + 1) * SEALED_CHUNK;
        Some(Self {
            first,
            last,
            skip: piece.start % CHUNK,
            sealed_start: first * SEALED_CHUNK,
            sealed_end: if end < whole { end } else { whole },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: u64) -> PlainLen {
        PlainLen::new(bytes).unwrap()
    }

    /// These numbers are in every object and every listing: they may never change.
    #[test]
    fn the_constants_are_frozen() {
        assert_eq!((CHUNK, TAG, PART_MIN, PART_HEADER, END_MARKER, PARTS_MAX), (65_536, 16, 5_242_880, 32, 32, 10_000));
        assert_eq!(PART_MIN, 80 * CHUNK);
        assert_eq!(SEALED_STEP, 5_244_304);
        assert_eq!(plain(0).sealed().get(), EMPTY_SEALED);
    }

    #[test]
    fn the_largest_lengths_are_the_largest() {
        assert!(plain(SINGLE_PLAIN_MAX).sealed().get() <= REQUEST_MAX);
        assert!(plain(SINGLE_PLAIN_MAX + 1).sealed().get() > REQUEST_MAX);
        assert_eq!(part_sealed_len(plain(PART_PLAIN_MAX)).get(), REQUEST_MAX);
        let longest_end = 64 + 96 * PARTS_MAX + END_MARKER;
        assert!(part_sealed_len(plain(LAST_PART_PLAIN_MAX)).get() <= REQUEST_MAX);
        assert!(part_sealed_len(plain(LAST_PART_PLAIN_MAX)).get() + longest_end <= REQUEST_MAX);
        assert_eq!((5u64 << 40) - plain(5_496_214_849_456).sealed().get(), 0);
        assert_eq!(50_000_000_000_000 - plain(49_987_794_508_512).sealed().get(), 0);
    }

    #[test]
    fn lengths_around_every_edge_invert() {
        let mut edges = vec![0, 1, 2, PLAIN_MAX, 49_987_794_508_512];
        for steps in [1, 2, 3, 79, 80, 81, 160, 9_998 * 80, 9_999 * 80, 10_000 * 80, 10_001 * 80] {
            edges.extend([steps * CHUNK - 1, steps * CHUNK, steps * CHUNK + 1]);
        }
        for p in edges {
            assert_eq!(plain(p).sealed().plain(), Some(plain(p)), "{p}");
            assert_eq!(part_plain_len(part_sealed_len(plain(p))), Some(plain(p)), "{p}");
        }
    }

    #[test]
    fn every_stored_length_of_a_window_is_refused_or_exact() {
        let mut last = None;
        for c in 0..400_000 {
            if let Some(p) = SealedLen::new(c).plain() {
                assert_eq!(p.sealed().get(), c);
                assert_eq!(p.get(), last.map_or(0, |last| last + 1), "no plaintext length is left out");
                last = Some(p.get());
            }
            if let Some(p) = part_plain_len(SealedLen::new(c)) {
                assert_eq!(part_sealed_len(p).get(), c);
            }
        }
        assert_eq!(SealedLen::new(u64::MAX).plain(), None);
        assert_eq!(part_plain_len(SealedLen::new(u64::MAX)), None);
    }

    #[test]
    fn a_span_covers_its_piece_and_no_chunk_more() {
        let p = plain(3 * CHUNK + 5);
        let span = ChunkSpan::of(p, &(CHUNK - 1..CHUNK + 1)).unwrap();
        assert_eq!((span.first, span.last, span.skip), (0, 1, CHUNK - 1));
        assert_eq!((span.sealed_start, span.sealed_end), (0, 2 * SEALED_CHUNK));
        let span = ChunkSpan::of(p, &(3 * CHUNK..3 * CHUNK + 5)).unwrap();
        assert_eq!((span.first, span.last, span.skip), (3, 3, 0));
        assert_eq!((span.sealed_start, span.sealed_end), (3 * SEALED_CHUNK, 3 * SEALED_CHUNK + 21));
        assert_eq!(ChunkSpan::of(p, &(0..3 * CHUNK + 6)), None);
        assert_eq!(ChunkSpan::of(p, &(5..5)), None);
    }
}
