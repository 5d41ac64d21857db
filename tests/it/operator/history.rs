//! Rewrap records: versions that open without the key they were sealed under.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, ObjectAttributes, VersioningConfiguration,
};
use ciphergate::format::{Envelope, RewrapRecord, VersionName};
use ciphergate::store::Effect;

use super::{Told, get, keyring, label, put, put_parts, run};
use crate::kit::{CLIENT, Launch, Process, Site, client, code, noise, status};

const BUCKET: &str = "history";

/// A site with the keys `local`, `new` and `third`.
struct History {
    site: Site,
    keys: [String; 2],
    folder: tempfile::TempDir,
}

/// A version: its key, its id, and what it holds.
struct Version {
    key: String,
    id: String,
    body: Vec<u8>,
}

impl History {
    async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let keys = [keyring(folder.path(), "new"), keyring(folder.path(), "third")];
        let all = keys.concat() + more;
        let site = Site::launch(|launch| launch.more(&all)).await;
        site.bucket(BUCKET).await;
        let history = Self { site, keys, folder };
        history.versions(BucketVersioningStatus::Enabled).await;
        history
    }

    async fn versions(&self, status: BucketVersioningStatus) {
        let versions = VersioningConfiguration::builder().status(status).build();
        let behind = self.site.behind();
        behind.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versions).send().await.expect("versions");
    }

    /// Every key is configured.
    fn with_all(&self) -> Launch {
        Launch::new(self.site.folder.path(), self.site.store_addr).more(&self.keys.concat())
    }

    /// `new` is the bucket's, and `local` is gone.
    fn without_local(&self) -> Launch {
        Launch::new(self.site.folder.path(), self.site.store_addr).more(&self.keys[0]).without_local("new")
    }

    async fn run(&self, args: &[&str]) -> Told {
        run(self.with_all().command(args[0]), &args[1..]).await
    }

    async fn run_without(&self, args: &[&str]) -> Told {
        run(self.without_local().command(args[0]), &args[1..]).await
    }

    async fn put(&self, key: &str, body: Vec<u8>) -> Version {
        let gateway = self.site.client();
        match body.len() > 5 << 20 {
            true => put_parts(&gateway, BUCKET, key, &body).await,
            false => put(&gateway, BUCKET, key, &body).await,
        }
        let head = self.site.behind().head_object().bucket(BUCKET).key(key).send().await.expect("head");
        Version { key: key.to_owned(), id: head.version_id().expect("a version").to_owned(), body }
    }

    /// Names of the records in the store.
    async fn records(&self) -> Vec<String> {
        let listed = self.site.behind().list_objects_v2().bucket(BUCKET).prefix(".ciphergate/v/").send().await.expect("list");
        listed.contents().iter().map(|object| object.key().expect("a key").to_owned()).collect()
    }

    /// Every version: key, id, ETag, time.
    async fn listed(&self) -> Vec<[String; 4]> {
        let listed = self.site.behind().list_object_versions().bucket(BUCKET).send().await.expect("versions");
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let versions = listed.versions().iter().filter(|version| !version.key().unwrap_or_default().starts_with(".ciphergate/"));
        let line = |version: &aws_sdk_s3::types::ObjectVersion| {
            let time = version.last_modified().map(ToString::to_string);
            [text(version.key()), text(version.version_id()), text(version.e_tag()), text(time.as_deref())]
        };
        versions.map(line).collect()
    }

    fn record_of(&self, version: &Version) -> String {
        format!(".ciphergate/v/{}", name(&version.key, &version.id).base().expect("a name"))
    }

    async fn envelope(&self, version: &Version) -> Envelope {
        let head = self.site.behind().head_object().bucket(BUCKET).key(&version.key).version_id(&version.id).send();
        let head = head.await.expect("head");
        Envelope::parse(&head.metadata().expect("metadata")["ciphergate"]).expect("an envelope")
    }
}

fn name(key: &str, id: &str) -> VersionName {
    VersionName { bucket: BUCKET.to_owned(), key: key.to_owned(), version_id: id.to_owned() }
}

async fn read(client: &Client, version: &Version) -> Vec<u8> {
    let got = client.get_object().bucket(BUCKET).key(&version.key).version_id(&version.id).send().await.expect("get");
    got.body.collect().await.expect("whole").to_vec()
}

