"""Objects through boto3: bytes, names, metadata, headers, ETags, ranges and conditions."""

import email.header
import re

import pytest
import requests
from botocore.exceptions import ClientError
from kit import raw
from kit.data import payload
from kit.sizes import sealed_len

SIZES = [0, 1, 15, 16, 17, 65535, 65536, 65537, 131071, 131072, 131073, 1_000_000, 5 * 1024 * 1024 - 1, 5 * 1024 * 1024]
ODD_KEYS = [
    "plain",
    "a b+c%d&e=f;g:h@i,j?k#l",
    "naïve/ключ/鍵/🔑",
    "//two//slashes//",
    "ends with a slash/",
    "a/../b",
    "../up",
    "./here",
    "..",
    "%2F%2e%2E",
    "quote'\"<xml>&amp;",
    "back\\slash",
    "k" * 1024,
    "é" * 512,
]


def error(call, *args, **kwargs):
    """Status and code of the refusal that a call has to end with."""
    with pytest.raises(ClientError) as caught:
        call(*args, **kwargs)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_sizes_and_etags(site, bucket):
    etags = {}
    for size in SIZES:
        body = payload(size)
        put = site.s3.put_object(Bucket=bucket, Key=f"{size:08}", Body=body)
        etags[f"{size:08}"] = put["ETag"]
        head = site.s3.head_object(Bucket=bucket, Key=f"{size:08}")
        got = site.s3.get_object(Bucket=bucket, Key=f"{size:08}")
        assert got["Body"].read() == body
        assert head["ContentLength"] == got["ContentLength"] == size
        assert put["ETag"] == head["ETag"] == got["ETag"]
        assert head["LastModified"] == got["LastModified"]
        assert head["AcceptRanges"] == got["AcceptRanges"] == "bytes"
    for listing in (site.s3.list_objects_v2(Bucket=bucket), site.s3.list_objects(Bucket=bucket)):
        assert {entry["Key"]: entry["Size"] for entry in listing["Contents"]} == {f"{size:08}": size for size in SIZES}
        assert {entry["Key"]: entry["ETag"] for entry in listing["Contents"]} == etags


@pytest.mark.gateway_only
def test_what_the_backend_holds(site, bucket):
    for size in SIZES:
        put = site.s3.put_object(Bucket=bucket, Key=f"{size}", Body=payload(size))
        # 32 hex digits alone look like the MD5 of the plaintext to clients, which then compare it and fail.
        assert not re.fullmatch(r'"[0-9a-f]{32}"', put["ETag"]), put["ETag"]
        # Old Java SDKs decode the ETag as hex unless they see this.
        assert put["ServerSideEncryption"] == "aws:kms"
    assert site.stored(bucket) == {f"{size}": sealed_len(size) for size in SIZES}


def test_overwrite_and_delete(site, bucket):
    first = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(100_000, "one"))
    second = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(70_000, "two"))
    assert first["ETag"] != second["ETag"]
    assert site.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == payload(70_000, "two")
    site.s3.delete_object(Bucket=bucket, Key="k")
    site.s3.delete_object(Bucket=bucket, Key="k")  # deleting nothing succeeds
    assert error(site.s3.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")
    assert error(site.s3.head_object, Bucket=bucket, Key="k") == (404, "404")


def test_odd_keys(site, bucket):
    for number, key in enumerate(ODD_KEYS):
        site.s3.put_object(Bucket=bucket, Key=key, Body=payload(1000 + number))
    for number, key in enumerate(ODD_KEYS):
        assert site.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == payload(1000 + number), key
    want = {key: 1000 + number for number, key in enumerate(ODD_KEYS)}
    for listing in (site.s3.list_objects_v2(Bucket=bucket), site.s3.list_objects(Bucket=bucket)):
        assert {entry["Key"]: entry["Size"] for entry in listing["Contents"]} == want
    # The same names behind the gateway: what is listed there must be found there by other tools.
    assert set(site.stored(bucket)) == set(ODD_KEYS)
    done = site.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ODD_KEYS]})
    assert {entry["Key"] for entry in done["Deleted"]} == set(ODD_KEYS) and not done.get("Errors")
    assert site.stored(bucket) == {}


# White space alone, of one kind and of several, ASCII and not; some clients take it for nothing.
BLANK_KEYS = [" ", "   ", "\t", "\n \t", "\u3000", "\u00a0 "]


