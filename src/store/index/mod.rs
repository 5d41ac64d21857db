//! The index: buckets, object versions and multipart uploads in SQLite, every change one transaction.
//!
//! All calls block and belong off the async threads. One connection writes, a small pool of others reads beside it (WAL). The
//! files of this folder hold what is done inside a transaction, one file per table or two.

pub(super) mod buckets;
pub(super) mod conditions;
pub(super) mod contents;
pub(super) mod documents;
pub(super) mod list;
pub(super) mod uploads;
pub(super) mod versions;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};

use super::Error;
use super::bodies::BodyId;

/// The version of the schema below, kept in SQLite's `user_version`. Version 1 was never released: its folders are refused.
const SCHEMA: i64 = 2;

/// What each table is for:
///
/// - `contents`: the bytes of one or more versions, or of a part; a list of `pieces`, each a slice of a body file. Copies share a
///   content, completed uploads are put together of the pieces of their parts: bytes are written once. `segments` are the parts of
///   a content that was uploaded in parts.
/// - `versions`: `latest` is the one that a request without a version id means. Without a `content` it is a delete marker,
///   without a `suffix` the version `null`. `seq` grows, so that of two versions of a key the newer one has the higher.
/// - `uploads` and `parts`: multipart uploads under way. `completed` remembers those that ended, so that Complete can be repeated.
/// - `documents`: sub-resources of buckets that the store keeps without looking into them.
///
/// Keys are blobs: SQLite compares them byte by byte, which is the order of S3.
const TABLES: &str = "
    CREATE TABLE buckets (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        region TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        versioning TEXT,
        lockable INTEGER NOT NULL,
        lock_mode TEXT,
        lock_days INTEGER,
        lock_years INTEGER,
        acl TEXT
    );
    CREATE TABLE documents (
        bucket INTEGER NOT NULL REFERENCES buckets (id),
        name TEXT NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (bucket, name, id)
    ) WITHOUT ROWID;
    CREATE TABLE contents (id INTEGER PRIMARY KEY, size INTEGER NOT NULL);
    CREATE TABLE pieces (
        content INTEGER NOT NULL REFERENCES contents (id),
        offset INTEGER NOT NULL,
        len INTEGER NOT NULL,
        body BLOB NOT NULL,
        body_start INTEGER NOT NULL,
        body_len INTEGER NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (content, position)
    ) WITHOUT ROWID;
    CREATE INDEX pieces_by_body ON pieces (body);
    CREATE TABLE segments (
        content INTEGER NOT NULL REFERENCES contents (id),
        number INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        size INTEGER NOT NULL,
        checksum TEXT,
        PRIMARY KEY (content, number)
    ) WITHOUT ROWID;
    CREATE TABLE versions (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        bucket INTEGER NOT NULL REFERENCES buckets (id),
        key BLOB NOT NULL,
        suffix TEXT,
        latest INTEGER NOT NULL,
        content INTEGER REFERENCES contents (id),
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        parts INTEGER,
        storage_class TEXT,
        headers BLOB NOT NULL,
        tags TEXT,
        acl TEXT,
        lock_mode TEXT,
        retain_until_ms INTEGER,
        legal_hold INTEGER
    );
    CREATE UNIQUE INDEX latest_by_key ON versions (bucket, key) WHERE latest = 1;
    CREATE INDEX versions_by_key ON versions (bucket, key, seq);
    CREATE INDEX versions_by_content ON versions (content);
    CREATE TABLE uploads (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        bucket INTEGER NOT NULL REFERENCES buckets (id),
        key BLOB NOT NULL,
        suffix TEXT NOT NULL,
        initiated_ms INTEGER NOT NULL,
        checksum TEXT,
        checksum_type TEXT,
        storage_class TEXT,
        headers BLOB NOT NULL,
        tags TEXT,
        acl TEXT,
        lock_mode TEXT,
        retain_until_ms INTEGER,
        legal_hold INTEGER
    );
    CREATE INDEX uploads_by_key ON uploads (bucket, key, seq);
    CREATE TABLE parts (
        upload INTEGER NOT NULL REFERENCES uploads (seq),
        number INTEGER NOT NULL,
        content INTEGER NOT NULL REFERENCES contents (id),
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        checksum TEXT,
        PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;
    CREATE INDEX parts_by_content ON parts (content);
    CREATE TABLE completed (
        upload INTEGER PRIMARY KEY,
        suffix TEXT NOT NULL,
        bucket TEXT NOT NULL,
        key BLOB NOT NULL,
        request TEXT NOT NULL,
        etag TEXT NOT NULL,
        version TEXT,
        checksum TEXT,
        completed_ms INTEGER NOT NULL
    );
    CREATE INDEX completed_by_age ON completed (completed_ms);
";

/// Idle read connections that are kept open.
const READERS_MAX: usize = 8;

/// The index of a store.
pub(super) struct Index {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// A connection that returns to the pool.
pub(super) struct Reader<'a> {
    index: &'a Index,
    connection: Option<Connection>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let mut readers = self.index.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS_MAX {
                readers.push(connection);
            }
        }
    }
}

