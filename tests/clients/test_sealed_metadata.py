"""Metadata that lie sealed beside objects, as clients see them and as the store does. At the end cg1.py reads whatever is written here."""

import json
import uuid

import pytest
import requests
from botocore.exceptions import ClientError
from kit.data import payload
from kit.reader import Reader

pytestmark = pytest.mark.gateway_only

CONTENT = {
    "ContentType": "application/x-secret",
    "ContentEncoding": "gzip",
    "ContentLanguage": "tlh",
    "ContentDisposition": 'attachment; filename="secret.bin"',
    "CacheControl": "max-age=4711",
}
METADATA = {"project": "secret-project", "empty": ""}


class Place:
    def __init__(self, sites, kind):
        self.bucket, self.plain = (f"{name}-{uuid.uuid4().hex[:12]}" for name in ("sealed-metadata", "plain-metadata"))
        config = f'[buckets."{self.bucket}"]\nseal_metadata = true\n[multipart]\nput_bytes_max = 6000000\n'
        self.site = sites.start(kind, name=f"sealed-metadata-{kind}", config=config)
        for bucket in (self.bucket, self.plain):
            self.site.s3.create_bucket(Bucket=bucket)

    def at_store(self, key, bucket=None):
        return self.site.backend.head_object(Bucket=bucket or self.bucket, Key=key)

    def lies_sealed(self, key, bucket=None):
        head = self.at_store(key, bucket)
        entries = set(head["Metadata"])
        if entries == {"ciphergate", "ciphergate-meta"}:
            assert head["ContentType"] == "application/octet-stream"
            # versitygw keeps aws-chunked, which says how a body was sent and nothing of the object.
            shown = {name for name, value in head.items() if value != "aws-chunked"}
            assert not {"ContentEncoding", "ContentLanguage", "ContentDisposition", "CacheControl"} & shown
            assert "secret" not in json.dumps(head, default=str)
            return True
        assert "ciphergate-meta" not in entries
        return False

    def shows(self, answer, metadata=None, content=None):
        assert answer["Metadata"] == (METADATA if metadata is None else metadata)
        for name, value in (CONTENT if content is None else content).items():
            assert answer[name] == value


@pytest.fixture(scope="module")
def place(sites, backend_kind):
    place = Place(sites, backend_kind)
    yield place
    reader = Reader()
    for bucket in (place.bucket, place.plain):
        reader.check(place.site, bucket)
    assert reader.opened["with sealed metadata"] >= 8, reader.summary()


def test_put_get_head(place):
    s3, bucket = place.site.s3, place.bucket
    for size in (0, 100, 200_000, 6_000_001):
        s3.put_object(Bucket=bucket, Key=f"o/{size}", Body=payload(size), Metadata=METADATA, **CONTENT)
        assert place.lies_sealed(f"o/{size}")
        head = s3.head_object(Bucket=bucket, Key=f"o/{size}")
        place.shows(head)
        assert head["ContentLength"] == size
        got = s3.get_object(Bucket=bucket, Key=f"o/{size}")
        place.shows(got)
        assert got["Body"].read() == payload(size)
    assert [entry["Size"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix="o/1")["Contents"]] == [100]
    got = s3.get_object(Bucket=bucket, Key="o/200000", Range="bytes=70000-70009", ResponseContentType="text/plain")
    assert (got["ContentType"], got["CacheControl"], got["Body"].read()) == ("text/plain", "max-age=4711", payload(200_000)[70_000:70_010])


def test_reserved_and_too_large(place):
    s3 = place.site.s3
    for name in ("ciphergate-meta", "Ciphergate-Meta"):
        with pytest.raises(ClientError, match="InvalidArgument"):
            s3.put_object(Bucket=place.bucket, Key="x", Body=b"", Metadata={name: "x"})
    with pytest.raises(ClientError, match="MetadataTooLarge"):
        s3.put_object(Bucket=place.bucket, Key="x", Body=b"", Metadata={"long": "x" * 1250})
    s3.put_object(Bucket=place.bucket, Key="long", Body=b"", Metadata={"long": "x" * 1100})
    assert len(s3.head_object(Bucket=place.bucket, Key="long")["Metadata"]["long"]) == 1100


