//! The S3 operations, between the protocol library and the rooms that do the work.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, IF_MATCH, RANGE};
use http::{Extensions, HeaderMap, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto::{self, EncodingType, Range, StreamingBlob};
use s3s::route::S3Route;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::gate::{inspect, strike};
use super::index::{Conditions, Deleted, Test};
use super::list::{Entry, Page, Query};
use super::read::{Ask, read, test, timestamp};
use super::write::{Upload, put};
use super::{Error, Store, blocking};

/// Entries on one page of a listing, and keys in one DeleteObjects.
const PAGE_MAX: usize = 1000;

/// Buckets on one page.
const BUCKETS_MAX: usize = 10_000;

/// The canonical id of the account that owns everything.
const OWNER: &str = "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a";

const REGION: &str = "us-east-1";

/// What stays as it is in a listing with `encoding-type=url`.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The store as the protocol library sees it.
#[derive(Clone)]
pub(super) struct Front(pub(super) Arc<Store>);

impl Front {
    async fn index<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static) -> S3Result<T> {
        let store = Arc::clone(&self.0);
        Ok(blocking(move || work(&store)).await?)
    }

    async fn page(&self, bucket: String, query: Query) -> S3Result<Page> {
        self.index(move |store| store.index.list(&bucket, &query)).await
    }
}

fn owner() -> dto::Owner {
    dto::Owner { display_name: Some("store".to_owned()), id: Some(OWNER.to_owned()) }
}

fn page_max(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.map_or(Ok(PAGE_MAX), usize::try_from);
    asked.map(|asked| asked.min(PAGE_MAX)).map_err(|_| s3_error!(InvalidArgument, "max-keys is negative."))
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
}

/// Splits a page into what S3 lists apart.
fn split(page: Page, encoding: Encoding, with_owner: bool) -> (dto::ObjectList, dto::CommonPrefixList) {
    let mut objects = dto::ObjectList::new();
    let mut prefixes = dto::CommonPrefixList::new();
    for entry in page.entries {
        match entry {
            Entry::Key(listed) => objects.push(dto::Object {
                e_tag: Some(dto::ETag::Strong(listed.etag)),
                key: Some(encoding.apply(&listed.key)),
                last_modified: Some(timestamp(listed.modified_ms)),
                owner: with_owner.then(owner),
                size: i64::try_from(listed.size).ok(),
                storage_class: Some(listed.storage_class.unwrap_or_else(|| "STANDARD".to_owned()).into()),
                ..dto::Object::default()
            }),
            Entry::Prefix(prefix) => prefixes.push(dto::CommonPrefix { prefix: Some(encoding.apply(&prefix)) }),
        }
    }
    (objects, prefixes)
}

