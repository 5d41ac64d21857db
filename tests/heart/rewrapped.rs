//! Rewrap records (FORMAT section 16): the published vector, and everything that is no record of a version.

use std::path::PathBuf;

use ciphergate::crypto::Suite;
use ciphergate::format::{Envelope, EnvelopeFlags, Error, Label, RewrapRecord, VersionName, WrapInput};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::*;

const SCOPE: &str = "bucket-a";
const KEY: &str = "dir/object.bin";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rewrapped.json")
}

fn name() -> VersionName {
    VersionName { bucket: SCOPE.to_owned(), key: KEY.to_owned(), version_id: "version-1".to_owned() }
}

/// An envelope of the data key `dek`, with everything else that makes it differ from others.
fn envelope(label: &str, suite: Suite, flags: EnvelopeFlags, dek: u8, salt: u8) -> Envelope {
    let (label, kms_blob) = (Label::new(label).unwrap(), vec![0xcd; 184]);
    let input = WrapInput { suite, flags, label, salt: ascending(salt), kms_blob, scope: SCOPE, key: KEY };
    Envelope::wrap(&kek(0x80), input, &data_key(dek)).unwrap().0
}

const SUITE: Suite = Suite::ChaCha20Poly1305;
const PLAIN: EnvelopeFlags =
    EnvelopeFlags { multipart: false, shared: false, hashed_context: false, customer: false, sealed_metadata: false };

fn record() -> RewrapRecord {
    RewrapRecord { name: name(), envelope: envelope("k2", SUITE, PLAIN, 0x20, 0xa0) }
}

fn vector() -> Value {
    let (record, bytes) = (record(), record().to_bytes().unwrap());
    json!({
        "bucket": SCOPE,
        "key": KEY,
        "version_id": "version-1",
        "base_name": name().base().unwrap(),
        "kek": HEXLOWER.encode(&ascending::<32>(0x80)),
        "dek": HEXLOWER.encode(&ascending::<32>(0x20)),
        "salt": HEXLOWER.encode(&ascending::<32>(0xa0)),
        "label": "k2",
        "suite": 1,
        "flags": 0,
        "kms_blob": "cd".repeat(184),
        "envelope": HEXLOWER.encode(&record.envelope.to_bytes()),
        "record": HEXLOWER.encode(&bytes),
        "sha256": HEXLOWER.encode(&Sha256::digest(&bytes)),
    })
}

#[test]
#[ignore = "writes tests/vectors/rewrapped.json"]
fn write_the_files_of_records() {
    std::fs::write(path(), serde_json::to_string_pretty(&vector()).unwrap() + "\n").unwrap();
}

#[test]
fn the_record_comes_out_as_written_and_leads_to_the_data_key() {
    let text = std::fs::read_to_string(path()).unwrap();
    assert_eq!(HEXLOWER.encode(&Sha256::digest(&text)), "36437412b39bd6fabf1541417041a620514ae1ea12bff67597c064e1b8407d63");
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file, vector());
    // What docs/FORMAT.md prints in section 12.
    assert_eq!(file["base_name"], "0814e2884e9b0c576127ab496b1069ab2fc71add39c3586f8c993c74b9a8deb7");
    assert_eq!(file["sha256"], "05826743e471f3cdf3ebd22485a758e5a246c20753a63f3302858386749846df");
    let bytes = HEXLOWER.decode(file["record"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(bytes.len(), 347);
    // The version's own envelope: another label, salt and mode of its key.
    let shared = EnvelopeFlags { shared: true, ..PLAIN };
    let own = envelope("k1", SUITE, shared, 0x20, 0x40);
    let found = RewrapRecord::parse(&bytes).unwrap().envelope_for(&name(), &own).unwrap();
    assert_eq!(found.open(&kek(0x80), SCOPE, KEY).unwrap().commit(), *own.commit());
    assert!(found.open(&kek(0x80), SCOPE, "another").is_err());
}

#[test]
fn only_the_record_of_this_very_version_is_taken() {
    let bytes = record().to_bytes().unwrap();
    let own = envelope("k1", SUITE, PLAIN, 0x20, 0x40);
    let opens = |bytes: &[u8]| -> Result<(), Error> {
        let envelope = RewrapRecord::parse(bytes)?.envelope_for(&name(), &own)?;
        envelope.open(&kek(0x80), SCOPE, KEY).map(|_| ())
    };
    opens(&bytes).unwrap();
    // The blob is for the key service to judge.
    let blob = 4 + 2 + record().envelope.to_bytes().len() - 184;
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        if !(blob..blob + 184).contains(&at) {
            assert!(opens(&bent).is_err(), "byte {at}");
        }
        assert!(opens(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(opens(&[&bytes[..], &[0]].concat()).is_err());

    let differs = |envelope: Envelope| RewrapRecord { name: name(), envelope }.envelope_for(&name(), &own).is_err();
    assert!(!differs(envelope("k2", SUITE, EnvelopeFlags { hashed_context: true, ..PLAIN }, 0x20, 0x41)));
    assert!(differs(envelope("k2", SUITE, PLAIN, 0x21, 0xa0)));
    assert!(differs(envelope("k2", Suite::Aes256Gcm, PLAIN, 0x20, 0xa0)));
    assert!(differs(envelope("k2", SUITE, EnvelopeFlags { multipart: true, ..PLAIN }, 0x20, 0xa0)));
    assert!(differs(envelope("k2", SUITE, EnvelopeFlags { customer: true, ..PLAIN }, 0x20, 0xa0)));
    // Both ways: a version must not lose its sealed metadata, nor seem to have some.
    let sealed = EnvelopeFlags { sealed_metadata: true, ..PLAIN };
    assert!(differs(envelope("k2", SUITE, sealed, 0x20, 0xa0)));
    assert!(record().envelope_for(&name(), &envelope("k1", SUITE, sealed, 0x20, 0x40)).is_err());
    for other in [
        VersionName { bucket: "bucket-b".to_owned(), ..name() },
        VersionName { key: "dir/object.bi".to_owned(), ..name() },
        VersionName { version_id: "version-2".to_owned(), ..name() },
    ] {
        assert!(record().envelope_for(&other, &own).is_err(), "{other:?}");
        assert_ne!(other.base().unwrap(), name().base().unwrap());
    }
    let long = VersionName { version_id: "x".repeat(65_536), ..name() };
    assert!(long.base().is_err() && RewrapRecord { name: long, ..record() }.to_bytes().is_err());
}
