//! A local file of master keys as a key provider, for development and for houses without a key service. docs/KEYRING.md has the
//! file and the layout of a wrapped key.

use super::{Error, Generated, KeyContext, KeyEncryptionKey, KeyProvider, Label, OsRandom, Random};
use crate::crypto::{MasterKey, WRAPPED_LEN};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Spanned;
use zeroize::{Zeroize, Zeroizing};

mod rotate;

pub use rotate::{Listed, Next, Rotated, Version};

/// Version of the file's format.
const FILE_FORMAT: u32 = 1;
/// Larger files are refused unread. A thousand versions have about 150 KiB.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Longer runs of letters and digits are not words of an error message.
const WORD_LEN_MAX: usize = 20;

/// First byte of a wrapped key.
const BLOB_FORMAT: u8 = 1;
const HEAD_LEN: usize = 1 + 4 + 8 + 8 + SALT_LEN;
const SALT_LEN: usize = 32;
/// Length of every wrapped key, in bytes.
const BLOB_LEN: usize = HEAD_LEN + WRAPPED_LEN;

/// The master keys of one label: several versions to unwrap with, the primary one to wrap with.
#[derive(Debug)]
pub struct Keyring {
    label: Label,
    primary: u32,
    keys: BTreeMap<u32, MasterKey>,
}

/// Why a keyring file cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error("the keyring {path} does not exist; make one with `ciphergate keygen`", path = .0.display())]
    Missing(PathBuf),
    #[error("the keyring {path} exists already and is not overwritten: objects may depend on it", path = .0.display())]
    Exists(PathBuf),
    #[error("the keyring {path} can be read by others (mode {mode:04o}); run: chmod 600 {path}", path = .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("the keyring {path} is not a regular file", path = .0.display())]
    NotAFile(PathBuf),
    #[error("the keyring {path} is larger than {FILE_LEN_MAX} bytes; it cannot be one", path = .0.display())]
    TooLarge(PathBuf),
    #[error("the keyring {path} cannot be understood: {reason}", path = .path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("the keyring {path} holds the keys of \"{found}\", the configuration wants \"{wanted}\"", path = .path.display())]
    OtherLabel { path: PathBuf, found: Label, wanted: Label },
    #[error("the keyring {path} has no version {version}", path = .path.display())]
    NoVersion { path: PathBuf, version: u32 },
    #[error("the keyring {path} cannot be rewritten: {reason}; make the change by hand as docs/KEYRING.md says", path = .path.display())]
    NotRewritten { path: PathBuf, reason: String },
    #[error("the keyring {path} is being changed by somebody else; try again when that is done", path = .0.display())]
    Busy(PathBuf),
    #[error("the keyring {path} cannot be {doing}: {source}", path = .path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    #[error(transparent)]
    NoRandomness(Error),
}

impl Keyring {
    /// Makes a keyring file with one fresh key, version 1. The file appears whole or not at all, readable by its owner only, and
    /// an existing file is never touched.
    pub fn create(path: &Path, label: &Label) -> Result<(), KeyringError> {
        let mut secret = Zeroizing::new([0u8; 32]);
        OsRandom.fill(&mut *secret).map_err(KeyringError::NoRandomness)?;
        let created = today();
        let text = Zeroizing::new(format!(
            "# Ciphergate keyring: the master keys of the label \"{label}\".\n\
             # Whoever reads this file can open every object wrapped under it; without it no such object can be opened again.\n\
             # Keep it secret (mode 0600) and keep a backup apart from the bucket. Never reuse a version number.\n\
             format = {FILE_FORMAT}\nlabel = \"{label}\"\nprimary = 1\n\n\
             [[keys]]\nversion = 1\ncreated = \"{created}\"\nsecret = \"{}\"\n",
            *hex(&*secret)
        ));
        write_new(path, text.as_bytes())
    }

    /// Reads a keyring file and demands that it holds the keys of `label`.
    pub fn load(path: &Path, label: &Label) -> Result<Self, KeyringError> {
        let keyring =
            Self::parse(&read_private(path)?).map_err(|reason| KeyringError::Malformed { path: path.into(), reason })?;
        if keyring.label != *label {
            return Err(KeyringError::OtherLabel { path: path.into(), found: keyring.label, wanted: label.clone() });
        }
        Ok(keyring)
    }

    /// The label that the file names.
    pub fn label(&self) -> &Label {
        &self.label
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        Self::parse_unmasked(text).map_err(|reason| mask(&reason))
    }

