//! HeadObject: the store's headers, with the plaintext's lengths.

use http::HeaderMap;
use s3s::dto::{HeadObjectInput, HeadObjectOutput};
use s3s::{S3Request, S3Response};

use super::check::shown_checksum;
use super::object::{Found, Wanted};
use super::part_number::{self, Part};
use super::protection::Opener;
use super::{Error, Gateway, headers};
use crate::backend::{self, ByteRange, ObjectName, Select};
use crate::keys;

impl Gateway {
    pub(super) async fn head(&self, req: S3Request<HeadObjectInput>) -> Result<S3Response<HeadObjectOutput>, Error> {
        let object = ObjectName { bucket: req.input.bucket, key: req.input.key };
        let version_id = req.input.version_id;
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let part = part_number::asked(req.input.part_number, req.input.range.is_some())?;
        let wanted = Wanted::new(req.input.range.as_ref());
        let checksum_wanted = req.input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == "ENABLED");
        let guards = headers::guards(&req.headers, &req.extensions);
        let select = |headers| Select { object: object.clone(), version_id: version_id.clone(), headers, range: None };

        let answer = self.backend.head_object(select(headers::for_read(&req.headers, &req.extensions)?)).await?.headers;
        let found = self.recognise(&object, &guards, &answer).await?;
        if let Found::Plain(plain) = &found {
            self.refuse_stripped(select(guards.clone()), plain).await?;
        }
        let (mut shown, mut checksum, part, plain_len) = match &found {
            Found::Sealed(stored) => {
                let mut shown = headers::for_client_object(answer);
                self.announce(&mut shown, &stored.envelope, own.as_ref().map(Opener::md5));
                let is_multipart = stored.envelope.flags().multipart;
                let mut checksum = Vec::new();
                let mut footer = None;
                let footer_wanted = (part.is_some() && is_multipart) || (checksum_wanted && wanted == Wanted::Whole);
                // The client's own key is demanded to look at an object, too; other keys are not needed for that.
                let keys = match footer_wanted || stored.envelope.flags().customer || own.is_some() {
                    true => Some(self.unlock(&object, stored, own.as_ref()).await?),
                    false => None,
                };
                if let Some(keys) = keys.filter(|_| footer_wanted) {
                    let opened = self.footer(&object, version_id.clone(), guards.clone(), stored, &keys).await?;
                    if checksum_wanted {
                        checksum = shown_checksum(&opened);
                    }
                    footer = Some(opened);
                }
                let part = match (part, footer) {
                    (Some(number), Some(footer)) if is_multipart => Some(Part::of_multipart(number, &footer)?),
                    (Some(number), _) => Some(Part::of_single(number, stored.plain_len)?),
                    (None, _) => None,
                };
                (shown, checksum, part, stored.plain_len.get())
            }
            Found::Plain(_) | Found::AwsClient(_) if own.is_some() => return Err(keys::Error::CustomerKeySuperfluous.into()),
            Found::Plain(plain) => {
                let checksum = match checksum_wanted && wanted == Wanted::Whole {
                    true => self.plain_checksum(select(guards.clone()), plain).await?,
                    false => Vec::new(),
                };
                let part = match part {
                    Some(number) => Some(self.plain_part(select(guards.clone()), number, plain, checksum_wanted).await?),
                    None => None,
                };
                (headers::for_client_plaintext(answer), checksum, part, plain.len)
            }
            Found::AwsClient(stored) => {
                let part = part.map(|number| Part::of_bytes(number, stored.plain_len)).transpose()?;
                (stored.show(answer), Vec::new(), part, stored.plain_len)
            }
        };
        let range = match &part {
            Some(part) => {
                part.show_count(&mut shown);
                if checksum_wanted && !part.is_whole {
                    checksum = part.checksum.clone();
                }
                part.span
            }
            None => wanted.within_bytes(plain_len)?,
        };

        headers::apply_overrides(&mut shown, &req.uri)?;
        shown.extend(checksum);
        let length = match (range, &part) {
            (Some((first, last)), _) => last - first + 1,
            (None, Some(_)) => 0,
            (None, None) => plain_len,
        };
        let output = HeadObjectOutput {
            content_length: Some(i64::try_from(length).map_err(|_| Error::Internal("length does not fit"))?),
            content_range: range.map(|(first, last)| content_range(first, last, plain_len)),
            ..HeadObjectOutput::default()
        };
        Ok(S3Response::with_headers(output, shown))
    }

    /// HEAD of an object. An answer to HEAD has no document, so what is not there is asked for once more as a GET of one byte: whether it is
    /// the version, the key or the bucket that is missing, only that answer says.
    pub(super) async fn head_with_words(&self, select: Select) -> Result<HeaderMap, Error> {
        let again = Select { range: Some(ByteRange::Inclusive(0, 0)), ..select.clone() };
        match self.backend.head_object(select).await {
            Ok(answer) => Ok(answer.headers),
            Err(backend::Error::Refused(refusal)) if refusal.status == 404 => Ok(self.backend.get_object(again).await?.headers),
            Err(error) => Err(error.into()),
        }
    }

    /// HEAD of an object: the store's headers, and what the object is. `select` may carry conditions; `guards` are for what else must be
    /// asked. The one function for those who only want to know, the sources of copies among them.
    ///
    /// # Errors
    /// As [`Gateway::recognise`] and [`Gateway::refuse_stripped`].
    pub(super) async fn look(&self, select: Select, guards: &HeaderMap) -> Result<(HeaderMap, Found), Error> {
        let (object, version_id) = (select.object.clone(), select.version_id.clone());
        let mut answer = self.head_with_words(select).await?;
        let found = self.recognise(&object, guards, &answer).await?;
        match &found {
            Found::Plain(plain) => {
                self.refuse_stripped(Select { object, version_id, headers: guards.clone(), range: None }, plain).await?;
            }
            // Whoever looks wants the plaintext, and to that the client's fields do not belong.
            Found::AwsClient(_) => headers::drop_aws_fields(&mut answer),
            Found::Sealed(_) => {}
        }
        Ok((answer, found))
    }
}

/// The value of a Content-Range header.
pub(super) fn content_range(first: u64, last: u64, total: u64) -> String {
    format!("bytes {first}-{last}/{total}")
}
