//! Buckets with a past: what each access reads, writes, lists and refuses.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectAttributes, ObjectIdentifier};
use bytes::Bytes;
use ciphergate::format::PlainLen;
use ciphergate::store::Effect;

use crate::heart::Part;
use crate::kit::{Site, code, noise, status};
use crate::planted::Planter;

const MODES: &str = "[buckets.\"old\"]\naccess = \"read-through\"\n[buckets.\"open\"]\naccess = \"plaintext\"\n";

async fn site() -> Site {
    let site = Site::start_with(MODES).await;
    for bucket in ["old", "open", "sealed"] {
        site.behind().create_bucket().bucket(bucket).send().await.unwrap();
    }
    site
}

fn sealed_len(plain: usize) -> usize {
    PlainLen::new(plain as u64).unwrap().sealed().get() as usize
}

/// Reads through the gateway: the bytes, and whether they were marked as plaintext.
async fn read(site: &Site, bucket: &str, key: &str, range: Option<&str>) -> (Bytes, bool) {
    let marked = std::sync::Arc::new(std::sync::Mutex::new(false));
    let seen = marked.clone();
    let got = site.client().get_object().bucket(bucket).key(key).set_range(range.map(str::to_owned)).customize();
    let got = got.interceptor(Mark(seen)).send().await.unwrap();
    let bytes = got.body.collect().await.unwrap().into_bytes();
    let marked = *marked.lock().unwrap();
    (bytes, marked)
}

/// Notes whether an answer says that the object is plaintext.
#[derive(Debug)]
pub struct Mark(pub std::sync::Arc<std::sync::Mutex<bool>>);

impl aws_sdk_s3::config::Intercept for Mark {
    fn name(&self) -> &'static str {
        "Mark"
    }

    fn read_after_transmit(
        &self,
        context: &aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef<'_>,
        _: &aws_sdk_s3::config::RuntimeComponents,
        _: &mut aws_sdk_s3::config::ConfigBag,
    ) -> Result<(), aws_sdk_s3::error::BoxError> {
        *self.0.lock().unwrap() = context.response().headers().get("x-ciphergate-plaintext") == Some("true");
        Ok(())
    }
}

#[tokio::test]
async fn read_through_reads_plaintext_marks_it_and_never_writes_it() {
    let site = site().await;
    let (client, behind) = (site.client(), site.behind());
    // Sizes that a sealed object cannot have, and sizes that one can.
    for size in [0, 1, 100, 239, 240, 241, 65_536, sealed_len(65_536), sealed_len(200_000), 300_000] {
        let plain = Bytes::from(noise(size, size as u64 + 1));
        behind.put_object().bucket("old").key("o").body(plain.clone().into()).metadata("a", "b").send().await.unwrap();
        assert_eq!(read(&site, "old", "o", None).await, (plain.clone(), true), "{size}");
        let head = client.head_object().bucket("old").key("o").send().await.unwrap();
        assert_eq!((head.content_length(), head.metadata().unwrap()["a"].as_str()), (Some(size as i64), "b"));
        let last = size.saturating_sub(1);
        let ranges = [(0, 0), (0, last), (last, last), (size / 2, last), (65_536, 65_540), (131_072, 200_000)];
        for (from, to) in ranges.into_iter().filter(|(from, to)| from <= to && *from < size) {
            let to = to.min(last);
            let (bytes, marked) = read(&site, "old", "o", Some(&format!("bytes={from}-{to}"))).await;
            assert!(bytes == plain[from..=to] && marked, "{size} {from}-{to}");
        }
        if size > 0 {
            let (bytes, _) = read(&site, "old", "o", Some("bytes=-7")).await;
            assert_eq!(bytes, plain[size.saturating_sub(7)..]);
        }
        let beyond = client.get_object().bucket("old").key("o").range(format!("bytes={size}-")).send().await;
        assert_eq!(code(beyond), "InvalidRange");
        let attributes = client.get_object_attributes().bucket("old").key("o").object_attributes(ObjectAttributes::ObjectSize);
        assert_eq!(attributes.send().await.unwrap().object_size(), Some(size as i64));
    }
    // Writing over it seals.
    let plain = noise(1000, 4);
    let put = client.put_object().bucket("old").key("o").body(plain.clone().into()).send().await.unwrap();
    assert!(put.e_tag().unwrap().ends_with("-0\""));
    let stored = behind.get_object().bucket("old").key("o").send().await.unwrap();
    assert!(stored.metadata().unwrap().contains_key("ciphergate"));
    assert_eq!(stored.content_length(), Some(sealed_len(1000) as i64));
    assert_eq!(read(&site, "old", "o", None).await, (Bytes::from(plain), false));
}

