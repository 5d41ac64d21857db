//! AbortMultipartUpload: at the store, then in the state store. It works for uploads that have lost their record, too.

use s3s::dto::{AbortMultipartUploadInput, AbortMultipartUploadOutput};
use s3s::{S3Request, S3Response};

use super::{Refused, is_no_such_upload};
use crate::backend::{ObjectName, Upload};
use crate::ops::{Error, Gateway, headers};

impl Gateway {
    pub(in crate::ops) async fn abort_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Result<S3Response<AbortMultipartUploadOutput>, Error> {
        let object = ObjectName { bucket: req.input.bucket, key: req.input.key };
        let upload = Upload { object, id: req.input.upload_id };
        let base = self.base_name(&upload)?;
        let staging = self.staging(&upload.object.bucket, &base);
        let sent = headers::for_abort(&req.headers, &req.extensions);
        match self.backend.abort_upload(upload, sent).await {
            Ok(answer) => {
                self.multipart.uploads.forget(&base).await;
                staging.clear(true).await;
                Ok(S3Response::with_headers(AbortMultipartUploadOutput::default(), headers::for_client(answer.headers)))
            }
            // What an abort that broke off has left. The record of a completed upload stays: it may be asked for again.
            Err(error) if is_no_such_upload(&error) => {
                staging.clear(false).await;
                Err(Refused::NoSuchUpload.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
