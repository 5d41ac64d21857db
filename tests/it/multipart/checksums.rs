//! Checksums of parts and objects: verified, recorded, shown; with every algorithm and type that S3 has.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedPart, ObjectAttributes};
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

use crate::kit::{code, noise};

use super::site::{LEAST, Site, Upload};

fn crc(algorithm: &ChecksumAlgorithm, bytes: &[u8]) -> Vec<u8> {
    use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc, Crc64Nvme};
    match algorithm {
        ChecksumAlgorithm::Crc32 => crc_fast::checksum(Crc32IsoHdlc, bytes).to_be_bytes()[4..].to_vec(),
        ChecksumAlgorithm::Crc32C => crc_fast::checksum(Crc32Iscsi, bytes).to_be_bytes()[4..].to_vec(),
        ChecksumAlgorithm::Crc64Nvme => crc_fast::checksum(Crc64Nvme, bytes).to_be_bytes().to_vec(),
        ChecksumAlgorithm::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
        ChecksumAlgorithm::Sha256 => Sha256::digest(bytes).to_vec(),
        other => panic!("{other}"),
    }
}

struct Case {
    algorithm: ChecksumAlgorithm,
    kind: ChecksumType,
}

fn cases() -> Vec<Case> {
    use ChecksumAlgorithm::{Crc32, Crc32C, Crc64Nvme, Sha1, Sha256};
    use ChecksumType::{Composite, FullObject};
    [
        (Crc32, Composite),
        (Crc32, FullObject),
        (Crc32C, Composite),
        (Crc32C, FullObject),
        (Crc64Nvme, FullObject),
        (Sha1, Composite),
        (Sha256, Composite),
    ]
    .into_iter()
    .map(|(algorithm, kind)| Case { algorithm, kind })
    .collect()
}

/// The value of an algorithm in an answer or a line, by a macro since the SDK has one accessor for each.
macro_rules! value_of {
    ($algorithm:expr, $of:expr) => {
        match $algorithm {
            ChecksumAlgorithm::Crc32 => $of.checksum_crc32(),
            ChecksumAlgorithm::Crc32C => $of.checksum_crc32_c(),
            ChecksumAlgorithm::Crc64Nvme => $of.checksum_crc64_nvme(),
            ChecksumAlgorithm::Sha1 => $of.checksum_sha1(),
            ChecksumAlgorithm::Sha256 => $of.checksum_sha256(),
            other => panic!("{other}"),
        }
    };
}

macro_rules! with_value {
    ($algorithm:expr, $to:expr, $value:expr) => {
        match $algorithm {
            ChecksumAlgorithm::Crc32 => $to.checksum_crc32($value),
            ChecksumAlgorithm::Crc32C => $to.checksum_crc32_c($value),
            ChecksumAlgorithm::Crc64Nvme => $to.checksum_crc64_nvme($value),
            ChecksumAlgorithm::Sha1 => $to.checksum_sha1($value),
            ChecksumAlgorithm::Sha256 => $to.checksum_sha256($value),
            other => panic!("{other}"),
        }
    };
}

async fn create(site: &Site, client: &Client, key: &str, case: &Case) -> Upload {
    let created = client
        .create_multipart_upload()
        .bucket(&site.bucket)
        .key(key)
        .checksum_algorithm(case.algorithm.clone())
        .checksum_type(case.kind.clone())
        .send()
        .await
        .expect("upload");
    assert_eq!((created.checksum_algorithm(), created.checksum_type()), (Some(&case.algorithm), Some(&case.kind)));
    Upload { bucket: site.bucket.clone(), key: key.to_owned(), id: created.upload_id().expect("id").to_owned() }
}

