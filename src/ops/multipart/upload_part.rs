//! UploadPart: check, seal, store. A part that may only be the last one waits in the state store until Complete joins it with the
//! end of the object (FORMAT section 11).

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, header};
use s3s::dto::{UploadPartInput, UploadPartOutput};
use s3s::{S3Request, S3Response};

use super::session::Session;
use super::staging::Kept;
use super::{Refused, is_no_such_upload, part_etag, part_number};
use crate::backend::{self, PutPart};
use crate::format::layout::{LAST_PART_PLAIN_MAX, PART_MIN, PART_PLAIN_MAX};
use crate::format::{ChecksumAlgorithm, ChecksumBytes, ObjectChecksum, PartHeader, PlainLen, Receipt};
use crate::ops::check::{BodyCheck, value_header};
use crate::ops::protection::Opener;
use crate::ops::{Error, Gateway, headers};
use crate::stream;

/// The part number that is never anybody's but the last.
const LAST_NUMBER: u16 = 10_000;

/// A part that has been stored.
pub(super) struct Done {
    /// As clients see it, in quotes.
    pub etag: HeaderValue,
    /// The checksum that is recorded.
    pub checksum: Option<ObjectChecksum>,
    /// The store's own headers, where the part is one of the store's.
    pub headers: HeaderMap,
}

impl Gateway {
    pub(in crate::ops) async fn put_part(&self, req: S3Request<UploadPartInput>) -> Result<S3Response<UploadPartOutput>, Error> {
        let number = part_number(req.input.part_number)?;
        let length = req.input.content_length.and_then(|length| u64::try_from(length).ok()).ok_or(Error::MissingContentLength)?;
        let length = part_len(number, length)?;
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let session = self.session(req.input.bucket, req.input.key, req.input.upload_id, own.as_ref()).await?;
        let recorded = session.record.checksum.map(|(algorithm, _)| algorithm);
        let check = BodyCheck::for_part(&req.headers, req.trailing_headers, recorded)?;
        match (check.declared(), recorded) {
            // What S3 computes of its own accord does not hinder a client that sends something else along.
            (Some(declared), Some(recorded)) if declared != recorded && recorded != ChecksumAlgorithm::Crc64Nvme => {
                return Err(Refused::ChecksumAlgorithm { expected: recorded.name(), actual: declared.name() }.into());
            }
            _ => {}
        }
        let verified = check.verified();
        let plain = req.input.body.unwrap_or_else(|| s3s::dto::StreamingBlob::from_bytes(Bytes::new()));
        let guards = headers::guards(&req.headers, &req.extensions);
        let done = self.store_part(&session, number, length, plain, check, guards).await?;
        let mut shown = headers::for_client_object(done.headers);
        shown.insert(header::ETAG, done.etag);
        self.announce(&mut shown, &session.record.envelope, own.as_ref().map(Opener::md5));
        if let Some(checksum) = verified.get().copied().or(done.checksum) {
            let (name, value) = value_header(&checksum);
            shown.insert(name, value);
        }
        Ok(S3Response::with_headers(UploadPartOutput::default(), shown))
    }

    /// Seals a part and stores it where it belongs.
    pub(super) async fn store_part(
        &self,
        session: &Session,
        number: u16,
        length: PlainLen,
        plain: impl Stream<Item = Result<Bytes, stream::BoxError>> + Send + 'static,
        check: BodyCheck,
        guards: HeaderMap,
    ) -> Result<Done, Error> {
        let header = PartHeader::part(self.keys.part_id()?, number, length)?;
        let mut body = stream::seal_part(plain, session.keys.clone(), header, Box::new(check));
        let outcome = body.outcome();
        if length.get() == 0 {
            // Nobody polls a body that has no bytes, and it would never be judged.
            if let Some(Err(_)) = body.next().await {
                return Err(outcome.take_error().map_or(Error::Internal("a body ended without a reason"), Error::Body));
            }
        }
        // The store saw a short body; why it was short is what the client needs to know.
        let explain = |store: backend::Error| outcome.take_error().map_or(Error::Backend(store), Error::Body);

        let spooled = length.get() < PART_MIN || number == LAST_NUMBER;
        let (etag, headers) = if spooled {
            self.spool(session, header, body, guards, explain).await?;
            (data_encoding::HEXLOWER.encode(&header.part_id), HeaderMap::new())
        } else {
            let part = PutPart { upload: session.upload.clone(), number, headers: guards, body };
            let answer = self.backend.upload_part(part).await.map_err(explain)?;
            let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
            let etag = etag.ok_or(Error::Internal("the store gave no ETag"))?.trim_matches('"').to_owned();
            (etag, answer.headers)
        };
        let checksum = outcome.facts().ok_or(Error::Internal("a part was stored that was not sealed"))?.checksum;
        let recorded = checksum.map(|sum| Ok::<_, Error>((sum.algorithm(), ChecksumBytes::new(sum.value())?))).transpose()?;
        let receipt = Receipt { part_id: header.part_id, plain_len: length, spooled, checksum: recorded };
        let receipt = receipt.seal(&session.keys, number, &etag)?;
        // For ListParts. A part without it is as good, but for what only the receipt says.
        let kept = Kept::Receipt { number, hex: receipt.clone() };
        if let Err(error) = session.staging.put(kept, stream::empty_marker()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, number, "the receipt of a part could not be kept");
        }
        Ok(Done { etag: part_etag(&etag, &receipt)?, checksum, headers })
    }

    /// Puts a part into the state store. The store does not know of it, so it is asked beside whether the upload is still there.
    async fn spool(
        &self,
        session: &Session,
        header: PartHeader,
        body: stream::SealedBody,
        guards: HeaderMap,
        explain: impl Fn(backend::Error) -> Error,
    ) -> Result<(), Error> {
        let kept = Kept::Spool { number: header.number, part_id: header.part_id };
        let put = session.staging.put(kept.clone(), body);
        let known = self.backend.list_parts(session.upload.clone(), 0, 1, guards);
        let (put, known) = tokio::join!(put, known);
        let failure = match (put, known) {
            (Ok(()), Ok(_)) => return Ok(()),
            (Err(store), _) => return Err(explain(store)),
            (Ok(()), Err(store)) => store,
        };
        if let Err(error) = session.staging.delete(kept).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a part of no upload could not be removed; the janitor will"
            );
        }
        Err(if is_no_such_upload(&failure) { Refused::NoSuchUpload.into() } else { failure.into() })
    }
}

/// The length of a part that S3 takes once it is sealed.
pub(super) fn part_len(number: u16, length: u64) -> Result<PlainLen, Error> {
    let max = if number == LAST_NUMBER { LAST_PART_PLAIN_MAX } else { PART_PLAIN_MAX };
    PlainLen::new(length).filter(|length| length.get() <= max).ok_or(Error::EntityTooLarge)
}
