//! `ciphergate rewrap`: moves objects to another key by writing their envelopes anew. No byte of a body passes here.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::report::SHOWN_MAX;
use super::verify::Class;
use super::{Entry, Work};
use crate::backend::{Error as StoreError, ObjectName, Versioning};
use crate::keys::Label;
use crate::ops::at_rest::Found;
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
    /// Otherwise nothing is changed.
    pub apply: bool,
    begun: Mutex<HashMap<String, Label>>,
}

/// What became of an object, or a version of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is under this key and stays there.
    Stays { label: String },
    /// It was under the first and is, or in a dry run would be, under the second.
    Moved { from: String, to: String },
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
        apply: bool,
    ) -> Self {
        Self { gateway, bucket, to, from, versioning, apply, begun: Mutex::default() }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<String, Label>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One look, and one attempt.
    async fn attempt(&self, entry: &Entry) -> Result<Outcome, Error> {
        let object = ObjectName { bucket: self.bucket.clone(), key: entry.key.clone() };
        // What is current is looked at as it is now, which may be another version than the listing's.
        let version = entry.version_id.as_deref().filter(|_| !entry.is_latest);
        let at = self.gateway.at_rest(&object, version).await?;
        let label = match &at.envelope {
            Found::Nothing => return Ok(Outcome::Plaintext),
            Found::Malformed(error) => {
                let detail = format!("the envelope: {error}");
                return Ok(Outcome::Stuck { label: None, class: Some(Class::Damaged), detail });
            }
            Found::Envelope(envelope) if envelope.flags().customer => return Ok(Outcome::CustomerKey),
            Found::Envelope(envelope) => envelope.label().clone(),
        };
        let to = match &self.to {
            Some(to) => to.clone(),
            None => self.gateway.keys().label_for(&self.bucket, &entry.key)?,
        };
        let is_meant = self.from.as_ref().is_none_or(|from| *from == label);
        if !entry.is_latest || label == to || !is_meant {
            // Whose answer was lost may have been moved all the same.
            let from = self.begun().remove(&entry.key).filter(|_| label == to);
            return Ok(match from {
                Some(from) => Outcome::Moved { from: from.to_string(), to: label.to_string() },
                None => Outcome::Stays { label: label.to_string() },
            });
        }
        let moved = Outcome::Moved { from: label.to_string(), to: to.to_string() };
        if !self.apply {
            return Ok(moved);
        }
        self.begun().insert(entry.key.clone(), label.clone());
        match self.gateway.rewrap_in_place(&at, &to, self.versioning).await {
            Ok(()) => {
                self.begun().remove(&entry.key);
                Ok(moved)
            }
            // Nobody knows what became of it; the next look tells.
            Err(error) if matches!(error.nature(), Nature::Passing | Nature::Changed | Nature::Gone) => Err(error),
            Err(error) => {
                self.begun().remove(&entry.key);
                let class = match error.nature() {
                    Nature::Damaged => Some(Class::Damaged),
                    Nature::Foreign => Some(Class::Foreign),
                    Nature::Unreadable => Some(Class::Unreadable),
                    _ if is_about_the_object(&error) => None,
                    _ => return Err(error),
                };
                Ok(Outcome::Stuck { label: Some(label.to_string()), class, detail: chain(&error) })
            }
        }
    }
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
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match self.attempt(entry).await {
                Err(error) if error.nature() == Nature::Gone => return Ok(Outcome::Gone),
                // Somebody wrote it: that write stays, and is what has to be moved now.
                Err(error) if error.nature() == Nature::Changed => {
                    self.begun().remove(&entry.key);
                    if left == 0 {
                        let detail = format!("it is written all the time: {}", chain(&error));
                        return Ok(Outcome::Stuck { label: None, class: None, detail });
                    }
                }
                outcome => return outcome,
            }
        }
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
}

impl Totals {
    #[must_use]
    pub fn new(applied: bool, to: Option<&Label>, versioning: Versioning) -> Self {
        let keeps_versions = versioning == Versioning::Enabled;
        Self { applied, to: to.map(ToString::to_string), keeps_versions, ..Self::default() }
    }

