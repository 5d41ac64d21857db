//! What an upload keeps in the state store, and under which names (FORMAT section 11).

use std::fmt::Write as _;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::HeaderMap;

use super::contents::{Left, Pages, delete_all};
use crate::backend::{
    Body, Error as StoreError, ListEntry, ListQuery, ObjectAnswer, ObjectName, Paging, PutObject, S3Backend, Select,
};
use crate::format::layout::part_plain_len;
use crate::format::{PlainLen, SealedLen};
use crate::ops::state::read_whole;
use crate::ops::{Error, StatePlace};
use crate::stream::SealedBody;

/// Digits of a base name.
const BASE_LEN: usize = 64;
/// A record holds an envelope of a few hundred bytes, and a bucket, a key and an upload id of at most 65,535 bytes each.
const RECORD_MAX: usize = 272 * 1024;

/// The state of one upload.
#[derive(Clone)]
pub(super) struct Staging {
    backend: S3Backend,
    bucket: String,
    /// Everything that the upload keeps begins with this; it ends with a slash.
    folder: String,
}

/// An object in the state store, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Record,
    Spool {
        number: u16,
        part_id: [u8; 16],
    },
    /// A part of this number and exactly this size was made by the gateway.
    Marker {
        number: u16,
        sealed_size: u64,
    },
    /// The receipt, in hex, that an attempt of this number was answered with.
    Receipt {
        number: u16,
        hex: String,
    },
}

/// A part that waits in the state store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spooled {
    pub number: u16,
    pub part_id: [u8; 16],
    pub plain_len: PlainLen,
    /// Seconds and nanoseconds since the epoch.
    pub last_modified: Option<(i64, u32)>,
}

impl Kept {
    /// The end of the name, behind the upload's folder.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Record => "r".to_owned(),
            Self::Spool { number, part_id } => format!("p/{number:05}/{}", HEXLOWER.encode(part_id)),
            Self::Marker { number, sealed_size } => format!("f/{number:05}/{sealed_size}"),
            Self::Receipt { number, hex } => format!("e/{number:05}/{hex}"),
        }
    }

    /// Reads what [`Kept::name`] wrote, and nothing else.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut fields = name.split('/');
        let kept = match (fields.next()?, fields.next(), fields.next()) {
            ("r", None, None) => Self::Record,
            ("p", Some(number), Some(id)) => {
                Self::Spool { number: number.parse().ok()?, part_id: HEXLOWER.decode(id.as_bytes()).ok()?.try_into().ok()? }
            }
            ("f", Some(number), Some(size)) => Self::Marker { number: number.parse().ok()?, sealed_size: size.parse().ok()? },
            ("e", Some(number), Some(hex)) if hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
                Self::Receipt { number: number.parse().ok()?, hex: hex.to_owned() }
            }
            _ => return None,
        };
        (kept.name() == name).then_some(kept)
    }
}

/// Splits the key of something in the state store, behind the store's own prefix, into the upload's base name and what it is.
pub(super) fn split(name: &str) -> Option<(&str, Kept)> {
    let (base, rest) = name.split_once('/')?;
    let is_base = base.len() == BASE_LEN && base.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    Some((base, Kept::parse(rest).filter(|_| is_base)?))
}

impl Staging {
    /// The state of the upload with this base name into this bucket.
    pub(super) fn new(backend: &S3Backend, place: &StatePlace, bucket: &str, base: &str) -> Self {
        let (bucket, prefix) = place.of(bucket);
        Self { backend: backend.clone(), bucket: bucket.to_owned(), folder: format!("{prefix}{base}/") }
    }

    fn object(&self, kept: &Kept) -> ObjectName {
        ObjectName { bucket: self.bucket.clone(), key: format!("{}{}", self.folder, kept.name()) }
    }

    /// Stores something. Errors are the store's; why a body ended early only its outcome says.
    pub(super) async fn put(&self, kept: Kept, body: SealedBody) -> Result<(), StoreError> {
        let put = PutObject { object: self.object(&kept), headers: HeaderMap::new(), body };
        self.backend.put_object(put).await.map(|_| ())
    }

    /// The bytes of the record; `None` when there is none.
    pub(super) async fn record(&self) -> Result<Option<Bytes>, Error> {
        let Some(body) = self.get(Kept::Record).await? else { return Ok(None) };
        read_whole(body, RECORD_MAX).await.map(Some)
    }

