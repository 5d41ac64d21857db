//! The contract of `KeyProvider`, as a test that every implementation runs.

use ciphergate::crypto::{DataKey, FreshInput, ObjectKeys, Suite};
use ciphergate::keys::{BLOB_LEN_MAX, Error, KeyContext, KeyEncryptionKey, KeyProvider, Label};
use std::collections::HashSet;
use std::sync::Arc;

/// A provider and what the contract needs to know of it.
pub struct Subject {
    pub provider: Arc<dyn KeyProvider>,
    /// A label it serves.
    pub label: Label,
    /// Another label it serves, with another key. Equal to `label` if it serves one only.
    pub second: Label,
    /// Wrapped for [`context`] by a key that no label of the provider leads to.
    pub foreign: Vec<u8>,
    /// Whether a blob of another key is told from a damaged one.
    pub tells_keys: bool,
}

/// The context that foreign blobs are made for.
pub fn context() -> KeyContext {
    KeyContext::for_object("bucket-a", "dir/object.bin", false)
}

/// Two keys give one value only if they are the same key.
pub fn fingerprint(kek: &KeyEncryptionKey) -> [u8; 32] {
    let input = FreshInput { random: [1; 32], clock_nanos: 2, counter: 3, key: "fingerprint" };
    ObjectKeys::derive(Suite::ChaCha20Poly1305, &DataKey::fresh(kek, input)).commit()
}

/// Holds a provider to its contract.
pub async fn provider_contract(subject: &Subject) {
    keys_come_back(subject).await;
    keys_and_blobs_are_new_each_time(subject).await;
    other_contexts_are_refused(subject).await;
    damaged_blobs_are_refused(subject).await;
    other_keys_blobs_are_refused(subject).await;
    unknown_labels_are_refused(subject).await;
    subject.provider.prove(&subject.label, &context()).await.expect("a working key is proved");
}

async fn keys_come_back(Subject { provider, label, .. }: &Subject) {
    let longest = "k".repeat(1024);
    let contexts = [
        context(),
        KeyContext::for_scope("bucket-a"),
        KeyContext::for_object("bucket-a", "dir/object.bin", true),
        KeyContext::for_object("tenant-7/b", "sp ace + %2F \u{e9}\u{4f60}\u{1f511} \"quoted\" \\ end", false),
        KeyContext::for_object("bucket-a", "line\nbreak\ttab\u{7f}", false),
        KeyContext::for_object("bucket-a", &longest, false),
    ];
    for context in contexts {
        let made = provider.generate(label, &context).await.expect("generates");
        assert!((1..=BLOB_LEN_MAX).contains(&made.blob.len()), "{} bytes", made.blob.len());
        for _ in 0..2 {
            let back = provider.unwrap(label, &context, &made.blob).await.unwrap_or_else(|e| panic!("{context:?}: {e}"));
            assert_eq!(fingerprint(&back), fingerprint(&made.kek), "{context:?}");
        }
    }
}

async fn keys_and_blobs_are_new_each_time(Subject { provider, label, .. }: &Subject) {
    let context = context();
    let made = futures::future::join_all((0..50).map(|_| provider.generate(label, &context))).await;
    let (mut keys, mut blobs) = (HashSet::new(), HashSet::new());
    for made in made {
        let made = made.expect("generates beside others");
        keys.insert(fingerprint(&made.kek));
        blobs.insert(made.blob);
    }
    assert_eq!((keys.len(), blobs.len()), (50, 50));
}

async fn other_contexts_are_refused(Subject { provider, label, .. }: &Subject) {
    let made = provider.generate(label, &context()).await.expect("generates");
    for other in [
        KeyContext::for_object("bucket-a", "dir/object.biN", false),
        KeyContext::for_object("bucket-b", "dir/object.bin", false),
        KeyContext::for_object("bucket-a", "dir/object.bin", true),
        KeyContext::for_object("bucket-a", "", false),
        KeyContext::for_scope("bucket-a"),
    ] {
        let refusal = provider.unwrap(label, &other, &made.blob).await.expect_err("another context");
        assert!(matches!(refusal, Error::InvalidCiphertext { .. } | Error::WrongContext { .. }), "{other:?}: {refusal}");
        assert!(refusal.is_integrity() && !refusal.is_retryable());
    }
}

async fn damaged_blobs_are_refused(Subject { provider, label, .. }: &Subject) {
    let made = provider.generate(label, &context()).await.expect("generates");
    let mut damaged = vec![vec![], vec![0], vec![0; BLOB_LEN_MAX + 1], vec![0xff; made.blob.len()]];
    damaged.push(made.blob[..made.blob.len() - 1].to_vec());
    damaged.push(made.blob[1..].to_vec());
    damaged.push([&made.blob[..], &[0]].concat());
    for at in 0..made.blob.len() {
        let mut flipped = made.blob.clone();
        flipped[at] ^= 0x01;
        damaged.push(flipped);
    }
    for blob in damaged {
        let refusal = provider.unwrap(label, &context(), &blob).await.expect_err("a damaged blob");
        assert!(refusal.is_integrity() && !refusal.is_retryable(), "{blob:02x?}: {refusal:?}");
    }
}

async fn other_keys_blobs_are_refused(Subject { provider, label, second, foreign, tells_keys }: &Subject) {
    let is_right = |e: &Error| match e {
        Error::IncorrectKey { .. } | Error::UnknownKeyVersion { .. } => true,
        Error::InvalidCiphertext { .. } => !tells_keys,
        _ => false,
    };
    let refusal = provider.unwrap(label, &context(), foreign).await.expect_err("a blob of a foreign key");
    assert!(is_right(&refusal), "{refusal:?}");
    if second != label {
        let made = provider.generate(second, &context()).await.expect("generates under the second label");
        let refusal = provider.unwrap(label, &context(), &made.blob).await.expect_err("a blob of the second label");
        assert!(is_right(&refusal), "{refusal:?}");
    }
}

async fn unknown_labels_are_refused(Subject { provider, label, .. }: &Subject) {
    let unknown: Label = "unknown-label".parse().expect("a label");
    let made = provider.generate(label, &context()).await.expect("generates");
    let expected = Error::UnknownLabel { label: unknown.clone() };
    assert_eq!(provider.generate(&unknown, &context()).await.expect_err("no such label"), expected);
    assert_eq!(provider.unwrap(&unknown, &context(), &made.blob).await.expect_err("no such label"), expected);
}
