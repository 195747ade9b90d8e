# SPDX-License-Identifier: MIT
"""Services beside a workflow's steps: ready before, gone after, all or none of them."""

import json
import os
import re
import select
import signal
import socket
import time

from harness import IMAGE, IntegrationTest

# busybox's httpd does not heed SIGTERM as the first process of a container, a shell with a trap does.
SERVE = "trap 'kill $!; exit 0' TERM; mkdir -p /w; echo \"$TEXT\" >/w/index.html; {}; " \
        "httpd -f -p {} -h /w & wait"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def service(port, text="hello", before=":", **config):
    return {"image": IMAGE, "ports": [port], "env": {"TEXT": text}, "command": ["/bin/sh", "-c"],
            "args": [SERVE.format(before, port)], **config}


def workflow(services, run="true", **config):
    return {"workflow": {"id": "shop", "services": services, "steps": [
        {"name": "use", "type": "containerd",
         "config": {"image": IMAGE, "network": "host", "run": run, **config}}]}}


def fetch(name):
    return (f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $SVC_{name}_HOST $SVC_{name}_PORT | "
            "tail -n 1")


class ServicesTest(IntegrationTest):
    def containers(self):
        return sorted(self.ctr("containers", "list", "--quiet").split())

    def is_listening(self, port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def wait_for_output(self, process, pattern):
        seen = ""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not re.search(pattern, seen, re.MULTILINE):
            if select.select([process.stderr], [], [], 0.2)[0]:
                chunk = os.read(process.stderr.fileno(), 65536).decode(errors="replace")
                if not chunk:
                    break
                seen += chunk
        self.assertRegex(seen, re.compile(pattern, re.MULTILINE))


class AroundSteps(ServicesTest):
    def test_steps_find_services_that_are_ready(self):
        one, two = free_port(), free_port()
        data = self.succeed(workflow(
            {"web": service(one, "first", "sleep 0.5"), "other": service(two, "second")},
            fetch("WEB") + "; " + fetch("OTHER") + "; echo $SERVICES"))
        *texts, services = data["use.stdout"].splitlines()
        self.assertEqual(texts, ["first", "second"])
        self.assertEqual(json.loads(services), {
            "web": {"host": "127.0.0.1", "ports": [one]},
            "other": {"host": "127.0.0.1", "ports": [two]}})
        self.assertFalse(self.is_listening(one) or self.is_listening(two))

    def test_command_args_user_and_limits_are_heeded(self):
        port = free_port()
        look = ("id -u >/w/index.html; cat /sys/fs/cgroup/memory/memory.limit_in_bytes "
                "/sys/fs/cgroup/memory.max 2>/dev/null >>/w/index.html; echo >>/w/index.html")
        data = self.succeed(workflow(
            {"web": service(port, before=look, memory="64m", cpu="0.5",
                            command=["/bin/busybox", "sh"], args=["-c", SERVE.format(look, port)])},
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $SVC_WEB_HOST $SVC_WEB_PORT"))
        body = data["use.stdout"].split("\r\n\r\n", 1)[1].split()
        self.assertEqual(body[0], "0")

    def test_readiness_by_program_and_by_http(self):
        port = free_port()
        began = time.monotonic()
        data = self.succeed(workflow({
            "job": {"image": IMAGE, "command": ["/bin/sh", "-c"],
                    "args": ["trap 'exit 0' TERM; sleep 1; touch /ready; sleep 100 & wait"],
                    "readiness": {"exec": ["test", "-e", "/ready"], "interval": "200ms"}},
            "web": service(port, readiness={"http": {"port": port, "path": "/index.html"}})},
            fetch("WEB")))
        self.assertGreaterEqual(time.monotonic() - began, 1)
        self.assertEqual(data["use.stdout"], "hello\n")

    def test_one_that_is_not_ready_in_time_ends_the_run_and_the_others(self):
        one, two = free_port(), free_port()
        outcome = self.run_step(workflow({
            "good": service(one),
            "bad": service(two, readiness={"http": {"port": two, "path": "/missing"},
                                          "interval": "100ms", "timeout": "5s", "retries": 3})},
            "echo ran"))
        self.assertEqual(outcome.status, 125)
        error = outcome.result["error"]
        self.assertEqual(error["kind"], "timeout")
        self.assertIn("service 'bad' is not ready", error["message"])
        self.assertIn("HTTP status 404", error["message"])
        self.assertNotIn("use.exit_code", outcome.result["output_data"])
        self.assertFalse(self.is_listening(one))

    def test_one_that_can_not_be_started_leaves_none(self):
        port = free_port()
        outcome = self.run_step(workflow({
            "good": service(port),
            "bad": {"image": "localhost/not-there", "ports": [1]}}))
        self.assertEqual(outcome.status, 125)
        self.assertIn("service 'bad': ", outcome.result["error"]["message"])
        self.assertFalse(self.is_listening(port))

    def test_one_that_ends_before_it_is_ready_says_its_last_words(self):
        outcome = self.run_step(workflow({"db": service(
            free_port(), before="echo one; echo cannot open the file >&2; exit 7")}))
        self.assertEqual(outcome.status, 125)
        message = outcome.result["error"]["message"]
        self.assertIn("service 'db' ended with code 7", message)
        self.assertIn("cannot open the file", message)

    def test_one_that_dies_while_a_step_runs_fails_the_step(self):
        port = free_port()
        began = time.monotonic()
        outcome = self.run_step(workflow(
            {"db": {**service(port), "args": [
                f"httpd -p {port}; sleep 2; echo out of disk; exit 9"]}},
            "echo up; sleep 100", grace="200ms"))
        self.assertLess(time.monotonic() - began, 60)
        self.assertEqual(outcome.status, 125, outcome.stderr)
        message = outcome.result["error"]["message"]
        self.assertIn("service 'db' ended with code 9: out of disk", message)
        self.assertEqual(outcome.result["output_data"]["use.stdout"], "up\n")

    def test_a_signal_takes_them_down(self):
        port = free_port()
        process = self.start_step(workflow({"web": service(port)}, "echo up; sleep 100",
                                           grace="200ms"))
        self.wait_for_output(process, "^up$")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143, stderr)
        self.assertFalse(self.is_listening(port))

    def test_a_signal_while_they_get_ready_takes_them_down(self):
        process = self.start_step(workflow({"web": service(free_port(), before="sleep 100")}))
        self.wait_for_output(process, "waiting for service web")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143, stderr)

    def test_a_killed_executors_services_are_reclaimed(self):
        port = free_port()
        process = self.start_step(workflow({"web": service(port)}, "echo up; sleep 100"))
        self.wait_for_output(process, "^up$")
        process.kill()
        process.wait()
        self.assertTrue(self.is_listening(port))
        self.assertEqual(self.executor("gc").returncode, 0)
        self.assertFalse(self.is_listening(port))


class Logs(ServicesTest):
    """Their output, of which the last is kept."""

    LINE = "x" * 99
    MAX_BYTES = 8 << 20

    def chatty(self, megabytes, then):
        return {"image": IMAGE, "command": ["/bin/sh", "-c"], "readiness": {
            "exec": ["test", "-e", "/said"]}, "args": [
                f"yes {self.LINE} | head -n {megabytes * 10000}; echo the last one; touch /said; "
                + then]}

    def test_they_are_bounded(self):
        document = workflow({"chatty": self.chatty(40, "trap 'exit 0' TERM; sleep 1000 & wait")})
        arguments = ["--workflow", "17", self.step_file(document)]
        up = self.executor("service", "up", *arguments)
        self.assertEqual(up.returncode, 0, up.stderr)
        folder = os.path.join(self.temp_dir, "wfe-io-wfe-svc-chatty-17")
        self.assertEqual(sorted(os.listdir(folder)), ["log", "log.1"])
        deadline = time.monotonic() + 30
        text = b""
        while not text.endswith(b"the last one\n") and time.monotonic() < deadline:
            time.sleep(0.1)
            with open(os.path.join(folder, "log"), "rb") as file:
                text = file.read()
        self.assertEqual(text.splitlines()[-1], b"the last one")
        with open(os.path.join(folder, "log.1"), "rb") as file:
            text = file.read() + text
        self.assertLessEqual(len(text), 2 * self.MAX_BYTES + (1 << 20))
        self.assertGreater(len(text), self.MAX_BYTES)
        self.assertEqual(set(text.splitlines()[:-1]), {self.LINE.encode()})
        self.assertEqual(self.executor("service", "down", *arguments).returncode, 0)
        self.assert_nothing_left()

    def test_they_go_to_a_directory_that_the_daemon_shares(self):
        os.mkdir(self.path("shared"))
        outcome = self.run_step(workflow({"job": {
            "image": IMAGE, "command": ["/bin/sh", "-c"], "args": ["echo words; exit 4"],
            "readiness": {"exec": ["test", "-e", "/never"]}}}),
            env={"WFE_IO_DIR": self.path("shared")})
        self.assertIn("service 'job' ended with code 4: words", outcome.result["error"]["message"])
        self.assertEqual(os.listdir(self.path("shared")), [])

    def test_the_last_words_are_there_however_much_was_said(self):
        outcome = self.run_step(workflow({"chatty": self.chatty(10, "sleep 1; exit 3")},
                                         "sleep 100", grace="200ms"))
        self.assertEqual(outcome.status, 125)
        self.assertTrue(outcome.result["error"]["message"].endswith("the last one"),
                        outcome.result["error"]["message"][-200:])


class ByCommand(ServicesTest):
    def service(self, verb, document, workflow_id="17"):
        return self.executor("service", verb, "--workflow", workflow_id, self.step_file(document))

    def test_up_and_down_around_a_run_of_its_own(self):
        port = free_port()
        document = workflow({"web": service(port)}, fetch("WEB"))
        up = self.service("up", document)
        self.assertEqual(up.returncode, 0, up.stderr)
        data = json.loads(up.stdout)
        self.assertEqual(data, {
            "SVC_WEB_HOST": "127.0.0.1", "SVC_WEB_PORT": port,
            "services": {"web": {"host": "127.0.0.1", "ports": [port]}}})
        self.assertEqual(self.containers(), ["wfe-svc-web-17"])
        # They belong to nobody who could die.
        self.assertEqual(self.executor("gc").returncode, 0)
        self.assertTrue(self.is_listening(port))
        self.assertEqual(self.succeed(document, data=data)["use.stdout"], "hello\n")
        self.assertTrue(self.is_listening(port))
        for _ in range(2):
            down = self.service("down", document)
            self.assertEqual(down.returncode, 0, down.stderr)
        self.assertFalse(self.is_listening(port))
        self.assert_nothing_left()

    def test_what_is_up_is_not_brought_up_again(self):
        port = free_port()
        document = workflow({"web": service(port)})
        self.assertEqual(self.service("up", document).returncode, 0)
        again = self.service("up", document)
        self.assertEqual(again.returncode, 125)
        self.assertIn("is up already", again.stderr)
        self.assertTrue(self.is_listening(port))
        self.assertEqual(self.service("down", document).returncode, 0)

    def test_all_or_none(self):
        port = free_port()
        up = self.service("up", workflow({
            "good": service(port),
            "bad": {"image": IMAGE, "ports": [1], "command": ["/not/there"]}}))
        self.assertEqual(up.returncode, 125)
        self.assertEqual(up.stdout, "")
        self.assertEqual(self.containers(), [])
        self.assertFalse(self.is_listening(port))

    def test_an_id_that_no_container_may_have_is_refused(self):
        up = self.service("up", workflow({"web": service(free_port())}), "../x")
        self.assertEqual(up.returncode, 125)
        self.assertIn("wfe-svc-web-../x", up.stderr)

    def test_wrong_command_lines(self):
        path = self.step_file(workflow({"web": service(free_port())}))
        for arguments, words in ((["sideways", "--workflow", "1", path], "allowed: up, down"),
                                 (["up", path], "--workflow ID is required"),
                                 (["up", "--workflow", "1"], "expected up|down FILE")):
            process = self.executor("service", *arguments)
            self.assertEqual(process.returncode, 125)
            self.assertIn(words, process.stderr)
