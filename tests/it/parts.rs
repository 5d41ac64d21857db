//! Reads by part number and GetObjectAttributes, over objects in one piece and in parts.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, ObjectAttributes};
use ciphergate::format::{ChecksumAlgorithm, ChecksumBytes, ObjectChecksum};
use data_encoding::BASE64;

use crate::heart::{Part, plain_of};
use crate::kit::{Site, code, noise, status};
use crate::planted::Planter;

const PART: usize = 5_242_880;

/// Numbers with gaps.
fn parts() -> Vec<Part> {
    vec![Part::new(1, noise(PART, 1)), Part::new(3, noise(PART + 70_000, 2)), Part::new(9, noise(17, 3))]
}

/// A last part without bytes.
fn empty_last() -> Vec<Part> {
    vec![Part::new(1, noise(PART, 1)), Part::new(2, noise(PART, 2)), Part::new(3, Vec::new())]
}

async fn bytes(got: GetObjectOutput) -> Vec<u8> {
    got.body.collect().await.expect("whole").to_vec()
}

#[tokio::test]
async fn a_part_is_read_by_the_number_it_was_uploaded_with() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("parts").await);
    let unbound: Vec<Part> = parts().into_iter().map(Part::unbound).collect();
    let planter = Planter::new(&site);
    for (key, parts) in [("bound", parts()), ("unbound", unbound), ("tail", empty_last())] {
        planter.multipart(&bucket, key, &parts, None).await;
        let whole = plain_of(&parts);
        let mut start = 0;
        for part in &parts {
            let number = i32::from(part.number);
            let got = client.get_object().bucket(&bucket).key(key).part_number(number).send().await.unwrap();
            let head = client.head_object().bucket(&bucket).key(key).part_number(number).send().await.unwrap();
            let length = part.plain.len() as i64;
            let range = (length > 0).then(|| format!("bytes {start}-{}/{}", start + length - 1, whole.len()));
            assert_eq!((got.parts_count(), got.content_length(), got.content_range()), (Some(3), Some(length), range.as_deref()));
            assert_eq!(
                (head.parts_count(), head.content_length(), head.content_range()),
                (Some(3), Some(length), range.as_deref())
            );
            assert_eq!(got.e_tag(), head.e_tag());
            assert!(bytes(got).await == part.plain, "{key} {number}");
            start += length;
        }
        for missing in [4, 5, 10_000] {
            let got = client.get_object().bucket(&bucket).key(key).part_number(missing).send().await;
            assert_eq!(code(got), "InvalidPartNumber");
            assert_eq!(status(client.head_object().bucket(&bucket).key(key).part_number(missing).send().await), 416);
        }
        let got = client.get_object().bucket(&bucket).key(key).send().await.unwrap();
        assert_eq!((got.parts_count(), got.content_range()), (None, None));
        assert!(bytes(got).await == whole, "{key}");
    }
}

#[tokio::test]
async fn an_object_of_one_upload_is_its_own_part_1() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("parts").await);
    for size in [1usize, 200_000] {
        let plain = noise(size, 5);
        client.put_object().bucket(&bucket).key("o").body(plain.clone().into()).send().await.unwrap();
        let range = format!("bytes 0-{}/{size}", size - 1);
        let got = client
            .get_object()
            .bucket(&bucket)
            .key("o")
            .part_number(1)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .unwrap();
        assert_eq!((got.parts_count(), got.content_range()), (None, Some(range.as_str())));
        assert!(got.checksum_crc64_nvme().is_some(), "it is the checksum of exactly these bytes");
        assert!(bytes(got).await == plain);
        let head = client.head_object().bucket(&bucket).key("o").part_number(1).send().await.unwrap();
        assert_eq!(
            (head.parts_count(), head.content_length(), head.content_range()),
            (None, Some(size as i64), Some(range.as_str()))
        );
        assert_eq!(code(client.get_object().bucket(&bucket).key("o").part_number(2).send().await), "InvalidPartNumber");
    }
    client.put_object().bucket(&bucket).key("empty").body(ByteStream::from_static(b"")).send().await.unwrap();
    let got = client.get_object().bucket(&bucket).key("empty").part_number(1).send().await.unwrap();
    assert_eq!((got.content_length(), got.content_range()), (Some(0), None));
}

