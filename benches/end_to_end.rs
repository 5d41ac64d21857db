//! What the encryption costs, end to end, as ratios from one run.
//!
//! `cargo bench --ignore-rust-version --bench end_to_end` drives PUT, GET and ranged GET, in turns and every round in another order, through
//! (a) the store directly, (b) the same front and SDK without encryption, which exists only here, and (c) Ciphergate with each
//! suite; and prints medians, the ratio to (b), CPU seconds per GiB, and peak memory. At the end it says what 1,000 small objects cost in
//! calls to the key service, with a key of their own each and with shared ones.
//!
//! Store, pass-through and gateways are processes of their own on loopback, and the store keeps its files in memory where the system
//! has such a folder. With fewer cores than processes they take time from each other: that is the same for all, so look at ratios.
//! `CIPHERGATE_BENCH_ROUNDS`, `CIPHERGATE_BENCH_MIB` change how often and how large.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

#[path = "end_to_end/pass_through.rs"]
mod pass_through;

const CREDENTIALS: (&str, &str) = ("BENCHACCESSKEY000", "bench-secret-key-0123456789");
const BUCKET: &str = "bench";
const RANGE: u64 = 64 * 1024;
const RANGES_PER_ROUND: u64 = 100;
const SMALL: usize = 4096;
const SMALL_PER_ROUND: usize = 200;
/// Small objects whose key calls are counted.
const KEYED: usize = 1000;

type PutBody = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("--pass-through") {
        pass_through::serve(args[2].parse().expect("listen address"), &args[3], CREDENTIALS);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(run());
}

/// One thing to drive: a name, where it listens, its process.
struct Target {
    name: &'static str,
    addr: SocketAddr,
    /// Where a gateway shows its metrics.
    admin: Option<SocketAddr>,
    process: Child,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Put,
    Get,
    Ranges,
    SmallPut,
    SmallGet,
}

/// One measured phase: seconds of wall clock, CPU seconds of the target's process, and of target, store and client together, bytes
/// moved, requests made.
struct Sample {
    wall: f64,
    cpu: f64,
    cpu_of_all: f64,
    bytes: u64,
    requests: usize,
}

