//! Which key, suite and mode serve a bucket, and which namespace ("scope", FORMAT section 3) its objects are bound to.

use super::{Error, Label};
use crate::crypto::Suite;
use std::collections::{BTreeMap, BTreeSet};

/// The longest scope, in bytes. The format would take 65,535; KMS limits the whole encryption context.
pub const SCOPE_LEN_MAX: usize = 255;

/// Which cipher new objects get. Every suite stays readable whatever is chosen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SuiteChoice {
    /// The fastest on this processor.
    Auto,
    #[default]
    ChaCha20Poly1305,
    Aes256Gcm,
}

impl SuiteChoice {
    pub fn suite(self) -> Suite {
        match self {
            Self::Auto => Suite::fastest_here(),
            Self::ChaCha20Poly1305 => Suite::ChaCha20Poly1305,
            Self::Aes256Gcm => Suite::Aes256Gcm,
        }
    }
}

/// How many objects one key-encryption key serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyMode {
    /// One per object: the key service sees every object once, by name.
    #[default]
    PerObject,
    /// One for many objects of a scope, within the bounds of [`super::CacheLimits`] (FORMAT section 10).
    Shared,
}

/// How new objects are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The configured key that wraps new objects.
    pub label: Label,
    pub suite: SuiteChoice,
    pub mode: KeyMode,
    /// Put the SHA-256 of the key name instead of the name into the key service's context, so that its logs do not show names.
    /// Without meaning in shared mode, where the context has no name.
    pub hash_key_name: bool,
    /// Keep user metadata and content headers sealed beside the object (FORMAT section 15).
    pub seal_metadata: bool,
}

/// What is different for the objects of a bucket whose keys begin with `prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixRule {
    pub prefix: String,
    pub rule: Rule,
}

/// A bucket that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketRule {
    pub rule: Rule,
    /// In any order; the longest one that fits an object key wins.
    pub prefixes: Vec<PrefixRule>,
    /// Defaults to the bucket's name.
    pub scope: Option<String>,
    /// This bucket may use a scope that others use too. All of them have to say so.
    pub share_scope: bool,
}

impl BucketRule {
    fn rule_of(&self, key: &str) -> &Rule {
        let fitting = self.prefixes.iter().filter(|entry| key.starts_with(&entry.prefix));
        fitting.max_by_key(|entry| entry.prefix.len()).map_or(&self.rule, |entry| &entry.rule)
    }
}

/// What serves one object. The scope is the same for all objects of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved<'a> {
    pub rule: &'a Rule,
    pub scope: &'a str,
}

/// The rules as the configuration means them. Made by [`KeyRules::new`], which refuses collisions.
#[derive(Debug, Clone)]
pub struct KeyRules {
    default: Rule,
    buckets: BTreeMap<String, BucketRule>,
    owners: BTreeMap<String, String>,
    plaintext: BTreeSet<String>,
}

/// Why the start is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error(
        "the buckets \"{first}\" and \"{second}\" have the same scope \"{scope}\": whoever can write both could exchange their objects; \
         give one of them another scope, or set share_scope = true on both"
    )]
    ScopeCollision { scope: String, first: String, second: String },
    #[error("bucket \"{bucket}\" has two rules for the prefix \"{prefix}\"; keep one of them")]
    PrefixTwice { bucket: String, prefix: String },
    #[error("the scope of bucket \"{bucket}\" has {len} bytes; it needs 1 to {SCOPE_LEN_MAX}")]
    ScopeLength { bucket: String, len: usize },
}

