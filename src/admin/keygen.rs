//! `ciphergate keygen`.

use super::Failure;
use super::cli::KeygenArgs;
use crate::keys::Label;
use crate::keys::keyring::Keyring;

pub(super) fn run(args: &KeygenArgs) -> Result<(), Failure> {
    let label = Label::new(args.label.as_str()).map_err(|error| Failure::Usage(format!("--label {}: {error}", args.label)))?;
    Keyring::create(&args.out, &label).map_err(Failure::run)?;
    println!("Made {} for the label \"{label}\".", args.out.display());
    println!("Keep a copy apart from the bucket: without it no object that it wraps can ever be opened again.");
    Ok(())
}
