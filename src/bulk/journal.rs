//! What is done, written down while it is: a file that a run goes on from after it was stopped or killed.
//!
//! JSON lines. The first says whose journal it is; then one for each object that is done, with its outcome, or that failed and has to be
//! tried again; where the work says so, one before it changes an object ([`Intents`]); and now and then a mark: everything up to that key is done. Lines reach the operating system one by one and the disk at
//! marks. A last line without its end is what a death in the middle of a write leaves: it is cut off. There is no secret in it, but there
//! are names, so it is its owner's alone.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use serde::de::DeserializeOwned;

use super::Entry;

/// Of the journal's own form.
const FORMAT: u32 = 1;
/// Lines after which the file is forced to the disk.
const SYNC_LINES: u32 = 256;

/// Whose journal it is. Only the same command, on the same target and with the same options, goes on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub command: String,
    pub target: String,
    /// Those that decide what the work is, not how fast it goes.
    pub options: serde_json::Value,
}

/// An object or version, as the journal names it.
pub type Name = (String, Option<String>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<O> {
    Journal {
        format: u32,
        #[serde(flatten)]
        header: Header,
    },
    Done {
        entry: Entry,
        outcome: O,
    },
    Failed {
        entry: Entry,
    },
    /// It may have been changed, or not.
    Begun {
        entry: Entry,
        note: serde_json::Value,
    },
    /// A value that the command wants to find again.
    Note(serde_json::Value),
    /// Everything up to this key.
    Mark(String),
}

/// Why there can be no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {0} exists already; go on with it with --resume, or take another file")]
    Exists(PathBuf),
    #[error("the journal {path} belongs to another run: {detail}")]
    Foreign { path: PathBuf, detail: String },
    #[error("line {line} of the journal {path} cannot be read: {detail}")]
    Damaged { path: PathBuf, line: u64, detail: String },
    #[error("the journal {0} is in use by another process")]
    InUse(PathBuf),
    #[error("the journal {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// What an earlier run has left to do.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The work goes on behind this key.
    pub mark: Option<String>,
    /// Behind the mark, and done all the same.
    pub done: HashSet<Name>,
    /// To be tried again, wherever they are.
    pub failed: Vec<Entry>,
    /// Begun and not done: what the work had noted before it went about to change them.
    pub begun: Vec<(Entry, serde_json::Value)>,
    pub note: Option<serde_json::Value>,
    /// Objects that are done.
    pub count: u64,
}

/// Writes into the journal from within the work. The lines reach the operating system at once, and the disk with those of the run.
#[derive(Debug, Default)]
pub struct Intents(Option<File>);

impl Intents {
    /// The object is about to be changed. A later run finds the note if nothing else is written of the object.
    ///
    /// # Errors
    /// A journal that cannot be written.
    pub fn begin(&self, entry: &Entry, note: serde_json::Value) -> io::Result<()> {
        let Some(mut file) = self.0.as_ref() else { return Ok(()) };
        let mut text = serde_json::to_vec(&Line::<()>::Begun { entry: entry.clone(), note })?;
        text.push(b'\n');
        // In one piece, at the end of the file: other lines stay whole.
        file.write_all(&text)
    }
}

/// The journal of one run; or none, where nobody wants one.
#[derive(Debug)]
pub struct Journal {
    kept: Option<(File, PathBuf)>,
    unsynced: u32,
}

