use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::layout::PARTS_MAX;
use super::read::Reader;
use super::{ChecksumAlgorithm, ChecksumBytes, ChecksumKind, Envelope, Error, PlainLen, Result};
use crate::crypto::ObjectKeys;

/// The header of a part (FORMAT section 5). The key of the part's chunks is derived from its 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartHeader {
    /// Sixteen fresh random bytes for every attempt to upload the part; zeros for the single layout.
    pub part_id: [u8; 16],
    /// S3's part number, 1 to 10,000; 0 for the single layout.
    pub number: u16,
    /// Plaintext length of the part, or of the whole object in the single layout.
    pub plain_len: PlainLen,
}

impl PartHeader {
    /// The virtual header of an object in the single layout. It is never stored.
    pub const fn single(plain_len: PlainLen) -> Self {
        Self { part_id: [0; 16], number: 0, plain_len }
    }

    /// The header of one attempt to upload a part. Errors: [`Error::PartHeader`] unless the number is 1 to 10,000.
    pub fn part(part_id: [u8; 16], number: u16, plain_len: PlainLen) -> Result<Self> {
        check_number(number)?;
        Ok(Self { part_id, number, plain_len })
    }

    /// The bytes of the header.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.part_id);
        bytes[16..18].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..].copy_from_slice(&self.plain_len.get().to_be_bytes());
        bytes
    }

    /// Parses a stored header. Errors: [`Error::PartHeader`].
    pub fn parse(bytes: &[u8; 32]) -> Result<Self> {
        let (header, flags) = Self::parse_with_flags(bytes)?;
        if flags != 0 {
            return Err(Error::PartHeader("unknown flags"));
        }
        Ok(header)
    }

    /// The same for a table entry, where the flags mean something.
    pub(super) fn parse_with_flags(bytes: &[u8; 32]) -> Result<(Self, u16)> {
        const SHORT: Error = Error::PartHeader("too short");
        let mut reader = Reader::new(bytes);
        let part_id = reader.array().ok_or(SHORT)?;
        let number = reader.u16().ok_or(SHORT)?;
        let flags = reader.u16().ok_or(SHORT)?;
        let reserved = reader.u32().ok_or(SHORT)?;
        let plain_len = reader.u64().ok_or(SHORT)?;
        check_number(number)?;
        if reserved != 0 {
            return Err(Error::PartHeader("a reserved field is not zero"));
        }
        let plain_len = PlainLen::new(plain_len).ok_or(Error::PartHeader("the length is impossible"))?;
        Ok((Self { part_id, number, plain_len }, flags))
    }
}

fn check_number(number: u16) -> Result<()> {
    if number == 0 || u64::from(number) > PARTS_MAX { Err(Error::PartHeader("the number is not 1 to 10,000")) } else { Ok(()) }
}

/// What a part's ETag tells Complete about the part (FORMAT section 11). Authentic once opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The attempt.
    pub part_id: [u8; 16],
    /// Plaintext length of the part.
    pub plain_len: PlainLen,
    /// Whether the part waits in the state store instead of the upload.
    pub spooled: bool,
    /// The client's checksum of the part.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumBytes)>,
}

const RECEIPT_MIN: usize = 42;
const MAC_LEN: usize = 16;

impl Receipt {
    /// The receipt in hex, for the part of this number whose ETag towards the backend is `part_etag`.
    /// Errors: [`Error::ChecksumLength`].
    pub fn seal(&self, keys: &ObjectKeys, number: u16, part_etag: &str) -> Result<String> {
        let mut bytes = self.fields()?;
        let mac = keys.mac(&Self::authenticated(number, &bytes, part_etag));
        bytes.extend_from_slice(&mac);
        Ok(HEXLOWER.encode(&bytes))
    }

    /// Opens a receipt that [`split_part_etag`] found. Errors: [`Error::Upload`] when it is malformed, [`Error::Crypto`] when it was
    /// not made for this upload, number and ETag.
    pub fn open(keys: &ObjectKeys, number: u16, part_etag: &str, hex: &str) -> Result<Self> {
        const BAD: Error = Error::Upload("the receipt");
        let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| BAD)?;
        let (fields, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(BAD)?;
        keys.verify_mac(&Self::authenticated(number, fields, part_etag), mac)?;
        let mut reader = Reader::new(fields);
        let part_id = reader.array().ok_or(BAD)?;
        let plain_len = reader.u64().and_then(PlainLen::new).ok_or(BAD)?;
        let spooled = match reader.u8() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(BAD),
        };
        let algorithm = ChecksumAlgorithm::from_byte(reader.u8().ok_or(BAD)?)?;
        let value = reader.rest();
        let checksum = match algorithm {
            None if value.is_empty() => None,
            Some(algorithm) if value.len() == algorithm.len() => Some((algorithm, ChecksumBytes::new(value)?)),
            _ => return Err(BAD),
        };
        Ok(Self { part_id, plain_len, spooled, checksum })
    }

    fn fields(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(RECEIPT_MIN + 64);
        bytes.extend_from_slice(&self.part_id);
        bytes.extend_from_slice(&self.plain_len.get().to_be_bytes());
        bytes.push(u8::from(self.spooled));
        match &self.checksum {
            None => bytes.push(0),
            Some((algorithm, value)) => {
                if value.as_slice().len() != algorithm.len() {
                    return Err(Error::ChecksumLength);
                }
                bytes.push(algorithm.byte());
                bytes.extend_from_slice(value.as_slice());
            }
        }
        Ok(bytes)
    }

    fn authenticated(number: u16, fields: &[u8], part_etag: &str) -> Vec<u8> {
        [b"cg1 rcpt", number.to_be_bytes().as_slice(), fields, part_etag.as_bytes()].concat()
    }
}

