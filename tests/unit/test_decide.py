"""The watcher's table: every combination of where an instance stands, what is wanted, what is announced."""

from __future__ import annotations

import itertools
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifecycle_agent.config import Config, HooksSection, SpotSection, StandbySection
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
from lifecycle_agent.watch.decide import SAME_TIME_SECONDS, decide
from lifecycle_agent.watch.decision import Decision, Leave, Memory, Record, Start, Stay
from lifecycle_agent.watch.wanted import INTERRUPTED_SECONDS, PRECEDENCE, SPOT_SECONDS

DOCS = Path(__file__).parents[2] / "docs"
PRINTED: dict[str, Any] = runpy.run_path(str(DOCS / "decisions.py"))

NOW = 10_000.0
PLAIN = Config()
LAUNCHES = Config(hooks=HooksSection(launch="warm-up"))
TERMINATING, LAUNCHING = LifecycleTransition.TERMINATING, LifecycleTransition.LAUNCHING
SPOT = Announced("terminate at 1", "terminate", NOW + 100)
IN_SERVICE = Standing().after(Notice(NoticeKind.FOUND, "found", 1.0), Outcome.DONE)
POOLED = IN_SERVICE.after(Notice(NoticeKind.ENTER_POOL, "pool", 2.0), Outcome.DONE)
TERMINATE = Notice(NoticeKind.TERMINATE, "the group takes this instance away", NOW - 60, TERMINATING)


NOTHING = Memory()


def sees(
    target: TargetState | None, memory: Memory = NOTHING, config: Config = PLAIN, **more: Any
) -> Decision:
    return decide(Observation(target, **more), memory, NOW, config)


# -- the whole table


def test_the_page_is_what_the_code_does() -> None:
    """Every combination has its expected decision on the page, which people have read."""
    assert (DOCS / "decisions.md").read_text() == PRINTED["text"](), (
        "run `make docs`, and read what has changed"
    )


def test_every_combination_is_on_it() -> None:
    rows = list(PRINTED["_at_rest"](PRINTED["EVERYTHING"]))
    assert len(rows) == len(PRINTED["STANDINGS"]) * (len(TargetState) + 2)
    assert {standing.phase for standing in PRINTED["STANDINGS"].values()} == set(Phase)
    assert {PRINTED["RUNNING"][n].value for n in range(len(PRINTED["RUNNING"]))} == {
        kind.value
        for kind in NoticeKind
        if kind.value not in ("found", "detach", "attach", "drain", "replace-root")
    }


def test_the_precedence_is_on_it_in_its_order() -> None:
    page = (DOCS / "decisions.md").read_text()
    assert re.findall(r"^\| \d+ \| ([^|]+) \|", page, re.MULTILINE) == [row.name for row in PRECEDENCE]


@pytest.mark.parametrize("standing", PRINTED["STANDINGS"].values(), ids=PRINTED["STANDINGS"])
def test_whatever_is_announced_a_group_that_takes_the_instance_away_is_answered(standing: Standing) -> None:
    for seen, target in itertools.product(
        PRINTED["ANNOUNCED"].values(), (TargetState.TERMINATED, TargetState.WARMED_TERMINATED)
    ):
        decision = decide(replace(seen, target=target), Memory(standing), NOW, LAUNCHES)
        if standing.phase is Phase.GONE and standing.finished:
            assert isinstance(decision, Stay)
        else:
            assert isinstance(decision, Start)
            assert decision.notice.kind is NoticeKind.TERMINATE
            assert decision.notice.completes is TERMINATING
            assert (decision.notice.ends is not None) == (seen.spot is not None)


@pytest.mark.parametrize("standing", PRINTED["STANDINGS"].values(), ids=PRINTED["STANDINGS"])
def test_what_was_decided_is_not_decided_again(standing: Standing) -> None:
    """Neither while it runs nor once it is done: nothing is done twice, and nothing goes round in circles."""
    for seen, target, config in itertools.product(
        PRINTED["ANNOUNCED"].values(), (*TargetState, None), (PLAIN, LAUNCHES, PRINTED["EVERYTHING"])
    ):
        memory = Memory(standing)
        for _ in range(6):
            decision = decide(replace(seen, target=target), memory, NOW, config)
            if isinstance(decision, Stay):
                break
            assert isinstance(decision, Start | Record)
            if isinstance(decision, Start):
                running = replace(memory, running=decision.notice, told="told")
                assert decide(replace(seen, target=target), running, NOW + 1, config) == Stay("told")
            memory = Memory(memory.standing.after(decision.notice, Outcome.DONE))
        else:
            raise AssertionError(f"{standing.phase} and {target} come to no rest")


