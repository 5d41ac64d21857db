//! What a bucket may hold besides sealed objects, by its configuration, and which of its objects were found to be what.

use std::collections::BTreeMap;

use moka::future::Cache;

use super::object::{Found, Stored, Unsealed};
use super::{Error, Gateway};
use crate::format::{self, SealedLen};
use http::HeaderMap;

/// How the objects of a bucket are accessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Every object is sealed; anything without a valid envelope is refused.
    #[default]
    Encrypted,
    /// Plaintext objects that lie there already can be read, and are marked as such. What is written is sealed.
    ReadThrough,
    /// Nothing is sealed or opened. The operations here refuse such a bucket: its requests are passed on as they are.
    Plaintext,
}

/// The access of every bucket.
pub struct AccessRules {
    buckets: BTreeMap<String, Access>,
    kinds: Cache<Identity, Kind>,
}

/// What an object in a read-through bucket turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sealed,
    /// It has no envelope.
    Plaintext,
    /// Nor does it end like a sealed object.
    PlaintextToTheEnd,
    /// AWS's own encryption client wrote it, and the bucket's rule reads that.
    AwsClient {
        plain_len: u64,
    },
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    bucket: String,
    key: String,
    /// Without quotes, as listings and headers differ in them.
    etag: String,
}

impl Identity {
    fn new(bucket: &str, key: &str, etag: &str) -> Self {
        Self { bucket: bucket.to_owned(), key: key.to_owned(), etag: etag.trim_matches('"').to_owned() }
    }
}

/// How many objects' kinds are remembered: a hundred pages of a listing.
const KINDS_MAX: u64 = 100_000;

impl Default for AccessRules {
    fn default() -> Self {
        Self::new([])
    }
}

impl AccessRules {
    /// The access of the buckets that are not [`Access::Encrypted`]; all others are.
    pub fn new(buckets: impl IntoIterator<Item = (String, Access)>) -> Self {
        Self { buckets: buckets.into_iter().collect(), kinds: Cache::new(KINDS_MAX) }
    }

    /// The access of a bucket.
    pub fn of(&self, bucket: &str) -> Access {
        self.buckets.get(bucket).copied().unwrap_or_default()
    }

    pub(super) async fn known_kind(&self, bucket: &str, key: &str, etag: &str) -> Option<Kind> {
        self.kinds.get(&Identity::new(bucket, key, etag)).await
    }

    pub(super) async fn remember_kind(&self, bucket: &str, key: &str, etag: &str, kind: Kind) {
        self.kinds.insert(Identity::new(bucket, key, etag), kind).await;
    }
}

impl Gateway {
    /// How the objects of a bucket are accessed, by the configuration.
    #[must_use]
    pub fn access_of(&self, bucket: &str) -> Access {
        self.access.of(bucket)
    }

    /// What an answer of the store to GetObject or HeadObject shows: a sealed object or, where the bucket allows it, a plaintext one. The
    /// one place that decides; [`Gateway::recognise`] alone knows of more. A plaintext object must then pass [`Gateway::refuse_stripped`] before anything of it is shown.
    ///
    /// # Errors
    /// `Integrity` for what the bucket may not hold. An envelope that is there but bad never makes a plaintext object, unless the bucket is
    /// plaintext altogether and envelopes mean nothing in it.
    pub(super) fn found(&self, bucket: &str, answer: &HeaderMap) -> Result<Found, Error> {
        find(self.access.of(bucket), answer)
    }
}

fn find(access: Access, answer: &HeaderMap) -> Result<Found, Error> {
    match access {
        Access::ReadThrough if !answer.contains_key(format::HEADER) => Unsealed::read(answer).map(Found::Plain),
        Access::Encrypted | Access::ReadThrough => Stored::read(answer).map(Found::Sealed),
        Access::Plaintext => Unsealed::read(answer).map(Found::Plain),
    }
}

/// Whether a stored size leaves open what the object is: sealed objects have it, and any plaintext may.
pub(super) fn is_doubtful(stored_len: u64) -> bool {
    SealedLen::new(stored_len).plain().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(envelope: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "240".parse().unwrap());
        headers.insert("etag", "\"e\"".parse().unwrap());
        if let Some(text) = envelope {
            headers.insert(format::HEADER, text.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_bucket_makes_a_plaintext_object() {
        let is_plain = |access, envelope| match find(access, &answer(envelope)) {
            Ok(Found::Plain(plain)) => Some(plain.len == 240),
            Ok(Found::Sealed(_) | Found::AwsClient(_)) => panic!("no envelope here is good"),
            Err(Error::Integrity(_)) => None,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(is_plain(Access::Encrypted, None), None);
        assert_eq!(is_plain(Access::ReadThrough, None), Some(true));
        for bad in ["", "AAAA", "x, y"] {
            assert_eq!(is_plain(Access::Encrypted, Some(bad)), None);
            assert_eq!(is_plain(Access::ReadThrough, Some(bad)), None, "{bad:?}");
        }
        assert_eq!(is_plain(Access::Plaintext, Some("AAAA")), Some(true));
    }

    #[test]
    fn a_bucket_that_is_not_named_is_encrypted() {
        let rules = AccessRules::new([("old".to_owned(), Access::ReadThrough)]);
        assert_eq!((rules.of("old"), rules.of("new")), (Access::ReadThrough, Access::Encrypted));
    }
}
