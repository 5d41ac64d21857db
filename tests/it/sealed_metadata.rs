//! Metadata that lie sealed beside an object (FORMAT section 15), over the embedded store: what the bucket's owner sees, and what clients and
//! operators do.

use std::collections::HashMap;
use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, MetadataDirective, StorageClass,
    TaggingDirective, VersioningConfiguration,
};
use ciphergate::format::Envelope;
use data_encoding::BASE64;

use crate::kit::{Launch, Site, code, noise, status};
use crate::operator::{Told, run};

/// Buckets of all kinds. Metadata are sealed in `sealed` and below `s/` in `half`.
const MORE: &str = "multipart.put_bytes_max = 5242880\n\
                    [buckets.sealed]\nseal_metadata = true\n\
                    [buckets.half]\nsuite = \"aes-256-gcm\"\n[[buckets.half.prefixes]]\nprefix = \"s/\"\nseal_metadata = true\n\
                    [buckets.quiet]\nseal_metadata = true\naccess = \"read-through\"\n\
                    [buckets.open]\naccess = \"plaintext\"\n";
/// What stands in no header that is not sealed, and in no file of the store.
const SECRETS: [&str; 8] = [
    "x-secret/type",
    "secret-coding",
    "secret-file.bin",
    "tlh",
    "max-age=4711",
    "secret-value",
    "secret-name",
    "1985 07:28:00 GMT",
];

struct House {
    site: Site,
    client: Client,
    behind: Client,
}

impl House {
    async fn open() -> Self {
        Self::over(Site::launch(|launch| launch.more(MORE).set("CIPHERGATE_BACKEND__COPY_BYTES_MAX", "5242880")).await).await
    }

    async fn over(site: Site) -> Self {
        let (client, behind) = (site.client(), site.behind());
        for bucket in ["sealed", "half", "quiet", "open"] {
            behind.create_bucket().bucket(bucket).send().await.expect("bucket");
        }
        Self { site, client, behind }
    }

