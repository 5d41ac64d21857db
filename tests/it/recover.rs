//! `ciphergate recover` on objects that were damaged in the store.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use aws_sdk_s3::primitives::ByteStream;

use crate::kit::{Launch, Site, noise};

const CHUNK: usize = 65_536;
const SEALED: usize = CHUNK + 16;
/// Objects above this are written in parts.
const IN_PARTS: &str = "multipart.put_bytes_max = 5242880\n";

fn command(site: &Site, more: &str, args: &[&str]) -> Command {
    let mut command = Launch::new(site.folder.path(), site.store_addr).more(more).command("recover");
    command.args(args);
    command
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Changes the stored bytes, and leaves the rest of the object as it is.
async fn damage(site: &Site, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let got = site.behind().get_object().bucket("hurt").key(key).send().await.expect("get");
    let metadata = got.metadata().cloned().expect("an envelope");
    let envelope = metadata["ciphergate"].clone();
    let mut bytes = got.body.collect().await.expect("whole").to_vec();
    change(&mut bytes);
    let put = site.behind().put_object().bucket("hurt").key(key).set_metadata(Some(metadata));
    put.body(ByteStream::from(bytes)).send().await.expect("put");
    envelope
}

async fn put(site: &Site, key: &str, body: &[u8]) {
    let put = site.client().put_object().bucket("hurt").key(key).body(ByteStream::from(body.to_vec()));
    put.send().await.expect("put");
}

#[tokio::test]
async fn what_verifies_comes_out_and_what_is_lost_is_told() {
    let site = Site::start().await;
    site.bucket("hurt").await;
    let plain = noise(4 * CHUNK + 77, 1);
    for key in ["good", "flipped", "cut", "bare"] {
        put(&site, key, &plain).await;
    }
    let out = |name: &str| site.folder.path().join(name);
    let to = |name: &str| out(name).to_str().expect("UTF-8").to_owned();

    let (code, said, error) = told(&command(&site, "", &["s3://hurt/good", "--out", &to("good")]).output().expect("runs"));
    assert_eq!(code, Some(0), "{said}{error}");
    assert!(said.ends_with("whole\n") && std::fs::read(out("good")).expect("read") == plain, "{said}");
    assert_eq!(std::fs::metadata(out("good")).expect("there").permissions().mode() & 0o777, 0o600);

    damage(&site, "flipped", |bytes| bytes[SEALED + 9] ^= 4).await;
    let (code, said, _) = told(&command(&site, "", &["s3://hurt/flipped", "--out", &to("flipped")]).output().expect("runs"));
    assert_eq!(
        (code, said.as_str()),
        (
            Some(3),
            "s3://hurt/flipped: 262525 bytes are stored\n  \
             plaintext  262221 bytes by its footer\n  \
             recovered  196685 bytes\n  \
             lost       65536 bytes\n  \
             lost       bytes 65536-131071: what is stored does not verify\n\
             NOT WHOLE\n"
        )
    );
    let mut wanted = plain.clone();
    wanted[CHUNK..2 * CHUNK].fill(0);
    assert!(std::fs::read(out("flipped")).expect("read") == wanted);
    // Without holes, to standard output; the report goes elsewhere.
    let output = command(&site, "", &["s3://hurt/flipped", "--out", "-", "--holes", "skip"]).output().expect("runs");
    assert!(output.stdout == [&plain[..CHUNK], &plain[2 * CHUNK..]].concat());
    assert!(told(&output).0 == Some(3) && told(&output).2.contains("NOT WHOLE"));
    let output = command(&site, "", &["s3://hurt/flipped", "--json"]).output().expect("runs");
    crate::operator::snapshot("recover.json", &String::from_utf8_lossy(&output.stdout));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["lost"], serde_json::json!([{"first": 65_536, "last": 131_071, "why": "damaged"}]));
    assert_eq!((&json["whole"], &json["length_from"], &json["lost_bytes"]), (&false.into(), &"footer".into(), &65_536.into()));

    // A file is never overwritten.
    let (code, _, error) = told(&command(&site, "", &["s3://hurt/good", "--out", &to("good")]).output().expect("runs"));
    assert!(code == Some(2) && error.contains("--out"), "{error}");

    let envelope = damage(&site, "cut", |bytes| bytes.truncate(2 * SEALED + 5)).await;
    let (code, said, _) = told(&command(&site, "", &["s3://hurt/cut", "--out", &to("none")]).output().expect("runs"));
    assert!(code == Some(3) && said.contains("recovered  0 bytes") && said.contains("--plain-size"), "{said}");
    for size in ["262221", "262000-263000"] {
        let path = format!("cut-{size}");
        let args = ["s3://hurt/cut", "--out", &to(&path), "--plain-size", size];
        let (code, said, _) = told(&command(&site, "", &args).output().expect("runs"));
        assert!(code == Some(3) && said.contains("lost       bytes 131072-262220: the stored object ends before"), "{said}");
        let mut wanted = plain.clone();
        wanted[2 * CHUNK..].fill(0);
        assert!(std::fs::read(out(&path)).expect("read") == wanted, "{size}");
    }

    // Moved without its envelope, by somebody else.
    let bytes = site.behind().get_object().bucket("hurt").key("bare").send().await.expect("get");
    let bare_envelope = bytes.metadata().expect("an envelope")["ciphergate"].clone();
    let bytes = bytes.body.collect().await.expect("whole").into_bytes();
    site.behind().put_object().bucket("hurt").key("moved").body(ByteStream::from(bytes)).send().await.expect("put");
    let (code, _, error) = told(&command(&site, "", &["s3://hurt/moved"]).output().expect("runs"));
    assert!(code == Some(1) && error.contains("no envelope"), "{error}");
    let args = ["s3://hurt/moved", "--envelope", &bare_envelope, "--sealed-as", "s3://hurt/bare", "--out", &to("moved")];
    let (code, said, error) = told(&command(&site, "", &args).output().expect("runs"));
    assert!(code == Some(0) && std::fs::read(out("moved")).expect("read") == plain, "{said}{error}");
    // Another object's key opens nothing.
    let args = ["s3://hurt/moved", "--envelope", &envelope, "--sealed-as", "s3://hurt/bare"];
    let (code, _, error) = told(&command(&site, "", &args).output().expect("runs"));
    assert!(code == Some(1) && error.contains("nothing can be recovered without the object's data key"), "{error}");
    let args = ["s3://hurt/moved", "--envelope", &envelope, "--sealed-as", "s3://hurt/cut"];
    let (code, said, error) = told(&command(&site, "", &args).output().expect("runs"));
    assert!(code == Some(3) && said.contains("recovered  0 bytes"), "{said}{error}");
    let (code, _, _) = told(&command(&site, "", &["s3://hurt/nowhere"]).output().expect("runs"));
    assert_eq!(code, Some(1));
    for wrong in [&["s3://hurt"][..], &["hurt/good"], &["s3://hurt/good", "--plain-size", "9-1"]] {
        assert_eq!(told(&command(&site, "", wrong).output().expect("runs")).0, Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn an_object_in_parts_is_recovered_with_and_without_its_footer() {
    let site = Site::start_with(IN_PARTS).await;
    site.bucket("hurt").await;
    let plain = noise(16 << 20, 2);
    put(&site, "parts", &plain).await;
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    let first_part = plain.len() / 3 + 1;
    damage(&site, "parts", flip(32 + 3 * SEALED)).await;
    let (code, said, _) = told(&command(&site, IN_PARTS, &["s3://hurt/parts"]).output().expect("runs"));
    assert!(code == Some(3) && said.contains("by its footer") && said.contains("lost       bytes 196608-262143"), "{said}");

    damage(&site, "parts", |bytes| *bytes.last_mut().expect("bytes") ^= 1).await;
    let path = site.folder.path().join("out");
    let args = ["s3://hurt/parts", "--out", path.to_str().expect("UTF-8")];
    let (code, said, _) = told(&command(&site, IN_PARTS, &args).output().expect("runs"));
    assert!(code == Some(3) && said.contains("NOT PROVEN") && said.contains("lost       bytes 196608-262143"), "{said}");
    let mut wanted = plain.clone();
    wanted[3 * CHUNK..4 * CHUNK].fill(0);
    assert!(std::fs::read(&path).expect("read") == wanted);

    // In the second part.
    damage(&site, "parts", |bytes| bytes.truncate(first_part + 32 + (first_part / CHUNK + 1) * 16 + 32 + SEALED + 9)).await;
    let (code, said, _) = told(&command(&site, IN_PARTS, &["s3://hurt/parts"]).output().expect("runs"));
    assert!(code == Some(3) && said.contains("unknown; at least") && said.contains("ends before"), "{said}");
    let args = ["s3://hurt/parts", "--plain-size", "16777216", "--json"];
    let output = command(&site, IN_PARTS, &args).output().expect("runs");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["length_from"], &json["plaintext_bytes"]), (&"told".into(), &16_777_216.into()), "{json}");
    assert_eq!(json["lost"][1]["last"], 16_777_215, "{json}");
}
