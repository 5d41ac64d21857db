"""Fixtures: gateways over both backends, a fresh bucket for each test, and a look into the backend after each test."""

import contextlib
import os
import uuid

import pytest
from botocore.exceptions import ClientError

from kit import differs
from kit.data import MARKER
from kit.reader import READER
from kit.site import STATE, Sites, direct
from kit.sizes import sealed_len, plain_len

BUCKETS_OF_A_WHOLE_RUN = 50  # about; a run that made as many must have left objects to open
BACKENDS = os.environ.get("CIPHERGATE_TEST_BACKENDS", "localstack,embedded").split(",")


def pytest_collection_modifyitems(items):
    for item in items:
        kind = item.callspec.params.get("backend_kind") if hasattr(item, "callspec") else None
        if why := differs.reason(kind, item.path.name, item.originalname):
            item.add_marker(pytest.mark.skip(reason=why))
    if direct():
        for item in items:
            if item.get_closest_marker("gateway_only"):
                item.add_marker(pytest.mark.skip(reason="only the gateway does this"))


def pytest_generate_tests(metafunc):
    # Against LocalStack itself there is only one thing to test.
    backends = ["direct"] if direct() else BACKENDS
    if "backend_kind" in metafunc.fixturenames:
        metafunc.parametrize("backend_kind", backends, scope="session")


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    sites = Sites(tmp_path_factory.mktemp("sites"))
    yield sites
    dead, logs = sites.dead(), sites.logs()
    sites.stop()
    assert READER.opened or READER.buckets < BUCKETS_OF_A_WHOLE_RUN, "tools/cg1.py opened nothing"
    assert not dead, f"ended during the run: {dead}\n{logs}"


@pytest.fixture
def site(sites, backend_kind):
    """A gateway over plain HTTP, over each backend in turn."""
    return sites.get(backend_kind)


@pytest.fixture
def tls_site(sites, backend_kind):
    """The same over HTTPS: SDKs then send checksums as trailers and leave the body unsigned."""
    return sites.get(backend_kind, tls=True)


@pytest.fixture
def localstack_site(sites):
    """For what only LocalStack's S3 offers."""
    return sites.get("direct" if direct() else "localstack")


@contextlib.contextmanager
def fresh_bucket(site):
    name = f"t-{uuid.uuid4().hex[:20]}"
    site.s3.create_bucket(Bucket=name)
    try:
        yield name
        if not direct():
            assert_sealed(site, name)
            READER.check(site, name)
    finally:
        empty_and_remove(site, name)


@pytest.fixture
def bucket(site):
    with fresh_bucket(site) as name:
        yield name


@pytest.fixture
def tls_bucket(tls_site):
    with fresh_bucket(tls_site) as name:
        yield name


@pytest.fixture
def localstack_bucket(localstack_site):
    with fresh_bucket(localstack_site) as name:
        yield name


def assert_sealed(site, bucket):
    """Whatever a test has put in: nothing lies in the backend but sealed objects, and nothing else was made beside them."""
    pages = site.backend.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for page in pages:
        for entry in page.get("Contents", []):
            if (bucket, entry["Key"]) in site.planted:
                continue
            body, metadata = site.fetch_stored(bucket, entry["Key"])
            if entry["Key"].startswith(STATE):  # what uploads under way keep: no object, but sealed like one
                assert MARKER not in body, f"{entry['Key']!r} holds plaintext at {body.index(MARKER)}"
                continue
            assert "ciphergate" in metadata, f"{entry['Key']!r} was stored without an envelope"
            assert plain_len(len(body)) is not None, f"{entry['Key']!r} is {len(body)} bytes long, which no sealed object is"
            assert MARKER not in body, f"{entry['Key']!r} holds plaintext at {body.index(MARKER)}"


def empty_and_remove(site, bucket):
    """By the way around, whatever state the gateway is in. What cannot be removed does not matter: the server goes at the end."""
    with contextlib.suppress(ClientError):
        for page in site.backend.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
                site.backend.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
    with contextlib.suppress(ClientError):
        for key in site.everything(bucket):
            site.backend.delete_object(Bucket=bucket, Key=key)
        site.backend.delete_bucket(Bucket=bucket)


def pytest_terminal_summary(terminalreporter):
    if READER.buckets:
        terminalreporter.write_line(READER.summary())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    sites = getattr(item, "funcargs", {}).get("sites")
    if report.failed and sites:
        report.sections.append(("servers", sites.logs()))
    return report
