"""Keys that requests choose, and keys that clients bring: through boto3 and the aws command line."""

import base64
import hashlib

import pytest
from botocore.exceptions import ClientError
from kit.data import payload
from test_copy import copy, read
from test_objects import error

MiB = 1024 * 1024


def own_key(seed):
    """boto3 computes Base64 and MD5 by itself."""
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": hashlib.sha256(seed.encode()).digest()}


def of_source(own):
    return {f"CopySource{name}": value for name, value in own.items()}


def test_named_method(site, bucket):
    for key, options in [("aes", {"ServerSideEncryption": "AES256"}), ("kms", {"ServerSideEncryption": "aws:kms"})]:
        put = site.s3.put_object(Bucket=bucket, Key=key, Body=b"x", **options)
        head = site.s3.head_object(Bucket=bucket, Key=key)
        assert put["ServerSideEncryption"] == head["ServerSideEncryption"]
        copied = copy(site, bucket, f"{key}-copy", key, **options)
        assert copied["ServerSideEncryption"] == head["ServerSideEncryption"]


@pytest.mark.gateway_only
def test_named_key(site, bucket):
    """The one configured key by each of its names, and a key that there is not."""
    known = site.s3.put_object(Bucket=bucket, Key="k", Body=b"x")["SSEKMSKeyId"]
    assert known.startswith("arn:aws:kms:") if site.kind == "localstack" else known == "main"
    for name in {known, known.split("/")[-1], "main"}:
        options = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": name}
        assert site.s3.put_object(Bucket=bucket, Key="k", Body=b"x", **options)["SSEKMSKeyId"] == known
        assert copy(site, bucket, "copy", "k", **options)["SSEKMSKeyId"] == known
        upload = site.s3.create_multipart_upload(Bucket=bucket, Key="parts", **options)
        assert upload["SSEKMSKeyId"] == known
        site.s3.abort_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload["UploadId"])
        assert site.s3.get_object(Bucket=bucket, Key="k")["SSEKMSKeyId"] == known
    unknown = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:us-east-1:000000000000:key/0000"}
    for call in (
        lambda: site.s3.put_object(Bucket=bucket, Key="x", Body=b"x", **unknown),
        lambda: copy(site, bucket, "x", "k", **unknown),
        lambda: site.s3.create_multipart_upload(Bucket=bucket, Key="x", **unknown),
    ):
        assert error(call) == (400, "KMS.NotFoundException")
    assert error(site.s3.put_object, Bucket=bucket, Key="x", Body=b"x", SSEKMSKeyId=known) == (400, "InvalidArgument")
    assert "x" not in site.stored(bucket)


def test_own_key(tls_site, tls_bucket):
    """Over HTTPS, as S3 demands."""
    site, bucket = tls_site, tls_bucket
    own, other = own_key("own"), own_key("other")
    for size in (0, 70_000):
        put = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(size), **own)
        assert put["SSECustomerAlgorithm"] == "AES256" and put["SSECustomerKeyMD5"] and "ServerSideEncryption" not in put
        assert read(site, bucket, "k", **own) == payload(size)
        assert site.s3.head_object(Bucket=bucket, Key="k", **own)["ContentLength"] == size
        assert error(site.s3.get_object, Bucket=bucket, Key="k") == (400, "InvalidRequest")
        assert error(site.s3.head_object, Bucket=bucket, Key="k")[0] == 400
        assert error(site.s3.get_object, Bucket=bucket, Key="k", **other)[0] == 403
        assert error(site.s3.head_object, Bucket=bucket, Key="k", **other)[0] == 403
    site.s3.put_object(Bucket=bucket, Key="ours", Body=b"x")
    assert error(site.s3.get_object, Bucket=bucket, Key="ours", **own) == (400, "InvalidRequest")
    assert site.s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == 70_000


def test_copies_with_own_keys(site, bucket):
    own, other = own_key("own"), own_key("other")
    body = payload(100_000)
    site.s3.put_object(Bucket=bucket, Key="own", Body=body, **own)
    site.s3.put_object(Bucket=bucket, Key="ours", Body=body)
    # From every kind of key to every other.
    copy(site, bucket, "own-own", "own", **of_source(own), **own)
    copy(site, bucket, "own-other", "own", **of_source(own), **other)
    copy(site, bucket, "own-ours", "own", **of_source(own))
    done = copy(site, bucket, "ours-own", "ours", **own)
    assert done["SSECustomerAlgorithm"] == "AES256" and done["SSECustomerKeyMD5"]
    assert read(site, bucket, "own-own", **own) == read(site, bucket, "own-other", **other) == body
    assert read(site, bucket, "own-ours") == read(site, bucket, "ours-own", **own) == body
    assert error(site.s3.get_object, Bucket=bucket, Key="own-own") == (400, "InvalidRequest")
    assert error(site.s3.get_object, Bucket=bucket, Key="own-other", **own)[0] == 403
    # Onto itself, with another key: what changes is the encryption.
    copy(site, bucket, "own", "own", **of_source(own), **other)
    assert read(site, bucket, "own", **other) == body
    assert error(copy, site, bucket, "x", "own") == (400, "InvalidRequest")
    assert error(copy, site, bucket, "x", "own", **of_source(own))[0] == 403
    assert error(copy, site, bucket, "x", "ours", **of_source(own)) == (400, "InvalidRequest")


