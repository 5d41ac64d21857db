//! The forward way: a request that never touches object data goes to the backend as it is, signed with the gateway's own
//! credentials, and the answer comes back as it is.
//!
//! Only headers and query parameters from allow-lists travel. Bodies are small documents, held in memory, so that the real
//! SHA-256 is signed whatever the transport.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, Sleep};

use super::passing::PassedStream;
use crate::observe::metrics;
use crate::observe::request_id::RequestId;

/// The longest error document that is read from the backend, in bytes. S3's are a few hundred.
const ERROR_BODY_MAX: usize = 64 * 1024;
/// Credentials without an expiry are asked for again after this time: somebody may have rotated the file they come from.
const CREDENTIALS_TTL: Duration = Duration::from_secs(15 * 60);
/// Credentials are renewed this long before they expire.
const CREDENTIALS_EARLY: Duration = Duration::from_secs(5 * 60);
/// The first pause between two attempts; it doubles, and a random part of it is waited.
const BACKOFF: Duration = Duration::from_millis(100);

/// Characters that stay as they are in a path or query under the signature rules of S3. Everything else is percent-encoded.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Where and how to forward.
#[derive(Debug, Clone)]
pub struct ForwardSettings {
    /// Scheme, host, port, and a path in front of every request's if there is one.
    pub endpoint: Uri,
    pub region: String,
    /// The bucket stands in the path (most S3-compatible stores) and not in the host name.
    pub path_style: bool,
    pub connect_timeout: Duration,
    /// From the request's head to the head of the answer.
    pub first_byte_timeout: Duration,
    /// The longest pause between two pieces of an answer.
    pub idle_timeout: Duration,
    /// Attempts after the first, for requests that may be repeated.
    pub retries_max: u32,
}

impl ForwardSettings {
    /// Settings for an endpoint, with the project's timeouts.
    ///
    /// # Errors
    /// An endpoint without scheme http or https, or without a host.
    pub fn new(endpoint: &str, region: impl Into<String>, path_style: bool) -> Result<Self, ForwardError> {
        let uri: Uri = endpoint.parse().map_err(|_| ForwardError::Endpoint(endpoint.into()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() || uri.query().is_some() {
            return Err(ForwardError::Endpoint(endpoint.into()));
        }
        Ok(Self {
            endpoint: uri,
            region: region.into(),
            path_style,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            retries_max: 2,
        })
    }
}

/// A request for the backend, in decoded form.
#[derive(Debug)]
pub struct ForwardRequest<'a> {
    pub method: Method,
    pub bucket: Option<&'a str>,
    pub key: Option<&'a str>,
    /// Decoded names and values; the caller lets through only what the operation has.
    pub query: &'a [(String, String)],
    /// The client's headers; this room picks from them.
    pub headers: &'a HeaderMap,
    pub body: Bytes,
    pub request_id: RequestId,
}

/// The backend's answer.
#[derive(Debug)]
pub struct Forwarded {
    pub status: StatusCode,
    /// Without what belongs to the connection, to the backend's own identification, and to the sealed format.
    pub headers: HeaderMap,
    pub body: ForwardedBody,
    /// The backend's own id of the request.
    pub backend_request_id: Option<String>,
}

/// Error documents are in memory, everything else streams.
#[derive(Debug)]
pub enum ForwardedBody {
    Whole(Bytes),
    Streaming(IdleLimited),
}

/// Why there is no answer to pass on.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("{0:?} is not an endpoint: it needs http:// or https://, a host and no query")]
    Endpoint(String),
    /// Client: a header that cannot be signed.
    #[error("the header {0} is not plain text")]
    HeaderNotText(HeaderName),
    /// Us: no credentials for the backend.
    #[error("no credentials for the backend")]
    Credentials(#[source] BoxError),
    /// Us: the request could not be put together.
    #[error("the request for the backend could not be built")]
    Request(#[source] BoxError),
    /// Backend: no connection, or it broke before the answer's head. Transient.
    #[error("the backend cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    /// Backend: no answer within the limit. Transient.
    #[error("the backend did not answer in time")]
    FirstByteTimeout,
    /// Us: the backend does not accept the gateway's credentials or signature. It must never reach the client as its own error.
    #[error("the backend refused the gateway's own signature: {code} ({status})")]
    RefusedUs { status: StatusCode, code: String },
    /// Us: the backend says that the bucket lives elsewhere. A client must not be sent past the gateway.
    #[error("the backend redirects to another endpoint or region ({region:?})")]
    Redirected { region: Option<String> },
    /// Backend: the error document broke off or is too long.
    #[error("the backend's error document could not be read")]
    ErrorBody(#[source] BoxError),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ForwardError {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::FirstByteTimeout | Self::ErrorBody(_))
    }
}

/// The client of one worker. Cloning shares its connections; another worker makes its own, so that no connection is driven by
/// another worker's thread.
#[derive(Clone)]
pub struct Forwarder {
    settings: Arc<ForwardSettings>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    streams: Client<HttpsConnector<HttpConnector>, PassedStream>,
    credentials: Arc<CachedCredentials>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("endpoint", &self.settings.endpoint).finish_non_exhaustive()
    }
}

impl Forwarder {
    /// Must be called on the worker that will use it. `tls` is needed for https endpoints and harmless for others.
    #[must_use]
    pub fn new(settings: Arc<ForwardSettings>, credentials: SharedCredentialsProvider, tls: rustls::ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(20)).pool_max_idle_per_host(64);
        let (client, streams) = (builder.build(connector.clone()), builder.build(connector));
        Self {
            settings,
            client,
            streams,
            credentials: Arc::new(CachedCredentials { provider: credentials, cached: Default::default() }),
        }
    }

