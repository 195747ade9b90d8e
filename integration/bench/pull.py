# SPDX-License-Identifier: MIT
"""A cold pull from a registry on this machine, unpacked: ours against `ctr image pull`."""

import multiprocessing
import os
import random
import sys

from lab import interleave, median
from registry import Registry, add_image, finish_layout, start_layout

LAYERS = 6
FILES = 500
FILE_BYTES = 100_000
RUNS_MAX = 7  # each takes seconds


def layer(number, scale):
    """Files of which half does not compress."""
    source = random.Random(number)
    text = b"the quick brown fox jumps over the lazy dog, %d\n" % number
    half = FILE_BYTES // 2
    return {f"layer-{number}/file-{at}":
            source.randbytes(half) + (text * (half // len(text) + 1))[:half]
            for at in range(max(int(FILES * scale), 1))}


def make_layout(layout, scale):
    start_layout(layout)
    image = add_image(layout, [(layer(number, scale), "gzip") for number in range(LAYERS)])
    finish_layout(layout, [image])


def push_image(registry, lab):
    layout = os.path.join(lab.root, "layout")
    # Elsewhere: what this process has in memory would count as its children's.
    maker = multiprocessing.Process(target=make_layout, args=(layout, lab.scale))
    maker.start()
    maker.join()
    if maker.exitcode != 0:
        sys.exit("the image could not be made")
    return registry.push(f"oci:{layout}:latest", "bench/large:1")


def measure_pull(lab, report, runs, name):
    ours = [lab.executor, "pull", "--quiet", name]
    peer = ["ctr", "image", "pull", "--plain-http", name]

    def cold(measure, command):
        value = measure(command)
        lab.run_quietly(["ctr", "image", "remove", "--sync", name])
        return value

    our_ms, peer_ms = map(median, interleave(
        runs, lambda: cold(lab.time_ms, ours), lambda: cold(lab.time_ms, peer)))
    report.figure("pull: wall time", f"ours {our_ms:.0f} ms, ctr image pull {peer_ms:.0f} ms",
                  our_ms / peer_ms, 0.9, "x")
    our_rss, peer_rss = (max(cold(lab.peak_rss_mib, command) for _ in range(2))
                         for command in (ours, peer))
    report.figure("pull: peak RSS", f"ctr image pull {peer_rss:.0f} MiB", our_rss, 48, "MiB")


def measure(lab, report, runs):
    registry = Registry(os.path.join(lab.root, "registry"))
    try:
        measure_pull(lab, report, min(runs, RUNS_MAX), push_image(registry, lab))
    finally:
        registry.stop()
