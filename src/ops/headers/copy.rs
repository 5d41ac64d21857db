//! The headers of a copy: what it takes from its source, what from the request, and the conditions on either end.
//!
//! Towards the store every copy replaces the metadata, since the envelope in it is always another. What the client asked for, the
//! source's metadata or its own, is put together here.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>

use http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{Timestamp, TimestampFormat};

use super::{
    DEFAULT_CONTENT_TYPE, EXPECTED_BUCKET_OWNER, REQUEST_PAYER, STORED, add_request_id, carry, carry_conditions, carry_metadata,
    joined, refuse_reserved, stored_encoding, unmark_etags,
};
use crate::crypto::ObjectKeys;
use crate::format::Envelope;
use crate::ops::Error;

const SOURCE_OWNER: &str = "x-amz-source-expected-bucket-owner";
const METADATA_DIRECTIVE: &str = "x-amz-metadata-directive";
const TAGGING_DIRECTIVE: &str = "x-amz-tagging-directive";
const SOURCE_IF_MATCH: &str = "x-amz-copy-source-if-match";
const SOURCE_IF_NONE_MATCH: &str = "x-amz-copy-source-if-none-match";
const SOURCE_IF_MODIFIED_SINCE: &str = "x-amz-copy-source-if-modified-since";
const SOURCE_IF_UNMODIFIED_SINCE: &str = "x-amz-copy-source-if-unmodified-since";
/// What describes the content of an object, apart from user metadata.
pub(super) const CONTENT: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];
/// What may change when an object is copied onto itself.
const CHANGES: [&str; 3] = ["x-amz-storage-class", "x-amz-website-redirect-location", "x-amz-checksum-algorithm"];

/// Whose metadata and content headers a copy gets.
#[derive(Clone, Copy)]
pub enum Stored<'a> {
    /// Directive COPY: those in the source's HEAD, opened where they are sealed.
    FromSource(&'a HeaderMap),
    /// Directive REPLACE.
    FromRequest,
}

/// Whether the request says that metadata is replaced.
///
/// # Errors
/// A directive that S3 does not have.
pub fn replaces_metadata(client: &HeaderMap) -> Result<bool, Error> {
    directive(client, METADATA_DIRECTIVE, "Unknown metadata directive.")
}

/// Whether the request says that tags are replaced.
///
/// # Errors
/// A directive that S3 does not have.
pub fn replaces_tags(client: &HeaderMap) -> Result<bool, Error> {
    directive(client, TAGGING_DIRECTIVE, "Unknown tagging directive.")
}

fn directive(client: &HeaderMap, name: &str, unknown: &'static str) -> Result<bool, Error> {
    match client.get(name).map(HeaderValue::as_bytes) {
        None | Some(b"COPY") => Ok(false),
        Some(b"REPLACE") => Ok(true),
        Some(_) => Err(Error::InvalidArgument(unknown)),
    }
}

/// Whether a copy of an object onto itself changes something, as S3 demands.
pub fn changes_something(client: &HeaderMap, replaces_metadata: bool) -> bool {
    let encryption = |name: &HeaderName| name.as_str().starts_with("x-amz-server-side-encryption");
    replaces_metadata || CHANGES.iter().any(|name| client.contains_key(*name)) || client.keys().any(encryption)
}

/// Headers of the HEAD of the source, as the store gets them. Conditions are not among them: [`judge`] decides those.
pub fn for_source(client: &HeaderMap, extensions: &Extensions) -> HeaderMap {
    let mut out = HeaderMap::new();
    if let Some(owner) = client.get(SOURCE_OWNER) {
        out.insert(HeaderName::from_static(EXPECTED_BUCKET_OWNER), owner.clone());
    }
    carry(client, &mut out, REQUEST_PAYER);
    add_request_id(extensions, &mut out);
    out
}

