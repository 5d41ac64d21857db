//! How the store can fail us.

use http::HeaderMap;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Failure of a request to the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store answered, with an error.
    #[error("the store answered {} {}", .0.status, .0.code)]
    Refused(Box<Refusal>),
    /// No connection, or it broke before an answer came. Worth a retry by the client.
    #[error("the store cannot be reached")]
    Unreachable(#[source] BoxError),
    /// The store took longer than the configured time. Worth a retry by the client.
    #[error("the store did not answer in time")]
    TimedOut(#[source] BoxError),
    /// The request could not be built or signed, for example because there are no credentials.
    #[error("the request to the store could not be made")]
    NotSent(#[source] BoxError),
    /// The store's answer is not what S3 says.
    #[error("the store's answer cannot be understood")]
    Garbled(#[source] BoxError),
}

/// An S3 error as the store gave it.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    /// S3 error code, `Unknown` when the answer had none (answers to HEAD).
    pub code: String,
    pub message: String,
    pub headers: HeaderMap,
}

impl Refusal {
    /// True when the store does not accept the gateway's own credentials, clock or region, or sends it elsewhere: nothing the
    /// client can mend.
    pub fn is_about_us(&self) -> bool {
        let elsewhere = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        elsewhere
            || matches!(
                self.code.as_str(),
                "SignatureDoesNotMatch"
                    | "InvalidAccessKeyId"
                    | "InvalidToken"
                    | "ExpiredToken"
                    | "AuthorizationHeaderMalformed"
                    | "RequestTimeTooSkewed"
                    | "NotSignedUp"
                    | "PermanentRedirect"
            )
    }
}
