# SPDX-License-Identifier: MIT
"""The command lines of both programs."""

import json
import os
import subprocess

from harness import IMAGE, IntegrationTest


class ExecutorUsage(IntegrationTest):
    uses_daemon = False

    def test_help_goes_to_stdout(self):
        for arguments in (["--help"], ["run", "--help"], ["pull", "--help"], ["gc", "--help"],
                          ["check", "--help"]):
            with self.subTest(arguments=arguments):
                process = self.executor(*arguments)
                self.assertEqual((process.returncode, process.stderr), (0, ""))
                self.assertIn("Usage: wfe-containerd", process.stdout)

    def test_the_version_is_printed(self):
        process = self.executor("--version")
        self.assertEqual(process.returncode, 0)
        self.assertRegex(process.stdout, r"^wfe-containerd \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_125_and_says_what_is_wrong(self):
        for arguments, expected in ((["--nonsense"], "nonsense"), (["frobnicate"], "frobnicate"),
                                    (["run", "--io", "smoke", "x"], "smoke"), (["run"], "STEP"),
                                    ([], "command"), (["run", "--artifact", "x", "y"], "NAME="),
                                    (["run", "--inputs-as", "magic", "x"], "magic")):
            with self.subTest(arguments=arguments):
                process = self.executor(*arguments)
                self.assertEqual(process.returncode, 125, process.stderr)
                self.assertIn(expected, process.stderr)
                self.assertEqual(process.stdout, "")

    def test_check_fails_without_a_daemon(self):
        process = self.executor("check", env={"WFE_CONTAINERD_ADDR": "/no/such.sock"})
        self.assertEqual(process.returncode, 125)
        self.assertIn("/no/such.sock", process.stdout + process.stderr)


class ExecutorCli(IntegrationTest):
    def test_the_log_can_be_json(self):
        process = self.executor(*self.run_arguments({"image": IMAGE, "run": "true"}),
                                global_options=["--log-level", "debug", "--log-format", "json"])
        self.assertEqual(process.returncode, 0, process.stderr)
        lines = [json.loads(line) for line in process.stderr.splitlines() if line.startswith("{")]
        self.assertTrue(lines, process.stderr)
        for line in lines:
            self.assertIn("level", line)
            self.assertIn("message", line)

    def test_quiet_shows_nothing_but_the_step(self):
        process = self.executor(*self.run_arguments({"image": IMAGE, "run": "true"},
                                                    options=["-q"]))
        self.assertEqual((process.returncode, process.stderr), (0, ""))

    def test_plain_progress_has_no_control_characters(self):
        process = self.executor(*self.run_arguments({"image": IMAGE, "run": "true"},
                                                    options=["--progress", "plain"]))
        self.assertEqual(process.returncode, 0)
        self.assertNotIn("\x1b", process.stderr)
        self.assertNotIn("\r", process.stderr)

    def test_check_says_what_is_there(self):
        process = self.executor("check")
        self.assertEqual(process.returncode, 0, process.stderr)
        report = json.loads(process.stdout)
        self.assertEqual(report["address"], self.session.address)
        self.assertEqual(report["snapshotter"], "overlayfs")
        self.assertEqual(report["inputs_as_mount"], "available")
        self.assertEqual(report["network_bridge"], "available")

    def test_check_says_what_is_missing(self):
        process = self.executor("check", env={"CNI_PATH": "/nowhere"})
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("/nowhere", json.loads(process.stdout)["network_bridge"])

    def test_gc_with_nothing_to_do_succeeds(self):
        process = self.executor("gc")
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_a_full_stdout_is_a_failure(self):
        with open("/dev/full", "wb") as full:
            process = subprocess.run(
                self.executor_command(*self.run_arguments({"image": IMAGE, "run": "true"})),
                env=self.environment, stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(process.returncode, 125, process.stderr)


class ArtifactfsCli(IntegrationTest):
    uses_daemon = False

    def test_help_goes_to_stdout(self):
        for arguments in (["--help"], ["put", "--help"], ["get", "--help"], ["ls", "--help"],
                          ["rm", "--help"], ["gc", "--help"], ["layer", "--help"]):
            with self.subTest(arguments=arguments):
                process = self.artifactfs(*arguments)
                self.assertEqual((process.returncode, process.stderr), (0, ""))
                self.assertIn("Usage: wfe-artifactfs", process.stdout)

    def test_an_artifact_goes_in_and_comes_out(self):
        reference = self.put(self.make_tree("tree", {"a": "1", "b/c": "2"}), "thing")
        digest = reference["thing"]["__wfe_artifact"]
        self.assertRegex(digest, "^sha256:[0-9a-f]{64}$")
        listed = self.artifactfs("ls")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertIn(digest[len("sha256:"):][:12], listed.stdout)
        self.assertIn("thing", listed.stdout)
        with open(self.path("out.tar.gz"), "wb") as out:
            subprocess.run([self.session.artifactfs, "get", digest], env=self.environment,
                           stdout=out, check=True)
        names = subprocess.run(["bsdtar", "-tf", self.path("out.tar.gz")], text=True, check=True,
                               stdout=subprocess.PIPE).stdout.split()
        self.assertEqual(sorted(os.path.normpath(name) for name in names if "." != name.strip("/")),
                         ["a", "b", "b/c"])
        removed = self.artifactfs("rm", digest)
        self.assertEqual(removed.returncode, 0, removed.stderr)
        self.assertNotEqual(self.artifactfs("get", digest).returncode, 0)

    def test_the_store_is_an_image_layout_for_other_tools(self):
        self.put(self.make_tree("tree", {"a": "1"}), "thing")
        subprocess.run(["umoci", "list", "--layout", self.store], check=True,
                       stdout=subprocess.DEVNULL)

    def test_wrong_usage_says_what_is_wrong(self):
        self.put(self.make_tree("tree", {"a": "1"}), "thing")
        for arguments, expected in ((["--nonsense"], "nonsense"), (["frobnicate"], "frobnicate"),
                                    (["get", "sha256:../../etc/passwd"], "sha256"),
                                    (["layer", "--compression", "lzma", "x"], "lzma")):
            with self.subTest(arguments=arguments):
                process = self.artifactfs(*arguments)
                self.assertNotEqual(process.returncode, 0)
                self.assertIn(expected, process.stderr)
                self.assertEqual(process.stdout, "")
