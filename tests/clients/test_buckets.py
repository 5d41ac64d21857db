"""Buckets, and the bucket settings that go to the backend as they are."""

import uuid

import pytest
from kit import raw
from test_objects import error


def test_life_of_a_bucket(site):
    name = f"t-{uuid.uuid4().hex[:20]}"
    site.s3.create_bucket(Bucket=name)
    assert site.s3.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert name in {entry["Name"] for entry in site.s3.list_buckets()["Buckets"]}
    assert site.s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    site.s3.put_object(Bucket=name, Key="k", Body=b"x")
    assert error(site.s3.delete_bucket, Bucket=name) == (409, "BucketNotEmpty")
    site.s3.delete_object(Bucket=name, Key="k")
    site.s3.delete_bucket(Bucket=name)
    assert error(site.s3.head_bucket, Bucket=name)[0] == 404
    assert name not in {entry["Name"] for entry in site.s3.list_buckets()["Buckets"]}


def test_no_such_bucket(site):
    name = f"t-{uuid.uuid4().hex[:20]}"
    assert error(site.s3.get_object, Bucket=name, Key="k") == (404, "NoSuchBucket")
    assert error(site.s3.put_object, Bucket=name, Key="k", Body=b"x") == (404, "NoSuchBucket")
    assert error(site.s3.list_objects_v2, Bucket=name) == (404, "NoSuchBucket")
    assert error(site.s3.delete_object, Bucket=name, Key="k") == (404, "NoSuchBucket")
    assert error(site.s3.delete_bucket, Bucket=name) == (404, "NoSuchBucket")


def test_invalid_bucket_name(site):
    # The SDK would not send it, so its own check goes first.
    signed = raw.Signed(site, "PUT", "/Not_A_Bucket", {"Content-Length": "0"}, raw.EMPTY_SHA256)
    answer = raw.send(site, "PUT", signed.target, signed.headers)
    assert (answer.status, answer.code) == (400, "InvalidBucketName"), answer


@pytest.mark.gateway_only
def test_unknown_subresource_does_not_delete_the_bucket(site, bucket):
    """A DELETE that was not understood must not fall through to DeleteBucket."""
    signed = raw.Signed(site, "DELETE", f"/{bucket}?surprise=", {}, raw.EMPTY_SHA256)
    answer = raw.send(site, "DELETE", signed.target, signed.headers)
    assert answer.status >= 400, answer
    assert site.backend.head_bucket(Bucket=bucket)


def test_forwarded_settings(site, bucket):
    """What never touches object data goes through untouched, answers and errors alike."""
    s3, here = site.s3, {"Bucket": bucket}
    tags = [{"Key": "team", "Value": "a b+c"}]
    s3.put_bucket_tagging(**here, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(**here)["TagSet"] == tags
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.com"], "MaxAgeSeconds": 5}]
    s3.put_bucket_cors(**here, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(**here)["CORSRules"] == rules
    assert "Status" not in s3.get_bucket_versioning(**here)
    s3.put_bucket_versioning(**here, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(**here)["Status"] == "Enabled"
    assert s3.get_bucket_acl(**here)["Owner"]["ID"]
    assert error(s3.get_bucket_policy, **here) == (404, "NoSuchBucketPolicy")
    s3.put_object(**here, Key="k", Body=b"x")
    s3.put_object_tagging(**here, Key="k", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(**here, Key="k")["TagSet"] == tags
    s3.delete_object_tagging(**here, Key="k")
    assert s3.get_object_tagging(**here, Key="k")["TagSet"] == []
