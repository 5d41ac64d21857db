#!/usr/bin/env python3
"""Opens objects that Ciphergate wrote, without Ciphergate: from a bucket, or from a file and its envelope.

Written from docs/FORMAT.md, KEYRING.md and TRANSIT.md alone; section numbers below are FORMAT's. Needs Python 3.11 and the package `cryptography`;
boto3 only for buckets and KMS; awscrt, where it is there, makes the check of the whole faster. Plaintext leaves chunk by chunk as it
verifies, a file gets its name when everything has, and a refusal is one line on stderr and exit code 1.

  cg1.py s3://BUCKET/KEY --kms main=arn:aws:kms:eu-west-1:111122223333:key/ID -o FILE
  cg1.py s3://BUCKET/KEY --endpoint http://127.0.0.1:9100 --keyring /etc/ciphergate/keyring > FILE
  cg1.py SEALED --envelope TEXT --scope BUCKET --key KEY --keyring KEYRING -o FILE     TEXT: the object's x-amz-meta-ciphergate
  cg1.py s3://BUCKET/KEY --inspect       no key is needed. Credentials of bucket and KMS come from where boto3 looks for them.
"""

import argparse, base64, functools, hashlib, hmac, json, os, re, struct, sys, tempfile, tomllib
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

try:
    from awscrt.checksums import crc64nvme
except ImportError:
    TABLE = list(range(256))
    for _ in range(8):
        TABLE = [n >> 1 ^ (0x9A6C9329AC4BC9B5 if n & 1 else 0) for n in TABLE]
    def crc64nvme(data, crc):
        return functools.reduce(lambda crc, byte: TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8, data, crc ^ 2**64 - 1) ^ 2**64 - 1

B, T, S, NMAX = 65536, 16, 5242880, 10000  # section 1
AEADS = {1: ChaCha20Poly1305, 2: AESGCM}
CHECKSUM_LENGTHS = [0, 4, 4, 8, 20, 32, 64, 16, 8, 8, 16]

class Refused(Exception): """This is no object that a writer following the text made, or not with these keys."""
def demand(holds, why):
    if not holds:
        raise Refused(why)

