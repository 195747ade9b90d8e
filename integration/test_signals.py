# SPDX-License-Identifier: MIT
"""SIGINT and SIGTERM at any moment: the step is stopped, unwound and reported."""

import json
import os
import signal
import subprocess
import threading
import time

from harness import IMAGE, IntegrationTest
from status_proxy import Fault, StatusProxy

SLEEPER = {"name": "sleeper", "type": "containerd", "config": {
    "image": IMAGE, "grace": "500ms", "run": "echo up; sleep 60"}}


class Signals(IntegrationTest):
    def stop_after(self, delay_s, number):
        process = self.start_step(SLEEPER)
        time.sleep(delay_s)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        return process.returncode, stdout, stderr

    def test_sigterm_while_the_step_runs_is_143(self):
        process = self.start_step(SLEEPER)
        self.await_output(process, b"up")
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
        self.await_output(process, b"up")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertEqual(process.returncode, 130, stderr)
        self.assertEqual(json.loads(stdout)["error"]["kind"], "cancelled")

    def test_the_step_hears_sigterm_first(self):
        process = self.start_step({"image": IMAGE, "run":
            "trap 'echo heard; exit 3' TERM; echo up; while :; do sleep 0.1; done"})
        self.await_output(process, b"up")
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertEqual(process.returncode, 143, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "up\nheard\n")

    def test_a_second_signal_ends_the_grace_period(self):
        process = self.start_step({"image": IMAGE, "grace": "10m", "run":
            "trap '' TERM; echo up; while :; do sleep 0.1; done"})
        self.await_output(process, b"up")
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, stderr = process.communicate(timeout=30 * self.patience())
        self.assertLess(time.monotonic() - started, 20 * self.patience())
        self.assertEqual(process.returncode, 143, stderr)

    def test_a_third_signal_ends_it_though_the_daemon_hangs(self):
        self.need_this_machine("the proxy is between it and a daemon's socket")
        asked, answered = threading.Event(), threading.Event()

        def hang():
            asked.set()
            answered.wait(60)

        proxy = StatusProxy(self.path("proxy.sock"), self.session.ctr_address())
        self.addCleanup(proxy.close)
        self.addCleanup(answered.set)
        proxy.reset(Fault("Containers/Create", 1, "before", hang))
        process = self.start_step(SLEEPER, global_options=["--address", proxy.path])
        self.assertTrue(asked.wait(20))
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=20)
        self.assertEqual((process.returncode, stdout), (143, b""))
        self.assertIn(b"ended by a third signal", stderr)
        answered.set()
        proxy.await_idle(20)
        self.assertEqual(self.executor("gc").returncode, 0)
        self.assert_nothing_left()

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


class Parents(IntegrationTest):
    """What becomes of a step when the process that started its executor is gone."""

    def setUp(self):
        super().setUp()
        self.need_this_machine("the steps wait for files of it")

    def start_by_shell(self, prefix=(), options=()):
        """Returns the shell, which waits for an executor whose step ends with 3 once there is a file
        `go`."""
        self.gate = self.path("gate")
        os.mkdir(self.gate)
        self.result = self.path("result")
        step = {"image": IMAGE, "user": "0:0", "grace": "200ms",
                "volumes": [{"source": self.gate, "target": "/gate"}],
                "run": "touch /gate/up; until [ -e /gate/go ]; do sleep 0.05; done; exit 3"}
        command = self.executor_command(*self.run_arguments(
            step, options=["--result", self.result, *options]))
        shell = subprocess.Popen(
            ["sh", "-c", '"$@" & wait', "sh", *prefix, *command], env=self.environment, cwd=self.tmp,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            # The tests themselves may run under nohup.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        self.addCleanup(self.end, shell)
        self.wait_for(self.path("gate", "up"))
        return shell

    def end(self, process):
        with open(self.path("gate", "go"), "w", encoding="ascii"):
            pass
        process.kill()
        process.wait()

    def wait_for(self, path):
        deadline = time.monotonic() + 60
        while not os.path.exists(path) or (path == self.result and not os.path.getsize(path)):
            self.assertLess(time.monotonic(), deadline, path)
            time.sleep(0.02)

    def result_after(self, path):
        self.wait_for(path)
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def goes_on_without(self, shell):
        shell.kill()
        shell.wait()
        time.sleep(1)
        self.assertFalse(os.path.exists(self.result))
        with open(self.path("gate", "go"), "w", encoding="ascii"):
            pass
        self.assertEqual(self.result_after(self.result)["error"]["exit_code"], 3)

    def test_the_step_is_stopped(self):
        shell = self.start_by_shell()
        shell.kill()
        shell.wait()
        error = self.result_after(self.result)["error"]
        self.assertEqual(error["kind"], "cancelled")

    def test_it_goes_on_when_that_is_said(self):
        self.goes_on_without(self.start_by_shell(options=["--no-die-with-parent"]))

    def test_it_goes_on_under_nohup(self):
        shell = self.start_by_shell(prefix=["nohup"])
        (executor,) = subprocess.run(["pgrep", "--parent", str(shell.pid)], check=True, text=True,
                                     stdout=subprocess.PIPE).stdout.split()
        os.kill(int(executor), signal.SIGHUP)
        self.goes_on_without(shell)

    def test_the_end_of_a_thread_is_no_end(self):
        processes = []
        thread = threading.Thread(target=lambda: processes.append(
            self.start_step({"image": IMAGE, "run": "sleep 1; echo whole"})))
        thread.start()
        thread.join()
        stdout, stderr = processes[0].communicate(timeout=60)
        self.assertEqual(processes[0].returncode, 0, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "whole\n")
