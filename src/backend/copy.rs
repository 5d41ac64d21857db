//! Copies that the store makes of what it holds: CopyObject, and above S3's limit for that an upload whose parts are ranges of the source.
//! No byte of an object passes here.
//!
//! What the copy is to carry, and what pins its source, comes as headers.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/CopyingObjectsMPUapi.html>

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::sdk::{Wire, finish, instant, once};
use super::{Error, ObjectName, S3Backend, Upload};

/// Characters that need no encoding in the name of a source.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// How many parts the store copies at one time.
const PARTS_AT_ONCE: usize = 8;
/// The pace, in bytes a second, below which a store that copies counts as hung. S3 does several hundred million.
const PACE_MIN: u64 = 8 << 20;

/// What is copied.
#[derive(Clone, Debug)]
pub struct CopySource {
    pub object: ObjectName,
    pub version_id: Option<String>,
}

impl CopySource {
    /// The value of `x-amz-copy-source`.
    fn header_value(&self) -> String {
        let bucket = utf8_percent_encode(&self.object.bucket, PATH);
        let key = utf8_percent_encode(&self.object.key, PATH);
        match &self.version_id {
            None => format!("{bucket}/{key}"),
            Some(id) => format!("{bucket}/{key}?versionId={}", utf8_percent_encode(id, PATH)),
        }
    }
}

/// CopyObject.
pub struct CopyObject {
    pub source: CopySource,
    pub target: ObjectName,
    /// Headers as they go on the wire: what is stored beside the copy, and the conditions on both ends.
    pub headers: HeaderMap,
    /// Length of the sealed object in bytes: what the store's time is measured by.
    pub sealed_len: u64,
}

/// What became of a copy.
#[derive(Debug)]
pub struct Copied {
    pub headers: HeaderMap,
    /// The store's own ETag.
    pub etag: String,
    /// Seconds and nanoseconds since the epoch; an upload's end does not say it.
    pub last_modified: Option<(i64, u32)>,
}

/// The parts of a copy: the whole source, cut.
pub struct CopyParts {
    pub source: CopySource,
    /// What pins the source, for each part.
    pub headers: HeaderMap,
    pub sealed_len: u64,
    /// Bytes of every part but the last, at least S3's minimum of 5 MiB.
    pub part_len: u64,
}

impl S3Backend {
    /// CopyObject. Exactly one attempt: after a lost answer nobody knows whether the conditions still speak of what was there before.
    pub async fn copy_object(&self, copy: CopyObject) -> Result<Copied, Error> {
        let mut wire = Wire::for_document("CopyObjectResult", copy.headers)?;
        let sent = self
            .uploads
            .copy_object()
            .bucket(copy.target.bucket)
            .key(wire.key(copy.target.key))
            .copy_source(copy.source.header_value())
            .customize()
            .config_override(once())
            .interceptor(wire.clone())
            .send();
        let (output, headers) = self.within(copy.sealed_len, finish(sent, &wire)).await?;
        let result = output.copy_object_result.ok_or_else(|| garbled("a copy without a result"))?;
        let etag = result.e_tag.ok_or_else(|| garbled("a copy without an ETag"))?;
        Ok(Copied { headers, etag, last_modified: result.last_modified.map(instant) })
    }

