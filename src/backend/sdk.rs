//! The typed operations, through aws-sdk-s3.
//!
//! Headers travel as they are in both directions: the SDK's own fields would lose what they do not know. What the SDK gives us
//! is the signature, the credentials chain, the endpoint rules, time limits, and the XML of listings and batch deletes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextRef};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat as Format, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, Delete, EncodingType, ObjectIdentifier};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use futures::StreamExt;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tracing::Instrument as _;

use super::demands::{Demand, Demands};
use super::reading::ReadingThread;
use super::upload::{Patience, Progress, PutBody};
use super::{
    Answer, Body, ByteRange, DeleteFailure, DeleteMany, DeleteOne, Deleted, DeletedMany, Error, ListEntry, ListQuery, Listing,
    ObjectAnswer, Owner, Paging, PutObject, Refusal, RestoreState, Select,
};
use crate::observe::metrics;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How to reach the store. The `SdkConfig` brings endpoint, region, credentials and the HTTP client.
#[derive(Clone, Debug)]
pub struct Settings {
    pub sdk: aws_config::SdkConfig,
    /// Bucket in the path (`host/bucket/key`) instead of in the host name.
    pub path_style: bool,
    pub connect_timeout: Duration,
    /// From the request sent, its body included, to the first byte of the answer.
    pub read_timeout: Duration,
    /// How long a body may stand still that comes from the store, or that the store is to take.
    pub idle_timeout: Duration,
    /// Attempts of requests that can be sent again: those without a body, and DeleteObjects, whose document is in memory. An upload has one,
    /// and so has what makes an object without one.
    pub attempts_max: u32,
    /// The longest object that the store copies with one request, in bytes. Longer ones are copied in parts of at most that.
    pub copy_max: u64,
    /// Shared by all workers.
    pub demands: Demands,
}

/// The coding of a body that travels with its checksum behind it.
const FRAMING: &str = "aws-chunked";
/// Ranges up to this many bytes are received by the worker itself: changing threads would cost more than it brings.
const SHORT_READ: u64 = 1024 * 1024;
/// Bodies up to this many bytes change threads whole.
const SHORT_BODY: u64 = 64 * 1024;
const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";
const REQUEST_PAYER: &str = "x-amz-request-payer";
/// How long an upload waits for what the store says about its bucket. Without an answer the upload itself finds out.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The store, as one worker of the gateway sees it.
///
/// Every worker makes its own: connections belong to the runtime that opened them.
#[derive(Clone)]
pub struct S3Backend {
    pub(super) client: Client,
    /// The same without a limit for the answer, which would count the time of the whole body.
    pub(super) uploads: Client,
    /// The same with a checksum of the sealed body behind it: CRC64NVME, the cheapest that every store knows.
    pub(super) checked_uploads: Client,
    pub(super) demands: Demands,
    pub(super) patience: Patience,
    copy_max: u64,
    reader: Option<Arc<Reader>>,
}

/// Where long bodies are received.
struct Reader {
    /// Its connections live on the thread.
    client: Client,
    thread: ReadingThread,
}

impl S3Backend {
    /// A client with settings that fit a streaming gateway: no checksum of our own over sealed bytes, no stalled-stream limit (a
    /// slow client is not a dead one).
    pub fn new(settings: &Settings) -> Self {
        let limits = TimeoutConfig::builder().connect_timeout(settings.connect_timeout);
        let config = aws_sdk_s3::config::Builder::from(&settings.sdk)
            .force_path_style(settings.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_config(RetryConfig::standard().with_max_attempts(settings.attempts_max))
            .timeout_config(limits.clone().read_timeout(settings.read_timeout).build())
            .build();
        let uploads = config.to_builder().timeout_config(limits.disable_read_timeout().build()).build();
        let checked = uploads.to_builder().request_checksum_calculation(RequestChecksumCalculation::WhenSupported).build();
        Self {
            client: Client::from_conf(config),
            uploads: Client::from_conf(uploads),
            checked_uploads: Client::from_conf(checked),
            demands: settings.demands.clone(),
            patience: Patience { idle: settings.idle_timeout, answer: settings.read_timeout },
            copy_max: settings.copy_max,
            reader: None,
        }
    }

    /// The same, with a thread that receives long objects while whoever asked for them opens what has come. `sdk` brings an HTTP client
    /// for that thread, which must be shared with nobody else: a connection belongs to the thread that opened it.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn with_reading_thread(mut self, sdk: &aws_config::SdkConfig) -> std::io::Result<Self> {
        let mut config = self.client.config().to_builder();
        config.set_http_client(sdk.http_client());
        self.reader = Some(Arc::new(Reader { client: Client::from_conf(config.build()), thread: ReadingThread::start()? }));
        Ok(self)
    }

