//! GetObject and HeadObject: versions, conditions, ranges and parts, and the headers of the answer.

use std::ops::Range as Span;
use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, EXPIRES, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
};
use http::{Extensions, HeaderMap, StatusCode, Uri};
use rusqlite::Transaction;
use s3s::dto::{ETagCondition, Range, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::error::custom;
use super::gate::{BodyFault, query};
use super::index::conditions::Test;
use super::index::versions::Version;
use super::index::{buckets, contents, versions};
use super::stream::{BodyStream, Cursor};
use super::{Error, Store, blocking};

/// How often a reader looks again when the body that the index named was replaced under its hands.
const LOOKS_MAX: usize = 1000;

/// What is asked of an object.
pub(super) struct Ask<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) extensions: &'a Extensions,
    /// `None` is the latest.
    pub(super) version: Option<String>,
    /// `None` also for a Range header that S3 ignores.
    pub(super) range: Option<Range>,
    /// The part to read, as the client gave it.
    pub(super) part: Option<i32>,
    pub(super) with_body: bool,
}

/// The answer, with all its headers.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) len: u64,
    pub(super) body: Option<BodyStream>,
}

/// Answers GetObject and HeadObject.
pub(super) async fn read(store: &Arc<Store>, ask: Ask<'_>) -> S3Result<Answer> {
    let conditions = Conditions::of(ask.headers, &READ)?;
    let overrides = overrides(ask.uri)?;
    let checksums = ask.headers.get("x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"ENABLED"));
    let slice = Slice::of(ask.range, ask.part)?;
    let work = {
        let (store, bucket, key) = (Arc::clone(store), ask.bucket.to_owned(), ask.key.to_owned());
        let (version, with_body) = (ask.version.clone(), ask.with_body);
        move || open(&store, &bucket, &key, version.as_deref(), &conditions, slice, with_body)
    };
    let Opened { version, shown, span, cursor } = blocking(work).await?;

    let mut headers = validators(&version);
    // The checksum is that of the whole content.
    let whole = span == (0..version.size);
    version.attributes.answer(&mut headers, checksums && whole);
    if let Some(shown) = shown.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("x-amz-version-id", shown);
    }
    if let (Slice::Part(_), Some(parts)) = (slice, version.parts) {
        headers.insert("x-amz-mp-parts-count", HeaderValue::from(parts));
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let len = span.end - span.start;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    let mut status = StatusCode::OK;
    // An empty part has no first and last byte that could be named.
    if !matches!(slice, Slice::All) && len > 0 {
        status = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{}", span.start, span.end - 1, version.size);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(text).map_err(S3Error::internal_error)?);
    }
    headers.extend(overrides);

    let fault = ask.extensions.get::<BodyFault>().map(|fault| fault.0.clone());
    let body = cursor.map(|(cursor, first)| BodyStream::new(cursor, first, len, fault));
    Ok(Answer { status, headers, len, body })
}

/// Which bytes are asked for.
#[derive(Clone, Copy)]
enum Slice {
    All,
    Range(Range),
    Part(u32),
}

impl Slice {
    fn of(range: Option<Range>, part: Option<i32>) -> S3Result<Self> {
        match (range, part) {
            (None, None) => Ok(Self::All),
            (Some(range), None) => Ok(Self::Range(range)),
            (Some(_), Some(_)) => {
                Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"))
            }
            (None, Some(part)) => Ok(Self::Part(part_number(part)?)),
        }
    }

    fn span(self, snapshot: &Transaction<'_>, version: &Version, content: i64) -> Result<Span<u64>, Error> {
        match self {
            Self::All => Ok(0..version.size),
            Self::Range(range) => Ok(span(range, version.size)?),
            Self::Part(number) => {
                let part = match version.parts {
                    Some(_) => contents::segment(snapshot, content, number)?,
                    // What was not uploaded in parts is one.
                    None => (number == 1).then_some(0..version.size),
                };
                let missing = || {
                    let message = "The requested partnumber is not satisfiable";
                    custom(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidPartNumber", message)
                };
                Ok(part.ok_or_else(missing)?)
            }
        }
    }
}

/// The number of a part, which is between 1 and 10,000.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn part_number(number: i32) -> S3Result<u32> {
    let number = u32::try_from(number).ok().filter(|number| (1..=10_000).contains(number));
    number.ok_or_else(|| s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"))
}

struct Opened {
    version: Version,
    /// The version id for the answer.
    shown: Option<String>,
    span: Span<u64>,
    cursor: Option<(Cursor, bytes::Bytes)>,
}

/// Everything that blocks, in one go: the row, the conditions, the files and the first piece.
fn open(
    store: &Store,
    bucket: &str,
    key: &str,
    id: Option<&str>,
    conditions: &Conditions,
    slice: Slice,
    with_body: bool,
) -> Result<Opened, Error> {
    for _ in 0..LOOKS_MAX {
        let (version, shown, span, pieces) = store.index.view(|snapshot| {
            let bucket = buckets::find(snapshot, bucket)?;
            let (version, content) = versions::readable(snapshot, &bucket, key, id)?;
            conditions.check_read(&version)?;
            let span = slice.span(snapshot, &version, content)?;
            let pieces = if with_body { contents::pieces(snapshot, content, &span)? } else { Vec::new() };
            let shown = bucket.shown(version.id.clone());
            Ok((version, shown, span, pieces))
        })?;
        if !with_body {
            return Ok(Opened { version, shown, span, cursor: None });
        }
        // The bodies may have been replaced and removed since the row was read: then the new row tells more.
        let is_there = || store.index.view(|snapshot| versions::exists(snapshot, version.seq));
        let Some(mut cursor) = Cursor::open(&store.bodies, pieces, is_there)? else { continue };
        let first = cursor.next()?;
        return Ok(Opened { version, shown, span, cursor: Some((cursor, first)) });
    }
    Err(Error::BodyDamaged(key.to_owned()))
}

fn span(range: Range, size: u64) -> S3Result<Span<u64>> {
    match range.check(size) {
        Ok(span) if !span.is_empty() => Ok(span),
        _ => {
            let mut error = S3Error::new(S3ErrorCode::InvalidRange);
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                error.set_headers(HeaderMap::from_iter([(CONTENT_RANGE, value)]));
            }
            Err(error)
        }
    }
}

/// `ETag` and `Last-Modified`, which also an answer without a body carries.
fn validators(object: &Version) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", object.etag)) {
        headers.insert(ETAG, etag);
    }
    headers.extend(http_date(object.modified_ms).map(|date| (LAST_MODIFIED, date)));
    headers
}

