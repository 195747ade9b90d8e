# SPDX-License-Identifier: MIT
"""Broken and hostile archives, mounted: what is good is read right, the rest does no harm."""

import os
import random
import shutil
import subprocess
import tarfile
import unittest
import zipfile
import zlib

from archives import FILTERS, ArchiveTest, digest, run, tar_member, text, write_tar
from mounting import wait_until


# In small blocks, since nothing of a block that is cut can be decoded.
BLOCKS = {**FILTERS, ".bz2": ["bzip2", "-1c"], ".lz4": ["lz4", "-qc", "-B4"]}


class BrokenArchives(ArchiveTest):
    """The mount lives, what is good is read right, the rest is an error, and the reason is told."""

    def make_members(self, count=60, size=20_000):
        return [tar_member(f"folder/file-{number:03d}", text(number, size))
                for number in range(count)]

    def digests(self, members):
        return {os.fsencode(member.name): digest(data)
                for member, data in members}

    def pack(self, suffix, members):
        tar = self.path("good.tar")
        write_tar(tar, members)
        if not suffix:
            return tar
        with open(tar + suffix, "wb") as packed:
            subprocess.run([*BLOCKS[suffix], tar], stdout=packed, check=True)
        return tar + suffix

    def test_a_truncated_archive_is_good_up_to_there(self):
        members = self.make_members()
        expected = self.digests(members)
        for suffix in ("", *BLOCKS):
            good = self.pack(suffix, members)
            size = os.path.getsize(good)
            for part in (0.3, 0.7, 0.95):
                with self.subTest(suffix=suffix, part=part):
                    archive = self.path(f"cut-{part}.tar{suffix}")
                    shutil.copy(good, archive)
                    os.truncate(archive, int(size * part))
                    point, process = self.serve(archive)
                    volume = self.volume_of(point)
                    self.assertEqual(volume["state"], "broken")
                    self.assertTrue(volume["reason"])
                    found = self.contents(point)
                    right = [path for path in found if found[path] == expected[path]]
                    wrong = [path for path in found if found[path] != expected[path]]
                    self.assertTrue(all(isinstance(found[path], int) for path in wrong), wrong)
                    # At most one file lies across the cut; decoders hold back a block.
                    self.assertLessEqual(len(wrong), 1)
                    if suffix in ("", ".gz"):
                        self.assertGreater(len(right), len(members) * (part - 0.15))
                    # The log has it a moment after volume.json.
                    self.assertTrue(wait_until(
                        lambda: volume["reason"][:20] in self.log_of(point)), self.log_of(point))
                    self.assertIsNone(process.poll())

    def test_flipped_bits_do_no_harm(self):
        members = self.make_members(12, 30_000)
        archives = [self.pack(suffix, members) for suffix in ("", *BLOCKS)]
        tree, _ = self.extract(archives[0])
        for form in ("zip", "7zip", "newc", "iso9660", "pax"):
            archives.append(self.path("good." + form))
            run("bsdtar", "--format", form, "-cf", archives[-1], "-C", tree, ".")
        chance = random.Random(7)
        for archive in archives:
            with open(archive, "rb") as file:
                good = file.read()
            for _ in range(8):
                bad = bytearray(good)
                flips = [chance.randrange(len(bad) * 8) for _ in range(chance.randint(1, 4))]
                for flip in flips:
                    bad[flip // 8] ^= 1 << flip % 8
                with self.subTest(archive=os.path.basename(archive), flips=flips):
                    path = self.path("flipped")
                    with open(path, "wb") as file:
                        file.write(bad)
                    try:
                        point, process = self.serve(path)
                    except AssertionError as error:
                        # Nothing of it can be read: that is told, too.
                        self.assertNotIn("does not get mounted", str(error))
                        continue
                    self.contents(point)
                    self.volume_of(point)
                    self.assertIsNone(process.poll(), self.log_of(point))
                    self.stop(point)

    def test_a_bomb_takes_bounded_room(self):
        size = 4 << 30
        bomb = self.path("bomb.tar.gz")
        with open(bomb, "wb") as file:
            packer = zlib.compressobj(9, zlib.DEFLATED, 31)
            member, _ = tar_member("zeros")
            member.size = size
            file.write(packer.compress(member.tobuf(tarfile.GNU_FORMAT)))
            for _ in range(size >> 20):
                file.write(packer.compress(bytes(1 << 20)))
            file.write(packer.compress(bytes(1024)) + packer.flush())
        point, process = self.serve(bomb)
        self.assertEqual(self.volume_of(point)["state"], "good")
        with open(os.path.join(point, "zeros"), "rb") as file:
            file.seek(size - 10)
            self.assertEqual(file.read(), bytes(10))
        self.assert_peak(self.peak_mib(process), 128)

    def test_a_bomb_that_must_be_spooled_ends_at_the_limit(self):
        bomb = self.path("bomb.zip")
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("first", b"good\n" * 100)
            with archive.open("zeros", "w") as file:
                for _ in range(200):
                    file.write(bytes(1 << 20))
            archive.writestr("last", b"fine\n" * 100)
        point, process = self.serve(bomb, "--cache-size", "20M")
        volume = self.volume_of(point)
        self.assertTrue(volume["reason"] or volume["problems"], volume)
        found = self.contents(point)
        self.assertEqual(found[b"first"], digest(b"good\n" * 100))
        self.assertIsInstance(found.get(b"zeros", 5), int)
        self.assert_peak(self.peak_mib(process), 128)
        self.assertIsNone(process.poll())

    def test_sizes_that_lie_do_no_harm(self):
        for size in (1 << 62, (1 << 63) - 1, 10**9, 513):
            with self.subTest(tar=size):
                member, _ = tar_member("liar")
                member.size = size
                path = self.path("liar.tar")
                with open(path, "wb") as file:
                    file.write(tar_member("good", b"g")[0].tobuf(tarfile.GNU_FORMAT))
                    file.write(b"g" * 1 + bytes(511))
                    file.write(member.tobuf(tarfile.GNU_FORMAT) + b"short")
                point, process = self.serve(path)
                found = self.contents(point)
                self.assertEqual(found[b"good"], digest(b"g"))
                self.assertIsInstance(found.get(b"liar", 5), int)
                self.assertEqual(self.volume_of(point)["state"], "broken")
                self.assertIsNone(process.poll())
        with self.subTest("pax"):
            path = self.path("pax.tar")
            records = b"30 size=99999999999999999999\n\n"
            header = tar_member("x", records, kind=tarfile.XHDTYPE)[0]
            with open(path, "wb") as file:
                file.write(header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0"))
                file.write(tar_member("f", b"f")[0].tobuf(tarfile.USTAR_FORMAT) + bytes(2048))
            point, process = self.serve(path)
            self.contents(point)
            self.assertIsNone(process.poll())
        with self.subTest("gigantic pax header"):
            path = self.path("huge.tar")
            header = tar_member("x", kind=tarfile.XHDTYPE)[0]
            header.size = 1 << 40
            with open(path, "wb") as file:
                file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
            point, process = self.serve(path)
            self.contents(point)
            self.assert_peak(self.peak_mib(process), 128)

    def test_deep_folders_end_at_the_limit(self):
        path = self.path("deep.tar")
        write_tar(path, [tar_member("d/" * depth + "f", b"%d" % depth)
                         for depth in (10, 1000, 1900, 40_000, 200_000)], tarfile.PAX_FORMAT)
        point, process = self.serve(path)
        volume = self.volume_of(point)
        self.assertGreaterEqual(volume["problem_count"], 1)
        where = os.open(point, os.O_RDONLY)
        for _ in range(1900):
            below = os.open("d", os.O_RDONLY, dir_fd=where)
            os.close(where)
            where = below
        file = os.open("f", os.O_RDONLY, dir_fd=where)
        self.assertEqual(os.read(file, 10), b"1900")
        os.close(file)
        os.close(where)
        self.assert_peak(self.peak_mib(process), 256)
        self.assertIsNone(process.poll())


if __name__ == "__main__":
    unittest.main()
