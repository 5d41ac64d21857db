use aws_lc_rs::aead::{Aad, Nonce};
use chacha20poly1305::AeadInOut;
use chacha20poly1305::aead::inout::InOutBuf;

use super::suite::{Cipher, ONLY_NONCE, chunk_nonce};
use super::{ChunkKey, Error, FooterKey, MetadataKey, NONCE_LEN, Result, TAG_LEN};

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

    /// Opens a message with its tag at the end into `plain`, which must be as long as the plaintext. After an error the bytes in
    /// `plain` mean nothing and must be dropped.
    fn open_into(&self, nonce: [u8; NONCE_LEN], sealed: &[u8], plain: &mut [u8]) -> Result<()> {
        let (message, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Error::TagMismatch)?;
        match self {
            Cipher::ChaCha(cipher) => {
                let buffer = InOutBuf::new(message, plain).map_err(|_| Error::TagMismatch)?;
                cipher.decrypt_inout_detached(&nonce.into(), &[], buffer, &(*tag).into()).map_err(|_| Error::TagMismatch)
            }
            Cipher::Aes(key) => key
                .open_separate_gather(Nonce::assume_unique_for_key(nonce), Aad::empty(), message, tag, plain)
                .map_err(|_| Error::TagMismatch),
        }
    }
}

impl ChunkKey {
    /// Opens chunk `index` of the part into `plain`; `sealed` ends with the tag, and `plain` is [`opened_len`] bytes long.
    /// Errors: [`Error::TagMismatch`], after which the bytes in `plain` must be dropped.
    pub fn open_into(&self, index: u64, last: bool, sealed: &[u8], plain: &mut [u8]) -> Result<()> {
        self.0.open_into(chunk_nonce(index, last), sealed, plain)
    }
}

/// The plaintext bytes of a sealed message: all but its tag.
pub fn opened_len(sealed: &[u8]) -> usize {
    sealed.len().saturating_sub(TAG_LEN)
}

impl FooterKey {
    /// Opens the footer in place; `sealed` ends with the tag. Errors: [`Error::TagMismatch`].
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        self.0.open_in_place(ONLY_NONCE, sealed)
    }
}

impl MetadataKey {
    /// Opens metadata in place; `sealed` ends with the tag. Errors: [`Error::TagMismatch`].
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        self.0.open_in_place(ONLY_NONCE, sealed)
    }
}
