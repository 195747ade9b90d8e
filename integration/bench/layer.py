# SPDX-License-Identifier: MIT
"""How fast archives become layers: a plain tar against cat, a .tar.gz against gzip -dc, small entries."""

import os
import random
import subprocess
import tarfile

from lab import interleave, median
from mount_data import MIB, POOL_BYTES, make_pool

NEEDS_DAEMON = False
BIG_FILES = 8
BIG_MIB = 128
PACKED_MIB = 300
SMALL_ENTRIES = 100_000


def write_tar(path, sizes, pool, chance):
    """Files of so many bytes each, of text like source code."""
    with open(path, "wb") as out:
        for number, size in enumerate(sizes):
            entry = tarfile.TarInfo(f"folder-{number // 100}/file-{number}")
            entry.size = size
            out.write(entry.tobuf())
            for at in range(0, size, MIB):
                start = chance.randrange(POOL_BYTES - MIB)
                out.write(pool[start:start + min(MIB, size - at)])
            out.write(bytes(-size % tarfile.BLOCKSIZE))
        out.write(bytes(2 * tarfile.BLOCKSIZE))


def measure(lab, report, runs):
    chance = random.Random(3)
    pool = make_pool(chance)
    to = os.path.join(lab.root, "to")

    def archive(name, sizes):
        path = os.path.join(lab.root, name)
        write_tar(path, sizes, pool, chance)
        return path

    def written_by(command):
        """Each writes a new file."""
        def once():
            if os.path.exists(to):
                os.unlink(to)
            return lab.time_ms(["sh", "-c", f'{command} >"$1"', "sh", to])
        return once

    def layer_of(path):
        return f"{lab.artifactfs} layer --prefix /in --compression none {path}"

    big = archive("big.tar", [int(BIG_MIB * lab.scale) * MIB] * BIG_FILES)
    our_ms, cat_ms = map(median, interleave(
        runs, written_by(layer_of(big)), written_by(f"cat {big}")))
    size_mb = os.path.getsize(big) / 1e6
    report.figure(f"tar of {size_mb:.0f} MB, big files",
                  f"{size_mb / our_ms * 1000:.0f} MB/s, cat {size_mb / cat_ms * 1000:.0f} MB/s",
                  cat_ms / our_ms, 0.7, "x", at_least=True)
    os.unlink(big)

    entries = int(SMALL_ENTRIES * lab.scale)
    small = archive("small.tar", [chance.randint(100, 1000) for _ in range(entries)])
    (small_ms,) = map(median, interleave(runs, written_by(layer_of(small))))
    report.figure(f"tar of {entries} small files", f"{small_ms:.0f} ms",
                  entries / small_ms * 1000, 150_000, "/s", at_least=True)
    os.unlink(small)

    packed = archive("packed.tar", [MIB] * int(PACKED_MIB * lab.scale))
    subprocess.run(["gzip", packed], check=True)
    packed += ".gz"
    our_ms, gzip_ms = map(median, interleave(
        runs, written_by(layer_of(packed)), written_by(f"gzip -dc {packed}")))
    report.figure(f"tar.gz of {int(PACKED_MIB * lab.scale)} MiB to plain",
                  f"{our_ms:.0f} ms, gzip -dc {gzip_ms:.0f} ms", our_ms / gzip_ms, 0.5, "x")
