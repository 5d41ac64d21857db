"""Somebody with write access to the bucket: whatever is changed behind the gateway is refused, and no wrong byte comes out."""

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from conftest import fresh_bucket
from kit.data import payload
from kit.sizes import sealed_len
from test_objects import error

pytestmark = pytest.mark.gateway_only
REFUSED = (403, "IntegrityCheckFailed")
SIZE = 200_000
BROKEN = (ResponseStreamingError, ConnectionClosedError, IncompleteReadError, ReadTimeoutError)


def put_back(site, bucket, key, body, metadata):
    site.plant(bucket, key, body, metadata)


def read(site, bucket, key, **options):
    """What a client gets: ("refused", (status, code)), ("broken", bytes so far) or ("whole", bytes)."""
    try:
        answer = site.s3.get_object(Bucket=bucket, Key=key, **options)
    except ClientError as refusal:
        return "refused", (refusal.response["ResponseMetadata"]["HTTPStatusCode"], refusal.response["Error"]["Code"])
    except BROKEN:
        return "broken", b""
    got = bytearray()
    try:
        for piece in answer["Body"].iter_chunks(4096):
            got += piece
    except BROKEN:
        return "broken", bytes(got)
    return "whole", bytes(got)


def assert_no_wrong_byte(site, bucket, key, plain, **options):
    how, what = read(site, bucket, key, **options)
    assert how != "whole", f"a damaged object was served whole ({len(what)} bytes)"
    if how == "refused":
        assert what == REFUSED
    else:
        assert plain.startswith(what) and len(what) < len(plain)


@pytest.fixture
def victim(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(SIZE), Metadata={"colour": "blue"})
    return site.fetch_stored(bucket, "k")


def test_plaintext_in_the_bucket(site, bucket):
    for size in (0, 10, 239, 240, sealed_len(1000)):
        site.plant(bucket, "k", payload(size))
        assert error(site.s3.get_object, Bucket=bucket, Key="k") == REFUSED, size
        assert error(site.s3.head_object, Bucket=bucket, Key="k")[0] == 403, size
        if size:
            assert error(site.s3.get_object, Bucket=bucket, Key="k", Range="bytes=0-3")[0] in (403, 416), size


def test_moved_to_another_key(site, bucket, victim):
    body, metadata = victim
    site.s3.put_object(Bucket=bucket, Key="other", Body=payload(SIZE, "other"))
    put_back(site, bucket, "other", body, metadata)
    assert error(site.s3.get_object, Bucket=bucket, Key="other") == REFUSED
    assert error(site.s3.get_object, Bucket=bucket, Key="other", Range="bytes=0-9") == REFUSED


def test_body_of_another_object(site, bucket, victim):
    body, _ = victim
    site.s3.put_object(Bucket=bucket, Key="other", Body=payload(SIZE, "other"))
    _, metadata = site.fetch_stored(bucket, "other")
    put_back(site, bucket, "other", body, metadata)
    assert error(site.s3.get_object, Bucket=bucket, Key="other") == REFUSED
    assert error(site.s3.get_object, Bucket=bucket, Key="other", Range="bytes=-5") == REFUSED


def test_older_body_with_newer_envelope(site, bucket, victim):
    body, _ = victim
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(SIZE))
    _, newer = site.fetch_stored(bucket, "k")
    put_back(site, bucket, "k", body, newer)
    assert error(site.s3.get_object, Bucket=bucket, Key="k") == REFUSED


def test_moved_to_another_bucket(site, bucket, victim):
    body, metadata = victim
    with fresh_bucket(site) as other:
        put_back(site, other, "k", body, metadata)
        assert error(site.s3.get_object, Bucket=other, Key="k") == REFUSED


