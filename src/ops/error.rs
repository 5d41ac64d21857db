//! Everything that can go wrong in an operation, and the one table that says it in S3's words.
//!
//! The cause is logged here, once, and stays here: clients get a code, a status and a public sentence. All key and tag failures
//! look alike from outside.

use s3s::{S3Error, S3ErrorCode};

use super::check::Mismatch;
use super::multipart::Refused;
use super::received::{incomplete_body, refusal_of};
use crate::backend::{self, Refusal};
use crate::{format, keys, stream};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Failure of an operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    InvalidArgument(&'static str),
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("The Content-MD5 you specified is not valid.")]
    InvalidDigest,
    #[error("You must provide the Content-Length HTTP header.")]
    MissingContentLength,
    #[error("Your proposed upload exceeds the maximum allowed object size.")]
    EntityTooLarge,
    #[error(
        "Your metadata headers exceed the maximum allowed metadata size: {bytes} bytes with the gateway's own entry, of {max}."
    )]
    MetadataTooLarge { bytes: usize, max: usize },
    #[error("The requested range is not satisfiable")]
    InvalidRange { plain_len: u64 },
    #[error("The requested partnumber is not satisfiable")]
    InvalidPartNumber,
    #[error("{0}")]
    NotImplemented(&'static str),
    /// An error of S3's that needs no more than its name.
    #[error("{text}")]
    Coded { code: &'static str, status: u16, text: &'static str },
    /// A multipart upload cannot be served as asked.
    #[error(transparent)]
    Upload(#[from] Refused),
    /// The name belongs to the gateway itself.
    #[error("This name is reserved for the gateway's own use.")]
    Reserved,
    /// The object in the store is not what this gateway wrote under this name.
    #[error("the object failed its integrity check")]
    Integrity(#[source] BoxError),
    #[error("the body was not accepted")]
    Body(#[source] stream::Error),
    #[error("keys")]
    Keys(#[from] keys::Error),
    #[error("store")]
    Backend(#[from] backend::Error),
    /// Where an operator's command writes something else than objects.
    #[error("the output cannot be written")]
    Output(#[source] BoxError),
    #[error("{0}")]
    Internal(&'static str),
}

impl From<format::Error> for Error {
    fn from(error: format::Error) -> Self {
        Self::Integrity(error.into())
    }
}

impl Error {
    /// What the client is told.
    pub fn into_s3(self) -> S3Error {
        match self {
            Self::InvalidArgument(text) => S3Error::with_message(S3ErrorCode::InvalidArgument, text),
            Self::InvalidRequest(text) => S3Error::with_message(S3ErrorCode::InvalidRequest, text),
            Self::InvalidDigest => S3Error::with_message(S3ErrorCode::InvalidDigest, self.to_string()),
            Self::MissingContentLength => S3Error::with_message(S3ErrorCode::MissingContentLength, self.to_string()),
            Self::EntityTooLarge => S3Error::with_message(S3ErrorCode::EntityTooLarge, self.to_string()),
            Self::MetadataTooLarge { .. } => S3Error::with_message(S3ErrorCode::MetadataTooLarge, self.to_string()),
            Self::InvalidRange { plain_len } => invalid_range(plain_len),
            Self::InvalidPartNumber => custom("InvalidPartNumber", 416, self.to_string()),
            Self::NotImplemented(text) => S3Error::with_message(S3ErrorCode::NotImplemented, text),
            Self::Coded { code, status, text } => {
                let known = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::Custom(code.into()));
                let mut error = S3Error::with_message(known, text);
                error.set_status_code(http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR));
                error
            }
            Self::Upload(refused) => refused.to_s3(),
            Self::Reserved => S3Error::with_message(S3ErrorCode::AccessDenied, self.to_string()),
            Self::Integrity(cause) => {
                tracing::error!(cause = %chain(&*cause), "an object failed its integrity check");
                metrics::counter!(crate::observe::metrics::INTEGRITY_FAILURES).increment(1);
                integrity()
            }
            Self::Body(cause) => body(cause),
            Self::Keys(cause) => key_failure(&cause),
            Self::Backend(cause) => store_failure(cause),
            // No client's request writes anything but objects.
            Self::Output(cause) => {
                tracing::error!(cause = %chain(&*cause), "an output cannot be written");
                S3Error::with_message(S3ErrorCode::InternalError, "We encountered an internal error. Please try again.")
            }
            Self::Internal(text) => {
                tracing::error!(text, "internal error");
                S3Error::with_message(S3ErrorCode::InternalError, "We encountered an internal error. Please try again.")
            }
        }
    }
}

/// 403 with a code of our own, so that no SDK retries a permanent state (FORMAT section 9).
fn integrity() -> S3Error {
    custom("IntegrityCheckFailed", 403, "The stored object failed its integrity check and is not released.")
}

fn invalid_range(plain_len: u64) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::InvalidRange, "The requested range is not satisfiable");
    if let Ok(value) = http::HeaderValue::from_str(&format!("bytes */{plain_len}")) {
        error.set_headers([(http::header::CONTENT_RANGE, value)].into_iter().collect());
    }
    error
}

pub(super) fn custom(code: &'static str, status: u16, text: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), text);
    error.set_status_code(http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR));
    error
}

/// A body that was refused on its way to the store, so nothing came into being there.
fn body(cause: stream::Error) -> S3Error {
    match cause {
        stream::Error::Rejected(verdict) => match verdict.downcast_ref::<Mismatch>() {
            Some(mismatch @ (Mismatch::ContentMd5 | Mismatch::Checksum(_))) => {
                S3Error::with_message(S3ErrorCode::BadDigest, mismatch.to_string())
            }
            Some(mismatch @ Mismatch::Trailer) => custom("MalformedTrailerError", 400, mismatch.to_string()),
            Some(mismatch @ Mismatch::FinalChunkMissing) => {
                S3Error::with_message(S3ErrorCode::IncompleteBody, mismatch.to_string())
            }
            None => {
                tracing::error!(cause = %chain(&*verdict), "a body was refused for a reason without a name");
                S3Error::with_message(S3ErrorCode::InvalidRequest, "The body was refused.")
            }
        },
        stream::Error::ShortBody { .. } | stream::Error::LongBody { .. } => incomplete_body(),
        stream::Error::Source(cause) => refusal_of(&*cause).unwrap_or_else(|| {
            // The client went away or sent less than it said.
            tracing::debug!(cause = %chain(&*cause), "the body of a request broke off");
            incomplete_body()
        }),
        other => Error::Integrity(Box::new(other)).into_s3(),
    }
}

/// Keys: permanent states are 4xx in the words S3 has for SSE-KMS, so that SDKs do not hammer; what passes is 503.
fn key_failure(cause: &keys::Error) -> S3Error {
    if cause.is_integrity() {
        tracing::error!(kind = cause.kind(), cause = %chain(cause), "an object failed its integrity check");
        metrics::counter!(crate::observe::metrics::INTEGRITY_FAILURES).increment(1);
        return integrity();
    }
    match cause {
        // The client's own keys are the client's own business: nothing is wrong here.
        keys::Error::CustomerKeyMissing => {
            return S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.",
            );
        }
        keys::Error::CustomerKeySuperfluous => {
            return S3Error::with_message(
                S3ErrorCode::InvalidRequest,
                "The encryption parameters are not applicable to this object.",
            );
        }
        keys::Error::CustomerKeyWrong => {
            return S3Error::with_message(
                S3ErrorCode::AccessDenied,
                "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret key.",
            );
        }
        _ => {}
    }
    tracing::error!(kind = cause.kind(), cause = %chain(cause), "no key for an object");
    match cause {
        keys::Error::Throttled { .. } => S3Error::with_message(S3ErrorCode::SlowDown, "The key service asks for fewer requests. Please slow down."),
        keys::Error::Unavailable { .. } | keys::Error::TimedOut { .. } => {
            S3Error::with_message(S3ErrorCode::ServiceUnavailable, "The key service does not answer. Please try again.")
        }
        keys::Error::AccessDenied { .. } => {
            S3Error::with_message(S3ErrorCode::AccessDenied, "The gateway may not use the key of this object.")
        }
        keys::Error::ScopeTaken { .. } => {
            S3Error::with_message(S3ErrorCode::AccessDenied, "The configuration gives this bucket no scope of its own.")
        }
        keys::Error::PlaintextBucket { .. } => {
            S3Error::with_message(S3ErrorCode::InvalidRequest, "This bucket is configured to hold plaintext; this operation would seal or open.")
        }
        keys::Error::KeyDisabled { .. } => custom("KMS.DisabledException", 400, "The key of this object is disabled."),
        keys::Error::KeyPendingDeletion { .. } => {
            custom("KMS.KMSInvalidStateException", 400, "The key of this object is pending deletion.")
        }
        keys::Error::KeyStateInvalid { .. } => {
            custom("KMS.KMSInvalidStateException", 400, "The key of this object is in a state that does not allow its use.")
        }
        keys::Error::KeyNotFound { .. } => custom("KMS.NotFoundException", 400, "The key of this object does not exist."),
        keys::Error::KeyUnsuitable { .. } => custom("KMS.InvalidKeyUsageException", 400, "The configured key cannot encrypt."),
        keys::Error::NoRandomness { .. } => {
            S3Error::with_message(S3ErrorCode::ServiceUnavailable, "The gateway has no randomness. Please try again.")
        }
        // Permanent, and the operator's to mend: 403 keeps SDKs from asking again.
        keys::Error::CredentialsRefused { .. }
        | keys::Error::AliasRefused { .. }
        | keys::Error::BadAnswer { .. }
        | keys::Error::Refused { .. }
        // The integrity failures and the client's own keys, answered above.
        | keys::Error::CustomerKeyMissing
        | keys::Error::CustomerKeySuperfluous
        | keys::Error::CustomerKeyWrong
        | keys::Error::UnknownLabel { .. }
        | keys::Error::InvalidCiphertext { .. }
        | keys::Error::WrongContext { .. }
        | keys::Error::IncorrectKey { .. }
        | keys::Error::UnknownKeyVersion { .. }
        | keys::Error::Envelope(_) => {
            S3Error::with_message(S3ErrorCode::AccessDenied, "The key service refused in a way that retrying does not mend.")
        }
    }
}

fn store_failure(cause: backend::Error) -> S3Error {
    match cause {
        backend::Error::Refused(refusal) => refused(*refusal),
        backend::Error::Unreachable(_) | backend::Error::TimedOut(_) => {
            tracing::error!(cause = %chain(&cause), "the store failed");
            S3Error::with_message(
                S3ErrorCode::ServiceUnavailable,
                "The object store behind this gateway does not answer. Please try again.",
            )
        }
        backend::Error::NotSent(_) | backend::Error::Garbled(_) => {
            tracing::error!(cause = %chain(&cause), "the store failed");
            S3Error::with_message(S3ErrorCode::InternalError, "We encountered an internal error. Please try again.")
        }
    }
}

/// The store's own answer, in its own words; unless it speaks of our credentials, which is nobody else's business.
fn refused(refusal: Refusal) -> S3Error {
    if refusal.is_about_us() {
        tracing::error!(code = %refusal.code, message = %refusal.message, "the store does not accept this gateway's credentials, clock or region");
        return S3Error::with_message(
            S3ErrorCode::InternalError,
            "The object store behind this gateway refused it. Please tell the operator.",
        );
    }
    let code = match (refusal.code.as_str(), refusal.status) {
        ("Unknown", 304) => S3ErrorCode::NotModified,
        ("Unknown", 400) => S3ErrorCode::InvalidRequest,
        ("Unknown", 403) => S3ErrorCode::AccessDenied,
        ("Unknown" | "NotFound", 404) => S3ErrorCode::NoSuchKey,
        ("Unknown", 405) => S3ErrorCode::MethodNotAllowed,
        ("Unknown", 412) => S3ErrorCode::PreconditionFailed,
        ("Unknown", 416) => S3ErrorCode::InvalidRange,
        ("Unknown", 501) => S3ErrorCode::NotImplemented,
        ("Unknown", 503) => S3ErrorCode::SlowDown,
        ("Unknown", _) => S3ErrorCode::InternalError,
        (code, _) => S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError),
    };
    let mut error = S3Error::new(code);
    if let Ok(status) = http::StatusCode::from_u16(refusal.status) {
        error.set_status_code(status);
    }
    if !refusal.message.is_empty() {
        error.set_message(refusal.message);
    }
    let kept: http::HeaderMap = super::headers::for_client(refusal.headers)
        .into_iter()
        .filter_map(|(name, value)| Some((name?, value)))
        .filter(|(name, _)| KEPT_ON_ERRORS.contains(&name.as_str()))
        .collect();
    if !kept.is_empty() {
        error.set_headers(kept);
    }
    error
}

const KEPT_ON_ERRORS: [&str; 8] = [
    "allow",
    "etag",
    "last-modified",
    "retry-after",
    "x-amz-bucket-region",
    "x-amz-delete-marker",
    "x-amz-version-id",
    "cache-control",
];

/// An error with its causes, for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
