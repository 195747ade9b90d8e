# SPDX-License-Identifier: MIT
"""What a step costs: `true` in busybox against `ctr run --rm`, its confinement, and a 1 MB artifact as
input."""

import collections
import itertools
import json
import os
import re

from lab import IMAGE, interleave, median

TRUE = {"image": IMAGE, "command": ["true"]}
TARGET = "/in/data"


def write_document(lab, name, document):
    path = os.path.join(lab.root, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)
    return path


def put_artifact(lab, number):
    """A 1 MB artifact that no other is like; returns a file of workflow data that refers to it."""
    source = os.path.join(lab.root, f"artifact-{number}")
    os.makedirs(source)
    for part in range(16):
        with open(os.path.join(source, f"part-{part}"), "wb") as file:
            file.write(os.urandom(64 * 1024))
    put = lab.run_quietly([lab.artifactfs, "put", "--name", "data", source])
    return write_document(lab, f"data-{number}.json", json.loads(put.stdout))


def measure_true(lab, report, runs):
    step = write_document(lab, "true.json", TRUE)
    ours = [lab.executor, "run", "--progress", "none", step]
    ids = itertools.count()

    def peer():
        return lab.time_ms(["ctr", "run", "--rm", IMAGE, f"bench-{next(ids)}", "true"])

    our_ms, peer_ms = map(median, interleave(runs, lambda: lab.time_ms(ours), peer))
    report.figure("true: wall time", f"ours {our_ms:.1f} ms, ctr run --rm {peer_ms:.1f} ms",
                  our_ms / peer_ms, 0.75, "x")
    reply = median([lab.first_output_ms([lab.executor, "check"]) for _ in range(runs)])
    empty = median([lab.first_output_ms([lab.executor, "--version"]) for _ in range(runs)])
    nothing = median([lab.time_ms(["true"]) for _ in range(runs)])
    report.figure("process start to first reply",
                  f"start alone {empty:.1f} ms, that of `true` {nothing:.1f} ms", reply, 5, "ms")
    rss = max(lab.peak_rss_mib(ours) for _ in range(5))
    report.figure("true: peak RSS", "", rss, 16, "MiB")
    report_rpcs(lab, report, step, runs, peer_ms)


def report_rpcs(lab, report, step, runs, peer_ms):
    times = collections.defaultdict(list)
    for _ in range(runs):
        process = lab.run_quietly([lab.executor, "--log-level", "debug", "run",
                                   "--progress", "none", step])
        for method, duration in re.findall(r"rpc: (\S+) status=\d+ ([\d.]+) ms", process.stderr):
            times[method].append(float(duration))
    for method, durations in times.items():
        report.note(f"  {method}", f"{median(durations):8.2f} ms, "
                    f"{len(durations) / runs:g} a step")
    # What no client can be quicker than: the daemon makes, runs and deletes the task.
    floor_ms = sum(median(times[f"Tasks/{name}"]) for name in ("Create", "Wait", "Delete"))
    report.note("true: the task's own requests", f"{floor_ms:.1f} ms, "
                f"{floor_ms / peer_ms:.2f} of ctr's whole run")


def measure_input(lab, report, runs):
    step = write_document(lab, "input.json", {**TRUE, "inputs": {"data": TARGET}})
    plain_step = write_document(lab, "plain.json", TRUE)
    first, second, without = [], [], []
    for number in range(runs + 1):
        data = put_artifact(lab, number)
        run = [lab.executor, "run", "--progress", "none", "--data", data, step]
        plain = [lab.executor, "run", "--progress", "none", "--data", data, plain_step]
        values = [lab.time_ms(command) for command in (plain, run, run)]
        if number > 0:
            for value, values_of_kind in zip(values, (without, first, second)):
                values_of_kind.append(value)
    base = median(without)
    report.figure("1 MB input: first use", f"{median(first):.1f} ms, without {base:.1f} ms",
                  median(first) - base, 40, "ms")
    report.figure("1 MB input: second use", f"{median(second):.1f} ms, without {base:.1f} ms",
                  median(second) - base, 15, "ms")


def measure_confinement(lab, report, runs):
    """What the seccomp profile costs: its way to the runtime, and the filter made of it."""
    def run_of(name, document):
        step = write_document(lab, name, document)
        return lambda: lab.time_ms([lab.executor, "run", "--progress", "none", step])

    ids = itertools.count()

    def peer(*options):
        return lambda: lab.time_ms(
            ["ctr", "run", "--rm", *options, IMAGE, f"confined-{next(ids)}", "true"])

    confined_ms, open_ms, peer_ms, peer_open_ms = map(median, interleave(
        runs, run_of("confined.json", TRUE),
        run_of("unconfined.json", {**TRUE, "seccomp": "unconfined"}), peer("--seccomp"), peer()))
    report.figure("true: confinement", f"with {confined_ms:.1f} ms, without {open_ms:.1f} ms",
                  confined_ms - open_ms, 10, "ms")
    report.note("true: confinement of ctr", f"with {peer_ms:.1f} ms, without {peer_open_ms:.1f} ms: "
                f"{peer_ms - peer_open_ms:.1f} ms; confined, ours is {confined_ms / peer_ms:.2f} of it")


def measure(lab, report, runs):
    measure_true(lab, report, runs)
    measure_confinement(lab, report, runs)
    measure_input(lab, report, runs)
