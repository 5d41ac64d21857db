use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, ChecksumMode, CompletedPart, MetadataDirective, StorageClass, TaggingDirective,
    VersioningConfiguration,
};

use super::multipart::{Multi, named};
use super::wire::{Site, checking_client, code, noise};

const PART: usize = 5 * 1024 * 1024;

#[tokio::test]
async fn a_copy_shares_the_bytes() {
    let site = Site::start().await;
    site.client.create_bucket().bucket("far").send().await.unwrap();
    let content = noise(1, 700_000);
    let put = site.client.put_object().bucket("box").key("a b+ü").body(content.clone().into()).content_type("text/x-test");
    let put = put.metadata("m", "kept").tagging("t=1").storage_class(StorageClass::StandardIa);
    let etag = put.website_redirect_location("/there").send().await.unwrap().e_tag.unwrap();
    let copy = || site.client.copy_object().copy_source("box/a%20b%2B%C3%BC").bucket("far").key("copy");
    let done = copy().send().await.unwrap();
    let result = done.copy_object_result().unwrap();
    assert_eq!(result.e_tag(), Some(etag.as_str()));
    assert!(result.last_modified().is_some());
    assert_eq!(site.files(), 1, "no byte was written again");
    let object = site.client.get_object().bucket("far").key("copy").send().await.unwrap();
    assert_eq!((object.content_type(), object.tag_count()), (Some("text/x-test"), Some(1)));
    assert_eq!(object.metadata().unwrap()["m"], "kept");
    // These two are the source's own.
    assert_eq!((object.storage_class(), object.website_redirect_location()), (None, None));
    assert!(object.body.collect().await.unwrap().to_vec() == content);

    let changed = copy().metadata_directive(MetadataDirective::Replace).metadata("m", "new").content_type("a/b");
    let changed = changed.tagging_directive(TaggingDirective::Replace).tagging("x=1&y=2").storage_class(StorageClass::GlacierIr);
    changed.website_redirect_location("/here").send().await.unwrap();
    let object = site.client.head_object().bucket("far").key("copy").send().await.unwrap();
    assert_eq!((object.content_type(), object.storage_class()), (Some("a/b"), Some(&StorageClass::GlacierIr)));
    assert_eq!(object.metadata().unwrap()["m"], "new");
    assert_eq!(object.website_redirect_location(), Some("/here"));
    let tags = site.client.get_object_tagging().bucket("far").key("copy").send().await.unwrap();
    assert_eq!(tags.tag_set().len(), 2);
    // Nothing of the request's metadata counts without the directive.
    copy().metadata("m", "ignored").content_type("c/d").send().await.unwrap();
    let object = site.client.head_object().bucket("far").key("copy").send().await.unwrap();
    assert_eq!((object.content_type(), &object.metadata().unwrap()["m"][..]), (Some("text/x-test"), "kept"));

    // The bytes stay until nobody needs them.
    site.client.delete_object().bucket("box").key("a b+ü").send().await.unwrap();
    assert_eq!(site.files(), 1);
    let object = site.client.get_object().bucket("far").key("copy").send().await.unwrap();
    assert!(object.body.collect().await.unwrap().to_vec() == content);
    site.client.delete_object().bucket("far").key("copy").send().await.unwrap();
    assert_eq!(site.files(), 0);
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let site = Site::start().await;
    let etag = site.put("k", "content").await;
    let copy = || site.client.copy_object().copy_source("/box/k").bucket("box").key("k");
    assert_eq!(code(&copy().send().await.unwrap_err()), "InvalidRequest");
    let tags = copy().tagging_directive(TaggingDirective::Replace).tagging("a=1");
    assert_eq!(code(&tags.send().await.unwrap_err()), "InvalidRequest");
    copy().metadata_directive(MetadataDirective::Replace).metadata("m", "1").send().await.unwrap();
    copy().storage_class(StorageClass::StandardIa).send().await.unwrap();
    let head = site.client.head_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!((head.e_tag(), head.storage_class()), (Some(etag.as_str()), Some(&StorageClass::StandardIa)));
    assert_eq!(head.metadata().unwrap()["m"], "1");
    assert_eq!((site.get("k").await.as_slice(), site.files()), (&b"content"[..], 1));
}

