//! Where settings come from: a TOML file, then the environment, then flags, each overriding the one before.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::problem::{Origin, Problems};
use super::secret;

/// What every environment variable of ours begins with.
const PREFIX: &str = "CIPHERGATE_";
/// Variables with the prefix that are no settings: the file's own name, the development command's, and those of tests and benchmarks.
const NO_SETTING: &[&str] = &["CONFIG", "DEV_", "TEST_", "BENCH_", "BIN", "CACHE", "PYTHON", "PYTEST", "LOCALSTACK_TLS"];
/// Whether the section at this path is a list.
fn is_list(path: &[&str]) -> bool {
    matches!(path, ["keys" | "clients"] | ["buckets", _, "prefixes"])
}

/// Longest configuration file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// One setting from a flag.
#[derive(Debug)]
pub struct Override {
    /// The flag as it is written, for messages.
    pub flag: String,
    /// Path of the setting, such as `listen.address` or `keys.0.label`.
    pub key: String,
    /// The value as text, without quotes.
    pub value: String,
}

/// Everything that a configuration is read from.
#[derive(Default)]
pub struct Sources {
    document: Option<Document>,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<Override>,
}

enum Document {
    File(PathBuf),
    Text { name: PathBuf, text: Zeroizing<String> },
}

impl Sources {
    /// No file: the environment and flags must say everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with a TOML file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { document: Some(Document::File(path.into())), ..Self::default() }
    }

    /// Begins with TOML text that a program made; `name` stands for it in messages.
    pub fn text(name: impl Into<PathBuf>, text: String) -> Self {
        Self { document: Some(Document::Text { name: name.into(), text: Zeroizing::new(text) }), ..Self::default() }
    }

    /// Adds this process's environment.
    pub fn process_environment(self) -> Self {
        self.environment(std::env::vars_os())
    }

    /// Adds environment variables; those without our prefix are passed over.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Adds flags; a later one wins.
    pub fn flags(mut self, flags: impl IntoIterator<Item = Override>) -> Self {
        self.flags.extend(flags);
        self
    }

    /// Reads the document into `text`, which the settings borrow from.
    pub(super) fn document(&mut self, problems: &mut Problems) -> FileText {
        match self.document.take() {
            Some(Document::File(path)) => FileText::read(&path, problems),
            Some(Document::Text { name, text }) => FileText { path: name.into(), text, is_private: true },
            None => FileText { path: Path::new("").into(), text: Zeroizing::default(), is_private: true },
        }
    }

    /// Puts the environment and the flags over what the document said.
    pub(super) fn overlay(self, tree: &mut Tree<'_>, problems: &mut Problems) {
        let mut variables: Vec<_> = self.environment;
        variables.sort_by_cached_key(|(name, value)| (by_number(&name.to_string_lossy()), value.clone()));
        for (name, value) in variables {
            let name = name.to_string_lossy();
            let Some(path) = name.strip_prefix(PREFIX).filter(|path| is_setting(path)) else { continue };
            let origin = Origin::Environment(format!("{PREFIX}{path}"));
            match value.into_string() {
                Ok(value) => tree.set(&path.to_lowercase().split("__").collect::<Vec<_>>(), value, origin, problems),
                Err(_) => problems.add("", Some(&origin), "the value is not UTF-8", "write it in UTF-8"),
            }
        }
        for Override { flag, key, value } in self.flags {
            match key_path(&key) {
                Some(path) => tree.set(&path.iter().map(String::as_str).collect::<Vec<_>>(), value, Origin::Flag(flag), problems),
                None => problems.add(
                    "",
                    Some(&Origin::Flag(flag)),
                    format!("`{key}` is not the path of a setting"),
                    "write it like listen.address",
                ),
            }
        }
    }
}

/// An order of variables in which the tenth entry of a list comes after the second.
fn by_number(name: &str) -> Vec<(usize, String)> {
    name.split("__").map(|part| (part.parse().unwrap_or(usize::MAX), part.to_owned())).collect()
}

/// The environment variable that sets `key`.
pub(super) fn variable(key: &str) -> String {
    let path = key.replace(['[', '.'], "__").replace([']', '"'], "");
    format!("{PREFIX}{}", path.to_uppercase())
}

/// Whether a variable (without its prefix) means a setting. Kubernetes puts CIPHERGATE_PORT, CIPHERGATE_SERVICE_HOST and the like
/// into every container beside a service of our name.
fn is_setting(name: &str) -> bool {
    let ours = NO_SETTING.iter().any(|other| name == *other || (other.ends_with('_') && name.starts_with(other)));
    let kubernetes = name == "PORT"
        || (!name.contains("__") && ["PORT_", "SERVICE_HOST", "SERVICE_PORT"].iter().any(|start| name.starts_with(start)));
    !ours && !kubernetes
}

