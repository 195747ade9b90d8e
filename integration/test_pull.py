# SPDX-License-Identifier: MIT
"""Images from a registry by our own client: what `pull` brings in, and that containerd takes it for
its own. How the daemon pulls them itself: test_transfer.py."""

import base64
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
import urllib.parse

from harness import IMAGE, IntegrationTest
from registry import (Registry, TokenServer, add_image, finish_layout, make_certificates,
                      start_layout)
from registry_proxy import Proxy


def busybox():
    with open("/bin/busybox", "rb") as file:
        return file.read()


class PullTest(IntegrationTest):
    """A registry without authentication, over plain HTTP, with a proxy before it."""

    has_image = False
    registry_options = {}
    transfer = "never"

    def setUp(self):
        super().setUp()
        self.environment["WFE_TRANSFER"] = self.transfer
        self.registry = self.start_registry("registry", **self.registry_options)
        self.proxy = self.start_proxy(self.registry)

    def start_registry(self, name, **options):
        registry = Registry(self.path(name), **options)
        self.addCleanup(registry.stop)
        return registry

    def start_proxy(self, registry, fault=None):
        proxy = Proxy(registry.host, fault)
        self.addCleanup(proxy.close)
        return proxy

    def layout(self, name, layers, **options):
        path = self.path(name)
        start_layout(path)
        finish_layout(path, [add_image(path, layers)], **options)
        return f"oci:{path}:latest"

    def push_layers(self, name, layers, *options):
        """Pushes an image of [(entries, compression)]; returns its name at the proxy."""
        self.registry.push(self.layout("layout-" + re.sub("[/:]", "-", name), layers), name, *options)
        return f"{self.proxy.host}/{name}"

    def push_busybox(self, name="team/box:1", *options):
        self.registry.push(f"oci:{self.session.image_dir}:latest", name, *options)
        return f"{self.proxy.host}/{name}"

    def pull(self, *arguments, **options):
        """Pulls what must succeed; returns what it printed."""
        process = self.executor("pull", *arguments, **options)
        self.assertEqual(process.returncode, 0, process.stderr)
        return process.stdout.strip()

    def refused(self, *arguments, **options):
        """Pulls what must fail; returns the message."""
        process = self.executor("pull", "-q", *arguments, **options)
        self.assertEqual(process.returncode, 125, process.stdout + process.stderr)
        self.assertEqual(self.ctr("images", "list", "--quiet"), "")
        self.assertEqual(self.ctr("content", "list", "--quiet"), "")
        self.assertEqual(self.ctr("snapshots", "list").splitlines()[1:], [])
        return process.stderr

    def assert_image_works(self, name, script="echo works", output="works\n"):
        self.assertIn(name, self.ctr("images", "list", "--quiet").split())
        self.assertIn("complete", self.ctr("images", "check"))
        # By the status, since ctr may end before it has passed on what was printed.
        said = shlex.quote(output.rstrip("\n"))
        self.ctr("run", "--rm", name, "by-ctr", "/bin/sh", "-c", f'[ "$({script})" = {said} ]')
        data = self.succeed({"image": name, "pull": "never", "run": script})
        self.assertEqual(data["unknown.stdout"], output)


