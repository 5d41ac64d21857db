//! What can be written on the command line.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bulk::Target;
use crate::bulk::verify::Sample;
use crate::config::{Override, Sources};

/// An S3-compatible gateway that encrypts every object before it reaches the bucket.
#[derive(Debug, Parser)]
#[command(
    name = "ciphergate",
    version,
    max_term_width = 120,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line or configuration; some commands have more."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway.
    ///
    /// Settings come from the file, then from CIPHERGATE_... variables, then from the flags below.
    ///
    /// SIGTERM or SIGINT stops it once running transfers have ended, at the latest after server.shutdown_timeout_secs.
    Serve(ConfigArgs),
    /// Prove a configuration: print it with secrets redacted, reach the store, wrap and unwrap with the keys.
    ///
    /// It reads the same settings as `serve` and listens nowhere. All mistakes are reported together.
    Check(ConfigArgs),
    /// Run everything on this machine for development: an embedded S3 store, a local keyring, and the gateway in front.
    ///
    /// Clients sign with CIPHERGATE_DEV_ACCESS_KEY and CIPHERGATE_DEV_SECRET_KEY.
    ///
    /// Without them, credentials are made at the first start and kept. It prints what to paste into another terminal.
    Dev(DevArgs),
    /// Clear away what ended multipart uploads left in the store, and rewrap records of versions that are gone.
    ///
    /// It reads the same settings as `serve`, and may run while instances do. Uploads that are under way are never touched. The server does
    /// the same by itself every multipart.janitor_interval_secs, but for the records.
    Gc(GcArgs),
    /// Say what an object in the store is: its envelope, its sizes, and with --unlock its opened footer. Never its plaintext.
    ///
    /// It reads the same settings as `serve` and asks the store itself, not a gateway. Without --unlock no key is used.
    #[command(after_help = OPERATOR_EXIT_CODES)]
    Inspect(InspectArgs),
    /// Get what is left of a damaged object: every chunk that verifies, and exactly which bytes of the plaintext are lost.
    ///
    /// A read through the gateway refuses a damaged object. This opens it chunk by chunk, and gives no byte that does not verify. It writes
    /// nothing into the store; without --out it only says what could be recovered. The key that wrapped the object is needed: without it
    /// nothing can be recovered.
    #[command(after_help = OPERATOR_EXIT_CODES)]
    Recover(RecoverArgs),
    /// Copy the plaintext of objects below a prefix into another bucket or into a folder: the way out of the gateway.
    ///
    /// Every byte is verified before it counts. The objects keep their whole keys; the sealed ones stay. A bucket must be one that the
    /// configuration calls plaintext (access = "plaintext"): content headers, metadata, tags and storage class go along. In a folder an object
    /// becomes a file, whole or not at all. Nothing that is there already is overwritten. Without --apply it only says what it would do.
    #[command(after_help = OPERATOR_EXIT_CODES)]
    Decrypt(DecryptArgs),
    /// Seal the plaintext objects that lie below a prefix, in their place.
    ///
    /// Each is read, sealed, written in the place of exactly what was read, and read back before it counts as done: whoever writes at the
    /// same time wins. Metadata, content headers, tags, ACL, storage class and Object Lock settings stay; ETag and time change. Objects with an envelope are left alone. Without --apply it only says what it would do.
    ///
    /// In a bucket with versions the plaintext REMAINS as an old version, which the report says. --delete-plaintext-versions deletes those
    /// whose content the sealed current version holds.
    #[command(after_help = OPERATOR_EXIT_CODES)]
    Encrypt(EncryptArgs),
    /// Give sealed objects below a prefix new data keys: each is opened, and sealed anew in its place.
    ///
    /// For data keys that somebody may know; for another master key, a new envelope is enough. Guarded and verified as `encrypt` does it. ETag and
    /// time change, large objects may get other parts, and a checksum of parts is not kept. Old versions stay as they are. Without --apply
    /// it only says what it would do.
    #[command(after_help = OPERATOR_EXIT_CODES)]
    Reencrypt(ReencryptArgs),
    /// Open every chunk of every object below a prefix, and report what is damaged, foreign, plaintext or unreadable.
    ///
    /// It changes nothing. A store or key service that does not answer is asked again for a while, and is never taken for damage.
    #[command(after_help = OPERATOR_EXIT_CODES)]
    Verify(VerifyArgs),
    /// Move every object below a prefix to another key, by writing its envelope anew; the store copies the sealed bytes onto themselves.
    ///
    /// Without --apply it says what it would do and changes nothing. Objects that are written meanwhile keep what was written. Old
    /// versions keep their key and are counted; with --versions they get a record under the new one.
    #[command(after_help = OPERATOR_EXIT_CODES)]
    Rewrap(RewrapArgs),
    /// Make a keyring file with a new master key.
    ///
    /// Without the file no object that was sealed under it can be opened again: keep a copy apart from the bucket.
    Keygen(KeygenArgs),
    /// Look at a keyring file, add a version to it, or make another version the primary one.
    Keyring(KeyringArgs),
    /// Run the embedded S3 store alone, for tests and benchmarks. It does not encrypt.
    ///
    /// Clients sign with CIPHERGATE_DEV_ACCESS_KEY and CIPHERGATE_DEV_SECRET_KEY, which must be set.
    Store(StoreArgs),
    /// Ask a running gateway whether it is alive; for container health checks.
    ///
    /// The exit code is 0 when it answers that all is well, and 1 otherwise.
    Healthcheck(HealthcheckArgs),
    /// Print a commented example of the configuration file.
    Example,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file (TOML); `ciphergate example` explains every setting.
    #[arg(long, short, env = "CIPHERGATE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address for S3 clients, in place of listen.address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address for health and metrics, in place of admin.address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<SocketAddr>,
    /// json or text, in place of log.format.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// error, warn, info, debug or trace, in place of log.level.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any other setting, by its path, such as backend.region=eu-central-1. May be repeated. Not for secrets.
    #[arg(long = "set", value_name = "SETTING=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Everything that the configuration is read from, in order.
    pub fn sources(&self) -> Sources {
        let sources = match &self.config {
            Some(path) => Sources::file(path),
            None => Sources::new(),
        };
        sources.process_environment().flags(self.overrides())
    }

    fn overrides(&self) -> impl Iterator<Item = Override> {
        let flag = |flag: &str, key: &str, value: Option<String>| {
            value.map(|value| Override { flag: flag.to_owned(), key: key.to_owned(), value })
        };
        let named = [
            flag("--listen", "listen.address", self.listen.map(|address| address.to_string())),
            flag("--admin", "admin.address", self.admin.map(|address| address.to_string())),
            flag("--log-format", "log.format", self.log_format.clone()),
            flag("--log-level", "log.level", self.log_level.clone()),
        ];
        let set =
            self.set.iter().map(|(key, value)| Override { flag: format!("--set {key}"), key: key.clone(), value: value.clone() });
        named.into_iter().flatten().chain(set)
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as SETTING=VALUE".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct DevArgs {
    /// Address for S3 clients. Loopback only; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Address for health and metrics. Loopback only; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub admin: SocketAddr,
    /// Folder for objects, keyring and credentials. It is made when it is not there.
    #[arg(long, default_value = "ciphergate-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The least important log line: error, warn, info, debug or trace.
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    pub log_level: String,
}

