//! The headers an object keeps, byte for byte as they were received.

use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, HeaderName, HeaderValue,
};
use s3s::{S3Error, S3ErrorCode};

/// User metadata that one object may carry, names (without `x-amz-meta-`) and values together, in bytes.
const METADATA_MAX: usize = 2048;

const METADATA: &str = "x-amz-meta-";

/// Kept as they come. The encryption headers are kept and answered although the store encrypts nothing, so that a client that
/// asks for encryption at rest can be developed against it.
const KEPT: [HeaderName; 6] = [CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, WEBSITE_REDIRECT];
const KEPT_AMZ: [&str; 4] = [
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    TAGGING,
];
const WEBSITE_REDIRECT: HeaderName = HeaderName::from_static("x-amz-website-redirect-location");
const TAGGING: &str = "x-amz-tagging";

/// Request headers whose meaning the store does not implement: silently dropping one would drop a guarantee.
const UNKNOWN: [&str; 6] = [
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-write-offset-bytes",
];

/// Headers of a stored object: lower-case names, raw values, checksums of the content among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stored(Vec<(String, Vec<u8>)>);

impl Stored {
    /// Takes from an upload what the object keeps.
    ///
    /// # Errors
    /// `MetadataTooLarge`, and `NotImplemented` for a header whose meaning the store does not know.
    pub(super) fn from_upload(request: &HeaderMap) -> Result<Self, S3Error> {
        refuse_unknown(request)?;
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

    /// Writes the headers of an answer. Checksums of the content are only for those who ask.
    pub(super) fn answer(&self, headers: &mut HeaderMap, with_checksums: bool) {
        for (name, value) in &self.0 {
            if name == TAGGING {
                let count = value.split(|&byte| byte == b'&').filter(|tag| !tag.is_empty()).count();
                headers.insert("x-amz-tagging-count", HeaderValue::from(count));
            } else if with_checksums || !name.starts_with("x-amz-checksum-") {
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

fn refuse_unknown(request: &HeaderMap) -> Result<(), S3Error> {
    if let Some(name) = UNKNOWN.iter().find(|name| request.contains_key(**name)) {
        return Err(S3Error::with_message(S3ErrorCode::NotImplemented, format!("The header {name} is not implemented.")));
    }
    let grant = request.keys().any(|name| name.as_str().starts_with("x-amz-grant-"));
    let acl = request.get("x-amz-acl").is_some_and(|acl| acl != "private" && acl != "bucket-owner-full-control");
    if grant || acl {
        return Err(S3ErrorCode::AccessControlListNotSupported.into());
    }
    Ok(())
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
            ("x-amz-tagging", b"a=1&b=2"),
            ("x-unrelated", b"dropped"),
        ];
        let stored = Stored::from_upload(&request(headers)).unwrap();
        assert_eq!(Stored::decode(&stored.encode()).unwrap(), stored);
        let mut answer = HeaderMap::new();
        stored.answer(&mut answer, false);
        for (name, value) in &headers[..6] {
            assert_eq!(answer.get(*name).unwrap().as_bytes(), *value);
        }
        assert_eq!(answer.get("x-amz-tagging-count").unwrap(), "2");
        assert_eq!(answer.len(), 7);
        assert!(Stored::decode(&stored.encode()[..20]).is_none());
    }

    #[test]
    fn checksums_are_for_those_who_ask() {
        let mut stored = Stored::default();
        stored.push("x-amz-checksum-crc32", b"AAAAAA==");
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
        let error = Stored::from_upload(&request(&[("x-amz-object-lock-mode", b"GOVERNANCE")])).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::NotImplemented);
        let error = Stored::from_upload(&request(&[("x-amz-acl", b"public-read")])).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::AccessControlListNotSupported);
        assert!(Stored::from_upload(&request(&[("x-amz-acl", b"private")])).is_ok());
    }
}
