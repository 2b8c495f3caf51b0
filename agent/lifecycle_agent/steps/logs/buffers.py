"""The memory that an upload takes: a fixed number of buffers, each with room for one part."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from queue import Empty, SimpleQueue

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs.source import LINE_LIMIT

# A buffer is full when a part is in it, and has so much room beyond for what a compressor still holds.
SLACK = 384 * 1024
# The rest of a line that is still being written, and what grows a little instead of getting smaller.
SMALL_SLACK = 2 * LINE_LIMIT
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

    def write(self, data: bytes) -> None:
        """Add `data`."""
        end = self._used + len(data)
        if end > len(self._memory):
            raise AssertionError(f"{end} bytes in a buffer of {len(self._memory)}")
        self._memory[self._used : end] = data
        self._used = end

    def free(self) -> None:
        """It has been sent, or never will be."""
        self._used = 0
        if self._give_back is not None:
            self._give_back(self)


class Buffers:
    """`count` buffers of `size` bytes, made when they are first needed.

    A source known to be no larger than `small` gets a buffer of its own: many of them go at once.
    """

    def __init__(self, count: int, size: int, small: int) -> None:
        self.size = size
        self._small = small
        self._free: SimpleQueue[Buffer | None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def take(self, expected: int | None, until: Deadline) -> Buffer:
        """An empty buffer.

        Args:
            expected: bytes of the whole source, None where they are not known.

        Raises:
            TimeoutError: none was free in time.
        """
        if expected is not None and expected <= self._small:
            return Buffer(self.size, expected + SMALL_SLACK)
        while True:
            try:
                return self._free.get(timeout=until.timeout(TICK)) or self._new()
            except Empty:
                if until.passed:
                    raise TimeoutError("no buffer was free in time") from None

    def _new(self) -> Buffer:
        return Buffer(self.size, self.size + SLACK, self._free.put)
