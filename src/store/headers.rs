//! The headers an object keeps, byte for byte as they were received.

use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, HeaderName, HeaderValue,
};
use http::{HeaderMap, StatusCode};
use s3s::{S3Error, S3ErrorCode};

use super::error::custom;

/// User metadata that one object may carry, names (without `x-amz-meta-`) and values together, in bytes.
const METADATA_MAX: usize = 2048;

const METADATA: &str = "x-amz-meta-";

/// Kept as they come. The encryption headers are kept and answered although the store encrypts nothing, so that a client that
/// asks for encryption at rest can be developed against it.
const KEPT: [HeaderName; 6] = [CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, WEBSITE_REDIRECT];
const KEPT_AMZ: [&str; 3] = [
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
];
pub(super) const WEBSITE_REDIRECT: HeaderName = HeaderName::from_static("x-amz-website-redirect-location");

/// What the names of the headers of checksums begin with.
const CHECKSUM: &str = "x-amz-checksum-";
/// Whether a checksum is of all bytes or of the checksums of parts.
pub(super) const CHECKSUM_TYPE: &str = "x-amz-checksum-type";

/// Request headers whose meaning the store does not implement: silently dropping one would drop a guarantee.
const UNKNOWN: [&str; 3] =
    ["x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-customer-key", "x-amz-write-offset-bytes"];

/// Headers of a stored object: lower-case names, raw values, checksums of the content among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stored(Vec<(String, Vec<u8>)>);

impl Stored {
    /// Takes from an upload what the object keeps.
    ///
    /// # Errors
    /// `MetadataTooLarge`, `InvalidRedirectLocation`, and `NotImplemented` for a header whose meaning the store does not know.
    pub(super) fn from_upload(request: &HeaderMap) -> Result<Self, S3Error> {
        refuse_unknown(request)?;
        check_redirect(request)?;
        let mut stored = Self::default();
        for name in KEPT.iter().map(HeaderName::as_str).chain(KEPT_AMZ) {
            if let Some(value) = request.get(name) {
                stored.push(name, value.as_bytes());
            }
        }
        if !request.contains_key(CONTENT_TYPE) {
            stored.push(CONTENT_TYPE.as_str(), b"binary/octet-stream");
        }
        if let Some(encoding) = request.get(CONTENT_ENCODING).and_then(content_coding) {
            stored.push(CONTENT_ENCODING.as_str(), &encoding);
        }
        let mut metadata = 0;
        for name in request.keys() {
            let Some(short) = name.as_str().strip_prefix(METADATA).filter(|short| !short.is_empty()) else { continue };
            // The protocol library has refused repeated metadata already.
            let Some(value) = request.get(name) else { continue };
            metadata += short.len() + value.len();
            stored.push(name.as_str(), value.as_bytes());
        }
        if metadata > METADATA_MAX {
            return Err(S3ErrorCode::MetadataTooLarge.into());
        }
        Ok(stored)
    }

    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.to_owned(), value.to_vec()));
    }

    /// What a server-side copy takes over: S3 leaves the redirect and the encryption behind, which belong to one object.
    pub(super) fn copied(&self) -> Self {
        let stays = |name: &str| name == WEBSITE_REDIRECT.as_str() || KEPT_AMZ.contains(&name) || name.starts_with(CHECKSUM);
        Self(self.0.iter().filter(|(name, _)| !stays(name)).cloned().collect())
    }

    /// The headers about encryption and redirection, which a copy takes from its request.
    pub(super) fn of_copy(request: &HeaderMap) -> Result<Self, S3Error> {
        refuse_unknown(request)?;
        check_redirect(request)?;
        let redirect = WEBSITE_REDIRECT;
        let names = [redirect.as_str()].into_iter().chain(KEPT_AMZ);
        let kept = names.filter_map(|name| Some((name.to_owned(), request.get(name)?.as_bytes().to_vec())));
        Ok(Self(kept.collect()))
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The checksums of the content, their type among them.
    pub(super) fn checksums(&self) -> Self {
        Self(self.0.iter().filter(|(name, _)| name.starts_with(CHECKSUM)).cloned().collect())
    }

    /// A header's value, when it is text.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The checksum of the content: the algorithm as in its header, and the value.
    pub(super) fn checksum(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|(name, value)| {
            let algorithm = name.strip_prefix(CHECKSUM).filter(|_| name != CHECKSUM_TYPE)?;
            Some((algorithm, std::str::from_utf8(value).ok()?))
        })
    }

    /// Writes the headers of an answer. Checksums of the content are only for those who ask.
    pub(super) fn answer(&self, headers: &mut HeaderMap, with_checksums: bool) {
        for (name, value) in &self.0 {
            if with_checksums || !name.starts_with(CHECKSUM) {
                // Both were valid headers when they were stored.
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
                    headers.insert(name, value);
                }
            }
        }
    }

    /// For the index: a 2-byte length, the name, a 4-byte length, the value, for each header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            let name_len = u16::try_from(name.len()).expect("the HTTP library bounds header names below 64 KiB");
            let value_len = u32::try_from(value.len()).expect("the HTTP library bounds header values far below 4 GiB");
            bytes.extend_from_slice(&name_len.to_be_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&value_len.to_be_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// The inverse of [`Stored::encode`]; `None` for anything else.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut stored = Self::default();
        while !bytes.is_empty() {
            let (len, rest) = bytes.split_first_chunk::<2>()?;
            let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
            stored.push(std::str::from_utf8(name).ok()?, value);
            bytes = rest;
        }
        Some(stored)
    }
}

