use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::key::Secret;
use super::suite::{Cipher, ONLY_NONCE};
use super::{KEY_LEN, KeyEncryptionKey, Result, Suite, WRAPPED_LEN};

/// A master key of a local keyring (docs/KEYRING.md): it wraps key-encryption keys as a key service would. Of the 32 bytes in the
/// keyring file only a derived root is kept here.
pub struct MasterKey(Secret);

impl MasterKey {
    /// Takes the 32 bytes of the keyring file.
    pub fn new(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        let (mut root, _) = Hkdf::<Sha256>::extract(Some(b"cg keyring 1"), &*bytes);
        let mut prk = Secret::zeroed();
        prk.bytes_mut().copy_from_slice(&root);
        root.as_mut_slice().zeroize();
        Self(prk)
    }

    /// A public name of this key, to tell two keys of one version number apart.
    pub fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        self.expand(&[b"id"], &mut id);
        id
    }

    /// A public fingerprint of a context under this key, to tell a moved wrap from a damaged one. It proves nothing.
    pub fn context_id(&self, context: &[u8]) -> [u8; 8] {
        let mut id = [0; 8];
        self.expand(&[b"context", context], &mut id);
        id
    }

    /// Wraps `kek`, bound to `head` and `context`. One `head` serves one key only: the caller puts 32 random bytes into it.
    pub fn wrap(&self, head: &[u8], context: &[u8], kek: &KeyEncryptionKey) -> Result<[u8; WRAPPED_LEN]> {
        let mut wrapped = [0; WRAPPED_LEN];
        let (message, tag) = wrapped.split_at_mut(KEY_LEN);
        message.copy_from_slice(kek.bytes());
        tag.copy_from_slice(&self.cipher(head, context).seal_in_place(ONLY_NONCE, message)?);
        Ok(wrapped)
    }

    /// The inverse of [`MasterKey::wrap`]. Errors: [`super::Error::TagMismatch`].
    pub fn unwrap(&self, head: &[u8], context: &[u8], wrapped: &[u8; WRAPPED_LEN]) -> Result<KeyEncryptionKey> {
        let mut buffer = Zeroizing::new(*wrapped);
        KeyEncryptionKey::from_slice(self.cipher(head, context).open_in_place(ONLY_NONCE, &mut buffer[..])?)
    }

    fn cipher(&self, head: &[u8], context: &[u8]) -> Cipher {
        let mut key = Secret::zeroed();
        self.expand(&[b"wrap", head, context], key.bytes_mut());
        Suite::ChaCha20Poly1305.cipher(&key)
    }

    fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        Hkdf::<Sha256>::from_prk(self.0.bytes())
            .expect("the root has the length of a SHA-256 digest")
            .expand_multi_info(info, out)
            .expect("32 bytes and less are a valid length for HKDF-SHA256");
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(secret)")
    }
}
