# SPDX-License-Identifier: MIT
"""The network that a step has, as it looks from inside of its container."""

import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import unittest

from harness import IMAGE, IntegrationTest
from remote import RemoteTest

PLUGINS = ("bridge", "host-local", "portmap", "firewall", "ptp")
PLUGIN_FOLDERS = ("/opt/cni/bin", "/usr/lib/cni")
STATE = "/run/wfe/network"
LOCK = "/run/lock/wfe-network-tests"

# busybox's wget has no luck with names in a static program.
GET = "printf 'GET / HTTP/1.0\\r\\n\\r\\n'"


def step(run, name="net", **config):
    return {"name": name, "type": "containerd", "config": {"image": IMAGE, "run": run, **config}}


class OwnNetwork(IntegrationTest):
    """`network: none`, which is the default."""

    def test_there_is_only_a_loopback_interface_and_it_is_up(self):
        data = self.succeed(step("ls /sys/class/net; ip addr show lo; ip route | wc -l"))
        lines = data["net.stdout"].splitlines()
        self.assertEqual((lines[0], lines[-1]), ("lo", "0"))
        self.assertIn("LOOPBACK,UP", lines[1])
        self.assertIn("inet 127.0.0.1/8", data["net.stdout"])

    def test_nobody_may_listen_on_any_port_and_send_echo_requests(self):
        data = self.succeed(step(
            "id -u; echo hello | nc -l -p 80 127.0.0.1 & sleep 0.3; nc 127.0.0.1 80 </dev/null; "
            "cat /proc/sys/net/ipv4/ping_group_range"))
        self.assertEqual(data["net.stdout"].split(), ["65534", "hello", "0", "65535"])


class HostNetwork(IntegrationTest):
    def test_it_is_the_hosts_with_its_names(self):
        data = self.succeed(step("readlink /proc/self/ns/net; cat /etc/resolv.conf /etc/hosts",
                                 network="host"))
        with open("/etc/resolv.conf", encoding="utf-8") as resolv, \
                open("/etc/hosts", encoding="utf-8") as hosts:
            expected = resolv.read() + hosts.read()
        namespace, _, files = data["net.stdout"].partition("\n")
        self.assertEqual(namespace, os.readlink("/proc/self/ns/net"))
        self.assertEqual(files, expected)

    def test_the_hosts_files_can_not_be_written(self):
        data = self.succeed(step("echo x >>/etc/hosts || echo refused; "
                                 "echo x >>/etc/resolv.conf || echo refused",
                                 network="host", user="0:0"))
        self.assertEqual(data["net.stdout"], "refused\nrefused\n")

    def test_a_volume_in_the_place_of_such_a_file_wins(self):
        path = self.write("hosts", "127.0.0.1 mine\n")
        data = self.succeed(step("cat /etc/hosts", network="host", volumes=[
            {"source": path, "target": "/etc/hosts", "readonly": True}]))
        self.assertEqual(data["net.stdout"], "127.0.0.1 mine\n")


def why_no_bridge():
    """What is missing on this machine, or None."""
    for plugin in PLUGINS:
        if not any(os.access(f"{folder}/{plugin}", os.X_OK) for folder in PLUGIN_FOLDERS):
            return f"the CNI plugin '{plugin}' is missing"
    if not shutil.which("iptables"):
        return "iptables is missing"
    for command in ("ip link add br0 type bridge", "ip link add veth0 type veth peer name veth1",
                    "iptables -t nat -A POSTROUTING -j MASQUERADE", "ip rule add prohibit"):
        process = subprocess.run(["unshare", "--net", *command.split()], check=False,
                                 capture_output=True, text=True)
        if process.returncode != 0:
            return f"the kernel refuses '{command}': {process.stderr.strip()}"
    return None


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def entries(path):
    return os.listdir(path) if os.path.isdir(path) else []


