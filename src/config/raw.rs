//! The settings as they are written. The comments here are the reference: `deploy/ciphergate.example.toml` and
//! `docs/CONFIGURATION.md` are rendered from them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::problem::Problems;
use super::secret::Secret;
use super::setting::{About, Fields, Item, Reader, Sample, Section, Setting, Shown, section};
use super::source::Tree;
use super::values::*;

/// Every setting, section by section.
#[derive(Debug)]
pub(super) struct Raw {
    pub top: Top,
    pub listen: Listen,
    pub admin: Admin,
    pub server: Server,
    pub backend: Backend,
    pub keys: Vec<Key>,
    pub kms: Kms,
    pub encryption: Encryption,
    pub buckets: BTreeMap<String, (Bucket, Vec<Prefix>)>,
    pub multipart: Multipart,
    pub clients: Vec<Client>,
    pub log: Log,
}

/// What the reference calls the rules for prefixes.
pub(super) const PREFIXES: &str = "buckets.NAME.prefixes";

/// Every section, in the order of the reference.
pub(super) const SECTIONS: &[About] = &[
    About::of::<Top>(""),
    About::of::<Listen>("listen"),
    About::of::<Admin>("admin"),
    About::of::<Server>("server"),
    About::of::<Backend>("backend"),
    About::of::<Key>("keys"),
    About::of::<Kms>("kms"),
    About::of::<Encryption>("encryption"),
    About::of::<Bucket>("buckets"),
    About::of::<Prefix>(PREFIXES),
    About::of::<Multipart>("multipart"),
    About::of::<Client>("clients"),
    About::of::<Log>("log"),
];

impl Raw {
    /// Takes everything out of the tree and says what is in effect.
    pub fn read(tree: &mut Tree<'_>, problems: &mut Problems) -> (Self, Vec<Shown>) {
        let mut root = tree.take_table();
        let mut reader = Reader::new(tree, problems, SECTIONS);
        let raw = Self {
            listen: reader.section(&mut root, "listen"),
            admin: reader.section(&mut root, "admin"),
            server: reader.section(&mut root, "server"),
            backend: reader.section(&mut root, "backend"),
            keys: reader.list(&mut root, "keys"),
            kms: reader.section(&mut root, "kms"),
            encryption: reader.section(&mut root, "encryption"),
            buckets: reader.map(&mut root, "buckets", "prefixes"),
            multipart: reader.section(&mut root, "multipart"),
            clients: reader.list(&mut root, "clients"),
            log: reader.section(&mut root, "log"),
            top: reader.top(root),
        };
        (raw, reader.into_shown())
    }

    /// Reads the clients out of a file that holds nothing else.
    pub fn read_clients(tree: &mut Tree<'_>, problems: &mut Problems) -> (Vec<Client>, Vec<Shown>) {
        let mut root = tree.take_table();
        let mut reader = Reader::new(tree, problems, const { &[About::of::<Client>("clients")] });
        let clients = reader.list(&mut root, "clients");
        reader.refuse_rest(root, "", &[]);
        (clients, reader.into_shown())
    }
}

section! {
    /// Settings above all sections.
    Top {
        /// A TOML file with more [[clients]], so that their secrets can be kept, and changed, apart from this file. Only its owner
        /// may be able to read it (chmod 600).
        clients_file: PathBuf, Optional = r#""clients.toml""#;
    }
}

section! {
    /// Where S3 clients connect.
    Listen {
        /// Address and port. Port 0 takes any free one.
        address: SocketAddr, Default = r#""127.0.0.1:9000""#;
        /// Domains whose subdomains are buckets: with "s3.example.com", requests to https://photos.s3.example.com/ go to the bucket photos.
        /// Bucket names in the path work with every host. With HTTPS the certificate needs a wildcard for each of them.
        domains: Vec<Domain>, Default = "[]";
        /// Certificate chain in PEM, the server's own first. With tls_key_file it turns HTTPS on (TLS 1.2 and 1.3).
        tls_certificate_file: PathBuf, Optional = r#""tls/server.crt""#;
        /// Private key of the certificate in PEM. Only its owner may be able to read it.
        tls_key_file: PathBuf, Optional = r#""tls/server.key""#;
        /// Whether plain HTTP is taken on an address that is not loopback. Object data then crosses the network unencrypted: only for a
        /// trusted network, such as a TLS proxy in front on the same host network.
        allow_plain_http: bool, Default = "false";
    }
}