/// Splits `buckets."a.b".scope` as TOML does.
fn key_path(key: &str) -> Option<Vec<String>> {
    let text = format!("{} = 0", key.replace(['\n', '\r', '#', '='], " "));
    let mut table = DeTable::parse(&text).ok()?.into_inner();
    let mut path = Vec::new();
    loop {
        let (name, value) = std::mem::take(&mut table).into_iter().next()?;
        path.push(name.into_inner().into_owned());
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

/// Joins a section and a name to a path as it is shown and looked up, quoted where TOML wants it.
pub(super) fn join(section: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if bare { Cow::Borrowed(name) } else { Cow::Owned(format!("{name:?}")) };
    if section.is_empty() { name.into_owned() } else { format!("{section}.{name}") }
}

/// The text of a configuration file, wiped when dropped: it may hold secrets.
pub(super) struct FileText {
    pub path: Arc<Path>,
    text: Zeroizing<String>,
    /// Whether secrets may stand in it.
    is_private: bool,
}

impl FileText {
    /// Reads a file; a file that cannot be read counts as empty and as one mistake.
    pub fn read(path: &Path, problems: &mut Problems) -> Self {
        let mut found = Self { path: path.into(), text: Zeroizing::default(), is_private: true };
        let read = File::open(path).and_then(|file| {
            let length = file.metadata()?.len();
            found.text.reserve_exact(length.min(FILE_LEN_MAX) as usize + 1);
            file.take(FILE_LEN_MAX + 1).read_to_string(&mut found.text)
        });
        match read {
            Ok(length) if length as u64 > FILE_LEN_MAX => {
                problems.add(
                    "",
                    None,
                    format!("{} is longer than {FILE_LEN_MAX} bytes", path.display()),
                    "check that it is the file you mean",
                );
                found.text.clear();
            }
            Ok(_) => found.is_private = secret::check_private_file(path).is_ok(),
            Err(error) => problems.add(
                "",
                None,
                format!("{} cannot be read: {error}", path.display()),
                "check the path and that this user may read it",
            ),
        }
        found
    }

    /// Parses the text; every syntax error is a mistake of its own.
    pub fn parse(&self, problems: &mut Problems) -> Tree<'_> {
        let (table, mut errors) = DeTable::parse_recoverable(&self.text);
        let tree = Tree { table: table.into_inner(), file: self, overrides: HashMap::new() };
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        for error in &errors {
            // The error's own Display quotes the line, which may hold a secret.
            let origin = error.span().map(|span| tree.line(span));
            problems.add(
                "",
                origin.as_ref(),
                format!("this is not TOML: {}", error.message()),
                "mend the line; other mistakes may show afterwards",
            );
        }
        tree
    }
}

/// All settings as they were written, with the place that each came from.
pub(super) struct Tree<'a> {
    pub table: DeTable<'a>,
    file: &'a FileText,
    overrides: HashMap<String, Origin>,
}

