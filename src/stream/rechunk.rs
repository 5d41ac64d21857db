use bytes::{Buf, Bytes, BytesMut};

/// Cuts pieces of any size into units of wanted sizes. Only units that lie across pieces are copied.
pub(super) struct Rechunk {
    piece: Bytes,
    unit: BytesMut,
}

impl Rechunk {
    pub(super) fn new() -> Self {
        Self { piece: Bytes::new(), unit: BytesMut::new() }
    }

    /// Whether the last piece is used up, so that the next may come.
    pub(super) fn is_drained(&self) -> bool {
        self.piece.is_empty()
    }

    /// Takes the next piece. The last one must be used up.
    pub(super) fn push(&mut self, piece: Bytes) {
        debug_assert!(self.is_drained());
        self.piece = piece;
    }

    /// The next `len` bytes, once they are all there. Until then every call must ask for the same `len`.
    pub(super) fn take(&mut self, len: usize) -> Option<Bytes> {
        if self.unit.is_empty() && self.piece.len() >= len {
            return Some(self.piece.split_to(len));
        }
        if self.unit.capacity() < len {
            self.unit.reserve(len - self.unit.len());
        }
        let missing = len - self.unit.len();
        let fits = missing.min(self.piece.len());
        self.unit.extend_from_slice(&self.piece[..fits]);
        self.piece.advance(fits);
        (fits == missing).then(|| std::mem::take(&mut self.unit).freeze())
    }

    /// What is left of the piece. Not to be mixed with a [`Rechunk::take`] that is not done.
    pub(super) fn available(&self) -> &[u8] {
        &self.piece
    }

    /// Drops bytes of the piece that were looked at.
    pub(super) fn advance(&mut self, len: usize) {
        self.piece.advance(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_out_whole_whatever_goes_in() {
        let input: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        for piece_len in [1, 7, 999, 1000, 1001, 4096, 5000, 20_000] {
            let mut rechunk = Rechunk::new();
            let mut output = Vec::new();
            for piece in input.chunks(piece_len) {
                rechunk.push(Bytes::copy_from_slice(piece));
                while let Some(unit) = rechunk.take(1000) {
                    assert_eq!(unit.len(), 1000);
                    output.extend_from_slice(&unit);
                }
                assert!(rechunk.is_drained());
            }
            assert_eq!(output, input, "{piece_len}");
        }
    }

    #[test]
    fn a_unit_inside_a_piece_is_not_copied() {
        let piece = Bytes::from(vec![5; 8192]);
        let address = piece.as_ptr();
        let mut rechunk = Rechunk::new();
        rechunk.push(piece);
        assert_eq!(rechunk.take(4096).unwrap().as_ptr(), address);
        assert_eq!(rechunk.take(4096).unwrap().as_ptr(), address.wrapping_add(4096));
    }
}
