//! Objects that AWS's own S3 Encryption Clients wrote (tests/vectors/aws): recognised, opened, and refused after every change.

use ciphergate::crypto::{AwsSeal, KeyEncryptionKey};
use ciphergate::format::{AwsClaim, AwsFormat, AwsObject, AwsRefusal, Fields, KeyContext};
use data_encoding::HEXLOWER;
use serde_json::Value;

struct Vector {
    name: String,
    format: AwsFormat,
    metadata: Fields,
    instruction: Option<Fields>,
    context: Fields,
    key: KeyEncryptionKey,
    plain: Vec<u8>,
    object: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/aws/objects.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let hex = |value: &Value| HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let fields = |value: &Value| -> Fields { serde_json::from_value(value.clone()).unwrap() };
    let vectors = all["objects"].as_array().unwrap().iter().map(|vector| Vector {
        name: text(&vector["name"]),
        format: if vector["format"] == "V2" { AwsFormat::V2 } else { AwsFormat::V3 },
        metadata: fields(&vector["metadata"]),
        instruction: vector["instruction"].as_str().map(|file| serde_json::from_str(file).unwrap()),
        context: fields(&vector["context"]),
        key: KeyEncryptionKey::from_slice(&hex(&vector["data_key"])).unwrap(),
        plain: (0..vector["plain_len"].as_u64().unwrap()).map(|i| u8::try_from(i % 251).unwrap()).collect(),
        object: hex(&vector["object"]),
    });
    vectors.collect()
}

fn read(vector: &Vector) -> Result<AwsObject, AwsRefusal> {
    match (AwsObject::of_metadata(&vector.metadata)?, &vector.instruction) {
        (AwsClaim::Whole(object), _) => Ok(object),
        (_, Some(file)) => Ok(AwsObject::of_instruction(&vector.metadata, file)?.expect("an instruction file")),
        (claim, None) => panic!("{}: {claim:?}", vector.name),
    }
}

#[test]
fn what_the_official_clients_wrote_opens() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 22);
    for vector in vectors {
        let object = read(&vector).unwrap();
        assert_eq!(object.format, vector.format, "{}", vector.name);
        let context: Fields = serde_json::from_str(&object.context).unwrap();
        assert_eq!(context, vector.context);
        assert_eq!(object.key_context(context.clone()).unwrap(), KeyContext::of_pairs(context));
        assert_eq!(AwsSeal::plain_len(vector.object.len() as u64), Some(vector.plain.len() as u64));
        let mut sealed = vector.object.clone();
        assert_eq!(object.seal.open(&vector.key, &mut sealed).unwrap(), vector.plain, "{}", vector.name);
    }
}

#[test]
fn every_change_of_an_object_is_refused() {
    for vector in vectors() {
        let object = read(&vector).unwrap();
        for place in 0..vector.object.len() {
            let mut sealed = vector.object.clone();
            sealed[place] ^= 0x40;
            assert!(object.seal.open(&vector.key, &mut sealed).is_err(), "{} at {place}", vector.name);
        }
        for mut sealed in [vector.object[1..].to_vec(), [&vector.object[..], b"x"].concat(), Vec::new(), vec![0; 15]] {
            assert!(object.seal.open(&vector.key, &mut sealed).is_err(), "{}", vector.name);
        }
        let other = KeyEncryptionKey::from_slice(&[9; 32]).unwrap();
        assert!(object.seal.open(&other, &mut vector.object.clone()).is_err());
        let seals: Vec<AwsSeal> = match object.seal {
            AwsSeal::Plain { mut nonce } => {
                nonce[3] ^= 1;
                vec![AwsSeal::Plain { nonce }]
            }
            AwsSeal::Committing { message_id, commitment } => {
                let (mut other_id, mut other_commitment) = (message_id, commitment);
                other_id[27] ^= 1;
                other_commitment[0] ^= 1;
                vec![
                    AwsSeal::Committing { message_id: other_id, commitment },
                    AwsSeal::Committing { message_id, commitment: other_commitment },
                ]
            }
        };
        for seal in seals {
            assert!(seal.open(&vector.key, &mut vector.object.clone()).is_err(), "{}", vector.name);
        }
    }
}

