# SPDX-License-Identifier: MIT
"""An error for every request that a step makes, one at a time: before the daemon gets it, and after it
has done what it was asked for. The requests are those of a run without errors."""

import collections
import itertools
import os
import subprocess

import grpc

from harness import IMAGE, IntegrationTest
from status_proxy import Fault, StatusProxy

# Each of so many faults is tried; all of them are in `scripts/test faults`.
EVERY = int(os.environ.get("WFE_TEST_FAULT_EVERY", "17"))

CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)


class RpcFaults(IntegrationTest):
    def setUp(self):
        super().setUp()
        self.need_this_machine("the proxy is between it and a daemon's socket")
        self.proxy = StatusProxy(self.path("proxy.sock"), self.session.ctr_address())
        self.addCleanup(self.proxy.close)
        self._numbers = itertools.count()
        self.marks = self.path("marks")
        os.mkdir(self.marks)

    def patience(self):
        return 10 * super().patience()

    def blobs(self):
        """What is in the content store after a collection."""
        self.ctr("leases", "create", "--id", "collect")
        self.ctr("leases", "delete", "--sync", "collect")
        return set(self.ctr("content", "list", "--quiet").split())

    def run_whole(self, options):
        """A step with an input that the daemon has not got yet and an output; the outcome, what the
        output has to be, and how often the command ran."""
        content = b"input %d\n" % next(self._numbers)
        tree = self.make_tree("tree", {"content": content})
        mark = os.path.join(self.marks, "mark")
        step = {"image": IMAGE, "user": "0:0",
                "run": "echo mark >>/marks/mark; mkdir /out; cp /in/content /out/copy; echo said",
                "volumes": [{"source": self.marks, "target": "/marks"}],
                "inputs": {"in": "/in"}, "outputs": {"out": "/out"}}
        outcome = self.run_step(step, global_options=["--address", self.proxy.path],
                                options=["--artifact", f"in={tree}", "--progress", "none", *options])
        runs = 0
        if os.path.exists(mark):
            with open(mark, encoding="ascii") as file:
                runs = len(file.readlines())
            os.unlink(mark)
        return outcome, content, runs

    def judge(self, outcome, content, runs):
        if outcome.status == 0:
            data = outcome.result["output_data"]
            self.assertEqual(data["unknown.stdout"], "said\n")
            self.assertEqual(runs, 1)
            archive = self.path("out.tgz")
            got = self.artifactfs("get", data["out"]["__wfe_artifact"], "--output", archive)
            self.assertEqual(got.returncode, 0, got.stderr)
            self.assertEqual(subprocess.run(["tar", "-xzOf", archive, "./copy"], check=True,
                                            stdout=subprocess.PIPE).stdout, content)
            os.unlink(archive)
            return
        self.assertEqual(outcome.status, 125, outcome.stderr)
        error = outcome.result["error"]
        self.assertIn(StatusProxy.WORDS, error["message"])
        self.assertLessEqual(runs, 1)
        if error["retryable"]:
            self.assertEqual(runs, 0, error)

    def attack(self, *options):
        usual_blobs = self.blobs()
        self.judge(*self.run_whole(options))
        self.proxy.reset()
        self.judge(*self.run_whole(options))
        counts = collections.Counter(self.proxy.calls)
        faults = [Fault(method, number + 1, when, code) for method, count in sorted(counts.items())
                  for number in range(count) for when in ("before", "after") for code in CODES]
        for fault in faults[::EVERY]:
            with self.subTest(fault=fault):
                self.proxy.reset(fault)
                outcome, content, runs = self.run_whole(options)
                self.judge(outcome, content, runs)
                self.assert_nothing_left()
                self.assertEqual(self.blobs(), usual_blobs)

    def test_output_through_fifos(self):
        self.attack("--io", "fifo")

    def test_output_through_a_snapshot(self):
        self.attack("--io", "snapshot")
