"""restic: init, backup, a check that reads every byte, restore, forget and prune."""

import json

import pytest
from kit import trees


@pytest.fixture
def restic(site, bucket, tool, tmp_path):
    env = {
        "RESTIC_REPOSITORY": f"s3:{site.endpoint}/{bucket}/repo",
        "RESTIC_PASSWORD": "password of the test run",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    return tool("restic", "-o", "s3.bucket-lookup=path", "-o", "s3.connections=4", env=env)


def test_backup_check_restore(restic, site, bucket, tmp_path):
    restic.run("init")
    up = trees.plant(tmp_path / "up", {**trees.SMALL, **trees.LARGE})
    restic.run("backup", up)
    restic.run("check", "--read-data")
    restic.run("restore", "latest", "--target", tmp_path / "down")
    trees.same(up, tmp_path / "down" / up.relative_to("/"))
    # A second backup adds what is new alone; the first one can be forgotten and its data pruned.
    (up / "large").unlink()
    (up / "more").write_bytes(b"more")
    restic.run("backup", up)
    first, second = json.loads(restic.run("snapshots", "--json").stdout)
    before = sum(trees.listed(site, bucket).values())
    restic.run("forget", "--prune", first["id"])
    assert sum(trees.listed(site, bucket).values()) < before - trees.LARGE["large"] // 2
    restic.run("check", "--read-data")
    restic.run("restore", second["id"], "--target", tmp_path / "second")
    trees.same(up, tmp_path / "second" / up.relative_to("/"))


def test_large_packs(restic, tmp_path):
    """Packs of 64 MiB: one single PUT each, or a multipart upload, as the client likes."""
    restic.run("init")
    up = trees.plant(tmp_path / "up", {"big": 80 * 1024 * 1024})
    restic.run("backup", "--pack-size", "64", up)
    restic.run("check", "--read-data")
    restic.run("restore", "latest", "--target", tmp_path / "down")
    trees.same(up, tmp_path / "down" / up.relative_to("/"))
