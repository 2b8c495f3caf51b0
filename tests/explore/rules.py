"""The agent's own rules, asked one question at a time: the real code, with nothing outside it.

Every answer is kept, for the same question comes up in thousands of states. What decides is the agent's:
`decide`, `standing`, `Transition.take_up`, `make_plan`, the `Runner`, the group's side with `choose_hook`,
`after_refusal` and `answer`, and `Arrival`. What is here only stops it before it does anything.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from lifecycle_agent.clients.autoscaling import GroupError, Membership, Refusal
from lifecycle_agent.config import Config
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, LifecycleAgentError
from lifecycle_agent.journal import Recorded, boot_id
from lifecycle_agent.model import (
    COMPLETE,
    ENOUGH,
    UNASKED,
    UNKNOWN,
    ActionResult,
    Hook,
    LifecycleState,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    StepReport,
)
from lifecycle_agent.standing import Standing, standing
from lifecycle_agent.steps import StepRun, Work
from lifecycle_agent.steps.arrival import Arrival
from lifecycle_agent.transition import completion, conduct, plan, take_up
from lifecycle_agent.transition.heartbeat import GroupSide
from lifecycle_agent.transition.runner import Runner
from lifecycle_agent.transition.worker import Stop
from lifecycle_agent.watch.decide import decide as decide_for_real
from lifecycle_agent.watch.decision import Decision, Memory, Record, Start
from tests.explore.world import NOW, PAST, SOON, Ended, Journal, Rec, plain, plain_standing

GROUP = "orders"
BOOT, EARLIER = boot_id(), "an earlier one"
MOST_DEATHS = 2 * plan.TOO_MANY_DEATHS  # more make no difference
LONG = 1_000_000.0  # seconds of a time that is not up


class Next(NamedTuple):
    """What a transition's process does next: a step, the answer, or nothing any more.

    Args:
        skipped: what it puts on record as left out, on its way there.
        result: the answer, when that is it.
        outcome: how all of it went so far.
    """

    skipped: tuple[Ended, ...]
    step: str
    result: ActionResult | None
    outcome: Outcome


class TakenUp(NamedTuple):
    """Which record a process works on; -1 when there is nothing to do."""

    page: int
    notice: Notice | None
    journal: Journal
    died: int


@dataclass
class Rules:
    """The agent with a configuration, in a group with certain hooks.

    Args:
        hooks: all that the group has.
        retains: whether an ABANDON makes the group keep an instance that it takes away.
        stops: whether the watcher stops a transition before it starts another: for breaking, as the next.
        locks: whether the lock holds.
    """

    config: Config
    hooks: tuple[Hook, ...]
    retains: bool = False
    stops: bool = True
    locks: bool = True
    decide: Callable[..., Decision] = decide_for_real
    make_plan: Callable[..., plan.Plan] = plan.make_plan
    _kept: dict[Any, Any] = field(default_factory=dict)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return found

    # -- the watcher

    def decision(self, seen: Observation, memory: Memory) -> Decision:
        def make() -> Decision:
            decision = self.decide(seen, memory, NOW, self.config)
            match decision:
                case Start(notice):
                    return Start(plain(notice), decision.sentence)
                case Record(notice):
                    return Record(plain(notice), decision.sentence)
            return decision

        found: Decision = self._once(("decide", seen, memory), make)
        return found

    def standing(self, records: tuple[Rec, ...], since: Standing) -> Standing:
        """Where it stands after these."""
        found: Standing = self._once(
            ("standing", records, since),
            lambda: plain_standing(standing(_history(records), BOOT, since)),
        )
        return found

    # -- a transition's process

    def take_up(self, notice: Notice, journal: Journal) -> TakenUp:
        found: TakenUp = self._once(("take up", notice, journal), lambda: self._take_up(notice, journal))
        return found

    def _take_up(self, notice: Notice, journal: Journal) -> TakenUp:
        pages = _Pages(journal)
        if take_up.already_over(notice, pages) is not None:  # type: ignore[arg-type]
            return TakenUp(-1, None, journal, 0)
        transition = take_up.Transition.take_up(notice, self.config, pages)  # type: ignore[arg-type]
        index, recorded = pages.page, transition.recorded
        died = max(recorded.deaths, recorded.reboots) if recorded else 0
        record = pages.records[index]
        ended = tuple(_ended(each) for each in transition.ended.values())
        record = record._replace(
            ended=ended, outcome=None, deaths=min(record.deaths + record.taken, MOST_DEATHS), taken=True
        )
        return TakenUp(index, plain(transition.notice), pages.journal().with_record(index, record), died)

    def next(self, notice: Notice, ended: tuple[Ended, ...], died: int, late: bool) -> Next:
        """What is next by the real runner, which is stopped before it does it."""
        found: Next = self._once(
            ("next", notice, ended, died, late), lambda: self._next(notice, ended, died, late)
        )
        return found

    def _next(self, notice: Notice, ended: tuple[Ended, ...], died: int, late: bool) -> Next:
        over = late or notice.ends == PAST
        plan_ = self.make_plan(
            notice, self.config, died, None if notice.ends is None else 0.0 if over else 25.0
        )
        pages = _RunnersPages()
        deadline = Deadline(
            NOW + (-1.0 if over else LONG if notice.ends is None else SOON - NOW), lambda: NOW
        )
        before = {each.name: _report(each) for each in ended}
        runner = Runner(
            plan_,
            deadline,
            pages,  # type: ignore[arg-type]
            _Silence(),  # type: ignore[arg-type]
            Stop(),
            before,
            _never_made,
            pages.complete if notice.completes is not None else None,
            conduct._answer_to_failure(notice, self.config),
            Deadline(notice.ends, lambda: NOW) if notice.ends is not None else None,
            conduct._answer_to_success(notice),
        )
        with contextlib.suppress(Interrupted):
            runner.run()
        skipped = tuple(_ended(each) for each in pages.skipped)
        return Next(skipped, pages.step, pages.result, runner.outcome)

    def arrives(self, word: str, leaving: bool) -> bool:
        """Whether the real step finds a new instance, for which something is to be done.

        Args:
            leaving: whether it comes out of the warm pool.
        """

        def make() -> bool:
            group = _Client(word, False, ())
            done = Arrival(group, leaving=leaving).run(_Patience())
            return not done.data.get(ENOUGH)

        found: bool = self._once(("arrives", word, leaving), make)
        return found

    def answer(
        self, notice: Notice, result: ActionResult, word: str, asks: frozenset[str], late: bool
    ) -> tuple[str, str]:
        """One try of the real answer.

        Returns:
            What came of it (`given`, `none owed`, `not asked`, `failed`, `again`), and the hook that has the
            answer.
        """
        found: tuple[str, str] = self._once(
            (
                "answer",
                notice.completes,
                notice.if_asked,
                notice.ends,
                notice.action,
                result,
                word,
                asks,
                late,
            ),
            lambda: self._answer(notice, result, word, asks, late),
        )
        return found

    def _answer(
        self, notice: Notice, result: ActionResult, word: str, asks: frozenset[str], late: bool
    ) -> tuple[str, str]:
        if notice.completes is None:
            raise AssertionError("nobody is owed an answer")
        hooks = self.config.hooks
        terminating = notice.completes is LifecycleTransition.TERMINATING
        client = _Client(word, True, self.hooks, asks)
        side = GroupSide(
            lambda: client,
            notice.completes,
            hooks.terminate if terminating else hooks.launch,
            None,
            Deadline(NOW + LONG, lambda: NOW),
            lambda ends: None,
            _OneLook(),
            notice.if_asked,
            notice.action,
            machine_goes=notice.ends is not None,
        )
        side.run()  # one look at the group
        until = Deadline(NOW - 1 if late else NOW + LONG, lambda: NOW)
        try:
            said = side.complete(result, until, until, _again, lambda text: None)
        except Interrupted:
            return "again", ""
        except LifecycleAgentError:
            return "failed", ""
        if said == completion.NOT_ASKED:
            return "not asked", ""
        return ("given", client.answered) if said.endswith(completion.GIVEN) else ("none owed", "")


# -- what the real code is handed


class _Pages:
    """A journal in memory, for `take_up`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.records = list(journal.records)
        self.page = -1

    def history(self) -> list[Recorded]:
        over = self._journal.over
        before = [Rec(Notice(NoticeKind.TERMINATE, "", NOW), (), over)] if over is not None else []
        found = [_recorded(-1, each) for each in before]
        self.found = found + [_recorded(index, each) for index, each in enumerate(self.records)]
        return self.found

    def begin(self, transition_id: str, notice: Notice, ends: float) -> None:
        self.records.append(Rec(plain(notice)))
        self.page = len(self.records) - 1

    def resume(self, recorded: Recorded) -> None:
        self.page = int(recorded.transition_id)
        self._resumed = recorded

    def deadline(self, ends: float, seen_at: float) -> None:
        """Once more in another boot, or in less time."""
        record, now = self.records[self.page], self._resumed
        self.records[self.page] = record._replace(
            this_boot=now.boot == BOOT,
            reboots=now.reboots,
            ended=tuple(_ended(each) for each in now.ended.values()),
            late=record.late and record.this_boot,
        )

    def step_ended(self, report: StepReport) -> None:
        """What is taken over from the one before; `Transition.ended` has it, too."""

    def journal(self) -> Journal:
        return self._journal._replace(records=tuple(self.records))


