//! The kinds of value that a setting can have. Each parses itself and says in words what it expects.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A closed set of words, written in the configuration and in the flags.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $word:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$word_meta])* $word),+ }

        impl $name {
            /// Every word, as it is written.
            pub const NAMES: &[&str] = &[$($text),+];

            /// The word as it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$word => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$word),)+
                    other => Err(format!("`{other}` is not one of {}", Self::NAMES.join(", "))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl_deserialize_from_text!($name);
    };
}

/// A text that is checked once, when it is read, and is right from then on.
macro_rules! checked_text {
    ($(#[$meta:meta])* $name:ident, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl_deserialize_from_text!($name);
    };
}

macro_rules! impl_deserialize_from_text {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

words! {
    /// Which cipher seals new objects.
    Suite { ChaCha20Poly1305 = "chacha20-poly1305", Aes256Gcm = "aes-256-gcm",
        /// The faster one on this processor.
        Auto = "auto" }
}

words! {
    /// How often the key service is asked for a new key-encryption key.
    KeyMode { PerObject = "per-object", Shared = "shared" }
}

words! {
    /// What a bucket may hold.
    Access { Encrypted = "encrypted", ReadThrough = "read-through", Plaintext = "plaintext" }
}

words! {
    /// What becomes of objects that AWS's own S3 Encryption Client wrote.
    AwsClientUse { Off = "off", Read = "read" }
}

words! {
    /// Where a key lives.
    KeyKind { Kms = "kms", Keyring = "keyring", Transit = "transit" }
}

words! {
    /// How log lines are written.
    LogFormat { Json = "json", Text = "text" }
}

words! {
    /// The least important log line that is still written.
    LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
}

words! {
    /// What every upload to the store is checked by.
    UploadChecksum { None = "none", Crc64Nvme = "crc64nvme" }
}

fn made_of(text: &str, lengths: std::ops::RangeInclusive<usize>, allowed: fn(u8) -> bool) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(allowed)
}

checked_text! {
    /// The name of a key in envelopes: 1 to 32 of `a-z`, `0-9`, `-` (FORMAT section 3).
    Label, |text| match made_of(text, 1..=32, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        true => Ok(()),
        false => Err(format!("`{text}` is not a key label: 1 to 32 of a-z, 0-9 and -")),
    }
}

checked_text! {
    /// The namespace that a bucket's keys are bound to: 1 to 255 bytes without control characters (FORMAT sections 3 and 4).
    Scope, |text| match (1..=255).contains(&text.len()) && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err("a scope has 1 to 255 bytes and no control characters".to_owned()),
    }
}

checked_text! {
    /// What the keys of objects begin with: 1 to 1,024 bytes.
    KeyPrefix, |text| match (1..=1024).contains(&text.len()) {
        true => Ok(()),
        false => Err("a prefix has 1 to 1024 bytes".to_owned()),
    }
}

checked_text! {
    /// Where the state of multipart uploads lies in a bucket: 2 to 100 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`, `/`, with a slash at the end only
    /// or between names.
    StatePrefix, |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        match made_of(text, 2..=100, allowed) && text.ends_with('/') && !text.starts_with('/') && !text.contains("//") {
            true => Ok(()),
            false => Err(format!("`{text}` is not a prefix for state: 2 to 100 of A-Z, a-z, 0-9, ., _, - and /, with a slash last and none first")),
        }
    }
}

checked_text! {
    /// A bucket name by S3's rules: 3 to 63 of `a-z`, `0-9`, `.`, `-`, with a letter or digit at either end.
    BucketName, |text| match is_bucket_name(text) {
        true => Ok(()),
        false => Err(format!("`{text}` is not a bucket name: 3 to 63 of a-z, 0-9, . and -, a letter or digit first and last")),
    }
}

