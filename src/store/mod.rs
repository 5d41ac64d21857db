//! The embedded S3 store: a small S3 server on loopback that keeps its data in one folder.
//!
//! It is the backend behind `ciphergate dev` and `ciphergate store`, and the fast, fault-injectable second backend of the test
//! suite. It is for development and tests only: one process, one machine, bodies are not encrypted, and a power cut may lose the
//! newest objects unless [`Options::fsync`] is set. To the gateway it is just an S3 server: this room knows nothing of keys or of
//! the object format, and never will.
//!
//! How data lies in the folder, and why a kill at any moment is safe:
//!
//! - `index.sqlite3` holds buckets, object versions and multipart uploads; every change is one transaction.
//! - `bodies/xx/<id>` holds each body in one immutable file under a fresh random name. A body is written as `<id>.tmp`, renamed,
//!   and only then committed in the index. An object is a list of slices of bodies: one whole body as a rule, those of its parts
//!   after a multipart upload, those of its source after a copy. So Complete and the copies write no bytes, and a body is unlinked
//!   after the commit that took away its last slice.
//! - A reader holds its file open, or pins its files when there are several, so it streams the bytes it found to the end whatever
//!   happens to the key meanwhile.
//! - What a killed process leaves behind (temporary files, bodies without a slice) is removed when the folder is opened again.
//!   Parts of uploads under way stay, as in S3.
//! - `lock` is held while the store is open, so that two processes never share a folder.
//!
//! The `ETag` of an object is the XXH3-128 of its content as 32 lower-case hex digits: a content hash, but not MD5, like that of a
//! bucket encrypted with KMS keys. MD5 would make the store the bottleneck of every benchmark. After an upload in parts it is the
//! XXH3-128 of the tags of the parts and their number, as S3 does it with MD5; what is put together of slices of other objects gets
//! one made from where they come.
//!
//! Signatures are always checked. Operations that are not there answer `NotImplemented`, and so does an operation with a query
//! parameter that it does not know. Not there: SSE-C, restore, select, torrent, rename, annotations, and any effect of the documents
//! that buckets keep (`subresources.rs`): a policy forbids nothing, a lifecycle removes nothing.

mod acl;
mod attributes;
mod bodies;
mod checks;
mod complete;
mod copy;
mod describe;
mod error;
mod faults;
mod gate;
mod headers;
mod index;
mod listing;
mod lock;
mod multipart;
mod named;
mod read;
mod routes;
mod s3;
mod server;
mod stream;
mod subresources;
mod tagging;
mod write;

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use error::Error;
pub use faults::{Effect, Faults, Hits};
pub use server::{Running, serve};

use bodies::Bodies;
use index::Index;

/// How a store treats its folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Force every body and every index commit to the disk before an upload is answered, so that acknowledged objects survive a
    /// power cut. Off by default: without it they survive the death of the process.
    pub fsync: bool,
}

/// A store on its folder. Hand it to [`serve`] to reach it.
pub struct Store {
    index: Index,
    bodies: Arc<Bodies>,
    faults: Faults,
    _lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("bodies", &self.bodies.root()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `data_dir`, which is made when it is not there, and removes what a killed process left behind.
    ///
    /// # Errors
    /// [`Error::InUse`] when another store has the folder open, [`Error::OtherSchema`] when another program wrote it, and
    /// [`Error::Folder`] or [`Error::Index`] when the folder or the index cannot be used.
    pub fn open(data_dir: &Path, options: Options) -> Result<Arc<Self>, Error> {
        let folder = |source| Error::Folder { path: data_dir.to_owned(), source };
        std::fs::create_dir_all(data_dir).map_err(folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(data_dir.join("lock")).map_err(folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(Error::InUse(data_dir.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => return Err(folder(source)),
        }
        let index = Index::open(&data_dir.join("index.sqlite3"), options.fsync)?;
        let bodies = Bodies::open(&data_dir.join("bodies"), options.fsync).map_err(folder)?;
        let known: HashSet<_> = index.bodies()?;
        let swept = bodies.sweep(&known).map_err(folder)?;
        if swept > 0 {
            tracing::info!(swept, folder = %data_dir.display(), "removed bodies that an interrupted process left behind");
        }
        Ok(Arc::new(Self { index, bodies, faults: Faults::default(), _lock: lock }))
    }

    /// Removes the files of bodies that the index no longer names.
    fn bury(&self, dead: Vec<bodies::BodyId>) {
        dead.into_iter().for_each(|body| self.bodies.remove(body));
    }

    /// The faults that this store plays on its clients; none unless a test injects some.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

/// Milliseconds since 1970, the clock of everything in the index.
fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Runs blocking work (index and files) off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(_stopped) => Err(Error::Stopping),
    }
}
