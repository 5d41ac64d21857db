//! The two bounded caches of key-encryption keys (FORMAT section 10): unwrapped ones for reading, current shared ones for writing.
//!
//! Age is measured by our own clocks, so that the bounds are exact and testable; moka bounds the number of entries and makes one
//! call of many. An entry that leaves a cache is wiped at once unless a request is using it, in which case it is wiped after.

use super::age::{Moment, Watch};
use super::lookups::{Found, Lookups, Tally};
use super::{Error, KeyEncryptionKey, lock};
use crate::format::Label;
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use moka::future::Cache;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long and how often a key-encryption key may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLimits {
    /// How long an unwrapped key serves reads; a key that was revoked is unusable after this time. Zero: nothing is kept, only
    /// requests that ask at the same time share a call.
    pub unwrap_ttl: Duration,
    /// How many unwrapped keys are kept, the least recently used leave first. A burst may exceed it for a moment by what moka has
    /// not yet sorted in, a few hundred.
    pub unwrap_entries: u64,
    /// How long a shared key wraps new objects. At least a second.
    pub shared_max_age: Duration,
    /// How many objects a shared key wraps in this process. At least one.
    pub shared_max_uses: u64,
    /// For how many scopes a current shared key is kept.
    pub shared_scopes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            unwrap_ttl: Duration::from_secs(300),
            unwrap_entries: 1000,
            shared_max_age: Duration::from_secs(300),
            shared_max_uses: 1 << 20,
            shared_scopes: 1000,
        }
    }
}

/// Unwrapped keys, by [`crate::format::cache_key`].
#[derive(Clone)]
pub(super) struct UnwrapCache {
    slots: Cache<[u8; 32], Arc<Slot>>,
    ttl: Duration,
    watch: Arc<Watch>,
    tally: Arc<Tally>,
}

struct Slot {
    kek: Mutex<Option<Arc<KeyEncryptionKey>>>,
    born: Moment,
}

impl UnwrapCache {
    pub(super) fn new(limits: &CacheLimits, watch: Arc<Watch>) -> Self {
        let slots = Cache::builder()
            .max_capacity(limits.unwrap_entries)
            .eviction_policy(EvictionPolicy::lru())
            // The same bound by moka's clock, for entries that nobody asks for again.
            .time_to_live(limits.unwrap_ttl)
            .eviction_listener(|_, slot: Arc<Slot>, _| *lock(&slot.kek) = None)
            .build();
        Self { slots, ttl: limits.unwrap_ttl, watch, tally: Arc::default() }
    }

    /// The key under `name`, from the cache or from `load`. Requests for one name that come together make one call and share its
    /// outcome; a failure is shared by those alone who waited for it. If the one whose call it is goes away, another one calls.
    pub(super) async fn get<F>(&self, name: [u8; 32], load: impl Fn() -> F) -> Result<Arc<KeyEncryptionKey>, Error>
    where
        F: Future<Output = Result<KeyEncryptionKey, Error>>,
    {
        let mut found = Found::InMemory;
        let outcome = self.find(name, load, &mut found).await;
        self.tally.count(found);
        outcome
    }

    async fn find<F>(&self, name: [u8; 32], load: impl Fn() -> F, found: &mut Found) -> Result<Arc<KeyEncryptionKey>, Error>
    where
        F: Future<Output = Result<KeyEncryptionKey, Error>>,
    {
        // More than one round only if the entry is pushed out between its arrival and our turn to take it.
        for _ in 0..3 {
            if let Some(kek) = self.peek(&name).await {
                return Ok(kek);
            }
            *found = Found::UnderWay.max(*found);
            let mut own = None;
            let slot = self
                .slots
                .try_get_with(name, async {
                    *found = Found::ByOwnCall;
                    // The age counts from before the call: the key service may change its mind while it answers.
                    let born = self.watch.now();
                    let kek = Arc::new(load().await?);
                    own = Some(kek.clone());
                    Ok(Arc::new(Slot { kek: Mutex::new(Some(kek)), born }))
                })
                .await
                .map_err(|shared: Arc<Error>| (*shared).clone())?;
            if let Some(kek) = own.or_else(|| lock(&slot.kek).clone()) {
                return Ok(kek);
            }
        }
        *found = Found::ByOwnCall;
        Ok(Arc::new(load().await?))
    }

    async fn peek(&self, name: &[u8; 32]) -> Option<Arc<KeyEncryptionKey>> {
        let slot = self.slots.get(name).await?;
        if self.watch.now().is_within(self.ttl, slot.born)
            && let Some(kek) = lock(&slot.kek).clone()
        {
            return Some(kek);
        }
        self.remove(name, &slot).await;
        None
    }

    /// Removes this very slot; a fresh one that took its place meanwhile stays.
    async fn remove(&self, name: &[u8; 32], slot: &Arc<Slot>) {
        let same = |found: Option<moka::Entry<_, Arc<Slot>>>| found.is_some_and(|e| Arc::ptr_eq(e.value(), slot));
        self.slots
            .entry(*name)
            .and_compute_with(|found| std::future::ready(if same(found) { Op::Remove } else { Op::Nop }))
            .await;
    }