    async fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        let put = self.client.put_object().bucket(bucket).key(key).body(body.to_vec().into()).tagging("t=1");
        let put = put.content_type("x-secret/type").content_encoding("secret-coding").content_language("tlh");
        let put = put.content_disposition("attachment; filename=\"secret-file.bin\"").cache_control("max-age=4711");
        let put = put
            .storage_class(StorageClass::StandardIa)
            .metadata("secret-name", "secret-value")
            .metadata("accents", "d\u{e9}j\u{e0}");
        let put = put.customize().mutate_request(|request| {
            request.headers_mut().insert("expires", "Wed, 21 Oct 1985 07:28:00 GMT");
        });
        put.send().await.unwrap_or_else(|error| panic!("{bucket}/{key}: {error:?}"));
    }

    async fn head(&self, bucket: &str, key: &str) -> HeadObjectOutput {
        let head = self.client.head_object().bucket(bucket).key(key).send().await;
        head.unwrap_or_else(|error| panic!("{bucket}/{key}: {error:?}"))
    }

    /// What [`House::put`] has put, as HEAD and GET answer it.
    async fn assert_shown(&self, bucket: &str, key: &str, body: &[u8]) {
        let head = self.head(bucket, key).await;
        let got = self.client.get_object().bucket(bucket).key(key).send().await.expect("get");
        assert_eq!(facts(&head), ORIGINAL, "{bucket}/{key}");
        assert_eq!(head.content_length(), Some(body.len() as i64));
        let of_get = HeadObjectOutput::builder()
            .set_content_type(got.content_type.clone())
            .set_content_encoding(got.content_encoding.clone())
            .set_content_language(got.content_language.clone())
            .set_content_disposition(got.content_disposition.clone())
            .set_cache_control(got.cache_control.clone())
            .set_expires_string(got.expires_string.clone())
            .set_metadata(got.metadata.clone())
            .build();
        assert_eq!(facts(&of_get), ORIGINAL, "{bucket}/{key}");
        assert_eq!(got.body.collect().await.expect("whole").into_bytes(), body, "{bucket}/{key}");
    }

    /// Whether the store shows nothing of it but what has to be there.
    async fn lies_sealed(&self, bucket: &str, key: &str) -> bool {
        let head = self.behind.head_object().bucket(bucket).key(key).send().await.expect("head");
        let mut names: Vec<_> = head.metadata().expect("an envelope").keys().cloned().collect();
        names.sort();
        let sealed = envelope(&head).flags().sealed_metadata;
        assert_eq!(sealed, names == ["ciphergate", "ciphergate-meta"], "{names:?}");
        if sealed {
            let entry = &head.metadata().unwrap()["ciphergate-meta"];
            let others = HeadObjectOutput::builder()
                .set_content_encoding(head.content_encoding.clone())
                .set_content_language(head.content_language.clone())
                .set_content_disposition(head.content_disposition.clone())
                .set_cache_control(head.cache_control.clone())
                .set_expires_string(head.expires_string.clone())
                .build();
            assert_eq!(facts(&others), "None None None None None None []", "{bucket}/{key}");
            assert_eq!(head.content_type(), Some("application/octet-stream"));
            assert!(entry.len() < 1984);
        }
        sealed
    }

    /// Replaces what lies beside the stored bytes, as whoever owns the bucket can.
    async fn replace(&self, bucket: &str, key: &str, metadata: HashMap<String, String>, content_type: &str) {
        let copy = self.behind.copy_object().bucket(bucket).key(key).copy_source(format!("{bucket}/{key}"));
        let copy = copy.metadata_directive(MetadataDirective::Replace).set_metadata(Some(metadata)).content_type(content_type);
        copy.send().await.expect("replaced");
    }

    async fn stored(&self, bucket: &str, key: &str) -> HashMap<String, String> {
        self.behind.head_object().bucket(bucket).key(key).send().await.expect("head").metadata().expect("metadata").clone()
    }

    async fn refused(&self, bucket: &str, key: &str, what: &str) {
        let get = self.client.get_object().bucket(bucket).key(key).send().await;
        assert_eq!(code(get), "IntegrityCheckFailed", "{what}");
        let range = self.client.get_object().bucket(bucket).key(key).range("bytes=0-0").send().await;
        assert_eq!(code(range), "IntegrityCheckFailed", "{what}");
        assert_eq!(status(self.client.head_object().bucket(bucket).key(key).send().await), 403, "{what}");
        let copy = self.client.copy_object().bucket("half").key("s/copy").copy_source(format!("{bucket}/{key}")).send().await;
        assert_eq!(code(copy), "IntegrityCheckFailed", "{what}");
    }

    fn copy(&self, from: &str, bucket: &str, key: &str) -> CopyObjectFluentBuilder {
        self.client.copy_object().copy_source(from).bucket(bucket).key(key)
    }

    async fn operator(&self, args: &[&str]) -> Told {
        run(Launch::new(self.site.folder.path(), self.site.store_addr).more(MORE).command(args[0]), &args[1..]).await
    }
}

const ORIGINAL: &str = "Some(\"x-secret/type\") Some(\"secret-coding\") Some(\"tlh\") Some(\"attachment; filename=\\\"secret-file.bin\\\"\") \
                        Some(\"max-age=4711\") Some(\"Wed, 21 Oct 1985 07:28:00 GMT\") \
                        [(\"accents\", \"=?UTF-8?B?ZMOpasOg?=\"), (\"secret-name\", \"secret-value\")]";

fn facts(head: &HeadObjectOutput) -> String {
    let mut metadata: Vec<_> = head.metadata().into_iter().flatten().collect();
    metadata.sort();
    let content = [
        head.content_type(),
        head.content_encoding(),
        head.content_language(),
        head.content_disposition(),
        head.cache_control(),
        head.expires_string(),
    ];
    format!("{} {metadata:?}", content.map(|value| format!("{value:?}")).join(" "))
}

fn envelope(head: &HeadObjectOutput) -> Envelope {
    Envelope::parse(&head.metadata().unwrap()["ciphergate"]).unwrap()
}

fn files(folder: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, look) } else { look(&path, &std::fs::read(&path).unwrap()) }
    }
}

