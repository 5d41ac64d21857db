//! The names of the front's metrics, and what they mean.

use std::time::Duration;

/// Requests answered (or given up), by `operation` and status `class` (`2xx` … `5xx`, `aborted`).
pub const REQUESTS: &str = "ciphergate_requests_total";
/// Seconds from the request's head to the last byte of the answer, by `operation`.
pub const REQUEST_SECONDS: &str = "ciphergate_request_duration_seconds";
/// Bytes of request bodies taken from clients.
pub const BYTES_IN: &str = "ciphergate_request_body_bytes_total";
/// Bytes of response bodies handed to clients.
pub const BYTES_OUT: &str = "ciphergate_response_body_bytes_total";
/// Requests that are being worked on, their bodies included.
pub const IN_FLIGHT: &str = "ciphergate_requests_in_flight";
/// Requests sent to the backend on the forward way, by `outcome` (a status class, or `failed`).
pub const FORWARDED: &str = "ciphergate_forwarded_requests_total";
/// Attempts repeated on the forward way.
pub const FORWARD_RETRIES: &str = "ciphergate_forward_retries_total";

/// Bytes of sealed objects sent to the store, parts included.
pub const STORE_BYTES_SENT: &str = "ciphergate_store_sent_bytes_total";
/// Bytes of sealed objects received from the store. Copies are made there: they move nothing here.
pub const STORE_BYTES_RECEIVED: &str = "ciphergate_store_received_bytes_total";

/// Objects that were not released because they failed their integrity check, before or after the answer had begun.
pub const INTEGRITY_FAILURES: &str = "ciphergate_integrity_failures_total";

/// Calls to a key service or keyring, by `call` (`generate`, `unwrap`), failures included.
pub const KEY_CALLS: &str = "ciphergate_key_calls_total";
/// Calls to a key service or keyring that failed.
pub const KEY_CALL_FAILURES: &str = "ciphergate_key_call_failures_total";
/// Data keys put to use, by `use` (`seal` a new object, `open` a stored one, `rewrap` for a copy).
pub const KEYS_USED: &str = "ciphergate_keys_used_total";
/// Requests for key-encryption keys that are kept in memory, by `cache` (`unwrapped`, `shared`) and `outcome`: a `hit`, a `miss` that made a
/// call, or `coalesced`, which shared the call of another request. Failures are among the last two.
pub const KEY_CACHE: &str = "ciphergate_key_cache_lookups_total";

/// Attempts sent to AWS KMS, failures included, by `label` of the key and `operation` (`GenerateDataKey`, `Decrypt`).
pub const KMS_CALLS: &str = "ciphergate_kms_calls_total";
/// Attempts that failed, by `label`, `operation` and `kind`, the words of the log.
pub const KMS_FAILURES: &str = "ciphergate_kms_failures_total";
/// Seconds that an attempt took, by `label` and `operation`.
pub const KMS_SECONDS: &str = "ciphergate_kms_call_duration_seconds";
/// Attempts that repeated another one, by `label`.
pub const KMS_RETRIES: &str = "ciphergate_kms_retries_total";
/// Calls that were not made, by `label`, `reason` (an open `breaker`, or a full `queue`) and `kind`, what they were answered with.
pub const KMS_REFUSED: &str = "ciphergate_kms_refused_total";
/// Calls that a replica answered in the place of the key's first region, by `label`.
pub const KMS_STOOD_IN: &str = "ciphergate_kms_stood_in_total";
/// Attempts under way, by `label`.
pub const KMS_IN_FLIGHT: &str = "ciphergate_kms_in_flight";
/// State of the circuit breaker, by `label`: 0 closed, 1 probing, 2 open.
pub const KMS_BREAKER: &str = "ciphergate_kms_breaker_state";
/// How often a closed circuit breaker opened, by `label`, `rule` (`in_a_row`, `share`) and `kind`, what it answers from then on.
pub const KMS_BREAKER_OPENED: &str = "ciphergate_kms_breaker_opened_total";

/// Tells the installed recorder what each metric is. Call once, after the recorder is in place.
pub fn describe() {
    metrics::describe_counter!(REQUESTS, "Requests by operation and status class.");
    metrics::describe_histogram!(
        REQUEST_SECONDS,
        metrics::Unit::Seconds,
        "Time from request head to the last byte of the answer."
    );
    metrics::describe_counter!(BYTES_IN, metrics::Unit::Bytes, "Request body bytes taken from clients.");
    metrics::describe_counter!(BYTES_OUT, metrics::Unit::Bytes, "Response body bytes handed to clients.");
    metrics::describe_gauge!(IN_FLIGHT, "Requests being worked on.");
    metrics::describe_counter!(FORWARDED, "Requests sent to the backend on the forward way.");
    metrics::describe_counter!(INTEGRITY_FAILURES, "Objects refused because they failed their integrity check.");
    metrics::describe_counter!(STORE_BYTES_SENT, metrics::Unit::Bytes, "Bytes of sealed objects sent to the store.");
    metrics::describe_counter!(STORE_BYTES_RECEIVED, metrics::Unit::Bytes, "Bytes of sealed objects received from the store.");
    metrics::describe_counter!(FORWARD_RETRIES, "Attempts repeated on the forward way.");
    metrics::describe_counter!(KEY_CALLS, "Calls to a key service or keyring, failures included.");
    metrics::describe_counter!(KEY_CALL_FAILURES, "Calls to a key service or keyring that failed.");
    metrics::describe_counter!(KMS_CALLS, "Attempts sent to AWS KMS, failures included.");
    metrics::describe_counter!(KMS_FAILURES, "Attempts at AWS KMS that failed, by kind.");
    metrics::describe_histogram!(KMS_SECONDS, metrics::Unit::Seconds, "Time of one attempt at AWS KMS.");
    metrics::describe_counter!(KMS_RETRIES, "Attempts at AWS KMS that repeated another one.");
    metrics::describe_counter!(KMS_REFUSED, "Calls to AWS KMS that were not made: the breaker was open or the queue full.");
    metrics::describe_gauge!(KMS_IN_FLIGHT, "Attempts at AWS KMS under way.");
    metrics::describe_counter!(KMS_STOOD_IN, "Calls that a replica of the key answered in the place of its first region.");
    metrics::describe_gauge!(KMS_BREAKER, "Circuit breaker of a key: 0 closed, 1 probing, 2 open.");
    metrics::describe_counter!(KMS_BREAKER_OPENED, "How often the circuit breaker of a key opened.");
    metrics::describe_counter!(KEYS_USED, "Data keys put to use.");
    metrics::describe_counter!(KEY_CACHE, "Requests for key-encryption keys that are kept in memory, by outcome.");
}

