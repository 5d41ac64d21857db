//! Object Lock: how long a version is kept, and who may remove it nevertheless.

use http::header::HeaderValue;
use http::{HeaderMap, StatusCode};
use s3s::dto::{self, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::error::custom;
use super::index::buckets::Bucket;
use super::index::versions::Version;
use super::now_ms;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Who may shorten a retention or remove what is under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Those who ask for it.
    Governance,
    /// Nobody.
    Compliance,
}

impl Mode {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "GOVERNANCE" => Some(Self::Governance),
            "COMPLIANCE" => Some(Self::Compliance),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// The length of a bucket's default retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    Days(i64),
    Years(i64),
}

impl Period {
    fn ms(self) -> i64 {
        match self {
            Self::Days(days) => days.saturating_mul(DAY_MS),
            Self::Years(years) => years.saturating_mul(365).saturating_mul(DAY_MS),
        }
    }
}

/// A version is not removed before this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention {
    pub(super) mode: Mode,
    pub(super) until_ms: i64,
}

/// The locks of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) retention: Option<Retention>,
    /// `None` when it was never set.
    pub(super) legal_hold: Option<bool>,
}

impl Lock {
    /// Reads what an upload asks for.
    ///
    /// # Errors
    /// `InvalidArgument` for half a retention and for values that S3 does not know.
    pub(super) fn from_request(headers: &HeaderMap) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let legal_hold = match text("x-amz-object-lock-legal-hold") {
            None => None,
            Some("ON") => Some(true),
            Some("OFF") => Some(false),
            Some(_) => return Err(s3_error!(InvalidArgument, "Legal Hold must be either of 'ON' or 'OFF'")),
        };
        let retention = match (text("x-amz-object-lock-mode"), text("x-amz-object-lock-retain-until-date")) {
            (None, None) => None,
            (Some(mode), Some(until)) => {
                let mode = Mode::of(mode).ok_or_else(|| s3_error!(InvalidArgument, "Unknown wormMode directive."))?;
                let until = Timestamp::parse(TimestampFormat::DateTime, until).ok();
                let until = until.ok_or_else(|| s3_error!(InvalidArgument, "The retain until date is malformed."))?;
                Some(Retention { mode, until_ms: future(&until)? })
            }
            _ => {
                let message = "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied";
                return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, message));
            }
        };
        Ok(Self { retention, legal_hold })
    }

    fn is_some(&self) -> bool {
        self.retention.is_some() || self.legal_hold.is_some()
    }

    /// The lock that a new version in this bucket gets when its upload asks for this one: where it asks for no retention, the
    /// bucket's default holds.
    ///
    /// # Errors
    /// `InvalidRequest` in a bucket without Object Lock.
    pub(super) fn settle(&self, bucket: &Bucket) -> S3Result<Self> {
        if self.is_some() {
            demand_lockable(bucket)?;
        }
        let mut lock = self.clone();
        if lock.retention.is_none()
            && let Some((mode, period)) = bucket.retention
        {
            lock.retention = Some(Retention { mode, until_ms: now_ms().saturating_add(period.ms()) });
        }
        Ok(lock)
    }

    /// Whether an upload that is going to be locked says what its content is, so that nothing is locked that did not arrive whole.
    ///
    /// # Errors
    /// `InvalidRequest`: S3 takes no such upload without `Content-MD5` or a checksum.
    pub(super) fn demand_checksum(&self, is_checked: bool, what: &str) -> S3Result<()> {
        if self.is_some() && !is_checked {
            let message =
                format!("Content-MD5 OR x-amz-checksum- HTTP header is required for {what} requests with Object Lock parameters");
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, message));
        }
        Ok(())
    }

    /// Whether a version may be removed now.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(super) fn check_removal(&self, bypass: bool) -> S3Result<()> {
        let kept = self
            .retention
            .is_some_and(|Retention { mode, until_ms }| until_ms > now_ms() && !(mode == Mode::Governance && bypass));
        if kept || self.legal_hold == Some(true) {
            return Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock."));
        }
        Ok(())
    }

    /// Whether the retention may be replaced by this one: it may always become stricter.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub(super) fn check_change(&self, new: Option<Retention>, bypass: bool) -> S3Result<()> {
        let Some(old) = self.retention.filter(|old| old.until_ms > now_ms()) else { return Ok(()) };
        let longer = new.is_some_and(|new| new.until_ms >= old.until_ms);
        let stricter = match old.mode {
            Mode::Compliance => longer && new.is_some_and(|new| new.mode == Mode::Compliance),
            Mode::Governance => bypass || (longer && new.is_some_and(|new| new.mode == Mode::Governance)),
        };
        if stricter { Ok(()) } else { Err(s3_error!(AccessDenied, "Access Denied because object protected by object lock.")) }
    }

    /// The headers of an answer.
    pub(super) fn answer(&self, headers: &mut HeaderMap) {
        if let Some(Retention { mode, until_ms }) = self.retention {
            headers.insert("x-amz-object-lock-mode", HeaderValue::from_static(mode.name()));
            if let Ok(until) = HeaderValue::try_from(date_time(until_ms)) {
                headers.insert("x-amz-object-lock-retain-until-date", until);
            }
        }
        if let Some(hold) = self.legal_hold {
            headers.insert("x-amz-object-lock-legal-hold", HeaderValue::from_static(if hold { "ON" } else { "OFF" }));
        }
    }
}