@pytest.mark.parametrize("place", [0, 40_000, 65_551, 65_552, 131_104, 199_999, -240, -100, -33, -32, -20, -1])
def test_flipped_bit(site, bucket, victim, place):
    """In chunks and their tags, padding, footer and end marker."""
    body, metadata = victim
    changed = bytearray(body)
    changed[place] ^= 0x10
    put_back(site, bucket, "k", bytes(changed), metadata)
    assert_no_wrong_byte(site, bucket, "k", payload(SIZE))


@pytest.mark.parametrize("length", [0, 1, 239, 65_552, 131_104, 199_000, sealed_len(SIZE) - 240, sealed_len(SIZE) - 16, sealed_len(SIZE) - 1])
def test_truncated(site, bucket, victim, length):
    body, metadata = victim
    put_back(site, bucket, "k", body[:length], metadata)
    assert_no_wrong_byte(site, bucket, "k", payload(SIZE))
    assert_no_wrong_byte(site, bucket, "k", payload(SIZE)[-70_000:], Range="bytes=-70000")


def test_extended_and_rearranged(site, bucket, victim):
    body, metadata = victim
    chunk = 65_552
    swapped = body[chunk : 2 * chunk] + body[:chunk] + body[2 * chunk :]
    for changed in (body + b"\0", body + body, body[:chunk] + body, swapped, body[chunk:], body[:chunk] + body[2 * chunk :]):
        put_back(site, bucket, "k", changed, metadata)
        assert_no_wrong_byte(site, bucket, "k", payload(SIZE))


def test_empty_object_from_nothing(site, bucket, victim):
    """Any 240 bytes have the length of an empty object."""
    _, metadata = victim
    for body in (bytes(240), victim[0][-240:], b"\xff" * 240):
        put_back(site, bucket, "k", body, metadata)
        assert error(site.s3.get_object, Bucket=bucket, Key="k") == REFUSED


def test_envelope_changed(site, bucket, victim):
    body, metadata = victim
    envelope = metadata["ciphergate"]
    middle = len(envelope) // 2
    flipped = {
        "head": ("B" if envelope[0] != "B" else "C") + envelope[1:],
        "middle": envelope[:middle] + ("A" if envelope[middle] != "A" else "B") + envelope[middle + 1 :],
        "end": envelope[:-4] + ("AAAA" if envelope[-4:] != "AAAA" else "BBBB"),
        "longer": envelope + "AAAA",
        "shorter": envelope[:-4],
        "empty": "",
        "padded": envelope + "=",
        "junk": "not base64 !",
        "two": f"{envelope},{envelope}",
    }
    for name, text in flipped.items():
        put_back(site, bucket, "k", body, {**metadata, "ciphergate": text})
        assert error(site.s3.get_object, Bucket=bucket, Key="k") == REFUSED, name
        if name not in ("middle", "end"):  # still well formed, and HEAD, which needs no key, sees the form alone
            assert error(site.s3.head_object, Bucket=bucket, Key="k")[0] == 403, name
    put_back(site, bucket, "k", body, {"colour": "blue"})
    assert error(site.s3.get_object, Bucket=bucket, Key="k") == REFUSED
    # The object itself is still good: nothing but the envelope was wrong.
    put_back(site, bucket, "k", body, metadata)
    assert read(site, bucket, "k") == ("whole", payload(SIZE))
    site.planted.discard((bucket, "k"))


def test_ranges_of_a_damaged_object(site, bucket, victim):
    """A range beside the damage may be served, since each chunk proves its place in the whole; one over it may not."""
    body, metadata = victim
    changed = bytearray(body)
    changed[70_000] ^= 1
    put_back(site, bucket, "k", bytes(changed), metadata)
    how, what = read(site, bucket, "k", Range="bytes=0-9")
    assert (how, what) == ("whole", payload(SIZE)[:10])
    assert_no_wrong_byte(site, bucket, "k", payload(SIZE)[70_000:70_010], Range="bytes=70000-70009")
    assert_no_wrong_byte(site, bucket, "k", payload(SIZE)[:100_000], Range="bytes=0-99999")
