//! The Transit engine of OpenBao (and of HashiCorp Vault, which speaks the same API) as a key provider. docs/TRANSIT.md has the set-up and
//! the bytes.
//!
//! Address, namespace, mount and key come from the configuration; nothing read from a bucket has a part in the path of a request. The
//! encryption context (FORMAT section 4) is bound because the key is a derived one: Transit derives another key for each context. With any
//! other key it would take a context and pass over it, so a key's settings are read before it is used, and again every few minutes.

mod client;
mod refusal;
mod settings;

use super::{Error, Generated, KeyContext, KeyEncryptionKey, KeyProvider, Label};
use client::Client;
use data_encoding::BASE64;
use serde::Deserialize;
use settings::Fitness;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

pub use client::TokenSource;

/// What the hash of a context begins with, so that it is no hash of anything else.
const CONTEXT_DOMAIN: &[u8] = b"ciphergate transit 1";
/// What a wrapped key begins with; its key version follows.
const BLOB_HEAD: &str = "vault:v";
/// Nonce, 32 bytes and tag of a wrapped key.
const WRAPPED_LEN: usize = 12 + 32 + 16;
/// Digits of a key version.
const VERSION_DIGITS_MAX: usize = 9;
/// Characters of 32 bytes in Base64.
const KEY_TEXT_LEN: usize = 44;

/// Which key, and where. All of it from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitKey {
    /// Scheme, host and port of the server.
    pub address: String,
    /// Path under which the engine is mounted, such as `transit`.
    pub mount: String,
    /// Name of the key in the engine.
    pub name: String,
    pub namespace: Option<String>,
}

/// Bounds on calls and on what is taken for known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitOptions {
    /// For opening a connection.
    pub connect_timeout: Duration,
    /// For one question, answer included.
    pub attempt_timeout: Duration,
    /// How long the settings of a key that is fit are taken for what they are.
    pub settings_ttl: Duration,
}

impl Default for TransitOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(4),
            settings_ttl: Duration::from_secs(300),
        }
    }
}

/// Why no provider can be made of a [`TransitKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Transit key {name} at {address} cannot be called: {detail}")]
pub struct TransitError {
    pub name: String,
    pub address: String,
    pub detail: String,
}

/// What a key has to be fit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Old objects are read.
    Unwrap,
    /// New objects are written, which asks for more.
    Generate,
}

/// One key of a Transit engine, under one label.
pub struct TransitProvider {
    label: Label,
    client: Client,
    /// When the settings were read, and what they say. The lock is held while they are read, so that one call reads them for all.
    fitness: Mutex<Option<(Instant, Arc<Fitness>)>>,
    options: TransitOptions,
}

impl TransitProvider {
    /// Nothing is called yet, and the token is not read.
    ///
    /// # Errors
    /// An address, a path or a namespace that cannot stand in a request.
    pub fn new(
        label: Label,
        key: &TransitKey,
        token: Arc<dyn TokenSource>,
        tls: rustls::ClientConfig,
        options: TransitOptions,
    ) -> Result<Self, TransitError> {
        let client = Client::new(key, token, tls, &options).map_err(|detail| TransitError {
            name: key.name.clone(),
            address: key.address.clone(),
            detail,
        })?;
        Ok(Self { label, client, fitness: Mutex::new(None), options })
    }

    /// Whether the settings of the key are such that it can be used.
    ///
    /// # Errors
    /// [`Error::KeyUnsuitable`] with what to do, when they are not; and whatever keeps them from being read.
    pub async fn check(&self, for_what: Use) -> Result<(), Error> {
        let fitness = tokio::time::timeout(self.options.attempt_timeout, self.fitness());
        let fitness = fitness.await.map_err(|_| self.timed_out())??;
        let told = match for_what {
            Use::Unwrap => &fitness.unwraps,
            Use::Generate => &fitness.generates,
        };
        told.clone().map_err(|detail| Error::KeyUnsuitable { label: self.label.clone(), detail })
    }

    async fn fitness(&self) -> Result<Arc<Fitness>, Error> {
        let mut known = self.fitness.lock().await;
        if let Some((read, fitness)) = &*known
            && read.elapsed() < self.options.settings_ttl
        {
            return Ok(fitness.clone());
        }
        *known = None;
        let begun = Instant::now();
        let answer = self.client.settings().await.map_err(|failure| refusal::of_settings(&self.label, &self.client, failure))?;
        let fitness = settings::read(&answer, self.client.key()).map_err(|detail| self.bad_answer(detail))?;
        let fitness = Arc::new(fitness);
        // What is not fit may be mended at any moment.
        if fitness.unwraps.is_ok() {
            *known = Some((begun, fitness.clone()));
        }
        Ok(fitness)
    }

