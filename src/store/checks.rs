//! The checksums an upload claims, compared with what arrived.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum_combine};
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256, Sha512, XxHash3, XxHash64, XxHash128};
use s3s::dto::Checksum;
use s3s::{S3Error, S3ErrorCode};

const PREFIX: &str = "x-amz-checksum-";

/// A checksum algorithm.
pub(super) struct Algorithm {
    /// As in the header name, after the prefix.
    pub(super) name: &'static str,
    digest_len: usize,
    start: fn(&mut ChecksumHasher),
    value: fn(Checksum) -> Option<String>,
}

static ALGORITHMS: [Algorithm; 10] = [
    Algorithm { name: "crc32", digest_len: 4, start: |h| h.crc32 = Some(Crc32::new()), value: |c| c.checksum_crc32 },
    Algorithm { name: "crc32c", digest_len: 4, start: |h| h.crc32c = Some(Crc32c::new()), value: |c| c.checksum_crc32c },
    Algorithm {
        name: "crc64nvme",
        digest_len: 8,
        start: |h| h.crc64nvme = Some(Crc64Nvme::new()),
        value: |c| c.checksum_crc64nvme,
    },
    Algorithm { name: "sha1", digest_len: 20, start: |h| h.sha1 = Some(Sha1::new()), value: |c| c.checksum_sha1 },
    Algorithm { name: "sha256", digest_len: 32, start: |h| h.sha256 = Some(Sha256::new()), value: |c| c.checksum_sha256 },
    Algorithm { name: "sha512", digest_len: 64, start: |h| h.sha512 = Some(Sha512::new()), value: |c| c.checksum_sha512 },
    Algorithm { name: "md5", digest_len: 16, start: |h| h.md5 = Some(Md5::new()), value: |c| c.checksum_md5 },
    Algorithm { name: "xxhash64", digest_len: 8, start: |h| h.xxhash64 = Some(XxHash64::new()), value: |c| c.checksum_xxhash64 },
    Algorithm { name: "xxhash3", digest_len: 8, start: |h| h.xxhash3 = Some(XxHash3::new()), value: |c| c.checksum_xxhash3 },
    Algorithm {
        name: "xxhash128",
        digest_len: 16,
        start: |h| h.xxhash128 = Some(XxHash128::new()),
        value: |c| c.checksum_xxhash128,
    },
];

fn algorithm(header: &str) -> Option<&'static Algorithm> {
    Algorithm::of(header.strip_prefix(PREFIX)?)
}

impl Algorithm {
    /// The algorithm of this name, in any case.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        ALGORITHMS.iter().find(|algorithm| algorithm.name.eq_ignore_ascii_case(name))
    }
}

/// A checksum that was compared with the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    /// As in the header name, after the prefix.
    pub(super) algorithm: &'static str,
    /// In base64.
    pub(super) value: String,
}

impl Verified {
    /// The name of its header.
    pub(super) fn header(&self) -> String {
        format!("{PREFIX}{}", self.algorithm)
    }
}

/// The checksum of some bytes in base64. `feed` hands them to the function it is given, piece by piece.
///
/// # Errors
/// Those of `feed`.
pub(super) fn compute<E>(
    algorithm: &Algorithm,
    feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
) -> Result<Option<String>, E> {
    let mut hasher = ChecksumHasher::default();
    (algorithm.start)(&mut hasher);
    feed(&mut |bytes| hasher.update(bytes))?;
    Ok((algorithm.value)(hasher.finalize()))
}

fn is_digest(value: &str, len: usize) -> bool {
    data_encoding::BASE64.decode(value.as_bytes()).is_ok_and(|digest| digest.len() == len)
}

