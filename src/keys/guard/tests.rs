use super::*;
use crate::keys::{Clock, OsRandom};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

#[derive(Default)]
struct FakeClock(AtomicU64);

impl Clock for FakeClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(SeqCst))
    }

    fn unix_nanos(&self) -> u64 {
        0
    }
}

/// What the key service does.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Fine,
    Down,
    Throttles,
    /// Three of five calls fail, never more than two in a row.
    FailsThreeOfFive,
    /// Two of five.
    FailsTwoOfFive,
    Denied,
    Silent,
}

struct Service {
    mood: Mutex<Mood>,
    calls: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
}

#[async_trait::async_trait]
impl KeyProvider for Service {
    async fn generate(&self, label: &Label, _: &KeyContext) -> Result<Generated, Error> {
        let call = self.calls.fetch_add(1, SeqCst);
        let now = self.at_once.fetch_add(1, SeqCst) + 1;
        self.at_once_max.fetch_max(now, SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.at_once.fetch_sub(1, SeqCst);
        let (label, detail) = (label.clone(), String::new());
        let mood = *self.mood.lock().unwrap();
        let mood = match (mood, call % 5) {
            (Mood::FailsThreeOfFive, 0 | 2 | 4) | (Mood::FailsTwoOfFive, 0 | 2) => Mood::Down,
            (Mood::FailsThreeOfFive | Mood::FailsTwoOfFive, _) => Mood::Fine,
            (mood, _) => mood,
        };
        match mood {
            Mood::Throttles => Err(Error::Throttled { label, detail }),
            Mood::FailsThreeOfFive | Mood::FailsTwoOfFive => unreachable!("decided above"),
            Mood::Fine => Ok(Generated { kek: KeyEncryptionKey::from_slice(&[7; 32]).unwrap(), blob: vec![1] }),
            Mood::Down => Err(Error::Unavailable { label, detail }),
            Mood::Denied => Err(Error::AccessDenied { label, detail }),
            Mood::Silent => std::future::pending().await,
        }
    }

    async fn unwrap(&self, _: &Label, _: &KeyContext, _: &[u8]) -> Result<KeyEncryptionKey, Error> {
        Ok(KeyEncryptionKey::from_slice(&[7; 32]).unwrap())
    }
}

struct House {
    guard: Arc<Guard>,
    service: Arc<Service>,
    clock: Arc<FakeClock>,
}

impl House {
    fn new(limits: GuardLimits) -> Self {
        let service = Arc::new(Service {
            mood: Mutex::new(Mood::Fine),
            calls: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            at_once_max: AtomicUsize::new(0),
        });
        let clock = Arc::<FakeClock>::default();
        let sources = Sources { clock: clock.clone(), random: Arc::new(OsRandom) };
        let guard = Arc::new(Guard::new(service.clone(), label(), limits, sources));
        Self { guard, service, clock }
    }

    fn feels(&self, mood: Mood) {
        *self.service.mood.lock().unwrap() = mood;
    }

    fn calls(&self) -> usize {
        self.service.calls.load(SeqCst)
    }

