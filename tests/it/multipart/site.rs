//! Gateways over a store, and an upload in the hand.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use ciphergate::store::{self, Store};

use crate::kit::{AT_STORE, CLIENT, Launch, Process, client};

pub const MIB: usize = 1 << 20;
/// S3's minimum of a part that is not the last.
pub const LEAST: usize = 5 * MIB;

/// Gateways over one store, and a bucket of their own in it.
pub struct Site {
    pub gateways: Vec<Process>,
    pub bucket: String,
    store: SocketAddr,
    more: String,
    settings: &'static [(&'static str, &'static str)],
    folder: tempfile::TempDir,
    _running: Option<store::Running>,
}

impl Site {
    /// Over each kind of store in turn. `more` is TOML above all sections.
    pub async fn each(more: &str, gateways: usize) -> Vec<Self> {
        vec![Self::over_localstack(more, gateways).await, Self::over_embedded(more, gateways).await]
    }

    /// The same, with settings by their environment variables.
    pub async fn each_set(settings: &'static [(&'static str, &'static str)]) -> Vec<Self> {
        let mut sites = Self::each("", 1).await;
        for site in &mut sites {
            site.settings = settings;
            site.replace(0);
        }
        sites
    }

    pub async fn over_localstack(more: &str, gateways: usize) -> Self {
        let url = std::env::var("CIPHERGATE_TEST_LOCALSTACK")
            .expect("CIPHERGATE_TEST_LOCALSTACK has to name a running LocalStack: use tests/run rust");
        let addr = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("LocalStack has an address");
        Self::start(addr, None, tempfile::tempdir().expect("temporary folder"), more, gateways).await
    }

    pub async fn over_embedded(more: &str, gateways: usize) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(&folder.path().join("store"), store::Options::default()).expect("store opens");
        let credentials = vec![(AT_STORE.0.to_owned(), AT_STORE.1.to_owned())];
        let running = store::serve(store, "127.0.0.1:0".parse().expect("address"), credentials).expect("store listens");
        Self::start(running.addr(), Some(running), folder, more, gateways).await
    }

    async fn start(
        store: SocketAddr,
        running: Option<store::Running>,
        folder: tempfile::TempDir,
        more: &str,
        gateways: usize,
    ) -> Self {
        let bucket = unique("mp");
        let more = more.replace("{bucket}", &bucket);
        let launched = (0..gateways).map(|_| Launch::new(folder.path(), store).more(&more).start()).collect();
        let site = Self { gateways: launched, bucket, store, more, settings: &[], folder, _running: running };
        site.behind().create_bucket().bucket(&site.bucket).send().await.expect("bucket is made");
        site
    }

    /// A client of the first gateway.
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    pub fn client_of(&self, gateway: usize) -> Client {
        client(self.gateways[gateway].s3, CLIENT)
    }

    /// A client of the store.
    pub fn behind(&self) -> Client {
        client(self.store, AT_STORE)
    }

    /// kill -9, and another one in its place.
    pub fn replace(&mut self, gateway: usize) {
        let old = &mut self.gateways[gateway];
        old.kill();
        let launch = Launch::new(self.folder.path(), self.store).more(&self.more).on(old.s3, old.admin);
        *old = self.settings.iter().fold(launch, |launch, (name, value)| launch.set(name, value)).start();
    }

    /// The command line with the configuration of the gateways: exit code and standard output.
    pub fn run(&self, command: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let launch = Launch::new(self.folder.path(), self.store).more(&self.more);
        let done = launch.command(command).args(arguments).output().expect("the command runs");
        (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Keys in a bucket of the store, by the way around.
    pub async fn stored(&self, bucket: &str) -> Vec<String> {
        let listed = self.behind().list_objects_v2().bucket(bucket).send().await.expect("listing");
        assert_ne!(listed.is_truncated(), Some(true));
        listed.contents().iter().map(|object| object.key().expect("key").to_owned()).collect()
    }

    /// Keys of every version and delete marker in a bucket of the store, by the way around, those that begin with this.
    pub async fn stored_versions(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let listed = self.behind().list_object_versions().bucket(bucket).prefix(prefix).send().await.expect("listing");
        assert_ne!(listed.is_truncated(), Some(true));
        let versions = listed.versions().iter().map(|version| version.key());
        versions
            .chain(listed.delete_markers().iter().map(|marker| marker.key()))
            .map(|key| key.expect("key").to_owned())
            .collect()
    }

    /// What uploads keep in the bucket.
    pub async fn staged(&self) -> Vec<String> {
        self.stored(&self.bucket).await.into_iter().filter(|key| key.starts_with(".ciphergate/")).collect()
    }

    pub async fn get(&self, key: &str) -> Vec<u8> {
        let got = self.client().get_object().bucket(&self.bucket).key(key).send().await.expect("the object is there");
        got.body.collect().await.expect("the object is whole").to_vec()
    }

    pub async fn create(&self, key: &str) -> Upload {
        let created = self.client().create_multipart_upload().bucket(&self.bucket).key(key).send().await.expect("upload");
        Upload { bucket: self.bucket.clone(), key: key.to_owned(), id: created.upload_id().expect("id").to_owned() }
    }
}

/// A name that nobody else uses.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos();
    format!("{what}-{nanos:x}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// An upload that a test works on.
#[derive(Clone)]
pub struct Upload {
    pub bucket: String,
    pub key: String,
    pub id: String,
}

impl Upload {
    /// Sends a part; returns its line for the list.
    pub async fn part(&self, client: &Client, number: i32, bytes: impl Into<ByteStream>) -> CompletedPart {
        let sent =
            client.upload_part().bucket(&self.bucket).key(&self.key).upload_id(&self.id).part_number(number).body(bytes.into());
        let sent = sent.send().await.expect("the part is taken");
        // A composite checksum wants that of every part in the list.
        let line = CompletedPart::builder().part_number(number).e_tag(sent.e_tag().expect("ETag"));
        line.set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
            .set_checksum_crc32_c(sent.checksum_crc32_c().map(str::to_owned))
            .set_checksum_sha1(sent.checksum_sha1().map(str::to_owned))
            .set_checksum_sha256(sent.checksum_sha256().map(str::to_owned))
            .build()
    }

    pub fn complete(
        &self,
        client: &Client,
        parts: &[CompletedPart],
    ) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder {
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build();
        client.complete_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id).multipart_upload(list)
    }

    pub fn list(&self, client: &Client) -> aws_sdk_s3::operation::list_parts::builders::ListPartsFluentBuilder {
        client.list_parts().bucket(&self.bucket).key(&self.key).upload_id(&self.id)
    }

    pub fn abort(
        &self,
        client: &Client,
    ) -> aws_sdk_s3::operation::abort_multipart_upload::builders::AbortMultipartUploadFluentBuilder {
        client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id)
    }
}

/// A line with another ETag.
pub fn with_etag(part: &CompletedPart, etag: &str) -> CompletedPart {
    CompletedPart::builder().set_part_number(part.part_number()).e_tag(etag).build()
}
