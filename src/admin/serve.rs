//! `ciphergate serve`.

use super::Failure;
use super::cli::ConfigArgs;
use crate::app::{Addresses, App};
use crate::config::{Config, LogFormat, LogLevel};
use crate::observe::trace;

pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = load(args)?;
    start_log(config.log.format, config.log.level)?;
    serve(config, |_| {})
}

pub(super) fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    Config::load(args.sources()).map_err(|problems| Failure::Usage(problems.to_string()))
}

pub(super) fn start_log(format: LogFormat, level: LogLevel) -> Result<(), Failure> {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    trace::init(format == LogFormat::Json, level).map_err(Failure::run)
}

/// Builds the gateway and runs it until it is told to stop.
pub(super) fn serve(config: Config, started: impl FnOnce(Addresses)) -> Result<(), Failure> {
    actix_web::rt::System::new().block_on(async {
        let app = App::build(config).await.map_err(Failure::run)?;
        app.serve(started).await.map_err(Failure::run)
    })
}
