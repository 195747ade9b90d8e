# SPDX-License-Identifier: MIT
"""Archives made for tests, and what tests of mounted archives stand on."""

import hashlib
import io
import json
import os
import random
import signal
import stat
import subprocess
import tarfile
import tempfile
import time

from mounting import MountTest, mounts_below
from trees import differences, tree_of

DEADLINE_S = 60
FILTERS = {".gz": ["gzip", "-nc"], ".zst": ["zstd", "-qc"], ".xz": ["xz", "-c"],
           ".bz2": ["bzip2", "-c"], ".lz4": ["lz4", "-qc"]}


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, **options)


def tar_member(name, data=b"", kind=tarfile.REGTYPE, **fields):
    member = tarfile.TarInfo(name)
    member.type = kind
    member.size = len(data)
    member.mtime = 1_500_000_000
    for key, value in fields.items():
        setattr(member, key, value)
    return member, data


def write_tar(path, members, form=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w", format=form, encoding="utf-8",
                      errors="surrogateescape") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data) if data else None)


def text(seed, size):
    """Bytes that are compressible, but nowhere the same."""
    chance = random.Random(seed)
    words = [b"%x" % chance.getrandbits(24) for _ in range(500)]
    parts, length = [], 0
    while length < size:
        part = b" ".join(chance.choices(words, k=200)) + b"\n"
        parts.append(part)
        length += len(part)
    return b"".join(parts)[:size]


def digest(data):
    return hashlib.sha256(data).hexdigest()


class ArchiveTest(MountTest):
    """Mounts several archives, each in the foreground on a mount point of its own."""

    def setUp(self):
        super().setUp()
        self.serving = {}

    def serve(self, archive, *options, cache=None):
        """Returns the mount point and the process."""
        point = self.path(f"mnt-{len(self.serving)}")
        os.mkdir(point)
        with open(point + ".log", "wb") as log:
            process = subprocess.Popen(
                [self.session.artifactfs, "mount", "-f", "--cache", cache or self.cache, *options,
                 archive, point], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log)
        self.serving[point] = process
        self.addCleanup(self.stop, point)
        deadline = time.monotonic() + DEADLINE_S
        while point not in mounts_below(self.tmp):
            self.assertIsNone(process.poll(), f"{archive}: {self.log_of(point)}")
            self.assertLess(time.monotonic(), deadline, f"{archive} does not get mounted")
            time.sleep(0.002)
        return point, process

    def stop(self, point):
        process = self.serving[point]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self.fail(f"the mount does not end: {self.log_of(point)}")
        self._remove_mount(point)

    @staticmethod
    def log_of(point):
        with open(point + ".log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def volume_of(self, point):
        """What volume.json says of the one artifact, once the scan is over."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            with open(os.path.join(point, ".wfe", "volume.json"), encoding="utf-8") as file:
                (artifact,) = json.load(file)["artifacts"]
            if artifact["state"] != "scanning":
                return artifact
            self.assertLess(time.monotonic(), deadline, "the scan does not end")
            time.sleep(0.01)

    def extract(self, archive):
        """What bsdtar makes of it, and whether it was content with it."""
        directory = tempfile.mkdtemp(dir=self.tmp)
        process = subprocess.run(["bsdtar", "-xpf", archive, "-C", directory, "--numeric-owner",
                                  "--xattrs"], check=False, capture_output=True,
                                 env={**os.environ, "LC_ALL": "C.UTF-8"})
        return directory, process.returncode == 0

    def assert_extracted(self, began_ns, expected, point):
        """The mounted tree is the extracted one. What bsdtar made without an entry has the moment's
        time, and the attributes that say nothing."""
        want, have = tree_of(expected), tree_of(point)
        # It leaves the folder in which it extracts as it is.
        del want[b""], have[b""]
        for name, entry in want.items():
            if stat.S_ISDIR(entry.kind) and entry.mtime_ns >= began_ns:
                want[name] = entry._replace(mode=0o755, mtime_ns=0, uid=0, gid=0)
            elif stat.S_ISLNK(entry.kind) and name in have:
                # Linux has no modes of links.
                want[name] = entry._replace(mode=have[name].mode)
        self.assertEqual(differences(want, have), [])

    def check(self, archive):
        """Mounts it, and compares it with what is extracted; returns the mount point."""
        began_ns = time.time_ns() - 10**7
        expected, is_good = self.extract(archive)
        self.assertTrue(is_good, f"bsdtar refuses {archive}")
        # The second mount has the index of the first one, where such archives have one.
        for _ in range(2):
            point, process = self.serve(archive)
            self.assert_extracted(began_ns, expected, point)
            self.assertEqual(self.volume_of(point)["state"], "good", archive)
            self.assertIsNone(process.poll())
        return point

    def contents(self, directory):
        """Everything in the tree is looked at, and files read: path -> digest, or the errno."""
        found = {}
        root = os.fsencode(directory)
        for folder, folders, names in os.walk(root):
            for name in folders + names:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                os.listxattr(path, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    os.readlink(path)
                elif stat.S_ISREG(status.st_mode):
                    found[os.path.relpath(path, root)] = self.digest_or_errno(path)
        return found

    @staticmethod
    def digest_or_errno(path):
        hasher = hashlib.sha256()
        try:
            with open(path, "rb", buffering=0) as file:
                while data := file.read(1 << 20):
                    hasher.update(data)
        except OSError as error:
            return error.errno
        return hasher.hexdigest()

    def peak_mib(self, process):
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) // 1024
        return self.fail("no VmHWM")