@pytest.mark.parametrize("key", BLANK_KEYS, ids=[f"{key!a}" for key in BLANK_KEYS])
def test_blank_keys(site, bucket, key):
    s3, here = site.s3, {"Bucket": bucket, "Key": key}

    def read(name, **more):
        return s3.get_object(Bucket=bucket, Key=name, **more)["Body"].read()

    assert error(s3.get_object, **here) == (404, "NoSuchKey")
    s3.put_object(**here, Body=payload(70_000))
    assert read(key) == payload(70_000) and read(key, Range="bytes=65530-") == payload(70_000)[65530:]
    assert s3.head_object(**here)["ContentLength"] == 70_000
    assert [(entry["Key"], entry["Size"]) for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [(key, 70_000)]
    s3.put_object_tagging(**here, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_object_tagging(**here)["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.copy_object(Bucket=bucket, Key="copied from", CopySource=here)
    assert read("copied from") == payload(70_000)
    s3.delete_object(**here)
    assert error(s3.head_object, **here) == (404, "404")
    s3.copy_object(**here, CopySource={"Bucket": bucket, "Key": "copied from"})
    assert read(key) == payload(70_000)

    def start():
        return s3.create_multipart_upload(**here)["UploadId"]

    part, end = payload(5 * 1024 * 1024), payload(10)
    upload = start()
    lines = [{"PartNumber": 1, "ETag": s3.upload_part(**here, UploadId=upload, PartNumber=1, Body=part)["ETag"]}]
    copied = s3.upload_part_copy(**here, UploadId=upload, PartNumber=2, CopySource=here)["CopyPartResult"]
    lines.append({"PartNumber": 2, "ETag": copied["ETag"]})
    assert [entry["PartNumber"] for entry in s3.list_parts(**here, UploadId=upload)["Parts"]] == [1, 2]
    assert [entry["Key"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [key]
    s3.complete_multipart_upload(**here, UploadId=upload, MultipartUpload={"Parts": lines})
    assert read(key) == part + payload(70_000)
    upload = start()
    s3.upload_part(**here, UploadId=upload, PartNumber=1, Body=end)
    s3.abort_multipart_upload(**here, UploadId=upload)
    assert error(s3.list_parts, **here, UploadId=upload) == (404, "NoSuchUpload")


def test_blank_keys_in_a_bulk_delete(site, bucket):
    for key in BLANK_KEYS:
        site.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    done = site.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in BLANK_KEYS]})
    assert not done.get("Errors")
    assert not site.s3.list_objects_v2(Bucket=bucket).get("Contents")


def test_key_too_long(site, bucket):
    assert error(site.s3.put_object, Bucket=bucket, Key="k" * 1025, Body=payload(10)) == (400, "KeyTooLongError")


def test_metadata_and_content_headers(site, bucket):
    sent = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60, private",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de, en",
        "Metadata": {"one": "1", "with-dash": "a, b; c", "camel": "Case Kept", "empty": ""},
    }
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000), Expires="Wed, 21 Oct 2037 07:28:00 GMT", **sent)
    for answer in (site.s3.head_object(Bucket=bucket, Key="k"), site.s3.get_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in sent} == sent
        assert answer["ExpiresString"] == "Wed, 21 Oct 2037 07:28:00 GMT"
        assert not [name for name in answer["ResponseMetadata"]["HTTPHeaders"] if "ciphergate" in name]


