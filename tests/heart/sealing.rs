//! Sealing: length and check rule over the end, whatever the client does (FORMAT sections 6 and 7).

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ciphergate::format::layout::{CHUNK, SEALED_CHUNK, chunked_len};
use ciphergate::format::{Layout, PartHeader, SealedLen};
use ciphergate::stream::{BoxError, Error, FooterFacts, OpenedBody, PlainCheck, SealOutcome, SealedBody, seal_object, seal_part};
use futures::{Stream, StreamExt, stream as streams};

use crate::common::*;

#[test]
fn bodies_can_cross_threads() {
    fn checks<T: Send + Sync + Unpin + 'static>() {}
    checks::<SealedBody>();
    checks::<OpenedBody>();
    checks::<SealOutcome>();
}

/// Every size around a chunk's edge against every odd way to cut it: same bytes in, same bytes out.
#[test]
fn the_cut_of_the_input_does_not_matter() {
    for suite in SUITES {
        let keys = object_keys(suite);
        for len in edge_sizes() {
            let plain = pattern(len);
            let whole = single(&keys, &plain);
            assert_eq!(whole.len() as u64, plain_len(len as u64).sealed().get());
            assert_eq!(SealedLen::new(whole.len() as u64).plain(), Some(plain_len(len as u64)));
            for piece_len in [1, 3, 1000, 65_535, 65_536, 65_537, 1 << 20] {
                if piece_len == 1 && len > 70_000 {
                    continue;
                }
                let body = seal_object(pieces(&plain, piece_len), Arc::clone(&keys), plain_len(len as u64), accept(None));
                assert_eq!(body_of(body), whole, "{suite} {len} in pieces of {piece_len}");
            }
            for piece_len in [1, 3, 1000, 65_551, 65_552, 65_553, 1 << 20] {
                if piece_len == 1 && len > 70_000 {
                    continue;
                }
                let (read, error) = read(&keys, &whole, Layout::Single, None, piece_len);
                assert!(error.is_none() && read == plain, "{suite} {len} in pieces of {piece_len}: {error:?}");
            }
        }
    }
}

#[test]
fn pieces_are_chunks_and_the_end_comes_with_the_last() {
    let keys = object_keys(SUITES[0]);
    let len = 3 * CHUNK + 10;
    let body = seal_object(pieces(&pattern(len as usize), 1000), keys, plain_len(len), accept(None));
    let lens: Vec<_> = drain(body).into_iter().map(|piece| piece.unwrap().len() as u64).collect();
    let end = plain_len(len).sealed().get() - chunked_len(plain_len(len)).get();
    assert_eq!(lens, [SEALED_CHUNK, SEALED_CHUNK, SEALED_CHUNK, 26 + end]);
}

/// A check that records what it saw and says what it was told to say.
struct Script {
    seen: Arc<Mutex<Vec<u8>>>,
    verdicts: Arc<Mutex<u32>>,
    reject: bool,
}

impl PlainCheck for Script {
    fn update(&mut self, plain: &[u8]) {
        self.seen.lock().unwrap().extend_from_slice(plain);
    }

    fn verdict(&mut self) -> Result<FooterFacts, BoxError> {
        *self.verdicts.lock().unwrap() += 1;
        if self.reject { Err("not what was promised".into()) } else { Ok(facts()) }
    }
}

fn facts() -> FooterFacts {
    FooterFacts { checksum: None, md5: Some([9; 16]), time_ms: 5 }
}

struct Watched {
    body: SealedBody,
    seen: Arc<Mutex<Vec<u8>>>,
    verdicts: Arc<Mutex<u32>>,
}

fn watched(source: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static, len: u64, reject: bool, part: bool) -> Watched {
    let (seen, verdicts) = <(Arc<Mutex<Vec<u8>>>, Arc<Mutex<u32>>)>::default();
    let check = Box::new(Script { seen: Arc::clone(&seen), verdicts: Arc::clone(&verdicts), reject });
    let keys = object_keys(SUITES[0]);
    let body = if part {
        seal_part(source, keys, PartHeader::part([1; 16], 1, plain_len(len)).unwrap(), check)
    } else {
        seal_object(source, keys, plain_len(len), check)
    };
    Watched { body, seen, verdicts }
}

/// How many bytes may leave before the end is decided: all chunks but the last.
fn free_len(len: u64, part: bool) -> u64 {
    let chunks = len.saturating_sub(1) / CHUNK;
    if part && chunks > 0 { 32 + chunks * SEALED_CHUNK } else { chunks * SEALED_CHUNK }
}

