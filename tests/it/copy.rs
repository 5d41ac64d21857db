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
    let slow = site.store.faults().inject("UploadPartCopy", "copy", 1, Effect::Delay(Duration::from_secs(1)));
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
