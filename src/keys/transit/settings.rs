//! Which Transit keys are fit for our use.

use super::{Answer, TransitKey};
use serde::Deserialize;

/// Ciphers of 256 bits that authenticate, with nonces of 96 bits.
const TYPES: [&str; 2] = ["aes256-gcm96", "chacha20-poly1305"];

/// What the settings of a key allow; otherwise a text that says what is wrong and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fitness {
    /// Reading old objects.
    pub unwraps: Result<(), String>,
    /// Writing new ones.
    pub generates: Result<(), String>,
}

#[derive(Deserialize)]
struct Settings {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    derived: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
    /// Only derived keys have it.
    #[serde(default)]
    convergent_encryption: bool,
}

/// Reads the answer about a key. Errors: an answer that does not say everything, or speaks of another key.
///
/// Nobody can turn off what makes a key exportable, so such a key still opens what it wrapped: there would be no way to another one.
pub(super) fn read(answer: &[u8], key: &TransitKey) -> Result<Fitness, String> {
    let Ok(Answer { data: settings }) = serde_json::from_slice::<Answer<Settings>>(answer) else {
        return Err("an answer that does not say what the key is".into());
    };
    if settings.name != key.name {
        return Err("an answer about another key".into());
    }
    let TransitKey { mount, name, .. } = key;
    let unfit = |what: &str| {
        Err(format!("the key {name} of {mount} {what}; make another one with `bao write -f {mount}/keys/NAME derived=true`"))
    };
    let unwraps = if !settings.derived {
        unfit("is not derived, so it would not bind the encryption context")
    } else if !TYPES.contains(&settings.kind.as_str()) {
        unfit(&format!("is of another type than {}", TYPES.join(" or ")))
    } else {
        Ok(())
    };
    let generates = if unwraps.is_err() {
        unwraps.clone()
    } else if settings.exportable {
        unfit("is exportable")
    } else if settings.allow_plaintext_backup {
        unfit("allows plaintext backups, which is exportable by another name")
    } else if settings.convergent_encryption {
        unfit("is convergent")
    } else {
        Ok(())
    };
    Ok(Fitness { unwraps, generates })
}