    pub(super) fn settings(&self) -> &ForwardSettings {
        &self.settings
    }

    pub(super) fn streams(&self) -> &Client<HttpsConnector<HttpConnector>, PassedStream> {
        &self.streams
    }

    pub(super) async fn credentials(&self) -> Result<Credentials, ForwardError> {
        self.credentials.current().await
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// See [`ForwardError`]. An error status of the backend is an answer, not an error, unless it is about the gateway itself.
    pub async fn send(&self, request: ForwardRequest<'_>) -> Result<Forwarded, ForwardError> {
        let result = self.send_with_retries(&request).await;
        metrics::forwarded(match &result {
            Ok(answer) => metrics::status_class(answer.status.as_u16()),
            Err(_) => "failed",
        });
        result
    }

    async fn send_with_retries(&self, request: &ForwardRequest<'_>) -> Result<Forwarded, ForwardError> {
        let uri = self.uri(request)?;
        let headers = travelling_headers(request)?;
        let repeatable = matches!(request.method, Method::GET | Method::HEAD);
        let mut retries_left = self.settings.retries_max;
        loop {
            let error = match self.attempt(request, &uri, &headers).await {
                Ok(answer) if repeatable && retries_left > 0 && is_transient_status(answer.status()) => None,
                Ok(answer) => return self.take_answer(answer).await,
                // Nothing was sent when there was no connection: then everything may be repeated.
                Err(ForwardError::Unreachable(err)) if retries_left > 0 && (repeatable || err.is_connect()) => Some(err),
                Err(err) => return Err(err),
            };
            tracing::debug!(request_id = %request.request_id, error = error.map(tracing::field::debug), "forwarding again");
            metrics::forward_retried();
            tokio::time::sleep(backoff(self.settings.retries_max - retries_left)).await;
            retries_left -= 1;
        }
    }

    async fn attempt(
        &self,
        request: &ForwardRequest<'_>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<http::Response<Incoming>, ForwardError> {
        let mut outgoing = http::Request::new(Full::new(request.body.clone()));
        *outgoing.method_mut() = request.method.clone();
        *outgoing.uri_mut() = uri.clone();
        *outgoing.headers_mut() = headers.clone();
        let credentials = self.credentials.current().await?;
        self.sign(&mut outgoing, SignableBody::Bytes(&request.body), credentials)?;
        match tokio::time::timeout(self.settings.first_byte_timeout, self.client.request(outgoing)).await {
            Ok(result) => result.map_err(ForwardError::Unreachable),
            Err(_) => Err(ForwardError::FirstByteTimeout),
        }
    }

    pub(super) fn sign<B>(
        &self,
        outgoing: &mut http::Request<B>,
        body: SignableBody<'_>,
        credentials: Credentials,
    ) -> Result<(), ForwardError> {
        let mut settings = SigningSettings::default();
        // S3's own rules: the path is signed exactly as it is sent.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let build = |err: BoxError| ForwardError::Request(err);
        let identity = credentials.into();
        let params = aws_sigv4::sign::v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.settings.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|err| build(err.into()))?
            .into();
        let instructions = {
            let mut headers = Vec::with_capacity(outgoing.headers().len());
            for (name, value) in outgoing.headers() {
                let value = std::str::from_utf8(value.as_bytes()).map_err(|_| ForwardError::HeaderNotText(name.clone()))?;
                headers.push((name.as_str(), value));
            }
            let uri = outgoing.uri().to_string();
            let signable = SignableRequest::new(outgoing.method().as_str(), uri, headers.into_iter(), body)
                .map_err(|err| build(err.into()))?;
            sign(signable, &params).map_err(|err| build(err.into()))?.into_parts().0
        };
        instructions.apply_to_request_http1x(outgoing);
        Ok(())
    }

