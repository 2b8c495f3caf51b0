"""What an act of a rehearsal brought to light: facts, as the world saw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_agent.rehearsal.callers import Tally
from lifecycle_agent.rehearsal.lifecycle import LifecycleAction
from lifecycle_agent.rehearsal.proof import LogProof
from lifecycle_agent.rehearsal.webhook import Told

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Moment:
    """How our instance stood at a moment.

    Args:
        at: seconds since the beginning.
        state: the group's word for it; empty where the group does not have it.
        status: the registry's word; empty where it is not registered.
        app: `up` when it is healthy, `starting` before, `down` when it does not run.
        called: requests that callers had sent it by then.
        told: notices that had been received by then.
        name: what the scenario calls the moment; empty for one at which something merely changed.
    """

    at: float
    state: str = ""
    status: str = ""
    app: str = "down"
    called: int = 0
    told: int = 0
    name: str = ""

    def same(self, other: Moment) -> bool:
        """Whether nothing that counts has changed between the two."""
        return (self.state, self.status, self.app) == (other.state, other.status, other.app)


@dataclass(frozen=True)
class Outcome:
    """What an act brought to light.

    Args:
        tally: what the callers counted.
        logs: None where the configuration saves none.
        actions: the group's questions to our instance, in order, and their answers.
        course: how our instance stood whenever something changed, and at the moments that the script named.
        reports: the agent's own, one a transition, in order.
        told: the notices that were received.
        wanted: the events that each `[[notify]]` asked for.
        app_stopped: whether the app stopped by itself, the last time; otherwise it was killed.
        registered: whether the registry still has the instance.
        in_vain: what was waited for until it made no sense any more; the script went no further then.
        speed: how much faster than in real life it was.
        where: the files, where they were to be kept.
    """

    tally: Tally
    logs: LogProof | None
    actions: tuple[LifecycleAction, ...]
    course: tuple[Moment, ...]
    reports: tuple[Report, ...]
    told: tuple[Told, ...]
    wanted: tuple[tuple[str, ...], ...]
    app_stopped: bool
    registered: bool
    with_agent: bool
    seconds: float
    speed: float
    in_vain: str = ""
    where: Path | None = None

    @property
    def action(self) -> LifecycleAction | None:
        """The group's last question; None if it never asked."""
        return self.actions[-1] if self.actions else None

    @property
    def report(self) -> Report:
        """The agent's last report, empty if there is none."""
        return self.reports[-1] if self.reports else {}

    def moment(self, name: str) -> Moment | None:
        """The moment that the script has named so; None if it never came to it."""
        return next((moment for moment in self.course if moment.name == name), None)

    def between(self, first: str, last: str) -> tuple[Moment, ...]:
        """All moments from one that was named to another; none where the script never came to both."""
        names = [moment.name for moment in self.course]
        if first not in names or last not in names:
            return ()
        return self.course[names.index(first) : names.index(last) + 1]
