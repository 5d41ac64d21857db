//! What stands between the gateway and a key service that may fail: a deadline, a limit on calls at one time with a bounded queue,
//! retries within a budget, and a circuit breaker. One guard for each key.
//!
//! Only transient failures ([`Error::is_retryable`]) are tried again or open the breaker: a permanent state is an answer.

use super::{Error, Generated, KeyContext, KeyEncryptionKey, KeyProvider, Label, Sources};
use crate::observe::metrics as names;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Bounds on the calls for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardLimits {
    /// For the whole call: waiting for a turn, all attempts, and the pauses between them.
    pub deadline: Duration,
    /// Attempts at one time, at least 1.
    pub calls_max: usize,
    /// Calls that may wait for a turn; one more is [`Error::Throttled`] at once.
    pub waiting_max: usize,
    /// Attempts of one call, at least 1.
    pub attempts_max: u32,
    /// Pause before the second attempt; it doubles for each further one, and half of it is jitter.
    pub pause: Duration,
    /// Transient failures in a row that open the breaker, at least 1.
    pub failures_max: u32,
    /// How long it stays open before one call probes, give or take a quarter.
    pub open: Duration,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            calls_max: 64,
            waiting_max: 256,
            attempts_max: 3,
            pause: Duration::from_millis(100),
            failures_max: 5,
            open: Duration::from_secs(2),
        }
    }
}

/// A retry costs as much as this many calls earn: retries are at most a tenth of the calls, and the burst below.
const RETRY_COST: u32 = 10;
/// Retries that can be saved up, and that there are at the start.
const RETRIES_SAVED_MAX: u32 = 10;

/// One key of a provider, behind its own limits.
pub struct Guard {
    inner: Arc<dyn KeyProvider>,
    label: Label,
    /// What metrics and log call it.
    name: String,
    limits: GuardLimits,
    sources: Sources,
    /// Who calls and who waits.
    seats: Semaphore,
    /// Who calls.
    turns: Semaphore,
    /// What calls have earned for retries.
    budget: Mutex<u32>,
    breaker: Mutex<Breaker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing,
}

