//! Which headers travel, in which direction, and how they change on the way. The one place that knows.

use data_encoding::BASE64;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, DATE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, SERVER,
    TRANSFER_ENCODING,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};

pub mod copy;
pub mod sealed;

use super::Error;
use super::protection::Protection;
use crate::crypto::ObjectKeys;
use crate::format::{self, Envelope};
use crate::observe::request::RequestRecord;

/// S3's limit for user metadata: names without their prefix plus values, in bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
const METADATA_BYTES_MAX: usize = 2048;
pub const METADATA_PREFIX: &str = "x-amz-meta-";
const EXPECTED_BUCKET_OWNER: &str = "x-amz-expected-bucket-owner";
const REQUEST_PAYER: &str = "x-amz-request-payer";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SSE: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
/// What every answer about an object says of its encryption. Older SDKs for Java read the ETag of a PutObject answer as an MD5
/// unless they see it (FORMAT section 11).
const SSE_KMS: HeaderValue = HeaderValue::from_static("aws:kms");
/// Says on an answer that the object lies unencrypted in the store.
pub const PLAINTEXT_MARK: &str = "x-ciphergate-plaintext";
/// Says on an answer that the object was opened as AWS's own encryption client sealed it, and in which of its formats.
pub const AWS_CLIENT_MARK: &str = "x-ciphergate-aws-client";
/// S3's own default when a client names no type; the SDK's would be another one.
const DEFAULT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("binary/octet-stream");

/// What a write stores beside the object, apart from user metadata.
const STORED: [&str; 17] = [
    "cache-control",
    "content-disposition",
    "content-language",
    "content-type",
    "expires",
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
    EXPECTED_BUCKET_OWNER,
];

/// Headers of a write as the store gets them: everything the client stored, sealed where the envelope says so, the envelope, its conditions.
/// `keys` are those of the object.
///
/// # Errors
/// `MetadataTooLarge`, the reserved entries, and what this gateway does not do. What the request says of encryption does not travel; that
/// somebody has read it shows in the [`Protection`].
pub fn for_write(
    client: &HeaderMap,
    extensions: &Extensions,
    (envelope, keys): (&Envelope, &ObjectKeys),
    _: &Protection,
) -> Result<HeaderMap, Error> {
    let mut out = HeaderMap::new();
    refuse_appending(client)?;
    for name in STORED {
        carry(client, &mut out, name);
    }
    carry(client, &mut out, REQUEST_PAYER);
    carry_conditions(client, &mut out, &[IF_MATCH, IF_NONE_MATCH])?;
    if let Some(encoding) = stored_encoding(client) {
        out.insert(CONTENT_ENCODING, encoding);
    }
    out.entry(CONTENT_TYPE).or_insert(DEFAULT_CONTENT_TYPE);
    refuse_reserved(client)?;
    carry_metadata(client, &mut out, envelope, keys)?;
    add_request_id(extensions, &mut out);
    Ok(out)
}

/// Whether a header holds one of the gateway's own entries of user metadata.
fn is_ours(name: &str) -> bool {
    name == format::HEADER || name == format::METADATA_HEADER
}

fn refuse_reserved(client: &HeaderMap) -> Result<(), Error> {
    match client.keys().any(|name| is_ours(name.as_str())) {
        true => Err(Error::InvalidArgument("The metadata entries 'ciphergate' and 'ciphergate-meta' are reserved")),
        false => Ok(()),
    }
}

/// All user metadata but the reserved entries, and the envelope as one of those. Where the envelope says that metadata are sealed, they and
/// the content headers that are there already become the other.
fn carry_metadata(from: &HeaderMap, to: &mut HeaderMap, envelope: &Envelope, keys: &ObjectKeys) -> Result<(), Error> {
    let envelope_text = envelope.encode();
    let own = format::METADATA_NAME.len() + envelope_text.len();
    let mut bytes = own;
    for name in from.keys().filter(|name| name.as_str().starts_with(METADATA_PREFIX) && !is_ours(name.as_str())) {
        let value = joined(from, name)?;
        bytes += name.as_str().len() - METADATA_PREFIX.len() + plain_len(&value);
        to.insert(name.clone(), encoded_words(value)?);
    }
    if bytes > METADATA_BYTES_MAX {
        return Err(Error::MetadataTooLarge { bytes, max: METADATA_BYTES_MAX });
    }
    if envelope.flags().sealed_metadata {
        sealed::seal(to, envelope, keys, own)?;
    }
    let text = HeaderValue::from_str(&envelope_text).map_err(|_| Error::Internal("envelope is not a header"))?;
    to.insert(HeaderName::from_static(format::HEADER), text);
    Ok(())
}

