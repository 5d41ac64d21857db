//! Where the gateway keeps what the store cannot keep for it: the state store, for unfinished multipart uploads (FORMAT section 11) and for
//! versions whose key is to go (section 16).
//!
//! It is a bucket of its own, or a reserved prefix in the object's bucket. Clients see neither: whatever names one is refused.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

use super::Error;
use crate::backend::{Body, Error as StoreError};

/// The place of the state store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatePlace {
    /// A bucket of its own, hidden as a whole.
    Bucket(String),
    /// A prefix in the bucket that the upload is for, not empty. Every key that begins with it is hidden.
    Prefix(String),
}

impl Default for StatePlace {
    fn default() -> Self {
        Self::Prefix(".ciphergate/".to_owned())
    }
}

impl StatePlace {
    /// Whether no client may name this bucket, or this key in it.
    #[must_use]
    pub fn hides(&self, bucket: &str, key: Option<&str>) -> bool {
        self.hides_bucket(bucket) || key.is_some_and(|key| self.hides_key(key))
    }

    pub(super) fn hides_bucket(&self, bucket: &str) -> bool {
        matches!(self, Self::Bucket(own) if own == bucket)
    }

    /// Whether no client may name this key in any bucket.
    pub(super) fn hides_key(&self, key: &str) -> bool {
        matches!(self, Self::Prefix(prefix) if key.starts_with(prefix.as_str()))
    }

    /// For operations whose names stand in their body, where the front does not look.
    ///
    /// # Errors
    /// `Reserved` for a name that [`StatePlace::hides`].
    pub(super) fn admit(&self, bucket: &str, key: &str) -> Result<(), Error> {
        if self.hides(bucket, Some(key)) { Err(Error::Reserved) } else { Ok(()) }
    }

    /// The prefix that listings leave out, where there is one.
    pub(super) fn prefix(&self) -> Option<&str> {
        match self {
            Self::Bucket(_) => None,
            Self::Prefix(prefix) => Some(prefix),
        }
    }

    /// Bucket and prefix of the state of uploads into this bucket.
    pub(super) fn of<'a>(&'a self, bucket: &'a str) -> (&'a str, &'a str) {
        match self {
            Self::Bucket(own) => (own, ""),
            Self::Prefix(prefix) => (bucket, prefix),
        }
    }
}

/// A record, whole, if it is no longer than any can be.
///
/// # Errors
/// `Integrity` for a longer one; a body that broke off.
pub(super) async fn read_whole(body: Body, max: usize) -> Result<Bytes, Error> {
    let pieces = body.map_err(|cause| Error::Backend(StoreError::Unreachable(cause)));
    let whole = pieces.try_fold(BytesMut::new(), |mut whole, piece| async move {
        if whole.len() + piece.len() > max {
            return Err(Error::Integrity("a record is too long".into()));
        }
        whole.extend_from_slice(&piece);
        Ok(whole)
    });
    Ok(whole.await?.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_hidden_whole_and_a_prefix_in_every_bucket() {
        let bucket = StatePlace::Bucket("state".into());
        assert!(bucket.hides("state", None) && bucket.hides("state", Some("x")) && !bucket.hides("b", Some(".ciphergate/x")));
        let prefix = StatePlace::default();
        assert!(prefix.hides("b", Some(".ciphergate/")) && prefix.hides("b", Some(".ciphergate/x")));
        assert!(
            !prefix.hides("b", Some(".ciphergate")) && !prefix.hides("b", Some("a/.ciphergate/x")) && !prefix.hides("b", None)
        );
        assert!(matches!(prefix.admit("b", ".ciphergate/x"), Err(Error::Reserved)));
        assert_eq!((bucket.of("b"), prefix.of("b")), (("state", ""), ("b", ".ciphergate/")));
    }
}
