//! The background task that clears away what ended uploads left. Every instance has one; what two of them remove at once is gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::StoreSide;
use crate::ops::StatePlace;
use crate::ops::multipart::janitor::{REST, Sweep, sweep};

pub(super) async fn run(store: StoreSide, place: StatePlace, pause: Duration) {
    let backend = store.backend();
    // There can be as many rewrap records as versions: to ask after each of them, every hour and by every instance, is too much.
    let what = Sweep { older_than: REST, dry_run: false, buckets: None, rewrapped: false };
    // Instances that start together do not look together.
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    tokio::time::sleep(pause.mul_f64(f64::from(nanos) / 1e9)).await;
    loop {
        match sweep(&backend, &place, &what).await {
            Ok(report) => {
                for problem in &report.problems {
                    tracing::warn!(
                        bucket = problem.bucket,
                        upload = problem.base,
                        detail = problem.detail,
                        "the state of an upload cannot be cleared away"
                    );
                }
                if !report.removed.is_empty() {
                    tracing::info!(uploads = report.removed.len(), "cleared away what ended uploads left");
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the janitor cannot list the buckets of the store")
            }
        }
        tokio::time::sleep(pause).await;
    }
}