    /// The longest object that may be copied with one request, in bytes.
    pub fn copy_max(&self) -> u64 {
        self.copy_max
    }

    /// PutObject. Exactly one attempt: the body streams and cannot be sent twice.
    ///
    /// When the body ends with an error the store has seen a short body and keeps nothing.
    pub async fn put_object(&self, put: PutObject) -> Result<Answer, Error> {
        let length = put.body.sealed_len().get();
        let bucket = put.object.bucket;
        let checked = self.is_met(self.demands.of_object(&bucket, &put.headers), &bucket, &put.headers).await;
        let mut wire = Wire::new(put.headers)?;
        let progress = Progress::new();
        let body = ByteStream::new(SdkBody::from_body_1_x(PutBody::new(put.body, progress.clone())));
        let request = if checked {
            self.checked_uploads.put_object().checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        } else {
            self.uploads.put_object()
        };
        let request = request
            .bucket(&bucket)
            .key(wire.key(put.object.key))
            .content_length(i64::try_from(length).map_err(|e| Error::NotSent(e.into()))?)
            .body(body)
            .customize();
        let request = if checked { request } else { request.disable_payload_signing() };
        let sent = request.interceptor(wire.clone()).send();
        let outcome =
            progress.watch(finish(sent, &wire), self.patience).await.map_err(|stalled| Error::TimedOut(stalled.into()))?;
        let (_, headers) = outcome.map_err(|error| self.demands.heed(&bucket, error))?;
        Ok(Answer { headers })
    }

    /// Whether the parts of an upload into this bucket carry a checksum of what they are. `headers` are those of its creation, or of a part.
    pub(super) async fn has_checked_parts(&self, bucket: &str, headers: &HeaderMap) -> bool {
        self.is_met(self.demands.of_parts(bucket, headers), bucket, headers).await
    }

    /// Whether there is a demand for a checksum, which the store is asked once in a while. `headers` are the upload's.
    async fn is_met(&self, demand: Demand, bucket: &str, headers: &HeaderMap) -> bool {
        match demand {
            Demand::Known(wants) => wants,
            Demand::Ask { until_then } => {
                match tokio::time::timeout(QUESTION_TIMEOUT, self.has_object_lock(bucket, headers)).await {
                    Ok(Some(wants)) => {
                        self.demands.learn(bucket, wants);
                        wants
                    }
                    Ok(None) | Err(_) => until_then,
                }
            }
        }
    }

    /// GetObjectLockConfiguration: whether the bucket has Object Lock, with a default retention or without one, which may follow any time.
    /// It is guarded as the upload is, of which these are the headers. `None`: there is no answer that says anything about the bucket.
    async fn has_object_lock(&self, bucket: &str, upload: &HeaderMap) -> Option<bool> {
        let mut guards = HeaderMap::new();
        for name in [EXPECTED_OWNER, REQUEST_PAYER] {
            if let Some(value) = upload.get(name) {
                guards.insert(name, value.clone());
            }
        }
        let is_guarded = guards.contains_key(EXPECTED_OWNER);
        let wire = Wire::for_document("ObjectLockConfiguration", guards).ok()?;
        let sent = self.client.get_object_lock_configuration().bucket(bucket).customize();
        match finish(sent.config_override(once()).interceptor(wire.clone()).send(), &wire).await {
            Ok((output, _)) => Some(output.object_lock_configuration.is_some_and(|lock| lock.object_lock_enabled.is_some())),
            Err(Error::Refused(refusal)) => match (refusal.status, refusal.code.as_str()) {
                (_, "NoSuchBucket") => None,
                // The guard of one client says nothing to the others.
                (403, _) if is_guarded => None,
                // It has none, the store knows no such thing, or it does not tell us.
                (400..=499 | 501, _) => Some(false),
                _ => None,
            },
            Err(_) => None,
        }
    }

