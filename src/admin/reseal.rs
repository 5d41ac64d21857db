//! `ciphergate encrypt` and `ciphergate reencrypt`.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::cli::{BulkArgs, ConfigArgs, EncryptArgs, ReencryptArgs};
use super::{Failure, operator};
use crate::backend::Versioning;
use crate::bulk::journal::Header;
use crate::bulk::report::{Document, print_json};
use crate::bulk::reseal::{Counts, Resealing, print};
use crate::bulk::{Target, Versions};
use crate::ops::{Access, Reseal};

/// What both commands have in common.
struct Job<'a> {
    command: &'static str,
    config: &'a ConfigArgs,
    bulk: &'a BulkArgs,
    target: &'a Target,
    what: Reseal,
    apply: bool,
    delete_plaintext_versions: bool,
}

pub(super) fn encrypt(args: &EncryptArgs) -> Result<(), Failure> {
    run(&Job {
        command: "encrypt",
        config: &args.config,
        bulk: &args.bulk,
        target: &args.target,
        what: Reseal::Plaintext,
        apply: args.apply,
        delete_plaintext_versions: args.delete_plaintext_versions,
    })
}

pub(super) fn reencrypt(args: &ReencryptArgs) -> Result<(), Failure> {
    run(&Job {
        command: "reencrypt",
        config: &args.config,
        bulk: &args.bulk,
        target: &args.target,
        what: Reseal::Sealed,
        apply: args.apply,
        delete_plaintext_versions: false,
    })
}

fn run(job: &Job<'_>) -> Result<(), Failure> {
    let (ended, findings) = operator::with_gateway(job.config, job.target, async |gateway, stop| {
        let bucket = &job.target.bucket;
        if gateway.access_of(bucket) == Access::Plaintext {
            return Err(Failure::Usage(format!(
                "the configuration says that nothing is sealed in {bucket} (access = \"plaintext\"); make it \"read-through\" first"
            )));
        }
        let versioning = operator::versioning(&gateway, &job.target.bucket).await?;
        // Plaintext that is sealed stays behind as an old version, so those are looked at as well.
        let looks_back = job.what == Reseal::Plaintext && versioning != Versioning::Never;
        let versions = if looks_back { Versions::All } else { Versions::Current };
        let header = Header {
            command: job.command.to_owned(),
            target: job.target.to_string(),
            options: serde_json::json!({"apply": job.apply, "delete_plaintext_versions": job.delete_plaintext_versions}),
        };
        let mut counts = Counts { applied: job.apply, ..Counts::default() };
        let began = Instant::now();
        let run =
            operator::prepare(job.bulk, gateway.clone(), stop, &header, (job.target.clone(), versions), |entry, outcome| {
                counts.add(entry, outcome);
            })?;
        let mut report = operator::report_file(job.bulk)?;
        let work = Resealing {
            gateway: gateway.clone(),
            bucket: bucket.clone(),
            what: job.what,
            versioning,
            apply: job.apply,
            delete_plaintext_versions: job.delete_plaintext_versions,
        };
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
            command: job.command,
            target: job.target.to_string(),
            ended,
            resumed: job.bulk.resume,
            seconds: began.elapsed().as_secs_f64(),
            key_calls: gateway.keys().stats().into(),
            failures,
            details: counts,
        };
        let printed = if job.bulk.json { print_json(&document) } else { print(&document, &mut io::stdout().lock()) };
        printed.map_err(Failure::run)?;
        match unwritten {
            Some(error) => Err(Failure::Run(format!("the report file: {error}"))),
            None => Ok((ended, document.details.findings > 0)),
        }
    })?;
    operator::ended(ended, findings)
}
