use aws_sdk_s3::types::EncodingType;
use futures::{StreamExt as _, stream};

use super::wire::{Random, Site};

/// What a listing is, said the slow way: names and whether they are common prefixes.
fn model(keys: &[String], prefix: &str, delimiter: &str, after: &str) -> Vec<(String, bool)> {
    let mut names: Vec<(String, bool)> = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix) && key.as_bytes() > after.as_bytes()) {
        let rest = &key[prefix.len()..];
        let name = match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => (key[..prefix.len() + at + delimiter.len()].to_owned(), true),
            None => (key.clone(), false),
        };
        if names.last() != Some(&name) && name.0 != after {
            names.push(name);
        }
    }
    names
}

fn random_keys(count: usize) -> Vec<String> {
    let mut random = Random(0xFEED);
    let words = ["a", "bb", "c+d", "e f", "ü", "&", "z", "日"];
    let mut keys: Vec<String> = (0..count)
        .map(|i| {
            let depth = 1 + random.below(4);
            let path: Vec<&str> = (0..depth).map(|_| words[random.below(words.len() as u64) as usize]).collect();
            format!("{}{}", path.join("/"), if i % 3 == 0 { String::new() } else { format!("/{i:04}") })
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[tokio::test]
async fn listings_agree_with_a_naive_model() {
    let site = Site::start().await;
    let keys = random_keys(2000);
    assert!(keys.len() > 1300);
    let uploads = keys.iter().map(|key| {
        let site = &site;
        async move { site.put(key, key.as_bytes()).await }
    });
    let etags: Vec<String> = stream::iter(uploads).buffered(8).collect().await;

    let table = [
        ("", "", ""),
        ("", "/", ""),
        ("a/", "/", ""),
        ("a/", "", ""),
        ("", "/", "a/"),
        ("", "/", "a/zzz"),
        ("bb/", "/", "bb/c+d/"),
        ("", "b/", ""),
        ("c+d/e f/", "/", ""),
        ("ü", "/", ""),
        ("", "", "e f/ü"),
        ("none", "/", ""),
    ];
    for (prefix, delimiter, after) in table {
        let expected = model(&keys, prefix, delimiter, after);
        for (version, size, encoded) in [(2, 1000, true), (2, 7, false), (1, 1000, false), (1, 13, true)] {
            if size < 20 && expected.len() > 400 {
                continue;
            }
            let got = if version == 2 {
                version_2(&site, prefix, delimiter, after, size, encoded).await
            } else {
                version_1(&site, prefix, delimiter, after, size, encoded).await
            };
            assert!(got == expected, "{prefix:?} {delimiter:?} {after:?} {version} {size}: {got:?} {expected:?}");
        }
    }

    let page = site.client.list_objects_v2().bucket("box").fetch_owner(true).send().await.unwrap();
    assert_eq!((page.key_count(), page.is_truncated(), page.max_keys()), (Some(1000), Some(true), Some(1000)));
    for (object, (key, etag)) in page.contents().iter().zip(keys.iter().zip(&etags)) {
        assert_eq!((object.key(), object.e_tag()), (Some(key.as_str()), Some(etag.as_str())));
        assert_eq!(object.size(), Some(key.len() as i64));
        assert_eq!(object.storage_class().map(|class| class.as_str()), Some("STANDARD"));
        assert!(object.last_modified().is_some() && object.owner().is_some());
    }
    let none = site.client.list_objects_v2().bucket("box").max_keys(0).send().await.unwrap();
    assert_eq!((none.key_count(), none.is_truncated()), (Some(0), Some(false)));
    for path in ["/box?list-type=2&max-keys=-1", "/box?list-type=2&continuation-token=%21", "/box?encoding-type=x"] {
        let answer = site.raw("GET", path, &[], b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidArgument"), "{path}");
    }
    assert_eq!(site.raw("GET", "/none?list-type=2", &[], b"").await.code(), "NoSuchBucket");
}

fn decode(name: &str, encoded: bool) -> String {
    if encoded { percent_encoding::percent_decode_str(name).decode_utf8().unwrap().into_owned() } else { name.to_owned() }
}

fn merge(mut names: Vec<(String, bool)>) -> Vec<(String, bool)> {
    names.sort_unstable();
    names
}

async fn version_2(site: &Site, prefix: &str, delimiter: &str, after: &str, size: i32, encoded: bool) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    let mut token = None;
    loop {
        let list =
            site.client.list_objects_v2().bucket("box").prefix(prefix).delimiter(delimiter).start_after(after).max_keys(size);
        let list = list.set_continuation_token(token).set_encoding_type(encoded.then_some(EncodingType::Url));
        let page = list.send().await.unwrap();
        let keys = page.contents().iter().map(|object| (decode(object.key().unwrap(), encoded), false));
        let prefixes = page.common_prefixes().iter().map(|prefix| (decode(prefix.prefix().unwrap(), encoded), true));
        let names = merge(keys.chain(prefixes).collect());
        assert_eq!(page.key_count(), Some(names.len() as i32));
        all.extend(names);
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(token.is_some(), page.is_truncated().unwrap());
        if token.is_none() {
            return all;
        }
    }
}

async fn version_1(site: &Site, prefix: &str, delimiter: &str, after: &str, size: i32, encoded: bool) -> Vec<(String, bool)> {
    let mut all: Vec<(String, bool)> = Vec::new();
    let mut marker = after.to_owned();
    loop {
        let list = site.client.list_objects().bucket("box").prefix(prefix).delimiter(delimiter).marker(&marker).max_keys(size);
        let page = list.set_encoding_type(encoded.then_some(EncodingType::Url)).send().await.unwrap();
        let keys = page.contents().iter().map(|object| (decode(object.key().unwrap(), encoded), false));
        let prefixes = page.common_prefixes().iter().map(|prefix| (decode(prefix.prefix().unwrap(), encoded), true));
        all.extend(merge(keys.chain(prefixes).collect()));
        if page.is_truncated() != Some(true) {
            return all;
        }
        let last = all.last().unwrap().0.clone();
        let next = page.next_marker().map(|next| decode(next, encoded));
        assert_eq!(next, (!delimiter.is_empty()).then(|| last.clone()));
        marker = last;
    }
}
