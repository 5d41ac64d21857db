use crate::{crypto, format};

/// Any error of the other side of a stream.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a body could not be sealed or opened to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream we read from failed. While sealing that is the client, while opening the backend.
    #[error("the source of the body failed")]
    Source(#[source] BoxError),
    /// Sealing: the plaintext ended before the announced length.
    #[error("the body ended after {got} of {wanted} bytes")]
    ShortBody {
        /// The announced length.
        wanted: u64,
        /// What came.
        got: u64,
    },
    /// Sealing: the plaintext went on beyond the announced length.
    #[error("the body is longer than the announced {wanted} bytes")]
    LongBody {
        /// The announced length.
        wanted: u64,
    },
    /// Sealing: the [`PlainCheck`](super::PlainCheck) found the plaintext wrong. The cause is the check's.
    #[error("the body was rejected")]
    Rejected(#[source] BoxError),
    /// What the reader of a sealed body is told when sealing stopped; the reason is in the [`SealOutcome`](super::SealOutcome).
    #[error("the body was given up before its end")]
    Aborted,
    /// Opening: the backend's body ended before the bytes of the plan.
    #[error("the stored body ended after {got} of {wanted} bytes")]
    SealedShort {
        /// Bytes of the plan.
        wanted: u64,
        /// What came.
        got: u64,
    },
    /// Opening: the backend's body went on beyond the bytes of the plan.
    #[error("the stored body is longer than the expected {wanted} bytes")]
    SealedLong {
        /// Bytes of the plan.
        wanted: u64,
    },
    /// Opening: the thread that a chunk was given to is gone.
    #[error("a thread that opened chunks is gone")]
    Interrupted,
    /// Opening: the footer at the end of the body is not the one the plan was made of.
    #[error("the footer is not the one read before")]
    FooterDiffers,
    /// Opening: the plaintext does not have the checksum that was recorded when it was sealed.
    #[error("the plaintext does not have its recorded checksum")]
    Crc64Differs,
    /// The bytes break a rule of the format.
    #[error(transparent)]
    Format(#[from] format::Error),
    /// A chunk does not verify.
    #[error(transparent)]
    Crypto(#[from] crypto::Error),
}

impl Error {
    /// Whether the stored object itself is wrong, a permanent state that no retry mends, rather than a peer or a connection.
    pub fn is_integrity(&self) -> bool {
        match self {
            Error::FooterDiffers | Error::Crc64Differs | Error::Format(_) | Error::Crypto(_) => true,
            Error::Source(_)
            | Error::ShortBody { .. }
            | Error::LongBody { .. }
            | Error::Rejected(_)
            | Error::Aborted
            | Error::Interrupted
            | Error::SealedShort { .. }
            | Error::SealedLong { .. } => false,
        }
    }
}
