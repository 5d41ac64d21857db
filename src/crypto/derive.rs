use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::key::Secret;
use super::suite::{Cipher, ONLY_NONCE};
use super::{ChunkKey, DataKey, Error, FooterKey, KEY_LEN, KeyEncryptionKey, MetadataKey, Result, Suite, TAG_LEN, WRAPPED_LEN};

/// Everything derived from one data key (FORMAT section 4): the root from which commitment, MAC, chunk and footer keys come.
/// Share it with an `Arc`; it cannot be cloned.
pub struct ObjectKeys {
    suite: Suite,
    prk: Secret,
    mac: Secret,
}

impl ObjectKeys {
    /// Derives the keys of an object from its data key.
    pub fn derive(suite: Suite, dek: &DataKey) -> Self {
        let mut salt = *b"cg1 object\0";
        salt[10] = suite.byte();
        let (mut extracted, _) = Hkdf::<Sha256>::extract(Some(&salt), dek.bytes());
        let mut prk = Secret::zeroed();
        prk.bytes_mut().copy_from_slice(&extracted);
        extracted.as_mut_slice().zeroize();
        let mac = expand(&prk, &[b"mac"]);
        Self { suite, prk, mac }
    }

    /// The suite these keys were derived for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The public commitment to the data key and the suite.
    pub fn commit(&self) -> [u8; 32] {
        *expand(&self.prk, &[b"commit"]).bytes()
    }

    /// MAC(data): HMAC-SHA256 under Kmac, cut to 16 bytes. Callers separate their uses by a prefix.
    pub fn mac(&self, data: &[u8]) -> [u8; 16] {
        let tag = self.hmac(data).finalize().into_bytes();
        tag[..16].try_into().expect("SHA-256 gives 32 bytes")
    }

    /// Compares a stored MAC in constant time. Errors: [`Error::TagMismatch`].
    pub fn verify_mac(&self, data: &[u8], mac: &[u8; 16]) -> Result<()> {
        self.hmac(data).verify_truncated_left(mac).map_err(|_| Error::TagMismatch)
    }

    /// The key of the chunks of one part, bound to its 32-byte header (Kpart).
    pub fn chunk_key(&self, part_header: &[u8; 32]) -> ChunkKey {
        ChunkKey(self.suite.cipher(&expand(&self.prk, &[b"part", part_header])))
    }

    /// The key of a footer, bound to the 32-byte end marker (Kfoot).
    pub fn footer_key(&self, end: &[u8; 32]) -> FooterKey {
        FooterKey(self.suite.cipher(&expand(&self.prk, &[b"foot", end])))
    }

    /// The key of the metadata that lie beside one wrap, bound to the salt of that wrap (Kmeta in FORMAT section 15).
    pub fn metadata_key(&self, salt: &[u8; 32]) -> MetadataKey {
        MetadataKey(self.suite.cipher(&expand(&self.prk, &[b"meta", salt])))
    }

    fn hmac(&self, data: &[u8]) -> Hmac<Sha256> {
        let mut hmac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.mac.bytes()).expect("HMAC takes a key of any length");
        hmac.update(data);
        hmac
    }
}

impl fmt::Debug for ObjectKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectKeys({}, secret)", self.suite)
    }
}

/// The key that wraps one data key in one envelope (W in FORMAT section 4).
pub struct WrapKey(Cipher);

impl WrapKey {
    /// Derives W. `bound` is everything the wrap is bound to, already unambiguous: the head of the envelope, scope and key.
    pub fn derive(suite: Suite, kek: &KeyEncryptionKey, salt: &[u8; 32], bound: &[&[u8]]) -> Self {
        let mut info = Vec::with_capacity(1 + bound.len());
        info.push(b"cg1 wrap".as_slice());
        info.extend_from_slice(bound);
        let mut wrap = Secret::zeroed();
        Hkdf::<Sha256>::new(Some(salt), kek.bytes())
            .expand_multi_info(&info, wrap.bytes_mut())
            .expect("32 bytes is a valid length for HKDF-SHA256");
        Self(suite.cipher(&wrap))
    }

