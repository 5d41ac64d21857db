//! Reading: every range is the slice of the plaintext, and plans ask for no byte too many (FORMAT sections 8 and 9).

use std::sync::Arc;

use bytes::Bytes;
use ciphergate::crypto::Suite;
use ciphergate::format::layout::{CHUNK, PART_MIN, SEALED_CHUNK, chunked_len};
use ciphergate::format::{Error as FormatError, Layout, ReadPlan};
use ciphergate::stream::{BoxError, Error, open_object, seal_object};
use futures::{StreamExt, stream as streams};

use crate::common::*;

fn ranges(len: u64, random: &mut Random, count: usize) -> Vec<(u64, u64)> {
    let mut edges = vec![0, len - 1];
    for around in [CHUNK, 2 * CHUNK, PART_MIN, PART_MIN + CHUNK, 2 * PART_MIN] {
        edges.extend([around - 1, around, around + 1].into_iter().filter(|&edge| edge < len));
    }
    (0..count)
        .map(|_| {
            let mut pick = || match random.below(2) {
                0 => random.below(len),
                _ => edges[random.below(edges.len() as u64) as usize],
            };
            let (a, b) = (pick(), pick());
            (a.min(b), a.max(b).min(a.min(b) + 300_000))
        })
        .collect()
}

#[test]
fn ranges_of_single_objects_are_slices() {
    let mut random = Random::new(11);
    for suite in SUITES {
        let keys = object_keys(suite);
        for len in [1, 2, 65_535, 65_536, 65_537, 131_072, 131_073, 400_000] {
            let plain = pattern(len);
            let object = single(&keys, &plain);
            for (first, last) in ranges(len as u64, &mut random, 30) {
                let piece_len = 1000 + random.below(200_000) as usize;
                let (read, error) = read(&keys, &object, Layout::Single, Some((first, last)), piece_len);
                assert!(error.is_none() && read == plain[first as usize..=last as usize], "{len} {first}..={last}: {error:?}");
            }
        }
    }
}

fn three_parts(unbound: bool) -> Vec<Part> {
    let b = CHUNK as usize;
    let mut random = Random::new(5);
    [(1, 80 * b), (3, 80 * b + 1), (9, 2 * b + 7)]
        .into_iter()
        .map(|(number, len)| Part { unbound, ..Part::new(number, random.bytes(len)) })
        .collect()
}

#[test]
fn ranges_of_multipart_objects_are_slices() {
    for (suite, unbound) in [(Suite::ChaCha20Poly1305, false), (Suite::Aes256Gcm, false), (Suite::Aes256Gcm, true)] {
        let mut random = Random::new(12);
        let keys = object_keys(suite);
        let parts = three_parts(unbound);
        let plain = plain_of(&parts);
        let object = multipart(&keys, &parts, None);
        for piece_len in [1 << 22, 65_552, 30_000] {
            let (read, error) = read(&keys, &object, Layout::Multipart, None, piece_len);
            assert!(error.is_none() && read == plain, "{error:?}");
        }
        for (first, last) in ranges(plain.len() as u64, &mut random, 80) {
            let piece_len = 1000 + random.below(200_000) as usize;
            let (read, error) = read(&keys, &object, Layout::Multipart, Some((first, last)), piece_len);
            assert!(error.is_none() && read == plain[first as usize..=last as usize], "{first}..={last}: {error:?}");
        }
    }
}