/// Leave for one attempt. Dropped without a verdict, because nobody waits any more, it says nothing about the key service.
struct Pass<'a> {
    guard: &'a Guard,
    is_probe: bool,
    judged: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing below can panic while it holds a lock; if something ever does, the values are still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// Guards the key that `inner` has for `label`; every other label is unknown.
    pub fn new(inner: Arc<dyn KeyProvider>, label: Label, limits: GuardLimits, sources: Sources) -> Self {
        let calls_max = limits.calls_max.clamp(1, Semaphore::MAX_PERMITS / 2);
        let waiting_max = limits.waiting_max.min(Semaphore::MAX_PERMITS / 2);
        Self {
            inner,
            name: label.to_string(),
            label,
            sources,
            seats: Semaphore::new(calls_max + waiting_max),
            turns: Semaphore::new(calls_max),
            budget: Mutex::new(RETRY_COST * RETRIES_SAVED_MAX),
            breaker: Mutex::new(Breaker::Closed { failures: 0 }),
            limits,
        }
    }

    /// Under a name of its own in metrics and log, where one label has several guards.
    #[must_use]
    pub fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    async fn call<'a, T>(
        &self,
        label: &Label,
        operation: &'static str,
        run: impl Fn() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        if *label != self.label {
            return Err(Error::UnknownLabel { label: label.clone() });
        }
        let until = Instant::now() + self.limits.deadline;
        self.refuse_if_open(&lock(&self.breaker))?;
        let _seat = self.seats.try_acquire().map_err(|_| self.busy("too many calls wait for it"))?;
        {
            let mut earned = lock(&self.budget);
            *earned = (*earned + 1).min(RETRY_COST * RETRIES_SAVED_MAX);
        }
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(operation, until, &run).await {
                Err(error) if error.is_retryable() => error,
                outcome => return outcome,
            };
            let pause = self.jittered(self.limits.pause.saturating_mul(1 << (attempt - 1).min(10)), 0.5);
            if attempt >= self.limits.attempts_max || Instant::now() + pause >= until || !self.may_retry() {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
            names::kms_retried(&self.name);
        }
    }

    async fn attempt<'a, T>(
        &self,
        operation: &'static str,
        until: Instant,
        run: &impl Fn() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        let turn = timeout_at(until, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(self.busy("no turn within the time of the call")) };
        let pass = self.enter()?;
        let _in_flight = names::KmsInFlight::begin(&self.name);
        let begun = Instant::now();
        let outcome = timeout_at(until, run()).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {:?}, the time of the whole call", self.limits.deadline);
            Err(Error::TimedOut { label: self.label.clone(), detail })
        });
        let failure = outcome.as_ref().err();
        names::kms_called(&self.name, operation, failure.map(Error::kind), begun.elapsed());
        pass.judge(failure.is_some_and(Error::is_retryable));
        outcome
    }

    fn busy(&self, why: &str) -> Error {
        names::kms_refused(&self.name, "queue");
        Error::Throttled { label: self.label.clone(), detail: format!("the gateway's own limit: {why}") }
    }

    /// Takes a retry out of the budget. Not while the breaker is open, which would refuse it.
    fn may_retry(&self) -> bool {
        if !matches!(*lock(&self.breaker), Breaker::Closed { .. }) {
            return false;
        }
        let mut earned = lock(&self.budget);
        let left = earned.checked_sub(RETRY_COST);
        *earned = left.unwrap_or(*earned);
        left.is_some()
    }

    fn refuse_if_open(&self, breaker: &Breaker) -> Result<(), Error> {
        let is_open = match breaker {
            Breaker::Closed { .. } => false,
            Breaker::Open { until } => self.sources.clock.monotonic() < *until,
            Breaker::Probing => true,
        };
        if !is_open {
            return Ok(());
        }
        names::kms_refused(&self.name, "breaker");
        let detail = "it failed repeatedly and is not called for a moment".to_owned();
        Err(Error::Unavailable { label: self.label.clone(), detail })
    }

    fn enter(&self) -> Result<Pass<'_>, Error> {
        let mut breaker = lock(&self.breaker);
        self.refuse_if_open(&breaker)?;
        let is_probe = matches!(*breaker, Breaker::Open { .. });
        if is_probe {
            self.change(&mut breaker, Breaker::Probing);
        }
        Ok(Pass { guard: self, is_probe, judged: false })
    }

    fn change(&self, breaker: &mut Breaker, to: Breaker) {
        *breaker = to;
        let state = match to {
            Breaker::Closed { .. } => 0,
            Breaker::Probing => 1,
            Breaker::Open { .. } => 2,
        };
        names::kms_breaker(&self.name, state);
    }

    fn open(&self, breaker: &mut Breaker) {
        let open = self.jittered(self.limits.open.mul_f64(1.25), 0.4);
        self.change(breaker, Breaker::Open { until: self.sources.clock.monotonic() + open });
    }

    /// `most`, less a random part of up to `share` of it.
    fn jittered(&self, most: Duration, share: f64) -> Duration {
        let mut random = [0; 4];
        // Without randomness there is no jitter; what needs it for keys says so itself.
        let part =
            self.sources.random.fill(&mut random).map_or(0.0, |()| f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX));
        most.mul_f64(1.0 - share * part)
    }
}

impl Pass<'_> {
    fn judge(mut self, is_transient_failure: bool) {
        self.judged = true;
        let guard = self.guard;
        let mut breaker = lock(&guard.breaker);
        match (*breaker, is_transient_failure) {
            // Who began before the breaker opened has no say in what happens now.
            (Breaker::Open { .. } | Breaker::Probing, _) if !self.is_probe => {}
            (Breaker::Open { .. } | Breaker::Probing, false) => {
                tracing::info!(label = %guard.name, "the key service answers again");
                guard.change(&mut breaker, Breaker::Closed { failures: 0 });
            }
            (Breaker::Open { .. } | Breaker::Probing, true) => guard.open(&mut breaker),
            (Breaker::Closed { .. }, false) => guard.change(&mut breaker, Breaker::Closed { failures: 0 }),
            (Breaker::Closed { failures }, true) if failures + 1 < guard.limits.failures_max => {
                *breaker = Breaker::Closed { failures: failures + 1 };
            }
            (Breaker::Closed { failures }, true) => {
                tracing::warn!(label = %guard.name, failures = failures + 1, "the key service keeps failing; it is not called for a moment");
                guard.open(&mut breaker);
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.judged {
            // The next caller probes.
            let until = self.guard.sources.clock.monotonic();
            self.guard.change(&mut lock(&self.guard.breaker), Breaker::Open { until });
        }
    }
}

#[async_trait::async_trait]
impl KeyProvider for Guard {
    async fn generate(&self, label: &Label, context: &KeyContext) -> Result<Generated, Error> {
        self.call(label, "GenerateDataKey", || self.inner.generate(label, context)).await
    }

    async fn unwrap(&self, label: &Label, context: &KeyContext, blob: &[u8]) -> Result<KeyEncryptionKey, Error> {
        super::check_blob_len(label, blob)?;
        self.call(label, "Decrypt", || self.inner.unwrap(label, context, blob)).await
    }

    fn arn(&self, label: &Label) -> Option<String> {
        self.inner.arn(label)
    }
}

#[cfg(test)]
mod tests;
