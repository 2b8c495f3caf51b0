"""How hard to compress: a little where the link is fast, as hard as there is time for where it is slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle_agent.deadline import Clock, Deadline, boottime

TICK = 0.2  # how late a deadline that was brought forward may be noticed
# Bytes under way from which on the time they take is the link's, and not a round trip's or the server's: what
# 100 Mbit/s carry in 20 ms.
ENOUGH = 256 * 1024
# Bytes of an original in a second that hard compression takes, before it was tried on this machine and these
# files: level 7 of zstd took 150 MiB of log text in a second where this was written, many are slower.
FIRST_GUESS = 50 * 1024 * 1024


class Effort:
    """Weighs what is on its way against what is to be compressed.

    Hard compression costs nothing as long as no other thread is in a hurry with the processor, and the link
    is busy meanwhile with what was handed to it before. One source at a time: it takes memory, too.

    Args:
        clock: seconds; tests hand in their own.
    """

    def __init__(self, clock: Clock = boottime) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._hurried = 0
        self._hard = threading.Lock()
        self._queued = 0  # bytes that are being compressed hard, or wait for it
        self._speed = float(FIRST_GUESS)
        self._under_way = 0
        self._sent = 0
        self._busy = 0.0  # seconds in which enough was under way
        self._looked = 0.0

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """While `size` bytes are being sent."""
        self._move(size)
        try:
            yield
        finally:
            self._move(-size)

    @contextmanager
    def packing(self, size: int, until: Deadline, known: bool | None = None) -> Iterator[bool]:
        """While `size` bytes of an original are compressed, or fewer; says whether to do it hard.

        Args:
            until: how long to wait for the one that is compressed hard now.
            known: what was decided before, where the same must come out again; None to have it decided.
        """
        with self._lock:
            time = self._seconds_under_way() > (self._queued + size) / self._speed
            hard = (time and not self._hurried) if known is None else known
            self._queued += size if hard else 0
            self._hurried += 0 if hard else 1
        try:
            if not hard:
                yield False
                return
            while not self._hard.acquire(timeout=until.timeout(TICK)):
                if until.passed:
                    raise TimeoutError("no turn to compress hard in time")
            try:
                began = self._clock()
                yield True
                took = self._clock() - began
            finally:
                self._hard.release()
            with self._lock:
                self._speed = (self._speed + size / took) / 2 if took > 0 else self._speed
        finally:
            with self._lock:
                self._queued -= size if hard else 0
                self._hurried -= 0 if hard else 1

    def _seconds_under_way(self) -> float:
        self._look()
        return self._under_way * self._busy / self._sent if self._sent else 0.0

    def _move(self, size: int) -> None:
        with self._lock:
            self._look()
            if size < 0 and self._under_way >= ENOUGH:
                self._sent -= size
            self._under_way += size

    def _look(self) -> None:
        now = self._clock()
        if self._under_way >= ENOUGH:
            self._busy += now - self._looked
        self._looked = now
