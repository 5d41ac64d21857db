//! What a command tells at its end: words for people, or one JSON document whose field names stay.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;

use super::{Ended, Entry};
use crate::keys::Stats;

/// Failures, or findings, that stand in a document; all of them are in the report file.
pub const SHOWN_MAX: usize = 1000;

/// Something that could not be looked at, or done.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub key: Option<String>,
    pub version_id: Option<String>,
    pub detail: String,
}

impl Failure {
    #[must_use]
    pub fn of(entry: &Entry, detail: String) -> Self {
        Self { key: Some(entry.key.clone()), version_id: entry.version_id.clone(), detail }
    }
}

/// How many there were, and the first ones.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Failures {
    pub count: u64,
    pub first: Vec<Failure>,
}

impl Failures {
    pub fn add(&mut self, failure: Failure) {
        self.count += 1;
        if self.first.len() < SHOWN_MAX {
            self.first.push(failure);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Calls to the key service in this run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KeyCalls {
    pub generate: u64,
    pub unwrap: u64,
    pub failed: u64,
}

impl From<Stats> for KeyCalls {
    fn from(stats: Stats) -> Self {
        Self { generate: stats.generate_calls, unwrap: stats.unwrap_calls, failed: stats.failed_calls }
    }
}

/// The document of a command over many objects: what all of them say, and around it what this one does.
#[derive(Debug, Serialize)]
pub struct Document<D> {
    pub command: &'static str,
    pub target: String,
    pub ended: Ended,
    /// Whether counts include those of an earlier run.
    pub resumed: bool,
    /// Of this run.
    pub seconds: f64,
    pub key_calls: KeyCalls,
    pub failures: Failures,
    #[serde(flatten)]
    pub details: D,
}

impl<D> Document<D> {
    /// The lines at the end of a text that every command has.
    pub fn tail(&self, out: &mut impl io::Write) -> io::Result<()> {
        for Failure { key, version_id, detail } in &self.failures.first {
            writeln!(out, "FAILED {}: {detail}", name(key.as_deref().unwrap_or("(the run)"), version_id.as_deref()))?;
        }
        let left_out = self.failures.count - self.failures.first.len() as u64;
        if left_out > 0 {
            writeln!(out, "FAILED {left_out} more")?;
        }
        let KeyCalls { generate, unwrap, failed } = self.key_calls;
        writeln!(out, "key calls: {generate} generate, {unwrap} unwrap, {failed} failed; {:.1} s", self.seconds)?;
        match self.ended {
            Ended::Complete => Ok(()),
            Ended::Interrupted => writeln!(out, "interrupted: go on with the same command and --resume, if there is a journal"),
            Ended::Failed => writeln!(out, "not complete"),
        }
    }
}

/// What a command over many objects counts: the own part of its document.
pub trait Tally: Serialize {
    /// What becomes of an object.
    type Outcome;
    /// A line of the report file.
    type Finding: Serialize;

    /// Counts one outcome. Gives it as a finding where it is one.
    fn add(&mut self, entry: &Entry, outcome: Self::Outcome) -> Option<Self::Finding>;

    /// The last thing before the report: findings in the order of names, since that in which objects were done says nothing.
    fn conclude(&mut self);

    fn has_findings(&self) -> bool;

    /// The lines for people, above those that every command has.
    ///
    /// # Errors
    /// A closed output.
    fn text(document: &Document<Self>, out: &mut impl io::Write) -> io::Result<()>
    where
        Self: Sized;
}

/// A key, and its version where there is one, on a line for people: a name cannot pretend to be another line.
#[must_use]
pub fn name(key: &str, version_id: Option<&str>) -> String {
    let key = key.escape_debug();
    version_id.map_or_else(|| key.to_string(), |version| format!("{key} (version {})", version.escape_debug()))
}

/// A file of JSON lines, one for each finding, as they are found.
pub struct ReportFile(Option<File>);

impl ReportFile {
    /// A new file, its owner's alone; none for no path. `appends`: an earlier run's goes on.
    ///
    /// # Errors
    /// A file of that name, unless it goes on.
    pub fn open(path: Option<&Path>, appends: bool) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let mut options = OpenOptions::new();
        options.append(true).mode(0o600);
        if appends {
            options.create(true)
        } else {
            options.create_new(true)
        };
        options.open(path).map(|file| Self(Some(file)))
    }

    /// Writes one line.
    pub fn line(&mut self, finding: &impl Serialize) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut text = serde_json::to_vec(finding)?;
        text.push(b'\n');
        file.write_all(&text)
    }
}

/// Prints a document.
///
/// # Errors
/// A closed output.
pub fn print_json(document: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)
}
