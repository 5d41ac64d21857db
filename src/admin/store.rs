//! `ciphergate store`: the embedded store alone, for tests and benchmarks.

use super::Failure;
use super::cli::StoreArgs;
use crate::store::{self, Store};

pub(super) fn run(args: &StoreArgs) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::Usage("ciphergate store listens on loopback only: it does not encrypt".to_owned()));
    }
    let credential = |name: &str| {
        std::env::var(name)
            .map_err(|_| Failure::Usage(format!("{name} is not set: the store needs an access key and a secret to ask for")))
    };
    let credentials = vec![(credential("CIPHERGATE_DEV_ACCESS_KEY")?, credential("CIPHERGATE_DEV_SECRET_KEY")?)];
    let store = Store::open(&args.data_dir, store::Options { fsync: args.fsync }).map_err(Failure::run)?;
    let running = store::serve(store, args.listen, credentials).map_err(Failure::run)?;
    println!("S3 store for development and tests, not encrypted, on http://{}", running.addr());
    actix_web::rt::System::new().block_on(async { crate::app::stop_signal().await });
    running.shutdown();
    Ok(())
}
