//! `ciphergate encrypt` and `ciphergate reencrypt`.

use serde_json::json;

use super::cli::{BulkArgs, ConfigArgs, EncryptArgs, ReencryptArgs};
use super::job::Job;
use super::{Failure, operator};
use crate::backend::Versioning;
use crate::bulk::reseal::{Counts, Resealing};
use crate::bulk::{Target, Versions};
use crate::ops::{Access, Reseal};

/// What both commands have in common.
struct Command<'a> {
    command: &'static str,
    config: &'a ConfigArgs,
    bulk: &'a BulkArgs,
    target: &'a Target,
    what: Reseal,
    apply: bool,
    delete_plaintext_versions: bool,
}

pub(super) fn encrypt(args: &EncryptArgs) -> Result<(), Failure> {
    run(&Command {
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
    run(&Command {
        command: "reencrypt",
        config: &args.config,
        bulk: &args.bulk,
        target: &args.target,
        what: Reseal::Sealed,
        apply: args.apply,
        delete_plaintext_versions: false,
    })
}

fn run(what: &Command<'_>) -> Result<(), Failure> {
    operator::with_gateway(what.config, what.target, async |gateway, stop| {
        let bucket = &what.target.bucket;
        if gateway.access_of(bucket) == Access::Plaintext {
            return Err(Failure::Usage(format!(
                "the configuration says that nothing is sealed in {bucket} (access = \"plaintext\"); make it \"read-through\" first"
            )));
        }
        let versioning = operator::versioning(&gateway, bucket).await?;
        // Plaintext that is sealed stays behind as an old version, so those are looked at as well.
        let looks_back = what.what == Reseal::Plaintext && versioning != Versioning::Never;
        let versions = if looks_back { Versions::All } else { Versions::Current };
        let options = json!({"apply": what.apply, "delete_plaintext_versions": what.delete_plaintext_versions});
        let counts = Counts { applied: what.apply, ..Counts::default() };
        let job = Job::new(what.bulk, what.command, (gateway.clone(), stop), (what.target, versions), options, counts)?;
        let work = Resealing {
            gateway,
            bucket: bucket.clone(),
            what: what.what,
            versioning,
            apply: what.apply,
            delete_plaintext_versions: what.delete_plaintext_versions,
        };
        job.work(work).await?.tell()
    })
}
