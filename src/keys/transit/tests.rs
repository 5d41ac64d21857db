use super::*;
use crate::keys::fingerprint;
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as the server saw it.
#[derive(Debug, Clone)]
struct Asked {
    /// Method and path.
    what: String,
    /// In lower case.
    head: String,
    token: String,
    body: Value,
}

/// What the server answers: status and body, or nothing at all.
type Script = dyn Fn(&Asked) -> Option<(u16, String)> + Send + Sync;

/// A server that answers by script, speaking just enough HTTP.
struct FakeServer {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeServer {
    async fn start(script: impl Fn(&Asked) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<_>>::default();
        let (script, kept): (Arc<Script>, _) = (Arc::new(script), asked.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, script.clone(), kept.clone()));
            }
        });
        Self { address, asked }
    }

    fn provider(&self, token: &Arc<Tokens>) -> TransitProvider {
        let options = TransitOptions { attempt_timeout: Duration::from_millis(400), ..TransitOptions::default() };
        TransitProvider::new(label(), &key(&self.address), token.clone(), tls(), options).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.what.clone()).collect()
    }
}

async fn serve(mut socket: TcpStream, script: Arc<Script>, kept: Arc<Mutex<Vec<Asked>>>) {
    let mut request = Vec::new();
    let asked = loop {
        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&request[..end]).into_owned();
        let head = text.to_lowercase();
        let header = |name: &str| {
            head.lines().position(|line| line.starts_with(name)).map(|at| &text.lines().nth(at).unwrap()[name.len()..])
        };
        let len = header("content-length: ").map_or(0, |len| len.trim().parse().unwrap());
        if request.len() >= end + 4 + len {
            let what = text.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            let token = header("x-vault-token: ").unwrap_or_default().to_owned();
            let body = serde_json::from_slice(&request[end + 4..]).unwrap_or(Value::Null);
            break Asked { what, token, body, head };
        }
    };
    let answer = script(&asked);
    kept.lock().unwrap().push(asked);
    let Some((status, body)) = answer else {
        return std::future::pending().await;
    };
    let answer = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = socket.write_all(answer.as_bytes()).await;
}

/// What stands in the file of the token, and how often it was read.
struct Tokens(Mutex<(Result<String, String>, usize)>);

impl Tokens {
    fn new(text: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new((Ok(text.to_owned()), 0))))
    }

    fn renew(&self, text: &str) {
        self.0.lock().unwrap().0 = Ok(text.to_owned());
    }

    fn reads(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl TokenSource for Tokens {
    fn read(&self) -> Result<Zeroizing<String>, String> {
        let mut held = self.0.lock().unwrap();
        held.1 += 1;
        held.0.clone().map(Zeroizing::new)
    }
}

fn label() -> Label {
    "k1".parse().unwrap()
}

fn key(address: &str) -> TransitKey {
    TransitKey { address: address.into(), mount: "transit".into(), name: "k".into(), namespace: None }
}

fn tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

fn context() -> KeyContext {
    KeyContext::for_object("bucket-a", "dir/object.bin", false)
}

fn blob(version: u32) -> String {
    format!("vault:v{version}:{}", BASE64.encode(&[0xab; WRAPPED_LEN]))
}

fn right_settings() -> Value {
    json!({"name": "k", "type": "aes256-gcm96", "derived": true, "exportable": false, "allow_plaintext_backup": false,
        "convergent_encryption": false, "latest_version": 1, "keys": {"1": 1}})
}

fn settings_answer(changes: Value) -> String {
    let mut settings = right_settings();
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({"request_id": "r", "data": settings}).to_string()
}

/// A server with a key that is fit; `script` answers everything else.
async fn fit(script: impl Fn(&Asked) -> Option<(u16, String)> + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |asked| match asked.what.as_str() {
        "GET /v1/transit/keys/k" => Some((200, settings_answer(json!({})))),
        _ => script(asked),
    })
    .await
}

fn made(plaintext: &str, ciphertext: &str) -> Option<(u16, String)> {
    Some((200, json!({"data": {"plaintext": plaintext, "ciphertext": ciphertext, "key_version": 1}}).to_string()))
}

fn refused(status: u16, text: &str) -> Option<(u16, String)> {
    Some((status, json!({"errors": [text]}).to_string()))
}

/// docs/TRANSIT.md has the same, made by other code.
#[test]
fn contexts_hash_as_written() {
    let hash = |context: &KeyContext| data_encoding::HEXLOWER.encode(&context_hash(context));
    assert_eq!(hash(&context()), "d2f08ddd2a2bd866d9751445867101eb65ccbcee9e8f478e970f98d20e6bc556");
    assert_eq!(hash(&KeyContext::for_scope("bucket-a")), "1058fa4121b743b8937d09ae25bb4ef495f70e4ec5e8fd5a8c2d6e5498195800");
    // What stands on which side of a border counts.
    let of = |pairs: &[(&str, &str)]| {
        context_hash(&KeyContext::of_pairs(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()))
    };
    let all = [
        of(&[]),
        of(&[("a", "bc")]),
        of(&[("ab", "c")]),
        of(&[("a", ""), ("b", "c")]),
        of(&[("a", "b"), ("c", "")]),
        of(&[("abc", "")]),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other != one));
    }
}