class _RunnersPages:
    """A journal for the runner, which stops it before its next step."""

    def __init__(self) -> None:
        self.step = ""
        self.result: ActionResult | None = None
        self.skipped: list[StepReport] = []

    def step_started(self, name: str) -> None:
        self.step = name
        if name != COMPLETE:
            raise Interrupted

    def step_ended(self, report: StepReport) -> None:
        self.skipped.append(report)

    def complete(self, result: ActionResult, work: Work) -> str:
        self.result = result
        raise Interrupted


class _Silence:
    """Nobody is told anything."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class _Patience:
    """A step's time, which goes by at once."""

    def __init__(self) -> None:
        self._now = NOW
        self.deadline = Deadline(NOW + LONG, lambda: self._now)

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        pass

    def wait(self, seconds: float) -> None:
        self._now += seconds


class _OneLook(threading.Event):
    """Ends the group's side after its first look."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


class _Client:
    """The group's API, with one answer to each question."""

    def __init__(
        self, word: str, known: bool, hooks: tuple[Hook, ...], asks: frozenset[str] = frozenset()
    ) -> None:
        self._word, self._hooks, self._asks = word, hooks, asks
        self.answered = ""

    def membership(self, deadline: Deadline) -> Membership | None:
        return Membership(GROUP, LifecycleState(self._word)) if self._word else None

    def hooks(self, group: str, deadline: Deadline) -> list[Hook]:
        return list(self._hooks)

    def complete(
        self, group: str, hook: str, result: ActionResult, deadline: Deadline, token: str = ""
    ) -> None:
        self._refuse_unless(hook)
        self.answered = hook

    def heartbeat(self, group: str, hook: str, deadline: Deadline, token: str = "") -> None:
        self._refuse_unless(hook)

    def _refuse_unless(self, hook: str) -> None:
        if hook not in self._asks:
            raise GroupError("No active Lifecycle Action found", "", Refusal.NOT_ACTIVE)


