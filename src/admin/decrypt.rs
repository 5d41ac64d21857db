//! `ciphergate decrypt`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::cli::DecryptArgs;
use super::{Failure, operator};
use crate::app::App;
use crate::bulk::decrypt::{Counts, Leaving, To, print};
use crate::bulk::folder::Folder;
use crate::bulk::journal::Header;
use crate::bulk::report::{Document, print_json};
use crate::bulk::{Target, Versions};
use crate::ops::{Access, Gateway};

pub(super) fn run(args: &DecryptArgs) -> Result<(), Failure> {
    let (ended, findings) = operator::with_app(&args.config, &args.target, async |app, gateway, stop| {
        if gateway.access_of(&args.target.bucket) == Access::Plaintext {
            let bucket = &args.target.bucket;
            return Err(Failure::Usage(format!(
                "the configuration says that nothing is sealed in {bucket} (access = \"plaintext\")"
            )));
        }
        let to = to(args, app, &gateway)?;
        let header = Header {
            command: "decrypt".to_owned(),
            target: args.target.to_string(),
            options: serde_json::json!({"to": args.to, "apply": args.apply}),
        };
        let mut counts = Counts { to: args.to.clone(), applied: args.apply, ..Counts::default() };
        let began = Instant::now();
        let over = (args.target.clone(), Versions::Current);
        let run = operator::prepare(&args.bulk, gateway.clone(), stop, &header, over, |entry, outcome| {
            counts.add(entry, outcome);
        })?;
        let mut report = operator::report_file(&args.bulk)?;
        let work = Leaving { gateway: gateway.clone(), bucket: args.target.bucket.clone(), to, apply: args.apply };
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
        counts.conclude();
        let document = Document {
            command: "decrypt",
            target: args.target.to_string(),
            ended,
            resumed: args.bulk.resume,
            seconds: began.elapsed().as_secs_f64(),
            key_calls: gateway.keys().stats().into(),
            failures,
            details: counts,
        };
        let printed = if args.bulk.json { print_json(&document) } else { print(&document, &mut io::stdout().lock()) };
        printed.map_err(Failure::run)?;
        match unwritten {
            Some(error) => Err(Failure::Run(format!("the report file: {error}"))),
            None => Ok((ended, document.details.findings > 0)),
        }
    })?;
    operator::ended(ended, findings)
}

/// Where the objects go. Plaintext must not get into a bucket of sealed objects, where it would lie open and be refused.
fn to(args: &DecryptArgs, app: &App, gateway: &Gateway) -> Result<To, Failure> {
    if !args.to.starts_with("s3://") {
        let folder = Folder::open(Path::new(&args.to), args.apply);
        return folder
            .map(|folder| To::Folder(Arc::new(folder)))
            .map_err(|error| Failure::Usage(format!("--to {}: {error}", args.to)));
    }
    let Target { bucket, key } = args.to.parse().map_err(|error| Failure::Usage(format!("--to {}: {error}", args.to)))?;
    let bucket = gateway.plaintext_bucket(&bucket).ok_or_else(|| {
        Failure::Usage(format!(
            "--to {}: the configuration does not say that this bucket holds plaintext (access = \"plaintext\"), so nothing is decrypted into it",
            args.to
        ))
    })?;
    Ok(To::Bucket { bucket, prefix: key, forwarder: Box::new(app.store().forwarder()) })
}
