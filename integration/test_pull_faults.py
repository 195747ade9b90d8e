# SPDX-License-Identifier: MIT
"""Registries and networks that fail: what is tried again, what is refused, and what is told."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

from registry import add_image, finish_layout, start_layout
from test_pull import PullTest, busybox

LARGE_BYTES = 3_000_000


def layers_of(registry, name):
    """Digests of an image's layers in the registry."""
    output = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false",
         f"docker://{registry.host}/{name.split('/', 1)[1]}"], check=True,
        stdout=subprocess.PIPE).stdout
    return [layer["digest"] for layer in json.loads(output)["layers"]]


class Faults(PullTest):
    def setUp(self):
        super().setUp()
        self.seen = {}

    def push_large(self, name="team/large:1"):
        """An image with a layer that does not compress."""
        return self.push_layers(name, [
            ({"bin/sh": busybox()}, "gzip"), ({"data": os.urandom(LARGE_BYTES)}, "gzip")])

    def count(self, key):
        self.seen[key] = self.seen.get(key, 0) + 1
        return self.seen[key]

    def cut(self, handler, sent, body=None, status=None):
        """Sends the beginning of what the registry answers, and closes the connection."""
        real_status, headers, real_body = self.proxy.fetch(handler)
        body = real_body if body is None else body
        handler.send_response(status or real_status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:sent])
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    # Connections

    def test_a_blob_goes_on_where_it_broke_off(self):
        name = self.push_large()
        large = layers_of(self.registry, name)[1]
        ranges = []

        def fault(handler):
            if large not in handler.path:
                return False
            ranges.append(handler.headers.get("Range"))
            return len(ranges) <= 2 and self.cut(handler, 1_000_000)

        self.proxy.fault = fault
        self.pull(name)
        self.assert_image_works(name, "test -s /data && echo whole", "whole\n")
        self.assertEqual(ranges, [None, "bytes=1000000-", "bytes=2000000-"])

    def test_a_server_without_ranges_sends_all_again(self):
        name = self.push_large()
        large = layers_of(self.registry, name)[1]

        def fault(handler):
            if large not in handler.path:
                return False
            del handler.headers["Range"]
            return self.count("large") == 1 and self.cut(handler, 1_000_000)

        self.proxy.fault = fault
        self.pull(name)
        self.assertEqual(self.seen["large"], 2)
        self.assert_image_works(name, "test -s /data && echo whole", "whole\n")

    def test_a_wrong_range_is_refused(self):
        name = self.push_large()
        large = layers_of(self.registry, name)[1]

        def fault(handler):
            if large not in handler.path:
                return False
            if self.count("large") == 1:
                return self.cut(handler, 1_000_000)
            return handler.answer(206, {"Content-Range": "bytes 5-10/100"}, b"xxxxx")

        self.proxy.fault = fault
        message = self.refused(name)
        self.assertIn("the answer starts at byte 5, asked for was byte 1000000", message)

    def test_a_connection_that_breaks_each_time_is_given_up(self):
        name = self.push_large()
        large = layers_of(self.registry, name)[1]
        self.proxy.fault = lambda handler: (
            large in handler.path and self.count("large") and self.cut(handler, 0))
        message = self.refused(name)
        self.assertEqual(self.seen["large"], 6)
        self.assertIn(large, message)

    # Statuses

    def test_a_registry_that_is_out_of_order_twice_is_asked_a_third_time(self):
        name = self.push_busybox()
        self.proxy.fault = lambda handler: (
            self.count(handler.path) <= 2 and handler.answer(503))
        self.pull(name)
        self.assert_image_works(name)
        self.assertEqual(set(self.seen.values()), {3})

    def test_the_pause_that_a_busy_registry_asks_for_is_kept(self):
        name = self.push_busybox()
        times = []

        def fault(handler):
            if "/manifests/" not in handler.path:
                return False
            times.append(time.monotonic())
            return len(times) == 1 and handler.answer(429, {"Retry-After": "2"})

        self.proxy.fault = fault
        self.pull(name)
        self.assertGreaterEqual(times[1] - times[0], 1.9)

    def test_a_pause_that_is_too_long_is_told(self):
        name = self.push_busybox()
        self.proxy.fault = lambda handler: handler.answer(429, {"Retry-After": "3600"})
        self.assertIn("asked again in 3600 seconds (429)", self.refused(name))
        self.assertEqual(len(self.proxy.requests), 1)

    def test_what_the_registry_says_is_told(self):
        name = self.push_busybox()
        body = json.dumps({"errors": [{"code": "DENIED", "message": "your plan\nhas ended"}]})
        for status, expected in (
                (401, "neither Basic nor Bearer"),
                (403, "access to team/box is denied (403): your plan has ended: "),
                (404, "there is no team/box with the tag '1' (404): your plan has ended"),
                (418, "it answers with status 418: your plan has ended")):
            with self.subTest(status=status):
                self.proxy.fault = lambda handler, status=status: handler.answer(
                    status, body=body.encode())
                self.assertIn(expected, self.refused(name))

    def test_a_blob_that_is_missing_is_named(self):
        name = self.push_busybox()
        layer = layers_of(self.registry, name)[0]
        self.proxy.fault = lambda handler: layer in handler.path and handler.answer(404)
        self.assertIn(f"there is no {layer} in team/box (404)", self.refused(name))

    # Lies

    def test_a_blob_of_other_bytes_is_refused(self):
        name = self.push_busybox()
        layer = layers_of(self.registry, name)[0]

        def fault(handler):
            if layer not in handler.path:
                return False
            status, headers, body = self.proxy.fetch(handler)
            return handler.answer(status, headers, body[:-1] + bytes([body[-1] ^ 1]))

        self.proxy.fault = fault
        message = self.refused(name)
        self.assertIn(layer, message)
        self.assertIn("it has the digest sha256:", message)

    def test_a_blob_of_another_size_is_refused(self):
        name = self.push_busybox()
        layer = layers_of(self.registry, name)[0]
        for change, expected in ((lambda body: body + b"x", "it has more than the "),
                                 (lambda body: body[:-1], "not the ")):
            def fault(handler, change=change):
                if layer not in handler.path:
                    return False
                status, headers, body = self.proxy.fetch(handler)
                return handler.answer(status, headers, change(body))

            self.proxy.fault = fault
            message = self.refused(name)
            self.assertIn(layer, message)
            self.assertIn(expected, message)

    def test_a_manifest_of_another_digest_is_refused(self):
        name = self.push_busybox()

        def fault(handler):
            if "/manifests/" not in handler.path:
                return False
            status, headers, body = self.proxy.fetch(handler)
            return handler.answer(status, headers, body + b"\n")

        self.proxy.fault = fault
        self.assertIn("the manifest has the digest sha256:", self.refused(name))

    def test_what_is_no_manifest_is_refused(self):
        name = self.push_busybox()
        for headers, body, expected in (
                ({"Content-Type": "text/html"}, b"<html>", "is no manifest but text/html"),
                ({"Content-Type": "application/json"}, b"{}", "expected an image manifest"),
                ({}, b"", "the manifest is empty"),
                ({"Content-Type": "application/vnd.oci.image.index.v1+json"},
                 b'{"mediaType":"application/vnd.oci.image.manifest.v1+json"}', "says that it is"),
                ({}, b" " * (8 * 1024 * 1024 + 1), "larger than the 8388608 bytes")):
            with self.subTest(expected=expected):
                self.proxy.fault = lambda handler, headers=headers, body=body: (
                    "/manifests/" in handler.path and handler.answer(200, headers, body))
                self.assertIn(expected, self.refused(name))

    # Redirects

    def redirect_blobs(self, place, status=307):
        self.proxy.fault = lambda handler: "/blobs/" in handler.path and handler.answer(
            status, {"Location": place(handler.path)})

    def test_another_host_gets_no_credentials(self):
        name = self.push_busybox()
        other = self.start_proxy(self.registry)

        def fault(handler):
            if not handler.headers.get("Authorization"):
                return handler.answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            del handler.headers["Authorization"]
            if "/blobs/" in handler.path:
                return handler.answer(307, {"Location": f"http://{other.host}{handler.path}"})
            return False

        self.proxy.fault = fault
        self.pull("--creds", "ann:secret", name)
        self.assert_image_works(name)
        self.assertEqual(len(other.requests), 2)
        for _, _, headers in other.requests:
            self.assertNotIn("Authorization", headers)

    def test_another_hosts_challenge_is_not_answered(self):
        name = self.push_busybox()
        other = self.start_proxy(self.registry, lambda handler: handler.answer(
            401, {"WWW-Authenticate": 'Basic realm="x"'}))
        self.redirect_blobs(lambda path: f"http://{other.host}{path}")
        self.assertIn("(401)", self.refused("--creds", "ann:secret", name))
        for _, _, headers in other.requests:
            self.assertNotIn("Authorization", headers)

    def test_a_relative_redirect_is_followed(self):
        name = self.push_busybox()

        def fault(handler):
            if "/blobs/" not in handler.path:
                return False
            if "moved" not in handler.path:
                return handler.answer(302, {"Location": handler.path + "?moved"})
            return False

        self.proxy.fault = fault
        self.pull(name)
        self.assertEqual(len(self.proxy.paths("moved")), 2)

    def test_redirects_without_end_are_given_up(self):
        name = self.push_busybox()
        self.redirect_blobs(lambda path: path)
        self.assertIn("it redirects more than 10 times", self.refused(name))

    def test_a_redirect_to_a_file_is_not_followed(self):
        name = self.push_busybox()
        self.redirect_blobs(lambda _: "file:///etc/passwd")
        self.assertIn("it redirects to file:///etc/passwd, which is no http(s) URL",
                      self.refused(name))

    # Ends

    def test_a_pull_that_is_stopped_leaves_nothing(self):
        name = self.push_large()
        large = layers_of(self.registry, name)[1]
        reached = threading.Event()

        def hang(handler):
            if large not in handler.path:
                return False
            status, headers, body = self.proxy.fetch(handler)
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body[:100_000])
            handler.wfile.flush()
            reached.set()
            time.sleep(15)
            return True

        self.proxy.fault = hang
        process = subprocess.Popen(
            self.executor_command("pull", "-q", name), env=self.environment, cwd=self.tmp,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self._end, process)
        self.assertTrue(reached.wait(20))
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.communicate(timeout=20)
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(self.ctr("content", "list", "--quiet"), "")
        self.assertEqual(self.ctr("snapshots", "list").splitlines()[1:], [])

    def test_the_next_pull_keeps_what_is_there(self):
        """One layer fails; an image that has the other keeps it."""
        name = self.push_large()
        self.pull(name)
        self.assert_image_works(name, "test -s /data && echo whole", "whole\n")
        self.registry.push(self.layout("longer", [
            ({"bin/sh": busybox()}, "gzip"), ({"more": "x"}, "gzip")]), "team/longer:1")
        self.proxy.requests.clear()
        self.pull(f"{self.proxy.host}/team/longer:1")
        self.assertEqual(len(self.proxy.paths("/blobs/")), 2)


