//! Listing: keys in byte order, with what shares a prefix up to a delimiter rolled up into one entry.

use rusqlite::params;

use super::Error;
use super::index::{Index, Listed, bucket_id, size_at};

/// What to list.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    /// `None` and the empty string roll nothing up.
    pub(super) delimiter: Option<String>,
    /// List from after this key, or from after this common prefix.
    pub(super) after: Option<String>,
    pub(super) max: usize,
}

/// One entry of a page; keys and common prefixes are in one order.
pub(super) enum Entry {
    Key(Listed),
    Prefix(String),
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Key(listed) => &listed.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// One page.
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    /// There is more after the last entry.
    pub(super) truncated: bool,
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

impl Index {
    /// Lists one page. A common prefix costs one seek, however many keys it holds.
    pub(super) fn list(&self, bucket: &str, query: &Query) -> Result<Page, Error> {
        let mut reader = self.reader()?;
        let snapshot = reader.snapshot()?;
        let bucket = bucket_id(&snapshot, bucket)?;
        let mut page = Page { entries: Vec::new(), truncated: false };
        if query.max == 0 {
            return Ok(page);
        }
        let mut statement = snapshot.prepare_cached(
            "SELECT key, size, etag, modified_ms, storage_class FROM versions \
             WHERE bucket = ?1 AND key >= ?2 AND key < ?3 AND current = 1 ORDER BY key",
        )?;
        let end = behind(&query.prefix);
        let mut start = query.start();
        'seek: loop {
            let mut rows = statement.query(params![bucket, start, end])?;
            while let Some(row) = rows.next()? {
                if page.entries.len() == query.max {
                    page.truncated = true;
                    return Ok(page);
                }
                let key = row.get_ref(0)?.as_blob().map_err(|_| Error::MalformedRow)?;
                let key = std::str::from_utf8(key).map_err(|_| Error::MalformedRow)?;
                if let Some(prefix) = query.rolled_up(key) {
                    start = behind(prefix);
                    page.entries.push(Entry::Prefix(prefix.to_owned()));
                    continue 'seek;
                }
                page.entries.push(Entry::Key(Listed {
                    key: key.to_owned(),
                    size: size_at(row, 1)?,
                    etag: row.get(2)?,
                    modified_ms: row.get(3)?,
                    storage_class: row.get(4)?,
                }));
            }
            return Ok(page);
        }
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
        use super::super::bodies::BodyId;
        use super::super::headers::Stored;
        use super::super::index::{Conditions, Object};

        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("index.sqlite3"), false).unwrap();
        index.create_bucket("b", "r").unwrap();
        index.create_bucket("other", "r").unwrap();
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
            let object = Object {
                size: i as u64,
                etag: format!("{i:032x}"),
                modified_ms: 0,
                storage_class: None,
                headers: Stored::default(),
                body: BodyId::from_bytes(&[0; 16]).unwrap(),
            };
            index.put("b", key, &object, &Conditions::default()).unwrap();
            if i % 100 == 0 {
                index.put("other", key, &object, &Conditions::default()).unwrap();
            }
        }
        let mut pages = 0;
        for round in 0..600 {
            let delimiter = [None, Some("/"), Some("//"), Some("é"), Some("a/"), Some("")][round % 6];
            let mut query = Query {
                prefix: word(round % 4),
                delimiter: delimiter.map(str::to_owned),
                after: (round % 5 > 2).then(|| word(1 + round % 5)),
                max: [1, 2, 7, 100, 1000, 0][round / 6 % 6],
            };
            // Page by page, as a client goes on from the last name it saw.
            for _ in 0..12 {
                let page = index.list("b", &query).unwrap();
                let names: Vec<String> = page.entries.iter().map(|entry| entry.name().to_owned()).collect();
                assert_eq!((names, page.truncated), model(&keys, &query), "{query:?}");
                pages += 1;
                for entry in &page.entries {
                    if let Entry::Key(listed) = entry {
                        assert_eq!(keys[listed.size as usize], listed.key);
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
}
