//! Uploads that carry a checksum of the sealed body: into buckets whose default retention makes the store demand it, and everywhere where
//! that is configured.

use aws_sdk_s3::types::{
    ChecksumMode, ChecksumType, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockMode,
    ObjectLockRetentionMode, ObjectLockRule,
};
use data_encoding::BASE64;

use crate::kit::noise;

use super::site::{LEAST, Site, unique};

fn crc64(bytes: &[u8]) -> String {
    BASE64.encode(&crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes())
}

/// A bucket with a default retention, which no gateway has seen an upload into.
async fn locked(site: &Site) -> String {
    let (client, bucket) = (site.client(), unique("locked"));
    client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true).send().await.expect("bucket");
    let default = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(1).build();
    let rule = ObjectLockRule::builder().default_retention(default).build();
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule).build();
    client.put_object_lock_configuration().bucket(&bucket).object_lock_configuration(lock).send().await.expect("retention");
    bucket
}

#[tokio::test]
async fn the_first_object_in_a_bucket_with_default_retention_is_taken() {
    for site in Site::each("", 1).await {
        let (client, bucket) = (site.client(), locked(&site).await);
        client.put_object().bucket(&bucket).key("k").body(noise(70_000, 1).into()).send().await.expect("the first upload");
        let got = client.get_object().bucket(&bucket).key("k").send().await.expect("get");
        assert_eq!(got.object_lock_mode(), Some(&ObjectLockMode::Governance));
        assert!(got.body.collect().await.expect("whole").into_bytes() == noise(70_000, 1));
    }
}

#[tokio::test]
async fn the_first_upload_in_parts_into_a_bucket_with_default_retention_is_taken() {
    for mut site in Site::each("", 1).await {
        site.bucket = locked(&site).await;
        let client = site.client();
        let upload = site.create("k").await;
        let plain = [noise(LEAST, 1), noise(LEAST + 9, 2), noise(100, 3)];
        let mut parts = Vec::new();
        for (number, bytes) in (1..).zip(&plain) {
            parts.push(upload.part(&client, number, bytes.clone()).await);
        }
        upload.complete(&client, &parts).send().await.expect("complete");
        assert!(site.get("k").await == plain.concat());
        checked_behind(&site, "k").await;
    }
}

/// The store has a checksum of the sealed bytes, and clients see nothing of how it came.
async fn checked_behind(site: &Site, key: &str) {
    let got = site.behind().get_object().bucket(&site.bucket).key(key).checksum_mode(ChecksumMode::Enabled).send().await;
    let got = got.expect("get");
    let (sum, kind) = (got.checksum_crc64_nvme().map(str::to_owned), got.checksum_type().cloned());
    assert_eq!(got.content_encoding(), None, "the framing leaves no trace");
    let sealed = got.body.collect().await.expect("sealed").into_bytes();
    assert_eq!((sum, kind), (Some(crc64(&sealed)), Some(ChecksumType::FullObject)), "{key}");
    let seen = site.client().head_object().bucket(&site.bucket).key(key).checksum_mode(ChecksumMode::Enabled).send().await;
    assert_eq!(seen.expect("head").checksum_crc64_nvme(), Some(crc64(&site.get(key).await).as_str()), "{key}");
}

#[tokio::test]
async fn every_object_carries_a_checksum_where_that_is_configured() {
    for site in Site::each_set(&[("CIPHERGATE_BACKEND__UPLOAD_CHECKSUM", "crc64nvme")]).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        for (key, len) in [("empty", 0), ("small", 1), ("large", 3_000_000)] {
            client.put_object().bucket(bucket).key(key).body(noise(len, 1).into()).send().await.expect("put");
            assert!(site.get(key).await == noise(len, 1), "{key}");
            checked_behind(&site, key).await;
        }
        let upload = site.create("parts").await;
        let parts = [upload.part(&client, 1, noise(LEAST, 1)).await, upload.part(&client, 2, noise(100, 2)).await];
        upload.complete(&client, &parts).send().await.expect("complete");
        assert!(site.get("parts").await == [noise(LEAST, 1), noise(100, 2)].concat());
    }
}
