//! What a client declared about its body, verified over the plaintext before the object can come into being.
//!
//! s3s verifies lengths, the payload hash and chunk signatures; Content-MD5 and the `x-amz-checksum-*` family, in headers and
//! trailers, are verified here. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::TrailingHeaders;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256, Sha512, XxHash3, XxHash64, XxHash128};

use super::Error;
use crate::format::{ChecksumAlgorithm, ChecksumBytes, ChecksumKind, Footer, ObjectChecksum, TableEntry};
use crate::stream::{FooterFacts, PlainCheck};
use crate::{format, stream};

const CHECKSUM_PREFIX: &str = "x-amz-checksum-";

/// A declaration that the plaintext did not meet. Reaches the client as an S3 error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("The Content-MD5 you specified did not match what we received.")]
    ContentMd5,
    #[error("The {0} you specified did not match the calculated checksum.")]
    Checksum(&'static str),
    #[error("The trailer that x-amz-trailer announced is missing or malformed.")]
    Trailer,
    #[error("The body ended before its final chunk.")]
    FinalChunkMissing,
}

/// Where the value of the declared checksum is found.
enum Declared {
    Header(Vec<u8>),
    Trailer(TrailingHeaders),
}

/// Verifies one body. Made from the request's headers before the body is read.
pub struct BodyCheck {
    hasher: ChecksumHasher,
    content_md5: Option<Vec<u8>>,
    checksum: Option<(ChecksumAlgorithm, Declared)>,
    /// What the receipt of a part records, whatever the client declared.
    recorded: Option<ChecksumAlgorithm>,
    /// Framed bodies end with a trailer block, even if it is empty: without it the final chunk is missing.
    must_end_with_trailer: Option<TrailingHeaders>,
    verified: Arc<OnceLock<ObjectChecksum>>,
}

impl BodyCheck {
    /// Reads the declarations.
    ///
    /// # Errors
    /// `InvalidDigest` for values that cannot be digests, `InvalidRequest` for declarations that contradict each other.
    pub fn new(headers: &HeaderMap, trailers: Option<TrailingHeaders>) -> Result<Self, Error> {
        let content_md5 = match headers.get("content-md5") {
            None => None,
            Some(value) => match BASE64.decode(value.as_bytes()) {
                Ok(digest) if digest.len() == 16 => Some(digest),
                _ => return Err(Error::InvalidDigest),
            },
        };
        let announced = announced_trailers(headers);
        let checksum = declared_checksum(headers, trailers.as_ref(), &announced)?;
        let must_end_with_trailer = if announced.is_empty() { None } else { trailers };
        let mut hasher = ChecksumHasher { md5: content_md5.as_ref().map(|_| Md5::new()), ..ChecksumHasher::default() };
        if let Some((algorithm, _)) = &checksum {
            enable(&mut hasher, *algorithm);
        }
        Ok(Self { hasher, content_md5, checksum, recorded: None, must_end_with_trailer, verified: Arc::default() })
    }

    /// The same for a part of an upload. Its verdict gives the checksum of the upload's algorithm.
    ///
    /// # Errors
    /// As [`BodyCheck::new`].
    pub fn for_part(
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
        recorded: Option<ChecksumAlgorithm>,
    ) -> Result<Self, Error> {
        let mut check = Self::new(headers, trailers)?;
        if let Some(algorithm) = recorded {
            enable(&mut check.hasher, algorithm);
            check.recorded = recorded;
        }
        Ok(check)
    }

    /// The algorithm of the checksum that the client sends along.
    pub fn declared(&self) -> Option<ChecksumAlgorithm> {
        self.checksum.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// Whether the client declared anything by which the body can be verified.
    pub fn is_declared(&self) -> bool {
        self.content_md5.is_some() || self.checksum.is_some()
    }

    /// The client's checksum, there once the body has been verified.
    pub fn verified(&self) -> Arc<OnceLock<ObjectChecksum>> {
        self.verified.clone()
    }
}

impl PlainCheck for BodyCheck {
    fn update(&mut self, plain: &[u8]) {
        self.hasher.update(plain);
    }

