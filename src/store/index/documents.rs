//! Sub-resources of buckets that are kept as they came: a name, an id for those that a bucket has many of, and bytes.

use rusqlite::{OptionalExtension, Transaction, params};

use super::buckets::Bucket;
use crate::store::Error;

/// Keeps a document, in place of the one that was there.
pub(in crate::store) fn put(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    name: &str,
    id: &str,
    body: &[u8],
) -> Result<(), Error> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO documents (bucket, name, id, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![bucket.id, name, id, body])?;
    Ok(())
}

/// Finds a document.
pub(in crate::store) fn get(
    transaction: &Transaction<'_>,
    bucket: &Bucket,
    name: &str,
    id: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let mut statement = transaction.prepare_cached("SELECT body FROM documents WHERE bucket = ?1 AND name = ?2 AND id = ?3")?;
    Ok(statement.query_row(params![bucket.id, name, id], |row| row.get(0)).optional()?)
}

/// All documents of a name, by id.
pub(in crate::store) fn all(transaction: &Transaction<'_>, bucket: &Bucket, name: &str) -> Result<Vec<Vec<u8>>, Error> {
    let mut statement = transaction.prepare_cached("SELECT body FROM documents WHERE bucket = ?1 AND name = ?2 ORDER BY id")?;
    let bodies = statement.query_map(params![bucket.id, name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(bodies)
}

/// Forgets a document and says whether it was there.
pub(in crate::store) fn delete(transaction: &Transaction<'_>, bucket: &Bucket, name: &str, id: &str) -> Result<bool, Error> {
    let gone = transaction
        .prepare_cached("DELETE FROM documents WHERE bucket = ?1 AND name = ?2 AND id = ?3")?
        .execute(params![bucket.id, name, id])?;
    Ok(gone > 0)
}
