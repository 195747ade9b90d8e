# SPDX-License-Identifier: MIT
"""A proxy before a registry that counts requests, and fails as it is told."""

import http.client
import http.server
import threading


# How long an end waits for its server to see that it is to stop.
POLL_S = 0.02


def serve(server):
    """In a thread, until its shutdown()."""
    threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True).start()


class Proxy:
    """Serves on a loopback port until close(). `requests` are (method, path, headers) in their
    order. `fault` is called with each request's handler; when it returns true it has answered."""

    def __init__(self, target, fault=None):
        self.target = target
        self.fault = fault
        self.requests = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with proxy._lock:
                    proxy.requests.append((self.command, self.path, dict(self.headers)))
                if not (proxy.fault and proxy.fault(self)):
                    proxy.forward(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_):
                pass

            def answer(self, status, headers=(), body=b""):
                """A HEAD's Content-Length, of what it does not send, is among the headers."""
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                if self.command != "HEAD" or "Content-Length" not in dict(headers):
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A client that goes away is none of the test's business."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        serve(self.server)

    def fetch(self, handler):
        """What the target answers to a request: (status, headers, body)."""
        connection = http.client.HTTPConnection(self.target, timeout=30)
        headers = {name: value for name, value in handler.headers.items()
                   if name.lower() not in ("host", "connection")}
        connection.request(handler.command, handler.path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        dropped = ["transfer-encoding", "connection"]
        if handler.command != "HEAD":
            dropped.append("content-length")
        kept = {name: value for name, value in response.getheaders()
                if name.lower() not in dropped}
        return response.status, kept, body

    def forward(self, handler):
        handler.answer(*self.fetch(handler))

    def paths(self, part):
        return [path for _, path, _ in self.requests if part in path]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
