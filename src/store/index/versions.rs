//! Rows of versions: which one a request means, how a new one takes the place of an older, and how one is removed.

use rusqlite::{CachedStatement, OptionalExtension, Row, Transaction, params};

use super::buckets::{Bucket, Versioning};
use super::conditions::Conditions;
use super::{contents, id, parse_id, size_at, sqlite_size, suffix};
use crate::store::attributes::Attributes;
use crate::store::bodies::BodyId;
use crate::store::headers::Stored;
use crate::store::lock::{Lock, Mode, Retention};
use crate::store::{Error, now_ms};

/// A version, or a delete marker.
pub(in crate::store) struct Version {
    pub(in crate::store) seq: i64,
    /// `None` is the version `null`.
    pub(in crate::store) id: Option<String>,
    latest: bool,
    /// `None` makes it a delete marker.
    pub(in crate::store) content: Option<i64>,
    pub(in crate::store) size: u64,
    /// Without quotes.
    pub(in crate::store) etag: String,
    pub(in crate::store) modified_ms: i64,
    /// How many parts it was uploaded in, when it was.
    pub(in crate::store) parts: Option<u32>,
    pub(in crate::store) attributes: Attributes,
}

impl Version {
    /// The `ETag` that a condition is compared with.
    fn tag(&self) -> Option<&str> {
        self.content.is_some().then_some(self.etag.as_str())
    }
}

/// A version to be added; without a content it is a delete marker.
pub(in crate::store) struct New<'a> {
    pub(in crate::store) content: Option<i64>,
    pub(in crate::store) size: u64,
    pub(in crate::store) etag: &'a str,
    pub(in crate::store) modified_ms: i64,
    pub(in crate::store) parts: Option<u32>,
    pub(in crate::store) attributes: &'a Attributes,
}

const COLUMNS: &str = "seq, suffix, latest, content, size, etag, modified_ms, parts, storage_class, headers, tags, acl, \
                       lock_mode, retain_until_ms, legal_hold";

fn version_at(row: &Row<'_>) -> Result<Version, Error> {
    let seq = row.get(0)?;
    let suffix: Option<String> = row.get(1)?;
    Ok(Version {
        seq,
        id: suffix.map(|suffix| id(seq, &suffix)),
        latest: row.get(2)?,
        content: row.get(3)?,
        size: size_at(row, 4)?,
        etag: row.get(5)?,
        modified_ms: row.get(6)?,
        parts: row.get(7)?,
        attributes: attributes_at(row, 8)?,
    })
}

/// Seven columns that versions and uploads have in common.
pub(super) fn attributes_at(row: &Row<'_>, first: usize) -> Result<Attributes, Error> {
    let headers = row.get_ref(first + 1)?.as_blob().map_err(|_| Error::MalformedRow)?;
    let mode: Option<String> = row.get(first + 4)?;
    let mode = mode.map(|mode| Mode::of(&mode).ok_or(Error::MalformedRow)).transpose()?;
    let until: Option<i64> = row.get(first + 5)?;
    let retention = mode.zip(until).map(|(mode, until_ms)| Retention { mode, until_ms });
    Ok(Attributes {
        storage_class: row.get(first)?,
        headers: Stored::decode(headers).ok_or(Error::MalformedRow)?,
        tags: row.get(first + 2)?,
        acl: row.get(first + 3)?,
        lock: Lock { retention, legal_hold: row.get(first + 6)? },
    })
}

fn latest(transaction: &Transaction<'_>, bucket: &Bucket, key: &str) -> Result<Option<Version>, Error> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM versions WHERE bucket = ?1 AND key = ?2 AND latest = 1"))?;
    let mut rows = statement.query(params![bucket.id, key.as_bytes()])?;
    rows.next()?.map(version_at).transpose()
}

/// The version `null` of a key.
fn null(transaction: &Transaction<'_>, bucket: &Bucket, key: &str) -> Result<Option<Version>, Error> {
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM versions WHERE bucket = ?1 AND key = ?2 AND suffix IS NULL ORDER BY seq DESC LIMIT 1"
    ))?;
    let mut rows = statement.query(params![bucket.id, key.as_bytes()])?;
    rows.next()?.map(version_at).transpose()
}

