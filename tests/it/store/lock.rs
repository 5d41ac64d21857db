use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, DefaultRetention, Delete, ObjectIdentifier, ObjectLockConfiguration,
    ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
};

use super::multipart::named;
use super::wire::{Site, checking_client, code};

fn in_hours(hours: u64) -> DateTime {
    // Whole seconds, as headers carry them.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    DateTime::from_secs((now + hours * 3600) as i64)
}

fn configuration(mode: ObjectLockRetentionMode, days: Option<i32>, years: Option<i32>) -> ObjectLockConfiguration {
    let default = DefaultRetention::builder().mode(mode).set_days(days).set_years(years).build();
    let rule = ObjectLockRule::builder().default_retention(default).build();
    ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule).build()
}

async fn site() -> (Site, aws_sdk_s3::Client) {
    let site = Site::start().await;
    let client = checking_client(site.running.addr());
    client.create_bucket().bucket("safe").object_lock_enabled_for_bucket(true).send().await.unwrap();
    (site, client)
}

#[tokio::test]
async fn configurations_of_buckets() {
    let (_site, client) = site().await;
    let get = |bucket: &str| client.get_object_lock_configuration().bucket(bucket).send();
    assert_eq!(code(&get("box").await.unwrap_err()), "ObjectLockConfigurationNotFoundError");
    let found = get("safe").await.unwrap().object_lock_configuration.unwrap();
    assert_eq!((found.object_lock_enabled(), found.rule()), (Some(&ObjectLockEnabled::Enabled), None));
    let versioning = client.get_bucket_versioning().bucket("safe").send().await.unwrap();
    assert_eq!(versioning.status(), Some(&BucketVersioningStatus::Enabled));
    let off = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
    let error = client.put_bucket_versioning().bucket("safe").versioning_configuration(off).send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidBucketState");
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 409);

    let put = |bucket: &str, lock| client.put_object_lock_configuration().bucket(bucket).object_lock_configuration(lock).send();
    let mode = || ObjectLockRetentionMode::Governance;
    assert_eq!(code(&put("box", configuration(mode(), Some(1), None)).await.unwrap_err()), "InvalidBucketState");
    for (days, years, expected) in [
        (Some(1), Some(1), "MalformedXML"),
        (None, None, "MalformedXML"),
        (Some(0), None, "InvalidRetentionPeriod"),
        (None, Some(-1), "InvalidRetentionPeriod"),
        (Some(36_501), None, "InvalidRetentionPeriod"),
    ] {
        assert_eq!(code(&put("safe", configuration(mode(), days, years)).await.unwrap_err()), expected);
    }
    let wrong = configuration(ObjectLockRetentionMode::from("WEAK"), Some(1), None);
    assert_eq!(code(&put("safe", wrong).await.unwrap_err()), "MalformedXML");
    put("safe", configuration(mode(), None, Some(2))).await.unwrap();
    let default = get("safe").await.unwrap().object_lock_configuration.unwrap().rule.unwrap().default_retention.unwrap();
    assert_eq!((default.mode(), default.days(), default.years()), (Some(&mode()), None, Some(2)));
    // Without a rule the default is gone, the lock stays.
    let bare = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).build();
    put("safe", bare).await.unwrap();
    assert_eq!(get("safe").await.unwrap().object_lock_configuration.unwrap().rule(), None);
}

