//! The policy of a browser's form upload: what its signer allows whoever holds the form to upload.
//!
//! It is a JSON document that the form carries along, signed. Every field of the form must be covered by a condition, and every
//! condition must hold. <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>

use s3s::{S3Error, S3ErrorCode};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a signer allows, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    expiration: OffsetDateTime,
    conditions: Vec<Condition>,
}

/// One condition. Names of fields are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Eq {
        field: String,
        value: String,
    },
    StartsWith {
        field: String,
        prefix: String,
    },
    /// Bytes of the file, both included.
    LengthRange {
        min: u64,
        max: u64,
    },
}

/// What a policy is held against.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// The form's fields but for the file, with lower-case names, none of them twice.
    pub fields: &'a [(String, String)],
    /// The bucket that the form was sent to. It counts as one more field.
    pub bucket: &'a str,
    /// Bytes of the file.
    pub file_len: u64,
}

/// A policy that cannot be understood, or that the upload does not meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("Invalid Policy: {0}")]
    Invalid(&'static str),
    #[error("Invalid according to Policy: Policy expired.")]
    Expired,
    #[error("Invalid according to Policy: Policy Condition failed: {0}")]
    ConditionFailed(String),
    #[error("Invalid according to Policy: Extra input fields: {0}")]
    ExtraFields(String),
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    TooSmall,
    #[error("Your proposed upload exceeds the maximum allowed size")]
    TooLarge,
}

impl PolicyError {
    /// The answer to the client, in S3's words.
    #[must_use]
    pub fn to_s3_error(&self) -> S3Error {
        let code = match self {
            Self::Invalid(_) => S3ErrorCode::InvalidPolicyDocument,
            Self::Expired | Self::ConditionFailed(_) | Self::ExtraFields(_) => S3ErrorCode::AccessDenied,
            Self::TooSmall => S3ErrorCode::EntityTooSmall,
            Self::TooLarge => S3ErrorCode::EntityTooLarge,
        };
        S3Error::with_message(code, self.to_string())
    }
}

impl Policy {
    /// Reads the field as a form carries it.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`].
    pub fn from_base64(text: &str) -> Result<Self, PolicyError> {
        // Those who paste a policy into a page leave the line breaks of their encoder in it.
        let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let json = data_encoding::BASE64.decode(&compact).map_err(|_| PolicyError::Invalid("Invalid Base64."))?;
        Self::from_json(&json)
    }

    fn from_json(json: &[u8]) -> Result<Self, PolicyError> {
        let Ok(Value::Object(document)) = serde_json::from_slice(json) else {
            return Err(PolicyError::Invalid("Invalid JSON."));
        };
        if document.keys().any(|name| !matches!(name.as_str(), "expiration" | "conditions")) {
            return Err(PolicyError::Invalid("Unexpected property."));
        }
        let Some(expiration) = document.get("expiration") else {
            return Err(PolicyError::Invalid("Policy missing expiration."));
        };
        let expiration = expiration.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let expiration = expiration.ok_or(PolicyError::Invalid("Invalid 'expiration' value."))?;
        let Some(conditions) = document.get("conditions") else {
            return Err(PolicyError::Invalid("Policy missing conditions."));
        };
        let conditions = conditions.as_array().ok_or(PolicyError::Invalid("Conditions must be a list."))?;
        let conditions = conditions.iter().map(Condition::read).collect::<Result<_, _>>()?;
        Ok(Self { expiration, conditions })
    }

    /// Holds the policy against an upload.
    ///
    /// # Errors
    /// The first condition that fails, an uncovered field, or that the time is up.
    pub fn check(&self, upload: Upload<'_>, now: OffsetDateTime) -> Result<(), PolicyError> {
        if now >= self.expiration {
            return Err(PolicyError::Expired);
        }
        for condition in &self.conditions {
            condition.check(upload)?;
        }
        let names = upload.fields.iter().map(|(name, _)| name.as_str()).chain(["bucket"]);
        let mut extra: Vec<&str> = names.filter(|name| !needs_no_condition(name) && !self.covers(name)).collect();
        extra.dedup();
        if extra.is_empty() { Ok(()) } else { Err(PolicyError::ExtraFields(extra.join(", "))) }
    }

    fn covers(&self, name: &str) -> bool {
        self.conditions.iter().any(|condition| match condition {
            Condition::Eq { field, .. } | Condition::StartsWith { field, .. } => field == name,
            Condition::LengthRange { .. } => false,
        })
    }
}

/// The fields that S3 exempts. The file is none of our fields.
fn needs_no_condition(name: &str) -> bool {
    matches!(name, "policy" | "x-amz-signature") || name.starts_with("x-ignore-")
}

