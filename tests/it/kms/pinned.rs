//! Keys by alias, in other regions and by assumed roles: what is pinned at the start is what is called, and nothing else.

use std::process::Output;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_sdk_s3::Client;
use ciphergate::keys::kms::{KeyArn, KmsOptions, KmsProvider};
use ciphergate::keys::replicas::Replicas;
use ciphergate::keys::{KeyProvider, Label};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::Kms;
use crate::kit::{self, AT_KMS, AT_STORE, CLIENT, Launch, Site, code, free_address, noise, status, wait_until};
use crate::provider_contract::{Subject, context, provider_contract};

/// An alias that no other test has.
struct Alias<'a> {
    kms: &'a Kms,
    name: String,
}

impl<'a> Alias<'a> {
    async fn of(kms: &'a Kms, key: &str) -> Self {
        let name = format!("alias/it/{}", key.rsplit('/').next().expect("an id"));
        kms.client.create_alias().alias_name(&name).target_key_id(key).send().await.expect("the alias is made");
        Self { kms, name }
    }

    fn arn(&self) -> String {
        format!("arn:aws:kms:us-east-1:000000000000:{}", self.name)
    }

    async fn moves_to(&self, key: &str) {
        // By its id: LocalStack takes the text of an ARN for one.
        let id = key.rsplit('/').next().expect("an id");
        self.kms.client.update_alias().alias_name(&self.name).target_key_id(id).send().await.expect("the alias is moved");
    }

    async fn goes(&self) {
        self.kms.client.delete_alias().alias_name(&self.name).send().await.expect("the alias is deleted");
    }

    /// The settings of a key by this alias.
    fn settings(&self) -> String {
        format!("kind = \"kms\"\nalias = \"{}\"\nendpoint = \"{}\"\n", self.arn(), self.kms.endpoint)
    }
}

/// Exit code and everything that was printed. None of it is a secret.
fn run(launch: &Launch, command: &str, args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = launch.command(command).args(args).output().expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    for secret in [AT_KMS.1, AT_STORE.1, CLIENT.1] {
        assert!(!text.contains(secret), "{command} shows {secret}: {text}");
    }
    (status.code().expect("an exit code"), text)
}

async fn put(client: &Client, bucket: &str, key: &str) -> String {
    let stored = client.put_object().bucket(bucket).key(key).body(noise(1000, 9).into()).send().await;
    stored.unwrap_or_else(|error| panic!("{key}: {error:?}")).ssekms_key_id.expect("the key's name")
}

