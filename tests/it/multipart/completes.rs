//! Complete: what it refuses, how often it may be asked, and what it makes of ETags without receipts.

use aws_sdk_s3::types::CompletedPart;
use data_encoding::BASE64;
use md5::Digest as _;

use crate::kit::{code, noise};

use super::site::{LEAST, Site, with_etag};

#[tokio::test]
async fn lists_that_are_wrong_are_refused_in_s3s_words() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let (upload, other) = (site.create("k").await, site.create("other").await);
        let one = upload.part(&client, 1, noise(LEAST, 1)).await;
        let two = upload.part(&client, 2, noise(100, 2)).await;
        let three = upload.part(&client, 3, noise(LEAST, 3)).await;
        let foreign = other.part(&client, 1, noise(LEAST, 1)).await;
        let etag = one.e_tag().unwrap().trim_matches('"');
        let (store_etag, receipt) = etag.rsplit_once('-').unwrap();
        let damaged = format!("{store_etag}-{}{}", &receipt[..receipt.len() - 1], if receipt.ends_with('0') { '1' } else { '0' });
        let upper = format!("{store_etag}-{}", receipt.to_uppercase());
        let no_such = format!("{}-{receipt}", "0".repeat(32));
        for (list, wanted) in [
            (vec![], "MalformedXML"),
            (vec![three.clone(), one.clone()], "InvalidPartOrder"),
            (vec![one.clone(), one.clone()], "InvalidPartOrder"),
            (vec![one.clone(), two.clone(), three.clone()], "EntityTooSmall"),
            (vec![with_etag(&one, &damaged)], "InvalidPart"),
            (vec![with_etag(&one, &upper)], "InvalidPart"),
            (vec![with_etag(&one, &no_such)], "InvalidPart"),
            (vec![with_etag(&one, "0123456789abcdef0123456789abcdef")], "InvalidPart"),
            (vec![with_etag(&one, three.e_tag().unwrap())], "InvalidPart"),
            (vec![foreign.clone()], "InvalidPart"),
            (vec![with_etag(&two, one.e_tag().unwrap())], "InvalidPart"),
        ] {
            assert_eq!(code(upload.complete(&client, &list).send().await), wanted, "{list:?}");
        }
        let wrong_size = upload.complete(&client, std::slice::from_ref(&one)).mpu_object_size(7).send().await;
        assert_eq!(code(wrong_size), "InvalidRequest");
        let mut elsewhere = upload.clone();
        elsewhere.key = "another".into();
        assert_eq!(code(elsewhere.complete(&client, std::slice::from_ref(&one)).send().await), "NoSuchUpload");
        elsewhere = upload.clone();
        elsewhere.id = "nonsense".into();
        assert_eq!(code(elsewhere.complete(&client, std::slice::from_ref(&one)).send().await), "NoSuchUpload");
        // None of it has done any harm.
        upload.complete(&client, &[one, two]).send().await.expect("complete");
        assert!(site.get("k").await == [noise(LEAST, 1), noise(100, 2)].concat());
    }
}

#[tokio::test]
async fn a_repeated_complete_has_the_same_answer() {
    for site in Site::each("", 2).await {
        for (key, last) in [("small end", 10), ("large end", LEAST)] {
            let upload = site.create(key).await;
            let parts = [
                upload.part(&site.client_of(0), 1, noise(LEAST, 1)).await,
                upload.part(&site.client_of(1), 2, noise(last, 2)).await,
            ];
            let first = upload.complete(&site.client_of(0), &parts).send().await.expect("complete");
            let again = upload.complete(&site.client_of(1), &parts).send().await.expect("again");
            assert_eq!((first.e_tag(), first.checksum_crc64_nvme()), (again.e_tag(), again.checksum_crc64_nvme()));
            // Another list is another object, which there is not.
            assert_eq!(code(upload.complete(&site.client_of(1), &parts[..1]).send().await), "NoSuchUpload");
            // Nor is the object there any more that it would have been the answer for.
            site.client().put_object().bucket(&site.bucket).key(key).body(noise(5, 5).into()).send().await.expect("put");
            assert_eq!(code(upload.complete(&site.client_of(0), &parts).send().await), "NoSuchUpload");
            assert_eq!(site.get(key).await, noise(5, 5));
        }
    }
}

