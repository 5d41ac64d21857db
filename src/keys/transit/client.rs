//! The few requests that Transit is asked, and the token that they carry.
//!
//! Over the HTTP client that the forward way has too. A client library for the whole API would hold data keys in plain strings and bring a
//! second HTTP stack.

use super::{TransitKey, TransitOptions};
use crate::keys::error::chain;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as HttpClient, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest answer that is read, in bytes. An answer with a key has 400; the settings of a key name each of its versions.
const ANSWER_LEN_MAX: usize = 256 * 1024;
/// Room for an answer that does not say how long it will be.
const ANSWER_LEN_LIKELY: usize = 4096;
/// How much of a refusal's text is kept, in characters.
const REFUSAL_LEN_MAX: usize = 300;
/// How long a connection that nobody uses is kept.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Where the token comes from. It is read at the first call, and again when the server refuses the one that was read before: whoever renews
/// the file, such as an agent, needs to tell nobody.
pub trait TokenSource: Send + Sync {
    /// Reads the token. May block for the time of reading a small file. The error is for logs and says no token.
    fn read(&self) -> Result<Zeroizing<String>, String>;
}

/// Why there is no answer to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or one that broke.
    Unreachable(String),
    /// Nothing within the time of an attempt.
    TimedOut,
    /// There is no token to ask with.
    NoToken(String),
    /// The server does not know the token (any more), and there is no newer one.
    TokenRefused(String),
    /// Any other answer than success, with what it says.
    Refused { status: u16, text: String },
}

type Token = Arc<Zeroizing<String>>;

pub(super) struct Client {
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    key: TransitKey,
    data_key: Uri,
    decrypt: Uri,
    settings: Uri,
    token_lookup: Uri,
    namespace: Option<HeaderValue>,
    source: Arc<dyn TokenSource>,
    token: Mutex<Option<Token>>,
    attempt_timeout: Duration,
}