    /// UploadPartCopy of the whole source, part by part. Returns numbers and ETags, in order, as completing wants them.
    pub async fn copy_parts(&self, upload: &Upload, parts: CopyParts) -> Result<Vec<(u16, String)>, Error> {
        let (source, headers) = (&parts.source.header_value(), &parts.headers);
        let ranges = part_ranges(parts.sealed_len, parts.part_len);
        let copies = ranges.into_iter().zip(1u32..).map(|((first, last), number)| async move {
            let number = u16::try_from(number).map_err(|e| Error::NotSent(e.into()))?;
            let mut wire = Wire::for_document("CopyPartResult", headers.clone())?;
            let sent = self
                .uploads
                .upload_part_copy()
                .bucket(&upload.object.bucket)
                .key(wire.key(upload.object.key.clone()))
                .upload_id(&upload.id)
                .part_number(i32::from(number))
                .copy_source(source)
                .copy_source_range(format!("bytes={first}-{last}"))
                .customize()
                .interceptor(wire.clone())
                .send();
            let (output, _) = self.within(last - first + 1, finish(sent, &wire)).await?;
            let etag = output.copy_part_result.and_then(|result| result.e_tag);
            let etag = etag.ok_or_else(|| garbled("a copied part without an ETag"))?;
            Ok((number, etag.trim_matches('"').to_owned()))
        });
        futures::stream::iter(copies).buffered(PARTS_AT_ONCE).try_collect().await
    }

    /// The tags of an object as `x-amz-tagging` writes them, `None` where it has none.
    pub async fn tags(&self, source: &CopySource, headers: HeaderMap) -> Result<Option<String>, Error> {
        let mut wire = Wire::for_document("Tagging", headers)?;
        let sent = self
            .client
            .get_object_tagging()
            .bucket(&source.object.bucket)
            .key(wire.key(source.object.key.clone()))
            .set_version_id(source.version_id.clone())
            .customize()
            .interceptor(wire.clone())
            .send();
        let (output, _) = finish(sent, &wire).await?;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs: Vec<_> = output.tag_set.iter().map(|tag| format!("{}={}", encode(&tag.key), encode(&tag.value))).collect();
        Ok((!pairs.is_empty()).then(|| pairs.join("&")))
    }

    /// The access control list of an object, as the headers that give a copy the same: none where it only says that the owner may do
    /// everything, a canned list where one says it, grants otherwise.
    pub async fn acl(&self, source: &CopySource) -> Result<HeaderMap, Error> {
        let mut wire = Wire::for_document("AccessControlPolicy", HeaderMap::new())?;
        let sent = self
            .client
            .get_object_acl()
            .bucket(&source.object.bucket)
            .key(wire.key(source.object.key.clone()))
            .set_version_id(source.version_id.clone())
            .customize()
            .interceptor(wire.clone())
            .send();
        let (output, _) = finish(sent, &wire).await?;
        let owner = output.owner.and_then(|owner| owner.id);
        let grants = output.grants.unwrap_or_default().into_iter().filter_map(|grant| {
            let (grantee, permission) = (grant.grantee?, grant.permission?);
            Some(Grant {
                id: grantee.id,
                uri: grantee.uri,
                email: grantee.email_address,
                permission: permission.as_str().to_owned(),
            })
        });
        acl_headers(owner.as_deref(), &grants.collect::<Vec<_>>())
    }

    /// Waits for a store that copies so many bytes before it answers.
    async fn within<T>(&self, bytes: u64, sent: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let patience = self.patience.answer + Duration::from_secs(bytes / PACE_MIN);
        match tokio::time::timeout(patience, sent).await {
            Ok(outcome) => outcome,
            Err(late) => Err(Error::TimedOut(late.into())),
        }
    }
}

