"""s5cmd: parallel copies, and a sync that compares sizes and times of the listing."""

import json

import pytest
import requests
from kit import trees
from kit.data import payload


@pytest.fixture
def s5cmd(site, tool):
    return tool("s5cmd", "--endpoint-url", site.endpoint, "--retry-count", "0")


def test_cp_ls_sync_rm(s5cmd, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", trees.SMALL)
    s5cmd.run("cp", f"{up}/", f"s3://{bucket}/in/")
    assert trees.listed(site, bucket, "in/") == trees.SMALL
    lines = [json.loads(line) for line in s5cmd.run("--json", "ls", f"s3://{bucket}/in/*").stdout.splitlines()]
    files = {entry["key"].split("/in/", 1)[1]: entry.get("size", 0) for entry in lines if entry["type"] == "file"}
    assert files == trees.SMALL
    s5cmd.run("cp", f"s3://{bucket}/in/*", f"{tmp_path}/down/")
    trees.same(up, tmp_path / "down")
    assert s5cmd.run("sync", f"{up}/", f"s3://{bucket}/in/").stdout.strip() == ""
    (up / "one").write_bytes(b"two")
    assert s5cmd.run("sync", f"{up}/", f"s3://{bucket}/in/").stdout.count("cp ") == 1
    (up / "one").unlink()
    s5cmd.run("sync", "--delete", f"{up}/", f"s3://{bucket}/in/")
    assert "one" not in trees.listed(site, bucket, "in/")
    s5cmd.run("rm", f"s3://{bucket}/in/*")
    assert trees.listed(site, bucket) == {}


def test_multipart(s5cmd, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", trees.LARGE)
    s5cmd.run("cp", "--part-size", "5", "--concurrency", "4", up / "large", f"s3://{bucket}/large")
    assert trees.listed(site, bucket) == trees.LARGE
    s5cmd.run("cp", "--part-size", "5", "--concurrency", "4", f"s3://{bucket}/large", f"{tmp_path}/down/")
    trees.same(up, tmp_path / "down")
    assert s5cmd.run("sync", f"{up}/", f"s3://{bucket}/").stdout.strip() == ""


def test_pipe_cat_head_du(s5cmd, bucket):
    body = payload(200_000)
    s5cmd.run("pipe", f"s3://{bucket}/piped", input=body, text=False)
    assert s5cmd.run("cat", f"s3://{bucket}/piped", text=False).stdout == body
    assert json.loads(s5cmd.run("head", f"s3://{bucket}/piped").stdout)["size"] == len(body)
    assert s5cmd.run("du", f"s3://{bucket}/*").stdout.split()[0] == str(len(body))


def test_copy_and_move(s5cmd, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", {"a": 70_000})
    s5cmd.run("cp", up / "a", f"s3://{bucket}/a")
    s5cmd.run("cp", f"s3://{bucket}/a", f"s3://{bucket}/b c")
    s5cmd.run("mv", f"s3://{bucket}/a", f"s3://{bucket}/d")
    assert trees.listed(site, bucket) == {"b c": 70_000, "d": 70_000}
    assert s5cmd.run("cat", f"s3://{bucket}/d", text=False).stdout == (up / "a").read_bytes()


def test_presign(s5cmd, bucket):
    s5cmd.run("pipe", f"s3://{bucket}/k", input=b"presigned", text=False)
    url = s5cmd.run("presign", "--expire", "5m", f"s3://{bucket}/k").stdout.strip()
    assert requests.get(url, timeout=30).content == b"presigned"
