use aws_lc_rs::aead::{Aad, Nonce};
use chacha20poly1305::AeadInOut;

use super::suite::{Cipher, ONLY_NONCE, chunk_nonce};
use super::{ChunkKey, Error, FooterKey, MetadataKey, NONCE_LEN, Result, TAG_LEN};

impl Cipher {
    /// Seals in place and returns the tag. Callers see to it that a key never meets a nonce twice.
    pub(super) fn seal_in_place(&self, nonce: [u8; NONCE_LEN], message: &mut [u8]) -> Result<[u8; TAG_LEN]> {
        match self {
            Cipher::ChaCha(cipher) => {
                let tag = cipher.encrypt_inout_detached(&nonce.into(), &[], message.into());
                tag.map(Into::into).map_err(|_| Error::MessageTooLong)
            }
            Cipher::Aes(key) => {
                let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), message);
                let tag = tag.map_err(|_| Error::MessageTooLong)?;
                Ok(tag.as_ref().try_into().expect("the tag of AES-256-GCM has 16 bytes"))
            }
        }
    }
}

impl ChunkKey {
    /// Seals chunk `index` of the part in place and returns its tag, which is stored after it. `last` is true for the last chunk
    /// of the part alone. One index must never be sealed twice with different bytes: that would repeat a nonce.
    pub fn seal_in_place(&self, index: u64, last: bool, chunk: &mut [u8]) -> Result<[u8; TAG_LEN]> {
        self.0.seal_in_place(chunk_nonce(index, last), chunk)
    }
}

impl FooterKey {
    /// Seals the footer in place and returns its tag, which is stored after it.
    pub fn seal_in_place(&self, footer: &mut [u8]) -> Result<[u8; TAG_LEN]> {
        self.0.seal_in_place(ONLY_NONCE, footer)
    }
}

impl MetadataKey {
    /// Seals metadata in place and returns its tag, which is stored after it. One wrap must never seal two texts: every wrap has a salt
    /// of its own, and is stored once.
    pub fn seal_in_place(&self, metadata: &mut [u8]) -> Result<[u8; TAG_LEN]> {
        self.0.seal_in_place(ONLY_NONCE, metadata)
    }
}