#[tokio::test]
async fn numbers_that_no_part_has_and_ranges_beside_a_number_are_refused() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("parts").await);
    client.put_object().bucket(&bucket).key("o").body(ByteStream::from_static(b"abc")).send().await.unwrap();
    for bad in [0, -1, 10_001] {
        assert_eq!(code(client.get_object().bucket(&bucket).key("o").part_number(bad).send().await), "InvalidArgument");
        assert_eq!(status(client.head_object().bucket(&bucket).key("o").part_number(bad).send().await), 400);
    }
    let both = client.get_object().bucket(&bucket).key("o").part_number(1).range("bytes=0-1").send().await;
    assert_eq!(code(both), "InvalidRequest");
    assert_eq!(status(client.head_object().bucket(&bucket).key("o").part_number(1).range("bytes=0-1").send().await), 400);
}

#[tokio::test]
async fn a_damaged_part_is_not_released() {
    let site = Site::start().await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("parts").await);
    Planter::new(&site).multipart(&bucket, "o", &parts(), None).await;
    let stored = behind.get_object().bucket(&bucket).key("o").send().await.unwrap();
    let envelope = stored.metadata().unwrap()["ciphergate"].clone();
    let mut sealed = stored.body.collect().await.unwrap().to_vec();
    // Inside the first chunk of part 3.
    let place = PART + 16 * (PART / 65_536) + 32 + 32 + 5;
    sealed[place] ^= 1;
    behind.put_object().bucket(&bucket).key("o").body(sealed.into()).metadata("ciphergate", envelope).send().await.unwrap();
    assert_eq!(code(client.get_object().bucket(&bucket).key("o").part_number(3).send().await), "IntegrityCheckFailed");
    let first = client.get_object().bucket(&bucket).key("o").part_number(1).send().await.unwrap();
    assert!(bytes(first).await == parts()[0].plain);
}

fn every_attribute() -> Vec<ObjectAttributes> {
    use ObjectAttributes::*;
    vec![Etag, Checksum, ObjectParts, StorageClass, ObjectSize]
}

#[tokio::test]
async fn attributes_of_an_object_in_one_piece() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("attributes").await);
    let plain = noise(100_000, 1);
    let sha256 = BASE64.encode(&<sha2::Sha256 as sha2::Digest>::digest(&plain));
    let put = client.put_object().bucket(&bucket).key("o").checksum_sha256(&sha256).body(plain.into()).send().await.unwrap();
    let ask = |wanted| client.get_object_attributes().bucket(&bucket).key("o").set_object_attributes(Some(wanted)).send();
    let all = ask(every_attribute()).await.unwrap();
    assert_eq!(all.e_tag(), Some(put.e_tag().unwrap().trim_matches('"')));
    assert_eq!((all.object_size(), all.storage_class().unwrap().as_str()), (Some(100_000), "STANDARD"));
    let checksum = all.checksum().unwrap();
    assert_eq!((checksum.checksum_sha256(), checksum.checksum_type()), (Some(sha256.as_str()), Some(&ChecksumType::FullObject)));
    assert!(all.object_parts().is_none() && all.last_modified().is_some());
    let size = ask(vec![ObjectAttributes::ObjectSize]).await.unwrap();
    assert!(size.e_tag().is_none() && size.checksum().is_none() && size.storage_class().is_none());
    assert_eq!(code(ask(vec![ObjectAttributes::from("Colour")]).await), "InvalidArgument");
    let missing =
        client.get_object_attributes().bucket(&bucket).key("missing").object_attributes(ObjectAttributes::Etag).send().await;
    assert_eq!(code(missing), "NoSuchKey");
    // Not sealed, so there is nothing to tell.
    site.behind().put_object().bucket(&bucket).key("foreign").body(ByteStream::from_static(b"x")).send().await.unwrap();
    let foreign =
        client.get_object_attributes().bucket(&bucket).key("foreign").object_attributes(ObjectAttributes::Etag).send().await;
    assert_eq!(code(foreign), "IntegrityCheckFailed");
}