/// Headers of the copy as the store gets them, apart from what names and pins the source. The envelope is the copy's; metadata of the source
/// are as a client would see them.
///
/// # Errors
/// `MetadataTooLarge`, the reserved entries, and metadata of the source that the store does not show.
pub fn for_copy(
    client: &HeaderMap,
    extensions: &Extensions,
    stored: Stored<'_>,
    (envelope, keys): (&Envelope, &ObjectKeys),
) -> Result<HeaderMap, Error> {
    let mut out = HeaderMap::new();
    for name in STORED.into_iter().filter(|name| !CONTENT.contains(name)) {
        carry(client, &mut out, name);
    }
    for name in [REQUEST_PAYER, TAGGING_DIRECTIVE, SOURCE_OWNER] {
        carry(client, &mut out, name);
    }
    carry_conditions(client, &mut out, &[IF_MATCH, IF_NONE_MATCH])?;
    let from = match stored {
        Stored::FromSource(source) => {
            if source.contains_key("x-amz-missing-meta") {
                return Err(Error::InvalidRequest(
                    "The source has metadata that the store does not show, so it cannot be carried over; use the directive REPLACE",
                ));
            }
            source
        }
        Stored::FromRequest => {
            refuse_reserved(client)?;
            client
        }
    };
    for name in CONTENT {
        if from.contains_key(name) {
            let name = HeaderName::from_static(name);
            let value = joined(from, &name)?;
            out.insert(name, value);
        }
    }
    out.remove(http::header::CONTENT_ENCODING);
    if let Some(encoding) = stored_encoding(from) {
        out.insert(http::header::CONTENT_ENCODING, encoding);
    }
    out.entry(CONTENT_TYPE).or_insert(DEFAULT_CONTENT_TYPE);
    carry_metadata(from, &mut out, envelope, keys)?;
    out.insert(HeaderName::from_static(METADATA_DIRECTIVE), HeaderValue::from_static("REPLACE"));
    add_request_id(extensions, &mut out);
    Ok(out)
}

/// Takes the conditions on the target out, for the request that they belong to.
pub fn take_conditions(headers: &mut HeaderMap) -> HeaderMap {
    let taken = [IF_MATCH, IF_NONE_MATCH].into_iter().filter_map(|name| headers.remove(&name).map(|value| (name, value)));
    taken.collect()
}

/// Makes the headers of a copy those of an upload, and gives back what was about the source.
pub fn as_upload(headers: &mut HeaderMap) -> HeaderMap {
    headers.remove(METADATA_DIRECTIVE);
    headers.remove(TAGGING_DIRECTIVE);
    let name = HeaderName::from_static(SOURCE_OWNER);
    headers.remove(&name).map(|value| (name, value)).into_iter().collect()
}

/// Headers of a HEAD of the target.
pub fn for_target(client: &HeaderMap, extensions: &Extensions) -> HeaderMap {
    let mut out = HeaderMap::new();
    carry(client, &mut out, EXPECTED_BUCKET_OWNER);
    carry(client, &mut out, REQUEST_PAYER);
    add_request_id(extensions, &mut out);
    out
}

/// Binds a request to exactly the source that was looked at.
pub fn pin_source(headers: &mut HeaderMap, etag: &HeaderValue) {
    headers.insert(HeaderName::from_static(SOURCE_IF_MATCH), etag.clone());
}

/// Binds a copy of an object onto itself to the object that was looked at, so that a write that comes between is not undone. The
/// client's own conditions on it are decided here and now, as the object is the one that they are about.
///
/// # Errors
/// `PreconditionFailed`.
pub fn pin_target(headers: &mut HeaderMap, etag: &HeaderValue) -> Result<(), Error> {
    let matches = |name: &HeaderName| headers.get(name).map(|wanted| wanted.to_str().is_ok_and(|tags| names(tags, etag)));
    if matches(&IF_MATCH) == Some(false) || matches(&IF_NONE_MATCH) == Some(true) {
        return Err(failed());
    }
    headers.remove(IF_NONE_MATCH);
    headers.insert(IF_MATCH, etag.clone());
    Ok(())
}

