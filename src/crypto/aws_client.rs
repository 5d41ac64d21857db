//! Opening what AWS's own S3 Encryption Client sealed: AES-256-GCM over the whole object with one tag at its end, and no key of ours in
//! between. docs/AWS_ENCRYPTION_CLIENT.md has the formats.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use sha2::Sha512;
use subtle::ConstantTimeEq;

use super::key::Secret;
use super::{Error, KEY_LEN, KeyEncryptionKey, NONCE_LEN, Result, TAG_LEN};

/// Algorithm suite 115 (0x0073): AES-256-GCM under a key derived by HKDF-SHA512, with a commitment to the data key.
const COMMITTING_SUITE: [u8; 2] = [0x00, 0x73];
/// Length of the message id, which is the salt of suite 115, and of its commitment, in bytes.
pub const COMMITTED_LEN: usize = 28;

/// How an object was sealed under its data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsSeal {
    /// Format V2: the data key itself, and a nonce of the object's own.
    Plain { nonce: [u8; NONCE_LEN] },
    /// Format V3: suite 115.
    Committing { message_id: [u8; COMMITTED_LEN], commitment: [u8; COMMITTED_LEN] },
}

impl AwsSeal {
    /// Opens a whole object in place and returns the plaintext, which is all but the last [`TAG_LEN`] bytes. `key` is the data key as the
    /// key service unwrapped it.
    ///
    /// # Errors
    /// [`Error::TagMismatch`] when the commitment or the tag does not fit; what is in `sealed` then must not be used.
    pub fn open<'a>(&self, key: &KeyEncryptionKey, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        let refuse = |_| Error::TagMismatch;
        match self {
            Self::Plain { nonce } => {
                cipher(key.bytes()).open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), sealed).map_err(refuse)
            }
            Self::Committing { message_id, commitment } => {
                let prk = Hkdf::<Sha512>::new(Some(message_id), key.bytes());
                let mut known = [0; COMMITTED_LEN];
                expand(&prk, b"COMMITKEY", &mut known);
                if !bool::from(known.ct_eq(commitment)) {
                    return Err(Error::TagMismatch);
                }
                let mut derived = Secret::zeroed();
                expand(&prk, b"DERIVEKEY", derived.bytes_mut());
                // A derived key seals one message only.
                let nonce = Nonce::assume_unique_for_key([1; NONCE_LEN]);
                cipher(derived.bytes()).open_in_place(nonce, Aad::from(COMMITTING_SUITE), sealed).map_err(refuse)
            }
        }
    }

    /// Bytes of plaintext in an object of so many bytes; `None` where not even a tag fits.
    pub fn plain_len(sealed_len: u64) -> Option<u64> {
        sealed_len.checked_sub(TAG_LEN as u64)
    }
}

fn cipher(key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256-GCM takes any 32 bytes as a key"))
}

fn expand(prk: &Hkdf<Sha512>, what: &[u8], out: &mut [u8]) {
    prk.expand_multi_info(&[&COMMITTING_SUITE, what], out).expect("28 and 32 bytes are valid lengths for HKDF-SHA512");
}
