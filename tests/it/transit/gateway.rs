//! The gateway over Transit: what clients hear, and what it takes to go on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::Client;

use super::server::Bao;
use crate::kit::{self, AT_STORE, CLIENT, Launch, Site, code, noise, status};

const POLICY: &str = r#"
path "transit/datakey/plaintext/k" { capabilities = ["update"] }
path "transit/decrypt/k" { capabilities = ["update"] }
path "transit/keys/k" { capabilities = ["read"] }
"#;

/// A file as an agent writes it: whole or not at all.
fn write_token(path: &Path, token: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, token).expect("token file");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::rename(&beside, path).expect("token file in its place");
}

/// A server with the key `k`, and a file with a token that may do no more than it has to.
struct House {
    bao: Bao,
    _folder: tempfile::TempDir,
    token_file: PathBuf,
}

impl House {
    fn new(bao: Bao) -> Self {
        bao.key("k", "");
        bao.policy("gateway", POLICY);
        let folder = tempfile::tempdir().expect("temporary folder");
        let house = Self { bao, token_file: folder.path().join("bao.token"), _folder: folder };
        write_token(&house.token_file, &house.new_token());
        house
    }

    fn new_token(&self) -> String {
        let made = self.bao.run(&["token", "create", "-orphan", "-policy=gateway", "-field=token"]);
        made.trim().to_owned()
    }

    fn token(&self) -> String {
        fs::read_to_string(&self.token_file).expect("token file")
    }

    fn toml(&self) -> String {
        self.bao.toml("k", &self.token_file)
    }

    /// A gateway whose keys are asked for at every read.
    async fn site(&self) -> Site {
        let toml = self.toml();
        Site::launch(|launch| {
            launch.key(&toml).set("CIPHERGATE_ENCRYPTION__CACHE_ENTRIES_MAX", "1").set("CIPHERGATE_LOG__LEVEL", "trace")
        })
        .await
    }
}

async fn put(client: &Client, name: &str, body: &[u8]) -> Result<(), String> {
    match client.put_object().bucket("bao").key(name).body(body.to_vec().into()).send().await {
        Ok(_) => Ok(()),
        other => Err(code(other)),
    }
}

async fn get(client: &Client, name: &str) -> Result<Vec<u8>, String> {
    match client.get_object().bucket("bao").key(name).send().await {
        Ok(answer) => Ok(answer.body.collect().await.expect("a whole body").into_bytes().to_vec()),
        other => Err(code(other)),
    }
}

#[tokio::test]
async fn objects_through_two_gateways_and_the_states_of_their_key() {
    let house = House::new(Bao::start().await);
    let site = house.site().await;
    site.gateway.wait_ready().await;
    site.bucket("bao").await;
    let client = site.client();
    let plain = noise(200_000, 5);
    put(&client, "one", &plain).await.unwrap();
    let ranged = client.get_object().bucket("bao").key("one").range("bytes=70000-70009").send().await.unwrap();
    assert_eq!(ranged.body.collect().await.unwrap().into_bytes(), plain[70_000..70_010]);
    // What lies in the store is sealed, and another instance opens it.
    let stored = site.behind().get_object().bucket("bao").key("one").send().await.unwrap();
    assert!(stored.body.collect().await.unwrap().into_bytes().windows(64).all(|window| window != &plain[..64]));
    let second = Launch::new(site.folder.path(), site.store_addr).key(&house.toml()).start();
    let other = kit::client(second.s3, CLIENT);
    assert_eq!(get(&other, "one").await.unwrap(), plain);

    // Its place is bound: moved at the store, it does not open.
    let moved = site.behind().copy_object().bucket("bao").key("moved").copy_source("bao/one").send().await;
    moved.expect("the store copies");
    assert_eq!(get(&client, "moved").await.unwrap_err(), "IntegrityCheckFailed");

    // A new version of the key is used at once; old objects stay readable until their version is switched off.
    house.bao.run(&["write", "-f", "transit/keys/k/rotate"]);
    put(&client, "two", b"two").await.unwrap();
    let third = Launch::new(site.folder.path(), site.store_addr).key(&house.toml()).start();
    let fresh = kit::client(third.s3, CLIENT);
    assert_eq!(get(&fresh, "one").await.unwrap(), plain);
    house.bao.run(&["write", "transit/keys/k/config", "min_decryption_version=2"]);
    let fourth = Launch::new(site.folder.path(), site.store_addr).key(&house.toml()).start();
    let fresh = kit::client(fourth.s3, CLIENT);
    assert_eq!(get(&fresh, "one").await.unwrap_err(), "KMS.KMSInvalidStateException");
    assert_eq!(status(fresh.get_object().bucket("bao").key("one").send().await), 400);
    assert_eq!(get(&fresh, "two").await.unwrap(), b"two");

    house.bao.run(&["delete", "transit/keys/k/soft-delete"]);
    assert_eq!(put(&fresh, "three", b"3").await.unwrap_err(), "KMS.DisabledException");
    house.bao.run(&["write", "-f", "transit/keys/k/soft-delete-restore"]);
    put(&fresh, "three", b"3").await.unwrap();
    house.bao.run(&["write", "transit/keys/k/config", "deletion_allowed=true"]);
    house.bao.run(&["delete", "transit/keys/k"]);
    assert_eq!(put(&fresh, "four", b"4").await.unwrap_err(), "KMS.NotFoundException");
    assert_eq!(status(site.behind().head_object().bucket("bao").key("four").send().await), 404);

    let (_, metrics) = fourth.probe("/metrics").unwrap();
    assert!(metrics.contains("ciphergate_kms_calls_total{") && metrics.contains("operation=\"Decrypt\""), "{metrics}");
    for gateway in [&site.gateway, &fourth] {
        let log = gateway.log_text().to_lowercase();
        for secret in [&house.token(), AT_STORE.1, CLIENT.1, "x-vault-token"] {
            assert!(!log.contains(&secret.to_lowercase()), "{secret} is in the log");
        }
    }
}

