//! The threads that help with opening large bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stream;

/// As many jobs at one time as there are processors, over all workers. When they are taken the workers open for themselves: more
/// threads than processors would only take turns.
#[derive(Debug)]
pub(super) struct Crew {
    free: Arc<AtomicUsize>,
}

impl Crew {
    /// A crew for this machine.
    pub fn new() -> Self {
        Self::of(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn of(jobs_max: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(jobs_max)) }
    }
}

impl stream::Crew for Crew {
    fn take(&self, job: stream::Job) -> Result<(), stream::Job> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Err(job) };
        if self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1)).is_err() {
            return Err(job);
        }
        let place = Place(self.free.clone());
        runtime.spawn_blocking(move || {
            let _place = place;
            job();
        });
        Ok(())
    }
}

/// One of the jobs at one time; given back on drop, also when the job panics or never runs.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Crew as _;
    use std::sync::mpsc;

    #[tokio::test]
    async fn no_more_jobs_than_places_and_every_place_comes_back() {
        let crew = Crew::of(1);
        let (release, wait) = mpsc::channel::<()>();
        assert!(crew.take(Box::new(move || wait.recv().unwrap())).is_ok());
        assert!(crew.take(Box::new(|| panic!("must not run"))).is_err(), "the only place is taken");
        release.send(()).unwrap();
        while crew.free.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(crew.take(Box::new(|| panic!("a job that fails"))).is_ok());
        while crew.free.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn without_a_runtime_the_job_comes_back() {
        let crew = Crew::of(1);
        for _ in 0..3 {
            assert!(crew.take(Box::new(|| ())).is_err());
        }
        assert_eq!(crew.free.load(Ordering::Relaxed), 1);
    }
}
