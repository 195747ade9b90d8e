# SPDX-License-Identifier: MIT
"""A registry on a loopback port of its own (Debian's docker-registry), and images for it."""

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.parse

from registry_proxy import serve


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificates(folder, names=("IP:127.0.0.1", "DNS:localhost"), days=2):
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
        file.write("subjectAltName=" + ",".join(names))
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.crt", "-days", str(days), "-extfile", "names")


class Registry:
    """docker-registry, with files below `folder`, until stop(). `auth` is a part of its
    configuration, `tls` a folder of make_certificates()."""

    def __init__(self, folder, auth=None, tls=None, wants_client=False):
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.certificates = None  # a folder of what a client has to show, as skopeo wants it
        os.makedirs(folder)
        listen = {"addr": self.host, "secret": "test", "relativeurls": True}
        if tls:
            listen["tls"] = {"certificate": os.path.join(tls, "server.crt"),
                             "key": os.path.join(tls, "server.key")}
            if wants_client:
                listen["tls"]["clientcas"] = [os.path.join(tls, "ca.crt")]
                self.certificates = os.path.join(folder, "client")
                os.mkdir(self.certificates)
                for suffix, kept in (("cert", "server.crt"), ("key", "server.key")):
                    os.link(os.path.join(tls, kept),
                            os.path.join(self.certificates, "client." + suffix))
        # JSON is YAML.
        configuration = {
            "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": os.path.join(folder, "data")},
                        "delete": {"enabled": True}},
            "http": listen,
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
        if self.certificates:
            command += ["--dest-cert-dir", self.certificates]
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


def add_image(layout, layers, platform=("linux", "amd64"), foreign=None):
    """An image of [(entries, compression)] into a layout; returns its manifest's descriptor.
    foreign: the index of a layer that may not be handed out."""
    blobs, diff_ids = [], []
    for number, (entries, compress) in enumerate(layers):
        data, diff_id = make_layer(entries, compress)
        kind = "layer.nondistributable" if number == foreign else "layer"
        suffix = "" if compress is None else "+" + compress
        blobs.append({"mediaType": f"application/vnd.oci.image.{kind}.v1.tar{suffix}",
                      **write_blob(layout, data)})
        diff_ids.append(diff_id)
    config = json.dumps({
        "os": platform[0], "architecture": platform[1], "config": {"Cmd": ["sh"]},
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


class TokenServer:
    """Issues tokens for a registry whose `auth` is .auth, to the given user or to nobody in particular.

    `asked` are (method, path, headers, body) of the requests in their order."""

    def __init__(self, folder, user=None, refresh_token=None, lifetime_s=60):
        self.user = user
        self.refresh_token = refresh_token
        self.lifetime_s = lifetime_s
        self.asked = []
        make_certificates(folder)
        self.key = os.path.join(folder, "ca.key")
        with open(os.path.join(folder, "ca.crt"), encoding="utf-8") as file:
            self.certificate = "".join(file.read().split("\n")[1:-2])
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.asked.append((self.command, self.path, dict(self.headers), body.decode()))
                status, answer = server.answer(self)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        self.auth = {"token": {"realm": self.url, "service": "test-registry",
                               "issuer": "test-issuer",
                               "rootcertbundle": os.path.join(folder, "ca.crt")}}
        serve(self.server)

    def answer(self, handler):
        query = urllib.parse.urlsplit(handler.path).query
        if handler.command == "POST":
            query = self.asked[-1][3]
        fields = urllib.parse.parse_qs(query)
        if handler.command == "POST":
            if fields.get("refresh_token") != [self.refresh_token]:
                return 401, {}
        elif self.user:
            expected = "Basic " + base64.b64encode(self.user.encode()).decode()
            if handler.headers.get("Authorization") != expected:
                return 401, {}
        access = []
        for scope in fields.get("scope", []):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        key = "access_token" if handler.command == "POST" else "token"
        return 200, {key: self.token(access), "expires_in": self.lifetime_s}

    def token(self, access):
        """A JSON Web Token (RFC 7519), signed as the registry wants it (RS256)."""
        def encode(value):
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]}
        claims = {"iss": "test-issuer", "sub": "someone", "aud": "test-registry",
                  "iat": now - 60, "nbf": now - 60, "exp": now + self.lifetime_s,
                  "jti": str(now), "access": access}
        text = encode(head) + b"." + encode(claims)
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text,
                                   check=True, stdout=subprocess.PIPE).stdout
        return (text + b"." + encode(signature)).decode()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