#[tokio::test]
async fn conditions_of_copies() {
    let site = Site::start().await;
    let etag = site.put("k", "content").await;
    let other = "\"00000000000000000000000000000000\"";
    let (past, future) = ("Mon, 01 Jan 2001 00:00:00 GMT", "Sat, 01 Jan 2050 00:00:00 GMT");
    let upload = Multi::begin(&site, "parts").await;
    let part_path = format!("/box/parts?partNumber=1&uploadId={}", upload.id);
    let name = |condition: &str| format!("x-amz-copy-source-{condition}");
    let table: [(&[(&str, &str)], u16); 9] = [
        (&[("if-match", &etag)], 200),
        (&[("if-match", other)], 412),
        (&[("if-none-match", &etag)], 412),
        (&[("if-none-match", other)], 200),
        (&[("if-modified-since", past)], 200),
        (&[("if-modified-since", future)], 412),
        (&[("if-unmodified-since", past)], 412),
        (&[("if-match", &etag), ("if-unmodified-since", past)], 200),
        (&[("if-none-match", &etag), ("if-modified-since", past)], 412),
    ];
    for (conditions, status) in table {
        for path in ["/box/copy", part_path.as_str()] {
            let names: Vec<(String, &str)> = conditions.iter().map(|(condition, value)| (name(condition), *value)).collect();
            let mut headers: Vec<(&str, &str)> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            headers.push(("x-amz-copy-source", "box/k"));
            let answer = site.raw("PUT", path, &headers, b"").await;
            assert_eq!(answer.status, status, "{path} {conditions:?} {}", String::from_utf8_lossy(&answer.body));
            assert!(status == 200 || answer.code() == "PreconditionFailed");
        }
    }
    // On what is replaced.
    let copy = |key: &str| site.client.copy_object().copy_source("box/k").bucket("box").key(key);
    let conditions = |headers: &[(&'static str, &str)]| {
        let headers: Vec<(&'static str, String)> = headers.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let site = &site;
        async move {
            let mut all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            all.push(("x-amz-copy-source", "box/k"));
            let answer = site.raw("PUT", "/box/copy", &all, b"").await;
            (answer.status, answer.code())
        }
    };
    assert_eq!(conditions(&[("if-none-match", "*")]).await, (412, "PreconditionFailed".into()));
    assert_eq!(conditions(&[("if-match", other)]).await, (412, "PreconditionFailed".into()));
    assert_eq!(conditions(&[("if-match", &etag)]).await.0, 200);

    let error = copy("x").copy_source("box/none").send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchKey");
    let error = copy("x").copy_source("none/k").send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchBucket");
    let error = site.client.copy_object().copy_source("box/k").bucket("none").key("x").send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchBucket");
    let answer = site.raw("PUT", "/box/x", &[("x-amz-copy-source", "box/k"), ("x-amz-metadata-directive", "KEEP")], b"").await;
    assert_eq!(answer.code(), "InvalidArgument");
}

#[tokio::test]
async fn copies_of_versions() {
    let site = Site::start().await;
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    site.client.put_bucket_versioning().bucket("box").versioning_configuration(on).send().await.unwrap();
    let put = |content: &str| site.client.put_object().bucket("box").key("k").body(content.as_bytes().to_vec().into()).send();
    let first = put("first").await.unwrap().version_id.unwrap();
    put("second").await.unwrap();
    // An older version becomes the latest again.
    let copy = |source: String| site.client.copy_object().copy_source(source).bucket("box").key("k");
    let done = copy(format!("box/k?versionId={first}")).send().await.unwrap();
    assert_eq!(done.copy_source_version_id(), Some(first.as_str()));
    let newest = done.version_id().unwrap();
    assert_ne!(newest, first);
    assert_eq!((site.get("k").await.as_slice(), site.files()), (&b"first"[..], 2));
    let error = copy("box/k?versionId=00000000000000990000000000000000".into()).send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchVersion");
    let marker = site.client.delete_object().bucket("box").key("k").send().await.unwrap().version_id.unwrap();
    let error = copy("box/k".into()).metadata_directive(MetadataDirective::Replace).send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchKey");
    let error = copy(format!("box/k?versionId={marker}")).send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
}

#[tokio::test]
async fn parts_are_copied_by_range() {
    let site = Site::start().await;
    let content = noise(5, 2 * PART + 500_000);
    site.put("source", content.clone()).await;
    let upload = Multi::begin(&site, "whole").await;
    let copy = |number: i32, range: &str| {
        let copy = site.client.upload_part_copy().bucket("box").key("whole").upload_id(&upload.id).part_number(number);
        copy.copy_source("box/source").copy_source_range(range)
    };
    let mut parts = Vec::new();
    // One that goes over the end of another, out of order, and fresh bytes between them.
    for (number, from, to) in [(3, 100, PART + 99), (1, PART, 2 * PART + 499_999)] {
        let done = copy(number, &format!("bytes={from}-{to}")).send().await.unwrap();
        let result = done.copy_part_result().unwrap();
        assert!(result.last_modified().is_some());
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(result.e_tag.clone()).build());
    }
    parts.push(upload.part(2, &content[..PART]).await);
    parts.sort_by_key(CompletedPart::part_number);
    assert_eq!(site.files(), 2);
    for (range, expected) in [
        ("bytes=0-", "InvalidArgument"),
        ("bytes=5-4", "InvalidArgument"),
        ("0-4", "InvalidArgument"),
        ("bytes=0-99999999", "InvalidArgument"),
        ("bytes=99999998-99999999", "InvalidRequest"),
    ] {
        assert_eq!(code(&copy(9, range).send().await.unwrap_err()), expected, "{range}");
    }
    upload.complete(&parts).await.unwrap();
    site.client.delete_object().bucket("box").key("source").send().await.unwrap();
    let expected = [&content[PART..], &content[..PART], &content[100..PART + 100]].concat();
    assert!(site.get("whole").await == expected);

    // A part of a part: a range over several pieces of the whole.
    let nested = Multi::begin(&site, "nested").await;
    let (from, to) = (PART - 7, 2 * PART + 600_000);
    let done = site.client.upload_part_copy().bucket("box").key("nested").upload_id(&nested.id).part_number(1);
    let done = done.copy_source("box/whole").copy_source_range(format!("bytes={from}-{to}")).send().await.unwrap();
    let part = CompletedPart::builder().part_number(1).set_e_tag(done.copy_part_result.unwrap().e_tag).build();
    nested.complete(&[part]).await.unwrap();
    site.client.delete_object().bucket("box").key("whole").send().await.unwrap();
    assert!(site.get("nested").await == expected[from..=to]);
    site.client.delete_object().bucket("box").key("nested").send().await.unwrap();
    assert_eq!(site.files(), 0);

    // An empty source has no ranges, but can be a part.
    site.put("empty", "").await;
    let upload = Multi::begin(&site, "k").await;
    let copy =
        site.client.upload_part_copy().bucket("box").key("k").upload_id(&upload.id).part_number(1).copy_source("box/empty");
    let done = copy.send().await.unwrap();
    let part = CompletedPart::builder().part_number(1).set_e_tag(done.copy_part_result.unwrap().e_tag).build();
    upload.complete(&[part]).await.unwrap();
    assert!(site.get("k").await.is_empty());
}

#[tokio::test]
async fn a_copy_of_an_object_in_parts_is_one_object() {
    let site = Site::start().await;
    let content = noise(6, PART + 10);
    let upload = Multi::begin(&site, "parts").await;
    let parts = [upload.part(1, &content[..PART]).await, upload.part(2, &content[PART..]).await];
    let etag = upload.complete(&parts).await.unwrap().e_tag.unwrap();
    let done = site.client.copy_object().copy_source("box/parts").bucket("box").key("copy").send().await.unwrap();
    let copied = done.copy_object_result().unwrap().e_tag().unwrap().to_owned();
    assert!(etag.contains('-') && !copied.contains('-'));
    let answer = site.raw("GET", "/box/copy?partNumber=1", &[], b"").await;
    assert_eq!(answer.header("x-amz-mp-parts-count"), None);
    assert!(answer.body == content);
    site.client.delete_object().bucket("box").key("parts").send().await.unwrap();
    assert!(site.get("copy").await == content);
}

#[tokio::test]
async fn a_copy_is_of_five_gigabytes_at_most() {
    let site = Site::start().await;
    site.put("seed", noise(1, PART)).await;
    // Grows by copies of copies, without a byte more on the disk.
    for (key, source, count) in [("hundred", "seed", 20), ("large", "hundred", 52)] {
        let upload = Multi::begin(&site, key).await;
        let mut parts = Vec::new();
        for number in 1..=count {
            let copy = site.client.upload_part_copy().bucket("box").key(key).upload_id(&upload.id).part_number(number);
            let done = copy.copy_source(format!("box/{source}")).send().await.unwrap();
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(done.copy_part_result.unwrap().e_tag).build());
        }
        upload.complete(&parts).await.unwrap();
    }
    let size = 20 * 52 * PART as i64;
    let head = site.client.head_object().bucket("box").key("large").send().await.unwrap();
    assert_eq!((head.content_length(), site.files()), (Some(size), 1));
    let error = site.client.copy_object().copy_source("box/large").bucket("box").key("x").send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
    let upload = Multi::begin(&site, "x").await;
    let copy =
        || site.client.upload_part_copy().bucket("box").key("x").upload_id(&upload.id).part_number(1).copy_source("box/large");
    assert_eq!(code(&copy().send().await.unwrap_err()), "InvalidRequest");
    copy().copy_source_range(format!("bytes=0-{}", 5 * (1_i64 << 30) - 1)).send().await.unwrap();
    let last = site.client.get_object().bucket("box").key("large").range("bytes=-10").send().await.unwrap();
    assert_eq!(last.body.collect().await.unwrap().to_vec(), &noise(1, PART)[PART - 10..]);
}

