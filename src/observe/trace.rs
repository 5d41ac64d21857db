//! The log: JSON or text lines on standard error.

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// Targets that print whole requests, keys included, or only noise. Nothing turns them on.
const SILENT: [&str; 4] = ["s3s", "aws_sdk_s3", "aws_sdk_kms", "aws_sdk_sts"];
/// Targets of libraries that are heard from `warn` on.
const QUIET: [&str; 9] = [
    "actix_http",
    "actix_server",
    "actix_web",
    "aws_config",
    "aws_smithy_runtime",
    "aws_smithy_http_client",
    "h2",
    "hyper",
    "rustls",
];

/// Sets the log up for the whole process. Errors: it was set up before.
pub fn init(json: bool, level: Level) -> Result<(), TryInitError> {
    let registry = tracing_subscriber::registry().with(targets(level));
    if json {
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
        registry.with(lines.with_writer(std::io::stderr)).try_init()
    } else {
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init()
    }
}

fn targets(level: Level) -> Targets {
    let targets = Targets::new().with_default(LevelFilter::from_level(Level::WARN.min(level))).with_target("ciphergate", level);
    let targets = SILENT.iter().fold(targets, |targets, name| targets.with_target(*name, LevelFilter::OFF));
    QUIET.iter().fold(targets, |targets, name| targets.with_target(*name, Level::WARN.min(level)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_print_requests_stay_silent_at_every_level() {
        for level in [Level::ERROR, Level::INFO, Level::TRACE] {
            let targets = targets(level);
            for name in ["s3s::ops", "aws_sdk_s3::operation", "aws_sdk_kms", "aws_sdk_sts::operation"] {
                assert!(!targets.would_enable(name, &Level::ERROR), "{name} at {level}");
            }
            assert!(!targets.would_enable("hyper::proto", &Level::INFO));
            assert!(targets.would_enable("ciphergate::request", &Level::ERROR));
            assert_eq!(targets.would_enable("ciphergate::request", &Level::INFO), level >= Level::INFO);
        }
    }
}
