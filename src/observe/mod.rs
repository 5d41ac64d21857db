//! The observe room: request ids, metrics and the one log line a request leaves behind.
//!
//! It sees ids, lengths and outcomes. It never sees keys, bodies or header values.

pub mod metrics;
pub mod request;
pub mod request_id;
pub mod trace;