impl<'a> Tree<'a> {
    /// Takes the table away, leaving what can say where its entries came from.
    pub fn take_table(&mut self) -> DeTable<'a> {
        std::mem::take(&mut self.table)
    }

    /// Where the value at `key` came from; `span` is its place in the file, unless it was overridden.
    pub fn origin(&self, key: &str, span: Range<usize>) -> Origin {
        self.overrides.get(key).cloned().unwrap_or_else(|| self.line(span))
    }

    /// Whether a secret that came from `origin` stood where nobody else could read it, or what to say if not.
    pub fn secret_exposed(&self, origin: &Origin) -> Option<(&'static str, String)> {
        match origin {
            Origin::File { path, .. } if !self.file.is_private => Some((
                "a secret stands in a file that other users of this machine can read or change",
                format!("chmod 600 {}, or move the secret to a file of its own", path.display()),
            )),
            Origin::Flag(_) => Some((
                "a secret on the command line can be seen by every user of this machine",
                "use the setting of the same name that ends with _file".to_owned(),
            )),
            _ => None,
        }
    }

    fn line(&self, span: Range<usize>) -> Origin {
        let before = self.file.text.get(..span.start).unwrap_or_default();
        Origin::File { path: self.file.path.clone(), line: before.bytes().filter(|b| *b == b'\n').count() + 1 }
    }

    /// Puts one value in place, making the sections on the way.
    fn set(&mut self, path: &[&str], value: String, origin: Origin, problems: &mut Problems) {
        let (mut table, mut key) = (&mut self.table, String::new());
        let mut names = path;
        loop {
            let done = path.len() - names.len();
            match names {
                [list, index, rest @ ..] if is_list(&path[..=done]) => {
                    let made = || Spanned::new(0..0, DeValue::Array(Default::default()));
                    key = join(&key, list);
                    let entry = table.entry(spanned_key(list)).or_insert_with(made);
                    // A list in the file that is none is found when the list is read.
                    let DeValue::Array(entries) = entry.get_mut() else { return };
                    let count = entries.len();
                    let Some(index) = index.parse::<usize>().ok().filter(|index| *index <= count) else {
                        let what = format!("`{index}` is no entry of {key}, which has {count}");
                        return problems.add(key, Some(&origin), what, format!("use 0 to {count}; {count} adds an entry"));
                    };
                    key = format!("{key}[{index}]");
                    if index == count {
                        entries.push(Spanned::new(0..0, DeValue::Table(DeTable::new())));
                        self.overrides.insert(key.clone(), origin.clone());
                    }
                    match entries.get_mut(index).map(Spanned::get_mut) {
                        Some(DeValue::Table(inner)) => (table, names) = (inner, rest),
                        // An entry of another kind is found when the list is read.
                        _ => return,
                    }
                }
                [name, rest @ ..] if !rest.is_empty() => {
                    key = join(&key, name);
                    if !table.contains_key(*name) {
                        self.overrides.insert(key.clone(), origin.clone());
                    }
                    let entry = table.entry(spanned_key(name)).or_insert(Spanned::new(0..0, DeValue::Table(DeTable::new())));
                    match entry.get_mut() {
                        DeValue::Table(inner) => (table, names) = (inner, rest),
                        _ => return problems.add(key, Some(&origin), "this is not a section", "check the path"),
                    }
                }
                _ => break,
            }
        }
        let [last] = names else {
            return problems.add(key, Some(&origin), "this is a section, not a setting", "name one of its settings");
        };
        key = join(&key, last);
        if matches!(table.get(*last).map(Spanned::get_ref), Some(DeValue::Table(_) | DeValue::Array(_))) {
            return problems.add(key, Some(&origin), "this is a section, not a setting", "name one of its settings");
        }
        table.insert(spanned_key(last), Spanned::new(0..0, DeValue::String(Cow::Owned(value))));
        self.overrides.insert(key, origin);
    }
}

fn spanned_key<'a>(name: &str) -> Spanned<Cow<'a, str>> {
    Spanned::new(0..0, Cow::Owned(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_their_variables() {
        assert_eq!(key_path("listen.address").unwrap(), ["listen", "address"]);
        assert_eq!(key_path("buckets.\"a.b\".scope").unwrap(), ["buckets", "a.b", "scope"]);
        assert!(key_path("").is_none() && key_path("a..b").is_none() && key_path("a b").is_none());
        assert_eq!(join(&join("buckets", "a.b"), "scope"), "buckets.\"a.b\".scope");
        assert_eq!(variable("backend.endpoint"), "CIPHERGATE_BACKEND__ENDPOINT");
        assert_eq!(variable("keys[0].key_arn"), "CIPHERGATE_KEYS__0__KEY_ARN");
    }

    #[test]
    fn entries_are_added_in_the_order_of_their_numbers() {
        let mut names = ["KEYS__10__LABEL", "KEYS__2__LABEL", "KEYS__2__KIND", "KEYS__0__LABEL", "BACKEND__REGION"];
        names.sort_by_cached_key(|name| by_number(name));
        assert_eq!(names, ["BACKEND__REGION", "KEYS__0__LABEL", "KEYS__2__KIND", "KEYS__2__LABEL", "KEYS__10__LABEL"]);
    }

    #[test]
    fn variables_that_are_no_settings() {
        for name in NO_SETTING.iter().copied().chain([
            "DEV_ACCESS_KEY",
            "TEST_BACKEND",
            "BENCH_GIB",
            "PORT",
            "PORT_9000_TCP",
            "SERVICE_HOST",
            "SERVICE_PORT_S3",
        ]) {
            assert!(!is_setting(name), "{name}");
        }
        for name in
            ["CONFIGURATION", "LISTEN__ADDRESS", "BACKEND_ENDPOINT", "CLIENTS_FILE", "PORT__X", "BINARY", "TEST", "SERVICE"]
        {
            assert!(is_setting(name), "{name}");
        }
    }
}
