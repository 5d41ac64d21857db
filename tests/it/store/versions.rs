use aws_sdk_s3::types::{BucketVersioningStatus, Delete, ObjectIdentifier, VersioningConfiguration};

use super::multipart::{Multi, named};
use super::wire::{Site, code};

pub async fn set_versions(site: &Site, bucket: &str, status: BucketVersioningStatus) {
    let configuration = VersioningConfiguration::builder().status(status).build();
    site.client.put_bucket_versioning().bucket(bucket).versioning_configuration(configuration).send().await.unwrap();
}

async fn put(site: &Site, key: &str, content: &str) -> Option<String> {
    let put = site.client.put_object().bucket("box").key(key).body(content.as_bytes().to_vec().into());
    put.send().await.unwrap().version_id
}

async fn get(site: &Site, key: &str, version: &str) -> Result<String, String> {
    let object =
        site.client.get_object().bucket("box").key(key).version_id(version).send().await.map_err(|error| code(&error))?;
    assert_eq!(object.version_id(), Some(version));
    Ok(String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap())
}

/// Key, version id, whether it is the latest and whether it is a delete marker, in the order of each list.
type Listed = (String, String, bool, bool);

async fn list(site: &Site, size: i32, prefix: &str, delimiter: &str) -> (Vec<Listed>, Vec<String>) {
    let (mut seen, mut prefixes): (Vec<Listed>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let list = site.client.list_object_versions().bucket("box").prefix(prefix).delimiter(delimiter).max_keys(size);
        let page = list.set_key_marker(key_marker).set_version_id_marker(id_marker).send().await.unwrap();
        assert_eq!((page.name(), page.max_keys()), (Some("box"), Some(size)));
        let count = page.versions().len() + page.delete_markers().len() + page.common_prefixes().len();
        assert!(count <= size as usize);
        for version in page.versions() {
            assert!(version.last_modified().is_some() && version.owner().is_some() && version.e_tag().is_some());
            let (key, id) = (version.key().unwrap().to_owned(), version.version_id().unwrap().to_owned());
            seen.push((key, id, version.is_latest().unwrap(), false));
        }
        for marker in page.delete_markers() {
            let (key, id) = (marker.key().unwrap().to_owned(), marker.version_id().unwrap().to_owned());
            seen.push((key, id, marker.is_latest().unwrap(), true));
        }
        prefixes.extend(page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap().to_owned()));
        key_marker = page.next_key_marker().map(str::to_owned);
        id_marker = page.next_version_id_marker().map(str::to_owned);
        if page.is_truncated() != Some(true) {
            return (seen, prefixes);
        }
        assert!(key_marker.is_some());
    }
}

#[tokio::test]
async fn versions_are_kept_read_and_removed() {
    let site = Site::start().await;
    let status = || async { site.client.get_bucket_versioning().bucket("box").send().await.unwrap().status };
    assert_eq!(status().await, None);
    assert_eq!(put(&site, "k", "before").await, None);
    let head = site.client.head_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!(head.version_id(), None);

    set_versions(&site, "box", BucketVersioningStatus::Enabled).await;
    assert_eq!(status().await, Some(BucketVersioningStatus::Enabled));
    assert_eq!(get(&site, "k", "null").await.unwrap(), "before");
    let first = put(&site, "k", "first").await.unwrap();
    let second = put(&site, "k", "second").await.unwrap();
    assert_ne!(first, second);
    assert_eq!(site.get("k").await, b"second");
    assert_eq!(get(&site, "k", &first).await.unwrap(), "first");
    assert_eq!(get(&site, "k", "null").await.unwrap(), "before");
    assert_eq!(get(&site, "other", &first).await.unwrap_err(), "NoSuchVersion");
    assert_eq!(get(&site, "k", "nonsense").await.unwrap_err(), "InvalidArgument");
    assert_eq!(site.raw("GET", "/box/k?versionId=", &[], b"").await.code(), "InvalidArgument");
    let head = site.client.head_object().bucket("box").key("k").version_id(&first).send().await.unwrap();
    assert_eq!((head.version_id(), head.content_length()), (Some(first.as_str()), Some(5)));

    // A delete hides, and says so.
    let gone = site.client.delete_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!(gone.delete_marker(), Some(true));
    let marker = gone.version_id().unwrap();
    for method in ["GET", "HEAD"] {
        let answer = site.raw(method, "/box/k", &[], b"").await;
        assert_eq!((answer.status, answer.header("x-amz-delete-marker")), (404, Some(&b"true"[..])));
        assert_eq!(answer.header("x-amz-version-id"), Some(marker.as_bytes()));
        let answer = site.raw(method, &format!("/box/k?versionId={marker}"), &[], b"").await;
        assert_eq!((answer.status, answer.header("x-amz-delete-marker")), (405, Some(&b"true"[..])));
        assert_eq!(answer.header("allow"), Some(&b"DELETE"[..]));
        assert!(answer.header("last-modified").is_some());
    }
    assert!(site.keys().await.is_empty());
    assert_eq!(get(&site, "k", &second).await.unwrap(), "second");
    let error = site.client.delete_bucket().bucket("box").send().await.unwrap_err();
    assert_eq!(code(&error), "BucketNotEmpty");

    // Without the marker the newest version is back; without that the next.
    let delete = |id: &str| site.client.delete_object().bucket("box").key("k").version_id(id).send();
    let undone = delete(marker).await.unwrap();
    assert_eq!((undone.delete_marker(), undone.version_id()), (Some(true), Some(marker)));
    assert_eq!(site.get("k").await, b"second");
    let removed = delete(&second).await.unwrap();
    assert_eq!((removed.delete_marker(), removed.version_id()), (None, Some(second.as_str())));
    assert_eq!((site.get("k").await.as_slice(), site.files()), (&b"first"[..], 2));
    // Once more is no error.
    assert_eq!(delete(&second).await.unwrap().version_id(), Some(second.as_str()));
    assert_eq!(code(&delete("nonsense").await.unwrap_err()), "InvalidArgument");
    // A delete of what is not there makes a marker all the same.
    let never = site.client.delete_object().bucket("box").key("never").send().await.unwrap();
    assert_eq!(never.delete_marker(), Some(true));
}

