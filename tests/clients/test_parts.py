"""Parts by their number and attributes of objects that went up in parts, end to end."""

import pytest
from botocore.exceptions import ClientError
from kit.data import payload
from test_objects import error

MIB = 1024 * 1024
PARTS = {1: 5 * MIB, 3: 5 * MIB + 70_000, 7: 17}


@pytest.fixture
def upload(site, bucket):
    """An object of three parts whose numbers have gaps."""

    def make(key, algorithm=None, kind=None):
        here = {"Bucket": bucket, "Key": key}
        options = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind} if algorithm else {}
        try:
            part = {**here, "UploadId": site.s3.create_multipart_upload(**here, **options)["UploadId"]}
        except ClientError as refusal:
            if refusal.response["Error"]["Code"] != "NotImplemented":
                raise
            pytest.skip("no uploads in parts")
        done = []
        for number, size in PARTS.items():
            sent = site.s3.upload_part(**part, PartNumber=number, Body=payload(size, number), **({"ChecksumAlgorithm": algorithm} if algorithm else {}))
            done.append({"PartNumber": number, "ETag": sent["ETag"], **({f"Checksum{algorithm}": sent[f"Checksum{algorithm}"]} if algorithm else {})})
        return here, site.s3.complete_multipart_upload(**part, MultipartUpload={"Parts": done})["ETag"]

    return make


def test_parts_by_number(site, upload):
    here, etag = upload("k")
    whole, start = sum(PARTS.values()), 0
    for number, size in PARTS.items():
        for call in (site.s3.get_object, site.s3.head_object):
            seen = call(**here, PartNumber=number)
            assert (seen["PartsCount"], seen["ContentLength"], seen["ETag"]) == (3, size, etag)
            assert seen["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert seen["ContentRange"] == f"bytes {start}-{start + size - 1}/{whole}"
            assert "Body" not in seen or seen["Body"].read() == payload(size, number)
        start += size
    assert error(site.s3.get_object, **here, PartNumber=2) == (416, "InvalidPartNumber")
    assert error(site.s3.get_object, **here, PartNumber=1, Range="bytes=0-1") == (400, "InvalidRequest")
    assert error(site.s3.get_object, **here, PartNumber=1, IfNoneMatch=etag)[0] == 304


def test_attributes(site, upload):
    asked = ["ETag", "Checksum", "ObjectParts", "ObjectSize", "StorageClass"]
    here, etag = upload("composite", "SHA256", "COMPOSITE")
    seen = site.s3.get_object_attributes(**here, ObjectAttributes=asked)
    assert (seen["ETag"], seen["ObjectSize"], seen["StorageClass"]) == (etag.strip('"'), sum(PARTS.values()), "STANDARD")
    assert seen["Checksum"]["ChecksumType"] == "COMPOSITE" and seen["ObjectParts"]["TotalPartsCount"] == 3
    assert {part["PartNumber"]: part["Size"] for part in seen["ObjectParts"]["Parts"]} == PARTS
    got = site.s3.get_object(**here, PartNumber=7, ChecksumMode="ENABLED")
    assert got["Body"].read() == payload(17, 7)
    assert got["ChecksumSHA256"] == seen["ObjectParts"]["Parts"][2]["ChecksumSHA256"]
    here, _ = upload("full", "CRC64NVME", "FULL_OBJECT")
    seen = site.s3.get_object_attributes(**here, ObjectAttributes=asked)
    assert seen["Checksum"]["ChecksumType"] == "FULL_OBJECT" and seen["ObjectParts"] == {"TotalPartsCount": 3}


@pytest.mark.gateway_only
def test_versions_leave_the_state_of_uploads_out(site, bucket, upload):
    here, etag = upload("k")
    open_upload = site.s3.create_multipart_upload(Bucket=bucket, Key="open")["UploadId"]
    site.s3.put_object(Bucket=bucket, Key="!before", Body=b"1")
    site.s3.put_object(Bucket=bucket, Key="z", Body=b"2")
    want = {"!before": 1, "k": sum(PARTS.values()), "z": 1}
    for size in (1, 2, 1000):
        pages = site.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
        assert {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Versions", [])} == want, size
    site.s3.abort_multipart_upload(Bucket=bucket, Key="open", UploadId=open_upload)
