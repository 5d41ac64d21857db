//! One setting, one section, and how they are read: every value on its own, so that every mistake is found in one go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::problem::{Origin, Problems};
use super::secret::{REDACTED, Secret};
use super::source::{Tree, join};
use super::values::*;

/// What can be the value of a setting.
pub trait Value: DeserializeOwned {
    /// Whether the value must never be shown, nor come from a place that others can see.
    const SECRET: bool = false;
    /// Whether the value is not shown.
    const HIDDEN: bool = Self::SECRET;
}

impl Value for bool {}
impl Value for String {}
impl Value for PathBuf {}
impl Value for SocketAddr {}
impl Value for Suite {}
impl Value for KeyMode {}
impl Value for Access {}
impl Value for AwsClientUse {}
impl Value for KeyKind {}
impl Value for LogFormat {}
impl Value for UploadChecksum {}
impl Value for LogLevel {}
impl Value for Label {}
impl Value for Scope {}
impl Value for KeyPrefix {}
impl Value for BucketName {}
impl Value for StatePrefix {}
impl Value for AccessKeyId {}
impl Value for ClientName {}
impl Value for Region {}
impl Value for KeyArn {}
impl Value for KeyAlias {}
impl Value for RoleArn {}
impl Value for SessionName {}
impl Value for ExternalId {
    const HIDDEN: bool = true;
}
impl Value for Vec<Replica> {}
impl Value for Endpoint {}
impl Value for MountPath {}
impl Value for TransitKeyName {}
impl Value for Vec<Domain> {}
impl<const MIN: u64, const MAX: u64> Value for Whole<MIN, MAX> {}
impl Value for Secret {
    const SECRET: bool = true;
}

/// One setting as it was read.
#[derive(Debug)]
pub struct Setting<T> {
    /// Its path, such as `backend.endpoint`.
    pub key: String,
    /// Where it came from; `None` when nobody set it and there is no default.
    pub origin: Option<Origin>,
    /// Where its section begins; `None` when nobody wrote the section.
    pub section: Option<Origin>,
    /// `None` when it is not set, or was set to something that has been reported as a mistake.
    pub value: Option<T>,
}

impl<T> Setting<T> {
    /// Whether somebody set it, rightly or wrongly.
    pub fn is_given(&self) -> bool {
        !matches!(self.origin, None | Some(Origin::Default))
    }

    /// The value, or a mistake when nobody set it.
    pub fn need(&self, problems: &mut Problems, advice: &str) -> Option<T>
    where
        T: Clone,
    {
        if self.origin.is_none() {
            self.refuse(problems, "this setting is missing", advice);
        }
        self.value.clone()
    }

    /// Reports that the value, or its absence, does not fit with others.
    pub fn refuse(&self, problems: &mut Problems, what: impl Into<String>, advice: impl Into<String>) {
        problems.add(self.key.clone(), self.origin.as_ref().or(self.section.as_ref()), what, advice);
    }
}

/// What the reference says about one setting.
pub struct Item {
    pub name: &'static str,
    pub doc: &'static [&'static str],
    pub sample: Sample,
}

/// A value for the reference, as TOML.
#[derive(Clone, Copy)]
pub enum Sample {
    /// The value when nobody sets it.
    Default(&'static str),
    /// There is none, and somebody must set it.
    Required(&'static str),
    /// There is none, and it may be left out.
    Optional(&'static str),
    /// There is none, and it is another way to say what the settings before it say: not both.
    Instead(&'static str),
}

impl Sample {
    /// The value as TOML.
    pub fn toml(self) -> &'static str {
        let (Self::Default(text) | Self::Required(text) | Self::Optional(text) | Self::Instead(text)) = self;
        text
    }
}

/// What the reference says about one section.
pub struct About {
    /// Empty for what stands above all sections.
    pub name: &'static str,
    pub doc: &'static [&'static str],
    pub items: &'static [Item],
}

impl About {
    /// Section `S` under the name `name`.
    pub const fn of<S: Section>(name: &'static str) -> Self {
        Self { name, doc: S::DOC, items: S::ITEMS }
    }
}

/// A group of settings.
pub trait Section: Sized {
    const DOC: &'static [&'static str];
    const ITEMS: &'static [Item];

    /// Takes each setting out of the group.
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self;
}

/// Declares a section: the comments are the reference's text, the values its defaults and examples.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident { $($(#[doc = $doc:literal])* $field:ident: $value:ty, $sample:ident = $text:literal;)* }) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        pub struct $name { $($(#[doc = $doc])* pub $field: Setting<$value>,)* }

        impl Section for $name {
            const DOC: &'static [&'static str] = &[$($about),*];
            const ITEMS: &'static [Item] =
                &[$(Item { name: stringify!($field), doc: &[$($doc),*], sample: Sample::$sample($text) }),*];

            fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
                Self { $($field: fields.take(stringify!($field), Sample::$sample($text)),)* }
            }
        }
    };
}
pub(super) use section;

/// A section as it is in effect, for printing.
#[derive(Debug)]
pub(super) struct Shown {
    pub heading: String,
    /// Name, value as TOML (secrets redacted) and origin.
    pub lines: Vec<(&'static str, String, Origin)>,
}

/// Reads sections out of a tree.
pub struct Reader<'r, 'a> {
    tree: &'r Tree<'a>,
    problems: &'r mut Problems,
    shown: Vec<Shown>,
    sections: &'static [About],
}

impl<'r, 'a> Reader<'r, 'a> {
    /// `sections` are all that exist, for suggestions.
    pub(super) fn new(tree: &'r Tree<'a>, problems: &'r mut Problems, sections: &'static [About]) -> Self {
        Self { tree, problems, shown: Vec::new(), sections }
    }

    pub(super) fn into_shown(self) -> Vec<Shown> {
        self.shown
    }

    /// `[name]`
    pub(super) fn section<S: Section>(&mut self, root: &mut DeTable<'a>, name: &str) -> S {
        let (table, origin) = match root.remove(name).and_then(|value| self.table(value, name)) {
            Some((table, origin)) => (table, Some(origin)),
            None => (DeTable::new(), None),
        };
        self.fields(table, name, origin, format!("[{name}]"))
    }

    /// `[[name]]`
    pub(super) fn list<S: Section>(&mut self, root: &mut DeTable<'a>, name: &str) -> Vec<S> {
        self.list_below(root, "", name)
    }

    /// `[[section.name]]`
    fn list_below<S: Section>(&mut self, table: &mut DeTable<'a>, section: &str, name: &str) -> Vec<S> {
        let Some(value) = table.remove(name) else { return Vec::new() };
        let name = &join(section, name);
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(entries) => {
                let entries = entries.into_iter().enumerate();
                entries
                    .filter_map(|(index, entry)| {
                        let key = format!("{name}[{index}]");
                        let (table, origin) = self.table(entry, &key)?;
                        Some(self.fields(table, &key, Some(origin), format!("[[{name}]]")))
                    })
                    .collect()
            }
            _ => {
                let origin = self.tree.origin(name, span);
                self.problems.add(
                    name,
                    Some(&origin),
                    "this must be a list of sections",
                    format!("write [[{name}]] above each entry"),
                );
                Vec::new()
            }
        }
    }

    /// `[name."entry"]`, each with any number of `[[name."entry".list]]`.
    pub(super) fn map<S: Section, L: Section>(
        &mut self,
        root: &mut DeTable<'a>,
        name: &str,
        list: &str,
    ) -> BTreeMap<String, (S, Vec<L>)> {
        let Some((table, _)) = root.remove(name).and_then(|value| self.table(value, name)) else { return BTreeMap::new() };
        let entries = table.into_iter().map(|(entry, value)| (entry.into_inner().into_owned(), value));
        entries
            .filter_map(|(entry, value)| {
                let key = join(name, &entry);
                let (mut table, origin) = self.table(value, &key)?;
                let at = self.shown.len();
                let entries = self.list_below(&mut table, &key, list);
                let section = self.fields(table, &key, Some(origin), format!("[{key}]"));
                // As they would be written: the entries of the list below.
                self.shown[at..].rotate_right(1);
                Some((entry, (section, entries)))
            })
            .collect()
    }

    /// What stands above all sections. Comes last: whatever is left is unknown.
    pub(super) fn top<S: Section>(&mut self, root: DeTable<'a>) -> S {
        let top = self.fields(root, "", None, String::new());
        self.shown.rotate_right(1);
        top
    }

    fn table(&mut self, value: Spanned<DeValue<'a>>, key: &str) -> Option<(DeTable<'a>, Origin)> {
        let origin = self.tree.origin(key, value.span());
        match value.into_inner() {
            DeValue::Table(table) => Some((table, origin)),
            _ => {
                let advice = format!("write [{key}] and its settings below it");
                self.problems.add(key, Some(&origin), "this must be a section", advice);
                None
            }
        }
    }

    fn fields<S: Section>(&mut self, table: DeTable<'a>, key: &str, origin: Option<Origin>, heading: String) -> S {
        let mut fields = Fields { reader: self, table, section: key, origin, lines: Vec::new() };
        let section = S::read(&mut fields);
        let Fields { table, lines, .. } = fields;
        self.refuse_rest(table, key, S::ITEMS);
        self.shown.push(Shown { heading, lines });
        section
    }

