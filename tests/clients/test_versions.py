"""Versions: versionId on every operation, delete markers, and ListObjectVersions with the plaintext's sizes."""

import pytest
from conftest import fresh_bucket
from kit.data import payload
from kit.site import STATE
from test_multipart import complete, upload
from test_objects import error

VERSIONED = {"VersioningConfiguration": {"Status": "Enabled"}}


@pytest.fixture
def bucket(site):
    with fresh_bucket(site) as name:
        site.s3.put_bucket_versioning(Bucket=name, **VERSIONED)
        assert site.s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        yield name


def headers(call, **options):
    """Status and headers of a refusal."""
    with pytest.raises(Exception) as caught:
        call(**options)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["ResponseMetadata"]["HTTPHeaders"]


def test_every_read_takes_a_version(site, bucket):
    here = {"Bucket": bucket, "Key": "dir/k ü"}
    puts = {size: site.s3.put_object(**here, Body=payload(size), Metadata={"size": str(size)}) for size in (0, 10, 70_000, 200_000)}
    assert len({put["VersionId"] for put in puts.values()}) == 4
    for size, put in puts.items():
        version = {**here, "VersionId": put["VersionId"]}
        got = site.s3.get_object(**version)
        assert got["Body"].read() == payload(size) and got["VersionId"] == put["VersionId"] and got["ETag"] == put["ETag"]
        assert got["Metadata"] == {"size": str(size)}
        head = site.s3.head_object(**version)
        assert (head["ContentLength"], head["VersionId"], head["ETag"]) == (size, put["VersionId"], put["ETag"])
        attributes = site.s3.get_object_attributes(**version, ObjectAttributes=["ObjectSize", "ETag"])
        assert (attributes["ObjectSize"], attributes["VersionId"]) == (size, put["VersionId"])
        assert attributes["ETag"] == put["ETag"].strip('"')
        if size > 100:
            assert site.s3.get_object(**version, Range="bytes=66-77")["Body"].read() == payload(size)[66:78]
            assert site.s3.get_object(**version, Range="bytes=-9")["Body"].read() == payload(size)[-9:]
        checked = site.s3.get_object(**version, ChecksumMode="ENABLED")
        assert checked["Body"].read() == payload(size)
        assert site.s3.get_object(**version, IfMatch=put["ETag"])["Body"].read() == payload(size)
        assert error(site.s3.get_object, **version, IfNoneMatch=put["ETag"])[0] == 304
    assert site.s3.get_object(**here)["Body"].read() == payload(200_000)


def test_a_version_that_is_not_there(site, bucket):
    here = {"Bucket": bucket, "Key": "k"}
    first = site.s3.put_object(**here, Body=b"1")["VersionId"]
    site.s3.delete_object(**here, VersionId=first)
    assert error(site.s3.get_object, **here, VersionId=first) == (404, "NoSuchVersion")
    assert error(site.s3.head_object, **here, VersionId=first)[0] == 404
    assert error(site.s3.get_object_attributes, **here, VersionId=first, ObjectAttributes=["ETag"]) == (404, "NoSuchVersion")


def test_delete_markers(site, bucket):
    here = {"Bucket": bucket, "Key": "k"}
    version = site.s3.put_object(**here, Body=payload(1000))["VersionId"]
    marker = site.s3.delete_object(**here)
    assert marker["DeleteMarker"] is True and marker["VersionId"] != version
    for call in (site.s3.get_object, site.s3.head_object):
        status, seen = headers(call, **here)
        assert status == 404 and seen["x-amz-delete-marker"] == "true" and seen["x-amz-version-id"] == marker["VersionId"]
        status, seen = headers(call, **here, VersionId=marker["VersionId"])
        assert status == 405
        if call == site.s3.get_object or site.kind == "embedded":  # LocalStack says no more to a HEAD
            assert seen["x-amz-delete-marker"] == "true" and seen["allow"] == "DELETE"
    assert site.s3.get_object(**here, VersionId=version)["Body"].read() == payload(1000)
    gone = site.s3.delete_object(**here, VersionId=marker["VersionId"])
    assert gone["DeleteMarker"] is True and gone["VersionId"] == marker["VersionId"]
    assert site.s3.get_object(**here)["Body"].read() == payload(1000)
    removed = site.s3.delete_object(**here, VersionId=version)
    assert removed["VersionId"] == version and "DeleteMarker" not in removed
    assert error(site.s3.get_object, **here) == (404, "NoSuchKey")


def test_delete_objects_by_version(site, bucket):
    first = site.s3.put_object(Bucket=bucket, Key="a", Body=b"1")["VersionId"]
    second = site.s3.put_object(Bucket=bucket, Key="a", Body=b"2")["VersionId"]
    site.s3.put_object(Bucket=bucket, Key="b", Body=b"3")
    done = site.s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a", "VersionId": second}, {"Key": "b"}]})
    lines = {line["Key"]: line for line in done["Deleted"]}
    assert lines["a"]["VersionId"] == second
    assert lines["b"]["DeleteMarker"] is True and lines["b"]["DeleteMarkerVersionId"]
    got = site.s3.get_object(Bucket=bucket, Key="a")
    assert got["VersionId"] == first and got["Body"].read() == b"1"


def test_tags_of_a_version(site, bucket):
    here = {"Bucket": bucket, "Key": "k"}
    first = site.s3.put_object(**here, Body=b"1", Tagging="a=1&b=2")["VersionId"]
    second = site.s3.put_object(**here, Body=b"2")["VersionId"]
    assert site.s3.get_object(**here, VersionId=first)["TagCount"] == 2
    assert "TagCount" not in site.s3.get_object(**here)
    site.s3.put_object_tagging(**here, VersionId=second, Tagging={"TagSet": [{"Key": "c", "Value": "3"}]})
    tags = site.s3.get_object_tagging(**here, VersionId=first)
    assert {tag["Key"]: tag["Value"] for tag in tags["TagSet"]} == {"a": "1", "b": "2"}
    assert site.s3.get_object_tagging(**here)["TagSet"] == [{"Key": "c", "Value": "3"}]
    site.s3.delete_object_tagging(**here, VersionId=first)
    assert site.s3.get_object_tagging(**here, VersionId=first)["TagSet"] == []


