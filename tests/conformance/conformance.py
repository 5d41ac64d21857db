"""Runs Ceph's s3-tests against a backend and against the gateway over the same backend, and compares test by test.

Started by tests/conformance/run, which says what the arguments are.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

from kit import site as kit  # noqa: E402

# Waits of minutes for a lifecycle or a log delivery, or services that no S3 store here has (STS, IAM, SNS, S3 Select, a second cloud).
LEFT_OUT = [
    "lifecycle_expiration",
    "lifecycle_transition",
    "cloud_transition",
    "cloud_restore",
    "target_by_bucket",
    "bucket_logging",
    "bucket_logging_cleanup",
    "s3website_routing_rules",
    "iam_account",
    "iam_cross_account",
    "iam_role",
    "iam_tenant",
    "iam_user",
]
FILES = ["s3tests/functional/test_s3.py", "s3tests/functional/test_headers.py"]


def config(endpoint, keys, kms_key):
    host, port = endpoint.split("//")[1].split(":")
    user = f"access_key = {keys[0]}\nsecret_key = {keys[1]}\n"
    # One user under every name: what one user may do with another's buckets is the backend's own business.
    sections = {
        "s3 main": f"display_name = webfile\nuser_id = 75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a\nemail = main@example.com\napi_name = us-east-1\nkms_keyid = {kms_key}\nkms_keyid2 = {kms_key}\n{user}",
        "s3 alt": f"display_name = webfile\nuser_id = 75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a\nemail = alt@example.com\n{user}",
        "s3 tenant": f"display_name = tenant\nuser_id = tenant\nemail = tenant@example.com\ntenant = tenant\n{user}",
        "iam": f"display_name = iam\nuser_id = iam\nemail = iam@example.com\n{user}",
        "iam root": f"user_id = root\nemail = root@example.com\n{user}",
        "iam alt root": f"user_id = altroot\nemail = altroot@example.com\n{user}",
    }
    text = f"[DEFAULT]\nhost = {host}\nport = {port}\nis_secure = False\nssl_verify = False\n[fixtures]\nbucket prefix = conf-{{random}}-\n"
    return text + "".join(f"[{name}]\n{body}" for name, body in sections.items())


class Backend:
    """A store to test, and the gateway over it. `sites` starts and stops the processes."""

    def __init__(self, kind, sites, folder):
        self.kind, self.folder = kind, folder
        self.endpoint, self.keys = sites.endpoint_of(kind), kit.LOCALSTACK if kind == "localstack" else kit.STORE
        self.gateway = sites.get(kind)
        self.kms_key = kit.KEY_ARN if kind == "localstack" else "main"

    def run(self, suite, through, arguments):
        """One run; returns what became of each test."""
        endpoint, keys = (self.gateway.endpoint, kit.CLIENT) if through else (self.endpoint, self.keys)
        name = "gateway" if through else "backend"
        path, record = self.folder / f"{name}.conf", self.folder / f"{name}.json"
        path.write_text(config(endpoint, keys, self.kms_key))
        record.write_text("")
        environment = {
            **os.environ,
            "S3TEST_CONF": str(path),
            "CONFORMANCE_RECORD": str(record),
            "CONFORMANCE_BACKEND": json.dumps({"endpoint": self.endpoint, "access_key": self.keys[0], "secret_key": self.keys[1]}),
            "PYTHONPATH": f"{HERE}:{suite}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        command = [sys.executable, "-m", "pytest", "-p", "recorder", "-p", "no:cacheprovider", "-q", "--tb=no", "-W", "ignore", "--no-header"]
        command += ["-m", " and ".join(f"not {mark}" for mark in LEFT_OUT), *arguments]
        with open(self.folder / f"{name}.log", "wb") as log:
            subprocess.run([*command, *FILES], cwd=suite, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        outcomes = [json.loads(line) for line in record.read_text().splitlines()]
        if not outcomes:
            raise SystemExit(f"no test ran: {self.folder / name}.log ends with\n" + (self.folder / f"{name}.log").read_text()[-2000:])
        return {outcome["test"]: outcome for outcome in outcomes}


def score(outcomes):
    count = collections.Counter(outcome["outcome"] for outcome in outcomes.values())
    return f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped"


def reason_for(name, reasons):
    """A * in a pattern stands for any text."""
    for pattern, reason in reasons.items():
        if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name):
            return reason
    return None


def compare(kind, direct, through, reasons):
    """The lines of the report, and the names of the tests that fail through the gateway alone and for which no reason is on record."""
    lines = [f"## {kind}", "", f"- backend alone: {score(direct)}", f"- through the gateway: {score(through)}", ""]
    lost = [name for name, found in direct.items() if found["outcome"] == "passed" and through.get(name, {}).get("outcome") != "passed"]
    won = [name for name, found in direct.items() if found["outcome"] == "failed" and through.get(name, {}).get("outcome") == "passed"]
    unexplained = []
    if lost:
        lines += ["| passes on the backend, fails through the gateway | why | what it saw |", "| --- | --- | --- |"]
    for name in sorted(lost):
        short = name.split("::")[1]
        why = reason_for(short, reasons)
        if why is None:
            unexplained.append(short)
        found = through.get(name, {"reason": "not run", "place": ""})
        seen = found["reason"].replace("|", "\\|")
        lines.append(f"| {short} | {why or '**no reason on record**'} | {seen} ({found['place']}) |")
    lines += ["", f"{len(won)} fail on the backend and pass through the gateway: {', '.join(sorted(name.split('::')[1] for name in won)) or 'none'}", ""]
    return lines, unexplained


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", type=pathlib.Path, required=True)
    parser.add_argument("--backend", action="append", choices=["localstack", "embedded", "versitygw", "garage"])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    out = options.out or pathlib.Path(tempfile.mkdtemp(prefix="conformance-"))
    out.mkdir(parents=True, exist_ok=True)
    reasons = tomllib.loads((HERE / "reasons.toml").read_text())
    report, missing = [], []
    for kind in options.backend or ["localstack", "embedded"]:
        folder = out / kind
        folder.mkdir(exist_ok=True)
        sites = kit.Sites(pathlib.Path(tempfile.mkdtemp(prefix="sites-", dir=out)))
        try:
            backend = Backend(kind, sites, folder)
            direct = backend.run(options.suite.resolve(), False, options.arguments)
            through = backend.run(options.suite.resolve(), True, options.arguments)
            dead = sites.dead()
        finally:
            sites.stop()
        lines, unexplained = compare(kind, direct, through, {**reasons.get("any", {}), **reasons.get(kind, {})})
        report += lines
        missing += [f"{kind}: {name}" for name in unexplained] + [f"{kind}: {name} ended during the run" for name in dead]
    text = "\n".join(report)
    (out / "report.md").write_text(text)
    print(text)
    print(f"files: {out}")
    if missing:
        raise SystemExit("no reason on record for:\n" + "\n".join(missing))


main()
