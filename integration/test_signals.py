# SPDX-License-Identifier: MIT
"""SIGINT and SIGTERM at any moment: the step is stopped, unwound and reported."""

import json
import os
import select
import signal
import time

from harness import IMAGE, IntegrationTest

SLEEPER = {"name": "sleeper", "type": "containerd", "config": {
    "image": IMAGE, "grace": "500ms", "run": "echo up; sleep 60"}}


class Signals(IntegrationTest):
    def stop_after(self, delay_s, number):
        process = self.start_step(SLEEPER)
        time.sleep(delay_s)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        return process.returncode, stdout, stderr

    def wait_for_output(self, process, text):
        seen = b""
        deadline = time.monotonic() + 20 * self.patience()
        while text not in seen and time.monotonic() < deadline:
            if select.select([process.stderr], [], [], 0.2)[0]:
                chunk = os.read(process.stderr.fileno(), 65536)
                if not chunk:
                    break
                seen += chunk
        self.assertIn(text, seen)

    def test_sigterm_while_the_step_runs_is_143(self):
        process = self.start_step(SLEEPER)
        self.wait_for_output(process, b"up")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertEqual(process.returncode, 143, stderr)
        result = json.loads(stdout)
        self.assertIs(result["proceed"], False)
        self.assertEqual(result["error"]["kind"], "cancelled")
        self.assertIs(result["error"]["retryable"], True)
        self.assertEqual(result["output_data"]["sleeper.stdout"], "up\n")

    def test_sigint_while_the_step_runs_is_130(self):
        process = self.start_step(SLEEPER)
        self.wait_for_output(process, b"up")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertEqual(process.returncode, 130, stderr)
        self.assertEqual(json.loads(stdout)["error"]["kind"], "cancelled")

    def test_the_step_hears_sigterm_first(self):
        process = self.start_step({"image": IMAGE, "run":
            "trap 'echo heard; exit 3' TERM; echo up; while :; do sleep 0.1; done"})
        self.wait_for_output(process, b"up")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertEqual(process.returncode, 143, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "up\nheard\n")

    def test_a_second_signal_ends_the_grace_period(self):
        process = self.start_step({"image": IMAGE, "grace": "10m", "run":
            "trap '' TERM; echo up; while :; do sleep 0.1; done"})
        self.wait_for_output(process, b"up")
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, stderr = process.communicate(timeout=30 * self.patience())
        self.assertLess(time.monotonic() - started, 20 * self.patience())
        self.assertEqual(process.returncode, 143, stderr)

    def test_a_signal_at_any_moment_leaves_nothing(self):
        for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            for delay_ms in (0, 2, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 120):
                with self.subTest(signal=number, delay_ms=delay_ms):
                    code, stdout, stderr = self.stop_after(delay_ms / 1000, number)
                    # Before the program has its handler, the signal itself ends it.
                    if code != -number:
                        self.assertEqual(code, status, stderr)
                        self.assertIs(json.loads(stdout)["proceed"], False)
        self.assert_nothing_left()
