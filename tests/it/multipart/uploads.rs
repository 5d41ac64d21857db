//! Parts of every kind become an object that reads as any other.

use std::collections::HashSet;

use crate::kit::{code, noise};

use super::site::{LEAST, MIB, Site, Upload};

/// Numbers and lengths of parts. The first of each list is sent last.
fn lists() -> Vec<Vec<(i32, usize)>> {
    vec![
        vec![(1, 0)],
        vec![(1, 1)],
        vec![(1, LEAST)],
        vec![(7, 70_000)],
        vec![(1, LEAST), (2, 0)],
        vec![(1, LEAST), (2, LEAST + 1), (3, 3)],
        vec![(2, 6 * MIB), (5, LEAST), (9_999, LEAST + 65_536)],
        vec![(3, LEAST), (10_000, 12)],
        vec![(9_999, LEAST), (10_000, LEAST + 5)],
    ]
}

fn plain_of(list: &[(i32, usize)]) -> Vec<Vec<u8>> {
    list.iter().map(|(number, len)| noise(*len, u64::from(number.unsigned_abs()) * 1000 + *len as u64)).collect()
}

#[tokio::test]
async fn every_list_of_parts_becomes_an_object() {
    for site in Site::each("", 2).await {
        for (at, list) in lists().into_iter().enumerate() {
            let key = format!("dir/list {at}+ü");
            let upload = site.create(&key).await;
            let plain = plain_of(&list);
            let mut parts = Vec::new();
            // Any order, any instance; the first one is sent twice with other bytes before.
            for (at, (number, _)) in list.iter().enumerate().rev() {
                if at == 0 {
                    upload.part(&site.client_of(1), *number, noise(plain[0].len(), 99)).await;
                }
                parts.push(upload.part(&site.client_of(at % 2), *number, plain[at].clone()).await);
            }
            parts.reverse();
            let whole = plain.concat();
            let done = upload.complete(&site.client_of(1), &parts).mpu_object_size(whole.len() as i64).send().await;
            let done = done.unwrap_or_else(|error| panic!("{list:?}: {error:?}"));
            let etag = done.e_tag().expect("ETag").to_owned();
            assert!(etag.contains('-'), "{etag}");
            let address = format!("http://{}/{}/dir/list%20{at}%2B%C3%BC", site.gateways[1].s3, site.bucket);
            assert_eq!((done.location(), done.key()), (Some(address.as_str()), Some(key.as_str())));
            check_object(&site, &key, &whole, &etag).await;
        }
        assert_eq!(
            site.client().list_objects_v2().bucket(&site.bucket).send().await.unwrap().key_count(),
            Some(lists().len() as i32)
        );
    }
}

/// Whole, by head, by listing and by ranges around every edge; and no window of it in the store.
async fn check_object(site: &Site, key: &str, whole: &[u8], etag: &str) {
    let client = site.client();
    let got = client.get_object().bucket(&site.bucket).key(key).send().await.expect("the object");
    assert_eq!((got.content_length(), got.e_tag()), (Some(whole.len() as i64), Some(etag)));
    assert!(got.body.collect().await.expect("whole").into_bytes() == whole, "{key} differs");
    let head = client.head_object().bucket(&site.bucket).key(key).send().await.expect("the object");
    assert_eq!((head.content_length(), head.e_tag()), (Some(whole.len() as i64), Some(etag)));
    let listed = client.list_objects_v2().bucket(&site.bucket).prefix(key).send().await.expect("listing");
    assert_eq!(listed.contents()[0].size(), Some(whole.len() as i64));
    assert_eq!(listed.contents()[0].e_tag().map(|tag| tag.trim_matches('"')), Some(etag.trim_matches('"')));
    for (first, last) in
        [(0, 0), (65_535, 65_536), (LEAST - 1, LEAST), (LEAST - 2, 2 * LEAST), (whole.len().saturating_sub(2), whole.len())]
    {
        if first < whole.len() {
            let range = format!("bytes={first}-{last}");
            let got = client.get_object().bucket(&site.bucket).key(key).range(&range).send().await.expect("range");
            let bytes = got.body.collect().await.expect("range").into_bytes();
            assert!(bytes == whole[first..(last + 1).min(whole.len())], "{key} {range}");
        }
    }
    let stored = site.behind().get_object().bucket(&site.bucket).key(key).send().await.expect("stored");
    let stored = stored.body.collect().await.expect("stored").into_bytes();
    assert_eq!(stored.len() as u64, ciphergate::format::PlainLen::new(whole.len() as u64).unwrap().sealed().get());
    assert_no_window(&stored, whole, key);
}