fn at(process: &Process) -> Client {
    client(process.s3, CLIENT)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_opens_a_version_by_its_record() {
    let history = History::start("").await;
    let behind = history.site.behind();
    let large = (5 << 20) + 70_000;
    let first = history.put("k", noise(100_000, 1)).await;
    let second = history.put("k", noise(3000, 2)).await;
    let parts = history.put("p", noise(large, 3)).await;
    let current = history.put("p", noise(10, 4)).await;
    let hidden = history.put("hidden", noise(2000, 5)).await;
    let old = [&first, &second, &parts, &current, &hidden];
    history.site.client().delete_object().bucket(BUCKET).key("hidden").send().await.expect("a delete marker");
    let before = history.listed().await;

    // While the key is there nobody looks for a record.
    let looks = || history.site.store.faults().inject("GetObject", ".ciphergate/v/", u64::MAX, Effect::Delay(Duration::ZERO));
    let hits = looks();
    let told = history.run(&["rewrap", "s3://history", "--to", "new", "--json"]).await;
    let document = told.json();
    assert_eq!((told.code, &document["moved"], &document["stayed"]), (Some(0), &2.into(), &3.into()), "{document}");
    assert_eq!((&document["keys"]["local"]["needed"], hits.count()), (&true.into(), 0), "{document}");
    let told = history.run(&["rewrap", "s3://history", "--to", "new", "--versions", "--json"]).await;
    let document = told.json();
    assert_eq!((told.code, &document["moved"], &document["recorded"]), (Some(0), &2.into(), &3.into()), "{document}");
    assert_eq!(history.records().await, Vec::<String>::new());
    let refused = history.run_without(&["verify", "s3://history", "--all-versions", "--json"]).await;
    assert_eq!(refused.json()["foreign"], 5, "{refused:?}");

    let told = history.run(&["rewrap", "s3://history", "--to", "new", "--versions", "--apply", "--json"]).await;
    let document = told.json();
    assert_eq!((told.code, &document["moved"], &document["recorded"]), (Some(0), &2.into(), &3.into()), "{document}");
    assert_eq!((&document["stuck"], &document["keys"]["local"]["needed"]), (&0.into(), &false.into()), "{document}");
    assert_eq!(document["keys"]["new"]["old_versions_after"]["objects"], 5, "{document}");
    // One of each for every version: the moved object and the version that it leaves share an envelope.
    assert_eq!((&document["key_calls"]["unwrap"], &document["key_calls"]["generate"]), (&5.into(), &5.into()), "{document}");
    let mut expected: Vec<_> = old.iter().map(|version| history.record_of(version)).collect();
    expected.sort();
    assert_eq!(history.records().await, expected);
    // Versions stay as they are, and two are new.
    let after = history.listed().await;
    assert_eq!(after.len(), before.len() + 2);
    assert!(before.iter().all(|line| after.contains(line)), "{before:?} {after:?}");
    // Nothing is left to do.
    let told = history.run(&["rewrap", "s3://history", "--to", "new", "--versions", "--apply", "--json"]).await;
    let document = told.json();
    assert_eq!((&document["moved"], &document["recorded"], &document["stayed"]), (&0.into(), &0.into(), &7.into()), "{document}");
    assert_eq!((told.code, &document["keys"]["local"]), (Some(0), &serde_json::Value::Null), "{document}");
    history.site.store.faults().clear();

    let hits = looks();
    for version in old {
        assert!(read(&history.site.client(), version).await == version.body, "{}", version.key);
    }
    assert_eq!(hits.count(), 0, "the key is configured");

    let gateway = history.without_local().start();
    let now = at(&gateway);
    for version in old {
        assert!(read(&now, version).await == version.body, "{}", version.key);
    }
    assert_eq!(hits.count(), 5);
    history.site.store.faults().clear();
    assert!(get(&now, BUCKET, "k").await == second.body && get(&now, BUCKET, "p").await == current.body);
    let ranged = now.get_object().bucket(BUCKET).key("p").version_id(&parts.id).range("bytes=5242870-5242890").send().await;
    let ranged = ranged.expect("a range").body.collect().await.expect("whole").to_vec();
    assert_eq!(ranged, parts.body[5_242_870..=5_242_890]);
    let head = now.head_object().bucket(BUCKET).key("k").version_id(&first.id);
    let head = head.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled).send().await.expect("head");
    assert_eq!((head.content_length(), head.checksum_crc64_nvme().is_some()), (Some(100_000), true));
    let told = now.get_object_attributes().bucket(BUCKET).key("p").version_id(&parts.id);
    let told = told.object_attributes(ObjectAttributes::Checksum).object_attributes(ObjectAttributes::ObjectParts);
    let told = told.send().await.expect("attributes");
    assert_eq!(told.object_parts().and_then(|parts| parts.total_parts_count()), Some(2));
    let source = |version: &Version| format!("{BUCKET}/{}?versionId={}", version.key, version.id);
    now.copy_object().bucket(BUCKET).key("copied").copy_source(source(&first)).send().await.expect("copy");
    assert!(get(&now, BUCKET, "copied").await == first.body && label(&behind, BUCKET, "copied").await == "new");
    let summed = now.copy_object().bucket(BUCKET).key("summed").copy_source(source(&parts));
    summed.checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256).send().await.expect("copy, sealed anew");
    assert!(get(&now, BUCKET, "summed").await == parts.body);
    let upload = now.create_multipart_upload().bucket(BUCKET).key("assembled").send().await.expect("created");
    let id = upload.upload_id().expect("an id");
    let part = now.upload_part_copy().bucket(BUCKET).key("assembled").upload_id(id).part_number(1);
    let part = part.copy_source(source(&parts)).send().await.expect("part").copy_part_result.expect("a result");
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    let complete = now.complete_multipart_upload().bucket(BUCKET).key("assembled").upload_id(id);
    complete.multipart_upload(CompletedMultipartUpload::builder().parts(part).build()).send().await.expect("completed");
    assert!(get(&now, BUCKET, "assembled").await == parts.body);

    // The delete marker goes: the version is the current one, and nobody names it.
    let markers = behind.list_object_versions().bucket(BUCKET).prefix("hidden").send().await.expect("versions");
    let marker = markers.delete_markers()[0].version_id().expect("an id").to_owned();
    now.delete_object().bucket(BUCKET).key("hidden").version_id(marker).send().await.expect("the marker is gone");
    assert!(get(&now, BUCKET, "hidden").await == hidden.body);
    assert_eq!(label(&behind, BUCKET, "hidden").await, "local");

    let told = history.run_without(&["verify", "s3://history", "--all-versions", "--json"]).await;
    assert_eq!((told.code, &told.json()["good"]), (Some(0), &10.into()), "{told:?}");
    let told = history.run_without(&["verify", "s3://history", "--all-versions", "--quick", "--json"]).await;
    assert_eq!((told.code, &told.json()["good"]), (Some(0), &10.into()), "{told:?}");
    let told = history.run_without(&["inspect", "s3://history/p", "--version-id", &parts.id, "--unlock"]).await;
    assert!(told.code == Some(0) && told.out.contains("local (not in the configuration; a rewrap record has it under new)"));
    assert!(told.out.contains("part 2"), "{told:?}");
    let out = history.folder.path().join("recovered");
    let out_text = out.to_str().expect("UTF-8");
    let told = history.run_without(&["recover", "s3://history/k", "--version-id", &first.id, "--out", out_text]).await;
    assert!(told.code == Some(0) && std::fs::read(&out).expect("recovered") == first.body, "{told:?}");
    let away = history.folder.path().join("away");
    std::fs::create_dir(&away).expect("folder");
    let told = history.run_without(&["decrypt", "s3://history/hidden", "--to", away.to_str().expect("UTF-8"), "--apply"]).await;
    assert!(told.code == Some(0) && std::fs::read(away.join("hidden")).expect("decrypted") == hidden.body, "{told:?}");

    // A second rotation replaces the records, and moves what is current although its own key is gone.
    let third = || history.without_local().more(&history.keys[1]);
    let args = ["s3://history", "--to", "third", "--versions", "--apply", "--json"];
    let told = run(third().command("rewrap"), &args).await;
    let document = told.json();
    assert_eq!((told.code, &document["stuck"], &document["recorded"]), (Some(0), &0.into(), &4.into()), "{document}");
    assert_eq!((&document["moved"], &document["keys"]["new"]["needed"]), (&6.into(), &false.into()), "{document}");
    assert_eq!(label(&behind, BUCKET, "hidden").await, "third");
    let only = Launch::new(history.site.folder.path(), history.site.store_addr).more(&history.keys[1]).without_local("third");
    let told = run(only.command("verify"), &["s3://history", "--all-versions", "--json"]).await;
    assert_eq!((told.code, &told.json()["good"]), (Some(0), &16.into()), "{told:?}");
    let gateway = only.start();
    for version in old {
        assert!(read(&at(&gateway), version).await == version.body, "{}", version.key);
    }
    let told = run(third().command("reencrypt"), &["s3://history/hidden", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_the_versions_own_opens_nothing() {
    let history = History::start("").await;
    let behind = history.site.behind();
    let first = history.put("k", noise(1000, 1)).await;
    let second = history.put("k", noise(1000, 2)).await;
    let parts = history.put("p", noise((5 << 20) + 1, 3)).await;
    history.put("p", noise(1, 4)).await;
    let told = history.run(&["rewrap", "s3://history", "--to", "new", "--versions", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let gateway = history.without_local().start();
    let now = at(&gateway);
    let bytes = async |version: &Version| {
        let record = behind.get_object().bucket(BUCKET).key(history.record_of(version)).send().await.expect("a record");
        record.body.collect().await.expect("whole").to_vec()
    };
    let keep = async |bytes: Vec<u8>| {
        behind.put_object().bucket(BUCKET).key(history.record_of(&first)).body(bytes.into()).send().await.expect("kept");
    };
    let look = async || now.get_object().bucket(BUCKET).key("k").version_id(&first.id).send().await;
    let (good, other, in_parts) = (bytes(&first).await, bytes(&second).await, bytes(&parts).await);
    let record = |bytes: &[u8]| RewrapRecord::parse(bytes).expect("a record");
    let renamed = |bytes: &[u8]| RewrapRecord { name: name("k", &first.id), ..record(bytes) }.to_bytes().expect("bytes");
    assert_eq!(record(&good).envelope.commit(), history.envelope(&first).await.commit());
    assert_eq!(renamed(&good), good);

    let mut bad = vec![
        ("another version's", other.clone()),
        ("another version's, renamed", renamed(&other)),
        ("of an object in parts, renamed", renamed(&in_parts)),
        ("the version's own envelope", {
            let envelope = history.envelope(&first).await;
            RewrapRecord { name: name("k", &first.id), envelope }.to_bytes().expect("bytes")
        }),
        ("nothing", Vec::new()),
        ("one byte more", [&good[..], b"x"].concat()),
        ("one byte less", good[..good.len() - 1].to_vec()),
        ("far too long", vec![b'x'; 300_000]),
        ("another bucket", {
            let name = VersionName { bucket: "another".to_owned(), ..name("k", &first.id) };
            RewrapRecord { name, ..record(&good) }.to_bytes().expect("bytes")
        }),
    ];
    for at in [0, 5, 7, 8, 20, 60, 100, 130, good.len() - 5] {
        let mut bent = good.clone();
        bent[at] ^= 1;
        bad.push(("bent", bent));
    }
    for (what, bytes) in bad {
        keep(bytes).await;
        let answer = look().await;
        assert_eq!(code(answer), "IntegrityCheckFailed", "{what}");
        assert_eq!(status(look().await), 403, "{what}");
    }
    keep(other.clone()).await;
    let told = history.run_without(&["verify", "s3://history/k", "--all-versions", "--json"]).await;
    assert_eq!((told.code, &told.json()["damaged"]), (Some(3), &1.into()), "{told:?}");
    let told = history.run_without(&["rewrap", "s3://history/k", "--versions", "--json"]).await;
    assert_eq!((told.code, &told.json()["stuck"]), (Some(3), &1.into()), "{told:?}");
    // The version is as readable as ever while its key is there, and a record that is none is replaced.
    let told = history.run(&["rewrap", "s3://history/k", "--to", "new", "--versions", "--apply", "--json"]).await;
    assert_eq!((told.code, &told.json()["recorded"]), (Some(0), &1.into()), "{told:?}");
    assert!(read(&now, &first).await == first.body);

    // Without a record: what it was before there were records.
    behind.delete_object().bucket(BUCKET).key(history.record_of(&first)).send().await.expect("deleted");
    assert_eq!(code(look().await), "IntegrityCheckFailed");
    let told = history.run_without(&["verify", "s3://history/k", "--all-versions", "--json"]).await;
    assert_eq!((told.code, &told.json()["foreign"]), (Some(3), &1.into()), "{told:?}");
    // A store that does not answer is none without a record.
    keep(good).await;
    let busy = Effect::Answer { status: 503, code: "SlowDown".to_owned() };
    history.site.store.faults().inject("GetObject", ".ciphergate/v/", 100, busy);
    assert_eq!(status(look().await), 503);
    history.site.store.faults().clear();
    assert!(read(&now, &first).await == first.body);
    // No client sees a record.
    let record = history.record_of(&first);
    assert_eq!(code(now.get_object().bucket(BUCKET).key(&record).send().await), "AccessDenied");
    assert_eq!(code(now.put_object().bucket(BUCKET).key(&record).body(b"x".to_vec().into()).send().await), "AccessDenied");
    assert_eq!(code(now.delete_object().bucket(BUCKET).key(&record).send().await), "AccessDenied");
    let listed = now.list_object_versions().bucket(BUCKET).send().await.expect("versions");
    assert!(listed.versions().iter().all(|version| !version.key().unwrap_or_default().contains(".ciphergate")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_meanwhile_and_versions_of_before_are_not_forgotten() {
    let history = History::start("").await;
    let listed_last = history.put("raced", noise(1000, 1)).await;
    let slow = history.site.store.faults().inject("HeadObject", "raced", 1, Effect::Delay(Duration::from_secs(2)));
    let rewrap = history.run(&["rewrap", "s3://history/raced", "--to", "new", "--versions", "--apply", "--json"]);
    let written = async {
        crate::kit::wait_until(Duration::from_secs(20), || slow.count() == 1).await;
        history.put("raced", noise(1000, 2)).await
    };
    let (told, written) = tokio::join!(rewrap, written);
    assert_eq!((told.code, &told.json()["stuck"]), (Some(0), &0.into()), "{told:?}");
    let gateway = history.without_local().start();
    for version in [&listed_last, &written] {
        assert!(read(&at(&gateway), version).await == version.body);
    }
    drop(gateway);

    // Versions are suspended: what is current keeps its place, and gets a record.
    let kept = history.put("kept", noise(1000, 3)).await;
    history.versions(BucketVersioningStatus::Suspended).await;
    let null = history.put("null", noise(1000, 4)).await;
    assert_eq!(null.id, "null");
    let told = history.run(&["rewrap", "s3://history", "--to", "new", "--versions", "--apply", "--json"]).await;
    let document = told.json();
    assert_eq!((told.code, &document["stuck"], &document["recorded"]), (Some(0), &0.into(), &1.into()), "{document}");
    assert_eq!((&document["moved"], &document["keys"]["local"]["needed"]), (&1.into(), &false.into()), "{document}");
    let gateway = history.without_local().start();
    assert!(get(&at(&gateway), BUCKET, "kept").await == kept.body && get(&at(&gateway), BUCKET, "null").await == null.body);
    let told = history.run_without(&["verify", "s3://history", "--all-versions"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_removes_the_records_of_versions_that_are_gone() {
    let history = History::start("").await;
    let now = history.site.client();
    let first = history.put("k", noise(1000, 1)).await;
    let second = history.put("k", noise(1000, 2)).await;
    let third = history.put("k", noise(1000, 3)).await;
    let told = history.run(&["rewrap", "s3://history", "--to", "new", "--versions", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    now.create_multipart_upload().bucket(BUCKET).key("under way").send().await.expect("created");
    assert_eq!(history.records().await.len(), 3);
    now.delete_object().bucket(BUCKET).key("k").version_id(&first.id).send().await.expect("deleted");
    // A marker in the way hides no version.
    now.delete_object().bucket(BUCKET).key("k").send().await.expect("a delete marker");

    let gc = async |more: &[&str]| {
        let told = history.run(&[&["gc", "--bucket", BUCKET, "--json"], more].concat()).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        let told = told.json();
        (told["removed"].as_array().expect("a list").len(), told["rewrapped"].as_u64(), told["active"].as_u64(), told)
    };
    let (removed, kept, active, told) = gc(&[]).await;
    assert_eq!((removed, kept, active, &told["young"]), (0, Some(0), Some(0), &4.into()), "{told}");
    let (removed, kept, active, told) = gc(&["--older-than-secs", "0", "--dry-run"]).await;
    assert_eq!((removed, kept, active), (1, Some(2), Some(1)), "{told}");
    assert_eq!(
        (&told["removed"][0]["version_id"], &told["removed"][0]["key"]),
        (&first.id.as_str().into(), &"k".into()),
        "{told}"
    );
    assert_eq!(history.records().await.len(), 3);
    assert_eq!(gc(&["--older-than-secs", "0"]).await.0, 1);
    let mut expected = vec![history.record_of(&second), history.record_of(&third)];
    expected.sort();
    assert_eq!(history.records().await, expected);
    let told = history.run(&["gc", "--bucket", BUCKET, "--older-than-secs", "0"]).await;
    assert!(told.out.contains("rewrap records: removed 0 of versions that are gone; 2 of versions that are there"), "{told:?}");
    let gateway = history.without_local().start();
    for version in [&second, &third] {
        assert!(read(&at(&gateway), version).await == version.body);
    }

    // A bucket that holds nothing but such records is empty for its owner.
    for upload in now.list_multipart_uploads().bucket(BUCKET).send().await.expect("uploads").uploads() {
        let (key, id) = (upload.key().expect("a key"), upload.upload_id().expect("an id"));
        now.abort_multipart_upload().bucket(BUCKET).key(key).upload_id(id).send().await.expect("aborted");
    }
    let listed = now.list_object_versions().bucket(BUCKET).send().await.expect("versions");
    let versions = listed.versions().iter().map(|version| version.version_id());
    for id in versions.chain(listed.delete_markers().iter().map(|marker| marker.version_id())) {
        now.delete_object().bucket(BUCKET).key("k").version_id(id.expect("an id")).send().await.expect("deleted");
    }
    now.delete_bucket().bucket(BUCKET).send().await.expect("the bucket is empty for its owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_lie_in_a_state_bucket_where_there_is_one() {
    let state = "[multipart]\nstate_bucket = \"the-state\"\n";
    let history = History::start(state).await;
    let behind = history.site.behind();
    behind.create_bucket().bucket("the-state").send().await.expect("state bucket");
    let first = history.put("k", noise(1000, 1)).await;
    history.put("k", noise(1000, 2)).await;
    let all = history.with_all().more(state);
    let told = run(all.command("rewrap"), &["s3://history", "--to", "new", "--versions", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let listed = behind.list_objects_v2().bucket("the-state").prefix("v/").send().await.expect("list");
    assert_eq!((listed.contents().len(), history.records().await.len()), (2, 0));
    let gateway = history.without_local().more(state).start();
    assert!(read(&at(&gateway), &first).await == first.body);
    at(&gateway).delete_object().bucket(BUCKET).key("k").version_id(&first.id).send().await.expect("deleted");
    let told = run(all.command("gc"), &["--older-than-secs", "0", "--json"]).await;
    let document = told.json();
    assert_eq!((told.code, document["removed"].as_array().map(Vec::len)), (Some(0), Some(1)), "{document}");
    assert_eq!(document["rewrapped"], 1, "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_when_a_run_died_counts_as_moved() {
    let history = History::start("").await;
    for number in 0..3 {
        history.put(&format!("k{number}"), noise(1000, number)).await;
    }
    let journal = history.folder.path().join("journal");
    let args = ["rewrap", "s3://history", "--to", "new", "--versions", "--apply", "--json", "--resume", "--journal"];
    let args = [&args[..], &[journal.to_str().expect("UTF-8")]].concat();
    let told = history.run(&args).await;
    assert_eq!((told.code, &told.json()["moved"]), (Some(0), &3.into()), "{told:?}");
    // As if it had died before it wrote down what it had done. Meanwhile somebody has written one of the objects.
    let text = std::fs::read_to_string(&journal).expect("a journal");
    let kept = text.lines().filter(|line| !line.contains("\"done\"") && !line.contains("\"mark\""));
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    assert_eq!(kept.matches("\"begun\"").count(), 3, "{text}");
    std::fs::write(&journal, kept).expect("written");
    let gateway = history.without_local().start();
    put(&at(&gateway), BUCKET, "k2", &noise(1000, 9)).await;

    let told = history.run(&args).await;
    let document = told.json();
    assert_eq!((told.code, &document["moved"], &document["failures"]["count"]), (Some(0), &2.into(), &0.into()), "{document}");
    // k2: what was written, and what the move had made.
    assert_eq!((&document["objects"], &document["stayed"]), (&4.into(), &2.into()), "{document}");
    assert_eq!(
        (&document["keys"]["local"]["before"]["objects"], &document["keys"]["local"]["needed"]),
        (&2.into(), &false.into())
    );
}
