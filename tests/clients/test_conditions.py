"""Conditions: judged by the store, in one step with what they guard, by the ETag that clients see."""

import datetime
import threading

import pytest
from botocore.exceptions import ClientError
from kit import raw
from kit.data import payload
from kit.listener import Listener
from kit.sizes import sealed_len
from test_objects import error

WRONG = '"00000000000000000000000000000000-0"'
FAILED = (412, "PreconditionFailed")


@pytest.fixture
def here(bucket):
    return {"Bucket": bucket, "Key": "k"}


def test_times(site, here):
    site.s3.put_object(**here, Body=payload(70_000))
    modified = site.s3.head_object(**here)["LastModified"]
    before, after = modified - datetime.timedelta(hours=1), modified + datetime.timedelta(hours=1)
    for call in (site.s3.get_object, site.s3.head_object):
        assert call(**here, IfModifiedSince=before)["ContentLength"] == 70_000
        assert error(call, **here, IfModifiedSince=modified)[0] == 304
        assert call(**here, IfUnmodifiedSince=after)["ContentLength"] == 70_000
        assert call(**here, IfUnmodifiedSince=modified)["ContentLength"] == 70_000
        assert error(call, **here, IfUnmodifiedSince=before)[0] == 412


def test_tags_win_over_times(site, here):
    """RFC 9110 section 13.2.2, and S3's own table."""
    if site.kind != "embedded":
        pytest.skip("this store judges each of them")
    etag = site.s3.put_object(**here, Body=payload(1000))["ETag"]
    modified = site.s3.head_object(**here)["LastModified"]
    before = modified - datetime.timedelta(hours=1)
    assert site.s3.get_object(**here, IfMatch=etag, IfUnmodifiedSince=before)["Body"].read() == payload(1000)
    assert error(site.s3.get_object, **here, IfNoneMatch=etag, IfModifiedSince=before)[0] == 304


def test_a_condition_holds_for_ranges_parts_and_suffixes(site, here):
    etag = site.s3.put_object(**here, Body=payload(200_000))["ETag"]
    for options in ({"Range": "bytes=5-9"}, {"Range": "bytes=-5"}, {"Range": "bytes=100000-"}, {"PartNumber": 1}):
        assert error(site.s3.get_object, **here, **options, IfMatch=WRONG) == FAILED, options
        assert error(site.s3.get_object, **here, **options, IfNoneMatch=etag)[0] == 304, options
        assert site.s3.get_object(**here, **options, IfMatch=etag)["ETag"] == etag


@pytest.mark.gateway_only
def test_without_the_mark_it_is_the_stores_own_tag(site, here):
    """Whoever kept the ETag of the backend meets the same object."""
    etag = site.s3.put_object(**here, Body=payload(1000))["ETag"]
    behind = site.backend.head_object(**here)["ETag"]
    assert etag == f'{behind[:-1]}-0"'
    assert site.s3.get_object(**here, IfMatch=behind)["Body"].read() == payload(1000)


def test_put_only_if_it_is_new(site, here):
    put = site.s3.put_object
    etag = put(**here, Body=payload(100, 1), IfNoneMatch="*")["ETag"]
    assert error(put, **here, Body=payload(100, 2), IfNoneMatch="*") == FAILED
    assert error(put, **here, Body=payload(100, 2), IfMatch=WRONG) == FAILED
    second = put(**here, Body=payload(100, 3), IfMatch=etag)["ETag"]
    assert site.s3.get_object(**here)["ETag"] == second
    assert error(put, Bucket=here["Bucket"], Key="new", Body=b"x", IfMatch=etag)[0] in (404, 412)


