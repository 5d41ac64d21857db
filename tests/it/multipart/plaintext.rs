//! Parts of plaintext objects, in a bucket that allows reading them.

use std::sync::{Arc, Mutex};

use crate::kit::{noise, status};
use crate::modes::Mark;

use super::site::{LEAST, Site, Upload};

#[tokio::test]
async fn parts_of_plaintext_are_those_of_the_store() {
    for site in Site::each("[buckets.\"{bucket}\"]\naccess = \"read-through\"\n", 1).await {
        let (client, behind) = (site.client(), site.behind());
        for lens in [vec![LEAST, LEAST + 7, 11], vec![1000]] {
            let created = behind.create_multipart_upload().bucket(&site.bucket).key("k").send().await.expect("upload");
            let upload = Upload { bucket: site.bucket.clone(), key: "k".into(), id: created.upload_id().unwrap().to_owned() };
            let plain: Vec<_> = lens.iter().map(|len| noise(*len, *len as u64)).collect();
            let mut parts = Vec::new();
            for (at, bytes) in plain.iter().enumerate() {
                parts.push(upload.part(&behind, at as i32 + 1, bytes.clone()).await);
            }
            upload.complete(&behind, &parts).send().await.expect("complete");
            let (whole, mut start) = (plain.concat().len(), 0);
            let stored = behind.head_object().bucket(&site.bucket).key("k").send().await.expect("head");
            for (at, bytes) in plain.iter().enumerate() {
                let number = at as i32 + 1;
                let seen = Arc::new(Mutex::new(false));
                let got = client.get_object().bucket(&site.bucket).key("k").part_number(number).customize();
                let got = got.interceptor(Mark(seen.clone())).send().await.unwrap_or_else(|error| panic!("{number}: {error:?}"));
                assert!(*seen.lock().unwrap(), "marked as plaintext");
                let range = format!("bytes {start}-{}/{whole}", start + bytes.len() - 1);
                assert_eq!(got.content_range(), Some(range.as_str()));
                assert_eq!((got.parts_count(), got.e_tag()), (Some(lens.len() as i32), stored.e_tag()));
                assert_eq!(got.content_length(), Some(bytes.len() as i64));
                assert!(got.body.collect().await.expect("body").into_bytes() == *bytes, "part {number}");
                let head = client.head_object().bucket(&site.bucket).key("k").part_number(number).send().await.expect("head");
                assert_eq!((head.content_length(), head.parts_count()), (Some(bytes.len() as i64), Some(lens.len() as i32)));
                assert_eq!(head.e_tag(), stored.e_tag());
                start += bytes.len();
            }
            let beyond = client.get_object().bucket(&site.bucket).key("k").part_number(lens.len() as i32 + 1).send().await;
            assert_eq!(status(beyond), 416);
        }
    }
}
