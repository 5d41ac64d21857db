use std::fmt;
use std::str::FromStr;

use super::{Error, Result};

/// The checksum algorithms a footer can record (FORMAT section 7). Bytes and lengths may never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ChecksumAlgorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
    Sha512,
    Md5,
    Xxhash64,
    Xxhash3,
    Xxhash128,
}

impl ChecksumAlgorithm {
    /// All algorithms, in the order of their bytes.
    pub const ALL: [ChecksumAlgorithm; 10] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Md5,
        Self::Xxhash64,
        Self::Xxhash3,
        Self::Xxhash128,
    ];

    /// The algorithm's byte, 1 to 10. Byte 0 stands for no checksum and is not an algorithm.
    pub const fn byte(self) -> u8 {
        self as u8 + 1
    }

    /// The algorithm of a byte, None for byte 0. Errors: [`Error::ChecksumAlgorithm`].
    pub fn from_byte(byte: u8) -> Result<Option<Self>> {
        let Some(index) = byte.checked_sub(1) else { return Ok(None) };
        Self::ALL.get(usize::from(index)).copied().map(Some).ok_or(Error::ChecksumAlgorithm)
    }

    /// Bytes of a checksum of this algorithm.
    #[allow(clippy::len_without_is_empty, reason = "an algorithm is never empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme | Self::Xxhash64 | Self::Xxhash3 => 8,
            Self::Md5 | Self::Xxhash128 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// S3's name of the algorithm.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
            Self::Md5 => "MD5",
            Self::Xxhash64 => "XXHASH64",
            Self::Xxhash3 => "XXHASH3",
            Self::Xxhash128 => "XXHASH128",
        }
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChecksumAlgorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(Error::ChecksumAlgorithm)
    }
}

const VALUE_MAX: usize = 64;

/// The raw bytes of a checksum, 0 to 64 of them, kept in place: a table may have 10,000 entries.
#[derive(Clone, Copy)]
pub struct ChecksumBytes {
    len: u8,
    bytes: [u8; VALUE_MAX],
}

impl ChecksumBytes {
    /// No checksum.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; VALUE_MAX] };

    /// Takes a raw checksum. Errors: [`Error::ChecksumLength`] above 64 bytes.
    pub fn new(value: &[u8]) -> Result<Self> {
        let mut bytes = [0; VALUE_MAX];
        bytes.get_mut(..value.len()).ok_or(Error::ChecksumLength)?.copy_from_slice(value);
        Ok(Self { len: value.len() as u8, bytes })
    }

    /// The raw bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether there is no checksum.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl PartialEq for ChecksumBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ChecksumBytes {}

impl fmt::Debug for ChecksumBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(self.as_slice()))
    }
}

/// What the checksum of an object covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumKind {
    /// A checksum of the parts' checksums, computed from the table. Multipart only.
    Composite,
    /// A checksum of the whole plaintext.
    FullObject,
}

impl ChecksumKind {
    /// The type byte; 0 stands for no checksum.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Composite => 1,
            Self::FullObject => 2,
        }
    }

    /// The kind of a type byte, None for byte 0. Errors: [`Error::ChecksumAlgorithm`].
    pub const fn from_byte(byte: u8) -> Result<Option<Self>> {
        match byte {
            0 => Ok(None),
            1 => Ok(Some(Self::Composite)),
            2 => Ok(Some(Self::FullObject)),
            _ => Err(Error::ChecksumAlgorithm),
        }
    }
}

/// The checksum of an object as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectChecksum {
    algorithm: ChecksumAlgorithm,
    kind: ChecksumKind,
    value: ChecksumBytes,
}

impl ObjectChecksum {
    /// A checksum of the whole plaintext. Errors: [`Error::ChecksumLength`].
    pub fn full_object(algorithm: ChecksumAlgorithm, value: &[u8]) -> Result<Self> {
        if value.len() != algorithm.len() {
            return Err(Error::ChecksumLength);
        }
        Ok(Self { algorithm, kind: ChecksumKind::FullObject, value: ChecksumBytes::new(value)? })
    }

    /// A checksum of the parts' checksums, which are in the table; it has no bytes of its own.
    pub const fn composite(algorithm: ChecksumAlgorithm) -> Self {
        Self { algorithm, kind: ChecksumKind::Composite, value: ChecksumBytes::EMPTY }
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// What it covers.
    pub const fn kind(&self) -> ChecksumKind {
        self.kind
    }

    /// The raw checksum; empty for a composite one.
    pub fn value(&self) -> &[u8] {
        self.value.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_lengths_are_frozen() {
        let lengths: Vec<_> = ChecksumAlgorithm::ALL.iter().map(|algorithm| algorithm.len()).collect();
        assert_eq!(lengths, [4, 4, 8, 20, 32, 64, 16, 8, 8, 16]);
        for (index, algorithm) in ChecksumAlgorithm::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(algorithm.byte()), index + 1);
            assert_eq!(ChecksumAlgorithm::from_byte(algorithm.byte()), Ok(Some(algorithm)));
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
        assert_eq!(ChecksumAlgorithm::from_byte(0), Ok(None));
        assert_eq!(ChecksumAlgorithm::from_byte(11), Err(Error::ChecksumAlgorithm));
    }
}
