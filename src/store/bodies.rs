//! Bodies as files: one immutable file per body, under a random name that is never used again.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::Error;

/// Bytes that a download reads and hands out at once.
pub(super) const PIECE: usize = 256 * 1024;

/// Read buffers kept for reuse, of [`PIECE`] bytes each. Fresh buffers of this size cost a page fault per 4 KiB.
const SPARE_MAX: usize = 32;

const TEMPORARY: &str = ".tmp";

/// The name of a body: 16 random bytes, 32 hex digits in the file name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BodyId([u8; 16]);

impl BodyId {
    fn fresh() -> io::Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        Ok(Self(id))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::from_bytes(&data_encoding::HEXLOWER.decode(name.as_bytes()).ok()?)
    }
}

impl fmt::Display for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The folder of all bodies.
pub(super) struct Bodies {
    root: PathBuf,
    fsync: bool,
    spare: Mutex<Vec<Box<[u8]>>>,
    pinned: Mutex<HashMap<BodyId, Pin>>,
}

/// Bodies that are going to be read, and whether they go afterwards.
#[derive(Default)]
struct Pin {
    readers: usize,
    doomed: bool,
}

impl Bodies {
    /// Opens the folder and makes its 256 sub-folders, which keep each of them small.
    pub(super) fn open(root: &Path, fsync: bool) -> io::Result<Arc<Self>> {
        for first in 0..=u8::MAX {
            fs::create_dir_all(root.join(format!("{first:02x}")))?;
        }
        Ok(Arc::new(Self { root: root.to_owned(), fsync, spare: Mutex::new(Vec::new()), pinned: Mutex::default() }))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, id: BodyId) -> PathBuf {
        let name = id.to_string();
        self.root.join(&name[..2]).join(&name)
    }

    /// Starts a body that nobody can see yet.
    pub(super) fn create(self: &Arc<Self>) -> io::Result<NewBody> {
        let id = BodyId::fresh()?;
        let mut path = self.path(id).into_os_string();
        path.push(TEMPORARY);
        let path = PathBuf::from(path);
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(NewBody { bodies: Arc::clone(self), id, file, path, hash: Box::new(Xxh3::new()), len: 0, kept: false })
    }

    /// Opens a body for reading; `None` when it is gone, which happens when its key was overwritten a moment ago.
    pub(super) fn read(&self, id: BodyId, size: u64) -> Result<Option<File>, Error> {
        let file = match File::open(self.path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.len() != size {
            return Err(Error::BodyDamaged(id.to_string()));
        }
        Ok(Some(file))
    }

    /// Keeps the files of these bodies until the pins are dropped, also when the bodies are removed meanwhile. Whoever pins looks
    /// afterwards whether the index still names the bodies: if it does, they are there until the pins go.
    pub(super) fn pin(self: &Arc<Self>, ids: impl IntoIterator<Item = BodyId>) -> Pins {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let ids: Vec<BodyId> = ids.into_iter().collect();
        for id in &ids {
            pinned.entry(*id).or_default().readers += 1;
        }
        Pins { bodies: Arc::clone(self), ids }
    }

    /// Removes a body that the index no longer names, when nobody has it pinned. A failure costs disk space until the next start,
    /// never an object.
    pub(super) fn remove(&self, id: BodyId) {
        if let Some(pin) = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            pin.doomed = true;
            return;
        }
        self.unlink(id);
    }

    fn unlink(&self, id: BodyId) {
        if let Err(error) = fs::remove_file(self.path(id)) {
            tracing::warn!(%error, body = %id, "a replaced body could not be removed");
        }
    }