class Pull(PullTest):
    def test_an_image_comes_in_and_works(self):
        name = self.push_busybox()
        self.assertEqual(self.pull(name), name)
        self.assert_image_works(name)

    def test_an_image_of_dockers_formats_works(self):
        name = self.push_busybox("team/box:docker", "--format", "v2s2")
        self.pull(name)
        self.assert_image_works(name)
        self.assertIn("application/vnd.docker.distribution.manifest.v2+json",
                      self.ctr("images", "list"))

    def test_it_lasts(self):
        name = self.push_busybox()
        self.pull(name)
        self.ctr("leases", "create", "--id", "nudge", "--expires", "1h")
        self.ctr("leases", "delete", "--sync", "nudge")
        self.assert_image_works(name)

    def test_a_second_pull_fetches_no_blob(self):
        name = self.push_busybox()
        self.pull(name)
        self.assertEqual(len(self.proxy.paths("/blobs/")), 2)
        self.proxy.requests.clear()
        self.pull(name)
        self.assertEqual(self.proxy.paths("/blobs/"), [])
        self.assertEqual(len(self.proxy.requests), 1)

    def test_layers_of_every_kind_are_applied_in_order(self):
        name = self.push_layers("team/layers:1", [
            ({"bin": None, "bin/sh": busybox(), "etc": None, "etc/gone": "x", "etc/kept": "old",
              "opaque": None, "opaque/below": "x"}, "gzip"),
            ({"etc/.wh.gone": "", "etc/kept": "new"}, None),
            ({"opaque/.wh..wh..opq": "", "opaque/above": "x"}, "zstd"),
        ])
        self.pull(name)
        self.assert_image_works(
            name, "test ! -e /etc/gone && test ! -e /opaque/below && test -e /opaque/above && "
            "read kept </etc/kept; echo $kept", "new\n")

    def test_a_layer_that_occurs_twice_is_fetched_once(self):
        again = ({"again": "x"}, "gzip")
        name = self.push_layers("team/twice:1", [
            ({"bin/sh": busybox()}, "gzip"), again, ({".wh.again": ""}, "gzip"), again])
        self.pull(name)
        self.assertEqual(len(self.proxy.paths("/blobs/")), 4)
        self.assert_image_works(name, "test -e /again && echo there", "there\n")

    def test_of_an_index_only_the_daemons_platform_comes_in(self):
        path = self.path("index")
        start_layout(path)
        images = [add_image(path, [({"bin/sh": busybox(), "etc/arch": arch + "\n"}, "gzip")],
                            ("linux", arch)) for arch in ("arm64", "amd64", "s390x")]
        finish_layout(path, images, as_index=True)
        self.registry.push(f"oci:{path}:latest", "team/index:1", "--all")
        name = f"{self.proxy.host}/team/index:1"
        self.pull(name)
        self.assertEqual(len(self.ctr("content", "list", "--quiet").split()), 4)
        self.assert_image_works(name, "read arch </etc/arch; echo $arch", "amd64\n")
        self.assertIn("application/vnd.oci.image.index.v1+json", self.ctr("images", "list"))

    def test_an_index_without_the_daemons_platform_is_refused(self):
        path = self.path("index")
        start_layout(path)
        finish_layout(path, [add_image(path, [({"a": "x"}, "gzip")], ("linux", arch))
                             for arch in ("arm64", "s390x")], as_index=True)
        self.registry.push(f"oci:{path}:latest", "team/index:1", "--all")
        self.assertIn("only for: linux/arm64, linux/s390x",
                      self.refused(f"{self.proxy.host}/team/index:1"))

    def test_a_digest_is_pulled_and_decides_over_a_tag(self):
        name = self.push_busybox()
        other = self.push_layers("team/box:2", [({"bin/sh": busybox()}, "gzip")])
        self.pull(name)
        digest = self.ctr("images", "list").splitlines()[1].split()[2]
        for reference in (f"{self.proxy.host}/team/box@{digest}", f"{other}@{digest}"):
            with self.subTest(reference=reference):
                self.assertEqual(self.pull(reference), reference)
                self.assert_image_works(reference)

    def test_it_can_be_given_a_name(self):
        name = self.push_busybox()
        self.assertEqual(self.pull("--name", "mybox", name), "docker.io/library/mybox:latest")
        self.assert_image_works("docker.io/library/mybox:latest")

    def test_a_tag_moves_with_the_registry(self):
        name = self.push_layers("team/moving:1", [({"bin/sh": busybox(), "v": "1\n"}, "gzip")])
        self.pull(name)
        self.assert_image_works(name, "read v </v; echo $v", "1\n")
        self.registry.push(self.layout("other", [({"bin/sh": busybox(), "v": "2\n"}, "gzip")]),
                           "team/moving:1")
        self.assertEqual(self.pull("--pull", "if-not-present", name), name)
        self.assert_image_works(name, "read v </v; echo $v", "1\n")
        self.pull(name)
        self.assert_image_works(name, "read v </v; echo $v", "2\n")

    def test_policies_of_the_command(self):
        name = self.push_busybox()
        self.assertIn("is not in containerd", self.refused("--pull", "never", name))
        self.assertEqual(self.proxy.requests, [])
        self.pull("--pull", "if-not-present", name)
        self.proxy.requests.clear()
        self.pull("--pull", "if-not-present", name)
        self.pull("--pull", "never", name)
        self.assertEqual(self.proxy.requests, [])

    def test_what_is_not_there_is_named(self):
        self.push_busybox()
        message = self.refused(f"{self.proxy.host}/team/box:absent")
        self.assertIn("there is no team/box with the tag 'absent' (404)", message)
        self.assertIn(f"http://{self.proxy.host}", message)
        self.assertIn("there is no team/none with the tag 'latest' (404)",
                      self.refused(f"{self.proxy.host}/team/none"))

    def test_a_registry_that_is_not_there_is_named(self):
        self.registry.stop()
        message = self.refused(f"{self.registry.host}/team/box:1")
        self.assertIn(f"http://{self.registry.host}/v2", message)
        self.assertIn("Failed to connect", message)

    def test_a_proxy_is_not_asked_for_what_is_on_this_machine(self):
        self.pull(self.push_busybox(), env={"http_proxy": "http://127.0.0.1:1"})

    def test_progress_is_plain_lines_and_the_name_alone_is_output(self):
        name = self.push_busybox()
        process = self.executor("pull", name)
        self.assertEqual(process.stdout, name + "\n")
        self.assertEqual(process.stderr, f"pulling {name}\nunpacking {name}\n")
        self.assertEqual(self.executor("pull", "-q", name).stderr, "")

    def test_two_pulls_at_once_do_not_collide(self):
        name = self.push_busybox()
        processes = [subprocess.Popen(
            self.executor_command("pull", name), env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
        for process in processes:
            _, stderr = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, stderr)
        self.assert_image_works(name)

    def test_wrong_options_are_refused(self):
        for options in (("--pull", "sometimes"), ("--creds", "nobody"),
                        ("--max-concurrent-downloads", "0"),
                        ("--max-concurrent-downloads", "17")):
            with self.subTest(options=options):
                self.assertIn(options[0], self.refused(*options, IMAGE))


class Policies(PullTest):
    """When a step's image is pulled."""

    def test_an_image_that_is_not_there_is_pulled_and_then_stays(self):
        name = self.push_busybox()
        step = {"image": name, "run": "echo works"}
        self.assertEqual(self.succeed(step)["unknown.stdout"], "works\n")
        self.assert_image_works(name)
        self.proxy.requests.clear()
        self.succeed(step)
        self.assertEqual(self.proxy.requests, [])

    def test_always_takes_what_the_registry_has_now(self):
        name = self.push_layers("team/moving:1", [({"bin/sh": busybox(), "v": "1\n"}, "gzip")])
        step = {"image": name, "run": "read v </v; echo $v"}
        self.assertEqual(self.succeed(step)["unknown.stdout"], "1\n")
        self.registry.push(self.layout("other", [({"bin/sh": busybox(), "v": "2\n"}, "gzip")]),
                           "team/moving:1")
        self.assertEqual(self.succeed(step)["unknown.stdout"], "1\n")
        self.assertEqual(self.succeed({**step, "pull": "always"})["unknown.stdout"], "2\n")

    def test_always_fails_when_the_image_cannot_be_pulled(self):
        name = self.push_busybox()
        self.pull(name)
        self.registry.stop()
        self.proxy.close()
        outcome = self.run_step({"image": name, "pull": "always", "run": "true"})
        self.assertEqual(outcome.status, 125)
        self.assertIs(outcome.result["error"]["retryable"], True)
        self.assertIn("Failed to connect", outcome.result["error"]["message"])

    def test_an_image_that_lacks_a_layer_is_pulled_again(self):
        name = self.push_busybox()
        self.pull(name)
        step = {"image": name, "run": "echo works"}
        for snapshot in self.ctr("snapshots", "list").splitlines()[1:]:
            self.ctr("snapshots", "remove", snapshot.split()[0])
        (layer,) = [line.split()[0] for line in self.ctr("content", "list").splitlines()[1:]
                    if "containerd.io/uncompressed" in line and self.proxy.host in line]
        self.ctr("content", "delete", layer)
        outcome = self.run_step({**step, "pull": "never"})
        self.assertEqual(outcome.status, 125)
        self.assertIn("not found", outcome.result["error"]["message"])
        outcome = self.run_step(step)
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertIn("it is not whole, and pulled again", outcome.stderr)

    def test_never_asks_no_registry(self):
        name = self.push_busybox()
        outcome = self.run_step({"image": name, "pull": "never", "run": "true"})
        self.assertEqual(outcome.status, 125)
        self.assertIn("is not in containerd", outcome.result["error"]["message"])
        self.assertEqual(self.proxy.requests, [])

    def test_what_the_registry_answered_is_the_steps_error(self):
        outcome = self.run_step({"name": "one", "type": "containerd", "config": {
            "image": f"{self.proxy.host}/team/none:1", "run": "true"}})
        error = outcome.result["error"]
        self.assertEqual(error["message"].split(":")[0], "step 'one'")
        self.assertIn("there is no team/none with the tag '1' (404)", error["message"])
        self.assertEqual((error["kind"], error["retryable"]), ("input", False))
        self.assertNotIn("bring it in", error["message"])

    def test_a_pull_that_is_stopped_leaves_nothing(self):
        name = self.push_busybox()
        reached = threading.Event()

        def hang(handler):
            if "/blobs/" in handler.path:
                reached.set()
                time.sleep(20)

        self.proxy.fault = hang
        process = self.start_step({"image": name, "run": "true"})
        self.assertTrue(reached.wait(20))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.communicate(timeout=20)
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(process.returncode, 143)
        self.assertEqual(self.ctr("images", "list", "--quiet"), "")


class BasicAuth(PullTest):
    """A registry that wants a user's name and password."""

    def setUp(self):
        os.makedirs(self.htpasswd_folder())
        htpasswd = os.path.join(self.htpasswd_folder(), "htpasswd")
        subprocess.run(["htpasswd", "-Bbc", htpasswd, "ann", "pass:word"], check=True,
                       stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.registry_options = {"auth": {"htpasswd": {"realm": "test", "path": htpasswd}}}
        super().setUp()
        self.registry.push(f"oci:{self.session.image_dir}:latest", "team/box:1",
                           creds="ann:pass:word")
        self.name = f"{self.registry.host}/team/box:1"

    def htpasswd_folder(self):
        return os.path.join(self.session.scratch, "htpasswd-" + self.id())

    def test_without_credentials_it_says_what_to_do(self):
        message = self.refused(self.name)
        self.assertIn(f"team/box needs credentials (registry_auth of the step, --creds of pull, or "
                      f"`docker login {self.registry.host}`)", message)

    def test_credentials_are_taken_from_the_command_line(self):
        self.pull("--creds", "ann:pass:word", self.name)
        self.assert_image_works(self.name)

    def test_a_step_brings_its_own(self):
        data = self.succeed({"image": self.name, "run": "echo works", "registry_auth": {
            self.registry.host: {"username": "ann", "password": "pass:word"}}})
        self.assertEqual(data["unknown.stdout"], "works\n")

    def docker_config(self, config):
        return self.write(".docker/config.json", json.dumps(config))

    def test_what_docker_login_has_kept_is_used(self):
        pair = base64.b64encode(b"ann:pass:word").decode()
        self.docker_config({"auths": {self.registry.host: {"auth": pair}}})
        self.pull(self.name)
        self.assert_image_works(self.name)

    def test_docker_config_says_where_that_is(self):
        self.write("elsewhere/config.json", json.dumps({"auths": {
            f"https://{self.registry.host}/v1/": {"username": "ann", "password": "pass:word"}}}))
        self.pull(self.name, env={"DOCKER_CONFIG": self.path("elsewhere")})

    def helper(self, script):
        self.write("bin/docker-credential-test", "#!/bin/sh\n" + script, 0o755)
        self.docker_config({"credHelpers": {self.registry.host: "test"}})
        return {"PATH": self.path("bin") + ":" + os.environ["PATH"]}

    def test_a_credential_helper_is_asked(self):
        environment = self.helper(
            f'test "$1" = get && read -r server || test "$server" = {self.registry.host} && '
            'echo "{\\"Username\\":\\"ann\\",\\"Secret\\":\\"pass:word\\"}"\n')
        self.pull(self.name, env=environment)
        self.assert_image_works(self.name)

    def test_a_credential_helper_may_know_nothing(self):
        environment = self.helper("echo credentials not found in native keychain; exit 1\n")
        self.assertIn("team/box needs credentials", self.refused(self.name, env=environment))

    def test_a_credential_helper_that_fails_is_named(self):
        environment = self.helper("echo the keychain is locked; exit 1\n")
        self.assertIn("docker-credential-test: it failed: the keychain is locked",
                      self.refused(self.name, env=environment))
        environment["PATH"] = "/usr/bin:/bin:/usr/sbin:/sbin"
        self.assertIn("docker-credential-test: it can't be started",
                      self.refused(self.name, env=environment))

    def test_a_broken_docker_config_is_named(self):
        path = self.write(".docker/config.json", "{")
        self.assertIn(path, self.refused(self.name))

    def test_wrong_credentials_are_told(self):
        message = self.refused("-u", "ann:wrong", self.name)
        self.assertIn("the credentials are refused (401)", message)
        self.assertNotIn("wrong", message)


class TokenAuth(PullTest):
    """A registry whose tokens come from another server."""

    user = None
    refresh_token = None

    def setUp(self):
        self.tokens = None
        super().setUp()

    def start_registry(self, name, **options):
        self.tokens = TokenServer(self.path("tokens"))
        self.addCleanup(self.tokens.close)
        registry = super().start_registry(name, auth=self.tokens.auth, **options)
        registry.push(f"oci:{self.session.image_dir}:latest", "team/box:1")
        self.tokens.asked.clear()
        self.tokens.user = self.user
        self.tokens.refresh_token = self.refresh_token
        return registry

    def name_at_registry(self):
        return f"{self.registry.host}/team/box:1"


class AnonymousToken(TokenAuth):
    def test_a_token_is_fetched_once_without_credentials(self):
        name = self.name_at_registry()
        self.pull(name)
        self.assert_image_works(name)
        self.assertEqual(len(self.tokens.asked), 1)
        _, path, headers, _ = self.tokens.asked[0]
        self.assertNotIn("Authorization", headers)
        fields = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        self.assertEqual(fields["service"], ["test-registry"])
        self.assertEqual(fields["scope"], ["repository:team/box:pull"])

    def test_a_token_that_runs_out_is_renewed(self):
        """The proxy forgets the first token after the manifest."""
        first = []

        def forget(handler):
            token = handler.headers.get("Authorization")
            if token and "/manifests/" in handler.path:
                first.append(token)
            if token in first and "/blobs/" in handler.path:
                return handler.answer(401, {
                    "WWW-Authenticate": f'Bearer realm="{self.tokens.url}",service="test-registry",'
                                        'scope="repository:team/box:pull"'})
            return False

        original = self.tokens.token
        self.tokens.token = lambda access: (time.sleep(1.1), original(access))[1]
        self.proxy.fault = forget
        self.pull(f"{self.proxy.host}/team/box:1")
        self.assertEqual(len(self.tokens.asked), 2)

    def test_a_token_server_that_is_broken_is_named(self):
        self.tokens.answer = lambda _: (200, {"token": "two words"})
        message = self.refused(self.name_at_registry())
        self.assertIn(f"token server {self.tokens.url}: its answer holds no usable token", message)


class TokenForUser(TokenAuth):
    user = "ann:pass:word"

    def test_the_token_server_gets_the_credentials_and_the_registry_does_not(self):
        name = f"{self.proxy.host}/team/box:1"
        self.pull("--creds", self.user, name)
        self.assert_image_works(name)
        for _, _, headers in self.proxy.requests:
            self.assertNotIn("Basic", headers.get("Authorization", ""))

    def test_without_and_with_wrong_credentials(self):
        name = self.name_at_registry()
        self.assertIn("no token without credentials (401)", self.refused(name))
        message = self.refused("--creds", "ann:wrong", name)
        self.assertIn("the credentials are refused (401)", message)


class IdentityToken(TokenAuth):
    user = "nobody:nothing"
    refresh_token = "refresh&me"

    def test_it_is_exchanged_for_a_token(self):
        name = self.name_at_registry()
        self.write(".docker/config.json", json.dumps({"auths": {
            self.registry.host: {"identitytoken": self.refresh_token}}}))
        self.pull(name)
        self.assert_image_works(name)
        self.assertEqual(self.tokens.asked[0][0], "POST")


class TlsTest(PullTest):
    """A registry behind TLS, with a certificate of a CA of its own."""

    def start_registry(self, name, **options):
        make_certificates(self.path("certificates"))
        return super().start_registry(name, tls=self.path("certificates"), **options)

    def setUp(self):
        super().setUp()
        self.registry.push(f"oci:{self.session.image_dir}:latest", "team/box:1")
        self.name = f"{self.registry.host}/team/box:1"

    def hosts(self, name, text):
        self.write(f"hosts/{name}/hosts.toml", text)
        return ("--hosts-dir", self.path("hosts"))


class Tls(TlsTest):
    def test_a_ca_of_hosts_toml_is_trusted(self):
        options = self.hosts(self.registry.host, f"""
            server = "https://{self.registry.host}"
            ca = "{self.path("certificates", "ca.crt")}"
        """)
        self.pull(*options, self.name)
        self.assert_image_works(self.name)

    def test_a_ca_that_nobody_trusts_is_refused(self):
        message = self.refused(self.name)
        self.assertIn(f"https://{self.registry.host}", message)
        self.assertIn("certificate", message)

    def test_verification_can_be_left_out(self):
        options = self.hosts(self.registry.host, "skip_verify = true")
        self.pull(*options, self.name)

    def test_a_mirror_is_asked_first_and_told_the_registrys_name(self):
        options = self.hosts("registry.invalid", f"""
            server = "https://registry.invalid"
            [host."https://localhost:{self.registry.port}"]
            ca = "{self.path("certificates", "ca.crt")}"
        """)
        self.pull(*options, "registry.invalid/team/box:1")
        self.assert_image_works("registry.invalid/team/box:1")

    def test_the_directory_of_all_hosts_counts_for_steps_too(self):
        options = self.hosts("_default", f"""
            [host."https://{self.registry.host}"]
            ca = ["{self.path("certificates", "ca.crt")}"]
        """)
        data = self.succeed({"image": "registry.invalid/team/box:1", "run": "echo works"},
                            options=options)
        self.assertEqual(data["unknown.stdout"], "works\n")

    def test_a_wrong_hosts_toml_is_named(self):
        options = self.hosts("registry.invalid", "server = \"ftp://x\"")
        self.assertIn("hosts/registry.invalid/hosts.toml: 'ftp://x': expected http://",
                      self.refused(*options, "registry.invalid/team/box:1"))


class ClientCertificate(TlsTest):
    """A registry that wants one of its clients, too."""

    registry_options = {"wants_client": True}

    def client(self):
        return f"""
            ca = "{self.path("certificates", "ca.crt")}"
            client = [["{self.path("certificates", "server.crt")}",
                       "{self.path("certificates", "server.key")}"]]
        """

    def test_one_of_hosts_toml_is_shown(self):
        self.pull(*self.hosts(self.registry.host, self.client()), self.name)

    def test_without_one_it_is_refused(self):
        self.assertIn(f"https://{self.registry.host}/v2: ", self.refused(*self.hosts(
            self.registry.host, self.client().split("client")[0]), self.name))


class Mirrors(PullTest):
    """Mirrors without TLS."""

    def hosts(self, *mirrors, server):
        text = f'server = "http://{server}"\n'
        for host, extra in mirrors:
            text += f'[host."http://{host}"]\n{extra}\n'
        self.write("hosts/registry.invalid/hosts.toml", text)
        return ("--hosts-dir", self.path("hosts"))

    def test_a_mirror_that_lacks_it_or_is_down_is_passed_over(self):
        self.push_busybox()
        empty = self.start_proxy(self.registry, lambda handler: handler.answer(404))
        closed = self.start_proxy(self.registry)
        closed.close()
        options = self.hosts((closed.host, ""), (empty.host, ""), server=self.proxy.host)
        self.pull(*options, "registry.invalid/team/box:1")
        self.assert_image_works("registry.invalid/team/box:1")
        self.assertEqual(len(empty.requests), 3)
        self.assertIn("ns=registry.invalid", empty.requests[0][1])
        self.assertNotIn("ns=", self.proxy.requests[0][1])

    def test_capabilities_are_heeded(self):
        self.push_busybox()
        pulls = self.start_proxy(self.registry)
        options = self.hosts((pulls.host, 'capabilities = ["pull"]'), server=self.proxy.host)
        self.pull(*options, "registry.invalid/team/box:1")
        self.assertEqual(pulls.paths("/manifests/"), [])
        self.assertEqual(len(pulls.paths("/blobs/")), 2)
        self.assertEqual(self.proxy.paths("/blobs/"), [])

    def test_credentials_are_the_hosts_own(self):
        self.push_busybox()
        wants = self.start_proxy(self.registry, lambda handler: handler.answer(
            401, {"WWW-Authenticate": 'Basic realm="x"'}))
        options = self.hosts((wants.host, ""), server=self.proxy.host)
        self.pull(*options, "--creds", "ann:secret", "registry.invalid/team/box:1")
        for _, _, headers in wants.requests:
            self.assertNotIn("Authorization", headers)

    def test_when_all_fail_each_is_named(self):
        empty = self.start_proxy(self.registry, lambda handler: handler.answer(404))
        options = self.hosts((empty.host, ""), server=self.proxy.host)
        message = self.refused(*options, "registry.invalid/team/none:1")
        for host in (empty.host, self.proxy.host):
            self.assertIn(f"http://{host}/v2: there is no team/none with the tag '1' (404)", message)
