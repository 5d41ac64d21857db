//! Reads by `partNumber`: which bytes of an object a part is.
//!
//! Parts are those that the client completed, by the numbers it gave them, as the sealed footer records them. An object of a single upload
//! has one part, number 1. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Error;
use super::check::{part_checksum, shown_checksum};
use crate::format::{ChecksumKind, Footer, PlainLen, layout};

/// Says how many parts an object has.
pub const PARTS_COUNT: HeaderName = HeaderName::from_static("x-amz-mp-parts-count");

/// The part that a request asks for.
///
/// # Errors
/// Numbers that no part has, and a range beside it.
pub fn asked(part_number: Option<i32>, has_range: bool) -> Result<Option<u16>, Error> {
    let Some(number) = part_number else { return Ok(None) };
    if has_range {
        return Err(Error::InvalidRequest("Cannot specify both Range header and partNumber query parameter"));
    }
    match u16::try_from(number) {
        Ok(number) if (1..=layout::PARTS_MAX).contains(&u64::from(number)) => Ok(Some(number)),
        _ => Err(Error::InvalidArgument("Part number must be an integer between 1 and 10000, inclusive")),
    }
}

/// A part of an object.
pub struct Part {
    /// First and last plaintext byte, both included; `None` for a part without bytes.
    pub span: Option<(u64, u64)>,
    /// It is all there is: an object of a single upload.
    pub is_whole: bool,
    /// How many parts the object has; `None` when it was a single upload.
    count: Option<HeaderValue>,
    /// The client's checksum, as headers: S3 shows one only where it is that of exactly these bytes, and keeps none of the parts of an
    /// object that has one of the whole.
    pub checksum: Vec<(HeaderName, HeaderValue)>,
}

impl Part {
    /// A part of an object in the single layout.
    ///
    /// # Errors
    /// Another number than 1.
    pub fn of_single(number: u16, plain_len: PlainLen) -> Result<Self, Error> {
        Self::of_bytes(number, plain_len.get())
    }

    /// A part of an object of which only the length is known.
    ///
    /// # Errors
    /// Another number than 1.
    pub fn of_bytes(number: u16, len: u64) -> Result<Self, Error> {
        match number {
            1 => Ok(Self { span: span(0, len), is_whole: true, count: None, checksum: Vec::new() }),
            _ => Err(Error::InvalidPartNumber),
        }
    }

    /// A part of an object that is not sealed, as the store delimits it.
    pub fn of_store(span: Option<(u64, u64)>, count: Option<HeaderValue>, checksum: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { span, is_whole: false, count, checksum }
    }

    /// A part of an object in the multipart layout.
    ///
    /// # Errors
    /// A number that no part of it has.
    pub fn of_multipart(number: u16, footer: &Footer) -> Result<Self, Error> {
        let mut start = 0u64;
        for entry in &footer.parts {
            // The footer's own checks hold the sum within 64 bits.
            let len = entry.plain_len.get();
            if entry.number == number {
                let checksum = match footer.checksum {
                    Some(whole) if whole.kind() == ChecksumKind::Composite => part_checksum(&whole, entry),
                    _ if footer.parts.len() == 1 => shown_checksum(footer),
                    _ => Vec::new(),
                };
                return Ok(Self {
                    span: span(start, len),
                    is_whole: false,
                    count: Some(HeaderValue::from(footer.parts.len())),
                    checksum,
                });
            }
            start += len;
        }
        Err(Error::InvalidPartNumber)
    }

    /// Says in an answer how many parts there are.
    pub fn show_count(&self, headers: &mut HeaderMap) {
        if let Some(count) = &self.count {
            headers.insert(PARTS_COUNT, count.clone());
        }
    }
}

fn span(start: u64, len: u64) -> Option<(u64, u64)> {
    (len > 0).then(|| (start, start + len - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ChecksumAlgorithm, ChecksumBytes, ObjectChecksum, TableEntry};

    #[test]
    fn only_numbers_that_a_part_can_have_are_taken_and_no_range_beside_them() {
        assert_eq!(asked(None, true).unwrap(), None);
        assert_eq!(asked(Some(10_000), false).unwrap(), Some(10_000));
        for bad in [0, -1, 10_001, 65_537, i32::MAX] {
            assert!(matches!(asked(Some(bad), false), Err(Error::InvalidArgument(_))), "{bad}");
        }
        assert!(matches!(asked(Some(1), true), Err(Error::InvalidRequest(_))));
    }

    #[test]
    fn parts_are_found_by_the_numbers_they_were_uploaded_with() {
        let entry = |number, len| TableEntry {
            number,
            plain_len: PlainLen::new(len).unwrap(),
            part_id: Some([1; 16]),
            checksum: ChecksumBytes::EMPTY,
        };
        let footer = Footer {
            plain_len: PlainLen::new(10_485_763).unwrap(),
            time_ms: 0,
            checksum: None,
            crc64: None,
            md5: None,
            parts: vec![entry(1, 5_242_880), entry(4, 5_242_880), entry(7, 3), entry(9, 0)],
        };
        let found = |number| Part::of_multipart(number, &footer).map(|part| (part.span, part.count));
        let four = || HeaderValue::from(4);
        assert_eq!(found(1).unwrap(), (Some((0, 5_242_879)), Some(four())));
        assert_eq!(found(4).unwrap(), (Some((5_242_880, 10_485_759)), Some(four())));
        assert_eq!(found(7).unwrap(), (Some((10_485_760, 10_485_762)), Some(four())));
        assert_eq!(found(9).unwrap(), (None, Some(four())));
        for missing in [2, 3, 8, 10] {
            assert!(matches!(found(missing), Err(Error::InvalidPartNumber)), "{missing}");
        }
        let checksum = |parts: &[TableEntry], checksum, number| {
            let plain_len = PlainLen::new(parts.iter().map(|part| part.plain_len.get()).sum()).unwrap();
            let footer = Footer { parts: parts.to_vec(), checksum: Some(checksum), plain_len, ..footer.clone() };
            let shown = Part::of_multipart(number, &footer).unwrap().checksum;
            shown.first().map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        };
        let with = |entry: TableEntry, byte| TableEntry { checksum: ChecksumBytes::new(&[byte; 4]).unwrap(), ..entry };
        let parts = [with(entry(1, 5_242_880), 0), with(entry(2, 3), 7)];
        let composite = ObjectChecksum::composite(ChecksumAlgorithm::Crc32);
        let full = ObjectChecksum::full_object(ChecksumAlgorithm::Crc32, &[1; 4]).unwrap();
        let crc32 = |value: &str| Some(("x-amz-checksum-crc32".to_owned(), value.to_owned()));
        assert_eq!(checksum(&parts, composite, 2), crc32("BwcHBw=="));
        assert_eq!(checksum(&parts, full, 2), None);
        assert_eq!(checksum(&parts[..1], full, 1), crc32("AQEBAQ=="));

        let single = |number, len| Part::of_single(number, PlainLen::new(len).unwrap()).map(|part| part.span);
        assert_eq!((single(1, 5).unwrap(), single(1, 0).unwrap()), (Some((0, 4)), None));
        assert!(matches!(single(2, 5), Err(Error::InvalidPartNumber)));
    }
}
