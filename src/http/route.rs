//! Which way a request goes: the one table that knows every S3 operation.
//!
//! A request is named by its method, what it is aimed at (service, bucket, object), the sub-resource in its query and, for a few,
//! a header. What the table does not know is refused, and so is a query parameter that the operation does not have: S3 clients
//! do not send them, and a parameter that is dropped in silence can turn a harmless request into another one.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri};
use s3s::path::{ParseS3PathError, S3Path};
use s3s::{S3Error, S3ErrorCode, s3_error};

/// Metadata that only the gateway writes. Lower case, as header names arrive.
pub const RESERVED_HEADER: &str = "x-amz-meta-ciphergate";

/// How an operation is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It touches object data or what derives from it: typed, in `ops`.
    Sealed,
    /// It never touches object data: passed to the backend as it is, signed anew.
    Forward,
    /// It is proven, or needs no proof, in a way of its own: answered by the front itself.
    Front,
    /// An operation of S3 that the gateway does not serve (yet): NotImplemented.
    Later,
}

/// What a request is aimed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Service,
    Bucket(Box<str>),
    Object(Box<str>, Box<str>),
}

impl Target {
    /// The bucket, if there is one.
    #[must_use]
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Self::Service => None,
            Self::Bucket(bucket) | Self::Object(bucket, _) => Some(bucket),
        }
    }

    /// The object key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Object(_, key) => Some(key),
            _ => None,
        }
    }
}

/// Why a request is refused without a look at what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    UnknownParameter(Box<str>),
    RepeatedParameter(Box<str>),
    BadParameter { name: Box<str>, why: &'static str },
    ConflictingParameters(Box<str>, Box<str>),
    MethodNotAllowed,
    ReservedMetadata,
    HeaderNotAllowed(&'static str),
    InvalidUri,
    InvalidBucketName,
    KeyTooLong,
    NotAForm,
}

impl Refusal {
    /// The answer to the client.
    #[must_use]
    pub fn to_s3_error(&self) -> S3Error {
        match self {
            Self::UnknownParameter(name) => s3_error!(InvalidArgument, "This operation has no query parameter {name:?}."),
            Self::RepeatedParameter(name) => s3_error!(InvalidArgument, "The query parameter {name:?} is there more than once."),
            Self::BadParameter { name, why } => s3_error!(InvalidArgument, "The query parameter {name:?} {why}."),
            Self::ConflictingParameters(a, b) => s3_error!(InvalidArgument, "Conflicting query string parameters: {a}, {b}"),
            Self::MethodNotAllowed => S3Error::new(S3ErrorCode::MethodNotAllowed),
            Self::ReservedMetadata => s3_error!(InvalidArgument, "The metadata entry {RESERVED_HEADER} is reserved."),
            Self::HeaderNotAllowed(name) => s3_error!(InvalidArgument, "This operation does not take the header {name}."),
            Self::InvalidUri => S3Error::new(S3ErrorCode::InvalidURI),
            Self::InvalidBucketName => S3Error::new(S3ErrorCode::InvalidBucketName),
            Self::KeyTooLong => S3Error::new(S3ErrorCode::KeyTooLongError),
            Self::NotAForm => {
                s3_error!(PreconditionFailed, "Bucket POST must be of the enclosure-type multipart/form-data")
            }
        }
    }
}

/// What a request turned out to be. An extension of the HTTP request (inside an `Arc`).
#[derive(Debug, Clone)]
pub struct Classified {
    /// S3's name of the operation, `Unknown` where there is none.
    pub operation: &'static str,
    pub target: Target,
    /// The way it goes, or why it is refused.
    pub verdict: Result<Way, Refusal>,
    /// The decoded query without what belongs to the signature and without what stands in `hoisted`.
    pub query: Vec<(String, String)>,
    /// `x-amz-*` headers that a presigned URL carries in its query, as S3 lets it. Lower-case names.
    pub hoisted: Vec<(String, String)>,
    /// The signature stands in the query.
    pub presigned: bool,
    /// A browser's form. The protocol library reads the form of any such request before it knows what the request is for, so these
    /// never get there.
    pub form: bool,
}

impl Classified {
    /// Whether the request goes the sealed way to the operation with this name.
    #[must_use]
    pub fn is_sealed(&self, operation: &str) -> bool {
        self.verdict == Ok(Way::Sealed) && self.operation == operation
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Service,
    Bucket,
    Object,
}
use Level::{Bucket, Object, Service};
use Way::{Forward, Front, Later, Sealed};

/// One operation. `sub` are the query parameters that name it, all of them present and no other sub-resource beside them.
struct Row {
    operation: &'static str,
    way: Way,
    method: &'static str,
    level: Level,
    sub: &'static [&'static str],
    /// A header whose presence makes it this operation. Rows with a header come before their plain twins.
    header: Option<&'static str>,
    /// Further query parameters it may carry.
    params: &'static [&'static str],
}