/// The class of a status code as a label: few values, so that the number of series stays bounded.
#[must_use]
pub fn status_class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

pub(super) fn request_started() {
    metrics::gauge!(IN_FLIGHT).increment(1.0);
}

pub(super) fn request_ended(operation: &'static str, class: &'static str, took: Duration, bytes_in: u64, bytes_out: u64) {
    metrics::gauge!(IN_FLIGHT).decrement(1.0);
    metrics::counter!(REQUESTS, "operation" => operation, "class" => class).increment(1);
    metrics::histogram!(REQUEST_SECONDS, "operation" => operation).record(took.as_secs_f64());
    metrics::counter!(BYTES_IN).increment(bytes_in);
    metrics::counter!(BYTES_OUT).increment(bytes_out);
}

pub(crate) fn store_sent(bytes: usize) {
    metrics::counter!(STORE_BYTES_SENT).increment(bytes as u64);
}

pub(crate) fn store_received(bytes: usize) {
    metrics::counter!(STORE_BYTES_RECEIVED).increment(bytes as u64);
}

pub(crate) fn forwarded(outcome: &'static str) {
    metrics::counter!(FORWARDED, "outcome" => outcome).increment(1);
}

pub(crate) fn forward_retried() {
    metrics::counter!(FORWARD_RETRIES).increment(1);
}

pub(crate) fn kms_called(label: &str, operation: &'static str, failure: Option<&'static str>, took: Duration) {
    metrics::counter!(KMS_CALLS, "label" => label.to_owned(), "operation" => operation).increment(1);
    metrics::histogram!(KMS_SECONDS, "label" => label.to_owned(), "operation" => operation).record(took.as_secs_f64());
    if let Some(kind) = failure {
        metrics::counter!(KMS_FAILURES, "label" => label.to_owned(), "operation" => operation, "kind" => kind).increment(1);
    }
}

pub(crate) fn kms_retried(label: &str) {
    metrics::counter!(KMS_RETRIES, "label" => label.to_owned()).increment(1);
}

pub(crate) fn kms_refused(label: &str, reason: &'static str, kind: &'static str) {
    metrics::counter!(KMS_REFUSED, "label" => label.to_owned(), "reason" => reason, "kind" => kind).increment(1);
}

pub(crate) fn kms_breaker_opened(label: &str, rule: &'static str, kind: &'static str) {
    metrics::counter!(KMS_BREAKER_OPENED, "label" => label.to_owned(), "rule" => rule, "kind" => kind).increment(1);
}

pub(crate) fn kms_stood_in(label: &str) {
    metrics::counter!(KMS_STOOD_IN, "label" => label.to_owned()).increment(1);
}

pub(crate) fn kms_breaker(label: &str, state: u8) {
    metrics::gauge!(KMS_BREAKER, "label" => label.to_owned()).set(f64::from(state));
}

/// One attempt under way, for as long as this lives.
pub(crate) struct KmsInFlight(metrics::Gauge);

impl KmsInFlight {
    pub(crate) fn begin(label: &str) -> Self {
        let gauge = metrics::gauge!(KMS_IN_FLIGHT, "label" => label.to_owned());
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for KmsInFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What was counted elsewhere since the start.
#[derive(Debug, Clone, Copy)]
pub struct KeyCounts {
    pub generate_calls: u64,
    pub unwrap_calls: u64,
    pub failed_calls: u64,
    pub sealed: u64,
    pub opened: u64,
    pub rewrapped: u64,
    pub unwrapped: CacheCounts,
    pub shared: CacheCounts,
}

/// What became of requests for keys of one cache since the start.
#[derive(Debug, Clone, Copy)]
pub struct CacheCounts {
    pub hits: u64,
    pub misses: u64,
    pub coalesced: u64,
}

/// Shows these counts from now on. They only grow.
pub fn keys(counts: KeyCounts) {
    metrics::counter!(KEY_CALLS, "call" => "generate").absolute(counts.generate_calls);
    metrics::counter!(KEY_CALLS, "call" => "unwrap").absolute(counts.unwrap_calls);
    metrics::counter!(KEY_CALL_FAILURES).absolute(counts.failed_calls);
    metrics::counter!(KEYS_USED, "use" => "seal").absolute(counts.sealed);
    metrics::counter!(KEYS_USED, "use" => "open").absolute(counts.opened);
    metrics::counter!(KEYS_USED, "use" => "rewrap").absolute(counts.rewrapped);
    for (cache, CacheCounts { hits, misses, coalesced }) in [("unwrapped", counts.unwrapped), ("shared", counts.shared)] {
        for (outcome, count) in [("hit", hits), ("miss", misses), ("coalesced", coalesced)] {
            metrics::counter!(KEY_CACHE, "cache" => cache, "outcome" => outcome).absolute(count);
        }
    }
}
