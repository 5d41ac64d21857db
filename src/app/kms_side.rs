//! Keys in AWS KMS, from their configuration: aliases become keys, regions become replicas, roles become credentials.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};

use super::Error;
use super::kms_limits;
use super::store_side::{http_client, tls_context};
use crate::config::{self, KmsKey, KmsName};
use crate::keys::guard::{Guard, GuardLimits};
use crate::keys::kms::{KeyAlias, KeyArn, KmsOptions, KmsProvider, Role, Unresolved, Wanted, assume, resolve};
use crate::keys::replicas::Replicas;
use crate::keys::{self, KeyProvider, Label, Sources};

/// Attempts at looking an alias up.
const LOOKUPS_MAX: u32 = 3;

/// What a key in AWS KMS turned out to be. Its `Display` is one line for people.
pub struct Pin {
    pub label: Label,
    /// What the configuration names the key by, where that is no ARN.
    pub alias: Option<String>,
    /// The key's own region first, then its replicas. Every call names one of these. Or why the alias leads to no key.
    pub keys: Result<Vec<KeyArn>, keys::Error>,
    /// The role that calls.
    pub role: Option<String>,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, alias, keys, role } = self;
        match (keys, alias) {
            (Err(error), Some(alias)) => return write!(f, "key {label}: FAILED: {alias} is not pinned: {error}"),
            (Err(error), None) => return write!(f, "key {label}: FAILED: {error}"),
            (Ok(_), Some(alias)) => write!(f, "key {label}: {alias} is pinned to ")?,
            (Ok(_), None) => write!(f, "key {label}: ")?,
        }
        let arns: Vec<&str> = keys.iter().flatten().map(KeyArn::as_str).collect();
        f.write_str(&arns.join(", then "))?;
        role.as_ref().map_or(Ok(()), |role| write!(f, " (called by {role})"))
    }
}

/// The settings that calls have in common. Keys with the same ones share credentials, and the work of renewing them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Caller {
    ca_file: Option<PathBuf>,
    /// `None`: the one of the AWS environment or profile.
    region: Option<String>,
    role: Option<Role>,
}

/// Makes the providers.
pub(super) struct KmsSide {
    limits: GuardLimits,
    options: KmsOptions,
    sdks: HashMap<Caller, SdkConfig>,
    pins: Vec<Pin>,
}

impl KmsSide {
    pub(super) fn new(limits: &config::Kms) -> Self {
        let (limits, options) = (kms_limits::guard(limits), kms_limits::options(limits));
        Self { limits, options, sdks: HashMap::new(), pins: Vec::new() }
    }

    /// The provider of one key. An alias is looked up now; where it leads to no key, every use of the provider fails with the reason.
    ///
    /// # Errors
    /// Authorities that cannot be used, an alias without a region.
    pub(super) async fn provider(&mut self, label: &Label, key: &KmsKey) -> Result<Arc<dyn KeyProvider>, Error> {
        let (alias, found) = match &key.name {
            KmsName::Arn(arn) => (None, Ok(parsed(arn)?)),
            KmsName::Alias { alias, region, pinned } => {
                let region = region.as_ref().map(config::Region::as_str);
                let found = self.look_up(label, key, (alias, region), pinned.as_ref()).await?;
                (Some(alias.to_string()), found)
            }
        };
        let keys = found.and_then(|arn| regions(label, arn, key));
        let provider: Arc<dyn KeyProvider> = match &keys {
            Ok(keys) => self.guarded(label, key, keys).await?,
            Err(why) => Arc::new(Unresolved::new(label.clone(), why.clone())),
        };
        let role = key.role.as_ref().map(|role| role.arn.to_string());
        self.pins.push(Pin { label: label.clone(), alias, keys, role });
        Ok(provider)
    }

    /// What the keys turned out to be, in the order in which they were asked for.
    pub(super) fn into_pins(self) -> Vec<Pin> {
        self.pins
    }

    async fn look_up(
        &mut self,
        label: &Label,
        key: &KmsKey,
        (alias, region): (&config::KeyAlias, Option<&str>),
        pinned: Option<&config::KeyArn>,
    ) -> Result<Result<KeyArn, keys::Error>, Error> {
        let known: KeyAlias = alias.as_str().parse().map_err(|error| arn_error(alias.as_str(), error))?;
        let region = match known.region().or(region) {
            Some(region) => region.to_owned(),
            None => {
                let sdk = self.sdk(key, None).await?;
                let region = sdk.region().map(ToString::to_string);
                region.ok_or_else(|| Error::NoKeyRegion { label: label.clone(), alias: alias.to_string() })?
            }
        };
        let sdk = self.sdk(key, Some(&region)).await?;
        let options = KmsOptions { attempts_max: LOOKUPS_MAX, ..self.at(key.endpoint.as_ref(), &self.limits) };
        let wanted = Wanted { pinned: pinned.map(parsed).transpose()?, multi_region: !key.replicas.is_empty() };
        Ok(resolve(&sdk, &options, (label, &known), &region, &wanted).await)
    }