fn assert_no_window(stored: &[u8], plain: &[u8], what: &str) {
    // Every sixteenth window of the plaintext, in any place of what is stored.
    let known: HashSet<&[u8]> = plain.chunks_exact(16).step_by(16).collect();
    assert!(!stored.windows(16).any(|window| known.contains(window)), "{what} has plaintext in the store");
}

#[tokio::test]
async fn what_waits_in_the_store_is_sealed_and_goes_with_the_upload() {
    for site in Site::each("", 1).await {
        let (client, plain) = (site.client(), noise(100_000, 5));
        let upload = site.create("k").await;
        let part = upload.part(&client, 1, plain.clone()).await;
        let staged = site.staged().await;
        assert_eq!(staged.len(), 3, "{staged:?}");
        for key in &staged {
            let bytes =
                site.behind().get_object().bucket(&site.bucket).key(key).send().await.unwrap().body.collect().await.unwrap();
            assert_no_window(&bytes.into_bytes(), &plain, key);
        }
        upload.complete(&client, &[part]).send().await.expect("complete");
        // The record stays for repeated requests.
        let staged = site.staged().await;
        assert!(staged.len() == 1 && staged[0].ends_with("/r"), "{staged:?}");

        let upload = site.create("gone").await;
        upload.part(&client, 1, plain.clone()).await;
        upload.part(&client, 2, noise(LEAST, 1)).await;
        upload.abort(&client).send().await.expect("abort");
        assert_eq!(site.staged().await.len(), 1);
        for outcome in [
            code(upload.abort(&client).send().await),
            code(upload.list(&client).send().await),
            code(
                client
                    .upload_part()
                    .bucket(&upload.bucket)
                    .key("gone")
                    .upload_id(&upload.id)
                    .part_number(1)
                    .body(plain.clone().into())
                    .send()
                    .await,
            ),
        ] {
            assert_eq!(outcome, "NoSuchUpload");
        }
        assert_eq!(code(client.get_object().bucket(&site.bucket).key("gone").send().await), "NoSuchKey");
    }
}

