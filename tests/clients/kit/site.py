"""What a test talks to: a gateway over one of its backends, and the backend itself by a way around the gateway.

Backends: "localstack" (S3 and KMS of LocalStack, started by tests/run), "embedded" (`ciphergate store` with a keyring), and "versitygw" and
"garage", stores by other people that check every signature (with a keyring; CIPHERGATE_TEST_VERSITYGW and _GARAGE name their programs).
With CIPHERGATE_TEST_DIRECT=1 the "gateway" is LocalStack itself: that proves the tests on what is plain S3 behaviour.
"""

import functools
import json
import os
import re
import ssl
import subprocess
import sys
import urllib.request

import boto3
import requests
from botocore.config import Config

from . import certificates, garage
from .process import Process, free_port

REGION = "us-east-1"
KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/c1f3e6a0-0000-4000-8000-000000000001"
CLIENT = ("CLIENTACCESSKEY00000", "client-secret-of-the-test-run-0123456789")
STATE = ".ciphergate/"
STORE = ("STOREACCESSKEY000000", "store-secret-of-the-test-run-0123456789")
LOCALSTACK = ("test", "test")


def direct():
    return os.environ.get("CIPHERGATE_TEST_DIRECT") == "1"


def binary():
    path = os.environ.get("CIPHERGATE_BIN")
    if not path or not os.access(path, os.X_OK):
        raise RuntimeError("CIPHERGATE_BIN has to name the gateway's binary: use tests/run clients")
    return os.path.abspath(path)


def localstack():
    url = os.environ.get("CIPHERGATE_TEST_LOCALSTACK")
    if not url:
        raise RuntimeError("CIPHERGATE_TEST_LOCALSTACK has to name a running LocalStack: use tests/run clients")
    return url.rstrip("/")


def make_client(endpoint, keys, verify=None, **config):
    s3 = {"addressing_style": "path", **config.pop("s3", {})}
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        verify=verify,
        config=Config(
            signature_version=config.pop("signature_version", "s3v4"),
            s3=s3,
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=70,
            **config,
        ),
    )


