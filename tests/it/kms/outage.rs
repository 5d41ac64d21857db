//! A key service that misbehaves, behind the real gateway: what goes on, what is answered, and how many calls it costs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use data_encoding::BASE64;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{self, Site, code, noise, wait_until};

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/0a1b2c3d-0000-1111-2222-333344445555";

/// What the key service does.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Fine,
    /// It answers with this status, code and message.
    Refuses(u16, &'static str, &'static str),
    /// It takes the call and never answers.
    Silent,
}

/// A key service in memory, for one key, that counts its calls.
struct FakeKms {
    endpoint: String,
    state: Arc<State>,
}

struct State {
    mood: Mutex<Mood>,
    calls: AtomicUsize,
    /// Key and context by blob.
    made: Mutex<HashMap<String, (String, Value)>>,
}

impl FakeKms {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let state =
            Arc::new(State { mood: Mutex::new(Mood::Fine), calls: AtomicUsize::new(0), made: Mutex::new(HashMap::new()) });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, shared.clone()));
            }
        });
        Self { endpoint, state }
    }

    fn key(&self) -> kit::Kms {
        kit::Kms { endpoint: self.endpoint.clone(), arn: ARN.to_owned() }
    }

    fn feels(&self, mood: Mood) {
        *self.state.mood.lock().expect("mood") = mood;
    }

    /// Calls since the last time that this was asked.
    fn calls(&self) -> usize {
        self.state.calls.swap(0, SeqCst)
    }
}

