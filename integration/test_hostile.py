# SPDX-License-Identifier: MIT
"""Hostile archives as inputs: refused with entry and rule, or harmless in the container and here."""

import gzip
import io
import os
import stat
import subprocess
import tarfile
import zlib

from archives import tar_member, write_tar
from harness import IMAGE, IntegrationTest

MIB = 1 << 20


def link_member(name, target, kind):
    return tar_member(name, kind=kind, linkname=target)


def device(name, kind, major, minor):
    return tar_member(name, kind=kind, devmajor=major, devminor=minor)


def with_pax(name, data=b"x", **headers):
    member, data = tar_member(name, data)
    member.pax_headers = {key.replace("__", "."): value for key, value in headers.items()}
    return member, data


# Members, and what the message has to name: the entry, and the rule.
REFUSED = {
    "dots": ([tar_member("../../escape", b"x")], ["../../escape", "'..'"]),
    "dots inside": ([tar_member("a/../../b", b"x")], ["a/../../b", "'..'"]),
    "empty": ([tar_member("./.", b"x")], ["name"]),
    "through a symbolic link": (
        [link_member("out", "/tmp", tarfile.SYMTYPE), tar_member("out/file", b"x")],
        ["out/file", "link"]),
    "hard link that leads out": (
        [link_member("hard", "../../etc/passwd", tarfile.LNKTYPE)], ["hard", "'..'"]),
    "hard link to the host's": (
        [link_member("hard", "/etc/passwd", tarfile.LNKTYPE)], ["hard", "etc/passwd"]),
    "whiteout": ([tar_member("etc/.wh.passwd")], ["etc/.wh.passwd", ".wh."]),
    "opaque": ([tar_member("etc/.wh..wh..opq")], ["etc/.wh..wh..opq", ".wh."]),
    "whiteout device": ([device("passwd", tarfile.CHRTYPE, 0, 0)], ["passwd", "device"]),
    "memory": ([device("mem", tarfile.CHRTYPE, 1, 1)], ["mem", "device"]),
    "disk": ([device("disk", tarfile.BLKTYPE, 8, 0)], ["disk", "device"]),
    "trusted overlay xattr": (
        [with_pax("f", SCHILY__xattr__trusted__overlay__opaque="y")], ["f", "trusted.overlay."]),
    "user overlay xattr": (
        [with_pax("f", SCHILY__xattr__user__overlay__redirect="/etc")], ["f", "user.overlay."]),
    "long component": ([with_pax("f", path="n" * 65536)], ["nnn", "255"]),
    "deep folders": ([with_pax("f", path="d/" * 100_000 + "f")], ["d/d/", "4096"]),
}


