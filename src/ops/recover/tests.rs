use std::task::{Context, Poll, Waker};

use futures::{FutureExt, StreamExt};

use super::*;
use crate::crypto::{DataKey, ObjectKeys, Suite};
use crate::format::layout::{CHUNK, SEALED_CHUNK, part_sealed_len};
use crate::format::{ChecksumBytes, Footer, Layout, PartHeader, PlainLen, TableEntry};
use crate::ops::check::Computed;
use crate::stream::{self, SealedBody};

fn keys() -> Arc<ObjectKeys> {
    Arc::new(ObjectKeys::derive(Suite::Aes256Gcm, &DataKey::from_bytes([7; 32].into())))
}

fn len(bytes: usize) -> PlainLen {
    PlainLen::new(bytes as u64).unwrap()
}

/// Bytes that differ everywhere.
fn plain(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8 ^ (at / 65_536) as u8).collect()
}

fn collected(body: SealedBody) -> Vec<u8> {
    let mut all = body.map(|piece| piece.unwrap()).collect::<Vec<_>>();
    // The sources here wait for nothing: Pending only means that others may run.
    loop {
        if let Poll::Ready(pieces) = all.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            return pieces.concat();
        }
    }
}

fn source(plain: &[u8]) -> impl futures::Stream<Item = Result<Bytes, stream::BoxError>> + Send + 'static {
    futures::stream::iter([Ok(Bytes::copy_from_slice(plain))])
}

fn single(plain: &[u8]) -> Vec<u8> {
    collected(stream::seal_object(source(plain), keys(), len(plain.len()), Box::new(Computed::new(None))))
}

fn header(number: u16, plain_len: usize) -> PartHeader {
    PartHeader::part([number as u8 + 1; 16], number, len(plain_len)).unwrap()
}

/// Parts, numbered from 1, of these lengths. Unbound ones have their ids in the stored headers alone.
fn parts(plain: &[u8], lens: &[usize], unbound: bool) -> Vec<u8> {
    let (mut body, mut at, mut entries) = (Vec::new(), 0, Vec::new());
    for (number, part) in (1..).zip(lens) {
        let header = header(number, *part);
        body.extend(collected(stream::seal_part(source(&plain[at..at + part]), keys(), header, Box::new(Computed::new(None)))));
        let part_id = (!unbound).then_some(header.part_id);
        entries.push(TableEntry { number, plain_len: header.plain_len, part_id, checksum: ChecksumBytes::EMPTY });
        at += part;
    }
    let footer = Footer { plain_len: len(at), time_ms: 0, checksum: None, crc64: None, md5: None, parts: entries };
    body.extend(collected(stream::seal_end(&footer, keys(), None).unwrap()));
    assert_eq!(body.len() as u64, len(at).sealed().get());
    body
}

struct Held {
    bytes: Vec<u8>,
    /// What cannot be read.
    bad: std::ops::Range<u64>,
}

impl Sealed for Held {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn read(&self, from: u64, to: u64) -> Result<Option<Bytes>, Error> {
        assert!(from < to && to <= self.len());
        if from < self.bad.end && self.bad.start < to {
            return Ok(None);
        }
        Ok(Some(Bytes::copy_from_slice(&self.bytes[from as usize..to as usize])))
    }
}

/// Recovers, with zeros where something is lost.
async fn recovered(
    bytes: &[u8],
    layout: Layout,
    sizes: &[RangeInclusive<u64>],
    bad: std::ops::Range<u64>,
) -> (Vec<u8>, Recovered) {
    let held = Held { bytes: bytes.to_vec(), bad };
    let told_size = match sizes {
        [one] if one.start() == one.end() => Some(*one.start()),
        _ => None,
    };
    let salvage = Salvage { source: &held, keys: keys(), layout, plain_sizes: sizes.to_vec(), told_size };
    let mut out = Vec::new();
    let mut sink = |piece: Piece| {
        match piece {
            Piece::Plain(bytes) => out.extend_from_slice(&bytes),
            Piece::Hole(len) => out.resize(out.len() + len as usize, 0),
        }
        Ok(())
    };
    let report = salvage.run(Output::new(&mut sink)).await.expect("damage is no error");
    assert_eq!(report.plain_len, out.len() as u64);
    (out, report)
}

