"""What to do about what was seen. Pure: a table that can be read aloud."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lifecycle_agent.model import LifecycleTransition, Notice, NoticeKind, Observation, TargetState


class Phase(Enum):
    """How far the watcher is with what it saw."""

    WATCHING = "watching"
    IN_TRANSITION = "in transition"
    OVER = "over"


@dataclass(frozen=True)
class Memory:
    """What the watcher remembers between two cycles.

    Args:
        told: what the running or ended transition says of itself, one sentence.
    """

    phase: Phase = Phase.WATCHING
    told: str = ""


@dataclass(frozen=True)
class Stay:
    """Change nothing; the sentence says what for."""

    sentence: str


@dataclass(frozen=True)
class Start:
    """Start a transition for the notice."""

    notice: Notice
    sentence: str


Decision = Stay | Start

# What the group may want besides service and termination. Not acted on yet, said all the same.
_LEFT_ALONE = {
    TargetState.STANDBY: "on standby: the app keeps running and keeps its registration",
    TargetState.DETACHED: "detached from its group: the app keeps running and keeps its registration",
    TargetState.WARMED_STOPPED: "in the warm pool, to be stopped: the app is left alone",
    TargetState.WARMED_RUNNING: "in the warm pool, running: the app is left alone",
    TargetState.WARMED_HIBERNATED: "in the warm pool, to be hibernated: the app is left alone",
    TargetState.WARMED_TERMINATED: "to be terminated in the warm pool: the app is left alone",
}


def decide(seen: Observation, memory: Memory, now: float) -> Decision:
    """What to do about what the instance metadata service says now.

    Args:
        now: seconds on the boot clock, the moment of seeing.
    """
    match memory.phase, seen.target:
        case Phase.IN_TRANSITION, _:
            return Stay(memory.told)
        case Phase.OVER, _:
            return Stay(memory.told)
        case Phase.WATCHING, TargetState.TERMINATED:
            notice = Notice(
                NoticeKind.TERMINATE,
                "the group takes this instance away",
                now,
                LifecycleTransition.TERMINATING,
            )
            return Start(notice, f"starting: {notice.reason}")
        case Phase.WATCHING, TargetState.IN_SERVICE:
            return Stay("waiting: the group wants this instance InService")
        case Phase.WATCHING, None if seen.problem:
            return Stay(f"waiting: {seen.problem}")
        case Phase.WATCHING, None:
            return Stay("waiting: no group has said yet what it wants of this instance")
        case Phase.WATCHING, TargetState() as target:
            return Stay(f"waiting: {_LEFT_ALONE[target]}")
    raise AssertionError(f"no row for {memory.phase} and {seen.target}")
