# SPDX-License-Identifier: MIT
"""Paths of a step's container that become artifacts."""

import json
import os
import tarfile

from harness import IMAGE, IntegrationTest
from images import add_image
from remote import RemoteTest


class Outputs(IntegrationTest):
    def take(self, config, **options):
        """Runs a step with outputs; returns what the artifact of `out` has: {name: tar entry}."""
        data = self.succeed({"image": IMAGE, "user": "0:0", **config}, **options)
        return self.entries(data["out"])

    def entries(self, reference):
        got = self.artifactfs("get", reference["__wfe_artifact"], "--output", self.path("got.tgz"),
                              env={"WFE_ARTIFACT_STORE": self.store})
        self.assertEqual(got.returncode, 0, got.stderr)
        with tarfile.open(self.path("got.tgz")) as archive:
            found = {entry.name: (entry, entry.isreg() and archive.extractfile(entry).read())
                     for entry in archive}
        os.unlink(self.path("got.tgz"))
        return found

    def refuse(self, config, words, kind="input"):
        outcome = self.run_step({"image": IMAGE, "user": "0:0", **config})
        self.assertEqual(outcome.status, 125, outcome.stderr)
        error = outcome.result["error"]
        self.assertIn(words, error["message"])
        self.assertEqual(error["kind"], kind)
        self.assertIs(error["retryable"], False)

    def test_a_directory(self):
        found = self.take({
            "run": "mkdir -p /work/out/sub; cd /work/out; echo one >file; chmod 640 file;"
                   "ln -s file link; ln file hard; : >sub/empty; echo no >/work/other;"
                   "echo no >/work/outside",
            "outputs": {"out": "/work/out"}})
        self.assertEqual(sorted(found),
                         [".", "./file", "./hard", "./link", "./sub", "./sub/empty"])
        self.assertEqual(found["./file"][1], b"one\n")
        self.assertEqual(found["./file"][0].mode, 0o640)
        self.assertEqual(found["./link"][0].linkname, "file")

    def test_a_file(self):
        found = self.take({"run": "echo result >/answer.txt", "outputs": {"out": "/answer.txt"}})
        self.assertEqual({name: data for name, (_, data) in found.items()},
                         {"answer.txt": b"result\n"})

    def test_a_file_below_tmp_by_the_default_user(self):
        found = self.take({"user": "65534:65534", "run": "echo x >/tmp/x",
                           "outputs": {"out": "/tmp/x"}})
        self.assertEqual(found["x"][1], b"x\n")

    def test_an_empty_directory(self):
        self.assertEqual(list(self.take({"run": "mkdir /none", "outputs": {"out": "/none"}})),
                         ["."])

    def test_what_the_image_had_there_belongs_to_it(self):
        image = add_image(self, "had", [
            {"data/kept": "kept", "data/changed": "old", "data/removed": "gone",
             "data/folder/inner": "inner", "database": "no"}])
        found = self.take({
            "image": image, "outputs": {"out": "/data"},
            "run": "cd /data; echo new >changed; rm removed; rm -r folder; echo more >added"})
        self.assertEqual({name: data for name, (_, data) in found.items() if data},
                         {"./kept": b"kept", "./changed": b"new\n", "./added": b"more\n"})
        untouched = self.take({"image": image, "run": "true",
                               "outputs": {"out": "/data/folder/inner"}})
        self.assertEqual(untouched["inner"][1], b"inner")

    def test_a_folder_that_was_made_anew_has_nothing_of_the_old_one(self):
        image = add_image(self, "anew", [{"data/old": "old"}])
        found = self.take({"image": image, "outputs": {"out": "/data"},
                           "run": "rm -r /data; mkdir /data; echo new >/data/new"})
        self.assertEqual(sorted(found), [".", "./new"])

    def test_several_outputs_go_into_the_next_steps_inputs(self):
        workflow = {"workflow": {"steps": [
            {"name": "make", "type": "containerd", "config": {
                "image": IMAGE, "user": "0:0", "outputs": {"tree": "/tree", "note": "/note.txt"},
                "run": "mkdir /tree; echo leaf >/tree/leaf; echo note >/note.txt;"
                       "echo '##wfe[output word=said]'"}},
            {"name": "use", "type": "containerd", "config": {
                "image": IMAGE, "inputs": {"tree": "/in/tree", "note": "/in/note"},
                "run": "cat /in/tree/leaf /in/note/note.txt"}}]}}
        outcome = self.run_step(workflow)
        self.assertEqual(outcome.status, 0, outcome.stderr)
        data = outcome.result["output_data"]
        self.assertEqual(data["use.stdout"], "leaf\nnote\n")
        self.assertEqual(data["word"], "said")
        self.assertEqual(list(data["tree"]), ["__wfe_artifact"])

    def test_the_same_tree_is_the_same_artifact(self):
        step = {"image": IMAGE, "user": "0:0", "outputs": {"out": "/t"},
                "run": "mkdir /t; echo x >/t/x; touch -d @1000 /t/x /t"}
        first, second = (self.succeed(step)["out"] for _ in range(2))
        self.assertEqual(first, second)

    def test_an_output_around_an_input(self):
        tree = self.make_tree("tree", {"given": "given"})
        for kind in self.input_kinds():
            with self.subTest(inputs_as=kind):
                found = self.take({"inputs": {"tree": "/work/in"}, "outputs": {"out": "/work"},
                                   "run": "echo made >/work/made"},
                                  options=["--artifact", f"tree={tree}", "--inputs-as", kind])
                self.assertEqual(sorted(found), [".", "./in", "./in/given", "./made"])

    def test_a_step_that_failed_has_none(self):
        outcome = self.run_step({"image": IMAGE, "user": "0:0", "outputs": {"out": "/x"},
                                 "run": "echo x >/x; exit 3"})
        self.assertEqual(outcome.status, 3)
        self.assertNotIn("out", outcome.result["output_data"])

    def test_what_is_not_there_is_named(self):
        self.refuse({"run": "true", "outputs": {"out": "/nowhere/x"}},
                    "output 'out': the step has left no /nowhere/x")
        self.refuse({"run": "echo x >/dev/shm/x", "outputs": {"out": "/dev/shm/x"}},
                    "in the container's own file system")

    def test_what_can_not_be_an_artifact_is_named(self):
        self.refuse({"run": "ln -s /etc /x", "outputs": {"out": "/x"}},
                    "/x is a symbolic link")
        self.refuse({"run": "mkdir /x; mknod /x/null c 1 3", "outputs": {"out": "/x"}},
                    "/x/null is a device")
        self.refuse({"run": "mkdir /a /x; echo a >/a/a; ln /a/a /x/b", "outputs": {"out": "/x"}},
                    "which lies outside of /x")

    def test_a_link_does_not_lead_to_the_daemons_files(self):
        self.refuse({"run": "mkdir /y; ln -s /../../../../etc /y/z",
                     "outputs": {"out": "/y/z/passwd"}}, "the step has left no /y/z/passwd")

    def test_a_volumes_path_is_refused_before_anything_runs(self):
        self.need_this_machine("the volume's source is not there")
        outcome = self.run_step({"image": IMAGE, "run": "true", "outputs": {"out": "/v/x"},
                                 "volumes": [{"source": self.tmp, "target": "/v"}]})
        self.assertEqual(outcome.status, 125)
        self.assertIn("outputs.out: found '/v/x', which is in volumes[0]", outcome.stderr)

    def test_a_big_file(self):
        reference = self.succeed({
            "image": IMAGE, "user": "0:0", "outputs": {"out": "/big"},
            "run": "mkdir /big; head -c 60000000 /dev/zero >/big/zeros"})["out"]
        self.assertEqual(self.entries(reference)["./zeros"][0].size, 60000000)


class OutputsElsewhere(RemoteTest, Outputs):
    """The same with a daemon that shares nothing."""


class Documents(IntegrationTest):
    def test_wrong_ones_are_named(self):
        for outputs, words in (({"a/b": "/x"}, "an artifact's name"),
                               ({"x": "relative"}, "outputs.x"),
                               ({"x": "/"}, "outputs.x"),
                               ([], "outputs")):
            with self.subTest(outputs=json.dumps(outputs)):
                outcome = self.run_step({"image": IMAGE, "run": "true", "outputs": outputs})
                self.assertEqual(outcome.status, 125)
                self.assertIn(words, outcome.stderr)
