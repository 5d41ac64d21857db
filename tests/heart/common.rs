//! What the tests share: a driver for streams without a runtime, objects made by the public interface, and a seeded generator.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ciphergate::crypto::{DataKey, KeyEncryptionKey, ObjectKeys, Suite};
use ciphergate::format::{ChecksumBytes, Footer, Layout, ObjectChecksum, PartHeader, PlainLen, ReadPlan, TableEntry, layout};
use ciphergate::stream::{self, BoxError, FooterFacts, PlainCheck, SealedBody, open_object, seal_object, seal_part};
use futures::{Stream, StreamExt, stream as streams};

pub const SUITES: [Suite; 2] = Suite::ALL;
pub const TIME_MS: u64 = 1_700_000_000_000;

pub fn plain_len(bytes: u64) -> PlainLen {
    PlainLen::new(bytes).unwrap()
}

/// The plaintext of every vector: byte i is i mod 251.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

pub fn ascending<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}

pub fn kek(first: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::from_slice(&ascending::<32>(first)).unwrap()
}

pub fn data_key(first: u8) -> DataKey {
    DataKey::from_bytes(ascending::<32>(first).into())
}

pub fn object_keys(suite: Suite) -> Arc<ObjectKeys> {
    Arc::new(ObjectKeys::derive(suite, &data_key(0x20)))
}

/// A small generator of our own, so that a failure repeats from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Polls a stream to its end. Our sources never wait for anything, so Pending only ever means "let others run".
pub fn drain<S: Stream>(stream: S) -> Vec<S::Item> {
    let mut stream = pin!(stream);
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut items = Vec::new();
    loop {
        match stream.as_mut().poll_next(&mut context) {
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return items,
            Poll::Pending => {}
        }
    }
}

/// What came out before the end or the first error, and that error.
pub fn collect(stream: impl Stream<Item = stream::Result<Bytes>>) -> (Vec<u8>, Option<stream::Error>) {
    let mut bytes = Vec::new();
    let mut error = None;
    for item in drain(stream) {
        assert!(error.is_none(), "nothing may follow an error");
        match item {
            Ok(piece) => {
                assert!(!piece.is_empty());
                bytes.extend_from_slice(&piece);
            }
            Err(found) => error = Some(found),
        }
    }
    (bytes, error)
}

pub fn pieces(bytes: &[u8], piece_len: usize) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    let pieces: Vec<_> = bytes.chunks(piece_len.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    streams::iter(pieces)
}

/// A check that accepts everything and gives these facts.
pub struct Accept(pub FooterFacts);

impl PlainCheck for Accept {
    fn update(&mut self, _: &[u8]) {}

    fn verdict(&mut self) -> Result<FooterFacts, BoxError> {
        Ok(self.0)
    }
}

pub fn accept(checksum: Option<ObjectChecksum>) -> Box<dyn PlainCheck> {
    Box::new(Accept(FooterFacts { checksum, md5: None, time_ms: TIME_MS }))
}

pub fn body_of(body: SealedBody) -> Vec<u8> {
    let announced = body.sealed_len().get();
    let outcome = body.outcome();
    let (bytes, error) = collect(body);
    assert!(error.is_none(), "{:?}", outcome.take_error());
    assert_eq!(bytes.len() as u64, announced);
    assert!(outcome.facts().is_some());
    bytes
}

/// A single object as the gateway writes it, with its internal checksum.
pub fn single(keys: &Arc<ObjectKeys>, plain: &[u8]) -> Vec<u8> {
    body_of(seal_object(pieces(plain, 50_000), Arc::clone(keys), plain_len(plain.len() as u64), accept(None)))
}

/// One part of a multipart object for the tests.
#[derive(Clone)]
pub struct Part {
    pub number: u16,
    pub part_id: [u8; 16],
    pub plain: Vec<u8>,
    pub unbound: bool,
    pub checksum: ChecksumBytes,
}

impl Part {
    pub fn new(number: u16, plain: Vec<u8>) -> Self {
        Self { number, part_id: [0x60 + number as u8; 16], plain, unbound: false, checksum: ChecksumBytes::EMPTY }
    }

    pub fn unbound(self) -> Self {
        Self { unbound: true, ..self }
    }

    pub fn header(&self) -> PartHeader {
        PartHeader::part(self.part_id, self.number, plain_len(self.plain.len() as u64)).unwrap()
    }

