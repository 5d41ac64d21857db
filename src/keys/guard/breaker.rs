//! When a key service is not called for a while: after failures in a row, or when too many of the latest attempts failed.
//!
//! Time is an argument. Nothing here waits, logs or counts for others; the guard does.

use crate::keys::Error;
use std::collections::VecDeque;
use std::time::Duration;

/// What opens a breaker, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Transient failures in a row that open it, at least 1.
    pub failures: u32,
    /// Share of transient failures among the attempts in the window that opens it, in percent, 1 to 100.
    pub failure_percent: u32,
    /// Attempts that the window has to hold before the share counts.
    pub attempts_min: usize,
    /// The latest attempts that the window holds, at most.
    pub window_attempts: usize,
    /// How long an attempt stays in the window.
    pub window: Duration,
    /// How long the breaker stays open before one call probes, give or take a quarter.
    pub open: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 50,
            attempts_min: 20,
            window_attempts: 100,
            window: Duration::from_secs(10),
            open: Duration::from_secs(2),
        }
    }
}

/// What one attempt says about the key service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered; that a key may not be used is an answer, too.
    Answered,
    Failed(Trouble),
}

impl Verdict {
    pub(super) fn of<T>(outcome: &Result<T, Error>) -> Self {
        match outcome {
            Err(Error::Throttled { .. }) => Self::Failed(Trouble::Throttling),
            Err(error) if error.is_retryable() => Self::Failed(Trouble::Failing),
            _ => Self::Answered,
        }
    }
}

/// What is the matter with the key service, so that an open breaker answers as the service did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Throttling,
    Failing,
}

/// What opened a breaker that was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    InARow,
    Share,
}

impl Rule {
    /// The word of metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InARow => "in_a_row",
            Self::Share => "share",
        }
    }
}

/// What a verdict changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// Of so many attempts so many failed.
    Opened {
        trouble: Trouble,
        rule: Rule,
        failures: u32,
        attempts: usize,
    },
    /// The probe failed.
    StaysOpen,
    /// The probe was answered.
    Closed,
}

/// Leave for one attempt, to be given back with a verdict or without one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leave {
    era: u64,
    is_probe: bool,
}

/// Failures, and those of them that were throttling.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    failures: u32,
    throttled: u32,
}

impl Count {
    fn add(&mut self, trouble: Trouble) {
        self.failures += 1;
        self.throttled += u32::from(trouble == Trouble::Throttling);
    }

    fn remove(&mut self, trouble: Trouble) {
        self.failures -= 1;
        self.throttled -= u32::from(trouble == Trouble::Throttling);
    }

    /// What most of them were.
    fn trouble(self) -> Trouble {
        if self.throttled > self.failures - self.throttled { Trouble::Throttling } else { Trouble::Failing }
    }
}

/// The latest verdicts.
#[derive(Debug, Default)]
struct Window {
    verdicts: VecDeque<(Duration, Verdict)>,
    count: Count,
}

impl Window {
    fn push(&mut self, now: Duration, verdict: Verdict, limits: &BreakerLimits) {
        // What is younger than now comes from before the clock went back, and would never leave by its age.
        let leaves = |at: Duration| now.checked_sub(at).is_none_or(|age| age >= limits.window);
        while let Some((at, old)) = self.verdicts.front().copied()
            && (leaves(at) || self.verdicts.len() >= limits.window_attempts)
        {
            self.verdicts.pop_front();
            if let Verdict::Failed(trouble) = old {
                self.count.remove(trouble);
            }
        }
        self.verdicts.push_back((now, verdict));
        if let Verdict::Failed(trouble) = verdict {
            self.count.add(trouble);
        }
    }

