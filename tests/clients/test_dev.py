"""`ciphergate dev`: one command, and what it holds survives a restart and a kill -9."""

import re
import subprocess

import pytest
from kit.data import MARKER, payload
from kit.process import Process, free_port
from kit.site import Site, binary

pytestmark = pytest.mark.gateway_only
KEYS = ("DEVACCESSKEY00000000", "dev-secret-of-the-test-run-0123456789")


def start(folder, port, run, keys=KEYS):
    env = {"CIPHERGATE_DEV_ACCESS_KEY": keys[0], "CIPHERGATE_DEV_SECRET_KEY": keys[1]} if keys else {}
    command = [binary(), "dev", "--listen", f"127.0.0.1:{port}", "--data-dir", folder / "data"]
    process = Process("ciphergate dev", command, port, folder / f"dev{run}.log", env)
    return process, Site("dev", f"http://127.0.0.1:{port}", keys or KEYS, None, None, folder, gateway=process)


def test_data_survives(tmp_path):
    port = free_port()
    process, site = start(tmp_path, port, 1)
    try:
        site.s3.create_bucket(Bucket="keep")
        for size in (0, 1, 65_537, 2_000_000):
            site.s3.put_object(Bucket="keep", Key=f"{size}", Body=payload(size), Metadata={"n": str(size)})
        process.kill()
        process, site = start(tmp_path, port, 2)
        for size in (0, 1, 65_537, 2_000_000):
            got = site.s3.get_object(Bucket="keep", Key=f"{size}")
            assert got["Body"].read() == payload(size) and got["Metadata"] == {"n": str(size)}
        site.s3.put_object(Bucket="keep", Key="later", Body=payload(10))
        assert process.stop() == 0
        process, site = start(tmp_path, port, 3)
        assert site.s3.list_objects_v2(Bucket="keep")["KeyCount"] == 5
        assert site.s3.get_object(Bucket="keep", Key="later")["Body"].read() == payload(10)
    finally:
        process.stop()
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or MARKER not in path.read_bytes(), path


def test_what_it_prints_works(tmp_path):
    """Without keys in the environment it makes some, keeps them, and prints lines that can be pasted."""
    port = free_port()
    process, _ = start(tmp_path, port, 1, keys=None)
    try:
        said = process.log.read_text()
        found = [re.search(rf"{name}[=\s\"']+([^\s\"']+)", said) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
        assert all(found), said
        keys = tuple(match.group(1) for match in found)
        assert f"http://127.0.0.1:{port}" in said and "aws " in said
        site = Site("dev", f"http://127.0.0.1:{port}", keys, None, None, tmp_path)
        site.aws("s3", "mb", "s3://pasted")
        (tmp_path / "f").write_bytes(payload(1000))
        site.aws("s3", "cp", "--no-progress", tmp_path / "f", "s3://pasted/f")
        process.stop()
        process, _ = start(tmp_path, port, 2, keys=None)
        assert site.s3.get_object(Bucket="pasted", Key="f")["Body"].read() == payload(1000)
    finally:
        process.stop()


def test_refuses_a_public_address(tmp_path):
    command = [binary(), "dev", "--listen", f"0.0.0.0:{free_port()}", "--data-dir", str(tmp_path / "data")]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, env={})
    except subprocess.TimeoutExpired:
        pytest.fail("it went on to serve plain HTTP on every interface")
    assert done.returncode != 0
