# SPDX-License-Identifier: MIT
"""A time limit stops the step: SIGTERM, a grace period, SIGKILL."""

import time

from harness import IMAGE, IntegrationTest


class Timeout(IntegrationTest):
    def test_a_step_that_heeds_sigterm_ends_at_once(self):
        started = time.monotonic()
        outcome = self.run_step({"name": "slow", "type": "containerd", "config": {
            "image": IMAGE, "timeout": "1s", "grace": "10m",
            "run": "trap 'echo told; exit 0' TERM; echo begun; while :; do sleep 0.1; done"}})
        elapsed = time.monotonic() - started
        self.assertEqual(outcome.status, 124, outcome.stderr)
        self.assertLess(elapsed, 20 * self.patience())
        self.assertGreaterEqual(elapsed, 1)
        error = outcome.result["error"]
        self.assertIs(outcome.result["proceed"], False)
        self.assertEqual(error["kind"], "timeout")
        self.assertIs(error["retryable"], True)
        self.assertIn("timed out after 1000ms", error["message"])
        self.assertIn("begun", outcome.result["output_data"]["slow.stdout"])
        self.assertIn("told", outcome.result["output_data"]["slow.stdout"])

    def test_a_step_that_ignores_sigterm_is_killed_after_the_grace_period(self):
        started = time.monotonic()
        outcome = self.run_step({"image": IMAGE, "timeout": "500ms", "grace": "1s",
                                 "run": "trap '' TERM; echo deaf; while :; do sleep 0.2; done"})
        elapsed = time.monotonic() - started
        self.assertEqual(outcome.status, 124, outcome.stderr)
        self.assertLess(elapsed, 20 * self.patience())
        self.assertGreaterEqual(elapsed, 1.5)
        self.assertEqual(outcome.result["output_data"]["unknown.stdout"], "deaf\n")

    def test_children_of_the_step_end_with_it(self):
        outcome = self.run_step({"image": IMAGE, "timeout_ms": 700, "grace": "300ms",
                                 "run": "sleep 100 & sleep 100 & wait"})
        self.assertEqual(outcome.status, 124, outcome.stderr)

    def test_a_step_within_its_limit_is_not_touched(self):
        data = self.succeed({"image": IMAGE, "timeout": "30s", "run": "echo done"})
        self.assertEqual(data["unknown.stdout"], "done\n")
