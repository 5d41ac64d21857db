//! CompleteMultipartUpload: the parts of the list become an object, whoever asks for it, how often and how many at a time (FORMAT
//! section 11). Everything that is made on the way follows from the list alone, so equal requests make equal things.

use bytes::Bytes;
use data_encoding::BASE64;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, header};
use s3s::dto::{self, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, ETag};
use s3s::{S3Request, S3Response};

use super::checksum;
use super::parts::{View, spooled_etag};
use super::session::Session;
use super::staging::Kept;
use super::{Refused, is_no_such_upload, part_number};
use crate::backend::{self, ByteRange, CompleteUpload, CompletedUpload, PutPart, Select};
use crate::format::layout::{PART_MIN, part_plain_len, part_sealed_len};
use crate::format::{ChecksumBytes, ChecksumKind, Footer, PartHeader, PlainLen, Receipt, SealedLen, TableEntry, split_part_etag};
use crate::observe::request::ObjectAddress;
use crate::ops::check::{shown_value, take_checksums};
use crate::ops::object::Stored;
use crate::ops::protection::Opener;
use crate::ops::{Error, Gateway, headers};
use crate::stream::{self, SpooledPart};

/// How often the end is written again because another request came between.
const ROUNDS_MAX: usize = 3;

/// A line of the list, understood.
struct Line {
    number: u16,
    /// The store's ETag, or the attempt of a spooled part.
    etag: String,
    plain_len: PlainLen,
    /// `None`: only the stored header says it.
    part_id: Option<[u8; 16]>,
    spooled: bool,
    /// `None`: there was no receipt.
    checksum: Option<ChecksumBytes>,
}

impl Gateway {
    pub(in crate::ops) async fn complete_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Result<S3Response<CompleteMultipartUploadOutput>, Error> {
        let lines = req.input.multipart_upload.and_then(|list| list.parts).filter(|list| !list.is_empty());
        let lines = lines.ok_or(Refused::MalformedXml)?;
        check_order(&lines)?;
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let session = self.session(req.input.bucket, req.input.key, req.input.upload_id, own.as_ref()).await?;
        let work = Complete {
            gateway: self,
            session: &session,
            guards: headers::guards(&req.headers, &req.extensions),
            conditions: headers::for_complete(&req.headers, &req.extensions)?,
        };
        let (completed, footer) = work.run(&lines, &req.headers).await?;

        let mut shown = headers::for_client_object(completed.headers);
        // The answer has it in its document.
        shown.remove(header::ETAG);
        self.announce(&mut shown, &session.record.envelope, own.as_ref().map(Opener::md5));
        let object = &session.upload.object;
        let marked = headers::mark_etag_text(&completed.etag);
        let mut output = CompleteMultipartUploadOutput {
            location: req.extensions.get::<ObjectAddress>().map(|address| address.0.clone()),
            bucket: Some(object.bucket.clone()),
            key: Some(object.key.clone()),
            e_tag: Some(ETag::Strong(marked)),
            ..CompleteMultipartUploadOutput::default()
        };
        if let Some((algorithm, kind, value)) = footer.and_then(|footer| shown_value(&footer)) {
            checksum::show(&mut output, algorithm, value);
            output.checksum_type = Some(dto::ChecksumType::from(checksum::kind_name(kind).to_owned()));
        }
        Ok(S3Response::with_headers(output, shown))
    }
}

fn check_order(lines: &[CompletedPart]) -> Result<(), Error> {
    let mut last = 0;
    for line in lines {
        let number = part_number(line.part_number.ok_or(Refused::MalformedXml)?)?;
        if line.e_tag.is_none() {
            return Err(Refused::MalformedXml.into());
        }
        if number <= last {
            return Err(Refused::InvalidPartOrder.into());
        }
        last = number;
    }
    Ok(())
}

/// One CompleteMultipartUpload under way.
struct Complete<'a> {
    gateway: &'a Gateway,
    session: &'a Session,
    guards: HeaderMap,
    conditions: HeaderMap,
}