    fn verdict(&mut self) -> Result<FooterFacts, Box<dyn std::error::Error + Send + Sync>> {
        if self.must_end_with_trailer.as_ref().is_some_and(|trailers| !trailers.is_ready()) {
            return Err(Mismatch::FinalChunkMissing.into());
        }
        let sums = std::mem::take(&mut self.hasher).finalize();
        let mut facts = FooterFacts { checksum: None, md5: None, time_ms: now_ms() };
        if let Some(declared) = &self.content_md5 {
            let computed = decode(sums.checksum_md5.as_deref()).unwrap_or_default();
            if &computed != declared {
                return Err(Mismatch::ContentMd5.into());
            }
            facts.md5 = computed.try_into().ok();
        }
        if let Some((algorithm, declared)) = &self.checksum {
            let declared = match declared {
                Declared::Header(value) => value.clone(),
                Declared::Trailer(trailers) => trailer_value(trailers, *algorithm).ok_or(Mismatch::Trailer)?,
            };
            let computed = decode(computed_sum(&sums, *algorithm)).unwrap_or_default();
            if declared != computed {
                return Err(Mismatch::Checksum(algorithm.name()).into());
            }
            let checksum = ObjectChecksum::full_object(*algorithm, &computed)?;
            // Nobody else sets it; a second verdict would only repeat the first.
            let _ = self.verified.set(checksum);
            facts.checksum = Some(checksum);
        }
        if let Some(algorithm) = self.recorded {
            let computed = decode(computed_sum(&sums, algorithm)).unwrap_or_default();
            facts.checksum = Some(ObjectChecksum::full_object(algorithm, &computed)?);
        }
        Ok(facts)
    }
}

/// Computes a checksum of plaintext of which nothing was declared: that of a copy which is sealed anew.
pub struct Computed {
    hasher: ChecksumHasher,
    algorithm: Option<ChecksumAlgorithm>,
    computed: Arc<OnceLock<ObjectChecksum>>,
}

impl Computed {
    /// For this algorithm, or for none.
    pub fn new(algorithm: impl Into<Option<ChecksumAlgorithm>>) -> Self {
        let (algorithm, mut hasher) = (algorithm.into(), ChecksumHasher::default());
        if let Some(algorithm) = algorithm {
            enable(&mut hasher, algorithm);
        }
        Self { hasher, algorithm, computed: Arc::default() }
    }

    /// The checksum, there once the plaintext has ended.
    pub fn computed(&self) -> Arc<OnceLock<ObjectChecksum>> {
        self.computed.clone()
    }
}

impl PlainCheck for Computed {
    fn update(&mut self, plain: &[u8]) {
        self.hasher.update(plain);
    }

    fn verdict(&mut self) -> Result<FooterFacts, Box<dyn std::error::Error + Send + Sync>> {
        let sums = std::mem::take(&mut self.hasher).finalize();
        let mut facts = FooterFacts { checksum: None, md5: None, time_ms: now_ms() };
        if let Some(algorithm) = self.algorithm {
            let value = decode(computed_sum(&sums, algorithm)).unwrap_or_default();
            let checksum = ObjectChecksum::full_object(algorithm, &value)?;
            // Nobody else sets it.
            let _ = self.computed.set(checksum);
            facts.checksum = Some(checksum);
        }
        Ok(facts)
    }
}

/// The checksum of one part of a body, in the algorithm of the whole body's, if it has one.
pub struct PartSum {
    hasher: ChecksumHasher,
    algorithm: Option<ChecksumAlgorithm>,
    sum: Arc<OnceLock<ChecksumBytes>>,
}

impl PartSum {
    /// And where the checksum will be found once the part is finished.
    pub fn new(algorithm: Option<ChecksumAlgorithm>) -> (Self, Arc<OnceLock<ChecksumBytes>>) {
        let mut hasher = ChecksumHasher::default();
        if let Some(algorithm) = algorithm {
            enable(&mut hasher, algorithm);
        }
        let sum = Arc::new(OnceLock::new());
        (Self { hasher, algorithm, sum: sum.clone() }, sum)
    }

    pub fn update(&mut self, plain: &[u8]) {
        self.hasher.update(plain);
    }

