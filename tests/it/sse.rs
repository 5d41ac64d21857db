//! Keys that requests choose, and keys that they bring.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use ciphergate::format::Envelope;
use data_encoding::BASE64;

use crate::kit::{Launch, Site, client, code, noise, status};

/// A second key for the gateway: its file, and the TOML that configures it.
fn second_key(folder: &std::path::Path) -> String {
    let file = folder.join("second");
    let made = Command::new(env!("CARGO_BIN_EXE_ciphergate")).args(["keygen", "--label", "second", "--out"]).arg(&file).output();
    assert!(made.expect("keygen runs").status.success());
    format!("[[keys]]\nlabel = \"second\"\nkind = \"keyring\"\nfile = \"{}\"\n", file.display())
}

async fn stored_envelope(behind: &Client, bucket: &str, key: &str) -> Envelope {
    let head = behind.head_object().bucket(bucket).key(key).send().await.unwrap();
    Envelope::parse(&head.metadata().unwrap()["ciphergate"]).unwrap()
}

#[tokio::test]
async fn a_request_chooses_among_the_configured_keys() {
    let folder = tempfile::tempdir().unwrap();
    let more = second_key(folder.path());
    let site = Site::start_with(&more).await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("chosen").await);
    let put = |key: &str| client.put_object().bucket(&bucket).key(key).body(b"body".to_vec().into());
    let kms = ServerSideEncryption::AwsKms;

    let made = put("second").server_side_encryption(kms.clone()).ssekms_key_id("second").send().await.unwrap();
    assert_eq!((made.server_side_encryption(), made.ssekms_key_id()), (Some(&kms), Some("second")));
    assert_eq!(stored_envelope(&behind, &bucket, "second").await.label().as_str(), "second");
    let head = client.head_object().bucket(&bucket).key("second").send().await.unwrap();
    assert_eq!((head.server_side_encryption(), head.ssekms_key_id()), (Some(&kms), Some("second")));
    let got = client.get_object().bucket(&bucket).key("second").send().await.unwrap();
    assert_eq!((got.server_side_encryption(), got.ssekms_key_id()), (Some(&kms), Some("second")));
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), b"body".as_slice());

    // Whatever kind of encryption is asked for by name, it is the bucket's own rule.
    for (key, method) in [("plain", None), ("aes", Some(ServerSideEncryption::Aes256)), ("kms", Some(kms.clone()))] {
        let made = put(key).set_server_side_encryption(method).send().await.unwrap();
        assert_eq!((made.server_side_encryption(), made.ssekms_key_id()), (Some(&kms), Some("local")), "{key}");
        assert_eq!(stored_envelope(&behind, &bucket, key).await.label().as_str(), "local");
    }

    let unknown = put("x").server_side_encryption(kms.clone()).ssekms_key_id("no-such-key").send().await;
    assert_eq!(status(unknown), 400);
    let unknown = put("x").server_side_encryption(kms.clone()).ssekms_key_id("no-such-key").send().await;
    assert_eq!(code(unknown), "KMS.NotFoundException");
    assert_eq!(code(put("x").ssekms_key_id("second").send().await), "InvalidArgument");
    let mixed = put("x").server_side_encryption(ServerSideEncryption::Aes256).ssekms_key_id("second");
    assert_eq!(code(mixed.send().await), "InvalidArgument");
    let context = put("x").server_side_encryption(kms.clone()).ssekms_encryption_context("e30=");
    assert_eq!(code(context.send().await), "NotImplemented");
    assert_eq!(code(put("x").server_side_encryption(ServerSideEncryption::AwsKmsDsse).send().await), "NotImplemented");
    let bogus = put("x").server_side_encryption(ServerSideEncryption::from("rot13"));
    assert_eq!(code(bogus.send().await), "InvalidEncryptionAlgorithmError");
    assert_eq!(status(behind.head_object().bucket(&bucket).key("x").send().await), 404, "what is refused is not stored");
}

#[tokio::test]
async fn a_key_of_its_own_for_one_object_where_the_rule_shares_one() {
    let site = Site::launch(|launch| launch.set("CIPHERGATE_ENCRYPTION__MODE", "shared")).await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("own").await);
    for (key, wish, shared) in [("rule", None, true), ("true", Some(true), true), ("false", Some(false), false)] {
        let put = client.put_object().bucket(&bucket).key(key).body(b"body".to_vec().into());
        let made = put.server_side_encryption(ServerSideEncryption::AwsKms).set_bucket_key_enabled(wish).send().await.unwrap();
        assert_eq!(made.bucket_key_enabled(), shared.then_some(true), "{key}");
        assert_eq!(stored_envelope(&behind, &bucket, key).await.flags().shared, shared, "{key}");
        let head = client.head_object().bucket(&bucket).key(key).send().await.unwrap();
        assert_eq!(head.bucket_key_enabled(), shared.then_some(true), "{key}");
    }
}

/// A client's own key as the headers carry it.
struct Own {
    key: String,
    md5: String,
}

impl Own {
    fn new(seed: u64) -> Self {
        let bytes = noise(32, seed);
        let md5 = <md5::Md5 as md5::Digest>::digest(&bytes);
        Self { key: BASE64.encode(&bytes), md5: BASE64.encode(&md5) }
    }

