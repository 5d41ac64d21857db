//! Requests that take longer than clients wait in silence.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::interceptors::{AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use ciphergate::store::Effect;

use crate::kit::{Site, code, noise};

/// Longer than the gateway waits before it begins an answer without its outcome.
const LONG: Duration = Duration::from_millis(7_500);

/// An answer as it arrived.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Arrived>>);

#[derive(Debug, Default)]
struct Arrived {
    status: u16,
    head_at: Option<Instant>,
    id: String,
    content_type: String,
    body: String,
}

impl Intercept for Seen {
    fn name(&self) -> &'static str {
        "Seen"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (answer, mut seen) = (context.response(), self.0.lock().unwrap());
        let header = |name: &str| answer.headers().get(name).unwrap_or_default().to_owned();
        (seen.status, seen.head_at) = (answer.status().as_u16(), Some(Instant::now()));
        (seen.id, seen.content_type) = (header("x-amz-request-id"), header("content-type"));
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        self.0.lock().unwrap().body = String::from_utf8_lossy(body).into_owned();
        Ok(())
    }
}

#[tokio::test]
async fn an_outcome_that_takes_long_is_announced_by_white_space() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("slow").await);
    client.put_object().bucket(&bucket).key("k").body(noise(1000, 1).into()).send().await.unwrap();
    let copy = || client.copy_object().bucket(&bucket).key("copy").copy_source(format!("{bucket}/k"));
    for (outcome, element) in [("good", "<CopyObjectResult"), ("bad", "<Error>")] {
        let request = if outcome == "good" { copy() } else { copy().if_none_match("*") };
        site.store.faults().inject("CopyObject", "copy", 1, Effect::Delay(LONG));
        let (begun, seen) = (Instant::now(), Seen::default());
        let answer = request.customize().interceptor(seen.clone()).send().await;
        assert_eq!(answer.is_ok(), outcome == "good", "{answer:?}");
        assert!(begun.elapsed() >= LONG);
        let seen = seen.0.lock().unwrap();
        assert_eq!((seen.status, seen.content_type.as_str()), (200, "application/xml"), "{outcome}");
        assert!(seen.head_at.unwrap() - begun < LONG, "the head was kept back");
        let document = seen.body.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n ").expect("white space");
        assert!(document.trim_start().starts_with(element), "{}", seen.body);
        if outcome == "bad" {
            assert!(document.contains("<Code>PreconditionFailed</Code>") && document.contains(&seen.id), "{}", seen.body);
        }
    }
    // What is known soon has its own status.
    let refused = copy().if_none_match("*").send().await.unwrap_err();
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 412);
    site.gateway.wait_in_flight(0, Duration::from_secs(5)).await;
    let log = site.gateway.log_text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("PreconditionFailed")).collect();
    assert!(lines.iter().any(|line| line.contains("200")), "the log has the code behind the status: {lines:?}");
}

#[tokio::test]
async fn sdks_understand_late_outcomes() {
    let site = Site::start().await;
    let (client, bucket) = (site.client(), site.bucket("slow").await);
    let created = client.create_multipart_upload().bucket(&bucket).key("k").send().await.unwrap();
    let id = created.upload_id().unwrap();
    let plain = noise(1000, 1);
    let part = client.upload_part().bucket(&bucket).key("k").upload_id(id).part_number(1).body(plain.clone().into());
    let part = part.send().await.unwrap();
    let line = aws_sdk_s3::types::CompletedPart::builder().part_number(1).e_tag(part.e_tag().unwrap()).build();
    let list = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(line).build();
    let complete = || client.complete_multipart_upload().bucket(&bucket).key("k").upload_id(id).multipart_upload(list.clone());
    site.store.faults().inject("CompleteMultipartUpload", "k", 1, Effect::Delay(LONG));
    let done = complete().send().await.unwrap();
    let head = client.head_object().bucket(&bucket).key("k").send().await.unwrap();
    assert_eq!((done.e_tag(), head.content_length()), (head.e_tag(), Some(1000)));

    site.store.faults().inject("CopyObject", "copy", 1, Effect::Delay(LONG));
    let copy = || client.copy_object().bucket(&bucket).key("copy").copy_source(format!("{bucket}/k"));
    assert!(copy().send().await.unwrap().copy_object_result().unwrap().e_tag().is_some());
    site.store.faults().inject("CopyObject", "copy", 1, Effect::Delay(LONG));
    assert_eq!(code(copy().if_none_match("*").send().await), "PreconditionFailed");
}