#[tokio::test]
async fn suspended_versions() {
    let site = Site::start().await;
    set_versions(&site, "box", BucketVersioningStatus::Enabled).await;
    let first = put(&site, "k", "first").await.unwrap();
    set_versions(&site, "box", BucketVersioningStatus::Suspended).await;
    assert_eq!(put(&site, "k", "null 1").await, None);
    assert_eq!(put(&site, "k", "null 2").await, None);
    assert_eq!(site.files(), 2);
    assert_eq!(get(&site, "k", "null").await.unwrap(), "null 2");
    assert_eq!(get(&site, "k", &first).await.unwrap(), "first");
    let gone = site.client.delete_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!((gone.delete_marker(), gone.version_id()), (Some(true), Some("null")));
    assert_eq!(site.files(), 1);
    assert_eq!(get(&site, "k", "null").await.unwrap_err(), "MethodNotAllowed");
    let (all, _) = list(&site, 1000, "", "").await;
    let entry = |id: &str, latest, marker| ("k".to_owned(), id.to_owned(), latest, marker);
    assert_eq!(all, [entry(&first, false, false), entry("null", true, true)]);
    // The null version keeps its place when versions are switched on again.
    set_versions(&site, "box", BucketVersioningStatus::Enabled).await;
    let last = put(&site, "k", "last").await.unwrap();
    let (all, _) = list(&site, 1000, "", "").await;
    assert_eq!(all, [entry(&last, true, false), entry(&first, false, false), entry("null", false, true)]);
}

#[tokio::test]
async fn versions_are_listed_in_pages() {
    let site = Site::start().await;
    for key in ["a", "b/1", "z"] {
        put(&site, key, "null").await;
    }
    set_versions(&site, "box", BucketVersioningStatus::Enabled).await;
    let mut expected: Vec<Listed> = Vec::new();
    for key in ["a", "b/1", "b/2", "c+ d", "z"] {
        let mut ids = Vec::new();
        if key != "b/2" && key != "c+ d" {
            ids.push(("null".to_owned(), false));
        }
        for i in 0..3 {
            ids.push((put(&site, key, &i.to_string()).await.unwrap(), false));
        }
        if key == "b/2" || key == "z" {
            let marker = site.client.delete_object().bucket("box").key(key).send().await.unwrap();
            ids.push((marker.version_id.unwrap(), true));
        }
        ids.reverse();
        for (i, (id, marker)) in ids.into_iter().enumerate() {
            expected.push((key.to_owned(), id, i == 0, marker));
        }
    }
    // One page of each size has versions before markers; what counts is that all come, in the order of S3.
    let sorted = |mut all: Vec<Listed>| {
        all.sort();
        all
    };
    for size in [1, 2, 3, 5, 1000] {
        let (all, prefixes) = list(&site, size, "", "").await;
        assert!(prefixes.is_empty());
        assert_eq!(sorted(all.clone()), sorted(expected.clone()), "{size}");
        if size == 1 {
            assert_eq!(all, expected);
        }
        let (all, prefixes) = list(&site, size, "", "/").await;
        assert_eq!(prefixes, ["b/"]);
        let flat = expected.iter().filter(|(key, ..)| !key.starts_with("b/")).cloned().collect();
        assert_eq!(sorted(all), sorted(flat), "{size}");
        let (all, _) = list(&site, size, "b/", "/").await;
        let below = expected.iter().filter(|(key, ..)| key.starts_with("b/")).cloned().collect();
        assert_eq!(sorted(all), sorted(below), "{size}");
    }
    assert_eq!(site.keys().await, ["a", "b/1", "c+ d"]);

    // Deleting page by page loses nothing, although the marker of the next page is gone.
    loop {
        let page = site.client.list_object_versions().bucket("box").max_keys(3).send().await.unwrap();
        let versions = page.versions().iter().map(|version| (version.key().unwrap(), version.version_id().unwrap()));
        let markers = page.delete_markers().iter().map(|marker| (marker.key().unwrap(), marker.version_id().unwrap()));
        let all = versions.chain(markers).map(|(key, id)| ObjectIdentifier::builder().key(key).version_id(id).build().unwrap());
        let delete = Delete::builder().set_objects(Some(all.collect())).build().unwrap();
        let done = site.client.delete_objects().bucket("box").delete(delete).send().await.unwrap();
        assert!(done.errors().is_empty());
        let next = site.client.list_object_versions().bucket("box").max_keys(3);
        let next = next.set_key_marker(page.next_key_marker).set_version_id_marker(page.next_version_id_marker);
        assert!(page.is_truncated != Some(true) || !next.send().await.unwrap().versions().is_empty());
        if page.is_truncated != Some(true) {
            break;
        }
    }
    assert_eq!(site.files(), 0);
    site.client.delete_bucket().bucket("box").send().await.unwrap();
    for path in ["/none?versions", "/box?versions"] {
        assert_eq!(site.raw("GET", path, &[], b"").await.code(), "NoSuchBucket");
    }
}

