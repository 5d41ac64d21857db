//! `ciphergate gc`: clears away what ended multipart uploads left in the store, and rewrap records of versions that are gone.

use std::time::Duration;

use super::cli::GcArgs;
use super::{Failure, serve};
use crate::app::App;
use crate::ops::chain;
use crate::ops::multipart::janitor::{Owner, Report, Sweep, sweep};

pub(super) fn run(args: &GcArgs) -> Result<(), Failure> {
    let config = serve::load(&args.config)?;
    let what = Sweep {
        older_than: Duration::from_secs(args.older_than_secs),
        dry_run: args.dry_run,
        buckets: (!args.bucket.is_empty()).then(|| args.bucket.clone()),
        rewrapped: true,
    };
    let report = actix_web::rt::System::new().block_on(async {
        let app = App::build(config).await.map_err(Failure::run)?;
        let swept = sweep(&app.store().backend(), &app.state(), &what).await;
        swept.map_err(|error| Failure::Run(format!("the store does not say which buckets there are: {}", chain(&error))))
    })?;
    if args.json {
        print_json(&report, args.dry_run)?
    } else {
        print_text(&report, args.dry_run)
    }
    match report.problems.len() {
        0 => Ok(()),
        some => Err(Failure::Run(format!("{some} of the leftovers could not be looked at or removed"))),
    }
}

fn print_text(report: &Report, dry_run: bool) {
    let done = if dry_run { "would remove" } else { "removed" };
    for left in &report.removed {
        let owner = match &left.owner {
            Owner::Upload(Some((key, id))) => format!("{key}, upload {id}"),
            Owner::Version(Some((key, id))) => format!("{key}, version {id}"),
            Owner::Upload(None) | Owner::Version(None) => "no record".to_owned(),
        };
        println!("{done} {}: {owner} ({} objects, {} bytes)", left.bucket, left.objects, left.bytes);
    }
    for problem in &report.problems {
        println!("FAILED {}: {}: {}", problem.bucket, problem.base.as_deref().unwrap_or("(bucket)"), problem.detail);
    }
    for bucket in &report.buckets_denied {
        println!("left out {bucket}: the gateway may not list it");
    }
    let versions = versions(report);
    println!(
        "{} buckets: {done} the state of {} ended uploads; {} under way, {} too young to tell",
        report.buckets,
        report.removed.len() - versions,
        report.active,
        report.young
    );
    if versions as u64 + report.rewrapped > 0 {
        println!("rewrap records: {done} {versions} of versions that are gone; {} of versions that are there", report.rewrapped);
    }
}

/// Records among what is removed.
fn versions(report: &Report) -> usize {
    report.removed.iter().filter(|left| matches!(left.owner, Owner::Version(_))).count()
}

fn print_json(report: &Report, dry_run: bool) -> Result<(), Failure> {
    let removed: Vec<_> = report
        .removed
        .iter()
        .map(|left| {
            let (upload, version) = match &left.owner {
                Owner::Upload(upload) => (upload.as_ref(), None),
                Owner::Version(version) => (None, version.as_ref()),
            };
            serde_json::json!({
                "bucket": left.bucket,
                "state": left.base,
                "key": upload.or(version).map(|(key, _)| key),
                "upload_id": upload.map(|(_, id)| id),
                "version_id": version.map(|(_, id)| id),
                "objects": left.objects,
                "bytes": left.bytes,
            })
        })
        .collect();
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| serde_json::json!({"bucket": problem.bucket, "state": problem.base, "detail": problem.detail}))
        .collect();
    let document = serde_json::json!({
        "dry_run": dry_run,
        "buckets": report.buckets,
        "buckets_denied": report.buckets_denied,
        "removed": removed,
        "active": report.active,
        "young": report.young,
        "rewrapped": report.rewrapped,
        "problems": problems,
    });
    println!("{}", serde_json::to_string_pretty(&document).map_err(Failure::run)?);
    Ok(())
}