    /// The bytes of something that was stored; `None` when it is not there.
    pub(super) async fn get(&self, kept: Kept) -> Result<Option<Body>, Error> {
        let select = Select { object: self.object(&kept), version_id: None, headers: HeaderMap::new(), range: None };
        match self.backend.get_object(select).await {
            Ok(ObjectAnswer { body, .. }) => Ok(Some(body)),
            Err(StoreError::Refused(refusal)) if refusal.status == 404 && refusal.code != "NoSuchBucket" => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes one thing. It is no error when it is not there.
    pub(super) async fn delete(&self, kept: Kept) -> Result<(), StoreError> {
        let select = Select { object: self.object(&kept), version_id: None, headers: HeaderMap::new(), range: None };
        self.backend.delete_object(select).await.map(|_| ())
    }

    /// The parts that wait here, from the number behind `after` on, in order; the attempts of a number stand together. `enough` is
    /// asked after each page whether the rest is of no interest any more.
    pub(super) async fn spooled(&self, after: u16, enough: impl Fn(&[Spooled]) -> bool) -> Result<Vec<Spooled>, StoreError> {
        let mut start = format!("{}p/", self.folder);
        if after > 0 {
            // Behind every attempt of that number: ids are hexadecimal digits.
            write!(start, "{after:05}/g").expect("strings take everything");
        }
        let mut found = Vec::new();
        self.walk("p/", Some(start), |page| {
            found.extend(page.iter().filter_map(|(kept, entry)| match kept {
                Kept::Spool { number, part_id } => Some(Spooled {
                    number: *number,
                    part_id: *part_id,
                    plain_len: plain_len_of(entry)?,
                    last_modified: entry.last_modified,
                }),
                _ => None,
            }));
            !enough(&found)
        })
        .await?;
        Ok(found)
    }

    /// Number and size of every part that the gateway made and that could be taken for one of the client's.
    pub(super) async fn markers(&self) -> Result<Vec<(u16, u64)>, StoreError> {
        let mut found = Vec::new();
        self.walk("f/", None, |page| {
            found.extend(page.iter().filter_map(|(kept, _)| match kept {
                Kept::Marker { number, sealed_size } => Some((*number, *sealed_size)),
                _ => None,
            }));
            true
        })
        .await?;
        Ok(found)
    }

    /// The receipts of parts with numbers behind `after` and up to `last`, in hex.
    pub(super) async fn receipts(&self, after: u16, last: u16) -> Result<Vec<(u16, String)>, StoreError> {
        let start = (after > 0).then(|| format!("{}e/{after:05}/g", self.folder));
        let mut found = Vec::new();
        self.walk("e/", start, |page| {
            let mut goes_on = true;
            for (kept, _) in page {
                if let Kept::Receipt { number, hex } = kept {
                    goes_on = *number <= last;
                    if goes_on {
                        found.push((*number, hex.clone()));
                    }
                }
            }
            goes_on
        })
        .await?;
        Ok(found)
    }

    /// Removes everything but the record, and that too if asked. What cannot be removed now is left to the janitor.
    pub(super) async fn clear(&self, with_record: bool) {
        if let Err(error) = self.try_clear(with_record).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the state of an upload could not be removed; the janitor will"
            );
        }
    }

    async fn try_clear(&self, with_record: bool) -> Result<(), StoreError> {
        let left = self.remove(with_record, false).await?;
        if left == Left::Markers {
            self.remove(with_record, true).await?;
        }
        Ok(())
    }

    /// Removes what there is, or every version of what there is and was.
    async fn remove(&self, with_record: bool, with_versions: bool) -> Result<Left, StoreError> {
        let goes = |key: &str| {
            let kept = key.strip_prefix(&self.folder).and_then(Kept::parse);
            kept.is_some_and(|kept| with_record || kept != Kept::Record)
        };
        let mut lines = Vec::new();
        let mut pages = Pages::new(&self.backend, &self.bucket, &self.folder, with_versions);
        while let Some(page) = pages.next().await? {
            lines.extend(page.into_iter().filter(|item| goes(&item.key)).map(|item| (item.key, item.version_id)));
        }
        delete_all(&self.backend, &self.bucket, lines).await
    }

    /// Shows every page of what is kept below `below` to `take`, until that says that it has enough.
    async fn walk(
        &self,
        below: &str,
        start_after: Option<String>,
        mut take: impl FnMut(&[(Kept, ListEntry)]) -> bool,
    ) -> Result<(), StoreError> {
        let prefix = format!("{}{below}", self.folder);
        let mut token = None;
        loop {
            let start_after = if token.is_none() { start_after.clone() } else { None };
            let query = ListQuery {
                bucket: self.bucket.clone(),
                prefix: Some(prefix.clone()),
                delimiter: None,
                max_keys: None,
                headers: HeaderMap::new(),
                paging: Paging::V2 { continuation_token: token, start_after, fetch_owner: None },
            };
            let page = self.backend.list_objects(query).await?;
            let entries = page.entries.into_iter().filter_map(|entry| {
                let kept = Kept::parse(entry.key.strip_prefix(&self.folder)?)?;
                Some((kept, entry))
            });
            if !take(&entries.collect::<Vec<_>>()) || !page.is_truncated || page.next.is_none() {
                return Ok(());
            }
            token = page.next;
        }
    }
}

fn plain_len_of(entry: &ListEntry) -> Option<PlainLen> {
    part_plain_len(SealedLen::new(u64::try_from(entry.sealed_size?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_in_no_other_form() {
        let id = [0xab; 16];
        for kept in [
            Kept::Record,
            Kept::Spool { number: 7, part_id: id },
            Kept::Spool { number: 10_000, part_id: id },
            Kept::Marker { number: 10_000, sealed_size: 5_244_192 },
            Kept::Receipt { number: 7, hex: "0a".repeat(42) },
        ] {
            assert_eq!(Kept::parse(&kept.name()), Some(kept));
        }
        assert_eq!(Kept::Spool { number: 7, part_id: id }.name(), format!("p/00007/{}", "ab".repeat(16)));
        assert_eq!(Kept::Marker { number: 7, sealed_size: 9 }.name(), "f/00007/9");
        for other in [
            "",
            "r/",
            "x",
            "p/7/abababababababababababababababab",
            "p/00007/AB",
            "f/00007/09",
            "f/00007/+9",
            "f/00007/9/",
            "p",
            "e/7/ab",
            "e/00007/AB",
        ] {
            assert_eq!(Kept::parse(other), None, "{other}");
        }
        let base = "0".repeat(64);
        assert_eq!(split(&format!("{base}/r")), Some((base.as_str(), Kept::Record)));
        for other in [base.clone(), format!("{}/r", "0".repeat(63)), format!("{}/r", "G".repeat(64)), format!("x/{base}/r")] {
            assert_eq!(split(&other), None, "{other}");
        }
    }
}