impl KeyRules {
    /// Checks every pair of scopes and reports all mistakes together.
    pub fn new(default: Rule, buckets: BTreeMap<String, BucketRule>) -> Result<Self, Vec<RuleError>> {
        let mut owners = BTreeMap::<String, String>::new();
        let mut mistakes = Vec::new();
        for (bucket, entry) in &buckets {
            let mut seen = BTreeSet::new();
            for PrefixRule { prefix, .. } in &entry.prefixes {
                if !seen.insert(prefix) {
                    mistakes.push(RuleError::PrefixTwice { bucket: bucket.clone(), prefix: prefix.clone() });
                }
            }
            let scope = entry.scope.as_deref().unwrap_or(bucket);
            if scope.is_empty() || scope.len() > SCOPE_LEN_MAX {
                mistakes.push(RuleError::ScopeLength { bucket: bucket.clone(), len: scope.len() });
                continue;
            }
            match owners.get(scope) {
                Some(first) if !(entry.share_scope && buckets[first].share_scope) => {
                    let (scope, first, second) = (scope.into(), first.clone(), bucket.clone());
                    mistakes.push(RuleError::ScopeCollision { scope, first, second });
                }
                Some(_) => {}
                None => {
                    owners.insert(scope.into(), bucket.clone());
                }
            }
        }
        if mistakes.is_empty() { Ok(Self { default, buckets, owners, plaintext: BTreeSet::new() }) } else { Err(mistakes) }
    }

    /// The same, but nothing is sealed or opened in these buckets.
    #[must_use]
    pub fn with_plaintext(mut self, buckets: BTreeSet<String>) -> Self {
        self.plaintext = buckets;
        self
    }

    /// What serves this object. A bucket that the configuration does not name gets the default rule and its own name as scope,
    /// unless a named bucket has claimed that scope.
    pub fn resolve<'a>(&'a self, bucket: &'a str, key: &str) -> Result<Resolved<'a>, Error> {
        if self.plaintext.contains(bucket) {
            return Err(Error::PlaintextBucket { bucket: bucket.into() });
        }
        if let Some(entry) = self.buckets.get(bucket) {
            return Ok(Resolved { rule: entry.rule_of(key), scope: entry.scope.as_deref().unwrap_or(bucket) });
        }
        match self.owners.get(bucket) {
            Some(owner) => Err(Error::ScopeTaken { bucket: bucket.into(), scope: bucket.into(), owner: owner.clone() }),
            None => Ok(Resolved { rule: &self.default, scope: bucket }),
        }
    }

    /// The labels of the rules for longer prefixes than this one, which begin with it.
    pub fn labels_below<'a>(&'a self, bucket: &str, prefix: &'a str) -> impl Iterator<Item = &'a Label> {
        let prefixes = self.buckets.get(bucket).into_iter().flat_map(|entry| &entry.prefixes);
        prefixes.filter(move |entry| entry.prefix.starts_with(prefix)).map(|entry| &entry.rule.label)
    }

