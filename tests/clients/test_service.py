"""The gateway as a program: start, check, health, logs, stop."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

import pytest
import requests
from conftest import fresh_bucket
from kit import raw
from kit.data import MARKER, payload
from kit.process import free_port
from kit.site import CLIENT, LOCALSTACK, binary

pytestmark = pytest.mark.gateway_only


def test_health_and_metrics(site, bucket):
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))
    assert requests.get(f"{site.admin}/livez", timeout=5).status_code == 200
    assert requests.get(f"{site.admin}/readyz", timeout=5).status_code == 200
    metrics = requests.get(f"{site.admin}/metrics", timeout=5)
    assert metrics.status_code == 200 and "# TYPE" in metrics.text
    assert CLIENT[1] not in metrics.text
    # How often keys were asked for, and that the object that was just written had one.
    counted = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in metrics.text.splitlines() if line and line[0] != "#"}
    assert counted['ciphergate_key_calls_total{call="generate"}'] >= 1
    assert counted['ciphergate_keys_used_total{use="seal"}'] >= 1
    site.s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    more = requests.get(f"{site.admin}/metrics", timeout=5).text
    opened = float(more.split('ciphergate_keys_used_total{use="open"} ')[1].split("\n")[0])
    assert opened >= counted.get('ciphergate_keys_used_total{use="open"}', 0) + 1
    # They are on the listener for operators only: on the other one these are bucket names, and nobody is let in without a signature.
    assert requests.get(f"{site.endpoint}/metrics", timeout=5).status_code == 403


def test_one_request_id_from_edge_to_log(site, bucket):
    answer = site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))
    request_id = answer["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"]
    time.sleep(0.3)
    lines = [json.loads(line) for line in site.gateway.log.read_text().splitlines() if line.startswith("{")]
    assert any(request_id in json.dumps(line) for line in lines), site.gateway.tail()


def test_log_has_no_secret(site, bucket):
    url = site.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))
    requests.get(url, timeout=30)
    requests.get(url + "0", timeout=30)
    time.sleep(0.3)
    log = site.gateway.log.read_bytes()
    assert MARKER not in log
    signature = url.split("X-Amz-Signature=")[1].split("&")[0]
    for secret in (CLIENT[1], signature, site.fetch_stored(bucket, "k")[1]["ciphergate"]):
        assert secret.encode() not in log


def test_check(site):
    env = {"AWS_ACCESS_KEY_ID": LOCALSTACK[0], "AWS_SECRET_ACCESS_KEY": LOCALSTACK[1], "PATH": "/usr/bin:/bin"}
    command = [binary(), "check", "--config", str(site.folder / "ciphergate.toml")]
    good = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert good.returncode == 0, good.stdout + good.stderr
    assert CLIENT[1] not in good.stdout + good.stderr and CLIENT[0] in good.stdout + good.stderr
    bad = site.folder / "bad.toml"
    bad.touch(mode=0o600)
    text = (site.folder / "ciphergate.toml").read_text()
    bad.write_text(text.replace("[encryption]", "[encryption]\nsweet = 1\nsuite = 'rot13'").replace("[log]", "[log]\ncolour = 1"))
    refused = subprocess.run([*command[:-1], str(bad)], env=env, capture_output=True, text=True, timeout=60)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0 and all(word in said for word in ("sweet", "rot13", "colour")), said


def test_https_versions(tls_site):
    port = tls_site.gateway.port
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls_site.tls_context()
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
            assert secure.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    # Plain HTTP is no way in there.
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/", timeout=5)


def test_stop_lets_transfers_end(sites, backend_kind):
    site = sites.start(backend_kind, name=f"{backend_kind}-stop")
    body = payload(3_000_000)
    with fresh_bucket(site) as bucket:
        signed = raw.Signed(site, "PUT", raw.target(bucket, "k"), {"Content-Length": str(len(body))}, raw.UNSIGNED)
        with contextlib.closing(raw.connect(site)) as connection:
            raw.start(connection, "PUT", signed.target, signed.headers)
            connection.send(body[:1_000_000])
            time.sleep(0.3)
            stopper = threading.Thread(target=site.gateway.stop, args=(20,))
            stopper.start()
            time.sleep(1)
            connection.send(body[1_000_000:])
            answer = raw.finish(connection)
        assert answer.status == 200, answer
        stopper.join(20)
        assert not site.gateway.alive()
        sites.forget(site)
        site.s3 = sites.get(backend_kind).s3
        assert site.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_a_stop_first_turns_readiness(sites):
    """With a drain delay, load balancers see "not ready" while requests are still served on new connections."""
    site = sites.start("embedded", name="drain", config="[server]\ndrain_delay_secs = 3\n")
    with fresh_bucket(site) as bucket:
        site.s3.put_object(Bucket=bucket, Key="k", Body=payload(1000))
        stopper = threading.Thread(target=site.gateway.stop, args=(20,))
        stopper.start()
        until = time.monotonic() + 2
        while requests.get(f"{site.admin}/readyz", timeout=5).status_code == 200:
            assert time.monotonic() < until, "still ready"
            time.sleep(0.05)
        assert requests.get(f"{site.admin}/livez", timeout=5).status_code == 200
        # A new client, so a new connection.
        assert site.client().get_object(Bucket=bucket, Key="k")["Body"].read() == payload(1000)
        stopper.join(20)
        assert not site.gateway.alive()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", site.gateway.port), 1)
        sites.forget(site)
        site.s3 = sites.get("embedded").s3


def test_killed_in_the_middle(sites, backend_kind):
    """kill -9 during an upload leaves nothing, and the next process serves what was there."""
    site = sites.start(backend_kind, name=f"{backend_kind}-kill")
    body = payload(3_000_000)
    with fresh_bucket(site) as bucket:
        site.s3.put_object(Bucket=bucket, Key="before", Body=body)
        signed = raw.Signed(site, "PUT", raw.target(bucket, "k"), {"Content-Length": str(len(body))}, raw.UNSIGNED)
        with contextlib.closing(raw.connect(site)) as connection:
            raw.start(connection, "PUT", signed.target, signed.headers)
            connection.send(body[:2_000_000])
            time.sleep(0.3)
            site.gateway.kill()
        sites.forget(site)
        site.s3 = sites.get(backend_kind).s3
        time.sleep(0.5)
        assert set(site.stored(bucket)) == {"before"}
        assert site.s3.get_object(Bucket=bucket, Key="before")["Body"].read() == body


def test_ready_turns_when_the_backend_is_gone(sites):
    """A backend that does not answer makes requests fail with an S3 error, and soon: not a hang, not a broken connection."""
    site = sites.start("localstack", name="lost-backend", backend=f"http://127.0.0.1:{free_port()}", ready="livez")
    start = time.monotonic()
    signed = raw.Signed(site, "GET", raw.target("any-bucket", "k"), {}, raw.EMPTY_SHA256)
    answer = raw.send(site, "GET", signed.target, signed.headers)
    assert answer is not None and answer.status in (500, 502, 503) and answer.code, answer
    assert time.monotonic() - start < 20
    assert urllib.request.urlopen(f"{site.admin}/livez", timeout=5).status == 200
    site.gateway.stop()
    sites.forget(site)
