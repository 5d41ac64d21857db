//! `ciphergate keyring list` and `ciphergate keyring rotate`.

use super::Failure;
use super::cli::{KeyringArgs, KeyringCommand, KeyringListArgs, KeyringRotateArgs};
use crate::keys::keyring::{Keyring, Listed, Next};

pub(super) fn run(args: &KeyringArgs) -> Result<(), Failure> {
    match &args.command {
        KeyringCommand::List(args) => list(args),
        KeyringCommand::Rotate(args) => rotate(args),
    }
}

fn list(args: &KeyringListArgs) -> Result<(), Failure> {
    let listed = Listed::of(&args.file).map_err(Failure::run)?;
    if args.json {
        let versions: Vec<_> = listed
            .versions
            .iter()
            .map(|version| {
                serde_json::json!({"version": version.number, "created": version.created, "primary": version.number == listed.primary})
            })
            .collect();
        let document = serde_json::json!({"label": listed.label.as_str(), "primary": listed.primary, "versions": versions});
        println!("{}", serde_json::to_string_pretty(&document).map_err(Failure::run)?);
        return Ok(());
    }
    println!("label {}", listed.label);
    for version in &listed.versions {
        let mark = if version.number == listed.primary { "  primary: wraps new objects" } else { "" };
        println!("version {}  created {}{mark}", version.number, version.created);
    }
    Ok(())
}

fn rotate(args: &KeyringRotateArgs) -> Result<(), Failure> {
    let next = match (args.promote, args.no_primary) {
        (Some(version), _) => Next::Promote(version),
        (None, true) => Next::FreshToPromoteLater,
        (None, false) => Next::Fresh,
    };
    let done = Keyring::rotate(&args.file, next).map_err(Failure::run)?;
    if args.json {
        let document = serde_json::json!({"added": done.added, "primary_before": done.was, "primary": done.primary});
        println!("{}", serde_json::to_string_pretty(&document).map_err(Failure::run)?);
        return Ok(());
    }
    let file = args.file.display();
    match done.added {
        Some(added) => {
            println!("Added version {added} to {file}.");
            println!(
                "Keep a copy apart from the bucket: without this file nothing that version {added} wraps can ever be opened again."
            );
        }
        None if done.was == done.primary => {
            println!("Version {} was the primary one already; nothing has changed.", done.primary)
        }
        None => {}
    }
    match (done.added, done.was == done.primary) {
        (Some(added), true) => {
            println!(
                "Version {} still wraps new objects. Now give the file to every instance and restart each; then promote it:",
                done.was
            );
            println!("  ciphergate keyring rotate {file} --promote {added}");
        }
        (_, false) => {
            println!(
                "Version {} wraps new objects from now on, in place of version {}, which still opens its own.",
                done.primary, done.was
            );
            println!(
                "An instance reads the file when it starts: restart each. One without version {} cannot open what others write.",
                done.primary
            );
        }
        (None, true) => {}
    }
    Ok(())
}
