//! Everything a hostile store can do to an object: each must be refused, and no byte may leave that was not authentic in its place.

use std::sync::Arc;

use ciphergate::crypto::{KeyEncryptionKey, ObjectKeys, Suite};
use ciphergate::format::layout::{CHUNK, PART_MIN, SEALED_CHUNK, chunked_len};
use ciphergate::format::{Envelope, EnvelopeFlags, Label, Layout, PartHeader, SealedLen, WrapInput};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};

use crate::common::*;

/// The object must be refused by a whole read, and what left before must be the true beginning of the plaintext and not all of it.
#[track_caller]
fn refused(keys: &Arc<ObjectKeys>, object: &[u8], layout: Layout, plain: &[u8], what: &str) {
    let (out, error) = read(keys, object, layout, None, 40_000);
    assert!(error.is_some(), "{what}: accepted");
    assert!(plain.starts_with(&out) && (out.len() < plain.len() || plain.is_empty()), "{what}: {} bytes left", out.len());
    if plain.len() as u64 <= CHUNK {
        assert!(out.is_empty(), "{what}: bytes left");
    }
}

#[test]
fn every_changed_byte_of_a_small_object_is_refused() {
    for suite in SUITES {
        let keys = object_keys(suite);
        let plain = pattern(100);
        let part = |unbound| Part { unbound, ..Part::new(3, plain.clone()) };
        for (what, layout, object) in [
            ("single", Layout::Single, single(&keys, &plain)),
            ("multipart", Layout::Multipart, multipart(&keys, &[part(false)], None)),
            ("unbound", Layout::Multipart, multipart(&keys, &[part(true)], None)),
        ] {
            for at in 0..object.len() {
                for bit in [0x01, 0x80, 0xff] {
                    let mut bent = object.clone();
                    bent[at] ^= bit;
                    refused(&keys, &bent, layout, &plain, &format!("{what}, byte {at}"));
                    let (out, error) = read(&keys, &bent, layout, Some((10, 20)), 1000);
                    assert!(error.is_some() || out == plain[10..=20], "{what}, byte {at}: a range returned other bytes");
                    if at < 116 {
                        let body = if layout == Layout::Multipart { 32..148 } else { 0..116 };
                        assert!(error.is_some() || !body.contains(&at), "{what}, byte {at}: a bent chunk opened");
                    }
                }
            }
            for cut in 0..object.len() {
                refused(&keys, &object[..cut], layout, &plain, &format!("{what}, cut at {cut}"));
            }
            for more in 1..200 {
                let longer = [&object[..], &vec![0; more]].concat();
                refused(&keys, &longer, layout, &plain, &format!("{what}, {more} bytes longer"));
                let longer = [&vec![0; more], &object[..]].concat();
                refused(&keys, &longer, layout, &plain, &format!("{what}, {more} bytes before"));
            }
        }
    }
}

