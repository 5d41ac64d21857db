//! Gateways that come in pairs, die, stop, or hold the wrong keyring.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::raw::{Raw, soon};
use crate::kit::{self, CLIENT, Launch, Site, client, code, noise, status, wait_until};

#[tokio::test]
async fn two_gateways_with_one_keyring_read_each_other() {
    let site = Site::start().await;
    let second = Launch::new(site.folder.path(), site.store_addr).set("CIPHERGATE_ENCRYPTION__MODE", "shared").start();
    let (one, two, bucket) = (site.client(), client(second.s3, CLIENT), site.bucket("pair").await);
    for (writer, reader, key) in [(&one, &two, "from one"), (&two, &one, "from two")] {
        let plain = noise(200_000, key.len() as u64);
        writer.put_object().bucket(&bucket).key(key).body(plain.clone().into()).send().await.unwrap();
        for _ in 0..2 {
            let got = reader.get_object().bucket(&bucket).key(key).send().await.unwrap();
            assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain);
        }
    }
    // An overwrite by the other one is seen at once, whatever is cached.
    one.put_object().bucket(&bucket).key("from two").body(noise(50, 1).into()).send().await.unwrap();
    let got = two.get_object().bucket(&bucket).key("from two").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), noise(50, 1));
}

#[tokio::test]
async fn with_another_keyring_nothing_opens() {
    let site = Site::start().await;
    let bucket = site.bucket("foreign").await;
    let plain = noise(200_000, 1);
    site.client().put_object().bucket(&bucket).key("o").body(plain.into()).send().await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    // The same label, other keys.
    let stranger = Launch::new(elsewhere.path(), site.store_addr).start();
    let strange = client(stranger.s3, CLIENT);
    let get = || strange.get_object().bucket(&bucket).key("o");
    for request in [get(), get().range("bytes=0-9"), get().range("bytes=-5"), get().range("bytes=150000-")] {
        let refused = request.send().await.unwrap_err();
        assert_eq!(refused.raw_response().unwrap().status().as_u16(), 403);
        assert_eq!(code::<(), _, _>(Err(refused)), "IntegrityCheckFailed");
    }
    assert!(stranger.log_text().contains("incorrect_key"));
    let (_, metrics) = stranger.probe("/metrics").unwrap();
    assert!(metrics.contains("ciphergate_integrity_failures_total 4"), "{metrics}");
}

#[tokio::test]
async fn a_killed_gateway_leaves_whole_objects_only() {
    let mut site = Site::start().await;
    let bucket = site.bucket("killed").await;
    let plain = |n: u64| noise(700_000 + 1000 * usize::try_from(n).unwrap(), n);
    let (dead, through) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = site.client();
    let writers = (0..6u64).map(|writer| {
        let (client, bucket, dead, through) = (client.clone(), bucket.clone(), dead.clone(), through.clone());
        tokio::spawn(async move {
            let mut stored = Vec::new();
            for n in (writer * 100)..(writer * 100 + 100) {
                let put = client.put_object().bucket(&bucket).key(format!("{n}")).body(plain(n).into()).send().await;
                match put {
                    Ok(_) => {
                        stored.push(n);
                        through.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) if dead.load(Ordering::Relaxed) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
            stored
        })
    });
    let writers: Vec<_> = writers.collect();
    // One that is certainly in the middle.
    let request = client.put_object().bucket(&bucket).key("middle").presigned(soon()).await.unwrap();
    let mut raw = Raw::send(site.gateway.s3, &request, Some(1_000_000)).await;
    raw.body(&noise(900_000, 1)).await.unwrap();
    wait_until(Duration::from_secs(20), || through.load(Ordering::Relaxed) >= 10).await;
    dead.store(true, Ordering::Relaxed);
    site.gateway.kill();
    let mut stored = Vec::new();
    for writer in writers {
        stored.extend(writer.await.unwrap());
    }

    let again = Launch::new(site.folder.path(), site.store_addr).start();
    let reader = kit::client(again.s3, CLIENT);
    assert_eq!(status(site.behind().head_object().bucket(&bucket).key("middle").send().await), 404);
    let listed = reader.list_objects_v2().bucket(&bucket).send().await.unwrap();
    let mut there: Vec<u64> = listed.contents().iter().map(|object| object.key().unwrap().parse().unwrap()).collect();
    for n in &there {
        let got = reader.get_object().bucket(&bucket).key(n.to_string()).send().await.unwrap();
        assert!(got.body.collect().await.unwrap().into_bytes() == plain(*n), "object {n}");
    }
    there.retain(|n| stored.contains(n));
    assert!(!there.is_empty(), "some uploads were through");
    assert_eq!(there.len(), stored.len(), "what was answered is there");
}

#[tokio::test]
async fn running_transfers_end_before_a_stop() {
    let mut site = Site::start().await;
    site.gateway.wait_ready().await;
    let (client, bucket) = (site.client(), site.bucket("stop").await);
    let (large, small) = (noise(24 << 20, 1), noise(400_000, 2));
    client.put_object().bucket(&bucket).key("down").body(large.clone().into()).send().await.unwrap();
    let down = client.get_object().bucket(&bucket).key("down").presigned(soon()).await.unwrap();
    let up = client.put_object().bucket(&bucket).key("up").presigned(soon()).await.unwrap();
    // Its connections would be idle ones; those have a test of their own.
    drop(client);
    let (mut down, mut up) =
        (Raw::send(site.gateway.s3, &down, None).await, Raw::send(site.gateway.s3, &up, Some(small.len())).await);
    assert_eq!(down.head().await.unwrap().status, 200);
    let mut got = down.take(100_000).await.unwrap();
    up.body(&small[..100_000]).await.unwrap();
    site.gateway.wait_in_flight(2, Duration::from_secs(5)).await;

    site.gateway.ask_to_stop();
    wait_until(Duration::from_secs(2), || site.gateway.probe("/readyz").is_ok_and(|(status, _)| status == 503)).await;
    assert_eq!(site.gateway.ended(), None);
    // No new connections.
    wait_until(Duration::from_secs(2), || TcpStream::connect(site.gateway.s3).is_err()).await;
    for piece in small[100_000..].chunks(100_000) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        up.body(piece).await.unwrap();
        got.extend(down.take(1_000_000).await.unwrap());
    }
    assert_eq!(up.head().await.unwrap().status, 200);
    got.extend(down.take(large.len() - got.len()).await.unwrap());
    assert!(got == large, "{} of {} bytes", got.len(), large.len());
    drop((up, down));
    let finished = Instant::now();
    wait_until(Duration::from_secs(8), || site.gateway.ended().is_some()).await;
    assert_eq!(site.gateway.ended().and_then(|status| status.code()), Some(0), "{}", site.gateway.log_text());
    assert!(finished.elapsed() < Duration::from_secs(3), "{:?}", finished.elapsed());
    let stored = site.behind().head_object().bucket(&bucket).key("up").send().await.unwrap();
    let sealed = ciphergate::format::PlainLen::new(small.len() as u64).unwrap().sealed().get();
    assert_eq!(stored.content_length(), i64::try_from(sealed).ok());
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_a_stop() {
    let mut site = Site::start().await;
    let client = site.client();
    client.list_buckets().send().await.unwrap();
    let asked = Instant::now();
    let ended = site.gateway.terminate();
    assert_eq!(ended.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}
