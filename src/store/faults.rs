//! Faults that a test plays on the clients of a store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use s3s::{S3Error, S3ErrorCode};

/// What happens to a request that a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It is refused with this status and S3 error code, before anything is read or done.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The S3 error code.
        code: String,
    },
    /// It is served after this time.
    Delay(Duration),
    /// GetObject: the connection is cut after so many bytes of the body.
    CutDownload {
        /// Bytes that are sent first.
        after: u64,
    },
    /// GetObject: the body pauses once after so many bytes.
    StallDownload {
        /// Bytes that are sent first.
        after: u64,
        /// How long.
        pause: Duration,
    },
    /// PutObject and UploadPart: refused with this status and code after so many bytes of the body were received. Nothing is stored.
    FailUpload {
        /// Bytes that are received first.
        after: u64,
        /// The HTTP status.
        status: u16,
        /// The S3 error code.
        code: String,
    },
    /// PutObject and UploadPart: reading the body pauses once after so many bytes.
    StallUpload {
        /// Bytes that are received first.
        after: u64,
        /// How long.
        pause: Duration,
    },
}

/// How often a fault has struck.
#[derive(Debug, Clone, Default)]
pub struct Hits(Arc<AtomicU64>);

impl Hits {
    /// Strikes so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Rule {
    operation: String,
    key_prefix: String,
    left: u64,
    effect: Effect,
    hits: Hits,
}

/// The faults of one store. They strike requests whose signature is good, in the order they were injected, one a request.
#[derive(Default)]
pub struct Faults {
    armed: AtomicBool,
    rules: Mutex<Vec<Rule>>,
}

impl Faults {
    /// Strikes the next `times` requests of an operation (by its S3 name, such as `GetObject`; `*` is any) on keys with this
    /// prefix. Operations on buckets have the empty key.
    pub fn inject(&self, operation: &str, key_prefix: &str, times: u64, effect: Effect) -> Hits {
        let hits = Hits::default();
        let rule =
            Rule { operation: operation.to_owned(), key_prefix: key_prefix.to_owned(), left: times, effect, hits: hits.clone() };
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.push(rule);
        self.armed.store(true, Ordering::Release);
        hits
    }

    /// Withdraws all faults.
    pub fn clear(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.armed.store(false, Ordering::Release);
    }

    /// The fault that strikes this request, if any.
    pub(super) fn strike(&self, operation: &str, key: &str) -> Option<Effect> {
        if !self.armed.load(Ordering::Acquire) {
            return None;
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| {
            rule.left > 0 && (rule.operation == "*" || rule.operation == operation) && key.starts_with(&rule.key_prefix)
        })?;
        rule.left -= 1;
        rule.hits.0.fetch_add(1, Ordering::Relaxed);
        Some(rule.effect.clone())
    }
}

/// The error with which a fault refuses a request.
pub(super) fn refusal(status: u16, code: &str) -> S3Error {
    let mut error = S3Error::with_message(
        S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError),
        "This failure was injected by a test.",
    );
    if let Ok(status) = http::StatusCode::from_u16(status) {
        error.set_status_code(status);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_as_often_as_asked_and_in_order() {
        let faults = Faults::default();
        assert_eq!(faults.strike("GetObject", "a/b"), None);
        let gets = faults.inject("GetObject", "a/", 2, Effect::CutDownload { after: 7 });
        let all = faults.inject("*", "", 2, Effect::Delay(Duration::ZERO));
        assert_eq!(faults.strike("GetObject", "a/b"), Some(Effect::CutDownload { after: 7 }));
        assert_eq!(faults.strike("GetObject", "b"), Some(Effect::Delay(Duration::ZERO)));
        assert_eq!(faults.strike("GetObject", "a/c"), Some(Effect::CutDownload { after: 7 }));
        assert_eq!(faults.strike("ListBuckets", ""), Some(Effect::Delay(Duration::ZERO)));
        assert_eq!(faults.strike("GetObject", "a/b"), None);
        assert_eq!((gets.count(), all.count()), (2, 2));
        faults.inject("*", "", u64::MAX, Effect::Delay(Duration::ZERO));
        faults.clear();
        assert_eq!(faults.strike("GetObject", "a/b"), None);
    }
}
