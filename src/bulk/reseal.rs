//! `encrypt` and `reencrypt`: objects sealed anew in their place.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::Entry;
use super::report::{Document, Tally, name};
use super::run::Work;
use crate::backend::{ObjectName, Versioning};
use crate::ops::{Error, Gateway, Left, Nature, OldVersion, Reseal, Resealed, chain};

/// What is done with each object.
pub struct Resealing {
    pub gateway: Gateway,
    pub bucket: String,
    pub what: Reseal,
    /// The bucket's.
    pub versioning: Versioning,
    pub apply: bool,
    pub delete_plaintext_versions: bool,
}

/// What became of an object or of a version that is not the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Would,
    Done,
    IsSealed,
    IsPlaintext,
    LostEnvelope,
    AwsClient,
    CustomerKey,
    Archived,
    Metadata,
    TooLarge,
    Gone,
    KeepsChanging,
    VersionsSuspended,
    Damaged,
    Foreign,
    Unreadable,
    /// No current version: what became of it is in `old`.
    OldVersion,
}

/// What became of the version that was replaced, or of another that is not the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Old {
    SealedKept,
    PlaintextKept,
    PlaintextDiffers,
    PlaintextLocked,
    PlaintextDeleted,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub what: What,
    /// Of plaintext that was sealed anew, or would be.
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Old>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl What {
    /// In words, where somebody has to look at it.
    fn finding(self) -> Option<&'static str> {
        Some(match self {
            Self::Would | Self::Done | Self::IsSealed | Self::IsPlaintext | Self::Gone | Self::OldVersion => return None,
            Self::LostEnvelope => "ends like a sealed object and has no envelope",
            Self::AwsClient => {
                "was written by AWS's encryption client: reencrypt takes it, in a bucket with aws_client = \"read\""
            }
            Self::CustomerKey => "opens with the client's own key alone",
            Self::Archived => "is archived: restore it first",
            Self::Metadata => "has metadata that the store does not show, or that leave no room for the envelope",
            Self::TooLarge => "is too large",
            Self::KeepsChanging => "was written again and again meanwhile",
            Self::VersionsSuspended => "is a version of a bucket that keeps none any more: writing would replace another one",
            Self::Damaged => "is damaged",
            Self::Foreign => "was sealed for another place, or under a key that is not the one configured",
            Self::Unreadable => "may not be read or written",
        })
    }
}

impl Old {
    fn finding(self) -> Option<&'static str> {
        match self {
            Self::SealedKept | Self::PlaintextDeleted | Self::Gone => None,
            Self::PlaintextKept => Some("a plaintext version REMAINS"),
            Self::PlaintextDiffers => Some("a plaintext version REMAINS, since the current one does not hold the same"),
            Self::PlaintextLocked => Some("a plaintext version REMAINS, since the store does not let it be deleted"),
        }
    }
}

impl Outcome {
    fn of(what: What) -> Self {
        Self { what, bytes: 0, old: None, detail: None }
    }

    /// Why somebody has to look at it, in words.
    #[must_use]
    pub fn finding(&self) -> Option<String> {
        let words = self.what.finding().or_else(|| self.old.and_then(Old::finding))?;
        Some(self.detail.as_ref().map_or_else(|| words.to_owned(), |detail| format!("{words}: {detail}")))
    }
}

impl Resealing {
    async fn current(&self, object: &ObjectName) -> Result<Outcome, Error> {
        match self.gateway.reseal(object, self.what, self.versioning, self.apply).await? {
            Resealed::Would(bytes) => Ok(Outcome { bytes, ..Outcome::of(What::Would) }),
            Resealed::Left(why) => Ok(Outcome::of(left(why))),
            Resealed::Done { bytes, kept } => {
                let old = match (kept, self.what) {
                    (None, _) => None,
                    (Some(_), Reseal::Sealed) => Some(Old::SealedKept),
                    (Some(version), Reseal::Plaintext) => Some(self.old(object, &version).await?),
                };
                Ok(Outcome { bytes, old, ..Outcome::of(What::Done) })
            }
        }
    }

