# SPDX-License-Identifier: MIT
"""Archives of all sorts, mounted: their trees are what bsdtar extracts."""

import bz2
import gzip
import io
import lzma
import os
import random
import stat
import subprocess
import tarfile
import time
import unittest

from archives import FILTERS, ArchiveTest, run, tar_member, text, write_tar

DEBIAN_TARS = ("/usr/share/go-1.19/src/archive/tar/testdata",
               "/usr/lib/python3.11/test/testtar.tar")


class RightTrees(ArchiveTest):
    """What an extraction comes to."""

    def make_sample(self, name="tree", plain=False):
        """Something of everything; `plain` leaves out what old formats have no room for."""
        root = os.fsencode(self.path(name))
        os.mkdir(root)

        def write(relative, data, mode=0o644):
            path = os.path.join(root, relative)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, mode)
            return path

        write(b"empty", b"")
        write(b"one byte", b"x")
        write(b"block", b"b" * 512)
        write(b"folder/deep/er/text.c", text(1, 70_000))
        write(b"folder/random", random.Random(2).randbytes(300_000))
        write(b"secret", b"s", 0o000)
        write(b"setuid", b"#!", 0o4755)
        os.mkdir(root + b"/empty folder", 0o700)
        os.mkdir(root + b"/sticky")
        os.chmod(root + b"/sticky", 0o1777)
        os.symlink(b"folder/deep", root + b"/relative")
        os.symlink(b"/no/where", root + b"/dangling")
        os.symlink(b"loop", root + b"/loop")
        os.link(root + b"/block", root + b"/folder/block again")
        os.link(root + b"/block", root + b"/third block")
        os.mkfifo(root + b"/fifo", 0o640)
        os.mknod(root + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(root + b"/disk", stat.S_IFBLK | 0o660, os.makedev(8, 1))
        os.chown(root + b"/one byte", 1234, 5678)
        for number in range(200):
            write(b"many/file-%d" % number, b"%d" % number)
        if not plain:
            write(b"caf\xe9 \xff", b"not UTF-8")
            write("snowman ☃".encode(), b"UTF-8")
            write(b"new\nline", b"n")
            write(b"n" * 255, b"long")
            write(b"/".join([b"component-%02d" % i for i in range(40)]) + b"/end", b"far")
            os.symlink(b"t" * 1000, root + b"/long target")
            os.chown(root + b"/empty", 3_000_000, 4_000_000)
        self.set_times(root)
        return os.fsdecode(root)

    @staticmethod
    def set_times(root):
        number = 0
        for folder, folders, names in os.walk(root, topdown=False):
            for name in sorted(names + folders):
                number += 1
                moment = (1_234_567_890 + number * 1000) * 10**9 + number * 1001
                os.utime(os.path.join(folder, name), ns=(moment, moment), follow_symlinks=False)
        os.utime(root, ns=(10**18, 10**18))

    def pack(self, tree, name, *options):
        archive = self.path(name)
        subprocess.run(["bsdtar", *options, "-cf", archive, "-C", tree, "."], check=False,
                       stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C.UTF-8"})
        return archive

    def test_each_format_shows_what_bsdtar_extracts(self):
        plain = self.make_sample("plain", plain=True)
        tree = self.make_sample()
        for form in ("pax", "gnutar"):
            with self.subTest(form):
                self.check(self.pack(tree, f"{form}.tar", "--format", form))
        for form in ("ustar", "v7", "odc", "newc", "zip", "7zip", "iso9660"):
            with self.subTest(form):
                self.check(self.pack(plain, f"archive.{form}", "--format", form))
        with self.subTest("stored zip"):
            self.check(self.pack(plain, "stored.zip", "--format", "zip", "--options",
                                 "zip:compression=store"))
        with self.subTest("GNU tar"):
            archive = self.path("gnu.tar")
            run("tar", "--format=gnu", "-cf", archive, "-C", tree, ".")
            self.check(archive)

    def test_each_filter_shows_what_bsdtar_extracts(self):
        tar = self.pack(self.make_sample(), "tree.tar", "--format", "pax")
        for suffix, command in FILTERS.items():
            with self.subTest(suffix), open(tar + suffix, "wb") as packed:
                subprocess.run([*command, tar], stdout=packed, check=True)
                self.check(tar + suffix)
        with open(tar, "rb") as file:
            contents = file.read()
        third = len(contents) // 3
        pieces = [contents[:third], contents[third:2 * third], contents[2 * third:]]
        many = {
            "members.gz": b"".join(gzip.compress(piece, mtime=0) for piece in pieces),
            "streams.bz2": b"".join(map(bz2.compress, pieces)),
            "streams.xz": b"".join(map(lzma.compress, pieces)),
            "blocks.xz": run("xz", "-c", "--block-size=100000", tar).stdout,
            "frames.zst": b"".join(run("zstd", "-qc", input=piece).stdout for piece in pieces),
            "alone.lzma": lzma.compress(contents, lzma.FORMAT_ALONE),
        }
        for name, data in many.items():
            with self.subTest(name):
                with open(self.path(name), "wb") as file:
                    file.write(data)
                self.check(self.path(name))

    def test_xattrs_and_nanoseconds_are_shown(self):
        tree = self.make_sample()
        for name, value in (("user.colour", b"red\0blue"), ("user.empty", b""),
                            ("user.large", text(3, 3000)), ("trusted.mine", b"t")):
            os.setxattr(os.path.join(tree, "block"), name, value)
        os.setxattr(os.path.join(tree, "folder"), "user.of.folder", b"f")
        self.set_times(os.fsencode(tree))
        point = self.check(self.pack(tree, "xattrs.tar", "--format", "pax", "--xattrs"))
        self.assertEqual(os.getxattr(os.path.join(point, "block"), "user.colour"), b"red\0blue")
        self.assertEqual(os.stat(os.path.join(point, "block")).st_mtime_ns,
                         os.stat(os.path.join(tree, "block")).st_mtime_ns)

    def test_sparse_files_keep_their_holes(self):
        tree = self.path("tree")
        os.mkdir(tree)
        with open(os.path.join(tree, "sparse"), "wb") as file:
            file.truncate(3 << 20)
            for offset in (0, 1 << 20, 2 << 20):
                file.seek(offset)
                file.write(text(offset, 8192))
        with open(os.path.join(tree, "hole"), "wb") as file:
            file.truncate(1 << 20)
        for options in (["--format=gnu"], ["--format=posix", "--sparse-version=0.0"],
                        ["--format=posix", "--sparse-version=0.1"],
                        ["--format=posix", "--sparse-version=1.0"]):
            with self.subTest(options):
                archive = self.path("sparse.tar")
                run("tar", "-S", *options, "-cf", archive, "-C", tree, ".")
                point = self.check(archive)
                with open(os.path.join(point, "sparse"), "rb") as file:
                    self.assertEqual(os.lseek(file.fileno(), 100_000, os.SEEK_DATA), 1 << 20)
                    self.assertEqual(os.lseek(file.fileno(), 1 << 20, os.SEEK_HOLE),
                                     (1 << 20) + 8192)
                self.assertLess(os.stat(os.path.join(point, "hole")).st_blocks, 64)

    def test_odd_names_and_links_come_out_as_extracted(self):
        link = {"kind": tarfile.LNKTYPE}
        cases = {
            "no parent": [tar_member("a/b/c", b"x")],
            "prefixes": [tar_member("./", kind=tarfile.DIRTYPE, mode=0o751),
                         tar_member("./a", b"a"), tar_member(".//b///c", b"c"),
                         tar_member("d/./e", b"e")],
            "duplicates": [tar_member("a", b"first"), tar_member("other", b"o"),
                           tar_member("a", b"second, and longer")],
            "link to an earlier version": [
                tar_member("a", b"first"), tar_member("link", linkname="a", **link),
                tar_member("a", b"second")],
            "chain of links": [
                tar_member("a", b"contents"), tar_member("b", linkname="a", **link),
                tar_member("c", linkname="./b", **link)],
            "folder twice": [tar_member("d", kind=tarfile.DIRTYPE, mode=0o700),
                             tar_member("d/f", b"f"),
                             tar_member("d", kind=tarfile.DIRTYPE, mode=0o711)],
            "file becomes symlink": [
                tar_member("a", b"file"), tar_member("a", kind=tarfile.SYMTYPE, linkname="b"),
                tar_member("b", b"b")],
            "parent after child": [tar_member("d/f", b"f"),
                                   tar_member("d", kind=tarfile.DIRTYPE, mode=0o705)],
            "old folders": [tar_member("d/", kind=tarfile.AREGTYPE), tar_member("d/f", b"f")],
            "times": [tar_member("before 1970", b"x", mtime=-1), tar_member("late", mtime=2**33)],
            "nothing": [],
        }
        for name, members in cases.items():
            with self.subTest(name):
                archive = self.path(name + ".tar")
                write_tar(archive, members)
                self.check(archive)

    def test_names_that_lead_out_are_clamped_and_reported(self):
        archive = self.path("out.tar")
        write_tar(archive, [tar_member("/abs/file", b"1"), tar_member("../../up", b"2"),
                            tar_member("a/../../b", b"3"), tar_member("c/d/../e", b"4")])
        point, _ = self.serve(archive)
        volume = self.volume_of(point)
        for path, contents in (("abs/file", b"1"), ("up", b"2"), ("b", b"3"), ("c/e", b"4")):
            with open(os.path.join(point, path), "rb") as file:
                self.assertEqual(file.read(), contents)
        self.assertEqual(volume["problem_count"], 3, volume)
        self.assertIn("..", " ".join(volume["problems"]))

    def test_links_to_nothing_are_left_out_and_reported(self):
        archive = self.path("links.tar")
        write_tar(archive, [tar_member("a", linkname="nothing", kind=tarfile.LNKTYPE),
                            tar_member("d", kind=tarfile.DIRTYPE),
                            tar_member("e", linkname="d", kind=tarfile.LNKTYPE),
                            tar_member("below/file", b"x"), tar_member("f", b"f"),
                            tar_member("f/g", b"g")])
        point, _ = self.serve(archive)
        self.assertEqual(self.volume_of(point)["problem_count"], 3)
        self.assertEqual(sorted(set(os.listdir(point)) - {".wfe"}), ["below", "d", "f"])

    def test_a_folder_of_many_entries(self):
        archive = self.path("many.tar.gz")
        count = 20_000
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            for number in range(count):
                member, data = tar_member(f"folder/entry-{number}", b"%d" % number)
                tar.addfile(member, io.BytesIO(data))
        point, _ = self.serve(archive)
        names = os.listdir(os.path.join(point, "folder"))
        self.assertEqual(len(names), count)
        self.assertEqual(len(set(names)), count)
        self.assertEqual(sum(1 for _ in os.scandir(os.path.join(point, "folder"))), count)
        for number in (0, 1, count // 2, count - 1):
            with open(os.path.join(point, "folder", f"entry-{number}"), "rb") as file:
                self.assertEqual(file.read(), b"%d" % number)
        with self.assertRaises(FileNotFoundError):
            os.stat(os.path.join(point, "folder", "entry-x"))

    def test_archives_of_other_projects(self):
        """Those that bsdtar takes look as it extracts them; the others do no harm."""
        archives = []
        for path in DEBIAN_TARS:
            if os.path.isdir(path):
                archives += [os.path.join(path, name) for name in sorted(os.listdir(path))
                             if ".tar" in name]
            elif os.path.exists(path):
                archives.append(path)
        if not archives:
            self.skipTest("neither golang-1.19-src nor libpython3.11-testsuite is installed")
        for archive in archives:
            # Their sparse files of terabytes take hours to hash.
            is_large = "big" in os.path.basename(archive)
            with self.subTest(archive):
                began_ns = time.time_ns() - 10**7
                expected, is_good = (None, False) if is_large else self.extract(archive)
                point, process = self.serve(archive)
                if is_good and self.volume_of(point)["state"] == "good":
                    self.assert_extracted(began_ns, expected, point)
                elif is_large:
                    run("find", point, "-ls")
                else:
                    self.check_broken(expected, point)
                self.assertIsNone(process.poll())

    def check_broken(self, expected, point):
        """What bsdtar extracted is there, and its contents are the same or lost."""
        found = self.contents(point)
        for path, contents in self.contents(expected).items():
            self.assertIn(path, found)
            if not isinstance(found[path], int):
                self.assertEqual(found[path], contents, path)


if __name__ == "__main__":
    unittest.main()
