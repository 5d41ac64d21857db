use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;

use super::read::Reader;
use super::{Error, Result};
use crate::crypto::{CHECK_LEN, DataKey, KeyEncryptionKey, ObjectKeys, Suite, WRAPPED_LEN, WrapKey};

/// Name of the user-metadata entry that holds the envelope, without S3's prefix.
pub const METADATA_NAME: &str = "ciphergate";
/// The same as a header.
pub const HEADER: &str = "x-amz-meta-ciphergate";

const VERSION: u8 = 1;
const LABEL_MAX: usize = 32;
/// The label of every envelope whose key is the client's own (FORMAT section 14). It leads to no key of the configuration.
const CUSTOMER_LABEL: &str = "sse-c";
/// Envelope bytes besides label and blob.
const FIXED_LEN: usize = 118;

/// The name of a key-service key in the gateway's own configuration: 1 to 32 characters of a-z, 0-9 and "-".
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// Checks and takes a label. Errors: [`Error::Label`].
    pub fn new(label: impl Into<String>) -> Result<Self> {
        let label = label.into();
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(good) { Ok(Self(label)) } else { Err(Error::Label) }
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(label: &str) -> Result<Self> {
        Self::new(label)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How the body of an object is laid out (FORMAT section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One run of chunks, bound to the object's whole length.
    Single,
    /// Parts, each with its own header, and a table of them in the footer.
    Multipart,
}

/// The flags of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EnvelopeFlags {
    /// Bit 0: the body has the multipart layout.
    pub multipart: bool,
    /// Bit 1: the key-encryption key is shared by many objects of one scope (FORMAT section 10).
    pub shared: bool,
    /// Bit 2: the key service's context carries a hash of the key name.
    pub hashed_context: bool,
    /// Bit 3: the key-encryption key is the client's own and comes with every request (FORMAT section 14).
    pub customer: bool,
    /// Bit 4: content headers and user metadata lie sealed in an entry of their own (FORMAT section 15).
    pub sealed_metadata: bool,
}

impl EnvelopeFlags {
    /// The layout that bit 0 announces.
    pub const fn layout(self) -> Layout {
        if self.multipart { Layout::Multipart } else { Layout::Single }
    }

    const fn byte(self) -> u8 {
        self.multipart as u8
            | (self.shared as u8) << 1
            | (self.hashed_context as u8) << 2
            | (self.customer as u8) << 3
            | (self.sealed_metadata as u8) << 4
    }

    const fn from_byte(byte: u8) -> Result<Self> {
        if byte > 31 {
            return Err(Error::UnknownFlags(byte));
        }
        Ok(Self {
            multipart: byte & 1 != 0,
            shared: byte & 2 != 0,
            hashed_context: byte & 4 != 0,
            customer: byte & 8 != 0,
            sealed_metadata: byte & 16 != 0,
        })
    }
}

/// What a new envelope is made of besides keys.
pub struct WrapInput<'a> {
    /// The suite of the object.
    pub suite: Suite,
    /// The flags.
    pub flags: EnvelopeFlags,
    /// Which configured key made the blob.
    pub label: Label,
    /// From the operating system, fresh for every wrap.
    pub salt: [u8; 32],
    /// What the key service returned beside the key-encryption key, at most 65,535 bytes.
    pub kms_blob: Vec<u8>,
    /// The scope of the bucket.
    pub scope: &'a str,
    /// The object key as the client names it.
    pub key: &'a str,
}

impl<'a> WrapInput<'a> {
    /// The input for a client's own key: no key service has a part in it (FORMAT section 14).
    pub fn customer(kek: &KeyEncryptionKey, suite: Suite, layout: Layout, salt: [u8; 32], scope: &'a str, key: &'a str) -> Self {
        let flags = EnvelopeFlags { multipart: layout == Layout::Multipart, customer: true, ..EnvelopeFlags::default() };
        let label = Label(CUSTOMER_LABEL.to_owned());
        Self { suite, flags, label, salt, kms_blob: kek.customer_check(&salt).to_vec(), scope, key }
    }
}

/// The envelope of an object (FORMAT section 3): everything needed, besides the key service, to open it.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    suite: Suite,
    flags: EnvelopeFlags,
    label: Label,
    salt: [u8; 32],
    commit: [u8; 32],
    wrapped: [u8; WRAPPED_LEN],
    kms_blob: Vec<u8>,
}

impl Envelope {
    /// The version that all envelopes have.
    pub const VERSION: u8 = VERSION;

    /// Wraps a data key for one place (scope and key) and derives the keys of the object.
    /// Errors: [`Error::TooLong`] for a blob, a scope or a key beyond its length field.
    pub fn wrap(kek: &KeyEncryptionKey, input: WrapInput<'_>, dek: &DataKey) -> Result<(Self, ObjectKeys)> {
        if input.kms_blob.len() > usize::from(u16::MAX) {
            return Err(Error::TooLong("the key blob"));
        }
        let keys = ObjectKeys::derive(input.suite, dek);
        let mut envelope = Self {
            suite: input.suite,
            flags: input.flags,
            label: input.label,
            salt: input.salt,
            commit: keys.commit(),
            wrapped: [0; WRAPPED_LEN],
            kms_blob: input.kms_blob,
        };
        envelope.wrapped = envelope.wrap_key(kek, input.scope, input.key)?.wrap(dek)?;
        Ok((envelope, keys))
    }

