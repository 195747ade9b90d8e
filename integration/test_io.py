# SPDX-License-Identifier: MIT
"""A step's output: any length, any bytes, by FIFO, by file and by snapshot."""

import json
import os

from harness import IMAGE, IntegrationTest


class Io(IntegrationTest):
    def test_a_last_line_without_newline_is_kept(self):
        for mode in self.io_kinds():
            with self.subTest(io=mode):
                data = self.succeed({"image": IMAGE, "run": "printf 'a\\nb'; printf 'c' >&2"},
                                    options=["--io", mode])
                self.assertEqual(data["unknown.stdout"], "a\nb")
                self.assertEqual(data["unknown.stderr"], "c")

    def test_a_directive_on_a_last_line_without_newline_counts(self):
        for mode in self.io_kinds():
            with self.subTest(io=mode):
                data = self.succeed({"image": IMAGE, "run": "printf '##wfe[output k=v]'"},
                                    options=["--io", mode])
                self.assertEqual(data["k"], "v")

    def test_ten_megabytes_are_cut_in_the_result_and_whole_in_the_raw_file(self):
        for mode in self.io_kinds():
            with self.subTest(io=mode):
                raw = self.path("raw-" + mode)
                data = self.succeed(
                    {"name": "big", "type": "containerd", "config": {
                        "image": IMAGE, "output_limit": "1m",
                        "run": "yes 0123456789abcde | head -c 10485760; "
                               "echo '##wfe[output after=all]'"}},
                    options=["--io", mode, "--raw", raw])
                expected = b"0123456789abcde\n" * 655360 + b"##wfe[output after=all]\n"
                self.assertEqual(data["big.stdout"], expected[:1 << 20].decode())
                self.assertEqual(data["big.stdout_truncated"], len(expected))
                self.assertEqual(data["after"], "all")
                with open(os.path.join(raw, "big.stdout"), "rb") as file:
                    self.assertTrue(file.read() == expected)

    def test_output_below_the_limit_is_not_marked(self):
        data = self.succeed({"image": IMAGE, "run": "echo short"})
        self.assertNotIn("unknown.stdout_truncated", data)

    def test_bytes_that_are_not_utf8_are_replaced_in_the_result_and_kept_raw(self):
        for mode in self.io_kinds():
            with self.subTest(io=mode):
                raw = self.path("raw-" + mode)
                data = self.succeed({"image": IMAGE, "run": "printf 'a\\377b\\000c\\303\\251'"},
                                    options=["--io", mode, "--raw", raw])
                self.assertEqual(data["unknown.stdout"], "a\ufffdb\ufffdc\u00e9")
                with open(os.path.join(raw, "unknown.stdout"), "rb") as file:
                    self.assertEqual(file.read(), b"a\xffb\x00c\xc3\xa9")

    def test_both_streams_may_be_long_at_once(self):
        data = self.succeed({"image": IMAGE, "run":
            "yes out | head -c 2000000 & yes err | head -c 2000000 >&2; wait"})
        self.assertEqual(len(data["unknown.stdout"]), 2000000)
        self.assertEqual(len(data["unknown.stderr"]), 2000000)

    def test_a_reader_that_goes_away_takes_nothing_with_it(self):
        for mode in self.io_kinds():
            with self.subTest(io=mode):
                process = self.start_step(
                    {"image": IMAGE, "output_limit": "16m", "run":
                     "echo up; sleep 0.5; yes 0123456789abcde | head -c 10485760; exit 3"},
                    options=["--io", mode])
                os.read(process.stderr.fileno(), 1)
                process.stderr.close()
                result = json.loads(process.stdout.read())
                self.assertEqual(process.wait(), 3)
                self.assertEqual(len(result["output_data"]["unknown.stdout"]), 3 + 10485760)

    def test_a_shared_directory_carries_files_of_mode_0666(self):
        self.need_this_machine("a folder of ours is none of its")
        shared = self.path("shared")
        os.mkdir(shared)
        process = self.start_step({"image": IMAGE, "run": "echo up; sleep 2"},
                                  env={"WFE_IO_DIR": shared})
        self.await_output(process, b"up\n")
        folders = os.listdir(shared)
        self.assertEqual(len(folders), 1, folders)
        self.assertTrue(folders[0].startswith("wfe-io-"), folders)
        for name in ("stdout", "stderr"):
            mode = os.stat(os.path.join(shared, folders[0], name)).st_mode
            self.assertEqual(oct(mode), oct(0o100666))
        stdout, stderr = process.communicate(timeout=30 * self.patience())
        self.assertEqual(process.returncode, 0, stderr)
        self.assertEqual(json.loads(stdout)["output_data"]["unknown.stdout"], "up\n")
        self.assertEqual(os.listdir(shared), [])

    def test_the_programs_memory_does_not_grow_with_the_output(self):
        self.need_this_machine("so much output takes it too long")
        process = self.start_step({"image": IMAGE, "output_limit": "16k",
                                   "run": "yes 0123456789abcde | head -c 200000000"},
                                  options=["-q"])
        peak = 0
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            while os.read(process.stderr.fileno(), 1 << 20):
                file.seek(0)
                for line in file:
                    if line.startswith("VmHWM:"):
                        peak = max(peak, int(line.split()[1]))
        process.communicate(timeout=60 * self.patience())
        self.assertEqual(process.returncode, 0)
        self.assert_peak(peak / 1024, 64)
