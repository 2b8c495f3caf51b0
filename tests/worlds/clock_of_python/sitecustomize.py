"""The clocks of a machine that has slept: Python reads this at its start, where PYTHONPATH has its directory.

While an instance is hibernated the boot clock and the wall clock go on, and CLOCK_MONOTONIC stands still.
WORLD_CLOCK names a file with the seconds slept so far, a double; whoever changes it moves the clocks of all
processes at once.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

if "WORLD_CLOCK" in os.environ:
    with open(os.environ["WORLD_CLOCK"], "rb") as _file:
        _view = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)
    _gettime, _time = time.clock_gettime, time.time

    def _slept() -> float:
        return float(struct.unpack_from("d", _view)[0])

    def _clock_gettime(clock: int) -> float:
        return _gettime(clock) + (_slept() if clock == time.CLOCK_BOOTTIME else 0.0)

    time.clock_gettime = _clock_gettime
    time.time = lambda: _time() + _slept()
