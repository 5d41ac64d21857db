//! What can go wrong in the store, and what S3 calls it.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::header::{ALLOW, HeaderValue, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use s3s::{S3Error, S3ErrorCode};

use super::read::http_date;

/// Everything that can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder cannot be read or written.
    #[error("the data folder {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another store has the data folder open.
    #[error("the data folder {0} is in use by another process")]
    InUse(PathBuf),
    /// The data folder was written by another version of this program.
    #[error("the data folder has index version {0}, this program knows {1}")]
    OtherSchema(i64, i64),
    /// The index failed.
    #[error("the index of the store failed")]
    Index(#[from] rusqlite::Error),
    /// A row of the index does not hold what it should.
    #[error("the index of the store holds a malformed row")]
    MalformedRow,
    /// A body file failed.
    #[error("a body file of the store failed")]
    Body(#[from] io::Error),
    /// The file of a body is gone or has another length than the index says: somebody else touched the folder, or the power
    /// failed without `fsync`.
    #[error("the body file {0} is missing or damaged")]
    BodyDamaged(String),
    /// The store listens on loopback addresses only.
    #[error("the store listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The listener could not be opened.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The threads of the server could not be started.
    #[error("the server of the store cannot start")]
    Start(#[source] io::Error),
    /// A store without credentials would serve nobody.
    #[error("the store needs at least one pair of credentials")]
    NoCredentials,
    /// The server stops while the request runs.
    #[error("the store is stopping")]
    Stopping,
    /// There is no such bucket.
    #[error("no such bucket")]
    NoSuchBucket,
    /// There is no such object.
    #[error("no such object")]
    NoSuchKey,
    /// There is no version with this id.
    #[error("no such version")]
    NoSuchVersion,
    /// No version ever had an id like this.
    #[error("an invalid version id")]
    InvalidVersionId,
    /// What was asked for is a delete marker.
    #[error("a delete marker")]
    DeleteMarker {
        /// Its version id.
        version: Option<String>,
        /// When it was made, in milliseconds since 1970.
        modified_ms: i64,
        /// It was asked for by its version id, not as the latest version of its key.
        asked_for: bool,
    },
    /// There is no such multipart upload.
    #[error("no such multipart upload")]
    NoSuchUpload,
    /// Object Lock and suspended versions do not go together.
    #[error("object lock needs versions")]
    LockNeedsVersions,
    /// The bucket is there already.
    #[error("the bucket exists")]
    BucketExists,
    /// The bucket still holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// A condition of the request does not hold.
    #[error("a condition of the request does not hold")]
    PreconditionFailed,
    /// Another S3 error, found where the index was at hand.
    #[error("the request is refused")]
    Refused(Box<S3Error>),
}

impl From<S3Error> for Error {
    fn from(error: S3Error) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<S3ErrorCode> for Error {
    fn from(code: S3ErrorCode) -> Self {
        S3Error::new(code).into()
    }
}

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::Refused(refused) => return *refused,
            other => other,
        };
        let code = match &error {
            Error::DeleteMarker { version, modified_ms, asked_for } => {
                return delete_marker(version.as_deref(), *modified_ms, *asked_for);
            }
            Error::InvalidVersionId => {
                return S3Error::with_message(S3ErrorCode::InvalidArgument, "Invalid version id specified");
            }
            Error::LockNeedsVersions => {
                let message = "An Object Lock configuration is present on this bucket, or versioning is not enabled on it.";
                return S3Error::with_message(S3ErrorCode::InvalidBucketState, message);
            }
            Error::NoSuchVersion => S3ErrorCode::NoSuchVersion,
            Error::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Error::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Error::NoSuchKey => S3ErrorCode::NoSuchKey,
            Error::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            Error::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            Error::PreconditionFailed => S3ErrorCode::PreconditionFailed,
            Error::Stopping => S3ErrorCode::ServiceUnavailable,
            Error::Refused(refused) => refused.code().clone(),
            Error::Folder { .. }
            | Error::InUse(_)
            | Error::OtherSchema(..)
            | Error::Index(_)
            | Error::MalformedRow
            | Error::Body(_)
            | Error::BodyDamaged(_)
            | Error::NotLoopback(_)
            | Error::Listen { .. }
            | Error::Start(_)
            | Error::NoCredentials => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
                S3ErrorCode::InternalError
            }
        };
        // The cause stays in the log: the client gets the code and its public sentence.
        S3Error::new(code)
    }
}

/// A delete marker reads like a missing object, and says what it is.
fn delete_marker(version: Option<&str>, modified_ms: i64, asked_for: bool) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Some(version) = version.and_then(|version| HeaderValue::from_str(version).ok()) {
        headers.insert("x-amz-version-id", version);
    }
    let code = if asked_for {
        headers.insert(ALLOW, HeaderValue::from_static("DELETE"));
        headers.extend(http_date(modified_ms).map(|date| (LAST_MODIFIED, date)));
        S3ErrorCode::MethodNotAllowed
    } else {
        S3ErrorCode::NoSuchKey
    };
    let mut error = S3Error::new(code);
    error.set_headers(headers);
    error
}

/// An S3 error that the protocol library has no name for.
pub(super) fn custom(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(status);
    error
}
