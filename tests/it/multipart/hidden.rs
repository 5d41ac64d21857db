//! The state of uploads is nobody's but the gateway's, and is cleared away.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::kit::{code, noise};

use super::site::{LEAST, Site, unique};

#[tokio::test]
async fn no_operation_names_the_reserved_prefix() {
    for site in Site::each("", 1).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        let upload = site.create("k").await;
        upload.part(&client, 1, noise(10, 1)).await;
        client.put_object().bucket(bucket).key("plain").body(noise(10, 1).into()).send().await.expect("put");
        let staged = site.staged().await;
        assert_eq!(staged.len(), 3);
        let key = staged[0].as_str();
        let line = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
        let lines = Delete::builder().objects(line(key)).objects(line("other")).build().unwrap();
        let source = format!("{bucket}/{key}");
        for (what, refused) in [
            ("get", code(client.get_object().bucket(bucket).key(key).send().await)),
            ("put", code(client.put_object().bucket(bucket).key(".ciphergate/x").body(noise(1, 1).into()).send().await)),
            ("delete", code(client.delete_object().bucket(bucket).key(key).send().await)),
            ("tags", code(client.get_object_tagging().bucket(bucket).key(key).send().await)),
            ("create", code(client.create_multipart_upload().bucket(bucket).key(key).send().await)),
            ("parts", code(client.list_parts().bucket(bucket).key(key).upload_id("u").send().await)),
            (
                "copy",
                code(
                    client
                        .upload_part_copy()
                        .bucket(bucket)
                        .key("k")
                        .upload_id(&upload.id)
                        .part_number(2)
                        .copy_source(&source)
                        .send()
                        .await,
                ),
            ),
        ] {
            assert_eq!(refused, "AccessDenied", "{what}");
        }
        let deleted = client.delete_objects().bucket(bucket).delete(lines).send().await.expect("an answer");
        let lines: Vec<_> = deleted.errors().iter().map(|line| (line.key().unwrap(), line.code().unwrap())).collect();
        assert_eq!((lines, deleted.deleted().len()), (vec![(key, "AccessDenied")], 1));
        assert_eq!(crate::kit::status(client.head_object().bucket(bucket).key(key).send().await), 403);
        assert_eq!(site.staged().await, staged);
    }
}

#[tokio::test]
async fn listings_leave_the_state_out_and_keep_their_pages_full() {
    for site in Site::each("", 1).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        // Before and behind the hidden names, and with names near theirs. LocalStack compares markers with encoded keys: no "!" among them.
        let mut keys: Vec<String> = ["-first", ".ciphergate", ".ciphergate0", ".d", "z"].map(str::to_owned).to_vec();
        keys.extend((0..5).map(|at| format!("dir/{at}")));
        keys.sort();
        for key in &keys {
            client.put_object().bucket(bucket).key(key).body(noise(3, 1).into()).send().await.expect("put");
        }
        let mut uploads = Vec::new();
        for at in 0..4 {
            let upload = site.create(&format!("upload {at}")).await;
            upload.part(&client, 1, noise(10, 1)).await;
            uploads.push(upload);
        }
        assert_eq!(site.staged().await.len(), 12);
        for max_keys in [1, 2, 3, 4, 7, 1000] {
            let mut found = Vec::new();
            let mut token = None;
            loop {
                let page = client.list_objects_v2().bucket(bucket).max_keys(max_keys).set_continuation_token(token);
                let page = page.send().await.expect("page");
                let names: Vec<_> = page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect();
                assert_eq!(page.key_count(), Some(names.len() as i32));
                found.extend(names.clone());
                if page.is_truncated() != Some(true) {
                    break;
                }
                assert_eq!(names.len(), max_keys as usize, "a page that goes on is full");
                token = page.next_continuation_token().map(str::to_owned);
                assert!(token.is_some());
            }
            assert_eq!(found, keys, "version 2, {max_keys}");
            let mut found = Vec::new();
            let mut marker = None;
            loop {
                let page = client.list_objects().bucket(bucket).max_keys(max_keys).set_marker(marker).send().await.expect("page");
                found.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
                if page.is_truncated() != Some(true) {
                    break;
                }
                marker = page.next_marker().map(str::to_owned).or(found.last().cloned());
            }
            assert_eq!(found, keys, "version 1, {max_keys}");
        }
        let page = client.list_objects_v2().bucket(bucket).delimiter("/").send().await.expect("page");
        let prefixes: Vec<_> = page.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).collect();
        assert_eq!(prefixes, ["dir/"]);
        let page = client.list_objects_v2().bucket(bucket).prefix(".ciphergate/").send().await.expect("page");
        assert_eq!((page.contents().len(), page.is_truncated()), (0, Some(false)));
    }
}

