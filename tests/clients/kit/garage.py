"""Garage, a store by other people, as one node over a folder: it checks every signature, and knows neither versions nor conditional writes."""

from .process import Process, free_port

CONFIG = """\
metadata_dir = "{folder}/meta"
data_dir = "{folder}/data"
db_engine = "sqlite"
metadata_fsync = false
data_fsync = false
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "0000000000000000000000000000000000000000000000000000000000000001"
[s3_api]
s3_region = "{region}"
api_bind_addr = "127.0.0.1:{port}"
"""


def start(program, folder, region, keys):
    """Returns the process; `keys` may make buckets."""
    port, rpc = free_port(), free_port()
    config = folder / "garage.toml"
    config.touch(mode=0o600)
    config.write_text(CONFIG.format(folder=folder, rpc=rpc, region=region, port=port))
    env = {"GARAGE_DEFAULT_ACCESS_KEY": keys[0], "GARAGE_DEFAULT_SECRET_KEY": keys[1], "RUST_LOG": "warn"}
    return Process("garage", [program, "--config", config, "server", "--single-node", "--default-access-key"], port, folder / "garage.log", env)
