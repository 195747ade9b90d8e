# SPDX-License-Identifier: MIT
"""Volumes: directories and files of the daemon's machine, and memory."""

import os
import subprocess

from harness import IMAGE, IntegrationTest


class VolumeTest(IntegrationTest):
    def run_with(self, volumes, run, **config):
        return self.run_step({"image": IMAGE, "volumes": volumes, "run": run, **config})

    def output(self, volumes, run, **config):
        data = self.succeed({"image": IMAGE, "volumes": volumes, "run": run, **config})
        return data["unknown.stdout"]


class Volumes(VolumeTest):
    def test_a_directory_is_shared_and_a_readonly_one_is_not_written(self):
        tree = self.make_tree("tree", {"a": "alpha"})
        volumes = [{"source": tree, "target": "/rw"},
                   {"source": tree, "target": "/ro", "readonly": True}]
        self.assertEqual(self.output(volumes, "cat /ro/a; echo new >/rw/b; cat /ro/b",
                                     user="0:0"), "alphanew\n")
        self.assertTrue(os.path.exists(os.path.join(tree, "b")))
        outcome = self.run_with(volumes, "echo >/ro/c", user="0:0")
        self.assertEqual(outcome.status, 1)
        self.assertIn("Read-only file system", outcome.stderr)
        self.assertFalse(os.path.exists(os.path.join(tree, "c")))

    def test_a_file_lies_over_that_of_the_image(self):
        path = self.write("hostfile", "from the host\n")
        volumes = [{"source": path, "target": "/etc/passwd", "readonly": True},
                   {"source": path, "target": "/new/place/file"}]
        self.assertEqual(self.output(volumes, "cat /etc/passwd /new/place/file"),
                         "from the host\n" * 2)
        # The image itself is as it was.
        self.assertIn("root:x:0:0", self.output([], "cat /etc/passwd"))

    def test_a_directory_lies_over_that_of_the_image(self):
        tree = self.make_tree("tree", {"a": "alpha"})
        self.assertEqual(self.output([{"source": tree, "target": "/etc"}], "ls /etc"), "a\n")

    def test_volumes_inside_of_one_another_all_show(self):
        outer = self.make_tree("outer", {"a": "alpha", "inner/hidden": ""})
        inner = self.make_tree("inner", {"b": "beta"})
        volumes = [{"type": "tmpfs", "target": "/v/inner/memory"},
                   {"source": inner, "target": "/v/inner"}, {"source": outer, "target": "/v"}]
        self.make_tree("inner/memory", {"hidden": ""})
        self.assertEqual(self.output(volumes, "cd /v; find . -type f | sort"),
                         "./a\n./inner/b\n")

    def test_a_source_that_is_not_there_is_told_before_anything_is_made(self):
        path = self.write("file", "")
        for source, reason in ((self.path("absent"), "No such file or directory"),
                               (path + "/below", "Not a directory"),
                               ("/dev/null", "is a device")):
            with self.subTest(source=source):
                outcome = self.run_step(
                    {"image": IMAGE, "run": "true", "volumes": [
                        {"type": "tmpfs", "target": "/a"}, {"source": source, "target": "/b"}]},
                    global_options=["--log-level", "debug"])
                self.assertEqual(outcome.status, 125)
                error = outcome.result["error"]
                self.assertEqual(error["kind"], "input")
                self.assertIn(f"volumes[1].source: '{source}'", error["message"])
                self.assertIn(reason, error["message"])
                for made in ("Containers/Create", "Snapshots/Prepare", "Tasks/Create"):
                    self.assertNotIn(made, outcome.stderr)

    def test_a_directory_where_the_image_has_a_file_fails_with_both_named(self):
        tree = self.make_tree("tree", {"a": ""})
        outcome = self.run_with([{"source": tree, "target": "/etc/passwd"}], "true")
        self.assertEqual(outcome.status, 125)
        self.assertEqual(outcome.result["error"]["kind"], "containerd")
        self.assertIn("/etc/passwd", outcome.result["error"]["message"])

    def test_memory_has_its_size_and_mode(self):
        script = ("stat -c %a /m; df -k /m | tail -n 1 | awk '{print $2}';"
                  " grep ' /m ' /proc/mounts | cut -d ' ' -f 3,4")
        said = self.output([{"type": "tmpfs", "target": "/m", "size": "1m", "mode": "0750"}],
                           script).splitlines()
        self.assertEqual(said[:2], ["750", "1024"])
        for option in ("tmpfs", "nosuid", "nodev", "noexec"):
            self.assertIn(option, said[2])
        said = self.output([{"type": "tmpfs", "target": "/m"}], script).splitlines()
        self.assertEqual(said[0], "1777")
        outcome = self.run_with([{"type": "tmpfs", "target": "/m", "size": "1m"}],
                                "dd if=/dev/zero of=/m/x bs=1024k count=2")
        self.assertIn("No space left", outcome.stderr)
        outcome = self.run_with([{"type": "tmpfs", "target": "/m", "readonly": True}],
                                "echo >/m/x")
        self.assertIn("Read-only file system", outcome.stderr)