#[tokio::test]
async fn attributes_of_an_object_in_parts() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("attributes").await);
    let summed: Vec<Part> = parts()
        .into_iter()
        .map(|part| Part { checksum: ChecksumBytes::new(&[u8::try_from(part.number).unwrap(); 4]).unwrap(), ..part })
        .collect();
    let whole = plain_of(&summed).len() as i64;
    let planter = Planter::new(&site);
    planter.multipart(&bucket, "composite", &summed, Some(ObjectChecksum::composite(ChecksumAlgorithm::Crc32))).await;
    let full = ObjectChecksum::full_object(ChecksumAlgorithm::Crc32, &[1, 2, 3, 4]).unwrap();
    planter.multipart(&bucket, "full", &summed, Some(full)).await;
    planter.multipart(&bucket, "none", &parts(), None).await;

    let ask = |key: &str| client.get_object_attributes().bucket(&bucket).key(key).set_object_attributes(Some(every_attribute()));
    let composite = ask("composite").send().await.unwrap();
    assert_eq!(composite.object_size(), Some(whole));
    let checksum = composite.checksum().unwrap();
    assert_eq!(checksum.checksum_type(), Some(&ChecksumType::Composite));
    assert!(!checksum.checksum_crc32().unwrap().contains('-'));
    let head = client.head_object().bucket(&bucket).key("composite").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(head.checksum_crc32(), Some(format!("{}-3", checksum.checksum_crc32().unwrap()).as_str()));
    let listed = composite.object_parts().unwrap();
    let seen: Vec<_> =
        listed.parts().iter().map(|p| (p.part_number().unwrap(), p.size().unwrap(), p.checksum_crc32().unwrap())).collect();
    assert_eq!(seen, [(1, PART as i64, "AQEBAQ=="), (3, PART as i64 + 70_000, "AwMDAw=="), (9, 17, "CQkJCQ==")]);
    assert_eq!((listed.total_parts_count(), listed.is_truncated()), (Some(3), Some(false)));

    let page = ask("composite").max_parts(1).part_number_marker("1").send().await.unwrap();
    let page = page.object_parts().unwrap();
    let numbers: Vec<_> = page.parts().iter().map(|p| p.part_number().unwrap()).collect();
    assert_eq!((numbers, page.is_truncated(), page.next_part_number_marker()), (vec![3], Some(true), Some("3")));

    let part = client
        .get_object()
        .bucket(&bucket)
        .key("composite")
        .part_number(9)
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .unwrap();
    assert_eq!((part.checksum_crc32(), part.checksum_type()), (Some("CQkJCQ=="), Some(&ChecksumType::Composite)));

    let full = ask("full").send().await.unwrap();
    assert_eq!(full.checksum().unwrap().checksum_crc32(), Some("AQIDBA=="));
    assert_eq!((full.object_parts().unwrap().total_parts_count(), full.object_parts().unwrap().parts().len()), (Some(3), 0));
    let part =
        client.get_object().bucket(&bucket).key("full").part_number(9).checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert!(part.checksum_crc32().is_none(), "there is none of these bytes alone");

    let none = ask("none").send().await.unwrap();
    assert!(none.checksum().is_none());
    assert_eq!((none.object_parts().unwrap().total_parts_count(), none.object_parts().unwrap().parts().len()), (Some(3), 0));
}
