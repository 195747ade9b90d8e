# SPDX-License-Identifier: MIT
"""A place to measure in: a fresh journalled ext4 on a loop device, a private containerd on it.

Files are made on a file system that holds nothing else, since one that has seen a large tree
deleted can be several times slower. The runs of what is compared are interleaved, and
medians are reported, with the ratio of the medians.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What the tests have as well; a module here goes before one of the same name there.
sys.path.insert(1, os.path.join(REPOSITORY, "integration"))
from peak_memory import command_with_peak

IMAGE = "localhost/busybox:latest"


class Lab:
    def __init__(self, build_dir, size="8G", daemon=True, scale=1, keep=None):
        self.executor = os.path.join(build_dir, "executor", "wfe-containerd")
        self.artifactfs = os.path.join(build_dir, "artifactfs", "wfe-artifactfs")
        self.scratch = tempfile.mkdtemp(prefix="wfe-bench-", dir="/tmp")
        self.disk = os.path.join(self.scratch, "disk")
        self.root = os.path.join(self.scratch, "fs")
        self.daemon_dir = os.path.join(self.root, "daemon")
        self.address = os.path.join(self.daemon_dir, "containerd.sock")
        self.size = size
        self.has_daemon = daemon
        self.scale = scale  # of what is measured on, where that can be smaller
        self.keep = keep  # a directory where it may be kept for the next time

    def __enter__(self):
        try:
            self._set_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _set_up(self):
        os.mkdir(self.root)
        subprocess.run(["truncate", "-s", self.size, self.disk], check=True)
        subprocess.run(["mkfs.ext4", "-q", self.disk], check=True)
        subprocess.run(["mount", "-o", "loop", self.disk, self.root], check=True)
        for name in ("tmp", "store", "home"):
            os.mkdir(os.path.join(self.root, name))
        if self.has_daemon:
            self._start_daemon()

    def _start_daemon(self):
        self._containerd_dev("start")
        image = os.path.join(self.root, "image")
        subprocess.run([os.path.join(REPOSITORY, "scripts", "make-busybox-image"), image],
                       check=True, stdout=subprocess.DEVNULL)
        self.run_quietly([self.executor, "pull", "--name", IMAGE, f"oci:{image}"])

    def __exit__(self, *_):
        if os.path.ismount(self.root):
            if os.path.exists(self.daemon_dir):
                self._containerd_dev("stop")
            subprocess.run(["umount", self.root], check=True)
        shutil.rmtree(self.scratch)

    def _containerd_dev(self, command):
        subprocess.run([os.path.join(REPOSITORY, "scripts", "containerd-dev"),
                        "--dir", self.daemon_dir, command],
                       check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    @property
    def environment(self):
        return {"PATH": os.environ["PATH"], "HOME": os.path.join(self.root, "home"),
                "TMPDIR": os.path.join(self.root, "tmp"),
                "WFE_CONTAINERD_ADDR": self.address,
                "CONTAINERD_ADDRESS": self.address,
                "WFE_ARTIFACT_STORE": os.path.join(self.root, "store")}

    def run_quietly(self, command):
        process = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL,
                                 capture_output=True, text=True, check=False)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)}: {process.stderr}")
        return process

    def time_ms(self, command):
        """Wall time of one process, from before its start to after its end."""
        began = time.perf_counter()
        process = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        ended = time.perf_counter()
        if process.returncode != 0:
            self.run_quietly(command)
            sys.exit(f"{' '.join(command)}: exited with {process.returncode} once")
        return (ended - began) * 1000

    def first_output_ms(self, command):
        """From before a process's start to the first byte of its output."""
        began = time.perf_counter()
        with subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.read(1)
            ended = time.perf_counter()
            process.stdout.read()
        return (ended - began) * 1000

    def peak_rss_mib(self, command):
        return int(self.run_quietly(command_with_peak(command)).stdout) / 1024


class Report:
    """Figures with their bars, printed as they come."""

    def __init__(self):
        self.missed = 0

    def figure(self, name, text, value, bar, unit, at_least=False):
        met = value >= bar if at_least else value <= bar
        self.missed += not met
        print(f"{name:<44} {text:<44} {value:8.2f} {unit:<4} (bar {bar:g}) "
              f"{'met' if met else 'MISSED'}", flush=True)

    def note(self, name, text):
        print(f"{name:<44} {text}", flush=True)


def median(values):
    return statistics.median(values)


def interleave(count, *measurements):
    """Runs the measurements in turn, count times, after one round that is not counted."""
    results = [[] for _ in measurements]
    for round_number in range(count + 1):
        for measurement, values in zip(measurements, results):
            value = measurement()
            if round_number > 0:
                values.append(value)
    return results
