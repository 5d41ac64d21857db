//! Calls in the name of a role, whose credentials come from STS and are renewed before they end.

use crate::keys::error::chain;
use crate::keys::{Error, Label};
use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use std::error::Error as StdError;
use std::fmt;

/// A role, and what STS is told when the gateway takes it on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Role {
    pub arn: String,
    /// What the role's trust policy may ask for. Not secret, but nobody else's business: it goes into no log.
    pub external_id: Option<String>,
    /// Shown in the audit log of the role's account.
    pub session_name: String,
}

/// The same settings with the credentials of a role in place of those of `sdk`, which take it on at STS in `region` when they are
/// needed. Nothing is called yet. Everything that is made from the result shares one set of credentials.
pub async fn assume(sdk: &SdkConfig, role: &Role, region: &str) -> SdkConfig {
    let mut provider = AssumeRoleProvider::builder(&role.arn)
        .configure(sdk)
        .region(Region::new(region.to_owned()))
        .session_name(&role.session_name);
    if let Some(id) = &role.external_id {
        provider = provider.external_id(id);
    }
    let provider = AssumedRole { provider: provider.build().await, arn: role.arn.clone() };
    sdk.to_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
}

struct AssumedRole {
    provider: AssumeRoleProvider,
    arn: String,
}

impl fmt::Debug for AssumedRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssumedRole").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let assumed = self.provider.provide_credentials().await;
            assumed.map_err(|error| CredentialsError::provider_error(RoleFailure::new(&self.arn, &error)))
        })
    }
}

/// Why there are no credentials of a role, as text that was put together by hand: the SDK's own would hold whole answers.
#[derive(Debug)]
struct RoleFailure {
    /// Whether STS, or the way to it, failed, rather than refused.
    is_transient: bool,
    detail: String,
}

impl RoleFailure {
    fn new(role: &str, error: &CredentialsError) -> Self {
        let sts = sources(error).find_map(|error| error.downcast_ref::<SdkError<AssumeRoleError>>());
        let (is_transient, why) = match sts {
            Some(SdkError::ServiceError(refusal)) => {
                let status = refusal.raw().status().as_u16();
                let code = refusal.err().code().unwrap_or("no code");
                let message = refusal.err().message().unwrap_or("no message");
                let request_id = refusal.raw().request_id().unwrap_or("none");
                let is_transient = status >= 500
                    || status == 429
                    || ["Throttling", "ThrottlingException", "RequestLimitExceeded"].contains(&code);
                (is_transient, format!("{code}: {message} (HTTP {status}, request {request_id})"))
            }
            // An answer that cannot be read may hold credentials: nothing of it goes into the text.
            Some(SdkError::ResponseError(answer)) => {
                (true, format!("HTTP {} with an answer that cannot be read", answer.raw().status().as_u16()))
            }
            Some(other) => (true, chain(other)),
            None => (true, "STS gave no credentials that can be used".to_owned()),
        };
        Self { is_transient, detail: format!("the role {role} cannot be assumed: {why}") }
    }
}

impl fmt::Display for RoleFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl StdError for RoleFailure {}

/// An error and everything behind it.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// What a call means that was not sent because a role was not to be had; `None` where that is not the reason.
pub(super) fn failure(label: &Label, error: &(dyn StdError + 'static)) -> Option<Error> {
    let failure = sources(error).find_map(|error| error.downcast_ref::<RoleFailure>())?;
    let (label, detail) = (label.clone(), failure.detail.clone());
    Some(match failure.is_transient {
        true => Error::Unavailable { label, detail },
        false => Error::CredentialsRefused { label, detail },
    })
}
