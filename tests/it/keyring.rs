//! The local keyring against the contract of key providers.

use crate::kit::{Launch, Site, noise};
use crate::provider_contract::{Subject, context, provider_contract};
use aws_sdk_s3::primitives::ByteStream;
use ciphergate::format::Envelope;
use ciphergate::keys::keyring::Keyring;
use ciphergate::keys::{KeyProvider, Label};
use std::path::Path;
use std::process::Command;
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
    provider_contract(&Subject { provider, label: label.clone(), second: label, foreign, tells_keys: true }).await;
}

fn keyring(args: &[&str], file: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ciphergate"));
    let output = command.arg("keyring").arg(args[0]).arg(file).args(&args[1..]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The version of the master key that wrapped an object's key.
async fn version_of(site: &Site, key: &str) -> u32 {
    let head = site.behind().head_object().bucket("turn").key(key).send().await.expect("head");
    let text = head.metadata().and_then(|entries| entries.get("ciphergate")).expect("an envelope").clone();
    let blob = Envelope::parse(&text).expect("good").kms_blob().to_vec();
    u32::from_be_bytes(blob[1..5].try_into().expect("four bytes"))
}

/// What was sealed under version 1 opens after the rotation, and what is new is under version 2; with a file that was prepared first, an
/// instance that has not been restarted since is never in the way.
#[tokio::test]
async fn objects_of_both_versions_open_after_a_rotation() {
    let mut site = Site::start().await;
    site.bucket("turn").await;
    let file = site.folder.path().join("keyring");
    let put = async |site: &Site, key: &str, seed: u64| {
        let put = site.client().put_object().bucket("turn").key(key).body(ByteStream::from(noise(70_000, seed)));
        put.send().await.expect("put");
    };
    let opens = async |site: &Site, key: &str, seed: u64| {
        let got = site.client().get_object().bucket("turn").key(key).send().await.expect("get");
        assert!(got.body.collect().await.expect("whole").into_bytes() == noise(70_000, seed), "{key}");
    };
    let restart = |site: &mut Site| {
        site.gateway.terminate();
        site.gateway = Launch::new(site.folder.path(), site.store_addr).start();
    };
    put(&site, "old", 1).await;

    keyring(&["rotate", "--no-primary"], &file);
    restart(&mut site);
    opens(&site, "old", 1).await;
    put(&site, "between", 2).await;
    assert_eq!((version_of(&site, "old").await, version_of(&site, "between").await), (1, 1));

    keyring(&["rotate", "--promote", "2"], &file);
    // The running instance knows the version already, whoever writes with it.
    let other = Launch::new(site.folder.path(), site.store_addr).start();
    let first = std::mem::replace(&mut site.gateway, other);
    put(&site, "new", 3).await;
    assert_eq!(version_of(&site, "new").await, 2);
    let second = std::mem::replace(&mut site.gateway, first);
    for (key, seed) in [("old", 1), ("between", 2), ("new", 3)] {
        opens(&site, key, seed).await;
    }
    drop(second);
    restart(&mut site);
    for (key, seed) in [("old", 1), ("between", 2), ("new", 3)] {
        opens(&site, key, seed).await;
    }
    // A copy onto itself is wrapped anew.
    let copied = site.client().copy_object().bucket("turn").key("old").copy_source("turn/old");
    copied.metadata_directive(aws_sdk_s3::types::MetadataDirective::Replace).send().await.expect("copied");
    assert_eq!(version_of(&site, "old").await, 2);
    opens(&site, "old", 1).await;
}
