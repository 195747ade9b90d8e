# SPDX-License-Identifier: MIT
"""The way to a remote daemon that is cut, hangs or is slow, at every stage of a step: nothing is done
twice, nothing is left behind, and the result is right or says whether to try again."""

import itertools
import json
import os
import subprocess
import time

from cut_forward import CutForward
from delayed_forward import DelayedForward
from harness import IMAGE
from remote import RemoteTest


# What is asked while the connection is made. A forward that is not there then is not waited for.
QUESTIONS = 3


class FaultyWay(RemoteTest):
    def setUp(self):
        super().setUp()
        self.forward = self.make_forward()
        self.addCleanup(self.forward.close)
        # On the daemon's machine: each run of the command adds a line.
        self.marks = f"/var/marks-{self.namespace}"
        os.mkdir(self.session.remote.path(self.marks))
        self._numbers = itertools.count()

    def make_forward(self):
        return CutForward(self.session.remote.socket)

    def mark_path(self, name="marks"):
        return self.session.remote.path(f"{self.marks}/{name}")

    def take_marks(self):
        if not os.path.exists(self.mark_path()):
            return 0
        with open(self.mark_path(), encoding="ascii") as file:
            count = len(file.read().splitlines())
        os.unlink(self.mark_path())
        return count

    def options(self):
        return ["--address", self.forward.address()]

    def step(self, run, **config):
        return {"image": IMAGE, "user": "0:0", "run": "echo mark >>/marks/marks; " + run,
                "volumes": [{"source": self.marks, "target": "/marks"}], **config}

    def run_whole(self, filler=b""):
        """A step with an input that the daemon has not got yet and an output; the outcome, and what the
        output has to be."""
        content = b"input %d\n" % next(self._numbers) + filler
        tree = self.make_tree("tree", {"content": content})
        step = self.step("mkdir /out; cp /in/content /out/copy; echo said", inputs={"in": "/in"},
                         outputs={"out": "/out"})
        outcome = self.run_step(step, options=["--artifact", f"in={tree}", "--progress", "none"],
                                global_options=self.options())
        return outcome, content

    def check_whole(self, outcome, content):
        self.assertEqual(outcome.status, 0, outcome.stderr + outcome.stdout)
        data = outcome.result["output_data"]
        self.assertEqual(data["unknown.stdout"], "said\n")
        archive = self.path("out.tgz")
        got = self.artifactfs("get", data["out"]["__wfe_artifact"], "--output", archive)
        self.assertEqual(got.returncode, 0, got.stderr)
        copied = subprocess.run(["tar", "-xzOf", archive, "./copy"], check=True,
                                stdout=subprocess.PIPE).stdout
        os.unlink(archive)
        self.assertTrue(copied == content)
        self.assertEqual(self.take_marks(), 1, outcome.stderr)

    def start_waiting(self):
        """A step that has begun, and ends with 3 once there is a file `go`."""
        process = self.start_step(
            self.step("echo begun; until [ -e /marks/go ]; do sleep 0.1; done; echo ended; exit 3"),
            options=["--progress", "none"], global_options=self.options())
        seen = b""
        while b"begun" not in seen:
            data = os.read(process.stderr.fileno(), 4096)
            self.assertTrue(data, f"it ended with {seen!r}")
            seen += data
        return process

    def finish_waiting(self, process):
        with open(self.mark_path("go"), "w", encoding="ascii"):
            pass
        stdout, stderr = process.communicate(timeout=150)
        self.assertEqual(process.returncode, 3, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "begun\nended\n")
        self.assertEqual(self.take_marks(), 1)


