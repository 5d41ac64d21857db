//! What a load costs at the key service, by the service's own count, and whether the gateway's metrics say the same.

use std::time::Duration;

use futures::StreamExt as _;

use super::fake::{Counts, FakeKms, Mood, is_read, put};
use crate::kit::{Site, wait_until};

const CALLS: &str = "ciphergate_kms_calls_total";
const REQUESTS: &str = "ciphergate_requests_total";
const USED: &str = "ciphergate_keys_used_total";
const LOOKUPS: &str = "ciphergate_key_cache_lookups_total";

#[tokio::test]
async fn shared_mode_costs_less_than_five_calls_for_a_thousand_requests() {
    let mut told = Vec::new();
    for (mode, most) in [("per-object", 2000), ("shared", 4)] {
        let kms = FakeKms::start().await;
        let site = Site::launch(|launch| launch.kms(kms.key()).set("CIPHERGATE_ENCRYPTION__MODE", mode)).await;
        site.gateway.wait_ready().await;
        let (client, bucket) = (site.client(), site.bucket("cost").await);
        wait_until(Duration::from_secs(10), || site.gateway.in_flight() == 0).await;
        kms.calls();
        let begun = Counts::of(&site.gateway);
        let (client, bucket) = (&client, &bucket);
        let puts = (0..1000).map(|n| async move { put(client, bucket, &format!("k{n}")).await });
        futures::stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
        let written = kms.calls();
        let gets = (0..1000).map(|n| async move { is_read(client, bucket, &format!("k{n}")).await });
        futures::stream::iter(gets).buffer_unordered(16).collect::<Vec<_>>().await;
        let read = kms.calls();
        println!("{mode}: {written} KMS calls for 1,000 PUTs, {read} for 1,000 GETs");
        assert!(written <= most && read <= most, "{mode}: {written} {read}");
        told.push((written, read));

        // The same by the gateway's own counts, as docs/KEYS.md has it.
        wait_until(Duration::from_secs(10), || site.gateway.in_flight() == 0).await;
        let ended = Counts::of(&site.gateway);
        let grown = |name: &str, labels: &[&str]| ended.since(&begun, name, labels);
        assert_eq!(grown(REQUESTS, &[]), 2000.0);
        assert_eq!(grown(CALLS, &["operation=\"GenerateDataKey\""]), written as f64);
        assert_eq!(grown(CALLS, &["operation=\"Decrypt\""]), read as f64);
        let per_thousand = 1000.0 * (written + read) as f64 / 2000.0;
        assert_eq!(1000.0 * grown(CALLS, &[]) / grown(REQUESTS, &[]), per_thousand);
        assert_eq!(1000.0 * grown(CALLS, &[]) / grown(USED, &[]), per_thousand);
        assert_eq!((grown(USED, &["use=\"seal\""]), grown(USED, &["use=\"open\""])), (1000.0, 1000.0));
        let found = |cache: &str, outcome: &str| grown(LOOKUPS, &[cache, outcome]);
        let (reads, writes) = ("cache=\"unwrapped\"", "cache=\"shared\"");
        assert_eq!(found(reads, "outcome=\"miss\""), read as f64);
        assert_eq!(grown(LOOKUPS, &[reads]), 1000.0);
        assert_eq!(grown(LOOKUPS, &[writes]), if mode == "shared" { 1000.0 } else { 0.0 });
        assert_eq!(found(writes, "outcome=\"miss\""), if mode == "shared" { written as f64 } else { 0.0 });
    }
    assert_eq!(told[0], (1000, 1000), "the counting counts");
}

#[tokio::test]
async fn a_hundred_readers_of_one_object_make_one_call() {
    let kms = FakeKms::start().await;
    let site = Site::launch(|launch| launch.kms(kms.key())).await;
    site.gateway.wait_ready().await;
    let (client, bucket) = (site.client(), site.bucket("coalesced").await);
    put(&client, &bucket, "k").await;
    kms.calls();
    let begun = Counts::of(&site.gateway);
    // Long enough for most to come while the first is under way.
    kms.feels(Mood::Slow(Duration::from_millis(1500)));
    futures::future::join_all((0..100).map(|_| is_read(&client, &bucket, "k"))).await;
    assert_eq!(kms.calls(), 1);
    let ended = Counts::of(&site.gateway);
    let found = |outcome: &str| ended.since(&begun, LOOKUPS, &["cache=\"unwrapped\"", &format!("outcome=\"{outcome}\"")]);
    let (hits, misses, coalesced) = (found("hit"), found("miss"), found("coalesced"));
    assert_eq!((misses, hits + coalesced), (1.0, 99.0));
    assert!(coalesced >= 50.0, "{hits} {coalesced}");
}
