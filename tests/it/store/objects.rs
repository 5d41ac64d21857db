use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, Delete, ObjectIdentifier, StorageClass};

use super::wire::{Site, checking_client, code, noise};

#[tokio::test]
async fn bodies_of_every_size_come_back() {
    let site = Site::start().await;
    for len in [0, 1, 4096, 65_536, 262_143, 262_144, 262_145, 1_000_000, 5 * 1024 * 1024 + 3] {
        let content = noise(len as u64, len);
        let etag = site.put("dir/a key+ü", content.clone()).await;
        assert_eq!(etag, format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(&content)));
        let object = site.client.get_object().bucket("box").key("dir/a key+ü").send().await.unwrap();
        assert_eq!(object.content_length(), Some(len as i64));
        assert_eq!(object.e_tag(), Some(etag.as_str()));
        assert_eq!(object.accept_ranges(), Some("bytes"));
        assert!(object.body.collect().await.unwrap().to_vec() == content, "{len}");
        let head = site.client.head_object().bucket("box").key("dir/a key+ü").send().await.unwrap();
        assert_eq!((head.content_length(), head.e_tag()), (Some(len as i64), Some(etag.as_str())));
        // The replaced body is gone.
        assert_eq!(site.files(), 1);
    }
    for missing in ["dir/a key ü", "dir"] {
        let error = site.client.get_object().bucket("box").key(missing).send().await.unwrap_err();
        assert_eq!(code(&error), "NoSuchKey");
    }
    let error = site.client.put_object().bucket("none").key("k").body(b"x".to_vec().into()).send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchBucket");
    let error = site.client.put_object().bucket("none").key("k").body(noise(1, 600_000).into()).send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchBucket");
    assert_eq!(site.files(), 1);
}

#[tokio::test]
async fn headers_come_back() {
    let site = Site::start().await;
    let put = site.client.put_object().bucket("box").key("k").body(b"content".to_vec().into());
    put.content_type("text/x-test; charset=utf-8")
        .cache_control("max-age=7")
        .content_disposition("attachment; filename=\"a\"")
        .content_encoding("gzip")
        .content_language("de")
        .expires(DateTime::from_secs(2_000_000_000))
        .website_redirect_location("/elsewhere")
        .storage_class(StorageClass::StandardIa)
        .tagging("a=1&b=2")
        .metadata("plain", "a  b")
        .metadata("ciphergate", "AQID")
        .send()
        .await
        .unwrap();
    let object = site.client.get_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!(object.content_type(), Some("text/x-test; charset=utf-8"));
    assert_eq!(object.cache_control(), Some("max-age=7"));
    assert_eq!(object.content_disposition(), Some("attachment; filename=\"a\""));
    assert_eq!(object.content_encoding(), Some("gzip"));
    assert_eq!(object.content_language(), Some("de"));
    assert_eq!(object.expires_string(), Some("Wed, 18 May 2033 03:33:20 GMT"));
    assert_eq!(object.website_redirect_location(), Some("/elsewhere"));
    assert_eq!(object.storage_class(), Some(&StorageClass::StandardIa));
    assert_eq!(object.tag_count(), Some(2));
    assert_eq!(object.metadata().unwrap()["plain"], "a  b");
    assert_eq!(object.metadata().unwrap()["ciphergate"], "AQID");
    let age = SystemTime::now().duration_since((*object.last_modified().unwrap()).try_into().unwrap()).unwrap();
    assert!(age < Duration::from_secs(60));
    let head = site.client.head_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!(head.metadata(), object.metadata());
    assert_eq!(head.storage_class(), object.storage_class());

    let get = site.client.get_object().bucket("box").key("k");
    let object = get
        .response_content_type("a/b")
        .response_cache_control("no-store")
        .response_content_disposition("inline")
        .response_content_encoding("br")
        .response_content_language("fr")
        .response_expires(DateTime::from_secs(0))
        .send()
        .await
        .unwrap();
    assert_eq!(object.content_type(), Some("a/b"));
    assert_eq!(object.cache_control(), Some("no-store"));
    assert_eq!(object.content_disposition(), Some("inline"));
    assert_eq!(object.content_encoding(), Some("br"));
    assert_eq!(object.content_language(), Some("fr"));
    assert_eq!(object.expires_string(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));

    // A plain upload replaces all of that.
    assert_eq!(site.raw("PUT", "/box/k", &[], b"x").await.status, 200);
    let object = site.client.get_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!(object.content_type(), Some("binary/octet-stream"));
    assert_eq!((object.storage_class(), object.tag_count(), object.cache_control()), (None, None, None));
    assert!(object.metadata().is_none_or(|metadata| metadata.is_empty()));
}

