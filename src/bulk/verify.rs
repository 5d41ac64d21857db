//! `ciphergate verify`: whether everything below a prefix opens.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::report::{Document, SHOWN_MAX, Tally, name};
use super::{Entry, Work};
use crate::backend::ObjectName;
use crate::ops::verify::{Depth, Verified};
use crate::ops::{Error, Gateway, Nature, chain};

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Not what was sealed: altered, cut, or without an envelope that can be read.
    Damaged,
    /// Sealed for another place, or under a key that is not the one configured.
    Foreign,
    /// Not sealed.
    Plaintext,
    /// Kept shut by the state of a key, a policy or an archive.
    Unreadable,
}

/// An object that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub class: Class,
    pub key: String,
    pub version_id: Option<String>,
    pub stored_bytes: u64,
    pub detail: String,
}

impl Finding {
    pub(super) fn of(class: Class, entry: &Entry, detail: String) -> Self {
        let (key, version_id) = (entry.key.clone(), entry.version_id.clone());
        Self { class, key, version_id, stored_bytes: entry.stored_size, detail }
    }

    /// The class of a failure that is the object's; `None` for any other.
    pub(super) fn class(error: &Error) -> Option<Class> {
        match error.nature() {
            Nature::Damaged => Some(Class::Damaged),
            Nature::Foreign => Some(Class::Foreign),
            Nature::Unreadable => Some(Class::Unreadable),
            Nature::CustomerKey | Nature::Gone | Nature::Changed | Nature::Passing | Nature::Ours => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Damaged => "DAMAGED",
            Class::Foreign => "FOREIGN",
            Class::Plaintext => "PLAINTEXT",
            Class::Unreadable => "UNREADABLE",
        };
        write!(f, "{class} {}: {}", name(&self.key, self.version_id.as_deref()), self.detail)
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Good {
        plain_bytes: u64,
    },
    Found(Finding),
    /// It opens with the client's own key alone.
    CustomerKey,
    /// Removed since it was listed.
    Gone,
}

/// Which part of the objects is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    Percent(f64),
    Count(u64),
}

impl FromStr for Sample {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write it as a number of objects, or as a percentage such as 2.5%";
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.parse().map_err(|_| WRONG)?;
                if percent > 0.0 && percent <= 100.0 { Ok(Self::Percent(percent)) } else { Err(WRONG) }
            }
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count).ok_or(WRONG),
        }
    }
}

/// Which objects belong to the sample: those whose name, hashed with the seed, comes to no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub seed: u64,
    pub limit: u64,
}

impl Choice {
    /// Every object.
    pub const ALL: Self = Self { seed: 0, limit: u64::MAX };

    /// So many of a hundred. Which ones depends on their names alone, so other instances and later runs choose the same.
    #[must_use]
    pub fn percent(seed: u64, percent: f64) -> Self {
        // A float as large as this is rounded; u64::MAX is what it saturates to.
        Self { seed, limit: (u64::MAX as f64 * (percent / 100.0)) as u64 }
    }

    /// The place of an object in the order of the sample.
    #[must_use]
    pub fn rank(seed: u64, entry: &Entry) -> u64 {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(entry.key.as_bytes());
        hash.update([0]);
        hash.update(entry.version_id.as_deref().unwrap_or_default().as_bytes());
        let digest = hash.finalize();
        digest.iter().take(8).fold(0, |rank, byte| rank << 8 | u64::from(*byte))
    }

    fn takes(self, entry: &Entry) -> bool {
        self.limit == u64::MAX || Self::rank(self.seed, entry) <= self.limit
    }
}

/// The smallest ranks seen so far: what a sample of a fixed size needs to know before it begins.
#[derive(Debug)]
pub struct Smallest {
    count: usize,
    ranks: std::collections::BinaryHeap<u64>,
}

impl Smallest {
    #[must_use]
    pub fn new(count: u64) -> Self {
        Self { count: usize::try_from(count).unwrap_or(usize::MAX), ranks: std::collections::BinaryHeap::new() }
    }

    pub fn add(&mut self, rank: u64) {
        self.ranks.push(rank);
        if self.ranks.len() > self.count {
            self.ranks.pop();
        }
    }

    /// The limit that takes in so many objects, or all there are.
    #[must_use]
    pub fn limit(&self) -> u64 {
        if self.ranks.len() < self.count { u64::MAX } else { self.ranks.peek().copied().unwrap_or(u64::MAX) }
    }
}

/// The work.
pub struct Verify {
    pub gateway: Gateway,
    pub bucket: String,
    pub depth: Depth,
    pub choice: Choice,
}

impl Work for Verify {
    type Outcome = Outcome;

    fn wants(&self, entry: &Entry) -> bool {
        self.choice.takes(entry)
    }

