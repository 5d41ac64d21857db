//! Secrets: how they are held, and what a file must look like before one is read from it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// What stands for a secret wherever one would be printed.
pub(super) const REDACTED: &str = "***";

/// Longest secret file that is read, in bytes.
const FILE_LEN_MAX: u64 = 4096;

/// A secret text: wiped when dropped, `***` when printed, and never serialized.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a secret; the caller has no copy left to wipe.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, for the one place that signs or verifies with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a secret from `path`: UTF-8, one trailing line break dropped, refused when others can read the file.
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        let file = open_file(path)?;
        check_private(&file.metadata()?)?;
        // Room for everything from the start: a buffer that grows leaves unwiped copies behind.
        let mut text = Zeroizing::new(String::with_capacity(FILE_LEN_MAX as usize + 1));
        file.take(FILE_LEN_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_LEN_MAX {
            return Err(FileError::TooLong);
        }
        let kept = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).unwrap_or(&text).len();
        text.truncate(kept);
        if text.is_empty() { Err(FileError::Empty) } else { Ok(Self(text)) }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(REDACTED)
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The library's own message would quote the value.
        String::deserialize(deserializer).map(Self::new).map_err(|_| serde::de::Error::custom("must be a string in quotes"))
    }
}

/// Why a file is not good enough to hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("other users of this machine can read or change the file (mode {mode:04o})")]
    Exposed { mode: u32 },
    #[error("it is not a regular file")]
    NotAFile,
    #[error("the file is empty")]
    Empty,
    #[error("the file is longer than {FILE_LEN_MAX} bytes, so it is not a secret")]
    TooLong,
}

impl FileError {
    /// What the operator should do about it.
    pub fn advice(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Io(_) => format!("check that {path} exists and that this user may read it"),
            Self::Exposed { .. } => format!("chmod 600 {path}"),
            Self::NotAFile => format!("make {path} a regular file"),
            Self::Empty => format!("write the secret into {path}"),
            Self::TooLong => format!("check that {path} is the file you mean"),
        }
    }
}

/// Refuses a file that anybody but its owner can read or change.
///
/// The one exception: a file of root's, when we do not run as root, may also be readable by its group. Service managers hand secrets
/// to unprivileged services in that form (systemd credentials, Kubernetes secrets with a group).
pub fn check_private_file(path: &Path) -> Result<(), FileError> {
    // Opening proves that this user can read it.
    check_private(&open_file(path)?.metadata()?)
}

/// Opens a regular file and nothing else: opening a pipe would wait for its other end.
pub(super) fn open_file(path: &Path) -> Result<File, FileError> {
    let is_file = std::fs::metadata(path)?.is_file();
    if is_file { Ok(File::open(path)?) } else { Err(FileError::NotAFile) }
}

fn check_private(metadata: &Metadata) -> Result<(), FileError> {
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if is_private(mode, metadata.uid(), rustix::process::geteuid().as_raw()) { Ok(()) } else { Err(FileError::Exposed { mode }) }
}

fn is_private(mode: u32, owner: u32, user: u32) -> bool {
    let forbidden = if owner == 0 && user != 0 { 0o037 } else { 0o077 };
    mode & forbidden == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn written(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn one_trailing_line_break_is_dropped() {
        for (content, kept) in [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), ("abc\n\n", "abc\n"), (" a b ", " a b ")] {
            let (_folder, path) = written(content.as_bytes(), 0o600);
            assert_eq!(Secret::from_file(&path).unwrap().expose(), kept);
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_change_is_refused() {
        for mode in [0o640, 0o604, 0o620, 0o602, 0o666, 0o777] {
            let (_folder, path) = written(b"abc", mode);
            let error = Secret::from_file(&path).unwrap_err();
            assert!(matches!(error, FileError::Exposed { mode: found } if found == mode), "{mode:o}");
            assert_eq!(error.advice(&path), format!("chmod 600 {}", path.display()));
        }
        for mode in [0o600, 0o400, 0o700] {
            let (_folder, path) = written(b"abc", mode);
            assert!(Secret::from_file(&path).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn a_file_of_root_may_let_the_group_of_a_service_read() {
        assert!(is_private(0o440, 0, 990));
        assert!(is_private(0o640, 0, 990));
        assert!(!is_private(0o660, 0, 990));
        assert!(!is_private(0o444, 0, 990));
        assert!(!is_private(0o440, 0, 0));
        assert!(!is_private(0o440, 990, 990));
    }

    #[test]
    fn what_cannot_hold_a_secret_is_refused() {
        let (folder, path) = written(b"\n", 0o600);
        assert!(matches!(Secret::from_file(&path), Err(FileError::Empty)));
        assert!(matches!(Secret::from_file(folder.path()), Err(FileError::NotAFile)));
        assert!(matches!(Secret::from_file(&folder.path().join("none")), Err(FileError::Io(_))));
        let (_folder, path) = written(&[b'a'; 5000], 0o600);
        assert!(matches!(Secret::from_file(&path), Err(FileError::TooLong)));
    }

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("hunter2hunter2".into());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
    }
}
