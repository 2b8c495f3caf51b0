"""A transition drawn on a terminal: its steps, what the running one waits for, the time it has."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from lifecycle_agent.deadline import boottime

REPAINT_SECONDS = 0.2  # seconds that pass are seen passing; a remote terminal is not flooded

_MARKS = {"done": ("✓", "32"), "warned": ("!", "33"), "failed": ("✗", "31"), "skipped": ("-", "33")}
_RUNNING = ("▸", "36")

Shown = Mapping[str, Any]  # a transition as in `status.json`: `transition.progress.Progress` as JSON


def lines(shown: Shown, now: float, width: int | None, color: bool) -> list[str]:
    """The picture of a transition, line by line.

    Args:
        now: seconds on the boot clock.
        width: columns of the terminal, None for lines as long as they are.
    """
    since, ends = now - shown["seen_at"], shown["ends"] - shown["seen_at"]
    clock = f"{_clock(since)} of {_clock(ends)}"
    head = f"{shown['transition_id']}: {shown['reason']}"
    picture = [
        f"{head[: width - len(clock) - 2]:<{width - len(clock) - 1}}{clock}" if width else f"{head}  {clock}"
    ]
    picture += step_lines(shown, now, width, color)
    return picture


def step_lines(shown: Shown, now: float, width: int | None, color: bool) -> list[str]:
    """The steps alone, each with how it ended, and below it what it warned of."""
    picture: list[str] = []
    ended = {report["name"]: report for report in shown["ended"]}
    column = max((len(name) for name in shown["steps"]), default=0)
    for name in shown["steps"]:
        mark, code, took, text = " ", "2", "", ""
        if name in ended:
            mark, code = _MARKS[ended[name]["outcome"]]
            took, text = _took(ended[name]["seconds"]), ended[name]["detail"]
        elif name == shown["step"]:
            mark, code = _RUNNING
            took, text = _took(now - shown["since"]), _doing(shown)
        warnings = ended[name]["warnings"] if name in ended else ()
        below = [f"{'':<{column + 14}}{warning}" for warning in warnings]
        for line in (f" {mark} {name:<{column}} {took:>8}  {text}", *below):
            cut = line[:width].rstrip()
            picture.append(f"\033[{code}m{cut}\033[0m" if color else cut)
    return picture


def _doing(shown: Shown) -> str:
    text = str(shown["text"])
    if not shown["total"]:
        return text
    done, total = shown["done"] or 0, shown["total"]
    filled = int(20 * done / total)
    return f"[{'#' * filled}{'.' * (20 - filled)}] {done / 2**20:.1f} of {total / 2**20:.1f} MiB {text}"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02d}"


class Screen:
    """Repaints the picture on standard output while it is open; does nothing where that is no terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._color = "NO_COLOR" not in os.environ
        self._shown: Shown | None = None
        self._painted = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._repaint, name="screen", daemon=True)

    @property
    def live(self) -> bool:
        """Whether there is a terminal to paint on."""
        return self._terminal

    def show(self, shown: Shown) -> None:
        """Paint this from now on."""
        self._shown = shown

    def __enter__(self) -> Screen:
        """Begin to paint."""
        if self._terminal:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Paint a last time and leave it standing."""
        if self._terminal:
            self._closed.set()
            self._thread.join()
            self._paint()

    def _repaint(self) -> None:
        while not self._closed.wait(REPAINT_SECONDS):
            self._paint()

    def _paint(self) -> None:
        if self._shown is None:
            return
        width = shutil.get_terminal_size().columns
        picture = lines(self._shown, boottime(), width, self._color)
        up = f"\033[{self._painted}A" if self._painted else ""
        sys.stdout.write(up + "".join(f"\033[2K{line}\n" for line in picture) + "\033[J")
        sys.stdout.flush()
        self._painted = len(picture)
