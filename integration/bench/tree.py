# SPDX-License-Identifier: MIT
"""A tree like source code as a .tar.gz input that goes in as a layer, against tar and against the naive
way; the memory of a large one; many steps at once."""

import hashlib
import json
import os
import random
import shutil
import subprocess

from input import write_archive
from lab import IMAGE, interleave, median
from counting_proxy import CountingProxy
from mount_data import POOL_BYTES, make_pool

LAB_SIZE = "32G"
FILES = 20_000
TREE_BYTES = 280e6
AT_ONCE = 32
RUNS_MAX = 5  # of what takes seconds
USES = 5  # of one archive, which take parts of one


def write_json(lab, name, document):
    path = os.path.join(lab.root, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)
    return path


class Trees:
    """Archives of like trees: all files but one are the same."""

    def __init__(self, lab):
        self.folder = os.path.join(lab.root, "tree")
        self.count = 0
        chance = random.Random(4)
        pool = make_pool(chance)
        files = int(FILES * lab.scale)
        for number in range(files):
            folder = os.path.join(self.folder, f"library-{number // 400}", f"module-{number // 20 % 20}")
            os.makedirs(folder, exist_ok=True)
            size = int(TREE_BYTES / FILES * chance.uniform(0.2, 1.8))
            start = chance.randrange(POOL_BYTES - size)
            with open(os.path.join(folder, f"file_{number}.c"), "wb") as file:
                file.write(pool[start:start + size])

    def pack(self, path):
        self.count += 1
        with open(os.path.join(self.folder, "number"), "w", encoding="ascii") as file:
            file.write(f"{self.count}\n")
        # A level that is no bottleneck here; what unpacks it does not see the difference.
        subprocess.run(["tar", "-C", self.folder, "-I", "gzip -6", "-cf", path, "."], check=True)


class Sent:
    """How much runs send to the daemon."""

    def __init__(self, lab):
        self.lab = lab
        self.proxy = CountingProxy(os.path.join(lab.scratch, "proxy.sock"), lab.address)

    def kib(self, command):
        before = self.proxy.sent_bytes
        self.lab.run_quietly([command[0], "--address", self.proxy.path, *command[1:]])
        return (self.proxy.sent_bytes - before) / 1024


def settled_ms(lab, command):
    """What was written before is no part of it."""
    os.sync()
    return lab.time_ms(command)


def naive_ms(lab, archive, number):
    """Written anew at gzip's level 6, brought in as an image of one layer, and unpacked."""
    os.sync()
    layout = os.path.join(lab.root, "naive")
    blobs = os.path.join(layout, "blobs", "sha256")
    os.makedirs(blobs)

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    layer = os.path.join(layout, "layer")
    with open(layer, "wb") as out:
        pack_ms = timed_to(lab, [lab.artifactfs, "layer", "--prefix", "/in", "--compression", "gzip",
                                 "--descriptor", layer + ".json", archive], out)
    with open(layer + ".json", encoding="utf-8") as file:
        descriptor = json.load(file)
    os.rename(layer, os.path.join(blobs, descriptor["digest"].split(":")[1]))
    os.unlink(layer + ".json")
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                              "rootfs": {"type": "layers", "diff_ids": [descriptor["diffID"]]}}).encode())
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": descriptor["digest"], "size": descriptor["size"]}]}).encode())
    for name, text in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", {
            "schemaVersion": 2, "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
                "annotations": {"io.containerd.image.name": f"localhost/naive:{number}"}}]})):
        with open(os.path.join(layout, name), "w", encoding="utf-8") as file:
            json.dump(text, file)
    image = os.path.join(lab.root, "naive.tar")
    subprocess.run(["tar", "-C", layout, "-cf", image, "."], check=True)
    import_ms = lab.time_ms(["ctr", "images", "import", image])
    shutil.rmtree(layout)
    os.unlink(image)
    return pack_ms + import_ms


def timed_to(lab, command, out):
    return lab.time_ms(["sh", "-c", 'to=$1; shift; exec "$@" >"$to"', "sh", out.name, *command])


