//! How a request wants an object protected, what it brings to open one, and what an answer says of it: the headers
//! `x-amz-server-side-encryption*` and their twins for the source of a copy. The one place that reads and writes them.
//!
//! Everything is encrypted here, whatever a request says. `AES256` is therefore taken as the wish for encryption that it is, and gets
//! the bucket's own rule. A key of the client's own (SSE-C) is honoured by the gateway itself (FORMAT section 14): it wraps the data key,
//! lives as long as the request, and goes nowhere else.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html>

use data_encoding::BASE64;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use s3s::crypto::{Checksum as _, Md5};
use zeroize::Zeroizing;

use super::{Error, Gateway};
use crate::format::Envelope;
use crate::keys::{Choice, CustomerKey};
use crate::observe::request::ClientLink;

const SSE: &str = "x-amz-server-side-encryption";
const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const CUSTOMER_ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
const CUSTOMER_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";
/// The only algorithm that S3 has for the client's own keys.
const AES256: &str = "AES256";

/// Headers that hold a key of the client's own, without the last part of their names.
const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
const SOURCE_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer-";

/// What a write asks for.
#[derive(Default)]
pub struct Protection {
    pub choice: Choice,
    /// The MD5 of the client's own key as the client wrote it, for the answer. It is not secret: S3 shows it as well.
    customer_md5: Option<HeaderValue>,
}

/// A key that the client brought to open an object.
pub struct Opener {
    pub key: CustomerKey,
    md5: HeaderValue,
}

impl Gateway {
    /// Reads what PutObject, CreateMultipartUpload or CopyObject asks for.
    ///
    /// # Errors
    /// S3's own for what is contradictory or not offered. A key that the configuration does not have is never replaced by another.
    pub(super) fn protection(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Protection, Error> {
        let customer = customer_key(headers, extensions, CUSTOMER)?;
        let sse = text(headers, SSE)?;
        let key_id = text(headers, KEY_ID)?;
        if let Some(Opener { key, md5 }) = customer {
            if sse.is_some() || key_id.is_some() {
                return Err(Error::InvalidArgument(
                    "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
                ));
            }
            return Ok(Protection { choice: Choice::Customer(key), customer_md5: Some(md5) });
        }
        if headers.contains_key(CONTEXT) {
            return Err(Error::NotImplemented(
                "The encryption context is bucket and key here; one of the client's own is not implemented",
            ));
        }
        let per_object = match text(headers, BUCKET_KEY)? {
            None => false,
            Some(wish) if wish.eq_ignore_ascii_case("true") => false,
            Some(wish) if wish.eq_ignore_ascii_case("false") => true,
            Some(_) => return Err(Error::InvalidArgument("The value of the bucket key header is neither true nor false")),
        };
        let label = match (sse, key_id) {
            (None | Some(AES256), None) | (Some("aws:kms"), None) => None,
            (Some("aws:kms"), Some(name)) => Some(self.keys.label_of(name).ok_or(Error::Coded {
                code: "KMS.NotFoundException",
                status: 400,
                text: "Invalid keyId: this gateway has no such key to offer.",
            })?),
            (None | Some(AES256), Some(_)) => {
                return Err(Error::InvalidArgument(
                    "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
                ));
            }
            (Some("aws:kms:dsse"), _) => return Err(Error::NotImplemented("Dual-layer encryption is not implemented")),
            (Some(_), _) => return Err(unknown_method()),
        };
        let choice = if label.is_none() && !per_object { Choice::Rule } else { Choice::Key { label, per_object } };
        Ok(Protection { choice, customer_md5: None })
    }

    /// Says in the answer how the object is encrypted.
    pub(super) fn announce(&self, answer: &mut HeaderMap, envelope: &Envelope, customer_md5: Option<&HeaderValue>) {
        let mut put = |name: &'static str, value: Option<HeaderValue>| {
            if let Some(value) = value {
                answer.insert(HeaderName::from_static(name), value);
            }
        };
        if envelope.flags().customer {
            // No SSE header then, as S3 has it: SDKs that must not take the ETag for an MD5 see it by this one.
            put(CUSTOMER_ALGORITHM, Some(HeaderValue::from_static(AES256)));
            put(CUSTOMER_MD5, customer_md5.cloned());
            answer.remove(SSE);
            return;
        }
        put(SSE, Some(HeaderValue::from_static("aws:kms")));
        put(KEY_ID, HeaderValue::from_str(&self.keys.name_of(envelope.label())).ok());
        put(BUCKET_KEY, envelope.flags().shared.then_some(HeaderValue::from_static("true")));
    }
}

impl Protection {
    /// What the answer shows of the client's own key.
    pub fn customer_md5(&self) -> Option<&HeaderValue> {
        self.customer_md5.as_ref()
    }
}

impl Opener {
    /// The client's own key in a request that reads an object, or sends a part of one.
    ///
    /// # Errors
    /// Headers that are for writes, and a key that is malformed or came over an open line.
    pub fn of_read(headers: &HeaderMap, extensions: &Extensions) -> Result<Option<Self>, Error> {
        if [SSE, KEY_ID, CONTEXT, BUCKET_KEY].iter().any(|name| headers.contains_key(*name)) {
            return Err(Error::InvalidArgument("x-amz-server-side-encryption header is not supported for this operation."));
        }
        customer_key(headers, extensions, CUSTOMER)
    }

    /// The key that opens the source of a copy.
    ///
    /// # Errors
    /// A key that is malformed or came over an open line.
    pub fn of_copy_source(headers: &HeaderMap, extensions: &Extensions) -> Result<Option<Self>, Error> {
        customer_key(headers, extensions, SOURCE_CUSTOMER)
    }

