"""tools/cg1.py opens what the gateway wrote under a Transit key, with a real OpenBao; CIPHERGATE_TEST_OPENBAO names its program."""

import os
import re
import subprocess
import sys

import pytest
from kit.data import payload
from kit.process import Process, free_port
from kit.reader import PATH, cg1
from kit.site import _program

pytestmark = pytest.mark.gateway_only
TOKEN = "owner-of-the-test-server"


class Bao:
    """A server in memory, with a derived key `k`."""

    def __init__(self, folder):
        self.program, port = _program("CIPHERGATE_TEST_OPENBAO"), free_port()
        self.address = f"http://127.0.0.1:{port}"
        clean = {name: value for name, value in os.environ.items() if not re.match("BAO_|VAULT_", name)}
        self.env = {**clean, "HOME": str(folder), "BAO_ADDR": self.address, "BAO_TOKEN": TOKEN}
        server = [self.program, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={TOKEN}", f"-dev-listen-address=127.0.0.1:{port}"]
        self.process = Process("OpenBao", server, port, folder / "bao.log", {"HOME": str(folder)}, ready=lambda: self.run("token", "lookup") == 0)
        assert self.run("secrets", "enable", "transit") == self.run("write", "-f", "transit/keys/k", "derived=true") == 0

    def run(self, *arguments):
        return subprocess.run([self.program, *arguments], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=30).returncode


def test_vector_context():
    """The context of docs/TRANSIT.md."""
    asked = []

    def urlopen(request, timeout):
        asked.append(request.data.decode())
        raise OSError("that will do")

    envelope = type("Envelope", (), {"blob": b"vault:v1:" + b"A" * 80})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAO_TOKEN", "x")
        patch.setattr("urllib.request.urlopen", urlopen)
        with pytest.raises(OSError):
            cg1.by_transit("http://x/", envelope, {"scope": "bucket-a", "key": "dir/object.bin", "cg": "1"})
        for wrong in (b"vault:v0:" + b"A" * 80, b"vault:v1:" + b"A" * 79, b"vault:v1:" + b"A" * 80 + b"\n"):
            envelope.blob = wrong
            with pytest.raises(cg1.Refused):
                cg1.by_transit("http://x/", envelope, {})
    assert len(asked) == 1 and '"0vCN3Sor2GbZdRRFhnEB62XMvO6ej0eOlw+Y0g5rxVY="' in asked[0]


@pytest.mark.parametrize("mode", ["per-object", "shared"])
def test_cg1_opens_without_the_gateway(sites, tmp_path, mode):
    bao = Bao(tmp_path)
    try:
        source = f'kind = "transit"\nendpoint = "{bao.address}"\nkey_name = "k"\ntoken = "{TOKEN}"\n'
        site = sites.start("embedded", name=f"transit-{mode}", key_source=source, config=f'[buckets."transit-{mode}"]\nmode = "{mode}"\n')
        here = {"Bucket": f"transit-{mode}", "Key": "a b/ü"}
        site.s3.create_bucket(Bucket=here["Bucket"])
        site.s3.put_object(**here, Body=payload(200_000))
        assert site.s3.get_object(**here)["Body"].read() == payload(200_000)
        sites.forget(site)
        site.gateway.stop()
        command = [sys.executable, PATH, f"s3://{here['Bucket']}/{here['Key']}", "--endpoint", site.backend_endpoint, "-o", tmp_path / "plain"]
        command += ["--transit", f"main={bao.address}/v1/transit/decrypt/k", "--region", "us-east-1"]
        env = {**bao.env, "AWS_ACCESS_KEY_ID": site.backend_keys[0], "AWS_SECRET_ACCESS_KEY": site.backend_keys[1]}
        opened = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert opened.returncode == 0, opened.stderr
        assert (tmp_path / "plain").read_bytes() == payload(200_000)
        refused = subprocess.run([*command, "--scope", "another"], env=env, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "400" in refused.stderr
    finally:
        bao.process.stop()
