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
}
