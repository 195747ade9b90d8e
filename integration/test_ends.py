# SPDX-License-Identifier: MIT
"""Ends that nobody asked for: of the daemon, of a shim, of the container's first process, of the
room on the daemon's disk."""

import os
import shutil
import signal
import socket
import subprocess
import time

from harness import IMAGE, IntegrationTest, Session
from test_services import free_port, service

SLOW_STEP = {"image": IMAGE, "run": "echo begun; sleep 4; echo ended; exit 3"}
ENDLESS_STEP = {"image": IMAGE, "run": "echo begun; sleep 1000"}
KILLED = 128 + signal.SIGKILL
RECORDS_BYTES = 4 << 20


class SmallDisk(Session):
    """A session whose daemon has a small disk of its own."""

    SIZE = "100m"

    def _start_daemon(self):
        self.disk = os.path.join(self.scratch, "disk")
        os.mkdir(self.disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "tmpfs", self.disk],
                       check=True)
        self.daemon_dir = os.path.join(self.disk, "daemon")
        self._containerd_dev("start")
        self.address = os.path.join(self.daemon_dir, "containerd.sock")

    def close(self):
        super().close()
        if os.path.ismount(self.disk):
            subprocess.run(["umount", self.disk], check=True)
        shutil.rmtree(self.scratch, ignore_errors=True)


class OwnDaemon(IntegrationTest):
    """With a daemon that may be killed."""

    session_type = Session

    @classmethod
    def setUpClass(cls):
        cls.session = cls.session_type()
        cls.addClassCleanup(cls.session.close)


class Processes(OwnDaemon):
    def kill_daemon(self):
        os.kill(self.session.daemon_pid(), signal.SIGKILL)

    def start_begun(self, step):
        """Starts a step and waits until it has said so."""
        process = self.start_step(step)
        self.await_output(process, b"begun")
        return process

    def task(self):
        """Id and pid of the only task."""
        (line,) = self.ctr("tasks", "list").splitlines()[1:]
        return line.split()[0], int(line.split()[1])

    def shim_of(self, pid):
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            (parent,) = [line.split()[1] for line in status if line.startswith("PPid:")]
        return int(parent)

    def assert_gone(self, pid):
        deadline = time.monotonic() + 10
        while os.path.exists(f"/proc/{pid}"):
            self.assertLess(time.monotonic(), deadline, f"{pid} still runs")
            time.sleep(0.02)

    def test_a_step_goes_on_while_the_daemon_restarts(self):
        folder = self.path("folder")
        os.mkdir(folder)
        process = self.start_begun({
            "image": IMAGE, "volumes": [{"source": folder, "target": "/folder"}],
            "run": "echo begun; until [ -e /folder/go ]; do sleep 0.1; done; echo ended; exit 3"})
        for _ in range(2):
            self.kill_daemon()
            self.session.start_daemon_again()
        self.write("folder/go", "")
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 3, stderr)
        self.assertIn(rb"begun\nended", stdout)

    def test_a_step_that_ends_while_the_daemon_is_away_has_its_result(self):
        process = self.start_begun(SLOW_STEP)
        _, init = self.task()
        self.kill_daemon()
        self.assert_gone(init)
        self.session.start_daemon_again()
        stdout, stderr = process.communicate(timeout=60)
        self.assertIn(b"ended\n", stderr)
        # Daemons from 1.7 on forget how it ended.
        if process.returncode == 125:
            self.assertIn(b"the step ended while the daemon was away, and how is not known", stdout)
        else:
            self.assertEqual(process.returncode, 3, stderr)
            self.assertIn(rb"begun\nended", stdout)

    def test_a_service_is_watched_over_while_the_daemon_restarts(self):
        port = free_port()
        process = self.start_begun({"workflow": {"id": "restarts", "services": {"one": {
            "image": IMAGE, "command": ["/bin/sh", "-c"],
            "args": [f"nc -l -p {port} >/dev/null; echo hung up; exit 9"],
            "readiness": {"exec": ["true"]}}}, "steps": [
                {"name": "use", "type": "containerd", "config": {**ENDLESS_STEP, "grace": "200ms"}}]}})
        self.kill_daemon()
        self.session.start_daemon_again()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.shutdown(socket.SHUT_WR)
            stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 125, stderr)
        self.assertIn(b"service 'one' ended with code 9: hung up", stdout)

    def test_a_stop_is_carried_out_when_the_daemon_is_back(self):
        process = self.start_begun(ENDLESS_STEP)
        _, init = self.task()
        self.kill_daemon()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        self.session.start_daemon_again()
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, stderr)
        self.assert_gone(init)

    def test_a_shim_that_dies_takes_its_step_with_it(self):
        process = self.start_begun(ENDLESS_STEP)
        _, init = self.task()
        os.kill(self.shim_of(init), signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 125, stderr + stdout)
        self.assertIn(b"the container's shim died", stdout)
        self.assert_gone(init)

    def test_a_process_that_others_kill_is_told_as_killed(self):
        process = self.start_begun(ENDLESS_STEP)
        _, init = self.task()
        os.kill(init, signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, KILLED, stderr)

    def test_a_task_that_others_delete_is_an_error(self):
        process = self.start_begun(ENDLESS_STEP)
        name, _ = self.task()
        # Two deletions at once may leave containerd's shim: the one that comes too late closes the
        # connection on which the other is about to end it.
        process.send_signal(signal.SIGSTOP)
        self.ctr("tasks", "delete", "--force", name)
        process.send_signal(signal.SIGCONT)
        stdout, stderr = process.communicate(timeout=60)
        self.assertIn(process.returncode, (125, KILLED), stderr + stdout)


