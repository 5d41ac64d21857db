use super::*;
use crate::keys::fingerprint;
use std::os::unix::fs::PermissionsExt;

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring.toml");
    (dir, path)
}

fn file(versions: &[(u32, u8)], primary: u32) -> String {
    let mut text = format!("format = 1\nlabel = \"k1\"\nprimary = {primary}\n");
    for (version, seed) in versions {
        let secret: Vec<u8> = (0..32).map(|i| seed + i).collect();
        let secret = &*hex(&secret);
        text += &format!("[[keys]]\nversion = {version}\ncreated = \"2026-01-02T03:04:05Z\"\nsecret = \"{secret}\"\n");
    }
    text
}

fn parse(text: &str) -> Result<Keyring, String> {
    Keyring::parse(text.as_bytes())
}

/// The same values as in docs/KEYRING.md.
#[test]
fn vector() {
    let keyring = parse(&file(&[(1, 0)], 1)).unwrap();
    let kek = KeyEncryptionKey::from_slice(&(0x80..0xa0).collect::<Vec<u8>>()).unwrap();
    let salt = std::array::from_fn(|i| 0x40 + i as u8);
    let blob = keyring.wrap(&KeyContext::for_object("bucket-a", "dir/object.bin", false), &kek, &salt);
    assert_eq!(blob.len(), BLOB_LEN);
    let documented = include_str!("../../../docs/KEYRING.md");
    let vector: String =
        documented.split("blob\n").nth(1).unwrap().lines().take_while(|l| l.starts_with("    ")).map(str::trim).collect();
    assert_eq!(*hex(&blob), vector);
}

