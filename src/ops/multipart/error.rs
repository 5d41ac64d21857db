//! What can be wrong with a request about a multipart upload, in S3's words.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html#API_CompleteMultipartUpload_Errors>

use s3s::{S3Error, S3ErrorCode};

use crate::format::ChecksumAlgorithm;
use crate::ops::error::custom;

/// A multipart request that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart upload might have been aborted or completed."
    )]
    NoSuchUpload,
    #[error(
        "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag (part {0})."
    )]
    InvalidPart(u16),
    #[error("The list of parts was not in ascending order. Parts list must be specified in order by part number.")]
    InvalidPartOrder,
    #[error("Your proposed upload is smaller than the minimum allowed object size (part {number}, {plain_len} bytes).")]
    EntityTooSmall { number: u16, plain_len: u64 },
    #[error("Part number must be an integer between 1 and 10000, inclusive")]
    PartNumber,
    #[error("The XML you provided was not well-formed or did not validate against our published schema")]
    MalformedXml,
    #[error(
        "The upload was created using a {} checksum. The complete request must include the checksum for each part. It was missing for part {number} in the request.",
        .algorithm.name().to_ascii_lowercase()
    )]
    ChecksumMissing { algorithm: ChecksumAlgorithm, number: u16 },
    #[error("The {0} you specified did not match the calculated checksum.")]
    BadDigest(ChecksumAlgorithm),
    #[error("The upload was created using the {0} checksum mode. The complete request must use the same checksum mode.")]
    ChecksumType(&'static str),
    #[error("Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}")]
    ChecksumAlgorithm { expected: &'static str, actual: &'static str },
    #[error("The {algorithm} checksum cannot be used with the {kind} checksum type.")]
    ChecksumPair { algorithm: ChecksumAlgorithm, kind: &'static str },
    #[error(
        "The checksum of the object cannot be verified: some of its parts were named without the ETag that their upload gave."
    )]
    ChecksumUnknown,
    #[error("The provided 'x-amz-mp-object-size' header value {declared} does not match what was computed: {computed}")]
    ObjectSize { declared: u64, computed: u64 },
    #[error(
        "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
    )]
    EncryptionMissing,
    #[error(
        "The multipart upload initiate request did not request encryption. Please resend the request without sending encryption parameters."
    )]
    EncryptionSuperfluous,
    #[error("The provided encryption parameters did not match the ones used originally.")]
    EncryptionDiffers,
    #[error("Please try again: another request completed or changed this upload at the same time.")]
    Busy,
}

impl Refused {
    pub(in crate::ops) fn to_s3(&self) -> S3Error {
        let code = match self {
            Self::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Self::InvalidPart(_) => S3ErrorCode::InvalidPart,
            Self::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            Self::EntityTooSmall { .. } => S3ErrorCode::EntityTooSmall,
            Self::PartNumber => S3ErrorCode::InvalidArgument,
            Self::MalformedXml => S3ErrorCode::MalformedXML,
            Self::BadDigest(_) => S3ErrorCode::BadDigest,
            Self::ChecksumMissing { .. }
            | Self::ChecksumType(_)
            | Self::ChecksumAlgorithm { .. }
            | Self::ChecksumPair { .. }
            | Self::ChecksumUnknown
            | Self::EncryptionMissing
            | Self::EncryptionSuperfluous
            | Self::EncryptionDiffers
            | Self::ObjectSize { .. } => S3ErrorCode::InvalidRequest,
            Self::Busy => return custom("ServiceUnavailable", 503, self.to_string()),
        };
        S3Error::with_message(code, self.to_string())
    }
}
