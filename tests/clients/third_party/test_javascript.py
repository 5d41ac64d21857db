"""The AWS SDK for JavaScript v3 with lib-storage (javascript/client.mjs)."""

import json
import pathlib
import re

import pytest
from kit import tools

STEPS = ["put", "ranges", "list", "small_upload", "upload", "abort", "copy", "presigned", "form"]


@pytest.mark.parametrize("step", STEPS)
def test_sdk(site, bucket, tool, step):
    """Each step is a program run that checks its own bytes."""
    node = tool("node", tools.find("javascript") / "client.mjs", site.endpoint, bucket, site.region, env={"NODE_NO_WARNINGS": "1"})
    assert json.loads(node.run(step).stdout)["step"] == step


def test_all_steps_are_here():
    source = (pathlib.Path(__file__).parent / "javascript/client.mjs").read_text()
    assert re.findall(r"^  async (\w+)\(", source, re.MULTILINE) == STEPS