    /// GetObject. The body streams; dropping it drops the connection.
    ///
    /// What may be long is received on a thread of its own where there is one, see [`S3Backend::with_reading_thread`].
    pub async fn get_object(&self, get: Select) -> Result<ObjectAnswer, Error> {
        let idle = self.patience.idle;
        match &self.reader {
            Some(reader) if may_be_long(get.range) => {
                let client = reader.client.clone();
                let task = async move { whole_if_short(get_object(&client, get, idle).await?).await };
                reader.thread.run(task.in_current_span()).await
            }
            Some(_) | None => Ok(get_object(&self.client, get, idle).await?.answer),
        }
    }

    /// HeadObject. Of a range only a part counts.
    pub async fn head_object(&self, head: Select) -> Result<Answer, Error> {
        let mut wire = Wire::new(head.headers)?;
        let sent = self
            .client
            .head_object()
            .bucket(head.object.bucket)
            .key(wire.key(head.object.key))
            .set_version_id(head.version_id)
            .set_part_number(head.range.and_then(ByteRange::part_number))
            .customize()
            .interceptor(wire.clone())
            .send();
        finish(sent, &wire).await.map(|(_, headers)| Answer { headers })
    }

    /// DeleteObject.
    pub async fn delete_object(&self, delete: Select) -> Result<Answer, Error> {
        let mut wire = Wire::new(delete.headers)?;
        let sent = self
            .client
            .delete_object()
            .bucket(delete.object.bucket)
            .key(wire.key(delete.object.key))
            .set_version_id(delete.version_id)
            .customize()
            .interceptor(wire.clone())
            .send();
        finish(sent, &wire).await.map(|(_, headers)| Answer { headers })
    }

    /// DeleteObjects.
    pub async fn delete_objects(&self, delete: DeleteMany) -> Result<DeletedMany, Error> {
        let wire = Wire::for_document("DeleteResult", delete.headers)?;
        let objects = delete.objects.into_iter().map(identifier).collect::<Result<Vec<_>, _>>()?;
        let lines =
            Delete::builder().set_objects(Some(objects)).quiet(delete.quiet).build().map_err(|e| Error::NotSent(e.into()))?;
        let sent = self.client.delete_objects().bucket(delete.bucket).delete(lines).customize().interceptor(wire.clone()).send();
        let (output, headers) = finish(sent, &wire).await?;
        Ok(DeletedMany {
            headers,
            deleted: output
                .deleted
                .unwrap_or_default()
                .into_iter()
                .map(|d| Deleted {
                    key: d.key,
                    version_id: d.version_id,
                    delete_marker: d.delete_marker,
                    delete_marker_version_id: d.delete_marker_version_id,
                })
                .collect(),
            errors: output
                .errors
                .unwrap_or_default()
                .into_iter()
                .map(|e| DeleteFailure { key: e.key, version_id: e.version_id, code: e.code, message: e.message })
                .collect(),
        })
    }

    /// One page of a listing, by the version the client used, with exactly one request.
    pub async fn list_objects(&self, query: ListQuery) -> Result<Listing, Error> {
        let wire = Wire::for_document("ListBucketResult", query.headers)?;
        match query.paging {
            Paging::V1 { marker } => {
                let sent = self
                    .client
                    .list_objects()
                    .bucket(query.bucket)
                    .set_prefix(query.prefix)
                    .set_delimiter(query.delimiter)
                    .set_max_keys(query.max_keys)
                    .set_marker(marker)
                    .encoding_type(EncodingType::Url)
                    .customize()
                    .interceptor(wire.clone())
                    .send();
                let (output, headers) = finish(sent, &wire).await?;
                let names = Names { encoded: output.encoding_type == Some(EncodingType::Url) };
                Ok(Listing {
                    entries: entries(output.contents, names)?,
                    common_prefixes: prefixes(output.common_prefixes, names)?,
                    is_truncated: output.is_truncated.unwrap_or(false),
                    next: output.next_marker.map(|m| names.decode(m)).transpose()?,
                    max_keys: output.max_keys,
                    key_count: None,
                    headers,
                })
            }
            Paging::V2 { continuation_token, start_after, fetch_owner } => {
                let sent = self
                    .client
                    .list_objects_v2()
                    .bucket(query.bucket)
                    .set_prefix(query.prefix)
                    .set_delimiter(query.delimiter)
                    .set_max_keys(query.max_keys)
                    .set_continuation_token(continuation_token)
                    .set_start_after(start_after)
                    .set_fetch_owner(fetch_owner)
                    .encoding_type(EncodingType::Url)
                    .customize()
                    .interceptor(wire.clone())
                    .send();
                let (output, headers) = finish(sent, &wire).await?;
                let names = Names { encoded: output.encoding_type == Some(EncodingType::Url) };
                Ok(Listing {
                    entries: entries(output.contents, names)?,
                    common_prefixes: prefixes(output.common_prefixes, names)?,
                    is_truncated: output.is_truncated.unwrap_or(false),
                    next: output.next_continuation_token,
                    max_keys: output.max_keys,
                    key_count: output.key_count,
                    headers,
                })
            }
        }
    }

