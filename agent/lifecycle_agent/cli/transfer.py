"""Bytes on their way, shown on standard error: one line painted again and again, or one every few seconds."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from types import FrameType
from typing import Any

from lifecycle_agent.deadline import Clock, Deadline, boottime
from lifecycle_agent.errors import Interrupted

REPAINT_SECONDS = 0.2  # on a terminal; see cli/screen.py
LINE_SECONDS = 5.0  # elsewhere: enough to see that it moves, and a log stays short
RATE_SECONDS = 5.0  # what the rate is measured over: it settles, and still follows the link
TICK = 0.1  # how late a signal is noticed

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def amount(size: float) -> str:
    """Bytes for people."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


class Rate:
    """How many come in a second, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, now: float, done: int) -> float:
        """Seen at `now`: so many in all."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


def line(text: str, done: int, total: int, rate: float) -> str:
    """What there is to know on one line."""
    parts = [f"{amount(done)} of {amount(total)}", f"{amount(rate)}/s", text]
    if rate > 0 and done < total:
        minutes, seconds = divmod(round((total - done) / rate), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return ", ".join(parts)


class Transfer:
    """What a step by hand gets to work with (see `steps.Work`): the first signal stops it, a second at once.

    Args:
        seconds: until the deadline.

    Attributes:
        signal: the one that told it to stop, 0 before.
    """

    def __init__(self, seconds: float, clock: Clock = boottime) -> None:
        self.deadline = Deadline.after(seconds, clock)
        self.signal = 0
        self._clock = clock
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._rate = Rate()
        self._shown = ""
        self._due = clock()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Transfer:
        for each in (signal.SIGINT, signal.SIGTERM):
            self._before[each] = signal.signal(each, self._told)
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        if self._terminal and self._shown:
            self._write("\r\033[K")

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Show it, if it is time to."""
        now = self._clock()
        measured = done is not None and total is not None
        shown = line(text, done or 0, total or 0, self._rate(now, done or 0)) if measured else text
        if now < self._due:
            return
        self._due = now + (REPAINT_SECONDS if self._terminal else LINE_SECONDS)
        if self._terminal:
            self._write(f"\r\033[K{shown[: shutil.get_terminal_size().columns - 1]}")
        elif shown != self._shown:
            self._write(f"{shown}\n")
        self._shown = shown

    def wait(self, seconds: float) -> None:
        """Sleep, but not past the deadline, and not when told to stop."""
        until = self._clock() + min(seconds, self.deadline.remaining())
        while True:
            if self.signal:
                raise Interrupted
            left = until - self._clock()
            if left <= 0:
                return
            time.sleep(min(left, TICK))

    def _told(self, number: int, _: FrameType | None) -> None:
        """Remember it, and no more: this may come in the middle of anything."""
        self.signal = number
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # whoever watched has gone; the work is worth finishing
            sys.stderr.write(text)
            sys.stderr.flush()