#[tokio::test]
async fn checksums_of_copies() {
    let site = Site::start().await;
    let client = checking_client(site.running.addr());
    let content = noise(8, 600_000);
    let put =
        client.put_object().bucket("box").key("k").checksum_algorithm(ChecksumAlgorithm::Crc32).body(content.clone().into());
    let crc = put.send().await.unwrap().checksum_crc32.unwrap();
    let done = client.copy_object().copy_source("box/k").bucket("box").key("same").send().await.unwrap();
    assert_eq!(done.copy_object_result().unwrap().checksum_crc32(), Some(crc.as_str()));
    let copy = client.copy_object().copy_source("box/k").bucket("box").key("other").checksum_algorithm(ChecksumAlgorithm::Sha256);
    let sha = copy.send().await.unwrap().copy_object_result.unwrap().checksum_sha256.unwrap();
    let put =
        client.put_object().bucket("box").key("x").checksum_algorithm(ChecksumAlgorithm::Sha256).body(content.clone().into());
    assert_eq!(put.send().await.unwrap().checksum_sha256, Some(sha.clone()));
    let head = client.head_object().bucket("box").key("other").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!((head.checksum_sha256(), head.checksum_crc32()), (Some(sha.as_str()), None));

    // A part that is copied into an upload with checksums gets one.
    let create = client.create_multipart_upload().bucket("box").key("parts").checksum_algorithm(ChecksumAlgorithm::Sha256);
    let id = create.send().await.unwrap().upload_id.unwrap();
    let copy = client.upload_part_copy().bucket("box").key("parts").upload_id(&id).part_number(1).copy_source("box/k");
    let result = copy.send().await.unwrap().copy_part_result.unwrap();
    assert_eq!(result.checksum_sha256(), Some(sha.as_str()));
    let part =
        CompletedPart::builder().part_number(1).set_e_tag(result.e_tag).set_checksum_sha256(result.checksum_sha256).build();
    let complete = client.complete_multipart_upload().bucket("box").key("parts").upload_id(&id);
    complete.multipart_upload(named(&[part])).send().await.unwrap();
}
