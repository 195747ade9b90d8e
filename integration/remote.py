# SPDX-License-Identifier: MIT
"""A daemon that shares nothing with us, as in a virtual machine, without one.

RemoteDaemon is a containerd in mount and PID namespaces of its own, whose root file system has
this machine's programs (/usr, read-only, and the containerd that is tested) and nothing else of it:
/tmp, /run, /var, /root and /home are others there, and our processes are not in its /proc. Only
kernel and network are the same. It ends with the process that started it, however that ends, and
leaves no mounts.

    daemon = RemoteDaemon(directory)          # shared=[...]: these are seen there, at the same path
    daemon.socket                             # its real socket, to be put behind a forward
    daemon.close()

RemoteTest is an IntegrationTest whose daemon is such a one, behind a Unix socket that looks local;
`tcp_address` is the same daemon behind a TCP port. One daemon serves all tests of a process. When
$WFE_CONTAINERD_ADDR is a TCP port, its daemon is taken instead, and none of its directories used.
"""

import os
import signal
import subprocess
import time
import urllib.parse

from forwards import TcpForward, UnixForward
from harness import IntegrationTest, Session, given_machine

CONFIG = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [{disabled}]
[grpc]
address = "/run/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/opt"
"""
DISABLED = (
    "grpc.v1.cri", "cri.v1.images", "cri.v1.runtime", "nri.v1.nri", "internal.v1.restart",
    "snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper",
    "snapshotter.v1.zfs", "snapshotter.v1.blockfile", "snapshotter.v1.erofs")

# As process 1 of its namespace it reaps shims.
START = r"""
set -eu
root=$1 image=$2
shift 2
mount --bind "$root" "$root"
cd "$root"
mkdir -p usr proc sys dev run tmp var/lib etc root old opt/containerd
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --bind "$(dirname "$(command -v containerd)")" opt/containerd
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then
        ln -sfn "$(readlink "/$name")" "$name"
    elif [ -d "/$name" ]; then
        mkdir -p "$name"
        mount --bind "/$name" "$name"
    fi
done
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
if [ -n "$image" ]; then
    mkdir -p var/lib/containerd
    mount -o loop "$image" var/lib/containerd
fi
for shared; do
    mkdir -p ".$shared"
    mount --bind "$shared" ".$shared"
done
pivot_root . old
cd /
umount -l /old
rmdir /old
PATH=/opt/containerd:$PATH
containerd --config /etc/containerd.toml --log-level warn 2>/var/log-of-containerd &
wait $!
"""


class RemoteDaemon:
    def __init__(self, directory, shared=(), disabled=DISABLED, image=""):
        """disabled: plugins that it does without. image: the file system that its data are on."""
        self.root = os.path.join(directory, "root")
        os.makedirs(os.path.join(self.root, "etc"))
        names = [f'"io.containerd.{name}"' for name in disabled]
        with open(os.path.join(self.root, "etc", "containerd.toml"), "w", encoding="ascii") as file:
            file.write(CONFIG.format(disabled=", ".join(names)))
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private",
             "--pid", "--fork", "--kill-child", "sh", "-c", START, "sh", self.root, image, *shared],
            stdin=subprocess.DEVNULL)
        try:
            self._await()
        except BaseException:
            self.close()
            raise

    def _await(self):
        deadline = time.monotonic() + 30
        while True:
            children = self._children()
            self.socket = f"/proc/{children[0]}/root/run/containerd.sock" if children else None
            if self.socket and subprocess.run(
                    ["ctr", "--address", self.socket, "version"], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the remote containerd did not come up")
            time.sleep(0.1)

    def _children(self):
        pid = self._process.pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                return file.read().split()
        except OSError:
            return []

    def pid(self):
        """Of the first process of its namespaces, as nsenter wants it."""
        return self.socket.split("/")[2]

    def path(self, path):
        """A path of its file system, as we can open it."""
        return f"/proc/{self.pid()}/root{path}"

    def close(self):
        """The namespace's first process is killed with its parent, and all others with it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class RemoteSession(Session):
    _current = None

    @classmethod
    def get(cls):
        if cls._current is None:
            cls._current = cls()
        return cls._current

    def __init__(self):
        self.remote = None
        self._forwards = []
        super().__init__()
        self.io_dir = None

    def new_namespace(self):
        """Cgroups are this machine's, so no other daemon's test may have the same."""
        return super().new_namespace() + "-remote"

    def _start_daemon(self):
        given = os.environ.get("WFE_CONTAINERD_ADDR", "")
        if given.startswith("tcp://"):
            self._use_daemon_at(given)
        else:
            self._start_own_daemon()

    def _use_daemon_at(self, address):
        url = urllib.parse.urlsplit(address)
        self.address = os.path.join(self.scratch, "containerd.sock")
        self._forwards = [UnixForward(self.address, (url.hostname, url.port))]
        self.tcp_address = address
        self.machine = given_machine()

    def _start_own_daemon(self):
        self.remote = RemoteDaemon(os.path.join(self.scratch, "remote"))
        self.address = os.path.join(self.scratch, "containerd.sock")
        self._forwards = [UnixForward(self.address, self.remote.socket),
                          TcpForward(self.remote.socket)]
        self.tcp_address = f"tcp://127.0.0.1:{self._forwards[1].port}"

    def close(self):
        for forward in self._forwards:
            forward.close()
        if self.remote:
            self.remote.close()
        super().close()


class RemoteTest(IntegrationTest):
    @classmethod
    def setUpClass(cls):
        cls.session = RemoteSession.get()

    def leaks_of_daemon(self):
        """Also the volumes, which are committed, and blobs that only a lease held."""
        found = super().leaks_of_daemon()
        client = self.session.client()
        return found + [f"volume: {name}" for is_committed in (False, True)
                        for name in client.snapshots(self.namespace, "native", is_committed)]

