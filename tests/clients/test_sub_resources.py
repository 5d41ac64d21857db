"""What hangs on a bucket, through the gateway and past it: the same bytes, the same errors."""

import json
import re
import types
import urllib.parse

import pytest
import requests
from kit import raw
from kit.data import payload

# Query, name in boto3's methods, what is put. {bucket} stands for the bucket's own name.
ROLE = "arn:aws:iam::000000000000:role/replication"
CONFIGURATIONS = [
    ("policy", "bucket_policy", {"Policy": '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{bucket}/*"}]}'}),
    ("cors", "bucket_cors", {"CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "ExposeHeaders": ["ETag"]}]}}),
    ("lifecycle", "bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": [{"ID": "a b+c", "Status": "Enabled", "Filter": {"Prefix": "ü&<"}, "Expiration": {"Days": 7}}]}}),
    ("versioning", "bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
    ("tagging", "bucket_tagging", {"Tagging": {"TagSet": [{"Key": "ü", "Value": "a b+c=d"}]}}),
    ("logging", "bucket_logging", {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "{bucket}", "TargetPrefix": "log/"}}}),
    ("notification", "bucket_notification_configuration", {"NotificationConfiguration": {"EventBridgeConfiguration": {}}}),
    ("replication", "bucket_replication", {"ReplicationConfiguration": {"Role": ROLE, "Rules": [{"ID": "r", "Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::{bucket}"}}]}}),
    ("encryption", "bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}}),
    ("publicAccessBlock", "public_access_block", {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True, "IgnorePublicAcls": False, "BlockPublicPolicy": False, "RestrictPublicBuckets": False}}),
    ("ownershipControls", "bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}}),
    ("website", "bucket_website", {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}}),
    ("accelerate", "bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Suspended"}}),
    ("requestPayment", "bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
    ("analytics&id=a", "bucket_analytics_configuration", {"Id": "a", "AnalyticsConfiguration": {"Id": "a", "StorageClassAnalysis": {}}}),
    ("inventory&id=i", "bucket_inventory_configuration", {"Id": "i", "InventoryConfiguration": {"Id": "i", "IsEnabled": True, "IncludedObjectVersions": "All", "Schedule": {"Frequency": "Daily"}, "Destination": {"S3BucketDestination": {"Bucket": "arn:aws:s3:::{bucket}", "Format": "CSV"}}}}),
    ("metrics&id=m", "bucket_metrics_configuration", {"Id": "m", "MetricsConfiguration": {"Id": "m"}}),
    ("intelligent-tiering&id=t", "bucket_intelligent_tiering_configuration", {"Id": "t", "IntelligentTieringConfiguration": {"Id": "t", "Status": "Enabled", "Tierings": [{"Days": 90, "AccessTier": "ARCHIVE_ACCESS"}]}}),
]
# Cannot be removed, only changed.
STAY = {"versioning", "logging", "notification", "accelerate", "requestPayment"}


def past(site):
    """The store itself, as something that requests can be signed for."""
    access_key, secret_key = site.backend_keys
    return types.SimpleNamespace(endpoint=site.backend_endpoint, access_key=access_key, secret_key=secret_key, region=site.region)


def fetch(site, bucket, query):
    signed = raw.Signed(site, "GET", f"/{bucket}?{query}", {}, raw.EMPTY_SHA256)
    answer = raw.send(site, "GET", signed.target, signed.headers)
    # Both name the request, each in its own way, or the store does not.
    body = re.sub(rb"<(RequestId|HostId)>[^<]*</\1>", b"", answer.body)
    return answer.status, answer.headers.get("Content-Type"), body


def named(value, bucket):
    return json.loads(json.dumps(value).replace("{bucket}", bucket))


@pytest.mark.gateway_only
@pytest.mark.parametrize("query, name, value", CONFIGURATIONS, ids=[query.split("&")[0] for query, *_ in CONFIGURATIONS])
def test_configurations(site, bucket, query, name, value):
    s3, here = site.s3, {"Bucket": bucket}
    if query == "replication":
        site.backend.put_bucket_versioning(**here, VersioningConfiguration={"Status": "Enabled"})
    assert fetch(site, bucket, query) == fetch(past(site), bucket, query)
    before = fetch(site, bucket, query)
    getattr(s3, f"put_{name}")(**here, **named(value, bucket))
    status, _, body = stored = fetch(past(site), bucket, query)
    assert status == 200 and stored != before, body
    assert fetch(site, bucket, query) == stored
    if query not in STAY:
        delete = getattr(s3, "delete_bucket_lifecycle" if query == "lifecycle" else f"delete_{name}")
        delete(**here, **{name: what for name, what in value.items() if name == "Id"})
        gone = fetch(past(site), bucket, query)
        assert gone == fetch(site, bucket, query) != stored
    assert s3.head_bucket(**here)


@pytest.mark.gateway_only
def test_object_lock(localstack_site):
    site = localstack_site
    bucket = "t-lock-through-and-past"
    site.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    try:
        rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
        site.s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=rule)
        assert fetch(site, bucket, "object-lock") == fetch(past(site), bucket, "object-lock")
        assert site.s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == rule
    finally:
        site.backend.delete_bucket(Bucket=bucket)


@pytest.mark.gateway_only
def test_lists_of_configurations(site, bucket):
    for query in ("analytics", "inventory", "metrics", "intelligent-tiering", "location", "acl", "policyStatus", "object-lock"):
        assert fetch(site, bucket, query) == fetch(past(site), bucket, query), query
    missing = "t-there-is-no-such-bucket"
    for query, *_ in CONFIGURATIONS:
        assert fetch(site, missing, query) == fetch(past(site), missing, query), query


def test_presigned_everything(site, bucket):
    """What can be asked with a header can be asked with a URL."""
    s3, here = site.s3, {"Bucket": bucket}
    url = lambda operation, **more: s3.generate_presigned_url(operation, Params={**here, **more})  # noqa: E731
    for key in ("a+b c", "a b/ü", "x//y/", "%2F"):
        assert requests.put(url("put_object", Key=key), data=payload(100), timeout=30).status_code == 200
        assert requests.get(url("get_object", Key=key), timeout=30).content == payload(100)
    for operation, more in (("list_objects_v2", {"Prefix": "a+b "}), ("list_objects", {"Prefix": "a+b "}), ("list_objects_v2", {"Prefix": "a+b ", "Delimiter": "/", "MaxKeys": 5})):
        listed = requests.get(url(operation, **more), timeout=30)
        # boto3 asks for encoded keys.
        keys = [urllib.parse.unquote_plus(key) for key in re.findall("<Key>([^<]*)</Key>", listed.text)]
        assert listed.status_code == 200 and keys == ["a+b c"], listed.text
    assert requests.get(url("list_objects_v2", Prefix=""), timeout=30).text.count("<Key>") == 4
    assert requests.head(url("head_bucket"), timeout=30).status_code == 200
    assert "LocationConstraint" in requests.get(url("get_bucket_location"), timeout=30).text
    tags = "<TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet>"
    s3.put_object_tagging(**here, Key="a+b c", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert tags in requests.get(url("get_object_tagging", Key="a+b c"), timeout=30).text
    assert requests.delete(url("delete_object_tagging", Key="a+b c"), timeout=30).status_code == 204
    assert "<Tag>" not in requests.get(url("get_object_tagging", Key="a+b c"), timeout=30).text
    assert requests.delete(url("delete_object", Key="a+b c"), timeout=30).status_code == 204
    assert set(site.stored(bucket)) == {"a b/ü", "x//y/", "%2F"}
