"""docs/KEY_ROTATION.md, step by step: the page's own commands in one shell, and everything readable between any two of them."""

import base64
import hashlib
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from kit.data import payload
from kit.site import KEY_ARN, LOCALSTACK, REGION, binary, direct, localstack

PAGE = Path(__file__).parents[2] / "docs" / "KEY_ROTATION.md"
CG1 = Path(__file__).parents[2] / "tools" / "cg1.py"
STEPS = 10

pytestmark = pytest.mark.skipif(direct(), reason="only the gateway has keys to rotate")


def steps():
    """The `sh` blocks of the page, under the heading that each stands below."""
    found, heading, block = [], None, None
    for line in PAGE.read_text().splitlines():
        if line == "```sh":
            block = []
        elif line == "```" and block is not None:
            found.append((heading, "\n".join(block)))
            block = None
        elif block is not None:
            block.append(line)
        elif line.startswith("## "):
            heading = line[3:]
    return found


class Shell:
    """One bash that ends at the first command that fails."""

    def __init__(self, env):
        command = ["bash", "-euo", "pipefail"]
        self._bash = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True)

    def run(self, heading, block, seconds=120):
        timer = threading.Timer(seconds, self._bash.kill)
        timer.start()
        try:
            self._bash.stdin.write(f"{{\n{block}\n}} < /dev/null\necho '--- done'\n")
            self._bash.stdin.flush()
            told = []
            for line in self._bash.stdout:
                if line == "--- done\n":
                    return "".join(told)
                told.append(line)
        finally:
            timer.cancel()
        raise AssertionError(f"step {heading!r} ended with {self._bash.wait()}:\n{block}\n--- it said:\n{''.join(told)}")

    def end(self):
        self._bash.stdin.close()
        self._bash.stdout.close()
        return self._bash.wait(timeout=10)


@pytest.fixture
def kms():
    keys = {"aws_access_key_id": LOCALSTACK[0], "aws_secret_access_key": LOCALSTACK[1]}
    return boto3.client("kms", endpoint_url=localstack(), region_name=REGION, **keys)


@pytest.fixture
def old_arn(kms):
    """A key of the test's own, which it may disable."""
    arn = kms.create_key(Description="to be rotated away")["KeyMetadata"]["Arn"]
    assert arn != KEY_ARN
    yield arn
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)


def start_script(folder, config, log):
    """What takes the place of `systemctl restart`: ends the gateway of the pid file, starts another one, and waits until it is ready."""
    script = folder / "restart"
    script.write_text(
        f"""#!/usr/bin/env bash
set -eu
if [ -e {folder}/pid ]; then
    pid=$(cat {folder}/pid)
    kill -TERM "$pid"
    for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
fi
setsid {shlex.quote(binary())} serve --config {config} >> {log} 2>&1 < /dev/null &
echo $! > {folder}/pid
for _ in $(seq 200); do
    {shlex.quote(binary())} healthcheck --ready --admin "$ADMIN" > /dev/null 2>&1 && exit 0
    sleep 0.1
done
echo "the gateway is not ready:"; tail -5 {log}
exit 1
"""
    )
    script.chmod(0o755)
    return script