#[tokio::test]
async fn a_token_that_has_ended_is_read_again_from_its_file() {
    let house = House::new(Bao::start().await);
    let site = house.site().await;
    site.gateway.wait_ready().await;
    site.bucket("bao").await;
    let client = site.client();
    put(&client, "before", b"1").await.unwrap();
    house.bao.run(&["token", "revoke", &house.token()]);
    assert_eq!(put(&client, "expired", b"2").await.unwrap_err(), "AccessDenied");
    assert_eq!(status(client.put_object().bucket("bao").key("expired").body(b"2".to_vec().into()).send().await), 403);
    assert!(site.gateway.log_text().contains("credentials_refused"));
    write_token(&house.token_file, &house.new_token());
    put(&client, "after", b"3").await.unwrap();
    assert_eq!(get(&client, "before").await.unwrap(), b"1");
    // A file that others can read by now is not taken.
    house.bao.run(&["token", "revoke", &house.token()]);
    write_token(&house.token_file, &house.new_token());
    fs::set_permissions(&house.token_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(put(&client, "open", b"4").await.unwrap_err(), "AccessDenied");
    assert!(site.gateway.log_text().contains("other users of this machine can read"));
    fs::set_permissions(&house.token_file, fs::Permissions::from_mode(0o600)).unwrap();
    put(&client, "private", b"5").await.unwrap();
    assert!(!site.gateway.log_text().contains(&house.token()));
}

#[tokio::test]
async fn an_outage_ends_by_itself() {
    let mut house = House::new(Bao::start_lasting().await);
    let site = house.site().await;
    site.gateway.wait_ready().await;
    site.bucket("bao").await;
    let client = site.client();
    put(&client, "kept", b"kept").await.unwrap();

    house.bao.kill();
    assert_eq!(put(&client, "down", b"x").await.unwrap_err(), "ServiceUnavailable");
    assert_eq!(status(client.put_object().bucket("bao").key("down").body(b"x".to_vec().into()).send().await), 503);
    // A gateway that starts meanwhile waits for its key, and says so.
    let second = Launch::new(site.folder.path(), site.store_addr).key(&house.toml()).start();
    assert_eq!((second.probe("/livez").unwrap().0, second.probe("/readyz").unwrap().0), (200, 503));
    assert_eq!(get(&kit::client(second.s3, CLIENT), "kept").await.unwrap_err(), "ServiceUnavailable");

    house.bao.start_again().await;
    second.wait_ready().await;
    assert_eq!(get(&kit::client(second.s3, CLIENT), "kept").await.unwrap(), b"kept");
    // The breaker lets somebody try at most 2.5 s later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    put(&client, "up", b"x").await.unwrap();

    house.bao.run(&["operator", "seal"]);
    assert_eq!(put(&client, "sealed", b"x").await.unwrap_err(), "ServiceUnavailable");
    assert_eq!(status(site.behind().head_object().bucket("bao").key("sealed").send().await), 404);
}

fn check(launch: &Launch, secrets: &[&str]) -> (i32, String) {
    let ended = launch.command("check").output().expect("check runs");
    let text = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    for secret in secrets {
        assert!(!text.contains(secret), "check shows {secret}: {text}");
    }
    (ended.status.code().expect("an exit code"), text)
}

#[tokio::test]
async fn check_proves_the_key_and_a_wrong_kind_stops_the_start() {
    let house = House::new(Bao::start_tls().await);
    let site = Site::start().await;
    let launch = |toml: &str| Launch::new(site.folder.path(), site.store_addr).key(toml);
    let (exit, text) = check(&launch(&house.toml()), &[&house.token()]);
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("key local: wraps and unwraps"), "{text}");

    let token = house.token();
    let in_place = house.toml().replace("token_file = ", "token = ").replace(&house.token_file.display().to_string(), &token);
    let (exit, text) = check(&launch(&in_place), &[&token]);
    assert!(exit == 0 && text.contains("token = \"***\""), "{text}");

    let (exit, text) = check(&launch(&in_place.replace(&token, "unknown-token")), &["unknown-token"]);
    assert!(exit == 1 && text.contains("key local: FAILED") && text.contains("credentials are refused"), "{text}");
    let (exit, text) = check(&launch(&house.toml().replace("\"k\"", "\"none\"")), &[&token]);
    assert!(exit == 1 && text.contains("key local: FAILED") && text.contains("denied"), "{text}");
    let (exit, text) = check(&launch("kind = \"transit\"\nkey_name = \"k\""), &[]);
    assert!(exit == 2 && text.contains("keys[0].endpoint") && text.contains("keys[0].token_file"), "{text}");

    house.bao.run(&["write", "-f", "transit/keys/plain"]);
    write_token(&house.token_file, house.bao.token());
    let plain = house.bao.toml("plain", &house.token_file);
    let (exit, text) = check(&launch(&plain), &[house.bao.token()]);
    assert!(exit == 1 && text.contains("is not derived") && text.contains("derived=true"), "{text}");
    let ended = launch(&plain).command("serve").output().expect("serve ends");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && text.contains("is not derived"), "{text}");
}
