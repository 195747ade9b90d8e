# SPDX-License-Identifier: MIT
"""A wrong document is refused, with everything that is wrong in it, before a daemon is touched."""

import json

from harness import IMAGE, IntegrationTest

NO_DAEMON = {"WFE_CONTAINERD_ADDR": "/nonexistent/containerd.sock"}


class Documents(IntegrationTest):
    uses_daemon = False

    def refuse(self, document, *expected, options=(), data=None, kind="input"):
        outcome = self.run_step(document, data=data, options=options, env=NO_DAEMON)
        self.assertEqual(outcome.status, 125, outcome.stderr + outcome.stdout)
        self.assertNotIn("/nonexistent/containerd.sock", outcome.stderr)
        for text in expected:
            self.assertIn(text, outcome.stderr)
        if outcome.stdout:
            self.assertIs(outcome.result["proceed"], False)
            self.assertEqual(outcome.result["error"]["kind"], kind)
            self.assertIs(outcome.result["error"]["retryable"], False)
        return outcome

    def test_every_error_is_reported_at_once(self):
        text = """\
name: wrong
type: containerd
config:
  imagee: busybox
  run: echo
  network: wifi
  pull: sometimes
  timeout: soon
  memory: lots
"""
        outcome = self.refuse(text, "step-1.yaml:4", "imagee", "image", "step-1.yaml:6", "wifi",
                              "bridge", "step-1.yaml:7", "sometimes", "if-not-present",
                              "step-1.yaml:8", "soon", "step-1.yaml:9", "lots")
        self.assertGreaterEqual(outcome.stderr.count("step-1.yaml:"), 5)

    def test_an_error_names_its_field(self):
        self.refuse({"workflow": {"id": "x", "version": 1, "steps": [
            {"name": "a", "type": "containerd", "config": {"image": IMAGE, "run": "true"}},
            {"name": "b", "type": "containerd", "config": {
                "image": IMAGE, "run": "true", "inputs": {"data": "relative/path"}}}]}},
            "steps[1].config.inputs.data", "relative/path")

    def test_two_steps_of_one_name_are_refused(self):
        one = {"name": "twin", "type": "containerd", "config": {"image": IMAGE, "run": "true"}}
        self.refuse({"workflow": {"id": "x", "version": 1, "steps": [one, one]}}, "twin")

    def test_run_and_command_together_are_refused(self):
        self.refuse({"image": IMAGE, "run": "true", "command": ["true"]}, "run", "command")

    def test_text_that_is_no_yaml_is_refused_with_its_line(self):
        self.refuse("image: x\nrun: [unclosed\n", "step-1.yaml:")

    def test_an_alias_bomb_is_refused_quickly(self):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        for level in range(1, 12):
            lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 9) + "]")
        self.refuse("\n".join(lines) + f"\nimage: {IMAGE}\nrun: 'true'\n")

    def test_deep_nesting_is_refused(self):
        self.refuse("image: x\nenv: " + "[" * 5000 + "]" * 5000 + "\n")

    def test_a_missing_file_is_named(self):
        process = self.executor("run", self.path("absent.yaml"), env=NO_DAEMON)
        self.assertEqual(process.returncode, 125)
        self.assertIn("absent.yaml", process.stderr)

    def test_data_that_is_no_object_is_refused(self):
        self.refuse({"image": IMAGE, "run": "true"}, "data-1.json", data=[1, 2])

    def test_an_input_without_an_artifact_is_refused(self):
        self.refuse({"image": IMAGE, "run": "true", "inputs": {"words": "/in"}}, "words",
                    data={"other": 1})

    def test_an_artifact_that_is_not_in_the_store_is_refused(self):
        self.put(self.make_tree("tree", {"a": "1"}), "another")
        digest = "sha256:" + "0" * 64
        self.refuse({"image": IMAGE, "run": "true", "inputs": {"words": "/in"}}, digest,
                    data={"words": {"__wfe_artifact": digest}})

    def test_a_digest_is_never_taken_for_a_path(self):
        self.refuse({"image": IMAGE, "run": "true", "inputs": {"words": "/in"}}, "words",
                    data={"words": {"__wfe_artifact": "sha256:../../../../etc/passwd"}})

    def test_a_right_document_fails_at_the_daemon_with_its_address(self):
        outcome = self.run_step({"image": IMAGE, "run": "true"}, env=NO_DAEMON)
        self.assertEqual(outcome.status, 125)
        self.assertIn("containerd socket not found: /nonexistent/containerd.sock",
                      outcome.result["error"]["message"])

    def test_the_documents_address_is_used(self):
        outcome = self.run_step({"image": IMAGE, "run": "true",
                                 "containerd_addr": "/elsewhere/c.sock"})
        self.assertEqual(outcome.status, 125)
        self.assertIn("/elsewhere/c.sock", outcome.result["error"]["message"])

    def test_the_addresses_in_their_order(self):
        addresses = {"WFE_CONTAINERD_ADDR": "/from/wfe.sock", "CONTAINERD_ADDRESS": "/from/c.sock"}
        document = {"image": IMAGE, "run": "true"}
        outcome = self.run_step(document, env=addresses,
                                global_options=["--address", "/from/option.sock"])
        self.assertIn("/from/option.sock", outcome.result["error"]["message"])
        outcome = self.run_step(document, env=addresses)
        self.assertIn("/from/wfe.sock", outcome.result["error"]["message"])
        outcome = self.run_step(document, env={**addresses, "WFE_CONTAINERD_ADDR": ""})
        self.assertIn("/from/c.sock", outcome.result["error"]["message"])

    def test_a_huge_file_is_refused(self):
        self.refuse("image: x\nrun: 'true'\n# " + "x" * (8 << 20) + "\n", kind="limit")


class JsonDocuments(IntegrationTest):
    def test_json_documents_are_documents(self):
        path = self.step_file({"image": IMAGE, "run": "echo json"}, name="step.json")
        process = self.executor("run", path)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(json.loads(process.stdout)["output_data"]["unknown.stdout"], "json\n")
