//! Mistakes in a configuration: collected, never the first one only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file, counted from 1.
    File { path: Arc<Path>, line: usize },
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag, as it is written.
    Flag(String),
}

impl Origin {
    /// Paths in a file are meant from the folder of that file, all others from the working directory.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        match self {
            Self::File { path: file, .. } => file.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path)),
            _ => path.to_owned(),
        }
    }

    /// How a setting would be named in the place where this one came from.
    pub(super) fn spell(&self, key: &str) -> String {
        match self {
            Self::Environment(_) => super::source::variable(key),
            _ => key.to_owned(),
        }
    }

    /// How the setting `key` with the TOML value `value` would be written in the place where this one came from.
    pub(super) fn example(&self, key: &str, value: &str) -> String {
        match self {
            Self::Environment(variable) => format!("{variable}={}", value.trim_matches('"')),
            Self::Flag(_) => format!("{key}={}", value.trim_matches('"')),
            _ => format!("{} = {value}", key.rsplit('.').next().unwrap_or(key)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One mistake: which setting, where it came from, what is wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the setting, such as `backend.endpoint`; empty when the mistake is not about one.
    pub key: String,
    /// `None` where the mistake is that something is missing.
    pub origin: Option<Origin>,
    pub what: String,
    /// What to do next.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.origin) {
            ("", None) => {}
            ("", Some(origin)) => write!(f, "{origin}: ")?,
            (key, None | Some(Origin::Default)) => write!(f, "{key}: ")?,
            (key, Some(origin)) => write!(f, "{key} ({origin}): ")?,
        }
        write!(f, "{}", self.what)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n    -> {}", self.advice) }
    }
}

/// Everything that is wrong with a configuration, in the order in which it was found.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(
        &mut self,
        key: impl Into<String>,
        origin: Option<&Origin>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.0.push(Problem { key: key.into(), origin: origin.cloned(), what: what.into(), advice: advice.into() });
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mistakes one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has one mistake:")?,
            count => write!(f, "the configuration has {count} mistakes:")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
