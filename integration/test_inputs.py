# SPDX-License-Identifier: MIT
"""Artifact inputs: readable at their targets, brought in once, shared by many steps."""

import hashlib
import io
import json
import os
import random
import re
import subprocess
import tarfile

from counting_proxy import CountingProxy
from harness import IMAGE, IntegrationTest
from images import add_image


def reader(inputs, run="cd /in && find . -type f | sort | xargs sha256sum", **config):
    return {"name": "read", "type": "containerd",
            "config": {"image": IMAGE, "inputs": inputs, "run": run, **config}}


def sums(files):
    """What sha256sum prints for {path: content}."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  ./{name}\n"
                   for name in sorted(files))


def random_bytes(seed, length):
    return random.Random(seed).randbytes(length)


class Inputs(IntegrationTest):
    files = {"a.txt": b"alpha\n", "deep/er/b.bin": bytes(range(256)), "empty": b""}

    def stored(self, name="words", files=None):
        return self.put(self.make_tree("tree-" + name, files or self.files), name)

    def test_an_artifact_of_the_store_is_read_at_its_target(self):
        data = self.succeed(reader({"words": "/in"}), data=self.stored())
        self.assertEqual(data["read.stdout"], sums(self.files))

    def test_a_nested_target_is_made_and_belongs_to_root(self):
        document = reader({"words": "/opt/some/where"},
                          run="cat /opt/some/where/a.txt; stat -c '%n %u:%g %a %Y' /opt /opt/some "
                              "/opt/some/where; ls -n /opt/some/where/a.txt | cut -c 1-10")
        data = self.succeed(document, data=self.stored())
        self.assertEqual(data["read.stdout"],
                         "alpha\n/opt 0:0 755 0\n/opt/some 0:0 755 0\n/opt/some/where 0:0 755 0\n"
                         "-rw-r--r--\n")

    def test_a_target_that_the_image_has_keeps_what_is_in_it(self):
        document = reader({"words": "/etc"}, run="cat /etc/a.txt; grep -c root /etc/passwd")
        self.assertEqual(self.succeed(document, data=self.stored())["read.stdout"], "alpha\n1\n")

    def test_a_target_below_a_link_of_the_image_is_made_where_it_is_called(self):
        """And nothing is put where the link leads to, in the container or on the host."""
        image = add_image(self, "linked", [{"opt": ("link", "/etc"), "etc/passwd": "kept\n"}])
        data = self.stored()
        script = "cat /opt/in/a.txt; test -L /opt || echo directory; test -e /etc/in || cat /etc/passwd"
        for options in ((), ("--snapshotter", "native")):
            with self.subTest(options=options):
                result = self.succeed(reader({"words": "/opt/in"}, run=script, image=image),
                                      data=data, global_options=options)
                self.assertEqual(result["read.stdout"], "alpha\ndirectory\nkept\n")
        self.assertFalse(os.path.exists("/etc/in"))

    def test_two_inputs_lie_side_by_side_and_inside_each_other(self):
        data = {**self.stored("one", {"1": b"one"}), **self.stored("two", {"2": b"two"}),
                **self.stored("three", {"3": b"three"})}
        document = reader({"one": "/in/one", "two": "/in/two", "three": "/in/one/three"})
        self.assertEqual(self.succeed(document, data=data)["read.stdout"],
                         sums({"one/1": b"one", "two/2": b"two", "one/three/3": b"three"}))

    def test_sources_can_be_bound_without_a_store(self):
        tree = self.make_tree("plain", self.files)
        archive = self.path("plain.tar.gz")
        subprocess.run(["tar", "-C", tree, "-czf", archive, "."], check=True)
        for source in (tree, archive):
            with self.subTest(source=source):
                data = self.succeed(reader({"words": "/in"}),
                                    options=["--artifact", f"words={source}"])
                self.assertEqual(data["read.stdout"], sums(self.files))

    def test_a_stored_artifact_is_bound_by_its_digest(self):
        digest = self.stored()["words"]["__wfe_artifact"]
        data = self.succeed(reader({"other": "/in"}), options=["--artifact", f"other={digest}"])
        self.assertEqual(data["read.stdout"], sums(self.files))

    def test_an_input_is_added_or_moved_on_the_command_line(self):
        data = self.stored()
        document = reader({"words": "/wrong"})
        result = self.succeed(document, data=data, options=["--input", "words=/in"])
        self.assertEqual(result["read.stdout"], sums(self.files))
        result = self.succeed({"name": "read", "type": "containerd", "config": {
            "image": IMAGE, "run": "cat /in/a.txt"}}, data=data, options=["--input", "words=/in"])
        self.assertEqual(result["read.stdout"], "alpha\n")

    def test_another_store_can_be_named(self):
        other = self.path("other-store")
        tree = self.make_tree("t", self.files)
        process = self.artifactfs("put", "--store", other, "--name", "words", tree)
        self.assertEqual(process.returncode, 0, process.stderr)
        result = self.succeed(reader({"words": "/in"}), data=json.loads(process.stdout),
                              options=["--store", other])
        self.assertEqual(result["read.stdout"], sums(self.files))

    def test_what_a_step_writes_into_an_input_is_thrown_away(self):
        data = self.stored()
        document = reader({"words": "/in"}, user="0:0",
                          run="cat /in/a.txt; echo changed > /in/a.txt; rm /in/empty")
        for _ in range(2):
            self.assertEqual(self.succeed(document, data=data)["read.stdout"], "alpha\n")

    def test_modes_owners_and_links_are_the_artifacts(self):
        tree = self.make_tree("odd", {"run.sh": b"#!/bin/sh\necho ran\n", "secret": b"s"})
        os.chmod(os.path.join(tree, "run.sh"), 0o755)
        os.chmod(os.path.join(tree, "secret"), 0o600)
        os.chown(os.path.join(tree, "secret"), 1234, 1235)
        os.symlink("run.sh", os.path.join(tree, "link"))
        os.link(os.path.join(tree, "run.sh"), os.path.join(tree, "twin"))
        document = reader({"odd": "/in"}, run="/in/link; readlink /in/link; "
                          "stat -c '%u:%g %a' /in/secret; stat -c %h /in/twin; "
                          "cat /in/secret 2>/dev/null || echo refused")
        data = self.succeed(document, data=self.put(tree, "odd"))
        self.assertEqual(data["read.stdout"], "ran\nrun.sh\n1234:1235 600\n2\nrefused\n")

    def committed(self):
        return sorted(line.split()[0] for line in self.ctr("snapshots", "list").splitlines()[1:]
                      if line.strip())

    def test_the_second_use_sends_nothing(self):
        data = self.stored("words", {"big": random_bytes(1, 5 << 20)})
        proxy = CountingProxy(self.path("proxy.sock"), self.session.ctr_address())
        self.addCleanup(proxy.close)
        sent = []
        snapshots = []
        for _ in range(2):
            before = proxy.sent_bytes
            self.succeed(reader({"words": "/in"}, run="wc -c < /in/big"), data=data,
                         env={"WFE_CONTAINERD_ADDR": proxy.path})
            sent.append(proxy.sent_bytes - before)
            snapshots.append(self.committed())
        self.assertGreater(sent[0], 5 << 20)
        self.assertLess(sent[1], 64 << 10)
        self.assertEqual(snapshots[0], snapshots[1])

    def check_other_targets(self, data=None, options=()):
        """Brought to three places, sent once; and what is kept for that goes with the images. Returns
        what the last step has printed."""
        self.need_this_machine("its images are removed")
        self.enter_new_namespace()
        other = "localhost/other:1"
        self.ctr("images", "tag", IMAGE, other)
        proxy = CountingProxy(self.path("proxy.sock"), self.session.ctr_address())
        self.addCleanup(proxy.close)
        sent, seen = [], []
        for image, target in ((IMAGE, "/in"), (IMAGE, "/opt/in"), (other, "/srv")):
            before = proxy.sent_bytes
            result = self.succeed(
                reader({"words": target}, image=image,
                       run=f"cd {target} && wc -c < big && stat -c '%a %u:%g %Y' ."), data=data,
                options=["--inputs-as", "layer", *options], env={"WFE_CONTAINERD_ADDR": proxy.path})
            seen.append(result["read.stdout"])
            sent.append(proxy.sent_bytes - before)
        self.assertEqual(seen, [seen[0]] * 3)
        self.assertGreater(sent[0], 5 << 20)
        self.assertLess(max(sent[1:]), 96 << 10)
        self.assertTrue(self.blobs())
        self.ctr("images", "remove", "--sync", IMAGE, other)
        self.assertEqual(self.blobs(), set())
        self.assertEqual(self.committed(), [])
        return seen[0]

    def test_at_another_target_nothing_is_sent(self):
        data = self.stored("words", {"big": random_bytes(4, 5 << 20)})
        self.assertEqual(self.check_other_targets(data), f"{5 << 20}\n755 0:0 0\n")

    def archive_with_root(self, **root):
        """An archive whose root has attributes of its own."""
        path = self.path("words.tar.gz")
        content = random_bytes(5, 5 << 20)
        with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
            entry = tarfile.TarInfo("./big")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
            entry = tarfile.TarInfo("./")
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o3755, 7, 8
            entry.mtime = 1000
            entry.pax_headers = root
            tar.addfile(entry)
        return path

    def test_at_another_target_no_archive_is_sent(self):
        data = self.put(self.archive_with_root(), "words")
        self.assertEqual(self.check_other_targets(data), f"{5 << 20}\n3755 7:8 1000\n")

    def test_at_another_target_no_source_without_digest_is_sent(self):
        options = ["--artifact", f"words={self.archive_with_root()}"]
        self.assertEqual(self.check_other_targets(options=options), f"{5 << 20}\n3755 7:8 1000\n")

    def test_sources_that_differ_in_their_root_are_two(self):
        self.need_this_machine("its snapshots are looked at")
        for note in ("first", "second"):
            path = self.archive_with_root(**{"SCHILY.xattr.user.note": note})
            self.succeed(reader({"words": "/in"}), options=["--artifact", f"words={path}"])
        notes = set()
        for chain in self.committed():
            view = self.ctr("snapshots", "view", "--mounts", "looked-at", chain)
            self.ctr("snapshots", "remove", "looked-at", check=False)
            for layer in re.findall("[:=\"](/[^:\"]*)", view):
                place = os.path.join(layer, "in")
                if os.path.isdir(place) and "user.note" in os.listxattr(place):
                    notes.add(os.getxattr(place, "user.note"))
        self.assertEqual(notes, {b"first", b"second"})

    def test_the_same_artifact_at_another_target_is_another_chain(self):
        data = self.stored()
        first = self.succeed(reader({"words": "/in"}), data=data)
        second = self.succeed(reader({"words": "/in/more"}), data=data)
        self.assertEqual(first["read.stdout"], sums(self.files))
        self.assertEqual(second["read.stdout"],
                         sums({"more/" + name: text for name, text in self.files.items()}))

    def at_once(self, count, document, data):
        arguments = self.executor_command(*self.run_arguments(document, data, ["-q"]))
        processes = [subprocess.Popen(arguments, env=self.environment, cwd=self.tmp,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE) for _ in range(count)]
        results = [process.communicate(timeout=120 * self.patience()) + (process.returncode,)
                   for process in processes]
        for stdout, stderr, status in results:
            self.assertEqual(status, 0, stderr)
            yield json.loads(stdout)["output_data"]["read.stdout"]

    def test_two_steps_at_once_bring_the_same_new_input(self):
        for attempt in range(3):
            files = {"big": random_bytes(attempt + 10, 3 << 20)}
            data = self.stored(f"new{attempt}", files)
            for seen in self.at_once(2, reader({f"new{attempt}": "/in"}), data):
                self.assertEqual(seen, sums(files))

    def test_eight_steps_at_once_share_an_input(self):
        files = {"big": random_bytes(2, 1 << 20), "small": b"x"}
        data = self.stored("shared", files)
        for seen in self.at_once(8, reader({"shared": "/in"}), data):
            self.assertEqual(seen, sums(files))

    def test_a_damaged_artifact_is_noticed(self):
        data = self.stored("words", {"f": random_bytes(3, 100000)})
        digest = data["words"]["__wfe_artifact"].removeprefix("sha256:")
        blob = os.path.join(self.store, "blobs", "sha256", digest)
        os.chmod(blob, 0o644)
        with open(blob, "r+b") as file:
            file.seek(50000)
            file.write(b"damage")
        outcome = self.run_step(reader({"words": "/in"}), data=data)
        self.assertEqual(outcome.status, 125, outcome.stderr)
        self.assertEqual(outcome.result["error"]["kind"], "integrity")
        self.assertIn("words", outcome.result["error"]["message"])

    def test_a_hostile_archive_is_refused_with_the_entrys_name(self):
        for name in ("../../escape", "etc/.wh.passwd", ".wh..wh..opq"):
            with self.subTest(name=name):
                archive = self.path("hostile.tar")
                with tarfile.open(archive, "w") as tar:
                    entry = tarfile.TarInfo(name)
                    entry.size = 1
                    tar.addfile(entry, io.BytesIO(b"x"))
                outcome = self.run_step(reader({"bad": "/in"}),
                                        options=["--artifact", f"bad={archive}"])
                self.assertEqual(outcome.status, 125, outcome.stderr)
                self.assertEqual(outcome.result["error"]["kind"], "archive")
                self.assertIn(name, outcome.result["error"]["message"])

    def test_limits_can_be_lowered(self):
        """For the store's own layers, for archives, and for those that promise little."""
        bomb = self.path("bomb.tar.gz")
        with tarfile.open(bomb, "w:gz") as tar:
            entry = tarfile.TarInfo("zeros")
            entry.size = 64 << 20
            with open("/dev/zero", "rb") as zeros:
                tar.addfile(entry, zeros)
        data = self.stored("words", {"1": b"x", "2": b"y"})
        for source, limit, words in ((None, "entries=1", "entries"), (bomb, "bytes=32M", "bytes")):
            with self.subTest(limit=limit):
                bind = ["--artifact", f"words={source}"] if source else []
                outcome = self.run_step(reader({"words": "/in"}), data=data,
                                        options=[*bind, "--inputs-as", "layer", "--limit", limit])
                self.assertEqual(outcome.status, 125, outcome.stderr)
                self.assertEqual(outcome.result["error"]["kind"], "limit")
                self.assertIn(words, outcome.result["error"]["message"])
        self.assertEqual(self.succeed(reader({"words": "/in"}), data=data,
                                      options=["--limit", "entries=2"])["read.stdout"],
                         sums({"1": b"x", "2": b"y"}))

    def test_the_input_survives_the_collector(self):
        data = self.stored()
        self.succeed(reader({"words": "/in"}), data=data)
        before = self.committed()
        self.collect()
        self.assertEqual(self.committed(), before)
        self.assertEqual(self.succeed(reader({"words": "/in"}), data=data)["read.stdout"],
                         sums(self.files))