# Sections 1 and 8: lengths.
def plain_len(c):
    d, whole = c - 224, S + 16 * 80 + 144
    k = min(d // whole, 9999)
    f, r = divmod(d - k * whole, B + T)
    rest = f * B + (r - T if r else 0)
    demand(c == 240 or d >= 0 and (r == 0 or r > T) and (k or rest) and (k == 9999 or rest < S), f"no object is {c} bytes long")
    return k * S + rest if c != 240 else 0
def chunked_len(p): return p + T * -(-p // B)
def part_len(header): return int.from_bytes(header[24:])

# Sections 3 and 4: envelope and keys.
def extract(salt, ikm): return hmac.digest(salt, ikm, "sha256")
def expand(prk, info, length=32): return hmac.digest(prk, info + b"\x01", "sha256")[:length]
def object_prk(suite, dek): return extract(b"cg1 object" + bytes([suite]), dek)

def listed(words, size=4):
    return b"".join(len(word).to_bytes(size) + word for word in words)
def words_of(context):
    return [word.encode() for pair in sorted(context.items()) for word in pair]
def unseal(aead, key, sealed, why, nonce=bytes(12)):
    try:
        return aead(key).decrypt(nonce, sealed, b"")
    except InvalidTag:
        raise Refused(why) from None
def bytes_of(text, what):
    demand(text and re.fullmatch(r"[A-Za-z0-9_-]+", text) and len(text) % 4 != 1, f"{what} is missing or malformed")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    demand(base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text, f"{what} is malformed")
    return raw

class Envelope:
    def __init__(self, text):
        raw = bytes_of(text, "the envelope")
        demand(len(raw) >= 118 and raw[0] == 1, "the envelope has an unknown version, or is too short")
        self.suite, flags, length = raw[1:4]
        demand(self.suite in AEADS and flags < 32, "unknown suite or flag in the envelope")
        self.multipart, self.shared, self.hashed, self.customer, self.seals_metadata = (bool(flags & 1 << bit) for bit in range(5))
        label, rest = raw[4 : 4 + length], raw[4 + length :]
        demand(length <= 32 and re.fullmatch(rb"[a-z0-9-]+", label), "the envelope's label is malformed")
        demand(len(rest) >= 114 and len(rest) == 114 + int.from_bytes(rest[112:114]), "the envelope is cut short or goes on after its end")
        self.head, self.label, self.salt, self.commit = raw[: 68 + length], label.decode(), rest[:32], rest[32:64]
        self.wrapped, self.blob = rest[64:112], rest[114:]
        own = not (self.shared or self.hashed) and self.label == "sse-c" and len(self.blob) == 16
        demand(own or not self.customer, "a client's key has another envelope")  # section 14
    def context(self, scope, key):
        name = hashlib.sha256(scope.encode() + b"\0" + key.encode()).hexdigest() if self.hashed else key
        return {"cg": "1", "scope": scope} | ({} if self.shared else {"key": name})
    def open(self, x, scope, key):
        """PRK, by X and the object's place."""
        demand(len(x) == 32, "X, or the client's key, has another length than 32 bytes")
        check = expand(extract(self.salt, x), b"cg1 customer", 16)
        demand(not self.customer or hmac.compare_digest(check, self.blob), "this is another client's key, or the envelope was altered")
        w = expand(extract(self.salt, x), b"cg1 wrap" + self.head + listed([scope.encode()], 2) + listed([key.encode()]))
        prk = object_prk(self.suite, unseal(AEADS[self.suite], w, self.wrapped, "the envelope is another object's, or was altered"))
        demand(hmac.compare_digest(expand(prk, b"commit"), self.commit), "the envelope does not belong to its key")
        return prk

HEADERS = ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"]
def metadata(envelope, prk, entry):
    """Section 15: content headers and user metadata that lie sealed beside the object; none where they lie there in plain."""
    demand(envelope.seals_metadata == (entry is not None), "sealed metadata are missing, or the envelope does not announce them")
    if entry is None:
        return {}
    demand(len(entry) in [-(-4 * (64 * k + T) // 3) for k in range(1, 24)], "the sealed metadata have an impossible length")
    sealed, key = bytes_of(entry, "the entry"), expand(prk, b"meta" + envelope.salt)
    m, at, last, found = unseal(AEADS[envelope.suite], key, sealed, "the metadata were altered, or are those of another wrap"), 0, (0,), {}
    while at < len(m) and m[at]:
        kind, at, words = m[at], at + 1, []
        for _ in range(2 if kind == 7 else 1):  # a name, and a value
            words.append(m[at + 2 : at + 2 + int.from_bytes(m[at : at + 2])])
            at += 2 + int.from_bytes(m[at : at + 2])
        demand(at <= len(m) and kind <= 7 and last < (kind, *words[:-1]), "the list of metadata is malformed")
        last = (kind, *words[:-1])
        named = kind < 7 or re.fullmatch(rb"(?!ciphergate(-meta)?$)[a-z0-9!#$%&'*+.^_`|~-]*", words[0])
        demand(named and re.fullmatch(rb"[\t\x20-\x7e\x80-\xff]*", words[-1]), "a name or a value of the metadata is malformed")
        found["x-amz-meta-" + words[0].decode() if kind == 7 else HEADERS[kind - 1]] = os.fsdecode(words[-1])
    demand(len(m) == 64 * max(1, -(-at // 64)) and not any(m[at:]), "the padding of the metadata is wrong")
    return found

# Sections 5 to 7: what stands at the end of an object.
class Footer:
    """END is checked alone first, then SEALED is opened: nothing is fetched by a length that nobody proved possible."""
    def __init__(self, suite, prk, multipart, size, tail):
        self.plain, self.end = plain_len(size), tail(32)
        magic, kind, length, v, zero, n, sealed = struct.unpack(">4sBBBBII", self.end[:16])
        demand(magic == b"CGF1" and zero == 0 and kind == 1 + multipart, "there is no end marker, or one of another layout")
        fits = sealed == 64 + v + n * (32 + length) and v in ((0, length) if multipart else (length,))
        demand(length in CHECKSUM_LENGTHS and fits, "the end marker's lengths do not fit")
        most = min(NMAX, self.plain // S + 1)
        demand(1 <= n <= most and v + n * (32 + length) <= 96 * n if multipart else n == 0, "impossible number of parts")
        demand(chunked_len(self.plain) + sealed + 32 <= size, "the footer does not fit the object")
        self.sealed = tail(32 + sealed)[:sealed]
        f = unseal(AEADS[suite], expand(prk, b"foot" + self.end), self.sealed, "the footer was altered, or is another object's")
        plain, _, algorithm, kind, flags, zero = struct.unpack(">QQBBB5s", f[:24])
        demand(CHECKSUM_LENGTHS[algorithm : algorithm + 1] == [length] and v == (length if kind == 2 else 0), "the footer's checksum does not fit")
        demand(kind in ((0, 1, 2) if multipart else (0, 2)) and (kind == 0) == (algorithm == 0), "unknown type of checksum")
        demand(plain == self.plain and flags < 4 and not any(zero), "the footer says another length, or has an unknown flag")
        demand((flags & 1 or not any(f[24:32])) and (flags & 2 or not any(f[32:48])), "the footer has a value that it says it has not")
        self.crc64 = int.from_bytes(f[24:32]) if flags & 1 else None
        self.parts, last = [] if multipart else [(bytes(24) + plain.to_bytes(8), False)], 0  # headers, and whether they are unbound
        for at in range(48 + v, 48 + v + n * (32 + length), 32 + length):
            part_id, number, unbound, zero, part = struct.unpack(">16sHHIQ", f[at : at + 32])
            odd = unbound and (any(part_id) or algorithm or unbound > 1)
            demand(last < number <= NMAX and zero == 0 and not odd, "the table of parts is malformed")
            self.parts.append((struct.pack(">16sHHIQ", part_id, number, 0, 0, part), bool(unbound)))
            last = number
        lengths = [part_len(header) for header, _ in self.parts]
        self.pad = size - sum(32 * multipart + chunked_len(length) for length in lengths if length) - sealed - 32
        demand(sum(lengths) == plain and self.pad >= 0, "the parts do not fit the object")

# Section 9: the body.
def exactly(body, length):
    got = bytearray()
    while len(got) < length:
        piece = body.read(length - len(got))
        demand(piece, "the object ended early")
        got += piece
    return bytes(got)
def plaintext(suite, prk, multipart, source):
    """Plaintext as it verifies. The last chunk comes when padding, footer and the check of the whole have held too."""
    footer = Footer(suite, prk, multipart, source.size, source.tail)
    body, crc, held = source.body(), 0, b""
    for header, unbound in footer.parts:
        if multipart and part_len(header):
            meant, header = header, exactly(body, 32)
            demand(header[16:] == meant[16:] and (unbound or header == meant), "a part is not the one in the table")
        key, plain = expand(prk, b"part" + header), part_len(header)
        for number, at in enumerate(range(0, plain, B)):
            nonce, sealed = struct.pack(">3xQB", number, at + B >= plain), exactly(body, min(plain - at, B) + T)
            chunk = unseal(AEADS[suite], key, sealed, f"chunk {number} of a part was altered or moved", nonce)
            if held:
                yield held
            held, crc = chunk, crc64nvme(chunk, crc)
    for at in range(0, footer.pad, B):
        demand(not any(exactly(body, min(footer.pad - at, B))), "the padding is not zero")
    demand(exactly(body, len(footer.sealed) + 32) == footer.sealed + footer.end and not body.read(1), "the object changed while it was read")
    demand(footer.crc64 in (None, crc), "the plaintext has another checksum")
    yield held

# Where sealed bytes and keys come from; docs/KEYRING.md.
class File:
    def __init__(self, path, envelope, entry):
        self.file, self.envelope, self.entry = open(path, "rb"), envelope, entry
        self.size = self.file.seek(0, os.SEEK_END)
    def tail(self, length):
        self.file.seek(max(0, self.size - length))
        return exactly(self.file, length)
    def body(self):
        self.file.seek(0)
        return self.file

class Bucket:
    def __init__(self, s3, bucket, key, version=None):
        self.s3, self.name = s3, {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
        head = self.s3.head_object(**self.name)
        self.size, self.envelope, self.entry = head["ContentLength"], *map(head["Metadata"].get, ("ciphergate", "ciphergate-meta"))
        self.name["IfMatch"] = head["ETag"]  # whatever follows is of this object or fails
    def tail(self, length):
        return exactly(self.s3.get_object(**self.name, Range=f"bytes={self.size - length}-{self.size - 1}")["Body"], length)
    def body(self):
        return self.s3.get_object(**self.name)["Body"]

def by_keyring(ring, envelope, context):
    masters, blob = {entry["version"]: bytes.fromhex(entry["secret"]) for entry in ring["keys"]}, envelope.blob
    version = int.from_bytes(blob[1:5])
    demand(len(blob) == 101 and blob[0] == 1 and version in masters, f"the wrapped key is not a keyring's, or version {version} is missing")
    c, prk = listed([envelope.label.encode(), *words_of(context)]), extract(b"cg keyring 1", masters[version])
    demand(hmac.compare_digest(expand(prk, b"id", 8), blob[5:13]), "the key was wrapped by another keyring")
    demand(hmac.compare_digest(expand(prk, b"context" + c, 8), blob[13:21]), "the key was wrapped for another object")
    return unseal(ChaCha20Poly1305, expand(prk, b"wrap" + blob[:53] + c), blob[53:], "the wrapped key was altered")
def by_transit(place, envelope, context):
    """docs/TRANSIT.md. `place` is https://HOST:PORT/v1/MOUNT/decrypt/KEY, the token is in BAO_TOKEN."""
    import urllib.request
    demand(re.fullmatch(rb"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]{80}", envelope.blob), "the wrapped key is not Transit's")
    bound = hashlib.sha256(b"ciphergate transit 1" + listed(words_of(context))).digest()
    question = json.dumps({"ciphertext": envelope.blob.decode(), "context": base64.b64encode(bound).decode()}).encode()
    headers = {"X-Vault-Token": os.environ["BAO_TOKEN"], "X-Vault-Request": "true", "X-Vault-Namespace": os.environ.get("BAO_NAMESPACE", "")}
    with urllib.request.urlopen(urllib.request.Request(place, question, headers), timeout=30) as answer:
        return base64.b64decode(json.load(answer)["data"]["plaintext"], validate=True)
def x_of(envelope, scope, key, options):
    """X by whatever the command line offers for the envelope's label, and by nothing that the bucket names."""
    if envelope.customer or options.customer_key:
        demand(envelope.customer and options.customer_key, "this object and --customer-key do not go together")
        c = open(options.customer_key, "rb").read(64)
        return c if len(c) == 32 else base64.b64decode(c.strip(), validate=True)
    for path in options.keyring:
        ring = tomllib.loads(open(path, encoding="utf-8").read())
        demand(ring.keys() == {"format", "label", "primary", "keys"} and ring["format"] == 1, f"{path} is no keyring")
        if ring["label"] == envelope.label:
            return by_keyring(ring, envelope, envelope.context(scope, key))
    if place := dict(pair.split("=", 1) for pair in options.transit).get(envelope.label):
        return by_transit(place, envelope, envelope.context(scope, key))
    arn = dict(pair.split("=", 1) for pair in options.kms).get(envelope.label)
    demand(arn, f"no key is given for the label {envelope.label}")
    import boto3
    kms = boto3.client("kms", region_name=arn.split(":")[3], endpoint_url=options.kms_endpoint)
    answer = kms.decrypt(CiphertextBlob=envelope.blob, KeyId=arn, EncryptionContext=envelope.context(scope, key))
    demand(answer["KeyId"] == arn, "KMS answered with another key")
    return answer["Plaintext"]

def inspect(envelope, source):
    shown = {name: value.hex() if isinstance(value, bytes) else value for name, value in vars(envelope).items() if name != "head"}
    parts, footer = struct.unpack(">8xII16x", source.tail(32))
    shown |= {"stored_bytes": source.size, "plaintext_bytes": plain_len(source.size), "parts": parts, "footer_bytes": footer}
    print(json.dumps(shown, indent=2))

def write(pieces, path):
    """A file has its name when everything verified; until then it lies beside it under another."""
    if path == "-":
        return sys.stdout.buffer.writelines(pieces), sys.stdout.buffer.flush()
    out = tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or ".", prefix=".cg1-", delete=False)
    try:
        with out:
            out.writelines(pieces)
            out.flush()
            os.fsync(out.fileno())
        os.replace(out.name, path)
    except BaseException:
        os.unlink(out.name)
        raise

def main():
    about, _, more = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="s3://BUCKET/KEY as the store names them, or a file of sealed bytes")
    parser.add_argument("-o", "--out", default="-", help="where plaintext goes; standard output without it")
    parser.add_argument("--inspect", action="store_true", help="print envelope and sizes, as they are claimed, and open nothing")
    parser.add_argument("--metadata", action="store_true", help="print content headers and user metadata that lie sealed beside it")
    parser.add_argument("--envelope", help="of a file: the text of x-amz-meta-ciphergate. Of an object: the one in its rewrap record (section 16)")
    parser.add_argument("--entry", help="of a file: the text of x-amz-meta-ciphergate-meta, where there is one")
    parser.add_argument("--scope", help="the bucket as Ciphergate's clients name it, or its configured scope (default: BUCKET)")
    parser.add_argument("--key", help="the object's key as Ciphergate's clients name it (default: KEY)")
    parser.add_argument("--keyring", action="append", default=[], metavar="FILE", help="a keyring file; may be repeated")
    parser.add_argument("--kms", action="append", default=[], metavar="LABEL=ARN", help="the KMS key behind a label; may be repeated")
    parser.add_argument("--transit", action="append", default=[], metavar="LABEL=URL", help="likewise https://HOST:PORT/v1/MOUNT/decrypt/KEY")
    parser.add_argument("--customer-key", metavar="FILE", help="the client's own key (SSE-C): 32 bytes, or their Base64")
    parser.add_argument("--version-id", help="a version of the object; the latest without it")
    for name, text in ("--endpoint", "of a store that is not AWS"), ("--region", "of the bucket"), ("--kms-endpoint", "of a KMS that is not AWS"):
        parser.add_argument(name, help=text)
    options = parser.parse_args()
    try:
        bucket, _, key = options.source.removeprefix("s3://").partition("/")
        if options.source.startswith("s3://"):
            import boto3
            s3 = boto3.client("s3", endpoint_url=options.endpoint, region_name=options.region)
            source = Bucket(s3, bucket, key, options.version_id)
            options.scope, options.key = options.scope or bucket, options.key or key
        else:
            source = File(options.source, options.envelope, options.entry)
        own = Envelope(source.envelope)
        envelope = Envelope(options.envelope) if options.envelope else own  # another one of the same key opens as well: section 16
        demand(envelope.commit == own.commit and envelope.seals_metadata == own.seals_metadata, "this envelope is not one of the object")
        if options.inspect:
            return inspect(envelope, source)
        demand(options.scope and options.key, "a file needs --scope and --key")
        prk = envelope.open(x_of(envelope, options.scope, options.key, options), options.scope, options.key)
        beside, pieces = metadata(own, prk, source.entry), plaintext(envelope.suite, prk, envelope.multipart, source)
        write([json.dumps(beside, indent=2).encode() + b"\n"] if options.metadata else pieces, options.out)
    except Exception as failure:  # whatever it is, nothing unverified has left
        sys.exit(f"cg1: {type(failure).__name__}: {failure}")

if __name__ == "__main__":
    main()
