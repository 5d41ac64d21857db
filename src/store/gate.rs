//! Who gets in: signatures, and the checks that every operation shares.

use std::collections::HashMap;

use http::{Extensions, HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::Store;
use super::faults::{Effect, refusal};
use super::s3::Front;

/// The account that owns every bucket.
const ACCOUNT: &str = "000000000000";

/// The secrets of the clients by access key.
pub(super) struct Clients(HashMap<String, SecretKey>);

impl Clients {
    pub(super) fn new(credentials: Vec<(String, String)>) -> Self {
        Self(credentials.into_iter().map(|(access, secret)| (access, SecretKey::from(secret))).collect())
    }
}

#[async_trait::async_trait]
impl S3Auth for Clients {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.0.get(access_key).cloned().ok_or_else(|| S3ErrorCode::InvalidAccessKeyId.into())
    }
}

/// A fault that strikes while the body moves, handed to the operation in the request's extensions.
#[derive(Clone)]
pub(super) struct BodyFault(pub(super) Effect);

/// The query of a request, decoded.
pub(super) fn query(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    pairs(uri.query().unwrap_or_default())
}

/// The pairs of a query string, decoded.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The query parameters that an operation knows; `None` for an operation that is not there.
fn parameters(operation: &str) -> Option<&'static [&'static str]> {
    Some(match operation {
        "CreateBucket" | "HeadBucket" | "DeleteBucket" | "PutObject" | "CopyObject" => &[],
        "ListBuckets" => &["prefix", "max-buckets", "continuation-token", "bucket-region"],
        "GetBucketLocation" => &["location"],
        "GetBucketVersioning" | "PutBucketVersioning" => &["versioning"],
        "GetBucketAcl" | "PutBucketAcl" => &["acl"],
        "GetObjectLockConfiguration" | "PutObjectLockConfiguration" => &["object-lock"],
        "ListObjects" => &["prefix", "delimiter", "marker", "max-keys", "encoding-type"],
        "ListObjectsV2" => {
            &["list-type", "prefix", "delimiter", "continuation-token", "start-after", "max-keys", "encoding-type", "fetch-owner"]
        }
        "ListObjectVersions" => {
            &["versions", "prefix", "delimiter", "key-marker", "version-id-marker", "max-keys", "encoding-type"]
        }
        "ListMultipartUploads" => {
            &["uploads", "prefix", "delimiter", "key-marker", "upload-id-marker", "max-uploads", "encoding-type"]
        }
        "GetObject" | "HeadObject" => &[
            "versionId",
            "partNumber",
            "response-cache-control",
            "response-content-disposition",
            "response-content-encoding",
            "response-content-language",
            "response-content-type",
            "response-expires",
        ],
        "GetObjectAttributes" => &["attributes", "versionId"],
        "DeleteObject" => &["versionId"],
        "DeleteObjects" => &["delete"],
        "CreateMultipartUpload" => &["uploads"],
        "UploadPart" | "UploadPartCopy" => &["partNumber", "uploadId"],
        "CompleteMultipartUpload" | "AbortMultipartUpload" => &["uploadId"],
        "ListParts" => &["uploadId", "max-parts", "part-number-marker"],
        "GetObjectTagging" | "PutObjectTagging" | "DeleteObjectTagging" => &["tagging", "versionId"],
        "GetObjectAcl" | "PutObjectAcl" => &["acl", "versionId"],
        "GetObjectRetention" | "PutObjectRetention" => &["retention", "versionId"],
        "GetObjectLegalHold" | "PutObjectLegalHold" => &["legal-hold", "versionId"],
        _ => return None,
    })
}

/// The checks that every request passes after its signature.
///
/// # Errors
/// `NotImplemented` for what the store does not know, `AccessDenied` and `InvalidToken`.
pub(super) fn inspect(operation: &str, uri: &Uri, headers: &HeaderMap) -> S3Result<()> {
    let Some(known) = parameters(operation) else { return Err(not_implemented(operation)) };
    inspect_with(known, uri, headers)
}

/// The same for an operation with these query parameters.
///
/// # Errors
/// Those of [`inspect`].
pub(super) fn inspect_with(known: &[&str], uri: &Uri, headers: &HeaderMap) -> S3Result<()> {
    for (name, value) in query(uri) {
        // A pre-signed URL carries its signature, and many clients name the operation in x-id.
        let transport = name == "x-id" || name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"));
        if !transport && !known.contains(&name.as_str()) {
            // Never ignored: an unknown sub-resource on DELETE must not delete the bucket.
            return Err(not_implemented(&name));
        }
        if name == "versionId" && value.is_empty() {
            return Err(s3_error!(InvalidArgument, "Version id cannot be the empty string"));
        }
        if name.eq_ignore_ascii_case("x-amz-security-token") {
            return Err(S3ErrorCode::InvalidToken.into());
        }
    }
    // The secrets are long-lived ones; a session token belongs to credentials that this store did not give out.
    if headers.contains_key("x-amz-security-token") {
        return Err(S3ErrorCode::InvalidToken.into());
    }
    let owners = ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"];
    if owners.iter().any(|name| headers.get(*name).is_some_and(|owner| owner != ACCOUNT)) {
        return Err(S3ErrorCode::AccessDenied.into());
    }
    Ok(())
}

/// Lets an injected fault strike a request that was let in.
///
/// # Errors
/// What the fault answers.
pub(super) async fn strike(store: &Store, operation: &str, key: &str, extensions: &mut Extensions) -> S3Result<()> {
    match store.faults().strike(operation, key) {
        None => {}
        Some(Effect::Answer { status, code }) => return Err(refusal(status, &code)),
        Some(Effect::Delay(time)) => tokio::time::sleep(time).await,
        Some(effect) => {
            extensions.insert(BodyFault(effect));
        }
    }
    Ok(())
}

fn not_implemented(what: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, format!("{what} is not implemented by this store."))
}

#[async_trait::async_trait]
impl S3Access for Front {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Requests must be signed."));
        }
        let operation = cx.s3_op().name().to_owned();
        inspect(&operation, cx.uri(), cx.headers())?;
        let key = cx.s3_path().as_object().map(|(_, key)| key.to_owned()).unwrap_or_default();
        strike(&self.0, &operation, &key, cx.extensions_mut()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let uri: Uri = "/b/k?delete&a=x%2By+z&&=v".parse().unwrap();
        let pairs: Vec<_> = query(&uri).collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(pairs, [pair("delete", ""), pair("a", "x+y z"), pair("", "v")]);
    }
}
