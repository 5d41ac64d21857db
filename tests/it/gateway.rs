//! The sealed way, end to end, over the embedded store: what comes back, what is stored, and what is refused.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, Delete, ObjectIdentifier};
use bytes::Bytes;

use crate::kit::{Site, code, noise};

/// Sizes around every edge of the format that a quick test can afford.
const SIZES: [usize; 12] = [0, 1, 15, 16, 17, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 5_300_000];

#[tokio::test]
async fn every_size_comes_back_whole_and_the_store_holds_only_ciphertext() {
    let site = Site::start().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("sizes").await);
    for size in SIZES {
        let plain = noise(size, size as u64 + 1);
        let key = format!("object-{size}");
        let put = client.put_object().bucket(&bucket).key(&key).body(plain.clone().into()).send().await.unwrap();
        let etag = put.e_tag().unwrap().to_owned();
        assert!(etag.ends_with("-0\""), "{etag}");
        assert_eq!(put.server_side_encryption().unwrap().as_str(), "aws:kms");

        let got = client.get_object().bucket(&bucket).key(&key).send().await.unwrap();
        assert_eq!(got.content_length(), Some(size as i64));
        assert_eq!(got.e_tag(), Some(etag.as_str()));
        assert!(got.metadata().is_none_or(|metadata| metadata.is_empty()), "the envelope is not shown");
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain, "size {size}");

        let head = client.head_object().bucket(&bucket).key(&key).send().await.unwrap();
        assert_eq!((head.content_length(), head.e_tag()), (Some(size as i64), Some(etag.as_str())));

        let stored = behind.get_object().bucket(&bucket).key(&key).send().await.unwrap();
        assert!(stored.metadata().unwrap().contains_key("ciphergate"));
        let stored = stored.body.collect().await.unwrap().into_bytes();
        assert_eq!(stored.len() as u64, ciphergate::format::PlainLen::new(size as u64).unwrap().sealed().get());
        assert_no_window(&stored, &plain);
    }
    let listed = client.list_objects_v2().bucket(&bucket).send().await.unwrap();
    let mut sizes: Vec<i64> = listed.contents().iter().map(|object| object.size().unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, SIZES.map(|size| size as i64));
}

fn assert_no_window(stored: &[u8], plain: &[u8]) {
    let windows: std::collections::HashSet<&[u8]> = stored.windows(16).collect();
    assert!(plain.windows(16).all(|window| !windows.contains(window)), "the store holds 16 bytes of plaintext");
}

#[tokio::test]
async fn every_range_is_the_slice_of_the_plaintext() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("ranges").await);
    let size = 3 * 65_536 + 1000;
    let plain = noise(size, 7);
    client.put_object().bucket(&bucket).key("o").body(plain.clone().into()).send().await.unwrap();
    let last = size - 1;
    let edges = [0, 1, 65_535, 65_536, 65_537, 131_072, 196_607, 196_608, last];
    let mut ranges: Vec<(String, std::ops::RangeInclusive<usize>)> = Vec::new();
    for from in edges {
        ranges.push((format!("bytes={from}-"), from..=last));
        ranges.push((format!("bytes={from}-999999999999"), from..=last));
        ranges.push((format!("bytes=-{}", from + 1), last.saturating_sub(from)..=last));
        for to in edges.into_iter().filter(|to| *to >= from) {
            ranges.push((format!("bytes={from}-{to}"), from..=to));
        }
    }
    ranges.push(("bytes=-999999999".to_owned(), 0..=last));
    for (header, span) in ranges {
        let got = client.get_object().bucket(&bucket).key("o").range(&header).send().await.unwrap();
        assert_eq!(got.content_range(), Some(format!("bytes {}-{}/{size}", span.start(), span.end()).as_str()), "{header}");
        assert_eq!(got.content_length(), Some((span.end() - span.start() + 1) as i64), "{header}");
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain[span], "{header}");
    }
    for header in [format!("bytes={size}-"), format!("bytes={}-", size + 5_000_000), "bytes=-0".to_owned()] {
        assert_eq!(code(client.get_object().bucket(&bucket).key("o").range(&header).send().await), "InvalidRange", "{header}");
    }
    client.put_object().bucket(&bucket).key("empty").body(ByteStream::from_static(b"")).send().await.unwrap();
    for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
        assert_eq!(code(client.get_object().bucket(&bucket).key("empty").range(header).send().await), "InvalidRange", "{header}");
    }
    let head = client.head_object().bucket(&bucket).key("o").range("bytes=10-19").send().await.unwrap();
    assert_eq!(head.content_length(), Some(10));
}

