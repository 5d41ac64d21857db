use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, EncodingType, StorageClass,
};
use ciphergate::store::Effect;

use super::wire::{Random, Site, checking_client, code, noise};

const MIB: usize = 1024 * 1024;
const PART: usize = 5 * MIB;

/// An upload of a key, as a client drives it.
pub struct Multi<'a> {
    site: &'a Site,
    key: String,
    pub id: String,
}

impl<'a> Multi<'a> {
    pub async fn begin(site: &'a Site, key: &str) -> Multi<'a> {
        let upload = site.client.create_multipart_upload().bucket("box").key(key).send().await.unwrap();
        assert_eq!((upload.bucket(), upload.key()), (Some("box"), Some(key)));
        Multi { site, key: key.to_owned(), id: upload.upload_id.unwrap() }
    }

    pub async fn part(&self, number: i32, content: &[u8]) -> CompletedPart {
        let part = self.site.client.upload_part().bucket("box").key(&self.key).upload_id(&self.id).part_number(number);
        let done = part.body(content.to_vec().into()).send().await.unwrap();
        CompletedPart::builder().part_number(number).e_tag(done.e_tag.unwrap()).build()
    }

    pub async fn complete(&self, parts: &[CompletedPart]) -> Result<CompleteMultipartUploadOutput, String> {
        let complete = self.site.client.complete_multipart_upload().bucket("box").key(&self.key).upload_id(&self.id);
        complete.multipart_upload(named(parts)).send().await.map_err(|error| code(&error))
    }
}

pub fn named(parts: &[CompletedPart]) -> CompletedMultipartUpload {
    CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build()
}

/// The tag of an object whose parts have these contents.
fn etag_of(parts: &[&[u8]]) -> String {
    let digests: Vec<u8> = parts.iter().flat_map(|part| xxhash_rust::xxh3::xxh3_128(part).to_be_bytes()).collect();
    format!("\"{:032x}-{}\"", xxhash_rust::xxh3::xxh3_128(&digests), parts.len())
}

#[tokio::test]
async fn parts_in_any_order_become_one_object() {
    let site = Site::start().await;
    let content = noise(1, 2 * PART + 77);
    let (a, rest) = content.split_at(PART);
    let (b, c) = rest.split_at(PART);
    let upload = Multi::begin(&site, "dir/k+ü").await;
    let third = upload.part(10_000, c).await;
    upload.part(2, b"replaced").await;
    let first = upload.part(1, a).await;
    let second = upload.part(2, b).await;
    upload.part(3, b"left out").await;
    assert_eq!(site.files(), 4, "a replaced part is gone");
    assert!(site.keys().await.is_empty());
    let error = site.client.get_object().bucket("box").key("dir/k+ü").part_number(1).send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchKey");

    let parts = [first, second, third];
    let done = upload.complete(&parts).await.unwrap();
    assert_eq!(done.e_tag(), Some(etag_of(&[a, b, c]).as_str()));
    assert_eq!((done.bucket(), done.key(), done.version_id()), (Some("box"), Some("dir/k+ü"), None));
    assert!(done.location().unwrap().ends_with("/box/dir/k%2B%C3%BC"), "{:?}", done.location());
    assert_eq!(site.files(), 3, "a part that was left out is gone");
    assert!(site.get("dir/k+ü").await == content);
    let listed = site.client.list_objects_v2().bucket("box").send().await.unwrap();
    assert_eq!((listed.contents()[0].size(), listed.contents()[0].e_tag()), (Some(content.len() as i64), done.e_tag()));

    // The same request again gets the same answer, another one does not.
    let again = upload.complete(&parts).await.unwrap();
    assert_eq!(again.e_tag(), done.e_tag());
    assert_eq!(upload.complete(&parts[..2]).await.unwrap_err(), "NoSuchUpload");
    site.put("dir/k+ü", "newer").await;
    assert_eq!(upload.complete(&parts).await.unwrap().e_tag(), done.e_tag());
    assert_eq!(site.get("dir/k+ü").await, b"newer");
    assert_eq!(site.files(), 1);
}

#[tokio::test]
async fn ranges_and_parts_of_an_object_in_parts() {
    let site = Site::start().await;
    let sizes = [PART, PART + 1, PART + 300_000, 0];
    let content = noise(7, sizes.iter().sum());
    let upload = Multi::begin(&site, "k").await;
    let mut parts = Vec::new();
    let mut spans = Vec::new();
    let mut offset = 0;
    for (number, size) in (1..).zip(sizes) {
        // Numbers with gaps between them.
        parts.push(upload.part(number * 3, &content[offset..offset + size]).await);
        spans.push((number * 3, offset..offset + size));
        offset += size;
    }
    let etag = upload.complete(&parts).await.unwrap().e_tag.unwrap();
    let mut random = Random(99);
    let edges = [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, content.len() - 1];
    let mut ranges: Vec<(usize, usize)> = edges.iter().flat_map(|from| edges.map(|to| (*from, to))).collect();
    for _ in 0..40 {
        let from = random.below(content.len() as u64) as usize;
        ranges.push((from, from + random.below(1_000_000) as usize));
    }
    for (from, to) in ranges.into_iter().filter(|(from, to)| from <= to) {
        let object = site.client.get_object().bucket("box").key("k").range(format!("bytes={from}-{to}")).send().await.unwrap();
        let to = to.min(content.len() - 1);
        assert_eq!(object.content_range(), Some(format!("bytes {from}-{to}/{}", content.len()).as_str()));
        assert!(object.body.collect().await.unwrap().to_vec() == content[from..=to], "{from}-{to}");
    }

    for (number, span) in spans {
        for method in ["GET", "HEAD"] {
            let answer = site.raw(method, &format!("/box/k?partNumber={number}"), &[], b"").await;
            assert_eq!(answer.header("x-amz-mp-parts-count"), Some(&b"4"[..]));
            assert_eq!(answer.header("etag"), Some(etag.as_bytes()));
            assert_eq!(answer.header("content-length"), Some(span.len().to_string().as_bytes()));
            if span.is_empty() {
                assert_eq!((answer.status, answer.header("content-range")), (200, None));
            } else {
                let range = format!("bytes {}-{}/{}", span.start, span.end - 1, content.len());
                assert_eq!((answer.status, answer.header("content-range")), (206, Some(range.as_bytes())));
            }
            assert!(method == "HEAD" || answer.body == content[span.clone()], "{number}");
        }
    }
    for (query, status, expected) in [
        ("partNumber=1", 416, "InvalidPartNumber"),
        ("partNumber=13", 416, "InvalidPartNumber"),
        ("partNumber=0", 400, "InvalidArgument"),
        ("partNumber=10001", 400, "InvalidArgument"),
    ] {
        let answer = site.raw("GET", &format!("/box/k?{query}"), &[], b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, expected), "{query}");
    }
    let answer = site.raw("GET", "/box/k?partNumber=3", &[("range", "bytes=0-1")], b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidRequest"));
    assert_eq!(site.raw("HEAD", "/box/k", &[], b"").await.header("x-amz-mp-parts-count"), None);

    // What was not uploaded in parts is part 1.
    site.put("single", "content").await;
    let answer = site.raw("GET", "/box/single?partNumber=1", &[], b"").await;
    assert_eq!((answer.status, answer.body.as_slice()), (206, &b"content"[..]));
    assert_eq!(answer.header("x-amz-mp-parts-count"), None);
    assert_eq!(site.raw("GET", "/box/single?partNumber=2", &[], b"").await.code(), "InvalidPartNumber");
}

#[tokio::test]
async fn what_an_upload_is_begun_with_comes_back() {
    let site = Site::start().await;
    let create =
        site.client.create_multipart_upload().bucket("box").key("k").content_type("text/x-test").cache_control("max-age=7");
    let create = create.metadata("plain", "a  b").tagging("a=1&b=2").storage_class(StorageClass::StandardIa);
    let id = create.website_redirect_location("/elsewhere").send().await.unwrap().upload_id.unwrap();
    let upload = Multi { site: &site, key: "k".into(), id };
    let part = upload.part(1, b"small").await;
    upload.complete(&[part]).await.unwrap();
    let object = site.client.get_object().bucket("box").key("k").send().await.unwrap();
    assert_eq!((object.content_type(), object.cache_control()), (Some("text/x-test"), Some("max-age=7")));
    assert_eq!((object.tag_count(), object.storage_class()), (Some(2), Some(&StorageClass::StandardIa)));
    assert_eq!(object.website_redirect_location(), Some("/elsewhere"));
    assert_eq!(object.metadata().unwrap()["plain"], "a  b");
    assert_eq!(object.body.collect().await.unwrap().to_vec(), b"small");

    let wrong = [("x-amz-storage-class", "BEST", "InvalidStorageClass"), ("x-amz-tagging", "=", "InvalidTag")];
    for (name, value, expected) in wrong {
        assert_eq!(site.raw("POST", "/box/k?uploads", &[(name, value)], b"").await.code(), expected);
    }
}

#[tokio::test]
async fn completes_that_are_refused_change_nothing() {
    let site = Site::start().await;
    site.put("k", "old").await;
    let upload = Multi::begin(&site, "k").await;
    let (first, second) = (upload.part(1, &noise(1, PART - 1)).await, upload.part(2, b"b").await);
    let wrong = |number, etag: &str| CompletedPart::builder().part_number(number).e_tag(etag).build();
    let swapped = wrong(1, second.e_tag().unwrap());
    for (parts, expected) in [
        (vec![], "MalformedXML"),
        (vec![second.clone(), first.clone()], "InvalidPartOrder"),
        (vec![second.clone(), second.clone()], "InvalidPartOrder"),
        (vec![swapped, second.clone()], "InvalidPart"),
        (vec![wrong(3, "\"00000000000000000000000000000000\"")], "InvalidPart"),
        (vec![first.clone(), second.clone()], "EntityTooSmall"),
        (vec![wrong(0, "x")], "InvalidArgument"),
    ] {
        assert_eq!(upload.complete(&parts).await.unwrap_err(), expected, "{parts:?}");
    }
    let complete = || site.client.complete_multipart_upload().bucket("box").key("k").upload_id(&upload.id);
    let one = || named(std::slice::from_ref(&second));
    let error = complete().multipart_upload(one()).mpu_object_size(2).send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
    let error = complete().multipart_upload(one()).if_none_match("*").send().await.unwrap_err();
    assert_eq!(code(&error), "PreconditionFailed");
    let error = complete().multipart_upload(one()).if_match("\"other\"").send().await.unwrap_err();
    assert_eq!(code(&error), "PreconditionFailed");
    let other = "00000000000000010000000000000000";
    for (bucket, key, id, expected) in [
        ("box", "other", upload.id.as_str(), "NoSuchUpload"),
        ("box", "k", other, "NoSuchUpload"),
        ("box", "k", "nonsense", "NoSuchUpload"),
        ("none", "k", upload.id.as_str(), "NoSuchBucket"),
    ] {
        let part = site.client.upload_part().bucket(bucket).key(key).upload_id(id).part_number(1).body(noise(1, 9).into());
        assert_eq!(code(&part.send().await.unwrap_err()), expected);
        let complete = site.client.complete_multipart_upload().bucket(bucket).key(key).upload_id(id).multipart_upload(one());
        assert_eq!(code(&complete.send().await.unwrap_err()), expected);
        let abort = site.client.abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
        assert_eq!(code(&abort.send().await.unwrap_err()), expected);
        let list = site.client.list_parts().bucket(bucket).key(key).upload_id(id);
        assert_eq!(code(&list.send().await.unwrap_err()), expected);
    }
    let part = site.client.upload_part().bucket("box").key("k").upload_id(&upload.id).part_number(10_001);
    assert_eq!(code(&part.body(noise(1, 9).into()).send().await.unwrap_err()), "InvalidArgument");
    assert_eq!(site.get("k").await, b"old");
    assert_eq!(site.files(), 3);

    let old = site.raw("HEAD", "/box/k", &[], b"").await.header("etag").unwrap().to_vec();
    let complete = complete().multipart_upload(one()).mpu_object_size(1).if_match(String::from_utf8(old).unwrap());
    complete.send().await.unwrap();
    assert_eq!(site.get("k").await, b"b");
    assert_eq!(site.files(), 1);
}

#[tokio::test]
async fn aborted_uploads_leave_nothing() {
    let site = Site::start().await;
    let upload = Multi::begin(&site, "k").await;
    let part = upload.part(1, b"a").await;
    site.client.abort_multipart_upload().bucket("box").key("k").upload_id(&upload.id).send().await.unwrap();
    assert_eq!(site.files(), 0);
    assert_eq!(upload.complete(&[part]).await.unwrap_err(), "NoSuchUpload");
    // A bucket goes with the uploads under way in it.
    let upload = Multi::begin(&site, "k").await;
    upload.part(1, b"a").await;
    site.client.delete_bucket().bucket("box").send().await.unwrap();
    assert_eq!(site.files(), 0);
}

#[tokio::test]
async fn parts_are_listed_in_pages() {
    let site = Site::start().await;
    let upload = Multi::begin(&site, "k").await;
    let mut etags = Vec::new();
    for number in 1..=7 {
        etags.push((number * 10, upload.part(number * 10, &noise(number as u64, 100 + number as usize)).await.e_tag.unwrap()));
    }
    for size in [1, 3, 7, 1000] {
        let mut seen = Vec::new();
        let mut marker = None;
        loop {
            let list = site.client.list_parts().bucket("box").key("k").upload_id(&upload.id).max_parts(size);
            let page = list.set_part_number_marker(marker.clone()).send().await.unwrap();
            assert!(page.parts().len() <= size as usize);
            assert_eq!((page.bucket(), page.key(), page.upload_id()), (Some("box"), Some("k"), Some(upload.id.as_str())));
            assert_eq!(page.storage_class(), Some(&StorageClass::Standard));
            for part in page.parts() {
                assert_eq!(part.size(), Some(100 + i64::from(part.part_number().unwrap()) / 10));
                assert!(part.last_modified().is_some());
                seen.push((part.part_number().unwrap(), part.e_tag().unwrap().to_owned()));
            }
            marker = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) {
                break;
            }
        }
        assert_eq!(seen, etags, "{size}");
    }
}

