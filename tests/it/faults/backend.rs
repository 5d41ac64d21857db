//! A store that cuts, stalls and refuses.

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use ciphergate::store::Effect;

use super::raw::{Raw, soon};
use crate::kit::{Site, code, noise, status};

const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);

fn answer(status: u16, code: &str) -> Effect {
    Effect::Answer { status, code: code.to_owned() }
}

async fn put(client: &Client, bucket: &str, key: &str, body: Vec<u8>) {
    client.put_object().bucket(bucket).key(key).body(body.into()).send().await.unwrap();
}

#[tokio::test]
async fn a_download_that_the_store_cuts_never_looks_whole() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("cuts").await);
    let plain = noise(1_000_000, 1);
    put(&client, &bucket, "o", plain.clone()).await;
    let sealed = ciphergate::format::PlainLen::new(plain.len() as u64).unwrap().sealed().get();
    let get = || client.get_object().bucket(&bucket).key("o");

    for after in [70_000, 300_000, 65_552 * 15, sealed - 240, sealed - 1] {
        let hits = site.store.faults().inject("GetObject", "o", 1, Effect::CutDownload { after });
        let request = get().presigned(soon()).await.unwrap();
        let mut raw = Raw::send(site.gateway.s3, &request, None).await;
        let head = raw.head().await.unwrap();
        assert_eq!((head.status, head.length()), (200, plain.len()));
        let got = raw.take(plain.len()).await.unwrap_or_default();
        assert!(got.len() < plain.len(), "cut after {after}: {} bytes came", got.len());
        assert_eq!(got, plain[..got.len()]);
        assert_eq!(hits.count(), 1);
        // And in the eyes of an SDK.
        site.store.faults().inject("GetObject", "o", 1, Effect::CutDownload { after });
        assert!(get().send().await.unwrap().body.collect().await.is_err(), "cut after {after}");
    }
    // A range of several chunks that breaks off in its last one.
    site.store.faults().inject("GetObject", "o", 1, Effect::CutDownload { after: 150_000 });
    assert!(get().range("bytes=100000-299999").send().await.unwrap().body.collect().await.is_err());
    // Before the first chunk is there, it is an error like others.
    for after in [0, 1, 65_551] {
        site.store.faults().inject("GetObject", "o", 1, Effect::CutDownload { after });
        let refused = get().send().await;
        assert_eq!(code(refused), "ServiceUnavailable", "cut after {after}");
    }
    // So is any cut of an object that fits into one chunk.
    put(&client, &bucket, "small", noise(1000, 2)).await;
    for after in [500, 1000 + 16, 1000 + 239] {
        site.store.faults().inject("GetObject", "small", 1, Effect::CutDownload { after });
        let outcome = client.get_object().bucket(&bucket).key("small").send().await;
        assert_eq!(code(outcome), "ServiceUnavailable", "cut after {after}");
    }
    site.gateway.wait_in_flight(0, PATIENCE).await;
    assert_eq!(get().send().await.unwrap().body.collect().await.unwrap().into_bytes(), plain);
}

#[tokio::test]
async fn a_store_that_stalls_is_given_up() {
    let site = Site::launch(|launch| {
        launch.set("CIPHERGATE_BACKEND__IDLE_BODY_TIMEOUT_SECS", "1").set("CIPHERGATE_BACKEND__RESPONSE_TIMEOUT_SECS", "1")
    })
    .await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("stalls").await);
    let plain = noise(1_000_000, 1);
    for key in ["body", "head", "short"] {
        put(&client, &bucket, key, plain.clone()).await;
    }
    let faults = site.store.faults();
    let started = Instant::now();

    faults.inject("GetObject", "body", 1, Effect::StallDownload { after: 300_000, pause: LONG });
    let body_stalls = async {
        let got = client.get_object().bucket(&bucket).key("body").send().await.unwrap();
        assert!(got.body.collect().await.is_err());
    };
    let no_answer = faults.inject("GetObject", "head", u64::MAX, Effect::Delay(LONG));
    let answer_stalls = async {
        assert_eq!(code(client.get_object().bucket(&bucket).key("head").send().await), "ServiceUnavailable");
        assert_eq!(no_answer.count(), 3, "a request without a body is tried again");
    };
    // 24 MiB: more than all the buffers on the way.
    let taking = faults.inject("PutObject", "taking", 1, Effect::StallUpload { after: 300_000, pause: LONG });
    let upload_stalls = async {
        let refused = client.put_object().bucket(&bucket).key("taking").body(noise(24 << 20, 2).into()).send().await;
        assert_eq!(code(refused), "ServiceUnavailable");
        assert_eq!(taking.count(), 1, "an upload is never tried again");
    };
    let after_upload = faults.inject("PutObject", "after", 1, Effect::Delay(LONG));
    let upload_unanswered = async {
        let refused = client.put_object().bucket(&bucket).key("after").body(noise(1000, 2).into()).send().await;
        assert_eq!(code(refused), "ServiceUnavailable");
        assert_eq!(after_upload.count(), 1);
    };
    // A pause shorter than the limit is none.
    faults.inject("GetObject", "short", 1, Effect::StallDownload { after: 300_000, pause: Duration::from_millis(400) });
    let pause = async {
        let got = client.get_object().bucket(&bucket).key("short").send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain);
    };
    tokio::join!(body_stalls, answer_stalls, upload_stalls, upload_unanswered, pause);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    site.gateway.wait_in_flight(0, PATIENCE).await;
    faults.clear();
    for key in ["taking", "after"] {
        assert_eq!(status(behind.head_object().bucket(&bucket).key(key).send().await), 404, "{key}");
    }
}