#[tokio::test]
async fn metadata_and_content_headers_round_trip() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("metadata").await);
    client
        .put_object()
        .bucket(&bucket)
        .key("o")
        .content_type("text/x-test")
        .content_language("de")
        .content_disposition("attachment; filename=\"x\"")
        .content_encoding("gzip")
        .cache_control("max-age=7")
        .metadata("plain", "value")
        .metadata("mixed", "=?UTF-8?Q?=C3=A9?=")
        .body(ByteStream::from_static(b"body"))
        .send()
        .await
        .unwrap();
    let got = client.get_object().bucket(&bucket).key("o").send().await.unwrap();
    assert_eq!(got.content_type(), Some("text/x-test"));
    assert_eq!(got.content_language(), Some("de"));
    assert_eq!(got.content_disposition(), Some("attachment; filename=\"x\""));
    assert_eq!(got.content_encoding(), Some("gzip"));
    assert_eq!(got.cache_control(), Some("max-age=7"));
    let metadata = got.metadata().unwrap();
    assert_eq!((metadata.len(), metadata["plain"].as_str(), metadata["mixed"].as_str()), (2, "value", "=?UTF-8?Q?=C3=A9?="));
    let overridden = client
        .get_object()
        .bucket(&bucket)
        .key("o")
        .response_content_type("a/b")
        .response_cache_control("no-store")
        .send()
        .await
        .unwrap();
    assert_eq!((overridden.content_type(), overridden.cache_control()), (Some("a/b"), Some("no-store")));
    let reserved =
        client.put_object().bucket(&bucket).key("o").metadata("ciphergate", "x").body(ByteStream::from_static(b"b")).send().await;
    assert_eq!(code(reserved), "InvalidArgument");
    let large = client
        .put_object()
        .bucket(&bucket)
        .key("o")
        .metadata("m", "x".repeat(1900))
        .body(ByteStream::from_static(b"b"))
        .send()
        .await;
    assert_eq!(code(large), "MetadataTooLarge");
}

#[tokio::test]
async fn conditions_are_judged_by_the_marked_etag() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("conditions").await);
    let put = |body: &'static [u8]| client.put_object().bucket(&bucket).key("o").body(ByteStream::from_static(body));
    let etag = put(b"one").if_none_match("*").send().await.unwrap().e_tag.unwrap();
    assert_eq!(code(put(b"two").if_none_match("*").send().await), "PreconditionFailed");
    assert_eq!(code(put(b"two").if_match("\"0123456789abcdef0123456789abcdef-0\"").send().await), "PreconditionFailed");
    let get = || client.get_object().bucket(&bucket).key("o");
    assert!(get().if_match(&etag).send().await.is_ok());
    assert_eq!(code(get().if_match("\"0123456789abcdef0123456789abcdef-0\"").send().await), "PreconditionFailed");
    let unchanged = get().if_none_match(&etag).send().await.unwrap_err();
    assert_eq!(unchanged.raw_response().unwrap().status().as_u16(), 304);
    let second = put(b"two").if_match(&etag).send().await.unwrap().e_tag.unwrap();
    assert_ne!(second, etag);
    assert_eq!(get().send().await.unwrap().body.collect().await.unwrap().into_bytes(), Bytes::from_static(b"two"));
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let site = Site::start().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("foreign").await);
    let plain = noise(200_000, 3);
    client.put_object().bucket(&bucket).key("a").body(plain.clone().into()).send().await.unwrap();
    let stored = behind.get_object().bucket(&bucket).key("a").send().await.unwrap();
    let envelope = stored.metadata().unwrap()["ciphergate"].clone();
    let sealed = stored.body.collect().await.unwrap().into_bytes().to_vec();
    let plant = async |key: &str, body: Vec<u8>, envelope: Option<&str>| {
        let put = behind.put_object().bucket(&bucket).key(key).body(body.into());
        let put = match envelope {
            Some(text) => put.metadata("ciphergate", text),
            None => put,
        };
        put.send().await.unwrap();
    };
    let refused = async |key: &str| {
        let outcome = client.get_object().bucket(&bucket).key(key).send().await;
        let whole = code(outcome);
        assert_eq!(whole, "IntegrityCheckFailed", "{key}");
    };

    plant("plaintext", b"not sealed".to_vec(), None).await;
    refused("plaintext").await;
    assert_eq!(
        client.head_object().bucket(&bucket).key("plaintext").send().await.unwrap_err().raw_response().unwrap().status().as_u16(),
        403
    );
    plant("copy-of-a", sealed.clone(), Some(&envelope)).await;
    refused("copy-of-a").await;
    plant("garbage", sealed.clone(), Some("AAAA")).await;
    refused("garbage").await;
    // Under its own name: a flipped bit, a shorter body that has a valid size, another body altogether.
    let mut flipped = sealed.clone();
    flipped[10] ^= 1;
    plant("a", flipped, Some(&envelope)).await;
    refused("a").await;
    let shorter = ciphergate::format::PlainLen::new(100_000).unwrap().sealed().get() as usize;
    plant("a", sealed[..shorter].to_vec(), Some(&envelope)).await;
    refused("a").await;
    plant("a", sealed[..240].to_vec(), Some(&envelope)).await;
    refused("a").await;
    plant("a", sealed[..200].to_vec(), Some(&envelope)).await;
    refused("a").await;
    // A flip in a later chunk, and one in the padding, which only whole reads look at.
    let mut late = sealed.clone();
    late[65_552 * 2 + 5] ^= 1;
    let mut padded = sealed;
    let inside_pad = 200_000 + 16 * 4 + 2;
    assert_eq!(padded[inside_pad], 0);
    padded[inside_pad] = 1;
    for damaged in [late, padded] {
        plant("a", damaged, Some(&envelope)).await;
        match client.get_object().bucket(&bucket).key("a").send().await {
            Ok(got) => assert!(got.body.collect().await.is_err(), "a broken object must not look complete"),
            Err(error) => assert_eq!(code::<(), _, _>(Err(error)), "IntegrityCheckFailed"),
        }
    }
}

