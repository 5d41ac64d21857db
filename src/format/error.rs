use crate::crypto;

/// Why bytes are not what FORMAT asks for, or why a value cannot be written in the format. No variant carries content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The metadata entry is not base64url, or too short, too long, or otherwise not an envelope.
    #[error("the envelope is malformed: {0}")]
    Envelope(&'static str),
    /// The envelope is of another version of the format.
    #[error("unknown envelope version {0}")]
    UnknownVersion(u8),
    /// The envelope has flags this version does not know.
    #[error("unknown envelope flags {0:#04x}")]
    UnknownFlags(u8),
    /// A key label is not 1 to 32 characters of a-z, 0-9 and "-".
    #[error("a key label must be 1 to 32 characters of a-z, 0-9 and -")]
    Label,
    /// Something is longer than its length field can say.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// The object's length is no length of this format.
    #[error("no object of this format is {0} bytes long")]
    ImpossibleLength(u64),
    /// A part header breaks a rule of section 5.
    #[error("the part header is malformed: {0}")]
    PartHeader(&'static str),
    /// A part header in the body is not the one its table entry demands.
    #[error("a stored part header differs from the table")]
    PartHeaderDiffers,
    /// The end marker breaks a rule of section 7.
    #[error("the end marker is malformed: {0}")]
    End(&'static str),
    /// The footer breaks a rule of section 7.
    #[error("the footer is malformed: {0}")]
    Footer(&'static str),
    /// Bytes that must be zero are not.
    #[error("the padding is not zero")]
    PaddingNotZero,
    /// The checksum has another length than its algorithm gives.
    #[error("a checksum has a wrong length")]
    ChecksumLength,
    /// The checksum algorithm byte or name is unknown.
    #[error("unknown checksum algorithm")]
    ChecksumAlgorithm,
    /// The asked range is empty or begins or ends beyond the plaintext.
    #[error("the range lies outside the object")]
    RangeOutside,
    /// The plan cannot be read before the stored header of its first part is known.
    #[error("the stored header of the first part is needed first")]
    HeaderNeeded,
    /// A receipt or an upload record is malformed.
    #[error("{0} is malformed")]
    Upload(&'static str),
    /// A rewrap record is not the one that the version could have.
    #[error("the rewrap record of the version: {0}")]
    Rewrapped(&'static str),
    /// A tag, a MAC or the commitment does not verify.
    #[error(transparent)]
    Crypto(#[from] crypto::Error),
}
