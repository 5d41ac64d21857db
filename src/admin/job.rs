//! A command over many objects from its command line to its report: what `verify`, `rewrap`, `encrypt`, `reencrypt` and `decrypt` share.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use super::cli::BulkArgs;
use super::{Failure, operator};
use crate::bulk::journal::{DeserializeOwned, Header};
use crate::bulk::report::{Document, Failure as Failed, ReportFile, Tally, print_json};
use crate::bulk::{Ended, Run, Stop, Target, Versions, Work};
use crate::ops::Gateway;

/// A command that has not begun.
pub(super) struct Job<'a, C> {
    bulk: &'a BulkArgs,
    command: &'static str,
    began: Instant,
    report: ReportFile,
    pub run: Run,
    counts: C,
}

/// A command whose work is at its end, and whose report has to be given.
pub(super) struct Done<'a, C> {
    bulk: &'a BulkArgs,
    document: Document<C>,
    unwritten: Option<io::Error>,
}

impl<'a, C: Tally> Job<'a, C>
where
    C::Outcome: DeserializeOwned,
{
    /// `counts` hears of what an earlier run did. `options` are those that decide what the work is.
    pub fn new(
        bulk: &'a BulkArgs,
        command: &'static str,
        (gateway, stop): (Gateway, Stop),
        (target, versions): (&Target, Versions),
        options: serde_json::Value,
        mut counts: C,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let report = operator::report_file(bulk)?;
        let header = Header { command: command.to_owned(), target: target.to_string(), options };
        let over = (target.clone(), versions);
        let run = operator::prepare(bulk, gateway, stop, &header, over, |entry, outcome| {
            counts.add(entry, outcome);
        })?;
        Ok(Self { bulk, command, began, report, run, counts })
    }

    /// Does the work.
    pub async fn work(self, work: impl Work<Outcome = C::Outcome>) -> Result<Done<'a, C>, Failure> {
        let Self { bulk, command, began, mut report, run, mut counts } = self;
        let (target, gateway) = (run.target.to_string(), run.gateway.clone());
        let mut unwritten = None;
        let (ended, failures) = run
            .run(Arc::new(work), |entry, outcome| {
                if let Some(finding) = counts.add(entry, outcome)
                    && let Err(error) = report.line(&finding)
                {
                    unwritten.get_or_insert(error);
                }
            })
            .await?;
        let document = Document {
            command,
            target,
            ended,
            resumed: bulk.resume,
            seconds: began.elapsed().as_secs_f64(),
            key_calls: gateway.keys().stats().into(),
            failures,
            details: counts,
        };
        Ok(Done { bulk, document, unwritten })
    }
}

impl<C: Tally> Done<'_, C> {
    /// What was counted.
    pub fn counts(&mut self) -> &mut C {
        &mut self.document.details
    }

    /// Something beside the objects that could not be done.
    pub fn failed(&mut self, detail: String) {
        let Document { failures, ended, .. } = &mut self.document;
        failures.add(Failed { key: None, version_id: None, detail });
        if *ended == Ended::Complete {
            *ended = Ended::Failed;
        }
    }

    /// Gives the report, and the outcome of the command.
    pub fn tell(self) -> Result<(), Failure> {
        let Self { bulk, mut document, unwritten } = self;
        document.details.conclude();
        let mut out = io::stdout().lock();
        match bulk.json {
            true => print_json(&document),
            false => C::text(&document, &mut out).and_then(|()| document.tail(&mut out)).and_then(|()| out.flush()),
        }
        .map_err(Failure::run)?;
        match unwritten {
            Some(error) => Err(Failure::Run(format!("--report: {error}"))),
            None => operator::ended(document.ended, document.details.has_findings()),
        }
    }
}
