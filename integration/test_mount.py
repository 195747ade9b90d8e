# SPDX-License-Identifier: MIT
"""`wfe-artifactfs mount`: what is seen in a mount, of each kind of source."""

import concurrent.futures
import errno
import gzip
import hashlib
import json
import os
import stat
import subprocess
import tarfile
import time
import unittest

from mounting import MountTest, wait_until
from trees import compare_trees, extract


class Sources(MountTest):
    def sample(self, name="tree"):
        """A tree with one of each kind."""
        root = self.make_tree(name, {"a/file": "hello\n", "a/empty": "", "b/deep/er/x": "x" * 100000,
                                     "with space": "1"})
        os.mkdir(os.path.join(root, "hollow"))
        os.symlink("a/file", os.path.join(root, "link"))
        os.symlink("/no/where", os.path.join(root, "dangling"))
        os.link(os.path.join(root, "a/file"), os.path.join(root, "b/same"))
        os.mkfifo(os.path.join(root, "fifo"), 0o620)
        os.mknod(os.path.join(root, "device"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        with open(os.path.join(os.fsencode(root), b"not-utf8-\xff"), "wb") as file:
            file.write(b"bytes")
        os.setxattr(os.path.join(root, "a/file"), "user.kind", b"\x00\xff")
        os.chmod(os.path.join(root, "a/empty"), 0o4711)
        os.chown(os.path.join(root, "with space"), 1234, 4321)
        os.utime(os.path.join(root, "a/file"), ns=(1, 1_234_567_890_123_456_789))
        os.chmod(os.path.join(root, "hollow"), 0o1777)
        return root

    def check_single(self, source, expected, ignore=()):
        self.mount(source)
        self.assertEqual(compare_trees(expected, self.mountpoint, ignore), [])
        self.assertEqual(self.wait_scanned()[self.artifact()["name"]]["state"], "good")
        self.unmount()
        # The second mount has the index of the first one.
        self.mount(source)
        self.assertEqual(compare_trees(expected, self.mountpoint, ignore), [])
        self.unmount()

    def test_an_archive_looks_as_bsdtar_extracts_it(self):
        tree = self.sample()
        for name in ("a.tar", "a.tar.gz", "a.tar.zst", "a.tar.xz", "a.tar.bz2", "a.tar.lz4"):
            with self.subTest(name):
                archive = self.archive(name, tree, "--format", "pax", "--xattrs")
                self.check_single(archive, extract(archive, self.path(name + ".out")))

    def test_a_zip_and_a_cpio_look_as_bsdtar_extracts_them(self):
        tree = self.make_tree("tree", {"a/file": "hello\n", "b/x": "x" * 100000})
        for name, ignore in (("a.zip", ("mtime_ns",)), ("a.cpio", ()), ("a.7z", ("uid", "gid"))):
            with self.subTest(name):
                archive = self.archive(name, tree)
                self.check_single(archive, extract(archive, self.path(name + ".out")), ignore)

    def test_a_directory_looks_as_it_is(self):
        tree = self.sample()
        self.mount(tree)
        self.assertEqual(compare_trees(tree, self.mountpoint, ignore_root=False), [])
        self.assertEqual(self.artifact()["media_type"], "inode/directory")

    def test_a_file_that_is_no_archive_is_shown_as_itself(self):
        self.mount(self.write("notes.txt", "some text"))
        self.assertEqual(os.listdir(self.mountpoint), ["notes.txt"])
        self.assertEqual(self.read("notes.txt"), b"some text")
        self.unmount()
        self.mount(self.write("notes.txt.gz", gzip.compress(b"text " * 1000)))
        self.assertEqual(os.listdir(self.mountpoint), ["notes.txt"])
        self.assertEqual(self.read("notes.txt"), b"text " * 1000)

    def test_a_store_has_a_folder_for_each_blob(self):
        digests = {}
        for name, content in (("one", "1"), ("two", "2")):
            reference = self.put(self.make_tree(name, {"f": content}), name)
            digests[name] = reference[name]["__wfe_artifact"]
        self.mount(self.store)
        folders = {name: digest[len("sha256:"):][:12] for name, digest in digests.items()}
        self.assertEqual(sorted(os.listdir(self.mountpoint)), sorted(folders.values()))
        self.assertEqual({artifact["state"] for artifact in self.volume().values()}, {"unopened"})
        self.assertEqual(os.getxattr(self.in_mount(folders["one"]), "user.wfe.digest").decode(),
                         digests["one"])
        self.assertEqual({artifact["state"] for artifact in self.volume().values()}, {"unopened"})
        self.assertEqual(self.read(folders["one"], "f"), b"1")
        volume = self.wait_scanned()
        self.assertEqual(volume[folders["one"]]["state"], "good")
        self.assertEqual(volume[folders["one"]]["stored_as"], ["one"])
        self.assertEqual(volume[folders["two"]]["state"], "unopened")
        self.assertEqual(os.listdir(self.in_mount(folders["two"])), ["f"])
        self.assertFalse(os.path.exists(self.in_mount("0" * 12)))

    def members(self):
        """Two archives that a volume package can be made of; {file name: content of f}."""
        os.mkdir(self.path("members"))
        for name, content in (("one.tar.gz", "1"), ("two.tar", "2")):
            tree = self.make_tree("in-" + name, {"f": content})
            os.rename(self.archive(name, tree), self.path("members", name))
        return self.path("members")

    def check_package(self, package):
        self.mount(package)
        self.assertEqual(sorted(os.listdir(self.mountpoint)), ["one", "two"])
        self.assertEqual(self.read("one", "f"), b"1")
        self.assertEqual(self.read("two", "f"), b"2")
        volume = self.wait_scanned()
        with open(self.path("members", "one.tar.gz"), "rb") as file:
            content = file.read()
        self.assertEqual(volume["one"]["size"], len(content))
        self.assertEqual(volume["one"]["digest"], "sha256:" + hashlib.sha256(content).hexdigest())
        self.unmount()

    def test_a_volume_package_has_a_folder_for_each_member(self):
        members = self.members()
        for name in ("package.tar", "package.tar.gz", "package.tar.zst", "package.tar.lz4"):
            with self.subTest(name):
                self.check_package(self.archive(name, members))

    def test_an_archive_with_other_members_is_no_package(self):
        members = self.members()
        self.write("members/zzz", "z")
        for name in ("mixed.tar", "mixed.tar.gz"):
            with self.subTest(name):
                self.mount(self.archive(name, members))
                self.assertEqual(sorted(os.listdir(self.mountpoint)),
                                 ["one.tar.gz", "two.tar", "zzz"])
                self.unmount()

    def test_the_references_in_data_are_folders(self):
        data = self.put(self.make_tree("one", {"f": "1"}), "one")
        data["outer"] = {"inner": self.put(self.make_tree("two", {"f": "2"}), "two")["two"],
                         "text": "no reference"}
        path = self.write("data.json", json.dumps(data))
        self.mount("--store", self.store, "--data", path)
        self.assertEqual(sorted(os.listdir(self.mountpoint)), ["one", "outer.inner"])
        self.assertEqual(self.read("outer.inner", "f"), b"2")
        volume = self.wait_scanned()
        self.assertEqual(volume["one"]["digest"], data["one"]["__wfe_artifact"])
        self.assertEqual(volume["one"]["media_type"],
                         "application/vnd.oci.image.layer.v1.tar+gzip")

    def test_inputs_choose_among_the_references(self):
        data = {}
        for name in ("one", "two", "three"):
            data.update(self.put(self.make_tree(name, {"f": name}), name))
        path = self.write("data.json", json.dumps(data))
        documents = {
            "bare": {"image": "x", "run": "y", "inputs": {"one": "/in/one"}},
            "step": {"name": "s", "type": "containerd", "config": {"inputs": {"one": "/in"}}},
            "workflow": {"workflow": {"steps": [{"name": "s", "config": {"inputs": {"one": "/a"}}}]}},
        }
        for name, document in documents.items():
            with self.subTest(name):
                step = self.step_file(document)
                self.mount("--data", path, "--inputs", step)
                self.assertEqual(os.listdir(self.mountpoint), ["one"])
                self.unmount()
        process = self.try_mount("--data", path, "--inputs",
                                 self.step_file({"image": "x", "inputs": {"four": "/four"}}),
                                 self.mountpoint)
        self.assertEqual(process.returncode, 1)
        self.assertIn("'four'", process.stderr)

    def test_artifacts_are_bound_to_names(self):
        tree = self.make_tree("tree", {"f": "tree"})
        data = self.put(self.make_tree("stored", {"f": "stored"}), "stored")
        archive = self.archive("a.tar.zst", self.make_tree("other", {"f": "archive"}))
        self.mount("--artifact", f"directory={tree}", "--artifact", f"archive={archive}",
                   "--artifact", f"blob={data['stored']['__wfe_artifact']}")
        self.assertEqual(sorted(os.listdir(self.mountpoint)), ["archive", "blob", "directory"])
        for name, content in (("directory", b"tree"), ("archive", b"archive"), ("blob", b"stored")):
            self.assertEqual(self.read(name, "f"), content)


class Contents(MountTest):
    def test_xattrs_tell_digest_and_media_type(self):
        archive = self.archive("a.tar.gz", self.make_tree("tree", {"f": "1"}))
        self.mount(archive)
        with open(archive, "rb") as file:
            digest = "sha256:" + hashlib.sha256(file.read()).hexdigest()
        self.assertEqual(os.getxattr(self.mountpoint, "user.wfe.digest").decode(), digest)
        self.assertEqual(os.getxattr(self.mountpoint, "user.wfe.media_type"),
                         b"application/vnd.oci.image.layer.v1.tar+gzip")
        self.assertEqual(sorted(os.listxattr(self.mountpoint)),
                         ["user.wfe.digest", "user.wfe.media_type"])
        self.assertEqual(os.listxattr(self.in_mount("f")), [])
        artifact = self.wait_scanned()["a"]
        self.assertEqual(artifact["digest"], digest)
        self.assertEqual(artifact["size"], os.path.getsize(archive))
        self.assertEqual(artifact["entries"], 2)
        self.assertEqual((artifact["problem_count"], artifact["problems"]), (0, []))
        self.assertIsNone(artifact["reason"])

    def test_the_control_directory_is_there_and_not_listed(self):
        tree = self.make_tree("tree", {"f": "1", ".wfe/mine": "hidden"})
        self.mount(self.archive("a.tar", tree))
        self.assertEqual(os.listdir(self.mountpoint), ["f"])
        self.assertEqual(sorted(os.listdir(self.in_mount(".wfe"))), ["layers", "volume.json"])
        self.assertTrue(os.path.isdir(self.in_mount(".wfe", "layers")))
        self.assertFalse(os.path.exists(self.in_mount(".wfe", "mine")))
        self.assertIn(".wfe", " ".join(self.wait_scanned()["a"]["problems"]))
        self.assertEqual(os.stat(self.in_mount(".wfe", "..")).st_ino, 1)

    def test_hard_links_are_one_inode(self):
        tree = self.make_tree("tree", {"a": "1", "b": "2"})
        os.link(os.path.join(tree, "a"), os.path.join(tree, "z"))
        self.mount(self.archive("a.tar", tree))
        first, last, other = (os.stat(self.in_mount(name)) for name in ("a", "z", "b"))
        self.assertEqual(first.st_ino, last.st_ino)
        self.assertNotEqual(first.st_ino, other.st_ino)
        self.assertEqual((first.st_nlink, other.st_nlink), (2, 1))
        listed = {entry.name: entry.inode() for entry in os.scandir(self.mountpoint)}
        self.assertEqual(listed["a"], first.st_ino)

    def test_holes_can_be_sought(self):
        tree = self.make_tree("tree", {})
        os.mkdir(tree)
        path = os.path.join(tree, "sparse")
        with open(path, "wb") as file:
            file.truncate(4 << 20)
            file.seek(1 << 20)
            file.write(b"x" * 65536)
        archive = self.path("a.tar")
        subprocess.run(["tar", "-cSf", archive, "-C", tree, "."], check=True)
        self.mount(archive)
        descriptor = os.open(self.in_mount("sparse"), os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        self.assertEqual(os.lseek(descriptor, 0, os.SEEK_DATA), 1 << 20)
        self.assertEqual(os.lseek(descriptor, 0, os.SEEK_HOLE), 0)
        self.assertEqual(os.lseek(descriptor, 1 << 20, os.SEEK_HOLE), (1 << 20) + 65536)
        with self.assertRaises(OSError) as raised:
            os.lseek(descriptor, 2 << 20, os.SEEK_DATA)
        self.assertEqual(raised.exception.errno, errno.ENXIO)
        self.assertLess(os.stat(self.in_mount("sparse")).st_blocks, 1024)
        # GNU tar keeps whole seconds.
        self.assertEqual(compare_trees(tree, self.mountpoint, ignore=("mtime_ns",)), [])

    def test_nothing_can_be_written(self):
        self.mount(self.archive("a.tar", self.make_tree("tree", {"f": "1", "d/x": "2"})))
        file, folder = self.in_mount("f"), self.in_mount("d")
        attempts = (
            lambda: open(file, "w"),
            lambda: open(self.in_mount("new"), "w"),
            lambda: os.mkdir(self.in_mount("new")),
            lambda: os.unlink(file),
            lambda: os.rmdir(folder),
            lambda: os.rename(file, self.in_mount("other")),
            lambda: os.link(file, self.in_mount("other")),
            lambda: os.symlink("x", self.in_mount("other")),
            lambda: os.chmod(file, 0o600),
            lambda: os.chown(file, 1, 1),
            lambda: os.utime(file),
            lambda: os.truncate(file, 0),
            lambda: os.setxattr(file, "user.x", b""),
        )
        for number, attempt in enumerate(attempts):
            with self.subTest(number), self.assertRaises(OSError) as raised:
                attempt()
            self.assertEqual(raised.exception.errno, errno.EROFS)

    def test_many_entries_in_one_folder_are_all_there(self):
        archive = self.path("a.tar")
        with tarfile.open(archive, "w") as tar:
            for number in range(30000):
                info = tarfile.TarInfo(f"many/{number:05}")
                tar.addfile(info)
        self.mount(archive)
        names = os.listdir(self.in_mount("many"))
        self.assertEqual(sorted(names), [f"{number:05}" for number in range(30000)])
        self.assertEqual(sum(entry.stat().st_size for entry in os.scandir(self.in_mount("many"))), 0)
        self.assertEqual(sorted(os.listdir(self.in_mount("many"))), sorted(names))

    def test_many_readers_read_the_same_bytes(self):
        content = os.urandom(1 << 20) * 6
        tree = self.make_tree("tree", {"f": content})
        self.mount(self.archive("a.tar.gz", tree))

        def read(seed):
            descriptor = os.open(self.in_mount("f"), os.O_RDONLY)
            try:
                for step in range(100):
                    offset = (seed * 7919 + step * 104729 * 13) % len(content)
                    if os.pread(descriptor, 5000, offset) != content[offset:offset + 5000]:
                        return offset
            finally:
                os.close(descriptor)
            return None

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(set(pool.map(read, range(8))), {None})

    def test_the_root_of_the_archive_has_its_attributes(self):
        tree = self.make_tree("tree", {"f": "1"})
        os.chmod(tree, 0o711)
        os.chown(tree, 77, 88)
        self.mount("--artifact", f"x={self.archive('a.tar', tree)}")
        self.assertEqual(os.listdir(self.in_mount("x")), ["f"])
        status = os.stat(self.in_mount("x"))
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid), (0o711, 77, 88))


class Damage(MountTest):
    def test_a_truncated_archive_is_good_as_far_as_it_goes(self):
        tree = self.make_tree("tree", {"a": os.urandom(300000), "z": os.urandom(300000)})
        for name in ("a.tar", "a.tar.gz", "a.tar.xz"):
            with self.subTest(name):
                archive = self.path(name)
                subprocess.run(["bsdtar", "-caf", archive, "-C", tree, "a", "z"], check=True)
                os.truncate(archive, os.path.getsize(archive) - 200000)
                self.mount(archive)
                with open(os.path.join(tree, "a"), "rb") as file:
                    self.assertEqual(self.read("a"), file.read())
                self.assertEqual(os.stat(self.in_mount("z")).st_size, 300000)
                with self.assertRaises(OSError) as raised:
                    self.read("z")
                self.assertEqual(raised.exception.errno, errno.EIO)
                self.wait_scanned()
                self.assertEqual(self.artifact()["state"], "broken")
                self.assertTrue(self.artifact()["reason"])
                self.unmount()

    def test_a_blob_that_is_not_its_digest_is_refused(self):
        data = self.put(self.make_tree("one", {"f": "1" * 10000}), "one")
        digest = data["one"]["__wfe_artifact"]
        other = self.archive("other.tar.gz", self.make_tree("two", {"f": "2"}))
        blob = os.path.join(self.store, "blobs", "sha256", digest[len("sha256:"):])
        with open(other, "rb") as source:
            content = source.read()
        os.chmod(blob, 0o644)
        with open(blob, "wb") as file:
            file.write(content)
        process = self.start_mount("--data", self.write("data.json", json.dumps(data)))
        volume = self.wait_scanned()
        self.assertEqual(volume["one"]["state"], "broken")
        self.assertIn(digest, volume["one"]["reason"])
        self.assertIn(hashlib.sha256(content).hexdigest(), volume["one"]["reason"])
        with self.assertRaises(OSError) as raised:
            self.read("one", "f")
        self.assertEqual(raised.exception.errno, errno.EIO)
        log = self.end_mount(process)
        self.assertIn(digest, log)
        self.assertEqual(os.listdir(self.cache), [])

    def test_a_slow_scan_keeps_nobody_waiting_who_need_not_wait(self):
        archive = self.slow_archive("a.tar.bz2", {"early": b"first", "second": b"2", "third": b"3"},
                                    600, {"late": b"last"})
        self.mount(archive)
        self.assertEqual(self.read("early"), b"first")
        self.assertEqual(self.artifact()["state"], "scanning")
        self.assertEqual(os.stat(self.in_mount("middle")).st_size, 600 << 20)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            late = pool.submit(self.read, "late")
            listed = pool.submit(os.listdir, self.mountpoint)
            missing = pool.submit(os.path.exists, self.in_mount("missing"))
            # While the three wait, others in the same directory do not.
            self.assertEqual(self.read("second"), b"2")
            time.sleep(0.2)
            self.assertEqual(self.read("third"), b"3")
            self.assertEqual(self.artifact()["state"], "scanning")
            self.assertEqual([waiter.done() for waiter in (late, listed, missing)], [False] * 3)
            self.assertEqual(late.result(), b"last")
            self.assertEqual(sorted(listed.result()), ["early", "late", "middle", "second", "third"])
            self.assertFalse(missing.result())
        self.assertTrue(wait_until(lambda: self.artifact()["state"] == "good"))

    def test_partial_listings_say_that_they_are(self):
        early = {f"{number:04}-{'x' * 100}": b"first" for number in range(1000)}
        archive = self.slow_archive("a.tar.bz2", early, 4000)
        self.mount("-o", "partial_listings", archive)
        self.assertTrue(wait_until(lambda: self.artifact()["entries"] > len(early)))
        names = []
        with self.assertRaises(OSError) as raised, os.scandir(self.mountpoint) as entries:
            for entry in entries:
                names.append(entry.name)
                self.assertTrue(entry.is_file())
        self.assertEqual(raised.exception.errno, errno.EINPROGRESS)
        self.assertEqual(sorted(names), sorted([*early, "middle"]))
        listed = subprocess.run(["ls", self.mountpoint], capture_output=True, text=True, check=False)
        self.assertIn("in progress", listed.stderr)
        self.assertNotEqual(listed.returncode, 0)
        self.assertEqual(len(listed.stdout.splitlines()), len(names))
        self.assertEqual(self.artifact()["state"], "scanning")

    def test_partial_listings_are_whole_after_the_scan(self):
        tree = self.make_tree("tree", {f"many/{number:04}": "" for number in range(2000)})
        self.mount("-o", "partial_listings", self.archive("a.tar.gz", tree))
        self.wait_scanned()
        self.assertEqual(sorted(os.listdir(self.in_mount("many"))),
                         sorted(os.listdir(os.path.join(tree, "many"))))

    def test_who_waits_for_a_scan_can_be_interrupted(self):
        archive = self.slow_archive("a.tar.bz2", {"early": b"first"}, 4000)
        self.mount(archive)
        waiting = subprocess.Popen(["ls", self.mountpoint], stdout=subprocess.DEVNULL)
        self.addCleanup(self._end, waiting)
        with self.assertRaises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.3)
        waiting.terminate()
        waiting.wait(timeout=2)
        self.assertEqual(self.artifact()["state"], "scanning")


if __name__ == "__main__":
    unittest.main()
