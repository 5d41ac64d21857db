//! RestoreObject is passed on: it moves no object data. Its form that runs a query over the object, and writes the result elsewhere, would
//! run it over ciphertext and is refused.

use s3s::{S3Result, s3_error};

/// The elements of a restore that is nothing more.
const ALLOWED: [&str; 5] = ["RestoreRequest", "Days", "Description", "GlacierJobParameters", "Tier"];

/// Refuses a document with any element that a plain restore does not have.
///
/// # Errors
/// `NotImplemented` for a query, `MalformedXML` for what cannot be told.
pub(super) fn refuse_queries(document: &[u8]) -> S3Result<()> {
    let malformed = || s3_error!(MalformedXML, "The restore request could not be understood.");
    let text = std::str::from_utf8(document).map_err(|_| malformed())?;
    for tag in text.split('<').skip(1) {
        if tag.starts_with('?') {
            continue;
        }
        let name = tag.strip_prefix('/').unwrap_or(tag);
        let name = name.split(|c: char| c.is_whitespace() || c == '>' || c == '/').next().unwrap_or_default();
        let local = name.rsplit(':').next().unwrap_or_default();
        if ALLOWED.contains(&local) {
            continue;
        }
        if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(malformed());
        }
        return Err(s3_error!(NotImplemented, "A restore with {local} is not supported by this gateway."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_restore_passes() {
        let code = |document: &str| refuse_queries(document.as_bytes()).map_err(|error| error.code().as_str().to_owned());
        let plain = "<?xml version=\"1.0\"?><RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>1</Days>\
                     <GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>";
        assert_eq!(code(plain), Ok(()));
        assert_eq!(code(""), Ok(()));
        for query in [
            "<RestoreRequest><Type>SELECT</Type></RestoreRequest>",
            "<RestoreRequest><SelectParameters/></RestoreRequest>",
            "<x:RestoreRequest><x:OutputLocation ></x:OutputLocation></x:RestoreRequest>",
        ] {
            assert_eq!(code(query), Err("NotImplemented".to_owned()), "{query}");
        }
        for odd in ["<!DOCTYPE a>", "<![CDATA[<Days>]]>", "< Days>"] {
            assert_eq!(code(odd), Err("MalformedXML".to_owned()), "{odd}");
        }
        assert_eq!(refuse_queries(b"\xff").unwrap_err().code().as_str(), "MalformedXML");
    }
}
