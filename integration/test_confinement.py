# SPDX-License-Identifier: MIT
"""What a step may do and what it may not, judged inside of its container.

confinement_probe.c tries it all; the last test of each kind opens the confinement by name, and the
same attempts succeed.
"""

import os
import subprocess

from harness import IMAGE, IntegrationTest, repository_file

# Whoever asks.
DENIED = {
    "mount": "EPERM", "umount": "EPERM", "fsopen": "EPERM", "unshare-mount": "EPERM",
    "unshare-user": "EPERM", "clone-user": "EPERM", "clone3": "ENOSYS", "setns": "EPERM",
    "keyctl": "EPERM", "bpf": "EPERM", "perf": "EPERM", "io-uring": "EPERM",
    "userfaultfd": "EPERM", "handle": "EPERM", "reboot": "EPERM", "swapon": "EPERM",
    "module": "EPERM", "kexec": "EPERM", "syslog": "EPERM", "hostname": "EPERM",
    "clock": "EPERM", "personality": "EPERM", "alg": "EPERM", "alg-wide": "EPERM",
    "vsock": "EPERM", "firmware": "ENODATA", "block-device": "EPERM",
    "memory-device": "EPERM", "host-processes": "ESRCH", "new-privileges": "EPERM",
}
ALLOWED = ("fork", "thread", "ptrace-child", "pipe", "tcp", "unix", "netlink")


class Confinement(IntegrationTest):
    _probe = None

    def probe(self, **config):
        """{attempt: "ok" or an errno's name}"""
        data = self.succeed({"image": IMAGE, "inputs": {"probe": "/probe"},
                             "command": ["/probe/probe"], **config},
                            options=["--artifact", f"probe={self.probe_directory()}"])
        return dict(line.split() for line in data["unknown.stdout"].splitlines())

    def probe_directory(self):
        if not Confinement._probe:
            directory = os.path.join(self.session.scratch, "probe")
            os.mkdir(directory)
            subprocess.run([os.environ.get("CC", "gcc"), "-D_GNU_SOURCE", "-static", "-O1", "-Wall",
                            "-Werror", "-pthread", "-o", os.path.join(directory, "probe"),
                            repository_file("integration", "confinement_probe.c")], check=True)
            Confinement._probe = directory
        return Confinement._probe

    def check(self, found, expected):
        self.assertEqual({name: found[name] for name in expected}, expected)

    def check_denied(self, found):
        self.check(found, DENIED)
        # Not every kernel has it.
        self.assertIn(found["read-kcore"], ("ENODATA", "ENOENT"))
        self.assertIn(found["write-sysrq"], ("EROFS", "EACCES", "ENOENT"))

    def test_root_is_confined(self):
        found = self.probe(user="0:0")
        self.check_denied(found)
        self.check(found, dict.fromkeys(ALLOWED + ("chown", "chroot", "raw-socket", "write-root"),
                                        "ok"))
        self.check(found, {"write-sysctl": "EROFS", "write-sys": "EROFS"})

    def test_nobody_is_confined(self):
        found = self.probe()
        self.check_denied(found)
        self.check(found, dict.fromkeys(ALLOWED, "ok"))
        self.check(found, dict.fromkeys(("chown", "chroot", "raw-socket"), "EPERM"))
        self.check(found, {"write-root": "EACCES"})
        for name in ("write-sysctl", "write-sys"):
            self.assertIn(found[name], ("EROFS", "EACCES"), name)

    def test_what_is_opened_by_name_is_open(self):
        found = self.probe(user="0:0", seccomp="unconfined", cap_add=["SYS_ADMIN"])
        self.check(found, dict.fromkeys(("mount", "umount", "fsopen", "unshare-mount", "hostname",
                                         "setns", "userfaultfd", "personality"), "ok"))
        self.assertNotEqual(found["clone3"], "ENOSYS")
        for name in ("keyctl", "bpf", "io-uring", "alg", "alg-wide", "vsock"):
            self.assertNotEqual(found[name], "EPERM", name)
        # What other means than these two guard stays as it was.
        self.check(found, {"block-device": "EPERM", "memory-device": "EPERM", "reboot": "EPERM",
                           "host-processes": "ESRCH"})

    def test_a_capability_opens_its_calls_and_no_others(self):
        found = self.probe(user="0:0", cap_add=["CAP_SYS_ADMIN"])
        self.check(found, dict.fromkeys(("mount", "unshare-mount", "setns"), "ok"))
        self.check(found, {"keyctl": "EPERM", "alg": "EPERM", "alg-wide": "EPERM",
                           "vsock": "EPERM", "io-uring": "EPERM", "reboot": "EPERM"})

    def test_a_dropped_capability_is_gone(self):
        found = self.probe(user="0:0", cap_drop=["ALL"], cap_add=["chown"])
        self.check_denied(found)
        self.check(found, {"chown": "ok", "chroot": "EPERM", "raw-socket": "EPERM"})

    def test_a_read_only_root_has_its_tmpfs_only(self):
        found = self.probe(user="0:0", read_only=True)
        self.check(found, {"write-root": "EROFS", "chown": "EROFS"})
        data = self.succeed({"image": IMAGE, "user": "0:0", "read_only": True,
                             "run": "touch /run/x /dev/shm/y && echo written"})
        self.assertEqual(data["unknown.stdout"], "written\n")

    def test_new_privileges_are_allowed_by_name(self):
        self.check(self.probe(no_new_privileges=False), {"new-privileges": "ok"})

    def test_the_kernel_says_so_too(self):
        script = "grep -E '^(CapBnd|CapEff|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status"

        def status(**config):
            data = self.succeed({"image": IMAGE, "run": script, **config})
            return dict(line.split(":\t") for line in data["unknown.stdout"].splitlines())

        nobody = {"CapBnd": "00000000a80425fb", "CapEff": "0000000000000000",
                  "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}
        self.assertEqual(status(), nobody)
        self.assertEqual(status(user="0:0"), {**nobody, "CapEff": "00000000a80425fb"})
        self.assertEqual(status(user="0:0", seccomp="unconfined", no_new_privileges=False,
                                cap_drop=["ALL"], cap_add=["NET_RAW"]),
                         {**nobody, "CapBnd": "0000000000002000", "CapEff": "0000000000002000",
                          "NoNewPrivs": "0", "Seccomp": "0"})
