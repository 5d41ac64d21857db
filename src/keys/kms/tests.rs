use super::*;
use crate::keys::fingerprint;
use aws_config::BehaviorVersion;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ARN: &str = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-0000-1111-2222-333344445555";

#[test]
fn only_key_arns_are_taken() {
    for good in [
        ARN,
        "arn:aws-cn:kms:cn-north-1:123456789012:key/mrk-0a1b2c3d",
        "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/0a1b2c3d",
    ] {
        assert_eq!(good.parse::<KeyArn>().unwrap().to_string(), good);
    }
    assert_eq!(ARN.parse::<KeyArn>().unwrap().region(), "eu-central-1");
    for alias in ["alias/main", "arn:aws:kms:eu-central-1:123456789012:alias/main"] {
        let refusal = alias.parse::<KeyArn>().unwrap_err();
        assert!(matches!(refusal, ArnError::Alias(_)) && refusal.to_string().contains("describe-key"));
    }
    assert!(matches!("0a1b2c3d-0000-1111-2222-333344445555".parse::<KeyArn>(), Err(ArnError::NotAnArn(_))));
    for bad in [
        "arn:aws:s3:eu-central-1:123456789012:key/x",
        "arn:aws:kms::123456789012:key/x",
        "arn:aws:kms:eu-central-1::key/x",
        "arn:aws:kms:eu-central-1:123456789012:key/",
        "arn:aws:kms:eu-central-1:123456789012:key/x/y",
        "arn:aws:kms:eu-central-1:123456789012:key/x:y",
        "arn:aws:kms:eu-central-1:12345678901x:key/x",
        "arn:aws:kms:eu central-1:123456789012:key/x",
    ] {
        assert!(matches!(bad.parse::<KeyArn>(), Err(ArnError::NotAKey(_))), "{bad}");
    }
}

/// What the fake key service answers: status and body, or nothing at all.
type Script = dyn Fn(&Value) -> Option<(u16, String)> + Send + Sync;

/// A key service that answers by script, speaking just enough HTTP.
struct FakeKms {
    endpoint: String,
    calls: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<(String, Value)>>>,
}

impl FakeKms {
    async fn start(script: impl Fn(&Value) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (calls, last) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<_>>::default());
        let (script, counted, kept): (Arc<Script>, _, _) = (Arc::new(script), calls.clone(), last.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, script.clone(), counted.clone(), kept.clone()));
            }
        });
        Self { endpoint, calls, last }
    }

    fn provider(&self) -> KmsProvider {
        let options = KmsOptions {
            endpoint: Some(self.endpoint.clone()),
            attempt_timeout: Duration::from_millis(400),
            operation_timeout: Duration::from_millis(1500),
            ..KmsOptions::default()
        };
        KmsProvider::new(&sdk(), &options, [(label(), ARN.parse().unwrap())])
    }
}

async fn serve(mut socket: TcpStream, script: Arc<Script>, calls: Arc<AtomicUsize>, last: Arc<Mutex<Option<(String, Value)>>>) {
    let mut request = Vec::new();
    let (head, body) = loop {
        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let len = head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.trim().parse().unwrap());
        if request.len() >= end + 4 + len {
            break (head, serde_json::from_slice::<Value>(&request[end + 4..]).unwrap());
        }
    };
    calls.fetch_add(1, SeqCst);
    let answer = script(&body);
    *last.lock().unwrap() = Some((head, body));
    let Some((status, body)) = answer else {
        return std::future::pending().await;
    };
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\nx-amzn-requestid: req-1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = socket.write_all(answer.as_bytes()).await;
}

fn sdk() -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn label() -> Label {
    "k1".parse().unwrap()
}

fn context() -> KeyContext {
    KeyContext::for_object("bucket-a", "dir/object.bin", false)
}

fn data_key_answer(key: &[u8], arn: &str) -> String {
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    json!({"Plaintext": base64(key), "CiphertextBlob": base64(&[0xab; 184]), "KeyId": arn}).to_string()
}

fn refusal(code: &str, message: &str) -> String {
    json!({"__type": code, "message": message}).to_string()
}

#[tokio::test]
async fn a_call_names_the_configured_key_and_the_whole_context() {
    let kms = FakeKms::start(|_| Some((200, data_key_answer(&[7; 32], ARN)))).await;
    let provider = kms.provider();
    let made = provider.generate(&label(), &context()).await.unwrap();
    assert_eq!(fingerprint(&made.kek), fingerprint(&KeyEncryptionKey::from_slice(&[7; 32]).unwrap()));
    assert_eq!(made.blob, [0xab; 184]);
    let pairs = json!({"cg": "1", "scope": "bucket-a", "key": "dir/object.bin"});
    let (head, body) = kms.last.lock().unwrap().take().unwrap();
    assert!(head.contains("x-amz-target: trentservice.generatedatakey\r\n"));
    assert!(head.contains("/eu-central-1/kms/aws4_request"), "signed for the region of the ARN");
    assert_eq!(body, json!({"KeyId": ARN, "KeySpec": "AES_256", "EncryptionContext": pairs}));
    provider.unwrap(&label(), &context(), &made.blob).await.unwrap();
    let (head, body) = kms.last.lock().unwrap().take().unwrap();
    assert!(head.contains("x-amz-target: trentservice.decrypt\r\n"));
    assert_eq!((&body["KeyId"], &body["EncryptionContext"]), (&json!(ARN), &pairs));
}

