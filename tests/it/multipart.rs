//! Multipart uploads, end to end: over LocalStack, and over the embedded store.

mod checksums;
mod completes;
mod hidden;
mod large;
mod site;
mod uploads;
