//! Sub-resources of buckets that change nothing in this store: documents that are kept as they come and handed back to the byte.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Extensions, HeaderMap, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use s3s::route::S3Route;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::checks::Claims;
use super::error::custom;
use super::gate::{inspect_with, query, strike};
use super::index::{buckets, documents};
use super::s3::Front;
use super::{Error, Store, acl, blocking};

/// Bytes of a document.
pub(super) const DOCUMENT_MAX: usize = 1024 * 1024;

/// What a GET answers when there is no document.
enum Absent {
    /// A 404 with this code.
    Code(&'static str),
    /// An element of this kind, which says that nothing is set.
    Document(&'static str),
}

/// A kind of document.
struct Kind {
    /// The query parameter.
    name: &'static str,
    /// The names of the operations are a verb and this.
    operation: &'static str,
    /// The element that the document is; JSON has none.
    root: Option<&'static str>,
    absent: Absent,
    /// Whether S3 has an operation to delete it.
    can_be_deleted: bool,
    /// For those that a bucket has many of, told apart by an id: the element that lists them.
    list: Option<&'static str>,
}

impl Kind {
    const fn new(name: &'static str, operation: &'static str, root: &'static str, code: &'static str) -> Self {
        Self { name, operation, root: Some(root), absent: Absent::Code(code), can_be_deleted: true, list: None }
    }

    const fn lasting(name: &'static str, operation: &'static str, root: &'static str, empty: &'static str) -> Self {
        Self { name, operation, root: Some(root), absent: Absent::Document(empty), can_be_deleted: false, list: None }
    }

    const fn many(name: &'static str, operation: &'static str, root: &'static str, list: &'static str) -> Self {
        let absent = Absent::Code("NoSuchConfiguration");
        Self { name, operation, root: Some(root), absent, can_be_deleted: true, list: Some(list) }
    }
}

static KINDS: [Kind; 17] = [
    Kind {
        name: "policy",
        operation: "BucketPolicy",
        root: None,
        absent: Absent::Code("NoSuchBucketPolicy"),
        can_be_deleted: true,
        list: None,
    },
    Kind::new("cors", "BucketCors", "CORSConfiguration", "NoSuchCORSConfiguration"),
    Kind::new("lifecycle", "BucketLifecycleConfiguration", "LifecycleConfiguration", "NoSuchLifecycleConfiguration"),
    Kind::new("tagging", "BucketTagging", "Tagging", "NoSuchTagSet"),
    Kind::new("replication", "BucketReplication", "ReplicationConfiguration", "ReplicationConfigurationNotFoundError"),
    Kind {
        can_be_deleted: true,
        // Every bucket of S3 encrypts, whether it was told to or not.
        ..Kind::lasting(
            "encryption",
            "BucketEncryption",
            "ServerSideEncryptionConfiguration",
            "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>\
             <BucketKeyEnabled>false</BucketKeyEnabled></Rule>",
        )
    },
    Kind::new("publicAccessBlock", "PublicAccessBlock", "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration"),
    Kind::new(acl::OWNERSHIP, "BucketOwnershipControls", "OwnershipControls", "OwnershipControlsNotFoundError"),
    Kind::new("website", "BucketWebsite", "WebsiteConfiguration", "NoSuchWebsiteConfiguration"),
    Kind::lasting("logging", "BucketLogging", "BucketLoggingStatus", ""),
    Kind::lasting("notification", "BucketNotificationConfiguration", "NotificationConfiguration", ""),
    Kind::lasting("accelerate", "BucketAccelerateConfiguration", "AccelerateConfiguration", ""),
    Kind::lasting("requestPayment", "BucketRequestPayment", "RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
    Kind::many("analytics", "BucketAnalyticsConfiguration", "AnalyticsConfiguration", "ListBucketAnalyticsConfigurationResult"),
    Kind::many("inventory", "BucketInventoryConfiguration", "InventoryConfiguration", "ListInventoryConfigurationsResult"),
    Kind::many("metrics", "BucketMetricsConfiguration", "MetricsConfiguration", "ListMetricsConfigurationsResult"),
    Kind::many(
        "intelligent-tiering",
        "BucketIntelligentTieringConfiguration",
        "IntelligentTieringConfiguration",
        "ListBucketIntelligentTieringConfigurationsOutput",
    ),
];

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The documents that S3 gives a new bucket, whose owner is to own its objects in this way.
pub(super) fn of_new_bucket(ownership: &str) -> Vec<(&'static str, String)> {
    let controls = format!("<Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule>");
    let block = "<BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>\
                 <BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets>";
    vec![
        (acl::OWNERSHIP, document("OwnershipControls", &controls)),
        ("publicAccessBlock", document("PublicAccessBlockConfiguration", block)),
    ]
}

fn document(root: &str, content: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">{content}</{root}>")
}

/// The requests about documents.
#[derive(Clone)]
pub(super) struct Documents(pub(super) Front);

/// The bucket of a path-style request that names no key.
fn bucket_path(uri: &Uri) -> Option<String> {
    let path = percent_decode_str(uri.path()).decode_utf8().ok()?;
    let bucket = path.strip_prefix('/')?;
    let bucket = bucket.strip_suffix('/').unwrap_or(bucket);
    (!bucket.is_empty() && !bucket.contains('/')).then(|| bucket.to_owned())
}

fn kind(uri: &Uri) -> Option<&'static Kind> {
    query(uri).find_map(|(name, _)| KINDS.iter().find(|kind| kind.name == name))
}

#[async_trait::async_trait]
impl S3Route for Documents {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        [Method::GET, Method::PUT, Method::DELETE].contains(method) && bucket_path(uri).is_some() && kind(uri).is_some()
    }

