use super::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A region that fails in one way, or works. Every key that works is made of the same bytes.
#[derive(Default)]
struct Region {
    fails: Mutex<Option<Error>>,
    unwraps_to: u8,
    calls: AtomicUsize,
}

impl Region {
    fn answer<T>(&self, good: T) -> Result<T, Error> {
        self.calls.fetch_add(1, SeqCst);
        self.fails.lock().unwrap().clone().map_or(Ok(good), Err)
    }

    fn kek(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_slice(&[byte; 32]).unwrap()
    }
}

#[async_trait::async_trait]
impl KeyProvider for Region {
    async fn generate(&self, _: &Label, _: &KeyContext) -> Result<Generated, Error> {
        self.answer(Generated { kek: Self::kek(0), blob: vec![1] })
    }

    async fn unwrap(&self, _: &Label, _: &KeyContext, _: &[u8]) -> Result<KeyEncryptionKey, Error> {
        self.answer(Self::kek(self.unwraps_to))
    }
}

struct House {
    regions: [Arc<Region>; 3],
    replicas: Replicas,
}

impl House {
    fn new() -> Self {
        Self::with(Default::default())
    }

    fn with(regions: [Arc<Region>; 3]) -> Self {
        let [first, others @ ..] = regions.clone().map(|region| region as Arc<dyn KeyProvider>);
        Self { regions, replicas: Replicas::new(first, others) }
    }

    fn fail<const N: usize>(&self, errors: [Option<Error>; N]) {
        for (region, error) in self.regions.iter().zip(errors) {
            *region.fails.lock().unwrap() = error;
        }
    }

    /// Calls of each region since the last time that this was asked.
    fn calls(&self) -> [usize; 3] {
        self.regions.each_ref().map(|region| region.calls.swap(0, SeqCst))
    }

    async fn both(&self) -> [Option<Error>; 2] {
        let made = self.replicas.generate(&label(), &context()).await;
        [made.err(), self.replicas.unwrap(&label(), &context(), &[1]).await.err()]
    }
}

fn label() -> Label {
    "k1".parse().unwrap()
}

fn context() -> KeyContext {
    KeyContext::for_object("b", "k", false)
}

fn down() -> Error {
    Error::Unavailable { label: label(), detail: "down".into() }
}

fn throttled() -> Error {
    Error::Throttled { label: label(), detail: "slower".into() }
}

fn denied() -> Error {
    Error::AccessDenied { label: label(), detail: "no".into() }
}

fn damaged() -> Error {
    Error::InvalidCiphertext { label: label(), detail: "damaged".into() }
}

#[tokio::test]
async fn the_next_region_answers_for_one_that_cannot() {
    let house = House::new();
    for (fails, calls) in [
        ([None, None, None], [2, 0, 0]),
        ([Some(down()), None, None], [2, 2, 0]),
        ([Some(throttled()), Some(down()), None], [2, 2, 2]),
    ] {
        house.fail(fails);
        assert_eq!((house.both().await, house.calls()), ([None, None], calls));
    }
}

#[tokio::test]
async fn who_has_nobody_behind_answers_as_the_first_did() {
    let house = House::new();
    house.fail([Some(throttled()), Some(down()), Some(down())]);
    assert_eq!(house.both().await, [Some(throttled()), Some(throttled())]);
}

#[tokio::test]
async fn a_permanent_state_is_an_answer_and_no_other_region_is_asked() {
    let house = House::new();
    let label = || label();
    let detail = || String::new();
    for refusal in [
        denied(),
        damaged(),
        Error::KeyDisabled { label: label(), detail: detail() },
        Error::IncorrectKey { label: label(), detail: detail() },
        Error::BadAnswer { label: label(), detail: detail() },
        Error::CredentialsRefused { label: label(), detail: detail() },
    ] {
        house.fail([Some(refusal.clone()), None, None]);
        assert_eq!((house.both().await, house.calls()), ([Some(refusal.clone()), Some(refusal)], [2, 0, 0]));
    }
}

#[tokio::test]
async fn a_replica_that_refuses_leaves_the_failure_transient_but_its_word_on_the_object_counts() {
    let house = House::new();
    house.fail([Some(down()), Some(denied()), None]);
    assert_eq!((house.both().await, house.calls()), ([Some(down()), Some(down())], [2, 2, 0]));
    house.fail([Some(down()), Some(damaged()), None]);
    assert_eq!((house.both().await, house.calls()), ([Some(damaged()), Some(damaged())], [2, 2, 0]));
}

#[tokio::test]
async fn every_region_is_proved_unless_it_cannot_be_called_now() {
    let house = House::new();
    let (label, context) = (label(), context());
    let prove = || house.replicas.prove(&label, &context);
    assert_eq!((prove().await, house.calls()), (Ok(()), [4, 4, 4]));
    house.fail([Some(down()), None, None]);
    assert_eq!((prove().await, house.calls()), (Ok(()), [2, 3, 3]));
    house.fail([Some(down()), Some(throttled()), Some(down())]);
    assert_eq!(prove().await, Err(down()));
    // What would refuse in an outage refuses before it.
    house.fail([None, None, Some(denied())]);
    assert_eq!(prove().await, Err(denied()));
}

#[tokio::test]
async fn a_replica_with_another_key_is_found() {
    let house = House::with([Arc::default(), Arc::new(Region { unwraps_to: 1, ..Region::default() }), Arc::default()]);
    let refusal = house.replicas.prove(&label(), &context()).await.unwrap_err();
    assert!(matches!(refusal, Error::BadAnswer { .. }), "{refusal}");
}
