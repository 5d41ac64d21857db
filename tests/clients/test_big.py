"""The acceptance run: sizes of gigabytes, copies of them and many streams at once, with the gateway's peak memory. `tests/run big`; not in the default run.

The store is a process of its own, so the memory is the gateway's alone. Needs about 14 GiB below the temporary folder.
"""

import contextlib
import hashlib
import os
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from kit import raw
from kit.data import MARKER
from kit.sizes import sealed_len

pytestmark = [pytest.mark.big, pytest.mark.gateway_only]
MIB = 1024 * 1024
PIECE = MIB


def stream(size, seed):
    """`size` bytes that nothing repeats, a MiB at a time, made faster than they are sent. Each MiB begins with the marker."""
    source = Cipher(algorithms.AES(seed.to_bytes(32, "big")), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(PIECE)
    for start in range(0, size, PIECE):
        piece = source.update(zeros)
        yield (MARKER + piece[16:])[: size - start]


@pytest.fixture
def fresh_site(sites, request):
    """A gateway whose memory nothing else has touched."""
    site = sites.start("embedded", name=f"big-{request.node.name.replace('[', '-').rstrip(']')}")
    yield site
    site.gateway.stop()
    sites.forget(site)


def report(site, what, size, seconds):
    rate, peak = size / MIB / seconds, site.gateway.memory_peak() / MIB
    print(f"\n{what}: {rate:.0f} MiB/s, gateway {site.gateway.cpu_seconds():.1f} CPU s so far, peak memory {peak:.1f} MiB")
    return peak


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 100 * MIB, 4096 * MIB])
def test_up_and_down_with_the_command_line(fresh_site, tmp_path, size):
    site, up, down = fresh_site, tmp_path / "up", tmp_path / "down"
    digest = hashlib.sha256()
    with open(up, "wb") as file:
        for piece in stream(size, 1):
            digest.update(piece)
            file.write(piece)
    with fresh_bucket_unread(site) as bucket:
        start = time.monotonic()
        site.aws("s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", up)
        put_peak = report(site, f"PUT of {size}", size, time.monotonic() - start)
        up.unlink()
        assert site.stored(bucket) == {"k": sealed_len(size)}
        assert site.aws("s3", "ls", f"s3://{bucket}/k").stdout.split()[2] == str(size)
        start = time.monotonic()
        site.aws("s3api", "get-object", "--bucket", bucket, "--key", "k", down)
        get_peak = report(site, f"GET of {size}", size, time.monotonic() - start)
        with open(down, "rb") as file:
            assert hashlib.file_digest(file, "sha256").digest() == digest.digest()
        if size:
            part = site.s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={size - 1}-")
            with open(down, "rb") as file:
                file.seek(size - 1)
                assert part["Body"].read() == file.read()
        down.unlink()
        assert_no_marker(site, bucket)
        moved = site.moved_bytes()
        # The counters do count.
        assert moved["store_sent"] >= size and moved["store_received"] >= size, moved
        start = time.monotonic()
        site.s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
        report(site, f"copy of {size}", size, time.monotonic() - start)
        now = {name: value - moved[name] for name, value in site.moved_bytes().items()}
        assert now["store_sent"] == now["store_received"] == now["request_body"] == 0 and now["response_body"] < 1000, now
        copied = hashlib.sha256()
        for piece in site.s3.get_object(Bucket=bucket, Key="copy")["Body"].iter_chunks(PIECE):
            copied.update(piece)
        assert copied.digest() == digest.digest()
    assert max(put_peak, get_peak) < 64


def test_64_at_once(fresh_site):
    """64 uploads of 64 MiB, then 64 downloads, all running at the same time."""
    site, size, many = fresh_site, 64 * MIB, 64
    with fresh_bucket_unread(site) as bucket:

        def put(number):
            connection = raw.connect(site, timeout=600)
            with contextlib.closing(connection):
                url = urllib.parse.urlsplit(raw.presign(site, "PUT", bucket, f"{number}", expires=3600))
                raw.start(connection, "PUT", f"{url.path}?{url.query}", {"Content-Length": str(size)})
                digest = hashlib.md5()
                for piece in stream(size, number):
                    digest.update(piece)
                    connection.send(piece)
                answer = raw.finish(connection)
                assert answer.status == 200, answer
                return digest.digest()

        def get(number):
            connection = raw.connect(site, timeout=600)
            with contextlib.closing(connection):
                url = urllib.parse.urlsplit(raw.presign(site, "GET", bucket, f"{number}", expires=3600))
                raw.start(connection, "GET", f"{url.path}?{url.query}", {})
                response, digest = connection.getresponse(), hashlib.md5()
                assert response.status == 200
                while piece := response.read(PIECE):
                    digest.update(piece)
                return digest.digest()

        with ThreadPoolExecutor(many) as pool:
            start = time.monotonic()
            sent = list(pool.map(put, range(many)))
            put_peak = report(site, f"{many} PUTs of 64 MiB", many * size, time.monotonic() - start)
            start = time.monotonic()
            assert list(pool.map(get, range(many))) == sent
            get_peak = report(site, f"{many} GETs of 64 MiB", many * size, time.monotonic() - start)
        assert site.stored(bucket) == {f"{number}": sealed_len(size) for number in range(many)}
    assert max(put_peak, get_peak) < 256


def test_slow_readers(fresh_site):
    """64 readers that stop reading: what waits for them is bounded."""
    site, size = fresh_site, 64 * MIB
    with fresh_bucket_unread(site) as bucket:
        connection = raw.connect(site, timeout=60)
        with contextlib.closing(connection):
            signed = raw.Signed(site, "PUT", raw.target(bucket, "k"), {"Content-Length": str(size)}, raw.UNSIGNED)
            raw.start(connection, "PUT", signed.target, signed.headers)
            for piece in stream(size, 1):
                connection.send(piece)
            assert raw.finish(connection).status == 200
        signed = raw.Signed(site, "GET", raw.target(bucket, "k"), {}, raw.EMPTY_SHA256)
        with contextlib.ExitStack() as stack:
            for _ in range(64):
                reader = stack.enter_context(contextlib.closing(raw.connect(site)))
                raw.start(reader, "GET", signed.target, signed.headers)
            time.sleep(10)
            peak = report(site, "64 stalled readers", size, 10)
    assert peak < 256


@contextlib.contextmanager
def fresh_bucket_unread(site):
    """A bucket whose objects are not read again at the end, as `fresh_bucket` does: they are too large for that."""
    name = f"big-{os.urandom(8).hex()}"
    site.s3.create_bucket(Bucket=name)
    try:
        yield name
    finally:
        with contextlib.suppress(Exception):
            for key in site.stored(name):
                site.backend.delete_object(Bucket=name, Key=key)
            site.backend.delete_bucket(Bucket=name)


def assert_no_marker(site, bucket):
    """The stored object, a piece at a time with an overlap."""
    body, before = site.backend.get_object(Bucket=bucket, Key="k")["Body"], b""
    for piece in body.iter_chunks(4 * MIB):
        assert MARKER not in before + piece
        before = piece[-15:]
