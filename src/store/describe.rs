//! GetObjectAttributes: what is known of an object, without its bytes.

use std::sync::Arc;

use s3s::{S3Error, S3ErrorCode, S3Result, dto};

use super::checks::set_checksum;
use super::headers::CHECKSUM_TYPE;
use super::index::contents::Segment;
use super::index::{buckets, contents, versions};
use super::listing::{PAGE_MAX, page_max};
use super::read::timestamp;
use super::{Store, blocking};

const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

/// Answers GetObjectAttributes.
pub(super) async fn describe(
    store: &Arc<Store>,
    input: dto::GetObjectAttributesInput,
) -> S3Result<dto::GetObjectAttributesOutput> {
    // Some clients send a header for each name, others one header for all; the protocol library takes neither apart.
    let names = input.object_attributes.iter().flat_map(|names| names.as_str().split(','));
    let asked: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
    if asked.is_empty() || asked.iter().any(|name| !KNOWN.contains(&name.as_str())) {
        return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, "Invalid attribute name specified."));
    }
    let wants = move |name: &str| asked.iter().any(|asked| asked == name);
    let max = page_max(input.max_parts, "max-parts")?;
    let after = u32::try_from(input.part_number_marker.unwrap_or_default()).map_err(|_| S3ErrorCode::InvalidArgument)?;
    let store = Arc::clone(store);
    let work = move || {
        store.index.view(|snapshot| {
            let bucket = buckets::find(snapshot, &input.bucket)?;
            let (version, content) = versions::readable(snapshot, &bucket, &input.key, input.version_id.as_deref())?;
            let attributes = &version.attributes;
            let checksum = attributes.headers.checksum();
            let mut output = dto::GetObjectAttributesOutput {
                last_modified: Some(timestamp(version.modified_ms)),
                version_id: bucket.shown(version.id.clone()),
                ..Default::default()
            };
            if wants("ETag") {
                output.e_tag = Some(dto::ETag::Strong(version.etag.clone()));
            }
            if wants("ObjectSize") {
                output.object_size = i64::try_from(version.size).ok();
            }
            if wants("StorageClass") {
                let class = attributes.storage_class.clone();
                output.storage_class = Some(class.unwrap_or_else(|| "STANDARD".to_owned()).into());
            }
            if wants("Checksum")
                && let Some((algorithm, value)) = checksum
            {
                let kind = attributes.headers.get(CHECKSUM_TYPE).unwrap_or("FULL_OBJECT");
                let mut document = dto::Checksum { checksum_type: Some(kind.to_owned().into()), ..Default::default() };
                set_checksum!(document, algorithm, value.to_owned());
                output.checksum = Some(document);
            }
            if wants("ObjectParts")
                && let Some(count) = version.parts
            {
                let mut segments = contents::segments(snapshot, content, after, max + 1)?;
                let truncated = segments.len() > max;
                segments.truncate(max);
                output.object_parts = Some(parts(segments, count, after, max, truncated, checksum.map(|(name, _)| name)));
            }
            Ok(output)
        })
    };
    Ok(blocking(work).await?)
}

/// S3 lists the parts one by one only when they have checksums.
fn parts(
    segments: Vec<Segment>,
    count: u32,
    after: u32,
    max: usize,
    truncated: bool,
    algorithm: Option<&str>,
) -> dto::GetObjectAttributesParts {
    let mut document = dto::GetObjectAttributesParts { total_parts_count: i32::try_from(count).ok(), ..Default::default() };
    let Some(algorithm) = algorithm else { return document };
    document.max_parts = i32::try_from(max.min(PAGE_MAX)).ok();
    document.part_number_marker = i32::try_from(after).ok();
    document.is_truncated = Some(truncated);
    document.next_part_number_marker = segments.last().and_then(|last| i32::try_from(last.number).ok());
    let parts = segments.into_iter().map(|segment| {
        let mut part = dto::ObjectPart {
            part_number: i32::try_from(segment.number).ok(),
            size: i64::try_from(segment.size).ok(),
            ..Default::default()
        };
        if let Some(checksum) = segment.checksum {
            set_checksum!(part, algorithm, checksum);
        }
        part
    });
    document.parts = Some(parts.collect());
    document
}
