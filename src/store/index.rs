//! The index: buckets and object versions in SQLite, every change one transaction.
//!
//! All calls block and belong off the async threads. One connection writes, a small pool of others reads beside it (WAL).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::bodies::BodyId;
use super::headers::Stored;
use super::{Error, now_ms};

/// The version of the schema below, kept in SQLite's `user_version`.
const SCHEMA: i64 = 1;

/// One row per version of an object, `current` being the one that a request without a version id means. There is one version per
/// key for now. Keys are blobs: SQLite compares them byte by byte, which is the order of S3.
const TABLES: &str = "
    CREATE TABLE buckets (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        region TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    );
    CREATE TABLE versions (
        seq INTEGER PRIMARY KEY,
        bucket INTEGER NOT NULL REFERENCES buckets (id),
        key BLOB NOT NULL,
        current INTEGER NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        storage_class TEXT,
        headers BLOB NOT NULL,
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX current_by_key ON versions (bucket, key) WHERE current = 1;
";

/// Idle read connections that are kept open.
const READERS_MAX: usize = 8;

/// The index of a store.
pub(super) struct Index {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// A bucket as listed.
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) created_ms: i64,
}

/// An object as stored.
pub(super) struct Object {
    pub(super) size: u64,
    /// Without quotes.
    pub(super) etag: String,
    pub(super) modified_ms: i64,
    /// `None` is STANDARD.
    pub(super) storage_class: Option<String>,
    pub(super) headers: Stored,
    pub(super) body: BodyId,
}

/// An object as listed.
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) modified_ms: i64,
    pub(super) storage_class: Option<String>,
}

/// What became of a delete.
pub(super) struct Deleted {
    /// Bodies that nothing names any more; the caller removes them.
    pub(super) bodies: Vec<BodyId>,
    /// One for each key, in the order asked.
    pub(super) outcomes: Vec<Result<(), Error>>,
}

/// What a condition compares the current `ETag` with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// `*`: there is an object.
    Any,
    /// The object has this `ETag` (without quotes).
    Is(String),
}

impl Test {
    pub(super) fn holds(&self, etag: Option<&str>) -> bool {
        match (self, etag) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Is(wanted), Some(etag)) => wanted == etag,
        }
    }
}

/// The conditions of a write, checked in the transaction that performs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) if_match: Option<Test>,
    pub(super) if_none_match: Option<Test>,
}

