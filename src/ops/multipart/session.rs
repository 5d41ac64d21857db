//! An upload as any instance finds it again: its record from the state store, and its keys.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use super::Refused;
use super::staging::Staging;
use crate::backend::{ObjectName, Upload};
use crate::crypto::ObjectKeys;
use crate::format::{Layout, SealedRecord, UploadName, UploadRecord, upload_base_name};
use crate::keys;
use crate::ops::protection::Opener;
use crate::ops::{Error, Gateway};

/// How many records are remembered: one has about a kilobyte.
const RECORDS_MAX: u64 = 4096;
/// How long a record is remembered that nobody asks for.
const RECORD_IDLE: Duration = Duration::from_secs(600);

/// Records of uploads under way, shared by all workers. They never change; keys are not kept here.
pub struct Uploads {
    records: Cache<String, Arc<UploadRecord>>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { records: Cache::builder().max_capacity(RECORDS_MAX).time_to_idle(RECORD_IDLE).build() }
    }
}

impl Uploads {
    pub(super) async fn keep(&self, base: String, record: Arc<UploadRecord>) {
        self.records.insert(base, record).await;
    }

    pub(super) async fn forget(&self, base: &str) {
        self.records.invalidate(base).await;
    }
}

/// One upload and what belongs to it.
pub(super) struct Session {
    pub upload: Upload,
    pub record: Arc<UploadRecord>,
    pub keys: Arc<ObjectKeys>,
    pub staging: Staging,
}

impl Gateway {
    /// The base name of an upload.
    ///
    /// # Errors
    /// `NoSuchUpload`: no upload has such a name.
    pub(super) fn base_name(&self, upload: &Upload) -> Result<String, Error> {
        upload_base_name(&name_of(upload)).map_err(|_| Refused::NoSuchUpload.into())
    }

    /// What the upload keeps in the state store.
    pub(super) fn staging(&self, bucket: &str, base: &str) -> Staging {
        Staging::new(&self.backend, &self.multipart.place, bucket, base)
    }

    /// Finds an upload again. `own` is the client's own key, which every request has to bring where the upload began with one.
    ///
    /// # Errors
    /// `NoSuchUpload` when it has no record: it was aborted, completed long ago, or not made through this gateway.
    pub(super) async fn session(&self, bucket: String, key: String, id: String, own: Option<&Opener>) -> Result<Session, Error> {
        let upload = Upload { object: ObjectName { bucket, key }, id };
        let base = self.base_name(&upload)?;
        let staging = self.staging(&upload.object.bucket, &base);
        let stored = |envelope| keys::Stored {
            bucket: &upload.object.bucket,
            key: &upload.object.key,
            envelope,
            customer: own.map(|own| &own.key),
        };
        if let Some(record) = self.multipart.uploads.records.get(&base).await {
            let keys = self.keys.open_with(stored(&record.envelope)).await.map_err(of_upload)?;
            return Ok(Session { upload, record, keys: Arc::new(keys), staging });
        }
        let bytes = staging.record().await?.ok_or(Refused::NoSuchUpload)?;
        let sealed = SealedRecord::parse(&bytes)?;
        if sealed.name() != &name_of(&upload) || sealed.envelope().flags().layout() != Layout::Multipart {
            return Err(Error::Integrity("an upload record belongs to another upload".into()));
        }
        let keys = self.keys.open_with(stored(sealed.envelope())).await.map_err(of_upload)?;
        let record = Arc::new(sealed.open(&keys)?);
        self.multipart.uploads.keep(base, record.clone()).await;
        Ok(Session { upload, record, keys: Arc::new(keys), staging })
    }
}

/// What S3 says of the client's own key for an upload, in other words and with another status than for an object.
fn of_upload(error: keys::Error) -> Error {
    match error {
        keys::Error::CustomerKeyMissing => Refused::EncryptionMissing.into(),
        keys::Error::CustomerKeySuperfluous => Refused::EncryptionSuperfluous.into(),
        keys::Error::CustomerKeyWrong => Refused::EncryptionDiffers.into(),
        other => other.into(),
    }
}

/// The name of an upload as the format writes it.
pub(super) fn name_of(upload: &Upload) -> UploadName {
    UploadName { bucket: upload.object.bucket.clone(), key: upload.object.key.clone(), upload_id: upload.id.clone() }
}
