"""The one clock. A deadline is made when a notice is seen, passed down, subdivided, never extended."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


def boottime() -> float:
    """Seconds since boot, a suspended or hibernated time included (CLOCK_BOOTTIME).

    No wall clock: NTP may step it. Not CLOCK_MONOTONIC either: that one stands still while an
    instance is hibernated, and the group's timeouts do not.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Deadline:
    """A point on the boot clock after which there is no more time.

    A deadline made from another one (`within`) is never later than it, even when that
    one is tightened afterwards.

    Args:
        at: seconds on the boot clock.
        clock: what tells the time in seconds; tests hand in their own.
    """

    def __init__(self, at: float, clock: Clock = boottime) -> None:
        self._at = at
        self._clock = clock
        self._parent: Deadline | None = None
        self._reserve = 0.0

    @classmethod
    def after(cls, seconds: float, clock: Clock = boottime) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(clock() + seconds, clock)

    @property
    def at(self) -> float:
        """The point itself, in seconds on the boot clock."""
        if self._parent is None:
            return self._at
        return min(self._at, self._parent.at - self._reserve)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self._clock() >= self.at

    def now(self) -> float:
        """What the deadline's own clock says, in seconds."""
        return self._clock()

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - self._clock())

    def within(self, seconds: float, reserve: float = 0.0) -> Deadline:
        """A deadline `seconds` from now that leaves the last `reserve` seconds of this one untouched."""
        part = Deadline(self._clock() + seconds, self._clock)
        part._parent = self
        part._reserve = reserve
        return part

    def tighten(self, at: float) -> bool:
        """Bring the deadline forward to `at` (boot clock); a later `at` changes nothing.

        Returns:
            Whether there is less time than before.
        """
        if at >= self.at:
            return False
        self._at = at
        return True

    def timeout(self, most: float) -> float:
        """A time limit in seconds for one call: `most`, or what is left. Never zero, which libraries
        take for "no limit".
        """
        return max(0.001, min(most, self.remaining()))