async fn is_read(client: &Client, bucket: &str, key: &str) {
    let got = client.get_object().bucket(bucket).key(key).send().await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
    assert_eq!(got.body.collect().await.expect("the body").into_bytes(), noise(1000, 9), "{key}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_pinned_at_the_start_and_moves_nothing_until_the_next() {
    let kms = Kms::localstack();
    let (first, second) = (kms.new_key().await, kms.new_key().await);
    let alias = Alias::of(&kms, &first).await;
    let mut site = Site::launch(|launch| launch.key(&alias.settings())).await;
    site.gateway.wait_ready().await;
    let log = site.gateway.log_text();
    assert!(log.contains(&format!("key local: {} is pinned to {first}", alias.arn())), "{log}");
    let (client, bucket) = (site.client(), site.bucket("pinned").await);
    assert_eq!(put(&client, &bucket, "before").await, first);

    // Whoever moves the alias does not choose the key of a gateway that runs; the other key is not even called.
    alias.moves_to(&second).await;
    kms.client.disable_key().key_id(&second).send().await.expect("disabled");
    assert_eq!(put(&client, &bucket, "after").await, first);
    is_read(&client, &bucket, "before").await;
    is_read(&client, &bucket, "after").await;
    kms.client.enable_key().key_id(&second).send().await.expect("enabled");
    site.gateway.terminate();

    // The pin holds at the next start.
    let launch = |more: &str| Launch::new(site.folder.path(), site.store_addr).key(&format!("{}{more}", alias.settings()));
    let pinned = launch(&format!("pinned_arn = \"{first}\"\n"));
    for command in ["serve", "check"] {
        let (exit, text) = run(&pinned, command, &[]);
        assert_eq!(exit, 1, "{text}");
        for wanted in ["key local: FAILED", alias.arn().as_str(), first.as_str(), second.as_str(), "the alias was moved"] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
    }

    // Without it the new key is taken, which cannot open what the old one wrapped.
    let (exit, text) = run(&launch(""), "check", &[]);
    assert!(exit == 0 && text.contains(&format!("{} is pinned to {second}", alias.arn())), "{text}");
    let moved = launch("").start();
    let client = kit::client(moved.s3, CLIENT);
    assert_eq!(put(&client, &bucket, "new").await, second);
    is_read(&client, &bucket, "new").await;
    for key in ["before", "after"] {
        let refused = client.get_object().bucket(&bucket).key(key).send().await;
        assert_eq!(code(refused), "IntegrityCheckFailed");
    }
    assert!(moved.log_text().contains("incorrect_key"), "{}", moved.log_text());

    // How it is done: the old key under the old label, the new one under another.
    let more = format!("[[keys]]\nlabel = \"new\"\n{}", alias.settings());
    let both = Launch::new(site.folder.path(), site.store_addr).more(&more);
    let both = both
        .kms(kit::Kms { endpoint: kms.endpoint.clone(), arn: first.clone() })
        .set("CIPHERGATE_ENCRYPTION__KEY", "new")
        .start();
    let client = kit::client(both.s3, CLIENT);
    assert_eq!(put(&client, &bucket, "newer").await, second);
    is_read(&client, &bucket, "before").await;
    is_read(&client, &bucket, "newer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_leads_to_no_usable_key_stops_the_start_but_not_what_needs_no_key() {
    let kms = Kms::localstack();
    let key = kms.new_key().await;
    let alias = Alias::of(&kms, &key).await;
    // As the aws command takes it: in the region of the environment.
    let short = alias.settings().replace(&alias.arn(), &alias.name);
    let mut site = Site::launch(|launch| launch.key(&short).set("AWS_REGION", "us-east-1")).await;
    site.gateway.wait_ready().await;
    let bucket = site.bucket("unpinned").await;
    assert_eq!(put(&site.client(), &bucket, "k").await, key);
    site.gateway.terminate();

    let launch = || Launch::new(site.folder.path(), site.store_addr).key(&alias.settings());
    let refused = |wanted: &str| {
        let (exit, text) = run(&launch(), "serve", &[]);
        assert!(exit == 1 && text.contains("key local: FAILED") && text.contains(wanted), "{wanted} is not in {text}");
        let (exit, text) = run(&launch(), "check", &[]);
        assert!(exit == 1 && text.contains("key local: FAILED") && text.contains("store: answers"), "{text}");
        assert!(
            text.contains("1 of the checks failed") && text.contains("label = \"local\""),
            "once, and what is in effect: {text}"
        );
    };
    kms.client.disable_key().key_id(&key).send().await.expect("disabled");
    refused("is disabled");
    kms.client.enable_key().key_id(&key).send().await.expect("enabled");
    let signs = kms.client.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify).send().await;
    alias.moves_to(signs.expect("a key").key_metadata.expect("metadata").key_id()).await;
    refused("ECC_NIST_P256 for SIGN_VERIFY");
    let going = kms.new_key().await;
    alias.moves_to(&going).await;
    kms.client.schedule_key_deletion().key_id(&going).pending_window_in_days(7).send().await.expect("scheduled");
    refused("pending deletion");
    alias.goes().await;
    refused("does not exist");

    let (exit, text) = run(&launch(), "inspect", &["s3://unpinned/k"]);
    assert!(exit == 0 && text.contains("local"), "{text}");
    let (exit, text) = run(&launch(), "verify", &["s3://unpinned"]);
    assert!(exit == 1 && text.contains("key local: FAILED"), "{text}");
    let (exit, text) = run(&launch(), "gc", &[]);
    assert_eq!(exit, 0, "{text}");

    let mut nowhere = Launch::new(site.folder.path(), site.store_addr).key(&short).command("check");
    let nowhere = nowhere.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION").env("AWS_EC2_METADATA_DISABLED", "true");
    let text = String::from_utf8_lossy(&nowhere.output().expect("runs").stderr).into_owned();
    assert!(text.contains("key \"local\": no region for alias/it/"), "{text}");
    let unreachable = short.replace(&kms.endpoint, &format!("http://{}", free_address()));
    let (exit, text) = run(&Launch::new(site.folder.path(), site.store_addr).key(&unreachable), "serve", &[]);
    assert!(exit == 1 && text.contains("key local: FAILED") && text.contains("not available"), "{text}");
}

/// STS in memory, which remembers what it was asked.
struct FakeSts {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
    /// Status and code of the refusal.
    refuses: Arc<Mutex<Option<(u16, &'static str)>>>,
}

const ASSUMED_SECRET: &str = "assumed-secret-key-0123456789";
const ASSUMED_TOKEN: &str = "assumed-session-token-0123456789";

impl FakeSts {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, refuses) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Option<(u16, &'static str)>>>::default());
        let (shared, mood) = (asked.clone(), refuses.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Self::serve(socket, shared.clone(), mood.clone()));
            }
        });
        Self { endpoint, asked, refuses }
    }

    async fn serve(mut socket: TcpStream, asked: Arc<Mutex<Vec<String>>>, refuses: Arc<Mutex<Option<(u16, &'static str)>>>) {
        let mut request = Vec::new();
        let body = loop {
            if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_lowercase();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if body.len() >= len.trim().parse::<usize>().expect("a number") {
                break body.to_owned();
            }
        };
        asked.lock().expect("asked").push(body);
        let refusal = *refuses.lock().expect("mood");
        let (status, answer) = match refusal {
            Some((status, code)) => (
                status,
                format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>not you</Message></Error>\
                     <RequestId>sts-req-1</RequestId></ErrorResponse>"
                ),
            ),
            None => (
                200,
                format!(
                    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
                     <Arn>arn:aws:sts::000000000000:assumed-role/keys/ciphergate</Arn><AssumedRoleId>A:ciphergate</AssumedRoleId>\
                     </AssumedRoleUser><Credentials><AccessKeyId>test</AccessKeyId><SecretAccessKey>{ASSUMED_SECRET}</SecretAccessKey>\
                     <SessionToken>{ASSUMED_TOKEN}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
                     </AssumeRoleResult><ResponseMetadata><RequestId>sts-req-2</RequestId></ResponseMetadata></AssumeRoleResponse>"
                ),
            ),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let _ = socket.write_all(format!("{head}{answer}").as_bytes()).await;
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("asked"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_once_for_all_its_keys_and_a_refused_one_is_told() {
    let (kms, sts) = (Kms::localstack(), FakeSts::start().await);
    let (first, second) = (kms.new_key().await, kms.new_key().await);
    let settings = |arn: &str| {
        format!(
            "kind = \"kms\"\nkey_arn = \"{arn}\"\nendpoint = \"{}\"\nassume_role_arn = \"arn:aws:iam::000000000000:role/keys\"\n\
             assume_role_external_id = \"between-us-only\"\n",
            kms.endpoint
        )
    };
    let more = format!("[[keys]]\nlabel = \"second\"\n{}[buckets.two]\nkey = \"second\"\n", settings(&second));
    let adapt = |launch: Launch| {
        let launch = launch.key(&settings(&first)).more(&more).set("AWS_ENDPOINT_URL_STS", &sts.endpoint);
        launch.set("CIPHERGATE_LOG__LEVEL", "trace")
    };
    let site = Site::launch(adapt).await;
    site.gateway.wait_ready().await;
    let (client, one, two) = (site.client(), site.bucket("one").await, site.bucket("two").await);
    assert_eq!((put(&client, &one, "k").await, put(&client, &two, "k").await), (first.clone(), second.clone()));
    let asked = sts.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    for wanted in ["Action=AssumeRole&", "RoleSessionName=ciphergate", "ExternalId=between-us-only", "role%2Fkeys"] {
        assert!(asked[0].contains(wanted), "{wanted} is not in {asked:?}");
    }
    let no_secrets = |text: &str| {
        for secret in ["between-us-only", ASSUMED_SECRET, ASSUMED_TOKEN, AT_KMS.1] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    };
    let log = site.gateway.log_text();
    no_secrets(&log);
    assert!(log.contains("(called by arn:aws:iam::000000000000:role/keys)"), "{log}");

    // Another process: no credentials yet.
    let launch = || adapt(Launch::new(site.folder.path(), site.store_addr));
    for (refusal, kind, answer, http) in [
        ((403, "AccessDenied"), "credentials_refused", "AccessDenied", 403),
        ((503, "ServiceUnavailable"), "unavailable", "ServiceUnavailable", 503),
    ] {
        *sts.refuses.lock().expect("mood") = Some(refusal);
        let refused = launch().start();
        let client = kit::client(refused.s3, CLIENT);
        let get = || client.get_object().bucket(&one).key("k").send();
        assert_eq!((code(get().await), status(get().await)), (answer.to_owned(), http));
        let log = refused.log_text();
        no_secrets(&log);
        assert!(log.contains(&format!("\"kind\":\"{kind}\"")) && log.contains("role/keys cannot be assumed"), "{log}");
        let (exit, text) = run(&launch(), "check", &[]);
        no_secrets(&text);
        assert!(exit == 1 && text.contains("key local: FAILED") && text.contains("cannot be assumed"), "{text}");
        // It heals by itself.
        *sts.refuses.lock().expect("mood") = None;
        wait_until(Duration::from_secs(10), || refused.probe("/readyz").is_ok_and(|(status, _)| status == 200)).await;
        is_read(&client, &one, "k").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_looked_up_by_the_role_in_its_own_account() {
    let kms = Kms::localstack();
    // LocalStack takes the account from the access key.
    let sdk = kms.sdk.to_builder().credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
        aws_credential_types::Credentials::new("222222222222", "test", None, None, "test"),
    ));
    let theirs = aws_sdk_kms::config::Builder::from(&sdk.build()).endpoint_url(&kms.endpoint).build();
    let theirs = Kms { endpoint: kms.endpoint.clone(), sdk: kms.sdk.clone(), client: aws_sdk_kms::Client::from_conf(theirs) };
    let key = theirs.new_key().await;
    assert!(key.contains(":222222222222:"), "{key}");
    let alias = Alias::of(&theirs, &key).await;
    let settings = alias.settings().replace(&alias.arn(), &alias.name) + "region = \"us-east-1\"\n";
    let role = "assume_role_arn = \"arn:aws:iam::222222222222:role/keys\"\nassume_role_session_name = \"gate-1\"\n";
    let site = Site::launch(|launch| launch.key(&format!("{settings}{role}")).set("AWS_ENDPOINT_URL_STS", &kms.endpoint)).await;
    site.gateway.wait_ready().await;
    let bucket = site.bucket("theirs").await;
    assert_eq!(put(&site.client(), &bucket, "k").await, key);
    is_read(&site.client(), &bucket, "k").await;
    // Without the role it would be another account's alias.
    let (exit, text) = run(&Launch::new(site.folder.path(), site.store_addr).key(&settings), "check", &[]);
    assert!(exit == 1 && text.contains("does not exist"), "{text}");
}

/// What stands between the gateway and LocalStack, and can be cut.
struct Wire {
    endpoint: String,
    is_cut: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
}

impl Wire {
    async fn to(endpoint: &str) -> Self {
        let to = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (is_cut, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (cut, count) = (is_cut.clone(), taken.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, cut) = (to.clone(), cut.clone());
                count.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    if cut.load(SeqCst) {
                        return;
                    }
                    let mut far = TcpStream::connect(to).await.expect("LocalStack");
                    let broken = async {
                        while !cut.load(SeqCst) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = broken => {}
                    }
                });
            }
        });
        Self { endpoint, is_cut, taken }
    }

    async fn cut(&self) {
        self.is_cut.store(true, SeqCst);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }

    fn mend(&self) {
        self.is_cut.store(false, SeqCst);
    }
}

