//! Heads that the HTTP library refuses by itself are answered like everything else: with an error document, a request id and a line
//! in the log.
//!
//! The library writes such an answer straight to the connection, and nothing of ours is asked. It is told from our own answers by
//! counting those: when none of them is being given and all that were are written out, what is written is the library's.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::observe::request::{RequestLog, RequestRecord};
use crate::observe::request_id::RequestId;

/// The answers that are being given on one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    under_way: Cell<usize>,
    /// Something of ours may still wait to be written.
    unwritten: Cell<bool>,
}

impl Answers {
    /// To be kept until the whole answer was handed over.
    pub(super) fn begin(&self) -> Answering {
        self.0.under_way.set(self.0.under_way.get() + 1);
        self.0.unwritten.set(true);
        Answering(self.0.clone())
    }

    fn are_out(&self) -> bool {
        self.0.under_way.get() == 0 && !self.0.unwritten.get()
    }

    fn were_written(&self) {
        if self.0.under_way.get() == 0 {
            self.0.unwritten.set(false);
        }
    }
}

/// One of our own answers.
#[derive(Debug)]
pub(super) struct Answering(Rc<Counts>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get().saturating_sub(1));
    }
}

/// A client's connection.
pub(super) struct Edge<T> {
    io: T,
    peer: Option<SocketAddr>,
    answers: Answers,
    /// What goes out in place of the library's own answer.
    instead: Bytes,
}

impl<T: AsyncWrite + Unpin> Edge<T> {
    pub(super) fn new(io: T, peer: Option<SocketAddr>) -> Self {
        Self { io, peer, answers: Answers::default(), instead: Bytes::new() }
    }

    pub(super) fn answers(&self) -> Answers {
        self.answers.clone()
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.instead.has_remaining() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.instead))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.instead.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What to say in place of an answer that the library gives by itself; `None` for anything else.
fn in_place_of(written: &[u8], peer: Option<SocketAddr>) -> Option<Bytes> {
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let status_line = head.lines().next()?;
    let status: u16 = status_line.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    let (code, message) = match status {
        400 => ("BadRequest", "An error occurred when parsing the HTTP request."),
        408 => ("RequestTimeout", "The head of the request did not arrive in time."),
        431 => ("RequestHeaderSectionTooLarge", "Your request header section exceeds the maximum allowed size."),
        _ => return None,
    };
    let record = RequestRecord::new(RequestId::fresh());
    record.set_error_code(code);
    let id = record.id();
    let mut log = RequestLog::start(record, "", peer);
    log.answer(status);
    log.done();
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{id}</RequestId></Error>"
    );
    let length = document.len();
    Some(Bytes::from(format!(
        "{status_line}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\nx-amz-request-id: {id}\r\nx-amz-id-2: {id}\r\n\
         connection: close\r\n\r\n{document}"
    )))
}

impl<T: AsyncRead + Unpin> AsyncRead for Edge<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Edge<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_instead(cx))?;
        if this.answers.are_out()
            && let Some(instead) = in_place_of(buf, this.peer)
        {
            this.instead = instead;
            // What does not go out now goes out with the flush.
            if let Poll::Ready(Err(error)) = this.poll_instead(cx) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        // The library flushes only when it has nothing more to write.
        self.answers.were_written();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    const LIBRARY: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    async fn written(act: impl AsyncFnOnce(&mut Edge<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        act(&mut Edge::new(&mut out, None)).await;
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn the_librarys_own_answers_get_a_document() {
        let out = written(async |edge| {
            edge.write_all(LIBRARY).await.unwrap();
            edge.flush().await.unwrap();
        })
        .await;
        assert!(out.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{out}");
        let id = out.split_once("x-amz-request-id: ").unwrap().1.split_once("\r\n").unwrap().0;
        assert!(out.ends_with(&format!("<RequestId>{id}</RequestId></Error>")), "{out}");
        let (head, document) = out.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", document.len())));
    }

    #[tokio::test]
    async fn what_is_ours_is_never_touched() {
        let text = String::from_utf8(LIBRARY.to_vec()).unwrap();
        // While an answer is given, and after it until it is written out.
        let out = written(async |edge| {
            let answering = edge.answers().begin();
            edge.write_all(LIBRARY).await.unwrap();
            edge.flush().await.unwrap();
            edge.write_all(LIBRARY).await.unwrap();
            drop(answering);
            edge.write_all(LIBRARY).await.unwrap();
        })
        .await;
        assert_eq!(out, text.repeat(3));
        let out = written(async |edge| {
            drop(edge.answers().begin());
            edge.flush().await.unwrap();
            edge.write_all(LIBRARY).await.unwrap();
        })
        .await;
        assert!(out.contains("<RequestId>"));
        // Other bytes are what they are at any time.
        let out = written(async |edge| edge.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap()).await;
        assert_eq!(out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
}