    /// Every label that new objects may get, each with a rule and a scope to prove it with.
    pub fn writers(&self) -> impl Iterator<Item = Resolved<'_>> {
        let named = self.buckets.iter().flat_map(|(bucket, entry)| {
            let scope = entry.scope.as_deref().unwrap_or(bucket);
            let rules = std::iter::once(&entry.rule).chain(entry.prefixes.iter().map(|prefix| &prefix.rule));
            rules.map(move |rule| Resolved { rule, scope })
        });
        named.chain([Resolved { rule: &self.default, scope: "ciphergate-check" }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(label: &str) -> Rule {
        let label = label.parse().unwrap();
        Rule { label, suite: SuiteChoice::default(), mode: KeyMode::default(), hash_key_name: false, seal_metadata: false }
    }

    fn bucket(scope: Option<&str>, share_scope: bool) -> BucketRule {
        BucketRule { rule: rule("named"), prefixes: Vec::new(), scope: scope.map(Into::into), share_scope }
    }

    fn rules<const N: usize>(buckets: [(&str, BucketRule); N]) -> Result<KeyRules, Vec<RuleError>> {
        KeyRules::new(rule("default"), buckets.into_iter().map(|(name, b)| (name.into(), b)).collect())
    }

    #[test]
    fn scope_defaults_to_the_bucket_name() {
        let rules = rules([("a", bucket(None, false)), ("b", bucket(Some("tenant/b"), false))]).unwrap();
        assert_eq!(rules.resolve("a", "k").unwrap().scope, "a");
        assert_eq!(rules.resolve("b", "k").unwrap().scope, "tenant/b");
        assert_eq!(rules.resolve("a", "k").unwrap().rule.label.to_string(), "named");
        let other = rules.resolve("c", "k").unwrap();
        assert_eq!((other.scope, other.rule.label.to_string()), ("c", "default".to_string()));
    }

    #[test]
    fn the_longest_prefix_wins_and_the_scope_stays_that_of_the_bucket() {
        let prefix = |prefix: &str| PrefixRule { prefix: prefix.into(), rule: rule(prefix.trim_end_matches('/')) };
        let with = |prefixes: &[&str]| BucketRule {
            prefixes: prefixes.iter().map(|text| prefix(text)).collect(),
            ..bucket(Some("tenant"), false)
        };
        let made = rules([("a", with(&["r", "raw/", "raw", "z/"]))]).unwrap();
        for (key, label) in [
            ("raw/x", "raw"),
            ("raw/", "raw"),
            ("raw", "raw"),
            ("rest", "r"),
            ("", "named"),
            ("q", "named"),
            ("zraw/", "named"),
            ("z/raw/", "z"),
        ] {
            let resolved = made.resolve("a", key).unwrap();
            assert_eq!((resolved.rule.label.to_string().as_str(), resolved.scope), (label, "tenant"), "{key}");
        }
        assert_eq!(made.resolve("b", "raw/x").unwrap().rule.label.to_string(), "default");
        // All of them write, so all of them are proved.
        let writers: BTreeSet<_> = made.writers().map(|writer| writer.rule.label.to_string()).collect();
        assert_eq!(writers, ["default", "named", "r", "raw", "z"].map(String::from).into());
        let mistakes = rules([("a", with(&["raw/", "z/", "raw/"]))]).unwrap_err();
        assert_eq!(mistakes, [RuleError::PrefixTwice { bucket: "a".into(), prefix: "raw/".into() }]);
    }

    #[test]
    fn one_scope_for_two_buckets_needs_the_word_of_both() {
        for (first, second, allowed) in [(false, false, false), (true, false, false), (false, true, false), (true, true, true)] {
            let made = rules([("a", bucket(Some("s"), first)), ("b", bucket(Some("s"), second))]);
            assert_eq!(made.is_ok(), allowed, "{first} {second}");
        }
        // By default name as well.
        assert!(rules([("a", bucket(Some("b"), false)), ("b", bucket(None, false))]).is_err());
        // A third one that does not agree spoils it.
        assert!(
            rules([("a", bucket(Some("s"), true)), ("b", bucket(Some("s"), true)), ("c", bucket(Some("s"), false))]).is_err()
        );
    }

    #[test]
    fn an_unnamed_bucket_cannot_slip_into_a_claimed_scope() {
        let rules = rules([("a", bucket(Some("b"), true))]).unwrap();
        assert!(matches!(rules.resolve("b", "k"), Err(Error::ScopeTaken { owner, .. }) if owner == "a"));
    }

    #[test]
    fn nothing_serves_a_plaintext_bucket() {
        let rules = rules([("a", bucket(None, false))]).unwrap().with_plaintext(["a".to_owned(), "p".to_owned()].into());
        for name in ["a", "p"] {
            assert!(matches!(rules.resolve(name, "k"), Err(Error::PlaintextBucket { bucket }) if bucket == name));
        }
        assert!(rules.resolve("b", "k").is_ok());
    }

    #[test]
    fn scope_lengths_are_bounded_and_mistakes_come_together() {
        let long = "s".repeat(SCOPE_LEN_MAX + 1);
        let mistakes = rules([("a", bucket(Some(""), false)), ("b", bucket(Some(&long), false))]).unwrap_err();
        assert_eq!(mistakes.len(), 2);
        assert!(rules([("a", bucket(Some(&long[1..]), false))]).is_ok());
    }
}
