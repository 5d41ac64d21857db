//! A key in the Transit engine of OpenBao or Vault: what only this kind of key has.

use std::path::PathBuf;

use super::check::{path, refuse_foreign, secret};
use super::problem::Problems;
use super::secret::Secret;
use super::setting::Setting;
use super::values::{Endpoint, KeyKind, MountPath, TransitKeyName};
use super::{KeySource, Token};

const TOKEN_LEN_MAX: usize = 4096;
const NO_TOKEN: &str = "this is no token: it has no spaces, and printable ASCII characters alone";

/// The settings of its own.
pub(super) struct Own {
    pub key_name: Setting<TransitKeyName>,
    pub mount: Setting<MountPath>,
    pub namespace: Setting<MountPath>,
    pub token_file: Setting<PathBuf>,
    pub token: Setting<Secret>,
}

impl Own {
    /// For keys of another kind.
    pub(super) fn refuse(&self, kind: KeyKind, p: &mut Problems) {
        refuse_foreign(&self.key_name, kind, p);
        refuse_foreign(&self.mount, kind, p);
        refuse_foreign(&self.namespace, kind, p);
        refuse_foreign(&self.token_file, kind, p);
        refuse_foreign(&self.token, kind, p);
    }

    /// `None` when a mistake was reported; `ca_file` likewise, from before.
    pub(super) fn source(
        self,
        endpoint: Setting<Endpoint>,
        ca_file: Option<Option<PathBuf>>,
        p: &mut Problems,
    ) -> Option<KeySource> {
        let endpoint = endpoint.need(p, "set it to the address of the server, such as https://bao.example.com:8200");
        let name = self.key_name.need(p, "set it to the name of a derived key: docs/TRANSIT.md says how to make one");
        let token = token(self.token, &self.token_file, p);
        let mount = match self.mount.is_given() {
            true => self.mount.value,
            false => Some("transit".parse().expect("a path")),
        };
        let namespace = match self.namespace.is_given() {
            true => Some(self.namespace.value?),
            false => None,
        };
        Some(KeySource::Transit { endpoint: endpoint?, mount: mount?, name: name?, namespace, ca_file: ca_file?, token: token? })
    }
}

fn token(inline: Setting<Secret>, in_file: &Setting<PathBuf>, p: &mut Problems) -> Option<Token> {
    const ADVICE: &str = "write the token alone, on one line";
    let is_token = |secret: &Secret| {
        let text = secret.expose();
        (1..=TOKEN_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    };
    if inline.value.as_ref().is_some_and(|secret| !is_token(secret)) {
        inline.refuse(p, NO_TOKEN, ADVICE);
        return None;
    }
    match (secret(inline, in_file, |_| Ok(()), p)?, path(in_file)) {
        (None, _) => {
            in_file.refuse(p, "this setting is missing", "set it to a file that holds the token, such as the sink of an agent");
            None
        }
        (Some(secret), _) if !is_token(&secret) => {
            in_file.refuse(p, NO_TOKEN, ADVICE);
            None
        }
        (Some(_), Some(path)) => Some(Token::File(path)),
        (Some(secret), None) => Some(Token::Static(secret)),
    }
}
