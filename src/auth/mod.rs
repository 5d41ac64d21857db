//! The auth room: who is asking, and the proof of it.
//!
//! It knows identities and the facts of a request. It knows no SDK, no key of an object and no backend.

pub mod form;
pub mod identities;
pub mod policy;
pub mod proof;

pub use identities::{Identities, Identity, IdentityError};
pub use proof::{Caller, Gate};