def test_parts_with_own_key(site, bucket):
    own, other = own_key("own"), own_key("other")
    upload = site.s3.create_multipart_upload(Bucket=bucket, Key="k", **own)
    assert upload["SSECustomerAlgorithm"] == "AES256"
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    bodies = [payload(5 * MiB, "one"), payload(1000, "two")]
    etags = []
    for number, body in enumerate(bodies, 1):
        assert error(site.s3.upload_part, **named, PartNumber=number, Body=body) == (400, "InvalidRequest")
        assert error(site.s3.upload_part, **named, PartNumber=number, Body=body, **other)[0] in (400, 403)
        part = site.s3.upload_part(**named, PartNumber=number, Body=body, **own)
        assert part["SSECustomerAlgorithm"] == "AES256"
        etags.append({"PartNumber": number, "ETag": part["ETag"]})
    site.s3.complete_multipart_upload(**named, MultipartUpload={"Parts": etags}, **own)
    assert read(site, bucket, "k", **own) == b"".join(bodies)
    assert error(site.s3.get_object, Bucket=bucket, Key="k") == (400, "InvalidRequest")


@pytest.mark.gateway_only
def test_completing_needs_the_key(site, bucket):
    """S3 can do without where the upload has no checksums. Here the end of the object is sealed then, and that takes the key."""
    own = own_key("own")
    upload = site.s3.create_multipart_upload(Bucket=bucket, Key="k", **own)
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    part = site.s3.upload_part(**named, PartNumber=1, Body=payload(1000), **own)
    listed = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    assert error(site.s3.complete_multipart_upload, **named, MultipartUpload=listed) == (400, "InvalidRequest")
    assert error(site.s3.list_parts, **named) == (400, "InvalidRequest")
    key = own["SSECustomerKey"]  # boto3 leaves this operation's key as it is given
    text = {"SSECustomerKey": base64.b64encode(key).decode(), "SSECustomerKeyMD5": base64.b64encode(hashlib.md5(key).digest()).decode()}
    assert len(site.s3.list_parts(**named, SSECustomerAlgorithm="AES256", **text)["Parts"]) == 1
    site.s3.complete_multipart_upload(**named, MultipartUpload=listed, **own)
    assert read(site, bucket, "k", **own) == payload(1000)


def test_part_copies_with_own_keys(site, bucket):
    own, other = own_key("own"), own_key("other")
    site.s3.put_object(Bucket=bucket, Key="source", Body=payload(6 * MiB), **own)
    upload = site.s3.create_multipart_upload(Bucket=bucket, Key="k", **other)
    named = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"], "CopySource": {"Bucket": bucket, "Key": "source"}}
    assert error(site.s3.upload_part_copy, **named, PartNumber=1, **other) == (400, "InvalidRequest")
    done = site.s3.upload_part_copy(**named, PartNumber=1, CopySourceRange="bytes=100-5500099", **of_source(own), **other)
    named.pop("CopySource")
    parts = {"Parts": [{"PartNumber": 1, "ETag": done["CopyPartResult"]["ETag"]}]}
    site.s3.complete_multipart_upload(**named, MultipartUpload=parts, **other)
    assert read(site, bucket, "k", **other) == payload(6 * MiB)[100:5500100]


def test_transfer_manager(site, bucket, tmp_path):
    """boto3's uploads and downloads in parts, with a key of the client's own."""
    own = own_key("own")
    (tmp_path / "up").write_bytes(payload(20 * MiB))
    site.s3.upload_file(str(tmp_path / "up"), bucket, "k", ExtraArgs=own)
    site.s3.download_file(bucket, "k", str(tmp_path / "down"), ExtraArgs=own)
    assert (tmp_path / "down").read_bytes() == payload(20 * MiB)
    with pytest.raises(ClientError):
        site.s3.download_file(bucket, "k", str(tmp_path / "not"))
    site.s3.copy({"Bucket": bucket, "Key": "k"}, bucket, "copy", ExtraArgs={**own, **of_source(own)})
    assert read(site, bucket, "copy", **own) == payload(20 * MiB)


def test_command_line(site, bucket, tmp_path):
    (tmp_path / "key").write_bytes(hashlib.sha256(b"cli").digest())
    (tmp_path / "up").write_bytes(payload(300_000))
    own = ("--sse-c", "AES256", "--sse-c-key", f"fileb://{tmp_path}/key")
    site.aws("s3", "cp", "--no-progress", *own, tmp_path / "up", f"s3://{bucket}/k")
    site.aws("s3", "cp", "--no-progress", *own, f"s3://{bucket}/k", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == payload(300_000)
    assert site.aws("s3", "cp", "--no-progress", f"s3://{bucket}/k", tmp_path / "not", check=False).returncode
    source = ("--sse-c-copy-source", "AES256", "--sse-c-copy-source-key", f"fileb://{tmp_path}/key")
    site.aws("s3", "cp", "--no-progress", *source, *own, f"s3://{bucket}/k", f"s3://{bucket}/copy")
    site.aws("s3", "cp", "--no-progress", *own, f"s3://{bucket}/copy", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == payload(300_000)
    site.aws("s3", "cp", "--no-progress", "--sse", "aws:kms", tmp_path / "up", f"s3://{bucket}/kms")
    assert read(site, bucket, "kms") == payload(300_000)


@pytest.mark.gateway_only
def test_the_key_is_nowhere(site, bucket):
    own = own_key("secret of the client")
    for _ in range(2):
        site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000), **own)
        read(site, bucket, "k", **own)
        copy(site, bucket, "copy", "k", **of_source(own), **own)
    raw, text = own["SSECustomerKey"], base64.b64encode(own["SSECustomerKey"])
    log = site.gateway.log.read_bytes()
    assert raw not in log and text not in log
    stored = site.backend.head_object(Bucket=bucket, Key="k")
    assert set(stored["Metadata"]) == {"ciphergate"} and "SSECustomerAlgorithm" not in stored
    envelope = stored["Metadata"]["ciphergate"]
    assert raw not in base64.urlsafe_b64decode(envelope + "=" * (-len(envelope) % 4))
