# SPDX-License-Identifier: MIT
"""A way to a remote daemon that never comes back, or is silent for a minute: this takes minutes."""

import json
import os
import subprocess
import time

from cut_forward import CutForward
from faulty_way import FaultyWay


class LostForwards(FaultyWay):
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
