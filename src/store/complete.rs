//! CompleteMultipartUpload: the pieces of the parts become the pieces of an object. No bytes move.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HOST;
use percent_encoding::utf8_percent_encode;
use rusqlite::Transaction;
use s3s::{S3Error, S3ErrorCode, S3Result, dto};

use super::bodies::BodyId;
use super::checks::{Algorithm, Verified, combine, get_checksum, set_checksum};
use super::headers::CHECKSUM_TYPE;
use super::index::conditions::Conditions;
use super::index::contents::Segment;
use super::index::uploads::{Completed, Part, Upload};
use super::index::{contents, uploads, versions};
use super::listing::URL_ENCODED;
use super::multipart::{COMPOSITE, FULL_OBJECT, Place};
use super::read::part_number;
use super::{Error, Store, blocking, now_ms};

/// All parts but the last have at least so many bytes.
const PART_MIN: u64 = 5 * 1024 * 1024;

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
