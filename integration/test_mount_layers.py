# SPDX-License-Identifier: MIT
"""`.wfe/layers` of a mount: the layers that `wfe-artifactfs layer` writes, without writing them."""

import bz2
import concurrent.futures
import errno
import hashlib
import json
import os
import random
import stat
import subprocess
import tarfile
import unittest

from mounting import MountTest, wait_until


class MountedLayers(MountTest):
    def layer(self, source, compression, prefix="/"):
        """What the command writes, and its descriptor."""
        descriptor = self.path("descriptor.json")
        process = subprocess.run(
            [self.session.artifactfs, "layer", "--store", self.store, "--prefix", prefix,
             "--compression", compression, "--descriptor", descriptor, source],
            env=self.environment, stdout=subprocess.PIPE, check=True)
        with open(descriptor, encoding="utf-8") as file:
            return process.stdout, json.load(file)

    def layer_path(self, name):
        return self.in_mount(".wfe", "layers", name)

    def check(self, name, source, prefix="/"):
        """The mounted layers of an artifact are those of its source."""
        with open(self.layer_path(name + ".tar"), "rb") as file:
            found = file.read()
        expected, descriptor = self.layer(source, "none", prefix)
        self.assertEqual(os.stat(self.layer_path(name + ".tar")).st_size, descriptor["tarSize"])
        self.assertEqual("sha256:" + hashlib.sha256(found).hexdigest(), descriptor["diffID"])
        self.assertEqual(found, expected)
        _, descriptor = self.layer(source, "gzip", prefix)
        with open(self.layer_path(name + ".tar.gz"), "rb") as file:
            found = file.read()
        self.assertEqual(os.stat(self.layer_path(name + ".tar.gz")).st_size, descriptor["size"])
        self.assertEqual("sha256:" + hashlib.sha256(found).hexdigest(), descriptor["digest"])
        self.check_offsets(name, expected)

    def check_offsets(self, name, expected):
        """Readers at many offsets at once see the bytes that are there."""
        def read(seed):
            chance = random.Random(seed)
            descriptor = os.open(self.layer_path(name + ".tar"), os.O_RDONLY)
            try:
                for _ in range(60):
                    offset = chance.randrange(len(expected))
                    length = chance.choice((1, 512, 5000, 200000))
                    if os.pread(descriptor, length, offset) != expected[offset:offset + length]:
                        return offset
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
            return None

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            self.assertEqual(set(pool.map(read, range(6))), {None})

    def tree(self, name="tree"):
        files = {f"d{number % 13}/f{number}": "x" * (number * 37 % 9000) for number in range(300)}
        files["big"] = random.Random(name).randbytes(3 << 20)
        root = self.make_tree(name, files)
        os.link(os.path.join(root, "big"), os.path.join(root, "d1/same"))
        os.symlink("d1/same", os.path.join(root, "link"))
        os.mkfifo(os.path.join(root, "fifo"))
        os.setxattr(os.path.join(root, "d1"), "user.kind", b"folder")
        with open(os.path.join(root, "sparse"), "wb") as file:
            file.truncate(1 << 20)
            file.seek(700000)
            file.write(b"data")
        return root

    def test_layers_of_archives_are_those_of_the_command(self):
        tree = self.tree()
        for name in ("a.tar", "a.tar.gz", "a.tar.zst", "a.tar.xz", "a.cpio"):
            with self.subTest(name):
                archive = self.archive(name, tree)
                self.mount(archive)
                self.check("a", archive)
                self.unmount()

    def test_layers_of_a_zip_and_of_a_directory_are_those_of_the_command(self):
        tree = self.make_tree("tree", {"d/f": "x" * 100000, "d/g": "", "h": "y"})
        archive = self.archive("a.zip", tree)
        self.mount("--artifact", f"zip={archive}", "--artifact", f"folder={self.tree('other')}")
        self.check("zip", archive)
        self.check("folder", self.path("other"))

    def test_a_file_that_is_no_archive_is_in_its_layer(self):
        note = self.write("note.txt", "some text\n" * 10000, 0o640)
        self.mount("--artifact", f"note={note}")
        self.check("note", note)

    def test_the_members_of_a_package_have_layers(self):
        os.mkdir(self.path("members"))
        for name in ("one.tar.gz", "two.tar"):
            os.rename(self.archive(name, self.tree("in-" + name)), self.path("members", name))
        self.mount(self.archive("package.tar", self.path("members")))
        self.check("one", self.path("members", "one.tar.gz"))
        self.check("two", self.path("members", "two.tar"))

    def test_the_path_of_an_input_is_the_prefix(self):
        reference = self.put(self.tree(), "data")
        digest = reference["data"]["__wfe_artifact"]
        step = self.step_file({"image": "x", "run": "y", "inputs": {"data": "/in/deep/data"}})
        self.mount("--data", self.write("data.json", json.dumps(reference)), "--inputs", step)
        self.check("data", digest, "/in/deep/data")
        with tarfile.open(self.layer_path("data.tar.gz")) as layer:
            names = layer.getnames()
        self.assertEqual(names[:3], ["in", "in/deep", "in/deep/data"])

    def test_what_can_be_no_layer_is_an_error_with_a_reason(self):
        device = self.make_tree("device", {"f": "1"})
        os.mknod(os.path.join(device, "null"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        clamped = self.path("clamped.tar")
        with tarfile.open(clamped, "w") as archive:
            archive.addfile(tarfile.TarInfo("a/../../b"))
        cut = self.archive("cut.tar", self.make_tree("cut", {"f": "x" * 100000}))
        os.truncate(cut, 50000)
        process = self.start_mount(
            "--artifact", f"device={device}", "--artifact", f"clamped={clamped}",
            "--artifact", f"cut={cut}")
        self.assertEqual(len(os.listdir(self.in_mount(".wfe", "layers"))), 6)
        for name in ("device.tar", "device.tar.gz", "clamped.tar", "clamped.tar.gz", "cut.tar",
                     "cut.tar.gz", "device.tar"):
            with self.subTest(name), self.assertRaises(OSError) as raised:
                os.stat(self.layer_path(name))
            self.assertEqual(raised.exception.errno, errno.EIO)
        self.assertEqual(self.read("device", "f"), b"1")
        log = self.end_mount(process)
        self.assertEqual(log.count("device nodes are not allowed"), 2)
        self.assertIn("'..' may not stand in a name", log)
        self.assertIn("no layer can be made of it: it is broken", log)

    def test_listing_the_layers_makes_none(self):
        for name in ("one", "two"):
            self.put(self.make_tree(name, {"f": name}), name)
        self.mount(self.store)
        names = os.listdir(self.in_mount(".wfe", "layers"))
        self.assertEqual(len(names), 4)
        self.assertEqual({entry.is_file() for entry in os.scandir(self.in_mount(".wfe", "layers"))},
                         {True})
        subprocess.run(["ls", "--color=never", self.in_mount(".wfe", "layers")], check=True,
                       stdout=subprocess.DEVNULL)
        self.assertEqual({artifact["state"] for artifact in self.volume().values()}, {"unopened"})
        os.stat(self.layer_path(names[0]))
        self.assertIn("unopened", {artifact["state"] for artifact in self.volume().values()})

    def test_a_tar_is_written_nowhere(self):
        archive = self.archive("a.tar.gz", self.tree())
        process = self.start_mount(archive)
        with open(self.layer_path("a.tar"), "rb") as file:
            self.assertGreater(len(file.read()), 4 << 20)
            self.assertEqual(self.spooled(process.pid), 0)
        with open(self.layer_path("a.tar.gz"), "rb") as file:
            self.assertEqual(self.spooled(process.pid), os.fstat(file.fileno()).st_size)
        self.end_mount(process)

    def test_a_spool_that_is_too_small_is_an_error_with_a_reason(self):
        archive = self.archive("a.tar", self.tree())
        process = self.start_mount("--cache-size", "1M", archive)
        self.assertGreater(os.stat(self.layer_path("a.tar")).st_size, 4 << 20)
        with self.assertRaises(OSError) as raised:
            os.stat(self.layer_path("a.tar.gz"))
        self.assertEqual(raised.exception.errno, errno.EIO)
        self.assertIn("more than the 1048576 bytes", self.end_mount(process))

    def slow_archive(self, name):
        """One that takes a second or two to scan: of a short file and one that packs badly."""
        noise = random.Random(1).randbytes(4 << 20)
        repeats = 8
        early, middle = tarfile.TarInfo("early"), tarfile.TarInfo("middle")
        early.size, middle.size = len(b"first"), repeats * len(noise)
        head = early.tobuf() + b"first".ljust(512, b"\0") + middle.tobuf()
        with open(self.path(name), "wb") as file:
            file.write(bz2.compress(head))
            file.write(bz2.compress(noise) * repeats)
            file.write(bz2.compress(bytes(1024)))
        return self.path(name)

    def test_a_layer_waits_for_the_scan_and_can_be_interrupted(self):
        archive = self.slow_archive("a.tar.bz2")
        self.mount(archive)
        waiting = subprocess.Popen(["stat", self.layer_path("a.tar")], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(self._end, waiting)
        with self.assertRaises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.3)
        waiting.terminate()
        waiting.wait(timeout=2)
        self.assertEqual(self.artifact()["state"], "scanning")
        _, descriptor = self.layer(archive, "none")
        self.assertEqual(os.stat(self.layer_path("a.tar")).st_size, descriptor["tarSize"])
        with open(self.layer_path("a.tar"), "rb") as file, tarfile.open(fileobj=file) as layer:
            self.assertEqual(layer.extractfile("early").read(), b"first")

    def test_a_mount_ends_while_a_layer_is_made(self):
        archive = self.path("a.tar")
        with tarfile.open(archive, "w") as tar:
            member = tarfile.TarInfo("noise")
            member.size = 256 << 20
            with open("/dev/urandom", "rb") as noise:
                tar.addfile(member, noise)
        process = self.start_mount(archive)
        self.wait_scanned()
        waiting = subprocess.Popen(["stat", self.layer_path("a.tar.gz")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self._end, waiting)
        self.assertTrue(wait_until(lambda: self.spooled(process.pid) > 0))
        self.end_mount(process)
        self.assertNotEqual(waiting.wait(timeout=10), 0)


if __name__ == "__main__":
    unittest.main()
