# SPDX-License-Identifier: MIT
"""Limits of memory, processors, processes, open files and shared memory: that they bite."""

from harness import IMAGE, IntegrationTest

MIB = 1 << 20
# tail keeps what has no line's end in memory, and grows.
GROW = "tail /dev/zero"


class Limits(IntegrationTest):
    def output(self, run, **config):
        data = self.succeed({"image": IMAGE, "run": run, **config})
        return data["unknown.stdout"].strip()

    def fail_for_memory(self, **config):
        outcome = self.run_step({"image": IMAGE, "memory": "24m", **config})
        self.assertEqual(outcome.result["error"]["kind"], "oom", outcome.stderr)
        self.assertIs(outcome.result["proceed"], False)
        self.assertIs(outcome.result["error"]["retryable"], False)
        self.assertIn(f"its limit of {24 * MIB} bytes of memory",
                      outcome.result["error"]["message"])
        return outcome

    def test_a_step_that_needs_more_memory_is_told_so(self):
        outcome = self.fail_for_memory(command=["tail", "/dev/zero"])
        self.assertEqual(outcome.status, 137)
        self.assertEqual(outcome.result["error"]["exit_code"], 137)
        self.assertEqual(outcome.result["output_data"]["unknown.exit_code"], 137)

    def test_so_is_one_whose_child_is_killed(self):
        outcome = self.fail_for_memory(run=GROW + "; exit 3")
        self.assertEqual(outcome.status, 3)

    def test_every_one_is_told(self):
        """However soon it dies."""
        for _ in range(5):
            self.fail_for_memory(command=["tail", "/dev/zero"])

    def test_a_kill_is_no_want_of_memory(self):
        for config in ({"memory": "24m"}, {}):
            outcome = self.run_step({"image": IMAGE, "run": "sh -c 'kill -9 $$'; exit $?",
                                     **config})
            self.assertEqual(outcome.status, 137)
            self.assertEqual(outcome.result["error"]["kind"], "exit")

    def test_a_step_that_lives_on_succeeds(self):
        self.assertEqual(self.output(GROW + "; echo on", memory="24m"), "on")

    def cgroup_values(self, names, **config):
        """{name: its first word} of those of a running step's cgroup files that are there, whatever
        the version."""
        process = self.start_step({"image": IMAGE, "run": "echo up; sleep 1000", "grace": 0,
                                   **config})
        while b"up" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        places = [f"/sys/fs/cgroup{each}/{self.namespace}/*/{name}"
                  for each in ("", "/*") for name in names]
        script = (f"for file in {' '.join(places)}; do "
                  '[ ! -e "$file" ] || echo "${file##*/} $(cat "$file")"; done')
        found = dict(line.split()[:2] for line in self.on_its_machine(script).splitlines())
        process.terminate()
        process.communicate(timeout=60 * self.patience())
        return found

    def test_memory_is_limited(self):
        found = self.cgroup_values(("memory.limit_in_bytes", "memory.max"), memory="64m")
        self.assertEqual(set(found.values()), {str(64 * MIB)})

    def test_swap_is_limited_as_well(self):
        self.need_this_machine("what another one's kernel can count is not known")
        # Version 1 tells the sum of both, version 2 that of swap alone.
        found = self.cgroup_values(("memory.memsw.limit_in_bytes", "memory.swap.max"), memory="64m")
        expected = {"memory.memsw.limit_in_bytes": 128 * MIB, "memory.swap.max": 64 * MIB}
        self.assertEqual(found, {name: str(expected[name]) for name in found})

    def test_processors_are_limited(self):
        found = self.cgroup_values(("cpu.cfs_quota_us", "cpu.max"), cpu=0.25)
        self.assertEqual(set(found.values()), {"25000"})

    def test_processes_are_limited(self):
        script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo all"
        outcome = self.run_step({"image": IMAGE, "run": script, "pids": 8})
        self.assertNotEqual(outcome.status, 0, outcome.stdout)
        self.assertIn("can't fork", outcome.result["output_data"]["unknown.stderr"])
        self.assertEqual(self.output(script, pids=64), "all")

    def test_open_files_are_limited(self):
        self.assertEqual(self.output("ulimit -Sn; ulimit -Hn"), "1024\n1024")
        self.assertEqual(self.output("ulimit -Sn; ulimit -Hn", nofile=64), "64\n64")
        self.assertEqual(self.output("ulimit -Hn", nofile=2048), "2048")

    def test_shared_memory_has_its_size(self):
        script = "df -k /dev/shm | tail -n 1 | awk '{print $2}'"
        self.assertEqual(self.output(script), "65536")
        self.assertEqual(self.output(script, shm_size="1m"), "1024")
        outcome = self.run_step({"image": IMAGE, "shm_size": "1m",
                                 "run": "dd if=/dev/zero of=/dev/shm/x bs=1024k count=2"})
        self.assertEqual(outcome.status, 1)
        self.assertIn("No space left", outcome.result["output_data"]["unknown.stderr"])
