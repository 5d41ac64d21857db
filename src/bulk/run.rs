//! The loop that commands over many objects share.
//!
//! Objects are done side by side and end in any order. The journal gets a line for each, and a mark once a page and everything before it is
//! done. An object that fails after all patience is written down to be tried again by a later run; the others go on, until so many fail
//! in a row that store or key service must be gone.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::journal::{Earlier, Name};
use super::patience::Patience;
use super::report::{Failure, Failures};
use super::walk::Walk;
use super::{Entry, Journal, JournalError, Pace, Progress, Stop, Target, Versions};
use crate::ops::{Error, Gateway, chain};

/// Failures in a row after which the run gives up.
const IN_A_ROW: u32 = 16;
/// Pages that are listed ahead.
const PAGES_AHEAD: usize = 2;

/// What a command does with an object.
pub trait Work: Send + Sync + 'static {
    /// What became of it; written into the journal, so that a later run can count it.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;

    /// Whether this object is to be looked at, at all.
    fn wants(&self, _: &Entry) -> bool {
        true
    }

    /// Does it. May be called again for the same object, after a failure that passes and by a later run.
    ///
    /// # Errors
    /// What is wrong with the way there, not with the object.
    fn one(&self, entry: &Entry) -> impl Future<Output = Result<Self::Outcome, Error>> + Send;
}

/// Everything about a run but the work.
pub struct Run {
    pub gateway: Gateway,
    pub target: Target,
    pub versions: Versions,
    pub pace: Pace,
    pub patience: Patience,
    pub stop: Stop,
    pub progress: Progress,
    pub journal: Journal,
    /// What an earlier run has left to do.
    pub earlier: Earlier,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// Everything has been looked at.
    Complete,
    /// Somebody asked to stop.
    Interrupted,
    /// Store or key service do not answer.
    Failed,
}

/// What became of one object's task.
enum Done<O> {
    Outcome(O),
    Failed(Error),
    /// Somebody asked to stop before it had begun.
    NotBegun,
}

impl Run {
    /// Walks over everything and does the work. `take` hears every outcome of this run, after it was written into the journal.
    ///
    /// # Errors
    /// A journal that cannot be written: nobody could go on from there.
    pub async fn run<W: Work>(
        mut self,
        work: Arc<W>,
        mut take: impl FnMut(&Entry, W::Outcome),
    ) -> Result<(Ended, Failures), JournalError> {
        let walk = Walk { target: self.target.clone(), versions: self.versions, after: self.earlier.mark.clone() };
        let mut pages = list_ahead(walk.pages(self.gateway.clone(), self.patience, self.stop.clone()));
        let mut course = Course::new(std::mem::take(&mut self.earlier));
        self.progress.advance(course.count);
        let mut failures = Failures::default();
        let mut tasks = JoinSet::new();
        let (mut ended, mut in_a_row) = (Ended::Complete, 0);
        let mut listed_all = false;
        loop {
            let goes_on = ended == Ended::Complete;
            let has_room = tasks.len() < self.pace.concurrency();
            if goes_on
                && has_room
                && let Some((number, entry)) = course.next(&*work)
            {
                let (work, pace, patience, stop) = (work.clone(), self.pace.clone(), self.patience, self.stop.clone());
                tasks.spawn(async move {
                    let done = match pace.turn(&stop).await {
                        false => Done::NotBegun,
                        true => match patience.keep_asking(&stop, || work.one(&entry)).await {
                            Ok(outcome) => Done::Outcome(outcome),
                            Err(error) => Done::Failed(error),
                        },
                    };
                    (number, entry, done)
                });
                continue;
            }
            if tasks.is_empty() && (!goes_on || listed_all) {
                break;
            }
            tokio::select! {
                () = self.stop.asked(), if goes_on => ended = Ended::Interrupted,
                () = self.stop.asked_twice(), if ended == Ended::Interrupted => {
                    tasks.shutdown().await;
                    break;
                }
                Some(joined) = tasks.join_next() => {
                    let Ok((number, entry, done)) = joined else {
                        // A task that panicked; its object is not done.
                        failures.add(Failure { key: None, version_id: None, detail: "a worker broke off".to_owned() });
                        ended = Ended::Failed;
                        continue;
                    };
                    match done {
                        Done::NotBegun => continue,
                        Done::Outcome(outcome) => {
                            in_a_row = 0;
                            self.journal.done(&entry, &outcome)?;
                            take(&entry, outcome);
                        }
                        // Cut short by the wish to stop, as far as anybody knows.
                        Done::Failed(_) if self.stop.is_asked() => {
                            self.journal.failed(&entry)?;
                        }
                        Done::Failed(error) => {
                            in_a_row += 1;
                            self.journal.failed(&entry)?;
                            failures.add(Failure::of(&entry, chain(&error)));
                            if in_a_row >= IN_A_ROW {
                                ended = Ended::Failed;
                            }
                        }
                    }
                    self.progress.advance(1);
                    if let Some(mark) = course.done(number) {
                        self.journal.mark(&mark)?;
                    }
                }
                page = pages.recv(), if goes_on && !listed_all && course.is_hungry() => match page {
                    Some(Ok(page)) => course.add(page),
                    // The listing broke off because somebody asked to stop.
                    Some(Err(_)) if self.stop.is_asked() => ended = Ended::Interrupted,
                    Some(Err(error)) => {
                        failures.add(Failure { key: None, version_id: None, detail: format!("the listing: {}", chain(&error)) });
                        ended = Ended::Failed;
                    }
                    None => {
                        listed_all = true;
                        course.ends();
                        self.progress.total(course.count);
                    }
                },
            }
        }
        if ended == Ended::Complete
            && let Some(mark) = course.end()
        {
            self.journal.mark(&mark)?;
        }
        self.journal.sync()?;
        self.progress.end();
        if ended == Ended::Complete && !failures.is_empty() {
            ended = Ended::Failed;
        }
        Ok((ended, failures))
    }
}

