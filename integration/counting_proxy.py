# SPDX-License-Identifier: MIT
"""A socket in front of the daemon's that counts what goes through it."""

import os
import socket
import threading


class CountingProxy:
    """Serves connections to `path` until close(); sent_bytes is what clients sent."""

    def __init__(self, path, target):
        self.path = path
        self.target = target
        self.sent_bytes = 0
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self.target)
            for source, sink, counted in ((client, daemon, True), (daemon, client, False)):
                threading.Thread(target=self._copy, args=(source, sink, counted),
                                 daemon=True).start()

    def _copy(self, source, sink, counted):
        try:
            while data := source.recv(1 << 18):
                if counted:
                    with self._lock:
                        self.sent_bytes += len(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self._listener.close()
        os.unlink(self.path)
