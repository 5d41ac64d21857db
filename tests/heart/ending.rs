//! The end of an object in parts, as one more part: with and without a last part that waited elsewhere, whole or damaged.

use std::sync::Arc;

use ciphergate::format::Footer;
use ciphergate::stream::{Error, SpooledPart, seal_end};

use crate::common::*;

/// The last part and the end of an object: as a store gets them that holds the others.
fn end_of(
    keys: &Arc<ciphergate::crypto::ObjectKeys>,
    footer: &Footer,
    spool: Vec<u8>,
    last: &Part,
    piece: usize,
) -> (Vec<u8>, Option<Error>) {
    let body = seal_end(footer, keys.clone(), Some(SpooledPart::new(pieces(&spool, piece), last.header()))).unwrap();
    let (announced, outcome) = (body.sealed_len().get(), body.outcome());
    let (bytes, error) = collect(body);
    match error {
        None => assert_eq!(bytes.len() as u64, announced),
        Some(Error::Aborted) => {
            assert!((bytes.len() as u64) < announced, "a refused end is never whole");
            return (bytes, outcome.take_error());
        }
        Some(other) => panic!("{other:?}"),
    }
    (bytes, None)
}

#[test]
fn parts_and_end_are_the_object() {
    for suite in SUITES {
        let keys = object_keys(suite);
        for last_len in [0, 1, 65_535, 65_536, 65_537, 200_000] {
            let parts = [Part::new(1, pattern(5_242_880)), Part::new(3, pattern(last_len))];
            let footer = footer_of(&parts, None);
            let whole = multipart(&keys, &parts, None);
            for piece in [1_000, 65_552, 1 << 20] {
                let (end, error) = end_of(&keys, &footer, parts[1].seal(&keys), &parts[1], piece);
                assert!(error.is_none());
                assert!([parts[0].seal(&keys), end].concat() == whole, "{last_len}");
            }
            // Where the last part is in the store already, only padding and footer are left.
            let body = seal_end(&footer, keys.clone(), None).unwrap();
            assert_eq!(body.sealed_len().get(), footer.pad_len() + footer.end_len());
            let (end, error) = collect(body);
            assert!(error.is_none());
            assert!([parts[0].seal(&keys), parts[1].seal(&keys), end].concat() == whole);
        }
    }
}

#[test]
fn a_spooled_part_that_does_not_open_never_gets_a_footer() {
    let keys = object_keys(SUITES[0]);
    let last = Part::new(2, pattern(140_000));
    let footer = footer_of(&[Part::new(1, pattern(5_242_880)), Part::new(2, pattern(140_000))], None);
    let good = last.seal(&keys);
    for at in [0, 15, 16, 20, 31, 32, 65_583, 65_584, 131_135, 131_136, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        let (_, error) = end_of(&keys, &footer, flipped, &last, 70_000);
        assert!(error.is_some_and(|error| error.is_integrity()), "{at}");
    }
    for cut in [0, 31, 32, 65_584, good.len() - 1] {
        let (_, error) = end_of(&keys, &footer, good[..cut].to_vec(), &last, 70_000);
        assert!(matches!(error, Some(Error::SealedShort { .. })), "{cut}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(end_of(&keys, &footer, longer, &last, 70_000).1, Some(Error::SealedLong { .. })));
    // Another attempt of the same part, and a part of another length.
    let other = Part { part_id: [9; 16], ..Part::new(2, pattern(140_000)) };
    assert!(end_of(&keys, &footer, other.seal(&keys), &last, 70_000).1.is_some_and(|error| error.is_integrity()));
    assert!(seal_end(&footer, keys.clone(), Some(SpooledPart::new(pieces(&good, 1000), other.header()))).is_err());
}