fn ranges(report: &Recovered) -> Vec<(u64, u64, Why)> {
    report.lost.iter().map(|lost| (lost.from, lost.to, lost.why)).collect()
}

/// What came out is the plaintext but for the lost ranges, which are zeros.
fn agrees(plain: &[u8], out: &[u8], report: &Recovered) {
    let mut wanted = plain[..out.len()].to_vec();
    for lost in &report.lost {
        wanted[lost.from as usize..lost.to as usize].fill(0);
    }
    assert!(out == wanted, "bytes that are not the plaintext's");
    assert_eq!(report.lost_bytes(), report.lost.iter().map(|lost| lost.to - lost.from).sum::<u64>());
}

const C: u64 = CHUNK;
const S: u64 = SEALED_CHUNK;

#[tokio::test]
async fn of_an_object_in_one_piece_only_damaged_chunks_are_lost() {
    let plain = plain(3 * C as usize + 100);
    let body = single(&plain);
    let (out, report) = recovered(&body, Layout::Single, &[], 0..0).await;
    assert!(out == plain && report.is_whole() && report.length_from == LengthFrom::Footer);
    for (flips, lost) in [
        (&[S + 5][..], vec![(C, 2 * C, Why::Damaged)]),
        (&[0, 3 * S], vec![(0, C, Why::Damaged), (3 * C, 3 * C + 100, Why::Damaged)]),
        (&[S, 2 * S], vec![(C, 3 * C, Why::Damaged)]),
        // The padding, the footer, its marker.
        (&[body.len() as u64 - 33], vec![]),
        (&[body.len() as u64 - 1, S], vec![(C, 2 * C, Why::Damaged)]),
        (&[body.len() as u64 - 1, 0, S, 2 * S], vec![(0, 3 * C, Why::Damaged)]),
    ] {
        let mut bad = body.clone();
        for flip in flips {
            bad[*flip as usize] ^= 1;
        }
        let (out, report) = recovered(&bad, Layout::Single, &[], 0..0).await;
        assert_eq!(ranges(&report), lost, "{flips:?}");
        agrees(&plain, &out, &report);
        assert_eq!((report.is_whole(), out.len()), (lost.is_empty(), plain.len()), "{flips:?}");
    }
    let (out, report) = recovered(&body, Layout::Single, &[], S + 1..S + 2).await;
    assert_eq!(ranges(&report), [(C, 2 * C, Why::Unreadable)]);
    agrees(&plain, &out, &report);
}

#[tokio::test]
async fn of_an_object_that_was_cut_off_everything_before_is_recovered_once_its_length_is_known() {
    let plain = plain(3 * C as usize + 100);
    let body = single(&plain);
    let size = plain.len() as u64;
    for cut in [2 * S + 9, 3 * S, 3 * S + 115, S, body.len() as u64 - 1] {
        let cut_off = &body[..cut as usize];
        for (sizes, from) in [(vec![size..=size], LengthFrom::Chunks), (vec![0..=9, size - 500..=size + 500], LengthFrom::Chunks)]
        {
            let (out, report) = recovered(cut_off, Layout::Single, &sizes, 0..0).await;
            agrees(&plain, &out, &report);
            assert_eq!((out.len(), report.length_from), (plain.len(), from), "{cut}");
            let whole = (cut / S * C).min(size);
            let kept = if cut >= 3 * S + 116 { size } else { whole };
            let lost = if kept == size { vec![] } else { vec![(kept, size, Why::CutOff)] };
            assert_eq!(ranges(&report), lost, "{cut}");
        }
        if cut < 3 * S + 116 {
            // Nothing opens under any other length, and nothing is released.
            let (_, report) = recovered(cut_off, Layout::Single, &[size + 1..=size + 9], 0..0).await;
            assert_eq!((report.recovered, report.is_whole()), (0, false));
        }
    }
    // Something was put behind it: the footer is found all the same.
    let (out, report) = recovered(&[&body[..], &[1; 999]].concat(), Layout::Single, &[], 0..0).await;
    assert!(out == plain && report.is_whole());
    // Lengths without bound are refused.
    let held = Held { bytes: body[..S as usize].to_vec(), bad: 0..0 };
    let salvage =
        Salvage { source: &held, keys: keys(), layout: Layout::Single, plain_sizes: vec![0..=u64::MAX], told_size: None };
    assert!(matches!(salvage.run(Output::new(&mut |_| Ok(()))).await, Err(Failure::Object(Error::InvalidArgument(_)))));
}