def test_default_content_type(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert site.s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


def decoded(value):
    """A metadata value as text: S3 answers non-ASCII ones as encoded words (RFC 2047), some stores as raw UTF-8."""
    if "=?" in value:
        return str(email.header.make_header(email.header.decode_header(value)))
    return value.encode("latin-1").decode("utf-8")


@pytest.mark.gateway_only
def test_non_ascii_metadata(site, bucket):
    # As clients of different kinds send it: encoded words, and raw UTF-8 bytes.
    site.s3.put_object(Bucket=bucket, Key="word", Body=b"", Metadata={"place": "=?UTF-8?Q?caf=C3=A9?="})
    signed = raw.Signed(site, "PUT", raw.target(bucket, "bytes"), {"Content-Length": "0", "x-amz-meta-place": "café"}, raw.UNSIGNED)
    signed.headers["x-amz-meta-place"] = "café".encode()
    answer = raw.send(site, "PUT", signed.target, signed.headers)
    assert answer.status == 200, answer
    # LocalStack takes bytes that are not ASCII for Latin-1 and encodes them again.
    for key in ("word", "bytes") if site.kind == "embedded" else ("word",):
        signed = raw.Signed(site, "HEAD", raw.target(bucket, key), {}, raw.EMPTY_SHA256)
        answer = raw.send(site, "HEAD", signed.target, signed.headers)
        assert answer.status == 200 and decoded(answer.headers["x-amz-meta-place"]) == "café", key


@pytest.mark.gateway_only
def test_reserved_metadata(site, bucket):
    assert error(site.s3.put_object, Bucket=bucket, Key="k", Body=b"x", Metadata={"ciphergate": "AQ"}) == (400, "InvalidArgument")
    assert error(site.s3.put_object, Bucket=bucket, Key="k", Body=b"x", Metadata={"Ciphergate": "AQ"}) == (400, "InvalidArgument")
    assert site.stored(bucket) == {}


@pytest.mark.gateway_only
def test_metadata_limit(site, bucket):
    """S3 allows 2,048 bytes in all, of which the envelope takes its share."""
    site.s3.put_object(Bucket=bucket, Key="fits", Body=b"", Metadata={"m": "v" * 1500})
    assert error(site.s3.put_object, Bucket=bucket, Key="no", Body=b"", Metadata={"m": "v" * 2000}) == (400, "MetadataTooLarge")
    assert set(site.stored(bucket)) == {"fits"}


RANGES = ["0-0", "0-", "0-65535", "65535-65536", "65536-65536", "65530-131080", "131072-199998", "199999-", "100-99999999", "-1", "-65537", "-99999999"]


def cut(body, text):
    first, last = text.split("-")
    if first == "":
        return body[-int(last) :] if int(last) < len(body) else body
    return body[int(first) : int(last) + 1 if last else len(body)]


def test_ranges(site, bucket):
    body = payload(200_000)
    put = site.s3.put_object(Bucket=bucket, Key="k", Body=body, ContentType="text/x")
    for text in RANGES:
        want = cut(body, text)
        got = site.s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={text}")
        assert got["Body"].read() == want, text
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206 and got["ContentLength"] == len(want)
        first = body.index(want) if len(want) > 32 else int(got["ContentRange"].split()[1].split("-")[0])
        assert got["ContentRange"] == f"bytes {first}-{first + len(want) - 1}/{len(body)}"
        assert got["ETag"] == put["ETag"] and got["ContentType"] == "text/x"


def test_range_of_head(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(200_000))
    head = site.s3.head_object(Bucket=bucket, Key="k", Range="bytes=10-19")
    assert head["ContentLength"] == 10 and head["ResponseMetadata"]["HTTPStatusCode"] == 206


@pytest.mark.parametrize("size", [0, 1, 65536, 70_000])
def test_range_not_satisfiable(site, bucket, size):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(size))
    # The backend's object is longer and has these bytes: the plaintext has not.
    for text in (f"{size}-", f"{size}-{size + 10}", f"{size + 100}-"):
        assert error(site.s3.get_object, Bucket=bucket, Key="k", Range=f"bytes={text}") == (416, "InvalidRange"), text
    assert error(site.s3.get_object, Bucket=bucket, Key="k", Range="bytes=-0") == (416, "InvalidRange")


def test_ranges_that_mean_nothing(site, bucket):
    """S3 ignores what it cannot use and answers with the whole object."""
    body = payload(70_000)
    site.s3.put_object(Bucket=bucket, Key="k", Body=body)
    for text in ("bytes=5-2", "bytes=a-b", "bytes=0-1,5-6", "bytes"):
        got = site.s3.get_object(Bucket=bucket, Key="k", Range=text)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 200 and got["Body"].read() == body, text


def test_read_conditions(site, bucket):
    body = payload(70_000)
    etag = site.s3.put_object(Bucket=bucket, Key="k", Body=body)["ETag"]
    wrong = '"00000000000000000000000000000000-0"'
    read, head = site.s3.get_object, site.s3.head_object
    here = {"Bucket": bucket, "Key": "k"}
    assert read(**here, IfMatch=etag)["Body"].read() == body
    assert read(**here, IfMatch=etag, Range="bytes=1-2")["Body"].read() == body[1:3]
    assert read(**here, IfNoneMatch=wrong)["Body"].read() == body
    assert error(read, **here, IfMatch=wrong) == (412, "PreconditionFailed")
    assert error(read, **here, IfNoneMatch=etag)[0] == 304
    assert error(head, **here, IfMatch=wrong)[0] == 412
    assert error(head, **here, IfNoneMatch=etag)[0] == 304
    modified = head(**here)["LastModified"]
    assert error(read, **here, IfModifiedSince=modified)[0] == 304
    assert read(**here, IfUnmodifiedSince=modified)["Body"].read() == body
    assert error(read, **here, IfUnmodifiedSince=modified.replace(year=2020))[0] == 412


def test_not_modified_has_no_body(site, bucket):
    etag = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))["ETag"]
    url = site.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    answer = requests.get(url, headers={"If-None-Match": etag}, timeout=30)
    assert answer.status_code == 304 and answer.content == b"" and answer.headers.get("ETag", etag) == etag