section! {
    /// Health and metrics: /livez, /readyz and /metrics (Prometheus), on a listener of their own. It asks for no credentials and shows no
    /// secrets: keep it away from the public.
    Admin {
        /// Address and port. Port 0 takes any free one.
        address: SocketAddr, Default = r#""127.0.0.1:9090""#;
    }
}

section! {
    /// Limits of the server.
    Server {
        /// Worker threads, 1 to 1024. Without it, one for each processor.
        workers: Whole<1, 1024>, Optional = "4";
        /// How long an idle client connection is kept, in seconds.
        keep_alive_secs: Whole<1, 3600>, Default = "75";
        /// How long a client may take to send the head of a request, in seconds.
        request_header_timeout_secs: Whole<1, 3600>, Default = "10";
        /// How long a body may stand still in either direction before the connection is dropped, in seconds.
        idle_body_timeout_secs: Whole<1, 3600>, Default = "60";
        /// How long new requests are still taken after a stop was asked for, in seconds. /readyz says "not ready" from the first moment on,
        /// so that load balancers look elsewhere before the address closes. A second signal ends the wait.
        drain_delay_secs: Whole<0, 3600>, Default = "0";
        /// How long running transfers may go on after that, in seconds.
        shutdown_timeout_secs: Whole<0, 3600>, Default = "60";
        /// Client connections at one time, over all workers.
        connections_max: Whole<1, 1_000_000>, Default = "4096";
    }
}

section! {
    /// The S3 store that holds the sealed objects.
    Backend {
        /// Base address of the store. Without it, AWS S3.
        endpoint: Endpoint, Optional = r#""https://s3.example.com""#;
        /// Region that requests are signed for. Needed with an endpoint; otherwise it may come from the AWS environment or profile.
        region: Region, Optional = r#""eu-central-1""#;
        /// Whether bucket names go into the path (https://host/bucket) and not into the host name. Without it, true when an endpoint is given.
        path_style: bool, Optional = "true";
        /// Whether the endpoint may be plain HTTP on another machine. Objects are sealed, but names and metadata can then be read on the way.
        allow_plain_http: bool, Default = "false";
        /// Certificates in PEM of private authorities that the store's certificate may come from, besides those of the system.
        ca_file: PathBuf, Optional = r#""tls/backend-ca.pem""#;
        /// Access key of the gateway itself. Without it, the standard AWS chain: environment, profile, web identity, container, instance.
        access_key_id: AccessKeyId, Optional = r#""AKIAIOSFODNN7EXAMPLE""#;
        /// Secret of the access key, in a file that only its owner can read.
        secret_access_key_file: PathBuf, Optional = r#""backend.secret""#;
        /// The same in place, when only its owner can read this file.
        secret_access_key: Secret, Instead = r#""...""#;
        /// Profile of the shared AWS configuration files to use in the standard chain.
        profile: String, Instead = r#""ciphergate""#;
        /// How long connecting may take, in seconds.
        connect_timeout_secs: Whole<1, 300>, Default = "5";
        /// How long the store may take to begin an answer once it has the whole request, in seconds.
        response_timeout_secs: Whole<1, 3600>, Default = "60";
        /// How long a body may stand still between the gateway and the store, in seconds.
        idle_body_timeout_secs: Whole<1, 3600>, Default = "60";
        /// The longest object that the store copies with one request, in bytes; longer ones are copied in parts. S3's own limit is 5 GiB.
        copy_bytes_max: Whole<5_242_880, 5_368_709_120>, Default = "5368709120";
        /// Checksum of the sealed body that follows every object, for stores that would take one that broke off for whole: none or crc64nvme.
        /// Uploads cost up to three times the processor time with it. With none, only what goes into buckets with Object Lock has one, where S3
        /// demands it.
        upload_checksum: UploadChecksum, Default = r#""none""#;
    }
}

