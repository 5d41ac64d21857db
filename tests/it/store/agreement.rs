//! Whether the store answers as LocalStack does, where LocalStack is known to answer as S3: the same requests to both, and what comes
//! back compared. Runs where `CIPHERGATE_TEST_LOCALSTACK` names one.

use std::net::SocketAddr;

use aws_sigv4::http_request::SignableBody;

use super::wire::{Answer, Site, exchange, signed};

/// What is compared of an answer: names of headers that count, with their values where those are the same everywhere.
const NAMED: [&str; 4] = ["etag", "x-amz-version-id", "x-amz-copy-source-version-id", "last-modified"];
const COMPARED: [&str; 12] = [
    "accept-ranges",
    "cache-control",
    "content-length",
    "content-range",
    "content-type",
    "x-amz-delete-marker",
    "x-amz-meta-m",
    "x-amz-mp-parts-count",
    "x-amz-object-lock-mode",
    "x-amz-storage-class",
    "x-amz-tagging-count",
    "x-amz-website-redirect-location",
];

/// Where the two may differ, because LocalStack does: it takes `*` for a tag, does not look at redirects, takes an empty version id
/// for none, and has another code for no parts (the Ceph suite expects the store's).
const EXCUSED: [&str; 4] = ["copy if:", "wrong redirect:", "empty id:", "no parts:"];

struct Side {
    addr: SocketAddr,
    bucket: String,
    transcript: Vec<String>,
}

impl Side {
    /// Sends a request; `@` in path and headers stands for the bucket.
    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let path = path.replace('@', &self.bucket);
        let headers: Vec<(&str, String)> =
            headers.iter().map(|(name, value)| (*name, value.replace('@', &self.bucket))).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = signed(self.addr, method, &path, &headers, body, SignableBody::Bytes(body));
        exchange(self.addr, &request).await
    }

    /// The same, and notes what came back under a name.
    async fn note(&mut self, name: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = self.ask(method, path, headers, body).await;
        let mut line = format!("{name}: {} {}", answer.status, answer.code());
        // The bodies of errors and documents differ in what nobody reads.
        let is_object = answer.status < 300 && ["GET", "HEAD"].contains(&method) && !path.contains('?');
        for header in COMPARED {
            let counts = is_object || !["content-length", "content-type", "accept-ranges"].contains(&header);
            if let Some(value) = answer.header(header).filter(|_| counts) {
                line.push_str(&format!(" {header}={}", String::from_utf8_lossy(value)));
            }
        }
        for header in NAMED {
            // S3 says when a delete marker was made, LocalStack does not.
            let counts = answer.status != 405 || header != "last-modified";
            if let Some(value) = answer.header(header).filter(|_| counts) {
                let value = String::from_utf8_lossy(value);
                let shape = if value == "null" {
                    "null"
                } else if value.contains('-') {
                    "parts"
                } else {
                    "some"
                };
                line.push_str(&format!(" {header}:{shape}"));
            }
        }
        self.transcript.push(line);
        answer
    }
}

fn version(answer: &Answer) -> String {
    String::from_utf8(answer.header("x-amz-version-id").unwrap_or_default().to_vec()).unwrap()
}

fn element(answer: &Answer, name: &str) -> String {
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let value = body.split(&format!("<{name}>")).nth(1).and_then(|rest| rest.split(&format!("</{name}>")).next());
    value.unwrap_or_default().replace("&quot;", "\"").replace("&#34;", "\"")
}

