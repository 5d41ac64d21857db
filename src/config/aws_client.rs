//! What a bucket's rule says of objects that AWS's own S3 Encryption Client wrote.

use super::problem::Problems;
use super::values::{Access, AwsClientUse, Label};
use super::{AwsClient, Key, KeySource, raw};

/// The rule of a bucket whose objects get keys by `label`; `None` where such objects are not read.
pub(super) fn aws_client(bucket: &raw::Bucket, label: Option<&Label>, keys: &[Key], p: &mut Problems) -> Option<AwsClient> {
    if bucket.aws_client.value != Some(AwsClientUse::Read) {
        return None;
    }
    if bucket.access.value == Some(Access::Plaintext) {
        let what = "nothing is opened in a bucket whose access is \"plaintext\"";
        bucket.aws_client.refuse(p, what, "remove it, or change access");
        return None;
    }
    let key = bucket.aws_client_key.value.as_ref().or(label)?;
    let source = keys.iter().find(|known| known.label == *key).map(|known| &known.source);
    let elsewhere = match source {
        None | Some(KeySource::Kms { .. }) => None,
        Some(KeySource::Keyring { .. }) => Some("a keyring"),
        Some(KeySource::Transit { .. }) => Some("a Transit key"),
    };
    if let Some(elsewhere) = elsewhere {
        let what = format!("the key `{key}` is {elsewhere}, and AWS's encryption client has its keys from KMS");
        bucket.aws_client.refuse(p, what, "set aws_client_key to the label of the KMS key that it used");
        return None;
    }
    Some(AwsClient { key: key.clone(), bytes_max: bucket.aws_client_bytes_max.value?.get() })
}
