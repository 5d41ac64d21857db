//! Multipart uploads without state in memory: any instance takes any request of any upload (FORMAT sections 7 and 11).
//!
//! One file per operation. `session` finds an upload's keys again, `staging` is what it keeps in the state store, `contents` how
//! that is listed and removed, `parts` what the upload has so far, `checksum` how checksums of parts become the object's, `janitor` clears what ended uploads left.

mod abort;
mod checksum;
mod complete;
mod contents;
mod copy_part;
mod create;
mod error;
pub mod janitor;
mod list;
mod parts;
mod put_large;
mod session;
mod staging;
mod under_way;
mod upload_part;

pub use error::Refused;
pub use put_large::LARGE_PLAIN_MAX;
pub(in crate::ops) use put_large::{AbortOnDrop, Large};
use session::Uploads;

use http::HeaderValue;

use super::{Error, StatePlace};
use crate::backend;
use crate::format::layout::{PART_MIN, SINGLE_PLAIN_MAX};

/// Settings and memory of multipart uploads, shared by all workers.
pub struct Multipart {
    pub(in crate::ops) place: StatePlace,
    /// Plaintext bytes of the largest object that is stored in one piece.
    pub(in crate::ops) put_max: u64,
    uploads: Uploads,
}

impl Multipart {
    /// `put_max` is brought into the bounds that S3 and the format set: 5 MiB to [`SINGLE_PLAIN_MAX`].
    #[must_use]
    pub fn new(place: StatePlace, put_max: u64) -> Self {
        Self { place, put_max: put_max.clamp(PART_MIN, SINGLE_PLAIN_MAX), uploads: Uploads::default() }
    }
}

impl Default for Multipart {
    fn default() -> Self {
        Self::new(StatePlace::default(), SINGLE_PLAIN_MAX)
    }
}

/// Whether the store says that there is no such upload (any more).
fn is_no_such_upload(error: &backend::Error) -> bool {
    matches!(error, backend::Error::Refused(refusal) if refusal.code == "NoSuchUpload")
}

/// The part's ETag as clients see it, from the one towards the store and the receipt in hex.
fn part_etag(store: &str, receipt: &str) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(format!("\"{store}-{receipt}\"")).map_err(|_| Error::Internal("the ETag of a part is no header value"))
}

/// A part number of a request.
fn part_number(number: i32) -> Result<u16, Error> {
    u16::try_from(number).ok().filter(|number| (1..=10_000).contains(number)).ok_or(Error::Upload(Refused::PartNumber))
}
