use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::read::Reader;
use super::{Envelope, Error, METADATA_NAME, Result};
use crate::crypto::{ObjectKeys, TAG_LEN};

/// Name of the user-metadata entry that holds sealed metadata, without S3's prefix.
pub const METADATA_ENTRY: &str = "ciphergate-meta";
/// The same as a header.
pub const METADATA_HEADER: &str = "x-amz-meta-ciphergate-meta";

/// Plaintext is padded with zeros to a multiple of this, so that its length tells little.
const UNIT: usize = 64;
/// The longest plaintext, padding included: what is longer does not fit into S3's 2,048 bytes, whatever the envelope.
const PLAIN_MAX: usize = 23 * UNIT;
/// The longest text of the entry, in characters.
pub const METADATA_TEXT_MAX: usize = text_len(PLAIN_MAX);
/// The kind byte of user metadata; those of the content headers are below it.
const USER: u8 = 7;

/// What one sealed entry describes. Entries are written in this order, user metadata by their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    CacheControl,
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentType,
    Expires,
    /// User metadata, by its name without S3's prefix.
    User(String),
}

impl Field {
    const CONTENT: [(Field, &'static str); 6] = [
        (Field::CacheControl, "cache-control"),
        (Field::ContentDisposition, "content-disposition"),
        (Field::ContentEncoding, "content-encoding"),
        (Field::ContentLanguage, "content-language"),
        (Field::ContentType, "content-type"),
        (Field::Expires, "expires"),
    ];

    /// The content header of this name, in lower case.
    #[must_use]
    pub fn of_content(name: &str) -> Option<Self> {
        Self::CONTENT.into_iter().find(|(_, text)| *text == name).map(|(field, _)| field)
    }

    /// The name of the content header, or of the user metadata without S3's prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(name) => name,
            content => Self::CONTENT.iter().find(|(field, _)| field == content).map_or("", |(_, name)| name),
        }
    }

    /// The name of the header.
    #[must_use]
    pub fn header(&self) -> String {
        match self {
            Self::User(name) => format!("x-amz-meta-{name}"),
            content => content.name().to_owned(),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::CacheControl => 1,
            Self::ContentDisposition => 2,
            Self::ContentEncoding => 3,
            Self::ContentLanguage => 4,
            Self::ContentType => 5,
            Self::Expires => 6,
            Self::User(_) => USER,
        }
    }

    fn of_kind(kind: u8) -> Option<Self> {
        Self::CONTENT.into_iter().map(|(field, _)| field).find(|field| field.kind() == kind)
    }
}

/// Content headers and user metadata of one object, as they are sealed beside it (FORMAT section 15). Values are the bytes of the headers.
/// Debug prints names and lengths, never a value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<Field, Vec<u8>>);

impl Metadata {
    /// Adds one.
    ///
    /// # Errors
    /// [`Error::Metadata`] for a name that is no header's, or one of ours, a value that no header can have, and what is there already.
    pub fn add(&mut self, field: Field, value: &[u8]) -> Result<()> {
        if !field_is_good(&field) {
            return Err(Error::Metadata("a name"));
        }
        if !value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
            return Err(Error::Metadata("a value"));
        }
        match self.0.insert(field, value.to_vec()) {
            None => Ok(()),
            Some(_) => Err(Error::Metadata("a name is there twice")),
        }
    }

    /// All of them, in the order they are written in.
    pub fn iter(&self) -> impl Iterator<Item = (&Field, &[u8])> {
        self.0.iter().map(|(field, value)| (field, value.as_slice()))
    }

    /// Characters of the entry that [`Metadata::seal`] makes; also beyond what it can make.
    #[must_use]
    pub fn text_len(&self) -> usize {
        text_len(self.plain_len())
    }

    fn plain_len(&self) -> usize {
        let user = |field: &Field| if let Field::User(name) = field { 2 + name.len() } else { 0 };
        let entries: usize = self.0.iter().map(|(field, value)| 1 + user(field) + 2 + value.len()).sum();
        entries.max(1).next_multiple_of(UNIT)
    }

    /// Seals them as the metadata of one wrap: the value of the entry. `keys` are those of the object, and `envelope` is the wrap beside
    /// which the entry will lie, stored once and never beside another entry.
    ///
    /// # Errors
    /// [`Error::TooLong`] for more than the longest entry holds.
    pub fn seal(&self, keys: &ObjectKeys, envelope: &Envelope) -> Result<String> {
        let len = self.plain_len();
        if len > PLAIN_MAX {
            return Err(Error::TooLong("the metadata"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(len + TAG_LEN));
        for (field, value) in &self.0 {
            bytes.push(field.kind());
            if let Field::User(name) = field {
                put(&mut bytes, name.as_bytes());
            }
            put(&mut bytes, value);
        }
        bytes.resize(len, 0);
        let tag = keys.metadata_key(envelope.salt()).seal_in_place(&mut bytes)?;
        bytes.extend_from_slice(&tag);
        Ok(BASE64URL_NOPAD.encode(&bytes))
    }

    /// Opens the entry that lies beside a wrap. `keys` are those of the object, by whatever way they were had; `salt` is that of the
    /// object's own envelope.
    ///
    /// # Errors
    /// [`Error::Metadata`] for a text that is none, or that no writer makes; [`Error::Crypto`] when it was sealed beside another wrap, or
    /// was altered.
    pub fn open(keys: &ObjectKeys, salt: &[u8; 32], text: &str) -> Result<Self> {
        let len = metadata_sealed_len(text).ok_or(Error::Metadata("its length"))?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Error::Metadata("not base64url"))?;
        let mut bytes = Zeroizing::new(bytes);
        if bytes.len() != len {
            return Err(Error::Metadata("its length"));
        }
        Self::parse(keys.metadata_key(salt).open_in_place(&mut bytes)?)
    }

    fn parse(plain: &[u8]) -> Result<Self> {
        const SHORT: Error = Error::Metadata("too short");
        let mut found = Self::default();
        let mut reader = Reader::new(plain);
        let padding = loop {
            match reader.u8() {
                None | Some(0) => break reader.rest(),
                Some(kind) => {
                    let field = match kind {
                        USER => Field::User(text(&mut reader)?),
                        kind => Field::of_kind(kind).ok_or(Error::Metadata("a kind"))?,
                    };
                    let len = usize::from(reader.u16().ok_or(SHORT)?);
                    let value = reader.take(len).ok_or(SHORT)?;
                    if found.0.last_key_value().is_some_and(|(last, _)| *last >= field) {
                        return Err(Error::Metadata("not in order"));
                    }
                    found.add(field, value)?;
                }
            }
        };
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Error::PaddingNotZero);
        }
        if plain.len() == found.plain_len() { Ok(found) } else { Err(Error::Metadata("its padding")) }
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(field, value)| (field.name(), value.len()))).finish()
    }
}

