//! The published vectors (FORMAT section 12): tests/vectors/*.json against this implementation, and against the hashes of the text.

use std::path::PathBuf;
use std::sync::Arc;

use ciphergate::crypto::{ObjectKeys, Suite};
use ciphergate::format::layout::{chunked_len, part_plain_len, part_sealed_len};
use ciphergate::format::{
    ChecksumAlgorithm, ChecksumBytes, ChecksumKind, Envelope, EnvelopeFlags, Footer, KeyContext, Label, Layout, ObjectChecksum,
    Receipt, SealedLen, SealedRecord, UploadName, UploadRecord, WrapInput, cache_key, split_part_etag, upload_base_name,
};
use ciphergate::stream::{FooterFacts, seal_object};
use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::*;

pub const SCOPE: &str = "bucket-a";
pub const KEY: &str = "dir/object.bin";
pub const LABEL: &str = "k1";
const PART_ETAG: &str = "0123456789abcdef0123456789abcdef";
/// Objects up to this length are in the files in full, longer ones by their hash, head and tail.
const FULL_MAX: usize = 2048;
const HEAD: usize = 1024;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

pub fn load(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

pub fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

pub fn suite(value: &Value) -> Suite {
    Suite::from_byte(value.as_u64().unwrap() as u8).unwrap()
}

pub fn flags_of(byte: u64) -> EnvelopeFlags {
    EnvelopeFlags {
        multipart: byte & 1 != 0,
        shared: byte & 2 != 0,
        hashed_context: byte & 4 != 0,
        customer: byte & 8 != 0,
        sealed_metadata: byte & 16 != 0,
    }
}

fn envelope(suite: Suite, flags: EnvelopeFlags) -> (Envelope, ObjectKeys) {
    let input = WrapInput {
        suite,
        flags,
        label: Label::new(LABEL).unwrap(),
        salt: ascending(0x40),
        kms_blob: vec![0xab; 184],
        scope: SCOPE,
        key: KEY,
    };
    Envelope::wrap(&kek(0), input, &data_key(0x20)).unwrap()
}

fn checksum(algorithm: u8, kind: u8) -> Option<ObjectChecksum> {
    let algorithm = ChecksumAlgorithm::from_byte(algorithm).unwrap()?;
    Some(match ChecksumKind::from_byte(kind).unwrap()? {
        ChecksumKind::Composite => ObjectChecksum::composite(algorithm),
        ChecksumKind::FullObject => {
            let value: Vec<u8> = (0..algorithm.len() as u8).collect();
            ObjectChecksum::full_object(algorithm, &value).unwrap()
        }
    })
}

/// The inputs of an object vector: what the generator and the reader of the files have in common.
struct Case {
    suite: Suite,
    /// Plaintext length of a single object; parts otherwise.
    single: Option<usize>,
    parts: Vec<Part>,
    checksum: Option<ObjectChecksum>,
    /// Whether the footer records the internal checksum and the MD5.
    internal: Option<(u64, [u8; 16])>,
}

impl Case {
    fn single(suite: Suite, len: usize, algorithm: u8, kind: u8) -> Self {
        Self { suite, single: Some(len), parts: Vec::new(), checksum: checksum(algorithm, kind), internal: None }
    }

    fn multipart(suite: Suite, parts: &[(u16, usize, bool)], algorithm: u8, kind: u8) -> Self {
        let checksum = checksum(algorithm, kind);
        let len = checksum.map_or(0, |checksum| checksum.algorithm().len());
        let parts = parts.iter().map(|&(number, plain_len, unbound)| Part {
            unbound,
            checksum: ChecksumBytes::new(&vec![number as u8; len]).unwrap(),
            ..Part::new(number, pattern(plain_len))
        });
        Self { suite, single: None, parts: parts.collect(), checksum, internal: None }
    }

    /// With the internal checksum and an MD5 in the footer, as the gateway writes them.
    fn with_internal(mut self) -> Self {
        self.internal = Some((crc_fast::crc64_nvme(&self.plain()), ascending(0x70)));
        self
    }

    fn layout(&self) -> Layout {
        if self.single.is_some() { Layout::Single } else { Layout::Multipart }
    }

    fn plain(&self) -> Vec<u8> {
        self.single.map_or_else(|| plain_of(&self.parts), pattern)
    }

    fn footer(&self) -> Footer {
        let plain = self.plain().len() as u64;
        Footer {
            plain_len: plain_len(plain),
            crc64: self.internal.map(|internal| internal.0),
            md5: self.internal.map(|internal| internal.1),
            ..footer_of(&self.parts, self.checksum)
        }
    }

    fn object(&self, keys: &Arc<ObjectKeys>) -> Vec<u8> {
        let Some(len) = self.single else {
            let body = self.parts.iter().flat_map(|part| part.seal(keys)).collect();
            return finish(keys, body, &self.footer());
        };
        let facts = FooterFacts { checksum: self.checksum, md5: self.internal.map(|internal| internal.1), time_ms: TIME_MS };
        let body = seal_object(pieces(&pattern(len), 4321), Arc::clone(keys), plain_len(len as u64), Box::new(Accept(facts)));
        let mut object = body_of(body);
        if self.internal.is_none() {
            // The sealer always records the internal checksum; these vectors do without.
            object.truncate(chunked_len(plain_len(len as u64)).get() as usize);
            object = finish(keys, object, &self.footer());
        }
        object
    }

    fn from_json(value: &Value) -> Self {
        let algorithm = value["checksum_algorithm"].as_u64().unwrap() as u8;
        let kind = value["checksum_type"].as_u64().unwrap() as u8;
        let single = match value["layout"].as_str().unwrap() {
            "single" => Some(value["plain_len"].as_u64().unwrap() as usize),
            _ => None,
        };
        let parts = value["parts"].as_array().unwrap().iter().map(|part| Part {
            number: part["number"].as_u64().unwrap() as u16,
            part_id: hex(&part["part_id"]).try_into().unwrap(),
            plain: pattern(part["plain_len"].as_u64().unwrap() as usize),
            unbound: part["unbound"].as_bool().unwrap(),
            checksum: ChecksumBytes::new(&hex(&part["checksum"])).unwrap(),
        });
        let checksum = ChecksumAlgorithm::from_byte(algorithm).unwrap().map(|algorithm| {
            match ChecksumKind::from_byte(kind).unwrap().unwrap() {
                ChecksumKind::Composite => ObjectChecksum::composite(algorithm),
                ChecksumKind::FullObject => ObjectChecksum::full_object(algorithm, &hex(&value["checksum_value"])).unwrap(),
            }
        });
        let internal = (!value["crc64"].is_null())
            .then(|| (u64::from_be_bytes(hex(&value["crc64"]).try_into().unwrap()), hex(&value["md5"]).try_into().unwrap()));
        Self { suite: suite(&value["suite"]), single, parts: parts.collect(), checksum, internal }
    }

    fn to_json(&self, name: &str) -> Value {
        let keys = object_keys(self.suite);
        let object = self.object(&keys);
        let (before, end) = object.split_last_chunk::<32>().unwrap();
        let sealed_len = u32::from_be_bytes(end[12..16].try_into().unwrap()) as usize;
        let sealed = &before[before.len() - sealed_len..];
        let mut opened = sealed.to_vec();
        let footer = keys.footer_key(end).open_in_place(&mut opened).unwrap();
        let parts = self.parts.iter().map(|part| {
            json!({
                "number": part.number,
                "part_id": HEXLOWER.encode(&part.part_id),
                "plain_len": part.plain.len(),
                "unbound": part.unbound,
                "checksum": HEXLOWER.encode(part.checksum.as_slice()),
            })
        });
        let parts: Vec<_> = parts.collect();
        let mut value = json!({
            "name": name,
            "suite": self.suite.byte(),
            "layout": if self.single.is_some() { "single" } else { "multipart" },
            "plain_len": self.plain().len(),
            "parts": parts,
            "time_ms": TIME_MS,
            "checksum_algorithm": self.checksum.map_or(0, |checksum| checksum.algorithm().byte()),
            "checksum_type": self.checksum.map_or(0, |checksum| checksum.kind().byte()),
            "checksum_value": HEXLOWER.encode(self.checksum.as_ref().map_or(&[], |checksum| checksum.value())),
            "crc64": self.internal.map(|(crc64, _)| HEXLOWER.encode(&crc64.to_be_bytes())),
            "md5": self.internal.map(|(_, md5)| HEXLOWER.encode(&md5)),
            "footer_plain": HEXLOWER.encode(footer),
            "footer_sealed": HEXLOWER.encode(sealed),
            "end": HEXLOWER.encode(end),
            "object_len": object.len(),
            "object_sha256": sha256(&object),
        });
        if object.len() <= FULL_MAX {
            value["object"] = HEXLOWER.encode(&object).into();
        } else {
            value["object_head"] = HEXLOWER.encode(&object[..HEAD]).into();
            value["object_tail"] = HEXLOWER.encode(&object[object.len() - HEAD..]).into();
        }
        value
    }
}

const THREE_PARTS: [(u16, usize, bool); 3] = [(1, 5_242_880, false), (2, 5_242_881, false), (7, 3, false)];
const THREE_PARTS_TWO_UNBOUND: [(u16, usize, bool); 3] = [(1, 5_242_880, true), (2, 5_242_881, true), (7, 3, false)];

fn cases() -> Vec<(&'static str, Case)> {
    use Suite::{Aes256Gcm as Aes, ChaCha20Poly1305 as ChaCha};
    vec![
        ("suite1-single-0", Case::single(ChaCha, 0, 0, 0)),
        ("suite1-single-1", Case::single(ChaCha, 1, 0, 0)),
        ("suite1-single-65536", Case::single(ChaCha, 65_536, 0, 0)),
        ("suite1-single-65537-crc64nvme", Case::single(ChaCha, 65_537, 3, 2)),
        ("suite1-single-1000000-sha512", Case::single(ChaCha, 1_000_000, 6, 2)),
        ("suite1-single-100-internal", Case::single(ChaCha, 100, 0, 0).with_internal()),
        ("suite1-single-65537-internal-sha256", Case::single(ChaCha, 65_537, 5, 2).with_internal()),
        ("suite1-multipart-three-parts-crc64nvme", Case::multipart(ChaCha, &THREE_PARTS, 3, 2)),
        ("suite1-multipart-two-unbound", Case::multipart(ChaCha, &THREE_PARTS_TWO_UNBOUND, 0, 0)),
        ("suite1-multipart-one-empty-part", Case::multipart(ChaCha, &[(1, 0, false)], 0, 0)),
        ("suite1-multipart-empty-last-part-sha256", Case::multipart(ChaCha, &[(3, 5_242_880, false), (4, 0, false)], 5, 1)),
        ("suite1-multipart-one-part-internal-md5", Case::multipart(ChaCha, &[(10_000, 70, false)], 7, 2).with_internal()),
        ("suite2-single-0", Case::single(Aes, 0, 0, 0)),
        ("suite2-single-1000000-sha512", Case::single(Aes, 1_000_000, 6, 2)),
        ("suite2-single-100-internal", Case::single(Aes, 100, 0, 0).with_internal()),
        ("suite2-multipart-three-parts-crc64nvme", Case::multipart(Aes, &THREE_PARTS, 3, 2)),
        ("suite2-multipart-two-unbound", Case::multipart(Aes, &THREE_PARTS_TWO_UNBOUND, 0, 0)),
    ]
}

/// PRK and Kmac, which the crate does not show: derived here from the text of FORMAT section 4.
pub fn roots(suite: Suite, dek: &[u8]) -> ([u8; 32], [u8; 32]) {
    let (prk, expander) = Hkdf::<Sha256>::extract(Some(&[b"cg1 object".as_slice(), &[suite.byte()]].concat()), dek);
    let mut kmac = [0; 32];
    expander.expand(b"mac", &mut kmac).unwrap();
    (prk.into(), kmac)
}

fn keys_json() -> Value {
    let suites = SUITES.map(|suite| {
        let envelopes = [0u64, 1, 3, 5].map(|flags| {
            let (envelope, keys) = envelope(suite, flags_of(flags));
            assert_eq!(&keys.commit(), envelope.commit());
            let bytes = envelope.to_bytes();
            let context = KeyContext::for_flags(envelope.flags(), SCOPE, KEY);
            json!({
                "flags": flags,
                "wrapped": HEXLOWER.encode(&bytes[70..118]),
                "bytes": HEXLOWER.encode(&bytes),
                "text": envelope.encode(),
                "sha256": sha256(&bytes),
                "key_context": context.pairs(),
                "cache_key": HEXLOWER.encode(&cache_key(envelope.label(), &context, envelope.kms_blob())),
            })
        });
        let keys = object_keys(suite);
        let (prk, kmac) = roots(suite, &ascending::<32>(0x20));
        json!({
            "suite": suite.byte(),
            "name": suite.name(),
            "prk": HEXLOWER.encode(&prk),
            "kmac": HEXLOWER.encode(&kmac),
            "commit": HEXLOWER.encode(&keys.commit()),
            "mac_of_empty": HEXLOWER.encode(&keys.mac(b"")),
            "envelopes": envelopes,
        })
    });
    json!({
        "kek": HEXLOWER.encode(&ascending::<32>(0)),
        "dek": HEXLOWER.encode(&ascending::<32>(0x20)),
        "salt": HEXLOWER.encode(&ascending::<32>(0x40)),
        "label": LABEL,
        "scope": SCOPE,
        "key": KEY,
        "kms_blob": HEXLOWER.encode(&[0xab; 184]),
        "suites": suites,
    })
}

/// Envelopes of a client's own key, and those that are nearly such.
fn customer_json() -> Value {
    let wrap = |suite: Suite, layout: Layout| {
        let input = WrapInput::customer(&kek(0), suite, layout, ascending(0x40), SCOPE, KEY);
        Envelope::wrap(&kek(0), input, &data_key(0x20)).unwrap().0
    };
    let envelopes = SUITES.into_iter().flat_map(|suite| {
        [Layout::Single, Layout::Multipart].map(|layout| {
            let envelope = wrap(suite, layout);
            let bytes = envelope.to_bytes();
            json!({
                "suite": suite.byte(),
                "flags": bytes[2],
                "check": HEXLOWER.encode(envelope.kms_blob()),
                "wrapped": HEXLOWER.encode(&bytes[73..121]),
                "bytes": HEXLOWER.encode(&bytes),
                "text": envelope.encode(),
                "sha256": sha256(&bytes),
            })
        })
    });
    let broken = |name: &str, input: WrapInput<'_>| {
        let text = Envelope::wrap(&kek(0), input, &data_key(0x20)).unwrap().0.encode();
        json!({ "name": name, "text": text })
    };
    let right = || WrapInput::customer(&kek(0), Suite::ChaCha20Poly1305, Layout::Single, ascending(0x40), SCOPE, KEY);
    let with_flags = |byte: u64| WrapInput { flags: flags_of(byte), ..right() };
    let cut = |len: usize| WrapInput { kms_blob: right().kms_blob.repeat(2)[..len].to_vec(), ..right() };
    json!({
        "customer_key": HEXLOWER.encode(&ascending::<32>(0)),
        "dek": HEXLOWER.encode(&ascending::<32>(0x20)),
        "salt": HEXLOWER.encode(&ascending::<32>(0x40)),
        "scope": SCOPE,
        "key": KEY,
        "envelopes": envelopes.collect::<Vec<_>>(),
        "broken": [
            broken("also-shared", with_flags(10)),
            broken("also-hashed", with_flags(12)),
            broken("label-of-another", WrapInput { label: Label::new(LABEL).unwrap(), ..right() }),
            broken("no-check", cut(0)),
            broken("check-one-byte-short", cut(15)),
            broken("check-one-byte-long", cut(17)),
        ],
    })
}

