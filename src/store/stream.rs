//! A body on its way out: the pieces of its files one after the other, and the faults that a test plays on the way.

use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::Error;
use super::bodies::{Bodies, PIECE, Pins};
use super::faults::Effect;
use super::index::contents::Piece;

/// What is sent before an injected cut gets this long to leave the buffers of the connection.
const FLUSH_TIME: Duration = Duration::from_millis(20);

/// An injected fault on its way.
struct Trouble {
    /// Bytes until it strikes.
    left: u64,
    pause: Duration,
    /// Whether the body ends after the pause.
    cut: bool,
    sleeping: Option<Pin<Box<Sleep>>>,
}

impl Trouble {
    fn of(effect: Effect) -> Option<Self> {
        match effect {
            Effect::CutDownload { after } => Some(Self { left: after, pause: FLUSH_TIME, cut: true, sleeping: None }),
            Effect::StallDownload { after, pause } => Some(Self { left: after, pause, cut: false, sleeping: None }),
            _ => None,
        }
    }
}

/// Where a reading is. It moves to a thread that may block and comes back with each piece.
pub(super) struct Cursor {
    bodies: Arc<Bodies>,
    /// Not begun yet.
    ahead: std::vec::IntoIter<Piece>,
    open: Option<(File, Piece)>,
    /// For the bodies that are not open yet.
    pins: Option<Pins>,
}

impl Cursor {
    /// Starts at the first of these pieces. A single body is held open; of several, the files are kept until the reading ends, if
    /// the index names them still when it is asked again.
    ///
    /// # Errors
    /// `None` when the pieces are gone, [`Error::BodyDamaged`] and [`Error::Body`].
    pub(super) fn open(
        bodies: &Arc<Bodies>,
        pieces: Vec<Piece>,
        is_there: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<Option<Self>, Error> {
        let mut pins = None;
        if pieces.len() > 1 {
            pins = Some(bodies.pin(pieces.iter().map(|piece| piece.body)));
            if !is_there()? {
                return Ok(None);
            }
        }
        let mut cursor = Self { bodies: Arc::clone(bodies), ahead: pieces.into_iter(), open: None, pins };
        if let Some(piece) = cursor.ahead.next() {
            match bodies.read(piece.body, piece.body_len)? {
                Some(file) => cursor.open = Some((file, piece)),
                None if cursor.pins.is_some() => return Err(Error::BodyDamaged(piece.body.to_string())),
                None => return Ok(None),
            }
        }
        Ok(Some(cursor))
    }

    /// Reads on, at most [`PIECE`] bytes. Empty at the end.
    ///
    /// # Errors
    /// [`Error::BodyDamaged`] and [`Error::Body`].
    pub(super) fn next(&mut self) -> Result<Bytes, Error> {
        loop {
            let (file, mut piece) = match self.open.take() {
                Some(open) => open,
                None => {
                    let Some(piece) = self.ahead.next() else { return Ok(Bytes::new()) };
                    let file = self.bodies.read(piece.body, piece.body_len)?;
                    (file.ok_or_else(|| Error::BodyDamaged(piece.body.to_string()))?, piece)
                }
            };
            if piece.len == 0 {
                continue;
            }
            let len = usize::try_from(piece.len).unwrap_or(PIECE).min(PIECE);
            let bytes = self.bodies.piece(&file, piece.start, len)?;
            piece.start += len as u64;
            piece.len -= len as u64;
            self.open = Some((file, piece));
            return Ok(bytes);
        }
    }
}

/// A body on its way out. One piece is read ahead while another is sent; the files stay, so that the body is whole even if its key
/// is overwritten meanwhile.
pub(super) struct BodyStream {
    /// `None` while it reads.
    cursor: Option<Cursor>,
    reading: Option<JoinHandle<(Cursor, Result<Bytes, Error>)>>,
    ready: Option<Bytes>,
    /// Bytes still to be read.
    unread: u64,
    /// Bytes still to be sent.
    left: u64,
    trouble: Option<Trouble>,
}

impl BodyStream {
    /// A body of `len` bytes, the first of which have been read.
    pub(super) fn new(cursor: Cursor, first: Bytes, len: u64, fault: Option<Effect>) -> Self {
        Self {
            cursor: Some(cursor),
            reading: None,
            unread: len.saturating_sub(first.len() as u64),
            ready: Some(first).filter(|first| !first.is_empty()),
            left: len,
            trouble: fault.and_then(Trouble::of),
        }
    }

    fn read_ahead(&mut self) {
        if self.unread > 0
            && let Some(mut cursor) = self.cursor.take()
        {
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let piece = cursor.next();
                (cursor, piece)
            }));
        }
    }

    /// How many bytes may go out before an injected fault strikes; `Pending` and errors are the fault striking.
    fn poll_trouble(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StdError>> {
        let Some(trouble) = &mut self.trouble else { return Poll::Ready(Ok(usize::MAX)) };
        if trouble.left > 0 {
            return Poll::Ready(Ok(usize::try_from(trouble.left).unwrap_or(usize::MAX)));
        }
        let pause = trouble.pause;
        let sleeping = trouble.sleeping.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        ready!(sleeping.as_mut().poll(cx));
        if trouble.cut {
            return Poll::Ready(Err("an injected fault cuts the body".into()));
        }
        self.trouble = None;
        Poll::Ready(Ok(usize::MAX))
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = ready!(this.poll_trouble(cx))?;
        this.read_ahead();
        let mut piece = match this.ready.take() {
            Some(piece) => piece,
            None => {
                let Some(reading) = &mut this.reading else { return Poll::Ready(Some(Err("the body ended early".into()))) };
                let (cursor, piece) = ready!(Pin::new(reading).poll(cx))?;
                let piece = piece?;
                this.reading = None;
                this.cursor = Some(cursor);
                if piece.is_empty() {
                    return Poll::Ready(Some(Err("the body ended early".into())));
                }
                this.unread = this.unread.saturating_sub(piece.len() as u64);
                this.read_ahead();
                piece
            }
        };
        if piece.len() > most {
            this.ready = Some(piece.split_off(most));
        }
        if let Some(trouble) = &mut this.trouble {
            trouble.left -= piece.len() as u64;
        }
        this.left = this.left.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(piece)))
    }
}

impl ByteStream for BodyStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.left).unwrap_or(usize::MAX))
    }
}
