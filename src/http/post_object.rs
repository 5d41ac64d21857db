//! PostObject: a browser's form upload. Once its policy is proven, it is a PutObject like any other.
//!
//! What the form says in fields becomes the headers of an upload, so that every rule of uploads holds for forms too; only the answer
//! is another one. <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{PostResponse, Tagging};
use s3s::region::Region;
use s3s::service::S3Service;
use s3s::xml::{Deserialize as _, Deserializer, Serialize as _, Serializer};
use s3s::{Body, S3Error, S3ErrorCode, S3Result, s3_error};
use time::OffsetDateTime;

use super::address::{Scheme, object_address};
use super::form::{Form, read_form};
use super::route::{Classified, classify, object_path};
use crate::auth::Gate;
use crate::auth::policy::Upload;
use crate::observe::request::RequestRecord;
use crate::ops::{Access, AccessRules};

/// Fields that are headers of an upload by the same name. Those that begin with `x-amz-` are, too.
const HEADER_FIELDS: [&str; 7] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-md5", "content-type", "expires"];
/// What stays as it is in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Fields that begin like headers and prove the form instead.
const PROOF_FIELDS: [&str; 4] = ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];

/// Serves forms for one worker.
#[derive(Clone)]
pub(super) struct Forms {
    pub gate: Gate,
    /// The only region that signatures may name; `None` accepts any.
    pub region: Option<Region>,
    /// Which buckets hold plaintext.
    pub access: Arc<AccessRules>,
    /// The typed operations without authentication.
    pub inner: S3Service,
}

impl Forms {
    /// Serves a request that [`classify`] took for a form upload.
    pub async fn call(&self, req: http::Request<Body>, classified: &Classified) -> S3Result<http::Response<Body>> {
        let Some(bucket) = classified.target.bucket() else { return Err(S3Error::new(S3ErrorCode::InternalError)) };
        if self.access.of(bucket) == Access::Plaintext {
            return Err(s3_error!(
                NotImplemented,
                "Form uploads into a bucket that holds plaintext are not supported by this gateway."
            ));
        }
        let (parts, body) = req.into_parts();
        if classified.presigned || parts.headers.contains_key(header::AUTHORIZATION) {
            return Err(s3_error!(
                InvalidArgument,
                "Only one auth mechanism allowed; a form is signed by its fields, not by a header or the query."
            ));
        }
        let Form { mut fields, file } = read_form(&parts.headers, body).await?;
        let now = OffsetDateTime::now_utc();
        let (caller, policy) = self.gate.admit_form(&fields, self.region.as_ref(), now).await?;
        if let Some(record) = parts.extensions.get::<RequestRecord>() {
            record.set_caller(caller.name());
        }
        fields.retain(|(name, value)| name != "bucket" || value != bucket);
        if fields.iter().any(|(name, _)| name == "bucket") {
            return Err(s3_error!(InvalidArgument, "The field 'bucket' names another bucket than the one the form was sent to."));
        }
        let upload = Upload { fields: &fields, bucket, file_len: file.len() };
        policy.check(upload, now).map_err(|err| err.to_s3_error())?;

        let form = Form { fields, file };
        let key = form.field("key").map(str::to_owned).ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields."
            )
        })?;
        if key.is_empty() {
            return Err(S3Error::new(S3ErrorCode::UserKeyMustBeSpecified));
        }
        let reply = Reply::of(&form, bucket, &key, &parts.uri, &parts.headers, parts.extensions.get::<Scheme>().copied());
        let uri: Uri = object_path(bucket, &key).parse().map_err(|_| S3Error::new(S3ErrorCode::InvalidURI))?;
        let headers = upload_headers(&form, &parts.headers)?;
        let upload = classify(&Method::PUT, &uri, &headers);
        if !upload.is_sealed("PutObject") {
            return Err(match upload.verdict {
                Err(refusal) => refusal.to_s3_error(),
                Ok(_) => s3_error!(InvalidArgument, "A form can only upload its file."),
            });
        }
        let mut put = http::Request::new(Body::http_body(form.file));
        *put.method_mut() = Method::PUT;
        *put.uri_mut() = uri;
        *put.headers_mut() = headers;
        *put.extensions_mut() = parts.extensions;
        put.extensions_mut().insert(caller);
        let answer = self.inner.call(put).await.map_err(|err| {
            tracing::error!(error = %err, "the protocol library gave up on a form");
            S3Error::new(S3ErrorCode::InternalError)
        })?;
        if answer.status().is_success() { reply.to(answer) } else { Ok(answer) }
    }
}

/// The headers of the upload that the form asks for.
fn upload_headers(form: &Form, sent: &HeaderMap) -> S3Result<HeaderMap> {
    let mut out = HeaderMap::new();
    for (name, value) in &form.fields {
        let value = match name.as_str() {
            "acl" => ("x-amz-acl", value.clone()),
            "tagging" => ("x-amz-tagging", tags(value)?),
            name if PROOF_FIELDS.contains(&name) => continue,
            name if HEADER_FIELDS.contains(&name) || name.starts_with("x-amz-") => (name, value.clone()),
            _ => continue,
        };
        let bad = || s3_error!(InvalidArgument, "The field '{name}' cannot be the header that it stands for.");
        let header = HeaderName::try_from(value.0).map_err(|_| bad())?;
        let value = HeaderValue::try_from(value.1).map_err(|_| bad())?;
        if out.insert(header, value).is_some() {
            return Err(s3_error!(InvalidArgument, "The field '{name}' is there in two forms."));
        }
    }
    out.insert(header::CONTENT_LENGTH, HeaderValue::from(form.file.len()));
    if let Some(host) = sent.get(header::HOST) {
        out.insert(header::HOST, host.clone());
    }
    Ok(out)
}

