//! A sealed body on its way to the store, and how long that may stand still.
//!
//! The SDK's own limit counts from the head of the request to the head of the answer, the whole body included: it would cut every
//! long upload. Here only the store's own pauses count. A slow client has limits elsewhere.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, timeout_at};

use crate::observe::metrics;
use crate::stream::SealedBody;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long the store may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until it takes the next bytes of the body.
    pub idle: Duration,
    /// Until it begins its answer, once it has the whole body.
    pub answer: Duration,
}

/// The store took longer than it may.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stalled {
    #[error("the store took no more of the body for {0:?}")]
    Body(Duration),
    #[error("the store had the whole body and did not answer for {0:?}")]
    Answer(Duration),
}

/// Whose turn it is.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    /// The store has taken what there was.
    Client,
    /// There are bytes that the store has not taken, since then.
    Store(Instant),
    /// The store has everything, since then.
    Answer(Instant),
}

/// What a body and the one who waits for its fate both know.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<Turn>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Turn::Store(Instant::now()))))
    }

    pub(super) fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }

    fn turn(&self) -> Turn {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the outcome of an upload as long as the store goes on taking its body. Giving up drops `sent` and with it the connection.
    pub(super) async fn watch<T>(&self, sent: impl Future<Output = T>, patience: Patience) -> Result<T, Stalled> {
        let mut sent = pin!(sent);
        loop {
            let now = Instant::now();
            let due = match self.turn() {
                // To be looked at again: the turn may pass on at any time.
                Turn::Client => now + patience.idle.min(patience.answer),
                Turn::Store(since) if now >= since + patience.idle => return Err(Stalled::Body(patience.idle)),
                Turn::Store(since) => since + patience.idle,
                Turn::Answer(since) if now >= since + patience.answer => return Err(Stalled::Answer(patience.answer)),
                Turn::Answer(since) => since + patience.answer,
            };
            if let Ok(outcome) = timeout_at(due, sent.as_mut()).await {
                return Ok(outcome);
            }
        }
    }
}

/// The sealed body as the SDK takes it: exact length known, never repeated.
pub(super) struct PutBody {
    body: SealedBody,
    left: u64,
    progress: Progress,
}

impl PutBody {
    pub(super) fn new(body: SealedBody, progress: Progress) -> Self {
        Self { left: body.sealed_len().get(), body, progress }
    }
}

impl http_body::Body for PutBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_next(cx) {
            Poll::Pending => {
                self.progress.set(Turn::Client);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(bytes))) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                metrics::store_sent(bytes.len());
                let now = Instant::now();
                self.progress.set(if self.left == 0 { Turn::Answer(now) } else { Turn::Store(now) });
                Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.progress.set(Turn::Answer(Instant::now()));
                Poll::Ready(None)
            }
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { idle: Duration::from_millis(60), answer: Duration::from_millis(120) };

    #[tokio::test]
    async fn only_the_turn_of_the_store_is_limited() {
        let progress = Progress::new();
        progress.set(Turn::Client);
        let slow_client = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            7
        };
        assert_eq!(progress.watch(slow_client, PATIENCE).await.unwrap(), 7);

        progress.set(Turn::Store(Instant::now()));
        let given_up = progress.watch(std::future::pending::<()>(), PATIENCE).await;
        assert!(matches!(given_up, Err(Stalled::Body(_))));

        progress.set(Turn::Answer(Instant::now()));
        let started = Instant::now();
        let given_up = progress.watch(std::future::pending::<()>(), PATIENCE).await;
        assert!(matches!(given_up, Err(Stalled::Answer(_))));
        assert!(started.elapsed() >= PATIENCE.answer);
    }

    #[tokio::test]
    async fn every_step_of_the_store_counts_anew() {
        let progress = Progress::new();
        let steps = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                progress.set(Turn::Store(Instant::now()));
            }
        };
        assert!(progress.watch(steps, PATIENCE).await.is_ok());
    }
}
