//! Multipart uploads, through aws-sdk-s3. Parts travel as sealed bodies only; headers travel as they are, see `sdk`.

use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::sdk::{Names, S3Backend, Wire, finish, instant, owner, prefixes};
use super::upload::{Progress, PutBody};
use super::{Answer, Error, ObjectName, Owner};
use crate::stream::SealedBody;

/// How long the store may take to put the parts of an object together. S3 may take minutes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const OBJECT_SIZE: HeaderName = HeaderName::from_static("x-amz-mp-object-size");

/// A multipart upload, as the store names it.
#[derive(Clone, Debug)]
pub struct Upload {
    pub object: ObjectName,
    pub id: String,
}

/// Answer of CreateMultipartUpload.
#[derive(Debug)]
pub struct CreatedUpload {
    pub id: String,
    pub headers: HeaderMap,
}

/// UploadPart: a sealed body as one part.
pub struct PutPart {
    pub upload: Upload,
    pub number: u16,
    pub headers: HeaderMap,
    pub body: SealedBody,
}

/// CompleteMultipartUpload.
pub struct CompleteUpload {
    pub upload: Upload,
    /// Conditions and guards as they go on the wire.
    pub headers: HeaderMap,
    /// Numbers and the store's own ETags, ascending.
    pub parts: Vec<(u16, String)>,
    /// Bytes of the whole sealed object: the store refuses to make one of another size.
    pub sealed_size: u64,
}

/// Answer of CompleteMultipartUpload.
#[derive(Debug)]
pub struct CompletedUpload {
    /// The store's own ETag of the object, in quotes.
    pub etag: String,
    pub headers: HeaderMap,
}

/// One page of ListParts. Sizes and ETags are the store's own.
#[derive(Debug, Default)]
pub struct PartPage {
    pub parts: Vec<StoredPart>,
    pub is_truncated: bool,
    pub owner: Option<Owner>,
    pub initiator: Option<Owner>,
    pub storage_class: Option<String>,
    pub headers: HeaderMap,
}

/// A part of an unfinished upload.
#[derive(Clone, Debug)]
pub struct StoredPart {
    pub number: u16,
    /// Without quotes.
    pub etag: String,
    pub sealed_size: u64,
    /// Seconds and nanoseconds since the epoch.
    pub last_modified: Option<(i64, u32)>,
}

/// ListMultipartUploads, as the client asked.
#[derive(Clone, Debug)]
pub struct UploadsQuery {
    pub bucket: String,
    pub prefix: Option<String>,
    pub delimiter: Option<String>,
    pub key_marker: Option<String>,
    pub upload_id_marker: Option<String>,
    pub uploads_max: Option<i32>,
    pub headers: HeaderMap,
}

/// One page of ListMultipartUploads. Names are decoded.
#[derive(Debug, Default)]
pub struct UploadPage {
    pub uploads: Vec<ListedUpload>,
    pub common_prefixes: Vec<String>,
    pub is_truncated: bool,
    pub next_key_marker: Option<String>,
    pub next_upload_id_marker: Option<String>,
    pub uploads_max: Option<i32>,
    pub headers: HeaderMap,
}

/// An unfinished upload in a listing.
#[derive(Debug)]
pub struct ListedUpload {
    pub key: String,
    pub id: String,
    /// Seconds and nanoseconds since the epoch.
    pub initiated: Option<(i64, u32)>,
    pub owner: Option<Owner>,
    pub initiator: Option<Owner>,
    pub storage_class: Option<String>,
}

impl S3Backend {
    /// CreateMultipartUpload. The headers are those that the finished object will have.
    pub async fn create_upload(&self, object: ObjectName, mut headers: HeaderMap) -> Result<CreatedUpload, Error> {
        if self.has_checked_parts(&object.bucket, &headers).await {
            // Parts may bring only the kind of checksum that was announced.
            headers.insert("x-amz-checksum-algorithm", HeaderValue::from_static("CRC64NVME"));
        }
        let mut wire = Wire::for_document("InitiateMultipartUploadResult", headers)?;
        let sent = self
            .client
            .create_multipart_upload()
            .bucket(object.bucket)
            .key(wire.key(object.key))
            .customize()
            .interceptor(wire.clone())
            .send();
        let (output, headers) = finish(sent, &wire).await?;
        let id = output.upload_id.filter(|id| !id.is_empty());
        Ok(CreatedUpload { id: id.ok_or_else(|| Error::Garbled("an upload without an id".into()))?, headers })
    }

    /// UploadPart. Exactly one attempt, as for PutObject: the body streams and cannot be sent twice.
    pub async fn upload_part(&self, part: PutPart) -> Result<Answer, Error> {
        let length = part.body.sealed_len().get();
        let bucket = part.upload.object.bucket;
        let checked = self.has_checked_parts(&bucket, &part.headers).await;
        let mut wire = Wire::new(part.headers)?;
        let progress = Progress::new();
        let body = ByteStream::new(SdkBody::from_body_1_x(PutBody::new(part.body, progress.clone())));
        let request = if checked {
            self.checked_uploads.upload_part().checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        } else {
            self.uploads.upload_part()
        };
        let request = request
            .bucket(&bucket)
            .key(wire.key(part.upload.object.key))
            .upload_id(part.upload.id)
            .part_number(i32::from(part.number))
            .content_length(i64::try_from(length).map_err(|e| Error::NotSent(e.into()))?)
            .body(body)
            .customize();
        let request = if checked { request } else { request.disable_payload_signing() };
        let sent = request.interceptor(wire.clone()).send();
        let outcome =
            progress.watch(finish(sent, &wire), self.patience).await.map_err(|stalled| Error::TimedOut(stalled.into()))?;
        let (_, headers) = outcome.map_err(|error| self.demands.heed(&bucket, error))?;
        Ok(Answer { headers })
    }