/// Finds the version with this id, or the latest. Delete markers are versions, too.
///
/// # Errors
/// [`Error::InvalidVersionId`] for an id that no version ever had.
pub(in crate::store) fn find(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    key: &str,
    version: Option<&str>,
) -> Result<Option<Version>, Error> {
    let Some(asked) = version else { return latest(transaction, bucket, key) };
    if asked == "null" {
        return null(transaction, bucket, key);
    }
    let (seq, suffix) = parse_id(asked).ok_or(Error::InvalidVersionId)?;
    let mut statement: CachedStatement<'_> = transaction
        .prepare_cached(&format!("SELECT {COLUMNS} FROM versions WHERE seq = ?1 AND bucket = ?2 AND key = ?3 AND suffix = ?4"))?;
    let mut rows = statement.query(params![seq, bucket.id, key.as_bytes(), suffix])?;
    rows.next()?.map(version_at).transpose()
}

/// Finds a version that has content, and its content.
///
/// # Errors
/// [`Error::NoSuchKey`], [`Error::NoSuchVersion`], [`Error::DeleteMarker`] and [`Error::InvalidVersionId`].
pub(in crate::store) fn readable(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    key: &str,
    version: Option<&str>,
) -> Result<(Version, i64), Error> {
    let missing = || if version.is_some() { Error::NoSuchVersion } else { Error::NoSuchKey };
    let found = find(transaction, bucket, key, version)?.ok_or_else(missing)?;
    match found.content {
        Some(content) => Ok((found, content)),
        None => Err(Error::DeleteMarker {
            version: bucket.shown(found.id),
            modified_ms: found.modified_ms,
            asked_for: version.is_some(),
        }),
    }
}

/// Whether a version is still there.
pub(in crate::store) fn exists(transaction: &Transaction<'_>, seq: i64) -> Result<bool, Error> {
    let mut statement = transaction.prepare_cached("SELECT 1 FROM versions WHERE seq = ?1")?;
    Ok(statement.query_row([seq], |_| Ok(())).optional()?.is_some())
}

/// Judges a write under these conditions.
///
/// # Errors
/// Those of [`Conditions::check`].
pub(in crate::store) fn check(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    key: &str,
    conditions: &Conditions,
) -> Result<(), Error> {
    if *conditions == Conditions::default() {
        return Ok(());
    }
    conditions.check(latest(transaction, bucket, key)?.as_ref().and_then(Version::tag))
}

/// Adds a version as the latest of its key. In a bucket that keeps no versions it takes the place of the version `null`, whose
/// bodies may die. Returns its id; the version `null` has none, and S3 does not name it in the answer to a write.
pub(in crate::store) fn add(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    key: &str,
    new: &New<'_>,
    dead: &mut Vec<BodyId>,
) -> Result<Option<String>, Error> {
    let replaced = match bucket.versioning {
        Versioning::Never => latest(transaction, bucket, key)?,
        Versioning::Suspended => null(transaction, bucket, key)?,
        Versioning::Enabled => None,
    };
    transaction
        .prepare_cached("UPDATE versions SET latest = 0 WHERE bucket = ?1 AND key = ?2 AND latest = 1")?
        .execute(params![bucket.id, key.as_bytes()])?;
    let suffix = (bucket.versioning == Versioning::Enabled).then(suffix).transpose()?;
    let Attributes { storage_class, headers, tags, acl, lock } = new.attributes;
    transaction
        .prepare_cached(
            "INSERT INTO versions (bucket, key, suffix, latest, content, size, etag, modified_ms, parts, storage_class, headers, \
             tags, acl, lock_mode, retain_until_ms, legal_hold) \
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            bucket.id,
            key.as_bytes(),
            suffix,
            new.content,
            sqlite_size(new.size)?,
            new.etag,
            new.modified_ms,
            new.parts,
            storage_class,
            headers.encode(),
            tags,
            acl,
            lock.retention.map(|retention| retention.mode.name()),
            lock.retention.map(|retention| retention.until_ms),
            lock.legal_hold,
        ])?;
    let seq = transaction.last_insert_rowid();
    // After the new version is there: it may be a copy that shares the content of the one it replaces.
    if let Some(replaced) = replaced {
        forget(transaction, &replaced, dead)?;
    }
    Ok(suffix.map(|suffix| id(seq, &suffix)))
}

fn forget(transaction: &Transaction<'_>, version: &Version, dead: &mut Vec<BodyId>) -> Result<(), Error> {
    transaction.prepare_cached("DELETE FROM versions WHERE seq = ?1")?.execute([version.seq])?;
    match version.content {
        Some(content) => contents::release(transaction, content, dead),
        None => Ok(()),
    }
}

