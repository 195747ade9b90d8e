# SPDX-License-Identifier: MIT
"""A daemon behind TLS, and ends of TLS that are wrong. containerd's own listener has CRI alone, so
that a step needs something in front of its socket."""

import os
import socket
import ssl
import threading

from forwards import TcpForward
from harness import IMAGE, IntegrationTest, Session
from registry import free_port, make_certificates

STEP = {"image": IMAGE, "run": "echo here"}


class TlsSession(Session):
    """A daemon that also listens on TCP, and wants a certificate of its CA from who connects."""

    def _start_daemon(self):
        self.certificates = os.path.join(self.scratch, "certificates")
        make_certificates(self.certificates)
        self.port = free_port()
        os.environ["CONTAINERD_GRPC"] = "\n".join((
            f'tcp_address = "127.0.0.1:{self.port}"',
            f'tcp_tls_ca = "{self.certificates}/ca.crt"',
            f'tcp_tls_cert = "{self.certificates}/server.crt"',
            f'tcp_tls_key = "{self.certificates}/server.key"'))
        try:
            super()._start_daemon()
        finally:
            del os.environ["CONTAINERD_GRPC"]


class TlsForward(TcpForward):
    """A port that ends TLS in front of the daemon's socket."""

    def __init__(self, target, certificates, protocols=("h2",), wants_client=False):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(os.path.join(certificates, "server.crt"),
                                      os.path.join(certificates, "server.key"))
        if protocols:
            self._context.set_alpn_protocols(protocols)
        if wants_client:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(os.path.join(certificates, "ca.crt"))
        super().__init__(target)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            client = self._context.wrap_socket(client, server_side=True)
        except (OSError, ssl.SSLError):
            client.close()
            return
        daemon = socket.socket(socket.AF_UNIX)
        daemon.connect(self.target)
        threading.Thread(target=self._copy, args=(daemon, client), daemon=True).start()
        self._copy(client, daemon)


class TlsTest(IntegrationTest):
    def setUp(self):
        super().setUp()
        shared = self.path("shared")
        os.mkdir(shared)
        self.environment["WFE_IO_DIR"] = shared

    def certificates(self, name, **options):
        folder = self.path(name)
        make_certificates(folder, **options)
        return folder

    def try_at(self, address, *tls, step=None):
        return self.run_step(step or STEP, global_options=["--address", address, *tls])

    def assert_works(self, outcome):
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.result["output_data"]["unknown.stdout"], "here\n")

    def assert_told(self, outcome, words):
        self.assertEqual(outcome.status, 125, outcome.stderr)
        error = outcome.result["error"]
        self.assertIn(words, error["message"])
        self.assertIn("failed to connect to containerd at", error["message"])
        self.assertIs(error["retryable"], False)


class MutualTls(TlsTest):
    def setUp(self):
        super().setUp()
        folder = self.certificates("ours")
        self.ca = os.path.join(folder, "ca.crt")
        self.cert = os.path.join(folder, "server.crt")
        self.key = os.path.join(folder, "server.key")
        self.tls = ("--tls-ca", self.ca, "--tls-cert", self.cert, "--tls-key", self.key)
        self.address = f"https://127.0.0.1:{self.listen(folder)}"

    def listen(self, certificates):
        forward = TlsForward(self.session.ctr_address(), certificates, wants_client=True)
        self.addCleanup(forward.close)
        return forward.port

    def test_options_name_the_files(self):
        self.assert_works(self.try_at(self.address, *self.tls))

    def test_a_step_names_the_files(self):
        tls = {"ca": self.ca, "cert": self.cert, "key": self.key}
        by_name = self.address.replace("127.0.0.1", "localhost")
        for address in (self.address, by_name):
            with self.subTest(address=address):
                self.assert_works(self.run_step(
                    {**STEP, "tls": tls, "containerd_addr": address},
                    env={"WFE_CONTAINERD_ADDR": ""}))

    def test_other_commands_use_it_too(self):
        report = self.executor("check", global_options=["--address", self.address, *self.tls])
        self.assertEqual(report.returncode, 0, report.stdout)

    def test_files_that_are_wrong_are_named(self):
        other = self.certificates("other")
        other_key = os.path.join(other, "server.key")
        nothing = self.write("nothing.pem", "nothing\n")
        for tls, words in (
                (("--tls-ca", self.path("none.pem")), "none.pem"),
                (("--tls-ca", nothing), "nothing.pem: found no PEM certificate"),
                (("--tls-cert", self.cert), "found only one"),
                (("--tls-cert", self.cert, "--tls-key", nothing), "found no PEM private key"),
                (("--tls-cert", self.cert, "--tls-key", other_key), "it is not the key of")):
            with self.subTest(words=words):
                outcome = self.try_at(self.address, *tls)
                self.assertEqual(outcome.status, 125, outcome.stderr)
                self.assertIn(words, outcome.result["error"]["message"])


