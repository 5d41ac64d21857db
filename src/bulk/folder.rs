//! A folder that objects are written into, as files of their keys' names.
//!
//! A file is there whole or not at all: it is written and synced in a folder of its own below, and then linked to its name. Nothing that is
//! there already is touched. No key leads out of the folder: its parts are names and nothing else, and no link is followed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use crate::ops::{Error, Released};

/// Where files are written before they have their names.
const BESIDE: &str = ".ciphergate.tmp";
/// The longest name of a file.
const NAME_MAX: usize = 255;

/// A folder, and the lock that keeps another run out of it.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    beside: PathBuf,
    next: AtomicU64,
    /// `None` in a dry run.
    lock: Option<File>,
}

/// A key is no name in the folder, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// What became of an object.
#[derive(Debug, PartialEq, Eq)]
pub enum Placed {
    Written,
    /// A file that holds the same is there.
    There,
    /// Something else is.
    Occupied(&'static str),
    Unsafe(&'static str),
}

impl Folder {
    /// Takes a folder, which is made if it is not there. A dry run makes nothing.
    ///
    /// # Errors
    /// Another run in it, and whatever keeps it from being made.
    pub fn open(root: &Path, apply: bool) -> io::Result<Self> {
        let beside = root.join(BESIDE);
        let mut lock = None;
        if apply {
            private().recursive(true).create(root)?;
            match private().create(&beside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_folder(&beside) => {}
                made => made?,
            }
            let file = File::open(&beside)?;
            match file.try_lock() {
                Ok(()) => lock = Some(file),
                Err(TryLockError::WouldBlock) => return Err(io::Error::other("another run writes into it")),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // What a run that died has left.
            for entry in fs::read_dir(&beside)? {
                fs::remove_file(entry?.path())?;
            }
        }
        Ok(Self { root: root.to_owned(), beside, next: AtomicU64::new(0), lock })
    }

    /// Where an object goes, below the folder.
    ///
    /// # Errors
    /// A key that is no name there.
    pub fn place(&self, key: &str) -> Result<PathBuf, Refused> {
        let mut path = PathBuf::new();
        let names = key.strip_suffix('/').unwrap_or(key);
        for (at, part) in names.split('/').enumerate() {
            let why = match part {
                "" => "a part of it is empty",
                "." | ".." => "a part of it is . or ..",
                BESIDE if at == 0 => "the name is the command's own",
                _ if part.len() > NAME_MAX => "a part of it is longer than 255 bytes",
                _ if part.contains('\0') => "it has a zero byte",
                _ => {
                    path.push(part);
                    continue;
                }
            };
            return Err(Refused(why));
        }
        Ok(path)
    }

    /// Writes an object.
    ///
    /// # Errors
    /// A body that breaks off, and a folder that cannot be written.
    pub async fn write(&self, key: &str, released: Released) -> Result<Placed, Error> {
        let place = match self.place(key) {
            Ok(place) => place,
            Err(Refused(why)) => return Ok(Placed::Unsafe(why)),
        };
        if key.ends_with('/') {
            // What makes a folder visible has no content; with content it can be neither a folder nor a file.
            if released.len > 0 {
                return Ok(Placed::Unsafe("it ends in / and has content"));
            }
            // The body is empty, and read all the same: that it is authentic shows at its end.
            released.body.try_for_each(|_| async { Ok(()) }).await.map_err(Released::failure)?;
            let root = self.root.clone();
            return in_background(move || Ok(make_folders(&root, &place)?.map_or(Placed::Written, Placed::Occupied))).await;
        }
        let temporary = Temporary(self.beside.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()));
        let mut file = {
            let path = temporary.0.clone();
            in_background(move || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)).await?
        };
        let (mut hash, mut body) = (Sha256::new(), released.body);
        while let Some(piece) = body.try_next().await.map_err(Released::failure)? {
            (file, hash) = in_background(move || {
                hash.update(&piece);
                file.write_all(&piece).map(|()| (file, hash))
            })
            .await?;
        }
        let root = self.root.clone();
        let hash: [u8; 32] = hash.finalize().into();
        in_background(move || {
            file.sync_all()?;
            let parent = place.parent().unwrap_or(Path::new(""));
            if let Some(why) = make_folders(&root, parent)? {
                return Ok(Placed::Occupied(why));
            }
            let target = root.join(&place);
            match fs::hard_link(&temporary.0, &target) {
                Ok(()) => {
                    File::open(root.join(parent))?.sync_all()?;
                    Ok(Placed::Written)
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match holds(&target, &hash)? {
                    true => Ok(Placed::There),
                    false => Ok(Placed::Occupied("a file or folder of that name")),
                },
                Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Ok(Placed::Unsafe("the name is too long")),
                Err(error) => Err(error),
            }
        })
        .await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // Empty by now, unless something was broken off; then the next run clears it.
            let _ = fs::remove_dir(&self.beside);
        }
    }
}

/// A file that goes away, whatever happens. Its other name, if it got one, stays.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn is_folder(path: &Path) -> bool {
    // A link to one is none.
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Makes folders below `root`, one in the other. Says what is in the way.
fn make_folders(root: &Path, place: &Path) -> io::Result<Option<&'static str>> {
    let mut path = root.to_owned();
    for part in place {
        path.push(part);
        match private().create(&path) {
            Ok(()) => File::open(path.parent().unwrap_or(root))?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_folder(&path) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Some("a file where a folder has to be, or a link"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a file, and no link to one, has this content.
fn holds(path: &Path, wanted: &[u8; 32]) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(false);
    }
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize()[..] == wanted[..]),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Runs what waits for a disk where it holds nobody up.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| Error::Internal("writing a file broke off"))?;
    done.map_err(|error| Error::Output(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::StreamExt as _;
    use http::HeaderMap;

    fn released(plain: &'static [u8]) -> Released {
        let body = futures::stream::iter([Ok(Bytes::from_static(plain))]).boxed();
        Released { len: plain.len() as u64, headers: HeaderMap::new(), crc64: None, body }
    }

    #[test]
    fn no_key_leads_out_of_the_folder() {
        let folder = Folder::open(Path::new("/nowhere"), false).unwrap();
        for (key, path) in [("a", "a"), ("a/b c", "a/b c"), ("a/", "a"), ("..a/b..", "..a/b.."), ("-rf\n", "-rf\n")] {
            assert_eq!(folder.place(key), Ok(PathBuf::from(path)), "{key}");
        }
        let long = "x".repeat(256);
        for key in ["", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "./a", "a//b", "a//", "a\0b", ".ciphergate.tmp/0", &long]
        {
            assert!(folder.place(key).is_err(), "{key}");
        }
    }

    #[tokio::test]
    async fn files_are_whole_or_not_there_and_nothing_is_overwritten() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("out");
        let folder = Folder::open(&root, true).unwrap();
        assert!(Folder::open(&root, true).is_err(), "one run at a time");
        assert_eq!(folder.write("a/b", released(b"one")).await.unwrap(), Placed::Written);
        assert_eq!(folder.write("a/b", released(b"one")).await.unwrap(), Placed::There);
        assert!(matches!(folder.write("a/b", released(b"two")).await.unwrap(), Placed::Occupied(_)));
        assert!(matches!(folder.write("a", released(b"two")).await.unwrap(), Placed::Occupied(_)));
        assert!(matches!(folder.write("a/b/c", released(b"two")).await.unwrap(), Placed::Occupied(_)));
        assert_eq!(folder.write("d/", released(b"")).await.unwrap(), Placed::Written);
        assert!(matches!(folder.write("e/", released(b"x")).await.unwrap(), Placed::Unsafe(_)));
        assert!(matches!(folder.write("../x", released(b"x")).await.unwrap(), Placed::Unsafe(_)));
        // A link in the way is not followed.
        let elsewhere = outer.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("link")).unwrap();
        assert!(matches!(folder.write("link/x", released(b"x")).await.unwrap(), Placed::Occupied(_)));
        std::os::unix::fs::symlink(elsewhere.join("file"), root.join("dangling")).unwrap();
        assert!(matches!(folder.write("dangling", released(b"x")).await.unwrap(), Placed::Occupied(_)));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        // A body that breaks off leaves nothing.
        let broken = futures::stream::iter([Ok(Bytes::from_static(b"half")), Err("gone".into())]).boxed();
        let broken = Released { len: 8, headers: HeaderMap::new(), crc64: None, body: broken };
        assert!(folder.write("broken", broken).await.is_err());
        assert!(!root.join("broken").exists());
        assert_eq!(fs::read(root.join("a/b")).unwrap(), b"one");
        drop(folder);
        let mut left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "d", "dangling", "link"]);
        // What a killed run has left goes with the next one.
        fs::create_dir(root.join(BESIDE)).unwrap();
        fs::write(root.join(BESIDE).join("7"), b"half").unwrap();
        drop(Folder::open(&root, true).unwrap());
        assert!(!root.join(BESIDE).exists());
    }
}