class Propagation(VolumeTest):
    """A source that is a mount of its own, shared, so that later mounts can propagate."""

    def setUp(self):
        super().setUp()
        self.source = self.path("shared")
        os.mkdir(self.source)
        self.mount("-t", "tmpfs", "tmpfs", self.source)
        self.addCleanup(subprocess.run, ["umount", "-R", self.source], check=False)
        self.mount("--make-rshared", self.source)
        os.mkdir(os.path.join(self.source, "below"))

    @staticmethod
    def mount(*arguments):
        subprocess.run(["mount", *arguments], check=True)

    def below(self):
        return os.path.join(self.source, "below")

    def volume(self, **fields):
        return {"source": self.source, "target": "/v", **fields}

    def sees_later_mount(self, **fields):
        """Whether a step sees what the host mounts while it runs."""
        process = self.start_step({"image": IMAGE, "volumes": [self.volume(**fields)], "run":
                                   "echo up; until [ -e /v/go ]; do sleep 0.1; done;"
                                   " ls /v/below"})
        while b"up" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        self.mount("-t", "tmpfs", "tmpfs", self.below())
        for path in (os.path.join(self.below(), "seen"), os.path.join(self.source, "go")):
            with open(path, "w", encoding="ascii"):
                pass
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, stderr)
        subprocess.run(["umount", self.below()], check=True)
        os.unlink(os.path.join(self.source, "go"))
        return b"seen" in stdout

    def test_a_private_volume_does_not_see_later_mounts_and_a_slave_does(self):
        self.assertFalse(self.sees_later_mount())
        self.assertFalse(self.sees_later_mount(propagation="private"))
        self.assertTrue(self.sees_later_mount(propagation="rslave"))
        self.assertTrue(self.sees_later_mount(propagation="slave"))

    def test_only_a_shared_volume_gives_mounts_back(self):
        run = "mount -t tmpfs tmpfs /v/below && touch /v/below/made"
        for propagation, expected in (("rslave", []), ("rprivate", []), ("rshared", ["made"])):
            with self.subTest(propagation=propagation):
                self.succeed({"image": IMAGE, "volumes": [self.volume(propagation=propagation)],
                              "user": "0:0", "cap_add": ["SYS_ADMIN"],
                              "apparmor": "unconfined", "run": run})
                self.assertEqual(os.listdir(self.below()), expected)

    def test_what_is_mounted_below_is_left_out_when_asked_for(self):
        self.mount("-t", "tmpfs", "tmpfs", self.below())
        with open(os.path.join(self.below(), "deep"), "w", encoding="ascii"):
            pass
        self.assertEqual(self.output([self.volume()], "ls /v/below"), "deep\n")
        self.assertEqual(self.output([self.volume(rbind=False)], "ls /v/below"), "")
