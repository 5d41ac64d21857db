use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{CHECK_LEN, Error, KEY_LEN, Result};

/// Thirty-two secret bytes on the heap: moving the owner moves a pointer, so no copy stays behind on a stack.
pub(super) struct Secret(Box<[u8; KEY_LEN]>);

impl Secret {
    pub(super) fn zeroed() -> Self {
        Self(Box::new([0; KEY_LEN]))
    }

    pub(super) fn copy_of(bytes: &[u8; KEY_LEN]) -> Self {
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(bytes);
        secret
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; KEY_LEN] {
        &mut self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The key-encryption key X (FORMAT section 4): what a key service hands out, and what wraps a [`DataKey`].
pub struct KeyEncryptionKey(Secret);

impl KeyEncryptionKey {
    /// Takes the 32 bytes a key service returned.
    pub fn new(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self(Secret::copy_of(&bytes))
    }

    /// The same from a slice. Errors: [`Error::KeyLength`] unless it has exactly 32 bytes. The caller wipes its own copy.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; KEY_LEN] = bytes.try_into().map_err(|_| Error::KeyLength(bytes.len()))?;
        Ok(Self(Secret::copy_of(bytes)))
    }

    /// What stands in an envelope with this salt in place of a wrapped key, where X is the client's own (FORMAT section 14). Salted,
    /// so that it does not tell which objects have the same key.
    pub fn customer_check(&self, salt: &[u8; 32]) -> [u8; CHECK_LEN] {
        let mut check = [0; CHECK_LEN];
        Hkdf::<Sha256>::new(Some(salt), self.bytes())
            .expand(b"cg1 customer", &mut check)
            .expect("16 bytes is a valid length for HKDF-SHA256");
        check
    }

    /// Whether such a check was made with this key and salt, in constant time.
    pub fn fits_customer_check(&self, salt: &[u8; 32], check: &[u8]) -> bool {
        self.customer_check(salt).ct_eq(check).into()
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        self.0.bytes()
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEncryptionKey(secret)")
    }
}

/// What a fresh data key is made of besides X. The random bytes alone would do; clock, counter and key see to it that a cloned
/// random state cannot make the same data key twice, not even under a shared X.
#[derive(Clone, Copy)]
pub struct FreshInput<'a> {
    /// From the operating system, at the moment of use.
    pub random: [u8; 32],
    /// Nanoseconds of any clock of this machine.
    pub clock_nanos: u64,
    /// A counter of this process that never repeats a value.
    pub counter: u64,
    /// The object key as the client names it.
    pub key: &'a str,
}

/// The data key (DEK) of one object or one multipart upload (FORMAT section 4).
pub struct DataKey(Secret);

impl DataKey {
    /// Makes the data key of a new object. Needed once for every PutObject request and every multipart upload.
    pub fn fresh(kek: &KeyEncryptionKey, input: FreshInput<'_>) -> Self {
        let mut dek = Secret::zeroed();
        Hkdf::<Sha256>::new(Some(&input.random), kek.bytes())
            .expand_multi_info(
                &[b"cg1 dek", &input.clock_nanos.to_be_bytes(), &input.counter.to_be_bytes(), input.key.as_bytes()],
                dek.bytes_mut(),
            )
            .expect("32 bytes is a valid length for HKDF-SHA256");
        Self(dek)
    }

    /// A data key of known bytes: for test vectors and for tools that recover objects. Production code uses [`DataKey::fresh`],
    /// because two objects sealed under one data key would repeat nonces.
    pub fn from_bytes(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self(Secret::copy_of(&bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        self.0.bytes()
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repeated random state alone never repeats a data key.
    #[test]
    fn fresh_keys_differ_with_every_input() {
        let kek = KeyEncryptionKey::new(Zeroizing::new([7; 32]));
        let base = FreshInput { random: [1; 32], clock_nanos: 2, counter: 3, key: "k" };
        let fresh = |input| *DataKey::fresh(&kek, input).bytes();
        assert_eq!(fresh(base), fresh(base));
        assert_ne!(fresh(base), fresh(FreshInput { random: [2; 32], ..base }));
        assert_ne!(fresh(base), fresh(FreshInput { clock_nanos: 3, ..base }));
        assert_ne!(fresh(base), fresh(FreshInput { counter: 4, ..base }));
        assert_ne!(fresh(base), fresh(FreshInput { key: "l", ..base }));
        let other = KeyEncryptionKey::new(Zeroizing::new([8; 32]));
        assert_ne!(fresh(base), *DataKey::fresh(&other, base).bytes());
    }
}
