# SPDX-License-Identifier: MIT
"""Services on the bridge of their workflow: addresses, names, published ports, and nothing left."""

import json
import os
import signal
import socket

import test_network
from harness import IMAGE
from test_services import free_port

# busybox's httpd does not heed SIGTERM as the first process of a container, a shell with a trap does.
SERVE = "trap 'kill $!; exit 0' TERM\nmkdir -p /w\n{}\necho \"$TEXT\" >/w/index.html\n" \
        "httpd -f -p 80 -h /w & wait"
GET = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 30 {} {} | tail -n 1"


def service(text, before=":", ports=(80,), network="bridge", **config):
    return {"image": IMAGE, "network": network, "ports": list(ports), "env": {"TEXT": text},
            "command": ["/bin/sh", "-c"], "args": [SERVE.format(before)], **config}


def fetch(host, port=80):
    return GET.format(host, port)


def workflow(services, *runs, workflow_id="shop", network="bridge", **config):
    """A workflow whose steps s0, s1 and so on are the runs."""
    return {"workflow": {"id": workflow_id, "services": services, "steps": [
        {"name": f"s{i}", "type": "containerd",
         "config": {"image": IMAGE, "network": network, "run": run, **config}}
        for i, run in enumerate(runs)]}}


class ServiceNetworkTest(test_network.BridgeTest):
    def service(self, verb, document, workflow_id="17"):
        arguments = ("service", verb, "--workflow", workflow_id, self.step_file(document))
        if verb == "up":
            # One that is down stays down. All tests see what is left of a network.
            self.addCleanup(self.executor, "service", "down", *arguments[2:])
        process = self.executor(*arguments)
        self.assertEqual(process.returncode, 0, process.stderr)
        return json.loads(process.stdout) if verb == "up" else None

    def fetch_here(self, host, port):
        with socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
        return answer.split()[-1].decode()


class AroundSteps(ServiceNetworkTest):
    def test_steps_find_them_by_name_and_by_address(self):
        data = self.succeed(workflow(
            {"web": service("first"), "other": service("second", before="sleep 0.5")},
            f"{fetch('web')}; {fetch('other')}", f"{fetch('$SVC_WEB_HOST', '$SVC_WEB_PORT')}; "
            "grep -c web /etc/hosts"))
        self.assertEqual(data["s0.stdout"], "first\nsecond\n")
        self.assertEqual(data["s1.stdout"], "first\n1\n")

    def test_services_find_each_other_whichever_came_first(self):
        look = "until {} | grep .; do sleep 0.1; done >/w/seen"
        data = self.succeed(workflow(
            {"early": service("early", before=f"({look.format(fetch('late'))}) &"),
             "late": service("late", before=look.format(fetch("early")))},
            "until printf 'GET /seen HTTP/1.0\\r\\n\\r\\n' | nc -w 30 early 80 | grep late; do "
            "sleep 0.1; done; printf 'GET /seen HTTP/1.0\\r\\n\\r\\n' | nc -w 30 late 80 | tail -n 1"))
        self.assertEqual(data["s0.stdout"], "late\nearly\n")

    def test_steps_of_a_workflow_without_an_id_find_theirs(self):
        document = workflow({"web": service("hello")}, fetch("web"))
        del document["workflow"]["id"]
        self.assertEqual(self.succeed(document)["s0.stdout"], "hello\n")

    def test_a_step_on_the_hosts_network_reaches_the_address(self):
        data = self.succeed(workflow({"web": service("hello")},
                                     fetch("$SVC_WEB_HOST", "$SVC_WEB_PORT"), network="host"))
        self.assertEqual(data["s0.stdout"], "hello\n")

    def test_a_step_on_the_bridge_finds_a_service_of_the_host(self):
        port = free_port()
        before = f"(mkdir -p /h; echo host >/h/index.html; httpd -f -p {port} -h /h) &"
        data = self.succeed(workflow(
            {"web": service("x", before=before, network="host", ports=[port])},
            fetch("$SVC_WEB_HOST", "$SVC_WEB_PORT")))
        self.assertEqual(data["s0.stdout"], "host\n")

    def test_other_workflows_do_not_reach_them(self):
        document = workflow({"web": service("hello")}, "true")
        address = self.service("up", document)["SVC_WEB_HOST"]
        self.assertEqual(self.client("other", address, 2), ["nothing"])
        self.service("down", document)

    def test_http_readiness_and_ports_that_are_published(self):
        port = free_port()
        process = self.start_step(workflow(
            {"web": service("hello", ports=[f"127.0.0.1:{port}:80"],
                            readiness={"http": {"port": 80, "path": "/index.html"}})},
            "echo up; sleep 60", grace="200ms"))
        self.read_until(process, "^up$")
        self.assertEqual(self.fetch_here("127.0.0.1", port), "hello")
        self.end(process)
        self.assertEqual(process.returncode, 143)

    def test_one_that_is_not_ready_leaves_nothing(self):
        outcome = self.run_step(workflow(
            {"good": service("x"), "bad": service("x", ports=[81], readiness={
                "tcp": 81, "interval": "100ms", "timeout": "2s", "retries": 3})}, "echo ran"))
        self.assertEqual(outcome.status, 125)
        self.assertIn("service 'bad' is not ready: port 81", outcome.result["error"]["message"])

    def test_one_without_its_plugins_is_refused_before_anything_is_made(self):
        outcome = self.run_step(workflow({"web": service("x")}, "echo ran"),
                                env={"CNI_PATH": "/nowhere"},
                                global_options=("--log-level", "debug"))
        self.assertEqual(outcome.status, 125)
        self.assertIn("service 'web': network: bridge", outcome.result["error"]["message"])
        for request in ("Containers/Create", "Snapshots/Prepare", "Tasks/"):
            self.assertNotIn(request, outcome.stderr)

    def test_a_killed_executors_are_reclaimed(self):
        process = self.start_step(workflow({"web": service("x")}, "echo up; sleep 1000"))
        self.read_until(process, "^up$")
        process.kill()
        process.wait()
        self.assertEqual(self.executor("gc").returncode, 0)
        self.assert_nothing_left()

    def test_a_signal_while_they_get_ready(self):
        process = self.start_step(workflow({"web": service("x", before="sleep 100")}, "true"))
        self.read_until(process, "waiting for service web")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)