/// Every way to write, and nothing of what was said beside it in any file of the store.
#[tokio::test]
async fn the_owner_of_the_bucket_sees_no_name_and_no_value() {
    let house = House::open().await;
    let bodies =
        [("empty", noise(0, 1)), ("small", noise(100, 2)), ("chunks", noise(200_000, 3)), ("in-parts", noise(6 << 20, 4))];
    for (key, body) in &bodies {
        house.put("sealed", key, body).await;
        house.put("half", &format!("s/{key}"), body).await;
    }
    // An upload in parts.
    let create = house.client.create_multipart_upload().bucket("sealed").key("upload").content_type("x-secret/type");
    let made = create.content_encoding("secret-coding").metadata("secret-name", "secret-value").send().await.unwrap();
    let id = made.upload_id().unwrap();
    let mut parts = Vec::new();
    for (number, len) in [(1, 5 << 20), (2, 77)] {
        let part = house.client.upload_part().bucket("sealed").key("upload").upload_id(id).part_number(number);
        let etag = part.body(noise(len, number as u64).into()).send().await.unwrap().e_tag;
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
    }
    let complete = house.client.complete_multipart_upload().bucket("sealed").key("upload").upload_id(id);
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    complete.multipart_upload(parts).send().await.unwrap();
    let head = house.head("sealed", "upload").await;
    assert_eq!((head.content_type(), head.content_encoding()), (Some("x-secret/type"), Some("secret-coding")));
    assert_eq!(head.metadata().unwrap()["secret-name"], "secret-value");
    // One that says nothing of itself.
    house.client.put_object().bucket("sealed").key("bare").body(b"x".to_vec().into()).send().await.unwrap();
    let head = house.head("sealed", "bare").await;
    assert_eq!(facts(&head), "Some(\"application/octet-stream\") None None None None None []");
    for key in ["upload", "bare"] {
        assert!(house.lies_sealed("sealed", key).await);
    }

    let other = Launch::new(house.site.folder.path(), house.site.store_addr).more(MORE).start();
    for (bucket, prefix) in [("sealed", ""), ("half", "s/")] {
        for (key, body) in &bodies {
            let key = format!("{prefix}{key}");
            assert!(house.lies_sealed(bucket, &key).await);
            house.assert_shown(bucket, &key, body).await;
            // By another instance too, which has seen nothing of the write.
            let head =
                crate::kit::client(other.s3, crate::kit::CLIENT).head_object().bucket(bucket).key(&key).send().await.unwrap();
            assert_eq!(facts(&head), ORIGINAL);
            // What is not sealed is there for S3 to use.
            let at_store = house.behind.head_object().bucket(bucket).key(&key).send().await.unwrap();
            assert_eq!(at_store.storage_class(), Some(&StorageClass::StandardIa));
            assert_eq!(house.client.get_object_tagging().bucket(bucket).key(&key).send().await.unwrap().tag_set().len(), 1);
        }
    }
    let mut seen = 0;
    files(&house.site.folder.path().join("store"), &mut |path, bytes| {
        seen += 1;
        for secret in SECRETS {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found || secret == "tlh", "{secret} is in {}", path.display());
        }
    });
    assert!(seen > 5);
    // The rule beside it goes on as ever.
    house.put("half", "plain", b"plain").await;
    assert!(!house.lies_sealed("half", "plain").await);
    house.assert_shown("half", "plain", b"plain").await;
}

#[tokio::test]
async fn ranges_conditions_and_overrides_are_as_ever() {
    let house = House::open().await;
    let body = noise(200_000, 1);
    house.put("sealed", "k", &body).await;
    let get = || house.client.get_object().bucket("sealed").key("k");
    let got = get().range("bytes=70000-70009").send().await.unwrap();
    assert_eq!((got.content_type(), got.content_range()), (Some("x-secret/type"), Some("bytes 70000-70009/200000")));
    assert_eq!(got.metadata().unwrap()["secret-name"], "secret-value");
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), body[70_000..70_010]);
    let got = get().range("bytes=-5").send().await.unwrap();
    assert_eq!(got.cache_control(), Some("max-age=4711"));
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), body[199_995..]);
    assert_eq!(code(get().range("bytes=200000-").send().await), "InvalidRange");

    let got = get()
        .response_content_type("text/other")
        .response_cache_control("none")
        .response_expires(std::time::SystemTime::UNIX_EPOCH.into());
    let got = got.send().await.unwrap();
    assert_eq!((got.content_type(), got.cache_control()), (Some("text/other"), Some("none")));
    assert_eq!(got.content_encoding(), Some("secret-coding"), "what is not overridden stays");
    assert!(got.expires_string().unwrap().contains("1970"));
    let head = house.client.head_object().bucket("sealed").key("k").response_content_type("text/other").send().await.unwrap();
    assert_eq!((head.content_type(), head.content_language()), (Some("text/other"), Some("tlh")));

    let etag = house.head("sealed", "k").await.e_tag.unwrap();
    assert_eq!(status(get().if_none_match(&etag).send().await), 304);
    assert_eq!(status(get().if_match("\"other\"").send().await), 412);
    assert!(get().if_match(&etag).send().await.is_ok());
    let head = || house.client.head_object().bucket("sealed").key("k");
    assert_eq!(status(head().if_none_match(&etag).send().await), 304);
    let head = head().range("bytes=1-2").send().await.unwrap();
    assert_eq!((head.content_length(), head.content_type()), (Some(2), Some("x-secret/type")));
}