#[tokio::test]
async fn damage_behind_the_first_bytes_breaks_the_transfer_instead_of_ending_it() {
    let site = Site::start().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("late").await);
    client.put_object().bucket(&bucket).key("a").body(noise(4 << 20, 3).into()).send().await.unwrap();
    let stored = behind.get_object().bucket(&bucket).key("a").send().await.unwrap();
    let envelope = stored.metadata().unwrap()["ciphergate"].clone();
    let mut sealed = stored.body.collect().await.unwrap().into_bytes().to_vec();
    sealed[65_552 * 40 + 5] ^= 1;
    let plant = behind.put_object().bucket(&bucket).key("a").metadata("ciphergate", envelope).body(sealed.into());
    plant.send().await.unwrap();
    let got = client.get_object().bucket(&bucket).key("a").send().await.unwrap();
    assert!(got.body.collect().await.is_err(), "a broken object must not look complete");
}

#[tokio::test]
async fn checksums_are_shown_when_asked_for() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("checksums").await);
    for size in [0usize, 1000, 400_000] {
        let plain = noise(size, 11);
        let expected = data_encoding::BASE64.encode(&<sha2::Sha256 as sha2::Digest>::digest(&plain));
        client.put_object().bucket(&bucket).key("o").checksum_sha256(&expected).body(plain.clone().into()).send().await.unwrap();
        let got = client.get_object().bucket(&bucket).key("o").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert_eq!(got.checksum_sha256(), Some(expected.as_str()), "size {size}");
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain);
        let head = client.head_object().bucket(&bucket).key("o").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert_eq!(head.checksum_sha256(), Some(expected.as_str()));
        assert!(client.get_object().bucket(&bucket).key("o").send().await.unwrap().checksum_sha256().is_none());
    }
    // Without one of the client's own S3 shows a CRC64NVME, and so do we.
    client.put_object().bucket(&bucket).key("o").body(ByteStream::from_static(b"abc")).send().await.unwrap();
    let got = client.get_object().bucket(&bucket).key("o").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert!(got.checksum_crc64_nvme().is_some());
}

#[tokio::test]
async fn deletes_and_listings() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("lists").await);
    let keys = ["a b+c%d", "dir/1", "dir/2", "dir/sub/3", "plain", "ü/ö", "x//y", "zz/../k"];
    for (index, key) in keys.iter().enumerate() {
        client.put_object().bucket(&bucket).key(*key).body(noise(index * 1000, 1).into()).send().await.unwrap();
    }
    let listed = client.list_objects_v2().bucket(&bucket).send().await.unwrap();
    let mut expected: Vec<&str> = keys.to_vec();
    expected.sort_unstable();
    assert_eq!(listed.contents().iter().map(|o| o.key().unwrap()).collect::<Vec<_>>(), expected);
    for object in listed.contents() {
        let index = keys.iter().position(|key| Some(*key) == object.key()).unwrap();
        assert_eq!(object.size(), Some(index as i64 * 1000));
        let head = client.head_object().bucket(&bucket).key(object.key().unwrap()).send().await.unwrap();
        assert_eq!(head.e_tag(), object.e_tag());
    }
    let encoded = client.list_objects().bucket(&bucket).encoding_type(aws_sdk_s3::types::EncodingType::Url).send().await.unwrap();
    assert_eq!(encoded.contents()[0].key(), Some("a%20b%2Bc%25d"));
    let folders = client.list_objects_v2().bucket(&bucket).delimiter("/").send().await.unwrap();
    assert_eq!(folders.common_prefixes().iter().map(|p| p.prefix().unwrap()).collect::<Vec<_>>(), ["dir/", "x/", "zz/", "ü/"]);
    let mut pages = Vec::new();
    let mut token = None;
    loop {
        let page = client.list_objects_v2().bucket(&bucket).max_keys(3).set_continuation_token(token).send().await.unwrap();
        pages.extend(page.contents().iter().map(|o| o.key().unwrap().to_owned()));
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages, expected);
    let ids = keys[..3].iter().map(|key| ObjectIdentifier::builder().key(*key).build().unwrap()).collect();
    let deleted = client
        .delete_objects()
        .bucket(&bucket)
        .delete(Delete::builder().set_objects(Some(ids)).build().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.deleted().len(), 3);
    client.delete_object().bucket(&bucket).key("plain").send().await.unwrap();
    assert_eq!(client.list_objects_v2().bucket(&bucket).send().await.unwrap().contents().len(), keys.len() - 4);
    assert_eq!(code(client.get_object().bucket(&bucket).key("plain").send().await), "NoSuchKey");
    assert_eq!(code(client.get_object().bucket("no-such-bucket").key("plain").send().await), "NoSuchBucket");
}
