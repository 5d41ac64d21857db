//! Which keys the uploads need that are under way: their envelopes are in their records and become those of their objects.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::session::name_of;
use super::staging::Staging;
use crate::backend::{ObjectName, Upload, UploadsQuery};
use crate::format::{Label, SealedRecord, upload_base_name};
use crate::ops::{Error, Gateway};

impl Gateway {
    /// How many uploads below a prefix are under way, by the label of their key. Those that bring the client's own key need none, and those
    /// that are no client's (a large PutObject, a copy in parts) have no record and last as long as their request.
    ///
    /// # Errors
    /// The store's.
    pub async fn uploads_under_way(&self, bucket: &str, prefix: &str) -> Result<BTreeMap<Label, u64>, Error> {
        let mut found = BTreeMap::new();
        let (mut key_marker, mut upload_id_marker) = (None, None);
        loop {
            let query = UploadsQuery {
                bucket: bucket.to_owned(),
                prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
                delimiter: None,
                key_marker,
                upload_id_marker,
                uploads_max: None,
                headers: HeaderMap::new(),
            };
            let page = self.backend.list_uploads(query).await?;
            for listed in page.uploads {
                let upload = Upload { object: ObjectName { bucket: bucket.to_owned(), key: listed.key }, id: listed.id };
                if let Some(label) = self.label_of_upload(&upload).await? {
                    *found.entry(label).or_default() += 1;
                }
            }
            (key_marker, upload_id_marker) = (page.next_key_marker, page.next_upload_id_marker);
            if !page.is_truncated || key_marker.is_none() {
                return Ok(found);
            }
        }
    }

    async fn label_of_upload(&self, upload: &Upload) -> Result<Option<Label>, Error> {
        let Ok(base) = upload_base_name(&name_of(upload)) else { return Ok(None) };
        let staging = Staging::new(&self.backend, &self.multipart.place, &upload.object.bucket, &base);
        let Some(bytes) = staging.record().await? else { return Ok(None) };
        // A record that is none needs no key; whoever goes on with that upload hears of it.
        let Ok(record) = SealedRecord::parse(&bytes) else { return Ok(None) };
        let envelope = record.envelope();
        Ok((!envelope.flags().customer).then(|| envelope.label().clone()))
    }
}
