use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};

use super::key::Secret;
use super::{Error, Result};

/// The cipher of an object (FORMAT section 2). The byte and the meaning of each suite may never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Suite 1, through the chacha20poly1305 crate.
    ChaCha20Poly1305,
    /// Suite 2, through aws-lc-rs.
    Aes256Gcm,
}

impl Suite {
    /// All suites of this version.
    pub const ALL: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];

    /// The suite's byte in envelopes and derivations.
    pub const fn byte(self) -> u8 {
        match self {
            Suite::ChaCha20Poly1305 => 1,
            Suite::Aes256Gcm => 2,
        }
    }

    /// The suite of a byte. Errors: [`Error::UnknownSuite`].
    pub const fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            1 => Ok(Suite::ChaCha20Poly1305),
            2 => Ok(Suite::Aes256Gcm),
            other => Err(Error::UnknownSuite(other)),
        }
    }

    /// The suite's name in configurations and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Suite::ChaCha20Poly1305 => "chacha20-poly1305",
            Suite::Aes256Gcm => "aes-256-gcm",
        }
    }

    /// The suite this machine seals fastest: AES-256-GCM where the processor computes AES and carry-less products itself.
    pub fn fastest_here() -> Self {
        if processor_has_aes() { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 }
    }

    pub(super) fn cipher(self, key: &Secret) -> Cipher {
        match self {
            Suite::ChaCha20Poly1305 => Cipher::ChaCha(ChaCha20Poly1305::new(key.bytes().into())),
            Suite::Aes256Gcm => {
                let key = UnboundKey::new(&AES_256_GCM, key.bytes()).expect("AES-256-GCM takes any 32 bytes as a key");
                Cipher::Aes(LessSafeKey::new(key))
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn processor_has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn processor_has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor_has_aes() -> bool {
    false
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Suite::ALL.into_iter().find(|suite| suite.name() == name).ok_or(Error::UnknownSuiteName)
    }
}

/// A suite with a key in it. Both implementations wipe the key when they are dropped.
pub(super) enum Cipher {
    ChaCha(ChaCha20Poly1305),
    Aes(LessSafeKey),
}

/// Seals and opens the chunks of one part (Kpart in FORMAT sections 4 and 6). It is bound to the part header it was derived from.
pub struct ChunkKey(pub(super) Cipher);

/// Seals and opens one footer (Kfoot in FORMAT sections 4 and 7). It is bound to the end marker it was derived from.
pub struct FooterKey(pub(super) Cipher);

/// Seals and opens the metadata of one wrap of an object (Kmeta in FORMAT section 15). It is bound to the salt of that wrap.
pub struct MetadataKey(pub(super) Cipher);

impl fmt::Debug for ChunkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkKey(secret)")
    }
}

impl fmt::Debug for FooterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FooterKey(secret)")
    }
}

impl fmt::Debug for MetadataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetadataKey(secret)")
    }
}

/// The nonce of chunk `index` of a part: its place, and whether it is the last one (FORMAT section 6).
pub(super) fn chunk_nonce(index: u64, last: bool) -> [u8; super::NONCE_LEN] {
    let mut nonce = [0; super::NONCE_LEN];
    nonce[3..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

/// The nonce where a key seals one message only: footers, metadata and wrapped data keys.
pub(super) const ONLY_NONCE: [u8; super::NONCE_LEN] = [0; super::NONCE_LEN];
