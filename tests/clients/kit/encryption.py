"""A gateway that reads what AWS's own S3 Encryption Clients wrote, and what such reads are held to."""

import uuid

from botocore.exceptions import ClientError

from .site import KEY_ARN, localstack, make_client

MARK = "x-ciphergate-aws-client"
REFUSED = (403, "IntegrityCheckFailed")
OTHER_KEY_ARN = KEY_ARN[:-1] + "2"
BYTES_MAX = 300_000


class Buckets:
    """One that reads them, one that reads plaintext as well, one that refuses them; `direct` is the store."""

    def __init__(self, sites):
        run = uuid.uuid4().hex[:12]
        self.read, self.through, self.off = f"aws-read-{run}", f"aws-through-{run}", f"aws-off-{run}"
        rule = f'aws_client = "read"\naws_client_bytes_max = {BYTES_MAX}\n'
        config = f'[buckets."{self.read}"]\n{rule}[buckets."{self.through}"]\n{rule}access = "read-through"\n'
        self.site = sites.start("localstack", name=f"aws-{run}", config=config)
        self.s3 = self.site.s3
        self.direct = make_client(localstack(), ("test", "test"))
        for bucket in (self.read, self.through, self.off):
            self.s3.create_bucket(Bucket=bucket)

    def answer(self, key, bucket=None, **more):
        """(status, code) of a refusal, or the bytes."""
        try:
            return self.s3.get_object(Bucket=bucket or self.read, Key=key, **more)["Body"].read()
        except ClientError as refusal:
            return refusal.response["ResponseMetadata"]["HTTPStatusCode"], refusal.response["Error"]["Code"]

    def assert_reads(self, key, plain, form, bucket=None):
        """Whole, by ranges and parts; sizes everywhere; and as a copy, which is sealed."""
        bucket = bucket or self.read
        here = {"Bucket": bucket, "Key": key}
        got = self.s3.get_object(**here)
        assert got["Body"].read() == plain
        for answer in (got, self.s3.head_object(**here)):
            assert answer["ContentLength"] == len(plain) and answer["ETag"].endswith('-0"') or "-" in answer["ETag"]
            assert answer["ResponseMetadata"]["HTTPHeaders"][MARK] == form
            assert not [name for name in answer["Metadata"] if name.startswith("x-amz")], answer["Metadata"]
        for text, want in [("0-0", plain[:1]), ("5-20", plain[5:21]), ("-7", plain[-7:]), (f"{len(plain) - 3}-", plain[-3:])] if len(plain) > 30 else []:
            ranged = self.s3.get_object(**here, Range=f"bytes={text}")
            assert ranged["Body"].read() == want and ranged["ContentRange"].endswith(f"/{len(plain)}")
        assert self.answer(key, bucket, Range=f"bytes={len(plain)}-") == (416, "InvalidRange")
        assert self.answer(key, bucket, PartNumber=2) == (416, "InvalidPartNumber")
        assert self.answer(key, bucket, PartNumber=1) == plain
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        sizes = {entry["Key"]: entry["Size"] for page in pages for entry in page["Contents"]}
        assert sizes[key] == len(plain)
        assert self.s3.get_object_attributes(**here, ObjectAttributes=["ObjectSize"])["ObjectSize"] == len(plain)
        self.s3.copy_object(Bucket=self.off, Key=key, CopySource=here)
        copied = self.s3.get_object(Bucket=self.off, Key=key)
        assert copied["Body"].read() == plain and MARK not in copied["ResponseMetadata"]["HTTPHeaders"]
        stored = self.direct.head_object(Bucket=self.off, Key=key)["Metadata"]
        assert "ciphergate" in stored and not [name for name in stored if name.startswith("x-amz")]
        self.s3.delete_object(Bucket=self.off, Key=key)
