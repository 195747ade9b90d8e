# SPDX-License-Identifier: MIT
"""What every integration test stands on: a daemon, a namespace, an image, and a look for leaks.

The daemon is $WFE_CONTAINERD_ADDR when that is set, else a private one that is started for the
whole run. It may be on another machine (see vm/), which sees this one's directory $WFE_IO_DIR or none:
a test that
can't be asked of such a daemon says so by does_not_apply(). The programs come from $WFE_BUILD_DIR, else from the first build folder that has them.

Each test gets a containerd namespace of its own with the test image in it, and a scratch
directory that is also its TMPDIR, HOME and artifact store. At its end nothing may be left in the
daemon but the image, its layers and the artifacts.
"""

import atexit
import collections
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.parse

from forwards import UnixForward
from vm.machine import Machine

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IMAGE = "localhost/busybox:latest"

TEST_TIMEOUT_S = 240

# How the reasons begin of skips that nothing can be done about: $WFE_TEST_MUST_RUN is not for them.
DOES_NOT_APPLY = "does not apply: "

Outcome = collections.namedtuple("Outcome", "status result stderr stdout")


def repository_file(*parts):
    return os.path.join(REPOSITORY, *parts)


def find_build_dir():
    candidates = [repository_file(name) for name in ("build-gcc", "build")]
    if "WFE_BUILD_DIR" in os.environ:
        candidates = [os.path.abspath(os.environ["WFE_BUILD_DIR"])]
    for path in candidates:
        if os.path.exists(os.path.join(path, "executor", "wfe-containerd")):
            return path
    raise unittest.SkipTest("wfe-containerd is not built: " + ", ".join(candidates))


def does_not_apply(reason):
    """A SkipTest, to be raised by a test that this daemon can't be asked, or a variant of a test."""
    return unittest.SkipTest(DOES_NOT_APPLY + reason)


def given_machine():
    """The virtual machine (vm/machine.py) of $WFE_CONTAINERD_ADDR, or None."""
    folder = os.environ.get("WFE_TEST_MACHINE")
    return Machine(folder) if folder else None


