//! Instances behind a round-robin proxy, killed and started again while uploads run: whatever was acknowledged is exact, and nothing
//! stays behind. The long run is `tests/run chaos`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::CompletedPart;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{CLIENT, client, noise};

use super::site::{LEAST, Site, Upload};

/// How long anything may take that is tried again and again.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_few_uploads_survive() {
    run(Site::over_localstack("", 2).await, 16, 6, 1).await;
    run(Site::over_embedded("", 2).await, 16, 6, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes and gigabytes: tests/run chaos"]
async fn two_hundred_uploads_survive() {
    run(Site::over_localstack("", 3).await, 200, 200, 3).await;
    run(Site::over_embedded("", 3).await, 200, 200, 4).await;
}

/// Chance that can be repeated.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }
}

async fn run(mut site: Site, uploads: usize, at_once: usize, seed: u64) {
    let proxy = proxy(site.gateways.iter().map(|gateway| gateway.s3).collect()).await;
    let client = client(proxy, CLIENT);
    let bucket = site.bucket.clone();
    let tally = Arc::new(Tally::default());
    let done = Arc::new(AtomicBool::new(false));

    let work = {
        let (client, bucket, tally, done) = (client.clone(), bucket.clone(), tally.clone(), done.clone());
        tokio::spawn(async move {
            let mut running = FuturesUnordered::new();
            for at in 0..uploads {
                if running.len() == at_once {
                    running.next().await;
                }
                running.push(one(client.clone(), bucket.clone(), at, Dice::new(seed * 1_000_003 + at as u64), tally.clone()));
            }
            while running.next().await.is_some() {}
            done.store(true, Ordering::Release);
        })
    };
    let mut dice = Dice::new(seed);
    let mut kills = 0;
    while !done.load(Ordering::Acquire) && !work.is_finished() {
        // The more there is to do at once, the longer a part takes, and an instance has to live for one now and then.
        let pause = Duration::from_millis(150 + dice.below(700) as u64);
        tokio::time::sleep(pause * u32::try_from(at_once.div_ceil(24)).expect("few")).await;
        let victim = dice.below(site.gateways.len());
        site.replace(victim);
        kills += 1;
    }
    work.await.expect("every upload ended as it should");
    assert!(kills > 0, "nobody was killed");
    let (completed, aborted) = (tally.completed.load(Ordering::Relaxed), tally.aborted.load(Ordering::Relaxed));
    assert_eq!(completed + aborted, uploads as u64);
    assert!(completed > 0 && aborted > 0, "{completed} completed, {aborted} aborted");

    // Whose creation was answered by a dead instance knows nothing of its upload.
    let mut lost = 0;
    loop {
        let listed = client.list_multipart_uploads().bucket(&bucket).send().await.expect("uploads");
        for upload in listed.uploads() {
            lost += 1;
            let abort = client.abort_multipart_upload().bucket(&bucket).key(upload.key().unwrap());
            abort.upload_id(upload.upload_id().unwrap()).send().await.expect("abort");
        }
        if listed.is_truncated() != Some(true) {
            break;
        }
    }
    println!(
        "{completed} completed, {aborted} aborted, {lost} lost, {kills} kills, {} requests again",
        tally.again.load(Ordering::Relaxed)
    );
    let (exit, told) = site.run("gc", &["--older-than-secs", "0", "--bucket", &bucket]);
    assert_eq!(exit, Some(0), "{told}");
    assert_eq!(site.staged().await, Vec::<String>::new(), "{told}");
}

#[derive(Default)]
struct Tally {
    completed: AtomicU64,
    aborted: AtomicU64,
    again: AtomicU64,
}

/// Calls until there is an answer that is no failure of an instance.
async fn persist<T, E, F>(tally: &Tally, what: &str, mut call: impl FnMut() -> F) -> Result<T, SdkError<E>>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        // A part whose bytes were cut off by a death in the middle may be told as the client's fault by nobody: only 5xx and silence.
        if status.is_some_and(|status| status < 500) {
            return Err(error);
        }
        assert!(Instant::now() < until, "{what}: {error:?}");
        tally.again.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One upload from its creation to the look at its object, or to its abort.