/// `aws-chunked` is how the body travelled, not what it is: it goes, other codings stay.
fn content_coding(value: &HeaderValue) -> Option<Vec<u8>> {
    let chunked = |coding: &&[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"aws-chunked");
    let codings: Vec<&[u8]> = value.as_bytes().split(|&byte| byte == b',').collect();
    if !codings.iter().any(chunked) {
        return Some(value.as_bytes().to_vec());
    }
    let left: Vec<&[u8]> = codings.into_iter().filter(|coding| !chunked(coding)).map(<[u8]>::trim_ascii).collect();
    let left = left.join(&b","[..]);
    (!left.is_empty()).then_some(left)
}

/// Whether the store knows the meaning of all headers.
///
/// # Errors
/// `NotImplemented`.
pub(super) fn refuse_unknown(request: &HeaderMap) -> Result<(), S3Error> {
    if let Some(name) = UNKNOWN.iter().find(|name| request.contains_key(**name)) {
        return Err(S3Error::with_message(S3ErrorCode::NotImplemented, format!("The header {name} is not implemented.")));
    }
    Ok(())
}

fn check_redirect(request: &HeaderMap) -> Result<(), S3Error> {
    let Some(target) = request.get(WEBSITE_REDIRECT) else { return Ok(()) };
    let good = ["/", "http://", "https://"].iter().any(|start| target.as_bytes().starts_with(start.as_bytes()));
    if good {
        return Ok(());
    }
    let message = "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    Err(custom(StatusCode::BAD_REQUEST, "InvalidRedirectLocation", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &[u8])]) -> HeaderMap {
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn headers_survive_as_raw_bytes() {
        let headers: &[(&'static str, &[u8])] = &[
            ("content-type", b"text/plain"),
            ("x-amz-meta-plain", b"a b"),
            ("x-amz-meta-utf8", "grün".as_bytes()),
            ("x-amz-meta-latin", b"gr\xFCn"),
            ("x-amz-meta-rfc2047", b"=?UTF-8?B?Z3LDvG4=?="),
            ("x-amz-website-redirect-location", b"/other"),
            ("x-unrelated", b"dropped"),
        ];
        let stored = Stored::from_upload(&request(headers)).unwrap();
        assert_eq!(Stored::decode(&stored.encode()).unwrap(), stored);
        let mut answer = HeaderMap::new();
        stored.answer(&mut answer, false);
        for (name, value) in &headers[..6] {
            assert_eq!(answer.get(*name).unwrap().as_bytes(), *value);
        }
        assert_eq!(answer.len(), 6);
        assert!(Stored::decode(&stored.encode()[..20]).is_none());
    }

    #[test]
    fn checksums_are_for_those_who_ask() {
        let mut stored = Stored::default();
        stored.push("x-amz-checksum-crc32", b"AAAAAA==");
        stored.push(CHECKSUM_TYPE, b"FULL_OBJECT");
        assert_eq!(stored.checksum(), Some(("crc32", "AAAAAA==")));
        assert_eq!(stored.checksums(), stored);
        assert_eq!(stored.copied(), Stored::default());
        for ask in [false, true] {
            let mut answer = HeaderMap::new();
            stored.answer(&mut answer, ask);
            assert_eq!(answer.contains_key("x-amz-checksum-crc32"), ask);
        }
    }

    #[test]
    fn aws_chunked_is_not_stored() {
        let coding = |value: &'static str| content_coding(&HeaderValue::from_static(value));
        assert_eq!(coding("aws-chunked"), None);
        assert_eq!(coding("AWS-Chunked, gzip").unwrap(), b"gzip");
        assert_eq!(coding("gzip,aws-chunked,br").unwrap(), b"gzip,br");
        assert_eq!(coding("gzip, br").unwrap(), b"gzip, br");
    }

    #[test]
    fn limits_and_unknown_headers() {
        let fits = vec![b'x'; METADATA_MAX - 1];
        let large = vec![b'x'; METADATA_MAX];
        assert!(Stored::from_upload(&request(&[("x-amz-meta-n", &fits)])).is_ok());
        let error = Stored::from_upload(&request(&[("x-amz-meta-n", &large)])).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::MetadataTooLarge);
        let error = Stored::from_upload(&request(&[("x-amz-write-offset-bytes", b"7")])).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::NotImplemented);
        let error = Stored::from_upload(&request(&[("x-amz-website-redirect-location", b"elsewhere")])).unwrap_err();
        assert_eq!(error.code().as_str(), "InvalidRedirectLocation");
    }
}
