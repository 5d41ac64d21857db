//! What can go wrong between an object and its key. The variants are facts; `ops` alone decides how a client hears of them
//! (docs/KEYS.md has the table), and the text here is for logs only.

use super::Label;

/// Why a key could not be made or unwrapped. Cheap to clone, as one failed call answers every request that waited for it.
///
/// `detail` is what the key service said, with its request id where there is one. It never holds key bytes, but it may hold key
/// ARNs and account numbers: log it, never send it to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The envelope or a rule names a label for which the configuration has no key.
    #[error("no key is configured under the label \"{label}\"")]
    UnknownLabel { label: Label },
    /// Two buckets would share a scope although the configuration does not say so.
    #[error(
        "bucket \"{bucket}\" would use the scope \"{scope}\", which belongs to bucket \"{owner}\"; give it a scope of its own"
    )]
    ScopeTaken { bucket: String, scope: String, owner: String },
    /// The configuration says that nothing in this bucket is sealed.
    #[error("bucket \"{bucket}\" is configured to hold plaintext; nothing is sealed or opened in it")]
    PlaintextBucket { bucket: String },
    /// The key service asks for fewer calls.
    #[error("key \"{label}\": the key service is throttling: {detail}")]
    Throttled { label: Label, detail: String },
    /// The key service cannot be reached or failed inside.
    #[error("key \"{label}\": the key service is not available: {detail}")]
    Unavailable { label: Label, detail: String },
    /// No answer within the configured time.
    #[error("key \"{label}\": the key service did not answer in time: {detail}")]
    TimedOut { label: Label, detail: String },
    /// The gateway may not use this key: a policy, a grant or a condition on the encryption context says no.
    #[error("key \"{label}\": access denied: {detail}")]
    AccessDenied { label: Label, detail: String },
    /// The key service does not accept the gateway's own credentials.
    #[error("key \"{label}\": the gateway's credentials are refused: {detail}")]
    CredentialsRefused { label: Label, detail: String },
    /// The key is switched off.
    #[error("key \"{label}\" is disabled: {detail}")]
    KeyDisabled { label: Label, detail: String },
    /// The key is scheduled for deletion.
    #[error("key \"{label}\" is pending deletion: {detail}")]
    KeyPendingDeletion { label: Label, detail: String },
    /// Another key state that does not allow use, such as pending import.
    #[error("key \"{label}\" is in a state that does not allow use: {detail}")]
    KeyStateInvalid { label: Label, detail: String },
    /// The configured key does not exist.
    #[error("key \"{label}\" does not exist: {detail}")]
    KeyNotFound { label: Label, detail: String },
    /// The configured key is not a symmetric encryption key.
    #[error("key \"{label}\" cannot encrypt: {detail}")]
    KeyUnsuitable { label: Label, detail: String },
    /// The alias that the configuration names leads to another key than it has to.
    #[error("key \"{label}\": its alias is refused: {detail}")]
    AliasRefused { label: Label, detail: String },
    /// The wrapped key is damaged or, where the key service cannot tell these apart, was made for another context (KMS, Transit) or by
    /// another key (Transit).
    #[error("key \"{label}\": the wrapped key is damaged or belongs to another object: {detail}")]
    InvalidCiphertext { label: Label, detail: String },
    /// The wrapped key is whole but was made for another object or scope.
    #[error("key \"{label}\": the wrapped key was made for another context")]
    WrongContext { label: Label },
    /// The wrapped key was made by another key than the one configured under this label.
    #[error("key \"{label}\": the wrapped key was made by another key: {detail}")]
    IncorrectKey { label: Label, detail: String },
    /// The wrapped key was made by a version that this key does not have.
    #[error("key \"{label}\": there is no version {version} of it")]
    UnknownKeyVersion { label: Label, version: u32 },
    /// The key service answered with something that breaks its contract: another key's id, a key of the wrong length.
    #[error("key \"{label}\": the key service broke its contract: {detail}")]
    BadAnswer { label: Label, detail: String },
    /// The key service refused the call for a reason unknown to us.
    #[error("key \"{label}\": the key service refused: {detail}")]
    Refused { label: Label, detail: String },
    /// The unwrapped key does not open the envelope: it was moved, altered, or belongs to another object.
    #[error("the envelope is refused: {0}")]
    Envelope(crate::format::Error),
    /// The object was sealed with the client's own key, which the request does not bring.
    #[error("the object needs the client's own key")]
    CustomerKeyMissing,
    /// The request brings a key of the client's for an object that was sealed with another kind of key.
    #[error("the object was not sealed with a key of the client's")]
    CustomerKeySuperfluous,
    /// The request brings another key than the one that the object was sealed with.
    #[error("the client's key is not the one of the object")]
    CustomerKeyWrong,
    /// The operating system gave no random bytes.
    #[error("no randomness from the operating system: {detail}")]
    NoRandomness { detail: String },
}

