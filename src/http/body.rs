//! Bodies between actix-web and the protocol library: the request's, carried over a small channel, and the answer's.
//!
//! Nothing here copies body bytes, and nothing here ends a body that broke off as if it were whole.

use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures::Stream;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::edge::Answering;
use crate::observe::request::{RequestLog, RequestRecord};
use crate::ops::BodyFault;

/// Pieces of a request body that may wait between the connection and whoever reads them. actix-web hands out pieces of up to
/// 32 KiB and stops reading its socket when nobody takes them, so this bounds the memory of one upload in this room.
const PIECES_WAITING_MAX: usize = 4;

/// Where the fault of a request body is left for the bridge: whatever the layers between make of the error, the client hears
/// of its own mistake.
pub(super) type FaultSlot = Arc<OnceLock<BodyFault>>;

/// Tells that somebody has begun to read a request body. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct BodyWanted(Arc<Notify>);

impl BodyWanted {
    /// Waits until the body is wanted; at once if it has been before.
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }
}

/// The reading end of a request body. `Send + Sync`, unlike actix-web's payload.
pub(super) struct ClientBody {
    pieces: mpsc::Receiver<Result<Bytes, BodyFault>>,
    /// Bytes that are still to come, when the client announced a length.
    left: Option<u64>,
    tail: Option<Tail>,
    fault: FaultSlot,
    /// Until it has been told.
    wanted: Option<BodyWanted>,
    ended: bool,
}

/// The writing end, to be driven by [`pump`].
pub(super) type Pieces = mpsc::Sender<Result<Bytes, BodyFault>>;

