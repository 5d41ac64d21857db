//! AWS KMS as a key provider. The only place that knows the KMS SDK.
//!
//! Every call names the key ARN that the configuration maps from the label, and the exact encryption context (FORMAT section 4).
//! Nothing read from a bucket ever chooses a key, and the key id in each answer is compared with the configured one. An alias is looked
//! up once, when the process starts ([`resolve`]); from then on its key is named by ARN like any other.
//!
//! The SDK's errors are turned into text by hand: their `Debug` prints raw answers, and a raw answer may hold a plaintext key.

mod alias;
mod arn;
mod role;

pub use alias::{Unresolved, Wanted, resolve};
pub use arn::{ArnError, KeyAlias, KeyArn};
pub use role::{Role, assume};

use super::error::chain;
use super::{BLOB_LEN_MAX, Error, Generated, KeyContext, KeyEncryptionKey, KeyProvider, Label};
use aws_config::{Region, SdkConfig};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::{RequestId, decrypt::DecryptError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, EncryptionAlgorithmSpec};
use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;
use zeroize::Zeroizing;

/// How to call KMS. Credentials, HTTP client and everything else come with the [`SdkConfig`].
#[derive(Debug, Clone)]
pub struct KmsOptions {
    /// Another endpoint than AWS's own, such as a VPC endpoint or a test server.
    pub endpoint: Option<String>,
    /// Another region to sign for than the one in each key's ARN.
    pub region: Option<String>,
    /// For opening a connection.
    pub connect_timeout: Duration,
    /// For one attempt, answer included.
    pub attempt_timeout: Duration,
    /// For the whole call, all attempts and the pauses between them included.
    pub operation_timeout: Duration,
    /// Attempts in all, at least 1. Only failures that KMS or the SDK call transient are tried again.
    pub attempts_max: u32,
}

impl Default for KmsOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            connect_timeout: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(4),
            operation_timeout: Duration::from_secs(10),
            attempts_max: 3,
        }
    }
}

/// Keys in AWS KMS, one per label, possibly in several regions.
pub struct KmsProvider {
    keys: HashMap<Label, KeyArn>,
    clients: HashMap<String, Client>,
    region: Option<String>,
}

impl KmsProvider {
    /// Makes one client per region. Nothing is called yet: [`KeyProvider::prove`] does that.
    pub fn new(sdk: &SdkConfig, options: &KmsOptions, keys: impl IntoIterator<Item = (Label, KeyArn)>) -> Self {
        let keys: HashMap<Label, KeyArn> = keys.into_iter().collect();
        let mut clients = HashMap::new();
        for arn in keys.values() {
            let region = options.region.as_deref().unwrap_or(arn.region());
            clients.entry(region.to_owned()).or_insert_with(|| client(sdk, options, region));
        }
        Self { keys, clients, region: options.region.clone() }
    }

    fn key(&self, label: &Label) -> Result<(&KeyArn, &Client), Error> {
        let arn = self.keys.get(label).ok_or_else(|| Error::UnknownLabel { label: label.clone() })?;
        let region = self.region.as_deref().unwrap_or(arn.region());
        Ok((arn, self.clients.get(region).expect("new() made a client for the region of every key")))
    }
}

fn client(sdk: &SdkConfig, options: &KmsOptions, region: &str) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.operation_timeout)
        .build();
    // The pauses are jittered by the SDK; its default of a second is long for a call that normally takes milliseconds.
    let retries = RetryConfig::standard()
        .with_max_attempts(options.attempts_max.max(1))
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_secs(2));
    let mut config = aws_sdk_kms::config::Builder::from(sdk)
        .region(Region::new(region.to_owned()))
        .timeout_config(timeouts)
        .retry_config(retries);
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

#[async_trait::async_trait]
impl KeyProvider for KmsProvider {
    async fn generate(&self, label: &Label, context: &KeyContext) -> Result<Generated, Error> {
        let (arn, client) = self.key(label)?;
        let answer = client
            .generate_data_key()
            .key_id(arn.as_str())
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(context_map(context)))
            .send()
            .await
            .map_err(|e| call_failed(label, e))?;
        // The plaintext moves into a wiping buffer before anything can return early.
        let plaintext = take_plaintext(answer.plaintext);
        check_key_id(label, arn, answer.key_id.as_deref())?;
        let kek = data_key(label, &plaintext)?;
        let blob = answer.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        if blob.is_empty() || blob.len() > BLOB_LEN_MAX {
            return Err(bad_answer(label, format!("a wrapped key of {} bytes, wanted 1 to {BLOB_LEN_MAX}", blob.len())));
        }
        Ok(Generated { kek, blob })
    }

    async fn unwrap(&self, label: &Label, context: &KeyContext, blob: &[u8]) -> Result<KeyEncryptionKey, Error> {
        let (arn, client) = self.key(label)?;
        super::check_blob_len(label, blob)?;
        let answer = client
            .decrypt()
            .key_id(arn.as_str())
            .encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault)
            .set_encryption_context(Some(context_map(context)))
            .ciphertext_blob(Blob::new(blob))
            .send()
            .await
            .map_err(|e| call_failed::<DecryptError>(label, e))?;
        let plaintext = take_plaintext(answer.plaintext);
        check_key_id(label, arn, answer.key_id.as_deref())?;
        data_key(label, &plaintext)
    }

    fn arn(&self, label: &Label) -> Option<String> {
        self.keys.get(label).map(ToString::to_string)
    }
}

