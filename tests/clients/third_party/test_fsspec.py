"""s3fs, the file system of fsspec that pandas and dask use (aiobotocore)."""

import pytest
import s3fs
from kit.data import payload

MIB = 1024 * 1024


@pytest.fixture
def fs(site):
    s3fs.S3FileSystem.clear_instance_cache()
    return s3fs.S3FileSystem(
        key=site.access_key,
        secret=site.secret_key,
        endpoint_url=site.endpoint,
        client_kwargs={"region_name": site.region},
        config_kwargs={"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1}},
        use_listings_cache=False,
    )


def test_small_files(fs, bucket):
    for size in (0, 1, 65_537):
        with fs.open(f"{bucket}/d/a b+{size}", "wb") as file:
            file.write(payload(size))
        assert fs.info(f"{bucket}/d/a b+{size}")["size"] == size
        assert fs.cat_file(f"{bucket}/d/a b+{size}") == payload(size)
    assert {entry["name"]: entry["size"] for entry in fs.ls(f"{bucket}/d", detail=True)} == {f"{bucket}/d/a b+{n}": n for n in (0, 1, 65_537)}
    assert fs.du(f"{bucket}/d") == 65_538
    fs.rm(f"{bucket}/d", recursive=True)
    assert fs.find(bucket) == []


def test_seeks(fs, bucket):
    body = payload(400_000)
    fs.pipe_file(f"{bucket}/f", body)
    with fs.open(f"{bucket}/f", "rb", block_size=65_536, cache_type="readahead") as file:
        for place in (399_990, 0, 65_530, 200_000):
            file.seek(place)
            assert file.read(1000) == body[place : place + 1000]
    assert fs.cat_file(f"{bucket}/f", start=-100) == body[-100:]
    assert fs.cat_ranges([f"{bucket}/f"] * 2, [0, 65_530], [10, 65_545]) == [body[:10], body[65_530:65_545]]


def test_multipart(fs, bucket):
    body = payload(17 * MIB + 3)
    with fs.open(f"{bucket}/big", "wb", block_size=5 * MIB) as file:
        for place in range(0, len(body), MIB):
            file.write(body[place : place + MIB])
    assert fs.info(f"{bucket}/big")["size"] == len(body)
    assert fs.cat_file(f"{bucket}/big") == body
    with fs.open(f"{bucket}/big", "ab", block_size=5 * MIB) as file:  # a copied part, then a new one
        file.write(b"the end")
    assert fs.cat_file(f"{bucket}/big") == body + b"the end"


def test_folders(fs, bucket, tmp_path):
    from kit import trees

    up = trees.plant(tmp_path / "up", trees.SMALL)
    fs.put(str(up), f"{bucket}/in", recursive=True)
    fs.get(f"{bucket}/in", str(tmp_path / "down"), recursive=True)
    trees.same(up, tmp_path / "down")


def test_copy_and_move(fs, bucket):
    fs.pipe_file(f"{bucket}/a", payload(70_000))
    fs.copy(f"{bucket}/a", f"{bucket}/b c")
    fs.mv(f"{bucket}/a", f"{bucket}/d")
    assert sorted(fs.find(bucket)) == [f"{bucket}/b c", f"{bucket}/d"]
    assert fs.cat_file(f"{bucket}/b c") == fs.cat_file(f"{bucket}/d") == payload(70_000)