fn upload_name() -> UploadName {
    UploadName { bucket: SCOPE.into(), key: KEY.into(), upload_id: "upload-1".into() }
}

fn receipt(spooled: bool, algorithm: u8) -> Receipt {
    let algorithm = ChecksumAlgorithm::from_byte(algorithm).unwrap();
    Receipt {
        part_id: [0x62; 16],
        plain_len: plain_len(5_242_881),
        spooled,
        checksum: algorithm.map(|algorithm| (algorithm, ChecksumBytes::new(&vec![2; algorithm.len()]).unwrap())),
    }
}

fn uploads_json() -> Value {
    let keys = object_keys(Suite::ChaCha20Poly1305);
    let receipts = [(false, 3), (true, 0)].map(|(spooled, algorithm)| {
        let receipt = receipt(spooled, algorithm);
        json!({
            "number": 2,
            "part_id": HEXLOWER.encode(&receipt.part_id),
            "plain_len": receipt.plain_len.get(),
            "spooled": spooled,
            "checksum_algorithm": algorithm,
            "checksum": HEXLOWER.encode(receipt.checksum.as_ref().map_or(&[], |(_, value)| value.as_slice())),
            "part_etag": PART_ETAG,
            "receipt": receipt.seal(&keys, 2, PART_ETAG).unwrap(),
        })
    });
    let record = UploadRecord {
        envelope: envelope(Suite::ChaCha20Poly1305, flags_of(0)).0,
        checksum: Some((ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject)),
        created_ms: TIME_MS,
        name: upload_name(),
    };
    let bytes = record.seal(&keys).unwrap();
    json!({
        "suite": 1,
        "bucket": SCOPE,
        "key": KEY,
        "upload_id": "upload-1",
        "base_name": upload_base_name(&upload_name()).unwrap(),
        "receipts": receipts,
        "record": {
            "envelope_flags": 0,
            "checksum_algorithm": 3,
            "checksum_type": 2,
            "created_ms": TIME_MS,
            "bytes": HEXLOWER.encode(&bytes),
            "sha256": sha256(&bytes),
        },
    })
}

