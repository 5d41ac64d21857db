//! ListObjects and ListObjectsV2: the store's page with plaintext sizes and marked ETags.
//!
//! One request per page, whatever its length: the size law has an inverse (FORMAT section 8), so no object needs to be looked at. Only in
//! buckets that may hold plaintext a size can mean two things; there each doubtful entry is looked at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    ObjectStorageClass, Owner, RestoreStatus, Timestamp,
};
use s3s::{S3Request, S3Response};

use super::{Error, Gateway, headers, read_through};
use crate::backend::{ListEntry, ListQuery, Listing, Paging};

/// What S3 leaves as it is with `encoding-type=url`.
const KEPT_PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');

impl Gateway {
    pub(super) async fn list_v1(&self, req: S3Request<ListObjectsInput>) -> Result<S3Response<ListObjectsOutput>, Error> {
        let asked = req.input;
        let names = Names::new(asked.encoding_type.as_ref())?;
        let query = ListQuery {
            bucket: asked.bucket.clone(),
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            max_keys: asked.max_keys,
            headers: headers::guards(&req.headers, &req.extensions),
            paging: Paging::V1 { marker: asked.marker.clone() },
        };
        let guards = query.headers.clone();
        let page = self.list_visible(query).await?;
        let (headers, shown) = self.show(&asked.bucket, &guards, page, names).await?;
        let output = ListObjectsOutput {
            name: Some(asked.bucket),
            prefix: Some(names.show(&asked.prefix.unwrap_or_default())),
            marker: Some(names.show(&asked.marker.unwrap_or_default())),
            max_keys: shown.max_keys.or(asked.max_keys),
            is_truncated: Some(shown.is_truncated),
            contents: Some(shown.contents),
            common_prefixes: Some(shown.common_prefixes),
            delimiter: asked.delimiter.as_deref().filter(|d| !d.is_empty()).map(|d| names.show(d)),
            next_marker: shown.next.as_deref().map(|m| names.show(m)),
            encoding_type: asked.encoding_type,
            ..ListObjectsOutput::default()
        };
        Ok(S3Response::with_headers(output, headers))
    }

    pub(super) async fn list_v2(&self, req: S3Request<ListObjectsV2Input>) -> Result<S3Response<ListObjectsV2Output>, Error> {
        let asked = req.input;
        let names = Names::new(asked.encoding_type.as_ref())?;
        let query = ListQuery {
            bucket: asked.bucket.clone(),
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            max_keys: asked.max_keys,
            headers: headers::guards(&req.headers, &req.extensions),
            paging: Paging::V2 {
                continuation_token: asked.continuation_token.clone(),
                start_after: asked.start_after.clone(),
                fetch_owner: asked.fetch_owner,
            },
        };
        let guards = query.headers.clone();
        let page = self.list_visible(query).await?;
        let key_count = page.key_count;
        let (headers, shown) = self.show(&asked.bucket, &guards, page, names).await?;
        let counted = i32::try_from(shown.contents.len() + shown.common_prefixes.len()).ok();
        let output = ListObjectsV2Output {
            name: Some(asked.bucket),
            prefix: Some(names.show(&asked.prefix.unwrap_or_default())),
            max_keys: shown.max_keys.or(asked.max_keys),
            key_count: key_count.or(counted),
            is_truncated: Some(shown.is_truncated),
            contents: Some(shown.contents),
            common_prefixes: Some(shown.common_prefixes),
            delimiter: asked.delimiter.as_deref().filter(|d| !d.is_empty()).map(|d| names.show(d)),
            continuation_token: asked.continuation_token,
            next_continuation_token: shown.next,
            start_after: asked.start_after.as_deref().map(|s| names.show(s)),
            encoding_type: asked.encoding_type,
            ..ListObjectsV2Output::default()
        };
        Ok(S3Response::with_headers(output, headers))
    }

    async fn show(&self, bucket: &str, guards: &HeaderMap, page: Listing, names: Names) -> Result<(HeaderMap, Shown), Error> {
        let sizes = self
            .shown_sizes(bucket, guards, page.entries.iter().map(|entry| read_through::Entry::new(entry, None)).collect())
            .await?;
        let shown = Shown {
            contents: page.entries.into_iter().zip(sizes).map(|(entry, size)| show_entry(entry, &size, names)).collect(),
            common_prefixes: common_prefixes(&page.common_prefixes, names),
            is_truncated: page.is_truncated,
            next: page.next,
            max_keys: page.max_keys,
        };
        Ok((headers::for_client(page.headers), shown))
    }
}

/// How the client wants names written.
#[derive(Clone, Copy)]
pub(super) struct Names {
    encoded: bool,
}

impl Names {
    pub fn new(asked: Option<&EncodingType>) -> Result<Self, Error> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self { encoded: false }),
            Some("url") => Ok(Self { encoded: true }),
            Some(_) => Err(Error::InvalidArgument("Invalid Encoding Method specified in Request")),
        }
    }

    pub fn show(self, name: &str) -> String {
        // A space is %20 and not +: readers of forms take both, readers of plain percent-encoding this one alone.
        if self.encoded { utf8_percent_encode(name, KEPT_PLAIN).to_string() } else { name.to_owned() }
    }
}

struct Shown {
    contents: Vec<Object>,
    common_prefixes: Vec<CommonPrefix>,
    is_truncated: bool,
    next: Option<String>,
    max_keys: Option<i32>,
}

pub(super) fn common_prefixes(prefixes: &[String], names: Names) -> Vec<CommonPrefix> {
    prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(names.show(prefix)) }).collect()
}

pub(super) fn show_entry(entry: ListEntry, shown: &read_through::Shown, names: Names) -> Object {
    let etag = |tag: String| if shown.is_plaintext { tag.trim_matches('"').to_owned() } else { headers::mark_etag_text(&tag) };
    Object {
        key: Some(names.show(&entry.key)),
        size: shown.size,
        e_tag: entry.etag.map(|tag| ETag::Strong(etag(tag))),
        last_modified: entry.last_modified.and_then(timestamp),
        storage_class: entry.storage_class.map(ObjectStorageClass::from),
        owner: entry.owner.map(show_owner),
        restore_status: entry.restore.map(|state| RestoreStatus {
            is_restore_in_progress: state.in_progress,
            restore_expiry_date: state.expiry.and_then(timestamp),
        }),
        ..Object::default()
    }
}

pub(super) fn show_owner(owner: crate::backend::Owner) -> Owner {
    Owner { id: owner.id, display_name: owner.display_name }
}

pub(super) fn timestamp((secs, nanos): (i64, u32)) -> Option<Timestamp> {
    let at: SystemTime = UNIX_EPOCH.checked_add(Duration::new(u64::try_from(secs).ok()?, nanos))?;
    Some(Timestamp::from(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_every_reader() {
        let names = Names { encoded: true };
        assert_eq!(names.show("a b+c%d/é*~"), "a%20b%2Bc%25d/%C3%A9*%7E");
        assert_eq!(Names { encoded: false }.show("a b"), "a b");
        assert!(Names::new(Some(&EncodingType::from("xml".to_owned()))).is_err());
    }
}
