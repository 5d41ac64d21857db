//! HeadObject: the store's headers, with the plaintext's lengths.

use s3s::dto::{HeadObjectInput, HeadObjectOutput};
use s3s::{S3Request, S3Response};

use super::object::{Stored, Wanted};
use super::protection::Opener;
use super::{Error, Gateway, headers};
use crate::backend::{ObjectName, Select};

impl Gateway {
    pub(super) async fn head(&self, req: S3Request<HeadObjectInput>) -> Result<S3Response<HeadObjectOutput>, Error> {
        let object = ObjectName { bucket: req.input.bucket, key: req.input.key };
        let version_id = req.input.version_id;
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let sent = headers::for_read(&req.headers, &req.extensions)?;
        let select = Select { object: object.clone(), version_id: version_id.clone(), headers: sent, range: None };
        let answer = self.backend.head_object(select).await?;
        let stored = Stored::read(&answer.headers)?;
        let range = Wanted::new(req.input.range.as_ref()).within(stored.plain_len)?;

        let mut shown = headers::for_client_object(answer.headers);
        self.announce(&mut shown, &stored.envelope, own.as_ref().map(Opener::md5));
        headers::apply_overrides(&mut shown, &req.uri)?;
        let mut output = HeadObjectOutput::default();
        let length = match range {
            None => stored.plain_len.get(),
            Some((first, last)) => {
                output.content_range = Some(content_range(first, last, stored.plain_len.get()));
                last - first + 1
            }
        };
        output.content_length = Some(i64::try_from(length).map_err(|_| Error::Internal("length does not fit"))?);
        let checksum_wanted = req.input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == "ENABLED");
        let checksum_wanted = checksum_wanted && range.is_none();
        // The client's own key is demanded here too; other keys are not needed to look at an object.
        if !checksum_wanted && !stored.envelope.flags().customer && own.is_none() {
            return Ok(S3Response::with_headers(output, shown));
        }
        let keys = self.keys.open_with(stored.at(&object, own.as_ref())).await?;
        if checksum_wanted {
            let guards = headers::guards(&req.headers, &req.extensions);
            let footer = self.footer(&object, version_id, guards, &stored, &keys).await?;
            shown.extend(super::check::shown_checksum(&footer));
        }
        Ok(S3Response::with_headers(output, shown))
    }
}

/// The value of a Content-Range header.
pub(super) fn content_range(first: u64, last: u64, total: u64) -> String {
    format!("bytes {first}-{last}/{total}")
}
