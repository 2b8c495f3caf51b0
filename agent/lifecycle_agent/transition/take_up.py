"""Which transition a notice is: a new one, or one to go on with. The journal decides."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline, boottime
from lifecycle_agent.journal import Journal, Recorded, boot_id, is_unanswered
from lifecycle_agent.logline import utc
from lifecycle_agent.model import DRAINING, LAUNCHES, Notice, NoticeKind, Outcome, StepReport
from lifecycle_agent.transition.plan import (
    BACK_IN_SERVICE,
    COMMAND,
    DEREGISTER,
    HTTP,
    OUT_OF_SERVICE,
    REGISTER,
    SETTLE,
    START_UNITS,
    THEN_START,
    UNITS,
    VERIFY,
    WARM_UP,
    time_for,
)

# Steps that bring the app to rest, or back.
TOUCH_THE_APP = (COMMAND, HTTP, UNITS, START_UNITS, WARM_UP, THEN_START, REGISTER, BACK_IN_SERVICE)

# Steps that an app which registers again undoes.
_IN_THE_REGISTRY = (OUT_OF_SERVICE, SETTLE, DEREGISTER, VERIFY)


@dataclass(frozen=True)
class Transition:
    """What is to be done, for whom, and what was already done of it.

    Args:
        started: wall clock of the notice, for people and for the place of the logs.
        recorded: what the journal knows of it; None for a new one.
        commands: the transition whose name its commands have: its own, or that of the drain by hand that it
            goes on from, for one of that one's commands may still run.
        ended: steps that are not run again, by name.
        deleted: whether the registration was deleted right before, by another transition.
    """

    transition_id: str
    notice: Notice
    deadline: Deadline
    started: str
    recorded: Recorded | None = None
    commands: str = ""
    ended: Mapping[str, StepReport] = field(default_factory=dict)
    deleted: bool = False

    @classmethod
    def take_up(cls, notice: Notice, config: Config, journal: Journal) -> Transition:
        """Go on with a transition that the journal has, or begin a new one."""
        history = journal.history()
        last = _to_go_on_with(history, notice)
        total = time_for(notice, config)
        if last is None:
            return cls._new(notice, config, journal, history)
        journal.resume(last)
        deadline = Deadline(min(last.ends, boottime() + total))
        if last.boot != boot_id():
            # What was left of the time before the reboot is not known, and the whole is the most.
            deadline = Deadline.after(total)
            last.reboot(boot_id(), deadline.at, boottime())
            journal.deadline(deadline.at, last.notice.seen_at)
        if notice.ends is not None and deadline.tighten(notice.ends):
            journal.deadline(deadline.at, last.notice.seen_at)
        # Whether to answer the group, and when the machine goes, is for this call to say, whatever the one
        # before it said.
        taken = replace(
            last.notice,
            completes=notice.completes,
            if_asked=notice.if_asked,
            ends=notice.ends,
            action=notice.action or last.notice.action,
        )
        ended = {name: report for name, report in last.ended.items() if not is_unanswered(report)}
        if since := history[history.index(last) + 1 :]:
            # A person may have drained the app since the process died.
            ended = {**_done_before(history, notice), **ended}
            if _registers_again(since):
                ended = {name: report for name, report in ended.items() if name not in _IN_THE_REGISTRY}
        commands = _named_after(history, last.transition_id, taken)
        deleted = _is_deleted(history)
        return cls(last.transition_id, taken, deadline, last.started, last, commands, ended, deleted)

    @classmethod
    def _new(
        cls, notice: Notice, config: Config, journal: Journal, history: Sequence[Recorded]
    ) -> Transition:
        # Commands get their names from it, which are unique on the machine: two agents may start at once.
        at, mark = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), secrets.token_hex(2)
        transition_id = f"{notice.kind.value}-{at}-{mark}"
        deadline = deadline_of(notice, config)
        journal.begin(transition_id, notice, deadline.at)
        ended = _done_before(history, notice)
        for report in ended.values():
            journal.step_ended(report)
        commands = _named_after(history, transition_id, notice)
        return cls(transition_id, notice, deadline, utc(), None, commands, ended, _is_deleted(history))


def deadline_of(notice: Notice, config: Config) -> Deadline:
    """When a transition for the notice has to be over: after its time, or with the machine."""
    deadline = Deadline(notice.seen_at + time_for(notice, config))
    if notice.ends is not None:
        deadline.tighten(notice.ends)
    return deadline


def already_over(notice: Notice, journal: Journal) -> Outcome | None:
    """How it ended, if another process has done already what the notice asks for, and answered the group.

    There is only one termination, whatever was done by hand since, and it is not done twice. Anything else is
    over that another process has brought to its end since the notice was seen: one that died in its last
    moment, or one by an event.
    """
    history = journal.history()
    if notice.kind is NoticeKind.TERMINATE:
        last = _newest(history, NoticeKind.TERMINATE)
        return last.outcome if last is not None and last.settled else None
    last = history[-1] if history else None
    if (
        last is None
        or last.notice.kind is not notice.kind
        or last.boot != boot_id()
        or last.over_at < notice.seen_at
    ):
        return None
    return last.outcome if last.answered or notice.completes is None else None


def _to_go_on_with(history: Sequence[Recorded], notice: Notice) -> Recorded | None:
    """The transition that `notice` goes on with.

    What is done by hand can be done again: when the time of one that was cut off is up, or something
    else was done since, the app may long be back, and the next one is another.
    """
    if notice.kind is NoticeKind.TERMINATE:
        return _newest(history, NoticeKind.TERMINATE)
    last = history[-1] if history else None
    if last is None or last.notice.kind is not notice.kind or last.outcome is not None:
        return None
    if last.boot != boot_id():
        # A command of it may be what boots the machine, again and again: that is counted.
        same = last.notice.kind in LAUNCHES and last.notice.target is notice.target
        return last if same and not last.answered else None
    # One that has answered has nothing left to do but to say that it is over, however late that is.
    return last if last.answered or not Deadline(last.ends).passed else None


def _done_before(history: Sequence[Recorded], notice: Notice) -> dict[str, StepReport]:
    """What is not repeated of a drain right before: the app's commands and calls.

    They may not bear being run twice, against an app that has stopped. Everything else can be done
    again, and is: the app may have been started since.
    """
    found: dict[str, StepReport] = {}
    for each in reversed(history):
        goes_on = _goes_on_from(each.notice, notice)
        if each.boot != boot_id() or not (goes_on or _left_the_app(each)):
            break  # something else has brought the app back
        if goes_on:
            found = {**each.ended, **found}
    return {
        name: report
        for name, report in found.items()
        if name.startswith((COMMAND, HTTP)) and report.outcome.well
    }


def _is_deleted(history: Sequence[Recorded]) -> bool:
    """Whether what has last done something to the app has deleted its registration, in this boot."""
    last = next((each for each in reversed(history) if not _left_the_app(each)), None)
    if last is None or last.boot != boot_id():
        return False
    report = last.ended.get(DEREGISTER)
    return report is not None and report.outcome is Outcome.DONE


def _registers_again(since: Sequence[Recorded]) -> bool:
    """Whether one of these has deleted the registration of an app that it has not stopped: it is UP."""

    def well(each: Recorded, step: str) -> bool:
        return step in each.ended and each.ended[step].outcome.well

    return any(well(each, DEREGISTER) and not well(each, UNITS) for each in since)


def _left_the_app(recorded: Recorded) -> bool:
    """Whether it has changed nothing for the app: put on record alone, or over before that."""
    if recorded.notice.only_told or recorded.found or recorded.unknown:
        return True
    touched = any(
        name.startswith(TOUCH_THE_APP) and report.outcome is not Outcome.SKIPPED
        for name, report in recorded.ended.items()
    )
    return not touched and recorded.outcome in (None, Outcome.FAILED)


def _goes_on_from(before: Notice, notice: Notice) -> bool:
    """Whether a transition for `notice` goes on from one for `before`."""
    drained = before.kind in (*DRAINING, *_GOING_DOWN)
    drained = drained or (before.kind is NoticeKind.LAUNCH and before.into_pool)
    by_hand = notice.kind is NoticeKind.DRAIN  # a person may repeat it
    return drained and not by_hand and notice.kind in (*DRAINING, *_GOING_DOWN)


def _named_after(history: Sequence[Recorded], transition_id: str, notice: Notice) -> str:
    """The first one of those that go on from each other: it has given the commands their names."""
    names = [each.transition_id for each in history]
    place = names.index(transition_id) if transition_id in names else len(names)
    name, about = transition_id, notice
    for each in reversed(history[:place]):
        if each.boot == boot_id() and _goes_on_from(each.notice, about):
            name, about = each.transition_id, each.notice
        elif each.boot != boot_id() or not _left_the_app(each):
            break
    return name


_GOING_DOWN = (NoticeKind.SHUTDOWN, NoticeKind.REBOOT)


def _newest(history: Sequence[Recorded], kind: NoticeKind) -> Recorded | None:
    return next((each for each in reversed(history) if each.notice.kind is kind), None)
