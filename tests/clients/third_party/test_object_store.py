"""The Rust crate object_store (object_store/src/main.rs), on which table formats and query engines build."""

import json
import pathlib
import re

import pytest

STEPS = ["put", "ranges", "multipart", "list", "copy", "conditions"]


@pytest.mark.parametrize("step", STEPS)
def test_crate(site, bucket, tool, step):
    """Each step is a program run that checks its own bytes, once without and once with SHA-256 checksums."""
    program = tool("object_store", site.endpoint, bucket, site.region)
    assert json.loads(program.run(step).stdout)["step"] == step


def test_all_steps_are_here():
    source = (pathlib.Path(__file__).parent / "object_store/src/main.rs").read_text()
    assert re.findall(r'^            "(\w+)" =>', source, re.MULTILINE) == STEPS
