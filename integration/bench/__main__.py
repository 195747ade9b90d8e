# SPDX-License-Identifier: MIT
"""Runs the benchmarks; scripts/bench builds what they need and calls this."""

import argparse
import importlib
import os
import sys

from lab import REPOSITORY, Lab, Report

BENCHMARKS = ("step", "input", "tree", "layer", "mount", "pull", "remote")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK",
                        help="which ones: " + ", ".join(BENCHMARKS) + " (default: all)")
    parser.add_argument("-n", "--runs", type=int, default=25, help="counted runs of each command")
    parser.add_argument("--scale", type=float, default=1,
                        help="size of what is mounted (1 is 2 GB and 100,000 files) and pulled or uploaded (300 MB)")
    parser.add_argument("--keep", metavar="DIR",
                        help="keep what is mounted there, and take it from there the next time")
    arguments = parser.parse_args()
    unknown = set(arguments.benchmarks) - set(BENCHMARKS)
    if unknown:
        parser.error("no such benchmark: " + ", ".join(sorted(unknown)))
    if os.geteuid() != 0:
        parser.error("a loop mount and a private containerd need root")
    build_dir = os.environ.get("WFE_BUILD_DIR", os.path.join(REPOSITORY, "build"))
    report = Report()
    for name in arguments.benchmarks or BENCHMARKS:
        print(f"== {name}: medians of {arguments.runs} runs", flush=True)
        benchmark = importlib.import_module(name)
        with Lab(build_dir, size=getattr(benchmark, "LAB_SIZE", "8G"),
                 daemon=getattr(benchmark, "NEEDS_DAEMON", True), scale=arguments.scale,
                 keep=arguments.keep) as lab:
            benchmark.measure(lab, report, arguments.runs)
    sys.exit(1 if report.missed else 0)


main()
