//! How fast the work goes, and how it is asked to stop.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio_util::sync::CancellationToken;

/// Objects at one time, and objects begun in a second.
#[derive(Clone)]
pub struct Pace {
    concurrency: usize,
    limit: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Pace {
    /// `per_second`: no more than that many objects are begun in a second; `None` for as fast as it goes.
    #[must_use]
    pub fn new(concurrency: usize, per_second: Option<NonZeroU32>) -> Self {
        // A burst of one: what was not used is not saved up.
        let quota = |rate| Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
        let limit = per_second.map(|rate| Arc::new(RateLimiter::direct(quota(rate))));
        Self { concurrency: concurrency.max(1), limit }
    }

    /// How many objects are under way at one time at most.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Waits until one more object may begin. False when somebody asked to stop first.
    pub async fn turn(&self, stop: &Stop) -> bool {
        if stop.is_asked() {
            return false;
        }
        let Some(limit) = &self.limit else { return true };
        tokio::select! {
            () = stop.asked() => false,
            () = limit.until_ready() => true,
        }
    }
}

/// Somebody's wish that the work ends: what is under way is finished, and nothing new begins. A second wish ends it at once.
#[derive(Clone, Default)]
pub struct Stop {
    soon: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// Asks to stop.
    pub fn ask(&self) {
        if self.soon.is_cancelled() {
            self.now.cancel();
        }
        self.soon.cancel();
    }

    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.soon.is_cancelled()
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.soon.cancelled().await;
    }

    /// Waits until somebody asks for the second time.
    pub async fn asked_twice(&self) {
        self.now.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn no_more_objects_begin_than_may() {
        let (pace, stop) = (Pace::new(4, NonZeroU32::new(50)), Stop::default());
        let began = Instant::now();
        for _ in 0..11 {
            assert!(pace.turn(&stop).await);
        }
        assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
        assert_eq!(Pace::new(0, None).concurrency(), 1);
    }

    #[tokio::test]
    async fn nobody_gets_a_turn_after_the_wish_to_stop() {
        let (pace, stop) = (Pace::new(4, NonZeroU32::new(1)), Stop::default());
        assert!(pace.turn(&stop).await);
        let waiting = pace.turn(&stop);
        let wish = async { stop.ask() };
        assert!(!tokio::join!(waiting, wish).0);
        assert!(!Pace::new(1, None).turn(&stop).await);
        stop.ask();
        stop.asked_twice().await;
    }
}