def test_list_object_versions(site, bucket):
    sizes = {"a": [0, 70_000], "b/1": [5], "b/2": [65_536, 65_537, 131_073], "c": [1]}
    etags = {}
    for key, all_sizes in sizes.items():
        for size in all_sizes:
            put = site.s3.put_object(Bucket=bucket, Key=key, Body=payload(size))
            etags[key, put["VersionId"]] = put["ETag"]
    marker = site.s3.delete_object(Bucket=bucket, Key="c")["VersionId"]

    listed = site.s3.list_object_versions(Bucket=bucket)
    seen = {}
    for version in listed["Versions"]:
        seen.setdefault(version["Key"], []).insert(0, version["Size"])
        assert version["ETag"] == etags[version["Key"], version["VersionId"]]
        head = site.s3.head_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
        assert (head["ETag"], head["ContentLength"]) == (version["ETag"], version["Size"])
    assert seen == sizes
    assert [version["IsLatest"] for version in listed["Versions"] if version["Key"] == "b/2"] == [True, False, False]
    (found,) = listed["DeleteMarkers"]
    assert (found["Key"], found["VersionId"], found["IsLatest"]) == ("c", marker, True)

    folders = site.s3.list_object_versions(Bucket=bucket, Delimiter="/")
    assert [prefix["Prefix"] for prefix in folders["CommonPrefixes"]] == ["b/"]
    below = site.s3.list_object_versions(Bucket=bucket, Prefix="b/")
    assert sorted(version["Size"] for version in below["Versions"]) == [5, 65_536, 65_537, 131_073]

    pages, options = [], {}
    while True:
        page = site.s3.list_object_versions(Bucket=bucket, MaxKeys=2, **options)
        entries = page.get("Versions", []) + page.get("DeleteMarkers", [])
        assert 0 < len(entries) <= 2
        pages += [(entry["Key"], entry["VersionId"], entry.get("Size")) for entry in entries]
        if not page["IsTruncated"]:
            break
        options = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    whole = [(version["Key"], version["VersionId"], version["Size"]) for version in listed["Versions"]]
    assert sorted(pages, key=str) == sorted([*whole, ("c", marker, None)], key=str)


@pytest.mark.gateway_only
def test_names_in_a_list_of_versions(site, bucket):
    for key in ("a b+c%d", "ü/é", "plain"):
        site.s3.put_object(Bucket=bucket, Key=key, Body=payload(7))
    listed = site.s3.list_object_versions(Bucket=bucket)
    assert {version["Key"]: version["Size"] for version in listed["Versions"]} == {"a b+c%d": 7, "ü/é": 7, "plain": 7}
    encoded = site.s3.list_object_versions(Bucket=bucket, EncodingType="url")
    assert {version["Key"] for version in encoded["Versions"]} == {"a%20b%2Bc%25d", "%C3%BC/%C3%A9", "plain"}


@pytest.mark.gateway_only
def test_what_uploads_keep_is_in_no_list_of_versions(site, bucket):
    """Versions and delete markers of it stay in such a bucket, also when the upload has ended."""
    s3 = site.s3
    keys = ["-before", "k", "z"]
    for key in keys:
        upload_id, lines = upload(s3, bucket, key, {1: payload(100)})
        complete(s3, bucket, key, upload_id, lines)
    behind = site.backend.list_object_versions(Bucket=bucket)
    assert any(entry["Key"].startswith(STATE) for entry in behind["Versions"]), "nothing to hide: the test shows nothing"

    def names(page):
        return [entry["Key"] for entry in page.get("Versions", []) + page.get("DeleteMarkers", [])]

    assert names(s3.list_object_versions(Bucket=bucket)) == keys
    for size in (1, 2, 3):
        pages = list(s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size}))
        assert [key for page in pages for key in names(page)] == keys, size
        assert not any(page.get("NextKeyMarker", "").startswith(STATE) for page in pages)
    assert names(s3.list_object_versions(Bucket=bucket, Prefix=STATE)) == []
    assert "CommonPrefixes" not in s3.list_object_versions(Bucket=bucket, Delimiter="/")


def test_suspended_versioning(site, bucket):
    here = {"Bucket": bucket, "Key": "k"}
    first = site.s3.put_object(**here, Body=payload(100, 1))["VersionId"]
    site.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    site.s3.put_object(**here, Body=payload(200, 2))
    site.s3.put_object(**here, Body=payload(300, 3))
    assert site.s3.get_object(**here, VersionId="null")["Body"].read() == payload(300, 3)
    assert site.s3.get_object(**here, VersionId=first)["Body"].read() == payload(100, 1)
    listed = site.s3.list_object_versions(Bucket=bucket)["Versions"]
    assert {version["VersionId"]: version["Size"] for version in listed} == {"null": 300, first: 100}


@pytest.mark.gateway_only
def test_a_version_moved_to_another_key_is_refused(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="a", Body=payload(1000))
    body, metadata = site.fetch_stored(bucket, "a")
    site.plant(bucket, "b", body, metadata)
    planted = site.backend.head_object(Bucket=bucket, Key="b")["VersionId"]
    assert error(site.s3.get_object, Bucket=bucket, Key="b", VersionId=planted) == (403, "IntegrityCheckFailed")