    async fn old(&self, object: &ObjectName, version_id: &str) -> Result<Old, Error> {
        let delete = self.apply && self.delete_plaintext_versions;
        Ok(match self.gateway.old_version(object, version_id, delete).await? {
            OldVersion::Sealed => Old::SealedKept,
            OldVersion::Plaintext => Old::PlaintextKept,
            OldVersion::Differs => Old::PlaintextDiffers,
            OldVersion::Locked => Old::PlaintextLocked,
            OldVersion::Deleted => Old::PlaintextDeleted,
            OldVersion::Gone => Old::Gone,
        })
    }
}

fn left(why: Left) -> What {
    match why {
        Left::IsSealed => What::IsSealed,
        Left::IsPlaintext => What::IsPlaintext,
        Left::LostEnvelope => What::LostEnvelope,
        Left::AwsClient => What::AwsClient,
        Left::CustomerKey => What::CustomerKey,
        Left::Archived => What::Archived,
        Left::Metadata => What::Metadata,
        Left::TooLarge => What::TooLarge,
        Left::Gone => What::Gone,
        Left::KeepsChanging => What::KeepsChanging,
        Left::VersionsSuspended => What::VersionsSuspended,
    }
}

impl Work for Resealing {
    type Outcome = Outcome;

    async fn one(&self, entry: &Entry) -> Result<Outcome, Error> {
        let object = ObjectName { bucket: self.bucket.clone(), key: entry.key.clone() };
        let outcome = match (&entry.version_id, entry.is_latest) {
            (Some(version_id), false) => {
                let old = self.old(&object, version_id).await;
                old.map(|old| Outcome { old: Some(old), ..Outcome::of(What::OldVersion) })
            }
            _ => self.current(&object).await,
        };
        // What is wrong with the object is no failure of the run.
        outcome.or_else(|error| {
            let what = match error.nature() {
                Nature::Damaged => What::Damaged,
                Nature::Foreign => What::Foreign,
                Nature::Unreadable => What::Unreadable,
                Nature::CustomerKey => What::CustomerKey,
                Nature::Gone => What::Gone,
                Nature::Changed => What::KeepsChanging,
                Nature::Passing | Nature::Ours => return Err(error),
            };
            Ok(Outcome { detail: Some(chain(&error)), ..Outcome::of(what) })
        })
    }
}

/// A line of the report file.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a run came to, over all runs of one journal.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    /// Whether anything was to be written.
    pub applied: bool,
    /// Objects, by what became of them.
    pub objects: BTreeMap<What, u64>,
    /// Of plaintext that was sealed anew, or would be.
    pub bytes: u64,
    /// Versions that are not, or no longer, the current ones, by what became of them.
    pub old_versions: BTreeMap<Old, u64>,
    pub findings: u64,
    /// The first ones; all of them are in the report file.
    pub first_findings: Vec<Finding>,
}

impl Counts {
    fn old(&self, kinds: &[Old]) -> u64 {
        kinds.iter().filter_map(|kind| self.old_versions.get(kind)).sum()
    }
}

impl Tally for Counts {
    type Outcome = Outcome;
    type Finding = Finding;

    fn add(&mut self, entry: &Entry, outcome: Outcome) -> Option<Finding> {
        if outcome.what != What::OldVersion {
            *self.objects.entry(outcome.what).or_default() += 1;
        }
        self.bytes += outcome.bytes;
        if let Some(old) = outcome.old {
            *self.old_versions.entry(old).or_default() += 1;
        }
        outcome.finding()?;
        self.findings += 1;
        let finding = Finding { key: entry.key.clone(), version_id: entry.version_id.clone(), outcome };
        if self.first_findings.len() < super::report::SHOWN_MAX {
            self.first_findings.push(finding.clone());
        }
        Some(finding)
    }

    fn conclude(&mut self) {
        self.first_findings.sort_by(|a, b| (&a.key, &a.version_id).cmp(&(&b.key, &b.version_id)));
    }

    fn has_findings(&self) -> bool {
        self.findings > 0
    }