#[test]
fn fields_that_the_client_never_writes_are_refused() {
    for vector in vectors() {
        let mut all = vector.metadata.clone();
        all.extend(vector.instruction.clone().unwrap_or_default());
        let optional = ["x-amz-tag-len"];
        for name in all.keys() {
            let mut missing = all.clone();
            missing.remove(name);
            // Without its key V3 is an object whose key is elsewhere, and nothing of V2 may be.
            let read = AwsObject::of_metadata(&missing);
            let is_refused = read.is_err() || matches!(read, Ok(AwsClaim::KeyElsewhere | AwsClaim::Nothing));
            assert!(is_refused || optional.contains(&name.as_str()), "{}: {name} missing", vector.name);
            let mut other = all.clone();
            other.insert(name.clone(), "!".to_owned());
            let changes_the_context = matches!(name.as_str(), "x-amz-matdesc" | "x-amz-t");
            assert!(AwsObject::of_metadata(&other).is_err() || changes_the_context, "{}: {name} changed", vector.name);
        }
        for foreign in ["x-amz-key", "x-amz-key-v2", "x-amz-3", "x-amz-c", "x-amz-iv"] {
            let mut two = all.clone();
            if two.insert(foreign.to_owned(), "AAAA".to_owned()).is_none() {
                assert!(matches!(AwsObject::of_metadata(&two), Err(AwsRefusal::Malformed(_))), "{}: {foreign} too", vector.name);
            }
        }
        let object = AwsObject::of_metadata(&all);
        let Ok(AwsClaim::Whole(object)) = object else { panic!("{}", vector.name) };
        for context in [Fields::new(), Fields::from([("aws:x-amz-cek-alg".to_owned(), "114".to_owned())])] {
            assert!(object.key_context(context).is_err());
        }
    }
}

#[test]
fn instruction_files_say_what_the_object_does_not() {
    let vectors: Vec<Vector> = vectors().into_iter().filter(|vector| vector.instruction.is_some()).collect();
    assert_eq!(vectors.len(), 6);
    for vector in &vectors {
        let file = vector.instruction.as_ref().unwrap();
        assert_eq!(AwsObject::of_instruction(&vector.metadata, &Fields::new()), Ok(None));
        let mut more = file.clone();
        more.insert("colour".to_owned(), "blue".to_owned());
        assert!(AwsObject::of_instruction(&vector.metadata, &more).is_err());
        for name in ["x-amz-c", "x-amz-d", "x-amz-i"] {
            let mut more = file.clone();
            more.insert(name.to_owned(), "115".to_owned());
            assert!(AwsObject::of_instruction(&vector.metadata, &more).is_err(), "{name}");
        }
        let mut twice = vector.metadata.clone();
        twice.extend(file.clone());
        assert!(AwsObject::of_instruction(&twice, file).is_err());
    }
    // The file of one format beside the object of the other: nothing may talk an object out of its commitment.
    let of = |format| vectors.iter().find(|vector| vector.format == format).unwrap();
    let (v2, v3) = (of(AwsFormat::V2), of(AwsFormat::V3));
    assert!(AwsObject::of_instruction(&v3.metadata, v2.instruction.as_ref().unwrap()).is_err());
    assert!(AwsObject::of_instruction(&v2.metadata, v3.instruction.as_ref().unwrap()).is_err());
}

#[test]
fn what_is_not_read_is_named() {
    let fields = |pairs: &[(&str, &str)]| -> Fields { pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect() };
    let v1 = fields(&[("x-amz-key", "AAAA"), ("x-amz-iv", "AAAA"), ("x-amz-matdesc", "{}")]);
    let cbc = fields(&[("x-amz-key-v2", "AAAA"), ("x-amz-cek-alg", "AES/CBC/PKCS5Padding"), ("x-amz-wrap-alg", "kms")]);
    let rsa = fields(&[("x-amz-key-v2", "AAAA"), ("x-amz-cek-alg", "AES/GCM/NoPadding"), ("x-amz-wrap-alg", "RSA-OAEP-SHA1")]);
    let aes = fields(&[("x-amz-3", "AAAA"), ("x-amz-c", "115"), ("x-amz-w", "02")]);
    for known in [v1, cbc, rsa, aes] {
        assert!(matches!(AwsObject::of_metadata(&known), Err(AwsRefusal::Unsupported(_))), "{known:?}");
    }
    assert_eq!(AwsObject::of_metadata(&fields(&[("colour", "blue"), ("x-amz-crypto-instr-file", "")])), Ok(AwsClaim::Nothing));
}
