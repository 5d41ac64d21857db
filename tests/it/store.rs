//! The embedded store through the wire, as any S3 client sees it.

mod agreement;
mod buckets;
mod copies;
mod crash;
mod faults;
mod listing;
mod lock;
mod multipart;
mod objects;
mod races;
mod signatures;
mod subresources;
mod tagging;
mod versions;
mod wire;
