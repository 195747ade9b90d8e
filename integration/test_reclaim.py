# SPDX-License-Identifier: MIT
"""What a killed executor leaves in the daemon is found and removed."""

import json
import os
import random
import socket
import subprocess
import time

from harness import IMAGE, IntegrationTest

ENDLESS = {"image": IMAGE, "run": "echo up; sleep 1000"}
PATIENCE_S = 60
KILLS = int(os.environ.get("WFE_TEST_KILLS", "10"))


class ReclaimTest(IntegrationTest):
    def killed_executor(self):
        """One that is killed while its step runs; a task that is only starting may vanish by itself,
        and what is left of it is reclaimed later."""
        process = self.start_step(ENDLESS)
        self.await_output(process, b"up\n")
        process.kill()
        process.wait()

    def gated_step(self):
        """One that runs until open_gate()."""
        os.makedirs(self.path("gate"), exist_ok=True)
        return {"image": IMAGE, "volumes": [{"source": self.path("gate"), "target": "/gate"}],
                "run": "echo up; until [ -e /gate/open ]; do sleep 0.05; done; echo unharmed"}

    def open_gate(self):
        self.write("gate/open", "")

    def end_unharmed(self, process):
        self.open_gate()
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 0, stderr)
        self.assertIn(b"unharmed", stdout)

    def gc(self):
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        return json.loads(process.stdout)

    def containers(self):
        return self.ctr("containers", "list", "--quiet").split()


class Reclaim(ReclaimTest):
    def test_gc_removes_what_killed_executors_left(self):
        for _ in range(3):
            self.killed_executor()
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assert_nothing_left()

    def test_kills_at_random_moments_leave_nothing_and_harm_nobody(self):
        usual_blobs = self.blobs_besides_inputs()
        living = self.start_step(self.gated_step())
        self.await_output(living, b"up\n")
        for number in range(KILLS):
            tree = self.make_tree("tree", {"content": b"input %d\n" % number})
            process = self.start_step(
                {"image": IMAGE, "user": "0:0",
                 "run": "mkdir /out; cp /in/content /out; sleep 0.1",
                 "inputs": {"in": "/in"}, "outputs": {"out": "/out"}},
                options=["--artifact", f"in={tree}", "--progress", "none"])
            delay_s = random.uniform(0, 0.8)
            with self.subTest(number=number, delay_s=delay_s):
                try:
                    _, stderr = process.communicate(timeout=delay_s)
                    self.assertEqual(process.returncode, 0, stderr)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.end_unharmed(living)
        self.assert_nothing_left()
        self.assertEqual(self.blobs_besides_inputs(), usual_blobs)

    def test_the_next_run_reclaims_by_itself(self):
        for _ in range(2):
            self.killed_executor()
        process = self.start_step(self.gated_step())
        self.await_output(process, b"up\n")
        # One was killed while it reclaimed for another, perhaps: that takes a while to settle.
        deadline = time.monotonic() + PATIENCE_S
        while len(self.containers()) > 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        self.end_unharmed(process)
        self.assert_nothing_left()

    def test_gc_leaves_a_living_executors_step_alone(self):
        process = self.start_step(self.gated_step())
        self.await_output(process, b"up\n")
        for _ in range(3):
            self.gc()
        self.end_unharmed(process)

    def test_gc_leaves_other_peoples_containers_alone(self):
        self.ctr("run", "--detach", IMAGE, "theirs", "sleep", "1000")
        self.killed_executor()
        self.assertEqual(self.executor("gc").returncode, 0)
        self.assertEqual(self.ctr("tasks", "list", "--quiet").split(), ["theirs"])
        self.ctr("tasks", "delete", "--force", "theirs")
        self.ctr("containers", "delete", "theirs")


class OtherHosts(ReclaimTest):
    """Owners that can't be judged from here: their leases tell."""

    PLACES = {"another host": ["unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh"],
              "another PID namespace": ["unshare", "--pid", "--fork", "--kill-child"]}
    # A sanitizer's search for leaks needs the /proc of its own namespace.
    UNCHECKED = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}

    def start_elsewhere(self, place, step, lease):
        process = subprocess.Popen(
            [*self.PLACES[place], *self.executor_command(*self.run_arguments(step))],
            env={**self.environment, "WFE_LEASE_DURATION": lease, **self.UNCHECKED}, cwd=self.tmp,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self._end, process)
        self.await_output(process, b"up\n")
        return process

    def test_living_executors_renew_their_leases(self):
        """Those of a step and of a service, for longer than the first ones last."""
        service = {"image": IMAGE, "command": ["/bin/sh", "-c"], "args": [
            "trap 'exit 0' TERM; sleep 1000 & wait"], "readiness": {"exec": ["true"]}}
        processes = [
            self.start_elsewhere("another host", {"workflow": {
                "id": "long", "services": {"idle": service}, "steps": [
                    {"name": "use", "type": "containerd", "config": self.gated_step()}]}}, "20s"),
            self.start_elsewhere("another PID namespace", self.gated_step(), "20s")]
        deadline = time.monotonic() + 25
        while time.monotonic() < deadline:
            self.assertEqual(self.gc()["steps"], 0)
            time.sleep(0.5)
        self.assertEqual(len(self.containers()), 3)
        for process in processes:
            self.end_unharmed(process)
        self.assert_nothing_left()

    def test_a_dead_ones_things_go_when_its_lease_has_run_out(self):
        for process in [self.start_elsewhere(place, ENDLESS, "20s") for place in self.PLACES]:
            process.kill()
            process.wait()
        self.assertEqual(self.gc()["steps"], 0)
        self.assertEqual(len(self.containers()), len(self.PLACES))
        deadline = time.monotonic() + PATIENCE_S
        while self.containers() and time.monotonic() < deadline:
            self.gc()
            time.sleep(0.5)
        self.assertEqual(self.containers(), [])
        self.assert_nothing_left()

    def test_one_of_this_name_and_another_boot_may_live(self):
        try:
            with open("/etc/machine-id", encoding="ascii") as file:
                machine = file.read().strip()
        except FileNotFoundError:
            machine = ""
        owner = f"{socket.gethostname()}/{machine} 00000000-0000-0000-0000-000000000000 1 1 1"
        for lease in (["--expires", "1h"], ["--expires", "1s"], None):
            with self.subTest(lease=lease):
                if lease:
                    self.ctr("leases", "create", "--id", "theirs", *lease, f"wfe.owner={owner}")
                self.ctr("run", "--detach", "--label", f"wfe.owner={owner}", IMAGE, "theirs",
                         "sleep", "1000")
                if lease == ["--expires", "1h"]:
                    self.assertEqual(self.gc()["steps"], 0)
                    self.assertEqual(self.containers(), ["theirs"])
                    self.ctr("leases", "delete", "theirs")
                elif lease:
                    time.sleep(2.1)
                self.assertEqual(self.gc()["steps"], 1)
                self.assert_nothing_left()

    def test_a_wrong_duration_is_refused(self):
        outcome = self.run_step(ENDLESS, env={"WFE_LEASE_DURATION": "soon"})
        self.assertEqual(outcome.status, 125)
        self.assertIn("WFE_LEASE_DURATION 'soon': expected a duration",
                      outcome.result["error"]["message"])