impl Complete<'_> {
    /// The object's facts, and its footer unless the upload had been completed already and the footer cannot be known any more.
    async fn run(&self, list: &[CompletedPart], client: &HeaderMap) -> Result<(CompletedUpload, Option<Footer>), Error> {
        let lines = match self.understand(list).await? {
            Some(lines) => lines,
            // Parts without receipts can only be looked up while the upload is there.
            None => return Ok((self.completed_before(None).await?, None)),
        };
        let footer = self.footer(&lines)?;
        self.check_declarations(client, list, &lines, &footer)?;
        let end = footer.seal(&self.session.keys)?;
        let end: [u8; 32] = *end.last_chunk().ok_or(Error::Internal("a footer ends with 32 bytes"))?;

        for _ in 0..ROUNDS_MAX {
            match self.attempt(&lines, &footer).await? {
                Attempt::Done(completed) => {
                    self.session.staging.clear(false).await;
                    return Ok((completed, Some(footer)));
                }
                Attempt::Gone => return Ok((self.completed_before(Some(end)).await?, Some(footer))),
                Attempt::PartsDiffer => match self.unconfirmed(&lines).await? {
                    Confirmed::All => {}
                    Confirmed::Without(number) => return Err(Refused::InvalidPart(number).into()),
                    Confirmed::Gone => return Ok((self.completed_before(Some(end)).await?, Some(footer))),
                },
            }
        }
        Err(Refused::Busy.into())
    }

    /// What each line of the list names. `None`: the upload is gone, and with it what lines without a receipt stood for.
    async fn understand(&self, list: &[CompletedPart]) -> Result<Option<Vec<Line>>, Error> {
        let mut view = None;
        let mut lines = Vec::with_capacity(list.len());
        for line in list {
            let number = part_number(line.part_number.ok_or(Refused::MalformedXml)?)?;
            let etag = line.e_tag.as_ref().ok_or(Refused::MalformedXml)?.value();
            let line = match split_part_etag(etag) {
                (etag, Some(hex)) => self.by_receipt(number, etag, hex)?,
                (etag, None) => {
                    if view.is_none() {
                        match self.gateway.parts_of(self.session, 0, usize::MAX, self.guards.clone()).await {
                            Ok(found) => view = Some(found),
                            Err(Error::Backend(error)) if is_no_such_upload(&error) => return Ok(None),
                            Err(error) => return Err(error),
                        }
                    }
                    view.as_ref().and_then(|view| looked_up(view, number, etag)).ok_or(Refused::InvalidPart(number))?
                }
            };
            lines.push(line);
        }
        let (last, others) = lines.split_last().ok_or(Refused::MalformedXml)?;
        if let Some(small) = others.iter().find(|line| line.plain_len.get() < PART_MIN) {
            return Err(Refused::EntityTooSmall { number: small.number, plain_len: small.plain_len.get() }.into());
        }
        // Only the last part ever waits in the state store, and a small one always does: nobody made such a receipt.
        let misplaced =
            others.iter().find(|line| line.spooled).or((!last.spooled && last.plain_len.get() < PART_MIN).then_some(last));
        match misplaced {
            Some(line) => Err(Refused::InvalidPart(line.number).into()),
            None => Ok(Some(lines)),
        }
    }

    fn by_receipt(&self, number: u16, etag: &str, hex: &str) -> Result<Line, Error> {
        let invalid = || Error::Upload(Refused::InvalidPart(number));
        let receipt = Receipt::open(&self.session.keys, number, etag, hex).map_err(|_| invalid())?;
        let algorithm = self.session.record.checksum.map(|(algorithm, _)| algorithm);
        if receipt.checksum.map(|(algorithm, _)| algorithm) != algorithm {
            return Err(invalid());
        }
        Ok(Line {
            number,
            etag: etag.to_owned(),
            plain_len: receipt.plain_len,
            part_id: Some(receipt.part_id),
            spooled: receipt.spooled,
            checksum: Some(receipt.checksum.map_or(ChecksumBytes::EMPTY, |(_, value)| value)),
        })
    }

    fn footer(&self, lines: &[Line]) -> Result<Footer, Error> {
        let total = lines.iter().try_fold(0u64, |total, line| total.checked_add(line.plain_len.get()));
        let plain_len = total.and_then(PlainLen::new).ok_or(Error::EntityTooLarge)?;
        // A part without its receipt has no checksum, and then the object has none.
        let known = lines.iter().all(|line| line.checksum.is_some());
        let sums = || lines.iter().map(|line| (line.checksum.unwrap_or(ChecksumBytes::EMPTY), line.plain_len.get()));
        let checksum = match self.session.record.checksum {
            Some(announced) if known => Some(checksum::of_object(announced, sums())?),
            _ => None,
        };
        let crc64 = checksum.filter(|sum| sum.algorithm() == checksum::DEFAULT.0).and_then(|sum| checksum::number(sum.value()));
        let parts = lines
            .iter()
            .map(|line| TableEntry {
                number: line.number,
                plain_len: line.plain_len,
                part_id: line.part_id,
                checksum: line.checksum.filter(|_| checksum.is_some()).unwrap_or(ChecksumBytes::EMPTY),
            })
            .collect();
        Ok(Footer { plain_len, time_ms: self.session.record.created_ms, checksum, crc64, md5: None, parts })
    }

    /// Compares everything that the client said about the object with what its parts say.
    fn check_declarations(
        &self,
        client: &HeaderMap,
        list: &[CompletedPart],
        lines: &[Line],
        footer: &Footer,
    ) -> Result<(), Error> {
        if let Some(declared) = client.get("x-amz-mp-object-size") {
            let declared = declared.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            let declared = declared.ok_or(Error::InvalidArgument("Value for x-amz-mp-object-size header is invalid"))?;
            if declared != footer.plain_len.get() {
                return Err(Refused::ObjectSize { declared, computed: footer.plain_len.get() }.into());
            }
        }
        let announced = self.session.record.checksum;
        let refuse_other = |actual: crate::format::ChecksumAlgorithm| {
            let expected = announced.map_or("null", |(algorithm, _)| algorithm.name());
            Err(Refused::ChecksumAlgorithm { expected, actual: actual.name() }.into())
        };
        for (line, known) in list.iter().zip(lines) {
            // Without its receipt a part came from ListParts, which has no checksums to give back.
            if let (Some((algorithm, ChecksumKind::Composite)), Some(_)) = (announced, known.checksum)
                && checksum::of_line(line).next().is_none()
            {
                return Err(Refused::ChecksumMissing { algorithm, number: known.number }.into());
            }
            for (algorithm, value) in checksum::of_line(line) {
                if announced.is_none_or(|(announced, _)| announced != algorithm) {
                    return refuse_other(algorithm);
                }
                let declared = BASE64.decode(value.as_bytes()).ok();
                if known.checksum.is_none_or(|known| declared.as_deref() != Some(known.as_slice())) {
                    return Err(Refused::InvalidPart(known.number).into());
                }
            }
        }
        if let (Some(kind), Some((_, announced))) = (client.get("x-amz-checksum-type"), announced)
            && !kind.as_bytes().eq_ignore_ascii_case(checksum::kind_name(announced).as_bytes())
        {
            return Err(Refused::ChecksumType(checksum::kind_name(announced)).into());
        }
        for (algorithm, declared) in take_checksums(client)? {
            if announced.is_none_or(|(announced, _)| announced != algorithm) {
                return refuse_other(algorithm);
            }
            let (_, _, computed) = shown_value(footer).ok_or(Refused::ChecksumUnknown)?;
            // Some clients leave out the number of parts behind a composite checksum.
            let bare = computed.split_once('-').map_or(computed.as_str(), |(bare, _)| bare);
            if declared != computed && declared != bare {
                return Err(Refused::BadDigest(algorithm).into());
            }
        }
        Ok(())
    }

    /// Writes the end and completes, once.
    async fn attempt(&self, lines: &[Line], footer: &Footer) -> Result<Attempt, Error> {
        let last = lines.last().ok_or(Refused::MalformedXml)?;
        let end_number = if last.spooled { last.number } else { last.number + 1 };
        let spooled = match last.part_id.filter(|_| last.spooled) {
            None => None,
            Some(part_id) => {
                let kept = Kept::Spool { number: last.number, part_id };
                let header = PartHeader::part(part_id, last.number, last.plain_len)?;
                match self.session.staging.get(kept).await? {
                    Some(body) => Some(SpooledPart::new(body, header)),
                    // Another Complete may have finished and cleaned up.
                    None => {
                        return match self.gateway.backend.list_parts(self.session.upload.clone(), 0, 1, self.guards.clone()).await
                        {
                            Err(error) if is_no_such_upload(&error) => Ok(Attempt::Gone),
                            Err(error) => Err(error.into()),
                            Ok(_) => Err(Refused::InvalidPart(last.number).into()),
                        };
                    }
                }
            }
        };
        let body =
            stream::seal_end(footer, self.session.keys.clone(), spooled).map_err(|error| Error::Integrity(error.into()))?;
        let sealed_size = body.sealed_len().get();
        let smallest = part_sealed_len(PlainLen::new(PART_MIN).ok_or(Error::Internal("5 MiB are a length"))?).get();
        if sealed_size >= smallest {
            self.session.staging.put(Kept::Marker { number: end_number, sealed_size }, stream::empty_marker()).await?;
        }
        let outcome = body.outcome();
        let part = PutPart { upload: self.session.upload.clone(), number: end_number, headers: self.guards.clone(), body };
        let answer = match self.gateway.backend.upload_part(part).await {
            Ok(answer) => answer,
            Err(error) if is_no_such_upload(&error) => return Ok(Attempt::Gone),
            Err(store) => return Err(self.end_failed(store, outcome.take_error(), last.number)),
        };
        let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let end_etag = etag.ok_or(Error::Internal("the store gave no ETag"))?.trim_matches('"').to_owned();

        let mut parts: Vec<_> = lines.iter().filter(|line| !line.spooled).map(|line| (line.number, line.etag.clone())).collect();
        parts.push((end_number, end_etag));
        let complete = CompleteUpload {
            upload: self.session.upload.clone(),
            headers: self.conditions.clone(),
            parts,
            sealed_size: footer.plain_len.sealed().get(),
        };
        match self.gateway.backend.complete_upload(complete).await {
            Ok(completed) => Ok(Attempt::Done(completed)),
            Err(error) if is_no_such_upload(&error) => Ok(Attempt::Gone),
            Err(backend::Error::Refused(refusal)) if refusal.code == "InvalidPart" => Ok(Attempt::PartsDiffer),
            Err(error) => Err(error.into()),
        }
    }

    /// Why the end of the object could not be written.
    fn end_failed(&self, store: backend::Error, cause: Option<stream::Error>, number: u16) -> Error {
        match cause {
            // What waited in the state store is not the part that was stored there.
            Some(cause) if cause.is_integrity() || matches!(cause, stream::Error::SealedLong { .. }) => {
                let object = &self.session.upload.object;
                tracing::error!(bucket = %object.bucket, key = %object.key, number, cause = %crate::ops::chain(&cause), "a part in the state store is damaged");
                Refused::InvalidPart(number).into()
            }
            Some(stream::Error::Source(cause)) => Error::Backend(backend::Error::Unreachable(cause)),
            Some(cause) => Error::Backend(backend::Error::Unreachable(cause.into())),
            None => store.into(),
        }
    }

    /// Whether the store still has every part of the list but the end.
    async fn unconfirmed(&self, lines: &[Line]) -> Result<Confirmed, Error> {
        let View { stored, .. } = match self.gateway.parts_of(self.session, 0, usize::MAX, self.guards.clone()).await {
            Ok(view) => view,
            Err(Error::Backend(error)) if is_no_such_upload(&error) => return Ok(Confirmed::Gone),
            Err(error) => return Err(error),
        };
        let is_there = |line: &&Line| stored.iter().any(|part| part.number == line.number && part.etag == line.etag);
        let missing = lines.iter().filter(|line| !line.spooled).find(|line| !is_there(line));
        Ok(missing.map_or(Confirmed::All, |line| Confirmed::Without(line.number)))
    }

    /// The upload is gone: if the object is there that it was to become, another request has completed it.
    async fn completed_before(&self, end: Option<[u8; 32]>) -> Result<CompletedUpload, Error> {
        let select =
            |range| Select { object: self.session.upload.object.clone(), version_id: None, headers: self.guards.clone(), range };
        let gone = || Error::Upload(Refused::NoSuchUpload);
        let headers = match end {
            None => self.gateway.backend.head_object(select(None)).await.map(|answer| answer.headers),
            Some(end) => match self.gateway.backend.get_object(select(Some(ByteRange::Suffix(end.len() as u64)))).await {
                Ok(answer) => match tail(answer.body, end.len()).await? {
                    found if found == end[..] => Ok(answer.headers),
                    _ => return Err(gone()),
                },
                // An archive shows its headers only.
                Err(backend::Error::Refused(refusal)) if refusal.code == "InvalidObjectState" => {
                    self.gateway.backend.head_object(select(None)).await.map(|answer| answer.headers)
                }
                Err(error) => Err(error),
            },
        };
        let headers = match headers {
            Ok(headers) => headers,
            Err(backend::Error::Refused(refusal)) if refusal.status == 404 || refusal.status == 405 => return Err(gone()),
            Err(error) => return Err(error.into()),
        };
        let stored = Stored::read(&headers).map_err(|_| gone())?;
        if stored.envelope.commit() != self.session.record.envelope.commit() {
            return Err(gone());
        }
        let etag = stored.etag.to_str().map_err(|_| Error::Internal("the store's ETag is not text"))?.to_owned();
        // Of a whole object's headers only those that Complete has, too.
        let kept = ["x-amz-version-id", "x-amz-expiration"];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
        let headers: HeaderMap<HeaderValue> = headers.filter(|(name, _)| kept.contains(&name.as_str())).collect();
        Ok(CompletedUpload { etag, headers })
    }
}