#[tokio::test]
async fn whatever_the_owner_of_the_bucket_does_to_them_is_refused() {
    let house = House::open().await;
    for key in ["a", "b"] {
        house.put("sealed", key, b"body").await;
    }
    house.put("half", "plain", b"body").await;
    let (a, b) = (house.stored("sealed", "a").await, house.stored("sealed", "b").await);
    let with = |entry: Option<&str>| {
        let mut metadata = a.clone();
        metadata.remove("ciphergate-meta");
        metadata.extend(entry.map(|entry| ("ciphergate-meta".to_owned(), entry.to_owned())));
        metadata
    };
    let entry = a["ciphergate-meta"].as_str();
    let flipped = |at: usize| {
        let other = if &entry[at..=at] == "A" { "B" } else { "A" };
        [&entry[..at], other, &entry[at + 1..]].concat()
    };
    for (what, metadata) in [
        ("the entry is gone", with(None)),
        ("the entry of another object", with(Some(&b["ciphergate-meta"]))),
        ("the first character", with(Some(&flipped(0)))),
        ("a character in the middle", with(Some(&flipped(entry.len() / 2)))),
        ("the last character", with(Some(&flipped(entry.len() - 1)))),
        ("cut", with(Some(&entry[..107]))),
        ("no entry at all", with(Some("x"))),
        ("longer than any", with(Some(&"A".repeat(1500)))),
    ] {
        house.replace("sealed", "a", metadata, "application/octet-stream").await;
        house.refused("sealed", "a", what).await;
    }
    // The flag cannot be put in or taken out: it is in the wrap.
    for (bucket, key) in [("sealed", "b"), ("half", "plain")] {
        let mut metadata = house.stored(bucket, key).await;
        let mut bytes = Envelope::parse(&metadata["ciphergate"]).unwrap().to_bytes();
        bytes[2] ^= 16;
        metadata.insert("ciphergate".to_owned(), Envelope::from_bytes(&bytes).unwrap().encode());
        if bytes[2] & 16 == 0 {
            metadata.remove("ciphergate-meta");
        } else {
            metadata.insert("ciphergate-meta".to_owned(), entry.to_owned());
        }
        let original = house.stored(bucket, key).await;
        house.replace(bucket, key, metadata, "application/octet-stream").await;
        let get = house.client.get_object().bucket(bucket).key(key).send().await;
        assert_eq!(code(get), "IntegrityCheckFailed", "{bucket}/{key}");
        house.replace(bucket, key, original, "application/octet-stream").await;
    }
    // An entry that the envelope does not announce.
    let mut metadata = house.stored("half", "plain").await;
    metadata.insert("ciphergate-meta".to_owned(), entry.to_owned());
    house.replace("half", "plain", metadata, "x/y").await;
    house.refused("half", "plain", "an entry that is not announced").await;
    // What is added beside the entry is not the object's.
    let mut metadata = a.clone();
    metadata.insert("forged".to_owned(), "x".to_owned());
    house.replace("sealed", "a", metadata, "text/forged").await;
    house.assert_shown("sealed", "a", b"body").await;
    // What belongs to a copy of the same object does not pass beside it, though the data key is the same.
    house.copy("sealed/a", "sealed", "copy").send().await.unwrap();
    let copied = house.stored("sealed", "copy").await;
    let mut metadata = a.clone();
    metadata.insert("ciphergate-meta".to_owned(), copied["ciphergate-meta"].clone());
    house.replace("sealed", "a", metadata, "application/octet-stream").await;
    house.refused("sealed", "a", "the entry of another wrap").await;
    house.replace("sealed", "a", copied, "application/octet-stream").await;
    let get = house.client.get_object().bucket("sealed").key("a").send().await;
    assert_eq!(code(get), "IntegrityCheckFailed", "wrap and entry of a copy");
}