    fn parse_unmasked(text: &[u8]) -> Result<Self, String> {
        let KeyringFile { label, primary, keys, .. } = KeyringFile::read(text)?;
        let label = label.parse().map_err(|e| format!("label: {e}"))?;
        let keys = keys.into_iter().map(|entry| (entry.version, MasterKey::new(entry.secret.0))).collect();
        Ok(Self { label, primary: primary.into_inner(), keys })
    }

    fn check_label(&self, label: &Label) -> Result<(), Error> {
        if *label == self.label { Ok(()) } else { Err(Error::UnknownLabel { label: label.clone() }) }
    }

    fn wrap(&self, context: &KeyContext, kek: &KeyEncryptionKey, salt: &[u8; SALT_LEN]) -> Vec<u8> {
        let master = self.keys.get(&self.primary).expect("parse() found the primary among the keys");
        let context = context_bytes(&self.label, context);
        let mut blob = Vec::with_capacity(BLOB_LEN);
        blob.push(BLOB_FORMAT);
        blob.extend_from_slice(&self.primary.to_be_bytes());
        blob.extend_from_slice(&master.id());
        blob.extend_from_slice(&master.context_id(&context));
        blob.extend_from_slice(salt);
        let wrapped = master.wrap(&blob, &context, kek).expect("32 bytes are not too long for the cipher");
        blob.extend_from_slice(&wrapped);
        blob
    }
}

#[async_trait::async_trait]
impl KeyProvider for Keyring {
    async fn generate(&self, label: &Label, context: &KeyContext) -> Result<Generated, Error> {
        self.check_label(label)?;
        let (mut key, mut salt) = (Zeroizing::new([0; 32]), [0; SALT_LEN]);
        OsRandom.fill(&mut *key)?;
        OsRandom.fill(&mut salt)?;
        let kek = KeyEncryptionKey::new(key);
        let blob = self.wrap(context, &kek, &salt);
        Ok(Generated { kek, blob })
    }

    async fn unwrap(&self, label: &Label, context: &KeyContext, blob: &[u8]) -> Result<KeyEncryptionKey, Error> {
        self.check_label(label)?;
        let label = || label.clone();
        let invalid = |detail: &str| Error::InvalidCiphertext { label: label(), detail: detail.into() };
        let blob: &[u8; BLOB_LEN] = blob.try_into().map_err(|_| invalid("not the length of a keyring's wrapped key"))?;
        let (head, wrapped) = blob.split_first_chunk::<HEAD_LEN>().expect("the head is shorter than the whole");
        let wrapped: &[u8; WRAPPED_LEN] = wrapped.try_into().expect("head and wrapped key are the whole");
        if head[0] != BLOB_FORMAT {
            return Err(invalid("not a keyring's wrapped key"));
        }
        let version = u32::from_be_bytes(head[1..5].try_into().expect("four bytes"));
        let master = self.keys.get(&version).ok_or_else(|| Error::UnknownKeyVersion { label: label(), version })?;
        if head[5..13] != master.id() {
            return Err(Error::IncorrectKey { label: label(), detail: format!("version {version} of another keyring") });
        }
        let context = context_bytes(&self.label, context);
        if head[13..21] != master.context_id(&context) {
            return Err(Error::WrongContext { label: label() });
        }
        master.unwrap(head, &context, wrapped).map_err(|_| invalid("its tag does not verify"))
    }
}

/// Label, names and values, each with its length before it, in the order of the names.
fn context_bytes(label: &Label, context: &KeyContext) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |text: &str| {
        let len = u32::try_from(text.len()).expect("labels and contexts are bounded far below 4 GiB");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    put(label.as_str());
    for (name, value) in context.pairs() {
        put(name);
        put(value);
    }
    out
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyringFile {
    format: u32,
    label: String,
    primary: Spanned<u32>,
    keys: Vec<KeyEntry>,
}

impl KeyringFile {
    /// Reads the text of a file and holds it to every rule that there is. The reason of a refusal may quote what must not be shown.
    fn read(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "not UTF-8")?;
        // The parser's whole message quotes the line, and the line may hold a key.
        let file: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            format!("line {line}: {}", e.message())
        })?;
        if file.format != FILE_FORMAT {
            return Err(format!("format {} is not known here, only {FILE_FORMAT}", file.format));
        }
        file.label.parse::<Label>().map_err(|e| format!("label: {e}"))?;
        let mut versions = BTreeSet::new();
        for entry in &file.keys {
            let version = entry.version;
            OffsetDateTime::parse(&entry.created, &Rfc3339).map_err(|e| format!("created of version {version}: {e}"))?;
            if version == 0 {
                return Err("versions count from 1".into());
            }
            // A key of one repeated byte was never made by a random generator.
            if entry.secret.0.iter().all(|b| *b == entry.secret.0[0]) {
                return Err(format!("version {version} is no random key"));
            }
            if !versions.insert(version) {
                return Err(format!("version {version} is there twice"));
            }
        }
        if !versions.contains(file.primary.get_ref()) {
            return Err(format!("the primary version {} is not among the keys", file.primary.get_ref()));
        }
        Ok(file)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    version: u32,
    created: String,
    secret: HexKey,
}

