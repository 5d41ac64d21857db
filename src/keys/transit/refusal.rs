//! What Transit refuses, in the words of [`Error`]. It has no codes beside the HTTP status, so the table goes by its texts; one that is not
//! in it is [`Error::Refused`], which is permanent.

use super::client::{Client, Failure};
use crate::keys::{Error, Label};

/// Why a key was not made or not unwrapped. `version` is that of the wrapped key, where one was sent.
pub(super) fn of_call(label: &Label, client: &Client, version: Option<u32>, failure: Failure) -> Error {
    let label = label.clone();
    let (status, text) = match failure {
        Failure::Unreachable(detail) => return Error::Unavailable { label, detail },
        Failure::TimedOut => return Error::TimedOut { label, detail: "no answer within the time of an attempt".into() },
        // Whoever writes the file may be late.
        Failure::NoToken(detail) => return Error::Unavailable { label, detail: format!("the token cannot be read: {detail}") },
        Failure::TokenRefused(text) => {
            let detail = format!("{text}: the token is unknown, expired or revoked");
            return Error::CredentialsRefused { label, detail };
        }
        Failure::Refused { status, text } => (status, text),
    };
    let key = client.key();
    let detail = format!("{text} (HTTP {status}, key {} of {})", key.name, key.mount);
    let says = |words: &str| text.contains(words);
    match (status, version) {
        (403, _) => Error::AccessDenied { label, detail },
        (404, _) => Error::KeyNotFound { label, detail },
        (429, _) => Error::Throttled { label, detail },
        // A standby that does not pass requests on sends them elsewhere. The token goes nowhere but where it was meant for.
        (300..=399, _) => {
            Error::Unavailable { label, detail: format!("it points to another server, where nobody follows: {detail}") }
        }
        // A replica that lags behind.
        (412, _) | (470..=479, _) | (500.., _) => Error::Unavailable { label, detail },
        (400, _) if says("encryption key not found") => Error::KeyNotFound { label, detail },
        (400, _) if says("soft-deleted") => Error::KeyDisabled { label, detail },
        (400, Some(_)) if says("disallowed by policy") => Error::KeyStateInvalid { label, detail },
        (400, Some(version)) if says("version is too new") => Error::UnknownKeyVersion { label, version },
        (400, Some(_)) if says("message authentication failed") || says("invalid ciphertext") => {
            Error::InvalidCiphertext { label, detail }
        }
        _ => Error::Refused { label, detail },
    }
}

/// Why the settings of a key were not read.
pub(super) fn of_settings(label: &Label, client: &Client, failure: Failure) -> Error {
    match of_call(label, client, None, failure) {
        Error::AccessDenied { label, detail } => {
            let key = client.key();
            let detail = format!(
                "{detail}: the settings of a key are read before it is used, since only a derived key binds the encryption context; give \
                 the token's policy the capability \"read\" on {}/keys/{}",
                key.mount, key.name
            );
            Error::AccessDenied { label, detail }
        }
        Error::KeyNotFound { label, detail } => {
            let key = client.key();
            let detail = format!("{detail}: make it with `bao write -f {}/keys/{} derived=true`", key.mount, key.name);
            Error::KeyNotFound { label, detail }
        }
        other => other,
    }
}
