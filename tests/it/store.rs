//! The embedded store through the wire, as any S3 client sees it.

mod buckets;
mod crash;
mod faults;
mod listing;
mod objects;
mod races;
mod signatures;
mod wire;
