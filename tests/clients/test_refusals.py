"""Who may not in, and what is not done: the codes of S3, a request id on every answer, and never a silent pass."""

import base64
import datetime
import re
import uuid
from unittest import mock

import botocore.auth
import pytest
import requests
from kit import raw
from kit.data import payload
from test_objects import error


def get(site, url, **options):
    answer = requests.get(url, timeout=30, verify=site.verify if site.tls else True, **options)
    code = re.search(r"<Code>([^<]*)</Code>", answer.text)
    return answer.status_code, code and code.group(1)


@pytest.fixture
def key(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))
    return "k"


@pytest.mark.gateway_only
def test_wrong_credentials(site, bucket, key):
    here = {"Bucket": bucket, "Key": key}
    wrong = site.client((site.access_key, "not-the-secret"))
    unknown = site.client(("UNKNOWNACCESSKEY0000", site.secret_key))
    for call in ("get_object", "delete_object"):
        assert error(getattr(wrong, call), **here) == (403, "SignatureDoesNotMatch")
        assert error(getattr(unknown, call), **here) == (403, "InvalidAccessKeyId")
    assert error(wrong.put_object, **here, Body=b"x") == (403, "SignatureDoesNotMatch")
    assert error(unknown.list_objects_v2, Bucket=bucket) == (403, "InvalidAccessKeyId")
    # The keys of the backend are not keys of the gateway.
    assert error(site.client(site.backend_keys).get_object, **here) == (403, "InvalidAccessKeyId")
    assert site.s3.get_object(**here)["Body"].read() == payload(1000)


@pytest.mark.gateway_only
def test_anonymous(site, bucket, key):
    url = f"{site.endpoint}/{bucket}/{key}"
    assert get(site, url) == (403, "AccessDenied")
    for method in ("PUT", "DELETE"):
        assert requests.request(method, url, data=b"x" if method == "PUT" else None, timeout=30).status_code == 403
    assert get(site, f"{site.endpoint}/{bucket}") == (403, "AccessDenied")
    assert get(site, f"{site.endpoint}/") == (403, "AccessDenied")
    assert site.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == payload(1000)


def test_presigned_urls(site, bucket, key):
    assert get(site, raw.presign(site, "GET", bucket, key))[0] == 200
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=10)
    assert get(site, raw.presign(site, "GET", bucket, key, expires=60, at=past)) == (403, "AccessDenied")


def test_tampered_presigned_urls(site, bucket, key):
    url = raw.presign(site, "GET", bucket, key)
    site.s3.put_object(Bucket=bucket, Key="other", Body=b"x")
    flipped = url[:-1] + ("0" if url[-1] != "0" else "1")
    denied = (403, "SignatureDoesNotMatch")
    assert get(site, flipped) == denied
    assert get(site, url.replace(f"/{key}?", "/other?")) == denied
    assert get(site, url.replace("X-Amz-Expires=300", "X-Amz-Expires=3000")) == denied
    assert get(site, url + "&response-content-type=text%2Fhtml") == denied
    assert requests.put(url, data=b"x", timeout=30).status_code == 403
    assert site.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == payload(1000)


@pytest.mark.gateway_only
def test_presigned_for_too_long(site, bucket, key):
    status, code = get(site, raw.presign(site, "GET", bucket, key, expires=8 * 86400))
    assert status in (400, 403) and code in ("AuthorizationQueryParametersError", "AccessDenied")


@pytest.mark.gateway_only
def test_old_request(site, bucket, key):
    """A header signature is good for 15 minutes."""
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=20)
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda *_: past.replace(tzinfo=None)):
        signed = raw.Signed(site, "GET", raw.target(bucket, key), {}, raw.EMPTY_SHA256)
    answer = raw.send(site, "GET", signed.target, signed.headers)
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed"), answer


@pytest.mark.gateway_only
def test_unsigned_header_of_weight(site, bucket, key):
    """An x-amz header added to a signed request changes what it does: refused."""
    url = raw.presign(site, "PUT", bucket, "copy")
    answer = requests.put(url, headers={"x-amz-copy-source": f"/{bucket}/{key}"}, timeout=30)
    assert answer.status_code in (400, 403), answer.text
    assert set(site.stored(bucket)) == {key}


@pytest.mark.gateway_only
def test_host_has_to_be_signed(site, bucket, key):
    signed = raw.Signed(site, "GET", raw.target(bucket, key), {}, raw.EMPTY_SHA256)
    headers = {**signed.headers, "Authorization": signed.headers["Authorization"].replace("SignedHeaders=host;", "SignedHeaders=")}
    assert raw.send(site, "GET", signed.target, headers).status == 403


@pytest.mark.gateway_only
def test_request_ids(site, bucket, key):
    seen = set()
    for target in (f"/{bucket}/{key}", f"/{bucket}/missing", f"/{bucket}?list-type=2", "/", f"/{bucket}?acl=&torrent="):
        signed = raw.Signed(site, "GET", target, {}, raw.EMPTY_SHA256)
        answer = raw.send(site, "GET", signed.target, signed.headers)
        request_id = answer.headers["x-amz-request-id"]
        assert re.fullmatch("[0-9A-F]{16}", request_id) and request_id not in seen, target
        seen.add(request_id)
        if answer.status >= 400:
            assert f"<RequestId>{request_id}</RequestId>".encode() in answer.body, target
    # Refusals at the door have one too.
    answer = requests.get(f"{site.endpoint}/{bucket}/{key}", timeout=30)
    assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>" in answer.text
    assert answer.headers["Content-Type"] == "application/xml"


