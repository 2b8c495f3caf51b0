"""One state of the world that the agent lives in: small, immutable, hashable.

Time is abstract: an end is still to come (`SOON`) or has been (`PAST`), a transition has time or is late.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from lifecycle_agent.model import (
    COMPLETE,
    LAUNCHES,
    Announced,
    Ending,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    TargetState,
)
from lifecycle_agent.rehearsal import lifecycle
from lifecycle_agent.standing import Standing
from lifecycle_agent.transition.plan import ARRIVAL, START_UNITS
from lifecycle_agent.transition.take_up import TOUCH_THE_APP

# The moment of every look, and ends on the same clock: sooner than any end that a shutdown or a guess gives.
NOW = 10_000.0
SOON, PAST = NOW + 30.0, NOW - 1000.0

POOL = TargetState.WARMED_STOPPED, TargetState.WARMED_RUNNING, TargetState.WARMED_HIBERNATED

# Ways through the lifecycle, by a name that is cheap to compare.
WAYS: dict[str, lifecycle.Passage] = {
    "launch": lifecycle.LAUNCH,
    "terminate": lifecycle.TERMINATE,
    "terminate in the pool": lifecycle.WARMED_TERMINATE,
    "leave pool": lifecycle.LEAVE_POOL,
    "enter standby": lifecycle.ENTER_STANDBY,
    "exit standby": lifecycle.EXIT_STANDBY,
    "detach": lifecycle.DETACH,
    "attach": lifecycle.ATTACH,
    **{f"launch into {rest.value}": lifecycle.into_pool(rest) for rest in POOL},
    **{f"return to {rest.value}": lifecycle.return_to_pool(rest) for rest in POOL},
}


class Group(NamedTuple):
    """The Auto Scaling group, as far as it is about this instance.

    Args:
        word: its lifecycle state; empty when the group does not know it.
        way: which of `WAYS` it is on, or came last; empty for one that never moved.
        asks: the hooks whose actions wait for an answer.
        answer: what our hook was told on this way, in this boot: CONTINUE, ABANDON, `timeout`, or nothing.
    """

    word: str
    way: str = ""
    asks: frozenset[str] = frozenset()
    answer: str = ""

    @property
    def target(self) -> TargetState | None:
        """What its metadata are to show."""
        return WAYS[self.way].target if self.way else None


class Announcements(NamedTuple):
    """What EC2 announces. `spot` is its action; `overdue` whether its time is up."""

    spot: str = ""
    overdue: bool = False
    rebalance: bool = False
    maintenance: bool = False


class Machine(NamedTuple):
    """The machine: `up`, `off`, `frozen` (hibernated), `gone`.

    Args:
        ending: while it goes down.
        then: what it is after that: `up` (booted), `off`, `gone`.
    """

    state: str = "up"
    ending: Ending | None = None
    then: str = ""


class App(NamedTuple):
    """The app and its registration.

    Args:
        ready: whether it has been seen ready since it was started.
        commanded: whether the users' own draining commands have run since then.
        listed: UP or OUT in the registry, empty when it is not there. The worst is assumed: it is UP as soon
            as it runs, and again after each deletion while it does.
    """

    alive: bool = True
    ready: bool = True
    commanded: bool = False
    listed: str = "UP"

    def started(self) -> App:
        return App(True, False, False, "UP")


class Ended(NamedTuple):
    """A step that came to an end; `enough` and `unknown` are what it found (see `model.ENOUGH`)."""

    name: str
    outcome: Outcome
    enough: bool = False
    unknown: bool = False
    unasked: bool = False


class Rec(NamedTuple):
    """A transition in the journal; see `journal.Recorded`. `late`: its time is up."""

    notice: Notice
    ended: tuple[Ended, ...] = ()
    outcome: Outcome | None = None
    this_boot: bool = True
    late: bool = False
    deaths: int = 0
    taken: bool = False
    reboots: int = 0

    @property
    def settled(self) -> bool:
        unanswered = any(
            each.name == COMPLETE and (each.outcome is Outcome.FAILED or each.unasked) for each in self.ended
        )
        return self.outcome is not None and not (self.notice.kind is NoticeKind.TERMINATE and unanswered)


class Journal(NamedTuple):
    """The journal, without what makes no difference any more.

    Args:
        before: where the transitions before `records` have led.
        over: how the termination ended that is among those, if it is.
    """

    before: Standing = Standing()
    over: Outcome | None = None
    records: tuple[Rec, ...] = ()

    def with_record(self, index: int, record: Rec) -> Journal:
        return self._replace(records=(*self.records[:index], record, *self.records[index + 1 :]))


class Watcher(NamedTuple):
    """The resident process.

    Args:
        since: where it stands by what the watcher knows and the journal does not; None where that is nothing.
        included: how many of the records `since` includes.
        held: where it stood when the running transition began.
        paused: whether what has failed is not tried again yet.
    """

    alive: bool = True
    since: Standing | None = None
    included: int = 0
    held: Standing | None = None
    paused: bool = False


class Proc(NamedTuple):
    """A transition's process.

    Args:
        asked: the notice that it was started for.
        place: `waiting` for the lock, `working`, `dead` (to be started again), `ended` (not noticed yet).
        page: its record in the journal.
        notice: the same as it was taken up.
        died: deaths and reboots in the middle, when it began.
        code: its exit code once it has ended.
    """

    asked: Notice
    place: str = "waiting"
    page: int = -1
    notice: Notice | None = None
    died: int = 0
    code: int = 0


class Budget(NamedTuple):
    """What may still happen: so many of each."""

    faults: int = 0
    kills: int = 0
    lost: int = 0  # answers that are given, and never written down
    boots: int = 0
    hands: int = 0
    announcements: int = 0
    moves: int = 99  # of the group


class World(NamedTuple):
    """Everything. `drained`: whether a person has taken it out of service, and not back."""

    group: Group
    shown: TargetState | None
    told: Announcements = Announcements()
    machine: Machine = Machine()
    app: App = App()
    journal: Journal = Journal()
    watcher: Watcher = Watcher()
    child: Proc | None = None
    hand: Proc | None = None
    strays: tuple[Proc, ...] = ()
    drained: bool = False
    budget: Budget = Budget()

    @property
    def procs(self) -> tuple[Proc, ...]:
        return tuple(each for each in (self.child, self.hand, *self.strays) if each is not None)

    @property
    def able(self) -> bool:
        """Whether the machine is there, and stays."""
        return self.machine.state == "up" and self.machine.ending is None

    def observation(self, silent: bool) -> Observation:
        """What the metadata say; `silent` when they do not answer."""
        told, ending = self.told, self.machine.ending
        spot = Announced("spot", told.spot, PAST if told.overdue else SOON) if told.spot else None
        rebalance = Announced("rebalance", "rebalance", PAST) if told.rebalance else None
        maintenance = (Announced("maintenance", "system-reboot", SOON),) if told.maintenance else ()
        target, problem = (None, "no answer") if silent else (self.shown, "")
        return Observation(target, problem, True, ending, spot, rebalance, maintenance)


# -- one form for what makes no difference


def plain(notice: Notice) -> Notice:
    """The notice without when it was seen and what it says to people."""
    ends = None if notice.ends is None else SOON if notice.ends > NOW else PAST
    return replace(notice, reason="", seen_at=NOW, ends=ends)


def plain_standing(standing: Standing) -> Standing:
    return standing if standing.by is None else replace(standing, by=plain(standing.by))


_BACK = (NoticeKind.UNDRAIN, NoticeKind.RETURN, NoticeKind.LEAVE_POOL)


def looked_past(record: Rec) -> bool:
    """Whether the one before this one may be the last that has done something to the app."""
    started = any(each.name == START_UNITS and each.outcome is not Outcome.SKIPPED for each in record.ended)
    notice = record.notice
    # A new transition takes over what was done before it; these do not.
    goes_on = notice.kind is NoticeKind.DRAIN or (notice.kind is NoticeKind.LAUNCH and notice.into_pool)
    untouched = record.outcome in (None, Outcome.FAILED) and not _touched(record)
    untouched = untouched or any(each.enough or each.unknown for each in record.ended)
    return notice.only_told or (
        record.this_boot and (goes_on or untouched or (notice.kind in _BACK and not started))
    )


def _touched(record: Rec) -> tuple[Ended, ...]:
    """The steps that have done something to the app."""
    return tuple(
        each
        for each in record.ended
        if each.name.startswith(TOUCH_THE_APP) and each.outcome is not Outcome.SKIPPED
    )


def forgotten(record: Rec, last: bool) -> Rec:
    """The record without what nobody asks for any more; `take_up.py` says what that is.

    Args:
        last: whether what has been done to the app since is nothing.
    """
    terminate = record.notice.kind is NoticeKind.TERMINATE
    if not record.settled and record.this_boot and (last or terminate) and record.outcome is None:
        return record
    kept: tuple[Ended, ...] = ()
    if not record.settled and terminate:
        kept = record.ended if record.this_boot else tuple(e for e in record.ended if e.name == COMPLETE)
        return record._replace(ended=kept)
    if record.notice.kind in LAUNCHES:
        # Whether it serves, or was not known, is asked for ever.
        needed = (*TOUCH_THE_APP, ARRIVAL, COMPLETE)
        kept = tuple(e for e in record.ended if e.name.startswith(needed) or not e.outcome.well)
    elif last and record.this_boot:
        kept = _touched(record)
    return record._replace(ended=kept, late=False, deaths=0, taken=False, reboots=0)


# Put after a record: another one has begun since, and nothing else is different.
SINCE = Rec(Notice(NoticeKind.REBALANCE, "", NOW, only_told=True), (), Outcome.DONE)

GONE = World(
    Group(""), None, machine=Machine("gone"), app=App(False, False, False, ""), watcher=Watcher(False)
)