const fn row(
    operation: &'static str,
    way: Way,
    method: &'static str,
    level: Level,
    sub: &'static [&'static str],
    params: &'static [&'static str],
) -> Row {
    Row { operation, way, method, level, sub, header: None, params }
}

const fn with(header: &'static str, mut row: Row) -> Row {
    row.header = Some(header);
    row
}

const VERSION: &[&str] = &["versionId"];
const READ: &[&str] = &[
    "versionId",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];
const LIST_V1: &[&str] = &["delimiter", "encoding-type", "marker", "max-keys", "prefix"];
const LIST_V2: &[&str] =
    &["continuation-token", "delimiter", "encoding-type", "fetch-owner", "max-keys", "prefix", "start-after"];
const NONE: &[&str] = &[];
const TOKEN: &[&str] = &["continuation-token"];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Object data: sealed and opened here.
    with("x-amz-copy-source", row("CopyObject", Sealed, "PUT", Object, NONE, NONE)),
    with("x-amz-write-offset-bytes", row("AppendObject", Later, "PUT", Object, NONE, NONE)),
    row("PutObject", Sealed, "PUT", Object, NONE, NONE),
    row("GetObject", Sealed, "GET", Object, NONE, READ),
    row("HeadObject", Sealed, "HEAD", Object, NONE, READ),
    row("DeleteObject", Sealed, "DELETE", Object, NONE, VERSION),
    row("DeleteObjects", Sealed, "POST", Bucket, &["delete"], NONE),
    row("ListObjects", Sealed, "GET", Bucket, NONE, LIST_V1),
    row("ListObjectsV2", Sealed, "GET", Bucket, &["list-type"], LIST_V2),
    row("CreateMultipartUpload", Sealed, "POST", Object, &["uploads"], NONE),
    with("x-amz-copy-source", row("UploadPartCopy", Sealed, "PUT", Object, &["partNumber", "uploadId"], NONE)),
    row("UploadPart", Sealed, "PUT", Object, &["partNumber", "uploadId"], NONE),
    row("CompleteMultipartUpload", Sealed, "POST", Object, &["uploadId"], NONE),
    row("AbortMultipartUpload", Sealed, "DELETE", Object, &["uploadId"], NONE),
    row("ListParts", Sealed, "GET", Object, &["uploadId"], &["encoding-type", "max-parts", "part-number-marker"]),
    row("ListMultipartUploads", Sealed, "GET", Bucket, &["uploads"],
        &["delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker"]),

    // Object data, of a later stage.
    row("GetObject", Sealed, "GET", Object, &["partNumber"], READ),
    row("HeadObject", Sealed, "HEAD", Object, &["partNumber"], READ),
    row("ListObjectVersions", Sealed, "GET", Bucket, &["versions"],
        &["delimiter", "encoding-type", "key-marker", "max-keys", "prefix", "version-id-marker"]),
    row("GetObjectAttributes", Sealed, "GET", Object, &["attributes"], VERSION),
    row("GetObjectTorrent", Later, "GET", Object, &["torrent"], NONE),
    row("SelectObjectContent", Later, "POST", Object, &["select", "select-type"], NONE),
    row("RestoreObject", Forward, "POST", Object, &["restore"], VERSION),
    row("RenameObject", Later, "PUT", Object, &["renameObject"], NONE),
    row("UpdateObjectEncryption", Later, "PUT", Object, &["encryption"], VERSION),
    row("PutObjectAnnotation", Later, "PUT", Object, &["annotation"], &["annotationName", "versionId"]),
    row("GetObjectAnnotation", Later, "GET", Object, &["annotation"], &["annotationName", "versionId"]),
    row("DeleteObjectAnnotation", Later, "DELETE", Object, &["annotation"], &["annotationName", "versionId"]),
    row("CreateSession", Later, "GET", Bucket, &["session"], NONE),

    // What browsers send: a form, and the question whether a script of another site may send a request. That question is asked about
    // any address with any query, see `judge`.
    row("PostObject", Front, "POST", Bucket, NONE, NONE),
    row("Preflight", Front, "OPTIONS", Bucket, NONE, NONE),
    row("Preflight", Front, "OPTIONS", Object, NONE, NONE),

    // Buckets and what hangs on them.
    row("ListBuckets", Sealed, "GET", Service, NONE, &["bucket-region", "continuation-token", "max-buckets", "prefix"]),
    row("CreateBucket", Forward, "PUT", Bucket, NONE, NONE),
    row("HeadBucket", Forward, "HEAD", Bucket, NONE, NONE),
    row("DeleteBucket", Sealed, "DELETE", Bucket, NONE, NONE),
    row("GetBucketLocation", Forward, "GET", Bucket, &["location"], NONE),
    row("GetBucketAcl", Forward, "GET", Bucket, &["acl"], NONE),
    row("PutBucketAcl", Forward, "PUT", Bucket, &["acl"], NONE),
    row("GetBucketPolicy", Forward, "GET", Bucket, &["policy"], NONE),
    row("PutBucketPolicy", Forward, "PUT", Bucket, &["policy"], NONE),
    row("DeleteBucketPolicy", Forward, "DELETE", Bucket, &["policy"], NONE),
    row("GetBucketPolicyStatus", Forward, "GET", Bucket, &["policyStatus"], NONE),
    row("GetBucketCors", Forward, "GET", Bucket, &["cors"], NONE),
    row("PutBucketCors", Forward, "PUT", Bucket, &["cors"], NONE),
    row("DeleteBucketCors", Forward, "DELETE", Bucket, &["cors"], NONE),
    row("GetBucketLifecycleConfiguration", Forward, "GET", Bucket, &["lifecycle"], NONE),
    row("PutBucketLifecycleConfiguration", Forward, "PUT", Bucket, &["lifecycle"], NONE),
    row("DeleteBucketLifecycle", Forward, "DELETE", Bucket, &["lifecycle"], NONE),
    row("GetBucketVersioning", Forward, "GET", Bucket, &["versioning"], NONE),
    row("PutBucketVersioning", Forward, "PUT", Bucket, &["versioning"], NONE),
    row("GetBucketTagging", Forward, "GET", Bucket, &["tagging"], NONE),
    row("PutBucketTagging", Forward, "PUT", Bucket, &["tagging"], NONE),
    row("DeleteBucketTagging", Forward, "DELETE", Bucket, &["tagging"], NONE),
    row("GetBucketOwnershipControls", Forward, "GET", Bucket, &["ownershipControls"], NONE),
    row("PutBucketOwnershipControls", Forward, "PUT", Bucket, &["ownershipControls"], NONE),
    row("DeleteBucketOwnershipControls", Forward, "DELETE", Bucket, &["ownershipControls"], NONE),
    row("GetPublicAccessBlock", Forward, "GET", Bucket, &["publicAccessBlock"], NONE),
    row("PutPublicAccessBlock", Forward, "PUT", Bucket, &["publicAccessBlock"], NONE),
    row("DeletePublicAccessBlock", Forward, "DELETE", Bucket, &["publicAccessBlock"], NONE),
    row("GetBucketEncryption", Forward, "GET", Bucket, &["encryption"], NONE),
    row("PutBucketEncryption", Forward, "PUT", Bucket, &["encryption"], NONE),
    row("DeleteBucketEncryption", Forward, "DELETE", Bucket, &["encryption"], NONE),
    row("GetBucketLogging", Forward, "GET", Bucket, &["logging"], NONE),
    row("PutBucketLogging", Forward, "PUT", Bucket, &["logging"], NONE),
    row("GetBucketNotificationConfiguration", Forward, "GET", Bucket, &["notification"], NONE),
    row("PutBucketNotificationConfiguration", Forward, "PUT", Bucket, &["notification"], NONE),
    row("GetBucketReplication", Forward, "GET", Bucket, &["replication"], NONE),
    row("PutBucketReplication", Forward, "PUT", Bucket, &["replication"], NONE),
    row("DeleteBucketReplication", Forward, "DELETE", Bucket, &["replication"], NONE),
    row("GetBucketWebsite", Forward, "GET", Bucket, &["website"], NONE),
    row("PutBucketWebsite", Forward, "PUT", Bucket, &["website"], NONE),
    row("DeleteBucketWebsite", Forward, "DELETE", Bucket, &["website"], NONE),
    row("GetBucketAccelerateConfiguration", Forward, "GET", Bucket, &["accelerate"], NONE),
    row("PutBucketAccelerateConfiguration", Forward, "PUT", Bucket, &["accelerate"], NONE),
    row("GetBucketRequestPayment", Forward, "GET", Bucket, &["requestPayment"], NONE),
    row("PutBucketRequestPayment", Forward, "PUT", Bucket, &["requestPayment"], NONE),
    row("GetObjectLockConfiguration", Forward, "GET", Bucket, &["object-lock"], NONE),
    row("PutObjectLockConfiguration", Forward, "PUT", Bucket, &["object-lock"], NONE),
    row("GetBucketInventoryConfiguration", Forward, "GET", Bucket, &["inventory", "id"], NONE),
    row("ListBucketInventoryConfigurations", Forward, "GET", Bucket, &["inventory"], TOKEN),
    row("PutBucketInventoryConfiguration", Forward, "PUT", Bucket, &["inventory", "id"], NONE),
    row("DeleteBucketInventoryConfiguration", Forward, "DELETE", Bucket, &["inventory", "id"], NONE),
    row("GetBucketMetricsConfiguration", Forward, "GET", Bucket, &["metrics", "id"], NONE),
    row("ListBucketMetricsConfigurations", Forward, "GET", Bucket, &["metrics"], TOKEN),
    row("PutBucketMetricsConfiguration", Forward, "PUT", Bucket, &["metrics", "id"], NONE),
    row("DeleteBucketMetricsConfiguration", Forward, "DELETE", Bucket, &["metrics", "id"], NONE),
    row("GetBucketAnalyticsConfiguration", Forward, "GET", Bucket, &["analytics", "id"], NONE),
    row("ListBucketAnalyticsConfigurations", Forward, "GET", Bucket, &["analytics"], TOKEN),
    row("PutBucketAnalyticsConfiguration", Forward, "PUT", Bucket, &["analytics", "id"], NONE),
    row("DeleteBucketAnalyticsConfiguration", Forward, "DELETE", Bucket, &["analytics", "id"], NONE),
    row("GetBucketIntelligentTieringConfiguration", Forward, "GET", Bucket, &["intelligent-tiering", "id"], NONE),
    row("ListBucketIntelligentTieringConfigurations", Forward, "GET", Bucket, &["intelligent-tiering"], TOKEN),
    row("PutBucketIntelligentTieringConfiguration", Forward, "PUT", Bucket, &["intelligent-tiering", "id"], NONE),
    row("DeleteBucketIntelligentTieringConfiguration", Forward, "DELETE", Bucket, &["intelligent-tiering", "id"], NONE),

    // What hangs on an object but is not its data.
    row("GetObjectTagging", Forward, "GET", Object, &["tagging"], VERSION),
    row("PutObjectTagging", Forward, "PUT", Object, &["tagging"], VERSION),
    row("DeleteObjectTagging", Forward, "DELETE", Object, &["tagging"], VERSION),
    row("GetObjectAcl", Forward, "GET", Object, &["acl"], VERSION),
    row("PutObjectAcl", Forward, "PUT", Object, &["acl"], VERSION),
    row("GetObjectRetention", Forward, "GET", Object, &["retention"], VERSION),
    row("PutObjectRetention", Forward, "PUT", Object, &["retention"], VERSION),
    row("GetObjectLegalHold", Forward, "GET", Object, &["legal-hold"], VERSION),
    row("PutObjectLegalHold", Forward, "PUT", Object, &["legal-hold"], VERSION),

    // Known to S3, not passed on: they would open ways around the table (metadata tables describe objects by their sealed sizes).
    row("MetadataConfiguration", Later, "GET", Bucket, &["metadataConfiguration"], NONE),
    row("MetadataConfiguration", Later, "POST", Bucket, &["metadataConfiguration"], NONE),
    row("MetadataConfiguration", Later, "DELETE", Bucket, &["metadataConfiguration"], NONE),
    row("MetadataTable", Later, "GET", Bucket, &["metadataTable"], NONE),
    row("MetadataTable", Later, "POST", Bucket, &["metadataTable"], NONE),
    row("MetadataTable", Later, "DELETE", Bucket, &["metadataTable"], NONE),
    row("MetadataInventoryTable", Later, "PUT", Bucket, &["metadataInventoryTable"], NONE),
    row("MetadataJournalTable", Later, "PUT", Bucket, &["metadataJournalTable"], NONE),
    row("BucketAbac", Later, "GET", Bucket, &["abac"], NONE),
    row("BucketAbac", Later, "PUT", Bucket, &["abac"], NONE),
];

