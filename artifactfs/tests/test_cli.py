# SPDX-License-Identifier: MIT
"""wfe-artifactfs as a user types it: put, get, ls, rm, gc, layer.

Usage: test_cli.py PROGRAM [unittest's arguments]
"""

import datetime
import hashlib
import io
import json
import os
import pathlib
import pty
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
import zipfile

PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())
COMMANDS = ["put", "get", "ls", "rm", "gc", "layer"]


def tar_of(entries, mode="w:gz"):
    """An archive of (name, contents or TarInfo) pairs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, contents in entries:
            if isinstance(contents, tarfile.TarInfo):
                contents.name = name
                tar.addfile(contents)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(contents)
                info.mtime = 1_000_000_000
                tar.addfile(info, io.BytesIO(contents))
    return out.getvalue()


def tar_info(**fields):
    info = tarfile.TarInfo()
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class CliTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="wfe-cli-")
        self.addCleanup(directory.cleanup)
        self.here = pathlib.Path(directory.name)
        self.store = self.here / "store"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.here),
            "WFE_ARTIFACT_STORE": str(self.store),
        }
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]

    def run_program(self, *arguments, **options):
        options.setdefault("env", self.env)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        return subprocess.run(
            [PROGRAM, *map(str, arguments)],
            cwd=self.here,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            **options,
        )

    def ok(self, *arguments, **options):
        done = self.run_program(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertEqual(done.stderr, b"")
        return done.stdout

    def fails(self, status, text, *arguments, **options):
        """One line on stderr that begins with the command and says `text`."""
        done = self.run_program(*arguments, **options)
        stderr = done.stderr.decode()
        self.assertEqual(done.returncode, status, stderr)
        self.assertEqual(stderr.count("\n"), 1, stderr)
        self.assertTrue(stderr.startswith("wfe-artifactfs"), stderr)
        self.assertIn(text, stderr)
        self.assertFalse(done.stdout)
        return stderr

    def write(self, name, data):
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def put(self, *arguments, **options):
        """The name and digest that put prints."""
        reference = json.loads(self.ok("put", *arguments, **options))
        ((name, value),) = reference.items()
        return name, value["__wfe_artifact"]

    def listed(self, *arguments):
        return json.loads(self.ok("ls", "--json", *arguments))

    def files_in(self, part):
        return sorted(path.name for path in (self.store / part).iterdir())


class PutTest(CliTest):
    def test_prints_a_reference_alone(self):
        tar = self.write("data.tar.gz", tar_of([("a", b"1")]))
        out = self.ok("put", tar)
        expected = {"data": {"__wfe_artifact": digest_of(tar.read_bytes())}}
        self.assertEqual(json.loads(out), expected)
        self.assertEqual(out.count(b"\n"), 1)

    def test_takes_the_name_from_option_or_path(self):
        self.write("tree/file", b"1")
        tar = self.write("data.tar", tar_of([("a", b"1")], "w"))
        self.assertEqual(self.put("--name", "other", tar)[0], "other")
        self.assertEqual(self.put(tar)[0], "data")
        self.assertEqual(self.put("tree/")[0], "tree")
        self.assertEqual(self.put("tree/.")[0], "tree")
        self.fails(2, "can't be an artifact's name", "put", "--name", "a/b", tar)

    def test_reads_standard_input(self):
        data = tar_of([("a", b"1")])
        self.assertEqual(self.put("--name", "piped", "-", input=data), ("piped", digest_of(data)))
        self.fails(2, "give it one with --name", "put", "-", input=data)

    def test_zip_directory_and_file_become_layers(self):
        self.write("tree/sub/file", b"hello")
        archive = self.here / "z.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("sub/file", "hello")
        plain = self.write("plain.txt", b"hello")
        for source, inside in ((archive, "sub/file"), ("tree", "sub/file"), (plain, "plain.txt")):
            name, _ = self.put(source)
            with tarfile.open(fileobj=io.BytesIO(self.ok("get", name)), mode="r:gz") as tar:
                self.assertEqual(tar.extractfile(inside).read(), b"hello")

    def test_refuses_what_is_broken(self):
        whole = tar_of([("a", os.urandom(10000))])
        cut = self.write("cut.tgz", whole[: len(whole) // 2])
        text = self.write("text.tar", b"no archive")
        self.fails(1, f"wfe-artifactfs put: {cut}: ", "put", cut)
        self.fails(1, "named like an archive", "put", text)
        self.fails(1, "missing: No such file or directory", "put", "missing")
        self.assertEqual(self.files_in("blobs/sha256"), [])
        self.assertEqual(self.files_in("tmp"), [])

    def test_expires_takes_durations_only(self):
        tar = self.write("a.tar", tar_of([("a", b"1")], "w"))
        for bad in ("", "1", "d", "0s", "-1d", "1w", "1.5h", "1ms", "9999999999s"):
            self.fails(2, "expected a number and s, m, h or d", "put", f"--expires={bad}", tar)
        self.ok("put", "--expires", "2d", tar)
        (entry,) = self.listed()
        begin, end = (
            datetime.datetime.fromisoformat(entry[key].rstrip("Z"))
            for key in ("created", "expires")
        )
        self.assertEqual(end - begin, datetime.timedelta(days=2))

    def test_a_store_that_is_something_else_is_left_alone(self):
        self.write("letters/dear", b"")
        tar = self.write("a.tar", tar_of([("a", b"1")], "w"))
        self.fails(1, "nor empty", "put", "--store", "letters", tar)
        self.assertEqual([path.name for path in (self.here / "letters").iterdir()], ["dear"])


class GetTest(CliTest):
    def setUp(self):
        super().setUp()
        self.data = tar_of([("sub/file", b"hello"), ("run", tar_info(mode=0o4755))])
        self.tar = self.write("data.tar.gz", self.data)
        _, self.digest = self.put(self.tar)

    def test_by_name_digest_and_short_digest(self):
        for what in ("data", self.digest, self.digest[:19]):
            self.assertEqual(self.ok("get", what), self.data)

    def test_into_a_file(self):
        self.assertEqual(self.ok("get", "-o", "out", "data"), b"")
        self.assertEqual((self.here / "out").read_bytes(), self.data)
        self.write("out", b"old")
        self.ok("get", "data", "--output", "out")
        self.assertEqual((self.here / "out").read_bytes(), self.data)
        self.ok("get", "-o", "/dev/null", "data")
        self.assertEqual(self.ok("get", "-o", "-", "data"), self.data)
        self.assertEqual([path.name for path in self.here.glob("out*")], ["out"])

    def test_into_a_directory(self):
        self.ok("get", "-C", "new/dir", "data")
        self.assertEqual((self.here / "new/dir/sub/file").read_bytes(), b"hello")
        self.assertEqual((self.here / "new/dir/sub/file").stat().st_mtime, 1_000_000_000)
        mode = (self.here / "new/dir/run").stat().st_mode & 0o7777
        self.assertEqual(mode, 0o755 & ~self.umask())
        self.ok("get", "-C", "new/dir", "data")

    @staticmethod
    def umask():
        mask = os.umask(0)
        os.umask(mask)
        return mask

    def test_a_relative_store_and_directory(self):
        shutil.copytree(self.store, self.here / "copy")
        self.ok("get", "--store", "copy", "-C", "out", "data")
        self.assertTrue((self.here / "out/sub/file").exists())

    def test_names_that_are_not_ascii(self):
        data = tar_of([("größe/Ω", b"1")], "w")
        self.put(self.write("u.tar", data))
        self.ok("get", "-C", "out", "u")
        self.assertEqual((self.here / "out/größe/Ω").read_bytes(), b"1")

    def test_refuses_to_leave_the_directory(self):
        symlink = tar_info(type=tarfile.SYMTYPE, linkname=str(self.here))
        hostile = {
            "up": [("../escaped", b"1")],
            "inner": [("a/../../escaped", b"1")],
            "absolute": [(str(self.here / "escaped"), b"1")],
            "link": [("link", symlink), ("link/escaped", b"1")],
            "hard": [("h", tar_info(type=tarfile.LNKTYPE, linkname="../data.tar.gz"))],
            "device": [("d", tar_info(type=tarfile.CHRTYPE, devmajor=1, devminor=3))],
        }
        for name, entries in hostile.items():
            with self.subTest(name):
                self.put("--name", name, self.write("hostile.tar", tar_of(entries, "w")))
                entry = entries[-1][0]
                self.fails(1, f"entry '{entry}'", "get", "-C", f"out-{name}", name)
                self.assertFalse((self.here / "escaped").exists())
                self.assertFalse((self.here / f"out-{name}" / "h").exists())
                self.assertFalse((self.here / f"out-{name}" / "d").exists())

    def test_a_bad_digest_is_refused(self):
        upper = "sha256:" + self.digest[7:].upper()
        for bad in ("sha256:../../x", "sha256:", "sha256:" + "0" * 65, upper):
            for command in (["get"], ["rm"], ["layer", "--prefix", "/in"]):
                self.fails(1, "is not a digest: expected sha256: and 64", *command, bad)
            data = self.write("data.json", json.dumps({"a": {"__wfe_artifact": bad}}).encode())
            for source in ([bad], ["--artifact", f"a={bad}"], ["--data", data]):
                done = self.run_program("mount", "--no-cache", *source, self.here)
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr.decode(), "(no|not a) digest.* 64 hexadecimal digits")
        self.fails(1, "no artifact is named 'nothing'", "get", "nothing")
        self.fails(1, "is not in the store", "get", digest_of(b""))

    def test_a_damaged_artifact_is_refused(self):
        blob = self.store / "blobs/sha256" / self.digest[7:]
        damaged = bytearray(self.data)
        damaged[20] ^= 1
        blob.write_bytes(damaged)
        line = self.fails(1, self.digest, "get", "data")
        self.assertIn(digest_of(damaged), line)
        self.fails(1, self.digest, "get", "-C", "out", "data")
        self.assertFalse((self.here / "out").exists())

    def test_an_expired_artifact_is_refused(self):
        other = self.write("b.tar", tar_of([("b", b"1")], "w"))
        self.put("--expires", "1s", other)
        time.sleep(1.1)
        self.fails(1, "expired on", "get", "b")
        self.assertIn("expired", self.ok("ls").decode().splitlines()[1:][self.row("b")])

    def row(self, name):
        return [entry["name"] for entry in self.listed()].index(name)

    def test_a_terminal_is_refused(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        for command in (("get", "data"), ("layer", "--prefix", "/x", self.tar)):
            done = self.run_program(*command, stdout=theirs)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"terminal", done.stderr)
        os.close(theirs)

    def test_a_full_device_is_an_error(self):
        with open("/dev/full", "wb") as full:
            for command in (("get", "data"), ("ls",), ("layer", "--prefix", "/x", self.tar)):
                done = self.run_program(*command, stdout=full)
                self.assertEqual(done.returncode, 1, command)
                self.assertIn(b"No space left on device", done.stderr)


class ListRemoveCollectTest(CliTest):
    def test_ls_of_nothing(self):
        self.fails(1, f"no artifact store at {self.store}", "ls")
        self.put(self.write("a.tar", tar_of([("a", b"1")], "w")))
        self.ok("rm", "a")
        self.assertEqual(self.listed(), [])
        self.assertEqual(len(self.ok("ls").splitlines()), 1)

    def test_ls_shows_each_artifact(self):
        data = tar_of([("a", b"1")], "w")
        _, digest = self.put("--name", "größe", self.write("a.tar", data))
        (entry,) = self.listed()
        self.assertEqual(entry["name"], "größe")
        self.assertEqual(entry["digest"], digest)
        self.assertEqual(entry["size"], len(data))
        self.assertEqual(entry["mediaType"], "application/vnd.oci.image.layer.v1.tar")
        self.assertFalse(entry["expired"])
        head, row = self.ok("ls").decode().splitlines()
        self.assertEqual(head.split(), ["NAME", "DIGEST", "SIZE", "CREATED", "EXPIRES"])
        self.assertEqual(head.index("DIGEST"), row.index("sha256:"))
        self.assertEqual(row.split()[:4], ["größe", digest[:19], "10.0", "KiB"])

    def test_rm_takes_names_and_digests(self):
        _, first = self.put(self.write("a.tar", tar_of([("a", b"1")], "w")))
        self.put(self.write("b.tar", tar_of([("b", b"1")], "w")))
        self.put(self.write("c.tar", tar_of([("c", b"1")], "w")))
        self.put("--name", "d", self.here / "c.tar")
        self.assertEqual(self.ok("rm", first, "b", "c"), b"")
        self.assertEqual([entry["name"] for entry in self.listed()], ["d"])
        done = self.run_program("rm", "nothing", "d", "nor-this")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"\n"), 2)
        self.assertEqual(self.files_in("blobs/sha256"), [])
        self.assertEqual(self.files_in("meta"), [])

    def test_gc_removes_what_has_expired(self):
        self.put("--expires", "1s", self.write("a.tar", tar_of([("a", b"1")], "w")))
        self.put(self.write("b.tar", tar_of([("b", b"1")], "w")))
        time.sleep(1.1)
        self.assertTrue(self.ok("gc").startswith(b"1 artifact removed, 1"))
        self.assertEqual(self.ok("gc"), b"0 artifacts removed, 0 B freed\n")
        self.assertEqual([entry["name"] for entry in self.listed()], ["b"])

    def test_the_store_comes_from_option_environment_or_home(self):
        tar = self.write("a.tar", tar_of([("a", b"1")], "w"))
        self.put("--store", self.here / "elsewhere", tar)
        self.assertFalse(self.store.exists())
        del self.env["WFE_ARTIFACT_STORE"]
        self.put(tar)
        self.assertTrue((self.here / ".local/share/wfe/artifacts/oci-layout").exists())
        self.env["XDG_DATA_HOME"] = str(self.here / "xdg")
        self.put(tar)
        self.assertTrue((self.here / "xdg/wfe/artifacts/oci-layout").exists())


class LayerTest(CliTest):
    def layer(self, *arguments):
        out = self.ok("layer", "--descriptor", "d.json", *arguments)
        return out, json.loads((self.here / "d.json").read_bytes())

    def names(self, data, mode="r:*"):
        with tarfile.open(fileobj=io.BytesIO(data), mode=mode) as tar:
            return tar.getnames()

    def test_of_a_directory_an_archive_a_file_and_the_store(self):
        self.write("tree/file", b"1")
        tar = self.write("t.tar", tar_of([("file", b"1")], "w"))
        _, digest = self.put(tar)
        for source in ("tree", tar, "tree/file", digest, digest[:19]):
            out, descriptor = self.layer("--prefix", "/in/data", source)
            self.assertEqual(self.names(out), ["in", "in/data", "in/data/file"], source)
            self.assertEqual(descriptor["digest"], digest_of(out))
            self.assertEqual(descriptor["size"], len(out))
            self.assertEqual(
                descriptor["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip"
            )

    def test_in_each_compression(self):
        self.write("tree/file", b"1")
        plain, descriptor = self.layer("--prefix", "x", "--compression", "none", "tree")
        self.assertEqual(self.names(plain, "r:"), ["x", "x/file"])
        self.assertEqual(descriptor["diffID"], digest_of(plain))
        self.assertEqual(descriptor["tarSize"], len(plain))
        self.assertEqual(descriptor["entries"], 2)
        for compression, magic in (("gzip", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd")):
            out, other = self.layer("--prefix", "x", "--compression", compression, "tree")
            self.assertTrue(out.startswith(magic))
            self.assertEqual(other["diffID"], descriptor["diffID"])
            self.assertTrue(other["mediaType"].endswith(compression))
        wrong = ("--prefix", "x", "--compression", "xz", "tree")
        self.fails(2, "expected gzip, none or zstd", "layer", *wrong)

    def test_limits(self):
        self.write("tree/file", b"x" * 5000)
        self.write("tree/other", b"y")
        for limit, words in (("entries=1", "entries"), ("bytes=4K", "4096 bytes"),
                             ("path=7", "7 bytes")):
            done = self.run_program("layer", "--prefix", "/in", "--limit", limit, "tree")
            self.assertEqual(done.returncode, 1)
            self.assertIn(words, done.stderr.decode())
        self.ok("layer", "--prefix", "/in", "--limit", "entries=2", "--limit", "bytes=64k", "tree")
        for wrong in ("entries", "entries=0", "entries=2000001", "bytes=2T", "files=3", "=1", "path=x"):
            self.fails(2, f"limit '{wrong}': expected", "layer", "--prefix=/", "--limit", wrong, "tree")

    def test_limits_of_what_is_put(self):
        self.write("tree/file", b"x" * 5000)
        kept = self.write("kept.tar.gz", tar_of([("file", b"x" * 50_000)]))
        for source in ("tree", kept):
            self.fails(1, "4096 bytes", "put", "--limit", "bytes=4K", source)
        self.assertEqual(self.files_in("blobs/sha256"), [])
        self.assertEqual(self.files_in("tmp"), [])
        self.put("--limit", "bytes=1M", kept)

    def test_says_what_is_wrong(self):
        tar = self.write("w.tar", tar_of([(".wh.gone", b"")], "w"))
        self.fails(2, "--prefix is missing", "layer", tar)
        self.fails(2, "standard input", "layer", "--prefix", "/", "-")
        self.fails(1, ".wh.gone", "layer", "--prefix", "/", tar)
        self.fails(1, "missing: No such file", "layer", "--prefix", "/", "missing")
        self.put(self.write("a.tar", tar_of([("a", b"1")], "w")))
        self.fails(1, "is not a digest", "layer", "--prefix", "/", "sha256:x")


class UsageTest(CliTest):
    def test_help_lists_every_option_on_a_line(self):
        for command in COMMANDS:
            lines = self.ok(command, "--help").decode().splitlines()
            self.assertTrue(lines[0].startswith(f"Usage: wfe-artifactfs {command} "))
            options = lines[lines.index("Options:") + 1 :]
            for line in options:
                self.assertRegex(line, r"^  (-\w, |    )--[a-z-]+( [A-Z=]+)?  +\S.*$")
            self.assertRegex(options[-1], r"^  -h, --help +show this help$")
            self.assertEqual(self.ok(command, "-h").decode().splitlines(), lines)

    def test_the_program_lists_its_commands(self):
        out = self.ok("--help").decode()
        for command in COMMANDS:
            self.assertRegex(out, rf"(?m)^  {command} +[A-Z]")

    def test_version(self):
        version = self.ok("--version")
        self.assertRegex(version.decode(), r"^wfe-artifactfs \d+\.\d+\.\d+\n$")
        self.assertEqual(self.ok("put", "--version"), version)

    def test_usage_errors_are_one_line_with_a_hint(self):
        cases = [
            ([], "--help"),
            (["nonsense"], "nonsense is not a command"),
            (["--nonsense"], "--nonsense is not an option"),
            (["put"], "expected PATH"),
            (["put", "a", "b"], "unexpected 'b'"),
            (["put", "--nonsense", "a"], "--nonsense"),
            (["put", "--name"], "--name"),
            (["put", "--log-level", "loud", "a"], "expected error, warn, info or debug"),
            (["get"], "expected DIGEST|NAME"),
            (["get", "-o", "x", "-C", "y", "z"], "exclude each other"),
            (["ls", "x"], "unexpected 'x'"),
            (["rm"], "expected DIGEST|NAME..."),
            (["gc", "x"], "unexpected 'x'"),
            (["layer", "--prefix", "/"], "expected SOURCE"),
        ]
        for arguments, text in cases:
            with self.subTest(arguments):
                self.assertIn("--help')", self.fails(2, text, *arguments))


class OtherToolsTest(CliTest):
    """What other tools for OCI layouts make of the store."""

    def setUp(self):
        super().setUp()
        self.write("tree/file", b"hello")
        self.put("tree")
        self.put(self.write("archive.tar.gz", tar_of([("file", b"hello")])))
        self.put(self.write("plain.tar", tar_of([("file", b"hello")], "w")))
        self.put("--name", "no tag", self.write("odd.tar", tar_of([("odd", b"1")], "w")))

    def tool(self, name, *arguments):
        if not shutil.which(name):
            self.skipTest(f"{name} is not installed")
        done = subprocess.run(
            [name, *map(str, arguments)],
            cwd=self.here,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode()

    def test_umoci(self):
        tags = self.tool("umoci", "ls", "--layout", self.store).split()
        self.assertEqual(len(tags), 4)
        self.assertLess({"tree", "archive", "plain"}, set(tags))
        before = self.files_in("blobs/sha256")
        self.tool("umoci", "gc", "--layout", self.store)
        self.assertEqual(self.files_in("blobs/sha256"), before)
        for tag in tags:
            history = self.tool("umoci", "stat", "--image", f"{self.store}:{tag}")
            self.assertIn("wfe-artifactfs", history)
        self.tool("umoci", "unpack", "--rootless", "--image", f"{self.store}:archive", "bundle")
        self.assertEqual((self.here / "bundle/rootfs/file").read_bytes(), b"hello")

    def test_a_tag_of_umoci_is_a_name(self):
        self.tool("umoci", "tag", "--image", f"{self.store}:tree", "again")
        self.ok("get", "-C", "out", "again")
        self.assertEqual((self.here / "out/file").read_bytes(), b"hello")

    def test_skopeo(self):
        for tag in ("tree", "archive", "plain"):
            inspected = json.loads(self.tool("skopeo", "inspect", f"oci:{self.store}:{tag}"))
            digests = [entry["digest"] for entry in self.listed() if entry["name"] == tag]
            self.assertEqual(inspected["Layers"], digests)
            self.tool(
                "skopeo", "copy", "--insecure-policy", f"oci:{self.store}:{tag}", f"oci:other:{tag}"
            )
        self.ok("get", "--store", "other", "-C", "out", "tree")
        self.assertEqual((self.here / "out/file").read_bytes(), b"hello")
        names = {entry["name"] for entry in self.listed("--store", "other")}
        self.assertEqual(names, {"tree", "archive", "plain"})

    def test_a_name_survives_what_skopeo_writes(self):
        self.tool(
            "skopeo", "copy", "--insecure-policy", f"oci:{self.store}:tree", f"oci:{self.store}:new"
        )
        names = {entry["name"] for entry in self.listed()}
        self.assertEqual(names, {"tree", "new", "archive", "plain", "no tag"})


if __name__ == "__main__":
    unittest.main()