#[test]
fn only_wrapped_keys_to_the_letter_are_sent() {
    assert_eq!(version_of(blob(1).as_bytes()), Some(1));
    assert_eq!(version_of(blob(999_999_999).as_bytes()), Some(999_999_999));
    let body = BASE64.encode(&[0xab; WRAPPED_LEN]);
    for wrong in [
        String::new(),
        "vault:v".into(),
        "vault:v1".into(),
        "vault:v1:".into(),
        format!("vault:v0:{body}"),
        format!("vault:v01:{body}"),
        format!("vault:v+1:{body}"),
        format!("vault:v-1:{body}"),
        format!("vault:v1000000000:{body}"),
        format!("vault:1:{body}"),
        format!("Vault:v1:{body}"),
        format!(" vault:v1:{body}"),
        format!("vault:v1:{body}\n"),
        format!("vault:v1:{body}="),
        format!("vault:v1::{body}"),
        format!("vault:v1:{}", &body[..76]),
        format!("vault:v1:{body}AAAA"),
        format!("vault:v1:{}\"", &body[..79]),
        format!("vault:v1:{}", body.replace('+', "-").replace('q', "_")),
    ] {
        assert_eq!(version_of(wrong.as_bytes()), None, "{wrong}");
    }
    assert_eq!(version_of(&[0xff; 89]), None);
}

#[tokio::test]
async fn a_call_names_the_configured_key_and_binds_the_context() {
    let server = fit(|asked| match asked.what.as_str() {
        "POST /v1/transit/datakey/plaintext/k" => made(&BASE64.encode(&[7; 32]), &blob(3)),
        "POST /v1/transit/decrypt/k" => made(&BASE64.encode(&[7; 32]), ""),
        _ => None,
    })
    .await;
    let tokens = Tokens::new("s.token");
    let provider = server.provider(&tokens);
    let fresh = provider.generate(&label(), &context()).await.unwrap();
    assert_eq!(fresh.blob, blob(3).as_bytes());
    let back = provider.unwrap(&label(), &context(), &fresh.blob).await.unwrap();
    assert_eq!(fingerprint(&back), fingerprint(&KeyEncryptionKey::from_slice(&[7; 32]).unwrap()));
    assert_eq!(fingerprint(&back), fingerprint(&fresh.kek));
    // The settings are read once for both.
    assert_eq!(server.asked(), ["GET /v1/transit/keys/k", "POST /v1/transit/datakey/plaintext/k", "POST /v1/transit/decrypt/k"]);
    let asked = server.asked.lock().unwrap().clone();
    let bound = BASE64.encode(&context_hash(&context()));
    assert_eq!(asked[1].body, json!({"bits": 256, "context": bound}));
    assert_eq!(asked[2].body, json!({"ciphertext": blob(3), "context": bound}));
    assert!(asked.iter().all(|asked| asked.token == "s.token" && asked.head.contains("x-vault-request: true\r\n")));
    assert!(asked.iter().all(|asked| !asked.head.contains("namespace")) && tokens.reads() == 1);
}