impl Journal {
    /// Writes nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { kept: None, unsynced: 0 }
    }

    /// Begins a journal.
    ///
    /// # Errors
    /// A file of that name, and whatever keeps one from being made.
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        let file =
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(path).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => JournalError::Exists(path.to_owned()),
                _ => JournalError::Io { path: path.to_owned(), source },
            })?;
        let mut journal = Self::own(file, path)?;
        journal.write(&Line::<()>::Journal { format: FORMAT, header: header.clone() })?;
        journal.sync()?;
        Ok(journal)
    }

    /// Goes on with a journal, or begins it where there is none. `replay` hears every outcome that is written in it.
    ///
    /// # Errors
    /// A journal of another run, one that cannot be read, or that another process writes.
    pub fn resume<O: DeserializeOwned>(
        path: &Path,
        header: &Header,
        mut replay: impl FnMut(&Entry, O),
    ) -> Result<(Self, Earlier), JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let file = match OpenOptions::new().read(true).append(true).open(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Ok((Self::create(path, header)?, Earlier::default()));
            }
            file => file.map_err(io)?,
        };
        let mut journal = Self::own(file, path)?;
        let Some((file, _)) = &mut journal.kept else { return Ok((journal, Earlier::default())) };
        let mut earlier = Earlier::default();
        let (mut good, mut number, mut text) = (0u64, 0u64, Vec::new());
        let mut reader = BufReader::new(&mut *file);
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(io)?;
            if read == 0 || text.last() != Some(&b'\n') {
                break;
            }
            number += 1;
            good += read as u64;
            let damaged = |detail: String| JournalError::Damaged { path: path.to_owned(), line: number, detail };
            let line = serde_json::from_slice::<Line<O>>(&text);
            if number == 1 {
                let foreign = |detail: String| JournalError::Foreign { path: path.to_owned(), detail };
                let Ok(Line::Journal { format, header: found }) = line else {
                    return Err(foreign("it does not begin as a journal does".to_owned()));
                };
                if format != FORMAT || found != *header {
                    let shown = |header: &Header| format!("{} {} {}", header.command, header.target, header.options);
                    return Err(foreign(format!("it says \"{}\" and this is \"{}\"", shown(&found), shown(header))));
                }
                continue;
            }
            match line.map_err(|error| damaged(error.to_string()))? {
                Line::Journal { .. } => return Err(damaged("a second beginning".to_owned())),
                Line::Begun { entry, note } => {
                    earlier.begun.retain(|(begun, _)| !is_same(begun, &entry));
                    earlier.begun.push((entry, note));
                }
                Line::Done { entry, outcome } => {
                    earlier.failed.retain(|failed| !is_same(failed, &entry));
                    earlier.begun.retain(|(begun, _)| !is_same(begun, &entry));
                    earlier.count += 1;
                    replay(&entry, outcome);
                    if earlier.mark.as_ref().is_none_or(|mark| entry.key > *mark) {
                        earlier.done.insert((entry.key, entry.version_id));
                    }
                }
                Line::Failed { entry } => {
                    earlier.failed.retain(|failed| !is_same(failed, &entry));
                    earlier.failed.push(entry);
                }
                Line::Note(note) => earlier.note = Some(note),
                Line::Mark(key) => {
                    earlier.done.retain(|(done, _)| *done > key);
                    earlier.mark = Some(key);
                }
            }
        }
        if number == 0 {
            // The run died before it had written who it was.
            file.set_len(0).map_err(io)?;
            journal.write(&Line::<()>::Journal { format: FORMAT, header: header.clone() })?;
            return Ok((journal, earlier));
        }
        file.set_len(good).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok((journal, earlier))
    }

    fn own(file: File, path: &Path) -> Result<Self, JournalError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { kept: Some((file, path.to_owned())), unsynced: 0 }),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(JournalError::Io { path: path.to_owned(), source }),
        }
    }

    /// What the work writes with.
    pub fn intents(&self) -> Result<Intents, JournalError> {
        let Some((file, path)) = &self.kept else { return Ok(Intents::default()) };
        let file = file.try_clone().map_err(|source| JournalError::Io { path: path.clone(), source })?;
        Ok(Intents(Some(file)))
    }

    /// The object is done, with this outcome.
    pub fn done<O: Serialize>(&mut self, entry: &Entry, outcome: &O) -> Result<(), JournalError> {
        self.write(&Line::Done { entry: entry.clone(), outcome })
    }

    /// The object has to be tried again.
    pub fn failed(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.write(&Line::<()>::Failed { entry: entry.clone() })
    }

    /// Keeps a value for a later run.
    pub fn note(&mut self, note: serde_json::Value) -> Result<(), JournalError> {
        self.write(&Line::<()>::Note(note))?;
        self.sync()
    }

    /// Everything up to this key is done, or has failed and is written down.
    pub fn mark(&mut self, key: &str) -> Result<(), JournalError> {
        self.write(&Line::<()>::Mark(key.to_owned()))?;
        self.sync()
    }

    /// Forces what is written to the disk.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.unsynced = 0;
        let Some((file, path)) = &mut self.kept else { return Ok(()) };
        file.sync_data().map_err(|source| JournalError::Io { path: path.clone(), source })
    }

    fn write<O: Serialize>(&mut self, line: &Line<O>) -> Result<(), JournalError> {
        let Some((file, path)) = &mut self.kept else { return Ok(()) };
        let io = |source| JournalError::Io { path: path.clone(), source };
        let mut text = serde_json::to_vec(line).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        file.write_all(&text).map_err(io)?;
        self.unsynced += 1;
        if self.unsynced >= SYNC_LINES { self.sync() } else { Ok(()) }
    }
}

