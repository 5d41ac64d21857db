//! Rules for key prefixes, through a running gateway: what each new object is sealed with, and that everything stays readable.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use ciphergate::crypto::Suite;
use ciphergate::format::Envelope;
use ciphergate::keys::keyring::Keyring;

use crate::kit::{Site, noise};

const BUCKET: &str = "ruled";

async fn site() -> (Site, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("second");
    Keyring::create(&second, &"second".parse().unwrap()).unwrap();
    let rules = format!(
        "[[keys]]\nlabel = \"second\"\nkind = \"keyring\"\nfile = \"{}\"\n[buckets.\"{BUCKET}\"]\nhash_key_names = true\n\
         [[buckets.\"{BUCKET}\".prefixes]]\nprefix = \"raw/\"\nkey = \"second\"\n\
         [[buckets.\"{BUCKET}\".prefixes]]\nprefix = \"raw/hot/\"\nmode = \"shared\"\nsuite = \"aes-256-gcm\"\n",
        second.display()
    );
    let site = Site::start_with(&rules).await;
    site.behind().create_bucket().bucket(BUCKET).send().await.unwrap();
    (site, folder)
}

async fn envelope(site: &Site, key: &str) -> Envelope {
    let head = site.behind().head_object().bucket(BUCKET).key(key).send().await.unwrap();
    Envelope::parse(&head.metadata().unwrap()["ciphergate"]).unwrap()
}

/// Label, suite, whether the key is shared and whether its context has the name's hash.
async fn sealed_with(site: &Site, key: &str) -> (String, Suite, bool, bool) {
    let envelope = envelope(site, key).await;
    (envelope.label().to_string(), envelope.suite(), envelope.flags().shared, envelope.flags().hashed_context)
}

#[tokio::test]
async fn new_objects_go_by_the_longest_prefix_and_all_are_read() {
    let (site, _folder) = site().await;
    let client = site.client();
    let main = {
        client.put_object().bucket(BUCKET).key("a").body(noise(10, 1).into()).send().await.unwrap();
        let (label, suite, shared, hashed) = sealed_with(&site, "a").await;
        assert_eq!((suite, shared, hashed), (Suite::ChaCha20Poly1305, false, true));
        assert_ne!(label, "second");
        label
    };
    let cases = [
        ("raw", &main[..], Suite::ChaCha20Poly1305, false, true),
        ("raw/x", "second", Suite::ChaCha20Poly1305, false, true),
        ("raw/hot", "second", Suite::ChaCha20Poly1305, false, true),
        ("raw/hot/x", &main[..], Suite::Aes256Gcm, true, false),
        ("other/raw/x", &main[..], Suite::ChaCha20Poly1305, false, true),
    ];
    let plain = Bytes::from(noise(100_000, 2));
    for (key, label, suite, shared, hashed) in cases {
        client.put_object().bucket(BUCKET).key(key).body(plain.clone().into()).send().await.unwrap();
        assert_eq!(sealed_with(&site, key).await, (label.to_owned(), suite, shared, hashed), "{key}");
    }
    // A copy goes by the place where it is made; what it was sealed with stays.
    client.copy_object().bucket(BUCKET).key("raw/copy").copy_source(format!("{BUCKET}/raw/hot/x")).send().await.unwrap();
    assert_eq!(sealed_with(&site, "raw/copy").await, ("second".to_owned(), Suite::Aes256Gcm, false, true));
    // An upload in parts goes by its key as well.
    let upload = client.create_multipart_upload().bucket(BUCKET).key("raw/parts").send().await.unwrap();
    let id = upload.upload_id().unwrap();
    let part = client.upload_part().bucket(BUCKET).key("raw/parts").upload_id(id).part_number(1).body(plain.clone().into());
    let part = CompletedPart::builder().part_number(1).set_e_tag(part.send().await.unwrap().e_tag).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = client.complete_multipart_upload().bucket(BUCKET).key("raw/parts").upload_id(id).multipart_upload(parts);
    complete.send().await.unwrap();
    assert_eq!(envelope(&site, "raw/parts").await.label().as_str(), "second");
    for key in cases.map(|case| case.0).into_iter().chain(["raw/copy", "raw/parts"]) {
        let got = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert!(got.body.collect().await.unwrap().into_bytes() == plain, "{key}");
    }
}
