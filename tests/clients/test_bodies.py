"""Uploads that lie about themselves, written byte by byte. Each is refused, and nothing of it is in the backend afterwards."""

import contextlib
import hashlib
import socket
import struct
import time

import pytest
from kit import raw
from kit.data import payload

# More than one sealed chunk, so that a gateway which sends too early has something to send.
BODY = payload(300_000)
CHUNKS = raw.pieces(BODY)
TRAILER = {"x-amz-checksum-crc32": raw.crc32(BODY)}
WRONG_TRAILER = {"x-amz-checksum-crc32": raw.crc32(b"another body")}


def assert_refused(site, bucket, answer, *allowed, may_break=False):
    """`allowed`: (status, code) pairs of S3 for it. `may_break`: a broken connection is an answer too."""
    if answer is None:
        assert may_break, "the connection broke without an answer"
    else:
        assert (answer.status, answer.code) in allowed, answer
    assert_nothing(site, bucket)


def assert_nothing(site, bucket):
    time.sleep(0.2)
    assert site.stored(bucket) == {}


def chunked(site, bucket, frame, kind, decoded_length=len(BODY), headers=None, **options):
    return raw.put_chunked(site, bucket, "k", frame, kind, decoded_length, headers, **options)


def test_good_bodies_of_every_kind(site, bucket):
    """The other side of what follows: the same requests without the lie are stored."""
    hashed = hashlib.sha256(BODY).hexdigest()
    assert raw.put(site, bucket, "signed", BODY, hashed).status == 200
    assert raw.put(site, bucket, "unsigned", BODY).status == 200
    kinds = {
        "chunks": (lambda s: raw.signed_chunks(s, CHUNKS), raw.SIGNED_CHUNKS, {}),
        "chunks-trailer": (
            lambda s: raw.signed_chunks(s, CHUNKS, trailer=TRAILER),
            raw.SIGNED_CHUNKS_TRAILER,
            {"x-amz-trailer": "x-amz-checksum-crc32"},
        ),
        "unsigned-trailer": (
            lambda s: raw.unsigned_chunks(CHUNKS, TRAILER),
            raw.UNSIGNED_CHUNKS_TRAILER,
            {"x-amz-trailer": "x-amz-checksum-crc32"},
        ),
    }
    for key, (frame, kind, headers) in kinds.items():
        answer = raw.put_chunked(site, bucket, key, frame, kind, len(BODY), headers)
        assert answer.status == 200, (key, answer)
    empty = raw.put_chunked(site, bucket, "empty", lambda s: raw.signed_chunks(s, []), raw.SIGNED_CHUNKS, 0)
    assert empty.status == 200, empty
    for key in ("signed", "unsigned", *kinds):
        got = site.s3.get_object(Bucket=bucket, Key=key)
        assert got["Body"].read() == BODY and "ContentEncoding" not in got, key
    assert site.s3.get_object(Bucket=bucket, Key="empty")["Body"].read() == b""


@pytest.mark.gateway_only
def test_wrong_payload_hash(site, bucket):
    answer = raw.put(site, bucket, "k", BODY, hashlib.sha256(b"another body").hexdigest())
    assert_refused(site, bucket, answer, (400, "XAmzContentSHA256Mismatch"))
    answer = raw.put(site, bucket, "k", b"", hashlib.sha256(b"another body").hexdigest())
    assert_refused(site, bucket, answer, (400, "XAmzContentSHA256Mismatch"))


@pytest.mark.gateway_only
@pytest.mark.parametrize("bad", [0, 2, len(CHUNKS) - 1])
def test_tampered_signed_chunk(site, bucket, bad):
    def spoil(index, data):
        return bytes([data[0] ^ 1]) + data[1:] if index == bad else data

    answer = chunked(site, bucket, lambda s: raw.signed_chunks(s, CHUNKS, spoil=spoil), raw.SIGNED_CHUNKS)
    assert_refused(site, bucket, answer, (403, "SignatureDoesNotMatch"))