fn lengths_json() -> Value {
    let plain = [
        0,
        1,
        65_535,
        65_536,
        65_537,
        131_072,
        5_242_879,
        5_242_880,
        5_242_881,
        10_485_760,
        1_000_000_007,
        5_367_251_216,
        52_423_557_119,
        52_423_557_120,
        52_428_799_999,
        52_428_800_000,
        5_496_214_849_456,
        49_987_794_508_512,
    ];
    let objects = plain.map(|plain| json!({ "plain": plain, "object": plain_len(plain).sealed().get() }));
    let parts = plain.map(|plain| json!({ "plain": plain, "part": part_sealed_len(plain_len(plain)).get() }));
    json!({
        "objects": objects,
        "no_object": [0, 1, 239, 224, 256 + 65_536, 240 + 65_536 + 1, 240 + 65_536 + 16, 5_244_304 + 223],
        "parts": parts,
        "no_part": [1, 16, 32, 33, 48, 32 + 65_552 + 1, 32 + 65_552 + 16],
    })
}

/// Writes the files anew. Only for a change of the format, with FORMAT section 12 in the same commit.
#[test]
#[ignore = "writes tests/vectors"]
fn write_the_files() {
    let objects: Vec<_> = cases().iter().map(|(name, case)| case.to_json(name)).collect();
    for (name, value) in [
        ("keys.json", keys_json()),
        ("objects.json", json!({ "dek": HEXLOWER.encode(&ascending::<32>(0x20)), "objects": objects })),
        ("uploads.json", uploads_json()),
        ("lengths.json", lengths_json()),
        ("broken.json", crate::tamper::broken_json()),
        ("customer.json", customer_json()),
        ("metadata.json", crate::metadata::metadata_json()),
    ] {
        std::fs::write(path(name), serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
    }
}

#[test]
fn keys_and_envelopes_come_out_as_written() {
    let file = load("keys.json");
    let kek = || ciphergate::crypto::KeyEncryptionKey::from_slice(&hex(&file["kek"])).unwrap();
    let dek: [u8; 32] = hex(&file["dek"]).try_into().unwrap();
    let (scope, key) = (file["scope"].as_str().unwrap(), file["key"].as_str().unwrap());
    for entry in file["suites"].as_array().unwrap() {
        let suite = suite(&entry["suite"]);
        let dek = ciphergate::crypto::DataKey::from_bytes(dek.into());
        let keys = ObjectKeys::derive(suite, &dek);
        assert_eq!(keys.commit().to_vec(), hex(&entry["commit"]));
        let (prk, kmac) = roots(suite, &hex(&file["dek"]));
        assert_eq!((prk.to_vec(), kmac.to_vec()), (hex(&entry["prk"]), hex(&entry["kmac"])));
        assert_eq!(keys.mac(b"").to_vec(), hex(&entry["mac_of_empty"]));
        let of_empty = <Hmac<Sha256> as KeyInit>::new_from_slice(&kmac).unwrap().finalize().into_bytes();
        assert_eq!(keys.mac(b""), of_empty[..16]);
        for expected in entry["envelopes"].as_array().unwrap() {
            let input = WrapInput {
                suite,
                flags: flags_of(expected["flags"].as_u64().unwrap()),
                label: Label::new(file["label"].as_str().unwrap()).unwrap(),
                salt: hex(&file["salt"]).try_into().unwrap(),
                kms_blob: hex(&file["kms_blob"]),
                scope,
                key,
            };
            let (envelope, _) = Envelope::wrap(&kek(), input, &dek).unwrap();
            assert_eq!(envelope.to_bytes(), hex(&expected["bytes"]));
            assert_eq!(envelope.encode(), expected["text"].as_str().unwrap());
            assert_eq!(sha256(&envelope.to_bytes()), expected["sha256"].as_str().unwrap());
            let parsed = Envelope::parse(expected["text"].as_str().unwrap()).unwrap();
            assert_eq!(parsed, envelope);
            assert_eq!(parsed.open(&kek(), scope, key).unwrap().commit().to_vec(), hex(&entry["commit"]));
            let unwrapped = parsed.unwrap(&kek(), scope, key).unwrap();
            assert_eq!(ObjectKeys::derive(suite, &unwrapped).commit(), *parsed.commit());
            let context = KeyContext::for_flags(parsed.flags(), scope, key);
            assert_eq!(serde_json::to_value(context.pairs()).unwrap(), expected["key_context"]);
            assert_eq!(cache_key(parsed.label(), &context, parsed.kms_blob()).to_vec(), hex(&expected["cache_key"]));
        }
    }
}

#[test]
fn envelopes_of_a_clients_own_key_come_out_as_written() {
    let file = load("customer.json");
    assert_eq!(file, customer_json());
    let kek = || ciphergate::crypto::KeyEncryptionKey::from_slice(&hex(&file["customer_key"])).unwrap();
    for expected in file["envelopes"].as_array().unwrap() {
        let envelope = Envelope::parse(expected["text"].as_str().unwrap()).unwrap();
        assert_eq!(envelope.to_bytes(), hex(&expected["bytes"]));
        let flags = envelope.flags();
        assert!(flags.customer && !flags.shared && !flags.hashed_context);
        assert_eq!(flags.multipart, expected["flags"] == 9);
        assert!(envelope.fits_customer_key(&kek()) && !envelope.fits_customer_key(&self::kek(1)));
        let keys = envelope.open(&kek(), SCOPE, KEY).unwrap();
        assert_eq!(keys.commit(), *envelope.commit());
        assert!(envelope.open(&kek(), SCOPE, "another").is_err() && envelope.open(&self::kek(1), SCOPE, KEY).is_err());
        // One flag decides which kind of key opens it: without it, it is another envelope, which nothing opens.
        let mut other = envelope.to_bytes();
        other[2] &= !8;
        let other = Envelope::from_bytes(&other).unwrap();
        assert!(!other.fits_customer_key(&kek()) && other.open(&kek(), SCOPE, KEY).is_err());
    }
    let broken = file["broken"].as_array().unwrap();
    assert_eq!(broken.len(), 6);
    for entry in broken {
        assert!(Envelope::parse(entry["text"].as_str().unwrap()).is_err(), "{}", entry["name"]);
    }
    let unaware = hex(&file["envelopes"][0]["bytes"]);
    for flags in [32, 40, 128] {
        let mut bytes = unaware.clone();
        bytes[2] = flags;
        assert!(Envelope::from_bytes(&bytes).is_err(), "flags {flags}");
    }
}

#[test]
fn objects_come_out_as_written_and_open() {
    let file = load("objects.json");
    let dek: [u8; 32] = hex(&file["dek"]).try_into().unwrap();
    for expected in file["objects"].as_array().unwrap() {
        let name = expected["name"].as_str().unwrap();
        let case = Case::from_json(expected);
        let keys = Arc::new(ObjectKeys::derive(case.suite, &ciphergate::crypto::DataKey::from_bytes(dek.into())));
        let object = case.object(&keys);
        assert_eq!(object.len() as u64, expected["object_len"].as_u64().unwrap(), "{name}");
        assert_eq!(sha256(&object), expected["object_sha256"].as_str().unwrap(), "{name}");
        let end = hex(&expected["end"]);
        assert!(object.ends_with(&end), "{name}");
        let sealed = hex(&expected["footer_sealed"]);
        assert!(object[..object.len() - end.len()].ends_with(&sealed), "{name}");
        match expected.get("object") {
            Some(whole) => assert_eq!(object, hex(whole), "{name}"),
            None => {
                assert!(object.starts_with(&hex(&expected["object_head"])), "{name}");
                assert!(object.ends_with(&hex(&expected["object_tail"])), "{name}");
            }
        }
        let plain = case.plain();
        let footer = footer_from(&keys, &object, plain_len(plain.len() as u64), case.layout()).unwrap();
        assert_eq!(footer, case.footer(), "{name}");
        for piece_len in [1 << 20, 65_552, 4097] {
            let (read, error) = read(&keys, &object, case.layout(), None, piece_len);
            assert!(error.is_none() && read == plain, "{name}: {error:?}");
        }
        if object.len() <= FULL_MAX {
            let (read, error) = read(&keys, &object, case.layout(), None, 1);
            assert!(error.is_none() && read == plain, "{name}: {error:?}");
        }
        let len = plain.len() as u64;
        for (first, last) in
            [(0, 0), (0, 65_535), (65_535, 65_536), (5_242_870, 5_242_900), (10_485_760, 10_485_763), (7, 1 << 40)]
        {
            if first < len {
                let last = last.min(len - 1);
                let (read, error) = read(&keys, &object, case.layout(), Some((first, last)), 65_552);
                assert!(error.is_none() && read == plain[first as usize..=last as usize], "{name} {first}..={last}: {error:?}");
            }
        }
    }
}

#[test]
fn uploads_come_out_as_written_and_open() {
    let file = load("uploads.json");
    let keys = object_keys(suite(&file["suite"]));
    let text = |name: &str| file[name].as_str().unwrap().to_owned();
    let name = UploadName { bucket: text("bucket"), key: text("key"), upload_id: text("upload_id") };
    assert_eq!(upload_base_name(&name).unwrap(), text("base_name"));
    for expected in file["receipts"].as_array().unwrap() {
        let receipt = receipt(expected["spooled"].as_bool().unwrap(), expected["checksum_algorithm"].as_u64().unwrap() as u8);
        let etag = expected["part_etag"].as_str().unwrap();
        let sealed = receipt.seal(&keys, 2, etag).unwrap();
        assert_eq!(sealed, expected["receipt"].as_str().unwrap());
        let shown = format!("{etag}-{sealed}");
        assert_eq!(split_part_etag(&shown), (etag, Some(sealed.as_str())));
        assert_eq!(Receipt::open(&keys, 2, etag, &sealed).unwrap(), receipt);
        assert!(Receipt::open(&keys, 3, etag, &sealed).is_err());
        assert!(Receipt::open(&keys, 2, "0123", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut bent = sealed.clone().into_bytes();
            bent[at] = if bent[at] == b'0' { b'1' } else { b'0' };
            assert!(Receipt::open(&keys, 2, etag, std::str::from_utf8(&bent).unwrap()).is_err());
        }
        assert!(Receipt::open(&keys, 2, etag, &sealed.to_uppercase()).is_err());
    }
    let expected = &file["record"];
    let bytes = hex(&expected["bytes"]);
    assert_eq!(sha256(&bytes), expected["sha256"].as_str().unwrap());
    let sealed = SealedRecord::parse(&bytes).unwrap();
    assert_eq!(sealed.name(), &name);
    let opened = sealed.envelope().open(&kek(0), SCOPE, KEY).unwrap();
    let record = sealed.open(&opened).unwrap();
    assert_eq!(record.seal(&opened).unwrap(), bytes);
    assert_eq!(record.created_ms, TIME_MS);
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(SealedRecord::parse(&bent).and_then(|record| record.open(&opened)).is_err(), "byte {at}");
        assert!(SealedRecord::parse(&bytes[..at]).and_then(|record| record.open(&opened)).is_err(), "cut at {at}");
    }
}

#[test]
fn lengths_come_out_as_written() {
    let file = load("lengths.json");
    for entry in file["objects"].as_array().unwrap() {
        let (plain, object) = (entry["plain"].as_u64().unwrap(), entry["object"].as_u64().unwrap());
        assert_eq!(plain_len(plain).sealed().get(), object);
        assert_eq!(SealedLen::new(object).plain(), Some(plain_len(plain)));
    }
    for entry in file["parts"].as_array().unwrap() {
        let (plain, part) = (entry["plain"].as_u64().unwrap(), entry["part"].as_u64().unwrap());
        assert_eq!(part_sealed_len(plain_len(plain)).get(), part);
        assert_eq!(part_plain_len(SealedLen::new(part)), Some(plain_len(plain)));
    }
    for length in file["no_object"].as_array().unwrap() {
        assert_eq!(SealedLen::new(length.as_u64().unwrap()).plain(), None, "{length}");
    }
    for length in file["no_part"].as_array().unwrap() {
        assert_eq!(part_plain_len(SealedLen::new(length.as_u64().unwrap())), None, "{length}");
    }
}

/// Other implementers may have these files: an edit of them is a change of the format, made together with FORMAT section 12.
#[test]
fn the_files_are_the_ones_published() {
    for (name, hash) in [
        ("keys.json", "25b2115240082eb367c9619fd09e576bb7cc5cf0ef56a6b8d49f537f695723a6"),
        ("objects.json", "5847a7373bef401696ca9d7043b180a26983587baa773e203e482432ceb951b6"),
        ("uploads.json", "d591afb1e9c0bc959bcf0b67c8f9c7338c58e063aa77b055a5d4c1edb7d7d126"),
        ("lengths.json", "555a84e21590e11cdf93ecf52cef14e01b6f2028845fa6db061f4522e56ffa15"),
        ("broken.json", "bbe9a33ade223a5513465dc0b8d1da8a369cd3e800184d5449d6866abdeff169"),
        ("customer.json", "048739dc3fece021b743ca2c423219965d1fded217d5e791ece87972bfea5c60"),
        ("metadata.json", "75be8aba67ae933abbc3868f67f9347b0b257d89ea8a3984097a3fc2c5b4e7e6"),
    ] {
        assert_eq!(sha256(&std::fs::read(path(name)).unwrap()), hash, "{name}");
    }
    let objects = load("objects.json");
    let written: Vec<_> = objects["objects"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let known: Vec<_> = cases().iter().map(|(name, _)| *name).collect();
    assert_eq!(written, known);
}

/// The files cannot drift: what docs/FORMAT.md prints in section 12 is what they hold.
#[test]
fn the_files_hold_what_the_text_prints() {
    let (keys, objects, uploads) = (load("keys.json"), load("objects.json"), load("uploads.json"));
    let customer = |at: usize, field: &str| load("customer.json")["envelopes"][at][field].as_str().unwrap().to_owned();
    assert_eq!(customer(0, "check"), "0b36350ed61d71ab78fc4601e156f603");
    assert_eq!(
        customer(0, "wrapped"),
        "01b5448dd6541a4d77e68628d868467ff05a9ecd5fdd411e82757e0efc6886677149914183d0686afee30793b8580ecb"
    );
    for (at, hash) in [
        (0, "04279cd32c2aed967907fadb8c2a24e6b38c485b615cf568dbc9e756aefe135f"),
        (1, "8bed645dc6cb27a7d8bd364600a2ebb12b9385c027ac7dc35d8e9cb2c79de7b6"),
        (2, "291f44deca061cf5867df5a3eb15d2c1e7c050e10a18d94c52e72cd02d430fe5"),
        (3, "48256c0d7fe0ed1209141900cadb273ef95c989dfaafa1c0519c4bc95b69684f"),
    ] {
        assert_eq!(customer(at, "sha256"), hash);
        assert_eq!(customer(at, "bytes").len(), 2 * 139);
    }
    let metadata = load("metadata.json");
    for (name, suite, flags, field, value) in [
        ("usual", 1, 16, "kmeta", "93eddf251a4fb0fe18787ed0cee74b5b205cba854634df87248330f75c50add5"),
        ("usual", 2, 16, "kmeta", "f7a0dfeaccc4917621b31cfb95188ec4d32bf77fe6a72386933c4778b0ae32c7"),
        ("none", 1, 16, "sha256", "e0ad2d4b49faf76be894e160e30656b768eababa77efa6fcae07aef533682910"),
        ("none", 2, 16, "sha256", "82b2660086f49a330aab90f9622b050363ff38566112b0dc80b101323f6c8a32"),
        ("usual", 1, 16, "sha256", "c963f6dec4d73f6a39e65868dad0527fa43ad89b8b7fff0c74ae290e370827f0"),
        ("usual", 1, 24, "sha256", "c963f6dec4d73f6a39e65868dad0527fa43ad89b8b7fff0c74ae290e370827f0"),
        ("usual", 2, 19, "sha256", "4e1fd73dd68607a2d3885338fd5e2e9709f27c45691fcd4a32a65f294ef58990"),
    ] {
        let is_meant = |vector: &&Value| vector["name"] == name && vector["suite"] == suite && vector["flags"] == flags;
        let vector = metadata["sealed"].as_array().unwrap().iter().find(is_meant).unwrap();
        assert_eq!(vector[field], value, "{name} {suite} {flags}");
        assert_eq!(vector["entry"].as_str().unwrap().len(), if name == "none" { 107 } else { 278 });
    }
    let suite = |byte: usize| &keys["suites"][byte - 1];
    assert_eq!(suite(1)["commit"], "1c963d9d2783bbcd4d8424671e83f31d69e7ade707cd4a7e55307c88f9133640");
    assert_eq!(suite(2)["commit"], "e8b9ef03c8a987b641e8ee24b2d43e59f91dabb9e9885eccebf560fe0bd397f0");
    assert_eq!(suite(1)["prk"], "8e3a6f987f767b4612d02c01451eb92a34cce0eefa45dfe0ec938150788559af");
    assert_eq!(suite(1)["kmac"], "a7d4c69e994c55eaeefd325f48b3c56309d73dbe0b7b15e2fc72b67eaf85e2d4");
    assert_eq!(suite(2)["prk"], "00e08796db9107233d463bb072b13c8373c8ce68156bc049d0a18f9f6e4892bc");
    let envelope = |byte: usize, flags: u64| {
        suite(byte)["envelopes"].as_array().unwrap().iter().find(|entry| entry["flags"] == flags).unwrap()
    };
    assert_eq!(
        envelope(1, 0)["wrapped"],
        "2224feef19692ec0db5afdaa67c6cb461fddd201f09e55bee0922d68fb6526a98172016c5330b84957dbbcee476c1baa"
    );
    assert_eq!(envelope(1, 0)["sha256"], "678835b2310a3eec4349172539588d03bea24d37d26d98f8c5c4cf1846b473cf");
    assert_eq!(envelope(1, 0)["bytes"].as_str().unwrap().len(), 2 * 304);
    assert_eq!(envelope(1, 0)["text"].as_str().unwrap().len(), 406);
    assert_eq!(envelope(1, 3)["sha256"], "2c6c049d5ea5e3507e1af409d16c53acd5d0fa22f79869acb012ab7524b50c3b");
    assert_eq!(envelope(2, 0)["sha256"], "79565c660925609363e16c29d58f2751b488f9e08b765eb61498debacf002558");
    let object = |name: &str| objects["objects"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone();
    for (name, len, hash) in [
        ("suite1-single-0", 240, "7e2f143cc9a56e288bd9ecb4a9a0554539fff1277b0e0f456c2a174f3f4848b0"),
        ("suite1-single-1", 241, "e38bd8d01ce96bb7d18e90dee16de75a30210b27e19c0cba25fd37beca2a8eda"),
        ("suite1-single-65536", 65_776, "a0a87fd856683eab6d32ee6411dc74cec20a865600c898cc68dc3b8ba262d544"),
        ("suite1-single-65537-crc64nvme", 65_793, "7fd174a3e01e1d9615474d433e5ce2dc7eb3d641f0c4411625f597069fe25cd4"),
        ("suite1-single-1000000-sha512", 1_000_480, "2971a967b48aab365e6970f27545d4e36a519b0de426fc2c2abc3fddc52c9ea3"),
        (
            "suite1-multipart-three-parts-crc64nvme",
            10_488_852,
            "e4c768d3d16ad06070686ca42683309d37883c9c8b0608fdcbcfaeebb38948f4",
        ),
        ("suite1-multipart-two-unbound", 10_488_852, "a2a840fc998e7c885cad55a6a91e7facd5398046f647e80e26f0ce5b473e0065"),
        ("suite1-multipart-one-empty-part", 240, "e03b18a35af56cef59b48fb795d76cc61a8a7f42dc32abed9db74671cbaba047"),
        (
            "suite1-multipart-empty-last-part-sha256",
            5_244_528,
            "3d1c08e4675cc956539616d175eef11272402d73b365e938e96139bd335c56f8",
        ),
        ("suite2-single-0", 240, "50de607d1ecf779d521527ae2acbde146e89395ee9063d9574a36c7d6c362397"),
        ("suite2-single-1000000-sha512", 1_000_480, "51f050fc32891b696e39078778241c5f9ae5e7e398c29ceba714765934eb0f5e"),
        (
            "suite2-multipart-three-parts-crc64nvme",
            10_488_852,
            "572e6b44cea966fed2b613623be06c79f638b3784f1eb105d3b8d891151d51b2",
        ),
        ("suite2-multipart-two-unbound", 10_488_852, "25b69bfc44993bfcb3e207fb4521cc463ac9411cdea819a9ddd2d9a65a73314a"),
    ] {
        assert_eq!(object(name)["object_len"], len, "{name}");
        assert_eq!(object(name)["object_sha256"], hash, "{name}");
    }
    assert_eq!(&object("suite1-single-0")["end"].as_str().unwrap()[32..], "8adba6245f2528c97c5c16f441bd300b");
    assert!(uploads["receipts"][0]["receipt"].as_str().unwrap().ends_with("ebe90a2f72f26e90f9db9ec6787bfca1"));
    assert_eq!(uploads["base_name"], "5d9ad670b2baa46e3891229ff11fda646b28c2b825063c7acd683258c970a66a");
    assert_eq!(uploads["record"]["bytes"].as_str().unwrap().len(), 2 * 368);
    assert_eq!(uploads["record"]["sha256"], "cbe00d4a34a7635c125ecc0b241792df07bf43139659014f92d5720f6613eec6");
}
