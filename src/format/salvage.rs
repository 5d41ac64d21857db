//! What can be found in an object that is damaged: the footer wherever it lies, and stored headers where the chain of parts is broken.
//!
//! Nothing here is believed before it verifies: a footer is one that opens, and a header is one under which a chunk opens.

use super::layout::{PART_HEADER, PARTS_MAX};
use super::{End, Footer, Layout, PartHeader};
use crate::crypto::ObjectKeys;

/// How many markers are tried at most: in bytes that somebody made up, every fourth could be one.
const OPENINGS_MAX: usize = 64;

impl Footer {
    /// Looks for a footer in the last bytes of an object, from the end backwards. Its key is bound to the end marker alone, so neither the
    /// length of the object nor the place has to be known, and what opens is the object's own. Gives where its end marker ends.
    pub fn find(keys: &ObjectKeys, tail: &[u8], layout: Layout) -> Option<(Self, usize)> {
        let likely = tail.windows(End::LEN as usize).enumerate().rev().filter_map(|(at, bytes)| {
            let end = End::parse_alone(bytes.try_into().ok()?, PARTS_MAX, layout).ok()?;
            let start = at.checked_sub(usize::try_from(end.sealed_len()).ok()?)?;
            Some((start, at, end))
        });
        likely.take(OPENINGS_MAX).find_map(|(start, at, end)| {
            let footer = Self::open_alone(keys, &end, &tail[start..at]).ok()?;
            (footer.layout() == layout && footer.check().is_ok()).then_some((footer, at + End::LEN as usize))
        })
    }
}

impl PartHeader {
    /// Where stored headers of parts beyond a number could lie, by their form: six bytes of zero in the middle, and a number and a length
    /// that a part can have.
    pub fn likely(bytes: &[u8], beyond: u16) -> impl Iterator<Item = (usize, Self)> {
        bytes.windows(PART_HEADER as usize).enumerate().filter_map(move |(at, bytes)| {
            if bytes[18..24] != [0; 6] {
                return None;
            }
            let header = Self::parse(bytes.try_into().ok()?).ok()?;
            (header.number > beyond && header.plain_len.get() > 0).then_some((at, header))
        })
    }
}
