# SPDX-License-Identifier: MIT
"""Steps on a daemon with which nothing is shared, and how that is found out."""

import copy
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from counting_proxy import CountingProxy
from forwards import TcpForward, UnixForward
from harness import IMAGE, IntegrationTest
from remote import DISABLED, RemoteDaemon, RemoteTest


class NothingShared(RemoteTest):
    """Each asks for nothing: the daemon's socket looks local, and that it isn't must be found out."""

    def test_a_step_with_inputs_and_output_leaves_nothing(self):
        tree = self.make_tree("tree", {"a/b": "content\n"})
        step = {"name": "s", "type": "containerd", "config": {
            "image": IMAGE, "user": "1000:1000", "inputs": {"in": "/in"},
            "run": "cat /in/a/b; id -u; echo '##wfe[output key=value]'; echo oops >&2"}}
        addresses = (self.session.address, self.session.tcp_address)
        before = None
        for address in addresses:
            with self.subTest(address=address):
                data = self.succeed(step, options=["--artifact", f"in={tree}"],
                                    global_options=["--address", address])
                self.assertEqual(data, {
                    "key": "value", "s.exit_code": 0, "s.stderr": "oops\n",
                    "s.stdout": "content\n1000\n##wfe[output key=value]\n"})
                after = self.blobs()
                self.assertEqual(after, before or after)
                before = after

    def test_an_input_crosses_the_wire_packed_and_comes_whole(self):
        text = b"".join(b"%d is a line like all others\n" % i for i in range(400_000))
        tree = self.make_tree("packed", {"lines": text, "noise": os.urandom(3 << 20)})
        line = CountingProxy(self.path("proxy.sock"), self.session.ctr_address())
        self.addCleanup(line.close)
        data = self.succeed(
            {"name": "s", "type": "containerd", "config": {
                "image": IMAGE, "inputs": {"in": "/in"}, "run": "cat /in/lines /in/noise | sha256sum"}},
            options=["--artifact", f"in={tree}"], global_options=["--address", line.path])
        with open(os.path.join(tree, "noise"), "rb") as file:
            digest = hashlib.sha256(text + file.read()).hexdigest()
        self.assertEqual(data["s.stdout"], f"{digest}  -\n")
        self.assertGreater(line.sent_bytes, 3 << 20)
        self.assertLess(line.sent_bytes, (3 << 20) + len(text) // 4)

    def test_a_hundred_megabytes_come_whole_and_the_streams_apart(self):
        raw = self.path("raw")
        data = self.succeed(
            {"name": "big", "type": "containerd", "config": {
                "image": IMAGE, "output_limit": "1m",
                "run": "yes 0123456789abcde | head -c 104857600; "
                       "printf '##wfe[output after=all]'; printf last >&2"}},
            options=["--raw", raw, "-q"])
        self.assertEqual(data["after"], "all")
        self.assertEqual(data["big.stdout_truncated"], 104857600 + 23)
        self.assertEqual(data["big.stderr"], "last")
        with open(os.path.join(raw, "big.stdout"), "rb") as file:
            expected = b"0123456789abcde\n" * 6553600 + b"##wfe[output after=all]"
            self.assertTrue(file.read() == expected)

    def test_volumes_are_of_the_daemons_machine_and_must_be_there(self):
        self.succeed({"image": IMAGE, "run": "test -e /v/bin/env -a -s /f", "volumes": [
            {"source": "/usr", "target": "/v"}, {"source": "/bin/cat", "target": "/f"}]})
        ours = self.make_tree("tree", {"a": ""})
        outcome = self.run_step(
            {"image": IMAGE, "run": "true", "volumes": [
                {"type": "tmpfs", "target": "/a"}, {"source": ours, "target": "/b"}]},
            global_options=["--log-level", "debug"])
        self.assertEqual(outcome.status, 125, outcome.stderr)
        self.assertEqual(outcome.result["error"]["kind"], "input")
        self.assertIn(f"volumes[1].source: '{ours}': it does not exist on the daemon's machine",
                      outcome.result["error"]["message"])
        for made in ("Containers/Create", "Snapshots/Prepare", "Tasks/Create"):
            self.assertNotIn(made, outcome.stderr)

    def test_any_bytes_are_kept(self):
        raw = self.path("raw")
        data = self.succeed({"image": IMAGE, "run": "printf 'a\\377b\\000c'"}, options=["--raw", raw])
        self.assertEqual(data["unknown.stdout"], "a\ufffdb\ufffdc")
        with open(os.path.join(raw, "unknown.stdout"), "rb") as file:
            self.assertEqual(file.read(), b"a\xffb\x00c")

    def test_output_is_seen_while_it_is_written(self):
        """Also while more comes all the time, when a file that is read has always grown."""
        process = self.start_step({"image": IMAGE, "run":
            "echo up; while [ ! -e /tmp/stop ]; do echo more; done & sleep 2; echo still; "
            "touch /tmp/stop; wait; sleep 600"}, options=["--progress", "none"])
        self.await_output(process, b"up\n")
        self.await_output(process, b"still\n")
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)
        text = json.loads(stdout)["output_data"]["unknown.stdout"]
        self.assertEqual(text.count("up\n"), 1)
        self.assertEqual(text.count("still\n"), 1)
        self.assertEqual(set(text.splitlines()), {"up", "more", "still"})

    def test_a_step_that_times_out_has_said_what_it_had_to_say(self):
        outcome = self.run_step({"image": IMAGE, "timeout": "1500ms", "grace": "100ms",
                                 "run": "printf first; sleep 600"})
        self.assertEqual(outcome.status, 124)
        self.assertEqual(outcome.result["output_data"]["unknown.stdout"], "first")

    def test_what_fails_before_it_runs_leaves_nothing(self):
        outcome = self.run_step({"image": IMAGE, "command": ["/no/such/program"]})
        self.assertEqual(outcome.status, 127, outcome.stderr)
        outcome = self.run_step({"image": "localhost/none", "pull": "never", "run": "true"})
        self.assertEqual(outcome.status, 125, outcome.stderr)

    def test_a_killed_executors_volume_is_reclaimed(self):
        process = self.start_step({"image": IMAGE, "run": "echo up; sleep 1000"})
        self.await_output(process, b"up\n")
        self.assertIn("-io", "".join(self.leaks_of_daemon()))
        process.kill()
        process.wait()
        gc = self.executor("gc")
        self.assertEqual(gc.returncode, 0, gc.stderr)
        self.assert_nothing_left()

    def test_executors_killed_at_any_moment_leave_nothing_behind_after_gc(self):
        for delay_s in (0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
            process = self.start_step({"image": IMAGE, "run": "sleep 1000"})
            time.sleep(delay_s)
            process.kill()
            process.wait()
        gc = self.executor("gc")
        self.assertEqual(gc.returncode, 0, gc.stderr)
        self.assert_nothing_left()

    def test_output_outlives_its_lease_and_a_collection(self):
        process = self.start_step({"image": IMAGE, "run": "echo up; sleep 3; echo end"},
                                  options=["--progress", "none"])
        self.await_output(process, b"up\n")
        leases = self.ctr("leases", "list", "--quiet").split()
        self.assertEqual(len(leases), 1)
        self.ctr("leases", "delete", "--sync", *leases)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "up\nend\n")

    def test_ways_that_cannot_be_gone_are_refused_at_once(self):
        for kind, words in (("fifo", "is not on this machine"), ("file", "does not see the directory")):
            with self.subTest(io=kind):
                outcome = self.run_step({"image": IMAGE, "run": "true"}, options=["--io", kind])
                self.assertEqual(outcome.status, 125)
                self.assertEqual(outcome.result["error"]["kind"], "input")
                self.assertIn(f"--io {kind}: ", outcome.result["error"]["message"])
                self.assertIn(words, outcome.result["error"]["message"])

    def test_a_directory_that_it_does_not_see_is_told_and_done_without(self):
        unseen = self.path("unseen")
        os.mkdir(unseen)
        outcome = self.run_step({"image": IMAGE, "run": "echo out"}, env={"WFE_IO_DIR": unseen})
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.result["output_data"]["unknown.stdout"], "out\n")
        self.assertIn(f"the daemon does not see WFE_IO_DIR, {unseen}", outcome.stderr)
        self.assertEqual(os.listdir(unseen), [])

    def test_check_tells_what_was_found(self):
        for options in ((), ("--address", self.session.tcp_address)):
            report = json.loads(self.executor("check", global_options=options).stdout)
            self.assertEqual((report["shares"], report["io"]), ("nothing", "snapshot"))
            self.assertEqual(report["inputs_as_mount"], "the daemon is remote")