#[test]
fn chunks_keep_their_place() {
    let sealed = SEALED_CHUNK as usize;
    for suite in SUITES {
        let keys = object_keys(suite);
        let plain = pattern(3 * CHUNK as usize + 500);
        let object = single(&keys, &plain);
        let chunk = |index: usize| object[index * sealed..(index + 1) * sealed].to_vec();
        let put = |into: &mut Vec<u8>, index: usize, bytes: &[u8]| into[index * sealed..][..bytes.len()].copy_from_slice(bytes);
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            let mut swapped = object.clone();
            put(&mut swapped, a, &chunk(b));
            put(&mut swapped, b, &chunk(a));
            refused(&keys, &swapped, Layout::Single, &plain, "swapped chunks");
            let mut repeated = object.clone();
            put(&mut repeated, a, &chunk(b));
            refused(&keys, &repeated, Layout::Single, &plain, "a repeated chunk");
            let (out, error) = read(&keys, &repeated, Layout::Single, Some((a as u64 * CHUNK, a as u64 * CHUNK)), 1 << 20);
            assert!(error.is_some() && out.is_empty());
        }
        // A chunk taken out, the rest padded to a size that exists: other P, other key, nothing opens.
        let shorter = plain_len(2 * CHUNK + 500);
        let mut cut =
            [&object[..sealed], &object[2 * sealed..chunked_len(plain_len(plain.len() as u64)).get() as usize]].concat();
        cut.resize(shorter.sealed().get() as usize - 96, 0);
        cut.extend_from_slice(&object[object.len() - 96..]);
        let (out, error) = read(&keys, &cut, Layout::Single, None, 1 << 20);
        assert!(error.is_some() && out.is_empty());
        let (out, error) = read(&keys, &cut, Layout::Single, Some((0, 0)), 1 << 20);
        assert!(error.is_some() && out.is_empty(), "one chunk of a single object proves the whole length");
        // Cut at a chunk's edge to a size that exists.
        for chunks in 1..3u64 {
            let len = plain_len(chunks * CHUNK).sealed().get() as usize;
            refused(&keys, &object[..len], Layout::Single, &plain, "cut at a chunk's edge");
        }
        // The end of another object of the same key and size.
        let other = single(&keys, &vec![1; plain.len()]);
        let tail = object.len() - 96;
        let spliced = [&object[..tail], &other[tail..]].concat();
        refused(&keys, &spliced, Layout::Single, &plain, "the end of another write");
    }
}

#[test]
fn parts_keep_their_place_and_their_attempt() {
    let keys = object_keys(Suite::Aes256Gcm);
    let len = PART_MIN as usize;
    let mut random = Random::new(7);
    let parts = [Part::new(1, random.bytes(len)), Part::new(2, random.bytes(len)), Part::new(5, random.bytes(1000))];
    let plain = plain_of(&parts);
    let footer = footer_of(&parts, None);
    let bodies: Vec<_> = parts.iter().map(|part| part.seal(&keys)).collect();
    let build = |order: &[&[u8]]| finish(&keys, order.concat(), &footer);
    let good = build(&[&bodies[0], &bodies[1], &bodies[2]]);
    let (out, error) = read(&keys, &good, Layout::Multipart, None, 1 << 20);
    assert!(error.is_none() && out == plain);

    refused(&keys, &build(&[&bodies[1], &bodies[0], &bodies[2]]), Layout::Multipart, &plain, "swapped parts");
    let relabelled = |of: usize, as_part: usize| [&bodies[as_part][..32], &bodies[of][32..]].concat();
    let swapped = build(&[&relabelled(1, 0), &relabelled(0, 1), &bodies[2]]);
    refused(&keys, &swapped, Layout::Multipart, &plain, "swapped parts under the right headers");
    for range in [(0, 5), (PART_MIN + 5, PART_MIN + 6)] {
        let (out, error) = read(&keys, &swapped, Layout::Multipart, Some(range), 1 << 20);
        assert!(error.is_some() && out.is_empty());
    }

    // The same part, number and length, sealed in another attempt: same bytes or others.
    for content in [parts[1].plain.clone(), random.bytes(len)] {
        let attempt = Part { part_id: [0xee; 16], plain: content, ..parts[1].clone() }.seal(&keys);
        refused(&keys, &build(&[&bodies[0], &attempt, &bodies[2]]), Layout::Multipart, &plain, "another attempt");
        let hidden = [&bodies[1][..32], &attempt[32..]].concat();
        refused(&keys, &build(&[&bodies[0], &hidden, &bodies[2]]), Layout::Multipart, &plain, "another attempt in disguise");
    }

    // A part taken out, padded to the size of what is left; with the old end and with the end of the shorter list.
    let left = [parts[0].clone(), parts[2].clone()];
    let shorter = footer_of(&left, None).plain_len.sealed().get() as usize;
    let end = &good[good.len() - footer.end_len() as usize..];
    let mut cut = [&bodies[0][..], &bodies[2]].concat();
    cut.resize(shorter - end.len(), 0);
    cut.extend_from_slice(end);
    refused(&keys, &cut, Layout::Multipart, &plain, "a part taken out");

    // Structure: both ends of everything.
    let mut at = vec![0, 15, 16, 24, 31, 32, 33, good.len() - 1, good.len() - 32, good.len() - 33];
    let mut start = 0;
    for body in &bodies {
        at.extend([start, start + 17, start + 31, start + 32, start + 32 + 65_551, start + body.len() - 1]);
        start += body.len();
    }
    at.retain(|&at| at < good.len());
    at.extend([start, start + 1, good.len() - footer.end_len() as usize - 1, good.len() - footer.end_len() as usize]);
    at.extend((0..20).map(|_| random.below(good.len() as u64) as usize));
    for at in at {
        let mut bent = good.clone();
        bent[at] ^= 4;
        refused(&keys, &bent, Layout::Multipart, &plain, &format!("byte {at}"));
    }
}

