//! GetObjectAttributes: what the headers and the sealed footer say of an object, in one document.

use http::HeaderMap;
use s3s::dto::{
    Checksum, ChecksumType, ETag, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts, ObjectPart,
    StorageClass, Timestamp, TimestampFormat,
};
use s3s::{S3Request, S3Response};

use super::check::{part_checksum, shown_checksum};
use super::object::Found;
use super::protection::Opener;
use super::{Error, Gateway, headers};
use crate::backend::{ObjectName, Select};
use crate::format::{ChecksumKind, Footer};
use crate::keys;

const ASKED: &str = "x-amz-object-attributes";
/// S3's page of parts, and its largest.
const PARTS_MAX: i32 = 1000;

/// The attributes that a client asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    etag: bool,
    checksum: bool,
    parts: bool,
    storage_class: bool,
    size: bool,
}

impl Asked {
    /// # Errors
    /// No attribute, or one that S3 does not have.
    fn read(client: &HeaderMap) -> Result<Self, Error> {
        let mut asked = Self::default();
        let texts = client.get_all(ASKED).iter().map(|value| value.to_str().unwrap_or("?"));
        for name in texts.flat_map(|text| text.split(',')).map(str::trim) {
            match name {
                "ETag" => asked.etag = true,
                "Checksum" => asked.checksum = true,
                "ObjectParts" => asked.parts = true,
                "StorageClass" => asked.storage_class = true,
                "ObjectSize" => asked.size = true,
                _ => return Err(Error::InvalidArgument("Invalid attribute name specified.")),
            }
        }
        if asked == Self::default() {
            return Err(Error::InvalidRequest(
                "The x-amz-object-attributes header specifying the attributes to be retrieved is required.",
            ));
        }
        Ok(asked)
    }
}

impl Gateway {
    pub(super) async fn attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> Result<S3Response<GetObjectAttributesOutput>, Error> {
        let asked = Asked::read(&req.headers)?;
        let page = Page::new(req.input.max_parts, req.input.part_number_marker)?;
        let object = ObjectName { bucket: req.input.bucket, key: req.input.key };
        let version_id = req.input.version_id;
        let guards = headers::guards(&req.headers, &req.extensions);
        let select = |headers| Select { object: object.clone(), version_id: version_id.clone(), headers, range: None };
        let own = Opener::of_read(&req.headers, &req.extensions)?;
        let (answer, found) = self.look(select(headers::for_read(&req.headers, &req.extensions)?), &guards).await?;

        let mut output = GetObjectAttributesOutput::default();
        let text = |name: &str| answer.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if asked.storage_class {
            output.storage_class = Some(StorageClass::from(text("x-amz-storage-class").unwrap_or_else(|| "STANDARD".to_owned())));
        }
        output.last_modified = text("last-modified").and_then(|at| Timestamp::parse(TimestampFormat::HttpDate, &at).ok());
        let (len, shown) = match &found {
            Found::Sealed(stored) => {
                let footer_wanted = asked.checksum || (asked.parts && stored.envelope.flags().multipart);
                // The client's own key is demanded to look at an object, too.
                let keys = match footer_wanted || stored.envelope.flags().customer || own.is_some() {
                    true => Some(self.unlock(&object, stored, own.as_ref()).await?),
                    false => None,
                };
                if let Some(keys) = keys.filter(|_| footer_wanted) {
                    let footer = self.footer(&object, version_id.clone(), guards.clone(), stored, &keys).await?;
                    if asked.checksum {
                        output.checksum = checksum_of(shown_checksum(&footer));
                    }
                    if asked.parts && !footer.parts.is_empty() {
                        output.object_parts = Some(page.of(&footer));
                    }
                }
                (stored.plain_len.get(), headers::for_client(answer))
            }
            Found::Plain(_) | Found::AwsClient(_) if own.is_some() => return Err(keys::Error::CustomerKeySuperfluous.into()),
            Found::Plain(plain) => {
                if asked.checksum {
                    output.checksum = checksum_of(self.plain_checksum(select(guards.clone()), plain).await?);
                }
                (plain.len, headers::for_client_plaintext(answer))
            }
            Found::AwsClient(stored) => (stored.plain_len, stored.show(answer)),
        };
        if asked.size {
            output.object_size = Some(i64::try_from(len).map_err(|_| Error::Internal("length does not fit"))?);
        }
        if asked.etag {
            let etag = shown.get(http::header::ETAG).and_then(|value| value.to_str().ok());
            // Without quotes in this document alone.
            output.e_tag = etag.map(|tag| ETag::Strong(tag.trim_matches('"').to_owned()));
        }
        Ok(S3Response::with_headers(output, kept(&shown)))
    }
}

