//! How long a store or a key service that does not answer is asked again.

use std::time::{Duration, Instant};

use super::Stop;
use crate::ops::{Error, Nature};

/// The first pause; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long to go on asking, beside the attempts that the clients of store and key service make by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

impl Patience {
    /// Makes an attempt again, after a growing pause, while its failure is one that passes.
    ///
    /// # Errors
    /// Any other failure; the last one when patience is at its end, or somebody asks to stop.
    pub async fn keep_asking<T, F: Future<Output = Result<T, Error>>>(
        self,
        stop: &Stop,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let (began, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let error = match attempt().await {
                Err(error) if error.nature() == Nature::Passing => error,
                outcome => return outcome,
            };
            if began.elapsed() + pause > self.0 {
                return Err(error);
            }
            tokio::select! {
                () = stop.asked() => return Err(error),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