class BridgeTest(IntegrationTest):
    """What is left of networks is looked for at the end of each test: all there is on this machine,
    so only one process tests them at a time."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        reason = why_no_bridge()
        if reason:
            raise unittest.SkipTest(reason)
        lock = open(LOCK, "w", encoding="ascii")
        cls.addClassCleanup(lock.close)
        fcntl.flock(lock, fcntl.LOCK_EX)

    def leaks_of_machine(self):
        found = super().leaks_of_machine()
        found += [f"step's network: {name}" for name in entries(f"{STATE}/steps")]
        found += [f"addresses: {name}" for name in entries(f"{STATE}/addresses")]
        found += [f"interface: {name}" for name in entries("/sys/class/net")
                  if name.startswith(("wfe-", "veth"))]
        # The plugins' own chains, empty ones, stay for the next network.
        found += [f"firewall rule: {line}" for line in output_of("iptables-save").splitlines()
                  if re.search(r"10\.213\.|CNI-(DN-)?[0-9a-f]{8,}|wfe-", line)]
        found += [f"routing rule: {line}" for line in output_of("ip", "rule").splitlines()
                  if "wfe-" in line or "10.213." in line]
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            found += [f"mount: {line}" for line in mounts if "/run/wfe/" in line]
        return found

    def read_until(self, process, pattern, timeout_s=30):
        """Of what the process shows: the first match of a line."""
        seen = b""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            match = re.search(pattern, seen.decode(errors="replace"), re.MULTILINE)
            if match:
                return match
            if select.select([process.stderr], [], [], 0.2)[0]:
                chunk = os.read(process.stderr.fileno(), 65536)
                if not chunk:
                    break
                seen += chunk
        self.fail(f"no {pattern!r} in {seen!r}")

    def serve(self, workflow, text, **config):
        """A step of the workflow that serves `text` over HTTP; returns it and its address."""
        run = ("cd /tmp; echo " + text + " >index.html; httpd -f -p 80 & "
               "until grep -qs ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done; "
               "echo address $(ip -4 -o addr show eth0 | tr -s ' ' | cut -d ' ' -f 4); wait")
        config = {"network": "bridge", "grace": "0s", **config}
        process = self.start_step({"workflow": {"id": workflow, "steps": [
            step(run, "server", **config)]}})
        return process, self.read_until(process, r"^address ([0-9.]+)/26$").group(1)

    def end(self, process):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    def client(self, workflow, address, seconds=30):
        """What a step of the workflow gets from there in that time: by ping and by HTTP."""
        run = (f"ping -c 1 -W {seconds} {address} >/dev/null && echo pong; "
               f"{GET} | nc -w {seconds} {address} 80 | tail -n 1 | grep . || echo nothing")
        data = self.succeed({"workflow": {"id": workflow, "steps": [
            step(run, network="bridge", user="0:0")]}})
        return data["net.stdout"].split()


class BridgeNetwork(BridgeTest):
    def test_a_step_has_an_address_a_gateway_and_its_names(self):
        data = self.succeed(step(
            "ls /sys/class/net; ip -4 -o addr show eth0; ip route; hostname; cat /etc/hosts; "
            "ping -c 1 -W 2 localhost >/dev/null && echo self; "
            "gateway=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); "
            "ping -c 1 -W 2 $gateway >/dev/null && echo gateway",
            network="bridge", user="0:0"))
        out = data["net.stdout"]
        self.assertEqual(out.split()[:2], ["eth0", "lo"])
        address = re.search(r"inet (10\.213\.\d+\.\d+)/26", out).group(1)
        self.assertRegex(out, r"(?m)^default via 10\.213\.\d+\.\d+ dev eth0")
        hostname = re.search(r"(?m)^(wfe-[0-9a-f]{32})$", out).group(1)
        self.assertIn(f"\n{address}\t{hostname}\n", out)
        self.assertTrue(out.endswith("self\ngateway\n"), out)

    def test_name_servers_are_the_hosts_and_the_files_are_read_only(self):
        data = self.succeed(step("cat /etc/resolv.conf; echo x >>/etc/resolv.conf || "
                                 "echo x >>/etc/hosts || echo refused",
                                 network="bridge", user="0:0"))
        *lines, last = data["net.stdout"].splitlines()
        self.assertEqual(last, "refused")
        with open("/etc/resolv.conf", encoding="utf-8") as file:
            expected = [line.rstrip("\n") for line in file]
        if not any(re.match(r"nameserver\s+(127\.|.*:)", line) for line in expected):
            self.assertEqual(lines, expected)
        self.assertFalse([line for line in lines if re.match(r"nameserver\s+127\.", line)])

    def test_the_world_sees_the_hosts_address(self):
        """Behind a router that knows no way back to the container."""
        name = f"wfe-outside-{os.getpid()}"
        self.addCleanup(subprocess.run, ["ip", "netns", "delete", name], check=False)
        for command in (f"ip netns add {name}", f"ip link add out0 type veth peer out1 netns {name}",
                        "ip addr add 203.0.113.1/30 dev out0", "ip link set out0 up",
                        f"ip -n {name} addr add 203.0.113.2/30 dev out1",
                        f"ip -n {name} link set out1 up"):
            subprocess.run(command.split(), check=True)
        data = self.succeed(step("ping -c 1 -W 5 203.0.113.2 >/dev/null && echo pong",
                                 network="bridge", user="0:0"))
        self.assertEqual(data["net.stdout"], "pong\n")

    def test_steps_of_one_workflow_reach_each_other(self):
        process, address = self.serve("same", "hello")
        self.assertEqual(self.client("same", address), ["pong", "hello"])
        self.end(process)

    def test_steps_of_two_workflows_do_not(self):
        one, one_address = self.serve("one", "first")
        two, two_address = self.serve("two", "second")
        self.assertEqual(self.client("two", one_address, 2), ["nothing"])
        self.assertEqual(self.client("one", two_address, 2), ["nothing"])
        self.assertEqual(self.client("two", two_address), ["pong", "second"])
        self.end(one)
        self.end(two)

    def test_steps_without_a_workflow_are_alone(self):
        process, address = self.serve("some", "hello")
        data = self.succeed(step(f"ping -c 1 -W 2 {address} >/dev/null || echo alone",
                                 network="bridge", user="0:0"))
        self.assertEqual(data["net.stdout"], "alone\n")
        self.end(process)

    def test_many_steps_at_once_have_different_addresses(self):
        run = "ip -4 -o addr show eth0 | tr -s ' ' | cut -d ' ' -f 4; sleep 1"
        processes = [self.start_step({"workflow": {"id": "crowd", "steps": [
            step(run, network="bridge")]}}) for _ in range(6)]
        seen = []
        for process in processes:
            stdout, stderr = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, stderr)
            seen.append(json.loads(stdout)["output_data"]["net.stdout"])
        self.assertEqual(len(set(seen)), 6, seen)


class PublishedPorts(BridgeTest):
    def fetch(self, host, port):
        with socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
        return answer.split()[-1].decode()

    def test_the_host_and_the_workflows_steps_reach_them(self):
        process, address = self.serve("published", "hello", ports=["18080:80"])
        self.assertEqual(self.fetch("127.0.0.1", 18080), "hello")
        gateway = address.rsplit(".", 1)[0] + "." + str(int(address.rsplit(".", 1)[1]) // 64 * 64 + 1)
        self.assertEqual(self.fetch(gateway, 18080), "hello")
        data = self.succeed({"workflow": {"id": "published", "steps": [
            step(f"{GET} | nc -w 30 {gateway} 18080 | tail -n 1", network="bridge")]}})
        self.assertEqual(data["net.stdout"], "hello\n")
        self.end(process)
        with self.assertRaises(OSError):
            self.fetch("127.0.0.1", 18080)

    def test_an_address_limits_them(self):
        process, address = self.serve("limited", "hello", ports=["127.0.0.1:18081:80/tcp"])
        self.assertEqual(self.fetch("127.0.0.1", 18081), "hello")
        gateway = address.rsplit(".", 1)[0] + "." + str(int(address.rsplit(".", 1)[1]) // 64 * 64 + 1)
        with self.assertRaises(OSError):
            self.fetch(gateway, 18081)
        self.end(process)

    def test_a_port_in_use_is_told_before_the_step_runs(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
            outcome = self.run_step(step("echo ran", network="bridge", ports=[f"{port}:80"]))
        self.assertEqual(outcome.status, 125)
        self.assertIn(f"port {port}/tcp", outcome.result["error"]["message"])
        self.assertIn("in use", outcome.result["error"]["message"])

    def test_two_steps_can_not_have_the_same_port(self):
        process, _ = self.serve("first", "hello", ports=["18082:80"])
        outcome = self.run_step(step("echo ran", network="bridge", ports=["18082:80"]))
        self.assertEqual(outcome.status, 125)
        self.assertIn("18082", outcome.result["error"]["message"])
        self.assertEqual(self.fetch("127.0.0.1", 18082), "hello")
        self.end(process)


class Refusals(BridgeTest):
    def refused(self, env=None, **config):
        outcome = self.run_step(step("echo ran", network="bridge", **config), env=env,
                                global_options=("--log-level", "debug"))
        self.assertEqual(outcome.status, 125)
        for made in ("Containers/Create", "Snapshots/Prepare", "Tasks/Create"):
            self.assertNotIn(made, outcome.stderr, "something was made in the daemon")
        return outcome.result["error"]

    def test_missing_plugins(self):
        error = self.refused({"CNI_PATH": "/nowhere:/at/all"})
        self.assertIn("'bridge' is in none of /nowhere:/at/all", error["message"])

    def test_a_broken_configuration(self):
        os.mkdir(self.path("net.d"))
        path = self.write("net.d/10-broken.conflist", '{"cniVersion": "1.0.0", "name": "x"')
        error = self.refused({"NETCONFPATH": self.path("net.d")})
        self.assertIn(path, error["message"])

    def test_ports_where_nothing_publishes_them(self):
        os.mkdir(self.path("net.d"))
        self.write("net.d/10.conf", '{"cniVersion": "1.0.0", "name": "x", "type": "ptp"}')
        error = self.refused({"NETCONFPATH": self.path("net.d")}, ports=[80])
        self.assertIn("can publish ports", error["message"])


class Elsewhere(RemoteTest):
    def test_a_remote_daemon_is_refused(self):
        outcome = self.run_step(step("echo ran", network="bridge"))
        self.assertEqual(outcome.status, 125)
        error = outcome.result["error"]
        self.assertEqual(error["kind"], "input")
        self.assertIn("network: bridge needs a daemon on this machine", error["message"])


class OwnConfiguration(BridgeTest):
    """A network that /etc/cni/net.d, here another directory, describes."""

    PTP = {"type": "ptp", "ipMasq": True, "ipam": {"type": "host-local", "ranges": [
        [{"subnet": "10.214.7.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}

    def configure(self, *plugins, version="1.0.0"):
        plugins = [dict(plugin) for plugin in plugins]
        for plugin in plugins:
            if "ipam" in plugin:
                plugin["ipam"] = {**plugin["ipam"], "dataDir": self.path("leases")}
        os.makedirs(self.path("net.d"), exist_ok=True)
        self.write("net.d/10-mine.conflist", json.dumps(
            {"cniVersion": version, "name": "mine", "plugins": plugins}))
        self.write("net.d/20-other.conflist", "not looked at")
        return {"NETCONFPATH": self.path("net.d"),
                "CNI_PATH": ":".join([self.path("plugins"), *PLUGIN_FOLDERS])}

    def plugin(self, name, body):
        self.write(f"plugins/{name}", f"""#!/bin/sh