/// A delete of one key, or of one version of it.
#[derive(Default)]
pub(in crate::store) struct Delete {
    pub(in crate::store) key: String,
    pub(in crate::store) version: Option<String>,
    pub(in crate::store) conditions: Conditions,
    /// Remove what is under governance retention, too.
    pub(in crate::store) bypass: bool,
}

/// What a delete did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Deleted {
    /// A delete marker was added or removed.
    pub(in crate::store) marker: bool,
    /// The id of the marker that was added or of the version that was removed.
    pub(in crate::store) version: Option<String>,
}

/// Deletes: without a version id, a bucket with versions gets a delete marker; with one, the version is removed for good.
///
/// # Errors
/// Those of [`Conditions::check`], [`Error::InvalidVersionId`], and `AccessDenied` for a version under a lock.
pub(in crate::store) fn delete(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    delete: &Delete,
    dead: &mut Vec<BodyId>,
) -> Result<Deleted, Error> {
    let found = find(transaction, bucket, &delete.key, delete.version.as_deref())?;
    delete.conditions.check(found.as_ref().and_then(Version::tag))?;
    if delete.version.is_none() && bucket.versioning != Versioning::Never {
        let marker =
            New { content: None, size: 0, etag: "", modified_ms: now_ms(), parts: None, attributes: &Attributes::default() };
        let version = add(transaction, bucket, &delete.key, &marker, dead)?;
        return Ok(Deleted { marker: true, version: bucket.shown(version) });
    }
    let Some(found) = found else { return Ok(Deleted { marker: false, version: delete.version.clone() }) };
    found.attributes.lock.check_removal(delete.bypass)?;
    forget(transaction, &found, dead)?;
    if found.latest {
        transaction
            .prepare_cached(
                "UPDATE versions SET latest = 1 \
                 WHERE seq = (SELECT max(seq) FROM versions WHERE bucket = ?1 AND key = ?2)",
            )?
            .execute(params![bucket.id, delete.key.as_bytes()])?;
    }
    let marker = found.content.is_none();
    Ok(Deleted { marker, version: delete.version.as_ref().and_then(|_| bucket.shown(found.id)) })
}

/// Replaces the tags of a version.
pub(in crate::store) fn set_tags(transaction: &Transaction<'_>, seq: i64, tags: Option<&str>) -> Result<(), Error> {
    transaction.prepare_cached("UPDATE versions SET tags = ?2 WHERE seq = ?1")?.execute(params![seq, tags])?;
    Ok(())
}

/// Replaces the canned ACL of a version; `None` is private.
pub(in crate::store) fn set_acl(transaction: &Transaction<'_>, seq: i64, acl: Option<&str>) -> Result<(), Error> {
    transaction.prepare_cached("UPDATE versions SET acl = ?2 WHERE seq = ?1")?.execute(params![seq, acl])?;
    Ok(())
}