class OtherSnapshotters(RemoteTest):
    """Each test starts a daemon of its own."""

    def use(self, disabled, image=""):
        directory = tempfile.mkdtemp(prefix="d-", dir=self.session.scratch)
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        daemon = RemoteDaemon(directory, disabled=disabled, image=image)
        self.addCleanup(daemon.close)
        self.address = os.path.join(directory, "containerd.sock")
        forward = UnixForward(self.address, daemon.socket)
        self.addCleanup(forward.close)
        self.ctr_there("images", "import", "--no-unpack", self.session.image_archive)

    def ctr_there(self, *arguments):
        return subprocess.run(
            ["ctr", "--address", self.address, "--namespace", self.namespace, *arguments],
            check=True, stdout=subprocess.PIPE, text=True).stdout

    def run_there(self, script, *options):
        return self.run_step({"image": IMAGE, "run": script},
                             global_options=["--address", self.address, *options])

    def use_btrfs(self, *without):
        image = self.path("btrfs.img")
        with open(image, "wb") as file:
            file.truncate(300 << 20)
        subprocess.run(["mkfs.btrfs", "--quiet", image], check=True, stderr=subprocess.DEVNULL)
        self.use([name for name in (*DISABLED, *without) if name != "snapshotter.v1.btrfs"], image)

    def test_without_native_output_comes_all_the_same(self):
        self.use([*DISABLED, "snapshotter.v1.native"])
        outcome = self.run_there(
            "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; printf end >&2")
        self.assertEqual(outcome.status, 0, outcome.stderr)
        data = outcome.result["output_data"]
        self.assertEqual(data["unknown.stdout"].split(), [str(i) for i in range(2000)])
        self.assertEqual(data["unknown.stderr"], "end")
        self.assertNotIn("-io", self.ctr_there("snapshots", "list"))

    def test_a_snapshotter_without_directories_is_left_aside(self):
        """For output; and an input is a layer below its target there."""
        self.use_btrfs()
        data = self.put(self.make_tree("words", {"word": b"in\n"}), "words")
        outcome = self.run_step(
            {"image": IMAGE, "run": "cat /opt/in/word; echo out", "inputs": {"words": "/opt/in"}},
            data=data, global_options=["--address", self.address, "--snapshotter", "btrfs"])
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.result["output_data"]["unknown.stdout"], "in\nout\n")
        self.assertNotIn("-io", self.ctr_there("snapshots", "--snapshotter", "native", "list"))

    def test_without_any_directory_it_is_refused_with_the_reason(self):
        self.use_btrfs("snapshotter.v1.native")
        outcome = self.run_there("echo out", "--snapshotter", "btrfs")
        self.assertEqual(outcome.status, 125)
        error = outcome.result["error"]
        self.assertEqual((error["kind"], error["retryable"]), ("input", False))
        self.assertIn("snapshotter 'btrfs' answers with a mount of type btrfs", error["message"])
        self.assertNotIn("-io", self.ctr_there("snapshots", "--snapshotter", "btrfs", "list"))