#[tokio::test]
async fn completes_at_one_time_all_succeed() {
    for site in Site::each("", 2).await {
        for round in 0..4 {
            let key = format!("k{round}");
            let upload = site.create(&key).await;
            let parts = [
                upload.part(&site.client_of(0), 1, noise(LEAST, 1)).await,
                upload.part(&site.client_of(1), 2, noise(1000, 2)).await,
            ];
            let racers = (0..4).map(|at| upload.complete(&site.client_of(at % 2), &parts).send());
            let outcomes = futures::future::join_all(racers).await;
            let mut won = Vec::new();
            for outcome in outcomes {
                match outcome {
                    Ok(done) => won.push(done.e_tag().unwrap().to_owned()),
                    // May be told to come again, never that the upload is not there.
                    Err(error) => assert_eq!(code::<(), _, _>(Err(error)), "ServiceUnavailable"),
                }
            }
            assert!(!won.is_empty());
            won.dedup();
            assert_eq!(won.len(), 1);
            let last = upload.complete(&site.client(), &parts).send().await.expect("once more");
            assert_eq!(last.e_tag(), Some(won[0].as_str()));
            assert!(site.get(&key).await == [noise(LEAST, 1), noise(1000, 2)].concat());
        }
    }
}

/// ListParts shows the ETags so where the receipts were lost.
#[tokio::test]
async fn etags_without_receipts_are_looked_up() {
    for site in Site::each("", 1).await {
        let client = site.client();
        for (key, lens) in [("a", vec![LEAST, LEAST + 3, 7]), ("b", vec![LEAST, LEAST]), ("c", vec![0]), ("d", vec![70_000])] {
            let upload = site.create(key).await;
            let mut plain = Vec::new();
            for (at, len) in lens.iter().enumerate() {
                plain.push(noise(*len, at as u64));
                upload.part(&client, at as i32 + 1, plain[at].clone()).await;
            }
            let listed = upload.list(&client).send().await.expect("parts");
            let parts: Vec<CompletedPart> = listed
                .parts()
                .iter()
                .map(|part| {
                    let (etag, _) = part.e_tag().unwrap().rsplit_once('-').expect("a receipt");
                    CompletedPart::builder().set_part_number(part.part_number()).e_tag(format!("{etag}\"")).build()
                })
                .collect();
            assert_eq!(parts.len(), lens.len());
            assert!(parts.iter().all(|part| part.e_tag().unwrap().len() < 40), "{parts:?}");
            let done = upload.complete(&client, &parts).send().await.expect("complete");
            assert_eq!(done.checksum_type(), None);
            let again = upload.complete(&client, &parts).send().await.expect("again");
            assert_eq!(done.e_tag(), again.e_tag());
            let whole = plain.concat();
            assert!(site.get(key).await == whole);
            if whole.len() > 2 * LEAST {
                // Inside an unbound part, from its start and from further on.
                for first in [LEAST, LEAST + 70_000] {
                    let range = format!("bytes={first}-{}", first + 9);
                    let got = client.get_object().bucket(&site.bucket).key(key).range(range).send().await.expect("range");
                    assert!(got.body.collect().await.unwrap().into_bytes() == whole[first..first + 10]);
                }
            }
        }
    }
}

/// A part that the gateway made for a Complete that failed is nobody's part.
#[tokio::test]
async fn what_a_failed_complete_has_made_is_not_listed() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let upload = site.create("k").await;
        let one = upload.part(&client, 1, noise(LEAST, 1)).await;
        let last = upload.part(&client, 10_000, noise(LEAST + 1, 2)).await;
        let stale = with_etag(&one, one.e_tag().unwrap());
        // The part is sent again, so the list names one that the store no longer has.
        let newer = upload.part(&client, 1, noise(LEAST, 3)).await;
        assert_eq!(code(upload.complete(&client, &[stale, last.clone()]).send().await), "InvalidPart");
        let listed = upload.list(&client).send().await.expect("parts");
        let seen: Vec<_> = listed.parts().iter().map(|part| (part.part_number().unwrap(), part.size().unwrap())).collect();
        assert_eq!(seen, [(1, LEAST as i64), (10_000, LEAST as i64 + 1)]);
        upload.complete(&client, &[newer, last]).send().await.expect("complete");
        assert!(site.get("k").await == [noise(LEAST, 3), noise(LEAST + 1, 2)].concat());
    }
}