@pytest.mark.gateway_only
def test_wrong_bucket_owner(site, bucket):
    """A guard that clients set must not be dropped in silence."""
    if site.kind != "embedded":
        pytest.skip("this store does not look at the expected owner")
    s3, here = site.s3, {"Bucket": bucket, "Key": "k"}
    s3.put_object(**here, Body=b"x", ExpectedBucketOwner="000000000000")
    for call, more in (("put_object", {"Body": b"y"}), ("get_object", {}), ("head_object", {}), ("delete_object", {})):
        assert error(getattr(s3, call), **here, **more, ExpectedBucketOwner="111122223333")[0] == 403, call
    assert error(s3.list_objects_v2, Bucket=bucket, ExpectedBucketOwner="111122223333") == (403, "AccessDenied")
    assert s3.get_object(**here)["Body"].read() == b"x"


@pytest.mark.gateway_only
def test_customer_keys_are_demanded(site, bucket):
    """SSE-C promises that nobody reads the object without the client's key. By hand, since boto3 sends no key over HTTP."""
    own = {
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key": base64.b64encode(b"k" * 32).decode(),
        "x-amz-server-side-encryption-customer-key-md5": raw.b64digest("md5", b"k" * 32),
    }
    answer = raw.put(site, bucket, "k", b"x", headers=own)
    assert answer.status == 200 and answer.headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256", answer

    def get(headers):
        signed = raw.Signed(site, "GET", raw.target(bucket, "k"), headers, raw.EMPTY_SHA256)
        return raw.send(site, "GET", signed.target, signed.headers)

    assert get(own).body == b"x"
    for missing in own:
        answer = get({name: value for name, value in own.items() if name != missing})
        assert (answer.status, answer.code) in ((400, "InvalidArgument"), (400, "InvalidRequest")), (missing, answer)
    assert get({}).status == 400
    other = {**own, "x-amz-server-side-encryption-customer-key": base64.b64encode(b"o" * 32).decode(),
             "x-amz-server-side-encryption-customer-key-md5": raw.b64digest("md5", b"o" * 32)}
    assert get(other).status == 403


@pytest.mark.gateway_only
def test_not_implemented(site, bucket, key):
    """Operations that would read or show object data as it is stored. None may go through to the backend."""
    s3 = site.s3
    refused = (501, "NotImplemented")
    select = {"ExpressionType": "SQL", "InputSerialization": {"CSV": {}}, "OutputSerialization": {"CSV": {}}}
    assert error(s3.select_object_content, Bucket=bucket, Key=key, Expression="select * from s3object", **select) == refused
    assert error(s3.get_object_torrent, Bucket=bucket, Key=key) == refused
    assert set(site.stored(bucket)) == {key}


@pytest.mark.gateway_only
@pytest.mark.parametrize("query", ["surprise=1", "surprise", "versionId=abc&surprise=", "x-id=Surprise&surprise="])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_unknown_requests(site, bucket, key, method, query):
    """What neither way knows is refused: not answered as something else, and not passed on."""
    for target in (f"/{bucket}/{key}?{query}", f"/{bucket}?{query}"):
        headers = {"Content-Length": "5"} if method in ("PUT", "POST") else {}
        signed = raw.Signed(site, method, target, headers, raw.UNSIGNED)
        answer = raw.send(site, method, signed.target, signed.headers, b"hello" if headers else b"")
        assert answer.status >= 400 and answer.status != 500, (target, answer)
    assert site.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == payload(1000)


@pytest.mark.gateway_only
def test_a_version_that_was_asked_for(site, bucket):
    """versionId is either honoured or refused; the newest bytes are no answer to it."""
    here = {"Bucket": bucket, "Key": "k"}
    site.backend.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = site.s3.put_object(**here, Body=payload(1000, "first"))
    site.s3.put_object(**here, Body=payload(1000, "second"))
    version = first.get("VersionId")
    assert version, "a versioned bucket's PUT names the version"
    got = site.s3.get_object(**here, VersionId=version)
    assert got["Body"].read() == payload(1000, "first") and got["VersionId"] == version
    assert site.s3.get_object(**here)["Body"].read() == payload(1000, "second")
    assert site.s3.head_object(**here, VersionId=version)["ETag"] == first["ETag"]
    marker = site.s3.delete_object(**here)
    assert marker["DeleteMarker"] is True and marker["VersionId"]
    assert error(site.s3.get_object, **here) == (404, "NoSuchKey")
    assert site.s3.get_object(**here, VersionId=version)["Body"].read() == payload(1000, "first")
    site.s3.delete_object(**here, VersionId=version)
    assert error(site.s3.get_object, **here, VersionId=version) == (404, "NoSuchVersion")


def test_names_that_do_not_exist(site, bucket):
    missing = f"t-{uuid.uuid4().hex[:20]}"
    assert error(site.s3.get_object, Bucket=bucket, Key="missing") == (404, "NoSuchKey")
    assert error(site.s3.head_object, Bucket=bucket, Key="missing")[0] == 404
    assert error(site.s3.get_object, Bucket=missing, Key="k") == (404, "NoSuchBucket")
