//! Listing: keys in byte order, with what shares a prefix up to a delimiter rolled up into one entry. Objects, versions and uploads
//! are listed alike.

use rusqlite::{Row, Statement, params};

use super::{Index, buckets, id, key_at, parse_id, size_at};
use crate::store::Error;

/// What to list.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Query {
    pub(in crate::store) prefix: String,
    /// `None` and the empty string roll nothing up.
    pub(in crate::store) delimiter: Option<String>,
    /// List from after this key, or from after this common prefix.
    pub(in crate::store) after: Option<String>,
    /// List from after the version or upload with this id of the key `after`, not from after the whole key.
    pub(in crate::store) after_id: Option<String>,
    pub(in crate::store) max: usize,
}

/// One entry of a page; keys and common prefixes are in one order.
pub(in crate::store) enum Entry<T> {
    Key(String, T),
    Prefix(String),
}

impl<T> Entry<T> {
    pub(in crate::store) fn name(&self) -> &str {
        match self {
            Self::Key(name, _) | Self::Prefix(name) => name,
        }
    }
}

/// One page.
pub(in crate::store) struct Page<T> {
    pub(in crate::store) entries: Vec<Entry<T>>,
    /// There is more after the last entry.
    pub(in crate::store) truncated: bool,
}

/// An object as listed.
pub(in crate::store) struct Object {
    pub(in crate::store) size: u64,
    pub(in crate::store) etag: String,
    pub(in crate::store) modified_ms: i64,
    pub(in crate::store) storage_class: Option<String>,
}

/// A version as listed.
pub(in crate::store) struct Version {
    /// `None` is the version `null`.
    pub(in crate::store) id: Option<String>,
    pub(in crate::store) latest: bool,
    /// `None` for a delete marker.
    pub(in crate::store) object: Option<Object>,
    pub(in crate::store) modified_ms: i64,
}

/// An upload under way as listed.
pub(in crate::store) struct Upload {
    pub(in crate::store) id: String,
    pub(in crate::store) initiated_ms: i64,
    pub(in crate::store) storage_class: Option<String>,
    pub(in crate::store) checksum: Option<String>,
    pub(in crate::store) checksum_type: Option<String>,
}

impl Query {
    fn delimiter(&self) -> Option<&str> {
        self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())
    }

    /// The common prefix that `key` is rolled up into, if any.
    fn rolled_up<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter()?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let end = rest.find(delimiter)? + delimiter.len();
        Some(&key[..self.prefix.len() + end])
    }

    /// The smallest key that may be listed.
    fn start(&self) -> Vec<u8> {
        let Some(after) = self.after.as_deref() else { return self.prefix.clone().into_bytes() };
        if self.after_id.is_some() {
            return after.as_bytes().max(self.prefix.as_bytes()).to_vec();
        }
        // After a common prefix goes on behind everything in it: that is how the next page starts.
        let start = if self.rolled_up(after) == Some(after) { behind(after) } else { successor(after) };
        start.max(self.prefix.clone().into_bytes())
    }
}

/// The smallest byte string greater than `key`.
fn successor(key: &str) -> Vec<u8> {
    let mut next = key.as_bytes().to_vec();
    next.push(0);
    next
}

/// The smallest byte string greater than everything that starts with `prefix`. UTF-8 has no byte 0xFF, so one byte can always be
/// counted up; an empty prefix ends behind all keys.
fn behind(prefix: &str) -> Vec<u8> {
    let mut next = prefix.as_bytes().to_vec();
    match next.last_mut() {
        Some(last) => *last += 1,
        None => next.push(0xFF),
    }
    next
}

impl Query {
    /// Walks the rows of a statement with the parameters bucket, first key and end, whose first column is the key. `read` turns a
    /// row into an entry, or into nothing when it lies before the start. A common prefix costs one seek, however many keys it
    /// holds.
    fn walk<T>(
        &self,
        statement: &mut Statement<'_>,
        bucket: i64,
        read: impl Fn(&str, &Row<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Page<T>, Error> {
        let mut page = Page { entries: Vec::new(), truncated: false };
        if self.max == 0 {
            return Ok(page);
        }
        let end = behind(&self.prefix);
        let mut start = self.start();
        'seek: loop {
            let mut rows = statement.query(params![bucket, start, end])?;
            while let Some(row) = rows.next()? {
                let key = key_at(row, 0)?;
                let prefix = self.rolled_up(&key);
                let entry = match prefix {
                    Some(prefix) => Entry::Prefix(prefix.to_owned()),
                    None => match read(&key, row)? {
                        Some(entry) => Entry::Key(key.clone(), entry),
                        None => continue,
                    },
                };
                if page.entries.len() == self.max {
                    page.truncated = true;
                    return Ok(page);
                }
                page.entries.push(entry);
                if let Some(prefix) = prefix {
                    start = behind(prefix);
                    continue 'seek;
                }
            }
            return Ok(page);
        }
    }
}

fn object_at(row: &Row<'_>) -> Result<Object, Error> {
    Ok(Object { size: size_at(row, 1)?, etag: row.get(2)?, modified_ms: row.get(3)?, storage_class: row.get(4)? })
}

impl Index {
    /// Lists one page of the latest versions, without those that are delete markers.
    pub(in crate::store) fn list(&self, bucket: &str, query: &Query) -> Result<Page<Object>, Error> {
        self.view(|snapshot| {
            let bucket = buckets::find(snapshot, bucket)?;
            let mut statement = snapshot.prepare_cached(
                "SELECT key, size, etag, modified_ms, storage_class FROM versions \
                 WHERE bucket = ?1 AND key >= ?2 AND key < ?3 AND latest = 1 AND content IS NOT NULL ORDER BY key",
            )?;
            query.walk(&mut statement, bucket.id, |_, row| object_at(row).map(Some))
        })
    }

