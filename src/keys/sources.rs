//! Time and randomness, as arguments so that tests can hold them still.

use super::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Time that only moves forward, from any fixed start. Ages are measured with it.
    fn monotonic(&self) -> Duration;
    /// Nanoseconds since 1970. Goes into fresh data keys as an additional distinguisher and is never trusted.
    fn unix_nanos(&self) -> u64;
}

/// Where randomness comes from.
pub trait Random: Send + Sync {
    /// Fills all of `buffer`, or fails.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), Error>;
}

/// The sources that [`super::Keys`] works with.
#[derive(Clone)]
pub struct Sources {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

impl Sources {
    /// The machine's own clocks and the operating system's generator, asked at every use.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock { start: Instant::now() }), random: Arc::new(OsRandom) }
    }
}

struct SystemClock {
    start: Instant,
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_nanos(&self) -> u64 {
        // A clock before 1970 or after 2554 is wrong anyway; readers do not look at this value.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The operating system's generator.
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(buffer).map_err(|e| Error::NoRandomness { detail: e.to_string() })
    }
}
