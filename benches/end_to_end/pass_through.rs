//! The baseline: the gateway's own front and the same SDK, with nothing sealed or opened in between. For this benchmark only.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::Stream;
use s3s::dto::{ETag, GetObjectInput, GetObjectOutput, PutObjectInput, PutObjectOutput, StreamingBlob};
use s3s::service::S3ServiceBuilder;
use s3s::stream::RemainingLength;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result};

use ciphergate::http::front::Service;
use ciphergate::http::server::{Listener, ServerSettings, serve_s3};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

struct PassThrough {
    client: Client,
}

#[async_trait]
impl S3 for PassThrough {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let length = req.input.content_length.unwrap_or(0);
        let body = req.input.body.unwrap_or_else(|| StreamingBlob::from_bytes(Bytes::new()));
        let sent = self
            .client
            .put_object()
            .bucket(req.input.bucket)
            .key(req.input.key)
            .content_length(length)
            .body(ByteStream::new(SdkBody::from_body_1_x(Plain { left: u64::try_from(length).unwrap_or(0), body })))
            .customize()
            .disable_payload_signing()
            .send();
        let answer = sent.await.map_err(S3Error::internal_error)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: answer.e_tag.map(etag), ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let range = req.input.range.map(|range| range.to_header_string());
        let sent = self.client.get_object().bucket(req.input.bucket).key(req.input.key).set_range(range).send();
        let answer = sent.await.map_err(S3Error::internal_error)?;
        let left = answer.content_length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let output = GetObjectOutput {
            content_length: answer.content_length,
            content_range: answer.content_range,
            e_tag: answer.e_tag.map(etag),
            body: Some(StreamingBlob::new(Answer { body: answer.body.into_inner(), left })),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }
}

fn etag(text: String) -> ETag {
    ETag::Strong(text.trim_matches('"').to_owned())
}

struct Plain {
    body: StreamingBlob,
    left: u64,
}

impl http_body::Body for Plain {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_next(cx).map(|item| {
            item.map(|piece| {
                piece.map(|bytes| {
                    self.left = self.left.saturating_sub(bytes.len() as u64);
                    http_body::Frame::data(bytes)
                })
            })
        })
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

struct Answer {
    body: SdkBody,
    left: usize,
}

impl Stream for Answer {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match std::task::ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), cx)) {
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default();
                self.left = self.left.saturating_sub(bytes.len());
                Poll::Ready(Some(Ok(bytes)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => Poll::Ready(None),
        }
    }
}

impl s3s::stream::ByteStream for Answer {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.left)
    }
}

/// Serves until the process is killed.
pub fn serve(listen: SocketAddr, store: &str, credentials: (&str, &str)) {
    let (access_key, secret_key) = credentials;
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(store)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "bench"))
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    let (access_key, secret_key) = (access_key.to_owned(), secret_key.to_owned());
    let service = move || {
        let mut service = S3ServiceBuilder::new(PassThrough { client: Client::from_conf(config.clone()) });
        service.set_auth(s3s::auth::SimpleAuth::from_single(access_key.as_str(), secret_key.as_str()));
        Service::bare(service.build())
    };
    actix_web::rt::System::new().block_on(async {
        let listener = Listener::bind(listen, None).expect("address");
        serve_s3(listener, &ServerSettings::default(), service).expect("server").wait().await.expect("server runs");
    });
}
