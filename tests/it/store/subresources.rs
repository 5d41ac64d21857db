use aws_sdk_s3::types::{BucketLocationConstraint, CorsConfiguration, CorsRule, CreateBucketConfiguration};
use ciphergate::store::Effect;

use super::wire::{Site, code};

/// Query, a document of its kind, and what a GET answers when there is none: a code, or a part of an empty document.
const DOCUMENTS: [(&str, &str, &str); 13] = [
    ("policy", "{\"Version\": \"2012-10-17\",  \"Statement\": []}", "NoSuchBucketPolicy"),
    (
        "cors",
        "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
        "NoSuchCORSConfiguration",
    ),
    ("lifecycle", "<LifecycleConfiguration><Rule><ID>a</ID></Rule></LifecycleConfiguration>", "NoSuchLifecycleConfiguration"),
    ("tagging", "<Tagging><TagSet><Tag><Key>ü</Key><Value/></Tag></TagSet></Tagging>", "NoSuchTagSet"),
    (
        "replication",
        "<ReplicationConfiguration><Role>r</Role></ReplicationConfiguration>",
        "ReplicationConfigurationNotFoundError",
    ),
    ("encryption", "<ServerSideEncryptionConfiguration><Rule/></ServerSideEncryptionConfiguration>", "<SSEAlgorithm>AES256<"),
    ("website", "<WebsiteConfiguration><IndexDocument/></WebsiteConfiguration>", "NoSuchWebsiteConfiguration"),
    ("logging", "<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>", "<BucketLoggingStatus "),
    (
        "notification",
        "<NotificationConfiguration><TopicConfiguration/></NotificationConfiguration>",
        "<NotificationConfiguration ",
    ),
    ("accelerate", "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>", "<AccelerateConfiguration "),
    (
        "requestPayment",
        "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>",
        "<Payer>BucketOwner<",
    ),
    ("publicAccessBlock", "<PublicAccessBlockConfiguration/>", "<BlockPublicAcls>true<"),
    ("ownershipControls", "<OwnershipControls><Rule/></OwnershipControls>", "BucketOwnerEnforced"),
];

#[tokio::test]
async fn documents_come_back_to_the_byte() {
    let site = Site::start().await;
    for (name, document, absent) in DOCUMENTS {
        let path = format!("/box?{name}");
        let answer = site.raw("GET", &path, &[], b"").await;
        let is_missing = !absent.contains(['<', 'B']) || absent == "NoSuchBucketPolicy";
        assert_eq!(answer.status, if is_missing { 404 } else { 200 }, "{name}");
        if is_missing {
            assert_eq!(answer.code(), absent);
        } else {
            assert!(String::from_utf8_lossy(&answer.body).contains(absent), "{name}");
        }
        let declared = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}\n");
        let document = if name == "policy" { document } else { &declared };
        let quiet = name == "policy" || name == "tagging";
        let answer = site.raw("PUT", &path, &[], document.as_bytes()).await;
        assert_eq!(answer.status, if quiet { 204 } else { 200 }, "{name} {}", answer.code());
        let answer = site.raw("GET", &path, &[], b"").await;
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (200, document), "{name}");
        let media: &[u8] = if name == "policy" { b"application/json" } else { b"application/xml" };
        assert_eq!(answer.header("content-type"), Some(media));

        for wrong in ["", "nonsense", "<Other/>", "<Tagging>"] {
            let expected = if name == "policy" { "MalformedPolicy" } else { "MalformedXML" };
            assert_eq!(site.raw("PUT", &path, &[], wrong.as_bytes()).await.code(), expected, "{name} {wrong}");
        }
        let bad = [("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")];
        assert_eq!(site.raw("PUT", &path, &bad, document.as_bytes()).await.code(), "BadDigest");
        let answer = site.raw("DELETE", &path, &[], b"").await;
        let lasting = ["logging", "notification", "accelerate", "requestPayment"].contains(&name);
        assert_eq!(answer.status, if lasting { 405 } else { 204 }, "{name}");
        if !lasting {
            assert_eq!(site.raw("DELETE", &path, &[], b"").await.status, 204);
            assert_eq!(site.raw("GET", &path, &[], b"").await.status, if name == "encryption" { 200 } else { 404 }, "{name}");
        }
        for method in ["GET", "PUT", "DELETE"] {
            let answer = site.raw(method, &format!("/none?{name}"), &[], document.as_bytes()).await;
            let expected = if lasting && method == "DELETE" { "MethodNotAllowed" } else { "NoSuchBucket" };
            assert_eq!(answer.code(), expected, "{method} {name}");
            // Another sub-resource beside it is not ignored, and nothing happens to the bucket.
            let answer = site.raw(method, &format!("/box?{name}&mystery"), &[], document.as_bytes()).await;
            assert_eq!(answer.code(), "NotImplemented", "{method} {name}");
        }
    }
    site.client.head_bucket().bucket("box").send().await.unwrap();
}

