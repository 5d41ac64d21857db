//! Clears away what ended uploads left in the state store (FORMAT section 11, Janitor): the record of a completed upload, kept for
//! repeated requests, and whatever an instance that died or a client that gave up has left. And, where somebody asks for it, the rewrap
//! records of versions that are gone (section 16).
//!
//! An upload that is still there is never touched, however old it is, nor is the record of a version that is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use super::contents::{Pages, delete_all};
use super::is_no_such_upload;
use super::staging::{Kept, Staging, split};
use crate::backend::{BucketsQuery, Error as StoreError, ObjectName, S3Backend, Upload};
use crate::format::{SealedRecord, UploadName, upload_base_name};
use crate::ops::rewrapped::{self, Fate};
use crate::ops::{Error, StatePlace, chain};

/// How long the state of an upload rests before it is looked at, unless somebody asks for less.
pub const REST: Duration = Duration::from_secs(24 * 60 * 60);

/// What to look at, and what to do about it.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Only uploads whose newest object is older than this.
    pub older_than: Duration,
    /// Says what would be removed and removes nothing.
    pub dry_run: bool,
    /// Only these buckets. `None`: all that the store lists, or the state bucket.
    pub buckets: Option<Vec<String>>,
    /// Rewrap records, too. Each costs two requests, every time.
    pub rewrapped: bool,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Report {
    /// Buckets that were looked through.
    pub buckets: u64,
    /// Buckets that this gateway may not list.
    pub buckets_denied: Vec<String>,
    /// Uploads that are under way.
    pub active: u64,
    /// State that has not rested long enough.
    pub young: u64,
    /// Rewrap records of versions that are there.
    pub rewrapped: u64,
    pub removed: Vec<Leftover>,
    pub problems: Vec<Problem>,
}

/// State of an ended upload, or the rewrap record of a version that is gone.
#[derive(Debug)]
pub struct Leftover {
    pub bucket: String,
    /// The base name of what the upload kept, or of the record.
    pub base: String,
    pub owner: Owner,
    /// In a bucket with versions every version counts, and every delete marker.
    pub objects: u64,
    pub bytes: u64,
}

/// Whose state it was.
#[derive(Debug)]
pub enum Owner {
    /// Key of the object and id of the upload, where there is a record.
    Upload(Option<(String, String)>),
    /// Key and id of the version, where the record says them.
    Version(Option<(String, String)>),
}

/// State that could be neither judged nor removed.
#[derive(Debug)]
pub struct Problem {
    pub bucket: String,
    pub base: Option<String>,
    pub detail: String,
}

/// Looks through the state store.
///
/// # Errors
/// The store cannot say which buckets there are. All else is in the report.
pub async fn sweep(backend: &S3Backend, place: &StatePlace, what: &Sweep) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let buckets = match (&what.buckets, place) {
        (Some(named), _) => named.clone(),
        (None, StatePlace::Bucket(own)) => vec![own.clone()],
        (None, StatePlace::Prefix(_)) => all_buckets(backend).await?,
    };
    for bucket in buckets {
        match sweep_bucket(backend, place, what, &bucket, &mut report).await {
            Ok(()) => report.buckets += 1,
            Err(StoreError::Refused(refusal)) if refusal.status == 403 => report.buckets_denied.push(bucket),
            // Removed since it was listed.
            Err(StoreError::Refused(refusal)) if refusal.code == "NoSuchBucket" && what.buckets.is_none() => {}
            Err(error) => report.problems.push(Problem { bucket, base: None, detail: chain(&error) }),
        }
    }
    Ok(report)
}

async fn all_buckets(backend: &S3Backend) -> Result<Vec<String>, StoreError> {
    let (mut names, mut token) = (Vec::new(), None);
    loop {
        let query = BucketsQuery { continuation_token: token, ..BucketsQuery::default() };
        let page = backend.list_buckets(query).await?;
        names.extend(page.buckets.into_iter().map(|bucket| bucket.name));
        token = page.next.filter(|next| !next.is_empty());
        if token.is_none() {
            return Ok(names);
        }
    }
}

/// What one upload keeps, or one rewrap record with its own old versions, as far as it was listed.
struct Group {
    base: String,
    /// Keys and versions.
    keys: Vec<(String, Option<String>)>,
    bytes: u64,
    newest: Option<(i64, u32)>,
    has_record: bool,
    is_rewrapped: bool,
}

