//! Rows of buckets: what they are called, where they say they are, and how they treat versions and locks.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Index, documents};
use crate::store::lock::{Mode, Period};
use crate::store::{Error, now_ms};

/// A bucket as listed.
pub(in crate::store) struct Listed {
    pub(in crate::store) name: String,
    pub(in crate::store) region: String,
    pub(in crate::store) created_ms: i64,
}

/// What becomes of a version when its key is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Versioning {
    /// Never switched on: there is one version per key, which has no id.
    Never,
    /// Every write adds a version.
    Enabled,
    /// Every write replaces the version `null` and leaves the others.
    Suspended,
}

impl Versioning {
    fn of(text: Option<&str>) -> Self {
        match text {
            None => Self::Never,
            Some("Enabled") => Self::Enabled,
            Some(_) => Self::Suspended,
        }
    }

    /// As S3 calls it; `None` before it was ever switched on.
    pub(in crate::store) fn name(self) -> Option<&'static str> {
        match self {
            Self::Never => None,
            Self::Enabled => Some("Enabled"),
            Self::Suspended => Some("Suspended"),
        }
    }
}

/// A bucket as the operations on objects see it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Bucket {
    pub(super) id: i64,
    pub(in crate::store) versioning: Versioning,
    /// Whether Object Lock is on. It never goes off again.
    pub(in crate::store) lockable: bool,
    /// How long a new version is kept at least, unless its upload says something else.
    pub(in crate::store) retention: Option<(Mode, Period)>,
    /// A canned ACL; `None` is private.
    pub(in crate::store) acl: Option<String>,
}

impl Bucket {
    /// The version id that an answer names for a version with this id; `None` is the version `null`.
    pub(in crate::store) fn shown(&self, id: Option<String>) -> Option<String> {
        (self.versioning != Versioning::Never).then(|| id.unwrap_or_else(|| "null".to_owned()))
    }
}

/// Finds a bucket.
///
/// # Errors
/// [`Error::NoSuchBucket`].
pub(in crate::store) fn find(transaction: &Transaction<'_>, name: &str) -> Result<Bucket, Error> {
    let mut statement = transaction
        .prepare_cached("SELECT id, versioning, lockable, lock_mode, lock_days, lock_years, acl FROM buckets WHERE name = ?1")?;
    let mut rows = statement.query([name])?;
    let row = rows.next()?.ok_or(Error::NoSuchBucket)?;
    let mode = Mode::of(row.get_ref(3)?.as_str_or_null().map_err(|_| Error::MalformedRow)?.unwrap_or_default());
    let period = match (row.get(4)?, row.get(5)?) {
        (Some(days), _) => Some(Period::Days(days)),
        (None, Some(years)) => Some(Period::Years(years)),
        (None, None) => None,
    };
    Ok(Bucket {
        id: row.get(0)?,
        versioning: Versioning::of(row.get::<_, Option<String>>(1)?.as_deref()),
        lockable: row.get(2)?,
        retention: mode.zip(period),
        acl: row.get(6)?,
    })
}

/// A bucket to be made.
#[derive(Default)]
pub(in crate::store) struct New {
    pub(in crate::store) name: String,
    pub(in crate::store) region: String,
    /// Object Lock, which brings versions along.
    pub(in crate::store) lockable: bool,
    pub(in crate::store) acl: Option<String>,
    /// Sub-resources that the bucket starts with, by name.
    pub(in crate::store) documents: Vec<(&'static str, String)>,
}

impl Index {
    /// Makes a bucket.
    ///
    /// # Errors
    /// [`Error::BucketExists`].
    pub(in crate::store) fn create_bucket(&self, new: &New) -> Result<(), Error> {
        self.change(|transaction| {
            let versioning = if new.lockable { Versioning::Enabled } else { Versioning::Never };
            let added = transaction
                .prepare_cached(
                    "INSERT INTO buckets (name, region, created_ms, versioning, lockable, acl) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![new.name, new.region, now_ms(), versioning.name(), new.lockable, new.acl])?;
            if added == 0 {
                return Err(Error::BucketExists);
            }
            let bucket = find(transaction, &new.name)?;
            for (name, document) in &new.documents {
                documents::put(transaction, &bucket, name, "", document.as_bytes())?;
            }
            Ok(())
        })
    }

    /// Removes a bucket that holds nothing: no version, no delete marker. Uploads under way are no obstacle, and end.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`] and [`Error::BucketNotEmpty`].
    pub(in crate::store) fn delete_bucket(&self, name: &str) -> Result<Vec<crate::store::bodies::BodyId>, Error> {
        self.change(|transaction| {
            let bucket = find(transaction, name)?;
            let used = transaction
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM versions WHERE bucket = ?1)")?
                .query_row([bucket.id], |row| row.get::<_, bool>(0))?;
            if used {
                return Err(Error::BucketNotEmpty);
            }
            let dead = super::uploads::remove_all(transaction, &bucket)?;
            transaction.prepare_cached("DELETE FROM documents WHERE bucket = ?1")?.execute([bucket.id])?;
            transaction.prepare_cached("DELETE FROM buckets WHERE id = ?1")?.execute([bucket.id])?;
            Ok(dead)
        })
    }