/// Splits the ETag a client gives for a part into the backend's ETag and the receipt in hex, if there is one. Whatever looks like a
/// receipt is one: it must then open, so that nobody turns a damaged receipt into a part without one.
pub fn split_part_etag(etag: &str) -> (&str, Option<&str>) {
    match etag.rsplit_once('-') {
        Some((part_etag, tail)) if tail.len() >= 2 * RECEIPT_MIN && tail.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            (part_etag, Some(tail))
        }
        _ => (etag, None),
    }
}

/// What identifies a multipart upload, as the backend names it (U in FORMAT section 11).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadName {
    /// The backend's bucket.
    pub bucket: String,
    /// The object key.
    pub key: String,
    /// The backend's upload id.
    pub upload_id: String,
}

impl UploadName {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        name_to_bytes([(&self.bucket, "the bucket name"), (&self.key, "the object key"), (&self.upload_id, "the upload id")])
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let [bucket, key, upload_id] = read_name(reader)?;
        Some(Self { bucket, key, upload_id })
    }
}

/// Fields with their lengths before them, and what each is. Errors: [`Error::TooLong`] for one beyond 65,535 bytes.
pub(super) fn name_to_bytes(fields: [(&str, &'static str); 3]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(fields.iter().map(|(field, _)| 2 + field.len()).sum());
    for (field, what) in fields {
        let len = u16::try_from(field.len()).map_err(|_| Error::TooLong(what))?;
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    Ok(bytes)
}

/// Reads what [`name_to_bytes`] wrote.
pub(super) fn read_name(reader: &mut Reader<'_>) -> Option<[String; 3]> {
    let mut field = || {
        let len = usize::from(reader.u16()?);
        std::str::from_utf8(reader.take(len)?).ok().map(str::to_owned)
    };
    Some([field()?, field()?, field()?])
}

/// The base name u of everything an upload keeps in the state store: hex(SHA-256(U)).
/// Errors: [`Error::TooLong`] for a name beyond 65,535 bytes.
pub fn upload_base_name(name: &UploadName) -> Result<String> {
    Ok(HEXLOWER.encode(&Sha256::digest(name.to_bytes()?)))
}

/// The record of a multipart upload (FORMAT section 11), authentic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    /// The envelope the finished object will have.
    pub envelope: Envelope,
    /// The checksum the client announced for the object.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// When the upload was created, in milliseconds since the epoch.
    pub created_ms: u64,
    /// The upload it belongs to.
    pub name: UploadName,
}

impl UploadRecord {
    /// The bytes to store under `u/r`. Errors: [`Error::TooLong`].
    pub fn seal(&self, keys: &ObjectKeys) -> Result<Vec<u8>> {
        let envelope = self.envelope.to_bytes();
        let envelope_len = u16::try_from(envelope.len()).map_err(|_| Error::TooLong("the envelope"))?;
        let name = self.name.to_bytes()?;
        let mut bytes = Vec::with_capacity(2 + envelope.len() + 10 + name.len() + MAC_LEN);
        bytes.extend_from_slice(&envelope_len.to_be_bytes());
        bytes.extend_from_slice(&envelope);
        let (algorithm, kind) = self.checksum.map_or((0, 0), |(algorithm, kind)| (algorithm.byte(), kind.byte()));
        bytes.extend_from_slice(&[algorithm, kind]);
        bytes.extend_from_slice(&self.created_ms.to_be_bytes());
        bytes.extend_from_slice(&name);
        let mac = keys.mac(&Self::authenticated(&bytes));
        bytes.extend_from_slice(&mac);
        Ok(bytes)
    }

    fn authenticated(bytes: &[u8]) -> Vec<u8> {
        [b"cg1 stat", bytes].concat()
    }
}

/// A record as it was read: well-formed, not yet authentic. Its envelope gives the keys that [`SealedRecord::open`] needs.
#[derive(Debug, Clone)]
pub struct SealedRecord {
    record: UploadRecord,
    fields: Vec<u8>,
    mac: [u8; MAC_LEN],
}

impl SealedRecord {
    /// Parses a stored record. Errors: [`Error::Upload`] and those of the envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        const BAD: Error = Error::Upload("the upload record");
        let (fields, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(BAD)?;
        let mut reader = Reader::new(fields);
        let envelope_len = usize::from(reader.u16().ok_or(BAD)?);
        let envelope = Envelope::from_bytes(reader.take(envelope_len).ok_or(BAD)?)?;
        let algorithm = ChecksumAlgorithm::from_byte(reader.u8().ok_or(BAD)?)?;
        let kind = ChecksumKind::from_byte(reader.u8().ok_or(BAD)?)?;
        let checksum = match (algorithm, kind) {
            (None, None) => None,
            (Some(algorithm), Some(kind)) => Some((algorithm, kind)),
            _ => return Err(BAD),
        };
        let created_ms = reader.u64().ok_or(BAD)?;
        let name = UploadName::read(&mut reader).ok_or(BAD)?;
        if !reader.is_empty() {
            return Err(BAD);
        }
        let record = UploadRecord { envelope, checksum, created_ms, name };
        Ok(Self { record, fields: fields.to_vec(), mac: *mac })
    }

    /// The envelope, to obtain the keys.
    pub fn envelope(&self) -> &Envelope {
        &self.record.envelope
    }

    /// Which upload the record says it belongs to; compare [`upload_base_name`] of it with the name it was found under.
    pub fn name(&self) -> &UploadName {
        &self.record.name
    }

    /// The record, when the keys of its envelope made it. Errors: [`Error::Crypto`].
    pub fn open(self, keys: &ObjectKeys) -> Result<UploadRecord> {
        keys.verify_mac(&UploadRecord::authenticated(&self.fields), &self.mac)?;
        Ok(self.record)
    }
}