/// What became of one attempt.
enum Attempt {
    Done(CompletedUpload),
    /// The upload is not there any more.
    Gone,
    /// The store has other parts than the list names.
    PartsDiffer,
}

enum Confirmed {
    All,
    Without(u16),
    Gone,
}

/// The part that a line without a receipt stands for.
fn looked_up(view: &View, number: u16, etag: &str) -> Option<Line> {
    let stored = view.stored.iter().find(|part| part.number == number && part.etag == etag);
    if let Some(part) = stored {
        let plain_len = part_plain_len(SealedLen::new(part.sealed_size))?;
        return Some(Line { number, etag: etag.to_owned(), plain_len, part_id: None, spooled: false, checksum: None });
    }
    let part = view.spooled.iter().find(|part| part.number == number && spooled_etag(part) == etag)?;
    let (plain_len, part_id) = (part.plain_len, Some(part.part_id));
    Some(Line { number, etag: etag.to_owned(), plain_len, part_id, spooled: true, checksum: None })
}

/// A body of at most that many bytes.
async fn tail(mut body: backend::Body, max: usize) -> Result<Vec<u8>, Error> {
    let mut all = Vec::with_capacity(max);
    while let Some(piece) = body.next().await {
        let piece: Bytes = piece.map_err(|cause| Error::Backend(backend::Error::Unreachable(cause)))?;
        if all.len() + piece.len() > max {
            // A store that ignores ranges sends the whole object; it is not the end that is looked for.
            return Ok(Vec::new());
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
