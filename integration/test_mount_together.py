# SPDX-License-Identifier: MIT
"""Many readers of a mount, its sudden end, and what becomes of the cache."""

import concurrent.futures
import os
import random
import subprocess
import sys
import time
import unittest

from archives import DEADLINE_S, FILTERS, ArchiveTest, digest, run, tar_member, text, write_tar

CHUNK = 4096


class Together(ArchiveTest):
    """Many readers, sudden ends, and what becomes of the cache."""

    def make_archive(self, suffix):
        """A few large files, so that every filter has several blocks; returns name -> contents."""
        files = {f"file-{number}": text(number, 3 << 20) for number in range(4)}
        files["small"] = b"small\n"
        tar = self.path("readers.tar")
        if not os.path.exists(tar):
            write_tar(tar, [tar_member(name, data) for name, data in files.items()])
        if not suffix:
            return tar, files
        command = {".xz": ["xz", "-c", "--block-size=1000000"],
                   "-1.zst": ["zstd", "-qc"]}.get(suffix) or FILTERS.get(suffix)
        path = tar + suffix
        if suffix == ".zst":
            with open(tar, "rb") as file, open(path, "wb") as packed:
                while piece := file.read(1 << 20):
                    packed.write(run("zstd", "-qc", input=piece).stdout)
        else:
            with open(path, "wb") as packed:
                subprocess.run([*command, tar], stdout=packed, check=True)
        return path, files

    @staticmethod
    def pread_all(file, length, offset):
        """Less only at the end of the file: read(2) may stop before an error, which the next call
        then gets."""
        data = b""
        while len(data) < length:
            more = os.pread(file, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    @classmethod
    def read_at_random(cls, point, files, seed, count):
        chance = random.Random(seed)
        names = sorted(files)
        for _ in range(count):
            name = chance.choice(names)
            offset = chance.randrange(len(files[name]) + 10)
            length = chance.choice((1, CHUNK, 100_000))
            file = os.open(os.path.join(point, name), os.O_RDONLY)
            try:
                if chance.random() < 0.3:
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                if cls.pread_all(file, length, offset) != files[name][offset:offset + length]:
                    return f"{name}: wrong bytes at {offset}"
            finally:
                os.close(file)
        return None

    def test_many_readers_at_once_read_right(self):
        for suffix in ("", ".gz", ".zst", "-1.zst", ".xz", ".bz2", ".lz4"):
            archive, files = self.make_archive(suffix)
            with self.subTest(suffix):
                # The second mount has the index, and reads the same while it is also walked.
                for _ in range(2):
                    point, process = self.serve(archive)
                    with concurrent.futures.ThreadPoolExecutor(8) as pool:
                        jobs = [pool.submit(self.read_at_random, point, files, seed, 60)
                                for seed in range(8)]
                        for job in jobs:
                            self.assertIsNone(job.result(DEADLINE_S))
                    self.volume_of(point)
                    self.stop(point)

    def test_a_killed_daemon_does_not_hang_its_readers(self):
        archive, files = self.make_archive(".gz")
        point, process = self.serve(archive)
        self.volume_of(point)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(self.read_at_random, point, files, seed, sys.maxsize)
                    for seed in range(8)]
            time.sleep(0.3)
            process.kill()
            process.wait(DEADLINE_S)
            for job in jobs:
                self.assertIsInstance(job.exception(DEADLINE_S) or job.result(), OSError)
        with self.assertRaises(OSError):
            os.listdir(point)
        run("umount", point)
        point, _ = self.serve(archive)
        self.assertIsNone(self.read_at_random(point, files, 99, 50))

    def test_a_full_cache_disk_is_no_obstacle(self):
        archive, files = self.make_archive(".gz")
        cache = self.mount_tmpfs("full", "-o", "size=64k")
        with open(os.path.join(cache, "filler"), "wb") as file:
            try:
                file.write(bytes(1 << 20))
            except OSError:
                pass
        point, process = self.serve(archive, cache=cache)
        self.assertEqual(self.volume_of(point)["state"], "good")
        self.assertIsNone(self.read_at_random(point, files, 1, 50))
        self.stop(point)
        self.assertEqual(os.listdir(cache), ["filler"])

    def test_a_disk_too_small_to_spool_breaks_what_is_past_it(self):
        archive, files = self.make_archive(".lz4")
        cache = self.mount_tmpfs("small", "-o", "size=4m")
        point, process = self.serve(archive, cache=cache)
        volume = self.volume_of(point)
        self.assertEqual(volume["state"], "broken")
        self.assertTrue(volume["reason"])
        found = self.contents(point)
        self.assertEqual(found[b"file-0"], digest(files["file-0"]))
        self.assertIsNone(process.poll())
        self.stop(point)
        self.assertEqual(os.listdir(cache), [])

    def test_a_read_only_cache_is_no_obstacle(self):
        archive, files = self.make_archive(".gz")
        cache = self.mount_tmpfs("read-only", "-o", "size=4m,ro")
        point, process = self.serve(archive, cache=cache)
        self.assertEqual(self.volume_of(point)["state"], "good")
        self.assertIsNone(self.read_at_random(point, files, 1, 50))
        self.stop(point)

    def indexes(self):
        return sorted(name for name in os.listdir(self.cache) if name.endswith(".idx"))

    def wait_for_index(self):
        deadline = time.monotonic() + DEADLINE_S
        while not os.path.isdir(self.cache) or not self.indexes():
            self.assertLess(time.monotonic(), deadline, "no index comes into the cache")
            time.sleep(0.01)

    def test_mounts_share_one_cache(self):
        archive, files = self.make_archive(".gz")
        points = [self.serve(archive) for _ in range(3)]
        for point, _ in points:
            self.assertIsNone(self.read_at_random(point, files, 5, 20))
            self.assertEqual(self.volume_of(point)["state"], "good")
        self.wait_for_index()
        for point, process in points:
            self.stop(point)
        self.assertEqual(len(os.listdir(self.cache)), 1, os.listdir(self.cache))
        index = os.path.join(self.cache, self.indexes()[0])
        os.utime(index, (1, 1))
        point, process = self.serve(archive)
        self.assertIsNone(self.read_at_random(point, files, 6, 20))
        # It was used, so its age begins anew.
        self.assertGreater(os.stat(index).st_mtime, 1000)

    def test_an_altered_index_is_thrown_away(self):
        archive, files = self.make_archive(".gz")
        chance = random.Random(3)
        for kind in ("flip", "truncate", "empty"):
            with self.subTest(kind):
                point, process = self.serve(archive)
                self.volume_of(point)
                self.wait_for_index()
                self.stop(point)
                (name,) = self.indexes()
                index = os.path.join(self.cache, name)
                with open(index, "r+b") as file:
                    size = os.path.getsize(index)
                    if kind == "flip":
                        file.seek(chance.randrange(size))
                        file.write(b"\xa5\x5a\xa5")
                    else:
                        file.truncate(size // 2 if kind == "truncate" else 0)
                point, process = self.serve(archive)
                self.assertIsNone(self.read_at_random(point, files, 7, 20))
                self.assertEqual(self.volume_of(point)["state"], "good")
                self.wait_for_index()
                self.stop(point)

    def test_a_changed_archive_is_scanned_anew(self):
        archive = self.path("changing.tar")
        for contents in (b"first", b"other"):
            write_tar(archive, [tar_member("file", contents)])
            point, process = self.serve(archive)
            with open(os.path.join(point, "file"), "rb") as file:
                self.assertEqual(file.read(), contents)
            self.wait_for_index()
            self.stop(point)


if __name__ == "__main__":
    unittest.main()