#[derive(Debug, Args)]
pub struct GcArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Leave out what changed during the last so many seconds. Within it, a repeated CompleteMultipartUpload still gets its answer.
    #[arg(long, default_value_t = crate::ops::multipart::janitor::REST.as_secs(), value_name = "SECONDS")]
    pub older_than_secs: u64,
    /// Look into this bucket only. May be repeated. Without it, all that the store lists, or the state bucket.
    #[arg(long, value_name = "BUCKET")]
    pub bucket: Vec<String>,
    /// Print a JSON document in place of lines.
    #[arg(long)]
    pub json: bool,
}

/// What every command on objects ends with.
const OPERATOR_EXIT_CODES: &str = "Exit codes: 0 all well, 1 something failed while running, 2 wrong command line or configuration, \
     3 findings: objects that are damaged, foreign, plaintext or could not be moved, 4 interrupted, and can be resumed.";

#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The object, as s3://BUCKET/KEY. Nothing in it is percent-encoded.
    #[arg(value_name = "TARGET", required_unless_present = "file", conflicts_with_all = ["file", "envelope"])]
    pub target: Option<Target>,
    /// In place of an object a file that holds what the store has of one. No store, key or configuration is used.
    #[arg(long, value_name = "PATH", requires = "envelope", conflicts_with_all = ["version_id", "unlock"])]
    pub file: Option<PathBuf>,
    /// The file's envelope: the value of the metadata entry "ciphergate", or @ and a file that holds it, or a rewrap record.
    #[arg(long, value_name = "TEXT|@PATH")]
    pub envelope: Option<String>,
    /// A version of it, in place of the current one.
    #[arg(long, value_name = "ID")]
    pub version_id: Option<String>,
    /// Open the footer, with the key: parts, checksums, time.
    #[arg(long)]
    pub unlock: bool,
    /// Print a JSON document in place of lines.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What keys begin with, as s3://BUCKET/PREFIX; s3://BUCKET for all. Nothing in it is percent-encoded.
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// Every version, not only the current ones.
    #[arg(long)]
    pub all_versions: bool,
    /// Open the envelope, the footer, and the first and the last chunk only.
    #[arg(long)]
    pub quick: bool,
    /// Look at so many objects, or at a percentage of them such as 2.5%. Which ones follows from their names and the seed.
    #[arg(long, value_name = "N|PERCENT%")]
    pub sample: Option<Sample>,
    /// Another seed gives another sample.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    #[command(flatten)]
    pub bulk: BulkArgs,
}

