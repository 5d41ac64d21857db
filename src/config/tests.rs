use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

/// The least that loads, once `keyring` and `client.secret` exist.
const LEAST: &str = r#"
[[keys]]
label = "main"
kind = "keyring"
file = "keyring"

[encryption]
key = "main"

[[clients]]
name = "c"
access_key_id = "CLIENT1"
secret_access_key_file = "client.secret"
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("keyring", "(not read here)", 0o600);
        folder.write("client.secret", "client-secret-1\n", 0o600);
        folder
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn sources(&self, text: &str) -> Sources {
        Sources::file(self.write("ciphergate.toml", text, 0o600))
    }

    fn load(&self, text: &str) -> Result<Config, Problems> {
        Config::load(self.sources(text))
    }

    /// The mistakes in a file, with the file's folder left out.
    fn mistakes(&self, text: &str) -> Vec<String> {
        self.told(self.load(text))
    }

    fn told(&self, loaded: Result<Config, Problems>) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        loaded
            .map(|_| ())
            .unwrap_err()
            .iter()
            .map(|problem| problem.to_string().replace(&folder, "").replace("\n   ", ""))
            .collect()
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn flag(key: &str, value: &str) -> Override {
    Override { flag: "--set".into(), key: key.into(), value: value.into() }
}

#[test]
fn the_least_that_loads_has_the_defaults() {
    let folder = Folder::new();
    let config = folder.load(LEAST).unwrap();
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:9000");
    assert!(config.listen.tls.is_none() && !config.backend.path_style && config.backend.endpoint.is_none());
    assert!(matches!(config.backend.credentials, Credentials::Chain { profile: None }));
    assert_eq!(config.server.keep_alive, Duration::from_secs(75));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Info));
    assert_eq!(config.clients[0].secret_access_key.expose(), "client-secret-1");
    assert!(matches!(&config.keys[0].source, KeySource::Keyring { file } if *file == folder.0.path().join("keyring")));
    let rule = config.rule("any-bucket").unwrap();
    assert_eq!((rule.scope.as_str(), rule.key.as_str()), ("any-bucket", "main"));
    assert_eq!((rule.suite, rule.mode, rule.hash_key_names), (Suite::ChaCha20Poly1305, KeyMode::PerObject, false));
    assert!(!rule.seal_metadata);
    assert!(config.rule("No Bucket").is_none());
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let folder = Folder::new();
    let text =
        format!("{LEAST}\n[server]\nkeep_alive_secs = 1\nworkers = 1\nconnections_max = 1\n[listen]\naddress = \"127.0.0.1:1\"");
    let sources = folder
        .sources(&text)
        .environment(environment(&[
            ("CIPHERGATE_SERVER__WORKERS", "2"),
            ("CIPHERGATE_SERVER__CONNECTIONS_MAX", "2"),
            ("CIPHERGATE_BUCKETS__PHOTOS__MODE", "shared"),
            ("CIPHERGATE_CLIENTS__0__NAME", "42"),
            ("CIPHERGATE_ENCRYPTION__HASH_KEY_NAMES", "true"),
            ("UNRELATED", "x"),
        ]))
        .flags([flag("server.connections_max", "3"), flag("buckets.\"a.b\".suite", "auto")]);
    let config = Config::load(sources).unwrap();
    assert_eq!((config.server.keep_alive.as_secs(), config.server.workers, config.server.connections_max), (1, Some(2), 3));
    assert_eq!(config.rule("photos").unwrap().mode, KeyMode::Shared);
    assert_eq!(config.rule("a.b").unwrap().suite, Suite::Auto);
    assert_eq!(config.clients[0].name.as_str(), "42");
    assert!(config.rule("photos").unwrap().hash_key_names && config.rule("other").unwrap().hash_key_names);

    let shown = config.to_string();
    for (line, origin) in [
        ("keep_alive_secs = 1", "ciphergate.toml line 16"),
        ("workers = 2", "CIPHERGATE_SERVER__WORKERS"),
        ("connections_max = 3", "--set"),
        ("hash_key_names = true", "CIPHERGATE_ENCRYPTION__HASH_KEY_NAMES"),
        ("name = \"42\"", "CIPHERGATE_CLIENTS__0__NAME"),
        ("request_header_timeout_secs = 10", "default"),
    ] {
        assert!(shown.lines().any(|shown| shown.starts_with(line) && shown.ends_with(origin)), "{line} # {origin} in\n{shown}");
    }
}

#[test]
fn a_configuration_needs_no_file() {
    let folder = Folder::new();
    let path = |name: &str| folder.0.path().join(name).display().to_string();
    let sources = Sources::new().environment(environment(&[
        ("CIPHERGATE_KEYS__0__LABEL", "main"),
        ("CIPHERGATE_KEYS__0__KIND", "keyring"),
        ("CIPHERGATE_KEYS__0__FILE", &path("keyring")),
        ("CIPHERGATE_KEYS__1__LABEL", "k2"),
        ("CIPHERGATE_KEYS__1__KIND", "kms"),
        ("CIPHERGATE_KEYS__1__KEY_ARN", "arn:aws:kms:eu-central-1:111122223333:key/abc"),
        ("CIPHERGATE_ENCRYPTION__KEY", "k2"),
        ("CIPHERGATE_CLIENTS__0__NAME", "c"),
        ("CIPHERGATE_CLIENTS__0__ACCESS_KEY_ID", "CLIENT1"),
        ("CIPHERGATE_CLIENTS__0__SECRET_ACCESS_KEY", "12345678"),
    ]));
    let config = Config::load(sources).unwrap();
    assert_eq!(config.keys.len(), 2);
    assert_eq!(config.clients[0].secret_access_key.expose(), "12345678");
}

