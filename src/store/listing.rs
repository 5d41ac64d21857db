//! The listings, from what the index finds to what S3 answers.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{self, EncodingType};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::checks::set_checksum;
use super::index::list::{Entry, Object, Page, Query};
use super::multipart::{PartsPage, Place, list_parts};
use super::read::timestamp;
use super::s3::owner;
use super::{Store, blocking};

/// Entries on one page of a listing, and keys in one DeleteObjects.
pub(super) const PAGE_MAX: usize = 1000;

/// Buckets on one page.
const BUCKETS_MAX: usize = 10_000;

/// What stays as it is in a listing with `encoding-type=url`.
pub(super) const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The length of a page.
///
/// # Errors
/// `InvalidArgument` for a negative one.
pub(super) fn page_max(asked: Option<i32>, name: &str) -> S3Result<usize> {
    let asked = asked.map_or(Ok(PAGE_MAX), usize::try_from);
    asked.map(|asked| asked.min(PAGE_MAX)).map_err(|_| s3_error!(InvalidArgument, "{name} is negative."))
}

/// Encodes names for an answer, when the client asked for it.
#[derive(Clone, Copy)]
struct Encoding(bool);

impl Encoding {
    fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    fn apply(self, name: &str) -> String {
        if self.0 { utf8_percent_encode(name, URL_ENCODED).to_string() } else { name.to_owned() }
    }

    fn opt(self, name: Option<String>) -> Option<String> {
        name.map(|name| self.apply(&name))
    }
}

/// Splits a page into what S3 lists apart.
fn split(page: Page<Object>, encoding: Encoding, with_owner: bool) -> (dto::ObjectList, dto::CommonPrefixList) {
    let mut objects = dto::ObjectList::new();
    let mut prefixes = dto::CommonPrefixList::new();
    for entry in page.entries {
        match entry {
            Entry::Key(key, object) => objects.push(dto::Object {
                e_tag: Some(dto::ETag::Strong(object.etag)),
                key: Some(encoding.apply(&key)),
                last_modified: Some(timestamp(object.modified_ms)),
                owner: with_owner.then(owner),
                size: i64::try_from(object.size).ok(),
                storage_class: Some(object.storage_class.unwrap_or_else(|| "STANDARD".to_owned()).into()),
                ..dto::Object::default()
            }),
            Entry::Prefix(prefix) => prefixes.push(dto::CommonPrefix { prefix: Some(encoding.apply(&prefix)) }),
        }
    }
    (objects, prefixes)
}

/// Where the next page starts.
fn last<T>(page: &Page<T>) -> Option<String> {
    page.entries.last().filter(|_| page.truncated).map(|entry| entry.name().to_owned())
}

fn token(last: &str) -> String {
    data_encoding::BASE64URL_NOPAD.encode(last.as_bytes())
}

fn parse_token(token: &str) -> S3Result<String> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(token.as_bytes()).ok();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// Answers ListBuckets.
pub(super) async fn buckets(store: &Arc<Store>, input: dto::ListBucketsInput) -> S3Result<dto::ListBucketsOutput> {
    let dto::ListBucketsInput { bucket_region, continuation_token, max_buckets, prefix } = input;
    let after = continuation_token.as_deref().map(parse_token).transpose()?.unwrap_or_default();
    let max = max_buckets.map_or(Ok(BUCKETS_MAX), usize::try_from).ok().filter(|max| (1..=BUCKETS_MAX).contains(max));
    let max = max.ok_or_else(|| s3_error!(InvalidArgument, "max-buckets must be between 1 and 10000."))?;
    let wanted = prefix.clone().unwrap_or_default();
    let store = Arc::clone(store);
    let mut buckets = blocking(move || store.index.buckets(&wanted, &after, max + 1)).await?;
    let more = buckets.len() > max;
    buckets.truncate(max);
    let continuation_token = buckets.last().filter(|_| more).map(|bucket| token(&bucket.name));
    let buckets = buckets.into_iter().filter(|bucket| bucket_region.as_ref().is_none_or(|region| *region == bucket.region));
    let buckets = buckets
        .map(|bucket| dto::Bucket {
            bucket_region: Some(bucket.region),
            creation_date: Some(timestamp(bucket.created_ms)),
            name: Some(bucket.name),
            ..Default::default()
        })
        .collect();
    Ok(dto::ListBucketsOutput { buckets: Some(buckets), continuation_token, owner: Some(owner()), prefix })
}

