"""Copies: made by the store, without a byte of an object through the gateway, and each with an envelope of its own."""

import contextlib
import hashlib
import base64
import re
import time

import pytest
import requests
from conftest import fresh_bucket
from kit.data import payload
from kit.sizes import sealed_len
from test_objects import ODD_KEYS, error

SIZES = [0, 1, 65536, 65537, 1_000_000]
ORIGINAL = {
    "ContentType": "text/plain; charset=utf-8",
    "CacheControl": "max-age=60",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de",
    "Metadata": {"one": "1", "with-dash": "a, b; c", "empty": ""},
}


@pytest.fixture
def other_bucket(site):
    with fresh_bucket(site) as name:
        yield name


@pytest.fixture
def versioned(site, bucket):
    site.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def copy(site, bucket, target, source, **more):
    """CopyObject; `source` is a key of the same bucket, (bucket, key) or (bucket, key, version)."""
    names = (bucket, source) if isinstance(source, str) else source
    named = dict(zip(("Bucket", "Key", "VersionId"), names))
    return site.s3.copy_object(Bucket=bucket, Key=target, CopySource=named, **more)


def read(site, bucket, key, **more):
    return site.s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


def test_sizes(site, bucket, other_bucket):
    for size in SIZES:
        site.s3.put_object(Bucket=bucket, Key=f"{size}", Body=payload(size), Metadata={"size": str(size)})
        for target in (bucket, other_bucket):
            done = copy(site, target, f"copy/{size}", (bucket, f"{size}"))
            head = site.s3.head_object(Bucket=target, Key=f"copy/{size}")
            assert done["CopyObjectResult"]["ETag"] == head["ETag"]
            assert done["CopyObjectResult"]["LastModified"] == head["LastModified"]
            assert head["ContentLength"] == size and head["Metadata"] == {"size": str(size)}
            assert read(site, target, f"copy/{size}") == payload(size)
            if size > 2:
                assert read(site, target, f"copy/{size}", Range="bytes=1-2") == payload(size)[1:3]
    listed = {entry["Key"]: entry["Size"] for entry in site.s3.list_objects_v2(Bucket=other_bucket)["Contents"]}
    assert listed == {f"copy/{size}": size for size in SIZES}


@pytest.mark.gateway_only
def test_what_the_store_holds(site, bucket, other_bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(100_000))
    done = copy(site, other_bucket, "k", (bucket, "k"))
    assert done["ServerSideEncryption"] == "aws:kms"
    assert not re.fullmatch(r'"[0-9a-f]{32}"', done["CopyObjectResult"]["ETag"])
    body, metadata = site.fetch_stored(bucket, "k")
    copied, copied_metadata = site.fetch_stored(other_bucket, "k")
    assert copied == body and len(body) == sealed_len(100_000)
    # The same sealed bytes, wrapped for another place.
    assert copied_metadata["ciphergate"] != metadata["ciphergate"]


@pytest.mark.gateway_only
def test_no_byte_of_an_object_passes(site, bucket):
    size = 20_000_000
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(size))
    before = site.moved_bytes()
    assert before["store_sent"] >= size
    for number in range(5):
        copy(site, bucket, f"copy-{number}", "k")
    after = site.moved_bytes()
    assert after["store_sent"] == before["store_sent"] and after["store_received"] == before["store_received"]
    assert after["request_body"] == before["request_body"] and after["response_body"] - before["response_body"] < 100_000
    assert hashlib.sha256(read(site, bucket, "copy-4")).digest() == hashlib.sha256(payload(size)).digest()


def test_odd_keys(site, bucket):
    keys = [key for key in ODD_KEYS if len(key.encode()) < 1020]
    for number, key in enumerate(keys):
        site.s3.put_object(Bucket=bucket, Key=key, Body=payload(1000 + number))
        copy(site, bucket, f"{key}.c", key)
        assert read(site, bucket, f"{key}.c") == payload(1000 + number), key


