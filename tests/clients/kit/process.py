"""Server processes of one test run: started, watched until they answer, and ended by their process id."""

import itertools
import os
import re
import signal
import socket
import subprocess
import time


handed_out = itertools.count(os.getpid() * 97)


def free_port():
    """Below the ports that connections that go out are given, and another one each time."""
    for at in itertools.islice(handed_out, 10_000):
        port = 1_500 + at % 10_000
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no port is free")


class Process:
    def __init__(self, name, command, port, log, env=None, ready=None, seconds=30):
        """`ready()` says whether it serves; without it, a listening port is enough."""
        self.name, self.port, self.log = name, port, log
        # Nothing of the tester's own AWS set-up may leak in, and no proxy may sit in between.
        clean = {k: v for k, v in os.environ.items() if not re.match(r"AWS_|CIPHERGATE_|https?_proxy$", k, re.IGNORECASE)}
        with open(log, "wb") as out:
            self._child = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env={**clean, **(env or {})}
            )
        self.pid = self._child.pid
        ready = ready or self._listens
        end = time.monotonic() + seconds
        while not ready():
            if self._child.poll() is not None:
                raise RuntimeError(f"{name} ended with {self._child.returncode}:\n{self.tail()}")
            if time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{name} was not ready after {seconds} s:\n{self.tail()}")
            time.sleep(0.05)

    def _listens(self):
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def alive(self):
        return self._child.poll() is None

    def tail(self, lines=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def memory_peak(self):
        """The most memory it ever had resident, in bytes."""
        with open(f"/proc/{self.pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self, seconds=10):
        if self.alive():
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()
        return self._child.returncode

    def kill(self):
        self._child.kill()
        self._child.wait()
