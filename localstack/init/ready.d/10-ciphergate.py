"""Make the keys, the alias and the bucket that the tests and the examples use. LocalStack runs this when its services are up,
both in host mode (start.sh) and in its Docker image. Ids and key material are fixed, so that ARNs can be written into
configurations and old ciphertexts open after a restart. None of this is secret: it is a test double.
"""

import base64
import os

import boto3

REGION = "us-east-1"
ENDPOINT = os.environ.get("AWS_ENDPOINT_URL") or "http://localhost:4566"
# The first is what alias/ciphergate names; the second is there for rotation and for proving that a wrong key is refused.
KEYS = {
    "c1f3e6a0-0000-4000-8000-000000000001": bytes(range(0, 32)),
    "c1f3e6a0-0000-4000-8000-000000000002": bytes(range(32, 64)),
}
ALIAS = "alias/ciphergate"
BUCKET = "ciphergate-test"


def client(service):
    return boto3.client(service, endpoint_url=ENDPOINT, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")


def make_keys(kms):
    present = {key["KeyId"] for key in kms.list_keys(Limit=1000)["Keys"]}
    for key_id, material in KEYS.items():
        if key_id not in present:
            tags = {"_custom_id_": key_id, "_custom_key_material_": base64.b64encode(material).decode()}
            kms.create_key(Description="ciphergate test key", Tags=[{"TagKey": k, "TagValue": v} for k, v in tags.items()])
    if ALIAS not in {alias["AliasName"] for alias in kms.list_aliases(Limit=100)["Aliases"]}:
        kms.create_alias(AliasName=ALIAS, TargetKeyId=next(iter(KEYS)))


make_keys(client("kms"))
# In us-east-1 making a bucket of one's own a second time succeeds, as on AWS.
client("s3").create_bucket(Bucket=BUCKET)
