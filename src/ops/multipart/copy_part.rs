//! UploadPartCopy: a part made of an object that is there already. Its bytes are opened and sealed again, as the part has another
//! key (FORMAT section 11); they pass through and are never held.

use http::HeaderMap;
use s3s::dto::{CopyPartResult, CopySource, ETag, Timestamp, UploadPartCopyInput, UploadPartCopyOutput};
use s3s::{S3Request, S3Response};

use super::checksum;
use super::part_number;
use super::upload_part::part_len;
use crate::backend::ObjectName;
use crate::ops::check::BodyCheck;
use crate::ops::get_object::Read;
use crate::ops::object::Wanted;
use crate::ops::protection::Opener;
use crate::ops::{Error, Gateway, headers};

impl Gateway {
    pub(in crate::ops) async fn copy_part(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> Result<S3Response<UploadPartCopyOutput>, Error> {
        let number = part_number(req.input.part_number)?;
        let CopySource::Bucket { bucket, key, version_id } = req.input.copy_source else {
            return Err(Error::NotImplemented("Access points as a copy source are not implemented"));
        };
        self.multipart.place.admit(&bucket, &key)?;
        let wanted = range(req.input.copy_source_range.as_deref())?;
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let of_source = Opener::of_copy_source(&req.headers, &req.extensions)?;
        let session = self.session(req.input.bucket, req.input.key, req.input.upload_id, own.as_ref()).await?;
        let (conditions, guards) = headers::for_copy_source(&req.headers, &req.extensions)?;
        let source = ObjectName { bucket: bucket.into(), key: key.into() };
        let read = Read::of_range(self, source, version_id.map(Into::into), of_source.as_ref(), conditions, guards, wanted);
        let opened = read.run().await.map_err(precondition)?;
        if let (Wanted::Span(_, Some(last)), Some((_, sent))) = (wanted, opened.range)
            && last != sent
        {
            // S3 does not shorten the range of a copy.
            return Err(Error::InvalidArgument("Range specified is not valid for source object"));
        }
        let length = part_len(number, opened.length)?;
        let recorded = session.record.checksum.map(|(algorithm, _)| algorithm);
        let check = BodyCheck::for_part(&HeaderMap::new(), None, recorded)?;
        let guards = headers::guards(&req.headers, &req.extensions);
        let done = self.store_part(&session, number, length, opened.body, check, guards).await?;

        let etag = done.etag.to_str().map_err(|_| Error::Internal("the ETag of a part is text"))?;
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(etag.trim_matches('"').to_owned())),
            last_modified: Some(Timestamp::from(std::time::SystemTime::now())),
            ..CopyPartResult::default()
        };
        if let Some(sum) = &done.checksum {
            checksum::show_copied(&mut result, sum.algorithm(), sum.value());
        }
        let mut shown = headers::for_client_object(done.headers);
        shown.remove(http::header::ETAG);
        self.announce(&mut shown, &session.record.envelope, own.as_ref().map(Opener::md5));
        let source_version = opened.headers.get("x-amz-version-id").and_then(|version| version.to_str().ok());
        let output = UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: source_version.map(str::to_owned),
            ..UploadPartCopyOutput::default()
        };
        Ok(S3Response::with_headers(output, shown))
    }
}

/// `bytes=first-last`, the only form that S3 takes here.
fn range(text: Option<&str>) -> Result<Wanted, Error> {
    const WRONG: Error = Error::InvalidArgument(
        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
    );
    let Some(text) = text else { return Ok(Wanted::Whole) };
    let (first, last) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or(WRONG)?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (first, last) = number(first).zip(number(last)).filter(|(first, last)| first <= last).ok_or(WRONG)?;
    Ok(Wanted::Span(first, Some(last)))
}

/// What is "not modified" for a reader is a condition that does not hold for a copy.
fn precondition(error: Error) -> Error {
    match error {
        Error::Backend(crate::backend::Error::Refused(mut refusal)) if refusal.status == 304 => {
            refusal.status = 412;
            refusal.code = "PreconditionFailed".to_owned();
            Error::Backend(crate::backend::Error::Refused(refusal))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_form_of_range_is_taken() {
        assert_eq!(range(None).unwrap(), Wanted::Whole);
        assert_eq!(range(Some("bytes=0-0")).unwrap(), Wanted::Span(0, Some(0)));
        assert_eq!(range(Some("bytes=5-9")).unwrap(), Wanted::Span(5, Some(9)));
        for wrong in ["bytes=5-", "bytes=-5", "bytes=9-5", "0-5", "bytes=0-5,7-9", "bytes=+1-2", "bytes= 1-2", "bytes=a-b", ""] {
            assert!(range(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