    pub fn entry(&self) -> TableEntry {
        TableEntry {
            number: self.number,
            plain_len: plain_len(self.plain.len() as u64),
            part_id: (!self.unbound).then_some(self.part_id),
            checksum: self.checksum,
        }
    }

    pub fn seal(&self, keys: &Arc<ObjectKeys>) -> Vec<u8> {
        body_of(seal_part(pieces(&self.plain, 70_001), Arc::clone(keys), self.header(), accept(None)))
    }
}

pub fn plain_of(parts: &[Part]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.plain.iter().copied()).collect()
}

pub fn footer_of(parts: &[Part], checksum: Option<ObjectChecksum>) -> Footer {
    let plain: usize = parts.iter().map(|part| part.plain.len()).sum();
    Footer {
        plain_len: plain_len(plain as u64),
        time_ms: TIME_MS,
        checksum,
        crc64: None,
        md5: None,
        parts: parts.iter().map(Part::entry).collect(),
    }
}

/// Pads a body and puts a footer behind it, whatever the two are.
pub fn finish(keys: &ObjectKeys, mut body: Vec<u8>, footer: &Footer) -> Vec<u8> {
    let end = footer.seal(keys).unwrap();
    let total = footer.plain_len.sealed().get() as usize;
    assert!(body.len() + end.len() <= total);
    body.resize(total - end.len(), 0);
    body.extend_from_slice(&end);
    body
}

/// A multipart object.
pub fn multipart(keys: &Arc<ObjectKeys>, parts: &[Part], checksum: Option<ObjectChecksum>) -> Vec<u8> {
    let body = parts.iter().flat_map(|part| part.seal(keys)).collect();
    finish(keys, body, &footer_of(parts, checksum))
}

/// Reads an object as a gateway would: footer first where the layout asks for it, a stored header where the plan asks for it.
/// Returns what was released and the error that ended it, if any.
pub fn read(
    keys: &Arc<ObjectKeys>,
    object: &[u8],
    layout: Layout,
    range: Option<(u64, u64)>,
    piece_len: usize,
) -> (Vec<u8>, Option<stream::Error>) {
    let plan = match plan_for(keys, object, layout, range) {
        Ok(plan) => plan,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let sealed = plan.sealed();
    let slice = &object[sealed.start as usize..sealed.end as usize];
    let expected = plan.plain_len();
    let body = open_object(pieces(slice, piece_len), Arc::clone(keys), plan);
    assert_eq!(body.plain_len(), expected);
    collect(body)
}

pub fn plan_for(
    keys: &Arc<ObjectKeys>,
    object: &[u8],
    layout: Layout,
    range: Option<(u64, u64)>,
) -> Result<ReadPlan, stream::Error> {
    let len = ciphergate::format::SealedLen::new(object.len() as u64);
    let plain = len.plain().ok_or(ciphergate::format::Error::ImpossibleLength(len.get()))?;
    match layout {
        Layout::Single => Ok(ReadPlan::single(plain, range)?),
        Layout::Multipart => {
            let footer = Arc::new(footer_from(keys, object, plain, layout)?);
            let plan = ReadPlan::multipart(&footer, range)?;
            Ok(match plan.header_wanted() {
                None => plan,
                Some(at) => {
                    let at = at as usize;
                    plan.with_header(object[at..at + 32].try_into().unwrap())?
                }
            })
        }
    }
}

/// Opens the footer from suffixes, beginning with one that is too short on purpose.
pub fn footer_from(
    keys: &ObjectKeys,
    object: &[u8],
    plain: PlainLen,
    layout: Layout,
) -> Result<Footer, ciphergate::format::Error> {
    let mut suffix = 20;
    loop {
        match Footer::from_suffix(keys, &object[object.len().saturating_sub(suffix)..], plain, layout)? {
            ciphergate::format::Suffix::Footer(footer) => return Ok(footer),
            ciphergate::format::Suffix::More(more) => {
                assert!(more as usize > suffix && more as usize <= object.len());
                suffix = more as usize;
            }
        }
    }
}

/// Sizes around the edge of a chunk.
pub fn edge_sizes() -> [usize; 8] {
    let b = layout::CHUNK as usize;
    [0, 1, b - 1, b, b + 1, 2 * b - 1, 2 * b, 2 * b + 1]
}

pub fn endless(piece: Bytes) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    streams::repeat(piece).map(Ok)
}
