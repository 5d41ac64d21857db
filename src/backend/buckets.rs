//! What the sealed way asks of buckets, through aws-sdk-s3: the list of them, which one may be hidden from, whether
//! they keep versions, and their removal.

use aws_sdk_s3::types::BucketVersioningStatus;
use http::HeaderMap;

use super::sdk::{S3Backend, Wire, finish, instant, owner};
use super::{Answer, Error, Owner};

/// ListBuckets, as the client asked.
#[derive(Clone, Debug, Default)]
pub struct BucketsQuery {
    pub prefix: Option<String>,
    pub region: Option<String>,
    pub continuation_token: Option<String>,
    pub buckets_max: Option<i32>,
    pub headers: HeaderMap,
}

/// One page of ListBuckets.
#[derive(Debug, Default)]
pub struct BucketPage {
    pub buckets: Vec<ListedBucket>,
    pub owner: Option<Owner>,
    pub next: Option<String>,
    pub prefix: Option<String>,
    pub headers: HeaderMap,
}

/// A bucket in a listing.
#[derive(Debug)]
pub struct ListedBucket {
    pub name: String,
    /// Seconds and nanoseconds since the epoch.
    pub created: Option<(i64, u32)>,
    pub region: Option<String>,
    pub arn: Option<String>,
}

/// Whether a bucket keeps versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    Never,
    Enabled,
    /// It did once. What it kept is there, and what is written takes the place of the version `null`.
    Suspended,
}

impl S3Backend {
    /// One page of ListBuckets.
    pub async fn list_buckets(&self, query: BucketsQuery) -> Result<BucketPage, Error> {
        let wire = Wire::for_document("ListAllMyBucketsResult", query.headers)?;
        let sent = self
            .client
            .list_buckets()
            .set_prefix(query.prefix)
            .set_bucket_region(query.region)
            .set_continuation_token(query.continuation_token)
            .set_max_buckets(query.buckets_max)
            .customize()
            .interceptor(wire.clone())
            .send();
        let (output, headers) = finish(sent, &wire).await?;
        let buckets = output.buckets.unwrap_or_default().into_iter();
        Ok(BucketPage {
            buckets: buckets
                .map(|bucket| ListedBucket {
                    name: bucket.name.unwrap_or_default(),
                    created: bucket.creation_date.map(instant),
                    region: bucket.bucket_region,
                    arn: bucket.bucket_arn,
                })
                .collect(),
            owner: output.owner.map(owner),
            next: output.continuation_token,
            prefix: output.prefix,
            headers,
        })
    }

    /// GetBucketVersioning.
    pub async fn versioning(&self, bucket: &str) -> Result<Versioning, Error> {
        let wire = Wire::for_document("VersioningConfiguration", HeaderMap::new())?;
        let sent = self.client.get_bucket_versioning().bucket(bucket).customize().interceptor(wire.clone()).send();
        let (output, _) = finish(sent, &wire).await?;
        Ok(match output.status {
            None => Versioning::Never,
            Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
            Some(_) => Versioning::Enabled,
        })
    }

    /// Whether the bucket keeps versions, or once did.
    pub async fn has_versions(&self, bucket: &str) -> Result<bool, Error> {
        self.versioning(bucket).await.map(|versioning| versioning != Versioning::Never)
    }

    /// DeleteBucket.
    pub async fn delete_bucket(&self, bucket: &str, headers: HeaderMap) -> Result<Answer, Error> {
        let wire = Wire::new(headers)?;
        let sent = self.client.delete_bucket().bucket(bucket).customize().interceptor(wire.clone()).send();
        finish(sent, &wire).await.map(|(_, headers)| Answer { headers })
    }
}