/// Replaces the locks of a version.
pub(in crate::store) fn set_lock(transaction: &Transaction<'_>, seq: i64, lock: &Lock) -> Result<(), Error> {
    transaction
        .prepare_cached("UPDATE versions SET lock_mode = ?2, retain_until_ms = ?3, legal_hold = ?4 WHERE seq = ?1")?
        .execute(params![
            seq,
            lock.retention.map(|retention| retention.mode.name()),
            lock.retention.map(|retention| retention.until_ms),
            lock.legal_hold
        ])?;
    Ok(())
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::super::buckets;
    use super::super::conditions::Test;
    use super::super::contents::Piece;
    use super::*;
    use crate::store::index::Index;

    fn body(name: u8) -> BodyId {
        BodyId::from_bytes(&[name; 16]).unwrap()
    }

    /// An index with a bucket `b`.
    pub(in crate::store) fn index() -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite3"), false).unwrap();
        index.create_bucket(&buckets::New { name: "b".into(), ..buckets::New::default() }).unwrap();
        (dir, index)
    }

    /// Puts an object whose `ETag` is the number of its body. Returns its version id and the bodies that died.
    pub(in crate::store) fn put(index: &Index, key: &str, name: u8) -> (Option<String>, Vec<BodyId>) {
        index
            .change(|transaction| {
                let mut dead = Vec::new();
                let bucket = buckets::find(transaction, "b")?;
                let content = contents::make(transaction, &[Piece::whole(body(name), 5)])?;
                let attributes = Attributes::default();
                let etag = name.to_string();
                let new =
                    New { content: Some(content), size: 5, etag: &etag, modified_ms: 1, parts: None, attributes: &attributes };
                Ok((add(transaction, &bucket, key, &new, &mut dead)?, dead))
            })
            .unwrap()
    }

    fn remove(index: &Index, key: &str, version: Option<&str>) -> Result<(Deleted, Vec<BodyId>), Error> {
        index.change(|transaction| {
            let mut dead = Vec::new();
            let bucket = buckets::find(transaction, "b")?;
            let asked = Delete { key: key.to_owned(), version: version.map(str::to_owned), ..Delete::default() };
            Ok((delete(transaction, &bucket, &asked, &mut dead)?, dead))
        })
    }

    fn etag(index: &Index, key: &str, version: Option<&str>) -> Result<String, Error> {
        index.view(|snapshot| Ok(readable(snapshot, &buckets::find(snapshot, "b")?, key, version)?.0.etag))
    }

    #[test]
    fn without_versions_a_put_replaces() {
        let (_dir, index) = index();
        assert_eq!(put(&index, "k", 1), (None, vec![]));
        assert_eq!(put(&index, "k", 2), (None, vec![body(1)]));
        assert_eq!(etag(&index, "k", None).unwrap(), "2");
        assert_eq!(etag(&index, "k", Some("null")).unwrap(), "2");
        assert!(matches!(etag(&index, "K", None), Err(Error::NoSuchKey)));
        assert!(matches!(etag(&index, "k", Some("no such id")), Err(Error::InvalidVersionId)));
        assert!(matches!(index.delete_bucket("b"), Err(Error::BucketNotEmpty)));
        assert_eq!(remove(&index, "k", None).unwrap(), (Deleted::default(), vec![body(2)]));
        assert_eq!(remove(&index, "k", None).unwrap(), (Deleted::default(), vec![]));
        index.delete_bucket("b").unwrap();
    }

    #[test]
    fn with_versions_nothing_is_lost() {
        let (_dir, index) = index();
        put(&index, "k", 1);
        index.set_versioning("b", Versioning::Enabled).unwrap();
        let (second, dead) = put(&index, "k", 2);
        assert!(dead.is_empty());
        let (marker, dead) = remove(&index, "k", None).unwrap();
        assert!(marker.marker && dead.is_empty());
        assert!(matches!(etag(&index, "k", None), Err(Error::DeleteMarker { asked_for: false, .. })));
        assert!(matches!(etag(&index, "k", marker.version.as_deref()), Err(Error::DeleteMarker { asked_for: true, .. })));
        assert_eq!(etag(&index, "k", second.as_deref()).unwrap(), "2");
        assert_eq!(etag(&index, "k", Some("null")).unwrap(), "1");
        assert!(matches!(etag(&index, "other", second.as_deref()), Err(Error::NoSuchVersion)));
        // Removing the marker brings the version below it back.
        assert!(remove(&index, "k", marker.version.as_deref()).unwrap().0.marker);
        assert_eq!(etag(&index, "k", None).unwrap(), "2");

        index.set_versioning("b", Versioning::Suspended).unwrap();
        assert_eq!(put(&index, "k", 3), (None, vec![body(1)]));
        assert_eq!(etag(&index, "k", None).unwrap(), "3");
        let (gone, dead) = remove(&index, "k", None).unwrap();
        assert_eq!((gone.version.as_deref(), dead), (Some("null"), vec![body(3)]));
        remove(&index, "k", Some("null")).unwrap();
        assert_eq!(remove(&index, "k", second.as_deref()).unwrap().1, [body(2)]);
        index.delete_bucket("b").unwrap();
    }

    #[test]
    fn conditions_decide_inside_the_transaction() {
        let (_dir, index) = index();
        put(&index, "k", 1);
        let judge = |key: &str, conditions: &Conditions| {
            index.view(|snapshot| check(snapshot, &buckets::find(snapshot, "b")?, key, conditions))
        };
        let absent = Conditions { if_none_match: Some(Test::Any), ..Conditions::default() };
        assert!(matches!(judge("k", &absent), Err(Error::PreconditionFailed)));
        judge("other", &absent).unwrap();
        // A delete marker is no object.
        index.set_versioning("b", Versioning::Enabled).unwrap();
        remove(&index, "k", None).unwrap();
        judge("k", &absent).unwrap();
    }
}