class Session:
    """What all tests of one run share: programs, daemon, image."""

    _current = None
    daemon_environment = {}  # besides this process's

    @classmethod
    def get(cls):
        if cls._current is None:
            cls._current = cls(os.environ.get("WFE_CONTAINERD_ADDR"))
        return cls._current

    def __init__(self, address=None):
        """Without an address, with a daemon of its own."""
        self.build_dir = find_build_dir()
        self.executor = os.path.join(self.build_dir, "executor", "wfe-containerd")
        self.artifactfs = os.path.join(self.build_dir, "artifactfs", "wfe-artifactfs")
        self.scratch = tempfile.mkdtemp(prefix="wfe-it-", dir="/tmp")
        atexit.register(self.close)
        self.daemon_dir = None
        self.io_dir = os.environ.get("WFE_IO_DIR")
        self.machine = given_machine() if address else None
        self._forward = None
        self._client = None
        self._shares = None
        self.address = address
        if not self.address:
            self._start_daemon()
        self.image_dir = os.path.join(self.scratch, "image")
        self.image_archive = os.path.join(self.scratch, "image.tar")
        for output in (self.image_dir, self.image_archive):
            subprocess.run([repository_file("scripts", "make-busybox-image"), output], check=True)
        self._namespaces = 0

    def _start_daemon(self):
        self.daemon_dir = os.path.join(self.scratch, "daemon")
        self._containerd_dev("start")
        self.address = os.path.join(self.daemon_dir, "containerd.sock")

    def _containerd_dev(self, command):
        subprocess.run([repository_file("scripts", "containerd-dev"), "--dir", self.daemon_dir,
                        command], check=True, stdin=subprocess.DEVNULL,
                       env={**os.environ, **self.daemon_environment})

    def daemon_pid(self):
        with open(os.path.join(self.daemon_dir, "containerd.pid"), encoding="ascii") as file:
            return int(file.read())

    def daemon_version(self):
        """Without what Debian adds to it: "1.6.20"."""
        answer = subprocess.run(["ctr", "--address", self.ctr_address(), "version"], check=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        return re.search(r"Server:\s+Version:\s+v?([0-9.]+)", answer.stdout)[1]

    def has_plugin(self, plugin_type):
        listed = subprocess.run(["ctr", "--address", self.ctr_address(), "plugins", "list",
                                 f"type=={plugin_type}"], check=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True)
        return any(line.split()[:1] == [plugin_type] and line.split()[-1] == "ok"
                   for line in listed.stdout.splitlines())

    def start_daemon_again(self):
        """After it was killed, with all that it had."""
        self._containerd_dev("start")

    def client(self):
        if self._client is None:
            # What takes other things from here may run in a Python without it.
            from daemon_client import DaemonClient
            self._client = DaemonClient(self.address, self.scratch)
        return self._client

    def close(self):
        if self._client:
            self._client.close()
            self._client = None
        if self._forward:
            self._forward.close()
            self._forward = None
        if self.daemon_dir:
            self._containerd_dev("stop")
        shutil.rmtree(self.scratch, ignore_errors=True)

    def new_namespace(self):
        self._namespaces += 1
        return f"wfe-test-{os.getpid()}-{self._namespaces}"

    def ctr_address(self):
        """ctr wants a path, without the scheme of a URL, and knows no TCP."""
        if not self.address.startswith(("tcp://", "http://")):
            return self.address.removeprefix("unix://")
        if not self._forward:
            url = urllib.parse.urlsplit(self.address)
            self._forward = UnixForward(os.path.join(self.scratch, "ctr.sock"),
                                        (url.hostname, url.port))
        return self._forward.path

    def shares(self):
        """What the daemon shares with us, as `wfe-containerd check` tells: "machine" (it is the
        daemon of this one), "directory" (only $WFE_IO_DIR) or "nothing"."""
        if self._shares is None:
            environment = {**clean_environment(), "HOME": self.scratch}
            if self.io_dir:
                environment["WFE_IO_DIR"] = self.io_dir
            answer = subprocess.run([self.executor, "--address", self.address, "check"], check=True,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    env=environment, timeout=120)
            self._shares = json.loads(answer.stdout)["shares"]
        return self._shares


def clean_environment():
    """The caller's environment without anything that the programs would heed."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("WFE_", "CONTAINERD_", "XDG_")) and name != "NO_COLOR"}


class IntegrationTest(unittest.TestCase):
    maxDiff = 4000
    # False: the class's tests get no image, and only this machine is searched for leaks.
    uses_daemon = True
    # False: the namespace has no image at first.
    has_image = True
    io_dir = None

    @classmethod
    def setUpClass(cls):
        cls.session = Session.get()

    def setUp(self):
        self._limit_time()
        self.tmp = tempfile.mkdtemp(prefix="t-", dir=self.session.scratch)
        self.addCleanup(shutil.rmtree, self.tmp, ignore_errors=True)
        self.temp_dir = self.path("tmp")
        os.mkdir(self.temp_dir)
        self.store = self.path("store")
        self.environment = {
            **clean_environment(),
            "WFE_CONTAINERD_ADDR": self.session.address,
            "WFE_ARTIFACT_STORE": self.store,
            "TMPDIR": self.temp_dir,
            "HOME": self.tmp,
        }
        if self.session.io_dir:
            self.io_dir = tempfile.mkdtemp(prefix="wfe-it-", dir=self.session.io_dir)
            self.addCleanup(shutil.rmtree, self.io_dir, ignore_errors=True)
            self.environment["WFE_IO_DIR"] = self.io_dir
        self._documents = 0
        self.enter_new_namespace()
        self.addCleanup(self.assert_nothing_left)

    def enter_new_namespace(self):
        """What the test does from here on is in one that has the image, if it is to, and nothing else."""
        self.namespace = self.session.new_namespace()
        if self.uses_daemon:
            self.addCleanup(self._remove_namespace, self.namespace)
            if self.has_image:
                self.ctr("images", "import", self.session.image_archive)

    def _limit_time(self):
        """A test that hangs fails, so that its cleanups run."""
        def give_up(*_):
            raise AssertionError(f"longer than {limit_s} s")

        signal.signal(signal.SIGALRM, give_up)
        limit_s = self.time_limit_s()
        signal.alarm(limit_s)
        self.addCleanup(signal.alarm, 0)

    def time_limit_s(self):
        """For a whole test."""
        return TEST_TIMEOUT_S * self.patience()

    # What the daemon can be asked

    def need_this_machine(self, reason):
        """For tests of what only a daemon on this machine sees or does."""
        if self.session.shares() != "machine":
            raise does_not_apply(f"the daemon is on another machine: {reason}")

    def on_its_machine(self, script):
        """What a shell script prints on the daemon's machine, as root."""
        if self.session.machine:
            return self.session.machine.shell(script)
        self.need_this_machine("there is no shell for us")
        return subprocess.run(["sh", "-c", script], check=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True).stdout

    def patience(self):
        """How many times longer a step may take: another machine's processor may be emulated."""
        return 5 if self.session.machine or self.session.address.startswith("tcp://") else 1

    def io_kinds(self):
        """The ways of --io that there are."""
        return {"machine": ("fifo", "file", "snapshot"), "directory": ("file", "snapshot"),
                "nothing": ("snapshot",)}[self.session.shares()]

    def input_kinds(self):
        """The ways of --input-as that there are."""
        return ("layer", "mount") if self.session.shares() == "machine" else ("layer",)

    # Programs

    def path(self, *parts):
        return os.path.join(self.tmp, *parts)

    def write(self, name, content, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(path, mode)
        return path

    def ctr(self, *arguments, check=True, timeout=60):
        """Runs ctr in the test's namespace and returns its output."""
        process = subprocess.run(
            ["ctr", "--address", self.session.ctr_address(), "--namespace", self.namespace,
             *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, timeout=timeout * self.patience())
        if check and process.returncode != 0:
            self.fail(f"ctr {' '.join(arguments)}: {process.stderr}")
        return process.stdout

    def executor_command(self, *arguments, global_options=()):
        return [self.session.executor, "--namespace", self.namespace, *global_options,
                *arguments]

    def executor(self, *arguments, global_options=(), env=None, data=b"", timeout=120):
        """Runs wfe-containerd; returns a CompletedProcess with text in stdout and stderr."""
        return self._run(self.executor_command(*arguments, global_options=global_options),
                         env, data, timeout)

    def artifactfs(self, *arguments, env=None, data=b"", timeout=120):
        return self._run([self.session.artifactfs, *arguments], env, data, timeout)

    def _run(self, command, env, data, timeout):
        process = subprocess.run(
            command, env={**self.environment, **(env or {})}, input=data, cwd=self.tmp,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout * self.patience())
        process.stdout = process.stdout.decode(errors="replace")
        process.stderr = process.stderr.decode(errors="replace")
        return process

    def step_file(self, document, name=None):
        """JSON is YAML: a mapping is written as it, text as it stands. Each has its own file."""
        self._documents += 1
        name = name or f"step-{self._documents}.yaml"
        text = document if isinstance(document, str) else json.dumps(document)
        return self.write(name, text)

    def run_arguments(self, document, data=None, options=()):
        arguments = ["run", *options]
        if data is not None:
            name = f"data-{self._documents + 1}.json"
            arguments += ["--data", self.write(name, json.dumps(data))]
        return [*arguments, self.step_file(document)]

    def run_step(self, document, data=None, options=(), env=None, global_options=(),
                 timeout=120):
        """Runs a document; the outcome's result is None when stdout was no JSON object."""
        process = self.executor(*self.run_arguments(document, data, options), env=env,
                                global_options=global_options, timeout=timeout)
        try:
            result = json.loads(process.stdout)
        except ValueError:
            result = None
        return Outcome(process.returncode, result, process.stderr, process.stdout)

    def start_step(self, document, data=None, options=(), env=None, global_options=()):
        return self.start_executor(*self.run_arguments(document, data, options),
                                   global_options=global_options, env=env)

    def start_executor(self, *arguments, global_options=(), env=None):
        """Starts wfe-containerd and returns its Popen, with pipes of bytes."""
        process = subprocess.Popen(
            self.executor_command(*arguments, global_options=global_options),
            env={**self.environment, **(env or {})}, cwd=self.tmp, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self._end, process)
        return process

    def await_output(self, process, text):
        """Reads a program's stderr until it holds text (bytes)."""
        seen = b""
        while text not in seen:
            data = os.read(process.stderr.fileno(), 4096)
            self.assertTrue(data, f"it ended with {seen!r}")
            seen += data

    def file_in_artifact(self, reference, path):
        """The content of one of an artifact's files. reference: as in the workflow data."""
        archive = self.path("artifact.tgz")
        got = self.artifactfs("get", reference["__wfe_artifact"], "--output", archive)
        self.assertEqual(got.returncode, 0, got.stderr)
        content = subprocess.run(["tar", "-xzOf", archive, path], check=True,
                                 stdout=subprocess.PIPE).stdout
        os.unlink(archive)
        return content

    @staticmethod
    def _end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def succeed(self, document, data=None, options=(), env=None, global_options=()):
        """Runs a document that must proceed; returns its output_data."""
        outcome = self.run_step(document, data, options, env, global_options)
        self.assertEqual(outcome.status, 0, outcome.stderr + outcome.stdout)
        self.assertIs(outcome.result["proceed"], True)
        return outcome.result["output_data"]

    def put(self, path, name):
        """Puts an artifact into the store; returns the data object that refers to it."""
        process = self.artifactfs("put", "--name", name, path)
        self.assertEqual(process.returncode, 0, process.stderr)
        return json.loads(process.stdout)

    def make_tree(self, name, files):
        """A directory of files: {relative path: content}."""
        for relative, content in files.items():
            self.write(os.path.join(name, relative), content)
        return self.path(name)

    def assert_peak(self, peak_mib, bound_mib):
        """A program's memory is bounded; what a sanitizer takes comes on top."""
        self.assertLess(peak_mib, bound_mib * (2 if "ASAN_OPTIONS" in os.environ else 1))

    # Leaks

    def collect(self):
        """Lets the daemon collect at once; by itself it waits, the longer the slower it is."""
        self.ctr("leases", "create", "--id", "collect")
        self.ctr("leases", "delete", "--sync", "collect")

    def blobs(self):
        """What is in the content store after a collection."""
        self.collect()
        return set(self.ctr("content", "list", "--quiet").split())

    def blobs_besides_inputs(self):
        """The same without the inputs that an image keeps."""
        kept = re.findall("gc[.]ref[.]content/wfe-[0-9a-f]+=([^,\\s]+)", self.ctr("content", "list"))
        return self.blobs() - set(kept)

    def leaks_of_daemon(self):
        """What the daemon still holds for the test's namespace."""
        found = []
        if not self.uses_daemon:
            return found

        client = self.session.client()
        for what, names in (
                ("task", client.tasks(self.namespace)),
                ("container", client.containers(self.namespace)),
                ("lease", client.leases(self.namespace)),
                ("unfinished upload", client.uploads(self.namespace)),
                ("snapshot", client.snapshots(self.namespace, "overlayfs", False))):
            found += [f"{what}: {name}" for name in names]
        if self.session.machine:
            found += self._leaks_of_its_machine()
        return found

    def _leaks_of_its_machine(self):
        """What a virtual machine still holds for the test's namespace besides its daemon."""
        script = f"""
            ps -o args | grep '[c]ontainerd-shim.*{self.namespace} ' | sed 's/^/shim there: /'
            grep -F {self.namespace} /proc/mounts | sed 's/^/mount there: /'
            find /sys/fs/cgroup/{self.namespace} -mindepth 1 -type d 2>/dev/null |
                sed 's/^/cgroup there: /'"""
        return self.session.machine.shell(script + "\n:").splitlines()

    def leaks_of_machine(self):
        """What this machine still holds for the test's namespace, and in its TMPDIR."""
        found = [f"shim: {command}" for command in shims_of(self.namespace)]
        found += [f"log: {command}" for command in logs_below(self.temp_dir)]
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            found += [f"mount: {line.strip()}" for line in mounts if self.namespace in line]
        for top in filter(None, (self.temp_dir, self.io_dir)):
            for folder, folders, files in os.walk(top):
                found += [f"temporary file: {os.path.join(folder, name)}"
                          for name in folders + files]
        found += [f"cgroup: {path}" for path in container_cgroups(self.namespace)]
        return found

    def assert_nothing_left(self):
        """A shim ends a moment after its task was deleted, and a machine may be busy, so this looks
        for a while."""
        deadline = time.monotonic() + 30 * self.patience()
        while self.leaks_of_machine() and time.monotonic() < deadline:
            time.sleep(0.02)
        found = self.leaks_of_daemon()
        while found and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self.leaks_of_daemon()
        self.assertEqual(self.leaks_of_machine() + found, [], "left behind")

    def _remove_namespace(self, namespace):
        self.namespace = namespace
        client = self.session.client()
        for task in client.tasks(self.namespace):
            self.ctr("tasks", "delete", "--force", task, check=False)
        for container in client.containers(self.namespace):
            self.ctr("containers", "delete", container, check=False)
        for lease in client.leases(self.namespace):
            self.ctr("leases", "delete", lease, check=False)
        client.remove_images(self.namespace)
        client.remove_namespace(self.namespace)
        for folder in cgroup_folders(self.namespace):
            try:
                os.rmdir(folder)
            except OSError:
                pass
        shutil.rmtree(f"/run/containerd/runc/{self.namespace}", ignore_errors=True)


def command_lines():
    """Of all processes; a zombie has none."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                yield file.read().decode(errors="replace").split("\0")
        except OSError:
            continue


def shims_of(namespace):
    """Command lines of the shims of a namespace."""
    return [" ".join(arguments) for arguments in command_lines()
            if "containerd-shim" in arguments[0] and namespace in arguments]


def logs_below(folder):
    """Command lines of the processes that write services' logs."""
    return [" ".join(arguments) for arguments in command_lines()
            if "service-log" in arguments[1:2] and any(folder in word for word in arguments)]


def cgroup_folders(namespace):
    root = "/sys/fs/cgroup"
    candidates = [root] + [os.path.join(root, name) for name in sorted(os.listdir(root))]
    paths = [os.path.join(folder, namespace) for folder in candidates]
    return [path for path in paths if os.path.isdir(path)]


def container_cgroups(namespace):
    return [os.path.join(folder, name) for folder in cgroup_folders(namespace)
            for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))]