impl Reader<'_> {
    /// A snapshot: everything read through it is of one moment.
    pub(super) fn snapshot(&mut self) -> Result<Transaction<'_>, Error> {
        let connection = self.connection.as_mut().expect("the connection is only taken when the reader is dropped");
        Ok(connection.transaction_with_behavior(TransactionBehavior::Deferred)?)
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.set_prepared_statement_cache_capacity(96);
    Ok(connection)
}

impl Index {
    /// Opens the index file, making it when it is not there.
    pub(super) fn open(path: &Path, fsync: bool) -> Result<Self, Error> {
        let mut writer = connect(path)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        // In WAL mode, NORMAL loses nothing when the process dies; only FULL also survives a power cut.
        writer.pragma_update(None, "synchronous", if fsync { "FULL" } else { "NORMAL" })?;
        writer.pragma_update(None, "wal_autocheckpoint", 4000)?;
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? {
            0 => {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", SCHEMA)?;
            }
            SCHEMA => {}
            other => return Err(Error::OtherSchema(other, SCHEMA)),
        }
        transaction.commit()?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolls it back, so the connection is sound after one.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for reading.
    pub(super) fn reader(&self) -> Result<Reader<'_>, Error> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match spare {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        Ok(Reader { index: self, connection: Some(connection) })
    }

    /// Reads in one snapshot.
    pub(super) fn view<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        work(&self.reader()?.snapshot()?)
    }

    /// Changes the index: all of `work` or, when it fails, nothing.
    pub(super) fn change<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut writer = self.writer();
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = work(&transaction)?;
        transaction.commit()?;
        Ok(outcome)
    }

    /// The names of all bodies in use.
    pub(super) fn bodies(&self) -> Result<HashSet<BodyId>, Error> {
        self.view(|snapshot| {
            let mut statement = snapshot.prepare("SELECT DISTINCT body FROM pieces")?;
            let mut rows = statement.query([])?;
            let mut bodies = HashSet::new();
            while let Some(row) = rows.next()? {
                bodies.insert(body_at(row, 0)?);
            }
            Ok(bodies)
        })
    }
}

/// Eight random bytes in hex: the part of version and upload ids that cannot be guessed.
fn suffix() -> Result<String, Error> {
    let random = getrandom::u64().map_err(std::io::Error::other)?;
    Ok(format!("{random:016x}"))
}

/// An id that tells its place: 16 hex digits of a growing number, so that ids sort by age, and a suffix.
fn id(seq: i64, suffix: &str) -> String {
    format!("{seq:016x}{suffix}")
}

/// The two parts of an id; `None` for what this store never gave out.
fn parse_id(id: &str) -> Option<(i64, &str)> {
    let lower_hex = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if id.len() != 32 || !lower_hex {
        return None;
    }
    let (seq, suffix) = id.split_at(16);
    Some((i64::from_str_radix(seq, 16).ok()?, suffix))
}

fn body_at(row: &Row<'_>, column: usize) -> Result<BodyId, Error> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|_| Error::MalformedRow)?;
    BodyId::from_bytes(bytes).ok_or(Error::MalformedRow)
}

fn size_at(row: &Row<'_>, column: usize) -> Result<u64, Error> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| Error::MalformedRow)
}

fn key_at(row: &Row<'_>, column: usize) -> Result<String, Error> {
    let key = row.get_ref(column)?.as_blob().map_err(|_| Error::MalformedRow)?;
    Ok(std::str::from_utf8(key).map_err(|_| Error::MalformedRow)?.to_owned())
}

/// A size as SQLite keeps it.
fn sqlite_size(size: u64) -> Result<i64, Error> {
    i64::try_from(size).map_err(|_| Error::MalformedRow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_place() {
        let first = id(255, &suffix().unwrap());
        assert_eq!(first.len(), 32);
        assert!(first < id(256, "0000000000000000"));
        assert_eq!(parse_id(&id(255, "00000000000000aa")), Some((255, "00000000000000aa")));
        for wrong in ["", "null", "00000000000000ff", "00000000000000FF00000000000000aa", "ffffffffffffffff00000000000000aa"] {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn another_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.sqlite3");
        let index = Index::open(&path, false).unwrap();
        index.writer().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
        drop(index);
        assert!(matches!(Index::open(&path, false), Err(Error::OtherSchema(3, 2))));
    }
}
