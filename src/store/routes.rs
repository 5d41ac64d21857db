//! Requests that the protocol library would not hand over as they are: those about documents of buckets, and those with a Range
//! header that S3 ignores.

use http::header::{CONTENT_LENGTH, HeaderValue, RANGE};
use http::{Extensions, HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;
use s3s::dto::{Range, StreamingBlob};
use s3s::route::S3Route;
use s3s::{Body, S3ErrorCode, S3Request, S3Response, S3Result};

use super::gate::{inspect, query, strike};
use super::read::{Ask, read};
use super::s3::Front;
use super::subresources::Documents;

/// The two together; no request is of both kinds.
pub(super) struct Routes {
    documents: Documents,
    unusable_range: UnusableRange,
}

impl Routes {
    pub(super) fn new(front: &Front) -> Self {
        Self { documents: Documents(front.clone()), unusable_range: UnusableRange(front.clone()) }
    }
}

#[async_trait::async_trait]
impl S3Route for Routes {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, extensions: &mut Extensions) -> bool {
        self.documents.is_match(method, uri, headers, extensions)
            || self.unusable_range.is_match(method, uri, headers, extensions)
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        if self.documents.is_match(&req.method, &req.uri, &req.headers, &mut req.extensions) {
            self.documents.call(req).await
        } else {
            self.unusable_range.call(req).await
        }
    }
}

/// GetObject and HeadObject with a Range header that S3 ignores (a list of ranges, another unit, nonsense). The protocol library
/// refuses such a header, and it cannot be taken away before the signature is checked, so these requests go their own way.
#[derive(Clone)]
struct UnusableRange(Front);

/// Bucket and key of a path-style request.
fn object_path(uri: &Uri) -> Option<(String, String)> {
    let path = percent_decode_str(uri.path()).decode_utf8().ok()?;
    let (bucket, key) = path.strip_prefix('/')?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then(|| (bucket.to_owned(), key.to_owned()))
}

/// The part that is asked for.
fn part(uri: &Uri) -> S3Result<Option<i32>> {
    let Some((_, part)) = query(uri).find(|(name, _)| name == "partNumber") else { return Ok(None) };
    part.parse().map(Some).map_err(|_| S3ErrorCode::InvalidArgument.into())
}

#[async_trait::async_trait]
impl S3Route for UnusableRange {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        let unusable = |range: &HeaderValue| range.to_str().is_ok_and(|range| Range::parse(range).is_err());
        (method == Method::GET || method == Method::HEAD)
            && headers.get(RANGE).is_some_and(unusable)
            && object_path(uri).is_some()
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let head = req.method == Method::HEAD;
        let operation = if head { "HeadObject" } else { "GetObject" };
        let (bucket, key) = object_path(&req.uri).ok_or(S3ErrorCode::InvalidURI)?;
        inspect(operation, &req.uri, &req.headers)?;
        strike(&self.0.0, operation, &key, &mut req.extensions).await?;
        let ask = Ask {
            bucket: &bucket,
            key: &key,
            uri: &req.uri,
            headers: &req.headers,
            extensions: &req.extensions,
            version: query(&req.uri).find(|(name, _)| name == "versionId").map(|(_, id)| id),
            range: None,
            part: part(&req.uri)?,
            with_body: !head,
        };
        let answer = read(&self.0.0, ask).await?;
        let body = answer.body.map_or_else(Body::empty, |body| StreamingBlob::new(body).into());
        let mut response = S3Response::with_status(body, answer.status);
        response.headers = answer.headers;
        if head {
            // The length of the object is told by the header alone.
            response.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(answer.len));
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_objects() {
        assert_eq!(object_path(&"/b/a%2Fc/".parse().unwrap()), Some(("b".to_owned(), "a/c/".to_owned())));
        assert_eq!(object_path(&"/b/".parse().unwrap()), None);
        assert_eq!(part(&"/b/k?partNumber=7".parse().unwrap()).unwrap(), Some(7));
        assert!(part(&"/b/k?partNumber=x".parse().unwrap()).is_err());
    }
}
