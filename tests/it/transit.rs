//! Transit as OpenBao has it: the contract of key providers, the states of a key, of its server and of the token.
//!
//! `tests/run` installs the program and says where it is. Every test has a server of its own.

mod gateway;
mod server;
mod setup;

use crate::provider_contract::{Subject, context, fingerprint, provider_contract};
use ciphergate::http::tls;
use ciphergate::keys::transit::{TokenSource, TransitKey, TransitOptions, TransitProvider, Use};
use ciphergate::keys::{Error, KeyContext, KeyProvider, Label};
use server::Bao;
use std::sync::Arc;
use zeroize::Zeroizing;

struct Token(String);

impl TokenSource for Token {
    fn read(&self) -> Result<Zeroizing<String>, String> {
        Ok(Zeroizing::new(self.0.clone()))
    }
}

fn label() -> Label {
    "k1".parse().expect("a label")
}

impl Bao {
    /// With the token of the server's owner.
    fn provider(&self, name: &str) -> TransitProvider {
        self.provider_of(name, self.token(), None)
    }

    fn provider_of(&self, name: &str, token: &str, namespace: Option<&str>) -> TransitProvider {
        let key = TransitKey {
            address: self.address(),
            mount: "transit".into(),
            name: name.into(),
            namespace: namespace.map(Into::into),
        };
        let tls = tls::client(self.ca_file().as_deref()).expect("TLS for a client");
        TransitProvider::new(label(), &key, Arc::new(Token(token.to_owned())), tls, TransitOptions::default())
            .expect("a provider")
    }
}

/// What both operations answer.
async fn refusals(provider: &TransitProvider, blob: &[u8]) -> [Error; 2] {
    let generate = provider.generate(&label(), &context()).await.expect_err("must not generate");
    let unwrap = provider.unwrap(&label(), &context(), blob).await.expect_err("must not unwrap");
    [generate, unwrap]
}

#[tokio::test]
async fn contract() {
    let bao = Bao::start().await;
    bao.key("stranger", "");
    let foreign = bao.provider("stranger").generate(&label(), &context()).await.expect("generates").blob;
    for kind in ["aes256-gcm96", "chacha20-poly1305"] {
        bao.key(kind, &format!("type={kind}"));
        let (provider, foreign) = (Arc::new(bao.provider(kind)), foreign.clone());
        provider_contract(&Subject { provider, label: label(), second: label(), foreign, tells_keys: false }).await;
    }
}

#[tokio::test]
async fn the_context_is_bound_by_the_server_too() {
    let bao = Bao::start().await;
    bao.key("k", "");
    let provider = bao.provider("k");
    let made = provider.generate(&label(), &context()).await.expect("generates");
    // Without our code: another context, and none.
    let text = String::from_utf8(made.blob).expect("text");
    let context = "1BcD8ddd2a2bd866d9751445867101eb65ccbcee9e8=";
    assert!(
        !bao.cli(&["write", "transit/decrypt/k", &format!("ciphertext={text}"), &format!("context={context}")]).status.success()
    );
    assert!(!bao.cli(&["write", "transit/decrypt/k", &format!("ciphertext={text}")]).status.success());
    // The context as docs/TRANSIT.md has it, by hand.
    let context = "0vCN3Sor2GbZdRRFhnEB62XMvO6ej0eOlw+Y0g5rxVY=";
    let opened = bao.run(&[
        "write",
        "-field=plaintext",
        "transit/decrypt/k",
        &format!("ciphertext={text}"),
        &format!("context={context}"),
    ]);
    assert_eq!(opened.trim().len(), 44);
}

