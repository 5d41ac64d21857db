//! The object format: envelope, layout, part headers, footer, and which bytes to read for a range (FORMAT sections 1 to 14 and 16).
//!
//! Pure functions between bytes and values. Every parser is strict: it takes any input, never panics, checks before it allocates, and
//! accepts exactly what its writer produces. This room knows no HTTP, no store and no clock; header names are plain strings.

mod aws_client;
mod checksum;
mod context;
mod envelope;
mod error;
mod footer;
pub mod layout;
mod parts;
mod plan;
mod read;
mod rewrapped;
mod salvage;

pub use aws_client::{AwsClaim, AwsFormat, AwsObject, AwsRefusal, Fields, INSTRUCTION_SUFFIX, is_of_client};
pub use checksum::{ChecksumAlgorithm, ChecksumBytes, ChecksumKind, ObjectChecksum};
pub use context::{KeyContext, cache_key};
pub use envelope::{Envelope, EnvelopeFlags, HEADER, Label, Layout, METADATA_NAME, WrapInput};
pub use error::Error;
pub use footer::{End, Footer, Suffix, TableEntry};
pub use layout::{PlainLen, SealedLen};
pub use parts::{PartHeader, Receipt, SealedRecord, UploadName, UploadRecord, split_part_etag, upload_base_name};
pub use plan::{ReadPlan, Segment, Tail};
pub use rewrapped::{RewrapRecord, VersionName};

/// Result of this room.
pub type Result<T> = std::result::Result<T, Error>;
