# SPDX-License-Identifier: MIT
"""Sockets in front of a daemon's, as ssh, Lima or socat make them."""

import os
import socket
import threading


class Forward:
    """Passes what comes to `listener` on to `target`, until close(): the path of a Unix socket, or
    host and port."""

    def __init__(self, listener, target):
        self.target = target
        self._listener = listener
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                daemon = self._connect()
            except OSError:
                client.close()
                continue
            for source, sink, see in ((client, daemon, self.see_sent), (daemon, client, None)):
                threading.Thread(target=self._copy, args=(source, sink, see), daemon=True).start()

    def see_sent(self, data):
        """Gets what clients send before the daemon does."""

    def _connect(self):
        if isinstance(self.target, tuple):
            return socket.create_connection(self.target)
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(self.target)
        return daemon

    @staticmethod
    def _copy(source, sink, see=None):
        try:
            while data := source.recv(1 << 18):
                if see:
                    see(data)
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


class TcpForward(Forward):
    """A TCP port, as socat makes one in a virtual machine."""

    def __init__(self, target):
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        super().__init__(listener, target)


class UnixForward(Forward):
    """A Unix socket that looks like a local daemon's."""

    def __init__(self, path, target):
        self.path = path
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        super().__init__(listener, target)

    def close(self):
        super().close()
        os.unlink(self.path)
