# SPDX-License-Identifier: MIT
"""wfe-artifactfs as a user types it: put, get, ls, rm, gc, layer."""

import sys
import unittest

PROGRAM = sys.argv.pop(1)

if __name__ == "__main__":
    unittest.main()
