//! The operator's commands over the embedded store, through the real binary.

mod history;
mod inspect;
mod rewrap;
mod verify;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::kit::{Launch, Site};

/// A site whose configuration has a second key, `new`.
pub struct TwoKeys {
    pub site: Site,
    more: String,
    pub folder: tempfile::TempDir,
}

/// The section of a new keyring of this label.
pub fn keyring(folder: &Path, label: &str) -> String {
    let file = folder.join(label);
    let mut keygen = Command::new(env!("CARGO_BIN_EXE_ciphergate"));
    let made = keygen.args(["keygen", "--label", label, "--out"]).arg(&file).output().expect("keygen runs");
    assert!(made.status.success(), "{made:?}");
    format!("[[keys]]\nlabel = \"{label}\"\nkind = \"keyring\"\nfile = \"{}\"\n", file.display())
}

impl TwoKeys {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let more = keyring(folder.path(), "new");
        let site = Site::start_with(&more).await;
        Self { site, more, folder }
    }

    /// The same configuration once more, for another process.
    pub fn launch(&self) -> Launch {
        Launch::new(self.site.folder.path(), self.site.store_addr).more(&self.more)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command, which other threads let the store answer meanwhile.
    pub async fn run(&self, args: &[&str]) -> Told {
        run(self.launch().command(args[0]), &args[1..]).await
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Told {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Told {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub async fn run(mut command: Command, args: &[&str]) -> Told {
    command.args(args);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Told { code: status.code(), out: text(stdout), err: text(stderr) }
}

pub async fn put(client: &Client, bucket: &str, key: &str, body: &[u8]) {
    client.put_object().bucket(bucket).key(key).body(body.to_vec().into()).send().await.expect("put");
}

pub async fn get(client: &Client, bucket: &str, key: &str) -> Vec<u8> {
    let got = client.get_object().bucket(bucket).key(key).send().await.expect("get");
    got.body.collect().await.expect("whole").to_vec()
}

/// An object in two parts.
pub async fn put_parts(client: &Client, bucket: &str, key: &str, body: &[u8]) {
    let made = client.create_multipart_upload().bucket(bucket).key(key).send().await.expect("created");
    let id = made.upload_id().expect("an id");
    let mut parts = Vec::new();
    let (first, second) = body.split_at(5 << 20);
    for (number, part) in [(1, first), (2, second)] {
        let sent = client.upload_part().bucket(bucket).key(key).upload_id(id).part_number(number);
        let etag = sent.body(part.to_vec().into()).send().await.expect("part").e_tag;
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket(bucket).key(key).upload_id(id);
    complete.multipart_upload(parts).send().await.expect("completed");
}

/// The label in the envelope of an object.
pub async fn label(behind: &Client, bucket: &str, key: &str) -> String {
    let head = behind.head_object().bucket(bucket).key(key).send().await.expect("head");
    let text = head.metadata().and_then(|entries| entries.get("ciphergate")).expect("an envelope").clone();
    ciphergate::format::Envelope::parse(&text).expect("an envelope").label().to_string()
}

/// Compares with a file of tests/it/snapshots, with what differs from run to run taken out. BLESS_SNAPSHOTS=1 writes the file.
pub fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots").join(name);
    let masked = masked(text);
    if std::env::var_os("BLESS_SNAPSHOTS").is_some() {
        std::fs::write(&path, &masked).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(masked, expected, "{name}; BLESS_SNAPSHOTS=1 takes what is new");
}

fn masked(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("\"seconds\":") {
            out.push_str("  \"seconds\": <seconds>,\n");
            continue;
        }
        let line = match line.rsplit_once("; ") {
            Some((before, after)) if line.starts_with("key calls") && after.ends_with(" s") => format!("{before}; <seconds> s"),
            _ => line.to_owned(),
        };
        let mut rest = line.as_str();
        while !rest.is_empty() {
            let run = rest.find(|c: char| !matches!(c, '0'..='9' | 'a'..='f')).unwrap_or(rest.len());
            let word = &rest[..run];
            match run {
                0 => {
                    let c = rest.chars().next().expect("not empty");
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                    continue;
                }
                13 if word.bytes().all(|byte| byte.is_ascii_digit()) => out.push_str("<ms>"),
                16.. => out.push_str("<hex>"),
                _ => out.push_str(word),
            }
            rest = &rest[run..];
        }
        out.push('\n');
    }
    out
}