/// Query parameters that belong to a presigned URL, in lower case.
const PRESIGN: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// Headers that S3 also takes from the query of a presigned URL, and that the sealed operations understand.
const HOISTABLE: &[&str] = &[
    "x-amz-acl",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-mode",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-expected-bucket-owner",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-server-side-encryption",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-user-agent",
    "x-amz-website-redirect-location",
];

/// Whether this header has no meaning when it stands in the query of a presigned URL. S3 lets it in, has it signed, and ignores it: whoever
/// makes the URL does not know the body, and the SDK for JavaScript puts the checksum of an empty one there.
#[must_use]
pub fn is_ignored_in_query(header: &str) -> bool {
    let algorithm = header.strip_prefix("x-amz-checksum-");
    header == "x-amz-sdk-checksum-algorithm" || algorithm.is_some_and(|name| !matches!(name, "algorithm" | "mode" | "type"))
}

/// Classifies a request whose bucket, if it has one, stands in its path. Never fails: what cannot be understood is a refusal.
#[must_use]
pub fn classify(method: &Method, uri: &Uri, headers: &HeaderMap) -> Classified {
    classify_at(None, method, uri, headers)
}

/// The same for a request that was sent to the host of a bucket.
#[must_use]
pub fn classify_at(bucket: Option<&str>, method: &Method, uri: &Uri, headers: &HeaderMap) -> Classified {
    let mut found = Classified {
        operation: "Unknown",
        target: Target::Service,
        verdict: Err(Refusal::InvalidUri),
        query: vec![],
        hoisted: vec![],
        presigned: false,
        form: is_form(method, headers),
    };
    found.verdict = judge(bucket, method, uri, headers, &mut found);
    found
}

