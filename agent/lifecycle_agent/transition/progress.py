"""What a transition does just now: for `status`, for the watcher's sentence, for the screen."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.files import StatusFile
from lifecycle_agent.logline import utc
from lifecycle_agent.model import Notice, StepReport

SHOW_SECONDS = 0.5  # how often a step's own progress is written down at most; boundaries always are


@dataclass(frozen=True)
class Progress:
    """A transition as it stands.

    Args:
        step: the running step's name, empty between steps.
        since: when it began, seconds on the boot clock.
        text: what it does or waits for.
        done: bytes done, `total`: bytes to do; None where there is nothing to count.
        ends: the transition's deadline, seconds on the boot clock.
    """

    transition_id: str
    kind: str
    reason: str
    seen_at: float
    ends: float
    steps: tuple[str, ...]
    ended: tuple[StepReport, ...] = ()
    step: str = ""
    since: float = 0.0
    text: str = ""
    done: int | None = None
    total: int | None = None
    outcome: str = ""

    @property
    def sentence(self) -> str:
        """`step logs, 312 of 540 MiB`."""
        if self.outcome:
            return self.outcome
        if not self.step:
            return "between two steps"
        if self.total:
            done = (self.done or 0) / 2**20
            return f"step {self.step}, {done:.0f} of {self.total / 2**20:.0f} MiB"
        return f"step {self.step}" + (f", {self.text}" if self.text else "")


class Teller:
    """Keeps the progress, writes it to `status.json`, and hands each change to whoever watches."""

    def __init__(
        self,
        transition_id: str,
        notice: Notice,
        deadline: Deadline,
        steps: tuple[str, ...],
        status: StatusFile,
        watch: Callable[[Progress], None] | None = None,
    ) -> None:
        self._progress = Progress(
            transition_id, notice.kind.value, notice.reason, notice.seen_at, deadline.at, steps
        )
        self._deadline = deadline
        self._status = status
        self._watch = watch
        self._shown = 0.0
        self._alone = threading.Lock()

    @property
    def progress(self) -> Progress:
        """The transition as it stands."""
        return self._progress

    def step_started(self, name: str) -> None:
        """A step begins."""
        self._change(True, step=name, since=self._deadline.now(), text="", done=None, total=None)
        self._shown = 0.0  # what it says first is shown at once: it may say nothing else for minutes

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """What the running step does or waits for; any thread may say it."""
        self._change(False, text=text, done=done, total=total)

    def step_ended(self, report: StepReport) -> None:
        """A step came to its end."""
        ended = (*self._progress.ended, report)
        self._change(True, step="", ended=ended, text="", done=None, total=None)

    def over(self, outcome: str) -> None:
        """The transition came to its end."""
        self._change(True, step="", outcome=outcome)

    def _change(self, at_once: bool, **fields: Any) -> None:
        with self._alone:
            self._progress = replace(self._progress, ends=self._deadline.at, **fields)
            now = self._deadline.now()
            if at_once or now - self._shown >= SHOW_SECONDS:
                self._shown = now
                about = {**asdict(self._progress), "sentence": self._progress.sentence}
                self._status.update("transition", {**about, "pid": os.getpid(), "updated": utc()})
            if self._watch is not None:
                self._watch(self._progress)