def measure_tree(lab, report, runs):
    trees = Trees(lab)
    archive = os.path.join(lab.root, "tree.tar.gz")

    def run(target, data, command="true"):
        document = {"image": IMAGE, "command": [command]}
        if target:
            document["inputs"] = {"data": target}
        return [lab.executor, "run", "--progress", "none", "--inputs-as", "layer", "--data", data,
                write_json(lab, "step.json", document)]

    without, first, second, tars, naives = [], [], [], [], []
    for number in range(runs + 1):
        trees.pack(archive)
        put = lab.run_quietly([lab.artifactfs, "put", "--name", "data", archive])
        data = write_json(lab, "data.json", json.loads(put.stdout))
        out = os.path.join(lab.root, "out")
        os.mkdir(out)
        values = [settled_ms(lab, run("/in", data)), settled_ms(lab, ["tar", "-C", out, "-xzf", archive]),
                  naive_ms(lab, archive, number)]
        shutil.rmtree(out)
        plain_ms, again_ms = interleave(
            USES, lambda: settled_ms(lab, run(None, data)), lambda: settled_ms(lab, run("/in", data)))
        if number > 0:
            without += plain_ms
            second += again_ms
            for value, of_kind in zip(values, (first, tars, naives)):
                of_kind.append(value)
    base, first_ms, second_ms, tar_ms, naive = map(median, (without, first, second, tars, naives))
    use_ms = first_ms - base
    report.figure("tree as tar.gz: first use", f"{use_ms:.0f} ms, tar xzf {tar_ms:.0f} ms",
                  use_ms / tar_ms, 4, "x")
    report.figure("the same, against the naive way", f"{use_ms:.0f} ms, naive {naive:.0f} ms",
                  use_ms / naive, 0.5, "x")
    report.figure("tree as tar.gz: second use", f"{second_ms:.1f} ms, without {base:.1f} ms",
                  second_ms - base, 15, "ms")
    sent = Sent(lab)
    plain_kib = sent.kib(run(None, data))
    for name, target in (("its second use", "/in"), ("the same at another target", "/elsewhere")):
        report.figure(name, "sent besides what a step sends", sent.kib(run(target, data)) - plain_kib,
                      16, "KiB")
    sent.proxy.close()


def measure_memory(lab, report):
    archive = os.path.join(lab.root, "large.tar.gz")
    write_archive(archive, max(int(2000 * lab.scale), 1))
    put = lab.run_quietly([lab.artifactfs, "put", "--name", "data", archive])
    os.unlink(archive)
    data = write_json(lab, "data.json", json.loads(put.stdout))
    step = write_json(lab, "large.json", {"image": IMAGE, "command": ["true"], "inputs": {"data": "/in"}})
    rss = lab.peak_rss_mib([lab.executor, "run", "--progress", "none", "--inputs-as", "layer", "--data",
                            data, step])
    report.figure("2 GB input as a layer: peak RSS", "", rss, 48, "MiB")


def measure_crowd(lab, report, runs):
    """So many processes, each a step."""
    step = write_json(lab, "true.json", {"image": IMAGE, "command": ["true"]})

    def crowd(command):
        script = (f"for i in $(seq {AT_ONCE}); do {command} >/dev/null & pids=\"$pids $!\"; done; "
                  "for pid in $pids; do wait $pid || exit 1; done")
        return lambda: lab.time_ms(["bash", "-c", script])

    our_ms, peer_ms = map(median, interleave(
        runs, crowd(f"{lab.executor} run --progress none {step}"),
        crowd(f"ctr run --rm {IMAGE} crowd-$$-$i-$RANDOM true")))
    report.figure(f"{AT_ONCE} steps at once", f"{our_ms:.0f} ms, ctr run --rm {peer_ms:.0f} ms",
                  our_ms / peer_ms, 0.8, "x")


def measure(lab, report, runs):
    runs = min(runs, RUNS_MAX)
    measure_crowd(lab, report, runs)
    measure_tree(lab, report, runs)
    measure_memory(lab, report)
