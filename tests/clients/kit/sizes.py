"""The size law of docs/FORMAT.md, written down a second time and independently of the gateway's code."""

CHUNK = 65536
PART_MIN = 5 * 1024 * 1024
PARTS_MAX = 10000


def sealed_len(plain):
    """Length of the stored object for a plaintext of `plain` bytes."""
    chunks = max(1, -(-plain // CHUNK))
    parts = min(PARTS_MAX, plain // PART_MIN + 1)
    return plain + 16 * chunks + 144 * parts + 80


def plain_len(sealed):
    """The plaintext length of a stored object of `sealed` bytes, or None when no object has that length."""
    # Found by search in place of the format's closed inverse, which the gateway uses: sealed_len grows with its argument.
    low, high = 0, max(0, sealed)
    while low < high:
        middle = (low + high) // 2
        if sealed_len(middle) < sealed:
            low = middle + 1
        else:
            high = middle
    return low if sealed_len(low) == sealed else None
