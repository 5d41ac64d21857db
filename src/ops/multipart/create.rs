//! CreateMultipartUpload: the keys of the object to be, with the upload at the store and in a record of our own.

use s3s::dto::{self, CreateMultipartUploadInput, CreateMultipartUploadOutput};
use s3s::{S3Request, S3Response};

use super::checksum::{self, kind_name};
use super::session::name_of;
use super::staging::Kept;
use crate::backend::{ObjectName, Upload};
use crate::format::{Layout, UploadRecord};
use crate::ops::check::now_ms;
use crate::ops::{Error, Gateway, headers};
use crate::stream;

impl Gateway {
    pub(in crate::ops) async fn create_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Result<S3Response<CreateMultipartUploadOutput>, Error> {
        let (bucket, key) = (req.input.bucket, req.input.key);
        let checksum = checksum::announced(&req.headers)?;
        let wanted = self.protection(&req.headers, &req.extensions)?;
        let fresh = self.keys.fresh_with(&wanted.choice, &bucket, &key, Layout::Multipart).await?;
        let sent = headers::for_create(&req.headers, &req.extensions, (&fresh.envelope, &fresh.keys), &wanted)?;
        let object = ObjectName { bucket: bucket.clone(), key: key.clone() };
        let created = self.backend.create_upload(object.clone(), sent).await?;

        let upload = Upload { object, id: created.id.clone() };
        let record =
            UploadRecord { envelope: fresh.envelope, checksum: Some(checksum), created_ms: now_ms(), name: name_of(&upload) };
        let kept = async {
            let base = self.base_name(&upload)?;
            let body =
                stream::seal_record(&record, &fresh.keys).map_err(|_| Error::Internal("a record that cannot be written"))?;
            self.staging(&bucket, &base).put(Kept::Record, body).await?;
            Ok(base)
        };
        let base = match kept.await {
            Ok(base) => base,
            Err(error) => {
                // Nobody else knows the upload. A failure here leaves it to the bucket's lifecycle rules.
                let _ = self.backend.abort_upload(upload, headers::guards(&req.headers, &req.extensions)).await;
                return Err(error);
            }
        };
        let (algorithm, kind) = checksum;
        let mut shown = headers::for_client_object(created.headers);
        self.announce(&mut shown, &record.envelope, wanted.customer_md5());
        self.multipart.uploads.keep(base, record.into()).await;
        // S3 says it only to those who asked.
        let asked = req.headers.contains_key("x-amz-checksum-algorithm");
        shown.remove("x-amz-checksum-algorithm");
        let output = CreateMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(created.id),
            checksum_algorithm: asked.then(|| dto::ChecksumAlgorithm::from(algorithm.name().to_owned())),
            checksum_type: asked.then(|| dto::ChecksumType::from(kind_name(kind).to_owned())),
            ..CreateMultipartUploadOutput::default()
        };
        Ok(S3Response::with_headers(output, shown))
    }
}
