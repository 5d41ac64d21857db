use bytes::{Buf, Bytes, BytesMut};

/// Cuts pieces of any size into units of wanted sizes. Each byte is copied at most once, and not at all where a piece is ours alone
/// and holds the whole unit.
pub(super) struct Rechunk {
    piece: Piece,
    unit: BytesMut,
}

enum Piece {
    Shared(Bytes),
    Owned(BytesMut),
}

/// Smaller pieces are not worth asking whether they are ours alone.
const OWNED_MIN: usize = 4096;

impl Rechunk {
    pub(super) fn new() -> Self {
        Self { piece: Piece::Shared(Bytes::new()), unit: BytesMut::new() }
    }

    /// Whether the last piece is used up, so that the next may come.
    pub(super) fn is_drained(&self) -> bool {
        self.available().is_empty()
    }

    /// Takes the next piece. The last one must be used up.
    pub(super) fn push(&mut self, piece: Bytes) {
        debug_assert!(self.is_drained());
        self.piece = if piece.len() < OWNED_MIN {
            Piece::Shared(piece)
        } else {
            piece.try_into_mut().map_or_else(Piece::Shared, Piece::Owned)
        };
    }

    /// The next `len` bytes for us alone, once they are all there. Until then every call must ask for the same `len`.
    pub(super) fn take(&mut self, len: usize) -> Option<BytesMut> {
        if self.unit.is_empty()
            && let Piece::Owned(piece) = &mut self.piece
            && piece.len() >= len
        {
            return Some(piece.split_to(len));
        }
        if self.unit.capacity() < len {
            self.unit.reserve(len - self.unit.len());
        }
        let missing = len - self.unit.len();
        let available = self.available();
        let fits = missing.min(available.len());
        // The borrow of `available` must end before the piece advances.
        match &self.piece {
            Piece::Shared(piece) => self.unit.extend_from_slice(&piece[..fits]),
            Piece::Owned(piece) => self.unit.extend_from_slice(&piece[..fits]),
        }
        self.advance(fits);
        (fits == missing).then(|| std::mem::take(&mut self.unit))
    }

    /// What is left of the piece. Not to be mixed with a [`Rechunk::take`] that is not done.
    pub(super) fn available(&self) -> &[u8] {
        match &self.piece {
            Piece::Shared(piece) => piece,
            Piece::Owned(piece) => piece,
        }
    }

    /// Drops bytes of the piece that were looked at.
    pub(super) fn advance(&mut self, len: usize) {
        match &mut self.piece {
            Piece::Shared(piece) => piece.advance(len),
            Piece::Owned(piece) => piece.advance(len),
        }
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
    fn a_piece_of_our_own_is_not_copied() {
        let piece = Bytes::from(vec![5; 8192]);
        let address = piece.as_ptr();
        let mut rechunk = Rechunk::new();
        rechunk.push(piece);
        assert_eq!(rechunk.take(4096).unwrap().as_ptr(), address);
        let shared = Bytes::from(vec![5; 8192]);
        let other = shared.clone();
        let mut rechunk = Rechunk::new();
        rechunk.push(shared);
        let mut unit = rechunk.take(4096).unwrap();
        unit.fill(0);
        assert!(other.iter().all(|&byte| byte == 5), "bytes that others see are never written to");
    }
}
