//! Tags of objects: up to ten pairs, kept as the query string that the header `x-amz-tagging` has.

use std::collections::HashSet;

use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::{S3Error, S3ErrorCode, S3Result, dto};

use super::error::custom;
use super::gate::pairs;

/// Tags that one object may have.
const TAGS_MAX: usize = 10;
/// Characters of a tag's key.
const KEY_MAX: usize = 128;
/// Characters of a tag's value.
const VALUE_MAX: usize = 256;

const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Reads the header of an upload; `None` without tags.
///
/// # Errors
/// `InvalidArgument` for a header that is not a query string, `InvalidTag`, `BadRequest` for too many tags.
pub(super) fn from_header(request: &HeaderMap) -> S3Result<Option<String>> {
    let Some(header) = request.get("x-amz-tagging") else { return Ok(None) };
    let header = header.to_str().ok();
    let header = header.ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidArgument, "The tags are malformed."))?;
    checked(pairs(header).collect())
}

/// Reads a document.
///
/// # Errors
/// `MalformedXML`, `InvalidTag`, `BadRequest` for too many tags.
pub(super) fn from_document(tagging: dto::Tagging) -> S3Result<Option<String>> {
    let pair = |tag: dto::Tag| Some((tag.key?, tag.value?));
    let tags: Option<Vec<_>> = tagging.tag_set.into_iter().map(pair).collect();
    checked(tags.ok_or(S3ErrorCode::MalformedXML)?)
}

/// The document of an object's tags.
pub(super) fn document(tags: Option<&str>) -> dto::TagSet {
    parse(tags.unwrap_or_default()).into_iter().map(|(key, value)| dto::Tag { key: Some(key), value: Some(value) }).collect()
}

/// The pairs of a kept query string.
pub(super) fn parse(tags: &str) -> Vec<(String, String)> {
    pairs(tags).collect()
}

fn checked(tags: Vec<(String, String)>) -> S3Result<Option<String>> {
    if tags.len() > TAGS_MAX {
        return Err(custom(StatusCode::BAD_REQUEST, "BadRequest", "Object tags cannot be greater than 10"));
    }
    let mut keys = HashSet::new();
    for (key, value) in &tags {
        let known = |char: char| char.is_alphanumeric() || char.is_whitespace() || "+-=._:/@".contains(char);
        let wrong = if key.is_empty() || key.chars().count() > KEY_MAX || !key.chars().all(known) || key.starts_with("aws:") {
            Some("The TagKey you have provided is invalid")
        } else if value.chars().count() > VALUE_MAX || !value.chars().all(known) {
            Some("The TagValue you have provided is invalid")
        } else if !keys.insert(key) {
            Some("Cannot provide multiple Tags with the same key")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return Err(S3Error::with_message(S3ErrorCode::InvalidTag, wrong));
        }
    }
    let encode = |text: &str| utf8_percent_encode(text, KEPT).to_string();
    let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    Ok((!tags.is_empty()).then(|| tags.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(tags: &str) -> Result<Option<String>, String> {
        let mut request = HeaderMap::new();
        request.insert("x-amz-tagging", tags.parse().unwrap());
        from_header(&request).map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn tags_come_back() {
        assert_eq!(header("").unwrap(), None);
        assert_eq!(from_header(&HeaderMap::new()).unwrap(), None);
        let kept = header("a=1&b=x%2Fy+z&c").unwrap().unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parse(&kept), [pair("a", "1"), pair("b", "x/y z"), pair("c", "")]);
        assert_eq!(document(Some(&kept)).len(), 3);
        assert!(document(None).is_empty());
    }

    #[test]
    fn limits() {
        let many: Vec<String> = (0..11).map(|i| format!("k{i}=v")).collect();
        assert!(header(&many[..10].join("&")).is_ok());
        assert_eq!(header(&many.join("&")), Err("BadRequest".into()));
        assert!(header(&format!("{}={}", "k".repeat(128), "v".repeat(256))).is_ok());
        for wrong in ["=v".to_owned(), "k".repeat(129), format!("k={}", "v".repeat(257)), "k=%7B".into(), "k=1&k=2".into()] {
            assert_eq!(header(&wrong), Err("InvalidTag".into()), "{wrong}");
        }
    }
}
