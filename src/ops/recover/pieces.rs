//! What comes out of a recovery, in the order of the plaintext: good bytes and holes.

use std::io;

use bytes::Bytes;

use super::Failure;

/// Ranges that a report names at most; what is beyond is counted.
const RANGES_MAX: usize = 100_000;

/// A piece of the plaintext.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Authentic bytes.
    Plain(Bytes),
    /// So many bytes are lost.
    Hole(u64),
}

/// Why bytes are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Their chunk does not verify.
    Damaged,
    /// The object ends before them.
    CutOff,
    /// The store shows the object and does not give these bytes.
    Unreadable,
    /// The header of their part is damaged, and the key is derived from it.
    PartHeader,
}

impl Why {
    /// A short fixed word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::CutOff => "cut-off",
            Self::Unreadable => "unreadable",
            Self::PartHeader => "part-header-damaged",
        }
    }

    /// The same in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Damaged => "what is stored does not verify",
            Self::CutOff => "the stored object ends before",
            Self::Unreadable => "the store does not give these bytes",
            Self::PartHeader => "the header of the part is damaged, and the key comes from it",
        }
    }
}

/// A range of plaintext that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub from: u64,
    /// Not included.
    pub to: u64,
    pub why: Why,
}

/// Hands pieces on, and counts.
pub(super) struct Output<'a> {
    sink: &'a mut dyn FnMut(Piece) -> io::Result<()>,
    /// Plaintext bytes so far, lost ones included.
    pub at: u64,
    pub recovered: u64,
    pub lost: Vec<Lost>,
    /// Ranges that are not in `lost`.
    pub lost_more: u64,
}

impl<'a> Output<'a> {
    pub fn new(sink: &'a mut dyn FnMut(Piece) -> io::Result<()>) -> Self {
        Self { sink, at: 0, recovered: 0, lost: Vec::new(), lost_more: 0 }
    }

    pub fn plain(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.at += bytes.len() as u64;
        self.recovered += bytes.len() as u64;
        Ok((self.sink)(Piece::Plain(bytes))?)
    }

    pub fn lose(&mut self, len: u64, why: Why) -> Result<(), Failure> {
        if len == 0 {
            return Ok(());
        }
        let (from, to) = (self.at, self.at.saturating_add(len));
        self.at = to;
        let has_room = self.lost.len() < RANGES_MAX;
        match self.lost.last_mut() {
            Some(last) if self.lost_more == 0 && last.to == from && last.why == why => last.to = to,
            _ if has_room => self.lost.push(Lost { from, to, why }),
            _ => self.lost_more += 1,
        }
        Ok((self.sink)(Piece::Hole(len))?)
    }
}