/// What an upload claims about its content, and the hashers that find out.
#[derive(Default)]
pub(super) struct Claims {
    content_md5: Option<String>,
    /// At most one algorithm, and the value when it came as a header; otherwise it comes as a trailer.
    checksum: Option<(&'static Algorithm, Option<String>)>,
    /// An algorithm to compute although nothing is claimed.
    unclaimed: Option<&'static Algorithm>,
    md5: Option<Md5>,
    hasher: ChecksumHasher,
}

impl Claims {
    /// Reads the claims of a request.
    ///
    /// # Errors
    /// `InvalidDigest` and `InvalidRequest` for claims that cannot be right.
    pub(super) fn from_upload(headers: &HeaderMap) -> Result<Self, S3Error> {
        let mut claims = Self::default();
        if let Some(value) = headers.get("content-md5") {
            let value = value.to_str().ok().filter(|value| is_digest(value, 16));
            claims.content_md5 = Some(value.ok_or(S3ErrorCode::InvalidDigest)?.to_owned());
            claims.md5 = Some(Md5::new());
        }
        for (name, value) in headers {
            let Some(algorithm) = algorithm(name.as_str()) else { continue };
            let value = value.to_str().ok().filter(|value| is_digest(value, algorithm.digest_len));
            let value = value.ok_or_else(|| invalid(format!("Value for {name} header is invalid.")))?;
            claims.claim(algorithm, Some(value.to_owned()))?;
        }
        let trailers = headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
        for name in trailers.flat_map(|names| names.split(',')) {
            let name = name.trim().to_ascii_lowercase();
            match algorithm(&name) {
                Some(algorithm) => claims.claim(algorithm, None)?,
                None => {
                    return Err(invalid(format!("The value specified in the x-amz-trailer header is not supported: {name}.")));
                }
            }
        }
        if headers.contains_key("x-amz-sdk-checksum-algorithm") && claims.checksum.is_none() {
            return Err(invalid("x-amz-sdk-checksum-algorithm specified, but no corresponding checksum was found.".to_owned()));
        }
        Ok(claims)
    }

    /// The algorithm of the claimed checksum.
    pub(super) fn algorithm(&self) -> Option<&'static Algorithm> {
        self.checksum.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// Computes a checksum that nobody claimed, for a part of an object that is to have one.
    pub(super) fn compute(&mut self, algorithm: &'static Algorithm) {
        if self.checksum.is_none() {
            (algorithm.start)(&mut self.hasher);
            self.unclaimed = Some(algorithm);
        }
    }

    /// Whether anything is claimed.
    pub(super) fn is_some(&self) -> bool {
        self.content_md5.is_some() || self.checksum.is_some()
    }

    fn claim(&mut self, algorithm: &'static Algorithm, value: Option<String>) -> Result<(), S3Error> {
        if self.checksum.is_some() {
            return Err(invalid(
                "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed.".to_owned(),
            ));
        }
        (algorithm.start)(&mut self.hasher);
        self.checksum = Some((algorithm, value));
        Ok(())
    }

    pub(super) fn update(&mut self, pieces: &[Bytes]) {
        if self.md5.is_none() && self.checksum.is_none() && self.unclaimed.is_none() {
            return;
        }
        for piece in pieces {
            if let Some(md5) = &mut self.md5 {
                md5.update(piece);
            }
            self.hasher.update(piece);
        }
    }