#[tokio::test]
async fn unknown_labels_and_impossible_blobs_make_no_call() {
    let kms = FakeKms::start(|_| Some((200, data_key_answer(&[7; 32], ARN)))).await;
    let provider = kms.provider();
    let other: Label = "k2".parse().unwrap();
    assert!(matches!(provider.generate(&other, &context()).await, Err(Error::UnknownLabel { .. })));
    assert!(matches!(provider.unwrap(&other, &context(), b"x").await, Err(Error::UnknownLabel { .. })));
    for blob in [&[][..], &[0; BLOB_LEN_MAX + 1]] {
        assert!(matches!(provider.unwrap(&label(), &context(), blob).await, Err(Error::InvalidCiphertext { .. })));
    }
    assert_eq!(kms.calls.load(SeqCst), 0);
}

#[tokio::test]
async fn an_answer_that_breaks_the_contract_is_refused_without_showing_the_key() {
    let secret = [0x5a; 32];
    let base64 = data_encoding::BASE64.encode(&secret);
    let cases: [(String, &str); 7] = [
        (data_key_answer(&secret, &ARN.replace("0a1b", "ffff")), "bad_answer"),
        (data_key_answer(&secret[..16], ARN), "bad_answer"),
        (json!({"KeyId": ARN, "CiphertextBlob": "q6s="}).to_string(), "bad_answer"),
        (json!({"Plaintext": base64, "CiphertextBlob": "q6s="}).to_string(), "bad_answer"),
        (json!({"Plaintext": base64, "KeyId": "alias/main", "CiphertextBlob": "q6s="}).to_string(), "bad_answer"),
        (json!({"Plaintext": base64, "KeyId": ARN}).to_string(), "bad_answer"),
        (format!("{{\"Plaintext\": \"{base64}\", \"KeyId\": {base64}"), "unavailable"),
    ];
    for (answer, expected) in cases {
        let sent = answer.clone();
        let kms = FakeKms::start(move |_| Some((200, sent.clone()))).await;
        let refusal = kms.provider().generate(&label(), &context()).await.unwrap_err();
        assert_eq!(refusal.kind(), expected, "{answer}: {refusal}");
        let shown = format!("{refusal} {refusal:?}");
        assert!(!shown.contains("WlpaWl") && !shown.contains("5a5a5a") && !shown.contains("90, 90"), "{shown}");
    }
}

#[tokio::test]
async fn each_refusal_of_the_service_keeps_its_meaning() {
    let pending = format!("{ARN} is pending deletion.");
    let cases = [
        (400, "ThrottlingException", "Rate exceeded", "throttled", 3),
        (400, "AccessDeniedException", "not authorized to perform kms:Decrypt", "access_denied", 1),
        (400, "UnrecognizedClientException", "security token invalid", "credentials_refused", 1),
        (400, "DisabledException", "is disabled.", "key_disabled", 1),
        (400, "KMSInvalidStateException", &pending, "key_pending_deletion", 1),
        (400, "KMSInvalidStateException", "is pending import.", "key_state_invalid", 1),
        (400, "NotFoundException", "does not exist", "key_not_found", 1),
        (400, "InvalidKeyUsageException", "usage", "key_unsuitable", 1),
        (400, "InvalidCiphertextException", "", "invalid_ciphertext", 1),
        (400, "IncorrectKeyException", "other key", "incorrect_key", 1),
        (500, "KMSInternalException", "", "unavailable", 3),
        (500, "KeyUnavailableException", "", "unavailable", 3),
        (503, "SomethingNew", "", "unavailable", 3),
        (429, "SomethingNew", "", "throttled", 1),
        (400, "ValidationException", "1 validation error", "refused", 1),
    ];
    for (status, code, message, kind, attempts) in cases {
        let answer = refusal(code, message);
        let kms = FakeKms::start(move |_| Some((status, answer.clone()))).await;
        let refusal = kms.provider().unwrap(&label(), &context(), b"blob").await.unwrap_err();
        assert_eq!(refusal.kind(), kind, "{code}: {refusal}");
        assert_eq!(kms.calls.load(SeqCst), attempts, "attempts for {code}");
        assert_eq!(refusal.is_retryable(), matches!(kind, "throttled" | "unavailable"), "{code}");
        assert!(refusal.to_string().contains("req-1"), "the request id helps those who run KMS: {refusal}");
    }
}

#[tokio::test]
async fn a_silent_service_ends_in_time_and_a_missing_one_at_once() {
    let kms = FakeKms::start(|_| None).await;
    let start = std::time::Instant::now();
    let refusal = kms.provider().generate(&label(), &context()).await.unwrap_err();
    assert_eq!(refusal.kind(), "timed_out", "{refusal}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let kms = FakeKms { endpoint: format!("http://{nobody}"), calls: Arc::default(), last: Arc::default() };
    let refusal = kms.provider().generate(&label(), &context()).await.unwrap_err();
    assert_eq!(refusal.kind(), "unavailable", "{refusal}");
    assert!(refusal.is_retryable());
}

#[tokio::test]
async fn one_failure_is_tried_again() {
    let kms = FakeKms::start({
        let calls = AtomicUsize::new(0);
        move |_| match calls.fetch_add(1, SeqCst) {
            0 => Some((500, refusal("KMSInternalException", ""))),
            _ => Some((200, data_key_answer(&[7; 32], ARN))),
        }
    })
    .await;
    kms.provider().generate(&label(), &context()).await.unwrap();
    assert_eq!(kms.calls.load(SeqCst), 2);
}

#[tokio::test]
async fn without_credentials_the_service_counts_as_unavailable() {
    let kms = FakeKms::start(|_| None).await;
    let options = KmsOptions { endpoint: Some(kms.endpoint.clone()), ..KmsOptions::default() };
    let sdk = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    let provider = KmsProvider::new(&sdk, &options, [(label(), ARN.parse().unwrap())]);
    let refusal = provider.generate(&label(), &context()).await.unwrap_err();
    assert_eq!(refusal.kind(), "unavailable", "{refusal}");
    assert_eq!(kms.calls.load(SeqCst), 0);
}