async fn objects(side: &mut Side) {
    side.note("missing", "GET", "/@/k", &[], b"").await;
    let headers = [
        ("x-amz-meta-m", "v"),
        ("x-amz-tagging", "a=1&b=2"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("cache-control", "no-store"),
    ];
    side.note("put", "PUT", "/@/k", &headers, b"content").await;
    side.note("get", "GET", "/@/k", &[], b"").await;
    side.note("head range", "HEAD", "/@/k", &[("range", "bytes=1-2")], b"").await;
    side.note("part 1", "GET", "/@/k?partNumber=1", &[], b"").await;
    side.note("part 2", "GET", "/@/k?partNumber=2", &[], b"").await;
    side.note("null version", "GET", "/@/k?versionId=null", &[], b"").await;
    side.note("if none match", "PUT", "/@/k", &[("if-none-match", "*")], b"x").await;
    side.note("if match", "PUT", "/@/k", &[("if-match", "\"0123456789abcdef0123456789abcdef\"")], b"x").await;
    side.note("if match nothing", "PUT", "/@/none", &[("if-match", "\"0123456789abcdef0123456789abcdef\"")], b"x").await;
    side.note("copy", "PUT", "/@/copy", &[("x-amz-copy-source", "@/k")], b"").await;
    side.note("copied", "HEAD", "/@/copy", &[], b"").await;
    side.note("copy to itself", "PUT", "/@/copy", &[("x-amz-copy-source", "@/copy")], b"").await;
    side.note("copy nothing", "PUT", "/@/copy", &[("x-amz-copy-source", "@/none")], b"").await;
    let refused = [("x-amz-copy-source", "@/k"), ("x-amz-copy-source-if-none-match", "*")];
    side.note("copy if", "PUT", "/@/copy", &refused, b"").await;
    side.note("tags", "GET", "/@/k?tagging", &[], b"").await;
    side.note("no tags", "DELETE", "/@/k?tagging", &[], b"").await;
    side.note("wrong class", "PUT", "/@/x", &[("x-amz-storage-class", "BEST")], b"x").await;
    side.note("wrong redirect", "PUT", "/@/x", &[("x-amz-website-redirect-location", "x")], b"x").await;
    side.note("lock without lock", "GET", "/@/k?retention", &[], b"").await;
    side.note("no lock", "GET", "/@?object-lock", &[], b"").await;
    side.note("delete", "DELETE", "/@/k", &[], b"").await;
    side.note("delete again", "DELETE", "/@/k", &[], b"").await;
}

async fn parts(side: &mut Side) {
    let created = side.ask("POST", "/@/p?uploads", &[("x-amz-meta-m", "v")], b"").await;
    let upload = element(&created, "UploadId");
    let path = |number: u32| format!("/@/p?partNumber={number}&uploadId={upload}");
    let complete = format!("/@/p?uploadId={upload}");
    let mut etags = Vec::new();
    for (number, size) in [(1, 5 << 20), (2, 100), (7, 10)] {
        let answer = side.note("part", "PUT", &path(number), &[], &vec![number as u8; size]).await;
        etags.push((number, String::from_utf8_lossy(answer.header("etag").unwrap_or_default()).into_owned()));
    }
    side.note("part 0", "PUT", &path(0), &[], b"x").await;
    side.note("part 10001", "PUT", &path(10_001), &[], b"x").await;
    side.note("no upload", "PUT", "/@/p?partNumber=1&uploadId=none", &[], b"x").await;
    let document = |parts: &[(u32, String)]| {
        let parts: String = parts
            .iter()
            .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
            .collect();
        format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes()
    };
    let wrong = vec![(1, "\"0123456789abcdef0123456789abcdef\"".to_owned())];
    let swapped = vec![etags[1].clone(), etags[0].clone()];
    side.note("no parts", "POST", &complete, &[], &document(&[])).await;
    side.note("wrong tag", "POST", &complete, &[], &document(&wrong)).await;
    side.note("wrong order", "POST", &complete, &[], &document(&swapped)).await;
    side.note("too small", "POST", &complete, &[], &document(&etags)).await;
    let two = document(&[etags[0].clone(), etags[2].clone()]);
    side.note("wrong size", "POST", &complete, &[("x-amz-mp-object-size", "5")], &two).await;
    side.note("complete", "POST", &complete, &[], &two).await;
    side.note("head", "HEAD", "/@/p", &[], b"").await;
    for number in [1, 2, 7] {
        side.note("get part", "GET", &format!("/@/p?partNumber={number}"), &[], b"").await;
    }
    side.note("copy of parts", "PUT", "/@/copy", &[("x-amz-copy-source", "@/p")], b"").await;
    side.note("head of copy", "HEAD", "/@/copy", &[], b"").await;
    side.note("abort what is done", "DELETE", &complete, &[], b"").await;
    let created = side.ask("POST", "/@/q?uploads", &[], b"").await;
    let path = format!("/@/q?partNumber=1&uploadId={}", element(&created, "UploadId"));
    for (name, range) in
        [("range", "bytes=5-9"), ("open", "bytes=5-"), ("behind", "bytes=99999998-99999999"), ("over", "bytes=0-99999999")]
    {
        side.note(name, "PUT", &path, &[("x-amz-copy-source", "@/p"), ("x-amz-copy-source-range", range)], b"").await;
    }
    side.note("abort", "DELETE", &format!("/@/q?uploadId={}", element(&created, "UploadId")), &[], b"").await;
}

async fn versions(side: &mut Side) {
    side.note("put before", "PUT", "/@/k", &[], b"0").await;
    let on = b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
    side.note("versions on", "PUT", "/@?versioning", &[], on).await;
    side.note("get before", "GET", "/@/k", &[], b"").await;
    let first = version(&side.note("put", "PUT", "/@/k", &[], b"1").await);
    side.note("get", "GET", &format!("/@/k?versionId={first}"), &[], b"").await;
    let marker = version(&side.note("delete", "DELETE", "/@/k", &[], b"").await);
    side.note("get deleted", "GET", "/@/k", &[], b"").await;
    side.note("head deleted", "HEAD", "/@/k", &[], b"").await;
    side.note("get marker", "GET", &format!("/@/k?versionId={marker}"), &[], b"").await;
    side.note("tags of marker", "GET", &format!("/@/k?tagging&versionId={marker}"), &[], b"").await;
    let source = format!("@/k?versionId={marker}");
    side.note("copy marker", "PUT", "/@/copy", &[("x-amz-copy-source", source.as_str())], b"").await;
    side.note("copy deleted", "PUT", "/@/copy", &[("x-amz-copy-source", "@/k")], b"").await;
    let source = format!("@/k?versionId={first}");
    side.note("copy version", "PUT", "/@/copy", &[("x-amz-copy-source", source.as_str())], b"").await;
    side.note("if none match behind marker", "PUT", "/@/k", &[("if-none-match", "*")], b"2").await;
    side.note("remove marker", "DELETE", &format!("/@/k?versionId={marker}"), &[], b"").await;
    side.note("remove version", "DELETE", &format!("/@/k?versionId={first}"), &[], b"").await;
    side.note("get removed", "GET", &format!("/@/k?versionId={first}"), &[], b"").await;
    side.note("empty id", "GET", "/@/k?versionId=", &[], b"").await;
    side.note("never was", "DELETE", "/@/never", &[], b"").await;
    let off = String::from_utf8_lossy(on).replace("Enabled", "Suspended");
    side.note("versions off", "PUT", "/@?versioning", &[], off.as_bytes()).await;
    side.note("put null", "PUT", "/@/k", &[], b"3").await;
    side.note("get null", "GET", "/@/k?versionId=null", &[], b"").await;
    side.note("delete null", "DELETE", "/@/k", &[], b"").await;
    side.note("get null marker", "GET", "/@/k?versionId=null", &[], b"").await;
}

#[tokio::test]
async fn the_store_answers_as_localstack_does() {
    let Ok(url) = std::env::var("CIPHERGATE_TEST_LOCALSTACK") else { return };
    let addr: SocketAddr = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let site = Site::start().await;
    let unique = std::process::id();
    let mut differences = Vec::new();
    for script in ["objects", "parts", "versions"] {
        let mut transcripts = Vec::new();
        for addr in [site.running.addr(), addr] {
            let bucket = format!("agreement-{script}-{unique}");
            let mut side = Side { addr, bucket, transcript: Vec::new() };
            assert_eq!(side.ask("PUT", "/@", &[], b"").await.status, 200);
            match script {
                "objects" => objects(&mut side).await,
                "parts" => parts(&mut side).await,
                _ => versions(&mut side).await,
            }
            transcripts.push(side.transcript);
        }
        let pairs = transcripts[0].iter().zip(&transcripts[1]).filter(|(ours, theirs)| ours != theirs);
        let pairs = pairs.filter(|(ours, _)| !EXCUSED.iter().any(|excused| ours.starts_with(excused)));
        differences.extend(pairs.map(|(ours, theirs)| format!("{script}\n  store      {ours}\n  localstack {theirs}")));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