    /// One guard for each region: what fails in one must not keep calls from another.
    async fn guarded(&mut self, label: &Label, key: &KmsKey, keys: &[KeyArn]) -> Result<Arc<dyn KeyProvider>, Error> {
        let endpoints =
            std::iter::once(key.endpoint.as_ref()).chain(key.replicas.iter().map(|replica| replica.endpoint.as_ref()));
        let mut guards: Vec<Arc<dyn KeyProvider>> = Vec::new();
        for (at, (arn, endpoint)) in keys.iter().zip(endpoints).enumerate() {
            let sdk = self.sdk(key, Some(arn.region())).await?;
            let limits = share(self.limits.clone(), at, keys.len());
            let provider = KmsProvider::new(&sdk, &self.at(endpoint, &limits), [(label.clone(), arn.clone())]);
            let guard = Guard::new(Arc::new(provider), label.clone(), limits, Sources::system());
            guards.push(match at {
                0 => Arc::new(guard),
                _ => Arc::new(guard.named(format!("{label}/{}", arn.region()))),
            });
        }
        let mut guards = guards.into_iter();
        let first = guards.next().expect("a key has a region of its own");
        Ok(if keys.len() == 1 { first } else { Arc::new(Replicas::new(first, guards)) })
    }

    fn at(&self, endpoint: Option<&config::Endpoint>, limits: &GuardLimits) -> KmsOptions {
        let endpoint = endpoint.map(ToString::to_string);
        KmsOptions { endpoint, operation_timeout: limits.deadline, ..self.options.clone() }
    }

    /// The settings of calls for this key in a region.
    async fn sdk(&mut self, key: &KmsKey, region: Option<&str>) -> Result<SdkConfig, Error> {
        let mut caller = Caller { ca_file: key.ca_file.clone(), region: region.map(str::to_owned), role: None };
        let base = match self.sdks.entry(caller.clone()) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let context = tls_context(key.ca_file.as_deref())?;
                let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client(&context));
                if let Some(region) = region {
                    loader = loader.region(Region::new(region.to_owned()));
                }
                new.insert(loader.load().await).clone()
            }
        };
        let (Some(role), Some(region)) = (&key.role, region) else { return Ok(base) };
        let role = Role {
            arn: role.arn.to_string(),
            external_id: role.external_id.as_ref().map(ToString::to_string),
            session_name: role.session_name.to_string(),
        };
        caller.role = Some(role.clone());
        Ok(match self.sdks.entry(caller) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(assume(&base, &role, region).await).clone(),
        })
    }
}

/// Where the key is called: in its own region first, then in those of its replicas.
fn regions(label: &Label, arn: KeyArn, key: &KmsKey) -> Result<Vec<KeyArn>, keys::Error> {
    let refused = |detail| keys::Error::AliasRefused { label: label.clone(), detail };
    let mut regions = vec![arn];
    for replica in &key.replicas {
        let arn = regions[0].in_region(replica.region.as_str()).map_err(|error| refused(error.to_string()))?;
        if regions.contains(&arn) {
            // The configuration cannot know this of an alias whose region comes from the environment.
            return Err(refused(format!("it leads to {arn}, whose region is also one of replicas")));
        }
        regions.push(arn);
    }
    Ok(regions)
}

/// The limits of one of several regions, which share the time of a call. Another attempt goes to the next region, not to the same one;
/// only the last has nobody behind it.
fn share(limits: GuardLimits, at: usize, regions: usize) -> GuardLimits {
    let is_last = at + 1 == regions;
    let regions = u32::try_from(regions).unwrap_or(u32::MAX);
    GuardLimits { deadline: limits.deadline / regions, attempts_max: if is_last { limits.attempts_max } else { 1 }, ..limits }
}

/// Both rooms check what an ARN is, neither knows the other.
fn parsed(arn: &config::KeyArn) -> Result<KeyArn, Error> {
    arn.as_str().parse().map_err(|error| arn_error(arn.as_str(), error))
}

fn arn_error(text: &str, error: keys::kms::ArnError) -> Error {
    Error::Arn { text: text.to_owned(), detail: error.to_string() }
}
