//! Content headers and user metadata that lie sealed beside an object (FORMAT section 15): taken out of what is sent to the store, and put
//! into what the store answers.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::copy::CONTENT;
use super::{METADATA_BYTES_MAX, METADATA_PREFIX};
use crate::crypto::ObjectKeys;
use crate::format::{self, Envelope, Field, Metadata};
use crate::ops::Error;

/// What the store and its owner see.
const NEUTRAL_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Takes everything out of the headers of a write that can be sealed, and puts the sealed entry in its place. `beside` is the length of what
/// else counts as user metadata.
///
/// # Errors
/// `MetadataTooLarge`.
pub(super) fn seal(sent: &mut HeaderMap, envelope: &Envelope, keys: &ObjectKeys, beside: usize) -> Result<(), Error> {
    let mut metadata = Metadata::default();
    for name in sealed_names(sent) {
        let Some(value) = sent.remove(&name) else { continue };
        let field = match name.as_str().strip_prefix(METADATA_PREFIX) {
            Some(name) => Field::User(name.to_owned()),
            None => Field::of_content(name.as_str()).ok_or(Error::Internal("a content header has no place"))?,
        };
        let cannot = |_| Error::InvalidArgument("The name of a metadata entry, or its value, is not one that can be kept");
        metadata.add(field, value.as_bytes()).map_err(cannot)?;
    }
    let bytes = beside + format::METADATA_ENTRY.len() + metadata.text_len();
    if bytes > METADATA_BYTES_MAX {
        return Err(Error::MetadataTooLarge { bytes, max: METADATA_BYTES_MAX });
    }
    let text = metadata.seal(keys, envelope).map_err(|_| Error::Internal("metadata that fit cannot be sealed"))?;
    let text = HeaderValue::try_from(text).map_err(|_| Error::Internal("sealed metadata are not a header"))?;
    sent.insert(HeaderName::from_static(format::METADATA_HEADER), text);
    sent.insert(CONTENT_TYPE, NEUTRAL_TYPE);
    Ok(())
}

/// Puts opened metadata in the place of whatever the store answers: nothing else that an entry could hold is the object's.
///
/// # Errors
/// Names and values that are no header's.
pub fn show(shown: &mut HeaderMap, metadata: &Metadata) -> Result<(), Error> {
    shown.remove(format::METADATA_HEADER);
    for name in sealed_names(shown) {
        shown.remove(name);
    }
    for (field, value) in metadata.iter() {
        let name = HeaderName::try_from(field.header()).map_err(|e| Error::Integrity(e.into()))?;
        shown.insert(name, HeaderValue::from_bytes(value).map_err(|e| Error::Integrity(e.into()))?);
    }
    Ok(())
}

/// The names of what belongs into an entry.
fn sealed_names(headers: &HeaderMap) -> Vec<HeaderName> {
    let belongs = |name: &&HeaderName| {
        let text = name.as_str();
        CONTENT.contains(&text) || (text.starts_with(METADATA_PREFIX) && !super::is_ours(text))
    };
    headers.keys().filter(belongs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::headers::tests::{map, sealing};

    #[test]
    fn what_is_sealed_is_shown_again_and_nothing_else_is() {
        let (envelope, keys) = sealing(true);
        let original = map(&[
            ("content-type", "text/plain"),
            ("cache-control", "no-cache"),
            ("expires", "0"),
            ("x-amz-meta-a", "=?UTF-8?B?w6k=?="),
            ("x-amz-meta-", "without a name"),
            ("x-amz-meta-!#$%&'*+-.^_`|~", "of all kinds"),
        ]);
        let mut sent = original.clone();
        sent.extend(map(&[("x-amz-storage-class", "STANDARD_IA"), ("x-amz-tagging", "a=b"), (format::HEADER, "ENVELOPE")]));
        seal(&mut sent, &envelope, &keys, 0).unwrap();
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", format::HEADER, format::METADATA_HEADER, "x-amz-storage-class", "x-amz-tagging"]);
        assert_eq!(sent[CONTENT_TYPE], "application/octet-stream");

        let metadata = Metadata::open(&keys, envelope.salt(), sent[format::METADATA_HEADER].to_str().unwrap()).unwrap();
        // What whoever owns the bucket has put there.
        sent.extend(map(&[("x-amz-meta-b", "theirs"), ("content-encoding", "gzip"), ("content-type", "text/html")]));
        show(&mut sent, &metadata).unwrap();
        for kept in ["x-amz-storage-class", "x-amz-tagging", format::HEADER] {
            assert!(sent.remove(kept).is_some(), "{kept}");
        }
        assert_eq!(sent, original);
    }

    #[test]
    fn what_does_not_fit_beside_the_envelope_is_refused() {
        let (envelope, keys) = sealing(true);
        let with = |value: usize, beside: usize| {
            seal(&mut map(&[("x-amz-meta-k", &"v".repeat(value))]), &envelope, &keys, beside).is_ok()
        };
        // An envelope of 406 characters and its name leave 18 units, of which kind and lengths take 6.
        assert!(with(18 * 64 - 6, 416) && !with(18 * 64 - 5, 416));
        assert!(with(19 * 64 - 6, 308) && !with(19 * 64 - 5, 308));
        assert!(with(21 * 64 - 6, 196) && !with(21 * 64 - 5, 196));
    }
}