fn judge(bucket: Option<&str>, method: &Method, uri: &Uri, headers: &HeaderMap, found: &mut Classified) -> Result<Way, Refusal> {
    found.target = parse_target(bucket, uri.path())?;
    if method == Method::OPTIONS && found.target != Target::Service {
        // A browser asks about the address as it will use it. What stands in the query is the business of that request.
        found.operation = "Preflight";
        return Ok(Front);
    }
    split_query(uri.query().unwrap_or(""), found)?;
    if headers.contains_key(RESERVED_HEADER) {
        return Err(Refusal::ReservedMetadata);
    }
    let level = match found.target {
        Target::Service => Service,
        Target::Bucket(_) => Bucket,
        Target::Object(..) => Object,
    };
    let row = find_row(method.as_str(), level, headers, &found.query)?;
    found.operation = row.operation;
    for (name, value) in &found.query {
        if name == "list-type" && value != "2" {
            return Err(Refusal::BadParameter { name: name.as_str().into(), why: "must be 2" });
        }
        if !row.sub.contains(&name.as_str()) && !row.params.contains(&name.as_str()) {
            return Err(Refusal::UnknownParameter(name.as_str().into()));
        }
    }
    if row.way != Later {
        check_hoisted(row, found, headers)?;
        // Both turn an upload into something else; a row that gives them a meaning has been found by it already.
        for name in ["x-amz-copy-source", "x-amz-rename-source"] {
            if row.header != Some(name) && headers.contains_key(name) {
                return Err(Refusal::HeaderNotAllowed(name));
            }
        }
    }
    match (row.operation == "PostObject", found.form) {
        (true, false) => Err(Refusal::NotAForm),
        (false, true) => Err(Refusal::MethodNotAllowed),
        _ => Ok(row.way),
    }
}