    async fn ask(&self) -> Result<(), Error> {
        self.guard.generate(&label(), &KeyContext::for_scope("s")).await.map(drop)
    }
}

fn label() -> Label {
    "k1".parse().unwrap()
}

fn limits() -> GuardLimits {
    GuardLimits { pause: Duration::from_millis(1), ..GuardLimits::default() }
}

/// A breaker that no share of failures opens.
fn in_a_row(failures: u32) -> BreakerLimits {
    BreakerLimits { failures, attempts_min: usize::MAX, ..BreakerLimits::default() }
}

#[tokio::test]
async fn the_breaker_opens_probes_with_one_call_and_closes() {
    let house = House::new(GuardLimits { attempts_max: 1, ..limits() });
    house.feels(Mood::Down);
    for _ in 0..1000 {
        assert!(matches!(house.ask().await, Err(Error::Unavailable { .. })));
    }
    assert_eq!(house.calls(), 5);
    // Before three quarters of its time nobody calls, after five quarters one does: it fails, and the breaker is open again.
    house.clock.0.fetch_add(1499, SeqCst);
    assert!(house.ask().await.is_err() && house.calls() == 5);
    for probes in 1..=3 {
        house.clock.0.fetch_add(2501, SeqCst);
        let asked = futures::future::join_all((0..50).map(|_| house.ask())).await;
        assert!(asked.iter().all(Result::is_err));
        assert_eq!(house.calls(), 5 + probes);
    }
    house.feels(Mood::Fine);
    house.clock.0.fetch_add(2501, SeqCst);
    house.ask().await.unwrap();
    assert!(futures::future::join_all((0..50).map(|_| house.ask())).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn many_at_once_of_whom_most_fail_open_it_although_few_fail_in_a_row() {
    for (mood, opens) in [(Mood::FailsThreeOfFive, true), (Mood::FailsTwoOfFive, false)] {
        let house = House::new(GuardLimits { attempts_max: 1, ..limits() });
        house.feels(mood);
        let mut refused = 0;
        for _ in 0..20 {
            let asked = futures::future::join_all((0..50).map(|_| house.ask())).await;
            refused += asked.iter().filter(|asked| asked.is_err()).count();
        }
        // Twenty verdicts open it; whoever began before that is let go on.
        if opens {
            assert!((20..=20 + 50).contains(&house.calls()), "{}", house.calls());
            assert!(refused >= 1000 - house.calls(), "{refused}");
        } else {
            assert_eq!((house.calls(), refused), (1000, 400));
        }
    }
}

#[tokio::test]
async fn an_open_breaker_answers_as_the_service_did() {
    let house = House::new(GuardLimits { attempts_max: 1, ..limits() });
    house.feels(Mood::Throttles);
    for _ in 0..1000 {
        assert!(matches!(house.ask().await, Err(Error::Throttled { .. })));
    }
    assert_eq!(house.calls(), 5);
    // The probe finds it down, so that is what is answered from then on.
    house.feels(Mood::Down);
    house.clock.0.fetch_add(2501, SeqCst);
    for _ in 0..1000 {
        assert!(matches!(house.ask().await, Err(Error::Unavailable { .. })));
    }
    assert_eq!(house.calls(), 6);
    // Full is something else than throttled by the service: it says nothing about it.
    let house = House::new(GuardLimits { calls_max: 1, waiting_max: 0, attempts_max: 1, ..limits() });
    let asked = futures::future::join_all((0..50).map(|_| house.ask())).await;
    assert_eq!(asked.iter().filter(|asked| matches!(asked, Err(Error::Throttled { .. }))).count(), 49);
    house.ask().await.unwrap();
}

#[tokio::test]
async fn nobody_waits_for_a_retry_that_the_breaker_would_refuse() {
    let house = House::new(GuardLimits { pause: Duration::from_secs(4), breaker: in_a_row(1), ..limits() });
    house.feels(Mood::Throttles);
    let begun = std::time::Instant::now();
    assert!(matches!(house.ask().await, Err(Error::Throttled { .. })));
    assert!(begun.elapsed() < Duration::from_secs(1) && house.calls() == 1, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn retries_go_by_the_share_that_is_set() {
    let mut made = Vec::new();
    for retry_percent in [1, 50, 100] {
        let house = House::new(GuardLimits { breaker: in_a_row(u32::MAX), retry_percent, ..limits() });
        house.feels(Mood::Down);
        for _ in 0..200 {
            assert!(house.ask().await.is_err());
        }
        made.push(house.calls() - 200);
    }
    // Ten are saved up at the start, and no more than that: the first call earns nothing.
    assert_eq!(made, [11, 109, 209]);
}

#[tokio::test]
async fn permanent_failures_are_asked_once_each_and_never_open_it() {
    let house = House::new(limits());
    house.feels(Mood::Denied);
    for _ in 0..100 {
        assert!(matches!(house.ask().await, Err(Error::AccessDenied { .. })));
    }
    assert_eq!(house.calls(), 100);
    house.feels(Mood::Fine);
    house.ask().await.unwrap();
}

#[tokio::test]
async fn a_probe_that_nobody_waits_for_does_not_keep_it_open() {
    let house = House::new(GuardLimits { attempts_max: 1, breaker: in_a_row(1), ..limits() });
    house.feels(Mood::Down);
    assert!(house.ask().await.is_err());
    house.clock.0.fetch_add(2501, SeqCst);
    house.feels(Mood::Silent);
    assert!(tokio::time::timeout(Duration::from_millis(30), house.ask()).await.is_err(), "the probe was given up");
    house.feels(Mood::Fine);
    house.ask().await.unwrap();
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let house = House::new(GuardLimits { breaker: in_a_row(u32::MAX), ..limits() });
    house.feels(Mood::Down);
    for _ in 0..200 {
        assert!(house.ask().await.is_err());
    }
    let retries = house.calls() - 200;
    assert!((10..=30).contains(&retries), "{retries} retries of 200 calls");
    // The first trouble after good times is mended at once.
    house.feels(Mood::Fine);
    for _ in 0..100 {
        house.ask().await.unwrap();
    }
    house.feels(Mood::Down);
    let before = house.calls();
    assert!(house.ask().await.is_err());
    assert_eq!(house.calls() - before, 3);
}

#[tokio::test]
async fn calls_and_waiting_are_bounded_and_one_more_is_throttled() {
    let house = House::new(GuardLimits { calls_max: 4, waiting_max: 16, ..limits() });
    let asked = futures::future::join_all((0..100).map(|_| house.ask())).await;
    let throttled = asked.iter().filter(|asked| matches!(asked, Err(Error::Throttled { .. }))).count();
    assert_eq!((throttled, asked.iter().filter(|asked| asked.is_ok()).count()), (80, 20));
    assert_eq!((house.calls(), house.service.at_once_max.load(SeqCst)), (20, 4));
    house.ask().await.unwrap();
}

#[tokio::test]
async fn a_silent_service_holds_nobody_beyond_the_deadline() {
    let house = House::new(GuardLimits { deadline: Duration::from_millis(100), calls_max: 2, ..limits() });
    house.feels(Mood::Silent);
    let begun = std::time::Instant::now();
    let asked = futures::future::join_all((0..10).map(|_| house.ask())).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let timed_out = asked.iter().filter(|asked| matches!(asked, Err(Error::TimedOut { .. }))).count();
    assert!(timed_out >= 2 && asked.iter().all(|asked| asked.as_ref().is_err_and(Error::is_retryable)), "{asked:?}");
}

#[tokio::test]
async fn another_label_is_unknown_and_an_impossible_blob_makes_no_call() {
    let house = House::new(limits());
    let other: Label = "k2".parse().unwrap();
    let context = KeyContext::for_scope("s");
    assert!(matches!(house.guard.generate(&other, &context).await, Err(Error::UnknownLabel { .. })));
    assert!(matches!(house.guard.unwrap(&label(), &context, b"").await, Err(Error::InvalidCiphertext { .. })));
    assert_eq!(house.calls(), 0);
}
