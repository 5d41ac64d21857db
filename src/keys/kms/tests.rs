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

#[test]
fn aliases_and_replicas_have_names() {
    let alias = |text: &str| text.parse::<KeyAlias>();
    let key = |text: &str| text.parse::<KeyArn>().unwrap();
    assert_eq!(alias("alias/a/b_c-1").unwrap().region(), None);
    let own = alias("arn:aws:kms:eu-central-1:123456789012:alias/main").unwrap();
    assert_eq!(own.region(), Some("eu-central-1"));
    assert!(own.fits(&key(ARN)) && alias("alias/main").unwrap().fits(&key(ARN)));
    for other in [ARN.replace("eu-central-1", "eu-west-1"), ARN.replace("123456789012", "123456789013")] {
        assert!(!own.fits(&key(&other)), "{other}");
    }
    for bad in ["", "main", "alias/", "alias/a b", "alias/a:b", ARN, "arn:aws:s3:eu-central-1:123456789012:alias/main"] {
        assert!(matches!(alias(bad), Err(ArnError::NotAnAlias(_))), "{bad}");
    }
    let replicated = key("arn:aws:kms:eu-central-1:123456789012:key/mrk-0a");
    assert!(replicated.is_multi_region() && !key(ARN).is_multi_region());
    assert_eq!(replicated.in_region("us-east-1").unwrap().as_str(), "arn:aws:kms:us-east-1:123456789012:key/mrk-0a");
    assert!(replicated.in_region("us:east").is_err());
}

const ALIAS: &str = "arn:aws:kms:eu-central-1:123456789012:alias/main";

/// What DescribeKey says of a key that may be used, with some fields changed.
fn described(changes: &[(&str, &str)]) -> String {
    let mut key = json!({
        "Arn": ARN, "KeyId": "0a1b2c3d-0000-1111-2222-333344445555", "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT",
    });
    for (name, value) in changes {
        key[*name] = json!(value);
    }
    json!({"KeyMetadata": key}).to_string()
}

async fn resolved(kms: &FakeKms, wanted: &Wanted) -> Result<KeyArn, Error> {
    let options = KmsOptions { endpoint: Some(kms.endpoint.clone()), ..KmsOptions::default() };
    resolve(&sdk(), &options, (&label(), &ALIAS.parse().unwrap()), "eu-central-1", wanted).await
}

#[tokio::test]
async fn an_alias_is_asked_for_by_its_name() {
    let kms = FakeKms::start(|_| Some((200, described(&[])))).await;
    assert_eq!(resolved(&kms, &Wanted::default()).await.unwrap().as_str(), ARN);
    let (head, body) = kms.last.lock().unwrap().take().unwrap();
    assert!(head.contains("x-amz-target: trentservice.describekey\r\n") && head.contains("/eu-central-1/kms/aws4_request"));
    assert_eq!(body, json!({"KeyId": ALIAS}));
    let pinned = Wanted { pinned: Some(ARN.parse().unwrap()), multi_region: false };
    assert_eq!(resolved(&kms, &pinned).await.unwrap().as_str(), ARN);
}

