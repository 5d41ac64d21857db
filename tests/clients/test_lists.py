"""Listings: what is shown is the plaintext's, page by page, in both versions."""

import urllib.parse

import pytest
from kit import raw
from kit.data import payload

KEYS = ["a/1", "a/2", "b", "c/d/e", "c/f", "d"]
# LocalStack sorts by the encoded name when names are asked for encoded, and then loses such keys between pages.
ODD_KEYS = ["a b/x+y", "ü/é"]


class Filled:
    def __init__(self, site, bucket):
        self.site, self.bucket = site, bucket
        self.keys = sorted(KEYS + (ODD_KEYS if site.kind == "embedded" else []), key=str.encode)
        self.sizes = {key: 65_530 + number for number, key in enumerate(self.keys)}
        for key, size in self.sizes.items():
            site.s3.put_object(Bucket=bucket, Key=key, Body=payload(size))


@pytest.fixture
def filled(site, bucket):
    return Filled(site, bucket)


def sizes(page):
    return {entry["Key"]: entry["Size"] for entry in page.get("Contents", [])}


def prefixes(page):
    return [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_delimiter_and_prefix(filled, version):
    def listing(**options):
        return getattr(filled.site.s3, version)(Bucket=filled.bucket, **options)

    assert sizes(listing()) == filled.sizes and list(sizes(listing())) == filled.keys
    top = listing(Delimiter="/")
    assert prefixes(top) == sorted({key.split("/")[0] + "/" for key in filled.keys if "/" in key}, key=str.encode)
    assert sizes(top) == {key: filled.sizes[key] for key in ("b", "d")} and top["IsTruncated"] is False
    below = listing(Delimiter="/", Prefix="c/")
    assert sizes(below) == {"c/f": filled.sizes["c/f"]} and prefixes(below) == ["c/d/"]
    after = listing(**{"Marker" if version == "list_objects" else "StartAfter": "b"})
    assert list(sizes(after)) == [key for key in filled.keys if key.encode() > b"b"]


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("delimiter", [None, "/"])
def test_pages(filled, version, delimiter):
    options = {"Bucket": filled.bucket, **({"Delimiter": delimiter} if delimiter else {})}
    whole = getattr(filled.site.s3, version)(**options)
    all_sizes, all_prefixes, pages = {}, [], 0
    for page in filled.site.s3.get_paginator(version).paginate(**options, PaginationConfig={"PageSize": 2}):
        assert len(sizes(page)) + len(prefixes(page)) <= 2
        all_sizes |= sizes(page)
        all_prefixes += prefixes(page)
        pages += 1
    assert pages >= 2 and all_sizes == sizes(whole) and all_prefixes == prefixes(whole)


@pytest.mark.parametrize("query", ["encoding-type=url", "encoding-type=url&list-type=2"])
def test_encoding_type(site, bucket, query):
    """With encoding-type=url names come percent-encoded; "+" is the character that shows whether they do."""
    for key in KEYS + ODD_KEYS:
        site.s3.put_object(Bucket=bucket, Key=key, Body=b"")
    signed = raw.Signed(site, "GET", f"/{bucket}?{query}", {}, raw.EMPTY_SHA256)
    answer = raw.send(site, "GET", signed.target, signed.headers)
    assert answer.status == 200 and b"<EncodingType>url</EncodingType>" in answer.body
    keys = [part.split(b"</Key>")[0].decode() for part in answer.body.split(b"<Key>")[1:]]
    assert {urllib.parse.unquote_plus(key) for key in keys} == set(KEYS + ODD_KEYS)
    assert {urllib.parse.unquote(key) for key in keys} == set(KEYS + ODD_KEYS)
    assert any("%2B" in key for key in keys) and not any("x+y" in key for key in keys)


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_empty_delimiter_is_none(site, bucket, version):
    site.s3.put_object(Bucket=bucket, Key="a/b", Body=b"")
    page = getattr(site.s3, version)(Bucket=bucket, Delimiter="")
    assert "Delimiter" not in page and [entry["Key"] for entry in page["Contents"]] == ["a/b"]


def test_owner_and_storage_class(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"")
    entry = site.s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"][0]
    assert entry["StorageClass"] == "STANDARD" and entry["Owner"]["ID"]
    assert "Owner" not in site.s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert site.s3.list_objects(Bucket=bucket)["Contents"][0]["Owner"]["ID"]


def test_empty(site, bucket):
    empty = site.s3.list_objects_v2(Bucket=bucket)
    assert empty["KeyCount"] == 0 and "Contents" not in empty
    site.s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert sizes(site.s3.list_objects_v2(Bucket=bucket)) == {"k": 0}


@pytest.mark.gateway_only
def test_foreign_objects_are_listed_as_they_are(site, bucket):
    """No sealed object is 239 bytes long, so such an entry keeps its size; reading decides."""
    site.plant(bucket, "foreign", payload(239))
    site.s3.put_object(Bucket=bucket, Key="ours", Body=payload(239))
    assert sizes(site.s3.list_objects_v2(Bucket=bucket)) == {"foreign": 239, "ours": 239}