section! {
    /// The keys that wrap data keys. Each has a label that is written into every object it wraps: never give a label to another key, and
    /// keep the section of an old key for as long as objects need it. Only keys that stand here are ever used.
    Key {
        /// Name of the key in objects: 1 to 32 of a-z, 0-9 and -.
        label: Label, Required = r#""main""#;
        /// "kms" for AWS KMS, "keyring" for a local file made by `ciphergate keygen`, "transit" for the Transit engine of OpenBao or HashiCorp
        /// Vault (docs/TRANSIT.md).
        kind: KeyKind, Required = r#""kms""#;
        /// kms: ARN of the key. Its region is the one that is called.
        key_arn: KeyArn, Optional = r#""arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab""#;
        /// kms: an alias, as alias/NAME or by its ARN, in place of key_arn. It is looked up once, when the gateway starts (kms:DescribeKey), and
        /// the key that it leads to then is used until the next start. Whoever may move the alias chooses that key: set pinned_arn, or use
        /// key_arn, where that is not wanted. An alias is no way to rotate: objects of the key it led to before are not readable under the
        /// same label.
        alias: KeyAlias, Instead = r#""alias/photos""#;
        /// kms: ARN of the key that the alias has to lead to. If it leads to another one, the gateway does not start.
        pinned_arn: KeyArn, Instead = r#""arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab""#;
        /// kms: region that is called. A key ARN has its own; only of a multi-region key (key/mrk-...) another one can be named, which is its
        /// replica there. alias/NAME without it is looked up in the region of the AWS environment or profile, as the aws command does.
        region: Region, Optional = r#""eu-central-1""#;
        /// kms: base address of the key service. Without it, AWS KMS. transit: address of the server; needed.
        endpoint: Endpoint, Optional = r#""https://kms.example.com""#;
        /// kms: further regions of a multi-region key, in the order in which they are tried while the first does not answer. Each is a region,
        /// or { region = "eu-west-1", endpoint = "https://kms.example.com" }, which it has to be where the key itself has an endpoint.
        replicas: Vec<Replica>, Instead = r#"["eu-west-1"]"#;
        /// kms: role that the gateway assumes to call the key service, with the credentials of the standard AWS chain. Without it, those
        /// credentials call.
        assume_role_arn: RoleArn, Optional = r#""arn:aws:iam::111122223333:role/ciphergate-keys""#;
        /// kms: external id, where the role's trust policy asks for one.
        assume_role_external_id: ExternalId, Optional = r#""example-id""#;
        /// kms: what the session of the role is called in audit logs.
        assume_role_session_name: SessionName, Default = r#""ciphergate""#;
        /// kms, transit: certificates in PEM of private authorities, besides those of the system.
        ca_file: PathBuf, Optional = r#""tls/kms-ca.pem""#;
        /// kms, transit: whether the endpoint may be plain HTTP on another machine. Whoever can watch that network can then read every object:
        /// for tests only.
        allow_plain_http: bool, Default = "false";
        /// keyring: the file. Only its owner may be able to read it.
        file: PathBuf, Instead = r#""keyring""#;
        /// transit: name of the key in the engine. It has to be a derived one.
        key_name: TransitKeyName, Instead = r#""ciphergate""#;
        /// transit: path that the engine is mounted at. Without it, "transit".
        mount: MountPath, Instead = r#""transit""#;
        /// transit: namespace of the engine, where there are namespaces.
        namespace: MountPath, Instead = r#""team-a""#;
        /// transit: file with the token and nothing else. Only its owner may be able to read it. It is read again when the server refuses the
        /// token, so an agent may renew it.
        token_file: PathBuf, Instead = r#""/run/ciphergate/bao.token""#;
        /// transit: the same in place, when only its owner can read this file.
        token: Secret, Instead = r#""...""#;
    }
}

