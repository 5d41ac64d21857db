//! What a failure says: of the object, of the way there, or of neither. For commands that look at many objects and must not take a store
//! that does not answer for a damaged one.

use super::Error;
use crate::backend::{self, Refusal};
use crate::{format, keys};

/// What a failure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// The object is not what was sealed under its key: altered, cut, or with an envelope that cannot be read.
    Damaged,
    /// The envelope was made for another place, or under a key that is not the one configured: nothing says that the object is damaged.
    /// An envelope that was altered where only the key service can tell looks the same.
    Foreign,
    /// Somebody's decision keeps it shut: a key that is disabled or denied, an archive, a policy of the store.
    Unreadable,
    /// It opens with the client's own key alone.
    CustomerKey,
    /// It is not there any more.
    Gone,
    /// It is another one than a moment ago.
    Changed,
    /// Store or key service did not answer, or not now.
    Passing,
    /// This program's configuration or credentials, or something that nobody expected.
    Ours,
}

impl Error {
    /// What this failure is about.
    #[must_use]
    pub fn nature(&self) -> Nature {
        match self {
            Self::Integrity(_) => Nature::Damaged,
            Self::Keys(error) => of_keys(error),
            Self::Backend(error) => of_store(error),
            Self::Body(error) if error.is_integrity() => Nature::Damaged,
            Self::Coded { status: 412, .. } => Nature::Changed,
            Self::Body(_)
            | Self::InvalidArgument(_)
            | Self::InvalidRequest(_)
            | Self::InvalidDigest
            | Self::MissingContentLength
            | Self::EntityTooLarge
            | Self::MetadataTooLarge { .. }
            | Self::InvalidRange { .. }
            | Self::InvalidPartNumber
            | Self::NotImplemented(_)
            | Self::Coded { .. }
            | Self::Upload(_)
            | Self::Reserved
            | Self::Output(_)
            | Self::Internal(_) => Nature::Ours,
        }
    }
}

fn of_keys(error: &keys::Error) -> Nature {
    use keys::Error as Key;
    match error {
        Key::UnknownLabel { .. } | Key::InvalidCiphertext { .. } | Key::WrongContext { .. } | Key::IncorrectKey { .. } => {
            Nature::Foreign
        }
        Key::Envelope(format::Error::Crypto(_)) => Nature::Foreign,
        Key::Envelope(_) => Nature::Damaged,
        Key::UnknownKeyVersion { .. }
        | Key::AccessDenied { .. }
        | Key::KeyDisabled { .. }
        | Key::KeyPendingDeletion { .. }
        | Key::KeyStateInvalid { .. }
        | Key::KeyNotFound { .. }
        | Key::KeyUnsuitable { .. } => Nature::Unreadable,
        Key::CustomerKeyMissing | Key::CustomerKeyWrong => Nature::CustomerKey,
        Key::Throttled { .. } | Key::Unavailable { .. } | Key::TimedOut { .. } | Key::NoRandomness { .. } => Nature::Passing,
        Key::ScopeTaken { .. }
        | Key::PlaintextBucket { .. }
        | Key::CredentialsRefused { .. }
        | Key::AliasRefused { .. }
        | Key::BadAnswer { .. }
        | Key::Refused { .. }
        | Key::CustomerKeySuperfluous => Nature::Ours,
    }
}

fn of_store(error: &backend::Error) -> Nature {
    match error {
        backend::Error::Refused(refusal) => of_refusal(refusal),
        backend::Error::Unreachable(_) | backend::Error::TimedOut(_) | backend::Error::Garbled(_) => Nature::Passing,
        backend::Error::NotSent(_) => Nature::Ours,
    }
}

fn of_refusal(refusal: &Refusal) -> Nature {
    match (refusal.status, refusal.code.as_str()) {
        _ if refusal.is_about_us() => Nature::Ours,
        (_, "NoSuchBucket") => Nature::Ours,
        // A delete marker does not allow to be read.
        (404 | 405, _) => Nature::Gone,
        (409 | 412, _) => Nature::Changed,
        (403, _) => Nature::Unreadable,
        (408 | 429 | 500..=599, _) if refusal.status != 501 => Nature::Passing,
        (_, "SlowDown" | "RequestTimeout") => Nature::Passing,
        _ => Nature::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Nature {
        let refusal = Refusal { status, code: code.into(), message: String::new(), headers: http::HeaderMap::new() };
        Error::Backend(backend::Error::Refused(Box::new(refusal))).nature()
    }

    #[test]
    fn a_store_that_does_not_answer_is_no_damage() {
        for (status, code, nature) in [
            (404, "NoSuchKey", Nature::Gone),
            (405, "MethodNotAllowed", Nature::Gone),
            (404, "NoSuchBucket", Nature::Ours),
            (412, "PreconditionFailed", Nature::Changed),
            (403, "InvalidObjectState", Nature::Unreadable),
            (403, "SignatureDoesNotMatch", Nature::Ours),
            (503, "SlowDown", Nature::Passing),
            (500, "InternalError", Nature::Passing),
            (400, "RequestTimeout", Nature::Passing),
            (501, "NotImplemented", Nature::Ours),
            (400, "InvalidArgument", Nature::Ours),
        ] {
            assert_eq!(refused(status, code), nature, "{status} {code}");
        }
        assert_eq!(Error::Backend(backend::Error::Unreachable("x".into())).nature(), Nature::Passing);
        assert_eq!(Error::Integrity("x".into()).nature(), Nature::Damaged);
    }

    #[test]
    fn a_key_that_is_kept_from_us_is_no_damage_either() {
        let label: keys::Label = "k".parse().unwrap();
        let detail = String::new;
        assert_eq!(Error::Keys(keys::Error::UnknownLabel { label: label.clone() }).nature(), Nature::Foreign);
        assert_eq!(Error::Keys(keys::Error::KeyDisabled { label: label.clone(), detail: detail() }).nature(), Nature::Unreadable);
        assert_eq!(Error::Keys(keys::Error::Unavailable { label, detail: detail() }).nature(), Nature::Passing);
        assert_eq!(Error::Keys(keys::Error::CustomerKeyMissing).nature(), Nature::CustomerKey);
        assert_eq!(Error::Keys(keys::Error::Envelope(format::Error::Label)).nature(), Nature::Damaged);
    }
}
