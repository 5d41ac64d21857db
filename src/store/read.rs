//! GetObject and HeadObject: conditions, ranges, response headers, and the body as a stream.

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, EXPIRES, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
};
use http::{Extensions, HeaderMap, StatusCode, Uri};
use s3s::dto::{ETagCondition, Range, Timestamp, TimestampFormat};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, s3_error};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::bodies::{Bodies, PIECE};
use super::faults::Effect;
use super::gate::{BodyFault, query};
use super::index::{Object, Test};
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
    /// `None` also for a Range header that S3 ignores.
    pub(super) range: Option<Range>,
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
    let conditions = Conditions::of(ask.headers)?;
    let overrides = overrides(ask.uri)?;
    let checksums = ask.headers.get("x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"ENABLED"));
    let (range, with_body) = (ask.range, ask.with_body);
    let work = {
        let (store, bucket, key) = (Arc::clone(store), ask.bucket.to_owned(), ask.key.to_owned());
        move || Ok(open(&store, &bucket, &key, &conditions, range, with_body))
    };
    let (object, span, file) = blocking(work).await??;

    let mut headers = validators(&object);
    // The checksum is that of the whole content.
    object.headers.answer(&mut headers, checksums && range.is_none());
    if checksums && headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-")) {
        headers.insert("x-amz-checksum-type", HeaderValue::from_static("FULL_OBJECT"));
    }
    if let Some(class) = object.storage_class.as_deref().and_then(|class| HeaderValue::from_str(class).ok()) {
        headers.insert("x-amz-storage-class", class);
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let len = span.end - span.start;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    let mut status = StatusCode::OK;
    if range.is_some() {
        status = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{}", span.start, span.end - 1, object.size);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(text).map_err(S3Error::internal_error)?);
    }
    headers.extend(overrides);

    let fault = ask.extensions.get::<BodyFault>().map(|fault| fault.0.clone());
    let body = file.map(|(file, first)| BodyStream {
        bodies: Arc::clone(&store.bodies),
        file: Arc::new(file),
        next: span.start + first.len() as u64,
        end: span.end,
        ready: Some(first).filter(|first| !first.is_empty()),
        reading: None,
        left: len,
        trouble: fault.and_then(Trouble::of),
    });
    Ok(Answer { status, headers, len, body })
}

type Opened = (Object, std::ops::Range<u64>, Option<(File, Bytes)>);

/// Everything that blocks, in one go: the row, the conditions, the file and its first piece.
fn open(
    store: &Store,
    bucket: &str,
    key: &str,
    conditions: &Conditions,
    range: Option<Range>,
    with_body: bool,
) -> S3Result<Opened> {
    for _ in 0..LOOKS_MAX {
        let object = store.index.object(bucket, key)?;
        conditions.check(&object)?;
        let span = span(range, object.size)?;
        if !with_body {
            return Ok((object, span, None));
        }
        // The body may have been replaced and removed since the row was read: then the new row tells more.
        let Some(file) = store.bodies.read(object.body, object.size)? else { continue };
        let len = usize::try_from(span.end - span.start).unwrap_or(PIECE).min(PIECE);
        let first = store.bodies.piece(&file, span.start, len).map_err(Error::from)?;
        return Ok((object, span, Some((file, first))));
    }
    Err(Error::BodyDamaged(key.to_owned()).into())
}

fn span(range: Option<Range>, size: u64) -> S3Result<std::ops::Range<u64>> {
    let Some(range) = range else { return Ok(0..size) };
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
fn validators(object: &Object) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", object.etag)) {
        headers.insert(ETAG, etag);
    }
    let mut date = Vec::new();
    if timestamp(object.modified_ms).format(TimestampFormat::HttpDate, &mut date).is_ok()
        && let Ok(date) = HeaderValue::try_from(date)
    {
        headers.insert(LAST_MODIFIED, date);
    }
    headers
}

/// Times are answered in whole seconds everywhere, as S3 does.
pub(super) fn timestamp(ms: i64) -> Timestamp {
    time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).unwrap_or(time::OffsetDateTime::UNIX_EPOCH).into()
}

