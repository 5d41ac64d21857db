//! What the tests of the gateway share: an embedded store in this process, the real binary in front of it, SDK clients for both.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
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
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&folder.path().join("store"), store::Options::default()).expect("store opens");
        let credentials = vec![(AT_STORE.0.to_owned(), AT_STORE.1.to_owned())];
        let running = store::serve(store.clone(), "127.0.0.1:0".parse().expect("address"), credentials).expect("store listens");
        let store_addr = running.addr();
        let gateway = Process::start(folder.path(), store_addr, more);
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

/// A running gateway.
pub struct Process {
    child: Child,
    pub s3: SocketAddr,
    pub admin: SocketAddr,
    pub log: PathBuf,
}

impl Process {
    /// Starts the binary in a folder that may already hold its keyring (so that several instances share it).
    pub fn start(folder: &Path, store: SocketAddr, more: &str) -> Self {
        let (s3, admin) = (free_address(), free_address());
        let keyring = folder.join("keyring");
        if !keyring.exists() {
            let made = Command::new(env!("CARGO_BIN_EXE_ciphergate"))
                .args(["keygen", "--out"])
                .arg(&keyring)
                .output()
                .expect("keygen runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let name = s3.port();
        let config = folder.join(format!("gateway-{name}.toml"));
        let text = format!(
            r#"{more}
[listen]
address = "{s3}"
[admin]
address = "{admin}"
[server]
workers = 2
shutdown_timeout_secs = 5
[backend]
endpoint = "http://{store}"
region = "us-east-1"
access_key_id = "{}"
secret_access_key = "{}"
[[keys]]
label = "local"
kind = "keyring"
file = "{}"
[encryption]
key = "local"
[[clients]]
name = "test"
access_key_id = "{}"
secret_access_key = "{}"
"#,
            AT_STORE.0,
            AT_STORE.1,
            keyring.display(),
            CLIENT.0,
            CLIENT.1,
        );
        let mut file = fs::File::create(&config).expect("config file");
        file.set_permissions(fs::Permissions::from_mode(0o600)).expect("mode");
        file.write_all(text.as_bytes()).expect("config is written");
        let log = folder.join(format!("gateway-{name}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_ciphergate"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("log file"))
            .spawn()
            .expect("the gateway starts");
        let mut process = Self { child, s3, admin, log };
        process.wait_ready();
        process
    }

    fn wait_ready(&mut self) {
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
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
        self.child.wait().expect("the gateway ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
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
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// An address of loopback that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
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

/// The S3 error code of a failed call.
pub fn code<T: std::fmt::Debug, E: ProvideErrorMetadata, R>(outcome: Result<T, aws_sdk_s3::error::SdkError<E, R>>) -> String {
    match outcome {
        Ok(output) => panic!("expected an error, got {output:?}"),
        Err(error) => error.code().unwrap_or("(none)").to_owned(),
    }
}
