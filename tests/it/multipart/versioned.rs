//! The state of uploads in buckets that keep versions: nobody sees it, and it goes with everything that it was.

use aws_sdk_s3::types::{BucketVersioningStatus, Delete, ObjectIdentifier, VersioningConfiguration};

use crate::kit::{code, noise};

use super::site::{LEAST, Site, Upload, unique};

const STATE: &str = ".ciphergate/";

async fn set_versioning(site: &Site, bucket: &str, status: BucketVersioningStatus) {
    let status = VersioningConfiguration::builder().status(status).build();
    site.behind().put_bucket_versioning().bucket(bucket).versioning_configuration(status).send().await.expect("versioning");
}

/// Removes everything that a client sees, version by version.
async fn empty(site: &Site) {
    let (client, bucket) = (site.client(), site.bucket.as_str());
    let seen = client.list_object_versions().bucket(bucket).send().await.expect("versions");
    let versions = seen.versions().iter().map(|version| (version.key(), version.version_id()));
    let markers = seen.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
    let lines = versions.chain(markers).map(|(key, id)| {
        ObjectIdentifier::builder().key(key.expect("key")).version_id(id.expect("version")).build().expect("line")
    });
    let lines = Delete::builder().set_objects(Some(lines.collect())).build().expect("lines");
    let done = client.delete_objects().bucket(bucket).delete(lines).send().await.expect("deleted");
    assert!(done.errors().is_empty(), "{:?}", done.errors());
}

/// A part that waits, sent twice and then replaced by one that does not, and a last one that waits.
async fn restless(site: &Site, key: &str) -> (Upload, Vec<aws_sdk_s3::types::CompletedPart>) {
    let client = site.client();
    let upload = site.create(key).await;
    upload.part(&client, 1, noise(10, 1)).await;
    upload.part(&client, 1, noise(11, 2)).await;
    let parts = vec![upload.part(&client, 1, noise(LEAST, 3)).await, upload.part(&client, 2, noise(12, 4)).await];
    (upload, parts)
}

#[tokio::test]
async fn nothing_of_an_ended_upload_stays_in_a_bucket_with_versions() {
    for status in [BucketVersioningStatus::Enabled, BucketVersioningStatus::Suspended] {
        for site in Site::each("", 1).await {
            let (client, bucket) = (site.client(), site.bucket.as_str());
            set_versioning(&site, bucket, status.clone()).await;
            let (aborted, _) = restless(&site, "aborted").await;
            aborted.abort(&client).send().await.expect("abort");
            assert_eq!(site.stored_versions(bucket, STATE).await, Vec::<String>::new(), "{status}");

            let (completed, parts) = restless(&site, "completed").await;
            completed.complete(&client, &parts).send().await.expect("complete");
            let left = site.stored_versions(bucket, STATE).await;
            assert!(left.len() == 1 && left[0].ends_with("/r"), "{left:?}");

            // As instances leave it that die: with nothing but a delete marker and what it hides, and in the middle.
            let (broken, _) = restless(&site, "broken").await;
            for key in site.staged().await.iter().filter(|key| !left.contains(key)) {
                site.behind().delete_object().bucket(bucket).key(key).send().await.expect("deleted");
            }
            let behind = site.behind();
            broken.abort(&behind).send().await.expect("aborted behind the gateway's back");
            let (active, parts) = restless(&site, "active").await;
            let (torn, _) = restless(&site, "torn").await;
            torn.abort(&behind).send().await.expect("aborted behind the gateway's back");

            let (exit, told) = site.run("gc", &["--bucket", bucket, "--older-than-secs", "0", "--json"]);
            assert_eq!(exit, Some(0), "{told}");
            let told: serde_json::Value = serde_json::from_str(&told).expect("a JSON document");
            assert_eq!((told["removed"].as_array().unwrap().len(), told["active"].as_u64()), (3, Some(1)), "{told}");
            active.complete(&client, &parts).send().await.expect("the active upload has come to no harm");
            assert!(site.get("active").await == [noise(LEAST, 3), noise(12, 4)].concat());
            let (exit, told) = site.run("gc", &["--bucket", bucket, "--older-than-secs", "0"]);
            assert_eq!(exit, Some(0), "{told}");
            assert_eq!(site.stored_versions(bucket, STATE).await, Vec::<String>::new(), "{status}");
        }
    }
}

