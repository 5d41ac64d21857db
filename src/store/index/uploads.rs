//! Rows of multipart uploads: what was begun, which parts arrived, and which uploads were completed lately.

use rusqlite::{Transaction, params};

use super::buckets::Bucket;
use super::versions::attributes_at;
use super::{contents, id, parse_id, size_at, sqlite_size, suffix};
use crate::store::attributes::Attributes;
use crate::store::bodies::BodyId;
use crate::store::{Error, now_ms};

/// How long a completed upload is remembered, in milliseconds.
const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1000;

/// An upload under way.
pub(in crate::store) struct Upload {
    pub(super) seq: i64,
    pub(in crate::store) attributes: Attributes,
    /// The algorithm that its parts are checked with, as S3 names it.
    pub(in crate::store) checksum: Option<String>,
    /// `COMPOSITE` or `FULL_OBJECT`.
    pub(in crate::store) checksum_type: Option<String>,
}

/// A part that arrived.
#[derive(Debug, Clone)]
pub(in crate::store) struct Part {
    pub(in crate::store) number: u32,
    pub(in crate::store) content: i64,
    pub(in crate::store) size: u64,
    /// Without quotes.
    pub(in crate::store) etag: String,
    pub(in crate::store) modified_ms: i64,
    /// In base64, of the algorithm of the upload.
    pub(in crate::store) checksum: Option<String>,
}

/// Begins an upload and returns its id.
pub(in crate::store) fn begin(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    key: &str,
    attributes: &Attributes,
    checksum: Option<&str>,
    checksum_type: Option<&str>,
) -> Result<String, Error> {
    let suffix = suffix()?;
    let Attributes { storage_class, headers, tags, acl, lock } = attributes;
    transaction
        .prepare_cached(
            "INSERT INTO uploads (bucket, key, suffix, initiated_ms, checksum, checksum_type, storage_class, headers, tags, acl, \
             lock_mode, retain_until_ms, legal_hold) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            bucket.id,
            key.as_bytes(),
            suffix,
            now_ms(),
            checksum,
            checksum_type,
            storage_class,
            headers.encode(),
            tags,
            acl,
            lock.retention.map(|retention| retention.mode.name()),
            lock.retention.map(|retention| retention.until_ms),
            lock.legal_hold,
        ])?;
    Ok(id(transaction.last_insert_rowid(), &suffix))
}

/// Finds an upload of this key.
///
/// # Errors
/// [`Error::NoSuchUpload`].
pub(in crate::store) fn find(transaction: &Transaction<'_>, bucket: &Bucket, key: &str, upload: &str) -> Result<Upload, Error> {
    let (seq, suffix) = parse_id(upload).ok_or(Error::NoSuchUpload)?;
    let mut statement = transaction.prepare_cached(
        "SELECT checksum, checksum_type, storage_class, headers, tags, acl, lock_mode, retain_until_ms, legal_hold \
         FROM uploads WHERE seq = ?1 AND bucket = ?2 AND key = ?3 AND suffix = ?4",
    )?;
    let mut rows = statement.query(params![seq, bucket.id, key.as_bytes(), suffix])?;
    let row = rows.next()?.ok_or(Error::NoSuchUpload)?;
    Ok(Upload { seq, checksum: row.get(0)?, checksum_type: row.get(1)?, attributes: attributes_at(row, 2)? })
}

/// Adds a part, in place of the one with its number, whose bodies may die.
pub(in crate::store) fn add_part(
    transaction: &Transaction<'_>,
    upload: &Upload,
    part: &Part,
    dead: &mut Vec<BodyId>,
) -> Result<(), Error> {
    let replaced = parts(transaction, upload, part.number - 1, 1)?.pop().filter(|old| old.number == part.number);
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO parts (upload, number, content, size, etag, modified_ms, checksum) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            upload.seq,
            part.number,
            part.content,
            sqlite_size(part.size)?,
            part.etag,
            part.modified_ms,
            part.checksum
        ])?;
    match replaced {
        Some(replaced) => contents::release(transaction, replaced.content, dead),
        None => Ok(()),
    }
}