async fn sweep_bucket(
    backend: &S3Backend,
    place: &StatePlace,
    what: &Sweep,
    bucket: &str,
    report: &mut Report,
) -> Result<(), StoreError> {
    let (bucket, prefix) = place.of(bucket);
    let has_versions = match backend.has_versions(bucket).await {
        // The store knows no versions, or does not tell us.
        Err(StoreError::Refused(refusal)) if refusal.code != "NoSuchBucket" => false,
        answer => answer?,
    };
    let mut group: Option<Group> = None;
    let mut pages = Pages::new(backend, bucket, prefix, has_versions);
    while let Some(page) = pages.next().await? {
        for entry in page {
            // Whatever else lies there is not ours.
            let Some(name) = entry.key.strip_prefix(prefix) else { continue };
            let rewrapped = rewrapped::base_of(name).filter(|_| what.rewrapped);
            let Some((base, kept)) = split(name).or(rewrapped.map(|base| (base, Kept::Record))) else { continue };
            let is_rewrapped = rewrapped.is_some();
            if group.as_ref().is_none_or(|group| group.base != base || group.is_rewrapped != is_rewrapped) {
                let next =
                    Group { base: base.to_owned(), keys: Vec::new(), bytes: 0, newest: None, has_record: false, is_rewrapped };
                if let Some(done) = group.replace(next) {
                    judge(backend, place, what, bucket, done, report).await;
                }
            }
            if let Some(group) = &mut group {
                group.bytes += entry.bytes;
                group.newest = group.newest.max(entry.last_modified);
                group.has_record |= kept == Kept::Record;
                group.keys.push((entry.key, entry.version_id));
            }
        }
    }
    if let Some(done) = group {
        judge(backend, place, what, bucket, done, report).await;
    }
    Ok(())
}

async fn judge(backend: &S3Backend, place: &StatePlace, what: &Sweep, bucket: &str, group: Group, report: &mut Report) {
    if !is_older(group.newest, what.older_than) {
        report.young += 1;
        return;
    }
    let owner = match group.is_rewrapped {
        true => rewrapped::fate(backend, place, bucket, &group.base).await.map(|fate| match fate {
            Fate::Lives => None,
            Fate::Gone(name) => Some(Owner::Version(name.map(|name| (name.key, name.version_id)))),
        }),
        false => ended(backend, place, bucket, &group).await.map(|ended| {
            let name = |upload: UploadName| (upload.key, upload.upload_id);
            ended.map(|upload| Owner::Upload(upload.map(name)))
        }),
    };
    let owner = match owner {
        Ok(Some(owner)) => owner,
        Ok(None) => {
            *if group.is_rewrapped { &mut report.rewrapped } else { &mut report.active } += 1;
            return;
        }
        Err(error) => {
            let problem = Problem { bucket: bucket.to_owned(), base: Some(group.base), detail: chain(&error) };
            report.problems.push(problem);
            return;
        }
    };
    let left = Leftover {
        bucket: bucket.to_owned(),
        base: group.base.clone(),
        owner,
        objects: group.keys.len() as u64,
        bytes: group.bytes,
    };
    if !what.dry_run
        && let Err(error) = delete_all(backend, bucket, group.keys).await
    {
        report.problems.push(Problem { bucket: bucket.to_owned(), base: Some(group.base), detail: chain(&error) });
        return;
    }
    report.removed.push(left);
}

/// `None` when the upload is under way; otherwise which one it was, if that is known.
async fn ended(
    backend: &S3Backend,
    place: &StatePlace,
    bucket: &str,
    group: &Group,
) -> Result<Option<Option<UploadName>>, Error> {
    if !group.has_record {
        return Ok(Some(None));
    }
    let staging = Staging::new(backend, place, bucket, &group.base);
    let Some(record) = staging.record().await? else { return Ok(Some(None)) };
    let name = SealedRecord::parse(&record)?.name().clone();
    if upload_base_name(&name)? != group.base || place.of(&name.bucket).0 != bucket {
        return Err(Error::Integrity("an upload record belongs to another upload".into()));
    }
    let object = ObjectName { bucket: name.bucket.clone(), key: name.key.clone() };
    let upload = Upload { object, id: name.upload_id.clone() };
    match backend.list_parts(upload, 0, 1, HeaderMap::new()).await {
        Ok(_) => Ok(None),
        Err(error) if is_no_such_upload(&error) => Ok(Some(Some(name))),
        Err(StoreError::Refused(refusal)) if refusal.code == "NoSuchBucket" => Ok(Some(Some(name))),
        Err(error) => Err(error.into()),
    }
}

/// Whether it was so long ago. What has no time is as old as can be.
fn is_older(at: Option<(i64, u32)>, than: Duration) -> bool {
    let Some((secs, _)) = at else { return true };
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    // Clocks differ: what seems to come from the future is new.
    than.is_zero() || SystemTime::now().duration_since(at).is_ok_and(|age| age >= than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_rested_is_old() {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        assert!(is_older(Some((now - 86_401, 0)), REST));
        assert!(!is_older(Some((now - 86_000, 0)), REST));
        assert!(!is_older(Some((now + 60, 0)), REST));
        assert!(is_older(Some((now + 60, 0)), Duration::ZERO));
        assert!(is_older(None, REST));
    }
}
