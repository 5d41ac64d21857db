//! `decrypt`: objects leave the gateway's care, into a bucket that holds plaintext by configuration or into a folder.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::Entry;
use super::folder::{Folder, Placed, Refused};
use super::report::{Document, SHOWN_MAX, Tally, name};
use super::run::Work;
use crate::backend::forward::Forwarder;
use crate::backend::{self, ObjectName, Select};
use crate::ops::at_rest::Found;
use crate::ops::{Access, Error, Gateway, Nature, PlaintextBucket, Released, Stays, chain};

/// What S3 takes with one request, in bytes.
const PUT_MAX: u64 = 5 << 30;

/// Where objects go. They keep their whole keys.
pub enum To {
    /// Below a prefix of a bucket.
    Bucket {
        bucket: PlaintextBucket,
        prefix: String,
        forwarder: Box<Forwarder>,
    },
    Folder(Arc<Folder>),
}

/// What is done with each object.
pub struct Leaving {
    pub gateway: Gateway,
    pub bucket: String,
    pub to: To,
    pub apply: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Would,
    Done,
    /// The same is there already.
    There,
    Gone,
    /// Something else is there already.
    Exists,
    UnsafeName,
    TooLarge,
    CustomerKey,
    Archived,
    Metadata,
    Damaged,
    Foreign,
    Unreadable,
    Changed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub what: What,
    /// Of plaintext that was written, or would be.
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Outcome {
    fn of(what: What) -> Self {
        Self { what, bytes: 0, detail: None }
    }

    /// Why somebody has to look at it, in words.
    #[must_use]
    pub fn finding(&self) -> Option<String> {
        let words = match self.what {
            What::Would | What::Done | What::There | What::Gone => return None,
            What::Exists => "something else is there already, and was left alone",
            What::UnsafeName => "its key is no name of a file in the folder",
            What::TooLarge => "is too large for one request to the other bucket",
            What::CustomerKey => "opens with the client's own key alone",
            What::Archived => "is archived: restore it first",
            What::Metadata => "has metadata that the store does not show",
            What::Damaged => "is damaged",
            What::Foreign => "was sealed for another place, or under a key that is not the one configured",
            What::Unreadable => "may not be read or written",
            What::Changed => "was written meanwhile",
        };
        Some(self.detail.as_ref().map_or_else(|| words.to_owned(), |detail| format!("{words}: {detail}")))
    }
}

impl Work for Leaving {
    type Outcome = Outcome;

    async fn one(&self, entry: &Entry) -> Result<Outcome, Error> {
        let object = ObjectName { bucket: self.bucket.clone(), key: entry.key.clone() };
        self.leave(&object).await.or_else(|error| {
            let what = match error.nature() {
                Nature::Damaged => What::Damaged,
                Nature::Foreign => What::Foreign,
                Nature::Unreadable => What::Unreadable,
                Nature::CustomerKey => What::CustomerKey,
                Nature::Gone => What::Gone,
                Nature::Changed => What::Changed,
                Nature::Passing | Nature::Ours => return Err(error),
            };
            Ok(Outcome { detail: Some(chain(&error)), ..Outcome::of(what) })
        })
    }
}

impl Leaving {
    async fn leave(&self, object: &ObjectName) -> Result<Outcome, Error> {
        if let To::Folder(folder) = &self.to
            && let Err(Refused(why)) = folder.place(&object.key)
        {
            return Ok(Outcome { detail: Some(why.to_owned()), ..Outcome::of(What::UnsafeName) });
        }
        if !self.apply {
            return self.look(object).await;
        }
        let released = match self.gateway.release(object).await? {
            Ok(released) => released,
            Err(Stays::CustomerKey) => return Ok(Outcome::of(What::CustomerKey)),
            Err(Stays::Archived) => return Ok(Outcome::of(What::Archived)),
            Err(Stays::Metadata) => return Ok(Outcome::of(What::Metadata)),
        };
        let bytes = released.len;
        let what = match &self.to {
            To::Folder(folder) => match folder.write(&object.key, released).await? {
                Placed::Written => What::Done,
                Placed::There => What::There,
                Placed::Occupied(why) => return Ok(Outcome { detail: Some(why.to_owned()), ..Outcome::of(What::Exists) }),
                Placed::Unsafe(why) => return Ok(Outcome { detail: Some(why.to_owned()), ..Outcome::of(What::UnsafeName) }),
            },
            To::Bucket { bucket, prefix, forwarder } => {
                let target = ObjectName { bucket: bucket.name().to_owned(), key: format!("{prefix}{}", object.key) };
                self.put(forwarder, target, released).await?
            }
        };
        Ok(Outcome { bytes: if what == What::Done { bytes } else { 0 }, ..Outcome::of(what) })
    }

    /// What would be done, by the headers alone.
    async fn look(&self, object: &ObjectName) -> Result<Outcome, Error> {
        let at = self.gateway.at_rest(object, None).await?;
        let bytes = match &at.envelope {
            Found::Envelope(envelope) if envelope.flags().customer => return Ok(Outcome::of(What::CustomerKey)),
            Found::Envelope(_) => match at.plain_len() {
                Some(len) => len.get(),
                None => return Ok(Outcome::of(What::Damaged)),
            },
            Found::Nothing => match self.gateway.aws_plain_len(&at).await? {
                Some(len) => len,
                None if self.gateway.access_of(&self.bucket) == Access::ReadThrough => at.stored_len,
                None => return Ok(Outcome::of(What::Damaged)),
            },
            Found::Malformed(_) => return Ok(Outcome::of(What::Damaged)),
        };
        Ok(Outcome { bytes, ..Outcome::of(What::Would) })
    }

