//! The binary: parse, run.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    ciphergate::admin::run(ciphergate::admin::cli::Cli::parse())
}
