# SPDX-License-Identifier: MIT
"""What a killed executor leaves in the daemon is found and removed."""

import os
import time

from harness import IMAGE, IntegrationTest


class Reclaim(IntegrationTest):
    def killed_executor(self):
        """One that is killed while its step runs; a task that is only starting may vanish by itself,
        and what is left of it is reclaimed later."""
        process = self.start_step({"image": IMAGE, "run": "sleep 0.5; echo up; sleep 1000"})
        seen = b""
        while b"up\n" not in seen and (chunk := os.read(process.stderr.fileno(), 4096)):
            seen += chunk
        process.kill()
        process.wait()

    def test_gc_removes_what_killed_executors_left(self):
        for _ in range(3):
            self.killed_executor()
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assert_nothing_left()

    def test_gc_right_after_a_kill_at_any_moment_leaves_nothing(self):
        step = {"image": IMAGE, "run": "sleep 1000"}
        for delay_s in (0.03, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3):
            process = self.start_step(step)
            time.sleep(delay_s)
            process.kill()
            process.wait()
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assert_nothing_left()

    def test_the_next_run_reclaims_by_itself(self):
        for _ in range(2):
            self.killed_executor()
        self.assertEqual(self.run_step({"image": IMAGE, "run": "sleep 4"}).status, 0)
        self.assert_nothing_left()

    def test_gc_leaves_a_living_executors_step_alone(self):
        process = self.start_step({"image": IMAGE, "run": "sleep 2; echo unharmed"})
        time.sleep(0.7)
        for _ in range(3):
            self.assertEqual(self.executor("gc").returncode, 0)
        stdout, stderr = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0, stderr)
        self.assertIn(b"unharmed", stdout)

    def test_gc_leaves_other_peoples_containers_alone(self):
        self.ctr("run", "--detach", IMAGE, "theirs", "sleep", "1000")
        self.killed_executor()
        self.assertEqual(self.executor("gc").returncode, 0)
        self.assertEqual(self.ctr("tasks", "list", "--quiet").split(), ["theirs"])
        self.ctr("tasks", "delete", "--force", "theirs")
        self.ctr("containers", "delete", "theirs")