    /// Opens the envelope found at one place and derives the keys of the object.
    /// Errors: [`Error::Crypto`] when the key, the scope, the key name or any bound byte of the envelope is another.
    pub fn open(&self, kek: &KeyEncryptionKey, scope: &str, key: &str) -> Result<ObjectKeys> {
        Ok(self.open_both(kek, scope, key)?.1)
    }

    /// The data key itself, for a rewrap. Errors as for [`Envelope::open`].
    pub fn unwrap(&self, kek: &KeyEncryptionKey, scope: &str, key: &str) -> Result<DataKey> {
        Ok(self.open_both(kek, scope, key)?.0)
    }

    fn open_both(&self, kek: &KeyEncryptionKey, scope: &str, key: &str) -> Result<(DataKey, ObjectKeys)> {
        Ok(self.wrap_key(kek, scope, key)?.unwrap(self.suite, &self.wrapped, &self.commit)?)
    }

    fn wrap_key(&self, kek: &KeyEncryptionKey, scope: &str, key: &str) -> Result<WrapKey> {
        let scope_len = u16::try_from(scope.len()).map_err(|_| Error::TooLong("the scope"))?;
        let key_len = u32::try_from(key.len()).map_err(|_| Error::TooLong("the object key"))?;
        let bound: [&[u8]; 5] =
            [&self.head(), &scope_len.to_be_bytes(), scope.as_bytes(), &key_len.to_be_bytes(), key.as_bytes()];
        Ok(WrapKey::derive(self.suite, kek, &self.salt, &bound))
    }

    /// Whether this is the client's key that the envelope was wrapped with. False for an envelope that needs none. That it is the right
    /// key says nothing of the rest of the envelope: opening does.
    pub fn fits_customer_key(&self, kek: &KeyEncryptionKey) -> bool {
        self.flags.customer && kek.fits_customer_check(&self.salt, &self.kms_blob)
    }

    /// Parses the value of the metadata entry.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Error::Envelope("not base64url"))?;
        Self::from_bytes(&bytes)
    }

    /// The value of the metadata entry: base64url without padding.
    pub fn encode(&self) -> String {
        BASE64URL_NOPAD.encode(&self.to_bytes())
    }

    /// Parses the bytes of an envelope, all of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        const SHORT: Error = Error::Envelope("too short");
        let mut reader = Reader::new(bytes);
        let version = reader.u8().ok_or(SHORT)?;
        if version != VERSION {
            return Err(Error::UnknownVersion(version));
        }
        let suite = Suite::from_byte(reader.u8().ok_or(SHORT)?)?;
        let flags = EnvelopeFlags::from_byte(reader.u8().ok_or(SHORT)?)?;
        let label_len = usize::from(reader.u8().ok_or(SHORT)?);
        if !(1..=LABEL_MAX).contains(&label_len) {
            return Err(Error::Label);
        }
        let label = std::str::from_utf8(reader.take(label_len).ok_or(SHORT)?).map_err(|_| Error::Label)?;
        let label = Label::new(label)?;
        let salt = reader.array().ok_or(SHORT)?;
        let commit = reader.array().ok_or(SHORT)?;
        let wrapped = reader.array().ok_or(SHORT)?;
        let blob_len = usize::from(reader.u16().ok_or(SHORT)?);
        let kms_blob = reader.take(blob_len).ok_or(SHORT)?.to_vec();
        if !reader.is_empty() {
            return Err(Error::Envelope("too long"));
        }
        if flags.customer {
            let alone = !flags.shared && !flags.hashed_context;
            if !alone || label.0 != CUSTOMER_LABEL || kms_blob.len() != CHECK_LEN {
                return Err(Error::Envelope("not as one with the client's own key is"));
            }
        }
        Ok(Self { suite, flags, label, salt, commit, wrapped, kms_blob })
    }

    /// The bytes of the envelope.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_LEN + self.label.0.len() + self.kms_blob.len());
        bytes.extend_from_slice(&self.head());
        bytes.extend_from_slice(&self.wrapped);
        bytes.extend_from_slice(&(self.kms_blob.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.kms_blob);
        bytes
    }

    /// Everything before `wrapped`: what the wrap is bound to.
    fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(68 + self.label.0.len());
        head.extend_from_slice(&[VERSION, self.suite.byte(), self.flags.byte(), self.label.0.len() as u8]);
        head.extend_from_slice(self.label.0.as_bytes());
        head.extend_from_slice(&self.salt);
        head.extend_from_slice(&self.commit);
        head
    }

    /// The suite of the object.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The flags.
    pub fn flags(&self) -> EnvelopeFlags {
        self.flags
    }

    /// Which configured key made the blob.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// What the wrap was salted with.
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// The commitment to the data key. It identifies the content of an object: copies and rewraps keep it.
    pub fn commit(&self) -> &[u8; 32] {
        &self.commit
    }

    /// What the key service needs to return the key-encryption key.
    pub fn kms_blob(&self) -> &[u8] {
        &self.kms_blob
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = data_encoding::HEXLOWER.encode(&self.commit[..8]);
        write!(f, "Envelope({}, {:?}, {}, commit {commit}..)", self.suite, self.flags, self.label)
    }
}
