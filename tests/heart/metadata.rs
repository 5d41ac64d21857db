//! Sealed metadata (FORMAT section 15): their vectors, what they hold, and everything a hostile store can do to them.

use std::sync::Arc;

use ciphergate::crypto::{ObjectKeys, Suite};
use ciphergate::format::{
    Envelope, Error, Field, Label, METADATA_TEXT_MAX, Metadata, WrapInput, entry_beside, metadata_sealed_len,
};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hkdf::Hkdf;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::common::*;
use crate::vectors::{KEY, LABEL, SCOPE, flags_of, hex, load, roots, sha256, suite};

type Pairs = &'static [(&'static str, &'static str)];

const USUAL: Pairs = &[
    ("cache-control", "no-cache"),
    ("content-disposition", "attachment; filename=\"r\u{e9}sum\u{e9}.pdf\""),
    ("content-type", "application/pdf"),
    ("x-amz-meta-author", "=?UTF-8?B?w4lsaXNl?="),
    ("x-amz-meta-empty", ""),
    ("x-amz-meta-project.id", "a, b\tc"),
];
/// Exactly two units, so without any padding.
const FULL: Pairs = &[
    ("content-encoding", "gzip"),
    ("content-language", "de, en"),
    ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
    ("x-amz-meta-exactly", "two units of sixty-four bytes and no padding behind them, to be exac"),
];
/// The salt of vectors that lie beside another wrap.
const OTHER_SALT: u8 = 0x80;

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::default();
    for (name, value) in pairs {
        let field = match name.strip_prefix("x-amz-meta-") {
            Some(name) => Field::User(name.to_owned()),
            None => Field::of_content(name).unwrap(),
        };
        metadata.add(field, value.as_bytes()).unwrap();
    }
    metadata
}

fn wrap(suite: Suite, flags: u64, salt: u8) -> (Envelope, ObjectKeys) {
    let input = match flags & 8 {
        0 => WrapInput {
            suite,
            flags: flags_of(flags),
            label: Label::new(LABEL).unwrap(),
            salt: ascending(salt),
            kms_blob: vec![0xab; 184],
            scope: SCOPE,
            key: KEY,
        },
        _ => {
            let own = WrapInput::customer(&kek(0), suite, flags_of(flags).layout(), ascending(salt), SCOPE, KEY);
            WrapInput { flags: flags_of(flags), ..own }
        }
    };
    Envelope::wrap(&kek(0), input, &data_key(0x20)).unwrap()
}

/// Kmeta, which the crate does not show, from the text of FORMAT section 15.
fn kmeta(suite: Suite, envelope: &Envelope) -> [u8; 32] {
    let (prk, _) = roots(suite, &ascending::<32>(0x20));
    let mut key = [0; 32];
    Hkdf::<Sha256>::from_prk(&prk).unwrap().expand(&[b"meta".as_slice(), envelope.salt()].concat(), &mut key).unwrap();
    key
}

/// An entry of any bytes, sealed as a faulty writer would.
fn crafted(keys: &ObjectKeys, envelope: &Envelope, plain: &[u8]) -> String {
    let mut bytes = plain.to_vec();
    let tag = keys.metadata_key(envelope.salt()).seal_in_place(&mut bytes).unwrap();
    BASE64URL_NOPAD.encode(&[&bytes[..], &tag].concat())
}

fn opened(keys: &ObjectKeys, envelope: &Envelope, text: &str) -> Vec<u8> {
    let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
    keys.metadata_key(envelope.salt()).open_in_place(&mut bytes).unwrap().to_vec()
}

/// What a reader has to do with an object: judge whether an entry belongs there, and open it.
fn read_beside(envelope: &Envelope, entry: Option<&str>) -> Result<Option<Metadata>, Error> {
    let keys = envelope.open(&kek(0), SCOPE, KEY)?;
    let entry = entry_beside(envelope, entry.map(str::as_bytes))?;
    entry.map(|text| Metadata::open(&keys, envelope.salt(), text)).transpose()
}

