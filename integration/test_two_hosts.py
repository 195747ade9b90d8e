# SPDX-License-Identifier: MIT
"""Two hosts whose executors use one daemon, which is on neither, with the same artifacts."""

import json
import os
import subprocess

from harness import IMAGE
from remote import RemoteTest

# Another name, another boot; the files are the same, so that each has a store and a home of its own.
ELSEWHERE = ["unshare", "--uts", "--mount", "--propagation", "private", "sh", "-euc",
             'hostname "$1"; mount --bind "$2" /proc/sys/kernel/random/boot_id; shift 2; exec "$@"',
             "sh"]
HOSTS = ("here", "elsewhere")


class TwoHosts(RemoteTest):
    def setUp(self):
        super().setUp()
        self.boot = self.write("boot-id", "00000000-0000-0000-0000-000000000000\n")
        self.content = os.urandom(4 << 20)
        self.tree = self.make_tree("tree", {"content": self.content, "small": "small\n"})

    def host_command(self, host, *arguments):
        command = self.executor_command(*arguments)
        return command if host == "here" else [*ELSEWHERE, host, self.boot, *command]

    def host_environment(self, host):
        home = self.path("home-" + host)
        os.makedirs(home, exist_ok=True)
        return {**self.environment, "HOME": home, "WFE_ARTIFACT_STORE": os.path.join(home, "store")}

    def start_on(self, host, run, **config):
        arguments = self.run_arguments(
            {"image": IMAGE, "inputs": {"in": "/in"}, "run": run, **config},
            options=["--artifact", f"in={self.tree}", "--progress", "none"])
        process = subprocess.Popen(
            self.host_command(host, *arguments), env=self.host_environment(host), cwd=self.tmp,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self._end, process)
        return process

    def output_of(self, process):
        stdout, stderr = process.communicate(timeout=120 * self.patience())
        self.assertEqual(process.returncode, 0, stderr)
        return json.loads(stdout)["output_data"]["unknown.stdout"]

    def gc_on(self, host):
        process = subprocess.run(
            self.host_command(host, "gc"), env=self.host_environment(host), cwd=self.tmp,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=120 * self.patience())
        self.assertEqual(process.returncode, 0, process.stderr)
        return json.loads(process.stdout)

    def owners(self):
        """The beginnings of what the steps' containers say of their owners: the hosts' names."""
        found = set()
        for container in self.ctr("containers", "list", "--quiet").split():
            labels = json.loads(self.ctr("containers", "info", container))["Labels"]
            found.add(labels["wfe.owner"].split("/")[0])
        return found

    def test_the_same_input_on_both_at_once(self):
        whole = "sha256sum </in/content; cat /in/small"
        processes = [self.start_on(host, whole) for host in HOSTS * 2]
        outputs = {self.output_of(process) for process in processes}
        digest = subprocess.run(["sha256sum"], input=self.content, check=True,
                                stdout=subprocess.PIPE).stdout.decode()
        self.assertEqual(outputs, {digest + "small\n"})
        # Two chains: the image and, on it, the input.
        self.assertEqual(len(self.ctr("snapshots", "list").splitlines()[1:]), 2)
        self.assert_nothing_left()

    def test_the_second_finds_what_the_first_has_brought(self):
        self.output_of(self.start_on("here", "cat /in/small"))
        blobs = self.blobs()
        self.assertEqual(self.output_of(self.start_on("elsewhere", "cat /in/small")), "small\n")
        self.assertEqual(self.blobs(), blobs)

    def test_gc_of_one_leaves_the_others_step_alone(self):
        gated = "echo up; until [ -e /gate/open ]; do sleep 0.05; done; cat /in/small"
        gate = f"/var/gate-{self.namespace}"
        os.mkdir(self.session.remote.path(gate))
        processes = [self.start_on(host, gated, volumes=[{"source": gate, "target": "/gate"}])
                     for host in HOSTS]
        for process in processes:
            self.await_output(process, b"up\n")
        self.assertEqual(len(self.owners()), 2)
        for host in HOSTS * 2:
            self.assertEqual(self.gc_on(host)["steps"], 0)
        with open(self.session.remote.path(gate + "/open"), "w", encoding="ascii"):
            pass
        for process in processes:
            self.assertEqual(self.output_of(process), "up\nsmall\n")
        self.assert_nothing_left()