    pub(super) fn uri(&self, request: &ForwardRequest<'_>) -> Result<Uri, ForwardError> {
        let endpoint = &self.settings.endpoint;
        let authority = endpoint.authority().map_or("", http::uri::Authority::as_str);
        let mut path = endpoint.path().trim_end_matches('/').to_owned();
        let authority = match request.bucket {
            Some(bucket) if !self.settings.path_style => format!("{bucket}.{authority}"),
            Some(bucket) => {
                path.push('/');
                path.extend(utf8_percent_encode(bucket, PATH));
                authority.to_owned()
            }
            None => authority.to_owned(),
        };
        if let Some(key) = request.key {
            path.push('/');
            path.extend(utf8_percent_encode(key, PATH));
        } else if path.is_empty() {
            path.push('/');
        }
        for (i, (name, value)) in request.query.iter().enumerate() {
            path.push(if i == 0 { '?' } else { '&' });
            path.extend(utf8_percent_encode(name, QUERY));
            if !value.is_empty() {
                path.push('=');
                path.extend(utf8_percent_encode(value, QUERY));
            }
        }
        Uri::builder()
            .scheme(endpoint.scheme_str().unwrap_or("https"))
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|err| ForwardError::Request(err.into()))
    }

    pub(super) async fn take_answer(&self, answer: http::Response<Incoming>) -> Result<Forwarded, ForwardError> {
        let (parts, body) = answer.into_parts();
        let mut headers = parts.headers;
        let region = headers.get("x-amz-bucket-region").and_then(|v| v.to_str().ok()).map(str::to_owned);
        if matches!(parts.status.as_u16(), 301 | 302 | 307 | 308) {
            return Err(ForwardError::Redirected { region });
        }
        let backend_request_id = headers.get("x-amz-request-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let announced = headers.get(header::CONTENT_LENGTH).cloned();
        strip_answer(&mut headers);
        let body = IdleLimited::new(body, self.settings.idle_timeout);
        let body = if parts.status.as_u16() >= 400 {
            let document = Limited::new(body, ERROR_BODY_MAX).collect().await.map_err(ForwardError::ErrorBody)?.to_bytes();
            if let Some(code) = error_code(&document).filter(|code| is_about_us(code)) {
                return Err(ForwardError::RefusedUs { status: parts.status, code: code.to_owned() });
            }
            ForwardedBody::Whole(document)
        } else {
            if let Some(length) = announced {
                headers.insert(header::CONTENT_LENGTH, length);
            }
            ForwardedBody::Streaming(body)
        };
        Ok(Forwarded { status: parts.status, headers, body, backend_request_id })
    }
}

