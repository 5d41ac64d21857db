use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use futures::StreamExt as _;

use super::{TwoKeys, get, label, put, put_parts, run, snapshot};
use crate::kit::{CLIENT, client, noise, wait_until};

const IN_PARTS: (&str, &str) = ("CIPHERGATE_BACKEND__COPY_BYTES_MAX", "5242880");

fn is_in_parts(number: u64) -> bool {
    number % 250 == 7
}

fn body(number: u64, round: u64) -> Vec<u8> {
    let size = if is_in_parts(number) { (5 << 20) + 1000 } else { 100 + (number as usize * 7919) % 3000 };
    noise(size, number * 1000 + round)
}

fn key(number: u64) -> String {
    format!("dir/{:04}-{number}", number * 37 % 10_000)
}

async fn write(client: &Client, bucket: &str, number: u64, round: u64) {
    let plain = body(number, round);
    if is_in_parts(number) {
        put_parts(client, bucket, &key(number), &plain).await;
        return;
    }
    let put = client.put_object().bucket(bucket).key(key(number)).metadata("n", number.to_string());
    put.content_type("text/x-test").tagging("t=1").body(plain.into()).send().await.expect("put");
}

/// Rotates a bucket of so many objects, and a tenth as many with versions, while clients write, with a death in the middle.
async fn rotate(objects: u64, killed_at: u32) {
    let two = TwoKeys::start().await;
    let (old, behind, bucket) = (two.site.client(), two.site.behind(), two.site.bucket("rotated").await);
    let began = Instant::now();
    futures::stream::iter(0..objects).for_each_concurrent(8, |number| write(&old, &bucket, number, 0)).await;
    let versioned = two.site.bucket("versioned").await;
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    behind.put_bucket_versioning().bucket(&versioned).versioning_configuration(enabled).send().await.expect("versions");
    for round in 0..2 {
        futures::stream::iter(0..objects / 10).for_each_concurrent(8, |number| write(&old, &versioned, number, round)).await;
    }
    println!("{objects} objects written in {:?}", began.elapsed());

    let dry = two.run(&["rewrap", "s3://rotated", "--to", "new", "--json"]).await;
    assert_eq!((dry.code, &dry.json()["moved"]), (Some(0), &objects.into()), "{dry:?}");
    assert_eq!(label(&behind, &bucket, &key(0)).await, "local");

    // From now on the bucket's rule is the new key.
    let rule = |launch: crate::kit::Launch| launch.set("CIPHERGATE_ENCRYPTION__KEY", "new").set(IN_PARTS.0, IN_PARTS.1);
    let gateway = rule(two.launch()).start();
    let now = client(gateway.s3, CLIENT);
    let journal = two.path("journal");
    let mut first = rule(two.launch()).command("rewrap");
    first.args(["s3://rotated", "--apply", "--concurrency", "4", "--journal"]).arg(&journal).stdout(Stdio::null());
    let mut first = first.spawn().expect("it starts");
    let lines = || std::fs::read(&journal).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u32;
    // Meanwhile clients write some of the objects again and again.
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..3u64).map(|writer| {
        let (now, bucket, stop) = (now.clone(), bucket.clone(), stop.clone());
        tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                rounds += 1;
                for number in [writer * 11, writer * 11 + 100] {
                    write(&now, &bucket, number, rounds).await;
                    assert!(get(&now, &bucket, &key(number)).await == body(number, rounds), "{number} {rounds}");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            rounds
        })
    });
    let writers: Vec<_> = writers.collect();
    wait_until(Duration::from_secs(120), || lines() > killed_at).await;
    let _ = first.kill();
    let died = !first.wait().expect("it ends").success();
    assert!(died, "it was done before it could be killed");
    let before = lines();

    let began = Instant::now();
    let journal = journal.to_str().expect("UTF-8").to_owned();
    let args = ["s3://rotated", "--apply", "--json", "--resume", "--journal", &journal];
    let told = run(rule(two.launch()).command("rewrap"), &args).await;
    println!("resumed at {before}, ended after {:?}: {}", began.elapsed(), told.json()["key_calls"]);
    stop.store(true, Ordering::Relaxed);
    let mut rounds = Vec::new();
    for writer in writers {
        rounds.push(writer.await.expect("the writer found what it wrote"));
    }
    let document = told.json();
    assert_eq!((told.code, &document["objects"]), (Some(0), &objects.into()), "{document}");
    assert_eq!((&document["keys"]["new"]["after"]["objects"], &document["stuck"]), (&objects.into(), &0.into()), "{document}");
    assert_eq!(document["keys"]["local"]["needed"], false, "{document}");

    // Nothing is lost, nothing is under the old key, and every object opens.
    let last = |number: u64| {
        let writer = (0..3).find(|writer| number == writer * 11 || number == writer * 11 + 100);
        writer.map_or(0, |writer| rounds[writer as usize])
    };
    let looks = futures::stream::iter(0..objects).map(|number| {
        let (now, behind, bucket) = (&now, &behind, &bucket);
        async move { (number, label(behind, bucket, &key(number)).await, get(now, bucket, &key(number)).await) }
    });
    let mut looks = looks.buffer_unordered(8);
    while let Some((number, label, plain)) = looks.next().await {
        assert_eq!(label, "new", "{number}");
        assert!(plain == body(number, last(number)), "{number}");
    }
    let head = now.head_object().bucket(&bucket).key(key(5)).send().await.expect("head");
    assert_eq!((head.metadata().expect("metadata")["n"].as_str(), head.content_type()), ("5", Some("text/x-test")));
    let tags = now.get_object_tagging().bucket(&bucket).key(key(5)).send().await.expect("tags");
    assert_eq!(tags.tag_set()[0].key(), "t");

    // Versions stay as they are, and keep the old key needed.
    let told = run(rule(two.launch()).command("rewrap"), &["s3://versioned", "--apply", "--json"]).await;
    let (document, tenth) = (told.json(), objects / 10);
    assert_eq!((told.code, &document["moved"], &document["stayed"]), (Some(0), &tenth.into(), &tenth.into()), "{document}");
    let old = &document["keys"]["local"];
    assert_eq!((&old["after"]["objects"], &old["old_versions_after"]["objects"]), (&0.into(), &(2 * tenth).into()), "{document}");
    assert_eq!(old["needed"], true);
    for number in 0..tenth.min(50) {
        assert!(get(&now, &versioned, &key(number)).await == body(number, 1), "{number}");
    }
    let all = ["s3://versioned", "--all-versions", "--json"];
    let told = run(rule(two.launch()).command("verify"), &all).await;
    assert_eq!((told.code, &told.json()["good"]), (Some(0), &(3 * tenth).into()), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_goes_on_and_loses_nothing() {
    rotate(300, 100).await;
}

/// `tests/run rotate`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: tests/run rotate runs it"]
async fn ten_thousand_objects_are_rotated() {
    rotate(10_000, 3000).await;
}

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
