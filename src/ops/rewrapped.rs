//! What opens a stored object: its own envelope or, for a version whose key the configuration has no more, the rewrap record that an
//! operator left beside it (FORMAT section 16). Every reader gets its keys here.
//!
//! While the key of the object's own envelope is configured, nothing is looked for.

use std::borrow::Cow;

use http::HeaderMap;

use super::object::Stored;
use super::protection::Opener;
use super::state::read_whole;
use super::{Error, Gateway, StatePlace};
use crate::backend::{Error as StoreError, ObjectName, PutObject, S3Backend, Select};
use crate::crypto::ObjectKeys;
use crate::format::{self, Envelope, RewrapRecord, VersionName};
use crate::{keys, stream};

/// Names of records begin with this, behind the prefix of the state store.
const FOLDER: &str = "v/";
/// Digits of a base name.
const BASE_LEN: usize = 64;
/// A record holds an envelope and three names of at most 65,535 bytes each.
const RECORD_MAX: usize = 264 * 1024;
/// The version id where the store tells none.
const NULL: &str = "null";

/// The envelope that an object opens with, at the place where the object was found.
pub(super) struct Wrap<'a> {
    object: &'a ObjectName,
    pub envelope: Cow<'a, Envelope>,
}

impl Wrap<'_> {
    /// What is needed to ask for the keys; `own` is the client's own key.
    pub fn at<'b>(&'b self, own: Option<&'b Opener>) -> keys::Stored<'b> {
        let customer = own.map(|own| &own.key);
        keys::Stored { bucket: &self.object.bucket, key: &self.object.key, envelope: &self.envelope, customer }
    }
}

impl Gateway {
    /// The keys of a stored object.
    ///
    /// # Errors
    /// Whatever keeps the data key from being unwrapped. A version whose key is not configured and that has no record is one of an unknown
    /// label; one with a record that is not its own is damaged.
    pub(super) async fn unlock(&self, object: &ObjectName, stored: &Stored, own: Option<&Opener>) -> Result<ObjectKeys, Error> {
        Ok(self.keys.open_with(self.wrap_of(object, stored).await?.at(own)).await?)
    }

    /// What a stored object opens with.
    ///
    /// # Errors
    /// A record that is not the version's; the store's.
    pub(super) async fn wrap_of<'a>(&self, object: &'a ObjectName, stored: &'a Stored) -> Result<Wrap<'a>, Error> {
        self.wrap_of_version(object, stored.version_id.as_deref(), &stored.envelope).await
    }

    /// The same, for a version with this envelope of its own.
    pub(super) async fn wrap_of_version<'a>(
        &self,
        object: &'a ObjectName,
        version_id: Option<&str>,
        own: &'a Envelope,
    ) -> Result<Wrap<'a>, Error> {
        let is_readable = own.flags().customer || self.keys.has(own.label());
        let record = if is_readable { None } else { self.record_of(object, version_id, own).await? };
        Ok(Wrap { object, envelope: record.map_or(Cow::Borrowed(own), Cow::Owned) })
    }

    /// The envelope in the record of a version, whether or not it is needed.
    ///
    /// # Errors
    /// `Integrity` for a record that is not the version's; the store's.
    pub(super) async fn record_of(
        &self,
        object: &ObjectName,
        version_id: Option<&str>,
        own: &Envelope,
    ) -> Result<Option<Envelope>, Error> {
        let name = version_name(object, version_id);
        let at = place_of(&self.multipart.place, &name.bucket, &name.base()?);
        let Some(record) = find(&self.backend, at).await? else { return Ok(None) };
        Ok(Some(record.envelope_for(&name, own)?))
    }

    /// Keeps an envelope as the record of a version, in the place of an older record.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn keep_record(
        &self,
        object: &ObjectName,
        version_id: Option<&str>,
        envelope: Envelope,
    ) -> Result<(), Error> {
        let name = version_name(object, version_id);
        let object = place_of(&self.multipart.place, &name.bucket, &name.base()?);
        let record = RewrapRecord { name, envelope };
        let body = stream::rewrap_record(&record).map_err(|_| Error::Internal("a record that cannot be written"))?;
        self.backend.put_object(PutObject { object, headers: HeaderMap::new(), body }).await?;
        Ok(())
    }
}

