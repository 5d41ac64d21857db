//! `ciphergate verify`: whether everything below a prefix opens.

use std::io::{self, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;

use super::cli::VerifyArgs;
use super::{Failure, operator};
use crate::bulk::journal::Header;
use crate::bulk::patience::Patience;
use crate::bulk::report::{Document, print_json};
use crate::bulk::run::Run;
use crate::bulk::verify::{Choice, Outcome, Sample, Smallest, Totals, Verify};
use crate::bulk::walk::Walk;
use crate::bulk::{Entry, Versions};
use crate::ops::chain;
use crate::ops::verify::Depth;

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let header = Header {
        command: "verify".to_owned(),
        target: args.target.to_string(),
        options: json!({
            "all_versions": args.all_versions,
            "quick": args.quick,
            "sample": args.sample.map(|sample| format!("{sample:?}")),
            "seed": args.seed,
        }),
    };
    let (document, outcome) = operator::with_gateway(&args.config, &args.target, async |gateway, stop| {
        gateway.keys().label_for(&args.target.bucket, &args.target.key).map_err(Failure::usage)?;
        let began = Instant::now();
        let versions = if args.all_versions { Versions::All } else { Versions::Current };
        let (mut totals, mut found) = (Totals::default(), operator::report_file(&args.bulk)?);
        let replay = |_: &Entry, outcome: Outcome| totals.add(outcome);
        let place = (args.target.clone(), versions);
        let mut run = operator::prepare(&args.bulk, gateway.clone(), stop, &header, place, replay)?;
        let depth = if args.quick { Depth::Quick } else { Depth::Whole };
        let choice = choice(args, &mut run).await?;
        let work = Arc::new(Verify { gateway: gateway.clone(), bucket: args.target.bucket.clone(), depth, choice });
        let mut unwritten = None;
        let (ended, failures) = run
            .run(work, |_, outcome| {
                if let Outcome::Found(finding) = &outcome {
                    unwritten = found.line(finding).err().or(unwritten.take());
                }
                totals.add(outcome);
            })
            .await?;
        if let Some(error) = unwritten {
            return Err(Failure::Run(format!("--report: {error}")));
        }
        totals.conclude();
        let outcome = operator::ended(ended, totals.found() > 0);
        let document = Document {
            command: "verify",
            target: args.target.to_string(),
            ended,
            resumed: args.bulk.resume,
            seconds: began.elapsed().as_secs_f64(),
            key_calls: gateway.keys().stats().into(),
            failures,
            details: totals,
        };
        Ok((document, outcome))
    })?;
    let mut out = io::stdout().lock();
    match args.bulk.json {
        true => print_json(&document),
        false => document.details.text(&mut out).and_then(|()| document.tail(&mut out)).and_then(|()| out.flush()),
    }
    .map_err(Failure::run)?;
    outcome
}

/// The sample. One of a fixed size needs the whole listing first; its limit is kept in the journal, so that a later run chooses the same
/// although objects have come since.
async fn choice(args: &VerifyArgs, run: &mut Run) -> Result<Choice, Failure> {
    let count = match args.sample {
        None => return Ok(Choice::ALL),
        Some(Sample::Percent(percent)) => return Ok(Choice::percent(args.seed, percent)),
        Some(Sample::Count(count)) => count,
    };
    if let Some(limit) = run.earlier.note.as_ref().and_then(serde_json::Value::as_u64) {
        return Ok(Choice { seed: args.seed, limit });
    }
    let mut smallest = Smallest::new(count);
    let walk = Walk { target: run.target.clone(), versions: run.versions, after: None };
    let patience = Patience(Duration::from_secs(args.bulk.patience_secs));
    let mut pages = pin!(walk.pages(run.gateway.clone(), patience, run.stop.clone()));
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| Failure::Run(format!("the listing: {}", chain(&error))))?;
        page.iter().for_each(|entry| smallest.add(Choice::rank(args.seed, entry)));
        if run.stop.is_asked() {
            return Err(Failure::Interrupted);
        }
    }
    let limit = smallest.limit();
    run.journal.note(json!(limit))?;
    Ok(Choice { seed: args.seed, limit })
}