#[tokio::test]
async fn a_lost_or_damaged_spool_is_an_invalid_part() {
    for site in Site::each("", 1).await {
        let client = site.client();
        for damage in ["lost", "flipped", "cut", "longer"] {
            let upload = site.create(damage).await;
            let part = upload.part(&client, 1, noise(70_000, 1)).await;
            let staged = site.staged().await;
            let spool = staged.iter().find(|key| key.contains("/p/")).expect("a spooled part").clone();
            let behind = site.behind();
            let stored = behind.get_object().bucket(&site.bucket).key(&spool).send().await.unwrap().body.collect().await.unwrap();
            let mut stored = stored.to_vec();
            match damage {
                "flipped" => stored[66_000] ^= 1,
                "cut" => stored.truncate(69_000),
                _ => stored.push(0),
            }
            if damage == "lost" {
                behind.delete_object().bucket(&site.bucket).key(&spool).send().await.unwrap();
            } else {
                behind.put_object().bucket(&site.bucket).key(&spool).body(stored.into()).send().await.unwrap();
            }
            let refused = code(upload.complete(&client, &[part]).send().await);
            // A body that ends early may as well be the store's connection.
            assert!(refused == "InvalidPart" || (damage == "cut" && refused == "ServiceUnavailable"), "{damage}: {refused}");
            assert_eq!(code(client.get_object().bucket(&site.bucket).key(damage).send().await), "NoSuchKey");
            upload.abort(&client).send().await.expect("abort");
        }
    }
}

#[tokio::test]
async fn conditions_are_judged_by_the_store_when_the_object_comes_into_being() {
    // The store of the tests judges them, LocalStack too.
    for site in Site::each("", 1).await {
        let client = site.client();
        let put = client.put_object().bucket(&site.bucket).key("k").body(noise(5, 5).into()).send().await.expect("put");
        let upload = site.create("k").await;
        let part = upload.part(&client, 1, noise(10, 1)).await;
        let refused = upload.complete(&client, std::slice::from_ref(&part)).if_none_match("*").send().await;
        assert_eq!(code(refused), "PreconditionFailed");
        assert_eq!(site.get("k").await, noise(5, 5));
        let upload = site.create("k").await;
        let part = upload.part(&client, 1, noise(10, 1)).await;
        upload.complete(&client, &[part]).if_match(put.e_tag().unwrap()).send().await.expect("the ETag that is there");
        assert_eq!(site.get("k").await, noise(10, 1));
    }
}

#[tokio::test]
async fn the_list_is_compared_with_its_own_md5() {
    for site in Site::each("", 1).await {
        let client = site.client();
        let upload = site.create("k").await;
        let one = [upload.part(&client, 1, noise(100, 1)).await];
        let with_md5 = |document: Option<&'static [u8]>| {
            upload.complete(&client, &one).customize().mutate_request(move |request| {
                let sent = document.unwrap_or(request.body().bytes().expect("a document"));
                let digest = BASE64.encode(&md5::Md5::digest(sent));
                request.headers_mut().insert("content-md5", digest);
            })
        };
        assert_eq!(code(with_md5(Some(b"another list")).send().await), "BadDigest");
        let garbage = upload.complete(&client, &one).customize().mutate_request(|request| {
            request.headers_mut().insert("content-md5", "x");
        });
        assert_eq!(code(garbage.send().await), "InvalidDigest");
        assert_eq!(code(client.get_object().bucket(&site.bucket).key("k").send().await), "NoSuchKey");
        with_md5(None).send().await.expect("complete");
        assert_eq!(site.get("k").await, noise(100, 1));
    }
}
