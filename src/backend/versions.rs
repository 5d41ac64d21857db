//! ListObjectVersions, through aws-sdk-s3: what is asked, and a page of the answer in the store's own sizes and ETags.

use aws_sdk_s3::types::EncodingType;
use http::HeaderMap;

use super::sdk::{Names, Wire, finish, instant, owner, prefixes, restore_state};
use super::{Error, ListEntry, Owner, S3Backend};

/// ListObjectVersions, as the client asked.
#[derive(Clone, Debug)]
pub struct VersionQuery {
    pub bucket: String,
    pub prefix: Option<String>,
    pub delimiter: Option<String>,
    pub max_keys: Option<i32>,
    pub key_marker: Option<String>,
    pub version_id_marker: Option<String>,
    /// Headers to carry: expected bucket owner, request payer, optional attributes.
    pub headers: HeaderMap,
}

/// One page of versions and delete markers. Names are decoded.
#[derive(Debug, Default)]
pub struct VersionPage {
    pub versions: Vec<ObjectVersion>,
    pub delete_markers: Vec<DeleteMarker>,
    pub common_prefixes: Vec<String>,
    pub is_truncated: bool,
    pub next_key_marker: Option<String>,
    pub next_version_id_marker: Option<String>,
    pub max_keys: Option<i32>,
    pub headers: HeaderMap,
}

/// A version of an object.
#[derive(Debug)]
pub struct ObjectVersion {
    pub entry: ListEntry,
    pub version_id: Option<String>,
    pub is_latest: Option<bool>,
}

/// A version that says that the object is deleted.
#[derive(Debug)]
pub struct DeleteMarker {
    pub key: String,
    pub version_id: Option<String>,
    pub is_latest: Option<bool>,
    /// Seconds and nanoseconds since the epoch.
    pub last_modified: Option<(i64, u32)>,
    pub owner: Option<Owner>,
}

impl S3Backend {
    /// One page of ListObjectVersions, with exactly one request.
    pub async fn list_object_versions(&self, query: VersionQuery) -> Result<VersionPage, Error> {
        let wire = Wire::for_document("ListVersionsResult", query.headers)?;
        let sent = self
            .client
            .list_object_versions()
            .bucket(query.bucket)
            .set_prefix(query.prefix)
            .set_delimiter(query.delimiter)
            .set_max_keys(query.max_keys)
            .set_key_marker(query.key_marker)
            .set_version_id_marker(query.version_id_marker)
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(wire.clone())
            .send();
        let (output, headers) = finish(sent, &wire).await?;
        let names = Names { encoded: output.encoding_type == Some(EncodingType::Url) };
        let versions = output.versions.unwrap_or_default().into_iter().map(|version| {
            Ok(ObjectVersion {
                entry: ListEntry {
                    key: names.decode(version.key.unwrap_or_default())?,
                    sealed_size: version.size,
                    etag: version.e_tag,
                    last_modified: version.last_modified.map(instant),
                    storage_class: version.storage_class.map(|class| class.as_str().to_owned()),
                    owner: version.owner.map(owner),
                    restore: version.restore_status.map(restore_state),
                },
                version_id: version.version_id,
                is_latest: version.is_latest,
            })
        });
        let delete_markers = output.delete_markers.unwrap_or_default().into_iter().map(|marker| {
            Ok(DeleteMarker {
                key: names.decode(marker.key.unwrap_or_default())?,
                version_id: marker.version_id,
                is_latest: marker.is_latest,
                last_modified: marker.last_modified.map(instant),
                owner: marker.owner.map(owner),
            })
        });
        Ok(VersionPage {
            versions: versions.collect::<Result<_, Error>>()?,
            delete_markers: delete_markers.collect::<Result<_, Error>>()?,
            common_prefixes: prefixes(output.common_prefixes, names)?,
            is_truncated: output.is_truncated.unwrap_or(false),
            next_key_marker: output.next_key_marker.map(|marker| names.decode(marker)).transpose()?,
            next_version_id_marker: output.next_version_id_marker,
            max_keys: output.max_keys,
            headers,
        })
    }
}
