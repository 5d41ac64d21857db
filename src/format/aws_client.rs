//! What AWS's own S3 Encryption Client writes beside an object: how it is sealed, and under which wrapped key. Formats V2 and V3 with a KMS
//! key and AES-256-GCM; everything else that the client knows or knew is named and refused. docs/AWS_ENCRYPTION_CLIENT.md has the formats.
//!
//! The fields come from the object's user metadata, from its instruction file, or from both (V3). They are JSON for their context only,
//! which the caller parses.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use super::KeyContext;
use crate::crypto::AwsSeal;

/// Fields by their names, which are those of user metadata without `x-amz-meta-`.
pub type Fields = BTreeMap<String, String>;

/// Appended to an object's key, the key of its instruction file.
pub const INSTRUCTION_SUFFIX: &str = ".instruction";

const V1_KEY: &str = "x-amz-key";
const V2_KEY: &str = "x-amz-key-v2";
const V2_IV: &str = "x-amz-iv";
const V2_CIPHER: &str = "x-amz-cek-alg";
const V2_WRAP: &str = "x-amz-wrap-alg";
const V2_CONTEXT: &str = "x-amz-matdesc";
const V2_TAG_BITS: &str = "x-amz-tag-len";
const V3_KEY: &str = "x-amz-3";
const V3_SUITE: &str = "x-amz-c";
const V3_WRAP: &str = "x-amz-w";
const V3_COMMITMENT: &str = "x-amz-d";
const V3_MESSAGE_ID: &str = "x-amz-i";
const V3_CONTEXT: &str = "x-amz-t";
const V3_DESCRIPTION: &str = "x-amz-m";
/// In instruction files, and of the plaintext's length: neither says anything about the key.
const ASIDE: [&str; 2] = ["x-amz-crypto-instr-file", "x-amz-unencrypted-content-length"];

const V1_V2: [&str; 7] = [V1_KEY, V2_KEY, V2_IV, V2_CIPHER, V2_WRAP, V2_CONTEXT, V2_TAG_BITS];
const V3: [&str; 7] = [V3_KEY, V3_SUITE, V3_WRAP, V3_COMMITMENT, V3_MESSAGE_ID, V3_CONTEXT, V3_DESCRIPTION];
/// What V3 keeps beside the object even where the key is in the instruction file.
const V3_WITH_OBJECT: [&str; 3] = [V3_SUITE, V3_COMMITMENT, V3_MESSAGE_ID];

/// The context's own entry for the cipher, without which the client opens nothing, and we neither.
const CIPHER_IN_CONTEXT: &str = "aws:x-amz-cek-alg";

/// The client's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsFormat {
    V2,
    V3,
}

impl AwsFormat {
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 => "V2",
            Self::V3 => "V3",
        }
    }

    /// What the context says of the cipher.
    fn cipher(self) -> &'static str {
        match self {
            Self::V2 => "AES/GCM/NoPadding",
            Self::V3 => "115",
        }
    }
}

/// Why fields are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AwsRefusal {
    /// The client may have written it, and it is not read here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The client never writes this.
    #[error("{0}")]
    Malformed(&'static str),
}

/// What user metadata says of an object.
#[derive(Debug, PartialEq, Eq)]
pub enum AwsClaim {
    /// Nothing: if the client wrote it, everything is in an instruction file.
    Nothing,
    /// The key is in an instruction file.
    KeyElsewhere,
    Whole(AwsObject),
}

/// How an object is sealed, as its writer says; nothing of it is proved before the object opens.
#[derive(Debug, PartialEq, Eq)]
pub struct AwsObject {
    pub format: AwsFormat,
    pub seal: AwsSeal,
    /// The data key as KMS wrapped it.
    pub wrapped_key: Vec<u8>,
    /// The encryption context, a JSON object of texts.
    pub context: String,
}

impl AwsObject {
    /// Reads an object's user metadata.
    ///
    /// # Errors
    /// What the client writes and nobody here reads, and what it never writes.
    pub fn of_metadata(metadata: &Fields) -> Result<AwsClaim, AwsRefusal> {
        let here: Vec<&str> = known(metadata).collect();
        if here.is_empty() {
            return Ok(AwsClaim::Nothing);
        }
        if here.iter().all(|name| V3_WITH_OBJECT.contains(name)) {
            return Ok(AwsClaim::KeyElsewhere);
        }
        Self::of_fields(metadata).map(AwsClaim::Whole)
    }

    /// Reads an instruction file with what stands beside the object. `None` when it is no such file.
    ///
    /// # Errors
    /// As [`AwsObject::of_metadata`]; and every field has one place, so that the file cannot speak against the object.
    pub fn of_instruction(metadata: &Fields, file: &Fields) -> Result<Option<Self>, AwsRefusal> {
        if known(file).next().is_none() {
            return Ok(None);
        }
        if file.keys().any(|name| !is_of_client(name)) {
            return Err(AwsRefusal::Malformed("an instruction file with more than the client's own fields"));
        }
        if V3_WITH_OBJECT.iter().any(|name| file.contains_key(*name)) {
            return Err(AwsRefusal::Malformed("an instruction file with what stands beside the object"));
        }
        let beside: Vec<&str> = known(metadata).collect();
        if beside.iter().any(|name| file.contains_key(*name) || !V3_WITH_OBJECT.contains(name)) {
            return Err(AwsRefusal::Malformed("an instruction file beside an object that says the same"));
        }
        let mut all: Fields = file.clone();
        all.extend(beside.into_iter().map(|name| (name.to_owned(), metadata[name].clone())));
        Self::of_fields(&all).map(Some)
    }