fn context_map(context: &KeyContext) -> HashMap<String, String> {
    context.pairs().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Takes the key out of the SDK's answer without a copy where the SDK owns it alone, and wipes it on drop. The text of the HTTP
/// answer, in which the key was Base64, is the SDK's and cannot be wiped from here.
fn take_plaintext(blob: Option<Blob>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(blob.map(Blob::into_inner).unwrap_or_default())
}

fn data_key(label: &Label, plaintext: &[u8]) -> Result<KeyEncryptionKey, Error> {
    KeyEncryptionKey::from_slice(plaintext)
        .map_err(|_| bad_answer(label, format!("a data key of {} bytes, wanted 32", plaintext.len())))
}

fn check_key_id(label: &Label, arn: &KeyArn, answered: Option<&str>) -> Result<(), Error> {
    match answered {
        Some(id) if id == arn.as_str() => Ok(()),
        Some(id) => Err(bad_answer(label, format!("it used the key {id}, the configuration says {arn}"))),
        None => Err(bad_answer(label, "it did not say which key it used".into())),
    }
}

fn bad_answer(label: &Label, detail: String) -> Error {
    Error::BadAnswer { label: label.clone(), detail }
}

/// One table for both operations. It goes by code and not by type, because the codes that matter most (throttling, access) are in
/// no operation's model.
fn call_failed<E>(label: &Label, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let label = label.clone();
    let service = match &error {
        SdkError::TimeoutError(_) => return Error::TimedOut { label, detail: chain(&error) },
        SdkError::DispatchFailure(failure) if failure.is_timeout() => return Error::TimedOut { label, detail: chain(&error) },
        // No connection, or no credentials to sign with: neither says anything about the key. A role that is refused is an answer.
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            return role::failure(&label, &error).unwrap_or_else(|| Error::Unavailable { label, detail: chain(&error) });
        }
        // The answer may hold a plaintext key, and parsers like to quote: nothing of it goes into the text.
        SdkError::ResponseError(failure) => return unreadable(label, failure.raw().status().as_u16()),
        SdkError::ServiceError(service) if service.raw().status().is_success() => {
            return unreadable(label, service.raw().status().as_u16());
        }
        SdkError::ServiceError(service) => service,
        _ => return Error::Unavailable { label, detail: "unknown failure".into() },
    };
    let status = service.raw().status().as_u16();
    let (code, message) = (service.err().code().unwrap_or("no code"), service.err().message().unwrap_or("no message"));
    let request_id = service.raw().request_id().unwrap_or("none");
    let detail = format!("{code}: {message} (HTTP {status}, request {request_id})");
    match code {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "SlowDown" => Error::Throttled { label, detail },
        "AccessDeniedException" | "AccessDenied" | "InvalidGrantTokenException" | "NotAuthorized" | "OptInRequired" => {
            Error::AccessDenied { label, detail }
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired" => Error::CredentialsRefused { label, detail },
        "DisabledException" => Error::KeyDisabled { label, detail },
        // The state is only in the message ("... is pending deletion.").
        "KMSInvalidStateException" if message.to_ascii_lowercase().contains("pending deletion") => {
            Error::KeyPendingDeletion { label, detail }
        }
        "KMSInvalidStateException" => Error::KeyStateInvalid { label, detail },
        "NotFoundException" => Error::KeyNotFound { label, detail },
        "InvalidKeyUsageException" => Error::KeyUnsuitable { label, detail },
        "InvalidCiphertextException" => Error::InvalidCiphertext { label, detail },
        "IncorrectKeyException" => Error::IncorrectKey { label, detail },
        "KeyUnavailableException"
        | "DependencyTimeoutException"
        | "KMSInternalException"
        | "InternalFailure"
        | "ServiceUnavailable" => Error::Unavailable { label, detail },
        _ if status == 429 => Error::Throttled { label, detail },
        _ if status >= 500 => Error::Unavailable { label, detail },
        _ => Error::Refused { label, detail },
    }
}

fn unreadable(label: Label, status: u16) -> Error {
    Error::Unavailable { label, detail: format!("HTTP {status} with an answer that cannot be read") }
}

#[cfg(test)]
mod tests;