def test_metadata_directives(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(10), Expires="Wed, 21 Oct 2037 07:28:00 GMT", **ORIGINAL)
    for directive in ({}, {"MetadataDirective": "COPY"}, {"MetadataDirective": "COPY", "Metadata": {"x": "y"}, "ContentType": "a/b"}):
        copy(site, bucket, "same", "k", **directive)
        head = site.s3.head_object(Bucket=bucket, Key="same")
        assert {name: head[name] for name in ORIGINAL} == ORIGINAL
        assert head["ExpiresString"] == "Wed, 21 Oct 2037 07:28:00 GMT"
    copy(site, bucket, "new", "k", MetadataDirective="REPLACE", Metadata={"two": "2"}, ContentType="a/b", CacheControl="no-store")
    head = site.s3.head_object(Bucket=bucket, Key="new")
    assert (head["Metadata"], head["ContentType"], head["CacheControl"]) == ({"two": "2"}, "a/b", "no-store")
    assert not {"ContentDisposition", "ContentEncoding", "ContentLanguage", "Expires"} & head.keys()
    copy(site, bucket, "bare", "k", MetadataDirective="REPLACE")
    head = site.s3.head_object(Bucket=bucket, Key="bare")
    assert head["Metadata"] == {} and head["ContentType"] == "binary/octet-stream"
    assert error(copy, site, bucket, "x", "k", MetadataDirective="MOVE") == (400, "InvalidArgument")


def test_metadata_beyond_ascii(site, bucket):
    with contextlib.closing(requests.Session()) as session:
        url = site.s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k", "Metadata": {"name": "=?UTF-8?B?w6nDvA==?="}})
        assert session.put(url, data=b"x", headers={"x-amz-meta-name": "=?UTF-8?B?w6nDvA==?="}, verify=site.verify).status_code == 200
    before = site.s3.head_object(Bucket=bucket, Key="k")["Metadata"]
    copy(site, bucket, "copy", "k")
    copy(site, bucket, "again", "copy")
    assert site.s3.head_object(Bucket=bucket, Key="again")["Metadata"] == before != {}


def test_onto_itself(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(70_000), Metadata={"one": "1"})
    assert error(copy, site, bucket, "k", "k") == (400, "InvalidRequest")
    assert error(copy, site, bucket, "k", "k", Metadata={"two": "2"}) == (400, "InvalidRequest")
    copy(site, bucket, "k", "k", MetadataDirective="REPLACE", Metadata={"two": "2"})
    assert site.s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"two": "2"}
    copy(site, bucket, "k", "k", StorageClass="STANDARD_IA")
    head = site.s3.head_object(Bucket=bucket, Key="k")
    assert (head["Metadata"], head["StorageClass"]) == ({"two": "2"}, "STANDARD_IA")
    assert read(site, bucket, "k") == payload(70_000)


def test_conditions_on_the_source(site, bucket):
    etag = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(10))["ETag"]
    other = site.s3.put_object(Bucket=bucket, Key="o", Body=payload(11))["ETag"]
    modified = site.s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    early, late = modified.replace(year=2001), modified.replace(year=2037)
    failed = (412, "PreconditionFailed")
    for holds, conditions in [
        (True, {"CopySourceIfMatch": etag}),
        (False, {"CopySourceIfMatch": other}),
        (True, {"CopySourceIfNoneMatch": other}),
        (False, {"CopySourceIfNoneMatch": etag}),
        (True, {"CopySourceIfModifiedSince": early}),
        (False, {"CopySourceIfModifiedSince": modified}),
        (True, {"CopySourceIfUnmodifiedSince": late}),
        (False, {"CopySourceIfUnmodifiedSince": early}),
        (True, {"CopySourceIfMatch": etag, "CopySourceIfUnmodifiedSince": early}),
        (False, {"CopySourceIfNoneMatch": etag, "CopySourceIfModifiedSince": early}),
    ]:
        if holds:
            copy(site, bucket, "copy", "k", **conditions)
        else:
            assert error(copy, site, bucket, "copy", "k", **conditions) == failed, conditions


