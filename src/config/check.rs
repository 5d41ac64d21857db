//! From the configuration as written to the one as meant: what single values cannot say.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::aws_client::aws_client;
use super::kms::kms;
use super::kms_key::{kms_key, refuse_kms_settings};
use super::problem::{Origin, Problems};
use super::secret::{FileError, Secret, check_private_file, open_file};
use super::setting::{Setting, Shown};
use super::source::FileText;
use super::transit;
use super::values::*;
use super::{
    Admin, Backend, Client, Config, Credentials, DefaultRule, Key, KeyCache, KeySource, Listen, Log, Multipart, PrefixRule, Rule,
    Server, State, Tls, raw,
};

/// Checks everything, and gives a configuration only if nothing is wrong.
///
/// A function below answers `None` exactly when it has reported a mistake, so nothing is checked less because something else is wrong.
pub(super) fn config(raw: raw::Raw, mut shown: Vec<Shown>, mut problems: Problems) -> Result<Config, Problems> {
    let p = &mut problems;
    let listen = listen(raw.listen, p);
    let admin = admin(raw.admin, listen.as_ref(), p);
    let server = server(raw.server);
    let backend = backend(raw.backend, p);
    let (keys, labels) = keys(raw.keys, p);
    let kms = kms(&raw.kms, p);
    let (default_rule, key_cache) = encryption(raw.encryption, &labels, p);
    let buckets = buckets(raw.buckets, default_rule.as_ref(), keys.as_deref().unwrap_or_default(), &labels, p);
    let multipart = multipart(raw.multipart, p);
    let clients = clients(raw.clients, raw.top.clients_file, &mut shown, p);
    let log = raw.log.format.value.zip(raw.log.level.value).map(|(format, level)| Log { format, level });
    let config = || {
        Some(Config {
            listen: listen?,
            admin: admin?,
            server: server?,
            backend: backend?,
            keys: keys?,
            kms: kms?,
            key_cache: key_cache?,
            buckets: buckets?,
            multipart: multipart?,
            clients: clients?,
            log: log?,
            default_rule: default_rule?,
            shown,
        })
    };
    match config() {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

pub(super) fn secs<const MIN: u64, const MAX: u64>(setting: &Setting<Whole<MIN, MAX>>) -> Option<Duration> {
    setting.value.map(|secs| Duration::from_secs(secs.get()))
}

/// On 64-bit machines every bound of ours fits.
pub(super) fn count<const MIN: u64, const MAX: u64>(number: Whole<MIN, MAX>) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

/// The path that a setting names, if it names one.
pub(super) fn path(setting: &Setting<PathBuf>) -> Option<PathBuf> {
    setting.origin.as_ref().zip(setting.value.as_ref()).map(|(origin, path)| origin.resolve(path))
}

/// The path of a file that can be read; the inner `None` when none is named.
pub(super) fn file(
    setting: &Setting<PathBuf>,
    check: fn(&Path) -> Result<(), FileError>,
    p: &mut Problems,
) -> Option<Option<PathBuf>> {
    let Some(path) = path(setting) else { return (!setting.is_given()).then_some(None) };
    let checked = check(&path);
    checked.map_err(|error| setting.refuse(p, format!("{}: {error}", path.display()), error.advice(&path))).ok()?;
    Some(Some(path))
}

pub(super) fn readable(path: &Path) -> Result<(), FileError> {
    open_file(path).map(|_| ())
}

/// A secret that stands either in place or in a file; the inner `None` when neither is given.
pub(super) fn secret(
    inline: Setting<Secret>,
    in_file: &Setting<PathBuf>,
    check: fn(&str) -> Result<(), &'static str>,
    p: &mut Problems,
) -> Option<Option<Secret>> {
    const ADVICE: &str = "make one with: openssl rand -hex 20";
    if inline.is_given() && in_file.is_given() {
        in_file.refuse(p, format!("{} is set too", inline.key), "keep one of the two");
        return None;
    }
    if inline.is_given() {
        let checked = inline.value.as_ref().map_or(Ok(()), |secret| check(secret.expose()));
        return checked.map_err(|what| inline.refuse(p, what, ADVICE)).ok().and(inline.value).map(Some);
    }
    let Some(path) = path(in_file) else { return (!in_file.is_given()).then_some(None) };
    let secret = Secret::from_file(&path)
        .map_err(|error| in_file.refuse(p, format!("{}: {error}", path.display()), error.advice(&path)))
        .ok()?;
    check(secret.expose()).map_err(|what| in_file.refuse(p, what, ADVICE)).ok()?;
    Some(Some(secret))
}

fn listen(raw: raw::Listen, p: &mut Problems) -> Option<Listen> {
    if raw.tls_certificate_file.is_given() != raw.tls_key_file.is_given() {
        let (given, missing) = match raw.tls_key_file.is_given() {
            true => (&raw.tls_key_file, &raw.tls_certificate_file),
            false => (&raw.tls_certificate_file, &raw.tls_key_file),
        };
        given.refuse(p, format!("{} is missing", missing.key), "set both for HTTPS, or neither");
    } else if let (Some(address), Some(false), false) =
        (raw.address.value, raw.allow_plain_http.value, raw.tls_key_file.is_given())
        && !address.ip().is_loopback()
    {
        raw.address.refuse(
            p,
            "plain HTTP on an address that is not loopback",
            "set listen.tls_certificate_file and listen.tls_key_file, or listen.allow_plain_http = true if the network is trusted",
        );
    }
    let certificate_file = file(&raw.tls_certificate_file, readable, p);
    let key_file = file(&raw.tls_key_file, check_private_file, p);
    let tls = certificate_file?.zip(key_file?).map(|(certificate_file, key_file)| Tls { certificate_file, key_file });
    let domains = raw.domains.value.as_ref()?;
    for (at, domain) in domains.iter().enumerate() {
        if let Some(other) = domains[..at].iter().find(|other| other.overlaps(domain)) {
            raw.domains.refuse(
                p,
                format!("`{domain}` and `{other}` are the same, or one lies below the other"),
                "keep one of the two: a bucket must have one address",
            );
        }
    }
    Some(Listen { address: raw.address.value?, domains: raw.domains.value?, tls })
}

fn admin(raw: raw::Admin, listen: Option<&Listen>, p: &mut Problems) -> Option<Admin> {
    let address = raw.address.value?;
    if listen.is_some_and(|listen| listen.address == address) && address.port() != 0 {
        raw.address.refuse(p, "listen.address is the same", "give one of them another port");
        return None;
    }
    Some(Admin { address })
}

fn server(raw: raw::Server) -> Option<Server> {
    if raw.workers.is_given() && raw.workers.value.is_none() {
        return None;
    }
    Some(Server {
        workers: raw.workers.value.map(count),
        keep_alive: secs(&raw.keep_alive_secs)?,
        request_header_timeout: secs(&raw.request_header_timeout_secs)?,
        idle_body_timeout: secs(&raw.idle_body_timeout_secs)?,
        drain_delay: secs(&raw.drain_delay_secs)?,
        shutdown_timeout: secs(&raw.shutdown_timeout_secs)?,
        connections_max: count(raw.connections_max.value?),
    })
}

/// Plain HTTP to another machine only where the configuration says so.
pub(super) fn refuse_exposed(endpoint: &Setting<Endpoint>, allowed: &Setting<bool>, p: &mut Problems) {
    if endpoint.value.as_ref().is_some_and(Endpoint::is_exposed) && allowed.value == Some(false) {
        endpoint.refuse(p, "plain HTTP to another machine", format!("use https://, or set {} = true for a test", allowed.key));
    }
}

fn backend(raw: raw::Backend, p: &mut Problems) -> Option<Backend> {
    refuse_exposed(&raw.endpoint, &raw.allow_plain_http, p);
    if raw.endpoint.is_given() && raw.region.origin.is_none() {
        let advice = "set it to the region that the store expects in signatures, us-east-1 if it does not care";
        raw.region.refuse(p, "this setting is missing: an endpoint is given", advice);
    }
    if raw.profile.is_given() && raw.access_key_id.is_given() {
        raw.profile.refuse(p, format!("{} is set too", raw.access_key_id.key), "keep one of the two");
    }
    let secret = secret(raw.secret_access_key, &raw.secret_access_key_file, |_| Ok(()), p);
    let credentials = match (raw.access_key_id.is_given(), secret) {
        (true, Some(Some(secret_access_key))) => {
            raw.access_key_id.value.map(|access_key_id| Credentials::Static { access_key_id, secret_access_key })
        }
        (true, Some(None)) => {
            let what = format!("this setting is missing: {} is set", raw.access_key_id.key);
            raw.secret_access_key_file.refuse(p, what, "set it, or leave both out for the standard AWS chain");
            None
        }
        (false, Some(Some(_))) => {
            let what = "this setting is missing: a secret is set";
            raw.access_key_id.refuse(p, what, "set it to the access key that the secret belongs to");
            None
        }
        (false, Some(None)) => Some(Credentials::Chain { profile: raw.profile.value }),
        (_, None) => None,
    };
    let ca_file = file(&raw.ca_file, readable, p);
    Some(Backend {
        path_style: raw.path_style.value.unwrap_or(raw.endpoint.is_given()),
        endpoint: raw.endpoint.value,
        region: raw.region.value,
        ca_file: ca_file?,
        credentials: credentials?,
        connect_timeout: secs(&raw.connect_timeout_secs)?,
        response_timeout: secs(&raw.response_timeout_secs)?,
        idle_body_timeout: secs(&raw.idle_body_timeout_secs)?,
        copy_max: raw.copy_bytes_max.value?.get(),
        upload_checksum: raw.upload_checksum.value?,
    })
}

/// What must differ from entry to entry, and where each value was seen first.
struct Distinct<T>(HashMap<T, Option<Origin>>);

impl<T: std::hash::Hash + Eq + Clone + std::fmt::Display> Distinct<T> {
    fn insert(&mut self, setting: &Setting<T>, p: &mut Problems, advice: &str) {
        let Some(value) = &setting.value else { return };
        if let Some(first) = self.0.get(value) {
            let first = first.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
            setting.refuse(p, format!("`{value}` is already in use{first}"), advice);
        } else {
            self.0.insert(value.clone(), setting.origin.clone());
        }
    }
}

fn keys(raw: Vec<raw::Key>, p: &mut Problems) -> (Option<Vec<Key>>, Distinct<Label>) {
    let mut labels = Distinct(HashMap::new());
    if raw.is_empty() {
        p.add("keys", None, "there is no key", "add a [[keys]] section with label and kind; `ciphergate keygen` makes a keyring");
        return (None, labels);
    }
    let all_labels_known = raw.iter().all(|key| key.label.value.is_some());
    let keys: Vec<Option<Key>> = raw
        .into_iter()
        .map(|raw| {
            labels.insert(&raw.label, p, "give each key a label of its own");
            key(raw, p)
        })
        .collect();
    if !all_labels_known {
        // Otherwise whoever refers to the key would be told that it does not exist.
        labels.0.clear();
    }
    (keys.into_iter().collect(), labels)
}

fn key(raw: raw::Key, p: &mut Problems) -> Option<Key> {
    let label = raw.label.need(p, "name the key");
    let kind = raw.kind.need(p, "set it to \"kms\", \"keyring\" or \"transit\"")?;
    let kms = match kind {
        KeyKind::Kms => kms_key(&raw, p),
        KeyKind::Keyring | KeyKind::Transit => {
            refuse_kms_settings(&raw, kind, p);
            None
        }
    };
    let raw::Key { endpoint, ca_file, allow_plain_http, file: keyring, .. } = raw;
    let transit = transit::Own {
        key_name: raw.key_name,
        mount: raw.mount,
        namespace: raw.namespace,
        token_file: raw.token_file,
        token: raw.token,
    };
    let source = match kind {
        KeyKind::Kms => {
            refuse_foreign(&keyring, KeyKind::Kms, p);
            transit.refuse(KeyKind::Kms, p);
            KeySource::Kms(kms?)
        }
        KeyKind::Keyring => {
            refuse_foreign(&endpoint, KeyKind::Keyring, p);
            refuse_foreign(&ca_file, KeyKind::Keyring, p);
            refuse_foreign(&allow_plain_http, KeyKind::Keyring, p);
            transit.refuse(KeyKind::Keyring, p);
            if keyring.origin.is_none() {
                keyring.refuse(p, "this setting is missing", "set it to a file that `ciphergate keygen --out FILE` made");
            }
            KeySource::Keyring { file: file(&keyring, check_private_file, p)?? }
        }
        KeyKind::Transit => {
            refuse_foreign(&keyring, KeyKind::Transit, p);
            refuse_exposed(&endpoint, &allow_plain_http, p);
            let ca_file = file(&ca_file, readable, p);
            transit.source(endpoint, ca_file, p)?
        }
    };
    Some(Key { label: label?, source })
}

/// Refuses a setting that only other kinds of key have.
pub(super) fn refuse_foreign<T>(setting: &Setting<T>, kind: KeyKind, p: &mut Problems) {
    if setting.is_given() {
        setting.refuse(p, format!("a key of kind \"{kind}\" has no such setting"), "remove it, or change kind");
    }
}

fn refuse_unknown_label(setting: &Setting<Label>, labels: &Distinct<Label>, p: &mut Problems) {
    if let Some(label) = &setting.value
        && !labels.0.is_empty()
        && !labels.0.contains_key(label)
    {
        let mut known: Vec<&str> = labels.0.keys().map(Label::as_str).collect();
        known.sort_unstable();
        setting.refuse(p, format!("there is no key with the label `{label}`"), format!("use one of: {}", known.join(", ")));
    }
}

fn encryption(raw: raw::Encryption, labels: &Distinct<Label>, p: &mut Problems) -> (Option<DefaultRule>, Option<KeyCache>) {
    refuse_unknown_label(&raw.key, labels, p);
    let key = raw.key.need(p, "set it to the label of one of [[keys]]: no key is taken unless it is named");
    let rule = || {
        Some(DefaultRule {
            key: key?,
            suite: raw.suite.value?,
            mode: raw.mode.value?,
            hash_key_names: raw.hash_key_names.value?,
            seal_metadata: raw.seal_metadata.value?,
        })
    };
    let cache = || {
        Some(KeyCache {
            ttl: secs(&raw.cache_ttl_secs)?,
            entries_max: raw.cache_entries_max.value?.get(),
            shared_age_max: secs(&raw.shared_age_secs_max)?,
            shared_uses_max: raw.shared_uses_max.value?.get(),
        })
    };
    (rule(), cache())
}

fn buckets(
    raw: BTreeMap<String, (raw::Bucket, Vec<raw::Prefix>)>,
    default: Option<&DefaultRule>,
    keys: &[Key],
    labels: &Distinct<Label>,
    p: &mut Problems,
) -> Option<BTreeMap<BucketName, Rule>> {
    let mut rules = BTreeMap::new();
    let mut members: BTreeMap<Scope, Vec<Member>> = BTreeMap::new();
    for (name, (bucket, prefixes)) in raw {
        refuse_unknown_label(&bucket.key, labels, p);
        refuse_unknown_label(&bucket.aws_client_key, labels, p);
        let aws_client = aws_client(&bucket, bucket.key.value.as_ref().or(default.map(|default| &default.key)), keys, p);
        let name: BucketName = match name.parse() {
            Ok(name) => name,
            Err(what) => {
                p.add(
                    super::source::join("buckets", &name),
                    bucket.scope.section.as_ref(),
                    what,
                    "name the bucket as clients do",
                );
                continue;
            }
        };
        if bucket.access.value == Some(Access::Plaintext) {
            refuse_without_sealing(&bucket, &prefixes, p);
        }
        let prefixes = self::prefixes(prefixes, labels, p);
        let own_scope = name.as_str().parse().ok();
        let Some(scope) = bucket.scope.value.clone().or(own_scope) else { continue };
        let rule = default.zip(prefixes).map(|(default, prefixes)| {
            let rule = default.with_scope(scope.clone());
            let rule = Rule {
                key: bucket.key.value.unwrap_or(rule.key),
                suite: bucket.suite.value.unwrap_or(rule.suite),
                mode: bucket.mode.value.unwrap_or(rule.mode),
                hash_key_names: bucket.hash_key_names.value.unwrap_or(rule.hash_key_names),
                seal_metadata: bucket.seal_metadata.value.unwrap_or(rule.seal_metadata),
                share_scope: bucket.share_scope.value.unwrap_or(false),
                access: bucket.access.value.unwrap_or(rule.access),
                aws_client,
                ..rule
            };
            let prefixes = prefixes.into_iter().map(|(prefix, raw)| PrefixRule {
                prefix,
                key: raw.key.value.unwrap_or_else(|| rule.key.clone()),
                suite: raw.suite.value.unwrap_or(rule.suite),
                mode: raw.mode.value.unwrap_or(rule.mode),
                hash_key_names: raw.hash_key_names.value.unwrap_or(rule.hash_key_names),
                seal_metadata: raw.seal_metadata.value.unwrap_or(rule.seal_metadata),
            });
            Rule { prefixes: prefixes.collect(), ..rule }
        });
        rules.insert(name.clone(), rule);
        members.entry(scope).or_default().push(Member { name, scope: bucket.scope, may_share: bucket.share_scope });
    }
    for (scope, members) in &members {
        refuse_sharing(scope, members, |name| rules.keys().any(|named| named.as_str() == name), p);
    }
    rules.into_iter().map(|(name, rule)| Some((name, rule?))).collect()
}

/// The rules for prefixes, which differ from each other.
fn prefixes(raw: Vec<raw::Prefix>, labels: &Distinct<Label>, p: &mut Problems) -> Option<Vec<(KeyPrefix, raw::Prefix)>> {
    let mut seen = Distinct(HashMap::new());
    let rules: Vec<_> = raw
        .into_iter()
        .map(|mut raw| {
            refuse_unknown_label(&raw.key, labels, p);
            seen.insert(&raw.prefix, p, "give each rule a prefix of its own");
            if raw.prefix.origin.is_none() {
                raw.prefix.refuse(p, "this setting is missing", "set it to what the keys of the objects begin with");
            }
            Some((raw.prefix.value.take()?, raw))
        })
        .collect();
    rules.into_iter().collect()
}

/// Refuses settings that say how a bucket is sealed in which nothing is.
fn refuse_without_sealing(bucket: &raw::Bucket, prefixes: &[raw::Prefix], p: &mut Problems) {
    fn refuse<T>(setting: &Setting<T>, p: &mut Problems) {
        if setting.is_given() {
            setting.refuse(p, "nothing is sealed in a bucket whose access is \"plaintext\"", "remove it, or change access");
        }
    }
    refuse(&bucket.scope, p);
    refuse(&bucket.key, p);
    refuse(&bucket.suite, p);
    refuse(&bucket.mode, p);
    refuse(&bucket.hash_key_names, p);
    refuse(&bucket.seal_metadata, p);
    prefixes.iter().for_each(|rule| refuse(&rule.prefix, p));
}

/// A bucket among those of one scope.
struct Member {
    name: BucketName,
    scope: Setting<Scope>,
    may_share: Setting<bool>,
}

/// Two buckets of one scope can have objects exchanged between them, so each of them must say that this is wanted.
fn refuse_sharing(scope: &Scope, members: &[Member], is_named: impl Fn(&str) -> bool, p: &mut Problems) {
    for member in members.iter().filter(|member| member.may_share.value == Some(false)) {
        let other = members.iter().map(|other| other.name.as_str()).find(|other| *other != member.name.as_str());
        // A bucket that is not named in the configuration has its own name for a scope.
        let unnamed =
            Some(scope.as_str()).filter(|name| *name != member.name.as_str() && is_bucket_name(name) && !is_named(name));
        if let Some(other) = other.or(unnamed) {
            let advice = format!("choose another scope, or set {} = true in every bucket that shares it", member.may_share.key);
            member.scope.refuse(p, format!("the scope `{scope}` is also that of the bucket `{other}`"), advice);
        }
    }
}

fn multipart(raw: raw::Multipart, p: &mut Problems) -> Option<Multipart> {
    if raw.state_bucket.is_given() && raw.state_prefix.is_given() {
        raw.state_prefix.refuse(p, format!("{} is set too", raw.state_bucket.key), "keep one of the two");
        return None;
    }
    let state = match raw.state_bucket.is_given() {
        true => State::Bucket(raw.state_bucket.value?),
        false if raw.state_prefix.is_given() => State::Prefix(raw.state_prefix.value?),
        false => State::Prefix(".ciphergate/".parse().ok()?),
    };
    let interval = raw.janitor_interval_secs.value?.get();
    Some(Multipart {
        state,
        put_bytes_max: raw.put_bytes_max.value?.get(),
        janitor_interval: (interval > 0).then(|| Duration::from_secs(interval)),
    })
}

fn clients(
    inline: Vec<raw::Client>,
    clients_file: Setting<PathBuf>,
    shown: &mut Vec<Shown>,
    p: &mut Problems,
) -> Option<Vec<Client>> {
    let mut raw = inline;
    let was_given = clients_file.is_given();
    let path = file(&clients_file, check_private_file, p);
    if let Some(Some(path)) = &path {
        let text = FileText::read(path, p);
        let (clients, lines) = raw::Raw::read_clients(&mut text.parse(p), p);
        raw.extend(clients);
        shown.extend(lines);
    }
    if raw.is_empty() && path.is_some() {
        let place = if was_given { "to this file or to the clients_file" } else { "with name, access_key_id and a secret" };
        p.add(
            "clients",
            None,
            "there is no client, so nobody could use the gateway",
            format!("add a [[clients]] section {place}"),
        );
        return None;
    }
    let (mut names, mut access_keys) = (Distinct(HashMap::new()), Distinct(HashMap::new()));
    let clients: Vec<Option<Client>> = raw
        .into_iter()
        .map(|raw| {
            names.insert(&raw.name, p, "give each client a name of its own");
            access_keys.insert(&raw.access_key_id, p, "give each client an access key of its own");
            let secret = secret(raw.secret_access_key, &raw.secret_access_key_file, client_secret, p);
            let name = raw.name.need(p, "name the client");
            let access_key_id = raw.access_key_id.need(p, "set it to the access key that the client signs with");
            if let Some(None) = secret {
                let advice = "set it to a file that holds the client's secret";
                raw.secret_access_key_file.refuse(p, "this setting is missing", advice);
            }
            Some(Client { name: name?, access_key_id: access_key_id?, secret_access_key: secret?? })
        })
        .collect();
    path.and_then(|_| clients.into_iter().collect())
}

fn client_secret(secret: &str) -> Result<(), &'static str> {
    match (8..=128).contains(&secret.len()) && secret.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("the secret must have 8 to 128 printable ASCII characters and no spaces"),
    }
}