fn check_hoisted(row: &Row, found: &Classified, headers: &HeaderMap) -> Result<(), Refusal> {
    for (name, _) in &found.hoisted {
        if name == RESERVED_HEADER {
            return Err(Refusal::ReservedMetadata);
        }
        let metadata = matches!(row.operation, "PutObject" | "CreateMultipartUpload") && name.starts_with("x-amz-meta-");
        if row.way != Sealed || !found.presigned || !(metadata || HOISTABLE.contains(&name.as_str())) {
            return Err(Refusal::UnknownParameter(name.as_str().into()));
        }
        if headers.contains_key(name) {
            return Err(Refusal::RepeatedParameter(name.as_str().into()));
        }
    }
    Ok(())
}

fn find_row(method: &str, level: Level, headers: &HeaderMap, query: &[(String, String)]) -> Result<&'static Row, Refusal> {
    // The names that make an operation at this level, as far as they are in the query. `id` and the like come along with the
    // sub-resource that they belong to, so the row that explains most of them is the one.
    let is_sub = |name: &str| TABLE.iter().any(|row| row.level == level && row.sub.first() == Some(&name));
    let named = |row: &Row| row.sub.iter().all(|sub| query.iter().any(|(name, _)| name == sub));
    let mut subs = query.iter().map(|(name, _)| name.as_str()).filter(|name| is_sub(name));
    let row = TABLE
        .iter()
        .filter(|row| row.method == method && row.level == level && named(row))
        .filter(|row| row.header.is_none_or(|header| headers.contains_key(header)))
        .max_by_key(|row| (row.sub.len(), row.header.is_some()));
    match (row, subs.next()) {
        (None, None) => Err(match query.first() {
            Some((name, _)) if method_has_level(method, level) => Refusal::UnknownParameter(name.as_str().into()),
            _ => Refusal::MethodNotAllowed,
        }),
        (None, Some(_)) => Err(Refusal::MethodNotAllowed),
        (Some(row), None) => Ok(row),
        (Some(row), Some(first)) => {
            let mut foreign = std::iter::once(first).chain(subs).filter(|name| !row.sub.contains(name));
            match (foreign.next(), row.sub.first()) {
                (None, _) => Ok(row),
                (Some(other), Some(own)) => Err(Refusal::ConflictingParameters((*own).into(), other.into())),
                // A known sub-resource that this method does not have. It must never fall through to the plain operation.
                (Some(_), None) => Err(Refusal::MethodNotAllowed),
            }
        }
    }
}