#[tokio::test]
async fn uploads_are_listed_in_pages() {
    let site = Site::start().await;
    let mut all = Vec::new();
    for key in ["a", "b/1", "b/2", "b/2", "c d", "c d", "c d"] {
        all.push((key.to_owned(), Multi::begin(&site, key).await.id));
    }
    let walk = |size: i32, prefix: &'static str, delimiter: Option<&'static str>| {
        let client = site.client.clone();
        async move {
            let (mut seen, mut key_marker, mut id_marker) = (Vec::new(), None, None);
            loop {
                let list = client.list_multipart_uploads().bucket("box").max_uploads(size).prefix(prefix);
                let list = list.encoding_type(EncodingType::Url).set_delimiter(delimiter.map(str::to_owned));
                let list = list.set_key_marker(key_marker).set_upload_id_marker(id_marker);
                let page = list.send().await.unwrap();
                let decode = |name: &str| percent_encoding::percent_decode_str(name).decode_utf8().unwrap().into_owned();
                let mut names: Vec<(String, String)> =
                    page.uploads().iter().map(|one| (decode(one.key().unwrap()), one.upload_id().unwrap().to_owned())).collect();
                names.extend(page.common_prefixes().iter().map(|one| (decode(one.prefix().unwrap()), String::new())));
                assert!(names.len() <= size as usize);
                names.sort_by_key(|(name, _)| name.clone());
                seen.extend(names);
                key_marker = page.next_key_marker().map(decode);
                id_marker = page.next_upload_id_marker().map(str::to_owned);
                if page.is_truncated() != Some(true) {
                    return seen;
                }
            }
        }
    };
    for size in [1, 2, 3, 1000] {
        assert_eq!(walk(size, "", None).await, all, "{size}");
        assert_eq!(walk(size, "b/", None).await, all[1..4], "{size}");
        let rolled = walk(size, "", Some("/")).await;
        let names: Vec<&str> = rolled.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b/", "c d", "c d", "c d"], "{size}");
    }
    let page = site.client.list_multipart_uploads().bucket("box").send().await.unwrap();
    assert!(page.uploads()[0].initiated().is_some() && page.uploads()[0].owner().is_some());
}

