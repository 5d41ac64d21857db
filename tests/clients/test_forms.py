"""Browsers' form uploads: presigned posts by boto3, sent by requests as a browser would."""

import base64
import hashlib
import re

import pytest
import requests
from kit.data import payload
from test_objects import error

SIZES = [0, 1, 65535, 65536, 65537, 1_000_000, 5_000_000]


def post(site, form, body=b"", name="photo.jpg", first=(), last=(), **options):
    """Send a form with the file as its last field; `last` puts fields behind it all the same."""
    parts = [(field, (None, value)) for field, value in [*first, *form["fields"].items()]]
    parts += [("file", (name, body, "text/x-of-the-file"))]
    parts += [(field, (None, value)) for field, value in last]
    return requests.post(form["url"], files=parts, timeout=60, verify=site.verify if site.tls else True, allow_redirects=False, **options)


def refused(answer):
    code = re.search(r"<Code>([^<]*)</Code>", answer.text)
    return answer.status_code, code and code.group(1)


def test_sizes(site, bucket):
    for size in SIZES:
        form = site.s3.generate_presigned_post(bucket, f"k{size}")
        answer = post(site, form, payload(size))
        assert answer.status_code == 204 and not answer.content, answer.text
        got = site.s3.get_object(Bucket=bucket, Key=f"k{size}")
        assert got["Body"].read() == payload(size) and got["ETag"] == answer.headers["ETag"]
    sizes = {entry["Key"]: entry["Size"] for entry in site.s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert sizes == {f"k{size}": size for size in SIZES}


def test_over_https(tls_site, tls_bucket):
    form = tls_site.s3.generate_presigned_post(tls_bucket, "k", Fields={"success_action_status": "201"}, Conditions=[{"success_action_status": "201"}])
    answer = post(tls_site, form, payload(200_000))
    assert answer.status_code == 201, answer.text
    assert f"<Location>{tls_site.endpoint}/{tls_bucket}/k</Location>" in answer.text
    assert tls_site.s3.get_object(Bucket=tls_bucket, Key="k")["Body"].read() == payload(200_000)


def test_what_fields_say(site, bucket):
    fields = {
        "Content-Type": "image/x-odd",
        "Cache-Control": "max-age=5",
        "Content-Disposition": "inline",
        "x-amz-meta-colour": "red",
        "success_action_status": "201",
    }
    conditions = [{name: value} for name, value in fields.items()] + [["content-length-range", 10, 1000]]
    form = site.s3.generate_presigned_post(bucket, "in/${filename}", Fields=fields, Conditions=conditions)
    answer = post(site, form, payload(1000), name="C:\\pictures\\a b.jpg")
    assert answer.status_code == 201, answer.text
    assert "<Key>in/a b.jpg</Key>" in answer.text and f"<Bucket>{bucket}</Bucket>" in answer.text
    head = site.s3.head_object(Bucket=bucket, Key="in/a b.jpg")
    assert (head["ContentType"], head["CacheControl"], head["ContentDisposition"]) == ("image/x-odd", "max-age=5", "inline")
    assert head["Metadata"] == {"colour": "red"} and head["ContentLength"] == 1000
    # The type of the file's own part is not the object's.
    post(site, site.s3.generate_presigned_post(bucket, "plain"), payload(10))
    assert site.s3.head_object(Bucket=bucket, Key="plain")["ContentType"] == "binary/octet-stream"


@pytest.mark.gateway_only
def test_policies(site, bucket):
    form = lambda *conditions, **fields: site.s3.generate_presigned_post(bucket, "k", Fields=fields, Conditions=list(conditions))  # noqa: E731
    assert refused(post(site, form(["content-length-range", 0, 99]), payload(100))) == (400, "EntityTooLarge")
    assert refused(post(site, form(["content-length-range", 101, 200]), payload(100))) == (400, "EntityTooSmall")
    assert refused(post(site, form(), payload(100), first=[("acl", "private")])) == (403, "AccessDenied")
    assert refused(post(site, form(["starts-with", "$Content-Type", "image/"], **{"Content-Type": "text/html"}), payload(100))) == (403, "AccessDenied")
    expired = site.s3.generate_presigned_post(bucket, "k", ExpiresIn=-1)
    answer = post(site, expired, payload(100))
    assert refused(answer) == (403, "AccessDenied") and "Policy expired" in answer.text
    other = form()
    other["fields"]["key"] = "other"
    assert refused(post(site, other, payload(100))) == (403, "AccessDenied")
    forged = form()
    forged["fields"]["x-amz-signature"] = "0" * 64
    assert refused(post(site, forged, payload(100))) == (403, "SignatureDoesNotMatch")
    assert refused(post(site, {"url": form()["url"], "fields": {"key": "k"}}, payload(100))) == (403, "AccessDenied")
    assert site.stored(bucket) == {}


@pytest.mark.gateway_only
def test_checks_and_limits(site, bucket):
    def form(**fields):
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        return site.s3.generate_presigned_post(bucket, "k", Fields=fields, Conditions=[{name: value} for name, value in fields.items()])

    good = base64.b64encode(hashlib.sha256(payload(1000)).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert refused(post(site, form(x_amz_checksum_sha256=wrong), payload(1000))) == (400, "BadDigest")
    assert refused(post(site, form(x_amz_meta_ciphergate="x"), payload(1000))) == (400, "InvalidArgument")
    assert refused(post(site, form(x_amz_meta_long="x" * 2000), payload(1000)))[1] == "MetadataTooLarge"
    # A field behind the file makes its length unknown until it has passed; nothing of it is kept.
    assert refused(post(site, form(), payload(200_000), last=[("submit", "Upload")])) == (400, "MalformedPOSTRequest")
    assert site.stored(bucket) == {}
    assert post(site, form(x_amz_checksum_sha256=good), payload(1000)).status_code == 204
    assert site.s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumSHA256"] == good


def test_answers(site, bucket):
    redirect = {"success_action_redirect": "https://app.example/done"}
    form = site.s3.generate_presigned_post(bucket, "k", Fields=redirect, Conditions=[redirect])
    answer = post(site, form, payload(10))
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"https://app.example/done?bucket={bucket}&key=k&etag=%22")


def test_tags(site, bucket):
    tagging = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1+2=3 @/:</Value></Tag></TagSet></Tagging>"
    form = site.s3.generate_presigned_post(bucket, "k", Fields={"tagging": tagging}, Conditions=[{"tagging": tagging}])
    answer = post(site, form, payload(10))
    assert answer.status_code == 204, answer.text
    tags = site.s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert tags == [{"Key": "a b", "Value": "1+2=3 @/:"}]


def test_no_such_bucket(site):
    form = site.s3.generate_presigned_post("t-no-such-bucket-here", "k")
    assert refused(post(site, form, payload(10))) == (404, "NoSuchBucket")
    assert error(site.s3.get_object, Bucket="t-no-such-bucket-here", Key="k") == (404, "NoSuchBucket")