#[tokio::test]
async fn an_empty_object_is_whole_by_its_footer_alone() {
    let mut body = single(&[]);
    let (out, report) = recovered(&body, Layout::Single, &[], 0..0).await;
    assert!(out.is_empty() && report.is_whole());
    body[239] ^= 1;
    let (out, report) = recovered(&body, Layout::Single, &[], 0..0).await;
    assert!(out.is_empty() && !report.is_whole() && report.length_from == LengthFrom::StoredLength);
}

const LENS: [usize; 4] = [5 << 20, (5 << 20) + 70_001, 5 << 20, 1000];

fn start_of(part: usize) -> u64 {
    LENS[..part].iter().map(|part| part_sealed_len(len(*part)).get()).sum()
}

fn plain_start(part: usize) -> u64 {
    LENS[..part].iter().sum::<usize>() as u64
}

#[tokio::test]
async fn of_an_object_in_parts_only_damaged_chunks_are_lost() {
    let plain = plain(LENS.iter().sum());
    for unbound in [false, true] {
        let body = parts(&plain, &LENS, unbound);
        let (out, report) = recovered(&body, Layout::Multipart, &[], 0..0).await;
        assert!(out == plain && report.is_whole() && report.has_footer);
        let chunk = (plain_start(1) + 2 * C, plain_start(1) + 3 * C, Why::Damaged);
        for (flips, lost) in [
            (vec![start_of(1) + 32 + 2 * S], vec![chunk]),
            // A stored header: the table has the id of a bound part.
            (vec![start_of(1) + 19], if unbound { vec![(plain_start(1), plain_start(2), Why::PartHeader)] } else { vec![] }),
            // An id of an unbound part stands nowhere else, and nothing says that it is another one.
            (vec![start_of(1) + 3], if unbound { vec![(plain_start(1), plain_start(2), Why::Damaged)] } else { vec![] }),
            (
                vec![start_of(3) + 40, start_of(0) + 40],
                vec![(0, C, Why::Damaged), (plain_start(3), plain_start(4), Why::Damaged)],
            ),
        ] {
            let mut bad = body.clone();
            for flip in &flips {
                bad[*flip as usize] ^= 1;
            }
            let (out, report) = recovered(&bad, Layout::Multipart, &[], 0..0).await;
            assert_eq!(ranges(&report), lost, "{flips:?} {unbound}");
            agrees(&plain, &out, &report);
            assert_eq!((report.is_whole(), out.len()), (lost.is_empty(), plain.len()));
        }
    }
}

