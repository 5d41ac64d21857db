use super::*;
use crate::keys::{Clock, fingerprint};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use tokio::sync::Semaphore;

/// In milliseconds, the one that only moves forward and the one on the wall.
#[derive(Default)]
struct FakeClock(AtomicU64, AtomicU64);

impl FakeClock {
    /// The wall clock stands still, as one that somebody holds back does.
    fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, SeqCst);
    }
}

impl Clock for FakeClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(SeqCst))
    }

    fn unix_nanos(&self) -> u64 {
        self.1.load(SeqCst) * 1_000_000
    }
}

fn kek(n: usize) -> KeyEncryptionKey {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    KeyEncryptionKey::new(bytes)
}

fn name(n: usize) -> [u8; 32] {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&(n as u64).to_be_bytes());
    name
}

fn failure() -> Error {
    Error::Unavailable { label: "k1".parse().unwrap(), detail: "on purpose".into() }
}

fn unwrap_cache(ttl_ms: u64, entries: u64) -> (UnwrapCache, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::default());
    let limits = CacheLimits { unwrap_ttl: Duration::from_millis(ttl_ms), unwrap_entries: entries, ..CacheLimits::default() };
    (UnwrapCache::new(&limits, Watch::new(clock.clone())), clock)
}

fn shared_keys(max_age_ms: u64, max_uses: u64) -> (Arc<SharedKeys>, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::default());
    let shared_max_age = Duration::from_millis(max_age_ms);
    let limits = CacheLimits { shared_max_age, shared_max_uses: max_uses, ..CacheLimits::default() };
    (Arc::new(SharedKeys::new(&limits, Watch::new(clock.clone()))), clock)
}