impl Conditions {
    fn check(&self, etag: Option<&str>) -> Result<(), Error> {
        if let Some(test) = &self.if_match {
            // S3 answers a write that wants to replace something with 404 when there is nothing.
            if etag.is_none() {
                return Err(Error::NoSuchKey);
            }
            if !test.holds(etag) {
                return Err(Error::PreconditionFailed);
            }
        }
        if self.if_none_match.as_ref().is_some_and(|test| test.holds(etag)) {
            return Err(Error::PreconditionFailed);
        }
        Ok(())
    }
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
    connection.set_prepared_statement_cache_capacity(32);
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
            other => return Err(Error::NewerSchema(other, SCHEMA)),
        }
        transaction.commit()?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolls it back, so the connection is sound after one.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reader(&self) -> Result<Reader<'_>, Error> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match spare {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        Ok(Reader { index: self, connection: Some(connection) })
    }

    fn change<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let mut writer = self.writer();
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outcome = work(&transaction)?;
        transaction.commit()?;
        Ok(outcome)
    }

    /// The names of all bodies in use.
    pub(super) fn bodies(&self) -> Result<HashSet<BodyId>, Error> {
        let mut reader = self.reader()?;
        let snapshot = reader.snapshot()?;
        let mut statement = snapshot.prepare("SELECT body FROM versions")?;
        let mut rows = statement.query([])?;
        let mut bodies = HashSet::new();
        while let Some(row) = rows.next()? {
            bodies.insert(body_at(row, 0)?);
        }
        Ok(bodies)
    }

    pub(super) fn create_bucket(&self, name: &str, region: &str) -> Result<(), Error> {
        self.change(|transaction| {
            let added = transaction
                .prepare_cached("INSERT INTO buckets (name, region, created_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                .execute(params![name, region, now_ms()])?;
            if added == 0 { Err(Error::BucketExists) } else { Ok(()) }
        })
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<(), Error> {
        self.change(|transaction| {
            let bucket = bucket_id(transaction, name)?;
            let used = transaction
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM versions WHERE bucket = ?1 AND current = 1)")?
                .query_row([bucket], |row| row.get::<_, bool>(0))?;
            if used {
                return Err(Error::BucketNotEmpty);
            }
            transaction.prepare_cached("DELETE FROM buckets WHERE id = ?1")?.execute([bucket])?;
            Ok(())
        })
    }

    /// The region of a bucket.
    pub(super) fn bucket_region(&self, name: &str) -> Result<String, Error> {
        let mut reader = self.reader()?;
        let snapshot = reader.snapshot()?;
        let mut statement = snapshot.prepare_cached("SELECT region FROM buckets WHERE name = ?1")?;
        statement.query_row([name], |row| row.get(0)).optional()?.ok_or(Error::NoSuchBucket)
    }

    /// At most `max` buckets with this prefix, by name, from after `after`.
    pub(super) fn buckets(&self, prefix: &str, after: &str, max: usize) -> Result<Vec<Bucket>, Error> {
        let mut reader = self.reader()?;
        let snapshot = reader.snapshot()?;
        let mut statement =
            snapshot.prepare_cached("SELECT name, region, created_ms FROM buckets WHERE name > ?1 ORDER BY name")?;
        let mut rows = statement.query([after])?;
        let mut buckets = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if name.starts_with(prefix) {
                buckets.push(Bucket { name, region: row.get(1)?, created_ms: row.get(2)? });
                if buckets.len() == max {
                    break;
                }
            }
        }
        Ok(buckets)
    }

    /// The object under a key.
    pub(super) fn object(&self, bucket: &str, key: &str) -> Result<Object, Error> {
        let mut reader = self.reader()?;
        let snapshot = reader.snapshot()?;
        let bucket = bucket_id(&snapshot, bucket)?;
        let mut statement = snapshot.prepare_cached(
            "SELECT size, etag, modified_ms, storage_class, headers, body FROM versions WHERE bucket = ?1 AND key = ?2 AND current = 1",
        )?;
        let mut rows = statement.query(params![bucket, key.as_bytes()])?;
        let row = rows.next()?.ok_or(Error::NoSuchKey)?;
        Ok(Object {
            size: size_at(row, 0)?,
            etag: row.get(1)?,
            modified_ms: row.get(2)?,
            storage_class: row.get(3)?,
            headers: Stored::decode(row.get_ref(4)?.as_blob().map_err(|_| Error::MalformedRow)?).ok_or(Error::MalformedRow)?,
            body: body_at(row, 5)?,
        })
    }

    /// Says whether a write under these conditions would be accepted now, so that a large body need not be sent in vain.
    pub(super) fn would_accept(&self, bucket: &str, key: &str, conditions: &Conditions) -> Result<(), Error> {
        let mut reader = self.reader()?;
        let snapshot = reader.snapshot()?;
        let bucket = bucket_id(&snapshot, bucket)?;
        let current = current(&snapshot, bucket, key)?;
        conditions.check(current.as_ref().map(|(_, etag, _)| etag.as_str()))
    }

    /// Puts an object under a key when the conditions hold. Returns the body it replaced, which the caller removes.
    pub(super) fn put(&self, bucket: &str, key: &str, object: &Object, conditions: &Conditions) -> Result<Option<BodyId>, Error> {
        let size = i64::try_from(object.size).map_err(|_| Error::MalformedRow)?;
        self.change(|transaction| {
            let bucket = bucket_id(transaction, bucket)?;
            let current = current(transaction, bucket, key)?;
            conditions.check(current.as_ref().map(|(_, etag, _)| etag.as_str()))?;
            let headers = object.headers.encode();
            let body = object.body.as_bytes();
            if let Some((seq, _, replaced)) = current {
                transaction
                    .prepare_cached(
                        "UPDATE versions SET size = ?2, etag = ?3, modified_ms = ?4, storage_class = ?5, headers = ?6, body = ?7 \
                         WHERE seq = ?1",
                    )?
                    .execute(params![seq, size, object.etag, object.modified_ms, object.storage_class, headers, body])?;
                return Ok(Some(replaced));
            }
            transaction
                .prepare_cached(
                    "INSERT INTO versions (bucket, key, current, size, etag, modified_ms, storage_class, headers, body) \
                     VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    bucket,
                    key.as_bytes(),
                    size,
                    object.etag,
                    object.modified_ms,
                    object.storage_class,
                    headers,
                    body
                ])?;
            Ok(None)
        })
    }

    /// Deletes keys in one transaction. Deleting a key that is not there succeeds, as in S3.
    pub(super) fn delete(&self, bucket: &str, keys: &[(&str, Conditions)]) -> Result<Deleted, Error> {
        self.change(|transaction| {
            let bucket = bucket_id(transaction, bucket)?;
            let mut bodies = Vec::new();
            let mut outcomes = Vec::with_capacity(keys.len());
            for (key, conditions) in keys {
                let current = current(transaction, bucket, key)?;
                let verdict = conditions.check(current.as_ref().map(|(_, etag, _)| etag.as_str()));
                if verdict.is_ok()
                    && let Some((seq, _, body)) = current
                {
                    transaction.prepare_cached("DELETE FROM versions WHERE seq = ?1")?.execute([seq])?;
                    bodies.push(body);
                }
                outcomes.push(verdict);
            }
            Ok(Deleted { bodies, outcomes })
        })
    }
}