    /// Removes every file that is not a body in `known` and says how many there were.
    pub(super) fn sweep(&self, known: &HashSet<BodyId>) -> io::Result<usize> {
        let mut swept = 0;
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder)? {
                let file = file?;
                let keep = file.file_name().to_str().and_then(BodyId::from_name).is_some_and(|id| known.contains(&id));
                if !keep {
                    fs::remove_file(file.path())?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Reads `len` (at most [`PIECE`]) bytes at `offset` into a buffer that returns to the store when the last user drops it.
    pub(super) fn piece(self: &Arc<Self>, file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
        let len = len.min(PIECE);
        // A small object gets a buffer of its own size: borrowing a whole piece would waste memory while it is sent.
        if len <= PIECE / 8 {
            let mut buffer = vec![0; len];
            file.read_exact_at(&mut buffer, offset)?;
            return Ok(buffer.into());
        }
        let buffer = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut borrowed = Borrowed { buffer: buffer.unwrap_or_else(|| vec![0; PIECE].into()), len, bodies: Arc::clone(self) };
        file.read_exact_at(&mut borrowed.buffer[..len], offset)?;
        Ok(Bytes::from_owner(borrowed))
    }
}

/// Bodies that stay while this lives.
pub(super) struct Pins {
    bodies: Arc<Bodies>,
    ids: Vec<BodyId>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pinned = self.bodies.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut doomed = Vec::new();
        for id in &self.ids {
            let Some(pin) = pinned.get_mut(id) else { continue };
            pin.readers -= 1;
            if pin.readers == 0 {
                doomed.extend(pin.doomed.then_some(*id));
                pinned.remove(id);
            }
        }
        drop(pinned);
        doomed.into_iter().for_each(|id| self.bodies.unlink(id));
    }
}

/// A read buffer on loan from [`Bodies`].
struct Borrowed {
    buffer: Box<[u8]>,
    len: usize,
    bodies: Arc<Bodies>,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut spare = self.bodies.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// A body that is being written. Unless [`NewBody::keep`] is called, dropping it removes its file.
pub(super) struct NewBody {
    bodies: Arc<Bodies>,
    id: BodyId,
    file: File,
    path: PathBuf,
    hash: Box<Xxh3>,
    len: u64,
    kept: bool,
}

impl NewBody {
    pub(super) fn id(&self) -> BodyId {
        self.id
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The `ETag` of what was written so far, without quotes.
    pub(super) fn etag(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }

    /// Appends pieces with as few system calls as possible.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.hash.update(piece);
            self.len += piece.len() as u64;
        }
        let mut slices: Vec<IoSlice<'_>> =
            pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// Gives the complete body its final name. The index may name it from now on.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        if self.bodies.fsync {
            self.file.sync_data()?;
        }
        let path = self.bodies.path(self.id);
        fs::rename(&self.path, &path)?;
        self.path = path;
        if self.bodies.fsync
            && let Some(folder) = self.path.parent()
        {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// The index names the body now: it stays.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewBody {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, body = %self.id, "an abandoned body could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path) -> Vec<PathBuf> {
        let folders = fs::read_dir(root).unwrap().map(|folder| folder.unwrap().path());
        folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path())).collect()
    }

    #[test]
    fn a_body_reads_back_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), true).unwrap();
        let content: Vec<u8> = (0..PIECE * 2 + 77).map(|i| (i * 31 % 251) as u8).collect();
        let mut body = bodies.create().unwrap();
        for slices in content.chunks(100_001) {
            let (a, b) = slices.split_at(slices.len() / 3);
            body.write(&[Bytes::copy_from_slice(a), Bytes::new(), Bytes::copy_from_slice(b)]).unwrap();
        }
        assert_eq!(body.etag(), format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&content)));
        assert_eq!(body.len(), content.len() as u64);
        body.publish().unwrap();
        let id = body.id();
        body.keep();

        let file = bodies.read(id, content.len() as u64).unwrap().unwrap();
        let mut back = Vec::new();
        while back.len() < content.len() {
            let piece = bodies.piece(&file, back.len() as u64, content.len() - back.len()).unwrap();
            back.extend_from_slice(&piece);
        }
        assert!(back == content);
        assert!(matches!(bodies.read(id, 1), Err(Error::BodyDamaged(_))));

        // The open file survives the removal of its name.
        bodies.remove(id);
        assert!(bodies.read(id, content.len() as u64).unwrap().is_none());
        assert_eq!(bodies.piece(&file, 5, 10).unwrap(), &content[5..15]);
    }

    #[test]
    fn a_pinned_body_goes_with_its_last_reader() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), false).unwrap();
        let mut body = bodies.create().unwrap();
        body.publish().unwrap();
        let id = body.id();
        body.keep();
        // A content may have several slices of one body.
        let first = bodies.pin([id, id]);
        let second = bodies.pin([id]);
        bodies.remove(id);
        drop(first);
        assert!(bodies.read(id, 0).unwrap().is_some());
        drop(second);
        assert!(bodies.read(id, 0).unwrap().is_none());
        assert!(bodies.pinned.lock().unwrap().is_empty());
    }

    #[test]
    fn an_abandoned_body_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), false).unwrap();
        let mut temporary = bodies.create().unwrap();
        temporary.write(&[Bytes::from_static(b"half a body")]).unwrap();
        let mut published = bodies.create().unwrap();
        published.publish().unwrap();
        assert_eq!(files(dir.path()).len(), 2);
        drop(temporary);
        drop(published);
        assert!(files(dir.path()).is_empty());
    }

    #[test]
    fn the_sweep_keeps_known_bodies_only() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::open(dir.path(), false).unwrap();
        let mut known = HashSet::new();
        for keep in [true, false, true, false] {
            let mut body = bodies.create().unwrap();
            body.publish().unwrap();
            if keep {
                known.insert(body.id());
            }
            body.keep();
        }
        // What a process leaves behind that is killed while it writes.
        std::mem::forget(bodies.create().unwrap());
        fs::write(dir.path().join("00/stray"), b"?").unwrap();
        assert_eq!(bodies.sweep(&known).unwrap(), 4);
        let names: HashSet<_> =
            files(dir.path()).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(names, known.iter().map(BodyId::to_string).collect());
    }
}
