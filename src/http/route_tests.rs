use super::*;

fn path(level: Level) -> &'static str {
    match level {
        Service => "/",
        Bucket => "/bucket",
        Object => "/bucket/key",
    }
}

fn value(name: &str) -> &'static str {
    if name == "list-type" { "2" } else { "1" }
}

fn query(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name}={}", value(name))).collect::<Vec<_>>().join("&")
}

fn ask(method: &str, uri: &str, headers: &[(&str, &str)]) -> Classified {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    classify(&method.parse().unwrap(), &uri.parse().unwrap(), &headers)
}

fn of_row(row: &Row, more: &[&str]) -> Classified {
    let names: Vec<&str> = row.sub.iter().chain(more).copied().collect();
    let mut headers: Vec<_> = row.header.iter().map(|name| (*name, "x")).collect();
    if row.operation == "PostObject" {
        headers.push(("content-type", FORM));
    }
    ask(row.method, &format!("{}?{}", path(row.level), query(&names)), &headers)
}

const FORM: &str = "multipart/form-data; boundary=b";

fn refusal(method: &str, uri: &str) -> Refusal {
    ask(method, uri, &[]).verdict.unwrap_err()
}

#[test]
fn every_row_is_found_by_its_own_request() {
    for row in TABLE {
        let found = of_row(row, &[]);
        assert_eq!((found.operation, &found.verdict), (row.operation, &Ok(row.way)), "{} {:?}", row.method, row.sub);
    }
}

#[test]
fn every_row_takes_its_parameters_and_no_others() {
    for row in TABLE.iter().filter(|row| row.operation != "Preflight") {
        let found = of_row(row, row.params);
        assert_eq!((found.operation, &found.verdict), (row.operation, &Ok(row.way)), "{} {:?}", row.method, row.sub);
        // Everything that any operation knows, and something that none does.
        let all = TABLE.iter().flat_map(|other| other.sub.iter().chain(other.params)).copied().chain(["unheard-of", "x"]);
        for name in all.filter(|name| !row.sub.contains(name) && !row.params.contains(name)) {
            let found = of_row(row, &[name]);
            match &found.verdict {
                Err(Refusal::UnknownParameter(named)) => assert_eq!(&**named, name),
                Err(Refusal::ConflictingParameters(..) | Refusal::MethodNotAllowed | Refusal::HeaderNotAllowed(_)) => {}
                // The parameter made it another operation, which has to be one with that parameter and this method.
                Ok(_) => assert!(
                    TABLE.iter().any(|other| {
                        (other.operation, other.method, other.level) == (found.operation, row.method, row.level)
                            && other.sub.contains(&name)
                    }),
                    "{} {} with {name} is {}",
                    row.operation,
                    row.method,
                    found.operation
                ),
                Err(other) => panic!("{} with {name}: {other:?}", row.operation),
            }
        }
    }
}

#[test]
fn no_row_hides_another() {
    for (i, row) in TABLE.iter().enumerate() {
        for other in &TABLE[i + 1..] {
            let same = (row.method, row.level, row.sub, row.header) == (other.method, other.level, other.sub, other.header);
            assert!(!same, "{} and {}", row.operation, other.operation);
        }
    }
}

