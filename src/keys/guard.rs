//! What stands between the gateway and a key service that may fail: a deadline, a limit on calls at one time with a bounded queue,
//! retries within a budget, and a circuit breaker. One guard for each key.
//!
//! Only transient failures ([`Error::is_retryable`]) are tried again or open the breaker: a permanent state is an answer.

mod breaker;

pub use breaker::BreakerLimits;

use super::{Error, Generated, KeyContext, KeyEncryptionKey, KeyProvider, Label, Sources, lock};
use crate::observe::metrics as names;
use breaker::{Breaker, Change, Leave, Trouble, Verdict};
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
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
    /// Retries that calls earn, in percent of the calls. [`RETRIES_SAVED_MAX`] can be saved up.
    pub retry_percent: u32,
    /// When it is not called for a moment.
    pub breaker: BreakerLimits,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            calls_max: 64,
            waiting_max: 256,
            attempts_max: 3,
            pause: Duration::from_millis(100),
            retry_percent: 10,
            breaker: BreakerLimits::default(),
        }
    }
}

/// What a retry costs, in percent of a call.
const RETRY_COST: u32 = 100;
/// Retries that can be saved up, and that there are at the start.
pub const RETRIES_SAVED_MAX: u32 = 10;

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

/// Leave for one attempt. Dropped without a verdict, because nobody waits any more, it says nothing about the key service.
struct Pass<'a> {
    guard: &'a Guard,
    leave: Option<Leave>,
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
            breaker: Mutex::new(Breaker::new(limits.breaker.clone())),
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
        let refusal = lock(&self.breaker).refusal(self.now());
        if let Some(trouble) = refusal {
            return Err(self.refused(trouble));
        }
        let _seat = self.seats.try_acquire().map_err(|_| self.busy("too many calls wait for it"))?;
        {
            let mut earned = lock(&self.budget);
            *earned = earned.saturating_add(self.limits.retry_percent).min(RETRY_COST * RETRIES_SAVED_MAX);
        }
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(operation, attempt > 1, until, &run).await {
                Err(error) if error.is_retryable() => error,
                outcome => return outcome,
            };
            let pause = self.jittered(self.limits.pause.saturating_mul(1 << (attempt - 1).min(10)), 0.5);
            if attempt >= self.limits.attempts_max || Instant::now() + pause >= until || !self.may_retry() {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt<'a, T>(
        &self,
        operation: &'static str,
        is_retry: bool,
        until: Instant,
        run: &impl Fn() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        let turn = timeout_at(until, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(self.busy("no turn within the time of the call")) };
        let pass = self.enter()?;
        if is_retry {
            names::kms_retried(self.name());
        }
        let _in_flight = names::KmsInFlight::begin(self.name());
        let begun = Instant::now();
        let outcome = timeout_at(until, run()).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {:?}, the time of the whole call", self.limits.deadline);
            Err(Error::TimedOut { label: self.label.clone(), detail })
        });
        names::kms_called(self.name(), operation, outcome.as_ref().err().map(Error::kind), begun.elapsed());
        pass.judge(Verdict::of(&outcome));
        outcome
    }

    /// What metrics and log call it.
    fn name(&self) -> &str {
        &self.name
    }

    fn now(&self) -> Duration {
        self.sources.clock.monotonic()
    }

    fn busy(&self, why: &str) -> Error {
        let error = Error::Throttled { label: self.label.clone(), detail: format!("the gateway's own limit: {why}") };
        names::kms_refused(self.name(), "queue", error.kind());
        error
    }

    /// What the open breaker answers: what the key service did when it opened.
    fn refused(&self, trouble: Trouble) -> Error {
        let error = trouble.error(&self.label);
        names::kms_refused(self.name(), "breaker", error.kind());
        error
    }

    /// Takes a retry out of the budget. Not while the breaker is open, which would refuse it.
    fn may_retry(&self) -> bool {
        if !lock(&self.breaker).is_closed() {
            return false;
        }
        let mut earned = lock(&self.budget);
        let left = earned.checked_sub(RETRY_COST);
        *earned = left.unwrap_or(*earned);
        left.is_some()
    }

    fn enter(&self) -> Result<Pass<'_>, Error> {
        let leave = self.with_breaker(|breaker| breaker.enter(self.now()));
        Ok(Pass { guard: self, leave: Some(leave.map_err(|trouble| self.refused(trouble))?) })
    }

    /// Does something with the breaker and shows its state, in one step so that the gauge cannot lag behind.
    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = lock(&self.breaker);
        let done = act(&mut breaker);
        names::kms_breaker(self.name(), breaker.number());
        done
    }

    fn report(&self, change: Change) {
        let label = self.name();
        match change {
            Change::None | Change::StaysOpen => {}
            Change::Opened { trouble, rule, failures, attempts } => {
                let (kind, rule) = (trouble.error(&self.label).kind(), rule.name());
                names::kms_breaker_opened(label, rule, kind);
                let does = match trouble {
                    Trouble::Throttling => "throttling",
                    Trouble::Failing => "failing",
                };
                tracing::warn!(
                    label,
                    kind,
                    rule,
                    failures,
                    attempts,
                    "the key service keeps {does}; it is not called for a moment"
                );
            }
            Change::Closed => tracing::info!(label, "the key service answers again"),
        }
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
    fn judge(mut self, verdict: Verdict) {
        let guard = self.guard;
        if let Some(leave) = self.leave.take() {
            let lasts = || guard.jittered(guard.limits.breaker.open.mul_f64(1.25), 0.4);
            guard.report(guard.with_breaker(|breaker| breaker.judge(leave, verdict, guard.now(), lasts)));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(leave) = &self.leave {
            self.guard.with_breaker(|breaker| breaker.give_back(leave, self.guard.now()));
        }
    }
}

impl Trouble {
    fn error(self, label: &Label) -> Error {
        let label = label.clone();
        match self {
            Self::Throttling => {
                Error::Throttled { label, detail: "it kept asking for fewer calls and is not called for a moment".into() }
            }
            Self::Failing => Error::Unavailable { label, detail: "it failed repeatedly and is not called for a moment".into() },
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