def test_the_runbook_moves_everything_and_nothing_needs_the_old_key(sites, tmp_path, kms, old_arn):
    site = sites.start(
        "localstack",
        name="rotation",
        key_source=f'kind = "kms"\nkey_arn = "{old_arn}"\n',
        config='[buckets."rotation-shared"]\nmode = "shared"\nhash_key_names = false\n',
        env={"AWS_ENDPOINT_URL_KMS": localstack()},
    )
    config, log = site.folder / "ciphergate.toml", site.folder / "restarted.log"
    (tmp_path / "pid").write_text(str(site.gateway.pid))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ciphergate").symlink_to(binary())
    (tools / "aws").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m awscli "$@"\n')
    (tools / "aws").chmod(0o755)
    # The gateway ends at the first restart, by the page's own doing.
    sites.forget(site)
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "CONFIG": str(config),
        "BUCKETS": "rotation-own rotation-shared rotation-versions",
        "RESTART": str(start_script(tmp_path, config, log)),
        "ADMIN": site.admin.removeprefix("http://"),
        "AWS_ACCESS_KEY_ID": LOCALSTACK[0],
        "AWS_SECRET_ACCESS_KEY": LOCALSTACK[1],
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL_KMS": localstack(),
        "AWS_EC2_METADATA_DISABLED": "true",
        "LC_ALL": "C.UTF-8",
        "PYTHONWARNINGS": "ignore",
    }
    written, versions = {}, {}

    def write(name):
        for bucket in env["BUCKETS"].split():
            written[bucket, name] = payload(70_000, len(written) + len(versions))
            put = site.s3.put_object(Bucket=bucket, Key=name, Body=written[bucket, name], Metadata={"kept": name})
            if bucket == "rotation-versions":
                versions[name, put["VersionId"]] = written[bucket, name]

    def read_everything(when):
        for (bucket, name), body in written.items():
            answer = site.s3.get_object(Bucket=bucket, Key=name)
            assert answer["Body"].read() == body, f"{bucket}/{name} {when}"
            assert answer["Metadata"].get("kept", name) == name
        for (name, version), body in versions.items():
            answer = site.s3.get_object(Bucket="rotation-versions", Key=name, VersionId=version)
            assert answer["Body"].read() == body, f"{name} in version {version} {when}"

    for bucket in env["BUCKETS"].split():
        site.s3.create_bucket(Bucket=bucket)
    site.backend.put_bucket_versioning(Bucket="rotation-versions", VersioningConfiguration={"Status": "Enabled"})
    shell = Shell(env)
    try:
        write("before-0")
        write("gone")
        for bucket in env["BUCKETS"].split():
            site.s3.delete_object(Bucket=bucket, Key="gone")
            del written[bucket, "gone"]
        for index in range(5):
            write(f"before-{index}")
        for bucket in env["BUCKETS"].split():
            parts = [payload(5 << 20, bucket), payload(1000, bucket)]
            upload = site.s3.create_multipart_upload(Bucket=bucket, Key="in/parts")["UploadId"]
            done = [
                {"PartNumber": n, "ETag": site.s3.upload_part(Bucket=bucket, Key="in/parts", UploadId=upload, PartNumber=n, Body=part)["ETag"]}
                for n, part in enumerate(parts, 1)
            ]
            site.s3.complete_multipart_upload(Bucket=bucket, Key="in/parts", UploadId=upload, MultipartUpload={"Parts": done})
            written[bucket, "in/parts"] = b"".join(parts)
        told = {}
        blocks = steps()
        assert len(blocks) == STEPS, "a step of the page has no block, or two: look at this test too"
        for number, (heading, block) in enumerate(blocks):
            told[heading] = shell.run(heading, block)
            read_everything(f"after {heading}")
            write(f"during-{number}")
        assert shell.end() == 0
        state = kms.describe_key(KeyId=old_arn)["KeyMetadata"]["KeyState"]
        assert state == "Disabled"
        # The old key really is out of use: what it wrapped cannot be unwrapped, and no object has that trouble.
        made = [key for key in kms.list_keys(Limit=1000)["Keys"] if key["KeyArn"] in config.read_text()]
        assert len(made) == 1
        with pytest.raises(ClientError, match="Disabled"):
            kms.generate_data_key(KeyId=old_arn, KeySpec="AES_256")
        assert 'label = "main"' not in config.read_text()
        read_everything("at the end")
        # A program that knows the text alone opens an old version by its record (FORMAT section 16).
        (name, version), body = next(iter(versions.items()))
        fields = b"".join(len(word).to_bytes(2) + word for word in (b"rotation-versions", name.encode(), version.encode()))
        record = f".ciphergate/v/{hashlib.sha256(fields).hexdigest()}"
        record = site.backend.get_object(Bucket="rotation-versions", Key=record)["Body"].read()
        envelope = base64.urlsafe_b64encode(record[6 : 6 + int.from_bytes(record[4:6])]).rstrip(b"=").decode()
        options = ["--version-id", version, "--endpoint", localstack(), "--kms", f"main-2={made[0]['KeyArn']}", "--kms-endpoint", localstack()]
        command = [sys.executable, str(CG1), f"s3://rotation-versions/{name}", *options]
        opened = subprocess.run([*command, "--envelope", envelope], env=env, capture_output=True)
        assert opened.returncode == 0 and opened.stdout == body, opened.stderr
        assert subprocess.run(command, env=env, capture_output=True).returncode != 0
        assert "13 objects: would move 0 to main-2" in told["6. Prove that nothing needs the old key"]
        assert "not needed any more below this target" in told["5. Move what is there"]
        assert re.search(r"moved [1-9]\d* to main-2", told["5. Move what is there"])
    finally:
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 15)
        for bucket in env["BUCKETS"].split():
            listed = site.backend.list_object_versions(Bucket=bucket)
            for entry in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
                site.backend.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
            site.backend.delete_bucket(Bucket=bucket)
