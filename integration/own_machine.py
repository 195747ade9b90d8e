# SPDX-License-Identifier: MIT
"""Tests with a virtual machine of their own (integration/vm), which shares nothing with us."""

import tempfile

from harness import IntegrationTest, Session
from vm.machine import Machine


class MachineSession(Session):
    netem = None

    def __init__(self):
        machine = Machine(tempfile.mkdtemp(prefix="wfe-vm-"))
        machine.start(netem=self.netem)
        try:
            super().__init__(machine.variables()["WFE_CONTAINERD_ADDR"])
        except BaseException:
            machine.stop()
            raise
        self.machine = machine
        self.io_dir = None

    def close(self):
        super().close()
        self.machine.stop()


class SlowSession(MachineSession):
    netem = "delay 100ms loss 1%"


class MachineTest(IntegrationTest):
    """A machine for the tests of a class."""

    make_session = MachineSession

    @classmethod
    def setUpClass(cls):
        cls.session = cls.make_session()
        cls.addClassCleanup(cls.session.close)

    def setUp(self):
        super().setUp()
        self.machine = self.session.machine
