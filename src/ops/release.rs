//! Objects that leave the gateway's care, by an operator: their plaintext, and what lies beside it.

use futures::StreamExt;
use http::header::ETAG;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::check::{checksum_headers, is_known_checksum};
use super::headers::is_stored_content;
use super::object::{Found, version_of};
use super::reseal::{broken, is_archived, matching, select};
use super::{Error, Gateway};
use crate::backend::{Body, CopySource, ObjectName};
use crate::format::{ChecksumAlgorithm, ChecksumKind, ObjectChecksum};

/// An object as it leaves.
pub struct Released {
    /// Bytes of the plaintext.
    pub len: u64,
    /// Content headers, user metadata, tags, storage class, and a checksum of the plaintext where one is known: as a client would send them.
    pub headers: HeaderMap,
    /// The CRC64NVME of the plaintext, where one was recorded when it was sealed.
    pub crc64: Option<u64>,
    /// Authentic plaintext, or of a plaintext object what the store says; an error in it means that nothing of it may count.
    pub body: Body,
}

impl Released {
    /// Why a body broke off.
    #[must_use]
    pub fn failure(cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
        broken(cause)
    }
}

/// Why an object does not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// It opens with the client's own key alone.
    CustomerKey,
    /// It has to be restored first.
    Archived,
    /// The store does not show all of its metadata.
    Metadata,
}

/// A bucket that holds plaintext by configuration. Nobody else can name one, so no plaintext can be meant for a bucket of sealed objects.
#[derive(Debug, Clone)]
pub struct PlaintextBucket(String);

impl PlaintextBucket {
    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Gateway {
    /// The bucket as one that plaintext may be written to, if the configuration says so.
    #[must_use]
    pub fn plaintext_bucket(&self, bucket: &str) -> Option<PlaintextBucket> {
        (self.access_of(bucket) == super::Access::Plaintext).then(|| PlaintextBucket(bucket.to_owned()))
    }

    /// Opens the current version of an object for leaving.
    ///
    /// # Errors
    /// As a read's.
    pub async fn release(&self, object: &ObjectName) -> Result<Result<Released, Stays>, Error> {
        let (answer, found) = self.look(select(object, None), &HeaderMap::new()).await?;
        if is_archived(&answer) {
            return Ok(Err(Stays::Archived));
        }
        if answer.contains_key("x-amz-missing-meta") {
            return Ok(Err(Stays::Metadata));
        }
        let etag = answer.get(ETAG).cloned().ok_or(Error::Internal("the store gave no ETag"))?;
        let at = CopySource { object: object.clone(), version_id: version_of(&answer) };
        let mut headers: HeaderMap = answer.iter().filter(|(name, _)| is_stored_content(name)).map(owned).collect();
        if let Some(tags) = self.tags_of(&at, HeaderMap::new()).await? {
            headers.insert("x-amz-tagging", tags);
        }
        let (len, crc64) = match &found {
            Found::Sealed(stored) if stored.envelope.flags().customer => return Ok(Err(Stays::CustomerKey)),
            Found::Sealed(stored) => {
                let keys = self.unlock(object, stored, None).await?;
                let footer = self.footer(object, at.version_id.clone(), matching(&etag), stored, &keys).await?;
                let own = footer.checksum.filter(|checksum| checksum.kind() == ChecksumKind::FullObject);
                let recorded = |crc: u64| ObjectChecksum::full_object(ChecksumAlgorithm::Crc64Nvme, &crc.to_be_bytes());
                let checksum = own.map(Ok).or_else(|| footer.crc64.map(recorded)).transpose()?;
                headers.extend(checksum.iter().flat_map(|checksum| checksum_headers(checksum).into_iter().take(1)));
                (stored.plain_len.get(), footer.crc64)
            }
            // Verified as a whole when it is opened.
            Found::AwsClient(stored) => (stored.plain_len, None),
            Found::Plain(plain) => {
                let told = self.plain_checksum(select(object, at.version_id.clone()), plain).await?;
                let whole = told.iter().all(|(_, value)| value != "COMPOSITE" && !value.as_bytes().contains(&b'-'));
                headers.extend(told.into_iter().filter(|(name, _)| whole && is_known_checksum(name.as_str())).take(1));
                (plain.len, None)
            }
        };
        let body = self.open_whole(object, at.version_id, matching(&etag), None).await?;
        let body: Body = body.boxed();
        Ok(Ok(Released { len, headers, crc64, body }))
    }
}

fn owned((name, value): (&HeaderName, &HeaderValue)) -> (HeaderName, HeaderValue) {
    (name.clone(), value.clone())
}
