use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use super::{TwoKeys, get, label, put, run, snapshot};
use crate::kit::noise;

const IN_PARTS: (&str, &str) = ("CIPHERGATE_BACKEND__COPY_BYTES_MAX", "5242880");

#[tokio::test(flavor = "multi_thread")]
async fn rewrap_says_what_it_would_do_and_what_still_needs_the_key() {
    let two = TwoKeys::start().await;
    let (client, behind, bucket) = (two.site.client(), two.site.behind(), two.site.bucket("moved").await);
    for number in 0..3 {
        put(&client, &bucket, &format!("k{number}"), &noise(1000, number)).await;
    }
    put(&behind, &bucket, "plain", b"hello").await;
    client.create_multipart_upload().bucket(&bucket).key("k9").send().await.expect("created");
    let moved = behind.copy_object().bucket(&bucket).key("stranger").copy_source(format!("{bucket}/k0"));
    moved.send().await.expect("copy");

    let told = two.run(&["rewrap", "s3://moved/k", "--to", "new"]).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{told:?}");
    snapshot("rewrap-dry.txt", &told.out);
    assert_eq!(label(&behind, &bucket, "k0").await, "local");
    let told = two.run(&["rewrap", "s3://moved", "--to", "new", "--apply"]).await;
    assert_eq!((told.code, told.err.as_str()), (Some(3), ""), "{told:?}");
    snapshot("rewrap.txt", &told.out);
    assert_eq!(label(&behind, &bucket, "k0").await, "new");
    assert_eq!(get(&client, &bucket, "k1").await, noise(1000, 1));
    let told = two.run(&["rewrap", "s3://moved/k", "--apply", "--json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    snapshot("rewrap-back.json", &told.out);
    assert_eq!(label(&behind, &bucket, "k0").await, "local");

    for wrong in [&["--to", "nobody"][..], &["--to", "X"], &["--from", "?"], &["--resume"], &["--sample", "1"]] {
        let told = two.run(&[&["rewrap", "s3://moved"], wrong].concat()).await;
        assert_eq!(told.code, Some(2), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_would_forget_is_carried_over() {
    let two = TwoKeys::start().await;
    let (client, behind, bucket) = (two.site.client(), two.site.behind(), "carried".to_owned());
    behind.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true).send().await.expect("bucket");
    let until = aws_sdk_s3::primitives::DateTime::from_secs(4_000_000_000);
    for (key, size) in [("small", 1000), ("large", 6 << 20)] {
        let plain = noise(size, 1);
        let sum = data_encoding::BASE64.encode(&<sha2::Sha256 as sha2::Digest>::digest(&plain));
        let put = client.put_object().bucket(&bucket).key(key).checksum_sha256(sum).body(plain.into());
        let put = put.cache_control("no-store").content_language("de").content_encoding("gzip").metadata("a", "b");
        let put = put.website_redirect_location("/there").tagging("t=1&u=2");
        let put = put.object_lock_mode(aws_sdk_s3::types::ObjectLockMode::Governance).object_lock_retain_until_date(until);
        put.object_lock_legal_hold_status(aws_sdk_s3::types::ObjectLockLegalHoldStatus::On).send().await.expect("put");
    }
    let command = two.launch().set(IN_PARTS.0, IN_PARTS.1).command("rewrap");
    let told = run(command, &["s3://carried", "--to", "new", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for (key, size) in [("small", 1000), ("large", 6 << 20)] {
        assert_eq!(label(&behind, &bucket, key).await, "new");
        let head = client.head_object().bucket(&bucket).key(key).send().await.expect("head");
        assert_eq!(
            (head.cache_control(), head.content_language(), head.content_encoding()),
            (Some("no-store"), Some("de"), Some("gzip"))
        );
        assert_eq!((head.website_redirect_location(), head.metadata().expect("metadata")["a"].as_str()), (Some("/there"), "b"));
        assert_eq!(head.object_lock_mode().map(|mode| mode.as_str()), Some("GOVERNANCE"), "{key}");
        assert_eq!(head.object_lock_retain_until_date().map(|at| at.secs()), Some(4_000_000_000));
        assert_eq!(head.object_lock_legal_hold_status().map(|hold| hold.as_str()), Some("ON"));
        let tags = client.get_object_tagging().bucket(&bucket).key(key).send().await.expect("tags");
        assert_eq!(tags.tag_set().len(), 2);
        assert!(get(&client, &bucket, key).await == noise(size, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_a_move_all_the_same() {
    let two = TwoKeys::start().await;
    let (client, behind, bucket) = (two.site.client(), two.site.behind(), two.site.bucket("lost").await);
    put(&client, &bucket, "k", &noise(1000, 1)).await;
    // The first attempt is refused; it is made again.
    let busy = ciphergate::store::Effect::Answer { status: 503, code: "SlowDown".into() };
    two.site.store.faults().inject("CopyObject", "k", 2, busy);
    let told = two.run(&["rewrap", "s3://lost", "--to", "new", "--apply", "--json"]).await;
    assert_eq!((told.code, &told.json()["moved"]), (Some(0), &1.into()), "{told:?}");
    assert_eq!(label(&behind, &bucket, "k").await, "new");

    // Versions are suspended: the version that is current has a place of its own, and a copy would take that of version null.
    let set = async |status| {
        let versions = VersioningConfiguration::builder().status(status).build();
        behind.put_bucket_versioning().bucket(&bucket).versioning_configuration(versions).send().await.expect("versions");
    };
    set(BucketVersioningStatus::Enabled).await;
    put(&client, &bucket, "k", &noise(1000, 2)).await;
    set(BucketVersioningStatus::Suspended).await;
    let told = two.run(&["rewrap", "s3://lost", "--to", "new", "--apply"]).await;
    assert!(told.code == Some(3) && told.out.contains("NOT MOVED k"), "{told:?}");
}