    /// Puts a key in that was just generated, so that reading back what was just written costs no call.
    pub(super) async fn insert(&self, name: [u8; 32], kek: Arc<KeyEncryptionKey>, born: Moment) {
        if self.ttl > Duration::ZERO {
            let slot = Slot { kek: Mutex::new(Some(kek)), born };
            self.slots.insert(name, Arc::new(slot)).await;
        }
    }

    /// Removes and wipes what has expired.
    pub(super) async fn sweep(&self) {
        let now = self.watch.now();
        for (name, slot) in &self.slots {
            if !now.is_within(self.ttl, slot.born) {
                self.remove(&name, &slot).await;
            }
        }
        self.slots.run_pending_tasks().await;
    }

    pub(super) fn lookups(&self) -> Lookups {
        self.tally.read()
    }

    #[cfg(test)]
    async fn len(&self) -> u64 {
        self.slots.run_pending_tasks().await;
        self.slots.entry_count()
    }
}

/// A key that wraps many objects.
#[derive(Clone)]
pub(super) struct SharedKey {
    pub(super) kek: Arc<KeyEncryptionKey>,
    pub(super) blob: Arc<[u8]>,
}

/// The current shared key of every (label, scope) that is being written to.
pub(super) struct SharedKeys {
    scopes: Cache<(Label, String), Arc<Scope>>,
    max_age: Duration,
    max_uses: u64,
    watch: Arc<Watch>,
    tally: Tally,
}

type Flight = Shared<BoxFuture<'static, Result<(), Error>>>;

#[derive(Default)]
struct Scope(Mutex<ScopeState>);

#[derive(Default)]
struct ScopeState {
    current: Option<Current>,
    /// The call under way. Weak, so that a call that nobody waits for any more is dropped and not resumed by a later request.
    flight: Option<WeakShared<BoxFuture<'static, Result<(), Error>>>>,
}

struct Current {
    key: SharedKey,
    born: Moment,
    uses: u64,
}

impl SharedKeys {
    pub(super) fn new(limits: &CacheLimits, watch: Arc<Watch>) -> Self {
        let max_age = limits.shared_max_age.max(Duration::from_secs(1));
        let scopes = Cache::builder()
            .max_capacity(limits.shared_scopes.max(1))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(max_age)
            .eviction_listener(|_, scope: Arc<Scope>, _| lock(&scope.0).current = None)
            .build();
        Self { scopes, max_age, max_uses: limits.shared_max_uses.max(1), watch, tally: Tally::default() }
    }

    /// A use of the current key, or of a new one from `generate`. Uses are counted before they happen and under a lock, so a key is
    /// never used more often than allowed. Requests that come together make one call and share its failure.
    pub(super) async fn take<F>(&self, label: &Label, scope: &str, generate: F) -> Result<SharedKey, Error>
    where
        F: Fn() -> BoxFuture<'static, Result<SharedKey, Error>>,
    {
        let name = (label.clone(), scope.to_owned());
        let scope = self.scopes.get_with(name, std::future::ready(Arc::default())).await;
        let mut found = Found::InMemory;
        // Every further round means that a whole new key was used up by others between its arrival and our turn.
        loop {
            let flight = {
                let mut state = lock(&scope.0);
                if let Some(key) = self.reserve(&mut state) {
                    self.tally.count(found);
                    return Ok(key);
                }
                match state.flight.as_ref().and_then(WeakShared::upgrade) {
                    Some(flight) => {
                        found = Found::UnderWay.max(found);
                        flight
                    }
                    None => {
                        found = Found::ByOwnCall;
                        let flight = self.flight(scope.clone(), generate());
                        state.flight = flight.downgrade();
                        flight
                    }
                }
            };
            flight.await.inspect_err(|_| self.tally.count(found))?;
        }
    }

    fn reserve(&self, state: &mut ScopeState) -> Option<SharedKey> {
        if let Some(current) = &mut state.current
            && current.uses < self.max_uses
            && self.watch.now().is_within(self.max_age, current.born)
        {
            current.uses += 1;
            return Some(current.key.clone());
        }
        state.current = None;
        None
    }

    fn flight(&self, scope: Arc<Scope>, call: BoxFuture<'static, Result<SharedKey, Error>>) -> Flight {
        let (watch, max_age) = (self.watch.clone(), self.max_age);
        let begun = watch.now();
        let flight = async move {
            let outcome = call.await;
            let mut state = lock(&scope.0);
            state.flight = None;
            // The age counts from before the call, unless that took longer than the age: it would be repeated for ever.
            let now = watch.now();
            let born = if now.is_within(max_age, begun) { begun } else { now };
            state.current = Some(Current { key: outcome?, born, uses: 0 });
            Ok(())
        };
        flight.boxed().shared()
    }

    /// Removes and wipes the keys that are too old, also where nobody writes any more.
    pub(super) async fn sweep(&self) {
        let now = self.watch.now();
        for (_, scope) in &self.scopes {
            let mut state = lock(&scope.0);
            if state.current.as_ref().is_some_and(|current| !now.is_within(self.max_age, current.born)) {
                state.current = None;
            }
        }
        self.scopes.run_pending_tasks().await;
    }

    pub(super) fn lookups(&self) -> Lookups {
        self.tally.read()
    }
}

#[cfg(test)]
mod tests;