/// Whether S3 would take `text` as the name of a bucket.
pub(super) fn is_bucket_name(text: &str) -> bool {
    let ends = |end: Option<&u8>| end.is_some_and(u8::is_ascii_alphanumeric);
    made_of(text, 3..=63, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
        && ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
}

checked_text! {
    /// The public half of a credential: 3 to 128 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`.
    AccessKeyId, |text| match made_of(text, 3..=128, |b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        true => Ok(()),
        false => Err("an access key id has 3 to 128 of A-Z, a-z, 0-9, ., _ and -".to_owned()),
    }
}

checked_text! {
    /// What a client is called in logs: 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-`, `@`.
    ClientName, |text| match made_of(text, 1..=64, |b| b.is_ascii_alphanumeric() || b"._-@".contains(&b)) {
        true => Ok(()),
        false => Err(format!("`{text}` is not a client name: 1 to 64 of A-Z, a-z, 0-9, ., _, - and @")),
    }
}

checked_text! {
    /// An AWS region such as `eu-central-1`, or what a compatible store calls its own.
    Region, |text| match made_of(text, 1..=64, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        true => Ok(()),
        false => Err(format!("`{text}` is not a region name such as eu-central-1")),
    }
}

checked_text! {
    /// A domain name in lower case, without a port.
    Domain, |text| {
        let label = |label: &str| made_of(label, 1..=63, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        match text.len() <= 253 && text.split('.').all(label) {
            true => Ok(()),
            false => Err(format!("`{text}` is not a domain name: labels of a-z, 0-9 and -, separated by single dots, without a port")),
        }
    }
}

impl Domain {
    /// Whether the other one is the same or lies below this one, or this one below the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        let below = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        below(&self.0, &other.0) || below(&other.0, &self.0)
    }
}

checked_text! {
    /// The ARN of one KMS key. Aliases are refused: whoever can move an alias would choose the key.
    KeyArn, |text| arn_parts(text).map(|_| ())
}

impl KeyArn {
    /// The region that the key lives in, part of every ARN.
    pub fn region(&self) -> &str {
        // The constructor has proven that there is one; an empty region would only fail at the key service.
        arn_parts(&self.0).map(|(region, _)| region).unwrap_or_default()
    }
}

fn arn_parts(text: &str) -> Result<(&str, &str), String> {
    let wrong = |why: &str| Err(format!("`{text}` is not the ARN of a KMS key: {why}"));
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let &[arn, partition, service, region, account, resource] = parts.as_slice() else { return wrong("it needs six parts") };
    if arn != "arn" || !["aws", "aws-cn", "aws-us-gov"].contains(&partition) || service != "kms" {
        return wrong("it must begin with arn:aws:kms:, arn:aws-cn:kms: or arn:aws-us-gov:kms:");
    }
    if region.parse::<Region>().is_err() {
        return wrong("the region is missing or malformed");
    }
    if !made_of(account, 12..=12, |b| b.is_ascii_digit()) {
        return wrong("the account has 12 digits");
    }
    match resource.strip_prefix("key/") {
        Some(id) if made_of(id, 1..=128, |b| b.is_ascii_alphanumeric() || b == b'-') => Ok((region, id)),
        Some(_) => wrong("the key id is missing or malformed"),
        None => wrong("it must name a key; an alias stands in the setting `alias`"),
    }
}

impl KeyArn {
    /// Whether the key may have replicas in other regions.
    pub fn is_multi_region(&self) -> bool {
        arn_parts(&self.0).is_ok_and(|(_, id)| id.starts_with("mrk-"))
    }

    /// The replica of the key in another region. Only multi-region keys have such.
    pub fn in_region(&self, region: &Region) -> Self {
        let parts: Vec<&str> = self.0.splitn(6, ':').collect();
        let replaced = parts.iter().enumerate().map(|(at, part)| if at == 3 { region.as_str() } else { part });
        Self(replaced.collect::<Vec<_>>().join(":"))
    }
}

checked_text! {
    /// An alias of a KMS key: `alias/NAME`, or the alias's own ARN.
    KeyAlias, |text| {
        let wrong = |why: &str| Err(format!("`{text}` is not an alias of a KMS key: {why}"));
        let name = match text.strip_prefix("arn:") {
            None => text.strip_prefix("alias/"),
            Some(_) => {
                let Some((home, name)) = text.split_once(":alias/") else { return wrong("its ARN ends with :alias/NAME") };
                // What stands before the name is as in the ARN of a key.
                if arn_parts(&format!("{home}:key/x")).is_err() {
                    return wrong("it must begin like the ARN of a key, arn:aws:kms:REGION:ACCOUNT:");
                }
                Some(name)
            }
        };
        match name {
            Some(name) if name.starts_with("aws/") => wrong("keys that AWS manages for its own services serve nobody else"),
            Some(name) if made_of(name, 1..=250, |b| b.is_ascii_alphanumeric() || b"/_-".contains(&b)) => Ok(()),
            _ => wrong("write alias/NAME, or arn:aws:kms:REGION:ACCOUNT:alias/NAME"),
        }
    }
}

impl KeyAlias {
    /// Partition, region and account, as they stand in an ARN before its last part; `None` for `alias/NAME`.
    pub fn home(&self) -> Option<&str> {
        self.0.split_once(":alias/").map(|(home, _)| home)
    }

    /// The region, where the alias says it itself.
    pub fn region(&self) -> Option<&str> {
        self.home()?.split(':').nth(3)
    }

    /// Whether the alias may lead to this key: both are of one region and account.
    pub fn fits(&self, key: &KeyArn) -> bool {
        self.home().is_none_or(|home| key.as_str().strip_prefix(home).is_some_and(|rest| rest.starts_with(":key/")))
    }
}

checked_text! {
    /// The ARN of an IAM role.
    RoleArn, |text| {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let is_right = match parts.as_slice() {
            &["arn", partition, "iam", "", account, resource] => {
                ["aws", "aws-cn", "aws-us-gov"].contains(&partition)
                    && made_of(account, 12..=12, |b| b.is_ascii_digit())
                    && resource.strip_prefix("role/").is_some_and(|name| made_of(name, 1..=577, |b| b.is_ascii_graphic()))
            }
            _ => false,
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("`{text}` is not the ARN of a role: arn:aws:iam::ACCOUNT:role/NAME")),
        }
    }
}