#[tokio::test]
async fn a_blob_of_another_form_is_refused_without_a_call() {
    let server = fit(|_| None).await;
    let provider = server.provider(&Tokens::new("t"));
    for blob in [b"".as_slice(), b"vault:v0:AAAA", &[0; 89], b"vault:v1:AAAA"] {
        let refusal = provider.unwrap(&label(), &context(), blob).await.unwrap_err();
        assert!(matches!(refusal, Error::InvalidCiphertext { .. }), "{refusal:?}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_key_that_would_not_bind_or_can_be_taken_out_is_not_used() {
    for (changes, unwraps, word) in [
        (json!({"derived": false}), false, "derived"),
        (json!({"type": "rsa-2048"}), false, "type"),
        (json!({"type": "aes128-gcm96"}), false, "type"),
        (json!({"exportable": true}), true, "exportable"),
        (json!({"allow_plaintext_backup": true}), true, "plaintext backups"),
        (json!({"convergent_encryption": true}), true, "convergent"),
    ] {
        let answer = settings_answer(changes.clone());
        let server = FakeServer::start(move |asked| match asked.what.as_str() {
            "GET /v1/transit/keys/k" => Some((200, answer.clone())),
            _ => made(&BASE64.encode(&[7; 32]), &blob(1)),
        })
        .await;
        let provider = server.provider(&Tokens::new("t"));
        let refusal = provider.generate(&label(), &context()).await.unwrap_err();
        assert!(
            matches!(&refusal, Error::KeyUnsuitable { detail, .. } if detail.contains(word) && detail.contains("derived=true")),
            "{refusal}"
        );
        assert_eq!(provider.unwrap(&label(), &context(), blob(1).as_bytes()).await.is_ok(), unwraps, "{changes}");
        assert!(!server.asked().contains(&"POST /v1/transit/datakey/plaintext/k".to_owned()));
    }
    // What does not say everything, or speaks of another key, is no leave either.
    for answer in
        ["{}".to_owned(), "<html>".into(), json!({"data": {"derived": true}}).to_string(), settings_answer(json!({"name": "l"}))]
    {
        let server = FakeServer::start(move |_| Some((200, answer.clone()))).await;
        let refusal = server.provider(&Tokens::new("t")).generate(&label(), &context()).await.unwrap_err();
        assert!(matches!(refusal, Error::BadAnswer { .. }), "{refusal}");
        assert_eq!(server.asked(), ["GET /v1/transit/keys/k"]);
    }
}

#[tokio::test]
async fn settings_are_read_again_after_their_time() {
    let server = fit(|_| made(&BASE64.encode(&[7; 32]), &blob(1))).await;
    let options = TransitOptions { settings_ttl: Duration::ZERO, ..TransitOptions::default() };
    let provider = TransitProvider::new(label(), &key(&server.address), Tokens::new("t"), tls(), options).unwrap();
    for _ in 0..2 {
        provider.generate(&label(), &context()).await.unwrap();
    }
    assert_eq!(server.asked().iter().filter(|what| what.starts_with("GET")).count(), 2);
}

#[tokio::test]
async fn answers_that_break_the_contract_are_refused_and_not_quoted() {
    let secret = BASE64.encode(&[7; 32]);
    let odd = |body: Value| Some((200, body.to_string()));
    let answers = [
        Some((200, format!("{{\"data\": {{\"plaintext\": \"{secret}\""))),
        Some((200, secret.clone())),
        odd(json!({"data": {"plaintext": {"a": secret}, "ciphertext": blob(1)}})),
        odd(json!({"data": {"plaintext": [secret], "ciphertext": blob(1)}})),
        odd(json!({"data": {"plaintext": secret}})),
        odd(json!({"wrap_info": {"token": secret}, "data": null})),
        made(&secret, ""),
        made(&secret, "vault:v0:AAAA"),
        made(&secret, &format!("vault:v1:{}", "A".repeat(2000))),
        made(&BASE64.encode(&[7; 31]), &blob(1)),
        made(&BASE64.encode(&[7; 33]), &blob(1)),
        made(&secret[..43], &blob(1)),
        made("", &blob(1)),
    ];
    for answer in answers {
        let told = answer.clone();
        let server = fit(move |_| told.clone()).await;
        let refusal = server.provider(&Tokens::new("t")).generate(&label(), &context()).await.unwrap_err();
        assert!(matches!(refusal, Error::BadAnswer { .. }), "{answer:?}: {refusal:?}");
        assert!(!format!("{refusal} {refusal:?}").contains(&secret[..8]), "{refusal:?}");
    }
}

#[tokio::test]
async fn refusals_have_their_kinds() {
    let both = [
        (400, "encryption key not found", "key_not_found"),
        (404, "no handler for route", "key_not_found"),
        (400, "refusing to use soft-deleted key", "key_disabled"),
        (429, "rate limit quota exceeded", "throttled"),
        (503, "Vault is sealed", "unavailable"),
        (500, "internal error", "unavailable"),
        (502, "", "unavailable"),
        (412, "required index state not present", "unavailable"),
        (473, "", "unavailable"),
        (307, "", "unavailable"),
        (400, "something new", "refused"),
        (405, "unsupported operation", "refused"),
        (204, "", "refused"),
    ];
    let unwrap_only = [
        (400, "cipher: message authentication failed", "invalid_ciphertext"),
        (400, "invalid ciphertext: could not decode base64", "invalid_ciphertext"),
        (400, "invalid ciphertext: version is too new", "unknown_key_version"),
        (400, "ciphertext or signature version is disallowed by policy (too old)", "key_state_invalid"),
    ];
    for (at, (status, text, kind)) in both.into_iter().chain(unwrap_only).enumerate() {
        let server = fit(move |_| refused(status, text)).await;
        let provider = server.provider(&Tokens::new("t"));
        let refusal = provider.unwrap(&label(), &context(), blob(2).as_bytes()).await.unwrap_err();
        assert_eq!(refusal.kind(), kind, "{status} {text}: {refusal}");
        if at < both.len() {
            assert_eq!(provider.generate(&label(), &context()).await.unwrap_err().kind(), kind, "{status} {text}");
        }
    }
}

#[tokio::test]
async fn silence_is_over_in_time_and_nobody_there_is_unavailable() {
    let server = fit(|_| None).await;
    let begun = Instant::now();
    let refusal = server.provider(&Tokens::new("t")).generate(&label(), &context()).await.unwrap_err();
    assert!(matches!(refusal, Error::TimedOut { .. }) && begun.elapsed() < Duration::from_secs(3), "{refusal}");
    // The settings likewise, for those who wait for them too.
    let server = FakeServer::start(|_| None).await;
    let provider = server.provider(&Tokens::new("t"));
    let begun = Instant::now();
    let (label, context) = (label(), context());
    for refusal in futures::future::join_all((0..10).map(|_| provider.generate(&label, &context))).await {
        assert!(matches!(refusal, Err(Error::TimedOut { .. })));
    }
    assert!(begun.elapsed() < Duration::from_secs(3));

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let provider =
        TransitProvider::new(label.clone(), &key(&format!("http://{free}")), Tokens::new("t"), tls(), TransitOptions::default());
    let refusal = provider.unwrap().generate(&label, &context).await.unwrap_err();
    assert!(matches!(refusal, Error::Unavailable { .. }), "{refusal}");
}

#[tokio::test]
async fn a_refused_token_is_read_again_once() {
    let server = fit(|asked| match (asked.what.as_str(), asked.token.as_str()) {
        ("GET /v1/auth/token/lookup-self", "limited") => Some((200, "{}".into())),
        (_, "new") => made(&BASE64.encode(&[7; 32]), &blob(1)),
        _ => refused(403, "permission denied"),
    })
    .await;
    let tokens = Tokens::new("old");
    let provider = server.provider(&tokens);
    let refusal = provider.generate(&label(), &context()).await.unwrap_err();
    assert!(matches!(refusal, Error::CredentialsRefused { .. }) && !refusal.is_retryable(), "{refusal}");
    assert_eq!(tokens.reads(), 2, "read at first, and once more");

    tokens.renew("new");
    provider.generate(&label(), &context()).await.unwrap();
    provider.generate(&label(), &context()).await.unwrap();
    assert_eq!(tokens.reads(), 3, "nobody reads a token that works");

    // A token that is known and may not: that is the policy's word.
    let refusal = server.provider(&Tokens::new("limited")).generate(&label(), &context()).await.unwrap_err();
    assert!(matches!(refusal, Error::AccessDenied { .. }), "{refusal}");

    let none = Arc::new(Tokens(Mutex::new((Err("it is not there".into()), 0))));
    let refusal = server.provider(&none).generate(&label(), &context()).await.unwrap_err();
    assert!(matches!(&refusal, Error::Unavailable { detail, .. } if detail.contains("it is not there")), "{refusal}");
    let refusal = server.provider(&Tokens::new("two\nlines")).generate(&label(), &context()).await.unwrap_err();
    assert!(!refusal.to_string().contains("lines"), "{refusal}");
}

#[tokio::test]
async fn settings_that_may_not_be_read_say_which_policy_is_missing() {
    let server = FakeServer::start(|asked| match asked.what.as_str() {
        "GET /v1/auth/token/lookup-self" => Some((200, "{}".into())),
        "GET /v1/transit/keys/k" => refused(403, "1 error occurred:\n\t* permission denied\n\n"),
        _ => made(&BASE64.encode(&[7; 32]), &blob(1)),
    })
    .await;
    let refusal = server.provider(&Tokens::new("t")).generate(&label(), &context()).await.unwrap_err();
    assert!(matches!(refusal, Error::AccessDenied { .. }));
    assert!(refusal.to_string().contains("\"read\" on transit/keys/k") && !refusal.to_string().contains('\n'), "{refusal}");
}

#[tokio::test]
async fn the_namespace_goes_along_and_paths_are_only_paths() {
    let server = fit(|_| made(&BASE64.encode(&[7; 32]), &blob(1))).await;
    let with = |mount: &str, name: &str, namespace: Option<&str>| {
        let key = TransitKey {
            address: format!("{}/", server.address),
            mount: mount.into(),
            name: name.into(),
            namespace: namespace.map(Into::into),
        };
        TransitProvider::new(label(), &key, Tokens::new("t"), tls(), TransitOptions::default())
    };
    with("transit", "k", Some("team/a")).unwrap().generate(&label(), &context()).await.unwrap();
    assert!(server.asked.lock().unwrap().iter().all(|asked| asked.head.contains("x-vault-namespace: team/a\r\n")));
    for (mount, name, namespace) in
        [("transit", "k?x=1", None), ("transit", "k#x", None), ("tran sit", "k", None), ("transit", "k", Some("a\r\nb: c"))]
    {
        assert!(with(mount, name, namespace).is_err(), "{mount} {name} {namespace:?}");
    }
}