#[test]
fn all_mistakes_are_reported_together() {
    let folder = Folder::new();
    folder.write("open.secret", "0123456789", 0o644);
    let text = r#"
colour = "blue"
[listen]
adress = "127.0.0.1:9000"
address = "0.0.0.0:9000"
allow_plain_http = "no"
tls_key_file = "missing.key"
[server]
workers = -1
keep_alive_secs = 0
[backend]
endpoint = "http://10.0.0.1:9000"
access_key_id = "AKIA"
[[keys]]
label = "main"
kind = "kms"
key_arn = "alias/main"
[[keys]]
label = "main"
kind = "keyring"
[encryption]
key = "other"
suite = "rot13"
[[clients]]
name = "a"
access_key_id = "CLIENT1"
secret_access_key_file = "open.secret"
[[clients]]
name = "b"
access_key_id = "CLIENT1"
[logg]
level = "info"
"#;
    let sources = folder.sources(text).environment(environment(&[
        ("CIPHERGATE_BACKEND_ENDPOINT", "https://x"),
        ("CIPHERGATE_LOG__LEVEL", "loud"),
        ("CIPHERGATE_PORT", "tcp://10.0.0.1:9000"),
        ("CIPHERGATE_DEV_ACCESS_KEY", "x"),
        ("CIPHERGATE_BINARY", "x"),
        ("CIPHERGATE_LOGS__LEVEL", "info"),
    ]));
    let told = folder.told(Config::load(sources.flags([flag("listen.addres", "1")])));
    let expected = [
        r#"listen.allow_plain_http (ciphergate.toml line 6): invalid type: string "no", expected a boolean -> write it like allow_plain_http = false"#,
        "listen.addres (--set): there is no such setting -> did you mean listen.address?",
        "listen.adress (ciphergate.toml line 4): there is no such setting -> did you mean listen.address?",
        "server.workers (ciphergate.toml line 9): must be a whole number from 1 to 1024",
        "server.keep_alive_secs (ciphergate.toml line 10): must be a whole number from 1 to 3600",
        "keys[0].key_arn (ciphergate.toml line 17): `alias/main` is not the ARN of a KMS key: it needs six parts -> write it like key_arn =",
        "encryption.suite (ciphergate.toml line 23): `rot13` is not one of chacha20-poly1305, aes-256-gcm, auto",
        "log.level (CIPHERGATE_LOG__LEVEL): `loud` is not one of error, warn, info, debug, trace -> write it like CIPHERGATE_LOG__LEVEL=info",
        "backend_endpoint (CIPHERGATE_BACKEND_ENDPOINT): there is no such setting -> did you mean CIPHERGATE_BACKEND__ENDPOINT?",
        "binary (CIPHERGATE_BINARY): there is no such setting -> remove it",
        "colour (ciphergate.toml line 2): there is no such setting -> remove it",
        "logg (ciphergate.toml line 31): there is no such section -> did you mean log?",
        "logs (CIPHERGATE_LOGS__LEVEL): there is no such section -> did you mean CIPHERGATE_LOG?",
        "listen.tls_key_file (ciphergate.toml line 7): listen.tls_certificate_file is missing -> set both",
        "listen.tls_key_file (ciphergate.toml line 7): missing.key: the file cannot be read: No such file",
        "backend.endpoint (ciphergate.toml line 12): plain HTTP to another machine -> use https://, or set backend.allow_plain_http",
        "backend.region (ciphergate.toml line 11): this setting is missing: an endpoint is given -> set it",
        "backend.secret_access_key_file (ciphergate.toml line 11): this setting is missing: backend.access_key_id is set -> set it",
        "keys[1].label (ciphergate.toml line 19): `main` is already in use (ciphergate.toml line 15) -> give each key",
        "keys[1].file (ciphergate.toml line 18): this setting is missing -> set it to a file that `ciphergate keygen --out FILE` made",
        "encryption.key (ciphergate.toml line 22): there is no key with the label `other` -> use one of: main",
        "clients[0].secret_access_key_file (ciphergate.toml line 27): open.secret: other users of this machine can read or change the file \
         (mode 0644) -> chmod 600 open.secret",
        "clients[1].access_key_id (ciphergate.toml line 30): `CLIENT1` is already in use (ciphergate.toml line 26) -> give each client",
        "clients[1].secret_access_key_file (ciphergate.toml line 28): this setting is missing -> set it to a file",
    ];
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\ninstead of\n{expected}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn nothing_at_all_names_what_is_needed_and_makes_up_no_key_and_no_client() {
    let told: Vec<String> = Config::load(Sources::new()).unwrap_err().iter().map(|problem| problem.key.clone()).collect();
    assert_eq!(told, ["keys", "encryption.key", "clients"]);
}

#[test]
fn broken_toml_is_told_line_by_line_without_the_text_of_the_line() {
    let folder = Folder::new();
    let told = folder.mistakes("a = \n[listen\n[[clients]]\nsecret_access_key = \"hunter2hunter2\n");
    assert!(told.len() >= 2, "{told:?}");
    assert!(
        told.iter().all(|line| line.contains("this is not TOML")) && told[0].starts_with("ciphergate.toml line 1: "),
        "{told:?}"
    );
    assert!(!format!("{told:?}").contains("hunter2"));
    let told = folder.told(Config::load(Sources::file(folder.0.path().join("none.toml"))));
    assert!(told.len() == 1 && told[0].starts_with("none.toml cannot be read: No such file"), "{told:?}");
}

#[test]
fn wrong_shapes_are_told_and_not_hidden_by_overrides() {
    let folder = Folder::new();
    let text = LEAST.replace("[encryption]\nkey = \"main\"", "[encryption]\nkey = [\"main\"]")
        + "\n[buckets]\nphotos = 1\n[log.level]\nx = 1\n";
    let sources = folder.sources(&text).environment(environment(&[
        ("CIPHERGATE_KEYS", "x"),
        ("CIPHERGATE_KEYS__7__LABEL", "x"),
        ("CIPHERGATE_KEYS__0", "x"),
        ("CIPHERGATE_BACKEND__ENDPOINT__X", "x"),
        ("CIPHERGATE_SERVER", "x"),
    ]));
    let told = folder.told(Config::load(sources));
    let expected = [
        "keys (CIPHERGATE_KEYS): this is a section, not a setting",
        "keys[0] (CIPHERGATE_KEYS__0): this is a section, not a setting",
        "keys (CIPHERGATE_KEYS__7__LABEL): `7` is no entry of keys, which has 1 -> use 0 to 1; 1 adds an entry",
        "server (CIPHERGATE_SERVER): this must be a section",
        "backend.endpoint (CIPHERGATE_BACKEND__ENDPOINT__X): invalid type: map, expected a string",
        "backend.region (CIPHERGATE_BACKEND__ENDPOINT__X): this setting is missing",
        "encryption.key (ciphergate.toml line 8): invalid type: sequence, expected a string",
        "buckets.photos (ciphergate.toml line 16): this must be a section",
        "log.level (ciphergate.toml line 17): invalid type: map, expected a string",
    ];
    for expected in expected {
        assert!(told.iter().any(|told| told.starts_with(expected)), "{expected}\nnot in {told:#?}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn secrets_are_never_shown() {
    let folder = Folder::new();
    let text = LEAST.replace("secret_access_key_file = \"client.secret\"", "secret_access_key = \"hunter2hunter2\"")
        + "\n[backend]\naccess_key_id = \"AKIA\"\nsecret_access_key = \"swordfish-swordfish\"";
    let config = folder.load(&text).unwrap();
    for shown in [format!("{config:?}"), format!("{config:#?}"), config.to_string()] {
        assert!(!shown.contains("hunter2") && !shown.contains("swordfish") && shown.contains("***"), "{shown}");
    }
    assert!(config.to_string().contains("secret_access_key = \"***\""));
    // A value of the wrong kind is not quoted either, nor is one that a check refuses.
    for (secret, what) in [
        ("12345678901", "must be a string in quotes"),
        ("\"hunter2 hunter2\"", "8 to 128 printable"),
        ("\"hunter2\"", "8 to 128"),
    ] {
        let told = folder.mistakes(&text.replace("\"hunter2hunter2\"", secret));
        assert!(told.len() == 1 && told[0].contains(what) && !told[0].contains(secret.trim_matches('"')), "{told:?}");
    }
}

#[test]
fn secrets_stand_only_where_nobody_else_can_read_them() {
    let folder = Folder::new();
    let text = LEAST.replace("secret_access_key_file = \"client.secret\"", "secret_access_key = \"hunter2hunter2\"");
    let exposed = folder.write("open.toml", &text, 0o644);
    let told = folder.told(Config::load(Sources::file(&exposed)));
    assert!(told.len() == 1 && told[0].contains("clients[0].secret_access_key (open.toml line 13)"), "{told:?}");
    assert!(told[0].ends_with("chmod 600 open.toml, or move the secret to a file of its own"), "{told:?}");
    // Without a secret in it, the file may be read by all.
    assert!(Config::load(Sources::file(folder.write("open.toml", LEAST, 0o644))).is_ok());

    let told = folder.told(Config::load(folder.sources(&text).flags([flag("clients.0.secret_access_key", "hunter2hunter2")])));
    assert!(told.len() == 1 && told[0].contains("on the command line can be seen"), "{told:?}");
    let told = folder.mistakes(&(text + "secret_access_key_file = \"client.secret\""));
    assert!(told.len() == 1 && told[0].contains("clients[0].secret_access_key is set too"), "{told:?}");

    for name in ["keyring", "client.secret"] {
        folder.write(name, "0123456789", 0o640);
        let told = folder.mistakes(LEAST);
        assert!(told.len() == 1 && told[0].ends_with(&format!("chmod 600 {name}")), "{told:?}");
        folder.write(name, "0123456789", 0o600);
    }
}

#[test]
fn clients_can_stand_in_a_file_of_their_own() {
    let folder = Folder::new();
    let client = "[[clients]]\nname = \"d\"\naccess_key_id = \"CLIENT2\"\nsecret_access_key = \"hunter2hunter2\"\n";
    folder.write("sub/clients.toml", client, 0o600);
    let text = format!("clients_file = \"sub/clients.toml\"\n{LEAST}");
    let config = folder.load(&text).unwrap();
    assert_eq!(config.clients.iter().map(|client| client.name.as_str()).collect::<Vec<_>>(), ["c", "d"]);
    assert!(config.to_string().contains("sub/clients.toml line 3"), "{config}");

    folder.write("sub/clients.toml", &client.replace("CLIENT2", "CLIENT1").replace("name", "nam"), 0o600);
    let told = folder.mistakes(&text);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0]
            .starts_with("clients[0].nam (sub/clients.toml line 2): there is no such setting -> did you mean clients[0].name?"),
        "{told:?}"
    );
    assert!(told[1].contains("`CLIENT1` is already in use (ciphergate.toml line 13)"), "{told:?}");
    folder.write("sub/clients.toml", &format!("{client}[listen]\n"), 0o600);
    assert!(folder.mistakes(&text)[0].starts_with("listen (sub/clients.toml line 5): there is no such section"));
    folder.write("sub/clients.toml", client, 0o644);
    assert!(folder.mistakes(&text)[0].ends_with("chmod 600 sub/clients.toml"));
}

#[test]
fn plain_http_off_loopback_only_in_words() {
    let folder = Folder::new();
    for (listen, fine) in [
        ("address = \"127.0.0.1:9000\"", true),
        ("address = \"[::1]:9000\"", true),
        ("address = \"0.0.0.0:9000\"", false),
        ("address = \"[::]:9000\"", false),
        ("address = \"10.1.2.3:9000\"\nallow_plain_http = true", true),
        ("address = \"10.1.2.3:9000\"\ntls_certificate_file = \"keyring\"\ntls_key_file = \"keyring\"", true),
        ("tls_certificate_file = \"keyring\"", false),
        ("tls_certificate_file = \"keyring\"\ntls_key_file = \"client.pem\"", false),
    ] {
        assert_eq!(folder.load(&format!("{LEAST}[listen]\n{listen}\n")).is_ok(), fine, "{listen}");
    }
    let kms = "[[keys]]\nlabel = \"k2\"\nkind = \"kms\"\nkey_arn = \"arn:aws:kms:eu-central-1:111122223333:key/abc\"\n";
    for (endpoint, fine) in [
        ("endpoint = \"https://kms\"", true),
        ("endpoint = \"http://localhost:4566\"", true),
        ("endpoint = \"http://localstack:4566\"", false),
        ("endpoint = \"http://localstack:4566\"\nallow_plain_http = true", true),
    ] {
        assert_eq!(folder.load(&format!("{LEAST}{kms}{endpoint}\n")).is_ok(), fine, "{endpoint}");
    }
}

#[test]
fn scopes_are_shared_only_in_words() {
    let folder = Folder::new();
    for (buckets, fine) in [
        ("[buckets.one]\nscope = \"team/x\"\n[buckets.two]\nscope = \"team/y\"", true),
        ("[buckets.one]\nscope = \"team/x\"\n[buckets.two]\nscope = \"team/x\"", false),
        ("[buckets.one]\nscope = \"team/x\"\nshare_scope = true\n[buckets.two]\nscope = \"team/x\"", false),
        ("[buckets.one]\nscope = \"team/x\"\nshare_scope = true\n[buckets.two]\nscope = \"team/x\"\nshare_scope = true", true),
        ("[buckets.one]\nscope = \"two\"\n[buckets.two]", false),
        ("[buckets.one]\nscope = \"two\"\n[buckets.two]\nscope = \"one\"", true),
        // A bucket `two` that is not named would have this scope by default.
        ("[buckets.one]\nscope = \"two\"", false),
        ("[buckets.one]\nscope = \"two\"\nshare_scope = true", true),
        ("[buckets.one]\nscope = \"one\"", true),
    ] {
        assert_eq!(folder.load(&format!("{LEAST}{buckets}\n")).is_ok(), fine, "{buckets}");
    }
    let told =
        folder.mistakes(&format!("{LEAST}[buckets.one]\nscope = \"team/x\"\n[buckets.two]\nscope = \"team/x\"\n[buckets.X]\n"));
    assert_eq!(told.len(), 3);
    assert!(
        told[1].starts_with("buckets.one.scope (ciphergate.toml line 15): the scope `team/x` is also that of the bucket `two`"),
        "{told:?}"
    );
    assert!(told[0].starts_with("buckets.X (ciphergate.toml line 18): `X` is not a bucket name"), "{told:?}");
}

#[test]
fn the_rules_of_a_bucket_can_differ_by_prefix() {
    let folder = Folder::new();
    let more = "[[keys]]\nlabel = \"old\"\nkind = \"keyring\"\nfile = \"keyring\"\n[buckets.photos]\nmode = \"shared\"\n";
    let rule = |text: &str| format!("[[buckets.photos.prefixes]]\n{text}\n");
    let text = format!("{LEAST}{more}{}{}", rule("prefix = \"raw/\"\nkey = \"old\""), rule("prefix = \"raw\"\nsuite = \"auto\""));
    let set = [
        ("CIPHERGATE_BUCKETS__PHOTOS__PREFIXES__1__MODE", "per-object"),
        ("CIPHERGATE_BUCKETS__PHOTOS__PREFIXES__2__PREFIX", "Tmp/"),
        ("CIPHERGATE_BUCKETS__OTHER__PREFIXES__0__PREFIX", "x"),
    ];
    let sources = folder.sources(&text).environment(environment(&set));
    let config = Config::load(sources.flags([flag("buckets.photos.prefixes.2.hash_key_names", "true")])).unwrap();
    let rules = |bucket: &str| config.rule(bucket).unwrap().prefixes;
    let told: Vec<_> = rules("photos")
        .iter()
        .map(|rule| format!("{} {} {} {} {}", rule.prefix, rule.key, rule.suite, rule.mode, rule.hash_key_names))
        .collect();
    let cipher = "chacha20-poly1305";
    assert_eq!(
        told,
        [
            format!("raw/ old {cipher} shared false"),
            "raw main auto per-object false".to_owned(),
            format!("Tmp/ main {cipher} shared true"),
        ]
    );
    assert_eq!((rules("other").len(), rules("unnamed").len()), (1, 0));
    let shown = config.to_string();
    let (bucket, list) = (shown.find("[buckets.photos]").unwrap(), shown.find("[[buckets.photos.prefixes]]").unwrap());
    assert!(bucket < list, "{shown}");

    let wrong = [
        rule("prefix = \"raw/\"\nkey = \"new\""),
        rule("prefix = \"raw/\"\nsuit = \"auto\""),
        rule("prefix = \"\""),
        rule("mode = \"both\""),
    ];
    let told = folder.mistakes(&format!("{LEAST}{more}{}", wrong.concat()));
    let expected = [
        "buckets.photos.prefixes[1].suit (ciphergate.toml line 25): there is no such setting -> did you mean buckets.photos.prefixes[1].suite?",
        "buckets.photos.prefixes[2].prefix (ciphergate.toml line 27): a prefix has 1 to 1024 bytes",
        "buckets.photos.prefixes[3].mode (ciphergate.toml line 29): `both` is not one of per-object, shared",
        "buckets.photos.prefixes[0].key (ciphergate.toml line 22): there is no key with the label `new` -> use one of: main, old",
        "buckets.photos.prefixes[1].prefix (ciphergate.toml line 24): `raw/` is already in use (ciphergate.toml line 21)",
        "buckets.photos.prefixes[3].prefix (ciphergate.toml line 28): this setting is missing -> set it to",
    ];
    for expected in expected {
        assert!(told.iter().any(|told| told.starts_with(expected)), "{expected}\nnot in {told:#?}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    let told = folder.mistakes(&format!("{LEAST}[buckets.photos]\naccess = \"plaintext\"\n{}", rule("prefix = \"raw/\"")));
    assert!(told.len() == 1 && told[0].contains("nothing is sealed in a bucket"), "{told:?}");
    for list in ["prefixes = 1", "prefixes = [1]", "[buckets.photos.prefixes]\nprefix = \"x\""] {
        assert_eq!(folder.mistakes(&format!("{LEAST}[buckets.photos]\n{list}\n")).len(), 1, "{list}");
    }
}

#[test]
fn the_access_of_a_bucket_is_encrypted_unless_it_says_otherwise() {
    let folder = Folder::new();
    let config = folder
        .load(&format!(
            "{LEAST}[buckets.old]\naccess = \"read-through\"\n[buckets.open]\naccess = \"plaintext\"\n[buckets.new]\n"
        ))
        .unwrap();
    let access = |bucket: &str| config.rule(bucket).unwrap().access;
    assert_eq!((access("old"), access("open")), (Access::ReadThrough, Access::Plaintext));
    assert_eq!((access("new"), access("unnamed")), (Access::Encrypted, Access::Encrypted));
    // What says how a bucket is sealed has no meaning where nothing is.
    for setting in [
        "key = \"main\"",
        "suite = \"auto\"",
        "mode = \"shared\"",
        "hash_key_names = true",
        "seal_metadata = true",
        "scope = \"x\"",
    ] {
        for (access, fine) in [("plaintext", false), ("read-through", true)] {
            let loaded = folder.load(&format!("{LEAST}[buckets.open]\naccess = \"{access}\"\n{setting}\n"));
            assert_eq!(loaded.is_ok(), fine, "{access} {setting} {:?}", loaded.err().map(|e| e.to_string()));
        }
    }
    assert_eq!(folder.mistakes(&format!("{LEAST}[buckets.open]\naccess = \"public\"\n")).len(), 1);
}

#[test]
fn limits_on_calls_to_key_services_have_defaults_and_must_not_contradict_each_other() {
    let folder = Folder::new();
    let kms = folder.load(LEAST).unwrap().kms;
    let secs = Duration::from_secs;
    assert_eq!((kms.connect_timeout, kms.attempt_timeout, kms.call_timeout), (secs(3), secs(4), secs(10)));
    assert_eq!((kms.calls_max, kms.waiting_max, kms.attempts_max, kms.retry_percent), (64, 256, 3, 10));
    assert_eq!((kms.breaker_failures, kms.breaker_failure_percent, kms.breaker_open), (5, 50, secs(2)));
    assert_eq!((kms.breaker_attempts_min, kms.breaker_window_attempts, kms.breaker_window), (20, 100, secs(10)));

    let equal = "[kms]\nconnect_timeout_secs = 2\nattempt_timeout_secs = 2\ncall_timeout_secs = 2\nwaiting_max = 0\n\
                 breaker_attempts_min = 7\nbreaker_window_attempts = 7\n";
    let kms = folder.load(&format!("{LEAST}{equal}")).unwrap().kms;
    assert_eq!((kms.connect_timeout, kms.call_timeout, kms.waiting_max, kms.breaker_attempts_min), (secs(2), secs(2), 0, 7));

    let wrong = "[kms]\nconnect_timeout_secs = 6\nattempt_timeout_secs = 5\ncall_timeout_secs = 4\ncalls_max = 0\nattempts_max = 11\n\
                 breaker_failure_percent = 101\nbreaker_window_attempts = 19\nbreaker_open_secs = \"2s\"\ndeadline = 3\n";
    let told = folder.mistakes(&format!("{LEAST}{wrong}[log]\nlevel = \"loud\"\n"));
    let expected = [
        "kms.calls_max (ciphergate.toml line 18): must be a whole number from 1 to 10000",
        "kms.attempts_max (ciphergate.toml line 19): must be a whole number from 1 to 10",
        "kms.breaker_failure_percent (ciphergate.toml line 20): must be a whole number from 1 to 100",
        "kms.breaker_open_secs (ciphergate.toml line 22): must be a whole number from 1 to 300",
        "kms.deadline (ciphergate.toml line 23): there is no such setting",
        "log.level (ciphergate.toml line 25): `loud` is not one of",
        "kms.connect_timeout_secs (ciphergate.toml line 15): this is more than kms.attempt_timeout_secs, which is 5 \
         -> an attempt has to connect first: set kms.connect_timeout_secs to 5 or less, or kms.attempt_timeout_secs to 6 or more",
        "kms.attempt_timeout_secs (ciphergate.toml line 16): this is more than kms.call_timeout_secs, which is 4 -> a call would end",
        // Nobody set the other one.
        "kms.breaker_window_attempts (ciphergate.toml line 21): this is less than kms.breaker_attempts_min, which is 20 \
         -> so many attempts would never be among the latest: set kms.breaker_attempts_min to 19 or less, or",
    ];
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\ninstead of\n{expected}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn objects_of_awss_client_are_read_with_a_kms_key_alone() {
    let folder = Folder::new();
    let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let kms = format!("[[keys]]\nlabel = \"kms\"\nkind = \"kms\"\nkey_arn = \"{arn}\"\n");
    let kms = kms + TRANSIT + "token_file = \"client.secret\"\n";
    let with = |bucket: &str| folder.load(&format!("{LEAST}{kms}[buckets.old]\n{bucket}\n"));
    let rule = |bucket: &str| with(bucket).unwrap().rule("old").unwrap().aws_client;
    assert_eq!(rule(""), None);
    assert_eq!(rule("aws_client = \"off\"\naws_client_key = \"kms\""), None);
    let read = rule("aws_client = \"read\"\naws_client_key = \"kms\"\naws_client_bytes_max = 5").unwrap();
    assert_eq!((read.key.as_str(), read.bytes_max), ("kms", 5));
    let read = rule("aws_client = \"read\"\nkey = \"kms\"\naccess = \"read-through\"").unwrap();
    assert_eq!((read.key.as_str(), read.bytes_max), ("kms", 64 << 20));
    for (wrong, told) in [
        ("aws_client = \"read\"", "`main` is a keyring"),
        ("aws_client = \"read\"\naws_client_key = \"bao\"", "`bao` is a Transit key"),
        ("aws_client = \"read\"\naws_client_key = \"none\"", "no key with the label `none`"),
        ("aws_client = \"read\"\naccess = \"plaintext\"", "nothing is opened"),
        ("aws_client = \"write\"", "aws_client"),
    ] {
        let mistakes = folder.mistakes(&format!("{LEAST}{kms}[buckets.old]\n{wrong}\n"));
        assert!(mistakes.len() == 1 && mistakes[0].contains(told), "{wrong}: {mistakes:?}");
    }
}

const TRANSIT: &str = "[[keys]]\nlabel = \"bao\"\nkind = \"transit\"\nendpoint = \"https://bao:8200\"\nkey_name = \"cg\"\n";

#[test]
fn transit_keys() {
    let folder = Folder::new();
    folder.write("bao.token", "s.sesame\n", 0o600);
    folder.write("ca.pem", "(not read here)", 0o644);
    let load = |more: &str| folder.load(&format!("{LEAST}{TRANSIT}{more}\n"));
    let config = load("token_file = \"bao.token\"").unwrap();
    let KeySource::Transit { endpoint, mount, name, namespace: None, ca_file: None, token: Token::File(file) } =
        &config.keys[1].source
    else {
        panic!("{:?}", config.keys[1])
    };
    assert_eq!((endpoint.as_str(), mount.as_str(), name.as_str()), ("https://bao:8200", "transit", "cg"));
    assert_eq!(*file, folder.0.path().join("bao.token"));
    let more = "token = \"s.sesame\"\nmount = \"team/keys\"\nnamespace = \"team\"\nca_file = \"ca.pem\"";
    let config = load(more).unwrap();
    let KeySource::Transit { mount, namespace: Some(namespace), ca_file: Some(_), token: Token::Static(token), .. } =
        &config.keys[1].source
    else {
        panic!("{:?}", config.keys[1])
    };
    assert_eq!((mount.as_str(), namespace.as_str(), token.expose()), ("team/keys", "team", "s.sesame"));
    for shown in [format!("{config:?}"), config.to_string()] {
        assert!(!shown.contains("sesame") && shown.contains("***"), "{shown}");
    }

    folder.write("open.token", "s.sesame", 0o640);
    folder.write("two.token", "s.sesame\ns.open\n", 0o600);
    let wrong = [
        ("", "keys[1].token_file (ciphergate.toml line 14): this setting is missing -> set it to a file that holds the token"),
        ("token_file = \"none\"", "keys[1].token_file (ciphergate.toml line 19): none: the file cannot be read"),
        ("token_file = \"open.token\"", "keys[1].token_file (ciphergate.toml line 19): open.token: other users"),
        ("token_file = \"two.token\"", "keys[1].token_file (ciphergate.toml line 19): this is no token"),
        ("token = \"s. sesame\"", "keys[1].token (ciphergate.toml line 19): this is no token"),
        (
            "token = \"s.sesame\"\ntoken_file = \"bao.token\"",
            "keys[1].token_file (ciphergate.toml line 20): keys[1].token is set too",
        ),
        (
            "token_file = \"bao.token\"\nfile = \"keyring\"",
            "keys[1].file (ciphergate.toml line 20): a key of kind \"transit\" has no such",
        ),
        ("token_file = \"bao.token\"\nkey_arn = \"x\"", "keys[1].key_arn (ciphergate.toml line 20): `x` is not the ARN"),
        ("token_file = \"bao.token\"\nmount = \"../sys\"", "keys[1].mount (ciphergate.toml line 20): `../sys` is not a path"),
        ("token_file = \"bao.token\"\nnamespace = \"/\"", "keys[1].namespace (ciphergate.toml line 20): `/` is not a path"),
    ];
    for (more, expected) in wrong {
        let told = folder.mistakes(&format!("{LEAST}{TRANSIT}{more}\n"));
        assert!(told[0].starts_with(expected) && !told[0].contains("sesame"), "{more}: {told:?}");
    }
    let least = |line: &str| folder.mistakes(&format!("{LEAST}[[keys]]\nlabel = \"b\"\nkind = \"transit\"\n{line}\n"));
    let told = least("token_file = \"bao.token\"");
    assert!(told.len() == 2 && told[0].contains("keys[1].endpoint") && told[1].contains("keys[1].key_name"), "{told:?}");
    let told = least("endpoint = \"http://bao:8200\"\nkey_name = \"k\"\ntoken_file = \"bao.token\"");
    assert!(told.len() == 1 && told[0].contains("keys[1].allow_plain_http = true"), "{told:?}");
    // What only Transit has is refused elsewhere.
    for line in ["key_name = \"k\"", "mount = \"m\"", "namespace = \"n\"", "token_file = \"bao.token\"", "token = \"t\""] {
        let told = folder.mistakes(&LEAST.replace("file = \"keyring\"", &format!("file = \"keyring\"\n{line}")));
        assert!(told.len() == 1 && told[0].contains("a key of kind \"keyring\" has no such setting"), "{told:?}");
    }
}

#[test]
fn kms_keys_by_alias_region_role_and_replica() {
    let folder = Folder::new();
    let with = |text: &str| folder.load(&format!("{LEAST}[[keys]]\nlabel = \"k2\"\nkind = \"kms\"\n{text}\n"));
    let key = |text: &str| match with(text).unwrap_or_else(|problems| panic!("{text}: {problems}")).keys.pop().unwrap().source {
        KeySource::Kms(key) => key,
        other => panic!("{other:?}"),
    };
    let arn = |text: &str| match key(text).name {
        KmsName::Arn(arn) => arn.to_string(),
        other => panic!("{other:?}"),
    };
    let single = "key_arn = \"arn:aws:kms:eu-central-1:111122223333:key/abc\"\n";
    let multi = "key_arn = \"arn:aws:kms:eu-central-1:111122223333:key/mrk-abc\"\n";
    let own = "alias = \"arn:aws:kms:eu-central-1:111122223333:alias/team/main\"\n";
    assert_eq!(arn(&format!("{single}region = \"eu-central-1\"")), "arn:aws:kms:eu-central-1:111122223333:key/abc");
    assert_eq!(arn(&format!("{multi}region = \"us-east-1\"")), "arn:aws:kms:us-east-1:111122223333:key/mrk-abc");
    let pinned = "pinned_arn = \"arn:aws:kms:eu-central-1:111122223333:key/abc\"\n";
    for (text, pinned) in [(own.to_owned(), None), (format!("{own}{pinned}region = \"eu-central-1\""), Some("abc"))] {
        let KmsName::Alias { alias, pinned: told, .. } = key(&text).name else { panic!("{text}") };
        assert_eq!((alias.region(), told.is_some()), (Some("eu-central-1"), pinned.is_some()));
    }
    let named = key("alias = \"alias/main\"\nregion = \"eu-west-1\"").name;
    assert!(matches!(named, KmsName::Alias { region: Some(region), .. } if region.as_str() == "eu-west-1"));

    let role = "assume_role_arn = \"arn:aws:iam::444455556666:role/path/keys\"\n";
    let told = key(&format!("{single}{role}assume_role_external_id = \"one-two\"")).role.unwrap();
    assert_eq!(told.external_id.unwrap().as_str(), "one-two");
    assert_eq!((told.session_name.as_str(), told.arn.as_str()), ("ciphergate", "arn:aws:iam::444455556666:role/path/keys"));
    let shown = with(&format!("{single}{role}assume_role_external_id = \"one-two\"")).unwrap().to_string();
    assert!(shown.contains("assume_role_external_id = \"***\"") && !shown.contains("one-two"), "{shown}");

    let https = "replicas = [{ region = \"eu-west-1\", endpoint = \"https://w.example.com\" }, { region = \"us-east-1\", endpoint = \"https://e.example.com\" }]";
    for (text, endpoints) in [
        (format!("{multi}replicas = [\"eu-west-1\", \"us-east-1\"]"), [None, None]),
        (format!("{multi}endpoint = \"https://kms\"\n{https}"), [Some("https://w.example.com"), Some("https://e.example.com")]),
        (format!("{own}{https}"), [Some("https://w.example.com"), Some("https://e.example.com")]),
    ] {
        let replicas = key(&text).replicas;
        assert_eq!(replicas.iter().map(|replica| replica.region.as_str()).collect::<Vec<_>>(), ["eu-west-1", "us-east-1"]);
        let told: Vec<_> = replicas.iter().map(|replica| replica.endpoint.as_ref().map(Endpoint::as_str)).collect();
        assert_eq!(told, endpoints);
    }
    let variables = [("CIPHERGATE_KEYS__1__REPLICAS", "[\"eu-west-1\"]"), ("CIPHERGATE_KEYS__1__ASSUME_ROLE_ARN", "x")];
    let sources =
        folder.sources(&format!("{LEAST}[[keys]]\nlabel = \"k2\"\nkind = \"kms\"\n{multi}")).environment(environment(&variables));
    let told = folder.told(Config::load(sources));
    assert!(told.len() == 1 && told[0].contains("is not the ARN of a role"), "{told:?}");
    assert!(with(&format!("{multi}{https}")).unwrap().to_string().contains("region = \"eu-west-1\" }"), "tables are shown");
}

#[test]
fn what_kms_keys_cannot_be_is_told_with_what_to_do() {
    let folder = Folder::new();
    let single = "key_arn = \"arn:aws:kms:eu-central-1:111122223333:key/abc\"\n";
    let multi = "key_arn = \"arn:aws:kms:eu-central-1:111122223333:key/mrk-abc\"\n";
    let own = "alias = \"arn:aws:kms:eu-central-1:111122223333:alias/main\"\n";
    let replica = |text: &str| format!("{multi}replicas = [{text}]");
    for (text, what, advice) in [
        (String::new(), "key_arn (", "or set alias"),
        (
            "key_arn = \"arn:aws:kms:eu-central-1:111122223333:alias/main\"".to_owned(),
            "stands in the setting `alias`",
            "key_arn =",
        ),
        (format!("{single}{own}"), "key_arn is set too", "keep one of the two"),
        ("alias = \"main\"".to_owned(), "write alias/NAME", "alias ="),
        ("alias = \"alias/aws/s3\"".to_owned(), "AWS manages", "alias ="),
        ("alias = \"arn:aws:s3:eu-central-1:111122223333:alias/main\"".to_owned(), "must begin like", "alias ="),
        (format!("{own}region = \"eu-west-1\""), "an alias of another region", "alias/NAME"),
        (format!("{own}pinned_arn = \"arn:aws:kms:eu-west-1:111122223333:key/abc\""), "can never lead to it", "describe-key"),
        (format!("{own}pinned_arn = \"arn:aws:kms:eu-central-1:444455556666:key/abc\""), "can never lead to it", "describe-key"),
        (
            "alias = \"alias/main\"\nregion = \"eu-west-1\"\npinned_arn = \"arn:aws:kms:eu-central-1:111122223333:key/abc\""
                .to_owned(),
            "can never lead to it",
            "describe-key",
        ),
        (format!("{single}pinned_arn = \"arn:aws:kms:eu-central-1:111122223333:key/abc\""), "there is no alias", "set alias"),
        (format!("{single}region = \"eu-west-1\""), "lives in eu-central-1 and nowhere else", "multi-region"),
        (format!("{single}region = \"eu west\""), "not a region name", "region ="),
        (format!("{single}replicas = [\"eu-west-1\"]"), "no multi-region key", "key/mrk-"),
        (replica("\"eu-west-1\", \"eu-west-1\""), "named twice", "once"),
        (replica("\"eu-central-1\""), "named twice", "once"),
        (format!("{own}replicas = [\"eu-central-1\"]"), "named twice", "once"),
        (replica("\"eu west\""), "not a region name", "replicas ="),
        (replica("{ endpoint = \"https://x\" }"), "region", "replicas ="),
        (replica("{ region = \"eu-west-1\", key = \"x\" }"), "unknown field", "replicas ="),
        (replica("{ region = \"eu-west-1\", endpoint = \"http://10.0.0.1:1\" }"), "plain HTTP to another machine", "https://"),
        (format!("endpoint = \"https://kms\"\n{}", replica("\"eu-west-1\"")), "`eu-west-1` has none", "endpoint ="),
        (format!("{single}assume_role_arn = \"arn:aws:iam::444455556666:user/x\""), "not the ARN of a role", "assume_role_arn ="),
        (format!("{single}assume_role_external_id = \"abc\""), "no role is assumed", "assume_role_arn"),
        (format!("{single}assume_role_session_name = \"abc\""), "no role is assumed", "assume_role_arn"),
        (
            format!("{single}assume_role_arn = \"arn:aws:iam::444455556666:role/x\"\nassume_role_session_name = \"a b\""),
            "not a session name",
            "assume_role_session_name =",
        ),
    ] {
        let told = folder.mistakes(&format!("{LEAST}[[keys]]\nlabel = \"k2\"\nkind = \"kms\"\n{text}\n"));
        assert!(told.len() == 1 && told[0].contains(what) && told[0].contains(advice), "{text}: {told:#?}");
    }
    let secret =
        format!("{single}assume_role_arn = \"arn:aws:iam::444455556666:role/x\"\nassume_role_external_id = \"not shown\"");
    let told = folder.mistakes(&format!("{LEAST}[[keys]]\nlabel = \"k2\"\nkind = \"kms\"\n{secret}\n"));
    assert!(told.len() == 1 && !told[0].contains("not shown"), "{told:?}");
    for setting in
        ["alias = \"alias/x\"", "region = \"r\"", "replicas = [\"r\"]", "assume_role_arn = \"arn:aws:iam::444455556666:role/x\""]
    {
        let told = folder.mistakes(&LEAST.replace("file = \"keyring\"", &format!("file = \"keyring\"\n{setting}")));
        assert!(told.len() == 1 && told[0].contains("has no such setting"), "{setting}: {told:?}");
    }
}

#[test]
fn backends() {
    let folder = Folder::new();
    folder.write("backend.secret", "s3cret", 0o600);
    let backend = |text: &str| folder.load(&format!("{LEAST}[backend]\n{text}\n")).map(|config| config.backend);
    let aws = backend("region = \"eu-west-1\"\nprofile = \"prod\"").unwrap();
    assert!(!aws.path_style && matches!(aws.credentials, Credentials::Chain { profile: Some(name) } if name == "prod"));
    let own = backend(
        "endpoint = \"https://s3.example.com\"\nregion = \"r\"\naccess_key_id = \"AKIA\"\nsecret_access_key_file = \"backend.secret\"",
    );
    let own = own.unwrap();
    assert!(
        own.path_style
            && matches!(own.credentials, Credentials::Static { secret_access_key, .. } if secret_access_key.expose() == "s3cret")
    );
    assert!(!backend("endpoint = \"https://s3.example.com\"\nregion = \"r\"\npath_style = false").unwrap().path_style);
    assert!(backend("secret_access_key_file = \"backend.secret\"").is_err());
    assert!(backend("profile = \"p\"\naccess_key_id = \"AKIA\"\nsecret_access_key_file = \"backend.secret\"").is_err());
    assert!(backend("ca_file = \"none.pem\"").is_err());
}

/// The example without the marks `#` and, if `both`, `##` before settings.
fn without_marks(both: bool) -> String {
    let example = render::example();
    let unmarked = example.lines().map(|line| {
        let setting = line.trim_start_matches('#');
        let marks = line.len() - setting.len();
        let is_setting = setting.starts_with(|c: char| c.is_ascii_lowercase());
        if is_setting && marks <= 1 + usize::from(both) { setting } else { line }
    });
    unmarked.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_loads_once_its_files_exist() {
    let folder = Folder::new();
    for name in ["clients/backup.secret", "backend.secret", "tls/server.key"] {
        folder.write(name, "0123456789abcdef", 0o600);
    }
    for name in ["tls/server.crt", "tls/backend-ca.pem", "tls/kms-ca.pem"] {
        folder.write(name, "(not read here)", 0o644);
    }
    folder.write("clients.toml", "# No further clients.\n", 0o600);
    let config = folder.load(&render::example()).unwrap();
    assert!(config.clients.len() == 1 && config.listen.tls.is_none() && config.buckets.len() == 1);
    let all = without_marks(false);
    let config = folder.load(&all).unwrap_or_else(|problems| panic!("{problems}\n{all}"));
    assert!(config.listen.tls.is_some() && matches!(config.backend.credentials, Credentials::Static { .. }));
}

#[test]
fn every_value_in_the_reference_is_of_the_right_kind() {
    let folder = Folder::new();
    let path = folder.write("all.toml", &without_marks(true), 0o600);
    let mut problems = Problems::default();
    let text = source::FileText::read(&path, &mut problems);
    let (_, shown) = raw::Raw::read(&mut text.parse(&mut problems), &mut problems);
    assert!(problems.is_empty(), "{problems}");
    // And every setting is in the example.
    let shown: BTreeMap<&str, usize> = shown.iter().map(|section| (section.heading.as_str(), section.lines.len())).collect();
    assert_eq!(shown.values().sum::<usize>(), raw::SECTIONS.iter().map(|about| about.items.len()).sum::<usize>(), "{shown:?}");
}

/// `CIPHERGATE_TEST_BLESS=1` writes the files anew.
#[test]
fn the_rendered_files_are_in_step_with_the_settings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, rendered) in [("deploy/ciphergate.example.toml", render::example()), ("docs/CONFIGURATION.md", render::page())] {
        let path = root.join(path);
        if std::env::var_os("CIPHERGATE_TEST_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &rendered).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == rendered,
            "{} is stale: run this test with CIPHERGATE_TEST_BLESS=1",
            path.display()
        );
    }
}

#[test]
fn the_two_listeners_have_addresses_of_their_own() {
    let folder = Folder::new();
    let told = folder.mistakes(&format!("{LEAST}[listen]\naddress = \"127.0.0.1:9090\"\n"));
    assert!(told.len() == 1 && told[0].starts_with("admin.address: listen.address is the same"), "{told:?}");
    let any = "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    assert!(folder.load(&format!("{LEAST}{any}")).is_ok());
}

#[test]
fn a_variable_for_an_entry_of_the_file_does_not_claim_the_entry() {
    let folder = Folder::new();
    let text = LEAST.replace("file = \"keyring\"\n", "");
    let variables = [("CIPHERGATE_KEYS__0__LABEL", "main"), ("CIPHERGATE_CLIENTS__01__NAME", "x")];
    let told = folder.told(Config::load(folder.sources(&text).environment(environment(&variables))));
    assert!(told[0].starts_with("keys[0].file (ciphergate.toml line 2): this setting is missing"), "{told:?}");
    assert!(told[1].starts_with("clients[1].access_key_id (CIPHERGATE_CLIENTS__01__NAME): this setting is missing"), "{told:?}");
}

#[test]
fn what_is_nearest_says_whether_metadata_are_sealed() {
    let folder = Folder::new();
    let text = format!(
        "{LEAST}[buckets.open]\nseal_metadata = false\n[[buckets.open.prefixes]]\nprefix = \"a/\"\nseal_metadata = true\n\
         [[buckets.open.prefixes]]\nprefix = \"b/\"\n[buckets.quiet]\n[[buckets.quiet.prefixes]]\nprefix = \"c/\"\n"
    );
    for (default, wanted) in
        [("true", [false, true, false, true, true, true]), ("false", [false, true, false, false, false, false])]
    {
        let config = Config::load(folder.sources(&text).flags([flag("encryption.seal_metadata", default)])).unwrap();
        let rule = |bucket: &str| config.rule(bucket).unwrap();
        let (open, quiet) = (rule("open"), rule("quiet"));
        let [a, b] = [0, 1].map(|at| open.prefixes[at].seal_metadata);
        let found =
            [open.seal_metadata, a, b, quiet.seal_metadata, quiet.prefixes[0].seal_metadata, rule("unnamed").seal_metadata];
        assert_eq!(found, wanted, "{default}");
    }
}
