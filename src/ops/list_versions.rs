//! ListObjectVersions: the store's page with plaintext sizes and marked ETags.

use s3s::dto::{
    DeleteMarkerEntry, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectStorageClass, ObjectVersion,
    ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response};

use super::list::{Names, common_prefixes, show_entry, show_owner, timestamp};
use super::read_through::Entry;
use super::{Error, Gateway, headers};
use crate::backend::VersionQuery;

impl Gateway {
    pub(super) async fn list_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> Result<S3Response<ListObjectVersionsOutput>, Error> {
        let asked = req.input;
        let names = Names::new(asked.encoding_type.as_ref())?;
        let guards = headers::guards(&req.headers, &req.extensions);
        let query = VersionQuery {
            bucket: asked.bucket.clone(),
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            max_keys: asked.max_keys,
            key_marker: asked.key_marker.clone(),
            version_id_marker: asked.version_id_marker.clone(),
            headers: guards.clone(),
        };
        let page = self.list_visible_versions(query).await?;
        let entries = page.versions.iter().map(|version| Entry::new(&version.entry, version.version_id.as_deref())).collect();
        let sizes = self.shown_sizes(&asked.bucket, &guards, entries).await?;
        let versions = page.versions.into_iter().zip(sizes).map(|(version, size)| {
            let shown = show_entry(version.entry, &size, names);
            ObjectVersion {
                key: shown.key,
                size: shown.size,
                e_tag: shown.e_tag,
                last_modified: shown.last_modified,
                storage_class: shown.storage_class.map(version_class),
                owner: shown.owner,
                restore_status: shown.restore_status,
                version_id: version.version_id,
                is_latest: version.is_latest,
                ..ObjectVersion::default()
            }
        });
        let delete_markers = page.delete_markers.into_iter().map(|marker| DeleteMarkerEntry {
            key: Some(names.show(&marker.key)),
            version_id: marker.version_id,
            is_latest: marker.is_latest,
            last_modified: marker.last_modified.and_then(timestamp),
            owner: marker.owner.map(show_owner),
        });
        let output = ListObjectVersionsOutput {
            name: Some(asked.bucket),
            prefix: Some(names.show(&asked.prefix.unwrap_or_default())),
            key_marker: Some(names.show(&asked.key_marker.unwrap_or_default())),
            version_id_marker: Some(asked.version_id_marker.unwrap_or_default()),
            max_keys: page.max_keys.or(asked.max_keys),
            is_truncated: Some(page.is_truncated),
            next_key_marker: page.next_key_marker.as_deref().map(|marker| names.show(marker)),
            next_version_id_marker: page.next_version_id_marker,
            delimiter: asked.delimiter.as_deref().map(|delimiter| names.show(delimiter)),
            encoding_type: asked.encoding_type,
            versions: Some(versions.collect()),
            delete_markers: Some(delete_markers.collect()),
            common_prefixes: Some(common_prefixes(&page.common_prefixes, names)),
            ..ListObjectVersionsOutput::default()
        };
        Ok(S3Response::with_headers(output, headers::for_client(page.headers)))
    }
}

/// S3's model has one class for versions; stores have more.
fn version_class(class: ObjectStorageClass) -> ObjectVersionStorageClass {
    ObjectVersionStorageClass::from(class.as_str().to_owned())
}
