//! The store behind the gateway: what we ask of it, and how it can fail.
//!
//! This room carries sealed bytes and headers. It never sees a key and never opens anything: a [`PutObject`] can only be made
//! with a [`SealedBody`], and only `stream` makes those. `sdk` holds the typed operations (aws-sdk-s3), `multipart`, `copy` and `buckets`
//! more of them, `upload` the bodies that are sent, `reading` the thread that receives long ones, `forward` the re-signed raw requests for
//! everything that never touches object data.

mod buckets;
mod copy;
mod demands;
mod error;
pub mod forward;
mod multipart;
pub mod passing;
mod reading;
mod sdk;
mod upload;
mod versions;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::HeaderMap;

pub use buckets::{BucketPage, BucketsQuery, ListedBucket, Versioning};
pub use copy::{Copied, CopyObject, CopyParts, CopySource};
pub use demands::Demands;
pub use error::{Error, Refusal};
pub use multipart::{
    CompleteUpload, CompletedUpload, CreatedUpload, ListedUpload, PartPage, PutPart, StoredPart, Upload, UploadPage, UploadsQuery,
};
pub use sdk::{S3Backend, Settings};
pub use versions::{DeleteMarker, ObjectVersion, VersionPage, VersionQuery};

use crate::stream::SealedBody;

/// A body as the store sends it: pieces of any size, or the reason why it broke off.
pub type Body = BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// An object, as clients and the store name it.
#[derive(Clone, Debug)]
pub struct ObjectName {
    pub bucket: String,
    pub key: String,
}

/// PutObject: a sealed body under a name, with the headers to store beside it.
pub struct PutObject {
    pub object: ObjectName,
    /// Headers as they go on the wire, the envelope among them; framing and signature are added here.
    pub headers: HeaderMap,
    pub body: SealedBody,
}

/// GetObject, HeadObject or DeleteObject of one object.
#[derive(Clone)]
pub struct Select {
    pub object: ObjectName,
    pub version_id: Option<String>,
    /// Conditions and other headers as they go on the wire.
    pub headers: HeaderMap,
    /// Bytes of the *sealed* object (GetObject only).
    pub range: Option<ByteRange>,
}

/// A range of stored bytes, in the forms of RFC 9110 section 14.1.2, or in S3's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first to the last byte, both included; the store clamps the last one.
    Inclusive(u64, u64),
    /// From this byte to the end.
    From(u64),
    /// The last so many bytes.
    Suffix(u64),
    /// What was uploaded as the part of this number. For objects that are not sealed: where the parts of the others lie, the store does
    /// not know.
    Part(u16),
}

impl ByteRange {
    /// The value of the `Range` header; `None` for a part, which has a parameter of its own.
    pub fn header_value(self) -> Option<String> {
        match self {
            Self::Inclusive(first, last) => Some(format!("bytes={first}-{last}")),
            Self::From(first) => Some(format!("bytes={first}-")),
            Self::Suffix(length) => Some(format!("bytes=-{length}")),
            Self::Part(_) => None,
        }
    }

    /// The most bytes that it can be; `None` where that depends on the object.
    pub fn len_max(self) -> Option<u64> {
        match self {
            Self::Inclusive(first, last) => Some(last.saturating_sub(first).saturating_add(1)),
            Self::Suffix(length) => Some(length),
            Self::From(_) | Self::Part(_) => None,
        }
    }

    /// The value of the parameter `partNumber`.
    pub fn part_number(self) -> Option<i32> {
        match self {
            Self::Part(number) => Some(number.into()),
            Self::Inclusive(..) | Self::From(_) | Self::Suffix(_) => None,
        }
    }
}

/// Answer without a body.
#[derive(Debug)]
pub struct Answer {
    pub headers: HeaderMap,
}

/// Answer of GetObject.
pub struct ObjectAnswer {
    pub headers: HeaderMap,
    pub body: Body,
}

/// ListObjects (version 1) or ListObjectsV2, as the client asked.
#[derive(Clone, Debug)]
pub struct ListQuery {
    pub bucket: String,
    pub prefix: Option<String>,
    pub delimiter: Option<String>,
    pub max_keys: Option<i32>,
    /// Headers to carry: expected bucket owner, request payer, optional attributes.
    pub headers: HeaderMap,
    pub paging: Paging,
}

/// Where a listing goes on, in the words of either version.
#[derive(Clone, Debug)]
pub enum Paging {
    V1 { marker: Option<String> },
    V2 { continuation_token: Option<String>, start_after: Option<String>, fetch_owner: Option<bool> },
}

/// One page of a listing. Names are decoded, sizes and ETags are the store's own.
#[derive(Debug, Default)]
pub struct Listing {
    pub entries: Vec<ListEntry>,
    pub common_prefixes: Vec<String>,
    pub is_truncated: bool,
    /// Version 1: NextMarker. Version 2: NextContinuationToken.
    pub next: Option<String>,
    pub max_keys: Option<i32>,
    pub key_count: Option<i32>,
    pub headers: HeaderMap,
}

/// An object in a listing.
#[derive(Debug)]
pub struct ListEntry {
    pub key: String,
    pub sealed_size: Option<i64>,
    pub etag: Option<String>,
    /// Seconds and nanoseconds since the epoch.
    pub last_modified: Option<(i64, u32)>,
    pub storage_class: Option<String>,
    pub owner: Option<Owner>,
    pub restore: Option<RestoreState>,
}

/// Owner of an object.
#[derive(Clone, Debug)]
pub struct Owner {
    pub id: Option<String>,
    pub display_name: Option<String>,
}

/// RestoreStatus of an archived object.
#[derive(Debug)]
pub struct RestoreState {
    pub in_progress: Option<bool>,
    pub expiry: Option<(i64, u32)>,
}

/// DeleteObjects.
pub struct DeleteMany {
    pub bucket: String,
    pub headers: HeaderMap,
    pub quiet: bool,
    pub objects: Vec<DeleteOne>,
}

/// One line of a DeleteObjects request, with its conditions. The ETag is the store's own.
#[derive(Default)]
pub struct DeleteOne {
    pub key: String,
    pub version_id: Option<String>,
    pub etag: Option<String>,
    /// In the form of HTTP dates (RFC 9110 section 5.6.7).
    pub last_modified: Option<String>,
    /// Bytes of the *sealed* object.
    pub sealed_size: Option<u64>,
}

/// What became of the lines of a DeleteObjects request.
#[derive(Debug, Default)]
pub struct DeletedMany {
    pub deleted: Vec<Deleted>,
    pub errors: Vec<DeleteFailure>,
    pub headers: HeaderMap,
}

#[derive(Debug)]
pub struct Deleted {
    pub key: Option<String>,
    pub version_id: Option<String>,
    pub delete_marker: Option<bool>,
    pub delete_marker_version_id: Option<String>,
}

#[derive(Debug)]
pub struct DeleteFailure {
    pub key: Option<String>,
    pub version_id: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
}
