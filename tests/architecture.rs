//! Holds the walls of docs/ARCHITECTURE.md: which room names which other room, and which outside crates it names.

use std::fs;
use std::path::{Path, PathBuf};

const ROOMS: [&str; 14] = [
    "crypto", "format", "stream", "keys", "backend", "auth", "ops", "bulk", "http", "observe", "config", "store", "admin", "app",
];

/// A room and the rooms it may name; one that is not here may name all.
const MAY_SEE: [(&str, &[&str]); 12] = [
    ("crypto", &[]),
    ("format", &["crypto"]),
    ("stream", &["crypto", "format"]),
    ("keys", &["crypto", "format", "observe"]),
    ("backend", &["stream", "observe"]),
    ("auth", &["observe"]),
    ("ops", &["crypto", "format", "stream", "keys", "backend", "observe"]),
    ("bulk", &["crypto", "format", "stream", "keys", "backend", "ops"]),
    ("http", &["auth", "backend", "ops", "observe"]),
    ("observe", &[]),
    ("config", &[]),
    ("store", &[]),
];

/// A room, another that it may name only in part, and the part.
const ONLY: [(&str, &str, &[&str]); 2] = [
    ("http", "backend", &["forward", "passing"]),
    // What a broken body means, for documents as for uploads; the operations themselves come in as the protocol library's trait.
    (
        "http",
        "ops",
        &["Access", "AccessRules", "BodyFault", "Error", "StatePlace", "refusal_of", "trailer_value_len", "verify_document"],
    ),
];

/// An outside crate and the places that may name it: a room, or one file of it.
const CRATES: [(&str, &[&str]); 16] = [
    ("actix_web", &["http", "admin"]),
    ("actix_http", &["http/bridge.rs", "http/server.rs"]),
    ("actix_service", &["http/server.rs"]),
    ("actix_tls", &["http/server.rs"]),
    ("s3s_multipart", &["http/form.rs"]),
    ("aws_sdk_s3", &["backend/sdk.rs", "backend/buckets.rs", "backend/copy.rs", "backend/multipart.rs", "backend/versions.rs"]),
    ("aws_sdk_kms", &["keys/kms.rs", "keys/kms"]),
    ("aws_sdk_sts", &["keys/kms/role.rs"]),
    ("aws_config", &["app", "backend/sdk.rs", "keys/kms.rs", "keys/kms"]),
    ("chacha20poly1305", &["crypto"]),
    ("governor", &["bulk"]),
    ("indicatif", &["bulk"]),
    ("rusqlite", &["store"]),
    ("s3s", &["auth", "ops", "http", "store", "app"]),
    ("serde", &["bulk", "config", "keys/keyring.rs", "keys/transit.rs", "keys/transit"]),
    ("tokio", &["admin", "app", "auth", "backend", "bulk", "http", "keys", "ops", "store"]),
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
    let (mut users, mut writers) = (Vec::new(), Vec::new());
    for path in files {
        let place = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).expect("source");
        if !place.starts_with("backend/")
            && text.lines().map(code_of).any(|line| line.contains("passing") || line.contains("PassBody"))
        {
            users.push(place.clone());
        }
        if !place.starts_with("backend/") && code_of(&text).contains("put_plaintext") {
            assert!(text.contains("PlaintextBucket"), "only a bucket that plaintext is meant for");
            writers.push(place);
        }
    }
    assert_eq!(users, ["http/plain.rs"]);
    assert_eq!(writers, ["bulk/decrypt.rs"]);
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
    assert_eq!(violations("http/bridge.rs", "use crate::{\n    auth::{Gate,\n Caller},\n    keys,\n};").len(), 1);
    assert_eq!(violations("format/plan.rs", "use std::{\n    fmt,\n    fs,\n};").len(), 1);
    assert_eq!(violations("format/plan.rs", "use ::std::fs as files;").len(), 1);
    assert_eq!(violations("backend/sdk.rs", "pub use crate :: /* far */ keys::Keys;").len(), 1);
    assert_eq!(violations("http/front.rs", "use crate::backend::forward::{Forwarder, ForwardError};"), Vec::<String>::new());
    assert_eq!(violations("http/front.rs", "use crate::backend::{forward, S3Backend};").len(), 1);
    assert_eq!(violations("http/front.rs", "use crate::{auth, backend as store};").len(), 1);
    assert_eq!(violations("http/front.rs", "use crate::ops::{self, refusal_of};").len(), 1);
    assert_eq!(violations("http/front.rs", "use crate::ops::*;").len(), 1);
    assert_eq!(violations("http/front.rs", "let x = crate::ops::verify_document(h);"), Vec::<String>::new());
    assert_eq!(violations("crypto/seal.rs", "// tokio::time is far away"), Vec::<String>::new());
    assert_eq!(violations("crypto/seal.rs", "/* tokio::time\n is far away */"), Vec::<String>::new());
    assert_eq!(violations("observe/trace.rs", "let silent = \"aws_sdk_s3::operation\";"), Vec::<String>::new());
    assert_eq!(
        violations("format/plan.rs", "let quote = '\"'; let s: &'static str = r#\"\" std::fs\"#; let c = '\\'';"),
        Vec::<String>::new()
    );
    assert_eq!(violations("format/plan.rs", "let quote = '\"'; std::fs::read(path);").len(), 1);
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
    for path in paths(text) {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let mut refuse = || wrong.push(format!("{place} names {}", words.join("::")));
        if let ["crate", other, inside @ ..] = words.as_slice()
            && ROOMS.contains(other)
            && *other != room
        {
            let allowed = MAY_SEE.iter().find(|(name, _)| *name == room).is_none_or(|(_, allowed)| allowed.contains(other));
            let part = ONLY.iter().find(|(from, to, _)| *from == room && to == other);
            let in_part = part.is_none_or(|(.., part)| inside.first().is_some_and(|first| part.contains(first)));
            if !(allowed && in_part) {
                refuse();
            }
        }
        for (name, allowed) in CRATES {
            let inside = allowed.iter().any(|prefix| place == *prefix || place.starts_with(&format!("{prefix}/")));
            if !inside && words.first() == Some(&name) {
                refuse();
            }
        }
        for (name, allowed) in NOT_IN_THE_HEART {
            let named = name.split("::").zip(&words).all(|(a, b)| a == *b) && words.len() >= name.split("::").count();
            if HEART.contains(&room) && !allowed.contains(&room) && named {
                refuse();
            }
        }
    }
    wrong
}

