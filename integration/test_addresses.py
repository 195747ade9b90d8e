# SPDX-License-Identifier: MIT
"""Every form of a daemon's address, and paths that are no plain words."""

import os
import shutil
import socket
import subprocess
import tempfile

from counting_proxy import CountingProxy
from forwards import TcpForward
from harness import IMAGE, IntegrationTest, repository_file


class Addresses(IntegrationTest):
    def runs_at(self, address, env=None):
        with self.subTest(address=address):
            outcome = self.run_step({"image": IMAGE, "run": "echo here"}, env=env,
                                    global_options=["--address", address])
            self.assertEqual(outcome.status, 0, outcome.stderr)
            self.assertEqual(outcome.result["output_data"]["unknown.stdout"], "here\n")

    def test_a_path_and_its_url(self):
        path = self.session.ctr_address()
        self.runs_at(path)
        self.runs_at("unix://" + path)

    def test_paths_with_odd_characters(self):
        for name in ("with space", "50%25", "a:b", "gr\u00fc\u00dfe", "q?x#y"):
            path = self.path(name)
            proxy = CountingProxy(path, self.session.ctr_address())
            self.addCleanup(proxy.close)
            self.runs_at(path)
            self.runs_at("unix://" + path)

    def test_a_tcp_port(self):
        forward = TcpForward(self.session.ctr_address())
        self.addCleanup(forward.close)
        shared = {"WFE_IO_DIR": self.shared_directory()}
        self.runs_at(f"tcp://127.0.0.1:{forward.port}", shared)
        self.runs_at(f"http://127.0.0.1:{forward.port}", shared)
        self.assertEqual(os.listdir(shared["WFE_IO_DIR"]), [])

    def shared_directory(self):
        path = self.path("shared")
        os.mkdir(path)
        return path

    def test_a_long_step_over_tcp_has_no_deadline(self):
        forward = TcpForward(self.session.ctr_address())
        self.addCleanup(forward.close)
        data = self.succeed({"image": IMAGE, "run": "sleep 4; echo late"},
                            env={"WFE_IO_DIR": self.shared_directory()},
                            global_options=["--address", f"tcp://127.0.0.1:{forward.port}"])
        self.assertEqual(data["unknown.stdout"], "late\n")

    def test_a_port_where_nobody_listens_is_a_failure_that_may_pass(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        outcome = self.run_step({"image": IMAGE, "run": "true"},
                                global_options=["--address", f"tcp://127.0.0.1:{port}"])
        self.assertEqual(outcome.status, 125)
        self.assertIn(str(port), outcome.result["error"]["message"])
        self.assertIs(outcome.result["error"]["retryable"], True)

    def test_what_is_no_address_is_refused(self):
        for address in ("relative/path", "ftp://x", "tcp://", "unix://"):
            with self.subTest(address=address):
                outcome = self.run_step({"image": IMAGE, "run": "true"},
                                        global_options=["--address", address])
                self.assertEqual(outcome.status, 125, outcome.stderr)
                self.assertIn(address, outcome.result["error"]["message"])


class PrivateDaemon(IntegrationTest):
    """scripts/containerd-dev itself."""

    uses_daemon = False

    def setUp(self):
        super().setUp()
        # Short, for the length of a socket's path.
        self.parent = tempfile.mkdtemp(prefix="wfe-cd-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.parent, ignore_errors=True)
        self.dir = os.path.join(self.parent, "it's \"odd\" \u00fc")
        self.addCleanup(self.containerd_dev, "stop")

    def containerd_dev(self, *arguments):
        return subprocess.run(
            [repository_file("scripts", "containerd-dev"), "--dir", self.dir, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def start(self):
        started = self.containerd_dev("start")
        self.assertEqual(started.returncode, 0, started.stderr)

    def test_it_starts_once_and_stops_without_a_trace(self):
        self.assertEqual(self.containerd_dev("status").returncode, 3)
        self.start()
        first = self.containerd_dev("status").stdout
        self.assertIn("running: pid", first)
        self.start()
        self.assertEqual(self.containerd_dev("status").stdout, first)
        self.assertEqual(self.containerd_dev("stop").returncode, 0)
        self.assertEqual(os.listdir(self.parent), [])
        self.assertEqual(self.containerd_dev("stop").returncode, 0)

    def test_its_environment_points_programs_at_it(self):
        self.start()
        script = f'eval "$(cat)" && "{self.session.executor}" check && ctr version >/dev/null'
        process = subprocess.run(["bash", "-euc", script], text=True,
                                 input=self.containerd_dev("env").stdout,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_containers_of_a_killed_daemon_end_with_it(self):
        self.start()
        address = os.path.join(self.dir, "containerd.sock")
        for command in (["images", "import", self.session.image_archive],
                        ["run", "--detach", IMAGE, "sleeper", "sleep", "1000"]):
            subprocess.run(["ctr", "--address", address, "--namespace", self.namespace, *command],
                           check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(self.dir, "containerd.pid"), encoding="utf-8") as file:
            os.kill(int(file.read()), 9)
        stopped = self.containerd_dev("stop")
        self.assertEqual(stopped.returncode, 0, stopped.stderr)
        self.assertEqual(os.listdir(self.parent), [])
        self.assert_nothing_left()

    def test_a_directory_with_other_files_is_left_alone(self):
        os.mkdir(self.dir)
        self.write(os.path.join(self.dir, "mine"), "x")
        for command in ("start", "stop"):
            self.assertEqual(self.containerd_dev(command).returncode, 1)
        self.assertEqual(os.listdir(self.dir), ["mine"])
        os.unlink(os.path.join(self.dir, "mine"))