/// Answers ListObjects.
pub(super) async fn objects(store: &Arc<Store>, input: dto::ListObjectsInput) -> S3Result<dto::ListObjectsOutput> {
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let max = page_max(input.max_keys, "max-keys")?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: input.marker.clone().filter(|marker| !marker.is_empty()),
        max,
        ..Query::default()
    };
    let (store, bucket) = (Arc::clone(store), input.bucket.clone());
    let page = blocking(move || store.index.list(&bucket, &query)).await?;
    let truncated = page.truncated;
    // S3 names the next marker only with a delimiter; without one it is the last key.
    let next = last(&page).filter(|_| input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()));
    let (contents, common_prefixes) = split(page, encoding, true);
    Ok(dto::ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.apply(&input.prefix.unwrap_or_default())),
        marker: Some(encoding.apply(&input.marker.unwrap_or_default())),
        max_keys: i32::try_from(max).ok(),
        is_truncated: Some(truncated),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: encoding.opt(input.delimiter),
        next_marker: encoding.opt(next),
        encoding_type: input.encoding_type,
        request_charged: None,
    })
}

/// Answers ListObjectsV2.
pub(super) async fn objects_v2(store: &Arc<Store>, input: dto::ListObjectsV2Input) -> S3Result<dto::ListObjectsV2Output> {
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let max = page_max(input.max_keys, "max-keys")?;
    let resume = input.continuation_token.as_deref().map(parse_token).transpose()?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: resume.or_else(|| input.start_after.clone()).filter(|after| !after.is_empty()),
        max,
        ..Query::default()
    };
    let (store, bucket) = (Arc::clone(store), input.bucket.clone());
    let page = blocking(move || store.index.list(&bucket, &query)).await?;
    let truncated = page.truncated;
    let next = last(&page);
    let (contents, common_prefixes) = split(page, encoding, input.fetch_owner == Some(true));
    Ok(dto::ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoding.apply(&input.prefix.unwrap_or_default())),
        max_keys: i32::try_from(max).ok(),
        key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(truncated),
        next_continuation_token: next.map(|next| token(&next)),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: encoding.opt(input.delimiter),
        encoding_type: input.encoding_type,
        start_after: encoding.opt(input.start_after),
        request_charged: None,
    })
}

/// Answers ListObjectVersions.
pub(super) async fn versions(store: &Arc<Store>, input: dto::ListObjectVersionsInput) -> S3Result<dto::ListObjectVersionsOutput> {
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let max = page_max(input.max_keys, "max-keys")?;
    let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
    if input.version_id_marker.as_deref() == Some("") {
        return Err(s3_error!(InvalidArgument, "A version-id marker cannot be empty."));
    }
    if input.version_id_marker.is_some() && key_marker.is_none() {
        return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
    }
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: key_marker,
        after_id: input.version_id_marker.clone(),
        max,
    };
    let (store, bucket) = (Arc::clone(store), input.bucket.clone());
    let page = blocking(move || store.index.list_versions(&bucket, &query)).await?;
    let next_key_marker = encoding.opt(last(&page));
    let mut next_version_id_marker = None;
    let truncated = page.truncated;
    let mut versions = dto::ObjectVersionList::new();
    let mut delete_markers = dto::DeleteMarkers::new();
    let mut common_prefixes = dto::CommonPrefixList::new();
    for entry in page.entries {
        next_version_id_marker = None;
        let (key, version) = match entry {
            Entry::Prefix(prefix) => {
                common_prefixes.push(dto::CommonPrefix { prefix: Some(encoding.apply(&prefix)) });
                continue;
            }
            Entry::Key(key, version) => (encoding.apply(&key), version),
        };
        let id = version.id.unwrap_or_else(|| "null".to_owned());
        next_version_id_marker = Some(id.clone());
        match version.object {
            Some(object) => versions.push(dto::ObjectVersion {
                e_tag: Some(dto::ETag::Strong(object.etag)),
                is_latest: Some(version.latest),
                key: Some(key),
                last_modified: Some(timestamp(object.modified_ms)),
                owner: Some(owner()),
                size: i64::try_from(object.size).ok(),
                storage_class: Some(object.storage_class.unwrap_or_else(|| "STANDARD".to_owned()).into()),
                version_id: Some(id),
                ..Default::default()
            }),
            None => delete_markers.push(dto::DeleteMarkerEntry {
                is_latest: Some(version.latest),
                key: Some(key),
                last_modified: Some(timestamp(version.modified_ms)),
                owner: Some(owner()),
                version_id: Some(id),
            }),
        }
    }
    Ok(dto::ListObjectVersionsOutput {
        common_prefixes: Some(common_prefixes),
        delete_markers: Some(delete_markers),
        delimiter: encoding.opt(input.delimiter),
        encoding_type: input.encoding_type,
        is_truncated: Some(truncated),
        key_marker: Some(encoding.apply(&input.key_marker.unwrap_or_default())),
        max_keys: i32::try_from(max).ok(),
        name: Some(input.bucket),
        next_key_marker,
        next_version_id_marker: next_version_id_marker.filter(|_| truncated),
        prefix: Some(encoding.apply(&input.prefix.unwrap_or_default())),
        request_charged: None,
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        versions: Some(versions),
    })
}