/// 64 hex digits, decoded straight into a wiping buffer.
struct HexKey(Zeroizing<[u8; 32]>);

impl<'de> Deserialize<'de> for HexKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = HexKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key of 64 hex digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HexKey, E> {
                let mut key = Zeroizing::new([0; 32]);
                // The decoder demands an output of exactly the right length, so the length comes first.
                if text.len() != 64 || data_encoding::HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut *key).is_err() {
                    return Err(E::custom("a key has 64 hex digits"));
                }
                Ok(HexKey(key))
            }

            fn visit_string<E: serde::de::Error>(self, mut text: String) -> Result<HexKey, E> {
                let key = self.visit_str(&text);
                text.zeroize();
                key
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Hides what could be a key: a secret in the wrong field is quoted by whoever refuses it there.
fn mask(reason: &str) -> String {
    let mut masked = String::with_capacity(reason.len());
    let mut rest = reason;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let run = rest[start..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(rest.len(), |len| start + len);
        masked.push_str(&rest[..start]);
        masked.push_str(if run - start > WORD_LEN_MAX { "(hidden)" } else { &rest[start..run] });
        rest = &rest[run..];
    }
    masked.push_str(rest);
    masked
}

/// The moment, in seconds, as the file writes it.
fn today() -> String {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("zero is a nanosecond");
    now.format(&Rfc3339).expect("today can be written in RFC 3339")
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(data_encoding::HEXLOWER.encode(bytes))
}

/// Reads a file that only its owner may read. Mode and content come from the same open file.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let io = |doing| move |source| KeyringError::Io { path: path.into(), doing, source };
    let open_failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => KeyringError::Missing(path.into()),
        _ => io("opened")(e),
    };
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(open_failed)?.is_file() {
        return Err(KeyringError::NotAFile(path.into()));
    }
    let mut file = File::open(path).map_err(open_failed)?;
    let meta = file.metadata().map_err(io("examined"))?;
    if !meta.is_file() {
        return Err(KeyringError::NotAFile(path.into()));
    }
    let mode = meta.mode() & 0o7777;
    // As for every secret file: root's own may let the group of an unprivileged service read it (config::check_private_file says why).
    let forbidden = if meta.uid() == 0 && !rustix::process::geteuid().is_root() { 0o037 } else { 0o077 };
    if mode & forbidden != 0 {
        return Err(KeyringError::TooOpen { path: path.into(), mode });
    }
    if meta.len() > FILE_LEN_MAX {
        return Err(KeyringError::TooLarge(path.into()));
    }
    // Room for all of it at once: a growing buffer would leave unwiped copies behind.
    let len = usize::try_from(meta.len()).expect("FILE_LEN_MAX fits");
    let mut text = Zeroizing::new(vec![0; len]);
    file.read_exact(&mut text).map_err(io("read"))?;
    Ok(text)
}

/// Writes a new file beside its place and gives it the name only when it is whole and on disk. The link fails where a file of that
/// name exists, which a rename would replace.
fn write_new(path: &Path, content: &[u8]) -> Result<(), KeyringError> {
    let io = |doing| move |source| KeyringError::Io { path: path.into(), doing, source };
    let temporary = beside(path)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io("created"))?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(io("written"))?;
        fs::hard_link(&temporary, path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => KeyringError::Exists(path.into()),
            _ => io("put in place")(e),
        })
    })();
    // The second name goes away whether or not the first one was made; if it was never made, there is nothing to remove.
    let _ = fs::remove_file(&temporary);
    written?;
    File::open(folder_of(path)).and_then(|d| d.sync_all()).map_err(io("synced to disk"))
}

/// A name beside a file that nobody uses.
fn beside(path: &Path) -> Result<PathBuf, KeyringError> {
    let name = path.file_name().ok_or_else(|| KeyringError::NotAFile(path.into()))?;
    let mut nonce = [0; 8];
    OsRandom.fill(&mut nonce).map_err(KeyringError::NoRandomness)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", *hex(&nonce)));
    Ok(folder_of(path).join(temporary))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
