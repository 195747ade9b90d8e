#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A virtual machine that is nothing but a containerd behind a TCP port: a real second machine.

    integration/vm/machine.py start [--share DIR]     prints the variables that point at it
    integration/vm/machine.py shell SCRIPT            runs a script on it, as root
    integration/vm/machine.py stop
    integration/vm/machine.py run [--share DIR] -- COMMAND...

`run` starts one, runs COMMAND with WFE_CONTAINERD_ADDR (and WFE_IO_DIR, when DIR is shared), and
stops it, however COMMAND ends. DIR is seen in the machine at the same path, through virtiofs.
WFE_TEST_MACHINE tells tests where to find it: Machine(folder) runs scripts on it, and stops its clock.

The processor is emulated, for which a machine needs no rights; WFE_VM_ACCEL=kvm uses the host's. Its
disk (see integration/vm/root-from) is fresh at each start.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = "qemu-system-x86_64"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MEMORY_MB = 512
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10
SHELL_TIMEOUT_S = 120
MONITOR_PROMPT = b"(qemu) "


class MachineError(Exception):
    pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start_time(pid):
    """Of a process, in ticks since the host's start; None when it is gone or only a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def answers(port):
    """Whether containerd answers behind the port. A connection alone says nothing: QEMU takes it
    before the guest is up. An HTTP/2 server has the first word: its settings."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as daemon:
            daemon.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            return daemon.recv(1) != b""
    except OSError:
        return False


class Machine:
    """One machine and the folder with what belongs to it, which goes when it is stopped."""

    def __init__(self, folder):
        self.folder = folder
        self.state_file = os.path.join(folder, "machine.json")
        self.monitor = os.path.join(folder, "monitor.sock")
        self.console = os.path.join(folder, "console.log")
        self.state = {"processes": {}}
        if os.path.exists(self.state_file):
            with open(self.state_file, encoding="utf-8") as file:
                self.state = json.load(file)

    def variables(self):
        found = {"WFE_CONTAINERD_ADDR": f"tcp://127.0.0.1:{self.state['port']}",
                 "WFE_TEST_MACHINE": self.folder}
        if self.state["share"]:
            found["WFE_IO_DIR"] = self.state["share"]
        return found

    def running(self):
        return [int(pid) for pid, started in self.state["processes"].items()
                if start_time(pid) == started]

    def start(self, suite="bookworm", share=None, netem=None):
        for program in [QEMU] + ([VIRTIOFSD] if share else []):
            if not shutil.which(program):
                raise MachineError(f"{program} is not there: scripts/deps --install vm")
        if share and not re.fullmatch(r"/[\w./-]+", share):
            raise MachineError(f"the shared directory '{share}' is no absolute path of letters, "
                               "digits, '.', '_', '-' and '/'")
        disk = subprocess.run([os.path.join(HERE, "root-from"), suite], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True, check=False)
        if disk.returncode != 0:
            raise MachineError("there is no disk to start from")
        self.state.update(port=free_port(), shell_port=free_port(), share=share)
        try:
            if share:
                self._launch("virtiofsd", [
                    VIRTIOFSD, f"--socket-path={self.folder}/share.sock", "-o", f"source={share}",
                    "-o", "sandbox=namespace", "-o", "cache=auto"])
                self._await(lambda: os.path.exists(f"{self.folder}/share.sock"), "virtiofsd")
            self._launch("qemu", self._command(disk.stdout.strip()))
            self._await(lambda: answers(self.state["port"]), "containerd")
            if netem:
                self.shell(f"modprobe sch_netem && /sbin/tc qdisc add dev eth0 root netem {netem}")
        except BaseException:
            self.stop()
            raise

    def _command(self, disk):
        share = self.state["share"]
        command = [
            QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", f"q35,accel={os.environ.get('WFE_VM_ACCEL', 'tcg')},memory-backend=mem",
            "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MB),
            "-object", f"memory-backend-memfd,id=mem,size={MEMORY_MB}M,share=on",
            "-kernel", os.path.join(disk, "vmlinuz"),
            "-append", "root=/dev/nvme0n1 ro init=/init console=ttyS0 quiet panic=-1 net.ifnames=0"
            + (f" wfe.share={share}" if share else ""),
            "-drive", f"file={disk}/disk.img,format=raw,if=none,id=disk,snapshot=on,cache=unsafe",
            "-device", "nvme,drive=disk,serial=disk",
            "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{self.state['port']}-:2500,"
            f"hostfwd=tcp:127.0.0.1:{self.state['shell_port']}-:2501",
            "-device", "virtio-net-pci,netdev=n0,romfile=",
            "-serial", f"file:{self.console}",
            "-monitor", f"unix:{self.monitor},server=on,wait=off"]
        if share:
            command += ["-chardev", f"socket,id=share,path={self.folder}/share.sock",
                        "-device", "vhost-user-fs-pci,chardev=share,tag=share"]
        return command

    def _launch(self, name, command):
        with open(os.path.join(self.folder, name + ".log"), "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        self.state["processes"][str(process.pid)] = start_time(process.pid)
        with open(self.state_file, "w", encoding="utf-8") as file:
            json.dump(self.state, file)

    def _await(self, is_there, name):
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_there():
            if len(self.running()) < len(self.state["processes"]) or time.monotonic() > deadline:
                raise MachineError(f"{name} did not come up\n{self.logs()}")
            time.sleep(0.1)

    def shell(self, script):
        """Runs a script on the machine and returns what it printed."""
        end = b"-- ended with "
        with socket.create_connection(("127.0.0.1", self.state["shell_port"]),
                                      timeout=SHELL_TIMEOUT_S) as shell:
            shell.sendall(b"(\n%s\n) </dev/null\necho '%s'$?.\nexit\n" % (script.encode(), end))
            text = b""
            while not re.search(end + rb"\d+\.\n$", text):
                data = shell.recv(1 << 16)
                if not data:
                    raise MachineError(f"the machine's shell ended early: {text.decode()}")
                text += data
        output, _, status = text.rpartition(end)
        if status != b"0.\n":
            raise MachineError(f"'{script}' ended with {status.decode()}\n{output.decode()}")
        return output.decode(errors="replace")

    def pause(self):
        """Its processors stand still, and its clock with them; connections stay open."""
        self._tell_monitor("stop")

    def resume(self):
        self._tell_monitor("cont")

    def _tell_monitor(self, command):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(SHELL_TIMEOUT_S)
            monitor.connect(self.monitor)
            for line in (b"", command.encode() + b"\n"):
                monitor.sendall(line)
                text = b""
                while not text.endswith(MONITOR_PROMPT):
                    data = monitor.recv(1 << 12)
                    if not data:
                        raise MachineError(f"QEMU's monitor ended at '{command}'")
                    text += data

    def kill(self):
        """As when its power fails. What belongs to it here stays until stop()."""
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)

    def logs(self):
        """The last words of all that has any."""
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".log"):
                with open(os.path.join(self.folder, name), encoding="utf-8",
                          errors="replace") as file:
                    text += f"-- {name}\n{file.read()[-2000:]}"
        return text

    def stop(self):
        """QEMU first: virtiofsd ends with its connection."""
        for pid in reversed(self.running()):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.running():
            if time.monotonic() > deadline:
                for pid in self.running():
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)


