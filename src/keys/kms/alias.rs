//! From an alias to the key that it leads to, once.

use super::{KeyAlias, KeyArn, KmsOptions, bad_answer, call_failed, client};
use crate::keys::{Error, Generated, KeyContext, KeyEncryptionKey, KeyProvider, Label};
use aws_config::SdkConfig;
use aws_sdk_kms::types::{KeyMetadata, KeySpec, KeyState, KeyUsageType};

/// What the key behind an alias has to be, besides usable.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// This very key.
    pub pinned: Option<KeyArn>,
    /// One that has replicas in other regions.
    pub multi_region: bool,
}

/// Asks KMS in `region` (DescribeKey) which key an alias leads to now. The ARN of that key is what every later call has to name: the
/// alias may be moved at any time, and whoever moves it must not choose the key of a running gateway.
///
/// # Errors
/// DescribeKey fails; the key cannot be used for data keys as it is; it is not the one that is wanted, or not one of the alias's own
/// region and account.
pub async fn resolve(
    sdk: &SdkConfig,
    options: &KmsOptions,
    (label, alias): (&Label, &KeyAlias),
    region: &str,
    wanted: &Wanted,
) -> Result<KeyArn, Error> {
    let answer = client(sdk, options, region).describe_key().key_id(alias.as_str()).send().await;
    let answer = answer.map_err(|error| call_failed(label, error))?;
    let key = answer.key_metadata.ok_or_else(|| bad_answer(label, "it did not say which key the alias leads to".into()))?;
    let arn: KeyArn = match key.arn.as_deref().unwrap_or_default().parse() {
        Ok(arn) => arn,
        Err(error) => return Err(bad_answer(label, format!("the key of the alias: {error}"))),
    };
    usable(label, &key, &arn)?;
    if arn.region() != region || !alias.fits(&arn) {
        return Err(refused(label, format!("it leads to {arn}, a key of another region or account than the alias's own")));
    }
    if let Some(pinned) = wanted.pinned.as_ref().filter(|pinned| **pinned != arn) {
        let detail = format!("it leads to {arn}, and pinned_arn says {pinned}; either the alias was moved or pinned_arn is old");
        return Err(refused(label, detail));
    }
    if wanted.multi_region && !arn.is_multi_region() {
        return Err(refused(
            label,
            format!("it leads to {arn}, which is no multi-region key, and replicas of it are configured"),
        ));
    }
    Ok(arn)
}

fn refused(label: &Label, detail: String) -> Error {
    Error::AliasRefused { label: label.clone(), detail }
}

fn usable(label: &Label, key: &KeyMetadata, arn: &KeyArn) -> Result<(), Error> {
    let label = label.clone();
    match &key.key_state {
        // A key whose primary region is being changed works all the while.
        Some(KeyState::Enabled | KeyState::Updating) => {}
        Some(KeyState::Disabled) => return Err(Error::KeyDisabled { label, detail: format!("{arn}") }),
        Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
            return Err(Error::KeyPendingDeletion { label, detail: format!("{arn}") });
        }
        other => {
            let state = other.as_ref().map_or("unknown", KeyState::as_str);
            return Err(Error::KeyStateInvalid { label, detail: format!("{arn} is {state}") });
        }
    }
    let (usage, spec) = (key.key_usage.as_ref(), key.key_spec.as_ref());
    if usage == Some(&KeyUsageType::EncryptDecrypt) && spec == Some(&KeySpec::SymmetricDefault) {
        return Ok(());
    }
    let (usage, spec) = (usage.map_or("unknown", KeyUsageType::as_str), spec.map_or("unknown", KeySpec::as_str));
    let detail = format!("{arn} is {spec} for {usage}; wanted is SYMMETRIC_DEFAULT for ENCRYPT_DECRYPT");
    Err(Error::KeyUnsuitable { label, detail })
}

/// Stands in for a key whose alias could not be resolved: every use of it fails with the reason. What needs no key can then still be
/// done.
pub struct Unresolved {
    label: Label,
    why: Error,
}

impl Unresolved {
    pub fn new(label: Label, why: Error) -> Self {
        Self { label, why }
    }

    fn refuse(&self, label: &Label) -> Error {
        if *label == self.label { self.why.clone() } else { Error::UnknownLabel { label: label.clone() } }
    }
}

#[async_trait::async_trait]
impl KeyProvider for Unresolved {
    async fn generate(&self, label: &Label, _: &KeyContext) -> Result<Generated, Error> {
        Err(self.refuse(label))
    }

    async fn unwrap(&self, label: &Label, _: &KeyContext, _: &[u8]) -> Result<KeyEncryptionKey, Error> {
        Err(self.refuse(label))
    }
}
