//! The configuration: a TOML file, then the environment, then flags, each overriding the one before.
//!
//! Unknown settings are refused, and all mistakes are reported together. [`Config`] is the configuration as meant: it exists only when
//! everything in it has been checked. `raw` is the configuration as written, and the text of the reference.
//!
//! This room knows no other room; `app` translates. It never prints a secret, and it never makes up a key or a client.

mod aws_client;
mod check;
mod kms;
mod kms_key;
mod problem;
mod raw;
pub mod render;
mod secret;
mod setting;
mod source;
mod transit;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use kms::Kms;
pub use problem::{Origin, Problem, Problems};
pub use secret::{FileError, Secret, check_private_file};
pub use source::{Override, Sources};
pub use values::{
    Access, AccessKeyId, BucketName, ClientName, Domain, Endpoint, ExternalId, KeyAlias, KeyArn, KeyMode, KeyPrefix, Label,
    LogFormat, LogLevel, MountPath, Region, Replica, RoleArn, Scope, SessionName, StatePrefix, Suite, TransitKeyName,
    UploadChecksum,
};

/// A configuration that has been checked. Its `Display` is the effective settings as TOML with the origin of each, secrets redacted.
#[derive(Debug)]
pub struct Config {
    pub listen: Listen,
    pub admin: Admin,
    pub server: Server,
    pub backend: Backend,
    /// At least one, with distinct labels.
    pub keys: Vec<Key>,
    pub kms: Kms,
    pub key_cache: KeyCache,
    /// Buckets that differ from the default; [`Config::rule`] is what decides.
    pub buckets: BTreeMap<BucketName, Rule>,
    pub multipart: Multipart,
    /// At least one, with distinct names and access keys.
    pub clients: Vec<Client>,
    pub log: Log,
    pub default_rule: DefaultRule,
    shown: Vec<setting::Shown>,
}

/// Where S3 clients connect.
#[derive(Debug)]
pub struct Listen {
    pub address: SocketAddr,
    /// Their subdomains are buckets. No two of them overlap.
    pub domains: Vec<Domain>,
    /// `None`: plain HTTP, which off loopback was allowed in words.
    pub tls: Option<Tls>,
}

/// Certificate chain and private key, both PEM files that could be read when the configuration was.
#[derive(Debug)]
pub struct Tls {
    pub certificate_file: PathBuf,
    /// Nobody but its owner can read it.
    pub key_file: PathBuf,
}

/// Health and metrics.
#[derive(Debug)]
pub struct Admin {
    pub address: SocketAddr,
}

/// Limits of the server.
#[derive(Debug)]
pub struct Server {
    /// `None`: one for each processor.
    pub workers: Option<usize>,
    pub keep_alive: Duration,
    pub request_header_timeout: Duration,
    /// How long a body may stand still.
    pub idle_body_timeout: Duration,
    /// May be zero.
    pub drain_delay: Duration,
    /// May be zero.
    pub shutdown_timeout: Duration,
    /// Over all workers.
    pub connections_max: usize,
}

/// The S3 store behind the gateway.
#[derive(Debug)]
pub struct Backend {
    /// `None`: AWS S3.
    pub endpoint: Option<Endpoint>,
    /// Never `None` when there is an endpoint.
    pub region: Option<Region>,
    pub path_style: bool,
    /// PEM; trusted besides the system's authorities.
    pub ca_file: Option<PathBuf>,
    pub credentials: Credentials,
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer.
    pub response_timeout: Duration,
    /// How long a body may stand still.
    pub idle_body_timeout: Duration,
    /// The longest object, in bytes, that the store copies with one request.
    pub copy_max: u64,
    /// Checksum of the sealed body behind every upload.
    pub upload_checksum: UploadChecksum,
}

/// Who the gateway is at the store.
#[derive(Debug)]
pub enum Credentials {
    /// The standard AWS chain, with a profile if one is named.
    Chain {
        profile: Option<String>,
    },
    Static {
        access_key_id: AccessKeyId,
        secret_access_key: Secret,
    },
}

/// A key that wraps data keys.
#[derive(Debug)]
pub struct Key {
    pub label: Label,
    pub source: KeySource,
}

/// Where a key lives.
#[derive(Debug)]
pub enum KeySource {
    /// AWS KMS.
    Kms(KmsKey),
    /// A keyring file that nobody but its owner can read.
    Keyring { file: PathBuf },
    /// A key in the Transit engine of OpenBao or Vault.
    Transit {
        endpoint: Endpoint,
        mount: MountPath,
        name: TransitKeyName,
        namespace: Option<MountPath>,
        ca_file: Option<PathBuf>,
        token: Token,
    },
}

/// Who the gateway is at the key service.
#[derive(Debug)]
pub enum Token {
    /// A file that nobody but its owner could read when the configuration was, and that may be renewed.
    File(PathBuf),
    Static(Secret),
}

/// A key in AWS KMS and how it is called.
#[derive(Debug)]
pub struct KmsKey {
    pub name: KmsName,
    /// Of the key's own region. `None`: AWS's.
    pub endpoint: Option<Endpoint>,
    pub ca_file: Option<PathBuf>,
    /// `None`: the standard AWS chain calls in its own name.
    pub role: Option<KmsRole>,
    /// Further regions of a multi-region key, all of them distinct, in the order in which they are tried.
    pub replicas: Vec<Replica>,
}

