//! What the tests of the gateway share: an embedded store in this process, the real binary in front of it, SDK clients for both.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use ciphergate::store::{self, Store};

/// Credentials of the client of the gateway.
pub const CLIENT: (&str, &str) = ("CLIENTACCESSKEY00", "client-secret-key-0123456789");
/// Credentials of the gateway at the store.
pub const AT_STORE: (&str, &str) = ("STOREACCESSKEY000", "store-secret-key-0123456789");

/// A gateway process over an embedded store.
pub struct Site {
    pub store: Arc<Store>,
    pub store_addr: SocketAddr,
    _running: store::Running,
    pub gateway: Process,
    pub folder: tempfile::TempDir,
}

impl Site {
    /// Store and gateway with the default settings.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same, with more TOML for the gateway's configuration.
    pub async fn start_with(more: &str) -> Self {
        Self::launch(|launch| launch.more(more)).await
    }

    /// The same, with everything about the gateway that [`Launch`] offers.
    pub async fn launch(adapt: impl FnOnce(Launch) -> Launch) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&folder.path().join("store"), store::Options::default()).expect("store opens");
        let credentials = vec![(AT_STORE.0.to_owned(), AT_STORE.1.to_owned())];
        let running = store::serve(store.clone(), "127.0.0.1:0".parse().expect("address"), credentials).expect("store listens");
        let store_addr = running.addr();
        let gateway = adapt(Launch::new(folder.path(), store_addr)).start();
        Self { store, store_addr, _running: running, gateway, folder }
    }

    /// A client of the gateway.
    pub fn client(&self) -> Client {
        client(self.gateway.s3, CLIENT)
    }

    /// A client of the store behind the gateway.
    pub fn behind(&self) -> Client {
        client(self.store_addr, AT_STORE)
    }

    /// A bucket made through the gateway.
    pub async fn bucket(&self, name: &str) -> String {
        self.client().create_bucket().bucket(name).send().await.expect("bucket is made");
        name.to_owned()
    }
}

/// How a gateway is started.
pub struct Launch {
    folder: PathBuf,
    store: SocketAddr,
    more: String,
    environment: Vec<(String, String)>,
    key: Option<String>,
    /// The label in place of `local`, whose section is left out.
    without_local: Option<String>,
    s3: SocketAddr,
    admin: SocketAddr,
}

/// A key in a key service.
#[derive(Clone)]
pub struct Kms {
    pub endpoint: String,
    pub arn: String,
}

/// The gateway's credentials at the key service. LocalStack takes the account from the first and does not look at the second.
pub const AT_KMS: (&str, &str) = ("test", "kms-secret-key-0123456789");

impl Launch {
    /// Over this store, with a keyring in a folder that may already hold one (so that several instances share it).
    pub fn new(folder: &Path, store: SocketAddr) -> Self {
        Self {
            folder: folder.to_owned(),
            store,
            more: String::new(),
            environment: Vec::new(),
            key: None,
            without_local: None,
            s3: free_address(),
            admin: free_address(),
        }
    }

    /// More TOML for the configuration.
    pub fn more(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self
    }

