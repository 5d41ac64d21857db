//! Which uploads carry a checksum of the sealed body: every object where that is configured, objects with Object Lock settings of their own,
//! and objects and parts in buckets with Object Lock, whose default retention makes the store demand it.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html>

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::{Error, Refusal};

/// Buckets that are remembered; beyond, everything is forgotten and learned again.
const BUCKETS_MAX: usize = 10_000;
/// How long the store's word about a bucket holds.
const KEPT: Duration = Duration::from_secs(600);

/// What is known of the buckets, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    always: bool,
    buckets: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    wants: bool,
    since: Instant,
}

/// Whether an upload needs a checksum. Most do not, and its cost is that of another pass over every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    Known(bool),
    /// The store has to be asked. `until_then` is what was true of old.
    Ask {
        until_then: bool,
    },
}

impl Demands {
    /// Every object carries a checksum, whatever the store wants. A part that broke off does no harm: nobody knows its ETag.
    #[must_use]
    pub fn always() -> Self {
        Self { always: true, ..Self::default() }
    }

    pub(super) fn of_object(&self, bucket: &str, headers: &HeaderMap) -> Demand {
        if self.always || is_locked(headers) {
            return Demand::Known(true);
        }
        self.of_bucket_at(bucket, Instant::now())
    }

    /// Of an upload in parts. Only its creation has Object Lock settings, so the bucket is remembered for its parts, which do not say so.
    pub(super) fn of_parts(&self, bucket: &str, headers: &HeaderMap) -> Demand {
        if is_locked(headers) {
            self.learn(bucket, true);
        }
        self.of_bucket_at(bucket, Instant::now())
    }

    fn of_bucket_at(&self, bucket: &str, now: Instant) -> Demand {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.get_mut(bucket) {
            None => Demand::Ask { until_then: false },
            Some(known) if now.duration_since(known.since) < KEPT => Demand::Known(known.wants),
            // One upload asks; the others go by what was known.
            Some(known) => {
                known.since = now;
                Demand::Ask { until_then: known.wants }
            }
        }
    }

    /// Remembers what the store said about a bucket.
    pub(super) fn learn(&self, bucket: &str, wants: bool) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(bucket) {
            buckets.clear();
        }
        buckets.insert(bucket.to_owned(), Known { wants, since: Instant::now() });
    }

    /// Remembers the bucket of an upload that was refused for want of a checksum, since it got its Object Lock after the store was asked or
    /// the store did not tell, and makes the refusal one that clients try again after: the next attempt brings the checksum.
    pub(super) fn heed(&self, bucket: &str, error: Error) -> Error {
        match error {
            Error::Refused(refusal) if wants_checksum(&refusal) => {
                self.learn(bucket, true);
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

    const ASK: Demand = Demand::Ask { until_then: false };

    #[test]
    fn a_demand_is_learned_from_the_refusal_and_by_all_workers() {
        let (demands, none) = (Demands::default(), HeaderMap::new());
        let other_worker = demands.clone();
        let text = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests with Object Lock parameters";
        assert_eq!(demands.of_object("b", &none), ASK);
        assert!(matches!(demands.heed("b", refusal("InvalidRequest", "Something else")), Error::Refused(r) if r.status == 400));
        assert_eq!(demands.of_object("b", &none), ASK);
        assert!(matches!(demands.heed("b", refusal("InvalidRequest", text)), Error::Refused(r) if r.status == 503));
        assert_eq!((other_worker.of_object("b", &none), demands.of_parts("c", &none)), (Demand::Known(true), ASK));
    }

    #[test]
    fn the_stores_word_holds_for_a_while_and_one_asks_again() {
        let demands = Demands::default();
        demands.learn("b", true);
        let soon = Instant::now() + KEPT / 2;
        assert_eq!(demands.of_bucket_at("b", soon), Demand::Known(true));
        let late = Instant::now() + KEPT;
        assert_eq!(demands.of_bucket_at("b", late), Demand::Ask { until_then: true });
        assert_eq!(demands.of_bucket_at("b", late), Demand::Known(true));
        demands.learn("b", false);
        assert_eq!(demands.of_bucket_at("b", soon), Demand::Known(false));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let demands = Demands::default();
        for at in 0..=BUCKETS_MAX {
            demands.learn(&at.to_string(), true);
        }
        assert_eq!(demands.buckets.lock().unwrap().len(), 1);
    }

    #[test]
    fn lock_settings_of_an_upload_are_a_demand_and_so_is_the_configuration() {
        let headers: HeaderMap = [("x-amz-object-lock-legal-hold".parse().unwrap(), "ON".parse().unwrap())].into_iter().collect();
        assert_eq!(Demands::default().of_object("b", &headers), Demand::Known(true));
        assert_eq!(Demands::always().of_object("b", &HeaderMap::new()), Demand::Known(true));
        let (always, none) = (Demands::always(), HeaderMap::new());
        assert_eq!(always.of_parts("b", &none), ASK);
        assert_eq!(always.of_parts("b", &headers), Demand::Known(true));
        assert_eq!((always.of_parts("b", &none), always.of_parts("c", &none)), (Demand::Known(true), ASK));
    }
}
