//! `ciphergate rewrap`: moves objects to another key by writing their envelopes anew. No byte of a body passes here.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::journal::Intents;

use super::report::{Document, SHOWN_MAX, Tally};
use super::verify::Class;
use super::{Entry, Work};
use crate::backend::{Error as StoreError, ObjectName, Versioning};
use crate::format::Envelope;
use crate::keys::Label;
use crate::ops::at_rest::{AtRest, Found};
use crate::ops::{Error, Gateway, Nature, chain};

/// How often an object is looked at again because it was written meanwhile.
const ATTEMPTS: u32 = 8;

/// The work.
pub struct Rewrap {
    pub gateway: Gateway,
    pub bucket: String,
    /// The key that objects are to be under; `None`: each under the one that its rule names.
    pub to: Option<Label>,
    /// Only objects under this one are moved.
    pub from: Option<Label>,
    pub versioning: Versioning,
    /// Whether versions that stay get records, old ones and those that a move leaves.
    pub records: bool,
    /// Otherwise nothing is changed.
    pub apply: bool,
    intents: Intents,
    begun: Mutex<HashMap<String, Begun>>,
}

/// A move whose outcome nobody has heard of.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Begun {
    from: String,
    /// In hex, of the object that was to be moved: what a move makes has it, too, and what anybody writes has another.
    commit: String,
    version_id: Option<String>,
}

impl Begun {
    fn new(from: &Label, own: &Envelope, version_id: Option<&str>) -> Self {
        let commit = HEXLOWER.encode(own.commit());
        Self { from: from.to_string(), commit, version_id: version_id.map(str::to_owned) }
    }
}

/// What became of an object, or a version of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is under this key and stays there.
    Stays { label: String },
    /// It was under the first and is, or in a dry run would be, under the second.
    Moved { from: String, to: String },
    /// It needed the first and stays as it is, with a record under the second.
    Recorded { from: String, to: String },
    /// What a move left that an earlier run had begun; counted with the move.
    Left,
    /// It should be moved and cannot.
    Stuck { label: Option<String>, class: Option<Class>, detail: String },
    /// The client's own key.
    CustomerKey,
    /// No envelope.
    Plaintext,
    /// Removed since it was listed.
    Gone,
}

/// A finding, as the report has it.
#[derive(Clone, Debug, Serialize)]
pub struct Stuck {
    pub key: String,
    pub version_id: Option<String>,
    pub stored_bytes: u64,
    pub label: Option<String>,
    /// `damaged`, `foreign` or `unreadable`; none where only the move is refused.
    pub class: Option<Class>,
    pub detail: String,
}

impl Rewrap {
    #[must_use]
    pub fn new(
        gateway: Gateway,
        bucket: String,
        (from, to): (Option<Label>, Option<Label>),
        versioning: Versioning,
        (records, apply): (bool, bool),
    ) -> Self {
        let (intents, begun) = (Intents::default(), Mutex::default());
        Self { gateway, bucket, to, from, versioning, records, apply, intents, begun }
    }