def _again(seconds: float) -> NoReturn:
    raise Interrupted


def _never_made(step: plan.PlannedStep) -> StepRun:
    raise AssertionError(f"{step.name} is not to run")


def _history(records: Iterable[Rec]) -> list[Recorded]:
    found = [_recorded(index, each) for index, each in enumerate(records)]
    for each in found[:-1]:
        each.followed = True
    return found


def _recorded(index: int, record: Rec) -> Recorded:
    ended = {each.name: _report(each) for each in record.ended}
    boot, ends = (BOOT if record.this_boot else EARLIER), (0.0 if record.late else float("inf"))
    return Recorded(
        str(index),
        record.notice,
        "",
        boot,
        ends,
        ended,
        reboots=record.reboots,
        outcome=record.outcome,
        _deaths=record.deaths,
        _taken=record.taken,
    )


def _report(ended: Ended) -> StepReport:
    data: Mapping[str, Any] = {ENOUGH: ended.enough, UNKNOWN: ended.unknown, UNASKED: ended.unasked}
    return StepReport(ended.name, ended.outcome, "", 0.0, (), data)


def _ended(report: StepReport) -> Ended:
    found, unknown, unasked = (bool(report.data.get(key)) for key in (ENOUGH, UNKNOWN, UNASKED))
    return Ended(report.name, report.outcome, found, unknown, unasked)
