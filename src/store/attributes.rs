//! What an object carries beside its bytes, as an upload, a copy or the start of a multipart upload gives it.

use http::HeaderMap;
use http::header::HeaderValue;
use rusqlite::Transaction;
use s3s::{S3ErrorCode, S3Result};

use super::headers::{CHECKSUM_TYPE, Stored};
use super::index::buckets::Bucket;
use super::lock::Lock;
use super::{Error, acl, tagging};

/// Storage classes that S3 knows; all are stored alike.
const STORAGE_CLASSES: [&str; 11] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "SNOW",
    "EXPRESS_ONEZONE",
];

/// What an object carries beside its bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    /// `None` is STANDARD.
    pub(super) storage_class: Option<String>,
    pub(super) headers: Stored,
    /// As in the header `x-amz-tagging`; `None` without tags.
    pub(super) tags: Option<String>,
    /// A canned ACL; `None` is private.
    pub(super) acl: Option<String>,
    pub(super) lock: Lock,
}

impl Attributes {
    /// Reads what the headers of a request give an object.
    ///
    /// # Errors
    /// `MetadataTooLarge`, `InvalidStorageClass`, `InvalidTag`, those of [`Lock::from_request`] and [`acl::from_request`], and
    /// `NotImplemented` for a header whose meaning the store does not know.
    pub(super) fn from_request(request: &HeaderMap) -> S3Result<Self> {
        Ok(Self {
            storage_class: storage_class(request)?,
            headers: Stored::from_upload(request)?,
            tags: tagging::from_header(request)?,
            acl: acl::from_request(request)?,
            lock: Lock::from_request(request)?,
        })
    }

    /// Makes them those of a new version in this bucket, which has a say in locks and access control lists.
    ///
    /// # Errors
    /// Those of [`acl::check`] and [`Lock::settle`].
    pub(super) fn settle(&mut self, transaction: &Transaction<'_>, bucket: &Bucket) -> Result<(), Error> {
        acl::check(transaction, bucket, self.acl.as_deref())?;
        self.lock = self.lock.settle(bucket)?;
        Ok(())
    }

    /// Writes the headers of an answer. Checksums of the content are only for those who ask.
    pub(super) fn answer(&self, headers: &mut HeaderMap, with_checksums: bool) {
        self.headers.answer(headers, with_checksums);
        if with_checksums && self.headers.checksum().is_some() {
            headers.entry(CHECKSUM_TYPE).or_insert(HeaderValue::from_static("FULL_OBJECT"));
        }
        if let Some(class) = self.storage_class.as_deref().and_then(|class| HeaderValue::from_str(class).ok()) {
            headers.insert("x-amz-storage-class", class);
        }
        if let Some(tags) = &self.tags {
            headers.insert("x-amz-tagging-count", HeaderValue::from(tagging::parse(tags).len()));
        }
        self.lock.answer(headers);
    }
}

fn storage_class(headers: &HeaderMap) -> S3Result<Option<String>> {
    let Some(class) = headers.get("x-amz-storage-class") else { return Ok(None) };
    let class = STORAGE_CLASSES.into_iter().find(|known| class.as_bytes() == known.as_bytes());
    let class = class.ok_or(S3ErrorCode::InvalidStorageClass)?;
    Ok((class != "STANDARD").then(|| class.to_owned()))
}
