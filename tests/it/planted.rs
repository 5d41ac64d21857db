//! Objects put behind a gateway by hand, sealed with its own keys: what it would have written itself, or will.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ciphergate::format::{Envelope, Layout, ObjectChecksum};
use ciphergate::keys::keyring::Keyring;
use ciphergate::keys::rules::{KeyMode, KeyRules, Rule, SuiteChoice};
use ciphergate::keys::{CacheLimits, KeyProvider, Keys, Sources};

use crate::heart::{self, Part};
use crate::kit::Site;

/// The keys of a site's gateway, in this process.
pub struct Planter<'a> {
    site: &'a Site,
    keys: Keys,
}

impl<'a> Planter<'a> {
    pub fn new(site: &'a Site) -> Self {
        let label: ciphergate::keys::Label = "local".parse().expect("label");
        let keyring = Keyring::load(&site.folder.path().join("keyring"), &label).expect("the site's keyring");
        let rule = Rule {
            label: label.clone(),
            suite: SuiteChoice::Auto,
            mode: KeyMode::PerObject,
            hash_key_name: false,
            seal_metadata: false,
        };
        let rules = KeyRules::new(rule, BTreeMap::new()).expect("no buckets, no collisions");
        let providers = HashMap::from([(label, Arc::new(keyring) as Arc<dyn KeyProvider>)]);
        let keys = Keys::new(rules, providers, &CacheLimits::default(), Sources::system()).expect("the label is configured");
        Self { site, keys }
    }

    /// A multipart object of these parts.
    pub async fn multipart(&self, bucket: &str, key: &str, parts: &[Part], checksum: Option<ObjectChecksum>) {
        let fresh = self.keys.fresh(bucket, key, Layout::Multipart).await.expect("keys");
        let body = heart::multipart(&Arc::new(fresh.keys), parts, checksum);
        self.put(bucket, key, body, &fresh.envelope).await;
    }

    async fn put(&self, bucket: &str, key: &str, body: Vec<u8>, envelope: &Envelope) {
        let put = self.site.behind().put_object().bucket(bucket).key(key).body(body.into());
        put.metadata("ciphergate", envelope.encode()).send().await.expect("the store takes it");
    }
}