    /// A cheap request that shows whether the store answers and knows us: ListBuckets.
    pub async fn ping(&self) -> Result<(), Error> {
        let wire = Wire::for_document("ListAllMyBucketsResult", HeaderMap::new())?;
        finish(self.client.list_buckets().customize().interceptor(wire.clone()).send(), &wire).await.map(|_| ())
    }
}

/// For requests that are sent once, whatever comes of it.
pub(super) fn once() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled())
}

/// What the SDK gets in place of a key that it would not take.
const STAND_IN: &str = "-";

/// Puts our headers onto the request before it is signed and keeps those of the answer before the SDK forgets them.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    request: Arc<Vec<(HeaderName, String)>>,
    answer: Arc<Mutex<HeaderMap>>,
    /// The element that the document of a success has to be, where there is one.
    document: Option<&'static str>,
    /// The key, where the SDK got [`STAND_IN`] for it.
    key: Option<String>,
}

impl Wire {
    pub(super) fn new(headers: HeaderMap) -> Result<Self, Error> {
        Self::expecting(None, headers)
    }

    /// The SDK reads any document, takes what it knows and misses nothing: a page of somebody else, or the first half of a listing,
    /// would pass for a short or empty listing, by which clients may delete files.
    pub(super) fn for_document(element: &'static str, headers: HeaderMap) -> Result<Self, Error> {
        Self::expecting(Some(element), headers)
    }

    fn expecting(document: Option<&'static str>, headers: HeaderMap) -> Result<Self, Error> {
        let mut request = Vec::with_capacity(headers.len());
        for (name, value) in &headers {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|e| Error::NotSent(e.into()))?;
            request.push((name.clone(), text.to_owned()));
        }
        Ok(Self { request: Arc::new(request), answer: Arc::default(), document, key: None })
    }

    /// A key as the SDK takes it. White space alone it takes for a key that is missing, so such a key gets its place in the address before
    /// the request is signed.
    pub(super) fn key(&mut self, key: String) -> String {
        if !key.trim().is_empty() {
            return key;
        }
        self.key = Some(key);
        STAND_IN.to_owned()
    }

    fn take_answer(&self) -> HeaderMap {
        self.answer.lock().map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default()
    }
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "CiphergateHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request: &mut HttpRequest = context.request_mut();
        if let Some(key) = &self.key {
            let address = with_key(request.uri(), key).ok_or("the address does not end with the key")?;
            request.set_uri(address)?;
        }
        for (name, value) in self.request.iter() {
            let is_framed = *name == CONTENT_ENCODING && request.headers().get(name.as_str()) == Some(FRAMING);
            // The SDK's own framing stays, in one header with the object's codings: some stores read only the first of two.
            let value = if is_framed { format!("{value},{FRAMING}") } else { value.clone() };
            request.headers_mut().try_insert(name.as_str().to_owned(), value)?;
        }
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Ok(mut kept) = self.answer.lock() {
            *kept = header_map(context.response());
        }
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        match self.document {
            Some(element) if answer.status().is_success() && !is_whole(answer.body().bytes().unwrap_or_default(), element) => {
                Err(format!("the answer is not a whole {element}").into())
            }
            _ => Ok(()),
        }
    }
}

