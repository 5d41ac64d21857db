//! A key service that misbehaves, behind the real gateway: what goes on, what is answered, and how many calls it costs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use futures::StreamExt as _;

use super::fake::{Counts, FakeKms, Mood, is_read, put};
use crate::kit::{Site, code, wait_until};

/// Reads at one time.
const AT_ONCE: usize = 50;
/// Of the 1,000 reads those whose key is not in memory.
const COLD: usize = 500;

const CALLS: &str = "ciphergate_kms_calls_total";
const FAILURES: &str = "ciphergate_kms_failures_total";
const REFUSED: &str = "ciphergate_kms_refused_total";
const OPENED: &str = "ciphergate_kms_breaker_opened_total";
const LOOKUPS: &str = "ciphergate_key_cache_lookups_total";
const INTEGRITY: &str = "ciphergate_integrity_failures_total";

struct Trouble {
    name: &'static str,
    mood: Mood,
    /// What the client hears.
    code: &'static str,
    /// The word of log and metrics for what the key service did.
    kind: &'static str,
    /// The same for what the open breaker answers, where it opens.
    breaker: Option<&'static str>,
    /// The log line of each refused read.
    line: &'static str,
}

const TROUBLES: [Trouble; 7] = [
    Trouble {
        name: "throttling",
        mood: Mood::Refuses(400, "ThrottlingException", "Rate exceeded"),
        code: "SlowDown",
        kind: "throttled",
        breaker: Some("throttled"),
        line: "no key for an object",
    },
    Trouble {
        name: "outage",
        mood: Mood::Refuses(503, "KMSInternalException", ""),
        code: "ServiceUnavailable",
        kind: "unavailable",
        breaker: Some("unavailable"),
        line: "no key for an object",
    },
    Trouble {
        name: "access denied",
        mood: Mood::Refuses(400, "AccessDeniedException", "no"),
        code: "AccessDenied",
        kind: "access_denied",
        breaker: None,
        line: "no key for an object",
    },
    Trouble {
        name: "disabled",
        mood: Mood::Refuses(400, "DisabledException", "is disabled."),
        code: "KMS.DisabledException",
        kind: "key_disabled",
        breaker: None,
        line: "no key for an object",
    },
    Trouble {
        name: "deletion",
        mood: Mood::Refuses(400, "KMSInvalidStateException", "is pending deletion."),
        code: "KMS.KMSInvalidStateException",
        kind: "key_pending_deletion",
        breaker: None,
        line: "no key for an object",
    },
    Trouble {
        name: "wrong context",
        mood: Mood::Refuses(400, "InvalidCiphertextException", ""),
        code: "IntegrityCheckFailed",
        kind: "invalid_ciphertext",
        breaker: None,
        line: "an object failed its integrity check",
    },
    Trouble {
        name: "silence",
        mood: Mood::Silent,
        code: "ServiceUnavailable",
        kind: "timed_out",
        breaker: Some("unavailable"),
        line: "no key for an object",
    },
];

/// 1,000 reads, every other one of an object whose key is in memory. Gives the codes of the others, and the slowest.
async fn thousand_reads(client: &Client, bucket: &str) -> (HashMap<String, usize>, Duration) {
    let reads = (0..1000).map(|n| async move {
        let begun = Instant::now();
        let told = if n % 2 == 0 {
            is_read(client, bucket, &format!("warm-{}", n % 20)).await;
            None
        } else {
            Some(code(client.get_object().bucket(bucket).key(format!("cold-{}", n % 100)).send().await))
        };
        (told, begun.elapsed())
    });
    let done: Vec<_> = futures::stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
    let mut codes = HashMap::new();
    for code in done.iter().filter_map(|(told, _)| told.clone()) {
        *codes.entry(code).or_default() += 1;
    }
    (codes, done.iter().map(|(_, took)| *took).max().unwrap_or_default())
}