fn version_name(object: &ObjectName, version_id: Option<&str>) -> VersionName {
    let version_id = version_id.unwrap_or(NULL).to_owned();
    VersionName { bucket: object.bucket.clone(), key: object.key.clone(), version_id }
}

/// Where the record with this base name lies.
fn place_of(place: &StatePlace, bucket: &str, base: &str) -> ObjectName {
    let (bucket, prefix) = place.of(bucket);
    ObjectName { bucket: bucket.to_owned(), key: format!("{prefix}{FOLDER}{base}") }
}

/// The base name of a record, from its name behind the state store's own prefix.
pub(super) fn base_of(name: &str) -> Option<&str> {
    let base = name.strip_prefix(FOLDER)?;
    let is_base = base.len() == BASE_LEN && base.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_base.then_some(base)
}

async fn find(backend: &S3Backend, object: ObjectName) -> Result<Option<RewrapRecord>, Error> {
    let select = Select { object, version_id: None, headers: HeaderMap::new(), range: None };
    let body = match backend.get_object(select).await {
        Ok(answer) => answer.body,
        // A state bucket that is not there holds no record.
        Err(StoreError::Refused(refusal)) if refusal.status == 404 => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(RewrapRecord::parse(&read_whole(body, RECORD_MAX).await?)?))
}

/// What has become of the version that a record is of.
pub(super) enum Fate {
    /// It is there.
    Lives,
    /// It is gone, or another one has its name; `None` where the record itself is gone.
    Gone(Option<VersionName>),
}

/// Asks what has become of the version of the record with this base name; `bucket` is the one that the record lies in.
///
/// # Errors
/// A record that cannot have this name; the store's.
pub(super) async fn fate(backend: &S3Backend, place: &StatePlace, bucket: &str, base: &str) -> Result<Fate, Error> {
    let Some(record) = find(backend, place_of(place, bucket, base)).await? else { return Ok(Fate::Gone(None)) };
    let name = &record.name;
    if name.base()? != base || place.of(&name.bucket).0 != bucket {
        return Err(Error::Integrity("a rewrap record belongs to another version".into()));
    }
    let object = ObjectName { bucket: name.bucket.clone(), key: name.key.clone() };
    let select = Select { object, version_id: Some(name.version_id.clone()), headers: HeaderMap::new(), range: None };
    match backend.head_object(select).await {
        // The version null has been written anew since.
        Ok(answer) => match answer.headers.get(format::HEADER).and_then(|text| Envelope::parse(text.to_str().ok()?).ok()) {
            Some(own) if own.commit() != record.envelope.commit() => Ok(Fate::Gone(Some(record.name))),
            _ => Ok(Fate::Lives),
        },
        // A delete marker does not allow to be read.
        Err(StoreError::Refused(refusal)) if matches!(refusal.status, 404 | 405) => Ok(Fate::Gone(Some(record.name))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_names_that_no_upload_has() {
        let object = ObjectName { bucket: "b".to_owned(), key: "k".to_owned() };
        let base = version_name(&object, None).base().unwrap();
        assert_eq!(base, version_name(&object, Some("null")).base().unwrap());
        assert_ne!(base, version_name(&object, Some("x")).base().unwrap());
        let place = StatePlace::default();
        let at = place_of(&place, "b", &base);
        assert!(place.hides(&at.bucket, Some(&at.key)));
        assert_eq!(base_of(at.key.strip_prefix(".ciphergate/").unwrap()), Some(base.as_str()));
        let apart = place_of(&StatePlace::Bucket("state".to_owned()), "b", &base);
        assert_eq!((apart.bucket.as_str(), base_of(&apart.key)), ("state", Some(base.as_str())));
        for other in [&base[..], "v/", "v/00", &format!("v/{}", "G".repeat(64)), &format!("v/{base}/r"), &format!("{base}/r")] {
            assert_eq!(base_of(other), None, "{other}");
        }
    }
}