checked_text! {
    /// What the trust policy of a role may ask for: 2 to 1,224 of `A-Z`, `a-z`, `0-9` and `_+=,.@:/-`. Not secret, but not shown.
    ExternalId, |text| match made_of(text, 2..=1224, |b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b)) {
        true => Ok(()),
        false => Err("an external id has 2 to 1224 of A-Z, a-z, 0-9 and _+=,.@:/-".to_owned()),
    }
}

checked_text! {
    /// What the session of a role is called in audit logs: 2 to 64 of `A-Z`, `a-z`, `0-9` and `_+=,.@-`.
    SessionName, |text| match made_of(text, 2..=64, |b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)) {
        true => Ok(()),
        false => Err(format!("`{text}` is not a session name: 2 to 64 of A-Z, a-z, 0-9 and _+=,.@-")),
    }
}

/// A further region of a multi-region key: `"REGION"`, or `{ region = "REGION", endpoint = "https://..." }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub region: Region,
    /// `None`: AWS KMS.
    pub endpoint: Option<Endpoint>,
}

impl<'de> Deserialize<'de> for Replica {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            region: Region,
            endpoint: Option<Endpoint>,
        }

        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Replica;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a region, or { region = \"...\", endpoint = \"...\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Replica, E> {
                Ok(Replica { region: text.parse().map_err(E::custom)?, endpoint: None })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Replica, A::Error> {
                let Table { region, endpoint } = Table::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Replica { region, endpoint })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

checked_text! {
    /// Where an engine of OpenBao or Vault is mounted, or a namespace: names of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-` with single slashes between
    /// them, 255 bytes at most. No name is `.` or `..`.
    MountPath, |text| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let name = |name: &str| made_of(name, 1..=128, allowed) && !name.bytes().all(|b| b == b'.');
        match text.len() <= 255 && text.split('/').all(name) {
            true => Ok(()),
            false => Err(format!("`{text}` is not a path such as transit or team/transit: A-Z, a-z, 0-9, ., _, -, and a slash between names")),
        }
    }
}

checked_text! {
    /// The name of a key in a Transit engine: 1 to 128 of `A-Z`, `a-z`, `0-9`, `_`, `-`, `.`, neither `-` nor `.` first or last.
    TransitKeyName, |text| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let ends = |end: Option<&u8>| end.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        match made_of(text, 1..=128, inner) && ends(text.as_bytes().first()) && ends(text.as_bytes().last()) {
            true => Ok(()),
            false => Err(format!("`{text}` is not the name of a key: 1 to 128 of A-Z, a-z, 0-9, _, - and ., with a letter, digit or _ first and last")),
        }
    }
}

checked_text! {
    /// Where a service listens: `http://` or `https://`, a host, and a port if it is not the usual one.
    Endpoint, |text| {
        let Some((scheme, host)) = endpoint_parts(text) else {
            return Err("an endpoint looks like https://host or https://host:port, without path, query or user".to_owned());
        };
        match scheme {
            "http" | "https" if !host.is_empty() => Ok(()),
            _ => Err("an endpoint begins with http:// or https://".to_owned()),
        }
    }
}

impl Endpoint {
    /// Whether what is sent there goes over the network unencrypted: plain HTTP to anything but this machine.
    pub fn is_exposed(&self) -> bool {
        let (scheme, host) = endpoint_parts(&self.0).unwrap_or_default();
        let loopback = match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        scheme != "https" && !loopback
    }
}