/// Where the next page starts.
fn last(page: &Page) -> Option<String> {
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

#[async_trait::async_trait]
impl S3 for Front {
    async fn create_bucket(&self, req: S3Request<dto::CreateBucketInput>) -> S3Result<S3Response<dto::CreateBucketOutput>> {
        let input = req.input;
        if input.object_lock_enabled_for_bucket == Some(true) {
            return Err(s3_error!(NotImplemented, "Object lock is not implemented by this store."));
        }
        let grants = [input.grant_full_control, input.grant_read, input.grant_read_acp, input.grant_write, input.grant_write_acp];
        if grants.iter().any(Option::is_some) || input.acl.is_some_and(|acl| acl.as_str() != "private") {
            return Err(S3ErrorCode::AccessControlListNotSupported.into());
        }
        let constraint = input.create_bucket_configuration.and_then(|configuration| configuration.location_constraint);
        let region = constraint.map_or(REGION.to_owned(), |constraint| constraint.as_str().to_owned());
        let bucket = input.bucket;
        let location = format!("/{bucket}");
        self.index(move |store| store.index.create_bucket(&bucket, &region)).await?;
        Ok(S3Response::new(dto::CreateBucketOutput { location: Some(location), ..Default::default() }))
    }

    async fn head_bucket(&self, req: S3Request<dto::HeadBucketInput>) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        let region = self.index(move |store| store.index.bucket_region(&req.input.bucket)).await?;
        Ok(S3Response::new(dto::HeadBucketOutput { bucket_region: Some(region), ..Default::default() }))
    }

    async fn delete_bucket(&self, req: S3Request<dto::DeleteBucketInput>) -> S3Result<S3Response<dto::DeleteBucketOutput>> {
        self.index(move |store| store.index.delete_bucket(&req.input.bucket)).await?;
        Ok(S3Response::new(dto::DeleteBucketOutput {}))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<dto::GetBucketLocationInput>,
    ) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
        let region = self.index(move |store| store.index.bucket_region(&req.input.bucket)).await?;
        // S3 names its first region by leaving it out.
        let location_constraint = (region != REGION).then(|| region.into());
        Ok(S3Response::new(dto::GetBucketLocationOutput { location_constraint }))
    }

    async fn list_buckets(&self, req: S3Request<dto::ListBucketsInput>) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        let dto::ListBucketsInput { bucket_region, continuation_token, max_buckets, prefix } = req.input;
        let after = continuation_token.as_deref().map(parse_token).transpose()?.unwrap_or_default();
        let max = max_buckets.map_or(Ok(BUCKETS_MAX), usize::try_from).ok().filter(|max| (1..=BUCKETS_MAX).contains(max));
        let max = max.ok_or_else(|| s3_error!(InvalidArgument, "max-buckets must be between 1 and 10000."))?;
        let wanted = prefix.clone().unwrap_or_default();
        let mut buckets = self.index(move |store| store.index.buckets(&wanted, &after, max + 1)).await?;
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
        Ok(S3Response::new(dto::ListBucketsOutput { buckets: Some(buckets), continuation_token, owner: Some(owner()), prefix }))
    }

    async fn put_object(&self, req: S3Request<dto::PutObjectInput>) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let input = req.input;
        let declared = input.content_length.and_then(|len| u64::try_from(len).ok()).ok_or(S3ErrorCode::MissingContentLength)?;
        let upload = Upload {
            bucket: input.bucket,
            key: input.key,
            headers: req.headers,
            extensions: req.extensions,
            declared,
            body: input.body.unwrap_or_else(|| StreamingBlob::from_bytes(bytes::Bytes::new())),
            trailers: req.trailing_headers,
        };
        let written = put(&self.0, upload).await?;
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = written.checksum
            && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        {
            headers.insert(name, value);
            headers.insert("x-amz-checksum-type", HeaderValue::from_static("FULL_OBJECT"));
        }
        let output = dto::PutObjectOutput {
            e_tag: Some(dto::ETag::Strong(written.etag)),
            server_side_encryption: input.server_side_encryption,
            ssekms_key_id: input.ssekms_key_id,
            bucket_key_enabled: input.bucket_key_enabled,
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, headers))
    }

    async fn get_object(&self, req: S3Request<dto::GetObjectInput>) -> S3Result<S3Response<dto::GetObjectOutput>> {
        let ask = Ask {
            bucket: &req.input.bucket,
            key: &req.input.key,
            uri: &req.uri,
            headers: &req.headers,
            extensions: &req.extensions,
            range: req.input.range,
            with_body: true,
        };
        let answer = read(&self.0, ask).await?;
        let output = dto::GetObjectOutput {
            body: answer.body.map(StreamingBlob::new),
            content_length: i64::try_from(answer.len).ok(),
            // This field makes the status 206.
            content_range: answer.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned),
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, answer.headers))
    }

    async fn head_object(&self, req: S3Request<dto::HeadObjectInput>) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        let ask = Ask {
            bucket: &req.input.bucket,
            key: &req.input.key,
            uri: &req.uri,
            headers: &req.headers,
            extensions: &req.extensions,
            range: req.input.range,
            with_body: false,
        };
        let answer = read(&self.0, ask).await?;
        Ok(S3Response::with_headers(dto::HeadObjectOutput::default(), answer.headers))
    }

    async fn delete_object(&self, req: S3Request<dto::DeleteObjectInput>) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
        let input = req.input;
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(s3_error!(NotImplemented, "Deletes are conditional on the ETag only."));
        }
        let conditions = Conditions { if_match: test(&req.headers, IF_MATCH)?, if_none_match: None };
        let delete = move |store: &Store| {
            let Deleted { bodies, outcomes } = store.index.delete(&input.bucket, &[(&input.key, conditions)])?;
            bodies.into_iter().for_each(|body| store.bodies.remove(body));
            outcomes.into_iter().collect::<Result<(), Error>>()
        };
        self.index(delete).await?;
        Ok(S3Response::new(dto::DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<dto::DeleteObjectsInput>) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
        let dto::DeleteObjectsInput { bucket, delete, .. } = req.input;
        let quiet = delete.quiet == Some(true);
        let objects = delete.objects;
        if objects.is_empty() || objects.len() > PAGE_MAX {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let unknown = |object: &dto::ObjectIdentifier| {
            object.last_modified_time.is_some()
                || object.size.is_some()
                || object.version_id.as_ref().is_some_and(|id| id != "null")
        };
        if objects.iter().any(unknown) {
            return Err(s3_error!(NotImplemented, "Deletes are conditional on the ETag only, and there are no versions."));
        }
        let delete = move |store: &Store| {
            let keys: Vec<_> = objects
                .iter()
                .map(|object| {
                    let if_match = object.e_tag.as_ref().map(|etag| match etag.value() {
                        "*" => Test::Any,
                        etag => Test::Is(etag.to_owned()),
                    });
                    (object.key.as_str(), Conditions { if_match, if_none_match: None })
                })
                .collect();
            let Deleted { bodies, outcomes } = store.index.delete(&bucket, &keys)?;
            bodies.into_iter().for_each(|body| store.bodies.remove(body));
            Ok(objects.into_iter().map(|object| object.key).zip(outcomes).collect::<Vec<_>>())
        };
        let mut deleted = dto::DeletedObjects::new();
        let mut errors = dto::Errors::new();
        for (key, outcome) in self.index(delete).await? {
            match outcome {
                Ok(()) if quiet => {}
                Ok(()) => deleted.push(dto::DeletedObject { key: Some(key), ..Default::default() }),
                Err(error) => {
                    let error = S3Error::from(error);
                    errors.push(dto::Error {
                        code: Some(error.code().as_str().to_owned()),
                        key: Some(key),
                        message: error.message().map(str::to_owned),
                        version_id: None,
                    });
                }
            }
        }
        let output = dto::DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), request_charged: None };
        Ok(S3Response::new(output))
    }

    async fn list_objects(&self, req: S3Request<dto::ListObjectsInput>) -> S3Result<S3Response<dto::ListObjectsOutput>> {
        let input = req.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_max(input.max_keys)?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after: input.marker.clone().filter(|marker| !marker.is_empty()),
            max,
        };
        let page = self.page(input.bucket.clone(), query).await?;
        let truncated = page.truncated;
        // S3 names the next marker only with a delimiter; without one it is the last key.
        let next = last(&page).filter(|_| input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()));
        let (contents, common_prefixes) = split(page, encoding, true);
        let output = dto::ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.apply(&input.prefix.unwrap_or_default())),
            marker: Some(encoding.apply(&input.marker.unwrap_or_default())),
            max_keys: i32::try_from(max).ok(),
            is_truncated: Some(truncated),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter.map(|delimiter| encoding.apply(&delimiter)),
            next_marker: next.map(|next| encoding.apply(&next)),
            encoding_type: input.encoding_type,
            request_charged: None,
        };
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(&self, req: S3Request<dto::ListObjectsV2Input>) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        let input = req.input;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_max(input.max_keys)?;
        let resume = input.continuation_token.as_deref().map(parse_token).transpose()?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
            after: resume.or_else(|| input.start_after.clone()).filter(|after| !after.is_empty()),
            max,
        };
        let page = self.page(input.bucket.clone(), query).await?;
        let truncated = page.truncated;
        let next = last(&page);
        let (contents, common_prefixes) = split(page, encoding, input.fetch_owner == Some(true));
        let output = dto::ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encoding.apply(&input.prefix.unwrap_or_default())),
            max_keys: i32::try_from(max).ok(),
            key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(truncated),
            next_continuation_token: next.map(|next| token(&next)),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            delimiter: input.delimiter.map(|delimiter| encoding.apply(&delimiter)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|after| encoding.apply(&after)),
            request_charged: None,
        };
        Ok(S3Response::new(output))
    }
}