    fn check_label(&self, label: &Label) -> Result<(), Error> {
        if *label == self.label { Ok(()) } else { Err(Error::UnknownLabel { label: label.clone() }) }
    }

    /// The key in an answer. The answer's own text is in a wiping buffer and no part of it gets into an error.
    fn take_key(&self, text: &str) -> Result<KeyEncryptionKey, Error> {
        let wrong = || self.bad_answer("the data key is not the Base64 of 32 bytes".into());
        let mut bytes = Zeroizing::new([0; KEY_TEXT_LEN / 4 * 3]);
        if text.len() != KEY_TEXT_LEN {
            return Err(wrong());
        }
        let len = BASE64.decode_mut(text.as_bytes(), &mut *bytes).map_err(|_| wrong())?;
        KeyEncryptionKey::from_slice(&bytes[..len]).map_err(|_| wrong())
    }

    fn bad_answer(&self, detail: String) -> Error {
        Error::BadAnswer { label: self.label.clone(), detail }
    }

    fn timed_out(&self) -> Error {
        let detail = format!("no answer within {:?}", self.options.attempt_timeout);
        Error::TimedOut { label: self.label.clone(), detail }
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct DataKeyMade<'a> {
    plaintext: &'a str,
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Decrypted<'a> {
    plaintext: &'a str,
}

#[async_trait::async_trait]
impl KeyProvider for TransitProvider {
    async fn generate(&self, label: &Label, context: &KeyContext) -> Result<Generated, Error> {
        self.check_label(label)?;
        self.check(Use::Generate).await?;
        let question = serde_json::json!({ "bits": 256, "context": BASE64.encode(&context_hash(context)) });
        let made = self.client.data_key(&question).await;
        let answer = made.map_err(|failure| refusal::of_call(label, &self.client, None, failure))?;
        // What the parser would quote may be the key.
        let Ok(Answer { data: DataKeyMade { plaintext, ciphertext } }) = serde_json::from_slice(&answer) else {
            return Err(self.bad_answer("an answer without data key".into()));
        };
        let kek = self.take_key(plaintext)?;
        match version_of(ciphertext.as_bytes()) {
            Some(_) => Ok(Generated { kek, blob: ciphertext.as_bytes().to_vec() }),
            None => Err(self.bad_answer(format!("a wrapped key of {} bytes in an unknown form", ciphertext.len()))),
        }
    }

    async fn unwrap(&self, label: &Label, context: &KeyContext, blob: &[u8]) -> Result<KeyEncryptionKey, Error> {
        self.check_label(label)?;
        let (Some(version), Ok(text)) = (version_of(blob), std::str::from_utf8(blob)) else {
            return Err(Error::InvalidCiphertext { label: label.clone(), detail: "not a wrapped key of Transit".into() });
        };
        self.check(Use::Unwrap).await?;
        let question = serde_json::json!({ "ciphertext": text, "context": BASE64.encode(&context_hash(context)) });
        let opened = self.client.decrypt(&question).await;
        let answer = opened.map_err(|failure| refusal::of_call(label, &self.client, Some(version), failure))?;
        let Ok(Answer { data: Decrypted { plaintext } }) = serde_json::from_slice(&answer) else {
            return Err(self.bad_answer("an answer without key".into()));
        };
        self.take_key(plaintext)
    }
}

/// What a context is for Transit: every name and value goes in with its length, in the order of the names, so no two contexts hash the same
/// bytes.
fn context_hash(context: &KeyContext) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(CONTEXT_DOMAIN);
    for text in context.pairs().iter().flat_map(|(name, value)| [name, value]) {
        let len = u32::try_from(text.len()).expect("contexts are bounded far below 4 GiB");
        hash.update(len.to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// The key version of a wrapped key, if it is one to the letter: `vault:v`, a number without zeros in front, `:`, and the Base64 of nonce,
/// key and tag. Transit itself takes `v0` for `v1`, for one.
fn version_of(blob: &[u8]) -> Option<u32> {
    let rest = blob.strip_prefix(BLOB_HEAD.as_bytes())?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (version, rest) = rest.split_at(digits);
    if !(1..=VERSION_DIGITS_MAX).contains(&digits) || version[0] == b'0' {
        return None;
    }
    let wrapped = BASE64.decode(rest.strip_prefix(b":")?).ok()?;
    if wrapped.len() != WRAPPED_LEN {
        return None;
    }
    std::str::from_utf8(version).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
