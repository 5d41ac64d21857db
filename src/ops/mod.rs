//! The S3 operations that touch object data or what is derived from it: sizes, ETags, checksums.
//!
//! Each file carries one operation family: it asks `keys` for a data key, `stream` to seal or open, `backend` to store, and says
//! in S3's words what happened. This room never sees a socket, and never lets a byte through that `stream` did not seal or open.
//! FORMAT section 9 holds the rules that reading obeys.

mod access;
pub mod at_rest;
mod attributes;
mod aws_client;
mod buckets;
mod check;
mod copy_object;
mod copy_source;
mod delete;
mod error;
mod footers;
mod get_object;
mod head_object;
mod headers;
mod large_copy;
mod list;
mod list_versions;
pub mod multipart;
mod nature;
mod object;
mod part_number;
mod protection;
mod put_object;
mod read_through;
mod received;
pub mod recover;
mod release;
mod reseal;
mod rewrap;
mod rewrapped;
mod state;
pub mod verify;
mod visible;

use std::sync::Arc;

use async_trait::async_trait;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
    DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetObjectAttributesInput,
    GetObjectAttributesOutput, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutObjectInput, PutObjectOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};

pub use access::{Access, AccessRules};
pub use aws_client::{AwsClientRule, AwsClients, BYTES_AT_ONCE};
pub use check::{trailer_value_len, verify_document};
pub use error::{Error, chain};
pub use footers::Footers;
pub use multipart::Multipart;
pub use nature::Nature;
pub use received::{BodyFault, refusal_of};
pub use release::{PlaintextBucket, Released, Stays};
pub use reseal::{Left, OldVersion, Reseal, Resealed};
pub use state::StatePlace;

use crate::backend::S3Backend;
use crate::keys::Keys;
use crate::observe::request::RequestRecord;

/// The sealed way: typed S3 operations over a store and a source of keys.
///
/// One per worker, since the store's connections belong to the worker; keys and cached footers are shared by all of them.
#[derive(Clone)]
pub struct Gateway {
    backend: S3Backend,
    keys: Arc<Keys>,
    footers: Arc<Footers>,
    multipart: Arc<Multipart>,
    access: Arc<AccessRules>,
    aws_clients: Arc<AwsClients>,
}

impl Gateway {
    /// Every bucket is [`Access::Encrypted`].
    pub fn new(backend: S3Backend, keys: Arc<Keys>, footers: Arc<Footers>) -> Self {
        Self { backend, keys, footers, multipart: Arc::default(), access: Arc::default(), aws_clients: Arc::default() }
    }

    /// With the settings and the memory of uploads in parts that all workers share.
    #[must_use]
    pub fn with_multipart(mut self, multipart: Arc<Multipart>) -> Self {
        self.multipart = multipart;
        self
    }

    /// The same with buckets that may hold plaintext.
    #[must_use]
    pub fn with_access(mut self, access: Arc<AccessRules>) -> Self {
        self.access = access;
        self
    }

    /// The same with buckets in which objects of AWS's own encryption client are read.
    #[must_use]
    pub fn with_aws_clients(mut self, aws_clients: Arc<AwsClients>) -> Self {
        self.aws_clients = aws_clients;
        self
    }
}

/// Tells the front that a request that may take long is nothing but work from now on.
fn work_begins(extensions: &http::Extensions) {
    if let Some(record) = extensions.get::<RequestRecord>() {
        record.set_working();
    }
}

/// Every operation that is not here answers NotImplemented, by s3s's own default.
#[async_trait]
impl S3 for Gateway {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.seal_and_put(req).await.map_err(Error::into_s3)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.get_and_open(req).await.map_err(Error::into_s3)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.head(req).await.map_err(Error::into_s3)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        work_begins(&req.extensions);
        self.copy(req).await.map_err(Error::into_s3)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.delete_one(req).await.map_err(Error::into_s3)
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.delete_many(req).await.map_err(Error::into_s3)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        self.list_v1(req).await.map_err(Error::into_s3)
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.list_v2(req).await.map_err(Error::into_s3)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.create_upload(req).await.map_err(Error::into_s3)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.put_part(req).await.map_err(Error::into_s3)
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> S3Result<S3Response<UploadPartCopyOutput>> {
        work_begins(&req.extensions);
        self.copy_part(req).await.map_err(Error::into_s3)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        work_begins(&req.extensions);
        self.complete_upload(req).await.map_err(Error::into_s3)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.abort_upload(req).await.map_err(Error::into_s3)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.parts(req).await.map_err(Error::into_s3)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.uploads(req).await.map_err(Error::into_s3)
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.buckets(req).await.map_err(Error::into_s3)
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.remove_bucket(req).await.map_err(Error::into_s3)
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        self.list_versions(req).await.map_err(Error::into_s3)
    }

    async fn get_object_attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        self.attributes(req).await.map_err(Error::into_s3)
    }
}