#[tokio::test]
async fn versions_of_a_key_come_and_go() {
    let bao = Bao::start().await;
    bao.key("k", "");
    let provider = bao.provider("k");
    let old = provider.generate(&label(), &context()).await.expect("generates");
    bao.run(&["write", "-f", "transit/keys/k/rotate"]);
    let new = provider.generate(&label(), &context()).await.expect("generates");
    assert!(old.blob.starts_with(b"vault:v1:") && new.blob.starts_with(b"vault:v2:"));
    for made in [&old, &new] {
        let back = provider.unwrap(&label(), &context(), &made.blob).await.expect("both unwrap");
        assert_eq!(fingerprint(&back), fingerprint(&made.kek));
    }
    // A version that says another number is no better than an altered one, and one that is not there is told as such.
    let renumbered = |version: u32| [format!("vault:v{version}:").as_bytes(), &old.blob[9..]].concat();
    let refusal = provider.unwrap(&label(), &context(), &renumbered(2)).await.expect_err("of version 1");
    assert!(matches!(refusal, Error::InvalidCiphertext { .. }), "{refusal:?}");
    let refusal = provider.unwrap(&label(), &context(), &renumbered(3)).await.expect_err("no such version");
    assert!(matches!(refusal, Error::UnknownKeyVersion { version: 3, .. }), "{refusal:?}");

    bao.run(&["write", "transit/keys/k/config", "min_decryption_version=2"]);
    let refusal = provider.unwrap(&label(), &context(), &old.blob).await.expect_err("too old");
    assert!(
        matches!(refusal, Error::KeyStateInvalid { .. }) && !refusal.is_retryable() && !refusal.is_integrity(),
        "{refusal:?}"
    );
    provider.unwrap(&label(), &context(), &new.blob).await.expect("the new one stays");
    bao.run(&["write", "transit/keys/k/config", "min_decryption_version=1"]);
    provider.unwrap(&label(), &context(), &old.blob).await.expect("and the old one is back");

    bao.run(&["write", "transit/keys/k/config", "min_decryption_version=2", "min_encryption_version=2"]);
    bao.run(&["write", "transit/keys/k/trim", "min_available_version=2"]);
    let refusal = provider.unwrap(&label(), &context(), &old.blob).await.expect_err("trimmed");
    assert!(matches!(refusal, Error::KeyStateInvalid { .. }), "{refusal:?}");
}

#[tokio::test]
async fn a_key_that_goes_or_never_was_is_told_apart() {
    let bao = Bao::start().await;
    bao.key("k", "");
    let provider = bao.provider("k");
    let made = provider.generate(&label(), &context()).await.expect("generates");
    for refusal in refusals(&bao.provider("none"), &made.blob).await {
        assert!(matches!(&refusal, Error::KeyNotFound { .. }) && refusal.to_string().contains("derived=true"), "{refusal:?}");
    }
    bao.run(&["delete", "transit/keys/k/soft-delete"]);
    for refusal in refusals(&provider, &made.blob).await {
        assert!(matches!(refusal, Error::KeyDisabled { .. }) && !refusal.is_retryable(), "{refusal:?}");
    }
    bao.run(&["write", "-f", "transit/keys/k/soft-delete-restore"]);
    provider.unwrap(&label(), &context(), &made.blob).await.expect("unwraps again");
    bao.run(&["write", "transit/keys/k/config", "deletion_allowed=true"]);
    bao.run(&["delete", "transit/keys/k"]);
    for refusal in refusals(&provider, &made.blob).await {
        assert!(matches!(refusal, Error::KeyNotFound { .. }) && !refusal.is_retryable(), "{refusal:?}");
    }
    bao.run(&["secrets", "disable", "transit"]);
    for refusal in refusals(&provider, &made.blob).await {
        assert!(matches!(refusal, Error::KeyNotFound { .. }), "{refusal:?}");
    }
}

#[tokio::test]
async fn only_derived_keys_that_stay_inside_are_used() {
    let bao = Bao::start().await;
    bao.run(&["write", "-f", "transit/keys/plain"]);
    bao.run(&["write", "-f", "transit/keys/rsa", "type=rsa-2048"]);
    bao.key("small", "type=aes128-gcm96");
    bao.key("open", "exportable=true");
    bao.key("backup", "allow_plaintext_backup=true");
    bao.key("convergent", "convergent_encryption=true");
    for (name, unwraps) in
        [("plain", false), ("rsa", false), ("small", false), ("open", true), ("backup", true), ("convergent", true)]
    {
        let provider = bao.provider(name);
        let refusal = provider.check(Use::Generate).await.expect_err(name);
        assert!(matches!(refusal, Error::KeyUnsuitable { .. }) && refusal.to_string().contains("derived=true"), "{refusal}");
        assert_eq!(provider.check(Use::Unwrap).await.is_ok(), unwraps, "{name}");
        assert!(matches!(provider.generate(&label(), &context()).await, Err(Error::KeyUnsuitable { .. })), "{name}");
        assert!(matches!(provider.prove(&label(), &context()).await, Err(Error::KeyUnsuitable { .. })), "{name}");
    }
    // One that became exportable opens what it wrapped before.
    bao.key("k", "");
    let provider = bao.provider("k");
    let made = provider.generate(&label(), &context()).await.expect("generates");
    bao.run(&["write", "transit/keys/k/config", "exportable=true"]);
    let later = bao.provider("k");
    assert!(matches!(later.generate(&label(), &context()).await, Err(Error::KeyUnsuitable { .. })));
    later.unwrap(&label(), &context(), &made.blob).await.expect("unwraps");
}

