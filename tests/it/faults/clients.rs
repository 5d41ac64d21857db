//! Clients that go away, and many at once.

use std::time::Duration;

use super::raw::{Raw, soon};
use crate::kit::{Site, noise, status};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_upload_that_the_client_leaves_is_not_stored() {
    let site = Site::start().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("left").await);
    let (plain, before) = (noise(3_000_000, 1), noise(500, 2));
    client.put_object().bucket(&bucket).key("old").body(before.clone().into()).send().await.unwrap();
    for key in ["new", "old"] {
        // In the middle of a chunk, at the edge of one, and with one byte missing.
        for sent in [0, 100_000, 65_536 * 4, plain.len() - 1] {
            let request = client.put_object().bucket(&bucket).key(key).presigned(soon()).await.unwrap();
            let mut raw = Raw::send(site.gateway.s3, &request, Some(plain.len())).await;
            raw.body(&plain[..sent]).await.unwrap();
            site.gateway.wait_in_flight(1, PATIENCE).await;
            drop(raw);
            site.gateway.wait_in_flight(0, PATIENCE).await;

            // Who only stops sending can still be told.
            let mut raw = Raw::send(site.gateway.s3, &request, Some(plain.len())).await;
            raw.body(&plain[..sent]).await.unwrap();
            raw.half_close().await;
            if let Ok(head) = raw.head().await {
                assert_eq!(head.status, 400, "{key} after {sent} bytes");
            }
            site.gateway.wait_in_flight(0, PATIENCE).await;
        }
    }
    // The store may learn of it a little later than the gateway.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(status(behind.head_object().bucket(&bucket).key("new").send().await), 404);
    let got = client.get_object().bucket(&bucket).key("old").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), before);
}

#[tokio::test]
async fn a_download_that_the_client_leaves_frees_everything() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("abandoned").await);
    client.put_object().bucket(&bucket).key("o").body(noise(32 << 20, 1).into()).send().await.unwrap();
    let request = client.get_object().bucket(&bucket).key("o").presigned(soon()).await.unwrap();
    // Those that may be used again.
    let idle_ones = connections(site.gateway.pid(), site.store_addr.port());
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::send(site.gateway.s3, &request, None).await;
        assert_eq!(raw.head().await.unwrap().status, 200);
        raw.take(100_000).await.unwrap();
        readers.push(raw);
    }
    assert_eq!(site.gateway.in_flight(), 4, "what nobody reads waits");
    assert!(connections(site.gateway.pid(), site.store_addr.port()) >= 4);
    drop(readers);
    site.gateway.wait_in_flight(0, PATIENCE).await;
    // The store's side as well: the connections that carried them are closed, not left half read.
    crate::kit::wait_until(PATIENCE, || connections(site.gateway.pid(), site.store_addr.port()) <= idle_ones).await;
    let log = site.gateway.log_text();
    assert_eq!(log.matches("\"outcome\":\"aborted\"").count(), 4, "{log}");
}

/// Established connections from a process to a port of this machine.
fn connections(pid: u32, port: u16) -> usize {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the table of connections");
    let sockets: std::collections::HashSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the files of the gateway")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let to = format!(":{port:04X}");
    let is_ours = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.len() > 9 && fields[2].ends_with(&to) && fields[3] == "01" && sockets.contains(fields[9])
    };
    table.lines().skip(1).filter(is_ours).count()
}

#[tokio::test]
async fn a_hundred_clients_at_once_get_their_own_bytes() {
    let site = Site::start().await;
    let bucket = site.bucket("hundred").await;
    let client = site.client();
    let tasks = (0..100u64).map(|n| {
        let (client, bucket) = (client.clone(), bucket.clone());
        tokio::spawn(async move {
            let key = format!("object-{n}");
            for round in 0..2 {
                let size = usize::try_from((n * 7919 + round * 104_729) % 300_000).unwrap();
                let plain = noise(size, n * 10 + round);
                client.put_object().bucket(&bucket).key(&key).body(plain.clone().into()).send().await.unwrap();
                let got = client.get_object().bucket(&bucket).key(&key).send().await.unwrap();
                assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain, "{key}");
                if size > 1000 {
                    let got = client.get_object().bucket(&bucket).key(&key).range("bytes=500-").send().await.unwrap();
                    assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain[500..], "{key}");
                }
            }
        })
    });
    for outcome in futures::future::join_all(tasks).await {
        outcome.unwrap();
    }
    site.gateway.wait_in_flight(0, PATIENCE).await;
}
