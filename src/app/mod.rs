//! The only place where concrete parts meet: a checked configuration becomes a running gateway.

mod janitor;
mod key_side;
mod kms_limits;
mod kms_side;
mod store_side;
mod transit;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::auth::{Identities, Identity, IdentityError};
use crate::backend::forward::ForwardError;
use crate::config::{self, Config};
use crate::http::cross_origin::CorsCache;
use crate::http::front::{FrontParts, Service, s3_service};
use crate::http::hosts::Hosts;
use crate::http::server::{Listener, Readiness, ServerSettings, serve_admin, serve_s3};
use crate::http::tls::{self, TlsError};
use crate::keys::{self, Keys, RuleError};
use crate::observe::metrics as names;
use crate::ops::multipart::LARGE_PLAIN_MAX;
use crate::ops::{Access, AccessRules, AwsClientRule, AwsClients, Footers, Gateway, Multipart, StatePlace};

pub use kms_side::Pin;
pub use store_side::StoreSide;

/// Memory for opened footers, over all workers.
const FOOTER_BYTES_MAX: u64 = 8 << 20;
/// Pause between two attempts to prove keys and store at the start.
const PROOF_PAUSE: Duration = Duration::from_secs(3);
/// How often old samples and expired keys are cleared away.
const UPKEEP_PAUSE: Duration = Duration::from_secs(5);
/// Bounds of the buckets of request times, in seconds.
const SECONDS_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