/// The entry that belongs to an envelope, of what lies in its place: one is there exactly when the envelope says so.
///
/// # Errors
/// [`Error::Metadata`] otherwise.
pub fn entry_beside<'a>(envelope: &Envelope, entry: Option<&'a [u8]>) -> Result<Option<&'a str>> {
    match (envelope.flags().sealed_metadata, entry) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Error::Metadata("the envelope does not announce them")),
        (true, None) => Err(Error::Metadata("they are missing")),
        (true, Some(entry)) => std::str::from_utf8(entry).map(Some).map_err(|_| Error::Metadata("not base64url")),
    }
}

/// Bytes of an entry, by its text alone; `None` for a length that no entry has.
pub fn metadata_sealed_len(text: &str) -> Option<usize> {
    let fits = |plain: &usize| text_len(*plain) == text.len();
    (1..=PLAIN_MAX / UNIT).map(|units| units * UNIT).find(fits).map(|plain| plain + TAG_LEN)
}

const fn text_len(plain_len: usize) -> usize {
    (4 * (plain_len + TAG_LEN)).div_ceil(3)
}

fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    // Whatever is longer does not fit into the longest entry, and nothing is written then.
    bytes.extend_from_slice(&(field.len() as u16).to_be_bytes());
    bytes.extend_from_slice(field);
}

fn text(reader: &mut Reader<'_>) -> Result<String> {
    let len = usize::from(reader.u16().ok_or(Error::Metadata("too short"))?);
    let bytes = reader.take(len).ok_or(Error::Metadata("too short"))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::Metadata("a name"))
}

/// User metadata has a name that a header can have, in lower case, and that is none of the two entries of ours.
fn field_is_good(field: &Field) -> bool {
    let Field::User(name) = field else { return true };
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    name.bytes().all(token) && name != METADATA_NAME && name != METADATA_ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_belong_together() {
        for (kind, (field, name)) in (1..).zip(Field::CONTENT) {
            assert_eq!((field.kind(), field.name()), (kind, name));
            assert_eq!(Field::of_kind(kind), Some(field.clone()));
            assert_eq!(Field::of_content(name), Some(field));
        }
        for kind in [0, USER, 8, 255] {
            assert_eq!(Field::of_kind(kind), None);
        }
        assert_eq!(Field::of_content("etag"), None);
        let user = Field::User("a".into());
        assert_eq!((user.name(), user.header().as_str()), ("a", "x-amz-meta-a"));
        assert_eq!(Field::Expires.header(), "expires");
    }

    #[test]
    fn the_longest_entry_fits_beside_no_envelope_and_the_next_one_does_not() {
        assert_eq!((PLAIN_MAX, METADATA_TEXT_MAX), (1472, 1984));
        assert!(METADATA_ENTRY.len() + METADATA_TEXT_MAX <= 2048);
        assert!(METADATA_ENTRY.len() + text_len(PLAIN_MAX + UNIT) > 2048);
    }

    #[test]
    fn debug_shows_no_value() {
        let mut metadata = Metadata::default();
        metadata.add(Field::User("who".into()), b"secret").unwrap();
        assert_eq!(format!("{metadata:?}"), "{\"who\": 6}");
    }

    /// What was authenticated is still read strictly: bytes of any kind are refused or read, and what is read is what is written.
    #[test]
    fn any_bytes_are_refused_or_are_what_a_writer_makes() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut read = 0;
        for round in 0..200_000_u32 {
            let len = usize::try_from(next() % 4).unwrap() * UNIT;
            let mut plain = vec![0; len];
            for byte in plain.iter_mut().take(usize::try_from(next() % 24).unwrap()) {
                // Mostly bytes that the grammar knows.
                *byte = match next() % 4 {
                    0 => 0,
                    1 => (next() % 9) as u8,
                    2 => b'a' + (next() % 4) as u8,
                    _ => next() as u8,
                };
            }
            if let Ok(metadata) = Metadata::parse(&plain) {
                read += 1;
                let mut again = Vec::new();
                for (field, value) in metadata.iter() {
                    again.push(field.kind());
                    if let Field::User(name) = field {
                        put(&mut again, name.as_bytes());
                    }
                    put(&mut again, value);
                }
                again.resize(metadata.plain_len(), 0);
                assert_eq!(again, plain, "round {round}");
            }
        }
        assert!(read > 1000, "only {read} were read");
    }
}
