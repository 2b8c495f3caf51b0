"""Runs a program, writes what it took to a file: `python -I -S launch.py FILE SECONDS PROGRAM ARGUMENT...`.

A process of its own, and a small one (10 MiB): to the kernel, a program's peak memory is at least that of
who has started it.
"""

import json
import os
import signal
import sys
import time

where, limit, *argv = sys.argv[1:]
began = time.monotonic()
child = os.posix_spawnp(argv[0], argv, os.environ, setpgroup=0)
for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: os.killpg(child, signal.SIGKILL))
signal.alarm(int(limit))
_, status, used = os.wait4(child, 0)
took = {
    "seconds": time.monotonic() - began,
    "processor": used.ru_utime + used.ru_stime,  # of all that it started and waited for, too
    "memory": used.ru_maxrss / 1024,  # of the largest of them
    "code": os.waitstatus_to_exitcode(status),
}
with open(where, "w") as file:
    json.dump(took, file)
