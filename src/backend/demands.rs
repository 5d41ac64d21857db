//! Which uploads the store wants a checksum with: those with Object Lock settings of their own, and those into buckets with a default
//! retention, which nothing but a refusal tells. The checksum is one of the sealed body.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html>

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;

use super::{Error, Refusal};

/// Buckets that are remembered; beyond, everything is forgotten and learned again.
const BUCKETS_MAX: usize = 10_000;

/// What the store has demanded so far, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct Demands(Arc<Mutex<HashSet<String>>>);

impl Demands {
    /// Whether this upload needs a checksum. Most do not, and its cost is that of another pass over every byte.
    pub(super) fn of_upload(&self, bucket: &str, headers: &HeaderMap) -> bool {
        is_locked(headers) || self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(bucket)
    }

    /// Remembers the bucket of an upload in parts that will be locked: each part needs a checksum, and does not say so itself.
    pub(super) fn expect_parts(&self, bucket: &str, headers: &HeaderMap) {
        if is_locked(headers) {
            self.remember(bucket);
        }
    }

    /// Remembers the bucket of an upload that was refused for want of a checksum, and makes the refusal one that clients try again after:
    /// the next attempt brings the checksum.
    pub(super) fn heed(&self, bucket: &str, error: Error) -> Error {
        match error {
            Error::Refused(refusal) if wants_checksum(&refusal) => {
                self.remember(bucket);
                Error::Refused(Box::new(Refusal {
                    status: 503,
                    code: "SlowDown".to_owned(),
                    message: "The store wants a checksum with uploads to this bucket; it will have one. Please try again."
                        .to_owned(),
                    headers: HeaderMap::new(),
                }))
            }
            other => other,
        }
    }

    fn remember(&self, bucket: &str) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            buckets.clear();
        }
        buckets.insert(bucket.to_owned());
    }
}

fn is_locked(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-amz-object-lock-"))
}

fn wants_checksum(refusal: &Refusal) -> bool {
    refusal.status == 400
        && refusal.code == "InvalidRequest"
        && refusal.message.contains("Content-MD5")
        && refusal.message.contains("Object Lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, message: &str) -> Error {
        Error::Refused(Box::new(Refusal { status: 400, code: code.into(), message: message.into(), headers: HeaderMap::new() }))
    }

    #[test]
    fn a_demand_is_learned_from_the_refusal_and_by_all_workers() {
        let (demands, none) = (Demands::default(), HeaderMap::new());
        let other_worker = demands.clone();
        let text = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
        assert!(!demands.of_upload("b", &none));
        assert!(matches!(demands.heed("b", refusal("InvalidRequest", "Something else")), Error::Refused(r) if r.status == 400));
        assert!(!demands.of_upload("b", &none));
        assert!(matches!(demands.heed("b", refusal("InvalidRequest", text)), Error::Refused(r) if r.status == 503));
        assert!(other_worker.of_upload("b", &none) && !demands.of_upload("c", &none));
    }

    #[test]
    fn lock_settings_of_an_upload_are_a_demand() {
        let headers: HeaderMap = [("x-amz-object-lock-legal-hold".parse().unwrap(), "ON".parse().unwrap())].into_iter().collect();
        let (demands, none) = (Demands::default(), HeaderMap::new());
        assert!(demands.of_upload("b", &headers) && !demands.of_upload("b", &none));
        demands.expect_parts("b", &none);
        assert!(!demands.of_upload("b", &none));
        demands.expect_parts("b", &headers);
        assert!(demands.of_upload("b", &none));
    }
}
