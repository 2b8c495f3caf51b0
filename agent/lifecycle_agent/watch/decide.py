"""What to do about what was seen. Pure: a table that can be read aloud."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from lifecycle_agent.config import ShutdownSection
from lifecycle_agent.model import Ending, LifecycleTransition, Notice, NoticeKind, Observation, TargetState


class Phase(Enum):
    """How far the watcher is with what it saw."""

    WATCHING = "watching"
    IN_TRANSITION = "in transition"
    OVER = "over"


@dataclass(frozen=True)
class Last:
    """The last transition of this instance, as the journal has it.

    Args:
        went_well: whether it came to its end, and did not fail.
        this_boot: whether it began in this boot of the machine.
    """

    kind: NoticeKind
    went_well: bool = True
    this_boot: bool = True


@dataclass(frozen=True)
class Memory:
    """What the watcher remembers between two cycles.

    Args:
        told: what the running or ended transition says of itself, one sentence.
        running: what the running transition is about.
        last: None before the first.
        not_before: when the way back into service is tried again, seconds on the boot clock.
    """

    phase: Phase = Phase.WATCHING
    told: str = ""
    running: Notice | None = None
    last: Last | None = None
    not_before: float = 0.0


@dataclass(frozen=True)
class Stay:
    """Change nothing; the sentence says what for."""

    sentence: str


@dataclass(frozen=True)
class Start:
    """Start a transition for the notice, in place of the one that runs."""

    notice: Notice
    sentence: str


@dataclass(frozen=True)
class Leave:
    """End the service."""

    sentence: str


Decision = Stay | Start | Leave

# What the group may want besides service and termination. Not acted on yet, said all the same.
_LEFT_ALONE = {
    TargetState.STANDBY: "on standby: the app keeps running and keeps its registration",
    TargetState.DETACHED: "detached from its group: the app keeps running and keeps its registration",
    TargetState.WARMED_STOPPED: "in the warm pool, to be stopped: the app is left alone",
    TargetState.WARMED_RUNNING: "in the warm pool, running: the app is left alone",
    TargetState.WARMED_HIBERNATED: "in the warm pool, to be hibernated: the app is left alone",
    TargetState.WARMED_TERMINATED: "to be terminated in the warm pool: the app is left alone",
}

# Seconds that a transition may be late when the machine goes down: its last tries, the end of its process.
# One that dies again and again, or hangs, must not hold the shutdown up for longer.
LATE_SECONDS = 5.0

# Transitions after which the machine goes down: what comes after one of them is a machine that is up again.
_GOING_DOWN = (NoticeKind.SHUTDOWN, NoticeKind.REBOOT)

# The instance may be in service: the group says so, or there is no group, or nobody can be asked.
_IN_SERVICE = (TargetState.IN_SERVICE, None)


def decide(seen: Observation, memory: Memory, now: float, shutdown: ShutdownSection) -> Decision:
    """What to do about what the instance metadata service, or systemd, says now.

    Args:
        now: seconds on the boot clock, the moment of seeing.
    """
    if seen.ending is not None:
        return _end(seen, seen.ending, memory, now, shutdown)
    match memory.phase, seen.target:
        case Phase.IN_TRANSITION, TargetState.TERMINATED if _is(memory.running, NoticeKind.RETURN):
            return _start(_termination(now))
        case ((Phase.IN_TRANSITION | Phase.OVER), _):
            return Stay(memory.told)
        case Phase.WATCHING, TargetState.TERMINATED:
            return _start(_termination(now))
        case Phase.WATCHING, target if target in _IN_SERVICE and not seen.problem and _is_up_again(memory):
            if now < memory.not_before:
                return Stay("waiting: the way back into service has failed, and is tried again")
            return _start(Notice(NoticeKind.RETURN, "the machine is up again", now))
        case Phase.WATCHING, TargetState.IN_SERVICE:
            return Stay("waiting: the group wants this instance InService")
        case Phase.WATCHING, None if seen.problem:
            return Stay(f"waiting: {seen.problem}")
        case Phase.WATCHING, None:
            return Stay("waiting: no group has said yet what it wants of this instance")
        case Phase.WATCHING, TargetState() as target:
            return Stay(f"waiting: {_LEFT_ALONE[target]}")
    raise AssertionError(f"no row for {memory.phase} and {seen.target}")


def _end(
    seen: Observation, ending: Ending, memory: Memory, now: float, shutdown: ShutdownSection
) -> Decision:
    """The same when the service is told to end, which a transition may be the answer to, or not."""
    ends = now + shutdown.timeout
    running = memory.running if memory.phase is Phase.IN_TRANSITION else None
    match ending, running:
        case Ending.STOP, None:
            return Leave("stopped; the app is left as it is")
        case Ending.STOP, _:
            return Leave("stopped in the middle of a transition; it goes on when the agent starts again")
        case _, Notice(ends=float(gone)) if now > gone + LATE_SECONDS:
            return Leave("the machine goes down; the time for it is up")
        case _, Notice(kind=NoticeKind.SHUTDOWN | NoticeKind.REBOOT):
            return Stay(memory.told)
        case Ending.REBOOT, Notice(kind=NoticeKind.TERMINATE):
            return Leave("the machine reboots; the termination goes on after it")
        case _, Notice(kind=NoticeKind.TERMINATE, ends=None):
            # The group is owed an answer, whatever is configured for a shutdown.
            return _start(replace(running, ends=ends), "the machine shuts down: there is less time")
        case _, Notice(kind=NoticeKind.TERMINATE):
            return Stay(memory.told)
    if memory.phase is Phase.OVER:
        return Leave("the machine goes down; everything is done")
    if not seen.known:
        return Leave("the machine goes down; which instance it is was never known, so nothing is done")
    if seen.target is TargetState.TERMINATED:
        if ending is Ending.REBOOT:
            return Leave("the machine reboots; the group takes it away after that")
        return _start(replace(_termination(now), ends=ends))
    if seen.target not in _IN_SERVICE:
        return Leave("the machine goes down; it is not in service, so nothing is done")
    if ending is Ending.REBOOT:
        if running is None and memory.last == Last(NoticeKind.DRAIN, went_well=True, this_boot=True):
            return Leave("the machine reboots; it was taken out of service by hand before")
        if shutdown.reboot == "ignore":
            return Leave('the machine reboots; [shutdown] reboot = "ignore"')
        return _start(Notice(NoticeKind.REBOOT, "the machine reboots", now, ends=ends))
    if shutdown.poweroff == "ignore":
        return Leave('the machine is switched off; [shutdown] poweroff = "ignore"')
    terminating = LifecycleTransition.TERMINATING
    return _start(
        Notice(NoticeKind.SHUTDOWN, "the machine is switched off", now, terminating, if_asked=True, ends=ends)
    )


def _termination(now: float) -> Notice:
    reason = "the group takes this instance away"
    return Notice(NoticeKind.TERMINATE, reason, now, LifecycleTransition.TERMINATING)


def _start(notice: Notice, because: str = "") -> Start:
    return Start(notice, f"starting: {because or notice.reason}")


def _is_up_again(memory: Memory) -> bool:
    """Whether the machine went down in service, and is not back in it yet."""
    last = memory.last
    if last is None:
        return False
    return last.kind in _GOING_DOWN or (last.kind is NoticeKind.RETURN and not last.went_well)


def _is(notice: Notice | None, kind: NoticeKind) -> bool:
    return notice is not None and notice.kind is kind
