//! Browsers' forms, over the wire.

use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::site::{Answer, CLIENT, DOMAIN, Site, read_answer};

const BOUNDARY: &str = "----WebKitFormBoundary7MA4YWxkTrZu0gW";

/// A form that gets signed.
struct Form<'a> {
    fields: Vec<(&'a str, String)>,
    /// In the policy only. Every field gets one of its own unless it is named here.
    conditions: Vec<serde_json::Value>,
    valid_secs: i64,
    key: (&'a str, &'a str),
    signed_secs_ago: u64,
    file_name: &'a str,
    file: Vec<u8>,
    /// What comes after the file, the closing boundary included.
    tail: String,
    host: Option<&'a str>,
    target: &'a str,
}

impl<'a> Form<'a> {
    fn new(key: &str, file: &[u8]) -> Self {
        Self {
            fields: vec![("key", key.to_owned())],
            conditions: vec![],
            valid_secs: 60,
            key: CLIENT,
            signed_secs_ago: 0,
            file_name: "photo.jpg",
            file: file.to_vec(),
            tail: format!("\r\n--{BOUNDARY}--\r\n"),
            host: None,
            target: "/bucket",
        }
    }

    fn field(mut self, name: &'a str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn condition(mut self, condition: serde_json::Value) -> Self {
        self.conditions.push(condition);
        self
    }

    fn body(&self) -> Vec<u8> {
        let now = time::OffsetDateTime::now_utc();
        let signed = now - Duration::from_secs(self.signed_secs_ago);
        let date = signed.format(format_description!("[year][month][day]T[hour][minute][second]Z")).unwrap();
        let credential = format!("{}/{}/us-east-1/s3/aws4_request", self.key.0, &date[..8]);
        let mut fields = self.fields.clone();
        for (name, value) in
            [("x-amz-algorithm", "AWS4-HMAC-SHA256".to_owned()), ("x-amz-credential", credential), ("x-amz-date", date)]
        {
            fields.push((name, value));
        }
        let covered = |name: &str| {
            self.conditions.iter().any(|condition| condition.get(1).and_then(|field| field.as_str()) == Some(&format!("${name}")))
        };
        let mut conditions = vec![serde_json::json!({"bucket": "bucket"})];
        conditions.extend(self.conditions.iter().filter(|condition| !condition.is_null()).cloned());
        for (name, value) in fields.iter().filter(|(name, _)| !covered(name) && !name.starts_with("extra")) {
            conditions.push(serde_json::json!(["eq", format!("${name}"), value]));
        }
        let expiration = (now + time::Duration::seconds(self.valid_secs)).format(&Rfc3339).unwrap();
        let policy = serde_json::json!({"expiration": expiration, "conditions": conditions}).to_string();
        let policy = data_encoding::BASE64.encode(policy.as_bytes());
        let signing_key = generate_signing_key(self.key.1, SystemTime::from(signed), "us-east-1", "s3");
        let signature = calculate_signature(signing_key, policy.as_bytes());
        fields.push(("policy", policy));
        fields.push(("X-Amz-Signature", signature));
        let mut body = Vec::new();
        for (name, value) in fields {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: text/html\r\n\r\n",
            self.file_name
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&self.file);
        body.extend_from_slice(self.tail.as_bytes());
        body
    }

    fn head(&self, site: &Site, length: usize) -> String {
        let host = self.host.map_or_else(|| site.addr.to_string(), str::to_owned);
        format!(
            "POST {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\
             content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
            self.target
        )
    }

    fn send(&self, site: &Site) -> Answer {
        let body = self.body();
        site.exchange(&[self.head(site, body.len()).as_bytes(), &body].concat())
    }
}

#[test]
fn a_form_uploads_its_file() {
    let site = Site::start();
    let form = Form::new("user/${filename}", b"hello").field("acl", "private").field("x-amz-meta-colour", "red");
    let answer = form.condition(serde_json::json!(["starts-with", "$key", "user/photo"])).send(&site);
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{}", answer.text());
    // What the operation saw of the fields.
    assert_eq!(answer.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("private red"));
    assert_eq!(answer.header("location"), Some(&*format!("http://{}/bucket/user/photo.jpg", site.addr)));
    for len in [0, 1, 65_536, 3_000_000] {
        assert_eq!(Form::new("k", &vec![b'\r'; len]).send(&site).status, 204);
    }
    let lengths: Vec<_> = site.seen.uploads.lock().unwrap().iter().map(|upload| upload.clone().unwrap()).collect();
    assert_eq!(lengths, [5, 0, 1, 65_536, 3_000_000]);
}

