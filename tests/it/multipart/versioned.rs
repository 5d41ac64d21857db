//! The state of uploads in buckets that keep versions: nobody sees it.

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use crate::kit::noise;

use super::site::{LEAST, Site, Upload};

const STATE: &str = ".ciphergate/";

async fn set_versioning(site: &Site, bucket: &str, status: BucketVersioningStatus) {
    let status = VersioningConfiguration::builder().status(status).build();
    site.behind().put_bucket_versioning().bucket(bucket).versioning_configuration(status).send().await.expect("versioning");
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
        assert_eq!((shown.len(), hidden.len()), (17, 13), "{hidden:?}");
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
