//! What became of requests for keys that are kept in memory.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start. Failures are among the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lookups {
    /// Answered from memory.
    pub hits: u64,
    /// Made a call.
    pub misses: u64,
    /// Shared the outcome of a call that another request had under way.
    pub coalesced: u64,
}

/// What became of one request. What is later in this order outweighs what is before it, where one request needed several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    InMemory,
    UnderWay,
    ByOwnCall,
}

#[derive(Default)]
pub(super) struct Tally {
    hits: AtomicU64,
    misses: AtomicU64,
    coalesced: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, found: Found) {
        let counter = match found {
            Found::InMemory => &self.hits,
            Found::UnderWay => &self.coalesced,
            Found::ByOwnCall => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Lookups {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Lookups { hits: read(&self.hits), misses: read(&self.misses), coalesced: read(&self.coalesced) }
    }
}