#[tokio::test]
async fn checksums_of_parts_and_of_the_whole() {
    let site = Site::start().await;
    let client = checking_client(site.running.addr());
    let content = noise(3, PART + 1000);
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Crc32, ChecksumType::Composite),
        (ChecksumAlgorithm::Crc32C, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject),
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
    ] {
        let create = client.create_multipart_upload().bucket("box").key("k").checksum_algorithm(algorithm.clone());
        let upload = create.checksum_type(kind.clone()).send().await.unwrap();
        assert_eq!((upload.checksum_algorithm(), upload.checksum_type()), (Some(&algorithm), Some(&kind)));
        let id = upload.upload_id().unwrap();
        let mut parts = Vec::new();
        for (number, body) in (1..).zip([&content[..PART], &content[PART..]]) {
            let part = client.upload_part().bucket("box").key("k").upload_id(id).part_number(number);
            let done = part.checksum_algorithm(algorithm.clone()).body(body.to_vec().into()).send().await.unwrap();
            let part = CompletedPart::builder().part_number(number).set_e_tag(done.e_tag).set_checksum_crc32(done.checksum_crc32);
            let part = part.set_checksum_crc32_c(done.checksum_crc32_c).set_checksum_crc64_nvme(done.checksum_crc64_nvme);
            parts.push(part.set_checksum_sha256(done.checksum_sha256).build());
        }
        let listed = client.list_parts().bucket("box").key("k").upload_id(id).send().await.unwrap();
        assert_eq!(listed.checksum_algorithm(), Some(&algorithm));
        assert_eq!(listed.parts()[1].checksum_sha256(), parts[1].checksum_sha256());
        let complete = client.complete_multipart_upload().bucket("box").key("k").upload_id(id);
        let done = complete.multipart_upload(named(&parts)).send().await.unwrap();
        assert_eq!(done.checksum_type(), Some(&kind));
        let values = [done.checksum_crc32(), done.checksum_crc32_c(), done.checksum_crc64_nvme(), done.checksum_sha256()];
        let values: Vec<&str> = values.into_iter().flatten().collect();
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].ends_with("-2"), kind == ChecksumType::Composite);
        let head = client.head_object().bucket("box").key("k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        let same = [head.checksum_crc32(), head.checksum_crc32_c(), head.checksum_crc64_nvme(), head.checksum_sha256()];
        assert_eq!(same.into_iter().flatten().collect::<Vec<_>>(), values);
        assert_eq!(head.checksum_type(), Some(&kind));
        if kind == ChecksumType::FullObject {
            // The same as of an upload in one go.
            let put = client.put_object().bucket("box").key("single").checksum_algorithm(algorithm.clone());
            let put = put.body(content.clone().into()).send().await.unwrap();
            assert_eq!([put.checksum_crc32_c(), put.checksum_crc64_nvme()].into_iter().flatten().next(), Some(values[0]));
        }
    }

    // Parts are checked with the algorithm of their upload, and a Complete names what was received.
    let create = client.create_multipart_upload().bucket("box").key("k").checksum_algorithm(ChecksumAlgorithm::Sha1);
    let id = create.send().await.unwrap().upload_id.unwrap();
    let part =
        |algorithm| client.upload_part().bucket("box").key("k").upload_id(&id).part_number(1).checksum_algorithm(algorithm);
    let error = part(ChecksumAlgorithm::Crc32).body(b"x".to_vec().into()).send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
    let path = format!("/box/k?partNumber=1&uploadId={id}");
    assert_eq!(site.raw("PUT", &path, &[], b"x").await.code(), "InvalidRequest");
    let done = part(ChecksumAlgorithm::Sha1).body(b"x".to_vec().into()).send().await.unwrap();
    let named_part = CompletedPart::builder().part_number(1).set_e_tag(done.e_tag.clone());
    let complete = || client.complete_multipart_upload().bucket("box").key("k").upload_id(&id);
    let error = complete().multipart_upload(named(&[named_part.clone().build()])).send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
    let wrong = named_part.clone().checksum_sha1("AAAAAAAAAAAAAAAAAAAAAAAAAAA=").build();
    assert_eq!(code(&complete().multipart_upload(named(&[wrong])).send().await.unwrap_err()), "InvalidPart");
    let right = named_part.set_checksum_sha1(done.checksum_sha1).build();
    complete().multipart_upload(named(&[right])).send().await.unwrap();
    for (headers, expected) in
        [([("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], "BadDigest"), ([("x-amz-checksum-crc32", "AAAAAA==")], "BadDigest")]
    {
        let upload = Multi::begin(&site, "bad").await;
        let path = format!("/box/bad?partNumber=1&uploadId={}", upload.id);
        assert_eq!(site.raw("PUT", &path, &headers, b"x").await.code(), expected);
        let listed = site.client.list_parts().bucket("box").key("bad").upload_id(&upload.id).send().await.unwrap();
        assert!(listed.parts().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_of_parts_ends_with_the_bodies_it_began() {
    let site = Site::start().await;
    let content = noise(1, 4 * PART);
    let upload = Multi::begin(&site, "k").await;
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(content.chunks(PART)) {
        parts.push(upload.part(number, part).await);
    }
    upload.complete(&parts).await.unwrap();
    let mut object = site.client.get_object().bucket("box").key("k").send().await.unwrap();
    let mut received = object.body.next().await.unwrap().unwrap().to_vec();
    site.put("k", "new").await;
    while let Some(piece) = object.body.next().await {
        received.extend_from_slice(&piece.unwrap());
    }
    assert!(received == content);
    drop(object);
    // The files go with the last reader, a moment after it has its last byte.
    for _ in 0..200 {
        if site.files() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(site.files(), 1);
}

#[tokio::test]
async fn faults_strike_parts() {
    let site = Site::start().await;
    let upload = Multi::begin(&site, "k").await;
    // With the last byte: an answer to one who still sends may be lost in the reset that follows it.
    let effect = Effect::FailUpload { after: 400_000, status: 500, code: "InternalError".into() };
    site.store.faults().inject("UploadPart", "k", 1, effect);
    let part =
        || site.client.upload_part().bucket("box").key("k").upload_id(&upload.id).part_number(1).body(noise(1, 400_000).into());
    assert_eq!(code(&part().send().await.unwrap_err()), "InternalError");
    assert_eq!(site.files(), 0);
    part().send().await.unwrap();
    let effect = Effect::Answer { status: 503, code: "SlowDown".into() };
    site.store.faults().inject("CompleteMultipartUpload", "", 1, effect);
    assert_eq!(upload.complete(&[upload.part(1, b"x").await]).await.unwrap_err(), "SlowDown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_completes_with_a_condition_one_wins() {
    let site = std::sync::Arc::new(Site::start().await);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..12_u64 {
        let site = std::sync::Arc::clone(&site);
        tasks.spawn(async move {
            let upload = Multi::begin(&site, "k").await;
            let part = upload.part(1, &noise(writer, 1000)).await;
            let complete =
                site.client.complete_multipart_upload().bucket("box").key("k").upload_id(&upload.id).if_none_match("*");
            match complete.multipart_upload(named(&[part])).send().await {
                Ok(_) => Some(writer),
                Err(error) => {
                    assert_eq!(code(&error), "PreconditionFailed");
                    None
                }
            }
        });
    }
    let winners: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert!(site.get("k").await == noise(winners[0], 1000));
}