    /// Lists one page of all versions and delete markers, those of a key from the newest to the oldest.
    ///
    /// # Errors
    /// [`Error::InvalidVersionId`] when the page is to start after an id that no version ever had.
    pub(in crate::store) fn list_versions(&self, bucket: &str, query: &Query) -> Result<Page<Version>, Error> {
        self.view(|snapshot| {
            let bucket = buckets::find(snapshot, bucket)?;
            let after = match query.after_id.as_deref() {
                None => None,
                // When the version `null` has gone meanwhile, its key is listed again: better twice than never.
                Some("null") => {
                    let key = query.after.as_deref().unwrap_or_default();
                    super::versions::find(snapshot, &bucket, key, Some("null"))?.map(|version| version.seq)
                }
                Some(id) => Some(parse_id(id).ok_or(Error::InvalidVersionId)?.0),
            };
            let mut statement = snapshot.prepare_cached(
                "SELECT key, size, etag, modified_ms, storage_class, seq, suffix, latest, content IS NULL FROM versions \
                 WHERE bucket = ?1 AND key >= ?2 AND key < ?3 ORDER BY key, seq DESC",
            )?;
            query.walk(&mut statement, bucket.id, |key, row| {
                let seq: i64 = row.get(5)?;
                if query.after.as_deref() == Some(key) && after.is_some_and(|after| seq >= after) {
                    return Ok(None);
                }
                let suffix: Option<String> = row.get(6)?;
                let marker: bool = row.get(8)?;
                Ok(Some(Version {
                    id: suffix.map(|suffix| id(seq, &suffix)),
                    latest: row.get(7)?,
                    object: if marker { None } else { Some(object_at(row)?) },
                    modified_ms: row.get(3)?,
                }))
            })
        })
    }

