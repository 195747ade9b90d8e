# SPDX-License-Identifier: MIT
"""Many steps, for long, and a gigabyte of output: everything is where it was before."""

import concurrent.futures
import hashlib
import json
import os
import socket
import struct
import subprocess
import time

from harness import IMAGE, IntegrationTest

SECONDS = int(os.environ.get("WFE_TEST_SOAK_SECONDS", "600"))
STEPS = 200
AT_ONCE = 16
# Of a daemon: connections that have ended are closed, and its own memory of them goes, in a while.
SETTLING_S = 60
SPARE_FILES = 4
GIGABYTE = 1 << 30


def step(name, **config):
    return {"name": name, "type": "containerd", "config": {"image": IMAGE, **config}}


def peak_kib(pid):
    """What the process had in memory at most, until now."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)


class Soak(IntegrationTest):
    def patience(self):
        return 10

    def setUp(self):
        super().setUp()
        self.need_this_machine("its daemon's files can't be counted")

    def daemon_pid(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.session.ctr_address())
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED,
                                                struct.calcsize("3i"))
        return struct.unpack("3i", credentials)[0]

    def open_files(self):
        return len(os.listdir(f"/proc/{self.daemon_pid()}/fd"))

    def mounts(self):
        """Of the daemon, and the tests'."""
        folders = os.path.dirname(self.session.ctr_address()), self.session.scratch
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return sorted(point for point in (line.split()[4] for line in file)
                          if point.startswith(folders))

    def committed(self):
        return sorted(self.session.client().snapshots(self.namespace, "overlayfs", True))

    def assert_all_is_as(self, files, mounts, committed):
        self.assert_nothing_left()
        deadline = time.monotonic() + SETTLING_S
        while self.open_files() > files + SPARE_FILES and time.monotonic() < deadline:
            time.sleep(0.5)
        self.assertLessEqual(self.open_files(), files + SPARE_FILES)
        self.assertEqual(self.mounts(), mounts)
        self.assertEqual(self.committed(), committed)

    def state(self):
        return self.open_files(), self.mounts(), self.committed()

    def run_in_a_row(self, count):
        """The peak memory of an executor that runs so many steps."""
        document = {"workflow": {"id": "row", "version": 1, "steps": [
            step(f"s{n}", run=f"echo '##wfe[output k{n % 10}={n}]'") for n in range(count)]}}
        result = self.path("result")
        process = self.start_step(document, options=["-q", "--result", result])
        peak = 0
        while process.poll() is None:
            peak = max(peak, peak_kib(process.pid))
            time.sleep(0.1)
        self.assertEqual(process.returncode, 0, process.stderr.read())
        with open(result, encoding="utf-8") as file:
            self.assertIs(json.load(file)["proceed"], True)
        return peak

    def test_two_hundred_in_a_row(self):
        few = self.run_in_a_row(10)
        before = self.state()
        many = self.run_in_a_row(STEPS)
        self.assert_all_is_as(*before)
        self.assertLess(many, few + 4096, "kilobytes")

    def test_sixteen_at_once(self):
        tree = self.make_tree("tree", {"file": "content"})
        self.succeed(step("first", run="true", inputs={"in": "/in"}),
                     options=["--artifact", f"in={tree}"])
        before = self.state()
        deadline = time.monotonic() + SECONDS

        def go_on(worker):
            ended = 0
            while time.monotonic() < deadline:
                outcome = self.run_step(
                    step(f"w{worker}", run=f"cat /in/file; echo; echo {worker}-{ended}",
                         inputs={"in": "/in"}), options=["--artifact", f"in={tree}"])
                self.assertEqual(outcome.status, 0, outcome.stderr)
                self.assertEqual(outcome.result["output_data"][f"w{worker}.stdout"],
                                 f"content\n{worker}-{ended}\n")
                ended += 1
            return ended

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            self.assertGreater(sum(pool.map(go_on, range(AT_ONCE))), AT_ONCE)
        self.assert_all_is_as(*before)

    def test_a_gigabyte_for_a_slow_reader(self):
        raw = self.path("raw")
        process = self.start_step(
            step("big", output_limit="16k",
                 run="(yes err | head -c 1000000 >&2) & yes 0123456789abcde | head -c 1073741824; wait"),
            options=["--raw", raw])
        peak = 0
        while os.read(process.stderr.fileno(), 1 << 16):
            peak = max(peak, peak_kib(process.pid))
            time.sleep(0.001)
        stdout, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(json.loads(stdout)["output_data"]["big.stdout_truncated"], GIGABYTE)
        self.assertLess(peak, 48 * 1024, "kilobytes")
        line = b"0123456789abcde\n"
        self.assertEqual(self.digest(os.path.join(raw, "big.stdout")),
                         self.digest_of([line * 65536] * (GIGABYTE // (65536 * len(line)))))
        self.assertEqual(self.digest(os.path.join(raw, "big.stderr")), self.digest_of([b"err\n" * 250000]))

    @staticmethod
    def digest_of(parts):
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    @staticmethod
    def digest(path):
        return subprocess.run(["sha256sum", path], check=True, text=True,
                              stdout=subprocess.PIPE).stdout.split()[0]