impl ClientBody {
    /// `len`: the announced length in bytes, `None` for the chunked transfer coding. `final_chunk`: the body is aws-chunked
    /// without a trailer and must end with an empty chunk.
    pub(super) fn channel(len: Option<u64>, final_chunk: bool) -> (Pieces, Self, FaultSlot) {
        let (tx, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let fault = FaultSlot::default();
        let tail = final_chunk.then(Tail::default);
        let body = Self { pieces, left: len, tail, fault: fault.clone(), wanted: Some(BodyWanted::default()), ended: false };
        (tx, body, fault)
    }

    /// For waiting until somebody reads.
    pub(super) fn wanted(&self) -> BodyWanted {
        self.wanted.clone().unwrap_or_default()
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyFault>>> {
        self.ended = true;
        let _ = self.fault.set(fault);
        Poll::Ready(Some(Err(fault)))
    }
}

impl http_body::Body for ClientBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyFault>>> {
        if let Some(wanted) = self.wanted.take() {
            wanted.0.notify_one();
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.pieces.poll_recv(cx)) {
            Some(Ok(piece)) => {
                if let Some(left) = &mut self.left {
                    match left.checked_sub(piece.len() as u64) {
                        Some(rest) => *left = rest,
                        None => return self.fail(BodyFault::Framing),
                    }
                }
                if let Some(tail) = &mut self.tail {
                    tail.push(&piece);
                }
                Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
            }
            Some(Err(fault)) => self.fail(fault),
            // The pump is gone. Only the announced length says whether that was the end.
            None if self.left.is_some_and(|left| left > 0) => self.fail(BodyFault::Short),
            None if self.tail.as_ref().is_some_and(|tail| !tail.is_final_chunk()) => self.fail(BodyFault::FinalChunkMissing),
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.left {
            Some(left) => http_body::SizeHint::with_exact(left),
            None => http_body::SizeHint::new(),
        }
    }
}

/// The last bytes of an aws-chunked body. The protocol library takes a body for whole that stops after its last data: the
/// bytes are all there and signed, but S3 refuses it, and so do we.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// `0;chunk-signature=` + 64 digits + CRLF, and the CRLF of the empty chunk data that some clients leave out.
    const LEN_MAX: usize = 18 + 64 + 2 + 2;

    fn push(&mut self, piece: &[u8]) {
        let new = &piece[piece.len().saturating_sub(Self::LEN_MAX)..];
        let kept = Self::LEN_MAX - new.len();
        let drop = self.0.len().saturating_sub(kept);
        self.0.drain(..drop);
        self.0.extend_from_slice(new);
    }

    fn is_final_chunk(&self) -> bool {
        let Some(line) = self.0.strip_suffix(b"\r\n") else { return false };
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let Some(start) = line.len().checked_sub(18 + 64) else { return false };
        line[start..].starts_with(b"0;chunk-signature=")
    }
}

/// Moves a body from the connection into the channel until it ends, breaks, stalls for `idle_max`, or nobody reads any more.
/// The time in which the reader is the slow one does not count.
pub(super) async fn pump(
    payload: impl Stream<Item = Result<Bytes, PayloadError>>,
    pieces: Pieces,
    record: RequestRecord,
    idle_max: Duration,
) {
    let mut payload = pin!(payload);
    let mut timer = pin!(tokio::time::sleep(idle_max));
    // Room is taken before the connection is read: what cannot be passed on stays in the socket.
    while let Ok(room) = pieces.reserve().await {
        let mut waiting = false;
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(item) = payload.as_mut().poll_next(cx) {
                return Poll::Ready(Some(item));
            }
            if !waiting {
                waiting = true;
                timer.as_mut().reset(Instant::now() + idle_max);
            }
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await;
        let item = match next {
            Some(None) => return,
            Some(Some(Ok(piece))) => {
                record.add_bytes_in(piece.len() as u64);
                Ok(piece)
            }
            Some(Some(Err(PayloadError::Incomplete(_)))) => Err(BodyFault::Short),
            Some(Some(Err(PayloadError::EncodingCorrupted))) => Err(BodyFault::Framing),
            Some(Some(Err(_))) => Err(BodyFault::Short),
            None => Err(BodyFault::Idle),
        };
        let failed = item.is_err();
        room.send(item);
        if failed {
            return;
        }
    }
}

/// Why the body of an answer was broken off.
#[derive(Debug, thiserror::Error)]
enum ReplyFault {
    #[error("the body failed: {0}")]
    Source(s3s::StdError),
    #[error("the body ended {0} bytes before its announced length")]
    Short(u64),
    #[error("the body is longer than announced")]
    Long,
    #[error("a panic while the body was made")]
    Panic,
}

/// The body of an answer. Every fault is an error to actix-web, which then closes the connection without ending the body.
pub struct ReplyBody {
    inner: s3s::Body,
    size: BodySize,
    left: Option<u64>,
    log: RequestLog,
    span: tracing::Span,
    _answering: Answering,
}

impl ReplyBody {
    pub(super) fn new(inner: s3s::Body, size: BodySize, mut log: RequestLog, span: tracing::Span, answering: Answering) -> Self {
        let left = match size {
            BodySize::Sized(n) => Some(n),
            BodySize::None => Some(0),
            BodySize::Stream => None,
        };
        if left == Some(0) {
            log.done();
        }
        Self { inner, size, left, log, span, _answering: answering }
    }

    /// An answer that carries no bytes, whatever length its head announces.
    pub(super) fn head_only(size: BodySize, mut log: RequestLog, span: tracing::Span, answering: Answering) -> Self {
        log.done();
        Self { inner: s3s::Body::empty(), size, left: Some(0), log, span, _answering: answering }
    }

