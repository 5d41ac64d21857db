//! Recovering a damaged object: whatever of it verifies, and exactly what does not.
//!
//! A read through the gateway refuses a damaged object, or breaks off where it is. This does not: it opens chunk by chunk (`salvage`) and says
//! which plaintext is lost. Not one byte leaves that did not verify. Without the object's data key there is nothing to be had.

mod pieces;
mod salvage;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue};

use super::get_object::collect;
use super::object::{total_len, version_of};
use super::{Error, Gateway};
use crate::backend::{self, ByteRange, ObjectName, Select, VersionQuery};
use crate::format::{self, Envelope, SealedLen};
use crate::keys;

pub use pieces::{Lost, Piece, Why};
pub use salvage::{LengthFrom, Recovered};

use pieces::Output;
use salvage::{Salvage, Sealed};

/// How often bytes are asked for that the store does not give.
const ATTEMPTS: usize = 3;

/// What is to be recovered, and what is known of it beside what lies in the store.
#[derive(Debug)]
pub struct Recovery {
    pub object: ObjectName,
    pub version_id: Option<String>,
    /// The envelope, where the object has lost its own.
    pub envelope: Option<String>,
    /// The bucket and key it was sealed for, where it lies under others.
    pub sealed_as: Option<ObjectName>,
    /// Plaintext lengths that it may have had, where its own length does not say.
    pub plain_sizes: Vec<RangeInclusive<u64>>,
}

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Object(#[from] Error),
    /// Where the plaintext goes takes no more.
    #[error("the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Whether the data key is what cannot be had.
    #[must_use]
    pub fn is_about_the_key(&self) -> bool {
        matches!(self, Self::Object(Error::Keys(_)))
    }
}

impl Gateway {
    /// Recovers an object. `sink` gets its plaintext in order, and holes where some of it is lost.
    ///
    /// # Errors
    /// An object without a good envelope, a key that does not unwrap, a store that does not answer, an object that changes meanwhile, and
    /// whatever the sink says. Damage is no error.
    pub async fn recover(&self, ask: &Recovery, sink: &mut dyn FnMut(Piece) -> io::Result<()>) -> Result<Recovered, Failure> {
        let select =
            Select { object: ask.object.clone(), version_id: ask.version_id.clone(), headers: HeaderMap::new(), range: None };
        let head = self.head_with_words(select.clone()).await?;
        let envelope = match &ask.envelope {
            Some(text) => text.clone(),
            None => {
                let text = head.get(format::HEADER).ok_or_else(|| Error::Integrity("the object has no envelope".into()))?;
                text.to_str().map_err(|e| Error::Integrity(e.into()))?.to_owned()
            }
        };
        let envelope = Envelope::parse(&envelope).map_err(Error::from)?;
        let stored_len = total_len(&head).ok_or(Error::Internal("the store did not say how long the object is"))?;
        let etag = head.get(ETAG).cloned().ok_or(Error::Internal("the store gave no ETag"))?;
        let place = ask.sealed_as.as_ref().unwrap_or(&ask.object);
        let version_id = version_of(&head).or_else(|| ask.version_id.clone());
        let wrap = self.wrap_of_version(&ask.object, version_id.as_deref(), &envelope).await?;
        let stored = keys::Stored { bucket: &place.bucket, key: &place.key, envelope: &wrap.envelope, customer: None };
        let keys = self.keys.open_with(stored).await.map_err(Error::from)?;

        let mut plain_sizes = ask.plain_sizes.clone();
        plain_sizes.extend(self.sizes_of_versions(&ask.object).await);
        let source = FromStore { gateway: self, select, etag, stored_len };
        let salvage = Salvage {
            source: &source,
            keys: Arc::new(keys),
            layout: envelope.flags().layout(),
            plain_sizes,
            told_size: match &*ask.plain_sizes {
                [one] if one.start() == one.end() => Some(*one.start()),
                _ => None,
            },
        };
        salvage.run(Output::new(sink)).await
    }

    /// The plaintext lengths of the versions that a name has: copies of one object have one data key, and may have kept their end.
    async fn sizes_of_versions(&self, object: &ObjectName) -> Vec<RangeInclusive<u64>> {
        let query = VersionQuery {
            bucket: object.bucket.clone(),
            prefix: Some(object.key.clone()),
            delimiter: None,
            max_keys: None,
            key_marker: None,
            version_id_marker: None,
            headers: HeaderMap::new(),
        };
        // Nothing but a help: a store that has no versions, or does not tell, has told of none.
        let Ok(page) = self.backend.list_object_versions(query).await else { return Vec::new() };
        let entries = page.versions.into_iter().map(|version| version.entry).filter(|entry| entry.key == object.key);
        let sizes = entries.filter_map(|entry| SealedLen::new(u64::try_from(entry.sealed_size?).ok()?).plain());
        sizes.map(|size| size.get()..=size.get()).collect()
    }
}

/// One object in the store, bound to the ETag that was seen first.
struct FromStore<'a> {
    gateway: &'a Gateway,
    select: Select,
    etag: HeaderValue,
    stored_len: u64,
}

impl Sealed for FromStore<'_> {
    fn len(&self) -> u64 {
        self.stored_len
    }

    async fn read(&self, from: u64, to: u64) -> Result<Option<Bytes>, Error> {
        let mut select = self.select.clone();
        select.headers.insert(IF_MATCH, self.etag.clone());
        select.range = Some(ByteRange::Inclusive(from, to - 1));
        for _ in 0..ATTEMPTS {
            match self.gateway.backend.get_object(select.clone()).await {
                Ok(answer) => {
                    if let Ok(bytes) = collect(answer.body, to - from).await {
                        return Ok(Some(bytes));
                    }
                }
                // It has changed, is gone, or is not for us: no damage.
                Err(backend::Error::Refused(refusal)) if matches!(refusal.status, 400..=407 | 409..=415) => {
                    return Err(Error::Backend(backend::Error::Refused(refusal)));
                }
                Err(_) => {}
            }
        }
        // Where the store is there and shows the object, these bytes are what it cannot give.
        let mut look = self.select.clone();
        look.headers.insert(IF_MATCH, self.etag.clone());
        self.gateway.backend.head_object(look).await?;
        Ok(None)
    }
}