#[derive(Debug, Args)]
pub struct RewrapArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What keys begin with, as s3://BUCKET/PREFIX; s3://BUCKET for all. Nothing in it is percent-encoded.
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// The key that objects are to be under, by its label. Without it, the one that the rule of each object names.
    #[arg(long, value_name = "LABEL")]
    pub to: Option<String>,
    /// Move only objects under the key of this label.
    #[arg(long, value_name = "LABEL")]
    pub from: Option<String>,
    /// Keep a record under the wanted key for every old version, and for those that moves leave behind. The versions stay as they are, and
    /// open by their records once the configuration has their own key no more.
    #[arg(long)]
    pub versions: bool,
    /// Do it. Without this flag nothing is changed.
    #[arg(long)]
    pub apply: bool,
    #[command(flatten)]
    pub bulk: BulkArgs,
}

/// How a command on many objects goes about its work.
#[derive(Debug, Args)]
pub struct BulkArgs {
    /// Objects that are worked on at one time.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// Begin no more than so many objects in a second.
    #[arg(long, value_name = "N")]
    pub objects_per_sec: Option<NonZeroU32>,
    /// How long a store or key service that does not answer is asked again, before an object counts as failed.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub patience_secs: u64,
    /// Write down in this file what is done, so that a run that was stopped or killed can go on.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Go on with the journal, if it is there already.
    #[arg(long, requires = "journal")]
    pub resume: bool,
    /// Write each finding as a line of JSON into this file.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print a JSON document at the end, in place of lines.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RecoverArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The object, as s3://BUCKET/KEY. Nothing in it is percent-encoded.
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// A version of it, in place of the current one.
    #[arg(long, value_name = "ID")]
    pub version_id: Option<String>,
    /// Write the plaintext into this new file, readable by its owner only; - for standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What stands in place of lost bytes: zeros, so that everything is where it was, or nothing.
    #[arg(long, value_enum, default_value_t = Holes::Zero, value_name = "HOLES")]
    pub holes: Holes,
    /// A length that the plaintext may have had, or a range of lengths to try; for an object that was cut off. May be repeated.
    #[arg(long, value_name = "N|FROM-TO", value_parser = sizes)]
    pub plain_size: Vec<std::ops::RangeInclusive<u64>>,
    /// The object's envelope, where the store has lost it: the value of its metadata entry "ciphergate".
    #[arg(long, value_name = "TEXT")]
    pub envelope: Option<String>,
    /// The bucket and key that the object was sealed for, where it was moved since without the gateway.
    #[arg(long, value_name = "TARGET")]
    pub sealed_as: Option<Target>,
    /// Print a JSON document in place of lines.
    #[arg(long)]
    pub json: bool,
}

/// What stands in place of lost bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Holes {
    Zero,
    Skip,
}

fn sizes(text: &str) -> Result<std::ops::RangeInclusive<u64>, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| "write it as N or FROM-TO, in bytes".to_owned());
    match text.split_once('-') {
        None => number(text).map(|size| size..=size),
        Some((from, to)) => match (number(from)?, number(to)?) {
            (from, to) if from <= to => Ok(from..=to),
            _ => Err("the first length is above the second".to_owned()),
        },
    }
}

