//! `ciphergate decrypt`.

use std::path::Path;
use std::sync::Arc;

use super::cli::DecryptArgs;
use super::job::Job;
use super::{Failure, operator};
use crate::app::App;
use crate::bulk::decrypt::{Counts, Leaving, To};
use crate::bulk::folder::Folder;
use crate::bulk::{Target, Versions};
use crate::ops::{Access, Gateway};

pub(super) fn run(args: &DecryptArgs) -> Result<(), Failure> {
    operator::with_app(&args.config, &args.target, async |app, gateway, stop| {
        if gateway.access_of(&args.target.bucket) == Access::Plaintext {
            let bucket = &args.target.bucket;
            return Err(Failure::Usage(format!(
                "the configuration says that nothing is sealed in {bucket} (access = \"plaintext\")"
            )));
        }
        let to = to(args, app, &gateway)?;
        let options = serde_json::json!({"to": args.to, "apply": args.apply});
        let counts = Counts { to: args.to.clone(), applied: args.apply, ..Counts::default() };
        let over = (&args.target, Versions::Current);
        let job = Job::new(&args.bulk, "decrypt", (gateway.clone(), stop), over, options, counts)?;
        job.work(Leaving { gateway, bucket: args.target.bucket.clone(), to, apply: args.apply }).await?.tell()
    })
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
