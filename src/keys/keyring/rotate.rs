//! What an operator does with a keyring file: look at it, add a version, make another version the primary one.
//!
//! The text is changed where it must be and nowhere else, so comments and old entries stay as they are. The changed file is read again
//! by every rule before it takes the place of the old one, by one rename: whoever opens the name finds the one or the other, whole.

use super::{KeyringError, KeyringFile, beside, folder_of, hex, mask, read_private, today};
use crate::keys::{Label, OsRandom, Random};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use zeroize::Zeroizing;

/// What a keyring file holds, without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub label: Label,
    /// The version that wraps new objects.
    pub primary: u32,
    /// In the order of their numbers.
    pub versions: Vec<Version>,
}

/// One master key, by what is not secret of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub number: u32,
    /// RFC 3339, as the file has it.
    pub created: String,
}

/// How a keyring is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A fresh version, which is the primary one at once.
    Fresh,
    /// A fresh version that only unwraps, until it is promoted.
    FreshToPromoteLater,
    /// A version that is there becomes the primary one.
    Promote(u32),
}

/// What a rotation has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// The version that was added.
    pub added: Option<u32>,
    /// The primary version before.
    pub was: u32,
    /// The primary version now.
    pub primary: u32,
}

impl Listed {
    /// Reads a keyring file.
    ///
    /// # Errors
    /// As loading it, but for its label, which may be any.
    pub fn of(path: &Path) -> Result<Self, KeyringError> {
        Ok(Self::new(&read(path)?.1))
    }

    fn new(file: &KeyringFile) -> Self {
        let mut versions: Vec<_> =
            file.keys.iter().map(|entry| Version { number: entry.version, created: entry.created.clone() }).collect();
        versions.sort_by_key(|version| version.number);
        let label = Label::new(file.label.as_str()).expect("read() has checked the label");
        Self { label, primary: *file.primary.get_ref(), versions }
    }
}

impl super::Keyring {
    /// Rotates a keyring file, whole or not at all. Mode and owner of the file stay, old versions too. A link stays one; what it leads to
    /// is changed.
    ///
    /// # Errors
    /// A file that is no keyring, a version that is not in it, a place that cannot be written, or another change that is under way. The
    /// file is then as it was.
    pub fn rotate(path: &Path, next: Next) -> Result<Rotated, KeyringError> {
        let io = |doing| move |source| KeyringError::Io { path: path.into(), doing, source };
        let place = fs::canonicalize(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => KeyringError::Missing(path.into()),
            _ => io("found")(e),
        })?;
        // Two rotations at one time would make two keys of one number. The folder is what stays the same when the file is replaced.
        let folder = File::open(folder_of(&place)).map_err(io("locked"))?;
        folder.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => KeyringError::Busy(path.into()),
            TryLockError::Error(e) => io("locked")(e),
        })?;
        let (text, file) = read(&place)?;
        let before = Listed::new(&file);
        let (changed, rotated) = change(path, &text, &file, &before, next)?;
        if rotated.added.is_none() && rotated.was == rotated.primary {
            return Ok(rotated);
        }
        let refuse = |reason: String| KeyringError::NotRewritten { path: path.into(), reason };
        let after = KeyringFile::read(&changed).map_err(|reason| refuse(mask(&reason)))?;
        if !is_expected(&file, &after, rotated) {
            return Err(refuse("the changed text would not mean what it should".to_owned()));
        }
        replace(&place, &changed)?;
        folder.sync_all().map_err(io("synced to disk"))?;
        Ok(rotated)
    }
}

fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, KeyringFile), KeyringError> {
    let text = read_private(path)?;
    let file = KeyringFile::read(&text).map_err(|reason| KeyringError::Malformed { path: path.into(), reason: mask(&reason) })?;
    Ok((text, file))
}

