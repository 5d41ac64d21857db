//! The clients the gateway knows, and their secrets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result};
use zeroize::Zeroizing;

/// One client: an access key, its secret, and the name it has in logs.
pub struct Identity {
    access_key: String,
    secret: Zeroizing<String>,
    name: Option<String>,
}

impl Identity {
    #[must_use]
    pub fn new(access_key: String, secret: Zeroizing<String>, name: Option<String>) -> Self {
        Self { access_key, secret, name }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("access_key", &self.access_key).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is wrong with a set of identities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("there are no client credentials: nobody could use the gateway")]
    Empty,
    #[error("the access key {0:?} is there more than once")]
    Repeated(String),
    #[error("the access key {0:?} must have 3 to 128 letters, digits or any of _ . -")]
    AccessKey(String),
    #[error("the secret of access key {0:?} is shorter than 8 characters")]
    SecretTooShort(String),
}

/// All clients. Cloning shares them.
#[derive(Clone)]
pub struct Identities(Arc<HashMap<Box<str>, Known>>);

struct Known {
    secret: Zeroizing<Box<str>>,
    name: Box<str>,
}

impl Identities {
    /// Takes the identities over.
    ///
    /// # Errors
    /// An empty set, a repeated or malformed access key, a secret that can be guessed by its length.
    pub fn new(identities: impl IntoIterator<Item = Identity>) -> Result<Self, IdentityError> {
        let mut known = HashMap::new();
        for identity in identities {
            let Identity { access_key, secret, name } = identity;
            // A slash would end the key inside a credential scope, other characters would have to be escaped in query and log.
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if !(3..=128).contains(&access_key.len()) || !access_key.chars().all(fits) {
                return Err(IdentityError::AccessKey(access_key));
            }
            if secret.len() < 8 {
                return Err(IdentityError::SecretTooShort(access_key));
            }
            let name = name.unwrap_or_else(|| access_key.clone()).into_boxed_str();
            let entry = Known { secret: Zeroizing::new(secret.as_str().into()), name };
            if known.insert(access_key.clone().into_boxed_str(), entry).is_some() {
                return Err(IdentityError::Repeated(access_key));
            }
        }
        if known.is_empty() {
            return Err(IdentityError::Empty);
        }
        Ok(Self(Arc::new(known)))
    }

    /// The name of the client with this access key.
    #[must_use]
    pub fn name(&self, access_key: &str) -> Option<&str> {
        self.0.get(access_key).map(|known| &*known.name)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({} known)", self.0.len())
    }
}

#[async_trait::async_trait]
impl S3Auth for Identities {
    // An access key is public (it stands in every request and URL), so that an unknown one is told apart, as S3 does. The
    // table hashes with a random key: how far a guess agrees with a known key cannot be timed.
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.get(access_key) {
            Some(known) => Ok(SecretKey::from(&**known.secret)),
            None => Err(S3Error::new(S3ErrorCode::InvalidAccessKeyId)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(access_key: &str, secret: &str) -> Identity {
        Identity::new(access_key.into(), Zeroizing::new(secret.into()), None)
    }

    #[tokio::test]
    async fn known_keys_have_secrets_and_others_are_invalid() {
        let all = Identities::new([identity("AKONE", "secret-one"), identity("AKTWO", "secret-two")]).unwrap();
        assert_eq!(all.get_secret_key("AKTWO").await.unwrap().expose(), "secret-two");
        let err = all.get_secret_key("AKTHREE").await.unwrap_err();
        assert_eq!((err.code().as_str(), err.status_code().unwrap().as_u16()), ("InvalidAccessKeyId", 403));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(Identities::new([]).unwrap_err(), IdentityError::Empty);
        let twice = [identity("AKONE", "secret-one"), identity("AKONE", "secret-two")];
        assert_eq!(Identities::new(twice).unwrap_err(), IdentityError::Repeated("AKONE".into()));
        assert_eq!(Identities::new([identity("a/b", "secret-one")]).unwrap_err(), IdentityError::AccessKey("a/b".into()));
        assert_eq!(Identities::new([identity("AKONE", "short")]).unwrap_err(), IdentityError::SecretTooShort("AKONE".into()));
    }

    #[test]
    fn secrets_cannot_be_printed() {
        let one = identity("AKONE", "secret-one");
        assert!(!format!("{one:?}").contains("secret-one"));
        assert!(!format!("{:?}", Identities::new([one]).unwrap()).contains("secret-one"));
    }
}
