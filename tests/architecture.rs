//! Holds the walls of docs/ARCHITECTURE.md: which room names which other room, and which outside crates it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOMS: [&str; 13] =
    ["crypto", "format", "stream", "keys", "backend", "auth", "ops", "http", "observe", "config", "store", "admin", "app"];

/// A room and the rooms it may name; one that is not here may name all.
const MAY_SEE: [(&str, &[&str]); 11] = [
    ("crypto", &[]),
    ("format", &["crypto"]),
    ("stream", &["crypto", "format"]),
    ("keys", &["crypto", "format", "observe"]),
    ("backend", &["stream", "observe"]),
    ("auth", &["observe"]),
    ("ops", &["crypto", "format", "stream", "keys", "backend", "observe"]),
    ("http", &["auth", "backend", "ops", "observe"]),
    ("observe", &[]),
    ("config", &[]),
    ("store", &[]),
];

/// An outside crate and the places that may name it: a room, or one file of it.
const CRATES: [(&str, &[&str]); 9] = [
    ("actix_web", &["http", "admin"]),
    ("aws_sdk_s3", &["backend/sdk.rs", "backend/buckets.rs", "backend/copy.rs", "backend/multipart.rs", "backend/versions.rs"]),
    ("aws_sdk_kms", &["keys/kms.rs"]),
    ("aws_config", &["app", "backend/sdk.rs", "keys/kms.rs", "keys/kms"]),
    ("chacha20poly1305", &["crypto"]),
    ("rusqlite", &["store"]),
    ("s3s", &["auth", "ops", "http", "store", "app"]),
    ("serde", &["config", "keys/keyring.rs"]),
    ("tokio", &["admin", "app", "auth", "backend", "http", "keys", "ops", "store"]),
];

/// What the heart never touches, and the rooms of it that may nevertheless: no clock, no files, no runtime, no log; and randomness is
/// an argument.
const HEART: [&str; 3] = ["crypto", "format", "stream"];
const NOT_IN_THE_HEART: [(&str, &[&str]); 13] = [
    ("std::fs", &[]),
    ("std::net", &[]),
    ("std::env", &[]),
    ("std::io", &[]),
    ("std::time", &[]),
    ("std::thread", &[]),
    ("getrandom", &[]),
    ("log", &[]),
    ("tracing", &[]),
    ("metrics", &[]),
    ("serde_json", &[]),
    ("bytes", &["stream"]),
    ("futures", &["stream"]),
];

#[test]
fn every_room_keeps_to_its_walls() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 40, "the sources were not found");
    let mut wrong = Vec::new();
    for path in files {
        let place = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        wrong.extend(violations(&place, &fs::read_to_string(&path).expect("source")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Bytes that are not sealed leave by one door, for buckets that are plaintext by configuration.
#[test]
fn one_file_passes_plaintext_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut users = Vec::new();
    for path in files {
        let place = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).expect("source");
        if !place.starts_with("backend/")
            && text.lines().map(code_of).any(|line| line.contains("passing") || line.contains("PassBody"))
        {
            users.push(place);
        }
    }
    assert_eq!(users, ["http/plain.rs"]);
}

#[test]
fn a_violation_is_found() {
    assert_eq!(violations("format/footer.rs", "use crate::crypto::Suite;"), Vec::<String>::new());
    assert_eq!(violations("backend/sdk.rs", "use crate::keys::Keys;").len(), 1);
    assert_eq!(violations("backend/sdk.rs", "let x: crate::crypto::DataKey;").len(), 1);
    assert_eq!(violations("crypto/seal.rs", "use tokio::time;").len(), 1);
    assert_eq!(violations("ops/list.rs", "use aws_sdk_s3::Client;").len(), 1);
    assert_eq!(violations("crypto/key.rs", "use std::time::SystemTime;").len(), 1);
    assert_eq!(violations("format/plan.rs", "use std::fs;").len(), 1);
    assert_eq!(violations("format/plan.rs", "use std::{fmt, fs};").len(), 1);
    assert_eq!(violations("format/plan.rs", "use bytes::Bytes;").len(), 1);
    assert_eq!(violations("stream/open.rs", "use bytes::Bytes;"), Vec::<String>::new());
    assert_eq!(violations("stream/open.rs", "tracing::info!(len);").len(), 1);
    assert_eq!(violations("store/index.rs", "use std::{fs, time::Duration};"), Vec::<String>::new());
    assert_eq!(violations("http/bridge.rs", "use crate::{auth, keys};").len(), 1);
    assert_eq!(violations("crypto/seal.rs", "// tokio::time is far away"), Vec::<String>::new());
    assert_eq!(violations("observe/trace.rs", "let silent = \"aws_sdk_s3::operation\";"), Vec::<String>::new());
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn violations(place: &str, text: &str) -> Vec<String> {
    let Some((room, _)) = place.split_once('/') else { return Vec::new() };
    let mut wrong = Vec::new();
    for line in text.lines().map(code_of) {
        if let Some((_, allowed)) = MAY_SEE.iter().find(|(name, _)| *name == room) {
            for seen in rooms_named(&line) {
                if seen != room && !allowed.contains(&seen) {
                    wrong.push(format!("{place} names {seen}: {line}"));
                }
            }
        }
        for (name, allowed) in CRATES {
            let inside = allowed.iter().any(|prefix| place == *prefix || place.starts_with(&format!("{prefix}/")));
            if !inside && names_crate(&line, name) {
                wrong.push(format!("{place} names {name}: {line}"));
            }
        }
        for (name, allowed) in NOT_IN_THE_HEART {
            if HEART.contains(&room) && !allowed.contains(&room) && names_path(&line, name) {
                wrong.push(format!("{place} names {name}: {line}"));
            }
        }
    }
    wrong
}

/// A line without its comment and without what stands in quotes.
fn code_of(line: &str) -> String {
    let line = line.split("//").next().unwrap_or_default();
    line.split('"').step_by(2).collect()
}

fn rooms_named(line: &str) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap_or(list));
        let words = if list.len() == rest.len() { vec![rest] } else { list.split(',').map(str::trim).collect() };
        for word in words {
            let name: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            seen.extend(ROOMS.into_iter().find(|room| *room == name));
        }
    }
    seen
}

/// Whether the line goes through a crate or module, or brings it in, alone or in a group.
fn names_path(line: &str, name: &str) -> bool {
    let used = line.split_once("use ").map_or("", |(_, used)| used.trim_end_matches(';'));
    let grouped = used.strip_prefix("std::{").is_some_and(|list| {
        let mut words = list.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.any(|word| name.strip_prefix("std::") == Some(word))
    });
    grouped || used == name || names_crate(line, name)
}

fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
    })
}
