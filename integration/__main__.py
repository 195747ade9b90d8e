# SPDX-License-Identifier: MIT
"""Runs the integration tests, the files spread over a few processes that share one daemon.

    python3 integration [-k PATTERN] [--build DIR] [--containerd SUITE] [--jobs N] [FILE...]
"""

import argparse
import concurrent.futures
import glob
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
# The one that has Debian's packages of modules.
PYTHON = "/usr/bin/python3"

# These take longest, so they go first.
SLOW = ("test_reclaim", "test_forward_faults", "test_network", "test_signals", "test_pull",
        "test_transfer", "test_io_remote", "test_rpc_faults", "test_pull_faults",
        "test_service_networks", "test_layers", "test_ends")

RUNNING = set()
WAITING = []  # futures of files


def stop_on_signal(*_):
    """The workers and what they have started end too, then the daemon, as at any other end."""
    for future in WAITING:
        future.cancel()
    for process in list(RUNNING):
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    raise KeyboardInterrupt


class CountingResult(unittest.TextTestResult):
    """Names of the tests by their end. A test with several failed parts counts once."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.started = []

    def startTest(self, test):
        self.started.append(test.id())
        super().startTest(test)

    def summary(self):
        def test_of(case):
            return getattr(case, "test_case", case).id()

        failed = {test_of(case) for case, _ in self.failures + self.errors}
        failed |= {test_of(case) for case in self.unexpectedSuccesses}
        skipped = {test_of(case): reason for case, reason in self.skipped}
        passed = [name for name in self.started if name not in failed and name not in skipped]
        return {"passed": passed, "failed": sorted(failed), "skipped": skipped}


def run_file(name, patterns):
    """Runs one file in this process; the summary goes to the descriptor in WFE_SUMMARY_FD."""
    loader = unittest.TestLoader()
    if patterns:
        loader.testNamePatterns = [pattern if "*" in pattern else f"*{pattern}*"
                                   for pattern in patterns]
    suite = loader.loadTestsFromName(name)
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=CountingResult)
    result = runner.run(suite)
    with open(int(os.environ["WFE_SUMMARY_FD"]), "w", encoding="utf-8") as file:
        json.dump(result.summary(), file)


def run_file_apart(name, patterns, environment):
    reader, writer = os.pipe()
    command = [sys.executable, HERE, "--worker", name]
    for pattern in patterns:
        command += ["-k", pattern]
    started = time.monotonic()
    with os.fdopen(reader, encoding="utf-8") as summary:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", pass_fds=[writer],
                start_new_session=True, env={**environment, "WFE_SUMMARY_FD": str(writer)})
        finally:
            os.close(writer)
        RUNNING.add(process)
        output, _ = process.communicate()
        RUNNING.discard(process)
        text = summary.read()
    if not text:
        return {"passed": [], "failed": [name + " (ended before its time)"], "skipped": {}}, output
    elapsed = time.monotonic() - started
    return json.loads(text), f"{output.rstrip()}\n[{name}: {elapsed:.1f} s]\n"


def use_containerd_of(suite):
    """Daemon, shim and ctr are those of a release of Debian from here on."""
    found = subprocess.run([os.path.join(os.path.dirname(HERE), "scripts", "containerd-from"),
                            suite], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                           check=False)
    if found.returncode != 0:
        sys.exit(found.returncode)
    os.environ["PATH"] = found.stdout.strip() + os.pathsep + os.environ["PATH"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", action="append", default=[], dest="patterns", metavar="PATTERN",
                        help="only tests whose name holds PATTERN")
    parser.add_argument("--build", metavar="DIR", help="the build folder with the programs")
    parser.add_argument("--containerd", metavar="SUITE",
                        help="with the containerd of another release of Debian: trixie, sid")
    parser.add_argument("--jobs", type=int, default=min((os.cpu_count() or 1) * 2, 6), metavar="N")
    parser.add_argument("--summary", metavar="FILE", help="write the tests' names by their end")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*", metavar="FILE")
    arguments = parser.parse_args()
    sys.path.insert(0, HERE)
    sys.dont_write_bytecode = True
    if not (importlib.util.find_spec("grpc") or os.path.samefile(sys.executable, PYTHON)):
        os.execv(PYTHON, [PYTHON, *sys.argv])
    if arguments.build:
        os.environ["WFE_BUILD_DIR"] = os.path.abspath(arguments.build)
    signal.signal(signal.SIGTERM, stop_on_signal)
    signal.signal(signal.SIGINT, stop_on_signal)
    if arguments.worker:
        run_file(arguments.worker, arguments.patterns)
        return
    if arguments.containerd:
        use_containerd_of(arguments.containerd)

    files = arguments.files or sorted(glob.glob(os.path.join(HERE, "test_*.py")))
    names = [os.path.splitext(os.path.basename(path))[0] for path in files]
    names.sort(key=lambda name: SLOW.index(name) if name in SLOW else len(SLOW))
    from harness import DOES_NOT_APPLY, Session
    session = Session.get()
    version = session.daemon_version()
    print(f"containerd {version}", flush=True)
    environment = {**os.environ, "WFE_CONTAINERD_ADDR": session.address,
                   "WFE_BUILD_DIR": session.build_dir, "PYTHONDONTWRITEBYTECODE": "1"}
    total = {"containerd": version, "passed": [], "failed": [], "skipped": {}}
    with concurrent.futures.ThreadPoolExecutor(max(arguments.jobs, 1)) as pool:
        WAITING.extend(pool.submit(run_file_apart, name, arguments.patterns, environment)
                       for name in names)
        for future in concurrent.futures.as_completed(WAITING):
            summary, output = future.result()
            if any(summary.values()):
                print(output, flush=True)
            total["passed"] += summary["passed"]
            total["failed"] += summary["failed"]
            total["skipped"].update(summary["skipped"])

    if os.environ.get("WFE_TEST_MUST_RUN") == "1":
        missed = [name for name, reason in total["skipped"].items()
                  if not reason.startswith(DOES_NOT_APPLY)]
        for name in missed:
            print(f"must run: {name}: {total['skipped'].pop(name)}")
        total["failed"] += missed

    for name in total["failed"]:
        print(f"FAILED {name}")
    for name, reason in total["skipped"].items():
        print(f"skipped {name}: {reason}")
    if arguments.summary:
        with open(arguments.summary, "w", encoding="utf-8") as file:
            json.dump(total, file)
    print(f"{len(total['passed'])} passed, {len(total['failed'])} failed, "
          f"{len(total['skipped'])} skipped")
    sys.exit(1 if total["failed"] or not total["passed"] else 0)


if __name__ == "__main__":
    main()