/// Whether a bucket has Object Lock.
///
/// # Errors
/// `InvalidRequest`.
pub(super) fn demand_lockable(bucket: &Bucket) -> S3Result<()> {
    if bucket.lockable { Ok(()) } else { Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration")) }
}

/// Days and years that a default retention may have at most.
const DAYS_MAX: i64 = 36_500;
const YEARS_MAX: i64 = 100;

/// Reads the configuration of a bucket: its default retention, if it is to have one.
///
/// # Errors
/// `MalformedXML` and `InvalidRetentionPeriod`.
pub(super) fn default_retention(configuration: Option<dto::ObjectLockConfiguration>) -> S3Result<Option<(Mode, Period)>> {
    let malformed = || S3Error::new(S3ErrorCode::MalformedXML);
    let configuration = configuration.ok_or_else(malformed)?;
    if configuration.object_lock_enabled.is_none_or(|enabled| enabled.as_str() != "Enabled") {
        return Err(malformed());
    }
    let Some(rule) = configuration.rule else { return Ok(None) };
    let default = rule.default_retention.ok_or_else(malformed)?;
    let mode = default.mode.as_ref().and_then(|mode| Mode::of(mode.as_str())).ok_or_else(malformed)?;
    let (period, count, max) = match (default.days.map(i64::from), default.years.map(i64::from)) {
        (Some(days), None) => (Period::Days(days), days, DAYS_MAX),
        (None, Some(years)) => (Period::Years(years), years, YEARS_MAX),
        _ => return Err(malformed()),
    };
    if !(1..=max).contains(&count) {
        let message = "Default retention period must be a positive integer value and not too large";
        return Err(custom(StatusCode::BAD_REQUEST, "InvalidRetentionPeriod", message));
    }
    Ok(Some((mode, period)))
}

/// The configuration of a bucket.
///
/// # Errors
/// `ObjectLockConfigurationNotFoundError` without Object Lock.
pub(super) fn configuration(bucket: &Bucket) -> S3Result<dto::ObjectLockConfiguration> {
    if !bucket.lockable {
        return Err(S3ErrorCode::ObjectLockConfigurationNotFoundError.into());
    }
    let rule = bucket.retention.map(|(mode, period)| {
        let count = |count: i64| i32::try_from(count).ok();
        let (days, years) = match period {
            Period::Days(days) => (count(days), None),
            Period::Years(years) => (None, count(years)),
        };
        let default = dto::DefaultRetention { days, mode: Some(mode.name().to_owned().into()), years };
        dto::ObjectLockRule { default_retention: Some(default) }
    });
    Ok(dto::ObjectLockConfiguration { object_lock_enabled: Some("Enabled".to_owned().into()), rule })
}

/// The retention that a document sets; an empty one takes it away.
///
/// # Errors
/// `MalformedXML`, and `InvalidArgument` for a date that has passed.
pub(super) fn asked_retention(retention: Option<dto::ObjectLockRetention>) -> S3Result<Option<Retention>> {
    let dto::ObjectLockRetention { mode, retain_until_date } = retention.unwrap_or_default();
    match (mode, retain_until_date) {
        (None, None) => Ok(None),
        (Some(mode), Some(until)) => {
            let mode = Mode::of(mode.as_str()).ok_or(S3ErrorCode::MalformedXML)?;
            Ok(Some(Retention { mode, until_ms: future(&until)? }))
        }
        _ => Err(S3ErrorCode::MalformedXML.into()),
    }
}

/// The document of a version's retention.
///
/// # Errors
/// `InvalidRequest` without Object Lock, `NoSuchObjectLockConfiguration` without a retention.
pub(super) fn retention(bucket: &Bucket, version: &Version) -> S3Result<dto::ObjectLockRetention> {
    demand_lockable(bucket)?;
    let Retention { mode, until_ms } = version.attributes.lock.retention.ok_or(S3ErrorCode::NoSuchObjectLockConfiguration)?;
    let retain_until_date = Some(timestamp_ms(until_ms));
    Ok(dto::ObjectLockRetention { mode: Some(mode.name().to_owned().into()), retain_until_date })
}

/// The legal hold that a document sets.
///
/// # Errors
/// `MalformedXML`.
pub(super) fn asked_legal_hold(hold: Option<dto::ObjectLockLegalHold>) -> S3Result<bool> {
    match hold.and_then(|hold| hold.status).as_ref().map(|status| status.as_str()) {
        Some("ON") => Ok(true),
        Some("OFF") => Ok(false),
        _ => Err(S3ErrorCode::MalformedXML.into()),
    }
}

/// The document of a version's legal hold.
///
/// # Errors
/// `InvalidRequest` without Object Lock, `NoSuchObjectLockConfiguration` when there never was one.
pub(super) fn legal_hold(bucket: &Bucket, version: &Version) -> S3Result<dto::ObjectLockLegalHold> {
    demand_lockable(bucket)?;
    let hold = version.attributes.lock.legal_hold.ok_or(S3ErrorCode::NoSuchObjectLockConfiguration)?;
    let status = if hold { "ON" } else { "OFF" };
    Ok(dto::ObjectLockLegalHold { status: Some(status.to_owned().into()) })
}

/// A date in milliseconds since 1970, when it is still to come.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn future(date: &Timestamp) -> S3Result<i64> {
    let date: time::OffsetDateTime = date.clone().into();
    let ms = i64::try_from(date.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
    if ms <= now_ms() {
        return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
    }
    Ok(ms)
}

/// Milliseconds since 1970 as S3 writes dates in XML and in lock headers.
pub(super) fn date_time(ms: i64) -> Vec<u8> {
    let mut text = Vec::new();
    // The only error is that of the writer, and a vector has none.
    let _ = timestamp_ms(ms).format(TimestampFormat::DateTime, &mut text);
    text
}

/// A date to the millisecond.
pub(super) fn timestamp_ms(ms: i64) -> Timestamp {
    let nanos = i128::from(ms) * 1_000_000;
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(time::OffsetDateTime::UNIX_EPOCH).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(mode: Mode, in_ms: i64) -> Lock {
        Lock { retention: Some(Retention { mode, until_ms: now_ms() + in_ms }), legal_hold: None }
    }

    #[test]
    fn removal() {
        assert!(Lock::default().check_removal(false).is_ok());
        assert!(Lock { legal_hold: Some(true), ..Lock::default() }.check_removal(true).is_err());
        assert!(Lock { legal_hold: Some(false), ..Lock::default() }.check_removal(false).is_ok());
        assert!(lock(Mode::Governance, 60_000).check_removal(false).is_err());
        assert!(lock(Mode::Governance, 60_000).check_removal(true).is_ok());
        assert!(lock(Mode::Governance, -1).check_removal(false).is_ok());
        assert!(lock(Mode::Compliance, 60_000).check_removal(true).is_err());
    }

    #[test]
    fn a_retention_becomes_stricter_only() {
        let new = |mode, in_ms| Some(Retention { mode, until_ms: now_ms() + in_ms });
        let compliance = lock(Mode::Compliance, 60_000);
        assert!(compliance.check_change(new(Mode::Compliance, 90_000), false).is_ok());
        assert!(compliance.check_change(new(Mode::Compliance, 30_000), true).is_err());
        assert!(compliance.check_change(new(Mode::Governance, 90_000), true).is_err());
        assert!(compliance.check_change(None, true).is_err());
        let governance = lock(Mode::Governance, 60_000);
        assert!(governance.check_change(new(Mode::Governance, 90_000), false).is_ok());
        assert!(governance.check_change(new(Mode::Governance, 30_000), false).is_err());
        assert!(governance.check_change(new(Mode::Compliance, 90_000), false).is_err());
        assert!(governance.check_change(None, true).is_ok());
        assert!(lock(Mode::Compliance, -1).check_change(None, false).is_ok());
    }
}
