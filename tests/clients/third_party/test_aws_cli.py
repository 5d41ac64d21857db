"""The aws command line with its own multipart threshold: cp, sync, mv, rm, presign on files in parts."""

import os

import pytest
import requests
from kit import trees
from kit.data import payload

MIB = 1024 * 1024
SIZES = {**trees.SMALL, **trees.LARGE}


@pytest.fixture
def aws(site, tmp_path, tool):
    config = tmp_path / "aws.config"
    config.write_text("[default]\ns3 =\n    addressing_style = path\n    signature_version = s3v4\n")
    env = {"AWS_CONFIG_FILE": str(config), "AWS_ENDPOINT_URL": site.endpoint, "AWS_MAX_ATTEMPTS": "1", "PYTHONWARNINGS": "ignore"}
    return tool("aws", env=env)


def test_cp_sync_mv_rm(aws, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", SIZES)
    assert aws.run("s3", "sync", "--no-progress", up, f"s3://{bucket}/in").stdout.count("upload:") == len(SIZES)
    assert trees.listed(site, bucket, "in/") == SIZES
    assert aws.run("s3", "sync", "--no-progress", up, f"s3://{bucket}/in").stdout.strip() == ""
    assert aws.run("s3", "sync", "--no-progress", f"s3://{bucket}/in", tmp_path / "down").stdout.count("download:") == len(SIZES)
    trees.same(up, tmp_path / "down")
    assert aws.run("s3", "sync", "--no-progress", f"s3://{bucket}/in", tmp_path / "down").stdout.strip() == ""
    # Between two prefixes: server-side copies, with the sizes of the listing compared.
    assert aws.run("s3", "sync", "--no-progress", f"s3://{bucket}/in", f"s3://{bucket}/twin").stdout.count("copy:") == len(SIZES)
    assert aws.run("s3", "sync", "--no-progress", f"s3://{bucket}/in", f"s3://{bucket}/twin").stdout.strip() == ""
    assert trees.listed(site, bucket, "twin/") == SIZES
    aws.run("s3", "mv", "--no-progress", f"s3://{bucket}/in/large", f"s3://{bucket}/moved")
    assert "large" not in trees.listed(site, bucket, "in/")
    aws.run("s3", "cp", "--no-progress", f"s3://{bucket}/moved", tmp_path / "moved")
    assert (tmp_path / "moved").read_bytes() == (up / "large").read_bytes()
    aws.run("s3", "mv", "--recursive", "--no-progress", f"s3://{bucket}/twin", tmp_path / "twin")
    trees.same(up, tmp_path / "twin")
    assert trees.listed(site, bucket, "twin/") == {}
    aws.run("s3", "rm", "--recursive", f"s3://{bucket}")
    assert trees.listed(site, bucket) == {}


def test_streams(aws, bucket, tmp_path):
    body = payload(17 * MIB + 3)
    aws.run("s3", "cp", "-", f"s3://{bucket}/piped", input=body, text=False)
    assert aws.run("s3", "cp", f"s3://{bucket}/piped", "-", text=False).stdout == body


def test_presign(aws, bucket, tmp_path):
    (tmp_path / "f").write_bytes(payload(9 * MIB))
    aws.run("s3", "cp", "--no-progress", tmp_path / "f", f"s3://{bucket}/a b/c+d")
    url = aws.run("s3", "presign", f"s3://{bucket}/a b/c+d", "--expires-in", "120").stdout.strip()
    assert requests.get(url, timeout=30).content == payload(9 * MIB)


def test_parts_by_hand(aws, site, bucket, tmp_path):
    """s3api, call by call: parts out of order, one sent again, then a list of them."""
    import json

    pieces = [payload(5 * MIB, 1), payload(5 * MIB + 7, 2), payload(11, 3)]
    for number, piece in enumerate(pieces, 1):
        (tmp_path / str(number)).write_bytes(piece)
    (tmp_path / "wrong").write_bytes(payload(100, 4))
    target = ["--bucket", bucket, "--key", "k"]

    def api(*arguments):
        return json.loads(aws.run("s3api", *arguments, "--output", "json").stdout or "{}")

    upload = ["--upload-id", api("create-multipart-upload", *target, "--content-type", "text/x-test")["UploadId"]]
    tags = {}
    for number, file in [(3, "3"), (1, "wrong"), (2, "2"), (1, "1")]:
        tags[number] = api("upload-part", *target, *upload, "--part-number", number, "--body", tmp_path / file)["ETag"]
    listed = api("list-parts", *target, *upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(n, len(pieces[n - 1])) for n in (1, 2, 3)]
    # The gateway's own part tags go on with a receipt, which listings do not have.
    assert all(tags[part["PartNumber"]].startswith(part["ETag"].rstrip('"')) for part in listed)
    assert [entry["Key"] for entry in api("list-multipart-uploads", "--bucket", bucket)["Uploads"]] == ["k"]
    parts = {"Parts": [{"PartNumber": number, "ETag": tags[number]} for number in (1, 2, 3)]}
    done = api("complete-multipart-upload", *target, *upload, "--multipart-upload", json.dumps(parts))
    head = api("head-object", *target)
    assert (head["ContentLength"], head["ETag"], head["ContentType"]) == (sum(map(len, pieces)), done["ETag"], "text/x-test")
    api("get-object", *target, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == b"".join(pieces)
    assert "Uploads" not in api("list-multipart-uploads", "--bucket", bucket)
    os.remove(tmp_path / "down")
