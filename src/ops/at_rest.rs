//! Objects as they lie in the store, for the operator's commands: what can be seen without a key, and the opened footer.

use std::sync::Arc;

use http::HeaderMap;

use super::object::{Stored, Unsealed, version_of};
use super::{Error, Gateway, StatePlace};
use crate::backend::{ByteRange, ObjectName, S3Backend, Select, Versioning};
use crate::format::{self, End, Envelope, Footer, PlainLen, SealedLen};
use crate::keys::Keys;

/// An object, or a version of one, as its HEAD shows it.
pub struct AtRest {
    pub object: ObjectName,
    /// The version that was asked for, or else the one that the store names.
    pub version_id: Option<String>,
    /// The store's headers.
    pub headers: HeaderMap,
    /// The store's own ETag, quotes included.
    pub etag: http::HeaderValue,
    /// Bytes in the store.
    pub stored_len: u64,
    pub envelope: Found,
}

/// What the place of the envelope holds.
pub enum Found {
    Envelope(Envelope),
    /// Something that is no envelope.
    Malformed(format::Error),
    Nothing,
}

impl AtRest {
    fn read(object: ObjectName, asked: Option<String>, headers: HeaderMap) -> Result<Self, Error> {
        let Unsealed { len, etag } = Unsealed::read(&headers)?;
        let version_id = asked.or_else(|| version_of(&headers));
        let envelope = match headers.get(format::HEADER).map(|value| value.to_str()) {
            None => Found::Nothing,
            Some(Ok(text)) => Envelope::parse(text).map_or_else(Found::Malformed, Found::Envelope),
            Some(Err(_)) => Found::Malformed(format::Error::Envelope("not ASCII")),
        };
        Ok(Self { object, version_id, headers, etag, stored_len: len, envelope })
    }

    /// Bytes of the plaintext; `None` where no sealed object has this length.
    #[must_use]
    pub fn plain_len(&self) -> Option<PlainLen> {
        SealedLen::new(self.stored_len).plain()
    }

    /// Whether it is a version that the bucket kept once and does no longer: a copy onto itself would take the place of the version `null`.
    #[must_use]
    pub fn has_place_of_its_own(&self, versioning: Versioning) -> bool {
        versioning == Versioning::Suspended && self.version_id.as_deref().is_some_and(|version| version != "null")
    }

    /// The object as what reads it sees it.
    ///
    /// # Errors
    /// `Integrity` for what is no sealed object.
    pub(super) fn stored(&self) -> Result<Stored, Error> {
        Stored::read(&self.headers)
    }
}

impl Gateway {
    /// The store behind.
    #[must_use]
    pub fn store(&self) -> &S3Backend {
        &self.backend
    }

    /// The source of keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Bytes of plaintext of an object of AWS's encryption client; `None` for anything else, and where no rule says that such objects are read.
    ///
    /// # Errors
    /// As a read's.
    pub async fn aws_plain_len(&self, at: &AtRest) -> Result<Option<u64>, Error> {
        Ok(self.aws_object(&at.object, &HeaderMap::new(), &at.headers).await?.map(|stored| stored.plain_len))
    }

    /// Where uploads keep their state.
    #[must_use]
    pub fn place(&self) -> &StatePlace {
        &self.multipart.place
    }

    /// The envelope in the rewrap record of a version, if it has one; whether or not it is needed to read the version.
    ///
    /// # Errors
    /// `Integrity` for a record that is not the version's; the store's.
    pub async fn record_at(&self, at: &AtRest, own: &Envelope) -> Result<Option<Envelope>, Error> {
        self.record_of(&at.object, at.version_id.as_deref(), own).await
    }

    /// Looks at an object, with one request, and judges nothing.
    ///
    /// # Errors
    /// The store's refusals.
    pub async fn at_rest(&self, object: &ObjectName, version_id: Option<&str>) -> Result<AtRest, Error> {
        let version_id = version_id.map(str::to_owned);
        let select = Select { object: object.clone(), version_id: version_id.clone(), headers: HeaderMap::new(), range: None };
        AtRest::read(object.clone(), version_id, self.head_with_words(select).await?)
    }

    /// The end marker of exactly this object: what its last bytes show without a key.
    ///
    /// # Errors
    /// `Integrity` for what is no sealed object; the store's refusals, such as 412 when the object is another one by now.
    pub async fn end_of(&self, at: &AtRest) -> Result<End, Error> {
        let stored = at.stored()?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::IF_MATCH, at.etag.clone());
        let range = Some(ByteRange::Suffix(End::LEN));
        let select = Select { object: at.object.clone(), version_id: at.version_id.clone(), headers, range };
        let bytes = super::get_object::collect(self.backend.get_object(select).await?.body, End::LEN).await?;
        let bytes: &[u8; 32] = bytes.as_ref().try_into().map_err(|_| Error::Internal("an end marker has 32 bytes"))?;
        Ok(End::parse(bytes, stored.plain_len, stored.envelope.flags().layout())?)
    }

    /// The footer of exactly this object, opened.
    ///
    /// # Errors
    /// As a read's.
    pub async fn footer_of(&self, at: &AtRest) -> Result<Arc<Footer>, Error> {
        let stored = at.stored()?;
        let keys = self.unlock(&at.object, &stored, None).await?;
        self.footer(&at.object, at.version_id.clone(), HeaderMap::new(), &stored, &keys).await
    }
}
