//! What there is below a prefix, page by page, in the order of keys.
//!
//! A walk can begin behind any key, which is all that a journal has to remember. What uploads keep is left out, as listings leave it out,
//! and so are delete markers, which hold nothing.

use futures::Stream;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::{Stop, Target};
use crate::backend::{ListEntry, ListQuery, Paging, VersionQuery};
use crate::bulk::patience::Patience;
use crate::ops::{Error, Gateway, StatePlace};

/// An object, or a version of one, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub key: String,
    /// `None` where versions are not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The version that a read without a version id gives.
    pub is_latest: bool,
    /// Bytes in the store, sealed or not.
    pub stored_size: u64,
}

/// Which versions are walked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// What a read without a version id gives.
    Current,
    /// Every version there is, the newest of a key first.
    All,
}

/// Where a walk is to go.
#[derive(Clone, Debug)]
pub struct Walk {
    pub target: Target,
    pub versions: Versions,
    /// Behind this key, with all its versions.
    pub after: Option<String>,
}

/// Where the next page begins.
enum Next {
    Objects { token: Option<String>, after: Option<String> },
    Versions { key: Option<String>, version_id: Option<String> },
}

impl Walk {
    /// The pages, each asked for when the one before has been taken. It ends with the first page that cannot be had.
    pub fn pages(self, gateway: Gateway, patience: Patience, stop: Stop) -> impl Stream<Item = Result<Vec<Entry>, Error>> + Send {
        let Self { target, versions, after } = self;
        let start = match versions {
            Versions::Current => Next::Objects { token: None, after },
            Versions::All => Next::Versions { key: after, version_id: None },
        };
        futures::stream::unfold(Some(start), move |next| {
            let (gateway, target, patience, stop) = (gateway.clone(), target.clone(), patience, stop.clone());
            async move {
                let next = next?;
                match patience.keep_asking(&stop, || page(&gateway, &target, &next)).await {
                    Ok((entries, next)) => Some((Ok(entries), next)),
                    Err(error) => Some((Err(error), None)),
                }
            }
        })
    }
}

async fn page(gateway: &Gateway, target: &Target, next: &Next) -> Result<(Vec<Entry>, Option<Next>), Error> {
    let (bucket, prefix) = (target.bucket.clone(), (!target.key.is_empty()).then(|| target.key.clone()));
    let place = gateway.place();
    match next {
        Next::Objects { token, after } => {
            let query = ListQuery {
                bucket,
                prefix,
                delimiter: None,
                max_keys: None,
                headers: HeaderMap::new(),
                // A token remembers where the listing began.
                paging: Paging::V2 {
                    continuation_token: token.clone(),
                    start_after: after.clone().filter(|_| token.is_none()),
                    fetch_owner: None,
                },
            };
            let page = gateway.store().list_objects(query).await?;
            let next = page.next.filter(|_| page.is_truncated).map(|token| Next::Objects { token: Some(token), after: None });
            let entries = page.entries.into_iter().map(|listed| entry(listed, None, true));
            Ok((entries.filter(|entry| is_shown(place, entry)).collect(), next))
        }
        Next::Versions { key, version_id } => {
            let query = VersionQuery {
                bucket,
                prefix,
                delimiter: None,
                max_keys: None,
                key_marker: key.clone(),
                version_id_marker: version_id.clone(),
                headers: HeaderMap::new(),
            };
            let page = gateway.store().list_object_versions(query).await?;
            let next = page
                .next_key_marker
                .filter(|_| page.is_truncated)
                .map(|key| Next::Versions { key: Some(key), version_id: page.next_version_id_marker });
            let entries = page
                .versions
                .into_iter()
                .map(|version| entry(version.entry, version.version_id, version.is_latest.unwrap_or(false)));
            Ok((entries.filter(|entry| is_shown(place, entry)).collect(), next))
        }
    }
}

fn entry(listed: ListEntry, version_id: Option<String>, is_latest: bool) -> Entry {
    let stored_size = listed.sealed_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
    Entry { key: listed.key, version_id, is_latest, stored_size }
}

/// The target's bucket is not the state's: nobody gets here with one that is.
fn is_shown(place: &StatePlace, entry: &Entry) -> bool {
    !place.hides("", Some(&entry.key))
}