#[tokio::test]
async fn an_encrypted_bucket_never_returns_plaintext() {
    let site = site().await;
    let client = site.client();
    for size in [0, 1, 239, 240, 241, sealed_len(1000)] {
        site.behind().put_object().bucket("sealed").key("o").body(noise(size, 1).into()).send().await.unwrap();
        assert_eq!(code(client.get_object().bucket("sealed").key("o").send().await), "IntegrityCheckFailed");
        assert_eq!(status(client.head_object().bucket("sealed").key("o").send().await), 403);
        let part = client.get_object().bucket("sealed").key("o").part_number(1).send().await;
        assert_eq!(code(part), "IntegrityCheckFailed");
        let attributes = client.get_object_attributes().bucket("sealed").key("o").object_attributes(ObjectAttributes::Etag);
        assert_eq!(code(attributes.send().await), "IntegrityCheckFailed");
    }
}

#[tokio::test]
async fn a_bad_envelope_never_makes_a_plaintext_object() {
    let site = site().await;
    let (client, behind) = (site.client(), site.behind());
    let plain = noise(100_000, 1);
    client.put_object().bucket("old").key("o").body(plain.into()).send().await.unwrap();
    let stored = behind.get_object().bucket("old").key("o").send().await.unwrap();
    let envelope = stored.metadata().unwrap()["ciphergate"].clone();
    let sealed = stored.body.collect().await.unwrap().into_bytes();
    let refused = async |envelope: Option<&str>, body: Bytes| {
        let put = behind.put_object().bucket("old").key("o").body(body.into());
        put.set_metadata(envelope.map(|text| [("ciphergate".to_owned(), text.to_owned())].into())).send().await.unwrap();
        assert_eq!(code(client.get_object().bucket("old").key("o").send().await), "IntegrityCheckFailed", "{envelope:?}");
        let range = client.get_object().bucket("old").key("o").range("bytes=5-9").send().await;
        assert_eq!(code(range), "IntegrityCheckFailed", "{envelope:?}");
    };
    for bad in ["", "AAAA", &envelope[..envelope.len() - 4], "not base64 !"] {
        refused(Some(bad), sealed.clone()).await;
        refused(Some(bad), Bytes::from_static(b"plaintext")).await;
    }
    // Taken away altogether: the object still ends like a sealed one.
    refused(None, sealed.clone()).await;
    assert_eq!(status(client.head_object().bucket("old").key("o").send().await), 403);
    Planter::new(&site).multipart("old", "o", &[Part::new(1, noise(70_000, 2))], None).await;
    let stored = behind.get_object().bucket("old").key("o").send().await.unwrap().body.collect().await.unwrap().into_bytes();
    refused(None, stored).await;
}