/// GetObject and HeadObject with a Range header that S3 ignores (a list of ranges, another unit, nonsense). The protocol library
/// refuses such a header, and it cannot be taken away before the signature is checked, so these requests go their own way.
#[derive(Clone)]
pub(super) struct UnusableRange(pub(super) Front);

/// Bucket and key of a path-style request.
fn object_path(uri: &Uri) -> Option<(String, String)> {
    let path = percent_decode_str(uri.path()).decode_utf8().ok()?;
    let (bucket, key) = path.strip_prefix('/')?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then(|| (bucket.to_owned(), key.to_owned()))
}

#[async_trait::async_trait]
impl S3Route for UnusableRange {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        let unusable = |range: &HeaderValue| range.to_str().is_ok_and(|range| Range::parse(range).is_err());
        (method == Method::GET || method == Method::HEAD)
            && headers.get(RANGE).is_some_and(unusable)
            && object_path(uri).is_some()
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let head = req.method == Method::HEAD;
        let operation = if head { "HeadObject" } else { "GetObject" };
        let (bucket, key) = object_path(&req.uri).ok_or(S3ErrorCode::InvalidURI)?;
        inspect(operation, &req.uri, &req.headers)?;
        strike(&self.0.0, operation, &key, &mut req.extensions).await?;
        let ask = Ask {
            bucket: &bucket,
            key: &key,
            uri: &req.uri,
            headers: &req.headers,
            extensions: &req.extensions,
            range: None,
            with_body: !head,
        };
        let answer = read(&self.0.0, ask).await?;
        let body = answer.body.map_or_else(Body::empty, |body| StreamingBlob::new(body).into());
        let mut response = S3Response::with_status(body, answer.status);
        response.headers = answer.headers;
        if head {
            // The length of the object is told by the header alone.
            response.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(answer.len));
        }
        Ok(response)
    }
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
        assert_eq!(object_path(&"/b/a%2Fc/".parse().unwrap()), Some(("b".to_owned(), "a/c/".to_owned())));
        assert_eq!(object_path(&"/b/".parse().unwrap()), None);
    }
}
