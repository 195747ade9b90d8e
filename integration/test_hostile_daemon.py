# SPDX-License-Identifier: MIT
"""A daemon whose replies are not what they should be, one request at a time: the executor ends by
itself, with words, and in little memory."""

import collections
import os
import subprocess

from harness import IMAGE, IntegrationTest
from peak_memory import command_with_peak
from status_proxy import Fault, StatusProxy

MIB = 1 << 20
PEAK_MIB = 64
HANGS_AFTER_S = 120
# Each of so many lies is tried; all of them are in `scripts/test --faults`.
EVERY = int(os.environ.get("WFE_TEST_FAULT_EVERY", "23"))


def nothing(replies):
    """Messages without any field."""
    for _ in replies:
        yield b""


def silence(replies):
    """A good end, without a message."""
    for _ in replies:
        pass
    yield from ()


def half(replies):
    for reply in replies:
        yield reply[:len(reply) // 2]


def twice(replies):
    for reply in replies:
        yield reply
        yield reply


def noise(replies):
    for _ in replies:
        yield os.urandom(64)


def huge(replies):
    """A first field of 32 MiB."""
    for _ in replies:
        yield b"\x0a\x80\x80\x80\x10" + bytes(32 * MIB)


def endless(replies):
    """What is said once, for ever."""
    for reply in replies:
        while True:
            yield reply


LIES = (nothing, silence, half, twice, noise, huge)
# An answer of one message has no end to be missed.
STREAMS = ("Containers/ListStream", "Content/List", "Content/Read", "Content/Write",
           "Events/Subscribe", "Snapshots/List")


class LyingProxy(StatusProxy):
    def replies(self, call, fault):
        return fault.answer(call) if fault and fault.when == "lie" else call


class HostileDaemon(IntegrationTest):
    def time_limit_s(self):
        return 20 * super().time_limit_s()

    def setUp(self):
        super().setUp()
        self.need_this_machine("the proxy is between it and a daemon's socket")
        self.proxy = LyingProxy(self.path("proxy.sock"), self.session.ctr_address())
        self.addCleanup(self.proxy.close)
        # What it hides can't be removed through it.
        self.addCleanup(self.executor, "gc")
        self.number = 0

    def run_whole(self, *options):
        """Status, stderr, and the most memory in MiB."""
        self.number += 1
        tree = self.make_tree("tree", {"content": b"input %d\n" % self.number})
        step = {"image": IMAGE, "run": "mkdir /tmp/out; cp /in/content /tmp/out", "timeout": "30s",
                "inputs": {"in": "/in"}, "outputs": {"out": "/tmp/out"}}
        command = self.executor_command(*self.run_arguments(step, options=[
            "--artifact", f"in={tree}", "--progress", "none", *options]),
            global_options=["--address", self.proxy.path])
        process = subprocess.run(
            command_with_peak(command), env=self.environment, cwd=self.tmp, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=HANGS_AFTER_S)
        return (process.returncode, process.stderr.decode(errors="replace"),
                int(process.stdout) / 1024)

    def lie(self, *options):
        self.assertEqual(self.run_whole(*options)[0], 0)
        self.proxy.reset()
        self.assertEqual(self.run_whole(*options)[0], 0)
        counts = collections.Counter(self.proxy.calls)
        lies = [Fault(method, number + 1, "lie", lie) for method, count in sorted(counts.items())
                for number in range(count)
                for lie in (*LIES, *([endless] if method in STREAMS else []))]
        for fault in lies[::EVERY]:
            with self.subTest(method=fault.method, number=fault.number, lie=fault.answer.__name__):
                self.proxy.reset(fault)
                status, said, peak_mib = self.run_whole(*options)
                self.assertIn(status, (0, 124, 125), said)
                if status == 125:
                    self.assertIn("wfe-containerd: ", said)
                self.assert_peak(peak_mib, PEAK_MIB)

    def test_output_through_fifos(self):
        self.lie("--io", "fifo")

    def test_output_through_a_snapshot(self):
        self.lie("--io", "snapshot")