/// Another instance's memory of the upload does not let parts of an aborted one pile up.
#[tokio::test]
async fn a_part_for_an_aborted_upload_leaves_nothing() {
    for site in Site::each("", 2).await {
        let upload = site.create("k").await;
        upload.part(&site.client_of(1), 1, noise(10, 1)).await;
        upload.abort(&site.client_of(0)).send().await.expect("abort");
        for bytes in [noise(10, 1), noise(LEAST, 1)] {
            let sent = site.client_of(1).upload_part().bucket(&site.bucket).key("k").upload_id(&upload.id).part_number(2);
            assert_eq!(code(sent.body(bytes.into()).send().await), "NoSuchUpload");
        }
        assert_eq!(site.staged().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn instances_may_die_between_any_two_requests() {
    for mut site in Site::each("", 2).await {
        let upload = site.create("k").await;
        let plain = [noise(LEAST, 1), noise(LEAST, 2), noise(77, 3)];
        let mut parts = Vec::new();
        for (at, bytes) in plain.iter().enumerate() {
            parts.push(upload.part(&site.client_of(at % 2), at as i32 + 1, bytes.clone()).await);
            site.replace(at % 2);
        }
        upload.complete(&site.client_of(0), &parts).send().await.expect("complete");
        site.replace(0);
        let again = upload.complete(&site.client_of(0), &parts).send().await.expect("again");
        assert_eq!(site.client().head_object().bucket(&site.bucket).key("k").send().await.unwrap().e_tag(), again.e_tag());
        assert!(site.get("k").await == plain.concat());
    }
}

#[tokio::test]
async fn lists_show_plaintext_sizes_page_by_page() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let upload = site.create("dir/k").await;
        upload.part(&client, 5, noise(LEAST + 9, 1)).await;
        upload.part(&client, 1, noise(LEAST, 2)).await;
        upload.part(&client, 7, noise(12, 3)).await;
        upload.part(&client, 3, noise(LEAST, 4)).await;
        upload.part(&client, 7, noise(13, 3)).await;
        let mut seen = Vec::new();
        let mut marker = None;
        loop {
            let page = upload.list(&client).max_parts(2).set_part_number_marker(marker.clone()).send().await.expect("page");
            assert!(page.parts().len() <= 2);
            seen.extend(page.parts().iter().map(|part| (part.part_number().unwrap(), part.size().unwrap())));
            marker = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) {
                break;
            }
        }
        let last = seen.pop().unwrap();
        assert_eq!(seen, [(1, LEAST as i64), (3, LEAST as i64), (5, LEAST as i64 + 9)]);
        // Times have whole seconds: which of two attempts within one is the newer one cannot be told.
        assert!(last == (7, 12) || last == (7, 13), "{last:?}");

        let other = site.create("other").await;
        let listed = client.list_multipart_uploads().bucket(&site.bucket).send().await.expect("uploads");
        let mut found: Vec<_> =
            listed.uploads().iter().map(|upload| (upload.key().unwrap(), upload.upload_id().unwrap())).collect();
        found.sort_unstable();
        assert_eq!(found, [("dir/k", upload.id.as_str()), ("other", other.id.as_str())]);
        let listed = client.list_multipart_uploads().bucket(&site.bucket).delimiter("/").send().await.expect("uploads");
        assert_eq!(listed.common_prefixes()[0].prefix(), Some("dir/"));
        assert_eq!(listed.uploads().len(), 1);
    }
}

#[tokio::test]
async fn headers_of_the_creation_are_those_of_the_object() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let created = client
            .create_multipart_upload()
            .bucket(&site.bucket)
            .key("k")
            .content_type("text/x-test")
            .cache_control("no-cache")
            .metadata("colour", "red")
            .send()
            .await
            .expect("upload");
        assert_eq!(created.server_side_encryption().map(|sse| sse.as_str()), Some("aws:kms"));
        let upload = Upload { bucket: site.bucket.clone(), key: "k".into(), id: created.upload_id().unwrap().into() };
        let part = upload.part(&client, 1, noise(10, 1)).await;
        upload.complete(&client, &[part]).send().await.expect("complete");
        let head = client.head_object().bucket(&site.bucket).key("k").send().await.expect("head");
        assert_eq!((head.content_type(), head.cache_control()), (Some("text/x-test"), Some("no-cache")));
        let metadata = head.metadata().unwrap();
        assert_eq!(metadata.len(), 1);
        assert_eq!(metadata["colour"], "red");
    }
}