/// Scheme and host of an endpoint without a path, a query or a user.
fn endpoint_parts(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let (host, port) = authority.split_at_checked(parsed.host().len())?;
    let port_is_right =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    (host == parsed.host() && port_is_right).then_some((scheme, host))
}

/// A whole number within bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(serde::de::Error::custom(format!("must be a whole number from {MIN} to {MAX}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_arns() {
        let right = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        assert_eq!(right.parse::<KeyArn>().unwrap().region(), "eu-central-1");
        for right in
            ["arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-1234", "arn:aws-us-gov:kms:us-gov-west-1:000000000000:key/a"]
        {
            assert!(right.parse::<KeyArn>().is_ok(), "{right}");
        }
        for wrong in [
            "",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "alias/main",
            "arn:aws:kms:eu-central-1:111122223333:alias/main",
            "arn:aws:s3:eu-central-1:111122223333:key/a",
            "arn:aws:kms::111122223333:key/a",
            "arn:aws:kms:eu-central-1:1111:key/a",
            "arn:aws:kms:eu-central-1:111122223333:key/",
            "arn:aws:kms:eu-central-1:111122223333:key/a:b",
            "arn:evil:kms:eu-central-1:111122223333:key/a",
        ] {
            assert!(wrong.parse::<KeyArn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn domains() {
        let domain = |text: &str| text.parse::<Domain>();
        for right in ["s3.example.com", "localhost", "a-b.c1"] {
            assert!(domain(right).is_ok(), "{right}");
        }
        for wrong in ["", ".", "a.", ".a", "a..b", "A.example", "a_b", "example.com:9000", "[::1]", "ü.example"] {
            assert!(domain(wrong).is_err(), "{wrong}");
        }
        let overlaps = |a: &str, b: &str| domain(a).unwrap().overlaps(&domain(b).unwrap());
        assert!(overlaps("a.example", "a.example") && overlaps("example", "a.example") && overlaps("a.example", "example"));
        assert!(!overlaps("a.example", "b.example") && !overlaps("s3-example", "example"));
    }

    #[test]
    fn endpoints() {
        for (text, exposed) in [
            ("https://s3.example.com", false),
            ("https://s3.example.com:9000/", false),
            ("http://127.0.0.1:4566", false),
            ("http://[::1]:4566", false),
            ("http://localhost:4566", false),
            ("http://s3.localhost", false),
            ("http://localhost.example.com", true),
            ("http://10.0.0.1:9000", true),
            ("http://[fe80::1]", true),
        ] {
            assert_eq!(text.parse::<Endpoint>().map(|endpoint| endpoint.is_exposed()), Ok(exposed), "{text}");
        }
        for wrong in [
            "",
            "s3.example.com",
            "ftp://host",
            "https://",
            "https://host/path",
            "https://host?x",
            "https://user:pw@host",
            "https://host:99999",
            "https://host:0",
            "https://host:",
            "https://[::1",
            "https://a b",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names() {
        assert!("k1".parse::<Label>().is_ok() && "a".repeat(32).parse::<Label>().is_ok());
        for wrong in ["", "K1", "k_1", "k 1", "schlüssel", &"a".repeat(33)] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong}");
        }
        assert!("my.bucket-1".parse::<BucketName>().is_ok());
        for wrong in ["ab", "-abc", "abc-", "Abc", "a/b/c", &"a".repeat(64)] {
            assert!(wrong.parse::<BucketName>().is_err(), "{wrong}");
        }
        for wrong in ["ab", "a/b/c", "a b c", "a,b=c"] {
            assert!(wrong.parse::<AccessKeyId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn transit_names() {
        for right in ["transit", "team-a/transit", "a.b/c_d/e"] {
            assert!(right.parse::<MountPath>().is_ok(), "{right}");
        }
        for wrong in
            ["", "/", "transit/", "/transit", "a//b", "..", "a/../b", "a/./b", "a b", "a?b", "a%2fb", "ü", &"a/".repeat(130)]
        {
            assert!(wrong.parse::<MountPath>().is_err(), "{wrong}");
        }
        for right in ["k", "_", "ciphergate-1.old", "K_1"] {
            assert!(right.parse::<TransitKeyName>().is_ok(), "{right}");
        }
        for wrong in ["", "-k", "k-", ".k", "..", "a/b", "a b", "a?b", "ü", &"a".repeat(129)] {
            assert!(wrong.parse::<TransitKeyName>().is_err(), "{wrong}");
        }
    }
}