/// Every path that a source names, groups spelled out, whatever lines they stand on.
fn paths(text: &str) -> Vec<Vec<String>> {
    let tokens = tokens(&code_of(text));
    let is_word = |at: usize| tokens.get(at).is_some_and(|token| token.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let brought_in = at > 0 && tokens[at - 1] == "use" || at > 1 && tokens[at - 1] == "::" && tokens[at - 2] == "use";
        if is_word(at) && tokens[at] != "use" && (brought_in || tokens.get(at + 1).is_some_and(|next| next == "::")) {
            at = tree(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path or group that begins at `at`, below `above`; gives where it ends.
fn tree(tokens: &[String], mut at: usize, above: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = above.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while let Some(token) = tokens.get(at) {
                    match token.as_str() {
                        "}" => return at + 1,
                        "," => at += 1,
                        _ => at = tree(tokens, at, &path, found),
                    }
                }
                return at;
            }
            Some(word) if word == "*" || word.starts_with(|c: char| c.is_alphanumeric() || c == '_') => {
                path.push(word.to_owned());
                at += 1;
            }
            _ => {
                let consumed = path.len() > above.len();
                found.push(path);
                return at + usize::from(!consumed);
            }
        }
        match tokens.get(at).map(String::as_str) {
            Some("::") => at += 1,
            next => {
                found.push(path);
                return if next == Some("as") { at + 2 } else { at };
            }
        }
    }
}

fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let len = if word > 0 {
            word
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(rest[..len].to_owned());
        }
        rest = &rest[len..];
    }
    tokens
}

/// A source without its comments and without what stands in quotes.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|more| more.len() - more.trim_start_matches('#').len());
        let raw = raw.filter(|hashes| rest[1 + hashes..].starts_with('"') && !code.ends_with(|c: char| c.is_alphanumeric()));
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[2 + hashes..].find(&end).map_or(rest.len(), |at| 2 + hashes + at + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// Bytes up to and with the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
