"""Buckets with a past: read-through and plaintext, over both backends."""

import hashlib
import uuid

import pytest
import requests
from kit import raw
from kit.data import payload
from kit.reader import READER
from kit.sizes import sealed_len
from kit.site import make_client
from test_objects import error

pytestmark = pytest.mark.gateway_only
MARK = "x-ciphergate-plaintext"


class Modes:
    def __init__(self, sites, kind):
        run = uuid.uuid4().hex[:12]
        self.old, self.open, self.sealed = f"old-{run}", f"open-{run}", f"sealed-{run}"
        config = f'[buckets."{self.old}"]\naccess = "read-through"\n[buckets."{self.open}"]\naccess = "plaintext"\n'
        self.site = sites.start(kind, name=f"modes-{kind}", config=config)
        self.tls = sites.start(kind, tls=True, name=f"modes-tls-{kind}", config=config)
        self.s3, self.behind = self.site.s3, self.site.backend
        for bucket in (self.old, self.open, self.sealed):
            self.s3.create_bucket(Bucket=bucket)


@pytest.fixture(scope="session")
def modes(sites, backend_kind):
    modes = Modes(sites, backend_kind)
    yield modes
    for bucket in (modes.old, modes.open, modes.sealed):
        READER.check(modes.site, bucket)


def marked(answer):
    return answer["ResponseMetadata"]["HTTPHeaders"].get(MARK) == "true"


def test_read_through(modes):
    s3, here = modes.s3, {"Bucket": modes.old, "Key": "before"}
    for size in (0, 10, 240, sealed_len(70_000), 200_000):
        put = modes.behind.put_object(**here, Body=payload(size), ContentType="text/x", Metadata={"a": "b"})
        got = s3.get_object(**here)
        assert got["Body"].read() == payload(size) and marked(got) and got["ETag"] == put["ETag"]
        assert (got["ContentType"], got["Metadata"]) == ("text/x", {"a": "b"})
        head = s3.head_object(**here)
        assert head["ContentLength"] == size and marked(head) and "ServerSideEncryption" not in head or head["ServerSideEncryption"] == "AES256"
    for text in ("0-0", "65536-65540", "131072-199999", "-7", "199999-"):
        got = s3.get_object(**here, Range=f"bytes={text}")
        want = payload(200_000)[-7:] if text == "-7" else payload(200_000)[int(text.split("-")[0]) : int(text.split("-")[1] or 199_999) + 1]
        assert got["Body"].read() == want and marked(got) and got["ResponseMetadata"]["HTTPStatusCode"] == 206
    s3.put_object(**here, Body=payload(500))
    got = s3.get_object(**here)
    assert got["Body"].read() == payload(500) and not marked(got)
    assert "ciphergate" in modes.behind.head_object(**here)["Metadata"]


def test_read_through_listing(modes):
    for number, size in enumerate((3, 240, sealed_len(5))):
        modes.behind.put_object(Bucket=modes.old, Key=f"list/plain{number}", Body=payload(size))
        modes.s3.put_object(Bucket=modes.old, Key=f"list/sealed{number}", Body=payload(size))
    want = {f"list/{kind}{number}": size for kind in ("plain", "sealed") for number, size in enumerate((3, 240, sealed_len(5)))}
    for call in (modes.s3.list_objects_v2, modes.s3.list_objects):
        assert {entry["Key"]: entry["Size"] for entry in call(Bucket=modes.old, Prefix="list/")["Contents"]} == want
    if modes.site.kind == "localstack":
        versions = modes.s3.list_object_versions(Bucket=modes.old, Prefix="list/")["Versions"]
        assert {entry["Key"]: entry["Size"] for entry in versions} == want


def test_plaintext_in_an_encrypted_bucket(modes):
    modes.behind.put_object(Bucket=modes.sealed, Key="k", Body=payload(1000))
    assert error(modes.s3.get_object, Bucket=modes.sealed, Key="k") == (403, "IntegrityCheckFailed")


@pytest.mark.parametrize("over_tls", [False, True])
def test_plaintext_bucket(modes, over_tls):
    """Over TLS boto3 sends its checksum as a trailer: it arrives at the store as one."""
    site = modes.tls if over_tls else modes.site
    here = {"Bucket": modes.open, "Key": "a b/ü"}
    for size in (0, 10, 300_000):
        sent = {"ContentType": "text/x", "ContentEncoding": "gzip", "CacheControl": "no-store", "Metadata": {"a": "b"}}
        put = site.s3.put_object(**here, Body=payload(size), ChecksumAlgorithm="CRC32", **sent)
        behind = modes.behind.get_object(**here)
        assert behind["Body"].read() == payload(size) and behind["ETag"] == put["ETag"]
        assert {name: behind[name] for name in sent} == sent
        assert put["ChecksumCRC32"]
        got = site.s3.get_object(**here, ChecksumMode="ENABLED")
        assert got["Body"].read() == payload(size) and not marked(got)
        assert site.s3.head_object(**here)["ContentLength"] == size
    assert site.s3.get_object(**here, Range="bytes=70000-70009")["Body"].read() == payload(300_000)[70_000:70_010]
    assert error(site.s3.get_object, **here, IfNoneMatch=put["ETag"])[0] == 304
    assert error(site.s3.put_object, **here, Body=b"x", IfNoneMatch="*") == (412, "PreconditionFailed")
    listed = site.s3.list_objects_v2(Bucket=modes.open)["Contents"]
    assert {entry["Key"]: entry["Size"] for entry in listed} == {"a b/ü": 300_000}
    site.s3.delete_objects(Bucket=modes.open, Delete={"Objects": [{"Key": "a b/ü"}]})
    assert "Contents" not in site.s3.list_objects_v2(Bucket=modes.open)