impl Client {
    /// The error is a text for the operator.
    pub(super) fn new(
        key: &TransitKey,
        source: Arc<dyn TokenSource>,
        tls: rustls::ClientConfig,
        options: &TransitOptions,
    ) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let http =
            HttpClient::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_MAX).build(connector);
        let TransitKey { address, mount, name, namespace } = key;
        let uri = |path: String| -> Result<Uri, String> {
            let uri: Uri =
                format!("{}/v1/{path}", address.trim_end_matches('/')).parse().map_err(|_| "no such address or path")?;
            // A name that the address parser would understand as more than a path is none.
            if uri.path() == format!("/v1/{path}") && uri.query().is_none() { Ok(uri) } else { Err("no such path".into()) }
        };
        let namespace = namespace.as_deref().map(HeaderValue::from_str).transpose().map_err(|_| "no such namespace")?;
        Ok(Self {
            http,
            data_key: uri(format!("{mount}/datakey/plaintext/{name}"))?,
            decrypt: uri(format!("{mount}/decrypt/{name}"))?,
            settings: uri(format!("{mount}/keys/{name}"))?,
            token_lookup: uri("auth/token/lookup-self".into())?,
            key: key.clone(),
            namespace,
            source,
            token: Mutex::new(None),
            attempt_timeout: options.attempt_timeout,
        })
    }

    pub(super) fn key(&self) -> &TransitKey {
        &self.key
    }

    /// A new data key, in plain and wrapped.
    pub(super) async fn data_key(&self, question: &serde_json::Value) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.ask(Method::POST, &self.data_key, question.to_string().into()).await
    }

    /// The data key of a wrapped one.
    pub(super) async fn decrypt(&self, question: &serde_json::Value) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.ask(Method::POST, &self.decrypt, question.to_string().into()).await
    }

    /// What the key is.
    pub(super) async fn settings(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.ask(Method::GET, &self.settings, Bytes::new()).await
    }

    async fn ask(&self, method: Method, uri: &Uri, body: Bytes) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let asked = tokio::time::timeout(self.attempt_timeout, self.ask_with_token(method, uri, body));
        asked.await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn ask_with_token(&self, method: Method, uri: &Uri, body: Bytes) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut token = match self.known_token() {
            Some(token) => token,
            None => self.read_token().await.map_err(Failure::NoToken)?,
        };
        let mut outcome = self.send(&method, uri, &body, &token).await?;
        if outcome.0 == StatusCode::FORBIDDEN
            && let Some(newer) = self.newer_token(&token).await?
        {
            tracing::info!(key = self.key.name, "the key service refused the token; there is a new one");
            token = newer;
            outcome = self.send(&method, uri, &body, &token).await?;
        }
        match outcome {
            (StatusCode::OK, answer) => Ok(answer),
            // The words for both are the same: whether the token itself is refused shows when it asks about itself.
            (StatusCode::FORBIDDEN, answer) => {
                let text = refusal_text(&answer);
                match self.send(&Method::GET, &self.token_lookup, &Bytes::new(), &token).await {
                    Ok((StatusCode::FORBIDDEN, _)) => Err(Failure::TokenRefused(text)),
                    _ => Err(Failure::Refused { status: 403, text }),
                }
            }
            (status, answer) => Err(Failure::Refused { status: status.as_u16(), text: refusal_text(&answer) }),
        }
    }

    async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        body: &Bytes,
        token: &Token,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), Failure> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        let mut header =
            HeaderValue::from_str(token).map_err(|_| Failure::NoToken("it has characters that no token has".into()))?;
        header.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-vault-token"), header);
        // Agents and proxies may demand it, as a sign that no browser was made to ask.
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            headers.insert(HeaderName::from_static("x-vault-namespace"), namespace.clone());
        }
        if *method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answer = self.http.request(request).await.map_err(|error| Failure::Unreachable(chain(&error)))?;
        Ok((answer.status(), read(answer).await?))
    }

    fn known_token(&self) -> Option<Token> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read_token(&self) -> Result<Token, String> {
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let token = Arc::new(read.map_err(|_| "reading it broke off")??);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }

    /// Another token than the refused one: read by somebody else meanwhile, or there to be read.
    async fn newer_token(&self, refused: &Token) -> Result<Option<Token>, Failure> {
        if let Some(known) = self.known_token().filter(|known| known != refused) {
            return Ok(Some(known));
        }
        let read = self.read_token().await.map_err(|why| Failure::TokenRefused(format!("and no other can be read: {why}")))?;
        Ok(Some(read).filter(|read| read != refused))
    }
}

/// The body of an answer, in a buffer that is wiped and does not grow. What the HTTP library had it in cannot be wiped from here.
async fn read(answer: Response<Incoming>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let told = answer.body().size_hint().upper().and_then(|len| usize::try_from(len).ok());
    let mut text = Zeroizing::new(Vec::with_capacity(told.unwrap_or(ANSWER_LEN_LIKELY).min(ANSWER_LEN_MAX)));
    let mut body = Limited::new(answer.into_body(), ANSWER_LEN_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Unreachable(format!("the answer broke off: {}", chain(&*error))))?;
        let Ok(data) = frame.into_data() else { continue };
        if text.capacity() - text.len() < data.len() {
            let mut longer = Zeroizing::new(Vec::with_capacity((text.len() + data.len()).next_power_of_two()));
            longer.extend_from_slice(&text);
            text = longer;
        }
        text.extend_from_slice(&data);
    }
    Ok(text)
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<String>,
}

/// What a refusal says, on one line and not too long. An answer that is none says nothing: it could be anything.
fn refusal_text(answer: &[u8]) -> String {
    let Ok(Refusal { errors }) = serde_json::from_slice(answer) else { return "no reason that can be read".into() };
    let words: Vec<String> = errors.iter().flat_map(|error| error.split_whitespace()).map(printable).collect();
    words.join(" ").chars().take(REFUSAL_LEN_MAX).collect()
}

fn printable(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).collect()
}
