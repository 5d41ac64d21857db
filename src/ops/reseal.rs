//! Objects that are sealed anew in their place, by an operator: plaintext that lay there before, and sealed ones that need another data key.
//!
//! Whoever writes at the same time wins: the new object takes the place of exactly the one that was read, or none. It counts as done when it
//! has been read back, every chunk of it.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::header::{ETAG, IF_MATCH};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::check::{BodyCheck, checksum_headers};
use super::headers::copy::{self, Stored as MetadataFrom};
use super::multipart::{LARGE_PLAIN_MAX, Large};
use super::object::{Stored, Unsealed, version_of};
use super::rewrap::carried;
use super::{Error, Gateway, Nature};
use crate::backend::{self, CopySource, ObjectName, PutObject, Select, Versioning};
use crate::format::{self, ChecksumKind, Layout, PlainLen, SealedLen};
use crate::stream::{self, BoxError};

/// How often it starts over because somebody else has written.
const ATTEMPTS: usize = 4;
/// How often what was written is read back at most while the store does not answer, and the first pause; each further one is twice as long.
const READ_BACKS: u32 = 6;
const READ_BACK_PAUSE: Duration = Duration::from_millis(250);
type Plain = futures::stream::BoxStream<'static, Result<bytes::Bytes, BoxError>>;

/// What is sealed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reseal {
    /// Objects without an envelope.
    Plaintext,
    /// Sealed objects, under a new data key.
    Sealed,
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resealed {
    /// Nothing was written, as nobody asked for it; so many bytes of plaintext would have been.
    Would(u64),
    /// It is sealed anew and was read back.
    Done {
        /// Of plaintext.
        bytes: u64,
        /// The version that was read, where the bucket keeps it.
        kept: Option<String>,
    },
    /// It is as it was.
    Left(Left),
}

/// Why an object was left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It has an envelope.
    IsSealed,
    /// It has none.
    IsPlaintext,
    /// It has none, and ends as a sealed object of its length does.
    LostEnvelope,
    /// AWS's encryption client wrote it: what lies there is sealed already, and becomes ours by opening it first.
    AwsClient,
    /// It opens with the client's own key alone.
    CustomerKey,
    /// It has to be restored first.
    Archived,
    /// The store does not show all of its metadata, or there is no room for the envelope beside them.
    Metadata,
    /// No sealed object can be so long.
    TooLarge,
    /// It is not there any more.
    Gone,
    /// Others keep writing it.
    KeepsChanging,
    /// The bucket keeps versions no longer, and this is one that it kept: what is written would take the place of the version `null`.
    VersionsSuspended,
}

/// What became of an old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldVersion {
    Sealed,
    /// It is plaintext, and was left alone.
    Plaintext,
    /// It is plaintext, and not what the current version holds; so it is nobody's copy and was left alone.
    Differs,
    /// It is plaintext, and the store does not let it be deleted.
    Locked,
    /// It was plaintext, and the current version holds the same, sealed.
    Deleted,
    Gone,
}

/// An object before it is sealed anew.
struct Before {
    at: CopySource,
    headers: HeaderMap,
    etag: HeaderValue,
    len: u64,
}

impl Gateway {
    /// Seals an object anew, if it is one of those, or says what would be done.
    ///
    /// # Errors
    /// A store or key service that does not answer, and objects that are damaged.
    pub async fn reseal(
        &self,
        object: &ObjectName,
        what: Reseal,
        versioning: Versioning,
        apply: bool,
    ) -> Result<Resealed, Error> {
        self.multipart.place.admit(&object.bucket, &object.key)?;
        for _ in 0..ATTEMPTS {
            match self.reseal_once(object, what, versioning, apply).await {
                Err(Error::Backend(backend::Error::Refused(refusal))) if matches!(refusal.status, 409 | 412) => {}
                Err(Error::Backend(backend::Error::Refused(refusal))) if is_gone(&refusal) => {
                    return Ok(Resealed::Left(Left::Gone));
                }
                Err(Error::MetadataTooLarge { .. }) => return Ok(Resealed::Left(Left::Metadata)),
                outcome => return outcome,
            }
        }
        Ok(Resealed::Left(Left::KeepsChanging))
    }