#[tokio::test]
async fn a_thousand_reads_through_every_kind_of_trouble() {
    let kms = FakeKms::start().await;
    let site = Site::launch(|launch| launch.kms(kms.key())).await;
    site.gateway.wait_ready().await;
    let (client, bucket) = (site.client(), site.bucket("outage").await);
    for n in 0..100 {
        put(&client, &bucket, &format!("cold-{n}")).await;
    }
    for n in 0..20 {
        put(&client, &bucket, &format!("warm-{n}")).await;
        is_read(&client, &bucket, &format!("warm-{n}")).await;
    }
    for Trouble { name, mood, code, kind, breaker, line } in TROUBLES {
        kms.calls();
        let (before, logged) = (Counts::of(&site.gateway), site.gateway.log_text().len());
        kms.feels(mood);
        let begun = Instant::now();
        let (codes, slowest) = thousand_reads(&client, &bucket).await;
        let (took, calls) = (begun.elapsed(), kms.calls());
        println!("{name}: 1,000 reads in {took:.2?}, the slowest {slowest:.2?}, {calls} KMS calls, {codes:?}");
        wait_until(Duration::from_secs(10), || site.gateway.in_flight() == 0).await;

        // What clients hear.
        assert_eq!(codes, HashMap::from([(code.to_owned(), COLD)]), "{name}");
        assert!(slowest < Duration::from_secs(14), "{name}: {slowest:?}");

        // What it costs. Only what began before the breaker opened, at five failures in a row, and a probe each time that it was open. Permanent
        // states are answers: one for each read, and none is asked for twice.
        let most = match breaker {
            Some(_) => 4 + AT_ONCE + took.as_millis() as usize / 1500 + 1,
            None => COLD,
        };
        assert!((1..=most).contains(&calls), "{name}: {calls} calls of {most}");

        // What the metrics say.
        let after = Counts::of(&site.gateway);
        let grown = |metric: &str, labels: &[&str]| after.since(&before, metric, labels);
        let of_kind = |kind: &str| format!("kind=\"{kind}\"");
        let decrypt = ["label=\"local\"", "operation=\"Decrypt\"", &of_kind(kind)];
        assert_eq!(grown(FAILURES, &decrypt), calls as f64, "{name}");
        assert_eq!((grown(FAILURES, &[]), grown(CALLS, &[])), (calls as f64, calls as f64), "{name}: no other kind");
        let (found, kept) = (["cache=\"unwrapped\""], ["cache=\"unwrapped\"", "outcome=\"hit\""]);
        assert_eq!((grown(LOOKUPS, &found), grown(LOOKUPS, &kept)), (1000.0, 500.0), "{name}");
        let misses = grown(LOOKUPS, &["cache=\"unwrapped\"", "outcome=\"miss\""]);
        match breaker {
            Some(answers) => {
                let refused = grown(REFUSED, &["label=\"local\"", "reason=\"breaker\"", &of_kind(answers)]);
                assert!(refused >= 1.0 && refused == grown(REFUSED, &[]), "{name}: {refused}");
                let opened = grown(OPENED, &["label=\"local\"", "rule=\"in_a_row\"", &of_kind(answers)]);
                assert!(opened == 1.0 && opened == grown(OPENED, &[]), "{name}: {opened}");
            }
            None => {
                assert_eq!(calls as f64, misses, "{name}: one call for each read that had to ask");
                assert_eq!((grown(REFUSED, &[]), grown(OPENED, &[])), (0.0, 0.0), "{name}");
            }
        }
        assert_eq!(grown(INTEGRITY, &[]), if code == "IntegrityCheckFailed" { 500.0 } else { 0.0 }, "{name}");

        // What the log says: a line for each refused read, and one where the breaker opens.
        let log = site.gateway.log_text();
        let log = &log[logged..];
        let lines = |text: &str, kind: &str| {
            let kind = format!("\"kind\":\"{kind}\"");
            log.lines().filter(|line| line.contains(text) && line.contains(&kind)).count()
        };
        let of_service = lines(line, kind);
        let of_breaker = breaker.filter(|answers| *answers != kind).map_or(0, |answers| lines(line, answers));
        assert!(of_service >= 1 && of_service + of_breaker == COLD, "{name}: {of_service} and {of_breaker} lines");
        let keeps = if kind == "throttled" { "the key service keeps throttling" } else { "the key service keeps failing" };
        let opened = breaker.map_or(0, |answers| lines(keeps, answers));
        assert_eq!((opened, log.matches("the key service keeps").count()), (opened, opened), "{name}");
        assert_eq!(opened, usize::from(breaker.is_some()), "{name}");

        // It heals by itself.
        kms.feels(Mood::Fine);
        let until = Instant::now() + Duration::from_secs(10);
        while client.get_object().bucket(&bucket).key("cold-0").send().await.is_err() {
            assert!(Instant::now() < until, "{name}: no recovery");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        put(&client, &bucket, "cold-0").await;
    }
    wait_until(Duration::from_secs(10), || site.gateway.in_flight() == 0).await;
    assert_eq!(Counts::of(&site.gateway).sum("ciphergate_kms_breaker_state", &["label=\"local\""]), 0.0);
}

#[tokio::test]
async fn the_limits_are_those_of_the_configuration() {
    let kms = FakeKms::start().await;
    let limits = "[kms]\nconnect_timeout_secs = 1\nattempt_timeout_secs = 1\ncall_timeout_secs = 2\nattempts_max = 1\nbreaker_failures = 1\n\
                  breaker_open_secs = 300\ncalls_max = 2\nwaiting_max = 1\n";
    let site = Site::launch(|launch| launch.kms(kms.key()).more(limits)).await;
    site.gateway.wait_ready().await;
    let (client, bucket) = (site.client(), site.bucket("limits").await);
    for n in 0..10 {
        put(&client, &bucket, &format!("k{n}")).await;
    }
    kms.calls();
    kms.feels(Mood::Silent);
    let read = async |n: usize| code(client.get_object().bucket(&bucket).key(format!("k{n}")).send().await);
    let begun = Instant::now();
    let told = futures::future::join_all((0..10).map(read)).await;
    // Two call, for a second and not tried again, one waits until the breaker is open, and the others do not fit.
    let slow = told.iter().filter(|code| *code == "SlowDown").count();
    assert_eq!((slow, told.len() - slow, kms.calls()), (7, 3, 2), "{told:?}");
    assert!((900..1900).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    kms.feels(Mood::Fine);
    for n in 0..10 {
        assert_eq!(read(n).await, "ServiceUnavailable");
    }
    assert!(begun.elapsed() < Duration::from_secs(5) && kms.calls() == 0, "it stays open");
}