class DirectoryShared(RemoteTest):
    """As with a mount of a virtual machine: one directory is seen there, and nothing else."""

    def setUp(self):
        directory = tempfile.mkdtemp(prefix="d-", dir=self.session.scratch)
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.shared = os.path.join(directory, "shared")
        os.mkdir(self.shared)
        self.daemon = RemoteDaemon(directory, [self.shared])
        self.addCleanup(self.daemon.close)
        self.session = copy.copy(self.session)
        self.session.address = os.path.join(directory, "containerd.sock")
        forward = UnixForward(self.session.address, self.daemon.socket)
        self.addCleanup(forward.close)
        super().setUp()
        self.environment["WFE_IO_DIR"] = self.shared

    def test_files_are_used_in_the_directory_that_is_shared(self):
        process = self.start_step({"image": IMAGE, "run": "echo up; sleep 1; echo end"})
        self.await_output(process, b"up\n")
        folder, = os.listdir(self.shared)
        self.assertEqual(sorted(os.listdir(os.path.join(self.shared, folder))), ["stderr", "stdout"])
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "up\nend\n")
        self.assertEqual(os.listdir(self.shared), [])
        report = json.loads(self.executor("check").stdout)
        self.assertEqual((report["shares"], report["directory"], report["io"]),
                         ("directory", self.shared, "file"))

    def test_pipes_are_refused_there(self):
        outcome = self.run_step({"image": IMAGE, "run": "true"}, options=["--io", "fifo"])
        self.assertEqual(outcome.status, 125)
        self.assertIn("--io fifo", outcome.result["error"]["message"])

    def test_a_share_that_is_gone_is_noticed(self):
        step = {"image": IMAGE, "run": "echo out"}
        self.assertEqual(self.succeed(step)["unknown.stdout"], "out\n")
        in_daemon = ["nsenter", "--mount", "--target", self.daemon.pid()]
        subprocess.run([*in_daemon, "umount", self.shared], check=True)
        outcome = self.run_step(step)
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.result["output_data"]["unknown.stdout"], "out\n")
        self.assertIn("the daemon does not see WFE_IO_DIR", outcome.stderr)
        self.assertEqual(os.listdir(self.shared), [])


