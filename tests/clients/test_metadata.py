"""What stands beside an object: metadata, tags, ACLs, locks, storage classes, redirects, guards."""

import base64
import datetime
import email.header
import hashlib

import pytest
from conftest import fresh_bucket
from kit import raw
from kit.data import payload
from kit.listener import Listener
from test_multipart import LEAST, complete, upload
from test_objects import error


def head(site, bucket, key):
    """The headers of HEAD as they are on the wire."""
    signed = raw.Signed(site, "HEAD", raw.target(bucket, key), {}, raw.EMPTY_SHA256)
    answer = raw.send(site, "HEAD", signed.target, signed.headers)
    assert answer.status == 200, answer
    return answer.headers


def words(value):
    return str(email.header.make_header(email.header.decode_header(value)))


CONTENT = {
    "Cache-Control": "max-age=60, private",
    "Content-Disposition": 'attachment; filename="a b.txt"',
    "Content-Encoding": "gzip, br",
    "Content-Language": "de, en",
    "Content-Type": "text/plain; charset=utf-8",
    "Expires": "Wed, 21 Oct 2037 07:28:00 GMT",
}


def test_content_headers(site, bucket):
    assert raw.put(site, bucket, "k", b"x", headers=CONTENT).status == 200
    seen = head(site, bucket, "k")
    assert {name: seen[name].replace(", ", ",") for name in CONTENT} == {name: text.replace(", ", ",") for name, text in CONTENT.items()}


@pytest.mark.gateway_only
def test_non_ascii_metadata(site, bucket):
    """As S3 does it: encoded words come back, whether raw UTF-8 or encoded words went in."""
    for text in ("café", "鍵🔑" * 20, "a" * 44 + "é"):
        word = email.header.Header(text, "utf-8", maxlinelen=10_000).encode().replace("\n", "")
        for key, value in (("bytes", text.encode()), ("word", word)):
            signed = raw.Signed(site, "PUT", raw.target(bucket, key), {"Content-Length": "0", "x-amz-meta-place": text if key == "bytes" else word}, raw.UNSIGNED)
            signed.headers["x-amz-meta-place"] = value
            answer = raw.send(site, "PUT", signed.target, signed.headers)
            assert answer.status == 200, answer
            assert words(head(site, bucket, key)["x-amz-meta-place"]) == text, key


@pytest.mark.gateway_only
def test_repeated_and_empty_metadata(site, bucket):
    """Values of one name are one value with commas, as they are signed."""
    signed = raw.Signed(site, "PUT", raw.target(bucket, "k"), {"Content-Length": "1", "x-amz-meta-a": "1,2", "x-amz-meta-empty": ""}, raw.UNSIGNED)
    lines = [(name, value) for name, value in signed.headers.items() if name.lower() != "x-amz-meta-a"]
    connection = raw.connect(site)
    connection.putrequest("PUT", signed.target, skip_accept_encoding=True)
    for name, value in [*lines, ("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")]:
        if name.lower() != "host":
            connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"x")
    answer = raw.finish(connection)
    assert answer.status == 200, answer
    assert site.s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1,2", "empty": ""}


@pytest.mark.gateway_only
def test_metadata_that_does_not_fit(site, bucket):
    put = site.s3.put_object
    for metadata in ({"m": "v" * 2048}, {f"m{number}": "v" * 200 for number in range(9)}, {"n" * 900: "v" * 900}):
        assert error(put, Bucket=bucket, Key="k", Body=b"", Metadata=metadata) == (400, "MetadataTooLarge")
    metadata = {"m": "v" * 1500}
    put(Bucket=bucket, Key="k", Body=b"", Metadata=metadata)
    assert site.s3.head_object(Bucket=bucket, Key="k")["Metadata"] == metadata


