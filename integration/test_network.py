# SPDX-License-Identifier: MIT
"""The network that a step has, as it looks from inside of its container."""

import os

from harness import IMAGE, IntegrationTest


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
        self.assertEqual(data["net.stdout"].split(), ["65534", "hello", "0", "2147483647"])


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