#[derive(Debug, Args)]
pub struct DecryptArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub bulk: BulkArgs,
    /// Objects, as s3://BUCKET/PREFIX. Nothing in it is percent-encoded.
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// Where they go: s3://BUCKET/PREFIX, put before their keys, or a folder.
    #[arg(long, value_name = "TARGET|DIR")]
    pub to: String,
    /// Do it, in place of only saying what would be done.
    #[arg(long)]
    pub apply: bool,
}

#[derive(Debug, Args)]
pub struct EncryptArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub bulk: BulkArgs,
    /// Objects, as s3://BUCKET/PREFIX. Nothing in it is percent-encoded.
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// Do it, in place of only saying what would be done.
    #[arg(long)]
    pub apply: bool,
    /// Delete a plaintext version once the sealed current version has been read and holds the same.
    #[arg(long, requires = "apply")]
    pub delete_plaintext_versions: bool,
}

#[derive(Debug, Args)]
pub struct ReencryptArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub bulk: BulkArgs,
    /// Objects, as s3://BUCKET/PREFIX. Nothing in it is percent-encoded.
    #[arg(value_name = "TARGET")]
    pub target: Target,
    /// Do it, in place of only saying what would be done.
    #[arg(long)]
    pub apply: bool,
}

#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// File to write, readable by its owner only. It must not exist.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Label that objects will name the key by: 1 to 32 of a-z, 0-9 and -.
    #[arg(long, default_value = "local", value_name = "LABEL")]
    pub label: String,
}

#[derive(Debug, Args)]
pub struct KeyringArgs {
    #[command(subcommand)]
    pub command: KeyringCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeyringCommand {
    /// Show the versions of a keyring, when they were made, and which one is primary. Never a secret.
    List(KeyringListArgs),
    /// Add a fresh version and make it the primary one, which wraps new objects. Old versions stay and open what they wrapped.
    ///
    /// The file is replaced whole or not at all, with its mode and owner. Instances read it when they start. Where more than one runs, none
    /// may write with a version that another does not have yet: add it with --no-primary, give the file to every instance and restart each,
    /// then --promote it and do so again. Have a backup of the file before and after.
    Rotate(KeyringRotateArgs),
}

#[derive(Debug, Args)]
pub struct KeyringListArgs {
    /// The keyring file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print a JSON document in place of lines.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct KeyringRotateArgs {
    /// The keyring file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Add the version, and let the old primary one go on wrapping.
    #[arg(long, conflicts_with = "promote")]
    pub no_primary: bool,
    /// Add nothing; make this version the primary one.
    #[arg(long, value_name = "VERSION")]
    pub promote: Option<u32>,
    /// Print a JSON document in place of lines.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Address. Loopback only; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Folder for index and bodies. It is made when it is not there.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Force every object to the disk before its upload is answered.
    #[arg(long)]
    pub fsync: bool,
}

#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Address that the gateway serves health and metrics on, admin.address. 0.0.0.0 and :: stand for loopback.
    #[arg(long, env = "CIPHERGATE_ADMIN__ADDRESS", default_value = "127.0.0.1:9090", value_name = "ADDRESS:PORT")]
    pub admin: SocketAddr,
    /// Ask whether it is ready for requests (/readyz), not only alive (/livez).
    #[arg(long)]
    pub ready: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_overrides_under_their_own_names() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["ciphergate"][..], args].concat());
        let cli = parse(&["serve", "-c", "x.toml", "--listen", "[::1]:1", "--set", "a.b=c", "--set", "a.c="]).unwrap();
        let Command::Serve(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.config.as_deref(), Some(std::path::Path::new("x.toml")));
        let overrides: Vec<_> = args.overrides().map(|flag| (flag.flag, flag.key, flag.value)).collect();
        let told = |flag: &str, key: &str, value: &str| (flag.to_owned(), key.to_owned(), value.to_owned());
        assert_eq!(
            overrides,
            [told("--listen", "listen.address", "[::1]:1"), told("--set a.b", "a.b", "c"), told("--set a.c", "a.c", "")]
        );
        for wrong in [&[][..], &["serf"], &["serve", "--listen", "here"], &["serve", "--set", "a.b"], &["keygen"], &["store"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn settings_are_pairs() {
        assert_eq!(setting("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(setting("a").is_err());
        assert!(setting("=a").is_err());
    }
}