/// Whose fault it is, for metrics and for the choice between 4xx and 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What was asked for, or the object it names, is not acceptable.
    Client,
    /// Our configuration, credentials or machine.
    Us,
    /// The key service, or the state its owner put the key into.
    KeyService,
}

impl Error {
    /// Whether the same request may succeed a little later without anybody changing anything. Permanent states are not
    /// retryable, so that SDKs do not hammer them.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unavailable { .. } | Self::TimedOut { .. } | Self::NoRandomness { .. } => true,
            Self::UnknownLabel { .. }
            | Self::ScopeTaken { .. }
            | Self::PlaintextBucket { .. }
            | Self::AccessDenied { .. }
            | Self::CredentialsRefused { .. }
            | Self::KeyDisabled { .. }
            | Self::KeyPendingDeletion { .. }
            | Self::KeyStateInvalid { .. }
            | Self::KeyNotFound { .. }
            | Self::KeyUnsuitable { .. }
            | Self::AliasRefused { .. }
            | Self::InvalidCiphertext { .. }
            | Self::WrongContext { .. }
            | Self::IncorrectKey { .. }
            | Self::UnknownKeyVersion { .. }
            | Self::BadAnswer { .. }
            | Self::Refused { .. }
            | Self::CustomerKeyMissing
            | Self::CustomerKeySuperfluous
            | Self::CustomerKeyWrong
            | Self::Envelope(_) => false,
        }
    }

    /// Whose fault it is.
    pub fn side(&self) -> Side {
        match self {
            Self::InvalidCiphertext { .. }
            | Self::WrongContext { .. }
            | Self::IncorrectKey { .. }
            | Self::CustomerKeyMissing
            | Self::CustomerKeySuperfluous
            | Self::CustomerKeyWrong
            | Self::Envelope(_) => Side::Client,
            Self::UnknownLabel { .. }
            | Self::ScopeTaken { .. }
            | Self::PlaintextBucket { .. }
            | Self::CredentialsRefused { .. }
            | Self::KeyNotFound { .. }
            | Self::KeyUnsuitable { .. }
            | Self::AliasRefused { .. }
            | Self::UnknownKeyVersion { .. }
            | Self::NoRandomness { .. } => Side::Us,
            Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::AccessDenied { .. }
            | Self::KeyDisabled { .. }
            | Self::KeyPendingDeletion { .. }
            | Self::KeyStateInvalid { .. }
            | Self::BadAnswer { .. }
            | Self::Refused { .. } => Side::KeyService,
        }
    }

    /// Whether the stored object is the reason: its envelope or wrapped key is damaged, moved, foreign or unknown to us. All of
    /// these look alike from outside and are audited.
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::UnknownLabel { .. }
                | Self::InvalidCiphertext { .. }
                | Self::WrongContext { .. }
                | Self::IncorrectKey { .. }
                | Self::UnknownKeyVersion { .. }
                | Self::Envelope(_)
        )
    }

    /// A short fixed word for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownLabel { .. } => "unknown_label",
            Self::ScopeTaken { .. } => "scope_taken",
            Self::PlaintextBucket { .. } => "plaintext_bucket",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::TimedOut { .. } => "timed_out",
            Self::AccessDenied { .. } => "access_denied",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::KeyDisabled { .. } => "key_disabled",
            Self::KeyPendingDeletion { .. } => "key_pending_deletion",
            Self::KeyStateInvalid { .. } => "key_state_invalid",
            Self::KeyNotFound { .. } => "key_not_found",
            Self::KeyUnsuitable { .. } => "key_unsuitable",
            Self::AliasRefused { .. } => "alias_refused",
            Self::InvalidCiphertext { .. } => "invalid_ciphertext",
            Self::WrongContext { .. } => "wrong_context",
            Self::IncorrectKey { .. } => "incorrect_key",
            Self::UnknownKeyVersion { .. } => "unknown_key_version",
            Self::BadAnswer { .. } => "bad_answer",
            Self::Refused { .. } => "refused",
            Self::Envelope(_) => "envelope",
            Self::CustomerKeyMissing => "customer_key_missing",
            Self::CustomerKeySuperfluous => "customer_key_superfluous",
            Self::CustomerKeyWrong => "customer_key_wrong",
            Self::NoRandomness { .. } => "no_randomness",
        }
    }
}

/// The texts of an error and of its sources, on one line; never `Debug`, which may hold what a log must not.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
