# SPDX-License-Identifier: MIT
"""Images: what a missing one is told, and how one comes in without a registry."""

import json
import os
import subprocess

from harness import IMAGE, IntegrationTest


class Images(IntegrationTest):
    def test_a_missing_image_is_told_how_to_bring_it_in(self):
        outcome = self.run_step({"image": "nowhere/none:1", "pull": "never", "run": "true"})
        self.assertEqual(outcome.status, 125)
        error = outcome.result["error"]
        self.assertEqual(error["kind"], "input")
        self.assertIs(error["retryable"], False)
        self.assertIn(f"image 'nowhere/none:1' is not in containerd (namespace "
                      f"'{self.namespace}'): bring it in with `wfe-containerd pull "
                      f"nowhere/none:1`", error["message"])

    def test_pull_never_uses_the_image_that_is_there(self):
        data = self.succeed({"image": IMAGE, "pull": "never", "run": "test -x /bin/busybox"})
        self.assertEqual(data["unknown.exit_code"], 0)

    def sources(self):
        skopeo = {"oci-archive": "oci-archive.tar", "docker-archive": "docker-archive.tar"}
        yield "oci:" + self.session.image_dir, None
        yield f"oci:{self.session.image_dir}:latest", None
        yield "oci-archive:" + self.session.image_archive, None
        for transport, name in skopeo.items():
            path = self.path(name)
            subprocess.run(
                ["skopeo", "copy", "--quiet", "--insecure-policy",
                 f"oci:{self.session.image_dir}:latest",
                 f"{transport}:{path}:example.org/team/box:1.2"], check=True,
                env=self.environment)
            yield f"{transport}:{path}", "example.org/team/box:1.2"

    def forget_image(self):
        for image in self.ctr("images", "list", "--quiet").split():
            self.ctr("images", "remove", "--sync", image)
        self.assertEqual(self.ctr("snapshots", "list").splitlines()[1:], [])

    def test_every_kind_of_archive_is_brought_in_and_runs(self):
        for source, name in self.sources():
            with self.subTest(source=source):
                self.forget_image()
                process = self.executor("pull", source)
                self.assertEqual(process.returncode, 0, process.stderr)
                expected = name or IMAGE
                self.assertEqual(self.ctr("images", "list", "--quiet").split(), [expected])
                listed = self.ctr("images", "check")
                self.assertIn("complete", listed)
                data = self.succeed({"image": expected, "run": "echo from $0"})
                self.assertEqual(data["unknown.exit_code"], 0)
                self.ctr("run", "--rm", expected, "by-ctr", "true")

    def test_an_image_can_be_given_a_name(self):
        process = self.executor("pull", "--name", "example.org/renamed:7",
                                "oci:" + self.session.image_dir)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("example.org/renamed:7", self.ctr("images", "list", "--quiet").split())
        self.succeed({"image": "example.org/renamed:7", "run": "true"})

    def test_short_names_are_found(self):
        process = self.executor("pull", "--name", "mybox", "oci:" + self.session.image_dir)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("docker.io/library/mybox:latest",
                      self.ctr("images", "list", "--quiet").split())
        for name in ("mybox", "mybox:latest", "docker.io/library/mybox"):
            self.succeed({"image": name, "run": "true"})

    def test_bringing_it_in_twice_is_fine(self):
        for _ in range(2):
            process = self.executor("pull", "oci:" + self.session.image_dir)
            self.assertEqual(process.returncode, 0, process.stderr)

    def test_the_image_survives_the_collector(self):
        self.forget_image()
        process = self.executor("pull", "oci:" + self.session.image_dir)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.ctr("leases", "create", "--id", "nudge", "--expires", "1h")
        self.ctr("leases", "delete", "--sync", "nudge")
        self.assertIn("complete", self.ctr("images", "check"))
        self.succeed({"image": IMAGE, "run": "true"})

    def test_two_pulls_at_once_do_not_collide(self):
        self.forget_image()
        processes = [subprocess.Popen(
            self.executor_command("pull", "oci:" + self.session.image_dir), env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for _ in range(4)]
        for process in processes:
            _, stderr = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0, stderr)
        self.succeed({"image": IMAGE, "run": "true"})

    def test_a_source_that_is_not_there_is_named(self):
        for source in ("oci:/no/such/dir", "oci-archive:/no/such.tar",
                       "docker-archive:/no/such.tar"):
            with self.subTest(source=source):
                process = self.executor("pull", source)
                self.assertEqual(process.returncode, 125, process.stderr)
                self.assertIn("/no/such", process.stderr)

    def test_a_path_alone_is_refused_with_the_ways_to_say_what_it_is(self):
        for source in (self.session.image_archive, "./image.tar"):
            process = self.executor("pull", source)
            self.assertEqual(process.returncode, 125, process.stderr)
            self.assertIn(f"'{source}' is not an image reference", process.stderr)
            self.assertIn("oci-archive:FILE", process.stderr)

    def test_a_tag_that_is_not_there_is_named(self):
        process = self.executor("pull", f"oci:{self.session.image_dir}:absent")
        self.assertEqual(process.returncode, 125)
        self.assertIn("absent", process.stderr)

    def test_a_damaged_blob_is_refused(self):
        self.forget_image()
        broken = self.path("broken")
        subprocess.run(["cp", "-r", self.session.image_dir, broken], check=True)
        with open(os.path.join(broken, "index.json"), encoding="utf-8") as file:
            manifest = json.load(file)["manifests"][0]["digest"].removeprefix("sha256:")
        with open(os.path.join(broken, "blobs/sha256", manifest), encoding="utf-8") as file:
            layer = json.load(file)["layers"][0]["digest"].removeprefix("sha256:")
        with open(os.path.join(broken, "blobs/sha256", layer), "r+b") as file:
            file.seek(1000)
            file.write(b"damage")
        process = self.executor("pull", "oci:" + broken)
        self.assertEqual(process.returncode, 125, process.stderr)
        self.assertIn(layer, process.stderr)
        self.assertEqual(self.ctr("images", "list", "--quiet").split(), [])

    def test_an_image_that_ctr_imported_without_unpacking_runs(self):
        self.forget_image()
        self.ctr("images", "import", "--no-unpack", self.session.image_archive)
        self.succeed({"image": IMAGE, "run": "true"})