def test_write_conditions(site, bucket):
    put = site.s3.put_object
    here = {"Bucket": bucket, "Key": "k"}
    first = put(**here, Body=payload(100, 1), IfNoneMatch="*")["ETag"]
    assert error(put, **here, Body=payload(100, 2), IfNoneMatch="*") == (412, "PreconditionFailed")
    assert site.s3.get_object(**here)["Body"].read() == payload(100, 1)
    second = put(**here, Body=payload(100, 3), IfMatch=first)["ETag"]
    assert error(put, **here, Body=payload(100, 4), IfMatch=first) == (412, "PreconditionFailed")
    assert site.s3.get_object(**here, IfMatch=second)["Body"].read() == payload(100, 3)


OVERRIDES = {
    "ResponseContentType": ("Content-Type", "text/x-other"),
    "ResponseContentDisposition": ("Content-Disposition", 'attachment; filename="x y"'),
    "ResponseContentLanguage": ("Content-Language", "fr"),
    "ResponseContentEncoding": ("Content-Encoding", "identity"),
    "ResponseCacheControl": ("Cache-Control", "no-store"),
    "ResponseExpires": ("Expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
}


def test_response_overrides(site, bucket):
    body = payload(70_000)
    site.s3.put_object(Bucket=bucket, Key="k", Body=body, ContentType="text/plain", CacheControl="max-age=1")
    asked = {name: value for name, (_, value) in OVERRIDES.items()}
    got = site.s3.get_object(Bucket=bucket, Key="k", **asked)
    assert got["Body"].read() == body
    headers = {name.lower(): value for name, value in got["ResponseMetadata"]["HTTPHeaders"].items()}
    assert {header: headers[header.lower()] for header, _ in OVERRIDES.values()} == dict(OVERRIDES.values())
    url = site.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k", **asked})
    for range_header in ({}, {"Range": "bytes=5-9"}):
        answer = requests.get(url, timeout=30, headers=range_header)
        assert answer.content == (body[5:10] if range_header else body)
        assert {header: answer.headers[header] for header, _ in OVERRIDES.values()} == dict(OVERRIDES.values())
    assert site.s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/plain"


def test_presigned_put_get_head(site, bucket):
    body = payload(70_000)
    here = {"Bucket": bucket, "Key": "a b/ü"}
    answer = requests.put(site.s3.generate_presigned_url("put_object", Params=here), data=body, timeout=30)
    assert answer.status_code == 200, answer.text
    got = requests.get(site.s3.generate_presigned_url("get_object", Params=here), timeout=30)
    assert got.content == body and got.headers["ETag"] == answer.headers["ETag"]
    head = requests.head(site.s3.generate_presigned_url("head_object", Params=here), timeout=30)
    assert head.status_code == 200 and head.headers["Content-Length"] == str(len(body))


def test_many_at_once(site, bucket):
    """Eight clients write and read four keys: every read is one whole version."""
    from concurrent.futures import ThreadPoolExecutor

    versions = {payload(66_000 + n, n) for n in range(8)}

    def work(n):
        for turn in range(4):
            key = f"k{(n + turn) % 4}"
            site.s3.put_object(Bucket=bucket, Key=key, Body=payload(66_000 + n, n))
            assert site.s3.get_object(Bucket=bucket, Key=key)["Body"].read() in versions

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_delete_objects(site, bucket):
    for number in range(5):
        site.s3.put_object(Bucket=bucket, Key=f"k{number}", Body=payload(10))
    done = site.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k0"}, {"Key": "k1"}, {"Key": "not there"}]})
    assert {entry["Key"] for entry in done["Deleted"]} == {"k0", "k1", "not there"}
    quiet = site.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k2"}], "Quiet": True})
    assert not quiet.get("Deleted") and not quiet.get("Errors")
    assert set(site.stored(bucket)) == {"k3", "k4"}


@pytest.mark.gateway_only
def test_delete_objects_with_wrong_digest(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(10))
    xml = b"<Delete><Object><Key>k</Key></Object></Delete>"
    for header, value in (("Content-MD5", raw.b64digest("md5", b"other")), ("x-amz-checksum-sha256", raw.b64digest("sha256", b"other"))):
        headers = {"Content-Length": str(len(xml)), header: value}
        signed = raw.Signed(site, "POST", f"/{bucket}?delete=", headers, raw.UNSIGNED)
        answer = raw.send(site, "POST", signed.target, signed.headers, xml)
        assert (answer.status, answer.code) == (400, "BadDigest"), answer
    assert set(site.stored(bucket)) == {"k"}
