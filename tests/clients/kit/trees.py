"""Folders of files to send through clients, and whether what came back is the same."""

import os
import time

from .data import payload

# Below, at and above the chunk size; an empty file; names that need encoding; folders in folders.
SMALL = {"empty": 0, "one": 1, "a folder/b c+d.bin": 65_535, "a folder/deeper/ü é.txt": 65_536, "z/k&=%41.bin": 65_537}
# Above every client's threshold here, and no whole number of parts.
LARGE = {"large": 17 * 1024 * 1024 + 4_321}


def plant(folder, sizes):
    """Make the files. They are a minute old: listings count whole seconds, and a file of this very second would pass for newer."""
    past = time.time() - 60
    for number, (name, size) in enumerate(sizes.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload(size, number))
        os.utime(path, (past, past))
    return folder


def read(folder):
    """Content by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(one, other):
    left, right = read(one), read(other)
    assert sorted(left) == sorted(right)
    for name, content in left.items():
        assert content == right[name], f"{name}: {len(content)} bytes went up, {len(right[name])} other ones came down"


def listed(site, bucket, prefix=""):
    """Size by key below a prefix, as the gateway's listing shows it."""
    pages = site.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"][len(prefix) :]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