async fn one(client: Client, bucket: String, at: usize, mut dice: Dice, tally: Arc<Tally>) {
    let key = format!("upload/{at}");
    let created = persist(&tally, "create", || client.create_multipart_upload().bucket(&bucket).key(&key).send()).await;
    let id = created.expect("create").upload_id().expect("id").to_owned();
    let upload = Upload { bucket: bucket.clone(), key: key.clone(), id };
    let count = 1 + dice.below(4);
    let mut number = 0;
    let mut plan = Vec::new();
    for place in 0..count {
        number += 1 + dice.below(3) as i32;
        let last = place + 1 == count;
        let len = match (last, dice.below(4)) {
            (true, 0) => 0,
            (true, 1) => LEAST + dice.below(LEAST / 4),
            (true, _) => dice.below(LEAST),
            (false, _) => LEAST + dice.below(LEAST / 4),
        };
        plan.push((number, noise(len, (at * 100 + place) as u64 + 1)));
    }
    // In any order; some twice, with other bytes before.
    let mut order: Vec<usize> = (0..count).collect();
    for place in (1..count).rev() {
        order.swap(place, dice.below(place + 1));
    }
    let mut lines: Vec<Option<CompletedPart>> = vec![None; count];
    for place in order {
        let (number, bytes) = &plan[place];
        if dice.one_in(4) {
            let other = noise(if dice.one_in(2) { bytes.len() } else { dice.below(LEAST) }, 7);
            send(&tally, &client, &upload, *number, &other).await;
        }
        lines[place] = Some(send(&tally, &client, &upload, *number, bytes).await);
    }
    if at % 6 == 5 {
        // The answer to an abort that was carried out may be lost with its instance.
        match persist(&tally, "abort", || upload.abort(&client).send()).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), Some("NoSuchUpload"), "{error:?}"),
        }
        let got = persist(&tally, "get", || client.get_object().bucket(&bucket).key(&key).send()).await;
        assert_eq!(got.expect_err("an aborted upload is no object").code(), Some("NoSuchKey"));
        tally.aborted.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let lines: Vec<CompletedPart> = lines.into_iter().flatten().collect();
    let complete = || persist(&tally, "complete", || upload.complete(&client, &lines).send());
    let done = if dice.one_in(4) {
        let (one, other) = tokio::join!(complete(), complete());
        let (one, other) = (one.expect("complete"), other.expect("complete beside it"));
        assert_eq!(one.e_tag(), other.e_tag());
        one
    } else {
        complete().await.unwrap_or_else(|error| panic!("complete of {key}: {error:?}"))
    };
    let whole: Vec<u8> = plan.into_iter().flat_map(|(_, bytes)| bytes).collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let got = persist(&tally, "get", || client.get_object().bucket(&bucket).key(&key).send()).await.expect("the object");
        assert_eq!(got.e_tag(), done.e_tag());
        // The transfer may break off with its instance; it must never end with other bytes.
        if let Ok(body) = got.body.collect().await {
            assert!(body.into_bytes() == whole, "{key} differs");
            break;
        }
        assert!(Instant::now() < until);
    }
    persist(&tally, "delete", || client.delete_object().bucket(&bucket).key(&key).send()).await.expect("delete");
    tally.completed.fetch_add(1, Ordering::Relaxed);
}

async fn send(tally: &Tally, client: &Client, upload: &Upload, number: i32, bytes: &[u8]) -> CompletedPart {
    let sent = persist(tally, "part", || {
        let sent = client.upload_part().bucket(&upload.bucket).key(&upload.key).upload_id(&upload.id).part_number(number);
        sent.body(bytes.to_vec().into()).send()
    });
    let sent = sent.await.unwrap_or_else(|error| panic!("part {number} of {}: {error:?}", upload.key));
    CompletedPart::builder().part_number(number).e_tag(sent.e_tag().expect("ETag")).build()
}

/// Hands each connection to the next instance that takes it.
async fn proxy(instances: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut front, _)) = listener.accept().await {
            let (instances, next) = (instances.clone(), next.clone());
            tokio::spawn(async move {
                for _ in 0..instances.len() {
                    let instance = instances[next.fetch_add(1, Ordering::Relaxed) % instances.len()];
                    if let Ok(mut back) = TcpStream::connect(instance).await {
                        let _ = front.set_nodelay(true);
                        let _ = back.set_nodelay(true);
                        // Whatever happens to either end ends the other.
                        let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
                        return;
                    }
                }
            });
        }
    });
    address
}