impl Upload<'_> {
    fn value(&self, name: &str) -> &str {
        let field = self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        // The address decides; a field of this name must agree with it, which the caller has checked.
        if name == "bucket" { self.bucket } else { field.unwrap_or_default() }
    }
}

impl Condition {
    fn read(value: &Value) -> Result<Self, PolicyError> {
        match value {
            Value::Object(simple) => {
                let mut entries = simple.iter();
                let (Some((field, value)), None) = (entries.next(), entries.next()) else {
                    return Err(PolicyError::Invalid("Simple conditions must have exactly one property specified."));
                };
                let value = value.as_str().ok_or(PolicyError::Invalid("The value of a simple condition must be a string."))?;
                Ok(Self::Eq { field: field.to_ascii_lowercase(), value: value.to_owned() })
            }
            Value::Array(words) => Self::read_list(words),
            _ => Err(PolicyError::Invalid("A condition must be a list or an object.")),
        }
    }

    fn read_list(words: &[Value]) -> Result<Self, PolicyError> {
        let [operator, a, b] = words else {
            return Err(PolicyError::Invalid("A condition must have three elements."));
        };
        let field = || {
            let name = a.as_str().and_then(|text| text.strip_prefix('$')).filter(|name| !name.is_empty());
            name.map(str::to_ascii_lowercase).ok_or(PolicyError::Invalid("A condition must name a field by $ and its name."))
        };
        let text = || b.as_str().map(str::to_owned).ok_or(PolicyError::Invalid("The value of a condition must be a string."));
        match operator.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("eq") => Ok(Self::Eq { field: field()?, value: text()? }),
            Some("starts-with") => Ok(Self::StartsWith { field: field()?, prefix: text()? }),
            Some("content-length-range") => match (bytes(a), bytes(b)) {
                (Some(min), Some(max)) => Ok(Self::LengthRange { min, max }),
                _ => Err(PolicyError::Invalid("A content-length-range must have two sizes in bytes.")),
            },
            _ => Err(PolicyError::Invalid("Unknown operator in a condition.")),
        }
    }

    fn check(&self, upload: Upload<'_>) -> Result<(), PolicyError> {
        let holds = match self {
            Self::Eq { field, value } => upload.value(field) == value,
            // S3 reads a list of types there, each of which must fit.
            Self::StartsWith { field, prefix } if field == "content-type" => {
                upload.value(field).split(',').all(|one| one.trim_ascii_start().starts_with(prefix.as_str()))
            }
            Self::StartsWith { field, prefix } => upload.value(field).starts_with(prefix.as_str()),
            Self::LengthRange { min, .. } if upload.file_len < *min => return Err(PolicyError::TooSmall),
            Self::LengthRange { max, .. } if upload.file_len > *max => return Err(PolicyError::TooLarge),
            Self::LengthRange { .. } => true,
        };
        if holds { Ok(()) } else { Err(PolicyError::ConditionFailed(self.to_string())) }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Eq { field, value } => write!(f, "{}", serde_json::json!(["eq", format!("${field}"), value])),
            Self::StartsWith { field, prefix } => {
                write!(f, "{}", serde_json::json!(["starts-with", format!("${field}"), prefix]))
            }
            Self::LengthRange { min, max } => write!(f, "{}", serde_json::json!(["content-length-range", min, max])),
        }
    }
}

