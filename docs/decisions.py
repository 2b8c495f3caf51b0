"""Prints docs/decisions.md from the tables in the code: `make docs`. A test compares the two."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from lifecycle_agent.config import (
    Config,
    HooksSection,
    MaintenanceSection,
    RebalanceSection,
    SpotSection,
)
from lifecycle_agent.model import (
    Announced,
    Ending,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Phase, Standing
from lifecycle_agent.watch.decide import decide
from lifecycle_agent.watch.decision import Decision, Leave, Memory, Record, Start
from lifecycle_agent.watch.wanted import PRECEDENCE

PAGE = Path(__file__).with_suffix(".md")

NOW = 10_000.0
EVERYTHING = Config(
    hooks=HooksSection(launch="warm-up"),
    rebalance=RebalanceSection(action="drain"),
    maintenance=MaintenanceSection(action="drain"),
)
TOLD_ONLY = replace(
    EVERYTHING,
    spot=SpotSection(action="notify"),
    rebalance=RebalanceSection(action="notify"),
    maintenance=MaintenanceSection(action="notify"),
)
DEFAULTS = Config()

SPOT = Announced("terminate at 1", "terminate", NOW + 100)
REBALANCE = Announced("at 1", "rebalance", NOW - 1)
MAINTENANCE = Announced("instance-event-1", "system-reboot", NOW + 60)

# What may be announced at once.
ANNOUNCED = {
    "nothing": Observation(None, maintenance=()),
    "spot": Observation(None, spot=SPOT, maintenance=()),
    "rebalance": Observation(None, rebalance=REBALANCE, maintenance=()),
    "maintenance": Observation(None, maintenance=(MAINTENANCE,)),
    "all three": Observation(None, spot=SPOT, rebalance=REBALANCE, maintenance=(MAINTENANCE,)),
}

PROBLEM = "the metadata service does not answer"
TARGETS: dict[str, tuple[TargetState | None, str]] = {
    **{target.value: (target, "") for target in TargetState},
    "(none)": (None, ""),
    "(no answer)": (None, PROBLEM),
}


def _notice(kind: NoticeKind) -> Notice:
    completes = {
        NoticeKind.TERMINATE: LifecycleTransition.TERMINATING,
        NoticeKind.ENTER_POOL: LifecycleTransition.TERMINATING,
        NoticeKind.REPLACE_ROOT: LifecycleTransition.TERMINATING,
        NoticeKind.SPOT: LifecycleTransition.TERMINATING,
        NoticeKind.LAUNCH: LifecycleTransition.LAUNCHING,
        NoticeKind.LEAVE_POOL: LifecycleTransition.LAUNCHING,
    }.get(kind)
    event = {NoticeKind.SPOT: "earlier", NoticeKind.REBALANCE: "earlier", NoticeKind.MAINTENANCE: "earlier"}
    ends = NOW - 1000 if kind is NoticeKind.SPOT else None
    target = TargetState.IN_SERVICE if kind is NoticeKind.LAUNCH else None
    return Notice(
        kind, kind.value, NOW - 2000, completes, ends=ends, target=target, event=event.get(kind, "")
    )


def _after(
    kind: NoticeKind, outcome: Outcome | None = Outcome.DONE, this_boot: bool = True, **changes: object
) -> Standing:
    """Where an instance stands that was in service, and then had a transition of that kind."""
    found = Standing().after(_notice(NoticeKind.FOUND), Outcome.DONE)
    notice = replace(_notice(kind), **changes)  # type: ignore[arg-type]
    return found.after(notice, outcome, this_boot)


# Every way in which an instance can stand.
STANDINGS: dict[str, Standing] = {
    Phase.NEW.value: Standing(),
    Phase.IN_SERVICE.value: _after(NoticeKind.FOUND),
    "out of service, booted since": _after(NoticeKind.SHUTDOWN, this_boot=False),
    "out of service, the way back failed": _after(NoticeKind.RETURN, Outcome.FAILED),
    "out of service, the launch failed": _after(NoticeKind.LAUNCH, Outcome.FAILED),
    Phase.DRAINED.value: _after(NoticeKind.DRAIN),
    "drained by hand, cut off": _after(NoticeKind.DRAIN, None),
    "drained by hand, booted since": _after(NoticeKind.DRAIN, this_boot=False),
    "drained by hand, booted since, cut off": _after(NoticeKind.STAY_DRAINED, None),
    Phase.STANDBY.value: _after(NoticeKind.STANDBY),
    "on standby, cut off": _after(NoticeKind.STANDBY, None),
    "on standby, booted since": _after(NoticeKind.STANDBY, this_boot=False),
    Phase.POOLED.value: _after(NoticeKind.ENTER_POOL),
    "in the warm pool, cut off": _after(NoticeKind.ENTER_POOL, None),
    "in the warm pool, booted since": _after(NoticeKind.ENTER_POOL, this_boot=False),
    Phase.DETACHED.value: _after(NoticeKind.DETACH),
    "drained for a new root volume": _after(NoticeKind.REPLACE_ROOT),
    "drained for a new root volume, booted from it": _after(NoticeKind.REPLACE_ROOT, this_boot=False),
    "interrupted, and that is over": _after(NoticeKind.SPOT),
    "interrupted": _after(NoticeKind.SPOT, ends=NOW + 10, event=SPOT.event),
    "drained for a rebalance": _after(NoticeKind.REBALANCE, event=REBALANCE.event),
    "drained for a rebalance, booted since": _after(
        NoticeKind.REBALANCE, this_boot=False, event=REBALANCE.event
    ),
    "drained for maintenance": _after(NoticeKind.MAINTENANCE, event=MAINTENANCE.event),
    "drained for maintenance, booted since": _after(
        NoticeKind.MAINTENANCE, this_boot=False, event=MAINTENANCE.event
    ),
    Phase.GONE.value: _after(NoticeKind.TERMINATE),
    "gone, not answered": _after(NoticeKind.TERMINATE, None),
}

RUNNING = [
    kind
    for kind in NoticeKind
    if kind not in (NoticeKind.FOUND, NoticeKind.DETACH, NoticeKind.ATTACH, NoticeKind.DRAIN)
    and kind is not NoticeKind.REPLACE_ROOT  # by an event: never the watcher's own
]


def word(decision: Decision, running: Notice | None = None) -> str:
    """A decision in a word or two."""
    match decision:
        case Start(notice) if running is not None and notice.kind is running.kind:
            return "less time"
        case Start(Notice(only_told=True) as notice):
            return f"tell: {notice.kind.value}"
        case Start(notice):
            return notice.kind.value
        case Record(notice):
            return f"record: {notice.kind.value}"
        case Leave():
            return "leave"
    return "-"


def lines() -> Iterator[str]:
    """The page."""
    yield from _text(
        """
        # What the agent does, and when

        Printed from the code by `make docs` (`watch/wanted.py`, `decide.py`, `ending.py` in
        `agent/lifecycle_agent`); a test holds the two together.

        ## The order of precedence

        Where several are true at once, the first one is acted on. What runs already is interrupted by
        terminate and by spot (but neither by the other: a spot notice leaves a termination less time), and
        what the group wants takes the place of what it wanted before. Everything else waits until nothing
        runs.
        """
    )
    yield from _table(["", "notice", "seen as", "what is done"], _precedence())
    yield from _text(
        """
        ## Nothing runs

        For each place where an instance can stand by its journal, and each target lifecycle state: the
        decision by what EC2 announces. `[launch]` is configured; `[spot]`, `[rebalance]` and
        `[maintenance]` are to drain. `-` is to wait.
        """
    )
    head = ["stands", "target", *ANNOUNCED]
    everything = list(_at_rest(EVERYTHING))
    yield from _table(head, everything)
    yield from _text("The same where people are only told, as far as it differs:")
    told = list(_at_rest(TOLD_ONLY))
    yield from _table(head, [row for row in told if row not in everything])
    yield from _text("And without any `[launch]`, as far as it differs from that:")
    plain = replace(TOLD_ONLY, hooks=DEFAULTS.hooks)
    yield from _table(head, [row for row in _at_rest(plain) if row not in told])
    yield from _text(
        """
        ## A transition runs

        What takes the place of a running transition, by what the group wants then; `less time` goes on
        with it.
        """
    )
    yield from _table(["runs", "target", *ANNOUNCED], _in_transition())
    yield from _text(
        """
        ## The service is told to end

        Of an instance in service by the group's word, with `[shutdown]` as it is by default.
        """
    )
    endings = [ending.value for ending in Ending]
    yield from _table(["stands", *endings], _ending_at_rest())
    yield ""
    yield from _table(["runs", *endings], _ending_in_transition())


def _text(paragraphs: str) -> Iterator[str]:
    lines = textwrap.dedent(paragraphs).strip().splitlines()
    yield from lines if lines[0].startswith("# ") else ["", *lines]
    yield ""


def _precedence() -> Iterator[list[str]]:
    for number, row in enumerate(PRECEDENCE, 1):
        yield [str(number), row.name, row.when, row.does]


def _at_rest(config: Config) -> Iterator[list[str]]:
    for stands, standing in STANDINGS.items():
        for target, (state, problem) in TARGETS.items():
            seen = [replace(each, target=state, problem=problem) for each in ANNOUNCED.values()]
            yield [stands, target, *(word(decide(each, Memory(standing), NOW, config)) for each in seen)]


def _in_transition() -> Iterator[list[str]]:
    standing = _after(NoticeKind.FOUND)
    for kind in RUNNING:
        memory = Memory(standing, _notice(kind), "told")
        for target, (state, problem) in TARGETS.items():
            seen = [replace(each, target=state, problem=problem) for each in ANNOUNCED.values()]
            found = [word(decide(each, memory, NOW, EVERYTHING), memory.running) for each in seen]
            yield [kind.value, target, *found]


def _ending_at_rest() -> Iterator[list[str]]:
    for stands, standing in STANDINGS.items():
        yield [stands, *_ending(Memory(standing))]


def _ending_in_transition() -> Iterator[list[str]]:
    for kind in RUNNING:
        notice = replace(_notice(kind), ends=None)
        yield [kind.value, *_ending(Memory(_after(NoticeKind.FOUND), notice, "told"))]


def _ending(memory: Memory) -> Iterator[str]:
    for ending in Ending:
        seen = Observation(TargetState.IN_SERVICE, ending=ending)
        yield word(decide(seen, memory, NOW, EVERYTHING), memory.running)


def _table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Lines that say the same for several targets are made one."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    merged: list[list[str]] = []
    for row in rows:
        same = len(head) > 4 and merged and merged[-1][0] == row[0] and merged[-1][2:] == row[2:]
        if same:
            merged[-1] = [row[0], f"{merged[-1][1]}, {row[1]}", *row[2:]]
        else:
            merged.append(row)
    for row in merged:
        yield "| " + " | ".join(row) + " |"


def text() -> str:
    """The whole page."""
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
