"""s3fs-fuse: a bucket as a folder. Needs /dev/fuse and the right to mount."""

import os
import subprocess
import time

import pytest
from kit import tools, trees
from kit.data import payload

MIB = 1024 * 1024


@pytest.fixture
def mount(site, bucket, tmp_path):
    program = tools.find("s3fs")
    folder, passwords = tmp_path / "mount", tmp_path / "passwd"
    folder.mkdir()
    passwords.touch(mode=0o600)
    passwords.write_text(f"{site.access_key}:{site.secret_key}\n")
    options = f"url={site.endpoint},use_path_request_style,endpoint={site.region},passwd_file={passwords},multipart_size=5,singlepart_copy_limit=5120,retries=1,stat_cache_expire=0"
    log = (tmp_path / "s3fs.log").open("wb")
    child = subprocess.Popen([str(program), bucket, str(folder), "-f", "-o", options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 20
        while not os.path.ismount(folder):
            assert child.poll() is None and time.monotonic() < end, (tmp_path / "s3fs.log").read_text()[-2000:]
            time.sleep(0.05)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True)
        child.terminate()
        child.wait(10)


def test_files(mount, site, bucket):
    (mount / "empty").touch()
    (mount / "a folder").mkdir()
    (mount / "a folder/b c.bin").write_bytes(payload(65_537))
    assert trees.listed(site, bucket) == {"empty": 0, "a folder/": 0, "a folder/b c.bin": 65_537}
    assert (mount / "a folder/b c.bin").read_bytes() == payload(65_537)
    assert (mount / "a folder/b c.bin").stat().st_size == 65_537
    with (mount / "a folder/b c.bin").open("rb") as file:
        file.seek(65_530)
        assert file.read() == payload(65_537)[65_530:]
    os.remove(mount / "empty")
    assert sorted(os.listdir(mount)) == ["a folder"]


def test_large_file(mount, site, bucket):
    body = payload(17 * MIB + 3)
    (mount / "large").write_bytes(body)
    assert trees.listed(site, bucket) == {"large": len(body)}
    assert (mount / "large").read_bytes() == body


def test_rename_and_append(mount, site, bucket):
    """A rename is a server-side copy; an append writes the object again."""
    (mount / "a").write_bytes(payload(70_000))
    os.rename(mount / "a", mount / "b")
    with (mount / "b").open("ab") as file:
        file.write(b"more")
    assert trees.listed(site, bucket) == {"b": 70_004}
    assert site.s3.get_object(Bucket=bucket, Key="b")["Body"].read() == payload(70_000) + b"more"