def test_tags(site, bucket):
    here = {"Bucket": bucket, "Key": "k"}
    site.s3.put_object(**here, Body=payload(100), Tagging="colour=blue&empty=&a%20b=c%2Fd")
    want = {"colour": "blue", "empty": "", "a b": "c/d"}
    assert {tag["Key"]: tag["Value"] for tag in site.s3.get_object_tagging(**here)["TagSet"]} == want
    assert site.s3.get_object(**here)["TagCount"] == 3
    site.s3.put_object_tagging(**here, Tagging={"TagSet": [{"Key": "x", "Value": "y"}]})
    assert site.s3.get_object(**here)["TagCount"] == 1
    site.s3.delete_object_tagging(**here)
    assert "TagCount" not in site.s3.get_object(**here)
    assert site.s3.get_object(**here)["Body"].read() == payload(100)


def error_or_none(call, **options):
    try:
        call(**options)
    except Exception as refusal:
        return refusal
    return None


def test_bad_tags(localstack_site, localstack_bucket):
    here = {"Bucket": localstack_bucket, "Key": "k"}
    for tags in ("a=1&a=2", "a=<>"):
        assert error(localstack_site.s3.put_object, **here, Body=b"", Tagging=tags) == (400, "InvalidArgument"), tags
    assert error(localstack_site.s3.head_object, **here)[0] == 404


def test_acl(localstack_site, localstack_bucket):
    site, here = localstack_site, {"Bucket": localstack_bucket, "Key": "k"}
    site.s3.put_bucket_ownership_controls(Bucket=localstack_bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    site.s3.delete_public_access_block(Bucket=localstack_bucket)
    site.s3.put_object(**here, Body=b"x", ACL="public-read")
    grants = site.s3.get_object_acl(**here)["Grants"]
    assert any(grant["Grantee"].get("URI", "").endswith("AllUsers") and grant["Permission"] == "READ" for grant in grants)
    site.s3.put_object_acl(**here, ACL="private")
    assert len(site.s3.get_object_acl(**here)["Grants"]) == 1
    owner = site.s3.get_object_acl(**here)["Owner"]["ID"]
    site.s3.put_object(**here, Body=b"x", GrantRead=f"id={owner}")
    assert {grant["Permission"] for grant in site.s3.get_object_acl(**here)["Grants"]} == {"READ"}
    assert error(site.s3.put_object, **here, Body=b"x", ACL="no-such-acl") == (400, "InvalidArgument")


def test_storage_classes(site, bucket):
    for storage in ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY"):
        site.s3.put_object(Bucket=bucket, Key=storage, Body=payload(100), StorageClass=storage)
        assert site.s3.head_object(Bucket=bucket, Key=storage).get("StorageClass", "STANDARD") == storage
        assert site.s3.get_object(Bucket=bucket, Key=storage)["Body"].read() == payload(100)
        attributes = site.s3.get_object_attributes(Bucket=bucket, Key=storage, ObjectAttributes=["StorageClass"])
        assert attributes["StorageClass"] == storage
    listed = site.s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert {entry["Key"] for entry in listed} == {entry["StorageClass"] for entry in listed}
    assert error(site.s3.put_object, Bucket=bucket, Key="k", Body=b"", StorageClass="COLD") == (400, "InvalidStorageClass")


def test_archived_objects(localstack_site, localstack_bucket):
    site, here = localstack_site, {"Bucket": localstack_bucket, "Key": "k"}
    site.s3.put_object(**here, Body=payload(70_000), StorageClass="GLACIER")
    assert error(site.s3.get_object, **here) == (403, "InvalidObjectState")
    assert site.s3.head_object(**here)["ContentLength"] == 70_000
    restore = {"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}}
    assert site.s3.restore_object(**here, RestoreRequest=restore)["ResponseMetadata"]["HTTPStatusCode"] in (200, 202)
    assert "ongoing-request" in site.s3.head_object(**here)["Restore"]
    assert site.s3.get_object(**here)["Body"].read() == payload(70_000)


@pytest.mark.gateway_only
def test_a_restore_that_queries_is_refused(site, bucket):
    """It would run over ciphertext and write its result somewhere else."""
    here = {"Bucket": bucket, "Key": "k"}
    site.s3.put_object(**here, Body=payload(100), StorageClass="GLACIER")
    select = {
        "Type": "SELECT",
        "SelectParameters": {"ExpressionType": "SQL", "Expression": "select * from s3object", "InputSerialization": {"CSV": {}}, "OutputSerialization": {"CSV": {}}},
        "OutputLocation": {"S3": {"BucketName": bucket, "Prefix": "out"}},
    }
    assert error(site.s3.restore_object, **here, RestoreRequest=select) == (501, "NotImplemented")
    assert "Restore" not in site.s3.head_object(**here)
    site.s3.delete_object(**here)


def test_website_redirect(site, bucket):
    here = {"Bucket": bucket, "Key": "k"}
    site.s3.put_object(**here, Body=b"x", WebsiteRedirectLocation="/other")
    assert site.s3.head_object(**here)["WebsiteRedirectLocation"] == "/other"


@pytest.mark.gateway_only
def test_guards_reach_the_store(sites, tmp_path):
    """Expected owner and request payer, on every operation: a store that writes down what it is asked."""
    with Listener() as store:
        site = sites.start("embedded", name="guards", backend=store.url, ready="livez")
        guards = {"ExpectedBucketOwner": "111122223333", "RequestPayer": "requester"}
        here = {"Bucket": "bucket", "Key": "k", **guards}
        calls = [
            (site.s3.put_object, {**here, "Body": b"x"}),
            (site.s3.get_object, here),
            (site.s3.get_object, {**here, "Range": "bytes=-1"}),
            (site.s3.head_object, here),
            (site.s3.get_object_attributes, {**here, "ObjectAttributes": ["ETag"]}),
            (site.s3.delete_object, {**here, "BypassGovernanceRetention": True}),
            (site.s3.delete_objects, {"Bucket": "bucket", "Delete": {"Objects": [{"Key": "k"}]}, "BypassGovernanceRetention": True, **guards}),
            (site.s3.list_objects_v2, {"Bucket": "bucket", **guards}),
            (site.s3.list_object_versions, {"Bucket": "bucket", **guards}),
            (site.s3.get_object_tagging, here),
            (site.s3.restore_object, {**here, "RestoreRequest": {"Days": 1}}),
        ]
        for call, options in calls:
            store.seen.clear()
            error_or_none(call, **options)
            assert store.seen, call.__name__
            for seen in store.seen:
                assert seen["x-amz-expected-bucket-owner"] == "111122223333", (call.__name__, seen)
                assert seen["x-amz-request-payer"] == "requester", (call.__name__, seen)
                if "BypassGovernanceRetention" in options:
                    assert seen["x-amz-bypass-governance-retention"].lower() == "true"


@pytest.fixture
def locked(site):
    """A bucket with Object Lock."""
    name = f"lock-{hashlib.sha1(str(datetime.datetime.now()).encode()).hexdigest()[:16]}"
    site.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def soon():
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)).replace(microsecond=0)


