//! Multipart uploads until they are completed. Every part is a content of its own.

use std::sync::Arc;

use http::HeaderMap;
use rusqlite::Transaction;
use s3s::{S3Error, S3ErrorCode, S3Result, dto, s3_error};

use super::attributes::Attributes;
use super::checks::{Algorithm, Claims, Verified, set_checksum};
use super::copy::{self, Source};
use super::headers::refuse_unknown;
use super::index::buckets::Bucket;
use super::index::contents::Piece;
use super::index::uploads::{Part, Upload};
use super::index::{buckets, contents, uploads};
use super::read::part_number;
use super::write::{Incoming, receive};
use super::{Error, Store, blocking, now_ms};

/// Which upload of which key.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) upload: String,
}

impl Place {
    pub(super) fn find(&self, transaction: &Transaction<'_>) -> Result<(Bucket, Upload), Error> {
        let bucket = buckets::find(transaction, &self.bucket)?;
        let upload = uploads::find(transaction, &bucket, &self.key, &self.upload)?;
        Ok((bucket, upload))
    }
}

/// How the parts of an upload are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checking {
    /// As S3 names them.
    algorithm: String,
    kind: &'static str,
}

pub(super) const COMPOSITE: &str = "COMPOSITE";
pub(super) const FULL_OBJECT: &str = "FULL_OBJECT";

impl Checking {
    fn of(headers: &HeaderMap) -> S3Result<Option<Self>> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let (algorithm, kind) = (text("x-amz-checksum-algorithm"), text("x-amz-checksum-type"));
        let Some(algorithm) = algorithm else {
            return match kind {
                None => Ok(None),
                Some(_) => {
                    let message = "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.";
                    Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message))
                }
            };
        };
        let known = Algorithm::of(algorithm);
        let known = known.ok_or_else(|| s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."))?;
        let is_crc = known.name.starts_with("crc");
        let kind = match kind {
            None if known.name == "crc64nvme" => FULL_OBJECT,
            None | Some(COMPOSITE) if known.name != "crc64nvme" => COMPOSITE,
            Some(FULL_OBJECT) if is_crc => FULL_OBJECT,
            Some(kind @ (COMPOSITE | FULL_OBJECT)) => {
                let message = format!("The {kind} checksum type cannot be used with the {} checksum algorithm.", known.name);
                return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
            }
            _ => return Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid.")),
        };
        Ok(Some(Self { algorithm: known.name.to_ascii_uppercase(), kind }))
    }
}

/// Begins an upload.
pub(super) async fn create(
    store: &Arc<Store>,
    bucket: String,
    key: String,
    headers: &HeaderMap,
) -> S3Result<dto::CreateMultipartUploadOutput> {
    let attributes = Attributes::from_request(headers)?;
    let checking = Checking::of(headers)?;
    let store = Arc::clone(store);
    let work = move || {
        let upload = store.index.change(|transaction| {
            let found = buckets::find(transaction, &bucket)?;
            // The bucket's default retention begins when the object does; what it refuses is refused now.
            attributes.clone().settle(transaction, &found)?;
            let algorithm = checking.as_ref().map(|checking| checking.algorithm.as_str());
            let kind = checking.as_ref().map(|checking| checking.kind);
            uploads::begin(transaction, &found, &key, &attributes, algorithm, kind)
        })?;
        Ok(dto::CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(upload),
            checksum_algorithm: checking.as_ref().map(|checking| checking.algorithm.clone().into()),
            checksum_type: checking.map(|checking| checking.kind.to_owned().into()),
            ..Default::default()
        })
    };
    Ok(blocking(work).await?)
}

/// Whether an upload takes a part with these claims, and what is computed although it was not claimed.
fn admit(bucket: &Bucket, upload: &Upload, claims: &mut Claims) -> Result<(), Error> {
    upload.attributes.lock.settle(bucket)?.demand_checksum(claims.is_some(), "Put Part")?;
    let Some(expected) = upload.checksum.as_deref().and_then(Algorithm::of) else { return Ok(()) };
    let actual = claims.algorithm().map(|algorithm| algorithm.name);
    if actual == Some(expected.name) {
        return Ok(());
    }
    if actual.is_none() && upload.checksum_type.as_deref() == Some(FULL_OBJECT) {
        claims.compute(expected);
        return Ok(());
    }
    let message = format!(
        "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
        expected.name,
        actual.unwrap_or("null")
    );
    Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message).into())
}

/// What an uploaded part became.
pub(super) struct Uploaded {
    pub(super) etag: String,
    pub(super) checksum: Option<Verified>,
}

/// Stores a part, or nothing at all.
pub(super) async fn upload_part(
    store: &Arc<Store>,
    place: Place,
    number: i32,
    headers: &HeaderMap,
    incoming: Incoming,
) -> S3Result<Uploaded> {
    let number = part_number(number)?;
    refuse_unknown(headers)?;
    let mut claims = Claims::from_upload(headers)?;
    // The upload says how its parts are checked, so it is looked at before the body in any case.
    let look = {
        let (store, place) = (Arc::clone(store), place.clone());
        move || {
            store.index.view(|snapshot| {
                let (bucket, upload) = place.find(snapshot)?;
                admit(&bucket, &upload, &mut claims)?;
                Ok((claims, upload.checksum))
            })
        }
    };
    let (claims, checking) = blocking(look).await?;
    let received = receive(store, claims, incoming).await?;

    let store = Arc::clone(store);
    let commit = move || {
        let (new, checksum) = received.finish()?;
        let (etag, size) = (new.etag(), new.len());
        let mut dead = Vec::new();
        store.index.change(|transaction| {
            let (_, upload) = place.find(transaction)?;
            let content = contents::make(transaction, &[Piece::whole(new.id(), size)])?;
            // What an upload without an algorithm is given is verified and not kept.
            let kept = checksum.as_ref().filter(|_| checking.is_some()).map(|checksum| checksum.value.clone());
            let part = Part { number, content, size, etag: etag.clone(), modified_ms: now_ms(), checksum: kept };
            uploads::add_part(transaction, &upload, &part, &mut dead)
        })?;
        new.keep();
        store.bury(dead);
        Ok(Uploaded { etag, checksum })
    };
    Ok(blocking(commit).await?)
}