section! {
    /// Limits on calls to key services (keys of kind "kms" and "transit"), for each key and each instance: docs/KEYS.md, "When the key
    /// service fails".
    Kms {
        /// How long connecting may take, in seconds.
        connect_timeout_secs: Whole<1, 60>, Default = "3";
        /// How long one attempt may take, in seconds, from connecting to the whole answer.
        attempt_timeout_secs: Whole<1, 60>, Default = "4";
        /// How long a call may take, in seconds: waiting for a turn, all attempts, and the pauses between them.
        call_timeout_secs: Whole<1, 300>, Default = "10";
        /// Attempts at one time.
        calls_max: Whole<1, 10_000>, Default = "64";
        /// Calls that may wait for a turn; a client whose call would be one more is told SlowDown.
        waiting_max: Whole<0, 100_000>, Default = "256";
        /// Attempts of one call. Only failures that pass are tried again.
        attempts_max: Whole<1, 10>, Default = "3";
        /// Retries, in percent of the calls. Ten can be saved up.
        retry_percent: Whole<1, 100>, Default = "10";
        /// Failures in a row after which the key service is not called for a moment. Only failures that pass count here and below.
        breaker_failures: Whole<1, 1000>, Default = "5";
        /// The same when so many of the latest attempts failed, in percent.
        breaker_failure_percent: Whole<1, 100>, Default = "50";
        /// Attempts, answered or failed, without which that share does not count.
        breaker_attempts_min: Whole<2, 10_000>, Default = "20";
        /// How many attempts are the latest, at most.
        breaker_window_attempts: Whole<2, 10_000>, Default = "100";
        /// How long an attempt is among the latest, in seconds.
        breaker_window_secs: Whole<1, 3600>, Default = "10";
        /// How long the key service is then not called, in seconds, give or take a quarter. One call probes after that.
        breaker_open_secs: Whole<1, 300>, Default = "2";
    }
}

section! {
    /// How new objects are encrypted, unless [buckets] says otherwise.
    Encryption {
        /// Label of the key that wraps the data keys of new objects.
        key: Label, Required = r#""main""#;
        /// Cipher: "chacha20-poly1305", "aes-256-gcm", or "auto" for the faster one on this processor. All can always be read.
        suite: Suite, Default = r#""chacha20-poly1305""#;
        /// "per-object" asks the key service once for each object. "shared" uses one key-encryption key for many objects of a bucket, within
        /// the limits below: far fewer calls, while every object still has a data key of its own.
        mode: KeyMode, Default = r#""per-object""#;
        /// Whether the key service is told the SHA-256 of object names in place of the names, which its audit log would show.
        hash_key_names: bool, Default = "false";
        /// Whether content headers (Content-Type, Content-Encoding, Content-Disposition, Content-Language, Cache-Control, Expires) and user
        /// metadata are sealed as well, so that whoever owns the bucket can neither read nor change them. HEAD then needs the key, and they have
        /// to fit into about 1,100 bytes. Tags, storage class and website redirect stay readable. Objects are read by what they say of
        /// themselves, whatever stands here.
        seal_metadata: bool, Default = "false";
        /// How long an unwrapped key is kept in memory, in seconds. A revoked key stops being usable within this time.
        cache_ttl_secs: Whole<1, 86_400>, Default = "300";
        /// Unwrapped keys that are kept in memory at one time.
        cache_entries_max: Whole<1, 1_000_000>, Default = "10000";
        /// How long one shared key wraps new objects, in seconds.
        shared_age_secs_max: Whole<1, 86_400>, Default = "300";
        /// How many new objects one shared key wraps.
        shared_uses_max: Whole<1, 4_294_967_296>, Default = "1048576";
    }
}

section! {
    /// What is different for one bucket. Buckets that are not named here go by [encryption].
    Bucket {
        /// Namespace that object names are bound to. Without it, the name of the bucket. An object opens only in the scope that it was sealed
        /// in: set it when a bucket is renamed, and never change it otherwise.
        scope: Scope, Optional = r#""photos""#;
        /// Whether this bucket may share its scope with another one. Whoever can write to both at the store can then exchange objects of the
        /// same name between them. Every bucket that shares must say so.
        share_scope: bool, Default = "false";
        /// Label of the key, in place of encryption.key.
        key: Label, Optional = r#""main""#;
        /// Cipher, in place of encryption.suite.
        suite: Suite, Optional = r#""aes-256-gcm""#;
        /// In place of encryption.mode.
        mode: KeyMode, Optional = r#""shared""#;
        /// In place of encryption.hash_key_names.
        hash_key_names: bool, Optional = "true";
        /// In place of encryption.seal_metadata.
        seal_metadata: bool, Optional = "true";
        /// What the bucket may hold. "encrypted": every object is sealed, and whatever has no valid envelope is refused. "read-through": plaintext
        /// objects that were there before can be read as well, with the header x-ciphergate-plaintext on the answer; what is written is sealed, and
        /// an object whose envelope is there but bad is refused. A listing then asks the store once for every object whose size could be that of
        /// a sealed one. Whoever can write to the bucket at the store can put plaintext under any name: for the time of a migration.
        /// "plaintext": nothing is sealed, opened or marked; every request for the bucket is passed on as it is, signed anew.
        access: Access, Default = r#""encrypted""#;
        /// What becomes of objects that AWS's own S3 Encryption Client wrote. "off": they are refused, or are plaintext where access says so.
        /// "read": those of its formats V2 and V3 with a KMS key are opened for reads and copies, with the header x-ciphergate-aws-client on the
        /// answer (docs/AWS_ENCRYPTION_CLIENT.md). Its format binds neither bucket nor name, so whoever can write to the bucket at the store can
        /// exchange such objects; and a listing asks the store for every object in it. For the time of a migration.
        aws_client: AwsClientUse, Default = r#""off""#;
        /// Label of the KMS key that AWS's client used, where that is not the key of the bucket. No other key is ever tried.
        aws_client_key: Label, Optional = r#""main""#;
        /// The longest object of AWS's client that is opened, in plaintext bytes. Each is held in memory until it is verified as a whole; all of
        /// them together get 256 MiB.
        aws_client_bytes_max: Whole<1, 268_435_440>, Default = "67108864";
    }
}