#[tokio::test]
async fn every_algorithm_and_type_is_verified_and_shown() {
    for site in Site::each("", 1).await {
        let client = site.client();
        for case in cases() {
            let key = format!("{}-{}", case.algorithm.as_str(), case.kind.as_str());
            let upload = create(&site, &client, &key, &case).await;
            let plain = [noise(LEAST, 1), noise(LEAST + 7, 2), noise(100, 3)];
            let mut parts = Vec::new();
            for (at, bytes) in plain.iter().enumerate() {
                let number = at as i32 + 1;
                let sum = BASE64.encode(&crc(&case.algorithm, bytes));
                let send = || client.upload_part().bucket(&site.bucket).key(&key).upload_id(&upload.id).part_number(number);
                let wrong = BASE64.encode(&crc(&case.algorithm, b"other"));
                let refused = with_value!(case.algorithm, send(), wrong).body(bytes.clone().into()).send().await;
                assert_eq!(code(refused), "BadDigest", "{key}");
                // Declared, or left to the gateway to compute.
                let sent = if at == 1 { send() } else { with_value!(case.algorithm, send(), &sum) };
                let sent = sent.body(bytes.clone().into()).send().await;
                let sent = sent.unwrap_or_else(|error| panic!("{key}: {error:?}"));
                assert_eq!(value_of!(case.algorithm, sent), Some(sum.as_str()), "{key}");
                let line = CompletedPart::builder().part_number(number).e_tag(sent.e_tag().unwrap());
                parts.push(with_value!(case.algorithm, line, sum).build());
            }
            let whole = plain.concat();
            let expected = match case.kind {
                ChecksumType::FullObject => BASE64.encode(&crc(&case.algorithm, &whole)),
                _ => {
                    let sums: Vec<u8> = plain.iter().flat_map(|bytes| crc(&case.algorithm, bytes)).collect();
                    format!("{}-3", BASE64.encode(&crc(&case.algorithm, &sums)))
                }
            };
            let mut wrong = parts.clone();
            let line = CompletedPart::builder().part_number(1).e_tag(parts[0].e_tag().unwrap());
            wrong[0] = with_value!(case.algorithm, line, BASE64.encode(&crc(&case.algorithm, b"x"))).build();
            assert_eq!(code(upload.complete(&client, &wrong).send().await), "InvalidPart", "{key}");
            let refused =
                with_value!(case.algorithm, upload.complete(&client, &parts), BASE64.encode(&crc(&case.algorithm, b"x")));
            assert_eq!(code(refused.send().await), "BadDigest", "{key}");
            let other = if case.kind == ChecksumType::FullObject { ChecksumType::Composite } else { ChecksumType::FullObject };
            assert_eq!(code(upload.complete(&client, &parts).checksum_type(other).send().await), "InvalidRequest", "{key}");

            let done = with_value!(case.algorithm, upload.complete(&client, &parts), &expected).checksum_type(case.kind.clone());
            let done = done.send().await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
            assert_eq!(
                (value_of!(case.algorithm, done), done.checksum_type()),
                (Some(expected.as_str()), Some(&case.kind)),
                "{key}"
            );
            let head = client.head_object().bucket(&site.bucket).key(&key).checksum_mode(ChecksumMode::Enabled);
            let head = head.send().await.expect("head");
            assert_eq!(
                (value_of!(case.algorithm, head), head.checksum_type()),
                (Some(expected.as_str()), Some(&case.kind)),
                "{key}"
            );
            let got = client.get_object().bucket(&site.bucket).key(&key).checksum_mode(ChecksumMode::Enabled);
            let got = got.send().await.expect("get");
            assert_eq!(
                (value_of!(case.algorithm, got), got.checksum_type()),
                (Some(expected.as_str()), Some(&case.kind)),
                "{key}"
            );
            assert!(got.body.collect().await.expect("the SDK checks the sum, too").into_bytes() == whole);
        }
    }
}

#[tokio::test]
async fn without_a_wish_the_object_has_a_crc64nvme_as_in_s3() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let upload = site.create("k").await;
        let plain = [noise(LEAST, 1), noise(9, 2)];
        // A part may carry another checksum; it is verified.
        let sent = client.upload_part().bucket(&site.bucket).key("k").upload_id(&upload.id).part_number(1);
        let other = BASE64.encode(&crc(&ChecksumAlgorithm::Crc32, &plain[0]));
        let sent = sent.checksum_crc32(other).body(plain[0].clone().into()).send().await.expect("part");
        let one = CompletedPart::builder().part_number(1).e_tag(sent.e_tag().unwrap()).build();
        let two = upload.part(&client, 2, plain[1].clone()).await;
        let done = upload.complete(&client, &[one, two]).send().await.expect("complete");
        let expected = BASE64.encode(&crc(&ChecksumAlgorithm::Crc64Nvme, &plain.concat()));
        assert_eq!(
            (done.checksum_crc64_nvme(), done.checksum_type()),
            (Some(expected.as_str()), Some(&ChecksumType::FullObject))
        );
        let head =
            client.head_object().bucket(&site.bucket).key("k").checksum_mode(ChecksumMode::Enabled).send().await.expect("head");
        assert_eq!(head.checksum_crc64_nvme(), Some(expected.as_str()));
    }
}

#[tokio::test]
async fn pairs_that_cannot_be_and_parts_that_do_not_fit_are_refused() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let create = |algorithm, kind| {
            client
                .create_multipart_upload()
                .bucket(&site.bucket)
                .key("k")
                .checksum_algorithm(algorithm)
                .checksum_type(kind)
                .send()
        };
        assert_eq!(code(create(ChecksumAlgorithm::Sha256, ChecksumType::FullObject).await), "InvalidRequest");
        assert_eq!(code(create(ChecksumAlgorithm::Crc64Nvme, ChecksumType::Composite).await), "InvalidRequest");
        let case = Case { algorithm: ChecksumAlgorithm::Sha256, kind: ChecksumType::Composite };
        let upload = self::create(&site, &client, "k", &case).await;
        let sent = client.upload_part().bucket(&site.bucket).key("k").upload_id(&upload.id).part_number(1);
        let refused = sent
            .checksum_crc32(BASE64.encode(&crc(&ChecksumAlgorithm::Crc32, &noise(9, 1))))
            .body(noise(9, 1).into())
            .send()
            .await;
        assert_eq!(code(refused), "InvalidRequest");
        assert_eq!(site.staged().await.len(), 1, "only the record");
    }
}

