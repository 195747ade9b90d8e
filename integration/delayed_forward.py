# SPDX-License-Identifier: MIT
"""A TCP port in front of a Unix socket behind which everything takes its time, as on a long line.

It is a process of its own, so that its work is not the measuring one's.
"""

import multiprocessing
import queue
import socket
import threading
import time

READ_BYTES = 256 * 1024
QUEUED_READS = 64  # as much as such a line would hold


class DelayedForward:
    """delay_s: in each direction. sent_bytes() is what clients sent."""

    def __init__(self, target, delay_s):
        self._sent = multiprocessing.Value("q", 0)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._process = multiprocessing.Process(
            target=serve, args=(listener, target, delay_s, self._sent), daemon=True)
        self._process.start()
        listener.close()

    def address(self):
        return f"tcp://127.0.0.1:{self.port}"

    def sent_bytes(self):
        return self._sent.value

    def close(self):
        self._process.kill()
        self._process.join()


def serve(listener, target, delay_s, sent):
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(target)
        copy(client, daemon, delay_s, sent)
        copy(daemon, client, delay_s, None)


def copy(source, sink, delay_s, counter):
    line = queue.Queue(QUEUED_READS)
    threading.Thread(target=take, args=(source, line, delay_s, counter), daemon=True).start()
    threading.Thread(target=give, args=(line, sink), daemon=True).start()


def take(source, line, delay_s, counter):
    data = True
    while data:
        try:
            data = source.recv(READ_BYTES)
        except OSError:
            data = b""
        if counter:
            with counter.get_lock():
                counter.value += len(data)
        line.put((time.monotonic() + delay_s, data))


def give(line, sink):
    data = True
    while data:
        due, data = line.get()
        time.sleep(max(due - time.monotonic(), 0))
        try:
            if data:
                sink.sendall(data)
            else:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
