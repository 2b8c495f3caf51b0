"""The boot clock of a world, which jumps for all its processes at once."""

from __future__ import annotations

import struct
import time
from pathlib import Path

from lifecycle_agent.deadline import boottime

FOR_PYTHON = Path(__file__).parent / "clock_of_python"  # to be in PYTHONPATH


class Clock:
    """The boot clock of the world: it goes on while the machine sleeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slept = 0.0
        self._write()

    def __call__(self) -> float:
        return boottime() + self._slept

    def wall(self) -> float:
        """The wall clock, which has slept as long."""
        return time.time() + self._slept

    def jump(self, seconds: float) -> None:
        """So many seconds have passed for all but those that slept."""
        self._slept += seconds
        self._write()

    def _write(self) -> None:
        # In place and at once: it is mapped into the agent's memory.
        with open(self.path, "r+b" if self.path.exists() else "wb") as file:
            file.write(struct.pack("d", self._slept))
