//! The command line: one file per command.
//!
//! Exit codes: 0 when all went well, 1 when something failed while running, 2 when the command line or the configuration is wrong, 3 when
//! something was found that ought not to be, 4 when somebody asked to stop and the work can go on later.

mod check;
pub mod cli;
mod decrypt;
mod dev;
mod gc;
mod healthcheck;
mod inspect;
mod job;
mod keygen;
mod keyring;
mod operator;
mod recover;
mod reseal;
mod rewrap;
mod serve;
mod store;
mod verify;

use std::process::ExitCode;

use cli::{Cli, Command};

/// What a command ends with when it fails.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 2: what the user wrote is wrong.
    Usage(String),
    /// Exit code 1.
    Run(String),
    /// Exit code 3. What was found is in the report.
    Findings,
    /// Exit code 4. The report says how to go on.
    Interrupted,
}

impl Failure {
    fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

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
        Command::Inspect(args) => inspect::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Keyring(args) => keyring::run(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Decrypt(args) => decrypt::run(&args),
        Command::Encrypt(args) => reseal::encrypt(&args),
        Command::Reencrypt(args) => reseal::reencrypt(&args),
        Command::Rewrap(args) => rewrap::run(&args),
        Command::Verify(args) => verify::run(&args),
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
        Err(Failure::Findings) => ExitCode::from(3),
        Err(Failure::Interrupted) => ExitCode::from(4),
    }
}
