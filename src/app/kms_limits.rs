//! The limits on calls to key services, from their configuration.

use crate::config::Kms;
use crate::keys::guard::{BreakerLimits, GuardLimits};
use crate::keys::kms::KmsOptions;
use crate::keys::transit::TransitOptions;

/// For the guard of each key.
pub(super) fn guard(kms: &Kms) -> GuardLimits {
    GuardLimits {
        deadline: kms.call_timeout,
        calls_max: kms.calls_max,
        waiting_max: kms.waiting_max,
        attempts_max: kms.attempts_max,
        retry_percent: kms.retry_percent,
        breaker: BreakerLimits {
            failures: kms.breaker_failures,
            failure_percent: kms.breaker_failure_percent,
            attempts_min: kms.breaker_attempts_min,
            window_attempts: kms.breaker_window_attempts,
            window: kms.breaker_window,
            open: kms.breaker_open,
        },
        ..GuardLimits::default()
    }
}

/// For the client of Transit, which tries nothing again.
pub(super) fn transit_options(kms: &Kms) -> TransitOptions {
    TransitOptions { connect_timeout: kms.connect_timeout, attempt_timeout: kms.attempt_timeout, ..TransitOptions::default() }
}

/// For the client of AWS KMS. The guard tries again and not the client: what is tried again must go by its budget and count.
pub(super) fn options(kms: &Kms) -> KmsOptions {
    KmsOptions {
        connect_timeout: kms.connect_timeout,
        attempt_timeout: kms.attempt_timeout,
        operation_timeout: kms.call_timeout,
        attempts_max: 1,
        ..KmsOptions::default()
    }
}