#[tokio::test]
async fn tokens_and_policies_are_told_apart() {
    let bao = Bao::start().await;
    bao.key("k", "");
    let made = bao.provider("k").generate(&label(), &context()).await.expect("generates");
    let with = |token: &str| bao.provider_of("k", token, None);
    for refusal in refusals(&with("unknown-token"), &made.blob).await {
        assert!(matches!(refusal, Error::CredentialsRefused { .. }) && !refusal.is_retryable(), "{refusal:?}");
        assert!(!refusal.to_string().contains("unknown-token"));
    }
    let short = bao.run(&["token", "create", "-policy=root", "-ttl=1s", "-field=token"]);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    for refusal in refusals(&with(short.trim()), &made.blob).await {
        assert!(matches!(refusal, Error::CredentialsRefused { .. }), "{refusal:?}");
    }
    // May open, but neither write nor, at first, see what kind of key it is.
    let opens = "path \"transit/decrypt/k\" { capabilities = [\"update\"] }\n";
    bao.policy("opens", opens);
    let token = bao.run(&["token", "create", "-policy=opens", "-field=token"]);
    let provider = with(token.trim());
    for refusal in refusals(&provider, &made.blob).await {
        assert!(matches!(refusal, Error::AccessDenied { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains("\"read\" on transit/keys/k"), "{refusal}");
    }
    bao.policy("opens", &format!("{opens}path \"transit/keys/k\" {{ capabilities = [\"read\"] }}"));
    provider.unwrap(&label(), &context(), &made.blob).await.expect("may unwrap now");
    let refusal = provider.generate(&label(), &context()).await.expect_err("may not generate");
    assert!(matches!(refusal, Error::AccessDenied { .. }) && !refusal.is_retryable(), "{refusal:?}");
}

#[tokio::test]
async fn a_quota_throttles_and_a_seal_is_an_outage() {
    let bao = Bao::start().await;
    bao.key("k", "");
    let provider = bao.provider("k");
    let made = provider.generate(&label(), &context()).await.expect("generates");
    bao.run(&["write", "sys/quotas/rate-limit/least", "path=transit/", "rate=1"]);
    let mut throttled = false;
    for _ in 0..5 {
        throttled |= matches!(provider.unwrap(&label(), &context(), &made.blob).await, Err(Error::Throttled { .. }));
    }
    assert!(throttled);
    bao.run(&["delete", "sys/quotas/rate-limit/least"]);
    bao.run(&["operator", "seal"]);
    for refusal in refusals(&provider, &made.blob).await {
        assert!(matches!(refusal, Error::Unavailable { .. }) && refusal.to_string().contains("sealed"), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_namespace_has_keys_of_its_own() {
    let bao = Bao::start().await;
    bao.key("k", "");
    bao.run(&["namespace", "create", "team"]);
    bao.run(&["secrets", "enable", "-namespace=team", "transit"]);
    bao.run(&["write", "-namespace=team", "-f", "transit/keys/k", "derived=true"]);
    let inside = bao.provider_of("k", bao.token(), Some("team"));
    let made = inside.generate(&label(), &context()).await.expect("generates");
    inside.unwrap(&label(), &context(), &made.blob).await.expect("unwraps");
    assert!(bao.provider("k").unwrap(&label(), &context(), &made.blob).await.expect_err("another key").is_integrity());
    let nowhere = bao.provider_of("k", bao.token(), Some("nobody"));
    assert!(matches!(nowhere.generate(&label(), &context()).await, Err(Error::KeyNotFound { .. })));
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let bao = Bao::start_tls().await;
    bao.key("k", "");
    let made = bao.provider("k").generate(&label(), &KeyContext::for_scope("s")).await.expect("generates over TLS");
    assert!(made.blob.starts_with(b"vault:v1:"));
    let key = TransitKey { address: bao.address(), mount: "transit".into(), name: "k".into(), namespace: None };
    let token = Arc::new(Token(bao.token().to_owned()));
    let tls = tls::client(None).expect("TLS for a client");
    let stranger = TransitProvider::new(label(), &key, token, tls, TransitOptions::default()).expect("a provider");
    let refusal = stranger.generate(&label(), &context()).await.expect_err("nobody vouches for it");
    assert!(matches!(refusal, Error::Unavailable { .. }) && refusal.to_string().contains("certificate"), "{refusal:?}");
}