    /// Writes plaintext into the bucket that may hold it, where nothing is yet, and looks at what has become of it.
    async fn put(&self, forwarder: &Forwarder, target: ObjectName, released: Released) -> Result<What, Error> {
        let Released { len, headers, body, .. } = released;
        if len > PUT_MAX {
            return Ok(What::TooLarge);
        }
        let failed = Arc::new(Mutex::new(None));
        let heard = failed.clone();
        // Whoever reads the body hears that it broke off; why, only this keeps.
        let body = body.map_err(move |cause| {
            let error = Released::failure(cause);
            let text = chain(&error);
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            text.into()
        });
        match forwarder.put_plaintext(&target, &headers, body.boxed(), len).await {
            Ok(()) => {}
            Err(backend::Error::Refused(refusal)) if refusal.status == 412 => {
                let same = self.compare(&target, &headers, len).await? == Compared::Same;
                return Ok(if same { What::There } else { What::Exists });
            }
            Err(store) => {
                let source = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(source.unwrap_or(Error::Backend(store)));
            }
        }
        match self.compare(&target, &headers, len).await? {
            // A store that shows no checksum has verified the one that was sent, or never heard of it.
            Compared::Same | Compared::SameLength => Ok(What::Done),
            Compared::Other => Err(Error::Internal("what was written is not what is there")),
        }
    }

    /// What an object in the other bucket is beside one of this length and, where one is known, of this checksum.
    async fn compare(&self, target: &ObjectName, sent: &HeaderMap, len: u64) -> Result<Compared, Error> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-checksum-mode", HeaderValue::from_static("ENABLED"));
        let select = Select { object: target.clone(), version_id: None, headers, range: None };
        Ok(compared(sent, len, &self.gateway.store().head_object(select).await?.headers))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Compared {
    /// Length and checksum agree.
    Same,
    /// The length agrees, and there is no checksum on one of the sides.
    SameLength,
    Other,
}

fn compared(sent: &HeaderMap, len: u64, answer: &HeaderMap) -> Compared {
    if answer.get(CONTENT_LENGTH).is_none_or(|found| found.as_bytes() != len.to_string().as_bytes()) {
        return Compared::Other;
    }
    let sums = sent.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-checksum-"));
    let agree: Vec<_> = sums.filter_map(|(name, value)| Some(answer.get(name)? == value)).collect();
    match agree.iter().all(|agrees| *agrees) {
        true if agree.is_empty() => Compared::SameLength,
        true => Compared::Same,
        false => Compared::Other,
    }
}

/// A line of the report file.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub key: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a run came to, over all runs of one journal.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub to: String,
    /// Whether anything was to be written.
    pub applied: bool,
    /// Objects, by what became of them.
    pub objects: BTreeMap<What, u64>,
    /// Of plaintext that was written, or would be.
    pub bytes: u64,
    pub findings: u64,
    /// The first ones; all of them are in the report file.
    pub first_findings: Vec<Finding>,
}

impl Tally for Counts {
    type Outcome = Outcome;
    type Finding = Finding;

    fn add(&mut self, entry: &Entry, outcome: Outcome) -> Option<Finding> {
        *self.objects.entry(outcome.what).or_default() += 1;
        self.bytes += outcome.bytes;
        outcome.finding()?;
        self.findings += 1;
        let finding = Finding { key: entry.key.clone(), outcome };
        if self.first_findings.len() < SHOWN_MAX {
            self.first_findings.push(finding.clone());
        }
        Some(finding)
    }

    fn conclude(&mut self) {
        self.first_findings.sort_by(|a, b| a.key.cmp(&b.key));
    }

    fn has_findings(&self) -> bool {
        self.findings > 0
    }

    fn text(document: &Document<Self>, out: &mut impl io::Write) -> io::Result<()> {
        let counts = &document.details;
        let of = |what: What| counts.objects.get(&what).copied().unwrap_or(0);
        let (done, number) = if counts.applied { ("decrypted", of(What::Done)) } else { ("would be decrypted", of(What::Would)) };
        writeln!(out, "{} to {}: {number} objects {done} ({} bytes of plaintext)", document.target, counts.to, counts.bytes)?;
        for (what, words) in [(What::There, "there already"), (What::Gone, "gone meanwhile")] {
            if of(what) > 0 {
                writeln!(out, "  {} {words}", of(what))?;
            }
        }
        for finding in &counts.first_findings {
            let words = finding.outcome.finding().unwrap_or_default();
            writeln!(out, "FINDING {}: {}", name(&finding.key, None), words.escape_debug())?;
        }
        let left_out = counts.findings - counts.first_findings.len() as u64;
        if left_out > 0 {
            writeln!(out, "FINDING {left_out} more")?;
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
    use http::HeaderName;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_checksum_says_that_two_objects_are_the_same() {
        let sent = headers(&[("x-amz-checksum-crc32", "AAAA"), ("content-type", "text/x")]);
        for (answer, wanted) in [
            (&[("content-length", "7"), ("x-amz-checksum-crc32", "AAAA")][..], Compared::Same),
            (&[("content-length", "7"), ("x-amz-checksum-crc32", "AAAB")], Compared::Other),
            (&[("content-length", "8"), ("x-amz-checksum-crc32", "AAAA")], Compared::Other),
            (&[("content-length", "7"), ("x-amz-checksum-sha1", "AAAA")], Compared::SameLength),
            (&[], Compared::Other),
        ] {
            assert_eq!(compared(&sent, 7, &headers(answer)), wanted, "{answer:?}");
        }
        assert_eq!(compared(&HeaderMap::new(), 7, &headers(&[("content-length", "7")])), Compared::SameLength);
    }
}
