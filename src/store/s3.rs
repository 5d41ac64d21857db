//! The S3 operations, between the protocol library and the rooms that do the work.

use std::sync::Arc;

use http::header::{CONTENT_RANGE, HeaderName, HeaderValue, IF_MATCH};
use http::{HeaderMap, StatusCode};
use s3s::dto::{self, StreamingBlob};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::checks::{Verified, get_checksum};
use super::complete::{Complete, complete};
use super::copy::{Copy, Source, copy};
use super::error::custom;
use super::index::buckets::{self, Versioning};
use super::index::conditions::{Conditions, Test};
use super::index::versions::{self, Delete, Deleted};
use super::listing::PAGE_MAX;
use super::multipart::{self, Place};
use super::named::Name;
use super::read::{Ask, read, test};
use super::write::{Incoming, Upload, conditions, put};
use super::{Error, Store, acl, blocking, describe, listing, lock, subresources, tagging};

/// The canonical id of the account that owns everything.
pub(super) const OWNER: &str = "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a";

const REGION: &str = "us-east-1";

/// The store as the protocol library sees it.
#[derive(Clone)]
pub(super) struct Front(pub(super) Arc<Store>);

impl Front {
    async fn index<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static) -> S3Result<T> {
        let store = Arc::clone(&self.0);
        Ok(blocking(move || work(&store)).await?)
    }
}

pub(super) fn owner() -> dto::Owner {
    dto::Owner { display_name: Some("store".to_owned()), id: Some(OWNER.to_owned()) }
}

/// The headers about the checksum of an upload.
fn checksum_headers(checksum: Option<Verified>, kind: Option<&'static str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(checksum) = checksum
        && let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(checksum.header().as_bytes()), HeaderValue::from_str(&checksum.value))
    {
        headers.insert(name, value);
        headers.extend(kind.map(|kind| (HeaderName::from_static("x-amz-checksum-type"), HeaderValue::from_static(kind))));
    }
    headers
}

/// What a DELETE of several keys asks for one of them.
fn delete_of(object: dto::ObjectIdentifier, bypass: bool) -> S3Result<Delete> {
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(s3_error!(NotImplemented, "Deletes are conditional on the ETag only."));
    }
    let if_match = object.e_tag.as_ref().map(|etag| match etag.value() {
        "*" => Test::Any,
        etag => Test::Is(etag.to_owned()),
    });
    let version = object.version_id.filter(|id| !id.is_empty());
    Ok(Delete { key: object.key, version, conditions: Conditions { if_match, if_none_match: None }, bypass })
}

#[async_trait::async_trait]
impl S3 for Front {
    async fn create_bucket(&self, req: S3Request<dto::CreateBucketInput>) -> S3Result<S3Response<dto::CreateBucketOutput>> {
        let input = req.input;
        let ownership = input.object_ownership.as_ref().map_or(acl::ENFORCED, |ownership| ownership.as_str());
        if ![acl::ENFORCED, "BucketOwnerPreferred", "ObjectWriter"].contains(&ownership) {
            return Err(S3ErrorCode::InvalidArgument.into());
        }
        let acl = acl::from_request(&req.headers)?;
        if ownership == acl::ENFORCED && acl.is_some() {
            let message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
            return Err(custom(StatusCode::BAD_REQUEST, "InvalidBucketAclWithObjectOwnership", message));
        }
        let constraint = input.create_bucket_configuration.and_then(|configuration| configuration.location_constraint);
        let new = buckets::New {
            name: input.bucket,
            region: constraint.map_or(REGION.to_owned(), |constraint| constraint.as_str().to_owned()),
            lockable: input.object_lock_enabled_for_bucket == Some(true),
            acl,
            documents: subresources::of_new_bucket(ownership),
        };
        let location = format!("/{}", new.name);
        self.index(move |store| store.index.create_bucket(&new)).await?;
        Ok(S3Response::new(dto::CreateBucketOutput { location: Some(location), ..Default::default() }))
    }