/// The address with this key where the stand-in is.
fn with_key(address: &str, key: &str) -> Option<String> {
    let (path, query) = address.split_at(address.find('?').unwrap_or(address.len()));
    let folder = path.strip_suffix(STAND_IN).filter(|folder| folder.ends_with('/'))?;
    Some(format!("{folder}{}{query}", utf8_percent_encode(key, NON_ALPHANUMERIC)))
}

/// Whether a document that could be read ends where this element does.
fn is_whole(document: &[u8], element: &str) -> bool {
    let document = document.trim_ascii_end();
    let Some(last) = document.iter().rposition(|byte| *byte == b'<') else { return false };
    let tag = &document[last + 1..];
    match tag.strip_prefix(b"/") {
        Some(end) => end.strip_suffix(b">").is_some_and(|name| name.trim_ascii_end() == element.as_bytes()),
        // An empty element, as the answer to a quiet DeleteObjects may be.
        None => {
            tag.ends_with(b"/>")
                && tag.strip_prefix(element.as_bytes()).is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'/')))
        }
    }
}

fn header_map(response: &HttpResponse) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(response.headers().len());
    for (name, value) in response.headers().iter_bytes() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    without_framing(&mut map);
    map
}

/// Some stores take the framing of an upload for a coding of the object, and show it.
fn without_framing(headers: &mut HeaderMap) {
    let codings = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let codings: Vec<_> = codings.flat_map(|value| value.split(',')).map(str::trim).collect();
    if !codings.contains(&FRAMING) {
        return;
    }
    let own: Vec<_> = codings.into_iter().filter(|coding| *coding != FRAMING).collect();
    match HeaderValue::try_from(own.join(",")) {
        Ok(own) if !own.is_empty() => headers.insert(CONTENT_ENCODING, own),
        _ => headers.remove(CONTENT_ENCODING),
    };
}

pub(super) async fn finish<O, E>(
    sent: impl Future<Output = Result<O, SdkError<E, HttpResponse>>>,
    wire: &Wire,
) -> Result<(O, HeaderMap), Error>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match sent.await {
        Ok(output) => Ok((output, wire.take_answer())),
        Err(error) => Err(explain(error)),
    }
}

fn explain<E>(error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(refused) => {
            let raw = refused.raw();
            let meta = refused.err().meta();
            let code = meta.code().unwrap_or("Unknown").to_owned();
            Error::Refused(Box::new(Refusal {
                // S3 may find out that it fails after it has said 200 (CopyObject, UploadPartCopy, CompleteMultipartUpload).
                status: if raw.status().is_success() { late_status(&code) } else { raw.status().as_u16() },
                code,
                message: meta.message().unwrap_or_default().to_owned(),
                headers: header_map(raw),
            }))
        }
        // An error answer without the XML that the SDK looks for still has a status that means something.
        SdkError::ResponseError(answer) if answer.raw().status().as_u16() >= 300 => Error::Refused(Box::new(Refusal {
            status: answer.raw().status().as_u16(),
            code: "Unknown".to_owned(),
            message: String::new(),
            headers: header_map(answer.raw()),
        })),
        SdkError::ResponseError(answer) => Error::Garbled(Box::new(SdkError::<E, HttpResponse>::ResponseError(answer))),
        SdkError::TimeoutError(late) => Error::TimedOut(Box::new(SdkError::<E, HttpResponse>::TimeoutError(late))),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            Error::TimedOut(Box::new(SdkError::<E, HttpResponse>::DispatchFailure(failure)))
        }
        SdkError::DispatchFailure(failure) => Error::Unreachable(Box::new(SdkError::<E, HttpResponse>::DispatchFailure(failure))),
        other => Error::NotSent(Box::new(other)),
    }
}

/// The status of an error that came in the body of a success.
fn late_status(code: &str) -> u16 {
    match code {
        "SlowDown" | "ServiceUnavailable" => 503,
        "PreconditionFailed" => 412,
        "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" => 404,
        "AccessDenied" | "InvalidObjectState" => 403,
        "InvalidPart" | "InvalidPartOrder" | "InvalidRequest" | "EntityTooSmall" => 400,
        _ => 500,
    }
}