def own_folder():
    base = os.environ.get("XDG_RUNTIME_DIR", "/tmp")
    return os.path.join(base, f"wfe-vm-{os.getuid()}")


def start(arguments):
    folder = own_folder()
    machine = Machine(folder)
    if not machine.running():
        machine.stop()
        os.mkdir(folder, 0o700)
        machine = Machine(folder)
        machine.start(arguments.suite, arguments.share, arguments.netem)
    for name, value in machine.variables().items():
        print(f"export {name}={value}")
    return 0


def run(arguments):
    if not arguments.command:
        raise MachineError("say which command to run")
    machine = Machine(tempfile.mkdtemp(prefix="wfe-vm-"))
    machine.start(arguments.suite, arguments.share, arguments.netem)
    try:
        return subprocess.run(arguments.command, check=False,
                              env={**os.environ, **machine.variables()}).returncode
    finally:
        if len(machine.running()) < len(machine.state["processes"]):
            print(f"the machine ended before the command\n{machine.logs()}", file=sys.stderr)
        machine.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("start", "run"):
        action = actions.add_parser(name)
        action.add_argument("--share", metavar="DIR", help="seen there at the same path")
        action.add_argument("--suite", default="bookworm",
                            help="the release of Debian in it (default: bookworm)")
        action.add_argument("--netem", metavar="LINE", help="what its line to us is like: "
                            "'delay 100ms loss 1%%', or what else tc-netem(8) has")
        if name == "run":
            action.add_argument("command", nargs="*", metavar="COMMAND")
    actions.add_parser("stop")
    actions.add_parser("shell").add_argument("script", metavar="SCRIPT")
    arguments = parser.parse_args()
    # What ends us ends the machine.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if arguments.action == "stop":
            Machine(own_folder()).stop()
            return 0
        if arguments.action == "shell":
            print(Machine(own_folder()).shell(arguments.script), end="")
            return 0
        return start(arguments) if arguments.action == "start" else run(arguments)
    except MachineError as error:
        print(f"integration/vm/machine.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
