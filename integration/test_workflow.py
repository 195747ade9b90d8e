# SPDX-License-Identifier: MIT
"""A workflow's containerd steps run in order, and each sees what those before it said."""

import json

from harness import IMAGE, IntegrationTest


def step(name, run, **config):
    return {"name": name, "type": "containerd", "config": {"image": IMAGE, "run": run, **config}}


def workflow(*steps, **more):
    return {"workflow": {"id": "example", "version": 1, "steps": list(steps), **more}}


class Workflow(IntegrationTest):
    def test_steps_run_in_order_and_outputs_are_merged(self):
        data = self.succeed(workflow(
            step("one", "echo '##wfe[output greeting=hello]'; echo first"),
            step("two", "echo \"$GREETING again\"; echo '##wfe[output greeting=bye]'"),
            step("three", "echo \"$GREETING\"")))
        self.assertEqual(data["greeting"], "bye")
        self.assertEqual(data["one.stdout"], "##wfe[output greeting=hello]\nfirst\n")
        self.assertTrue(data["two.stdout"].startswith("hello again\n"))
        self.assertEqual(data["three.stdout"], "bye\n")
        self.assertEqual([data[f"{name}.exit_code"] for name in ("one", "two", "three")], [0] * 3)

    def test_data_reaches_every_step(self):
        data = self.succeed(workflow(step("a", "echo $COLOUR"), step("b", "echo $COLOUR")),
                            data={"colour": "green"})
        self.assertEqual((data["a.stdout"], data["b.stdout"]), ("green\n", "green\n"))

    def test_a_failing_step_ends_the_workflow(self):
        outcome = self.run_step(workflow(
            step("good", "echo '##wfe[output a=1]'"), step("bad", "exit 4"),
            step("never", "echo x")))
        self.assertEqual(outcome.status, 4, outcome.stderr)
        self.assertIn("bad", outcome.result["error"]["message"])
        data = outcome.result["output_data"]
        self.assertEqual((data["a"], data["bad.exit_code"]), ("1", 4))
        self.assertNotIn("never.exit_code", data)

    def test_one_step_can_be_chosen(self):
        document = workflow(step("one", "echo 1"), step("two", "echo 2"))
        data = self.succeed(document, options=["--step", "two"])
        self.assertEqual(data["two.stdout"], "2\n")
        self.assertNotIn("one.stdout", data)

    def test_an_unknown_step_is_refused_with_the_names_there_are(self):
        outcome = self.run_step(workflow(step("one", "echo 1"), step("two", "echo 2")),
                                options=["--step", "three"])
        self.assertEqual(outcome.status, 125)
        for name in ("three", "one", "two"):
            self.assertIn(name, outcome.stderr)

    def test_steps_of_other_types_are_passed_over(self):
        other = {"name": "shell", "type": "shell", "config": {"run": "exit 1"}}
        outcome = self.run_step(workflow(other, step("mine", "echo ok")))
        self.assertEqual(outcome.status, 0, outcome.stderr)
        self.assertEqual(outcome.result["output_data"]["mine.stdout"], "ok\n")

    def test_yaml_with_merge_keys_and_interpolation(self):
        text = f"""
workflow:
  id: merged
  version: 1
  steps:
    - name: greet
      type: containerd
      config: &base
        image: {IMAGE}
        env: {{WHO: "((person.name))"}}
        run: echo "hello $WHO"
    - name: again
      type: containerd
      config:
        <<: *base
        run: echo "again $WHO ((person.age))"
"""
        data = self.succeed(text, data={"person": {"name": "Ada", "age": 36}})
        self.assertEqual(data["greet.stdout"], "hello Ada\n")
        self.assertEqual(data["again.stdout"], "again Ada 36\n")

    def test_every_steps_result_is_in_one_object_on_stdout(self):
        outcome = self.run_step(workflow(step("a", "echo 1"), step("b", "echo 2")))
        self.assertEqual(json.loads(outcome.stdout), outcome.result)
