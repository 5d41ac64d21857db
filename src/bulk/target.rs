//! What a command works on, as the aws CLI writes it: `s3://bucket/key`.

use std::fmt;
use std::str::FromStr;

use crate::backend::ObjectName;
use crate::ops::StatePlace;

/// A bucket, and a key in it or what keys begin with. Nothing in it is percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub bucket: String,
    /// A key, or a prefix of keys: `photos` is one of `photos2` too, as in listings. Empty for the whole bucket.
    pub key: String,
}

/// Why something is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("write it as s3://BUCKET/KEY")]
    Form,
    #[error("the bucket name \"{0}\" is not one: 3 to 63 of a-z, 0-9, \".\" and \"-\"")]
    Bucket(String),
    #[error("{0} names no object: write it as s3://BUCKET/KEY")]
    NoKey(Target),
    #[error("{0} is where the gateway keeps the state of uploads: `ciphergate gc` looks after it")]
    Reserved(Target),
}

impl Target {
    /// The one object that is meant.
    ///
    /// # Errors
    /// A bucket alone.
    pub fn object(&self) -> Result<ObjectName, TargetError> {
        match self.key.is_empty() {
            true => Err(TargetError::NoKey(self.clone())),
            false => Ok(ObjectName { bucket: self.bucket.clone(), key: self.key.clone() }),
        }
    }

    /// Refuses what holds the state of uploads and nothing else.
    ///
    /// # Errors
    /// [`TargetError::Reserved`].
    pub fn admit(&self, place: &StatePlace) -> Result<(), TargetError> {
        match place.hides(&self.bucket, Some(&self.key)) {
            true => Err(TargetError::Reserved(self.clone())),
            false => Ok(()),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let rest = text.strip_prefix("s3://").ok_or(TargetError::Form)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(good) {
            return Err(TargetError::Bucket(bucket.to_owned()));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_the_aws_cli_takes_them() {
        let parsed = |text: &str| text.parse::<Target>().map(|target| (target.bucket, target.key));
        let pair = |bucket: &str, key: &str| Ok((bucket.to_owned(), key.to_owned()));
        assert_eq!(parsed("s3://bucket"), pair("bucket", ""));
        assert_eq!(parsed("s3://bucket/"), pair("bucket", ""));
        assert_eq!(parsed("s3://bucket/a/b c%20?x=#y/"), pair("bucket", "a/b c%20?x=#y/"));
        assert_eq!(parsed("s3://bucket//a"), pair("bucket", "/a"));
        for wrong in ["", "bucket/key", "http://bucket/key", "S3://bucket/key", "s3:/bucket"] {
            assert_eq!(parsed(wrong), Err(TargetError::Form), "{wrong}");
        }
        for wrong in ["s3://", "s3:///key", "s3://ab", "s3://Bucket/k", "s3://arn:aws:s3:eu-west-1:1:accesspoint/x"] {
            assert!(matches!(parsed(wrong), Err(TargetError::Bucket(_))), "{wrong}");
        }
    }

    #[test]
    fn an_object_has_a_key_and_the_state_of_uploads_is_no_target() {
        let target = |text: &str| text.parse::<Target>().expect("a target");
        assert!(target("s3://bucket/").object().is_err());
        assert_eq!(target("s3://bucket/k").object().expect("an object").key, "k");
        let prefix = StatePlace::default();
        assert!(target("s3://bucket/.ciphergate/x").admit(&prefix).is_err());
        assert!(target("s3://bucket/.").admit(&prefix).is_ok());
        assert!(target("s3://state/x").admit(&StatePlace::Bucket("state".into())).is_err());
    }
}
