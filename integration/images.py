# SPDX-License-Identifier: MIT
"""Images of a test's own: the test image with more layers and another configuration."""

import hashlib
import io
import json
import os
import shutil
import tarfile


def layer_of(entries):
    """A tar of {path: content}: text is a file's, None a directory, ("link", TARGET) a symbolic
    link, ("mode", MODE, TEXT) a file with a mode; ".wh.NAME" takes NAME away."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in entries.items():
            member = tarfile.TarInfo(path)
            member.mode = 0o644
            data = b""
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, tuple) and content[0] == "link":
                member.type, member.linkname = tarfile.SYMTYPE, content[1]
            elif isinstance(content, tuple):
                member.mode, data = content[1], content[2].encode()
            else:
                data = content.encode()
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return result.getvalue()


class ImageLayout:
    """A copy of an image layout, to be changed."""

    def __init__(self, source, path):
        shutil.copytree(source, path)
        self.path = path
        self.index = self._json("index.json")
        self.manifest = self._json(self._blob(self.index["manifests"][0]))
        self.config = self._json(self._blob(self.manifest["config"]))

    def add_layer(self, entries):
        data = layer_of(entries)
        descriptor = self._write(data)
        self.manifest["layers"].append(
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", **descriptor})
        self.config["rootfs"]["diff_ids"].append(descriptor["digest"])
        # Where there is a history, it has to have as many layers as there are.
        self.config.pop("history", None)

    def save(self):
        self.manifest["config"].update(self._write(json.dumps(self.config).encode()))
        self.index["manifests"][0].update(self._write(json.dumps(self.manifest).encode()))
        with open(os.path.join(self.path, "index.json"), "w", encoding="utf-8") as file:
            json.dump(self.index, file)

    def _json(self, name):
        with open(os.path.join(self.path, name), encoding="utf-8") as file:
            return json.load(file)

    @staticmethod
    def _blob(descriptor):
        return os.path.join("blobs", *descriptor["digest"].split(":"))

    def _write(self, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.path, "blobs", "sha256", digest), "wb") as file:
            file.write(data)
        return {"digest": "sha256:" + digest, "size": len(data)}


def add_image(test, name, layers=(), config=None):
    """Brings an image into the test's namespace: the test image with these layers (see layer_of)
    and members of its configuration."""
    layout = ImageLayout(test.session.image_dir, test.path("image-" + name))
    for entries in layers:
        layout.add_layer(entries)
    layout.config.setdefault("config", {}).update(config or {})
    layout.save()
    reference = f"localhost/{name}:latest"
    process = test.executor("pull", "--name", reference, "oci:" + layout.path)
    test.assertEqual(process.returncode, 0, process.stderr)
    return reference
