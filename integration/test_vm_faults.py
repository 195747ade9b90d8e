# SPDX-License-Identifier: MIT
"""A daemon in a virtual machine that stands still, whose daemon starts anew, or that dies, in the
midst of a step: this takes minutes, and a machine of its own (integration/vm)."""

import itertools
import json
import os
import time

from harness import IMAGE
from own_machine import MachineTest, SlowSession

# A peer of which nothing is heard is asked after 330 s and given up after 30 more; then the daemon
# is awaited for a minute.
GIVEN_UP_S = 330 + 30 + 60
SLACK_S = 60


class CountedSteps(MachineTest):
    def setUp(self):
        super().setUp()
        # On the machine: each run of the command adds a line.
        self.marks = f"/var/marks-{self.namespace}"
        self.machine.shell(f"mkdir {self.marks}")
        self._numbers = itertools.count()

    def take_marks(self):
        return self.machine.shell(
            f"cat {self.marks}/marks; rm -f {self.marks}/marks {self.marks}/go").split()

    def step(self, run, **config):
        return {"image": IMAGE, "user": "0:0", "run": "echo mark >>/marks/marks; " + run,
                "volumes": [{"source": self.marks, "target": "/marks"}], **config}

    def start_whole(self, filler=b""):
        """A step with an input that the daemon has not got yet and an output; the process, and what
        the output has to be."""
        content = b"input %d\n" % next(self._numbers) + filler
        tree = self.make_tree("tree", {"content": content})
        step = self.step("mkdir /out; cp /in/content /out/copy; echo said", inputs={"in": "/in"},
                         outputs={"out": "/out"})
        return self.start_step(
            step, options=["--artifact", f"in={tree}", "--progress", "none"]), content

    def check_whole(self, process, content):
        stdout, stderr = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 0, stderr.decode() + stdout.decode())
        data = json.loads(stdout)["output_data"]
        self.assertEqual(data["unknown.stdout"], "said\n")
        self.assertTrue(self.file_in_artifact(data["out"], "./copy") == content)
        self.assertEqual(self.take_marks(), ["mark"], stderr)

    def start_waiting(self):
        """A step that has begun, and ends with 3 once there is a file `go`."""
        process = self.start_step(
            self.step("echo begun; until [ -e /marks/go ]; do sleep 0.1; done; echo ended; exit 3"),
            options=["--progress", "none"])
        self.await_output(process, b"begun")
        return process

    def finish_waiting(self, process):
        self.machine.shell(f"touch {self.marks}/go")
        stdout, stderr = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 3, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "begun\nended\n")
        self.assertEqual(self.take_marks(), ["mark"])

    def judge_loss(self, process, timeout_s, words):
        """It is told in bounded time, with what it means for who wants to try again."""
        stdout, stderr = process.communicate(timeout=timeout_s)
        self.assertEqual(process.returncode, 125, stderr)
        error = json.loads(stdout)["error"]
        self.assertIs(error["retryable"], True, error)
        self.assertIn(words, error["message"])


class Pauses(CountedSteps):
    def stand_still(self, seconds):
        self.machine.pause()
        time.sleep(seconds)
        self.machine.resume()

    def test_one_while_the_step_runs(self):
        process = self.start_waiting()
        self.stand_still(45)
        self.finish_waiting(process)

    def test_one_at_any_moment(self):
        for delay_s in (0.1, 0.5, 1, 2, 4):
            with self.subTest(delay_s=delay_s):
                process, content = self.start_whole(os.urandom(1 << 20))
                time.sleep(delay_s)
                self.stand_still(5)
                self.check_whole(process, content)
        self.assert_nothing_left()

    def test_one_that_is_longer_than_anyone_waits(self):
        process = self.start_waiting()
        self.machine.pause()
        try:
            self.judge_loss(process, GIVEN_UP_S + SLACK_S, "a retry may do things twice")
        finally:
            self.machine.resume()
        self.assertEqual(self.leaks_of_machine(), [])
        gc = self.executor("gc")
        self.assertEqual(gc.returncode, 0, gc.stderr)


class Restarts(CountedSteps):
    def restart(self, number):
        """Its init starts it again."""
        self.machine.shell(
            f"old=$(pidof containerd); kill -{number} $old; "
            "until new=$(pidof containerd) && [ $new != $old ]; do sleep 0.1; done")

    def test_the_step_goes_on(self):
        for number in (15, 9):
            with self.subTest(signal=number):
                process = self.start_waiting()
                self.restart(number)
                self.finish_waiting(process)
        self.assert_nothing_left()

    def test_one_that_ends_meanwhile_is_told_of(self):
        process = self.start_waiting()
        self.machine.shell(f"kill -9 $(pidof containerd); touch {self.marks}/go")
        self.finish_waiting(process)

    def test_before_the_step_starts(self):
        for delay_s in (0.3, 1, 3):
            with self.subTest(delay_s=delay_s):
                process, content = self.start_whole(os.urandom(1 << 20))
                time.sleep(delay_s)
                self.restart(9)
                self.check_whole(process, content)
        # What a daemon that dies while it makes a container leaves is out of a client's reach: a
        # cgroup in which nothing runs.
        self.machine.shell(f"find /sys/fs/cgroup/{self.namespace} -mindepth 1 -depth -type d "
                           "-exec rmdir {} \\; 2>/dev/null; :")
        self.assert_nothing_left()


class SlowLine(CountedSteps):
    make_session = SlowSession

    def test_a_step_with_inputs_and_outputs(self):
        for _ in range(2):
            self.check_whole(*self.start_whole(os.urandom(1 << 20)))

    def test_output_that_is_followed(self):
        self.finish_waiting(self.start_waiting())


class Death(CountedSteps):
    """Nothing is left here; what was there has gone with it."""

    def setUp(self):
        self.session = self.make_session()
        self.addCleanup(self.session.close)
        super().setUp()

    @classmethod
    def setUpClass(cls):
        """Each test has a machine of its own."""

    def leaks_of_daemon(self):
        return []

    def _remove_namespace(self, namespace):
        pass

    def test_while_the_step_runs(self):
        process = self.start_waiting()
        self.machine.kill()
        self.judge_loss(process, 120, "a retry may do things twice")

    def test_before_the_step_starts(self):
        process, _ = self.start_whole(os.urandom(64 << 20))
        while not self.ctr("content", "active").splitlines()[1:]:
            self.assertIsNone(process.poll())
        self.machine.kill()
        # Since nothing was started, it has tried once more itself.
        self.judge_loss(process, 120, "failed to connect to containerd at ")