/// Headers of a CreateMultipartUpload as the store gets them: as [`for_write`], but conditions count when the upload is completed.
///
/// # Errors
/// As [`for_write`].
pub fn for_create(
    client: &HeaderMap,
    extensions: &Extensions,
    sealed_with: (&Envelope, &ObjectKeys),
    protection: &Protection,
) -> Result<HeaderMap, Error> {
    let mut out = for_write(client, extensions, sealed_with, protection)?;
    out.remove(IF_MATCH);
    out.remove(IF_NONE_MATCH);
    Ok(out)
}

/// Headers of a CompleteMultipartUpload as the store gets them: conditions and guards.
///
/// # Errors
/// Conditions that are no header values.
pub fn for_complete(client: &HeaderMap, extensions: &Extensions) -> Result<HeaderMap, Error> {
    let mut out = guards(client, extensions);
    carry_conditions(client, &mut out, &[IF_MATCH, IF_NONE_MATCH])?;
    Ok(out)
}

/// Headers of an AbortMultipartUpload as the store gets them.
pub fn for_abort(client: &HeaderMap, extensions: &Extensions) -> HeaderMap {
    let mut out = guards(client, extensions);
    carry(client, &mut out, "x-amz-if-match-initiated-time");
    out
}

/// Headers for reading the source of a copy, from those of the copy: conditions and guards together, and guards alone.
///
/// # Errors
/// As [`for_read`].
pub fn for_copy_source(client: &HeaderMap, extensions: &Extensions) -> Result<(HeaderMap, HeaderMap), Error> {
    let mut source = HeaderMap::new();
    for (from, to) in [
        ("x-amz-copy-source-if-match", "if-match"),
        ("x-amz-copy-source-if-none-match", "if-none-match"),
        ("x-amz-copy-source-if-modified-since", "if-modified-since"),
        ("x-amz-copy-source-if-unmodified-since", "if-unmodified-since"),
        ("x-amz-source-expected-bucket-owner", EXPECTED_BUCKET_OWNER),
        (REQUEST_PAYER, REQUEST_PAYER),
    ] {
        if let Some(value) = client.get(from) {
            source.insert(HeaderName::from_static(to), value.clone());
        }
    }
    Ok((for_read(&source, extensions)?, guards(&source, extensions)))
}

/// Headers of a read or delete as the store gets them: conditions and guards, never a range (ranges are ours).
///
/// # Errors
/// Conditions that are no header values.
pub fn for_read(client: &HeaderMap, extensions: &Extensions) -> Result<HeaderMap, Error> {
    let mut out = guards(client, extensions);
    for name in ["x-amz-bypass-governance-retention", "x-amz-mfa", "x-amz-if-match-last-modified-time"] {
        carry(client, &mut out, name);
    }
    carry_conditions(client, &mut out, &[IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE])?;
    Ok(out)
}

/// The guards that every operation carries, and the request id.
pub fn guards(client: &HeaderMap, extensions: &Extensions) -> HeaderMap {
    let mut out = HeaderMap::new();
    carry(client, &mut out, EXPECTED_BUCKET_OWNER);
    carry(client, &mut out, REQUEST_PAYER);
    carry(client, &mut out, "x-amz-optional-object-attributes");
    add_request_id(extensions, &mut out);
    out
}

