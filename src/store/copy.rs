//! Copies on the server's side: the source of a copy, and CopyObject. A copy names the same body files as its source; no byte moves.

use std::ops::Range as Span;
use std::sync::Arc;

use http::HeaderMap;
use s3s::dto::{self, CopySource};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::attributes::Attributes;
use super::checks::{Algorithm, Verified, compute, set_checksum};
use super::headers::{CHECKSUM_TYPE, Stored, WEBSITE_REDIRECT};
use super::index::conditions::Conditions;
use super::index::contents::Piece;
use super::index::versions::Version;
use super::index::{buckets, contents, versions};
use super::read::{self, timestamp};
use super::stream::Cursor;
use super::{Error, Store, blocking, now_ms};

/// Bytes that one copy may take at most; larger objects are copied in parts.
const COPY_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// What a copy takes, and under which conditions.
pub(super) struct Source {
    bucket: String,
    key: String,
    version: Option<String>,
    range: Option<Span<u64>>,
    conditions: read::Conditions,
}

/// A source that was found, in the transaction that uses it.
pub(super) struct Taken {
    pub(super) version: Version,
    /// The version id for the answer.
    pub(super) shown: Option<String>,
    pub(super) content: i64,
    pub(super) span: Span<u64>,
}

impl Source {
    /// Reads the headers of a copy. `range` is that of UploadPartCopy.
    ///
    /// # Errors
    /// `InvalidArgument`, and `NotImplemented` for access points.
    pub(super) fn of(source: CopySource, range: Option<&str>, headers: &HeaderMap) -> S3Result<Self> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "Access points are not implemented by this store."));
        };
        Ok(Self {
            bucket: bucket.into(),
            key: key.into(),
            version: version_id.map(Into::into),
            range: range.map(parse_range).transpose()?,
            conditions: read::Conditions::of_source(headers)?,
        })
    }

    /// Finds the source and judges the conditions.
    ///
    /// # Errors
    /// `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion`, `PreconditionFailed`, and `InvalidRequest` for a delete marker, a source that is
    /// too large and a range that it does not have.
    pub(super) fn take(&self, transaction: &rusqlite::Transaction<'_>) -> Result<Taken, Error> {
        let bucket = buckets::find(transaction, &self.bucket)?;
        let (version, content) = match versions::readable(transaction, &bucket, &self.key, self.version.as_deref()) {
            Err(Error::DeleteMarker { asked_for: true, .. }) => {
                let message = "The source of a copy request may not specifically refer to a delete marker by version id.";
                return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message).into());
            }
            found => found?,
        };
        self.conditions.check_source(&version)?;
        let span = match &self.range {
            None => 0..version.size,
            Some(range) if range.start >= version.size => {
                let message = "The specified copy range is invalid for the source object size";
                return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message).into());
            }
            Some(range) if range.end > version.size => {
                let message = format!("Range specified is not valid for source object of size: {}", version.size);
                return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, message).into());
            }
            Some(range) => range.clone(),
        };
        if span.end - span.start > COPY_MAX {
            let message =
                format!("The specified copy source is larger than the maximum allowable size for a copy source: {COPY_MAX}");
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message).into());
        }
        let shown = bucket.shown(version.id.clone());
        Ok(Taken { version, shown, content, span })
    }
}

/// `bytes=first-last`, both given.
fn parse_range(range: &str) -> S3Result<Span<u64>> {
    let parse = || {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let (first, last) = (digits(first)?, digits(last)?);
        (first <= last).then_some(first..last.checked_add(1)?)
    };
    let message = "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based \
                   offsets of the first and last bytes to copy";
    parse().ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidArgument, message))
}

impl Taken {
    /// The `ETag` of a copy. Bytes that were once uploaded in one go keep theirs; for all others it is made from where they come,
    /// because to hash them would mean to read them.
    pub(super) fn etag(&self) -> String {
        let Version { etag, parts, size, .. } = &self.version;
        if parts.is_none() && self.span == (0..*size) {
            return etag.clone();
        }
        let origin = format!("{etag} {}-{}", self.span.start, self.span.end);
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(origin.as_bytes()))
    }
}

/// The checksum of these pieces of a version; `None` when the version is gone.
pub(super) fn checksum(store: &Store, algorithm: &Algorithm, pieces: Vec<Piece>, seq: i64) -> Result<Option<String>, Error> {
    let is_there = || store.index.view(|snapshot| versions::exists(snapshot, seq));
    let Some(mut cursor) = Cursor::open(&store.bodies, pieces, is_there)? else { return Ok(None) };
    compute(algorithm, |update| {
        loop {
            let bytes = cursor.next()?;
            if bytes.is_empty() {
                return Ok(());
            }
            update(&bytes);
        }
    })
}

/// Whether the copy takes something over from its source, or brings it along.
fn replaces(headers: &HeaderMap, directive: &str) -> S3Result<bool> {
    match headers.get(directive).map(|value| value.as_bytes()) {
        None | Some(b"COPY") => Ok(false),
        Some(b"REPLACE") => Ok(true),
        Some(_) => Err(S3Error::with_message(S3ErrorCode::InvalidArgument, format!("Unknown {directive}."))),
    }
}

/// A request to copy an object.
pub(super) struct Copy {
    pub(super) source: Source,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) conditions: Conditions,
    brought: Attributes,
    replaces_metadata: bool,
    replaces_tags: bool,
    changes_encryption: bool,
    /// A checksum to compute.
    algorithm: Option<&'static Algorithm>,
}