/// Makes a part of a slice of an object.
pub(super) async fn copy_part(
    store: &Arc<Store>,
    place: Place,
    number: i32,
    source: Source,
) -> S3Result<dto::UploadPartCopyOutput> {
    let number = part_number(number)?;
    let store = Arc::clone(store);
    let work = move || {
        loop {
            let (seq, pieces, checking) = store.index.view(|snapshot| {
                let (_, upload) = place.find(snapshot)?;
                let taken = source.take(snapshot)?;
                let pieces = contents::pieces(snapshot, taken.content, &taken.span)?;
                Ok((taken.version.seq, pieces, upload.checksum))
            })?;
            // Only a checksum needs the bytes to be read. The source may go meanwhile; then everything is looked at again.
            let algorithm = checking.as_deref().and_then(Algorithm::of);
            let checksum = match algorithm {
                Some(algorithm) => match copy::checksum(&store, algorithm, pieces, seq)? {
                    Some(checksum) => Some(checksum),
                    None => continue,
                },
                None => None,
            };
            let mut dead = Vec::new();
            let output = store.index.change(|transaction| {
                let (_, upload) = place.find(transaction)?;
                let taken = source.take(transaction)?;
                if taken.version.seq != seq {
                    return Ok(None);
                }
                let pieces = contents::pieces(transaction, taken.content, &taken.span)?;
                let content = contents::make(transaction, &pieces)?;
                let size = taken.span.end - taken.span.start;
                let (etag, modified_ms) = (taken.etag(), now_ms());
                let part = Part { number, content, size, etag: etag.clone(), modified_ms, checksum: checksum.clone() };
                uploads::add_part(transaction, &upload, &part, &mut dead)?;
                let mut result = dto::CopyPartResult {
                    e_tag: Some(dto::ETag::Strong(etag)),
                    last_modified: Some(super::read::timestamp(modified_ms)),
                    ..Default::default()
                };
                if let (Some(algorithm), Some(checksum)) = (algorithm, checksum.clone()) {
                    set_checksum!(result, algorithm.name, checksum);
                }
                Ok(Some(dto::UploadPartCopyOutput {
                    copy_part_result: Some(result),
                    copy_source_version_id: taken.shown,
                    ..Default::default()
                }))
            })?;
            store.bury(dead);
            if let Some(output) = output {
                return Ok(output);
            }
        }
    };
    Ok(blocking(work).await?)
}

/// Gives an upload up.
pub(super) async fn abort(store: &Arc<Store>, place: Place) -> S3Result<()> {
    let store = Arc::clone(store);
    let work = move || {
        let mut dead = Vec::new();
        store.index.change(|transaction| {
            let (_, upload) = place.find(transaction)?;
            uploads::remove(transaction, &upload, &mut dead)
        })?;
        store.bury(dead);
        Ok(())
    };
    Ok(blocking(work).await?)
}

/// One page of the parts of an upload.
pub(super) struct PartsPage {
    pub(super) upload: Upload,
    pub(super) parts: Vec<Part>,
    pub(super) truncated: bool,
}

/// Lists the parts with numbers above `after`.
pub(super) async fn list_parts(store: &Arc<Store>, place: Place, after: u32, max: usize) -> S3Result<PartsPage> {
    let store = Arc::clone(store);
    let work = move || {
        store.index.view(|snapshot| {
            let (_, upload) = place.find(snapshot)?;
            let mut parts = uploads::parts(snapshot, &upload, after, max + 1)?;
            let truncated = parts.len() > max;
            parts.truncate(max);
            Ok(PartsPage { upload, parts, truncated })
        })
    };
    Ok(blocking(work).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_parts_are_checked() {
        let checking = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            let checking = Checking::of(&headers.collect()).map_err(|error| error.code().as_str().to_owned());
            checking.map(|checking| checking.map(|checking| (checking.algorithm, checking.kind)))
        };
        let algorithm = |name| ("x-amz-checksum-algorithm", name);
        let kind = |name| ("x-amz-checksum-type", name);
        assert_eq!(checking(&[]), Ok(None));
        let found = |name: &str, kind| Ok(Some((name.to_owned(), kind)));
        assert_eq!(checking(&[algorithm("CRC32")]), found("CRC32", COMPOSITE));
        assert_eq!(checking(&[algorithm("CRC64NVME")]), found("CRC64NVME", FULL_OBJECT));
        assert_eq!(checking(&[algorithm("CRC32C"), kind("FULL_OBJECT")]), found("CRC32C", FULL_OBJECT));
        assert_eq!(checking(&[algorithm("SHA256"), kind("COMPOSITE")]), found("SHA256", COMPOSITE));
        for wrong in [
            &[algorithm("SHA256"), kind("FULL_OBJECT")][..],
            &[algorithm("CRC64NVME"), kind("COMPOSITE")],
            &[algorithm("CRC32"), kind("OTHER")],
            &[algorithm("CRC99")],
            &[kind("COMPOSITE")],
        ] {
            assert_eq!(checking(wrong), Err("InvalidRequest".into()), "{wrong:?}");
        }
    }
}
