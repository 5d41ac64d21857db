//! ListBuckets and DeleteBucket: the two bucket operations that the state of uploads shows in.

use s3s::dto::{Bucket, DeleteBucketInput, DeleteBucketOutput, ListBucketsInput, ListBucketsOutput, Owner};
use s3s::{S3Request, S3Response};

use super::list::timestamp;
use super::multipart::janitor::{self, Sweep};
use super::{Error, Gateway, headers};
use crate::backend::{self, BucketsQuery, ListQuery, Paging, VersionQuery};

impl Gateway {
    pub(super) async fn buckets(&self, req: S3Request<ListBucketsInput>) -> Result<S3Response<ListBucketsOutput>, Error> {
        let query = BucketsQuery {
            prefix: req.input.prefix,
            region: req.input.bucket_region,
            continuation_token: req.input.continuation_token,
            buckets_max: req.input.max_buckets,
            headers: headers::guards(&req.headers, &req.extensions),
        };
        let page = self.backend.list_buckets(query).await?;
        let place = &self.multipart.place;
        let buckets = page.buckets.into_iter().filter(|bucket| !place.hides_bucket(&bucket.name)).map(|bucket| Bucket {
            name: Some(bucket.name),
            creation_date: bucket.created.and_then(timestamp),
            bucket_region: bucket.region,
            bucket_arn: bucket.arn,
        });
        let output = ListBucketsOutput {
            buckets: Some(buckets.collect()),
            owner: page.owner.map(|owner| Owner { id: owner.id, display_name: owner.display_name }),
            continuation_token: page.next,
            prefix: page.prefix,
        };
        Ok(S3Response::with_headers(output, headers::for_client(page.headers)))
    }

    /// A bucket that holds nothing but the state of ended uploads, and records of versions that are gone, is empty for its owner.
    pub(super) async fn remove_bucket(&self, req: S3Request<DeleteBucketInput>) -> Result<S3Response<DeleteBucketOutput>, Error> {
        let bucket = req.input.bucket;
        let sent = headers::guards(&req.headers, &req.extensions);
        let mut removed = self.backend.delete_bucket(&bucket, sent.clone()).await;
        let not_empty = matches!(&removed, Err(backend::Error::Refused(refusal)) if refusal.code == "BucketNotEmpty");
        if not_empty && self.multipart.place.prefix().is_some() && self.seems_empty(&bucket).await? {
            let buckets = Some(vec![bucket.clone()]);
            let what = Sweep { older_than: std::time::Duration::ZERO, dry_run: false, buckets, rewrapped: true };
            let report = janitor::sweep(&self.backend, &self.multipart.place, &what).await?;
            if !report.removed.is_empty() {
                removed = self.backend.delete_bucket(&bucket, sent).await;
            }
        }
        Ok(S3Response::with_headers(DeleteBucketOutput::default(), headers::for_client(removed?.headers)))
    }

    /// Whether a client sees nothing in it, neither an object nor a version.
    async fn seems_empty(&self, bucket: &str) -> Result<bool, Error> {
        let has_versions = match self.backend.has_versions(bucket).await {
            // The store knows no versions, or does not tell us.
            Err(backend::Error::Refused(_)) => false,
            answer => answer?,
        };
        if has_versions {
            let query = VersionQuery {
                bucket: bucket.to_owned(),
                prefix: None,
                delimiter: None,
                max_keys: None,
                key_marker: None,
                version_id_marker: None,
                headers: http::HeaderMap::new(),
            };
            let page = self.list_visible_versions(query).await?;
            return Ok(page.versions.is_empty() && page.delete_markers.is_empty());
        }
        let query = ListQuery {
            bucket: bucket.to_owned(),
            prefix: None,
            delimiter: None,
            max_keys: None,
            headers: http::HeaderMap::new(),
            paging: Paging::V2 { continuation_token: None, start_after: None, fetch_owner: None },
        };
        Ok(self.list_visible(query).await?.entries.is_empty())
    }
}
