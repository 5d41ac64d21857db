//! `ciphergate inspect`: what an object in the store is.

use super::cli::InspectArgs;
use super::{Failure, operator};
use crate::bulk::inspect::{Kind, inspect};
use crate::bulk::report::print_json;
use crate::ops::chain;

pub(super) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let object = args.target.object().map_err(Failure::usage)?;
    let told = operator::without_keys(&args.config, &args.target, async |gateway, _| {
        let told = inspect(&gateway, &object, args.version_id.as_deref(), args.unlock).await;
        told.map_err(|error| Failure::Run(format!("{}: {}", args.target, chain(&error))))
    })?;
    match args.json {
        true => print_json(&told).map_err(Failure::run)?,
        false => print!("{told}"),
    }
    if told.kind == Kind::Sealed { Ok(()) } else { Err(Failure::Findings) }
}
