# SPDX-License-Identifier: MIT
"""A step without inputs: result, output, exit status, environment, user."""

import json
import os
import select
import time

from harness import IMAGE, IntegrationTest


class RunBasic(IntegrationTest):
    def test_a_step_that_prints_nothing_has_three_outputs(self):
        outcome = self.run_step({"name": "quiet", "type": "containerd",
                                 "config": {"image": IMAGE, "run": "true"}})
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.result, {"proceed": True, "output_data": {
            "quiet.stdout": "", "quiet.stderr": "", "quiet.exit_code": 0}})

    def test_both_streams_are_captured_apart_and_shown_on_stderr(self):
        outcome = self.run_step({"name": "talk", "type": "containerd", "config": {
            "image": IMAGE, "run": "echo to-out; echo to-err >&2"}})
        self.assertEqual(outcome.result["output_data"]["talk.stdout"], "to-out\n")
        self.assertEqual(outcome.result["output_data"]["talk.stderr"], "to-err\n")
        self.assertIn("to-out", outcome.stderr)
        self.assertIn("to-err", outcome.stderr)

    def test_output_is_shown_while_the_step_runs(self):
        process = self.start_step({"image": IMAGE, "run": "echo early; sleep 3; echo late"})
        started = time.monotonic()
        seen = b""
        while b"early" not in seen and time.monotonic() - started < 10 * self.patience():
            if select.select([process.stderr], [], [], 0.2)[0]:
                chunk = os.read(process.stderr.fileno(), 65536)
                if not chunk:
                    break
                seen += chunk
        self.assertIn(b"early", seen)
        self.assertIsNone(process.poll(), "the step had ended before its output was shown")
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertIn(b"late", stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "early\nlate\n")

    def test_directives_become_outputs(self):
        data = self.succeed({"name": "say", "type": "containerd", "config": {
            "image": IMAGE, "run": "echo '##wfe[output a=1]'; echo '##wfe[output b=x=y z]'; "
                                   "echo '##wfe[output a=2]'; echo ' ##wfe[output c=3]'; "
                                   "echo '##wfe[output say.exit_code=9]'"}})
        self.assertEqual(data["a"], "2")
        self.assertEqual(data["b"], "x=y z")
        self.assertNotIn("c", data)
        self.assertEqual(data["say.exit_code"], 0)

    def test_the_exit_status_is_the_containers(self):
        for code in (1, 7, 124, 125, 126, 127, 130, 255):
            with self.subTest(code=code):
                outcome = self.run_step({"name": "end", "type": "containerd", "config": {
                    "image": IMAGE, "run": f"echo '##wfe[output seen=yes]'; exit {code}"}})
                self.assertEqual(outcome.status, code, outcome.stderr)
                self.assertIs(outcome.result["proceed"], False)
                error = outcome.result["error"]
                self.assertEqual(error["kind"], "exit")
                self.assertEqual(error["exit_code"], code)
                self.assertIs(error["retryable"], False)
                self.assertIn(f"container exited with code {code}", error["message"])
                self.assertEqual(outcome.result["output_data"]["end.exit_code"], code)
                self.assertEqual(outcome.result["output_data"]["seen"], "yes")

    def test_a_signal_is_128_and_its_number(self):
        process = self.start_step({"image": IMAGE, "run": "echo up; sleep 60"})
        task = ""
        deadline = time.monotonic() + 20 * self.patience()
        while not task and time.monotonic() < deadline:
            task = self.running_task()
        self.ctr("tasks", "kill", "--signal", "SIGKILL", task)
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertEqual(process.returncode, 137, stderr)
        self.assertEqual(json.loads(stdout)["error"]["exit_code"], 137)

    def running_task(self):
        for line in self.ctr("tasks", "list").splitlines()[1:]:
            fields = line.split()
            if fields[2] == "RUNNING":
                return fields[0]
        return ""

    def test_a_command_that_is_not_there_is_127(self):
        outcome = self.run_step({"image": IMAGE, "command": ["/no/such/program"]})
        self.assertEqual(outcome.status, 127, outcome.stderr)
        self.assertIs(outcome.result["proceed"], False)
        self.assertIn("/no/such/program", outcome.result["error"]["message"])

    def test_a_command_that_cannot_be_run_is_126(self):
        outcome = self.run_step({"image": IMAGE, "command": ["/etc/passwd"]})
        self.assertEqual(outcome.status, 126, outcome.stderr)
        self.assertIs(outcome.result["proceed"], False)

    def test_command_is_run_without_a_shell(self):
        data = self.succeed({"image": IMAGE, "command": ["echo", "$HOME", "a  b"]})
        self.assertEqual(data["unknown.stdout"], "$HOME a  b\n")

    def test_data_becomes_environment_and_env_wins(self):
        data = self.succeed(
            {"image": IMAGE, "env": {"NAME": "from env", "EXTRA": "1"}, "run": "env"},
            data={"answer": 42, "name": "from data", "text": "two words", "flag": True,
                  "nothing": None, "tree": {"a": [1, "x"]}})
        lines = data["unknown.stdout"].splitlines()
        for expected in ("ANSWER=42", "NAME=from env", "EXTRA=1", "TEXT=two words", "FLAG=true",
                         "NOTHING=null", 'TREE={"a":[1,"x"]}'):
            self.assertIn(expected, lines)

    def test_the_image_provides_path(self):
        data = self.succeed({"image": IMAGE, "run": "echo $PATH"})
        self.assertEqual(data["unknown.stdout"],
                         "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")

    def test_the_working_directory_is_the_steps_else_the_root(self):
        data = self.succeed({"image": IMAGE, "run": "pwd"})
        self.assertEqual(data["unknown.stdout"], "/\n")
        data = self.succeed({"image": IMAGE, "working_dir": "/var/tmp", "run": "pwd"})
        self.assertEqual(data["unknown.stdout"], "/var/tmp\n")

    def test_a_working_directory_that_is_not_there_is_made(self):
        data = self.succeed({"image": IMAGE, "working_dir": "/new/place",
                             "run": "pwd; stat -c '%u:%g %a' . .."})
        self.assertEqual(data["unknown.stdout"], "/new/place\n0:0 755\n0:0 755\n")

    def test_a_variable_that_is_null_is_not_set(self):
        data = self.succeed({"image": IMAGE, "command": ["/usr/bin/env"],
                             "env": {"PATH": None, "TOKEN": None, "OTHER": "1"}},
                            data={"token": "secret"})
        names = [line.split("=")[0] for line in data["unknown.stdout"].splitlines()]
        self.assertIn("OTHER", names)
        self.assertNotIn("PATH", names)
        self.assertNotIn("TOKEN", names)

    def test_a_step_runs_as_nobody_unless_told_otherwise(self):
        script = "echo $(id -u):$(id -g)"
        for user, expected in ((None, "65534:65534"), ("1000:1001", "1000:1001"), ("0:0", "0:0"),
                               ("1000", "1000:0")):
            with self.subTest(user=user):
                config = {"image": IMAGE, "run": script}
                if user:
                    config["user"] = user
                self.assertEqual(self.succeed(config)["unknown.stdout"], expected + "\n")

    def test_the_network_is_the_steps_own(self):
        data = self.succeed({"image": IMAGE, "run": "ls /sys/class/net"})
        self.assertEqual(data["unknown.stdout"].split(), ["lo"])

    def test_the_root_is_writable_and_thrown_away(self):
        config = {"image": IMAGE, "user": "0:0", "run": "ls /made || touch /made"}
        for _ in range(2):
            self.assertEqual(self.succeed(config)["unknown.stdout"], "")

    def test_the_end_of_a_step_does_not_wait_for_the_disk(self):
        self.need_this_machine("nothing is known of its kernel")
        data = self.succeed({"image": IMAGE, "run": "grep ' / overlay ' /proc/mounts"})
        self.assertRegex(data["unknown.stdout"], "[,=]volatile[, ]")

    def test_a_document_is_read_from_stdin(self):
        text = json.dumps({"image": IMAGE, "run": "echo piped"})
        process = self.executor("run", "-", data=text.encode())
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(json.loads(process.stdout)["output_data"]["unknown.stdout"], "piped\n")

    def test_the_result_goes_to_a_file_when_asked(self):
        outcome = self.run_step({"image": IMAGE, "run": "echo x"},
                                options=["--result", self.path("result.json")])
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.stdout, "")
        with open(self.path("result.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["output_data"]["unknown.stdout"], "x\n")

    def test_many_steps_at_once_do_not_disturb_each_other(self):
        processes = [self.start_step({"image": IMAGE, "run": f"echo {number}"})
                     for number in range(8)]
        for process in processes:
            stdout, stderr = process.communicate(timeout=60 * self.patience())
            self.assertEqual(process.returncode, 0, stderr)
            self.assertTrue(json.loads(stdout)["output_data"]["unknown.stdout"])
