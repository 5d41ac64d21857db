"""Checksums: every kind the SDK offers, as a header (HTTP) and as a trailer (HTTPS), asked back, and wrong ones refused."""

import base64
import hashlib

import pytest
import requests
from botocore.httpchecksum import _CHECKSUM_CLS
from kit import raw
from kit.data import payload
from test_objects import error

ALGORITHMS = sorted(name.upper() for name in _CHECKSUM_CLS)
BODY = payload(150_001)


def checksum(algorithm, body):
    if algorithm == "MD5":
        return base64.b64encode(hashlib.md5(body).digest()).decode()
    kind = _CHECKSUM_CLS[algorithm.lower()]()
    kind.update(body)
    return base64.b64encode(kind.digest()).decode()


def skip_where_localstack_fails(site, algorithm):
    if site.kind == "direct" and algorithm not in ("CRC32", "CRC64NVME", "SHA1", "SHA256"):
        pytest.skip(f"LocalStack itself does not do {algorithm}")


def asked_back(site, bucket, algorithm, body=BODY):
    """HEAD and GET give the checksum only to those who ask; boto3 checks the body against it while reading."""
    field = f"Checksum{algorithm}"
    want = checksum(algorithm, body)
    got = site.s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body and got[field] == want and got["ChecksumType"] == "FULL_OBJECT"
    head = site.s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[field] == want and head["ChecksumType"] == "FULL_OBJECT"
    assert field not in site.s3.head_object(Bucket=bucket, Key="k")
    part = site.s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", Range="bytes=1-70000")
    assert part["Body"].read() == body[1:70001]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sdk_checksum_as_header(site, bucket, algorithm):
    skip_where_localstack_fails(site, algorithm)
    put = site.s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm=algorithm)
    assert put[f"Checksum{algorithm}"] == checksum(algorithm, BODY)
    asked_back(site, bucket, algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sdk_checksum_as_trailer(tls_site, tls_bucket, algorithm):
    skip_where_localstack_fails(tls_site, algorithm)
    put = tls_site.s3.put_object(Bucket=tls_bucket, Key="k", Body=BODY, ChecksumAlgorithm=algorithm, ContentEncoding="gzip")
    assert put[f"Checksum{algorithm}"] == checksum(algorithm, BODY)
    asked_back(tls_site, tls_bucket, algorithm)
    # aws-chunked is how the body travelled and no property of the object; gzip is one.
    assert tls_site.s3.head_object(Bucket=tls_bucket, Key="k")["ContentEncoding"] == "gzip"


def test_trailer_without_other_encoding(tls_site, tls_bucket):
    for size in (0, 1, 65536):
        tls_site.s3.put_object(Bucket=tls_bucket, Key="k", Body=payload(size))
        got = tls_site.s3.get_object(Bucket=tls_bucket, Key="k")
        assert got["Body"].read() == payload(size) and "ContentEncoding" not in got


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "MD5"])
@pytest.mark.gateway_only
def test_wrong_checksum_header(site, bucket, algorithm):
    name = f"x-amz-checksum-{algorithm.lower()}"
    answer = raw.put(site, bucket, "k", BODY, headers={name: checksum(algorithm, b"another body")})
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    assert site.stored(bucket) == {}
    answer = raw.put(site, bucket, "k", BODY, headers={name: "AAAA"})
    assert answer.status == 400, answer
    assert site.stored(bucket) == {}
    answer = raw.put(site, bucket, "k", BODY, headers={name: checksum(algorithm, BODY)})
    assert answer.status == 200, answer


def test_content_md5(site, bucket):
    answer = raw.put(site, bucket, "k", BODY, headers={"Content-MD5": raw.b64digest("md5", b"another body")})
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    answer = raw.put(site, bucket, "k", BODY, headers={"Content-MD5": "bm90IGEgbWQ1"})
    assert (answer.status, answer.code) == (400, "InvalidDigest"), answer
    assert site.stored(bucket) == {}
    assert raw.put(site, bucket, "k", BODY, headers={"Content-MD5": raw.b64digest("md5", BODY)}).status == 200
    assert site.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY


@pytest.mark.gateway_only
def test_two_checksums_in_one_request(site, bucket):
    headers = {"x-amz-checksum-crc32": raw.crc32(BODY), "x-amz-checksum-sha256": raw.b64digest("sha256", BODY)}
    answer = raw.put(site, bucket, "k", BODY, headers=headers)
    assert answer.status == 400, answer
    assert site.stored(bucket) == {}


@pytest.mark.gateway_only  # LocalStack itself spoils the old body
def test_wrong_checksum_keeps_the_old_object(site, bucket):
    old = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))
    assert error(site.s3.put_object, Bucket=bucket, Key="k", Body=BODY, ChecksumSHA256=raw.b64digest("sha256", b"no")) == (400, "BadDigest")
    assert site.s3.get_object(Bucket=bucket, Key="k", IfMatch=old["ETag"])["Body"].read() == payload(1000)


def test_checksum_in_a_presigned_url_is_ignored(site, bucket):
    """S3 ignores it: SDKs put the checksum of an empty body there, since they do not know the body when they make the URL."""
    query = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "CRC32"}
    answer = requests.put(raw.presign(site, "PUT", bucket, "k", query=query), data=BODY, timeout=30)
    assert answer.status_code == 200, answer.text
    assert site.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
    # A signed header is meant.
    headers = {"x-amz-checksum-crc32": "AAAAAA=="}
    answer = requests.put(raw.presign(site, "PUT", bucket, "k", headers=headers), data=BODY, headers=headers, timeout=30)
    assert answer.status_code == 400 and b"<Code>BadDigest</Code>" in answer.content, answer.text
