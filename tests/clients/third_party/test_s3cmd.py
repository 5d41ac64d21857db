"""s3cmd: it compares ETags where they look like an MD5, and puts a slash before sub-resources (`POST /bucket/?delete`)."""

import re
import sys

import pytest
import requests
from kit import tools, trees


@pytest.fixture
def s3cmd(site, tool, tmp_path):
    host = site.endpoint.split("//")[1]
    lines = {
        "access_key": site.access_key,
        "secret_key": site.secret_key,
        "host_base": host,
        "host_bucket": host,  # no %(bucket)s: path style
        "bucket_location": site.region,
        "use_https": "False",
        "signature_v2": "False",
        "multipart_chunk_size_mb": "5",
        "max_retries": "1",
    }
    path = tmp_path / "s3cfg"
    path.write_text("[default]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    return tools.Tool(sys.executable, tmp_path, {"PYTHONWARNINGS": "ignore"}, [tools.find("s3cmd"), "-c", path, "--no-progress"])


def sizes(output):
    """Size by URI out of the lines of `s3cmd ls`."""
    found = re.findall(r"^\S+ \S+\s+(\d+)\s+(s3://.*)$", output, re.MULTILINE)
    return {uri: int(size) for size, uri in found}


def test_put_get_ls_del(s3cmd, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", {"a b+c.bin": 65_537, "empty": 0})
    for name in ("a b+c.bin", "empty"):
        s3cmd.run("put", up / name, f"s3://{bucket}/in/{name}")
    assert sizes(s3cmd.run("ls", f"s3://{bucket}/in/").stdout) == {f"s3://{bucket}/in/a b+c.bin": 65_537, f"s3://{bucket}/in/empty": 0}
    assert s3cmd.run("du", f"s3://{bucket}").stdout.split()[:2] == ["65537", "2"]
    assert "File size: 65537" in s3cmd.run("info", f"s3://{bucket}/in/a b+c.bin").stdout
    (tmp_path / "down").mkdir()
    for name in ("a b+c.bin", "empty"):
        s3cmd.run("get", f"s3://{bucket}/in/{name}", tmp_path / "down" / name)
    trees.same(up, tmp_path / "down")
    s3cmd.run("del", f"s3://{bucket}/in/empty")
    assert len(sizes(s3cmd.run("ls", "--recursive", f"s3://{bucket}").stdout)) == 1


def test_sync_twice_moves_nothing(s3cmd, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", trees.SMALL)
    assert s3cmd.said("sync", f"{up}/", f"s3://{bucket}/s/").count("upload: ") == len(trees.SMALL)
    assert trees.listed(site, bucket, "s/") == trees.SMALL
    assert "upload: " not in s3cmd.said("sync", f"{up}/", f"s3://{bucket}/s/")
    (tmp_path / "down").mkdir()
    assert s3cmd.said("sync", f"s3://{bucket}/s/", f"{tmp_path}/down/").count("download: ") == len(trees.SMALL)
    trees.same(up, tmp_path / "down")
    assert "download: " not in s3cmd.said("sync", f"s3://{bucket}/s/", f"{tmp_path}/down/")
    (up / "one").write_bytes(b"two")
    assert s3cmd.said("sync", f"{up}/", f"s3://{bucket}/s/").count("upload: ") == 1


def test_recursive_delete(s3cmd, site, bucket, tmp_path):
    """DeleteObjects with a slash before its query."""
    s3cmd.run("sync", f"{trees.plant(tmp_path / 'up', trees.SMALL)}/", f"s3://{bucket}/s/")
    s3cmd.run("del", "--recursive", "--force", f"s3://{bucket}/s/")
    assert trees.listed(site, bucket) == {}


def test_multipart(s3cmd, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", trees.LARGE)
    assert "MultiPart: Upload finished: 4 parts" in s3cmd.said("--debug", "put", up / "large", f"s3://{bucket}/large")
    assert trees.listed(site, bucket) == trees.LARGE
    (tmp_path / "down").mkdir()
    s3cmd.run("get", f"s3://{bucket}/large", tmp_path / "down/large")
    trees.same(up, tmp_path / "down")
    assert "upload: " not in s3cmd.said("sync", f"{up}/", f"s3://{bucket}/")


def test_copy_and_move(s3cmd, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", {"a": 70_000})
    s3cmd.run("put", up / "a", f"s3://{bucket}/a")
    s3cmd.run("cp", f"s3://{bucket}/a", f"s3://{bucket}/b c")
    s3cmd.run("mv", f"s3://{bucket}/a", f"s3://{bucket}/d+e")
    assert trees.listed(site, bucket) == {"b c": 70_000, "d+e": 70_000}
    s3cmd.run("get", f"s3://{bucket}/b c", tmp_path / "one")
    s3cmd.run("get", f"s3://{bucket}/d+e", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (up / "a").read_bytes()


@pytest.mark.gateway_only
def test_presigned_urls_are_of_version_2(s3cmd, bucket, tmp_path):
    """What `s3cmd signurl` makes is not SigV4: refused, as docs/S3_COMPATIBILITY.md says."""
    up = trees.plant(tmp_path / "up", {"a": 70_000})
    s3cmd.run("put", up / "a", f"s3://{bucket}/a")
    url = s3cmd.run("signurl", f"s3://{bucket}/a", "+600").stdout.strip()
    assert "AWSAccessKeyId=" in url
    assert requests.get(url, timeout=30).status_code in (400, 403)
