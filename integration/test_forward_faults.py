# SPDX-License-Identifier: MIT
"""The way to a remote daemon that is cut, or slow, at every stage of a step: nothing is done twice,
nothing is left behind, and the result is right or says whether to try again."""

import os
import time

from delayed_forward import DelayedForward
from faulty_way import FaultyWay

# What is asked while the connection is made. A forward that is not there then is not waited for.
QUESTIONS = 3
# Each of so many requests is cut at; all of them are in `scripts/test --faults`.
EVERY = int(os.environ.get("WFE_TEST_CUT_EVERY", "15"))


class CutForwards(FaultyWay):
    def cut_at_requests(self, at, first):
        """At some of the requests, of which there are not the same number in each run: polls and
        others' leftovers come when they will."""
        self.check_whole(*self.run_whole())
        self.forward.reset()
        self.check_whole(*self.run_whole())
        for number in range(first, self.forward.requests - 2, EVERY):
            with self.subTest(request=number):
                self.forward.reset(number, at)
                outcome, content = self.run_whole()
                self.assertEqual(self.forward.cuts, 1)
                if outcome.status != 0 and number <= QUESTIONS:
                    self.judge_loss(outcome, "failed to connect to containerd at ")
                else:
                    self.check_whole(outcome, content)
                self.assert_nothing_left()

    def test_requests_that_never_arrive(self):
        self.cut_at_requests("request", 1)

    def test_requests_that_are_worked_on(self):
        self.cut_at_requests("work", 2)

    def test_answers_that_never_arrive(self):
        self.cut_at_requests("answer", 3)

    def test_in_the_midst_of_an_upload(self):
        filler = os.urandom(4 << 20)
        for megabytes in (1, 3):
            self.forward.reset(sent_bytes=megabytes << 20)
            outcome, content = self.run_whole(filler)
            self.assertEqual(self.forward.cuts, 1)
            self.assertIn("the daemon was lost before the step was started", outcome.stderr)
            self.check_whole(outcome, content)
            self.assert_nothing_left()

    def test_while_the_step_runs(self):
        process = self.start_waiting()
        for away_s in (0.2, 3):
            self.forward.cut(away_s)
            time.sleep(away_s + 1)
        self.finish_waiting(process)

    def test_at_the_steps_end(self):
        process = self.start_waiting()
        self.forward.cut(4)
        self.finish_waiting(process)


class SlowForwards(FaultyWay):
    def make_forward(self):
        return DelayedForward(self.session.remote.socket, 0.05)

    def test_a_hundred_milliseconds(self):
        self.check_whole(*self.run_whole(os.urandom(1 << 20)))