#[tokio::test]
async fn documents_that_a_bucket_has_many_of() {
    let site = Site::start().await;
    for (name, root) in [
        ("analytics", "AnalyticsConfiguration"),
        ("inventory", "InventoryConfiguration"),
        ("metrics", "MetricsConfiguration"),
        ("intelligent-tiering", "IntelligentTieringConfiguration"),
    ] {
        for id in ["two", "one"] {
            let document = format!("<?xml version=\"1.0\"?><{root}><Id>{id}</Id></{root}>");
            let path = format!("/box?{name}&id={id}");
            assert_eq!(site.raw("GET", &path, &[], b"").await.code(), "NoSuchConfiguration");
            assert_eq!(site.raw("PUT", &path, &[], document.as_bytes()).await.status, 200);
            assert_eq!(site.raw("GET", &path, &[], b"").await.body, document.as_bytes());
        }
        let all = site.raw("GET", &format!("/box?{name}"), &[], b"").await;
        let all = String::from_utf8(all.body).unwrap();
        assert!(all.contains(&format!("<{root}><Id>one</Id></{root}><{root}><Id>two</Id></{root}>")), "{all}");
        assert_eq!(all.matches("<?xml").count(), 1);
        let path = format!("/box?{name}&id=one");
        assert_eq!(site.raw("DELETE", &path, &[], b"").await.status, 204);
        assert_eq!(site.raw("DELETE", &path, &[], b"").await.code(), "NoSuchConfiguration");
        assert_eq!(
            site.raw("PUT", &format!("/box?{name}"), &[], format!("<{root}/>").as_bytes()).await.code(),
            "InvalidArgument"
        );
    }
    let metrics = site.client.list_bucket_metrics_configurations().bucket("box").send().await.unwrap();
    assert_eq!(metrics.metrics_configuration_list()[0].id(), "two");
}

#[tokio::test]
async fn clients_understand_the_documents() {
    let site = Site::start().await;
    let rule = CorsRule::builder().allowed_methods("GET").allowed_origins("https://a.example").build().unwrap();
    let cors = CorsConfiguration::builder().cors_rules(rule.clone()).build().unwrap();
    site.client.put_bucket_cors().bucket("box").cors_configuration(cors).send().await.unwrap();
    let found = site.client.get_bucket_cors().bucket("box").send().await.unwrap();
    assert_eq!(found.cors_rules(), [rule]);
    site.client.delete_bucket_cors().bucket("box").send().await.unwrap();
    let error = site.client.get_bucket_cors().bucket("box").send().await.unwrap_err();
    assert_eq!(code(&error), "NoSuchCORSConfiguration");
    let logging = site.client.get_bucket_logging().bucket("box").send().await.unwrap();
    assert!(logging.logging_enabled().is_none());
    let block = site.client.get_public_access_block().bucket("box").send().await.unwrap();
    assert_eq!(block.public_access_block_configuration().unwrap().block_public_policy(), Some(true));
    assert!(
        site.client.get_bucket_encryption().bucket("box").send().await.unwrap().server_side_encryption_configuration().is_some()
    );

    // Documents go with their bucket.
    let far = CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::EuWest1).build();
    let policy = "{\"Statement\":[]}";
    site.client.put_bucket_policy().bucket("box").policy(policy).send().await.unwrap();
    site.client.delete_bucket().bucket("box").send().await.unwrap();
    site.client.create_bucket().bucket("box").create_bucket_configuration(far).send().await.unwrap();
    assert_eq!(code(&site.client.get_bucket_policy().bucket("box").send().await.unwrap_err()), "NoSuchBucketPolicy");

    let hits = site.store.faults().inject("GetBucketPolicy", "", 1, Effect::Answer { status: 503, code: "SlowDown".into() });
    assert_eq!(code(&site.client.get_bucket_policy().bucket("box").send().await.unwrap_err()), "SlowDown");
    assert_eq!(hits.count(), 1);
}
