//! What can go wrong in the store, and what S3 calls it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use s3s::{S3Error, S3ErrorCode};

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
    /// The data folder was written by a newer version of this program.
    #[error("the data folder has index version {0}, this program knows {1}")]
    NewerSchema(i64, i64),
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
    /// The bucket is there already.
    #[error("the bucket exists")]
    BucketExists,
    /// The bucket still holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// A condition of the request does not hold.
    #[error("a condition of the request does not hold")]
    PreconditionFailed,
}

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Error::NoSuchKey => S3ErrorCode::NoSuchKey,
            Error::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            Error::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            Error::PreconditionFailed => S3ErrorCode::PreconditionFailed,
            Error::Stopping => S3ErrorCode::ServiceUnavailable,
            Error::Folder { .. }
            | Error::InUse(_)
            | Error::NewerSchema(..)
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
