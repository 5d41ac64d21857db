"""Run LocalStack's community core in this process: launcher.py DATA_DIR. start.sh sets the environment, stop.sh knows the process by
its argument. Some things have to be changed inside the process before the runtime starts.
"""

import functools
import os
import sys
import tempfile
import threading
import uuid

from twisted.internet import endpoints
from twisted.web import http


def bind_loopback_only(mark):
    """The host of GATEWAY_LISTEN is not passed on for IPv4: without this the server listens on every interface. And a port that is
    taken ends the process, which would otherwise stay without one; the file `mark` says that the port is ours."""
    init, listen = endpoints.TCP4ServerEndpoint.__init__, endpoints.TCP4ServerEndpoint.listen

    def init_on_loopback(self, reactor, port, backlog=50, interface=""):
        init(self, reactor, port, backlog, "127.0.0.1")

    def bound(port):
        open(mark, "w").close()
        return port

    def not_bound(failure):
        print(failure.getErrorMessage(), file=sys.stderr, flush=True)
        os._exit(1)

    endpoints.TCP4ServerEndpoint.__init__ = init_on_loopback
    endpoints.TCP4ServerEndpoint.listen = lambda self, factory: listen(self, factory).addCallbacks(bound, not_bound)


def keep_body_of_a_lost_connection():
    """When a client hangs up between the end of its request and the answer, Twisted closes the request body although a worker
    thread still reads it. The S3 store then keeps the key locked for good or stores a torn object. With the body left open
    the request runs to its end, as it would on AWS; the garbage collector closes the file."""
    connection_lost = http.Request.connectionLost

    def connection_lost_body_open(self, reason):
        body, self.content = self.content, None
        try:
            connection_lost(self, reason)
        finally:
            self.content = body

    http.Request.connectionLost = connection_lost_body_open


def keep_object_bodies_in(folder):
    """The S3 store writes below one fixed folder of /tmp, where two servers with a bucket of the same name remove each other's files."""
    from localstack.services.s3.storage.ephemeral import EphemeralS3ObjectStore

    init = EphemeralS3ObjectStore.__init__
    EphemeralS3ObjectStore.__init__ = lambda self, root_directory=None: init(self, folder)


def one_complete_at_a_time():
    """Two CompleteMultipartUpload of one upload write the same file at the same time, and the second one goes on when the parts have been
    closed by the first: a torn object, where S3 has one whole object and a NoSuchUpload."""
    from localstack.services.s3.provider import S3Provider

    complete, lock = S3Provider.complete_multipart_upload, threading.Lock()

    @functools.wraps(complete)
    def complete_alone(self, *args, **kwargs):
        with lock:
            return complete(self, *args, **kwargs)

    S3Provider.complete_multipart_upload = complete_alone


def uuid5_of_bytes():
    """LocalStack's KMS hands bytes to uuid5, which Python takes from 3.12 on."""
    if sys.version_info >= (3, 12):
        return
    uuid5 = uuid.uuid5

    def uuid5_with_bytes(namespace, name):
        if isinstance(name, bytes):
            import hashlib

            return uuid.UUID(bytes=hashlib.sha1(namespace.bytes + name).digest()[:16], version=5)
        return uuid5(namespace, name)

    uuid.uuid5 = uuid5_with_bytes


if __name__ == "__main__":
    tempfile.tempdir = os.path.join(sys.argv[1], "tmp")  # LocalStack warns about TMPDIR
    os.setsid()  # Ctrl-C in the terminal that started it must not reach it before stop.sh does
    bind_loopback_only(os.path.join(sys.argv[1], "listening"))
    keep_body_of_a_lost_connection()
    keep_object_bodies_in(os.path.join(tempfile.tempdir, "s3"))
    one_complete_at_a_time()
    uuid5_of_bytes()

    from localstack.runtime.main import main

    main()