/// Headers of the store's answer as the client sees them. Lengths and checksums of sealed bytes never get through; the caller
/// sets those of the plaintext.
pub fn for_client(store: HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(store.len());
    let mut last = None;
    for (name, value) in store {
        let Some(name) = name.or_else(|| last.clone()) else { continue };
        if is_shown(&name) {
            let value = if name == ETAG { mark_etag(&value) } else { value };
            out.append(name.clone(), value);
        }
        last = Some(name);
    }
    out
}

/// The answer to a read or write of an object: as [`for_client`], and how it is encrypted.
pub fn for_client_object(store: HeaderMap) -> HeaderMap {
    let mut out = for_client(store);
    out.insert(SSE, SSE_KMS);
    out
}

/// The answer to a read of an object that is not sealed: marked, with the store's own ETag, and with what it says of its own encryption.
pub fn for_client_plaintext(store: HeaderMap) -> HeaderMap {
    let mut kept: HeaderMap = store.iter().filter(|(name, _)| is_about_store_encryption(name)).map(owned).collect();
    kept.extend(store.get(ETAG).map(|etag| (ETAG, etag.clone())));
    let mut out = for_client(store);
    out.extend(kept);
    out.insert(HeaderName::from_static(PLAINTEXT_MARK), HeaderValue::from_static("true"));
    out
}

/// Whether a header of an answer is one that was stored beside the object's content and may go with it to another place: content headers,
/// user metadata without the gateway's entries, storage class, redirect.
pub fn is_stored_content(name: &HeaderName) -> bool {
    let text = name.as_str();
    let named = copy::CONTENT.contains(&text) || matches!(text, "x-amz-storage-class" | "x-amz-website-redirect-location");
    named || (text.starts_with(METADATA_PREFIX) && !is_ours(text))
}

/// The answer to a read of an object of AWS's own encryption client: marked with its format, and without the client's fields.
pub fn for_client_of_aws(store: HeaderMap, format: &'static str) -> HeaderMap {
    let mut out = for_client(store);
    drop_aws_fields(&mut out);
    out.insert(HeaderName::from_static(AWS_CLIENT_MARK), HeaderValue::from_static(format));
    out
}

/// Takes out what AWS's own encryption client says of an object beside it.
pub fn drop_aws_fields(headers: &mut HeaderMap) {
    let is_field = |name: &HeaderName| name.as_str().strip_prefix(METADATA_PREFIX).is_some_and(format::is_of_client);
    let fields: Vec<HeaderName> = headers.keys().filter(|name| is_field(name)).cloned().collect();
    for name in fields {
        headers.remove(name);
    }
}

fn owned((name, value): (&HeaderName, &HeaderValue)) -> (HeaderName, HeaderValue) {
    (name.clone(), value.clone())
}

fn is_about_store_encryption(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-amz-server-side-encryption")
}

fn is_shown(name: &HeaderName) -> bool {
    let text = name.as_str();
    let hop_by_hop = [CONNECTION, TRANSFER_ENCODING, DATE, SERVER].contains(name) || text == "keep-alive";
    let about_sealed_bytes = [CONTENT_LENGTH, CONTENT_RANGE].contains(name)
        || text.starts_with("x-amz-checksum-")
        || is_about_store_encryption(name)
        || matches!(text, "content-md5" | "x-amz-mp-parts-count" | "x-amz-object-size");
    let about_that_request = matches!(text, "x-amz-request-id" | "x-amz-id-2" | "x-request-id");
    !(hop_by_hop || about_sealed_bytes || about_that_request || is_ours(text))
}

/// The ETag that clients see: the store's, with "-0" when nothing else shows that it is not an MD5 (FORMAT section 11).
pub fn mark_etag(store: &HeaderValue) -> HeaderValue {
    let bytes = store.as_bytes();
    if bytes.contains(&b'-') {
        return store.clone();
    }
    let marked = match bytes.strip_suffix(b"\"") {
        Some(open) => [open, b"-0\""].concat(),
        None => [bytes, b"-0"].concat(),
    };
    HeaderValue::from_bytes(&marked).unwrap_or_else(|_| store.clone())
}

/// The same for an ETag in a listing.
pub fn mark_etag_text(store: &str) -> String {
    let bare = store.trim_matches('"');
    if bare.contains('-') { bare.to_owned() } else { format!("{bare}-0") }
}

