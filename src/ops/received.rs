//! What broke while the body of a request was being received, and what the client is told of it. The one place that knows: the
//! front that carries bodies and the operations that read them both ask here.

use std::error::Error as StdError;

use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{BodySizeLimitExceeded, S3Error, S3ErrorCode};

use super::error::custom;

/// Why a request body did not arrive as it was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The client closed the connection, or stopped, before the announced length was there.
    #[error("the client ended before the announced body was complete")]
    Short,
    /// The transfer coding of the body is broken.
    #[error("the framing of the request body is broken")]
    Framing,
    /// No byte arrived for longer than the idle limit.
    #[error("no byte of the request body arrived within the idle limit")]
    Idle,
    /// An aws-chunked body ended after its last data, but without the empty chunk that has to end it.
    #[error("the aws-chunked body ended without its final chunk")]
    FinalChunkMissing,
    /// A form went on after its file, so that the file is not as long as the rest of the form said.
    #[error("the form goes on after its file")]
    FormGoesOn,
}

impl BodyFault {
    /// The error a client gets for it.
    #[must_use]
    pub fn to_s3_error(self) -> S3Error {
        match self {
            Self::Short | Self::Framing | Self::FinalChunkMissing => incomplete_body(),
            Self::FormGoesOn => S3Error::with_message(
                S3ErrorCode::MalformedPOSTRequest,
                "The file has to be the last field of the form, and nothing may follow the closing boundary.",
            ),
            Self::Idle => S3Error::with_message(
                S3ErrorCode::RequestTimeout,
                "Your socket connection to the server was not read from or written to within the timeout period.",
            ),
        }
    }
}

/// Finds out what the client has to be told about an error that reading its body gave, looking through the protocol library's
/// wrappers. `None`: the error is not the client's doing.
#[must_use]
pub fn refusal_of(err: &(dyn StdError + 'static)) -> Option<S3Error> {
    if let Some(fault) = err.downcast_ref::<BodyFault>() {
        return Some(fault.to_s3_error());
    }
    if let Some(upload) = err.downcast_ref::<UploadStreamError>() {
        return match upload {
            UploadStreamError::Underlying(inner) => refusal_of(&**inner),
            // The library has no code for it.
            UploadStreamError::Sha256Mismatch => Some(custom(
                "XAmzContentSHA256Mismatch",
                400,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )),
            UploadStreamError::LengthMismatch | UploadStreamError::Incomplete => Some(incomplete_body()),
        };
    }
    if let Some(chunked) = err.downcast_ref::<AwsChunkedStreamError>() {
        return match chunked {
            AwsChunkedStreamError::Underlying(inner) => refusal_of(&**inner),
            AwsChunkedStreamError::SignatureMismatch => Some(S3Error::with_message(
                S3ErrorCode::SignatureDoesNotMatch,
                "The request signature we calculated does not match the signature you provided.",
            )),
            AwsChunkedStreamError::ChunkDataTooLarge(..) => {
                Some(custom("InvalidChunkSizeError", 403, "A chunk of the body is too large."))
            }
            AwsChunkedStreamError::TrailersTooLarge(..) | AwsChunkedStreamError::TooManyTrailerHeaders(..) => {
                Some(custom("MalformedTrailerError", 400, "The trailer of the body is too large."))
            }
            AwsChunkedStreamError::FormatError
            | AwsChunkedStreamError::Incomplete
            | AwsChunkedStreamError::LengthMismatch
            | AwsChunkedStreamError::ChunkMetaTooLarge(..) => Some(incomplete_body()),
        };
    }
    if err.is::<BodySizeLimitExceeded>() {
        return Some(super::Error::EntityTooLarge.into_s3());
    }
    err.source().and_then(refusal_of)
}

pub(super) fn incomplete_body() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_through_the_wrappers() {
        type Chunked = AwsChunkedStreamError;
        type Upload = UploadStreamError;
        let cases: Vec<(s3s::StdError, &str, u16)> = vec![
            (Box::new(BodyFault::Short), "IncompleteBody", 400),
            (Box::new(BodyFault::FormGoesOn), "MalformedPOSTRequest", 400),
            (Box::new(Upload::Underlying(Box::new(BodyFault::Short))), "IncompleteBody", 400),
            (Box::new(Upload::Underlying(Box::new(BodyFault::Idle))), "RequestTimeout", 400),
            (Box::new(Upload::Sha256Mismatch), "XAmzContentSHA256Mismatch", 400),
            (Box::new(Upload::LengthMismatch), "IncompleteBody", 400),
            (Box::new(Upload::Incomplete), "IncompleteBody", 400),
            (Box::new(Chunked::SignatureMismatch), "SignatureDoesNotMatch", 403),
            (Box::new(Chunked::FormatError), "IncompleteBody", 400),
            (Box::new(Chunked::Incomplete), "IncompleteBody", 400),
            (Box::new(Chunked::LengthMismatch), "IncompleteBody", 400),
            (Box::new(Chunked::ChunkDataTooLarge(2, 1)), "InvalidChunkSizeError", 403),
            (Box::new(Chunked::TrailersTooLarge(2, 1)), "MalformedTrailerError", 400),
            (Box::new(Chunked::Underlying(Box::new(Chunked::ChunkMetaTooLarge(2, 1)))), "IncompleteBody", 400),
            (Box::new(Chunked::Underlying(Box::new(BodyFault::FinalChunkMissing))), "IncompleteBody", 400),
        ];
        for (err, code, status) in cases {
            let refusal = refusal_of(&*err).unwrap();
            assert_eq!((refusal.code().as_str(), refusal.status_code().unwrap().as_u16()), (code, status), "{err}");
        }
        assert!(refusal_of(&std::io::Error::other("backend")).is_none());
        assert!(refusal_of(&Chunked::Underlying(Box::new(std::io::Error::other("backend")))).is_none());
    }
}