/// One line of an access control list.
struct Grant {
    id: Option<String>,
    uri: Option<String>,
    email: Option<String>,
    permission: String,
}

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>
fn acl_headers(owner: Option<&str>, grants: &[Grant]) -> Result<HeaderMap, Error> {
    let is_owners = |grant: &Grant| grant.permission == "FULL_CONTROL" && grant.id.is_some() && grant.id.as_deref() == owner;
    let others: Vec<&Grant> = grants.iter().filter(|grant| !is_owners(grant)).collect();
    let mut headers = HeaderMap::new();
    if others.is_empty() {
        return Ok(headers);
    }
    if others.len() < grants.len() {
        let mut said: Vec<_> =
            others.iter().map(|grant| (grant.uri.as_deref().unwrap_or_default(), grant.permission.as_str())).collect();
        said.sort_unstable();
        let canned = match said.as_slice() {
            [(ALL_USERS, "READ")] => Some("public-read"),
            [(ALL_USERS, "READ"), (ALL_USERS, "WRITE")] => Some("public-read-write"),
            [(AUTHENTICATED, "READ")] => Some("authenticated-read"),
            _ => None,
        };
        if let Some(canned) = canned {
            headers.insert("x-amz-acl", HeaderValue::from_static(canned));
            return Ok(headers);
        }
    }
    // Grants replace what a new object would have, so the owner's are among them.
    for (permission, name) in [
        ("FULL_CONTROL", "x-amz-grant-full-control"),
        ("READ", "x-amz-grant-read"),
        ("READ_ACP", "x-amz-grant-read-acp"),
        ("WRITE_ACP", "x-amz-grant-write-acp"),
    ] {
        let grantees = grants.iter().filter(|grant| grant.permission == permission).filter_map(|grant| {
            let named = [("id", &grant.id), ("uri", &grant.uri), ("emailAddress", &grant.email)];
            named.into_iter().find_map(|(kind, value)| value.as_ref().map(|value| format!("{kind}=\"{value}\"")))
        });
        let grantees = grantees.collect::<Vec<_>>().join(", ");
        if !grantees.is_empty() {
            let value = HeaderValue::from_str(&grantees).map_err(|error| Error::Garbled(error.into()))?;
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

fn garbled(text: &'static str) -> Error {
    Error::Garbled(text.into())
}

/// First and last byte of every part.
fn part_ranges(len: u64, part_len: u64) -> Vec<(u64, u64)> {
    let part_len = part_len.max(1);
    (0..len.div_ceil(part_len)).map(|part| (part * part_len, ((part + 1) * part_len).min(len) - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_written_as_s3_reads_them() {
        let object = ObjectName { bucket: "b".into(), key: "a b+c%/ü?versionId=x".into() };
        let mut source = CopySource { object, version_id: None };
        assert_eq!(source.header_value(), "b/a%20b%2Bc%25/%C3%BC%3FversionId%3Dx");
        source.version_id = Some("a/b+c=".into());
        assert_eq!(source.header_value(), "b/a%20b%2Bc%25/%C3%BC%3FversionId%3Dx?versionId=a/b%2Bc%3D");
    }

    #[test]
    fn lists_become_the_headers_that_say_the_same() {
        let grant = |id: Option<&str>, uri: Option<&str>, permission: &str| Grant {
            id: id.map(str::to_owned),
            uri: uri.map(str::to_owned),
            email: None,
            permission: permission.to_owned(),
        };
        let own = || grant(Some("me"), None, "FULL_CONTROL");
        let shown = |grants: &[Grant]| {
            let headers = acl_headers(Some("me"), grants).unwrap();
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[own()]), Vec::<String>::new());
        assert_eq!(shown(&[]), Vec::<String>::new());
        assert_eq!(shown(&[own(), grant(None, Some(ALL_USERS), "READ")]), ["x-amz-acl: public-read"]);
        assert_eq!(shown(&[own(), grant(None, Some(AUTHENTICATED), "READ")]), ["x-amz-acl: authenticated-read"]);
        assert_eq!(
            shown(&[own(), grant(Some("you"), None, "READ"), grant(None, Some(ALL_USERS), "READ")]),
            ["x-amz-grant-full-control: id=\"me\"", &format!("x-amz-grant-read: id=\"you\", uri=\"{ALL_USERS}\"")]
        );
        // Where the owner has not everything, no canned list says it.
        assert_eq!(shown(&[grant(None, Some(ALL_USERS), "READ")]), [format!("x-amz-grant-read: uri=\"{ALL_USERS}\"")]);
    }

    #[test]
    fn parts_cover_every_byte_once() {
        assert_eq!(part_ranges(10, 5), [(0, 4), (5, 9)]);
        assert_eq!(part_ranges(11, 5), [(0, 4), (5, 9), (10, 10)]);
        assert_eq!(part_ranges(4, 5), [(0, 3)]);
    }
}
