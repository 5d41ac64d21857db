//! The conditions of a write, judged in the transaction that performs it.

use crate::store::Error;

/// What a condition compares the current `ETag` with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Test {
    /// `*`: there is an object.
    Any,
    /// The object has this `ETag` (without quotes).
    Is(String),
}

impl Test {
    /// Whether an object with this `ETag`, or no object, passes.
    pub(in crate::store) fn holds(&self, etag: Option<&str>) -> bool {
        match (self, etag) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Is(wanted), Some(etag)) => wanted == etag,
        }
    }
}

/// The conditions of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Conditions {
    pub(in crate::store) if_match: Option<Test>,
    pub(in crate::store) if_none_match: Option<Test>,
}

impl Conditions {
    /// Judges a write that would replace an object with this `ETag`; `None` also for a delete marker.
    ///
    /// # Errors
    /// [`Error::NoSuchKey`] when there is nothing to match, [`Error::PreconditionFailed`] when it does not match.
    pub(in crate::store) fn check(&self, etag: Option<&str>) -> Result<(), Error> {
        if let Some(test) = &self.if_match {
            // S3 answers a write that wants to replace something with 404 when there is nothing.
            if etag.is_none() {
                return Err(Error::NoSuchKey);
            }
            if !test.holds(etag) {
                return Err(Error::PreconditionFailed);
            }
        }
        if self.if_none_match.as_ref().is_some_and(|test| test.holds(etag)) {
            return Err(Error::PreconditionFailed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_judge_what_is_there() {
        let absent = Conditions { if_none_match: Some(Test::Any), ..Conditions::default() };
        let same = |etag: &str| Conditions { if_match: Some(Test::Is(etag.to_owned())), ..Conditions::default() };
        assert!(matches!(same("a").check(None), Err(Error::NoSuchKey)));
        assert!(matches!(same("a").check(Some("b")), Err(Error::PreconditionFailed)));
        assert!(same("a").check(Some("a")).is_ok());
        assert!(absent.check(None).is_ok());
        assert!(matches!(absent.check(Some("a")), Err(Error::PreconditionFailed)));
        assert!(Conditions::default().check(None).is_ok());
    }
}
