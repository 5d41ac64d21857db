//! What the settings of a key in AWS KMS say together.

use super::check::{file, readable, refuse_exposed, refuse_foreign};
use super::problem::Problems;
use super::values::{KeyArn, KeyKind, Region, Replica};
use super::{KmsKey, KmsName, KmsRole, raw};

/// The key; `None` exactly when a mistake has been reported.
pub(super) fn kms_key(raw: &raw::Key, p: &mut Problems) -> Option<KmsKey> {
    refuse_exposed(&raw.endpoint, &raw.allow_plain_http, p);
    let name = name(raw, p);
    let replicas = replicas(raw, name.as_ref(), p);
    let role = role(raw, p);
    let ca_file = file(&raw.ca_file, readable, p);
    Some(KmsKey { name: name?, endpoint: raw.endpoint.value.clone(), ca_file: ca_file?, role: role?, replicas: replicas? })
}

/// Refuses every setting that no other key than one in AWS KMS has.
pub(super) fn refuse_kms_settings(raw: &raw::Key, kind: KeyKind, p: &mut Problems) {
    refuse_foreign(&raw.key_arn, kind, p);
    refuse_foreign(&raw.alias, kind, p);
    refuse_foreign(&raw.pinned_arn, kind, p);
    refuse_foreign(&raw.region, kind, p);
    refuse_foreign(&raw.replicas, kind, p);
    refuse_foreign(&raw.assume_role_arn, kind, p);
    refuse_foreign(&raw.assume_role_external_id, kind, p);
    refuse_foreign(&raw.assume_role_session_name, kind, p);
}

fn name(raw: &raw::Key, p: &mut Problems) -> Option<KmsName> {
    let raw::Key { key_arn, alias, pinned_arn, region, .. } = raw;
    if alias.is_given() && key_arn.is_given() {
        alias.refuse(
            p,
            format!("{} is set too", key_arn.key),
            "keep one of the two; pinned_arn says which key an alias must lead to",
        );
        return None;
    }
    if !alias.is_given() {
        if pinned_arn.is_given() {
            pinned_arn.refuse(p, "there is no alias that could lead to it", "set alias, or write it as key_arn");
            return None;
        }
        let arn = key_arn.need(p, "set it to the ARN of the KMS key, or set alias")?;
        return Some(KmsName::Arn(in_region(arn, raw, p)?));
    }
    let (name, mut fits) = (alias.value.clone(), true);
    if let (Some(alias), Some(region_set)) = (&name, &region.value)
        && alias.region().is_some_and(|own| own != region_set.as_str())
    {
        region.refuse(p, format!("`{alias}` is an alias of another region"), "remove it, or write the alias as alias/NAME");
        fits = false;
    }
    if let Some(pinned) = &pinned_arn.value {
        let in_region = region.value.as_ref().is_none_or(|region| region.as_str() == pinned.region());
        if !in_region || name.as_ref().is_some_and(|alias| !alias.fits(pinned)) {
            let what = "the key is of another region or account than the alias, which can never lead to it";
            pinned_arn.refuse(p, what, "set it to the ARN that `aws kms describe-key --key-id ALIAS` shows");
            fits = false;
        }
    }
    let broken = (region.is_given() && region.value.is_none()) || (pinned_arn.is_given() && pinned_arn.value.is_none());
    let name = KmsName::Alias { alias: name?, region: region.value.clone(), pinned: pinned_arn.value.clone() };
    (fits && !broken).then_some(name)
}

/// The key that is called where a region is set beside an ARN.
fn in_region(arn: KeyArn, raw: &raw::Key, p: &mut Problems) -> Option<KeyArn> {
    let Some(region) = &raw.region.value else { return (!raw.region.is_given()).then_some(arn) };
    if region.as_str() != arn.region() && !arn.is_multi_region() {
        let what = format!("the key lives in {} and nowhere else", arn.region());
        raw.region.refuse(p, what, "remove it; only multi-region keys (key/mrk-...) have replicas in other regions");
        return None;
    }
    Some(arn.in_region(region))
}

fn replicas(raw: &raw::Key, name: Option<&KmsName>, p: &mut Problems) -> Option<Vec<Replica>> {
    let setting = &raw.replicas;
    let Some(replicas) = &setting.value else { return (!setting.is_given()).then(Vec::new) };
    let known = match name {
        Some(KmsName::Arn(arn)) => Some(arn),
        Some(KmsName::Alias { pinned, .. }) => pinned.as_ref(),
        None => None,
    };
    if let Some(single) = known.filter(|arn| !arn.is_multi_region() && !replicas.is_empty()) {
        let what = format!("`{single}` is no multi-region key, so it has no replicas");
        setting.refuse(p, what, "remove it, or name a multi-region key (key/mrk-...)");
        return None;
    }
    let home = known.map(KeyArn::region).or(match name {
        Some(KmsName::Alias { alias, region, .. }) => alias.region().or(region.as_ref().map(Region::as_str)),
        _ => None,
    });
    let mut is_right = true;
    for (at, Replica { region, endpoint }) in replicas.iter().enumerate() {
        let mut refuse = |what: String, advice: String| {
            setting.refuse(p, what, advice);
            is_right = false;
        };
        if replicas[..at].iter().any(|other| other.region == *region) || home == Some(region.as_str()) {
            refuse(
                format!("the region `{region}` is named twice"),
                "name each region once; the key's own comes first by itself".to_owned(),
            );
        }
        match endpoint {
            Some(endpoint) if endpoint.is_exposed() && raw.allow_plain_http.value == Some(false) => refuse(
                format!("`{endpoint}` is plain HTTP to another machine"),
                format!("use https://, or set {} = true for a test", raw.allow_plain_http.key),
            ),
            None if raw.endpoint.is_given() => refuse(
                format!("the key has an endpoint, and `{region}` has none"),
                format!(
                    "write {{ region = \"{region}\", endpoint = \"https://...\" }}: whether AWS is called must not be guessed"
                ),
            ),
            _ => {}
        }
    }
    is_right.then(|| replicas.clone())
}

/// The role; the inner `None` where there is none.
fn role(raw: &raw::Key, p: &mut Problems) -> Option<Option<KmsRole>> {
    let raw::Key { assume_role_arn: arn, assume_role_external_id: external_id, assume_role_session_name: session_name, .. } = raw;
    if !arn.is_given() {
        let (what, advice) = ("no role is assumed", "set assume_role_arn, or remove it");
        if external_id.is_given() {
            external_id.refuse(p, what, advice);
        }
        if session_name.is_given() {
            session_name.refuse(p, what, advice);
        }
        return (!external_id.is_given() && !session_name.is_given()).then_some(None);
    }
    if external_id.is_given() && external_id.value.is_none() {
        return None;
    }
    Some(Some(KmsRole {
        arn: arn.value.clone()?,
        external_id: external_id.value.clone(),
        session_name: session_name.value.clone()?,
    }))
}
