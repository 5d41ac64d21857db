//! How old a key is, by clocks that may misbehave: whatever they do, no key lives longer for it.

use super::{Clock, lock};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Both clocks of [`super::Sources`].
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    latest: Mutex<Moment>,
}

/// One reading of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Moment {
    monotonic: Duration,
    unix: Duration,
    /// Grows whenever the monotonic clock has gone back.
    era: u64,
}

impl Watch {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, latest: Mutex::default() })
    }

    pub(super) fn now(&self) -> Moment {
        let mut latest = lock(&self.latest);
        // Read under the lock: whoever read first and came second would look like a clock that went back.
        let monotonic = self.clock.monotonic();
        let era = latest.era + u64::from(monotonic < latest.monotonic);
        *latest = Moment { monotonic, unix: Duration::from_nanos(self.clock.unix_nanos()), era };
        *latest
    }
}

impl Moment {
    /// Whether what began at `since` may be used at this moment, if it may be used for `life`.
    ///
    /// The clock that shows more decides. The wall clock shows the time that a machine slept or was suspended, in which the monotonic one
    /// stands still; set forward it ages keys too early, which costs a call. Set back it shows nothing, and the monotonic one decides. If
    /// that one has gone back since, nothing is known and the time is up.
    pub(super) fn is_within(self, life: Duration, since: Self) -> bool {
        let shown = self.monotonic.saturating_sub(since.monotonic).max(self.unix.saturating_sub(since.unix));
        self.era == since.era && shown < life
    }
}
