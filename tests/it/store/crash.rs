//! What a death at any moment leaves behind.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::CompletedPart;
use ciphergate::store::{Error, Options, Store};
use tokio::task::JoinSet;

use super::multipart::named;
use super::wire::{PAIR, Random, Site, client, files, noise, start};

/// Names the data folder to the child process below.
const CHILD: &str = "CIPHERGATE_TEST_STORE_CHILD";

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = Store::open(folder.as_ref(), Options::default()).unwrap();
    let running = start(&store);
    println!("\nlistening {}", running.addr());
    loop {
        std::thread::park();
    }
}

/// What the writer of a key knows about it, by the seed of the content.
#[derive(Clone, Default)]
struct Known {
    acknowledged: Option<u64>,
    /// May have been stored or not.
    under_way: Option<u64>,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(folder: &std::path::Path) -> (Process, std::net::SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::crash::child", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process(child);
    let addr = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening ")?.parse().ok());
    (process, addr.expect("the child listens"))
}

/// An upload in parts, of which the first is replaced; `None` when the process died under it.
async fn in_parts(client: &Client, key: &str, content: Vec<u8>) -> Option<()> {
    let upload = client.create_multipart_upload().bucket("box").key(key).send().await.ok()?.upload_id?;
    let mut etag = None;
    for body in [noise(1, 1000), content] {
        let part = client.upload_part().bucket("box").key(key).upload_id(&upload).part_number(1).body(body.into());
        etag = part.send().await.ok()?.e_tag;
    }
    let part = CompletedPart::builder().part_number(1).set_e_tag(etag).build();
    let complete = client.complete_multipart_upload().bucket("box").key(key).upload_id(upload);
    complete.multipart_upload(named(&[part])).send().await.ok()?;
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_objects_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let known = Arc::new(Mutex::new(vec![Known::default(); 8]));
    for round in 0..3_u64 {
        let (mut process, addr) = spawn(folder.path());
        if round == 0 {
            client(addr, PAIR).create_bucket().bucket("box").send().await.unwrap();
        }
        let mut tasks = JoinSet::new();
        for key in 0..8_usize {
            let known = Arc::clone(&known);
            tasks.spawn(async move {
                let client = client(addr, PAIR);
                for attempt in 0.. {
                    let seed = round * 1_000_000 + key as u64 * 10_000 + attempt;
                    known.lock().unwrap()[key].under_way = Some(seed);
                    let content = noise(seed, Random(seed + 1).below(600_000) as usize);
                    let done = if key % 2 == 0 {
                        client.put_object().bucket("box").key(key.to_string()).body(content.into()).send().await.is_ok()
                    } else {
                        in_parts(&client, &key.to_string(), content).await.is_some()
                    };
                    if !done {
                        return;
                    }
                    known.lock().unwrap()[key] = Known { acknowledged: Some(seed), under_way: None };
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(400 + 150 * round)).await;
        process.0.kill().unwrap();
        process.0.wait().unwrap();
        tasks.join_all().await;
    }

    let store = Store::open(folder.path(), Options::default()).unwrap();
    let running = start(&store);
    let client = client(running.addr(), PAIR);
    let mut objects = 0;
    let known = known.lock().unwrap().clone();
    for (key, Known { acknowledged, under_way }) in known.into_iter().enumerate() {
        let object = match client.get_object().bucket("box").key(key.to_string()).send().await {
            Ok(object) => object.body.collect().await.unwrap().to_vec(),
            Err(_) => {
                assert_eq!(acknowledged, None, "an acknowledged object is lost");
                continue;
            }
        };
        objects += 1;
        let is = |seed: Option<u64>| seed.is_some_and(|seed| object == noise(seed, Random(seed + 1).below(600_000) as usize));
        assert!(is(acknowledged) || is(under_way), "object {key} is torn or older than what was acknowledged");
    }
    assert!(objects > 0);
    let uploads = client.list_multipart_uploads().bucket("box").send().await.unwrap();
    for upload in uploads.uploads() {
        let abort = client.abort_multipart_upload().bucket("box").key(upload.key().unwrap());
        abort.upload_id(upload.upload_id().unwrap()).send().await.unwrap();
    }
    assert_eq!(files(folder.path()), objects, "files that no object needs are gone");
}

#[tokio::test]
async fn a_store_that_is_dropped_opens_again() {
    let Site { client: _, store, running, folder } = {
        let site = Site::start().await;
        site.put("k", "kept").await;
        site.put("l", noise(1, 400_000)).await;
        site
    };
    assert!(matches!(Store::open(folder.path(), Options::default()), Err(Error::InUse(_))));
    drop(running);
    drop(store);
    // What a death between two steps leaves: a body under way, and one that was published but never committed.
    let bodies = folder.path().join("bodies");
    std::fs::write(bodies.join("ab/ab000000000000000000000000000000.tmp"), b"half").unwrap();
    std::fs::write(bodies.join("cd/cd000000000000000000000000000000"), b"never committed").unwrap();
    assert_eq!(files(folder.path()), 4);

    let store = Store::open(folder.path(), Options { fsync: true }).unwrap();
    assert_eq!(files(folder.path()), 2);
    let running = start(&store);
    let client = client(running.addr(), PAIR);
    let object = client.get_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), b"kept");
    client.put_object().bucket("box").key("m").body(noise(2, 300_000).into()).send().await.unwrap();

    // A body that somebody took away is an error, not an empty object.
    for folder in std::fs::read_dir(&bodies).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), b"?").unwrap();
        }
    }
    let error = client.get_object().bucket("box").key("k").send().await.unwrap_err();
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_lets_transfers_end() {
    let site = Site::start().await;
    let content = noise(1, 32 * 1024 * 1024);
    site.put("k", content.clone()).await;
    let mut object = site.client.get_object().bucket("box").key("k").send().await.unwrap();
    let mut received = object.body.next().await.unwrap().unwrap().to_vec();
    let Site { client, store, running, folder } = site;
    let stopped = tokio::task::spawn_blocking(move || running.shutdown());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(client.list_buckets().send().await.is_err(), "no new requests");
    while let Some(piece) = object.body.next().await {
        received.extend_from_slice(&piece.unwrap());
    }
    assert!(received == content);
    stopped.await.unwrap();
    drop(store);
    Store::open(folder.path(), Options::default()).unwrap();
}
