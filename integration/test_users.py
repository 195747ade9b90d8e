# SPDX-License-Identifier: MIT
"""Whom a step runs as: numbers, names of the image, groups."""

from harness import IMAGE, IntegrationTest
from images import add_image
from remote import RemoteTest

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:An App:/srv:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = "root:x:0:\nwheel:x:10:root,app\nvideo:x:44:app\napp:x:1001:\nnogroup:x:65534:\n"
FILES = {"etc/passwd": PASSWD, "etc/group": GROUP}

# What the kernel says, since id(1) needs no file for that.
SCRIPT = "sed -n -e 's/^Uid:.//p' -e 's/^Gid:.//p' -e 's/^Groups:.//p' /proc/self/status"


class Users(IntegrationTest):
    def who(self, image, user=None, **config):
        """uid, gid, the set of all groups"""
        if user is not None:
            config["user"] = user
        data = self.succeed({"image": image, "command": ["sh", "-c", SCRIPT], **config})
        uids, gids, groups = data["unknown.stdout"].splitlines()
        self.assertEqual(len(set(uids.split())), 1)
        return (int(uids.split()[0]), int(gids.split()[0]), set(map(int, groups.split())))

    def test_a_name_has_its_groups(self):
        image = add_image(self, "users", [FILES])
        for user, expected in (("app", (1000, 1001, {10, 44, 1001})),
                               ("1000", (1000, 1001, {10, 44, 1001})),
                               (1000, (1000, 1001, {10, 44, 1001})),
                               ("root", (0, 0, {0, 10})),
                               ("app:wheel", (1000, 10, {10})),
                               ("app:7", (1000, 7, {7})),
                               ("4242:video", (4242, 44, {44})),
                               ("4242", (4242, 0, {0})),
                               ("1000:1000", (1000, 1000, {1000})),
                               (None, (65534, 65534, {65534}))):
            with self.subTest(user=user):
                self.assertEqual(self.who(image, user), expected)

    def test_the_images_user_is_taken_when_asked_for(self):
        for name, of_image, expected in (("named", "app", (1000, 1001, {10, 44, 1001})),
                                         ("numbered", "7:8", (7, 8, {8})),
                                         ("none", "", (0, 0, {0}))):
            with self.subTest(user=of_image):
                image = add_image(self, name, [FILES], {"User": of_image})
                self.assertEqual(self.who(image, "image"), expected)
                # Without being asked for, an image does not decide who runs.
                self.assertEqual(self.who(image), (65534, 65534, {65534}))

    def test_the_files_are_those_that_the_container_sees(self):
        linked = add_image(self, "linked", [
            {"usr/share/passwd": PASSWD, "usr/share/group": GROUP},
            {"etc/.wh.passwd": "", "etc/.wh.group": ""},
            {"etc/passwd": ("link", "/data/passwd"), "etc/group": ("link", "../usr/share/group")},
            {"data": ("link", "usr/share")}])
        self.assertEqual(self.who(linked, "app"), (1000, 1001, {10, 44, 1001}))
        gone = add_image(self, "gone", [{"etc/.wh.passwd": "", "etc/.wh.group": ""}])
        self.refuse(gone, "root", "'root' can't be looked up: the image has no /etc/passwd")
        opaque = add_image(self, "opaque", [{"etc/.wh..wh..opq": "", "etc/group": GROUP}])
        self.refuse(opaque, "root", "the image has no /etc/passwd")
        self.assertEqual(self.who(opaque, "5:wheel"), (5, 10, {10}))

    def refuse(self, image, user, message):
        outcome = self.run_step({"image": image, "user": user, "run": "true"})
        self.assertEqual(outcome.status, 125, outcome.stderr)
        self.assertEqual(outcome.result["error"]["kind"], "input")
        self.assertIs(outcome.result["error"]["retryable"], False)
        self.assertIn(f"user '{user}': ", outcome.result["error"]["message"])
        self.assertIn(message, outcome.result["error"]["message"])

    def test_a_name_that_is_not_there_is_told(self):
        self.refuse(IMAGE, "alice", "'alice' is not in the image's /etc/passwd")
        odd = add_image(self, "odd", config={"User": "a b"})
        outcome = self.run_step({"image": odd, "user": "image", "run": "true"})
        self.assertIn("user 'a b': the image names it, and it is no user", outcome.stderr)
        self.refuse(IMAGE, "root:staff", "'staff' is not in the image's /etc/group")

    def test_a_link_out_of_the_image_leads_nowhere(self):
        image = add_image(self, "outside", [
            {"etc/passwd": ("link", "../../../../../../../../../../etc/passwd-of-the-host")}])
        self.refuse(image, "root", "the image has no /etc/passwd")
        loop = add_image(self, "loop", [{"etc/passwd": ("link", "passwd")}])
        self.refuse(loop, "root", "the image's /etc/passwd: ")

    def test_an_endless_file_is_refused(self):
        image = add_image(self, "huge", [{"etc/passwd": PASSWD * 20000}])
        outcome = self.run_step({"image": image, "user": "app", "run": "true"})
        self.assertEqual(outcome.status, 125)
        self.assertEqual(outcome.result["error"]["kind"], "limit")
        self.assertEqual(self.who(image, "7:7"), (7, 7, {7}))

    def test_names_are_resolved_beside_inputs_of_both_kinds(self):
        image = add_image(self, "beside", [FILES])
        tree = self.make_tree("tree", {"file": "content"})
        for kind in self.input_kinds():
            with self.subTest(inputs_as=kind):
                data = self.succeed(
                    {"image": image, "user": "app", "inputs": {"tree": "/in"},
                     "run": "id -u; cat /in/file"},
                    options=["--artifact", f"tree={tree}", "--inputs-as", kind])
                self.assertEqual(data["unknown.stdout"], "1000\ncontent")


class UsersElsewhere(RemoteTest, Users):
    """The same with a daemon whose files are not at hand: it looks the names up itself."""

    def test_a_snapshotter_without_layers_works_too(self):
        native = ["--snapshotter", "native"]
        image = add_image(self, "native", [FILES])
        data = self.succeed({"image": image, "user": "app", "run": "id -u"}, global_options=native)
        self.assertEqual(data["unknown.stdout"], "1000\n")
        self.ctr("images", "remove", "--sync", image)
