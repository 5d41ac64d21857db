//! Keys: where key-encryption keys come from, which of them serves a bucket, and how long one is kept (FORMAT sections 3, 4, 10).
//!
//! The operations see [`Keys`] only: `fresh` for a new object, `open` for a stored one, `rewrap` for a copy of one. It never holds a data key longer than the
//! call, never lets anything read from a bucket choose a key, never skips the key commitment, and knows no HTTP and no backend.

mod age;
mod cache;
mod choice;
mod error;
mod facade;
pub mod guard;
pub mod keyring;
pub mod kms;
mod lookups;
pub mod replicas;
pub mod rules;
mod sources;
pub mod transit;

pub use cache::CacheLimits;
pub use choice::{Choice, CustomerKey, MetadataSeal, Stored};
pub use error::{Error, Side};
pub use facade::{FreshObject, Keys, Proof, Stats};
pub use lookups::Lookups;
pub use rules::RuleError;
pub use sources::{Clock, OsRandom, Random, Sources};

pub use crate::crypto::KeyEncryptionKey;
pub use crate::format::{KeyContext, Label, Layout};

use crate::crypto::{DataKey, FreshInput, ObjectKeys, Suite};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest wrapped key that a provider may make, in bytes. A KMS blob has 184; S3 allows 2,048 bytes for all metadata of an
/// object, so a longer one would not fit beside a client's own entries.
pub const BLOB_LEN_MAX: usize = 1024;

/// A new key-encryption key and its wrapped form.
#[derive(Debug)]
pub struct Generated {
    pub kek: KeyEncryptionKey,
    /// 1 to [`BLOB_LEN_MAX`] bytes, not secret: it is stored with the object.
    pub blob: Vec<u8>,
}

/// A key service: it makes key-encryption keys and unwraps the ones it made.
///
/// The contract, which one test suite holds for every implementation:
/// - Every `generate` gives another key and another blob. The blob has 1 to [`BLOB_LEN_MAX`] bytes.
/// - `unwrap` gives the key only for the label and for the exact context (all names, all values) it was generated with. Anything
///   else is an error, never another key: [`Error::InvalidCiphertext`] or [`Error::WrongContext`] for a damaged blob or another
///   context, [`Error::IncorrectKey`] or [`Error::UnknownKeyVersion`] for a blob of another key. A key service that cannot tell (Transit)
///   has [`Error::InvalidCiphertext`] for that too.
/// - A blob that cannot be one of its own is refused without a call to anybody.
/// - The label chooses the key through the configuration. A label it does not know is [`Error::UnknownLabel`]. Nothing inside a
///   blob may choose a key that the configuration does not map from that label.
/// - Calls are bounded in time by the implementation, may run concurrently, and may be dropped at any point. Nothing is cached:
///   a key that is switched off fails at the next call.
/// - Key bytes are wiped after use as far as the layers below allow, and appear in no error and no log.
#[async_trait::async_trait]
pub trait KeyProvider: Send + Sync {
    /// Makes a key for new objects.
    async fn generate(&self, label: &Label, context: &KeyContext) -> Result<Generated, Error>;

    /// Unwraps a blob that `generate` made.
    async fn unwrap(&self, label: &Label, context: &KeyContext, blob: &[u8]) -> Result<KeyEncryptionKey, Error>;

    /// The name under which the key service itself knows the key of a label, where that is one that clients may use: an ARN.
    fn arn(&self, _label: &Label) -> Option<String> {
        None
    }

    /// One round trip, for `ciphergate check` and the start: a generated key must come back the same.
    async fn prove(&self, label: &Label, context: &KeyContext) -> Result<(), Error> {
        let made = self.generate(label, context).await?;
        let back = self.unwrap(label, context, &made.blob).await?;
        if fingerprint(&made.kek) == fingerprint(&back) {
            return Ok(());
        }
        Err(Error::BadAnswer { label: label.clone(), detail: "the key that came back is not the key that was made".into() })
    }
}

/// A public value that two keys share only if they are the same. Keys themselves cannot be compared.
fn fingerprint(kek: &KeyEncryptionKey) -> [u8; 32] {
    let input = FreshInput { random: [0; 32], clock_nanos: 0, counter: 0, key: "ciphergate key fingerprint" };
    ObjectKeys::derive(Suite::ChaCha20Poly1305, &DataKey::fresh(kek, input)).commit()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in this room can panic while it holds a lock; if something ever does, the values are still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_blob_len(label: &Label, blob: &[u8]) -> Result<(), Error> {
    if (1..=BLOB_LEN_MAX).contains(&blob.len()) {
        return Ok(());
    }
    let detail = format!("{} bytes, a wrapped key has 1 to {BLOB_LEN_MAX}", blob.len());
    Err(Error::InvalidCiphertext { label: label.clone(), detail })
}
