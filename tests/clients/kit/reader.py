"""tools/cg1.py, the reader that knows docs/FORMAT.md and nothing of the gateway's code, applied to what tests left in the store."""

import argparse
import collections
import importlib.util
import pathlib
import tomllib

from botocore.exceptions import ClientError

PATH = pathlib.Path(__file__).parents[3] / "tools/cg1.py"
_spec = importlib.util.spec_from_file_location("cg1", PATH)
cg1 = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cg1)


class Reader:
    """Counts what it opened, and why it left out the rest."""

    def __init__(self):
        self.opened, self.left_out = collections.Counter(), collections.Counter()
        self.buckets = self.bytes = 0

    def check(self, site, bucket):
        """Open every object of a bucket, each version of it, and compare it with what the gateway serves."""
        self.buckets += 1
        config = tomllib.loads((site.folder / "ciphergate.toml").read_text())
        scope = config.get("buckets", {}).get(bucket, {}).get("scope", bucket)
        for key, version in versions(site.backend, bucket):
            self._object(site, keys_of(config), bucket, scope, key, version)

    def _object(self, site, keys, bucket, scope, key, version):
        if key.startswith(".ciphergate/"):
            self.left_out["state of uploads"] += 1
            return
        if (bucket, key) in site.planted:
            self.left_out["planted by tests"] += 1
            return
        try:
            source = cg1.Bucket(site.backend, bucket, key, version)
        except ClientError:
            if version is None or site.kind != "versitygw":
                raise
            self.left_out["versions that versitygw lists and does not have"] += 1
            return
        if source.envelope is None:
            self.left_out["plaintext"] += 1
            return
        envelope = cg1.Envelope(source.envelope)
        if envelope.customer:
            self.left_out["the client's own key"] += 1
            return
        prk = envelope.open(cg1.x_of(envelope, scope, key, keys), scope, key)
        named = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
        served = site.s3.get_object(**named)["Body"]
        for piece in cg1.plaintext(envelope.suite, prk, envelope.multipart, source):
            assert cg1.exactly(served, len(piece)) == piece, f"the gateway serves {named} otherwise than cg1.py reads it"
            self.bytes += len(piece)
        assert not served.read(1), f"the gateway serves more of {named} than cg1.py reads"
        self.opened["in parts" if envelope.multipart else "in one piece"] += 1

    def summary(self):
        left = "".join(f"; left out {count}: {why}" for why, count in sorted(self.left_out.items()))
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.opened.items()))
        return f"cg1.py opened {self.opened.total()} objects ({kinds}), {self.bytes:,} bytes, as the gateway serves them{left}"


READER = Reader()


def keys_of(config, customer_key=None):
    """A gateway's keys as cg1.py's command line has them."""
    kms = [entry for entry in config["keys"] if entry["kind"] == "kms"]
    return argparse.Namespace(
        keyring=[entry["file"] for entry in config["keys"] if entry["kind"] == "keyring"],
        kms=[f"{entry['label']}={entry['key_arn']}" for entry in kms],
        kms_endpoint=kms[0]["endpoint"] if kms else None,
        transit=[],
        customer_key=customer_key,
    )


def versions(s3, bucket):
    """Key and version id of everything in a bucket; without the ids where the store has no versions, or the only one has none: some
    stores (versitygw) list such an object as version "null" and know nothing of it by that name."""
    try:
        pages = list(s3.get_paginator("list_object_versions").paginate(Bucket=bucket))
        found = [entry for page in pages for entry in page.get("Versions", [])]
        id_of = lambda entry: None if entry["VersionId"] == "null" and entry["IsLatest"] else entry["VersionId"]
        return sorted({(entry["Key"], id_of(entry)) for entry in found}, key=lambda named: (named[0], named[1] or ""))
    except ClientError:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [(entry["Key"], None) for page in pages for entry in page.get("Contents", [])]
