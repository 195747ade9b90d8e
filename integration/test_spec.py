# SPDX-License-Identifier: MIT
"""The runtime's own copy of a step's spec, against runtime-spec.schema.json."""

import glob
import json
import os
import subprocess
import sys
import unittest

from harness import IMAGE, IntegrationTest, does_not_apply, repository_file

# Debian's package is for Debian's interpreter.
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable

EVERYTHING = {
    "user": "1000:1000", "working_dir": "/new", "env": {"A": "1", "PATH": None},
    "memory": "64m", "cpu": 1.5, "pids": 100, "nofile": 512, "shm_size": "1m",
    "read_only": True, "no_new_privileges": False, "cap_add": ["ALL"], "cap_drop": ["SYS_BOOT"],
    "network": "host",
}


class Spec(IntegrationTest):
    def setUp(self):
        super().setUp()
        # As scripts/containerd-dev has it.
        self.state = os.path.join(os.path.dirname(self.session.ctr_address()), "state")
        if not os.path.isdir(self.state):
            raise does_not_apply("the daemon's state is not here to be read")

    def spec_of(self, config):
        """The bundle's config.json of a step that runs."""
        process = self.start_step({"image": IMAGE, "run": "echo up; sleep 60", "grace": 0,
                                   **config})
        while line := process.stderr.readline():
            if b"up\n" == line[-3:]:
                break
        self.assertIsNone(process.poll(), line)
        (path,) = glob.glob(os.path.join(self.state, "*.task", self.namespace, "*",
                                         "config.json"))
        with open(path, "rb") as file:
            text = file.read()
        process.terminate()
        process.communicate(timeout=60)
        return text

    def check(self, text):
        """Whether the schema takes it, and what it says."""
        path = self.write("spec.json", text)
        process = subprocess.run(
            [PYTHON, "-W", "ignore", "-m", "jsonschema", "-i", path,
             repository_file("integration", "runtime-spec.schema.json")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if "No module named" in process.stdout:
            raise unittest.SkipTest("python3-jsonschema is not installed")
        return process.returncode == 0, process.stdout

    def test_every_spec_fits_the_schema(self):
        tree = self.make_tree("tree", {"a": ""})
        volumes = [{"source": tree, "target": "/v", "propagation": "slave", "readonly": True},
                   {"type": "tmpfs", "target": "/m", "size": "1m"}]
        for config in ({}, {"user": "root", "seccomp": "unconfined"},
                       {**EVERYTHING, "volumes": volumes}):
            with self.subTest(config=config):
                fits, said = self.check(self.spec_of(config))
                self.assertTrue(fits, said)

    def test_the_schema_refuses_what_is_wrong(self):
        spec = json.loads(self.spec_of({}))
        for wrong in ({"extra": 1}, {"hostname": "a_b"}, {"ociVersion": "2"},
                      {"process": {**spec["process"], "cwd": "relative"}},
                      {"linux": {**spec["linux"], "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}}):
            with self.subTest(wrong=wrong):
                self.assertFalse(self.check(json.dumps({**spec, **wrong}))[0])