    /// A setting of a section that the configuration of the tests has already, by its environment variable.
    pub fn set(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// On these addresses, as an instance that was there before.
    pub fn on(mut self, s3: SocketAddr, admin: SocketAddr) -> Self {
        (self.s3, self.admin) = (s3, admin);
        self
    }

    /// A key in a key service in place of the keyring.
    pub fn kms(mut self, kms: Kms) -> Self {
        self.key = Some(format!("kind = \"kms\"\nkey_arn = \"{}\"\nendpoint = \"{}\"", kms.arn, kms.endpoint));
        self
    }

    /// A key of another kind in place of the keyring: its settings but for the label, as TOML.
    pub fn key(mut self, toml: &str) -> Self {
        self.key = Some(toml.to_owned());
        self
    }

    /// Without the key `local`: new objects get the one of this label.
    pub fn without_local(mut self, label: &str) -> Self {
        self.without_local = Some(label.to_owned());
        self
    }

    /// Writes the configuration file.
    pub fn write(&self) -> PathBuf {
        let key = match &self.key {
            Some(settings) => settings.clone(),
            None => {
                let keyring = self.folder.join("keyring");
                if !keyring.exists() {
                    let made = ciphergate().args(["keygen", "--out"]).arg(&keyring).output().expect("keygen runs");
                    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                }
                format!("kind = \"keyring\"\nfile = \"{}\"", keyring.display())
            }
        };
        let (label, section) = match &self.without_local {
            Some(label) => (label.as_str(), String::new()),
            None => ("local", format!("[[keys]]\nlabel = \"local\"\n{key}")),
        };
        let text = format!(
            r#"{}
[listen]
address = "{}"
[admin]
address = "{}"
[server]
workers = 2
shutdown_timeout_secs = 5
[backend]
endpoint = "http://{}"
region = "us-east-1"
access_key_id = "{}"
secret_access_key = "{}"
{section}
[encryption]
key = "{label}"
[[clients]]
name = "test"
access_key_id = "{}"
secret_access_key = "{}"
"#,
            self.more, self.s3, self.admin, self.store, AT_STORE.0, AT_STORE.1, CLIENT.0, CLIENT.1,
        );
        let path = self.folder.join(format!("gateway-{}.toml", self.s3.port()));
        let mut file = fs::File::create(&path).expect("config file");
        file.set_permissions(fs::Permissions::from_mode(0o600)).expect("mode");
        file.write_all(text.as_bytes()).expect("config is written");
        path
    }

    /// The command with this configuration and environment.
    pub fn command(&self, name: &str) -> Command {
        let mut command = ciphergate();
        command.arg(name).arg("--config").arg(self.write()).envs(self.environment.iter().cloned());
        if self.key.is_some() {
            command.env("AWS_ACCESS_KEY_ID", AT_KMS.0).env("AWS_SECRET_ACCESS_KEY", AT_KMS.1);
        }
        command
    }

    /// Starts the gateway and waits until it listens.
    pub fn start(self) -> Process {
        let log = self.folder.join(format!("gateway-{}.log", self.s3.port()));
        let child = self
            .command("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("log file"))
            .spawn()
            .expect("the gateway starts");
        let mut process = Process { child, s3: self.s3, admin: self.admin, log };
        process.wait_listening();
        process
    }
}

fn ciphergate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ciphergate"))
}

/// A running gateway.
pub struct Process {
    child: Child,
    pub s3: SocketAddr,
    pub admin: SocketAddr,
    pub log: PathBuf,
}

impl Process {
    fn wait_listening(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.s3).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the gateway ended with {status}: {}", self.log_text());
            }
            assert!(Instant::now() < until, "the gateway does not listen: {}", self.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything it logged so far.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; returns how it ended.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        self.ask_to_stop();
        self.child.wait().expect("the gateway ends")
    }

    /// SIGTERM, without waiting.
    pub fn ask_to_stop(&self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("the gateway can be asked")
    }

    /// GET on the listener for health and metrics: status and body.
    pub fn probe(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut socket = TcpStream::connect(self.admin)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }

    /// Requests that it works on, as its metrics say.
    pub fn in_flight(&self) -> u64 {
        let (_, metrics) = self.probe("/metrics").expect("metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix("ciphergate_requests_in_flight "));
        // A gauge that was never touched is not shown.
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    }

    /// Waits until it works on so many requests.
    pub async fn wait_in_flight(&self, wanted: u64, patience: Duration) {
        wait_until(patience, || self.in_flight() == wanted).await;
    }

    /// Waits until it says that it is ready.
    pub async fn wait_ready(&self) {
        wait_until(Duration::from_secs(20), || self.probe("/readyz").is_ok_and(|(status, _)| status == 200)).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something becomes true.
pub async fn wait_until(patience: Duration, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < until, "waited {patience:?} in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An SDK client with one attempt and no checksums of its own accord.
pub fn client(addr: SocketAddr, (access_key, secret_key): (&str, &str)) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(format!("http://{addr}"))
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .force_path_style(true)
        // Without TLS: reading the system's authorities would take longer than most tests.
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// An address of loopback that was free a moment ago, and another one each time. It lies below the ports that Linux gives to connections
/// that go out (32768 to 60999): none of those takes it before a gateway does.
pub fn free_address() -> SocketAddr {
    static HANDED_OUT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const PORTS: u16 = 20_000;
    // Test binaries that run at one time begin in different places.
    let start = (std::process::id() * 97 % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let at = HANDED_OUT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + (start + at) % PORTS));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} on is free");
}

/// Bytes that look random and are the same every time.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The HTTP status of a failed call.
pub fn status<T: std::fmt::Debug, E: std::fmt::Debug>(
    outcome: Result<T, aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> u16 {
    match outcome {
        Ok(output) => panic!("expected an error, got {output:?}"),
        Err(error) => error.raw_response().unwrap_or_else(|| panic!("no answer: {error:?}")).status().as_u16(),
    }
}

/// The S3 error code of a failed call.
pub fn code<T: std::fmt::Debug, E: ProvideErrorMetadata, R>(outcome: Result<T, aws_sdk_s3::error::SdkError<E, R>>) -> String {
    match outcome {
        Ok(output) => panic!("expected an error, got {output:?}"),
        Err(error) => error.code().unwrap_or("(none)").to_owned(),
    }
}
