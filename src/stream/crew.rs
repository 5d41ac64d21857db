//! Opening chunks on other threads than the one that carries the bytes, where the cipher is what takes the time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures::channel::oneshot;

use super::{Error, Result};
use crate::crypto::{ChunkKey, Suite};
use crate::format::PlainLen;

/// Chunks that go to another thread together: what makes the way there worth it.
pub(super) const BATCH_MAX: usize = 4;
/// Batches of one body that are open or being opened at one time. With [`BATCH_MAX`] it bounds a body's memory: 512 KiB.
const BATCHES_MAX: usize = 2;
/// Shorter bodies are opened where they are carried.
const WORTH_LEN: u64 = 1 << 20;

/// Work for another thread. It never waits for anything.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads that help with opening. This room has none of its own.
pub trait Crew: Send + Sync {
    /// Runs the job on another thread, at once; gives it back when no thread is free.
    ///
    /// # Errors
    /// The job itself, not begun.
    fn take(&self, job: Job) -> std::result::Result<(), Job>;
}

/// Whether opening so many bytes is worth the way to another thread. AES-256-GCM with the processor's own instructions takes an eighth
/// of the time of ChaCha20-Poly1305, less than the way costs (docs/BENCHMARKS.md).
pub fn crew_pays(suite: Suite, plain_len: PlainLen) -> bool {
    suite == Suite::ChaCha20Poly1305 && plain_len.get() >= WORTH_LEN
}

/// A sealed chunk, later an opened one, and which bytes of its plaintext were asked for.
pub(super) struct Chunk {
    pub index: u64,
    pub last_of_part: bool,
    /// Sealed bytes; plaintext once it is opened.
    pub bytes: BytesMut,
    pub skip: usize,
    pub keep: usize,
}

/// Chunks opened in order, up to the first that does not verify.
struct Batch {
    opened: VecDeque<Chunk>,
    failure: Option<crate::crypto::Error>,
}

impl Batch {
    fn open(key: &ChunkKey, mut chunks: VecDeque<Chunk>) -> Self {
        for at in 0..chunks.len() {
            let chunk = &mut chunks[at];
            match key.open_in_place(chunk.index, chunk.last_of_part, &mut chunk.bytes) {
                Ok(plain) => {
                    let plain_len = plain.len();
                    chunk.bytes.truncate(plain_len);
                }
                Err(failure) => {
                    chunks.truncate(at);
                    return Self { opened: chunks, failure: Some(failure) };
                }
            }
        }
        Self { opened: chunks, failure: None }
    }
}

enum Slot {
    Here(Batch),
    Away(oneshot::Receiver<Batch>),
}

/// Batches in the order of the body, wherever they are opened.
pub(super) struct Lane {
    crew: Option<Arc<dyn Crew>>,
    slots: VecDeque<Slot>,
}

impl Lane {
    pub fn new() -> Self {
        Self { crew: None, slots: VecDeque::new() }
    }

    pub fn set_crew(&mut self, crew: Arc<dyn Crew>) {
        self.crew = Some(crew);
    }

    /// How many chunks to bring at one time.
    pub fn batch_max(&self) -> usize {
        if self.crew.is_some() { BATCH_MAX } else { 1 }
    }

    pub fn is_full(&self) -> bool {
        self.slots.len() >= BATCHES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Opens the chunks: on another thread when there is a free one, otherwise here and now.
    pub fn push(&mut self, key: &Arc<ChunkKey>, chunks: VecDeque<Chunk>) {
        let Some(crew) = &self.crew else {
            self.slots.push_back(Slot::Here(Batch::open(key, chunks)));
            return;
        };
        let (done, away) = oneshot::channel();
        let key = Arc::clone(key);
        let job: Job = Box::new(move || {
            // Nobody waits any more when the client has gone.
            let _ = done.send(Batch::open(&key, chunks));
        });
        if let Err(job) = crew.take(job) {
            job();
        }
        self.slots.push_back(Slot::Away(away));
    }

    /// The next opened chunk; None when there is none under way. Errors: [`Error::Crypto`] when it does not verify,
    /// [`Error::Interrupted`] when the thread that had it is gone.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>>> {
        loop {
            let Some(slot) = self.slots.front_mut() else { return Poll::Ready(Ok(None)) };
            let batch = match slot {
                Slot::Here(batch) => batch,
                Slot::Away(away) => {
                    let batch = ready!(Pin::new(away).poll(cx)).map_err(|_| Error::Interrupted)?;
                    *slot = Slot::Here(batch);
                    continue;
                }
            };
            if let Some(chunk) = batch.opened.pop_front() {
                return Poll::Ready(Ok(Some(chunk)));
            }
            if let Some(failure) = batch.failure.take() {
                return Poll::Ready(Err(failure.into()));
            }
            self.slots.pop_front();
        }
    }
}
