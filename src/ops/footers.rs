//! Opened footers, kept for the next read of the same object.

use std::sync::Arc;

use moka::future::Cache;

use super::object::Stored;
use crate::backend::ObjectName;
use crate::format::Footer;

/// Bounded cache of footers.
///
/// An entry is found again only for the same name, commitment and ETag: the commitment was recomputed for this very read, so a
/// footer of another key or another version is never taken (FORMAT section 9).
pub struct Footers {
    cache: Cache<Identity, Arc<Footer>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Identity {
    bucket: String,
    key: String,
    commit: [u8; 32],
    etag: Vec<u8>,
}

impl Identity {
    fn new(object: &ObjectName, stored: &Stored) -> Self {
        Self {
            bucket: object.bucket.clone(),
            key: object.key.clone(),
            commit: *stored.envelope.commit(),
            etag: stored.etag.as_bytes().to_vec(),
        }
    }
}

impl Footers {
    /// A cache of at most that many bytes of footers; one of 10,000 parts takes about a megabyte.
    pub fn new(bytes_max: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(|identity: &Identity, footer: &Arc<Footer>| {
                let names = identity.bucket.len() + identity.key.len() + identity.etag.len();
                u32::try_from(256 + names + footer.parts.len() * 128).unwrap_or(u32::MAX)
            })
            .build();
        Self { cache }
    }

    pub(super) async fn find(&self, object: &ObjectName, stored: &Stored) -> Option<Arc<Footer>> {
        self.cache.get(&Identity::new(object, stored)).await
    }

    pub(super) async fn keep(&self, object: &ObjectName, stored: &Stored, footer: Arc<Footer>) {
        self.cache.insert(Identity::new(object, stored), footer).await;
    }
}
