//! Answers to requests that may work for minutes: completing an upload, and copies. Clients give up on a connection on which nothing
//! happens, so such an answer begins before its outcome is known, as S3's does: with status 200 and white space in front of a document
//! that may turn out to be an error. An outcome that is there soon is answered like any other, with the status that it has.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use s3s::service::S3Service;
use s3s::{Body, HttpError, S3Error, S3ErrorCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::Instrument as _;

use super::error_document;
use super::route::Classified;
use crate::observe::request::RequestRecord;

/// How long an outcome is waited for before the answer begins without it.
const QUIET: Duration = Duration::from_secs(5);
/// From one piece of white space to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest outcome, in bytes: names and a few values.
const DOCUMENT_MAX: usize = 1024 * 1024;
/// White space may not stand in front of it (XML 1.0, section 2.8), so it goes first.
const DECLARATION: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Whether a request is one of those. HTTP/1.0 has no answers of unknown length.
pub(super) fn may_take_long(req: &http::Request<Body>, classified: &Classified) -> bool {
    req.version() >= http::Version::HTTP_11
        && ["CompleteMultipartUpload", "CopyObject", "UploadPartCopy"].iter().any(|operation| classified.is_sealed(operation))
}

/// Serves it. White space is only sent once the request is proven and understood, so that nobody else keeps a connection busy.
///
/// # Errors
/// The protocol library gave up before the answer began.
pub(super) async fn answer(s3: S3Service, req: http::Request<Body>) -> Result<http::Response<Body>, HttpError> {
    let Some(record) = req.extensions().get::<RequestRecord>().cloned() else { return s3.call(req).await };
    let mut work = Box::pin(async move { s3.call(req).await });
    loop {
        match tokio::time::timeout(QUIET, &mut work).await {
            Ok(answer) => return answer,
            Err(_) if record.is_working() => break,
            Err(_) => {}
        }
    }
    let (mut done, outcome) = oneshot::channel();
    let task = async move {
        // A client that goes away ends the work, as it does before the answer has begun.
        let document = tokio::select! {
            answer = work => document(answer, &record).await,
            () = done.closed() => return,
        };
        let _ = done.send(document);
    };
    tokio::spawn(task.in_current_span());
    let mut pause = tokio::time::interval_at(Instant::now() + PAUSE, PAUSE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answer = http::Response::new(Body::http_body(Waiting { stage: Stage::Beginning, outcome, pause }));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    Ok(answer)
}

/// The outcome as a document without a declaration.
async fn document(answer: Result<http::Response<Body>, HttpError>, record: &RequestRecord) -> Bytes {
    let whole = match answer {
        Ok(answer) => {
            let (parts, mut body) = answer.into_parts();
            let whole = match body.bytes() {
                Some(whole) => Some(whole),
                None => body.store_all_limited(DOCUMENT_MAX).await.ok(),
            };
            whole.filter(|whole| !whole.is_empty()).map(|whole| (parts.status.is_success(), whole))
        }
        Err(error) => {
            tracing::error!(%error, "the protocol library gave up on a request");
            None
        }
    };
    match whole {
        Some((true, whole)) => undeclared(whole),
        Some((false, whole)) => undeclared(error_document::note(&whole, record)),
        None => {
            let answer = S3Error::new(S3ErrorCode::InternalError).to_http_response().ok();
            let whole = answer.and_then(|answer| answer.into_body().bytes()).unwrap_or_default();
            undeclared(error_document::note(&whole, record))
        }
    }
}

fn undeclared(document: Bytes) -> Bytes {
    let end = document.windows(2).position(|pair| pair == b"?>").filter(|_| document.starts_with(b"<?xml"));
    end.map_or(document.clone(), |end| document.slice(end + 2..))
}

enum Stage {
    Beginning,
    Waiting,
    Done,
}

/// The body of an answer that has begun without its outcome.
struct Waiting {
    stage: Stage,
    outcome: oneshot::Receiver<Bytes>,
    pause: Interval,
}

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = oneshot::error::RecvError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.stage {
            Stage::Beginning => {
                self.stage = Stage::Waiting;
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(DECLARATION)))));
            }
            Stage::Waiting => {}
            Stage::Done => return Poll::Ready(None),
        }
        if let Poll::Ready(outcome) = Pin::new(&mut self.outcome).poll(cx) {
            self.stage = Stage::Done;
            // Work that ended without an outcome breaks the answer off.
            return Poll::Ready(Some(outcome.map(Frame::data)));
        }
        self.pause.poll_tick(cx).map(|_| Some(Ok(Frame::data(Bytes::from_static(b" ")))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_declared_once() {
        for (document, rest) in
            [("<?xml version=\"1.0\"?><A/>", "<A/>"), ("<A>?></A>", "<A>?></A>"), ("<?xml", "<?xml"), ("", "")]
        {
            assert_eq!(undeclared(Bytes::from(document)), rest);
        }
    }
}
