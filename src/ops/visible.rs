//! Pages of a listing without the state of uploads, where that lies under a prefix in the bucket.
//!
//! What is hidden stands together in the order of names, so a page that it takes room from needs one more request at most, and a
//! page without it none.

use super::{Error, Gateway, StatePlace};
use crate::backend::{ListQuery, Listing, Paging, VersionPage, VersionQuery};

/// Entries in a page of S3.
const PAGE: i32 = 1000;

impl Gateway {
    /// One page of a listing as clients may see it.
    pub(super) async fn list_visible(&self, query: ListQuery) -> Result<Listing, Error> {
        let place = &self.multipart.place;
        let Some(prefix) = place.prefix() else { return Ok(self.backend.list_objects(query).await?) };
        let mut page = self.backend.list_objects(query.clone()).await?;
        let room = query.max_keys.or(page.max_keys).unwrap_or(PAGE).min(PAGE);
        let end = End::of(&page, place);
        let hidden = hide(&mut page, place);
        if hidden == 0 || !page.is_truncated || room == 0 {
            return Ok(page);
        }
        let behind = behind(prefix);
        let paging = match (query.paging.clone(), end) {
            (Paging::V1 { .. }, End::Hidden) => Paging::V1 { marker: Some(behind) },
            (Paging::V1 { .. }, End::Shown(last)) => Paging::V1 { marker: Some(page.next.clone().unwrap_or(last)) },
            (Paging::V2 { fetch_owner, .. }, End::Hidden) => {
                Paging::V2 { continuation_token: None, start_after: Some(behind), fetch_owner }
            }
            (Paging::V2 { fetch_owner, .. }, End::Shown(_)) => {
                Paging::V2 { continuation_token: page.next.clone(), start_after: None, fetch_owner }
            }
        };
        let shown = i32::try_from(page.entries.len() + page.common_prefixes.len()).unwrap_or(room);
        let mut more = self.backend.list_objects(ListQuery { max_keys: Some(room - shown), paging, ..query }).await?;
        hide(&mut more, place);
        page.entries.extend(more.entries);
        page.common_prefixes.extend(more.common_prefixes);
        page.key_count = None;
        page.is_truncated = more.is_truncated;
        page.next = more.next;
        Ok(page)
    }

    /// One page of versions as clients may see it.
    pub(super) async fn list_visible_versions(&self, query: VersionQuery) -> Result<VersionPage, Error> {
        let place = &self.multipart.place;
        let Some(prefix) = place.prefix() else { return Ok(self.backend.list_object_versions(query).await?) };
        let mut page = self.backend.list_object_versions(query.clone()).await?;
        let room = query.max_keys.or(page.max_keys).unwrap_or(PAGE).min(PAGE);
        let ends_hidden = place.hides_key(last_name(&page).unwrap_or_default());
        let hidden = hide_versions(&mut page, place);
        if hidden == 0 || !page.is_truncated || room == 0 {
            return Ok(page);
        }
        let (key_marker, version_id_marker) = match ends_hidden {
            true => (Some(behind(prefix)), None),
            false => (page.next_key_marker.take(), page.next_version_id_marker.take()),
        };
        let shown = i32::try_from(count(&page)).unwrap_or(room);
        let more = VersionQuery { max_keys: Some(room - shown), key_marker, version_id_marker, ..query };
        let mut more = self.backend.list_object_versions(more).await?;
        hide_versions(&mut more, place);
        page.versions.extend(more.versions);
        page.delete_markers.extend(more.delete_markers);
        page.common_prefixes.extend(more.common_prefixes);
        page.is_truncated = more.is_truncated;
        page.next_key_marker = more.next_key_marker;
        page.next_version_id_marker = more.next_version_id_marker;
        Ok(page)
    }
}

/// A name behind everything in the state store, whose names begin with hexadecimal digits or `v`.
fn behind(prefix: &str) -> String {
    format!("{prefix}~")
}

/// Where a page ends.
enum End {
    Hidden,
    Shown(String),
}

