# SPDX-License-Identifier: MIT
"""A daemon that shares nothing, 20 ms away: what a step's requests cost, and what an upload."""

import importlib.util
import json
import os
import random
import re
import subprocess
import sys

from lab import IMAGE, REPOSITORY, interleave, median
from mount_data import MIB, POOL_BYTES, make_pool

from delayed_forward import DelayedForward

TRUE = {"image": IMAGE, "command": ["true"]}
DELAY_S = 0.010  # in each direction
ROUND_TRIP_MS = 2 * DELAY_S * 1000
UPLOAD_BYTES = 300 * 1000 * 1000
RUNS_MAX = 5  # of what takes seconds


def remote_daemon(directory):
    """The tests' module of that kind, which has this one's name."""
    path = os.path.join(REPOSITORY, "integration", "remote.py")
    spec = importlib.util.spec_from_file_location("remote_of_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.mkdir(directory)
    return module.RemoteDaemon(directory)


def write_document(lab, name, document):
    path = os.path.join(lab.root, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)
    return path


def run_at(lab, forward, *arguments):
    return [lab.executor, "--address", forward.address(), "--log-level", "debug", "run",
            "--progress", "none", *arguments]


def requests_of(stderr):
    """(method, ms) of each."""
    return [(method, float(ms)) for method, ms in
            re.findall(r"rpc: (\S+) status=\d+ ([\d.]+) ms", stderr)]


def measure_step(lab, report, runs, near, far):
    step = write_document(lab, "true.json", TRUE)
    counts = [len(requests_of(lab.run_quietly(run_at(lab, far, step)).stderr)) for _ in range(3)]
    far_ms, near_ms = map(median, interleave(
        runs, lambda: lab.time_ms(run_at(lab, far, step)),
        lambda: lab.time_ms(run_at(lab, near, step))))
    report.figure("true at 20 ms: round trips",
                  f"{far_ms:.0f} ms, without the delay {near_ms:.0f} ms",
                  (far_ms - near_ms) / ROUND_TRIP_MS, 14, "")
    report.note("true at 20 ms: requests", f"{median(counts):g}")


def socat_ms(lab, path):
    """From the start of the sender to the end of the receiver."""
    sink, copy = os.path.join(lab.root, "sink"), os.path.join(lab.root, "copy")
    with subprocess.Popen(["socat", "-u", f"UNIX-LISTEN:{sink}", f"CREATE:{copy}"]) as receiver:
        while not os.path.exists(sink):
            pass
        forward = DelayedForward(sink, DELAY_S)
        ms = lab.time_ms(["sh", "-c", f"socat -u FILE:{path} TCP:127.0.0.1:{forward.port}; "
                          f"while kill -0 {receiver.pid} 2>/dev/null && "
                          f"! grep -q '^State:.Z' /proc/{receiver.pid}/status; do sleep 0.01; done"])
        forward.close()
    if os.path.getsize(copy) != os.path.getsize(path):
        sys.exit("socat has not moved everything")
    os.unlink(copy)
    return ms


def write_noise(file, size):
    for at in range(0, size, MIB):
        file.write(os.urandom(min(MIB, size - at)))


def write_text(file, size):
    """As compressible as source code, other pieces each time."""
    chance = random.Random()
    pool = make_pool(chance)
    for at in range(0, size, MIB):
        start = chance.randrange(POOL_BYTES - MIB)
        file.write(pool[start:start + min(MIB, size - at)])


def measure_upload(lab, runs, far, write):
    """Medians of an artifact of one file: our upload in ms, socat's, and the KiB that its second use
    sends besides what a step sends."""
    step = write_document(lab, "input.json", {**TRUE, "inputs": {"data": "/in"}})
    plain = write_document(lab, "plain.json", TRUE)
    ours, theirs, again = [], [], []
    for _ in range(runs):
        folder = os.path.join(lab.root, "artifact")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "data")
        with open(path, "wb") as file:
            write(file, int(UPLOAD_BYTES * lab.scale))
        put = lab.run_quietly([lab.artifactfs, "put", "--name", "data", folder])
        data = write_document(lab, "data.json", json.loads(put.stdout))
        theirs.append(socat_ms(lab, path))
        first = lab.run_quietly(run_at(lab, far, "--data", data, step))
        ours.append(max(ms for method, ms in requests_of(first.stderr) if method == "Content/Write"))
        sent = []
        for arguments in (("--data", data, step), (plain,)):
            before = far.sent_bytes()
            lab.run_quietly(run_at(lab, far, *arguments))
            sent.append(far.sent_bytes() - before)
        again.append((sent[0] - sent[1]) / 1024)
        os.unlink(path)
    return median(ours), median(theirs), median(again)


def measure_uploads(lab, report, runs, far):
    size = int(UPLOAD_BYTES * lab.scale)

    def rates(our_ms, their_ms):
        return f"{size / our_ms / 1000:.0f} MB/s, socat {size / their_ms / 1000:.0f} MB/s"

    our_ms, their_ms, again_kib = measure_upload(lab, runs, far, write_text)
    report.figure(f"upload of {size / 1e6:.0f} MB of source code", rates(our_ms, their_ms),
                  their_ms / our_ms, 0.8, "x", at_least=True)
    report.figure("its second use", "sent besides what a step sends", again_kib, 16, "KiB")
    our_ms, their_ms, _ = measure_upload(lab, runs, far, write_noise)
    report.note(f"upload of {size / 1e6:.0f} MB of random bytes",
                f"{rates(our_ms, their_ms)}: {their_ms / our_ms:.2f} x")


def measure_snapshot_io(lab, report, runs):
    step = write_document(lab, "io.json", {"image": IMAGE, "run": "echo out"})
    snapshot_ms, fifo_ms = map(median, interleave(runs, *(
        lambda kind=kind: lab.time_ms([lab.executor, "run", "--progress", "none", "--io", kind, step])
        for kind in ("snapshot", "fifo"))))
    report.figure("--io snapshot on the local daemon",
                  f"{snapshot_ms:.1f} ms, --io fifo {fifo_ms:.1f} ms", snapshot_ms / fifo_ms, 1.5, "x")


def measure(lab, report, runs):
    measure_snapshot_io(lab, report, runs)
    daemon = remote_daemon(os.path.join(lab.root, "remote"))
    near, far = DelayedForward(daemon.socket, 0), DelayedForward(daemon.socket, DELAY_S)
    try:
        lab.run_quietly([lab.executor, "--address", near.address(), "pull", "--name", IMAGE,
                         f"oci:{os.path.join(lab.root, 'image')}"])
        report.note("the line", "a TCP forward (integration/delayed_forward.py) that holds "
                    "everything for 10 ms in each direction")
        measure_step(lab, report, runs, near, far)
        measure_uploads(lab, report, min(runs, RUNS_MAX), far)
    finally:
        near.close()
        far.close()
        daemon.close()
