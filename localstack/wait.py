"""Wait for LocalStack: wait.py DATA_DIR PORT PID SECONDS. Exit 0 when S3, KMS and STS answer and every init script has succeeded."""

import json
import os
import sys
import time
import urllib.request


def fetch(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return json.load(answer)


def state(port):
    """True when ready, False when it never will be, None when it needs more time."""
    try:
        services = fetch(port, "/_localstack/health")["services"]
        # Health turns good before the init scripts are through, so both are asked.
        init = fetch(port, "/_localstack/init/ready")
    except (OSError, ValueError, KeyError):
        return None
    failed = [script["name"] for script in init.get("scripts", []) if script["state"] == "ERROR"]
    if failed:
        print(f"init script failed: {', '.join(failed)}", file=sys.stderr)
        return False
    if "error" in (services.get("s3"), services.get("kms"), services.get("sts")):
        print(f"services did not load: {services}", file=sys.stderr)
        return False
    up = all(services.get(name) in ("running", "available") for name in ("s3", "kms", "sts"))
    return True if up and init.get("completed") else None


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a dead child that its parent shell has not collected yet still answers to signal 0
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return True


def main(mark, port, pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # Without the mark, whoever answers on the port is somebody else.
        answer = state(port) if os.path.exists(mark) else None
        if answer is not None:
            return 0 if answer else 1
        if not alive(pid):
            print("the server ended", file=sys.stderr)
            return 1
        time.sleep(0.1)
    print(f"not ready after {seconds} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(os.path.join(sys.argv[1], "listening"), *map(int, sys.argv[2:5])))