# -- notices, as they are made


def test_the_group_takes_the_instance_away() -> None:
    decision = sees(TargetState.TERMINATED)
    assert decision == Start(replace(TERMINATE, seen_at=NOW), "starting: the group takes this instance away")


@pytest.mark.parametrize("target", [TargetState.IN_SERVICE, TargetState.WARMED_STOPPED])
def test_a_new_instance(target: TargetState) -> None:
    decision = sees(target, config=LAUNCHES)
    assert isinstance(decision, Start)
    assert (decision.notice.kind, decision.notice.completes) == (NoticeKind.LAUNCH, LAUNCHING)
    assert decision.notice.target is target


def test_a_launching_hook_that_is_not_ours_is_left_to_others() -> None:
    decision = sees(TargetState.IN_SERVICE)
    assert isinstance(decision, Record)
    assert decision.notice.kind is NoticeKind.FOUND
    pool = sees(TargetState.WARMED_RUNNING)
    assert isinstance(pool, Start)
    assert pool.notice.completes is None


def test_standby_can_be_ignored() -> None:
    config = Config(standby=StandbySection(action="ignore"))
    decision = sees(TargetState.STANDBY, Memory(IN_SERVICE), config)
    assert decision == Stay("waiting: on standby: the app keeps running and keeps its registration")


def test_without_an_answer_nothing_starts() -> None:
    assert sees(None, problem="no answer") == Stay("waiting: no answer")
    assert sees(None) == Stay("waiting: no group has said yet what it wants of this instance")


# -- a spot interruption


def spot(at: float) -> Announced:
    return Announced(f"terminate {at}", "terminate", at)


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        (NOW + 100, NOW + 100),
        (NOW + 1, NOW + 1),
        # this machine's clock, or the one that made the notice, is wrong
        (NOW - 1, NOW + SPOT_SECONDS),
        (NOW + 3600, NOW + SPOT_SECONDS),
    ],
)
def test_the_time_that_an_interruption_leaves(at: float, ends: float) -> None:
    decision = sees(TargetState.IN_SERVICE, Memory(IN_SERVICE), spot=spot(at))
    assert isinstance(decision, Start)
    notice = decision.notice
    assert (notice.kind, notice.ends, notice.completes, notice.if_asked) == (
        NoticeKind.SPOT,
        ends,
        TERMINATING,
        True,
    )


@pytest.mark.parametrize("running", [TERMINATE, replace(TERMINATE, kind=NoticeKind.ENTER_POOL)], ids=str)
def test_in_the_middle_of_an_ordinary_drain_there_is_less_time(running: Notice) -> None:
    memory = Memory(IN_SERVICE, running, "told")
    decision = sees(TargetState.TERMINATED, memory, spot=SPOT)
    assert (
        decision
        == Start(
            replace(running, ends=SPOT.at), "starting: EC2 interrupts this spot instance: there is less time"
        )
        or running.kind is NoticeKind.ENTER_POOL
    )
    tightened = replace(memory, running=replace(TERMINATE, ends=SPOT.at))
    moved = replace(SPOT, at=SPOT.at - SAME_TIME_SECONDS + 0.1)
    assert sees(TargetState.TERMINATED, tightened, spot=moved) == Stay("told")


def test_a_time_that_was_guessed_does_not_tighten_again_and_again() -> None:
    memory = Memory(IN_SERVICE, replace(TERMINATE, ends=NOW - 50 + SPOT_SECONDS), "told")
    assert sees(TargetState.TERMINATED, memory, spot=spot(NOW - 900)) == Stay("told")


def test_slept_through_and_woken_up_it_comes_back() -> None:
    """Hibernated: the boot is the same, the clock has jumped over the end, the notice is gone."""
    notice = Notice(NoticeKind.SPOT, "spot", 1.0, ends=NOW - INTERRUPTED_SECONDS - 1, event="hibernate 1")
    slept = Memory(IN_SERVICE.after(notice, Outcome.FAILED))
    decision = sees(TargetState.IN_SERVICE, slept)
    assert isinstance(decision, Start)
    assert decision.notice.kind is NoticeKind.UNDRAIN
    assert isinstance(sees(None, slept, problem="no answer"), Stay)
    before = Memory(IN_SERVICE.after(replace(notice, ends=NOW + 1), Outcome.DONE))
    assert isinstance(sees(TargetState.IN_SERVICE, before), Stay)


