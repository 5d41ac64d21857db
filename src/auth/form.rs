//! Who signed a browser's form: SigV4 over the policy that the form carries.
//!
//! A form is signed once and may be used until its policy runs out, so the date of its signature may lie some time back, unlike
//! that of a request. <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html>

use s3s::auth::S3Auth as _;
use s3s::region::Region;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use s3s_sigv4::{AmzDate, CredentialV4, PostSignatureError, PostSignatureV4, calculate_signature};
use subtle::ConstantTimeEq as _;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use super::policy::Policy;
use super::proof::{Caller, Gate};

/// A signature's date may be this far ahead of our clock.
const AHEAD_MAX: Duration = Duration::minutes(15);
/// The signing key is one of a day, and S3 honours it for a week.
const AGE_MAX: Duration = Duration::days(7);

impl Gate {
    /// Checks the signature of a form and reads the policy that it covers. The caller holds the policy against the upload.
    ///
    /// `fields` have lower-case names. `region`: the only one that may be named; `None` accepts any.
    ///
    /// # Errors
    /// `AccessDenied`: not signed at all. Signatures of other kinds, malformed ones, wrong ones; a policy that cannot be read.
    pub async fn admit_form(
        &self,
        fields: &[(String, String)],
        region: Option<&Region>,
        now: OffsetDateTime,
    ) -> S3Result<(Caller, Policy)> {
        let has = |name: &str| fields.iter().any(|(known, _)| known == name);
        if has("x-amz-security-token") {
            return Err(S3Error::new(S3ErrorCode::InvalidToken));
        }
        if has("signature") || has("awsaccesskeyid") {
            return Err(s3_error!(
                InvalidRequest,
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
            ));
        }
        if !has("policy") && !has("x-amz-signature") {
            return Err(S3Error::new(S3ErrorCode::AccessDenied));
        }
        let form = PostSignatureV4::extract(fields).map_err(|err| match err {
            PostSignatureError::MissingField(name) => s3_error!(
                InvalidArgument,
                "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
            ),
            PostSignatureError::DuplicateField(name) => s3_error!(InvalidArgument, "The field '{name}' is there more than once."),
        })?;
        if form.x_amz_algorithm != "AWS4-HMAC-SHA256" {
            return Err(s3_error!(InvalidArgument, "Only AWS4-HMAC-SHA256 is supported."));
        }
        let malformed = |name: &str| s3_error!(InvalidArgument, "The field '{name}' is malformed.");
        let credential = CredentialV4::parse(form.x_amz_credential).map_err(|_| malformed("x-amz-credential"))?;
        let date = AmzDate::parse(form.x_amz_date).map_err(|_| malformed("x-amz-date"))?;
        if credential.date != date.fmt_date().as_str() {
            return Err(s3_error!(InvalidArgument, "The dates of the fields 'x-amz-credential' and 'x-amz-date' differ."));
        }
        if credential.aws_service != "s3" || region.is_some_and(|region| region.as_str() != credential.aws_region) {
            return Err(s3_error!(InvalidArgument, "The field 'x-amz-credential' is scoped to another region or service."));
        }
        let secret = self.identities().get_secret_key(credential.access_key_id).await?;
        let computed = calculate_signature(form.policy, secret.expose(), &date, credential.aws_region, credential.aws_service);
        if !bool::from(computed.as_bytes().ct_eq(form.x_amz_signature.as_bytes())) {
            return Err(S3Error::new(S3ErrorCode::SignatureDoesNotMatch));
        }
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let signed_at = PrimitiveDateTime::parse(form.x_amz_date, format).map_err(|_| malformed("x-amz-date"))?.assume_utc();
        if signed_at > now + AHEAD_MAX {
            return Err(S3Error::new(S3ErrorCode::RequestTimeTooSkewed));
        }
        if signed_at < now - AGE_MAX {
            return Err(s3_error!(AccessDenied, "Invalid according to Policy: Policy expired."));
        }
        let policy = Policy::from_base64(form.policy).map_err(|err| err.to_s3_error())?;
        Ok((self.caller(credential.access_key_id)?, policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Identities, Identity};
    use time::macros::datetime;
    use zeroize::Zeroizing;

    const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
    const POLICY: &str = r#"{"expiration": "2026-01-02T00:00:00Z", "conditions": [{"bucket": "b"}]}"#;

    fn gate() -> Gate {
        let secret = Zeroizing::new("secret-one".to_owned());
        Gate::new(Identities::new([Identity::new("AKONE".into(), secret, Some("one".into()))]).unwrap())
    }

    /// The fields of a form signed at `date`, before `change` has its way.
    fn form(date: &str, scope: &str, change: impl FnOnce(&mut Vec<(String, String)>)) -> Vec<(String, String)> {
        let policy = data_encoding::BASE64.encode(POLICY.as_bytes());
        let at = AmzDate::parse(date).unwrap();
        let signature = calculate_signature(&policy, "secret-one", &at, "us-east-1", "s3");
        let mut fields: Vec<_> = [
            ("policy", policy.as_str()),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", &format!("AKONE/{scope}")),
            ("x-amz-date", date),
            ("x-amz-signature", &signature),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        change(&mut fields);
        fields
    }

    fn set(fields: &mut Vec<(String, String)>, name: &str, value: &str) {
        fields.retain(|(known, _)| known != name);
        fields.push((name.to_owned(), value.to_owned()));
    }

    const WRONG: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    const TODAY: (&str, &str) = ("20260101T110000Z", "20260101/us-east-1/s3/aws4_request");

    async fn refused(fields: Vec<(String, String)>) -> String {
        let region = Region::new("us-east-1".into()).unwrap();
        gate().admit_form(&fields, Some(&region), NOW).await.unwrap_err().code().as_str().to_owned()
    }

    #[tokio::test]
    async fn a_signed_form_has_a_caller_and_a_policy() {
        let (caller, policy) = gate().admit_form(&form(TODAY.0, TODAY.1, |_| {}), None, NOW).await.unwrap();
        assert_eq!(caller.name(), "one");
        assert_eq!(policy, Policy::from_base64(&data_encoding::BASE64.encode(POLICY.as_bytes())).unwrap());
        // Hours after it was signed it is as good as ever: its policy says how long.
        let week_old = form("20251225T130000Z", "20251225/us-east-1/s3/aws4_request", |_| {});
        assert!(gate().admit_form(&week_old, None, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn others_are_refused() {
        let with = |name: &'static str, value: &'static str| form(TODAY.0, TODAY.1, |fields| set(fields, name, value));
        let without = |name: &'static str| form(TODAY.0, TODAY.1, |fields| fields.retain(|(known, _)| known != name));
        assert_eq!(refused(vec![]).await, "AccessDenied");
        assert_eq!(refused(vec![("key".into(), "k".into())]).await, "AccessDenied");
        for name in ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"] {
            assert_eq!(refused(without(name)).await, "InvalidArgument", "{name}");
        }
        assert_eq!(refused(with("x-amz-signature", WRONG)).await, "SignatureDoesNotMatch");
        assert_eq!(refused(with("x-amz-signature", "")).await, "SignatureDoesNotMatch");
        assert_eq!(refused(with("policy", "e30=")).await, "SignatureDoesNotMatch");
        assert_eq!(refused(with("x-amz-credential", "NOBODY/20260101/us-east-1/s3/aws4_request")).await, "InvalidAccessKeyId");
        assert_eq!(refused(with("x-amz-credential", "AKONE/20260101/eu-west-1/s3/aws4_request")).await, "InvalidArgument");
        assert_eq!(refused(with("x-amz-credential", "AKONE/20260101/us-east-1/sts/aws4_request")).await, "InvalidArgument");
        assert_eq!(refused(with("x-amz-credential", "AKONE/20260102/us-east-1/s3/aws4_request")).await, "InvalidArgument");
        assert_eq!(refused(with("x-amz-algorithm", "AWS4-ECDSA-P256-SHA256")).await, "InvalidArgument");
        assert_eq!(refused(with("x-amz-security-token", "t")).await, "InvalidToken");
        assert_eq!(refused(with("signature", "c2ln")).await, "InvalidRequest");
        let ahead = form("20260101T121600Z", TODAY.1, |_| {});
        assert_eq!(refused(ahead).await, "RequestTimeTooSkewed");
        let old = form("20251225T110000Z", "20251225/us-east-1/s3/aws4_request", |_| {});
        assert_eq!(refused(old).await, "AccessDenied");
    }
}