echo "$CNI_COMMAND" >>{self.path("calls")}
{body}
""", 0o755)

    def calls(self):
        with open(self.path("calls"), encoding="utf-8") as file:
            return file.read().split()

    def leases(self):
        return [name for name in entries(self.path("leases", "mine")) if name.startswith("10.")]

    def test_it_is_used(self):
        for version in ("0.4.0", "1.0.0"):
            data = self.succeed(step("ip -4 -o addr show eth0; ip route", network="bridge"),
                                env=self.configure(self.PTP, version=version))
            self.assertIn("inet 10.214.7.", data["net.stdout"])
            self.assertIn("default via 10.214.7.1", data["net.stdout"])
            self.assertEqual(self.leases(), [])

    def test_name_servers_of_the_network_are_used(self):
        ptp = {**self.PTP, "dns": {"nameservers": ["10.214.7.53"], "search": ["a.example"]}}
        data = self.succeed(step("cat /etc/resolv.conf", network="bridge"),
                            env=self.configure(ptp))
        self.assertEqual(data["net.stdout"], "nameserver 10.214.7.53\nsearch a.example\n")

    def test_a_plugin_that_fails_half_way_is_told_and_undone(self):
        self.plugin("broken", '[ $CNI_COMMAND = DEL ] || { echo \'{"code": 99, "msg": "no luck", '
                              '"details": "today"}\'; exit 1; }')
        outcome = self.run_step(step("echo ran", network="bridge"),
                                env=self.configure(self.PTP, {"type": "broken"}))
        self.assertEqual(outcome.status, 125)
        self.assertIn("CNI plugin 'broken' (ADD): no luck: today",
                      outcome.result["error"]["message"])
        self.assertEqual(self.calls(), ["ADD", "DEL"])
        self.assertEqual(self.leases(), [])

    def test_what_could_not_be_detached_is_tried_again(self):
        # Only once, since what is left of networks is for any test's gc.
        tried = self.path("tried")
        self.plugin("stubborn", f'cat >/dev/null; [ $CNI_COMMAND = ADD ] && echo \'{{"ips": []}}\'; '
                                f'[ $CNI_COMMAND = ADD ] || [ -e {tried} ] || {{ : >{tried}; exit 1; }}')
        environment = self.configure(self.PTP, {"type": "stubborn"})
        outcome = self.run_step(step("true", network="bridge"), env=environment)
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertIn("the network is left behind for now", outcome.stderr)
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(self.calls(), ["ADD", "DEL", "DEL"])
        self.assertEqual(self.leases(), [])

    def test_a_plugin_of_a_killed_executor_is_waited_for(self):
        self.plugin("slow", f'cat >/dev/null; [ $CNI_COMMAND = DEL ] || {{ touch {self.path("begun")};'
                            f' sleep 2; }}; echo ended >>{self.path("calls")}; '
                            'echo \'{"ips": []}\'')
        process = self.start_step(step("true", network="bridge"),
                                  env=self.configure(self.PTP, {"type": "slow"}))
        deadline = time.monotonic() + 20
        while not os.path.exists(self.path("begun")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        self.assertEqual(self.executor("gc").returncode, 0)
        self.assertEqual(self.calls(), ["ADD", "ended", "DEL", "ended"])


class Ends(BridgeTest):
    """Nothing of a network is left, however its step ends."""

    STEP = step("echo up; sleep 60", network="bridge", grace="200ms", ports=["18090:80"])

    def test_a_failing_step(self):
        self.assertEqual(self.run_step(step("exit 3", network="bridge", ports=["18090:80"])).status, 3)

    def test_a_command_that_is_not_there(self):
        self.assertEqual(self.run_step({"image": IMAGE, "network": "bridge",
                                        "command": ["/not/there"]}).status, 127)

    def test_a_time_limit(self):
        config = {**self.STEP["config"], "timeout": "1s"}
        self.assertEqual(self.run_step({**self.STEP, "config": config}).status, 124)

    def test_a_signal_while_it_runs(self):
        process = self.start_step(self.STEP)
        self.read_until(process, "^up$")
        self.end(process)
        self.assertEqual(process.returncode, 143)

    def test_a_signal_at_any_moment(self):
        for delay_ms in (20, 40, 60, 80, 120, 160, 200, 250, 300):
            with self.subTest(delay_ms=delay_ms):
                process = self.start_step(self.STEP)
                time.sleep(delay_ms / 1000)
                self.end(process)
                self.assertIn(process.returncode, (143, -signal.SIGTERM))
        self.assert_nothing_left()

    def killed(self, delay_s=None):
        process = self.start_step(self.STEP)
        if delay_s is None:
            self.read_until(process, "^up$")
        else:
            time.sleep(delay_s)
        process.kill()
        process.wait()

    def test_a_killed_executor_and_gc(self):
        self.killed()
        self.assertTrue(entries(f"{STATE}/steps"))
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assert_nothing_left()

    def test_executors_killed_at_any_moment_and_gc(self):
        for delay_ms in (20, 40, 60, 80, 120, 160, 200, 250, 300):
            self.killed(delay_ms / 1000)
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assert_nothing_left()

    def test_the_next_step_gets_the_port_of_a_killed_executors(self):
        self.killed()
        data = self.succeed(step("echo ran", network="bridge", ports=["18090:80"]))
        self.assertEqual(data["net.stdout"], "ran\n")
        self.assertEqual(self.executor("gc").returncode, 0)

    def test_gc_leaves_a_living_executors_network_alone(self):
        process, address = BridgeTest.serve(self, "alive", "hello")
        for _ in range(2):
            self.assertEqual(self.executor("gc").returncode, 0)
        self.assertEqual(self.client("alive", address), ["pong", "hello"])
        self.end(process)