/// Decides the conditions on the source by its HEAD, as S3 combines them.
///
/// # Errors
/// `PreconditionFailed`, and conditions that cannot be read.
pub fn judge(client: &HeaderMap, source: &HeaderMap) -> Result<(), Error> {
    let tag = source.get(ETAG).ok_or(Error::Internal("the store gave no ETag"))?;
    let matches = |name: &'static str| -> Result<Option<bool>, Error> {
        let Some(wanted) = text(client, name)? else { return Ok(None) };
        Ok(Some(names(&unmark_etags(&wanted), tag)))
    };
    let modified_after = |name: &'static str| -> Result<Option<bool>, Error> {
        let Some(date) = text(client, name)? else { return Ok(None) };
        let date = Timestamp::parse(TimestampFormat::HttpDate, &date)
            .map_err(|_| Error::InvalidArgument("A condition on the source of the copy is not a date"))?;
        let modified = source.get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
        let modified = modified.and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok());
        Ok(Some(modified.ok_or(Error::Internal("the store did not say when the source was written"))? > date))
    };
    // A condition on the ETag decides alone where there is one (RFC 9110 section 13.2.2).
    let unchanged = match matches(SOURCE_IF_MATCH)? {
        Some(same) => same,
        None => !modified_after(SOURCE_IF_UNMODIFIED_SINCE)?.unwrap_or(false),
    };
    let changed = match matches(SOURCE_IF_NONE_MATCH)? {
        Some(same) => !same,
        None => modified_after(SOURCE_IF_MODIFIED_SINCE)?.unwrap_or(true),
    };
    if unchanged && changed { Ok(()) } else { Err(failed()) }
}

fn text(client: &HeaderMap, name: &'static str) -> Result<Option<String>, Error> {
    let name = HeaderName::from_static(name);
    if !client.contains_key(&name) {
        return Ok(None);
    }
    let value = joined(client, &name)?;
    value.to_str().map(|text| Some(text.to_owned())).map_err(|_| Error::InvalidArgument("A conditional header is not ASCII"))
}

/// Whether a list of the store's ETags, or `*`, names this one.
fn names(list: &str, etag: &HeaderValue) -> bool {
    let bare = |tag: &str| tag.trim().trim_matches('"').to_owned();
    let Ok(etag) = etag.to_str() else { return false };
    list.split(',').any(|tag| tag.trim() == "*" || bare(tag) == bare(etag))
}