    fn fail(&mut self, fault: ReplyFault) -> Poll<Option<Result<Bytes, Box<dyn StdError>>>> {
        self.log.set_fault(&fault.to_string());
        Poll::Ready(Some(Err(Box::new(fault))))
    }
}

impl MessageBody for ReplyBody {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = &mut *self;
        let inner = &mut this.inner;
        let polled = this.span.in_scope(|| {
            // A panic here would end the connection's task and leave nothing in the log.
            std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_next(cx)))
        });
        let Ok(polled) = polled else { return this.fail(ReplyFault::Panic) };
        match std::task::ready!(polled) {
            Some(Ok(piece)) => {
                let len = piece.len() as u64;
                if let Some(left) = &mut this.left {
                    match left.checked_sub(len) {
                        Some(rest) => *left = rest,
                        None => return this.fail(ReplyFault::Long),
                    }
                }
                this.log.add_bytes_out(len);
                Poll::Ready(Some(Ok(piece)))
            }
            Some(Err(err)) => this.fail(ReplyFault::Source(err)),
            None => match this.left {
                Some(left) if left > 0 => this.fail(ReplyFault::Short(left)),
                _ => {
                    this.log.done();
                    Poll::Ready(None)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::request_id::RequestId;
    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;

    fn record() -> RequestRecord {
        RequestRecord::new(RequestId::fresh())
    }

    async fn carry(
        items: Vec<Result<Bytes, PayloadError>>,
        len: Option<u64>,
        final_chunk: bool,
    ) -> (Result<Bytes, BodyFault>, Option<BodyFault>) {
        let (tx, body, slot) = ClientBody::channel(len, final_chunk);
        let (_, whole) =
            tokio::join!(pump(stream::iter(items), tx, record(), Duration::from_secs(5)), async { body.collect().await });
        (whole.map(http_body_util::Collected::to_bytes), slot.get().copied())
    }

    #[tokio::test]
    async fn a_whole_body_passes_unchanged() {
        let pieces = (0..20u8).map(|i| Ok(Bytes::from(vec![i; 100]))).collect();
        let (whole, fault) = carry(pieces, Some(2000), false).await;
        assert_eq!(whole.unwrap().len(), 2000);
        assert_eq!(fault, None);
    }

    #[tokio::test]
    async fn a_short_body_is_an_error_however_it_ends() {
        for last in [None, Some(Err(PayloadError::Incomplete(None)))] {
            let mut items = vec![Ok(Bytes::from_static(b"abc"))];
            items.extend(last);
            let (whole, fault) = carry(items, Some(4), false).await;
            assert_eq!(whole.unwrap_err(), BodyFault::Short);
            assert_eq!(fault, Some(BodyFault::Short));
        }
    }

    #[tokio::test]
    async fn a_long_body_is_an_error() {
        let (whole, _) = carry(vec![Ok(Bytes::from_static(b"abc"))], Some(2), false).await;
        assert_eq!(whole.unwrap_err(), BodyFault::Framing);
    }

    #[tokio::test]
    async fn a_dropped_pump_is_a_short_body() {
        let (tx, body, _) = ClientBody::channel(Some(1), false);
        drop(tx);
        assert_eq!(body.collect().await.unwrap_err(), BodyFault::Short);
    }

    #[tokio::test]
    async fn a_stalled_client_times_out_but_a_slow_reader_does_not() {
        let (tx, mut body, _) = ClientBody::channel(None, false);
        let items = stream::iter((0..10).map(|_| Ok(Bytes::from_static(b"x")))).chain(stream::pending());
        let reader = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let mut got = 0;
            loop {
                match body.frame().await {
                    Some(Ok(_)) => got += 1,
                    Some(Err(fault)) => return (got, fault),
                    None => panic!("clean end"),
                }
            }
        };
        let ((), (got, fault)) = tokio::join!(pump(items, tx, record(), Duration::from_millis(100)), reader);
        assert_eq!((got, fault), (10, BodyFault::Idle));
    }

    #[tokio::test]
    async fn the_pump_stops_when_nobody_reads() {
        let (tx, body, _) = ClientBody::channel(None, false);
        drop(body);
        pump(stream::pending(), tx, record(), Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn aws_chunked_needs_its_final_chunk() {
        let sig = "a".repeat(64);
        let data = format!("5;chunk-signature={sig}\r\nhello\r\n");
        let last = format!("0;chunk-signature={sig}\r\n\r\n");
        for (cut, ok) in [(0, true), (2, true), (4, false), (5, false), (last.len(), false)] {
            let text = format!("{data}{}", &last[..last.len() - cut]);
            for piece in [1, 7, 1000] {
                let items = text.as_bytes().chunks(piece).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
                let (whole, _) = carry(items, Some(text.len() as u64), true).await;
                assert_eq!(whole.is_ok(), ok, "cut {cut} in pieces of {piece}");
            }
        }
    }
}