fn is_same(a: &Entry, b: &Entry) -> bool {
    (&a.key, &a.version_id) == (&b.key, &b.version_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn header(command: &str) -> Header {
        Header {
            command: command.to_owned(),
            target: "s3://bucket/".to_owned(),
            options: serde_json::json!({"all_versions": true}),
        }
    }

    fn entry(key: &str, version: Option<&str>) -> Entry {
        Entry { key: key.to_owned(), version_id: version.map(str::to_owned), is_latest: true, stored_size: 240 }
    }

    /// Keys and outcomes.
    type Heard = Vec<(String, u32)>;

    fn resumed(path: &Path) -> Result<(Journal, Earlier, Heard), JournalError> {
        let mut heard = Vec::new();
        let (journal, earlier) = Journal::resume(path, &header("verify"), |entry, outcome: u32| {
            heard.push((entry.key.clone(), outcome));
        })?;
        Ok((journal, earlier, heard))
    }

    #[test]
    fn a_run_goes_on_where_it_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path, &header("verify")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        journal.note(serde_json::json!(7)).unwrap();
        journal.done(&entry("a", None), &1).unwrap();
        journal.done(&entry("c", Some("v2")), &2).unwrap();
        journal.failed(&entry("b", None)).unwrap();
        journal.failed(&entry("aa", None)).unwrap();
        let intents = journal.intents().unwrap();
        for key in ["a", "c", "d"] {
            intents.begin(&entry(key, Some("v1")), serde_json::json!(key)).unwrap();
        }
        journal.mark("b").unwrap();
        journal.done(&entry("c", Some("v1")), &3).unwrap();
        journal.done(&entry("aa", None), &4).unwrap();
        assert!(matches!(resumed(&path), Err(JournalError::InUse(_))));
        drop((journal, intents));
        // What a death in the middle of a write leaves.
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"done\":{\"entry\":{\"key\":\"d"].concat()).unwrap();

        let (mut journal, earlier, heard) = resumed(&path).unwrap();
        let words: Vec<_> = heard.iter().map(|(key, outcome)| (key.as_str(), *outcome)).collect();
        assert_eq!(words, [("a", 1), ("c", 2), ("c", 3), ("aa", 4)]);
        assert_eq!(earlier.mark.as_deref(), Some("b"));
        assert_eq!((earlier.failed, earlier.count, earlier.note), (vec![entry("b", None)], 4, Some(serde_json::json!(7))));
        let begun: Vec<_> = earlier.begun.iter().map(|(entry, note)| (entry.key.as_str(), note.as_str().unwrap())).collect();
        assert_eq!(begun, [("a", "a"), ("d", "d")]);
        let name = |version: &str| ("c".to_owned(), Some(version.to_owned()));
        assert_eq!(earlier.done, HashSet::from([name("v1"), name("v2")]));
        journal.mark("c").unwrap();
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap(), [&whole[..], b"{\"mark\":\"c\"}\n"].concat());
        let (_, earlier, _) = resumed(&path).unwrap();
        assert_eq!((earlier.mark.as_deref(), earlier.done.len()), (Some("c"), 0));
    }

    #[test]
    fn a_journal_is_not_overwritten_and_not_mistaken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        drop(Journal::create(&path, &header("rewrap")).unwrap());
        assert!(matches!(Journal::create(&path, &header("rewrap")), Err(JournalError::Exists(_))));
        assert!(matches!(resumed(&path), Err(JournalError::Foreign { .. })));
        std::fs::write(&path, "some text\n").unwrap();
        assert!(matches!(resumed(&path), Err(JournalError::Foreign { .. })));

        let path = folder.path().join("other");
        // A journal that there is none of begins; one that died before its first line was whole begins anew.
        for _ in 0..2 {
            let (journal, earlier, heard) = resumed(&path).unwrap();
            assert!(earlier.mark.is_none() && heard.is_empty());
            drop(journal);
            let text = std::fs::read(&path).unwrap();
            std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        }
        drop(resumed(&path).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"done\":1}}\n{{\"mark\":\"a\"}}\n")).unwrap();
        assert!(matches!(resumed(&path), Err(JournalError::Damaged { line: 2, .. })));
    }
}
