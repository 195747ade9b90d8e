# SPDX-License-Identifier: MIT
"""`wfe-artifactfs mount`: how a mount begins and ends, its options, and what is refused."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import unittest

from mounting import MountTest, mounts_below, wait_until

NOBODY = 65534


class Life(MountTest):
    def sample(self):
        return self.archive("a.tar.gz", self.make_tree("tree", {"f": "1", "d/x": "2" * 100000}))

    def mount_line(self):
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            (line,) = [line for line in mounts if line.split(" ")[1] == self.mountpoint]
        return line.split(" ")

    def test_a_mount_serves_when_the_command_returns(self):
        for _ in range(5):
            self.mount(self.sample())
            self.assertEqual(sorted(os.listdir(self.mountpoint)), ["d", "f"])
            self.unmount()

    def test_the_background_process_holds_nothing_of_its_caller(self):
        self.mount(self.sample())
        (pid,) = self._mount_processes()
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        for number in range(3):
            self.assertEqual(os.readlink(f"/proc/{pid}/fd/{number}"), "/dev/null")
        self.assertEqual(os.getsid(int(pid)), int(pid))

    def test_mount_shows_type_source_and_flags(self):
        source = self.sample()
        self.mount(source)
        name, _, kind, options, *_ = self.mount_line()
        self.assertEqual((name, kind), (source, "fuse.wfe-artifactfs"))
        self.assertTrue({"ro", "nosuid", "nodev"} <= set(options.split(",")), options)

    def test_signals_end_it_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number):
                process = self.start_mount(self.sample())
                self.assertEqual(self.read("f"), b"1")
                self.end_mount(process, number)

    def test_umount_ends_it_cleanly(self):
        for command in (["umount"], ["fusermount3", "-u"]):
            with self.subTest(command):
                process = self.start_mount(self.sample())
                self.assertEqual(self.read("f"), b"1")
                subprocess.run([*command, self.mountpoint], check=True)
                _, stderr = process.communicate(timeout=30)
                self.assertEqual((process.returncode, stderr), (0, b""))

    def test_a_busy_mount_is_ended_by_a_signal(self):
        process = self.start_mount(self.sample())
        with open(self.in_mount("d", "x"), "rb") as file:
            refused = subprocess.run(["umount", self.mountpoint], stderr=subprocess.PIPE, text=True)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("busy", refused.stderr)
            self.assertEqual(file.read(1), b"2")
            self.end_mount(process)
            with self.assertRaises(OSError) as raised:
                os.statvfs(file.fileno())
            self.assertEqual(raised.exception.errno, errno.ENOTCONN)

    def test_a_mount_taken_away_lazily_lives_as_long_as_it_is_used(self):
        process = self.start_mount(self.sample())
        with open(self.in_mount("d", "x"), "rb", buffering=0) as file:
            subprocess.run(["umount", "--lazy", self.mountpoint], check=True)
            self.assertEqual(len(file.read(200000)), 100000)
            self.assertIsNone(process.poll())
        self.assertEqual(process.wait(timeout=30), 0)

    def test_a_signal_during_a_scan_ends_it_at_once(self):
        archive = self.slow_archive("a.tar.bz2", {"early": b"first"}, 4000)
        process = self.start_mount(archive)
        waiting = subprocess.Popen(["ls", self.mountpoint], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(self._end, waiting)
        self.assertEqual(self.read("early"), b"first")
        self.assertEqual(self.artifact()["state"], "scanning")
        self.end_mount(process)
        waiting.wait(timeout=10)
        self.assertEqual(os.listdir(self.cache), [])

    def test_after_a_kill_it_says_what_to_do(self):
        source = self.sample()
        process = self.start_mount(source)
        process.kill()
        process.communicate()
        with self.assertRaises(OSError) as raised:
            os.listdir(self.mountpoint)
        self.assertEqual(raised.exception.errno, errno.ENOTCONN)
        refused = self.try_mount(source, self.mountpoint)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("umount -l", refused.stderr)
        subprocess.run(["umount", "-l", self.mountpoint], check=True)
        self.mount(source)
        self.assertEqual(self.read("f"), b"1")
        # Also if it was killed while it wrote the index.
        self.assertTrue(wait_until(
            lambda: [name[-4:] for name in os.listdir(self.cache)] == [".idx"]))

    def test_mounts_share_a_cache(self):
        source = self.sample()
        other = self.path("other")
        os.mkdir(other)
        self.mount(source)
        self.wait_scanned()
        self.assertTrue(wait_until(lambda: len(os.listdir(self.cache)) == 1))
        process = self.try_mount(source, other)
        self.addCleanup(self._remove_mount, other)
        self.assertEqual(process.returncode, 0, process.stderr)
        with open(os.path.join(other, "f"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "1")
        self.unmount(other)
        self.assertEqual(len(os.listdir(self.cache)), 1)

    def indexes(self):
        return [name for name in os.listdir(self.cache) if name.endswith(".idx")]

    def test_the_index_of_what_has_to_be_spooled_is_kept_too(self):
        source = self.archive("a.tar.lz4", self.make_tree("tree", {"f": "1" * 100000}))
        self.mount(source)
        self.assertTrue(wait_until(lambda: len(self.indexes()) == 1))
        self.unmount()
        self.mount(source)
        self.assertEqual(os.listdir(self.mountpoint), ["f"])
        self.assertEqual(self.artifact()["state"], "good")
        (pid,) = self._mount_processes()
        self.assertEqual(self.spooled(pid), 0)
        self.assertEqual(self.read("f"), b"1" * 100000)
        self.assertGreater(self.spooled(pid), 100000)
        self.assertEqual(self.artifact()["state"], "good")

    def test_an_altered_window_is_done_without_and_its_index_goes(self):
        content = os.urandom(1 << 20) * 20
        source = self.archive("a.tar.gz", self.make_tree("tree", {"f": content}))
        self.mount(source)
        self.assertTrue(wait_until(lambda: len(self.indexes()) == 1))
        self.unmount()
        (index,) = self.indexes()
        with open(os.path.join(self.cache, index), "r+b") as file:
            file.seek(-1000, os.SEEK_END)
            byte = file.read(1)
            file.seek(-1000, os.SEEK_END)
            file.write(bytes([byte[0] ^ 1]))
        self.mount(source)
        self.assertEqual(self.indexes(), [index])
        # From the end, so that no decoder is on its way there.
        with open(self.in_mount("f"), "rb", buffering=0) as file:
            file.seek(-1000, os.SEEK_END)
            self.assertEqual(file.read(), content[-1000:])
        self.assertEqual(self.read("f"), content)
        self.unmount()
        self.assertTrue(wait_until(lambda: not self.indexes()))

    def test_a_cache_that_cannot_be_written_to_is_no_hindrance(self):
        cache = self.mount_tmpfs("readonly")
        subprocess.run(["mount", "-o", "remount,ro", cache], check=True)
        for source in (self.sample(), self.archive("a.7z", self.path("tree"))):
            with self.subTest(source):
                self.mount("--cache", cache, source)
                self.assertEqual(self.read("f"), b"1")
                self.wait_scanned()
                self.unmount()

    def test_no_cache_keeps_nothing(self):
        process = self._run([self.session.artifactfs, "mount", "--no-cache", self.sample(),
                             self.mountpoint], None, b"", 60)
        self.addCleanup(self._remove_mount, self.mountpoint)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(self.read("f"), b"1")
        self.unmount()
        self.assertFalse(os.path.exists(self.path(".cache")))

    def test_the_mount_helper_serves_mount(self):
        """In a mount namespace of its own, in which the helper is where mount(8) looks."""
        with open(os.path.join(self.session.build_dir, "artifactfs", "mount.fuse.wfe-artifactfs"),
                  encoding="utf-8") as file:
            text = file.read()
        helper = self.write("mount.fuse.wfe-artifactfs", "\n".join(
            f"program='{self.session.artifactfs}'" if line.startswith("program=") else line
            for line in text.splitlines()) + "\n", 0o755)
        sbin = self.mount_tmpfs("sbin")
        for name in ("upper", "work"):
            os.mkdir(os.path.join(sbin, name))
        tree = self.make_tree("tree", {"f": "1"})
        data = self.write("data.json", json.dumps(self.put(tree, "thing")))
        source = self.archive("s.tar", tree)
        script = self.write("script", f"""
            set -eu
            mount -t overlay -o lowerdir=/usr/sbin,upperdir={sbin}/upper,workdir={sbin}/work \
                overlay /usr/sbin
            cp {helper} /usr/sbin/
            mount -t fuse.wfe-artifactfs -o uid=5,cache={self.cache} {source} {self.mountpoint}
            stat -c '%u' {self.mountpoint}/f
            grep -c ' {self.mountpoint} fuse.wfe-artifactfs ro,' /proc/self/mounts
            umount {self.mountpoint}
            echo '{source} {self.mountpoint} fuse.wfe-artifactfs defaults,noauto,nofail,cache={self.cache} 0 0' > {self.path('fstab')}
            mount -T {self.path('fstab')} {self.mountpoint}
            cat {self.mountpoint}/f
            umount {self.mountpoint}
            mount -t fuse.wfe-artifactfs -o data={data},store={self.store},cache={self.cache} \
                any {self.mountpoint}
            cat {self.mountpoint}/thing/f
            umount {self.mountpoint}
            ! mount -t fuse.wfe-artifactfs -o nonsense {source} {self.mountpoint}
            """)
        process = subprocess.run(["unshare", "--mount", "sh", script], env=self.environment,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.split(), ["5", "1", "11"])
        self.assertIn("nonsense", process.stderr)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not there")
    def test_the_unit_is_a_unit(self):
        with open(os.path.join(self.session.build_dir, "artifactfs", "wfe-artifactfs@.service"),
                  encoding="utf-8") as file:
            text = file.read()
        lines = [f"ExecStart={self.session.artifactfs} " + line.split(" ", 1)[1]
                 if line.startswith("ExecStart=") else line for line in text.splitlines()]
        unit = self.write("units/wfe-artifactfs@srv-data.service", "\n".join(lines) + "\n")
        process = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual((process.returncode, process.stdout), (0, ""))


class Options(MountTest):
    def setUp(self):
        super().setUp()
        tree = self.make_tree("tree", {"public": "1", "secret": "2"})
        os.chmod(os.path.join(tree, "secret"), 0o600)
        self.source = self.archive("a.tar", tree)

    def attributes(self, name):
        status = os.stat(self.in_mount(name))
        return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid

    def test_owner_and_permissions_can_be_overridden(self):
        self.mount("-o", "uid=11,gid=12", "-o", "umask=027", self.source)
        self.assertEqual(self.attributes("secret"), (0o750, 11, 12))
        self.assertEqual(self.attributes("public"), (0o750, 11, 12))
        self.assertEqual(self.attributes("."), (0o750, 11, 12))

    def as_nobody(self, *command):
        return subprocess.run(["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY),
                               "--clear-groups", *command], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)

    def test_others_are_let_in_only_when_allowed_and_only_by_the_modes(self):
        for folder in (self.session.scratch, self.tmp):
            os.chmod(folder, 0o755)
        self.mount(self.source)
        self.assertNotEqual(self.as_nobody("cat", self.in_mount("public")).returncode, 0)
        self.unmount()
        self.mount("-o", "allow_other", self.source)
        self.assertEqual(self.as_nobody("cat", self.in_mount("public")).stdout, "1")
        denied = self.as_nobody("cat", self.in_mount("secret"))
        self.assertIn("Permission denied", denied.stderr)

    def test_the_source_may_have_any_name(self):
        odd = self.path("odd, na\\me.tar")
        os.rename(self.source, odd)
        self.mount(odd)
        self.assertEqual(self.read("public"), b"1")

    def test_options_of_fstab_are_understood(self):
        self.mount("-o", "ro,nosuid,nodev,noexec,noatime,defaults,nofail,_netdev,x-systemd.automount",
                   "-o", "fsname=some\\,name,subtype=thing", self.source)
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            (line,) = [line for line in mounts if self.mountpoint in line]
        self.assertTrue(line.startswith("some,name "), line)
        self.assertIn("fuse.thing", line)
        self.assertIn("noexec", line)


class Refusals(MountTest):
    def refuse(self, *arguments, status=1, expected):
        process = self.try_mount(*arguments)
        self.assertEqual(process.returncode, status, process.stderr)
        self.assertIn(expected, process.stderr)
        self.assertEqual(len(process.stderr.splitlines()), 1, process.stderr)
        self.assertEqual(process.stdout, "")
        self.assertEqual(mounts_below(self.tmp), [])

    def test_command_lines_without_sense(self):
        source = self.archive("a.tar", self.make_tree("tree", {"f": "1"}))
        data = self.write("data.json", "{}")
        cases = (
            ((), "MOUNTPOINT"),
            ((self.mountpoint,), "SOURCE MOUNTPOINT"),
            ((source, self.mountpoint, "more"), "more"),
            (("--data", data, source, self.mountpoint), "exclude"),
            (("--artifact", f"x={source}", source, self.mountpoint), "exclude"),
            (("--inputs", data, self.mountpoint), "--data"),
            (("--artifact", "nonsense", self.mountpoint), "NAME=SOURCE"),
            (("--no-cache", source, self.mountpoint), "--no-cache"),
            (("--cache-size", "12X", source, self.mountpoint), "12X"),
            (("-o", "nonsense", source, self.mountpoint), "nonsense"),
            (("-o", "rw", source, self.mountpoint), "rw"),
            (("-o", "suid", source, self.mountpoint), "suid"),
            (("-o", "dev", source, self.mountpoint), "dev"),
            (("-o", "uid=root", source, self.mountpoint), "uid=root"),
            (("-o", "umask=999", source, self.mountpoint), "umask=999"),
        )
        for arguments, expected in cases:
            with self.subTest(arguments):
                self.refuse(*arguments, status=2, expected=expected)

    def test_names_that_cannot_be_folders(self):
        tree = self.make_tree("tree", {"f": "1"})
        for name, expected in ((".wfe", "'.wfe'"), ("a/b", "'a/b'"), ("..", "'..'"),
                               ("x" * 256, "255 bytes")):
            with self.subTest(name):
                self.refuse("--artifact", f"{name}={tree}", self.mountpoint, expected=expected)
        self.refuse("--artifact", f"x={tree}", "--artifact", f"x={tree}", self.mountpoint,
                    expected="'x' is given twice")

    def test_sources_that_are_not_there_or_no_sources(self):
        os.mkfifo(self.path("fifo"))
        for source, expected in (("missing.tar", "missing.tar"), ("fifo", "fifo"),
                                 ("/dev/null", "/dev/null"), ("-", "standard input"),
                                 ("sha256:" + "0" * 64, "store")):
            with self.subTest(source):
                self.refuse(source, self.mountpoint, expected=expected)
                self.refuse("-f", source, self.mountpoint, expected=expected)
        self.refuse("--artifact", "x=missing.tar", self.mountpoint, expected="artifact 'x'")

    def test_data_that_are_none(self):
        cases = (("[]", "JSON object"), ("{", "data.json:1"), ("{}", "no artifact reference"),
                 ('{"x":{"__wfe_artifact":"sha256:12"}}', "no digest"),
                 ('{"x":{"__wfe_artifact":"sha256:' + "0" * 64 + '"}}', "artifact 'x'"))
        self.put(self.make_tree("tree", {"f": "1"}), "thing")
        for text, expected in cases:
            with self.subTest(text):
                self.refuse("--data", self.write("data.json", text), self.mountpoint,
                            expected=expected)
        data = self.write("data.json", "{}")
        self.refuse("--data", data, "--inputs", self.write("step.yaml", "image: x\n"),
                    self.mountpoint, expected="inputs")
        self.refuse("--data", data, "--inputs", self.write("step.yaml", "image: [\n"),
                    self.mountpoint, expected="step.yaml")

    def test_mount_points_that_are_none(self):
        source = self.archive("a.tar", self.make_tree("tree", {"f": "1"}))
        self.refuse(source, self.path("missing"), expected="missing")
        self.refuse(source, self.write("file", ""), expected="directory")

    def test_mounts_that_would_wait_for_themselves(self):
        tree = self.make_tree("tree", {"f": "1", "d/x": "2"})
        self.refuse(tree, os.path.join(tree, "d"), expected="lies within the source")
        self.put(tree, "thing")
        self.refuse(self.store, self.tmp, expected="would hide")
        process = self.try_mount("--cache", os.path.join(self.mountpoint, "cache"), tree,
                                 self.mountpoint)
        self.assertEqual(process.returncode, 1)
        self.assertIn("would hide the cache", process.stderr)
        shutil.rmtree(os.path.join(self.mountpoint, "cache"), ignore_errors=True)

    def test_a_broken_head_is_no_mount(self):
        source = self.write("a.tar.xz", b"\xfd7zXZ\x00" + b"\xff" * 100)
        self.refuse(source, self.mountpoint, expected="a.tar.xz")


if __name__ == "__main__":
    unittest.main()
