//! Keys, their derivation, and the two ciphers (FORMAT sections 2, 4 and 6).
//!
//! This room turns secrets into other secrets and seals or opens one message in place. It never reads a clock, a file or a
//! random source (randomness is always an argument, so test vectors are exact), never logs, and knows nothing of S3.
//! Every key type wipes itself on drop, cannot be cloned or compared, and prints no byte of itself.

mod aws_client;
mod derive;
mod error;
mod key;
mod keywrap;
mod open;
mod seal;
mod suite;

pub use aws_client::{AwsSeal, COMMITTED_LEN};
pub use derive::{ObjectKeys, WrapKey};
pub use error::Error;
pub use key::{DataKey, FreshInput, KeyEncryptionKey};
pub use keywrap::MasterKey;
pub use open::opened_len;
pub use suite::{ChunkKey, FooterKey, MetadataKey, Suite};

/// Length of every key of every suite, in bytes. Frozen with the format.
pub const KEY_LEN: usize = 32;

/// Length of the tag of every suite, in bytes. Frozen: the size law counts on it (FORMAT section 1).
pub const TAG_LEN: usize = 16;

/// Length of the nonce of every suite, in bytes. Frozen with the format.
pub const NONCE_LEN: usize = 12;

/// Length of a wrapped data key: the key and its tag.
pub const WRAPPED_LEN: usize = KEY_LEN + TAG_LEN;

/// Length of the check of a client's own key in an envelope, in bytes (FORMAT section 14).
pub const CHECK_LEN: usize = 16;

/// Result of this room.
pub type Result<T> = std::result::Result<T, Error>;
