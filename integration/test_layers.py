# SPDX-License-Identifier: MIT
"""What containerd extracts from our layers is what bsdtar extracts from the archives."""

import glob
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import unittest

from harness import IntegrationTest

GO_ARCHIVES = "/usr/share/go-1.19/src/archive/tar/testdata"
PYTHON_ARCHIVES = "/usr/lib/python3.11/test"

# Archives that must become a layer; of the others each either does or is refused with a reason.
WANTED = {"file-and-dir.tar", "gnu.tar", "gnu-long-nul.tar", "gnu-not-utf8.tar", "gnu-utf8.tar",
          "gnu-nil-sparse-data.tar", "gnu-nil-sparse-hole.tar", "gnu-multi-hdrs.tar",
          "hardlink.tar", "pax.tar", "pax-records.tar", "star.tar",
          "sparse-formats.tar", "trailing-slash.tar", "ustar.tar", "ustar-file-reg.tar", "v7.tar",
          "xattrs.tar", "pax-global-records.tar", "pax-nil-sparse-data.tar"}


def listing(root):
    """{path: what a layer must carry of it}."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, os.fsencode(root))] = describe(path)
    return found


def describe(path):
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    mode = stat.S_IMODE(status.st_mode)
    # The layer policy: set-id bits are cleared, but for a directory's setgid.
    mode &= ~stat.S_ISUID
    if kind != stat.S_IFDIR:
        mode &= ~stat.S_ISGID
    facts = {"kind": kind, "owner": (status.st_uid, status.st_gid)}
    if kind == stat.S_IFLNK:
        return {**facts, "target": os.readlink(path)}
    facts["mode"] = oct(mode)
    facts["mtime"] = int(status.st_mtime)
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            facts["content"] = hashlib.file_digest(file, "sha256").hexdigest()
        facts["links"] = status.st_nlink
    facts["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False)
                       for name in os.listxattr(path, follow_symlinks=False)
                       if name.startswith("user.")}
    return facts


class Layers(IntegrationTest):
    def layer(self, source, *options):
        """The layer's bytes, or None and why not."""
        process = subprocess.run(
            [self.session.artifactfs, "layer", *options, source], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        if process.returncode != 0:
            return None, process.stderr.decode(errors="replace")
        return process.stdout, ""

    def mount_image(self, layers):
        """Has containerd apply the layers, in order, and returns where they are mounted."""
        layout = self.path("layout")
        shutil.rmtree(layout, ignore_errors=True)
        os.makedirs(os.path.join(layout, "blobs/sha256"))

        def blob(media_type, data):
            digest = hashlib.sha256(data).hexdigest()
            with open(os.path.join(layout, "blobs/sha256", digest), "wb") as file:
                file.write(data)
            return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

        descriptors = [blob("application/vnd.oci.image.layer.v1.tar", data) for data in layers]
        config = blob("application/vnd.oci.image.config.v1+json", json.dumps({
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {
                "type": "layers", "diff_ids": [item["digest"] for item in descriptors]},
        }).encode())
        manifest = blob("application/vnd.oci.image.manifest.v1+json", json.dumps({
            "schemaVersion": 2, "config": config, "layers": descriptors}).encode())
        manifest["annotations"] = {"io.containerd.image.name": "localhost/layers:latest"}
        self.write("layout/index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        self.write("layout/oci-layout", '{"imageLayoutVersion":"1.0.0"}')
        archive = self.path("layers.tar")
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, arcname=".")
        self.ctr("images", "import", "--all-platforms", archive)
        mountpoint = self.path("mnt")
        os.makedirs(mountpoint, exist_ok=True)
        self.ctr("images", "mount", "--platform", "linux/amd64", "localhost/layers:latest",
                 mountpoint)
        self.addCleanup(self.ctr, "images", "unmount", "--rm", mountpoint, check=False)
        return mountpoint

    def unmount_image(self, mountpoint):
        self.ctr("images", "unmount", "--rm", mountpoint)
        self.ctr("images", "remove", "--sync", "localhost/layers:latest")

    def extracted_by_bsdtar(self, archive, name):
        """What is no archive is a single file, in a layer too."""
        target = self.path("oracle", name)
        os.makedirs(target)
        process = subprocess.run(
            ["bsdtar", "--numeric-owner", "-xpf", archive, "-C", target],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
            env={**self.environment, "LC_ALL": "C.UTF-8"})
        if b"Unrecognized archive format" in process.stderr:
            shutil.copy2(archive, target)
        return target

    def compare(self, archives):
        """archives: {name: path}. Each becomes a layer below /name of one image."""
        layers = {}
        for name, path in archives.items():
            data, reason = self.layer(path, "--prefix", "/" + name, "--compression", "none")
            if data is None:
                self.assertTrue(reason.strip(), name)
                self.assertNotIn(name, WANTED, reason)
            else:
                layers[name] = data
        mountpoint = self.mount_image(list(layers.values()))
        for name in layers:
            with self.subTest(archive=name):
                oracle = self.extracted_by_bsdtar(archives[name], name)
                ours = listing(os.path.join(mountpoint, name))
                theirs = listing(oracle)
                # Parents without an entry of their own: tools differ in their attributes.
                for path in set(ours) & set(theirs):
                    if path in self.without_entry(archives[name], theirs):
                        for facts in (ours[path], theirs[path]):
                            facts.pop("mtime", None)
                            facts.pop("mode", None)
                self.assertEqual(ours, theirs)
        self.unmount_image(mountpoint)
        return set(layers)

    @staticmethod
    def without_entry(archive, paths):
        named = subprocess.run(["bsdtar", "-tf", archive], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, check=False,
                               env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout
        entries = {os.path.normpath(line).lstrip(b"/") for line in named.splitlines()}
        return {path for path in paths if path not in entries}

    @unittest.skipUnless(os.path.isdir(GO_ARCHIVES), "golang-1.19-src is not installed")
    def test_the_archives_of_gos_tar_tests(self):
        large = {"gnu-sparse-big.tar", "pax-sparse-big.tar", "writer-big.tar",
                 "writer-big-long.tar"}
        archives = {os.path.basename(path): path
                    for path in sorted(glob.glob(os.path.join(GO_ARCHIVES, "*.tar")))
                    if os.path.basename(path) not in large}
        self.assertGreater(len(archives), 30)
        taken = self.compare(archives)
        self.assertGreaterEqual(len(taken), len(WANTED))

    @unittest.skipUnless(os.path.isfile(PYTHON_ARCHIVES + "/testtar.tar"),
                         "libpython3.11-testsuite is not installed")
    def test_the_regular_entries_of_pythons_test_archive(self):
        """Its devices are refused, as the table says; everything else is compared."""
        source = PYTHON_ARCHIVES + "/testtar.tar"
        data, reason = self.layer(source, "--prefix", "/p")
        self.assertIsNone(data)
        self.assertIn("dev", reason)
        unpacked = self.path("unpacked")
        os.mkdir(unpacked)
        subprocess.run(["bsdtar", "-xpf", source, "-C", unpacked, "--exclude", "*/ch*dev",
                        "--exclude", "*/blktype", "--exclude", "*/chrtype"], check=False,
                       stderr=subprocess.DEVNULL, env={**self.environment, "LC_ALL": "C.UTF-8"})
        archive = self.path("testtar.tar")
        subprocess.run(["tar", "-C", unpacked, "--format=pax", "--xattrs", "-cf", archive, "."],
                       check=True)
        self.assertEqual(self.compare({"testtar": archive}), {"testtar"})

    def test_archives_made_here(self):
        archives = {}

        def make(name, entries, tar_format=tarfile.PAX_FORMAT):
            path = self.path(name + ".tar")
            with tarfile.open(path, "w", format=tar_format) as tar:
                for entry, content in entries:
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
            archives[name] = path

        def file(name, **more):
            entry = tarfile.TarInfo(name)
            for key, value in more.items():
                setattr(entry, key, value)
            return entry

        def link(name, target, kind=tarfile.LNKTYPE):
            return file(name, type=kind, linkname=target), b""

        make("duplicates", [(file("x", mtime=5), b"old"), (file("x", mode=0o640, mtime=7), b"new")])
        make("replaced-link", [(file("x", mtime=1), b"old"), link("y", "x"),
                               (file("x", mtime=2), b"new")])
        make("absolute", [(file("/abs/file", mtime=3), b"a")])
        make("dots", [(file("./a/./b//c", mtime=3), b"a")])
        make("long", [(file("d" * 90 + "/" + "n" * 200, mtime=9), b"long")])
        make("gnu-long", [(file("d" * 90 + "/" + "n" * 200, mtime=9), b"long")],
             tarfile.GNU_FORMAT)
        make("unicode", [(file("gr\u00fc\u00dfe/\u4f60", mtime=2), b"u")])
        make("owners", [(file("f", uid=3000000, gid=4000000, mtime=1), b"")])
        make("old-and-new", [(file("f", mtime=0), b""), (file("g", mtime=4102444800), b"")])
        make("links", [(file("d/f", mtime=1), b"f"), link("d/hard", "d/f"),
                       link("d/soft", "f", tarfile.SYMTYPE),
                       link("d/dangling", "../../etc/passwd", tarfile.SYMTYPE),
                       link("d/absolute", "/etc/passwd", tarfile.SYMTYPE)])
        make("fifo", [(file("pipe", type=tarfile.FIFOTYPE, mode=0o620, mtime=4), b"")])
        make("set-id", [(file("su", mode=0o6755, mtime=1), b"x"),
                        (file("sticky", type=tarfile.DIRTYPE, mode=0o1777, mtime=1), b"")])
        make("xattrs", [(file("f", mtime=1, pax_headers={"SCHILY.xattr.user.note": "hi"}), b"x")])
        self.assertEqual(self.compare(archives), set(archives))

    def test_compressions_hold_the_same_tar(self):
        tree = self.make_tree("tree", {"a": "1" * 100000, "b/c": "2"})
        plain, _ = self.layer(tree, "--prefix", "/p", "--compression", "none")
        packed, _ = self.layer(tree, "--prefix", "/p", "--compression", "gzip")
        zstd, _ = self.layer(tree, "--prefix", "/p", "--compression", "zstd")
        for command, data in ((["gzip", "-dc"], packed), (["zstd", "-dc"], zstd)):
            if shutil.which(command[0]):
                unpacked = subprocess.run(command, input=data, stdout=subprocess.PIPE,
                                          check=True).stdout
                self.assertTrue(unpacked == plain, command)

    def test_a_layer_is_the_same_in_every_locale_and_time_zone(self):
        tree = self.make_tree("tree", {"gr\u00fc\u00dfe": "1", "z": "2", "A": "3"})
        layers = set()
        for more in ({"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"},
                     {"LC_ALL": "POSIX", "TZ": "UTC"}):
            self.environment.update(more)
            data, reason = self.layer(tree, "--prefix", "/p", "--compression", "none")
            self.assertIsNotNone(data, reason)
            layers.add(data)
        self.assertEqual(len(layers), 1)