section! {
    /// What is different for the new objects of a bucket whose keys begin with a prefix. Where several fit, the longest alone decides;
    /// what it does not set goes by the bucket. The scope, and with it what can be read, stays that of the bucket. A copy goes by the
    /// prefix that it is made under.
    Prefix {
        /// What the keys begin with, 1 to 1,024 bytes. A slash is a character like others: "raw" fits "rawhide".
        prefix: KeyPrefix, Required = r#""raw/""#;
        /// Label of the key, in place of the bucket's.
        key: Label, Optional = r#""main""#;
        /// Cipher, in place of the bucket's.
        suite: Suite, Optional = r#""aes-256-gcm""#;
        /// In place of the bucket's.
        mode: KeyMode, Optional = r#""shared""#;
        /// In place of the bucket's.
        hash_key_names: bool, Optional = "true";
        /// In place of the bucket's.
        seal_metadata: bool, Optional = "true";
    }
}

section! {
    /// Multipart uploads. While one is under way the gateway keeps a small record of it in the store, and its last part if that is shorter
    /// than 5 MiB. Everything there is sealed; no instance keeps anything in memory.
    Multipart {
        /// A bucket of its own for the state of uploads: recommended, without versioning and Object Lock, and with no lifecycle rule that is
        /// shorter than the longest upload. It must exist. Clients cannot see or use it.
        state_bucket: BucketName, Optional = r#""ciphergate-state""#;
        /// Without a state bucket, the state lies in the bucket that the upload is for, under this prefix, `.ciphergate/` if none is
        /// set. Clients cannot see or use keys that begin with it. Change it only while no upload is under way, after `ciphergate gc`.
        state_prefix: StatePrefix, Instead = r#"".ciphergate/""#;
        /// A PutObject of more bytes than this is written to the store as a multipart upload. The default is the most that fits into one
        /// request of 5 GiB.
        put_bytes_max: Whole<5_242_880, 5_367_251_216>, Default = "5367251216";
        /// How often each instance clears away what ended uploads left, in seconds; 0 leaves it to `ciphergate gc`.
        janitor_interval_secs: Whole<0, 604_800>, Default = "3600";
    }
}

section! {
    /// Who may use the gateway, each with an access key of its own. There is no anonymous access.
    Client {
        /// What the client is called in logs.
        name: ClientName, Required = r#""backup""#;
        /// Access key of the client: 3 to 128 of A-Z, a-z, 0-9, ., _ and -.
        access_key_id: AccessKeyId, Required = r#""BACKUP0000000000""#;
        /// Secret of the access key, 8 to 128 printable characters, in a file that only its owner can read.
        secret_access_key_file: PathBuf, Required = r#""clients/backup.secret""#;
        /// The same in place, when only its owner can read this file.
        secret_access_key: Secret, Instead = r#""...""#;
    }
}

section! {
    /// The log, on standard error.
    Log {
        /// "json" for machines, "text" for people.
        format: LogFormat, Default = r#""json""#;
        /// The least important line that is written: "error", "warn", "info", "debug" or "trace".
        level: LogLevel, Default = r#""info""#;
    }
}