/// The store's ETags in a condition: takes the "-0" off each one.
pub fn unmark_etags(condition: &str) -> String {
    condition
        .split(',')
        .map(|tag| {
            let tag = tag.trim();
            match tag.strip_suffix("-0\"") {
                Some(open) => format!("{open}\""),
                None => tag.strip_suffix("-0").unwrap_or(tag).to_owned(),
            }
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// The validator of an If-Range, in the store's words. Judged here, since the range that the store sees is not the client's.
pub fn if_range(client: &HeaderMap) -> Option<String> {
    let text = client.get(IF_RANGE)?.to_str().ok()?;
    Some(if text.contains('"') { unmark_etags(text) } else { text.to_owned() })
}

/// The value of `response-*` overrides wins over what is stored.
pub fn drop_overridden(headers: &mut HeaderMap, uri: &http::Uri) {
    for (name, _) in overrides(uri) {
        headers.remove(name);
    }
}

/// Puts the `response-*` overrides of the query into the answer.
pub fn apply_overrides(headers: &mut HeaderMap, uri: &http::Uri) -> Result<(), Error> {
    for (name, value) in overrides(uri) {
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| Error::InvalidArgument("A response-* parameter is not a header value"))?;
        headers.insert(name, value);
    }
    Ok(())
}

fn overrides(uri: &http::Uri) -> Vec<(HeaderName, String)> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = match name {
                "response-cache-control" => CACHE_CONTROL,
                "response-content-disposition" => CONTENT_DISPOSITION,
                "response-content-encoding" => CONTENT_ENCODING,
                "response-content-language" => CONTENT_LANGUAGE,
                "response-content-type" => CONTENT_TYPE,
                "response-expires" => EXPIRES,
                _ => return None,
            };
            let value = percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
            Some((name, value))
        })
        .collect()
}

