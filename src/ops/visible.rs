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

    /// The same for versions and delete markers: in a bucket with versions, what uploads kept is there even when they have ended.
    pub(super) async fn list_visible_versions(&self, query: VersionQuery) -> Result<VersionPage, Error> {
        let place = &self.multipart.place;
        let mut page = self.backend.list_object_versions(query.clone()).await?;
        let Some(prefix) = place.prefix() else { return Ok(page) };
        let room = query.max_keys.or(page.max_keys).unwrap_or(PAGE).min(PAGE);
        let hidden = hide_versions(&mut page, place);
        if hidden == 0 || !page.is_truncated || room == 0 {
            return Ok(page);
        }
        let (key_marker, version_id_marker) = match page.next_key_marker {
            Some(key) if !place.hides_key(&key) => (key, page.next_version_id_marker),
            _ => (behind(prefix), None),
        };
        let shown = i32::try_from(page.versions.len() + page.delete_markers.len() + page.common_prefixes.len()).unwrap_or(room);
        let max_keys = Some(room - shown);
        let rest = VersionQuery { max_keys, key_marker: Some(key_marker), version_id_marker, ..query };
        let mut more = self.backend.list_object_versions(rest).await?;
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

/// A name behind everything of the state, which is named after hexadecimal digits.
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

/// The same for a page of versions.
fn hide_versions(page: &mut VersionPage, place: &StatePlace) -> usize {
    let count = |page: &VersionPage| page.versions.len() + page.delete_markers.len() + page.common_prefixes.len();
    let before = count(page);
    page.versions.retain(|version| !place.hides_key(&version.entry.key));
    page.delete_markers.retain(|marker| !place.hides_key(&marker.key));
    page.common_prefixes.retain(|prefix| !place.hides_key(prefix));
    before - count(page)
}
