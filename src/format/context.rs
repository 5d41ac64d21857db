use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{EnvelopeFlags, Label};

/// The context a key service binds a key to (FORMAT section 4): a set of names and values, the same for wrapping and unwrapping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyContext {
    pairs: BTreeMap<String, String>,
}

impl KeyContext {
    /// The context of a key that serves one object. With `hash_key_name` the context carries a hash instead of the key's name, so
    /// that names do not appear in the key service's log.
    pub fn for_object(scope: &str, key: &str, hash_key_name: bool) -> Self {
        let key = if hash_key_name {
            let mut hash = Sha256::new();
            hash.update(scope);
            hash.update([0]);
            hash.update(key);
            HEXLOWER.encode(&hash.finalize())
        } else {
            key.to_owned()
        };
        let mut context = Self::for_scope(scope);
        context.pairs.insert("key".to_owned(), key);
        context
    }

    /// The context of a key shared by the objects of a scope.
    pub fn for_scope(scope: &str) -> Self {
        let pairs = [("cg", "1"), ("scope", scope)];
        Self { pairs: pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    /// The context that belongs to an envelope with these flags.
    pub fn for_flags(flags: EnvelopeFlags, scope: &str, key: &str) -> Self {
        if flags.shared { Self::for_scope(scope) } else { Self::for_object(scope, key, flags.hashed_context) }
    }

    /// A context of other people's making.
    pub fn of_pairs(pairs: BTreeMap<String, String>) -> Self {
        Self { pairs }
    }

    /// The names and values, sorted by name.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.pairs
    }

    /// The same as an owned map, for a client that wants one.
    pub fn into_pairs(self) -> BTreeMap<String, String> {
        self.pairs
    }
}

/// Under which name a cache of key-encryption keys keeps the key of `blob` (FORMAT section 10). Every part goes in with its length, so
/// no two different requests share an entry, and a hit never skips a check the key service would have made.
pub fn cache_key(label: &Label, context: &KeyContext, blob: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        // All inputs come from headers and configuration; none reaches 4 GiB, and a longer one would still be hashed in full.
        hash.update((bytes.len() as u32).to_be_bytes());
        hash.update(bytes);
    };
    add(label.as_str().as_bytes());
    for (name, value) in &context.pairs {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    add(blob);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_as_written() {
        let context = KeyContext::for_object("bucket-a", "dir/object.bin", false);
        let pairs: Vec<_> = context.pairs().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("cg", "1"), ("key", "dir/object.bin"), ("scope", "bucket-a")]);
        let hashed = KeyContext::for_object("bucket-a", "dir/object.bin", true);
        let expected = HEXLOWER.encode(&Sha256::digest(b"bucket-a\0dir/object.bin"));
        assert_eq!(hashed.pairs()["key"], expected);
        let shared = EnvelopeFlags { shared: true, hashed_context: true, ..EnvelopeFlags::default() };
        assert_eq!(KeyContext::for_flags(shared, "bucket-a", "x"), KeyContext::for_scope("bucket-a"));
        assert!(!KeyContext::for_scope("bucket-a").pairs().contains_key("key"));
    }

    #[test]
    fn cache_keys_differ_with_every_part() {
        let label = |name: &str| Label::new(name).unwrap();
        let context = KeyContext::for_object("s", "k", false);
        let base = cache_key(&label("k1"), &context, b"blob");
        assert_ne!(base, cache_key(&label("k2"), &context, b"blob"));
        assert_ne!(base, cache_key(&label("k1"), &context, b"blo"));
        assert_ne!(base, cache_key(&label("k1"), &KeyContext::for_scope("s"), b"blob"));
        assert_ne!(base, cache_key(&label("k1"), &KeyContext::for_object("s", "l", false), b"blob"));
    }
}