class ContainerdsListener(TlsTest):
    @classmethod
    def setUpClass(cls):
        cls.session = TlsSession()
        cls.addClassCleanup(cls.session.close)

    def setUp(self):
        super().setUp()
        folder = self.session.certificates
        self.ca = os.path.join(folder, "ca.crt")
        self.cert = os.path.join(folder, "server.crt")
        self.key = os.path.join(folder, "server.key")
        self.address = f"https://127.0.0.1:{self.session.port}"

    def test_without_a_certificate_it_says_that_one_is_wanted(self):
        self.assert_told(self.try_at(self.address, "--tls-ca", self.ca),
                         "wants a certificate of ours")

    def test_a_certificate_of_another_authority_is_refused(self):
        other = self.certificates("other")
        self.assert_told(
            self.try_at(self.address, "--tls-ca", self.ca,
                        "--tls-cert", os.path.join(other, "server.crt"),
                        "--tls-key", os.path.join(other, "server.key")),
            "refuses our certificate")

    def test_a_plain_connection_is_told_that_tls_is_spoken(self):
        self.assert_told(self.try_at(self.address.replace("https", "tcp")),
                         "it speaks TLS: https://")

    def test_it_has_not_got_the_api(self):
        outcome = self.try_at(self.address, "--tls-ca", self.ca, "--tls-cert", self.cert,
                              "--tls-key", self.key)
        self.assertEqual(outcome.status, 125)
        self.assertIn("has not got containerd's API", outcome.result["error"]["message"])


class ServersThatAreWrong(TlsTest):
    def forward(self, certificates):
        forward = TlsForward(self.session.ctr_address(), certificates)
        self.addCleanup(forward.close)
        return forward.port

    def try_forward(self, certificates, host="127.0.0.1"):
        return self.try_at(f"https://{host}:{self.forward(certificates)}",
                           "--tls-ca", os.path.join(certificates, "ca.crt"))

    def test_a_right_one_works(self):
        certificates = self.certificates("right")
        self.assert_works(self.try_forward(certificates))
        self.assert_works(self.try_forward(certificates, "localhost"))

    def test_another_authority(self):
        other = self.certificates("other")
        port = self.forward(self.certificates("right"))
        for tls in ((), ("--tls-ca", os.path.join(other, "ca.crt"))):
            with self.subTest(tls=tls):
                self.assert_told(self.try_at(f"https://127.0.0.1:{port}", *tls),
                                 "issued by none of the trusted authorities")

    def test_another_name(self):
        certificates = self.certificates("named", names=("DNS:elsewhere.example",))
        self.assert_told(self.try_forward(certificates), "is not for '127.0.0.1'")
        self.assert_told(self.try_forward(certificates, "localhost"), "is not for 'localhost'")

    def test_an_expired_certificate(self):
        self.assert_told(self.try_forward(self.certificates("old", days=-1)), "has expired")

    def test_one_that_knows_no_http2(self):
        certificates = self.certificates("right")
        forward = TlsForward(self.session.ctr_address(), certificates, protocols=())
        self.addCleanup(forward.close)
        self.assert_told(self.try_at(f"https://127.0.0.1:{forward.port}", "--tls-ca",
                                     os.path.join(certificates, "ca.crt")), "ALPN h2")

    def test_one_that_speaks_no_tls(self):
        plain = TcpForward(self.session.ctr_address())
        self.addCleanup(plain.close)
        self.assert_told(self.try_at(f"https://127.0.0.1:{plain.port}"), "does not speak TLS")

    def test_nobody_there_may_pass(self):
        outcome = self.try_at(f"https://127.0.0.1:{free_port()}")
        self.assertEqual(outcome.status, 125)
        self.assertIs(outcome.result["error"]["retryable"], True)