/// The row id of a bucket.
pub(super) fn bucket_id(transaction: &Transaction<'_>, name: &str) -> Result<i64, Error> {
    let mut statement = transaction.prepare_cached("SELECT id FROM buckets WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0)).optional()?.ok_or(Error::NoSuchBucket)
}

fn current(transaction: &Transaction<'_>, bucket: i64, key: &str) -> Result<Option<(i64, String, BodyId)>, Error> {
    let mut statement: CachedStatement<'_> =
        transaction.prepare_cached("SELECT seq, etag, body FROM versions WHERE bucket = ?1 AND key = ?2 AND current = 1")?;
    let mut rows = statement.query(params![bucket, key.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some((row.get(0)?, row.get(1)?, body_at(row, 2)?)))
}

fn body_at(row: &Row<'_>, column: usize) -> Result<BodyId, Error> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|_| Error::MalformedRow)?;
    BodyId::from_bytes(bytes).ok_or(Error::MalformedRow)
}

pub(super) fn size_at(row: &Row<'_>, column: usize) -> Result<u64, Error> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| Error::MalformedRow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(etag: &str, body: u8) -> Object {
        Object {
            size: 5,
            etag: etag.to_owned(),
            modified_ms: 1,
            storage_class: None,
            headers: Stored::default(),
            body: BodyId::from_bytes(&[body; 16]).unwrap(),
        }
    }

    fn index() -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite3"), false).unwrap();
        index.create_bucket("one", "us-east-1").unwrap();
        (dir, index)
    }

    #[test]
    fn a_put_replaces_and_hands_back_the_old_body() {
        let (_dir, index) = index();
        let free = Conditions::default();
        assert_eq!(index.put("one", "k", &object("a", 1), &free).unwrap(), None);
        assert_eq!(index.put("one", "k", &object("b", 2), &free).unwrap(), BodyId::from_bytes(&[1; 16]));
        assert_eq!(index.object("one", "k").unwrap().etag, "b");
        assert_eq!(index.bodies().unwrap(), HashSet::from([BodyId::from_bytes(&[2; 16]).unwrap()]));
        assert!(matches!(index.object("one", "K"), Err(Error::NoSuchKey)));
        assert!(matches!(index.object("two", "k"), Err(Error::NoSuchBucket)));
        assert!(matches!(index.put("two", "k", &object("b", 3), &free), Err(Error::NoSuchBucket)));
    }

    #[test]
    fn conditions_decide_inside_the_transaction() {
        let (_dir, index) = index();
        let absent = Conditions { if_none_match: Some(Test::Any), ..Conditions::default() };
        let same = |etag: &str| Conditions { if_match: Some(Test::Is(etag.to_owned())), ..Conditions::default() };
        assert!(matches!(index.put("one", "k", &object("a", 1), &same("a")), Err(Error::NoSuchKey)));
        index.put("one", "k", &object("a", 1), &absent).unwrap();
        assert!(matches!(index.put("one", "k", &object("b", 2), &absent), Err(Error::PreconditionFailed)));
        assert!(matches!(index.put("one", "k", &object("b", 2), &same("b")), Err(Error::PreconditionFailed)));
        assert!(matches!(index.would_accept("one", "k", &same("b")), Err(Error::PreconditionFailed)));
        index.put("one", "k", &object("b", 2), &same("a")).unwrap();
        let deleted = index.delete("one", &[("k", same("a")), ("gone", Conditions::default()), ("k", same("b"))]).unwrap();
        assert_eq!(deleted.bodies, [BodyId::from_bytes(&[2; 16]).unwrap()]);
        assert!(matches!(deleted.outcomes[..], [Err(Error::PreconditionFailed), Ok(()), Ok(())]));
    }

    #[test]
    fn buckets_come_and_go() {
        let (_dir, index) = index();
        assert!(matches!(index.create_bucket("one", "x"), Err(Error::BucketExists)));
        index.create_bucket("only", "eu-west-1").unwrap();
        index.create_bucket("two", "eu-west-1").unwrap();
        let names = |prefix, after, max| -> Vec<String> {
            index.buckets(prefix, after, max).unwrap().into_iter().map(|bucket| bucket.name).collect()
        };
        assert_eq!(names("", "", 10), ["one", "only", "two"]);
        assert_eq!(names("on", "one", 10), ["only"]);
        assert_eq!(names("", "", 2), ["one", "only"]);
        index.put("one", "k", &object("a", 1), &Conditions::default()).unwrap();
        assert!(matches!(index.delete_bucket("one"), Err(Error::BucketNotEmpty)));
        index.delete("one", &[("k", Conditions::default())]).unwrap();
        index.delete_bucket("one").unwrap();
        assert!(matches!(index.delete_bucket("one"), Err(Error::NoSuchBucket)));
        assert_eq!(index.bucket_region("two").unwrap(), "eu-west-1");
    }

    #[test]
    fn a_newer_index_is_refused() {
        let (dir, index) = index();
        index.writer().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
        drop(index);
        let again = Index::open(&dir.path().join("index.sqlite3"), false);
        assert!(matches!(again, Err(Error::NewerSchema(2, 1))));
    }
}
