//! Work on one named version: looking at what it carries, and changing that.

use std::sync::Arc;

use rusqlite::Transaction;
use s3s::S3Result;

use super::index::buckets::{self, Bucket};
use super::index::versions::{self, Version};
use super::{Error, Store, blocking};

/// The name of an object, or of one version of it.
pub(super) struct Name {
    pub(super) bucket: String,
    pub(super) key: String,
    /// `None` is the latest.
    pub(super) version: Option<String>,
}

impl Name {
    fn find(&self, transaction: &Transaction<'_>) -> Result<(Bucket, Version), Error> {
        let bucket = buckets::find(transaction, &self.bucket)?;
        let (version, _) = versions::readable(transaction, &bucket, &self.key, self.version.as_deref())?;
        Ok((bucket, version))
    }

    /// Looks at a version. Returns what `work` found and the version id for the answer.
    ///
    /// # Errors
    /// Those of [`versions::readable`], and of `work`.
    pub(super) async fn look<T: Send + 'static>(
        self,
        store: &Arc<Store>,
        work: impl FnOnce(&Bucket, &Version) -> Result<T, Error> + Send + 'static,
    ) -> S3Result<(T, Option<String>)> {
        let store = Arc::clone(store);
        let look = move || {
            store.index.view(|snapshot| {
                let (bucket, version) = self.find(snapshot)?;
                Ok((work(&bucket, &version)?, bucket.shown(version.id)))
            })
        };
        Ok(blocking(look).await?)
    }

    /// Changes what a version carries. Returns what `work` did and the version id for the answer.
    ///
    /// # Errors
    /// Those of [`versions::readable`], and of `work`, which has then changed nothing.
    pub(super) async fn change<T: Send + 'static>(
        self,
        store: &Arc<Store>,
        work: impl FnOnce(&Transaction<'_>, &Bucket, &Version) -> Result<T, Error> + Send + 'static,
    ) -> S3Result<(T, Option<String>)> {
        let store = Arc::clone(store);
        let change = move || {
            store.index.change(|transaction| {
                let (bucket, version) = self.find(transaction)?;
                Ok((work(transaction, &bucket, &version)?, bucket.shown(version.id)))
            })
        };
        Ok(blocking(change).await?)
    }
}
