//! CopyObject: the store copies the sealed bytes, and the copy gets an envelope of its own (FORMAT section 13).
//!
//! The data key is unwrapped at the source's place and wrapped again at the copy's, so no byte of the object passes here. Two kinds of
//! copy do pass, sealed anew under a new data key: those that ask for a checksum which the source does not have, and those of plaintext or
//! of what AWS's own encryption client wrote.
//!
//! The source is pinned by version and ETag from the HEAD that decided everything to the copy itself. When it changes in between, the
//! copy starts over.

use http::header::IF_MATCH;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{self, CopyObjectInput, CopyObjectOutput, CopyObjectResult, ETag};
use s3s::{S3Request, S3Response};

use super::check::{Computed, shown_checksum};
use super::copy_source::Source;
use super::headers::copy::{self, Stored as MetadataFrom};
use super::large_copy::LargeCopy;
use super::list::timestamp;
use super::multipart::{LARGE_PLAIN_MAX, Large};
use super::object::Found;
use super::protection::{Opener, Protection};
use super::{Error, Gateway, headers};
use crate::backend::{self, CompletedUpload, Copied, CopyObject, ObjectName, Select};
use crate::format::{ChecksumAlgorithm, Envelope, Layout, PlainLen};
use crate::{keys, stream};

/// How often a copy starts over because its source changed while it was under way.
const ATTEMPTS: usize = 4;
const VERSION_ID: &str = "x-amz-version-id";
const SOURCE_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-copy-source-version-id");

type Checksum = Vec<(HeaderName, HeaderValue)>;

/// What was asked for, read once.
struct Job<'a> {
    gateway: &'a Gateway,
    request: &'a S3Request<CopyObjectInput>,
    target: ObjectName,
    wanted: Protection,
    opener: Option<Opener>,
    replaces_metadata: bool,
    replaces_tags: bool,
    /// The checksum that the copy is to have.
    algorithm: Option<ChecksumAlgorithm>,
}

/// A copy that is there.
struct Done {
    copied: Copied,
    envelope: Envelope,
    checksum: Checksum,
}