/// A time as HTTP headers have it.
pub(super) fn http_date(ms: i64) -> Option<HeaderValue> {
    let mut date = Vec::new();
    timestamp(ms).format(TimestampFormat::HttpDate, &mut date).ok()?;
    HeaderValue::try_from(date).ok()
}

/// Times are answered in whole seconds everywhere, as S3 does.
pub(super) fn timestamp(ms: i64) -> Timestamp {
    time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).unwrap_or(time::OffsetDateTime::UNIX_EPOCH).into()
}

/// The conditions of a read, or of the source of a copy.
pub(super) struct Conditions {
    if_match: Option<Test>,
    if_none_match: Option<Test>,
    modified_since: Option<i64>,
    unmodified_since: Option<i64>,
}

/// The names of four conditions: match, none match, modified since, unmodified since.
const READ: [HeaderName; 4] = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
const COPY: [HeaderName; 4] = [
    HeaderName::from_static("x-amz-copy-source-if-match"),
    HeaderName::from_static("x-amz-copy-source-if-none-match"),
    HeaderName::from_static("x-amz-copy-source-if-modified-since"),
    HeaderName::from_static("x-amz-copy-source-if-unmodified-since"),
];

/// The comparison in a conditional header. The strength of a tag does not matter: the store only has strong ones.
pub(super) fn test(headers: &HeaderMap, name: HeaderName) -> S3Result<Option<Test>> {
    let Some(value) = headers.get(&name) else { return Ok(None) };
    match ETagCondition::parse_http_header(value.as_bytes()) {
        Ok(ETagCondition::Any) => Ok(Some(Test::Any)),
        Ok(ETagCondition::ETag(etag)) => Ok(Some(Test::Is(etag.into_value()))),
        Err(_) => Err(s3_error!(InvalidArgument, "The condition {name} is malformed.")),
    }
}

impl Conditions {
    fn of(headers: &HeaderMap, names: &[HeaderName; 4]) -> S3Result<Self> {
        let date = |name: &HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            let time: time::OffsetDateTime = Timestamp::parse(TimestampFormat::HttpDate, value).ok()?.into();
            Some(time.unix_timestamp())
        };
        Ok(Self {
            if_match: test(headers, names[0].clone())?,
            if_none_match: test(headers, names[1].clone())?,
            modified_since: date(&names[2]),
            unmodified_since: date(&names[3]),
        })
    }

    /// Those that a copy puts on its source.
    ///
    /// # Errors
    /// `InvalidArgument` for a malformed one.
    pub(super) fn of_source(headers: &HeaderMap) -> S3Result<Self> {
        Self::of(headers, &COPY)
    }

    /// Whether the object is the one that was wanted, and whether it is news. RFC 9110, 13.2.2: a tag goes before a date of the same
    /// sense.
    fn judge(&self, object: &Version) -> (bool, bool) {
        let modified = object.modified_ms.div_euclid(1000);
        let etag = Some(object.etag.as_str());
        let wanted = match &self.if_match {
            Some(test) => test.holds(etag),
            None => self.unmodified_since.is_none_or(|date| modified <= date),
        };
        let news = match &self.if_none_match {
            Some(test) => !test.holds(etag),
            None => self.modified_since.is_none_or(|date| modified > date),
        };
        (wanted, news)
    }

    fn check_read(&self, object: &Version) -> S3Result<()> {
        match self.judge(object) {
            (false, _) => Err(S3ErrorCode::PreconditionFailed.into()),
            (true, false) => {
                let mut error = S3Error::new(S3ErrorCode::NotModified);
                error.set_headers(validators(object));
                Err(error)
            }
            (true, true) => Ok(()),
        }
    }

    /// Judges the source of a copy: there is no "not modified" there.
    ///
    /// # Errors
    /// `PreconditionFailed`.
    pub(super) fn check_source(&self, object: &Version) -> S3Result<()> {
        match self.judge(object) {
            (true, true) => Ok(()),
            _ => Err(S3ErrorCode::PreconditionFailed.into()),
        }
    }
}

/// The headers that a signed request replaces in its answer.
fn overrides(uri: &Uri) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in query(uri) {
        let header = match name.as_str() {
            "response-cache-control" => CACHE_CONTROL,
            "response-content-disposition" => CONTENT_DISPOSITION,
            "response-content-encoding" => CONTENT_ENCODING,
            "response-content-language" => CONTENT_LANGUAGE,
            "response-content-type" => CONTENT_TYPE,
            "response-expires" => EXPIRES,
            _ => continue,
        };
        let value = HeaderValue::try_from(value).map_err(|_| s3_error!(InvalidArgument, "The parameter {name} is malformed."))?;
        headers.insert(header, value);
    }
    Ok(headers)
}