#[tokio::test]
async fn a_composite_checksum_wants_that_of_every_part_in_the_list() {
    for site in Site::each("", 1).await {
        let client = site.client();
        for case in cases() {
            let key = format!("{}-{}", case.algorithm.as_str(), case.kind.as_str());
            let upload = create(&site, &client, &key, &case).await;
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for (number, bytes) in [(1, noise(LEAST, 1)), (2, noise(100, 2))] {
                let sum = BASE64.encode(&crc(&case.algorithm, &bytes));
                let sent = client.upload_part().bucket(&site.bucket).key(&key).upload_id(&upload.id).part_number(number);
                let sent = with_value!(case.algorithm, sent, &sum).body(bytes.into()).send().await.expect("part");
                let line = CompletedPart::builder().part_number(number).e_tag(sent.e_tag().unwrap());
                without.push(line.clone().build());
                with.push(with_value!(case.algorithm, line, sum).build());
            }
            if case.kind == ChecksumType::FullObject {
                // Nothing is wanting: the whole has a checksum of its own.
                upload.complete(&client, &without).send().await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
                continue;
            }
            let list = [with[0].clone(), without[1].clone()];
            let refused = upload.complete(&client, &list).send().await.expect_err("a checksum is missing");
            let name = case.algorithm.as_str().to_ascii_lowercase();
            let message = format!(
                "The upload was created using a {name} checksum. The complete request must include the checksum for each part. \
                 It was missing for part 2 in the request."
            );
            assert_eq!((refused.code(), refused.message()), (Some("InvalidRequest"), Some(message.as_str())));
            assert_eq!(crate::kit::status(upload.complete(&client, &without).send().await), 400, "{key}");
            upload.complete(&client, &with).send().await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
        }
    }
}

#[tokio::test]
async fn parts_are_shown_with_their_checksums_where_the_object_keeps_them() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let plain = [noise(LEAST, 1), noise(LEAST + 7, 2), noise(100, 3)];
        for case in cases() {
            let key = format!("{}-{}", case.algorithm.as_str(), case.kind.as_str());
            let upload = create(&site, &client, &key, &case).await;
            let mut lines = Vec::new();
            for (at, bytes) in plain.iter().enumerate() {
                lines.push(upload.part(&client, at as i32 * 2 + 1, bytes.clone()).await);
            }
            upload.complete(&client, &lines).send().await.expect("complete");
            let is_composite = case.kind == ChecksumType::Composite;
            let ask = || client.get_object_attributes().bucket(&site.bucket).key(&key);
            let ask = || ask().object_attributes(ObjectAttributes::ObjectParts).object_attributes(ObjectAttributes::Checksum);
            let (mut seen, mut marker) = (Vec::new(), None);
            loop {
                let page = ask().max_parts(2).set_part_number_marker(marker).send().await.expect("attributes");
                assert_eq!(page.checksum().and_then(|sum| sum.checksum_type()), Some(&case.kind), "{key}");
                let parts = page.object_parts().expect("parts");
                assert_eq!(parts.total_parts_count(), Some(3), "{key}");
                seen.extend(parts.parts().iter().map(|part| {
                    let sum = value_of!(&case.algorithm, part).map(str::to_owned);
                    (part.part_number().unwrap(), part.size().unwrap(), sum)
                }));
                marker = parts.next_part_number_marker().map(str::to_owned);
                if parts.is_truncated() != Some(true) {
                    break;
                }
            }
            let sums = plain.iter().map(|bytes| BASE64.encode(&crc(&case.algorithm, bytes)));
            let all: Vec<_> =
                (0..).zip(sums.zip(&plain)).map(|(at, (sum, bytes))| (at * 2 + 1, bytes.len() as i64, Some(sum))).collect();
            assert_eq!(seen, if is_composite { all.clone() } else { Vec::new() }, "{key}");
            for (number, size, sum) in all {
                let head = client.head_object().bucket(&site.bucket).key(&key).part_number(number);
                let head = head.checksum_mode(ChecksumMode::Enabled).send().await.expect("head");
                assert_eq!((head.content_length(), head.parts_count()), (Some(size), Some(3)), "{key} {number}");
                assert_eq!(value_of!(case.algorithm, head).map(str::to_owned), sum.filter(|_| is_composite), "{key} {number}");
            }
            let head = client.head_object().bucket(&site.bucket).key(&key).send().await.expect("head");
            assert_eq!(head.parts_count(), None, "only with a part's number");
        }
    }
}
