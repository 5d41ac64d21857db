use std::time::Duration;

use aws_sdk_s3::Client;
use ciphergate::store::Effect;

use super::{TwoKeys, put, put_parts, snapshot};
use crate::kit::noise;

/// Changes one stored byte, and nothing beside.
async fn flip(behind: &Client, bucket: &str, key: &str, at: usize) {
    let got = behind.get_object().bucket(bucket).key(key).send().await.expect("get");
    let metadata = got.metadata().cloned();
    let mut body = got.body.collect().await.expect("whole").to_vec();
    body[at] ^= 1;
    behind.put_object().bucket(bucket).key(key).set_metadata(metadata).body(body.into()).send().await.expect("put");
}

async fn spoiled() -> TwoKeys {
    let two = TwoKeys::start().await;
    let (client, behind, bucket) = (two.site.client(), two.site.behind(), two.site.bucket("verified").await);
    for (key, size) in
        [("good-empty", 0), ("good-one", 1), ("good-large", 400_000), ("bit", 400_000), ("moved-from", 1000), ("end", 70_000)]
    {
        put(&client, &bucket, key, &noise(size, 1)).await;
    }
    put_parts(&client, &bucket, "good-parts", &noise(6 << 20, 2)).await;
    flip(&behind, &bucket, "bit", 200_000).await;
    flip(&behind, &bucket, "end", 70_100).await;
    let moved = behind.copy_object().bucket(&bucket).key("moved-to").copy_source(format!("{bucket}/moved-from"));
    moved.send().await.expect("copy");
    put(&behind, &bucket, "plain", b"hello").await;
    let sealed = behind.get_object().bucket(&bucket).key("good-one").send().await.expect("get").body.collect().await;
    put(&behind, &bucket, "stripped", &sealed.expect("whole").into_bytes()).await;
    let key = [7; 32];
    let own = client.put_object().bucket(&bucket).key("own-key").body(noise(10, 1).into()).sse_customer_algorithm("AES256");
    let own = own.sse_customer_key(data_encoding::BASE64.encode(&key));
    own.sse_customer_key_md5(data_encoding::BASE64.encode(&<md5::Md5 as md5::Digest>::digest(key))).send().await.expect("put");
    two
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_what_is_wrong_with_what() {
    let two = spoiled().await;
    let report = two.path("report");
    let report = report.to_str().expect("UTF-8");
    let told = two.run(&["verify", "s3://verified", "--report", report]).await;
    assert_eq!((told.code, told.err.as_str()), (Some(3), ""), "{told:?}");
    snapshot("verify.txt", &told.out);
    let lines = std::fs::read_to_string(report).expect("report");
    let mut keys: Vec<String> = lines
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            format!("{} {}", line["class"].as_str().expect("a class"), line["key"].as_str().expect("a key"))
        })
        .collect();
    keys.sort();
    assert_eq!(keys, ["damaged bit", "damaged end", "damaged stripped", "foreign moved-to", "plaintext plain"]);

    let told = two.run(&["verify", "s3://verified/good-", "--json", "--concurrency", "1"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    snapshot("verify-good.json", &told.out);
    // What is altered between the first chunk and the last goes unseen.
    let told = two.run(&["verify", "s3://verified/bit", "--quick"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let told = two.run(&["verify", "s3://verified/end", "--quick"]).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    let told = two.run(&["verify", "s3://verified", "--sample", "4", "--json"]).await;
    assert_eq!(told.json()["objects"], 4, "{told:?}");
    assert_eq!(
        two.run(&["verify", "s3://verified", "--sample", "4", "--json"]).await.json()["findings"],
        told.json()["findings"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_no_damage_and_a_later_run_goes_on() {
    let two = spoiled().await;
    let journal = two.path("journal");
    let journal = journal.to_str().expect("UTF-8");
    let faults = two.site.store.faults();
    faults.inject("GetObject", "good-l", u64::MAX, Effect::Answer { status: 503, code: "SlowDown".into() });
    faults.inject("GetObject", "good-p", u64::MAX, Effect::CutDownload { after: 1_000_000 });
    let args = ["verify", "s3://verified", "--patience-secs", "1", "--journal", journal, "--json"];
    let told = two.run(&args).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    let document = told.json();
    assert_eq!((&document["failures"]["count"], &document["damaged"]), (&2.into(), &3.into()), "{document}");
    assert_eq!((&document["ended"], &document["good"]), (&"failed".into(), &3.into()), "{document}");

    // Without --resume it is not gone on with, and another command's never is.
    assert_eq!(two.run(&args).await.code, Some(2));
    let other = ["verify", "s3://verified/good", "--journal", journal, "--resume"];
    let told = two.run(&other).await;
    assert!(told.code == Some(2) && told.err.contains("another run"), "{told:?}");

    faults.clear();
    let told = two.run(&[&args[..], &["--resume"]].concat()).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    let document = told.json();
    assert_eq!((&document["ended"], &document["good"], &document["objects"]), (&"complete".into(), &5.into(), &11.into()));
    assert_eq!((&document["damaged"], &document["customer_key"], &document["resumed"]), (&3.into(), &1.into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_stop_finishes_what_is_under_way_and_can_go_on() {
    let two = TwoKeys::start().await;
    let (client, bucket) = (two.site.client(), two.site.bucket("stopped").await);
    for number in 0..60 {
        put(&client, &bucket, &format!("k{number}"), &noise(100, number)).await;
    }
    let journal = two.path("journal");
    let mut command = two.launch().command("verify");
    command.args(["s3://stopped", "--objects-per-sec", "20", "--json", "--journal"]).arg(&journal);
    let child = command.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let pid = child.id().to_string();
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let lines = || std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
    crate::kit::wait_until(Duration::from_secs(20), || lines() > 10).await;
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    let ended = waiting.await.expect("no panic").expect("it ends");
    assert_eq!(ended.status.code(), Some(4));
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!(document["ended"], "interrupted");
    let before = document["objects"].as_u64().expect("a number");
    assert!((10..60).contains(&before), "{document}");
    let journal = journal.to_str().expect("UTF-8");
    let told = two.run(&["verify", "s3://stopped", "--json", "--resume", "--journal", journal]).await;
    assert_eq!((told.code, &told.json()["good"]), (Some(0), &60.into()), "{told:?}");
    // Nothing was looked at twice.
    assert_eq!(told.json()["key_calls"]["unwrap"], 60 - before);
}
