//! Moves an object to another key where it lies (FORMAT section 13): its data key is unwrapped and wrapped again, and the store copies the
//! sealed bytes onto themselves. Nothing of the body passes here.
//!
//! A version that is not the current one gets a record in place of a copy, which would be another version (FORMAT section 16).
//!
//! Whatever a copy onto itself would lose is carried over by name, and the copy is bound to exactly the object that was looked at: a write
//! that comes between wins.

use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{Timestamp, TimestampFormat};

use super::at_rest::AtRest;
use super::check::now_ms;
use super::headers::copy::{self, Stored as MetadataFrom};
use super::large_copy::LargeCopy;
use super::{Error, Gateway};
use crate::backend::{self, CopyObject, CopySource, Versioning};
use crate::format::Envelope;
use crate::keys::{self, Choice, Label};

/// What HEAD shows and a copy onto itself forgets, apart from content headers and metadata.
const CARRIED: [&str; 2] = ["x-amz-storage-class", "x-amz-website-redirect-location"];
const LOCK_MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const LOCK_UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");
const LEGAL_HOLD: HeaderName = HeaderName::from_static("x-amz-object-lock-legal-hold");

impl Gateway {
    /// Wraps the data key of an object anew under another key and stores the envelope. `at` is the current object, as it was looked at a
    /// moment ago; `versioning` is its bucket's. `with_record`: where the bucket keeps the version that was current, that gets a record, before
    /// it becomes an old one.
    ///
    /// # Errors
    /// Whatever keeps the data key from being unwrapped or wrapped; the store's refusals, 412 when the object is another one by now; what
    /// cannot be carried over.
    pub async fn rewrap_in_place(&self, at: &AtRest, to: &Label, versioning: Versioning, with_record: bool) -> Result<(), Error> {
        if at.has_place_of_its_own(versioning) {
            return Err(Error::Coded {
                code: "InvalidBucketState",
                status: 409,
                text: "versions are suspended in the bucket: a copy of this version would take the place of the version null",
            });
        }
        let stored = at.stored()?;
        let choice = Choice::Key { label: Some(to.clone()), per_object: false };
        let object = &at.object;
        let wrap = self.wrap_of(object, &stored).await?;
        let envelope = self.keys.rewrap(wrap.at(None), &choice, &object.bucket, &object.key).await?;
        if with_record && versioning == Versioning::Enabled {
            self.keep_record(object, at.version_id.as_deref(), envelope.clone()).await?;
        }
        let source = CopySource { object: object.clone(), version_id: at.version_id.clone() };
        let mut carried = carried(&at.headers);
        carried.extend(self.acl_of(&source).await?);
        let nothing = http::Extensions::new();
        let mut sent = copy::for_copy(&carried, &nothing, MetadataFrom::FromSource(&at.headers), &envelope.encode())?;
        copy::pin_target(&mut sent, &at.etag)?;
        let sealed_len = stored.sealed_len.get();
        if sealed_len <= self.backend.copy_max() {
            copy::pin_source(&mut sent, &at.etag);
            let copy = CopyObject { source, target: object.clone(), headers: sent, sealed_len };
            self.backend.copy_object(copy).await?;
            return Ok(());
        }
        let conditions = copy::take_conditions(&mut sent);
        copy::as_upload(&mut sent);
        if let Some(tags) = self.tags_of(&source, HeaderMap::new()).await? {
            sent.insert(HeaderName::from_static("x-amz-tagging"), tags);
        }
        let large = LargeCopy {
            source,
            etag: at.etag.clone(),
            target: object.clone(),
            stored: sent,
            guards: HeaderMap::new(),
            owner_of_source: HeaderMap::new(),
            conditions,
            sealed_len,
        };
        self.copy_in_parts(large).await?;
        Ok(())
    }

    /// Wraps the data key of a version anew under another key and keeps the envelope as its record; the version stays as it is. `record` is
    /// the one that it has already, if that can be read: the key of the version's own envelope may be disabled.
    ///
    /// # Errors
    /// Whatever keeps the data key from being unwrapped or wrapped; the store's.
    pub async fn rewrap_version(&self, at: &AtRest, record: Option<&Envelope>, to: &Label) -> Result<(), Error> {
        let stored = at.stored()?;
        let (object, version_id) = (&at.object, at.version_id.as_deref());
        let choice = Choice::Key { label: Some(to.clone()), per_object: false };
        let envelope = record.unwrap_or(&stored.envelope);
        let from = keys::Stored { bucket: &object.bucket, key: &object.key, envelope, customer: None };
        let envelope = self.keys.rewrap(from, &choice, &object.bucket, &object.key).await?;
        self.keep_record(object, version_id, envelope).await
    }

    /// The access control list of an object as headers; nothing where it only says that the owner may do everything, or cannot be read.
    pub(super) async fn acl_of(&self, source: &CopySource) -> Result<HeaderMap, Error> {
        match self.backend.acl(source).await {
            Ok(acl) => Ok(acl),
            // Nobody can carry what he may not read, and stores without lists have none.
            Err(backend::Error::Refused(refusal)) if matches!(refusal.status, 400 | 403 | 405 | 501) => Ok(HeaderMap::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Storage class, redirect and lock of an object, from its HEAD.
pub(super) fn carried(head: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for name in CARRIED {
        if let Some(value) = head.get(name) {
            out.insert(HeaderName::from_static(name), value.clone());
        }
    }
    if let (Some(mode), Some(until)) = (head.get(&LOCK_MODE), head.get(&LOCK_UNTIL))
        && is_to_come(until)
    {
        out.insert(LOCK_MODE, mode.clone());
        out.insert(LOCK_UNTIL, until.clone());
    }
    if let Some(hold) = head.get(&LEGAL_HOLD).filter(|hold| hold.as_bytes() == b"ON") {
        out.insert(LEGAL_HOLD, hold.clone());
    }
    out
}

/// A retention that is over protects nothing, and no store takes one.
fn is_to_come(until: &HeaderValue) -> bool {
    let Some(until) = until.to_str().ok().and_then(|text| Timestamp::parse(TimestampFormat::DateTime, text).ok()) else {
        // Whatever it means, the store shall judge it.
        return true;
    };
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_millis(now_ms());
    until > Timestamp::from(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_forgets_is_carried() {
        let head = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
        };
        let shown = |headers: HeaderMap| {
            let mut lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            lines.sort_unstable();
            lines
        };
        let locked = head(&[
            ("etag", "\"x\""),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-website-redirect-location", "/there"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00.000Z"),
            ("x-amz-object-lock-legal-hold", "ON"),
        ]);
        assert_eq!(
            shown(carried(&locked)),
            [
                "x-amz-object-lock-legal-hold: ON",
                "x-amz-object-lock-mode: GOVERNANCE",
                "x-amz-object-lock-retain-until-date: 2999-01-01T00:00:00.000Z",
                "x-amz-storage-class: STANDARD_IA",
                "x-amz-website-redirect-location: /there",
            ]
        );
        let over = head(&[
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", "2001-01-01T00:00:00Z"),
            ("x-amz-object-lock-legal-hold", "OFF"),
        ]);
        assert_eq!(shown(carried(&over)), Vec::<String>::new());
    }
}
