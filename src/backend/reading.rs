//! A thread that receives what the store sends, beside the worker that opens it.
//!
//! A worker serves a connection with one thread, and with a long object that thread opens chunks all the time. Receiving (system calls,
//! copies, and TLS where the store has it) is work of its own, so it gets a thread of its own: one for each worker, since a
//! pool that shares its tasks among threads costs more here than it brings (docs/BENCHMARKS.md).

use std::future::Future;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::Error;

/// Runs tasks on a thread of its own until it is dropped; what they have begun ends with it.
pub(super) struct ReadingThread {
    runtime: Handle,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl ReadingThread {
    /// Errors: those of starting a thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("store reader".to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, _running: running })
    }

    /// Runs a task to its end there; dropping the returned future ends the task too. A connection that the task opens stays on that thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = AbortOnDropHandle::new(self.runtime.spawn(task));
        task.await.map_err(|ended| Error::NotSent(ended.into()))?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_task_runs_on_another_thread() {
        let reading = ReadingThread::start().unwrap();
        let there = reading.run(async { Ok(thread::current().id()) }).await.unwrap();
        assert_ne!(there, thread::current().id());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_goes_on() {
        let reading = ReadingThread::start().unwrap();
        let failed: Result<(), Error> = reading.run(async { panic!("on purpose") }).await;
        assert!(matches!(failed, Err(Error::NotSent(_))));
        assert_eq!(reading.run(async { Ok(7) }).await.unwrap(), 7);
    }

    /// A task that never ends by itself, and tells when it is gone.
    fn endless() -> (impl Future<Output = Result<(), Error>> + Send + 'static, oneshot::Receiver<()>) {
        let (alive, gone) = oneshot::channel::<()>();
        let task = async move {
            let _alive = alive;
            std::future::pending().await
        };
        (task, gone)
    }

    async fn is_gone(gone: oneshot::Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok()
    }

    #[tokio::test]
    async fn whoever_stops_waiting_ends_the_task() {
        let reading = ReadingThread::start().unwrap();
        let (task, gone) = endless();
        assert!(tokio::time::timeout(Duration::from_millis(50), reading.run(task)).await.is_err());
        assert!(is_gone(gone).await);
    }

    #[tokio::test]
    async fn the_thread_ends_with_its_owner() {
        let reading = ReadingThread::start().unwrap();
        let (task, gone) = endless();
        let waiting = tokio::spawn({
            let runtime = reading.runtime.clone();
            async move { runtime.spawn(task).await.is_err() }
        });
        drop(reading);
        assert!(is_gone(gone).await);
        assert!(waiting.await.unwrap());
    }
}