def test_a_machine_that_was_drained_by_hand_stays_so_over_an_interruption() -> None:
    drained = IN_SERVICE.after(Notice(NoticeKind.DRAIN, "by hand", 1.0), Outcome.DONE)
    after = drained.after(Notice(NoticeKind.SPOT, "spot", 2.0, event="stop 1", ends=3.0), Outcome.DONE)
    assert after.phase is Phase.DRAINED
    assert ("spot", "stop 1") in {(kind.value, event) for kind, event in after.handled}


# -- maintenance


def scheduled(at: float, event: str = "instance-event-1") -> tuple[Announced, ...]:
    return (Announced(event, "system-reboot", at),)


def test_maintenance_drains_a_lead_time_before() -> None:
    config = PRINTED["EVERYTHING"]
    lead = config.maintenance.lead
    memory = Memory(IN_SERVICE)
    early = sees(TargetState.IN_SERVICE, memory, config, maintenance=scheduled(NOW + lead + 1))
    due = sees(TargetState.IN_SERVICE, memory, config, maintenance=scheduled(NOW + lead))
    assert isinstance(early, Stay)
    assert isinstance(due, Start)
    assert (due.notice.kind, due.notice.event) == (NoticeKind.MAINTENANCE, "instance-event-1")


def test_each_event_is_told_once() -> None:
    memory = Memory(IN_SERVICE)
    events = (*scheduled(NOW + 9e5, "two"), *scheduled(NOW + 8e5, "one"))
    told = []
    while isinstance(decision := sees(TargetState.IN_SERVICE, memory, maintenance=events), Start):
        assert decision.notice.only_told
        told.append(decision.notice.event)
        memory = Memory(memory.standing.after(decision.notice, Outcome.DONE))
    assert told == ["one", "two"]
    assert memory.standing.phase is Phase.IN_SERVICE


def test_what_gave_way_waits_and_what_is_owed_an_answer_does_not() -> None:
    told = "standby gives way to what is done by hand"
    memory = Memory(IN_SERVICE, None, told, NOW + 5, again=NoticeKind.STANDBY)
    assert sees(TargetState.STANDBY, memory) == Stay("waiting: standby gives way to what is done by hand")
    owed = sees(TargetState.WARMED_RUNNING, memory)
    assert isinstance(owed, Start)
    assert isinstance(sees(TargetState.TERMINATED, memory), Start)
    assert isinstance(sees(TargetState.STANDBY, replace(memory, not_before=NOW)), Start)


@pytest.mark.parametrize("kind", [NoticeKind.RETURN, NoticeKind.UNDRAIN, NoticeKind.LAUNCH])
def test_a_way_back_that_is_tried_again_later_holds_nothing_else_up(kind: NoticeKind) -> None:
    """Its pause may be an hour."""
    out = Standing().after(Notice(kind, "failed", 1.0, target=TargetState.IN_SERVICE), Outcome.FAILED)
    memory = Memory(out, told="it has failed, and is tried again", not_before=NOW + 3600, again=kind)
    assert sees(TargetState.IN_SERVICE, memory) == Stay("waiting: it has failed, and is tried again")
    standby = sees(TargetState.STANDBY, memory)
    assert isinstance(standby, Start)
    assert standby.notice.kind is NoticeKind.STANDBY


@pytest.mark.parametrize("waits", ["by hand", "gave way"])
def test_what_waits_does_not_hide_what_is_owed_an_answer_below_it(waits: str) -> None:
    memory = Memory(IN_SERVICE, told="gave way", not_before=NOW + 5, again=NoticeKind.SPOT)
    if waits == "by hand":
        memory = Memory(IN_SERVICE, by_hand="somebody drains it")
    config = Config(spot=SpotSection(action="notify"))
    spot = Announced("terminate at 1", "terminate", NOW + 100)
    decision = sees(TargetState.WARMED_STOPPED, memory, config, spot=spot)
    assert isinstance(decision, Start)
    assert decision.notice.kind is NoticeKind.ENTER_POOL


