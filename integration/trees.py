# SPDX-License-Identifier: MIT
"""Trees of files compared in everything that an archive tells of them."""

import collections
import errno
import hashlib
import os
import stat
import subprocess

Entry = collections.namedtuple(
    "Entry", "kind mode uid gid mtime_ns size target device xattrs digest first_name")

# What a mount says of an artifact beyond the archive.
OWN_XATTRS = ("user.wfe.digest", "user.wfe.media_type")


def extract(archive, directory, *options):
    """Unpacks as bsdtar does for root: with owners, modes, times and xattrs."""
    os.makedirs(directory, exist_ok=True)
    subprocess.run(["bsdtar", "-xpf", archive, "-C", directory, "--numeric-owner", "--xattrs",
                    *options], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return directory


def digest_of(path):
    hasher = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                hasher.update(chunk)
    except OSError as error:
        return errno.errorcode[error.errno]
    return hasher.hexdigest()


def xattrs_of(path):
    found = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in OWN_XATTRS:
            found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found


def entry_of(path, first_name):
    status = os.lstat(path)
    is_file = stat.S_ISREG(status.st_mode)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    return Entry(
        kind=stat.S_IFMT(status.st_mode),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=status.st_size if is_file else None,
        target=os.readlink(path) if stat.S_ISLNK(status.st_mode) else None,
        device=status.st_rdev if is_device else None,
        xattrs=xattrs_of(path),
        digest=digest_of(path) if is_file else None,
        first_name=first_name)


def tree_of(root):
    """{relative name: Entry}, in bytes; the root is b"". Of a hard link, first_name is the first of
    its file's names."""
    root = os.fsencode(root)
    names = [b""]
    for folder, folders, files in os.walk(root):
        relative = os.path.relpath(folder, root)
        for name in folders + files:
            names.append(name if relative == b"." else os.path.join(relative, name))
    first_names = {}
    tree = {}
    for name in sorted(names):
        path = os.path.join(root, name) if name else root
        status = os.lstat(path)
        first = name
        if not stat.S_ISDIR(status.st_mode):
            first = first_names.setdefault((status.st_dev, status.st_ino), name)
        tree[name] = entry_of(path, first)
    return tree


def differences(expected, found, ignore=()):
    """Lines that tell how two trees (see tree_of()) differ. ignore: names of fields."""
    lines = []
    for name in sorted(set(expected) | set(found)):
        if name not in found:
            lines.append(f"{name!r}: missing")
        elif name not in expected:
            lines.append(f"{name!r}: not expected")
        else:
            for field in Entry._fields:
                left, right = getattr(expected[name], field), getattr(found[name], field)
                if field not in ignore and left != right:
                    lines.append(f"{name!r}: {field}: expected {left!r}, found {right!r}")
    return lines


def compare_trees(expected, found, ignore=(), ignore_root=True):
    """How the tree below the directory `found` differs from that below `expected`, as lines. An
    archive need not say anything about its root, so that is left out unless asked for."""
    left, right = tree_of(expected), tree_of(found)
    if ignore_root:
        del left[b""], right[b""]
    return differences(left, right, ignore)
