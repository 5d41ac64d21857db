use aws_lc_rs::aead::{Aad, Nonce};
use chacha20poly1305::AeadInOut;

use super::suite::{Cipher, ONLY_NONCE, chunk_nonce};
use super::{ChunkKey, Error, FooterKey, NONCE_LEN, Result, TAG_LEN};

impl Cipher {
    /// Opens a message with its tag at the end, in place, and returns the plaintext: all but the last 16 bytes of `sealed`.
    /// After an error the bytes in `sealed` mean nothing and must be dropped.
    pub(super) fn open_in_place<'a>(&self, nonce: [u8; NONCE_LEN], sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        let message_len = sealed.len().checked_sub(TAG_LEN).ok_or(Error::TagMismatch)?;
        match self {
            Cipher::ChaCha(cipher) => {
                let (message, tag) = sealed.split_at_mut(message_len);
                let tag: [u8; TAG_LEN] = (&*tag).try_into().expect("split TAG_LEN bytes before the end");
                cipher
                    .decrypt_inout_detached(&nonce.into(), &[], (&mut *message).into(), &tag.into())
                    .map_err(|_| Error::TagMismatch)?;
                Ok(message)
            }
            Cipher::Aes(key) => {
                key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), sealed).map_err(|_| Error::TagMismatch)
            }
        }
    }
}

impl ChunkKey {
    /// Opens chunk `index` of the part in place; `sealed` ends with the tag. Returns the plaintext, the first
    /// `sealed.len() - 16` bytes. Errors: [`Error::TagMismatch`], after which the bytes in `sealed` must be dropped.
    pub fn open_in_place<'a>(&self, index: u64, last: bool, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        self.0.open_in_place(chunk_nonce(index, last), sealed)
    }
}

impl FooterKey {
    /// Opens the footer in place; `sealed` ends with the tag. Errors: [`Error::TagMismatch`].
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        self.0.open_in_place(ONLY_NONCE, sealed)
    }
}
