//! The `object_store` crate against an S3 endpoint: `object-store-client ENDPOINT BUCKET REGION STEP`. One step a run; it checks its
//! own bytes and ends with an error when something is not as S3 has it. Credentials come from the environment.

use std::collections::BTreeMap;
use std::error::Error;

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig, UpdateVersion, WriteMultipart,
};

type Outcome = Result<(), Box<dyn Error>>;
const MIB: usize = 1 << 20;

fn payload(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

fn ensure(holds: bool, what: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

async fn holds(store: &AmazonS3, path: &Path, body: &[u8]) -> Outcome {
    let size = store.head(path).await?.size;
    ensure(size == body.len() as u64, format!("{path}: {size} bytes, not {}", body.len()))?;
    ensure(store.get(path).await?.bytes().await? == body, format!("{path}: other bytes"))
}

async fn put(store: &AmazonS3) -> Outcome {
    for size in [0, 1, 65_535, 65_536, 65_537, 300_000] {
        let (path, body) = (Path::from(format!("put/ü a+b {size}")), payload(size, 1));
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, "text/x-test".into());
        attributes.insert(Attribute::Metadata("colour".into()), "blue".into());
        store
            .put_opts(&path, body.clone().into(), PutOptions { attributes: attributes.clone(), ..PutOptions::default() })
            .await?;
        holds(store, &path, &body).await?;
        let got = store.get(&path).await?.attributes;
        ensure(got.get(&Attribute::Metadata("colour".into())) == Some(&"blue".into()), format!("attributes {got:?}"))?;
        ensure(got.get(&Attribute::ContentType) == Some(&"text/x-test".into()), format!("attributes {got:?}"))?;
    }
    Ok(())
}

async fn ranges(store: &AmazonS3) -> Outcome {
    let (path, body) = (Path::from("ranges"), payload(400_000, 2));
    store.put(&path, body.clone().into()).await?;
    let got = store.get_ranges(&path, &[0..1, 65_530..65_542, 399_990..400_000]).await?;
    ensure(got == [&body[..1], &body[65_530..65_542], &body[399_990..]], "ranges: other bytes")?;
    for (range, want) in [(GetRange::Suffix(70_000), &body[330_000..]), (GetRange::Offset(399_000), &body[399_000..])] {
        let options = GetOptions { range: Some(range.clone()), ..GetOptions::default() };
        ensure(store.get_opts(&path, options).await?.bytes().await? == want, format!("{range:?}: other bytes"))?;
    }
    Ok(())
}

async fn multipart(store: &AmazonS3) -> Outcome {
    let (path, body) = (Path::from("multipart"), payload(17 * MIB + 4_321, 3));
    let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await?, 5 * MIB);
    for piece in body.chunks(1_000_003) {
        upload.wait_for_capacity(4).await?;
        upload.write(piece);
    }
    upload.finish().await?;
    holds(store, &path, &body).await?;
    let aborted = Path::from("aborted");
    let mut upload = store.put_multipart(&aborted).await?;
    upload.put_part(vec![0; 5 * MIB].into()).await?;
    upload.abort().await?;
    ensure(matches!(store.head(&aborted).await, Err(StoreError::NotFound { .. })), "an aborted upload is there")
}

async fn list(store: &AmazonS3) -> Outcome {
    let want = BTreeMap::from([("list/a", 1_u64), ("list/b c", 65_537), ("list/d/e+f", 70_000), ("list/g", 0)]);
    for (key, size) in &want {
        store.put(&Path::from(*key), payload(usize::try_from(*size)?, 4).into()).await?;
    }
    let prefix = Path::from("list");
    let seen: BTreeMap<String, u64> =
        store.list(Some(&prefix)).map_ok(|entry| (entry.location.to_string(), entry.size)).try_collect().await?;
    ensure(
        seen.iter().map(|(key, size)| (key.as_str(), *size)).eq(want.iter().map(|(key, size)| (*key, *size))),
        format!("{seen:?}"),
    )?;
    let top = store.list_with_delimiter(Some(&prefix)).await?;
    ensure(top.common_prefixes == [Path::from("list/d")] && top.objects.len() == 3, format!("{top:?}"))?;
    let paths = store.list(Some(&prefix)).map_ok(|entry| entry.location).boxed();
    let gone: Vec<Path> = store.delete_stream(paths).try_collect().await?;
    ensure(gone.len() == 4 && store.list(Some(&prefix)).next().await.is_none(), "not all are deleted")
}

async fn copy(store: &AmazonS3) -> Outcome {
    let (from, body) = (Path::from("from a+b"), payload(200_000, 5));
    store.put(&from, body.clone().into()).await?;
    store.copy(&from, &Path::from("copy")).await?;
    store.rename(&from, &Path::from("renamed")).await?;
    holds(store, &Path::from("copy"), &body).await?;
    holds(store, &Path::from("renamed"), &body).await?;
    ensure(matches!(store.head(&from).await, Err(StoreError::NotFound { .. })), "the renamed object is still there")
}

/// What table formats build their commits on.
async fn conditions(store: &AmazonS3) -> Outcome {
    let path = Path::from("conditions");
    let created = store.put_opts(&path, "one".into(), PutMode::Create.into()).await?;
    let again = store.put_opts(&path, "two".into(), PutMode::Create.into()).await;
    ensure(matches!(again, Err(StoreError::AlreadyExists { .. })), format!("a second create: {again:?}"))?;
    let updated = store.put_opts(&path, "three".into(), PutMode::Update(UpdateVersion::from(created.clone())).into()).await?;
    let stale = store.put_opts(&path, "four".into(), PutMode::Update(UpdateVersion::from(created)).into()).await;
    ensure(matches!(stale, Err(StoreError::Precondition { .. })), format!("an update of an old state: {stale:?}"))?;
    let options = GetOptions { if_match: updated.e_tag, ..GetOptions::default() };
    ensure(store.get_opts(&path, options).await?.bytes().await? == "three", "other bytes")
}

async fn step(name: &str, builder: AmazonS3Builder) -> Outcome {
    for checksum in [None, Some(Checksum::SHA256)] {
        let store = match checksum {
            None => builder.clone(),
            Some(checksum) => builder.clone().with_checksum_algorithm(checksum),
        }
        .build()?;
        match name {
            "put" => put(&store).await?,
            "ranges" => ranges(&store).await?,
            "multipart" => multipart(&store).await?,
            "list" => list(&store).await?,
            "copy" => copy(&store).await?,
            "conditions" => {
                conditions(&store).await?;
                store.delete(&Path::from("conditions")).await?;
            }
            other => return Err(format!("no step {other:?}").into()),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, bucket, region, name] = arguments.as_slice() else { return Err("ENDPOINT BUCKET REGION STEP".into()) };
    let builder = AmazonS3Builder::from_env()
        .with_endpoint(endpoint)
        .with_bucket_name(bucket)
        .with_region(region)
        .with_allow_http(true)
        .with_virtual_hosted_style_request(false)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    step(name, builder).await?;
    println!("{{\"step\": \"{name}\"}}");
    Ok(())
}
