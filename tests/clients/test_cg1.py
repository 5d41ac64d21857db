"""tools/cg1.py, which was written from docs/FORMAT.md alone, reads what the gateway writes, and refuses what every reader must refuse."""

import base64
import hashlib
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import tomllib
import uuid

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from kit.data import payload
from kit.reader import PATH, cg1, keys_of
from kit.site import KEY_ARN, LOCALSTACK, REGION, localstack
from test_multipart import LEAST, complete, upload

pytestmark = pytest.mark.gateway_only
VECTORS = pathlib.Path(__file__).parents[1] / "vectors"


def vectors(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


class Memory:
    """Sealed bytes at hand."""

    def __init__(self, sealed):
        self.sealed, self.size = sealed, len(sealed)

    def tail(self, length):
        return self.sealed[self.size - length :]

    def body(self):
        return io.BytesIO(self.sealed)


def stretch(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def sealed_vector(prk, vector):
    """The stored object of a vector, which the file holds whole only where it is short."""
    aead, body = {1: ChaCha20Poly1305, 2: AESGCM}[vector["suite"]], b""
    single = vector["layout"] == "single"
    for part in [{"number": 0, "part_id": "00" * 16, "plain_len": vector["plain_len"]}] if single else vector["parts"]:
        length = part["plain_len"]
        header = struct.pack(">16sHHIQ", bytes.fromhex(part["part_id"]), part["number"], 0, 0, length)
        key = aead(cg1.expand(prk, b"part" + header))
        chunks = range(0, length, 65536)
        body += header if chunks and not single else b""
        for number, at in enumerate(chunks):
            last = at + 65536 >= length
            body += key.encrypt(bytes(3) + number.to_bytes(8) + bytes([last]), stretch(length)[at : at + 65536], b"")
    footer = bytes.fromhex(vector["footer_sealed"] + vector["end"])
    return body + bytes(vector["object_len"] - len(body) - len(footer)) + footer


def test_it_is_short_enough_to_be_read():
    assert len(PATH.read_text().splitlines()) < 300


def test_vector_objects():
    known = vectors("objects")
    for vector in known["objects"]:
        prk = cg1.object_prk(vector["suite"], bytes.fromhex(known["dek"]))
        sealed = sealed_vector(prk, vector)
        assert hashlib.sha256(sealed).hexdigest() == vector["object_sha256"], vector["name"]
        plain = b"".join(cg1.plaintext(vector["suite"], prk, vector["layout"] == "multipart", Memory(sealed)))
        want = [vector["plain_len"]] if vector["layout"] == "single" else [part["plain_len"] for part in vector["parts"]]
        assert plain == b"".join(map(stretch, want)), vector["name"]


def test_vector_envelopes():
    known = vectors("keys")
    x, scope, key = bytes.fromhex(known["kek"]), known["scope"], known["key"]
    for suite in known["suites"]:
        for vector in suite["envelopes"]:
            envelope = cg1.Envelope(vector["text"])
            assert envelope.context(scope, key) == vector["key_context"]
            assert envelope.open(x, scope, key).hex() == suite["prk"]
            for wrong in [(x[::-1], scope, key), (x, scope + "x", key), (x, scope, key + "x")]:
                with pytest.raises(cg1.Refused):
                    envelope.open(*wrong)
    own = vectors("customer")
    for vector in own["envelopes"]:
        envelope = cg1.Envelope(vector["text"])
        expected = cg1.object_prk(vector["suite"], bytes.fromhex(own["dek"]))
        assert envelope.open(bytes.fromhex(own["customer_key"]), own["scope"], own["key"]) == expected
        with pytest.raises(cg1.Refused, match="another client's key"):
            envelope.open(bytes(32), own["scope"], own["key"])


def test_vector_metadata():
    known = vectors("metadata")
    x, scope, key = bytes.fromhex(known["kek"]), known["scope"], known["key"]
    for vector in known["sealed"]:
        envelope = cg1.Envelope(vector["envelope"])
        assert envelope.seals_metadata and envelope.customer == bool(vector["flags"] & 8)
        prk = envelope.open(x, scope, key)
        assert cg1.expand(prk, b"meta" + envelope.salt).hex() == vector["kmeta"]
        found = cg1.metadata(envelope, prk, vector["entry"])
        assert {name: os.fsencode(value).hex() for name, value in found.items()} == {pair["name"]: pair["value"] for pair in vector["metadata"]}
    for vector in known["broken"]:
        envelope = cg1.Envelope(vector["envelope"])
        prk = envelope.open(x, scope, key)
        with pytest.raises(cg1.Refused):
            cg1.metadata(envelope, prk, vector["entry"])
            pytest.fail(vector["name"])
    assert len(known["broken"]) > 25 and {vector["suite"] for vector in known["sealed"]} == {1, 2}


def test_vector_lengths():
    known = vectors("lengths")
    for pair in known["objects"]:
        assert cg1.plain_len(pair["object"]) == pair["plain"]
    for length in known["no_object"]:
        with pytest.raises(cg1.Refused):
            cg1.plain_len(length)


def test_vector_keyring():
    blob = bytes.fromhex("""
        010000000176e01c9be06df51680177cc720fc8cb4404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f44350253a79abdf4552cec
        50747ef236069765d873eddd752abf8c81ec9edb43fec3bc53e7abbe7f408fc56f466a9c6b""")
    envelope = type("Envelope", (), {"label": "k1", "blob": blob})
    ring = {"keys": [{"version": 1, "secret": bytes(range(32)).hex()}]}
    context = {"cg": "1", "scope": "bucket-a", "key": "dir/object.bin"}
    assert cg1.by_keyring(ring, envelope, context) == bytes(range(0x80, 0xA0))
    for place in range(len(blob)):
        envelope.blob = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        with pytest.raises(cg1.Refused):
            cg1.by_keyring(ring, envelope, context)


def test_broken_vectors():
    """Each is refused for its own reason, and no byte comes out before."""
    known = vectors("broken")
    for vector in known["objects"]:
        prk = cg1.object_prk(vector["suite"], bytes.fromhex(known["dek"]))
        released = []
        with pytest.raises(cg1.Refused):
            for piece in cg1.plaintext(vector["suite"], prk, vector["layout"] == "multipart", Memory(bytes.fromhex(vector["object"]))):
                released.append(piece)
        assert not released, vector["name"]
    texts = known["envelopes"] + vectors("customer")["broken"]
    for vector in texts:
        with pytest.raises(cg1.Refused):
            cg1.Envelope(vector["text"])
            pytest.fail(vector["name"])
    assert len(known["objects"]) > 50 and len(texts) > 20


class Kinds:
    """A gateway with a bucket for each way to encrypt, and objects of all kinds in them."""

    def __init__(self, sites, kind):
        run = uuid.uuid4().hex[:12]
        ways = {
            "plain": "",
            "aes": 'suite = "aes-256-gcm"\n',
            "shared": 'mode = "shared"\n',
            "shared-aes": 'mode = "shared"\nsuite = "aes-256-gcm"\nhash_key_names = true\n',
            "sealed": 'seal_metadata = true\n',
            "hashed": 'hash_key_names = true\nscope = "a scope of its own"\n',
        }
        self.buckets = {f"cg1-{way}-{run}": "a scope of its own" if way == "hashed" else f"cg1-{way}-{run}" for way in ways}
        config = "".join(f'[buckets."cg1-{way}-{run}"]\n{text}' for way, text in ways.items()) + "[multipart]\nput_bytes_max = 6000000\n"
        self.site = sites.start(kind, name=f"cg1-{kind}", config=config)
        self.own = hashlib.sha256(run.encode()).digest()
        self.objects = {}  # (bucket, key) to (plaintext, whether it has the client's own key)
        for bucket in self.buckets:
            self.site.s3.create_bucket(Bucket=bucket)
            self.fill(bucket)

    def fill(self, bucket):
        s3, own = self.site.s3, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": self.own}
        here = {"Bucket": bucket}
        for size in (0, 1, 65_536, 65_537, 200_000, 6_000_001):  # the last one is written in parts
            s3.put_object(**here, Key=f"a b/{size} ü", Body=payload(size))
            self.objects[bucket, f"a b/{size} ü"] = payload(size), False
        s3.put_object(**here, Key="checked", Body=payload(70_000), ChecksumAlgorithm="SHA256")
        s3.copy_object(**here, Key="copy", CopySource={**here, "Key": "checked"})
        s3.copy_object(**here, Key="copy of another bucket", CopySource={"Bucket": next(iter(self.buckets)), "Key": "checked"})
        for key in ("checked", "copy", "copy of another bucket"):
            self.objects[bucket, key] = payload(70_000), False
        for size in (0, 70_000):
            s3.put_object(**here, Key=f"own/{size}", Body=payload(size), **own)
            self.objects[bucket, f"own/{size}"] = payload(size), True
        whole, short = {1: payload(LEAST, 1), 3: payload(LEAST + 1, 3)}, {7: payload(70_001, 7)}  # a short part is spooled
        for key, parts, create, each, unbound in [
            ("parts/whole", whole, {}, {}, False),
            ("parts/short at the end", whole | short, {}, {}, False),
            ("parts/short alone", short, {}, {}, False),
            ("parts/empty", {1: b""}, {}, {}, False),
            ("parts/empty at the end", whole | {9: b""}, {}, {}, False),
            ("parts/number 10000", {9_999: payload(LEAST), 10_000: payload(LEAST + 70_000)}, {}, {}, False),
            ("parts/checked", whole | short, {"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "SHA256"}, False),
            ("parts/without receipts", whole | short, {}, {}, True),
            ("parts/own", whole | short, own, own, False),
        ]:
            upload_id, lines = upload(s3, bucket, key, parts, create, each)
            if each is own:
                lines = {"Parts": [{"PartNumber": line["PartNumber"], "ETag": line["ETag"]} for line in lines["Parts"]]}
            if unbound:
                for line in lines["Parts"]:
                    line["ETag"] = line["ETag"].strip('"').rpartition("-")[0]
            complete(s3, bucket, key, upload_id, lines, **(own if create is own else {}))
            self.objects[bucket, key] = b"".join(parts.values()), create is own

    def options(self, folder):
        """cg1.py's command line for this gateway's keys and store."""
        (folder / "own").write_bytes(base64.b64encode(self.own))
        site = self.site
        keys = ["--kms", f"main={KEY_ARN}", "--kms-endpoint", localstack()]
        return keys if site.kind == "localstack" else ["--keyring", site.folder.parent / "keyring"]


@pytest.fixture(scope="session")
def kinds(sites, backend_kind):
    return Kinds(sites, backend_kind)


PEAK = "import resource, subprocess, sys; subprocess.run(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


def reader(*arguments, keys=LOCALSTACK, between=()):
    env = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1], "AWS_DEFAULT_REGION": REGION}
    return subprocess.run([sys.executable, *between, PATH, *map(str, arguments)], env=env, capture_output=True, timeout=60)


def test_all_kinds(kinds):
    """Opened by what stands in the store alone, and equal to what went in."""
    site, seen = kinds.site, set()
    config = tomllib.loads((site.folder / "ciphergate.toml").read_text())
    for (bucket, key), (plain, own) in kinds.objects.items():
        source, scope = cg1.Bucket(site.backend, bucket, key), kinds.buckets[bucket]
        envelope = cg1.Envelope(source.envelope)
        assert envelope.customer == own
        x = kinds.own if own else cg1.x_of(envelope, scope, key, keys_of(config))
        prk = envelope.open(x, scope, key)
        assert ("content-type" in cg1.metadata(envelope, prk, source.entry)) == envelope.seals_metadata == bucket.startswith("cg1-sealed-")
        footer = cg1.Footer(envelope.suite, prk, envelope.multipart, source.size, source.tail)
        assert b"".join(cg1.plaintext(envelope.suite, prk, envelope.multipart, source)) == plain, (bucket, key)
        unbound = any(unbound for _, unbound in footer.parts)
        assert unbound == (key == "parts/without receipts")
        seen.add((envelope.suite, envelope.multipart, envelope.shared, envelope.hashed, envelope.customer))
    print(f"opened {len(kinds.objects)} objects of {len(seen)} kinds")
    for suite in (1, 2):
        for multipart in (False, True):
            assert {(suite, multipart, shared, False, False) for shared in (False, True)} <= seen
            assert (suite, multipart, False, False, True) in seen
    assert (1, False, False, True, False) in seen


def test_command_line(kinds, tmp_path):
    """From the bucket and from a file, to a file and to standard output."""
    site, keys = kinds.site, kinds.options(tmp_path)
    at_the_store = ["--endpoint", site.backend_endpoint, "--region", REGION]
    hashed = list(kinds.buckets)[-1]
    for key in ("a b/0 ü", "a b/200000 ü", "copy of another bucket", "own/70000", "parts/short at the end", "parts/own"):
        plain, own = kinds.objects[hashed, key]
        how = [*at_the_store, "--scope", kinds.buckets[hashed], *(["--customer-key", tmp_path / "own"] if own else keys)]
        done = reader(f"s3://{hashed}/{key}", *how, keys=site.backend_keys)
        assert (done.returncode, done.stderr) == (0, b"") and done.stdout == plain
        body, metadata = site.fetch_stored(hashed, key)
        (tmp_path / "sealed").write_bytes(body)
        named = ["--envelope", metadata["ciphergate"], "--key", key, "-o", tmp_path / "plain"]
        done = reader(tmp_path / "sealed", *how, *named)
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"") and (tmp_path / "plain").read_bytes() == plain
        shown = json.loads(reader(tmp_path / "sealed", "--inspect", "--envelope", metadata["ciphergate"]).stdout)
        assert (shown["plaintext_bytes"], shown["stored_bytes"], shown["customer"]) == (len(plain), len(body), own)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "plain", "sealed"]