impl End {
    fn of(page: &Listing, place: &StatePlace) -> Self {
        let key = page.entries.last().map(|entry| entry.key.as_str());
        let prefix = page.common_prefixes.last().map(String::as_str);
        match key.max(prefix) {
            Some(last) if !place.hides_key(last) => Self::Shown(last.to_owned()),
            _ => Self::Hidden,
        }
    }
}

/// Takes out what is hidden. Returns how much that was.
fn hide(page: &mut Listing, place: &StatePlace) -> usize {
    let before = page.entries.len() + page.common_prefixes.len();
    page.entries.retain(|entry| !place.hides_key(&entry.key));
    page.common_prefixes.retain(|prefix| !place.hides_key(prefix));
    let hidden = before - page.entries.len() - page.common_prefixes.len();
    if hidden > 0 {
        // Counted anew from what is shown.
        page.key_count = None;
    }
    hidden
}

/// The name that a page of versions ends with.
fn last_name(page: &VersionPage) -> Option<&str> {
    let version = page.versions.last().map(|version| version.entry.key.as_str());
    let marker = page.delete_markers.last().map(|marker| marker.key.as_str());
    let prefix = page.common_prefixes.last().map(String::as_str);
    version.max(marker).max(prefix)
}

/// What counts towards the size of a page of versions.
fn count(page: &VersionPage) -> usize {
    page.versions.len() + page.delete_markers.len() + page.common_prefixes.len()
}

/// Takes out what is hidden. Returns how much that was.
fn hide_versions(page: &mut VersionPage, place: &StatePlace) -> usize {
    let before = count(page);
    page.versions.retain(|version| !place.hides_key(&version.entry.key));
    page.delete_markers.retain(|marker| !place.hides_key(&marker.key));
    page.common_prefixes.retain(|prefix| !place.hides_key(prefix));
    before - count(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{DeleteMarker, ListEntry, ObjectVersion};

    fn version(key: &str) -> ObjectVersion {
        let entry = ListEntry {
            key: key.to_owned(),
            sealed_size: None,
            etag: None,
            last_modified: None,
            storage_class: None,
            owner: None,
            restore: None,
        };
        ObjectVersion { entry, version_id: None, is_latest: None }
    }

    fn marker(key: &str) -> DeleteMarker {
        DeleteMarker { key: key.to_owned(), version_id: None, is_latest: None, last_modified: None, owner: None }
    }

    #[test]
    fn versions_markers_and_prefixes_of_the_state_are_taken_out() {
        let place = StatePlace::default();
        let mut page = VersionPage {
            versions: vec![version("-"), version(".ciphergate"), version(".ciphergate/a/r"), version(".d")],
            delete_markers: vec![marker(".ciphergate/a/r"), marker(".ciphergate/b/r"), marker("z")],
            common_prefixes: vec![".ciphergate/".to_owned(), "dir/".to_owned()],
            ..VersionPage::default()
        };
        assert_eq!(last_name(&page), Some("z"));
        assert_eq!(hide_versions(&mut page, &place), 4);
        let versions: Vec<_> = page.versions.iter().map(|version| version.entry.key.as_str()).collect();
        assert_eq!(versions, ["-", ".ciphergate", ".d"]);
        assert_eq!((page.delete_markers.len(), page.delete_markers[0].key.as_str()), (1, "z"));
        assert_eq!(page.common_prefixes, ["dir/"]);
        assert_eq!(hide_versions(&mut page, &place), 0);
        assert_eq!(hide_versions(&mut page, &StatePlace::Bucket("state".to_owned())), 0);
    }

    #[test]
    fn the_end_of_a_page_of_versions_is_the_last_of_any_kind() {
        assert_eq!(last_name(&VersionPage::default()), None);
        let versions = vec![version("a"), version("b")];
        assert_eq!(last_name(&VersionPage { versions, ..VersionPage::default() }), Some("b"));
        let page = VersionPage { versions: vec![version("b")], delete_markers: vec![marker("c")], ..VersionPage::default() };
        assert_eq!(last_name(&page), Some("c"));
    }
}
