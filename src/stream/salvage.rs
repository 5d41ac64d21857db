use std::ops::Range;

use bytes::Bytes;

use crate::crypto::{ChunkKey, ObjectKeys, opened_len};
use crate::format::layout::{CHUNK, SEALED_CHUNK, chunk_count, chunked_len};
use crate::format::{PartHeader, PlainLen};

/// The chunks of one part, or of an object in one piece, opened one by one: what verifies is released, whatever became of the rest.
///
/// For recovering damaged objects, and for nothing else: no reader may take some good chunks for a good object. A chunk is authentic for
/// its place in its part, and a part for its header; that the parts are those of the object only its footer says.
pub struct PartChunks {
    key: ChunkKey,
    plain_len: PlainLen,
}

impl PartChunks {
    /// The chunks under a header. That the header is right shows in the first chunk that opens.
    pub fn new(keys: &ObjectKeys, header: &PartHeader) -> Self {
        Self { key: keys.chunk_key(&header.to_bytes()), plain_len: header.plain_len }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        chunk_count(self.plain_len)
    }

    /// Where a chunk lies, counted from the first one.
    pub fn sealed_range(&self, index: u64) -> Range<u64> {
        let whole = chunked_len(self.plain_len).get();
        index.saturating_mul(SEALED_CHUNK).min(whole)..index.saturating_add(1).saturating_mul(SEALED_CHUNK).min(whole)
    }

    /// Bytes of plaintext in a chunk.
    pub fn plain_len(&self, index: u64) -> u64 {
        self.plain_len.get().saturating_sub(index.saturating_mul(CHUNK)).min(CHUNK)
    }

    /// The plaintext of a chunk, if it verifies at this place.
    pub fn open(&self, index: u64, sealed: &[u8]) -> Option<Bytes> {
        let range = self.sealed_range(index);
        if range.is_empty() || sealed.len() as u64 != range.end - range.start {
            return None;
        }
        let mut plain = vec![0; opened_len(sealed)];
        self.key.open_into(index, index + 1 == self.count(), sealed, &mut plain).ok()?;
        Some(plain.into())
    }
}