class FullDisk(OwnDaemon):
    session_type = SmallDisk

    def free_bytes(self):
        disk = os.statvfs(self.session.disk)
        return disk.f_bavail * disk.f_bsize

    def await_room(self, free_bytes):
        """Some daemons empty the folders of what they have collected a moment later. Their own records
        may have grown."""
        self.collect()
        deadline = time.monotonic() + 30
        while self.free_bytes() < free_bytes - RECORDS_BYTES and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertGreaterEqual(self.free_bytes(), free_bytes - RECORDS_BYTES)

    def run_with_input(self, mebibytes):
        folder = self.path("tree")
        os.makedirs(folder)
        with open(os.path.join(folder, "f"), "wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(1 << 20))
        archive = self.path("a.tar")
        subprocess.run(["tar", "-cf", archive, "-C", folder, "."], check=True)
        return self.run_step({"image": IMAGE, "command": ["true"], "inputs": {"data": "/in"}},
                             options=["--artifact", f"data={archive}", "--inputs-as", "layer"])

    def check_full(self, mebibytes):
        free_bytes = self.free_bytes()
        outcome = self.run_with_input(mebibytes)
        self.assertEqual(outcome.status, 125, outcome.stderr)
        self.assertIn("no space left on device", outcome.result["error"]["message"])
        self.assert_nothing_left()
        # What was uploaded for nothing is gone, so there is room for the next one.
        self.await_room(free_bytes)
        self.succeed({"image": IMAGE, "command": ["true"]})

    def test_an_input_that_cannot_be_uploaded(self):
        self.check_full(150)

    def test_an_input_that_cannot_be_applied(self):
        self.check_full(60)

    def test_a_step_that_fills_the_disk_has_its_own_failure(self):
        outcome = self.run_step({"image": IMAGE, "user": "0:0",
                                 "run": "dd if=/dev/zero of=/big bs=1M count=500; echo status $?"})
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertIn("status 1", outcome.result["output_data"]["unknown.stdout"])
        self.assertIn("No space left", outcome.result["output_data"]["unknown.stderr"])

    def test_a_service_that_fills_the_disk_is_taken_down(self):
        free_bytes = self.free_bytes()
        greedy = service(free_port(), before="dd if=/dev/zero of=/big bs=1M count=500")
        outcome = self.run_step({"workflow": {"id": "full", "services": {"greedy": greedy},
                                              "steps": []}})
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assert_nothing_left()
        self.await_room(free_bytes)
        self.succeed({"image": IMAGE, "command": ["true"]})
