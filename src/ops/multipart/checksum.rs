//! Checksums of uploads in parts: which pairs of algorithm and type there are, and how those of the parts become the object's.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>

use crc_fast::{CrcAlgorithm, checksum_combine};
use data_encoding::BASE64;
use http::HeaderMap;
use s3s::dto;

use super::Refused;
use crate::format::{ChecksumAlgorithm, ChecksumBytes, ChecksumKind, ObjectChecksum};
use crate::ops::Error;

/// What S3 computes when nobody asks for a checksum.
pub(super) const DEFAULT: (ChecksumAlgorithm, ChecksumKind) = (ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject);

/// The checksum that a CreateMultipartUpload asks for.
///
/// # Errors
/// `InvalidRequest` for unknown names and for pairs that cannot be.
pub(super) fn announced(headers: &HeaderMap) -> Result<(ChecksumAlgorithm, ChecksumKind), Error> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_ascii_uppercase());
    let algorithm = match text("x-amz-checksum-algorithm") {
        None => None,
        Some(name) => {
            let known = name.parse().map_err(|_| Error::InvalidRequest("Checksum algorithm provided is unsupported."))?;
            Some(known)
        }
    };
    let kind = match text("x-amz-checksum-type").as_deref() {
        None => None,
        Some("COMPOSITE") => Some(ChecksumKind::Composite),
        Some("FULL_OBJECT") => Some(ChecksumKind::FullObject),
        Some(_) => return Err(Error::InvalidRequest("Value for x-amz-checksum-type header is invalid.")),
    };
    let Some(algorithm) = algorithm else {
        return match kind {
            None => Ok(DEFAULT),
            Some(_) => Err(Error::InvalidRequest(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )),
        };
    };
    let full = crc_of(algorithm).is_some();
    let composite = algorithm != ChecksumAlgorithm::Crc64Nvme;
    match kind {
        // S3's own default is the composite one, except where there is none.
        None if composite => Ok((algorithm, ChecksumKind::Composite)),
        None => Ok((algorithm, ChecksumKind::FullObject)),
        Some(ChecksumKind::FullObject) if full => Ok((algorithm, ChecksumKind::FullObject)),
        Some(ChecksumKind::Composite) if composite => Ok((algorithm, ChecksumKind::Composite)),
        Some(kind) => Err(Refused::ChecksumPair { algorithm, kind: kind_name(kind) }.into()),
    }
}

pub(super) const fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Composite => "COMPOSITE",
        ChecksumKind::FullObject => "FULL_OBJECT",
    }
}

/// The algorithms whose checksums of neighbours give that of both.
fn crc_of(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        _ => None,
    }
}

/// The checksum of the object, from those of its parts and their plaintext lengths.
///
/// # Errors
/// `Internal` for a pair that [`announced`] does not give, and for checksums of another length.
pub(super) fn of_object(
    (algorithm, kind): (ChecksumAlgorithm, ChecksumKind),
    parts: impl IntoIterator<Item = (ChecksumBytes, u64)>,
) -> Result<ObjectChecksum, Error> {
    if kind == ChecksumKind::Composite {
        return Ok(ObjectChecksum::composite(algorithm));
    }
    let crc = crc_of(algorithm).ok_or(Error::Internal("an upload has a checksum that cannot be combined"))?;
    let mut whole = None;
    for (part, plain_len) in parts {
        let part = number(part.as_slice()).filter(|_| part.as_slice().len() == algorithm.len());
        let part = part.ok_or(Error::Internal("a part has a checksum of another length"))?;
        whole = Some(match whole {
            None => part,
            Some(whole) if plain_len == 0 => whole,
            Some(whole) => checksum_combine(crc, whole, part, plain_len),
        });
    }
    let whole = whole.ok_or(Error::Internal("an object in parts has a part"))?.to_be_bytes();
    Ok(ObjectChecksum::full_object(algorithm, &whole[whole.len() - algorithm.len()..])?)
}

/// The value of a checksum of at most eight bytes.
pub(super) fn number(big_endian: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    let start = bytes.len().checked_sub(big_endian.len())?;
    bytes[start..].copy_from_slice(big_endian);
    Some(u64::from_be_bytes(bytes))
}

/// Every checksum that a line of a Complete request names.
pub(super) fn of_line(line: &dto::CompletedPart) -> impl Iterator<Item = (ChecksumAlgorithm, &str)> {
    [
        (ChecksumAlgorithm::Crc32, &line.checksum_crc32),
        (ChecksumAlgorithm::Crc32c, &line.checksum_crc32c),
        (ChecksumAlgorithm::Crc64Nvme, &line.checksum_crc64nvme),
        (ChecksumAlgorithm::Sha1, &line.checksum_sha1),
        (ChecksumAlgorithm::Sha256, &line.checksum_sha256),
        (ChecksumAlgorithm::Sha512, &line.checksum_sha512),
        (ChecksumAlgorithm::Md5, &line.checksum_md5),
        (ChecksumAlgorithm::Xxhash64, &line.checksum_xxhash64),
        (ChecksumAlgorithm::Xxhash3, &line.checksum_xxhash3),
        (ChecksumAlgorithm::Xxhash128, &line.checksum_xxhash128),
    ]
    .into_iter()
    .filter_map(|(algorithm, value)| Some((algorithm, value.as_deref()?)))
}