class CutForwards(FaultyWay):
    def cut_at_requests(self, at, first):
        """At every third request, of which there are not the same number in each run: polls and
        others' leftovers come when they will."""
        self.check_whole(*self.run_whole())
        self.forward.reset()
        self.check_whole(*self.run_whole())
        for number in range(first, self.forward.requests - 2, 3):
            with self.subTest(request=number):
                self.forward.reset(number, at)
                outcome, content = self.run_whole()
                self.assertEqual(self.forward.cuts, 1)
                if outcome.status != 0 and number <= QUESTIONS:
                    self.judge_loss(outcome, "failed to connect to containerd at ")
                else:
                    self.check_whole(outcome, content)
                self.assert_nothing_left()

    def test_requests_that_never_arrive(self):
        self.cut_at_requests("request", 1)

    def test_requests_that_are_worked_on(self):
        self.cut_at_requests("work", 2)

    def test_answers_that_never_arrive(self):
        self.cut_at_requests("answer", 3)

    def test_in_the_midst_of_an_upload(self):
        filler = os.urandom(4 << 20)
        for megabytes in (1, 3):
            self.forward.reset(sent_bytes=megabytes << 20)
            outcome, content = self.run_whole(filler)
            self.assertEqual(self.forward.cuts, 1)
            self.assertIn("the daemon was lost before the step was started", outcome.stderr)
            self.check_whole(outcome, content)
            self.assert_nothing_left()

    def test_while_the_step_runs(self):
        process = self.start_waiting()
        for away_s in (0.2, 3):
            self.forward.cut(away_s)
            time.sleep(away_s + 1)
        self.finish_waiting(process)

    def test_at_the_steps_end(self):
        process = self.start_waiting()
        self.forward.cut(4)
        self.finish_waiting(process)

    def judge_loss(self, outcome, words):
        self.assertEqual(outcome.status, 125, outcome.stderr)
        error = outcome.result["error"]
        self.assertIs(error["retryable"], True, error)
        self.assertIn(words, error["message"])

    def test_it_never_comes_back_before_the_start(self):
        self.check_whole(*self.run_whole())
        self.forward.reset(sent_bytes=1 << 20, away_s=None)
        outcome, _ = self.run_whole(os.urandom(2 << 20))
        self.judge_loss(outcome, "failed to connect to containerd at " + self.forward.address())
        self.assertEqual(self.take_marks(), 0)
        self.reclaim()

    def test_it_never_comes_back_while_the_step_runs(self):
        process = self.start_waiting()
        self.forward.cut(None)
        stdout, stderr = process.communicate(timeout=150)
        self.assertEqual(process.returncode, 125, stderr)
        error = json.loads(stdout)["error"]
        self.assertIs(error["retryable"], True, error)
        self.assertIn("the daemon did not come back within", error["message"])
        self.assertIn("a retry may do things twice", error["message"])
        self.reclaim()

    def reclaim(self):
        """What could not be unmade is the next one's to unmake."""
        self.forward.listen()
        gc = self.executor("gc", global_options=self.options())
        self.assertEqual(gc.returncode, 0, gc.stderr)


class SilentWays(FaultyWay):
    def test_a_forward_that_hangs_for_a_while(self):
        process = self.start_waiting()
        self.forward.freeze()
        time.sleep(50)
        self.forward.thaw()
        self.finish_waiting(process)

    def test_a_forward_that_hangs_while_a_step_starts(self):
        self.forward.freeze()
        outcome = self.run_step(self.step("true"), global_options=[
            *self.options(), "--connect-timeout", "2s"])
        self.forward.thaw()
        self.assertEqual(outcome.status, 125, outcome.stderr)
        self.assertIn("failed to connect", outcome.result["error"]["message"])
        self.assertIs(outcome.result["error"]["retryable"], True)


class SlowForwards(FaultyWay):
    def make_forward(self):
        return DelayedForward(self.session.remote.socket, 0.05)

    def test_a_hundred_milliseconds(self):
        self.check_whole(*self.run_whole(os.urandom(1 << 20)))


class Networks(FaultyWay):
    """Between the forward and the step's executor, which is in a network namespace."""

    def make_forward(self):
        number = os.getpid() % 16384
        self.net, self.link = f"wfe-fault-{os.getpid()}", f"wfef{os.getpid()}"
        base = 4 * number
        here, there = (f"198.18.{base >> 8}.{(base & 255) + i}" for i in (1, 2))
        self.ip("netns", "add", self.net)
        self.addCleanup(self.ip, "netns", "delete", self.net)
        self.ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.net)
        self.ip("address", "add", f"{here}/30", "dev", self.link)
        self.ip("link", "set", self.link, "up")
        self.ip("-n", self.net, "address", "add", f"{there}/30", "dev", "eth0")
        self.ip("-n", self.net, "link", "set", "eth0", "up")
        return CutForward(self.session.remote.socket, here)

    @staticmethod
    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL)

    def executor_command(self, *arguments, global_options=()):
        command = super().executor_command(*arguments, global_options=global_options)
        return ["nsenter", f"--net=/run/netns/{self.net}", *command]

    def drop(self, action):
        for chain in ("INPUT", "OUTPUT"):
            subprocess.run(["nsenter", f"--net=/run/netns/{self.net}", "iptables", "--wait", action,
                            chain, "--jump", "DROP"], check=True, stdin=subprocess.DEVNULL)

    def test_a_peer_that_vanishes_for_a_while(self):
        process = self.start_waiting()
        self.drop("--append")
        time.sleep(60)
        self.drop("--delete")
        self.finish_waiting(process)

    def test_a_slow_and_lossy_network(self):
        for device in (["dev", self.link], ["-n", self.net, "dev", "eth0"]):
            made = subprocess.run(["tc", *device[:-2], "qdisc", "add", *device[-2:], "root", "netem",
                                   "delay", "50ms", "loss", "1%"], stdin=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True, check=False)
            if made.returncode != 0:
                self.skipTest("no netem here (modprobe sch_netem): " + made.stderr.strip())
        self.check_whole(*self.run_whole(os.urandom(1 << 20)))