/// What a KMS key is named by.
#[derive(Debug)]
pub enum KmsName {
    /// The region that is called is the ARN's.
    Arn(KeyArn),
    Alias {
        alias: KeyAlias,
        /// Never another one than the alias itself names.
        region: Option<Region>,
        /// The key that the alias has to lead to.
        pinned: Option<KeyArn>,
    },
}

/// A role that calls a key.
#[derive(Debug)]
pub struct KmsRole {
    pub arn: RoleArn,
    pub external_id: Option<ExternalId>,
    pub session_name: SessionName,
}

/// Bounds on keys in memory.
#[derive(Clone, Copy, Debug)]
pub struct KeyCache {
    pub ttl: Duration,
    pub entries_max: u64,
    /// How long one shared key wraps new objects.
    pub shared_age_max: Duration,
    /// How many new objects one shared key wraps.
    pub shared_uses_max: u64,
}

/// How new objects of a bucket are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub scope: Scope,
    /// Other buckets that say the same may have this scope too.
    pub share_scope: bool,
    /// Always the label of one of [`Config::keys`].
    pub key: Label,
    pub suite: Suite,
    pub mode: KeyMode,
    pub hash_key_names: bool,
    pub seal_metadata: bool,
    /// What the bucket may hold besides sealed objects.
    pub access: Access,
    /// How objects of AWS's own encryption client are read, if they are.
    pub aws_client: Option<AwsClient>,
    /// Distinct prefixes, in the order of the configuration. The longest one that fits an object key wins.
    pub prefixes: Vec<PrefixRule>,
}

/// How objects that AWS's own encryption client wrote are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsClient {
    /// Always the label of a KMS key of [`Config::keys`].
    pub key: Label,
    /// The longest one, in plaintext bytes.
    pub bytes_max: u64,
}

/// How new objects whose keys begin with a prefix are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixRule {
    pub prefix: KeyPrefix,
    /// Always the label of one of [`Config::keys`].
    pub key: Label,
    pub suite: Suite,
    pub mode: KeyMode,
    pub hash_key_names: bool,
    pub seal_metadata: bool,
}

/// The rule of a bucket that is not named, but for its scope, which is the bucket's name.
#[derive(Clone, Debug)]
pub struct DefaultRule {
    pub key: Label,
    pub suite: Suite,
    pub mode: KeyMode,
    pub hash_key_names: bool,
    pub seal_metadata: bool,
}

impl DefaultRule {
    fn with_scope(&self, scope: Scope) -> Rule {
        let Self { key, suite, mode, hash_key_names, seal_metadata } = self.clone();
        let (access, aws_client, prefixes) = (Access::Encrypted, None, Vec::new());
        Rule { scope, share_scope: false, key, suite, mode, hash_key_names, seal_metadata, access, aws_client, prefixes }
    }
}

/// Multipart uploads.
#[derive(Debug)]
pub struct Multipart {
    pub state: State,
    /// The largest PutObject that is stored in one piece, in plaintext bytes.
    pub put_bytes_max: u64,
    /// `None`: the server clears nothing away by itself.
    pub janitor_interval: Option<Duration>,
}

/// Where the state of uploads lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Bucket(BucketName),
    /// In the bucket that the upload is for.
    Prefix(StatePrefix),
}

/// Someone who may use the gateway.
#[derive(Debug)]
pub struct Client {
    pub name: ClientName,
    pub access_key_id: AccessKeyId,
    /// 8 to 128 printable ASCII characters.
    pub secret_access_key: Secret,
}

/// The log, on standard error.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

impl Config {
    /// Reads and checks everything; the error holds every mistake there is.
    pub fn load(mut sources: Sources) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let text = sources.document(&mut problems);
        let mut tree = text.parse(&mut problems);
        if !problems.is_empty() {
            // What a broken file did not say would be reported as missing.
            return Err(problems);
        }
        sources.overlay(&mut tree, &mut problems);
        let (raw, shown) = raw::Raw::read(&mut tree, &mut problems);
        check::config(raw, shown, problems)
    }

    /// How new objects of `bucket` are encrypted, and the scope that all its objects are bound to. Every bucket has a rule; `None` for what
    /// cannot be a bucket name.
    pub fn rule(&self, bucket: &str) -> Option<Rule> {
        let bucket: BucketName = bucket.parse().ok()?;
        match self.buckets.get(&bucket) {
            Some(rule) => Some(rule.clone()),
            None => Some(self.default_rule.with_scope(bucket.as_str().parse().ok()?)),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for setting::Shown { heading, lines } in self.shown.iter().filter(|section| !section.lines.is_empty()) {
            f.write_str(between)?;
            if !heading.is_empty() {
                writeln!(f, "{heading}")?;
            }
            for (name, value, origin) in lines {
                writeln!(f, "{:<52} # {origin}", format!("{name} = {value}"))?;
            }
            between = "\n";
        }
        Ok(())
    }
}
