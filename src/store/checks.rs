//! The checksums an upload claims, compared with what arrived.

use bytes::Bytes;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256, Sha512, XxHash3, XxHash64, XxHash128};
use s3s::dto::Checksum;
use s3s::{S3Error, S3ErrorCode};

const PREFIX: &str = "x-amz-checksum-";

struct Algorithm {
    /// As in the header name, after the prefix.
    name: &'static str,
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
    let name = header.strip_prefix(PREFIX)?;
    ALGORITHMS.iter().find(|algorithm| algorithm.name == name)
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
        if self.md5.is_none() && self.checksum.is_none() {
            return;
        }
        for piece in pieces {
            if let Some(md5) = &mut self.md5 {
                md5.update(piece);
            }
            self.hasher.update(piece);
        }
    }

    /// Compares every claim with the content. Returns the name and value of the checksum header that the object keeps.
    ///
    /// # Errors
    /// `BadDigest`, `MalformedTrailerError` and `InvalidRequest`.
    pub(super) fn verdict(self, trailers: Option<&HeaderMap>) -> Result<Option<(String, String)>, S3Error> {
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
        let Some((algorithm, value)) = self.checksum else { return Ok(None) };
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
        Ok(Some((header, claimed)))
    }
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
        claims.verdict(Some(&headers(trailers))).map_err(|error| error.code().as_str().to_owned())
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
