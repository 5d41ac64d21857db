"""minio's client libraries, for Python here and for Go (minio_go/main.go)."""

import datetime
import io
import json

import pytest
import requests
from kit import tools
from kit.data import payload
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource
from minio.datatypes import PostPolicy
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

MIB = 1024 * 1024


@pytest.fixture
def minio(site):
    host = site.endpoint.split("//")[1]
    return Minio(host, access_key=site.access_key, secret_key=site.secret_key, region=site.region, secure=False)


def test_objects(minio, bucket):
    for size in (0, 1, 65_536, 200_001):
        minio.put_object(bucket, f"n/{size}", io.BytesIO(payload(size)), size, content_type="text/x-test", metadata={"colour": "blue"})
        stat = minio.stat_object(bucket, f"n/{size}")
        assert (stat.size, stat.content_type) == (size, "text/x-test") and stat.metadata["x-amz-meta-colour"] == "blue"
        assert minio.get_object(bucket, f"n/{size}").data == payload(size)
    assert minio.get_object(bucket, "n/200001", offset=65_530, length=100).data == payload(200_001)[65_530:65_630]
    assert {entry.object_name: entry.size for entry in minio.list_objects(bucket, recursive=True)} == {
        f"n/{size}": size for size in (0, 1, 65_536, 200_001)
    }
    assert [entry.object_name for entry in minio.list_objects(bucket)] == ["n/"]
    minio.remove_object(bucket, "n/0")
    with pytest.raises(S3Error) as missing:
        minio.stat_object(bucket, "n/0")
    assert missing.value.code == "NoSuchKey"
    assert list(minio.remove_objects(bucket, [DeleteObject(f"n/{size}") for size in (1, 65_536, 200_001)])) == []
    assert list(minio.list_objects(bucket, recursive=True)) == []


def test_files(minio, bucket, tmp_path):
    (tmp_path / "up").write_bytes(payload(300_000))
    minio.fput_object(bucket, "f", tmp_path / "up")
    minio.fget_object(bucket, "f", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == payload(300_000)


@pytest.mark.parametrize("length", [12 * MIB + 5, -1], ids=["known length", "unknown length"])
def test_multipart(minio, bucket, length):
    body = payload(12 * MIB + 5)
    minio.put_object(bucket, "m", io.BytesIO(body), length, part_size=5 * MIB)
    assert minio.stat_object(bucket, "m").size == len(body)
    assert minio.get_object(bucket, "m").data == body


def test_copy_and_compose(minio, bucket):
    first, second = payload(6 * MIB, 1), payload(70_000, 2)
    minio.put_object(bucket, "a b", io.BytesIO(first), len(first), part_size=10 * MIB)
    minio.put_object(bucket, "b", io.BytesIO(second), len(second))
    minio.copy_object(bucket, "copy", CopySource(bucket, "a b"))
    assert minio.get_object(bucket, "copy").data == first
    minio.compose_object(bucket, "both", [ComposeSource(bucket, "a b"), ComposeSource(bucket, "b")])
    assert minio.stat_object(bucket, "both").size == len(first) + len(second)
    assert minio.get_object(bucket, "both").data == first + second


def test_presigned(minio, bucket):
    put = minio.presigned_put_object(bucket, "p q+r", expires=datetime.timedelta(minutes=5))
    assert requests.put(put, data=payload(70_000), timeout=30).status_code == 200
    got = requests.get(minio.presigned_get_object(bucket, "p q+r"), timeout=30)
    assert got.content == payload(70_000)


def test_form(minio, site, bucket):
    policy = PostPolicy(bucket, datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5))
    policy.add_starts_with_condition("key", "form/")
    policy.add_content_length_range_condition(1, MIB)
    fields = {**minio.presigned_post_policy(policy), "key": "form/a"}
    answer = requests.post(f"{site.endpoint}/{bucket}", data=fields, files={"file": ("a", payload(70_000))}, timeout=30)
    assert answer.status_code == 204, answer.text
    assert minio.get_object(bucket, "form/a").data == payload(70_000)


STEPS = ["put", "stream", "multipart", "ranges", "list", "copy", "compose", "presigned", "form", "remove"]


@pytest.fixture
def minio_go(site, bucket, tool):
    return tool("minio_go", site.endpoint, bucket, site.region)


@pytest.mark.parametrize("step", STEPS)
def test_go(minio_go, step):
    """Each step is a self-contained program run that checks its own bytes and prints what it saw."""
    assert json.loads(minio_go.run(step).stdout)["step"] == step


def test_go_steps_are_all_here():
    import re

    source = (tools.pathlib.Path(__file__).parent / "minio_go/main.go").read_text()
    assert re.findall(r'^\t"(\w+)":', source, re.MULTILINE) == STEPS
