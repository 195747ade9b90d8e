# SPDX-License-Identifier: MIT
"""A registry on a loopback port of its own (Debian's docker-registry), and images for it."""

import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificates(folder, names=("localhost",)):
    """A CA (ca.crt) and a server's certificate of it (server.crt, server.key) in a new folder."""
    os.makedirs(folder)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt",
            "-subj", "/CN=wfe test CA", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr",
            "-subj", "/CN=server")
    with open(os.path.join(folder, "names"), "w", encoding="utf-8") as file:
        file.write("subjectAltName=IP:127.0.0.1," + ",".join(f"DNS:{name}" for name in names))
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.crt", "-days", "2", "-extfile", "names")


class Registry:
    """docker-registry, with files below `folder`, until stop(). `auth` and `http` are parts of its
    configuration (JSON is YAML)."""

    def __init__(self, folder, auth=None, tls=None):
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.tls = tls
        os.makedirs(folder)
        http = {"addr": self.host, "secret": "test", "relativeurls": True}
        if tls:
            http["tls"] = {"certificate": os.path.join(tls, "server.crt"),
                           "key": os.path.join(tls, "server.key")}
        configuration = {
            "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": os.path.join(folder, "data")},
                        "delete": {"enabled": True}},
            "http": http,
        }
        if auth:
            configuration["auth"] = auth
        path = os.path.join(folder, "config.yml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(configuration, file)
        self.log = os.path.join(folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", path],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._await()

    def _await(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        with open(self.log, encoding="utf-8", errors="replace") as log:
            raise AssertionError("docker-registry does not listen: " + log.read())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def push(self, source, name, *options, creds=None):
        """Pushes an image of skopeo's transports; returns what it is called here."""
        command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false",
                   *options]
        if creds:
            command += ["--dest-creds", creds]
        subprocess.run([*command, source, f"docker://{self.host}/{name}"], check=True,
                       stdin=subprocess.DEVNULL)
        return f"{self.host}/{name}"


def write_blob(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(layout, "blobs", "sha256", digest), "wb") as file:
        file.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def make_layer(entries, compress=None):
    """A tar of {path: content}; a name with .wh. deletes. Returns it (compressed), and its diffID."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in entries.items():
            info = tarfile.TarInfo(path)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                data = content.encode() if isinstance(content, str) else content
                info.size, info.mode = len(data), 0o755
                tar.addfile(info, io.BytesIO(data))
    data = plain.getvalue()
    diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
    if compress == "gzip":
        data = gzip.compress(data, mtime=0)
    elif compress == "zstd":
        data = subprocess.run(["zstd", "-q", "-c"], input=data, check=True,
                              stdout=subprocess.PIPE).stdout
    return data, diff_id


def start_layout(layout):
    os.makedirs(os.path.join(layout, "blobs", "sha256"))
    with open(os.path.join(layout, "oci-layout"), "w", encoding="utf-8") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)


def add_image(layout, layers, platform=("linux", "amd64"), command=("sh",)):
    """An image of [(entries, compression)] into a layout; returns its manifest's descriptor."""
    blobs, diff_ids = [], []
    for entries, compress in layers:
        data, diff_id = make_layer(entries, compress)
        suffix = "" if compress is None else "+" + compress
        blobs.append({"mediaType": "application/vnd.oci.image.layer.v1.tar" + suffix,
                      **write_blob(layout, data)})
        diff_ids.append(diff_id)
    config = json.dumps({
        "os": platform[0], "architecture": platform[1], "config": {"Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   **write_blob(layout, config)},
        "layers": blobs}).encode()
    return {"mediaType": "application/vnd.oci.image.manifest.v1+json",
            **write_blob(layout, manifest),
            "platform": {"os": platform[0], "architecture": platform[1]}}


def finish_layout(layout, manifests, tag="latest", as_index=False):
    """The layout's index.json: one image, or an index of several."""
    top = dict(manifests[0])
    if as_index:
        index = json.dumps({"schemaVersion": 2,
                            "mediaType": "application/vnd.oci.image.index.v1+json",
                            "manifests": manifests}).encode()
        top = {"mediaType": "application/vnd.oci.image.index.v1+json", **write_blob(layout, index)}
    top["annotations"] = {"org.opencontainers.image.ref.name": tag}
    top.pop("platform", None)
    with open(os.path.join(layout, "index.json"), "w", encoding="utf-8") as file:
        json.dump({"schemaVersion": 2, "manifests": [top]}, file)