/// The request's headers that may go to the backend, and the id that joins both logs.
fn travelling_headers(request: &ForwardRequest<'_>) -> Result<HeaderMap, ForwardError> {
    let mut out = HeaderMap::new();
    for name in request.headers.keys().filter(|name| may_travel(name.as_str())) {
        let mut values = request.headers.get_all(name).iter();
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned).map_err(|_| ForwardError::HeaderNotText(name.clone()));
        let mut joined = text(values.next().expect("keys() yields names that have a value"))?;
        for value in values {
            joined.push(',');
            joined.push_str(&text(value)?);
        }
        let value = HeaderValue::try_from(joined).map_err(|_| ForwardError::HeaderNotText(name.clone()))?;
        out.insert(name.clone(), value);
    }
    out.insert(
        HeaderName::from_static(RequestId::BACKEND_HEADER),
        HeaderValue::from_str(request.request_id.as_str()).expect("hexadecimal digits are a header value"),
    );
    Ok(out)
}

pub(super) fn may_travel(name: &str) -> bool {
    const PLAIN: &[&str] =
        &["content-md5", "content-type", "if-match", "if-modified-since", "if-none-match", "if-unmodified-since"];
    // The client's authentication and framing end at the gateway; the rest belongs to operations that do not go this way.
    const NEVER: &[&str] = &[
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-security-token",
        "x-amz-te",
        "x-amz-trailer",
        "x-amz-user-agent",
    ];
    const NEVER_FAMILIES: &[&str] =
        &["x-amz-copy-source", "x-amz-meta-", "x-amz-rename-source", "x-amz-server-side-encryption-customer-"];
    PLAIN.contains(&name)
        || (name.starts_with("x-amz-") && !NEVER.contains(&name) && !NEVER_FAMILIES.iter().any(|family| name.starts_with(family)))
}

fn strip_answer(headers: &mut HeaderMap) {
    // Headers that `Connection` names belong to the connection, too.
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in &named {
        headers.remove(name.as_str());
    }
    for name in [
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "location",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amz-id-2",
        "x-amz-meta-ciphergate",
        "x-amz-request-id",
    ] {
        headers.remove(name);
    }
}

fn error_code(document: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(document).ok()?;
    Some(text.split_once("<Code>")?.1.split_once("</Code>")?.0.trim())
}

/// Codes with which a store says that it does not know us, as opposed to what our client asked for.
fn is_about_us(code: &str) -> bool {
    matches!(
        code,
        "AuthorizationHeaderMalformed"
            | "ExpiredToken"
            | "InvalidAccessKeyId"
            | "InvalidSecurity"
            | "InvalidToken"
            | "MissingSecurityHeader"
            | "NotSignedUp"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
            | "XAmzContentSHA256Mismatch"
    )
}

fn is_transient_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

fn backoff(attempt: u32) -> Duration {
    let full = BACKOFF * 2u32.saturating_pow(attempt.min(6));
    let mut byte = [128u8];
    // Without randomness the middle is waited: the jitter only spreads the load.
    let _ = getrandom::fill(&mut byte);
    full * u32::from(byte[0]) / 256 + full / 8
}

struct CachedCredentials {
    provider: SharedCredentialsProvider,
    cached: tokio::sync::Mutex<Option<(Credentials, SystemTime)>>,
}

impl CachedCredentials {
    async fn current(&self) -> Result<Credentials, ForwardError> {
        let now = SystemTime::now();
        // Held while asking: one question to the provider, however many requests wait for it.
        let mut cached = self.cached.lock().await;
        if let Some((credentials, renew_at)) = &*cached
            && now < *renew_at
        {
            return Ok(credentials.clone());
        }
        match self.provider.provide_credentials().await {
            Ok(fresh) => {
                let renew_at = match fresh.expiry() {
                    Some(expiry) => expiry.checked_sub(CREDENTIALS_EARLY).unwrap_or(now),
                    None => now + CREDENTIALS_TTL,
                };
                *cached = Some((fresh.clone(), renew_at));
                Ok(fresh)
            }
            Err(err) => match &*cached {
                Some((old, _)) if old.expiry().is_none_or(|expiry| now < expiry) => {
                    tracing::warn!(error = %err, "backend credentials could not be renewed; the old ones are still valid");
                    Ok(old.clone())
                }
                _ => Err(ForwardError::Credentials(err.into())),
            },
        }
    }
}

