//! The store behind the gateway, from its configuration: one source of credentials, two kinds of client.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::Error;
use crate::backend::forward::{ForwardSettings, Forwarder};
use crate::backend::{Demands, S3Backend, Settings};
use crate::config;
use crate::http::tls::client as tls_client;

/// Attempts of requests without a body.
const ATTEMPTS_MAX: u32 = 3;

/// What every worker needs to make its own clients.
#[derive(Clone)]
pub struct StoreSide {
    settings: Settings,
    forward: Arc<ForwardSettings>,
    credentials: SharedCredentialsProvider,
    tls: rustls::ClientConfig,
    context: TlsContext,
}

impl StoreSide {
    pub(super) async fn build(backend: &config::Backend) -> Result<Self, Error> {
        let context = tls_context(backend.ca_file.as_deref())?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client(&context));
        if let Some(region) = &backend.region {
            loader = loader.region(Region::new(region.to_string()));
        }
        if let Some(endpoint) = &backend.endpoint {
            loader = loader.endpoint_url(endpoint.to_string());
        }
        loader = match &backend.credentials {
            config::Credentials::Static { access_key_id, secret_access_key } => loader.credentials_provider(Credentials::new(
                access_key_id.to_string(),
                secret_access_key.expose(),
                None,
                None,
                "ciphergate configuration",
            )),
            config::Credentials::Chain { profile: Some(profile) } => loader.profile_name(profile),
            config::Credentials::Chain { profile: None } => loader,
        };
        let sdk = loader.load().await;
        let region = sdk.region().ok_or(Error::NoRegion)?.to_string();
        let credentials = sdk.credentials_provider().ok_or(Error::NoStoreCredentials)?;
        let endpoint = sdk.endpoint_url().map_or_else(|| aws_endpoint(&region), str::to_owned);
        let mut forward = ForwardSettings::new(&endpoint, region, backend.path_style)?;
        forward.connect_timeout = backend.connect_timeout;
        forward.first_byte_timeout = backend.response_timeout;
        forward.idle_timeout = backend.idle_body_timeout;
        let settings = Settings {
            sdk,
            path_style: backend.path_style,
            connect_timeout: backend.connect_timeout,
            read_timeout: backend.response_timeout,
            idle_timeout: backend.idle_body_timeout,
            attempts_max: ATTEMPTS_MAX,
            copy_max: backend.copy_max,
            demands: match backend.upload_checksum {
                config::UploadChecksum::None => Demands::default(),
                config::UploadChecksum::Crc64Nvme => Demands::always(),
            },
        };
        Ok(Self { settings, forward: Arc::new(forward), credentials, tls: tls_client(backend.ca_file.as_deref())?, context })
    }

    /// A client with connections of its own, for the sealed way.
    pub fn backend(&self) -> S3Backend {
        let mut settings = self.settings.clone();
        settings.sdk = with_own_connections(&settings.sdk, &self.context);
        S3Backend::new(&settings)
    }

    /// The same for a worker that serves clients: it has a thread beside it that receives long objects.
    pub fn worker_backend(&self) -> S3Backend {
        let backend = self.backend();
        match backend.clone().with_reading_thread(&with_own_connections(&self.settings.sdk, &self.context)) {
            Ok(backend) => backend,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no thread to read on: this worker receives long objects itself"
                );
                backend
            }
        }
    }

    /// A client with connections of its own, for the forward way.
    pub fn forwarder(&self) -> Forwarder {
        Forwarder::new(self.forward.clone(), self.credentials.clone(), self.tls.clone())
    }
}

fn with_own_connections(sdk: &SdkConfig, context: &TlsContext) -> SdkConfig {
    sdk.to_builder().http_client(http_client(context)).build()
}

/// <https://docs.aws.amazon.com/general/latest/gr/s3.html>
fn aws_endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{domain}")
}

/// An HTTP client for the SDKs. Errors: an authority file that cannot be read or holds none.
pub(super) fn http_client(context: &TlsContext) -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context.clone())
        .build_https()
}

/// Whom the SDKs trust: the system's authorities, and private ones besides.
pub(super) fn tls_context(ca_file: Option<&Path>) -> Result<TlsContext, Error> {
    let mut trusted = TrustStore::default();
    if let Some(path) = ca_file {
        let pem = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        trusted.add_pem_certificate(pem);
    }
    TlsContext::builder().with_trust_store(trusted).build().map_err(|error| Error::Authorities {
        path: ca_file.unwrap_or(Path::new("the system's store")).to_owned(),
        detail: error.to_string(),
    })
}
