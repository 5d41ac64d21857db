//! Copies of what is longer than one CopyObject may be: an upload whose parts the store copies. The bytes are the same wherever they are
//! cut, so the object is as well.

use http::{HeaderMap, HeaderValue};

use super::headers::copy;
use super::multipart::AbortOnDrop;
use super::{Error, Gateway};
use crate::backend::{self, CompleteUpload, CompletedUpload, CopyParts, CopySource, ObjectName, Upload};

/// Bytes of a part that the store copies, where the source is not too long for 10,000 of them.
const PART: u64 = 512 << 20;
const PARTS_MAX: u64 = 10_000;

/// What is copied, and what goes with which request.
pub(super) struct LargeCopy {
    pub source: CopySource,
    /// Of the source, to which every part is bound.
    pub etag: HeaderValue,
    pub target: ObjectName,
    /// What is stored beside the copy.
    pub stored: HeaderMap,
    /// What goes with every request.
    pub guards: HeaderMap,
    /// What goes with the requests that read the source.
    pub owner_of_source: HeaderMap,
    /// What the target has to be when the copy comes into being.
    pub conditions: HeaderMap,
    pub sealed_len: u64,
}

impl Gateway {
    /// Copies. When it cannot, or nobody waits any more, no upload stays behind.
    pub(super) async fn copy_in_parts(&self, large: LargeCopy) -> Result<CompletedUpload, Error> {
        let LargeCopy { source, etag, target, stored, guards, owner_of_source, conditions, sealed_len } = large;
        let mut pinned = guards.clone();
        copy::pin_source(&mut pinned, &etag);
        pinned.extend(owner_of_source);
        let mut created_with = guards.clone();
        created_with.extend(stored);
        let created = self.backend.create_upload(target.clone(), created_with).await?;
        let unfinished = AbortOnDrop::new(&self.backend, Upload { object: target, id: created.id }, guards.clone());
        let part_len = PART.min(self.backend.copy_max()).max(sealed_len.div_ceil(PARTS_MAX));
        let parts = CopyParts { source, headers: pinned, sealed_len, part_len };
        let completed = async {
            let parts = self.backend.copy_parts(unfinished.upload(), parts).await?;
            let mut headers = guards;
            headers.extend(conditions);
            let complete = CompleteUpload { upload: unfinished.upload().clone(), headers, parts, sealed_size: sealed_len };
            Ok(self.backend.complete_upload(complete).await?)
        };
        let completed = completed.await;
        unfinished.settle(completed).await
    }

    /// The tags of an object as a header; they travel with a CopyObject by themselves and with nothing else.
    pub(super) async fn tags_of(&self, source: &CopySource, guards: HeaderMap) -> Result<Option<HeaderValue>, Error> {
        let tags = match self.backend.tags(source, guards).await {
            // A store that knows no tags has none to carry.
            Err(backend::Error::Refused(refusal)) if refusal.status == 501 => None,
            tags => tags?,
        };
        tags.map(|tags| HeaderValue::from_str(&tags).map_err(|_| Error::Internal("tags are not a header"))).transpose()
    }
}