fn entry(name: &str, value: &str) -> Vec<u8> {
    let (mut bytes, value_len) = (Vec::new(), (value.len() as u16).to_be_bytes());
    match name.strip_prefix("x-amz-meta-") {
        Some(name) => {
            bytes.push(7);
            bytes.extend((name.len() as u16).to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        None => {
            let names =
                ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
            bytes.push(1 + names.iter().position(|known| *known == name).unwrap() as u8);
        }
    }
    bytes.extend(value_len);
    bytes.extend(value.as_bytes());
    bytes
}

/// Entries one after the other, and zeros to the end of the unit.
fn padded(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut plain = entries.concat();
    plain.resize(plain.len().max(1).next_multiple_of(64), 0);
    plain
}

fn broken() -> Vec<(&'static str, Envelope, Option<String>)> {
    let chacha = Suite::ChaCha20Poly1305;
    let (envelope, keys) = wrap(chacha, 16, 0x40);
    let (other, other_keys) = wrap(chacha, 16, OTHER_SALT);
    let (unflagged, _) = wrap(chacha, 0, 0x40);
    let right = metadata(USUAL).seal(&keys, &envelope).unwrap();
    let (a, b) = (entry("x-amz-meta-a", "1"), entry("x-amz-meta-b", "2"));
    let kind = |byte: u8| padded(&[vec![byte, 0, 1, b'x']]);
    let end_with = |last: u8| {
        let mut plain = padded(std::slice::from_ref(&a));
        plain[63] = last;
        plain
    };
    let mut cases: Vec<(&'static str, Envelope, Option<String>)> = vec![
        ("flag-without-entry", envelope.clone(), None),
        ("entry-without-flag", unflagged, Some(right.clone())),
        ("entry-of-another-wrap", envelope.clone(), Some(metadata(USUAL).seal(&other_keys, &other).unwrap())),
        ("entry-cut-by-a-unit", envelope.clone(), Some(right[..right.len() - 86].to_owned())),
        ("entry-cut-by-a-character", envelope.clone(), Some(right[..right.len() - 1].to_owned())),
        ("entry-empty", envelope.clone(), Some(String::new())),
        ("entry-padded-base64", envelope.clone(), Some(right.clone() + "=")),
        ("entry-standard-alphabet", envelope.clone(), Some(right.replacen(|c: char| c.is_ascii_alphanumeric(), "+", 1))),
        ("entry-too-long", envelope.clone(), Some(crafted(&keys, &envelope, &[0; 24 * 64]))),
    ];
    for (name, plain) in [
        ("no-unit", Vec::new()),
        ("half-a-unit", padded(std::slice::from_ref(&a))[..32].to_vec()),
        ("a-unit-too-many", [padded(std::slice::from_ref(&a)), vec![0; 64]].concat()),
        ("padding-not-zero", end_with(1)),
        ("entry-after-the-padding", [&a[..], &[0], &b[..], &vec![0; 127 - a.len() - b.len()][..]].concat()),
        ("unsorted-names", padded(&[b.clone(), a.clone()])),
        ("unsorted-kinds", padded(&[a.clone(), entry("expires", "x")])),
        ("duplicate-name", padded(&[a.clone(), a.clone()])),
        ("duplicate-content-header", padded(&[entry("expires", "x"), entry("expires", "y")])),
        ("kind-8", kind(8)),
        ("kind-255", kind(255)),
        ("value-longer-than-the-rest", padded(&[[&a[..a.len() - 3], &[0, 200, b'1']].concat()])),
        ("name-longer-than-the-rest", padded(&[vec![7, 0xff, 0xff, b'a']])),
        ("name-upper-case", padded(&[entry("x-amz-meta-A", "1")])),
        ("name-with-a-space", padded(&[entry("x-amz-meta-a b", "1")])),
        ("name-not-ascii", padded(&[entry("x-amz-meta-\u{e9}", "1")])),
        ("name-of-the-envelope", padded(&[entry("x-amz-meta-ciphergate", "1")])),
        ("name-of-the-entry", padded(&[entry("x-amz-meta-ciphergate-meta", "1")])),
        ("value-with-a-line-end", padded(&[entry("x-amz-meta-a", "1\r\nx: y")])),
        ("value-with-a-zero", padded(&[entry("x-amz-meta-a", "1\0")])),
    ] {
        cases.push((name, envelope.clone(), Some(crafted(&keys, &envelope, &plain))));
    }
    cases
}

pub fn metadata_json() -> Value {
    let sealed = [("none", &[][..]), ("usual", USUAL), ("full", FULL)].into_iter().flat_map(|(name, pairs)| {
        SUITES.into_iter().flat_map(move |suite| {
            [16, 19, 24].map(|flags| {
                let (envelope, keys) = wrap(suite, flags, 0x40);
                let text = metadata(pairs).seal(&keys, &envelope).unwrap();
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(name, value)| json!({ "name": name, "value": HEXLOWER.encode(value.as_bytes()) }))
                    .collect();
                json!({
                    "name": name,
                    "suite": suite.byte(),
                    "flags": flags,
                    "envelope": envelope.encode(),
                    "metadata": pairs,
                    "kmeta": HEXLOWER.encode(&kmeta(suite, &envelope)),
                    "plain": HEXLOWER.encode(&opened(&keys, &envelope, &text)),
                    "entry": text,
                    "sha256": sha256(text.as_bytes()),
                })
            })
        })
    });
    let broken = broken()
        .into_iter()
        .map(|(name, envelope, entry)| json!({ "name": name, "envelope": envelope.encode(), "entry": entry }));
    json!({
        "kek": HEXLOWER.encode(&ascending::<32>(0)),
        "dek": HEXLOWER.encode(&ascending::<32>(0x20)),
        "salt": HEXLOWER.encode(&ascending::<32>(0x40)),
        "label": LABEL,
        "scope": SCOPE,
        "key": KEY,
        "kms_blob": HEXLOWER.encode(&[0xab; 184]),
        "sealed": sealed.collect::<Vec<_>>(),
        "broken": broken.collect::<Vec<_>>(),
    })
}

#[test]
fn sealed_metadata_come_out_as_written() {
    let file = load("metadata.json");
    assert_eq!(file, metadata_json(), "the file is what the code above makes; write it anew after a change");
    for expected in file["sealed"].as_array().unwrap() {
        let text = |field: &str| expected[field].as_str().unwrap();
        let envelope = Envelope::parse(text("envelope")).unwrap();
        let flags = envelope.flags();
        assert!(flags.sealed_metadata && envelope.to_bytes()[2] == expected["flags"].as_u64().unwrap() as u8);
        assert_eq!(envelope.suite(), suite(&expected["suite"]));
        assert!(!flags.customer || envelope.fits_customer_key(&kek(0)));
        let found = read_beside(&envelope, Some(text("entry"))).unwrap().unwrap();
        let shown: Vec<_> = found.iter().map(|(field, value)| (field.header(), value.to_vec())).collect();
        let wanted = expected["metadata"].as_array().unwrap();
        let wanted: Vec<_> = wanted.iter().map(|pair| (pair["name"].as_str().unwrap().to_owned(), hex(&pair["value"]))).collect();
        assert_eq!(shown, wanted);
        assert_eq!(metadata_sealed_len(text("entry")), Some(hex(&expected["plain"]).len() + 16));
    }
    let full = file["sealed"].as_array().unwrap().iter().find(|vector| vector["name"] == "full").unwrap();
    assert_eq!(hex(&full["plain"]).len(), 128);
    assert_ne!(hex(&full["plain"]).last(), Some(&0), "it is meant to have no padding");
}

#[test]
fn every_broken_entry_is_refused() {
    let file = load("metadata.json");
    for vector in file["broken"].as_array().unwrap() {
        let envelope = Envelope::parse(vector["envelope"].as_str().unwrap()).unwrap();
        assert!(envelope.open(&kek(0), SCOPE, KEY).is_ok(), "only what lies beside it is bad");
        assert!(read_beside(&envelope, vector["entry"].as_str()).is_err(), "{}", vector["name"]);
    }
    assert!(file["broken"].as_array().unwrap().len() > 25);
}

#[test]
fn every_changed_character_is_refused() {
    for suite in SUITES {
        let (envelope, keys) = wrap(suite, 16, 0x40);
        let text = metadata(USUAL).seal(&keys, &envelope).unwrap();
        assert_eq!(text.len(), metadata(USUAL).text_len());
        for at in 0..text.len() {
            for other in ["A", "B", "_", "+", "=", " ", "\u{0}"] {
                let bent = [&text[..at], other, &text[at + 1..]].concat();
                assert!(bent == text || Metadata::open(&keys, envelope.salt(), &bent).is_err(), "character {at}");
            }
            assert!(Metadata::open(&keys, envelope.salt(), &text[..at]).is_err(), "cut at {at}");
        }
    }
}

/// Whatever else was sealed under the same data key: another wrap of it, a chunk, a footer, another suite.
#[test]
fn an_entry_passes_beside_its_own_wrap_alone() {
    for suite in SUITES {
        let (envelope, keys) = wrap(suite, 16, 0x40);
        let (other, _) = wrap(suite, 16, OTHER_SALT);
        let text = metadata(USUAL).seal(&keys, &envelope).unwrap();
        assert!(Metadata::open(&keys, other.salt(), &text).is_err());
        let stranger = ObjectKeys::derive(suite, &data_key(0x21));
        assert!(Metadata::open(&stranger, envelope.salt(), &text).is_err());
        let mut as_chunk = [0; 64];
        let tag = keys.chunk_key(envelope.salt()).seal_in_place(0, false, &mut as_chunk).unwrap();
        let chunk = BASE64URL_NOPAD.encode(&[&as_chunk[..], &tag].concat());
        assert!(Metadata::open(&keys, envelope.salt(), &chunk).is_err());
        let mut as_footer = [0; 64];
        let tag = keys.footer_key(envelope.salt()).seal_in_place(&mut as_footer).unwrap();
        let footer = BASE64URL_NOPAD.encode(&[&as_footer[..], &tag].concat());
        assert!(Metadata::open(&keys, envelope.salt(), &footer).is_err());
        // The flag is in the wrap's key: without it, or with it, it is another envelope, which nothing opens.
        for (envelope, bit) in [(&envelope, 16), (&wrap(suite, 0, 0x40).0, 16)] {
            let mut bent = envelope.to_bytes();
            bent[2] ^= bit;
            assert!(Envelope::from_bytes(&bent).unwrap().open(&kek(0), SCOPE, KEY).is_err());
        }
    }
}

#[test]
fn what_is_sealed_is_what_is_opened() {
    let mut random = Random::new(15);
    let (envelope, keys) = wrap(Suite::Aes256Gcm, 16, 0x40);
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
    let (mut sealed, mut too_long) = (0, 0);
    for _ in 0..2000 {
        let mut metadata = Metadata::default();
        for _ in 0..random.below(8) {
            let value: Vec<u8> = (0..random.below(400)).map(|_| (0x20 + random.below(95)) as u8).collect();
            let name: String =
                (0..random.below(30)).map(|_| letters[random.below(letters.len() as u64) as usize] as char).collect();
            let content =
                ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
            let field = match random.below(3) {
                0 => Field::of_content(content[random.below(6) as usize]).unwrap(),
                _ => Field::User(name),
            };
            let is_new = metadata.iter().all(|(known, _)| *known != field);
            if is_new {
                metadata.add(field, &value).unwrap();
            }
        }
        match metadata.seal(&keys, &envelope) {
            Ok(text) => {
                sealed += 1;
                assert!(text.len() == metadata.text_len() && text.len() <= METADATA_TEXT_MAX);
                assert_eq!(Metadata::open(&keys, envelope.salt(), &text).unwrap(), metadata);
                assert_eq!((text.len() * 3 / 4 - 16) % 64, 0);
            }
            Err(error) => {
                too_long += 1;
                assert!(matches!(error, Error::TooLong(_)) && metadata.text_len() > METADATA_TEXT_MAX);
            }
        }
    }
    assert!(sealed > 500 && too_long > 50, "{sealed} {too_long}");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let mut random = Random::new(16);
    let keys = Arc::clone(&object_keys(SUITES[0]));
    let (envelope, _) = wrap(SUITES[0], 16, 0x40);
    for round in 0..20_000_u64 {
        let len = random.below(2100) as usize;
        let bytes = random.bytes(len);
        let text = if round % 2 == 0 { BASE64URL_NOPAD.encode(&bytes) } else { String::from_utf8_lossy(&bytes).into_owned() };
        assert!(Metadata::open(&keys, envelope.salt(), &text).is_err());
        let _ = metadata_sealed_len(&text);
        let _ = entry_beside(&envelope, Some(&bytes));
        // The same behind a tag that is right.
        let noise = bytes.iter().map(|byte| if round % 3 == 0 { *byte } else { byte % 9 }).collect::<Vec<_>>();
        let whole = noise.len() / 64 * 64;
        let _ = Metadata::open(&keys, envelope.salt(), &crafted(&keys, &envelope, &noise[..whole]));
    }
}

#[test]
fn what_no_header_can_have_is_not_taken() {
    let mut metadata = Metadata::default();
    for (name, value) in [("A", "x"), ("a b", "x"), ("\u{e9}", "x"), ("ciphergate", "x"), ("ciphergate-meta", "x"), ("a", "\n")] {
        assert!(metadata.add(Field::User(name.into()), value.as_bytes()).is_err(), "{name}");
    }
    metadata.add(Field::User("a".into()), b"1").unwrap();
    assert!(metadata.add(Field::User("a".into()), b"1").is_err());
}
