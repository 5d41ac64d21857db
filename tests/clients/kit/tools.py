"""Client programs that are no part of the suite's own Python: tests/run tools installs them into one folder and names it.

What could not be installed leaves a file NAME.missing there with the reason; tests that need it are skipped and say so.
"""

import os
import pathlib
import subprocess

import pytest


def folder():
    return pathlib.Path(os.environ["CIPHERGATE_TOOLS"])


def find(name):
    """The path of a tool, or a skip with the reason why there is none."""
    missing = folder() / f"{name}.missing"
    if missing.exists():
        pytest.skip(f"{name} is not installed: {missing.read_text().strip()}")
    path = folder() / name
    if not path.exists():
        raise RuntimeError(f"{path} is missing and nothing says why: use tests/run tools")
    return path


class Tool:
    """One program with its environment. `base` are arguments that stand before all others."""

    def __init__(self, path, home, env=None, base=()):
        self.command = [str(path), *map(str, base)]
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "LC_ALL": "C.UTF-8", **(env or {})}

    def run(self, *arguments, check=True, input=None, text=True, timeout=300):
        """Run it; `check` fails the test with everything the program said."""
        command = [*self.command, *map(str, arguments)]
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(command, env=self.env, capture_output=True, text=text, timeout=timeout, **stdin)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def said(self, *arguments, **options):
        """Everything it wrote, on both channels."""
        done = self.run(*arguments, **options)
        return done.stdout + done.stderr
