"""So many bytes a second and no more: for what may wait, on a link that others need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lifecycle_agent.deadline import Clock, Deadline, boottime


class Pace:
    """A limit that all who send share.

    What goes takes the time that it would take on a link of that rate, and the next one waits for it.
    Nothing is saved up while nobody sends: there is no burst later.

    Args:
        rate: bytes a second.
        clock, sleep: seconds; tests hand in their own.
    """

    def __init__(
        self, rate: float, clock: Clock = boottime, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free = 0.0  # when the link is free for the next one

    def wait(self, size: int, until: Deadline) -> None:
        """Return when `size` bytes may go, or at `until`: whoever asks looks at that anyway."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._free)
            self._free = turn + size / self._rate
        if turn > now:
            self._sleep(until.timeout(turn - now))
