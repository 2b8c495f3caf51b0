"""The memory that an upload takes: a fixed number of buffers, each with room for one part."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from lifecycle_agent.deadline import Deadline

# A buffer is full when a part is in it, and has so much room beyond for what a compressor still holds.
SLACK = 384 * 1024
# What turned out to be no larger is kept in memory of its own while it is sent: many of them go at once.
SMALL = 384 * 1024
# How late a deadline that was brought forward may be noticed.
TICK = 0.2


class Buffer:
    """Bytes that are written once and then sent.

    Args:
        size: from which on it is full.
        room: for how many bytes there is memory, taken page by page as it is written to.
    """

    def __init__(self, size: int, room: int, give_back: Callable[[Buffer], None] | None = None) -> None:
        self._size = size
        self._memory = bytearray(room)
        self._used = 0
        self._give_back = give_back

    @property
    def full(self) -> bool:
        """Whether there is a part in it."""
        return self._used >= self._size

    @property
    def data(self) -> memoryview:
        """What was written."""
        return memoryview(self._memory)[: self._used]

    @property
    def crc(self) -> int:
        """CRC32 of what was written."""
        return zlib.crc32(self.data)

    def write(self, data: bytes | memoryview) -> None:
        """Add `data`."""
        end = self._used + len(data)
        if end > len(self._memory):
            raise AssertionError(f"{end} bytes in a buffer of {len(self._memory)}")
        self._memory[self._used : end] = data
        self._used = end

    def settled(self) -> Buffer:
        """The same bytes, to be sent: where they are few, out of this buffer, which is free then."""
        if self._used > SMALL:
            return self
        small = Buffer(self._size, self._used)
        small.write(self.data)
        self.free()
        return small

    def free(self) -> None:
        """It has been sent, or never will be."""
        self._used = 0
        if self._give_back is not None:
            self._give_back(self)


class Buffers:
    """`count` buffers of `size` bytes, made when they are first needed."""

    def __init__(self, count: int, size: int) -> None:
        self._size = size
        self._turns = threading.Semaphore(count)
        self._free: SimpleQueue[Buffer | None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def take(self, until: Deadline) -> Buffer:
        """An empty buffer.

        Raises:
            TimeoutError: none was free in time.
        """
        while True:
            try:
                return self._free.get(timeout=until.timeout(TICK)) or self._new()
            except Empty:
                if until.passed:
                    raise TimeoutError("no buffer was free in time") from None

    @contextmanager
    def turn(self, expected: int | None, until: Deadline) -> Iterator[None]:
        """While one source is sent: no more large ones at once than there are buffers, or all of them would
        be in the middle when time runs out.

        Args:
            expected: bytes of the source, None where they are not known.

        Raises:
            TimeoutError: its turn did not come in time.
        """
        if expected is not None and expected <= self._size:
            yield
            return
        while not self._turns.acquire(timeout=until.timeout(TICK)):
            if until.passed:
                raise TimeoutError("its turn did not come in time")
        try:
            yield
        finally:
            self._turns.release()

    def _new(self) -> Buffer:
        return Buffer(self._size, self._size + SLACK, self._free.put)