#[tokio::test]
async fn a_new_keyring_is_private_and_works() {
    let (_dir, path) = place();
    Keyring::create(&path, &label("k1")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    let keyring = Keyring::load(&path, &label("k1")).unwrap();
    keyring.prove(&label("k1"), &KeyContext::for_scope("s")).await.unwrap();
    assert!(format!("{keyring:?}").contains("MasterKey(secret)"));
}

#[test]
fn an_existing_keyring_is_never_overwritten() {
    let (_dir, path) = place();
    Keyring::create(&path, &label("k1")).unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(Keyring::create(&path, &label("k1")), Err(KeyringError::Exists(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    // Not even through a dangling link.
    let link = path.with_file_name("link.toml");
    std::os::unix::fs::symlink(path.with_file_name("nowhere"), &link).unwrap();
    assert!(matches!(Keyring::create(&link, &label("k1")), Err(KeyringError::Exists(_))));
}

#[test]
fn a_keyring_that_others_can_read_is_refused_with_the_cure() {
    let (_dir, path) = place();
    Keyring::create(&path, &label("k1")).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refusal = Keyring::load(&path, &label("k1")).unwrap_err();
        assert!(matches!(refusal, KeyringError::TooOpen { .. }));
        assert!(refusal.to_string().contains(&format!("chmod 600 {}", path.display())), "{refusal}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    Keyring::load(&path, &label("k1")).unwrap();
}

#[test]
fn what_is_no_keyring_is_refused() {
    let (dir, path) = place();
    assert!(matches!(Keyring::load(&path, &label("k1")), Err(KeyringError::Missing(_))));
    assert!(matches!(Keyring::load(dir.path(), &label("k1")), Err(KeyringError::NotAFile(_))));
    Keyring::create(&path, &label("k1")).unwrap();
    assert!(matches!(Keyring::load(&path, &label("k2")), Err(KeyringError::OtherLabel { .. })));
    let good = file(&[(1, 0)], 1);
    for (bad, why) in [
        (file(&[(1, 0), (1, 7)], 1), "twice"),
        (file(&[(1, 0)], 2), "primary"),
        (file(&[], 1), "keys"),
        (file(&[(0, 0)], 0), "count from 1"),
        (good.replace("format = 1", "format = 2"), "format 2"),
        (good.replace("\"k1\"", "\"K1\""), "label"),
        (good.replace("primary", "colour = 3\nprimary"), "colour"),
        (good.replace("2026-01-02", "yesterday"), "created"),
        (good.replace("1f\"", "\""), "64 hex"),
        (good.replace("1f\"", "1g\""), "64 hex"),
        (good.replace(&*hex(&(0..32).collect::<Vec<u8>>()), &"00".repeat(32)), "random"),
    ] {
        let reason = parse(&bad).unwrap_err();
        assert!(reason.contains(why), "{reason} should speak of {why}");
        assert!(!reason.contains("0a0b0c"), "{reason} shows key bytes");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let good = file(&[(1, 0)], 1);
    let secret = hex(&(0..32).collect::<Vec<u8>>());
    for (wrong, right) in [
        ("format = 1", format!("format = \"{}\"", *secret)),
        ("label = \"k1\"", format!("label = \"{}\"", *secret)),
        ("primary = 1", format!("primary = \"{}\"", *secret)),
        ("version = 1", format!("version = \"{}\"", *secret)),
        ("created = \"2026-01-02T03:04:05Z\"", format!("created = \"{}\"", *secret)),
        ("secret = ", format!("{} = ", *secret)),
        ("secret = \"", format!("secret = {}\"", *secret)),
    ] {
        let bad = good.replace(wrong, &right);
        assert_ne!(bad, good);
        let reason = parse(&bad).unwrap_err();
        assert!(!reason.contains("0a0b0c"), "{reason} shows key bytes");
    }
    assert_eq!(mask("line 3: ü invalid type \"0123456789abcdef01234\", a u32"), "line 3: ü invalid type \"(hidden)\", a u32");
}

#[test]
fn a_pipe_in_place_of_the_file_is_refused_at_once() {
    let (_dir, path) = place();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(matches!(Keyring::load(&path, &label("k1")), Err(KeyringError::NotAFile(_))));
}

#[tokio::test]
async fn old_versions_unwrap_and_the_primary_wraps() {
    let (one, both) = (parse(&file(&[(1, 0)], 1)).unwrap(), parse(&file(&[(1, 0), (2, 100)], 2)).unwrap());
    let two = parse(&file(&[(2, 100)], 2)).unwrap();
    let (k1, context) = (label("k1"), KeyContext::for_scope("s"));
    let old = one.generate(&k1, &context).await.unwrap();
    let new = both.generate(&k1, &context).await.unwrap();
    for made in [&old, &new] {
        assert_eq!(fingerprint(&both.unwrap(&k1, &context, &made.blob).await.unwrap()), fingerprint(&made.kek));
    }
    assert!(matches!(two.unwrap(&k1, &context, &old.blob).await, Err(Error::UnknownKeyVersion { version: 1, .. })));
    assert!(matches!(one.unwrap(&k1, &context, &new.blob).await, Err(Error::UnknownKeyVersion { version: 2, .. })));
}

#[tokio::test]
async fn each_refusal_says_what_it_is() {
    let (keyring, other) = (parse(&file(&[(1, 0)], 1)).unwrap(), parse(&file(&[(1, 9)], 1)).unwrap());
    let (k1, context) = (label("k1"), KeyContext::for_object("s", "key", false));
    let blob = keyring.generate(&k1, &context).await.unwrap().blob;
    assert!(matches!(other.unwrap(&k1, &context, &blob).await, Err(Error::IncorrectKey { .. })));
    assert!(matches!(keyring.unwrap(&label("k2"), &context, &blob).await, Err(Error::UnknownLabel { .. })));
    for wrong in
        [KeyContext::for_object("s", "kez", false), KeyContext::for_object("t", "key", false), KeyContext::for_scope("s")]
    {
        assert!(matches!(keyring.unwrap(&k1, &wrong, &blob).await, Err(Error::WrongContext { .. })));
    }
    for at in 0..blob.len() {
        let mut bad = blob.clone();
        bad[at] ^= 1;
        let refusal = keyring.unwrap(&k1, &context, &bad).await.unwrap_err();
        let expected = match at {
            0 => "invalid_ciphertext",
            1..5 => "unknown_key_version",
            5..13 => "incorrect_key",
            13..21 => "wrong_context",
            _ => "invalid_ciphertext",
        };
        assert_eq!(refusal.kind(), expected, "byte {at}");
        assert!(refusal.is_integrity() && !refusal.is_retryable());
    }
}

/// A forged fingerprint does not help: the context is in the wrapping key itself.
#[tokio::test]
async fn the_fingerprints_are_for_diagnosis_only() {
    let keyring = parse(&file(&[(1, 0)], 1)).unwrap();
    let (k1, here, there) = (label("k1"), KeyContext::for_object("s", "a", false), KeyContext::for_object("s", "b", false));
    let mut moved = keyring.generate(&k1, &here).await.unwrap().blob;
    let local = keyring.generate(&k1, &there).await.unwrap().blob;
    moved[13..21].copy_from_slice(&local[13..21]);
    assert!(matches!(keyring.unwrap(&k1, &there, &moved).await, Err(Error::InvalidCiphertext { .. })));
}