    fn of_fields(fields: &Fields) -> Result<Self, AwsRefusal> {
        let is_v3 = fields.contains_key(V3_KEY);
        if [V1_KEY, V2_KEY, V3_KEY].iter().filter(|name| fields.contains_key(**name)).count() != 1 {
            return Err(AwsRefusal::Malformed("not exactly one wrapped key"));
        }
        let foreign: &[&str] = if is_v3 { &V1_V2 } else { &V3 };
        if foreign.iter().any(|name| fields.contains_key(*name)) {
            return Err(AwsRefusal::Malformed("fields of two formats"));
        }
        match is_v3 {
            true => Self::v3(fields),
            false => Self::v2(fields),
        }
    }

    fn v2(fields: &Fields) -> Result<Self, AwsRefusal> {
        if fields.contains_key(V1_KEY) {
            return Err(AwsRefusal::Unsupported(
                "The object has the format V1 of AWS's encryption client, which is not authenticated.",
            ));
        }
        match text(fields, V2_CIPHER)? {
            "AES/GCM/NoPadding" => {}
            "AES/CBC/PKCS5Padding" => {
                return Err(AwsRefusal::Unsupported(
                    "The object was encrypted with AES-CBC by AWS's encryption client, which is not authenticated.",
                ));
            }
            _ => return Err(AwsRefusal::Malformed("an unknown cipher")),
        }
        match text(fields, V2_WRAP)? {
            "kms+context" => {}
            "kms" => {
                return Err(AwsRefusal::Unsupported(
                    "The object's key was wrapped by AWS's encryption client in its old way (kms).",
                ));
            }
            "AES/GCM" | "AESWrap" | "RSA-OAEP-SHA1" | "RSA/ECB/OAEPWithSHA-256AndMGF1Padding" => return Err(NO_KMS),
            _ => return Err(AwsRefusal::Malformed("an unknown way to wrap keys")),
        }
        if fields.get(V2_TAG_BITS).is_some_and(|bits| bits != "128") {
            return Err(AwsRefusal::Malformed("a tag of another length"));
        }
        let seal = AwsSeal::Plain { nonce: bytes(fields, V2_IV)? };
        let (wrapped_key, context) = (decoded(fields, V2_KEY)?, text(fields, V2_CONTEXT)?.to_owned());
        Ok(Self { format: AwsFormat::V2, seal, wrapped_key, context })
    }

    fn v3(fields: &Fields) -> Result<Self, AwsRefusal> {
        if text(fields, V3_SUITE)? != "115" {
            return Err(AwsRefusal::Malformed("an unknown algorithm suite"));
        }
        match text(fields, V3_WRAP)? {
            "12" => {}
            "02" | "22" => return Err(NO_KMS),
            _ => return Err(AwsRefusal::Malformed("an unknown way to wrap keys")),
        }
        let seal = AwsSeal::Committing { message_id: bytes(fields, V3_MESSAGE_ID)?, commitment: bytes(fields, V3_COMMITMENT)? };
        let (wrapped_key, context) = (decoded(fields, V3_KEY)?, text(fields, V3_CONTEXT)?.to_owned());
        Ok(Self { format: AwsFormat::V3, seal, wrapped_key, context })
    }

    /// The key service's context, out of the parsed [`AwsObject::context`].
    ///
    /// # Errors
    /// A context that does not name the cipher as the client's does. No context of ours does, so no key of ours opens in this way.
    pub fn key_context(&self, parsed: Fields) -> Result<KeyContext, AwsRefusal> {
        match parsed.get(CIPHER_IN_CONTEXT) {
            Some(cipher) if cipher == self.format.cipher() => Ok(KeyContext::of_pairs(parsed)),
            _ => Err(AwsRefusal::Malformed("a context that does not name the cipher")),
        }
    }
}

const NO_KMS: AwsRefusal =
    AwsRefusal::Unsupported("The object's key was wrapped by AWS's encryption client with a key that is not in KMS.");

/// Whether a metadata entry, named without `x-amz-meta-`, is the client's.
pub fn is_of_client(name: &str) -> bool {
    V1_V2.contains(&name) || V3.contains(&name) || ASIDE.contains(&name)
}

/// The names that say something of the key.
fn known(fields: &Fields) -> impl Iterator<Item = &str> {
    fields.keys().map(String::as_str).filter(|name| is_of_client(name) && !ASIDE.contains(name))
}

fn text<'a>(fields: &'a Fields, name: &'static str) -> Result<&'a str, AwsRefusal> {
    fields.get(name).map(String::as_str).ok_or(AwsRefusal::Malformed("a field is missing"))
}

fn decoded(fields: &Fields, name: &'static str) -> Result<Vec<u8>, AwsRefusal> {
    BASE64.decode(text(fields, name)?.as_bytes()).map_err(|_| AwsRefusal::Malformed("a field is not Base64"))
}

fn bytes<const N: usize>(fields: &Fields, name: &'static str) -> Result<[u8; N], AwsRefusal> {
    decoded(fields, name)?.try_into().map_err(|_| AwsRefusal::Malformed("a field of another length"))
}
