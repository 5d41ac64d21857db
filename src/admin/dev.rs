//! `ciphergate dev`: everything on this machine, with one command and no account. The gateway is the one of production; only the
//! store and the keyring behind it are local.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::cli::DevArgs;
use super::{Failure, serve};
use crate::app::Addresses;
use crate::config::{Config, LogFormat, Secret, Sources};
use crate::keys::Label;
use crate::keys::keyring::Keyring;
use crate::store::{self, Store};

const KEY_LABEL: &str = "local";
const ACCESS_KEY_VARIABLE: &str = "CIPHERGATE_DEV_ACCESS_KEY";
const SECRET_KEY_VARIABLE: &str = "CIPHERGATE_DEV_SECRET_KEY";

pub(super) fn run(args: &DevArgs) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() || !args.admin.ip().is_loopback() {
        return Err(Failure::Usage(
            "ciphergate dev listens on loopback only; for other addresses use ciphergate serve".to_owned(),
        ));
    }
    let log_level = args.log_level.parse().map_err(|error| Failure::Usage(format!("--log-level: {error}")))?;
    serve::start_log(LogFormat::Text, log_level)?;
    let folder = &args.data_dir;
    make_private_folder(folder)?;
    let client = client_credentials(folder)?;
    let keyring = folder.join("keyring");
    if !keyring.exists() {
        Keyring::create(&keyring, &Label::new(KEY_LABEL).expect("a valid label")).map_err(Failure::run)?;
    }

    // Credentials between the gateway and its store live as long as the process: nobody else needs them.
    let between = Pair { access_key: random_name(10)?, secret_key: random_name(25)? };
    let store = Store::open(&folder.join("store"), store::Options::default()).map_err(Failure::run)?;
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let pair = (between.access_key.to_string(), between.secret_key.to_string());
    let running = store::serve(store, loopback, vec![pair]).map_err(Failure::run)?;

    let config = Config::load(Sources::text(
        "the settings of ciphergate dev",
        settings(args, &keyring, &between, &client, running.addr()),
    ))
    .map_err(|problems| Failure::Usage(problems.to_string()))?;
    let ended = serve::serve(config, |addresses| greet(folder, addresses, &client));
    running.shutdown();
    ended
}

struct Pair {
    access_key: Zeroizing<String>,
    secret_key: Zeroizing<String>,
}

fn settings(args: &DevArgs, keyring: &Path, between: &Pair, client: &Pair, store: std::net::SocketAddr) -> String {
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    format!(
        "[listen]\naddress = \"{}\"\n[admin]\naddress = \"{}\"\n[backend]\nendpoint = \"http://{store}\"\nregion = \"us-east-1\"\n\
         access_key_id = {}\nsecret_access_key = {}\n[[keys]]\nlabel = \"{KEY_LABEL}\"\nkind = \"keyring\"\nfile = {}\n\
         [encryption]\nkey = \"{KEY_LABEL}\"\n[[clients]]\nname = \"dev\"\naccess_key_id = {}\nsecret_access_key = {}\n",
        args.listen,
        args.admin,
        quote(&between.access_key),
        quote(&between.secret_key),
        quote(&std::path::absolute(keyring).unwrap_or_else(|_| keyring.to_owned()).to_string_lossy()),
        quote(&client.access_key),
        quote(&client.secret_key),
    )
}

fn make_private_folder(folder: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::Run(format!("{} cannot be made: {error}", folder.display())))
}

/// Those of the environment; otherwise those that were made at the first start and kept.
fn client_credentials(folder: &Path) -> Result<Pair, Failure> {
    match (std::env::var(ACCESS_KEY_VARIABLE), std::env::var(SECRET_KEY_VARIABLE)) {
        (Ok(access_key), Ok(secret_key)) => {
            return Ok(Pair { access_key: Zeroizing::new(access_key), secret_key: Zeroizing::new(secret_key) });
        }
        (Err(_), Err(_)) => {}
        _ => return Err(Failure::Usage(format!("set both {ACCESS_KEY_VARIABLE} and {SECRET_KEY_VARIABLE}, or neither"))),
    }
    let path = folder.join("credentials");
    if !path.exists() {
        let text = Zeroizing::new(format!("{} {}\n", *random_name(10)?, *random_name(25)?));
        write_private(&path, text.as_bytes())
            .map_err(|error| Failure::Run(format!("{} cannot be written: {error}", path.display())))?;
    }
    let kept = Secret::from_file(&path).map_err(|error| Failure::Run(format!("{}: {error}", path.display())))?;
    match kept.expose().split_once(' ') {
        Some((access_key, secret_key)) => {
            Ok(Pair { access_key: Zeroizing::new(access_key.to_owned()), secret_key: Zeroizing::new(secret_key.to_owned()) })
        }
        None => Err(Failure::Run(format!("{} is damaged: remove it to have new credentials made", path.display()))),
    }
}

/// Writes beside and renames, so that a file cut short is never found under the name.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

fn random_name(bytes: usize) -> Result<Zeroizing<String>, Failure> {
    let mut random = Zeroizing::new(vec![0u8; bytes]);
    getrandom::fill(&mut random).map_err(|error| Failure::Run(format!("no randomness from the operating system: {error}")))?;
    Ok(Zeroizing::new(BASE32_NOPAD.encode(&random)))
}

fn greet(folder: &Path, addresses: Addresses, client: &Pair) {
    let endpoint = format!("http://{}", addresses.s3);
    println!(
        "\
Ciphergate for development and tests, on {endpoint}
  data, keyring and credentials: {}
  health and metrics: http://{}/readyz, /metrics

Paste this into another terminal:

  export AWS_ACCESS_KEY_ID={}
  export AWS_SECRET_ACCESS_KEY={}
  export AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url {endpoint} s3 mb s3://my-bucket
  aws --endpoint-url {endpoint} s3api put-object --bucket my-bucket --key README.md --body README.md
  aws --endpoint-url {endpoint} s3 ls s3://my-bucket
  aws --endpoint-url {endpoint} s3 cp s3://my-bucket/README.md -

What is stored is ciphertext: look into {}. Stop with Ctrl-C.",
        folder.display(),
        addresses.admin,
        *client.access_key,
        *client.secret_key,
        folder.join("store").display(),
    );
}
