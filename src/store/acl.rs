//! Access control lists. The store has one account that owns everything, so a list changes nothing; it is kept and answered as far
//! as a canned list can say it, in buckets whose owner allows lists at all.

use http::HeaderMap;
use rusqlite::Transaction;
use s3s::{S3Error, S3ErrorCode, S3Result, dto};

use super::Error;
use super::index::buckets::Bucket;
use super::index::documents;
use super::s3::{OWNER, owner};

/// The sub-resource that says whether a bucket takes lists, and the word in it with which it does not.
pub(super) const OWNERSHIP: &str = "ownershipControls";
pub(super) const ENFORCED: &str = "BucketOwnerEnforced";

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// The canned lists of objects and buckets.
const CANNED: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

/// Lists that say nothing but that the owner may do everything: S3 takes them everywhere.
fn says_nothing(canned: &str) -> bool {
    canned == "private" || canned == "bucket-owner-full-control"
}

/// Reads the canned list of a request; `None` is private.
///
/// # Errors
/// `InvalidArgument` for an unknown list, `NotImplemented` for grants in headers.
pub(super) fn from_request(request: &HeaderMap) -> S3Result<Option<String>> {
    if request.keys().any(|name| name.as_str().starts_with("x-amz-grant-")) {
        return Err(S3ErrorCode::AccessControlListNotSupported.into());
    }
    let Some(canned) = request.get("x-amz-acl") else { return Ok(None) };
    let canned = CANNED.into_iter().find(|known| canned.as_bytes() == known.as_bytes()).ok_or(S3ErrorCode::InvalidArgument)?;
    Ok((canned != "private").then(|| canned.to_owned()))
}

/// Whether a bucket takes this list.
///
/// # Errors
/// `AccessControlListNotSupported` where the bucket owner owns everything, which is how S3 makes buckets.
pub(super) fn check(transaction: &Transaction<'_>, bucket: &Bucket, canned: Option<&str>) -> Result<(), Error> {
    if canned.is_none_or(says_nothing) {
        return Ok(());
    }
    let controls = documents::get(transaction, bucket, OWNERSHIP, "")?.unwrap_or_default();
    if controls.windows(ENFORCED.len()).any(|window| window == ENFORCED.as_bytes()) {
        return Err(S3Error::from(S3ErrorCode::AccessControlListNotSupported).into());
    }
    Ok(())
}

/// The list that a request sets, in a header or in a document.
///
/// # Errors
/// Those of [`from_request`] and [`from_document`], and `MissingSecurityHeader` when there is neither.
pub(super) fn asked(request: &HeaderMap, policy: Option<dto::AccessControlPolicy>) -> S3Result<Option<String>> {
    match policy {
        Some(policy) => from_document(policy),
        None if request.contains_key("x-amz-acl") => from_request(request),
        None => Err(S3ErrorCode::MissingSecurityHeader.into()),
    }
}

/// Reads the list of a document as the canned list that says the same.
///
/// # Errors
/// `NotImplemented` for a document that no canned list says.
pub(super) fn from_document(policy: dto::AccessControlPolicy) -> S3Result<Option<String>> {
    let asked = policy.grants.unwrap_or_default();
    let same = |canned: &str| {
        let known = grants(Some(canned));
        known.len() == asked.len() && known.iter().all(|known| asked.iter().any(|asked| grant_of(asked) == grant_of(known)))
    };
    match CANNED.into_iter().find(|canned| same(canned)) {
        Some("private") => Ok(None),
        Some(canned) => Ok(Some(canned.to_owned())),
        None => Err(s3s::s3_error!(NotImplemented, "Access control lists that no canned list says are not implemented.")),
    }
}

fn grant_of(grant: &dto::Grant) -> (Option<&str>, Option<&str>, Option<&str>) {
    let grantee = grant.grantee.as_ref();
    (
        grantee.and_then(|grantee| grantee.id.as_deref()),
        grantee.and_then(|grantee| grantee.uri.as_deref()),
        grant.permission.as_ref().map(dto::Permission::as_str),
    )
}

/// The grants of a canned list; `None` is private.
pub(super) fn grants(canned: Option<&str>) -> dto::Grants {
    let group = |uri: &str, permission: &'static str| dto::Grant {
        grantee: Some(dto::Grantee {
            display_name: None,
            email_address: None,
            id: None,
            type_: dto::Type::from_static(dto::Type::GROUP),
            uri: Some(uri.to_owned()),
        }),
        permission: Some(dto::Permission::from_static(permission)),
    };
    let mut grants = vec![dto::Grant {
        grantee: Some(dto::Grantee {
            display_name: owner().display_name,
            email_address: None,
            id: Some(OWNER.to_owned()),
            type_: dto::Type::from_static(dto::Type::CANONICAL_USER),
            uri: None,
        }),
        permission: Some(dto::Permission::from_static(dto::Permission::FULL_CONTROL)),
    }];
    match canned {
        Some("public-read") => grants.push(group(ALL_USERS, dto::Permission::READ)),
        Some("public-read-write") => {
            grants.push(group(ALL_USERS, dto::Permission::READ));
            grants.push(group(ALL_USERS, dto::Permission::WRITE));
        }
        Some("authenticated-read") => grants.push(group(AUTHENTICATED, dto::Permission::READ)),
        _ => {}
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_a_canned_list_says() {
        for canned in [None, Some("public-read"), Some("public-read-write"), Some("authenticated-read")] {
            let policy = dto::AccessControlPolicy { grants: Some(grants(canned)), owner: Some(owner()) };
            assert_eq!(from_document(policy).unwrap().as_deref(), canned);
        }
        let nobody = dto::AccessControlPolicy { grants: None, owner: None };
        assert_eq!(from_document(nobody).unwrap_err().code(), &S3ErrorCode::NotImplemented);
    }
}
