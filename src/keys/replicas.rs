//! One key in several regions: where the first cannot be called, the next one answers.

use super::{Error, Generated, KeyContext, KeyEncryptionKey, KeyProvider, Label, fingerprint};
use crate::observe::metrics as names;
use futures::future::BoxFuture;
use std::sync::Arc;

/// The regions of one key, in the order in which they are tried. Whatever one of them wraps, all of them unwrap.
///
/// Only a transient failure ([`Error::is_retryable`]) leads to the next region: a permanent state is an answer, and no other region is
/// asked for a better one.
pub struct Replicas {
    regions: Vec<Arc<dyn KeyProvider>>,
}

impl Replicas {
    /// Each region has to come with limits of its own, a breaker above all: what is down in one must not keep calls from another.
    pub fn new(first: Arc<dyn KeyProvider>, others: impl IntoIterator<Item = Arc<dyn KeyProvider>>) -> Self {
        Self { regions: std::iter::once(first).chain(others).collect() }
    }

    async fn call<'a, T>(
        &'a self,
        label: &Label,
        call: impl Fn(&'a dyn KeyProvider) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut passed_over = None;
        for region in &self.regions {
            match (call(region.as_ref()).await, passed_over.take()) {
                (Err(error), earlier) if error.is_retryable() => passed_over = earlier.or(Some(error)),
                // A region that does not let us in must not turn what passes into what does not; what it says of the object counts.
                (Err(error), Some(earlier)) if !error.is_integrity() => {
                    tracing::warn!(%label, kind = error.kind(), %error, "a replica of the key refuses to stand in");
                    return Err(earlier);
                }
                (outcome, earlier) => {
                    if earlier.is_some() {
                        names::kms_stood_in(label.as_str());
                    }
                    return outcome;
                }
            }
        }
        Err(passed_over.unwrap_or_else(|| Error::UnknownLabel { label: label.clone() }))
    }
}

#[async_trait::async_trait]
impl KeyProvider for Replicas {
    async fn generate(&self, label: &Label, context: &KeyContext) -> Result<Generated, Error> {
        self.call(label, |region| region.generate(label, context)).await
    }

    async fn unwrap(&self, label: &Label, context: &KeyContext, blob: &[u8]) -> Result<KeyEncryptionKey, Error> {
        self.call(label, |region| region.unwrap(label, context, blob)).await
    }

    fn arn(&self, label: &Label) -> Option<String> {
        self.regions.first().and_then(|region| region.arn(label))
    }

    /// Every region unwraps what every other one wraps. One that cannot be called now is passed over with a warning, as long as another
    /// works; one that refuses is a failure, before it is needed.
    async fn prove(&self, label: &Label, context: &KeyContext) -> Result<(), Error> {
        let (mut made, mut proved, mut passed_over) = (Vec::new(), false, None);
        let mut pass_over = |error: Error| match error.is_retryable() {
            true => {
                tracing::warn!(%label, kind = error.kind(), %error, "a region of the key cannot be proved now");
                passed_over.get_or_insert(error);
                Ok(())
            }
            false => Err(error),
        };
        for region in &self.regions {
            match region.generate(label, context).await {
                Ok(key) => made.push(key),
                Err(error) => pass_over(error)?,
            }
        }
        for region in &self.regions {
            for key in &made {
                match region.unwrap(label, context, &key.blob).await {
                    Ok(back) if fingerprint(&back) == fingerprint(&key.kek) => proved = true,
                    Ok(_) => {
                        let detail = "a replica does not give the key that was made".into();
                        return Err(Error::BadAnswer { label: label.clone(), detail });
                    }
                    // The others would take as long to fail.
                    Err(error) => {
                        pass_over(error)?;
                        break;
                    }
                }
            }
        }
        match (proved, passed_over) {
            (false, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