#[test]
fn a_sub_resource_never_falls_through_to_the_plain_operation() {
    let subs: std::collections::BTreeSet<&str> = TABLE.iter().flat_map(|row| row.sub).copied().collect();
    for level in [Service, Bucket, Object] {
        for sub in subs.iter().copied().chain(["Policy", "ACL", "unheard-of"]) {
            for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"] {
                for form in [(*sub).to_owned(), format!("{sub}="), format!("{sub}={}", value(sub))] {
                    let found = ask(method, &format!("{}?{form}", path(level)), &[]);
                    if found.verdict.is_ok() {
                        let known = TABLE.iter().any(|row| {
                            (row.operation, row.method, row.level) == (found.operation, method, level)
                                && (row.sub.contains(&sub) || row.params.contains(&sub))
                        });
                        assert!(known, "{method} {level:?} ?{form} is {}", found.operation);
                    }
                }
            }
        }
    }
    // The case that deleted a bucket elsewhere.
    assert_eq!(refusal("DELETE", "/bucket?unheard-of"), Refusal::UnknownParameter("unheard-of".into()));
    assert_eq!(refusal("DELETE", "/bucket?versioning"), Refusal::MethodNotAllowed);
    assert_eq!(refusal("DELETE", "/bucket/key?acl"), Refusal::MethodNotAllowed);
    assert_eq!(refusal("PUT", "/bucket/key?partNumber=1"), Refusal::MethodNotAllowed);
    assert_eq!(refusal("DELETE", "/bucket/key?partNumber=1"), Refusal::MethodNotAllowed);
}

#[test]
fn names_that_make_operations_do_not_mix() {
    let conflict = |a: &str, b: &str| Refusal::ConflictingParameters(a.into(), b.into());
    assert_eq!(refusal("GET", "/bucket?acl&policy"), conflict("policy", "acl"));
    assert_eq!(refusal("GET", "/bucket?location&list-type=2"), conflict("location", "list-type"));
    assert!(matches!(refusal("GET", "/bucket/key?tagging&partNumber=1"), Refusal::ConflictingParameters(..)));
    assert!(matches!(refusal("POST", "/bucket/key?uploads&uploadId=1"), Refusal::ConflictingParameters(..)));
}