class ByCommand(ServiceNetworkTest):
    def test_up_and_down_around_runs_of_steps(self):
        document = workflow({"web": service("hello"), "db": service("data")},
                            f"{fetch('web')}; {fetch('db')}")
        data = self.service("up", document)
        self.assertRegex(data["SVC_WEB_HOST"], r"^10\.213\.")
        self.assertEqual(data["services"]["web"],
                         {"host": data["SVC_WEB_HOST"], "ports": [80], "workflow": "17"})
        # They belong to nobody who could die.
        self.assertEqual(self.executor("gc").returncode, 0)
        for _ in range(2):
            self.assertEqual(self.succeed(document, data=data)["s0.stdout"], "hello\ndata\n")
        self.assertEqual(self.fetch_here(data["SVC_WEB_HOST"], 80), "hello")
        for _ in range(2):
            self.service("down", document)
        self.assert_nothing_left()

    def test_one_that_came_down_is_not_found_any_more(self):
        both = workflow({"web": service("hello"), "db": service("data")},
                        "grep -q web /etc/hosts || echo gone")
        data = self.service("up", both)
        self.service("down", workflow({"web": service("hello")}, "true"))
        self.assertEqual(self.succeed(both, data=data)["s0.stdout"], "gone\n")
        self.service("down", both)

    def test_a_port_of_one_that_is_up_is_in_use(self):
        port = free_port()
        document = workflow({"web": service("hello", ports=[f"{port}:80"])}, "true")
        self.service("up", document)
        outcome = self.run_step({"image": IMAGE, "network": "bridge", "run": "echo ran",
                                 "ports": [f"{port}:80"]})
        self.assertEqual(outcome.status, 125)
        self.assertIn("in use by wfe-svc-web-17", outcome.result["error"]["message"])
        self.assertEqual(self.fetch_here("127.0.0.1", port), "hello")
        self.service("down", document)

    def test_down_takes_away_what_lost_its_container(self):
        document = workflow({"web": service("hello")}, "true")
        self.service("up", document)
        self.ctr("tasks", "delete", "--force", "wfe-svc-web-17")
        self.ctr("containers", "delete", "wfe-svc-web-17")
        self.service("down", document)
        self.assertFalse(os.listdir(f"{test_network.STATE}/steps"))
