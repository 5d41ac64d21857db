//! A whole rotation in a bucket with versions: from one key of the key service to another, while clients write, with a death in the middle,
//! until the first key is disabled and nothing misses it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use futures::StreamExt as _;

use crate::kit::{self, CLIENT, Launch, Site, client, noise, wait_until};
use crate::operator::{put_parts, run};

const BUCKET: &str = "rotated";
/// Objects above this are copied in parts.
const IN_PARTS: (&str, &str) = ("CIPHERGATE_BACKEND__COPY_BYTES_MAX", "5242880");
const WRITERS: u64 = 3;

fn is_in_parts(number: u64) -> bool {
    number % 250 == 7
}

fn is_deleted(number: u64) -> bool {
    number % 50 == 6
}

/// Versions that are there before the rotation.
fn rounds(number: u64) -> u64 {
    match number % 20 {
        3 => 2,
        4 | 7 => 3,
        _ => 1,
    }
}

fn key(number: u64) -> String {
    format!("dir/{:04}-{number}", number * 37 % 10_000)
}

fn body(number: u64, round: u64) -> Vec<u8> {
    let size = if is_in_parts(number) && round == 0 { (5 << 20) + 1000 } else { 100 + (number as usize * 7919) % 3000 };
    noise(size, number * 100_000 + round)
}

/// What was written: key and version, by number and round.
type Written = Arc<Mutex<BTreeMap<(String, String), (u64, u64)>>>;

async fn write(client: &Client, written: &Written, number: u64, round: u64) {
    let (key, plain) = (key(number), body(number, round));
    let version = if plain.len() > 5 << 20 {
        put_parts(client, BUCKET, &key, &plain).await;
        let head = client.head_object().bucket(BUCKET).key(&key).send().await.expect("head");
        head.version_id
    } else {
        let put = client.put_object().bucket(BUCKET).key(&key).metadata("n", number.to_string());
        put.content_type("text/x-test").tagging("t=1").body(plain.into()).send().await.expect("put").version_id
    };
    written.lock().expect("a lock").insert((key, version.expect("a version")), (number, round));
}

async fn read(client: &Client, key: &str, version: Option<&str>) -> Vec<u8> {
    let get = client.get_object().bucket(BUCKET).key(key).set_version_id(version.map(str::to_owned));
    get.send().await.expect("get").body.collect().await.expect("whole").to_vec()
}

/// Every version in the store, the newest of a key first.
async fn versions(behind: &Client) -> Vec<(String, String)> {
    let (mut found, mut key, mut id) = (Vec::new(), None, None);
    loop {
        let list = behind.list_object_versions().bucket(BUCKET).prefix("dir/");
        let page = list.set_key_marker(key).set_version_id_marker(id).send().await.expect("versions");
        found.extend(
            page.versions()
                .iter()
                .map(|version| (version.key().expect("a key").to_owned(), version.version_id().expect("an id").to_owned())),
        );
        (key, id) = (page.next_key_marker, page.next_version_id_marker);
        if page.is_truncated != Some(true) {
            return found;
        }
    }
}

