# SPDX-License-Identifier: MIT
"""A TCP port in front of a daemon's socket that is cut at a chosen request, and comes back.

It reads as much of HTTP/2 (RFC 9113, section 4.1) as it takes to count requests: each begins with the
client's HEADERS frame, and its answer is over with the server's that ends the stream.
"""

import socket
import threading

PREFACE_BYTES = 24
FRAME_HEADER_BYTES = 9
HEADERS = 1
END_STREAM = 1

WORK_S = 0.01


class Frames:
    """What comes from one end, a frame at a time: (bytes, type, flags, stream)."""

    def __init__(self, source, preface_bytes):
        self._source = source
        self._preface_bytes = preface_bytes

    def _read(self, count):
        data = bytearray()
        while len(data) < count:
            more = self._source.recv(count - len(data))
            if not more:
                return None
            data += more
        return bytes(data)

    def __iter__(self):
        if self._preface_bytes:
            preface = self._read(self._preface_bytes)
            if preface is None:
                return
            yield preface, None, 0, 0
        while header := self._read(FRAME_HEADER_BYTES):
            payload = self._read(int.from_bytes(header[:3], "big"))
            if payload is None:
                return
            stream = int.from_bytes(header[5:], "big") & 0x7FFFFFFF
            yield header + payload, header[3], header[4], stream


class CutForward:
    """requests, sent_bytes: what has come from clients since the last reset(); cuts: how often it was
    cut since."""

    def __init__(self, target, host="127.0.0.1"):
        self.target = target
        self.host = host
        self.port = 0
        self.requests = self.cuts = self.sent_bytes = 0
        self._lock = threading.RLock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets = set()
        self._number = self._at = self._bytes = None
        self._away_s = 0.0
        self._timer = None
        self.listen()

    def address(self):
        return f"tcp://{self.host}:{self.port}"

    def reset(self, number=None, at="request", sent_bytes=None, away_s=0.3):
        """Forget what was counted, and be cut for a while at the request of that number (from 1): it
        does not reach the daemon ("request"), its "answer" does not reach us, or the daemon is at
        "work" on it. Or once so many bytes have been sent."""
        if self._timer:
            self._timer.join()
        with self._lock:
            self.requests = self.cuts = self.sent_bytes = 0
            self._number, self._at, self._away_s = number, at, away_s
            self._bytes = sent_bytes

    def cut(self, away_s=None):
        """Close all connections; after away_s (None: never) new ones are served again."""
        with self._lock:
            self.cuts += 1
            self._number = self._bytes = None
            # A thread that waits for it would keep the port.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._drop()
            if away_s is not None:
                self._timer = threading.Timer(away_s, self.listen)
                self._timer.daemon = True
                self._timer.start()

    def freeze(self):
        """Take and give nothing any more, without a word, until thaw()."""
        self._flowing.clear()

    def thaw(self):
        self._flowing.set()

    def close(self):
        with self._lock:
            if self._timer:
                self._timer.cancel()
            self._listener.close()
            self._drop()
        self.thaw()

    def _drop(self):
        for end in self._sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._sockets.clear()

    def listen(self):
        """Serve again, after cut(None)."""
        with self._lock:
            self._listener = socket.create_server((self.host, self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self.target)
            with self._lock:
                if listener is not self._listener or listener.fileno() < 0:
                    client.close()
                    daemon.close()
                    return
                self._sockets |= {client, daemon}
            numbers = {}
            for copy, source, sink in ((self._copy_requests, client, daemon),
                                       (self._copy_answers, daemon, client)):
                threading.Thread(target=self._run, args=(copy, source, sink, numbers),
                                 daemon=True).start()

    @staticmethod
    def _run(copy, source, sink, numbers):
        try:
            copy(source, sink, numbers)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _copy_requests(self, client, daemon, numbers):
        for data, kind, _, stream in Frames(client, PREFACE_BYTES):
            self._flowing.wait()
            with self._lock:
                if kind == HEADERS:
                    self.requests += 1
                    numbers[stream] = self.requests
                self.sent_bytes += len(data)
                is_due = kind == HEADERS and self.requests == self._number
                if is_due and self._at == "work":
                    threading.Timer(WORK_S, self.cut, (self._away_s,)).start()
                elif (is_due and self._at == "request") or (
                        self._bytes and self.sent_bytes >= self._bytes):
                    self.cut(self._away_s)
                    return
            daemon.sendall(data)

    def _copy_answers(self, daemon, client, numbers):
        for data, kind, flags, stream in Frames(daemon, 0):
            self._flowing.wait()
            if kind == HEADERS and flags & END_STREAM:
                with self._lock:
                    if self._at == "answer" and numbers.get(stream) == self._number:
                        self.cut(self._away_s)
                        return
            client.sendall(data)