/// The text of the file as it will be.
fn change(
    path: &Path,
    text: &[u8],
    file: &KeyringFile,
    before: &Listed,
    next: Next,
) -> Result<(Zeroizing<Vec<u8>>, Rotated), KeyringError> {
    let was = before.primary;
    let newest = before.versions.last().map_or(0, |version| version.number);
    let fresh = || {
        let reason = || "there is no number left for another version".to_owned();
        newest.checked_add(1).ok_or_else(|| KeyringError::NotRewritten { path: path.into(), reason: reason() })
    };
    let (added, primary) = match next {
        Next::Fresh => fresh().map(|number| (Some(number), number))?,
        Next::FreshToPromoteLater => (Some(fresh()?), was),
        Next::Promote(version) if before.versions.iter().any(|listed| listed.number == version) => (None, version),
        Next::Promote(version) => return Err(KeyringError::NoVersion { path: path.into(), version }),
    };
    let mut entry = Zeroizing::new(String::new());
    if let Some(version) = added {
        let mut secret = Zeroizing::new([0u8; 32]);
        OsRandom.fill(&mut *secret).map_err(KeyringError::NoRandomness)?;
        let line_end = if text.ends_with(b"\n") { "" } else { "\n" };
        entry = Zeroizing::new(format!(
            "{line_end}\n[[keys]]\nversion = {version}\ncreated = \"{}\"\nsecret = \"{}\"\n",
            today(),
            *hex(&*secret)
        ));
    }
    let (span, number) = (file.primary.span(), primary.to_string());
    // Room for all of it at once: a growing buffer would leave unwiped copies behind.
    let mut changed = Zeroizing::new(Vec::with_capacity(text.len() + number.len() + entry.len()));
    changed.extend_from_slice(&text[..span.start]);
    changed.extend_from_slice(number.as_bytes());
    changed.extend_from_slice(&text[span.end..]);
    changed.extend_from_slice(entry.as_bytes());
    Ok((changed, Rotated { added, was, primary }))
}

/// Whether every old key is still there, and nothing but the new one besides.
fn is_expected(before: &KeyringFile, after: &KeyringFile, rotated: Rotated) -> bool {
    let kept = after.keys.iter().zip(&before.keys).all(|(new, old)| {
        new.version == old.version
            && new.created == old.created
            && bool::from(subtle::ConstantTimeEq::ct_eq(&new.secret.0[..], &old.secret.0[..]))
    });
    let more: Vec<_> = after.keys.iter().skip(before.keys.len()).map(|entry| entry.version).collect();
    kept && after.keys.len() >= before.keys.len()
        && more == rotated.added.into_iter().collect::<Vec<_>>()
        && after.label == before.label
        && *after.primary.get_ref() == rotated.primary
}

