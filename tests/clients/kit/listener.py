"""A store that keeps nothing and writes down what it is asked."""

import http.server
import threading


class Listener:
    def __init__(self):
        self.seen, self.bodies, self.refuse = [], [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:
                    return
                if self.path.split("?")[0] != "/":  # ListBuckets is how a gateway finds out whether it is ready
                    outer.seen.append({name.lower(): value for name, value in self.headers.items()})
                    outer.bodies.append(body)
                status, document = outer.refuse.pop(0) if outer.refuse and self.command == "PUT" else (200, b"")
                self.send_response(status)
                self.send_header("ETag", '"0123456789abcdef0123456789abcdef"')
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
