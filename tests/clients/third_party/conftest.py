"""Fixtures of the tests with other people's clients. Without tests/run tools, which installs the clients, nothing here is collected."""

import os

import pytest
from kit import tools

if "CIPHERGATE_TOOLS" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def aws_env(site):
    """What most clients take their credentials from."""
    return {
        "AWS_ACCESS_KEY_ID": site.access_key,
        "AWS_SECRET_ACCESS_KEY": site.secret_key,
        "AWS_REGION": site.region,
        "AWS_DEFAULT_REGION": site.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.fixture
def tool(tmp_path, aws_env):
    """Makes a Tool out of a name: tool("s5cmd", "--endpoint-url", ...)."""

    def make(name, *base, env=None):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        return tools.Tool(tools.find(name), home, {**aws_env, **(env or {})}, base)

    return make