#[tokio::test]
async fn the_entry_is_hidden_and_reserved_and_has_its_limit() {
    let house = House::open().await;
    for bucket in ["sealed", "half"] {
        let put = house.client.put_object().bucket(bucket).key("x").body(b"x".to_vec().into());
        assert_eq!(code(put.metadata("ciphergate-meta", "x").send().await), "InvalidArgument");
        let create = house.client.create_multipart_upload().bucket(bucket).key("x").metadata("Ciphergate-Meta", "x");
        assert_eq!(code(create.send().await), "InvalidArgument");
        house.put(bucket, "k", b"x").await;
        let copy = house.copy(&format!("{bucket}/k"), bucket, "x").metadata_directive(MetadataDirective::Replace);
        assert_eq!(code(copy.metadata("ciphergate-meta", "x").send().await), "InvalidArgument");
    }
    // A keyring's envelope leaves 19 units: the type that the SDK sends takes 3 and 24 bytes of them, the entry 5 and its name.
    let put = |bucket: &str, len: usize| {
        let put = house.client.put_object().bucket(bucket).key("long").body(b"x".to_vec().into());
        put.metadata("k", "v".repeat(len)).send()
    };
    let room = 19 * 64 - 3 - "application/octet-stream".len() - 5 - "k".len();
    put("sealed", room).await.unwrap();
    assert_eq!(house.head("sealed", "long").await.metadata().unwrap()["k"].len(), room);
    assert_eq!(code(put("sealed", room + 1).await), "MetadataTooLarge");
    put("half", room + 1).await.unwrap();
    assert_eq!(code(house.copy("half/long", "sealed", "x").send().await), "MetadataTooLarge");
}

/// Sealed to plain, plain to sealed, sealed to sealed, and all of them again through the gateway and in parts.
#[tokio::test]
async fn copies_open_what_they_take_and_seal_by_their_own_rule() {
    let house = House::open().await;
    let (small, large) = (noise(70_000, 1), noise(7 << 20, 2));
    let places = [("sealed", ""), ("half", "s/"), ("half", "p/")];
    for (bucket, prefix) in places {
        house.put(bucket, &format!("{prefix}small"), &small).await;
        house.put(bucket, &format!("{prefix}large"), &large).await;
    }
    for (from, from_prefix) in places {
        for (to, prefix) in places {
            let sealed = prefix != "p/";
            for (name, body) in [("small", &small), ("large", &large)] {
                let source = format!("{from}/{from_prefix}{name}");
                let key = format!("{prefix}of-{from}-{}-{name}", from_prefix.trim_end_matches('/'));
                house.copy(&source, to, &key).send().await.unwrap_or_else(|error| panic!("{source} to {to}/{key}: {error:?}"));
                house.assert_shown(to, &key, body).await;
                assert_eq!(house.lies_sealed(to, &key).await, sealed, "{to}/{key}");
                let replaced = house.copy(&source, to, &key).metadata_directive(MetadataDirective::Replace);
                replaced.content_type("text/new").metadata("n", "m").send().await.unwrap();
                let head = house.head(to, &key).await;
                assert_eq!(facts(&head), "Some(\"text/new\") None None None None None [(\"n\", \"m\")]", "{to}/{key}");
                assert_eq!(house.lies_sealed(to, &key).await, sealed);
            }
            // Through the gateway, since the source has no such checksum.
            let source = format!("{from}/{from_prefix}small");
            let key = format!("{prefix}anew-{from}-{}", from_prefix.trim_end_matches('/'));
            let copy = house.copy(&source, to, &key).checksum_algorithm(ChecksumAlgorithm::Sha256);
            assert!(copy.send().await.unwrap().copy_object_result().unwrap().checksum_sha256().is_some());
            house.assert_shown(to, &key, &small).await;
            assert_eq!(house.lies_sealed(to, &key).await, sealed);
        }
    }
    // Onto itself.
    let before = house.stored("sealed", "small").await;
    assert_eq!(code(house.copy("sealed/small", "sealed", "small").send().await), "InvalidRequest");
    house.copy("sealed/small", "sealed", "small").storage_class(StorageClass::Standard).send().await.unwrap();
    house.assert_shown("sealed", "small", &small).await;
    assert_ne!(house.stored("sealed", "small").await["ciphergate-meta"], before["ciphergate-meta"]);
    let copy = house.copy("sealed/small", "sealed", "small").metadata_directive(MetadataDirective::Replace);
    copy.metadata("n", "m").tagging_directive(TaggingDirective::Copy).send().await.unwrap();
    assert_eq!(house.head("sealed", "small").await.metadata().unwrap().len(), 1);
    // A part of it is bytes and nothing else.
    let id = house.client.create_multipart_upload().bucket("half").key("parts").send().await.unwrap().upload_id.unwrap();
    let part =
        house.client.upload_part_copy().bucket("half").key("parts").upload_id(&id).part_number(1).copy_source("sealed/large");
    let etag = part.send().await.unwrap().copy_part_result.unwrap().e_tag;
    let part = CompletedPart::builder().part_number(1).set_e_tag(etag).build();
    let complete = house.client.complete_multipart_upload().bucket("half").key("parts").upload_id(&id);
    complete.multipart_upload(CompletedMultipartUpload::builder().parts(part).build()).send().await.unwrap();
    let head = house.head("half", "parts").await;
    assert_eq!((head.content_length(), head.metadata().map_or(0, HashMap::len)), (Some(7 << 20), 0));
}

