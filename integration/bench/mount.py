# SPDX-License-Identifier: MIT
"""What browsing an archive costs, against archivemount, squashfuse, gzip and the bare ext4.

"Fresh" is a mount that was just made; "cold" is a fresh mount after the kernel's caches were
dropped; an index is "known" when it is in the cache directory. Times of reading do not hold
the mounting, unless they say so.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from lab import interleave, median
from mount_data import MIB, NEEDLE, SUFFIXES, Data

NEEDS_DAEMON = False
LAB_SIZE = "16G"
DEADLINE_S = 300
RANDOM_READS = 1000
READ_BYTES = 4096
ARCHIVEMOUNT_READS = 3


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def processes_below(mountpoint):
    """Those with the mount point among their arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if os.fsencode(mountpoint) in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: nothing after {DEADLINE_S} s")
        time.sleep(0.001)


class Bench:
    def __init__(self, lab, report, runs, data):
        self.lab = lab
        self.report = report
        self.runs = runs
        self.slow_runs = max(runs // 8, 1)
        self.data = data
        self.point = os.path.join(lab.root, "mnt")
        self.other_point = os.path.join(lab.root, "peer")
        self.cache = os.path.join(lab.root, "cache")
        for path in (self.point, self.other_point):
            os.makedirs(path)
        self.stat_all = os.path.join(lab.scratch, "stat_all")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stat_all.c")
        subprocess.run(["cc", "-O2", "-o", self.stat_all, source], check=True)

    def forget(self):
        shutil.rmtree(self.cache, ignore_errors=True)

    def mount_command(self, archive):
        return [self.lab.artifactfs, "mount", "--cache", self.cache, archive, self.point]

    def unmount(self, point):
        pids = processes_below(point)
        subprocess.run(["umount", point], check=True)
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "umount")

    @contextlib.contextmanager
    def mounted(self, archive):
        self.lab.run_quietly(self.mount_command(archive))
        try:
            yield self.point
        finally:
            self.unmount(self.point)

    @contextlib.contextmanager
    def peer_mounted(self, command, archive):
        self.lab.run_quietly([*command, archive, self.other_point])
        try:
            yield self.other_point
        finally:
            self.unmount(self.other_point)

    def learn(self, archive):
        """Leaves the archive's index in the cache."""
        self.forget()
        with self.mounted(archive) as point:
            subprocess.run(["find", point], check=True, stdout=subprocess.DEVNULL)
            self.wait_for_index(archive)

    def wait_for_index(self, archive):
        wait_until(lambda: any(name.endswith(".idx") for name in os.listdir(self.cache)),
                   f"index of {archive}")

    def mount_and_list_ms(self, archive, options="ro"):
        began = time.perf_counter()
        self.lab.run_quietly([*self.mount_command(archive), "-o", options])
        mounted = time.perf_counter()
        # A partial listing fails, in the end.
        subprocess.run(["ls", self.point], check=options == "ro", stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        listed = time.perf_counter()
        self.unmount(self.point)
        return (mounted - began) * 1000, (listed - began) * 1000

    def compare(self, name, ours, peer_name, peer, bar, runs=None):
        """Times of ours and a peer's in turn."""
        our_ms, peer_ms = map(median, interleave(runs or self.slow_runs, ours, peer))
        self.report.figure(name, f"ours {our_ms:.0f} ms, {peer_name} {peer_ms:.0f} ms",
                           our_ms / peer_ms, bar, "x")

    # The figures, in the order in which a user comes by them.

    def measure_mounting(self):
        for name in ("small", "source", "large"):
            for suffix in SUFFIXES:
                archive = self.data.archive(name, suffix)
                whole, partial = [], []
                for _ in range(self.runs):
                    self.forget()
                    whole.append(self.mount_and_list_ms(archive)[1])
                    self.forget()
                    partial.append(self.mount_and_list_ms(archive, "partial_listings")[1])
                self.report.figure(f"mount to first ls: {name}{suffix}",
                                   f"unknown; whole {median(whole):.1f} ms, partial",
                                   median(partial), 50, "ms")
        for name in ("small", "source", "large"):
            for suffix in SUFFIXES:
                archive = self.data.archive(name, suffix)
                self.learn(archive)
                times = [self.mount_and_list_ms(archive) for _ in range(self.runs)]
                mounted, listed = (median(column) for column in zip(*times))
                self.report.figure(f"mount: {name}{suffix}",
                                   f"index known; with ls {listed:.1f} ms", mounted, 20, "ms")

    def measure_scan(self):
        for name in ("small", "source", "large"):
            archive = self.data.archive(name, ".tar.gz")

            def ours(archive=archive):
                self.forget()
                began = time.perf_counter()
                self.lab.run_quietly(self.mount_command(archive))
                subprocess.run(["find", self.point], check=True, stdout=subprocess.DEVNULL)
                ended = time.perf_counter()
                self.unmount(self.point)
                return (ended - began) * 1000

            self.compare(f"mount to complete find: {name}.tar.gz", ours, "gzip -dc",
                         lambda archive=archive: self.lab.time_ms(["gzip", "-dc", archive]), 0.6)

    def measure_attributes(self):
        tree = self.data.tree("small")
        archive = self.data.archive("small", ".tar.gz")
        image = self.data.archive("small", ".squashfs")
        paths = subprocess.run(["find", ".", "-mindepth", "1"], cwd=tree, check=True,
                               capture_output=True).stdout

        def stat_seconds(directory):
            process = subprocess.run([self.stat_all], cwd=directory, input=paths, check=True,
                                     capture_output=True)
            count, seconds = process.stdout.split()
            return int(count) / float(seconds)

        with self.mounted(archive) as ours, self.peer_mounted(["squashfuse"], image) as peer:
            self.compare("find -ls, warm", lambda: self.lab.time_ms(["find", ours, "-ls"]),
                         "squashfuse", lambda: self.lab.time_ms(["find", peer, "-ls"]), 0.25)
            our_rate, native_rate = map(median, interleave(
                self.slow_runs, lambda: stat_seconds(ours), lambda: stat_seconds(tree)))
            self.report.figure("stat, warm",
                               f"ours {our_rate:,.0f}/s, ext4 {native_rate:,.0f}/s",
                               our_rate / native_rate, 0.6, "x", at_least=True)

    def grep_ms(self, directory):
        environment = {**self.lab.environment, "LC_ALL": "C"}
        began = time.perf_counter()
        process = subprocess.run(["grep", "-r", NEEDLE.decode(), "."], cwd=directory,
                                 env=environment, capture_output=True, check=True)
        ended = time.perf_counter()
        self.needles.add(len(process.stdout.splitlines()))
        return (ended - began) * 1000

    def measure_grep(self):
        archive = self.data.archive("source", ".tar")
        image = self.data.archive("source", ".squashfs")
        tree = self.data.tree("source")
        self.needles = set()

        def ours():
            self.forget()
            drop_caches()
            with self.mounted(archive) as point:
                return self.grep_ms(point)

        def peer():
            drop_caches()
            with self.peer_mounted(["squashfuse"], image) as point:
                return self.grep_ms(point)

        self.compare("grep -r, cold, .tar", ours, "squashfuse", peer, 0.5)
        with self.mounted(archive) as point:
            self.compare("grep -r, second pass, .tar", lambda: self.grep_ms(point), "ext4",
                         lambda: self.grep_ms(tree), 2)
        if len(self.needles) != 1:
            sys.exit(f"grep found different things: {sorted(self.needles)}")

    def read_fresh_ms(self, archive, learned, cold=False):
        if not learned:
            self.forget()
        if cold:
            drop_caches()
        with self.mounted(archive) as point:
            return self.lab.time_ms(["cat", os.path.join(point, "data.bin")])

    def measure_sequential(self):
        packed = self.data.archive("large", ".tar.gz")
        plain = self.data.archive("large", ".tar")

        def gzip():
            return self.lab.time_ms(["gzip", "-dc", packed])

        self.compare("sequential read: large.tar.gz, index unknown",
                     lambda: self.read_fresh_ms(packed, False), "gzip -dc", gzip, 0.6)
        self.learn(packed)
        self.compare("sequential read: large.tar.gz, index known",
                     lambda: self.read_fresh_ms(packed, True), "gzip -dc", gzip, 0.6)
        self.learn(plain)

        def archive_itself():
            drop_caches()
            return self.lab.time_ms(["cat", plain])

        # What a disk takes is not the same twice.
        our_ms, bare_ms = map(median, interleave(
            self.runs, lambda: self.read_fresh_ms(plain, True, cold=True), archive_itself))
        self.report.figure("sequential read: large.tar, cold",
                           f"ours {our_ms:.0f} ms, the archive itself {bare_ms:.0f} ms",
                           bare_ms / our_ms, 0.8, "x", at_least=True)

    def random_reads_ms(self, point, offsets):
        times = []
        bare = os.open(os.path.join(self.data.tree("large"), "data.bin"), os.O_RDONLY)
        file = os.open(os.path.join(point, "data.bin"), os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
            for offset in offsets:
                began = time.perf_counter()
                read = os.pread(file, READ_BYTES, offset)
                times.append((time.perf_counter() - began) * 1000)
                if read != os.pread(bare, READ_BYTES, offset):
                    sys.exit(f"{point}: wrong bytes at {offset}")
        finally:
            os.close(file)
            os.close(bare)
        return times

    def measure_random(self):
        size = os.path.getsize(os.path.join(self.data.tree("large"), "data.bin"))
        chance = random.Random(2)
        offsets = [chance.randrange(size - READ_BYTES) for _ in range(RANDOM_READS)]
        archive = self.data.archive("large", ".tar.gz")
        with self.peer_mounted(["archivemount", "-o", "readonly"], archive) as point:
            peer = median(self.random_reads_ms(point, offsets[:ARCHIVEMOUNT_READS]))
        for suffix in SUFFIXES:
            archive = self.data.archive("large", suffix)
            self.learn(archive)
            with self.mounted(archive) as point:
                subprocess.run(["find", point], check=True, stdout=subprocess.DEVNULL)
                ours = self.random_reads_ms(point, offsets)
            text = f"of {RANDOM_READS} reads, slowest {max(ours):.1f} ms"
            if suffix == ".tar.gz":
                self.report.figure("random 4 KiB read: large.tar.gz, median",
                                   f"{text}; archivemount {peer:.0f} ms", median(ours), 10, "ms")
            else:
                self.report.note(f"random 4 KiB read: large{suffix}, median",
                                 f"{median(ours):.3f} ms {text}")

    def measure_room(self):
        """Peak memory of a mount that was walked and read, and the room that its index takes."""
        for name in ("small", "source", "large"):
            for suffix in SUFFIXES:
                archive = self.data.archive(name, suffix)
                self.forget()
                with self.serving(archive) as process:
                    listing = subprocess.run(["find", self.point], check=True,
                                             capture_output=True).stdout
                    subprocess.run(["grep", "-rq", "no such text", self.point], check=False)
                    self.wait_for_index(archive)
                    peak = self.peak_bytes(process.pid)
                entries = listing.count(b"\n")
                allowed = 64 * MIB + 200 * entries
                self.report.figure(f"peak RSS: {name}{suffix}", f"{entries} entries",
                                   peak / MIB, allowed / MIB, "MiB")
                taken = sum(entry.stat().st_size for entry in os.scandir(self.cache))
                self.report.figure(f"index on disk: {name}{suffix}", f"{taken / 1024:.0f} KiB",
                                   100 * taken / os.path.getsize(self.data.archive(name, ".tar")),
                                   1, "%")

    @contextlib.contextmanager
    def serving(self, archive):
        """A mount whose process is a child."""
        command = self.mount_command(archive)
        with subprocess.Popen([*command[:2], "-f", *command[2:]], env=self.lab.environment,
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: os.path.ismount(self.point) or process.poll() is not None,
                           "mount -f")
                yield process
            finally:
                process.send_signal(signal.SIGTERM)

    @staticmethod
    def peak_bytes(pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return sys.exit(f"{pid} has no VmHWM")


def measure(lab, report, runs):
    directory = os.path.join(lab.root, "data")
    os.mkdir(directory)
    data = Data(directory, lab.scale)
    began = time.monotonic()
    data.make(lab.keep)
    report.note("data", f"made in {time.monotonic() - began:.0f} s, scale {lab.scale:g}")
    bench = Bench(lab, report, runs, data)
    bench.measure_mounting()
    bench.measure_scan()
    bench.measure_attributes()
    bench.measure_grep()
    bench.measure_sequential()
    bench.measure_random()
    bench.measure_room()
