//! `ciphergate decrypt`: the way out, into a bucket that holds plaintext and into a folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;

use crate::kit::{Launch, Site, noise, wait_until};

const MORE: &str = "multipart.put_bytes_max = 5242880\n[buckets.\"open\"]\naccess = \"plaintext\"\n";

fn command(site: &Site, args: &[&str]) -> Command {
    let mut command = Launch::new(site.folder.path(), site.store_addr).more(MORE).command("decrypt");
    command.args(args);
    command
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Runs it beside this test's own runtime, on which the store lives.
async fn run(site: &Site, args: &[&str]) -> (Option<i32>, String) {
    let mut command = command(site, args);
    told(&tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("no panic"))
}

async fn site() -> Site {
    let site = Site::start_with(MORE).await;
    for name in ["shut", "other", "open"] {
        site.behind().create_bucket().bucket(name).send().await.expect("bucket");
    }
    site
}

async fn put(site: &Site, key: &str, body: &[u8]) {
    let put = site.client().put_object().bucket("shut").key(key).body(ByteStream::from(body.to_vec()));
    put.content_type("text/x").metadata("n", "m").tagging("t=1").send().await.expect("put");
}

/// Flips a bit of the stored bytes.
async fn damage(site: &Site, key: &str, at: usize) {
    let got = site.behind().get_object().bucket("shut").key(key).send().await.expect("get");
    let (metadata, mut bytes) = (got.metadata().cloned(), got.body.collect().await.expect("whole").to_vec());
    bytes[at] ^= 1;
    let put = site.behind().put_object().bucket("shut").key(key).set_metadata(metadata).body(ByteStream::from(bytes));
    put.send().await.expect("put");
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_goes_into_a_bucket_that_is_meant_for_it_and_no_other() {
    let site = site().await;
    let bodies = [("a/b", noise(100_000, 1)), ("empty", Vec::new()), ("large", noise(12 << 20, 2))];
    for (key, body) in &bodies {
        put(&site, key, body).await;
    }
    for to in ["s3://other", "s3://shut/x", "s3://nowhere"] {
        let (code, said) = run(&site, &["s3://shut", "--to", to, "--apply"]).await;
        assert!(code == Some(2) && said.contains("access = \"plaintext\""), "{said}");
    }
    assert_eq!(run(&site, &["s3://open", "--to", "s3://open", "--apply"]).await.0, Some(2));
    assert_eq!(run(&site, &["s3://shut", "--to", "s3://x", "--apply"]).await.0, Some(2));

    let (code, said) = run(&site, &["s3://shut", "--to", "s3://open/out/"]).await;
    assert_eq!(code, Some(0), "{said}");
    let head = "s3://shut/ to s3://open/out/: 3 objects would be decrypted (12682912 bytes of plaintext)\nnothing was written";
    assert!(said.starts_with(head), "{said}");
    crate::operator::snapshot("decrypt-dry.txt", &said);
    let listed = site.behind().list_objects_v2().bucket("open").send().await.expect("list");
    assert!(listed.contents().is_empty());

    let (code, said) = run(&site, &["s3://shut", "--to", "s3://open/out/", "--apply"]).await;
    assert!(code == Some(0) && said.contains("3 objects decrypted"), "{said}");
    for (key, body) in &bodies {
        let got = site.behind().get_object().bucket("open").key(format!("out/{key}")).send().await.expect("get");
        assert_eq!(got.content_type(), Some("text/x"));
        assert_eq!(got.metadata().expect("metadata").iter().collect::<Vec<_>>(), [(&"n".to_owned(), &"m".to_owned())]);
        assert_eq!(got.tag_count(), Some(1));
        assert!(got.body.collect().await.expect("whole").into_bytes() == *body, "{key}");
    }
    // Once more: all is there. Something else under a name is left alone.
    site.behind().put_object().bucket("open").key("out/empty").body(ByteStream::from_static(b"x")).send().await.expect("put");
    damage(&site, "large", 3 << 20).await;
    site.behind().delete_object().bucket("open").key("out/large").send().await.expect("deleted");
    let (code, said) = run(&site, &["s3://shut", "--to", "s3://open/out/", "--apply"]).await;
    assert_eq!(code, Some(3), "{said}");
    for words in ["0 objects decrypted", "1 there already", "FINDING empty: something else is there", "FINDING large: is damaged"]
    {
        assert!(said.contains(words), "{words} in\n{said}");
    }
    crate::operator::snapshot("decrypt.txt", &said);
    let listed = site.behind().list_objects_v2().bucket("open").send().await.expect("list");
    let sizes: Vec<_> = listed.contents().iter().map(|object| (object.key().unwrap_or(""), object.size().unwrap_or(0))).collect();
    assert_eq!(sizes, [("out/a/b", 100_000), ("out/empty", 1)], "nothing of a damaged object comes into being");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_gets_whole_files_and_no_key_leads_out_of_it() {
    let site = site().await;
    let large = noise(12 << 20, 2);
    for (key, body) in [
        ("a", &b"one"[..]),
        ("a/b", b"two"),
        ("d/e/f", &large),
        ("empty", b""),
        ("folder/", b""),
        ("../escape", b"out"),
        ("x/../../escape", b"out"),
        ("x//y", b"odd"),
        ("hurt", &large),
    ] {
        // Paths with dots in them never leave an SDK as they are; such keys come from elsewhere.
        put(&site, key, body).await;
    }
    damage(&site, "hurt", 9 << 20).await;
    let out = site.folder.path().join("out");
    let to = out.to_str().expect("UTF-8");
    let (code, said) = run(&site, &["s3://shut", "--to", to]).await;
    assert!(code == Some(3) && said.contains("6 objects would be decrypted") && !out.exists(), "{said}");
    let report = site.folder.path().join("findings");
    let args = ["s3://shut", "--to", to, "--apply", "--concurrency", "1", "--report", report.to_str().expect("UTF-8")];
    let (code, said) = run(&site, &args).await;
    assert_eq!(code, Some(3), "{said}");
    for words in [
        "4 objects decrypted",
        "FINDING ../escape: its key is no name of a file",
        "FINDING x/../../escape: its key is no name of a file",
        "FINDING x//y: its key is no name of a file",
        "FINDING a/b: something else is there already",
        "FINDING hurt: is damaged",
    ] {
        assert!(said.contains(words), "{words} in\n{said}");
    }
    assert_eq!(fs::read_to_string(report).expect("report").lines().count(), 5);
    assert_eq!(files(&out), ["a", "d/e/f", "empty"]);
    assert!(out.join("folder").is_dir() && !site.folder.path().join("escape").exists());
    assert!(fs::read(out.join("d/e/f")).expect("read") == large);
    let (code, said) = run(&site, &["s3://shut/d", "--to", to, "--apply"]).await;
    assert!(code == Some(0) && said.contains("1 there already"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_goes_on() {
    let site = site().await;
    for number in 0..40u8 {
        put(&site, &format!("{number:03}"), &noise(200_000, number.into())).await;
    }
    let folder = site.folder.path().join("out");
    for to in [folder.to_str().expect("UTF-8"), "s3://open"] {
        let journal = site.folder.path().join(if to.starts_with("s3") { "bucket" } else { "folder" });
        let args = ["s3://shut", "--to", to, "--apply", "--json", "--journal", journal.to_str().expect("UTF-8")];
        let mut first = command(&site, &args);
        let mut first = first.args(["--objects-per-sec", "30"]).stdout(Stdio::null()).spawn().expect("it runs");
        let done = || fs::read_to_string(&journal).unwrap_or_default().lines().filter(|line| line.contains("\"done\"")).count();
        wait_until(Duration::from_secs(30), || done() >= 10).await;
        // kill -9.
        first.kill().expect("killed");
        first.wait().expect("ended");
        assert!(done() < 40);
        let (code, said) = run(&site, &[&args[..], &["--resume"]].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let of = |what: &str| json["objects"][what].as_u64().unwrap_or(0);
        assert_eq!(of("done") + of("there"), 40, "{json}");
    }
    assert_eq!(files(&folder).len(), 40);
    for number in 0..40u8 {
        let key = format!("{number:03}");
        assert!(fs::read(folder.join(&key)).expect("read") == noise(200_000, number.into()));
        let got = site.behind().get_object().bucket("open").key(&key).send().await.expect("get");
        assert!(got.body.collect().await.expect("whole").into_bytes() == noise(200_000, number.into()));
    }
}
