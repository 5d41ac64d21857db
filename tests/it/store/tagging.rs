use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, CompletedPart, ObjectAttributes, ObjectCannedAcl, ObjectOwnership, StorageClass,
    Tag, Tagging,
};

use super::multipart::{Multi, named};
use super::versions::set_versions;
use super::wire::{Site, checking_client, code, noise};

fn tags(pairs: &[(&str, &str)]) -> Tagging {
    let tags = pairs.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build().unwrap());
    Tagging::builder().set_tag_set(Some(tags.collect())).build().unwrap()
}

#[tokio::test]
async fn tags_of_objects_and_versions() {
    let site = Site::start().await;
    set_versions(&site, "box", BucketVersioningStatus::Enabled).await;
    let put = |tagging: &str| site.client.put_object().bucket("box").key("k").body(b"x".to_vec().into()).tagging(tagging).send();
    let first = put("a=1&b=x%20y%2Bz").await.unwrap().version_id.unwrap();
    let second = put("").await.unwrap().version_id.unwrap();
    let get = |id: Option<&str>| {
        let get = site.client.get_object_tagging().bucket("box").key("k").set_version_id(id.map(str::to_owned));
        async move {
            let found = get.send().await.map_err(|error| code(&error))?;
            let pairs: Vec<(String, String)> =
                found.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
            Ok::<_, String>((pairs, found.version_id.unwrap()))
        }
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(get(Some(&first)).await.unwrap(), (vec![pair("a", "1"), pair("b", "x y+z")], first.clone()));
    assert_eq!(get(None).await.unwrap(), (vec![], second.clone()));
    let set = site.client.put_object_tagging().bucket("box").key("k").tagging(tags(&[("new", "ü"), ("empty", "")]));
    assert_eq!(set.send().await.unwrap().version_id, Some(second.clone()));
    assert_eq!(get(None).await.unwrap().0, [pair("new", "ü"), pair("empty", "")]);
    assert_eq!(get(Some(&first)).await.unwrap().0.len(), 2);
    let head = site.client.get_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!(head.tag_count(), Some(2));
    site.client.delete_object_tagging().bucket("box").key("k").version_id(&first).send().await.unwrap();
    assert!(get(Some(&first)).await.unwrap().0.is_empty());
    assert_eq!(
        site.client.head_object().bucket("box").key("k").version_id(&first).send().await.unwrap().version_id(),
        Some(&first[..])
    );
    assert_eq!(get(Some("nonsense")).await.unwrap_err(), "InvalidArgument");

    let set = |pairs: &[(&str, &str)]| site.client.put_object_tagging().bucket("box").key("k").tagging(tags(pairs)).send();
    assert_eq!(code(&set(&[("a", "1"), ("a", "2")]).await.unwrap_err()), "InvalidTag");
    let many: Vec<String> = (0..11).map(|i| i.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "v")).collect();
    assert_eq!(code(&set(&many).await.unwrap_err()), "BadRequest");
    let marker = site.client.delete_object().bucket("box").key("k").send().await.unwrap().version_id.unwrap();
    assert_eq!(get(None).await.unwrap_err(), "NoSuchKey");
    assert_eq!(get(Some(&marker)).await.unwrap_err(), "MethodNotAllowed");
    let error = site.client.get_object_tagging().bucket("none").key("k").send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchBucket");
}

#[tokio::test]
async fn access_control_lists() {
    let site = Site::start().await;
    site.put("k", "x").await;
    let grants = |bucket: &'static str| {
        let get = site.client.get_object_acl().bucket(bucket).key("k");
        async move { get.send().await.unwrap().grants.unwrap().len() }
    };
    assert_eq!(grants("box").await, 1);
    // S3 makes buckets that take no lists.
    let set = |bucket: &str, acl| site.client.put_object_acl().bucket(bucket).key("k").acl(acl).send();
    set("box", ObjectCannedAcl::BucketOwnerFullControl).await.unwrap();
    assert_eq!(code(&set("box", ObjectCannedAcl::PublicRead).await.unwrap_err()), "AccessControlListNotSupported");
    let answer = site.raw("PUT", "/box/k2", &[("x-amz-acl", "public-read")], b"x").await;
    assert_eq!(answer.code(), "AccessControlListNotSupported");

    site.client.create_bucket().bucket("open").object_ownership(ObjectOwnership::ObjectWriter).send().await.unwrap();
    let put = site.client.put_object().bucket("open").key("k").acl(ObjectCannedAcl::PublicRead);
    put.body(b"x".to_vec().into()).send().await.unwrap();
    assert_eq!(grants("open").await, 2);
    set("open", ObjectCannedAcl::Private).await.unwrap();
    assert_eq!(grants("open").await, 1);
    let found = site.client.get_bucket_acl().bucket("open").send().await.unwrap();
    assert_eq!((found.grants().len(), found.owner().is_some()), (1, true));
    assert_eq!(site.raw("PUT", "/open/k?acl", &[("x-amz-acl", "some")], b"").await.code(), "InvalidArgument");
    assert_eq!(site.raw("PUT", "/open/none?acl", &[("x-amz-acl", "private")], b"").await.code(), "NoSuchKey");
}

