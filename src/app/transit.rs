//! A Transit key, from its configuration.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Error, kms_limits};
use crate::config::{Kms, Secret, Token};
use crate::http::tls::client as tls_client;
use crate::keys::transit::{TokenSource, TransitKey, TransitProvider, Use};
use crate::keys::{self, Label};

/// The provider of one label. A key of a wrong kind is refused here, at the start; `writes` says whether new objects get it. A server that
/// does not answer, or that refuses the token, does not keep the gateway from starting: nothing is wrapped or unwrapped before the key's
/// settings were seen.
pub(super) async fn provider(
    label: &Label,
    key: &TransitKey,
    ca_file: Option<&std::path::Path>,
    token: &Token,
    limits: &Kms,
    writes: bool,
) -> Result<TransitProvider, Error> {
    let token: Arc<dyn TokenSource> = match token {
        Token::File(path) => Arc::new(TokenFile(path.clone())),
        Token::Static(secret) => Arc::new(FixedToken(Zeroizing::new(secret.expose().to_owned()))),
    };
    let provider = TransitProvider::new(label.clone(), key, token, tls_client(ca_file)?, kms_limits::transit_options(limits))?;
    match provider.check(if writes { Use::Generate } else { Use::Unwrap }).await {
        Err(unfit @ keys::Error::KeyUnsuitable { .. }) => Err(Error::Unfit(unfit)),
        Err(error) => {
            tracing::warn!(%label, %error, "the settings of a key could not be read yet");
            Ok(provider)
        }
        Ok(()) => Ok(provider),
    }
}

/// A file that somebody else may renew. Every time it is read it has to be as private as at the start.
struct TokenFile(PathBuf);

impl TokenSource for TokenFile {
    fn read(&self) -> Result<Zeroizing<String>, String> {
        let secret = Secret::from_file(&self.0).map_err(|error| format!("{}: {error}", self.0.display()))?;
        Ok(Zeroizing::new(secret.expose().to_owned()))
    }
}

struct FixedToken(Zeroizing<String>);

impl TokenSource for FixedToken {
    fn read(&self) -> Result<Zeroizing<String>, String> {
        Ok(self.0.clone())
    }
}
