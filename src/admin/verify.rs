//! `ciphergate verify`: whether everything below a prefix opens.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;

use super::cli::VerifyArgs;
use super::job::Job;
use super::{Failure, operator};
use crate::bulk::Versions;
use crate::bulk::patience::Patience;
use crate::bulk::run::Run;
use crate::bulk::verify::{Choice, Sample, Smallest, Totals, Verify};
use crate::bulk::walk::Walk;
use crate::ops::chain;
use crate::ops::verify::Depth;

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    operator::with_gateway(&args.config, &args.target, async |gateway, stop| {
        gateway.keys().label_for(&args.target.bucket, &args.target.key).map_err(Failure::usage)?;
        let versions = if args.all_versions { Versions::All } else { Versions::Current };
        let options = json!({
            "all_versions": args.all_versions,
            "quick": args.quick,
            "sample": args.sample.map(|sample| format!("{sample:?}")),
            "seed": args.seed,
        });
        let over = (&args.target, versions);
        let mut job = Job::new(&args.bulk, "verify", (gateway.clone(), stop), over, options, Totals::default())?;
        let depth = if args.quick { Depth::Quick } else { Depth::Whole };
        let choice = choice(args, &mut job.run).await?;
        job.work(Verify { gateway, bucket: args.target.bucket.clone(), depth, choice }).await?.tell()
    })
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