    /// What the answer shows of it.
    pub fn md5(&self) -> &HeaderValue {
        &self.md5
    }
}

/// Reads a key of the client's own: algorithm, key and the MD5 of the key, all three or none.
fn customer_key(headers: &HeaderMap, extensions: &Extensions, family: &str) -> Result<Option<Opener>, Error> {
    let [algorithm, key, md5] = ["algorithm", "key", "key-md5"].map(|part| format!("{family}{part}"));
    if headers.keys().any(|name| name.as_str().starts_with(family) && ![&*algorithm, &*key, &*md5].contains(&name.as_str())) {
        return Err(Error::InvalidArgument("A header about the customer provided key is not one that S3 has"));
    }
    let (algorithm, key, md5) = (text(headers, &algorithm)?, text(headers, &key)?, text(headers, &md5)?);
    if algorithm.is_none() && key.is_none() && md5.is_none() {
        return Ok(None);
    }
    if !extensions.get::<ClientLink>().is_some_and(|link| link.keeps_secrets()) {
        return Err(Error::InvalidRequest(
            "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection.",
        ));
    }
    let algorithm = algorithm.ok_or(Error::InvalidArgument(
        "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.",
    ))?;
    if algorithm != AES256 {
        return Err(unknown_method());
    }
    let key = key.ok_or(Error::InvalidArgument(
        "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.",
    ))?;
    let md5 = md5.ok_or(Error::InvalidArgument(
        "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key.",
    ))?;
    const BAD_KEY: Error = Error::InvalidArgument("The secret key was invalid for the specified algorithm.");
    let bytes = Zeroizing::new(BASE64.decode(key.as_bytes()).map_err(|_| BAD_KEY)?);
    let mine = CustomerKey::new(&bytes).map_err(|_| BAD_KEY)?;
    let mut hash = Md5::new();
    hash.update(&bytes);
    if BASE64.encode(&hash.finalize()) != md5 {
        return Err(Error::InvalidArgument("The calculated MD5 hash of the key did not match the hash that was provided."));
    }
    let md5 = HeaderValue::from_str(md5).map_err(|_| Error::Internal("an MD5 is not a header"))?;
    Ok(Some(Opener { key: mine, md5 }))
}

fn unknown_method() -> Error {
    Error::Coded {
        code: "InvalidEncryptionAlgorithmError",
        status: 400,
        text: "The Encryption request you specified is not valid. Supported value: AES256.",
    }
}

/// A header that may be there once.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(|text| Some(text.trim())).map_err(|_| Error::InvalidArgument("An encryption header is not ASCII"))
        }
        (Some(_), Some(_)) => Err(Error::InvalidArgument("An encryption header is there more than once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [0x41; 32];

    fn md5_of(bytes: &[u8]) -> String {
        let mut hash = Md5::new();
        hash.update(bytes);
        BASE64.encode(&hash.finalize())
    }

    fn read(pairs: &[(&str, &str)], link: Option<ClientLink>) -> Result<Option<Opener>, Error> {
        let headers = pairs
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(format!("{CUSTOMER}{name}").as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let mut extensions = Extensions::new();
        if let Some(link) = link {
            extensions.insert(link);
        }
        Opener::of_read(&headers, &extensions)
    }

    fn refusal(pairs: &[(&str, &str)]) -> String {
        read(pairs, Some(ClientLink::new(true, None))).err().expect("a refusal").into_s3().code().as_str().to_owned()
    }

    #[test]
    fn a_key_is_taken_whole_or_not_at_all() {
        let (key, md5) = (BASE64.encode(&KEY), md5_of(&KEY));
        let whole = [("algorithm", "AES256"), ("key", &*key), ("key-md5", &*md5)];
        let secure = || Some(ClientLink::new(true, None));
        assert!(read(&[], None).unwrap().is_none());
        assert_eq!(read(&whole, secure()).unwrap().unwrap().md5(), &*md5);
        for missing in 0..3 {
            let some: Vec<_> = whole.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, pair)| *pair).collect();
            assert_eq!(refusal(&some), "InvalidArgument", "{some:?}");
        }
        let short = BASE64.encode(&KEY[1..]);
        let short_md5 = md5_of(&KEY[1..]);
        assert_eq!(refusal(&[("algorithm", "AES256"), ("key", &short), ("key-md5", &short_md5)]), "InvalidArgument");
        assert_eq!(refusal(&[("algorithm", "AES256"), ("key", &key), ("key-md5", &short_md5)]), "InvalidArgument");
        assert_eq!(refusal(&[("algorithm", "aws:kms"), ("key", &key), ("key-md5", &md5)]), "InvalidEncryptionAlgorithmError");
        assert_eq!(refusal(&[("algorithm", "AES256"), ("key", "not base64"), ("key-md5", &md5)]), "InvalidArgument");
        assert_eq!(refusal(&[("key-id", "x")]), "InvalidArgument");
    }

    #[test]
    fn a_key_over_an_open_line_is_refused() {
        let (key, md5) = (BASE64.encode(&KEY), md5_of(&KEY));
        let whole = [("algorithm", "AES256"), ("key", &*key), ("key-md5", &*md5)];
        let link = |tls, peer: &str| Some(ClientLink::new(tls, Some(peer.parse().unwrap())));
        for (link, taken) in [
            (None, false),
            (Some(ClientLink::new(false, None)), false),
            (link(false, "192.0.2.7:1"), false),
            (link(false, "127.0.0.1:1"), true),
            (link(false, "[::1]:1"), true),
            (link(true, "192.0.2.7:1"), true),
        ] {
            assert_eq!(read(&whole, link).is_ok(), taken, "{link:?}");
        }
    }
}