#[tokio::test]
async fn a_bucket_with_versions_of_nothing_but_state_can_be_removed() {
    for site in Site::each("", 1).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        set_versioning(&site, bucket, BucketVersioningStatus::Enabled).await;
        let (upload, parts) = restless(&site, "k").await;
        upload.complete(&client, &parts).send().await.expect("complete");
        let (torn, _) = restless(&site, "torn").await;
        torn.abort(&site.behind()).send().await.expect("aborted behind the gateway's back");
        // A version that is hidden by a delete marker is something, and so is the marker.
        client.delete_object().bucket(bucket).key("k").send().await.expect("deleted");
        let before = site.stored_versions(bucket, STATE).await;
        assert_eq!(code(client.delete_bucket().bucket(bucket).send().await), "BucketNotEmpty");
        assert_eq!(site.stored_versions(bucket, STATE).await, before);
        empty(&site).await;
        client.delete_bucket().bucket(bucket).send().await.expect("the bucket is empty for its owner");
    }
}

#[tokio::test]
async fn nothing_stays_in_a_state_bucket_with_versions() {
    let state = unique("state");
    for site in Site::each(&format!("multipart.state_bucket = \"{state}\""), 1).await {
        let client = site.client();
        site.behind().create_bucket().bucket(&state).send().await.expect("state bucket");
        set_versioning(&site, &state, BucketVersioningStatus::Enabled).await;
        let (upload, parts) = restless(&site, "k").await;
        upload.complete(&client, &parts).send().await.expect("complete");
        let (torn, _) = restless(&site, "torn").await;
        torn.abort(&site.behind()).send().await.expect("aborted behind the gateway's back");
        let (exit, told) = site.run("gc", &["--older-than-secs", "0"]);
        assert_eq!(exit, Some(0), "{told}");
        assert_eq!(site.stored_versions(&state, "").await, Vec::<String>::new());
    }
}

/// Keys and ids of a page, versions first.
fn names(page: &aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput) -> Vec<(String, String)> {
    let versions = page.versions().iter().map(|version| (version.key(), version.version_id()));
    let markers = page.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
    versions.chain(markers).map(|(key, id)| (key.expect("key").to_owned(), id.expect("version").to_owned())).collect()
}

#[tokio::test]
async fn listings_of_versions_leave_the_state_out_and_keep_their_pages_full() {
    for site in Site::each("", 1).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        set_versioning(&site, bucket, BucketVersioningStatus::Enabled).await;
        // Before and behind the hidden names, and with names near theirs.
        for key in ["-first", ".ciphergate", ".ciphergate0", ".d", "dir/1", "dir/2", "z"] {
            for seed in [1, 2] {
                client.put_object().bucket(bucket).key(key).body(noise(3, seed).into()).send().await.expect("put");
            }
        }
        for key in ["-first", ".ciphergate0", "dir/2"] {
            client.delete_object().bucket(bucket).key(key).send().await.expect("deleted");
        }
        for at in 0..3 {
            restless(&site, &format!("upload {at}")).await;
        }
        let gone = &site.staged().await[4];
        site.behind().delete_object().bucket(bucket).key(gone).send().await.expect("deleted");
        let everything = site.behind().list_object_versions().bucket(bucket).send().await.expect("versions");
        let (hidden, mut shown): (Vec<_>, Vec<_>) = names(&everything).into_iter().partition(|(key, _)| key.starts_with(STATE));
        shown.sort();
        assert_eq!((shown.len(), hidden.len()), (17, 25), "{hidden:?}");
        for max_keys in [1, 2, 3, 4, 7, 20, 1000] {
            let (mut found, mut marker) = (Vec::new(), (None, None));
            loop {
                let page = client.list_object_versions().bucket(bucket).max_keys(max_keys);
                let page = page.set_key_marker(marker.0).set_version_id_marker(marker.1).send().await.expect("page");
                let names = names(&page);
                found.extend(names.clone());
                if page.is_truncated() != Some(true) {
                    break;
                }
                assert_eq!(names.len(), max_keys as usize, "a page that goes on is full");
                marker = (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
                assert!(marker.0.as_ref().is_some_and(|key| !key.starts_with(STATE)), "{marker:?}");
            }
            found.sort();
            assert_eq!(found, shown, "{max_keys}");
        }
        let page = client.list_object_versions().bucket(bucket).delimiter("/").send().await.expect("page");
        let prefixes: Vec<_> = page.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).collect();
        assert_eq!(prefixes, ["dir/"]);
        let page = client.list_object_versions().bucket(bucket).prefix(STATE).send().await.expect("page");
        assert_eq!((names(&page), page.is_truncated()), (Vec::new(), Some(false)));
        let page = client.list_object_versions().bucket(bucket).prefix(STATE).max_keys(1).send().await.expect("page");
        assert_eq!((names(&page), page.is_truncated()), (Vec::new(), Some(false)));
    }
}