/// At most `max` parts with numbers above `after`, in their order.
pub(in crate::store) fn parts(
    transaction: &Transaction<'_>,
    upload: &Upload,
    after: u32,
    max: usize,
) -> Result<Vec<Part>, Error> {
    let mut statement = transaction.prepare_cached(
        "SELECT number, content, size, etag, modified_ms, checksum FROM parts \
         WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![upload.seq, after, max])?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        parts.push(Part {
            number: row.get(0)?,
            content: row.get(1)?,
            size: size_at(row, 2)?,
            etag: row.get(3)?,
            modified_ms: row.get(4)?,
            checksum: row.get(5)?,
        });
    }
    Ok(parts)
}

/// Ends an upload: its parts are forgotten, and bodies that no version has taken over die.
pub(in crate::store) fn remove(transaction: &Transaction<'_>, upload: &Upload, dead: &mut Vec<BodyId>) -> Result<(), Error> {
    let parts = parts(transaction, upload, 0, usize::MAX)?;
    transaction.prepare_cached("DELETE FROM parts WHERE upload = ?1")?.execute([upload.seq])?;
    for part in parts {
        contents::release(transaction, part.content, dead)?;
    }
    transaction.prepare_cached("DELETE FROM uploads WHERE seq = ?1")?.execute([upload.seq])?;
    Ok(())
}

/// Ends all uploads of a bucket. Returns the bodies that died.
pub(super) fn remove_all(transaction: &Transaction<'_>, bucket: &Bucket) -> Result<Vec<BodyId>, Error> {
    let mut statement = transaction.prepare_cached("SELECT seq FROM uploads WHERE bucket = ?1")?;
    let all: Vec<i64> = statement.query_map([bucket.id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut dead = Vec::new();
    for seq in all {
        let upload = Upload { seq, attributes: Attributes::default(), checksum: None, checksum_type: None };
        remove(transaction, &upload, &mut dead)?;
    }
    Ok(dead)
}

/// What was answered to the Complete of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Completed {
    /// What was asked for, so that only the same request gets the same answer.
    pub(in crate::store) request: String,
    pub(in crate::store) etag: String,
    pub(in crate::store) version: Option<String>,
    pub(in crate::store) checksum: Option<String>,
}

/// Remembers how an upload was completed, and forgets what is long past.
pub(in crate::store) fn remember(
    transaction: &Transaction<'_>,
    bucket: &str,
    key: &str,
    upload: &str,
    completed: &Completed,
) -> Result<(), Error> {
    let (seq, suffix) = parse_id(upload).ok_or(Error::NoSuchUpload)?;
    let now = now_ms();
    transaction.prepare_cached("DELETE FROM completed WHERE completed_ms < ?1")?.execute([now - REMEMBERED_MS])?;
    transaction
        .prepare_cached(
            "INSERT INTO completed (upload, suffix, bucket, key, request, etag, version, checksum, completed_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            seq,
            suffix,
            bucket,
            key.as_bytes(),
            completed.request,
            completed.etag,
            completed.version,
            completed.checksum,
            now
        ])?;
    Ok(())
}

/// How an upload was completed, when it was lately.
pub(in crate::store) fn completed(
    transaction: &Transaction<'_>,
    bucket: &str,
    key: &str,
    upload: &str,
) -> Result<Option<Completed>, Error> {
    let Some((seq, suffix)) = parse_id(upload) else { return Ok(None) };
    let mut statement = transaction.prepare_cached(
        "SELECT request, etag, version, checksum FROM completed WHERE upload = ?1 AND suffix = ?2 AND bucket = ?3 AND key = ?4",
    )?;
    let mut rows = statement.query(params![seq, suffix, bucket, key.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Completed { request: row.get(0)?, etag: row.get(1)?, version: row.get(2)?, checksum: row.get(3)? }))
}