fn may_be_long(range: Option<ByteRange>) -> bool {
    range.and_then(ByteRange::len_max).is_none_or(|len| len > SHORT_READ)
}

/// An answer of GetObject, and the length of its body where the store said one.
struct Received {
    answer: ObjectAnswer,
    length: Option<u64>,
}

async fn get_object(client: &Client, get: Select, idle: Duration) -> Result<Received, Error> {
    let mut wire = Wire::new(get.headers)?;
    let sent = client
        .get_object()
        .bucket(get.object.bucket)
        .key(wire.key(get.object.key))
        .set_version_id(get.version_id)
        .set_range(get.range.and_then(ByteRange::header_value))
        .set_part_number(get.range.and_then(ByteRange::part_number))
        .customize()
        .interceptor(wire.clone())
        .send();
    let (output, headers) = finish(sent, &wire).await?;
    let length = output.content_length.and_then(|length| u64::try_from(length).ok());
    Ok(Received { answer: ObjectAnswer { headers, body: receive(output.body, idle) }, length })
}

/// A short body is received whole before the answer changes threads: each of its pieces would wake both of them.
async fn whole_if_short(received: Received) -> Result<ObjectAnswer, Error> {
    let Received { mut answer, length } = received;
    if length.is_some_and(|length| length <= SHORT_BODY) {
        let pieces: Vec<_> = answer.body.collect().await;
        answer.body = futures::stream::iter(pieces).boxed();
    }
    Ok(answer)
}

/// The body of an answer. It fails when no byte arrives for that long while somebody waits for it.
fn receive(body: ByteStream, idle: Duration) -> Body {
    let body = body.into_inner();
    futures::stream::unfold(Some(body), move |state| async move {
        let mut body = state?;
        loop {
            let next = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx));
            let Ok(frame) = tokio::time::timeout(idle, next).await else {
                return Some((Err("the store stopped sending".into()), None));
            };
            match frame? {
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        metrics::store_received(bytes.len());
                        return Some((Ok(bytes), Some(body)));
                    }
                }
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
    .boxed()
}

/// Names in listings are asked for URL-encoded, so that no key can break the XML; a store that ignores the wish sends them plain.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) encoded: bool,
}

impl Names {
    pub(super) fn decode(self, name: String) -> Result<String, Error> {
        if !self.encoded {
            return Ok(name);
        }
        // S3 encodes as forms do: a space is "+", a plus is "%2B".
        let spaced = name.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|e| Error::Garbled(e.into()))
    }
}

fn identifier(one: DeleteOne) -> Result<ObjectIdentifier, Error> {
    let last_modified = one.last_modified.map(|text| DateTime::from_str(&text, Format::HttpDate)).transpose();
    let size = one.sealed_size.map(i64::try_from).transpose();
    ObjectIdentifier::builder()
        .key(one.key)
        .set_version_id(one.version_id)
        .set_e_tag(one.etag)
        .set_last_modified_time(last_modified.map_err(|e| Error::NotSent(e.into()))?)
        .set_size(size.map_err(|e| Error::NotSent(e.into()))?)
        .build()
        .map_err(|e| Error::NotSent(e.into()))
}

fn entries(contents: Option<Vec<aws_sdk_s3::types::Object>>, names: Names) -> Result<Vec<ListEntry>, Error> {
    contents
        .unwrap_or_default()
        .into_iter()
        .map(|object| {
            Ok(ListEntry {
                key: names.decode(object.key.unwrap_or_default())?,
                sealed_size: object.size,
                etag: object.e_tag,
                last_modified: object.last_modified.map(instant),
                storage_class: object.storage_class.map(|class| class.as_str().to_owned()),
                owner: object.owner.map(owner),
                restore: object.restore_status.map(restore_state),
            })
        })
        .collect()
}

pub(super) fn prefixes(found: Option<Vec<aws_sdk_s3::types::CommonPrefix>>, names: Names) -> Result<Vec<String>, Error> {
    found.unwrap_or_default().into_iter().filter_map(|p| p.prefix).map(|p| names.decode(p)).collect()
}

pub(super) fn owner(owner: aws_sdk_s3::types::Owner) -> Owner {
    Owner { id: owner.id, display_name: owner.display_name }
}