#[test]
fn sealed_and_forwarded_are_exactly_these() {
    let names = |way: Way| {
        let names: std::collections::BTreeSet<_> = TABLE.iter().filter(|row| row.way == way).map(|row| row.operation).collect();
        names.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(
        names(Sealed),
        [
            "AbortMultipartUpload",
            "CompleteMultipartUpload",
            "CopyObject",
            "CreateMultipartUpload",
            "DeleteBucket",
            "DeleteObject",
            "DeleteObjects",
            "GetObject",
            "GetObjectAttributes",
            "HeadObject",
            "ListBuckets",
            "ListMultipartUploads",
            "ListObjectVersions",
            "ListObjects",
            "ListObjectsV2",
            "ListParts",
            "PutObject",
            "UploadPart",
            "UploadPartCopy"
        ]
    );
    // What goes forward must not be able to carry object data either way.
    for operation in names(Forward) {
        let data = ["Copy", "Part", "Upload", "Select", "Torrent", "Attributes", "Versions", "Rename", "Annotation"];
        assert!(!data.iter().any(|word| operation.contains(word)), "{operation}");
        assert!(!names(Sealed).contains(&operation) && operation != "PostObject");
    }
}

#[test]
fn targets_are_parsed_decoded() {
    let object = |bucket: &str, key: &str| Target::Object(bucket.into(), key.into());
    for (uri, target) in [
        ("/", Target::Service),
        ("/bucket", Target::Bucket("bucket".into())),
        ("/bucket/?location", Target::Bucket("bucket".into())),
        ("/bucket/key", object("bucket", "key")),
        ("/bucket/a%20b%2Bc+d", object("bucket", "a b+c+d")),
        ("/bucket//a//..//%2e", object("bucket", "/a//..//.")),
        ("/bucket/%C3%BC%2F", object("bucket", "ü/")),
        ("http://elsewhere/bucket/key", object("bucket", "key")),
    ] {
        assert_eq!(ask("GET", uri, &[]).target, target, "{uri}");
    }
    assert_eq!(refusal("GET", "/b"), Refusal::InvalidBucketName);
    assert_eq!(refusal("GET", "//"), Refusal::InvalidBucketName);
    assert_eq!(refusal("GET", "/Bucket/key"), Refusal::InvalidBucketName);
    assert_eq!(refusal("GET", "/bucket/%FF"), Refusal::InvalidUri);
    assert_eq!(refusal("GET", &format!("/bucket/{}", "k".repeat(1025))), Refusal::KeyTooLong);
}

#[test]
fn queries_are_read_once_and_strictly() {
    assert_eq!(refusal("GET", "/bucket?prefix=a&prefix=b"), Refusal::RepeatedParameter("prefix".into()));
    assert_eq!(refusal("GET", "/bucket/key?versionId=a&versionI%64=b"), Refusal::RepeatedParameter("versionId".into()));
    assert_eq!(refusal("GET", "/bucket?prefix=%FF"), Refusal::InvalidUri);
    assert!(matches!(refusal("GET", "/bucket?list-type=1"), Refusal::BadParameter { .. }));
    let found = ask("GET", "/bucket?prefix=a+b%2B&delimiter=%2F&&max-keys=", &[]);
    let query: Vec<_> = found.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(query, [("prefix", "a b+"), ("delimiter", "/"), ("max-keys", "")]);
    assert_eq!(ask("GET", "/bucket/key?x-id=GetObject", &[]).verdict, Ok(Sealed));
    // What a request says of itself does not matter.
    assert_eq!(ask("PUT", "/bucket/key?x-id=CopyObject", &[]).operation, "PutObject");
}

const SIGNATURE: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Expires=1&X-Amz-SignedHeaders=host\
                         &X-Amz-Signature=s";

#[test]
fn presigned_urls_may_carry_headers_of_sealed_operations() {
    let found = ask("PUT", &format!("/bucket/key?{SIGNATURE}&x-amz-acl=private&X-Amz-Meta-Colour=red"), &[]);
    assert_eq!((found.operation, &found.verdict), ("PutObject", &Ok(Sealed)));
    assert_eq!(found.hoisted, [("x-amz-acl".into(), "private".into()), ("x-amz-meta-colour".into(), "red".into())]);
    assert!(found.query.is_empty());
    let refused = |method: &str, query: &str| refusal(method, &format!("/bucket/key?{query}"));
    // Only with a signature in the query, only what is known, and never twice.
    assert!(matches!(refused("PUT", "x-amz-acl=private"), Refusal::UnknownParameter(_)));
    assert!(matches!(refused("PUT", &format!("{SIGNATURE}&x-amz-copy-source=b/k")), Refusal::UnknownParameter(_)));
    assert!(matches!(refused("GET", &format!("{SIGNATURE}&x-amz-meta-a=b")), Refusal::UnknownParameter(_)));
    assert!(matches!(refused("PUT", &format!("tagging&{SIGNATURE}&x-amz-acl=private")), Refusal::UnknownParameter(_)));
    assert!(matches!(refused("PUT", &format!("{SIGNATURE}&x-amz-acl=a&X-AMZ-ACL=b")), Refusal::RepeatedParameter(_)));
    let both = ask("PUT", &format!("/bucket/key?{SIGNATURE}&x-amz-acl=a"), &[("x-amz-acl", "b")]);
    assert_eq!(both.verdict, Err(Refusal::RepeatedParameter("x-amz-acl".into())));
}

#[test]
fn reserved_metadata_is_refused_on_every_row_and_in_every_form() {
    for row in TABLE.iter().filter(|row| row.operation != "Preflight") {
        for name in ["x-amz-meta-ciphergate", "X-Amz-Meta-Ciphergate", "X-AMZ-META-CIPHERGATE"] {
            let mut headers = vec![(name, "cg1")];
            headers.extend(row.header.iter().map(|name| (*name, "x")));
            let found = ask(row.method, &format!("{}?{}", path(row.level), query(row.sub)), &headers);
            assert_eq!(found.verdict, Err(Refusal::ReservedMetadata), "{}", row.operation);
        }
    }
    let hoisted = format!("/bucket/key?{SIGNATURE}&X-Amz-Meta-CipherGate=cg1");
    assert_eq!(refusal("PUT", &hoisted), Refusal::ReservedMetadata);
}

#[test]
fn headers_that_change_an_operation_are_never_dropped() {
    let with = |method: &str, uri: &str, name: &'static str| ask(method, uri, &[(name, "b/k")]);
    assert_eq!(with("PUT", "/bucket/key", "x-amz-copy-source").operation, "CopyObject");
    assert_eq!(with("PUT", "/bucket/key?partNumber=1&uploadId=u", "x-amz-copy-source").operation, "UploadPartCopy");
    assert_eq!(with("PUT", "/bucket/key", "x-amz-write-offset-bytes").operation, "AppendObject");
    for (method, uri) in [
        ("PUT", "/bucket/key?tagging"),
        ("GET", "/bucket/key"),
        ("PUT", "/bucket"),
        ("DELETE", "/bucket/key"),
        ("POST", "/bucket/key?uploads"),
    ] {
        assert_eq!(
            with(method, uri, "x-amz-copy-source").verdict,
            Err(Refusal::HeaderNotAllowed("x-amz-copy-source")),
            "{method} {uri}"
        );
    }
}

#[test]
fn other_methods_are_not_allowed() {
    for method in ["PATCH", "TRACE", "CONNECT", "LIST"] {
        for level in [Service, Bucket, Object] {
            assert_eq!(refusal(method, path(level)), Refusal::MethodNotAllowed);
        }
    }
    assert_eq!(refusal("OPTIONS", "/"), Refusal::MethodNotAllowed);
    assert_eq!(refusal("DELETE", "/"), Refusal::MethodNotAllowed);
    assert_eq!(refusal("POST", "/bucket/key"), Refusal::MethodNotAllowed);
}

#[test]
fn ranges_are_usable_or_ignored() {
    let usable = |values: &[&str]| {
        let headers = values.iter().map(|value| (http::header::RANGE, value.parse().unwrap())).collect();
        range_is_usable(&headers)
    };
    assert!(usable(&[]));
    for good in ["bytes=0-", "bytes=0-0", "bytes=5-10", "bytes=-5", "bytes=-0", "bytes=0-9223372036854775807"] {
        assert!(usable(&[good]), "{good}");
    }
    for bad in ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,3-4", "bytes=0-1,", "items=0-1", "0-1", "bytes 0-1", ""]
    {
        assert!(!usable(&[bad]), "{bad:?}");
    }
    assert!(!usable(&["bytes=0-1", "bytes=0-1"]));
}

#[test]
fn checksums_in_a_query_say_nothing() {
    for ignored in ["x-amz-checksum-crc32", "x-amz-checksum-crc64nvme", "x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm"] {
        assert!(is_ignored_in_query(ignored), "{ignored}");
    }
    for meant in
        ["x-amz-checksum-mode", "x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-acl", "x-amz-meta-x-amz-checksum-crc32"]
    {
        assert!(!is_ignored_in_query(meant), "{meant}");
    }
}

#[test]
fn forms_are_told_by_their_type_and_only_upload() {
    let is_form = |method: Method, content_type: &str| {
        is_form(&method, &[(http::header::CONTENT_TYPE, content_type.parse().unwrap())].into_iter().collect())
    };
    assert!(is_form(Method::POST, "multipart/form-data; boundary=x"));
    assert!(is_form(Method::POST, " Multipart/Form-Data;boundary=x"));
    assert!(!is_form(Method::PUT, "multipart/form-data; boundary=x"));
    assert!(!is_form(Method::POST, "application/xml"));

    let form = |uri: &str| ask("POST", uri, &[("content-type", FORM)]);
    assert!(form("/bucket").form && form("/bucket").verdict == Ok(Front));
    assert_eq!(form("/bucket/").operation, "PostObject");
    // The protocol library would read a form there, too, so nothing else may be reached by one.
    for (uri, why) in [
        ("/", Refusal::MethodNotAllowed),
        ("/bucket/key", Refusal::MethodNotAllowed),
        ("/bucket/key?uploads", Refusal::MethodNotAllowed),
        ("/bucket?delete", Refusal::MethodNotAllowed),
        ("/bucket?unheard-of", Refusal::UnknownParameter("unheard-of".into())),
    ] {
        let found = form(uri);
        assert_eq!((found.form, found.verdict), (true, Err(why)), "{uri}");
    }
    assert_eq!(refusal("POST", "/bucket"), Refusal::NotAForm);
}

#[test]
fn preflights_ask_about_any_address() {
    for uri in ["/bucket", "/bucket/key", "/bucket/key?partNumber=1&uploadId=u", "/bucket?unheard-of&unheard-of", "/bucket/k?%FF"]
    {
        let found = ask("OPTIONS", uri, &[]);
        assert_eq!((found.operation, found.verdict), ("Preflight", Ok(Front)), "{uri}");
        assert_eq!(found.target.bucket(), Some("bucket"));
    }
    assert_eq!(refusal("OPTIONS", "/B"), Refusal::InvalidBucketName);
}

#[test]
fn the_host_may_name_the_bucket() {
    let at = |bucket: &str, uri: &str| {
        let found = classify_at(Some(bucket), &Method::GET, &uri.parse().unwrap(), &HeaderMap::new());
        (found.operation, found.target)
    };
    let object = |bucket: &str, key: &str| Target::Object(bucket.into(), key.into());
    assert_eq!(at("a.b-c", "/"), ("ListObjects", Target::Bucket("a.b-c".into())));
    assert_eq!(at("a.b-c", "/?location"), ("GetBucketLocation", Target::Bucket("a.b-c".into())));
    assert_eq!(at("bucket", "/key"), ("GetObject", object("bucket", "key")));
    assert_eq!(at("bucket", "/bucket/key"), ("GetObject", object("bucket", "bucket/key")));
    assert_eq!(at("bucket", "//a%2F/../b+c"), ("GetObject", object("bucket", "/a//../b+c")));
    let found = classify_at(Some("B"), &Method::GET, &"/key".parse().unwrap(), &HeaderMap::new());
    assert_eq!(found.verdict, Err(Refusal::InvalidBucketName));
}

#[test]
fn paths_of_objects_are_read_back_as_they_were() {
    for key in ["key", "a b+c%/ü//..//~x", "/", "//", ".", "..", "a/../b", "?q=1&x#f", "%2F", "\u{0}\u{7f}", "trailing/"] {
        let found = ask("GET", &object_path("bucket", key), &[]);
        assert_eq!(found.target, Target::Object("bucket".into(), key.into()), "{key}");
    }
}

/// The ways of an operation as the page writes them: all that the table has for it.
fn ways(operation: &str) -> String {
    let mut ways: Vec<String> =
        TABLE.iter().filter(|row| row.operation == operation).map(|row| format!("{:?}", row.way).to_lowercase()).collect();
    ways.sort_unstable();
    ways.dedup();
    ways.join(", ")
}

#[test]
fn the_page_of_operations_agrees() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/S3_COMPATIBILITY.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut named = Vec::new();
    let mut lines = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", operation, _, note, ""] if TABLE.iter().any(|row| row.operation == *operation) => {
                named.push((*operation).to_owned());
                lines.push(format!("| {operation} | {} | {note} |", ways(operation)).replace("|  |", "| |"));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    for row in TABLE {
        assert_eq!(named.iter().filter(|name| *name == row.operation).count(), 1, "{} has one line on the page", row.operation);
    }
    let right = lines.join("\n") + "\n";
    if std::env::var_os("CIPHERGATE_TEST_BLESS").is_some() {
        std::fs::write(path, &right).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), right, "set CIPHERGATE_TEST_BLESS=1 once to have the ways written");
}