/// A multi-region key in us-east-1 with a replica in eu-west-1.
struct Replicated {
    kms: Kms,
    there: aws_sdk_kms::Client,
    home: String,
    away: String,
}

impl Replicated {
    async fn new() -> Self {
        let kms = Kms::localstack();
        let made = kms.client.create_key().multi_region(true).send().await.expect("a key");
        let home = made.key_metadata.and_then(|key| key.arn).expect("an ARN");
        kms.client.replicate_key().key_id(&home).replica_region("eu-west-1").send().await.expect("a replica");
        let there = aws_sdk_kms::config::Builder::from(&kms.sdk).endpoint_url(&kms.endpoint);
        let there = aws_sdk_kms::Client::from_conf(there.region(aws_config::Region::new("eu-west-1")).build());
        let away = home.replace("us-east-1", "eu-west-1");
        Self { kms, there, home, away }
    }

    fn settings(&self, endpoint: &str) -> String {
        format!(
            "kind = \"kms\"\nkey_arn = \"{}\"\nendpoint = \"{endpoint}\"\n\
             replicas = [{{ region = \"eu-west-1\", endpoint = \"{}\" }}]\n",
            self.home, self.kms.endpoint
        )
    }

    fn provider(&self, endpoint: &str, arn: &str) -> Arc<dyn KeyProvider> {
        let options = KmsOptions { endpoint: Some(endpoint.to_owned()), attempts_max: 1, ..KmsOptions::default() };
        let arn: KeyArn = arn.parse().expect("a key ARN");
        Arc::new(KmsProvider::new(&self.kms.sdk, &options, [(label("k1"), arn)]))
    }
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

fn calls(gateway: &kit::Process, label: &str) -> u64 {
    let (_, metrics) = gateway.probe("/metrics").expect("metrics");
    let prefix = format!("ciphergate_kms_calls_total{{label=\"{label}\",");
    let values = metrics.lines().filter(|line| line.starts_with(&prefix)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<u64>().expect("a number")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_with_and_without_the_first_region() {
    let key = Replicated::new().await;
    let stranger = key.kms.new_key().await;
    let foreign = key.kms.provider([("x", &stranger)]).generate(&label("x"), &context()).await.expect("generates").blob;
    let dead = format!("http://{}", free_address());
    for first in [key.kms.endpoint.as_str(), dead.as_str()] {
        let replicas = Replicas::new(key.provider(first, &key.home), [key.provider(&key.kms.endpoint, &key.away)]);
        let subject = Subject {
            provider: Arc::new(replicas),
            label: label("k1"),
            second: label("k1"),
            foreign: foreign.clone(),
            tells_keys: true,
        };
        provider_contract(&subject).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_stands_in_for_the_first_region_and_no_longer_than_needed() {
    let key = Replicated::new().await;
    let wire = Wire::to(&key.kms.endpoint).await;
    let site = Site::launch(|launch| launch.key(&key.settings(&wire.endpoint))).await;
    let gateway = &site.gateway;
    gateway.wait_ready().await;
    let log = gateway.log_text();
    assert!(log.contains(&format!("key local: {}, then {}", key.home, key.away)), "{log}");
    let (client, bucket) = (site.client(), site.bucket("replicated").await);
    for n in 0..8 {
        assert_eq!(put(&client, &bucket, &format!("early-{n}")).await, key.home);
    }
    let away = calls(gateway, "local/eu-west-1");

    wire.cut().await;
    for n in 0..8 {
        // Reads of what the first region wrapped, and new objects.
        is_read(&client, &bucket, &format!("early-{n}")).await;
        put(&client, &bucket, &format!("late-{n}")).await;
    }
    assert!(calls(gateway, "local/eu-west-1") >= away + 16);
    let (_, metrics) = gateway.probe("/metrics").expect("metrics");
    for line in [
        "ciphergate_kms_stood_in_total{label=\"local\"} 16",
        "ciphergate_kms_breaker_state{label=\"local\"} 2",
        "ciphergate_kms_breaker_state{label=\"local/eu-west-1\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    // A replica that refuses does not make an outage permanent.
    key.there.disable_key().key_id(&key.away).send().await.expect("disabled");
    assert_eq!(code(client.get_object().bucket(&bucket).key("late-0").send().await), "ServiceUnavailable");
    key.there.enable_key().key_id(&key.away).send().await.expect("enabled");

    // Another process starts without the first region, too.
    let launch = || Launch::new(site.folder.path(), site.store_addr);
    let second = launch().key(&key.settings(&wire.endpoint)).start();
    second.wait_ready().await;
    is_read(&kit::client(second.s3, CLIENT), &bucket, "late-1").await;

    // The first region is back, and is the first again.
    wire.mend();
    let home = calls(gateway, "local");
    let mut n = 0;
    wait_until(Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(100));
        calls(gateway, "local") > home || {
            n += 1;
            let (client, bucket) = (client.clone(), bucket.clone());
            tokio::spawn(async move { put(&client, &bucket, &format!("back-{n}")).await });
            false
        }
    })
    .await;
    wait_until(Duration::from_secs(10), || gateway.in_flight() == 0).await;
    let away = calls(gateway, "local/eu-west-1");
    for n in 0..8 {
        is_read(&client, &bucket, &format!("late-{n}")).await;
    }
    assert_eq!(calls(gateway, "local/eu-west-1"), away, "nobody asks the replica any more");

    // A permanent state is an answer: the replica, whose key works, is not asked.
    key.kms.client.disable_key().key_id(&key.home).send().await.expect("disabled");
    let refused = client.put_object().bucket(&bucket).key("refused").body(noise(10, 1).into()).send().await;
    assert_eq!(code(refused), "KMS.DisabledException");
    assert_eq!(calls(gateway, "local/eu-west-1"), away);

    // Each region alone opens everything: one by the key ARN and its region, the other one by its own ARN.
    let plain =
        format!("kind = \"kms\"\nkey_arn = \"{}\"\nregion = \"eu-west-1\"\nendpoint = \"{}\"\n", key.home, key.kms.endpoint);
    let alone = launch().key(&plain).start();
    let client = kit::client(alone.s3, CLIENT);
    for name in ["early-0", "late-0"] {
        is_read(&client, &bucket, name).await;
    }
    assert_eq!(put(&client, &bucket, "there").await, key.away);
    assert!(wire.taken.load(SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_proves_every_region() {
    let key = Replicated::new().await;
    let site = Site::start().await;
    let launch = || Launch::new(site.folder.path(), site.store_addr).key(&key.settings(&key.kms.endpoint));
    let (exit, text) = run(&launch(), "check", &[]);
    assert!(exit == 0 && text.contains(&format!("key local: {}, then {}", key.home, key.away)), "{text}");
    assert!(text.contains("key local: wraps and unwraps"), "{text}");
    key.there.disable_key().key_id(&key.away).send().await.expect("disabled");
    let (exit, text) = run(&launch(), "check", &[]);
    assert!(exit == 1 && text.contains("key local: FAILED") && text.contains("disabled"), "{text}");
}
