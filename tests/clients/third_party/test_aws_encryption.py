"""Objects that AWS's S3 Encryption Client for Java wrote (aws_encryption/Writer.java): version 3 in format V2, version 4 in format V3."""

import shutil

import pytest
from kit import tools
from kit.data import payload
from kit.encryption import BYTES_MAX, REFUSED, Buckets
from kit.site import KEY_ARN, localstack

VERSIONS = {"3.5.0": "V2", "4.0.1": "V3"}
SIZES = [0, 1, 1000, BYTES_MAX]


@pytest.fixture(scope="module")
def buckets(sites):
    return Buckets(sites)


@pytest.fixture(params=VERSIONS)
def written(request, buckets, tmp_path):
    """The format, and size by key of what one version of the client wrote: fields beside the object, in an instruction file, and in parts."""
    folder, form = tools.find("aws_encryption") / request.param, VERSIONS[request.param]
    lines, keys = "", {}
    for size in SIZES:
        (tmp_path / f"{size}").write_bytes(payload(size))
        for where in ("metadata", "instruction") + (("parts",) if size else ()):
            key = f"{form}/{where}/{size}"
            lines += f"{key}\t{tmp_path / str(size)}\t{where}\tdepartment=tests\n"
            keys[key] = size
    java = tools.Tool(shutil.which("java"), tmp_path, base=["-cp", f"{folder}:{folder}/*", "Writer"])
    java.run(localstack(), buckets.read, KEY_ARN, input=lines)
    return form, keys


def test_what_it_wrote_is_read(buckets, written):
    form, keys = written
    for key, size in keys.items():
        buckets.assert_reads(key, payload(size), form)


def test_every_change_is_refused(buckets, written):
    form, keys = written
    for key in (f"{form}/metadata/1000", f"{form}/instruction/1000", f"{form}/parts/1000"):
        here = {"Bucket": buckets.read, "Key": key}
        stored = buckets.direct.get_object(**here)
        body = stored["Body"].read()
        for place in (0, 999, 1000, 1015):
            changed = bytearray(body)
            changed[place] ^= 1
            buckets.direct.put_object(**here, Body=bytes(changed), Metadata=stored["Metadata"])
            assert buckets.answer(key) == REFUSED and buckets.answer(key, Range="bytes=500-501") == REFUSED
        buckets.direct.put_object(**here, Body=body, Metadata=stored["Metadata"])
        assert buckets.answer(key) == payload(1000)
    named = {"Bucket": buckets.read, "Key": f"{form}/instruction/1000.instruction"}
    other = buckets.direct.get_object(Bucket=buckets.read, Key=f"{form}/instruction/1.instruction")["Body"].read()
    buckets.direct.put_object(**named, Body=other)
    assert buckets.answer(f"{form}/instruction/1000") == REFUSED, "the instruction file of another object"
    buckets.direct.delete_object(**named)
    assert buckets.answer(f"{form}/instruction/1000") == REFUSED, "no instruction file"
