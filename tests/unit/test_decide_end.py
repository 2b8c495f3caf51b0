"""The watcher's table when it is told to end: every row of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from lifecycle_agent.config import Config, HooksSection, ShutdownSection
from lifecycle_agent.model import (
    POOL,
    Ending,
    LifecycleTransition,
    Notice,
    NoticeKind,
    Observation,
    Outcome,
    TargetState,
)
from lifecycle_agent.standing import Standing
from lifecycle_agent.watch.decide import decide
from lifecycle_agent.watch.decision import Leave, Memory, Start, Stay
from lifecycle_agent.watch.ending import LATE_SECONDS

NOW = 1000.0
SHUTDOWN = Config(shutdown=ShutdownSection(timeout=90.0))
TERMINATING = LifecycleTransition.TERMINATING
TERMINATE = Notice(NoticeKind.TERMINATE, "the group takes this instance away", 900.0, TERMINATING)
SWITCHED_OFF = Notice(
    NoticeKind.SHUTDOWN, "the machine is switched off", NOW, TERMINATING, if_asked=True, ends=NOW + 90.0
)
REBOOTS = Notice(NoticeKind.REBOOT, "the machine reboots", NOW, ends=NOW + 90.0)
BACK = Notice(NoticeKind.RETURN, "the machine is up again", 990.0)
IN_SERVICE = TargetState.IN_SERVICE
GOING_DOWN = (Ending.POWEROFF, Ending.REBOOT)


def last(kind: NoticeKind, went_well: bool = True, this_boot: bool = True, cut_off: bool = False) -> Standing:
    """Where a transition of some kind has left an instance that was in service."""
    found = Standing().after(Notice(NoticeKind.FOUND, "found", 1.0), Outcome.DONE)
    outcome = Outcome.DONE if went_well else Outcome.FAILED
    return found.after(Notice(kind, "before", 2.0), None if cut_off else outcome, this_boot)


def end(
    ending: Ending,
    memory: Memory = Memory(),  # noqa: B008 - frozen
    target: TargetState | None = IN_SERVICE,
    shutdown: Config = SHUTDOWN,
    known: bool = True,
    problem: str = "",
) -> object:
    return decide(Observation(target, problem, known, ending), memory, NOW, shutdown)


def in_transition(notice: Notice) -> Memory:
    return Memory(running=notice, told="told")


@pytest.mark.parametrize("target", [*TargetState, None], ids=str)
@pytest.mark.parametrize(
    "memory",
    [
        Memory(),
        Memory(last(NoticeKind.TERMINATE), told="over"),
        Memory(last(NoticeKind.DRAIN)),
        Memory(last(NoticeKind.REBOOT)),
    ],
    ids=str,
)
def test_a_stopped_service_leaves_the_app_alone(memory: Memory, target: TargetState | None) -> None:
    assert end(Ending.STOP, memory, target) == Leave("stopped; the app is left as it is")


@pytest.mark.parametrize("running", [TERMINATE, BACK, SWITCHED_OFF], ids=lambda notice: notice.kind.value)
def test_a_stopped_service_lays_its_transition_down(running: Notice) -> None:
    assert end(Ending.STOP, in_transition(running)) == Leave(
        "stopped in the middle of a transition; it goes on when the agent starts again"
    )


@pytest.mark.parametrize("target", [IN_SERVICE, None])
@pytest.mark.parametrize("running", [None, BACK])
@pytest.mark.parametrize(("ending", "notice"), [(Ending.POWEROFF, SWITCHED_OFF), (Ending.REBOOT, REBOOTS)])
def test_an_instance_in_service_is_drained_before_the_machine_goes(
    ending: Ending, notice: Notice, running: Notice | None, target: TargetState | None
) -> None:
    memory = in_transition(running) if running else Memory()

    assert end(ending, memory, target) == Start(notice, f"starting: {notice.reason}")


def test_also_while_the_metadata_service_is_in_trouble() -> None:
    decision = end(Ending.POWEROFF, target=None, problem="the instance metadata service does not answer")

    assert decision == Start(SWITCHED_OFF, "starting: the machine is switched off")


def test_but_not_while_nobody_knows_which_instance_it_is() -> None:
    decision = end(Ending.POWEROFF, target=None, problem="no answer", known=False)

    assert decision == Leave(
        "the machine goes down; which instance it is was never known, so nothing is done"
    )


@pytest.mark.parametrize("ending", GOING_DOWN)
def test_nor_when_it_is_configured_otherwise(ending: Ending) -> None:
    ignored = Config(shutdown=ShutdownSection(poweroff="ignore", reboot="ignore"))

    decision = end(ending, shutdown=ignored)

    assert isinstance(decision, Leave)
    assert f'[shutdown] {ending.value} = "ignore"' in decision.sentence


def test_each_is_switched_off_by_itself() -> None:
    assert isinstance(end(Ending.POWEROFF, shutdown=Config(shutdown=ShutdownSection(reboot="ignore"))), Start)
    assert isinstance(end(Ending.REBOOT, shutdown=Config(shutdown=ShutdownSection(poweroff="ignore"))), Start)


@pytest.mark.parametrize(
    ("ending", "target"),
    [*itertools.product(GOING_DOWN, POOL)],
    ids=str,
)
def test_nor_a_new_one_of_the_pool(ending: Ending, target: TargetState) -> None:
    assert end(ending, Memory(Standing()), target=target) == Leave(
        "the machine goes down; it is not in service, so nothing is done"
    )


@pytest.mark.parametrize(
    "kind", [NoticeKind.ENTER_POOL, NoticeKind.STANDBY, NoticeKind.REPLACE_ROOT], ids=str
)
@pytest.mark.parametrize("ending", GOING_DOWN, ids=str)
def test_nor_out_of_service(ending: Ending, kind: NoticeKind) -> None:
    assert end(ending, Memory(last(kind))) == Leave(
        "the machine goes down; it is not in service, so nothing is done"
    )


@pytest.mark.parametrize("ending", GOING_DOWN, ids=str)
def test_what_serves_on_standby_is_drained(ending: Ending) -> None:
    """`[standby] action = "ignore"`: callers are sent to it still."""
    assert isinstance(end(ending, target=TargetState.STANDBY), Start)


def test_drained_by_hand_it_stays_so_over_a_reboot() -> None:
    assert end(Ending.REBOOT, Memory(last(NoticeKind.DRAIN))) == Leave(
        "the machine reboots; it was taken out of service by hand before"
    )


def test_switched_off_it_is_drained_again_for_the_app_may_have_been_started_since() -> None:
    assert end(Ending.POWEROFF, Memory(last(NoticeKind.DRAIN))) == Start(
        SWITCHED_OFF, f"starting: {SWITCHED_OFF.reason}"
    )


@pytest.mark.parametrize(
    "before",
    [
        last(NoticeKind.DRAIN, this_boot=False),  # the app was started again since
        last(NoticeKind.DRAIN, cut_off=True),  # it may be in the middle, and ends with its session
        last(NoticeKind.UNDRAIN),
        last(NoticeKind.RETURN, went_well=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", GOING_DOWN)
def test_anything_else_that_was_done_before_changes_nothing(ending: Ending, before: Standing) -> None:
    assert isinstance(end(ending, Memory(before)), Start)


@pytest.mark.parametrize("ending", GOING_DOWN)
@pytest.mark.parametrize(
    "notice",
    [SWITCHED_OFF, REBOOTS, replace(TERMINATE, ends=NOW + 90.0)],
    ids=lambda notice: notice.kind.value,
)
def test_what_does_not_come_to_its_end_holds_no_machine_up(ending: Ending, notice: Notice) -> None:
    seen = Observation(IN_SERVICE, ending=ending)
    late = NOW + 90.0 + LATE_SECONDS

    if (ending, notice.kind) != (Ending.REBOOT, NoticeKind.TERMINATE):
        assert decide(seen, in_transition(notice), late, SHUTDOWN) == Stay("told")
    assert decide(seen, in_transition(notice), late + 0.1, SHUTDOWN) == Leave(
        "the machine goes down; the time for it is up"
    )


@pytest.mark.parametrize("ending", GOING_DOWN)
@pytest.mark.parametrize("notice", [SWITCHED_OFF, REBOOTS], ids=lambda notice: notice.kind.value)
def test_what_it_started_for_that_is_waited_for(ending: Ending, notice: Notice) -> None:
    assert end(ending, in_transition(notice)) == Stay("told")


@pytest.mark.parametrize("target", [*TargetState, None], ids=str)
@pytest.mark.parametrize("ending", GOING_DOWN)
def test_when_everything_is_done_it_leaves(ending: Ending, target: TargetState | None) -> None:
    assert end(ending, Memory(last(NoticeKind.TERMINATE), told="over"), target) == Leave(
        "the machine goes down; everything is done"
    )


@pytest.mark.parametrize(
    "shutdown", [SHUTDOWN, Config(shutdown=ShutdownSection(poweroff="ignore", timeout=90.0))]
)
def test_a_termination_has_less_time_when_the_machine_is_switched_off(shutdown: Config) -> None:
    tightened = replace(TERMINATE, ends=NOW + 90.0)

    decision = end(Ending.POWEROFF, in_transition(TERMINATE), TargetState.TERMINATED, shutdown)

    assert decision == Start(tightened, "starting: the machine shuts down: there is less time")
    assert end(Ending.POWEROFF, in_transition(tightened), TargetState.TERMINATED) == Stay("told")


def test_it_goes_on_after_a_reboot() -> None:
    decision = end(Ending.REBOOT, in_transition(TERMINATE), TargetState.TERMINATED)

    assert decision == Leave("the machine reboots; the termination goes on after it")


def test_one_that_was_not_seen_before_starts_at_once() -> None:
    decision = end(Ending.POWEROFF, target=TargetState.TERMINATED)

    notice = replace(TERMINATE, seen_at=NOW, ends=NOW + 90.0)
    assert decision == Start(notice, "starting: the group takes this instance away")
    assert end(Ending.REBOOT, target=TargetState.TERMINATED) == Leave(
        "the machine reboots; the group takes it away after that"
    )


@pytest.mark.parametrize("target", [IN_SERVICE, None])
@pytest.mark.parametrize("before", [NoticeKind.REBOOT, NoticeKind.SHUTDOWN])
def test_a_machine_that_is_up_again_goes_back_into_service(
    before: NoticeKind, target: TargetState | None
) -> None:
    decision = decide(Observation(target), Memory(last(before, this_boot=False)), NOW, SHUTDOWN)

    notice = Notice(NoticeKind.RETURN, "the machine is up again", NOW)
    assert decision == Start(notice, "starting: the machine is up again")


@pytest.mark.parametrize(
    "target", set(TargetState) - {IN_SERVICE, TargetState.TERMINATED, TargetState.DETACHED}, ids=str
)
def test_unless_the_group_wants_something_else(target: TargetState) -> None:
    decision = decide(Observation(target), Memory(last(NoticeKind.REBOOT, this_boot=False)), NOW, SHUTDOWN)

    assert isinstance(decision, Start)
    assert decision.notice.kind is not NoticeKind.RETURN


def test_or_cannot_be_asked_yet() -> None:
    seen = Observation(None, "the instance metadata service does not answer")

    assert isinstance(decide(seen, Memory(last(NoticeKind.REBOOT)), NOW, SHUTDOWN), Stay)


def test_the_way_back_is_tried_until_it_is_done() -> None:
    told = "the way back into service has failed, and is tried again"
    failed = Memory(
        last(NoticeKind.RETURN, went_well=False), told=told, not_before=NOW + 1, again=NoticeKind.RETURN
    )
    seen = Observation(IN_SERVICE)

    assert decide(seen, failed, NOW, SHUTDOWN) == Stay(
        "waiting: the way back into service has failed, and is tried again"
    )
    again = decide(seen, failed, NOW + 1, SHUTDOWN)
    assert isinstance(again, Start)
    assert again.notice.kind is NoticeKind.RETURN
    cut_off = Memory(last(NoticeKind.RETURN, went_well=False))
    assert isinstance(decide(seen, cut_off, NOW, SHUTDOWN), Start)


@pytest.mark.parametrize(
    "before",
    [
        last(NoticeKind.FOUND),
        last(NoticeKind.DRAIN),
        last(NoticeKind.DRAIN, went_well=False),
        last(NoticeKind.DRAIN, cut_off=True),
        last(NoticeKind.UNDRAIN),
        last(NoticeKind.RETURN),
        last(NoticeKind.TERMINATE),
    ],
    ids=str,
)
def test_after_anything_else_it_waits(before: Standing) -> None:
    assert isinstance(decide(Observation(IN_SERVICE), Memory(before), NOW, SHUTDOWN), Stay)


def test_a_way_back_by_hand_that_failed_is_gone_on_with() -> None:
    decision = decide(
        Observation(IN_SERVICE), Memory(last(NoticeKind.UNDRAIN, went_well=False)), NOW, SHUTDOWN
    )

    assert isinstance(decision, Start)
    assert decision.notice.kind is NoticeKind.UNDRAIN


def test_the_group_goes_before_the_way_back() -> None:
    decision = decide(Observation(TargetState.TERMINATED), in_transition(BACK), NOW, SHUTDOWN)

    assert decision == Start(replace(TERMINATE, seen_at=NOW), f"starting: {TERMINATE.reason}")


@pytest.mark.parametrize("ending", GOING_DOWN)
def test_a_launch_that_has_not_begun_begins_after_the_boot(ending: Ending) -> None:
    """Drained now, it would be brought back after it; the launching hook would never be answered."""
    config = replace(SHUTDOWN, hooks=HooksSection(launch="warm-up"))
    for target in (IN_SERVICE, TargetState.WARMED_STOPPED, None):
        decision = end(ending, target=target, shutdown=config)
        assert isinstance(decision, Leave)
        assert "before its launch" in decision.sentence or target is TargetState.WARMED_STOPPED
    assert isinstance(end(ending, Memory(last(NoticeKind.FOUND)), shutdown=config), Start)
