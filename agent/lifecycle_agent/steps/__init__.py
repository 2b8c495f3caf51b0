"""The steps of a transition, one file a step: it does one thing, says what it does, raises when it can't."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lifecycle_agent.deadline import Deadline


@dataclass(frozen=True)
class Done:
    """What a step did.

    Args:
        detail: one sentence for the log, the journal and the report.
        data: JSON values that a later step, or this transition resumed after a crash, needs again.
        warnings: what went wrong without being a failure, one sentence each.
    """

    detail: str
    data: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Work(Protocol):
    """What the runner gives a step to work with."""

    @property
    def deadline(self) -> Deadline:
        """When this step's own time is up: its timeout or the transition's end less the reserve."""
        ...

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """What the step does or waits for just now, with bytes done and to do where that is known."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, but not past the deadline.

        Raises:
            Interrupted: the agent was told to stop.
        """
        ...


class StepRun(Protocol):
    """A step: something that can be run once more without harm if it was cut off."""

    def run(self, work: Work) -> Done:
        """Do it.

        Raises:
            StepFailed: it could not be done; the message says why.
            Interrupted: the agent was told to stop.
        """
        ...