    /// Whatever is left of a section is unknown.
    pub(super) fn refuse_rest(&mut self, table: DeTable<'a>, key: &str, items: &[Item]) {
        for (name, value) in table {
            let unknown = join(key, name.get_ref());
            let origin = self.tree.origin(&unknown, name.span());
            let advice = match self.nearest(items, key, name.get_ref()) {
                Some(known) => format!("did you mean {}?", origin.spell(&known)),
                None => "remove it, or look it up in docs/CONFIGURATION.md".to_owned(),
            };
            let what = if matches!(value.get_ref(), DeValue::Table(_)) {
                "there is no such section"
            } else {
                "there is no such setting"
            };
            self.problems.add(unknown, Some(&origin), what, advice);
        }
    }

    /// The known path that an unknown name was probably meant to be: a like one here, or the same one in another section.
    fn nearest(&self, items: &[Item], section: &str, name: &str) -> Option<String> {
        let top = if section.is_empty() { self.sections } else { &[] };
        let here = items.iter().map(|item| item.name).chain(top.iter().map(|about| about.name));
        let like = here
            .map(|known| (strsim::osa_distance(known, &name.to_lowercase()), known))
            .filter(|(distance, known)| *distance <= (known.len() / 3).clamp(1, 4))
            .min_by_key(|(distance, _)| *distance);
        if let Some((_, known)) = like {
            return Some(join(section, known));
        }
        // One underscore for two is the likely slip in an environment variable.
        let elsewhere = self.sections.iter().flat_map(|about| about.items.iter().map(|item| (about.name, item.name)));
        elsewhere
            .filter(|(heading, _)| !heading.is_empty())
            .find(|(heading, known)| *known == name || format!("{heading}_{known}") == name)
            .map(|(heading, known)| join(heading, known))
    }
}

/// The settings of one section while they are taken out of it.
pub struct Fields<'s, 'r, 'a> {
    reader: &'s mut Reader<'r, 'a>,
    table: DeTable<'a>,
    section: &'s str,
    origin: Option<Origin>,
    lines: Vec<(&'static str, String, Origin)>,
}

impl Fields<'_, '_, '_> {
    /// Takes one setting; a value of the wrong kind becomes a mistake and leaves the setting without one.
    pub fn take<T: Value>(&mut self, name: &'static str, sample: Sample) -> Setting<T> {
        let key = join(self.section, name);
        let section = self.origin.clone();
        let Some(raw) = self.table.remove(name) else {
            let Sample::Default(text) = sample else { return Setting { key, origin: None, section, value: None } };
            let value = ValueDeserializer::parse(text).and_then(T::deserialize);
            self.lines.push((name, text.to_owned(), Origin::Default));
            return Setting {
                value: self.checked(value, &key, &Origin::Default, sample),
                key,
                origin: Some(Origin::Default),
                section,
            };
        };
        let origin = self.reader.tree.origin(&key, raw.span());
        let mut shown = if T::HIDDEN { format!("\"{REDACTED}\"") } else { literal(raw.get_ref()) };
        if T::SECRET
            && let Some((what, advice)) = self.reader.tree.secret_exposed(&origin)
        {
            self.reader.problems.add(key.clone(), Some(&origin), what, advice);
        }
        // Variables and flags have no quotes to tell a number from a text. A secret is always a text, and is not copied.
        let text = raw.get_ref().as_str().filter(|_| !T::SECRET && !matches!(origin, Origin::File { .. })).map(str::to_owned);
        let mut value = T::deserialize(ValueDeserializer::from(raw));
        if value.is_err()
            && let Some(text) = text
            && let Ok(unquoted) = ValueDeserializer::parse(&text).and_then(T::deserialize)
        {
            value = Ok(unquoted);
            if !T::HIDDEN {
                shown = text;
            }
        }
        self.lines.push((name, shown, origin.clone()));
        Setting { value: self.checked(value, &key, &origin, sample), key, origin: Some(origin), section }
    }

    fn checked<T>(&mut self, value: Result<T, toml::de::Error>, key: &str, origin: &Origin, sample: Sample) -> Option<T> {
        let advice = || format!("write it like {}", origin.example(key, sample.toml()));
        value.map_err(|error| self.reader.problems.add(key, Some(origin), error.message(), advice())).ok()
    }
}

/// The value as TOML.
fn literal(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => toml::Value::String(text.clone().into_owned()).to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Array(entries) => {
            let entries: Vec<String> = entries.iter().map(|entry| literal(entry.get_ref())).collect();
            format!("[{}]", entries.join(", "))
        }
        DeValue::Table(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{} = {}", name.get_ref(), literal(value.get_ref()))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => format!("({})", other.type_str()),
    }
}