    /// Whether there are enough attempts, and too many failures among them.
    fn is_bad(&self, limits: &BreakerLimits) -> bool {
        let (failures, attempts) = (u64::from(self.count.failures), self.verdicts.len() as u64);
        self.verdicts.len() >= limits.attempts_min && failures * 100 >= u64::from(limits.failure_percent) * attempts
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open { since: Duration, lasts: Duration, trouble: Trouble },
    Probing { trouble: Trouble },
}

/// One breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    limits: BreakerLimits,
    state: State,
    /// Grows whenever it opens: who began before that has no say in what comes after.
    era: u64,
    in_a_row: Count,
    window: Window,
}

impl Breaker {
    pub(super) fn new(limits: BreakerLimits) -> Self {
        Self { limits, state: State::Closed, era: 0, in_a_row: Count::default(), window: Window::default() }
    }

    /// What a call would be refused with.
    pub(super) fn refusal(&self, now: Duration) -> Option<Trouble> {
        match self.state {
            State::Closed => None,
            // A clock that went back must not keep it open.
            State::Open { since, lasts, trouble } => now.checked_sub(since).is_some_and(|open| open < lasts).then_some(trouble),
            State::Probing { trouble } => Some(trouble),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// 0 closed, 1 probing, 2 open.
    pub(super) fn number(&self) -> u8 {
        match self.state {
            State::Closed => 0,
            State::Probing { .. } => 1,
            State::Open { .. } => 2,
        }
    }

    /// Leave for one attempt. Once the time of an open breaker is up, the first to ask probes and the others are refused meanwhile.
    pub(super) fn enter(&mut self, now: Duration) -> Result<Leave, Trouble> {
        if let Some(trouble) = self.refusal(now) {
            return Err(trouble);
        }
        let mut is_probe = false;
        if let State::Open { trouble, .. } = self.state {
            self.state = State::Probing { trouble };
            is_probe = true;
        }
        Ok(Leave { era: self.era, is_probe })
    }

    /// How the attempt ended. `lasts` says how long the breaker stays open if this opens it.
    pub(super) fn judge(&mut self, leave: Leave, verdict: Verdict, now: Duration, lasts: impl FnOnce() -> Duration) -> Change {
        if leave.era != self.era {
            return Change::None;
        }
        match (leave.is_probe, verdict) {
            (true, Verdict::Answered) => {
                self.state = State::Closed;
                (self.in_a_row, self.window) = (Count::default(), Window::default());
                Change::Closed
            }
            (true, Verdict::Failed(trouble)) => {
                self.open(now, lasts(), trouble);
                Change::StaysOpen
            }
            (false, Verdict::Answered) => {
                self.in_a_row = Count::default();
                self.window.push(now, verdict, &self.limits);
                Change::None
            }
            (false, Verdict::Failed(trouble)) => {
                self.in_a_row.add(trouble);
                self.window.push(now, verdict, &self.limits);
                let Some((rule, count, attempts)) = self.too_many() else { return Change::None };
                self.open(now, lasts(), count.trouble());
                Change::Opened { trouble: count.trouble(), rule, failures: count.failures, attempts }
            }
        }
    }

    /// The failures that are too many, and of how many attempts.
    fn too_many(&self) -> Option<(Rule, Count, usize)> {
        if self.in_a_row.failures >= self.limits.failures {
            return Some((Rule::InARow, self.in_a_row, self.in_a_row.failures as usize));
        }
        let Window { verdicts, count } = &self.window;
        self.window.is_bad(&self.limits).then_some((Rule::Share, *count, verdicts.len()))
    }

    fn open(&mut self, since: Duration, lasts: Duration, trouble: Trouble) {
        self.era += 1;
        self.state = State::Open { since, lasts, trouble };
    }

    /// The attempt ended without a verdict, because nobody waits for it any more. If it was a probe, the next caller probes.
    pub(super) fn give_back(&mut self, leave: &Leave, now: Duration) {
        if leave.is_probe
            && let State::Probing { trouble } = self.state
        {
            self.state = State::Open { since: now, lasts: Duration::ZERO, trouble };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THROTTLED: Verdict = Verdict::Failed(Trouble::Throttling);
    const DOWN: Verdict = Verdict::Failed(Trouble::Failing);
    const FINE: Verdict = Verdict::Answered;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One attempt after the other, all at `now`; what the last one changed.
    fn attempts(breaker: &mut Breaker, now: u64, verdicts: impl IntoIterator<Item = Verdict>) -> Change {
        let judge = |verdict| {
            let leave = breaker.enter(ms(now)).unwrap();
            breaker.judge(leave, verdict, ms(now), || ms(2000))
        };
        verdicts.into_iter().map(judge).last().unwrap()
    }

    fn share(failures: u32, attempts: usize) -> Change {
        Change::Opened { trouble: Trouble::Failing, rule: Rule::Share, failures, attempts }
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerLimits::default())
    }

    #[test]
    fn so_many_failures_in_a_row_open_it_and_one_fewer_does_not() {
        let mut breaker = breaker();
        assert_eq!(attempts(&mut breaker, 0, [DOWN; 4]), Change::None);
        assert_eq!(attempts(&mut breaker, 0, [FINE, DOWN, DOWN, DOWN, DOWN]), Change::None);
        let opened = Change::Opened { trouble: Trouble::Failing, rule: Rule::InARow, failures: 5, attempts: 5 };
        assert_eq!(attempts(&mut breaker, 0, [DOWN]), opened);
        assert_eq!((breaker.refusal(ms(1999)), breaker.refusal(ms(2000))), (Some(Trouble::Failing), None));
    }

    #[test]
    fn half_of_twenty_open_it_and_neither_nineteen_nor_fewer_than_half_do() {
        let mixed = [FINE, DOWN].into_iter().cycle();
        let mut breaker = breaker();
        assert_eq!(attempts(&mut breaker, 0, [DOWN].into_iter().chain(mixed.clone().take(18))), Change::None, "10 of 19");
        assert_eq!(attempts(&mut breaker, 0, [FINE]), Change::None, "an answer opens nothing");
        assert_eq!(attempts(&mut breaker, 0, [DOWN]), share(11, 21));
        let mut breaker = self::breaker();
        assert_eq!(attempts(&mut breaker, 0, mixed.clone().take(20)), share(10, 20));
        let mut breaker = self::breaker();
        assert_eq!(attempts(&mut breaker, 0, [FINE].into_iter().chain(mixed.take(20))), Change::None, "10 of 21");
    }

    #[test]
    fn the_window_forgets_by_age_and_by_number() {
        let limits = BreakerLimits { failures: u32::MAX, ..BreakerLimits::default() };
        for (later, opens) in [(9999, true), (10_000, false)] {
            let mut breaker = Breaker::new(limits.clone());
            assert_eq!(attempts(&mut breaker, 0, [DOWN; 19]), Change::None);
            let last = attempts(&mut breaker, later, [DOWN]);
            assert_eq!(last, if opens { share(20, 20) } else { Change::None }, "{later}");
        }
        // 49 of the latest 100 are not half of them, 50 are; what came before does not count.
        let few = BreakerLimits { failures: u32::MAX, attempts_min: 100, ..BreakerLimits::default() };
        for (good, bad, opens) in [(51, 49, false), (50, 50, true)] {
            let mut breaker = Breaker::new(few.clone());
            attempts(&mut breaker, 0, [FINE; 100]);
            let last = attempts(&mut breaker, 0, std::iter::repeat_n(FINE, good).chain(std::iter::repeat_n(DOWN, bad)));
            assert_eq!(last, if opens { share(50, 100) } else { Change::None }, "{bad}");
        }
        let mut breaker = Breaker::new(few);
        attempts(&mut breaker, 0, [DOWN; 49]);
        attempts(&mut breaker, 0, [FINE; 51]);
        assert_eq!(attempts(&mut breaker, 0, [FINE; 49]), Change::None);
        assert_eq!(attempts(&mut breaker, 0, [DOWN; 49]), Change::None, "the first 49 have left");
    }

    #[test]
    fn it_answers_what_most_of_the_failures_were_and_then_what_the_probe_was() {
        let after = |verdicts: [Verdict; 5]| {
            let mut breaker = breaker();
            attempts(&mut breaker, 0, verdicts);
            (breaker.refusal(ms(0)).unwrap(), breaker)
        };
        assert_eq!(after([THROTTLED; 5]).0, Trouble::Throttling);
        assert_eq!(after([DOWN, DOWN, THROTTLED, THROTTLED, THROTTLED]).0, Trouble::Throttling);
        let (trouble, mut breaker) = after([THROTTLED, THROTTLED, DOWN, DOWN, DOWN]);
        assert_eq!(trouble, Trouble::Failing);
        let probe = breaker.enter(ms(2000)).unwrap();
        assert_eq!(breaker.enter(ms(2000)), Err(Trouble::Failing), "one probes");
        assert_eq!(breaker.judge(probe, THROTTLED, ms(2000), || ms(2000)), Change::StaysOpen);
        assert_eq!(breaker.refusal(ms(3999)), Some(Trouble::Throttling));
        assert_eq!(attempts(&mut breaker, 4000, [FINE]), Change::Closed);
        // Half is not most.
        let mut mixed = self::breaker();
        attempts(&mut mixed, 0, [FINE, THROTTLED, FINE, DOWN].into_iter().cycle().take(20));
        assert_eq!(mixed.refusal(ms(0)), Some(Trouble::Failing));
        // By its share, too; the window began anew when it closed.
        assert_eq!(attempts(&mut breaker, 4000, [THROTTLED, FINE].into_iter().cycle().take(19)), Change::None);
        attempts(&mut breaker, 4000, [FINE, THROTTLED]);
        assert_eq!(breaker.refusal(ms(4000)), Some(Trouble::Throttling));
    }

    #[test]
    fn who_began_before_it_opened_has_no_say_after() {
        let mut breaker = breaker();
        let late: Vec<_> = (0..10).map(|_| breaker.enter(ms(0)).unwrap()).collect();
        attempts(&mut breaker, 0, [DOWN; 5]);
        let mut late = late.into_iter();
        assert_eq!(breaker.judge(late.next().unwrap(), FINE, ms(1), || ms(2000)), Change::None);
        assert_eq!(breaker.refusal(ms(1)), Some(Trouble::Failing));
        attempts(&mut breaker, 2000, [FINE]);
        for leave in late {
            assert_eq!(breaker.judge(leave, DOWN, ms(2000), || ms(2000)), Change::None);
        }
        assert_eq!(breaker.number(), 0);
        assert_eq!(attempts(&mut breaker, 2000, [DOWN; 4]), Change::None);
    }

    #[test]
    fn a_probe_that_is_given_up_is_followed_by_another() {
        let mut breaker = breaker();
        attempts(&mut breaker, 0, [THROTTLED; 5]);
        let probe = breaker.enter(ms(2000)).unwrap();
        assert_eq!((breaker.number(), breaker.refusal(ms(9000))), (1, Some(Trouble::Throttling)));
        breaker.give_back(&probe, ms(2000));
        assert_eq!((breaker.number(), breaker.refusal(ms(2000))), (2, None));
        assert_eq!(attempts(&mut breaker, 2000, [FINE]), Change::Closed);
    }

    #[test]
    fn a_clock_that_goes_back_keeps_nothing_open_and_nothing_in_the_window() {
        let mut breaker = breaker();
        attempts(&mut breaker, 50_000, [DOWN; 5]);
        assert_eq!(breaker.refusal(ms(51_999)), Some(Trouble::Failing));
        assert_eq!(breaker.refusal(ms(49_999)), None);
        assert_eq!(attempts(&mut breaker, 100, [FINE]), Change::Closed);
        let limits = BreakerLimits { failures: u32::MAX, ..BreakerLimits::default() };
        let mut breaker = Breaker::new(limits);
        attempts(&mut breaker, 50_000, [DOWN; 19]);
        assert_eq!(attempts(&mut breaker, 100, [DOWN]), Change::None);
    }
}
