//! Uploads that are taken up again by somebody who knows nothing but their lists.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedPart, Part};

use crate::kit::noise;

use super::site::{LEAST, MIB, Site, Upload};

/// A line of the list as clients give it back, checksums among it.
fn line(part: &Part) -> CompletedPart {
    CompletedPart::builder()
        .set_part_number(part.part_number())
        .set_e_tag(part.e_tag().map(str::to_owned))
        .set_checksum_crc32(part.checksum_crc32().map(str::to_owned))
        .set_checksum_crc64_nvme(part.checksum_crc64_nvme().map(str::to_owned))
        .set_checksum_sha256(part.checksum_sha256().map(str::to_owned))
        .build()
}

/// The list, in pages of that size.
async fn listed(site: &Site, upload: &Upload, page: i32) -> Vec<Part> {
    let (mut parts, mut marker) = (Vec::new(), None);
    loop {
        let answer = upload.list(&site.client_of(1)).max_parts(page).set_part_number_marker(marker).send().await.expect("page");
        parts.extend_from_slice(answer.parts());
        marker = answer.next_part_number_marker().map(str::to_owned);
        if answer.is_truncated() != Some(true) {
            return parts;
        }
    }
}

#[tokio::test]
async fn an_upload_is_resumed_by_its_list_alone() {
    use ChecksumType::{Composite, FullObject};
    for site in Site::each("", 2).await {
        let (first, second) = (site.client_of(0), site.client_of(1));
        for (at, (algorithm, kind)) in [
            (None, None),
            (Some(ChecksumAlgorithm::Crc32), Some(Composite)),
            (Some(ChecksumAlgorithm::Sha256), None),
            (Some(ChecksumAlgorithm::Crc64Nvme), Some(FullObject)),
        ]
        .into_iter()
        .enumerate()
        {
            let key = format!("dir/k{at}");
            let created = first.create_multipart_upload().bucket(&site.bucket).key(&key);
            let created = created.set_checksum_algorithm(algorithm.clone()).set_checksum_type(kind).send().await.expect("upload");
            let upload = Upload { bucket: site.bucket.clone(), key: key.clone(), id: created.upload_id().unwrap().to_owned() };
            let plain = [noise(LEAST, 1), noise(LEAST + 5, 2), noise(LEAST, 3), noise(70_000, 4)];
            let mut sent = Vec::new();
            for (at, bytes) in plain.iter().enumerate() {
                let number = at as i32 + 1;
                let send = |bytes: &[u8]| {
                    let part = first.upload_part().bucket(&site.bucket).key(&key).upload_id(&upload.id).part_number(number);
                    part.body(bytes.to_vec().into()).send()
                };
                if at == 1 {
                    send(&noise(LEAST + 5, 99)).await.expect("an attempt before");
                }
                let part = send(bytes).await.expect("part");
                sent.push((
                    number,
                    part.e_tag().unwrap().to_owned(),
                    bytes.len() as i64,
                    part.checksum_crc32().map(str::to_owned),
                ));
            }

            for page in [1, 3, 1000] {
                let seen = listed(&site, &upload, page).await.into_iter().map(|part| {
                    let sum = part.checksum_crc32().map(str::to_owned);
                    (part.part_number().unwrap(), part.e_tag().unwrap().to_owned(), part.size().unwrap(), sum)
                });
                assert_eq!(seen.collect::<Vec<_>>(), sent, "{algorithm:?} {page}");
            }
            let list = upload.list(&second).send().await.expect("list");
            let named = algorithm.clone().unwrap_or(ChecksumAlgorithm::Crc64Nvme);
            assert_eq!(list.checksum_algorithm(), Some(&named));
            let kind =
                if [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Sha256].contains(&named) { Composite } else { FullObject };
            assert_eq!(list.checksum_type(), Some(&kind));
            for part in list.parts() {
                let (crc32, crc64, sha256) =
                    (part.checksum_crc32().is_some(), part.checksum_crc64_nvme().is_some(), part.checksum_sha256().is_some());
                let expected = match named {
                    ChecksumAlgorithm::Crc32 => (true, false, false),
                    ChecksumAlgorithm::Sha256 => (false, false, true),
                    _ => (false, true, false),
                };
                assert_eq!((crc32, crc64, sha256), expected, "{named:?}");
            }
            let lines: Vec<_> = list.parts().iter().map(line).collect();
            upload.complete(&second, &lines).send().await.unwrap_or_else(|error| panic!("{named:?}: {error:?}"));
            assert!(site.get(&key).await == plain.concat(), "{named:?}");
            let head = second.head_object().bucket(&site.bucket).key(&key).checksum_mode(ChecksumMode::Enabled);
            assert_eq!(head.send().await.expect("head").checksum_type(), Some(&kind), "nothing was lost on the way");
        }
    }
}

#[tokio::test]
async fn a_lost_receipt_costs_the_checksum_and_nothing_else() {
    for site in Site::each("", 2).await {
        let upload = site.create("k").await;
        let plain = [noise(LEAST, 1), noise(6 * MIB, 2)];
        for (at, bytes) in plain.iter().enumerate() {
            upload.part(&site.client_of(0), at as i32 + 1, bytes.clone()).await;
        }
        let receipts: Vec<_> = site.staged().await.into_iter().filter(|key| key.contains("/e/")).collect();
        assert_eq!(receipts.len(), 2);
        site.behind().delete_object().bucket(&site.bucket).key(&receipts[0]).send().await.expect("delete");
        let parts = listed(&site, &upload, 1000).await;
        assert!(parts[0].checksum_crc64_nvme().is_none() && parts[1].checksum_crc64_nvme().is_some());
        let lines: Vec<_> = parts.iter().map(line).collect();
        upload.complete(&site.client_of(1), &lines).send().await.expect("complete");
        assert!(site.get("k").await == plain.concat());
        assert_eq!(site.staged().await.len(), 1, "only the record");
    }
}