    async fn reseal_once(
        &self,
        object: &ObjectName,
        what: Reseal,
        versioning: Versioning,
        apply: bool,
    ) -> Result<Resealed, Error> {
        let left = |why| Ok(Resealed::Left(why));
        let headers = self.head_with_words(select(object, None)).await?;
        let aws = self.aws_object(object, &HeaderMap::new(), &headers).await?;
        match (what, headers.contains_key(format::HEADER)) {
            (Reseal::Plaintext, true) => return left(Left::IsSealed),
            // Also where no rule says that such objects are read: their bytes must never be taken for the plaintext.
            (Reseal::Plaintext, false) if aws.is_some() || super::aws_client::has_fields(&headers) => {
                return left(Left::AwsClient);
            }
            (Reseal::Sealed, false) if aws.is_none() => return left(Left::IsPlaintext),
            _ => {}
        }
        if versioning == Versioning::Suspended && version_of(&headers).is_some_and(|version| version != "null") {
            return left(Left::VersionsSuspended);
        }
        if is_archived(&headers) {
            return left(Left::Archived);
        }
        if headers.contains_key("x-amz-missing-meta") {
            return left(Left::Metadata);
        }
        let Unsealed { len, etag } = Unsealed::read(&headers)?;
        let at = CopySource { object: object.clone(), version_id: version_of(&headers) };
        let mut before = Before { at, headers, etag, len };
        let mut sealed = None;
        match what {
            Reseal::Plaintext => {
                let plain = Unsealed { len, etag: before.etag.clone() };
                if let Some(would_be) = SealedLen::new(len).plain()
                    && self.is_stripped(select(object, before.at.version_id.clone()), &plain, would_be).await?
                {
                    return left(Left::LostEnvelope);
                }
            }
            Reseal::Sealed if aws.is_some() => {
                before.len = aws.as_ref().map_or(0, |stored| stored.plain_len);
                super::headers::drop_aws_fields(&mut before.headers);
            }
            Reseal::Sealed => {
                let stored = Stored::read(&before.headers)?;
                if stored.envelope.flags().customer {
                    return left(Left::CustomerKey);
                }
                before.len = stored.plain_len.get();
                sealed = Some(stored);
            }
        }
        let Some(plain_len) = PlainLen::new(before.len).filter(|len| len.get() <= LARGE_PLAIN_MAX) else {
            return left(Left::TooLarge);
        };
        if !apply {
            return Ok(Resealed::Would(before.len));
        }
        let (plain, declared) = match &sealed {
            None if aws.is_some() => {
                let (at, conditions) = (&before.at, matching(&before.etag));
                (self.open_whole(&at.object, at.version_id.clone(), conditions, None).await?.boxed(), HeaderMap::new())
            }
            None => (self.plain_source(&before).await?, self.checksum_of_plaintext(&before).await?),
            Some(stored) => {
                let declared = self.checksum_of_sealed(&before, stored).await?;
                let (at, conditions) = (&before.at, matching(&before.etag));
                (self.open_whole(&at.object, at.version_id.clone(), conditions, None).await?.boxed(), declared)
            }
        };
        let answer = self.write_anew(&before, plain_len, plain, &declared).await?;
        let etag = answer.get(ETAG).cloned().ok_or(Error::Internal("the store gave no ETag"))?;
        let version_id = version_of(&answer);
        self.read_back(object, version_id.as_deref(), &etag, before.len).await?;
        let kept = kept_version(before.at.version_id.take(), version_id);
        Ok(Resealed::Done { bytes: before.len, kept })
    }