#[tokio::test]
async fn a_bucket_with_nothing_but_ended_uploads_can_be_removed() {
    for site in Site::each("", 1).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        let upload = site.create("k").await;
        let part = upload.part(&client, 1, noise(10, 1)).await;
        upload.complete(&client, &[part]).send().await.expect("complete");
        assert_eq!(code(client.delete_bucket().bucket(bucket).send().await), "BucketNotEmpty");
        client.delete_object().bucket(bucket).key("k").send().await.expect("delete");
        assert_eq!(site.staged().await.len(), 1);
        client.delete_bucket().bucket(bucket).send().await.expect("the bucket is empty for its owner");
    }
}

#[tokio::test]
async fn a_state_bucket_is_hidden_as_a_whole() {
    let state = unique("state");
    for site in Site::each(&format!("multipart.state_bucket = \"{state}\""), 1).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        site.behind().create_bucket().bucket(&state).send().await.expect("state bucket");
        let upload = site.create("k").await;
        let parts = [upload.part(&client, 1, noise(LEAST, 1)).await, upload.part(&client, 2, noise(10, 2)).await];
        assert_eq!(site.stored(&state).await.len(), 4);
        assert_eq!(site.stored(bucket).await, Vec::<String>::new());
        let names = client.list_buckets().send().await.expect("buckets");
        let names: Vec<_> = names.buckets().iter().filter_map(|bucket| bucket.name()).collect();
        assert!(names.contains(&bucket) && !names.contains(&state.as_str()), "{names:?}");
        for refused in [
            code(client.list_objects_v2().bucket(&state).send().await),
            code(client.put_object().bucket(&state).key("x").body(noise(1, 1).into()).send().await),
            code(client.delete_bucket().bucket(&state).send().await),
            code(client.create_bucket().bucket(&state).send().await),
            code(client.get_bucket_versioning().bucket(&state).send().await),
            code(client.list_multipart_uploads().bucket(&state).send().await),
        ] {
            assert_eq!(refused, "AccessDenied");
        }
        upload.complete(&client, &parts).send().await.expect("complete");
        assert!(site.get("k").await == [noise(LEAST, 1), noise(10, 2)].concat());
        // Names that would be reserved otherwise are free.
        client.put_object().bucket(bucket).key(".ciphergate/x").body(noise(1, 1).into()).send().await.expect("put");
        assert_eq!(site.stored(&state).await.len(), 1);
        let (exit, told) = site.run("gc", &["--older-than-secs", "0"]);
        assert_eq!(exit, Some(0), "{told}");
        assert_eq!(site.stored(&state).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn gc_removes_what_ended_uploads_left_and_nothing_else() {
    for site in Site::each("", 1).await {
        let (client, bucket) = (site.client(), site.bucket.as_str());
        let active = site.create("active").await;
        let part = active.part(&client, 1, noise(10, 1)).await;
        let ended = site.create("ended").await;
        let last = ended.part(&client, 1, noise(10, 2)).await;
        ended.complete(&client, &[last]).send().await.expect("complete");
        // As an instance leaves it that dies in the middle of an abort, and in the middle of anything before the record is there.
        let broken = site.create("broken").await;
        broken.part(&client, 1, noise(10, 3)).await;
        let abort = site.behind().abort_multipart_upload().bucket(bucket).key("broken").upload_id(&broken.id);
        abort.send().await.expect("aborted behind the gateway's back");
        let orphan = format!(".ciphergate/{}/p/00001/{}", "ab".repeat(32), "cd".repeat(16));
        let foreign = ".ciphergate/readme";
        for key in [orphan.as_str(), foreign] {
            site.behind().put_object().bucket(bucket).key(key).body(noise(3, 1).into()).send().await.expect("put");
        }
        let before = site.staged().await;
        assert_eq!(before.len(), 9, "{before:?}");
        let gc = |more: &[&str]| {
            let arguments = [&["--bucket", bucket, "--json"], more].concat();
            let (exit, told) = site.run("gc", &arguments);
            assert_eq!(exit, Some(0), "{told}");
            serde_json::from_str::<serde_json::Value>(&told).expect("a JSON document")
        };
        // Everything is younger than a day.
        let told = gc(&[]);
        assert_eq!((told["removed"].as_array().unwrap().len(), told["young"].as_u64()), (0, Some(4)));
        let told = gc(&["--older-than-secs", "0", "--dry-run"]);
        assert_eq!((told["removed"].as_array().unwrap().len(), told["active"].as_u64()), (3, Some(1)));
        assert_eq!(site.staged().await, before);
        let told = gc(&["--older-than-secs", "0"]);
        assert_eq!(told["removed"].as_array().unwrap().len(), 3);
        let after = site.staged().await;
        assert_eq!(after.len(), 4, "{after:?}");
        assert!(after.iter().any(|key| key == foreign));
        active.complete(&client, &[part]).send().await.expect("the active upload has come to no harm");
        assert_eq!(site.get("active").await, noise(10, 1));
    }
}
