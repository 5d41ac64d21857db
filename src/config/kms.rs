//! Limits on calls to key services.

use std::time::Duration;

use super::check::{count, secs};
use super::problem::Problems;
use super::raw;
use super::setting::Setting;
use super::values::Whole;

/// Limits on calls to key services, for each key.
#[derive(Clone, Copy, Debug)]
pub struct Kms {
    /// Not more than `attempt_timeout`.
    pub connect_timeout: Duration,
    /// Not more than `call_timeout`.
    pub attempt_timeout: Duration,
    /// Waiting, all attempts, and the pauses between them.
    pub call_timeout: Duration,
    /// Attempts at one time.
    pub calls_max: usize,
    /// May be zero.
    pub waiting_max: usize,
    /// Attempts of one call.
    pub attempts_max: u32,
    /// Retries, in percent of the calls.
    pub retry_percent: u32,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// Failures among the latest attempts that open it, in percent.
    pub breaker_failure_percent: u32,
    /// Attempts without which the share does not count; not more than `breaker_window_attempts`.
    pub breaker_attempts_min: usize,
    pub breaker_window_attempts: usize,
    pub breaker_window: Duration,
    pub breaker_open: Duration,
}

/// Checks what single values cannot say.
pub(super) fn kms(raw: &raw::Kms, p: &mut Problems) -> Option<Kms> {
    refuse_above(&raw.connect_timeout_secs, &raw.attempt_timeout_secs, "an attempt has to connect first", p);
    refuse_above(&raw.attempt_timeout_secs, &raw.call_timeout_secs, "a call would end before its first attempt does", p);
    refuse_above(&raw.breaker_attempts_min, &raw.breaker_window_attempts, "so many attempts would never be among the latest", p);
    Some(Kms {
        connect_timeout: secs(&raw.connect_timeout_secs)?,
        attempt_timeout: secs(&raw.attempt_timeout_secs)?,
        call_timeout: secs(&raw.call_timeout_secs)?,
        calls_max: count(raw.calls_max.value?),
        waiting_max: count(raw.waiting_max.value?),
        attempts_max: small(raw.attempts_max.value?),
        retry_percent: small(raw.retry_percent.value?),
        breaker_failures: small(raw.breaker_failures.value?),
        breaker_failure_percent: small(raw.breaker_failure_percent.value?),
        breaker_attempts_min: count(raw.breaker_attempts_min.value?),
        breaker_window_attempts: count(raw.breaker_window_attempts.value?),
        breaker_window: secs(&raw.breaker_window_secs)?,
        breaker_open: secs(&raw.breaker_open_secs)?,
    })
}

/// Every bound of ours fits.
fn small<const MIN: u64, const MAX: u64>(number: Whole<MIN, MAX>) -> u32 {
    u32::try_from(number.get()).unwrap_or(u32::MAX)
}

/// Refuses a number that is larger than another one which bounds it. It is told at the one that somebody set.
fn refuse_above<const A: u64, const B: u64, const C: u64, const D: u64>(
    setting: &Setting<Whole<A, B>>,
    bound: &Setting<Whole<C, D>>,
    why: &str,
    p: &mut Problems,
) {
    let (Some(value), Some(most)) = (setting.value, bound.value) else { return };
    let (value, most) = (value.get(), most.get());
    if value <= most {
        return;
    }
    let advice = format!("{why}: set {} to {most} or less, or {} to {value} or more", setting.key, bound.key);
    if setting.is_given() {
        setting.refuse(p, format!("this is more than {}, which is {most}", bound.key), advice);
    } else {
        bound.refuse(p, format!("this is less than {}, which is {value}", setting.key), advice);
    }
}