/// A load that waits for a permit and counts its calls.
struct Gate {
    calls: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    fn shut() -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), open: Semaphore::new(0) })
    }

    async fn pass(&self) -> usize {
        let call = self.calls.fetch_add(1, SeqCst);
        self.open.acquire().await.unwrap().forget();
        call
    }

    async fn wait_for_calls(&self, calls: usize) {
        while self.calls.load(SeqCst) < calls {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_hundred_reads_together_make_one_call() {
    let (cache, _) = unwrap_cache(300_000, 1000);
    let gate = Gate::shut();
    let reads: Vec<_> = (0..100)
        .map(|_| {
            let (cache, gate) = (cache.clone(), gate.clone());
            tokio::spawn(async move { cache.get(name(1), || async { Ok(kek(gate.pass().await)) }).await })
        })
        .collect();
    gate.wait_for_calls(1).await;
    gate.open.add_permits(100);
    for read in reads {
        assert_eq!(fingerprint(&read.await.unwrap().unwrap()), fingerprint(&kek(0)));
    }
    assert_eq!(gate.calls.load(SeqCst), 1);
    assert_eq!(cache.lookups(), Lookups { hits: 0, misses: 1, coalesced: 99 });
    cache.get(name(1), || async { Err(failure()) }).await.unwrap();
    assert_eq!(cache.lookups(), Lookups { hits: 1, misses: 1, coalesced: 99 });
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_waited_and_not_kept() {
    let (cache, _) = unwrap_cache(300_000, 1000);
    let gate = Gate::shut();
    let reads: Vec<_> = (0..100)
        .map(|_| {
            let (cache, gate) = (cache.clone(), gate.clone());
            tokio::spawn(async move {
                let load = || async {
                    gate.pass().await;
                    Err(failure())
                };
                cache.get(name(1), load).await
            })
        })
        .collect();
    gate.wait_for_calls(1).await;
    // All hundred are waiting before the one call fails.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    gate.open.add_permits(100);
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap_err(), failure());
    }
    assert_eq!(gate.calls.load(SeqCst), 1);
    assert_eq!(cache.len().await, 0);
    let again = cache.get(name(1), || async { Ok(kek(7)) }).await.unwrap();
    assert_eq!(fingerprint(&again), fingerprint(&kek(7)));
    assert_eq!(cache.lookups(), Lookups { hits: 0, misses: 2, coalesced: 99 });
}

#[tokio::test]
async fn a_caller_that_goes_away_is_replaced() {
    let (cache, _) = unwrap_cache(300_000, 1000);
    let gate = Gate::shut();
    let spawn = || {
        let (cache, gate) = (cache.clone(), gate.clone());
        tokio::spawn(async move { cache.get(name(1), || async { Ok(kek(gate.pass().await)) }).await })
    };
    let first = spawn();
    gate.wait_for_calls(1).await;
    let second = spawn();
    tokio::task::yield_now().await;
    first.abort();
    gate.wait_for_calls(2).await;
    gate.open.add_permits(1);
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_unwrapped_key_lives_exactly_its_time() {
    let (cache, clock) = unwrap_cache(1000, 1000);
    let calls = AtomicUsize::new(0);
    let get = || cache.get(name(1), || async { Ok(kek(calls.fetch_add(1, SeqCst))) });
    get().await.unwrap();
    clock.advance_ms(999);
    get().await.unwrap();
    assert_eq!(calls.load(SeqCst), 1);
    clock.advance_ms(1);
    get().await.unwrap();
    assert_eq!(calls.load(SeqCst), 2);
    // The time counts from the call, not from the last use.
    for _ in 0..5 {
        clock.advance_ms(250);
        get().await.unwrap();
    }
    assert_eq!(calls.load(SeqCst), 3);
}

#[tokio::test]
async fn the_age_counts_from_before_the_call() {
    let (cache, clock) = unwrap_cache(1000, 1000);
    let slow = || async {
        clock.advance_ms(700);
        Ok(kek(1))
    };
    cache.get(name(1), slow).await.unwrap();
    clock.advance_ms(300);
    let fresh = cache.get(name(1), || async { Ok(kek(2)) }).await.unwrap();
    assert_eq!(fingerprint(&fresh), fingerprint(&kek(2)));
}

#[tokio::test]
async fn as_many_as_the_bound_stay_and_one_more_costs_the_least_recently_used() {
    let (cache, _) = unwrap_cache(300_000, 3);
    let calls = AtomicUsize::new(0);
    let get = async |n: usize| {
        let load = || async {
            calls.fetch_add(1, SeqCst);
            Ok(kek(n))
        };
        cache.get(name(n), load).await.unwrap();
        cache.slots.run_pending_tasks().await;
    };
    for n in [0, 1, 2, 0, 1, 2, 1, 0] {
        get(n).await;
    }
    assert_eq!((calls.load(SeqCst), cache.len().await), (3, 3), "three fit");
    get(3).await;
    assert_eq!((calls.load(SeqCst), cache.len().await), (4, 3));
    for n in [0, 1, 3] {
        get(n).await;
    }
    assert_eq!(calls.load(SeqCst), 4, "2 had been used the longest time ago, although 0 and 1 came first");
    get(2).await;
    assert_eq!(calls.load(SeqCst), 5);
}

/// Whatever the clocks do, a key is not used for longer than its time by the better of the two.
#[tokio::test]
async fn no_clock_makes_a_key_live_longer() {
    // What monotonic and wall clock show 600, 999 and 1000 ms after the start, and after how much the key has to be gone.
    let cases = [
        ("both go", [(600, 600), (999, 999), (1000, 1000)], [true, true, false]),
        ("the monotonic clock stands still", [(0, 600), (0, 999), (0, 1000)], [true, true, false]),
        ("the wall clock stands still", [(600, 0), (999, 0), (1000, 0)], [true, true, false]),
        ("the monotonic clock goes back", [(600, 600), (599, 999), (600, 1000)], [true, false, false]),
        ("the wall clock is set back", [(600, 600), (999, 100), (1000, 101)], [true, true, false]),
        ("the wall clock is set forward", [(600, 600), (999, 5000), (1000, 5001)], [true, false, false]),
    ];
    for (what, shown, lives) in cases {
        let (cache, clock) = unwrap_cache(1000, 10);
        let (shared, shared_clock) = shared_keys(1000, 1000);
        let label: Label = "k1".parse().unwrap();
        let gate = Gate::shut();
        gate.open.add_permits(Semaphore::MAX_PERMITS);
        let start = 7000;
        let set = |(monotonic, wall): (u64, u64)| {
            for clock in [&clock, &shared_clock] {
                clock.0.store(start + monotonic, SeqCst);
                clock.1.store(start + wall, SeqCst);
            }
        };
        set((0, 0));
        cache.get(name(1), || async { Ok(kek(1)) }).await.unwrap();
        let first = shared.take(&label, "s", generator(&gate)).await.unwrap();
        for (now, lives) in shown.into_iter().zip(lives) {
            set(now);
            let found = cache.get(name(1), || async { Err(failure()) }).await;
            assert_eq!(found.is_ok(), lives, "{what}: {now:?}");
            let taken = shared.take(&label, "s", generator(&gate)).await.unwrap();
            assert_eq!(taken.blob == first.blob, lives, "{what}: {now:?}");
        }
    }
    // Swept, too.
    let (cache, clock) = unwrap_cache(1000, 10);
    clock.0.store(5000, SeqCst);
    let weak = Arc::downgrade(&cache.get(name(1), || async { Ok(kek(1)) }).await.unwrap());
    cache.sweep().await;
    assert!(weak.upgrade().is_some());
    clock.0.store(4999, SeqCst);
    cache.sweep().await;
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn a_burst_stays_near_the_bound() {
    let (cache, _) = unwrap_cache(300_000, 100);
    for n in 0..10_000 {
        cache.get(name(n), || async { Ok(kek(n)) }).await.unwrap();
        assert!(cache.slots.iter().count() <= 100 + 1000);
    }
    assert!(cache.len().await <= 100);
}

#[tokio::test]
async fn a_key_is_wiped_when_it_leaves() {
    let (cache, clock) = unwrap_cache(1000, 2);
    let weak = async |n: usize| -> Weak<KeyEncryptionKey> {
        let kek = cache.get(name(n), || async { Ok(kek(n)) }).await.unwrap();
        cache.slots.run_pending_tasks().await;
        Arc::downgrade(&kek)
    };
    let (first, second, third) = (weak(1).await, weak(2).await, weak(3).await);
    assert!(first.upgrade().is_none(), "pushed out by the bound");
    assert!(second.upgrade().is_some() && third.upgrade().is_some());
    clock.advance_ms(1000);
    cache.sweep().await;
    assert!(second.upgrade().is_none() && third.upgrade().is_none(), "swept out by age");
    assert_eq!(cache.len().await, 0);
}

#[tokio::test]
async fn without_ttl_or_room_every_read_calls_and_works() {
    for (ttl, entries) in [(0, 1000), (1000, 0), (0, 0)] {
        let (cache, _) = unwrap_cache(ttl, entries);
        for n in 0..20 {
            let got = cache.get(name(1), || async { Ok(kek(n)) }).await.unwrap();
            cache.slots.run_pending_tasks().await;
            assert_eq!(fingerprint(&got), fingerprint(&kek(n)), "ttl {ttl}, entries {entries}");
        }
    }
}

fn generator(gate: &Arc<Gate>) -> impl Fn() -> BoxFuture<'static, Result<SharedKey, Error>> + Clone + use<> {
    let gate = gate.clone();
    move || {
        let gate = gate.clone();
        async move {
            let n = gate.pass().await;
            Ok(SharedKey { kek: Arc::new(kek(n)), blob: n.to_string().into_bytes().into() })
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_exact_under_concurrency() {
    let (keys, _) = shared_keys(300_000, 100);
    let gate = Gate::shut();
    gate.open.add_permits(Semaphore::MAX_PERMITS);
    let takes: Vec<_> = (0..1000)
        .map(|_| {
            let (keys, generate) = (keys.clone(), generator(&gate));
            tokio::spawn(async move { keys.take(&"k1".parse().unwrap(), "s", generate).await.unwrap().blob })
        })
        .collect();
    let mut uses = HashMap::<Arc<[u8]>, u32>::new();
    for take in takes {
        *uses.entry(take.await.unwrap()).or_default() += 1;
    }
    assert_eq!(gate.calls.load(SeqCst), 10);
    assert!(uses.len() == 10 && uses.values().all(|n| *n == 100), "{uses:?}");
}

#[tokio::test]
async fn a_shared_key_is_used_exactly_as_often_as_allowed() {
    let (keys, _) = shared_keys(300_000, 3);
    let gate = Gate::shut();
    gate.open.add_permits(Semaphore::MAX_PERMITS);
    let label: Label = "k1".parse().unwrap();
    for blob in ["0", "0", "0", "1", "1", "1", "2"] {
        assert_eq!(&*keys.take(&label, "s", generator(&gate)).await.unwrap().blob, blob.as_bytes());
    }
}

/// Callers that go away in the middle have used a key or have not; nobody gets one use too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_never_make_a_use_too_many() {
    let (keys, _) = shared_keys(300_000, 10);
    let gate = Gate::shut();
    let takes: Vec<_> = (0..500)
        .map(|_| {
            let (keys, generate) = (keys.clone(), generator(&gate));
            tokio::spawn(async move { keys.take(&"k1".parse().unwrap(), "s", generate).await.unwrap().blob })
        })
        .collect();
    gate.wait_for_calls(1).await;
    takes.iter().step_by(3).for_each(tokio::task::JoinHandle::abort);
    gate.open.add_permits(Semaphore::MAX_PERMITS / 2);
    let mut uses = HashMap::<Arc<[u8]>, u32>::new();
    for take in takes {
        if let Ok(blob) = take.await {
            *uses.entry(blob).or_default() += 1;
        }
    }
    assert!(uses.values().all(|n| *n <= 10), "{uses:?}");
    assert!(uses.values().sum::<u32>() >= 500 - 167, "{uses:?}");
}

#[tokio::test]
async fn as_many_scopes_as_allowed_have_a_shared_key() {
    let clock = Arc::new(FakeClock::default());
    let limits = CacheLimits { shared_scopes: 2, ..CacheLimits::default() };
    let keys = SharedKeys::new(&limits, Watch::new(clock));
    let gate = Gate::shut();
    gate.open.add_permits(Semaphore::MAX_PERMITS);
    let label: Label = "k1".parse().unwrap();
    let take = async |scope: &str| {
        let taken = keys.take(&label, scope, generator(&gate)).await.unwrap();
        keys.scopes.run_pending_tasks().await;
        Arc::downgrade(&taken.kek)
    };
    let (first, second) = (take("a").await, take("b").await);
    take("a").await;
    assert_eq!(gate.calls.load(SeqCst), 2, "two fit");
    take("c").await;
    assert!(first.upgrade().is_some(), "used again");
    assert!(second.upgrade().is_none(), "wiped");
    take("a").await;
    assert_eq!(gate.calls.load(SeqCst), 3);
    take("b").await;
    assert_eq!(gate.calls.load(SeqCst), 4);
}

#[tokio::test]
async fn one_use_each_is_one_call_each() {
    let (keys, _) = shared_keys(300_000, 1);
    let gate = Gate::shut();
    gate.open.add_permits(Semaphore::MAX_PERMITS);
    let label: Label = "k1".parse().unwrap();
    let takes = (0..20).map(|_| keys.take(&label, "s", generator(&gate)));
    let blobs: std::collections::HashSet<_> =
        futures::future::try_join_all(takes).await.unwrap().into_iter().map(|k| k.blob).collect();
    assert_eq!((blobs.len(), gate.calls.load(SeqCst)), (20, 20));
}

#[tokio::test]
async fn a_shared_key_lives_exactly_its_age() {
    let (keys, clock) = shared_keys(5000, 1000);
    let gate = Gate::shut();
    gate.open.add_permits(Semaphore::MAX_PERMITS);
    let label: Label = "k1".parse().unwrap();
    for (step, blob) in [(0, "0"), (4999, "0"), (1, "1"), (4999, "1"), (1, "2")] {
        clock.advance_ms(step);
        assert_eq!(&*keys.take(&label, "s", generator(&gate)).await.unwrap().blob, blob.as_bytes());
    }
    // Another scope, or another label, has another key.
    assert_eq!(&*keys.take(&label, "t", generator(&gate)).await.unwrap().blob, b"3");
    assert_eq!(&*keys.take(&"k2".parse().unwrap(), "s", generator(&gate)).await.unwrap().blob, b"4");
    assert_eq!(&*keys.take(&label, "s", generator(&gate)).await.unwrap().blob, b"2");
}

#[tokio::test]
async fn the_age_of_a_shared_key_counts_from_before_the_call_unless_that_took_longer() {
    let label: Label = "k1".parse().unwrap();
    for (took, lives) in [(0, 1000), (700, 300), (999, 1), (1000, 1000), (5000, 1000)] {
        let (keys, clock) = shared_keys(1000, 1000);
        let calls = Arc::new(AtomicUsize::new(0));
        let slow = || {
            let (clock, calls) = (clock.clone(), calls.clone());
            async move {
                clock.advance_ms(took);
                let n = calls.fetch_add(1, SeqCst);
                Ok(SharedKey { kek: Arc::new(kek(n)), blob: [n as u8].into() })
            }
            .boxed()
        };
        futures::future::try_join_all((0..10).map(|_| keys.take(&label, "s", slow))).await.unwrap();
        clock.advance_ms(lives - 1);
        assert_eq!(*keys.take(&label, "s", slow).await.unwrap().blob, [0], "{took}");
        clock.advance_ms(1);
        assert_eq!(*keys.take(&label, "s", slow).await.unwrap().blob, [1], "{took}");
    }
}

#[tokio::test]
async fn writers_together_share_one_call_and_one_failure() {
    let (keys, _) = shared_keys(5000, 1000);
    let label: Label = "k1".parse().unwrap();
    let shut = Gate::shut();
    let fail = || {
        let shut = shut.clone();
        async move {
            shut.pass().await;
            Err(failure())
        }
        .boxed()
    };
    let open_late = async {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        shut.open.add_permits(100);
    };
    let takes = futures::future::join_all((0..100).map(|_| keys.take(&label, "s", fail)));
    let (outcomes, ()) = tokio::join!(takes, open_late);
    assert!(outcomes.iter().all(|o| o.as_ref().is_err_and(|e| *e == failure())));
    assert_eq!(shut.calls.load(SeqCst), 1);
    assert_eq!(keys.lookups(), Lookups { hits: 0, misses: 1, coalesced: 99 });
    let gate = Gate::shut();
    gate.open.add_permits(1);
    keys.take(&label, "s", generator(&gate)).await.unwrap();
    keys.take(&label, "s", generator(&gate)).await.unwrap();
    assert_eq!(keys.lookups(), Lookups { hits: 1, misses: 2, coalesced: 99 });
}

#[tokio::test]
async fn a_call_that_everybody_left_is_dropped() {
    let (keys, _) = shared_keys(5000, 1000);
    let label: Label = "k1".parse().unwrap();
    let gate = Gate::shut();
    let (lost, generate) = (keys.clone(), generator(&gate));
    let task = tokio::spawn(async move { lost.take(&"k1".parse().unwrap(), "s", generate).await.map(|_| ()) });
    gate.wait_for_calls(1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    gate.open.add_permits(1);
    assert_eq!(&*keys.take(&label, "s", generator(&gate)).await.unwrap().blob, b"1");
}

#[tokio::test]
async fn an_old_shared_key_is_wiped_although_nobody_asks() {
    let (keys, clock) = shared_keys(5000, 1000);
    let gate = Gate::shut();
    gate.open.add_permits(1);
    let weak = Arc::downgrade(&keys.take(&"k1".parse().unwrap(), "s", generator(&gate)).await.unwrap().kek);
    keys.sweep().await;
    assert!(weak.upgrade().is_some());
    clock.advance_ms(5000);
    keys.sweep().await;
    assert!(weak.upgrade().is_none());
}