impl Gateway {
    pub(super) async fn copy(&self, req: S3Request<CopyObjectInput>) -> Result<S3Response<CopyObjectOutput>, Error> {
        let job = Job {
            gateway: self,
            request: &req,
            target: ObjectName { bucket: req.input.bucket.clone(), key: req.input.key.clone() },
            wanted: self.protection(&req.headers, &req.extensions)?,
            opener: Opener::of_copy_source(&req.headers, &req.extensions)?,
            replaces_metadata: copy::replaces_metadata(&req.headers)?,
            replaces_tags: copy::replaces_tags(&req.headers)?,
            algorithm: wanted_algorithm(&req.headers)?,
        };
        let asked = Source::asked(&req.input.copy_source)?;
        for object in [asked.object(), &job.target] {
            self.multipart.place.admit(&object.bucket, &object.key)?;
        }
        let guards = copy::for_source(&req.headers, &req.extensions);
        // A refusal by the store on a condition, and what the source was then.
        let mut refused: Option<(HeaderValue, Error)> = None;
        for _ in 0..ATTEMPTS {
            let source = self.look_at_source(&asked, &guards).await?;
            if let Some((etag, refusal)) = refused.take()
                && etag == source.etag
            {
                // The source is what it was, so the condition that failed is one on the target.
                return Err(refusal);
            }
            copy::judge(&req.headers, &source.headers)?;
            match job.run(&source, &guards).await {
                Ok(done) => return Ok(job.answer(done, &source)),
                Err(Error::Backend(backend::Error::Refused(refusal))) if refusal.status == 412 => {
                    refused = Some((source.etag, Error::Backend(backend::Error::Refused(refusal))));
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Coded {
            code: "ServiceUnavailable",
            status: 503,
            text: "The source kept changing while it was copied. Please try again.",
        })
    }
}

impl Job<'_> {
    async fn run(&self, source: &Source, guards: &HeaderMap) -> Result<Done, Error> {
        let onto_itself = source.is(&self.target) && source.asked_version.is_none();
        // Plaintext that is copied onto itself is encrypted by that, which is a change.
        let is_sealed = matches!(source.found, Found::Sealed(_));
        if onto_itself && is_sealed && !copy::changes_something(&self.request.headers, self.replaces_metadata) {
            return Err(Error::InvalidRequest(
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, \
                 storage class, website redirect location or encryption attributes.",
            ));
        }
        let stored = match &source.found {
            Found::Sealed(stored) => stored,
            Found::Plain(_) | Found::AwsClient(_) if self.opener.is_some() => {
                return Err(keys::Error::CustomerKeySuperfluous.into());
            }
            Found::Plain(plain) => return self.seal_anew(source, guards, onto_itself, self.algorithm, plain.len).await,
            Found::AwsClient(found) => {
                return self.seal_anew(source, guards, onto_itself, self.algorithm, found.plain_len).await;
            }
        };
        let mut checksum = Checksum::new();
        if let Some(algorithm) = self.algorithm {
            let keys = self.gateway.unlock(&source.at.object, stored, self.opener.as_ref()).await?;
            let footer =
                self.gateway.footer(&source.at.object, source.at.version_id.clone(), guards.clone(), stored, &keys).await?;
            checksum = shown_checksum(&footer);
            let name = super::check::header_name(algorithm);
            if !checksum.iter().any(|(shown, _)| shown.as_str() == name) || checksum.iter().any(|(_, value)| value == "COMPOSITE")
            {
                return self.seal_anew(source, guards, onto_itself, Some(algorithm), stored.plain_len.get()).await;
            }
        }
        let wrap = self.gateway.wrap_of(&source.at.object, stored).await?;
        let target = &self.target;
        let from = wrap.at(self.opener.as_ref());
        let envelope = self.gateway.keys.rewrap(from, &self.wanted.choice, &target.bucket, &target.key).await?;
        let mut sent = self.headers(source, &envelope, onto_itself)?;
        let sealed_len = stored.sealed_len.get();
        let copied = if sealed_len <= self.gateway.backend.copy_max() {
            copy::pin_source(&mut sent, &source.etag);
            let copy = CopyObject { source: source.at.clone(), target: target.clone(), headers: sent, sealed_len };
            self.gateway.backend.copy_object(copy).await?
        } else {
            self.copy_in_parts(source, sent, sealed_len).await?
        };
        Ok(Done { copied, envelope, checksum })
    }

    /// What is stored beside the copy, and the conditions on its target.
    fn headers(&self, source: &Source, envelope: &Envelope, onto_itself: bool) -> Result<HeaderMap, Error> {
        let from = if self.replaces_metadata { MetadataFrom::FromRequest } else { MetadataFrom::FromSource(&source.headers) };
        let mut sent = copy::for_copy(&self.request.headers, &self.request.extensions, from, &envelope.encode())?;
        if onto_itself {
            copy::pin_target(&mut sent, &source.etag)?;
        }
        Ok(sent)
    }

    /// A source that is longer than one CopyObject may be: an upload whose parts the store copies.
    async fn copy_in_parts(&self, source: &Source, mut sent: HeaderMap, sealed_len: u64) -> Result<Copied, Error> {
        let conditions = copy::take_conditions(&mut sent);
        let owner_of_source = copy::as_upload(&mut sent);
        self.carry_tags(source, &mut sent).await?;
        let guards = headers::guards(&self.request.headers, &self.request.extensions);
        let (source, etag, target) = (source.at.clone(), source.etag.clone(), self.target.clone());
        let large = LargeCopy { source, etag, target, stored: sent, guards, owner_of_source, conditions, sealed_len };
        self.made(self.gateway.copy_in_parts(large).await?).await
    }

    /// Through the gateway: opened, and sealed under a new data key with the checksum that the copy is to have; in parts where it is too
    /// long for one request.
    async fn seal_anew(
        &self,
        source: &Source,
        guards: &HeaderMap,
        onto_itself: bool,
        algorithm: Option<ChecksumAlgorithm>,
        plain_len: u64,
    ) -> Result<Done, Error> {
        let plain_len = PlainLen::new(plain_len).filter(|len| len.get() <= LARGE_PLAIN_MAX).ok_or(Error::EntityTooLarge)?;
        let gateway = self.gateway;
        let layout = if plain_len.get() > gateway.multipart.put_max { Layout::Multipart } else { Layout::Single };
        let fresh = gateway.keys.fresh_with(&self.wanted.choice, &self.target.bucket, &self.target.key, layout).await?;
        let mut sent = self.headers(source, &fresh.envelope, onto_itself)?;
        copy::as_upload(&mut sent);
        self.carry_tags(source, &mut sent).await?;
        let mut conditions = guards.clone();
        conditions.insert(IF_MATCH, source.etag.clone());
        let plain = gateway.open_whole(&source.at.object, source.at.version_id.clone(), conditions, self.opener.as_ref()).await?;
        let check = Computed::new(algorithm);
        let computed = check.computed();
        let copied = match layout {
            Layout::Single => self.put_anew(stream::seal_object(plain, fresh.keys, plain_len, Box::new(check)), sent).await?,
            Layout::Multipart => {
                let conditions = copy::take_conditions(&mut sent);
                let guards = headers::guards(&self.request.headers, &self.request.extensions);
                let (mut created_with, mut completed_with) = (guards.clone(), guards.clone());
                created_with.extend(sent);
                completed_with.extend(conditions);
                let large = Large {
                    object: self.target.clone(),
                    length: plain_len,
                    keys: fresh.keys,
                    created_with,
                    guards,
                    completed_with,
                    check: Box::new(check),
                    algorithm,
                    explain: source_failed,
                };
                self.made(gateway.write_in_parts(large, plain).await?).await?
            }
        };
        let checksum = computed.get().map(super::check::checksum_headers).unwrap_or_default();
        Ok(Done { copied, envelope: fresh.envelope, checksum })
    }

    /// A body that was sealed anew, stored in one piece.
    async fn put_anew(&self, body: stream::SealedBody, sent: HeaderMap) -> Result<Copied, Error> {
        let outcome = body.outcome();
        let put = backend::PutObject { object: self.target.clone(), headers: sent, body };
        let answer = match self.gateway.backend.put_object(put).await {
            Ok(answer) => answer,
            // The store saw a short body; that the source could not be read to its end is why.
            Err(store) => return Err(outcome.take_error().map_or(Error::Backend(store), source_failed)),
        };
        let etag = answer.headers.get(http::header::ETAG).and_then(|tag| tag.to_str().ok());
        let etag = etag.ok_or(Error::Internal("the store gave no ETag"))?.to_owned();
        let last_modified = super::copy_source::date_of(&answer.headers);
        Ok(Copied { headers: answer.headers, etag, last_modified })
    }

    /// A copy that came into being as an upload. The end of an upload does not say when the object was made, and a copy has to.
    async fn made(&self, completed: CompletedUpload) -> Result<Copied, Error> {
        let mut copied = Copied { headers: completed.headers, etag: completed.etag, last_modified: None };
        let mut look = copy::for_target(&self.request.headers, &self.request.extensions);
        let etag = HeaderValue::from_str(&copied.etag).map_err(|_| Error::Internal("the store gave no ETag"))?;
        look.insert(IF_MATCH, etag);
        let version_id = copied.headers.get(VERSION_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let select = Select { object: self.target.clone(), version_id, headers: look, range: None };
        if let Ok(made) = self.gateway.backend.head_object(select).await {
            copied.last_modified = super::copy_source::last_modified(&made.headers);
        }
        Ok(copied)
    }

    /// Tags travel with a CopyObject by themselves; with anything else they have to be carried.
    async fn carry_tags(&self, source: &Source, sent: &mut HeaderMap) -> Result<(), Error> {
        if self.replaces_tags {
            return Ok(());
        }
        let guards = copy::for_source(&self.request.headers, &self.request.extensions);
        let name = HeaderName::from_static("x-amz-tagging");
        match self.gateway.tags_of(&source.at, guards).await? {
            Some(tags) => sent.insert(name, tags),
            None => sent.remove(name),
        };
        Ok(())
    }

    fn answer(&self, done: Done, source: &Source) -> S3Response<CopyObjectOutput> {
        let Done { copied, envelope, checksum } = done;
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(headers::mark_etag_text(&copied.etag))),
            last_modified: copied.last_modified.and_then(timestamp),
            ..CopyObjectResult::default()
        };
        put_checksum(&mut result, &checksum);
        let mut shown = headers::for_client_object(copied.headers);
        // The store's ETag header, if it sends one, says the same as the document does.
        shown.remove(http::header::ETAG);
        if let Some(version) = source.headers.get(VERSION_ID) {
            shown.entry(SOURCE_VERSION_ID).or_insert_with(|| version.clone());
        }
        self.gateway.announce(&mut shown, &envelope, self.wanted.customer_md5());
        let output = CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() };
        S3Response::with_headers(output, shown)
    }
}