    fn put(&self, put: PutObjectFluentBuilder) -> PutObjectFluentBuilder {
        put.sse_customer_algorithm("AES256").sse_customer_key(&self.key).sse_customer_key_md5(&self.md5)
    }

    fn get(&self, get: GetObjectFluentBuilder) -> GetObjectFluentBuilder {
        get.sse_customer_algorithm("AES256").sse_customer_key(&self.key).sse_customer_key_md5(&self.md5)
    }
}

#[tokio::test]
async fn a_clients_own_key_is_demanded_and_kept_nowhere() {
    let site = Site::launch(|launch| launch.set("CIPHERGATE_LOG__LEVEL", "trace")).await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("customer").await);
    let (own, other) = (Own::new(1), Own::new(2));
    let get = |key: &str| client.get_object().bucket(&bucket).key(key);
    let head = |key: &str| client.head_object().bucket(&bucket).key(key);

    for size in [0, 1, 70_000, 1_000_000] {
        let (key, plain) = (format!("o-{size}"), noise(size, 3));
        let made = own.put(client.put_object().bucket(&bucket).key(&key).body(plain.clone().into())).send().await.unwrap();
        assert_eq!((made.sse_customer_algorithm(), made.sse_customer_key_md5()), (Some("AES256"), Some(own.md5.as_str())));
        assert_eq!((made.server_side_encryption(), made.ssekms_key_id()), (None, None));
        let got = own.get(get(&key)).send().await.unwrap();
        assert_eq!((got.sse_customer_algorithm(), got.sse_customer_key_md5()), (Some("AES256"), Some(own.md5.as_str())));
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain);
        if size > 20 {
            let got = own.get(get(&key)).range("bytes=10-19").send().await.unwrap();
            assert_eq!(got.body.collect().await.unwrap().into_bytes(), plain[10..20]);
        }
        let mode = ChecksumMode::Enabled;
        let with_key = head(&key).sse_customer_algorithm("AES256").sse_customer_key(&own.key).sse_customer_key_md5(&own.md5);
        let seen = with_key.checksum_mode(mode).send().await.unwrap();
        assert_eq!((seen.content_length(), seen.sse_customer_key_md5()), (Some(size as i64), Some(own.md5.as_str())));
        assert!(seen.checksum_crc64_nvme().is_some() && seen.server_side_encryption().is_none());

        let envelope = stored_envelope(&behind, &bucket, &key).await;
        assert!(envelope.flags().customer && envelope.label().as_str() == "sse-c");
        // Without the key, with another one.
        assert_eq!(code(get(&key).send().await), "InvalidRequest");
        assert_eq!(code(get(&key).range("bytes=0-0").send().await), "InvalidRequest");
        assert_eq!(status(head(&key).send().await), 400);
        assert_eq!(code(other.get(get(&key)).send().await), "AccessDenied");
        let wrong = head(&key).sse_customer_algorithm("AES256").sse_customer_key(&other.key).sse_customer_key_md5(&other.md5);
        assert_eq!(status(wrong.send().await), 403);
    }
    // A key for what was not sealed with one.
    client.put_object().bucket(&bucket).key("ours").body(b"body".to_vec().into()).send().await.unwrap();
    assert_eq!(code(own.get(get("ours")).send().await), "InvalidRequest");
    let with_key = head("ours").sse_customer_algorithm("AES256").sse_customer_key(&own.key).sse_customer_key_md5(&own.md5);
    assert_eq!(status(with_key.send().await), 400);
    // Keys that are none.
    let put = || client.put_object().bucket(&bucket).key("x").body(b"body".to_vec().into());
    assert_eq!(code(put().sse_customer_algorithm("AES256").send().await), "InvalidArgument");
    let wrong_md5 = put().sse_customer_algorithm("AES256").sse_customer_key(&own.key).sse_customer_key_md5(&other.md5);
    assert_eq!(code(wrong_md5.send().await), "InvalidArgument");
    let both = own.put(put()).server_side_encryption(ServerSideEncryption::AwsKms);
    assert_eq!(code(both.send().await), "InvalidArgument");
    assert_eq!(status(behind.head_object().bucket(&bucket).key("x").send().await), 404);

    // Neither log nor store ever saw it.
    site.gateway.wait_in_flight(0, std::time::Duration::from_secs(5)).await;
    let raw = BASE64.decode(own.key.as_bytes()).unwrap();
    let log = site.gateway.log_text();
    assert!(!log.contains(&own.key) && !log.contains(&own.md5), "the log holds the client's key");
    let mut files = 0;
    search(&site.folder.path().join("store"), &mut |bytes| {
        files += 1;
        for secret in [&raw[..], own.key.as_bytes(), own.md5.as_bytes()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "the store holds the client's key");
        }
    });
    assert!(files > 1);
}

