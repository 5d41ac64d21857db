use std::sync::Arc;

use tokio::task::JoinSet;

use super::wire::{Random, Site, code, noise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_first_writers_one_wins() {
    let site = Arc::new(Site::start().await);
    for round in 0..4_u64 {
        let mut tasks = JoinSet::new();
        for writer in 0..20_u64 {
            let site = Arc::clone(&site);
            tasks.spawn(async move {
                // The small ones are decided in the commit alone, the large ones pass the look before the body, too.
                let content = noise(writer, if round % 2 == 0 { 100 } else { 400_000 });
                let put = site.client.put_object().bucket("box").key(format!("{round}")).body(content.into()).if_none_match("*");
                match put.send().await {
                    Ok(_) => Some(writer),
                    Err(error) => {
                        assert_eq!(code(&error), "PreconditionFailed");
                        None
                    }
                }
            });
        }
        let winners: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let content = site.get(&format!("{round}")).await;
        assert!(content == noise(winners[0], content.len()));
    }
    assert_eq!(site.files(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_with_if_match_loses_nothing() {
    let site = Arc::new(Site::start().await);
    site.put("n", "0").await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let site = Arc::clone(&site);
        tasks.spawn(async move {
            let mut added = 0;
            while added < 10 {
                let object = site.client.get_object().bucket("box").key("n").send().await.unwrap();
                let etag = object.e_tag().unwrap().to_owned();
                let count: u32 = String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap().parse().unwrap();
                let next = (count + 1).to_string().into_bytes();
                let put = site.client.put_object().bucket("box").key("n").body(next.into()).if_match(etag);
                added += u32::from(put.send().await.is_ok());
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(site.get("n").await, b"40");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_never_torn() {
    let site = Arc::new(Site::start().await);
    for key in 0..4 {
        put_marked(&site, key, 999).await;
    }
    let mut tasks = JoinSet::new();
    for writer in 0..8_u64 {
        let site = Arc::clone(&site);
        tasks.spawn(async move {
            for round in 0..12 {
                put_marked(&site, (writer + round) % 4, writer * 100 + round).await;
            }
        });
    }
    for reader in 0..4_u64 {
        let site = Arc::clone(&site);
        tasks.spawn(async move {
            for round in 0..40 {
                let key = format!("{}", (reader + round) % 4);
                let object = site.client.get_object().bucket("box").key(key).send().await.unwrap();
                let seed: u64 = object.metadata().unwrap()["seed"].parse().unwrap();
                let etag = object.e_tag().unwrap().to_owned();
                let content = object.body.collect().await.unwrap().to_vec();
                assert!(content == marked(seed), "body and metadata are of one upload");
                assert_eq!(etag, format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(&content)));
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(site.files(), 4);
}

fn marked(seed: u64) -> Vec<u8> {
    noise(seed, Random(seed + 1).below(900_000) as usize)
}

async fn put_marked(site: &Site, key: u64, seed: u64) {
    let put = site.client.put_object().bucket("box").key(format!("{key}")).metadata("seed", seed.to_string());
    put.body(marked(seed).into()).send().await.unwrap();
}

#[tokio::test]
async fn a_download_ends_with_the_body_it_began() {
    let site = Site::start().await;
    let old = noise(1, 24 * 1024 * 1024);
    site.put("k", old.clone()).await;
    let mut object = site.client.get_object().bucket("box").key("k").send().await.unwrap();
    let mut content = object.body.next().await.unwrap().unwrap().to_vec();
    site.put("k", "new").await;
    assert_eq!(site.files(), 1);
    while let Some(piece) = object.body.next().await {
        content.extend_from_slice(&piece.unwrap());
    }
    assert!(content == old);
    assert_eq!(site.get("k").await, b"new");
}
