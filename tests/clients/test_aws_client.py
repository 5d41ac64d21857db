"""Objects that AWS's own S3 Encryption Client for Python wrote, read through the gateway; and everything that may not be."""

import json
import os
import subprocess

import boto3
import pytest
from kit.data import payload
from kit.encryption import BYTES_MAX, MARK, OTHER_KEY_ARN, REFUSED, Buckets
from kit.site import KEY_ARN, REGION, binary, localstack
from s3_encryption import S3EncryptionClient, S3EncryptionClientConfig
from s3_encryption.materials.kms_keyring import KmsKeyring
from s3_encryption.materials.materials import AlgorithmSuite, CommitmentPolicy

pytestmark = pytest.mark.gateway_only
FORMS = {
    "V2": (AlgorithmSuite.ALG_AES_256_GCM_IV12_TAG16_NO_KDF, CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT),
    "V3": (AlgorithmSuite.ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY, CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT),
}


@pytest.fixture(scope="module")
def buckets(sites):
    return Buckets(sites)


def kms():
    return boto3.client("kms", endpoint_url=localstack(), region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")


def official(form, arn=KEY_ARN):
    suite, policy = FORMS[form]
    s3 = boto3.client("s3", endpoint_url=localstack(), region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
    return S3EncryptionClient(s3, S3EncryptionClientConfig(keyring=KmsKeyring(kms(), arn), encryption_algorithm=suite, commitment_policy=policy))


def put_again(buckets, key, body=None, metadata=None):
    """The object as it is, but for what is given."""
    here = {"Bucket": buckets.read, "Key": key}
    now = buckets.direct.get_object(**here)
    buckets.direct.put_object(**here, Body=now["Body"].read() if body is None else body, Metadata=now["Metadata"] if metadata is None else metadata)


@pytest.mark.parametrize("form", FORMS)
def test_what_it_wrote_is_read(buckets, form):
    client = official(form)
    for size in (0, 1, 16, 224, 70_000, BYTES_MAX):
        key = f"{form}/{size} ü"
        client.put_object(Bucket=buckets.read, Key=key, Body=payload(size), EncryptionContext={"department": "tests"})
        buckets.assert_reads(key, payload(size), form)


@pytest.mark.parametrize("form", FORMS)
def test_every_change_is_refused(buckets, form):
    key, plain = f"{form}/changed", payload(1000)
    official(form).put_object(Bucket=buckets.read, Key=key, Body=plain, EncryptionContext={"department": "tests"})
    stored = buckets.direct.get_object(Bucket=buckets.read, Key=key)
    body, metadata = stored["Body"].read(), stored["Metadata"]
    for place in (0, 500, len(body) - 17, len(body) - 16, len(body) - 1):
        changed = bytearray(body)
        changed[place] ^= 1
        put_again(buckets, key, bytes(changed))
        assert buckets.answer(key) == REFUSED and buckets.answer(key, Range="bytes=700-710") == REFUSED, place
    for changed in (body[:-1], body[1:], body + b"x", body[:15], b""):
        put_again(buckets, key, changed)
        assert buckets.answer(key) == REFUSED
    put_again(buckets, key, body)
    other = metadata["x-amz-matdesc" if form == "V2" else "x-amz-t"].replace('"tests"', '"other"')
    for name, value in metadata.items():
        if name == "x-amz-tag-len":
            continue
        for wrong in (None, other if name in ("x-amz-matdesc", "x-amz-t") else "AAAA" + value[4:], value + "!"):
            spoilt = {field: text for field, text in metadata.items() if field != name} | ({} if wrong is None else {name: wrong})
            put_again(buckets, key, metadata=spoilt)
            assert buckets.answer(key) == REFUSED, (name, wrong)
    put_again(buckets, key, metadata=metadata)
    assert buckets.answer(key) == plain


@pytest.mark.parametrize("form", FORMS)
def test_another_key_is_refused(buckets, form):
    """One that is in the key service and could be used, but that the configuration does not name for this bucket."""
    official(form, OTHER_KEY_ARN).put_object(Bucket=buckets.read, Key=f"{form}/other", Body=b"x")
    status, _ = buckets.answer(f"{form}/other")
    assert status == 403


@pytest.mark.parametrize("form", FORMS)
def test_only_where_the_rule_says_so(buckets, form):
    key = f"{form}/off"
    official(form).put_object(Bucket=buckets.off, Key=key, Body=payload(100))
    assert buckets.answer(key, buckets.off) == REFUSED
    official(form).put_object(Bucket=buckets.through, Key=key, Body=payload(100))
    buckets.direct.put_object(Bucket=buckets.through, Key="plain", Body=payload(50))
    assert buckets.answer("plain", buckets.through) == payload(50)
    buckets.direct.delete_object(Bucket=buckets.off, Key=key)
    buckets.assert_reads(key, payload(100), form, buckets.through)
    # What is neither sealed nor the client's is what it was.
    buckets.direct.put_object(Bucket=buckets.read, Key="foreign", Body=payload(50))
    assert buckets.answer("foreign") == REFUSED


@pytest.mark.parametrize("form", FORMS)
def test_too_long(buckets, form):
    key = f"{form}/long"
    official(form).put_object(Bucket=buckets.read, Key=key, Body=payload(BYTES_MAX + 1))
    assert buckets.answer(key) == (400, "InvalidRequest") == buckets.answer(key, Range="bytes=0-0")
    assert buckets.s3.head_object(Bucket=buckets.read, Key=key)["ContentLength"] == BYTES_MAX + 1


def test_old_formats_are_named(buckets):
    """V1 and AES-CBC have no authentication; keys that are not in KMS cannot be unwrapped."""
    for number, metadata in enumerate(
        [
            {"x-amz-key": "AAAA", "x-amz-iv": "AAAA", "x-amz-matdesc": "{}"},
            {"x-amz-key-v2": "AAAA", "x-amz-iv": "AAAA", "x-amz-cek-alg": "AES/CBC/PKCS5Padding", "x-amz-wrap-alg": "kms", "x-amz-matdesc": "{}"},
            {"x-amz-key-v2": "AAAA", "x-amz-iv": "AAAA", "x-amz-cek-alg": "AES/GCM/NoPadding", "x-amz-wrap-alg": "RSA-OAEP-SHA1"},
        ]
    ):
        buckets.direct.put_object(Bucket=buckets.read, Key=f"old/{number}", Body=bytes(32), Metadata=metadata)
        assert buckets.answer(f"old/{number}") == (501, "NotImplemented")
    listed = buckets.s3.list_objects_v2(Bucket=buckets.read, Prefix="old/")["Contents"]
    assert [entry["Size"] for entry in listed] == [32, 32, 32]


@pytest.mark.parametrize("form", FORMS)
def test_instruction_files(buckets, form):
    """The Python client writes none: made out of its metadata, as the other clients place it."""
    key, plain = f"{form}/instruction", payload(1000)
    official(form).put_object(Bucket=buckets.read, Key=key, Body=plain)
    fields = buckets.direct.head_object(Bucket=buckets.read, Key=key)["Metadata"]
    beside = {name: text for name, text in fields.items() if name in ("x-amz-c", "x-amz-d", "x-amz-i")}
    file = {name: text for name, text in fields.items() if name not in beside}
    named = {"Bucket": buckets.read, "Key": f"{key}.instruction"}
    put_again(buckets, key, metadata=beside)
    assert buckets.answer(key) == REFUSED, "no instruction file"
    buckets.direct.put_object(**named, Body=json.dumps(file), Metadata={"x-amz-crypto-instr-file": ""})
    buckets.assert_reads(key, plain, form)
    wrapped = "x-amz-key-v2" if form == "V2" else "x-amz-3"
    for spoilt in (
        {**file, wrapped: "AAAA" + file[wrapped][4:]},
        {**file, "colour": "blue"},
        {**file, "x-amz-c": "115"},
        {name: text for name, text in file.items() if name != wrapped},
    ):
        buckets.direct.put_object(**named, Body=json.dumps(spoilt))
        assert buckets.answer(key) == REFUSED, spoilt
    for body in (b"{", b"[]", b"x" * 100_000, b""):
        buckets.direct.put_object(**named, Body=body)
        assert buckets.answer(key) == REFUSED


def test_what_the_client_stores_through_the_gateway_is_sealed_twice(buckets):
    """And comes back as the client wrote it: fields beside an envelope mean nothing to the gateway."""
    client = official("V3")
    client.put_object(Bucket=buckets.off, Key="twice", Body=b"x")
    stored = buckets.direct.get_object(Bucket=buckets.off, Key="twice")
    body, fields = stored["Body"].read(), stored["Metadata"]
    buckets.s3.put_object(Bucket=buckets.read, Key="twice", Body=body, Metadata=fields)
    got = buckets.s3.get_object(Bucket=buckets.read, Key="twice")
    assert got["Body"].read() == body and got["Metadata"] == fields


def operate(buckets, command, target, *more):
    """An operator's command, with the configuration of the gateway."""
    command = [binary(), command, target, "--config", buckets.site.folder / "ciphergate.toml", "--json", *more]
    env = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["objects"]


@pytest.mark.parametrize("form", FORMS)
def test_operators_convert_and_release_them_and_never_seal_their_ciphertext(buckets, form, tmp_path):
    prefix = f"convert-{form}"
    bodies = {f"{prefix}/{size}": payload(size) for size in (0, 1, 70_000)}
    for key, plain in bodies.items():
        official(form).put_object(Bucket=buckets.read, Key=key, Body=plain, Metadata={"colour": "blue"})
    one = f"{prefix}/0"
    official(form).put_object(Bucket=buckets.off, Key=one, Body=bodies[one])
    before = buckets.direct.get_object(Bucket=buckets.read, Key=f"{prefix}/1")["Body"].read()

    for bucket in (buckets.read, buckets.through, buckets.off):
        if bucket != buckets.read:
            official(form).put_object(Bucket=bucket, Key=f"{prefix}/1", Body=b"x")
        target = f"s3://{bucket}/{prefix}/1"
        assert operate(buckets, "encrypt", target, "--apply") == (3, {"aws-client": 1}), "its bytes are no plaintext"
    assert buckets.direct.get_object(Bucket=buckets.read, Key=f"{prefix}/1")["Body"].read() == before
    assert operate(buckets, "reencrypt", f"s3://{buckets.off}/{prefix}", "--apply") == (0, {"is-plaintext": 2}), "no rule reads them"

    out = tmp_path / "out"
    assert operate(buckets, "decrypt", f"s3://{buckets.read}/{prefix}", "--to", out) == (0, {"would": 3})
    assert operate(buckets, "decrypt", f"s3://{buckets.read}/{prefix}", "--to", out, "--apply") == (0, {"done": 3})
    assert {key: (out / key).read_bytes() for key in bodies} == bodies

    assert operate(buckets, "reencrypt", f"s3://{buckets.read}/{prefix}") == (0, {"would": 3})
    assert operate(buckets, "reencrypt", f"s3://{buckets.read}/{prefix}", "--apply") == (0, {"done": 3})
    for key, plain in bodies.items():
        stored = buckets.direct.head_object(Bucket=buckets.read, Key=key)["Metadata"]
        assert set(stored) == {"ciphergate", "colour"}
        got = buckets.s3.get_object(Bucket=buckets.read, Key=key)
        assert got["Body"].read() == plain and got["Metadata"] == {"colour": "blue"}
        assert MARK not in got["ResponseMetadata"]["HTTPHeaders"]
    for bucket in (buckets.through, buckets.off):
        for key in (one, f"{prefix}/1"):
            buckets.direct.delete_object(Bucket=bucket, Key=key)
