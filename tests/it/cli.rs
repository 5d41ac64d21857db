//! The binary as an operator meets it: help, exit codes, key files, `dev` and `store`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;

use crate::kit::{client, free_address, noise};

/// The binary with nothing of the tester's environment.
fn ciphergate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ciphergate"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    told(ciphergate(args).output().expect("the binary runs"))
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode set");
}

#[test]
fn help_names_every_command_and_exit_code() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "serve",
        "check",
        "dev",
        "keygen",
        "keyring",
        "recover",
        "encrypt",
        "reencrypt",
        "decrypt",
        "store",
        "healthcheck",
        "example",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
    for (command, flags) in [
        ("serve", &["--config <FILE>", "--listen", "--admin", "--log-format", "--log-level", "--set <SETTING=VALUE>"][..]),
        ("check", &["--config", "--set"]),
        ("dev", &["--listen", "--admin", "--data-dir", "--log-level", "CIPHERGATE_DEV_ACCESS_KEY"]),
        (
            "recover",
            &["--out <FILE>", "--holes", "--plain-size", "--envelope", "--sealed-as", "--version-id", "--json", "Exit codes"],
        ),
        (
            "encrypt",
            &["--apply", "--delete-plaintext-versions", "--journal <FILE>", "--resume", "--report", "--json", "Exit codes"],
        ),
        ("reencrypt", &["--apply", "--journal", "--concurrency <N>", "--objects-per-sec", "Exit codes"]),
        ("decrypt", &["--to <TARGET|DIR>", "--apply", "--journal", "--resume", "Exit codes"]),
        ("keygen", &["--out <FILE>", "--label <LABEL>"]),
        ("store", &["--listen", "--data-dir", "--fsync", "CIPHERGATE_DEV_SECRET_KEY"]),
        ("healthcheck", &["--admin", "--ready", "CIPHERGATE_ADMIN__ADDRESS"]),
    ] {
        let (code, help, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0), "{command}");
        for flag in flags {
            assert!(help.contains(flag), "{flag} in\n{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 130), "{help}");
    }
    let (code, example, _) = run(&["example"]);
    assert!(code == Some(0) && example == include_str!("../../deploy/ciphergate.example.toml"));
    let (code, version, _) = run(&["--version"]);
    assert_eq!((code, version.trim()), (Some(0), concat!("ciphergate ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for args in
        [&[][..], &["serf"], &["serve", "--colour"], &["serve", "--listen", "here"], &["keygen"], &["check", "--set", "x"]]
    {
        let (code, _, said) = run(args);
        assert!(code == Some(2) && !said.is_empty(), "{args:?}: {code:?} {said}");
    }
}

#[test]
fn a_wrong_configuration_is_exit_code_2_with_all_mistakes() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("x.toml");
    write(
        &path,
        "[encryption]\nsweet = 1\nsuite = 'rot13'\n[[clients]]\nname = 'c'\nsecret_access_key = 'hunter2hunter2'\n",
        0o644,
    );
    for command in ["serve", "check"] {
        let output = ciphergate(&[command, "--listen", "0.0.0.0:0", "--set", "server.workers=0"])
            .env("CIPHERGATE_CONFIG", &path)
            .env("CIPHERGATE_LOGS__LEVEL", "info")
            .env("CIPHERGATE_CACHE", "/nowhere")
            .output();
        let (code, out, said) = told(output.expect("it runs"));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{said}");
        for mistake in [
            "has 9 mistakes",
            "line 2): there is no such setting",
            "`rot13` is not one of",
            "(--listen): plain HTTP",
            "(--set server.workers): must be",
            "logs (CIPHERGATE_LOGS__LEVEL): there is no such section",
            "keys: there is no key",
            "encryption.key ({file} line 1): this setting is missing",
            "clients[0].access_key_id ({file} line 4): this setting is missing",
            "line 6): a secret stands in a file that other users",
        ] {
            let mistake = mistake.replace("{file}", &path.display().to_string());
            assert!(said.contains(&mistake), "{mistake} in\n{said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
    let (code, _, said) = run(&["check", "--config", "/nowhere/x.toml"]);
    assert!(code == Some(2) && said.contains("/nowhere/x.toml cannot be read"), "{said}");
}

#[test]
fn keygen_makes_a_private_file_and_overwrites_none() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("keyring");
    let out = path.to_str().expect("UTF-8");
    let (code, said, error) = run(&["keygen", "--out", out, "--label", "k-1"]);
    assert!(code == Some(0) && said.contains("Keep a copy"), "{said}{error}");
    assert_eq!(mode(&path), 0o600);
    let made = fs::read_to_string(&path).expect("read");
    assert!(made.contains("label = \"k-1\""), "{made}");
    let secret = made.lines().find(|line| line.starts_with("secret")).expect("a secret");
    assert!(!said.contains(secret.split('"').nth(1).expect("in quotes")));

    let (code, _, said) = run(&["keygen", "--out", out]);
    assert!(code == Some(1) && said.contains("exists already"), "{said}");
    assert_eq!(fs::read_to_string(&path).expect("read"), made);
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);

    let other = folder.path().join("other");
    let (code, _, said) = run(&["keygen", "--out", other.to_str().expect("UTF-8"), "--label", "K 1"]);
    assert!(code == Some(2) && said.contains("--label") && !other.exists(), "{said}");
}

#[test]
fn a_keyring_is_listed_and_rotated_without_a_secret_shown() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("keyring");
    let file = path.to_str().expect("UTF-8");
    assert_eq!(run(&["keygen", "--out", file, "--label", "k-1"]).0, Some(0));
    let created = fs::read_to_string(&path).expect("read");
    let created = created.split("created = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a date").to_owned();
    let list = || run(&["keyring", "list", file]);
    assert_eq!(
        list(),
        (Some(0), format!("label k-1\nversion 1  created {created}  primary: wraps new objects\n"), String::new())
    );

    let (code, added, error) = run(&["keyring", "rotate", file, "--no-primary"]);
    assert_eq!(code, Some(0), "{error}");
    for word in ["Added version 2", "Keep a copy", "Version 1 still wraps", "restart each", "--promote 2"] {
        assert!(added.contains(word), "{word} in\n{added}");
    }
    let (code, promoted, error) = run(&["keyring", "rotate", file, "--promote", "2"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(promoted.contains("Version 2 wraps new objects from now on, in place of version 1"), "{promoted}");
    assert!(run(&["keyring", "rotate", file, "--promote", "2"]).1.contains("nothing has changed"));
    let (code, json, _) = run(&["keyring", "rotate", file, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json), (Some(0), &serde_json::json!({"added": 3, "primary_before": 2, "primary": 3})));
    let (_, json, _) = run(&["keyring", "list", file, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let primaries: Vec<_> =
        json["versions"].as_array().expect("a list").iter().map(|version| version["primary"] == true).collect();
    assert_eq!((primaries, &json["primary"], &json["label"]), (vec![false, false, true], &3.into(), &"k-1".into()));

    let text = fs::read_to_string(&path).expect("read");
    assert_eq!(mode(&path), 0o600);
    let shown = [added, promoted, json.to_string(), list().1].concat();
    for secret in text.lines().filter_map(|line| line.strip_prefix("secret = \"")) {
        assert!(!shown.contains(secret.trim_end_matches('"')));
    }
    for (args, code, word) in [
        (&["keyring", "rotate", file, "--promote", "9"][..], 1, "no version 9"),
        (&["keyring", "rotate", file, "--promote", "1", "--no-primary"], 2, "cannot be used with"),
        (&["keyring", "list", "/nowhere/keyring"], 1, "does not exist"),
        (&["keyring"], 2, "list"),
    ] {
        let (got, _, said) = run(args);
        assert!(got == Some(code) && said.contains(word), "{args:?}: {got:?} {said}");
    }
    assert_eq!(fs::read_to_string(&path).expect("read"), text);
}

#[test]
fn dev_and_store_stay_on_loopback() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path().join("data");
    let data_dir = data.to_str().expect("UTF-8");
    for args in [
        ["dev", "--listen", "0.0.0.0:0", "--data-dir", data_dir],
        ["dev", "--admin", "[::]:0", "--data-dir", data_dir],
        ["store", "--listen", "0.0.0.0:0", "--data-dir", data_dir],
    ] {
        let mut command = ciphergate(&args);
        command.envs([("CIPHERGATE_DEV_ACCESS_KEY", "ACCESS"), ("CIPHERGATE_DEV_SECRET_KEY", "secret-secret")]);
        let (code, _, said) = told(command.output().expect("it runs"));
        assert!(code == Some(2) && said.contains("loopback only") && !data.exists(), "{args:?}: {said}");
    }
}

#[test]
fn store_and_dev_want_both_halves_of_their_credentials() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path().join("data");
    let data_dir = data.to_str().expect("UTF-8");
    let attempt = |command: &str, variable: Option<&str>| {
        let mut command = ciphergate(&[command, "--listen", "127.0.0.1:0", "--data-dir", data_dir]);
        command.envs(variable.map(|name| (name, "secret-secret")));
        told(command.output().expect("it runs"))
    };
    for (command, variable) in [
        ("store", None),
        ("store", Some("CIPHERGATE_DEV_ACCESS_KEY")),
        ("store", Some("CIPHERGATE_DEV_SECRET_KEY")),
        ("dev", Some("CIPHERGATE_DEV_ACCESS_KEY")),
        ("dev", Some("CIPHERGATE_DEV_SECRET_KEY")),
    ] {
        let (code, _, said) = attempt(command, variable);
        assert!(code == Some(2) && said.contains("CIPHERGATE_DEV_"), "{command} {variable:?}: {code:?} {said}");
    }
}

/// A running `ciphergate dev`, as its greeting tells of it.
struct Dev {
    child: Child,
    s3: SocketAddr,
    admin: SocketAddr,
    keys: (String, String),
    _stdout: mpsc::Receiver<String>,
}

impl Dev {
    fn start(data_dir: &Path) -> Self {
        let data_dir = data_dir.to_str().expect("UTF-8");
        let mut child = ciphergate(&["dev", "--listen", "127.0.0.1:0", "--data-dir", data_dir])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dev starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, stdout) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let until = Instant::now() + Duration::from_secs(20);
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            match stdout.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => greeting.extend([line.as_str(), "\n"]),
                Err(error) => {
                    let _ = child.kill();
                    panic!("dev did not start ({error}): {greeting}");
                }
            }
        }
        let after = |mark: &str, end: char| {
            let found = greeting.split_once(mark).and_then(|(_, rest)| rest.split(['\n', end]).next());
            found.unwrap_or_else(|| panic!("{mark} in\n{greeting}")).to_owned()
        };
        Self {
            s3: after("on http://", '\n').parse().expect("an address"),
            admin: after("metrics: http://", '/').parse().expect("an address"),
            keys: (after("AWS_ACCESS_KEY_ID=", '\n'), after("AWS_SECRET_ACCESS_KEY=", '\n')),
            child,
            _stdout: stdout,
        }
    }

    fn client(&self) -> aws_sdk_s3::Client {
        client(self.s3, (&self.keys.0, &self.keys.1))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_dev_holds_survives_kill_9_and_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path().join("data");
    let bodies = [("empty", noise(0, 1)), ("one", noise(1, 2)), ("chunks", noise(200_000, 3))];

    let dev = Dev::start(&data);
    let keys = dev.keys.clone();
    dev.client().create_bucket().bucket("keep").send().await.expect("bucket");
    for (key, body) in &bodies {
        let put = dev.client().put_object().bucket("keep").key(*key).metadata("n", *key);
        put.body(ByteStream::from(body.clone())).send().await.expect("put");
    }
    assert_eq!((mode(&data), mode(&data.join("keyring")), mode(&data.join("credentials"))), (0o700, 0o600, 0o600));
    // Dropping it is kill -9.
    drop(dev);

    let mut dev = Dev::start(&data);
    assert_eq!(dev.keys, keys);
    for (key, body) in &bodies {
        let got = dev.client().get_object().bucket("keep").key(*key).send().await.expect("get");
        assert_eq!(got.metadata().and_then(|entries| entries.get("n")).map(String::as_str), Some(*key));
        assert!(got.body.collect().await.expect("whole").into_bytes() == *body, "{key}");
    }
    let listed = dev.client().list_objects_v2().bucket("keep").send().await.expect("list");
    let sizes: Vec<_> = listed.contents().iter().filter_map(|object| object.size()).collect();
    assert_eq!(sizes, [200_000, 0, 1]);

    let sent = Command::new("kill").arg("-TERM").arg(dev.child.id().to_string()).status().expect("kill runs");
    assert!(sent.success());
    assert_eq!(dev.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn healthcheck_asks_a_running_gateway() {
    let folder = tempfile::tempdir().expect("folder");
    let dev = Dev::start(&folder.path().join("data"));
    let admin = dev.admin.to_string();
    assert_eq!(run(&["healthcheck", "--admin", &admin]), (Some(0), String::new(), String::new()));
    let everywhere = format!("0.0.0.0:{}", dev.admin.port());
    let asked = ciphergate(&["healthcheck"]).env("CIPHERGATE_ADMIN__ADDRESS", everywhere).status();
    assert_eq!(asked.expect("it runs").code(), Some(0));
    // Keys and store are proved right after the start.
    let until = Instant::now() + Duration::from_secs(10);
    while run(&["healthcheck", "--ready", "--admin", &admin]).0 != Some(0) {
        assert!(Instant::now() < until, "it never gets ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The S3 listener has no such page without a signature.
    let (code, _, said) = run(&["healthcheck", "--admin", &dev.s3.to_string()]);
    assert!(code == Some(1) && said.contains("answers 403"), "{said}");
}

#[test]
fn healthcheck_fails_where_there_is_no_gateway() {
    let (code, _, said) = run(&["healthcheck", "--admin", &free_address().to_string()]);
    assert!(code == Some(1) && said.contains("refused"), "{said}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let other = std::thread::spawn(move || {
        let mut held = Vec::<TcpStream>::new();
        for answer in [&b"SSH-2.0-OpenSSH\r\n"[..], b"HTTP/1.1 503 no\r\n", b""] {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.write_all(answer).expect("written");
            held.push(stream);
        }
        held
    });
    for what in ["the answer is not HTTP", "answers 503", "timed out"] {
        let began = Instant::now();
        let (code, _, said) = run(&["healthcheck", "--admin", &address]);
        assert!(code == Some(1) && said.contains(what), "{what}: {said}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    drop(other.join());
}