/// A size, as a number or in digits.
fn bytes(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    fn policy(conditions: &str) -> Policy {
        let json = format!(r#"{{"expiration": "2026-01-01T12:00:01.000Z", "conditions": {conditions}}}"#);
        Policy::from_base64(&data_encoding::BASE64.encode(json.as_bytes())).unwrap()
    }

    fn check(conditions: &str, fields: &[(&str, &str)], file_len: u64) -> Result<(), PolicyError> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        policy(conditions).check(Upload { fields: &fields, bucket: "bucket", file_len }, NOW)
    }

    #[test]
    fn conditions_hold_or_are_named() {
        let all = r#"[{"Bucket": "bucket"}, ["StArTs-WiTh", "$KeY", "user/"], ["EQ", "$acl", "private"], ["content-length-range", "1", 10]]"#;
        let fields = [("key", "user/a"), ("acl", "private"), ("policy", "p"), ("x-amz-signature", "s"), ("x-ignore-me", "i")];
        assert_eq!(check(all, &fields, 1), Ok(()));
        assert_eq!(check(all, &fields, 10), Ok(()));
        assert_eq!(check(all, &fields, 0), Err(PolicyError::TooSmall));
        assert_eq!(check(all, &fields, 11), Err(PolicyError::TooLarge));
        let failed = |text: &str| Err(PolicyError::ConditionFailed(text.to_owned()));
        assert_eq!(check(all, &[("key", "other"), ("acl", "private")], 1), failed(r#"["starts-with","$key","user/"]"#));
        assert_eq!(check(all, &[("key", "user/a"), ("acl", "Private")], 1), failed(r#"["eq","$acl","private"]"#));
        assert_eq!(check(all, &[("key", "user/a")], 1), failed(r#"["eq","$acl","private"]"#));
        assert_eq!(check(r#"[{"bucket": "other"}]"#, &[], 1), failed(r#"["eq","$bucket","other"]"#));
        // Absent counts as empty, so that an empty prefix only covers the field.
        assert_eq!(check(r#"[{"bucket": "bucket"}, ["starts-with", "$key", ""]]"#, &[("key", "any")], 1), Ok(()));
        assert_eq!(check(r#"[{"bucket": "bucket"}, ["starts-with", "$key", ""]]"#, &[], 1), Ok(()));
    }

    #[test]
    fn every_field_needs_a_condition() {
        let extra = |text: &str| Err(PolicyError::ExtraFields(text.to_owned()));
        assert_eq!(check(r#"[{"bucket": "bucket"}]"#, &[("key", "k"), ("submit", "s")], 1), extra("key, submit"));
        assert_eq!(check(r#"[{"key": "k"}]"#, &[("key", "k")], 1), extra("bucket"));
        assert_eq!(check(r#"[{"bucket": "bucket"}, ["content-length-range", 0, 9]]"#, &[], 1), Ok(()));
    }

    #[test]
    fn types_are_a_list() {
        let images = r#"[{"bucket": "bucket"}, ["starts-with", "$Content-Type", "image/"]]"#;
        assert_eq!(check(images, &[("content-type", "image/png, image/jpeg")], 1), Ok(()));
        assert!(check(images, &[("content-type", "image/png, text/html")], 1).is_err());
        assert!(check(images, &[], 1).is_err());
    }

    #[test]
    fn time_runs_out() {
        let fields = Upload { fields: &[], bucket: "bucket", file_len: 0 };
        let policy = policy(r#"[{"bucket": "bucket"}]"#);
        assert_eq!(policy.check(fields, NOW), Ok(()));
        assert_eq!(policy.check(fields, NOW + time::Duration::seconds(1)), Err(PolicyError::Expired));
    }

    #[test]
    fn documents_that_mean_nothing_are_refused() {
        let expiration = r#""expiration": "2026-01-01T12:00:00Z""#;
        for conditions in [
            "{}",
            "null",
            "[1]",
            "[{}]",
            r#"[{"a": "b", "c": "d"}]"#,
            r#"[{"a": 1}]"#,
            "[[]]",
            r#"[["eq", "$a"]]"#,
            r#"[["eq", "a", "b"]]"#,
            r#"[["eq", "$", "b"]]"#,
            r#"[["eq", "$a", 1]]"#,
            r#"[["ends-with", "$a", "b"]]"#,
            r#"[["content-length-range", 1]]"#,
            r#"[["content-length-range", -1, 5]]"#,
            r#"[["content-length-range", "", "5"]]"#,
            r#"[["content-length-range", 1.5, 5]]"#,
        ] {
            let json = format!("{{{expiration}, \"conditions\": {conditions}}}");
            assert!(matches!(Policy::from_json(json.as_bytes()), Err(PolicyError::Invalid(_))), "{json}");
        }
        for json in [
            "".to_owned(),
            "[]".to_owned(),
            "{".to_owned(),
            format!("{{{expiration}}}"),
            format!(r#"{{{expiration}, "CONDITIONS": []}}"#),
            r#"{"conditions": []}"#.to_owned(),
            r#"{"EXPIRATION": "2026-01-01T12:00:00Z", "conditions": []}"#.to_owned(),
            r#"{"expiration": "tomorrow", "conditions": []}"#.to_owned(),
            r#"{"expiration": 5, "conditions": []}"#.to_owned(),
            format!(r#"{{{expiration}, "conditions": [], "more": 1}}"#),
        ] {
            assert!(matches!(Policy::from_json(json.as_bytes()), Err(PolicyError::Invalid(_))), "{json}");
        }
        assert!(Policy::from_base64("not base64!").is_err());
        let wrapped = data_encoding::BASE64.encode(format!("{{{expiration}, \"conditions\": []}}").as_bytes());
        assert!(Policy::from_base64(&format!("{}\r\n{}", &wrapped[..20], &wrapped[20..])).is_ok());
    }
}