    /// Looks at a version that is not the current one. With `delete`, a plaintext one goes when the current one is sealed and holds the same:
    /// both are read to their ends for that.
    ///
    /// # Errors
    /// As [`Gateway::reseal`].
    pub async fn old_version(&self, object: &ObjectName, version_id: &str, delete: bool) -> Result<OldVersion, Error> {
        let old = match self.head_with_words(select(object, Some(version_id.to_owned()))).await {
            Err(Error::Backend(backend::Error::Refused(refusal))) if is_gone(&refusal) => return Ok(OldVersion::Gone),
            old => old?,
        };
        if old.contains_key(format::HEADER) || super::aws_client::has_fields(&old) {
            return Ok(OldVersion::Sealed);
        }
        if !delete {
            return Ok(OldVersion::Plaintext);
        }
        let now = match self.head_with_words(select(object, None)).await {
            Err(Error::Backend(backend::Error::Refused(refusal))) if is_gone(&refusal) => return Ok(OldVersion::Differs),
            now => now?,
        };
        let plain = Unsealed::read(&old)?;
        if !now.contains_key(format::HEADER) || is_archived(&old) || is_archived(&now) {
            return Ok(OldVersion::Plaintext);
        }
        let sealed = Stored::read(&now)?;
        if sealed.envelope.flags().customer {
            return Ok(OldVersion::Plaintext);
        }
        if sealed.plain_len.get() != plain.len {
            return Ok(OldVersion::Differs);
        }
        let before = Before {
            at: CopySource { object: object.clone(), version_id: Some(version_id.to_owned()) },
            headers: HeaderMap::new(),
            etag: plain.etag,
            len: plain.len,
        };
        let opened = self.open_whole(object, version_of(&now), matching(&sealed.etag), None).await?;
        let (old, new) = (self.plain_source(&before).await?, opened.boxed());
        let (old, new) = futures::future::try_join(hashed(old), hashed(new)).await?;
        if old != new {
            return Ok(OldVersion::Differs);
        }
        match self.backend.delete_object(select(object, Some(version_id.to_owned()))).await {
            Ok(_) => Ok(OldVersion::Deleted),
            Err(backend::Error::Refused(refusal)) if refusal.status == 403 && !refusal.is_about_us() => Ok(OldVersion::Locked),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of a plaintext object as they lie in the store.
    async fn plain_source(&self, before: &Before) -> Result<Plain, Error> {
        let mut select = select(&before.at.object, before.at.version_id.clone());
        select.headers = matching(&before.etag);
        Ok(self.backend.get_object(select).await?.body)
    }

    /// What the store knows of a whole plaintext object, as a client would declare it.
    async fn checksum_of_plaintext(&self, before: &Before) -> Result<HeaderMap, Error> {
        let plain = Unsealed { len: before.len, etag: before.etag.clone() };
        let told = self.plain_checksum(select(&before.at.object, before.at.version_id.clone()), &plain).await?;
        // That of an object in parts is one of the parts' checksums, and another cut has another.
        let of_parts = |value: &HeaderValue| value.as_bytes().contains(&b'-');
        if told.iter().any(|(_, value)| value == "COMPOSITE" || (value != "FULL_OBJECT" && of_parts(value))) {
            return Ok(HeaderMap::new());
        }
        let known = |name: &HeaderName| super::check::is_known_checksum(name.as_str());
        Ok(told.into_iter().filter(|(name, _)| known(name)).take(1).collect())
    }

    /// What the footer of a sealed object records, as a client would declare it.
    async fn checksum_of_sealed(&self, before: &Before, stored: &Stored) -> Result<HeaderMap, Error> {
        let keys = self.unlock(&before.at.object, stored, None).await?;
        let (at, guards) = (&before.at, HeaderMap::new());
        let footer = self.footer(&at.object, at.version_id.clone(), guards, stored, &keys).await?;
        let mut declared = HeaderMap::new();
        if let Some(checksum) = footer.checksum.filter(|checksum| checksum.kind() == ChecksumKind::FullObject) {
            declared.extend(checksum_headers(&checksum).into_iter().take(1));
        }
        if let Some(md5) = footer.md5 {
            let value = HeaderValue::try_from(data_encoding::BASE64.encode(&md5));
            declared.insert("content-md5", value.map_err(|_| Error::Internal("an MD5 is not a header"))?);
        }
        Ok(declared)
    }

    /// Seals a plaintext under a new data key, in the place of exactly the object that was read. The store's answer.
    async fn write_anew(&self, before: &Before, len: PlainLen, plain: Plain, declared: &HeaderMap) -> Result<HeaderMap, Error> {
        let object = &before.at.object;
        let layout = if len.get() > self.multipart.put_max { Layout::Multipart } else { Layout::Single };
        let fresh = self.keys.fresh(&object.bucket, &object.key, layout).await?;
        let mut beside = carried(&before.headers);
        beside.extend(self.acl_of(&before.at).await?);
        let mut sent =
            copy::for_copy(&beside, &Extensions::new(), MetadataFrom::FromSource(&before.headers), &fresh.envelope.encode())?;
        copy::as_upload(&mut sent);
        if let Some(tags) = self.tags_of(&before.at, HeaderMap::new()).await? {
            sent.insert("x-amz-tagging", tags);
        }
        let check = BodyCheck::new(declared, None)?;
        if layout == Layout::Multipart {
            let algorithm = check.declared();
            let large = Large {
                object: object.clone(),
                length: len,
                keys: fresh.keys,
                created_with: sent,
                guards: HeaderMap::new(),
                completed_with: matching(&before.etag),
                check: Box::new(check),
                algorithm,
                explain: source_failed,
            };
            let completed = self.write_in_parts(large, plain).await?;
            let mut answer = completed.headers;
            let etag = HeaderValue::try_from(completed.etag).map_err(|_| Error::Internal("the store gave no ETag"))?;
            answer.insert(ETAG, etag);
            return Ok(answer);
        }
        sent.extend(matching(&before.etag));
        let body = stream::seal_object(plain, fresh.keys, len, Box::new(check));
        let outcome = body.outcome();
        let put = PutObject { object: object.clone(), headers: sent, body };
        match self.backend.put_object(put).await {
            Ok(answer) => Ok(answer.headers),
            Err(store) => Err(outcome.take_error().map_or(Error::Backend(store), source_failed)),
        }
    }

    /// Reads an object to its end, as any reader would, and drops what it reads. A store that does not answer is asked again: the next
    /// attempt at the object would find it sealed, and not read it.
    async fn read_back(&self, object: &ObjectName, version_id: Option<&str>, etag: &HeaderValue, len: u64) -> Result<(), Error> {
        let mut pause = READ_BACK_PAUSE;
        for _ in 1..READ_BACKS {
            match self.read_back_once(object, version_id, etag, len).await {
                Err(error) if error.nature() == Nature::Passing => tokio::time::sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
        self.read_back_once(object, version_id, etag, len).await
    }

    async fn read_back_once(
        &self,
        object: &ObjectName,
        version_id: Option<&str>,
        etag: &HeaderValue,
        len: u64,
    ) -> Result<(), Error> {
        let mut body = self.open_whole(object, version_id.map(str::to_owned), matching(etag), None).await?;
        let mut read = 0;
        while let Some(piece) = body.try_next().await.map_err(broken)? {
            read += piece.len() as u64;
        }
        if read == len { Ok(()) } else { Err(Error::Integrity("what was read back is not as long as what was read".into())) }
    }
}

pub(super) fn select(object: &ObjectName, version_id: Option<String>) -> Select {
    Select { object: object.clone(), version_id, headers: HeaderMap::new(), range: None }
}

pub(super) fn matching(etag: &HeaderValue) -> HeaderMap {
    [(IF_MATCH, etag.clone())].into_iter().collect()
}

fn is_gone(refusal: &backend::Refusal) -> bool {
    matches!(refusal.status, 404 | 405) && refusal.code != "NoSuchBucket"
}

/// Whether the store does not give an object before it is restored.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects.html>
pub(super) fn is_archived(headers: &HeaderMap) -> bool {
    let is =
        |name: &str, word: &str| headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|text| text.contains(word));
    let has_class =
        ["GLACIER", "DEEP_ARCHIVE"].iter().any(|class| headers.get("x-amz-storage-class").is_some_and(|found| found == class));
    (has_class || headers.contains_key("x-amz-archive-status")) && !is("x-amz-restore", "ongoing-request=\"false\"")
}

/// The version that was read, where it is still there beside the one that was written.
fn kept_version(read: Option<String>, written: Option<String>) -> Option<String> {
    // Without an id the bucket keeps no versions; with "null" it keeps them no longer, and this one has replaced the other of that name.
    let written = written?;
    let read = read.unwrap_or_else(|| "null".to_owned());
    (read != written).then_some(read)
}

async fn hashed(mut plain: Plain) -> Result<[u8; 32], Error> {
    let mut hash = Sha256::new();
    while let Some(piece) = plain.try_next().await.map_err(broken)? {
        hash.update(&piece);
    }
    Ok(hash.finalize().into())
}

/// Why a body could not be read to its end.
pub(super) fn broken(cause: BoxError) -> Error {
    match cause.downcast::<stream::Error>() {
        Ok(inner) if inner.is_integrity() => Error::Integrity(inner),
        Ok(inner) => Error::Backend(backend::Error::Unreachable(inner)),
        Err(cause) => Error::Backend(backend::Error::Unreachable(cause)),
    }
}

/// Why an object could not be read to its end while it was sealed anew.
fn source_failed(error: stream::Error) -> Error {
    match error {
        stream::Error::Source(cause) => broken(cause),
        // What the store sent is not as long as it said; the next time it may be.
        short @ (stream::Error::ShortBody { .. } | stream::Error::LongBody { .. }) => {
            Error::Backend(backend::Error::Unreachable(short.into()))
        }
        other => Error::Integrity(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_version_that_was_read_stays_where_the_bucket_keeps_it() {
        let kept = |read: Option<&str>, written: Option<&str>| kept_version(read.map(str::to_owned), written.map(str::to_owned));
        assert_eq!(kept(None, None), None);
        assert_eq!(kept(Some("v1"), Some("v2")).as_deref(), Some("v1"));
        assert_eq!(kept(Some("null"), Some("v2")).as_deref(), Some("null"));
        assert_eq!(kept(None, Some("v2")).as_deref(), Some("null"));
        // Versions are suspended.
        assert_eq!(kept(Some("null"), Some("null")), None);
        assert_eq!(kept(None, Some("null")), None);
        assert_eq!(kept(Some("v1"), Some("null")).as_deref(), Some("v1"));
    }

    #[test]
    fn an_archive_has_to_be_restored() {
        for (pairs, archived) in [
            (&[][..], false),
            (&[("x-amz-storage-class", "STANDARD_IA")], false),
            (&[("x-amz-storage-class", "GLACIER_IR")], false),
            (&[("x-amz-storage-class", "GLACIER")], true),
            (&[("x-amz-storage-class", "DEEP_ARCHIVE"), ("x-amz-restore", "ongoing-request=\"true\"")], true),
            (&[("x-amz-storage-class", "GLACIER"), ("x-amz-restore", "ongoing-request=\"false\", expiry-date=\"x\"")], false),
            (&[("x-amz-storage-class", "INTELLIGENT_TIERING"), ("x-amz-archive-status", "ARCHIVE_ACCESS")], true),
        ] {
            assert_eq!(is_archived(&headers(pairs)), archived, "{pairs:?}");
        }
    }

    #[test]
    fn a_source_that_broke_off_is_no_damage() {
        let nature = |error| matches!(source_failed(error), Error::Integrity(_));
        assert!(!nature(stream::Error::Source("gone".into())));
        assert!(!nature(stream::Error::ShortBody { wanted: 2, got: 1 }));
        assert!(!nature(stream::Error::Source(Box::new(stream::Error::SealedShort { wanted: 2, got: 1 }))));
        assert!(nature(stream::Error::Source(Box::new(stream::Error::FooterDiffers))));
        assert!(nature(stream::Error::Rejected("another checksum".into())));
    }
}
