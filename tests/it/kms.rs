//! KMS as LocalStack plays it: the contract of key providers, and the states of a key.
//!
//! `tests/run` starts LocalStack and says where it is.

mod cost;
mod fake;
mod gateway;
mod outage;
mod pinned;
mod rewrap;
mod rotate;

use crate::provider_contract::{Subject, context, fingerprint, provider_contract};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kms::Client;
use ciphergate::format::Layout;
use ciphergate::keys::kms::{KmsOptions, KmsProvider};
use ciphergate::keys::rules::{KeyMode, KeyRules, Rule, SuiteChoice};
use ciphergate::keys::{CacheLimits, Error, KeyProvider, Keys, Label, Sources};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

struct Kms {
    endpoint: String,
    sdk: SdkConfig,
    client: Client,
}

impl Kms {
    fn localstack() -> Self {
        let endpoint = std::env::var("CIPHERGATE_TEST_LOCALSTACK")
            .expect("CIPHERGATE_TEST_LOCALSTACK has to name a running LocalStack: use tests/run rust");
        let credentials = Credentials::new("test", "test", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        let config = aws_sdk_kms::config::Builder::from(&sdk).endpoint_url(&endpoint).build();
        Self { endpoint, client: Client::from_conf(config), sdk }
    }

    async fn new_key(&self) -> String {
        let made = self.client.create_key().send().await.expect("LocalStack makes a key");
        made.key_metadata.and_then(|m| m.arn).expect("a new key has an ARN")
    }

    fn provider<const N: usize>(&self, keys: [(&str, &str); N]) -> KmsProvider {
        let options = KmsOptions { endpoint: Some(self.endpoint.clone()), ..KmsOptions::default() };
        KmsProvider::new(&self.sdk, &options, keys.map(|(label, arn)| (self::label(label), arn.parse().expect("a key ARN"))))
    }
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

/// What both operations answer under `label`.
async fn refusals(provider: &KmsProvider, label: &Label, blob: &[u8]) -> [Error; 2] {
    let generate = provider.generate(label, &context()).await.expect_err("must not generate");
    let unwrap = provider.unwrap(label, &context(), blob).await.expect_err("must not unwrap");
    [generate, unwrap]
}

#[tokio::test]
async fn contract() {
    let kms = Kms::localstack();
    let (first, second, stranger) = (kms.new_key().await, kms.new_key().await, kms.new_key().await);
    let foreign = kms.provider([("x", &stranger)]).generate(&label("x"), &context()).await.expect("generates").blob;
    let provider = Arc::new(kms.provider([("k1", &first), ("k2", &second)]));
    provider_contract(&Subject { provider, label: label("k1"), second: label("k2"), foreign, tells_keys: true }).await;
}

#[tokio::test]
async fn the_bucket_cannot_choose_the_key() {
    let kms = Kms::localstack();
    let (ours, theirs) = (kms.new_key().await, kms.new_key().await);
    // Both keys belong to one account and the gateway may use both; only the configuration keeps them apart.
    let provider = kms.provider([("k1", &ours), ("k2", &theirs)]);
    let made = provider.generate(&label("k2"), &context()).await.expect("generates");
    let refusal = provider.unwrap(&label("k1"), &context(), &made.blob).await.expect_err("another key's blob");
    assert!(matches!(refusal, Error::IncorrectKey { .. }), "{refusal:?}");
    let back = provider.unwrap(&label("k2"), &context(), &made.blob).await.expect("its own label");
    assert_eq!(fingerprint(&back), fingerprint(&made.kek));
}

#[tokio::test]
async fn a_disabled_key_is_refused_at_once_and_works_again() {
    let kms = Kms::localstack();
    let arn = kms.new_key().await;
    let (provider, k1) = (kms.provider([("k1", &arn)]), label("k1"));
    let made = provider.generate(&k1, &context()).await.expect("generates");
    kms.client.disable_key().key_id(&arn).send().await.expect("disabled");
    for refusal in refusals(&provider, &k1, &made.blob).await {
        assert!(matches!(refusal, Error::KeyDisabled { .. }) && !refusal.is_retryable(), "{refusal:?}");
    }
    assert!(matches!(provider.prove(&k1, &context()).await, Err(Error::KeyDisabled { .. })));
    kms.client.enable_key().key_id(&arn).send().await.expect("enabled");
    provider.unwrap(&k1, &context(), &made.blob).await.expect("unwraps again");
}

#[tokio::test]
async fn a_key_that_goes_or_never_was_is_told_apart() {
    let kms = Kms::localstack();
    let arn = kms.new_key().await;
    let missing = "arn:aws:kms:us-east-1:000000000000:key/00000000-1111-2222-3333-444444444444";
    let provider = kms.provider([("k1", &arn), ("gone", missing)]);
    let made = provider.generate(&label("k1"), &context()).await.expect("generates");
    for refusal in refusals(&provider, &label("gone"), &made.blob).await {
        assert!(matches!(refusal, Error::KeyNotFound { .. }) && !refusal.is_retryable(), "{refusal:?}");
    }
    kms.client.schedule_key_deletion().key_id(&arn).pending_window_in_days(7).send().await.expect("scheduled");
    for refusal in refusals(&provider, &label("k1"), &made.blob).await {
        assert!(matches!(refusal, Error::KeyPendingDeletion { .. }) && !refusal.is_retryable(), "{refusal:?}");
    }
}

#[tokio::test]
async fn a_signing_key_is_unsuitable() {
    use aws_sdk_kms::types::{KeySpec, KeyUsageType};
    let kms = Kms::localstack();
    let made = kms.client.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify).send().await;
    let arn = made.expect("LocalStack makes a key").key_metadata.and_then(|m| m.arn).expect("an ARN");
    let refusal = kms.provider([("k1", &arn)]).generate(&label("k1"), &context()).await.expect_err("it only signs");
    assert!(!refusal.is_retryable() && !refusal.is_integrity(), "{refusal:?}");
}

#[tokio::test]
async fn another_region_does_not_have_the_key() {
    let kms = Kms::localstack();
    let elsewhere = kms.new_key().await.replace("us-east-1", "eu-central-1");
    let refusal = kms.provider([("k1", &elsewhere)]).generate(&label("k1"), &context()).await.expect_err("not there");
    assert!(matches!(refusal, Error::KeyNotFound { .. }), "{refusal:?}");
}

#[tokio::test]
async fn old_versions_of_a_rotated_key_still_unwrap() {
    let kms = Kms::localstack();
    let arn = kms.new_key().await;
    let provider = kms.provider([("k1", &arn)]);
    let made = provider.generate(&label("k1"), &context()).await.expect("generates");
    kms.client.rotate_key_on_demand().key_id(&arn).send().await.expect("rotated");
    provider.prove(&label("k1"), &context()).await.expect("the new version works");
    let back = provider.unwrap(&label("k1"), &context(), &made.blob).await.expect("the old version unwraps");
    assert_eq!(fingerprint(&back), fingerprint(&made.kek));
}

fn keys(provider: KmsProvider, mode: KeyMode, unwrap_ttl: Duration) -> Keys {
    let rule = Rule { label: label("k1"), suite: SuiteChoice::Auto, mode, hash_key_name: false, seal_metadata: false };
    let rules = KeyRules::new(rule, BTreeMap::new()).expect("no buckets, no collisions");
    let providers = HashMap::from([(label("k1"), Arc::new(provider) as Arc<dyn KeyProvider>)]);
    let limits = CacheLimits { unwrap_ttl, ..CacheLimits::default() };
    Keys::new(rules, providers, &limits, Sources::system()).expect("the label is configured")
}

#[tokio::test]
async fn objects_open_through_kms_in_both_modes_and_a_revoked_key_ends_with_its_time() {
    let kms = Kms::localstack();
    for mode in [KeyMode::PerObject, KeyMode::Shared] {
        let arn = kms.new_key().await;
        let kept = keys(kms.provider([("k1", &arn)]), mode, Duration::from_secs(2));
        assert!(kept.prove().await.iter().all(|p| p.outcome.is_ok()));
        let made = kept.fresh("bucket-a", "k", Layout::Single).await.expect("fresh");
        let open = || kept.open("bucket-a", "k", &made.envelope);
        assert_eq!(open().await.expect("opens").commit(), made.keys.commit());
        // Another process of the gateway, with nothing in its cache.
        let other = keys(kms.provider([("k1", &arn)]), mode, Duration::ZERO);
        other.open("bucket-a", "k", &made.envelope).await.expect("opens elsewhere");
        assert!(matches!(other.open("bucket-a", "moved", &made.envelope).await, Err(e) if e.is_integrity()));

        kms.client.disable_key().key_id(&arn).send().await.expect("disabled");
        assert!(matches!(other.open("bucket-a", "k", &made.envelope).await, Err(Error::KeyDisabled { .. })));
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert!(matches!(open().await, Err(Error::KeyDisabled { .. })));
    }
}
