# SPDX-License-Identifier: MIT
"""The executor on a virtual machine beside its daemon: what is decided by looking at that machine,
its AppArmor and its cgroups of version 2."""

import json
import os
import re
import subprocess

from harness import IMAGE
from own_machine import MachineTest

PROFILE = "cri-containerd.apparmor.d"
CONTENT = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"


class Local(MachineTest):
    PLACE = "/var/programs"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.carry_programs(os.path.join(cls.session.scratch, "programs"))

    @classmethod
    def carry_programs(cls, folder):
        """The executor and its libraries. The way there is the daemon's content store."""
        os.mkdir(folder)
        subprocess.run(["strip", "-o", os.path.join(folder, "executor"), cls.session.executor],
                       check=True)
        listed = subprocess.run(["ldd", cls.session.executor], check=True,
                                stdout=subprocess.PIPE, text=True).stdout
        for library in re.findall(r"=> (/\S+)", listed):
            subprocess.run(["cp", "-L", library, folder], check=True)
        archive = folder + ".tar"
        subprocess.run(["tar", "-cf", archive, "-C", folder, "."], check=True)
        with open(archive, "rb") as file:
            subprocess.run(["ctr", "--address", cls.session.ctr_address(), "content", "ingest",
                            "programs"], stdin=file, check=True, stdout=subprocess.DEVNULL)
        digest = subprocess.run(["sha256sum", archive], check=True, stdout=subprocess.PIPE,
                                text=True).stdout.split()[0]
        cls.session.machine.shell(
            f"mkdir {cls.PLACE} && tar -xf {CONTENT}/{digest} -C {cls.PLACE}")

    def command(self, *arguments):
        return (f"LD_LIBRARY_PATH={self.PLACE} HOME={self.PLACE} {self.PLACE}/executor "
                f"--namespace {self.namespace} {' '.join(arguments)}")

    def run_there(self, **config):
        document = json.dumps({"image": IMAGE, **config})
        text = self.machine.shell(f"cat >{self.PLACE}/step.json <<'EOF'\n{document}\nEOF\n"
                                  + self.command("run", f"{self.PLACE}/step.json", "2>/dev/null")
                                  + "; :")
        return json.loads(text)

    def output(self, **config):
        result = self.run_there(**config)
        self.assertIs(result["proceed"], True, result)
        return result["output_data"]["unknown.stdout"].strip()

    def load_profile(self):
        """As a container engine does: with the profile of its own."""
        self.machine.shell(f"ctr --namespace {self.namespace} run --rm "
                           f"--apparmor-default-profile {PROFILE} {IMAGE} loader true")

    def test_apparmor_confines_where_its_profile_is_loaded(self):
        own_profile = "cat /proc/self/attr/current"
        self.assertEqual(self.output(run=own_profile), "unconfined")
        self.load_profile()
        self.assertEqual(json.loads(self.machine.shell(self.command("check")))["apparmor"], PROFILE)
        self.assertEqual(self.output(run=own_profile), f"{PROFILE} (enforce)")
        self.assertEqual(self.output(run=own_profile, apparmor="unconfined"), "unconfined")

    def test_it_is_local(self):
        report = json.loads(self.machine.shell(self.command("check")))
        self.assertEqual((report["shares"], report["io"]), ("machine", "fifo"), report)

    def test_swap_is_limited_as_well(self):
        limits = self.output(
            memory="64m", user="0:0", volumes=[{"source": "/sys/fs/cgroup", "target": "/groups"}],
            run=f"cd /groups/{self.namespace}/*/ && cat memory.max memory.swap.max")
        self.assertEqual(limits.split(), [str(64 << 20)] * 2)

    def test_a_want_of_memory_is_told(self):
        error = self.run_there(memory="24m", command=["tail", "/dev/zero"])["error"]
        self.assertEqual((error["kind"], error["exit_code"]), ("oom", 137))