async fn serve(mut socket: TcpStream, state: Arc<State>) {
    let mut request = Vec::new();
    let (head, body) = loop {
        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let len: usize = len.map_or(0, |len| len.trim().parse().expect("a length"));
        if request.len() >= end + 4 + len {
            break (head, serde_json::from_slice::<Value>(&request[end + 4..]).expect("JSON"));
        }
    };
    state.calls.fetch_add(1, SeqCst);
    let mood = *state.mood.lock().expect("mood");
    let (status, answer) = match mood {
        Mood::Silent => return std::future::pending().await,
        Mood::Refuses(status, code, message) => (status, json!({"__type": code, "message": message})),
        Mood::Fine => answer(&state, &head, &body),
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    let _ = socket.write_all(format!("{head}{answer}").as_bytes()).await;
}

fn answer(state: &State, head: &str, body: &Value) -> (u16, Value) {
    let mut made = state.made.lock().expect("keys");
    let context = body["EncryptionContext"].clone();
    if head.contains("trentservice.generatedatakey") {
        let count = made.len() as u64 + 1;
        let (key, blob) = (BASE64.encode(&noise(32, count)), BASE64.encode(&[&b"blob"[..], &count.to_be_bytes()].concat()));
        made.insert(blob.clone(), (key.clone(), context));
        return (200, json!({"Plaintext": key, "CiphertextBlob": blob, "KeyId": ARN}));
    }
    match made.get(body["CiphertextBlob"].as_str().unwrap_or_default()) {
        Some((key, made_for)) if *made_for == context => (200, json!({"Plaintext": key, "KeyId": ARN})),
        _ => (400, json!({"__type": "InvalidCiphertextException", "message": ""})),
    }
}

async fn put(client: &Client, bucket: &str, key: &str) {
    client.put_object().bucket(bucket).key(key).body(noise(1000, 5).into()).send().await.expect("is stored");
}

async fn is_read(client: &Client, bucket: &str, key: &str) {
    let got = client.get_object().bucket(bucket).key(key).send().await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
    assert_eq!(got.body.collect().await.expect("the body").into_bytes(), noise(1000, 5));
}

/// 1,000 reads, every other one of an object whose key is in memory; 50 at a time. Gives the codes of the others, and the slowest.
async fn thousand_reads(client: &Client, bucket: &str) -> (HashMap<String, usize>, Duration) {
    let reads = (0..1000).map(|n| async move {
        let begun = Instant::now();
        let told = if n % 2 == 0 {
            is_read(client, bucket, &format!("warm-{}", n % 20)).await;
            None
        } else {
            Some(code(client.get_object().bucket(bucket).key(format!("cold-{}", n % 100)).send().await))
        };
        (told, begun.elapsed())
    });
    let done: Vec<_> = futures::stream::iter(reads).buffer_unordered(50).collect().await;
    let mut codes = HashMap::new();
    for code in done.iter().filter_map(|(told, _)| told.clone()) {
        *codes.entry(code).or_default() += 1;
    }
    (codes, done.iter().map(|(_, took)| *took).max().unwrap_or_default())
}

#[tokio::test]
async fn a_thousand_reads_through_every_kind_of_trouble() {
    let kms = FakeKms::start().await;
    let site = Site::launch(|launch| launch.kms(kms.key())).await;
    site.gateway.wait_ready().await;
    let (client, bucket) = (site.client(), site.bucket("outage").await);
    for n in 0..100 {
        put(&client, &bucket, &format!("cold-{n}")).await;
    }
    for n in 0..20 {
        put(&client, &bucket, &format!("warm-{n}")).await;
        is_read(&client, &bucket, &format!("warm-{n}")).await;
    }
    kms.calls();
    let down = (503, "KMSInternalException", "");
    let troubles = [
        ("throttling", Mood::Refuses(400, "ThrottlingException", "Rate exceeded"), "SlowDown", true),
        ("outage", Mood::Refuses(down.0, down.1, down.2), "ServiceUnavailable", true),
        ("access denied", Mood::Refuses(400, "AccessDeniedException", "no"), "AccessDenied", false),
        ("disabled", Mood::Refuses(400, "DisabledException", "is disabled."), "KMS.DisabledException", false),
        (
            "deletion",
            Mood::Refuses(400, "KMSInvalidStateException", "is pending deletion."),
            "KMS.KMSInvalidStateException",
            false,
        ),
        ("silence", Mood::Silent, "ServiceUnavailable", true),
    ];
    for (name, mood, expected, is_transient) in troubles {
        kms.feels(mood);
        let begun = Instant::now();
        let (codes, slowest) = thousand_reads(&client, &bucket).await;
        let (took, calls) = (begun.elapsed(), kms.calls());
        println!("{name}: 1,000 reads in {took:.2?}, the slowest {slowest:.2?}, {calls} KMS calls, {codes:?}");
        assert!(codes.contains_key(expected), "{name}: {codes:?}");
        assert!(slowest < Duration::from_secs(14), "{name}: {slowest:?}");
        if is_transient {
            // What began before the breaker opened, at most 50 at a time, the retries saved up, and a probe now and then.
            assert!(codes.keys().all(|code| code == expected || code == "ServiceUnavailable"), "{name}: {codes:?}");
            let probes = took.as_millis() as usize / 1500 + 1;
            assert!(calls <= 50 + 10 + probes, "{name}: {calls} calls");
        } else {
            assert_eq!(codes.len(), 1, "{name}: {codes:?}");
        }
        // It heals by itself.
        kms.feels(Mood::Fine);
        let until = Instant::now() + Duration::from_secs(10);
        while client.get_object().bucket(&bucket).key("cold-0").send().await.is_err() {
            assert!(Instant::now() < until, "{name}: no recovery");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        put(&client, &bucket, "cold-0").await;
        kms.calls();
    }
    wait_until(Duration::from_secs(10), || site.gateway.in_flight() == 0).await;
    let (_, metrics) = site.gateway.probe("/metrics").expect("metrics");
    for kind in ["throttled", "unavailable", "access_denied", "key_disabled", "key_pending_deletion", "timed_out"] {
        let line = format!("ciphergate_kms_failures_total{{label=\"local\",operation=\"Decrypt\",kind=\"{kind}\"}}");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
        assert!(site.gateway.log_text().contains(&format!("\"kind\":\"{kind}\"")), "{kind} is not in the log");
    }
    assert!(metrics.contains("ciphergate_kms_breaker_state{label=\"local\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_hundred_readers_of_one_object_make_one_call() {
    let kms = FakeKms::start().await;
    let site = Site::launch(|launch| launch.kms(kms.key())).await;
    site.gateway.wait_ready().await;
    let (client, bucket) = (site.client(), site.bucket("coalesced").await);
    put(&client, &bucket, "k").await;
    kms.calls();
    futures::future::join_all((0..100).map(|_| is_read(&client, &bucket, "k"))).await;
    assert_eq!(kms.calls(), 1);
}

#[tokio::test]
async fn shared_mode_costs_less_than_five_calls_for_a_thousand_requests() {
    let mut told = Vec::new();
    for (mode, most) in [("per-object", 2000), ("shared", 4)] {
        let kms = FakeKms::start().await;
        let site = Site::launch(|launch| launch.kms(kms.key()).set("CIPHERGATE_ENCRYPTION__MODE", mode)).await;
        site.gateway.wait_ready().await;
        let (client, bucket) = (site.client(), site.bucket("cost").await);
        kms.calls();
        let (client, bucket) = (&client, &bucket);
        let puts = (0..1000).map(|n| async move { put(client, bucket, &format!("k{n}")).await });
        futures::stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
        let written = kms.calls();
        let gets = (0..1000).map(|n| async move { is_read(client, bucket, &format!("k{n}")).await });
        futures::stream::iter(gets).buffer_unordered(16).collect::<Vec<_>>().await;
        let read = kms.calls();
        println!("{mode}: {written} KMS calls for 1,000 PUTs, {read} for 1,000 GETs");
        assert!(written <= most && read <= most, "{mode}: {written} {read}");
        told.push((written, read));
    }
    assert_eq!(told[0], (1000, 1000), "the counting counts");
}
