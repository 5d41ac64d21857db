//! `ciphergate encrypt` and `ciphergate reencrypt`: objects sealed anew in their place.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, ChecksumMode, VersioningConfiguration};
use ciphergate::format::Envelope;
use ciphergate::store::Effect;
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

use crate::kit::{Launch, Site, noise, wait_until};
use crate::operator::snapshot;

const OLD: &str = "multipart.put_bytes_max = 5242880\n[buckets.\"old\"]\naccess = \"read-through\"\n[buckets.\"open\"]\naccess = \"plaintext\"\n";

fn command(site: &Site, name: &str, args: &[&str]) -> Command {
    let mut command = Launch::new(site.folder.path(), site.store_addr).more(OLD).command(name);
    command.args(args);
    command
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Runs it beside this test's own runtime, on which the store lives.
async fn run(site: &Site, name: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = command(site, name, args);
    told(&tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic"))
}

async fn old_bucket(site: &Site, has_versions: bool) {
    site.behind().create_bucket().bucket("old").send().await.expect("bucket");
    if has_versions {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        site.behind().put_bucket_versioning().bucket("old").versioning_configuration(enabled).send().await.expect("versions");
    }
}

async fn put_plain(site: &Site, key: &str, body: &[u8]) {
    let put = site.behind().put_object().bucket("old").key(key).body(ByteStream::from(body.to_vec()));
    put.send().await.expect("put");
}

async fn stored(site: &Site, key: &str) -> (Option<Envelope>, Vec<u8>) {
    let got = site.behind().get_object().bucket("old").key(key).send().await.expect("get");
    let envelope = got.metadata().and_then(|entries| entries.get("ciphergate")).map(|text| Envelope::parse(text).expect("good"));
    (envelope, got.body.collect().await.expect("whole").to_vec())
}

async fn opened(site: &Site, key: &str) -> Vec<u8> {
    let got = site.client().get_object().bucket("old").key(key).send().await.expect("get");
    got.body.collect().await.expect("whole").to_vec()
}

fn crc32c(body: &[u8]) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body);
    BASE64.encode(&u32::try_from(sum).expect("32 bits").to_be_bytes())
}