    /// Wraps the data key. A wrap key serves one data key only, because the commitment to it is in `bound`; hence it is consumed.
    pub fn wrap(self, dek: &DataKey) -> Result<[u8; WRAPPED_LEN]> {
        let mut wrapped = [0; WRAPPED_LEN];
        let (message, tag) = wrapped.split_at_mut(KEY_LEN);
        message.copy_from_slice(dek.bytes());
        tag.copy_from_slice(&self.0.seal_in_place(ONLY_NONCE, message)?);
        Ok(wrapped)
    }

    /// Unwraps the data key and demands that it is the one committed to, in constant time.
    /// Errors: [`Error::TagMismatch`], [`Error::CommitMismatch`].
    pub fn unwrap(self, suite: Suite, wrapped: &[u8; WRAPPED_LEN], commit: &[u8; 32]) -> Result<(DataKey, ObjectKeys)> {
        let mut buffer = Zeroizing::new(*wrapped);
        let dek = self.0.open_in_place(ONLY_NONCE, &mut buffer[..])?;
        let dek: &[u8; KEY_LEN] = (&*dek).try_into().expect("a wrapped key is a key and a tag");
        let dek = DataKey::from_bytes(Zeroizing::new(*dek));
        let keys = ObjectKeys::derive(suite, &dek);
        if bool::from(keys.commit().ct_eq(commit)) { Ok((dek, keys)) } else { Err(Error::CommitMismatch) }
    }
}

impl fmt::Debug for WrapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrapKey(secret)")
    }
}

fn expand(prk: &Secret, info: &[&[u8]]) -> Secret {
    let mut key = Secret::zeroed();
    Hkdf::<Sha256>::from_prk(prk.bytes())
        .expect("the root has the length of a SHA-256 digest")
        .expand_multi_info(info, key.bytes_mut())
        .expect("32 bytes is a valid length for HKDF-SHA256");
    key
}

const _: () = assert!(TAG_LEN == 16 && WRAPPED_LEN == 48);

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// The secrets behind the vectors of FORMAT section 12, which nothing outside this room can see.
    #[test]
    fn roots_are_those_of_the_text() {
        let dek = || DataKey::from_bytes(Zeroizing::new(std::array::from_fn(|i| 0x20 + i as u8)));
        let keys = ObjectKeys::derive(Suite::ChaCha20Poly1305, &dek());
        let prk = "8e3a6f987f767b4612d02c01451eb92a34cce0eefa45dfe0ec938150788559af";
        assert_eq!(HEXLOWER.encode(keys.prk.bytes()), prk);
        let mac = "a7d4c69e994c55eaeefd325f48b3c56309d73dbe0b7b15e2fc72b67eaf85e2d4";
        assert_eq!(HEXLOWER.encode(keys.mac.bytes()), mac);
        let keys = ObjectKeys::derive(Suite::Aes256Gcm, &dek());
        let prk = "00e08796db9107233d463bb072b13c8373c8ce68156bc049d0a18f9f6e4892bc";
        assert_eq!(HEXLOWER.encode(keys.prk.bytes()), prk);
    }

    #[test]
    fn secrets_print_nothing() {
        let dek = DataKey::from_bytes(Zeroizing::new([0x41; 32]));
        let keys = ObjectKeys::derive(Suite::Aes256Gcm, &dek);
        let (chunk, footer, metadata) = (keys.chunk_key(&[0; 32]), keys.footer_key(&[0; 32]), keys.metadata_key(&[0; 32]));
        assert_eq!(
            format!("{dek:?} {keys:?} {chunk:?} {footer:?} {metadata:?}"),
            "DataKey(secret) ObjectKeys(aes-256-gcm, secret) ChunkKey(secret) FooterKey(secret) MetadataKey(secret)"
        );
    }
}