def test_copies(place):
    s3 = place.site.s3
    s3.put_object(Bucket=place.bucket, Key="from", Body=payload(70_000), Metadata=METADATA, **CONTENT)
    s3.copy_object(Bucket=place.plain, Key="to", CopySource={"Bucket": place.bucket, "Key": "from"})
    place.shows(s3.head_object(Bucket=place.plain, Key="to"))
    assert not place.lies_sealed("to", place.plain) and place.at_store("to", place.plain)["CacheControl"] == "max-age=4711"
    s3.copy_object(Bucket=place.bucket, Key="back", CopySource={"Bucket": place.plain, "Key": "to"})
    place.shows(s3.get_object(Bucket=place.bucket, Key="back"))
    assert place.lies_sealed("back")
    here = {"Bucket": place.bucket, "Key": "back"}
    s3.copy_object(**here, CopySource=here, MetadataDirective="REPLACE", Metadata={"new": "secret"}, ContentType="text/secret")
    place.shows(s3.head_object(**here), {"new": "secret"}, {"ContentType": "text/secret"})
    assert place.lies_sealed("back") and s3.get_object(**here)["Body"].read() == payload(70_000)


def test_form(place):
    fields = {"Content-Type": "application/x-secret", "x-amz-meta-project": "secret-project"}
    form = place.site.s3.generate_presigned_post(place.bucket, "form", Fields=fields, Conditions=[{name: value} for name, value in fields.items()])
    answer = requests.post(form["url"], data=form["fields"], files={"file": payload(1000)}, timeout=30)
    assert answer.status_code == 204, answer.text
    assert place.lies_sealed("form")
    head = place.site.s3.head_object(Bucket=place.bucket, Key="form")
    place.shows(head, {"project": "secret-project"}, {"ContentType": "application/x-secret"})


def test_tampering(place):
    s3, backend, here = place.site.s3, place.site.backend, {"Bucket": place.bucket, "Key": "hurt"}
    s3.put_object(**here, Body=b"body", Metadata=METADATA)
    entries = backend.head_object(**here)["Metadata"]
    body = backend.get_object(**here)["Body"].read()
    place.site.planted.add((place.bucket, "hurt"))
    bent = ("B" if entries["ciphergate-meta"][0] == "A" else "A") + entries["ciphergate-meta"][1:]
    for metadata in ({"ciphergate": entries["ciphergate"]}, entries | {"ciphergate-meta": bent}):
        backend.put_object(**here, Body=body, Metadata=metadata)
        with pytest.raises(ClientError, match="IntegrityCheckFailed"):
            s3.get_object(**here)
        with pytest.raises(ClientError, match="403"):
            s3.head_object(**here)


def test_aws_cli(place, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(payload(100_000))
    target = f"s3://{place.bucket}/cli"
    said = ["--content-type", "application/x-secret", "--metadata", "project=secret-project", "--cache-control", "no-store"]
    place.site.aws("s3", "cp", "--no-progress", file, target, *said)
    assert place.lies_sealed("cli")
    head = json.loads(place.site.aws("s3api", "head-object", "--bucket", place.bucket, "--key", "cli").stdout)
    place.shows(head, {"project": "secret-project"}, {"ContentType": "application/x-secret", "CacheControl": "no-store"})
    place.site.aws("s3", "cp", "--no-progress", target, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == payload(100_000)
    large = tmp_path / "large"
    large.write_bytes(payload(9 << 20))
    place.site.aws("s3", "cp", "--no-progress", large, f"s3://{place.bucket}/cli-parts", "--content-type", "application/x-secret")
    assert place.lies_sealed("cli-parts")
    assert place.site.s3.head_object(Bucket=place.bucket, Key="cli-parts")["ContentType"] == "application/x-secret"
