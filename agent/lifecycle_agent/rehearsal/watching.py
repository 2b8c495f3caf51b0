"""Watches the world while it turns: whatever changes about our instance becomes a moment of its course."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lifecycle_agent.rehearsal.outcome import Moment, Report

LOOK_SECONDS = 0.02  # shorter than any timer of the world, even at the highest speed
MOST_REPORT_BYTES = 4 * 1024 * 1024


class Watching:
    """Looks at our instance again and again, on a thread of its own.

    Args:
        now: how it stands now.
        report: where the agent's report is now: it goes with the machine's disk.
    """

    def __init__(self, now: Callable[[], Moment], report: Callable[[], Path]) -> None:
        self._now = now
        self._report = report
        self._course: list[Moment] = []
        self._reports: dict[str, Report] = {}
        self._read: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look a last time, and no more."""
        if not self._over.is_set():
            self._over.set()
            if self._thread.ident is not None:
                self._thread.join()
            self.look()

    def mark(self, name: str) -> Moment:
        """Name the moment that is now."""
        with self._lock:
            moment = replace(self._now(), name=name)
            self._course.append(moment)
        return moment

    def look(self) -> None:
        """Look once."""
        with self._lock:
            moment = self._now()
            if not self._course or not moment.same(self._course[-1]):
                self._course.append(moment)
            self._look_at_report()

    def course(self) -> tuple[Moment, ...]:
        """What was seen so far."""
        with self._lock:
            return tuple(self._course)

    def reports(self) -> tuple[Report, ...]:
        """The agent's reports so far, one a transition."""
        with self._lock:
            return tuple(self._reports.values())

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def _look_at_report(self) -> None:
        """The agent keeps the last report only: it is read whenever it is another one."""
        try:
            with self._report().open("rb") as file:
                about = os.fstat(file.fileno())
                if (about.st_ino, about.st_mtime_ns) == self._read:
                    return
                report = json.loads(file.read(MOST_REPORT_BYTES))
            if isinstance(report, dict):
                self._reports[str(report.get("transition_id"))] = report
                self._read = about.st_ino, about.st_mtime_ns
        except (OSError, ValueError):
            return  # there is none yet, or the machine is going