fn journal_lines(path: &Path, word: &str) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().filter(|line| line.contains(word)).count()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_sealed_in_its_place_with_all_that_lies_beside_it() {
    let site = Site::start_with(OLD).await;
    old_bucket(&site, false).await;
    let bodies = [("a", noise(100_000, 1)), ("empty", Vec::new()), ("big", noise(12 << 20, 2)), ("ü ?&x=%20", noise(9, 3))];
    for (key, body) in &bodies {
        let put = site.behind().put_object().bucket("old").key(*key).body(ByteStream::from(body.clone()));
        let put = put
            .content_type("text/x")
            .cache_control("max-age=1")
            .content_encoding("br")
            .metadata("n", "m")
            .tagging("t=1&u=2%203");
        put.checksum_crc32_c(crc32c(body)).storage_class("STANDARD_IA".into()).send().await.expect("put");
    }
    // One that is sealed, and one that was.
    let sealed = noise(70_000, 4);
    site.client().put_object().bucket("old").key("sealed").body(ByteStream::from(sealed.clone())).send().await.expect("put");
    let (envelope, bytes) = stored(&site, "sealed").await;
    put_plain(&site, "stripped", &bytes).await;

    let (code, said) = run(&site, "encrypt", &["s3://old"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.starts_with("s3://old/: 4 objects would be encrypted (12682921 bytes of plaintext)\n  1 sealed already\n"),
        "{said}"
    );
    assert!(said.contains("FINDING stripped: ends like a sealed object") && said.contains("--apply"), "{said}");
    snapshot("encrypt-dry.txt", &said);
    assert!(stored(&site, "a").await.1 == bodies[0].1, "a dry run writes nothing");

    let report = site.folder.path().join("findings");
    let (code, said) =
        run(&site, "encrypt", &["s3://old", "--apply", "--json", "--report", report.to_str().expect("UTF-8")]).await;
    assert_eq!(code, Some(3), "{said}");
    snapshot("encrypt.json", &said);
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(json["objects"], serde_json::json!({"done": 4, "is-sealed": 1, "lost-envelope": 1}));
    assert_eq!((&json["bytes"], &json["ended"], &json["applied"]), (&12_682_921.into(), &"complete".into(), &true.into()));
    assert_eq!(
        std::fs::read_to_string(report).expect("report"),
        "{\"key\":\"stripped\",\"what\":\"lost-envelope\",\"bytes\":0}\n"
    );
    for (key, body) in &bodies {
        let (envelope, bytes) = stored(&site, key).await;
        assert_eq!(envelope.expect("an envelope").flags().multipart, *key == "big");
        assert!(
            body.is_empty() || !bytes.windows(body.len().min(64)).any(|window| *window == body[..body.len().min(64)]),
            "{key}"
        );
        let got =
            site.client().get_object().bucket("old").key(*key).checksum_mode(ChecksumMode::Enabled).send().await.expect("get");
        assert_eq!(got.metadata().expect("metadata"), &HashMap::from([("n".to_owned(), "m".to_owned())]), "{key}");
        assert_eq!(
            (got.content_type(), got.cache_control(), got.content_encoding(), got.storage_class().map(|class| class.as_str())),
            (Some("text/x"), Some("max-age=1"), Some("br"), Some("STANDARD_IA"))
        );
        let was = site.behind().head_object().bucket("old").key(*key).send().await.expect("head");
        assert!(was.metadata().is_some_and(|entries| entries.contains_key("ciphergate")));
        assert!(got.checksum_crc32_c().is_some(), "the store's checksum is kept: {key}");
        assert!(got.body.collect().await.expect("whole").into_bytes() == *body, "{key}");
        let tags = site.client().get_object_tagging().bucket("old").key(*key).send().await.expect("tags");
        let mut tags: Vec<_> = tags.tag_set().iter().map(|tag| format!("{}={}", tag.key(), tag.value())).collect();
        tags.sort();
        assert_eq!(tags, ["t=1", "u=2 3"], "{key}");
    }
    assert_eq!(stored(&site, "sealed").await, (envelope, bytes.clone()));
    assert_eq!(stored(&site, "stripped").await, (None, bytes));

    let (code, said) = run(&site, "encrypt", &["s3://open", "--apply"]).await;
    assert!(code == Some(2) && said.contains("access = \"plaintext\""), "{said}");
    let (code, said) = run(&site, "encrypt", &["s3://old", "--delete-plaintext-versions"]).await;
    assert!(code == Some(2) && said.contains("--apply"), "{said}");
    // A store that does not answer is no finding.
    drop(site.store.faults().inject("GetObject", "a", 1000, Effect::Answer { status: 503, code: "SlowDown".to_owned() }));
    let (code, said) = run(&site, "reencrypt", &["s3://old/a", "--apply", "--patience-secs", "1"]).await;
    assert!(code == Some(1) && said.contains("FAILED a"), "{said}");
    site.store.faults().clear();
    assert!(opened(&site, "a").await == bodies[0].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_plaintext_versions_are_told_and_deleted_only_where_the_sealed_one_holds_the_same() {
    let site = Site::start_with(OLD).await;
    old_bucket(&site, true).await;
    let (first, second) = (noise(5000, 1), noise(80_000, 2));
    put_plain(&site, "a", &first).await;
    put_plain(&site, "a", &second).await;
    put_plain(&site, "b", &second).await;
    let count = async || {
        let listed = site.behind().list_object_versions().bucket("old").send().await.expect("versions");
        listed.versions().len()
    };
    let (code, said) = run(&site, "encrypt", &["s3://old/a", "--apply"]).await;
    assert!(code == Some(3) && said.contains("WARNING: 2 PLAINTEXT VERSIONS REMAIN"), "{said}");
    assert_eq!(count().await, 4);
    // That the object is sealed by now, and the run that did it is gone, makes no difference.
    let (code, said) = run(&site, "encrypt", &["s3://old", "--apply", "--delete-plaintext-versions"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("2 plaintext versions deleted") && said.contains("WARNING: 1 PLAINTEXT VERSIONS REMAIN"), "{said}");
    assert!(said.contains("since the current one does not hold the same"), "{said}");
    assert_eq!(count().await, 3);
    assert!(opened(&site, "a").await == second && opened(&site, "b").await == second);
    let listed = site.behind().list_object_versions().bucket("old").prefix("a").send().await.expect("versions");
    let old = listed.versions().iter().find(|version| version.is_latest() != Some(true)).expect("the first one");
    assert_eq!(old.size(), Some(5000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_goes_on_and_nothing_is_lost() {
    let site = Site::start_with(OLD).await;
    old_bucket(&site, false).await;
    for number in 0..60 {
        put_plain(&site, &format!("{number:03}"), &noise(3000 + number, number as u64)).await;
    }
    for (name, wanted) in [("encrypt", "encrypt"), ("reencrypt", "reencrypt")] {
        let journal = site.folder.path().join(wanted);
        let args = ["s3://old", "--apply", "--journal", journal.to_str().expect("UTF-8"), "--json"];
        let mut first = command(&site, name, &args);
        let killed =
            first.args(["--objects-per-sec", "40", "--concurrency", "3"]).stdout(Stdio::null()).spawn().expect("it runs");
        let killed = Killed(killed);
        wait_until(Duration::from_secs(30), || journal_lines(&journal, "\"done\"") >= 15).await;
        // kill -9.
        drop(killed);
        let before = journal_lines(&journal, "\"done\"");
        assert!((15..60).contains(&before), "{before}");
        let (code, said) = run(&site, name, &args).await;
        assert!(code == Some(2) && said.contains("--resume"), "{said}");
        let (code, said) = run(&site, name, &[&args[..], &["--resume"]].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let of = |what: &str| json["objects"][what].as_u64().unwrap_or(0);
        assert_eq!(of("done") + of("is-sealed"), 60, "{json}");
        assert!(of("is-sealed") <= 3, "what was under way when it died may be done already: {json}");
        assert_eq!(json["resumed"], true);
    }
    for number in 0..60 {
        assert!(opened(&site, &format!("{number:03}")).await == noise(3000 + number, number as u64), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_meanwhile_wins() {
    let site = Site::start_with(OLD).await;
    old_bucket(&site, false).await;
    let (plain, newer) = (noise(100_000, 1), noise(50_000, 2));
    for (name, in_parts) in [("encrypt", false), ("reencrypt", false), ("encrypt", true), ("reencrypt", true)] {
        let plain = if in_parts { noise(6 << 20, 3) } else { plain.clone() };
        let operation = if in_parts { "CompleteMultipartUpload" } else { "PutObject" };
        put_plain(&site, "raced", &plain).await;
        if name == "reencrypt" {
            site.client().put_object().bucket("old").key("raced").body(ByteStream::from(plain)).send().await.expect("put");
        }
        let hits = site.store.faults().inject(operation, "raced", 1, Effect::Delay(Duration::from_secs(3)));
        let (ran, ()) = tokio::join!(run(&site, name, &["s3://old/raced", "--apply"]), async {
            wait_until(Duration::from_secs(30), || hits.count() == 1).await;
            let put = site.client().put_object().bucket("old").key("raced").body(ByteStream::from(newer.clone()));
            put.send().await.expect("put");
        });
        assert_eq!(ran.0, Some(0), "{name} {}", ran.1);
        assert!(opened(&site, "raced").await == newer, "{name} {in_parts}");
        let left = site.behind().list_multipart_uploads().bucket("old").send().await.expect("uploads");
        assert!(left.uploads().is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_object_gets_a_new_data_key_and_keeps_its_checksum() {
    let site = Site::start_with(OLD).await;
    old_bucket(&site, false).await;
    let bodies = [("one", noise(100_000, 1)), ("parts", noise(12 << 20, 2)), ("none", Vec::new())];
    for (key, body) in &bodies {
        let put = site.client().put_object().bucket("old").key(*key).metadata("n", "m").content_type("text/x").tagging("t=1");
        put.checksum_sha256(BASE64.encode(&Sha256::digest(body))).body(ByteStream::from(body.clone())).send().await.expect("put");
    }
    put_plain(&site, "plain", b"open").await;
    let commits = async || {
        let mut commits = Vec::new();
        for (key, _) in &bodies {
            commits.push(*stored(&site, key).await.0.expect("an envelope").commit());
        }
        commits
    };
    let checksum = async |key: &str| {
        let head =
            site.client().head_object().bucket("old").key(key).checksum_mode(ChecksumMode::Enabled).send().await.expect("head");
        (head.checksum_sha256().map(str::to_owned), head.content_type().map(str::to_owned), head.metadata().cloned())
    };
    let (before, sum) = (commits().await, checksum("parts").await);
    assert!(sum.0.is_some());
    let (code, said) = run(&site, "reencrypt", &["s3://old"]).await;
    assert!(
        code == Some(0) && said.contains("3 objects would be re-encrypted") && said.contains("1 plaintext, left alone"),
        "{said}"
    );
    assert_eq!(commits().await, before);
    let (code, said) = run(&site, "reencrypt", &["s3://old", "--apply"]).await;
    assert_eq!(code, Some(0), "{said}");
    snapshot("reencrypt.txt", &said);
    assert!(commits().await.iter().zip(&before).all(|(new, old)| new != old), "every data key is another one");
    assert_eq!(checksum("parts").await, sum);
    for (key, body) in &bodies {
        assert!(opened(&site, key).await == *body, "{key}");
    }
    assert_eq!(stored(&site, "plain").await, (None, b"open".to_vec()));

    // A damaged one is left as it is.
    let got = site.behind().get_object().bucket("old").key("one").send().await.expect("get");
    let (metadata, mut bytes) = (got.metadata().cloned(), got.body.collect().await.expect("whole").to_vec());
    bytes[70_000] ^= 1;
    let put = site.behind().put_object().bucket("old").key("one").set_metadata(metadata).body(ByteStream::from(bytes.clone()));
    put.send().await.expect("put");
    let (code, said) = run(&site, "reencrypt", &["s3://old/one", "--apply"]).await;
    assert!(code == Some(3) && said.contains("FINDING one: is damaged"), "{said}");
    assert!(stored(&site, "one").await.1 == bytes);
}
