use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

use super::wire::{Site, code};

#[tokio::test]
async fn buckets_are_made_found_listed_and_deleted() {
    let site = Site::start().await;
    let client = &site.client;
    let error = client.create_bucket().bucket("box").send().await.unwrap_err();
    assert_eq!(code(&error), "BucketAlreadyOwnedByYou");
    let far = CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::EuWest1).build();
    client.create_bucket().bucket("far").create_bucket_configuration(far).send().await.unwrap();

    let location = client.get_bucket_location().bucket("far").send().await.unwrap();
    assert_eq!(location.location_constraint(), Some(&BucketLocationConstraint::EuWest1));
    let location = client.get_bucket_location().bucket("box").send().await.unwrap();
    assert_eq!(location.location_constraint().map(BucketLocationConstraint::as_str).unwrap_or_default(), "");
    let head = client.head_bucket().bucket("far").send().await.unwrap();
    assert_eq!(head.bucket_region(), Some("eu-west-1"));
    let error = client.head_bucket().bucket("none").send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 404);

    client.create_bucket().bucket("near").send().await.unwrap();
    let all = client.list_buckets().send().await.unwrap();
    let names: Vec<&str> = all.buckets().iter().filter_map(|bucket| bucket.name()).collect();
    assert_eq!(names, ["box", "far", "near"]);
    assert!(all.owner().is_some() && all.buckets()[0].creation_date().is_some());
    let first = client.list_buckets().max_buckets(2).send().await.unwrap();
    assert_eq!(first.buckets().len(), 2);
    let rest = client.list_buckets().continuation_token(first.continuation_token().unwrap()).send().await.unwrap();
    assert_eq!((rest.buckets().len(), rest.continuation_token()), (1, None));

    site.put("k", "x").await;
    let error = client.delete_bucket().bucket("box").send().await.unwrap_err();
    assert_eq!(code(&error), "BucketNotEmpty");
    client.delete_object().bucket("box").key("k").send().await.unwrap();
    client.delete_bucket().bucket("box").send().await.unwrap();
    let error = client.delete_bucket().bucket("box").send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchBucket");
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let site = Site::start().await;
    site.put("k", "x").await;
    // A sub-resource that nobody knows must not delete the bucket or the object.
    for (method, path) in [
        ("DELETE", "/box?mystery"),
        ("DELETE", "/box/k?mystery=1"),
        ("PUT", "/box/k?mystery"),
        ("DELETE", "/box?policy&mystery"),
        ("DELETE", "/box/k?tagging&mystery"),
        ("GET", "/box?policyStatus"),
        ("GET", "/box?abac"),
        ("GET", "/box/k?torrent"),
        ("POST", "/box/k?restore"),
        ("PUT", "/box/k?partNumber=1"),
        ("PUT", "/box/k?renameObject"),
    ] {
        let answer = site.raw(method, path, &[], b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (501, "NotImplemented"), "{method} {path}");
    }
    assert_eq!(site.get("k").await, b"x");
    let answer = site.raw("GET", "/box/k?versionId=null&x-id=GetObject", &[], b"").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"x"[..]));
    let answer = site.raw("GET", "/box/k", &[("x-amz-expected-bucket-owner", "123456789012")], b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"));
}
