"""Requests written byte by byte: what no SDK sends, signed as S3 wants it.

`send` writes the body exactly as given and reads one answer. The chunk functions make the aws-chunked framing, with hooks to spoil it.
"""

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import re
import ssl
import struct
import urllib.parse
import zlib

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class _Auth(S3SigV4Auth):
    """botocore's signer with the payload hash of our choice."""

    def __init__(self, credentials, region, payload_hash):
        super().__init__(credentials, "s3", region)
        self._payload_hash = payload_hash

    def payload(self, request):
        return self._payload_hash


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def code(self):
        """The S3 error code of an error answer."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found.group(1).decode() if found else None

    def __repr__(self):
        return f"{self.status} {self.code or ''} {self.body[:300]!r}"


class Signed:
    """A signed request: `headers` to send and what chunk signatures hang on."""

    def __init__(self, site, method, target, headers, payload_hash):
        self.site, self.method, self.target = site, method, target
        request = AWSRequest(method=method, url=site.endpoint + target, headers=dict(headers))
        auth = _Auth(Credentials(site.access_key, site.secret_key), site.region, payload_hash)
        auth.add_auth(request)
        self.headers = {name: value for name, value in request.headers.items()}
        self.signature = re.search(r"Signature=([0-9a-f]{64})", self.headers["Authorization"]).group(1)
        self.date = self.headers["X-Amz-Date"]
        self.scope = f"{self.date[:8]}/{site.region}/s3/aws4_request"

    def sign(self, text):
        key = b"AWS4" + self.site.secret_key.encode()
        for part in (self.date[:8], self.site.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def target(bucket, key, query=""):
    path = f"/{bucket}/" + urllib.parse.quote(key, safe="/-_.~")
    return f"{path}?{query}" if query else path


def connect(site, timeout=30):
    parts = urllib.parse.urlsplit(site.endpoint)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=site.tls_context())
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)


def start(connection, method, target, headers):
    """Write the head of a request, and nothing that http.client would add by itself."""
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        if name.lower() != "host":
            connection.putheader(name, value)
    connection.endheaders()


def finish(connection, method="PUT"):
    response = connection.getresponse()
    return Answer(response, response.read())


def send(site, method, target, headers, body=b"", half_close=False, timeout=30):
    """One exchange. None when the server broke the connection without an answer."""
    with contextlib.closing(connect(site, timeout)) as connection:
        try:
            start(connection, method, target, headers)
            if body:
                connection.send(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the body was through: the answer may still be there
        if half_close:
            connection.sock.shutdown(1)
        try:
            return finish(connection)
        except (http.client.BadStatusLine, http.client.IncompleteRead, ConnectionError, ssl.SSLError):
            return None


def put(site, bucket, key, body, payload_hash=UNSIGNED, headers=None, length=None, **options):
    """A plain PUT whose declared length and payload hash may be lies."""
    headers = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
    signed = Signed(site, "PUT", target(bucket, key), headers, payload_hash)
    return send(site, "PUT", signed.target, signed.headers, body, **options)


def pieces(body, size=65536):
    return [body[i : i + size] for i in range(0, len(body), size)]


def signed_chunks(signed, chunks, final=True, spoil=None, trailer=None, spoil_trailer=False):
    """aws-chunked with chunk signatures. `spoil(index, data) -> data` changes a chunk after it was signed."""
    out, previous = bytearray(), signed.signature
    for index, data in enumerate([*chunks, b""] if final else chunks):
        text = "\n".join(
            ["AWS4-HMAC-SHA256-PAYLOAD", signed.date, signed.scope, previous, EMPTY_SHA256, hashlib.sha256(data).hexdigest()]
        )
        previous = signed.sign(text)
        if spoil:
            data = spoil(index, data)
        out += f"{len(data):x};chunk-signature={previous}\r\n".encode() + data + (b"\r\n" if data or not trailer else b"")
    if trailer:
        lines = "".join(f"{name}:{value}\n" for name, value in trailer.items())
        hashed = hashlib.sha256(lines.encode()).hexdigest()
        signature = signed.sign("\n".join(["AWS4-HMAC-SHA256-TRAILER", signed.date, signed.scope, previous, hashed]))
        if spoil_trailer:
            signature = "0" * 64
        out += "".join(f"{name}:{value}\r\n" for name, value in trailer.items()).encode()
        out += f"x-amz-trailer-signature:{signature}\r\n\r\n".encode()
    return bytes(out)


def unsigned_chunks(chunks, trailer, final=True, end=True):
    out = bytearray()
    for data in chunks:
        out += f"{len(data):x}\r\n".encode() + data + b"\r\n"
    if final:
        out += b"0\r\n" + "".join(f"{name}:{value}\r\n" for name, value in trailer.items()).encode()
        if end:
            out += b"\r\n"
    return bytes(out)


def put_chunked(site, bucket, key, frame, payload_hash, decoded_length, headers=None, cut=None, **options):
    """A PUT in aws-chunked framing; `frame(signed)` makes the body, `cut` keeps its first bytes only."""
    headers = {"Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(decoded_length), **(headers or {})}
    # The framing's length depends on no value, so a dry run gives the Content-Length that has to be signed.
    length = len(frame(Signed(site, "PUT", target(bucket, key), headers, payload_hash)))
    headers["Content-Length"] = str(length)
    signed = Signed(site, "PUT", target(bucket, key), headers, payload_hash)
    body = frame(signed)
    return send(site, "PUT", signed.target, signed.headers, body if cut is None else body[:cut], **options)


def crc32(body):
    return base64.b64encode(struct.pack(">I", zlib.crc32(body))).decode()


def b64digest(name, body):
    return base64.b64encode(hashlib.new(name, body).digest()).decode()


def presign(site, method, bucket, key, expires=300, at=None, query=None, headers=None):
    """A presigned URL by hand, so that its date can lie in the past."""
    at = at or datetime.datetime.now(datetime.timezone.utc)
    date = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{date[:8]}/{site.region}/s3/aws4_request"
    host = urllib.parse.urlsplit(site.endpoint).netloc
    signed_headers = {"host": host, **(headers or {})}
    parameters = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{site.access_key}/{scope}",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": ";".join(sorted(signed_headers)),
        **(query or {}),
    }
    encoded = "&".join(f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}" for k, v in sorted(parameters.items()))
    canonical = "\n".join(
        [method, target(bucket, key), encoded]
        + [f"{k}:{v}" for k, v in sorted(signed_headers.items())]
        + ["", ";".join(sorted(signed_headers)), UNSIGNED]
    )
    signing = b"AWS4" + site.secret_key.encode()
    for part in scope.split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    return f"{site.endpoint}{target(bucket, key)}?{encoded}&X-Amz-Signature={signature}"