    /// With a journal for what is about to be moved, and what an earlier run had begun.
    #[must_use]
    pub fn with_journal(mut self, intents: Intents, earlier: &[(Entry, serde_json::Value)]) -> Self {
        let begun =
            |(entry, note): &(Entry, serde_json::Value)| Some((entry.key.clone(), serde_json::from_value(note.clone()).ok()?));
        self.intents = intents;
        self.begun().extend(earlier.iter().filter_map(begun));
        self
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<String, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look, and one attempt. Beside the outcome the version that it is of, where the store names one.
    async fn attempt(&self, entry: &Entry) -> Result<(Outcome, Option<String>), Error> {
        let object = ObjectName { bucket: self.bucket.clone(), key: entry.key.clone() };
        // What is current is looked at as it is now, which may be another version than the listing's.
        let version = entry.version_id.as_deref().filter(|_| !entry.is_latest);
        let at = self.gateway.at_rest(&object, version).await?;
        let own = match &at.envelope {
            Found::Nothing => return Ok((Outcome::Plaintext, at.version_id)),
            Found::Malformed(error) => {
                let detail = format!("the envelope: {error}");
                return Ok((Outcome::Stuck { label: None, class: Some(Class::Damaged), detail }, at.version_id));
            }
            Found::Envelope(envelope) if envelope.flags().customer => return Ok((Outcome::CustomerKey, at.version_id)),
            Found::Envelope(envelope) => envelope,
        };
        let outcome = match entry.is_latest && !(self.records && at.has_place_of_its_own(self.versioning)) {
            true => self.current(entry, &at, own).await?,
            false => self.version(entry, &at, own).await?,
        };
        Ok((outcome, at.version_id))
    }

    /// The record of a version, where it is one that opens something.
    async fn record(&self, at: &AtRest, own: &Envelope) -> Result<Option<Envelope>, Error> {
        let keys = self.gateway.keys();
        match self.gateway.record_at(at, own).await {
            Ok(record) => Ok(record.filter(|record| keys.has(record.label()))),
            // Another one can take its place.
            Err(error) if error.nature() == Nature::Damaged && keys.has(own.label()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wanted(&self, entry: &Entry) -> Result<Label, Error> {
        match &self.to {
            Some(to) => Ok(to.clone()),
            None => Ok(self.gateway.keys().label_for(&self.bucket, &entry.key)?),
        }
    }

    /// What is current moves to the wanted key.
    async fn current(&self, entry: &Entry, at: &AtRest, own: &Envelope) -> Result<Outcome, Error> {
        let record = match self.gateway.keys().has(own.label()) {
            true => None,
            // What was an old version, and is current since a delete marker was removed.
            false => match self.record(at, own).await {
                Err(error) => return stuck(own.label(), error),
                Ok(record) => record,
            },
        };
        let label = record.as_ref().map_or(own.label(), Envelope::label);
        let to = self.wanted(entry)?;
        let is_meant = self.from.as_ref().is_none_or(|from| from == label);
        if *label == to || !is_meant {
            // Whose answer was lost may have been moved all the same.
            let commit = HEXLOWER.encode(own.commit());
            let moved = self.begun().get(&entry.key).filter(|begun| *label == to && begun.commit == commit).cloned();
            return Ok(match moved {
                Some(Begun { from, .. }) => Outcome::Moved { from, to: label.to_string() },
                None => Outcome::Stays { label: label.to_string() },
            });
        }
        let moved = Outcome::Moved { from: label.to_string(), to: to.to_string() };
        if !self.apply {
            return Ok(moved);
        }
        let begun = Begun::new(label, own, at.version_id.as_deref());
        let note = serde_json::to_value(&begun).map_err(|error| Error::Output(error.into()))?;
        self.intents.begin(entry, note).map_err(|error| Error::Output(error.into()))?;
        self.begun().insert(entry.key.clone(), begun);
        match self.gateway.rewrap_in_place(at, &to, self.versioning, self.records).await {
            Ok(()) => {
                self.begun().remove(&entry.key);
                Ok(moved)
            }
            // Nobody knows what became of it; the next look tells.
            Err(error) if matches!(error.nature(), Nature::Passing | Nature::Changed | Nature::Gone) => Err(error),
            Err(error) => {
                self.begun().remove(&entry.key);
                stuck(label, error)
            }
        }
    }

    /// What has to stay as it is gets a record under the wanted key.
    async fn version(&self, entry: &Entry, at: &AtRest, own: &Envelope) -> Result<Outcome, Error> {
        let looks = self.records || !self.gateway.keys().has(own.label());
        let record = match looks {
            true => match self.record(at, own).await {
                Err(error) => return stuck(own.label(), error),
                Ok(record) => record,
            },
            false => None,
        };
        let to = self.wanted(entry)?;
        let label = match &record {
            // Its own key opens it whatever the record says.
            Some(record) if *own.label() != to => record.label(),
            _ => own.label(),
        };
        let is_meant = self.from.as_ref().is_none_or(|from| from == label);
        if !self.records || *label == to || !is_meant {
            let is_left = |begun: &Begun| begun.version_id.is_some() && begun.version_id == at.version_id;
            let left = !entry.is_latest && *label == to && self.begun().get(&entry.key).is_some_and(is_left);
            return Ok(if left { Outcome::Left } else { Outcome::Stays { label: label.to_string() } });
        }
        let recorded = Outcome::Recorded { from: label.to_string(), to: to.to_string() };
        if !self.apply {
            return Ok(recorded);
        }
        match self.gateway.rewrap_version(at, record.as_ref(), &to).await {
            Ok(()) => Ok(recorded),
            Err(error) => stuck(label, error),
        }
    }

    /// As often as somebody else writes in between.
    async fn attempts(&self, entry: &Entry) -> Result<(Outcome, Option<String>), Error> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match self.attempt(entry).await {
                Err(error) if error.nature() == Nature::Gone => return Ok((Outcome::Gone, None)),
                // Somebody wrote it: that write stays, and is what has to be moved now.
                Err(error) if error.nature() == Nature::Changed => {
                    self.begun().remove(&entry.key);
                    if left == 0 {
                        let detail = format!("it is written all the time: {}", chain(&error));
                        return Ok((Outcome::Stuck { label: None, class: None, detail }, None));
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

/// An object that cannot be moved; the error itself where it is not the object's.
fn stuck(label: &Label, error: Error) -> Result<Outcome, Error> {
    let class = match error.nature() {
        Nature::Damaged => Some(Class::Damaged),
        Nature::Foreign => Some(Class::Foreign),
        Nature::Unreadable => Some(Class::Unreadable),
        _ if is_about_the_object(&error) => None,
        _ => return Err(error),
    };
    Ok(Outcome::Stuck { label: Some(label.to_string()), class, detail: chain(&error) })
}

/// Whether only this object cannot be moved, in distinction to none.
fn is_about_the_object(error: &Error) -> bool {
    match error {
        Error::MetadataTooLarge { .. } | Error::InvalidRequest(_) | Error::InvalidArgument(_) | Error::Coded { .. } => true,
        Error::Backend(StoreError::Refused(refusal)) => {
            !refusal.is_about_us() && refusal.code != "NoSuchBucket" && refusal.status < 500
        }
        _ => false,
    }
}

impl Work for Rewrap {
    type Outcome = Outcome;

    async fn one(&self, entry: &Entry) -> Result<Outcome, Error> {
        let (outcome, seen) = self.attempts(entry).await?;
        if !self.records || !entry.is_latest || entry.version_id.is_none() || entry.version_id == seen {
            return Ok(outcome);
        }
        // Somebody has written since it was listed: what was current then is an old version now.
        let (old, _) = self.attempts(&Entry { is_latest: false, ..entry.clone() }).await?;
        Ok(match (outcome, old) {
            (Outcome::Stays { .. } | Outcome::Gone, old) | (_, old @ Outcome::Stuck { .. }) => old,
            (outcome, _) => outcome,
        })
    }
}

/// Objects and their bytes in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub objects: u64,
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What needs a key. In a dry run "after" is what would be.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Need {
    /// Whether the configuration has a key of this label.
    pub configured: bool,
    pub before: Count,
    pub after: Count,
    pub old_versions_before: Count,
    pub old_versions_after: Count,
    pub uploads_under_way: u64,
    /// Whether anything below the target needs the key afterwards.
    pub needed: bool,
}

/// What the report counts. Field names are for programs and stay.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    pub applied: bool,
    /// The key's label; none where each object went by its own rule.
    pub to: Option<String>,
    /// Current objects, and old versions of them.
    pub objects: u64,
    pub moved: u64,
    /// Versions that stay and have a record under the wanted key since, but for those that a move leaves.
    pub recorded: u64,
    /// Under the wanted key already, or not under the one that is to be left; old versions among them.
    pub stayed: u64,
    pub stuck: u64,
    pub customer_key: u64,
    pub plaintext: u64,
    /// Removed since they were listed.
    pub gone: u64,
    /// By label.
    pub keys: BTreeMap<String, Need>,
    /// The first thousand; all are in the report file.
    pub findings: Vec<Stuck>,
    #[serde(skip)]
    keeps_versions: bool,
    #[serde(skip)]
    records: bool,
}

impl Totals {
    #[must_use]
    pub fn new((records, applied): (bool, bool), to: Option<&Label>, versioning: Versioning) -> Self {
        let keeps_versions = versioning == Versioning::Enabled;
        Self { applied, to: to.map(ToString::to_string), keeps_versions, records, ..Self::default() }
    }

    /// The finding in an outcome.
    fn stuck(entry: &Entry, outcome: &Outcome) -> Option<Stuck> {
        let Outcome::Stuck { label, class, detail } = outcome else { return None };
        let (key, version_id) = (entry.key.clone(), entry.version_id.clone());
        let (label, detail) = (label.clone(), detail.clone());
        Some(Stuck { key, version_id, stored_bytes: entry.stored_size, label, class: *class, detail })
    }

    /// What needs a key beside objects and versions, and which keys there are.
    pub fn needs(&mut self, uploads: &BTreeMap<Label, u64>, is_configured: impl Fn(&str) -> bool) {
        for (label, count) in uploads {
            self.keys.entry(label.to_string()).or_default().uploads_under_way = *count;
        }
        for (label, need) in &mut self.keys {
            need.configured = is_configured(label);
            need.needed = need.after.objects + need.old_versions_after.objects + need.uploads_under_way > 0;
        }
    }
}

impl Tally for Totals {
    type Outcome = Outcome;
    type Finding = Stuck;

    fn add(&mut self, entry: &Entry, outcome: Outcome) -> Option<Stuck> {
        let bytes = entry.stored_size;
        if matches!(outcome, Outcome::Left) {
            return None;
        }
        self.objects += 1;
        let mut stays = |label: &str| {
            let need = self.keys.entry(label.to_owned()).or_default();
            let (before, after) = match entry.is_latest {
                true => (&mut need.before, &mut need.after),
                false => (&mut need.old_versions_before, &mut need.old_versions_after),
            };
            before.add(bytes);
            after.add(bytes);
        };
        match &outcome {
            Outcome::Stays { label } => {
                stays(label);
                self.stayed += 1;
            }
            Outcome::Stuck { label, .. } => {
                if let Some(label) = label {
                    stays(label);
                }
                self.stuck += 1;
                let stuck = Self::stuck(entry, &outcome);
                self.findings.extend(stuck.clone().filter(|_| self.findings.len() < SHOWN_MAX));
                return stuck;
            }
            Outcome::Moved { from, to } => {
                self.keys.entry(from.clone()).or_default().before.add(bytes);
                if self.keeps_versions {
                    // What was current is an old version now.
                    let left = if self.records { to } else { from };
                    self.keys.entry(left.clone()).or_default().old_versions_after.add(bytes);
                }
                self.keys.entry(to.clone()).or_default().after.add(bytes);
                self.moved += 1;
            }
            Outcome::Recorded { from, to } => {
                let before = self.keys.entry(from.clone()).or_default();
                if entry.is_latest { &mut before.before } else { &mut before.old_versions_before }.add(bytes);
                let after = self.keys.entry(to.clone()).or_default();
                if entry.is_latest { &mut after.after } else { &mut after.old_versions_after }.add(bytes);
                self.recorded += 1;
            }
            Outcome::CustomerKey => self.customer_key += 1,
            Outcome::Plaintext => self.plaintext += 1,
            Outcome::Gone => self.gone += 1,
            Outcome::Left => {}
        }
        None
    }

    fn conclude(&mut self) {
        self.findings.sort_by(|a, b| (&a.key, &a.version_id).cmp(&(&b.key, &b.version_id)));
    }

    fn has_findings(&self) -> bool {
        self.stuck > 0
    }

    fn text(document: &Document<Self>, out: &mut impl io::Write) -> io::Result<()> {
        let totals = &document.details;
        for Stuck { key, version_id, detail, .. } in &totals.findings {
            writeln!(out, "NOT MOVED {}: {detail}", super::report::name(key, version_id.as_deref()))?;
        }
        let (moved, after) = if totals.applied { ("moved", "after") } else { ("would move", "would be") };
        let recorded = if totals.applied { "got a record" } else { "would get a record" };
        let Self { objects, moved: count, stayed, stuck, customer_key, plaintext, gone, to, .. } = totals;
        let to = to.as_deref().unwrap_or("the keys of their rules");
        writeln!(out, "{objects} objects: {moved} {count} to {to}, {stayed} stay, {stuck} cannot be moved")?;
        if totals.records {
            writeln!(out, "old versions: {} {recorded}, those left by a move besides", totals.recorded)?;
        }
        writeln!(out, "left out: {customer_key} with the client's own key, {plaintext} plaintext, {gone} removed meanwhile")?;
        for (label, need) in &totals.keys {
            let unknown = if need.configured { "" } else { " (not in the configuration)" };
            let Need { before, after: then, old_versions_before: old, old_versions_after: old_then, .. } = need;
            writeln!(
                out,
                "key {label}{unknown}: before {} objects, {} bytes; {after} {} objects, {} bytes",
                before.objects, before.bytes, then.objects, then.bytes
            )?;
            if old.objects + old_then.objects > 0 {
                writeln!(
                    out,
                    "  old versions: before {}, {} bytes; {after} {}, {} bytes",
                    old.objects, old.bytes, old_then.objects, old_then.bytes
                )?;
            }
            if need.uploads_under_way > 0 {
                writeln!(out, "  uploads under way: {}", need.uploads_under_way)?;
            }
            if !need.needed {
                writeln!(
                    out,
                    "  {} below this target",
                    if totals.applied { "not needed any more" } else { "would not be needed any more" }
                )?;
            }
        }
        if totals.records && totals.applied {
            writeln!(
                out,
                "records open old versions where their own key is not in the configuration: take its section out before you disable it"
            )?;
        }
        if !totals.applied {
            writeln!(out, "nothing was changed; --apply does it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(is_latest: bool) -> Entry {
        Entry { key: "k".into(), version_id: None, is_latest, stored_size: 10 }
    }

    #[test]
    fn a_key_is_needed_by_objects_old_versions_and_uploads() {
        let (old, new): (Label, Label) = ("old".parse().unwrap(), "new".parse().unwrap());
        let moved = Outcome::Moved { from: "old".into(), to: "new".into() };
        let needed = |versioning, more: &[(bool, Outcome)], uploads: &[(Label, u64)]| {
            let mut totals = Totals::new((false, true), Some(&new), versioning);
            totals.add(&entry(true), moved.clone());
            more.iter().for_each(|(is_latest, outcome)| drop(totals.add(&entry(*is_latest), outcome.clone())));
            totals.needs(&uploads.iter().cloned().collect(), |label| label == "new");
            assert!(totals.keys["new"].needed && totals.keys["new"].configured && !totals.keys["old"].configured);
            assert_eq!(totals.keys["new"].after.objects, 1);
            totals.keys["old"].needed
        };
        assert!(!needed(Versioning::Never, &[], &[]));
        assert!(!needed(Versioning::Suspended, &[], &[]));
        // The move itself leaves an old version.
        assert!(needed(Versioning::Enabled, &[], &[]));
        assert!(needed(Versioning::Suspended, &[(false, Outcome::Stays { label: "old".into() })], &[]));
        // But not with records.
        let mut totals = Totals::new((true, true), Some(&new), Versioning::Enabled);
        totals.add(&entry(true), moved.clone());
        totals.add(&entry(false), Outcome::Recorded { from: "old".into(), to: "new".into() });
        totals.needs(&BTreeMap::new(), |_| true);
        let old_key = totals.keys["old"];
        assert_eq!((old_key.before.objects, old_key.old_versions_before.objects, old_key.needed), (1, 1, false));
        assert_eq!((totals.keys["new"].after.objects, totals.keys["new"].old_versions_after.objects), (1, 2));
        assert_eq!((totals.moved, totals.recorded), (1, 1));
        let stuck = Outcome::Stuck { label: Some("old".into()), class: None, detail: String::new() };
        assert!(needed(Versioning::Never, &[(true, stuck)], &[]));
        assert!(needed(Versioning::Never, &[], &[(old.clone(), 1)]));
    }
}
