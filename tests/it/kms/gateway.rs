//! The gateway over KMS: what clients hear when the state of the key changes, and what the operator's commands say of it.

use std::process::Output;
use std::time::Duration;

use crate::kit::{self, AT_KMS, AT_STORE, CLIENT, Launch, Site, code, free_address, noise, status};

/// For changing the state of keys. Every test makes keys of its own, so that none is in another's way.
struct Admin(super::Kms);

impl Admin {
    fn new() -> Self {
        Self(super::Kms::localstack())
    }

    async fn key(&self) -> kit::Kms {
        kit::Kms { endpoint: self.0.endpoint.clone(), arn: self.0.new_key().await }
    }

    async fn disable(&self, key: &kit::Kms) {
        self.0.client.disable_key().key_id(&key.arn).send().await.expect("the key is disabled");
    }

    async fn enable(&self, key: &kit::Kms) {
        self.0.client.enable_key().key_id(&key.arn).send().await.expect("the key is enabled");
    }

    async fn delete(&self, key: &kit::Kms) {
        let scheduled = self.0.client.schedule_key_deletion().key_id(&key.arn).pending_window_in_days(7).send().await;
        scheduled.expect("deletion is scheduled");
    }
}

#[tokio::test]
async fn the_gateway_over_kms_follows_the_state_of_its_key() {
    let admin = Admin::new();
    let key = admin.key().await;
    let site = Site::launch(|launch| launch.kms(key.clone()).set("CIPHERGATE_LOG__LEVEL", "trace")).await;
    site.gateway.wait_ready().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("kms").await);
    let put = |name: &str, body: &[u8]| client.put_object().bucket(&bucket).key(name).body(body.to_vec().into());
    let get = async |name: &str| client.get_object().bucket(&bucket).key(name).send().await;

    let plain = noise(200_000, 3);
    put("cached", &plain).send().await.unwrap();
    put("cold", &plain).send().await.unwrap();
    assert_eq!(get("cached").await.unwrap().body.collect().await.unwrap().into_bytes(), plain);

    admin.disable(&key).await;
    assert_eq!(code(get("cold").await), "KMS.DisabledException");
    assert_eq!(status(get("cold").await), 400);
    let ranged = client.get_object().bucket(&bucket).key("cold").range("bytes=0-9").send().await;
    assert_eq!(code(ranged), "KMS.DisabledException");
    let refused = put("new", &plain).send().await;
    assert_eq!(code(refused), "KMS.DisabledException");
    assert_eq!(status(put("new", b"").send().await), 400);
    assert_eq!(code(put("cold", b"other").send().await), "KMS.DisabledException");
    assert_eq!(status(behind.head_object().bucket(&bucket).key("new").send().await), 404);
    // What was unwrapped before stays usable for its time, and no longer: docs/KEYS.md.
    assert_eq!(get("cached").await.unwrap().body.collect().await.unwrap().into_bytes(), plain);
    // Listing and deleting need no key.
    assert_eq!(client.list_objects_v2().bucket(&bucket).send().await.unwrap().contents().len(), 2);

    admin.enable(&key).await;
    assert_eq!(get("cold").await.unwrap().body.collect().await.unwrap().into_bytes(), plain);
    put("new", &plain).send().await.unwrap();
    assert_eq!(get("new").await.unwrap().body.collect().await.unwrap().into_bytes(), plain);

    admin.delete(&key).await;
    let refused = put("late", &plain).send().await;
    assert_eq!(code(refused), "KMS.KMSInvalidStateException");
    assert_eq!(status(put("late", &plain).send().await), 400);
    assert_eq!(status(behind.head_object().bucket(&bucket).key("late").send().await), 404);

    let log = site.gateway.log_text();
    assert!(log.contains("key_disabled") && log.contains("key_pending_deletion"), "the reason is in the log");
    for secret in [AT_KMS.1, AT_STORE.1, CLIENT.1, "AWS4-HMAC-SHA256", "Plaintext"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn shared_mode_asks_kms_once_for_many_objects() {
    let admin = Admin::new();
    let key = admin.key().await;
    let site = Site::launch(|launch| launch.kms(key.clone()).set("CIPHERGATE_ENCRYPTION__MODE", "shared")).await;
    let (client, bucket) = (site.client(), site.bucket("shared").await);
    let put = |name: &str| client.put_object().bucket(&bucket).key(name).body(noise(1000, name.len() as u64).into()).send();
    put("a").await.unwrap();
    admin.disable(&key).await;
    // The key that is in use wraps and unwraps for its time.
    put("bb").await.unwrap();
    for name in ["a", "bb"] {
        let got = client.get_object().bucket(&bucket).key(name).send().await.unwrap().body.collect().await.unwrap();
        assert_eq!(got.into_bytes(), noise(1000, name.len() as u64));
    }
    // Another process has no such key.
    let second = Launch::new(site.folder.path(), site.store_addr).kms(key).start();
    let get = kit::client(second.s3, CLIENT).get_object().bucket(&bucket).key("a").send().await;
    assert_eq!(code(get), "KMS.DisabledException");
}

fn check(launch: &Launch) -> (i32, String) {
    let Output { status, stdout, stderr } = launch.command("check").output().expect("check runs");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    for secret in [AT_KMS.1, AT_STORE.1, CLIENT.1] {
        assert!(!text.contains(secret), "check shows {secret}: {text}");
    }
    (status.code().expect("an exit code"), text)
}

#[tokio::test]
async fn check_proves_the_key_and_the_store() {
    let admin = Admin::new();
    let key = admin.key().await;
    let site = Site::start().await;
    let launch = |key: &kit::Kms| Launch::new(site.folder.path(), site.store_addr).kms(key.clone());

    let (exit, text) = check(&launch(&key));
    assert_eq!(exit, 0, "{text}");
    assert!(text.contains("key local: wraps and unwraps") && text.contains("store: answers") && text.contains("***"), "{text}");

    admin.disable(&key).await;
    let (exit, text) = check(&launch(&key));
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("key local: FAILED") && text.contains("disabled") && text.contains("store: answers"), "{text}");
    admin.enable(&key).await;

    let nobody = Launch::new(site.folder.path(), free_address()).kms(key.clone());
    let (exit, text) = check(&nobody);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("key local: wraps and unwraps") && text.contains("store: FAILED"), "{text}");

    let alias = kit::Kms { arn: "arn:aws:kms:us-east-1:000000000000:alias/ciphergate".to_owned(), ..key.clone() };
    let (exit, text) = check(&launch(&alias));
    assert_eq!(exit, 2, "{text}");
    assert!(text.contains("alias"), "{text}");
    let (exit, text) = check(&launch(&key).set("CIPHERGATE_LISTEN__COLOUR", "blue").set("CIPHERGATE_LOG__LEVEL", "loud"));
    assert_eq!(exit, 2, "{text}");
    assert!(text.to_lowercase().contains("colour") && text.contains("loud"), "all mistakes together: {text}");
}

#[tokio::test]
async fn ready_is_who_has_proved_its_key() {
    let admin = Admin::new();
    let key = admin.key().await;
    admin.disable(&key).await;
    let site = Site::launch(|launch| launch.kms(key.clone())).await;
    let gateway = &site.gateway;
    for _ in 0..5 {
        assert_eq!(gateway.probe("/readyz").unwrap().0, 503);
        assert_eq!(gateway.probe("/livez").unwrap().0, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(gateway.log_text().contains("a key cannot be proved"));
    admin.enable(&key).await;
    gateway.wait_ready().await;
    // A later trouble shows in the answers, not in the probe.
    admin.disable(&key).await;
    assert_eq!(gateway.probe("/readyz").unwrap().0, 200);
}
