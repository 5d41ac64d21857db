//! ListParts and ListMultipartUploads, with plaintext sizes and without what the gateway made.

use s3s::dto::{
    self, CommonPrefix, ETag, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput,
    MultipartUpload, Part, StorageClass,
};
use s3s::{S3Request, S3Response};

use super::checksum::{self, kind_name};
use super::parts::{Answered, ShownPart};
use crate::backend::{ListedUpload, Owner, UploadsQuery};
use crate::ops::list::{Names, timestamp};
use crate::ops::protection::Opener;
use crate::ops::{Error, Gateway, headers};

/// S3's limit of parts, and of uploads, in one page.
const PAGE_MAX: i32 = 1000;

impl Gateway {
    pub(in crate::ops) async fn parts(&self, req: S3Request<ListPartsInput>) -> Result<S3Response<ListPartsOutput>, Error> {
        let max = page_max(req.input.max_parts, "Argument maxParts must be an integer between 0 and 2147483647")?;
        let marker = req.input.part_number_marker.unwrap_or(0);
        let after = u32::try_from(marker)
            .map(|marker| u16::try_from(marker).unwrap_or(u16::MAX))
            .map_err(|_| Error::InvalidArgument("Argument part-number-marker must be an integer between 0 and 2147483647"))?;
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let session = self.session(req.input.bucket, req.input.key, req.input.upload_id, own.as_ref()).await?;
        let guards = headers::guards(&req.headers, &req.extensions);
        let view = self.parts_of(&session, after, max + 1, guards).await?;
        let mut shown = view.shown();
        let is_truncated = shown.len() > max || view.horizon.is_some();
        shown.truncate(max);
        let next = shown.last().map(|part| i32::from(part.number));
        let mut answered = self.answered(&session, after, &shown).await?;
        let parts = shown.into_iter().map(|part| {
            let known = answered.remove(&part.number);
            show_part(part, known)
        });
        let checksum = session.record.checksum;
        let object = session.upload.object;
        let output = ListPartsOutput {
            bucket: Some(object.bucket),
            key: Some(object.key),
            upload_id: Some(session.upload.id),
            parts: Some(parts.collect()),
            part_number_marker: Some(marker),
            next_part_number_marker: next,
            max_parts: i32::try_from(max).ok(),
            is_truncated: Some(is_truncated),
            owner: view.facts.owner.map(dto_owner),
            initiator: view.facts.initiator.map(initiator),
            storage_class: view.facts.storage_class.map(StorageClass::from),
            checksum_algorithm: checksum.map(|(algorithm, _)| dto::ChecksumAlgorithm::from(algorithm.name().to_owned())),
            checksum_type: checksum.map(|(_, kind)| dto::ChecksumType::from(kind_name(kind).to_owned())),
            ..ListPartsOutput::default()
        };
        Ok(S3Response::with_headers(output, headers::for_client(view.facts.headers)))
    }

    pub(in crate::ops) async fn uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Result<S3Response<ListMultipartUploadsOutput>, Error> {
        let asked = req.input;
        let names = Names::new(asked.encoding_type.as_ref())?;
        page_max(asked.max_uploads, "Argument max-uploads must be an integer between 0 and 2147483647")?;
        let query = UploadsQuery {
            bucket: asked.bucket.clone(),
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            key_marker: asked.key_marker.clone(),
            upload_id_marker: asked.upload_id_marker.clone(),
            uploads_max: asked.max_uploads,
            headers: headers::guards(&req.headers, &req.extensions),
        };
        let page = self.backend.list_uploads(query).await?;
        let place = &self.multipart.place;
        let uploads = page.uploads.into_iter().filter(|upload| !place.hides_key(&upload.key)).map(|upload| show(upload, names));
        let prefixes = page.common_prefixes.iter().filter(|prefix| !place.hides_key(prefix));
        let output = ListMultipartUploadsOutput {
            bucket: Some(asked.bucket),
            prefix: Some(names.show(&asked.prefix.unwrap_or_default())),
            delimiter: asked.delimiter.as_deref().map(|delimiter| names.show(delimiter)),
            key_marker: Some(names.show(&asked.key_marker.unwrap_or_default())),
            upload_id_marker: Some(asked.upload_id_marker.unwrap_or_default()),
            next_key_marker: page.next_key_marker.as_deref().map(|marker| names.show(marker)),
            next_upload_id_marker: page.next_upload_id_marker,
            max_uploads: page.uploads_max.or(asked.max_uploads),
            is_truncated: Some(page.is_truncated),
            uploads: Some(uploads.collect()),
            common_prefixes: Some(prefixes.map(|prefix| CommonPrefix { prefix: Some(names.show(prefix)) }).collect()),
            encoding_type: asked.encoding_type,
            ..ListMultipartUploadsOutput::default()
        };
        Ok(S3Response::with_headers(output, headers::for_client(page.headers)))
    }
}

/// How many entries a page may have. More than S3's limit is that limit.
fn page_max(asked: Option<i32>, wrong: &'static str) -> Result<usize, Error> {
    usize::try_from(asked.unwrap_or(PAGE_MAX).min(PAGE_MAX)).map_err(|_| Error::InvalidArgument(wrong))
}

/// A part as UploadPart answered it, as far as that is known.
fn show_part(part: ShownPart, known: Option<Answered>) -> Part {
    let mut shown = Part {
        part_number: Some(i32::from(part.number)),
        size: i64::try_from(part.plain_len.get()).ok(),
        last_modified: part.last_modified.and_then(timestamp),
        ..Part::default()
    };
    shown.e_tag = Some(ETag::Strong(match &known {
        Some(known) => format!("{}-{}", part.etag, known.hex),
        None => part.etag,
    }));
    if let Some((algorithm, value)) = known.and_then(|known| known.checksum) {
        checksum::show_listed(&mut shown, algorithm, value.as_slice());
    }
    shown
}

fn show(upload: ListedUpload, names: Names) -> MultipartUpload {
    MultipartUpload {
        key: Some(names.show(&upload.key)),
        upload_id: Some(upload.id),
        initiated: upload.initiated.and_then(timestamp),
        owner: upload.owner.map(dto_owner),
        initiator: upload.initiator.map(initiator),
        storage_class: upload.storage_class.map(StorageClass::from),
        ..MultipartUpload::default()
    }
}

fn dto_owner(owner: Owner) -> dto::Owner {
    dto::Owner { id: owner.id, display_name: owner.display_name }
}

fn initiator(who: Owner) -> Initiator {
    Initiator { id: who.id, display_name: who.display_name }
}
