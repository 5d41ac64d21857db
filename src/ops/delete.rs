//! DeleteObject and DeleteObjects. They carry the client's guards; there is nothing to open.

use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, Error as DeleteLineError,
};
use s3s::{S3Request, S3Response};

use super::{Error, Gateway, headers};
use crate::backend::{DeleteMany, DeleteOne, DeletedMany, ObjectName, Select};

/// S3's limit of lines in one DeleteObjects request.
const LINES_MAX: usize = 1000;

impl Gateway {
    pub(super) async fn delete_one(&self, req: S3Request<DeleteObjectInput>) -> Result<S3Response<DeleteObjectOutput>, Error> {
        let sent = headers::for_read(&req.headers, &req.extensions)?;
        let object = ObjectName { bucket: req.input.bucket, key: req.input.key };
        let select = Select { object, version_id: req.input.version_id, headers: sent, range: None };
        let answer = self.backend.delete_object(select).await?;
        Ok(S3Response::with_headers(DeleteObjectOutput::default(), headers::for_client(answer.headers)))
    }

    pub(super) async fn delete_many(&self, req: S3Request<DeleteObjectsInput>) -> Result<S3Response<DeleteObjectsOutput>, Error> {
        let lines = req.input.delete.objects;
        if lines.is_empty() || lines.len() > LINES_MAX {
            return Err(Error::InvalidRequest("A DeleteObjects request names 1 to 1000 objects"));
        }
        let mut objects = Vec::with_capacity(lines.len());
        let mut refused = Vec::new();
        for line in lines {
            if let Err(reserved) = self.multipart.place.admit(&req.input.bucket, &line.key) {
                let message = Some(reserved.to_string());
                refused.push(DeleteLineError {
                    key: Some(line.key),
                    version_id: line.version_id,
                    code: Some("AccessDenied".into()),
                    message,
                });
                continue;
            }
            if line.size.is_some() || line.last_modified_time.is_some() {
                return Err(Error::NotImplemented("Deleting by size or time is not implemented"));
            }
            objects.push(DeleteOne {
                key: line.key,
                version_id: line.version_id,
                etag: line.e_tag.map(|tag| headers::unmark_etags(tag.value())),
            });
        }
        let sent = headers::for_read(&req.headers, &req.extensions)?;
        let many =
            DeleteMany { bucket: req.input.bucket, headers: sent, quiet: req.input.delete.quiet.unwrap_or(false), objects };
        // The store refuses an empty list.
        let answer = if many.objects.is_empty() { DeletedMany::default() } else { self.backend.delete_objects(many).await? };
        let output = DeleteObjectsOutput {
            deleted: Some(
                answer
                    .deleted
                    .into_iter()
                    .map(|line| DeletedObject {
                        key: line.key,
                        version_id: line.version_id,
                        delete_marker: line.delete_marker,
                        delete_marker_version_id: line.delete_marker_version_id,
                    })
                    .collect(),
            ),
            errors: Some(
                answer
                    .errors
                    .into_iter()
                    .map(|line| DeleteLineError {
                        key: line.key,
                        version_id: line.version_id,
                        code: line.code,
                        message: line.message,
                    })
                    .chain(refused)
                    .collect(),
            ),
            ..DeleteObjectsOutput::default()
        };
        Ok(S3Response::with_headers(output, headers::for_client(answer.headers)))
    }
}
