//! Multipart uploads. Every part is a content of its own; a completed object is the list of the pieces of its parts, so that Complete
//! moves no bytes.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HOST;
use percent_encoding::utf8_percent_encode;
use rusqlite::Transaction;
use s3s::{S3Error, S3ErrorCode, S3Result, dto, s3_error};

use super::attributes::Attributes;
use super::bodies::BodyId;
use super::checks::{Algorithm, Claims, Verified, combine, get_checksum, set_checksum};
use super::copy::{self, Source};
use super::headers::{CHECKSUM_TYPE, refuse_unknown};
use super::index::buckets::Bucket;
use super::index::conditions::Conditions;
use super::index::contents::{Piece, Segment};
use super::index::uploads::{Completed, Part, Upload};
use super::index::{buckets, contents, uploads, versions};
use super::listing::URL_ENCODED;
use super::read::part_number;
use super::write::{Incoming, receive};
use super::{Error, Store, blocking, now_ms};

/// All parts but the last have at least so many bytes.
const PART_MIN: u64 = 5 * 1024 * 1024;

/// Which upload of which key.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) upload: String,
}

impl Place {
    fn find(&self, transaction: &Transaction<'_>) -> Result<(Bucket, Upload), Error> {
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

const COMPOSITE: &str = "COMPOSITE";
const FULL_OBJECT: &str = "FULL_OBJECT";

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

/// A request to complete an upload.
pub(super) struct Complete {
    pub(super) place: Place,
    pub(super) parts: dto::CompletedPartList,
    pub(super) conditions: Conditions,
    /// What the size of the object should be.
    pub(super) size: Option<i64>,
    /// What the checksum of the object should be: algorithm and value.
    pub(super) checksum: Option<(&'static str, String)>,
}

/// A part as the request names it.
struct Named {
    number: u32,
    etag: String,
    checksum: Option<(&'static str, String)>,
}

impl Complete {
    /// The parts in the order of the request, which must be their own.
    fn named(&self) -> S3Result<Vec<Named>> {
        if self.parts.is_empty() {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let mut named: Vec<Named> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let (Some(number), Some(etag)) = (part.part_number, &part.e_tag) else {
                return Err(S3ErrorCode::MalformedXML.into());
            };
            let number = part_number(number)?;
            if named.last().is_some_and(|last| last.number >= number) {
                return Err(S3ErrorCode::InvalidPartOrder.into());
            }
            named.push(Named { number, etag: etag.value().to_owned(), checksum: get_checksum!(*part) });
        }
        Ok(named)
    }

    /// What makes two requests the same.
    fn fingerprint(&self, named: &[Named]) -> String {
        let parts: Vec<String> = named.iter().map(|part| format!("{}:{}", part.number, part.etag)).collect();
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(parts.join(",").as_bytes()))
    }
}

/// What an upload became.
pub(super) struct Whole {
    pub(super) completed: Completed,
    /// Algorithm and type of the checksum.
    checking: Option<(String, String)>,
}

/// Completes an upload. The same request again gets the same answer for a day.
pub(super) async fn complete(store: &Arc<Store>, request: Complete) -> S3Result<Whole> {
    let named = request.named()?;
    let store = Arc::clone(store);
    let work = move || {
        let mut dead = Vec::new();
        let whole = store.index.change(|transaction| assemble(transaction, &request, &named, &mut dead))?;
        store.bury(dead);
        Ok(whole)
    };
    Ok(blocking(work).await?)
}

fn assemble(transaction: &Transaction<'_>, request: &Complete, named: &[Named], dead: &mut Vec<BodyId>) -> Result<Whole, Error> {
    let Place { bucket: bucket_name, key, upload: id } = &request.place;
    let fingerprint = request.fingerprint(named);
    let (bucket, upload) = match request.place.find(transaction) {
        Err(Error::NoSuchUpload) => {
            let completed = uploads::completed(transaction, bucket_name, key, id)?;
            let completed = completed.filter(|completed| completed.request == fingerprint).ok_or(Error::NoSuchUpload)?;
            return Ok(Whole { completed, checking: None });
        }
        found => found?,
    };
    let parts = chosen(transaction, &upload, named)?;
    let size: u64 = parts.iter().map(|part| part.size).sum();
    if let Some(expected) = request.size
        && u64::try_from(expected).ok() != Some(size)
    {
        let message =
            format!("The provided 'x-amz-mp-object-size' header value {expected} does not match what was computed: {size}");
        return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message).into());
    }
    versions::check(transaction, &bucket, key, &request.conditions)?;

    let mut attributes = upload.attributes.clone();
    attributes.settle(transaction, &bucket)?;
    let checksum = checksum(&upload, named, &parts)?;
    if let (Some((asked, value)), Some((algorithm, computed))) = (&request.checksum, &checksum)
        && (!algorithm.name.eq_ignore_ascii_case(asked) || value.split('-').next() != computed.split('-').next())
    {
        let message = format!("The {asked} you specified did not match the calculated checksum.");
        return Err(S3Error::with_message(S3ErrorCode::BadDigest, message).into());
    }
    if let Some((algorithm, value)) = &checksum {
        let verified = Verified { algorithm: algorithm.name, value: value.clone() };
        attributes.headers.push(&verified.header(), value.as_bytes());
        attributes.headers.push(CHECKSUM_TYPE, upload.checksum_type.as_deref().unwrap_or(COMPOSITE).as_bytes());
    }

    let mut pieces = Vec::new();
    let mut segments = Vec::with_capacity(parts.len());
    let mut offset = 0;
    let mut digests = Vec::with_capacity(parts.len() * 16);
    for part in &parts {
        pieces.extend(contents::all_pieces(transaction, part.content)?);
        segments.push(Segment { number: part.number, offset, size: part.size, checksum: part.checksum.clone() });
        offset += part.size;
        digests.extend(data_encoding::HEXLOWER.decode(part.etag.as_bytes()).map_err(|_| Error::MalformedRow)?);
    }
    let content = contents::make(transaction, &pieces)?;
    contents::note_segments(transaction, content, &segments)?;
    let etag = format!("{:032x}-{}", xxhash_rust::xxh3::xxh3_128(&digests), parts.len());
    let count = u32::try_from(parts.len()).map_err(|_| Error::MalformedRow)?;
    let new = versions::New {
        content: Some(content),
        size,
        etag: &etag,
        modified_ms: now_ms(),
        parts: Some(count),
        attributes: &attributes,
    };
    let version = versions::add(transaction, &bucket, key, &new, dead)?;
    uploads::remove(transaction, &upload, dead)?;
    let checksum = checksum.map(|(_, value)| value);
    let completed = Completed { request: fingerprint, etag, version, checksum };
    uploads::remember(transaction, bucket_name, key, id, &completed)?;
    Ok(Whole { completed, checking: upload.checksum.zip(upload.checksum_type) })
}

/// The parts that a request names, as they were uploaded.
fn chosen(transaction: &Transaction<'_>, upload: &Upload, named: &[Named]) -> Result<Vec<Part>, Error> {
    let mut uploaded = uploads::parts(transaction, upload, 0, usize::MAX)?.into_iter().peekable();
    let mut chosen: Vec<Part> = Vec::with_capacity(named.len());
    for (place, name) in named.iter().enumerate() {
        while uploaded.next_if(|part| part.number < name.number).is_some() {}
        let part = uploaded.next_if(|part| part.number == name.number);
        let part = part.filter(|part| part.etag == name.etag).ok_or(S3ErrorCode::InvalidPart)?;
        if part.size < PART_MIN && place + 1 < named.len() {
            return Err(S3ErrorCode::EntityTooSmall.into());
        }
        chosen.push(part);
    }
    Ok(chosen)
}

/// The checksum of the object, when its upload was begun with one.
fn checksum(upload: &Upload, named: &[Named], parts: &[Part]) -> Result<Option<(&'static Algorithm, String)>, Error> {
    let Some(algorithm) = upload.checksum.as_deref().and_then(Algorithm::of) else {
        // A checksum that nobody compared cannot be believed.
        if named.iter().any(|name| name.checksum.is_some()) {
            return Err(S3ErrorCode::InvalidPart.into());
        }
        return Ok(None);
    };
    let is_full = upload.checksum_type.as_deref() == Some(FULL_OBJECT);
    let mut values = Vec::with_capacity(parts.len());
    for (name, part) in named.iter().zip(parts) {
        let value = part.checksum.clone().ok_or(Error::MalformedRow)?;
        match &name.checksum {
            Some((asked, _)) if !algorithm.name.eq_ignore_ascii_case(asked) => {
                let message = format!("The {asked} you specified for part {} did not match what we received.", part.number);
                return Err(S3Error::with_message(S3ErrorCode::BadDigest, message).into());
            }
            Some((_, claimed)) if *claimed != value => return Err(S3ErrorCode::InvalidPart.into()),
            None if !is_full => {
                let message = format!(
                    "The upload was created using a {} checksum. The complete request must include the checksum for each part. \
                     It was missing for part {} in the request.",
                    algorithm.name, part.number
                );
                return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message).into());
            }
            _ => {}
        }
        values.push((value, part.size));
    }
    let value = combine(algorithm, is_full, &values).ok_or(Error::MalformedRow)?;
    Ok(Some((algorithm, value)))
}

impl Whole {
    /// The document of an answer.
    pub(super) fn output(self, bucket: String, key: String, headers: &HeaderMap) -> dto::CompleteMultipartUploadOutput {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let location = format!("http://{host}/{bucket}/{}", utf8_percent_encode(&key, URL_ENCODED));
        let mut output = dto::CompleteMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            location: Some(location),
            e_tag: Some(dto::ETag::Strong(self.completed.etag)),
            version_id: self.completed.version,
            ..Default::default()
        };
        if let (Some((algorithm, kind)), Some(checksum)) = (self.checking, self.completed.checksum) {
            set_checksum!(output, algorithm, checksum);
            output.checksum_type = Some(kind.into());
        }
        output
    }
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
