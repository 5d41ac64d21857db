//! What the commands on objects in the store have in common: the gateway's own configuration, the signals, the pieces of a run, and how
//! its end becomes an exit code.

use std::time::Duration;

use super::cli::{BulkArgs, ConfigArgs};
use super::{Failure, serve};
use crate::app::{App, stop_signal};
use crate::backend::{Error as StoreError, Versioning};
use crate::bulk::journal::{DeserializeOwned, Earlier, Header};
use crate::bulk::patience::Patience;
use crate::bulk::report::ReportFile;
use crate::bulk::{Ended, Entry, Journal, JournalError, Pace, Progress, Run, Stop, Target, Versions};
use crate::ops::{Gateway, chain};

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Exists(_) | JournalError::Foreign { .. } => Self::usage(error),
            JournalError::Damaged { .. } | JournalError::InUse(_) | JournalError::Io { .. } => Self::run(error),
        }
    }
}

/// Runs a command with the operations of the gateway, on all processors. SIGINT and SIGTERM become a wish to stop; a second one ends
/// it at once.
pub(super) fn with_gateway<T>(
    config: &ConfigArgs,
    target: &Target,
    work: impl AsyncFnOnce(Gateway, Stop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_app(config, target, async |_, gateway, stop| work(gateway, stop).await)
}

/// The same for a command that may have no need for a key: an alias that leads nowhere then shows where its key is needed.
pub(super) fn without_keys<T>(
    config: &ConfigArgs,
    target: &Target,
    work: impl AsyncFnOnce(Gateway, Stop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run_with(config, target, false, async |_, gateway, stop| work(gateway, stop).await)
}

/// The same as [`with_gateway`] for a command that needs more of what the gateway is made of.
pub(super) fn with_app<T>(
    config: &ConfigArgs,
    target: &Target,
    work: impl AsyncFnOnce(&App, Gateway, Stop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run_with(config, target, true, work)
}

fn run_with<T>(
    config: &ConfigArgs,
    target: &Target,
    needs_keys: bool,
    work: impl AsyncFnOnce(&App, Gateway, Stop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = serve::load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::run)?;
    runtime.block_on(async {
        let app = App::build(config).await.map_err(Failure::run)?;
        if needs_keys {
            app.pinned().map_err(Failure::run)?;
        }
        let gateway = app.operator();
        target.admit(gateway.place()).map_err(Failure::usage)?;
        let stop = Stop::default();
        let asked = stop.clone();
        tokio::spawn(async move {
            loop {
                stop_signal().await;
                asked.ask();
            }
        });
        work(&app, gateway, stop).await
    })
}

/// Whether a bucket keeps versions.
pub(super) async fn versioning(gateway: &Gateway, bucket: &str) -> Result<Versioning, Failure> {
    match gateway.store().versioning(bucket).await {
        // A store that knows no versions keeps none.
        Err(StoreError::Refused(refusal)) if refusal.status == 501 => Ok(Versioning::Never),
        told => told.map_err(|error| Failure::Run(format!("whether {bucket} keeps versions: {}", chain(&error)))),
    }
}

/// The pieces of a run, as the command line says. `replay` hears what an earlier run has written into the journal.
pub(super) fn prepare<O: DeserializeOwned>(
    args: &BulkArgs,
    gateway: Gateway,
    stop: Stop,
    header: &Header,
    (target, versions): (Target, Versions),
    replay: impl FnMut(&Entry, O),
) -> Result<Run, Failure> {
    let (journal, earlier) = match &args.journal {
        None => (Journal::none(), Earlier::default()),
        Some(path) if args.resume => Journal::resume(path, header, replay)?,
        Some(path) => (Journal::create(path, header)?, Earlier::default()),
    };
    Ok(Run {
        gateway,
        target,
        versions,
        pace: Pace::new(args.concurrency.into(), args.objects_per_sec),
        patience: Patience(Duration::from_secs(args.patience_secs)),
        stop,
        progress: Progress::new(args.json),
        journal,
        earlier,
    })
}

/// The file for findings.
pub(super) fn report_file(args: &BulkArgs) -> Result<ReportFile, Failure> {
    ReportFile::open(args.report.as_deref(), args.resume).map_err(|error| Failure::Usage(format!("--report: {error}")))
}

/// The exit code of a run.
pub(super) fn ended(ended: Ended, has_findings: bool) -> Result<(), Failure> {
    match ended {
        Ended::Failed => Err(Failure::Run("not everything could be done; the report says why".to_owned())),
        Ended::Interrupted => Err(Failure::Interrupted),
        Ended::Complete if has_findings => Err(Failure::Findings),
        Ended::Complete => Ok(()),
    }
}
