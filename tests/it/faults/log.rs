//! What the log says, and what it must not say.

use super::raw::{Raw, soon};
use crate::kit::{AT_STORE, CLIENT, Site, client, code, status};

#[tokio::test]
async fn the_log_names_every_request_and_no_secret() {
    let site = Site::launch(|launch| launch.set("CIPHERGATE_LOG__LEVEL", "trace")).await;
    site.gateway.wait_ready().await;
    let (sdk, bucket) = (site.client(), site.bucket("logged").await);
    let marker = "PLAINTEXT-MARKER-0123456789";
    let body = marker.repeat(10_000);
    let mut ids = Vec::new();

    // Signatures in headers, in both directions.
    sdk.put_object()
        .bucket(&bucket)
        .key("o")
        .metadata("note", marker)
        .body(body.clone().into_bytes().into())
        .send()
        .await
        .unwrap();
    let got = sdk.get_object().bucket(&bucket).key("o").send().await.unwrap();
    ids.push(aws_sdk_s3::operation::RequestId::request_id(&got).unwrap().to_owned());
    assert_eq!(got.body.collect().await.unwrap().into_bytes(), body.as_bytes());
    sdk.get_bucket_location().bucket(&bucket).send().await.unwrap();
    sdk.list_objects_v2().bucket(&bucket).send().await.unwrap();

    // Signatures in the address.
    let request = sdk.get_object().bucket(&bucket).key("o").presigned(soon()).await.unwrap();
    let signature = request.uri().split_once("X-Amz-Signature=").unwrap().1[..64].to_owned();
    let mut raw = Raw::send(site.gateway.s3, &request, None).await;
    let head = raw.head().await.unwrap();
    assert_eq!(head.status, 200);
    ids.push(head.headers["x-amz-request-id"].clone());
    assert_eq!(raw.take(head.length()).await.unwrap(), body.as_bytes());

    // Refusals, with the id in the answer's head and in its document.
    let request = sdk.get_object().bucket(&bucket).key("missing").presigned(soon()).await.unwrap();
    let mut raw = Raw::send(site.gateway.s3, &request, None).await;
    let head = raw.head().await.unwrap();
    assert_eq!(head.status, 404);
    let document = String::from_utf8(raw.take(head.length()).await.unwrap()).unwrap();
    let id = head.headers["x-amz-request-id"].clone();
    assert!(document.contains(&format!("<RequestId>{id}</RequestId>")), "{document}");
    ids.push(id);
    let stranger = client(site.gateway.s3, (CLIENT.0, "not-the-secret-of-this-client"));
    assert_eq!(code(stranger.list_buckets().send().await), "SignatureDoesNotMatch");
    assert_eq!(status(client(site.gateway.s3, ("UNKNOWNACCESSKEY0", CLIENT.1)).list_buckets().send().await), 403);

    site.gateway.wait_in_flight(0, std::time::Duration::from_secs(5)).await;
    let log = site.gateway.log_text();
    for id in ids {
        let line = format!("\"request_id\":\"{id}\"");
        let lines: Vec<&str> = log.lines().filter(|l| l.contains(&line) && l.contains("ciphergate::request\"")).collect();
        assert_eq!(lines.len(), 1, "{id}: {lines:?}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert!(line["status"].is_u64() && line["operation"].is_string() && line["duration_ms"].is_number(), "{line}");
    }
    let keyring = std::fs::read_to_string(site.folder.path().join("keyring")).unwrap();
    let master = keyring.split_once("secret = \"").unwrap().1[..64].to_owned();
    let secrets = [
        CLIENT.1,
        AT_STORE.1,
        "not-the-secret",
        "AWS4-HMAC-SHA256",
        "X-Amz-Signature",
        &signature,
        marker,
        &master,
        &master[..16],
    ];
    for secret in secrets {
        let found: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains(&secret.to_lowercase())).collect();
        assert!(found.is_empty(), "{secret} is in the log: {found:?}");
    }
    for line in log.lines() {
        assert!(!line.to_lowercase().contains("authorization"), "{line}");
    }
}
