//! `ciphergate inspect`: what an object in the store is, without its key; and what its footer says, with it. Never any plaintext.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::Serialize;

use super::report::name;
use crate::backend::ObjectName;
use crate::format::{ChecksumAlgorithm, ChecksumKind, End, Envelope, Footer, Layout, RewrapRecord, SealedLen};
use crate::keys::Label;
use crate::ops::at_rest::Found;
use crate::ops::{Error, Gateway, Nature, chain};

/// Of everything that is long and random, so many bytes are shown: enough to tell two apart.
const PREFIX: usize = 8;

/// What an object turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It has an envelope and a length that goes with it. Whether its bytes are good only `verify` says.
    Sealed,
    /// It has no envelope.
    Plaintext,
    /// Its envelope, its length or its end is not one that a sealed object can have.
    Malformed,
}

/// Everything that can be said of one object. Field names are for programs and stay.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub command: &'static str,
    /// None of a file.
    pub bucket: Option<String>,
    pub key: Option<String>,
    pub version_id: Option<String>,
    /// The file, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    pub kind: Kind,
    /// Why it is malformed.
    pub problem: Option<String>,
    pub etag: Option<String>,
    pub stored_bytes: u64,
    pub plain_bytes: Option<u64>,
    pub overhead_bytes: Option<u64>,
    pub envelope: Option<EnvelopeFacts>,
    pub end: Option<EndFacts>,
    pub footer: Option<FooterFacts>,
}

#[derive(Debug, Serialize)]
pub struct EnvelopeFacts {
    pub version: u8,
    pub bytes: usize,
    pub suite: &'static str,
    pub layout: &'static str,
    /// `per-object`, `shared`, or `customer` for the client's own key.
    pub mode: &'static str,
    /// The key service's context has a hash in place of the key name.
    pub hashed_context: bool,
    pub label: String,
    /// Whether the configuration has a key of that label; none where no configuration was asked.
    pub label_configured: Option<bool>,
    /// The label in the rewrap record that opens the version in the envelope's place; only looked for where the key is not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrapped_label: Option<String>,
    pub salt_prefix: String,
    pub commit_prefix: String,
    pub kms_blob_bytes: usize,
}

