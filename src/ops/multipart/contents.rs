//! What lies in the state store by its keys: pages of it, with every version where the bucket keeps them, and its removal.

use http::HeaderMap;

use crate::backend::{
    DeleteMany, DeleteOne, Error as StoreError, ListEntry, ListQuery, Paging, Refusal, S3Backend, VersionQuery,
};

/// Keys in one DeleteObjects request.
const DELETE_MAX: usize = 1000;

/// An object in the state store, a version of one, or a delete marker.
#[derive(Debug)]
pub(super) struct Item {
    pub key: String,
    /// `None` in a listing without versions.
    pub version_id: Option<String>,
    pub bytes: u64,
    /// Seconds and nanoseconds since the epoch.
    pub last_modified: Option<(i64, u32)>,
}

impl Item {
    fn new(entry: ListEntry, version_id: Option<String>) -> Self {
        let bytes = entry.sealed_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        Self { key: entry.key, version_id, bytes, last_modified: entry.last_modified }
    }
}

/// A listing, page by page, in the order of keys.
pub(super) struct Pages<'a> {
    backend: &'a S3Backend,
    bucket: &'a str,
    prefix: &'a str,
    next: Option<Place>,
}

/// Where a listing goes on.
enum Place {
    Objects { token: Option<String> },
    Versions { key: Option<String>, version_id: Option<String> },
}

impl<'a> Pages<'a> {
    /// The objects below a prefix, or every version and delete marker.
    pub(super) fn new(backend: &'a S3Backend, bucket: &'a str, prefix: &'a str, with_versions: bool) -> Self {
        let start = match with_versions {
            true => Place::Versions { key: None, version_id: None },
            false => Place::Objects { token: None },
        };
        Self { backend, bucket, prefix, next: Some(start) }
    }

    /// The next page; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Item>>, StoreError> {
        let Some(place) = self.next.take() else { return Ok(None) };
        let (bucket, prefix) = (self.bucket.to_owned(), Some(self.prefix.to_owned()).filter(|prefix| !prefix.is_empty()));
        match place {
            Place::Objects { token } => {
                let query = ListQuery {
                    bucket,
                    prefix,
                    delimiter: None,
                    max_keys: None,
                    headers: HeaderMap::new(),
                    paging: Paging::V2 { continuation_token: token, start_after: None, fetch_owner: None },
                };
                let page = self.backend.list_objects(query).await?;
                self.next = page.next.filter(|_| page.is_truncated).map(|token| Place::Objects { token: Some(token) });
                Ok(Some(page.entries.into_iter().map(|entry| Item::new(entry, None)).collect()))
            }
            Place::Versions { key, version_id } => {
                let query = VersionQuery {
                    bucket,
                    prefix,
                    delimiter: None,
                    max_keys: None,
                    key_marker: key,
                    version_id_marker: version_id,
                    headers: HeaderMap::new(),
                };
                let page = self.backend.list_object_versions(query).await?;
                self.next = page
                    .next_key_marker
                    .filter(|_| page.is_truncated)
                    .map(|key| Place::Versions { key: Some(key), version_id: page.next_version_id_marker });
                let versions = page.versions.into_iter().map(|version| Item::new(version.entry, version.version_id));
                let markers = page.delete_markers.into_iter().map(|marker| Item {
                    key: marker.key,
                    version_id: marker.version_id,
                    bytes: 0,
                    last_modified: marker.last_modified,
                });
                let mut items: Vec<_> = versions.chain(markers).collect();
                items.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(Some(items))
            }
        }
    }
}

/// What a deletion has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Delete markers, since the bucket keeps versions, and what they hide.
    Markers,
}

/// Removes many keys, or versions of keys. The first failure is the one that is told; the others are tried all the same.
pub(super) async fn delete_all(
    backend: &S3Backend,
    bucket: &str,
    keys: impl IntoIterator<Item = (String, Option<String>)>,
) -> Result<Left, StoreError> {
    let lines: Vec<_> = keys.into_iter().collect();
    let (mut failed, mut left) = (None, Left::Nothing);
    for lines in lines.chunks(DELETE_MAX) {
        let objects = lines
            .iter()
            .map(|(key, version_id)| DeleteOne { key: key.clone(), version_id: version_id.clone(), ..DeleteOne::default() })
            .collect();
        let many = DeleteMany { bucket: bucket.to_owned(), headers: HeaderMap::new(), quiet: false, objects };
        let failure = match backend.delete_objects(many).await {
            Err(error) => Some(error),
            Ok(answer) => {
                // A marker that was named by its version is gone; one that was not has been made.
                if answer.deleted.iter().any(|line| line.delete_marker == Some(true) && line.version_id.is_none()) {
                    left = Left::Markers;
                }
                answer.errors.into_iter().next().map(|line| {
                    StoreError::Refused(Box::new(Refusal {
                        status: 500,
                        code: line.code.unwrap_or_default(),
                        message: line.message.unwrap_or_default(),
                        headers: HeaderMap::new(),
                    }))
                })
            }
        };
        failed = failed.or(failure);
    }
    failed.map_or(Ok(left), Err)
}
