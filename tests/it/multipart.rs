//! Multipart uploads, end to end: over LocalStack, and over the embedded store.

mod chaos;
mod checksums;
mod completes;
mod hidden;
mod large;
mod locked;
mod plaintext;
mod resume;
mod site;
mod uploads;
mod versioned;