/// Why the gateway cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{path} cannot be read: {source}")]
    File { path: std::path::PathBuf, source: io::Error },
    #[error("the authorities in {path} cannot be used: {detail}")]
    Authorities { path: std::path::PathBuf, detail: String },
    #[error("the clients: {0}")]
    Clients(#[from] IdentityError),
    #[error("the store: {0}")]
    Store(#[from] ForwardError),
    #[error("the store has no credentials: set backend.access_key_id, or give the standard AWS chain some")]
    NoStoreCredentials,
    #[error("no region for the store: set backend.region, AWS_REGION, or a profile that has one")]
    NoRegion,
    #[error("the keys: {}", join(.0))]
    Rules(Vec<RuleError>),
    #[error("the keys: {}", join(.0))]
    Keys(Vec<keys::Error>),
    #[error(transparent)]
    Keyring(#[from] keys::keyring::KeyringError),
    #[error(transparent)]
    Transit(#[from] keys::transit::TransitError),
    #[error(transparent)]
    Unfit(keys::Error),
    #[error("the key ARN {text}: {detail}")]
    Arn { text: String, detail: String },
    #[error("key \"{label}\": no region for {alias}: set its region, AWS_REGION, or a profile that has one")]
    NoKeyRegion { label: keys::Label, alias: String },
    #[error("{}", join(.0))]
    Unpinned(Vec<String>),
    #[error("listen.domains: {0}")]
    Domains(String),
    #[error("metrics: {0}")]
    Metrics(#[from] BuildError),
    #[error("the server failed: {0}")]
    Server(#[source] io::Error),
}

fn join<E: std::fmt::Display>(errors: &[E]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Where a started gateway can be reached.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub s3: SocketAddr,
    pub admin: SocketAddr,
    pub tls: bool,
}

/// Everything that a gateway is made of, before it listens.
pub struct App {
    config: Config,
    store: StoreSide,
    keys: Arc<Keys>,
    pins: Vec<Pin>,
}

impl App {
    /// Reads the files that the configuration names and builds the clients. Nothing is called yet, but for the settings of Transit keys and
    /// AWS KMS where a key is named by an alias: what the alias leads to now is the key from here on. One that cannot be looked up is no
    /// error yet, for the sake of work that needs no key: [`App::pinned`] says so.
    ///
    /// # Errors
    /// Files that cannot be used, missing credentials or region for the store, an alias without a region, Transit keys of a wrong kind.
    pub async fn build(config: Config) -> Result<Self, Error> {
        let store = StoreSide::build(&config.backend).await?;
        let (keys, pins) = key_side::build(&config).await?;
        Ok(Self { config, store, keys: Arc::new(keys), pins })
    }

    /// What each key in AWS KMS turned out to be.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// Whether every alias led to a key that may be used.
    ///
    /// # Errors
    /// Each that did not, and why.
    pub fn pinned(&self) -> Result<(), Error> {
        let failed: Vec<String> = self.pins.iter().filter(|pin| pin.keys.is_err()).map(ToString::to_string).collect();
        if failed.is_empty() { Ok(()) } else { Err(Error::Unpinned(failed)) }
    }

    /// The keys, for proving them.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Where the state of multipart uploads lies.
    pub fn state(&self) -> StatePlace {
        match &self.config.multipart.state {
            config::State::Bucket(name) => StatePlace::Bucket(name.to_string()),
            config::State::Prefix(prefix) => StatePlace::Prefix(prefix.to_string()),
        }
    }

    /// The operations, for the operator's own use: with connections of its own, nobody to answer, and no part in serving.
    pub fn operator(&self) -> Gateway {
        let ops = Gateway::new(self.store.backend(), self.keys.clone(), Arc::new(Footers::new(FOOTER_BYTES_MAX)));
        let multipart = Multipart::new(self.state(), self.config.multipart.put_bytes_max);
        let ops = ops.with_multipart(Arc::new(multipart)).with_access(Arc::new(access_rules(&self.config)));
        ops.with_aws_clients(Arc::new(aws_clients(&self.config)))
    }

    /// The store, for proving it.
    pub fn store(&self) -> &StoreSide {
        &self.store
    }

    /// Listens, tells `started` where, and serves until SIGTERM or SIGINT; then lets running transfers end.
    ///
    /// # Errors
    /// An alias that does not lead to its key, addresses that cannot be used, certificates that do not fit, a server that fails.
    pub async fn serve(self, started: impl FnOnce(Addresses)) -> Result<(), Error> {
        self.pinned()?;
        for pin in &self.pins {
            tracing::info!(label = %pin.label, alias = pin.alias.as_deref(), role = pin.role.as_deref(), "{pin}");
        }
        let metrics = install_metrics()?;
        let tls =
            self.config.listen.tls.as_ref().map(|files| tls::server(&files.certificate_file, &files.key_file)).transpose()?;
        let bind = |address, tls| Listener::bind(address, tls).map_err(|source| Error::Listen { address, source });
        let s3 = bind(self.config.listen.address, tls)?;
        let admin = bind(self.config.admin.address, None)?;
        let address_of = |listener: &Listener| listener.address().map_err(Error::Server);
        let addresses = Addresses { s3: address_of(&s3)?, admin: address_of(&admin)?, tls: s3.is_tls() };

        let readiness = Readiness::default();
        let service = self.service()?;
        // Before anybody can connect: a stop must never be a plain death.
        let stop_asked = stop_signal();
        let s3 = serve_s3(s3, &server_settings(&self.config), service).map_err(Error::Server)?;
        let (render, counted) = (metrics.clone(), self.keys.clone());
        let shown = move || {
            names::keys(key_side::counts(counted.stats()));
            render.render()
        };
        let admin = serve_admin(admin, readiness.clone(), shown).map_err(Error::Server)?;
        let (s3_handle, admin_handle) = (s3.handle(), admin.handle());
        let admin = tokio::task::spawn_local(admin.wait());
        let keys = self.keys.clone();
        let upkeep = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(UPKEEP_PAUSE).await;
                metrics.run_upkeep();
                keys.sweep().await;
            }
        });
        let janitor = self.config.multipart.janitor_interval;
        let janitor = janitor.map(|pause| tokio::task::spawn_local(janitor::run(self.store.clone(), self.state(), pause)));
        let proof = tokio::task::spawn_local(prove_until_ready(self.keys.clone(), self.store.clone(), readiness.clone()));
        tracing::info!(s3 = %addresses.s3, admin = %addresses.admin, tls = addresses.tls, "listening");
        started(addresses);

        let (delay, proving) = (self.config.server.drain_delay, proof.abort_handle());
        let stop = tokio::task::spawn_local(async move {
            let reason = stop_asked.await;
            // Who has not seen us ready yet must not do so now.
            proving.abort();
            readiness.set(false);
            if !delay.is_zero() {
                tracing::info!(
                    reason,
                    delay_secs = delay.as_secs(),
                    "not ready any more; new requests are taken for a while yet"
                );
                // A second signal is from somebody who will not wait.
                let _ = tokio::time::timeout(delay, stop_signal()).await;
            }
            tracing::info!(reason, "stopping; running transfers may end");
            s3_handle.stop(true).await;
        });
        let ended = s3.wait().await.map_err(Error::Server);
        for task in [proof, upkeep, stop].into_iter().chain(janitor) {
            task.abort();
        }
        admin_handle.stop(false).await;
        // The listener of health and metrics has nothing to lose.
        let _ = admin.await;
        tracing::info!("stopped");
        ended
    }

    /// What makes the service of one worker, with connections of its own.
    fn service(&self) -> Result<impl Fn() -> Service + Send + Clone + 'static, Error> {
        let identities = Identities::new(self.config.clients.iter().map(|client| {
            let secret = Zeroizing::new(client.secret_access_key.expose().to_owned());
            Identity::new(client.access_key_id.to_string(), secret, Some(client.name.to_string()))
        }))?;
        let domains: Vec<&str> = self.config.listen.domains.iter().map(|domain| domain.as_str()).collect();
        let hosts = Hosts::new(&domains).map_err(|error| Error::Domains(error.to_string()))?;
        let cors = CorsCache::default();
        let footers = Arc::new(Footers::new(FOOTER_BYTES_MAX));
        let access = Arc::new(access_rules(&self.config));
        let aws_clients = Arc::new(aws_clients(&self.config));
        let (store, keys) = (self.store.clone(), self.keys.clone());
        let state = self.state();
        let multipart = Arc::new(Multipart::new(state.clone(), self.config.multipart.put_bytes_max));
        Ok(move || {
            let ops = Gateway::new(store.worker_backend(), keys.clone(), footers.clone());
            let ops = ops.with_multipart(multipart.clone()).with_access(access.clone()).with_aws_clients(aws_clients.clone());
            s3_service(FrontParts {
                ops,
                identities: identities.clone(),
                forwarder: store.forwarder(),
                access: access.clone(),
                region: None,
                put_max: LARGE_PLAIN_MAX,
                hosts: hosts.clone(),
                cors: cors.clone(),
                state: state.clone(),
            })
        })
    }
}

fn access_rules(config: &Config) -> AccessRules {
    AccessRules::new(config.buckets.iter().map(|(name, rule)| {
        let access = match rule.access {
            config::Access::Encrypted => Access::Encrypted,
            config::Access::ReadThrough => Access::ReadThrough,
            config::Access::Plaintext => Access::Plaintext,
        };
        (name.to_string(), access)
    }))
}

fn aws_clients(config: &Config) -> AwsClients {
    AwsClients::new(config.buckets.iter().filter_map(|(name, bucket)| {
        let rule = bucket.aws_client.as_ref()?;
        Some((name.to_string(), AwsClientRule { label: key_side::label(&rule.key), bytes_max: rule.bytes_max }))
    }))
}

fn server_settings(config: &Config) -> ServerSettings {
    ServerSettings {
        workers: config.server.workers,
        keep_alive: config.server.keep_alive,
        request_header_timeout: config.server.request_header_timeout,
        idle_body_timeout: config.server.idle_body_timeout,
        shutdown_timeout: config.server.shutdown_timeout,
        connections_max: config.server.connections_max,
    }
}

/// Ready is who has seen every writing key make a round trip and the store answer, once. Later troubles show in metrics and answers,
/// not here: a probe must not hammer what is in trouble.
async fn prove_until_ready(keys: Arc<Keys>, store: StoreSide, readiness: Readiness) {
    loop {
        let mut proven = true;
        for proof in keys.prove().await {
            if let Err(error) = proof.outcome {
                proven = false;
                tracing::error!(label = %proof.label, %error, "a key cannot be proved; not ready");
            }
        }
        if let Err(error) = store.backend().ping().await {
            proven = false;
            tracing::error!(error = &error as &dyn std::error::Error, "the store does not answer as it should; not ready");
        }
        if proven {
            readiness.set(true);
            tracing::info!("ready");
            return;
        }
        tokio::time::sleep(PROOF_PAUSE).await;
    }
}

fn install_metrics() -> Result<PrometheusHandle, Error> {
    let seconds =
        |builder: PrometheusBuilder, name: &str| builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &SECONDS_BUCKETS);
    let builder = seconds(seconds(PrometheusBuilder::new(), names::REQUEST_SECONDS)?, names::KMS_SECONDS)?;
    let handle = builder.install_recorder()?;
    names::describe();
    Ok(handle)
}

/// Waits for SIGTERM or SIGINT. They count from the call on, and no longer end the process by themselves.
pub fn stop_signal() -> impl Future<Output = &'static str> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signals cannot be watched; stop with SIGKILL");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}