type Page = Result<Vec<Entry>, Error>;

/// Lists while the work is under way.
fn list_ahead(pages: impl futures::Stream<Item = Page> + Send + 'static) -> mpsc::Receiver<Page> {
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::spawn(async move {
        let mut pages = pin!(pages);
        while let Some(page) = pages.next().await {
            if sender.send(page).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// What is to be done, what is under way, and up to where everything is done.
struct Course {
    waiting: VecDeque<Entry>,
    /// Done by an earlier run, or taken up before the walk comes by.
    skipped: HashSet<Name>,
    /// Numbers of what is under way.
    under_way: BTreeSet<u64>,
    /// The number of the next one.
    next: u64,
    /// Where marks may be: so many numbers, and this key, are before it.
    ends: VecDeque<(u64, String)>,
    /// The last key of the listing so far, and how many objects of it are waiting behind it.
    last: Option<String>,
    /// Objects that were listed, and those of an earlier run.
    count: u64,
}

impl Course {
    fn new(earlier: Earlier) -> Self {
        let Earlier { done, failed, mark, count, .. } = earlier;
        let mut skipped = done;
        skipped.extend(failed.iter().map(|entry| (entry.key.clone(), entry.version_id.clone())));
        let count = count + failed.len() as u64;
        Self { waiting: failed.into(), skipped, under_way: BTreeSet::new(), next: 0, ends: VecDeque::new(), last: mark, count }
    }

    /// Whether another page is wanted.
    fn is_hungry(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A page of the listing. Only when there is room: what is before it has been begun, so its end is known by number.
    fn add(&mut self, page: Vec<Entry>) {
        let Some(first) = page.first() else { return };
        // Versions of one key may go on over the end of a page.
        if let Some(last) = self.last.take_if(|last| *last != first.key) {
            self.ends.push_back((self.next, last));
        }
        self.last = page.last().map(|entry| entry.key.clone());
        let page = page.into_iter().filter(|entry| !self.skipped.remove(&(entry.key.clone(), entry.version_id.clone())));
        let before = self.waiting.len();
        self.waiting.extend(page);
        self.count += (self.waiting.len() - before) as u64;
    }

    /// The listing is at its end.
    fn ends(&mut self) {
        if let Some(last) = self.last.clone() {
            self.ends.push_back((self.next, last));
        }
    }

    fn next<W: Work>(&mut self, work: &W) -> Option<(u64, Entry)> {
        loop {
            let entry = self.waiting.pop_front()?;
            if !work.wants(&entry) {
                self.count -= 1;
                continue;
            }
            let number = self.next;
            self.next += 1;
            self.under_way.insert(number);
            return Some((number, entry));
        }
    }

    /// One is done. Gives the key up to which everything is, where that is further than before.
    fn done(&mut self, number: u64) -> Option<String> {
        self.under_way.remove(&number);
        self.end()
    }

    fn end(&mut self) -> Option<String> {
        let first = self.under_way.first().copied().unwrap_or(self.next);
        let mut mark = None;
        while self.ends.front().is_some_and(|(end, _)| *end <= first) {
            mark = self.ends.pop_front().map(|(_, key)| key);
        }
        mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All;

    impl Work for All {
        type Outcome = ();

        async fn one(&self, _: &Entry) -> Result<(), Error> {
            Ok(())
        }
    }

    fn entry(key: &str, version: &str) -> Entry {
        Entry { key: key.to_owned(), version_id: Some(version.to_owned()), is_latest: false, stored_size: 0 }
    }

    fn begun(course: &mut Course) -> Vec<u64> {
        std::iter::from_fn(|| course.next(&All)).map(|(number, _)| number).collect()
    }

    #[test]
    fn a_mark_is_set_when_a_page_and_all_before_it_are_done() {
        let mut course = Course::new(Earlier::default());
        course.add(vec![entry("a", "1"), entry("b", "2"), entry("b", "1")]);
        assert_eq!(begun(&mut course), [0, 1, 2]);
        assert_eq!((course.done(1), course.done(2)), (None, None));
        // The versions of b go on over the end of the page, so it is no place for a mark.
        course.add(vec![entry("b", "0"), entry("c", "1")]);
        assert_eq!(begun(&mut course), [3, 4]);
        course.add(vec![entry("d", "1")]);
        assert_eq!(begun(&mut course), [5]);
        assert_eq!((course.done(4), course.done(3), course.done(5)), (None, None, None));
        assert_eq!(course.done(0).as_deref(), Some("c"));
        course.ends();
        assert_eq!(course.end().as_deref(), Some("d"));
        assert_eq!((course.end(), course.count), (None, 6));
    }

    #[test]
    fn what_an_earlier_run_did_is_left_out_and_what_failed_comes_first() {
        let earlier = Earlier {
            mark: Some("b".to_owned()),
            done: HashSet::from([("d".to_owned(), Some("1".to_owned()))]),
            failed: vec![entry("a", "1"), entry("e", "1")],
            begun: Vec::new(),
            note: None,
            count: 7,
        };
        let mut course = Course::new(earlier);
        course.add(vec![entry("c", "1"), entry("d", "1"), entry("e", "1"), entry("f", "1")]);
        let keys: Vec<_> = std::iter::from_fn(|| course.next(&All)).map(|(_, entry)| entry.key).collect();
        assert_eq!(keys, ["a", "e", "c", "f"]);
        assert_eq!(course.count, 11);
    }
}