def test_object_lock(site, locked):
    here = {"Bucket": locked, "Key": "k"}
    until = soon()
    put = site.s3.put_object(**here, Body=payload(70_000), ContentEncoding="gzip", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until, ObjectLockLegalHoldStatus="ON")
    for call in (site.s3.head_object, site.s3.get_object):
        seen = call(**here)
        assert (seen["ObjectLockMode"], seen["ObjectLockRetainUntilDate"], seen["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", until, "ON")
        assert seen["ContentEncoding"] == "gzip", "the checksum that the store demands leaves no trace"
    assert site.s3.get_object(**here)["Body"].read() == payload(70_000)
    version = {**here, "VersionId": put["VersionId"]}
    assert error(site.s3.delete_object, **version) == (403, "AccessDenied")
    site.s3.put_object_legal_hold(**version, LegalHold={"Status": "OFF"})
    assert site.s3.get_object_legal_hold(**version)["LegalHold"]["Status"] == "OFF"
    assert error(site.s3.delete_object, **version) == (403, "AccessDenied")
    later = until + datetime.timedelta(days=1)
    site.s3.put_object_retention(**version, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": later})
    assert site.s3.get_object_retention(**version)["Retention"]["RetainUntilDate"] == later
    site.s3.delete_object(**version, BypassGovernanceRetention=True)
    assert error(site.s3.get_object, **version) == (404, "NoSuchVersion")


def test_object_lock_of_uploads_in_parts(site, locked):
    """Each part has to say what it is, and the gateway's own parts as well."""
    here = {"Bucket": locked, "Key": "k"}
    upload_id, lines = upload(site.s3, locked, "k", {1: payload(LEAST), 2: payload(1000)}, {"ObjectLockLegalHoldStatus": "ON"})
    done = complete(site.s3, locked, "k", upload_id, lines)
    assert site.s3.get_object(**here)["Body"].read() == payload(LEAST) + payload(1000)
    version = {**here, "VersionId": done["VersionId"]}
    assert site.s3.get_object_legal_hold(**version)["LegalHold"]["Status"] == "ON"
    assert error(site.s3.delete_object, **version) == (403, "AccessDenied")


def test_delete_objects_with_bypass(site, locked):
    here = {"Bucket": locked, "Key": "k"}
    version = site.s3.put_object(**here, Body=b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon())["VersionId"]
    lines = {"Objects": [{"Key": "k", "VersionId": version}]}
    refused = site.s3.delete_objects(Bucket=locked, Delete=lines)
    assert [line["Code"] for line in refused["Errors"]] == ["AccessDenied"]
    done = site.s3.delete_objects(Bucket=locked, Delete=lines, BypassGovernanceRetention=True)
    assert [line["Key"] for line in done["Deleted"]] == ["k"]


def test_default_retention(site, locked):
    here = {"Bucket": locked, "Key": "k"}
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}}
    site.s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rule)
    put = site.s3.put_object(**here, Body=payload(100))
    assert site.s3.get_object(**here)["Body"].read() == payload(100)
    assert site.s3.head_object(**here)["ObjectLockMode"] == "COMPLIANCE"
    assert error(site.s3.delete_object, **here, VersionId=put["VersionId"]) == (403, "AccessDenied")