    /// # Errors
    /// A checksum that is longer than any may be.
    pub fn finish(&mut self) -> Result<(), format::Error> {
        if let Some(algorithm) = self.algorithm {
            let sums = std::mem::take(&mut self.hasher).finalize();
            let bytes = decode(computed_sum(&sums, algorithm)).unwrap_or_default();
            let _ = self.sum.set(ChecksumBytes::new(&bytes)?);
        }
        Ok(())
    }
}

/// Verifies a document that is held in memory by the rules of a body that streams, and gives the checksum that came with it as the
/// header it would be, wherever it stood. To be called when the body has been read to its end, so that the trailers are there.
///
/// # Errors
/// As reading the declarations of an upload, and [`Error::Body`] for a document that is not what was declared.
pub fn verify_document(
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
    document: &[u8],
) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
    let mut check = BodyCheck::new(headers, trailers)?;
    check.update(document);
    check.verdict().map_err(|verdict| Error::Body(stream::Error::Rejected(verdict)))?;
    Ok(check.verified.get().and_then(|checksum| checksum_headers(checksum).into_iter().next()))
}

/// The headers that show the checksum of a body just verified.
pub fn checksum_headers(checksum: &ObjectChecksum) -> Vec<(HeaderName, HeaderValue)> {
    headers_of(checksum.algorithm(), BASE64.encode(checksum.value()), "FULL_OBJECT")
}

/// The header that shows the checksum of a part.
pub fn value_header(checksum: &ObjectChecksum) -> (HeaderName, HeaderValue) {
    let mut headers = checksum_headers(checksum);
    headers.swap_remove(0)
}

/// The headers that show the checksum in an opened footer.
pub fn shown_checksum(footer: &Footer) -> Vec<(HeaderName, HeaderValue)> {
    match shown_value(footer) {
        Some((algorithm, ChecksumKind::FullObject, value)) => headers_of(algorithm, value, "FULL_OBJECT"),
        Some((algorithm, ChecksumKind::Composite, value)) => headers_of(algorithm, value, "COMPOSITE"),
        None => Vec::new(),
    }
}

/// The checksum that an opened footer shows: the client's own, or the CRC64NVME that S3 computes when it gave none. As S3 writes it.
pub fn shown_value(footer: &Footer) -> Option<(ChecksumAlgorithm, ChecksumKind, String)> {
    match (&footer.checksum, footer.crc64) {
        (Some(checksum), _) => {
            let value = match checksum.kind() {
                ChecksumKind::FullObject => BASE64.encode(checksum.value()),
                ChecksumKind::Composite => composite(checksum.algorithm(), footer),
            };
            Some((checksum.algorithm(), checksum.kind(), value))
        }
        (None, Some(crc)) => Some((ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject, BASE64.encode(&crc.to_be_bytes()))),
        (None, None) => None,
    }
}

/// The checksums of an object that a request names in its headers, as they stand there. For requests whose body is not the object.
///
/// # Errors
/// `InvalidRequest` for names that are no algorithm's.
pub fn take_checksums(headers: &HeaderMap) -> Result<Vec<(ChecksumAlgorithm, String)>, Error> {
    let mut found = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_value(name.as_str())) {
        let algorithm = algorithm_of(name.as_str()).ok_or(Error::InvalidRequest("The checksum algorithm is not known"))?;
        found.push((algorithm, String::from_utf8_lossy(value.as_bytes()).into_owned()));
    }
    Ok(found)
}

/// Whether a header holds a checksum of an algorithm that is known here.
pub fn is_known_checksum(name: &str) -> bool {
    is_value(name) && algorithm_of(name).is_some()
}

/// Whether a header of the family holds a checksum, and not something about one.
fn is_value(name: &str) -> bool {
    name.starts_with(CHECKSUM_PREFIX)
        && !matches!(name, "x-amz-checksum-mode" | "x-amz-checksum-type" | "x-amz-checksum-algorithm")
}

/// The headers that show the checksum of one part of an object with this checksum.
pub fn part_checksum(whole: &ObjectChecksum, part: &TableEntry) -> Vec<(HeaderName, HeaderValue)> {
    let kind = match whole.kind() {
        ChecksumKind::FullObject => "FULL_OBJECT",
        ChecksumKind::Composite => "COMPOSITE",
    };
    headers_of(whole.algorithm(), BASE64.encode(part.checksum.as_slice()), kind)
}

/// The checksum of the parts' checksums, with their number behind it, as S3 shows it.
fn composite(algorithm: ChecksumAlgorithm, footer: &Footer) -> String {
    let mut hasher = ChecksumHasher::default();
    enable(&mut hasher, algorithm);
    for part in &footer.parts {
        hasher.update(part.checksum.as_slice());
    }
    format!("{}-{}", computed_sum(&hasher.finalize(), algorithm).unwrap_or_default(), footer.parts.len())
}

