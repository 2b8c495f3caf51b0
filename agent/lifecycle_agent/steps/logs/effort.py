"""How hard to compress: a little where the link is fast, as hard as there is time for where it is slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle_agent.deadline import Clock, boottime

# Sources being compressed at once, each with a compressor's memory: some 500 MiB a second each, which is more
# than disks give.
PACKERS = 4
# Seconds until one goes out of turn: the others may be reading from a disk that hangs.
PATIENCE = 5.0
# Bytes of an original in a second that hard compression takes, before it was tried on this machine and these
# files: level 7 of zstd took 150 MiB of log text in a second where this was written, many are slower.
FIRST_GUESS = 50 * 1024 * 1024


class Effort:
    """Weighs what is on its way against what is to be compressed.

    Hard compression costs nothing as long as no other thread waits for the processor, and the link is busy
    meanwhile with what was handed to it before. One source at a time: it takes memory, too.

    Args:
        clock: seconds; tests hand in their own.
    """

    def __init__(self, clock: Clock = boottime) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(PACKERS)
        self._packing = 0
        self._hard = False
        self._speed = float(FIRST_GUESS)
        self._under_way = 0
        self._sent = 0
        self._busy = 0.0  # seconds in which something was under way
        self._looked = 0.0

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """While `size` bytes are being sent."""
        self._move(size)
        try:
            yield
        finally:
            with self._lock:
                self._sent += size
            self._move(-size)

    @contextmanager
    def packing(self, size: int, hard: bool | None = None) -> Iterator[bool]:
        """While `size` bytes of an original are compressed, or fewer; says whether to do it hard.

        Args:
            hard: None to have it decided; what was decided before, where the same must come out again.
        """
        turn = self._slots.acquire(timeout=PATIENCE)
        try:
            with self._packed(size, hard) as chosen:
                yield chosen
        finally:
            if turn:
                self._slots.release()

    @contextmanager
    def _packed(self, size: int, known: bool | None) -> Iterator[bool]:
        with self._lock:
            mine = not self._hard and not self._packing and self._seconds_under_way() > size / self._speed
            self._hard = self._hard or mine
            self._packing += 1
        began = self._clock()
        try:
            yield mine if known is None else known
        finally:
            took = self._clock() - began
            with self._lock:
                self._packing -= 1
                if mine:
                    self._hard = False
                    if known is None and took > 0:
                        self._speed = (self._speed + size / took) / 2

    def _seconds_under_way(self) -> float:
        self._look()
        return self._under_way * self._busy / self._sent if self._sent else 0.0

    def _move(self, size: int) -> None:
        with self._lock:
            self._look()
            self._under_way += size

    def _look(self) -> None:
        now = self._clock()
        if self._under_way:
            self._busy += now - self._looked
        self._looked = now