#[test]
fn a_good_body_is_seen_whole_and_judged_once() {
    for part in [false, true] {
        for len in edge_sizes() {
            let plain = pattern(len);
            let Watched { body, seen, verdicts } = watched(pieces(&plain, 777), len as u64, false, part);
            let outcome = body.outcome();
            assert!(outcome.facts().is_none());
            let (bytes, error) = collect(body);
            assert!(error.is_none());
            assert_eq!(*seen.lock().unwrap(), plain);
            assert_eq!(*verdicts.lock().unwrap(), 1);
            assert_eq!(outcome.facts(), Some(facts()));
            assert!(outcome.take_error().is_none());
            if !part {
                let footer = footer_from(&object_keys(SUITES[0]), &bytes, plain_len(len as u64), Layout::Single).unwrap();
                assert_eq!((footer.md5, footer.time_ms), (Some([9; 16]), 5));
                assert_eq!(footer.crc64, Some(crc_fast::crc64_nvme(&plain)));
            }
        }
    }
}

#[test]
fn a_refused_body_never_lets_its_end_out() {
    for part in [false, true] {
        for len in edge_sizes() {
            let len = len as u64;
            let plain = pattern(len as usize);
            let mut cases: Vec<(&str, Watched)> = vec![
                ("rejected", watched(pieces(&plain, 1000), len, true, part)),
                ("one byte more", watched(pieces(&pattern(len as usize + 1), 1000), len, false, part)),
                (
                    "a piece more",
                    watched(pieces(&plain, 1000).chain(pieces(&plain, 1 << 20)).chain(pieces(b"x", 1)), len, false, part),
                ),
                (
                    "broken at its end",
                    watched(pieces(&plain, 1000).chain(streams::iter([Err("reset".into())])), len, false, part),
                ),
            ];
            if len > 0 {
                cases.push(("one byte less", watched(pieces(&plain[1..], 1000), len, false, part)));
                cases.push(("nothing", watched(streams::empty(), len, false, part)));
            }
            for (what, Watched { body, verdicts, .. }) in cases {
                let outcome = body.outcome();
                let (bytes, error) = collect(body);
                assert!(matches!(error, Some(Error::Aborted)), "{what} {len}");
                assert!(bytes.len() as u64 <= free_len(len, part), "{what} {len}: {} bytes left", bytes.len());
                assert!(outcome.facts().is_none());
                let error = outcome.take_error().unwrap();
                let expected = match what {
                    "rejected" => matches!(error, Error::Rejected(_)),
                    "one byte less" | "nothing" => matches!(error, Error::ShortBody { .. }),
                    "broken at its end" => matches!(error, Error::Source(_)),
                    _ => matches!(error, Error::LongBody { .. }),
                };
                assert!(expected, "{what} {len}: {error:?}");
                assert!(!error.is_integrity());
                assert!(outcome.take_error().is_none(), "an error is told once");
                assert_eq!(*verdicts.lock().unwrap(), u32::from(what == "rejected"), "{what}: judged only when complete");
            }
        }
    }
}

#[test]
fn nothing_after_the_free_chunks_leaves_while_the_client_stays_silent() {
    let len = 2 * CHUNK;
    let source = pieces(&pattern(len as usize), 10_000).chain(streams::pending());
    let Watched { mut body, verdicts, .. } = watched(source, len, false, false);
    let mut context = Context::from_waker(Waker::noop());
    let mut out = 0;
    for _ in 0..100 {
        match body.poll_next_unpin(&mut context) {
            Poll::Ready(Some(Ok(piece))) => out += piece.len() as u64,
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => {}
        }
    }
    assert_eq!(out, SEALED_CHUNK);
    assert_eq!(*verdicts.lock().unwrap(), 0);
}

#[test]
fn an_endless_source_of_nothing_does_not_hold_the_thread() {
    let Watched { mut body, .. } = watched(endless(Bytes::new()), 10, false, false);
    let mut context = Context::from_waker(Waker::noop());
    assert!(body.poll_next_unpin(&mut context).is_pending());
    let keys = object_keys(SUITES[0]);
    let plan = ciphergate::format::ReadPlan::single(plain_len(10), None).unwrap();
    let mut body = ciphergate::stream::open_object(endless(Bytes::new()), keys, plan);
    assert!(body.poll_next_unpin(&mut context).is_pending());
}

#[test]
fn an_empty_part_has_no_bytes_but_a_verdict() {
    let Watched { body, verdicts, .. } = watched(streams::empty(), 0, false, true);
    assert_eq!(body.sealed_len().get(), 0);
    assert!(drain(body).is_empty());
    assert_eq!(*verdicts.lock().unwrap(), 1);
}