def test_conditions_on_the_target(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(10))
    first = copy(site, bucket, "copy", "k", IfNoneMatch="*")["CopyObjectResult"]["ETag"]
    assert error(copy, site, bucket, "copy", "k", IfNoneMatch="*") == (412, "PreconditionFailed")
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(11))
    second = copy(site, bucket, "copy", "k", IfMatch=first)["CopyObjectResult"]["ETag"]
    assert second != first
    assert error(copy, site, bucket, "copy", "k", IfMatch=first) == (412, "PreconditionFailed")
    # Onto itself: the condition is on the very object that is copied.
    again = {"MetadataDirective": "REPLACE", "Metadata": {"n": "1"}}
    assert error(copy, site, bucket, "k", "k", IfMatch=first, **again) == (412, "PreconditionFailed")
    copy(site, bucket, "k", "k", IfMatch=site.s3.head_object(Bucket=bucket, Key="k")["ETag"], **again)
    assert read(site, bucket, "k") == payload(11)


def test_versions(site, versioned):
    bucket = versioned
    first = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(100, "first"), Metadata={"n": "1"})["VersionId"]
    second = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(200, "second"), Metadata={"n": "2"})["VersionId"]
    done = copy(site, bucket, "old", (bucket, "k", first))
    assert done["CopySourceVersionId"] == first and done["VersionId"] not in (first, second)
    assert read(site, bucket, "old") == payload(100, "first")
    assert copy(site, bucket, "new", "k")["CopySourceVersionId"] == second
    assert read(site, bucket, "new") == payload(200, "second")
    # An older version becomes the current one; the others stay.
    restored = copy(site, bucket, "k", (bucket, "k", first), MetadataDirective="REPLACE", Metadata={"n": "3"})
    assert read(site, bucket, "k") == payload(100, "first") == read(site, bucket, "k", VersionId=first)
    assert read(site, bucket, "k", VersionId=second) == payload(200, "second")
    assert site.s3.head_object(Bucket=bucket, Key="k")["VersionId"] == restored["VersionId"]
    marker = site.s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    assert error(copy, site, bucket, "x", "k") == (404, "NoSuchKey")
    assert error(copy, site, bucket, "x", (bucket, "k", marker)) == (400, "InvalidRequest")


