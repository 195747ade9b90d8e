# SPDX-License-Identifier: MIT
"""The README's examples run as they stand.

A block of `sh` after the comment <!-- example --> is run; when the comment says
<!-- example: prints --> the next block is what it prints, "…" standing for anything.
"""

import os
import re
import subprocess

from harness import IntegrationTest, repository_file

EXAMPLE = re.compile(r"<!-- example(?P<prints>: prints)? -->\n```sh\n(?P<script>.*?)```\n"
                     r"(?:\n(?:[^`<\n][^\n]*\n)*\n?```[a-z]*\n(?P<output>.*?)```\n)?", re.DOTALL)


def examples():
    with open(repository_file("README.md"), encoding="utf-8") as file:
        return list(EXAMPLE.finditer(file.read()))


def as_pattern(text):
    return "".join(".*?" if part == "\u2026" else re.escape(part)
                   for part in re.split("(\u2026)", text))


class Readme(IntegrationTest):
    def test_the_examples_run_in_order(self):
        self.assertGreaterEqual(len(examples()), 3)
        # The README speaks of `localhost/busybox` in the default namespace.
        programs = [os.path.dirname(self.session.executor), os.path.dirname(self.session.artifactfs)]
        wrapper = self.path("bin")
        self.write("bin/wfe-containerd", "#!/bin/sh\nexec '%s' --namespace '%s' \"$@\"\n" % (
            self.session.executor, self.namespace), mode=0o755)
        environment = {**self.environment,
                       "PATH": ":".join([wrapper, *programs, self.environment["PATH"]])}
        os.symlink(repository_file("examples"), self.path("examples"))
        os.symlink(repository_file("scripts"), self.path("scripts"))
        for example in examples():
            script = example["script"]
            with self.subTest(script=script):
                process = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", script], cwd=self.tmp, env=environment,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, timeout=120)
                self.assertEqual(process.returncode, 0, process.stderr)
                if example["prints"]:
                    self.assertIsNotNone(example["output"], "the block to compare with is missing")
                    self.assertRegex(process.stdout, re.compile(
                        "^" + as_pattern(example["output"].strip()) + "$", re.DOTALL | re.MULTILINE))
