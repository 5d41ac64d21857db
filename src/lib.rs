//! Ciphergate: an S3-compatible gateway that encrypts every object before it reaches the bucket.
//!
//! The rooms, from the heart outwards (docs/ARCHITECTURE.md says what each may see):
//!
//! - [`crypto`], [`mod@format`], [`stream`]: the object format, sealing and opening. No I/O, no clock, no runtime, no HTTP;
//!   they build alone with `--no-default-features`.
//! - `keys`: where data keys come from. `backend`: the store behind us. `auth`: who is asking. `ops`: the S3 operations that
//!   touch object data. `bulk`: the operator's work over many objects. `http`: the front. `observe`: logs and metrics. `config`: the configuration. `store`: the embedded
//!   development store. `admin`: the command line. `app`: the only place where concrete parts meet.

pub mod crypto;
pub mod format;
pub mod stream;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod backend;
#[cfg(feature = "server")]
pub mod bulk;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub mod observe;
#[cfg(feature = "server")]
pub mod ops;
#[cfg(feature = "server")]
pub mod store;
