//! The command line: one file per command.
//!
//! Exit codes: 0 when all went well, 1 when something failed while running, 2 when the command line or the configuration is wrong.

mod check;
pub mod cli;
mod dev;
mod gc;
mod healthcheck;
mod keygen;
mod keyring;
mod serve;
mod store;

use std::process::ExitCode;

use cli::{Cli, Command};

/// What a command ends with when it fails.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 2: what the user wrote is wrong.
    Usage(String),
    /// Exit code 1.
    Run(String),
}

impl Failure {
    fn run(error: impl std::fmt::Display) -> Self {
        Self::Run(error.to_string())
    }
}

/// Runs one command to its end.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Dev(args) => dev::run(&args),
        Command::Gc(args) => gc::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Keyring(args) => keyring::run(&args),
        Command::Store(args) => store::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Example => {
            print!("{}", crate::config::render::example());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("ciphergate: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Run(text)) => {
            eprintln!("ciphergate: {text}");
            ExitCode::FAILURE
        }
    }
}