fn method_has_level(method: &str, level: Level) -> bool {
    TABLE.iter().any(|row| row.method == method && row.level == level)
}

fn parse_target(bucket: Option<&str>, path: &str) -> Result<Target, Refusal> {
    let path = percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| Refusal::InvalidUri)?;
    match s3s::path::parse_virtual_hosted_style(bucket, &path) {
        Ok(S3Path::Root) => Ok(Target::Service),
        Ok(S3Path::Bucket { bucket }) => Ok(Target::Bucket(bucket)),
        Ok(S3Path::Object { bucket, key }) => Ok(Target::Object(bucket, key)),
        Err(ParseS3PathError::InvalidPath) => Err(Refusal::InvalidUri),
        Err(ParseS3PathError::InvalidBucketName) => Err(Refusal::InvalidBucketName),
        Err(ParseS3PathError::KeyTooLong) => Err(Refusal::KeyTooLong),
    }
}

/// Splits the query as the protocol library does for the signature (a plus is a space), but refuses what is not UTF-8.
fn split_query(query: &str, found: &mut Classified) -> Result<(), Refusal> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (form_decode(name)?, form_decode(value)?);
        let lower = name.to_ascii_lowercase();
        if PRESIGN.contains(&lower.as_str()) || name == "x-id" {
            found.presigned |= name == "X-Amz-Signature";
            continue;
        }
        let list = if lower.starts_with("x-amz-") { &mut found.hoisted } else { &mut found.query };
        let name = if lower.starts_with("x-amz-") { lower } else { name };
        if list.iter().any(|(known, _)| *known == name) {
            return Err(Refusal::RepeatedParameter(name.into()));
        }
        list.push((name, value));
    }
    Ok(())
}

fn form_decode(text: &str) -> Result<String, Refusal> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().map_err(|_| Refusal::InvalidUri)?;
    Ok(decoded.into_owned())
}

/// Whether a `Range` header can be served as it stands. S3 serves one range of bytes at a time; what it cannot parse, a list of
/// ranges and other units it ignores and answers with the whole object, as RFC 9110 section 14.2 lets a server do.
#[must_use]
pub fn range_is_usable(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(http::header::RANGE).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        // The protocol library reads a suffix without digits as one of length 0, which no object satisfies.
        (Some(value), None) => value.to_str().is_ok_and(|text| text != "bytes=-" && s3s::dto::Range::parse(text).is_ok()),
        (Some(_), Some(_)) => false,
    }
}

/// The path of an object as the protocol library reads it back, bucket first.
#[must_use]
pub fn object_path(bucket: &str, key: &str) -> String {
    // The library decodes what is encoded and takes everything else as it is, so more than needed does no harm.
    const SEGMENT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    format!("/{bucket}/{}", percent_encoding::utf8_percent_encode(key, SEGMENT))
}

/// Whether a request is a browser's form.
fn is_form(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::POST
        && headers
            .get_all(http::header::CONTENT_TYPE)
            .iter()
            .any(|value| value.as_bytes().trim_ascii().to_ascii_lowercase().starts_with(b"multipart/form-data"))
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
