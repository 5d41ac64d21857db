//! An OpenBao server of a test's own, and its command line.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::kit::{free_address, wait_until};

/// The program. A test that needs it fails without it.
pub fn program() -> PathBuf {
    let path = std::env::var_os("CIPHERGATE_TEST_OPENBAO")
        .expect("CIPHERGATE_TEST_OPENBAO has to name the program bao of OpenBao: use tests/run rust");
    path.into()
}

/// A running server, with a Transit engine at `transit`.
pub struct Bao {
    folder: tempfile::TempDir,
    address: SocketAddr,
    tls: bool,
    token: String,
    server: Vec<String>,
    /// `None` while it is down.
    child: Option<Child>,
    /// Of a server that keeps what it has.
    unseal_key: Option<String>,
}

impl Bao {
    /// In memory: whoever stops it loses its keys.
    pub async fn start() -> Self {
        Self::dev(false).await
    }

    /// The same over HTTPS, with a certificate of an authority of its own.
    pub async fn start_tls() -> Self {
        Self::dev(true).await
    }

    async fn dev(tls: bool) -> Self {
        let token = "owner-of-the-test-server".to_owned();
        let mut bao = Self::new(tls, token);
        let mut server = vec!["-dev".to_owned(), "-dev-no-store-token".to_owned()];
        server.push(format!("-dev-root-token-id={}", bao.token));
        server.push(format!("-dev-listen-address={}", bao.address));
        if tls {
            server.extend(["-dev-tls".to_owned(), format!("-dev-tls-cert-dir={}", bao.folder.path().display())]);
        }
        bao.server = server;
        bao.spawn().await;
        bao.run(&["secrets", "enable", "transit"]);
        bao
    }

    /// On disk: it can be stopped and started again.
    pub async fn start_lasting() -> Self {
        let mut bao = Self::new(false, String::new());
        let data = bao.folder.path().join("data");
        fs::create_dir(&data).expect("folder for data");
        let config = bao.folder.path().join("server.hcl");
        let (address, cluster) = (bao.address, SocketAddr::from((bao.address.ip(), bao.address.port() + 1)));
        let text = format!(
            "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n  performance_multiplier = 1\n}}\n\
             listener \"tcp\" {{\n  address = \"{address}\"\n  cluster_address = \"{cluster}\"\n  tls_disable = true\n}}\n\
             api_addr = \"http://{address}\"\ncluster_addr = \"https://{cluster}\"\n",
            data.display()
        );
        fs::write(&config, text).expect("configuration");
        bao.server = vec![format!("-config={}", config.display())];
        bao.spawn().await;
        let made = bao.run(&["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"]);
        let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
        bao.token = made["root_token"].as_str().expect("a token").to_owned();
        bao.unseal_key = Some(made["unseal_keys_b64"][0].as_str().expect("a key").to_owned());
        bao.unseal().await;
        bao.run(&["secrets", "enable", "transit"]);
        bao
    }

    fn new(tls: bool, token: String) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        Self { folder, address: address_and_next(), tls, token, server: Vec::new(), child: None, unseal_key: None }
    }

    async fn spawn(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("log file");
        let mut command = self.command();
        command.arg("server").args(&self.server).stdin(Stdio::null()).stdout(log.try_clone().expect("log file")).stderr(log);
        self.child = Some(command.spawn().expect("OpenBao starts"));
        // 1 is "no answer", 2 is "sealed".
        let answers = || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("OpenBao can be asked"));
            assert!(ended.is_none(), "OpenBao ended: {ended:?}");
            self.cli(&["status"]).status.code() != Some(1)
        };
        wait_until(Duration::from_secs(60), answers).await;
        if self.unseal_key.is_none() && !self.token.is_empty() {
            // A server in memory listens a moment before it is ready.
            wait_until(Duration::from_secs(60), || self.cli(&["token", "lookup"]).status.success()).await;
        }
    }

    async fn unseal(&self) {
        self.run(&["operator", "unseal", self.unseal_key.as_deref().expect("it was sealed by its start")]);
        wait_until(Duration::from_secs(60), || self.cli(&["token", "lookup"]).status.success()).await;
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// After a kill.
    pub async fn start_again(&mut self) {
        self.spawn().await;
        self.unseal().await;
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        // Nothing of the tester's own.
        for name in ["ADDR", "TOKEN", "NAMESPACE", "CACERT", "CAPATH", "SKIP_VERIFY", "FORMAT", "AGENT_ADDR"] {
            command.env_remove(format!("BAO_{name}")).env_remove(format!("VAULT_{name}"));
        }
        command.envs(self.environment()).current_dir(self.folder.path());
        command
    }

    /// What the command line has to know, as its owner.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("HOME", self.folder.path().display().to_string()),
            ("BAO_ADDR", self.address()),
            ("BAO_TOKEN", self.token.clone()),
        ];
        environment.extend(self.ca_file().map(|path| ("BAO_CACERT", path.display().to_string())));
        environment
    }

    /// `bao ARGS`
    pub fn cli(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().expect("bao runs")
    }

    /// The same; it has to succeed, and what it prints is returned.
    pub fn run(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.cli(args);
        assert!(status.success(), "bao {args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("text")
    }

    /// A derived key with these settings besides.
    pub fn key(&self, name: &str, settings: &str) {
        let path = format!("transit/keys/{name}");
        let mut args = vec!["write", "-f", &path, "derived=true"];
        args.extend(settings.split_whitespace());
        self.run(&args);
    }

    /// A policy of this text.
    pub fn policy(&self, name: &str, text: &str) {
        let path = self.folder.path().join("policy.hcl");
        fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("policy file");
        self.run(&["policy", "write", name, &path.display().to_string()]);
    }

    pub fn address(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Of its owner.
    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn ca_file(&self) -> Option<PathBuf> {
        self.tls.then(|| self.folder.path().join("vault-ca.pem"))
    }

    /// The settings of a key for the gateway.
    pub fn toml(&self, name: &str, token_file: &Path) -> String {
        let ca_file = self.ca_file().map(|path| format!("ca_file = \"{}\"\n", path.display())).unwrap_or_default();
        format!(
            "kind = \"transit\"\nendpoint = \"{}\"\nkey_name = \"{name}\"\ntoken_file = \"{}\"\n{ca_file}",
            self.address(),
            token_file.display()
        )
    }
}

/// A free address whose next port is free too: a server listens there for others of its cluster.
fn address_and_next() -> SocketAddr {
    loop {
        let (address, next) = (free_address(), free_address());
        if next.port() == address.port() + 1 {
            return address;
        }
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let from = log.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
            eprintln!("the end of OpenBao's log:\n{}", &log[from..]);
        }
    }
}
