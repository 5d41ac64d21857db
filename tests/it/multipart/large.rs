//! Objects that the gateway writes in parts, with a limit that small files pass.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
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

#[tokio::test]
async fn a_large_copy_that_passes_through_is_an_object_like_any_other() {
    let more = format!("{LIMIT}\n[buckets.\"{{bucket}}\"]\naccess = \"read-through\"\n");
    for site in Site::each(&more, 1).await {
        let (client, behind) = (site.client(), site.behind());
        let plain = noise(17 * MIB + 5, 3);
        let sha256 = BASE64.encode(&Sha256::digest(&plain));
        for (to, key) in [(&behind, "plain"), (&client, "sealed")] {
            let put = to.put_object().bucket(&site.bucket).key(key).body(plain.clone().into());
            put.content_type("text/x-test").metadata("colour", "red").tagging("t=1").send().await.expect("put");
        }
        for (from, to, algorithm) in [
            ("plain", "copy", None),
            ("plain", "copy", Some(ChecksumAlgorithm::Sha256)),
            ("sealed", "copy", Some(ChecksumAlgorithm::Sha256)),
            // Onto itself, it is encrypted where it lies.
            ("plain", "plain", None),
        ] {
            let copy = client.copy_object().bucket(&site.bucket).key(to).copy_source(format!("{}/{from}", site.bucket));
            let copied = copy.set_checksum_algorithm(algorithm.clone()).send().await;
            let copied = copied.unwrap_or_else(|error| panic!("{from} {algorithm:?}: {error:?}"));
            let result = copied.copy_object_result().expect("result");
            let sum = algorithm.as_ref().map(|_| sha256.as_str());
            assert_eq!((result.checksum_sha256(), result.last_modified().is_some()), (sum, true));
            assert!(site.get(to).await == plain, "{from} {algorithm:?}");
            let head = client.head_object().bucket(&site.bucket).key(to).checksum_mode(ChecksumMode::Enabled);
            let head = head.send().await.expect("head");
            assert_eq!((head.content_length(), head.e_tag()), (Some(plain.len() as i64), result.e_tag()));
            assert_eq!((head.content_type(), head.checksum_sha256()), (Some("text/x-test"), sum));
            assert_eq!(head.metadata().unwrap()["colour"], "red");
            let tags = client.get_object_tagging().bucket(&site.bucket).key(to).send().await.expect("tags");
            assert_eq!(tags.tag_set()[0].key(), "t");
            let stored = behind.head_object().bucket(&site.bucket).key(to).send().await.expect("stored");
            let sealed_len = ciphergate::format::PlainLen::new(plain.len() as u64).unwrap().sealed().get();
            assert_eq!(stored.content_length(), Some(sealed_len as i64));
            assert!(stored.e_tag().unwrap().contains('-') && stored.metadata().unwrap().contains_key("ciphergate"));
        }
        assert!(behind.list_multipart_uploads().bucket(&site.bucket).send().await.expect("uploads").uploads().is_empty());
    }
}