class HostileInputs(IntegrationTest):
    def layer(self, source, *options, timeout=120):
        """Status, what was said, and the most memory that it took in MiB."""
        process = subprocess.Popen(
            [self.session.artifactfs, "layer", "--prefix", "/in", "--compression", "none", *options,
             source], env={**self.environment, "TMPDIR": self.tmp}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with process.stderr:
            said = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, said, usage.ru_maxrss // 1024

    def descriptor(self, source):
        path = self.path("descriptor.json")
        status, said, _ = self.layer(source, "--descriptor", path)
        self.assertEqual(status, 0, said)
        with open(path, encoding="utf-8") as file:
            return file.read()

    def step(self, run, archive, **config):
        return self.run_step(
            {"name": "read", "type": "containerd",
             "config": {"image": IMAGE, "inputs": {"bad": "/in"}, "run": run, **config}},
            options=["--artifact", f"bad={archive}", "--inputs-as", "layer"])

    def test_what_breaks_a_rule_is_refused_by_entry_and_rule(self):
        for name, (members, words) in REFUSED.items():
            with self.subTest(name=name):
                archive = self.path("hostile.tar")
                write_tar(archive, members, tarfile.PAX_FORMAT)
                status, said, _ = self.layer(archive)
                self.assertEqual(status, 1, said)
                outcome = self.step("true", archive)
                self.assertEqual(outcome.status, 125, outcome.stderr)
                self.assertIn(outcome.result["error"]["kind"], ("archive", "limit"))
                for word in words:
                    self.assertIn(word, said)
                    self.assertIn(word, outcome.result["error"]["message"])

    def test_what_is_clamped_or_stripped_does_no_harm(self):
        canary = self.write("canary", "untouched")
        archive = self.path("odd.tar")
        write_tar(archive, [
            tar_member(canary, b"overwritten"),
            tar_member("setuid", b"#!/bin/sh\n", mode=0o6755),
            link_member("up", "../" * 40 + canary.lstrip("/"), tarfile.SYMTYPE),
            link_member("absolute", canary, tarfile.SYMTYPE),
            tar_member("fifo", kind=tarfile.FIFOTYPE),
        ])
        outcome = self.step(
            f"cat /in{canary}; echo; stat -c %a /in/setuid; cat /in/up /in/absolute 2>&1 | wc -l; "
            "test -p /in/fifo && echo fifo", archive, user="0:0")
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.result["output_data"]["read.stdout"],
                         "overwritten\n755\n2\nfifo\n")
        with open(canary, encoding="utf-8") as file:
            self.assertEqual(file.read(), "untouched")

    def test_readers_of_two_sizes_see_one_tree(self):
        """A pax size other than the header's own would hide entries from one reader."""
        hidden = io.BytesIO()
        with tarfile.open(fileobj=hidden, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            tar.addfile(*[tar_member("hidden", b"h")[0], io.BytesIO(b"h")])
        inner = hidden.getvalue()[:1024]
        for size in (0, len(inner)):
            with self.subTest(size=size):
                member, _ = with_pax("cover", inner, size=str(size))
                header = member.tobuf(tarfile.PAX_FORMAT)
                archive = self.path("two.tar")
                with open(archive, "wb") as file:
                    file.write(header + inner + bytes(1024))
                outcome = self.step("cd /in; find . -type f | sort; wc -c < cover", archive)
                self.assertEqual(outcome.status, 0, outcome.stderr)
                self.assertEqual(
                    outcome.result["output_data"]["read.stdout"],
                    "./cover\n./hidden\n0\n" if size == 0 else f"./cover\n{len(inner)}\n")

    def test_a_stream_that_is_cut_or_altered_is_refused(self):
        tar = self.path("good.tar")
        write_tar(tar, [tar_member("zero", b"0"), tar_member("one", os.urandom(1_000_000)),
                        tar_member("two", b"two" * 9999)])
        with open(tar, "rb") as file:
            plain = file.read()
        packed = gzip.compress(plain)
        flipped = bytearray(packed)
        flipped[500_000] ^= 1
        checksum = bytearray(packed)
        checksum[-8] ^= 1
        header = bytearray(plain)
        header[plain.index(b"two\0")] ^= 1
        for name, data in {"gzip-cut": packed[:-20], "gzip-half": packed[:len(packed) // 2],
                           "gzip-flipped": flipped, "gzip-checksum": checksum,
                           "tar-cut": plain[:600_000], "tar-header": header}.items():
            with self.subTest(name=name):
                archive = self.path(name)
                with open(archive, "wb") as file:
                    file.write(data)
                stored = self.artifactfs("put", archive)
                status, said, _ = self.layer(archive)
                self.assertEqual((stored.returncode, status), (1, 1), f"{stored.stderr}\n{said}")
                self.assertIn(name, said)
        self.assertEqual(os.listdir(os.path.join(self.store, "tmp")), [])

    def test_members_and_garbage_behind_a_stream_change_nothing(self):
        tar = self.path("good.tar")
        write_tar(tar, [tar_member("one", b"1" * 5000), tar_member("two", b"2" * 5000)])
        with open(tar, "rb") as file:
            plain = file.read()
        expected = self.descriptor(tar)
        for name, data in {"members": gzip.compress(plain[:3000]) + gzip.compress(plain[3000:]),
                           "garbage": gzip.compress(plain) + b"garbage" * 100,
                           "tar-garbage": plain + b"garbage" * 100}.items():
            with self.subTest(name=name):
                archive = self.path(name)
                with open(archive, "wb") as file:
                    file.write(data)
                self.assertEqual(self.descriptor(archive), expected)

    def test_a_bomb_takes_no_room(self):
        """4 GiB of zeros in 4 MiB."""
        member, _ = tar_member("zeros")
        member.size = 4 << 30
        archive = self.path("bomb.tar.gz")
        packer = zlib.compressobj(9, wbits=31)
        with open(archive, "wb") as file:
            file.write(packer.compress(member.tobuf(tarfile.GNU_FORMAT)))
            for _ in range(4096):
                file.write(packer.compress(bytes(MIB)))
            file.write(packer.compress(bytes(1024)) + packer.flush())
        self.assertLess(os.path.getsize(archive), 5 * MIB)
        before = sorted(os.listdir(self.tmp))
        status, said, peak_mib = self.layer(archive)
        self.assertEqual(status, 0, said)
        self.assert_peak(peak_mib, 100)
        self.assertEqual(sorted(os.listdir(self.tmp)), before)

    def test_a_million_entries_take_little_memory(self):
        count = 1_000_000
        archive = self.path("many.tar.gz")
        head = bytearray(tar_member("0000000")[0].tobuf(tarfile.USTAR_FORMAT))
        head[148:156] = b" " * 8
        rest = sum(head) - sum(head[:7])
        with gzip.open(archive, "wb", compresslevel=1) as file:
            block = bytearray()
            for number in range(count):
                name = b"%07d" % number
                block += name + head[7:148] + b"%06o\0 " % (rest + sum(name)) + head[156:]
                if len(block) > MIB:
                    file.write(block)
                    block.clear()
            file.write(block + bytes(1024))
        descriptor = self.path("descriptor.json")
        status, said, peak_mib = self.layer(archive, "--descriptor", descriptor)
        self.assertEqual(status, 0, said)
        with open(descriptor, encoding="utf-8") as file:
            self.assertIn(f'"entries":\t{count + 1}', file.read())
        self.assert_peak(peak_mib, 400)
        self.assertTrue(stat.S_ISREG(os.stat(archive).st_mode))