#[test]
fn a_part_of_every_edge_size_returns_however_it_is_cut() {
    for suite in SUITES {
        let keys = object_keys(suite);
        for (len, unbound) in edge_sizes().into_iter().flat_map(|len| [(len, false), (len, true)]) {
            let part = Part { unbound, ..Part::new(7, pattern(len)) };
            let object = multipart(&keys, std::slice::from_ref(&part), None);
            for piece_len in [1, 3, 31, 1000, 65_551, 65_552, 65_553, 1 << 20] {
                // Byte by byte is slow without optimization: one suite, up to a chunk and a byte.
                if piece_len < 31 && (len > 70_000 || suite == Suite::ChaCha20Poly1305) {
                    continue;
                }
                let (whole, error) = read(&keys, &object, Layout::Multipart, None, piece_len);
                assert!(error.is_none() && whole == part.plain, "{len} in pieces of {piece_len}: {error:?}");
                if let Some(last) = (len as u64).checked_sub(1) {
                    for first in [0, last / 2, last] {
                        let (out, error) = read(&keys, &object, Layout::Multipart, Some((first, last)), piece_len);
                        assert!(error.is_none() && out == part.plain[first as usize..], "{len}, {first} to the end: {error:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn random_part_lists_return_whole_and_in_ranges() {
    let mut random = Random::new(13);
    for round in 0..6 {
        let keys = object_keys(SUITES[round % 2]);
        let mut parts = Vec::new();
        let count = 1 + random.below(3);
        for index in 0..count {
            let len = if index + 1 < count { PART_MIN + random.below(3 * CHUNK) } else { random.below(4 * CHUNK) };
            let part = Part::new(1 + 3 * index as u16 + random.below(3) as u16, random.bytes(len as usize));
            parts.push(if random.below(2) == 0 { part.unbound() } else { part });
        }
        let plain = plain_of(&parts);
        let object = multipart(&keys, &parts, None);
        assert_eq!(object.len() as u64, plain_len(plain.len() as u64).sealed().get());
        let (whole, error) = read(&keys, &object, Layout::Multipart, None, 100_000);
        assert!(error.is_none() && whole == plain, "{error:?}");
        if plain.is_empty() {
            continue;
        }
        for (first, last) in ranges(plain.len() as u64, &mut random, 20) {
            let (read, error) = read(&keys, &object, Layout::Multipart, Some((first, last)), 100_000);
            assert!(error.is_none() && read == plain[first as usize..=last as usize], "{first}..={last}: {error:?}");
        }
    }
}

#[test]
fn a_single_range_asks_for_its_chunks_alone() {
    let plan = ReadPlan::single(plain_len(10 * CHUNK + 5), Some((CHUNK - 1, 2 * CHUNK))).unwrap();
    assert_eq!(plan.sealed(), 0..3 * SEALED_CHUNK);
    assert_eq!(plan.plain(), CHUNK - 1..2 * CHUNK + 1);
    assert!(!plan.is_whole() && plan.header_wanted().is_none());
    let plan = ReadPlan::single(plain_len(10 * CHUNK + 5), Some((10 * CHUNK, 10 * CHUNK))).unwrap();
    assert_eq!(plan.sealed(), 10 * SEALED_CHUNK..10 * SEALED_CHUNK + 21);
    let whole = ReadPlan::single(plain_len(5), None).unwrap();
    assert_eq!(whole.sealed(), 0..plain_len(5).sealed().get());
    assert!(whole.is_whole());
    assert_eq!(ReadPlan::single(plain_len(0), None).unwrap().sealed(), 0..240);
}

#[test]
fn ranges_outside_are_refused() {
    let footer = Arc::new(footer_of(&[Part::new(1, pattern(10))], None));
    for (first, last) in [(0, 10), (10, 10), (5, 4), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        let refused = Err(FormatError::RangeOutside);
        assert_eq!(ReadPlan::single(plain_len(10), Some((first, last))).map(|_| ()), refused, "{first} {last}");
        assert_eq!(ReadPlan::multipart(&footer, Some((first, last))).map(|_| ()), refused, "{first} {last}");
    }
    assert!(ReadPlan::single(plain_len(0), Some((0, 0))).is_err());
    assert!(ReadPlan::multipart(&Arc::new(footer_of(&[Part::new(1, vec![])], None)), Some((0, 0))).is_err());
    assert!(ReadPlan::multipart(&Arc::new(footer_of(&[], None)), None).is_err(), "a single footer is no table");
}

#[test]
fn an_unbound_part_asks_for_its_header_only_when_it_must() {
    let bound = Arc::new(footer_of(&three_parts(false), None));
    let unbound = Arc::new(footer_of(&three_parts(true), None));
    let plan = |footer, first, last| ReadPlan::multipart(footer, Some((first, last))).unwrap();
    let part_one = 32 + chunked_len(plain_len(PART_MIN)).get();
    // At its beginning the header comes along; the bound part does without it.
    assert_eq!(plan(&bound, 0, 5).sealed(), 32..32 + SEALED_CHUNK);
    assert_eq!(plan(&unbound, 0, 5).sealed(), 0..32 + SEALED_CHUNK);
    assert_eq!(plan(&unbound, 0, 5).header_wanted(), None);
    // Further inside it must be asked for.
    assert_eq!(plan(&bound, CHUNK, CHUNK).header_wanted(), None);
    assert_eq!(plan(&unbound, CHUNK, CHUNK).header_wanted(), Some(0));
    assert_eq!(plan(&unbound, PART_MIN + CHUNK, PART_MIN + CHUNK).header_wanted(), Some(part_one));
    // Parts behind the first bring theirs.
    let across = plan(&unbound, PART_MIN - 1, PART_MIN);
    assert_eq!(across.header_wanted(), Some(0));
    assert_eq!(across.sealed(), 32 + 79 * SEALED_CHUNK..part_one + 32 + SEALED_CHUNK);
    assert_eq!(across.segments().len(), 2);
    let (_, error) = collect(open_object(streams::empty(), object_keys(SUITES[0]), across));
    assert!(matches!(error, Some(Error::Format(FormatError::HeaderNeeded))), "{error:?}");
}

#[test]
fn a_stored_header_that_differs_from_the_table_is_refused() {
    let parts = three_parts(true);
    let footer = Arc::new(footer_of(&parts, None));
    let plan = || ReadPlan::multipart(&footer, Some((CHUNK, CHUNK))).unwrap();
    let header = parts[0].header().to_bytes();
    assert!(plan().with_header(&header).is_ok());
    for at in 16..32 {
        let mut bent = header;
        bent[at] ^= 1;
        assert!(plan().with_header(&bent).is_err(), "byte {at}");
    }
}

/// Too few bytes, too many, or a failing backend: an error each, told apart from a damaged object.
#[test]
fn the_plan_is_demanded_to_the_byte() {
    let keys = object_keys(SUITES[1]);
    for len in edge_sizes() {
        let plain = pattern(len);
        let object = single(&keys, &plain);
        let mut plans = vec![(ReadPlan::single(plain_len(len as u64), None).unwrap(), plain.clone())];
        if len > 0 {
            let last = (len as u64 - 1).min(CHUNK);
            plans.push((ReadPlan::single(plain_len(len as u64), Some((0, last))).unwrap(), plain[..=last as usize].to_vec()));
        }
        for (plan, plain) in plans {
            let bytes = &object[plan.sealed().start as usize..plan.sealed().end as usize];
            let open = |source| collect(open_object(source, Arc::clone(&keys), plan.clone()));
            for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                let (out, error) = open(pieces(&bytes[..cut], 1000).boxed());
                assert!(matches!(error, Some(Error::SealedShort { .. })), "{error:?}");
                assert!(!error.unwrap().is_integrity());
                assert!(plain.starts_with(&out) && (out.len() < plain.len() || plain.is_empty()));
            }
            let (out, error) = open(pieces(bytes, 1000).chain(pieces(b"x", 1)).boxed());
            assert!(matches!(error, Some(Error::SealedLong { .. })), "{error:?}");
            assert!(out.len() < plain.len() || plain.is_empty());
            let (out, error) = open(pieces(bytes, 1000).chain(streams::iter([Err("reset".into())])).boxed());
            assert!(matches!(error, Some(Error::Source(_))), "{error:?}");
            assert!(out.len() < plain.len() || plain.is_empty());
            let (out, error) = open(pieces(bytes, 1000).chain(streams::iter([Ok(Bytes::new())])).boxed());
            assert!(error.is_none() && out == plain);
        }
    }
}

/// 2.3 GB from the sealer straight into the opener: the shortest object whose end is too long to be joined to its last chunk.
#[test]
fn a_long_object_goes_through_in_constant_space() {
    let keys = object_keys(Suite::Aes256Gcm);
    let len = 455 * PART_MIN + 3;
    let piece = Bytes::from(pattern(1 << 20));
    let count = len.div_ceil(piece.len() as u64);
    let last = (len - (count - 1) * piece.len() as u64) as usize;
    let source = {
        let piece = piece.clone();
        streams::iter(0..count).map(move |index| {
            let piece = piece.clone();
            Ok::<_, BoxError>(if index + 1 < count { piece } else { piece.slice(..last) })
        })
    };
    let sealed = seal_object(source, Arc::clone(&keys), plain_len(len), accept(None));
    assert_eq!(sealed.sealed_len(), plain_len(len).sealed());
    let sealed = sealed.map(|piece| piece.map_err(BoxError::from));
    let mut opened = open_object(sealed, keys, ReadPlan::single(plain_len(len), None).unwrap());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut at = 0usize;
    loop {
        match opened.poll_next_unpin(&mut context) {
            std::task::Poll::Ready(Some(chunk)) => {
                let chunk = chunk.unwrap();
                let expected = &piece[at % piece.len()..];
                assert!(expected.starts_with(&chunk));
                at += chunk.len();
            }
            std::task::Poll::Ready(None) => break,
            std::task::Poll::Pending => {}
        }
    }
    assert_eq!(at as u64, len);
}