class TlsFallback(PullTest):
    """On this machine HTTP comes first, and HTTPS after it."""

    def test_a_server_that_closes_on_plain_http_is_asked_over_tls(self):
        name = self.push_busybox()

        def close(handler):
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return True

        self.proxy.fault = close
        message = self.refused(name)
        self.assertIn(f"http://{self.proxy.host}/v2", message)
        self.assertIn(f"https://{self.proxy.host}/v2", message)
        self.assertLess(len(self.proxy.requests), 3)

    def test_one_that_speaks_http_is_not(self):
        self.push_busybox()
        message = self.refused(f"{self.proxy.host}/team/box:absent")
        self.assertNotIn("https://", message)


class Concurrency(PullTest):
    def push_layers_of(self, count):
        return self.push_layers("team/many:1", [({"bin/sh": busybox()}, "gzip")] + [
            ({f"layer-{number}": os.urandom(1000)}, "gzip") for number in range(count - 1)])

    def most_at_once(self, name, *options):
        """How many blobs were on their way at once: each waits for the others a while."""
        lock = threading.Lock()
        now, most = [0], [0]

        def fault(handler):
            if "/blobs/" not in handler.path:
                return False
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.3)
            self.proxy.forward(handler)
            with lock:
                now[0] -= 1
            return True

        self.proxy.fault = fault
        self.pull(*options, name)
        self.proxy.fault = None
        self.assert_image_works(name)
        return most[0]

    def test_three_layers_are_fetched_at_once(self):
        self.assertEqual(self.most_at_once(self.push_layers_of(7)), 3)

    def test_as_many_as_the_option_says(self):
        name = self.push_layers_of(7)
        self.assertEqual(self.most_at_once(name, "--max-concurrent-downloads", "1"), 1)

    def test_a_layer_is_unpacked_while_the_next_one_comes(self):
        """The second layer's bytes are held back until the first one's snapshot is there."""
        name = self.push_layers("team/two:1", [
            ({"bin/sh": busybox()}, "gzip"), ({"second": "x"}, "gzip")])
        seen = []

        def hold(handler):
            if second not in handler.path:
                return False
            deadline = time.monotonic() + 30
            while not seen and time.monotonic() < deadline:
                seen.extend(line for line in self.ctr("snapshots", "list").splitlines()[1:]
                            if line.rstrip().endswith("Committed"))
                time.sleep(0.05)
            return False

        second = layers_of(self.registry, name)[1]
        self.proxy.fault = hold
        self.pull(name)
        self.assertEqual(len(seen), 1)
        self.assert_image_works(name)

    def test_one_failure_stops_the_others(self):
        name = self.push_layers_of(4)
        layers = layers_of(self.registry, name)
        bad = layers[2]

        def fault(handler):
            if bad in handler.path:
                return handler.answer(404)
            if any(layer in handler.path for layer in layers):
                time.sleep(10)
            return False

        self.proxy.fault = fault
        began = time.monotonic()
        self.assertIn(f"there is no {bad}", self.refused(name))
        self.assertLess(time.monotonic() - began, 9)

    def test_a_foreign_layer_that_is_not_there_is_explained(self):
        path = self.path("foreign")
        start_layout(path)
        image = add_image(path, [({"bin/sh": busybox()}, "gzip"), ({"a": "x"}, "gzip")],
                          foreign=1)
        finish_layout(path, [image])
        name = f"{self.proxy.host}/team/foreign:1"
        manifest = open(os.path.join(path, "blobs/sha256", image["digest"][7:]), "rb").read()
        self.registry.push(f"oci:{path}:latest", "team/foreign:1")

        def fault(handler):
            foreign = json.loads(manifest)["layers"][1]["digest"]
            if "/manifests/" in handler.path:
                return handler.answer(200, {"Content-Type": image["mediaType"]}, manifest)
            return foreign in handler.path and handler.answer(404)

        self.proxy.fault = fault
        self.assertIn("a foreign layer", self.refused(name))