    fn text(document: &Document<Self>, out: &mut impl io::Write) -> io::Result<()> {
        let counts = &document.details;
        let of = |what: What| counts.objects.get(&what).copied().unwrap_or(0);
        let verb = if document.command == "encrypt" { "encrypted" } else { "re-encrypted" };
        let (done, number) =
            if counts.applied { (verb.to_owned(), of(What::Done)) } else { (format!("would be {verb}"), of(What::Would)) };
        writeln!(out, "{}: {number} objects {done} ({} bytes of plaintext)", document.target, counts.bytes)?;
        for (what, words) in
            [(What::IsSealed, "sealed already"), (What::IsPlaintext, "plaintext, left alone"), (What::Gone, "gone meanwhile")]
        {
            if of(what) > 0 {
                writeln!(out, "  {} {words}", of(what))?;
            }
        }
        for finding in &counts.first_findings {
            let words = finding.outcome.finding().unwrap_or_default();
            writeln!(out, "FINDING {}: {}", name(&finding.key, finding.version_id.as_deref()), words.escape_debug())?;
        }
        let left_out = counts.findings - counts.first_findings.len() as u64;
        if left_out > 0 {
            writeln!(out, "FINDING {left_out} more")?;
        }
        let deleted = counts.old(&[Old::PlaintextDeleted]);
        if deleted > 0 {
            writeln!(out, "{deleted} plaintext versions deleted; the sealed ones hold the same")?;
        }
        let remain = counts.old(&[Old::PlaintextKept, Old::PlaintextDiffers, Old::PlaintextLocked]);
        if remain > 0 {
            writeln!(
                out,
                "WARNING: {remain} PLAINTEXT VERSIONS REMAIN in the bucket, readable for everybody who may read versions of it"
            )?;
        }
        if document.command == "reencrypt" && counts.old(&[Old::SealedKept]) > 0 {
            writeln!(out, "WARNING: {} old versions remain, sealed under their old data keys", counts.old(&[Old::SealedKept]))?;
        }
        if !counts.applied {
            writeln!(out, "nothing was written: --apply does it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::Ended;
    use crate::bulk::report::{Failures, KeyCalls};

    fn entry(key: &str, version_id: Option<&str>) -> Entry {
        Entry { key: key.to_owned(), version_id: version_id.map(str::to_owned), is_latest: true, stored_size: 1 }
    }

    #[test]
    fn the_report_says_loudly_what_plaintext_remains() {
        let mut counts = Counts { applied: true, ..Counts::default() };
        let done = |old| Outcome { bytes: 7, old, ..Outcome::of(What::Done) };
        assert!(counts.add(&entry("a", None), done(None)).is_none());
        assert!(counts.add(&entry("b", Some("1")), done(Some(Old::PlaintextDeleted))).is_none());
        assert!(counts.add(&entry("c", Some("2")), done(Some(Old::PlaintextKept))).is_some());
        assert!(counts.add(&entry("d", None), Outcome::of(What::IsSealed)).is_none());
        let old = Outcome { old: Some(Old::PlaintextLocked), ..Outcome::of(What::OldVersion) };
        assert!(counts.add(&entry("d", Some("0")), old).is_some());
        let damaged = Outcome { detail: Some("x\ny".to_owned()), ..Outcome::of(What::Damaged) };
        assert!(counts.add(&entry("e\nf", None), damaged).is_some());
        let document = Document {
            command: "encrypt",
            target: "s3://b/".to_owned(),
            ended: Ended::Complete,
            resumed: false,
            seconds: 0.25,
            key_calls: KeyCalls { generate: 3, unwrap: 3, failed: 0 },
            failures: Failures::default(),
            details: counts,
        };
        let mut text = Vec::new();
        Counts::text(&document, &mut text).unwrap();
        document.tail(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "s3://b/: 3 objects encrypted (21 bytes of plaintext)\n  \
             1 sealed already\n\
             FINDING c (version 2): a plaintext version REMAINS\n\
             FINDING d (version 0): a plaintext version REMAINS, since the store does not let it be deleted\n\
             FINDING e\\nf: is damaged: x\\ny\n\
             1 plaintext versions deleted; the sealed ones hold the same\n\
             WARNING: 2 PLAINTEXT VERSIONS REMAIN in the bucket, readable for everybody who may read versions of it\n\
             key calls: 3 generate, 3 unwrap, 0 failed; 0.2 s\n"
        );
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!(json["objects"], serde_json::json!({"done": 3, "is-sealed": 1, "damaged": 1}));
        assert_eq!(
            json["first_findings"][0],
            serde_json::json!({"key": "c", "version_id": "2", "what": "done", "bytes": 7, "old": "plaintext-kept"})
        );
    }
}
