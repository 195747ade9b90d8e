# SPDX-License-Identifier: MIT
"""Inputs that are mounted: the step sees what it would see of layers, and nothing stays mounted."""

import io
import os
import subprocess
import tarfile
import time

from harness import IMAGE, IntegrationTest, repository_file

# All that a container can tell of a tree, but for what each file system has its own numbers for:
# inodes, and the sizes of directories.
LOOK = ("cd TARGET && find . | sort | while read -r name; do stat -c '%n %F %a %u:%g %Y %t:%T' "
        "\"$name\"; done; find . -type f | sort | xargs sha256sum; find . -type l | sort | "
        "xargs -r -n 1 readlink")
MOUNT = ("--inputs-as", "mount")
LAYER = ("--inputs-as", "layer")


def step(run, inputs, **config):
    return {"name": "look", "type": "containerd",
            "config": {"image": IMAGE, "user": "0:0", "inputs": inputs, "run": run, **config}}


def add(archive, name, content=b"", **fields):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for key, value in fields.items():
        setattr(entry, key, value)
    archive.addfile(entry, io.BytesIO(content))


class MountedInputs(IntegrationTest):
    def archive(self, name, **options):
        """An archive of every kind of entry that a layer takes."""
        path = self.path(name)
        with tarfile.open(path, "w:gz", **options) as archive:
            add(archive, "./", type=tarfile.DIRTYPE, mode=0o750, uid=7, gid=8, mtime=1000)
            add(archive, "./bin/run", b"#!/bin/sh\n", mode=0o4755, mtime=1234567890.5)
            add(archive, "./a", b"first", mtime=5)
            add(archive, "./a", b"second", mode=0o600, uid=1000, gid=1001, mtime=6)
            add(archive, "./hard", type=tarfile.LNKTYPE, linkname="./a")
            add(archive, "./soft", type=tarfile.SYMTYPE, linkname="../outside")
            add(archive, "./fifo", type=tarfile.FIFOTYPE, mode=0o640)
            add(archive, "./empty", type=tarfile.DIRTYPE, mode=0o2775)
            add(archive, "./no/entry/of/parents", b"deep")
        return path

    def seen(self, document, how, data=None, options=()):
        return self.succeed(document, data=data, options=[*options, *how])["look.stdout"]

    def assert_same(self, document, data=None, options=()):
        mounted = self.seen(document, MOUNT, data, options)
        self.assertEqual(mounted, self.seen(document, LAYER, data, options))
        return mounted

    def test_a_container_sees_the_same_tree(self):
        data = self.put(self.archive("a.tar.gz"), "words")
        seen = self.assert_same(step(LOOK.replace("TARGET", "/in/words"), {"words": "/in/words"}),
                                data)
        self.assertIn("./hard regular file 600 1000:1001", seen)
        self.assertIn("./bin/run regular file 755", seen)

    def test_a_target_that_the_image_has_keeps_what_is_in_it(self):
        data = self.put(self.make_tree("tree", {"passwd": "mine\n", "own": "x"}), "words")
        self.assert_same(step(LOOK.replace("TARGET", "/etc"), {"words": "/etc"}), data)

    def test_inputs_lie_side_by_side_and_inside_each_other(self):
        data = {}
        for name in ("one", "two", "three"):
            data |= self.put(self.make_tree(name, {name: name}), name)
        document = step("cd /in && find . | sort",
                        {"one": "/in/one", "two": "/in/two", "three": "/in/one/three"})
        self.assert_same(document, data)

    def test_sources_outside_of_the_store_are_mounted(self):
        document = step(LOOK.replace("TARGET", "/in"), {"words": "/in"})
        tree = self.make_tree("tree", {"a": "alpha", "b/c": "gamma"})
        for source in (tree, self.archive("plain.tar.gz")):
            with self.subTest(source=source):
                self.assert_same(document, options=["--artifact", f"words={source}"])

    def test_the_step_may_write_and_nothing_of_it_stays(self):
        data = self.put(self.make_tree("tree", {"a": "alpha"}), "words")
        document = step("cd /in && rm a && echo new > b && mkdir -p c/d && ls", {"words": "/in"})
        self.assertEqual(self.assert_same(document, data), "b\nc\n")
        self.assertEqual(self.assert_same(step("ls /in", {"words": "/in"}), data), "a\n")

    def test_another_user_reads_it(self):
        data = self.put(self.make_tree("tree", {"a": "alpha"}), "words")
        self.assert_same(step("cat /in/a; id -u", {"words": "/in"}, user="65534:65534"), data)

    def test_only_the_small_go_in_as_layers_by_default(self):
        with open(self.path("big"), "wb") as file:
            file.write(os.urandom(17 << 20))
        data = self.put(self.path("big"), "big") | self.put(self.make_tree("t", {"a": "a"}), "tiny")
        run = "grep -c ' /in overlay ' /proc/mounts || true"
        self.assertEqual(self.seen(step(run, {"big": "/in"}), (), data), "1\n")
        self.assertEqual(self.seen(step(run, {"tiny": "/in"}), (), data), "0\n")

    def running(self, document, data=None):
        process = self.start_step(document, data=data, options=MOUNT)
        self.await_output(process, b"up\n")
        return process

    def file_systems(self):
        found = subprocess.run(["pgrep", "-f", f"wfe-artifactfs mount .*{self.temp_dir}"],
                               stdout=subprocess.PIPE, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def test_a_step_whose_file_system_dies_fails_with_that_reason(self):
        data = self.put(self.make_tree("tree", {"a": "alpha"}), "words")
        process = self.running(step("echo up; sleep 1; cat /in/a || exit 7", {"words": "/in"}),
                               data)
        (pid,) = self.file_systems()
        os.kill(pid, 9)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 125, stderr)
        self.assertIn(b"the file system of the inputs died while the step ran (signal 9)", stdout)

    def test_a_timeout_leaves_nothing_mounted(self):
        data = self.put(self.make_tree("tree", {"a": "alpha"}), "words")
        outcome = self.run_step(step("cat /in/a; sleep 100", {"words": "/in"}, timeout="1s"),
                                data=data, options=MOUNT)
        self.assertEqual(outcome.status, 124, outcome.stderr)

    def test_the_file_system_ends_with_a_killed_executor(self):
        data = self.put(self.make_tree("tree", {"a": "alpha"}), "words")
        process = self.running(step("echo up; sleep 1000", {"words": "/in"}), data)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while self.file_systems() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.file_systems(), [])
        self.assertEqual(self.executor("gc").returncode, 0)

    def test_a_damaged_artifact_is_noticed(self):
        data = self.put(self.make_tree("tree", {"a": "alpha" * 1000}), "words")
        digest = data["words"]["__wfe_artifact"].removeprefix("sha256:")
        blob = os.path.join(self.store, "blobs", "sha256", digest)
        with open(blob, "r+b") as file:
            file.seek(-6, os.SEEK_END)
            file.write(b"\xff\x00")
        outcome = self.run_step(step("sleep 1", {"words": "/in"}), data=data, options=MOUNT)
        self.assertEqual(outcome.status, 125, outcome.stdout)
        self.assertEqual(outcome.result["error"]["kind"], "integrity")
        self.assertIn("input 'words'", outcome.stdout)

    def test_a_daemon_in_another_mount_namespace_gets_layers(self):
        self.need_this_machine("it can't be put into another mount namespace")
        place = self.path("other-daemon")
        start = [repository_file("scripts", "containerd-dev"), "--dir", place]
        subprocess.run(["unshare", "--mount", "--propagation", "private", *start, "start"],
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            address = ("--address", os.path.join(place, "containerd.sock"))
            pull = self.executor("pull", "--name", IMAGE, f"oci:{self.session.image_dir}",
                                 global_options=address)
            self.assertEqual(pull.returncode, 0, pull.stderr)
            data = self.put(self.make_tree("tree", {"a": "alpha"}), "words")
            outcome = self.run_step(step("cat /in/a", {"words": "/in"}), data=data, options=MOUNT,
                                    global_options=address)
            self.assertEqual(outcome.status, 0, outcome.stderr)
            self.assertEqual(outcome.result["output_data"]["look.stdout"], "alpha")
            self.assertIn("applied as layers", outcome.stderr)
        finally:
            subprocess.run([*start, "stop"], check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