/// The checksum that a copy is asked to have.
fn wanted_algorithm(client: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, Error> {
    let Some(name) = client.get("x-amz-checksum-algorithm") else { return Ok(None) };
    let known = |algorithm: &ChecksumAlgorithm| name.as_bytes().eq_ignore_ascii_case(algorithm.name().as_bytes());
    let found = ChecksumAlgorithm::ALL.into_iter().find(known);
    found.map(Some).ok_or(Error::InvalidRequest("Checksum algorithm provided is unsupported."))
}

/// Why a source could not be read to its end while it was sealed anew.
fn source_failed(error: stream::Error) -> Error {
    match error {
        stream::Error::Source(cause) => super::get_object::broken_off(cause),
        other => Error::Integrity(Box::new(other)),
    }
}

fn put_checksum(result: &mut CopyObjectResult, checksum: &Checksum) {
    for (name, value) in checksum {
        let Ok(value) = value.to_str().map(str::to_owned) else { continue };
        let field = match name.as_str() {
            "x-amz-checksum-crc32" => &mut result.checksum_crc32,
            "x-amz-checksum-crc32c" => &mut result.checksum_crc32c,
            "x-amz-checksum-crc64nvme" => &mut result.checksum_crc64nvme,
            "x-amz-checksum-sha1" => &mut result.checksum_sha1,
            "x-amz-checksum-sha256" => &mut result.checksum_sha256,
            "x-amz-checksum-sha512" => &mut result.checksum_sha512,
            "x-amz-checksum-md5" => &mut result.checksum_md5,
            "x-amz-checksum-xxhash64" => &mut result.checksum_xxhash64,
            "x-amz-checksum-xxhash3" => &mut result.checksum_xxhash3,
            "x-amz-checksum-xxhash128" => &mut result.checksum_xxhash128,
            _ => {
                result.checksum_type = Some(dto::ChecksumType::from(value));
                continue;
            }
        };
        *field = Some(value);
    }
}