    /// CompleteMultipartUpload.
    pub async fn complete_upload(&self, complete: CompleteUpload) -> Result<CompletedUpload, Error> {
        let mut headers = complete.headers;
        headers.insert(OBJECT_SIZE, HeaderValue::from(complete.sealed_size));
        let mut wire = Wire::for_document("CompleteMultipartUploadResult", headers)?;
        let parts = complete
            .parts
            .into_iter()
            .map(|(number, etag)| CompletedPart::builder().part_number(i32::from(number)).e_tag(format!("\"{etag}\"")).build())
            .collect();
        let sent = self
            .uploads
            .complete_multipart_upload()
            .bucket(complete.upload.object.bucket)
            .key(wire.key(complete.upload.object.key))
            .upload_id(complete.upload.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .interceptor(wire.clone())
            .send();
        let answered = tokio::time::timeout(COMPLETE_TIMEOUT, finish(sent, &wire)).await;
        let (output, headers) = answered.map_err(|late| Error::TimedOut(late.into()))??;
        let etag = output.e_tag.ok_or_else(|| Error::Garbled("an object without an ETag".into()))?;
        Ok(CompletedUpload { etag: format!("\"{}\"", etag.trim_matches('"')), headers })
    }

    /// AbortMultipartUpload.
    pub async fn abort_upload(&self, upload: Upload, headers: HeaderMap) -> Result<Answer, Error> {
        let mut wire = Wire::new(headers)?;
        let sent = self
            .client
            .abort_multipart_upload()
            .bucket(upload.object.bucket)
            .key(wire.key(upload.object.key))
            .upload_id(upload.id)
            .customize()
            .interceptor(wire.clone())
            .send();
        finish(sent, &wire).await.map(|(_, headers)| Answer { headers })
    }

    /// One page of ListParts: the parts behind the number `after`.
    pub async fn list_parts(&self, upload: Upload, after: u16, parts_max: i32, headers: HeaderMap) -> Result<PartPage, Error> {
        let mut wire = Wire::for_document("ListPartsResult", headers)?;
        let sent = self
            .client
            .list_parts()
            .bucket(upload.object.bucket)
            .key(wire.key(upload.object.key))
            .upload_id(upload.id)
            .max_parts(parts_max)
            .set_part_number_marker((after > 0).then(|| after.to_string()))
            .customize()
            .interceptor(wire.clone())
            .send();
        let (output, headers) = finish(sent, &wire).await?;
        let garbled = || Error::Garbled("a part without number, size or ETag".into());
        let parts = output.parts.unwrap_or_default().into_iter().map(|part| {
            Some(StoredPart {
                number: u16::try_from(part.part_number?).ok()?,
                etag: part.e_tag?.trim_matches('"').to_owned(),
                sealed_size: u64::try_from(part.size?).ok()?,
                last_modified: part.last_modified.map(instant),
            })
        });
        Ok(PartPage {
            parts: parts.collect::<Option<_>>().ok_or_else(garbled)?,
            is_truncated: output.is_truncated.unwrap_or(false),
            owner: output.owner.map(owner),
            initiator: output.initiator.map(|who| Owner { id: who.id, display_name: who.display_name }),
            storage_class: output.storage_class.map(|class| class.as_str().to_owned()),
            headers,
        })
    }

    /// One page of ListMultipartUploads.
    pub async fn list_uploads(&self, query: UploadsQuery) -> Result<UploadPage, Error> {
        let wire = Wire::for_document("ListMultipartUploadsResult", query.headers)?;
        let sent = self
            .client
            .list_multipart_uploads()
            .bucket(query.bucket)
            .set_prefix(query.prefix)
            .set_delimiter(query.delimiter)
            .set_key_marker(query.key_marker)
            .set_upload_id_marker(query.upload_id_marker)
            .set_max_uploads(query.uploads_max)
            .encoding_type(EncodingType::Url)
            .customize()
            .interceptor(wire.clone())
            .send();
        let (output, headers) = finish(sent, &wire).await?;
        let names = Names { encoded: output.encoding_type == Some(EncodingType::Url) };
        let uploads = output.uploads.unwrap_or_default().into_iter().map(|upload| {
            Ok(ListedUpload {
                key: names.decode(upload.key.unwrap_or_default())?,
                id: upload.upload_id.unwrap_or_default(),
                initiated: upload.initiated.map(instant),
                owner: upload.owner.map(owner),
                initiator: upload.initiator.map(|who| Owner { id: who.id, display_name: who.display_name }),
                storage_class: upload.storage_class.map(|class| class.as_str().to_owned()),
            })
        });
        Ok(UploadPage {
            uploads: uploads.collect::<Result<_, Error>>()?,
            common_prefixes: prefixes(output.common_prefixes, names)?,
            is_truncated: output.is_truncated.unwrap_or(false),
            next_key_marker: output.next_key_marker.map(|marker| names.decode(marker)).transpose()?,
            next_upload_id_marker: output.next_upload_id_marker,
            uploads_max: output.max_uploads,
            headers,
        })
    }
}
