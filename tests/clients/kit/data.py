"""Plaintexts. Every one carries a marker in each KiB, so that a look into the backend shows any stretch that left in the clear."""

import functools
import random

MARKER = b"\xa7plaintext-mark\xa7"
assert len(MARKER) == 16


@functools.lru_cache(maxsize=32)
def payload(size, seed=0):
    """`size` bytes that are the same for the same seed; no two KiB are alike, so that swapped chunks show."""
    body = bytearray(random.Random(f"{seed}/{size}").randbytes(size))
    for offset in range(0, size - 15, 1024):
        body[offset : offset + 16] = MARKER
    return bytes(body)


def shared_window(plain, stored):
    """The offset in `stored` of a stretch of 16 bytes that also occurs in `plain`, or None.

    Any 16 bytes of `plain` contain a whole 8-byte block of it, so it is enough to look for the aligned blocks."""
    blocks = {plain[i : i + 8]: i for i in range(0, len(plain) - 7, 8)}
    for offset in range(len(stored) - 7):
        place = blocks.get(stored[offset : offset + 8])
        if place is None:
            continue
        # Two equal 8-byte blocks are no proof yet: look at every 16-byte window of the plaintext around this one.
        for shift in range(9):
            window = plain[place - shift : place - shift + 16] if place >= shift else b""
            if len(window) == 16 and stored[max(0, offset - shift) : offset - shift + 16] == window:
                return offset - shift
    return None
