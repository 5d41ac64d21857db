//! The checks that the protocol library leaves to its host once the signature is right, and the proof that they were made.

use std::sync::Arc;

use http::{HeaderMap, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::Credentials;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use s3s_sigv4::AuthorizationV4;

use super::Identities;
use crate::observe::request::RequestRecord;

/// The proven author of a request. Only [`Gate`] makes one; it is an extension of every request that got past it.
#[derive(Debug, Clone)]
pub struct Caller {
    access_key: Arc<str>,
    name: Arc<str>,
}

impl Caller {
    /// The access key the request is signed with.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The client's name in logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The name of the operation that the front took the request for, as an extension. The gate refuses a request that the protocol
/// library takes for another operation: what was classified, checked and logged is what runs.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedOperation(pub &'static str);

/// Lets proven requests through and refuses all others.
#[derive(Debug, Clone)]
pub struct Gate {
    identities: Identities,
}

impl Gate {
    #[must_use]
    pub fn new(identities: Identities) -> Self {
        Self { identities }
    }

    /// Checks a request whose signature, if it had one, was found right.
    ///
    /// # Errors
    /// `AccessDenied`: not signed at all, or the signature does not cover the host it was sent to. `InvalidToken`: a session
    /// token, which no identity here has.
    pub fn admit(&self, credentials: Option<&Credentials>, uri: &Uri, headers: &HeaderMap) -> S3Result<Caller> {
        let Some(credentials) = credentials else {
            return Err(S3Error::new(S3ErrorCode::AccessDenied));
        };
        if headers.contains_key("x-amz-security-token") || query_value(uri, "X-Amz-Security-Token").is_some() {
            return Err(S3Error::new(S3ErrorCode::InvalidToken));
        }
        if !host_is_signed(uri, headers) {
            return Err(s3_error!(AccessDenied, "There were headers present in the request which were not signed: host"));
        }
        self.caller(&credentials.access_key)
    }

    /// The client with this access key, whose signature was found right.
    pub(super) fn caller(&self, access_key: &str) -> S3Result<Caller> {
        let Some(name) = self.identities.name(access_key) else {
            return Err(S3Error::new(S3ErrorCode::InvalidAccessKeyId));
        };
        Ok(Caller { access_key: access_key.into(), name: name.into() })
    }

    pub(super) fn identities(&self) -> &Identities {
        &self.identities
    }
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let caller = self.admit(cx.credentials(), cx.uri(), cx.headers())?;
        let expected = cx.extensions_mut().get::<ExpectedOperation>().copied();
        let operation = cx.s3_op().name();
        if expected.is_none_or(|expected| expected.0 != operation) {
            tracing::warn!(operation, ?expected, "the protocol library and the route table disagree; refused");
            return Err(S3Error::new(S3ErrorCode::NotImplemented));
        }
        let extensions = cx.extensions_mut();
        if let Some(record) = extensions.get::<RequestRecord>() {
            record.set_caller(&caller.name);
        }
        extensions.insert(caller);
        Ok(())
    }
}

/// Whether `host` is among the signed headers. The protocol library checks what is signed, not that enough is.
fn host_is_signed(uri: &Uri, headers: &HeaderMap) -> bool {
    // The same order as in the protocol library: a signature in the query goes before one in the header.
    let signed = if query_value(uri, "X-Amz-Signature").is_some() {
        query_value(uri, "X-Amz-SignedHeaders")
    } else {
        let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        header.and_then(|value| AuthorizationV4::parse(value).ok()).map(|parsed| parsed.signed_headers.join(";"))
    };
    signed.is_some_and(|list| list.split(';').any(|name| name.eq_ignore_ascii_case("host")))
}

fn query_value(uri: &Uri, name: &str) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned);
        (decode(key)? == name).then(|| decode(value)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;
    use s3s::auth::SecretKey;
    use zeroize::Zeroizing;

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKONE/20260101/us-east-1/s3/aws4_request, \
                          SignedHeaders=host;x-amz-date, Signature=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn gate() -> Gate {
        let secret = Zeroizing::new("secret-one".to_owned());
        Gate::new(Identities::new([Identity::new("AKONE".into(), secret, Some("one".into()))]).unwrap())
    }

    fn admit(key: Option<&str>, uri: &str, headers: &[(&'static str, &str)]) -> Result<Caller, String> {
        let credentials = key.map(|key| Credentials { access_key: key.into(), secret_key: SecretKey::from("secret-one") });
        let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        gate().admit(credentials.as_ref(), &uri.parse().unwrap(), &headers).map_err(|e| e.code().as_str().to_owned())
    }

    #[test]
    fn proven_requests_have_a_caller() {
        assert_eq!(admit(Some("AKONE"), "/b/k", &[("authorization", SIGNED)]).unwrap().name(), "one");
        let presigned = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl&X-Amz-Signature=00";
        assert_eq!(admit(Some("AKONE"), presigned, &[]).unwrap().access_key(), "AKONE");
        // Without spaces after the commas, as some clients write it.
        admit(Some("AKONE"), "/b/k", &[("authorization", &SIGNED.replace(", ", ","))]).unwrap();
    }

    #[test]
    fn others_are_refused() {
        let refused = |key, uri, headers: &[(&'static str, &str)]| admit(key, uri, headers).unwrap_err();
        assert_eq!(refused(None, "/b/k", &[]), "AccessDenied");
        assert_eq!(refused(Some("AKONE"), "/b/k", &[("authorization", &SIGNED.replace("host;", ""))]), "AccessDenied");
        assert_eq!(refused(Some("AKONE"), "/b/k?X-Amz-SignedHeaders=x-host&X-Amz-Signature=00", &[]), "AccessDenied");
        // A header that names the host does not help a query signature that does not.
        let both = "/b/k?X-Amz-SignedHeaders=x-amz-date&X-Amz-Signature=00";
        assert_eq!(refused(Some("AKONE"), both, &[("authorization", SIGNED)]), "AccessDenied");
        let token = [("authorization", SIGNED), ("x-amz-security-token", "t")];
        assert_eq!(refused(Some("AKONE"), "/b/k", &token), "InvalidToken");
        let token = "/b/k?X-Amz-Security-Token=t&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
        assert_eq!(refused(Some("AKONE"), token, &[]), "InvalidToken");
    }
}