#[tokio::test]
async fn a_clients_own_key_opens_its_metadata_and_nobody_elses_does() {
    let house = House::open().await;
    let key = |seed: u64| {
        let bytes = noise(32, seed);
        (BASE64.encode(&bytes), BASE64.encode(&<md5::Md5 as md5::Digest>::digest(&bytes)))
    };
    let (own, own_md5) = key(1);
    let (other, other_md5) = key(2);
    let put = house.client.put_object().bucket("sealed").key("own").body(b"body".to_vec().into()).content_type("x-secret/type");
    let put = put.metadata("secret-name", "secret-value").sse_customer_algorithm("AES256").sse_customer_key(&own);
    put.sse_customer_key_md5(&own_md5).send().await.unwrap();
    assert!(house.lies_sealed("sealed", "own").await);
    let flags = envelope(&house.behind.head_object().bucket("sealed").key("own").send().await.unwrap()).flags();
    assert!(flags.customer && flags.sealed_metadata);
    let head = |key: &str, md5: &str| {
        let head = house.client.head_object().bucket("sealed").key("own").sse_customer_algorithm("AES256");
        head.sse_customer_key(key).sse_customer_key_md5(md5).send()
    };
    let seen = head(&own, &own_md5).await.unwrap();
    assert_eq!((seen.content_type(), seen.sse_customer_key_md5()), (Some("x-secret/type"), Some(own_md5.as_str())));
    assert_eq!(seen.metadata().unwrap()["secret-name"], "secret-value");
    assert_eq!(status(head(&other, &other_md5).await), 403);
    assert_eq!(status(house.client.head_object().bucket("sealed").key("own").send().await), 400);
    // To the rule's key, and to plain.
    for (bucket, target) in [("sealed", "ours"), ("half", "plain")] {
        let copy = house.copy("sealed/own", bucket, target).copy_source_sse_customer_algorithm("AES256");
        copy.copy_source_sse_customer_key(&own).copy_source_sse_customer_key_md5(&own_md5).send().await.unwrap();
        assert_eq!(house.head(bucket, target).await.metadata().unwrap()["secret-name"], "secret-value");
        assert_eq!(house.lies_sealed(bucket, target).await, bucket == "sealed");
    }
    assert_eq!(code(house.copy("sealed/own", "half", "x").send().await), "InvalidRequest");
}

#[tokio::test]
async fn without_the_key_head_says_what_get_says() {
    let house = House::open().await;
    house.put("sealed", "k", b"body").await;
    house.put("half", "plain", b"body").await;
    // Another keyring under the same label.
    let folder = tempfile::tempdir().unwrap();
    let stranger = Launch::new(folder.path(), house.site.store_addr).more(MORE).start();
    let client = crate::kit::client(stranger.s3, crate::kit::CLIENT);
    let get = status(client.get_object().bucket("sealed").key("k").send().await);
    assert_eq!(status(client.head_object().bucket("sealed").key("k").send().await), get);
    assert!(
        client.head_object().bucket("half").key("plain").send().await.is_ok(),
        "which needs none as long as nothing is sealed"
    );
}

