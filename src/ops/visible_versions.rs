//! Pages of versions without the state of uploads, as `visible` does it for objects.

use super::{Error, Gateway, StatePlace};
use crate::backend::{VersionPage, VersionQuery};

/// Entries in a page of S3.
const PAGE: i32 = 1000;

impl Gateway {
    /// One page of versions as clients may see it. A page that something hidden takes room from needs one more request at most.
    pub(super) async fn list_visible_versions(&self, query: VersionQuery) -> Result<VersionPage, Error> {
        let place = &self.multipart.place;
        let Some(prefix) = place.prefix() else { return Ok(self.backend.list_object_versions(query).await?) };
        let mut page = self.backend.list_object_versions(query.clone()).await?;
        let room = query.max_keys.or(page.max_keys).unwrap_or(PAGE).min(PAGE);
        let ends_hidden = last_name(&page).is_none_or(|last| place.hides_key(last));
        let hidden = hide(&mut page, place);
        if hidden == 0 || !page.is_truncated || room == 0 {
            return Ok(page);
        }
        let (key_marker, version_id_marker) = match ends_hidden {
            // A marker without a version goes on behind the whole key.
            true => (Some(format!("{prefix}{}", char::MAX)), None),
            false => (page.next_key_marker.clone(), page.next_version_id_marker.clone()),
        };
        let shown = i32::try_from(count(&page)).unwrap_or(room);
        let rest = VersionQuery { max_keys: Some(room - shown), key_marker, version_id_marker, ..query };
        let mut more = self.backend.list_object_versions(rest).await?;
        hide(&mut more, place);
        page.versions.extend(more.versions);
        page.delete_markers.extend(more.delete_markers);
        page.common_prefixes.extend(more.common_prefixes);
        page.is_truncated = more.is_truncated;
        page.next_key_marker = more.next_key_marker;
        page.next_version_id_marker = more.next_version_id_marker;
        Ok(page)
    }
}

/// The name with which a page ends.
fn last_name(page: &VersionPage) -> Option<&str> {
    let version = page.versions.last().map(|version| version.entry.key.as_str());
    let marker = page.delete_markers.last().map(|marker| marker.key.as_str());
    version.max(marker).max(page.common_prefixes.last().map(String::as_str))
}

fn count(page: &VersionPage) -> usize {
    page.versions.len() + page.delete_markers.len() + page.common_prefixes.len()
}

/// Takes out what is hidden. Returns how much that was.
fn hide(page: &mut VersionPage, place: &StatePlace) -> usize {
    let before = count(page);
    page.versions.retain(|version| !place.hides_key(&version.entry.key));
    page.delete_markers.retain(|marker| !place.hides_key(&marker.key));
    page.common_prefixes.retain(|prefix| !place.hides_key(prefix));
    before - count(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::DeleteMarker;

    #[test]
    fn markers_and_prefixes_of_the_state_are_taken_out() {
        let marker = |key: &str| DeleteMarker {
            key: key.to_owned(),
            version_id: None,
            is_latest: None,
            last_modified: None,
            owner: None,
        };
        let mut page = VersionPage {
            delete_markers: vec![marker("a"), marker(".ciphergate/u/r")],
            common_prefixes: vec![".ciphergate/".to_owned(), "z/".to_owned()],
            ..VersionPage::default()
        };
        assert_eq!(last_name(&page), Some("z/"));
        assert_eq!(hide(&mut page, &StatePlace::default()), 2);
        assert_eq!((page.delete_markers.len(), page.common_prefixes), (1, vec!["z/".to_owned()]));
    }
}