    /// Compares every claim with the content. Returns the checksum that the object keeps.
    ///
    /// # Errors
    /// `BadDigest`, `MalformedTrailerError` and `InvalidRequest`.
    pub(super) fn verdict(self, trailers: Option<&HeaderMap>) -> Result<Option<Verified>, S3Error> {
        if let (Some(claimed), Some(md5)) = (self.content_md5, self.md5)
            && data_encoding::BASE64.encode(md5.finalize().as_ref()) != claimed
        {
            return Err(S3ErrorCode::BadDigest.into());
        }
        // A checksum in a trailer that was not announced was not computed, so it cannot be believed.
        let announced = |name: &str| self.checksum.as_ref().is_some_and(|(known, value)| value.is_none() && name == known.name);
        let surprise = trailers
            .into_iter()
            .flat_map(HeaderMap::keys)
            .find(|name| name.as_str().strip_prefix(PREFIX).is_some_and(|name| !announced(name)));
        if let Some(name) = surprise {
            return Err(invalid(format!("The trailer {name} was not announced in x-amz-trailer.")));
        }
        let Some((algorithm, value)) = self.checksum else {
            let Some(algorithm) = self.unclaimed else { return Ok(None) };
            let value = (algorithm.value)(self.hasher.finalize());
            return Ok(value.map(|value| Verified { algorithm: algorithm.name, value }));
        };
        let header = format!("{PREFIX}{}", algorithm.name);
        let claimed = match value {
            Some(value) => value,
            None => {
                let trailer = trailers.and_then(|trailers| trailers.get(&header)).and_then(|value| value.to_str().ok());
                let Some(trailer) = trailer else { return Err(malformed_trailer()) };
                if !is_digest(trailer, algorithm.digest_len) {
                    return Err(invalid(format!("Value for {header} trailing header is invalid.")));
                }
                trailer.to_owned()
            }
        };
        if (algorithm.value)(self.hasher.finalize()).as_ref() != Some(&claimed) {
            let name = algorithm.name.to_ascii_uppercase();
            let message = format!("The {name} you specified did not match the calculated checksum.");
            return Err(S3Error::with_message(S3ErrorCode::BadDigest, message));
        }
        Ok(Some(Verified { algorithm: algorithm.name, value: claimed }))
    }
}

/// Names a checksum in one of the many documents that have a field for each algorithm.
macro_rules! set_checksum {
    ($document:expr, $algorithm:expr, $value:expr) => {{
        let (document, value) = (&mut $document, Some($value));
        match $algorithm.to_ascii_lowercase().as_str() {
            "crc32" => document.checksum_crc32 = value,
            "crc32c" => document.checksum_crc32c = value,
            "crc64nvme" => document.checksum_crc64nvme = value,
            "sha1" => document.checksum_sha1 = value,
            "sha256" => document.checksum_sha256 = value,
            "sha512" => document.checksum_sha512 = value,
            "md5" => document.checksum_md5 = value,
            "xxhash64" => document.checksum_xxhash64 = value,
            "xxhash3" => document.checksum_xxhash3 = value,
            "xxhash128" => document.checksum_xxhash128 = value,
            _ => {}
        }
    }};
}
pub(super) use set_checksum;

/// The checksum that such a document names.
macro_rules! get_checksum {
    ($document:expr) => {{
        let document = &$document;
        [
            ("CRC32", &document.checksum_crc32),
            ("CRC32C", &document.checksum_crc32c),
            ("CRC64NVME", &document.checksum_crc64nvme),
            ("SHA1", &document.checksum_sha1),
            ("SHA256", &document.checksum_sha256),
            ("SHA512", &document.checksum_sha512),
            ("MD5", &document.checksum_md5),
            ("XXHASH64", &document.checksum_xxhash64),
            ("XXHASH3", &document.checksum_xxhash3),
            ("XXHASH128", &document.checksum_xxhash128),
        ]
        .into_iter()
        .find_map(|(name, value)| Some((name, value.clone()?)))
    }};
}
pub(super) use get_checksum;

/// The checksum of an object out of those of its parts, given in order with their sizes: of all bytes, or of the checksums.
///
/// `None` when the algorithm cannot do that, or a checksum is malformed.
pub(super) fn combine(algorithm: &'static Algorithm, is_full: bool, parts: &[(String, u64)]) -> Option<String> {
    let digests = parts.iter().map(|(value, _)| data_encoding::BASE64.decode(value.as_bytes()).ok());
    let digests: Vec<Vec<u8>> = digests.collect::<Option<_>>()?;
    if !is_full {
        let value = compute(algorithm, |update| {
            digests.iter().for_each(|digest| update(digest));
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(value) = value;
        return Some(format!("{}-{}", value?, parts.len()));
    }
    let crc = match algorithm.name {
        "crc32" => CrcAlgorithm::Crc32IsoHdlc,
        "crc32c" => CrcAlgorithm::Crc32Iscsi,
        "crc64nvme" => CrcAlgorithm::Crc64Nvme,
        _ => return None,
    };
    let number = |digest: &[u8]| digest.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    let numbers = digests.iter().zip(parts).map(|(digest, (_, size))| (number(digest), *size));
    let (whole, _) =
        numbers.reduce(|(whole, len), (next, size)| (checksum_combine(crc, whole, next, size), len.saturating_add(size)))?;
    Some(data_encoding::BASE64.encode(&whole.to_be_bytes()[8 - algorithm.digest_len..]))
}

fn invalid(message: String) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRequest, message)
}

fn malformed_trailer() -> S3Error {
    let mut error = S3Error::with_message(
        S3ErrorCode::Custom("MalformedTrailerError".into()),
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    );
    error.set_status_code(http::StatusCode::BAD_REQUEST);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn verdict(request: &[(&'static str, &str)], trailers: &[(&'static str, &str)]) -> Result<Option<(String, String)>, String> {
        let mut claims = Claims::from_upload(&headers(request)).map_err(|error| error.code().as_str().to_owned())?;
        claims.update(&[Bytes::from_static(b"hel"), Bytes::from_static(b"lo")]);
        let verified = claims.verdict(Some(&headers(trailers))).map_err(|error| error.code().as_str().to_owned())?;
        Ok(verified.map(|verified| (verified.header(), verified.value)))
    }

    const CRC32: &str = "NhCmhg==";
    const SHA1: &str = "qvTGHdzF6KLavt4PO0gs2a6pQ00=";
    const MD5: &str = "XUFAKrxLKna5cZ2REBfFkg==";

    #[test]
    fn claims_are_verified() {
        assert_eq!(verdict(&[], &[]), Ok(None));
        assert_eq!(verdict(&[("content-md5", MD5)], &[]), Ok(None));
        assert_eq!(verdict(&[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], &[]), Err("BadDigest".into()));
        assert_eq!(verdict(&[("content-md5", "AAAA")], &[]), Err("InvalidDigest".into()));
        let kept = |name: &str, value: &str| Ok(Some((format!("x-amz-checksum-{name}"), value.to_owned())));
        assert_eq!(verdict(&[("x-amz-checksum-crc32", CRC32)], &[]), kept("crc32", CRC32));
        assert_eq!(verdict(&[("x-amz-checksum-sha1", SHA1), ("content-md5", MD5)], &[]), kept("sha1", SHA1));
        assert_eq!(verdict(&[("x-amz-checksum-crc32", "AAAAAA==")], &[]), Err("BadDigest".into()));
        assert_eq!(verdict(&[("x-amz-checksum-crc32", "AAAA")], &[]), Err("InvalidRequest".into()));
        assert_eq!(verdict(&[("x-amz-checksum-crc32", CRC32), ("x-amz-checksum-sha1", SHA1)], &[]), Err("InvalidRequest".into()));
        assert_eq!(verdict(&[("x-amz-sdk-checksum-algorithm", "CRC32")], &[]), Err("InvalidRequest".into()));
    }

    #[test]
    fn parts_make_a_whole() {
        let sum = |name: &str, bytes: &[u8]| {
            let algorithm = Algorithm::of(name).unwrap();
            let Ok(sum) = compute(algorithm, |update| {
                update(bytes);
                Ok::<_, std::convert::Infallible>(())
            });
            sum.unwrap()
        };
        for name in ["CRC32", "crc32c", "CRC64NVME"] {
            let parts = [b"hel".as_slice(), b"", b"lo"].map(|part| (sum(name, part), part.len() as u64));
            assert_eq!(combine(Algorithm::of(name).unwrap(), true, &parts), Some(sum(name, b"hello")), "{name}");
        }
        let sha = Algorithm::of("SHA1").unwrap();
        let parts = [(SHA1.to_owned(), 5), (SHA1.to_owned(), 5)];
        let digest = data_encoding::BASE64.decode(SHA1.as_bytes()).unwrap();
        assert_eq!(combine(sha, false, &parts), Some(format!("{}-2", sum("sha1", &[&digest[..], &digest].concat()))));
        assert_eq!(combine(sha, true, &parts), None);
    }

    #[test]
    fn what_nobody_claims_may_be_computed() {
        let mut claims = Claims::default();
        claims.compute(Algorithm::of("CRC32").unwrap());
        claims.update(&[Bytes::from_static(b"hello")]);
        assert_eq!(claims.verdict(None).unwrap(), Some(Verified { algorithm: "crc32", value: CRC32.to_owned() }));
    }

    #[test]
    fn trailers_are_verified() {
        let announced = &[("x-amz-trailer", "x-amz-checksum-crc32")];
        let kept = Ok(Some(("x-amz-checksum-crc32".to_owned(), CRC32.to_owned())));
        assert_eq!(verdict(announced, &[("x-amz-checksum-crc32", CRC32)]), kept);
        assert_eq!(verdict(announced, &[("x-amz-checksum-crc32", "AAAAAA==")]), Err("BadDigest".into()));
        assert_eq!(verdict(announced, &[("x-amz-checksum-crc32", "?")]), Err("InvalidRequest".into()));
        assert_eq!(verdict(announced, &[]), Err("MalformedTrailerError".into()));
        assert_eq!(verdict(&[], &[("x-amz-checksum-crc32", CRC32)]), Err("InvalidRequest".into()));
        assert_eq!(verdict(&[("x-amz-trailer", "x-other")], &[]), Err("InvalidRequest".into()));
    }
}
