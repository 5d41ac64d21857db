"""Multipart uploads by real clients: aws CLI and boto3's transfer manager, with their defaults, over HTTP and HTTPS."""

import io
import json
import os
import subprocess

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from kit.data import payload
from kit.site import binary
from kit.sizes import sealed_len
from test_checksums import ALGORITHMS, checksum
from test_objects import error

MIB = 1024 * 1024
LEAST = 5 * MIB


def upload(s3, bucket, key, parts, create=None, each=None):
    """Sends parts, a dict of number to bytes; returns the id and the list for Complete."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key, **(create or {}))["UploadId"]
    lines = []
    for number, body in parts.items():
        sent = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body, **(each or {}))
        line = {"PartNumber": number, "ETag": sent["ETag"]}
        if each:
            line |= {name: value for name, value in sent.items() if name.startswith("Checksum")}
        lines.append(line)
    return upload_id, {"Parts": lines}


def complete(s3, bucket, key, upload_id, lines, **more):
    return s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload=lines, **more)


@pytest.mark.parametrize("threshold, part, size", [("8MB", "8MB", 21 * MIB + 5), ("5MB", "5MB", 10 * MIB), ("6MB", "16MB", 6 * MIB), ("1MB", "7MB", 7 * MIB + 1)])
def test_aws_cp(site, bucket, tmp_path, threshold, part, size):
    body = payload(size)
    (tmp_path / "up").write_bytes(body)
    site.aws("s3", "cp", "--no-progress", tmp_path / "up", f"s3://{bucket}/dir/a b+ü", threshold=threshold, part=part)
    if site.kind != "direct":
        assert site.stored(bucket) == {"dir/a b+ü": sealed_len(size)}
    assert site.aws("s3", "ls", f"s3://{bucket}/dir/").stdout.split()[2] == str(size)
    site.aws("s3", "cp", "--no-progress", f"s3://{bucket}/dir/a b+ü", tmp_path / "down", threshold=threshold, part=part)
    assert (tmp_path / "down").read_bytes() == body
    for first, last in [(0, 0), (LEAST - 1, LEAST), (size - 3, size - 1), (3 * MIB, size - 1)]:
        got = site.s3.get_object(Bucket=bucket, Key="dir/a b+ü", Range=f"bytes={first}-{last}")
        assert got["Body"].read() == body[first : last + 1]


def test_aws_sync_moves_nothing_twice(site, bucket, tmp_path):
    (tmp_path / "small").write_bytes(payload(1000))
    (tmp_path / "large").write_bytes(payload(11 * MIB))
    for name in ("small", "large"):
        # Listings have whole seconds: a file of the same second would look newer than its object.
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    first = site.aws("s3", "sync", "--no-progress", tmp_path, f"s3://{bucket}/x", threshold="5MB", part="5MB")
    assert first.stdout.count("upload:") == 2
    assert site.aws("s3", "sync", "--no-progress", tmp_path, f"s3://{bucket}/x", threshold="5MB", part="5MB").stdout == ""


@pytest.mark.parametrize("size", [LEAST, LEAST + 1, 2 * LEAST, 17 * MIB + 3])
def test_transfer_manager_over_http(site, bucket, size):
    transfer(site, bucket, size)


@pytest.mark.parametrize("size", [LEAST + 1, 17 * MIB + 3])
def test_transfer_manager_over_https(tls_site, tls_bucket, size):
    """Checksums of the parts travel as trailers."""
    transfer(tls_site, tls_bucket, size)


def transfer(site, bucket, size):
    body = payload(size)
    config = TransferConfig(multipart_threshold=LEAST, multipart_chunksize=LEAST, max_concurrency=4)
    site.s3.upload_fileobj(io.BytesIO(body), bucket, "k", Config=config, ExtraArgs={"ContentType": "text/x", "Metadata": {"a": "b"}})
    down = io.BytesIO()
    site.s3.download_fileobj(bucket, "k", down, Config=config)
    assert down.getvalue() == body
    head = site.s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (size, "text/x", {"a": "b"})
    # What the SDK sends of its own accord with every part.
    assert any(name.startswith("ChecksumCRC") for name in head), head
    listed = site.s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(entry["Key"], entry["Size"], entry["ETag"]) for entry in listed] == [("k", size, head["ETag"])]


@pytest.mark.gateway_only
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_as_trailer(tls_site, tls_bucket, algorithm):
    s3, parts = tls_site.s3, {1: payload(LEAST), 2: payload(70_001)}
    each = {"ChecksumAlgorithm": algorithm}
    upload_id, lines = upload(s3, tls_bucket, "k", parts, each, each)
    for line, body in zip(lines["Parts"], parts.values()):
        assert line[f"Checksum{algorithm}"] == checksum(algorithm, body)
    done = complete(s3, tls_bucket, "k", upload_id, lines)
    head = s3.head_object(Bucket=tls_bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == done[f"Checksum{algorithm}"]
    if algorithm == "CRC64NVME":
        assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (checksum(algorithm, b"".join(parts.values())), "FULL_OBJECT")
    else:
        assert done["ChecksumType"] == head["ChecksumType"] == "COMPOSITE" and done[f"Checksum{algorithm}"].endswith("-2")
    got = s3.get_object(Bucket=tls_bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(parts.values()) and got[f"Checksum{algorithm}"] == done[f"Checksum{algorithm}"]


def test_defaults_of_the_low_level_client(site, bucket):
    """No word about checksums from the user: the SDK adds its own."""
    parts = {1: payload(LEAST), 2: payload(100)}
    upload_id, lines = upload(site.s3, bucket, "k", parts)
    complete(site.s3, bucket, "k", upload_id, lines, MpuObjectSize=LEAST + 100)
    assert site.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(parts.values())


@pytest.mark.gateway_only
def test_at_rest(site, bucket):
    """No plaintext in the bucket at any moment: parts, spool, record, object."""
    parts = {1: payload(LEAST), 2: payload(70_001)}
    upload_id, lines = upload(site.s3, bucket, "k", parts)
    assert len(site.staged(bucket)) == 4
    complete(site.s3, bucket, "k", upload_id, lines)
    assert len(site.staged(bucket)) == 1
    # `fresh_bucket` looks through everything that is left.


@pytest.mark.gateway_only
def test_a_bucket_is_removed_after_uploads(site):
    name = f"t-multipart-{site.kind}"
    site.s3.create_bucket(Bucket=name)
    upload_id, lines = upload(site.s3, name, "k", {1: payload(100)})
    complete(site.s3, name, "k", upload_id, lines)
    site.aws("s3", "rb", "--force", f"s3://{name}")
    assert error(site.backend.head_bucket, Bucket=name)[0] == 404


@pytest.mark.gateway_only
def test_gc(site, bucket):
    config = site.folder / "ciphergate.toml"
    upload_id, lines = upload(site.s3, bucket, "k", {1: payload(100)})
    complete(site.s3, bucket, "k", upload_id, lines)
    command = [binary(), "gc", "--config", config, "--bucket", bucket, "--older-than-secs", "0", "--json"]
    env = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    told = json.loads(subprocess.run(command, check=True, capture_output=True, env=env, timeout=60).stdout)
    assert [(left["key"], left["upload_id"]) for left in told["removed"]] == [("k", upload_id)]
    assert site.staged(bucket) == []
    assert subprocess.run([*command, "--older-than-secs", "x"], capture_output=True, env=env, timeout=60).returncode == 2


def test_abort_and_lists(site, bucket):
    s3 = site.s3
    upload_id, lines = upload(s3, bucket, "dir/k", {2: payload(LEAST), 7: payload(10)})
    listed = s3.list_parts(Bucket=bucket, Key="dir/k", UploadId=upload_id)
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(2, LEAST), (7, 10)]
    assert [entry["UploadId"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload_id]
    s3.abort_multipart_upload(Bucket=bucket, Key="dir/k", UploadId=upload_id)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with pytest.raises(ClientError) as refused:
        complete(s3, bucket, "dir/k", upload_id, lines)
    assert refused.value.response["Error"]["Code"] == "NoSuchUpload"
    assert error(s3.list_parts, Bucket=bucket, Key="dir/k", UploadId=upload_id) == (404, "NoSuchUpload")
