# SPDX-License-Identifier: MIT
"""A socket in front of the daemon's that counts what goes through it."""

import threading

from forwards import UnixForward


class CountingProxy(UnixForward):
    """Serves connections to `path` until close(); sent_bytes is what clients sent."""

    def __init__(self, path, target):
        self.sent_bytes = 0
        self._lock = threading.Lock()
        super().__init__(path, target)

    def see_sent(self, data):
        with self._lock:
            self.sent_bytes += len(data)