async fn rotate(objects: u64, killed_at: usize) {
    let kms = super::Kms::localstack();
    let (first, second) = (kms.new_key().await, kms.new_key().await);
    let first = kit::Kms { endpoint: kms.endpoint.clone(), arn: first };
    let more = format!("[[keys]]\nlabel = \"second\"\nkind = \"kms\"\nkey_arn = \"{second}\"\nendpoint = \"{}\"\n", kms.endpoint);
    let mut site = Site::launch(|launch| launch.kms(first.clone()).more(&more)).await;
    let (old, behind) = (site.client(), site.behind());
    site.bucket(BUCKET).await;
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    behind.put_bucket_versioning().bucket(BUCKET).versioning_configuration(enabled).send().await.expect("versions");
    let written = Written::default();
    let began = Instant::now();
    for round in 0..3 {
        let numbers = futures::stream::iter((0..objects).filter(|number| round < rounds(*number)));
        numbers.for_each_concurrent(8, |number| write(&old, &written, number, round)).await;
    }
    for number in (0..objects).filter(|number| is_deleted(*number)) {
        old.delete_object().bucket(BUCKET).key(key(number)).send().await.expect("a delete marker");
    }
    let before = versions(&behind).await;
    println!("{objects} objects, {} versions, written in {:?}", before.len(), began.elapsed());
    site.gateway.terminate();

    // From now on the bucket's rule is the second key.
    let launch = || {
        let launch = Launch::new(site.folder.path(), site.store_addr).kms(first.clone()).more(&more);
        launch.set("CIPHERGATE_ENCRYPTION__KEY", "second").set(IN_PARTS.0, IN_PARTS.1)
    };
    let mut gateway = launch().start();
    let now = client(gateway.s3, CLIENT);
    let journal = site.folder.path().join("journal");
    let mut killed = launch().command("rewrap");
    killed.args(["s3://rotated", "--versions", "--apply", "--concurrency", "4", "--journal"]).arg(&journal).stdout(Stdio::null());
    let began = Instant::now();
    let mut killed = killed.spawn().expect("it starts");
    let lines = || std::fs::read(&journal).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
    // Meanwhile clients write some of the objects again and again.
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|writer| {
        let (now, written, stop) = (now.clone(), written.clone(), stop.clone());
        tokio::spawn(async move {
            let mut round = 10;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                for number in [writer * 11, writer * 11 + 25] {
                    write(&now, &written, number, round).await;
                    assert!(read(&now, &key(number), None).await == body(number, round), "{number} {round}");
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    wait_until(Duration::from_secs(600), || lines() > killed_at).await;
    let _ = killed.kill();
    assert!(!killed.wait().expect("it ends").success(), "it was done before it could be killed");
    println!("killed after {} lines of the journal and {:?}", lines(), began.elapsed());

    let journal = journal.to_str().expect("UTF-8").to_owned();
    let args = ["s3://rotated", "--versions", "--apply", "--json", "--resume", "--journal", &journal];
    let told = run(launch().command("rewrap"), &args).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("the writer found what it wrote");
    }
    let document = told.json();
    println!(
        "resumed: {} s, {}, moved {}, recorded {}",
        document["seconds"], document["key_calls"], document["moved"], document["recorded"]
    );
    assert_eq!((told.code, &document["stuck"], &document["failures"]["count"]), (Some(0), &0.into(), &0.into()), "{document}");
    assert_eq!(
        (&document["keys"]["local"]["needed"], &document["key_calls"]["failed"]),
        (&false.into(), &0.into()),
        "{document}"
    );
    let told = run(launch().command("rewrap"), &["s3://rotated", "--versions", "--json"]).await;
    let document = told.json();
    assert_eq!((told.code, &document["moved"], &document["recorded"]), (Some(0), &0.into(), &0.into()), "{document}");
    assert!(document["keys"].get("local").is_none(), "{document}");
    let all = ["s3://rotated", "--all-versions", "--json"];
    let told = run(launch().command("verify"), &all).await;
    let good = told.json()["good"].as_u64();
    assert_eq!(told.code, Some(0), "{told:?}");

    // The first key leaves the configuration, and is disabled.
    gateway.terminate();
    kms.client.disable_key().key_id(&first.arn).send().await.expect("the key is disabled");
    let gateway = launch().without_local("second").start();
    let now = client(gateway.s3, CLIENT);
    let told = run(launch().without_local("second").command("verify"), &["s3://rotated", "--json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let told = run(launch().without_local("second").command("verify"), &all).await;
    let document = told.json();
    println!(
        "verified without the first key: {} versions in {} s, {}",
        document["good"], document["seconds"], document["key_calls"]
    );
    assert_eq!((told.code, document["good"].as_u64()), (Some(0), good), "{document}");

    // Every version is there and is what was written. One that nobody wrote is what a move made of the version before it.
    let written = std::mem::take(&mut *written.lock().expect("a lock"));
    let after = versions(&behind).await;
    assert_eq!(Some(after.len() as u64), good);
    let mut expected = BTreeMap::new();
    let mut of_key = (String::new(), None);
    for (key, id) in after.iter().rev() {
        if of_key.0 != *key {
            of_key = (key.clone(), None);
        }
        let name = (key.clone(), id.clone());
        of_key.1 = written.get(&name).copied().or(of_key.1);
        expected.insert(name, of_key.1.expect("nobody wrote it"));
    }
    assert!(before.iter().chain(written.keys()).all(|name| expected.contains_key(name)), "a version is lost");
    let reads = futures::stream::iter(&expected).map(|((key, id), (number, round))| {
        let now = &now;
        async move { (read(now, key, Some(id)).await == body(*number, *round), key) }
    });
    let wrong: Vec<_> = reads.buffer_unordered(8).filter_map(async |(good, key)| (!good).then_some(key)).collect().await;
    assert!(wrong.is_empty(), "{wrong:?}");
    for number in (0..objects).filter(|number| is_deleted(*number)) {
        assert_eq!(kit::status(now.get_object().bucket(BUCKET).key(key(number)).send().await), 404, "{number}");
    }
    let head = now.head_object().bucket(BUCKET).key(key(5)).send().await.expect("head");
    assert_eq!((head.metadata().expect("metadata")["n"].as_str(), head.content_type()), ("5", Some("text/x-test")));
    let tags = now.get_object_tagging().bucket(BUCKET).key(key(5)).send().await.expect("tags");
    assert_eq!(tags.tag_set()[0].key(), "t");
    println!("{} versions read back without the first key", expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_goes_on_and_loses_no_version() {
    rotate(60, 20).await;
}

/// `tests/run rotate`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: tests/run rotate runs it"]
async fn ten_thousand_objects_are_rotated() {
    rotate(10_000, 3000).await;
}
