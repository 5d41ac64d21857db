//! DeleteObject and DeleteObjects. They carry the client's conditions, in the store's words; there is nothing to open.

use http::{HeaderName, HeaderValue};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, Error as DeleteLineError,
    Timestamp, TimestampFormat,
};
use s3s::{S3Request, S3Response};

use super::access::Access;
use super::{Error, Gateway, headers};
use crate::backend::{DeleteMany, DeleteOne, DeletedMany, ObjectName, Select};
use crate::format::PlainLen;

/// S3's limit of lines in one DeleteObjects request.
const LINES_MAX: usize = 1000;
const IF_MATCH_SIZE: HeaderName = HeaderName::from_static("x-amz-if-match-size");

impl Gateway {
    pub(super) async fn delete_one(&self, req: S3Request<DeleteObjectInput>) -> Result<S3Response<DeleteObjectOutput>, Error> {
        let mut sent = headers::for_read(&req.headers, &req.extensions)?;
        if let Some(size) = req.input.if_match_size {
            sent.insert(IF_MATCH_SIZE, HeaderValue::from(sealed_size(self.sizes_of(&req.input.bucket), size)?));
        }
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
            let access = self.sizes_of(&req.input.bucket);
            objects.push(DeleteOne {
                key: line.key,
                version_id: line.version_id,
                etag: line.e_tag.map(|tag| headers::unmark_etags(tag.value())),
                last_modified: line.last_modified_time.as_ref().map(http_date).transpose()?,
                sealed_size: line.size.map(|size| sealed_size(access, size)).transpose()?,
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

impl Gateway {
    /// The access of a bucket as far as sizes go: objects of AWS's own encryption client have others, like plaintext.
    fn sizes_of(&self, bucket: &str) -> Access {
        match self.access.of(bucket) {
            Access::Encrypted if self.aws_clients.of(bucket).is_some() => Access::ReadThrough,
            access => access,
        }
    }
}

/// The stored size of an object that has this plaintext size. All sealed objects of one plaintext size have one stored size.
///
/// # Errors
/// Sizes that no object has, and buckets in which one size can mean two things.
fn sealed_size(access: Access, plain: i64) -> Result<u64, Error> {
    match access {
        Access::Encrypted => u64::try_from(plain)
            .ok()
            .and_then(PlainLen::new)
            .map(|plain| plain.sealed().get())
            .ok_or(Error::InvalidArgument("The size is not one that an object can have")),
        Access::ReadThrough | Access::Plaintext => {
            Err(Error::NotImplemented("Deleting by size is not implemented in a bucket that may hold objects of other writers"))
        }
    }
}

fn http_date(at: &Timestamp) -> Result<String, Error> {
    let mut text = Vec::new();
    at.format(TimestampFormat::HttpDate, &mut text).map_err(|_| Error::InvalidArgument("The time is out of range"))?;
    String::from_utf8(text).map_err(|_| Error::Internal("a date is text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_translated_where_that_is_exact() {
        assert_eq!(sealed_size(Access::Encrypted, 0).unwrap(), 240);
        assert_eq!(sealed_size(Access::Encrypted, 65_537).unwrap(), 65_793);
        assert!(matches!(sealed_size(Access::Encrypted, -1), Err(Error::InvalidArgument(_))));
        assert!(matches!(sealed_size(Access::Encrypted, i64::MAX), Err(Error::InvalidArgument(_))));
        assert!(matches!(sealed_size(Access::ReadThrough, 5), Err(Error::NotImplemented(_))));
    }

    #[test]
    fn times_travel_as_http_dates() {
        let text = "Tue, 24 Nov 2026 04:00:00 GMT";
        assert_eq!(http_date(&Timestamp::parse(TimestampFormat::HttpDate, text).unwrap()).unwrap(), text);
    }
}