#[test]
fn a_form_is_answered_as_it_wishes() {
    let site = Site::start();
    let with = |name, value| Form::new("a b&c", b"hello").field(name, value).send(&site);
    let ok = with("success_action_status", "200");
    assert_eq!((ok.status, ok.header("content-length")), (200, Some("0")));
    let created = with("Success_Action_Status", "201");
    assert_eq!((created.status, created.header("content-type")), (201, Some("application/xml")));
    let location = format!("http://{}/bucket/a%20b%26c", site.addr);
    let inside = [format!("<Location>{location}</Location>"), "<Bucket>bucket</Bucket><Key>a b&amp;c</Key>".to_owned()];
    assert!(inside.iter().all(|text| created.text().contains(text)), "{}", created.text());
    assert_eq!(with("success_action_status", "404").status, 204);
    let to = with("success_action_redirect", "https://a.example/done?x=1");
    assert_eq!((to.status, to.body.len()), (303, 0));
    let location = to.header("location").unwrap();
    assert!(location.starts_with("https://a.example/done?x=1&bucket=bucket&key=a%20b%26c&etag="), "{location}");
    assert_eq!(with("redirect", "https://a.example/").status, 303);
    assert_eq!(with("success_action_redirect", "nowhere").status, 204);
    assert!(site.seen.uploads.lock().unwrap().iter().all(|upload| *upload == Ok(5)));
}

#[test]
fn a_form_may_do_only_what_its_policy_says() {
    let site = Site::start();
    let refused = |form: Form<'_>| {
        let answer = form.send(&site);
        (answer.status, answer.code(), answer.text())
    };
    let range = |min, max| Form::new("k", b"hello").condition(serde_json::json!(["content-length-range", min, max]));
    assert_eq!(range(5, 5).send(&site).status, 204);
    site.seen.uploads.lock().unwrap().clear();
    let (status, code, _) = refused(range(6, 9));
    assert_eq!((status, code.as_str()), (400, "EntityTooSmall"));
    let (status, code, _) = refused(range(0, 4));
    assert_eq!((status, code.as_str()), (400, "EntityTooLarge"));
    let denied = |form, text: &str| {
        let (status, code, told) = refused(form);
        assert_eq!((status, code.as_str()), (403, "AccessDenied"), "{told}");
        assert!(told.contains(text), "{told}");
    };
    let new = || Form::new("k", b"hello");
    denied(Form { valid_secs: -1, ..new() }, "Invalid according to Policy: Policy expired.");
    denied(
        new().condition(serde_json::json!(["eq", "$key", "other"])),
        "Policy Condition failed: [&quot;eq&quot;,&quot;$key&quot;,&quot;other&quot;]",
    );
    denied(new().condition(serde_json::json!({"x-amz-meta-must": "be"})), "Policy Condition failed");
    denied(new().field("extra", "x"), "Extra input fields: extra");
    denied(Form { target: "/another", ..new() }, "Policy Condition failed");
    // A form lasts for hours, unlike a request.
    assert_eq!(Form { signed_secs_ago: 3 * 3600, ..new() }.send(&site).status, 204);
    denied(Form { signed_secs_ago: 8 * 24 * 3600, ..new() }, "Policy expired");
    assert_eq!(*site.seen.uploads.lock().unwrap(), [Ok(5)]);
}

#[test]
fn who_signed_a_form_is_proven() {
    let site = Site::start();
    let code = |form: Form<'_>| form.send(&site).code();
    let new = || Form::new("k", b"hello");
    assert_eq!(code(Form { key: (CLIENT.0, "another-secret"), ..new() }), "SignatureDoesNotMatch");
    assert_eq!(code(Form { key: ("NOBODYKNOWSTHIS00", "secret-secret"), ..new() }), "InvalidAccessKeyId");
    assert_eq!(code(new().field("x-amz-security-token", "t")), "InvalidToken");
    assert_eq!(code(new().field("AWSAccessKeyId", CLIENT.0)), "InvalidRequest");
    // Unsigned, or signed in another way besides.
    let unsigned = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--{BOUNDARY}--\r\n"
    );
    let send = |head: String, body: &[u8]| site.exchange(&[head.as_bytes(), body].concat()).code();
    assert_eq!(send(new().head(&site, unsigned.len()), unsigned.as_bytes()), "AccessDenied");
    let body = new().body();
    let both =
        new().head(&site, body.len()).replace("connection: close", "connection: close\r\nauthorization: AWS4-HMAC-SHA256 x");
    assert_eq!(send(both, &body), "InvalidArgument");
    let query = Form { target: "/bucket?X-Amz-Signature=00", ..new() };
    assert_eq!(code(query), "InvalidArgument");
    assert!(site.seen.uploads.lock().unwrap().is_empty());
}