def test_what_somebody_is_at_by_hand_is_waited_for_unless_an_answer_is_owed() -> None:
    at_it = Standing().after(Notice(NoticeKind.UNDRAIN, "by hand", 1.0), None)
    memory = Memory(at_it, by_hand="undrain is being done by hand: step launch.ready")
    for target in (TargetState.IN_SERVICE, TargetState.STANDBY):
        assert sees(target, memory) == Stay("waiting: undrain is being done by hand: step launch.ready")
    assert isinstance(sees(TargetState.TERMINATED, memory), Start)
    assert isinstance(sees(TargetState.WARMED_STOPPED, memory), Start)
    assert isinstance(sees(TargetState.IN_SERVICE, replace(memory, by_hand="")), Start)


@pytest.mark.parametrize("target", [TargetState.IN_SERVICE, TargetState.WARMED_STOPPED])
def test_a_launch_that_is_interrupted_is_abandoned(target: TargetState) -> None:
    launch = Notice(NoticeKind.LAUNCH, "new", NOW, LAUNCHING, target=target)
    for memory in (Memory(running=launch, told="told"), Memory()):
        decision = sees(target, memory, LAUNCHES, spot=SPOT)
        assert isinstance(decision, Start)
        assert (decision.notice.kind, decision.notice.completes) == (NoticeKind.SPOT, LAUNCHING)
        assert decision.notice.if_asked
    leaves = sees(TargetState.IN_SERVICE, Memory(POOLED), LAUNCHES, spot=SPOT)
    assert isinstance(leaves, Start)
    assert leaves.notice.completes is LAUNCHING
    rests = sees(TargetState.WARMED_RUNNING, Memory(POOLED), LAUNCHES, spot=SPOT)
    assert isinstance(rests, Start)
    assert rests.notice.completes is TERMINATING


def test_one_that_was_interrupted_in_its_launch_is_launched_when_that_is_over() -> None:
    spot = Notice(NoticeKind.SPOT, "spot", 1.0, LAUNCHING, ends=2.0, event="stop 1")
    interrupted = Standing().after(spot, Outcome.DONE)
    decision = sees(TargetState.IN_SERVICE, Memory(interrupted), LAUNCHES)
    assert isinstance(decision, Start)
    launch = decision.notice
    assert (launch.kind, launch.completes, launch.if_asked) == (NoticeKind.LAUNCH, LAUNCHING, True)
    cut_off = sees(TargetState.IN_SERVICE, Memory(interrupted.after(launch, None)), LAUNCHES)
    assert isinstance(cut_off, Start)
    assert cut_off.notice == replace(launch, reason="the launch goes on")
    failed = sees(TargetState.IN_SERVICE, Memory(interrupted.after(launch, Outcome.FAILED)), LAUNCHES)
    assert isinstance(failed, Start)
    assert (failed.notice.kind, failed.notice.completes) == (NoticeKind.LAUNCH, None)


def test_a_launch_out_of_an_interruption_is_a_launch_to_what_comes_in_its_middle() -> None:
    spot = Notice(NoticeKind.SPOT, "spot", 1.0, LAUNCHING, ends=2.0, event="stop 1")
    launch = Notice(NoticeKind.LAUNCH, "again", 2.0, LAUNCHING, if_asked=True, target=TargetState.IN_SERVICE)
    cut_off = Memory(Standing().after(spot, Outcome.DONE).after(launch, None))
    interrupted = sees(TargetState.IN_SERVICE, cut_off, LAUNCHES, spot=SPOT)
    assert isinstance(interrupted, Start)
    assert (interrupted.notice.kind, interrupted.notice.completes) == (NoticeKind.SPOT, LAUNCHING)
    for ending in (Ending.REBOOT, Ending.POWEROFF):
        assert isinstance(sees(TargetState.IN_SERVICE, cut_off, LAUNCHES, ending=ending), Leave)


def test_an_interrupted_launch_whose_drain_was_cut_off_is_abandoned_still() -> None:
    spot = Notice(NoticeKind.SPOT, "spot", 1.0, LAUNCHING, if_asked=True, ends=2.0, event=SPOT.event)
    for outcome, this_boot in ((None, True), (Outcome.DONE, False)):
        standing = Standing().after(spot, outcome, this_boot)
        goes_on = sees(
            TargetState.IN_SERVICE, Memory(replace(standing, handled=frozenset())), LAUNCHES, spot=SPOT
        )
        assert isinstance(goes_on, Start)
        assert (goes_on.notice.kind, goes_on.notice.completes) == (NoticeKind.SPOT, LAUNCHING)
