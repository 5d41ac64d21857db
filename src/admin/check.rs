//! `ciphergate check`: the configuration as it is in effect, and whether everything that it names works.

use super::cli::ConfigArgs;
use super::{Failure, serve};
use crate::app::App;
use crate::backend::{ListQuery, Paging};
use crate::ops::StatePlace;

pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = serve::load(args)?;
    println!("{config}");
    actix_web::rt::System::new().block_on(async {
        let app = App::build(config).await.map_err(Failure::run)?;
        let mut failed = 0;
        let mut unpinned = Vec::new();
        for pin in app.pins() {
            println!("{pin}");
            if pin.keys.is_err() {
                failed += 1;
                unpinned.push(&pin.label);
            }
        }
        for proof in app.keys().prove().await.into_iter().filter(|proof| !unpinned.contains(&&proof.label)) {
            match proof.outcome {
                Ok(()) => println!("key {}: wraps and unwraps", proof.label),
                Err(error) => {
                    failed += 1;
                    println!("key {}: FAILED: {error}", proof.label);
                }
            }
        }
        match app.store().backend().ping().await {
            Ok(()) => println!("store: answers"),
            Err(error) => {
                failed += 1;
                println!("store: FAILED: {}", crate::ops::chain(&error));
            }
        }
        if let StatePlace::Bucket(bucket) = app.state() {
            let query = ListQuery {
                bucket: bucket.clone(),
                prefix: None,
                delimiter: None,
                max_keys: Some(1),
                headers: http::HeaderMap::new(),
                paging: Paging::V2 { continuation_token: None, start_after: None, fetch_owner: None },
            };
            match app.store().backend().list_objects(query).await {
                Ok(_) => println!("state bucket {bucket}: is there"),
                Err(error) => {
                    failed += 1;
                    println!("state bucket {bucket}: FAILED: {}", crate::ops::chain(&error));
                }
            }
        }
        if failed == 0 { Ok(()) } else { Err(Failure::Run(format!("{failed} of the checks failed"))) }
    })
}