/// `aws-chunked` is framing and never stored; other codings beside it stay, separated as clients write them.
fn stored_encoding(client: &HeaderMap) -> Option<HeaderValue> {
    let kept: Vec<&str> = client
        .get_all(CONTENT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    if kept.is_empty() { None } else { HeaderValue::from_str(&kept.join(", ")).ok() }
}

fn refuse_appending(client: &HeaderMap) -> Result<(), Error> {
    match client.keys().any(|name| name.as_str().starts_with("x-amz-write-offset")) {
        true => Err(Error::NotImplemented("Appending to an object is not implemented")),
        false => Ok(()),
    }
}

fn carry(from: &HeaderMap, to: &mut HeaderMap, name: &'static str) {
    if let Some(value) = from.get(name) {
        to.insert(HeaderName::from_static(name), value.clone());
    }
}

fn carry_conditions(from: &HeaderMap, to: &mut HeaderMap, names: &[HeaderName]) -> Result<(), Error> {
    for name in names {
        if !from.contains_key(name) {
            continue;
        }
        let value = joined(from, name)?;
        let text = value.to_str().map_err(|_| Error::InvalidArgument("A conditional header is not ASCII"))?;
        let value = HeaderValue::from_str(&unmark_etags(text))
            .map_err(|_| Error::InvalidArgument("A conditional header is malformed"))?;
        // Dates hold a comma too; only lists of ETags are rewritten.
        let is_date = [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE].contains(name);
        to.insert(
            name.clone(),
            if is_date {
                HeaderValue::from_str(text).map_err(|_| Error::InvalidArgument("A conditional header is malformed"))?
            } else {
                value
            },
        );
    }
    Ok(())
}

/// Metadata beyond ASCII as RFC 2047 words, which is how S3 answers with it and the one form that all stores understand: some take raw
/// bytes for Latin-1. A word has at most 75 characters, and no character is split between two.
fn encoded_words(value: HeaderValue) -> Result<HeaderValue, Error> {
    const WORD_BYTES: usize = 45;
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Error::InvalidArgument("Metadata must be UTF-8 or RFC 2047"))?;
    if text.is_ascii() {
        return Ok(value);
    }
    let (mut words, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let mut end = rest.len().min(WORD_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        words.push(format!("=?UTF-8?B?{}?=", BASE64.encode(&rest.as_bytes()[..end])));
        rest = &rest[end..];
    }
    HeaderValue::try_from(words.join(" ")).map_err(|_| Error::Internal("encoded words are not a header"))
}

/// Bytes of a metadata value as S3 counts them: in UTF-8, without what RFC 2047 puts around.
fn plain_len(value: &HeaderValue) -> usize {
    let Ok(text) = value.to_str() else { return value.len() };
    let (mut bytes, mut after_word) = (0, true);
    for (index, token) in text.split(' ').enumerate() {
        let word = word_len(token);
        // The space between two words is none.
        bytes += usize::from(index > 0 && !(after_word && word.is_some()));
        bytes += word.unwrap_or(token.len());
        after_word = word.is_some();
    }
    bytes
}

/// Bytes in an encoded word; `None` when it is not one.
fn word_len(token: &str) -> Option<usize> {
    let mut fields = token.strip_prefix("=?")?.strip_suffix("?=")?.split('?');
    let (_charset, coding, text) = (fields.next()?, fields.next()?, fields.next()?);
    match (coding, fields.next()) {
        ("B" | "b", None) => BASE64.decode(text.as_bytes()).ok().map(|bytes| bytes.len()),
        ("Q" | "q", None) => text.len().checked_sub(2 * text.matches('=').count()),
        _ => None,
    }
}

/// Repeated headers count as one with commas (RFC 9110 section 5.3); S3 stores metadata so.
fn joined(from: &HeaderMap, name: &HeaderName) -> Result<HeaderValue, Error> {
    let mut values = from.get_all(name).iter();
    let first = values.next().cloned().unwrap_or(HeaderValue::from_static(""));
    let rest: Vec<_> = values.collect();
    if rest.is_empty() {
        return utf8(first);
    }
    let mut all = first.as_bytes().to_vec();
    for value in rest {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    utf8(HeaderValue::from_bytes(&all).map_err(|_| Error::InvalidArgument("A header is malformed"))?)
}

fn utf8(value: HeaderValue) -> Result<HeaderValue, Error> {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(_) => Ok(value),
        Err(_) => Err(Error::InvalidArgument("Metadata must be UTF-8 or RFC 2047")),
    }
}

fn add_request_id(extensions: &Extensions, headers: &mut HeaderMap) {
    if let Some(value) = extensions.get::<RequestRecord>().and_then(|record| HeaderValue::from_str(record.id().as_str()).ok()) {
        headers.insert(REQUEST_ID, value);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::crypto::{DataKey, KeyEncryptionKey, Suite};
    use crate::format::{EnvelopeFlags, WrapInput};

    /// An envelope of 120 bytes, so of 160 characters, and the keys that it leads to.
    pub(in crate::ops) fn sealing(sealed_metadata: bool) -> (Envelope, ObjectKeys) {
        let kek = KeyEncryptionKey::from_slice(&[1; 32]).unwrap();
        let input = WrapInput {
            suite: Suite::ChaCha20Poly1305,
            flags: EnvelopeFlags { sealed_metadata, ..EnvelopeFlags::default() },
            label: "k".parse().unwrap(),
            salt: [2; 32],
            kms_blob: vec![3],
            scope: "s",
            key: "k",
        };
        Envelope::wrap(&kek, input, &DataKey::from_bytes([4; 32].into())).unwrap()
    }

    pub(in crate::ops) fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn write(pairs: &[(&str, &str)]) -> Result<HeaderMap, Error> {
        let (envelope, keys) = sealing(false);
        for_write(&map(pairs), &Extensions::new(), (&envelope, &keys), &Protection::default())
    }

    #[test]
    fn an_etag_that_could_be_an_md5_is_marked_and_unmarked() {
        let md5 = "\"d41d8cd98f00b204e9800998ecf8427e\"";
        let marked = mark_etag(&HeaderValue::from_str(md5).unwrap());
        assert_eq!(marked, "\"d41d8cd98f00b204e9800998ecf8427e-0\"");
        assert_eq!(unmark_etags(marked.to_str().unwrap()), md5);
        let parts = HeaderValue::from_static("\"d41d8cd98f00b204e9800998ecf8427e-10\"");
        assert_eq!(mark_etag(&parts), parts);
        assert_eq!(unmark_etags(parts.to_str().unwrap()), parts.to_str().unwrap());
        assert_eq!(mark_etag_text("\"abc\""), "abc-0");
        assert_eq!(mark_etag_text("abc-2"), "abc-2");
    }

    #[test]
    fn conditions_reach_the_store_in_its_own_words() {
        assert_eq!(unmark_etags("*"), "*");
        assert_eq!(unmark_etags("\"a-0\", W/\"b-0\", \"c-2\",d-0"), "\"a\", W/\"b\", \"c-2\", d");
        let sent = for_read(
            &map(&[("if-none-match", "\"x-0\""), ("if-modified-since", "Tue, 24 Nov 2026 04:00:00 GMT")]),
            &Extensions::new(),
        )
        .unwrap();
        assert_eq!(sent["if-none-match"], "\"x\"");
        assert_eq!(sent["if-modified-since"], "Tue, 24 Nov 2026 04:00:00 GMT");
    }

    #[test]
    fn framing_is_not_an_encoding() {
        assert!(write(&[("content-encoding", "aws-chunked")]).unwrap().get("content-encoding").is_none());
        assert_eq!(write(&[("content-encoding", "aws-chunked,gzip")]).unwrap()["content-encoding"], "gzip");
        assert_eq!(write(&[("content-encoding", "deflate, aws-chunked, gzip")]).unwrap()["content-encoding"], "deflate, gzip");
        assert_eq!(write(&[("content-encoding", "gzip, br")]).unwrap()["content-encoding"], "gzip, br");
    }

    #[test]
    fn metadata_travels_raw_or_as_words_and_the_reserved_entry_is_refused() {
        let sent =
            write(&[("x-amz-meta-a", "=?UTF-8?Q?=C3=A9?="), ("x-amz-meta-b", "1"), ("x-amz-meta-b", "2"), ("x-amz-meta-u", "é")])
                .unwrap();
        assert_eq!(sent["x-amz-meta-a"], "=?UTF-8?Q?=C3=A9?=");
        assert_eq!(sent["x-amz-meta-b"], "1,2");
        assert_eq!(sent["x-amz-meta-u"], "=?UTF-8?B?w6k=?=");
        assert_eq!(sent[format::HEADER], sealing(false).0.encode());
        assert_eq!(sent["content-type"], "binary/octet-stream");
        for reserved in ["X-Amz-Meta-CipherGate", "x-amz-meta-CIPHERGATE-meta"] {
            assert!(matches!(write(&[(reserved, "x")]), Err(Error::InvalidArgument(_))), "{reserved}");
        }
    }

    #[test]
    fn long_metadata_becomes_words_of_whole_characters() {
        for text in ["é".repeat(100), "a鍵".repeat(40), "🔑".repeat(30), format!("{}é", "a".repeat(44))] {
            let sent = write(&[("x-amz-meta-u", &text)]).unwrap();
            let mut back = String::new();
            for word in sent["x-amz-meta-u"].to_str().unwrap().split(' ') {
                assert!(word.len() <= 75, "{word}");
                let bytes =
                    BASE64.decode(word.strip_prefix("=?UTF-8?B?").unwrap().strip_suffix("?=").unwrap().as_bytes()).unwrap();
                back.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            assert_eq!(back, text);
        }
    }

    #[test]
    fn metadata_is_counted_in_utf8() {
        for (value, bytes) in [
            ("plain text", 10),
            ("", 0),
            ("=?UTF-8?Q?caf=C3=A9?=", 5),
            ("=?UTF-8?B?w6k=?=", 2),
            ("=?UTF-8?B?w6k=?= =?UTF-8?B?w6k=?=", 4),
            ("a =?UTF-8?B?w6k=?= b", 6),
            ("=?UTF-8?B?!?=", 13),
            ("=?no word?=", 11),
        ] {
            assert_eq!(plain_len(&HeaderValue::from_str(value).unwrap()), bytes, "{value}");
        }
        assert_eq!(plain_len(&HeaderValue::from_bytes("é".as_bytes()).unwrap()), 2);
        let room = METADATA_BYTES_MAX - "ciphergate".len() - 160 - "k".len();
        assert!(write(&[("x-amz-meta-k", &"é".repeat(room / 2))]).is_ok());
        assert!(matches!(write(&[("x-amz-meta-k", &"é".repeat(room / 2 + 1))]), Err(Error::MetadataTooLarge { .. })));
    }

    #[test]
    fn a_plaintext_object_is_marked_and_keeps_what_the_store_says_of_it() {
        let store = [
            ("etag", "\"d41d8cd98f00b204e9800998ecf8427e\""),
            ("content-length", "5"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-meta-a", "b"),
        ];
        let shown = for_client_plaintext(map(&store));
        assert_eq!(shown["etag"], "\"d41d8cd98f00b204e9800998ecf8427e\"");
        assert_eq!(
            (&shown[PLAINTEXT_MARK], &shown["x-amz-server-side-encryption"]),
            (&"true".parse().unwrap(), &"AES256".parse().unwrap())
        );
        assert!(!shown.contains_key("content-length"));
    }

    #[test]
    fn metadata_that_does_not_fit_beside_the_envelope_is_refused() {
        let room = METADATA_BYTES_MAX - "ciphergate".len() - 160 - "k".len();
        assert!(write(&[("x-amz-meta-k", &"v".repeat(room))]).is_ok());
        assert!(matches!(write(&[("x-amz-meta-k", &"v".repeat(room + 1))]), Err(Error::MetadataTooLarge { .. })));
    }

    #[test]
    fn nothing_about_sealed_bytes_reaches_the_client() {
        let shown = for_client_object(map(&[
            ("content-length", "240"),
            ("content-range", "bytes 0-1/240"),
            ("etag", "\"abc\""),
            ("x-amz-meta-ciphergate", "secret"),
            ("x-amz-meta-ciphergate-meta", "secret"),
            ("x-amz-meta-own", "kept"),
            ("x-amz-checksum-crc64nvme", "AAAA"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn"),
            ("x-amz-request-id", "theirs"),
            ("x-amz-version-id", "v1"),
            ("date", "today"),
        ]));
        let mut names: Vec<_> = shown.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["etag", "x-amz-meta-own", "x-amz-server-side-encryption", "x-amz-version-id"]);
        assert_eq!(shown["x-amz-server-side-encryption"], "aws:kms");
    }

    #[test]
    fn what_is_said_of_encryption_stays_here() {
        let said = [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "x"),
            ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption-customer-key", "secret"),
            ("x-amz-server-side-encryption-customer-key-md5", "secret"),
            ("x-amz-copy-source-server-side-encryption-customer-key", "secret"),
        ];
        let source = map(&[("etag", "\"x\""), ("x-amz-server-side-encryption", "AES256")]);
        let (envelope, keys) = sealing(false);
        let copied = |stored| copy::for_copy(&map(&said), &Extensions::new(), stored, (&envelope, &keys)).unwrap();
        for sent in [
            write(&said).unwrap(),
            for_read(&map(&said), &Extensions::new()).unwrap(),
            guards(&map(&said), &Extensions::new()),
            copied(copy::Stored::FromSource(&source)),
            copied(copy::Stored::FromRequest),
            copy::for_source(&map(&said), &Extensions::new()),
        ] {
            assert!(!sent.keys().any(|name| name.as_str().contains("encryption")), "{sent:?}");
        }
    }

    #[test]
    fn overrides_are_read_from_the_query() {
        let uri: http::Uri = "/b/k?response-content-type=text%2Fplain&response-cache-control=no+store".parse().unwrap();
        let mut headers = map(&[("content-type", "a/b")]);
        apply_overrides(&mut headers, &uri).unwrap();
        assert_eq!(headers["content-type"], "text/plain");
        assert_eq!(headers["cache-control"], "no store");
        drop_overridden(&mut headers, &uri);
        assert!(headers.is_empty());
    }
}