fn headers_of(algorithm: ChecksumAlgorithm, value: String, kind: &'static str) -> Vec<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(header_name(algorithm).as_bytes()).expect("checksum names are header names");
    let value = HeaderValue::try_from(value).expect("base64 is a header value");
    vec![(name, value), (HeaderName::from_static("x-amz-checksum-type"), HeaderValue::from_static(kind))]
}

/// The header that carries a checksum.
pub fn header_name(algorithm: ChecksumAlgorithm) -> String {
    format!("{CHECKSUM_PREFIX}{}", algorithm.name().to_ascii_lowercase())
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn algorithm_of(header: &str) -> Option<ChecksumAlgorithm> {
    let name = header.strip_prefix(CHECKSUM_PREFIX)?;
    ChecksumAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
}

/// Characters of the value that the checksum trailer of this name has; `None` when no checksum has the name.
pub fn trailer_value_len(name: &str) -> Option<usize> {
    algorithm_of(name).map(|algorithm| BASE64.encode_len(algorithm.len()))
}

fn announced_trailers(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all("x-amz-trailer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

fn declared_checksum(
    headers: &HeaderMap,
    trailers: Option<&TrailingHeaders>,
    announced: &[String],
) -> Result<Option<(ChecksumAlgorithm, Declared)>, Error> {
    let mut found = Vec::new();
    for (name, value) in headers {
        let text = name.as_str();
        if !is_value(text) {
            continue;
        }
        let algorithm = algorithm_of(text).ok_or(Error::InvalidRequest("The checksum algorithm is not known"))?;
        let value = BASE64.decode(value.as_bytes()).ok().filter(|value| value.len() == algorithm.len());
        let value = value.ok_or(Error::InvalidRequest("Value for the x-amz-checksum header is invalid."))?;
        found.push((algorithm, Declared::Header(value)));
    }
    for name in announced {
        let algorithm = algorithm_of(name)
            .ok_or(Error::InvalidRequest("The value specified in the x-amz-trailer header is not supported"))?;
        let trailers = trailers.ok_or(Error::InvalidRequest("x-amz-trailer needs an aws-chunked body"))?;
        found.push((algorithm, Declared::Trailer(trailers.clone())));
    }
    if found.len() > 1 {
        return Err(Error::InvalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."));
    }
    let found = found.pop();
    if let Some(wanted) = headers.get("x-amz-sdk-checksum-algorithm") {
        match &found {
            None => {
                return Err(Error::InvalidRequest(
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
                ));
            }
            Some((algorithm, _)) if !wanted.as_bytes().eq_ignore_ascii_case(algorithm.name().as_bytes()) => {
                return Err(Error::InvalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid."));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

fn trailer_value(trailers: &TrailingHeaders, algorithm: ChecksumAlgorithm) -> Option<Vec<u8>> {
    let value = trailers.read(|map| map.get(header_name(algorithm)).map(|value| value.as_bytes().to_vec()))??;
    BASE64.decode(value.trim_ascii()).ok().filter(|value| value.len() == algorithm.len())
}

fn enable(hasher: &mut ChecksumHasher, algorithm: ChecksumAlgorithm) {
    match algorithm {
        ChecksumAlgorithm::Crc32 => hasher.crc32 = Some(Crc32::new()),
        ChecksumAlgorithm::Crc32c => hasher.crc32c = Some(Crc32c::new()),
        ChecksumAlgorithm::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
        ChecksumAlgorithm::Sha1 => hasher.sha1 = Some(Sha1::new()),
        ChecksumAlgorithm::Sha256 => hasher.sha256 = Some(Sha256::new()),
        ChecksumAlgorithm::Sha512 => hasher.sha512 = Some(Sha512::new()),
        ChecksumAlgorithm::Md5 => hasher.md5 = Some(Md5::new()),
        ChecksumAlgorithm::Xxhash64 => hasher.xxhash64 = Some(XxHash64::new()),
        ChecksumAlgorithm::Xxhash3 => hasher.xxhash3 = Some(XxHash3::new()),
        ChecksumAlgorithm::Xxhash128 => hasher.xxhash128 = Some(XxHash128::new()),
    }
}

fn computed_sum(sums: &s3s::dto::Checksum, algorithm: ChecksumAlgorithm) -> Option<&str> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => sums.checksum_crc32.as_deref(),
        ChecksumAlgorithm::Crc32c => sums.checksum_crc32c.as_deref(),
        ChecksumAlgorithm::Crc64Nvme => sums.checksum_crc64nvme.as_deref(),
        ChecksumAlgorithm::Sha1 => sums.checksum_sha1.as_deref(),
        ChecksumAlgorithm::Sha256 => sums.checksum_sha256.as_deref(),
        ChecksumAlgorithm::Sha512 => sums.checksum_sha512.as_deref(),
        ChecksumAlgorithm::Md5 => sums.checksum_md5.as_deref(),
        ChecksumAlgorithm::Xxhash64 => sums.checksum_xxhash64.as_deref(),
        ChecksumAlgorithm::Xxhash3 => sums.checksum_xxhash3.as_deref(),
        ChecksumAlgorithm::Xxhash128 => sums.checksum_xxhash128.as_deref(),
    }
}

fn decode(base64: Option<&str>) -> Option<Vec<u8>> {
    BASE64.decode(base64?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn verdict(pairs: &[(&'static str, &str)], body: &[u8]) -> Result<FooterFacts, String> {
        let mut check = BodyCheck::new(&map(pairs), None).map_err(|e| e.to_string())?;
        for piece in body.chunks(3) {
            check.update(piece);
        }
        check.verdict().map_err(|e| e.to_string())
    }

    #[test]
    fn every_algorithm_accepts_its_own_sum_and_no_other() {
        let body = b"The quick brown fox jumps over the lazy dog";
        for algorithm in ChecksumAlgorithm::ALL {
            let mut hasher = ChecksumHasher::default();
            enable(&mut hasher, algorithm);
            hasher.update(body);
            let sum = computed_sum(&hasher.finalize(), algorithm).unwrap().to_owned();
            let name: &'static str = Box::leak(header_name(algorithm).into_boxed_str());
            let facts = verdict(&[(name, &sum)], body).unwrap();
            assert_eq!(BASE64.encode(facts.checksum.unwrap().value()), sum, "{name}");
            assert!(verdict(&[(name, &sum)], b"other").is_err(), "{name}");
        }
    }

    #[test]
    fn content_md5_is_verified() {
        assert!(verdict(&[("content-md5", "XrY7u+Ae7tCTyyK7j1rNww==")], b"hello world").is_ok());
        assert!(verdict(&[("content-md5", "XrY7u+Ae7tCTyyK7j1rNww==")], b"hello worle").is_err());
        assert!(matches!(BodyCheck::new(&map(&[("content-md5", "short")]), None), Err(Error::InvalidDigest)));
    }

    #[test]
    fn documents_are_compared_with_digests_from_elsewhere() {
        for (name, value) in [
            ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
            ("x-amz-checksum-crc32", "NhCmhg=="),
            ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
            ("x-amz-checksum-sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="),
        ] {
            let shown = verify_document(&map(&[(name, value)]), None, b"hello").unwrap();
            assert_eq!(shown.is_some_and(|(shown, same)| shown == name && same == value), name != "content-md5");
            let refusal = verify_document(&map(&[(name, value)]), None, b"hallo").unwrap_err().into_s3();
            assert_eq!(refusal.code().as_str(), "BadDigest", "{name}");
        }
        assert!(verify_document(&map(&[("x-other", "anything")]), None, b"hello").unwrap().is_none());
    }

    #[test]
    fn contradictions_are_refused() {
        let crc = ("x-amz-checksum-crc32", "AAAAAA==");
        assert!(BodyCheck::new(&map(&[crc, ("x-amz-checksum-crc32c", "AAAAAA==")]), None).is_err());
        assert!(BodyCheck::new(&map(&[("x-amz-sdk-checksum-algorithm", "CRC32")]), None).is_err());
        assert!(BodyCheck::new(&map(&[crc, ("x-amz-sdk-checksum-algorithm", "SHA256")]), None).is_err());
        assert!(BodyCheck::new(&map(&[crc, ("x-amz-sdk-checksum-algorithm", "crc32")]), None).is_ok());
        assert!(BodyCheck::new(&map(&[("x-amz-checksum-crc32", "AAAA")]), None).is_err());
        assert!(BodyCheck::new(&map(&[("x-amz-checksum-crc99", "AAAA")]), None).is_err());
        assert!(BodyCheck::new(&map(&[("x-amz-trailer", "x-amz-checksum-crc32")]), None).is_err());
    }
}
