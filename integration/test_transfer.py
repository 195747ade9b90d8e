# SPDX-License-Identifier: MIT
"""Images from a registry by the daemon's own Transfer service, where it has one."""

import base64
import json
import os
import re
import signal
import subprocess
import threading
import time
import unittest

from harness import IMAGE, Session, does_not_apply
from registry import TokenServer, add_image, finish_layout, make_certificates, start_layout
from test_pull import PullTest, busybox


class TrustingSession(Session):
    """Its daemon trusts a CA of the tests."""

    def _start_daemon(self):
        self.certificates = os.path.join(self.scratch, "certificates")
        make_certificates(self.certificates)
        self.daemon_environment = {
            "SSL_CERT_FILE": os.path.join(self.certificates, "ca.crt")}
        super()._start_daemon()


class TransferTest(PullTest):
    """The daemon does it, or the test fails. That of 1.7 speaks TLS alone, on this machine too."""

    transfer = "always"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not cls.session.has_plugin("io.containerd.transfer.v1"):
            raise unittest.SkipTest("this containerd has no Transfer service")
        cls.tls = cls.session.daemon_version().startswith("1.")
        if cls.tls:
            cls.session = TrustingSession()
            cls.addClassCleanup(cls.session.close)

    def start_registry(self, name, **options):
        if self.tls:
            options["tls"] = self.session.certificates
        return super().start_registry(name, **options)

    def push_busybox(self, name="team/box:1", *options):
        return self.registry.push(f"oci:{self.session.image_dir}:latest", name, *options)

    def push_layers(self, name, layers, *options):
        layout = self.layout("layout-" + re.sub("[/:]", "-", name), layers)
        return self.registry.push(layout, name, *options)

    def push_index(self, architectures):
        path = self.path("index")
        start_layout(path)
        finish_layout(path, [
            add_image(path, [({"bin/sh": busybox(), "etc/arch": arch + "\n"}, "gzip")],
                      ("linux", arch)) for arch in architectures], as_index=True)
        self.registry.push(f"oci:{path}:latest", "team/index:1", "--all")
        return f"{self.registry.host}/team/index:1"

    def assert_same_refusal(self, *arguments):
        """What our own client says, in its words, is said when the daemon could pull as well."""
        if self.tls:
            raise does_not_apply("our own client does not trust the registry")
        said = {}
        for use in ("never", "auto"):
            message = self.refused(*arguments, env={"WFE_TRANSFER": use})
            said[use] = re.sub(r"after \d+ ms", "after some time", message)
        self.assertEqual(said["auto"], said["never"])
        return said["auto"]