#[tokio::test]
async fn listings_of_a_read_through_bucket_show_what_each_object_is() {
    let site = site().await;
    let (client, behind) = (site.client(), site.behind());
    let mut expected = Vec::new();
    for (index, size) in [0usize, 17, 239, 240, 241, 1000, 65_776, sealed_len(70_000)].into_iter().enumerate() {
        let (plain, sealed) = (format!("plain-{index}"), format!("sealed-{index}"));
        behind.put_object().bucket("old").key(&plain).body(noise(size, 1).into()).send().await.unwrap();
        client.put_object().bucket("old").key(&sealed).body(noise(size, 2).into()).send().await.unwrap();
        expected.extend([(plain, size as i64), (sealed, size as i64)]);
    }
    expected.sort();
    let mut costs = Vec::new();
    for _ in 0..2 {
        let requests = site.store.faults().inject("*", "", u64::MAX, Effect::Delay(Duration::ZERO));
        let listed = client.list_objects_v2().bucket("old").send().await.unwrap();
        costs.push(requests.count());
        site.store.faults().clear();
        let seen: Vec<_> = listed.contents().iter().map(|o| (o.key().unwrap().to_owned(), o.size().unwrap())).collect();
        assert_eq!(seen, expected);
        for object in listed.contents() {
            let head = client.head_object().bucket("old").key(object.key().unwrap()).send().await.unwrap();
            assert_eq!((head.e_tag(), head.content_length()), (object.e_tag(), object.size()), "{:?}", object.key());
        }
    }
    // The page itself, and one look at each object whose size could be either's: 3 plaintext ones cannot be sealed.
    assert_eq!(costs, [1 + 16 - 3, 1], "the second time nothing has to be looked at");
    let old = client.list_objects().bucket("old").send().await.unwrap();
    let seen: Vec<_> = old.contents().iter().map(|o| (o.key().unwrap().to_owned(), o.size().unwrap())).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_page_of_an_encrypted_bucket_costs_one_request() {
    let site = site().await;
    let client = site.client();
    let mut sizes = Vec::new();
    for index in 0..900usize {
        let (key, size) = (format!("{index:03}"), index * 73);
        client.put_object().bucket("sealed").key(&key).body(noise(size, 1).into()).send().await.unwrap();
        sizes.push((key, size as i64));
    }
    let planter = Planter::new(&site);
    for index in 900..920usize {
        let key = format!("{index:03}");
        // Two parts, and one alone, which may be short.
        let first = if index % 10 == 0 { vec![Part::new(1, noise(5 << 20, 1))] } else { Vec::new() };
        let parts: Vec<_> = first.into_iter().chain([Part::new(3, noise(index, 2))]).collect();
        planter.multipart("sealed", &key, &parts, None).await;
        sizes.push((key, (if index % 10 == 0 { 5 << 20 } else { 0 }) + index as i64));
    }
    for index in 920..1000usize {
        // Copies of both kinds.
        let (from, size) = sizes[index - 60].clone();
        let key = format!("{index:03}");
        client.copy_object().bucket("sealed").key(&key).copy_source(format!("sealed/{from}")).send().await.unwrap();
        sizes.push((key, size));
    }
    let requests = site.store.faults().inject("*", "", u64::MAX, Effect::Delay(Duration::ZERO));
    let seen = |page: &[aws_sdk_s3::types::Object]| -> Vec<_> {
        page.iter().map(|object| (object.key().unwrap().to_owned(), object.size().unwrap())).collect()
    };
    let page = client.list_objects_v2().bucket("sealed").send().await.unwrap();
    assert_eq!(seen(page.contents()), sizes);
    assert_eq!(requests.count(), 1);
    let page = client.list_objects().bucket("sealed").send().await.unwrap();
    assert_eq!(seen(page.contents()), sizes);
    assert_eq!(requests.count(), 2);
}

#[tokio::test]
async fn conditions_and_deletes_in_a_read_through_bucket() {
    let site = site().await;
    let (client, behind) = (site.client(), site.behind());
    let etag =
        behind.put_object().bucket("old").key("o").body(ByteStream::from_static(b"plain")).send().await.unwrap().e_tag.unwrap();
    let get = || client.get_object().bucket("old").key("o");
    assert_eq!(get().send().await.unwrap().e_tag(), Some(etag.as_str()), "the store's own");
    assert!(get().if_match(&etag).range("bytes=0-1").send().await.is_ok());
    assert_eq!(code(get().if_match("\"0123456789abcdef0123456789abcdef\"").send().await), "PreconditionFailed");
    assert_eq!(status(get().if_none_match(&etag).send().await), 304);
    assert_eq!(get().part_number(1).send().await.unwrap().content_range(), Some("bytes 0-4/5"));
    let put = client.put_object().bucket("old").key("o").if_none_match("*").body(ByteStream::from_static(b"x"));
    assert_eq!(code(put.send().await), "PreconditionFailed");
    let by_size = client.delete_object().bucket("old").key("o").if_match_size(5).send().await;
    assert_eq!(code(by_size), "NotImplemented");
    client.delete_object().bucket("old").key("o").send().await.unwrap();
    assert_eq!(code(get().send().await), "NoSuchKey");
}

#[tokio::test]
async fn a_plaintext_bucket_is_passed_through() {
    let site = site().await;
    let (client, behind) = (site.client(), site.behind());
    for size in [0usize, 5, 300_000] {
        let plain = Bytes::from(noise(size, 9));
        let put = client.put_object().bucket("open").key("dir/o ü").body(plain.clone().into());
        let put = put
            .content_type("text/x")
            .content_encoding("gzip")
            .cache_control("no-store")
            .metadata("a", "b")
            .send()
            .await
            .unwrap();
        let direct = behind.get_object().bucket("open").key("dir/o ü").send().await.unwrap();
        assert_eq!(direct.e_tag(), put.e_tag());
        assert_eq!(
            (direct.content_type(), direct.content_encoding(), direct.cache_control()),
            (Some("text/x"), Some("gzip"), Some("no-store"))
        );
        assert_eq!(direct.metadata().unwrap()["a"], "b");
        assert_eq!(direct.body.collect().await.unwrap().into_bytes(), plain);
        assert_eq!(read(&site, "open", "dir/o ü", None).await, (plain.clone(), false));
        let head = client.head_object().bucket("open").key("dir/o ü").send().await.unwrap();
        assert_eq!((head.content_length(), head.e_tag()), (Some(size as i64), put.e_tag()));
    }
    let (middle, _) = read(&site, "open", "dir/o ü", Some("bytes=70000-70009")).await;
    assert_eq!(middle, noise(300_000, 9)[70_000..70_010]);
    let listed = client.list_objects_v2().bucket("open").send().await.unwrap();
    assert_eq!((listed.contents().len(), listed.contents()[0].size()), (1, Some(300_000)));
    assert_eq!(code(client.get_object().bucket("open").key("missing").send().await), "NoSuchKey");
    let ids = vec![ObjectIdentifier::builder().key("dir/o ü").build().unwrap()];
    client
        .delete_objects()
        .bucket("open")
        .delete(Delete::builder().set_objects(Some(ids)).build().unwrap())
        .send()
        .await
        .unwrap();
    assert!(client.list_objects_v2().bucket("open").send().await.unwrap().contents().is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_what_was_declared_leaves_nothing_in_a_plaintext_bucket() {
    let site = site().await;
    let wrong =
        site.client().put_object().bucket("open").key("o").checksum_sha256("n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=");
    assert_eq!(code(wrong.body(ByteStream::from_static(b"other")).send().await), "BadDigest");
    assert!(site.client().list_objects_v2().bucket("open").send().await.unwrap().contents().is_empty());
}