    async fn call(&self, mut req: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let bucket = bucket_path(&req.uri).ok_or(S3ErrorCode::InvalidURI)?;
        let kind = kind(&req.uri).ok_or(S3ErrorCode::InvalidURI)?;
        let with_id = [kind.name, "id", "continuation-token"];
        inspect_with(if kind.list.is_some() { &with_id } else { &with_id[..1] }, &req.uri, &req.headers)?;
        let verb = match req.method {
            Method::PUT => "Put",
            Method::DELETE => "Delete",
            _ => "Get",
        };
        strike(&self.0.0, &format!("{verb}{}", kind.operation), "", &mut req.extensions).await?;
        let id = query(&req.uri).find(|(name, _)| name == "id").map(|(_, id)| id);
        match req.method {
            Method::PUT => put(&self.0.0, bucket, kind, id, req).await,
            Method::DELETE => delete(&self.0.0, bucket, kind, id).await,
            _ => get(&self.0.0, bucket, kind, id).await,
        }
    }
}

fn id_of(kind: &Kind, id: Option<String>) -> S3Result<String> {
    match (kind.list, id) {
        (None, _) => Ok(String::new()),
        (Some(_), Some(id)) if !id.is_empty() => Ok(id),
        (Some(_), _) => Err(s3_error!(InvalidArgument, "The id of the configuration is missing.")),
    }
}

