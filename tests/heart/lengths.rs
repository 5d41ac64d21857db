//! The size law, its inverse, and that every part list fits (FORMAT sections 1, 7 and 8).

use ciphergate::format::layout::{CHUNK, PART_MIN, PARTS_MAX, part_plain_len, part_sealed_len};
use ciphergate::format::{ChecksumAlgorithm, ChecksumBytes, End, Footer, Layout, ObjectChecksum, SealedLen, TableEntry};

use crate::common::*;

fn interesting(random: &mut Random) -> u64 {
    match random.below(5) {
        0 => random.below(3_000_000),
        1 => (random.below(12_000) * PART_MIN).saturating_add(random.below(5)).saturating_sub(2),
        2 => (random.below(200_000) * CHUNK).saturating_add(random.below(5)).saturating_sub(2),
        3 => random.below(50_000_000_000_000),
        _ => random.below(1 << 60),
    }
}

#[test]
fn the_size_law_is_exact_and_inverts() {
    let mut random = Random::new(1);
    for _ in 0..300_000 {
        let plain = plain_len(interesting(&mut random));
        let sealed = plain.sealed();
        assert_eq!(sealed.plain(), Some(plain), "{plain}");
        // g rises, so what lies between two neighbours belongs to no object.
        let next = plain_len(plain.get() + 1).sealed().get();
        assert!(next > sealed.get());
        for between in sealed.get() + 1..next {
            assert_eq!(SealedLen::new(between).plain(), None, "{between}");
        }
        assert_eq!(part_plain_len(part_sealed_len(plain)), Some(plain), "{plain}");
    }
}

#[test]
fn any_stored_length_has_one_plaintext_length_or_none() {
    let mut random = Random::new(2);
    for _ in 0..300_000 {
        let sealed = SealedLen::new(if random.below(4) == 0 { random.next() } else { interesting(&mut random) });
        if let Some(plain) = sealed.plain() {
            assert_eq!(plain.sealed(), sealed);
        }
        if let Some(plain) = part_plain_len(sealed) {
            assert_eq!(part_sealed_len(plain), sealed);
        }
    }
}

/// Every edge of a chunk and of a part, far beyond the largest number of parts, where the law changes its slope.
#[test]
fn every_edge_inverts() {
    let parts = (1..=12_000).map(|parts| parts * PART_MIN);
    let chunks = (1..=40_000).map(|chunks| chunks * CHUNK);
    for edge in parts.chain(chunks) {
        for plain in edge - 2..=edge + 2 {
            let plain = plain_len(plain);
            assert_eq!(plain.sealed().plain(), Some(plain), "{plain}");
            assert_eq!(part_plain_len(part_sealed_len(plain)), Some(plain), "{plain}");
        }
    }
}

/// Windows of stored lengths without a gap: what is accepted are the images of consecutive plaintext lengths, and nothing else.
#[test]
fn windows_of_stored_lengths_hold_the_image_and_nothing_else() {
    for middle in [PART_MIN, 2 * PART_MIN, (PARTS_MAX - 1) * PART_MIN, PARTS_MAX * PART_MIN, (PARTS_MAX + 1) * PART_MIN, 1 << 45]
    {
        let from = middle - CHUNK - 50_000;
        let mut next = from;
        for stored in plain_len(from).sealed().get()..=plain_len(middle + CHUNK).sealed().get() {
            let expected = (plain_len(next).sealed().get() == stored).then_some(plain_len(next));
            assert_eq!(SealedLen::new(stored).plain(), expected, "{stored}");
            next += u64::from(expected.is_some());
        }
        assert_eq!(next, middle + CHUNK + 1);
    }
}

/// A legal part list: all but the last have at least 5 MiB.
fn part_list(random: &mut Random, checksum_len: usize) -> Vec<TableEntry> {
    let count = match random.below(4) {
        0 => 1,
        1 => 1 + random.below(5),
        2 => 1 + random.below(200),
        _ => 1 + random.below(PARTS_MAX),
    };
    let mut number = 0;
    (0..count)
        .map(|index| {
            let last = index + 1 == count;
            let spare = PARTS_MAX - number - (count - index - 1);
            number += 1 + random.below(spare.min(3));
            let plain = match (last, random.below(3)) {
                (true, 0) => 0,
                (true, 1) => random.below(CHUNK * 3),
                (true, _) => random.below(PART_MIN * 2),
                (false, 0) => PART_MIN,
                (false, 1) => PART_MIN + 1 + random.below(3) * CHUNK,
                (false, _) => PART_MIN + random.below(1 << 30),
            };
            TableEntry {
                number: number as u16,
                plain_len: plain_len(plain),
                part_id: (random.below(3) > 0).then_some([7; 16]),
                checksum: ChecksumBytes::new(&vec![9; checksum_len]).unwrap(),
            }
        })
        .collect()
}