impl Copy {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// Those of [`Attributes::from_request`], and `InvalidArgument` and `InvalidRequest` for what cannot be.
    pub(super) fn of(source: Source, bucket: String, key: String, conditions: Conditions, headers: &HeaderMap) -> S3Result<Self> {
        let algorithm = match headers.get("x-amz-checksum-algorithm") {
            None => None,
            Some(name) => {
                let known = name.to_str().ok().and_then(Algorithm::of);
                Some(known.ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))?)
            }
        };
        let replaces_metadata = replaces(headers, "x-amz-metadata-directive")?;
        let mut brought = Attributes::from_request(headers)?;
        if !replaces_metadata {
            brought.headers = Stored::of_copy(headers)?;
        }
        let changes_encryption = headers.keys().any(|name| name.as_str().starts_with("x-amz-server-side-encryption"));
        Ok(Self {
            source,
            bucket,
            key,
            conditions,
            brought,
            replaces_metadata,
            replaces_tags: replaces(headers, "x-amz-tagging-directive")?,
            changes_encryption,
            algorithm,
        })
    }

    /// A copy onto itself must change something.
    fn check_self(&self, source: &Version) -> S3Result<()> {
        let Source { bucket, key, version, .. } = &self.source;
        let onto_itself = version.is_none() && *bucket == self.bucket && *key == self.key;
        let changes = self.replaces_metadata
            || self.changes_encryption
            || self.brought.storage_class != source.attributes.storage_class
            || self.brought.headers.get(WEBSITE_REDIRECT.as_str()) != source.attributes.headers.get(WEBSITE_REDIRECT.as_str());
        if !onto_itself || changes {
            return Ok(());
        }
        let message = "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
                       metadata, storage class, website redirect location or encryption attributes.";
        Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message))
    }

    /// What the copy carries.
    fn attributes(&self, source: &Version, checksum: Option<&Verified>) -> Attributes {
        let mut attributes = self.brought.clone();
        if !self.replaces_metadata {
            attributes.headers.extend(source.attributes.headers.copied());
        }
        if !self.replaces_tags {
            attributes.tags = source.attributes.tags.clone();
        }
        match checksum {
            Some(checksum) => attributes.headers.push(&checksum.header(), checksum.value.as_bytes()),
            // A checksum of the checksums of parts is none of the copy, which has no parts.
            None if source.attributes.headers.get(CHECKSUM_TYPE) != Some("COMPOSITE") => {
                attributes.headers.extend(source.attributes.headers.checksums());
            }
            None => {}
        }
        attributes
    }
}

/// Copies an object.
pub(super) async fn copy(store: &Arc<Store>, copy: Copy) -> S3Result<dto::CopyObjectOutput> {
    let store = Arc::clone(store);
    let work = move || {
        loop {
            // Only a new checksum needs the bytes to be read. The source may go meanwhile; then everything is looked at again.
            let computed = match copy.algorithm {
                None => None,
                Some(algorithm) => {
                    let (seq, pieces) = store.index.view(|snapshot| {
                        let taken = copy.source.take(snapshot)?;
                        Ok((taken.version.seq, contents::pieces(snapshot, taken.content, &taken.span)?))
                    })?;
                    let Some(value) = checksum(&store, algorithm, pieces, seq)? else { continue };
                    Some((seq, Verified { algorithm: algorithm.name, value }))
                }
            };
            let mut dead = Vec::new();
            let output = store.index.change(|transaction| {
                let taken = copy.source.take(transaction)?;
                if computed.as_ref().is_some_and(|(seq, _)| *seq != taken.version.seq) {
                    return Ok(None);
                }
                let bucket = buckets::find(transaction, &copy.bucket)?;
                copy.check_self(&taken.version)?;
                versions::check(transaction, &bucket, &copy.key, &copy.conditions)?;
                let mut attributes = copy.attributes(&taken.version, computed.as_ref().map(|(_, checksum)| checksum));
                attributes.settle(transaction, &bucket)?;
                let (etag, modified_ms) = (taken.etag(), now_ms());
                let new = versions::New {
                    content: Some(taken.content),
                    size: taken.version.size,
                    etag: &etag,
                    modified_ms,
                    parts: None,
                    attributes: &attributes,
                };
                let version = versions::add(transaction, &bucket, &copy.key, &new, &mut dead)?;
                Ok(Some(output(&attributes, taken.shown, version, etag, modified_ms)))
            })?;
            store.bury(dead);
            if let Some(output) = output {
                return Ok(output);
            }
        }
    };
    Ok(blocking(work).await?)
}

fn output(
    attributes: &Attributes,
    source: Option<String>,
    version: Option<String>,
    etag: String,
    modified_ms: i64,
) -> dto::CopyObjectOutput {
    let mut result = dto::CopyObjectResult {
        e_tag: Some(dto::ETag::Strong(etag)),
        last_modified: Some(timestamp(modified_ms)),
        ..Default::default()
    };
    if let Some((algorithm, value)) = attributes.headers.checksum() {
        set_checksum!(result, algorithm, value.to_owned());
        result.checksum_type = Some("FULL_OBJECT".to_owned().into());
    }
    let text = |name: &str| attributes.headers.get(name).map(str::to_owned);
    dto::CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: source,
        version_id: version,
        server_side_encryption: text("x-amz-server-side-encryption").map(Into::into),
        ssekms_key_id: text("x-amz-server-side-encryption-aws-kms-key-id"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_copy() {
        assert_eq!(parse_range("bytes=0-0").unwrap(), 0..1);
        assert_eq!(parse_range("bytes=5-99").unwrap(), 5..100);
        for wrong in ["bytes=5-", "bytes=-5", "bytes=9-8", "0-1", "bytes=0-1,3-4", "bytes=+1-2", "bytes=0-18446744073709551615"] {
            assert_eq!(parse_range(wrong).unwrap_err().code(), &S3ErrorCode::InvalidArgument, "{wrong}");
        }
    }
}
