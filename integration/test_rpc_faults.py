# SPDX-License-Identifier: MIT
"""A fault at every request that a step makes, one at a time: before the daemon gets it, and after it
has done what it was asked for. The requests are those of a run without faults."""

import collections
import itertools
import json
import os
import queue
import signal

import grpc

from harness import IMAGE, IntegrationTest
from status_proxy import Fault, StatusProxy

# Each of so many faults is tried; all of them are in `scripts/test --faults`.
EVERY = int(os.environ.get("WFE_TEST_FAULT_EVERY", "17"))

CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)


class RpcFaults(IntegrationTest):
    def setUp(self):
        super().setUp()
        self.need_this_machine("the proxy is between it and a daemon's socket")
        self.proxy = StatusProxy(self.path("proxy.sock"), self.session.ctr_address())
        self.addCleanup(self.proxy.close)
        self._numbers = itertools.count()
        self.mark = None
        self.marks = self.path("marks")
        os.mkdir(self.marks)

    def time_limit_s(self):
        return 10 * super().time_limit_s()

    def whole_step(self):
        """The arguments for a step with two inputs that the daemon has not got yet, one of them the
        store's own layer, and an output; and what the output has to be. The command leaves a line at
        self.mark each time that it runs."""
        number = next(self._numbers)
        content = b"input %d\n" % number
        self.mark = os.path.join(self.marks, str(number))
        tree = self.make_tree("tree", {"content": content})
        data = self.put(tree, "stored")
        step = {"image": IMAGE, "user": "0:0", "grace": "200ms",
                "run": f"echo ran >>/marks/{number}; mkdir /out; cat /in/content /stored/content "
                       ">/out/copy; echo said",
                "volumes": [{"source": self.marks, "target": "/marks"}],
                "inputs": {"in": "/in", "stored": "/stored"}, "outputs": {"out": "/out"}}
        return {"document": step, "data": data, "global_options": ["--address", self.proxy.path],
                "options": ["--artifact", f"in={tree}", "--progress", "none"]}, 2 * content

    @staticmethod
    def count_runs(mark):
        """How often the command ran that leaves its lines there."""
        if not os.path.exists(mark):
            return 0
        with open(mark, encoding="ascii") as file:
            return len(file.readlines())

    def run_whole(self, *options):
        arguments, content = self.whole_step()
        arguments["options"] += options
        return self.run_step(**arguments), content, self.count_runs(self.mark)

    def faults(self, answers, *options):
        """For each request of a run without faults, before and after it."""
        self.judge(*self.run_whole(*options))
        self.proxy.reset()
        self.judge(*self.run_whole(*options))
        counts = collections.Counter(self.proxy.calls)
        faults = [Fault(method, number + 1, when, answer)
                  for method, count in sorted(counts.items()) for number in range(count)
                  for when in ("before", "after") for answer in answers]
        return faults[::EVERY]

    def judge(self, outcome, content, runs):
        if outcome.status == 0:
            data = outcome.result["output_data"]
            self.assertEqual(data["unknown.stdout"], "said\n")
            self.assertEqual(runs, 1)
            self.assertEqual(self.file_in_artifact(data["out"], "./copy"), content)
            return
        self.assertEqual(outcome.status, 125, outcome.stderr)
        error = outcome.result["error"]
        self.assertIn(StatusProxy.WORDS, error["message"])
        self.assertLessEqual(runs, 1)
        if error["retryable"]:
            self.assertEqual(runs, 0, error)

    def answer_with_errors(self, *options):
        usual_blobs = self.blobs_besides_inputs()
        for fault in self.faults(CODES, *options):
            with self.subTest(fault=fault):
                self.proxy.reset(fault)
                outcome, content, runs = self.run_whole(*options)
                self.judge(outcome, content, runs)
                self.assert_nothing_left()
                self.assertEqual(self.blobs_besides_inputs(), usual_blobs)

    def test_errors_with_output_through_fifos(self):
        self.answer_with_errors("--io", "fifo")

    def test_errors_with_output_through_a_snapshot(self):
        self.answer_with_errors("--io", "snapshot")

    def signal_at(self, fault, number):
        """Returns the status, stdout and stderr of a step whose executor gets a signal there."""
        started = queue.Queue()
        self.proxy.reset(fault._replace(answer=lambda: started.get().send_signal(number)))
        process = self.start_step(**self.whole_step()[0])
        started.put(process)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    def test_sigterm_at_each(self):
        for fault in self.faults([None]):
            with self.subTest(fault=fault):
                status, stdout, stderr = self.signal_at(fault, signal.SIGTERM)
                # What comes while the step is unmade comes too late.
                self.assertIn(status, (0, 143), stderr)
                self.assertEqual(json.loads(stdout)["proceed"], status == 0)
                self.assertLessEqual(self.count_runs(self.mark), 1)
                self.assert_nothing_left()

    def test_sigkill_at_each(self):
        usual_blobs = self.blobs_besides_inputs()
        # A gc waits for what may be under way at the daemon, so they are all at work at once.
        collecting = []
        for fault in self.faults([None]):
            with self.subTest(fault=fault):
                self.enter_new_namespace()
                self.signal_at(fault, signal.SIGKILL)
                self.proxy.await_idle(60)
                collecting.append((fault, self.namespace, self.mark, self.start_executor("gc")))
        for fault, _, mark, gc in collecting:
            with self.subTest(fault=fault):
                stdout, complaint = gc.communicate(timeout=120)
                self.assertEqual(gc.returncode, 0, complaint)
                report = json.loads(stdout)
                self.assertLessEqual(report["steps"] + report["leases"], 1, report)
                self.assertLessEqual(self.count_runs(mark), 1)
        for fault, self.namespace, *_ in collecting:
            with self.subTest(fault=fault):
                self.assert_nothing_left()
                self.assertEqual(self.blobs_besides_inputs(), usual_blobs)