    /// A bucket's state.
    pub(in crate::store) fn bucket(&self, name: &str) -> Result<Bucket, Error> {
        self.view(|snapshot| find(snapshot, name))
    }

    /// The region of a bucket.
    pub(in crate::store) fn bucket_region(&self, name: &str) -> Result<String, Error> {
        self.view(|snapshot| {
            let mut statement = snapshot.prepare_cached("SELECT region FROM buckets WHERE name = ?1")?;
            statement.query_row([name], |row| row.get(0)).optional()?.ok_or(Error::NoSuchBucket)
        })
    }

    /// At most `max` buckets with this prefix, by name, from after `after`.
    pub(in crate::store) fn buckets(&self, prefix: &str, after: &str, max: usize) -> Result<Vec<Listed>, Error> {
        self.view(|snapshot| {
            let mut statement =
                snapshot.prepare_cached("SELECT name, region, created_ms FROM buckets WHERE name > ?1 ORDER BY name")?;
            let mut rows = statement.query([after])?;
            let mut buckets = Vec::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                if name.starts_with(prefix) {
                    buckets.push(Listed { name, region: row.get(1)?, created_ms: row.get(2)? });
                    if buckets.len() == max {
                        break;
                    }
                }
            }
            Ok(buckets)
        })
    }

    /// Switches versions on or off.
    ///
    /// # Errors
    /// [`Error::LockNeedsVersions`] when they were to go off under Object Lock.
    pub(in crate::store) fn set_versioning(&self, name: &str, versioning: Versioning) -> Result<(), Error> {
        self.change(|transaction| {
            let bucket = find(transaction, name)?;
            if bucket.lockable && versioning != Versioning::Enabled {
                return Err(Error::LockNeedsVersions);
            }
            transaction
                .prepare_cached("UPDATE buckets SET versioning = ?2 WHERE id = ?1")?
                .execute(params![bucket.id, versioning.name()])?;
            Ok(())
        })
    }

    /// Switches Object Lock on and sets or takes away the default retention.
    ///
    /// # Errors
    /// [`Error::LockNeedsVersions`] unless versions are on.
    pub(in crate::store) fn set_lock(&self, name: &str, retention: Option<(Mode, Period)>) -> Result<(), Error> {
        self.change(|transaction| {
            let bucket = find(transaction, name)?;
            if bucket.versioning != Versioning::Enabled {
                return Err(Error::LockNeedsVersions);
            }
            let (days, years) = match retention {
                Some((_, Period::Days(days))) => (Some(days), None),
                Some((_, Period::Years(years))) => (None, Some(years)),
                None => (None, None),
            };
            transaction
                .prepare_cached("UPDATE buckets SET lockable = 1, lock_mode = ?2, lock_days = ?3, lock_years = ?4 WHERE id = ?1")?
                .execute(params![bucket.id, retention.map(|(mode, _)| mode.name()), days, years])?;
            Ok(())
        })
    }

    /// Sets the canned ACL of a bucket; `None` is private.
    pub(in crate::store) fn set_bucket_acl(&self, name: &str, acl: Option<&str>) -> Result<(), Error> {
        self.change(|transaction| {
            let bucket = find(transaction, name)?;
            transaction.prepare_cached("UPDATE buckets SET acl = ?2 WHERE id = ?1")?.execute(params![bucket.id, acl])?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite3"), false).unwrap();
        let create = |name: &str| {
            let documents = vec![("cors", "<CORSConfiguration/>".to_owned())];
            index.create_bucket(&New { name: name.into(), region: "eu-west-1".into(), documents, ..New::default() })
        };
        for name in ["one", "only", "two"] {
            create(name).unwrap();
        }
        assert!(matches!(create("one"), Err(Error::BucketExists)));
        let names = |prefix, after, max| -> Vec<String> {
            index.buckets(prefix, after, max).unwrap().into_iter().map(|bucket| bucket.name).collect()
        };
        assert_eq!(names("", "", 10), ["one", "only", "two"]);
        assert_eq!(names("on", "one", 10), ["only"]);
        assert_eq!(names("", "", 2), ["one", "only"]);
        assert_eq!(index.bucket_region("two").unwrap(), "eu-west-1");
        index.delete_bucket("one").unwrap();
        assert!(matches!(index.delete_bucket("one"), Err(Error::NoSuchBucket)));
    }

    #[test]
    fn a_lock_needs_versions() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite3"), false).unwrap();
        index.create_bucket(&New { name: "b".into(), ..New::default() }).unwrap();
        assert!(matches!(index.set_lock("b", None), Err(Error::LockNeedsVersions)));
        assert_eq!(index.bucket("b").unwrap().versioning, Versioning::Never);
        index.set_versioning("b", Versioning::Enabled).unwrap();
        index.set_lock("b", Some((Mode::Governance, Period::Years(2)))).unwrap();
        assert!(matches!(index.set_versioning("b", Versioning::Suspended), Err(Error::LockNeedsVersions)));
        assert_eq!(index.bucket("b").unwrap().retention, Some((Mode::Governance, Period::Years(2))));
    }
}
