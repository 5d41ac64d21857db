use super::*;
use crate::crypto::Suite;
use crate::keys::rules::{BucketRule, PrefixRule, Rule, SuiteChoice};
use crate::keys::{Clock, CustomerKey, Random};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// A provider in memory: the blob is the index of the key. It does not look at the context, so what refuses a moved envelope here
/// is the envelope.
#[derive(Default)]
struct Fake {
    made: Mutex<Vec<[u8; 32]>>,
    contexts: Mutex<Vec<KeyContext>>,
    broken: Mutex<Option<Error>>,
    /// How long a call takes, by this clock.
    takes: Mutex<Option<(Arc<Still>, Duration)>>,
}

impl Fake {
    fn work(&self) -> Result<(), Error> {
        if let Some((clock, time)) = &*self.takes.lock().unwrap() {
            clock.advance(*time);
        }
        self.broken.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

#[async_trait::async_trait]
impl KeyProvider for Fake {
    async fn generate(&self, _: &Label, context: &KeyContext) -> Result<Generated, Error> {
        tokio::task::yield_now().await;
        self.work()?;
        let mut made = self.made.lock().unwrap();
        let next = made.len() as u8 + 1;
        made.push([next; 32]);
        self.contexts.lock().unwrap().push(context.clone());
        Ok(Generated { kek: KeyEncryptionKey::from_slice(made.last().unwrap()).unwrap(), blob: vec![next - 1] })
    }

    async fn unwrap(&self, label: &Label, context: &KeyContext, blob: &[u8]) -> Result<KeyEncryptionKey, Error> {
        tokio::task::yield_now().await;
        self.work()?;
        self.contexts.lock().unwrap().push(context.clone());
        let damaged = || Error::InvalidCiphertext { label: label.clone(), detail: String::new() };
        let key = self.made.lock().unwrap().get(usize::from(blob[0])).copied().ok_or_else(damaged)?;
        Ok(KeyEncryptionKey::from_slice(&key).unwrap())
    }
}

/// Stands still unless a test moves it; the wall clock always does.
struct Still(Mutex<Duration>);

impl Still {
    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Still {
    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn unix_nanos(&self) -> u64 {
        1_700_000_000_000_000_000
    }
}

/// A generator that got stuck, as in two machines resumed from one snapshot.
struct Stuck;

impl Random for Stuck {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), Error> {
        buffer.fill(4);
        Ok(())
    }
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn rule(name: &str, mode: KeyMode) -> Rule {
    Rule { label: label(name), suite: SuiteChoice::ChaCha20Poly1305, mode, hash_key_name: false }
}

struct House {
    keys: Arc<Keys>,
    fake: Arc<Fake>,
    clock: Arc<Still>,
}

fn house(mode: KeyMode) -> House {
    house_with(mode, &CacheLimits::default())
}

fn house_with(mode: KeyMode, limits: &CacheLimits) -> House {
    let bucket = |rule: Rule, scope: Option<&str>| BucketRule {
        rule,
        prefixes: vec![PrefixRule { prefix: "old/".into(), rule: self::rule("old", KeyMode::PerObject) }],
        scope: scope.map(Into::into),
        share_scope: false,
    };
    let hashed = Rule { hash_key_name: true, suite: SuiteChoice::Aes256Gcm, ..rule("k1", KeyMode::PerObject) };
    let buckets = BTreeMap::from([
        ("hashed".to_owned(), bucket(hashed, None)),
        ("scoped".to_owned(), bucket(rule("k1", mode), Some("tenant-7"))),
    ]);
    let (fake, clock) = (Arc::<Fake>::default(), Arc::new(Still(Mutex::default())));
    let old: Arc<dyn KeyProvider> = Arc::<Fake>::default();
    let providers = HashMap::from([(label("k1"), fake.clone() as Arc<dyn KeyProvider>), (label("old"), old)]);
    let rules = KeyRules::new(rule("k1", mode), buckets).unwrap();
    let sources = Sources { clock: clock.clone(), random: Arc::new(Stuck) };
    let keys = Arc::new(Keys::new(rules, providers, limits, sources).unwrap());
    House { keys, fake, clock }
}

#[tokio::test]
async fn what_is_made_opens_again_at_its_place_only() {
    for mode in [KeyMode::PerObject, KeyMode::Shared] {
        let house = house(mode);
        for layout in [Layout::Single, Layout::Multipart] {
            let made = house.keys.fresh("b", "k", layout).await.unwrap();
            assert_eq!(made.envelope.flags().layout(), layout);
            assert_eq!(made.envelope.flags().shared, mode == KeyMode::Shared);
            let back = Envelope::parse(&made.envelope.encode()).unwrap();
            assert_eq!(house.keys.open("b", "k", &back).await.unwrap().commit(), made.keys.commit());
            for (bucket, key) in [("b", "l"), ("c", "k"), ("scoped", "k")] {
                let refusal = house.keys.open(bucket, key, &back).await.unwrap_err();
                assert!(matches!(refusal, Error::Envelope(_)) && refusal.is_integrity(), "{mode:?} {bucket} {key}: {refusal}");
            }
        }
    }
}

#[tokio::test]
async fn the_rule_decides_suite_flags_and_context() {
    let house = house(KeyMode::Shared);
    let made = house.keys.fresh("hashed", "k", Layout::Single).await.unwrap();
    assert_eq!(made.envelope.suite(), Suite::Aes256Gcm);
    assert!(made.envelope.flags().hashed_context && !made.envelope.flags().shared);
    house.keys.open("hashed", "k", &made.envelope).await.unwrap();
    let shared = house.keys.fresh("scoped", "k", Layout::Single).await.unwrap();
    assert!(!shared.envelope.flags().hashed_context);
    let contexts = house.fake.contexts.lock().unwrap();
    let hashed = KeyContext::for_object("hashed", "k", true);
    assert_eq!(*contexts, [hashed.clone(), hashed, KeyContext::for_scope("tenant-7")]);
}

#[tokio::test]
async fn the_rule_of_a_prefix_decides_for_what_is_made_and_copied_below_it() {
    let house = house(KeyMode::Shared);
    for (key, name, shared) in [("k", "k1", true), ("old/k", "old", false), ("old", "k1", true)] {
        let made = house.keys.fresh("scoped", key, Layout::Single).await.unwrap();
        assert_eq!((made.envelope.label(), made.envelope.flags().shared), (&label(name), shared), "{key}");
        house.keys.open("scoped", key, &made.envelope).await.unwrap();
        for (to, name, shared) in [("old/c", "old", false), ("c", "k1", true)] {
            let from = Stored { bucket: "scoped", key, envelope: &made.envelope, customer: None };
            let copy = house.keys.rewrap(from, &Choice::Rule, "scoped", to).await.unwrap();
            assert_eq!((copy.label(), copy.flags().shared), (&label(name), shared), "{key} to {to}");
            house.keys.open("scoped", to, &copy).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_stuck_generator_under_a_shared_key_still_gives_new_data_keys() {
    let house = house(KeyMode::Shared);
    let first = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    let second = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    assert_eq!(first.envelope.kms_blob(), second.envelope.kms_blob());
    assert_ne!(first.keys.commit(), second.keys.commit());
}

#[tokio::test]
async fn a_hundred_opens_make_one_call() {
    let house = house(KeyMode::PerObject);
    let made = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    let opens = (0..100).map(|_| {
        let (keys, envelope) = (house.keys.clone(), made.envelope.clone());
        tokio::spawn(async move { keys.open("b", "k", &envelope).await.unwrap().commit() })
    });
    for commit in futures::future::join_all(opens).await {
        assert_eq!(commit.unwrap(), made.keys.commit());
    }
    let stats = house.keys.stats();
    // Those that were scheduled late found it in memory.
    let Lookups { hits, misses, coalesced } = stats.unwrapped;
    assert_eq!((misses, hits + coalesced), (1, 99));
    assert!(coalesced > 0, "{stats:?}");
    let unwrapped = stats.unwrapped;
    assert_eq!(stats, Stats { generate_calls: 1, unwrap_calls: 1, fresh: 1, opened: 100, unwrapped, ..Stats::default() });
}

#[tokio::test]
async fn a_shared_key_costs_one_call_for_many_objects_read_and_written() {
    let house = house(KeyMode::Shared);
    for n in 0..1000 {
        let key = format!("k{n}");
        let made = house.keys.fresh("b", &key, Layout::Single).await.unwrap();
        house.keys.open("b", &key, &made.envelope).await.unwrap();
    }
    let stats = house.keys.stats();
    assert_eq!((stats.generate_calls, stats.unwrap_calls), (1, 0));
    assert_eq!(stats.shared, Lookups { hits: 999, misses: 1, coalesced: 0 });
    assert_eq!(stats.unwrapped, Lookups { hits: 1000, misses: 0, coalesced: 0 });
    *house.clock.0.lock().unwrap() += Duration::from_secs(300);
    let made = house.keys.fresh("b", "late", Layout::Single).await.unwrap();
    house.keys.open("b", "late", &made.envelope).await.unwrap();
    assert_eq!(house.keys.stats().generate_calls, 2);
}

#[tokio::test]
async fn reads_go_on_through_an_outage_until_the_time_is_up() {
    let house = house(KeyMode::PerObject);
    let made = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    let outage = Error::KeyDisabled { label: label("k1"), detail: "switched off".into() };
    *house.fake.broken.lock().unwrap() = Some(outage.clone());
    *house.clock.0.lock().unwrap() += Duration::from_millis(299_999);
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    *house.clock.0.lock().unwrap() += Duration::from_millis(1);
    assert_eq!(house.keys.open("b", "k", &made.envelope).await.unwrap_err(), outage);
    assert_eq!(house.keys.fresh("b", "k", Layout::Single).await.unwrap_err(), outage);
    *house.fake.broken.lock().unwrap() = None;
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    assert_eq!(house.keys.stats().failed_calls, 2);
}

fn revoked() -> Error {
    Error::AccessDenied { label: label("k1"), detail: "taken away".into() }
}

/// From the revocation on nothing is read or written for longer than the times that the configuration has, whenever it comes.
#[tokio::test]
async fn a_revoked_key_is_unusable_once_its_time_is_up_for_reads_and_for_writes() {
    let limits =
        CacheLimits { unwrap_ttl: Duration::from_secs(60), shared_max_age: Duration::from_secs(40), ..CacheLimits::default() };
    for after in [0, 1, 39] {
        let house = house_with(KeyMode::Shared, &limits);
        let seal = async |key: &str| house.keys.fresh("b", key, Layout::Single).await;
        let made = seal("k").await.unwrap();
        let read = async || house.keys.open("b", "k", &made.envelope).await;
        house.clock.advance(Duration::from_secs(after));
        read().await.unwrap();
        *house.fake.broken.lock().unwrap() = Some(revoked());
        // Uses do not lengthen either time.
        house.clock.advance(Duration::from_millis((40 - after) * 1000 - 1));
        let last = seal("last").await.unwrap();
        read().await.unwrap();
        house.clock.advance(Duration::from_millis(1));
        assert_eq!(seal("late").await.unwrap_err(), revoked(), "{after}");
        house.clock.advance(Duration::from_millis(19_999));
        read().await.unwrap();
        house.keys.open("b", "last", &last.envelope).await.unwrap();
        house.clock.advance(Duration::from_millis(1));
        assert_eq!(read().await.unwrap_err(), revoked(), "{after}");
        assert_eq!(house.keys.open("b", "last", &last.envelope).await.unwrap_err(), revoked(), "{after}");
        let moved = house.keys.rewrap(at("b", "k", &made.envelope), &Choice::Rule, "b", "copy").await;
        assert_eq!(moved.unwrap_err(), revoked(), "{after}");
    }
    // Both times count from before the call that made the key.
    let house = house_with(KeyMode::Shared, &limits);
    *house.fake.takes.lock().unwrap() = Some((house.clock.clone(), Duration::from_secs(10)));
    let made = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    *house.fake.broken.lock().unwrap() = Some(revoked());
    house.clock.advance(Duration::from_secs(30));
    assert_eq!(house.keys.fresh("b", "l", Layout::Single).await.unwrap_err(), revoked());
    house.clock.advance(Duration::from_millis(9_999));
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    house.clock.advance(Duration::from_millis(1));
    assert_eq!(house.keys.open("b", "k", &made.envelope).await.unwrap_err(), revoked());
    // Without sharing, a write fails at once, and a key that came from an unwrap has the same time as one that was made here.
    let house = house_with(KeyMode::PerObject, &limits);
    let made = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    house.clock.advance(Duration::from_secs(1000));
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    *house.fake.broken.lock().unwrap() = Some(revoked());
    assert_eq!(house.keys.fresh("b", "l", Layout::Single).await.unwrap_err(), revoked());
    house.clock.advance(Duration::from_millis(59_999));
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    house.clock.advance(Duration::from_millis(1));
    assert_eq!(house.keys.open("b", "k", &made.envelope).await.unwrap_err(), revoked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_shared_key_seals_or_copies_more_objects_than_allowed() {
    let limits = CacheLimits { shared_max_uses: 7, ..CacheLimits::default() };
    let house = house_with(KeyMode::Shared, &limits);
    let first = Arc::new(house.keys.fresh("b", "first", Layout::Single).await.unwrap().envelope);
    let seals = (0..200).map(|n| {
        let (keys, first) = (house.keys.clone(), first.clone());
        tokio::spawn(async move {
            let key = format!("k{n}");
            match n % 2 {
                0 => keys.fresh("b", &key, Layout::Single).await.unwrap().envelope,
                _ => keys.rewrap(at("b", "first", &first), &Choice::Rule, "b", &key).await.unwrap(),
            }
        })
    });
    let mut uses = HashMap::from([(first.kms_blob().to_vec(), 1)]);
    for envelope in futures::future::join_all(seals).await {
        *uses.entry(envelope.unwrap().kms_blob().to_vec()).or_insert(0) += 1;
    }
    assert!(uses.values().all(|count| *count <= 7), "{uses:?}");
    assert_eq!((uses.values().sum::<i32>(), uses.len() as u64), (201, house.keys.stats().generate_calls));
    assert_eq!(uses.len(), 201_usize.div_ceil(7), "and none is thrown away before");
}

#[tokio::test]
async fn the_keys_of_more_objects_than_allowed_are_not_kept() {
    let limits = CacheLimits { unwrap_entries: 10, ..CacheLimits::default() };
    let house = house_with(KeyMode::PerObject, &limits);
    let mut made = Vec::new();
    for n in 0..20 {
        made.push(house.keys.fresh("b", &format!("k{n}"), Layout::Single).await.unwrap().envelope);
    }
    for _ in 0..2 {
        for (n, envelope) in made.iter().enumerate() {
            house.keys.open("b", &format!("k{n}"), envelope).await.unwrap();
            house.keys.sweep().await;
        }
    }
    // Each was pushed out before its second turn.
    let stats = house.keys.stats();
    assert_eq!((stats.unwrap_calls, stats.unwrapped), (40, Lookups { hits: 0, misses: 40, coalesced: 0 }));
    for (n, envelope) in made.iter().enumerate().skip(10) {
        house.keys.open("b", &format!("k{n}"), envelope).await.unwrap();
    }
    assert_eq!(house.keys.stats().unwrapped, Lookups { hits: 10, misses: 40, coalesced: 0 });
}

/// The commitment is checked on a hit too: the blob alone, cached, opens nothing else.
#[tokio::test]
async fn an_altered_envelope_is_refused_on_a_cache_hit() {
    let house = house(KeyMode::PerObject);
    let made = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    let bytes = made.envelope.to_bytes();
    let fixed = 4 + 2;
    for at in fixed..bytes.len() - 3 {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let refusal = house.keys.open("b", "k", &Envelope::from_bytes(&bad).unwrap()).await.unwrap_err();
        assert!(matches!(refusal, Error::Envelope(_)), "byte {at}");
    }
    assert_eq!(house.keys.stats().unwrap_calls, 1);
}

#[tokio::test]
async fn labels_must_be_configured_to_write_and_to_read() {
    let rules = KeyRules::new(rule("nowhere", KeyMode::PerObject), BTreeMap::new()).unwrap();
    let refused = Keys::new(rules, HashMap::new(), &CacheLimits::default(), Sources::system()).err().unwrap();
    assert_eq!(refused, [Error::UnknownLabel { label: label("nowhere") }]);

    let house = house(KeyMode::PerObject);
    let wrap = |name: &str| {
        let kek = KeyEncryptionKey::from_slice(&[9; 32]).unwrap();
        let dek = DataKey::from_bytes(zeroize::Zeroizing::new([8; 32]));
        let (suite, flags) = (Suite::ChaCha20Poly1305, EnvelopeFlags::default());
        let input = WrapInput { suite, flags, label: label(name), salt: [1; 32], kms_blob: vec![0], scope: "b", key: "k" };
        Envelope::wrap(&kek, input, &dek).unwrap().0
    };
    let unknown = house.keys.open("b", "k", &wrap("foreign")).await.unwrap_err();
    assert_eq!(unknown, Error::UnknownLabel { label: label("foreign") });
    // A label that no rule writes with is still asked.
    assert!(matches!(house.keys.open("b", "k", &wrap("old")).await, Err(Error::InvalidCiphertext { .. })));
}

#[tokio::test]
async fn every_writing_key_is_proved_once() {
    let house = house(KeyMode::PerObject);
    let proofs = house.keys.prove().await;
    let proved: Vec<_> = proofs.iter().map(|proof| (proof.label.to_string(), proof.outcome.is_ok())).collect();
    // The key of a prefix writes, too.
    assert_eq!(proved, [("k1".to_owned(), true), ("old".to_owned(), true)]);
    *house.fake.broken.lock().unwrap() = Some(Error::AccessDenied { label: label("k1"), detail: String::new() });
    assert!(house.keys.prove().await[0].outcome.is_err());
}

fn customer(byte: u8) -> CustomerKey {
    CustomerKey::new(&zeroize::Zeroizing::new(vec![byte; 32])).unwrap()
}

fn at<'a>(bucket: &'a str, key: &'a str, envelope: &'a Envelope) -> Stored<'a> {
    Stored { bucket, key, envelope, customer: None }
}

#[tokio::test]
async fn a_rewrapped_envelope_opens_to_the_same_keys_at_its_new_place_only() {
    for mode in [KeyMode::PerObject, KeyMode::Shared] {
        for layout in [Layout::Single, Layout::Multipart] {
            let house = house(mode);
            let made = house.keys.fresh("b", "k", layout).await.unwrap();
            let copy = house.keys.rewrap(at("b", "k", &made.envelope), &Choice::Rule, "hashed", "l").await.unwrap();
            // The body stays as it is, so what describes it stays; everything else is of the new place.
            assert_eq!((copy.suite(), copy.flags().layout()), (Suite::ChaCha20Poly1305, layout));
            assert_eq!(copy.commit(), made.envelope.commit());
            assert!(copy.flags().hashed_context && !copy.flags().shared);
            assert_ne!(copy.kms_blob(), made.envelope.kms_blob());
            assert_eq!(house.keys.open("hashed", "l", &copy).await.unwrap().commit(), made.keys.commit());
            for (bucket, key) in [("b", "k"), ("b", "l"), ("hashed", "k")] {
                assert!(house.keys.open(bucket, key, &copy).await.is_err(), "{bucket} {key}");
            }
            assert!(house.keys.open("hashed", "l", &made.envelope).await.is_err());
            // What was moved is not copied either.
            let moved = house.keys.rewrap(at("b", "other", &made.envelope), &Choice::Rule, "b", "l").await.unwrap_err();
            assert!(moved.is_integrity(), "{moved}");
        }
    }
}

#[tokio::test]
async fn a_request_chooses_among_configured_keys() {
    let house = house(KeyMode::Shared);
    assert_eq!(house.keys.label_of("old"), Some(label("old")));
    assert_eq!(house.keys.label_of("nowhere"), None);
    assert_eq!(house.keys.name_of(&label("old")), "old");
    let choice = Choice::Key { label: house.keys.label_of("old"), per_object: true };
    let made = house.keys.fresh_with(&choice, "b", "k", Layout::Single).await.unwrap();
    assert_eq!((made.envelope.label(), made.envelope.flags().shared), (&label("old"), false));
    house.keys.open("b", "k", &made.envelope).await.unwrap();
    let choice = Choice::Key { label: None, per_object: true };
    let made = house.keys.fresh_with(&choice, "b", "k", Layout::Single).await.unwrap();
    assert_eq!((made.envelope.label(), made.envelope.flags().shared), (&label("k1"), false));
}

#[tokio::test]
async fn a_key_of_the_clients_opens_alone_and_asks_nobody() {
    let house = house(KeyMode::Shared);
    let choice = Choice::Customer(customer(7));
    let made = house.keys.fresh_with(&choice, "b", "k", Layout::Multipart).await.unwrap();
    let envelope = Envelope::parse(&made.envelope.encode()).unwrap();
    assert!(envelope.flags().customer && envelope.flags().multipart && !envelope.flags().shared);
    let open = async |key: &str, own: Option<&CustomerKey>| {
        house.keys.open_with(Stored { bucket: "b", key, envelope: &envelope, customer: own }).await.map(|keys| keys.commit())
    };
    assert_eq!(open("k", Some(&customer(7))).await.unwrap(), made.keys.commit());
    assert_eq!(open("k", Some(&customer(8))).await.unwrap_err(), Error::CustomerKeyWrong);
    assert_eq!(open("k", None).await.unwrap_err(), Error::CustomerKeyMissing);
    assert!(open("l", Some(&customer(7))).await.unwrap_err().is_integrity());
    let ours = house.keys.fresh("b", "k", Layout::Single).await.unwrap();
    let with_key = Stored { customer: Some(&customer(7)), ..at("b", "k", &ours.envelope) };
    assert_eq!(house.keys.open_with(with_key).await.unwrap_err(), Error::CustomerKeySuperfluous);
    assert_eq!(house.keys.stats().generate_calls, 1, "the key service has no part in it");

    // From the client's key to ours, and to another one of the client's.
    let from = Stored { bucket: "b", key: "k", envelope: &envelope, customer: Some(&customer(7)) };
    let copy = house.keys.rewrap(from, &Choice::Rule, "b", "l").await.unwrap();
    assert_eq!(house.keys.open("b", "l", &copy).await.unwrap().commit(), made.keys.commit());
    let copy = house.keys.rewrap(from, &Choice::Customer(customer(8)), "b", "l").await.unwrap();
    let read = Stored { customer: Some(&customer(8)), ..at("b", "l", &copy) };
    assert_eq!(house.keys.open_with(read).await.unwrap().commit(), made.keys.commit());
    let without = Stored { customer: None, ..from };
    assert_eq!(house.keys.rewrap(without, &Choice::Rule, "b", "l").await.unwrap_err(), Error::CustomerKeyMissing);
}

#[tokio::test]
async fn every_altered_byte_of_a_customer_envelope_is_refused() {
    let house = house(KeyMode::PerObject);
    let own = customer(7);
    let made = house.keys.fresh_with(&Choice::Customer(customer(7)), "b", "k", Layout::Single).await.unwrap();
    let bytes = made.envelope.to_bytes();
    for position in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[position] ^= 1;
        let Ok(envelope) = Envelope::from_bytes(&bad) else { continue };
        let read = Stored { customer: Some(&own), ..at("b", "k", &envelope) };
        assert!(house.keys.open_with(read).await.is_err(), "byte {position}");
    }
}