def test_of_many_writers_one_wins(site, here):
    """Atomically: eight writers at once, one object."""
    won, lost = [], []

    def write(number):
        try:
            site.s3.put_object(**here, Body=payload(70_000, number), IfNoneMatch="*")
            won.append(number)
        except site.s3.exceptions.ClientError as refusal:
            lost.append(refusal.response["ResponseMetadata"]["HTTPStatusCode"])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(won) == 1 and set(lost) <= {409, 412}, (won, lost)
    assert site.s3.get_object(**here)["Body"].read() == payload(70_000, won[0])


@pytest.fixture
def with_conditional_deletes(site):
    if site.kind != "embedded":
        pytest.skip("this store has no conditional deletes")


def test_delete_if_it_is_still_the_same(site, here, with_conditional_deletes):
    etag = site.s3.put_object(**here, Body=payload(100))["ETag"]
    assert error(site.s3.delete_object, **here, IfMatch=WRONG) == FAILED
    assert site.s3.get_object(**here)["Body"].read() == payload(100)
    site.s3.delete_object(**here, IfMatch=etag)
    assert error(site.s3.get_object, **here) == (404, "NoSuchKey")


def test_delete_many_if_they_are_still_the_same(site, bucket, with_conditional_deletes):
    etags = {key: site.s3.put_object(Bucket=bucket, Key=key, Body=payload(10, key))["ETag"] for key in "abc"}
    lines = [{"Key": "a", "ETag": etags["a"]}, {"Key": "b", "ETag": WRONG}, {"Key": "c"}]
    done = site.s3.delete_objects(Bucket=bucket, Delete={"Objects": lines})
    assert {line["Key"] for line in done["Deleted"]} == {"a", "c"}
    assert [(line["Key"], line["Code"]) for line in done["Errors"]] == [("b", "PreconditionFailed")]


def test_a_conditional_delete_is_refused_where_the_store_has_none(localstack_site, localstack_bucket):
    """Refused, never done without its condition."""
    site, here = localstack_site, {"Bucket": localstack_bucket, "Key": "k"}
    etag = site.s3.put_object(**here, Body=payload(100))["ETag"]
    assert error(site.s3.delete_object, **here, IfMatch=etag) == (501, "NotImplemented")
    assert site.s3.get_object(**here)["Body"].read() == payload(100)


@pytest.mark.gateway_only
def test_conditions_of_deletes_reach_the_store_in_its_own_words(sites):
    """The mark is taken off, and the size is the sealed one: all objects of one size have one sealed size."""
    at = datetime.datetime(2026, 11, 24, 4, 0, tzinfo=datetime.timezone.utc)
    with Listener() as store:
        site = sites.start("embedded", name="deletes", backend=store.url, ready="livez")
        site.s3.delete_object(Bucket="bucket", Key="k", IfMatch='"abc-0"', IfMatchSize=70_000, IfMatchLastModifiedTime=at)
        (seen,) = store.seen
        assert seen["if-match"] == '"abc"' and seen["x-amz-if-match-size"] == str(sealed_len(70_000))
        assert seen["x-amz-if-match-last-modified-time"] == "Tue, 24 Nov 2026 04:00:00 GMT"
        line = {"Key": "k", "ETag": '"abc-0"', "Size": 0, "LastModifiedTime": at}
        with pytest.raises(ClientError):  # the store's answer is no document
            site.s3.delete_objects(Bucket="bucket", Delete={"Objects": [line]})
        document = store.bodies[-1].decode().replace("&quot;", '"')
        assert "<Size>240</Size>" in document and "<ETag>abc</ETag>" in document
        assert "<LastModifiedTime>Tue, 24 Nov 2026 04:00:00 GMT</LastModifiedTime>" in document


@pytest.mark.gateway_only
def test_dates_that_are_none(site, here):
    site.s3.put_object(**here, Body=b"x")
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        signed = raw.Signed(site, "GET", raw.target(here["Bucket"], "k"), {name: "yesterday"}, raw.EMPTY_SHA256)
        answer = raw.send(site, "GET", signed.target, signed.headers)
        assert (answer.status, answer.code) == (400, "InvalidArgument"), answer