@pytest.mark.gateway_only
def test_a_lock_needs_a_digest(site, locked):
    """S3 demands Content-MD5 or a checksum with lock settings; the gateway is who can check it."""
    lock = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": soon().isoformat()}
    answer = raw.put(site, locked, "k", b"hello", headers=lock)
    assert (answer.status, answer.code) == (400, "InvalidRequest") and b"Content-MD5" in answer.body, answer
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    answer = raw.put(site, locked, "k", b"hello", headers={**lock, "Content-MD5": wrong})
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    right = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    answer = raw.put(site, locked, "k", b"hello", headers={**lock, "Content-MD5": right})
    assert answer.status == 200, answer
    assert site.s3.get_object(Bucket=locked, Key="k")["Body"].read() == b"hello"


@pytest.mark.gateway_only
def test_the_store_gets_its_own_digest(sites):
    """Not the client's, which is of the plaintext: a checksum of the sealed body, behind it."""
    with Listener() as store:
        site = sites.start("embedded", name="digest", backend=store.url, ready="livez")
        for lock in ({"ObjectLockLegalHoldStatus": "ON"}, {}):
            store.seen.clear()
            site.s3.put_object(Bucket="bucket", Key="k", Body=b"hello", ChecksumAlgorithm="SHA256", **lock)
            # Whether the bucket has a default retention is asked only where the upload does not say enough.
            *questions, seen = store.seen
            assert len(questions) == (0 if lock else 1)
            assert "x-amz-checksum-sha256" not in seen and "content-md5" not in seen
            assert seen.get("x-amz-trailer") == ("x-amz-checksum-crc64nvme" if lock else None)
        # Where the store does not tell, a bucket with a default retention says so by refusing.
        refusal = (
            b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object "
            b"requests with Object Lock parameters</Message></Error>"
        )
        store.refuse.append((400, refusal))
        assert error(site.s3.put_object, Bucket="bucket", Key="k", Body=b"hello") == (503, "SlowDown")
        store.seen.clear()
        site.s3.put_object(Bucket="bucket", Key="k", Body=b"hello")
        assert store.seen[0]["x-amz-trailer"] == "x-amz-checksum-crc64nvme"
        site.s3.put_object(Bucket="another", Key="k", Body=b"hello")
        assert "x-amz-trailer" not in store.seen[-1]