#[tokio::test]
async fn attributes_of_objects() {
    let site = Site::start().await;
    let client = checking_client(site.running.addr());
    let put =
        client.put_object().bucket("box").key("k").body(b"hello".to_vec().into()).checksum_algorithm(ChecksumAlgorithm::Crc32);
    let etag = put.storage_class(StorageClass::StandardIa).send().await.unwrap().e_tag.unwrap();
    let all = || {
        let get = client.get_object_attributes().bucket("box").object_attributes(ObjectAttributes::Etag);
        let get = get.object_attributes(ObjectAttributes::Checksum).object_attributes(ObjectAttributes::ObjectParts);
        get.object_attributes(ObjectAttributes::StorageClass).object_attributes(ObjectAttributes::ObjectSize)
    };
    let found = all().key("k").send().await.unwrap();
    assert_eq!(found.e_tag(), Some(etag.trim_matches('"')));
    assert_eq!((found.object_size(), found.storage_class()), (Some(5), Some(&StorageClass::StandardIa)));
    assert_eq!(found.checksum().unwrap().checksum_crc32(), Some("NhCmhg=="));
    assert!(found.object_parts().is_none() && found.last_modified().is_some() && found.version_id().is_none());
    let few = client.get_object_attributes().bucket("box").key("k").object_attributes(ObjectAttributes::ObjectSize);
    let few = few.send().await.unwrap();
    assert!(few.e_tag().is_none() && few.checksum().is_none() && few.object_size() == Some(5));

    let create = client.create_multipart_upload().bucket("box").key("parts").checksum_algorithm(ChecksumAlgorithm::Sha256);
    let id = create.send().await.unwrap().upload_id.unwrap();
    let mut parts = Vec::new();
    for (number, size) in [(2, 5 << 20), (5, 5 << 20), (9, 7)] {
        let part = client.upload_part().bucket("box").key("parts").upload_id(&id).part_number(number);
        let done =
            part.checksum_algorithm(ChecksumAlgorithm::Sha256).body(noise(number as u64, size).into()).send().await.unwrap();
        let part = CompletedPart::builder().part_number(number).set_e_tag(done.e_tag).set_checksum_sha256(done.checksum_sha256);
        parts.push(part.build());
    }
    let complete = client.complete_multipart_upload().bucket("box").key("parts").upload_id(&id);
    complete.multipart_upload(named(&parts)).send().await.unwrap();
    let page = all().key("parts").max_parts(2).send().await.unwrap();
    let listed = page.object_parts().unwrap();
    assert_eq!((listed.total_parts_count(), listed.is_truncated()), (Some(3), Some(true)));
    let numbers: Vec<_> = listed.parts().iter().map(|part| (part.part_number().unwrap(), part.size().unwrap())).collect();
    assert_eq!(numbers, [(2, 5 << 20), (5, 5 << 20)]);
    assert_eq!(listed.parts()[0].checksum_sha256(), parts[0].checksum_sha256());
    let next = all().key("parts").part_number_marker(listed.next_part_number_marker().unwrap()).send().await.unwrap();
    assert_eq!(next.object_parts().unwrap().parts()[0].part_number(), Some(9));

    // Without checksums S3 only counts.
    let upload = Multi::begin(&site, "plain").await;
    let part = upload.part(1, b"x").await;
    upload.complete(&[part]).await.unwrap();
    let found = all().key("plain").send().await.unwrap();
    assert_eq!(found.object_parts().unwrap().total_parts_count(), Some(1));
    assert!(found.object_parts().unwrap().parts().is_empty());
    assert_eq!(code(&all().key("none").send().await.unwrap_err()), "NoSuchKey");
    let answer = site.raw("GET", "/box/k?attributes", &[("x-amz-object-attributes", "ETag, ObjectSize,StorageClass")], b"").await;
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.contains("<ETag>") && body.contains("<ObjectSize>5<") && body.contains("STANDARD_IA"), "{body}");
    let answer = site.raw("GET", "/box/k?attributes", &[("x-amz-object-attributes", "Colour")], b"").await;
    assert_eq!(answer.code(), "InvalidArgument");
}
