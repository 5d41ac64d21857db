"""Scripts of other sites, and buckets in the host name."""

import socket
from unittest import mock

import pytest
import requests
from conftest import fresh_bucket
from kit.data import payload
from kit.site import make_client

RULES = [
    {
        "AllowedOrigins": ["https://*.example"],
        "AllowedMethods": ["PUT", "GET"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 60,
    }
]
APP = "https://app.example"


def preflight(site, path, origin=APP, method="PUT", headers="content-type"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return requests.options(site.endpoint + path, headers=asked, timeout=30)


@pytest.mark.gateway_only
def test_cors(site, bucket):
    """LocalStack has its own ideas of preflights, so this is about the gateway's answers from the rules that are stored there."""
    assert preflight(site, f"/{bucket}/k").status_code == 403
    site.s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    answer = preflight(site, f"/{bucket}/k")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert answer.headers["Access-Control-Allow-Methods"] == "PUT, GET"
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type"
    assert answer.headers["Access-Control-Max-Age"] == "60"
    assert preflight(site, f"/{bucket}/k", origin="https://elsewhere").status_code == 403
    assert preflight(site, f"/{bucket}/k", method="DELETE").status_code == 403

    url = site.s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k", "ContentType": "text/plain"})
    answer = requests.put(url, data=payload(1000), headers={"Origin": APP, "Content-Type": "text/plain"}, timeout=30)
    assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == APP
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"] and "Origin" in answer.headers["Vary"]
    url = site.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    answer = requests.get(url, headers={"Origin": APP}, timeout=30)
    assert answer.content == payload(1000) and answer.headers["Access-Control-Allow-Origin"] == APP
    assert "Access-Control-Allow-Origin" not in requests.get(url, headers={"Origin": "https://elsewhere"}, timeout=30).headers
    assert "Access-Control-Allow-Origin" not in requests.get(url, timeout=30).headers

    form = site.s3.generate_presigned_post(bucket, "form")
    answer = requests.post(form["url"], data=form["fields"], files={"file": payload(10)}, headers={"Origin": APP}, timeout=30)
    # The rules allow no POST.
    assert answer.status_code == 204 and "Access-Control-Allow-Origin" not in answer.headers
    site.s3.delete_bucket_cors(Bucket=bucket)
    assert preflight(site, f"/{bucket}/k").status_code == 403


@pytest.mark.gateway_only
def test_virtual_hosts(sites, backend_kind):
    """boto3's own way of addressing, with dots in the name, too; signed in headers and in URLs."""
    site = sites.start(backend_kind, name=f"{backend_kind}-hosts", listen='domains = ["s3.example.test"]\n')
    port = site.gateway.port
    there = make_client(f"http://s3.example.test:{port}", (site.access_key, site.secret_key), s3={"addressing_style": "virtual"})
    resolve = socket.getaddrinfo

    def find(host, *arguments, **options):
        return resolve("127.0.0.1" if host.endswith("s3.example.test") else host, *arguments, **options)

    with mock.patch("socket.getaddrinfo", find), fresh_bucket(site) as bucket:
        body = payload(70_000)
        there.put_object(Bucket=bucket, Key="a b/ü+%", Body=body)
        assert there.get_object(Bucket=bucket, Key="a b/ü+%")["Body"].read() == body
        assert there.get_object(Bucket=bucket, Key="a b/ü+%", Range="bytes=5-9")["Body"].read() == body[5:10]
        # The same objects as by path.
        assert site.s3.get_object(Bucket=bucket, Key="a b/ü+%")["Body"].read() == body
        there.put_object(Bucket=bucket, Key=f"{bucket}/k", Body=b"x")
        keys = {entry["Key"] for entry in there.list_objects_v2(Bucket=bucket)["Contents"]}
        assert keys == {"a b/ü+%", f"{bucket}/k"} == set(site.stored(bucket))
        url = there.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b/ü+%"})
        assert url.startswith(f"http://{bucket}.s3.example.test:{port}/") and requests.get(url, timeout=30).content == body
        form = there.generate_presigned_post(bucket, "form")
        assert bucket in form["url"].split("/")[2]
        answer = requests.post(form["url"], data=form["fields"], files={"file": payload(10)}, timeout=30)
        assert answer.status_code == 204, answer.text
        assert there.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
        deleted = there.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a b/ü+%"}, {"Key": "form"}]})
        assert len(deleted["Deleted"]) == 2 and set(site.stored(bucket)) == {f"{bucket}/k"}
        assert bucket in {entry["Name"] for entry in there.list_buckets()["Buckets"]}
    site.gateway.stop()
    sites.forget(site)