/// Tags are a document in a form and a query in a header.
fn tags(document: &str) -> S3Result<String> {
    let mut reader = Deserializer::new(document.as_bytes());
    let malformed = || S3Error::new(S3ErrorCode::MalformedXML);
    let tagging = Tagging::deserialize(&mut reader).map_err(|_| malformed())?;
    reader.expect_eof().map_err(|_| malformed())?;
    let encode = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let mut pairs = Vec::with_capacity(tagging.tag_set.len());
    for tag in tagging.tag_set {
        let (Some(key), Some(value)) = (tag.key, tag.value) else { return Err(malformed()) };
        pairs.push(format!("{}={}", encode(&key), encode(&value)));
    }
    Ok(pairs.join("&"))
}

/// How a form wants to be answered.
struct Reply {
    redirect: Option<String>,
    status: StatusCode,
    bucket: String,
    key: String,
    location: String,
}

impl Reply {
    fn of(form: &Form, bucket: &str, key: &str, uri: &Uri, headers: &HeaderMap, scheme: Option<Scheme>) -> Self {
        let redirect = form.field("success_action_redirect").or_else(|| form.field("redirect"));
        let status = match form.field("success_action_status") {
            Some("200") => StatusCode::OK,
            Some("201") => StatusCode::CREATED,
            _ => StatusCode::NO_CONTENT,
        };
        // A form that was sent to the bucket's own host finds its object there.
        let location = object_address(scheme, headers, uri.path() == "/", bucket, key);
        Self { redirect: redirect.map(str::to_owned), status, bucket: bucket.to_owned(), key: key.to_owned(), location }
    }

    /// Turns the answer to the upload into the one to the form. Its headers stay.
    fn to(self, answer: http::Response<Body>) -> S3Result<http::Response<Body>> {
        let (mut parts, _) = answer.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        let etag = parts.headers.get(header::ETAG).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let located = self.redirect.as_deref().and_then(|url| redirected(url, &self.bucket, &self.key, &etag));
        let mut body = Body::empty();
        if let Some(location) = located {
            parts.status = StatusCode::SEE_OTHER;
            parts.headers.insert(header::LOCATION, location);
        } else {
            parts.status = self.status;
            if let Ok(location) = HeaderValue::from_str(&self.location) {
                parts.headers.insert(header::LOCATION, location);
            }
            if self.status == StatusCode::CREATED {
                let document = PostResponse { location: &self.location, bucket: &self.bucket, key: &self.key, etag: &etag };
                let mut text = Vec::new();
                let mut xml = Serializer::new(&mut text);
                let written = xml.decl().and_then(|()| document.serialize(&mut xml));
                written.map_err(|err| S3Error::with_source(S3ErrorCode::InternalError, Box::new(err)))?;
                parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
                body = Body::from(text);
            }
        }
        Ok(http::Response::from_parts(parts, body))
    }
}

/// Where the browser goes next: the form's address, and what was stored in its query. `None` for what is no address of a page: S3
/// then answers as if the field were not there.
fn redirected(url: &str, bucket: &str, key: &str, etag: &str) -> Option<HeaderValue> {
    let parsed: Uri = url.parse().ok()?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return None;
    }
    let (page, fragment) = url.split_once('#').map_or((url, None), |(page, fragment)| (page, Some(fragment)));
    let encode = |text| utf8_percent_encode(text, PLAIN);
    let joint = if page.contains('?') { '&' } else { '?' };
    let mut whole = format!("{page}{joint}bucket={}&key={}&etag={}", encode(bucket), encode(key), encode(etag));
    if let Some(fragment) = fragment {
        whole.push('#');
        whole.push_str(fragment);
    }
    HeaderValue::try_from(whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_what_was_stored() {
        let to = |url| redirected(url, "b", "a b/ü", "\"e-0\"").map(|value| value.to_str().unwrap().to_owned());
        let query = "bucket=b&key=a%20b%2F%C3%BC&etag=%22e-0%22";
        assert_eq!(to("https://a.example/done").unwrap(), format!("https://a.example/done?{query}"));
        assert_eq!(to("http://a.example/done?x=1#top").unwrap(), format!("http://a.example/done?x=1&{query}#top"));
        for other in ["", "done", "/done", "javascript:alert(1)", "https://a.example/\r\nx: y", "ftp://a.example/"] {
            assert_eq!(to(other), None, "{other}");
        }
    }

    #[test]
    fn tags_become_a_query() {
        let document = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag><Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>";
        assert_eq!(tags(document).unwrap(), "a%20b=1%262&c=");
        assert_eq!(tags("<Tagging><TagSet></TagSet></Tagging>").unwrap(), "");
        for wrong in ["", "a=b", "<Tagging>", "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>"] {
            assert!(tags(wrong).is_err(), "{wrong}");
        }
    }
}