pub(super) fn restore_state(state: aws_sdk_s3::types::RestoreStatus) -> RestoreState {
    RestoreState { in_progress: state.is_restore_in_progress, expiry: state.restore_expiry_date.map(instant) }
}

pub(super) fn instant(at: DateTime) -> (i64, u32) {
    (at.secs(), at.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn what_may_be_long_is_received_beside_the_worker() {
        let long = [
            None,
            Some(ByteRange::From(7)),
            Some(ByteRange::Part(1)),
            Some(ByteRange::Suffix(SHORT_READ + 1)),
            Some(ByteRange::Inclusive(5, SHORT_READ + 5)),
            Some(ByteRange::Inclusive(0, u64::MAX)),
        ];
        let short = [
            Some(ByteRange::Suffix(SHORT_READ)),
            Some(ByteRange::Inclusive(5, SHORT_READ + 4)),
            Some(ByteRange::Inclusive(9, 8)),
        ];
        assert!(long.into_iter().all(may_be_long));
        assert!(!short.into_iter().any(may_be_long));
    }

    #[test]
    fn short_bodies_come_with_their_head_and_with_their_faults() {
        for (length, taken_with_head) in [(6, 2), (SHORT_BODY, 2), (SHORT_BODY + 1, 0)] {
            let taken = Arc::new(AtomicUsize::new(0));
            let counted = taken.clone();
            let pieces = [Ok(bytes::Bytes::from("abc")), Err(BoxError::from("broke off"))];
            let count = move |_: &_| {
                counted.fetch_add(1, Ordering::Relaxed);
            };
            let body = futures::stream::iter(pieces).inspect(count).boxed();
            let received = Received { answer: ObjectAnswer { headers: HeaderMap::new(), body }, length: Some(length) };
            let mut body = whole_if_short(received).now_or_never().expect("nothing is waited for").unwrap().body;
            assert_eq!(taken.load(Ordering::Relaxed), taken_with_head, "{length}");
            assert_eq!(body.next().now_or_never().unwrap().unwrap().unwrap(), "abc");
            assert_eq!(body.next().now_or_never().unwrap().unwrap().unwrap_err().to_string(), "broke off");
        }
    }

    #[test]
    fn a_key_of_white_space_gets_its_place() {
        let mut wire = Wire::new(HeaderMap::new()).unwrap();
        assert_eq!((wire.key(" a".into()), &wire.key), (" a".into(), &None));
        assert_eq!((wire.key(" ".into()), wire.key.as_deref()), (STAND_IN.into(), Some(" ")));
        assert_eq!(with_key("http://h/b/-?x-id=Put", " \t").as_deref(), Some("http://h/b/%20%09?x-id=Put"));
        assert_eq!(with_key("http://b.h/-", "\u{3000}").as_deref(), Some("http://b.h/%E3%80%80"));
        assert_eq!(with_key("http://h/b/a-?x=/-", " "), None);
    }

    #[test]
    fn the_framing_of_an_upload_is_no_coding_of_the_object() {
        for (kept, shown) in [
            (&["aws-chunked"][..], None),
            (&["gzip,aws-chunked"], Some("gzip")),
            (&["gzip, br", "aws-chunked"], Some("gzip,br")),
            (&["gzip, br"], Some("gzip, br")),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in kept {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            without_framing(&mut headers);
            assert_eq!(headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap()), shown, "{kept:?}");
        }
    }

    #[test]
    fn a_document_is_whole_when_it_ends_with_its_element() {
        for (document, whole) in [
            ("<?xml version=\"1.0\"?>\n<R xmlns=\"u\"><A/></R>", true),
            ("<R></R >\n\n", true),
            ("<R/>", true),
            ("<R xmlns=\"u\" />", true),
            ("<R><A>1</A>", false),
            ("<R><R/", false),
            ("<R><A/>", false),
            ("<R><RR/>", false),
            ("<html></html>", false),
            ("<R></R", false),
            ("</>", false),
            ("<", false),
            ("R/>", false),
            ("", false),
        ] {
            assert_eq!(is_whole(document.as_bytes(), "R"), whole, "{document}");
        }
    }
}