/// Answers ListMultipartUploads.
pub(super) async fn uploads(
    store: &Arc<Store>,
    input: dto::ListMultipartUploadsInput,
) -> S3Result<dto::ListMultipartUploadsOutput> {
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let max = page_max(input.max_uploads, "max-uploads")?;
    let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        // S3 ignores the marker of an upload without that of a key.
        after_id: input.upload_id_marker.clone().filter(|id| key_marker.is_some() && !id.is_empty()),
        after: key_marker,
        max,
    };
    let (store, bucket) = (Arc::clone(store), input.bucket.clone());
    let page = blocking(move || store.index.list_uploads(&bucket, &query)).await?;
    let next_key_marker = encoding.opt(last(&page));
    let truncated = page.truncated;
    let mut next_upload_id_marker = None;
    let mut uploads = dto::MultipartUploadList::new();
    let mut common_prefixes = dto::CommonPrefixList::new();
    for entry in page.entries {
        next_upload_id_marker = None;
        match entry {
            Entry::Prefix(prefix) => common_prefixes.push(dto::CommonPrefix { prefix: Some(encoding.apply(&prefix)) }),
            Entry::Key(key, upload) => {
                next_upload_id_marker = Some(upload.id.clone());
                uploads.push(dto::MultipartUpload {
                    checksum_algorithm: upload.checksum.map(Into::into),
                    checksum_type: upload.checksum_type.map(Into::into),
                    initiated: Some(timestamp(upload.initiated_ms)),
                    initiator: Some(initiator()),
                    key: Some(encoding.apply(&key)),
                    owner: Some(owner()),
                    storage_class: Some(upload.storage_class.unwrap_or_else(|| "STANDARD".to_owned()).into()),
                    upload_id: Some(upload.id),
                });
            }
        }
    }
    Ok(dto::ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        common_prefixes: Some(common_prefixes),
        delimiter: encoding.opt(input.delimiter),
        encoding_type: input.encoding_type,
        is_truncated: Some(truncated),
        key_marker: Some(encoding.apply(&input.key_marker.unwrap_or_default())),
        max_uploads: i32::try_from(max).ok(),
        next_key_marker,
        next_upload_id_marker: next_upload_id_marker.filter(|_| truncated),
        prefix: Some(encoding.apply(&input.prefix.unwrap_or_default())),
        request_charged: None,
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        uploads: Some(uploads),
    })
}

fn initiator() -> dto::Initiator {
    let dto::Owner { display_name, id } = owner();
    dto::Initiator { display_name, id }
}

/// Answers ListParts.
pub(super) async fn parts(store: &Arc<Store>, input: dto::ListPartsInput) -> S3Result<dto::ListPartsOutput> {
    let max = page_max(input.max_parts, "max-parts")?;
    let after = u32::try_from(input.part_number_marker.unwrap_or_default());
    let after = after.map_err(|_| S3Error::with_message(S3ErrorCode::InvalidArgument, "part-number-marker is negative."))?;
    let place = Place { bucket: input.bucket, key: input.key, upload: input.upload_id };
    let PartsPage { upload, parts, truncated } = list_parts(store, place.clone(), after, max).await?;
    let number = |number: u32| i32::try_from(number).ok();
    // S3 names where the next page starts also when there is none.
    let next = parts.last().map_or(after, |part| part.number);
    let parts = parts.into_iter().map(|part| {
        let mut document = dto::Part {
            e_tag: Some(dto::ETag::Strong(part.etag)),
            last_modified: Some(timestamp(part.modified_ms)),
            part_number: number(part.number),
            size: i64::try_from(part.size).ok(),
            ..Default::default()
        };
        if let (Some(algorithm), Some(checksum)) = (&upload.checksum, part.checksum) {
            set_checksum!(document, algorithm, checksum);
        }
        document
    });
    Ok(dto::ListPartsOutput {
        bucket: Some(place.bucket),
        initiator: Some(initiator()),
        is_truncated: Some(truncated),
        key: Some(place.key),
        max_parts: i32::try_from(max).ok(),
        next_part_number_marker: number(next),
        owner: Some(owner()),
        part_number_marker: number(after),
        parts: Some(parts.collect()),
        storage_class: Some(upload.attributes.storage_class.clone().unwrap_or_else(|| "STANDARD".to_owned()).into()),
        upload_id: Some(place.upload),
        checksum_algorithm: upload.checksum.clone().map(Into::into),
        checksum_type: upload.checksum_type.clone().map(Into::into),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_answers() {
        assert_eq!(Encoding(true).apply("a b+c/ü&\u{1}"), "a%20b%2Bc/%C3%BC%26%01");
        assert_eq!(Encoding(false).apply("a b+c"), "a b+c");
        assert_eq!(parse_token(&token("a/ü")).unwrap(), "a/ü");
        assert!(parse_token("?").is_err());
    }
}