#[tokio::test]
async fn retention_keeps_versions() {
    let (site, client) = site().await;
    for (mode, bypass_helps) in [(ObjectLockMode::Governance, true), (ObjectLockMode::Compliance, false)] {
        let until = in_hours(1);
        let put = client.put_object().bucket("safe").key("k").body(b"x".to_vec().into()).object_lock_mode(mode.clone());
        let put = put.object_lock_retain_until_date(until).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let id = put.send().await.unwrap().version_id.unwrap();
        let head = client.head_object().bucket("safe").key("k").send().await.unwrap();
        assert_eq!((head.object_lock_mode(), head.object_lock_retain_until_date()), (Some(&mode), Some(&until)));
        let found =
            client.get_object_retention().bucket("safe").key("k").version_id(&id).send().await.unwrap().retention.unwrap();
        assert_eq!((found.mode().unwrap().as_str(), found.retain_until_date()), (mode.as_str(), Some(&until)));

        // A delete hides the version, but does not remove it.
        let marker = client.delete_object().bucket("safe").key("k").send().await.unwrap();
        assert_eq!(marker.delete_marker(), Some(true));
        let delete = || client.delete_object().bucket("safe").key("k").version_id(&id);
        assert_eq!(code(&delete().send().await.unwrap_err()), "AccessDenied");
        let one = ObjectIdentifier::builder().key("k").version_id(&id).build().unwrap();
        let all = Delete::builder().objects(one).build().unwrap();
        let done = client.delete_objects().bucket("safe").delete(all).send().await.unwrap();
        assert_eq!(done.errors()[0].code(), Some("AccessDenied"));

        // Longer is always possible, shorter only for those who may.
        let set = |hours: u64| {
            let retention = ObjectLockRetention::builder().mode(mode.as_str().into()).retain_until_date(in_hours(hours)).build();
            client.put_object_retention().bucket("safe").key("k").version_id(&id).retention(retention)
        };
        set(3).send().await.unwrap();
        assert_eq!(code(&set(2).send().await.unwrap_err()), "AccessDenied");
        let shorter = set(2).bypass_governance_retention(true).send().await;
        let removed = delete().bypass_governance_retention(true).send().await;
        if bypass_helps {
            shorter.unwrap();
            removed.unwrap();
        } else {
            assert_eq!(code(&shorter.unwrap_err()), "AccessDenied");
            assert_eq!(code(&removed.unwrap_err()), "AccessDenied");
        }
    }
    assert_eq!(site.files(), 1);
}

#[tokio::test]
async fn a_retention_ends() {
    let (_site, client) = site().await;
    let put = client.put_object().bucket("safe").key("k").body(b"x".to_vec().into()).checksum_algorithm(ChecksumAlgorithm::Crc32);
    let soon = DateTime::from(SystemTime::now() + Duration::from_millis(2500));
    let put = put.object_lock_mode(ObjectLockMode::Compliance).object_lock_retain_until_date(soon);
    let id = put.send().await.unwrap().version_id.unwrap();
    let delete = || client.delete_object().bucket("safe").key("k").version_id(&id).send();
    assert_eq!(code(&delete().await.unwrap_err()), "AccessDenied");
    tokio::time::sleep(Duration::from_millis(2600)).await;
    delete().await.unwrap();
}

#[tokio::test]
async fn legal_holds() {
    let (site, client) = site().await;
    let put = client.put_object().bucket("safe").key("k").body(b"x".to_vec().into()).checksum_algorithm(ChecksumAlgorithm::Crc32);
    let id = put.send().await.unwrap().version_id.unwrap();
    let get = || client.get_object_legal_hold().bucket("safe").key("k").send();
    assert_eq!(code(&get().await.unwrap_err()), "NoSuchObjectLockConfiguration");
    let set = |status| {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        client.put_object_legal_hold().bucket("safe").key("k").legal_hold(hold).send()
    };
    set(ObjectLockLegalHoldStatus::On).await.unwrap();
    assert_eq!(get().await.unwrap().legal_hold.unwrap().status(), Some(&ObjectLockLegalHoldStatus::On));
    let head = client.head_object().bucket("safe").key("k").send().await.unwrap();
    assert_eq!(head.object_lock_legal_hold_status(), Some(&ObjectLockLegalHoldStatus::On));
    let delete = || client.delete_object().bucket("safe").key("k").version_id(&id).bypass_governance_retention(true).send();
    assert_eq!(code(&delete().await.unwrap_err()), "AccessDenied");
    assert_eq!(code(&set("MAYBE".into()).await.unwrap_err()), "MalformedXML");
    set(ObjectLockLegalHoldStatus::Off).await.unwrap();
    delete().await.unwrap();
    assert_eq!(site.files(), 0);
}