/// The one substitution the format allows, because a client completed a part without its receipt: another attempt of the same number
/// and length. Anything else is refused here too.
#[test]
fn an_unbound_part_accepts_another_attempt_and_nothing_else() {
    let keys = object_keys(Suite::Aes256Gcm);
    let part = Part::new(4, pattern(70_000)).unbound();
    let footer = footer_of(std::slice::from_ref(&part), None);
    let attempt = Part { part_id: [0xee; 16], plain: vec![1; 70_000], ..part.clone() };
    let (out, error) = read(&keys, &finish(&keys, attempt.seal(&keys), &footer), Layout::Multipart, None, 9999);
    assert!(error.is_none() && out == attempt.plain);
    for other in [Part { number: 5, ..attempt.clone() }, Part { plain: vec![1; 69_999], ..attempt.clone() }] {
        let object = finish(&keys, other.seal(&keys), &footer);
        refused(&keys, &object, Layout::Multipart, &part.plain, "another number or length");
    }
    let foreign = Arc::new(ObjectKeys::derive(Suite::Aes256Gcm, &data_key(0x21)));
    let object = finish(&keys, part.seal(&foreign), &footer);
    refused(&keys, &object, Layout::Multipart, &part.plain, "another upload");
}

#[test]
fn two_hundred_and_forty_foreign_bytes_are_no_empty_object() {
    let mut random = Random::new(9);
    for suite in SUITES {
        let keys = object_keys(suite);
        let foreign = Arc::new(ObjectKeys::derive(suite, &data_key(0x21)));
        let full = single(&keys, &pattern(1000));
        for (what, bytes) in [
            ("zeros", vec![0; 240]),
            ("noise", random.bytes(240)),
            ("another key's empty object", single(&foreign, &[])),
            ("the end of a full object", full[full.len() - 240..].to_vec()),
            ("an empty multipart object", multipart(&keys, &[Part::new(1, vec![])], None)),
        ] {
            let (out, error) = read(&keys, &bytes, Layout::Single, None, 100);
            assert!(error.is_some() && out.is_empty(), "{what}");
        }
        let (out, error) = read(&keys, &single(&keys, &[]), Layout::Multipart, None, 100);
        assert!(error.is_some() && out.is_empty(), "an empty single object is no multipart object");
        let (out, error) = read(&keys, &single(&keys, &[]), Layout::Single, None, 100);
        assert!(error.is_none() && out.is_empty());
    }
}

fn wrap(suite: Suite, flags: EnvelopeFlags) -> Envelope {
    let input = WrapInput {
        suite,
        flags,
        label: Label::new("k1").unwrap(),
        salt: ascending(0x40),
        kms_blob: vec![0xab; 20],
        scope: "scope",
        key: "key",
    };
    Envelope::wrap(&kek(0), input, &data_key(0x20)).unwrap().0
}

