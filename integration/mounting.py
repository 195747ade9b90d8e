# SPDX-License-Identifier: MIT
"""What tests of `wfe-artifactfs mount` stand on. They need no daemon."""

import bz2
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time

from harness import IntegrationTest


def mounts_below(path):
    """The mount points at and below a path."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        points = [line.split(" ")[4] for line in mounts]
    return [point for point in points if point == path or point.startswith(path + "/")]


def wait_until(condition, timeout_s=20):
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class MountTest(IntegrationTest):
    uses_daemon = False

    def setUp(self):
        super().setUp()
        self.mountpoint = self.path("mnt")
        os.mkdir(self.mountpoint)
        self.cache = self.path("cache")
        self.addCleanup(self.assert_nothing_mounted)

    def mount_command(self, *arguments):
        return [self.session.artifactfs, "mount", "--cache", self.cache, *arguments]

    def mount(self, *arguments, env=None, timeout=60):
        """Mounts in the background, on self.mountpoint. Returns that."""
        process = self.try_mount(*arguments, self.mountpoint, env=env, timeout=timeout)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.addCleanup(self._remove_mount, self.mountpoint)
        return self.mountpoint

    def try_mount(self, *arguments, env=None, timeout=60):
        """Runs the command, which may fail; the mount point is the last argument."""
        return self._run(self.mount_command(*arguments), env, b"", timeout)

    def start_mount(self, *arguments):
        """Mounts in the foreground, on self.mountpoint. Returns the process; its stderr is a pipe."""
        process = subprocess.Popen(
            self.mount_command("-f", *arguments, self.mountpoint), env=self.environment,
            cwd=self.tmp, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        self.addCleanup(self._end, process)
        self.addCleanup(self._remove_mount, self.mountpoint)
        self.assertTrue(wait_until(
            lambda: self.mountpoint in mounts_below(self.tmp) or process.poll() is not None))
        self.assertIsNone(process.poll(), "it ended")
        return process

    def unmount(self, path=None):
        subprocess.run(["umount", path or self.mountpoint], check=True)

    def end_mount(self, process, number=signal.SIGTERM):
        """Ends a mount in the foreground by a signal, which must be its good end."""
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, stderr)
        self.assertEqual(mounts_below(self.tmp), [])
        return stderr.decode(errors="replace")

    @staticmethod
    def _remove_mount(path):
        subprocess.run(["umount", "--lazy", "--quiet", path], check=False,
                       stderr=subprocess.DEVNULL)

    def in_mount(self, *parts):
        return os.path.join(self.mountpoint, *parts)

    def read(self, *parts):
        with open(self.in_mount(*parts), "rb") as file:
            return file.read()

    def volume(self):
        """What volume.json says, by artifact."""
        artifacts = json.loads(self.read(".wfe", "volume.json"))["artifacts"]
        return {artifact["name"]: artifact for artifact in artifacts}

    def artifact(self):
        """What volume.json says of the only artifact."""
        (artifact,) = self.volume().values()
        return artifact

    def wait_scanned(self):
        """Waits until nothing is scanned any more, and returns volume()."""
        self.assertTrue(wait_until(
            lambda: all(artifact["state"] != "scanning" for artifact in self.volume().values())))
        return self.volume()

    def archive(self, name, folder, *options):
        """An archive of the folder's contents, in the form that its name tells."""
        path = self.path(name)
        subprocess.run(["bsdtar", "-caf", path, *options, "-C", folder, "."], check=True)
        return path

    def slow_archive(self, name, before, middle_mib, after=None):
        """A tar.bz2 of files {name: content}, with a file `middle` of zeros among them, that takes
        long to decode and no time to make: all of the zeros are one stream, over and over."""
        def part(files, size=None):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as tar:
                for file_name, content in files.items():
                    info = tarfile.TarInfo(file_name)
                    info.size = len(content) if size is None else size
                    tar.addfile(info, io.BytesIO(content) if size is None else None)
                return out.getvalue()[:tar.offset]

        mebibyte = bz2.compress(bytes(1 << 20))
        return self.write(name, bz2.compress(part(before) + part({"middle": b""}, middle_mib << 20)) +
                          mebibyte * middle_mib + bz2.compress(part(after or {}) + bytes(10240)))

    def assert_nothing_mounted(self):
        """No mount is left, no process that served one, and no temporary file in the cache."""
        self.assertEqual(mounts_below(self.tmp), [], "still mounted")
        self.assertTrue(wait_until(lambda: not self._mount_processes()), "still running")
        if os.path.isdir(self.cache):
            left = [name for name in os.listdir(self.cache) if not name.endswith(".idx")]
            self.assertEqual(left, [])

    @staticmethod
    def spooled(pid):
        """Bytes in files without a name that the process has open."""
        folder = f"/proc/{pid}/fd"
        return sum(os.stat(os.path.join(folder, number)).st_size for number in os.listdir(folder)
                   if os.readlink(os.path.join(folder, number)).endswith(" (deleted)"))

    def _mount_processes(self):
        found = []
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if entry.isdigit() and os.fsencode(self.mountpoint) in file.read().split(b"\0"):
                        found.append(entry)
            except OSError:
                continue
        return found

    def mount_tmpfs(self, name, *options):
        """A small file system of the test's own."""
        path = self.path(name)
        os.mkdir(path)
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", path], check=True)
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        self.addCleanup(self._remove_mount, path)
        return path