/// A body that fails when the backend falls silent. The time in which nobody asks for it does not count.
#[derive(Debug)]
pub struct IdleLimited {
    inner: Incoming,
    idle_max: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl IdleLimited {
    fn new(inner: Incoming, idle_max: Duration) -> Self {
        Self { inner, idle_max, timer: None, waiting: false }
    }
}

impl http_body::Body for IdleLimited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = Instant::now() + this.idle_max;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !this.waiting {
            this.waiting = true;
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| Some(Err("the backend fell silent in the middle of its answer".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarder(endpoint: &str, path_style: bool) -> Forwarder {
        let settings = ForwardSettings::new(endpoint, "us-east-1", path_style).unwrap();
        let credentials = SharedCredentialsProvider::new(Credentials::new("AK", "SK", None, None, "test"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Forwarder::new(Arc::new(settings), credentials, tls)
    }

    fn uri(endpoint: &str, path_style: bool, bucket: Option<&str>, key: Option<&str>, query: &[(&str, &str)]) -> String {
        let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let headers = HeaderMap::new();
        let request = ForwardRequest {
            method: Method::GET,
            bucket,
            key,
            query: &query,
            headers: &headers,
            body: Bytes::new(),
            request_id: RequestId::fresh(),
        };
        forwarder(endpoint, path_style).uri(&request).unwrap().to_string()
    }

    #[tokio::test]
    async fn uris_are_encoded_strictly() {
        let http = "http://127.0.0.1:9000";
        assert_eq!(uri(http, true, None, None, &[]), "http://127.0.0.1:9000/");
        assert_eq!(uri(http, true, Some("b-b"), None, &[("acl", "")]), "http://127.0.0.1:9000/b-b?acl");
        assert_eq!(
            uri(http, true, Some("bbb"), Some("a b+c%/ü//..//~x"), &[("versionId", "a+b /=&")]),
            "http://127.0.0.1:9000/bbb/a%20b%2Bc%25/%C3%BC//..//~x?versionId=a%2Bb%20%2F%3D%26"
        );
        assert_eq!(uri("https://s3.example.com", false, Some("bbb"), Some("k"), &[]), "https://bbb.s3.example.com/k");
        assert_eq!(uri("https://s3.example.com", false, Some("bbb"), None, &[]), "https://bbb.s3.example.com/");
        assert_eq!(uri("https://example.com/s3/", true, Some("bbb"), Some("k"), &[]), "https://example.com/s3/bbb/k");
    }

    #[test]
    fn endpoints_are_checked() {
        for bad in ["localhost:9000", "ftp://host", "/path", "http://h/?q=1", ""] {
            assert!(ForwardSettings::new(bad, "r", true).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_listed_headers_travel() {
        for name in
            ["content-type", "content-md5", "x-amz-acl", "x-amz-checksum-crc32", "x-amz-expected-bucket-owner", "x-amz-mfa"]
        {
            assert!(may_travel(name), "{name}");
        }
        for name in [
            "authorization",
            "connection",
            "content-encoding",
            "cookie",
            "host",
            "transfer-encoding",
            "x-amz-content-sha256",
            "x-amz-copy-source",
            "x-amz-copy-source-range",
            "x-amz-date",
            "x-amz-decoded-content-length",
            "x-amz-meta-ciphergate",
            "x-amz-meta-a",
            "x-amz-security-token",
            "x-amz-server-side-encryption-customer-key",
            "x-amz-trailer",
            "x-forwarded-for",
            "x-request-id",
        ] {
            assert!(!may_travel(name), "{name}");
        }
    }

    #[test]
    fn answers_lose_what_is_not_for_the_client() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("x-amz-meta-ciphergate", "cg1"),
            ("x-amz-request-id", "B"),
            ("etag", "\"e\""),
            ("x-amz-bucket-region", "eu-west-1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_answer(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["etag", "x-amz-bucket-region"]);
    }

    #[test]
    fn codes_are_read_from_error_documents() {
        assert_eq!(error_code(b"<?xml?><Error><Code>SignatureDoesNotMatch</Code></Error>"), Some("SignatureDoesNotMatch"));
        assert_eq!(error_code(b"<html>"), None);
        assert!(!is_about_us("NoSuchBucket") && !is_about_us("AccessDenied"));
    }
}
