//! How KMS names keys.

use std::fmt;
use std::str::FromStr;

/// The ARN of one KMS key: `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`. An alias is none: it is looked up once
/// ([`resolve`](super::resolve)), and what it led to is named by such an ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyArn {
    text: String,
    region: String,
}

/// Why a text is no key ARN, or no alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    #[error("\"{0}\" is an alias; write the key's own ARN (arn:...:key/..., shown by `aws kms describe-key --key-id ALIAS`)")]
    Alias(String),
    #[error("\"{0}\" is not a full ARN; write arn:PARTITION:kms:REGION:ACCOUNT:key/ID, so that region and account are certain")]
    NotAnArn(String),
    #[error("\"{0}\" is not the ARN of a KMS key (arn:PARTITION:kms:REGION:ACCOUNT:key/ID)")]
    NotAKey(String),
    #[error("\"{0}\" is not an alias of a KMS key (alias/NAME or arn:PARTITION:kms:REGION:ACCOUNT:alias/NAME)")]
    NotAnAlias(String),
}

/// Partition, region, account and resource of what may be an ARN of KMS.
fn parts(text: &str) -> Option<[&str; 4]> {
    let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match text.split(':').collect::<Vec<_>>()[..] {
        ["arn", partition, "kms", region, account, resource]
            if plain(partition) && plain(region) && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Some([partition, region, account, resource])
        }
        _ => None,
    }
}

impl KeyArn {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region that the ARN names.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Whether the key may have replicas: the same key, under the same id, in other regions.
    pub fn is_multi_region(&self) -> bool {
        self.text.contains(":key/mrk-")
    }

    /// The ARN of the replica of this key in another region. Only multi-region keys have such.
    pub fn in_region(&self, region: &str) -> Result<Self, ArnError> {
        let [partition, _, account, resource] = parts(&self.text).ok_or_else(|| ArnError::NotAKey(self.text.clone()))?;
        format!("arn:{partition}:kms:{region}:{account}:{resource}").parse()
    }
}

impl FromStr for KeyArn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        if text.starts_with("alias/") || text.contains(":alias/") {
            return Err(ArnError::Alias(text.into()));
        }
        if !text.starts_with("arn:") {
            return Err(ArnError::NotAnArn(text.into()));
        }
        let id_is_plain = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match parts(text) {
            Some([_, region, _, resource]) if resource.strip_prefix("key/").is_some_and(id_is_plain) => {
                Ok(Self { text: text.into(), region: region.into() })
            }
            _ => Err(ArnError::NotAKey(text.into())),
        }
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An alias of a KMS key: `alias/NAME`, which is one of the caller's account in the region that is called, or the alias's own ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAlias(String);

impl KeyAlias {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Region of the alias, where it says so itself.
    pub fn region(&self) -> Option<&str> {
        parts(&self.0).map(|[_, region, ..]| region)
    }

    /// Whether the alias may lead to this key. An alias and its key are always of one partition, region and account.
    pub(super) fn fits(&self, key: &KeyArn) -> bool {
        let home = |text| parts(text).map(|[partition, region, account, _]| (partition, region, account));
        let own = home(&self.0);
        own.is_none() || own == home(key.as_str())
    }
}

impl FromStr for KeyAlias {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        let resource = parts(text).map_or(text, |[.., resource]| resource);
        let name_is_plain = |name: &str| {
            (1..=250).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b))
        };
        match resource.strip_prefix("alias/").is_some_and(name_is_plain) {
            true => Ok(Self(text.into())),
            false => Err(ArnError::NotAnAlias(text.into())),
        }
    }
}

impl fmt::Display for KeyAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