#[tokio::test]
async fn default_retention_and_checks() {
    let (site, client) = site().await;
    let lock = configuration(ObjectLockRetentionMode::Governance, Some(1), None);
    client.put_object_lock_configuration().bucket("safe").object_lock_configuration(lock).send().await.unwrap();
    let bare = || site.client.put_object().bucket("safe").key("k").body(b"x".to_vec().into());
    // Nothing is locked that does not say what it is.
    assert_eq!(code(&bare().send().await.unwrap_err()), "InvalidRequest");
    assert_eq!(code(&bare().body(vec![7_u8; 600_000].into()).send().await.unwrap_err()), "InvalidRequest");
    bare().content_md5("ndTkYSaMgDT1yFZOFVxnpg==").send().await.unwrap();
    let head = client.head_object().bucket("safe").key("k").send().await.unwrap();
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Governance));
    let until = head.object_lock_retain_until_date().unwrap().secs();
    assert!((until - in_hours(24).secs()).abs() < 60);

    // The default of the bucket holds for uploads in parts, from when they are completed, and for copies.
    let create = client.create_multipart_upload().bucket("safe").key("parts").checksum_algorithm(ChecksumAlgorithm::Crc32);
    let id = create.send().await.unwrap().upload_id.unwrap();
    let path = format!("/safe/parts?partNumber=1&uploadId={id}");
    assert_eq!(site.raw("PUT", &path, &[], b"x").await.code(), "InvalidRequest");
    let part = client.upload_part().bucket("safe").key("parts").upload_id(&id).part_number(1).body(b"x".to_vec().into());
    let done = part.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await.unwrap();
    let part = aws_sdk_s3::types::CompletedPart::builder().part_number(1).set_e_tag(done.e_tag);
    let complete = client.complete_multipart_upload().bucket("safe").key("parts").upload_id(&id);
    let part = part.set_checksum_crc32(done.checksum_crc32).build();
    complete.multipart_upload(named(&[part])).send().await.unwrap();
    client.copy_object().copy_source("safe/k").bucket("safe").key("copy").send().await.unwrap();
    for key in ["parts", "copy"] {
        let head = client.head_object().bucket("safe").key(key).send().await.unwrap();
        assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Governance), "{key}");
    }
}

#[tokio::test]
async fn what_cannot_be_locked() {
    let (site, client) = site().await;
    site.put("k", "x").await;
    let until = "2050-01-01T00:00:00Z";
    let md5 = ("content-md5", "ndTkYSaMgDT1yFZOFVxnpg==");
    let mode = |mode| ("x-amz-object-lock-mode", mode);
    let date = |date| ("x-amz-object-lock-retain-until-date", date);
    for (path, headers, expected) in [
        ("/box/l", vec![md5, mode("GOVERNANCE"), date(until)], "InvalidRequest"),
        ("/box/l", vec![md5, ("x-amz-object-lock-legal-hold", "ON")], "InvalidRequest"),
        ("/safe/l", vec![mode("GOVERNANCE"), date(until)], "InvalidRequest"),
        ("/safe/l", vec![md5, mode("GOVERNANCE")], "InvalidArgument"),
        ("/safe/l", vec![md5, date(until)], "InvalidArgument"),
        ("/safe/l", vec![md5, mode("WEAK"), date(until)], "InvalidArgument"),
        ("/safe/l", vec![md5, mode("GOVERNANCE"), date("2001-01-01T00:00:00Z")], "InvalidArgument"),
        ("/safe/l", vec![md5, ("x-amz-object-lock-legal-hold", "MAYBE")], "InvalidArgument"),
    ] {
        let answer = site.raw("PUT", path, &headers, b"x").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, expected), "{path} {headers:?}");
    }
    let retention =
        ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Governance).retain_until_date(in_hours(1)).build();
    let error = client.put_object_retention().bucket("box").key("k").retention(retention).send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
    let error = client.get_object_retention().bucket("box").key("k").send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
    let error = client.get_object_legal_hold().bucket("box").key("k").send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequest");
    let put = client.put_object().bucket("safe").key("k").body(b"x".to_vec().into()).send().await.unwrap();
    assert!(put.version_id().is_some());
    let error = client.get_object_retention().bucket("safe").key("k").send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchObjectLockConfiguration");
    let half = ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Governance).build();
    let error = client.put_object_retention().bucket("safe").key("k").retention(half).send().await.unwrap_err();
    assert_eq!(code(&error), "MalformedXML");
}
