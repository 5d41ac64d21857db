//! A key service in memory that misbehaves on demand and counts its calls, and the gateway's own counts to compare with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{self, Process, noise};

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/0a1b2c3d-0000-1111-2222-333344445555";

/// What the key service does.
#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    Fine,
    /// It answers after this time.
    Slow(Duration),
    /// It answers with this status, code and message.
    Refuses(u16, &'static str, &'static str),
    /// It takes the call and never answers.
    Silent,
}

/// A key service in memory, for one key.
pub struct FakeKms {
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
    pub async fn start() -> Self {
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

    pub fn key(&self) -> kit::Kms {
        kit::Kms { endpoint: self.endpoint.clone(), arn: ARN.to_owned() }
    }

    pub fn feels(&self, mood: Mood) {
        *self.state.mood.lock().expect("mood") = mood;
    }

    /// Calls since the last time that this was asked.
    pub fn calls(&self) -> usize {
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
        Mood::Slow(time) => {
            tokio::time::sleep(time).await;
            answer(&state, &head, &body)
        }
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

/// The gateway's counts at one moment.
pub struct Counts(Vec<(String, f64)>);

impl Counts {
    pub fn of(gateway: &Process) -> Self {
        let (_, text) = gateway.probe("/metrics").expect("metrics");
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(series.filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?))).collect())
    }

    /// As PromQL's `sum(NAME{LABELS})`; labels are written like `kind="throttled"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let fits =
            |series: &str| series.split(['{', '}']).next() == Some(name) && labels.iter().all(|label| series.contains(label));
        self.0.iter().filter(|(series, _)| fits(series)).map(|(_, value)| value).sum()
    }

    /// How much a sum has grown since `before`: PromQL's `sum(increase(NAME{LABELS}[...]))` without its guesses at the ends.
    pub fn since(&self, before: &Self, name: &str, labels: &[&str]) -> f64 {
        self.sum(name, labels) - before.sum(name, labels)
    }
}

pub async fn put(client: &Client, bucket: &str, key: &str) {
    client.put_object().bucket(bucket).key(key).body(noise(1000, 5).into()).send().await.expect("is stored");
}

pub async fn is_read(client: &Client, bucket: &str, key: &str) {
    let got = client.get_object().bucket(bucket).key(key).send().await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
    assert_eq!(got.body.collect().await.expect("the body").into_bytes(), noise(1000, 5));
}