    /// Lists one page of the uploads under way, those of a key from the oldest to the newest.
    pub(in crate::store) fn list_uploads(&self, bucket: &str, query: &Query) -> Result<Page<Upload>, Error> {
        self.view(|snapshot| {
            let bucket = buckets::find(snapshot, bucket)?;
            let after = query.after_id.as_deref().map(|id| parse_id(id).map_or(0, |(seq, _)| seq));
            let mut statement = snapshot.prepare_cached(
                "SELECT key, seq, suffix, initiated_ms, storage_class, checksum, checksum_type FROM uploads \
                 WHERE bucket = ?1 AND key >= ?2 AND key < ?3 ORDER BY key, seq",
            )?;
            query.walk(&mut statement, bucket.id, |key, row| {
                let seq: i64 = row.get(1)?;
                if query.after.as_deref() == Some(key) && after.is_some_and(|after| seq <= after) {
                    return Ok(None);
                }
                Ok(Some(Upload {
                    id: id(seq, &row.get::<_, String>(2)?),
                    initiated_ms: row.get(3)?,
                    storage_class: row.get(4)?,
                    checksum: row.get(5)?,
                    checksum_type: row.get(6)?,
                }))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert_eq!(successor("a"), b"a\0");
        assert_eq!(behind("a/"), b"a0");
        assert_eq!(behind("\u{10FFFF}"), [0xF4, 0x8F, 0xBF, 0xC0]);
        let query = Query { prefix: "p/".into(), delimiter: Some("//".into()), ..Query::default() };
        assert_eq!(query.rolled_up("p/a//b//c"), Some("p/a//"));
        assert_eq!(query.rolled_up("p/a/b"), None);
        assert_eq!(query.rolled_up("q/a//b"), None);
        let start = |after: &str| Query { after: Some(after.into()), ..query.clone() }.start();
        assert_eq!(start("p/a//"), b"p/a/0");
        assert_eq!(start("p/a//b"), b"p/a//b\0");
        assert_eq!(start("a"), b"p/");
    }

    /// What a listing is, said the slow way: walk all keys, roll up, skip what is before the start.
    fn model(keys: &[String], query: &Query) -> (Vec<String>, bool) {
        let mut names: Vec<String> = Vec::new();
        for key in keys.iter().filter(|key| key.starts_with(&query.prefix)) {
            let rest = &key[query.prefix.len()..];
            let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
            let rolled_up = delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
            let name = rolled_up.map_or(key.as_str(), |end| &key[..query.prefix.len() + end]);
            let before = query
                .after
                .as_deref()
                .is_some_and(|after| key.as_bytes() <= after.as_bytes() || (rolled_up.is_some() && name == after));
            if !before && names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
        }
        let truncated = query.max > 0 && names.len() > query.max;
        names.truncate(query.max);
        (names, truncated)
    }

    #[test]
    fn pages_agree_with_a_naive_model() {
        use super::super::versions::tests::{index, put};

        let (_dir, index) = index();
        let mut seed = 0x5EED_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let letters = ["a", "b", "/", "/", "//", "é", "z", " ", "+", "\u{FFFF}", "\u{10000}", "~"];
        let mut word = |len: usize| -> String { (0..len).map(|_| letters[random(letters.len())]).collect() };
        let mut keys: Vec<String> = (0..4000).map(|i| word(1 + i % 7)).collect();
        keys.sort_unstable();
        keys.dedup();
        for (i, key) in keys.iter().enumerate() {
            put(&index, key, (i % 256) as u8);
        }
        let mut pages = 0;
        for round in 0..600 {
            let delimiter = [None, Some("/"), Some("//"), Some("é"), Some("a/"), Some("")][round % 6];
            let mut query = Query {
                prefix: word(round % 4),
                delimiter: delimiter.map(str::to_owned),
                after: (round % 5 > 2).then(|| word(1 + round % 5)),
                max: [1, 2, 7, 100, 1000, 0][round / 6 % 6],
                ..Query::default()
            };
            // Page by page, as a client goes on from the last name it saw.
            for _ in 0..12 {
                let page = index.list("b", &query).unwrap();
                let names: Vec<String> = page.entries.iter().map(|entry| entry.name().to_owned()).collect();
                assert_eq!((names, page.truncated), model(&keys, &query), "{query:?}");
                pages += 1;
                for entry in &page.entries {
                    if let Entry::Key(key, object) = entry {
                        let place = keys.binary_search(key).unwrap();
                        assert_eq!(object.etag, (place % 256).to_string());
                    }
                }
                if !page.truncated {
                    break;
                }
                query.after = page.entries.last().map(|entry| entry.name().to_owned());
            }
        }
        assert!(pages > 1500, "{pages}");
    }

    #[test]
    fn versions_go_on_after_the_one_seen_last() {
        use super::super::buckets::Versioning;
        use super::super::versions::tests::{index, put};

        let (_dir, index) = index();
        put(&index, "b/1", 0);
        index.set_versioning("b", Versioning::Enabled).unwrap();
        let mut expected = Vec::new();
        for key in ["a", "b/1", "b/2", "c"] {
            let ids: Vec<_> = (0..5).map(|i| put(&index, key, i).0).collect();
            expected.extend(ids.into_iter().rev().map(|id| (key.to_owned(), id)));
            if key == "b/1" {
                expected.push((key.to_owned(), None));
            }
        }
        for (max, delimiter) in [(1, None), (3, None), (4, None), (100, None), (1, Some("/")), (2, Some("/"))] {
            let mut query = Query { max, delimiter: delimiter.map(str::to_owned), ..Query::default() };
            let mut seen = Vec::new();
            loop {
                let page = index.list_versions("b", &query).unwrap();
                let truncated = page.truncated;
                query.after = page.entries.last().map(|entry| entry.name().to_owned());
                query.after_id = None;
                for entry in page.entries {
                    match entry {
                        Entry::Key(key, version) => {
                            query.after_id = Some(version.id.clone().unwrap_or_else(|| "null".to_owned()));
                            seen.push((key, version.id));
                        }
                        Entry::Prefix(prefix) => {
                            query.after_id = None;
                            seen.push((prefix, None));
                        }
                    }
                }
                if !truncated {
                    break;
                }
            }
            let rolled_up: Vec<_> = expected.iter().filter(|(key, _)| !key.starts_with("b/")).cloned().collect();
            match delimiter {
                None => assert_eq!(seen, expected, "{max}"),
                Some(_) => {
                    assert_eq!(seen.iter().filter(|(name, _)| name == "b/").count(), 1);
                    seen.retain(|(name, _)| name != "b/");
                    assert_eq!(seen, rolled_up, "{max}");
                }
            }
        }
        // A version that is gone is still a place to go on from, but nonsense is not.
        let gone = Query {
            after: Some("a".into()),
            after_id: Some("00000000000000020000000000000000".into()),
            max: 1,
            ..Query::default()
        };
        assert_eq!(index.list_versions("b", &gone).unwrap().entries[0].name(), "b/1");
        let wrong = Query { after: Some("a".into()), after_id: Some("?".into()), max: 1, ..Query::default() };
        assert!(matches!(index.list_versions("b", &wrong), Err(Error::InvalidVersionId)));
    }
}