#[tokio::test]
async fn metadata_is_kept_byte_for_byte() {
    let site = Site::start().await;
    let encoded = "=?UTF-8?Q?gr=C3=BCn?=";
    let headers = [("x-amz-meta-utf8", "grün"), ("x-amz-meta-encoded", encoded), ("content-encoding", "aws-chunked, gzip")];
    let answer = site.raw("PUT", "/box/k", &headers, b"x").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for method in ["GET", "HEAD"] {
        let answer = site.raw(method, "/box/k", &[], b"").await;
        assert_eq!(answer.header("x-amz-meta-utf8"), Some("grün".as_bytes()));
        assert_eq!(answer.header("x-amz-meta-encoded"), Some(encoded.as_bytes()));
        assert_eq!(answer.header("content-encoding"), Some(&b"gzip"[..]));
        assert_eq!(answer.header("x-amz-request-id").map(<[u8]>::len), Some(16));
    }

    let fits = "x".repeat(2048 - "name".len());
    assert_eq!(site.raw("PUT", "/box/fits", &[("x-amz-meta-name", &fits)], b"x").await.status, 200);
    let answer = site.raw("PUT", "/box/large", &[("x-amz-meta-names", &fits)], b"x").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "MetadataTooLarge"));
    assert_eq!(site.keys().await, ["fits", "k"]);
}

#[tokio::test]
async fn ranges() {
    let site = Site::start().await;
    const LEN: usize = 700_001;
    let content = noise(7, LEN);
    let etag = site.put("k", content.clone()).await;
    site.put("empty", "").await;
    let last = LEN - 1;
    let table = [
        ("bytes=0-0", Some((0, 0))),
        ("bytes=0-262143", Some((0, 262_143))),
        ("bytes=262143-262144", Some((262_143, 262_144))),
        ("bytes=5-", Some((5, last))),
        ("bytes=-1", Some((last, last))),
        ("bytes=-300000", Some((LEN - 300_000, last))),
        ("bytes=-9999999", Some((0, last))),
        ("bytes=700000-800000", Some((last, last))),
        ("bytes=700001-", None),
        ("bytes=700001-700002", None),
        ("bytes=-0", None),
    ];
    for (range, expected) in table {
        for method in ["GET", "HEAD"] {
            let answer = site.raw(method, "/box/k", &[("range", range)], b"").await;
            let Some((from, to)) = expected else {
                assert_eq!(answer.status, 416, "{range}");
                assert_eq!(answer.header("content-range"), Some(format!("bytes */{LEN}").as_bytes()));
                assert_eq!(answer.code(), if method == "GET" { "InvalidRange" } else { "none" });
                continue;
            };
            assert_eq!(answer.status, 206, "{method} {range}");
            assert_eq!(answer.header("content-range"), Some(format!("bytes {from}-{to}/{LEN}").as_bytes()));
            assert_eq!(answer.header("content-length"), Some((to + 1 - from).to_string().as_bytes()));
            assert_eq!(answer.header("etag"), Some(etag.as_bytes()));
            let body = if method == "GET" { &content[from..=to] } else { b"" };
            assert!(answer.body == body, "{method} {range}");
        }
    }
    // What S3 cannot use, it ignores.
    for range in ["bytes=0-1,5-6", "bytes=9-8", "bytes=x", "lines=1-2"] {
        let answer = site.raw("GET", "/box/k", &[("range", range)], b"").await;
        assert_eq!((answer.status, answer.header("content-range")), (200, None), "{range}");
        assert!(answer.body == content);
        let answer = site.raw("HEAD", "/box/k?response-content-type=a%2Fb", &[("range", range)], b"").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), Some(LEN.to_string().as_bytes()));
        assert_eq!(answer.header("content-type"), Some(&b"a/b"[..]));
    }
    let answer = site.raw("GET", "/box/none", &[("range", "bytes=x")], b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "NoSuchKey"));
    for range in ["bytes=0-", "bytes=-5"] {
        assert_eq!(site.raw("GET", "/box/empty", &[("range", range)], b"").await.status, 416);
    }
}