/// Puts a new file in the place of an old one, with its mode and its owner.
fn replace(place: &Path, content: &[u8]) -> Result<(), KeyringError> {
    let io = |doing| move |source| KeyringError::Io { path: place.into(), doing, source };
    let old = fs::metadata(place).map_err(io("examined"))?;
    let temporary = beside(place)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io("created"))?;
        let new = file.metadata().map_err(io("examined"))?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // Before anything secret is in it.
            fchown(&file, Some(old.uid()), Some(old.gid())).map_err(io("given to its owner"))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777)).map_err(io("given its mode"))?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(io("written"))?;
        fs::rename(&temporary, place).map_err(io("put in place"))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::super::Keyring;
    use super::*;
    use crate::keys::{KeyContext, KeyProvider, fingerprint};
    use std::path::PathBuf;

    fn label() -> Label {
        "k1".parse().unwrap()
    }

    fn made() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.toml");
        Keyring::create(&path, &label()).unwrap();
        (dir, path)
    }

    fn numbers(path: &Path) -> (u32, Vec<u32>) {
        let listed = Listed::of(path).unwrap();
        (listed.primary, listed.versions.iter().map(|version| version.number).collect())
    }

    #[tokio::test]
    async fn a_rotated_keyring_opens_what_it_did_and_wraps_with_the_new_version() {
        let (_dir, path) = made();
        let context = KeyContext::for_scope("s");
        let old = Keyring::load(&path, &label()).unwrap().generate(&label(), &context).await.unwrap();
        assert_eq!(Keyring::rotate(&path, Next::Fresh).unwrap(), Rotated { added: Some(2), was: 1, primary: 2 });
        assert_eq!(numbers(&path), (2, vec![1, 2]));
        let after = Keyring::load(&path, &label()).unwrap();
        let again = after.unwrap(&label(), &context, &old.blob).await.unwrap();
        assert_eq!(fingerprint(&again), fingerprint(&old.kek));
        let new = after.generate(&label(), &context).await.unwrap();
        assert_eq!((old.blob[1..5].to_vec(), new.blob[1..5].to_vec()), (vec![0, 0, 0, 1], vec![0, 0, 0, 2]));
    }

    #[test]
    fn a_version_is_added_first_and_promoted_later() {
        let (_dir, path) = made();
        assert_eq!(Keyring::rotate(&path, Next::FreshToPromoteLater).unwrap(), Rotated { added: Some(2), was: 1, primary: 1 });
        assert_eq!(numbers(&path), (1, vec![1, 2]));
        let added = fs::read_to_string(&path).unwrap();
        assert_eq!(Keyring::rotate(&path, Next::Promote(2)).unwrap(), Rotated { added: None, was: 1, primary: 2 });
        assert_eq!(fs::read_to_string(&path).unwrap(), added.replace("primary = 1\n", "primary = 2\n"));
        // Back again is possible, and what is so already changes nothing.
        assert_eq!(Keyring::rotate(&path, Next::Promote(1)).unwrap().primary, 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), added);
        let inode = fs::metadata(&path).unwrap().ino();
        Keyring::rotate(&path, Next::Promote(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert!(matches!(Keyring::rotate(&path, Next::Promote(3)), Err(KeyringError::NoVersion { version: 3, .. })));
    }

    #[test]
    fn mode_comments_and_links_stay() {
        let (dir, path) = made();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let before = fs::read_to_string(&path).unwrap();
        Keyring::rotate(&link, Next::Fresh).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o400);
        let after = fs::read_to_string(&path).unwrap();
        assert!(after.starts_with(&before.replace("primary = 1", "primary = 2")), "{after}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn numbers_are_behind_the_highest_wherever_it_stands() {
        let (_dir, path) = made();
        let text =
            fs::read_to_string(&path).unwrap().replace("version = 1", "version = 7").replace("primary = 1", "primary=7 # now");
        fs::write(&path, text.trim_end()).unwrap();
        assert_eq!(Keyring::rotate(&path, Next::Fresh).unwrap(), Rotated { added: Some(8), was: 7, primary: 8 });
        assert_eq!(numbers(&path), (8, vec![7, 8]));
        assert!(fs::read_to_string(&path).unwrap().contains("primary=8 # now"));
        let text = fs::read_to_string(&path).unwrap().replace("version = 8", &format!("version = {}", u32::MAX));
        fs::write(&path, text.replace("primary=8", "primary=7")).unwrap();
        assert!(matches!(Keyring::rotate(&path, Next::Fresh), Err(KeyringError::NotRewritten { .. })));
    }

    #[test]
    fn what_cannot_be_rewritten_stays_as_it_was() {
        let (dir, path) = made();
        let made = fs::read_to_string(&path).unwrap();
        // Keys on one line: a table cannot follow them.
        let secret = made.split("secret = \"").nth(1).unwrap().split('"').next().unwrap();
        let inline = format!(
            "format = 1\nlabel = \"k1\"\nprimary = 1\nkeys = [{{ version = 1, created = \"2026-01-02T03:04:05Z\", secret = \"{secret}\" }}]\n"
        );
        fs::write(&path, &inline).unwrap();
        let refusal = Keyring::rotate(&path, Next::Fresh).unwrap_err();
        assert!(matches!(refusal, KeyringError::NotRewritten { .. }), "{refusal}");
        assert!(!refusal.to_string().contains(secret));
        assert_eq!(fs::read_to_string(&path).unwrap(), inline);
        // Another rotation is under way.
        fs::write(&path, &made).unwrap();
        let folder = File::open(dir.path()).unwrap();
        folder.try_lock().unwrap();
        assert!(matches!(Keyring::rotate(&path, Next::Fresh), Err(KeyringError::Busy(_))));
        drop(folder);
        // Others could read it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keyring::rotate(&path, Next::Fresh), Err(KeyringError::TooOpen { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), made);
        assert!(matches!(Keyring::rotate(&dir.path().join("none"), Next::Fresh), Err(KeyringError::Missing(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