@pytest.mark.gateway_only
def test_wrong_trailer_signature(site, bucket):
    answer = chunked(
        site,
        bucket,
        lambda s: raw.signed_chunks(s, CHUNKS, trailer=TRAILER, spoil_trailer=True),
        raw.SIGNED_CHUNKS_TRAILER,
        headers={"x-amz-trailer": "x-amz-checksum-crc32"},
    )
    assert_refused(site, bucket, answer, (403, "SignatureDoesNotMatch"))


@pytest.mark.parametrize("signed", [True, False])
def test_wrong_trailer_checksum(site, bucket, signed):
    if signed:
        frame, kind = (lambda s: raw.signed_chunks(s, CHUNKS, trailer=WRONG_TRAILER)), raw.SIGNED_CHUNKS_TRAILER
    else:
        frame, kind = (lambda s: raw.unsigned_chunks(CHUNKS, WRONG_TRAILER)), raw.UNSIGNED_CHUNKS_TRAILER
    answer = chunked(site, bucket, frame, kind, headers={"x-amz-trailer": "x-amz-checksum-crc32"})
    assert_refused(site, bucket, answer, (400, "BadDigest"))


@pytest.mark.gateway_only
@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["0", "1", "300000"])
def test_announced_trailer_that_never_comes(site, bucket, body):
    chunks = raw.pieces(body)
    announced = {"x-amz-trailer": "x-amz-checksum-crc32"}
    none = raw.put_chunked(
        site, bucket, "k", lambda s: raw.unsigned_chunks(chunks, {}), raw.UNSIGNED_CHUNKS_TRAILER, len(body), announced, timeout=5
    )
    assert_refused(site, bucket, none, (400, "MalformedTrailerError"), (400, "InvalidRequest"), (400, "IncompleteBody"))
    cut = raw.put_chunked(
        site, bucket, "k", lambda s: raw.unsigned_chunks(chunks, {}, final=False), raw.UNSIGNED_CHUNKS_TRAILER, len(body), announced
    )
    assert_refused(site, bucket, cut, (400, "IncompleteBody"), (400, "MalformedTrailerError"), (400, "InvalidRequest"))


@pytest.mark.gateway_only
@pytest.mark.parametrize("difference", [-1, 1, -len(BODY), 65536])
@pytest.mark.parametrize("signed", [True, False])
def test_wrong_decoded_length(site, bucket, signed, difference):
    if signed:
        frame, kind, headers = (lambda s: raw.signed_chunks(s, CHUNKS)), raw.SIGNED_CHUNKS, {}
    else:
        frame, kind = (lambda s: raw.unsigned_chunks(CHUNKS, TRAILER)), raw.UNSIGNED_CHUNKS_TRAILER
        headers = {"x-amz-trailer": "x-amz-checksum-crc32"}
    answer = chunked(site, bucket, frame, kind, len(BODY) + difference, headers)
    assert_refused(site, bucket, answer, (400, "IncompleteBody"), (400, "InvalidRequest"), (400, "InvalidArgument"))


@pytest.mark.gateway_only
@pytest.mark.parametrize("body", [b"", BODY], ids=["0", "300000"])
def test_missing_final_chunk(site, bucket, body):
    answer = raw.put_chunked(
        site, bucket, "k", lambda s: raw.signed_chunks(s, raw.pieces(body), final=False), raw.SIGNED_CHUNKS, len(body)
    )
    assert_refused(site, bucket, answer, (400, "IncompleteBody"))


@pytest.mark.gateway_only
def test_bytes_after_the_final_chunk(site, bucket):
    answer = chunked(site, bucket, lambda s: raw.signed_chunks(s, CHUNKS) + b"5;chunk-signature=0\r\nextra\r\n", raw.SIGNED_CHUNKS)
    assert_refused(site, bucket, answer, (400, "IncompleteBody"), (403, "SignatureDoesNotMatch"), (400, "InvalidRequest"))


@pytest.mark.gateway_only
def test_chunk_framing_that_is_none(site, bucket):
    for body in (BODY, b"zz\r\n", b"-1\r\n\r\n", b"fffffffffffffffff\r\n", b"10000\nabc", b"\r\n" * 50):
        answer = chunked(site, bucket, lambda s: body, raw.SIGNED_CHUNKS)
        assert_refused(site, bucket, answer, (400, "IncompleteBody"), (403, "SignatureDoesNotMatch"), (400, "InvalidRequest"))