#[tokio::test]
async fn a_slow_client_is_not_taken_for_a_stalled_store() {
    let site = Site::launch(|launch| {
        launch.set("CIPHERGATE_BACKEND__IDLE_BODY_TIMEOUT_SECS", "1").set("CIPHERGATE_BACKEND__RESPONSE_TIMEOUT_SECS", "1")
    })
    .await;
    let (client, bucket) = (site.client(), site.bucket("slow").await);
    let plain = noise(400_000, 1);
    let request = client.put_object().bucket(&bucket).key("up").presigned(soon()).await.unwrap();
    let mut raw = Raw::send(site.gateway.s3, &request, Some(plain.len())).await;
    for piece in plain.chunks(100_000) {
        raw.body(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    assert_eq!(raw.head().await.unwrap().status, 200);

    let large = noise(24 << 20, 2);
    put(&client, &bucket, "down", large.clone()).await;
    let request = client.get_object().bucket(&bucket).key("down").presigned(soon()).await.unwrap();
    let mut raw = Raw::send(site.gateway.s3, &request, None).await;
    assert_eq!(raw.head().await.unwrap().status, 200);
    let mut got = raw.take(1000).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    got.extend(raw.take(large.len() - 1000).await.unwrap());
    assert!(got == large, "{} of {} bytes", got.len(), large.len());
    let got = client.get_object().bucket(&bucket).key("up").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain);
}

#[tokio::test]
async fn refusals_of_the_store_keep_their_meaning_and_only_bodyless_requests_are_repeated() {
    let site = Site::start().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("refusals").await);
    let faults = site.store.faults();
    let plain = noise(100_000, 1);
    for key in ["get", "head", "once", "gone", "denied", "delete"] {
        put(&client, &bucket, key, plain.clone()).await;
    }
    let always =
        |operation: &str, key: &str, status: u16, code: &str| faults.inject(operation, key, u64::MAX, answer(status, code));
    let get = |key: &str| client.get_object().bucket(&bucket).key(key).send();

    let uploads = async {
        for (number, error) in [(500, "InternalError"), (503, "SlowDown"), (503, "ServiceUnavailable"), (403, "AccessDenied")] {
            let hits = faults.inject("PutObject", "put", 1, answer(number, error));
            let refused = client.put_object().bucket(&bucket).key("put").body(plain.clone().into()).send().await.unwrap_err();
            assert_eq!(refused.raw_response().unwrap().status().as_u16(), number);
            assert_eq!(code::<(), _, _>(Err(refused)), error);
            assert_eq!(hits.count(), 1);
            assert_eq!(status(behind.head_object().bucket(&bucket).key("put").send().await), 404);
        }
    };
    let hits = always("GetObject", "get", 500, "InternalError");
    let gets = async {
        assert_eq!(code(get("get").await), "InternalError");
        assert_eq!(hits.count(), 3);
    };
    let hits = always("HeadObject", "head", 503, "SlowDown");
    let heads = async {
        assert_eq!(status(client.head_object().bucket(&bucket).key("head").send().await), 503);
        assert_eq!(hits.count(), 3);
    };
    let hits = faults.inject("GetObject", "once", 2, answer(503, "SlowDown"));
    let recovers = async {
        assert_eq!(get("once").await.unwrap().body.collect().await.unwrap().into_bytes(), plain);
        assert_eq!(hits.count(), 2);
    };
    let hits = always("ListObjectsV2", "", 503, "SlowDown");
    let listings = async {
        assert_eq!(code(client.list_objects_v2().bucket(&bucket).send().await), "SlowDown");
        assert_eq!(hits.count(), 3);
    };
    let hits = always("GetObject", "gone", 404, "NoSuchKey");
    let denied = always("GetObject", "denied", 403, "AccessDenied");
    let permanent = async {
        assert_eq!(code(get("gone").await), "NoSuchKey");
        assert_eq!(code(get("denied").await), "AccessDenied");
        assert_eq!((hits.count(), denied.count()), (1, 1), "a permanent answer is not asked for again");
    };
    // Codes about the gateway's own credentials are nobody else's business.
    let hits = always("DeleteObject", "delete", 403, "InvalidAccessKeyId");
    let ours = async {
        assert_eq!(code(client.delete_object().bucket(&bucket).key("delete").send().await), "InternalError");
        assert_eq!(hits.count(), 1);
    };
    tokio::join!(uploads, gets, heads, recovers, listings, permanent, ours);
    faults.clear();
    assert_eq!(client.list_objects_v2().bucket(&bucket).send().await.unwrap().contents().len(), 6);
}

#[tokio::test]
async fn an_upload_that_the_store_fails_half_way_leaves_what_was_there() {
    let site = Site::start().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("halfway").await);
    let before = noise(1000, 9);
    put(&client, &bucket, "old", before.clone()).await;
    for (key, after) in [("new", 0), ("new", 1 << 20), ("old", 1 << 20), ("old", 8 << 20)] {
        let fault = Effect::FailUpload { after, status: 503, code: "SlowDown".to_owned() };
        let hits = site.store.faults().inject("PutObject", key, 1, fault);
        let refused = client.put_object().bucket(&bucket).key(key).body(noise(8 << 20, 1).into()).send().await;
        assert_eq!(code(refused), "SlowDown", "{key} after {after}");
        assert_eq!(hits.count(), 1);
    }
    assert_eq!(status(behind.head_object().bucket(&bucket).key("new").send().await), 404);
    let got = client.get_object().bucket(&bucket).key("old").send().await.unwrap();
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), before);
    site.gateway.wait_in_flight(0, PATIENCE).await;
}
