//! The source of a copy: what the request names, and what the store has there.

use http::header::{DATE, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{self, Timestamp, TimestampFormat};

use super::object::Found;
use super::{Error, Gateway};
use crate::backend::{self, CopySource, ObjectName, Select};

/// What a request names.
pub struct Asked {
    object: ObjectName,
    version_id: Option<String>,
}

impl Asked {
    pub fn object(&self) -> &ObjectName {
        &self.object
    }
}

/// A source as its HEAD shows it.
pub struct Source {
    /// Its name, and its version where the store has versions, asked for or not.
    pub at: CopySource,
    /// The version that the request names.
    pub asked_version: Option<String>,
    pub headers: HeaderMap,
    /// The store's own ETag.
    pub etag: HeaderValue,
    pub found: Found,
}

impl Source {
    /// The source that a request names.
    ///
    /// # Errors
    /// A source that is no object of a bucket.
    pub fn asked(source: &dto::CopySource) -> Result<Asked, Error> {
        let dto::CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(Error::NotImplemented("A source behind an access point is not implemented"));
        };
        if key.is_empty() {
            return Err(Error::InvalidArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey"));
        }
        let object = ObjectName { bucket: bucket.to_string(), key: key.to_string() };
        Ok(Asked { object, version_id: version_id.as_ref().map(ToString::to_string) })
    }

    /// Whether this is the object with that name, whatever its version.
    pub fn is(&self, object: &ObjectName) -> bool {
        (&self.at.object.bucket, &self.at.object.key) == (&object.bucket, &object.key)
    }
}

impl Gateway {
    /// HEAD of the source. `headers` are the guards of the source, without conditions.
    ///
    /// # Errors
    /// The store's refusals, in the words that S3 has for a copy.
    pub(super) async fn look_at_source(&self, asked: &Asked, headers: &HeaderMap) -> Result<Source, Error> {
        let select =
            Select { object: asked.object.clone(), version_id: asked.version_id.clone(), headers: headers.clone(), range: None };
        let (headers, found) = match self.look(select, headers).await {
            // Nothing else that has a version does not allow HEAD.
            Err(Error::Backend(backend::Error::Refused(refusal))) if asked.version_id.is_some() && refusal.status == 405 => {
                return Err(Error::InvalidRequest(
                    "The source of a copy request may not specifically refer to a delete marker by version id.",
                ));
            }
            looked => looked?,
        };
        let etag = headers.get(http::header::ETAG).cloned().ok_or(Error::Internal("the store gave no ETag"))?;
        let version = headers.get(HeaderName::from_static("x-amz-version-id")).and_then(|id| id.to_str().ok());
        let version_id = version.map(str::to_owned).or_else(|| asked.version_id.clone());
        Ok(Source {
            at: CopySource { object: asked.object.clone(), version_id },
            asked_version: asked.version_id.clone(),
            headers,
            etag,
            found,
        })
    }
}

/// When the object of this answer was made, in seconds and nanoseconds since the epoch.
pub fn last_modified(headers: &HeaderMap) -> Option<(i64, u32)> {
    instant(headers.get(LAST_MODIFIED)?)
}

/// The store's own time when it gave this answer, in seconds and nanoseconds since the epoch.
pub fn date_of(headers: &HeaderMap) -> Option<(i64, u32)> {
    instant(headers.get(DATE)?)
}

fn instant(value: &HeaderValue) -> Option<(i64, u32)> {
    let at = Timestamp::parse(TimestampFormat::HttpDate, value.to_str().ok()?).ok()?;
    let mut seconds = Vec::new();
    at.format(TimestampFormat::EpochSeconds, &mut seconds).ok()?;
    let text = String::from_utf8(seconds).ok()?;
    Some((text.split('.').next()?.parse().ok()?, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Asked, Error> {
        Source::asked(&dto::CopySource::parse(text).unwrap())
    }

    #[test]
    fn sources_are_objects_of_buckets() {
        let found = asked("/bucket/a%20b?versionId=v1").unwrap();
        assert_eq!((found.object.bucket.as_str(), found.object.key.as_str()), ("bucket", "a b"));
        assert_eq!(found.version_id.as_deref(), Some("v1"));
        assert!(matches!(asked("bucket/"), Err(Error::InvalidArgument(_))));
        let behind = "arn:aws:s3:us-east-1:123456789012:accesspoint/my-point/object/key";
        assert!(matches!(asked(behind), Err(Error::NotImplemented(_))));
    }

    #[test]
    fn times_are_read() {
        let headers: HeaderMap =
            [(LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 1970 00:01:40 GMT"))].into_iter().collect();
        assert_eq!(last_modified(&headers), Some((100, 0)));
        assert_eq!(date_of(&headers), None);
    }
}
