//! A store of one's own for each test, an SDK client for it, and requests written by hand for what no SDK would send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use ciphergate::store::{Options, Running, Store, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const PAIR: (&str, &str) = ("STOREACCESSKEY000", "store-secret-key");

/// A running store with a bucket `box`.
pub struct Site {
    pub client: Client,
    pub store: Arc<Store>,
    pub running: Running,
    pub folder: tempfile::TempDir,
}

impl Site {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let running = start(&store);
        let client = client(running.addr(), PAIR);
        client.create_bucket().bucket("box").send().await.unwrap();
        Self { client, store, running, folder }
    }

    pub async fn put(&self, key: &str, content: impl Into<Vec<u8>>) -> String {
        let content: Vec<u8> = content.into();
        let done = self.client.put_object().bucket("box").key(key).body(content.into()).send().await.unwrap();
        done.e_tag.unwrap()
    }

    pub async fn get(&self, key: &str) -> Vec<u8> {
        let object = self.client.get_object().bucket("box").key(key).send().await.unwrap();
        object.body.collect().await.unwrap().to_vec()
    }

    pub async fn keys(&self) -> Vec<String> {
        let page = self.client.list_objects_v2().bucket("box").send().await.unwrap();
        page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
    }

    /// Body files on the disk, finished or not.
    pub fn files(&self) -> usize {
        files(self.folder.path())
    }

    /// A signed request written by hand. The path starts with a slash and may have a query.
    pub async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let request = signed(self.running.addr(), method, path, headers, body, SignableBody::Bytes(body));
        exchange(self.running.addr(), &request).await
    }
}

pub fn start(store: &Arc<Store>) -> Running {
    serve(Arc::clone(store), "127.0.0.1:0".parse().unwrap(), vec![(PAIR.0.into(), PAIR.1.into())]).unwrap()
}

pub fn files(folder: &std::path::Path) -> usize {
    let folders = std::fs::read_dir(folder.join("bodies")).unwrap();
    folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

/// A client that sends no more than it must.
pub fn client(addr: SocketAddr, pair: (&str, &str)) -> Client {
    client_with(addr, pair, RequestChecksumCalculation::WhenRequired)
}

/// A client that sends checksums wherever it can: in headers for bodies in memory, in trailers for streamed ones.
pub fn checking_client(addr: SocketAddr) -> Client {
    client_with(addr, PAIR, RequestChecksumCalculation::WhenSupported)
}

fn client_with(addr: SocketAddr, pair: (&str, &str), checksums: RequestChecksumCalculation) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(format!("http://{addr}"))
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(pair.0, pair.1, None, None, "test"))
        .force_path_style(true)
        .request_checksum_calculation(checksums)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

/// The S3 code of a failure.
pub fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    error.code().unwrap_or("none").to_owned()
}

/// Some content that differs everywhere.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut content = Vec::with_capacity(len + 8);
    while content.len() < len {
        content.extend_from_slice(&random.next().to_le_bytes());
    }
    content.truncate(len);
    content
}

/// A small generator, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The bytes of a signed request that closes its connection. `signed_as` is what the signature says about the body.
pub fn signed(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    signed_as: SignableBody<'_>,
) -> Vec<u8> {
    let host = addr.to_string();
    let mut headers: Vec<(&str, &str)> = headers.to_vec();
    headers.push(("host", &host));
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let identity = Credentials::new(PAIR.0, PAIR.1, None, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let request = SignableRequest::new(method, format!("http://{host}{path}"), headers.iter().copied(), signed_as).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers.iter().copied().chain(instructions.headers()) {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// The S3 error code in the body.
    pub fn code(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let code = body.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next());
        code.unwrap_or("none").to_owned()
    }
}

/// Sends bytes and reads the answer until the connection closes.
pub async fn exchange(addr: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // A refused upload may be cut off while it is sent: what counts is the answer.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
    let mut lines = bytes[..end].split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let status = lines.next().and_then(|line| std::str::from_utf8(line.get(9..12)?).ok()?.parse().ok()).unwrap();
    let header = |line: &[u8]| {
        let colon = line.iter().position(|&byte| byte == b':').unwrap();
        let name = String::from_utf8(line[..colon].to_vec()).unwrap();
        (name, line[colon + 1..].trim_ascii().to_vec())
    };
    Answer { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
}
