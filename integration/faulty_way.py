# SPDX-License-Identifier: MIT
"""A remote daemon behind a forward that can be cut, and steps whose runs are counted there."""

import itertools
import json
import os

from cut_forward import CutForward
from harness import IMAGE
from remote import RemoteTest


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
        self.assertTrue(self.file_in_artifact(data["out"], "./copy") == content)
        self.assertEqual(self.take_marks(), 1, outcome.stderr)

    def start_waiting(self):
        """A step that has begun, and ends with 3 once there is a file `go`."""
        process = self.start_step(
            self.step("echo begun; until [ -e /marks/go ]; do sleep 0.1; done; echo ended; exit 3"),
            options=["--progress", "none"], global_options=self.options())
        self.await_output(process, b"begun")
        return process

    def finish_waiting(self, process):
        with open(self.mark_path("go"), "w", encoding="ascii"):
            pass
        stdout, stderr = process.communicate(timeout=150)
        self.assertEqual(process.returncode, 3, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "begun\nended\n")
        self.assertEqual(self.take_marks(), 1)

    def judge_loss(self, outcome, words):
        self.assertEqual(outcome.status, 125, outcome.stderr)
        error = outcome.result["error"]
        self.assertIs(error["retryable"], True, error)
        self.assertIn(words, error["message"])