#[tokio::test]
async fn parts_are_copied_from_objects_and_ranges_of_them() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let single = noise(6 * MIB, 1);
        client.put_object().bucket(&site.bucket).key("single ü").body(single.clone().into()).send().await.expect("put");
        let upload = site.create("in parts").await;
        let source = [noise(LEAST, 2), noise(LEAST, 3), noise(1000, 4)];
        let mut parts = Vec::new();
        for (at, bytes) in source.iter().enumerate() {
            parts.push(upload.part(&client, at as i32 + 1, bytes.clone()).await);
        }
        upload.complete(&client, &parts).send().await.expect("complete");
        let in_parts = source.concat();

        let upload = site.create("copy").await;
        let copy = async |number: i32, source: &str, range: Option<&str>| {
            let sent = client
                .upload_part_copy()
                .bucket(&site.bucket)
                .key("copy")
                .upload_id(&upload.id)
                .part_number(number)
                .copy_source(format!("{}/{source}", site.bucket))
                .set_copy_source_range(range.map(str::to_owned));
            sent.send().await
        };
        let line = |number, sent: aws_sdk_s3::operation::upload_part_copy::UploadPartCopyOutput| {
            let etag = sent.copy_part_result().unwrap().e_tag().unwrap().to_owned();
            aws_sdk_s3::types::CompletedPart::builder().part_number(number).e_tag(etag).build()
        };
        let middle = (LEAST / 2, LEAST / 2 + LEAST + 5);
        let range = format!("bytes={}-{}", middle.0, middle.1 - 1);
        let parts = [
            line(1, copy(1, "single%20%C3%BC", None).await.expect("whole")),
            line(2, copy(2, "in%20parts", Some(&range)).await.expect("range")),
            line(3, copy(3, "in%20parts", Some("bytes=7-7")).await.expect("byte")),
        ];
        for wrong in ["bytes=5-", "bytes=0-99999999999", "bytes=99999999998-99999999999"] {
            let refused = code(copy(4, "in%20parts", Some(wrong)).await);
            assert!(refused == "InvalidArgument" || refused == "InvalidRange", "{wrong}: {refused}");
        }
        assert_eq!(code(copy(4, "nothing", None).await), "NoSuchKey");
        upload.complete(&client, &parts).send().await.expect("complete");
        let whole = [&single[..], &in_parts[middle.0..middle.1], &in_parts[7..8]].concat();
        assert!(site.get("copy").await == whole);
    }
}

#[tokio::test]
async fn copied_parts_may_cross_parts_and_the_last_may_be_empty() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let source = [noise(LEAST, 2), noise(LEAST, 3), noise(1000, 4)];
        let upload = site.create("in parts").await;
        let mut parts = Vec::new();
        for (at, bytes) in source.iter().enumerate() {
            parts.push(upload.part(&client, at as i32 + 1, bytes.clone()).await);
        }
        upload.complete(&client, &parts).send().await.expect("complete");
        client.put_object().bucket(&site.bucket).key("empty").body(Vec::new().into()).send().await.expect("put");
        let whole = source.concat();
        let spans = [(LEAST - 3, 2 * LEAST + 9), (LEAST - 1, 2 * LEAST), (0, whole.len() - 1)];
        for last in ["empty", "in parts"] {
            let upload = site.create(&format!("copy {last}")).await;
            let copy = async |number: i32, source: &str, range: Option<String>| {
                let copy = client.upload_part_copy().bucket(&site.bucket).key(&upload.key).upload_id(&upload.id);
                let copy = copy.part_number(number).copy_source(format!("{}/{}", site.bucket, source.replace(' ', "%20")));
                let sent = copy.set_copy_source_range(range).send().await.unwrap_or_else(|error| panic!("{number}: {error:?}"));
                let etag = sent.copy_part_result().unwrap().e_tag().unwrap().to_owned();
                aws_sdk_s3::types::CompletedPart::builder().part_number(number).e_tag(etag).build()
            };
            let mut parts = Vec::new();
            for (at, (first, end)) in spans.iter().enumerate() {
                parts.push(copy(at as i32 + 1, "in parts", Some(format!("bytes={first}-{end}"))).await);
            }
            parts.push(copy(10_000, last, None).await);
            upload.complete(&client, &parts).send().await.expect("complete");
            let mut expected: Vec<u8> = spans.iter().flat_map(|(first, end)| &whole[*first..=*end]).copied().collect();
            if last == "in parts" {
                expected.extend_from_slice(&whole);
            }
            assert!(site.get(&upload.key).await == expected, "{last}");
        }
    }
}