def test_versions(kinds):
    site, bucket = kinds.site, next(iter(kinds.buckets))
    if site.kind == "garage":
        pytest.skip("garage has no versions")
    site.backend.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = [site.s3.put_object(Bucket=bucket, Key="versions", Body=payload(100, seed))["VersionId"] for seed in (1, 2)]
    for seed, version in enumerate(ids, 1):
        done = reader(
            f"s3://{bucket}/versions", "--endpoint", site.backend_endpoint, "--version-id", version, *kinds.options(site.folder), keys=site.backend_keys
        )
        assert done.stdout == payload(100, seed)


def test_refusals_of_the_command(kinds, tmp_path):
    """One line, exit code 1, and nothing stands under the name of the output."""
    site, bucket, key = kinds.site, next(iter(kinds.buckets)), "a b/200000 ü"
    body, metadata = site.fetch_stored(bucket, key)
    plain, keys = payload(200_000), kinds.options(tmp_path)

    def run(sealed, envelope=metadata["ciphergate"], scope=bucket, name=key, keys=keys, out=True):
        (tmp_path / "sealed").write_bytes(sealed)
        to = ["-o", tmp_path / "plain"] if out else []
        return reader(tmp_path / "sealed", "--envelope", envelope, "--scope", scope, "--key", name, *keys, *to)

    def refused(done):
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and done.stderr.startswith(b"cg1: "), done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "sealed"]

    last = bytearray(body)
    last[170_000] ^= 1
    refused(run(bytes(last)))
    done = run(bytes(last), out=False)
    refused(done)
    assert plain.startswith(done.stdout) and len(done.stdout) <= 131_072
    for sealed in (body[:-1], body + b"\0", body[:-40] + bytes(8) + body[-32:], b""):
        refused(run(sealed))
        assert run(sealed, out=False).stdout == b"" or len(sealed) == len(body)
    for wrong in ({"scope": "other"}, {"name": "other"}, {"envelope": metadata["ciphergate"][:-4]}, {"keys": []}):
        done = run(body, **wrong, out=False)
        refused(done)
        assert not done.stdout
    refused(run(body, keys=["--customer-key", tmp_path / "own"]))
    assert run(body).returncode == 0


def test_memory(kinds, tmp_path):
    """What it needs does not grow with the object."""
    site, bucket = kinds.site, next(iter(kinds.buckets))
    peaks = []
    for size in (1, 100 * 1024 * 1024):
        site.s3.put_object(Bucket=bucket, Key="large", Body=payload(100)[:1] * size)
        # A process in between: a child begins with the memory of the one that starts it.
        done = reader(
            *(f"s3://{bucket}/large", "--endpoint", site.backend_endpoint, *kinds.options(tmp_path), "-o", tmp_path / "out"),
            keys=site.backend_keys,
            between=["-c", PEAK, sys.executable],
        )
        assert (tmp_path / "out").stat().st_size == size, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 32 * 1024, f"{peaks} KiB"
    site.s3.delete_object(Bucket=bucket, Key="large")
