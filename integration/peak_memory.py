# SPDX-License-Identifier: MIT
"""The most memory that a program had. Started by a small process: what a process's starter had in memory
counts as its own."""

import os
import subprocess
import sys


def command_with_peak(command):
    """The same command, whose stdout is then the peak in KiB; what it prints there itself is dropped."""
    return [sys.executable, os.path.abspath(__file__), *command]


def main():
    with subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    print(usage.ru_maxrss)
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