async fn run() {
    let rounds: usize = std::env::var("CIPHERGATE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let mib: usize = std::env::var("CIPHERGATE_BENCH_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("ciphergate-bench").tempdir_in(base).expect("temporary folder");
    let targets = start(folder.path());
    let http: HttpClient<HttpConnector, PutBody> = {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        HttpClient::builder(TokioExecutor::new()).build(connector)
    };
    s3(targets[0].addr).create_bucket().bucket(BUCKET).send().await.expect("bucket");

    let large = Bytes::from(noise(mib << 20));
    let phases = [
        (Phase::Put, format!("PUT {mib} MiB")),
        (Phase::Get, format!("GET {mib} MiB")),
        (Phase::Ranges, format!("GET {} KiB ranges", RANGE >> 10)),
        (Phase::SmallPut, "PUT 4 KiB".to_owned()),
        (Phase::SmallGet, "GET 4 KiB".to_owned()),
    ];
    println!(
        "rounds {rounds}, {} processors, one client connection",
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    for (phase, title) in phases {
        let mut samples: Vec<Vec<Sample>> = targets.iter().map(|_| Vec::new()).collect();
        for round in 0..=rounds {
            for index in order(round, targets.len()) {
                let sample = measure(&http, &targets[index], &targets[0], phase, &large).await;
                // The first round warms connections, caches and pages.
                if round > 0 {
                    samples[index].push(sample);
                }
            }
        }
        print_phase(&title, phase, &targets, &samples);
    }
    println!("\npeak memory of the process (VmHWM)");
    for target in &targets {
        println!("  {:<28} {:>7.1} MiB", target.name, peak_kib(target.process.id()) as f64 / 1024.0);
    }
    println!("\ncalls to the key service, for {KEYED} PUTs and then {KEYED} GETs of 4 KiB objects, each once");
    let shared = start_gateway(folder.path(), targets[0].addr, "Ciphergate, shared keys", "chacha20-poly1305", "shared");
    for target in [&targets[2], &shared] {
        let (put, got) = key_calls(&http, target, &large).await;
        println!("  {:<28} {put:>5} and {got}", target.name);
    }
    for mut target in targets.into_iter().chain([shared]) {
        let _ = target.process.kill();
        let _ = target.process.wait();
    }
}

/// The targets in another order every round, the same in every run: what one leaves behind in caches and run queues slows down whoever
/// comes next, and that is not always to be the same one.
fn order(round: usize, targets: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..targets).collect();
    order.sort_by_cached_key(|index| {
        let mut hasher = DefaultHasher::new();
        (round, index).hash(&mut hasher);
        hasher.finish()
    });
    order
}

fn start(folder: &Path) -> Vec<Target> {
    let gateway = env!("CARGO_BIN_EXE_ciphergate");
    let store = free_address();
    let mut targets = Vec::new();
    let process = Command::new(gateway)
        .args(["store", "--listen", &store.to_string(), "--data-dir"])
        .arg(folder.join("store"))
        .env("CIPHERGATE_DEV_ACCESS_KEY", CREDENTIALS.0)
        .env("CIPHERGATE_DEV_SECRET_KEY", CREDENTIALS.1)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the store starts");
    targets.push(wait_for(Target { name: "store directly", addr: store, admin: None, process }));
    let addr = free_address();
    let this = std::env::current_exe().expect("own path");
    let process = Command::new(this)
        .args(["--pass-through", &addr.to_string(), &format!("http://{store}")])
        .stdout(Stdio::null())
        .spawn()
        .expect("the pass-through starts");
    targets.push(wait_for(Target { name: "same front, no encryption", addr, admin: None, process }));
    let keyring = folder.join("keyring");
    assert!(Command::new(gateway).args(["keygen", "--out"]).arg(&keyring).status().expect("keygen runs").success());
    for (name, suite) in [("Ciphergate chacha20-poly1305", "chacha20-poly1305"), ("Ciphergate aes-256-gcm", "aes-256-gcm")] {
        targets.push(start_gateway(folder, store, name, suite, "per-object"));
    }
    targets
}

fn start_gateway(folder: &Path, store: SocketAddr, name: &'static str, suite: &str, mode: &str) -> Target {
    let (addr, admin) = (free_address(), free_address());
    let config = folder.join(format!("{suite}-{mode}.toml"));
    let text = format!(
        "[listen]\naddress = \"{addr}\"\n[admin]\naddress = \"{admin}\"\n[log]\nlevel = \"warn\"\n[backend]\nendpoint = \"http://{store}\"\n\
         region = \"us-east-1\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n[[keys]]\nlabel = \"local\"\nkind = \"keyring\"\n\
         file = \"{}\"\n[encryption]\nkey = \"local\"\nsuite = \"{suite}\"\nmode = \"{mode}\"\n[[clients]]\nname = \"bench\"\n\
         access_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
        CREDENTIALS.0,
        CREDENTIALS.1,
        folder.join("keyring").display(),
        CREDENTIALS.0,
        CREDENTIALS.1,
    );
    let mut file = fs::File::create(&config).expect("config");
    file.set_permissions(fs::Permissions::from_mode(0o600)).expect("mode");
    file.write_all(text.as_bytes()).expect("config is written");
    let process = Command::new(env!("CARGO_BIN_EXE_ciphergate"))
        .args(["serve", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .spawn()
        .expect("the gateway starts");
    wait_for(Target { name, addr, admin: Some(admin), process })
}

fn wait_for(mut target: Target) -> Target {
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(target.addr).is_err() {
        assert!(matches!(target.process.try_wait(), Ok(None)), "{} ended", target.name);
        assert!(Instant::now() < until, "{} does not listen", target.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    target
}

async fn measure(
    http: &HttpClient<HttpConnector, PutBody>,
    target: &Target,
    store: &Target,
    phase: Phase,
    large: &Bytes,
) -> Sample {
    let client = s3(target.addr);
    // Objects of their own for each target: what one wrote another cannot read.
    let key =
        format!("{}/{}", target.addr.port(), if matches!(phase, Phase::SmallPut | Phase::SmallGet) { "small" } else { "large" });
    let presigning = PresigningConfig::expires_in(Duration::from_secs(600)).expect("expiry");
    let url = match phase {
        Phase::Put | Phase::SmallPut => {
            client.put_object().bucket(BUCKET).key(&key).presigned(presigning).await.expect("URL").uri().to_owned()
        }
        _ => client.get_object().bucket(BUCKET).key(&key).presigned(presigning).await.expect("URL").uri().to_owned(),
    };
    let small = large.slice(..SMALL);
    let chunks = (large.len() as u64 / RANGE).max(1);
    let mut everyone = vec![target.process.id(), store.process.id(), std::process::id()];
    everyone.dedup();
    let count_all = || everyone.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let (cpu, cpu_of_all) = (cpu_seconds(target.process.id()), count_all());
    let begun = Instant::now();
    let (mut bytes, mut requests) = (0, 0);
    match phase {
        Phase::Put => {
            put(http, &url, large).await;
            (bytes, requests) = (large.len() as u64, 1);
        }
        Phase::Get => {
            bytes = get(http, &url, None).await;
            requests = 1;
            assert_eq!(bytes, large.len() as u64);
        }
        Phase::Ranges => {
            for index in 0..RANGES_PER_ROUND {
                // A stride that visits the whole object and begins inside a chunk.
                let first = (index * 7919 % chunks) * RANGE + 100;
                let first = first.min(large.len() as u64 - RANGE);
                bytes += get(http, &url, Some((first, first + RANGE - 1))).await;
                requests += 1;
            }
            assert_eq!(bytes, RANGES_PER_ROUND * RANGE);
        }
        Phase::SmallPut => {
            for _ in 0..SMALL_PER_ROUND {
                put(http, &url, &small).await;
            }
            (bytes, requests) = ((SMALL * SMALL_PER_ROUND) as u64, SMALL_PER_ROUND);
        }
        Phase::SmallGet => {
            for _ in 0..SMALL_PER_ROUND {
                bytes += get(http, &url, None).await;
            }
            requests = SMALL_PER_ROUND;
            assert_eq!(bytes, (SMALL * SMALL_PER_ROUND) as u64);
        }
    }
    let wall = begun.elapsed().as_secs_f64();
    Sample { wall, cpu: cpu_seconds(target.process.id()) - cpu, cpu_of_all: count_all() - cpu_of_all, bytes, requests }
}

/// What so many PUTs, and then GETs, of small objects cost in calls to the key service.
async fn key_calls(http: &HttpClient<HttpConnector, PutBody>, target: &Target, large: &Bytes) -> (u64, u64) {
    let (client, small) = (s3(target.addr), large.slice(..SMALL));
    let presigning = || PresigningConfig::expires_in(Duration::from_secs(600)).expect("expiry");
    let before = counted_key_calls(http, target).await;
    for n in 0..KEYED {
        let put_object = client.put_object().bucket(BUCKET).key(format!("keyed/{}/{n}", target.addr.port()));
        put(http, put_object.presigned(presigning()).await.expect("URL").uri(), &small).await;
    }
    let written = counted_key_calls(http, target).await;
    for n in 0..KEYED {
        let get_object = client.get_object().bucket(BUCKET).key(format!("keyed/{}/{n}", target.addr.port()));
        get(http, get_object.presigned(presigning()).await.expect("URL").uri(), None).await;
    }
    (written - before, counted_key_calls(http, target).await - written)
}

/// Calls of a gateway to its key service so far, by its own metrics.
async fn counted_key_calls(http: &HttpClient<HttpConnector, PutBody>, target: &Target) -> u64 {
    let url = format!("http://{}/metrics", target.admin.expect("a gateway"));
    let empty = http_body_util::Empty::new().boxed();
    let answer = http.request(http::Request::get(url).body(empty).expect("request")).await.expect("metrics");
    let text = answer.into_body().collect().await.expect("metrics").to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    let counts =
        text.lines().filter_map(|line| line.strip_prefix("ciphergate_key_calls_total{")?.rsplit_once(' ')?.1.parse::<u64>().ok());
    counts.sum()
}

async fn put(http: &HttpClient<HttpConnector, PutBody>, url: &str, body: &Bytes) {
    let pieces: Vec<_> = (0..body.len())
        .step_by(256 << 10)
        .map(|at| Ok(http_body::Frame::data(body.slice(at..body.len().min(at + (256 << 10))))))
        .collect();
    let stream = StreamBody::new(futures::stream::iter(pieces)).boxed();
    let request = http::Request::put(url).header("content-length", body.len()).body(stream).expect("request");
    let answer = http.request(request).await.expect("PUT is answered");
    let status = answer.status();
    let text = answer.into_body().collect().await.expect("answer").to_bytes();
    assert!(status.is_success(), "PUT {status}: {}", String::from_utf8_lossy(&text));
}

async fn get(http: &HttpClient<HttpConnector, PutBody>, url: &str, range: Option<(u64, u64)>) -> u64 {
    let mut request = http::Request::get(url);
    if let Some((first, last)) = range {
        request = request.header("range", format!("bytes={first}-{last}"));
    }
    let empty = http_body_util::Empty::new().boxed();
    let answer = http.request(request.body(empty).expect("request")).await.expect("GET is answered");
    assert!(answer.status().is_success(), "GET {}", answer.status());
    let mut body = answer.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.expect("body").data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

fn print_phase(title: &str, phase: Phase, targets: &[Target], samples: &[Vec<Sample>]) {
    println!("\n{title}");
    // Pair by pair against the pass-through, which is the second target.
    for (index, target) in targets.iter().enumerate() {
        let ratio = median(samples[index].iter().zip(&samples[1]).map(|(own, other)| other.wall / own.wall));
        let wall = median(samples[index].iter().map(|s| s.wall / s.requests as f64));
        match phase {
            Phase::Put | Phase::Get | Phase::Ranges => {
                let speed = median(samples[index].iter().map(|s| s.bytes as f64 / s.wall / 1048576.0));
                let cpu = median(samples[index].iter().map(|s| s.cpu / (s.bytes as f64 / 1073741824.0)));
                let all = median(samples[index].iter().map(|s| s.cpu_of_all / (s.bytes as f64 / 1073741824.0)));
                println!(
                    "  {:<28} {speed:>8.0} MiB/s {:>8.2} ms  ratio {ratio:>5.2}  CPU {cpu:>5.2} s/GiB, with store and client {all:>5.2}",
                    target.name,
                    wall * 1000.0
                );
            }
            Phase::SmallPut | Phase::SmallGet => {
                let cpu = median(samples[index].iter().map(|s| s.cpu / s.requests as f64 * 1e6));
                println!(
                    "  {:<28} {:>8.0} req/s {:>8.2} ms  ratio {ratio:>5.2}  CPU {cpu:>5.0} us/request",
                    target.name,
                    1.0 / wall,
                    wall * 1000.0
                );
            }
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Processor time of a process so far: that of its living threads, in nanoseconds by the scheduler's own count (the ticks of
/// /proc/PID/stat are as long as half a transfer).
fn cpu_seconds(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return f64::NAN };
    let nanos = threads.filter_map(|thread| {
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}

fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn s3(addr: SocketAddr) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(format!("http://{addr}"))
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(CREDENTIALS.0, CREDENTIALS.1, None, None, "bench"))
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