def test_tags(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=x%20y")
    tags = lambda key: {tag["Key"]: tag["Value"] for tag in site.s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}
    for number, (options, expected) in enumerate(
        [
            ({}, {"a": "1", "b": "x y"}),
            ({"TaggingDirective": "COPY"}, {"a": "1", "b": "x y"}),
            ({"TaggingDirective": "REPLACE", "Tagging": "c=3"}, {"c": "3"}),
            ({"TaggingDirective": "REPLACE"}, {}),
            ({"MetadataDirective": "REPLACE"}, {"a": "1", "b": "x y"}),
            ({"ChecksumAlgorithm": "SHA1"}, {"a": "1", "b": "x y"}),
        ]
    ):
        copy(site, bucket, f"copy-{number}", "k", **options)
        assert tags(f"copy-{number}") == expected, options


def test_class_redirect_and_acl(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="STANDARD_IA", WebsiteRedirectLocation="/elsewhere")
    copy(site, bucket, "plain", "k")
    head = site.s3.head_object(Bucket=bucket, Key="plain")
    assert "WebsiteRedirectLocation" not in head and head.get("StorageClass", "STANDARD") == "STANDARD"
    copy(site, bucket, "said", "k", StorageClass="ONEZONE_IA", WebsiteRedirectLocation="/there")
    head = site.s3.head_object(Bucket=bucket, Key="said")
    assert (head["WebsiteRedirectLocation"], head["StorageClass"]) == ("/there", "ONEZONE_IA")


def test_object_lock(localstack_site):
    site, bucket = localstack_site, f"lock-{int(time.time() * 1000)}"
    site.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    until = "2037-01-01T00:00:00Z"
    copy(site, bucket, "copy", "k", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until, ObjectLockLegalHoldStatus="ON")
    head = site.s3.head_object(Bucket=bucket, Key="copy")
    assert (head["ObjectLockMode"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "ON")
    assert head["ObjectLockRetainUntilDate"].year == 2037


def test_archived_source(localstack_site, localstack_bucket):
    site, bucket = localstack_site, localstack_bucket
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="GLACIER")
    site.planted.add((bucket, "k"))  # it cannot be read back
    assert error(copy, site, bucket, "copy", "k") == (403, "InvalidObjectState")


def test_what_is_not_there(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert error(copy, site, bucket, "x", "nothing") == (404, "NoSuchKey")
    assert error(copy, site, bucket, "x", ("no-such-bucket-4711", "k")) == (404, "NoSuchBucket")
    assert error(copy, site, "no-such-bucket-4711", "x", (bucket, "k")) == (404, "NoSuchBucket")


def test_checksums(site, bucket):
    body = payload(300_000)
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    site.s3.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm="SHA1")
    # Another one than the source has.
    done = copy(site, bucket, "anew", "k", ChecksumAlgorithm="SHA256")
    assert done["CopyObjectResult"]["ChecksumSHA256"] == sha256
    assert site.s3.head_object(Bucket=bucket, Key="anew", ChecksumMode="ENABLED")["ChecksumSHA256"] == sha256
    assert read(site, bucket, "anew") == body
    # The one that it has.
    sha1 = base64.b64encode(hashlib.sha1(body).digest()).decode()
    assert copy(site, bucket, "same", "k", ChecksumAlgorithm="SHA1")["CopyObjectResult"]["ChecksumSHA1"] == sha1
    copy(site, bucket, "unasked", "k")
    assert site.s3.head_object(Bucket=bucket, Key="unasked", ChecksumMode="ENABLED")["ChecksumSHA1"] == sha1


@pytest.mark.gateway_only
def test_the_backend_copies_by_itself(site, bucket, other_bucket):
    """The swap attack: whoever has the bucket copies one object over another, bytes, envelope and all."""
    refused = (403, "IntegrityCheckFailed")
    for key in ("a", "b"):
        site.s3.put_object(Bucket=bucket, Key=key, Body=payload(100_000, key))
    site.backend.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    site.backend.copy_object(Bucket=other_bucket, Key="a", CopySource={"Bucket": bucket, "Key": "a"})
    for where, key in ((bucket, "b"), (other_bucket, "a")):
        assert error(site.s3.get_object, Bucket=where, Key=key) == refused
        assert error(site.s3.get_object, Bucket=where, Key=key, Range="bytes=0-9") == refused
        # Nor does a copy launder it.
        assert error(copy, site, bucket, "clean", (where, key)) == refused
        assert error(copy, site, where, key, (where, key), MetadataDirective="REPLACE") == refused
    # The body of one under the envelope of the other: a copy of that is as unreadable as it is.
    _, metadata = site.fetch_stored(bucket, "a")
    other, _ = site.fetch_stored(bucket, "b")
    site.s3.put_object(Bucket=bucket, Key="c", Body=payload(100_000, "c"))
    body, _ = site.fetch_stored(bucket, "c")
    site.plant(bucket, "a", body, metadata)
    copy(site, bucket, "d", "a")
    assert error(site.s3.get_object, Bucket=bucket, Key="d") == refused
    site.planted |= {(bucket, "b"), (other_bucket, "a"), (bucket, "d")}  # no reader opens them


@pytest.mark.gateway_only
def test_plaintext_is_no_source(site, bucket):
    site.plant(bucket, "k", payload(10_000))
    assert error(copy, site, bucket, "copy", "k") == (403, "IntegrityCheckFailed")


@pytest.mark.gateway_only
def test_reserved_metadata(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert error(copy, site, bucket, "copy", "k", MetadataDirective="REPLACE", Metadata={"ciphergate": "x"}) == (400, "InvalidArgument")
    assert error(copy, site, bucket, "copy", "k", MetadataDirective="REPLACE", Metadata={"m": "x" * 1900}) == (400, "MetadataTooLarge")


@pytest.mark.gateway_only
def test_longer_than_one_request_copies(sites, backend_kind):
    """Above S3's limit the store copies parts. The limit is a setting, so that it can be small here."""
    key = ("parts", backend_kind)
    if key not in sites._sites:
        sites._sites[key] = sites.start(backend_kind, name=f"parts-{backend_kind}", env={"CIPHERGATE_BACKEND__COPY_BYTES_MAX": "5242880"})
    site, size = sites._sites[key], 12_000_000
    with fresh_bucket(site) as bucket:
        put = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(size), Tagging="a=1", **ORIGINAL)
        before = site.moved_bytes()
        done = copy(site, bucket, "copy", "k", CopySourceIfMatch=put["ETag"], StorageClass="STANDARD_IA")
        after = site.moved_bytes()
        assert (after["store_sent"], after["store_received"]) == (before["store_sent"], before["store_received"])
        head = site.s3.head_object(Bucket=bucket, Key="copy")
        assert done["CopyObjectResult"]["ETag"] == head["ETag"] and head["ETag"].endswith('-3"')
        assert done["CopyObjectResult"]["LastModified"] == head["LastModified"]
        assert {name: head[name] for name in ORIGINAL} == ORIGINAL and head["ContentLength"] == size
        assert head["StorageClass"] == "STANDARD_IA"
        assert site.s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"] == [{"Key": "a", "Value": "1"}]
        assert read(site, bucket, "copy") == payload(size)
        assert read(site, bucket, "copy", Range="bytes=5242800-5242900") == payload(size)[5242800:5242901]
        assert error(copy, site, bucket, "copy", "k", IfNoneMatch="*") == (412, "PreconditionFailed")
        # A copy of such a copy, onto itself, and nothing is left behind.
        copy(site, bucket, "copy", "copy", MetadataDirective="REPLACE", Metadata={"n": "2"})
        assert site.s3.head_object(Bucket=bucket, Key="copy")["Metadata"] == {"n": "2"}
        assert read(site, bucket, "copy") == payload(size)
        end = time.monotonic() + 10
        while site.backend.list_multipart_uploads(Bucket=bucket).get("Uploads"):
            assert time.monotonic() < end, "an upload was left behind"
            time.sleep(0.1)


def test_aws_cp_and_mv(site, bucket, other_bucket, tmp_path):
    (tmp_path / "f").write_bytes(payload(200_000))
    site.aws("s3", "cp", "--no-progress", "--content-type", "text/x-test", tmp_path / "f", f"s3://{bucket}/dir/f")
    site.aws("s3", "cp", "--no-progress", f"s3://{bucket}/dir/f", f"s3://{other_bucket}/g")
    assert read(site, other_bucket, "g") == payload(200_000)
    assert site.s3.head_object(Bucket=other_bucket, Key="g")["ContentType"] == "text/x-test"
    site.aws("s3", "mv", "--no-progress", f"s3://{other_bucket}/g", f"s3://{bucket}/moved")
    assert read(site, bucket, "moved") == payload(200_000)
    assert error(site.s3.head_object, Bucket=other_bucket, Key="g")[0] == 404
    site.aws("s3", "cp", "--no-progress", "--recursive", f"s3://{bucket}/", f"s3://{other_bucket}/all/")
    listed = {entry["Key"]: entry["Size"] for entry in site.s3.list_objects_v2(Bucket=other_bucket)["Contents"]}
    assert listed == {"all/dir/f": 200_000, "all/moved": 200_000}
    assert "copy" in site.aws("s3", "sync", "--no-progress", f"s3://{bucket}/dir", f"s3://{other_bucket}/synced").stdout
    assert not site.aws("s3", "sync", "--no-progress", f"s3://{bucket}/dir", f"s3://{other_bucket}/synced").stdout.strip()


def test_managed_copy(site, bucket):
    """boto3's transfer manager."""
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(500_000), Metadata={"one": "1"})
    site.s3.copy({"Bucket": bucket, "Key": "k"}, bucket, "copy")
    assert read(site, bucket, "copy") == payload(500_000)
    assert site.s3.head_object(Bucket=bucket, Key="copy")["Metadata"] == {"one": "1"}