class Site:
    """One gateway: `endpoint` and its credentials for clients, `backend` for a look behind it."""

    region = REGION

    def __init__(self, kind, endpoint, keys, backend_endpoint, backend_keys, folder, ca=None, gateway=None, admin=None):
        self.kind, self.endpoint, self.ca = kind, endpoint, ca
        self.access_key, self.secret_key = keys
        self.backend_endpoint, self.backend_keys = backend_endpoint, backend_keys
        self.folder, self.gateway, self.admin = folder, gateway, admin
        self.planted = set()  # (bucket, key) of what tests put into the backend by hand

    @property
    def tls(self):
        return self.endpoint.startswith("https:")

    @property
    def verify(self):
        return (self.ca or False) if self.tls else None

    def client(self, keys=None, **config):
        return make_client(self.endpoint, keys or (self.access_key, self.secret_key), self.verify, **config)

    @functools.cached_property
    def s3(self):
        return self.client()

    @functools.cached_property
    def backend(self):
        """The store behind the gateway. Checksums only where S3 demands one, so that damaged bodies can be written and read."""
        return make_client(
            self.backend_endpoint, self.backend_keys, request_checksum_calculation="when_required", response_checksum_validation="when_required"
        )

    def tls_context(self):
        if self.ca:
            return ssl.create_default_context(cafile=self.ca)
        return ssl._create_unverified_context()

    def everything(self, bucket):
        """Keys and sizes in the backend, by the way around, the state of multipart uploads included."""
        pages = self.backend.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def stored(self, bucket):
        """Keys and sizes of the objects in the backend, by the way around."""
        return {key: size for key, size in self.everything(bucket).items() if not key.startswith(STATE)}

    def staged(self, bucket):
        """Keys of what multipart uploads keep."""
        return sorted(key for key in self.everything(bucket) if key.startswith(STATE))

    def moved_bytes(self):
        """Bytes of objects that went between the gateway and its store, and between it and its clients."""
        text = requests.get(f"{self.admin}/metrics", timeout=5).text
        counters = re.findall(r"^ciphergate_(store_sent|store_received|request_body|response_body)_bytes_total (\d+)$", text, re.M)
        # A counter that was never touched is not shown.
        found = dict.fromkeys(("store_sent", "store_received", "request_body", "response_body"), 0)
        return found | {name: int(value) for name, value in counters}

    def fetch_stored(self, bucket, key):
        """Body and metadata of an object as the backend holds it."""
        answer = self.backend.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["Metadata"]

    def plant(self, bucket, key, body, metadata=None, **more):
        """Put something into the backend behind the gateway's back."""
        self.planted.add((bucket, key))
        self.backend.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata or {}, **more)

    def aws(self, *arguments, check=True, text=True, keys=None, threshold="5GB", part="8MB", **options):
        """Run the real aws command line. As a rule one PUT for every size; from `threshold` on in parts of `part`."""
        config = self.folder / f"aws-{threshold}-{part}.config"
        if not config.exists():
            config.write_text(
                f"[default]\ns3 =\n    multipart_threshold = {threshold}\n    multipart_chunksize = {part}\n"
                "    max_concurrent_requests = 4\n    addressing_style = path\n    signature_version = s3v4\n"
            )
        access_key, secret_key = keys or (self.access_key, self.secret_key)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "LC_ALL": "C.UTF-8",
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, "-m", "awscli", *map(str, arguments)]
        if self.tls:
            command += ["--ca-bundle", self.ca] if self.ca else ["--no-verify-ssl"]
        done = subprocess.run(command, env=env, capture_output=True, text=text, timeout=300, stdin=subprocess.DEVNULL, **options)
        if check and done.returncode:
            raise AssertionError(f"aws {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def aws_json(self, *arguments):
        return json.loads(self.aws(*arguments, "--output", "json").stdout or "{}")


class Sites:
    """Starts what a test asks for, once a run, and ends it."""

    def __init__(self, folder):
        self._folder, self._sites, self._processes = folder, {}, []

    def get(self, kind, tls=False):
        if (kind, tls) not in self._sites:
            try:
                self._sites[kind, tls] = self._direct(tls) if direct() else self.start(kind, tls)
            except Exception as failure:  # kept, so that each test that needs it says why and none waits for it again
                self._sites[kind, tls] = failure
        if isinstance(self._sites[kind, tls], Exception):
            raise RuntimeError(f"no gateway over {kind}") from self._sites[kind, tls]
        return self._sites[kind, tls]

    def _direct(self, tls):
        folder = self._make_folder("direct-tls" if tls else "direct")
        endpoint = localstack().replace("http://", "https://") if tls else localstack()
        return Site("direct", endpoint, LOCALSTACK, localstack(), LOCALSTACK, folder)

    def start(self, kind, tls=False, name=None, config="", backend=None, ready="readyz", listen="", env=None, key_source=None):
        """A gateway of its own. `config` is TOML that goes to the end of its configuration, `listen` more of its [listen] section,
        `env` settings beside it, `ready` what says that it is up, `key_source` where its key comes from."""
        folder = self._make_folder(name or f"{kind}{'-tls' if tls else ''}")
        keys = LOCALSTACK if kind == "localstack" else STORE
        backend = backend or self.endpoint_of(kind)
        port, admin = free_port(), free_port()
        ca, tls_config = None, ""
        if tls:
            ca, certificate, key = certificates.make(folder)
            tls_config = f'tls_certificate_file = "{certificate}"\ntls_key_file = "{key}"\n'
        # It would keep what it got of an upload that broke off.
        checksum = 'upload_checksum = "crc64nvme"\n' if kind == "versitygw" else ""
        path = folder / "ciphergate.toml"
        path.touch(mode=0o600)
        path.write_text(
            f'[listen]\naddress = "127.0.0.1:{port}"\n{tls_config}{listen}'
            f'[admin]\naddress = "127.0.0.1:{admin}"\n'
            f'[backend]\nendpoint = "{backend}"\nregion = "{REGION}"\naccess_key_id = "{keys[0]}"\nsecret_access_key = "{keys[1]}"\n{checksum}'
            f'[encryption]\nkey = "main"\n'
            f'[[keys]]\nlabel = "main"\n{key_source or self._key(kind)}'
            f'[[clients]]\nname = "tests"\naccess_key_id = "{CLIENT[0]}"\nsecret_access_key = "{CLIENT[1]}"\n'
            f'[log]\nformat = "json"\nlevel = "info"\n{config}'
        )
        env = {"AWS_ACCESS_KEY_ID": LOCALSTACK[0], "AWS_SECRET_ACCESS_KEY": LOCALSTACK[1], "AWS_EC2_METADATA_DISABLED": "true", **(env or {})}
        process = Process(
            f"gateway over {kind}",
            [binary(), "serve", "--config", path],
            port,
            folder / "gateway.log",
            env,
            ready=lambda: _answers(f"http://127.0.0.1:{admin}/{ready}"),
        )
        self._processes.append(process)
        scheme = "https" if tls else "http"
        return Site(
            kind, f"{scheme}://127.0.0.1:{port}", CLIENT, backend, keys, folder, ca and str(ca), process, f"http://127.0.0.1:{admin}"
        )

    def endpoint_of(self, kind):
        """The store itself, started when it is not there yet."""
        return {"localstack": localstack, "embedded": self.store, "versitygw": self.versitygw, "garage": self.garage}[kind]()

    def _key(self, kind):
        if kind == "localstack":
            return f'kind = "kms"\nkey_arn = "{KEY_ARN}"\nendpoint = "{localstack()}"\n'
        return f'kind = "keyring"\nfile = "{self.keyring()}"\n'

    @functools.cache
    def keyring(self):
        path = self._folder / "keyring"
        subprocess.run([binary(), "keygen", "--out", str(path), "--label", "main"], check=True, capture_output=True, timeout=30)
        return path

    @functools.cache
    def store(self):
        """The embedded store as a process of its own; returns its endpoint."""
        folder = self._make_folder("store")
        port = free_port()
        command = [binary(), "store", "--listen", f"127.0.0.1:{port}", "--data-dir", folder / "data"]
        env = {"CIPHERGATE_DEV_ACCESS_KEY": STORE[0], "CIPHERGATE_DEV_SECRET_KEY": STORE[1]}
        self._processes.append(Process("store", command, port, folder / "store.log", env))
        return f"http://127.0.0.1:{port}"

    @functools.cache
    def versitygw(self):
        """The Versity S3 Gateway over a folder, with versions; returns its endpoint."""
        program = _program("CIPHERGATE_TEST_VERSITYGW")
        folder = self._make_folder("versity")
        for name in ("data", "versions"):
            (folder / name).mkdir()
        port = free_port()
        command = [program, "--port", f"127.0.0.1:{port}", "--region", REGION, "--quiet", "--keep-alive"]
        command += ["posix", "--versioning-dir", folder / "versions", folder / "data"]
        env = {"ROOT_ACCESS_KEY": STORE[0], "ROOT_SECRET_KEY": STORE[1]}
        self._processes.append(Process("versitygw", command, port, folder / "versitygw.log", env))
        return f"http://127.0.0.1:{port}"

    @functools.cache
    def garage(self):
        """Garage as one node; returns its endpoint."""
        process = garage.start(_program("CIPHERGATE_TEST_GARAGE"), self._make_folder("garage-store"), REGION, STORE)
        self._processes.append(process)
        return f"http://127.0.0.1:{process.port}"

    def _make_folder(self, name):
        folder = self._folder / name
        folder.mkdir()
        return folder

    def logs(self):
        return "\n".join(f"--- last lines of the log of {process.name} ({process.log})\n{process.tail(15)}" for process in self._processes)

    def forget(self, site):
        """This gateway was ended by its test."""
        self._processes.remove(site.gateway)

    def dead(self):
        return [process.name for process in self._processes if not process.alive()]

    def stop(self):
        for process in reversed(self._processes):
            process.stop()


def _program(variable):
    path = os.environ.get(variable)
    if not path:
        raise RuntimeError(f"{variable} has to name the program: tests/run says which part sets it")
    return path


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