    pub fn add(&mut self, entry: &Entry, outcome: &Outcome) {
        let bytes = entry.stored_size;
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
        match outcome {
            Outcome::Stays { label } => {
                stays(label);
                self.stayed += 1;
            }
            Outcome::Stuck { label, .. } => {
                if let Some(label) = label {
                    stays(label);
                }
                self.stuck += 1;
                self.findings.extend(Self::stuck(entry, outcome).filter(|_| self.findings.len() < SHOWN_MAX));
            }
            Outcome::Moved { from, to } => {
                let old = self.keys.entry(from.clone()).or_default();
                old.before.add(bytes);
                if self.keeps_versions {
                    // What was current is an old version now.
                    old.old_versions_after.add(bytes);
                }
                self.keys.entry(to.clone()).or_default().after.add(bytes);
                self.moved += 1;
            }
            Outcome::CustomerKey => self.customer_key += 1,
            Outcome::Plaintext => self.plaintext += 1,
            Outcome::Gone => self.gone += 1,
        }
    }

    /// The finding in an outcome.
    #[must_use]
    pub fn stuck(entry: &Entry, outcome: &Outcome) -> Option<Stuck> {
        let Outcome::Stuck { label, class, detail } = outcome else { return None };
        let (key, version_id) = (entry.key.clone(), entry.version_id.clone());
        let (label, detail) = (label.clone(), detail.clone());
        Some(Stuck { key, version_id, stored_bytes: entry.stored_size, label, class: *class, detail })
    }

    /// The last word on every key, and findings in the order of names.
    pub fn conclude(&mut self, uploads: &BTreeMap<Label, u64>, is_configured: impl Fn(&str) -> bool) {
        self.findings.sort_by(|a, b| (&a.key, &a.version_id).cmp(&(&b.key, &b.version_id)));
        for (label, count) in uploads {
            self.keys.entry(label.to_string()).or_default().uploads_under_way = *count;
        }
        for (label, need) in &mut self.keys {
            need.configured = is_configured(label);
            need.needed = need.after.objects + need.old_versions_after.objects + need.uploads_under_way > 0;
        }
    }

    /// The lines for people.
    pub fn text(&self, out: &mut impl io::Write) -> io::Result<()> {
        for Stuck { key, version_id, detail, .. } in &self.findings {
            writeln!(out, "NOT MOVED {}: {detail}", super::report::name(key, version_id.as_deref()))?;
        }
        let (moved, after) = if self.applied { ("moved", "after") } else { ("would move", "would be") };
        let Self { objects, moved: count, stayed, stuck, customer_key, plaintext, gone, to, .. } = self;
        let to = to.as_deref().unwrap_or("the keys of their rules");
        writeln!(out, "{objects} objects: {moved} {count} to {to}, {stayed} stay, {stuck} cannot be moved")?;
        writeln!(out, "left out: {customer_key} with the client's own key, {plaintext} plaintext, {gone} removed meanwhile")?;
        for (label, need) in &self.keys {
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
                    if self.applied { "not needed any more" } else { "would not be needed any more" }
                )?;
            }
        }
        if !self.applied {
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
            let mut totals = Totals::new(true, Some(&new), versioning);
            totals.add(&entry(true), &moved);
            more.iter().for_each(|(is_latest, outcome)| totals.add(&entry(*is_latest), outcome));
            totals.conclude(&uploads.iter().cloned().collect(), |label| label == "new");
            assert!(totals.keys["new"].needed && totals.keys["new"].configured && !totals.keys["old"].configured);
            assert_eq!(totals.keys["new"].after.objects, 1);
            totals.keys["old"].needed
        };
        assert!(!needed(Versioning::Never, &[], &[]));
        assert!(!needed(Versioning::Suspended, &[], &[]));
        // The move itself leaves an old version.
        assert!(needed(Versioning::Enabled, &[], &[]));
        assert!(needed(Versioning::Suspended, &[(false, Outcome::Stays { label: "old".into() })], &[]));
        let stuck = Outcome::Stuck { label: Some("old".into()), class: None, detail: String::new() };
        assert!(needed(Versioning::Never, &[(true, stuck)], &[]));
        assert!(needed(Versioning::Never, &[], &[(old.clone(), 1)]));
    }
}