/// The conditions of a read.
struct Conditions {
    if_match: Option<Test>,
    if_none_match: Option<Test>,
    modified_since: Option<i64>,
    unmodified_since: Option<i64>,
}

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
    fn of(headers: &HeaderMap) -> S3Result<Self> {
        let date = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            let time: time::OffsetDateTime = Timestamp::parse(TimestampFormat::HttpDate, value).ok()?.into();
            Some(time.unix_timestamp())
        };
        Ok(Self {
            if_match: test(headers, IF_MATCH)?,
            if_none_match: test(headers, IF_NONE_MATCH)?,
            modified_since: date(IF_MODIFIED_SINCE),
            unmodified_since: date(IF_UNMODIFIED_SINCE),
        })
    }

    /// RFC 9110, 13.2.2: a tag goes before a date of the same sense.
    fn check(&self, object: &Object) -> S3Result<()> {
        let modified = object.modified_ms.div_euclid(1000);
        let etag = Some(object.etag.as_str());
        let wanted = match &self.if_match {
            Some(test) => test.holds(etag),
            None => self.unmodified_since.is_none_or(|date| modified <= date),
        };
        if !wanted {
            return Err(S3ErrorCode::PreconditionFailed.into());
        }
        let news = match &self.if_none_match {
            Some(test) => !test.holds(etag),
            None => self.modified_since.is_none_or(|date| modified > date),
        };
        if !news {
            let mut error = S3Error::new(S3ErrorCode::NotModified);
            error.set_headers(validators(object));
            return Err(error);
        }
        Ok(())
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

/// What is sent before an injected cut gets this long to leave the buffers of the connection.
const FLUSH_TIME: Duration = Duration::from_millis(20);

/// An injected fault on its way.
struct Trouble {
    /// Bytes until it strikes.
    left: u64,
    pause: Duration,
    /// Whether the body ends after the pause.
    cut: bool,
    sleeping: Option<Pin<Box<Sleep>>>,
}

impl Trouble {
    fn of(effect: Effect) -> Option<Self> {
        match effect {
            Effect::CutDownload { after } => Some(Self { left: after, pause: FLUSH_TIME, cut: true, sleeping: None }),
            Effect::StallDownload { after, pause } => Some(Self { left: after, pause, cut: false, sleeping: None }),
            _ => None,
        }
    }
}

/// A body on its way out. One piece is read ahead while another is sent; the file stays open, so that the body is whole even if
/// its key is overwritten meanwhile.
pub(super) struct BodyStream {
    bodies: Arc<Bodies>,
    file: Arc<File>,
    next: u64,
    end: u64,
    ready: Option<Bytes>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    left: u64,
    trouble: Option<Trouble>,
}

impl BodyStream {
    fn read_ahead(&mut self) {
        if self.reading.is_none() && self.next < self.end {
            let (bodies, file, at) = (Arc::clone(&self.bodies), Arc::clone(&self.file), self.next);
            let len = usize::try_from(self.end - at).unwrap_or(PIECE).min(PIECE);
            self.next += len as u64;
            self.reading = Some(tokio::task::spawn_blocking(move || bodies.piece(&file, at, len)));
        }
    }

    /// How many bytes may go out before an injected fault strikes; `Pending` and errors are the fault striking.
    fn poll_trouble(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StdError>> {
        let Some(trouble) = &mut self.trouble else { return Poll::Ready(Ok(usize::MAX)) };
        if trouble.left > 0 {
            return Poll::Ready(Ok(usize::try_from(trouble.left).unwrap_or(usize::MAX)));
        }
        let pause = trouble.pause;
        let sleeping = trouble.sleeping.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        ready!(sleeping.as_mut().poll(cx));
        if trouble.cut {
            return Poll::Ready(Err("an injected fault cuts the body".into()));
        }
        self.trouble = None;
        Poll::Ready(Ok(usize::MAX))
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = ready!(this.poll_trouble(cx))?;
        this.read_ahead();
        let mut piece = match this.ready.take() {
            Some(piece) => piece,
            None => {
                let Some(reading) = &mut this.reading else { return Poll::Ready(Some(Err("the body ended early".into()))) };
                let outcome = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                this.read_ahead();
                outcome??
            }
        };
        if piece.len() > most {
            this.ready = Some(piece.split_off(most));
        }
        if let Some(trouble) = &mut this.trouble {
            trouble.left -= piece.len() as u64;
        }
        this.left = this.left.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(piece)))
    }
}

impl ByteStream for BodyStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.left).unwrap_or(usize::MAX))
    }
}