fn search(folder: &std::path::Path, look: &mut impl FnMut(&[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { search(&path, look) } else { look(&std::fs::read(path).unwrap()) }
    }
}

/// Whatever a request says of encryption, and whichever way it goes: nothing of it is in what the store is sent.
#[tokio::test]
async fn nothing_of_a_clients_own_key_is_sent_to_the_store() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = listener.local_addr().unwrap();
    let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
    let seen = sent.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (Ok(mut socket), seen) = (socket, seen.clone()) else { return };
            std::thread::spawn(move || {
                let mut piece = [0; 16 * 1024];
                let mut request = Vec::new();
                while let Ok(read @ 1..) = socket.read(&mut piece) {
                    seen.lock().unwrap().extend_from_slice(&piece[..read]);
                    request.extend_from_slice(&piece[..read]);
                    if request.windows(4).any(|window| window == b"\r\n\r\n") {
                        let _ = socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                        return;
                    }
                }
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let gateway = Launch::new(folder.path(), store).start();
    let sdk = client(gateway.s3, crate::kit::CLIENT);
    let own = Own::new(9);
    let put = sdk.put_object().bucket("bucket").key("o").body(noise(300, 1).into());
    assert!(own.put(put).send().await.is_err());
    assert!(own.get(sdk.get_object().bucket("bucket").key("o")).send().await.is_err());
    let head = sdk.head_object().bucket("bucket").key("o");
    let head = head.sse_customer_algorithm("AES256").sse_customer_key(&own.key).sse_customer_key_md5(&own.md5);
    assert!(head.send().await.is_err());
    let copy = sdk.copy_object().bucket("bucket").key("o").copy_source("bucket/k");
    let copy = copy.sse_customer_algorithm("AES256").sse_customer_key(&own.key).sse_customer_key_md5(&own.md5);
    let copy = copy
        .copy_source_sse_customer_algorithm("AES256")
        .copy_source_sse_customer_key(&own.key)
        .copy_source_sse_customer_key_md5(&own.md5);
    assert!(copy.send().await.is_err());
    let key = own.key.clone();
    let tagging = sdk.get_object_tagging().bucket("bucket").key("o").customize().mutate_request(move |request| {
        request.headers_mut().insert("x-amz-server-side-encryption-customer-key", key.clone());
        request.headers_mut().insert("x-amz-copy-source-server-side-encryption-customer-key", key.clone());
    });
    assert!(tagging.send().await.is_err());

    let sent = String::from_utf8_lossy(&sent.lock().unwrap()).to_ascii_lowercase();
    for wanted in ["put /bucket/o", "get /bucket/o?", "head /bucket/o", "head /bucket/k", "/bucket/o?tagging"] {
        assert!(sent.contains(wanted), "{wanted} did not reach the store");
    }
    assert!(!sent.contains("server-side-encryption"), "{sent}");
    assert!(!sent.contains(&own.key.to_ascii_lowercase()) && !sent.contains(&own.md5.to_ascii_lowercase()));
}

#[tokio::test]
async fn parts_want_the_key_that_their_upload_began_with() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("parts").await);
    let (own, other) = (Own::new(1), Own::new(2));
    client.put_object().bucket(&bucket).key("source").body(noise(100, 1).into()).send().await.unwrap();
    let create = || client.create_multipart_upload().bucket(&bucket).key("k");
    let sealed = create().sse_customer_algorithm("AES256").sse_customer_key(&own.key).sse_customer_key_md5(&own.md5);
    let sealed = sealed.send().await.unwrap().upload_id.unwrap();
    let ours = create().send().await.unwrap().upload_id.unwrap();
    for (id, sent, refusal) in [
        (&sealed, Some(&other), Some("The provided encryption parameters did not match the ones used originally.")),
        (&sealed, None, Some("The multipart upload initiate requested encryption.")),
        (&ours, Some(&own), Some("The multipart upload initiate request did not request encryption.")),
        (&sealed, Some(&own), None),
    ] {
        let (algorithm, key, md5) =
            (sent.map(|_| "AES256".to_owned()), sent.map(|own| own.key.clone()), sent.map(|own| own.md5.clone()));
        let part = client.upload_part().bucket(&bucket).key("k").upload_id(id).part_number(1).body(noise(10, 1).into());
        let part = part.set_sse_customer_algorithm(algorithm.clone()).set_sse_customer_key(key.clone());
        let part = part.set_sse_customer_key_md5(md5.clone()).send().await;
        let copy = client.upload_part_copy().bucket(&bucket).key("k").upload_id(id).part_number(2);
        let copy = copy.copy_source(format!("{bucket}/source")).set_sse_customer_algorithm(algorithm);
        let copy = copy.set_sse_customer_key(key).set_sse_customer_key_md5(md5).send().await;
        let Some(refusal) = refusal else {
            part.unwrap();
            copy.unwrap();
            continue;
        };
        let (part, copy) = (part.unwrap_err(), copy.unwrap_err());
        for (code, message, status) in [
            (part.code(), part.message(), part.raw_response().unwrap().status()),
            (copy.code(), copy.message(), copy.raw_response().unwrap().status()),
        ] {
            assert_eq!((code, status.as_u16()), (Some("InvalidRequest"), 400), "{refusal}");
            assert!(message.unwrap().starts_with(refusal), "{message:?}");
        }
    }
}