#[test]
fn every_legal_part_list_fits_and_its_footer_returns() {
    let mut random = Random::new(3);
    for round in 0..400 {
        let suite = SUITES[round % 2];
        let keys = object_keys(suite);
        let algorithm = ChecksumAlgorithm::from_byte(random.below(11) as u8).unwrap();
        let checksum = algorithm.map(|algorithm| {
            let value = vec![3; algorithm.len()];
            // 64 bytes of a whole-object SHA-512 are the one thing the table has no room for.
            if algorithm == ChecksumAlgorithm::Sha512 || random.below(2) == 0 {
                ObjectChecksum::composite(algorithm)
            } else {
                ObjectChecksum::full_object(algorithm, &value).unwrap()
            }
        });
        let parts = part_list(&mut random, algorithm.map_or(0, |algorithm| algorithm.len()));
        let plain = parts.iter().map(|part| part.plain_len.get()).sum();
        let footer = Footer {
            plain_len: plain_len(plain),
            time_ms: random.next(),
            checksum,
            crc64: (random.below(2) == 0).then(|| random.next()),
            md5: (random.below(2) == 0).then_some([4; 16]),
            parts,
        };
        let total = footer.plain_len.sealed().get();
        assert_eq!(footer.body_len().get() + footer.pad_len() + footer.end_len(), total);
        let sealed = footer.seal(&keys).unwrap();
        assert_eq!(sealed.len() as u64, footer.end_len());
        assert_eq!(footer.seal(&keys).unwrap(), sealed, "equal lists give equal ends");
        assert_eq!(footer_from(&keys, &sealed, footer.plain_len, Layout::Multipart).unwrap(), footer);
    }
}

#[test]
fn a_full_table_of_ten_thousand_parts_fits() {
    let keys = object_keys(SUITES[0]);
    let checksum = ObjectChecksum::composite(ChecksumAlgorithm::Sha512);
    let parts: Vec<_> = (1..=10_000)
        .map(|number| TableEntry {
            number,
            plain_len: plain_len(PART_MIN),
            part_id: Some([1; 16]),
            checksum: ChecksumBytes::new(&[2; 64]).unwrap(),
        })
        .collect();
    let footer =
        Footer { plain_len: plain_len(PART_MIN * 10_000), time_ms: 0, checksum: Some(checksum), crc64: None, md5: None, parts };
    let sealed = footer.seal(&keys).unwrap();
    assert_eq!(sealed.len() as u64, End::SEALED_MAX + End::LEN);
    assert_eq!(footer_from(&keys, &sealed, footer.plain_len, Layout::Multipart).unwrap(), footer);
}

/// What no object can hold is refused when it is written, not only when it is read.
#[test]
fn part_lists_against_the_rules_are_not_sealed() {
    let keys = object_keys(SUITES[0]);
    let entry = |number: u16, plain: u64, checksum: usize| TableEntry {
        number,
        plain_len: plain_len(plain),
        part_id: Some([1; 16]),
        checksum: ChecksumBytes::new(&vec![0; checksum]).unwrap(),
    };
    let footer = |parts: Vec<TableEntry>, plain: u64, checksum: Option<ObjectChecksum>| Footer {
        plain_len: plain_len(plain),
        time_ms: 0,
        checksum,
        crc64: None,
        md5: None,
        parts,
    };
    let sha512 = ChecksumAlgorithm::Sha512;
    let full = ObjectChecksum::full_object(sha512, &[0; 64]).unwrap();
    let composite = ObjectChecksum::composite(ChecksumAlgorithm::Crc32);
    for (what, footer) in [
        ("number 0", footer(vec![entry(0, 5, 0)], 5, None)),
        ("number 10001", footer(vec![entry(10_001, 5, 0)], 5, None)),
        ("equal numbers", footer(vec![entry(1, PART_MIN, 0), entry(1, 5, 0)], PART_MIN + 5, None)),
        ("falling numbers", footer(vec![entry(2, PART_MIN, 0), entry(1, 5, 0)], PART_MIN + 5, None)),
        ("a sum that differs", footer(vec![entry(1, 5, 0)], 6, None)),
        ("two small parts", footer(vec![entry(1, 5, 0), entry(2, 5, 0)], 10, None)),
        ("a sum beyond 64 bits", footer((1..=20).map(|n| entry(n, 1 << 60, 0)).collect(), 1 << 60, None)),
        ("a whole-object SHA-512", footer(vec![entry(1, 5, 64)], 5, Some(full))),
        ("a checksum without algorithm", footer(vec![entry(1, 5, 4)], 5, None)),
        ("no checksum with algorithm", footer(vec![entry(1, 5, 0)], 5, Some(composite))),
        ("composite without parts", footer(vec![], 5, Some(composite))),
    ] {
        assert!(footer.seal(&keys).is_err(), "{what}");
    }
    assert!(ObjectChecksum::full_object(sha512, &[0; 63]).is_err());
}
