"""A pytest plugin for Ceph's s3-tests: writes what became of each test to a file, ends a test that hangs, and cleans up behind the gateway.

The suite's own clean-up lists versions through the endpoint under test before and after each test, so that one operation that is not
served would fail every test. Here it goes to the backend.
"""

import contextlib
import functools
import json
import os
import signal

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

SECONDS = 60  # for one test; the slowest that waits for nothing takes about 10


class Hung(Exception):
    pass


def pytest_configure():
    # Imported here, after pytest has put the suite's folder into the path.
    import s3tests.functional as suite

    suite.setup = lambda: None
    suite.teardown = lambda: clean(suite.get_prefix())


@functools.cache
def _backend():
    given = json.loads(os.environ["CONFORMANCE_BACKEND"])
    return boto3.client(
        "s3",
        endpoint_url=given["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=given["access_key"],
        aws_secret_access_key=given["secret_key"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def clean(prefix):
    s3 = _backend()
    for bucket in s3.list_buckets().get("Buckets", []):
        if prefix in bucket["Name"]:
            _remove(s3, bucket["Name"])


def _remove(s3, bucket):
    """What cannot be removed (a retention in compliance mode) stays: the backend goes at the end of the run."""
    here = {"Bucket": bucket}
    entries, uploads = [], []
    with contextlib.suppress(ClientError):
        for page in s3.get_paginator("list_object_versions").paginate(**here):
            entries += [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in page.get("Versions", []) + page.get("DeleteMarkers", [])]
    if not entries:
        with contextlib.suppress(ClientError):
            for page in s3.get_paginator("list_objects_v2").paginate(**here):
                entries += [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
    with contextlib.suppress(ClientError):
        uploads = s3.list_multipart_uploads(**here).get("Uploads", [])
    for upload in uploads:
        with contextlib.suppress(ClientError):
            s3.abort_multipart_upload(**here, Key=upload["Key"], UploadId=upload["UploadId"])
    for start in range(0, len(entries), 1000):
        for bypass in ({}, {"BypassGovernanceRetention": True}):  # refused where the bucket has no object lock
            with contextlib.suppress(ClientError):
                if not s3.delete_objects(**here, Delete={"Objects": entries[start : start + 1000], "Quiet": True}, **bypass).get("Errors"):
                    break
    with contextlib.suppress(ClientError):
        s3.delete_bucket(**here)


def _ring(_signal, _frame):
    raise Hung(f"not done after {SECONDS} s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    signal.signal(signal.SIGALRM, _ring)
    signal.alarm(SECONDS)
    try:
        return (yield)
    finally:
        signal.alarm(0)


def _reason(call):
    if call.excinfo is None:
        return ""
    error = call.excinfo.value
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    name = item.nodeid.split("/")[-1]
    if call.when == "call" or (call.when == "setup" and report.outcome != "passed"):
        place = ""
        if call.excinfo is not None:
            own = [entry for entry in call.excinfo.traceback if "s3tests" in str(entry.path)]
            place = f"{own[-1].path.name}:{own[-1].lineno + 1}" if own else ""
        seconds = round(report.duration, 2)
        # A line for each test, so that a run that is ended early has its record too.
        with open(os.environ["CONFORMANCE_RECORD"], "a") as out:
            out.write(json.dumps({"test": name, "outcome": report.outcome, "reason": _reason(call), "place": place, "seconds": seconds}) + "\n")
    return report
