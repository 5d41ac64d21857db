use std::time::{Duration, Instant};

use ciphergate::store::Effect;

use super::wire::{Site, code, noise};

#[tokio::test]
async fn injected_faults_strike() {
    let site = Site::start().await;
    let faults = site.store.faults();
    let content = noise(1, 1_000_000);
    site.put("dir/k", content.clone()).await;
    let get = || site.client.get_object().bucket("box").key("dir/k").send();

    let hits = faults.inject("GetObject", "dir/", 2, Effect::Answer { status: 503, code: "SlowDown".into() });
    for _ in 0..2 {
        let error = get().await.unwrap_err();
        assert_eq!((code(&error).as_str(), error.raw_response().unwrap().status().as_u16()), ("SlowDown", 503));
    }
    assert_eq!(site.get("dir/k").await.len(), content.len());
    assert_eq!(hits.count(), 2);

    for after in [0, 1, 300_000, 999_999] {
        faults.inject("GetObject", "", 1, Effect::CutDownload { after });
        let mut body = get().await.unwrap().body;
        let mut received = Vec::new();
        let cut = loop {
            match body.next().await {
                Some(Ok(piece)) => received.extend_from_slice(&piece),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(cut, "a cut body never ends well");
        assert!(received.len() as u64 <= after && content.starts_with(&received));
    }

    let pause = Duration::from_millis(300);
    for effect in [Effect::StallDownload { after: 500_000, pause }, Effect::Delay(pause)] {
        faults.inject("*", "dir/", 1, effect);
        let start = Instant::now();
        assert!(site.get("dir/k").await == content);
        assert!(start.elapsed() >= pause);
    }

    // With the last byte: an answer to one who still sends may be lost in the reset that follows it.
    let after = content.len() as u64;
    faults.inject("PutObject", "dir/", 1, Effect::FailUpload { after, status: 500, code: "InternalError".into() });
    let put = || site.client.put_object().bucket("box").key("dir/new").body(content.clone().into()).send();
    assert_eq!(code(&put().await.unwrap_err()), "InternalError");
    assert_eq!(site.keys().await, ["dir/k"]);
    faults.inject("PutObject", "dir/", 1, Effect::StallUpload { after: 500_000, pause });
    let start = Instant::now();
    put().await.unwrap();
    assert!(start.elapsed() >= pause);
    assert!(site.get("dir/new").await == content);
    assert_eq!(site.files(), 2);
}