def test_plaintext_bucket_presigned(modes):
    here = {"Bucket": modes.open, "Key": "signed"}
    url = modes.s3.generate_presigned_url("put_object", Params={**here, "Metadata": {"a": "b"}})
    assert requests.put(url, data=payload(1000), headers={"x-amz-meta-a": "b"}, timeout=30).status_code == 200
    got = requests.get(modes.s3.generate_presigned_url("get_object", Params={**here, "ResponseContentType": "text/y"}), timeout=30)
    assert got.content == payload(1000) and got.headers["Content-Type"] == "text/y"


@pytest.mark.parametrize("spoil", ["hash", "trailer", "short"])
def test_a_bad_body_leaves_nothing_in_a_plaintext_bucket(modes, spoil):
    body = payload(70_000)
    if spoil == "hash":
        answer = raw.put(modes.site, modes.open, "bad", body, payload_hash=hashlib.sha256(b"other").hexdigest())
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch"), answer
    elif spoil == "short":
        signed = raw.Signed(modes.site, "PUT", raw.target(modes.open, "bad"), {"Content-Length": str(len(body) + 5)}, raw.UNSIGNED)
        answer = raw.send(modes.site, "PUT", signed.target, signed.headers, body, half_close=True)
        assert answer is None or (answer.status, answer.code) == (400, "IncompleteBody"), answer
    else:
        headers = {"x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": str(len(body)), "Content-Encoding": "aws-chunked"}
        framed = b"%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n" % (len(body), body)
        answer = raw.put(modes.site, modes.open, "bad", framed, payload_hash=raw.UNSIGNED_CHUNKS_TRAILER, headers=headers)
        assert answer.status == 400, answer
    assert error(modes.behind.head_object, Bucket=modes.open, Key="bad")[0] == 404


def test_plaintext_bucket_multipart(modes):
    here = {"Bucket": modes.open, "Key": "parts"}
    upload = {**here, "UploadId": modes.s3.create_multipart_upload(**here)["UploadId"]}
    parts = [payload(5 * 1024 * 1024, 1), payload(10, 2)]
    done = [{"PartNumber": n, "ETag": modes.s3.upload_part(**upload, PartNumber=n, Body=part)["ETag"]} for n, part in enumerate(parts, 1)]
    modes.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
    assert modes.s3.get_object(**here)["Body"].read() == b"".join(parts)
    assert modes.behind.get_object(**here)["Body"].read() == b"".join(parts)
    assert modes.s3.get_object(**here, PartNumber=2)["Body"].read() == parts[1]
    copied = modes.s3.copy_object(Bucket=modes.open, Key="copy", CopySource={"Bucket": modes.open, "Key": "parts"})
    assert copied["CopyObjectResult"]["ETag"]
    assert modes.behind.get_object(Bucket=modes.open, Key="copy")["Body"].read() == b"".join(parts)


def test_ciphertext_is_not_copied_into_a_plaintext_bucket(modes):
    modes.s3.put_object(Bucket=modes.sealed, Key="secret", Body=payload(100))
    for source in (modes.sealed, modes.old):
        refused = error(modes.s3.copy_object, Bucket=modes.open, Key="c", CopySource={"Bucket": source, "Key": "secret"})
        assert refused == (501, "NotImplemented")
    assert error(modes.behind.head_object, Bucket=modes.open, Key="c")[0] == 404


def test_who_is_not_known_does_not_get_in(modes):
    stranger = make_client(modes.site.endpoint, ("UNKNOWNACCESSKEY0000", "no-secret"))
    assert error(stranger.get_object, Bucket=modes.open, Key="k") == (403, "InvalidAccessKeyId")
    assert requests.get(f"{modes.site.endpoint}/{modes.open}/k", timeout=30).status_code == 403
    signed = raw.Signed(modes.site, "GET", f"/{modes.open}?surprise=1", {}, raw.EMPTY_SHA256)
    assert raw.send(modes.site, "GET", signed.target, signed.headers).status == 400