/// What the end marker says in the clear. Nobody vouches for it before the footer is open.
#[derive(Debug, Serialize)]
pub struct EndFacts {
    pub parts: u32,
    pub footer_bytes: u64,
    pub checksum_bytes: u8,
    /// The algorithms whose checksums have that length: which of them it is, only the footer says.
    pub checksum_algorithms: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct FooterFacts {
    /// Of the write, or of the creation of the upload, in milliseconds since 1970.
    pub time_ms: u64,
    pub checksum: Option<ChecksumFacts>,
    pub crc64nvme: Option<String>,
    pub md5: Option<String>,
    pub parts: Vec<PartFacts>,
}

#[derive(Debug, Serialize)]
pub struct ChecksumFacts {
    pub algorithm: &'static str,
    /// `FULL_OBJECT` or `COMPOSITE`.
    pub kind: &'static str,
    /// In hex; a composite one follows from those of the parts.
    pub value: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct PartFacts {
    pub number: u16,
    pub plain_bytes: u64,
    /// In hex.
    pub checksum: Option<String>,
}

/// Looks at one object. `unlock`: opens its footer, for which the key service is asked.
///
/// # Errors
/// The store's; with `unlock`, whatever keeps the footer shut.
pub async fn inspect(
    gateway: &Gateway,
    object: &ObjectName,
    version_id: Option<&str>,
    unlock: bool,
) -> Result<Inspection, Error> {
    let at = gateway.at_rest(object, version_id).await?;
    let mut told = Inspection::of(at.stored_len, &at.envelope, &|label| Some(gateway.keys().has(label)));
    told.bucket = Some(object.bucket.clone());
    told.key = Some(object.key.clone());
    told.version_id = at.version_id.clone();
    told.etag = Some(String::from_utf8_lossy(at.etag.as_bytes()).trim_matches('"').to_owned());
    if told.kind != Kind::Sealed {
        return Ok(told);
    }
    if let (Found::Envelope(own), Some(facts)) = (&at.envelope, &mut told.envelope)
        && facts.label_configured == Some(false)
        && !own.flags().customer
    {
        // That there is a record which is not the version's own is the record's trouble, and not for here.
        let record = match gateway.record_at(&at, own).await {
            Err(error) if error.nature() == Nature::Damaged => None,
            record => record?,
        };
        facts.rewrapped_label = record.map(|record| record.label().to_string());
    }
    match gateway.end_of(&at).await {
        Ok(end) => told.end = Some(EndFacts::of(&end)),
        Err(error) if error.nature() == Nature::Damaged => {
            told.kind = Kind::Malformed;
            told.problem = Some(chain(&error));
            return Ok(told);
        }
        Err(error) => return Err(error),
    }
    if unlock {
        told.footer = Some(FooterFacts::of(&*gateway.footer_of(&at).await?));
    }
    Ok(told)
}

/// Looks at a file that holds what the store has of an object. `envelope` is the text of its metadata entry, or its rewrap record.
///
/// # Errors
/// A file that cannot be read.
pub fn inspect_file(path: &Path, envelope: &[u8]) -> io::Result<Inspection> {
    let mut file = File::open(path)?;
    let stored_len = file.seek(SeekFrom::End(0))?;
    let envelope = match RewrapRecord::parse(envelope) {
        Ok(record) => Ok(record.envelope),
        Err(_) => Envelope::parse(String::from_utf8_lossy(envelope).trim()),
    };
    let envelope = envelope.map_or_else(Found::Malformed, Found::Envelope);
    let mut told = Inspection::of(stored_len, &envelope, &|_| None);
    told.file = Some(path.to_owned());
    let (Some(plain_len), Found::Envelope(envelope)) = (SealedLen::new(stored_len).plain(), &envelope) else { return Ok(told) };
    let mut last = [0; End::LEN as usize];
    file.seek(SeekFrom::Start(stored_len - End::LEN))?;
    file.read_exact(&mut last)?;
    match End::parse(&last, plain_len, envelope.flags().layout()) {
        Ok(end) => told.end = Some(EndFacts::of(&end)),
        Err(error) => {
            told.kind = Kind::Malformed;
            told.problem = Some(error.to_string());
        }
    }
    Ok(told)
}

impl Inspection {
    fn of(stored_len: u64, envelope: &Found, has_label: &dyn Fn(&Label) -> Option<bool>) -> Self {
        let plain_bytes = SealedLen::new(stored_len).plain().map(|len| len.get());
        let (kind, problem, envelope) = match envelope {
            Found::Nothing => (Kind::Plaintext, None, None),
            Found::Malformed(error) => (Kind::Malformed, Some(format!("the envelope: {error}")), None),
            Found::Envelope(envelope) => {
                let facts = Some(EnvelopeFacts::of(envelope, has_label(envelope.label())));
                match plain_bytes {
                    Some(_) => (Kind::Sealed, None, facts),
                    None => (Kind::Malformed, Some("no sealed object has this length".to_owned()), facts),
                }
            }
        };
        let plain_bytes = plain_bytes.filter(|_| kind == Kind::Sealed);
        Self {
            command: "inspect",
            bucket: None,
            key: None,
            version_id: None,
            file: None,
            kind,
            problem,
            etag: None,
            stored_bytes: stored_len,
            plain_bytes,
            overhead_bytes: plain_bytes.map(|plain| stored_len - plain),
            envelope,
            end: None,
            footer: None,
        }
    }
}

impl EnvelopeFacts {
    fn of(envelope: &Envelope, label_configured: Option<bool>) -> Self {
        let flags = envelope.flags();
        Self {
            version: Envelope::VERSION,
            bytes: envelope.to_bytes().len(),
            suite: envelope.suite().name(),
            layout: match flags.layout() {
                Layout::Single => "single",
                Layout::Multipart => "multipart",
            },
            mode: match (flags.customer, flags.shared) {
                (true, _) => "customer",
                (false, true) => "shared",
                (false, false) => "per-object",
            },
            hashed_context: flags.hashed_context,
            label: envelope.label().to_string(),
            label_configured,
            rewrapped_label: None,
            salt_prefix: HEXLOWER.encode(&envelope.salt()[..PREFIX]),
            commit_prefix: HEXLOWER.encode(&envelope.commit()[..PREFIX]),
            kms_blob_bytes: envelope.kms_blob().len(),
        }
    }
}

impl EndFacts {
    fn of(end: &End) -> Self {
        let len = usize::from(end.checksum_len());
        let algorithms = ChecksumAlgorithm::ALL.into_iter().filter(|algorithm| algorithm.len() == len);
        Self {
            parts: end.entries(),
            footer_bytes: end.sealed_len() + End::LEN,
            checksum_bytes: end.checksum_len(),
            checksum_algorithms: algorithms.map(ChecksumAlgorithm::name).collect(),
        }
    }
}

impl FooterFacts {
    fn of(footer: &Footer) -> Self {
        let checksum = footer.checksum.as_ref().map(|sum| ChecksumFacts {
            algorithm: sum.algorithm().name(),
            kind: match sum.kind() {
                ChecksumKind::Composite => "COMPOSITE",
                ChecksumKind::FullObject => "FULL_OBJECT",
            },
            value: (!sum.value().is_empty()).then(|| HEXLOWER.encode(sum.value())),
        });
        let part = |entry: &crate::format::TableEntry| PartFacts {
            number: entry.number,
            plain_bytes: entry.plain_len.get(),
            checksum: (!entry.checksum.is_empty()).then(|| HEXLOWER.encode(entry.checksum.as_slice())),
        };
        Self {
            time_ms: footer.time_ms,
            checksum,
            crc64nvme: footer.crc64.map(|sum| format!("{sum:016x}")),
            md5: footer.md5.map(|sum| HEXLOWER.encode(&sum)),
            parts: footer.parts.iter().map(part).collect(),
        }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Sealed => "sealed",
            Kind::Plaintext => "plaintext: it has no envelope",
            Kind::Malformed => "malformed",
        };
        match (&self.file, &self.bucket, &self.key) {
            (None, Some(bucket), Some(key)) => writeln!(f, "s3://{bucket}/{}", name(key, self.version_id.as_deref()))?,
            (file, ..) => writeln!(f, "{}", name(&file.as_deref().unwrap_or(Path::new("-")).to_string_lossy(), None))?,
        }
        writeln!(f, "  kind       {kind}{}", self.problem.as_deref().map_or(String::new(), |problem| format!(": {problem}")))?;
        write!(f, "  stored     {} bytes", self.stored_bytes)?;
        if let (Some(plain), Some(overhead)) = (self.plain_bytes, self.overhead_bytes) {
            write!(f, ", plaintext {plain}, overhead {overhead}")?;
        }
        writeln!(f)?;
        if let Some(etag) = &self.etag {
            writeln!(f, "  etag       {etag}")?;
        }
        if let Some(envelope) = &self.envelope {
            let EnvelopeFacts { version, bytes, suite, layout, mode, label, kms_blob_bytes, .. } = envelope;
            let hashed = if envelope.hashed_context { ", hashed key names" } else { "" };
            let known = match (*mode, envelope.label_configured) {
                ("customer", _) => " (the client's own key)".to_owned(),
                (_, Some(true) | None) => String::new(),
                (_, Some(false)) => match &envelope.rewrapped_label {
                    Some(label) => format!(" (not in the configuration; a rewrap record has it under {label})"),
                    None => " (not in the configuration)".to_owned(),
                },
            };
            writeln!(f, "  envelope   version {version}, {bytes} bytes, {suite}, layout {layout}")?;
            writeln!(f, "  key        {label}{known}, mode {mode}{hashed}, wrapped key of {kms_blob_bytes} bytes")?;
            writeln!(f, "  salt       {}..", envelope.salt_prefix)?;
            writeln!(f, "  commit     {}..", envelope.commit_prefix)?;
        }
        if let Some(end) = &self.end {
            let sum = match end.checksum_bytes {
                0 => "no client checksum".to_owned(),
                bytes => format!("client checksum of {bytes} bytes ({})", end.checksum_algorithms.join(" or ")),
            };
            writeln!(f, "  end        {} parts, footer of {} bytes, {sum}", end.parts, end.footer_bytes)?;
        }
        let Some(footer) = &self.footer else { return Ok(()) };
        writeln!(f, "  written    {} ms since 1970", footer.time_ms)?;
        if let Some(ChecksumFacts { algorithm, kind, value }) = &footer.checksum {
            writeln!(f, "  checksum   {algorithm} {kind} {}", value.as_deref().unwrap_or("(of the parts' checksums)"))?;
        }
        for (what, value) in [("crc64nvme", &footer.crc64nvme), ("md5", &footer.md5)] {
            if let Some(value) = value {
                writeln!(f, "  {what:<10} {value}")?;
            }
        }
        for PartFacts { number, plain_bytes, checksum } in &footer.parts {
            writeln!(f, "  part {number:<5} {plain_bytes} bytes {}", checksum.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }
}