    async fn head_bucket(&self, req: S3Request<dto::HeadBucketInput>) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        let region = self.index(move |store| store.index.bucket_region(&req.input.bucket)).await?;
        Ok(S3Response::new(dto::HeadBucketOutput { bucket_region: Some(region), ..Default::default() }))
    }

    async fn delete_bucket(&self, req: S3Request<dto::DeleteBucketInput>) -> S3Result<S3Response<dto::DeleteBucketOutput>> {
        self.index(move |store| {
            let dead = store.index.delete_bucket(&req.input.bucket)?;
            store.bury(dead);
            Ok(())
        })
        .await?;
        Ok(S3Response::new(dto::DeleteBucketOutput {}))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<dto::GetBucketLocationInput>,
    ) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
        let region = self.index(move |store| store.index.bucket_region(&req.input.bucket)).await?;
        // S3 names its first region by leaving it out.
        let location_constraint = (region != REGION).then(|| region.into());
        Ok(S3Response::new(dto::GetBucketLocationOutput { location_constraint }))
    }

    async fn list_buckets(&self, req: S3Request<dto::ListBucketsInput>) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        listing::buckets(&self.0, req.input).await.map(S3Response::new)
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<dto::GetBucketVersioningInput>,
    ) -> S3Result<S3Response<dto::GetBucketVersioningOutput>> {
        let bucket = self.index(move |store| store.index.bucket(&req.input.bucket)).await?;
        let status = bucket.versioning.name().map(|name| name.to_owned().into());
        Ok(S3Response::new(dto::GetBucketVersioningOutput { status, mfa_delete: None }))
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<dto::PutBucketVersioningInput>,
    ) -> S3Result<S3Response<dto::PutBucketVersioningOutput>> {
        let dto::VersioningConfiguration { mfa_delete, status } = req.input.versioning_configuration;
        if mfa_delete.is_some_and(|mfa| mfa.as_str() != "Disabled") {
            return Err(s3_error!(NotImplemented, "MFA delete is not implemented by this store."));
        }
        let versioning = match status.as_ref().map(|status| status.as_str()) {
            Some("Enabled") => Versioning::Enabled,
            Some("Suspended") => Versioning::Suspended,
            _ => {
                let message = "The Versioning element must be specified";
                return Err(S3Error::with_message(S3ErrorCode::IllegalVersioningConfigurationException, message));
            }
        };
        self.index(move |store| store.index.set_versioning(&req.input.bucket, versioning)).await?;
        Ok(S3Response::new(dto::PutBucketVersioningOutput {}))
    }

    async fn get_bucket_acl(&self, req: S3Request<dto::GetBucketAclInput>) -> S3Result<S3Response<dto::GetBucketAclOutput>> {
        let bucket = self.index(move |store| store.index.bucket(&req.input.bucket)).await?;
        let grants = acl::grants(bucket.acl.as_deref());
        Ok(S3Response::new(dto::GetBucketAclOutput { grants: Some(grants), owner: Some(owner()) }))
    }

    async fn put_bucket_acl(&self, req: S3Request<dto::PutBucketAclInput>) -> S3Result<S3Response<dto::PutBucketAclOutput>> {
        let canned = acl::asked(&req.headers, req.input.access_control_policy)?;
        let bucket = req.input.bucket;
        let set = move |store: &Store| {
            store.index.view(|snapshot| acl::check(snapshot, &buckets::find(snapshot, &bucket)?, canned.as_deref()))?;
            store.index.set_bucket_acl(&bucket, canned.as_deref())
        };
        self.index(set).await?;
        Ok(S3Response::new(dto::PutBucketAclOutput {}))
    }

    async fn get_object_lock_configuration(
        &self,
        req: S3Request<dto::GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<dto::GetObjectLockConfigurationOutput>> {
        let bucket = self.index(move |store| store.index.bucket(&req.input.bucket)).await?;
        let object_lock_configuration = Some(lock::configuration(&bucket)?);
        Ok(S3Response::new(dto::GetObjectLockConfigurationOutput { object_lock_configuration }))
    }

    async fn put_object_lock_configuration(
        &self,
        req: S3Request<dto::PutObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<dto::PutObjectLockConfigurationOutput>> {
        let retention = lock::default_retention(req.input.object_lock_configuration)?;
        self.index(move |store| store.index.set_lock(&req.input.bucket, retention)).await?;
        Ok(S3Response::new(dto::PutObjectLockConfigurationOutput::default()))
    }

    async fn put_object(&self, req: S3Request<dto::PutObjectInput>) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let input = req.input;
        let declared = input.content_length.and_then(|len| u64::try_from(len).ok()).ok_or(S3ErrorCode::MissingContentLength)?;
        let incoming = Incoming {
            extensions: req.extensions,
            declared,
            body: input.body.unwrap_or_else(|| StreamingBlob::from_bytes(bytes::Bytes::new())),
            trailers: req.trailing_headers,
        };
        let upload = Upload { bucket: input.bucket, key: input.key, headers: req.headers, incoming };
        let written = put(&self.0, upload).await?;
        let output = dto::PutObjectOutput {
            e_tag: Some(dto::ETag::Strong(written.etag)),
            server_side_encryption: input.server_side_encryption,
            ssekms_key_id: input.ssekms_key_id,
            bucket_key_enabled: input.bucket_key_enabled,
            version_id: written.version,
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, checksum_headers(written.checksum, Some("FULL_OBJECT"))))
    }

    async fn copy_object(&self, req: S3Request<dto::CopyObjectInput>) -> S3Result<S3Response<dto::CopyObjectOutput>> {
        let input = req.input;
        let source = Source::of(input.copy_source, None, &req.headers)?;
        let request = Copy::of(source, input.bucket, input.key, conditions(&req.headers)?, &req.headers)?;
        copy(&self.0, request).await.map(S3Response::new)
    }

    async fn get_object(&self, req: S3Request<dto::GetObjectInput>) -> S3Result<S3Response<dto::GetObjectOutput>> {
        let ask = Ask {
            bucket: &req.input.bucket,
            key: &req.input.key,
            uri: &req.uri,
            headers: &req.headers,
            extensions: &req.extensions,
            version: req.input.version_id,
            range: req.input.range,
            part: req.input.part_number,
            with_body: true,
        };
        let answer = read(&self.0, ask).await?;
        let output = dto::GetObjectOutput {
            body: answer.body.map(StreamingBlob::new),
            content_length: i64::try_from(answer.len).ok(),
            // This field makes the status 206.
            content_range: answer.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned),
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, answer.headers))
    }

    async fn head_object(&self, req: S3Request<dto::HeadObjectInput>) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        let ask = Ask {
            bucket: &req.input.bucket,
            key: &req.input.key,
            uri: &req.uri,
            headers: &req.headers,
            extensions: &req.extensions,
            version: req.input.version_id,
            range: req.input.range,
            part: req.input.part_number,
            with_body: false,
        };
        let answer = read(&self.0, ask).await?;
        Ok(S3Response::with_headers(dto::HeadObjectOutput::default(), answer.headers))
    }

    async fn get_object_attributes(
        &self,
        req: S3Request<dto::GetObjectAttributesInput>,
    ) -> S3Result<S3Response<dto::GetObjectAttributesOutput>> {
        describe::describe(&self.0, req.input).await.map(S3Response::new)
    }

    async fn delete_object(&self, req: S3Request<dto::DeleteObjectInput>) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
        let input = req.input;
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(s3_error!(NotImplemented, "Deletes are conditional on the ETag only."));
        }
        let asked = Delete {
            key: input.key,
            version: input.version_id,
            conditions: Conditions { if_match: test(&req.headers, IF_MATCH)?, if_none_match: None },
            bypass: input.bypass_governance_retention == Some(true),
        };
        let delete = move |store: &Store| {
            let mut dead = Vec::new();
            let deleted = store.index.change(|transaction| {
                versions::delete(transaction, &buckets::find(transaction, &input.bucket)?, &asked, &mut dead)
            })?;
            store.bury(dead);
            Ok(deleted)
        };
        let Deleted { marker, version } = self.index(delete).await?;
        let output =
            dto::DeleteObjectOutput { delete_marker: marker.then_some(true), version_id: version, request_charged: None };
        Ok(S3Response::new(output))
    }

    async fn delete_objects(&self, req: S3Request<dto::DeleteObjectsInput>) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
        let dto::DeleteObjectsInput { bucket, delete, bypass_governance_retention, .. } = req.input;
        let quiet = delete.quiet == Some(true);
        if delete.objects.is_empty() || delete.objects.len() > PAGE_MAX {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let bypass = bypass_governance_retention == Some(true);
        let deletes = delete.objects.into_iter().map(|object| delete_of(object, bypass)).collect::<S3Result<Vec<_>>>()?;
        let delete = move |store: &Store| {
            let mut dead = Vec::new();
            let outcomes = store.index.change(|transaction| {
                let bucket = buckets::find(transaction, &bucket)?;
                let mut outcomes = Vec::with_capacity(deletes.len());
                for asked in deletes {
                    let outcome = versions::delete(transaction, &bucket, &asked, &mut dead);
                    match outcome {
                        // The store itself failed, perhaps half way through.
                        Err(error @ (Error::Index(_) | Error::MalformedRow | Error::Body(_))) => return Err(error),
                        // One that is refused has changed nothing and is no obstacle to the others.
                        outcome => outcomes.push((asked, outcome.map_err(S3Error::from))),
                    }
                }
                Ok(outcomes)
            })?;
            store.bury(dead);
            Ok(outcomes)
        };
        let mut deleted = dto::DeletedObjects::new();
        let mut errors = dto::Errors::new();
        for (asked, outcome) in self.index(delete).await? {
            let key = Some(asked.key);
            match outcome {
                Ok(_) if quiet => {}
                Ok(Deleted { marker, version }) => deleted.push(dto::DeletedObject {
                    key,
                    delete_marker: marker.then_some(true),
                    delete_marker_version_id: version.filter(|_| marker),
                    version_id: asked.version,
                }),
                Err(error) => errors.push(dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    key,
                    message: error.message().map(str::to_owned),
                    version_id: asked.version,
                }),
            }
        }
        let output = dto::DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), request_charged: None };
        Ok(S3Response::new(output))
    }

    async fn list_objects(&self, req: S3Request<dto::ListObjectsInput>) -> S3Result<S3Response<dto::ListObjectsOutput>> {
        listing::objects(&self.0, req.input).await.map(S3Response::new)
    }

    async fn list_objects_v2(&self, req: S3Request<dto::ListObjectsV2Input>) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        listing::objects_v2(&self.0, req.input).await.map(S3Response::new)
    }

    async fn list_object_versions(
        &self,
        req: S3Request<dto::ListObjectVersionsInput>,
    ) -> S3Result<S3Response<dto::ListObjectVersionsOutput>> {
        listing::versions(&self.0, req.input).await.map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<dto::ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<dto::ListMultipartUploadsOutput>> {
        listing::uploads(&self.0, req.input).await.map(S3Response::new)
    }

    async fn list_parts(&self, req: S3Request<dto::ListPartsInput>) -> S3Result<S3Response<dto::ListPartsOutput>> {
        listing::parts(&self.0, req.input).await.map(S3Response::new)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<dto::CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CreateMultipartUploadOutput>> {
        let input = req.input;
        let mut output = multipart::create(&self.0, input.bucket, input.key, &req.headers).await?;
        output.server_side_encryption = input.server_side_encryption;
        output.ssekms_key_id = input.ssekms_key_id;
        output.bucket_key_enabled = input.bucket_key_enabled;
        Ok(S3Response::new(output))
    }

    async fn upload_part(&self, req: S3Request<dto::UploadPartInput>) -> S3Result<S3Response<dto::UploadPartOutput>> {
        let input = req.input;
        let declared = input.content_length.and_then(|len| u64::try_from(len).ok()).ok_or(S3ErrorCode::MissingContentLength)?;
        let incoming = Incoming {
            extensions: req.extensions,
            declared,
            body: input.body.unwrap_or_else(|| StreamingBlob::from_bytes(bytes::Bytes::new())),
            trailers: req.trailing_headers,
        };
        let place = Place { bucket: input.bucket, key: input.key, upload: input.upload_id };
        let part = multipart::upload_part(&self.0, place, input.part_number, &req.headers, incoming).await?;
        let output = dto::UploadPartOutput { e_tag: Some(dto::ETag::Strong(part.etag)), ..Default::default() };
        Ok(S3Response::with_headers(output, checksum_headers(part.checksum, None)))
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<dto::UploadPartCopyInput>,
    ) -> S3Result<S3Response<dto::UploadPartCopyOutput>> {
        let input = req.input;
        let source = Source::of(input.copy_source, input.copy_source_range.as_deref(), &req.headers)?;
        let place = Place { bucket: input.bucket, key: input.key, upload: input.upload_id };
        multipart::copy_part(&self.0, place, input.part_number, source).await.map(S3Response::new)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<dto::CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::CompleteMultipartUploadOutput>> {
        let input = req.input;
        let request = Complete {
            checksum: get_checksum!(input),
            place: Place { bucket: input.bucket, key: input.key, upload: input.upload_id },
            parts: input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default(),
            conditions: conditions(&req.headers)?,
            size: input.mpu_object_size,
        };
        let Place { bucket, key, .. } = request.place.clone();
        let whole = complete(&self.0, request).await?;
        Ok(S3Response::new(whole.output(bucket, key, &req.headers)))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<dto::AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<dto::AbortMultipartUploadOutput>> {
        let input = req.input;
        if input.if_match_initiated_time.is_some() {
            return Err(s3_error!(NotImplemented, "Aborts are not conditional in this store."));
        }
        let place = Place { bucket: input.bucket, key: input.key, upload: input.upload_id };
        multipart::abort(&self.0, place).await?;
        Ok(S3Response::new(dto::AbortMultipartUploadOutput::default()))
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<dto::GetObjectTaggingInput>,
    ) -> S3Result<S3Response<dto::GetObjectTaggingOutput>> {
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        let (tags, version_id) = name.look(&self.0, |_, version| Ok(version.attributes.tags.clone())).await?;
        let tag_set = tagging::document(tags.as_deref());
        Ok(S3Response::new(dto::GetObjectTaggingOutput { tag_set, version_id }))
    }

    async fn put_object_tagging(
        &self,
        req: S3Request<dto::PutObjectTaggingInput>,
    ) -> S3Result<S3Response<dto::PutObjectTaggingOutput>> {
        let tags = tagging::from_document(req.input.tagging)?;
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        let set =
            name.change(&self.0, move |transaction, _, version| versions::set_tags(transaction, version.seq, tags.as_deref()));
        let ((), version_id) = set.await?;
        Ok(S3Response::new(dto::PutObjectTaggingOutput { version_id }))
    }

    async fn delete_object_tagging(
        &self,
        req: S3Request<dto::DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectTaggingOutput>> {
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        let forget = name.change(&self.0, |transaction, _, version| versions::set_tags(transaction, version.seq, None));
        let ((), version_id) = forget.await?;
        Ok(S3Response::new(dto::DeleteObjectTaggingOutput { version_id }))
    }

    async fn get_object_acl(&self, req: S3Request<dto::GetObjectAclInput>) -> S3Result<S3Response<dto::GetObjectAclOutput>> {
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        let (canned, _) = name.look(&self.0, |_, version| Ok(version.attributes.acl.clone())).await?;
        let grants = acl::grants(canned.as_deref());
        Ok(S3Response::new(dto::GetObjectAclOutput { grants: Some(grants), owner: Some(owner()), request_charged: None }))
    }

    async fn put_object_acl(&self, req: S3Request<dto::PutObjectAclInput>) -> S3Result<S3Response<dto::PutObjectAclOutput>> {
        let canned = acl::asked(&req.headers, req.input.access_control_policy)?;
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        name.change(&self.0, move |transaction, bucket, version| {
            acl::check(transaction, bucket, canned.as_deref())?;
            versions::set_acl(transaction, version.seq, canned.as_deref())
        })
        .await?;
        Ok(S3Response::new(dto::PutObjectAclOutput::default()))
    }

    async fn get_object_retention(
        &self,
        req: S3Request<dto::GetObjectRetentionInput>,
    ) -> S3Result<S3Response<dto::GetObjectRetentionOutput>> {
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        let (retention, _) = name.look(&self.0, |bucket, version| Ok(lock::retention(bucket, version)?)).await?;
        Ok(S3Response::new(dto::GetObjectRetentionOutput { retention: Some(retention) }))
    }

    async fn put_object_retention(
        &self,
        req: S3Request<dto::PutObjectRetentionInput>,
    ) -> S3Result<S3Response<dto::PutObjectRetentionOutput>> {
        let retention = lock::asked_retention(req.input.retention)?;
        let bypass = req.input.bypass_governance_retention == Some(true);
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        name.change(&self.0, move |transaction, bucket, version| {
            lock::demand_lockable(bucket)?;
            version.attributes.lock.check_change(retention, bypass)?;
            versions::set_lock(transaction, version.seq, &lock::Lock { retention, ..version.attributes.lock.clone() })
        })
        .await?;
        Ok(S3Response::new(dto::PutObjectRetentionOutput::default()))
    }

    async fn get_object_legal_hold(
        &self,
        req: S3Request<dto::GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<dto::GetObjectLegalHoldOutput>> {
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        let (hold, _) = name.look(&self.0, |bucket, version| Ok(lock::legal_hold(bucket, version)?)).await?;
        Ok(S3Response::new(dto::GetObjectLegalHoldOutput { legal_hold: Some(hold) }))
    }

    async fn put_object_legal_hold(
        &self,
        req: S3Request<dto::PutObjectLegalHoldInput>,
    ) -> S3Result<S3Response<dto::PutObjectLegalHoldOutput>> {
        let hold = lock::asked_legal_hold(req.input.legal_hold)?;
        let name = Name { bucket: req.input.bucket, key: req.input.key, version: req.input.version_id };
        name.change(&self.0, move |transaction, bucket, version| {
            lock::demand_lockable(bucket)?;
            let lock = lock::Lock { legal_hold: Some(hold), ..version.attributes.lock.clone() };
            versions::set_lock(transaction, version.seq, &lock)
        })
        .await?;
        Ok(S3Response::new(dto::PutObjectLegalHoldOutput::default()))
    }
}