@pytest.mark.parametrize("sent", [0, 1000, 299_999])
def test_body_shorter_than_content_length(site, bucket, sent):
    """The client ends its side: the answer can still reach it."""
    answer = raw.put(site, bucket, "k", BODY[:sent], length=len(BODY), half_close=True)
    assert_refused(site, bucket, answer, (400, "IncompleteBody"), (400, "RequestTimeout"), may_break=True)


def test_body_longer_than_content_length(site, bucket):
    """What follows the declared length is no part of the object, and no second request either."""
    answer = raw.put(site, bucket, "k", BODY + b"GET / HTTP/1.1\r\n\r\n", length=len(BODY))
    # A client that closes its half counts as gone, so a broken connection is an answer too.
    assert answer is None or answer.status in (200, 400), answer
    if site.stored(bucket):
        assert site.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
    else:
        assert answer is None or answer.status == 400


@contextlib.contextmanager
def half_sent(site, bucket, body, sent, payload_hash=raw.UNSIGNED):
    """A connection on which `sent` bytes of a PUT are through."""
    headers = {"Content-Length": str(len(body))}
    signed = raw.Signed(site, "PUT", raw.target(bucket, "k"), headers, payload_hash)
    with contextlib.closing(raw.connect(site)) as connection:
        raw.start(connection, "PUT", signed.target, signed.headers)
        connection.send(body[:sent])
        yield connection


def reset(connection):
    """Close with a reset, as when a client is killed."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sock.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [0, 150_000, 299_999])
def test_client_goes_away_half_way(site, bucket, sent, how):
    with half_sent(site, bucket, BODY, sent) as connection:
        time.sleep(0.2)
        if how == "reset":
            reset(connection)
    time.sleep(0.5)
    assert_nothing(site, bucket)


def test_aborted_upload_keeps_the_old_object(site, bucket):
    old = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))
    with half_sent(site, bucket, BODY, 200_000) as connection:
        time.sleep(0.2)
        reset(connection)
    time.sleep(0.5)
    assert site.s3.get_object(Bucket=bucket, Key="k", IfMatch=old["ETag"])["Body"].read() == payload(1000)


def test_slow_client(site, bucket):
    """A pause in the middle is no fault."""
    with half_sent(site, bucket, BODY, 100_000) as connection:
        time.sleep(7)
        connection.send(BODY[100_000:])
        answer = raw.finish(connection)
    assert answer.status == 200, answer
    assert site.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY


def test_no_length(site, bucket):
    """S3 takes no PUT of unknown length."""
    signed = raw.Signed(site, "PUT", raw.target(bucket, "k"), {"Transfer-Encoding": "chunked"}, raw.UNSIGNED)
    answer = raw.send(site, "PUT", signed.target, signed.headers, b"5\r\nhello\r\n0\r\n\r\n")
    if site.kind != "direct":  # LocalStack stores it
        assert_refused(site, bucket, answer, (411, "MissingContentLength"))


@pytest.mark.gateway_only
def test_nothing_is_left_open(site, bucket):
    """After broken transfers in both directions the gateway holds no more descriptors than before."""
    site.s3.put_object(Bucket=bucket, Key="big", Body=payload(20 * 1024 * 1024))
    site.s3.list_objects_v2(Bucket=bucket)

    def break_some():
        for _ in range(10):
            with half_sent(site, bucket, BODY, 200_000) as connection:
                reset(connection)
            signed = raw.Signed(site, "GET", raw.target(bucket, "big"), {}, raw.EMPTY_SHA256)
            with contextlib.closing(raw.connect(site)) as connection:
                raw.start(connection, "GET", signed.target, signed.headers)
                connection.sock.recv(50_000)
                reset(connection)

    break_some()
    time.sleep(2)
    before = site.gateway.open_files()
    break_some()
    end = time.monotonic() + 15
    while site.gateway.open_files() > before + 3 and time.monotonic() < end:
        time.sleep(0.2)
    assert site.gateway.open_files() <= before + 3
    assert set(site.stored(bucket)) == {"big"}