    async fn one(&self, entry: &Entry) -> Result<Outcome, Error> {
        let object = ObjectName { bucket: self.bucket.clone(), key: entry.key.clone() };
        let look = || self.gateway.verify(&object, entry.version_id.as_deref(), self.depth);
        let mut seen = look().await;
        for _ in 0..2 {
            match &seen {
                // Something may have gone wrong on the way, or a write have come between two requests: nothing is damaged that was seen
                // once.
                Err(error) if Finding::class(error).is_some() || error.nature() == Nature::Changed => seen = look().await,
                _ => break,
            }
        }
        match seen {
            Ok(Verified::Sealed { plain_bytes }) => Ok(Outcome::Good { plain_bytes }),
            Ok(Verified::Plaintext) => {
                Ok(Outcome::Found(Finding::of(Class::Plaintext, entry, "the object has no envelope".to_owned())))
            }
            Err(error) => match (error.nature(), Finding::class(&error)) {
                (_, Some(class)) => Ok(Outcome::Found(Finding::of(class, entry, chain(&error)))),
                (Nature::CustomerKey, _) => Ok(Outcome::CustomerKey),
                (Nature::Gone, _) => Ok(Outcome::Gone),
                _ => Err(error),
            },
        }
    }
}

/// What the report counts. Field names are for programs and stay.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    /// Everything that was looked at.
    pub objects: u64,
    pub good: u64,
    /// Of the good ones.
    pub plain_bytes: u64,
    pub damaged: u64,
    pub foreign: u64,
    pub plaintext: u64,
    pub unreadable: u64,
    /// Not looked at: they open with the client's own key alone.
    pub customer_key: u64,
    /// Removed since they were listed.
    pub gone: u64,
    /// The first thousand; all are in the report file.
    pub findings: Vec<Finding>,
}

impl Totals {
    fn found(&self) -> u64 {
        self.damaged + self.foreign + self.plaintext + self.unreadable
    }
}

impl Tally for Totals {
    type Outcome = Outcome;
    type Finding = Finding;

    fn add(&mut self, _: &Entry, outcome: Outcome) -> Option<Finding> {
        self.objects += 1;
        let finding = match outcome {
            Outcome::Good { plain_bytes } => {
                self.good += 1;
                self.plain_bytes += plain_bytes;
                return None;
            }
            Outcome::CustomerKey => {
                self.customer_key += 1;
                return None;
            }
            Outcome::Gone => {
                self.gone += 1;
                return None;
            }
            Outcome::Found(finding) => finding,
        };
        *match finding.class {
            Class::Damaged => &mut self.damaged,
            Class::Foreign => &mut self.foreign,
            Class::Plaintext => &mut self.plaintext,
            Class::Unreadable => &mut self.unreadable,
        } += 1;
        if self.findings.len() < SHOWN_MAX {
            self.findings.push(finding.clone());
        }
        Some(finding)
    }

    fn conclude(&mut self) {
        self.findings.sort_by(|a, b| (&a.key, &a.version_id).cmp(&(&b.key, &b.version_id)));
    }

    fn has_findings(&self) -> bool {
        self.found() > 0
    }

    fn text(document: &Document<Self>, out: &mut impl io::Write) -> io::Result<()> {
        let totals = &document.details;
        for finding in &totals.findings {
            writeln!(out, "{finding}")?;
        }
        let left_out = totals.found() - totals.findings.len() as u64;
        if left_out > 0 {
            writeln!(out, "{left_out} more findings; --report writes all of them into a file")?;
        }
        let Self { objects, good, plain_bytes, damaged, foreign, plaintext, unreadable, customer_key, gone, .. } = totals;
        writeln!(out, "{objects} objects: {good} good ({plain_bytes} bytes of plaintext)")?;
        writeln!(out, "findings: {damaged} damaged, {foreign} foreign, {plaintext} plaintext, {unreadable} unreadable")?;
        writeln!(out, "left out: {customer_key} with the client's own key, {gone} removed meanwhile")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        Entry { key: format!("key-{number}"), version_id: None, is_latest: true, stored_size: 240 }
    }

    #[test]
    fn samples_are_percentages_or_numbers() {
        assert_eq!("2.5%".parse(), Ok(Sample::Percent(2.5)));
        assert_eq!("100".parse(), Ok(Sample::Count(100)));
        for wrong in ["", "0", "0%", "101%", "-1", "x", "NaN%", "5 %"] {
            assert!(wrong.parse::<Sample>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sample_is_the_same_every_time_and_about_as_large_as_asked() {
        let chosen = |choice: Choice| (0..10_000).filter(|number| choice.takes(&entry(*number))).collect::<Vec<_>>();
        let tenth = chosen(Choice::percent(1, 10.0));
        assert!((900..1100).contains(&tenth.len()), "{}", tenth.len());
        assert_eq!(tenth, chosen(Choice::percent(1, 10.0)));
        assert_ne!(tenth, chosen(Choice::percent(2, 10.0)));
        assert_eq!((chosen(Choice::percent(1, 100.0)).len(), chosen(Choice::ALL).len()), (10_000, 10_000));

        let mut smallest = Smallest::new(77);
        (0..10_000).for_each(|number| smallest.add(Choice::rank(9, &entry(number))));
        assert_eq!(chosen(Choice { seed: 9, limit: smallest.limit() }).len(), 77);
        let mut few = Smallest::new(77);
        few.add(5);
        assert_eq!(few.limit(), u64::MAX);
    }
}