class Here(IntegrationTest):
    """The daemon of this machine, however it is reached."""

    def found(self, *options, env=None):
        process = self.executor("check", global_options=options, env=env)
        self.assertEqual(process.returncode, 0, process.stdout)
        report = json.loads(process.stdout)
        return report["shares"], report["io"]

    def memory(self):
        folder = self.path(".cache", "wfe", "daemons")
        return [os.path.join(folder, name) for name in os.listdir(folder)]

    def steps_requests(self, **arguments):
        outcome = self.run_step({"image": IMAGE, "run": "true"},
                                global_options=["--log-level", "debug"], **arguments)
        self.assertEqual(outcome.status, 0, outcome.stderr)
        return [line.split()[2] for line in outcome.stderr.splitlines() if " rpc: " in line]

    def test_it_is_known_by_its_files_not_by_its_address(self):
        self.assertEqual(self.found(), ("machine", "fifo"))
        forward = TcpForward(self.session.ctr_address())
        self.addCleanup(forward.close)
        self.assertEqual(self.found("--address", f"tcp://127.0.0.1:{forward.port}"),
                         ("machine", "fifo"))
        shared = self.path("shared")
        os.mkdir(shared)
        self.assertEqual(self.found(env={"WFE_IO_DIR": shared}), ("machine", "file"))
        self.assertEqual(os.listdir(shared), [])

    def test_what_was_found_is_remembered_and_costs_nothing_then(self):
        self.assertIn("Diff/Diff", self.steps_requests())
        memory, = self.memory()
        self.assertEqual(os.stat(memory).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(os.path.dirname(memory)).st_mode & 0o777, 0o700)
        self.assertNotIn("Diff/Diff", self.steps_requests())
        with open(memory, "a", encoding="utf-8") as file:
            file.write("more\n")
        self.assertIn("Diff/Diff", self.steps_requests())
        self.assertNotIn("Diff/Diff", self.steps_requests())
        os.chmod(memory, 0o666)
        self.assertIn("Diff/Diff", self.steps_requests())

    def test_another_mount_namespace_is_not_believed_to_be_the_same(self):
        self.steps_requests()
        document = self.step_file({"image": IMAGE, "run": "echo out"})
        process = subprocess.run(
            ["unshare", "--mount", "--propagation", "private",
             *self.executor_command("run", document)],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(json.loads(process.stdout)["output_data"]["unknown.stdout"], "out\n")

    def test_a_home_that_takes_no_memory_is_no_failure(self):
        for env in ({"HOME": "/proc"}, {"HOME": "relative"}, {"XDG_CACHE_HOME": "/dev/null"}):
            self.assertIn("Diff/Diff", self.steps_requests(env=env))