/// Puts a checksum where the answer to a Complete request has it.
pub(super) fn show(output: &mut dto::CompleteMultipartUploadOutput, algorithm: ChecksumAlgorithm, value: String) {
    let place = match algorithm {
        ChecksumAlgorithm::Crc32 => &mut output.checksum_crc32,
        ChecksumAlgorithm::Crc32c => &mut output.checksum_crc32c,
        ChecksumAlgorithm::Crc64Nvme => &mut output.checksum_crc64nvme,
        ChecksumAlgorithm::Sha1 => &mut output.checksum_sha1,
        ChecksumAlgorithm::Sha256 => &mut output.checksum_sha256,
        ChecksumAlgorithm::Sha512 => &mut output.checksum_sha512,
        ChecksumAlgorithm::Md5 => &mut output.checksum_md5,
        ChecksumAlgorithm::Xxhash64 => &mut output.checksum_xxhash64,
        ChecksumAlgorithm::Xxhash3 => &mut output.checksum_xxhash3,
        ChecksumAlgorithm::Xxhash128 => &mut output.checksum_xxhash128,
    };
    *place = Some(value);
}

/// The same in the answer to UploadPartCopy.
pub(super) fn show_copied(output: &mut dto::CopyPartResult, algorithm: ChecksumAlgorithm, value: &[u8]) {
    let place = match algorithm {
        ChecksumAlgorithm::Crc32 => &mut output.checksum_crc32,
        ChecksumAlgorithm::Crc32c => &mut output.checksum_crc32c,
        ChecksumAlgorithm::Crc64Nvme => &mut output.checksum_crc64nvme,
        ChecksumAlgorithm::Sha1 => &mut output.checksum_sha1,
        ChecksumAlgorithm::Sha256 => &mut output.checksum_sha256,
        ChecksumAlgorithm::Sha512 => &mut output.checksum_sha512,
        ChecksumAlgorithm::Md5 => &mut output.checksum_md5,
        ChecksumAlgorithm::Xxhash64 => &mut output.checksum_xxhash64,
        ChecksumAlgorithm::Xxhash3 => &mut output.checksum_xxhash3,
        ChecksumAlgorithm::Xxhash128 => &mut output.checksum_xxhash128,
    };
    *place = Some(BASE64.encode(value));
}

/// The same in a line of ListParts.
pub(super) fn show_listed(output: &mut dto::Part, algorithm: ChecksumAlgorithm, value: &[u8]) {
    let place = match algorithm {
        ChecksumAlgorithm::Crc32 => &mut output.checksum_crc32,
        ChecksumAlgorithm::Crc32c => &mut output.checksum_crc32c,
        ChecksumAlgorithm::Crc64Nvme => &mut output.checksum_crc64nvme,
        ChecksumAlgorithm::Sha1 => &mut output.checksum_sha1,
        ChecksumAlgorithm::Sha256 => &mut output.checksum_sha256,
        ChecksumAlgorithm::Sha512 => &mut output.checksum_sha512,
        ChecksumAlgorithm::Md5 => &mut output.checksum_md5,
        ChecksumAlgorithm::Xxhash64 => &mut output.checksum_xxhash64,
        ChecksumAlgorithm::Xxhash3 => &mut output.checksum_xxhash3,
        ChecksumAlgorithm::Xxhash128 => &mut output.checksum_xxhash128,
    };
    *place = Some(BASE64.encode(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&'static str, &'static str)]) -> Result<(ChecksumAlgorithm, ChecksumKind), Error> {
        announced(
            &pairs
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
                .collect(),
        )
    }

    #[test]
    fn pairs_are_those_of_s3() {
        const A: &str = "x-amz-checksum-algorithm";
        const T: &str = "x-amz-checksum-type";
        use ChecksumAlgorithm::{Crc32, Crc64Nvme, Sha256};
        use ChecksumKind::{Composite, FullObject};
        assert_eq!(asked(&[]).unwrap(), (Crc64Nvme, FullObject));
        assert_eq!(asked(&[(A, "CRC32")]).unwrap(), (Crc32, Composite));
        assert_eq!(asked(&[(A, "crc32"), (T, "FULL_OBJECT")]).unwrap(), (Crc32, FullObject));
        assert_eq!(asked(&[(A, "CRC64NVME")]).unwrap(), (Crc64Nvme, FullObject));
        assert_eq!(asked(&[(A, "SHA256"), (T, "COMPOSITE")]).unwrap(), (Sha256, Composite));
        for wrong in [
            &[(A, "SHA256"), (T, "FULL_OBJECT")][..],
            &[(A, "CRC64NVME"), (T, "COMPOSITE")],
            &[(A, "CRC99")],
            &[(T, "COMPOSITE")],
        ] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn checksums_of_parts_combine_to_that_of_the_whole() {
        let text = b"The quick brown fox jumps over the lazy dog";
        for (algorithm, crc) in [
            (ChecksumAlgorithm::Crc32, CrcAlgorithm::Crc32IsoHdlc),
            (ChecksumAlgorithm::Crc32c, CrcAlgorithm::Crc32Iscsi),
            (ChecksumAlgorithm::Crc64Nvme, CrcAlgorithm::Crc64Nvme),
        ] {
            let sum =
                |bytes: &[u8]| ChecksumBytes::new(&crc_fast::checksum(crc, bytes).to_be_bytes()[8 - algorithm.len()..]).unwrap();
            for cuts in [vec![43], vec![0, 43], vec![9, 34, 0], vec![1, 1, 41], vec![43, 0]] {
                let mut rest = &text[..];
                let parts = cuts.iter().map(|len| {
                    let (part, after) = rest.split_at(*len);
                    rest = after;
                    (sum(part), *len as u64)
                });
                let whole = of_object((algorithm, ChecksumKind::FullObject), parts.collect::<Vec<_>>()).unwrap();
                assert_eq!(whole.value(), sum(text).as_slice(), "{algorithm} {cuts:?}");
            }
        }
    }
}
