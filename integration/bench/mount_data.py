# SPDX-License-Identifier: MIT
"""What mounts are measured on, the same at every run: two trees, one large file, their archives.

    small    100,000 files of 1 to 4 KiB in 1,000 folders
    source   300 MB in files of source code's sizes and compressibility
    large    one file of 2 GB: text, random bytes and records, in turn by the mebibyte

Each as .tar, .tar.gz (gzip's default level) and .tar.zst (zstd's), the trees also as squashfs and
as they are.
"""

import os
import random
import shutil
import subprocess

MIB = 1 << 20
SUFFIXES = (".tar", ".tar.gz", ".tar.zst")
NEEDLE = b"needle_in_the_tree"
POOL_BYTES = 32 * MIB
FIRST_MTIME = 1_600_000_000


def make_pool(chance):
    """Text like source code: few words are frequent, many are rare."""
    letters = "abcdefghijklmnopqrstuvwxyz_"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 14))) for _ in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    glue = [" ", " ", " ", "(", ");\n    ", " = ", ", ", ".", " {\n        ", "\n}\n\n", "->"]
    pool = bytearray()
    while len(pool) < POOL_BYTES:
        picked = chance.choices(words, weights, k=100_000)
        between = chance.choices(glue, k=100_000)
        pool += "".join(word + joint for word, joint in zip(picked, between)).encode()
    return bytes(pool[:POOL_BYTES])


class Data:
    def __init__(self, directory, scale):
        self.directory = directory
        self.scale = scale

    def tree(self, name):
        return os.path.join(self.directory, name)

    def archive(self, name, suffix):
        return os.path.join(self.directory, name + suffix)

    def make(self, keep=None):
        """Fills the directory; from, or else into, the directory to keep the archives in."""
        kept = keep and os.path.join(keep, f"scale-{self.scale:g}")
        if kept and os.path.isdir(kept):
            subprocess.run(["cp", "-a", kept + "/.", self.directory], check=True)
        else:
            self._make_trees()
            self._pack()
            if kept:
                shutil.copytree(self.directory, kept + ".part", symlinks=True)
                os.rename(kept + ".part", kept)

    def _make_trees(self):
        chance = random.Random(1)
        pool = make_pool(chance)
        self._make_small(pool, chance)
        self._make_source(pool, chance)
        self._make_large(pool, chance)

    def _write(self, path, parts, chance):
        with open(path, "wb") as file:
            for part in parts:
                file.write(part)
        seconds = FIRST_MTIME + chance.randrange(100_000_000)
        os.utime(path, (seconds, seconds))

    def _make_small(self, pool, chance):
        for number in range(max(int(100_000 * self.scale), 1)):
            folder = os.path.join(self.tree("small"), f"package-{number // 1000:03d}",
                                  f"part-{number // 100 % 10}")
            if number % 100 == 0:
                os.makedirs(folder)
            size = chance.randint(1024, 4096)
            start = chance.randrange(POOL_BYTES - size)
            self._write(os.path.join(folder, f"item_{chance.getrandbits(24):06x}_{number}.c"),
                        [pool[start:start + size]], chance)

    def _make_source(self, pool, chance):
        left = int(300e6 * self.scale)
        number = 0
        while left > 0:
            folder = os.path.join(self.tree("source"), f"library-{number // 400:03d}",
                                  f"module-{number // 20 % 20:02d}")
            if number % 20 == 0:
                os.makedirs(folder)
            size = min(int(chance.lognormvariate(9.2, 1.2)) + 1, MIB, left)
            start = chance.randrange(POOL_BYTES - size)
            needle = [NEEDLE, b"\n"] if number % 1000 == 0 else []
            self._write(os.path.join(folder, f"file_{number}.c"),
                        [pool[start:start + size], *needle], chance)
            left -= size
            number += 1

    def _make_large(self, pool, chance):
        os.makedirs(self.tree("large"))

        def pieces():
            for number in range(max(int(2048 * self.scale), 4)):
                if number % 4 == 1:
                    yield chance.randbytes(MIB)
                elif number % 4 == 3:
                    yield b"".join(b"%016d,%08x\n" % (number, chance.getrandbits(32))
                                   for _ in range(1024)) * 40
                else:
                    start = chance.randrange(POOL_BYTES - MIB)
                    yield pool[start:start + MIB]

        self._write(os.path.join(self.tree("large"), "data.bin"), pieces(), chance)
        self._write(os.path.join(self.tree("large"), "a_note"), [b"early\n"], chance)

    def _pack(self):
        for name in ("small", "source", "large"):
            tar = self.archive(name, ".tar")
            subprocess.run(["tar", "--sort=name", "--format=gnu", "--owner=0", "--group=0",
                            "-C", self.tree(name), "-cf", tar, "."], check=True)
            subprocess.run(["gzip", "-nk", tar], check=True)
            subprocess.run(["zstd", "-qk", tar], check=True)
        for name in ("small", "source"):
            subprocess.run(["mksquashfs", self.tree(name), self.archive(name, ".squashfs"),
                            "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
