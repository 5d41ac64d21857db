//! Copies over the embedded store, in the moments when something comes between.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::MetadataDirective;
use ciphergate::store::Effect;

use crate::kit::{Site, code, noise, wait_until};

async fn put(client: &Client, bucket: &str, key: &str, body: &[u8]) {
    client.put_object().bucket(bucket).key(key).body(body.to_vec().into()).send().await.unwrap();
}

async fn get(client: &Client, bucket: &str, key: &str) -> Vec<u8> {
    let got = client.get_object().bucket(bucket).key(key).send().await.unwrap();
    got.body.collect().await.unwrap().to_vec()
}

#[tokio::test]
async fn a_source_that_changes_under_the_copy_is_copied_as_it_is_now() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("changing").await);
    let (first, second) = (noise(100_000, 1), noise(100_000, 2));
    put(&client, &bucket, "k", &first).await;
    let slow = site.store.faults().inject("CopyObject", "copy", 1, Effect::Delay(Duration::from_secs(1)));
    let copy = client.copy_object().bucket(&bucket).key("copy").copy_source(format!("{bucket}/k")).send();
    let change = async {
        wait_until(Duration::from_secs(10), || slow.count() == 1).await;
        put(&client, &bucket, "k", &second).await;
    };
    // The envelope was made for the first body: under it the second one would be lost.
    let (copied, ()) = tokio::join!(copy, change);
    copied.unwrap();
    assert_eq!(get(&client, &bucket, "copy").await, second);
}

#[tokio::test]
async fn a_copy_onto_itself_undoes_no_write_that_came_between() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("itself").await);
    let (first, second) = (noise(100_000, 1), noise(100_000, 2));
    put(&client, &bucket, "k", &first).await;
    let slow = site.store.faults().inject("CopyObject", "k", 1, Effect::Delay(Duration::from_secs(1)));
    let copy = client.copy_object().bucket(&bucket).key("k").copy_source(format!("{bucket}/k"));
    let copy = copy.metadata_directive(MetadataDirective::Replace).metadata("n", "1").send();
    let change = async {
        wait_until(Duration::from_secs(10), || slow.count() == 1).await;
        put(&client, &bucket, "k", &second).await;
    };
    let (copied, ()) = tokio::join!(copy, change);
    copied.unwrap();
    assert_eq!(get(&client, &bucket, "k").await, second);
    let head = client.head_object().bucket(&bucket).key("k").send().await.unwrap();
    assert_eq!(head.metadata().unwrap()["n"], "1");
}

