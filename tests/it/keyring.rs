//! The local keyring against the contract of key providers.

use crate::provider_contract::{Subject, context, provider_contract};
use ciphergate::keys::keyring::Keyring;
use ciphergate::keys::{KeyProvider, Label};
use std::sync::Arc;

#[tokio::test]
async fn contract() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let label: Label = "main".parse().expect("a label");
    let keyring = |name: &str| {
        let path = folder.path().join(name);
        Keyring::create(&path, &label).expect("created");
        Keyring::load(&path, &label).expect("loaded")
    };
    let foreign = keyring("other").generate(&label, &context()).await.expect("generates").blob;
    let provider = Arc::new(keyring("ours"));
    provider_contract(&Subject { provider, label: label.clone(), second: label, foreign }).await;
}