class Images(TransferTest):
    def test_an_image_comes_in_works_and_lasts(self):
        name = self.push_busybox()
        self.assertEqual(self.pull(name), name)
        self.ctr("leases", "create", "--id", "nudge", "--expires", "1h")
        self.ctr("leases", "delete", "--sync", "nudge")
        self.assert_image_works(name)

    def test_a_steps_image_comes_in(self):
        name = self.push_busybox()
        step = {"image": name, "run": "echo works"}
        self.assertEqual(self.succeed(step)["unknown.stdout"], "works\n")
        self.assert_image_works(name)

    def test_an_image_of_dockers_formats_works(self):
        name = self.push_busybox("team/box:docker", "--format", "v2s2")
        self.pull(name)
        self.assert_image_works(name)

    def test_layers_of_every_kind_are_applied_in_order(self):
        name = self.push_layers("team/layers:1", [
            ({"bin": None, "bin/sh": busybox(), "etc": None, "etc/gone": "x", "etc/kept": "old"},
             "gzip"),
            ({"etc/.wh.gone": "", "etc/kept": "new"}, None),
            ({"above": "x"}, "zstd"),
        ])
        self.pull(name)
        self.assert_image_works(
            name, "test ! -e /etc/gone && test -e /above && read kept </etc/kept; echo $kept",
            "new\n")

    def test_of_an_index_only_the_daemons_platform_comes_in(self):
        name = self.push_index(["arm64", "amd64", "s390x"])
        self.pull(name)
        self.assertEqual(len(self.ctr("content", "list", "--quiet").split()), 4)
        self.assert_image_works(name, "read arch </etc/arch; echo $arch", "amd64\n")

    def test_a_digest_is_pulled_and_decides_over_a_tag(self):
        name = self.push_busybox()
        other = self.push_layers("team/box:2", [({"bin/sh": busybox()}, "gzip")])
        self.pull(name)
        digest = self.ctr("images", "list").splitlines()[1].split()[2]
        for reference in (f"{self.registry.host}/team/box@{digest}", f"{other}@{digest}"):
            with self.subTest(reference=reference):
                self.assertEqual(self.pull(reference), reference)
                self.assert_image_works(reference)

    def test_it_can_be_given_a_name(self):
        name = self.push_busybox()
        self.assertEqual(self.pull("--name", "mybox", name), "docker.io/library/mybox:latest")
        self.assert_image_works("docker.io/library/mybox:latest")

    def test_a_snapshotter_that_transfer_does_not_unpack_into_is_unpacked_into(self):
        name = self.push_busybox()
        options = {"global_options": ("--snapshotter", "native")}
        self.pull(name, **options)
        chains = self.ctr("snapshots", "--snapshotter", "native", "list").splitlines()[1:]
        self.assertEqual(len(chains), 1)
        data = self.succeed({"image": name, "pull": "never", "run": "echo works"}, **options)
        self.assertEqual(data["unknown.stdout"], "works\n")

    def test_a_tag_moves_with_the_registry(self):
        name = self.push_layers("team/moving:1", [({"bin/sh": busybox(), "v": "1\n"}, "gzip")])
        self.pull(name)
        self.registry.push(self.layout("other", [({"bin/sh": busybox(), "v": "2\n"}, "gzip")]),
                           "team/moving:1")
        self.pull(name)
        self.assert_image_works(name, "read v </v; echo $v", "2\n")

    def test_labels_of_the_image_stay(self):
        name = self.push_busybox()
        self.pull(name)
        self.ctr("images", "label", name, "org.example.kept=yes")
        self.pull(name)
        self.assertIn("org.example.kept=yes", self.ctr("images", "list"))

    def test_an_image_for_another_platform_leaves_the_name_as_it_was(self):
        name = self.push_layers("team/moving:1", [({"bin/sh": busybox(), "v": "1\n"}, "gzip")])
        self.pull(name)
        path = self.path("other")
        start_layout(path)
        finish_layout(path, [add_image(path, [({"bin/sh": busybox()}, "gzip")],
                                       ("linux", "s390x"))])
        self.registry.push(f"oci:{path}:latest", "team/moving:1")
        for use in ("always", "auto"):
            process = self.executor("pull", "-q", name, env={"WFE_TRANSFER": use})
            self.assertEqual(process.returncode, 125, process.stderr)
            self.assert_image_works(name, "read v </v; echo $v", "1\n")

    def test_pulls_at_once_do_not_collide(self):
        name = self.push_busybox()
        processes = [subprocess.Popen(
            self.executor_command("pull", name), env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
        for process in processes:
            _, stderr = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, stderr)
        self.assert_image_works(name)

    def test_the_stages_are_shown(self):
        name = self.push_busybox()
        self.assertTrue(self.executor("pull", name).stderr.startswith(f"pulling {name}\n"))
        self.assertEqual(self.executor("pull", "-q", name).stderr, "")

    def test_refusals_are_told_in_our_own_words(self):
        self.push_busybox()
        host = self.registry.host
        self.assertIn("there is no team/box with the tag 'absent' (404)",
                      self.assert_same_refusal(f"{host}/team/box:absent"))
        self.assertIn("there is no team/none with the tag 'latest' (404)",
                      self.assert_same_refusal(f"{host}/team/none"))
        self.assertIn("only for: linux/arm64, linux/s390x",
                      self.assert_same_refusal(self.push_index(["arm64", "s390x"])))
        self.registry.stop()
        self.assertIn("Failed to connect", self.assert_same_refusal(f"{host}/team/box:1"))

    def test_what_the_daemon_was_told_counts_where_our_own_client_learns_nothing(self):
        if not self.tls:
            raise does_not_apply("our own client reaches the registry")
        message = self.refused(f"{self.registry.host}/team/box:absent",
                               env={"WFE_TRANSFER": "auto"})
        self.assertIn("failed to resolve", message)
        self.assertIn("not found", message)

    def test_a_pull_that_is_stopped_leaves_nothing(self):
        if self.tls:
            raise does_not_apply("the proxy that hangs does not speak TLS")
        # What another namespace has got is not fetched again.
        self.push_layers("team/new:1", [({"bin/sh": busybox(), "new": self.namespace}, "gzip")])
        reached = threading.Event()

        def hang(handler):
            if "/blobs/" in handler.path:
                reached.set()
                time.sleep(20)

        self.proxy.fault = hang
        process = self.start_step({"image": f"{self.proxy.host}/team/new:1", "run": "true"})
        self.assertTrue(reached.wait(20))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.communicate(timeout=20)
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(process.returncode, 143)
        self.assertEqual(self.ctr("images", "list", "--quiet"), "")


class Obstacles(TransferTest):
    """What our own client does, with every daemon."""

    def assert_own(self, reason, *arguments, **options):
        self.assertIn(reason, self.refused(*arguments, **options))
        options["env"] = {**options.get("env", {}), "WFE_TRANSFER": "auto"}
        return self.executor("pull", "-q", *arguments, **options)

    def test_a_bound_of_downloads(self):
        process = self.assert_own("no bound of downloads", "--max-concurrent-downloads", "2",
                                  f"{self.registry.host}/team/none:1")
        self.assertIn("(404)" if not self.tls else "certificate", process.stderr)

    def test_a_hosts_toml(self):
        self.push_busybox()
        self.write("hosts/registry.invalid/hosts.toml", f'server = "http://{self.proxy.host}"\n')
        process = self.assert_own(
            "hosts.toml", "--hosts-dir", self.path("hosts"), "registry.invalid/team/box:1")
        if not self.tls:
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assert_image_works("registry.invalid/team/box:1")

    in_mounts_of_its_own = False

    def executor_command(self, *arguments, global_options=()):
        command = super().executor_command(*arguments, global_options=global_options)
        return ["unshare", "--mount", *command] if self.in_mounts_of_its_own else command

    def test_a_registry_of_this_machine_for_a_daemon_elsewhere(self):
        self.in_mounts_of_its_own = True
        name = self.push_busybox()
        process = self.assert_own("the registry is on this machine", name)
        if not self.tls:
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assert_image_works(name)

    def test_credentials_for_a_daemon_elsewhere(self):
        self.in_mounts_of_its_own = True
        self.assert_own("credentials stay on this machine", "--creds", "ann:secret",
                        "registry.invalid/team/box:1")

    def test_a_proxy_of_this_environment(self):
        self.assert_own("the proxy", "registry.invalid/team/box:1",
                        env={"https_proxy": "http://127.0.0.1:1"})

    def test_a_wrong_choice_is_refused(self):
        self.assertIn("expected auto, always or never",
                      self.refused(IMAGE, env={"WFE_TRANSFER": "sometimes"}))


class WithoutTransfer(PullTest):
    """A daemon that has none: our own client pulls, unless the user wants the other one."""

    transfer = "auto"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls.session.has_plugin("io.containerd.transfer.v1"):
            raise unittest.SkipTest("this containerd has the Transfer service")

    def test_our_own_client_pulls(self):
        name = self.push_busybox()
        self.assertIn("the daemon has no Transfer service",
                      self.refused(name, env={"WFE_TRANSFER": "always"}))
        self.assertEqual(self.proxy.requests, [])
        self.pull(name)
        self.assert_image_works(name)
        self.assertEqual(len(self.proxy.paths("/blobs/")), 2)


class BasicAuth(TransferTest):
    """A registry that wants a user's name and password."""

    def start_registry(self, name, **options):
        htpasswd = self.path("htpasswd")
        subprocess.run(["htpasswd", "-Bbc", htpasswd, "ann", "pass:word"], check=True,
                       stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        registry = super().start_registry(
            name, auth={"htpasswd": {"realm": "test", "path": htpasswd}}, **options)
        self.name = registry.push(f"oci:{self.session.image_dir}:latest", "team/box:1",
                                  creds="ann:pass:word")
        return registry

    def test_credentials_are_taken_from_the_command_line(self):
        self.pull("--creds", "ann:pass:word", self.name)
        self.assert_image_works(self.name)

    def test_a_step_brings_its_own(self):
        data = self.succeed({"image": self.name, "run": "echo works", "registry_auth": {
            self.registry.host: {"username": "ann", "password": "pass:word"}}})
        self.assertEqual(data["unknown.stdout"], "works\n")

    def test_what_docker_login_has_kept_is_used(self):
        pair = base64.b64encode(b"ann:pass:word").decode()
        self.write(".docker/config.json",
                   json.dumps({"auths": {self.registry.host: {"auth": pair}}}))
        self.pull(self.name)
        self.assert_image_works(self.name)

    def test_without_and_with_wrong_credentials(self):
        self.assertIn("team/box needs credentials", self.assert_same_refusal(self.name))
        self.assertIn("the credentials are refused (401)",
                      self.assert_same_refusal("-u", "ann:wrong", self.name))

    def test_a_broken_docker_config_is_named(self):
        path = self.write(".docker/config.json", "{")
        self.assertIn(path, self.assert_same_refusal(self.name))


class Tokens(TransferTest):
    """A registry whose tokens come from another server."""

    def start_registry(self, name, **options):
        self.tokens = TokenServer(self.path("tokens"))
        self.addCleanup(self.tokens.close)
        registry = super().start_registry(name, auth=self.tokens.auth, **options)
        self.name = registry.push(f"oci:{self.session.image_dir}:latest", "team/box:1")
        self.tokens.asked.clear()
        return registry

    def test_an_anonymous_token(self):
        self.pull(self.name)
        self.assert_image_works(self.name)
        self.assertNotIn("Authorization", self.tokens.asked[0][2])

    def test_without_a_token_it_is_refused(self):
        self.tokens.user = "ann:pass:word"
        self.assertIn("no token without credentials (401)", self.assert_same_refusal(self.name))

    def test_a_token_for_a_user(self):
        self.tokens.user = "ann:pass:word"
        self.pull("--creds", self.tokens.user, self.name)
        self.assert_image_works(self.name)

    def test_an_identity_token_is_exchanged(self):
        self.tokens.user = "nobody:nothing"
        self.tokens.refresh_token = "refresh&me"
        self.write(".docker/config.json", json.dumps({"auths": {
            self.registry.host: {"identitytoken": self.tokens.refresh_token}}}))
        self.pull(self.name)
        self.assert_image_works(self.name)
        self.assertEqual(self.tokens.asked[0][0], "POST")
