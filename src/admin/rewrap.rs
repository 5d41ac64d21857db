//! `ciphergate rewrap`: moves objects to another key.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::cli::RewrapArgs;
use super::{Failure, operator};
use crate::backend::Versioning;
use crate::bulk::journal::Header;
use crate::bulk::report::{Document, Failure as Failed, print_json};
use crate::bulk::rewrap::{Outcome, Rewrap, Totals};
use crate::bulk::{Ended, Entry, Versions};
use crate::keys::Label;
use crate::ops::{Gateway, chain};

pub(super) fn run(args: &RewrapArgs) -> Result<(), Failure> {
    let (document, outcome) = operator::with_gateway(&args.config, &args.target, async |gateway, stop| {
        let began = Instant::now();
        let to = wanted(args, &gateway)?;
        let from = args.from.as_deref().map(label).transpose()?;
        let versioning = operator::versioning(&gateway, &args.target.bucket).await?;
        let header = Header {
            command: "rewrap".to_owned(),
            target: args.target.to_string(),
            options: json!({
                "to": to.as_ref().map(ToString::to_string),
                "from": from.as_ref().map(ToString::to_string),
                "apply": args.apply,
                "versioning": format!("{versioning:?}"),
            }),
        };
        let (mut totals, mut found) = (Totals::new(args.apply, to.as_ref(), versioning), operator::report_file(&args.bulk)?);
        let versions = if versioning == Versioning::Never { Versions::Current } else { Versions::All };
        let replay = |entry: &Entry, outcome: Outcome| totals.add(entry, &outcome);
        let run = operator::prepare(&args.bulk, gateway.clone(), stop, &header, (args.target.clone(), versions), replay)?;
        let work = Rewrap::new(gateway.clone(), args.target.bucket.clone(), (from, to), versioning, args.apply);
        let mut unwritten = None;
        let (mut ended, mut failures) = run
            .run(Arc::new(work), |entry, outcome| {
                if let Some(stuck) = Totals::stuck(entry, &outcome) {
                    unwritten = found.line(&stuck).err().or(unwritten.take());
                }
                totals.add(entry, &outcome);
            })
            .await?;
        if let Some(error) = unwritten {
            return Err(Failure::Run(format!("--report: {error}")));
        }
        let uploads = gateway.uploads_under_way(&args.target.bucket, &args.target.key).await.unwrap_or_else(|error| {
            let detail = format!("the uploads under way: {}", chain(&error));
            failures.add(Failed { key: None, version_id: None, detail });
            if ended == Ended::Complete {
                ended = Ended::Failed;
            }
            Default::default()
        });
        totals.conclude(&uploads, |text| text.parse().is_ok_and(|label| gateway.keys().has(&label)));
        let outcome = operator::ended(ended, totals.stuck > 0);
        let document = Document {
            command: "rewrap",
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