#[tokio::test]
async fn without_a_footer_the_stored_headers_lead_from_part_to_part() {
    let plain = plain(LENS.iter().sum());
    let mut body = parts(&plain, &LENS, true);
    *body.last_mut().unwrap() ^= 1;
    // Everything is there, and that it is everything nobody proves.
    let (out, report) = recovered(&body, Layout::Multipart, &[], 0..0).await;
    assert!(out == plain && report.lost.is_empty() && !report.is_whole());
    assert_eq!((report.length_from, report.has_footer, report.is_exact), (LengthFrom::StoredLength, false, true));
    for (flips, lost) in [
        (vec![start_of(1) + 32 + 2 * S], vec![(plain_start(1) + 2 * C, plain_start(1) + 3 * C, Why::Damaged)]),
        // The chain is broken at a header, at the first one, at the last one.
        (vec![start_of(1) + 3], vec![(plain_start(1), plain_start(2), Why::PartHeader)]),
        (vec![start_of(2) + 31], vec![(plain_start(2), plain_start(3), Why::PartHeader)]),
        (vec![start_of(0) + 17], vec![(0, plain_start(1), Why::PartHeader)]),
        (vec![start_of(3) + 17], vec![(plain_start(3), plain_start(4), Why::PartHeader)]),
        (vec![start_of(0) + 40, start_of(2)], vec![(0, C, Why::Damaged), (plain_start(2), plain_start(3), Why::PartHeader)]),
    ] {
        let mut bad = body.clone();
        for flip in &flips {
            bad[*flip as usize] ^= 1;
        }
        let (out, report) = recovered(&bad, Layout::Multipart, &[], 0..0).await;
        assert_eq!(ranges(&report), lost, "{flips:?}");
        agrees(&plain, &out, &report);
        assert!(!report.is_whole() && report.is_exact && out.len() == plain.len(), "{flips:?}");
    }
    // Two headers in a row: what follows is genuine, and where it belongs is a guess.
    let mut bad = body.clone();
    bad[start_of(1) as usize] ^= 1;
    bad[start_of(2) as usize] ^= 1;
    let (_, report) = recovered(&bad, Layout::Multipart, &[], 0..0).await;
    assert!(!report.is_exact && report.recovered == (LENS[0] + LENS[3]) as u64, "{report:?}");
}

#[tokio::test]
async fn of_parts_that_were_cut_off_everything_before_is_recovered() {
    let plain = plain(LENS.iter().sum());
    let body = parts(&plain, &LENS, false);
    let size = plain.len() as u64;
    // In the third part, behind its fourth chunk.
    let cut = &body[..(start_of(2) + 32 + 4 * S + 7) as usize];
    let kept = plain_start(2) + 4 * C;
    let (out, report) = recovered(cut, Layout::Multipart, &[], 0..0).await;
    assert_eq!((ranges(&report), report.length_from), (vec![(kept, plain_start(3), Why::CutOff)], LengthFrom::Unknown));
    agrees(&plain, &out, &report);
    let (out, report) = recovered(cut, Layout::Multipart, &[size..=size], 0..0).await;
    assert_eq!((ranges(&report), report.length_from), (vec![(kept, size, Why::CutOff)], LengthFrom::Told));
    agrees(&plain, &out, &report);
    // Behind a whole part: nothing shows that there was more.
    let (out, report) = recovered(&body[..start_of(2) as usize], Layout::Multipart, &[], 0..0).await;
    assert_eq!((out.len() as u64, report.length_from, report.is_whole()), (plain_start(2), LengthFrom::Unknown, false));
    agrees(&plain, &out, &report);
}

#[tokio::test]
async fn garbage_gives_nothing_and_ends() {
    let noise: Vec<u8> = (0..300_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    // Markers and headers everywhere, made by somebody who has no key.
    let mut marked = vec![0; 300_000];
    for at in (0..299_000).step_by(32) {
        marked[at..at + 8].copy_from_slice(b"CGF1\x01\0\0\0");
        marked[at + 15] = 64;
        marked[at + 16 + 17] = 1;
        marked[at + 16 + 31] = 9;
    }
    for bytes in [&noise[..], &marked, &noise[..1], &[]] {
        for layout in [Layout::Single, Layout::Multipart] {
            let (out, report) = recovered(bytes, layout, &[], 0..0).await;
            assert!(report.recovered == 0 && !report.is_whole() && out.iter().all(|byte| *byte == 0));
        }
    }
}

/// Damage at random: what comes out is always the plaintext's, or a hole that is told.
#[tokio::test]
async fn whatever_is_damaged_nothing_else_comes_out() {
    let plain = plain(LENS.iter().sum());
    let bodies = [(Layout::Multipart, parts(&plain, &LENS, true)), (Layout::Single, single(&plain[..400_000]))];
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..40 {
        let (layout, body) = &bodies[round % 2];
        let mut bad = body.clone();
        for _ in 0..random(6) {
            let at = random(bad.len());
            bad[at] ^= 1 << random(8);
        }
        let (out, report) = recovered(&bad, *layout, &[], 0..0).await;
        if report.is_exact {
            agrees(&plain, &out, &report);
        }
        if bad != *body {
            continue;
        }
        assert!(report.is_whole());
    }
}
