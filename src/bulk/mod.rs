//! Work over what lies in the store: one object, everything below a prefix, or every version of it.
//!
//! The operator's commands talk to the store with the gateway's own configuration and keys, beside the instances that serve, and may run
//! while those do. [`run`] is the loop they share: it walks ([`walk`]), keeps a pace ([`pace`]), is patient with a store or a key service
//! that does not answer ([`patience`]), writes down what is done so that a death costs nothing ([`journal`]), shows how far it is
//! ([`progress`]), and ends with a report ([`report`]). What is done with an object is the command's own [`run::Work`], one file per command.

pub mod decrypt;
pub mod folder;
pub mod inspect;
pub mod journal;
pub mod pace;
pub mod patience;
pub mod progress;
pub mod report;
pub mod reseal;
pub mod rewrap;
pub mod run;
pub mod target;
pub mod verify;
pub mod walk;

pub use journal::{Journal, JournalError};
pub use pace::{Pace, Stop};
pub use progress::Progress;
pub use run::{Ended, Run, Work};
pub use target::{Target, TargetError};
pub use walk::{Entry, Versions};
