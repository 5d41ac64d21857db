//! `ciphergate inspect`: what one object in the store is, or a file with what the store has of one.

use std::path::Path;

use super::cli::InspectArgs;
use super::{Failure, operator};
use crate::bulk::inspect::{Inspection, Kind, inspect, inspect_file};
use crate::bulk::report::print_json;
use crate::ops::chain;

pub(super) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let told = match (&args.file, &args.target) {
        (Some(path), _) => file(path, args.envelope.as_deref().unwrap_or_default())?,
        (None, Some(target)) => {
            let object = target.object().map_err(Failure::usage)?;
            operator::without_keys(&args.config, target, async |gateway, _| {
                let told = inspect(&gateway, &object, args.version_id.as_deref(), args.unlock).await;
                told.map_err(|error| Failure::Run(format!("{target}: {}", chain(&error))))
            })?
        }
        (None, None) => return Err(Failure::Usage("neither an object nor a file".to_owned())),
    };
    match args.json {
        true => print_json(&told).map_err(Failure::run)?,
        false => print!("{told}"),
    }
    if told.kind == Kind::Sealed { Ok(()) } else { Err(Failure::Findings) }
}

fn file(path: &Path, envelope: &str) -> Result<Inspection, Failure> {
    let envelope = match envelope.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|error| Failure::Usage(format!("--envelope @{path}: {error}")))?,
        None => envelope.as_bytes().to_vec(),
    };
    inspect_file(path, &envelope).map_err(|error| Failure::Usage(format!("--file {}: {error}", path.display())))
}