fn answer(kind: &Kind, document: Vec<u8>) -> S3Response<Body> {
    let mut response = S3Response::new(Body::from(Bytes::from(document)));
    let media = if kind.root.is_some() { "application/xml" } else { "application/json" };
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

async fn get(store: &Arc<Store>, bucket: String, kind: &'static Kind, id: Option<String>) -> S3Result<S3Response<Body>> {
    let store = Arc::clone(store);
    if let (Some(list), None) = (kind.list, &id) {
        let find = move || store.index.view(|snapshot| documents::all(snapshot, &buckets::find(snapshot, &bucket)?, kind.name));
        let all = blocking(find).await?;
        let mut content = "<IsTruncated>false</IsTruncated>".to_owned();
        all.iter().for_each(|one| content.push_str(without_declaration(&String::from_utf8_lossy(one))));
        return Ok(answer(kind, document(list, &content).into_bytes()));
    }
    let id = id_of(kind, id)?;
    let find = move || store.index.view(|snapshot| documents::get(snapshot, &buckets::find(snapshot, &bucket)?, kind.name, &id));
    match (blocking(find).await?, &kind.absent) {
        (Some(found), _) => Ok(answer(kind, found)),
        (None, Absent::Document(empty)) => Ok(answer(kind, document(kind.root.unwrap_or_default(), empty).into_bytes())),
        (None, Absent::Code(code)) => Err(custom(StatusCode::NOT_FOUND, code, "There is no such configuration.")),
    }
}

async fn put(
    store: &Arc<Store>,
    bucket: String,
    kind: &'static Kind,
    id: Option<String>,
    mut req: S3Request<Body>,
) -> S3Result<S3Response<Body>> {
    let id = id_of(kind, id)?;
    let mut claims = Claims::from_upload(&req.headers)?;
    let body = req.input.store_all_limited(DOCUMENT_MAX).await;
    let body = body.map_err(|error| S3Error::with_source(S3ErrorCode::MaxMessageLengthExceeded, error))?;
    claims.update(std::slice::from_ref(&body));
    claims.verdict(req.trailing_headers.and_then(|trailers| trailers.take()).as_ref())?;
    check_document(kind, &body)?;
    let store = Arc::clone(store);
    let keep = move || {
        store.index.change(|transaction| {
            let bucket = buckets::find(transaction, &bucket)?;
            documents::put(transaction, &bucket, kind.name, &id, &body)
        })
    };
    blocking(keep).await?;
    let quiet = kind.name == "policy" || kind.name == "tagging";
    Ok(S3Response::with_status(Body::empty(), if quiet { StatusCode::NO_CONTENT } else { StatusCode::OK }))
}

async fn delete(store: &Arc<Store>, bucket: String, kind: &'static Kind, id: Option<String>) -> S3Result<S3Response<Body>> {
    if !kind.can_be_deleted {
        return Err(S3ErrorCode::MethodNotAllowed.into());
    }
    let id = id_of(kind, id)?;
    let store = Arc::clone(store);
    let forget = move || {
        store.index.change(|transaction| {
            let was_there = documents::delete(transaction, &buckets::find(transaction, &bucket)?, kind.name, &id)?;
            match (was_there, kind.list) {
                (false, Some(_)) => Err(missing_configuration()),
                _ => Ok(()),
            }
        })
    };
    blocking(forget).await?;
    Ok(S3Response::with_status(Body::empty(), StatusCode::NO_CONTENT))
}

fn missing_configuration() -> Error {
    custom(StatusCode::NOT_FOUND, "NoSuchConfiguration", "The specified configuration does not exist.").into()
}

/// Whether a document is one of its kind, as far as that can be seen without reading it.
fn check_document(kind: &Kind, body: &[u8]) -> S3Result<()> {
    let text = std::str::from_utf8(body).map_err(|_| S3ErrorCode::MalformedXML)?;
    let Some(root) = kind.root else {
        return match serde_json::from_str::<serde_json::Value>(text) {
            Ok(serde_json::Value::Object(_)) => Ok(()),
            _ => Err(s3_error!(MalformedPolicy, "Policies must be valid JSON and the first byte must be '{{'")),
        };
    };
    let element = without_declaration(text);
    let name = element.strip_prefix('<').and_then(|rest| rest.split([' ', '\t', '\r', '\n', '/', '>']).next());
    let closed = element.ends_with(&format!("</{root}>")) || (element.ends_with("/>") && element.matches('<').count() == 1);
    if name == Some(root) && closed { Ok(()) } else { Err(S3ErrorCode::MalformedXML.into()) }
}

fn without_declaration(text: &str) -> &str {
    let text = text.trim_start_matches('\u{FEFF}').trim();
    match text.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")) {
        Some((_, rest)) => rest.trim_start(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_buckets() {
        assert_eq!(bucket_path(&"/box?cors".parse().unwrap()).as_deref(), Some("box"));
        assert_eq!(bucket_path(&"/box/?cors".parse().unwrap()).as_deref(), Some("box"));
        assert_eq!(bucket_path(&"/box/k?tagging".parse().unwrap()), None);
        assert_eq!(bucket_path(&"/?cors".parse().unwrap()), None);
        assert_eq!(kind(&"/box?id=a&metrics".parse().unwrap()).unwrap().name, "metrics");
        assert!(kind(&"/box?versioning".parse().unwrap()).is_none());
    }

    #[test]
    fn documents_are_of_their_kind() {
        let check = |name: &str, body: &str| {
            let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
            check_document(kind, body.as_bytes()).map_err(|error| error.code().as_str().to_owned())
        };
        for good in [
            "<CORSConfiguration/>",
            "<?xml version=\"1.0\"?>\n<CORSConfiguration xmlns=\"x\"><CORSRule/></CORSConfiguration>\n",
            "\u{FEFF}<CORSConfiguration>\n</CORSConfiguration>",
        ] {
            assert_eq!(check("cors", good), Ok(()), "{good}");
        }
        for wrong in ["", "cors", "<CORSConfigurations/>", "<CORSConfiguration>", "<CORSConfiguration><x/>", "<Tagging/>"] {
            assert_eq!(check("cors", wrong), Err("MalformedXML".into()), "{wrong}");
        }
        assert_eq!(check("policy", "{\"Statement\": []}"), Ok(()));
        assert_eq!(check("policy", "[]"), Err("MalformedPolicy".into()));
        for (name, document) in of_new_bucket("BucketOwnerEnforced") {
            assert_eq!(check(name, &document), Ok(()), "{document}");
        }
    }
}
