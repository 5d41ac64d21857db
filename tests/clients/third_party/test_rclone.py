"""rclone, as provider Other over HTTP and as provider AWS over HTTPS, the ways they are used: the latter leaves bodies unsigned, and signs
them over HTTP from a stream that it cannot rewind. docs/S3_COMPATIBILITY.md names the one option that provider AWS needs.
"""

import json

import pytest
from kit import trees
from kit.data import payload

MIB = 1024 * 1024


def config(site, path, provider, **more):
    lines = {
        "type": "s3",
        "provider": provider,
        "access_key_id": site.access_key,
        "secret_access_key": site.secret_key,
        "region": site.region,
        "endpoint": site.endpoint,
        "force_path_style": "true",
        "upload_cutoff": "6Mi",
        "chunk_size": "5Mi",
        **more,
    }
    path.write_text("[cg]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    return path


@pytest.fixture(params=["Other", "AWS"])
def provider(request):
    return request.param


@pytest.fixture
def site(sites, backend_kind, provider):
    return sites.get(backend_kind, tls=provider == "AWS")


def program(site, provider, tool, tmp_path, **more):
    path = config(site, tmp_path / "rclone.conf", provider, **more)
    trust = ([] if not site.tls else ["--ca-cert", site.ca] if site.ca else ["--no-check-certificate"])
    return tool("rclone", "--config", path, "--retries", "1", "--low-level-retries", "1", "-v", *trust)


@pytest.fixture
def rclone(site, provider, tool, tmp_path):
    more = {"use_multipart_etag": "false"} if provider == "AWS" else {}
    return program(site, provider, tool, tmp_path, **more)


def moved(said):
    return said.count(": Copied (") + said.count(": Updated ")


def test_copy_check_sync(rclone, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", trees.SMALL)
    assert moved(rclone.said("copy", up, f"cg:{bucket}/in")) == len(trees.SMALL)
    assert trees.listed(site, bucket, "in/") == trees.SMALL
    rclone.run("check", up, f"cg:{bucket}/in")
    rclone.run("check", "--download", up, f"cg:{bucket}/in")
    rclone.run("copy", f"cg:{bucket}/in", tmp_path / "down")
    trees.same(up, tmp_path / "down")
    # A second sync moves nothing, either way; a changed and a removed file are noticed.
    again = rclone.said("sync", up, f"cg:{bucket}/in")
    assert moved(again) == 0 and "nothing to transfer" in again
    assert "nothing to transfer" in rclone.said("sync", f"cg:{bucket}/in", tmp_path / "down")
    (up / "one").write_bytes(b"2")
    (up / "empty").unlink()
    assert moved(rclone.said("sync", up, f"cg:{bucket}/in")) == 1
    assert trees.listed(site, bucket, "in/") == {name: size for name, size in trees.SMALL.items() if name != "empty"}
    rclone.run("copy", f"cg:{bucket}/in/one", tmp_path / "changed")
    assert (tmp_path / "changed/one").read_bytes() == b"2"


def test_changed_content_of_the_same_size_and_time_is_found(rclone, bucket, tmp_path):
    """rclone has no hash to compare, so `check --download` is the one that sees it."""
    up = trees.plant(tmp_path / "up", {"a": 100_000})
    rclone.run("copy", up, f"cg:{bucket}/in")
    trees.plant(tmp_path / "other", {"b": 0, "a": 100_000})
    (tmp_path / "other/b").unlink()
    assert rclone.run("check", "--download", tmp_path / "other", f"cg:{bucket}/in", check=False).returncode


def test_multipart(rclone, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", trees.LARGE)
    assert moved(rclone.said("copy", up, f"cg:{bucket}/in")) == 1
    assert trees.listed(site, bucket, "in/") == trees.LARGE
    rclone.run("check", up, f"cg:{bucket}/in")
    assert "nothing to transfer" in rclone.said("sync", up, f"cg:{bucket}/in")
    rclone.run("copy", "--multi-thread-cutoff", "1Mi", "--multi-thread-streams", "4", f"cg:{bucket}/in", tmp_path / "down")
    trees.same(up, tmp_path / "down")


def test_streams_and_ranges(rclone, bucket):
    body = payload(6 * MIB + 77)
    rclone.run("rcat", "--streaming-upload-cutoff", "1Mi", f"cg:{bucket}/piped", input=body, text=False)
    assert rclone.run("cat", f"cg:{bucket}/piped", text=False).stdout == body
    part = rclone.run("cat", "--offset", 5 * MIB - 3, "--count", 70_000, f"cg:{bucket}/piped", text=False).stdout
    assert part == body[5 * MIB - 3 :][:70_000]


def test_lists_and_deletes(rclone, site, bucket, tmp_path):
    rclone.run("copy", trees.plant(tmp_path / "up", trees.SMALL), f"cg:{bucket}")
    entries = json.loads(rclone.run("lsjson", "-R", "--files-only", f"cg:{bucket}").stdout)
    assert {entry["Path"]: entry["Size"] for entry in entries} == trees.SMALL
    total = json.loads(rclone.run("size", "--json", f"cg:{bucket}").stdout)
    assert (total["count"], total["bytes"]) == (len(trees.SMALL), sum(trees.SMALL.values()))
    rclone.run("deletefile", f"cg:{bucket}/one")
    assert "one" not in trees.listed(site, bucket)
    rclone.run("delete", f"cg:{bucket}")
    assert trees.listed(site, bucket) == {}


def test_move_on_the_server(rclone, site, bucket, tmp_path):
    up = trees.plant(tmp_path / "up", {"a b.bin": 200_001})
    rclone.run("copy", up, f"cg:{bucket}/from")
    assert "Copied (server-side copy)" in rclone.said("copy", f"cg:{bucket}/from", f"cg:{bucket}/copy")
    rclone.run("moveto", f"cg:{bucket}/from/a b.bin", f"cg:{bucket}/to/c+d.bin")
    assert trees.listed(site, bucket) == {"copy/a b.bin": 200_001, "to/c+d.bin": 200_001}
    rclone.run("check", "--download", up, f"cg:{bucket}/copy")
    assert rclone.run("cat", f"cg:{bucket}/to/c+d.bin", text=False).stdout == (up / "a b.bin").read_bytes()


@pytest.mark.gateway_only
@pytest.mark.parametrize("provider", ["AWS"])
def test_the_option_is_needed(site, provider, bucket, tool, tmp_path):
    """Why docs/S3_COMPATIBILITY.md asks for `use_multipart_etag = false`: rclone otherwise computes the tag from MD5s of the plaintext."""
    rclone = program(site, provider, tool, tmp_path)
    up = trees.plant(tmp_path / "up", trees.LARGE)
    done = rclone.run("copy", up, f"cg:{bucket}/in", check=False)
    assert done.returncode and "corrupted" in done.stderr, done.stderr