#[tokio::test]
async fn conditional_reads() {
    let site = Site::start().await;
    let etag = site.put("k", "x").await;
    let bare = etag.trim_matches('"').to_owned();
    let past = "Mon, 01 Jan 2001 00:00:00 GMT";
    let future = "Sat, 01 Jan 2050 00:00:00 GMT";
    let other = "\"00000000000000000000000000000000\"";
    let table: [(&[(&str, &str)], u16); 14] = [
        (&[("if-match", &etag)], 200),
        (&[("if-match", &bare)], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", other)], 412),
        (&[("if-none-match", &etag)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", other)], 200),
        (&[("if-modified-since", past)], 200),
        (&[("if-modified-since", future)], 304),
        (&[("if-unmodified-since", past)], 412),
        (&[("if-unmodified-since", future)], 200),
        // A tag goes before a date.
        (&[("if-match", &etag), ("if-unmodified-since", past)], 200),
        (&[("if-none-match", other), ("if-modified-since", future)], 200),
        (&[("if-none-match", &etag), ("if-modified-since", past)], 304),
    ];
    for (headers, status) in table {
        for method in ["GET", "HEAD"] {
            let answer = site.raw(method, "/box/k", headers, b"").await;
            assert_eq!(answer.status, status, "{method} {headers:?}");
            if status == 304 {
                assert_eq!(answer.header("etag"), Some(etag.as_bytes()));
                assert!(answer.header("last-modified").is_some() && answer.body.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn conditional_writes_and_deletes() {
    let site = Site::start().await;
    let put = |key: &str, content: &str| site.client.put_object().bucket("box").key(key).body(content.as_bytes().to_vec().into());
    let first = put("k", "1").if_none_match("*").send().await.unwrap().e_tag.unwrap();
    assert_eq!(code(&put("k", "2").if_none_match("*").send().await.unwrap_err()), "PreconditionFailed");
    assert_eq!(code(&put("gone", "2").if_match("*").send().await.unwrap_err()), "NoSuchKey");
    let second = put("k", "2").if_match(&first).send().await.unwrap().e_tag.unwrap();
    assert_eq!(code(&put("k", "3").if_match(&first).send().await.unwrap_err()), "PreconditionFailed");
    assert_eq!(site.get("k").await, b"2");
    assert_eq!(site.files(), 1);

    let delete = || site.client.delete_object().bucket("box").key("k");
    assert_eq!(code(&delete().if_match(&first).send().await.unwrap_err()), "PreconditionFailed");
    delete().if_match(&second).send().await.unwrap();
    delete().send().await.unwrap();
    assert_eq!(site.files(), 0);
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let site = Site::start().await;
    for key in ["a", "b&<c>", "d ü", "kept"] {
        site.put(key, key).await;
    }
    let kept = ObjectIdentifier::builder().key("kept").e_tag("\"0123\"").build().unwrap();
    let keys = ["a", "b&<c>", "d ü", "never was"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(keys.into_iter().chain([kept]).collect())).build().unwrap();
    let done = site.client.delete_objects().bucket("box").delete(delete).send().await.unwrap();
    assert_eq!(done.deleted().len(), 4);
    assert_eq!(done.errors().len(), 1);
    assert_eq!((done.errors()[0].key(), done.errors()[0].code()), (Some("kept"), Some("PreconditionFailed")));
    assert_eq!(site.keys().await, ["kept"]);
    assert_eq!(site.files(), 1);

    let objects = vec![ObjectIdentifier::builder().key("kept").build().unwrap()];
    let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().unwrap();
    let done = site.client.delete_objects().bucket("box").delete(delete).send().await.unwrap();
    assert!(done.deleted().is_empty() && done.errors().is_empty());
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn checksums_are_verified_kept_and_answered() {
    let site = Site::start().await;
    let content = noise(3, 300_000);
    let file = site.folder.path().join("content");
    std::fs::write(&file, &content).unwrap();
    let client = checking_client(site.running.addr());
    for (algorithm, streamed) in [
        (ChecksumAlgorithm::Crc32, false),
        (ChecksumAlgorithm::Crc32, true),
        (ChecksumAlgorithm::Crc32C, false),
        (ChecksumAlgorithm::Crc64Nvme, true),
        (ChecksumAlgorithm::Sha1, true),
        (ChecksumAlgorithm::Sha256, false),
    ] {
        let body = if streamed { ByteStream::from_path(&file).await.unwrap() } else { content.clone().into() };
        let put = client.put_object().bucket("box").key("k").checksum_algorithm(algorithm.clone()).body(body);
        let done = put.send().await.unwrap();
        let header = format!("x-amz-checksum-{}", algorithm.as_str().to_ascii_lowercase());
        let answered = [
            done.checksum_crc32(),
            done.checksum_crc32_c(),
            done.checksum_crc64_nvme(),
            done.checksum_sha1(),
            done.checksum_sha256(),
        ];
        let answered: Vec<&str> = answered.into_iter().flatten().collect();
        assert_eq!(answered.len(), 1, "{algorithm:?}");
        for method in ["GET", "HEAD"] {
            let answer = site.raw(method, "/box/k", &[("x-amz-checksum-mode", "ENABLED")], b"").await;
            assert_eq!(answer.header(&header), Some(answered[0].as_bytes()));
            assert_eq!(answer.header("x-amz-checksum-type"), Some(&b"FULL_OBJECT"[..]));
            assert_eq!(answer.header("content-encoding"), None);
            assert!(method == "HEAD" || answer.body == content);
            assert_eq!(site.raw(method, "/box/k", &[], b"").await.header(&header), None);
        }
        let ranged = [("x-amz-checksum-mode", "ENABLED"), ("range", "bytes=0-9")];
        assert_eq!(site.raw("GET", "/box/k", &ranged, b"").await.header(&header), None);
    }

    let refused: [(&[(&str, &str)], &str); 5] = [
        (&[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], "BadDigest"),
        (&[("content-md5", "nonsense")], "InvalidDigest"),
        (&[("x-amz-checksum-crc32", "AAAAAA==")], "BadDigest"),
        (&[("x-amz-checksum-crc32", "AAAA")], "InvalidRequest"),
        (&[("x-amz-sdk-checksum-algorithm", "CRC32")], "InvalidRequest"),
    ];
    for (headers, expected) in refused {
        let answer = site.raw("PUT", "/box/bad", headers, b"hello").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, expected), "{headers:?}");
    }
    let good = [("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="), ("x-amz-checksum-crc32", "NhCmhg==")];
    assert_eq!(site.raw("PUT", "/box/good", &good, b"hello").await.status, 200);
    assert_eq!(site.keys().await, ["good", "k"]);
    assert_eq!(site.files(), 2);
}