#[tokio::test]
async fn an_alias_leads_only_to_a_key_that_may_be_used() {
    let elsewhere = ARN.replace("eu-central-1", "eu-west-1");
    let stranger = ARN.replace("123456789012", "123456789013");
    for (change, kind) in [
        (("KeyState", "Disabled"), "key_disabled"),
        (("KeyState", "PendingDeletion"), "key_pending_deletion"),
        (("KeyState", "PendingReplicaDeletion"), "key_pending_deletion"),
        (("KeyState", "PendingImport"), "key_state_invalid"),
        (("KeyState", "Unheard"), "key_state_invalid"),
        (("KeyUsage", "SIGN_VERIFY"), "key_unsuitable"),
        (("KeySpec", "RSA_2048"), "key_unsuitable"),
        (("Arn", elsewhere.as_str()), "alias_refused"),
        (("Arn", stranger.as_str()), "alias_refused"),
        (("Arn", ALIAS), "bad_answer"),
        (("Arn", ""), "bad_answer"),
    ] {
        let answer = described(&[change]);
        let kms = FakeKms::start(move |_| Some((200, answer.clone()))).await;
        let refusal = resolved(&kms, &Wanted::default()).await.unwrap_err();
        assert_eq!(refusal.kind(), kind, "{change:?}: {refusal}");
        assert!(refusal.to_string().contains("k1") && !refusal.is_retryable() && !refusal.is_integrity());
    }
    for (answer, kind) in [
        ((200, "{}".to_owned()), "bad_answer"),
        ((400, refusal("NotFoundException", "Alias is not found.")), "key_not_found"),
        ((400, refusal("AccessDeniedException", "kms:DescribeKey")), "access_denied"),
    ] {
        let kms = FakeKms::start(move |_| Some(answer.clone())).await;
        assert_eq!(resolved(&kms, &Wanted::default()).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn an_alias_leads_only_to_the_key_that_is_wanted() {
    let kms = FakeKms::start(|_| Some((200, described(&[])))).await;
    let other: KeyArn = ARN.replace("333344445555", "333344446666").parse().unwrap();
    let refusal = resolved(&kms, &Wanted { pinned: Some(other.clone()), multi_region: false }).await.unwrap_err();
    let text = refusal.to_string();
    assert!(refusal.kind() == "alias_refused" && text.contains(ARN) && text.contains(other.as_str()), "{text}");
    let refusal = resolved(&kms, &Wanted { pinned: None, multi_region: true }).await.unwrap_err();
    assert!(refusal.to_string().contains("no multi-region key"), "{refusal}");
}

#[tokio::test]
async fn a_key_whose_alias_leads_nowhere_says_why_at_every_use() {
    let why = Error::KeyNotFound { label: label(), detail: "no such alias".into() };
    let provider = Unresolved::new(label(), why.clone());
    assert_eq!(provider.generate(&label(), &context()).await.unwrap_err(), why);
    assert_eq!(provider.unwrap(&label(), &context(), &[1]).await.unwrap_err(), why);
    assert_eq!(provider.generate(&"k2".parse().unwrap(), &context()).await.unwrap_err().kind(), "unknown_label");
}

#[tokio::test]
async fn a_replica_that_answers_for_another_key_is_not_believed() {
    use crate::keys::replicas::Replicas;
    let home: KeyArn = "arn:aws:kms:eu-central-1:123456789012:key/mrk-0a".parse().unwrap();
    let away = home.in_region("eu-west-1").unwrap();
    let down = FakeKms::start(|_| Some((503, refusal("KMSInternalException", "")))).await;
    // Even the same key of the first region: what answers has to be the replica that was asked.
    for (answers, is_taken) in [(home.as_str(), false), (ARN, false), (away.as_str(), true)] {
        let answer = data_key_answer(&[7; 32], answers);
        let replica = FakeKms::start(move |_| Some((200, answer.clone()))).await;
        let region = |kms: &FakeKms, arn: &KeyArn| -> Arc<dyn KeyProvider> {
            let options = KmsOptions { endpoint: Some(kms.endpoint.clone()), attempts_max: 1, ..KmsOptions::default() };
            Arc::new(KmsProvider::new(&sdk(), &options, [(label(), arn.clone())]))
        };
        let replicas = Replicas::new(region(&down, &home), [region(&replica, &away)]);
        let (made, back) = (replicas.generate(&label(), &context()).await, replicas.unwrap(&label(), &context(), &[1]).await);
        assert_eq!((made.is_ok(), back.is_ok()), (is_taken, is_taken), "{answers}");
        assert_eq!(
            replica.last.lock().unwrap().take().unwrap().1["KeyId"],
            away.as_str(),
            "only the replica's own ARN is called"
        );
        if !is_taken {
            assert_eq!(made.unwrap_err().kind(), "unavailable", "the first region's failure stands");
        }
    }
}