/// What operators do to objects keeps what lies sealed beside them.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_carry_sealed_metadata_on() {
    let house = House::open().await;
    let (small, large) = (noise(70_000, 1), noise(7 << 20, 2));
    for (key, body) in [("d/small", &small), ("d/large", &large)] {
        house.put("sealed", key, body).await;
    }
    let told = house.operator(&["inspect", "s3://sealed/d/small"]).await;
    assert!(told.code == Some(0) && told.out.contains("\n  metadata   sealed, 208 bytes\n"), "{told:?}");
    let told = house.operator(&["inspect", "s3://sealed/d/small", "--unlock"]).await;
    assert!(told.out.contains("sealed, 208 bytes: cache-control, content-disposition, content-encoding, "), "{told:?}");
    assert!(told.out.contains("x-amz-meta-secret-name\n") && !told.out.contains("secret-value"), "{told:?}");
    let told = house.operator(&["inspect", "s3://sealed/d/small", "--unlock", "--json"]).await;
    assert_eq!(told.json()["sealed_metadata"]["names"].as_array().unwrap().len(), 8, "{told:?}");
    let told = house.operator(&["verify", "s3://sealed/"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");

    // New data keys, by the rule as it is now.
    let before = house.stored("sealed", "d/small").await;
    let told = house.operator(&["reencrypt", "s3://sealed/d/", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_ne!(house.stored("sealed", "d/small").await["ciphergate"], before["ciphergate"]);
    for (key, body) in [("d/small", &small), ("d/large", &large)] {
        house.assert_shown("sealed", key, body).await;
        assert!(house.lies_sealed("sealed", key).await);
    }
    // Plaintext that was there before.
    let put = house.behind.put_object().bucket("quiet").key("old").body(small.clone().into()).content_type("x-secret/type");
    put.metadata("secret-name", "secret-value").send().await.unwrap();
    let told = house.operator(&["encrypt", "s3://quiet/", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(house.lies_sealed("quiet", "old").await);
    let head = house.head("quiet", "old").await;
    assert_eq!((head.content_type(), head.metadata().unwrap().len()), (Some("x-secret/type"), 1));
    // The way out.
    let told = house.operator(&["decrypt", "s3://sealed/d/", "--to", "s3://open/out", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let out = house.behind.list_objects_v2().bucket("open").send().await.unwrap();
    let keys: Vec<_> = out.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let head = house.behind.head_object().bucket("open").key(key).send().await.unwrap();
        assert_eq!(facts(&head), ORIGINAL, "{key}");
    }

    // Damage is damage for all of them.
    let mut metadata = house.stored("sealed", "d/small").await;
    let entry = metadata["ciphergate-meta"].clone();
    metadata.insert("ciphergate-meta".to_owned(), [if &entry[..1] == "A" { "B" } else { "A" }, &entry[1..]].concat());
    house.replace("sealed", "d/small", metadata.clone(), "application/octet-stream").await;
    for depth in [&["verify", "s3://sealed/d/", "--json"][..], &["verify", "s3://sealed/d/", "--quick", "--json"]] {
        let told = house.operator(depth).await;
        assert!(told.code == Some(3) && told.out.contains("d/small") && told.out.contains("damaged"), "{told:?}");
    }
    let told = house.operator(&["recover", "s3://sealed/d/small"]).await;
    assert!(
        told.code == Some(3) && told.out.contains("  metadata   lost") && told.out.contains("lost       0 bytes"),
        "{told:?}"
    );
    metadata.remove("ciphergate-meta");
    house.replace("sealed", "d/small", metadata.clone(), "application/octet-stream").await;
    let told = house.operator(&["inspect", "s3://sealed/d/small"]).await;
    assert!(told.code == Some(3) && told.out.contains("the sealed metadata are malformed: they are missing"), "{told:?}");
    metadata.insert("ciphergate-meta".to_owned(), entry);
    house.replace("sealed", "d/small", metadata, "application/octet-stream").await;
    let told = house.operator(&["recover", "s3://sealed/d/small"]).await;
    assert!(told.code == Some(0) && told.out.contains("  metadata   x-amz-meta-secret-name: secret-value\n"), "{told:?}");
}

/// To another key, the metadata sealed for the new wrap, whatever the rule says of them by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrap_seals_them_again_and_a_change_of_the_rule_alone_moves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_ciphergate"))
        .args(["keygen", "--label", "new", "--out"])
        .arg(&file)
        .output();
    assert!(made.unwrap().status.success());
    let second = format!("[[keys]]\nlabel = \"new\"\nkind = \"keyring\"\nfile = \"{}\"\n", file.display());
    let more = format!("{MORE}{second}");
    let house =
        House::over(Site::launch(|launch| launch.more(&more).set("CIPHERGATE_BACKEND__COPY_BYTES_MAX", "5242880")).await).await;
    let (small, large) = (noise(70_000, 1), noise(7 << 20, 2));
    let objects = [("sealed", "small", &small, true), ("sealed", "large", &large, true), ("half", "plain", &small, false)];
    for (bucket, key, body, _) in objects {
        house.put(bucket, key, body).await;
    }
    let command = |rule: &str, bucket: &str, args: &[&str]| {
        let launch = Launch::new(house.site.folder.path(), house.site.store_addr).more(&more);
        let launch = launch.set("CIPHERGATE_BACKEND__COPY_BYTES_MAX", "5242880");
        let launch = launch.set(&format!("CIPHERGATE_BUCKETS__{}__SEAL_METADATA", bucket.to_uppercase()), rule);
        let args: Vec<String> = [&[&*format!("s3://{bucket}/")], args].concat().iter().map(ToString::to_string).collect();
        async move { run(launch.command("rewrap"), &args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    for (bucket, rule) in [("sealed", "false"), ("half", "true")] {
        let told = command(rule, bucket, &["--apply", "--json"]).await;
        assert!(told.code == Some(0) && told.json()["moved"] == 0, "{told:?}");
        let told = command(rule, bucket, &["--to", "new", "--apply", "--json"]).await;
        assert!(told.code == Some(0) && told.json()["stayed"] == 0, "{told:?}");
    }
    for (bucket, key, body, sealed) in objects {
        let head = house.behind.head_object().bucket(bucket).key(key).send().await.unwrap();
        assert_eq!((envelope(&head).label().as_str(), envelope(&head).flags().sealed_metadata), ("new", sealed), "{key}");
        assert_eq!(house.lies_sealed(bucket, key).await, sealed);
        house.assert_shown(bucket, key, body).await;
    }
}

/// A version that opens by its rewrap record has its own salt, and the data key that the record leads to.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_shows_them_by_its_rewrap_record() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("{MORE}{}", crate::operator::keyring(folder.path(), "new"));
    let house = House::over(Site::launch(|launch| launch.more(&more)).await).await;
    let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    house.behind.put_bucket_versioning().bucket("sealed").versioning_configuration(versions).send().await.unwrap();
    house.put("sealed", "k", b"old").await;
    let old = house.head("sealed", "k").await.version_id.unwrap();
    house.client.put_object().bucket("sealed").key("k").body(b"new".to_vec().into()).content_type("x/new").send().await.unwrap();
    let launch = || Launch::new(house.site.folder.path(), house.site.store_addr).more(&more);
    let told = run(launch().command("rewrap"), &["s3://sealed/", "--to", "new", "--versions", "--apply"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");

    let gateway = launch().without_local("new").start();
    let client = crate::kit::client(gateway.s3, crate::kit::CLIENT);
    let head = || client.head_object().bucket("sealed").key("k");
    assert_eq!(facts(&head().version_id(&old).send().await.unwrap()), ORIGINAL);
    let got = client.get_object().bucket("sealed").key("k").version_id(&old).send().await.unwrap();
    assert_eq!((got.content_type(), got.metadata().unwrap().len()), (Some("x-secret/type"), 2));
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), b"old".as_slice());
    assert_eq!(head().send().await.unwrap().content_type(), Some("x/new"));
    let copy = client.copy_object().bucket("half").key("plain").copy_source(format!("sealed/k?versionId={old}"));
    copy.send().await.unwrap();
    assert_eq!(facts(&client.head_object().bucket("half").key("plain").send().await.unwrap()), ORIGINAL);
    let told = run(launch().without_local("new").command("verify"), &["s3://sealed/", "--all-versions"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}
