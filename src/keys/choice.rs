//! What a request may say about the key of a new object, beside the rule of its bucket.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{KeyEncryptionKey, Label};
use crate::crypto;

/// Which key wraps the data key of a new object.
#[derive(Debug, Default)]
pub enum Choice {
    /// As the bucket's rule says.
    #[default]
    Rule,
    /// Another configured key, or a key of its own for this object where the rule would share one.
    Key {
        /// `None`: the rule's own.
        label: Option<Label>,
        /// No shared key, whatever the rule says. The other direction is not for clients to choose: a shared key hides objects from the
        /// key service's log.
        per_object: bool,
    },
    /// The client's own key (FORMAT section 14). No key service has a part in it.
    Customer(CustomerKey),
}

/// A key that a client sends along with a request, 256 bits of its own choice. It lives as long as the request, is never stored,
/// forwarded or logged, prints no byte of itself and is wiped when the last user of it is done.
#[derive(Debug)]
pub struct CustomerKey(Arc<KeyEncryptionKey>);

impl CustomerKey {
    /// Takes the bytes of the key.
    ///
    /// # Errors
    /// [`crypto::Error::KeyLength`] unless there are 32.
    pub fn new(bytes: &Zeroizing<Vec<u8>>) -> Result<Self, crypto::Error> {
        Ok(Self(Arc::new(KeyEncryptionKey::from_slice(bytes)?)))
    }

    pub(super) fn kek(&self) -> &Arc<KeyEncryptionKey> {
        &self.0
    }
}

/// Whether the metadata beside a new wrap of a stored object are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataSeal {
    /// As the rule of the new place says.
    Rule,
    /// So, whatever the rule says: as beside the object's own envelope, of which another envelope of the same data key says nothing.
    Is(bool),
}

/// A stored object's place and envelope, with the client's own key where the request brought one.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
    pub envelope: &'a crate::format::Envelope,
    pub customer: Option<&'a CustomerKey>,
}