fn failed() -> Error {
    Error::Coded {
        code: "PreconditionFailed",
        status: 412,
        text: "At least one of the pre-conditions you specified did not hold",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::format;
    use crate::ops::headers::tests::{map, sealing};

    fn copied(client: &[(&str, &str)], source: &[(&str, &str)]) -> Result<HeaderMap, Error> {
        let (client, source) = (map(client), map(source));
        let stored = if replaces_metadata(&client)? { Stored::FromRequest } else { Stored::FromSource(&source) };
        let (envelope, keys) = sealing(false);
        for_copy(&client, &Extensions::new(), stored, (&envelope, &keys))
    }

    const SOURCE: [(&str, &str); 9] = [
        ("etag", "\"abc\""),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("expires", "Wed, 21 Oct 2037 07:28:00 GMT"),
        ("x-amz-meta-own", "=?UTF-8?Q?=C3=A9?="),
        ("x-amz-meta-ciphergate", "OLD"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-website-redirect-location", "/old"),
        ("content-length", "240"),
    ];

    fn shown(headers: &HeaderMap) -> Vec<String> {
        assert_eq!(headers[format::HEADER], sealing(false).0.encode());
        let others = headers.iter().filter(|(name, _)| name.as_str() != format::HEADER);
        let mut lines: Vec<_> = others.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn what_is_copied_comes_from_the_source_and_the_rest_from_the_request() {
        let sent = copied(&[("content-type", "ignored/x"), ("x-amz-meta-ignored", "x"), ("x-amz-acl", "private")], &SOURCE);
        assert_eq!(
            shown(&sent.unwrap()),
            [
                "content-encoding: gzip",
                "content-type: text/plain",
                "expires: Wed, 21 Oct 2037 07:28:00 GMT",
                "x-amz-acl: private",
                "x-amz-meta-own: =?UTF-8?Q?=C3=A9?=",
                "x-amz-metadata-directive: REPLACE",
            ]
        );
        let replaced = [
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-meta-mine", "x"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-tagging-directive", "REPLACE"),
            ("x-amz-tagging", "a=b"),
        ];
        assert_eq!(
            shown(&copied(&replaced, &SOURCE).unwrap()),
            [
                "content-type: binary/octet-stream",
                "x-amz-meta-mine: x",
                "x-amz-metadata-directive: REPLACE",
                "x-amz-storage-class: STANDARD_IA",
                "x-amz-tagging-directive: REPLACE",
                "x-amz-tagging: a=b",
            ]
        );
    }

    #[test]
    fn what_cannot_be_carried_is_refused() {
        assert!(matches!(copied(&[], &[("x-amz-missing-meta", "1")]), Err(Error::InvalidRequest(_))));
        assert!(copied(&[("x-amz-metadata-directive", "REPLACE")], &[("x-amz-missing-meta", "1")]).is_ok());
        assert!(matches!(copied(&[("x-amz-metadata-directive", "MOVE")], &[]), Err(Error::InvalidArgument(_))));
        let large = "v".repeat(2048);
        assert!(matches!(copied(&[], &[("x-amz-meta-k", &large)]), Err(Error::MetadataTooLarge { .. })));
        let reserved = [("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-ciphergate", "MINE")];
        assert!(matches!(copied(&reserved, &SOURCE), Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn conditions_on_the_source_are_combined_as_s3_does() {
        let source = map(&[("etag", "\"abc\""), ("last-modified", "Tue, 24 Nov 2026 08:00:00 GMT")]);
        let (before, after) = ("Tue, 24 Nov 2026 07:59:59 GMT", "Tue, 24 Nov 2026 08:00:00 GMT");
        let (same, other) = ("\"abc-0\"", "\"abd-0\"");
        for (conditions, holds) in [
            (vec![], true),
            (vec![("if-match", same)], true),
            (vec![("if-match", "abc-0")], true),
            (vec![("if-match", "\"abd-0\", \"abc-0\"")], true),
            (vec![("if-match", "*")], true),
            (vec![("if-match", other)], false),
            (vec![("if-none-match", same)], false),
            (vec![("if-none-match", "*")], false),
            (vec![("if-none-match", other)], true),
            (vec![("if-unmodified-since", after)], true),
            (vec![("if-unmodified-since", before)], false),
            (vec![("if-modified-since", before)], true),
            (vec![("if-modified-since", after)], false),
            // The two pairs that S3 names.
            (vec![("if-match", same), ("if-unmodified-since", before)], true),
            (vec![("if-none-match", same), ("if-modified-since", before)], false),
            (vec![("if-match", same), ("if-none-match", other)], true),
            (vec![("if-match", same), ("if-modified-since", after)], false),
        ] {
            let names: Vec<_> = conditions.iter().map(|(name, value)| (format!("x-amz-copy-source-{name}"), *value)).collect();
            let client = map(&names.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>());
            assert_eq!(judge(&client, &source).is_ok(), holds, "{names:?}");
        }
        assert!(judge(&map(&[("x-amz-copy-source-if-modified-since", "yesterday")]), &source).is_err());
    }

    #[test]
    fn a_copy_onto_itself_is_bound_to_what_was_read() {
        let etag = HeaderValue::from_static("\"abc\"");
        for (conditions, holds) in [
            (vec![], true),
            (vec![("if-match", "\"abc-0\"")], true),
            (vec![("if-match", "\"abd-0\"")], false),
            (vec![("if-none-match", "*")], false),
            (vec![("if-none-match", "\"abd-0\"")], true),
        ] {
            let mut sent = copied(&conditions, &SOURCE).unwrap();
            assert_eq!(pin_target(&mut sent, &etag).is_ok(), holds, "{conditions:?}");
            if holds {
                assert_eq!((&sent[IF_MATCH], sent.get(IF_NONE_MATCH)), (&etag, None));
            }
        }
    }

    #[test]
    fn something_has_to_change() {
        for (name, changes) in [
            ("x-amz-storage-class", true),
            ("x-amz-website-redirect-location", true),
            ("x-amz-server-side-encryption", true),
            ("x-amz-server-side-encryption-customer-key", true),
            ("x-amz-acl", false),
            ("x-amz-tagging", false),
            ("x-amz-copy-source-server-side-encryption-customer-key", false),
        ] {
            assert_eq!(changes_something(&map(&[(name, "x")]), false), changes, "{name}");
        }
        assert!(changes_something(&HeaderMap::new(), true));
    }
}