#[tokio::test]
async fn wrong_markers_are_refused() {
    let site = Site::start().await;
    for query in ["key-marker=a&version-id-marker=nonsense", "version-id-marker=null", "key-marker=a&version-id-marker="] {
        let answer = site.raw("GET", &format!("/box?versions&{query}"), &[], b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidArgument"), "{query}");
    }
    let answer = site.raw("PUT", "/box?versioning", &[], b"<VersioningConfiguration/>").await;
    assert_eq!(answer.code(), "IllegalVersioningConfigurationException");
}

#[tokio::test]
async fn many_versions_are_deleted_at_once() {
    let site = Site::start().await;
    set_versions(&site, "box", BucketVersioningStatus::Enabled).await;
    let (first, second) = (put(&site, "k", "1").await.unwrap(), put(&site, "k", "2").await.unwrap());
    let one =
        |key: &str, id: Option<&str>| ObjectIdentifier::builder().key(key).set_version_id(id.map(str::to_owned)).build().unwrap();
    let objects = vec![one("k", Some(&first)), one("k", None), one("never", Some("nonsense")), one("never", None)];
    let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
    let done = site.client.delete_objects().bucket("box").delete(delete).send().await.unwrap();
    let [removed, marked, never] = done.deleted() else { panic!("{:?}", done.deleted()) };
    assert_eq!((removed.version_id(), removed.delete_marker()), (Some(first.as_str()), None));
    assert_eq!((marked.version_id(), marked.delete_marker()), (None, Some(true)));
    assert!(marked.delete_marker_version_id().is_some() && never.delete_marker() == Some(true));
    assert_eq!(done.errors()[0].code(), Some("InvalidArgument"));
    assert_eq!(get(&site, "k", &second).await.unwrap(), "2");
    assert_eq!(get(&site, "k", &first).await.unwrap_err(), "NoSuchVersion");
    assert!(site.keys().await.is_empty());
}

#[tokio::test]
async fn conditions_and_uploads_in_parts_with_versions() {
    let site = Site::start().await;
    set_versions(&site, "box", BucketVersioningStatus::Enabled).await;
    let write = |condition: &'static str| {
        site.client.put_object().bucket("box").key("k").body(b"x".to_vec().into()).if_none_match(condition)
    };
    let first = write("*").send().await.unwrap();
    assert_eq!(code(&write("*").send().await.unwrap_err()), "PreconditionFailed");
    let delete = |etag: &str| site.client.delete_object().bucket("box").key("k").if_match(etag).send();
    assert_eq!(code(&delete("\"other\"").await.unwrap_err()), "PreconditionFailed");
    delete(first.e_tag().unwrap()).await.unwrap();
    // Behind a delete marker there is no object.
    let upload = Multi::begin(&site, "k").await;
    let part = upload.part(1, b"in parts").await;
    let complete = site.client.complete_multipart_upload().bucket("box").key("k").upload_id(&upload.id).if_none_match("*");
    let done = complete.multipart_upload(named(&[part])).send().await.unwrap();
    assert_eq!(get(&site, "k", done.version_id().unwrap()).await.unwrap(), "in parts");
    assert_eq!(get(&site, "k", first.version_id().unwrap()).await.unwrap(), "x");
}
