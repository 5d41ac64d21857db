use bytes::{Bytes, BytesMut};

/// Where opened plaintext is put together until it leaves. Its memory is used again once whoever got the last piece has dropped it, and is
/// then written over: no byte of it is zeroed twice.
pub(super) struct Outgoing {
    /// As long as its capacity; what is behind `filled` means nothing.
    room: BytesMut,
    filled: usize,
    /// The memory of the last piece that left.
    lent: Bytes,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self { room: BytesMut::new(), filled: 0, lent: Bytes::new() }
    }

    /// Bytes that have not left.
    pub(super) fn len(&self) -> usize {
        self.filled
    }

    /// The next `len` bytes, to be written over. If there is no memory at hand, room is made for `whole` bytes, if that is more.
    pub(super) fn claim(&mut self, len: usize, whole: usize) -> &mut [u8] {
        if self.room.is_empty() {
            // Somebody may still have it, or it may be shorter than is needed now.
            self.room = std::mem::take(&mut self.lent).try_into_mut().unwrap_or_default();
        }
        let start = self.filled;
        if self.room.len() < start + len {
            let wanted = (start + len).max(whole);
            if start == 0 {
                self.room = BytesMut::zeroed(wanted);
            } else {
                self.room.resize(wanted, 0);
            }
        }
        self.filled = start + len;
        &mut self.room[start..self.filled]
    }

    /// Keeps `kept` of the last `claimed` bytes: those behind the first `skip`.
    pub(super) fn trim(&mut self, claimed: usize, skip: usize, kept: usize) {
        let start = self.filled - claimed;
        if skip > 0 {
            self.room.copy_within(start + skip..start + skip + kept, start);
        }
        self.filled = start + kept;
    }

    /// What has been put together; nothing is left.
    pub(super) fn leave(&mut self) -> Bytes {
        let whole = std::mem::take(&mut self.room).freeze();
        let piece = whole.slice(..std::mem::take(&mut self.filled));
        self.lent = whole;
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_what_was_kept_and_nothing_else() {
        let mut outgoing = Outgoing::new();
        outgoing.claim(10, 100).copy_from_slice(b"0123456789");
        outgoing.trim(10, 2, 7);
        outgoing.claim(10, 100).copy_from_slice(b"abcdefghij");
        outgoing.trim(10, 0, 3);
        assert_eq!(outgoing.len(), 10);
        assert_eq!(outgoing.leave(), "2345678abc");
        assert_eq!(outgoing.len(), 0);
        assert_eq!(outgoing.leave(), "");
    }

    #[test]
    fn memory_is_used_again_only_when_nobody_has_it() {
        let mut outgoing = Outgoing::new();
        outgoing.claim(5, 8).copy_from_slice(b"first");
        let first = outgoing.leave();
        outgoing.claim(6, 8).copy_from_slice(b"second");
        let second = outgoing.leave();
        assert_eq!((&first[..], &second[..]), (&b"first"[..], &b"second"[..]));
        let address = second.as_ptr();
        drop(second);
        outgoing.claim(3, 8).copy_from_slice(b"3rd");
        let third = outgoing.leave();
        assert_eq!(third, "3rd");
        assert_eq!(third.as_ptr(), address);
        drop(third);
        // More than it holds.
        outgoing.claim(9, 8).copy_from_slice(b"the fourt");
        outgoing.claim(1, 8).copy_from_slice(b"h");
        assert_eq!(outgoing.leave(), "the fourth");
    }
}