#[tokio::test]
async fn copies_and_writes_of_one_key_never_leave_it_unreadable() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("rivals").await);
    put(&client, &bucket, "k", &noise(1000, 0)).await;
    let writers = (0..4u64).map(|writer| {
        let (client, bucket) = (client.clone(), bucket.clone());
        tokio::spawn(async move {
            for round in 0..25u64 {
                if writer % 2 == 0 {
                    put(&client, &bucket, "k", &noise(1000 + round as usize, writer * 100 + round)).await;
                    continue;
                }
                let copy = client.copy_object().bucket(&bucket).key("k").copy_source(format!("{bucket}/k"));
                let copy = copy.metadata_directive(MetadataDirective::Replace).metadata("n", round.to_string());
                if let Err(refused) = copy.send().await {
                    assert_eq!(code::<(), _, _>(Err(refused)), "ServiceUnavailable");
                }
                get(&client, &bucket, "k").await;
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    get(&client, &bucket, "k").await;
}

#[tokio::test]
async fn a_copy_in_parts_whose_source_changes_leaves_no_upload_behind() {
    let site = Site::launch(|launch| launch.set("CIPHERGATE_BACKEND__COPY_BYTES_MAX", "5242880")).await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("parts").await);
    let (first, second) = (noise(11_000_000, 1), noise(11_000_000, 2));
    put(&client, &bucket, "k", &first).await;
    let slow = site.store.faults().inject("UploadPartCopy", "copy", 1, Effect::Delay(Duration::from_secs(4)));
    let copy = client.copy_object().bucket(&bucket).key("copy").copy_source(format!("{bucket}/k")).send();
    let change = async {
        wait_until(Duration::from_secs(10), || slow.count() == 1).await;
        put(&client, &bucket, "k", &second).await;
    };
    let (copied, ()) = tokio::join!(copy, change);
    copied.unwrap();
    assert_eq!(get(&client, &bucket, "copy").await, second);
    for _ in 0..100 {
        if behind.list_multipart_uploads().bucket(&bucket).send().await.unwrap().uploads().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("an upload was left behind");
}

#[tokio::test]
async fn a_large_copy_whose_source_breaks_off_leaves_nothing() {
    let site = Site::launch(|launch| launch.set("CIPHERGATE_MULTIPART__PUT_BYTES_MAX", "5242880")).await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("broken").await);
    put(&client, &bucket, "k", &noise(17_000_000, 1)).await;
    put(&client, &bucket, "copy", b"before").await;
    site.store.faults().inject("GetObject", "k", u64::MAX, Effect::CutDownload { after: 12_000_000 });
    let copy = client.copy_object().bucket(&bucket).key("copy").copy_source(format!("{bucket}/k"));
    let copy = copy.checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256).send().await;
    assert_eq!(code(copy), "ServiceUnavailable");
    site.store.faults().clear();
    assert_eq!(get(&client, &bucket, "copy").await, b"before");
    for _ in 0..100 {
        if behind.list_multipart_uploads().bucket(&bucket).send().await.unwrap().uploads().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("an upload was left behind");
}

#[tokio::test]
async fn a_copy_of_plaintext_is_encrypted_on_the_way() {
    let modes = "[buckets.\"old\"]\naccess = \"read-through\"\n[buckets.\"open\"]\naccess = \"plaintext\"\n";
    let site = Site::start_with(modes).await;
    let (client, behind) = (site.client(), site.behind());
    for bucket in ["old", "open", "sealed"] {
        behind.create_bucket().bucket(bucket).send().await.unwrap();
    }
    let stored = async |bucket: &str, key: &str| behind.head_object().bucket(bucket).key(key).send().await.unwrap();
    for (size, seed) in [(0, 1), (240, 2), (300_000, 3)] {
        let plain = noise(size, seed);
        for from in ["old", "open"] {
            let put = behind.put_object().bucket(from).key("k").body(plain.clone().into()).metadata("a", "b");
            let etag = put.content_type("text/x-test").tagging("t=1").send().await.unwrap().e_tag.unwrap();
            let copy = client.copy_object().bucket("sealed").key("copy").copy_source(format!("{from}/k"));
            let copied = copy.copy_source_if_match(etag).send().await.unwrap();
            assert_eq!(copied.server_side_encryption().unwrap().as_str(), "aws:kms");
            let head = stored("sealed", "copy").await;
            assert!(head.metadata().unwrap().contains_key("ciphergate"), "{from} {size}");
            assert_eq!(
                head.content_length().unwrap() as u64,
                ciphergate::format::PlainLen::new(size as u64).unwrap().sealed().get()
            );
            assert_eq!(get(&client, "sealed", "copy").await, plain, "{from} {size}");
            let head = client.head_object().bucket("sealed").key("copy").send().await.unwrap();
            assert_eq!((head.metadata().unwrap()["a"].as_str(), head.content_type()), ("b", Some("text/x-test")));
            let tags = client.get_object_tagging().bucket("sealed").key("copy").send().await.unwrap();
            assert_eq!(tags.tag_set()[0].key(), "t");
        }
        // Onto itself, it is encrypted where it lies.
        client.copy_object().bucket("old").key("k").copy_source("old/k").send().await.unwrap();
        assert!(stored("old", "k").await.metadata().unwrap().contains_key("ciphergate"));
        assert_eq!(get(&client, "old", "k").await, plain);
    }
    // The other way nothing is opened.
    let back = client.copy_object().bucket("open").key("back").copy_source("sealed/copy").send().await;
    assert_eq!(code(back), "NotImplemented");
    // What only lost its envelope is no plaintext.
    client.put_object().bucket("old").key("sealed").body(noise(1000, 4).into()).send().await.unwrap();
    let sealed = behind.get_object().bucket("old").key("sealed").send().await.unwrap().body.collect().await.unwrap();
    behind.put_object().bucket("old").key("stripped").body(sealed.into_bytes().into()).send().await.unwrap();
    let copy = client.copy_object().bucket("sealed").key("x").copy_source("old/stripped").send().await;
    assert_eq!(code(copy), "IntegrityCheckFailed");
}
