//! `ciphergate rewrap`: moves objects to another key.

use serde_json::json;

use super::cli::RewrapArgs;
use super::job::Job;
use super::{Failure, operator};
use crate::backend::Versioning;
use crate::bulk::Versions;
use crate::bulk::rewrap::{Rewrap, Totals};
use crate::keys::Label;
use crate::ops::{Gateway, chain};

pub(super) fn run(args: &RewrapArgs) -> Result<(), Failure> {
    operator::with_gateway(&args.config, &args.target, async |gateway, stop| {
        let to = wanted(args, &gateway)?;
        let from = args.from.as_deref().map(label).transpose()?;
        let versioning = operator::versioning(&gateway, &args.target.bucket).await?;
        let options = json!({
            "to": to.as_ref().map(ToString::to_string),
            "from": from.as_ref().map(ToString::to_string),
            "versions": args.versions,
            "apply": args.apply,
            "versioning": format!("{versioning:?}"),
        });
        let totals = Totals::new((args.versions, args.apply), to.as_ref(), versioning);
        let versions = if versioning == Versioning::Never { Versions::Current } else { Versions::All };
        let over = (&args.target, versions);
        let job = Job::new(&args.bulk, "rewrap", (gateway.clone(), stop), over, options, totals)?;
        let bucket = args.target.bucket.clone();
        let work = Rewrap::new(gateway.clone(), bucket, (from, to), versioning, (args.versions, args.apply))
            .with_journal(job.run.journal.intents()?, &job.run.earlier.begun);
        let mut done = job.work(work).await?;
        let uploads = gateway.uploads_under_way(&args.target.bucket, &args.target.key).await.unwrap_or_else(|error| {
            done.failed(format!("the uploads under way: {}", chain(&error)));
            Default::default()
        });
        done.counts().needs(&uploads, |text| text.parse().is_ok_and(|label| gateway.keys().has(&label)));
        done.tell()
    })
}

fn label(text: &str) -> Result<Label, Failure> {
    text.parse().map_err(|error| Failure::Usage(format!("\"{text}\": {error}")))
}

/// The key that objects are to be under: the one asked for, or the one that the rules name for all of them. `None` where the rules differ: each
/// object goes by its own.
fn wanted(args: &RewrapArgs, gateway: &Gateway) -> Result<Option<Label>, Failure> {
    let rule = gateway.keys().label_below(&args.target.bucket, &args.target.key).map_err(Failure::usage)?;
    let Some(to) = args.to.as_deref().map(label).transpose()?.or(rule) else { return Ok(None) };
    match gateway.keys().has(&to) {
        true => Ok(Some(to)),
        false => Err(Failure::Usage(format!("--to {to}: the configuration has no key of that label"))),
    }
}
