//! What the headers of a stored object say, before anything is opened.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderMap, HeaderValue};

use super::Error;
use super::aws_client::AwsStored;
use crate::format::{self, Envelope, PlainLen, SealedLen};

/// A stored object as its headers show it: the envelope is well formed and the length is one that the format can have.
pub struct Stored {
    pub envelope: Envelope,
    pub sealed_len: SealedLen,
    pub plain_len: PlainLen,
    /// The store's own ETag, quotes included: what follow-up requests are bound to.
    pub etag: HeaderValue,
    /// As the store names it, where it does.
    pub version_id: Option<String>,
}

impl Stored {
    /// Reads the headers of an answer to GetObject (whole or ranged) or HeadObject.
    ///
    /// # Errors
    /// `Integrity` when there is no envelope, when it is malformed, or when the length has no inverse (FORMAT sections 3 and 8).
    pub fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let text = headers.get(format::HEADER).ok_or_else(|| Error::Integrity("the object has no envelope".into()))?;
        let text = text.to_str().map_err(|e| Error::Integrity(e.into()))?;
        let envelope = Envelope::parse(text)?;
        let sealed_len =
            SealedLen::new(total_len(headers).ok_or(Error::Internal("the store did not say how long the object is"))?);
        let plain_len = sealed_len.plain().ok_or_else(|| Error::Integrity("no sealed object has this length".into()))?;
        let etag = headers.get(ETAG).cloned().ok_or(Error::Internal("the store gave no ETag"))?;
        Ok(Self { envelope, sealed_len, plain_len, etag, version_id: version_of(headers) })
    }
}

/// An object of a bucket that may hold plaintext, which has no envelope.
pub struct Unsealed {
    pub len: u64,
    /// The store's own ETag, quotes included.
    pub etag: HeaderValue,
}

impl Unsealed {
    /// Reads the headers of an answer to GetObject (whole or ranged) or HeadObject.
    ///
    /// # Errors
    /// `Internal` when the store leaves out what every object has.
    pub fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let len = total_len(headers).ok_or(Error::Internal("the store did not say how long the object is"))?;
        let etag = headers.get(ETAG).cloned().ok_or(Error::Internal("the store gave no ETag"))?;
        Ok(Self { len, etag })
    }
}

/// What lies in the store under a name.
pub enum Found {
    Sealed(Stored),
    /// Only in a bucket that may hold such objects.
    Plain(Unsealed),
    /// Only in a bucket whose rule reads such objects.
    AwsClient(AwsStored),
}

/// The version that an answer is about, where the store names one.
pub(super) fn version_of(headers: &HeaderMap) -> Option<String> {
    headers.get("x-amz-version-id").and_then(|id| id.to_str().ok()).map(str::to_owned)
}

/// The whole object's length: the total of a Content-Range, otherwise the Content-Length.
pub(super) fn total_len(headers: &HeaderMap) -> Option<u64> {
    if let Some(range) = headers.get(CONTENT_RANGE) {
        return range.to_str().ok()?.rsplit_once('/')?.1.parse().ok();
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The plaintext bytes a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    /// First and last byte, both included; no last means to the end.
    Span(u64, Option<u64>),
    /// So many bytes from the end.
    Suffix(u64),
}

impl Wanted {
    pub fn new(range: Option<&s3s::dto::Range>) -> Self {
        match range {
            None => Self::Whole,
            Some(s3s::dto::Range::Int { first, last }) => Self::Span(*first, *last),
            Some(s3s::dto::Range::Suffix { length }) => Self::Suffix(*length),
        }
    }

    /// First and last plaintext byte in an object of that length, `None` for the whole object.
    ///
    /// # Errors
    /// `InvalidRange` when no byte of the object is asked for (FORMAT section 9, rule 5).
    pub fn within(self, plain_len: PlainLen) -> Result<Option<(u64, u64)>, Error> {
        self.within_bytes(plain_len.get())
    }

    /// The same for an object that is not sealed.
    pub fn within_bytes(self, len: u64) -> Result<Option<(u64, u64)>, Error> {
        let refuse = Error::InvalidRange { plain_len: len };
        match self {
            Self::Whole => Ok(None),
            Self::Span(first, _) if first >= len => Err(refuse),
            Self::Span(first, last) => Ok(Some((first, last.unwrap_or(u64::MAX).min(len - 1)))),
            Self::Suffix(0) => Err(refuse),
            Self::Suffix(_) if len == 0 => Err(refuse),
            Self::Suffix(length) => Ok(Some((len.saturating_sub(length), len - 1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_or_refused_by_the_plaintext_length() {
        let len = PlainLen::new(10).unwrap();
        assert_eq!(Wanted::Whole.within(len).unwrap(), None);
        assert_eq!(Wanted::Span(0, None).within(len).unwrap(), Some((0, 9)));
        assert_eq!(Wanted::Span(3, Some(u64::MAX)).within(len).unwrap(), Some((3, 9)));
        assert_eq!(Wanted::Span(9, Some(9)).within(len).unwrap(), Some((9, 9)));
        assert_eq!(Wanted::Suffix(3).within(len).unwrap(), Some((7, 9)));
        assert_eq!(Wanted::Suffix(99).within(len).unwrap(), Some((0, 9)));
        for refused in [Wanted::Span(10, None), Wanted::Suffix(0)] {
            assert!(matches!(refused.within(len), Err(Error::InvalidRange { plain_len: 10 })), "{refused:?}");
        }
        assert_eq!(Wanted::Whole.within(PlainLen::new(0).unwrap()).unwrap(), None);
        assert!(Wanted::Span(0, Some(0)).within(PlainLen::new(0).unwrap()).is_err());
        assert!(Wanted::Suffix(1).within(PlainLen::new(0).unwrap()).is_err());
    }

    #[test]
    fn the_total_of_a_ranged_answer_counts() {
        let headers = |pairs: &[(http::HeaderName, &str)]| -> HeaderMap {
            pairs.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).unwrap())).collect()
        };
        assert_eq!(total_len(&headers(&[(CONTENT_LENGTH, "10"), (CONTENT_RANGE, "bytes 0-9/240")])), Some(240));
        assert_eq!(total_len(&headers(&[(CONTENT_LENGTH, "10")])), Some(10));
        assert_eq!(total_len(&headers(&[(CONTENT_RANGE, "bytes 0-9/*"), (CONTENT_LENGTH, "10")])), None);
    }
}
