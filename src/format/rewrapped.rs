//! The record beside a version whose key is to go: another envelope of the same data key (FORMAT section 16).

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::parts::{name_to_bytes, read_name};
use super::read::Reader;
use super::{Envelope, Error, Result};

const MAGIC: &[u8; 4] = b"CGR1";

/// What identifies a version of an object, as the backend names it (V in FORMAT section 16).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionName {
    /// The backend's bucket.
    pub bucket: String,
    /// The object key.
    pub key: String,
    /// The backend's version id; `null` where it gives none.
    pub version_id: String,
}

impl VersionName {
    /// The base name v of the version's record: hex(SHA-256(V)).
    /// Errors: [`Error::TooLong`] for a name beyond 65,535 bytes.
    pub fn base(&self) -> Result<String> {
        Ok(HEXLOWER.encode(&Sha256::digest(self.to_bytes()?)))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        name_to_bytes([(&self.bucket, "the bucket name"), (&self.key, "the object key"), (&self.version_id, "the version id")])
    }
}

/// A rewrap record. Nobody vouches for it before its envelope is open: that proves the data key, and nothing else has to be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrapRecord {
    /// The version it belongs to.
    pub name: VersionName,
    /// The data key of that version, under another key.
    pub envelope: Envelope,
}

impl RewrapRecord {
    /// The bytes to store. Errors: [`Error::TooLong`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let envelope = self.envelope.to_bytes();
        let envelope_len = u16::try_from(envelope.len()).map_err(|_| Error::TooLong("the envelope"))?;
        Ok([MAGIC.as_slice(), &envelope_len.to_be_bytes(), &envelope, &self.name.to_bytes()?].concat())
    }

    /// Parses a stored record, all of it. Errors: [`Error::Rewrapped`] and those of the envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        const BAD: Error = Error::Rewrapped("it is malformed");
        let mut reader = Reader::new(bytes);
        if reader.array().ok_or(BAD)? != *MAGIC {
            return Err(BAD);
        }
        let envelope_len = usize::from(reader.u16().ok_or(BAD)?);
        let envelope = Envelope::from_bytes(reader.take(envelope_len).ok_or(BAD)?)?;
        let [bucket, key, version_id] = read_name(&mut reader).ok_or(BAD)?;
        if !reader.is_empty() {
            return Err(BAD);
        }
        Ok(Self { name: VersionName { bucket, key, version_id }, envelope })
    }

    /// The envelope, if this is the record of that version, whose own envelope is `own`: it can lead to no other data key than `own` does.
    /// Errors: [`Error::Rewrapped`].
    pub fn envelope_for(self, name: &VersionName, own: &Envelope) -> Result<Envelope> {
        if self.name != *name {
            return Err(Error::Rewrapped("it belongs to another version"));
        }
        let (flags, own_flags) = (self.envelope.flags(), own.flags());
        if flags.customer || own_flags.customer || flags.multipart != own_flags.multipart {
            return Err(Error::Rewrapped("its flags are not those of the version"));
        }
        if self.envelope.suite() != own.suite() || self.envelope.commit() != own.commit() {
            return Err(Error::Rewrapped("it leads to another data key"));
        }
        Ok(self.envelope)
    }
}
