# SPDX-License-Identifier: MIT
"""What a large input costs a step that reads one file of it: 2 GB of .tar.gz, mounted."""

import gzip
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import tarfile
import time

from lab import IMAGE, interleave, median

MIB = 1 << 20
SMALL = b"what the step reads\n"
RANDOM_EACH = 4  # of so many pieces of a mebibyte, one is random bytes


def pieces(count):
    """A file of mixed compressibility, a mebibyte at a time."""
    chance = random.Random(2)
    words = b" ".join(b"%08x" % chance.getrandbits(28) for _ in range(200_000))[:MIB]
    for number in range(count):
        yield chance.randbytes(MIB) if number % RANDOM_EACH == 0 else words


def write_archive(path, mebibytes):
    """An early file, a large one, a late file."""
    contents = {"early": [SMALL], "large": pieces(mebibytes), "late": [SMALL]}
    with open(path, "wb") as out, subprocess.Popen(
            ["gzip", "-1"], stdin=subprocess.PIPE, stdout=out) as packer:
        for name, parts in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = mebibytes * MIB if name == "large" else len(SMALL)
            packer.stdin.write(entry.tobuf())
            for part in parts:
                packer.stdin.write(part)
            packer.stdin.write(bytes(-entry.size % tarfile.BLOCKSIZE))
        packer.stdin.write(bytes(2 * tarfile.BLOCKSIZE))
        packer.stdin.close()
        if packer.wait() != 0:
            raise RuntimeError("gzip failed")


def write_json(lab, name, document):
    path = os.path.join(lab.root, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)
    return path


def measure(lab, report, runs):
    archive = os.path.join(lab.root, "large.tar.gz")
    write_archive(archive, max(int(2000 * lab.scale), 1))
    put = lab.run_quietly([lab.artifactfs, "put", "--name", "data", archive])
    os.unlink(archive)
    data = write_json(lab, "data.json", json.loads(put.stdout))
    cache = os.path.join(lab.root, "home", ".cache")

    def step(name, command, inputs):
        return [lab.executor, "run", "--progress", "none", "--inputs-as", "mount", "--data", data,
                write_json(lab, name + ".json",
                           {"image": IMAGE, "command": command, "inputs": inputs})]

    plain = step("plain", ["true"], {})
    early = step("early", ["cat", "/in/early"], {"data": "/in"})
    late = step("late", ["cat", "/in/late"], {"data": "/in"})

    def unknown():
        shutil.rmtree(cache, ignore_errors=True)
        return lab.time_ms(early)

    without_ms, unknown_ms = map(median, interleave(runs, lambda: lab.time_ms(plain), unknown))
    report.figure("2 GB input, mounted, unknown: an early file",
                  f"{unknown_ms:.1f} ms, without {without_ms:.1f} ms", unknown_ms - without_ms,
                  80, "ms")
    make_index(lab, cache)
    without_ms, known_ms = map(
        median, interleave(runs, lambda: lab.time_ms(plain), lambda: lab.time_ms(late)))
    report.figure("2 GB input, mounted, index known: a late file",
                  f"{known_ms:.1f} ms, without {without_ms:.1f} ms", known_ms - without_ms, 60, "ms")
    measure_choice(lab, report, max(runs // 2, 1))


def tar_part(entries, is_last):
    """Entries {name: content} as a member of a .tar.gz."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        end = tar.offset
    return gzip.compress(out.getvalue() if is_last else out.getvalue()[:end], 1)


def measure_choice(lab, report, runs):
    """From which size on a new input is better mounted than applied."""
    cache = os.path.join(lab.root, "home", ".cache")
    archive = os.path.join(lab.root, "choice.tar.gz")
    number = itertools.count()
    for mebibytes in (1, 4, 16, 64, 256):
        common = tar_part({f"f{i:03}": piece for i, piece in enumerate(pieces(mebibytes))}, False)

        def fresh(kind, command, mebibytes=mebibytes, common=common):
            shutil.rmtree(cache, ignore_errors=True)
            with open(archive, "wb") as file:
                file.write(common)
                file.write(tar_part({"number": b"%d of %d" % (next(number), mebibytes)}, True))
            put = lab.run_quietly([lab.artifactfs, "put", "--name", "data", archive])
            data = write_json(lab, "choice-data.json", json.loads(put.stdout))
            step = write_json(lab, "choice.json", {"image": IMAGE, "inputs": {"data": "/in"},
                                                   "command": ["sh", "-c", command]})
            return lab.time_ms([lab.executor, "run", "--progress", "none", "--inputs-as", kind,
                                "--data", data, step])

        one, every = "cat /in/f000 >/dev/null", "cat /in/* >/dev/null"
        results = interleave(runs, *(lambda kind=kind, command=command: fresh(kind, command)
                                     for kind in ("layer", "mount") for command in (one, every)))
        layer_one, layer_every, mount_one, mount_every = map(median, results)
        report.note(f"new input of {mebibytes} MiB, ms", f"one file: layer {layer_one:.0f}, mount "
                    f"{mount_one:.0f}; all of it: layer {layer_every:.0f}, mount {mount_every:.0f}")


def make_index(lab, cache):
    """A mount that is there long enough to write its index."""
    mountpoint = os.path.join(lab.root, "mnt")
    os.mkdir(mountpoint)
    lab.run_quietly([lab.artifactfs, "mount", "--data", os.path.join(lab.root, "data.json"),
                     mountpoint])
    try:
        os.listdir(os.path.join(mountpoint, "data"))
        while not any(name.endswith(".idx") for _, _, names in os.walk(cache) for name in names):
            time.sleep(0.1)
    finally:
        subprocess.run(["umount", mountpoint], check=True)