/// The headers of an answer that is about an object and does not carry it.
fn kept(shown: &HeaderMap) -> HeaderMap {
    let names =
        ["x-amz-version-id", "x-amz-delete-marker", "x-amz-request-charged", headers::PLAINTEXT_MARK, headers::AWS_CLIENT_MARK];
    shown.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Headers as the elements that they are here. The number of parts behind a composite checksum is left out, as S3 does.
fn checksum_of(headers: Vec<(http::HeaderName, http::HeaderValue)>) -> Option<Checksum> {
    let mut checksum = Checksum::default();
    for (name, value) in &headers {
        let text = value.to_str().ok()?;
        if name.as_str() == "x-amz-checksum-type" {
            checksum.checksum_type = Some(ChecksumType::from(text.to_owned()));
            continue;
        }
        let value = Some(text.split_once('-').map_or(text, |(value, _)| value).to_owned());
        match name.as_str() {
            "x-amz-checksum-crc32" => checksum.checksum_crc32 = value,
            "x-amz-checksum-crc32c" => checksum.checksum_crc32c = value,
            "x-amz-checksum-crc64nvme" => checksum.checksum_crc64nvme = value,
            "x-amz-checksum-sha1" => checksum.checksum_sha1 = value,
            "x-amz-checksum-sha256" => checksum.checksum_sha256 = value,
            "x-amz-checksum-sha512" => checksum.checksum_sha512 = value,
            "x-amz-checksum-md5" => checksum.checksum_md5 = value,
            "x-amz-checksum-xxhash64" => checksum.checksum_xxhash64 = value,
            "x-amz-checksum-xxhash3" => checksum.checksum_xxhash3 = value,
            "x-amz-checksum-xxhash128" => checksum.checksum_xxhash128 = value,
            _ => {}
        }
    }
    (!headers.is_empty()).then_some(checksum)
}

/// Which parts to list.
#[derive(Clone, Copy)]
struct Page {
    max: i32,
    after: i32,
}

impl Page {
    fn new(max_parts: Option<i32>, after: Option<i32>) -> Result<Self, Error> {
        let (max, after) = (max_parts.unwrap_or(PARTS_MAX), after.unwrap_or(0));
        if max < 0 || after < 0 {
            return Err(Error::InvalidArgument("x-amz-max-parts and x-amz-part-number-marker are not negative"));
        }
        Ok(Self { max: max.min(PARTS_MAX), after })
    }

    fn of(self, footer: &Footer) -> GetObjectAttributesParts {
        let total_parts_count = i32::try_from(footer.parts.len()).ok();
        // S3 lists parts for the sake of their checksums, and keeps those only where the object's is made of them.
        if footer.checksum.is_none_or(|checksum| checksum.kind() == ChecksumKind::FullObject) {
            return GetObjectAttributesParts { total_parts_count, ..GetObjectAttributesParts::default() };
        }
        let size = usize::try_from(self.max).unwrap_or_default();
        let mut rest = footer.parts.iter().filter(|part| i32::from(part.number) > self.after);
        let parts: Vec<ObjectPart> = rest
            .by_ref()
            .take(size)
            .map(|part| {
                let sums = footer.checksum.and_then(|whole| checksum_of(part_checksum(&whole, part))).unwrap_or_default();
                ObjectPart {
                    part_number: Some(i32::from(part.number)),
                    size: i64::try_from(part.plain_len.get()).ok(),
                    checksum_crc32: sums.checksum_crc32,
                    checksum_crc32c: sums.checksum_crc32c,
                    checksum_crc64nvme: sums.checksum_crc64nvme,
                    checksum_md5: sums.checksum_md5,
                    checksum_sha1: sums.checksum_sha1,
                    checksum_sha256: sums.checksum_sha256,
                    checksum_sha512: sums.checksum_sha512,
                    checksum_xxhash64: sums.checksum_xxhash64,
                    checksum_xxhash3: sums.checksum_xxhash3,
                    checksum_xxhash128: sums.checksum_xxhash128,
                }
            })
            .collect();
        let last = parts.last().and_then(|part| part.part_number);
        GetObjectAttributesParts {
            total_parts_count,
            part_number_marker: Some(self.after),
            next_part_number_marker: last.or(Some(self.after)),
            max_parts: Some(self.max),
            is_truncated: Some(rest.next().is_some()),
            parts: Some(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ChecksumAlgorithm, ChecksumBytes, ObjectChecksum, PlainLen, TableEntry};

    #[test]
    fn attributes_are_named_in_one_header_or_in_many() {
        let mut headers = HeaderMap::new();
        assert!(matches!(Asked::read(&headers), Err(Error::InvalidRequest(_))));
        headers.append(ASKED, "ETag,ObjectSize".parse().unwrap());
        headers.append(ASKED, " Checksum".parse().unwrap());
        assert_eq!(Asked::read(&headers).unwrap(), Asked { etag: true, checksum: true, size: true, ..Asked::default() });
        headers.append(ASKED, "Colour".parse().unwrap());
        assert!(matches!(Asked::read(&headers), Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn parts_come_in_pages_with_their_checksums() {
        let entry = |number| TableEntry {
            number,
            plain_len: PlainLen::new(5).unwrap(),
            part_id: None,
            checksum: ChecksumBytes::new(&[7; 4]).unwrap(),
        };
        let footer = Footer {
            plain_len: PlainLen::new(15).unwrap(),
            time_ms: 0,
            checksum: Some(ObjectChecksum::composite(ChecksumAlgorithm::Crc32)),
            crc64: None,
            md5: None,
            parts: vec![entry(1), entry(3), entry(8)],
        };
        let numbers = |max, after| {
            let page = Page::new(max, after).unwrap().of(&footer);
            assert_eq!(page.total_parts_count, Some(3));
            let numbers: Vec<_> = page.parts.unwrap().iter().map(|part| part.part_number.unwrap()).collect();
            (numbers, page.is_truncated.unwrap(), page.next_part_number_marker.unwrap())
        };
        assert_eq!(numbers(None, None), (vec![1, 3, 8], false, 8));
        assert_eq!(numbers(Some(2), None), (vec![1, 3], true, 3));
        assert_eq!(numbers(Some(2), Some(3)), (vec![8], false, 8));
        assert_eq!(numbers(Some(0), Some(1)), (vec![], true, 1));
        let first = Page::new(None, None).unwrap().of(&footer).parts.unwrap().remove(0);
        assert_eq!((first.size, first.checksum_crc32.as_deref()), (Some(5), Some("BwcHBw==")));
        assert!(Page::new(Some(-1), None).is_err());
        let checksum = Some(ObjectChecksum::full_object(ChecksumAlgorithm::Crc32, &[1; 4]).unwrap());
        for checksum in [checksum, None] {
            let page = Page::new(None, None).unwrap().of(&Footer { checksum, ..footer.clone() });
            assert_eq!((page.total_parts_count, page.is_truncated, page.parts), (Some(3), None, None));
        }
    }

    #[test]
    fn a_composite_checksum_loses_its_number_of_parts() {
        let header = |name: &'static str, value: &'static str| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        let sum =
            checksum_of(vec![header("x-amz-checksum-sha1", "AAAA=-3"), header("x-amz-checksum-type", "COMPOSITE")]).unwrap();
        assert_eq!((sum.checksum_sha1.as_deref(), sum.checksum_type.unwrap().as_str()), (Some("AAAA="), "COMPOSITE"));
        assert!(checksum_of(Vec::new()).is_none());
    }
}
