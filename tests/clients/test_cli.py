"""The aws command line against the gateway, as people use it."""

import hashlib
import os
import time

import pytest
import requests
from kit.data import payload

SIZES = [0, 1, 65536, 65537, 1024 * 1024]
BIG = 100 * 1024 * 1024


def folder_of(tmp_path, name, sizes):
    folder = tmp_path / name
    folder.mkdir()
    for size in sizes:
        (folder / f"{size}.bin").write_bytes(payload(size))
    return folder


def same_files(one, other):
    assert sorted(os.listdir(one)) == sorted(os.listdir(other))
    for name in os.listdir(one):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def listed(output):
    """Size by key from the lines of `aws s3 ls`."""
    lines = [line.split(maxsplit=3) for line in output.splitlines() if line and " PRE " not in line]
    return {fields[3]: int(fields[2]) for fields in lines if len(fields) == 4 and fields[2].isdigit()}


def test_cp_ls_rm(site, bucket, tmp_path):
    up = folder_of(tmp_path, "up", SIZES)
    site.aws("s3", "cp", "--recursive", "--no-progress", up, f"s3://{bucket}/in/a folder/")
    expected = {f"{size}.bin": size for size in SIZES}
    assert listed(site.aws("s3", "ls", f"s3://{bucket}/in/a folder/").stdout) == expected
    deep = site.aws("s3", "ls", "--recursive", "--summarize", f"s3://{bucket}").stdout
    assert listed(deep) == {f"in/a folder/{name}": size for name, size in expected.items()}
    assert f"Total Size: {sum(SIZES)}" in deep and f"Total Objects: {len(SIZES)}" in deep
    assert site.aws("s3", "ls", f"s3://{bucket}").stdout.split() == ["PRE", "in/"]
    site.aws("s3", "cp", "--recursive", "--no-progress", f"s3://{bucket}/in/a folder/", tmp_path / "down")
    same_files(up, tmp_path / "down")
    site.aws("s3", "rm", f"s3://{bucket}/in/a folder/1.bin")
    assert "in/a folder/1.bin" not in site.stored(bucket)
    site.aws("s3", "rm", "--recursive", f"s3://{bucket}/")
    assert site.stored(bucket) == {}


@pytest.mark.parametrize("size", [1, 65537, BIG])
def test_cp_one_file(site, bucket, tmp_path, size):
    (tmp_path / "up").write_bytes(payload(size))
    site.aws("s3", "cp", "--no-progress", tmp_path / "up", f"s3://{bucket}/one")
    assert listed(site.aws("s3", "ls", f"s3://{bucket}/one").stdout) == {"one": size}
    site.aws("s3", "cp", "--no-progress", f"s3://{bucket}/one", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == payload(size)


def test_cp_over_https(tls_site, tls_bucket, tmp_path):
    """Over HTTPS the command line sends its checksum as a trailer."""
    up = folder_of(tmp_path, "up", SIZES)
    tls_site.aws("s3", "cp", "--recursive", "--no-progress", up, f"s3://{tls_bucket}/")
    tls_site.aws("s3", "cp", "--recursive", "--no-progress", f"s3://{tls_bucket}/", tmp_path / "down")
    same_files(up, tmp_path / "down")


def test_s3api_objects(site, bucket, tmp_path):
    body = payload(200_000)
    (tmp_path / "up").write_bytes(body)
    md5 = hashlib.md5(body).hexdigest()
    put = site.aws_json("s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", tmp_path / "up", "--metadata", "colour=blue")
    head = site.aws_json("s3api", "head-object", "--bucket", bucket, "--key", "k")
    assert head["ContentLength"] == len(body) and head["ETag"] == put["ETag"] and head["Metadata"] == {"colour": "blue"}
    got = site.aws_json("s3api", "get-object", "--bucket", bucket, "--key", "k", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == body and got["ETag"] == put["ETag"]
    assert got["ContentType"] == "binary/octet-stream" and hashlib.md5(body).hexdigest() == md5


def test_s3api_ranges(site, bucket, tmp_path):
    body = payload(200_000)
    site.s3.put_object(Bucket=bucket, Key="k", Body=body)
    for text, want in [("0-0", body[:1]), ("65530-65541", body[65530:65542]), ("131072-", body[131072:]), ("-70000", body[-70000:])]:
        site.aws("s3api", "get-object", "--bucket", bucket, "--key", "k", "--range", f"bytes={text}", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == want, text
    beyond = site.aws("s3api", "get-object", "--bucket", bucket, "--key", "k", "--range", "bytes=200000-", tmp_path / "x", check=False)
    assert beyond.returncode and "InvalidRange" in beyond.stderr


def test_mb_rb(site, tmp_path):
    name = f"t-{os.urandom(8).hex()}"
    site.aws("s3", "mb", f"s3://{name}")
    assert name in site.aws("s3", "ls").stdout
    (tmp_path / "f").write_bytes(payload(100))
    site.aws("s3", "cp", "--no-progress", tmp_path / "f", f"s3://{name}/f")
    full = site.aws("s3", "rb", f"s3://{name}", check=False)
    assert full.returncode and "BucketNotEmpty" in full.stderr
    site.aws("s3", "rb", "--force", f"s3://{name}")
    assert name not in site.aws("s3", "ls").stdout


def test_presign(site, bucket):
    body = payload(70_000)
    site.s3.put_object(Bucket=bucket, Key="a b/c+d.bin", Body=body)
    url = site.aws("s3", "presign", f"s3://{bucket}/a b/c+d.bin", "--expires-in", "120").stdout.strip()
    whole = requests.get(url, timeout=30)
    assert whole.status_code == 200 and whole.content == body
    part = requests.get(url, timeout=30, headers={"Range": "bytes=65000-66000"})
    assert part.status_code == 206 and part.content == body[65000:66001]
    assert part.headers["Content-Range"] == f"bytes 65000-66000/{len(body)}"


def test_sync_twice_moves_nothing(site, bucket, tmp_path):
    folder = folder_of(tmp_path, "up", [0, 1, 5000, 65536, 65537])
    for path in folder.iterdir():  # listings count whole seconds: a file of this very second would pass for newer
        os.utime(path, (time.time() - 60, time.time() - 60))
    first = site.aws("s3", "sync", "--no-progress", folder, f"s3://{bucket}/s").stdout
    assert first.count("upload:") == 5
    assert site.aws("s3", "sync", "--no-progress", folder, f"s3://{bucket}/s").stdout.strip() == ""
    # The other way round: what comes down keeps the time of the listing, so it is not fetched again.
    assert site.aws("s3", "sync", "--no-progress", f"s3://{bucket}/s", tmp_path / "down").stdout.count("download:") == 5
    assert site.aws("s3", "sync", "--no-progress", f"s3://{bucket}/s", tmp_path / "down").stdout.strip() == ""
    (folder / "1.bin").write_bytes(b"xy")
    changed = site.aws("s3", "sync", "--no-progress", folder, f"s3://{bucket}/s").stdout
    assert changed.count("upload:") == 1 and "1.bin" in changed
