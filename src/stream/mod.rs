//! Sealing and opening bodies as they flow (FORMAT sections 6, 7 and 9).
//!
//! Two rules hold whatever the peers do. The end of a sealed body leaves only after the whole plaintext was seen, had the announced
//! length, and was found good. No plaintext byte leaves before its chunk verified under a key that binds its place in the whole object,
//! and the last ones of a whole read only after everything behind them verified too.
//! This room knows streams of bytes; it has no socket, no runtime and no clock.

mod end;
mod error;
mod open;
mod outgoing;
mod rechunk;
mod salvage;
mod seal;

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

pub use end::{SpooledPart, seal_end};
pub use error::{BoxError, Error};
pub use open::{OpenedBody, open_object};
pub use salvage::PartChunks;
pub use seal::{
    FooterFacts, PlainCheck, SealOutcome, SealedBody, empty_marker, rewrap_record, seal_object, seal_part, seal_record,
};

/// Result of this room.
pub type Result<T> = std::result::Result<T, Error>;

type Source = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, BoxError>> + Send>>;

/// How many pieces of input one poll takes at most before it lets others run. A source that is always ready with tiny or empty pieces
/// would otherwise hold its thread for as long as it likes.
const PIECES_PER_POLL: usize = 256;