#[test]
fn an_envelope_opens_in_its_own_place_alone() {
    for suite in SUITES {
        let envelope = wrap(suite, EnvelopeFlags::default());
        assert!(envelope.open(&kek(0), "scope", "key").is_ok());
        for (what, kek, scope, key) in [
            ("another key-encryption key", kek(1), "scope", "key"),
            ("another scope", kek(0), "scopf", "key"),
            ("another key", kek(0), "scope", "kez"),
            ("no key", kek(0), "scope", ""),
            ("a byte moved from key to scope", kek(0), "scopek", "ey"),
        ] {
            assert!(envelope.open(&kek, scope, key).is_err(), "{what}");
            assert!(envelope.unwrap(&kek, scope, key).is_err(), "{what}");
        }
        let bytes = envelope.to_bytes();
        let blob = bytes.len() - 20;
        for at in 0..bytes.len() {
            for bit in [1, 2, 4, 0x10, 0x80] {
                let mut bent = bytes.clone();
                bent[at] ^= bit;
                let opened = Envelope::from_bytes(&bent).and_then(|bent| bent.open(&kek(0), "scope", "key"));
                // The blob is the key service's to judge: another one gives another X or none.
                assert!(opened.is_err() || at >= blob, "byte {at}");
            }
        }
        for cut in 0..bytes.len() {
            assert!(Envelope::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Envelope::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    }
}

#[test]
fn no_parser_panics_on_noise() {
    use ciphergate::format::{End, SealedRecord, split_part_etag};
    let mut random = Random::new(21);
    let keys = object_keys(SUITES[0]);
    let envelope = wrap(SUITES[0], EnvelopeFlags::default()).to_bytes();
    for round in 0..20_000 {
        let len = random.below(400) as usize;
        let mut bytes = random.bytes(len);
        if round % 2 == 0 {
            bytes = envelope.clone();
            for _ in 0..3 {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
        }
        let _ = Envelope::from_bytes(&bytes);
        let _ = SealedRecord::parse(&bytes);
        let _ = Envelope::parse(&String::from_utf8_lossy(&bytes));
        let _ = split_part_etag(&String::from_utf8_lossy(&bytes));
        let mut marker: [u8; 32] = random.bytes(32).try_into().unwrap();
        if round % 3 > 0 {
            marker[..4].copy_from_slice(b"CGF1");
            marker[4] = 1 + (round % 2) as u8;
            marker[7] = 0;
        }
        let _ = PartHeader::parse(&marker);
        for layout in [Layout::Single, Layout::Multipart] {
            let plain = plain_len(random.next() >> 4 >> random.below(60));
            if let Ok(end) = End::parse(&marker, plain, layout) {
                assert!(end.sealed_len() <= End::SEALED_MAX && end.sealed_len() < plain.sealed().get());
            }
            let _ = footer_from_noise(&keys, &bytes, plain, layout);
            assert!(read(&keys, &bytes, layout, None, 50).1.is_some());
        }
    }
}

fn footer_from_noise(
    keys: &ObjectKeys,
    bytes: &[u8],
    plain: ciphergate::format::PlainLen,
    layout: Layout,
) -> Result<ciphergate::format::Suffix, ciphergate::format::Error> {
    ciphergate::format::Footer::from_suffix(keys, bytes, plain, layout)
}

/// The pieces of an object that breaks one rule but is sealed with the right keys, as only a faulty writer could.
struct Craft {
    layout: Layout,
    /// Plaintext length that the object's length announces.
    plain_len: u64,
    body: Vec<u8>,
    /// F before it is sealed.
    footer: Vec<u8>,
    /// END without its id.
    end: [u8; 16],
    /// Bytes of the padding to change afterwards, counted from its start; negative from its end.
    bend_padding: Option<isize>,
}

const TABLE_ENTRY: usize = 48;

impl Craft {
    fn single() -> Self {
        let keys = object_keys(SUITES[0]);
        Self::from_object(&keys, Layout::Single, &single(&keys, b"plain"), 21)
    }

    fn multipart() -> Self {
        let keys = object_keys(SUITES[0]);
        Self::from_object(&keys, Layout::Multipart, &multipart(&keys, &[Part::new(3, b"plain".to_vec())], None), 32 + 21)
    }

    fn from_object(keys: &ObjectKeys, layout: Layout, object: &[u8], body_len: usize) -> Self {
        let (before, end) = object.split_last_chunk::<32>().unwrap();
        let sealed_len = u32::from_be_bytes(end[12..16].try_into().unwrap()) as usize;
        let mut footer = before[before.len() - sealed_len..].to_vec();
        let len = keys.footer_key(end).open_in_place(&mut footer).unwrap().len();
        footer.truncate(len);
        Self {
            layout,
            plain_len: 5,
            body: object[..body_len].to_vec(),
            footer,
            end: end[..16].try_into().unwrap(),
            bend_padding: None,
        }
    }

    fn footer(mut self, at: usize, bytes: &[u8]) -> Self {
        self.footer[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn end(mut self, at: usize, bytes: &[u8]) -> Self {
        self.end[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn body(mut self, at: usize, bytes: &[u8]) -> Self {
        self.body[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Inserts bytes into F and keeps END's length field true.
    fn insert(mut self, at: usize, bytes: &[u8]) -> Self {
        self.footer.splice(at..at, bytes.iter().copied());
        let len = self.footer.len() as u32 + 16;
        self.end(12, &len.to_be_bytes())
    }

    /// The only chunk, sealed under another header, index or last mark.
    fn chunk(mut self, header: PartHeader, index: u64, last: bool) -> Self {
        let mut chunk = b"plain".to_vec();
        let tag = object_keys(SUITES[0]).chunk_key(&header.to_bytes()).seal_in_place(index, last, &mut chunk).unwrap();
        let at = self.body.len() - 21;
        self.body.truncate(at);
        self.body.extend_from_slice(&chunk);
        self.body.extend_from_slice(&tag);
        self
    }

    fn object(&self) -> Vec<u8> {
        let keys = object_keys(SUITES[0]);
        let mut end = [0; 32];
        end[..16].copy_from_slice(&self.end);
        let id = keys.mac(&[b"cg1 foot", &self.end[..], &self.footer].concat());
        end[16..].copy_from_slice(&id);
        let mut sealed = self.footer.clone();
        let tag = keys.footer_key(&end).seal_in_place(&mut sealed).unwrap();
        sealed.extend_from_slice(&tag);
        let total = plain_len(self.plain_len).sealed().get() as usize;
        let mut object = self.body.clone();
        object.resize(total - sealed.len() - 32, 0);
        match self.bend_padding {
            Some(at) if at < 0 => *object.last_mut().unwrap() = 1,
            Some(at) => object[self.body.len() + at as usize] = 1,
            None => {}
        }
        object.extend_from_slice(&sealed);
        object.extend_from_slice(&end);
        object
    }
}

/// One broken object per rule, by the name of its defect, and whether a range of it must be refused too (a range of the single layout
/// never sees the end).
fn crafted() -> Vec<(&'static str, bool, Craft)> {
    let (single, multipart) = (Craft::single, Craft::multipart);
    let header = |id: u8, number, len| PartHeader { part_id: [id; 16], number, plain_len: plain_len(len) };
    let virtual_header = PartHeader::single(plain_len(5));
    let entry = || multipart().footer[TABLE_ENTRY..TABLE_ENTRY + 32].to_vec();
    let part_four = {
        let mut entry = entry();
        entry[17] = 4;
        entry[24..32].fill(0);
        entry
    };
    vec![
        ("single-footer-says-another-length", false, single().footer(0, &6u64.to_be_bytes())),
        ("single-footer-algorithm-11", false, single().footer(16, &[11, 2])),
        ("single-footer-type-3", false, single().footer(17, &[3])),
        ("single-footer-algorithm-without-type", false, single().footer(16, &[1, 0])),
        ("single-footer-type-without-algorithm", false, single().footer(16, &[0, 2])),
        ("single-footer-composite", false, single().footer(16, &[1, 1])),
        ("single-footer-checksum-missing", false, single().footer(16, &[1, 2])),
        ("single-footer-checksum-unannounced", false, single().insert(48, &[0; 4])),
        ("single-footer-checksum-of-another-length", false, single().footer(16, &[3, 2]).end(5, &[4, 4]).insert(48, &[0; 4])),
        ("single-footer-unknown-flag", false, single().footer(18, &[4])),
        ("single-footer-reserved-not-zero", false, single().footer(23, &[1])),
        ("single-footer-crc64-without-flag", false, single().footer(18, &[0])),
        ("single-footer-md5-without-flag", false, single().footer(47, &[1])),
        ("single-footer-crc64-of-other-bytes", false, single().footer(24, &[0x55; 8])),
        ("single-end-without-magic", false, single().end(0, b"CGF2")),
        ("single-end-of-kind-0", false, single().end(4, &[0])),
        ("single-end-of-kind-multipart", false, single().end(4, &[2])),
        ("single-end-checksum-length-5", false, single().end(5, &[5, 5]).insert(48, &[0; 5])),
        ("single-end-table-length-without-checksum", false, single().end(5, &[4, 0])),
        ("single-end-reserved-not-zero", false, single().end(7, &[1])),
        ("single-end-with-an-entry", false, single().end(8, &1u32.to_be_bytes()).insert(48, &entry())),
        ("single-end-sealed-length-one-more", false, single().end(12, &65u32.to_be_bytes())),
        ("single-end-sealed-length-huge", false, single().end(12, &u32::MAX.to_be_bytes())),
        ("single-padding-first-byte", false, Craft { bend_padding: Some(0), ..single() }),
        ("single-padding-last-byte", false, Craft { bend_padding: Some(-1), ..single() }),
        ("single-chunk-not-marked-last", true, single().chunk(virtual_header, 0, false)),
        ("single-chunk-of-place-1", true, single().chunk(virtual_header, 1, true)),
        ("single-chunk-of-another-length", true, single().chunk(PartHeader::single(plain_len(6)), 0, true)),
        ("single-chunk-of-a-part", true, single().chunk(header(0x63, 3, 5), 0, true)),
        ("multipart-footer-says-another-length", true, multipart().footer(0, &6u64.to_be_bytes())),
        ("multipart-end-of-kind-single", true, multipart().end(4, &[1])),
        ("multipart-end-without-entries", true, {
            let mut craft = multipart();
            craft.footer.truncate(TABLE_ENTRY);
            craft.end(8, &[0; 4]).end(12, &64u32.to_be_bytes())
        }),
        ("multipart-end-with-more-entries-than-fit", true, multipart().end(8, &2u32.to_be_bytes()).insert(80, &part_four)),
        ("multipart-end-entries-huge", true, multipart().end(8, &u32::MAX.to_be_bytes())),
        ("multipart-entry-number-0", true, multipart().footer(TABLE_ENTRY + 16, &[0, 0])),
        ("multipart-entry-number-10001", true, multipart().footer(TABLE_ENTRY + 16, &10_001u16.to_be_bytes())),
        ("multipart-entry-unknown-flag", true, multipart().footer(TABLE_ENTRY + 18, &[0, 2])),
        ("multipart-entry-unbound-with-an-id", true, multipart().footer(TABLE_ENTRY + 18, &[0, 1])),
        ("multipart-entry-reserved-not-zero", true, multipart().footer(TABLE_ENTRY + 20, &[0, 0, 0, 1])),
        ("multipart-entry-of-another-length", true, multipart().footer(TABLE_ENTRY + 24, &6u64.to_be_bytes())),
        ("multipart-entry-length-huge", true, multipart().footer(TABLE_ENTRY + 24, &u64::MAX.to_be_bytes())),
        ("multipart-entry-of-another-attempt", true, multipart().footer(TABLE_ENTRY, &[0x64; 16])),
        ("multipart-header-of-another-attempt", false, multipart().body(0, &[0x64; 16])),
        ("multipart-header-of-another-number", false, multipart().body(16, &[0, 4])),
        ("multipart-header-with-a-flag", false, multipart().body(18, &[0, 1])),
        ("multipart-header-reserved-not-zero", false, multipart().body(20, &[1])),
        ("multipart-header-of-another-length", false, multipart().body(24, &6u64.to_be_bytes())),
        ("multipart-chunk-not-marked-last", true, multipart().chunk(header(0x63, 3, 5), 0, false)),
        ("multipart-chunk-of-another-attempt", true, multipart().chunk(header(0x64, 3, 5), 0, true)),
        ("multipart-chunk-of-another-number", true, multipart().chunk(header(0x63, 4, 5), 0, true)),
        ("multipart-padding-first-byte", false, Craft { bend_padding: Some(0), ..multipart() }),
        ("multipart-padding-last-byte", false, Craft { bend_padding: Some(-1), ..multipart() }),
    ]
}

fn broken_envelopes() -> Vec<(&'static str, String)> {
    let good = wrap(SUITES[0], EnvelopeFlags::default());
    let bent = |at: usize, byte: u8| {
        let mut bytes = good.to_bytes();
        bytes[at] = byte;
        BASE64URL_NOPAD.encode(&bytes)
    };
    let text = good.encode();
    let bytes = good.to_bytes();
    let relabelled = |label: &[u8]| {
        let bytes = [&bytes[..3], &[label.len() as u8], label, &bytes[6..]].concat();
        BASE64URL_NOPAD.encode(&bytes)
    };
    assert_eq!(Envelope::parse(&relabelled(b"k1")), Ok(good.clone()));
    vec![
        ("empty", String::new()),
        ("version-0", bent(0, 0)),
        ("version-2", bent(0, 2)),
        ("suite-0", bent(1, 0)),
        ("suite-3", bent(1, 3)),
        ("unknown-flag", bent(2, 8)),
        ("label-empty", relabelled(b"")),
        ("label-of-33", relabelled(&[b'a'; 33])),
        ("label-upper-case", relabelled(b"K1")),
        ("label-with-slash", relabelled(b"a/b")),
        ("label-not-ascii", relabelled("ä".as_bytes())),
        ("blob-one-byte-short", BASE64URL_NOPAD.encode(&bytes[..bytes.len() - 1])),
        ("one-byte-too-long", BASE64URL_NOPAD.encode(&[&bytes[..], b"x"].concat())),
        ("padded", format!("{text}==")),
        ("with-a-space", format!("{} {}", &text[..20], &text[20..])),
        ("with-a-line-end", format!("{text}\n")),
        ("standard-alphabet", text.replace(['-', '_'], "/") + "+/"),
        ("bits-behind-the-end", {
            // 140 bytes end in a character that carries four spare bits.
            assert_eq!(bytes.len() % 3, 2);
            let mut loose = text.clone().into_bytes();
            let last = loose.last_mut().unwrap();
            *last = if *last == b'9' { b'8' } else { *last + 1 };
            String::from_utf8(loose).unwrap()
        }),
    ]
}

pub fn broken_json() -> Value {
    let objects: Vec<_> = crafted()
        .into_iter()
        .map(|(name, range_refused, craft)| {
            json!({
                "name": name,
                "suite": 1,
                "layout": if craft.layout == Layout::Single { "single" } else { "multipart" },
                "plain": HEXLOWER.encode(b"plain"),
                "range_refused": range_refused,
                "object": HEXLOWER.encode(&craft.object()),
            })
        })
        .collect();
    let envelopes: Vec<_> = broken_envelopes().into_iter().map(|(name, text)| json!({ "name": name, "text": text })).collect();
    json!({ "dek": HEXLOWER.encode(&ascending::<32>(0x20)), "objects": objects, "envelopes": envelopes })
}

#[test]
fn the_published_broken_objects_are_refused() {
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/broken.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file, broken_json(), "the file is what the code above makes; write it anew after a change");
    let keys = object_keys(SUITES[0]);
    for entry in file["objects"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let layout = if entry["layout"] == "single" { Layout::Single } else { Layout::Multipart };
        let object = HEXLOWER.decode(entry["object"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(SealedLen::new(object.len() as u64).plain(), Some(plain_len(5)), "{name}");
        for piece_len in [1000, 7, 1] {
            let (out, error) = read(&keys, &object, layout, None, piece_len);
            assert!(error.as_ref().is_some_and(|error| error.is_integrity()), "{name}: {error:?}");
            assert!(out.is_empty(), "{name}");
            let (out, error) = read(&keys, &object, layout, Some((1, 3)), piece_len);
            if entry["range_refused"].as_bool().unwrap() {
                assert!(error.is_some_and(|error| error.is_integrity()) && out.is_empty(), "{name}");
            } else {
                assert!(error.is_none() && out == b"lai", "{name}: {error:?}");
            }
        }
    }
    for entry in file["envelopes"].as_array().unwrap() {
        assert!(Envelope::parse(entry["text"].as_str().unwrap()).is_err(), "{}", entry["name"]);
    }
}

/// Lengths that no object has room for cannot be crafted into one; the marker alone must give them away.
#[test]
fn an_end_that_asks_for_too_much_is_refused_before_anything_is_fetched() {
    use ciphergate::format::End;
    let marker = |kind: u8, checksum: u8, value: u8, entries: u32| {
        let mut end = [0; 32];
        end[..8].copy_from_slice(&[b'C', b'G', b'F', b'1', kind, checksum, value, 0]);
        end[8..12].copy_from_slice(&entries.to_be_bytes());
        let sealed = 64 + u64::from(value) + u64::from(entries) * (32 + u64::from(checksum));
        end[12..16].copy_from_slice(&(sealed as u32).to_be_bytes());
        end
    };
    let large = plain_len(PART_MIN * 20_000);
    let parse = |end: [u8; 32], layout| End::parse(&end, large, layout);
    assert!(parse(marker(2, 64, 0, 10_000), Layout::Multipart).is_ok());
    assert!(parse(marker(2, 64, 64, 10_000), Layout::Multipart).is_err(), "a whole-object SHA-512 has no room");
    assert!(parse(marker(2, 32, 32, 1), Layout::Multipart).is_ok());
    assert!(parse(marker(2, 0, 0, 10_001), Layout::Multipart).is_err());
    assert!(parse(marker(2, 0, 0, 0), Layout::Multipart).is_err());
    assert!(parse(marker(2, 20, 4, 5), Layout::Multipart).is_err());
    // 2^27 entries of 32 bytes: the sealed length wraps 32 bits to what an empty table would have.
    assert!(parse(marker(2, 0, 0, 1 << 27), Layout::Multipart).is_err());
    assert!(parse(marker(1, 64, 64, 0), Layout::Single).is_ok());
    assert!(parse(marker(1, 64, 0, 0), Layout::Single).is_err());
    for checksum in 0..=255 {
        let known = [0, 4, 8, 16, 20, 32, 64].contains(&checksum);
        assert_eq!(parse(marker(1, checksum, checksum, 0), Layout::Single).is_ok(), known);
    }
    let small = plain_len(PART_MIN - 1);
    assert!(End::parse(&marker(2, 0, 0, 1), small, Layout::Multipart).is_ok());
    assert!(End::parse(&marker(2, 0, 0, 2), small, Layout::Multipart).is_err());
}

/// The unbroken originals open, so every refusal above is for its own reason.
#[test]
fn the_originals_of_the_broken_objects_open() {
    let keys = object_keys(SUITES[0]);
    for (layout, craft) in [(Layout::Single, Craft::single()), (Layout::Multipart, Craft::multipart())] {
        let (out, error) = read(&keys, &craft.object(), layout, None, 10);
        assert!(error.is_none() && out == b"plain", "{error:?}");
    }
    assert!(KeyEncryptionKey::from_slice(&[0; 31]).is_err() && KeyEncryptionKey::from_slice(&[0; 33]).is_err());
}
