"""What to do about what was seen. Pure: tables that can be read aloud.

What is wanted of the instance is in `wanted.py`, the end of the service in `ending.py`; here is what takes
the place of what.
"""

from __future__ import annotations

from dataclasses import replace

from lifecycle_agent.config import Config
from lifecycle_agent.model import (
    INTO_SERVICE,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Phase, Standing
from lifecycle_agent.watch.decision import Decision, Memory, Record, Start, Stay, start
from lifecycle_agent.watch.ending import end
from lifecycle_agent.watch.wanted import PRECEDENCE, interruption

# Seconds by which the time in a notice may differ between two looks: a wall clock is being set.
SAME_TIME_SECONDS = 5.0

# Nothing has to be done for these: no transition starts, and none is interrupted.
_RECORDED = (NoticeKind.FOUND, NoticeKind.DETACH, NoticeKind.ATTACH)

# The eight steps already, for a group that waits for their answer.
_ANSWERED_AWAY = (NoticeKind.TERMINATE, NoticeKind.ENTER_POOL)

# What is more urgent interrupts what is less so. What the group wants takes the place of what it wanted
# before.
_URGENT, _GROUP, _ADVICE = 3, 2, 1
_LEVELS = {
    NoticeKind.TERMINATE: _URGENT,
    NoticeKind.SPOT: _URGENT,
    NoticeKind.SHUTDOWN: _URGENT,
    NoticeKind.REBOOT: _URGENT,
    NoticeKind.STAY_DRAINED: _ADVICE,
    NoticeKind.REBALANCE: _ADVICE,
    NoticeKind.MAINTENANCE: _ADVICE,
    **dict.fromkeys(_RECORDED, _ADVICE),
}


def decide(seen: Observation, memory: Memory, now: float, config: Config) -> Decision:
    """What to do about what the instance metadata service, or systemd, says now.

    Args:
        now: seconds on the boot clock, the moment of seeing.
    """
    if seen.ending is not None:
        return end(seen, seen.ending, memory, now, config)
    running, standing = memory.running, memory.standing
    if running is not None:
        # What is wanted is judged as if it had come to its end already.
        standing = standing.after(running, Outcome.DONE)
    waits = ""
    for row in PRECEDENCE:
        notice = row.notice(seen, standing, now, config)
        if notice is None or (running is not None and not _interrupts(notice, running)):
            continue
        if notice.kind is NoticeKind.SPOT and _answers_launching(running):
            # It goes before it has come: the group is told so, and launches another one.
            notice = replace(notice, completes=LifecycleTransition.LAUNCHING)
        if notice.kind in _RECORDED:
            return Record(notice, f"on record: {notice.reason}")
        if running is None and _can_wait(notice):
            # What cannot wait goes before it, though it is further down.
            if memory.by_hand:
                waits = waits or f"waiting: {memory.by_hand}"
                continue
            if now < memory.not_before and memory.again is not None and _same_way(notice.kind, memory.again):
                waits = waits or f"waiting: {memory.told}"
                continue
        return start(notice)
    if waits:
        return Stay(waits)
    if running is None and standing.phase is Phase.GONE:
        return Stay(memory.told or "the group takes this instance away, and everything is done")
    if running is None:
        return Stay(f"waiting: {memory.by_hand or _waits_for(seen, standing)}")
    return _less_time(seen, running, now, config) or Stay(memory.told)


def _level(notice: Notice) -> int:
    return _ADVICE if notice.only_told else _LEVELS.get(notice.kind, _GROUP)


def _interrupts(notice: Notice, running: Notice) -> bool:
    if notice.kind is NoticeKind.SPOT and running.kind in _ANSWERED_AWAY:
        return False  # it gets less time, and goes on
    if notice.kind is NoticeKind.TERMINATE and _answers_launching(running):
        return True  # nobody waits for its launch any more
    level = _level(notice)
    if running.only_told:
        return level is _URGENT  # over in a moment
    return level > _level(running) or level == _level(running) == _GROUP


def _answers_launching(running: Notice | None) -> bool:
    return running is not None and running.completes is LifecycleTransition.LAUNCHING


def _can_wait(notice: Notice) -> bool:
    """Whether nobody waits for an answer, and nothing is about to be lost."""
    return _level(notice) is not _URGENT and notice.completes is None


def _same_way(kind: NoticeKind, again: NoticeKind) -> bool:
    """Whether it is what was tried before, perhaps by another name: the way back is."""
    return kind is again or (kind in INTO_SERVICE and again in INTO_SERVICE)


def _less_time(seen: Observation, running: Notice, now: float, config: Config) -> Start | None:
    """The running transition again, with what a spot interruption leaves of its time."""
    gone = interruption(seen, now, config)
    if gone is None or running.kind not in (*_ANSWERED_AWAY, NoticeKind.SPOT):
        return None
    # A time that was guessed moves on with each look.
    if running.ends is not None and running.ends <= max(gone, now) + SAME_TIME_SECONDS:
        return None
    return start(replace(running, ends=gone), "EC2 interrupts this spot instance: there is less time")


_WAITS = {
    Phase.DRAINED: "drained by hand, and stays so until `lifecycle-agent undrain`",
    Phase.STANDBY: "on standby, out of service until the group takes it back",
    Phase.POOLED: "in the warm pool, out of service until the group wants it",
    Phase.DETACHED: "detached from its group: the app keeps running and keeps its registration",
    Phase.REPLACED: "drained for a new root volume, until the machine boots from it",
    Phase.INTERRUPTED: "drained, for EC2 interrupts this spot instance",
}

_LEFT_ALONE = {
    TargetState.STANDBY: "on standby: the app keeps running and keeps its registration",
    TargetState.DETACHED: "detached from its group: the app keeps running and keeps its registration",
}


def _waits_for(seen: Observation, standing: Standing) -> str:
    phase = standing.phase
    if seen.problem:
        return seen.problem
    if phase is Phase.DRAINED and not standing.finished:
        return "a drain by hand was left in its middle: `drain` goes on with it, `undrain` takes the app back"
    if phase is Phase.STANDBY and seen.target is TargetState.DETACHED:
        return "detached from standby: the app is out of service until `lifecycle-agent undrain`"
    if phase is Phase.ADVISED and standing.by is not None:
        return f"drained: {standing.by.reason}"
    if phase in _WAITS:
        return _WAITS[phase]
    if seen.target is None:
        return "no group has said yet what it wants of this instance"
    return _LEFT_ALONE.get(seen.target, f"the group wants this instance {seen.target.value}")
