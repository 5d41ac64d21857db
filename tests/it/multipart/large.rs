//! A PutObject that is written in parts, with a limit that small files pass.

use aws_sdk_s3::types::ChecksumMode;
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

use crate::kit::{code, noise};

use super::site::{LEAST, MIB, Site};

const LIMIT: &str = "multipart.put_bytes_max = 5242880";

#[tokio::test]
async fn a_large_put_is_an_object_like_any_other() {
    for site in Site::each(LIMIT, 1).await {
        let client = site.client();
        for (key, len) in [("at", LEAST), ("above", LEAST + 1), ("two", 2 * LEAST), ("some", 17 * MIB + 5)] {
            let plain = noise(len, len as u64);
            let put = client
                .put_object()
                .bucket(&site.bucket)
                .key(key)
                .content_type("text/x-test")
                .metadata("colour", "red")
                .checksum_sha256(BASE64.encode(&Sha256::digest(&plain)))
                .body(plain.clone().into());
            let put = put.send().await.expect("put");
            assert!(put.checksum_sha256().is_some());
            assert_eq!(put.server_side_encryption().map(|sse| sse.as_str()), Some("aws:kms"));
            assert!(site.get(key).await == plain, "{key}");
            let head = client.head_object().bucket(&site.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
            let head = head.send().await.expect("head");
            assert_eq!((head.content_length(), head.e_tag()), (Some(len as i64), put.e_tag()));
            assert_eq!((head.content_type(), head.checksum_sha256()), (Some("text/x-test"), put.checksum_sha256()));
            assert_eq!(head.metadata().unwrap()["colour"], "red");
            let stored = site.behind().head_object().bucket(&site.bucket).key(key).send().await.expect("stored");
            assert_eq!(
                stored.content_length(),
                Some(ciphergate::format::PlainLen::new(len as u64).unwrap().sealed().get() as i64)
            );
            let in_parts = stored.e_tag().unwrap().contains('-');
            assert_eq!(in_parts, len > LEAST, "{key}");
            let range = client.get_object().bucket(&site.bucket).key(key).range(format!("bytes={}-", len - 3)).send().await;
            assert!(range.expect("range").body.collect().await.unwrap().into_bytes() == plain[len - 3..]);
        }
    }
}

#[tokio::test]
async fn a_large_put_that_is_refused_leaves_nothing() {
    for site in Site::each(LIMIT, 1).await {
        let client = site.client();
        let plain = noise(12 * MIB, 1);
        let put = || client.put_object().bucket(&site.bucket).key("k").body(plain.clone().into());
        assert_eq!(code(put().checksum_crc32("AAAAAA==").send().await), "BadDigest");
        assert_eq!(code(put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await), "BadDigest");
        client.put_object().bucket(&site.bucket).key("k").body(noise(1, 1).into()).send().await.expect("put");
        assert_eq!(code(put().if_none_match("*").send().await), "PreconditionFailed");
        let behind = site.behind();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !behind.list_multipart_uploads().bucket(&site.bucket).send().await.expect("uploads").uploads().is_empty() {
            assert!(std::time::Instant::now() < until, "an upload was left");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(site.stored(&site.bucket).await, ["k"]);
        assert_eq!(site.get("k").await, noise(1, 1));
    }
}
