//! Keys, from their configuration: rules in the room's own words, and a provider behind every label.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::kms_side::{KmsSide, Pin};
use super::{Error, kms_limits, transit};
use crate::config::{self, Config, KeySource};
use crate::keys::guard::Guard;
use crate::keys::keyring::Keyring;
use crate::keys::rules::{BucketRule, KeyMode, KeyRules, PrefixRule, Rule, SuiteChoice};
use crate::keys::transit::TransitKey;
use crate::keys::{CacheLimits, KeyProvider, Keys, Label, Lookups, Sources, Stats};
use crate::observe::metrics::{CacheCounts, KeyCounts};

/// The keys, and what each of those in AWS KMS turned out to be.
pub(super) async fn build(config: &Config) -> Result<(Keys, Vec<Pin>), Error> {
    let default = &config.default_rule;
    let default = rule(&default.key, default.suite, default.mode, default.hash_key_names, default.seal_metadata);
    let buckets: BTreeMap<String, BucketRule> = config
        .buckets
        .iter()
        .map(|(name, bucket)| {
            let rule = rule(&bucket.key, bucket.suite, bucket.mode, bucket.hash_key_names, bucket.seal_metadata);
            let prefixes = bucket.prefixes.iter().map(|entry| PrefixRule {
                prefix: entry.prefix.to_string(),
                rule: self::rule(&entry.key, entry.suite, entry.mode, entry.hash_key_names, entry.seal_metadata),
            });
            let (prefixes, scope) = (prefixes.collect(), Some(bucket.scope.to_string()));
            (name.to_string(), BucketRule { rule, prefixes, scope, share_scope: bucket.share_scope })
        })
        .collect();
    let plaintext = config.buckets.iter().filter(|(_, bucket)| bucket.access == config::Access::Plaintext);
    let plaintext = plaintext.map(|(name, _)| name.to_string()).collect();
    let rules = KeyRules::new(default, buckets).map_err(Error::Rules)?.with_plaintext(plaintext);

    let mut kms = KmsSide::new(&config.kms);
    let mut providers: HashMap<Label, Arc<dyn KeyProvider>> = HashMap::new();
    for key in &config.keys {
        let label = label(&key.label);
        let provider: Arc<dyn KeyProvider> = match &key.source {
            KeySource::Keyring { file } => Arc::new(Keyring::load(file, &label)?),
            KeySource::Kms(key) => kms.provider(&label, key).await?,
            KeySource::Transit { endpoint, mount, name, namespace, ca_file, token } => {
                let writes = rules.writers().any(|writer| writer.rule.label == label);
                let key = TransitKey {
                    address: endpoint.to_string(),
                    mount: mount.to_string(),
                    name: name.to_string(),
                    namespace: namespace.as_ref().map(ToString::to_string),
                };
                let provider = transit::provider(&label, &key, ca_file.as_deref(), token, &config.kms, writes).await?;
                Arc::new(Guard::new(Arc::new(provider), label.clone(), kms_limits::guard(&config.kms), Sources::system()))
            }
        };
        providers.insert(label, provider);
    }
    let limits = CacheLimits {
        unwrap_ttl: config.key_cache.ttl,
        unwrap_entries: config.key_cache.entries_max,
        shared_max_age: config.key_cache.shared_age_max,
        shared_max_uses: config.key_cache.shared_uses_max,
        ..CacheLimits::default()
    };
    let keys = Keys::new(rules, providers, &limits, Sources::system()).map_err(Error::Keys)?;
    Ok((keys, kms.into_pins()))
}

fn rule(key: &config::Label, suite: config::Suite, mode: config::KeyMode, hash_key_name: bool, seal_metadata: bool) -> Rule {
    Rule {
        label: label(key),
        suite: match suite {
            config::Suite::ChaCha20Poly1305 => SuiteChoice::ChaCha20Poly1305,
            config::Suite::Aes256Gcm => SuiteChoice::Aes256Gcm,
            config::Suite::Auto => SuiteChoice::Auto,
        },
        mode: match mode {
            config::KeyMode::PerObject => KeyMode::PerObject,
            config::KeyMode::Shared => KeyMode::Shared,
        },
        hash_key_name,
        seal_metadata,
    }
}

/// The configuration's labels obey the format's rule; both rooms check it, neither knows the other.
pub(super) fn label(label: &config::Label) -> Label {
    Label::new(label.as_str()).expect("a configured label has 1 to 32 of a-z, 0-9 and -")
}

/// The counts of the keys in the words of the metrics.
pub(super) fn counts(stats: Stats) -> KeyCounts {
    let cache = |Lookups { hits, misses, coalesced }| CacheCounts { hits, misses, coalesced };
    KeyCounts {
        generate_calls: stats.generate_calls,
        unwrap_calls: stats.unwrap_calls,
        failed_calls: stats.failed_calls,
        sealed: stats.fresh,
        opened: stats.opened,
        rewrapped: stats.rewrapped,
        unwrapped: cache(stats.unwrapped),
        shared: cache(stats.shared),
    }
}