#[test]
fn what_a_form_cannot_ask_for_is_refused() {
    let site = Site::start();
    let code = |form: Form<'_>| form.send(&site).code();
    let new = || Form::new("k", b"hello");
    assert_eq!(code(Form { fields: vec![], ..new() }), "InvalidArgument");
    assert_eq!(code(Form { fields: vec![("key", String::new())], ..new() }), "UserKeyMustBeSpecified");
    assert_eq!(code(Form::new(&"k".repeat(1025), b"hello")), "KeyTooLongError");
    assert_eq!(code(new().field("KEY", "l")), "InvalidArgument");
    assert_eq!(code(new().field("x-amz-meta-CipherGate", "cg1")), "InvalidArgument");
    assert_eq!(code(new().field("x-amz-copy-source", "/b/k")), "InvalidArgument");
    assert_eq!(code(new().field("acl", "private").field("x-amz-acl", "private")), "InvalidArgument");
    assert_eq!(code(new().field("x-amz-meta-a", "b\r\nx: y")), "InvalidArgument");
    assert_eq!(code(new().field("bucket", "another").condition(serde_json::Value::Null)), "InvalidArgument");
    assert_eq!(code(Form::new("verified", b"hello").field("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=")), "InvalidDigest");
    assert_eq!(code(Form { target: "/bucket/key", ..new() }), "MethodNotAllowed");
    assert_eq!(code(Form { target: "/bucket?delete", ..new() }), "MethodNotAllowed");
    assert_eq!(code(Form { target: "/bucket?unheard-of", ..new() }), "InvalidArgument");
    assert_eq!(code(Form::new("k", &vec![0; 10_000_001])), "EntityTooLarge");
    assert_eq!(code(new().field("x-ignore-long", &"x".repeat(30_000))), "MaxPostPreDataLengthExceededError");
    // Without a length nobody knows how long the file is.
    let head = new().head(&site, 7).replace("content-length: 7", "transfer-encoding: chunked");
    assert_eq!(site.exchange(&[head.as_bytes(), b"0\r\n\r\n"].concat()).code(), "MissingContentLength");
    assert!(site.seen.uploads.lock().unwrap().iter().all(Result::is_err));
}

#[test]
fn a_form_that_goes_on_never_becomes_an_object() {
    let site = Site::start();
    let submit =
        format!("\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload\r\n--{BOUNDARY}--\r\n");
    for tail in [submit, format!("\r\n--{BOUNDARY}--"), format!("\r\n--{BOUNDARY}--\r\nepilogue")] {
        // This key's operation knows what to tell of a broken body; the other one does not.
        for key in ["verified", "k"] {
            let answer = Form { tail: tail.clone(), ..Form::new(key, b"hello") }.send(&site);
            assert!(key == "k" || (answer.status, answer.code()) == (400, "MalformedPOSTRequest".to_owned()), "{answer:?}");
            assert!(answer.status >= 400, "{tail:?}");
        }
    }
    let uploads = site.seen.uploads.lock().unwrap();
    assert!(uploads.len() == 6 && uploads.iter().all(Result::is_err), "{uploads:?}");
}

#[test]
fn a_file_passes_through_and_is_not_held() {
    let site = Site::start();
    let form = Form::new("hang", &vec![0; 9_000_000]);
    let body = form.body();
    let mut socket = site.connect();
    socket.write_all(form.head(&site, body.len()).as_bytes()).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let sent = body.chunks(65_536).take_while(|piece| socket.write_all(piece).is_ok()).map(<[u8]>::len).sum::<usize>();
    assert!(sent < 8_500_000, "{sent} bytes were taken");
    // It was not refused: the operation is there and waits.
    site.seen.until_waiting(1);
}

#[test]
fn a_form_that_breaks_off_never_becomes_an_object() {
    let site = Site::start();
    let form = Form::new("k", &vec![b'x'; 100_000]);
    let body = form.body();
    for cut in [10, body.len() / 2, body.len() - 3] {
        let mut socket = site.connect();
        socket.write_all(form.head(&site, body.len()).as_bytes()).unwrap();
        socket.write_all(&body[..cut]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        socket.shutdown(Shutdown::Write).unwrap();
        let _ = read_answer(&mut socket);
    }
    assert!(site.seen.uploads.lock().unwrap().iter().all(Result::is_err));
}

#[test]
fn a_form_may_go_to_the_host_of_its_bucket() {
    let site = Site::start();
    let host = format!("bucket.{DOMAIN}");
    let form = Form { host: Some(&host), target: "/", ..Form::new("k/l", b"hello") };
    let answer = form.send(&site);
    assert_eq!((answer.status, answer.header("location")), (204, Some(&*format!("http://{host}/k/l"))), "{}", answer.text());
}
