"""What the backend holds after uploads of every kind: sealed bytes of the right length, no window of 16 bytes of the plaintext."""

import pytest
import requests
from kit import raw
from kit.data import MARKER, payload, shared_window
from kit.sizes import sealed_len

pytestmark = pytest.mark.gateway_only
SIZES = [0, 1, 16, 65_536, 65_537, 400_000, 6 * 1024 * 1024]


def repeating(size):
    """Sixteen different windows and no more, so that all of them can be looked for in a large object."""
    return (bytes(range(0x41, 0x51)) * (size // 16 + 1))[:size]


def test_the_check_itself():
    plain = payload(3000)
    assert shared_window(plain, b"x" * 100 + plain[1001:1017] + b"y" * 100) == 100
    assert shared_window(plain, b"x" * 100 + plain[1001:1016] + b"y" * 100) is None
    assert shared_window(plain, payload(3000, "other").replace(MARKER, b"")) is None


@pytest.mark.parametrize("make", [payload, repeating], ids=["random", "repeating"])
def test_no_plaintext(site, bucket, make):
    for size in SIZES:
        site.s3.put_object(Bucket=bucket, Key=f"{size}", Body=make(size))
    for size in SIZES:
        plain = make(size)
        stored, metadata = site.fetch_stored(bucket, f"{size}")
        assert len(stored) == sealed_len(size)
        if make is repeating:
            found = [offset for offset in range(16) if plain[offset : offset + 16] in stored] if size >= 32 else []
        elif size <= 400_000:
            found = shared_window(plain, stored)
        else:
            found = MARKER in stored
        assert not found, (size, found)
        assert list(metadata) == ["ciphergate"]


def test_every_way_in(site, bucket, tmp_path):
    body = payload(150_000)
    chunks, trailer = raw.pieces(body), {"x-amz-checksum-crc32": raw.crc32(body)}
    raw.put(site, bucket, "raw", body)
    raw.put_chunked(site, bucket, "chunks", lambda s: raw.signed_chunks(s, chunks), raw.SIGNED_CHUNKS, len(body))
    raw.put_chunked(
        site,
        bucket,
        "trailer",
        lambda s: raw.unsigned_chunks(chunks, trailer),
        raw.UNSIGNED_CHUNKS_TRAILER,
        len(body),
        {"x-amz-trailer": "x-amz-checksum-crc32"},
    )
    requests.put(raw.presign(site, "PUT", bucket, "presigned"), data=body, timeout=30)
    (tmp_path / "f").write_bytes(body)
    site.aws("s3", "cp", "--no-progress", tmp_path / "f", f"s3://{bucket}/cli")
    keys = ["chunks", "cli", "presigned", "raw", "trailer"]
    assert site.stored(bucket) == dict.fromkeys(keys, sealed_len(len(body)))
    bodies = [site.fetch_stored(bucket, key)[0] for key in keys]
    for stored in bodies:
        assert shared_window(body, stored) is None
    # One plaintext, five data keys: nothing of one object occurs in another.
    for stored in bodies[1:]:
        assert shared_window(bodies[0][:65_536], stored[:65_536]) is None


def test_over_https(tls_site, tls_bucket):
    for size in SIZES:
        tls_site.s3.put_object(Bucket=tls_bucket, Key=f"{size}", Body=payload(size))
    assert tls_site.stored(tls_bucket) == {f"{size}": sealed_len(size) for size in SIZES}


def test_metadata_that_leaks(site, bucket):
    """Checksums of the plaintext would tell what it is: they are inside the sealed footer, not beside the object."""
    body = payload(70_000)
    for algorithm in ("CRC32", "SHA256"):
        site.s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
        head = site.backend.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        values = [str(value) for name, value in head.items() if name.startswith("Checksum")]
        for known in (raw.b64digest("sha256", body), raw.crc32(body), raw.b64digest("md5", body)):
            assert known not in values and known not in str(head["Metadata"])
